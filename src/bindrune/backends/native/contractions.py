"""Contractions of two operands as products of matrices, for the library.

Each label of a contraction is one of rows, of columns, summed, or of a stack.  The library is handed one matrix of each
operand: as it lies, if each group of labels goes along memory in even steps, or else *packed*, copied into room that
is used again for the next one.  So whatever a view shows can be multiplied: windows that overlap, axes that lie apart.
Labels may also become loops around the call, which keeps what is packed small, and results where they belong.  Of all
ways the one with the least to copy and the fewest calls is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from operator import itemgetter
from typing import NamedTuple

from .loops import Affine, Buffer, Const, LibraryCall, Storage, Store
from .lower import Lowering
from .views import ZERO, Place, View, along, whole

__all__ = ["contracted"]

_WORTH_A_CALL = 24**3
"""The multiplications from which on a product of matrices is left to the library."""

_CALL = 500
"""What a call costs, in elements that could be copied meanwhile."""

_CACHED = 1 << 18
"""The elements of a packed matrix that stay in the cache."""

Lengths = Mapping[str, Affine]


class _Operand(NamedTuple):
    """An array and the labels of its axes."""

    view: View
    labels: str


class _Way(NamedTuple):
    """How to multiply: the loops around the call, and the labels of what is multiplied."""

    loops: str
    """Those of the stack and of the result first, then `summed_outside`."""
    rows: str
    summed: str
    columns: str
    summed_outside: str
    layout: str
    """The order of the result's labels in memory."""


def contracted(
    low: Lowering, views: Sequence[View], labels: Sequence[str], output: str, lengths: Lengths
) -> View | None:
    """The contraction of two operands of one type by the library; None if it is nothing for it."""
    a, b = (_without_ones(view, names) for view, names in zip(views, labels, strict=True))
    result = "".join(label for label in output if lengths[label].known != 1)
    way = _cheapest(a, b, result, lengths)
    if way is None:
        return None
    made = low.array(views[0].dtype, tuple(lengths[label] for label in way.layout))
    _multiply(low, way, a, b, made, lengths)
    places = [along(output.index(label)) for label in way.layout]
    return made.seen(places, tuple(lengths[label] for label in output))


def _without_ones(view: View, labels: str) -> _Operand:
    """An operand without its axes of length one."""
    kept = [i for i, n in enumerate(view.shape) if n.known != 1]
    places: list[Place] = [along(kept.index(i)) if i in kept else (ZERO, ()) for i in range(len(labels))]
    return _Operand(view.seen(places, tuple(view.shape[i] for i in kept)), "".join(labels[i] for i in kept))


def _size(labels: str, lengths: Lengths) -> int:
    """About how many elements there are for some labels."""
    return prod(lengths[label].guess for label in labels)


# ----------------------------------------------------------------------------------------------------------- planning


def _cheapest(a: _Operand, b: _Operand, output: str, lengths: Lengths) -> _Way | None:
    """The cheapest way to multiply two operands; None where a call is not worth it."""
    if any(len(set(labels)) < len(labels) for labels in (a.labels, b.labels)):
        return None
    if any((label in a.labels) + (label in b.labels) + (label in output) < 2 for label in a.labels + b.labels):
        return None
    ways = [way for way in _ways(a.labels, b.labels, output) if _worthwhile(way, lengths)]
    costs = [(_cost(way, a, b, output, lengths), way) for way in ways]
    return min(((cost, way) for cost, way in costs if cost is not None), default=(0, None), key=itemgetter(0))[1]


def _ways(a: str, b: str, output: str) -> Iterator[_Way]:
    """All ways in which labels may be divided among loops and matrices."""
    stack = "".join(label for label in output if label in a and label in b)
    own = "".join(label for label in output if label not in stack)
    for source in (a, b):
        summed = "".join(label for label in source if label in a and label in b and label not in output)
        for p in range(len(own)):
            rows, columns = ("".join(label for label in own[p:] if label in side) for side in (a, b))
            for q in range(len(summed)):
                if rows and columns:
                    outside = summed[:q]
                    yield _Way(stack + own[:p] + outside, rows, summed[q:], columns, outside, output)
        rows, columns = ("".join(label for label in side if label in own) for side in (a, b))
        if rows and columns and summed:
            yield _Way(stack, rows, summed, columns, "", stack + rows + columns)


def _worthwhile(way: _Way, lengths: Lengths) -> bool:
    """Whether a call does enough, and the lengths of what becomes one axis are known."""
    groups = (way.rows, way.summed, way.columns)
    if any(len(group) > 1 and any(lengths[label].known is None for label in group) for group in groups):
        return False
    return _size("".join(groups), lengths) >= _WORTH_A_CALL


def _cost(way: _Way, a: _Operand, b: _Operand, output: str, lengths: Lengths) -> int | None:
    """What a way costs beside the multiplications: elements that are copied, and calls; None where it is none."""
    room = Storage(a.view.dtype, tuple(lengths[label] for label in way.layout), "temporary")
    if _as_matrices(_Operand(whole(Buffer(room, room.shape)), way.layout), way.loops, way.rows, way.columns) is None:
        return None
    found = _CALL * _size(way.loops, lengths)
    for operand, groups in ((a, (way.rows, way.summed)), (b, (way.summed, way.columns))):
        if _as_matrices(operand, way.loops, *groups) is None:
            copied = _size(operand.labels, lengths)
            found += copied if _size("".join(groups), lengths) <= _CACHED else 2 * copied
    return found + (0 if way.layout == output else 2 * _size(output, lengths))


# ------------------------------------------------------------------------------------------------- matrices in memory


def _as_matrices(operand: _Operand, loops: str, first: str, second: str) -> View | None:
    """An operand as it lies as matrices, behind the axes of loops; None where it is none."""
    view, labels = operand
    around = [label for label in loops if label in labels]
    seen: View | None = view.transposed([labels.index(label) for label in (*around, *first, *second)])
    for axis, group in ((len(around), first), (len(around) + 1, second)):
        for _ in group[1:]:
            seen = None if seen is None else _joined(seen, axis)
    return seen if seen is not None and _strided(seen) else None


def _joined(view: View, axis: int) -> View | None:
    """A view with an axis and the next one as one; None if memory does not have them side by side."""
    moves = [
        [(d, step, len(steps)) for d, (_, steps) in enumerate(view.places) for other, step in steps if other == i]
        for i in (axis, axis + 1)
    ]
    if [len(found) for found in moves] != [1, 1]:
        return None
    ((d, *outer),), ((e, *inner),) = moves
    shape, (start, _) = view.buffer.shape, view.places[e]
    count = shape[e].known
    if outer != [1, 1] or inner != [1, 1] or e != d + 1 or start != ZERO or shape[e] != view.shape[axis + 1]:
        return None
    if count is None:
        return None
    buffer = Buffer(view.storage, (*shape[:d], shape[d] * count, *shape[e + 1 :]))
    places = [
        (begin * count if i == d else begin, tuple((other - (other > axis), step) for other, step in steps))
        for i, (begin, steps) in enumerate(view.places)
        if i != e
    ]
    lengths = (*view.shape[:axis], view.shape[axis] * count, *view.shape[axis + 2 :])
    return View(buffer, tuple(places), lengths)


def _strided(view: View) -> bool:
    """Whether one of the last two axes of a view goes along memory, and the other in steps of whole rows."""
    moves: dict[int, list[tuple[int, int]]] = {}
    for d, (_, steps) in enumerate(view.places):
        for axis, step in steps:
            moves.setdefault(axis, []).append((d, step))
    last, (first, second) = len(view.places) - 1, (len(view.shape) - 2, len(view.shape) - 1)
    for inner, outer in ((second, first), (first, second)):
        if moves.get(inner) == [(last, 1)] and len(moves.get(outer, ())) == 1:
            ((d, step),) = moves[outer]
            return d < last and step > 0
    return False


def _runs_along(view: View, axis: int) -> bool:
    """Whether an axis of a view, counted from the end, is the only one along the last dimension of memory."""
    return view.places[-1][1] == ((len(view.shape) - axis, 1),)


# -------------------------------------------------------------------------------------------------------- multiplying


class _Factor:
    """An operand of the library's, matrix by matrix: where it lies, or in room that it is copied to."""

    def __init__(self, low: Lowering, operand: _Operand, way: _Way, groups: tuple[str, str], lengths: Lengths) -> None:
        self.low, self.operand, self.groups, self.lengths = low, operand, groups, lengths
        self.loops = [label for label in way.loops if label in operand.labels]
        self.depth = max((way.loops.index(label) + 1 for label in self.loops), default=0)
        self.lies = _as_matrices(operand, way.loops, *groups)
        self.room: View | None = None
        if self.lies is None:
            self.pack(self._inner())

    def _inner(self) -> int:
        """Which group goes along memory when the operand is packed: that of its longest axis that does so now."""
        view, labels = self.operand
        moving = [axis for axis, step in view.places[-1][1] if step == 1] if view.places else []
        longest = max(moving, key=lambda axis: _size(labels[axis], self.lengths), default=None)
        return 0 if longest is not None and labels[longest] in self.groups[0] else 1

    def pack(self, inner: int) -> None:
        """Make room for one matrix, in which the labels of one group go along memory."""
        self.lies, self.inner = None, inner
        self.order = self.groups[1 - inner] + self.groups[inner]
        shape = tuple(self.lengths[label] for label in self.order)
        self.room = self.low.array(self.operand.view.dtype, shape)

    def copy(self, at: Mapping[str, Affine]) -> None:
        """Copy a matrix, if that is needed."""
        if self.room is not None:
            view, labels = self.operand
            with self.low.nest(self.room.shape) as index:
                inside = {**at, **dict(zip(self.order, index, strict=True))}
                x = view.load([inside[label] for label in labels])
                self.low.do(Store(self.room.buffer, self.room.at(index), x))

    def matrix(self, at: Mapping[str, Affine]) -> View:
        """A matrix."""
        if self.lies is not None:
            around: list[Place] = [(at[label], ()) for label in self.loops]
            return self.lies.seen([*around, along(0), along(1)], self.lies.shape[-2:])
        assert self.room is not None
        sides = [_product(self.lengths[label] for label in self.groups[i]) for i in (1 - self.inner, self.inner)]
        flat = whole(Buffer(self.room.storage, tuple(sides)))
        return flat if self.inner else flat.transposed((1, 0))


def _product(lengths: Iterator[Affine]) -> Affine:
    total = next(lengths)
    for n in lengths:
        total = total * (n.known or 0)
    return total


_SMALL = 10**6
"""The multiplications up to which the library does not bring matrices into an order of its own first."""

_MANY_ROWS = 32
"""The rows of a small product from which on another order of the right factor is worth a copy."""


def _is_slow(left: _Factor, right: _Factor, lengths: Lengths) -> bool:
    """Whether a small product would be one of dot products, as the summed axis goes along memory on both sides."""
    labels = {*left.groups[0], *left.groups[1], *right.groups[1]}
    if left.lies is None or right.lies is None or any(lengths[label].known is None for label in labels):
        return False
    if _size(left.groups[0], lengths) < _MANY_ROWS or _size("".join(labels), lengths) > _SMALL:
        return False
    return _runs_along(left.lies, 1) and _runs_along(right.lies, 2)


def _multiply(low: Lowering, way: _Way, a: _Operand, b: _Operand, made: View, lengths: Lengths) -> None:
    """Call the library for each pair of matrices."""
    result = _Operand(made, way.layout)
    rows, columns = way.rows, way.columns
    found = _as_matrices(result, way.loops, rows, columns)
    assert found is not None
    if not _runs_along(found, 1):
        # The transpose of a product is the product of the transposes, the other way round.
        a, b, rows, columns = b, a, columns, rows
    left = _Factor(low, a, way, (rows, way.summed), lengths)
    right = _Factor(low, b, way, (way.summed, columns), lengths)
    product = _Factor(low, result, way, (rows, columns), lengths)
    if _is_slow(left, right, lengths):
        right.pack(1)
    if way.summed_outside:
        with low.nest(made.shape) as index:
            low.do(Store(made.buffer, made.at(index), Const(made.dtype.type(0), made.dtype)))
    factors = [factor for factor in (left, right) if factor.room is not None]
    at: dict[str, Affine] = {}
    with ExitStack() as nests:
        for depth in range(len(way.loops) + 1):
            for factor in factors:
                if factor.depth == depth:
                    factor.copy(at)
            if depth < len(way.loops):
                label = way.loops[depth]
                ordered = bool(factors or way.summed_outside)
                (at[label],) = nests.enter_context(low.nest((lengths[label],), ordered=ordered))
        name = "gemm_add" if way.summed_outside else "gemm"
        low.do(LibraryCall(name, (left.matrix(at), right.matrix(at)), product.matrix(at)))
