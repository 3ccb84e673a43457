"""Lowering of what rearranges, joins, selects and converts elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.graph import Node
from .formats import arithmetic, convertible, numeric, of_parts
from .loops import Accumulate, Affine, Apply, Buffer, Const, Expression, Store, affine
from .lower import Location, Lowering, convert, rule
from .views import ONE, ZERO, View, along, broadcast

__all__ = ["reshaped"]

BOOL = np.dtype(bool)


def reshaped(low: Lowering, x: View, shape: tuple[Affine, ...]) -> View:
    """The elements in C's order under another shape; a copy of those that do not lie so."""
    same = x.with_shape(shape)
    if same is not None:
        return same
    if not x.contiguous:
        x = low.fresh(x)
    return View(Buffer(x.storage, shape), tuple(along(i) for i in range(len(shape))), shape)


@rule("reshape")
def _reshape(low: Lowering, node: Node, operands: list[Location]) -> Location:
    (x,) = operands
    shape = tuple(map(low.length, node.results[0].shape))
    if not shape:
        return x.load((ZERO,) * len(x.shape)) if isinstance(x, View) else x
    if not isinstance(x, View):
        return low.uniform(x, shape)
    if node.params["order"] == "C":
        return reshaped(low, x, shape)
    flipped = reshaped(low, x.transposed(range(len(x.shape))[::-1]), shape[::-1])
    return flipped.transposed(range(len(shape))[::-1])


@rule("transpose")
def _transpose(low: Lowering, node: Node, operands: list[Location]) -> Location:
    (x,) = operands
    return x.transposed(node.params["axes"]) if isinstance(x, View) else x


@rule("broadcast_to")
def _broadcast_to(low: Lowering, node: Node, operands: list[Location]) -> Location:
    (x,) = operands
    shape = tuple(map(low.length, node.results[0].shape))
    if isinstance(x, View):
        return broadcast(x, shape)
    return low.uniform(x, shape) if shape else x


@rule("windows")
def _windows(low: Lowering, node: Node, operands: list[Location]) -> Any:
    (x,) = operands
    axis = node.params["axis"]
    if not isinstance(x, View):
        return NotImplemented
    shape = tuple(map(low.length, node.results[0].shape))
    places = [along(i) for i in range(len(x.shape))]
    places[axis] = (ZERO, ((axis, 1), (len(x.shape), 1)))
    return x.seen(places, shape)


@rule("overlap_add")
def _overlap_add(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """What windows say of each element: row after row, each moved by one place more."""
    (x,) = operands
    axis = node.params["axis"]
    assert isinstance(x, View)
    if x.dtype.kind == "b" or not numeric(x.dtype):
        return NotImplemented
    *lengths, length = x.shape
    total = lengths[axis] + length - 1
    others = [i for i in range(len(lengths)) if i > axis]
    # The longer of the last axes goes along memory: what is left of windows of before is short.
    order = [*others, axis] if others and lengths[-1].known in range(_FEW) else [axis, *others]
    room = low.array(x.dtype, (*lengths[:axis], *(total if i == axis else lengths[i] for i in order)))
    turned = x.transposed([*range(axis), *order, len(lengths)])

    def add(at: Sequence[Affine], by: Affine) -> None:
        with low.nest(turned.shape[axis:-1]) as index:
            place = [k + by if i == axis else k for i, k in zip(order, index, strict=True)]
            low.do(Accumulate("add", room.buffer, room.at((*at, *place)), turned.load((*at, *index, by))))

    with low.nest(lengths[:axis]) as at:
        with low.nest(room.shape[axis:]) as index:
            low.do(Store(room.buffer, room.at((*at, *index)), Const(x.dtype.type(0), x.dtype)))
        if length.known is not None and length.known <= _FEW:
            for by in range(length.known):
                add(at, affine(by))
        else:
            # Neighbouring windows meet in the same elements: one place of all windows after the other.
            with low.nest((length,), ordered=True) as (i,):
                add(at, i)
    return room.transposed([*range(axis), *(axis + order.index(i) for i in range(axis, len(lengths)))])


_FEW = 8
"""The places of a window up to which each is written out."""


@rule("diagonal")
def _diagonal(low: Lowering, node: Node, operands: list[Location]) -> Any:
    (x,) = operands
    offset, first, second = (node.params[name] for name in ("offset", "axis1", "axis2"))
    assert isinstance(x, View)
    shape = tuple(map(low.length, node.results[0].shape))
    last = len(shape) - 1
    rest = iter(range(last))
    places = [along(last) if i in (first, second) else along(next(rest)) for i in range(len(x.shape))]
    places[first] = along(last, affine(max(-offset, 0)))
    places[second] = along(last, affine(max(offset, 0)))
    return x.seen(places, shape)


@rule("astype", "convert", "float", "item")
def _astype(low: Lowering, node: Node, operands: list[Location]) -> Any:
    (x,) = operands
    target = node.results[0].dtype
    if x.dtype == target:
        return x
    if not _convertible(operands, target):
        return NotImplemented
    if isinstance(x, View) and x.shape:
        return low.map(lambda v: convert(v, target), [x], target)
    return low.let(convert(low.number(x), target))


def _convertible(operands: Sequence[Location], dtype: np.dtype[Any]) -> bool:
    """Whether operands are of a type, or there are instructions that convert them to it."""
    return all(x.dtype == dtype or convertible(x.dtype, dtype) for x in operands)


@rule("copy", "stop_gradient")
def _copy(low: Lowering, node: Node, operands: list[Location]) -> Location:
    return operands[0]


@rule("conjugate", "real")
def _real(low: Lowering, node: Node, operands: list[Location]) -> Any:
    return _of_complex(low, node, operands[0]) if operands[0].dtype.kind == "c" else operands[0]


def _of_complex(low: Lowering, node: Node, x: Location) -> Any:
    """A part of complex numbers, or their conjugates."""
    dtype = node.results[0].dtype
    if not numeric(x.dtype):
        return NotImplemented
    if isinstance(x, View) and x.shape:
        return low.map(lambda v: Apply(node.op.name, (v,), dtype), [x], dtype)
    return low.let(Apply(node.op.name, (low.number(x),), dtype))


@rule("imag")
def _imag(low: Lowering, node: Node, operands: list[Location]) -> Any:
    if operands[0].dtype.kind == "c":
        return _of_complex(low, node, operands[0])
    return filled(low, node, operands[0])


@rule("from_parts")
def _from_parts(low: Lowering, node: Node, operands: list[Location]) -> Any:
    dtype = node.results[0].dtype
    part = of_parts(dtype)
    if not numeric(dtype) or not all(convertible(x.dtype, part) for x in operands):
        return NotImplemented

    def joined(*x: Expression) -> Expression:
        return Apply("from_parts", tuple(convert(v, part) for v in x), dtype)

    if not node.results[0].shape:
        return low.let(joined(*map(low.number, operands)))
    return low.map(joined, operands, dtype)


def filled(low: Lowering, node: Node, like: Location) -> Location:
    """Zeros of a node's result type and the shape of a location."""
    dtype = node.results[0].dtype
    zero = Const(np.zeros((), dtype)[()], dtype)
    return low.uniform(zero, like.shape) if isinstance(like, View) and like.shape else zero


@rule("where")
def _where(low: Lowering, node: Node, operands: list[Location]) -> Any:
    dtype = node.results[0].dtype
    if not arithmetic(operands[0].dtype) or not _convertible(operands[1:], dtype) or dtype.kind not in "biufc":
        return NotImplemented

    def chosen(c: Expression, a: Expression, b: Expression) -> Expression:
        return Apply("where", (convert(c, BOOL), convert(a, dtype), convert(b, dtype)), dtype)

    if not node.results[0].shape:
        c, a, b = map(low.number, operands)
        return low.let(chosen(c, a, b))
    return low.map(chosen, operands, dtype)


@rule("concatenate")
def _concatenate(low: Lowering, node: Node, operands: list[Location]) -> Any:
    result = node.results[0]
    axis = node.params["axis"]
    if not _convertible(operands, result.dtype):
        return NotImplemented
    views = [low.view(x) for x in operands]
    total = affine(0)
    for view in views:
        total = total + view.shape[axis]
    shape = (*views[0].shape[:axis], total, *views[0].shape[axis + 1 :])
    made = low.array(result.dtype, shape)
    start = affine(0)
    for view in views:
        _fill(low, made, view, axis, start)
        start = start + view.shape[axis]
    return made


@rule("stack")
def _stack(low: Lowering, node: Node, operands: list[Location]) -> Any:
    result = node.results[0]
    axis = node.params["axis"]
    if not _convertible(operands, result.dtype):
        return NotImplemented
    views = [low.view(x) for x in operands]
    lengths = views[0].shape
    made = low.array(result.dtype, (*lengths[:axis], affine(len(views)), *lengths[axis:]))
    for i, view in enumerate(views):
        layer = view.seen(
            [along(k + (k >= axis)) for k in range(len(lengths))], (*lengths[:axis], ONE, *lengths[axis:])
        )
        _fill(low, made, layer, axis, affine(i))
    return made


def _fill(low: Lowering, target: View, part: View, axis: int, start: Affine) -> None:
    """Write a part into a stretch of an array."""
    places = [along(i) for i in range(len(target.shape))]
    places[axis] = along(axis, start)
    low.copy(target.seen(places, part.shape), part)
