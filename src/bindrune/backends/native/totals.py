"""Totals: two sums that are only added to each other become one, and what is added to one element is added at once.

The tangent of a product of arrays is a sum of two products, and so is what enters a recurrent layer.  Lowering makes a
sum of each and adds them.  Where both start from zero at the same place and are used nowhere else, all their terms go
into one: half the memory or registers, and half as many sums across the lanes of a register.

Where a step of a loop adds several terms to one element of an array, the terms are added to each other first: LLVM
would load the element once, but store it after each term.

Where all steps of a loop add to the same element of an array to which they only add, the terms of all steps are added
to each other in a register, and to the element after the loop: a step would wait until the last one's sum is stored.
The way back of a loop that reads a parameter in each step is such a loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .elements import BOOL
from .loops import (
    Accumulate,
    Affine,
    Allocate,
    Apply,
    Buffer,
    Const,
    Expression,
    For,
    If,
    Let,
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
from .ranges import differ
from .rewriting import Rewriter, accesses, expressions, variables, views

__all__ = ["add_after_loops", "gather_terms", "merge_totals"]


def merge_totals(program: Program) -> None:
    """Let sums that are added be one."""
    while pairs := list(_Look(program).pairs()):
        program.body = _Merging(pairs).block(program.body)


class _At(NamedTuple):
    """A statement, and where it is."""

    statement: Statement
    path: tuple[tuple[list[Statement], int], ...]
    """The blocks around it, from the program's on, and its place or that of the statement around it in each."""

    def place_in(self, block: list[Statement]) -> int:
        """Where in a block it is; -1 if it is not there."""
        return next((i for around, i in self.path if around is block), -1)


class _Total:
    """How an array or a number is used.

    Attributes:
        stores: what sets it, or elements of it.
        terms: what is added to it.
        loads: how often it is read.
        shapes: the shapes under which it is.
        handed_over: whether it is used in another way, too.
    """

    def __init__(self) -> None:
        self.stores: list[_At] = []
        self.terms: list[_At] = []
        self.loads = 0
        self.shapes: set[tuple[Affine, ...]] = set()
        self.handed_over = False


class _Pair(NamedTuple):
    """Two sums that become one, the expression that adds them, and what stands for it then."""

    kept: Storage
    other: Storage
    added: Apply
    left: Expression
    superfluous: tuple[Statement, ...]
    """What the other was used in."""


class _Look:
    """All that is known of a program's sums."""

    def __init__(self, program: Program) -> None:
        self._totals: dict[Storage, _Total] = {}
        self._used: dict[Variable, int] = {}
        self._definitions: dict[Variable, _At] = {}
        self._additions: list[tuple[Apply, _At]] = []
        self._look(program.body, ())

    def _look(self, block: list[Statement], path: tuple[tuple[list[Statement], int], ...]) -> None:
        for i, s in enumerate(block):
            at = _At(s, (*path, (block, i)))
            self._enter(at)
            for inner in s.blocks:
                self._look(inner, at.path)

    def _enter(self, at: _At) -> None:
        s = at.statement
        for buffer, _, written in accesses(s):
            total = self._totals.setdefault(buffer.storage, _Total())
            total.shapes.add(buffer.shape)
            total.loads += not written
        if isinstance(s, Store):
            self._totals[s.buffer.storage].stores.append(at)
        elif isinstance(s, Accumulate):
            total = self._totals[s.buffer.storage]
            total.terms.append(at)
            total.handed_over |= s.name != "add"
        elif isinstance(s, Let):
            self._definitions[s.variable] = at
        for view in views(s):
            self._totals.setdefault(view.storage, _Total()).handed_over = True
        for v in variables(s):
            self._used[v] = self._used.get(v, 0) + 1
        for x in expressions(s):
            self._additions += ((found, at) for found in _additions(x))

    def pairs(self) -> Iterator[_Pair]:
        """The sums that can be merged at once."""
        taken: set[Storage] = set()
        for added, at in self._additions:
            found = self._pair(added, at)
            if found is not None and taken.isdisjoint((found.kept, found.other)):
                taken |= {found.kept, found.other}
                yield found

    def _pair(self, added: Apply, at: _At) -> _Pair | None:
        (a, a_way), (b, b_way) = (self._followed(x, at) for x in added.arguments)
        if not (isinstance(a, Load) and isinstance(b, Load)) or a.buffer.storage is b.buffer.storage:
            return None
        if a.dtype != b.dtype or a.buffer.shape != b.buffer.shape or a.index != b.index:
            return None
        if a.buffer.shape and (len(a_way) > 1 or len(b_way) > 1):
            return None
        storages = (a.buffer.storage, b.buffer.storage)
        start, other = map(self._start, storages)
        if start is None or other is None or start[0] is not other[0] or storages[0].shape != storages[1].shape:
            return None
        (block, first), (_, second) = start, other
        terms = [at.place_in(block) for storage in storages for at in self._totals[storage].terms]
        used = [at.place_in(block) for at in (*a_way, *b_way)]
        if min(terms) <= max(first, second) or max(terms) >= min(used):
            return None
        if first < second:
            return _Pair(*storages, added, added.arguments[0], tuple(link.statement for link in b_way[1:]))
        return _Pair(*storages[::-1], added, added.arguments[1], tuple(link.statement for link in a_way[1:]))

    def _followed(self, x: Expression, at: _At) -> tuple[Expression, list[_At]]:
        """What a number is that is only named or kept in between, and the statements in which it is used."""
        way = [at]
        while True:
            if isinstance(x, Variable) and self._used.get(x) == 1 and x in self._definitions:
                way.append(self._definitions[x])
            elif isinstance(x, Load) and not x.buffer.storage.shape and x.buffer.storage.role == "temporary":
                kept = self._totals[x.buffer.storage]
                if kept.terms or kept.handed_over or kept.loads != 1 or len(kept.stores) != 1:
                    return x, way
                way.append(kept.stores[0])
            else:
                return x, way
            link = way[-1].statement
            assert isinstance(link, (Let, Store))
            x = link.value

    def _start(self, storage: Storage) -> tuple[list[Statement], int] | None:
        """Where a sum is set to zero: a block, and a place in it."""
        total = self._totals[storage]
        if storage.role != "temporary" or total.handed_over or total.loads != 1 or len(total.stores) != 1:
            return None
        if total.shapes != {storage.shape} or not total.terms:
            return None
        (zero,) = total.stores
        s = zero.statement
        assert isinstance(s, Store)
        if not isinstance(s.value, Const) or s.value.value != 0:
            return None
        level = len(zero.path) - 1
        for d in range(len(storage.shape) - 1, -1, -1):
            around = zero.path[level - 1][0][zero.path[level - 1][1]] if level else None
            if storage.shape[d].known == 1:
                continue
            if not isinstance(around, For) or len(around.body) != 1 or around.extent != storage.shape[d]:
                return None
            if s.index[d] != affine(around.variable):
                return None
            level -= 1
        return zero.path[level]


def _additions(x: Expression) -> Iterator[Apply]:
    if isinstance(x, Apply):
        if x.name == "add" and x.dtype.kind == "f":
            yield x
        for a in x.arguments:
            yield from _additions(a)


class _Merging(Rewriter):
    """Puts one sum in the place of two."""

    def __init__(self, pairs: Sequence[_Pair]) -> None:
        super().__init__()
        self._kept = {pair.other: pair.kept for pair in pairs}
        self._left = {id(pair.added): pair.left for pair in pairs}
        self._superfluous = {id(s) for pair in pairs for s in pair.superfluous}

    def expression(self, x: Expression) -> Expression:
        return super().expression(self._left.get(id(x), x))

    def place(self, buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        kept = self._kept.get(buffer.storage)
        return super().place(buffer if kept is None else Buffer(kept, buffer.shape), index)

    def block(self, block: list[Statement]) -> list[Statement]:
        found = []
        for s in block:
            if id(s) in self._superfluous or self._sets_up(s):
                continue
            found.append(self.statement(s))
        return found

    def _sets_up(self, s: Statement) -> bool:
        """Whether a statement makes room for what is merged into another sum, or sets it to zero."""
        if isinstance(s, Allocate):
            return s.storage in self._kept
        while isinstance(s, For) and len(s.body) == 1:
            (s,) = s.body
        return isinstance(s, Store) and s.buffer.storage in self._kept


# ------------------------------------------------------------------------------------------------------------- terms


def gather_terms(program: Program) -> None:
    """Let each step of a loop add to an element once."""
    _gather(program.body)


def _gather(block: list[Statement]) -> None:
    for s in block:
        for inner in s.blocks:
            _gather(inner)
        if isinstance(s, For) and all(isinstance(inner, (Let, Store, Accumulate)) for inner in s.body):
            _gather_in(s.body)


def _gather_in(body: list[Statement]) -> None:
    """Gather the terms of statements that are performed one after the other."""
    groups: dict[tuple[Storage, tuple[Affine, ...]], list[int]] = {}
    for i, s in enumerate(body):
        if isinstance(s, Accumulate) and s.name == "add" and s.buffer.dtype.kind == "f" and s.buffer.storage.shape:
            groups.setdefault((s.buffer.storage, s.index), []).append(i)
    for (storage, index), places in groups.items():
        if len(places) > 1 and storage.start is None and not _touched_beside(body, places, storage, index):
            _gather_at(body, places)


def _touched_beside(body: list[Statement], places: list[int], storage: Storage, index: tuple[Affine, ...]) -> bool:
    """Whether anything but some statements may touch an element."""
    shapes = {s.buffer.shape for s in (body[i] for i in places) if isinstance(s, Accumulate)}
    return any(
        buffer.storage is storage and not (shapes == {buffer.shape} and any(map(differ, index, its_index)))
        for i, s in enumerate(body)
        for buffer, its_index, written in accesses(s)
        if not (written and i in places)
    )


def _gather_at(body: list[Statement], places: list[int]) -> None:
    *first, last = places
    final = body[last]
    assert isinstance(final, Accumulate)
    terms: list[Expression] = []
    for i in first:
        s = body[i]
        assert isinstance(s, Accumulate)
        variable = Variable(s.value.dtype, "x")
        terms.append(variable)
        body[i] = Let(variable, s.value)
    total = terms[0]
    for term in (*terms[1:], final.value):
        total = Apply("add", (total, term), total.dtype)
    body[last] = Accumulate(final.name, final.buffer, final.index, total)


# ------------------------------------------------------------------------------------------------- terms of all steps


class _Term(NamedTuple):
    """What a statement adds to an element."""

    buffer: Buffer
    place: tuple[Affine, ...]
    value: Expression


def _term(s: Statement) -> _Term | None:
    """What a statement adds to an element of an array, if that is all that it does."""
    if isinstance(s, Accumulate) and s.name == "add":
        return _Term(s.buffer, s.index, s.value)
    if isinstance(s, Store) and isinstance(s.value, Apply) and s.value.name == "add":
        for old, value in (s.value.arguments, s.value.arguments[::-1]):
            if isinstance(old, Load) and old.buffer.storage is s.buffer.storage and old.index == s.index:
                return _Term(s.buffer, s.index, value) if old.buffer.shape == s.buffer.shape else None
    return None


def add_after_loops(program: Program) -> None:
    """Let loops add once to elements to which all their steps add."""
    program.body = _added_after(program.body)


def _added_after(block: list[Statement]) -> list[Statement]:
    found: list[Statement] = []
    for s in block:
        for inner in s.blocks:
            inner[:] = _added_after(inner)
        if isinstance(s, While) or (isinstance(s, For) and s.ordered):
            found += _with_sums(s)
        else:
            found.append(s)
    return found


def _with_sums(loop: For | While) -> list[Statement]:
    """A loop, and after it what its steps have added to elements."""
    changing: set[Variable] = set()
    only_added: dict[Storage, bool] = {}
    _look_through([loop], changing, only_added)
    before: list[Statement] = []
    after: list[Statement] = []
    cells: dict[tuple[Storage, tuple[Affine, ...], tuple[Affine, ...]], Buffer] = {}
    for i, s in enumerate(loop.body):
        term = _term(s)
        if term is None or not only_added[term.buffer.storage] or not term.place:
            continue
        if any(v in changing for n in (*term.place, *term.buffer.shape) for v, _ in n.terms):
            continue
        key = (term.buffer.storage, term.place, term.buffer.shape)
        cell = cells.get(key)
        if cell is None:
            dtype = term.buffer.dtype
            cell = cells[key] = Buffer(Storage(dtype, (), "temporary"), ())
            before.append(Store(cell, (), Const(dtype.type(0), dtype)))
            total = Apply("add", (Load(term.buffer, term.place), Load(cell, ())), dtype)
            after.append(Store(term.buffer, term.place, total))
        loop.body[i] = Accumulate("add", cell, (), term.value)
    if not after:
        return [loop]
    if isinstance(loop, While):
        ran = Variable(loop.going.dtype, "ran")
        return [*before, Let(ran, Load(loop.going, ())), loop, If(ran, after, [])]
    if loop.extent.known is not None and loop.extent.known > 0:
        return [*before, loop, *after]
    # Where it has no step, the element need not exist.
    return [*before, loop, If(Apply("less", (affine(0), loop.extent), BOOL), after, [])]


def _look_through(block: list[Statement], changing: set[Variable], only_added: dict[Storage, bool]) -> None:
    """Find what changes in a loop, and whether arrays are only added to, and that in floating point."""
    for s in block:
        if isinstance(s, (For, Let)):
            changing.add(s.variable)
        term = _term(s)
        used = [buffer.storage for buffer, _, _ in accesses(s)] + [view.storage for view in views(s)]
        if isinstance(s, Swap):
            used += [s.first, s.second]
        elif isinstance(s, Allocate):
            used.append(s.storage)
        if term is not None:
            storage = term.buffer.storage
            alone = used.count(storage) == (1 if isinstance(s, Accumulate) else 2)
            simple = alone and storage.start is None and storage.dtype.kind == "f"
            only_added[storage] = only_added.get(storage, True) and simple
            used = [other for other in used if other is not storage]
        only_added.update(dict.fromkeys(used, False))
        for inner in s.blocks:
            _look_through(inner, changing, only_added)
