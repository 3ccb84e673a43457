"""Lowering of sorting: lanes are sorted by NumPy's own functions, so the order is NumPy's, that of equal elements too.

A lane is copied to where its elements are neighbours, and sorted there.  What follows from an order (order statistics,
distinct elements, means over equal ones) is a loop along the lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ...graph.graph import Node
from .indexing import linear
from .loops import (
    INTEGER,
    Accumulate,
    Affine,
    Apply,
    Buffer,
    Const,
    Expression,
    LibraryCall,
    Load,
    Storage,
    Store,
    affine,
)
from .lower import Location, Lowering, convert, left_to_the_host, rule
from .numpy_functions import ALGORITHMS, sorting_function
from .shaping import BOOL
from .views import ONE, ZERO, Place, View, along

__all__: list[str] = []

_STATUS = np.dtype(np.int32)

_FEW = 512
"""In so many elements all are sorted to know some statistics; in more NumPy selects faster than it sorts."""


def _test(name: str, *x: Expression) -> Expression:
    return Apply(name, x, BOOL)


def _algorithm(name: str, node: Node, x: View) -> str | None:
    """The algorithm that is asked for, where it can be called."""
    kind = node.params["kind"] or "quicksort"
    if node.params["order"] is not None or kind not in ALGORITHMS:
        return None
    return kind if sorting_function(name, kind, x.dtype) is not None and x.dtype.str[1:] != "f2" else None


def _lanes(x: View, axis: int) -> tuple[View, tuple[int, ...]]:
    """An array with an axis moved to the end, and the order of axes that puts it back."""
    order = [i for i in range(len(x.shape)) if i != axis] + [axis]
    return x.transposed(order), tuple(order.index(i) for i in range(len(order)))


def _lane(view: View, at: Sequence[Affine]) -> View:
    """What is along the last axis."""
    places: list[Place] = [(i, ()) for i in at]
    return view.seen([*places, along(0)], view.shape[-1:])


class _Sorting:
    """Calls NumPy's functions, and stops the program where one fails."""

    def __init__(self, low: Lowering, node: Node) -> None:
        self.low, self.node = low, node
        self.failed = low.array(_STATUS, (ONE,))

    def sort(self, name: str, kind: str, *lanes: View) -> None:
        """Sort elements, or positions by elements."""
        low = self.low
        low.do(LibraryCall(f"{name}.{kind}", lanes, self.failed))
        low.check(_test("equal", convert(self.failed.load((ZERO,)), INTEGER), ZERO), self.node, left_to_the_host)

    def elements(self, x: View, kind: str) -> View:
        """A sorted copy along the last axis."""
        made = self.low.array(x.dtype, x.shape)
        self.low.copy(made, x)
        with self.low.nest(x.shape[:-1], ordered=True) as at:
            self.sort("sort", kind, _lane(made, at))
        return made

    def positions(self, keys: Sequence[View], kind: str) -> View:
        """The order of elements along the last axis: by the last keys, where these are equal by those before them."""
        low = self.low
        shape = keys[0].shape
        made = low.array(INTEGER, shape)
        rooms = [low.array(key.dtype, shape[-1:]) for key in keys]
        with low.nest(shape[:-1], ordered=True) as at:
            order = _lane(made, at)
            with low.nest(order.shape) as (i,):
                low.do(Store(order.buffer, order.at((i,)), i))
            for key, room in zip(keys, rooms, strict=True):
                low.copy(room, _lane(key, at))
                self.sort("argsort", kind, room, order)
        return made


# ----------------------------------------------------------------------------------------------- elements and positions


@rule("sort", "argsort")
def _sort(low: Lowering, node: Node, operands: list[Location]) -> Any:
    x, name = low.view(operands[0]), node.op.name
    kind = _algorithm(name, node, x) if low.libraries else None
    if kind is None:
        return NotImplemented
    x, back = _lanes(x, node.params["axis"])
    sorting = _Sorting(low, node)
    found = sorting.elements(x, kind) if name == "sort" else sorting.positions([x], kind)
    return found.transposed(back)


@rule("lexsort")
def _lexsort(low: Lowering, node: Node, operands: list[Location]) -> Any:
    keys = [low.view(x) for x in operands]
    if not low.libraries or any(sorting_function("argsort", "stable", key.dtype) is None for key in keys):
        return NotImplemented
    if any(key.dtype.str[1:] == "f2" or key.shape != keys[0].shape for key in keys):
        return NotImplemented
    moved = [_lanes(key, node.params["axis"]) for key in keys]
    return _Sorting(low, node).positions([x for x, _ in moved], "stable").transposed(moved[0][1])


@rule("order_statistics")
def _order_statistics(low: Lowering, node: Node, operands: list[Location]) -> Any:
    x = low.view(operands[0])
    n = x.shape[node.params["axis"]].known
    if not low.libraries or n is None or n > _FEW or x.dtype.str[1:] == "f2":
        return NotImplemented
    if sorting_function("sort", "quicksort", x.dtype) is None:
        return NotImplemented
    x, back = _lanes(x, node.params["axis"])
    ordered = _Sorting(low, node).elements(x, "quicksort")
    chosen = node.params["kth"]
    made = low.array(x.dtype, (*x.shape[:-1], affine(len(chosen))))
    with low.nest(x.shape[:-1]) as at:
        for place, k in enumerate(chosen):
            low.do(Store(made.buffer, made.at((*at, affine(place))), ordered.load((*at, affine(k % n)))))
    return made.transposed(back)


# ------------------------------------------------------------------------------------------------------ equal elements


def _cell(low: Lowering, start: Expression) -> Buffer:
    cell = Buffer(Storage(start.dtype, (), "temporary"), ())
    low.do(Store(cell, (), start))
    return cell


@rule("average_ties")
def _average_ties(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """Running totals along a lane up to each element, from the first that is equal to it; means on the way back."""
    dtype, axis = node.results[0].dtype, node.params["axis"]
    t, keys = (_lanes(low.view(x), axis)[0] for x in operands)
    back = _lanes(low.view(operands[0]), axis)[1]
    if dtype.kind != "f" or dtype.itemsize < 4 or keys.dtype.kind not in "biuf" or keys.dtype.str[1:] == "f2":
        return NotImplemented
    if t.shape != keys.shape:
        return NotImplemented
    made, n = low.array(dtype, t.shape), t.shape[-1]
    totals, counts = (low.array(d, (n,)) for d in (dtype, INTEGER))
    one, nothing = Const(1, INTEGER), Const(dtype.type(0), dtype)

    def alike(at: Sequence[Affine], i: Affine, j: Affine) -> Expression:
        return _test("equal", keys.load((*at, i)), keys.load((*at, j)))

    with low.nest(t.shape[:-1], ordered=True) as at:
        total, count = _cell(low, nothing), _cell(low, ZERO)
        with low.nest((n,), ordered=True) as (i,):
            before = affine(low.let(Apply("maximum", (i - 1, ZERO), INTEGER)))
            goes_on = low.let(_test("logical_and", _test("greater", i, ZERO), alike(at, i, before)))
            sum = Apply("add", (Load(total, ()), t.load((*at, i))), dtype)
            low.do(Store(total, (), Apply("where", (goes_on, sum, t.load((*at, i))), dtype)))
            low.do(
                Store(count, (), Apply("where", (goes_on, Apply("add", (Load(count, ()), one), INTEGER), one), INTEGER))
            )
            low.do(Store(totals.buffer, (i,), Load(total, ())))
            low.do(Store(counts.buffer, (i,), Load(count, ())))
        mean = _cell(low, nothing)
        with low.nest((n,), ordered=True) as (k,):
            i = n - 1 - k
            after = affine(low.let(Apply("minimum", (i + 1, n - 1), INTEGER)))
            goes_on = _test("logical_and", _test("less", i, n - 1), alike(at, i, after))
            own = Apply("divide", (totals.load((i,)), convert(counts.load((i,)), dtype)), dtype)
            low.do(Store(mean, (), Apply("where", (goes_on, Load(mean, ()), own), dtype)))
            low.do(Store(made.buffer, made.at((*at, i)), Load(mean, ())))
    return made.transposed(back)


class _Distinct:
    """A flattened array in order: which elements differ from the one before them."""

    def __init__(self, low: Lowering, node: Node, x: View) -> None:
        n = x.shape[0] * prod(m.known or 0 for m in x.shape[1:]) if x.shape else ONE
        self.low, self.flat = low, low.array(x.dtype, (n,))
        with low.nest(x.shape) as index:
            low.do(Store(self.flat.buffer, (linear(index, x.shape),), x.load(index)))
        self.order = _Sorting(low, node).positions([self.flat], "stable")

    def fresh(self, i: Affine) -> Expression:
        """Whether an element is none of those before; all that are no number count as one."""
        low = self.low
        before = affine(low.let(Apply("maximum", (i - 1, ZERO), INTEGER)))
        places = [affine(low.let(self.order.load((k,)))) for k in (i, before)]
        x, y = (low.let(self.flat.load((k,))) for k in places)
        differs = _test("not_equal", x, y)
        if x.dtype.kind == "f":
            missing = _test("logical_and", _test("isnan", x), _test("isnan", y))
            differs = _test("logical_and", differs, _test("logical_not", missing))
        return low.let(_test("logical_or", differs, _test("equal", i, ZERO)))


@rule("distinct_count", "distinct_positions")
def _distinct(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The first places of elements that are in no place before."""
    x = low.view(operands[0])
    if _unsuitable(x) or not low.libraries or sorting_function("argsort", "stable", x.dtype) is None:
        return NotImplemented
    found = _Distinct(low, node, x)

    def fresh(index: Sequence[Affine]) -> Expression:
        return found.fresh(index[0])

    return _selected(low, node, found.flat.shape, fresh, lambda index: found.order.load(index))


# ----------------------------------------------------------------------------------------------------------- selection


@rule("nonzero_count", "nonzero_positions")
def _nonzero(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The places of elements that are not zero."""
    x = low.view(operands[0])
    if _unsuitable(x):
        return NotImplemented

    def chosen(index: Sequence[Affine]) -> Expression:
        return convert(x.load(index), BOOL)

    return _selected(low, node, x.shape, chosen, lambda index: linear(index, x.shape))


def _unsuitable(x: View) -> bool:
    """Whether an array cannot be gone through in order, element by element."""
    return x.dtype.kind not in "biuf" or x.dtype.str[1:] == "f2" or any(n.known is None for n in x.shape[1:])


def _selected(
    low: Lowering,
    node: Node,
    shape: tuple[Affine, ...],
    chosen: Callable[[Sequence[Affine]], Expression],
    element: Callable[[Sequence[Affine]], Expression],
) -> Location:
    """How many of some elements are chosen, or as many of them as the node says that there are."""
    count = _cell(low, ZERO)
    if "count" not in node.params:
        with low.nest(shape) as index:
            low.do(Accumulate("add", count, (), convert(chosen(index), INTEGER)))
        return low.let(Load(count, ()))
    room = low.length(node.params["count"])
    # What is not chosen is written too, to where the next one will be; behind the last there is room for it.
    made = low.array(INTEGER, (room + 1,))
    low.copy(made, ZERO)
    with low.nest(shape, ordered=True) as index:
        k = affine(low.let(Apply("minimum", (Load(count, ()), room), INTEGER)))
        low.do(Store(made.buffer, (k,), element(index)))
        low.do(Store(count, (), Apply("add", (k, convert(chosen(index), INTEGER)), INTEGER)))
    return made.seen([along(0)], (room,))
