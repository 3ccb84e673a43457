"""Operations performed for their effect: guards, checks, prints, calls of the host.

They keep their order, and nothing drops them.  Derivatives pass them by: they are performed on the primal values.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..core.handler import evaluate
from ..core.operation import Structured
from ..graph.graph import Type, Value, type_of

__all__ = [
    "AssumptionFailed",
    "Blank",
    "Effect",
    "GuardFailed",
    "NanFound",
    "Test",
    "assume",
    "check",
    "expect",
    "filled",
    "guard",
    "show",
    "shown",
]


class GuardFailed(BaseException):
    """A value that decided how the function was staged is another in this call."""

    def __init__(self, found: Any) -> None:
        # A program's memory may be gone when this is shown.
        self.found = found.copy() if isinstance(found, np.ndarray) else found
        super().__init__(self.found)


class Effect(Structured):
    """An operation without a derivative that is performed for what it does."""

    __slots__ = ()
    effect = True

    def staged(self, values: Sequence[Value], params: dict[str, Any]) -> tuple[Any, dict[str, Any], tuple[Type, ...]]:
        return self, params, ()

    def answer_forward(self, handler: Any, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        evaluate(self, handler.open(operands)[0], params)
        return ()

    answer_reverse = answer_forward
    answer_batch = answer_forward


class Test(Effect):
    """One that only looks whether something holds: nobody sees it while it does."""

    __slots__ = ()


class _Guard(Test):
    """Stops a program that was staged for another value."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        (value,) = values
        expected = params["expected"]
        same = np.array_equal(value, expected) if isinstance(expected, np.ndarray) else value == expected
        if not same:
            raise GuardFailed(value)
        return ()


class _Expect(Test):
    """Stops a program that was staged for a value of another type."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        if type_of(values[0]) != params["type"]:
            raise GuardFailed(type_of(values[0]))
        return ()


class AssumptionFailed(GuardFailed):
    """What was taken for granted of lengths does not hold in this call."""


class NanFound(GuardFailed):
    """A derivative is not a number that was taken to be one."""


class _Finite(Test):
    """Stops a program whose derivatives came out as no numbers, where that may be for want of care."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        if values[0]:
            raise NanFound(values[0])
        return ()


class _Assume(Test):
    """Stops a program where a number is negative that was taken not to be."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        if values[0] < 0:
            raise AssumptionFailed(values[0])
        return ()


class _Check(Test):
    """Raises an error of the user's where a condition does not hold; the other operands are what its message shows."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        condition, *shown = values
        if not np.all(condition):
            raise filled(params["error"], shown)
        return ()


class Blank:
    """A text in an error that is made of values of the program.

    Attributes:
        make: makes it of all values that the error shows.
    """

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., str]) -> None:
        self.make = make

    def __repr__(self) -> str:
        return "a text of values"


def filled(error: BaseException, values: Sequence[Any]) -> BaseException:
    """An error of its own for one call, with its blanks filled in."""
    made: BaseException = copy.copy(error)
    made.args = tuple(a.make(*values) if isinstance(a, Blank) else a for a in error.args)
    return made


class _Show(Effect):
    """Prints."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        waiting = shown.get()
        if waiting is None:
            params["print"](*values)
        else:
            waiting.append(functools.partial(params["print"], *values))
        return ()


shown: ContextVar[list[Callable[[], None]] | None] = ContextVar("shown", default=None)
"""What is printed when the program has ended, where a guard may still send the call another way."""


guard = _Guard("guard")
check = _Check("check")
show = _Show("show")
expect = _Expect("expect")
assume = _Assume("assume")
finite = _Finite("finite")
