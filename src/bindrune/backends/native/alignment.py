"""Alignment: matrices that a loop reads in every step have rows that begin where lines of the cache do.

Arrays that are given begin anywhere.  Where a vector is as long as a line of the cache, each that is loaded of such an
array touches two lines, and a loop that reads a matrix again and again waits for that.  So such matrices are copied
once, before the loop, to rows that are filled up to whole lines.
"""

from __future__ import annotations

from .advice import LINE
from .loops import INTEGER, Affine, Buffer, For, Load, Program, Statement, Storage, Store, Variable, affine
from .machine import vector_bytes
from .rewriting import Rewriter, accesses, views

__all__ = ["align"]

_STEPS = 32
"""How often a matrix must be read for its copy to take no part of the time that matters."""

_SMALLEST, _LARGEST = 1 << 12, 1 << 19
"""The bytes of matrices that are copied: what is larger does not stay close to a core, and waits for that."""


def align(program: Program) -> None:
    """Let the loops of a program read matrices it is given from lines of the cache."""
    body: list[Statement] = []
    for s in program.body:
        if isinstance(s, For) and s.ordered and (s.extent.known or 0) >= _STEPS:
            copies = {storage: _room(storage) for storage in _read_again(s)}
            if copies and vector_bytes() == LINE:
                body += (_copy(storage, copy) for storage, copy in copies.items())
                s = _reading(s, copies)
        body.append(s)
    program.body = body


def _read_again(loop: For) -> list[Storage]:
    """The matrices that are given to the program, and read along their rows in each step of a loop."""
    along: dict[Storage, None] = {}
    others: set[Storage] = set()

    def look(s: Statement, counters: tuple[Variable, ...]) -> None:
        if isinstance(s, For):
            counters = () if s.ordered else (*counters, s.variable)
        others.update(view.storage for view in views(s))
        for buffer, index, written in accesses(s):
            storage = buffer.storage
            if written or buffer.shape != storage.shape:
                others.add(storage)
            elif _is_large_matrix(storage) and _moves_along(index, counters):
                along[storage] = None
        for block in s.blocks:
            for inner in block:
                look(inner, counters)

    look(loop, ())
    return [storage for storage in along if storage not in others]


def _is_large_matrix(storage: Storage) -> bool:
    if storage.role not in ("input", "constant") or len(storage.shape) < 2 or storage.size is None:
        return False
    return _SMALLEST <= storage.size * storage.dtype.itemsize <= _LARGEST


def _moves_along(index: tuple[Affine, ...], counters: tuple[Variable, ...]) -> bool:
    """Whether an index moves with loops alone, from element to element with the innermost of them."""
    return (
        bool(counters) and index[-1] == affine(counters[-1]) and all(v in counters for i in index for v, _ in i.terms)
    )


def _room(storage: Storage) -> Buffer:
    """Room for a copy, in rows of whole lines."""
    *rows, length = storage.shape
    lanes = LINE // storage.dtype.itemsize
    shape = (*rows, affine(-(-(length.known or 0) // lanes) * lanes))
    return Buffer(Storage(storage.dtype, shape, "temporary"), shape)


def _copy(storage: Storage, copy: Buffer) -> Statement:
    counters = [Variable(INTEGER, "i", n) for n in storage.shape]
    index = tuple(map(affine, counters))
    s: Statement = Store(copy, index, Load(Buffer(storage, storage.shape), index))
    for variable, n in reversed(list(zip(counters, storage.shape, strict=True))):
        s = For(variable, n, [s], False)
    return s


def _reading(loop: For, copies: dict[Storage, Buffer]) -> For:
    """The loop, reading the copies."""

    def element(buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        return copies.get(buffer.storage, buffer), index

    return For(loop.variable, loop.extent, Rewriter(element=element).block(loop.body), loop.ordered)
