"""Lowering of reductions, running results and convolutions.

Where the innermost axis in memory is reduced, each result is accumulated in a register, row by row.  Where it is kept,
the results are accumulated in memory, side by side.  Sums and products may be reordered within an axis, as NumPy does
too; nothing else may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ...graph.graph import Node
from .formats import convertible, numeric
from .loops import INTEGER, Accumulate, Affine, Apply, Buffer, Const, Expression, Load, Storage, Store, affine
from .lower import Location, Lowering, broadcast_lengths, convert, rule
from .neutral import neutral
from .shaping import BOOL
from .views import ZERO, View, along, broadcast

__all__ = ["accumulated", "kept"]

_COMBINE = {
    "sum": "add", "mean": "add", "prod": "multiply", "max": "maximum", "min": "minimum", "nanmax": "fmax",
    "nanmin": "fmin", "all": "logical_and", "any": "logical_or", "bitwise_and_reduce": "bitwise_and",
    "bitwise_or_reduce": "bitwise_or", "bitwise_xor_reduce": "bitwise_xor",
}  # fmt: skip
"""What a reduction combines two elements with."""


@rule(*_COMBINE)
def _reduce(low: Lowering, node: Node, operands: list[Location]) -> Any:
    name, params, result = node.op.name, node.params, node.results[0]
    combine = _COMBINE[name]
    x, *rest = operands
    if not convertible(x.dtype, result.dtype) or (result.dtype.kind == "c" and combine not in ("add", "multiply")):
        return NotImplemented
    if any(not numeric(v.dtype) for v in rest) or (name == "mean" and rest):
        return NotImplemented
    if result.dtype.kind == "b" and combine in ("add", "multiply", "bitwise_and", "bitwise_or", "bitwise_xor"):
        return NotImplemented
    x = low.view(x)
    shape = x.shape
    where, initial = (*rest, None, None)[:2]
    if where is not None and isinstance(where, View) and len(where.shape) > len(shape):
        return NotImplemented
    axes = tuple(range(len(shape))) if params["axis"] is None else params["axis"]
    lengths = [shape[i] for i in axes]
    if combine in ("maximum", "minimum", "fmax", "fmin") and initial is None:
        for n in lengths:
            if n.known == 0:
                return NotImplemented
            if n.known is None:
                low.check(Apply("greater", (n, ZERO), BOOL), node, _no_identity(combine), n)
    dtype = result.dtype
    # Logic combines truths, everything else what has been converted to the result's type.
    start: Expression = Const(np.asarray(neutral(combine, dtype)).astype(dtype)[()], dtype)
    given = start if initial is None else convert(low.number(initial), dtype)
    mask = broadcast(where, shape) if isinstance(where, View) else where

    def element(index: Sequence[Affine]) -> Expression:
        found = convert(x.load(index), dtype)
        if mask is None:
            return found
        flag = convert(mask.load(index) if isinstance(mask, View) else mask, BOOL)
        return Apply("where", (flag, found, start), dtype)

    found = accumulated(low, combine, x, axes, element, given, dtype)
    if name == "mean":
        found = _divided(low, found, lengths, dtype)
    if not result.shape:
        return low.let(found.load((ZERO,) * len(found.shape)))
    return kept(found, shape, axes) if params["keepdims"] else found


def _no_identity(combine: str) -> Any:
    def explain(length: Any) -> None:
        raise ValueError(f"zero-size array to reduction operation {combine} which has no identity")

    return explain


def _divided(low: Lowering, total: View, lengths: Sequence[Affine], dtype: np.dtype[Any]) -> View:
    count: Expression = Const(dtype.type(1), dtype)
    for n in lengths:
        count = Apply("multiply", (count, convert(n, dtype)), dtype)
    if all(n.known is not None for n in lengths):
        count = Const(dtype.type(prod(n.known or 0 for n in lengths)), dtype)
    made = low.array(dtype, total.shape)
    with low.nest(total.shape) as index:
        low.do(Store(made.buffer, made.at(index), Apply("divide", (total.load(index), count), dtype)))
    return made


def kept(found: View, shape: Sequence[Affine], axes: Sequence[int]) -> View:
    """The result with an axis of length one for each that was reduced."""
    kept = tuple(affine(1) if i in axes else n for i, n in enumerate(shape))
    seen = found.with_shape(kept)
    assert seen is not None
    return seen


def accumulated(
    low: Lowering,
    combine: str,
    x: View,
    axes: Sequence[int],
    element: Callable[[Sequence[Affine]], Expression],
    start: Expression,
    dtype: np.dtype[Any],
) -> View:
    """The reduction along some axes of `element`, whose elements lie in memory as those of `x`."""
    shape = x.shape
    staying = [i for i in range(len(shape)) if i not in axes]
    made = low.array(dtype, tuple(shape[i] for i in staying))
    order = sorted(range(len(shape)), key=lambda i: _depth(x, i))
    moving = [i for i in order if shape[i].known != 1]
    if not moving or moving[-1] in axes:
        inner = [i for i in order if i in axes]
        with low.nest(made.shape) as outer:
            cell = Buffer(Storage(dtype, (), "temporary"), ())
            low.do(Store(cell, (), start))
            with low.nest([shape[i] for i in inner]) as along_it:
                index = _ordered((*staying, *inner), (*outer, *along_it))
                low.do(Accumulate(combine, cell, (), element(index)))
            low.do(Store(made.buffer, made.at(outer), Load(cell, ())))
        return made
    # Axes that stay and come first are those of one nest around all: what a step of it needs is then close by.
    split = next((n for n, i in enumerate(order) if i in axes), len(order))
    rest = [i for i in staying if i not in order[:split]]
    with low.nest([shape[i] for i in order[:split]]) as first:
        with low.nest([shape[i] for i in rest]) as at:
            found = dict(zip((*order[:split], *rest), (*first, *at), strict=True))
            low.do(Store(made.buffer, made.at([found[i] for i in staying]), start))
        with low.nest([shape[i] for i in order[split:]]) as at:
            found = dict(zip(order, (*first, *at), strict=True))
            place = made.at([found[i] for i in staying])
            low.do(Accumulate(combine, made.buffer, place, element([found[i] for i in range(len(shape))])))
    return made


def _ordered(axes: Sequence[int], index: Sequence[Affine]) -> list[Affine]:
    """The parts of an index in the order of the axes they belong to."""
    return [i for _, i in sorted(zip(axes, index, strict=True), key=lambda pair: pair[0])]


def _depth(x: View, axis: int) -> int:
    """How far in the dimensions of its buffer a view's axis moves."""
    return max((d for d, (_, steps) in enumerate(x.places) if any(a == axis for a, _ in steps)), default=-1)


# ------------------------------------------------------------------------------------------------- running results

_RUNNING = {"cumsum": "add", "cumprod": "multiply", "cummax": "maximum", "cummin": "minimum"}


@rule(*_RUNNING)
def _running(low: Lowering, node: Node, operands: list[Location]) -> Any:
    (x,) = operands
    combine, axis, dtype = _RUNNING[node.op.name], node.params["axis"], node.results[0].dtype
    if (
        dtype.kind == "b"
        or not convertible(x.dtype, dtype)
        or (dtype.kind == "c" and combine not in ("add", "multiply"))
    ):
        return NotImplemented
    if not isinstance(x, View):
        return NotImplemented
    made = low.array(dtype, x.shape)
    outer = [n for i, n in enumerate(x.shape) if i != axis]
    with low.nest(outer) as index:
        cell = Buffer(Storage(dtype, (), "temporary"), ())
        start = Const(np.asarray(neutral(combine, dtype)).astype(dtype)[()], dtype)
        low.do(Store(cell, (), start))
        with low.nest([x.shape[axis]], ordered=True) as (i,):
            at = (*index[:axis], i, *index[axis:])
            old: Expression = Load(cell, ())
            new = low.let(Apply(combine, (old, convert(x.load(at), dtype)), dtype))
            low.do(Store(cell, (), new))
            low.do(Store(made.buffer, made.at(at), new))
    return made


@rule("recurrence")
def _recurrence(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """Each result is a multiple of the one before it, or after it, and something more; the first is that alone."""
    dtype, backwards = node.results[0].dtype, node.params["reverse"]
    if dtype.kind not in "fc" or dtype.itemsize < 4 or not _arithmetic(operands):
        return NotImplemented
    shape = broadcast_lengths([low.shape(x) for x in operands])
    factors, terms = (broadcast(low.view(x), shape) for x in operands)
    made, n = low.array(dtype, shape), shape[-1]
    with low.nest(shape[:-1]) as index:
        cell = Buffer(Storage(dtype, (), "temporary"), ())
        low.do(Store(cell, (), Const(dtype.type(0), dtype)))
        with low.nest((n,), ordered=True) as (i,):
            at = n - 1 - i if backwards else i
            of = affine(low.let(Apply("minimum", (at + 1, n - 1), INTEGER))) if backwards else at
            multiple = Apply("multiply", (convert(factors.load((*index, of)), dtype), Load(cell, ())), dtype)
            term = low.let(convert(terms.load((*index, at)), dtype))
            first = Apply("equal", (i, ZERO), BOOL)
            found = low.let(Apply("where", (first, term, Apply("add", (multiple, term), dtype)), dtype))
            low.do(Store(cell, (), found))
            low.do(Store(made.buffer, made.at((*index, at)), found))
    return made


@rule("convolve")
def _convolve(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """Sums of products along the last axis, one operand turned round; zeros beside the other for all that overlap."""
    dtype = node.results[0].dtype
    a, v = (low.view(x) for x in operands)
    m = v.shape[-1].known
    if dtype.kind not in "iufc" or dtype.str[1:] == "f2" or not _arithmetic(operands) or not m or not a.shape[-1].known:
        return NotImplemented
    lead = broadcast_lengths([a.shape[:-1], v.shape[:-1]]) if len(a.shape) + len(v.shape) > 2 else ()
    a, v = (broadcast(x, (*lead, x.shape[-1])) for x in (a, v))
    zero = Const(dtype.type(0), dtype)
    if node.params["mode"] == "full":
        padded = low.array(dtype, (*lead, a.shape[-1] + 2 * (m - 1)))
        low.copy(padded, zero)
        low.copy(padded.seen([*map(along, range(len(lead))), along(len(lead), affine(m - 1))], a.shape), a)
        a = padded
    made = low.array(dtype, (*lead, a.shape[-1] - (m - 1)))
    with low.nest(made.shape) as index:
        cell = Buffer(Storage(dtype, (), "temporary"), ())
        low.do(Store(cell, (), zero))
        with low.nest((affine(m),)) as (j,):
            factors = a.load((*index[:-1], index[-1] + j)), v.load((*index[:-1], affine(m - 1) - j))
            product = Apply("multiply", tuple(convert(x, dtype) for x in factors), dtype)
            low.do(Accumulate("add", cell, (), product))
        low.do(Store(made.buffer, made.at(index), Load(cell, ())))
    return made


def _arithmetic(operands: Sequence[Location]) -> bool:
    return all(numeric(x.dtype) and x.dtype.str[1:] != "f2" for x in operands)
