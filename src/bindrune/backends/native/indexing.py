"""Lowering of reads and writes at an index.

A basic index, and numbers the program computes, make a view.  Index arrays make a nest that gathers or scatters, and so
do steps that the program computes.  An index that may be out of bounds is checked before memory is touched: inside a
nest all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...graph.dims import Dim, Strided
from ...graph.graph import Literal, Node, Value
from ...ops.indexing import ARRAY, spell_out
from .formats import convertible
from .loops import (
    INTEGER,
    Accumulate,
    Affine,
    Apply,
    Buffer,
    Const,
    Expression,
    Load,
    Storage,
    Store,
    affine,
)
from .lower import Location, Lowering, broadcast_lengths, convert, left_to_the_host, rule
from .shaping import BOOL
from .views import ZERO, Place, View, along, broadcast

__all__ = ["linear"]


class _UnknownIndexError(Exception):
    """An index that is left to the host."""


@rule("getitem")
def _getitem(low: Lowering, node: Node, operands: list[Location]) -> Any:
    x, *numbers = operands
    template = node.params["index"]
    result = node.results[0]
    if not isinstance(x, View):
        return x if template in ((), (Ellipsis,)) else _of_number(low, x, template, result)
    if any(v.shape for v in node.operands[1:]):
        return _of_arrays(low, node, operands)
    try:
        chosen = _select(low, node, x, template, numbers, result.shape)
    except _UnknownIndexError:
        return NotImplemented
    if chosen.strides:
        return _gather(low, x, chosen)
    return low.let(chosen.view.load(())) if not result.shape else chosen.view


def _of_number(low: Lowering, x: Expression, template: Any, result: Value) -> Any:
    if all(e is None or e is Ellipsis for e in template):
        shape = tuple(map(low.length, result.shape))
        return low.uniform(x, shape)
    return NotImplemented


class _Selected(NamedTuple):
    """What a basic index, with numbers that the program computes, selects."""

    low: Lowering
    view: View
    """Shows it, with all of an axis where the step is not known."""
    strides: dict[int, tuple[Affine, Affine, Affine]]
    """For such axes of the view: the start, the number of elements, and the step."""

    @property
    def shape(self) -> tuple[Affine, ...]:
        """The lengths of the selection's axes."""
        return tuple(self.strides[i][1] if i in self.strides else n for i, n in enumerate(self.view.shape))

    def at(self, index: Sequence[Affine]) -> tuple[Affine, ...]:
        """Where in the view's buffer the element at an index of the selection lies; inside a nest."""
        found = list(index)
        for axis, (start, _, step) in self.strides.items():
            found[axis] = _reached(self.low, start, found[axis], step)
        return self.view.at(found)


def _reached(low: Lowering, start: Affine, i: Affine, step: Affine) -> Affine:
    """The index that so many steps lead to."""
    if step.known is not None:
        return start + i * step.known
    return start + affine(low.let(Apply("multiply", (i, step), INTEGER), "i"))


def _select(
    low: Lowering, node: Node, x: View, template: Any, numbers: Sequence[Location], shape: Sequence[Any] | None
) -> _Selected:
    """The elements that a basic index, with numbers that the program computes, selects."""
    entries = spell_out(template, len(x.shape))
    given = iter(numbers)
    lengths = iter(enumerate(x.shape))
    places: list[Place] = []
    new: list[Affine] = []
    strides: dict[int, tuple[Affine, Affine, Affine]] = {}
    for entry in entries:
        if entry is None:
            new.append(affine(1))
            continue
        axis, length = next(lengths)
        if isinstance(entry, (slice, Strided)):
            start, count, step = _span(low, node, entry, length, None if shape is None else shape[len(new)])
            if step.known is None:
                strides[len(new)] = start, count, step
                start, count = ZERO, length
            places.append((start, ((len(new), step.known or 1),)))
            new.append(count)
        elif entry is ARRAY:
            index = low.number(next(given))
            places.append((_bounded(low, node, x, axis, index), ()))
        else:
            places.append((_bounded(low, node, x, axis, low.length(entry)), ()))
    return _Selected(low, x.seen(places, tuple(new)), strides)


def _bounded(low: Lowering, node: Node, x: View, axis: int, index: Expression) -> Affine:
    """An index along an axis, from the end where it is negative, checked to be one there is."""
    length = x.shape[axis]
    i = low.let(convert(index, INTEGER))
    assert isinstance(i, (Affine, Const))
    i = affine(i)
    if low.known(i):
        low.require(length - 1 - i, node, _no_such_index(axis), i, length)
        return i
    if low.known(i * -1 - 1):
        low.require(i + length, node, _no_such_index(axis), i, length)
        return i + length
    wrapped = low.let(Apply("where", (Apply("less", (i, ZERO), BOOL), i + length, i), INTEGER), "i")
    at = affine(wrapped)
    # Seen as without a sign, what is negative is larger than any length.
    unsigned = np.dtype(np.uint64)
    low.check(
        Apply("less", (Apply("convert", (at,), unsigned), Apply("convert", (length,), unsigned)), BOOL),
        node,
        _no_such_index(axis),
        i,
        length,
    )
    return at


def _no_such_index(axis: int) -> Any:
    def explain(index: Any, length: Any) -> None:
        raise IndexError(f"index {index} is out of bounds for axis {axis} with size {length}")

    return explain


def _span(low: Lowering, node: Node, s: slice | Strided, length: Affine, result: Any) -> tuple[Affine, Affine, Affine]:
    """Where a slice begins, how many indices it has, and its step."""
    if isinstance(s, Strided):
        return low.length(s.start), low.length(s.length), low.length(s.step)
    step = 1 if s.step is None else s.step
    parts = (s.start, s.stop, s.step)
    if length.known is not None and not any(isinstance(p, Dim) for p in parts):
        span = range(*s.indices(length.known))
        return affine(span.start), affine(len(span)), affine(step)
    if isinstance(step, Dim):
        raise _UnknownIndexError
    if s.start is None and s.stop is None:
        if step == 1:
            return ZERO, length, affine(1)
        if step == -1:
            return length - 1, length, affine(-1)
    count = low.length(result) if result is not None else None
    if step != 1:
        raise _UnknownIndexError
    start = ZERO if s.start is None else _end(low, s.start, length)
    stop = length if s.stop is None else _end(low, s.stop, length)
    # Where the bounds are in order the length is a difference; where they may not be, the program is not the one
    # that was staged.
    for x in (start, length - start, stop, length - stop, stop - start):
        low.require(x, node, left_to_the_host, x)
    found = stop - start
    if count is not None and count != found:
        low.check(Apply("equal", (count, found), BOOL), node, left_to_the_host, found)
        found = count
    return start, found, affine(1)


def _end(low: Lowering, bound: Any, length: Affine) -> Affine:
    if isinstance(bound, int):
        return affine(bound) if bound >= 0 else length + bound
    return low.length(bound)


# ------------------------------------------------------------------------------------------------- index arrays


def _layout(template: Any, ndim: int) -> tuple[list[Any], int, bool]:
    """The entries of an index, where the axes of its arrays stand in the result, and whether side by side."""
    entries = list(spell_out(template, ndim))
    places = [i for i, e in enumerate(entries) if e is ARRAY or isinstance(e, int)]
    adjacent = places[-1] - places[0] + 1 == len(places)
    before = sum(1 for e in entries[: places[0]] if e is None or isinstance(e, (slice, Strided))) if adjacent else 0
    return entries, before, adjacent


class _Gathered:
    """An index with arrays: how the elements it selects are found."""

    def __init__(self, low: Lowering, node: Node, x: View, template: Any, arrays: Sequence[Location]) -> None:
        self.low, self.node, self.x = low, node, x
        self.entries, self.before, _ = _layout(template, len(x.shape))
        self.lengths = broadcast_lengths([low.shape(a) for a in arrays])
        self.arrays = [broadcast(a, self.lengths) if isinstance(a, View) else a for a in arrays]
        self.spans: list[tuple[Affine, Affine]] = []
        plain: list[Affine] = []
        axis = 0
        for entry in self.entries:
            if entry is None:
                plain.append(affine(1))
                continue
            if isinstance(entry, (slice, Strided)):
                start, count, step = _span(low, node, entry, x.shape[axis], None)
                self.spans.append((start, step))
                plain.append(count)
            axis += 1
        self.shape = (*plain[: self.before], *self.lengths, *plain[self.before :])

    def check(self) -> None:
        """Check all index arrays before anything is read or written."""
        axis = 0
        arrays = iter(self.arrays)
        for entry in self.entries:
            if entry is None:
                continue
            if entry is ARRAY:
                array = next(arrays)
                if isinstance(array, View):
                    self._check(array, axis)
            axis += 1

    def _check(self, array: View, axis: int) -> None:
        low, length = self.low, self.x.shape[axis]
        least = Buffer(Storage(INTEGER, (), "temporary"), ())
        most = Buffer(Storage(INTEGER, (), "temporary"), ())
        low.do(Store(least, (), ZERO))
        low.do(Store(most, (), affine(-1)))
        # One step along each axis that the array is only repeated along is enough.
        moving = {a for _, steps in array.places for a, step in steps if step}
        shape = tuple(n if a in moving else affine(1) for a, n in enumerate(array.shape))
        with low.nest(shape) as index:
            i = convert(array.load(index), INTEGER)
            low.do(Accumulate("minimum", least, (), i))
            low.do(Accumulate("maximum", most, (), i))
        first, last = low.let(Load(least, ())), low.let(Load(most, ()))
        inside = Apply(
            "logical_and",
            (Apply("greater_equal", (first, length * -1), BOOL), Apply("less", (last, length), BOOL)),
            BOOL,
        )
        low.check(inside, self.node, _no_such_index_among(axis), first, last, length)

    def at(self, index: Sequence[Affine]) -> tuple[Affine, ...]:
        """Where in the array the element at an index of the selection lies; inside a nest."""
        low, k = self.low, len(self.lengths)
        plain = iter((*index[: self.before], *index[self.before + k :]))
        inner = index[self.before : self.before + k]
        arrays, spans = iter(self.arrays), iter(self.spans)
        found: list[Affine] = []
        for entry in self.entries:
            if entry is None:
                next(plain)
                continue
            length = self.x.shape[len(found)]
            if isinstance(entry, (slice, Strided)):
                start, step = next(spans)
                found.append(_reached(low, start, next(plain), step))
            elif entry is ARRAY:
                array = next(arrays)
                if isinstance(array, View):
                    i = low.let(convert(array.load(inner), INTEGER), "i")
                    wrapped = Apply("where", (Apply("less", (i, ZERO), BOOL), affine(i) + length, i), INTEGER)
                    found.append(affine(low.let(wrapped, "i")))
                else:
                    found.append(_bounded(low, self.node, self.x, len(found), array))
            else:
                found.append(_bounded(low, self.node, self.x, len(found), affine(entry)))
        return self.x.at(found)


def _no_such_index_among(axis: int) -> Any:
    def explain(first: Any, last: Any, length: Any) -> None:
        index = last if last >= length else first
        raise IndexError(f"index {index} is out of bounds for axis {axis} with size {length}")

    return explain


def _gathered(
    low: Lowering, node: Node, x: View, template: Any, arrays: Sequence[Location], types: Sequence[Value]
) -> _Gathered | None:
    if any(v.dtype.kind not in "iu" for v in types) or any(isinstance(e, Dim) for e in template):
        return None
    try:
        return _Gathered(low, node, x, template, arrays)
    except _UnknownIndexError:
        return None


def _of_arrays(low: Lowering, node: Node, operands: list[Location]) -> Any:
    x, *arrays = operands
    assert isinstance(x, View)
    by_runs = _by_runs(low, node, x)
    if by_runs is not None:
        return by_runs
    chosen = _gathered(low, node, x, node.params["index"], arrays, node.operands[1:])
    if chosen is None:
        return NotImplemented
    chosen.check()
    return _gather(low, x, chosen)


def _gather(low: Lowering, x: View, chosen: _Gathered | _Selected) -> View:
    made = low.array(x.dtype, chosen.shape)
    with low.nest(chosen.shape) as index:
        low.do(Store(made.buffer, made.at(index), Load(x.buffer, chosen.at(index))))
    return made


_MOST_RUNS = 4
"""The slices by which a selection is made at most."""


def _by_runs(low: Lowering, node: Node, x: View) -> View | None:
    """A selection along one axis whose places are known, by a few slices; None where it is none."""
    entries = list(spell_out(node.params["index"], len(x.shape)))
    index, *others = node.operands[1:]
    if others or not isinstance(index, Literal) or any(isinstance(e, (int, Dim, Strided)) for e in entries):
        return None
    at = entries.index(ARRAY)
    length = x.shape[sum(e is not None for e in entries[:at])].known
    places = np.asarray(index.content)
    if length is None or places.ndim != 1 or not places.size or places.dtype.kind not in "iu":
        return None
    if places.min() < -length or places.max() >= length:
        return None
    slices = _slices(np.where(places < 0, places + length, places).tolist())
    if slices is None:
        return None
    try:
        parts = [_select(low, node, x, (*entries[:at], s, *entries[at + 1 :]), [], None).view for s in slices]
    except _UnknownIndexError:
        return None
    if len(parts) == 1:
        return parts[0]
    shape = (*parts[0].shape[:at], affine(places.size), *parts[0].shape[at + 1 :])
    made, done = low.array(x.dtype, shape), ZERO
    for part in parts:
        with low.nest(part.shape) as inner:
            place = (*inner[:at], inner[at] + done, *inner[at + 1 :])
            low.do(Store(made.buffer, made.at(place), part.load(inner)))
        done = done + part.shape[at]
    return made


def _slices(places: Sequence[int]) -> list[slice] | None:
    """The slices that select some places one after the other; None if there are many."""
    found: list[slice] = []
    at = 0
    while at < len(places):
        if len(found) == _MOST_RUNS:
            return None
        first, count = places[at], 1
        step = places[at + 1] - first if at + 1 < len(places) else 0
        while step and at + count < len(places) and places[at + count] == first + count * step:
            count += 1
        stop = first + count * step if count > 1 else first + 1
        found.append(slice(first, None if stop < 0 else stop, step if count > 1 else 1))
        at += count
    return found


# --------------------------------------------------------------------------------------------------------- writes


def _owned(low: Lowering, x: Location, operands: Sequence[Location]) -> View:
    """An array that may be written: it itself if nothing that is still needed lies in its memory, or a copy."""
    if isinstance(x, View):
        storage = x.storage
        mine = storage.role in ("temporary", "lent") and x.buffer.shape and x.injective
        if mine and (not storage.needed or low.move_out(storage)):
            return x
        return low.fresh(x)
    return low.fresh(x)


@rule("setitem", "add_at")
def _write(low: Lowering, node: Node, operands: list[Location]) -> Any:
    x, value, *numbers = operands
    template = node.params["index"]
    adds = node.op.name == "add_at"
    if value.dtype != x.dtype and not convertible(value.dtype, x.dtype):
        return NotImplemented
    if adds and (x.dtype.kind == "b" or not convertible(value.dtype, x.dtype)):
        return NotImplemented
    if not node.operands[0].shape:
        return _write_number(low, node, operands, adds)
    if any(v.shape for v in node.operands[2:]):
        return _scatter(low, node, operands, adds)
    target = _owned(low, x, operands[1:])
    try:
        chosen = _select(low, node, target, template, numbers, None)
    except _UnknownIndexError:
        return NotImplemented
    if isinstance(value, View):
        fitted = _fitted(value, chosen.shape)
        if value.storage is target.storage and (chosen.strides or not _same(fitted, chosen.view)):
            fitted = _fitted(low.fresh(value), chosen.shape)
        value = fitted
    _fill(low, target, chosen, value, adds)
    return target


def _fitted(value: View, shape: tuple[Affine, ...]) -> View:
    """A value broadcast to the shape it is written to."""
    surplus = len(value.shape) - len(shape)
    if surplus > 0:
        value = value.seen([(ZERO, ())] * surplus + [along(i) for i in range(len(shape))], value.shape[surplus:])
    return broadcast(value, shape)


def _fill(
    low: Lowering, target: View, chosen: _Gathered | _Selected, value: Location, adds: bool, ordered: bool = False
) -> None:
    """Write a value of the shape of a selection, or add it."""
    with low.nest(chosen.shape, ordered) as index:
        at = chosen.at(index)
        new = convert(value.load(index) if isinstance(value, View) else value, target.dtype)
        low.do(Store(target.buffer, at, Apply("add", (Load(target.buffer, at), new), target.dtype) if adds else new))


def _same(a: View, b: View) -> bool:
    return a.buffer.shape == b.buffer.shape and a.places == b.places


def _write_number(low: Lowering, node: Node, operands: list[Location], adds: bool) -> Any:
    x, value, *arrays = operands
    if arrays or any(e is not None and e is not Ellipsis for e in node.params["index"]):
        return NotImplemented
    number = value.load((ZERO,) * len(value.shape)) if isinstance(value, View) else value
    old = low.number(x)
    number = convert(number, x.dtype)
    return low.let(Apply("add", (old, number), x.dtype) if adds else number)


def _scatter(low: Lowering, node: Node, operands: list[Location], adds: bool) -> Any:
    x, value, *arrays = operands
    target = x
    assert isinstance(x, View)
    chosen = _gathered(low, node, x, node.params["index"], arrays, node.operands[2:])
    if chosen is None:
        return NotImplemented
    chosen.check()
    if isinstance(value, View) and value.storage is x.storage:
        value = low.fresh(value)
    chosen.arrays = [low.fresh(a) if isinstance(a, View) and a.storage is x.storage else a for a in chosen.arrays]
    target = _owned(low, x, operands[1:])
    chosen.x = target
    if isinstance(value, View):
        value = _fitted(value, chosen.shape)
    _fill(low, target, chosen, value, adds, ordered=True)
    return target


def linear(index: Sequence[Affine], shape: Sequence[Affine]) -> Affine:
    """Which element of all an index is; only the first length may be unknown."""
    found = ZERO
    for i, n in zip(index, shape, strict=True):
        found = found * (n.known or 0) + i
    return found


@rule("last_writes")
def _last_writes(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """Which elements of a selection are the last at their places: each place remembers who came there last."""
    shape, index = node.params["shape"], node.params["index"]
    entries = [e for e in spell_out(index, len(shape)) if e is not None]
    lengths = [low.length(n) for e, n in zip(entries, shape, strict=True) if e is ARRAY]
    visitors = low.array(INTEGER, tuple(lengths))
    chosen = _gathered(low, node, visitors, (ARRAY,) * len(lengths), operands, node.operands)
    if chosen is None or any(n.known is None for n in chosen.shape[1:]):
        return NotImplemented
    chosen.check()
    made = low.array(BOOL, chosen.shape)

    with low.nest(chosen.shape, ordered=True) as index:
        low.do(Store(visitors.buffer, chosen.at(index), linear(index, chosen.shape)))
    with low.nest(chosen.shape) as index:
        last = Load(visitors.buffer, chosen.at(index))
        low.do(Store(made.buffer, made.at(index), Apply("equal", (last, linear(index, chosen.shape)), BOOL)))
    return made
