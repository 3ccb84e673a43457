"""Tiling: nests that go along the rows of one array and across those of another, square by square.

What is read across rows brings a line of the cache with each element, whose other elements are needed only when all
rows have been gone through: by then the line has left the cache.  So both loops go over squares, which are transposed
in registers (`squares.py`) before all else is done along the rows of what is written.  Rows and columns that are left
over are gone through as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .advice import is_elaborate
from .asides import Aside
from .loops import (
    INTEGER,
    Affine,
    Apply,
    Buffer,
    For,
    Let,
    Load,
    Program,
    Statement,
    Storage,
    Store,
    Variable,
    affine,
)
from .memory import in_register
from .rewriting import Copier, Rewriter, accesses
from .squares import SIDE, is_across

__all__ = ["crosses", "tile"]

_LARGEST = 24
"""The most statements of a body that is written several times."""

_SIDE = affine(SIDE)


def tile(program: Program) -> None:
    """Let the nests of a program go over squares, where that uses memory better."""
    program.body = list(_tiled(program.body))


def _tiled(block: list[Statement]) -> Iterator[Statement]:
    for s in block:
        found = _crossing(s) if isinstance(s, For) and not s.ordered else None
        if found is not None:
            yield from _squares(found)
            continue
        for inner in () if isinstance(s, Aside) else s.blocks:
            inner[:] = _tiled(inner)
        yield s


def crosses(s: Statement) -> bool:
    """Whether a nest is one that goes over squares."""
    while isinstance(s, For) and not s.ordered:
        if _crossing(s) is not None:
            return True
        if len(s.body) != 1:
            return False
        s = s.body[0]
    return False


_Place = tuple[Storage, tuple[Affine, ...], tuple[Affine, ...]]
"""A storage, the shape under which it is seen, and an index."""


class _Crossing(NamedTuple):
    """A nest that reads across the rows of arrays.

    Attributes:
        loops: its loops, from the first of the two that cross to the last.
        rows: the one along what is written.
        columns: the one along what is read.
        read: what is read across.
    """

    loops: list[For]
    rows: For
    columns: For
    read: dict[_Place, Buffer]


def _crossing(s: For) -> _Crossing | None:
    """The two loops of a nest that cross, if the first of them is its first loop and the other its last one."""
    loops = [s]
    while len(loops[-1].body) == 1 and isinstance(inner := loops[-1].body[0], For) and not inner.ordered:
        loops.append(inner)
    first, last, body = loops[0], loops[-1], loops[-1].body
    counters = {loop.variable for loop in loops}
    if len(loops) < 2 or len(body) > _LARGEST or not all(isinstance(inner, (Let, Store)) for inner in body):
        return None
    if any(map(is_elaborate, body)):
        return None  # what is computed takes longer, and more steps at a time
    if any(v in counters for loop in loops for v, _ in loop.extent.terms) or not (_is_long(first) and _is_long(last)):
        return None
    computed = {inner.variable for inner in body if isinstance(inner, Let)}
    touched = [access for inner in body for access in accesses(inner) if not in_register(access[0].storage)]
    written = {buffer.storage for buffer, _, writes in touched if writes}
    for rows, columns in ((last, first), (first, last)):
        read = {
            (buffer.storage, buffer.shape, index): buffer
            for buffer, index, writes in touched
            if buffer.storage not in written
            and is_across(buffer, index, columns.variable, rows.variable)
            and not any(v in computed for i in index for v, _ in i.terms)
        }
        if read and all(is_across(b, i, rows.variable, columns.variable) for b, i, writes in touched if writes):
            return _Crossing(loops, rows, columns, read)
    return None


def _is_long(loop: For) -> bool:
    return loop.extent.known is None or loop.extent.known >= SIDE


def _squares(nest: _Crossing) -> Iterator[Statement]:
    """The nest over squares, and then over what is left of columns and rows."""
    first, last = nest.loops[0], nest.loops[-1]
    counts = []
    for loop in (first, last):
        count = affine((loop.extent.known or 0) // SIDE)
        if loop.extent.known is None:
            variable = Variable(INTEGER, "g")
            yield Let(variable, Apply("floor_divide", (loop.extent, _SIDE), INTEGER))
            count = affine(variable)
        counts.append(count)
    yield _part(nest, (affine(0), counts[0]), (affine(0), counts[1]), by_squares=True)
    whole = [count * SIDE for count in counts]
    left = [loop.extent - steps for loop, steps in zip((first, last), whole, strict=True)]
    if left[1].known != 0:
        yield _part(nest, (affine(0), whole[0]), (whole[1], left[1]))
    if left[0].known != 0:
        yield _part(nest, (whole[0], left[0]), (affine(0), last.extent))


def _part(
    nest: _Crossing, first: tuple[Affine, Affine], last: tuple[Affine, Affine], by_squares: bool = False
) -> Statement:
    """The nest over a part of the steps of its first and of its last loop, from where on and how many."""
    mapping: dict[Variable, Affine] = {}
    loops: list[tuple[Variable, Affine]] = []
    for loop in nest.loops:
        start, steps = first if loop is nest.loops[0] else last if loop is nest.loops[-1] else (affine(0), loop.extent)
        counter = Variable(INTEGER, loop.variable.name, steps)
        loops.append((counter, steps))
        mapping[loop.variable] = affine(counter) + start
    body = _square(nest, mapping) if by_squares else _copied(nest.loops[-1].body, mapping)
    for counter, steps in reversed(loops):
        body = [For(counter, steps, body, False)]
    return body[0]


class _Steps:
    """The steps within a square.

    Attributes:
        index: the counters of columns and rows.
        mapping: what the counters of the nest are then.
    """

    def __init__(self, nest: _Crossing, blocks: dict[Variable, Affine]) -> None:
        crossing = nest.columns.variable, nest.rows.variable
        self._counters = [Variable(INTEGER, v.name, _SIDE) for v in crossing]
        self.index = tuple(map(affine, self._counters))
        self.mapping = blocks | {v: blocks[v] * SIDE + i for v, i in zip(crossing, self.index, strict=True)}

    def nest(self, body: list[Statement]) -> Statement:
        """A nest over them."""
        column, row = self._counters
        return For(column, _SIDE, [For(row, _SIDE, body, False)], False)


def _square(nest: _Crossing, blocks: dict[Variable, Affine]) -> list[Statement]:
    """What is done to a square, with what is read across transposed beforehand."""
    body = nest.loops[-1].body
    done: list[Statement] = []
    squares: dict[_Place, Buffer] = {}
    if not _is_copy(body):
        for place, buffer in nest.read.items():
            storage = Storage(buffer.dtype, (_SIDE, _SIDE), "temporary")
            squares[place] = Buffer(storage, storage.shape)
            steps = _Steps(nest, blocks)
            x = Load(*Rewriter(steps.mapping).place(buffer, place[-1]))
            done.append(steps.nest([Store(squares[place], steps.index, x)]))
    steps = _Steps(nest, blocks)

    def element(buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        square = squares.get((buffer.storage, buffer.shape, index))
        return (buffer, index) if square is None else (square, steps.index)

    return [*done, steps.nest(_copied(Rewriter(element=element).block(body), steps.mapping))]


def _is_copy(body: list[Statement]) -> bool:
    """Whether statements only copy an element."""
    return len(body) == 1 and isinstance(body[0], Store) and isinstance(body[0].value, Load)


def _copied(body: list[Statement], mapping: dict[Variable, Affine]) -> list[Statement]:
    """The body of a nest, elsewhere."""
    own = {s.buffer.storage for s in body if isinstance(s, Store) and in_register(s.buffer.storage)}
    return Copier(dict(mapping), own).block(body)
