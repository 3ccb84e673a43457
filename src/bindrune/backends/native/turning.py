"""Turning: what is computed in one order only to be read in another is computed where it is read.

Operations on a transposed array are performed on the array as it lies, and what they make is gone through across by
what comes next.  Nests in different orders are not fused.  But where the second can go over squares (`tiling.py`), it
may as well go through the operands of the first one across, and what would lie between them is not stored at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .loops import (
    Accumulate,
    Affine,
    Allocate,
    Buffer,
    For,
    Let,
    Load,
    Program,
    Statement,
    Storage,
    Store,
    Swap,
    Variable,
)
from .memory import in_register
from .rewriting import Copier, Rewriter, accesses, variables, views
from .tiling import crosses

__all__ = ["turn"]


def turn(program: Program) -> None:
    """Compute what a program reads in another order where it is read."""
    uses: dict[Storage, int] = {}
    for s in _all(program.body):
        for storage in _storages(s):
            uses[storage] = uses.get(storage, 0) + 1
    _turn(program.body, uses)


def _turn(block: list[Statement], uses: dict[Storage, int]) -> None:
    for s in block:
        for inner in s.blocks:
            _turn(inner, uses)
    at = 0
    while at < len(block):
        i = _turned(block, at, uses)
        if i is None:
            at += 1
        elif not _makes_arrays(block[i]):
            del block[i]
            at -= 1


def _makes_arrays(s: Statement) -> bool:
    """Whether a nest still writes any array."""
    return any(isinstance(inner, Store) and not in_register(inner.buffer.storage) for inner in _all([s]))


def _all(block: list[Statement]) -> Iterator[Statement]:
    for s in block:
        yield s
        for inner in s.blocks:
            yield from _all(inner)


def _storages(s: Statement) -> Iterator[Storage]:
    """The storages that a statement itself touches, each as often as it does."""
    yield from (buffer.storage for buffer, _, _ in accesses(s))
    yield from (view.storage for view in views(s))
    if isinstance(s, Allocate):
        yield s.storage
    elif isinstance(s, Swap):
        yield from (s.first, s.second)


class _Nest(NamedTuple):
    """A nest of loops whose steps are independent, and what is done at each."""

    loops: list[For]
    body: list[Statement]


def _nest(s: Statement) -> _Nest | None:
    loops: list[For] = []
    while isinstance(s, For) and not s.ordered:
        loops.append(s)
        if len(s.body) != 1 or not isinstance(s.body[0], For):
            break
        s = s.body[0]
    if len(loops) < 2 or not all(isinstance(inner, (Let, Store)) for inner in loops[-1].body):
        return None
    return _Nest(loops, loops[-1].body)


def _turned(block: list[Statement], at: int, uses: dict[Storage, int]) -> int | None:
    """Compute in a statement of a block what it reads in another order; the place of the one that did so far."""
    nest = _nest(block[at])
    if nest is None:
        return None
    for s in nest.body:
        for buffer, index, writes in accesses(s):
            made = buffer.storage
            if writes or uses.get(made) != 2 or made.role != "temporary" or buffer.shape != made.shape:
                continue
            if made.start is None and _counters(index).keys() == {loop.variable for loop in nest.loops}:
                i = _inlined(block, at, nest, Load(buffer, index), uses)
                if i is not None:
                    return i
    return None


def _counters(index: tuple[Affine, ...]) -> dict[Variable, int]:
    """For each axis the variable that goes along it, with how far it is from the beginning; nothing for other ones."""
    found = {i.terms[0][0]: i.offset for i in index if len(i.terms) == 1 and i.terms[0][1] == 1}
    return found if len(found) == len(index) else {}


def _inlined(block: list[Statement], at: int, nest: _Nest, x: Load, uses: dict[Storage, int]) -> int | None:
    """Compute in a nest what it reads once, if that can be; the place of the nest that did so far."""
    made = x.buffer.storage
    changed = _written(nest.body)
    for i in range(at - 1, -1, -1):
        within = list(_all([block[i]]))
        if any(made in _storages(s) for s in within):
            break
        if not all(isinstance(s, (For, Let, Store, Accumulate)) for s in within):
            return None
        changed |= _written(within)
    else:
        return None
    source = _nest(block[i])
    if source is None:
        return None
    ((last, store),) = ((n, s) for n, s in enumerate(source.body) if made in _storages(s))
    if not (isinstance(store, Store) and store.buffer.storage is made and _fills(source.loops, store)):
        return None
    needed, own = _needed(source.body[:last], store)
    read = {buffer.storage for s in needed for buffer, _, writes in accesses(s) if not writes}
    if (read - own) & (changed | _written(source.body)):
        return None
    cell = Buffer(Storage(made.dtype, (), "temporary"), ())
    steps = {axis.terms[0][0]: step for axis, step in zip(store.index, x.index, strict=True)}

    def element(buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        return (cell, ()) if buffer.storage is made else (buffer, index)

    body = Copier(dict(steps), own).block([*needed[:-1], Store(cell, (), store.value)])
    body += Rewriter(element=element).block(nest.body)
    for loop in reversed(nest.loops):
        body = [For(loop.variable, loop.extent, body, False)]
    if not crosses(body[0]):
        return None
    block[at] = body[0]
    del source.body[last]
    if _makes_arrays(block[i]):
        for s in needed:
            for storage in _storages(s):
                uses[storage] = uses.get(storage, 0) + 1
    return i


def _written(statements: list[Statement]) -> set[Storage]:
    return {buffer.storage for s in statements for buffer, _, writes in accesses(s) if writes}


def _fills(loops: list[For], store: Store) -> bool:
    """Whether the steps of a nest each store one element of an array, and all of it."""
    storage = store.buffer.storage
    if store.buffer.shape != storage.shape or len(loops) != len(storage.shape):
        return False
    extents = {loop.variable: loop.extent for loop in loops}
    counters = _counters(store.index)
    return not any(counters.values()) and tuple(map(extents.get, counters)) == storage.shape


def _needed(before: list[Statement], store: Store) -> tuple[list[Statement], set[Storage]]:
    """The statements that compute what is stored, up to that, and the numbers in registers that they make."""
    needed: list[Statement] = [store]
    own: set[Storage] = set()
    for s in reversed(before):
        used = {v for other in needed for v in variables(other)}
        read = {buffer.storage for other in needed for buffer, _, writes in accesses(other) if not writes}
        if isinstance(s, Let) and s.variable in used:
            needed.insert(0, s)
        elif isinstance(s, Store) and in_register(s.buffer.storage) and s.buffer.storage in read:
            needed.insert(0, s)
            own.add(s.buffer.storage)
    return needed, own
