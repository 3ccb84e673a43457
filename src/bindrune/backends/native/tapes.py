"""Stacks that a compiled program gives, and takes back: places on a tape that was copied when the program ended.

The frames on it are those of `stacks`.  Another program continues on a copy of the tape.  Where none does, the values
are read from it one by one, when it is known of what types they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.stack import EMPTY, STACK, ZEROS, Stack
from ...graph.graph import ARRAY, NUMBER, Type
from .context import CONTEXT_TAPE
from .lower import FIRST
from .stacks import HEADER, NEVER_EMPTY, WORD

__all__ = ["leave_tape", "stack_at", "take_tape", "tape_and_places"]

_realloc = ctypes.CDLL(None).realloc
_realloc.argtypes, _realloc.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_void_p

Tape = np.ndarray[Any, np.dtype[np.uint8]]
"""The bytes of a tape."""


class _Taped(Stack):
    """A stack on a tape.

    Attributes:
        tape: its bytes.
        place: where the stack ends.
        cursor: while a frame is taken off, the place above the values that are left.
    """

    __slots__ = ("cursor", "place", "tape")

    def __init__(self, tape: Tape, place: int, cursor: int | None = None) -> None:
        super().__init__(None, None)
        self.tape = tape
        self.place = place
        self.cursor = place - HEADER if cursor is None else cursor

    def take(self, type: Any) -> tuple[Stack, Any]:
        dtype = np.dtype(np.int64) if type.dtype == STACK else type.dtype
        size = int(np.prod(type.shape, dtype=np.int64)) * dtype.itemsize
        start = self.cursor - (size + WORD - 1) // WORD * WORD
        found = self.tape[start : start + size].view(dtype).reshape(type.shape).copy()
        below, frame = self.tape[self.place - HEADER : self.place].view(np.int64)
        assert start >= self.place - HEADER - frame, "values are taken off as they were put on"
        if start == self.place - HEADER - frame:
            rest = stack_at(self.tape, int(below))
        else:
            rest = _Taped(self.tape, self.place, start)
        if type.dtype == STACK:
            return rest, stack_at(self.tape, int(found))
        return rest, boxed(found, type)


def boxed(content: Any, type: Type) -> Any:
    """An array as a value of a type."""
    if type.form == ARRAY:
        return content
    return content[()] if type.form == NUMBER else content.item()


def stack_at(tape: Tape, place: int) -> Stack:
    """The stack that ends at a place."""
    if place <= 0:
        return ZEROS if place == NEVER_EMPTY else EMPTY
    return _Taped(tape, place)


def tape_and_places(values: Sequence[Any]) -> tuple[Tape, list[Any]] | None:
    """The tape that all stacks among some values lie on, and the values with places instead; None where they do not."""
    tape: Tape = np.zeros(FIRST, np.uint8)
    places = list(values)
    for i, value in enumerate(values):
        if value is EMPTY or value is ZEROS:
            places[i] = 0 if value is EMPTY else NEVER_EMPTY
        elif isinstance(value, Stack):
            if not isinstance(value, _Taped) or value.cursor != value.place - HEADER:
                return None
            if tape.size > FIRST and value.tape is not tape:
                return None
            tape, places[i] = value.tape, value.place
    return tape, places


def leave_tape(tape: Tape, context: Any) -> None:
    """Copy a tape to where a program continues on it."""
    if context[CONTEXT_TAPE + 1] < tape.size:
        context[CONTEXT_TAPE] = _realloc(int(context[CONTEXT_TAPE]), tape.size)
        context[CONTEXT_TAPE + 1] = tape.size
    ctypes.memmove(int(context[CONTEXT_TAPE]), tape.ctypes.data, tape.size)


def take_tape(context: Any, size: int) -> Tape:
    """Copy what a program has left on its tape."""
    if not context[CONTEXT_TAPE]:
        return np.zeros(size, np.uint8)
    made: Tape = np.empty(size, np.uint8)
    ctypes.memmove(made.ctypes.data, int(context[CONTEXT_TAPE]), size)
    return made
