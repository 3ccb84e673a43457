"""Turning: what is computed and then only copied with its axes in another order is stored in that order at once.

Operations on a transposed array are performed on the array as it lies, and what they make is transposed at the end.
That copy is not needed where the nest that computes can go over squares (`tiling.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from .loops import Affine, Allocate, Buffer, For, Let, Load, Program, Statement, Storage, Store, Swap, affine
from .rewriting import Rewriter, accesses, variables, views
from .tiling import crosses

__all__ = ["turn"]


def turn(program: Program) -> None:
    """Store the arrays of a program in the order in which they are needed."""
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
        copy = _copy(block[at])
        if copy is not None and uses[copy[0].buffer.storage] == 2 and _turned(block, at, *copy):
            del block[at]
        else:
            at += 1


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


def _copy(s: Statement) -> tuple[Load, Store] | None:
    """What a nest copies to where, if all that it does is to copy a whole temporary array with its axes in an order."""
    loops: dict[Affine, Affine] = {}
    while isinstance(s, For) and not s.ordered and len(s.body) == 1:
        loops[affine(s.variable)] = s.extent
        s = s.body[0]
    if not (isinstance(s, Store) and isinstance(s.value, Load)):
        return None
    source, storage = s.value, s.value.buffer.storage
    if storage.role != "temporary" or storage.start is not None or source.buffer.shape != storage.shape:
        return None
    whole = [loops.get(i) for i in source.index] == list(storage.shape) and len(set(source.index)) == len(loops)
    return (source, s) if whole and len(loops) > 1 and s.buffer.storage is not storage else None


def _turned(block: list[Statement], at: int, source: Load, target: Store) -> bool:
    """Have what is copied by a statement of a block stored where it is copied to, if that can be."""
    made, wanted = source.buffer.storage, target.buffer.storage
    used = set(variables(target))
    for i in range(at - 1, -1, -1):
        s = block[i]
        touched = {storage for inner in _all([s]) for storage in _storages(inner)}
        if wanted in touched or (isinstance(s, Let) and s.variable in used):
            return False
        if made in touched:
            break
    else:
        return False

    def element(buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        if buffer.storage is not made:
            return buffer, index
        steps = {axis.terms[0][0]: step for axis, step in zip(source.index, index, strict=True)}
        return target.buffer, tuple(map(Rewriter(steps).affine, target.index))

    (turned,) = Rewriter(element=element).block([block[i]])
    if not crosses(turned):
        return False
    block[i] = turned
    return True
