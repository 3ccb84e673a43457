"""Swapping: arrays change places instead of being copied.

A copy at the end of a step of a loop, from an array that the step has made to one that the loop carries, becomes a swap
of their places.  So does one to nearly all of the other array, as to the interior of a field whose margin stays what it
is: what the step makes is then as large as the field, and has the margin copied to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .loops import (
    INTEGER,
    Affine,
    Allocate,
    Buffer,
    For,
    Load,
    Program,
    Statement,
    Storage,
    Store,
    Swap,
    Variable,
    While,
    affine,
)
from .rewriting import Rewriter, accesses, views

__all__ = ["swap"]

Place = tuple[Buffer, tuple[Affine, ...]]
"""A buffer, and the index of an element."""

_LARGE = 4096
"""The bytes from which on an array is rather swapped than copied."""

_MARGIN = 0.25
"""The largest part of an array that is rather copied than the rest of it."""


def swap(program: Program) -> None:
    """Turn copies into swaps, where they are the last use of what a step has made."""
    uses: dict[Storage, list[tuple[Statement, ...]]] = {}
    fixed: set[Storage] = set()
    _look(program.body, (), uses, fixed)
    taken: set[Storage] = set()
    moved: dict[Storage, tuple[int, ...]] = {}

    def visit(block: list[Statement]) -> None:
        for s in block:
            for inner in s.blocks:
                if isinstance(s, While) or (isinstance(s, For) and s.ordered):
                    ends = {storage: user for user in inner for storage in _everything(user)}
                    for n, copy in enumerate(inner):
                        found = _copied(copy)
                        if found is None or taken & {found[0], found[1]}:
                            continue
                        made, carried, offsets = found
                        own = all(s in loops for loops in uses[made])
                        last = ends[made] is copy
                        larger = made.shape != carried.shape
                        if own and last and not (larger and made in fixed) and _swappable(program, made, carried):
                            taken.update((made, carried))
                            margin = _margin(made, carried, offsets) if larger else ()
                            inner[n : n + 1] = [*margin, Swap(made, carried)]
                            if larger:
                                moved[made] = offsets
                                made.shape = carried.shape
                visit(inner)

    visit(program.body)
    if moved:
        program.body = Rewriter(element=_shifted(moved)).block(program.body)


def _look(
    block: list[Statement],
    loops: tuple[Statement, ...],
    uses: dict[Storage, list[tuple[Statement, ...]]],
    fixed: set[Storage],
) -> None:
    """Find the loops that each use of a storage is in, and the storages whose elements must lie as they do."""
    for s in block:
        for storage in _storages(s):
            uses.setdefault(storage, []).append(loops)
        fixed.update(buffer.storage for buffer, _, _ in accesses(s) if buffer.shape != buffer.storage.shape)
        fixed.update(view.storage for view in views(s))
        for inner in s.blocks:
            _look(inner, (*loops, s) if isinstance(s, (For, While)) else loops, uses, fixed)


def _storages(s: Statement) -> set[Storage]:
    found = {buffer.storage for buffer, _, _ in accesses(s)} | {view.storage for view in views(s)}
    return found | {s.storage} if isinstance(s, Allocate) else found


def _everything(s: Statement) -> set[Storage]:
    found = _storages(s)
    for block in s.blocks:
        for inner in block:
            found |= _everything(inner)
    return found


def _copied(s: Statement) -> tuple[Storage, Storage, tuple[int, ...]] | None:
    """What a nest copies from where to where, and how far from its beginning, if that is all it does."""
    counters: list[tuple[Affine, Affine]] = []
    while isinstance(s, For) and not s.ordered and len(s.body) == 1:
        counters.append((affine(s.variable), s.extent))
        s = s.body[0]
    if not (counters and isinstance(s, Store) and isinstance(s.value, Load)):
        return None
    source, target = s.value, s
    moving = [(i, n) for i, n in zip(source.index, source.buffer.shape, strict=True) if n.known != 1]
    if moving != counters or len(source.index) != len(target.index):
        return None
    if any(buffer.shape != buffer.storage.shape for buffer in (source.buffer, target.buffer)):
        return None
    offsets = [(j - i).known for i, j in zip(source.index, target.index, strict=True)]
    known = tuple(offset for offset in offsets if offset is not None)
    return (source.buffer.storage, target.buffer.storage, known) if len(known) == len(offsets) else None


def _swappable(program: Program, made: Storage, carried: Storage) -> bool:
    """Whether two storages are alike, and large; an output that is carried gets its content at the end."""
    size, whole = made.size, carried.size
    if size is None or whole is None or size < (1 - _MARGIN) * whole:
        return False
    if made.role != "temporary" or made.dtype != carried.dtype or whole * made.dtype.itemsize < _LARGE:
        return False
    if carried.role == "output":
        output = Storage(carried.dtype, carried.shape, "output", carried.position)
        program.outputs[program.outputs.index(carried)] = output
        carried.role, carried.position = "temporary", -1
        carried.name = f"t{output.name}"
        zeros = [affine(0)] * len(carried.shape)
        program.body.append(_copy(Buffer(output, output.shape), Buffer(carried, carried.shape), zeros, carried.shape))
    return carried.role == "temporary"


def _copy(target: Buffer, source: Buffer, start: Sequence[Affine], shape: Sequence[Affine]) -> Statement:
    """Copy the elements of a box."""
    counters = [Variable(INTEGER, "i", n) for n in shape]
    steps = [affine(0) if n.known == 1 else affine(i) for i, n in zip(counters, shape, strict=True)]
    index = tuple(i + first for i, first in zip(steps, start, strict=True))
    s: Statement = Store(target, index, Load(source, index))
    for variable, n in reversed(list(zip(counters, shape, strict=True))):
        s = s if n.known == 1 else For(variable, n, [s], False)
    return s


def _margin(made: Storage, carried: Storage, offsets: Sequence[int]) -> Iterator[Statement]:
    """Copy what is carried around what is made: for each axis what lies before and behind, within all axes before."""
    both = Buffer(made, carried.shape), Buffer(carried, carried.shape)
    start, shape = [affine(0)] * len(offsets), list(carried.shape)
    for d, (offset, length) in enumerate(zip(offsets, made.shape, strict=True)):
        behind = length + offset
        for first, n in ((affine(0), affine(offset)), (behind, carried.shape[d] - behind)):
            if n.known != 0:
                yield _copy(*both, [*start[:d], first, *start[d + 1 :]], [*shape[:d], n, *shape[d + 1 :]])
        start[d], shape[d] = affine(offset), length


def _shifted(moved: dict[Storage, tuple[int, ...]]) -> Callable[[Buffer, tuple[Affine, ...]], Place]:
    """Where the elements of arrays lie that have become larger."""

    def element(buffer: Buffer, index: tuple[Affine, ...]) -> Place:
        storage = buffer.storage
        if storage not in moved or buffer.shape == storage.shape:
            return buffer, index
        at = tuple(i + offset for i, offset in zip(index, moved[storage], strict=True))
        return Buffer(storage, storage.shape), at

    return element
