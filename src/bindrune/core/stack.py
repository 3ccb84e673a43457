"""A stack of values: what one loop keeps for the loop that goes back.

It never changes: to push makes a stack with one more value, to pop gives the value and the stack below, both at once.
`ZEROS` is the stack of zeros without end, the tangent and the cotangent of one that nothing depends on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["EMPTY", "STACK", "ZEROS", "Stack"]

STACK = np.dtype([("stack", "V1")])
"""The dtype by which a stack is told from numbers."""


_ALONE = 2
"""The reference count that `Stack.__del__` sees of a stack nobody else holds."""


class Stack:
    """A value on top of a stack.

    Kinds that hold their values otherwise define `take`; they know the type of a value only when it is asked for, so
    that sums and changes of them are made value by value as these are taken.
    """

    __slots__ = ("below", "value")

    shape = ()
    ndim = 0
    dtype = STACK

    def __init__(self, below: Stack | None, value: Any) -> None:
        self.below = below
        self.value = value

    def take(self, type: Any) -> tuple[Stack, Any]:
        """The stack below, and the value on top, of a type."""
        assert self.below is not None
        return self.below, self.value

    def __add__(self, other: Stack) -> Stack:
        """The stack of sums, of stacks of cotangents."""
        pairs = []
        a, b = self, other
        while a.below is not None and b.below is not None:
            pairs.append((a.value, b.value))
            a, b = a.below, b.below
        if a is ZEROS or b is EMPTY:
            found = b
        elif b is ZEROS or a is EMPTY:
            found = a
        else:
            found = _Sum(a, b)
        for x, y in reversed(pairs):
            found = Stack(found, x + y)
        return found

    def map(self, change: Callable[[Any], Any], before: Callable[[Any], Any]) -> Stack:
        """The stack with each value changed; `before` gives the type of a value from that which it changes to."""
        values = []
        rest = self
        while rest.below is not None:
            values.append(rest.value)
            rest = rest.below
        if not (rest is ZEROS or rest is EMPTY):
            rest = _Changed(rest, change, before)
        for value in reversed(values):
            rest = Stack(rest, _changed(value, change, before))
        return rest

    def __del__(self) -> None:
        # A long chain is let go step by step, for Python would recurse.
        below, self.below = self.below, None
        while below is not None and sys.getrefcount(below) <= _ALONE:
            below.below, below = None, below.below

    def __repr__(self) -> str:
        return {id(EMPTY): "<empty stack>", id(ZEROS): "<stack of zeros>"}.get(id(self), "<stack>")


def _changed(value: Any, change: Callable[[Any], Any], before: Callable[[Any], Any]) -> Any:
    return value.map(change, before) if isinstance(value, Stack) else change(value)


class _Sum(Stack):
    """The sum of two stacks, one of which does not know its values yet."""

    __slots__ = ("first", "second")

    def __init__(self, first: Stack, second: Stack) -> None:
        super().__init__(None, None)
        self.first = first
        self.second = second

    def take(self, type: Any) -> tuple[Stack, Any]:
        below, value = self.first.take(type)
        other, more = self.second.take(type)
        return below + other, value + more


class _Changed(Stack):
    """A stack whose values are changed, and that does not know them yet."""

    __slots__ = ("before", "change", "stack")

    def __init__(self, stack: Stack, change: Callable[[Any], Any], before: Callable[[Any], Any]) -> None:
        super().__init__(None, None)
        self.stack = stack
        self.change = change
        self.before = before

    def take(self, type: Any) -> tuple[Stack, Any]:
        below, value = self.stack.take(type if type.dtype == STACK else self.before(type))
        return below.map(self.change, self.before), _changed(value, self.change, self.before)


EMPTY = Stack(None, None)
ZEROS = Stack(None, None)
