"""Squares: what a tile of a matrix is transposed by, in registers.

The rows of a square are loaded as vectors, and exchange halves, quarters and so on with each other, until they are its
columns.  So each line of the cache is touched once, where element by element one side would be gone through across.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .loops import Affine, Buffer, For, Load, Store, Variable, affine
from .rewriting import Rewriter

if TYPE_CHECKING:
    from .functions import Function

__all__ = ["SIDE", "Square", "is_across", "square_of"]

SIDE = 8
"""The rows of a square, and its columns."""

_PART = 8
"""The most bytes of a lane; larger elements have several."""


def is_across(buffer: Buffer, index: tuple[Affine, ...], along: Variable, across: Variable) -> bool:
    """Whether one loop goes along the rows of an array, element by element, and another one from row to row."""
    if not index or buffer.storage.start is not None:
        return False
    moving = [(dict(i.terms).get(along, 0), dict(i.terms).get(across, 0)) for i in index]
    return moving[-1] == (1, 0) and not any(a for a, _ in moving[:-1]) and any(b for _, b in moving[:-1])


def square_of(f: Function, loop: For) -> Square | None:
    """How to transpose a square, if that is all that a nest of two loops does."""
    match loop.body:
        case [For(body=[Store(value=Load() as source) as target]) as inner] if not (loop.ordered or inner.ordered):
            pass
        case _:
            return None
    if (loop.extent.known, inner.extent.known) != (SIDE, SIDE) or source.buffer.storage is target.buffer.storage:
        return None
    for i, j in ((loop.variable, inner.variable), (inner.variable, loop.variable)):
        if is_across(target.buffer, target.index, j, i) and is_across(source.buffer, source.index, i, j):
            return Square(f, source, target, i, j)
    return None


class Square:
    """Writes the instructions that transpose a square.

    Args:
        f: the function they are part of.
        source: an element of what is read, along whose rows `i` goes.
        target: an element of what is written, along whose rows `j` goes.
        i: the counter of the columns of the source.
        j: that of its rows.
    """

    def __init__(self, f: Function, source: Load, target: Store, i: Variable, j: Variable) -> None:
        self._f = f
        self._source = source
        self._target = target
        self._i = i
        self._j = j
        size = source.dtype.itemsize
        self._parts = max(size // _PART, 1)
        self._type = f"<{SIDE * self._parts} x i{8 * size // self._parts}>"

    def write(self) -> None:
        """Write the instructions."""
        f = self._f
        known = f.sums
        f.sums = dict(known)
        rows = []
        for step in range(SIDE):
            place, said = self._row(self._source.buffer, self._source.index, self._j, self._i, step)
            rows.append(f.w.value(f"load {self._type}, ptr {place}{said}"))
        distance = 1
        while distance < SIDE:
            for k in range(SIDE):
                if not k & distance:
                    rows[k], rows[k + distance] = self._exchanged(rows[k], rows[k + distance], distance)
            distance *= 2
        for step, row in enumerate(rows):
            place, said = self._row(self._target.buffer, self._target.index, self._i, self._j, step)
            f.w.do(f"store {self._type} {row}, ptr {place}{said}")
        f.sums = known

    def _exchanged(self, a: str, b: str, distance: int) -> Iterator[str]:
        """Two rows, after one has given the other every other group of its elements for those beside."""
        for odd in (0, distance):
            lanes = [lane + odd if not lane & distance else SIDE + lane - distance + odd for lane in range(SIDE)]
            mask = ", ".join(f"i32 {lane * self._parts + part}" for lane in lanes for part in range(self._parts))
            kind = f"<{SIDE * self._parts} x i32> <{mask}>"
            yield self._f.w.value(f"shufflevector {self._type} {a}, {self._type} {b}, {kind}")

    def _row(
        self, buffer: Buffer, index: tuple[Affine, ...], across: Variable, along: Variable, step: int
    ) -> tuple[str, str]:
        """Where a row lies, and what is said of it."""
        f = self._f
        first, last = (
            tuple(map(Rewriter({across: affine(step), along: affine(end)}).affine, index)) for end in (0, SIDE - 1)
        )
        if f.module.bounded:
            f.stay_within(buffer, first)
            f.stay_within(buffer, last)
        place = f.address(buffer, first)
        return place, f", align {min(buffer.dtype.itemsize, _PART)}{f.memory.overlap(buffer.storage)}"
