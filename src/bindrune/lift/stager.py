"""What rewritten control flow asks when the function it belongs to is being staged to a graph.

The stager is found through a context variable, because the rewritten code of every function a staged one calls must
reach it.  Each of its answers says whether the statement was staged; where it was not, Python runs it, and a traced
condition is decided for the call at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["NOTHING", "Hidden", "Stager", "Variables", "current", "is_hidden"]


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


NOTHING: Any = _Nothing()
"""What a variable holds that has no value."""


class Hidden:
    """What stands for an item that is not known: whoever looks at it is refused."""

    __slots__ = ("_refuse",)

    def __init__(self, refuse: Callable[[], None]) -> None:
        object.__setattr__(self, "_refuse", refuse)

    def __getattribute__(self, name: str) -> Any:
        if name != "__class__":
            object.__getattribute__(self, "_refuse")()
        return object.__getattribute__(self, name)


def _refusing(name: str) -> Any:
    def refuse(self: Hidden, *_: Any, **__: Any) -> Any:
        object.__getattribute__(self, "_refuse")()

    refuse.__name__ = name
    return refuse


for _name in (
    "setattr array array_ufunc array_function bool len iter contains getitem setitem delitem call eq ne lt "
    "le gt ge hash str format int float complex index neg pos abs invert round add radd sub rsub mul rmul truediv "
    "rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul and rand or ror xor rxor"
).split():
    setattr(Hidden, f"__{_name}__", _refusing(_name))


def is_hidden(value: Any) -> bool:
    """Whether a list is one that a loop which is being staged appends to."""
    return type(value) is list and bool(value) and type(value[0]) is Hidden


class Variables:
    """The variables that some statements assign.

    Attributes:
        names: all of them.
        live: those that may be read after the statements before they are assigned again; the others are temporaries.
        moot: whether nobody reads what the second of two ways leaves, because the function has returned there.
    """

    __slots__ = ("live", "moot", "names")

    def __init__(self, names: tuple[str, ...], live: tuple[str, ...], moot: bool = False) -> None:
        self.names = names
        self.live = live
        self.moot = moot


class Stager(Protocol):
    """Stages statements."""

    def branch(
        self, condition: Any, then: Callable[[], None], otherwise: Callable[[], None], variables: Variables
    ) -> bool:
        """``if condition: then() else: otherwise()``."""

    def while_(self, going: Any, test: Callable[[], Any], body: Callable[[], None], variables: Variables) -> bool:
        """``while test(): body()``, where the first test has been made and gave `going`."""

    def each(
        self, items: Any, body: Callable[[Any], None], leaving: Callable[[], Any] | None, variables: Variables
    ) -> bool:
        """``for item in items: body(item)``, which ends when `leaving` says so."""

    def choose(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """``then() if condition else otherwise()``; NotImplemented where it is not staged."""

    def check(self, condition: Any, message: Callable[[], Any] | None) -> bool:
        """``assert condition, message()``."""

    def show(self, values: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """``print(*values, **keywords)``."""

    def recurse(self, body: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """A call of a function that calls itself; `body` is what it does."""

    def trying(self, depth: int) -> None:
        """A statement that handles exceptions begins (1) or ends (-1)."""


current: ContextVar[Stager | None] = ContextVar("stager", default=None)
"""The stager of the code that runs now."""
