"""What a staged function read beside its arguments, and whether it still is what it was.

Captured arrays are inputs of the graph: their contents are read at each call, and a name that is bound to another array
of the same type is followed.  Anything else that was read (numbers, functions, items of containers, attributes) was
part of staging; where it is another now, the function is staged again.  A number that has changed once may change
again: from then on it is an input as well.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from types import CellType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..core.array import Array
from ..graph.dims import Unstageable
from ..graph.graph import type_of
from ..lift.classes import is_ordinary
from ..lift.containers import SIMPLE
from .changes import Changes
from .places import NOTHING, moves_on
from .staging import Staging

__all__ = ["UNTOUCHED", "Now", "Witnesses"]

_NUMBERS = (int, float, complex, np.number)


class _Read(NamedTuple):
    """Something that was read.

    Attributes:
        what: how messages call it.
        now: gives what is there.
        value: what was there.
        cell: the stand-in of a number that is an input.
    """

    what: str
    now: Callable[[], Any]
    value: Any
    cell: Array | None


class _Given:
    """An input that is a number, by what gives it."""

    __slots__ = ("now",)

    def __init__(self, now: Callable[[], Any]) -> None:
        self.now = now


class Now:
    """What a function captures in one call.

    Attributes:
        stale: what is no longer what it was; empty where all is.
    """

    __slots__ = ("_rebound", "stale")

    def __init__(self, stale: str, rebound: dict[int, Any]) -> None:
        self.stale = stale
        self._rebound = rebound

    def of(self, captured: Sequence[Any]) -> list[Any]:
        """What now stands for captured arrays and numbers."""
        return [v.now() if isinstance(v, _Given) else self._rebound.get(id(v), v) for v in captured]


UNTOUCHED = Now("", {})
"""Everything is the very thing it was."""


class Witnesses:
    """The places that were read, with what they held.

    Args:
        stage: where the function is staged.
        changes: what it has changed so far.
        opened: the numbers that are inputs, and in future calls shall be.
    """

    def __init__(self, stage: Staging, changes: Changes, opened: set[Any]) -> None:
        self.stage = stage
        self.changes = changes
        self._opened = opened
        self._read: dict[tuple[str, int, Any], _Read] = {}
        self._containers: dict[int, tuple[Callable[[], list[Any]], list[Any], list[Any]]] = {}
        self._functions: dict[int, tuple[FunctionType, Any, Any, Any]] = {}
        self._kinds: dict[type, tuple[Any, ...]] = {}

    # --------------------------------------------------------------------------------------- what a session tells

    def array(self, array: np.ndarray[Any, Any]) -> Array:
        """The cell for a captured array: an input of the graph."""
        return Array(self.stage, self.stage.hold(array, array))

    def name(self, module: dict[str, Any], name: str, value: Any) -> Any:
        """A global variable was read; what stands for its value."""
        return self._note("the global variable", module, name, lambda: module.get(name, NOTHING), value)

    def variable(self, name: str, cell: CellType, value: Any) -> Any:
        """A captured variable is read; what stands for its value."""

        def now() -> Any:
            try:
                return cell.cell_contents
            except ValueError:
                return NOTHING

        return self._note("the captured variable", cell, name, now, value)

    def is_own(self, owner: Any, name: str, value: Any) -> bool:
        """Whether an attribute was given its value by the function itself."""
        return self.changes.is_own(owner, name, value)

    def attribute(self, owner: Any, name: str, value: Any = NOTHING) -> Any:
        """An attribute was read, or was not there; what stands for its value."""
        attributes = getattr(owner, "__dict__", {})
        if isinstance(getattr(type(owner), name, None), MemberDescriptorType):
            return self._note("the attribute", owner, name, lambda: getattr(owner, name, NOTHING), value)
        if name in attributes or value is NOTHING:
            return self._note("the attribute", attributes, name, lambda: attributes.get(name, NOTHING), value)
        return value

    def seen(self, owner: Any) -> None:
        """An object, a class or a container was met, which may be changed from now on."""
        if moves_on(getattr(owner, "__self__", owner)) or getattr(owner, "__module__", None) == "time":
            raise Unstageable(
                f"{getattr(owner, '__name__', repr(owner))} gives something else each time it is asked",
                "Ask outside, and pass what it gives as an argument",
            )
        attributes = None if isinstance(owner, (type, ModuleType)) else getattr(owner, "__dict__", None)
        shown = {}
        for name, value in attributes.items() if isinstance(attributes, dict) else ():
            if ("the attribute", id(attributes), name) in self._opened and isinstance(value, _NUMBERS):
                shown[name] = self.attribute(owner, name, value)
        self.changes.see(owner, shown)
        for kind in owner.__mro__ if isinstance(owner, type) else ():
            if is_ordinary(kind):
                self.changes.see(kind)
                self._kinds.setdefault(kind, tuple(vars(kind).values()))

    def function(self, function: FunctionType, lifted: FunctionType) -> None:
        """A function was met."""
        lifted.__dict__.update({name: self.attribute(function, name, v) for name, v in function.__dict__.items()})
        self.changes.see(lifted)
        self._functions[id(function)] = (
            function, function.__code__, function.__defaults__, function.__kwdefaults__,
        )  # fmt: skip

    def shared(self, name: str, cell: CellType, lift: Callable[[Any], Any]) -> CellType:
        """The twin of a captured variable that the function assigns."""
        return self.changes.variable(name, cell, lambda value: lift(self.variable(name, cell, value)))

    def container(self, container: Any, values: list[Any], read: Callable[[Any], list[Any]]) -> list[Any]:
        """The items of a container were read; what stands for them."""
        known = self._containers.get(id(container))
        if known is None:
            shown = list(values)
            for i, value in enumerate(values):
                if ("an item", id(container), i) in self._opened and isinstance(value, _NUMBERS):
                    shown[i] = self._number(lambda i=i: read(container)[i], value)  # type: ignore[misc]
            known = self._containers[id(container)] = (lambda: read(container), list(values), shown)
        return known[2]

    def _note(self, what: str, owner: Any, name: str, now: Callable[[], Any], value: Any) -> Any:
        key = (what, id(owner), name)
        known = self._read.get(key)
        if known is None:
            is_open = key in self._opened and isinstance(value, _NUMBERS)
            cell = self._number(now, value) if is_open else None
            known = self._read[key] = _Read(f"{what} {name!r}", now, value, cell)
        return value if known.cell is None else known.cell

    def _number(self, now: Callable[[], Any], value: Any) -> Array:
        """The stand-in of a number that is read at each call."""
        cell = self.stage.input(type_of(value), value)
        self.stage.outside[cell._value] = _Given(now)
        return cell

    # ------------------------------------------------------------------------------------------- at each call

    def now(self) -> Now:
        """What was read as it is now."""
        if self._is_untouched():
            return UNTOUCHED
        rebound: dict[int, Any] = {}
        return Now(self._changed(rebound), rebound)

    def _is_untouched(self) -> bool:
        """Whether everything that was read is the very thing it was, which takes no closer look."""
        for _, now, value, _ in self._read.values():
            if now() is not value:
                return False
        for now_all, values, _ in self._containers.values():
            items = now_all()
            if len(items) != len(values) or not all(map(operator.is_, values, items)):
                return False
        return not self._redefined()

    def _redefined(self) -> str:
        """The function or class that is no longer what it was."""
        for function, code, defaults, named in self._functions.values():
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not named
            ):
                return f"the function {function.__qualname__} changed"
        for kind, members in self._kinds.items():
            if len(members) != len(vars(kind)) or not all(map(operator.is_, members, vars(kind).values())):
                return f"the class {kind.__qualname__} changed"
        return ""

    def _changed(self, rebound: dict[int, Any]) -> str:
        """What is no longer what it was; in place of some arrays there may be others."""
        for key, (what, now, value, cell) in self._read.items():
            found = now()
            if found is not value and not _follows(value, found, cell is not None, rebound):
                if isinstance(value, _NUMBERS) and isinstance(found, _NUMBERS):
                    self._opened.add(key)
                return f"{what} changed from {_short(value)} to {_short(found)}"
        redefined = self._redefined()
        if redefined:
            return redefined
        for owner, (now, values, shown) in self._containers.items():
            items = now()
            if len(items) != len(values):
                return "a captured container changed"
            for i, (old, new) in enumerate(zip(values, items, strict=True)):
                if old is not new and not _follows(old, new, shown[i] is not old, rebound):
                    if isinstance(old, _NUMBERS) and isinstance(new, _NUMBERS):
                        self._opened.add(("an item", owner, i))
                    return f"an item of a captured container changed from {_short(old)} to {_short(new)}"
        return ""


def _follows(old: Any, new: Any, is_input: bool, rebound: dict[int, Any]) -> bool:
    """Whether a value may stand where another was without staging again."""
    if type(old) is not type(new):
        return False
    if isinstance(old, np.ndarray):
        if old.shape != new.shape or old.dtype != new.dtype:
            return False
        return rebound.setdefault(id(old), new) is new
    if type(old) in SIMPLE:
        return is_input or (bool(old == new) and repr(old) == repr(new))
    return False


def _short(value: Any) -> str:
    text = "nothing" if value is NOTHING else repr(value)
    return text if len(text) < 40 else f"{text[:37]}..."
