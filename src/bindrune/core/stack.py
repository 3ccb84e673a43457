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
    """A value on top of a stack."""

    __slots__ = ("below", "value")

    shape = ()
    ndim = 0
    dtype = STACK

    def __init__(self, below: Stack | None, value: Any) -> None:
        self.below = below
        self.value = value

    def __add__(self, other: Stack) -> Stack:
        """The stack of sums, of stacks of cotangents."""
        pairs = []
        a, b = self, other
        while a not in _ENDS and b not in _ENDS:
            pairs.append((a.value, b.value))
            assert a.below is not None
            assert b.below is not None
            a, b = a.below, b.below
        found = b if a is ZEROS else a
        for x, y in reversed(pairs):
            found = Stack(found, x + y)
        return found

    def map(self, change: Callable[[Any], Any]) -> Stack:
        """The stack with each value changed."""
        values = []
        rest = self
        while rest.below is not None:
            values.append(rest.value)
            rest = rest.below
        for value in reversed(values):
            rest = Stack(rest, value.map(change) if isinstance(value, Stack) else change(value))
        return rest

    def __del__(self) -> None:
        # A long chain is let go step by step, for Python would recurse.
        below, self.below = self.below, None
        while below is not None and sys.getrefcount(below) <= _ALONE:
            below.below, below = None, below.below

    def __repr__(self) -> str:
        return {id(EMPTY): "<empty stack>", id(ZEROS): "<stack of zeros>"}.get(id(self), "<stack>")


EMPTY = Stack(None, None)
ZEROS = Stack(None, None)
_ENDS = (EMPTY, ZEROS)
