"""Lowering of operations that are a few nests: shares of extremes, positions, variances, logarithms of sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ...graph.graph import Node
from .formats import arithmetic, numeric
from .loops import INTEGER, Affine, Apply, Const, Expression, affine
from .lower import Location, Lowering, convert, rule
from .neutral import neutral
from .reductions import accumulated, kept
from .shaping import BOOL
from .views import View, broadcast

__all__: list[str] = []


def _floats(*locations: Location) -> bool:
    return all(x.dtype.kind == "f" and x.dtype.itemsize in (4, 8) for x in locations)


def _test(name: str, *x: Expression) -> Expression:
    return Apply(name, x, BOOL)


def _axes(node: Node, x: View) -> tuple[int, ...]:
    axis = node.params["axis"]
    if axis is None:
        return tuple(range(len(x.shape)))
    return axis if isinstance(axis, tuple) else (axis,)


def _number(value: Any, dtype: np.dtype[Any]) -> Const:
    return Const(dtype.type(value), dtype)


# ----------------------------------------------------------------------------------------------- shares of extremes


@rule("share_of")
def _share_of(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The part of an extreme of two that comes from the first: ties share equally."""
    dtype = node.results[0].dtype
    if not _floats(*operands) or dtype.kind != "f":
        return NotImplemented
    smaller, present = node.params["smaller"], node.params["present"]
    wins = "less_equal" if smaller else "greater_equal"

    def share(a: Expression, b: Expression) -> Expression:
        a, b = convert(a, dtype), convert(b, dtype)
        first, second = (b, a) if present else (a, b)
        chosen = _test("logical_or", _test(wins, a, b), _test("isnan", first))
        rival = _test("logical_or", _test(wins, b, a), _test("isnan", second))
        part = Apply("where", (rival, _number(0.5, dtype), _number(1, dtype)), dtype)
        return Apply("where", (chosen, part, _number(0, dtype)), dtype)

    if not node.results[0].shape:
        return low.let(share(*map(low.number, operands)))
    return low.map(share, operands, dtype)


def _attains(x: Expression, y: Expression) -> Expression:
    """Whether an element is an extreme; NaN attains NaN."""
    same = _test("equal", x, y)
    if x.dtype.kind != "f":
        return same
    return _test("logical_or", same, _test("logical_and", _test("isnan", x), _test("isnan", y)))


@rule("attained")
def _attained(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """Which elements attain an extreme, and how many do in each group."""
    x, y, *rest = operands
    where, initial = (*rest, None, None)[:2]
    if x.dtype != y.dtype or not arithmetic(x.dtype) or not isinstance(x, View):
        return NotImplemented
    if where is not None and (where.dtype.kind != "b" or len(low.shape(where)) > len(x.shape)):
        return NotImplemented
    axes, count = _axes(node, x), node.results[1]

    def chosen(a: Expression, b: Expression, *flag: Expression) -> Expression:
        found = _attains(a, b)
        return _test("logical_and", found, *flag) if flag else found

    which = low.map(chosen, [x, y] if where is None else [x, y, where], BOOL)
    dtype = count.dtype
    total = accumulated(
        low, "add", which, axes, lambda index: convert(which.load(index), dtype), _number(0, dtype), dtype
    )
    total = kept(total, x.shape, axes)
    if initial is not None:
        number = convert(low.number(initial), y.dtype)
        total = low.map(lambda n, b: Apply("add", (n, convert(_attains(number, b), dtype)), dtype), [total, y], dtype)
    return [which, low.let(total.load((affine(0),) * len(x.shape))) if not count.shape else total]


@rule("deal")
def _deal(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """Each group's share to all who are chosen in it, and zero to the others."""
    dtype = node.results[0].dtype
    if not numeric(dtype) or operands[1].dtype.kind != "b":
        return NotImplemented
    return low.map(lambda share, c: Apply("where", (c, share, _number(0, dtype)), dtype), operands, dtype)


@rule("argmax", "argmin")
def _position(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The first position of an extreme, or of a NaN."""
    (x,) = operands
    if not isinstance(x, View) or not arithmetic(x.dtype):
        return NotImplemented
    axes = _axes(node, x)
    lengths = [x.shape[i].known for i in axes]
    if None in lengths or not prod(n or 0 for n in lengths):
        return NotImplemented
    most = affine(prod(n or 0 for n in lengths))
    attains = _attained_by(low, x, axes, "maximum" if node.op.name == "argmax" else "minimum")

    def place(index: Sequence[Affine]) -> Expression:
        position = affine(0)
        for i in axes:
            position = position * (x.shape[i].known or 0) + index[i]
        return Apply("where", (attains(index), position, most), INTEGER)

    found = accumulated(low, "minimum", x, axes, place, most, INTEGER)
    if x.dtype.kind == "b":
        # Without such a flag all are alike, and the first is the extreme.
        found = low.map(lambda p: Apply("where", (_test("less", p, most), p, affine(0)), INTEGER), [found], INTEGER)
    if not node.results[0].shape:
        return low.let(found.load((affine(0),) * len(found.shape)))
    return kept(found, x.shape, axes) if node.params["keepdims"] else found


def _attained_by(low: Lowering, x: View, axes: Sequence[int], combine: str) -> Callable[[Sequence[Affine]], Expression]:
    """Which elements are extremes."""
    if x.dtype.kind == "b":
        return x.load if combine == "maximum" else lambda index: _test("logical_not", x.load(index))
    extreme = accumulated(low, combine, x, axes, x.load, _first_of(low, x, axes, combine), x.dtype)
    spread = broadcast(kept(extreme, x.shape, axes), x.shape)
    return lambda index: _attains(x.load(index), spread.load(index))


def _first_of(low: Lowering, x: View, axes: Sequence[int], combine: str) -> Expression:
    """What an extreme starts from."""
    return _number(neutral(combine, x.dtype), x.dtype)


# -------------------------------------------------------------------------------------------- several passes over rows


@rule("var")
def _var(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The mean of squared distances from the mean."""
    x = low.view(operands[0])
    dtype = node.results[0].dtype
    if len(operands) > 1 or not arithmetic(x.dtype) or (not _floats(x) and x.dtype.kind == "f") or dtype.kind != "f":
        return NotImplemented
    axes = _axes(node, x)
    lengths = [x.shape[i].known for i in axes]
    ddof = node.params["ddof"]
    if None in lengths or not isinstance(ddof, (int, float)) or dtype.itemsize == 2:
        return NotImplemented
    count = prod(n or 0 for n in lengths)
    if not count:
        return NotImplemented
    zero = _number(0, dtype)
    total = accumulated(low, "add", x, axes, lambda index: convert(x.load(index), dtype), zero, dtype)
    mean = low.map(lambda s: Apply("divide", (s, _number(count, dtype)), dtype), [total], dtype)
    spread = broadcast(kept(mean, x.shape, axes), x.shape)

    def distance(index: Sequence[Affine]) -> Expression:
        apart = Apply("subtract", (convert(x.load(index), dtype), spread.load(index)), dtype)
        return Apply("square", (apart,), dtype)

    squares = accumulated(low, "add", x, axes, distance, zero, dtype)
    freedom = _number(max(count - ddof, 0), dtype)
    found = low.map(lambda s: Apply("divide", (s, freedom), dtype), [squares], dtype)
    return _result(low, node, found, x, axes)


@rule("logsumexp")
def _logsumexp(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The logarithm of a sum of exponentials, relative to the largest."""
    x = low.view(operands[0])
    dtype = node.results[0].dtype
    if len(operands) > 1 or not _floats(x) or x.dtype != dtype:
        return NotImplemented
    axes = _axes(node, x)
    start = _first_of(low, x, axes, "maximum")
    largest = accumulated(low, "maximum", x, axes, x.load, start, dtype)

    def base(m: Expression) -> Expression:
        return Apply("where", (_test("isfinite", m), m, _number(0, dtype)), dtype)

    bases = low.map(base, [largest], dtype)
    spread = broadcast(kept(bases, x.shape, axes), x.shape)

    def power(index: Sequence[Affine]) -> Expression:
        return Apply("exp", (Apply("subtract", (x.load(index), spread.load(index)), dtype),), dtype)

    total = accumulated(low, "add", x, axes, power, _number(0, dtype), dtype)
    found = low.map(lambda s, b: Apply("add", (Apply("log", (s,), dtype), b), dtype), [total, bases], dtype)
    return _result(low, node, found, x, axes)


@rule("special.logsumexp")
def _precise_logsumexp(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The same after SciPy, where the largest are counted: what the others add to them may be tiny."""
    x = low.view(operands[0])
    dtype = node.results[0].dtype
    if not _floats(x) or x.dtype != dtype:
        return NotImplemented
    axes = _axes(node, x)
    most = accumulated(low, "maximum", x, axes, x.load, _first_of(low, x, axes, "maximum"), dtype)
    spread = broadcast(kept(most, x.shape, axes), x.shape)

    def is_most(index: Sequence[Affine]) -> Expression:
        return _test("equal", x.load(index), spread.load(index))

    def power(index: Sequence[Affine]) -> Expression:
        found = Apply("exp", (Apply("subtract", (x.load(index), spread.load(index)), dtype),), dtype)
        return Apply("where", (is_most(index), _number(0, dtype), found), dtype)

    zero = _number(0, dtype)
    others = accumulated(low, "add", x, axes, power, zero, dtype)
    count = accumulated(low, "add", x, axes, lambda index: convert(is_most(index), dtype), zero, dtype)

    def logarithm(s: Expression, n: Expression, m: Expression) -> Expression:
        share = Apply("where", (_test("equal", s, zero), s, Apply("divide", (s, n), dtype)), dtype)
        both = Apply("add", (Apply("log1p", (share,), dtype), Apply("log", (n,), dtype)), dtype)
        return Apply("add", (both, m), dtype)

    return _result(low, node, low.map(logarithm, [others, count, most], dtype), x, axes)


@rule("special.softmax", "special.log_softmax")
def _softmax(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """Exponentials relative to the largest by their sum, or the logarithms of these."""
    x = low.view(operands[0])
    dtype = node.results[0].dtype
    axes = _axes(node, x)
    if not _floats(x) or x.dtype != dtype or any(not x.shape[i].known for i in axes):
        return NotImplemented
    logarithmic = node.op.name == "special.log_softmax"
    most = accumulated(low, "maximum", x, axes, x.load, _first_of(low, x, axes, "maximum"), dtype)
    if logarithmic:
        most = low.map(lambda m: Apply("where", (_test("isfinite", m), m, _number(0, dtype)), dtype), [most], dtype)
    apart = low.map(
        lambda v, m: Apply("subtract", (v, m), dtype), [x, broadcast(kept(most, x.shape, axes), x.shape)], dtype
    )
    powers = low.map(lambda v: Apply("exp", (v,), dtype), [apart], dtype)
    total = accumulated(low, "add", powers, axes, powers.load, _number(0, dtype), dtype)
    total = kept(total, x.shape, axes)
    if not logarithmic:
        return low.map(lambda v, s: Apply("divide", (v, s), dtype), [powers, total], dtype)
    logarithms = low.map(lambda s: Apply("log", (s,), dtype), [total], dtype)
    return low.map(lambda v, s: Apply("subtract", (v, s), dtype), [apart, logarithms], dtype)


@rule("norm")
def _norm(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """A root of a sum of powers."""
    x = low.view(operands[0])
    dtype, order = node.results[0].dtype, node.params["ord"]
    if not _floats(x) or x.dtype != dtype:
        return NotImplemented
    axes = _axes(node, x)
    of_squares = order in (None, "fro", "f") or (order == 2 and len(axes) == 1)
    if not of_squares and (len(axes) != 1 or order == 0 or not np.isfinite(order)):
        return NotImplemented
    zero = _number(0, dtype)

    def power(index: Sequence[Affine]) -> Expression:
        if of_squares:
            return Apply("square", (x.load(index),), dtype)
        return Apply("power", (Apply("absolute", (x.load(index),), dtype), _number(order, dtype)), dtype)

    total = accumulated(low, "add", x, axes, power, zero, dtype)

    def root(s: Expression) -> Expression:
        if of_squares:
            return Apply("sqrt", (s,), dtype)
        return Apply("power", (s, _number(1 / order, dtype)), dtype)

    return _result(low, node, low.map(root, [total], dtype), x, axes)


@rule("round")
def _round(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The nearest integer, or multiple of a power of ten, which is brought to be one as NumPy does."""
    (x,) = operands
    decimals = node.params["decimals"]
    if not _floats(x):
        return NotImplemented
    ten = _number(prod((10.0,) * abs(decimals)), x.dtype)
    before, after = ("multiply", "divide") if decimals > 0 else ("divide", "multiply")

    def rounded(v: Expression) -> Expression:
        if not decimals:
            return Apply("rint", (v,), x.dtype)
        scaled = Apply("rint", (Apply(before, (v, ten), x.dtype),), x.dtype)
        return Apply(after, (scaled, ten), x.dtype)

    return low.let(rounded(low.number(x))) if not node.results[0].shape else low.map(rounded, [x], x.dtype)


@rule("sinc")
def _sinc(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The sine of pi x by pi x, with a small number for zero, as NumPy has it."""
    (x,) = operands
    dtype = node.results[0].dtype
    if not _floats(x) or x.dtype != dtype:
        return NotImplemented

    def quotient(v: Expression) -> Expression:
        angle = Apply("multiply", (_number(np.pi, dtype), v), dtype)
        small = _number(np.finfo(dtype).eps, dtype)
        angle = Apply("where", (_test("equal", angle, _number(0, dtype)), small, angle), dtype)
        return Apply("divide", (Apply("sin", (angle,), dtype), angle), dtype)

    return low.let(quotient(low.number(x))) if not node.results[0].shape else low.map(quotient, [x], dtype)


def _result(low: Lowering, node: Node, found: View, x: View, axes: Sequence[int]) -> Location:
    """What a reduction gives, with the axes that are asked for."""
    if not node.results[0].shape:
        return low.let(found.load((affine(0),) * len(found.shape)))
    return kept(found, x.shape, axes) if node.params["keepdims"] else found
