"""Fusion: nests that go over the same indices become one, and what only passes between their statements leaves memory.

Lowering makes a nest for each operation.  Two loops become one where both go over the same range and every element that
one writes and the other touches is touched at the same step of both; the statements between them are moved out of the
way where they can be.  What then is in one body is fused again, so that a chain of operations on the rows of a matrix
becomes one loop over rows with a few loops along a row in it.  Afterwards a temporary array of which every step of a
loop only uses its own part loses that dimension, and with the last one becomes a number in a register.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .advice import is_elaborate, is_short
from .loops import (
    Affine,
    Allocate,
    Buffer,
    Check,
    For,
    HostCall,
    Invoke,
    Let,
    Program,
    Reserve,
    Statement,
    Storage,
    Swap,
    Variable,
    affine,
)
from .ranges import differ, nonnegative
from .rewriting import Access, Rewriter, accesses, variables, views

__all__ = ["fuse", "same_step"]

_WINDOW = 64
"""How many statements back a partner is looked for."""

_LARGEST = 160
"""The most statements a fused body may have."""

_ROW = 16
"""The steps of inner loops that make up for what beside them is done one by one."""

_LONG_ROW = 512
"""The same where that is an exponential or another such function."""

_TAPE = "tape"


def fuse(program: Program) -> None:
    """Fuse the nests of a program, and take out of memory what need not be there."""
    program.body, _ = _fused(program.body, _Known())
    contract(program)


# ---------------------------------------------------------------------------------------------------------- effects


class _Effects:
    """What a statement reads, writes, uses and defines, with everything in it."""

    __slots__ = ("called", "complete", "defined", "elements", "indexed", "read", "size", "stops", "used", "written")

    def __init__(self) -> None:
        self.elements: dict[Storage, list[Access]] = {}
        """Each access by where it is."""
        self.complete = True
        """Whether these are all of them."""
        self.read: set[Any] = set()
        self.written: set[Any] = set()
        self.called: set[Any] = set()
        """What of it calls are given."""
        self.used: set[Variable] = set()
        self.defined: set[Variable] = set()
        self.indexed: set[Variable] = set()
        """What its indices depend on, loops in it aside: a check of these variables may have to come before it."""
        self.stops = False
        self.size = 0

    def add(self, other: _Effects) -> None:
        """Take in what another statement does."""
        self._take(other)
        self.complete &= other.complete
        self.read |= other.read
        self.written |= other.written
        self.called |= other.called
        self.used |= other.used
        self.defined |= other.defined
        self.indexed |= other.indexed
        self.stops |= other.stops
        self.size += other.size

    def _take(self, other: _Effects) -> None:
        for storage, its_elements in other.elements.items():
            self.elements.setdefault(storage, []).extend(its_elements)

    def at(self, storage: Storage) -> Iterable[Access]:
        """The accesses to a storage."""
        return self.elements.get(storage, ())


class _Several(_Effects):
    """What statements do that are taken together for a while: their accesses stay with each of them."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[_Effects] = []

    def _take(self, other: _Effects) -> None:
        self._parts.append(other)

    def at(self, storage: Storage) -> Iterable[Access]:
        # The nearest first: there it is most likely that something is found to meet.
        return itertools.chain.from_iterable(part.at(storage) for part in reversed(self._parts))


class _Known:
    """What is known of statements: loops are fused one by one, and most of what is in them stays.

    Attributes:
        effects: of those that have been looked at.
        fused: loops in whose bodies there is nothing left to fuse.
    """

    __slots__ = ("effects", "fused")

    def __init__(self) -> None:
        self.effects: dict[Statement, _Effects] = {}
        self.fused: set[Statement] = set()


def _effects(s: Statement, known: _Known) -> _Effects:
    """The effects of a statement."""
    found = known.effects.get(s)
    if found is not None:
        return found
    found = known.effects[s] = _Effects()
    found.size = 1
    found.used.update(variables(s))
    for access in accesses(s):
        buffer, index, written = access
        found.elements.setdefault(buffer.storage, []).append(access)
        (found.written if written else found.read).add(_memory(buffer.storage))
        for i, n in zip(index, buffer.shape, strict=True):
            found.indexed.update(v for v, _ in i.terms)
            limits = [n, *(v.below for v, _ in i.terms if v.below is not None)]
            if any(limit.terms for limit in limits) and not nonnegative(n - 1 - i):
                # A check may say that this many steps stay within that length.
                found.indexed.update(v for limit in limits for v, _ in limit.terms)
    for view in views(s):
        found.read.add(_memory(view.storage))
        found.written.add(_memory(view.storage))
        found.called.add(_memory(view.storage))
        found.complete = False
    if isinstance(s, Let):
        found.defined.add(s.variable)
    elif isinstance(s, Allocate):
        found.written.add(s.storage)
        found.complete = False
    elif isinstance(s, Swap):
        found.written |= {s.first, s.second}
        found.complete = False
    elif isinstance(s, Reserve):
        found.written.add(_TAPE)
    elif isinstance(s, (Check, HostCall, Invoke)):
        found.stops = True
    if isinstance(s, Invoke):
        found.read.add(_TAPE)
        found.written.add(_TAPE)
    for block in s.blocks:
        for inner in block:
            found.add(_effects(inner, known))
    if isinstance(s, For):
        found.defined.add(s.variable)
        found.indexed.discard(s.variable)
    return found


def _memory(storage: Storage) -> Any:
    return _TAPE if storage.start is not None else storage


def _ordered(first: _Effects, second: _Effects) -> bool:
    """Whether two statements must stay in the order in which they are."""
    if first.stops and (second.stops or second.indexed):
        return True
    if second.stops and first.indexed:
        return True
    if not first.defined.isdisjoint(second.used):
        return True
    shared = _shared(first, second)
    return bool(shared) and not _apart(first, second, shared)


def _shared(first: _Effects, second: _Effects) -> set[Any]:
    """The memory that two statements touch, and one of them writes."""
    return (first.written & second.read) | (first.written & second.written) | (first.read & second.written)


def _apart(first: _Effects, second: _Effects, shared: set[Any]) -> bool:
    """Whether two statements touch different elements of the memory that both touch, and one of them writes."""
    if not (first.complete and second.complete) or _TAPE in shared or first.size * second.size > _LARGEST**2:
        return False
    return all(
        buffer.shape == other.shape and any(map(differ, index, its_index))
        for storage in shared
        for buffer, index, written in first.at(storage)
        for other, its_index, its_written in second.at(storage)
        if written or its_written
    )


# ----------------------------------------------------------------------------------------------------------- fusion


def _fused(block: list[Statement], known: _Known, first: int = 0) -> tuple[list[Statement], _Effects]:
    """A block with its loops fused, and what it does in all; up to the first new one they are fused already."""
    done = [(s, _effects(s, known)) for s in block[:first]]
    for s in block[first:]:
        if s.blocks and not (isinstance(s, For) and not s.ordered):
            mine = _Effects()
            for inner in s.blocks:
                inner[:], theirs = _fused(inner, known)
                mine.add(theirs)
            _add_own(s, mine)
            known.effects[s] = mine
        else:
            mine = _effects(s, known)
        done.append((s, mine))
        if isinstance(s, For) and not s.ordered:
            _join(done, len(done) - 1, known)
    total = _Effects()
    for _, mine in done:
        total.add(mine)
    return [s for s, _ in done], total


def _add_own(s: Statement, found: _Effects) -> None:
    """Add to the effects of its parts what a statement itself does."""
    found.size += 1
    found.used.update(variables(s))
    for access in accesses(s):
        found.elements.setdefault(access[0].storage, []).append(access)
        found.read.add(_memory(access[0].storage))
    if isinstance(s, For):
        found.defined.add(s.variable)
        found.indexed.discard(s.variable)


def _join(done: list[tuple[Statement, _Effects]], at: int, known: _Known) -> None:
    """Fuse one of some statements with those before it, as long as there is one that it can be fused with."""
    last, effects = done[at]
    assert isinstance(last, For)
    near = ((p, *done[p]) for p in range(max(at - _WINDOW, 0), at))
    alike = {p for p, s, mine in near if isinstance(s, For) and s.extent == last.extent and _alike(s, mine, effects)}
    farthest = min(alike, default=at)
    needed = _Several()
    needed.add(effects)
    before: set[int] = set()
    for p in range(at - 1, farthest - 1, -1):
        s, mine = done[p]
        if p in alike:
            assert isinstance(s, For)
            between = range(p + 1, at)
            free = not any(_ordered(mine, done[q][1]) for q in between if q in before)
            if free and _joinable(s, mine, last, effects):
                done[p : at + 1] = [
                    *(done[q] for q in between if q in before),
                    _merge(s, mine, last, known),
                    *(done[q] for q in between if q not in before),
                ]
                _join(done, p + len(before), known)
                return
        if _ordered(mine, needed):
            before.add(p)
            needed.add(mine)


def _alike(a: For, first: _Effects, second: _Effects) -> bool:
    """Whether a loop is like another over the same range: it touches elements that the other touches, too."""
    if a.ordered or first.size + second.size > _LARGEST:
        return False
    return any(isinstance(m, Storage) and m.shape for m in _shared(first, second) | (first.read & second.read))


def _joinable(a: For, first: _Effects, b: For, second: _Effects) -> bool:
    """Whether two loops that are alike can be, and should be, one."""
    if not _balanced(a, b):
        return False
    shared = _shared(first, second)
    if not shared:
        return True
    if shared & (first.called | second.called):
        return False
    at_a, at_b = affine(a.variable), affine(b.variable)
    if _TAPE in shared and len({s for s in (*first.elements, *second.elements) if s.start is not None}) > 1:
        return False
    for storage in first.elements.keys() & second.elements.keys():
        if _memory(storage) not in shared:
            continue
        for buffer, index, written in first.elements[storage]:
            for other, its_index, its_written in second.elements[storage]:
                apart = buffer.shape == other.shape and any(map(differ, index, its_index))
                meet = (written or its_written) and not apart
                if meet and not same_step(buffer, index, at_a, other, its_index, at_b):
                    return False
    return True


def same_step(
    a: Buffer, index: Sequence[Affine], at_a: Affine, b: Buffer, its_index: Sequence[Affine], at_b: Affine
) -> bool:
    """Whether two elements can only be the same one at the same step of two loops."""
    if a.shape != b.shape:
        return False
    ((va, _),), ((vb, _),) = at_a.terms, at_b.terms
    for i, j in zip(index, its_index, strict=True):
        step, its_step = dict(i.terms).get(va, 0), dict(j.terms).get(vb, 0)
        if step and step == its_step and i - at_a * step == j - at_b * step:
            return True
    return False


def _balanced(a: For, b: For) -> bool:
    """Whether neither loop would be slowed down by inner loops of the other that are hardly worth it."""
    inner_a, inner_b = _inner_steps(a.body), _inner_steps(b.body)
    if (inner_a is None) == (inner_b is None):
        return True
    steps, beside = (inner_b, a) if inner_a is None else (inner_a, b)
    return steps is not None and steps >= (_LONG_ROW if is_elaborate(beside) else _ROW)


def _inner_steps(block: Iterable[Statement]) -> int | None:
    """How many steps inner loops make; None where there are none but such as are written out."""
    found: int | None = None
    for s in block:
        if isinstance(s, For):
            deeper = _inner_steps(s.body)
            if deeper is None and is_short(s, ()):
                continue
            steps = (_ROW if s.extent.known is None else s.extent.known) * (1 if deeper is None else deeper)
            found = steps if found is None else max(found, steps)
    return found


def _merge(a: For, effects: _Effects, b: For, known: _Known) -> tuple[For, _Effects]:
    """One loop for two, and what it does."""
    moved = Rewriter({b.variable: affine(a.variable)}).block(b.body)
    body = [*a.body, *moved]
    if sum(isinstance(s, For) for s in body) > 1:
        body, found = _fused(body, known, len(a.body) if a in known.fused else 0)
        fused = For(a.variable, a.extent, body, False)
        _add_own(fused, found)
        known.fused.add(fused)
    else:
        fused = For(a.variable, a.extent, body, False)
        found = _Effects()
        found.add(effects)
        for s in moved:
            found.add(_effects(s, known))
        found.indexed.discard(a.variable)
    known.effects[fused] = found
    return fused, found


# ------------------------------------------------------------------------------------------------------ contraction


def contract(program: Program) -> None:
    """Take dimensions out of temporary arrays of which each step of a loop uses only its own part."""
    uses: dict[Storage, list[tuple[tuple[For, ...], Buffer, tuple[Affine, ...]]]] = {}
    kept: set[Storage] = set()

    def look(block: list[Statement], loops: tuple[For, ...]) -> None:
        for s in block:
            for buffer, index, _ in accesses(s):
                uses.setdefault(buffer.storage, []).append((loops, buffer, index))
            kept.update(view.storage for view in views(s))
            for inner in s.blocks:
                look(inner, (*loops, s) if isinstance(s, For) else loops)

    look(program.body, ())
    smaller: dict[Storage, tuple[Buffer, list[int]]] = {}
    for storage, places in uses.items():
        if storage.role == "temporary" and storage not in kept and storage.shape:
            left = _dimensions_left(places)
            if left is not None and len(left) < len(storage.shape):
                storage.shape = tuple(storage.shape[d] for d in left)
                smaller[storage] = (Buffer(storage, storage.shape), left)
    if not smaller:
        return

    def element(buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        found = smaller.get(buffer.storage)
        return (buffer, index) if found is None else (found[0], tuple(index[d] for d in found[1]))

    program.body = list(_without_allocations(Rewriter(element=element).block(program.body), smaller))


def _dimensions_left(places: Sequence[tuple[tuple[For, ...], Buffer, tuple[Affine, ...]]]) -> list[int] | None:
    """The dimensions of an array that must stay in memory; None where it is used under several shapes."""
    _, first, _ = places[0]
    if any(buffer.shape != first.shape for _, buffer, _ in places) or first.shape != first.storage.shape:
        return None
    common = [loop for loop in places[0][0] if all(loop in loops for loops, _, _ in places)]
    own = {affine(loop.variable) for loop in common}
    left = []
    for d, length in enumerate(first.shape):
        indices = {index[d] for _, _, index in places}
        if length.known != 1 and not (len(indices) == 1 and indices <= own):
            left.append(d)
    return left


def _without_allocations(block: list[Statement], smaller: dict[Storage, Any]) -> Iterator[Statement]:
    """Statements without room made for what has a known size now."""
    for s in block:
        if isinstance(s, Allocate) and s.storage in smaller and s.storage.size is not None:
            continue
        for inner in s.blocks:
            inner[:] = _without_allocations(list(inner), smaller)
        yield s
