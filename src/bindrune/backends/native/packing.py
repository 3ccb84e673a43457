"""Packing: what an inner loop reads along a column of a matrix, in every step of the loop around it, lies together.

Elements that lie a row apart cannot be loaded side by side, and each brings a line of the cache with it.  Where an
inner loop reads them in each step of an outer one that writes nothing there, they are copied once, before both.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .loops import (
    Accumulate,
    Affine,
    Allocate,
    Apply,
    Buffer,
    For,
    If,
    Let,
    Load,
    Program,
    Statement,
    Storage,
    Store,
    Variable,
    affine,
)
from .ranges import differ
from .rewriting import Rewriter, accesses, views

__all__ = ["pack"]

_BOOL = np.dtype(bool)
_FEW = 8
"""Steps of either loop that are not worth a copy."""


def pack(program: Program) -> None:
    """Pack what the loops of a program read."""
    program.body[:] = _packed(program.body)


def _packed(block: list[Statement]) -> list[Statement]:
    found: list[Statement] = []
    for s in block:
        if isinstance(s, For) and _is_long(s):
            found += _copies(s)
        for inner in s.blocks:
            inner[:] = _packed(inner)
        found.append(s)
    return found


def _copies(outer: For) -> list[Statement]:
    """The copies to be made before a loop, whose inner loops then read them."""
    written, defined = _changed(outer)
    writes = [(buffer, index) for s in _within(outer) for buffer, index, is_written in accesses(s) if is_written]
    found: list[Statement] = []
    for i, s in enumerate(outer.body):
        if not isinstance(s, For) or not _is_long(s) or any(v in defined for v, _ in s.extent.terms):
            continue
        if not all(isinstance(inner, (Let, Store, Accumulate)) for inner in s.body):
            continue
        packed: dict[tuple[Buffer, tuple[Affine, ...]], Buffer] = {}
        others = defined - {s.variable}
        for inner in s.body:
            for buffer, index, _ in accesses(inner):
                if buffer.storage in written or buffer.storage.start is not None or (buffer, index) in packed:
                    continue
                if _is_column(index, s.variable, others) and _is_apart(buffer, index, s, writes):
                    copy = Buffer(Storage(buffer.storage.dtype, (s.extent,), "temporary"), (s.extent,))
                    packed[buffer, index] = copy
                    found += _copy(copy, buffer, index, s, outer)
        if packed:
            outer.body[i] = _reading(s, packed)
    return found


def _is_long(loop: For) -> bool:
    return loop.extent.known is None or loop.extent.known >= _FEW


def _within(s: Statement) -> Iterator[Statement]:
    """A statement, and all in it."""
    yield s
    for block in s.blocks:
        for inner in block:
            yield from _within(inner)


def _is_apart(
    buffer: Buffer, index: tuple[Affine, ...], loop: For, writes: list[tuple[Buffer, tuple[Affine, ...]]]
) -> bool:
    """Whether nothing is written where something is read in a loop, at whatever steps of it."""
    moved = _at(index, loop, Variable(loop.variable.dtype, "p", loop.extent))
    return all(
        other.storage is not buffer.storage or (other.shape == buffer.shape and any(map(differ, moved, its_index)))
        for other, its_index in writes
    )


def _at(index: tuple[Affine, ...], loop: For, step: Variable) -> tuple[Affine, ...]:
    """An index in a loop at another step."""
    return tuple(map(Rewriter({loop.variable: affine(step)}).affine, index))


def _changed(s: Statement) -> tuple[set[Storage], set[Variable]]:
    """The storages that a statement may write nobody knows where, and the variables that it defines."""
    written = {view.storage for view in views(s)}
    defined: set[Variable] = set()
    if isinstance(s, (For, Let)):
        defined.add(s.variable)
    elif isinstance(s, Allocate):
        written.add(s.storage)
    for block in s.blocks:
        for inner in block:
            more, variables = _changed(inner)
            written |= more
            defined |= variables
    return written, defined


def _is_column(index: tuple[Affine, ...], variable: Variable, others: set[Variable]) -> bool:
    """Whether an element moves with one variable, and with none of others, but not along the last axis."""
    moving = [d for d, x in enumerate(index) if any(v is variable for v, _ in x.terms)]
    return moving not in ([], [len(index) - 1]) and not any(v in others for x in index for v, _ in x.terms)


def _copy(copy: Buffer, buffer: Buffer, index: tuple[Affine, ...], inner: For, outer: For) -> list[Statement]:
    step = Variable(inner.variable.dtype, "p", inner.extent)
    loop = For(step, inner.extent, [Store(copy, (affine(step),), Load(buffer, _at(index, inner, step)))], False)
    room: list[Statement] = [Allocate(copy.storage)] if copy.storage.size is None else []
    if outer.extent.known is not None:
        return [*room, loop]
    return [*room, If(Apply("greater", (outer.extent, affine(0)), _BOOL), [loop], [])]


def _reading(loop: For, packed: dict[tuple[Buffer, tuple[Affine, ...]], Buffer]) -> For:
    """An inner loop that reads the copies."""

    def element(buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        copy = packed.get((buffer, index))
        return (buffer, index) if copy is None else (copy, (affine(loop.variable),))

    return For(loop.variable, loop.extent, Rewriter(element=element).block(loop.body), loop.ordered)
