"""Lowering of tables: finding the interval a value lies in, interpolating between points, counting into bins.

A search halves a table whose length is known in as many steps, without branches: so many values are looked up at once,
by threads and by vector instructions.  Where the length is not known it counts its steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph.graph import Node
from .loops import INTEGER, Accumulate, Affine, Apply, Buffer, Const, Expression, Load, Storage, Store, affine
from .lower import Location, Lowering, convert, left_to_the_host, rule
from .shaping import BOOL
from .views import ZERO, View

__all__: list[str] = []

_DOUBLE = np.dtype(float)


def _test(name: str, *x: Expression) -> Expression:
    return Apply(name, x, BOOL)


def _less(a: Expression, b: Expression) -> Expression:
    """Whether a number is before another in order: what is no number comes last."""
    if a.dtype.kind != "f":
        return _test("less", a, b)
    last = _test("logical_and", _test("isnan", b), _test("logical_not", _test("isnan", a)))
    return _test("logical_or", _test("less", a, b), last)


def _arithmetic(*dtypes: np.dtype[Any]) -> bool:
    return all(d.kind in "biuf" and d.str[1:] != "f2" and d.itemsize <= 8 for d in dtypes)


class _Search:
    """Finds out how many of some elements in order there are up to the first for which a search does not go on."""

    def __init__(self, low: Lowering, n: Affine) -> None:
        self.low, self.n = low, n
        self._steps = ZERO
        if n.known is None:
            # As many steps as the length has bits.
            cell = Buffer(Storage(INTEGER, (), "temporary"), ())
            low.do(Store(cell, (), ZERO))
            with low.nest((affine(63),)) as (bit,):
                some = _test("greater", Apply("right_shift", (n, bit), INTEGER), ZERO)
                low.do(Accumulate("add", cell, (), convert(some, INTEGER)))
            self._steps = affine(low.let(Load(cell, ())))

    def count(self, goes_on: Callable[[Affine], Expression]) -> Affine:
        """That number; `goes_on` says it of the element at a place."""
        low, n = self.low, self.n.known
        if n is None:
            return self._count_in_order(goes_on)
        if not n:
            return ZERO
        base = ZERO
        while n > 1:
            half = n // 2
            further = Apply("where", (goes_on(base + (half - 1)), base + half, base), INTEGER)
            base = affine(low.let(further))
            n -= half
        return affine(low.let(Apply("add", (base, convert(goes_on(base), INTEGER)), INTEGER)))

    def _count_in_order(self, goes_on: Callable[[Affine], Expression]) -> Affine:
        low = self.low
        start, rest = (Buffer(Storage(INTEGER, (), "temporary"), ()) for _ in range(2))
        low.do(Store(start, (), ZERO))
        low.do(Store(rest, (), self.n))
        with low.nest((self._steps,), ordered=True):
            base, size = (affine(low.let(Load(cell, ()))) for cell in (start, rest))
            half = affine(low.let(Apply("right_shift", (size, affine(1)), INTEGER)))
            middle = affine(low.let(Apply("minimum", (base + half, self.n - 1), INTEGER)))
            further = low.let(_test("logical_and", _test("greater", size, ZERO), goes_on(middle)))
            low.do(Store(start, (), Apply("where", (further, base + half + 1, base), INTEGER)))
            low.do(Store(rest, (), Apply("where", (further, size - half - 1, half), INTEGER)))
        return affine(low.let(Load(start, ())))


def _each(low: Lowering, node: Node, x: Location, function: Callable[[Expression], Expression]) -> Location:
    """A function of each value."""
    if not node.results[0].shape:
        return low.let(function(low.number(x)))
    return low.map(function, [x], node.results[0].dtype)


@rule("searchsorted", "digitize")
def _lookup(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """How many elements of a table are before a value, or not after it."""
    x, table = operands[0], low.view(operands[1])
    if not _arithmetic(x.dtype, table.dtype):
        return NotImplemented
    dtype = np.promote_types(x.dtype, table.dtype)
    if not _arithmetic(dtype):
        return NotImplemented
    if node.op.name == "searchsorted":
        equal_too = node.params["side"] == "right"
    else:
        equal_too = not node.params["right"]
        _require_order(low, node, table)
    search = _Search(low, table.shape[0])

    def place(value: Expression) -> Expression:
        value = low.let(convert(value, dtype))

        def goes_on(i: Affine) -> Expression:
            entry = convert(table.load((i,)), dtype)
            return _test("logical_not", _less(value, entry)) if equal_too else _less(entry, value)

        return search.count(goes_on)

    return _each(low, node, x, place)


def _require_order(low: Lowering, node: Node, table: View) -> None:
    """Leave bins that do not increase to the host."""
    cell = Buffer(Storage(BOOL, (), "temporary"), ())
    low.do(Store(cell, (), Const(True, BOOL)))
    with low.nest((table.shape[0] - 1,) if table.shape[0] != ZERO else (ZERO,)) as (i,):
        increases = _test("less_equal", table.load((i,)), table.load((i + 1,)))
        low.do(Accumulate("logical_and", cell, (), increases))
    low.check(Load(cell, ()), node, left_to_the_host)


@rule("interp")
def _interp(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """Straight lines between the points of a table."""
    x, *points = operands
    if not _arithmetic(*(v.dtype for v in operands)):
        return NotImplemented
    table, heights = (low.view(v) for v in points)
    n = table.shape[0].known
    if not n or heights.shape != table.shape:
        return NotImplemented

    search = _Search(low, table.shape[0])

    def entry(of: View, i: Affine) -> Expression:
        return low.let(convert(of.load((i,)), _DOUBLE))

    def combine(name: str, *parts: Expression) -> Expression:
        return low.let(Apply(name, parts, _DOUBLE))

    def height(value: Expression) -> Expression:
        value, first = low.let(convert(value, _DOUBLE)), entry(heights, ZERO)
        if n == 1:
            return first
        after = search.count(lambda i: _test("greater_equal", value, convert(table.load((i,)), _DOUBLE)))
        left = affine(low.let(Apply("minimum", (Apply("maximum", (after - 1, ZERO), INTEGER), affine(n - 2)), INTEGER)))
        (x0, x1), (y0, y1) = ([entry(of, left + k) for k in range(2)] for of in (table, heights))
        slope = combine("divide", combine("subtract", y1, y0), combine("subtract", x1, x0))

        def along(x: Expression, y: Expression) -> Expression:
            return combine("add", combine("multiply", slope, combine("subtract", value, x)), y)

        # From the other point, where infinite ones leave no number; and between equal heights it is that height.
        found = along(x0, y0)
        other = along(x1, y1)
        level = Apply("where", (_test("equal", y0, y1), y0, other), _DOUBLE)
        other = Apply("where", (_test("isnan", other), level, other), _DOUBLE)
        found = Apply("where", (_test("isnan", found), other, found), _DOUBLE)
        found = Apply("where", (_test("equal", x0, value), y0, found), _DOUBLE)
        found = Apply(
            "where", (_test("greater_equal", after, affine(n)), entry(heights, affine(n - 1)), found), _DOUBLE
        )
        found = Apply("where", (_test("equal", after, ZERO), first, found), _DOUBLE)
        return Apply("where", (_test("isnan", value), value, found), _DOUBLE)

    return _each(low, node, x, height)


@rule("bincount")
def _bincount(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The sums of weights by position."""
    weights, positions = (low.view(x) for x in operands)
    if not _arithmetic(weights.dtype) or positions.dtype.kind not in "iu" or weights.shape != positions.shape:
        return NotImplemented
    if node.results[0].dtype != _DOUBLE:
        return NotImplemented
    length = low.length(node.params["length"])
    inside = Buffer(Storage(BOOL, (), "temporary"), ())
    low.do(Store(inside, (), Const(True, BOOL)))
    made = low.array(_DOUBLE, (length,))
    low.copy(made, Const(0.0, _DOUBLE))
    with low.nest(positions.shape) as at:
        position = low.let(convert(positions.load(at), INTEGER))
        within = _test("logical_and", _test("greater_equal", position, ZERO), _test("less", position, length))
        low.do(Accumulate("logical_and", inside, (), within))
    low.check(Load(inside, ()), node, left_to_the_host)
    with low.nest(positions.shape, ordered=True) as at:
        place = (affine(low.let(convert(positions.load(at), INTEGER))),)
        sum = Apply("add", (Load(made.buffer, place), convert(weights.load(at), _DOUBLE)), _DOUBLE)
        low.do(Store(made.buffer, place, sum))
    return made
