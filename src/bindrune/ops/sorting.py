"""Order: sorting, partitioning, and the positions that say where things would be or are.

Sorted values are a rearrangement of the elements, and so are their derivatives; elements that are equal share equally
in those of the places they take.  Positions are integers and have no derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core.handler import evaluate
from ..core.operation import Op, Row, Rows, Spec, linear, operation, row
from .cumulative import gather_along, scatter_along

__all__ = ["argpartition", "argsort", "lexsort", "order_statistics", "partition", "sort"]


def _batch(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    return evaluate(op, values, {**params, "axis": params["axis"] + 1})


_POINTS = np.array([0.7, -1.3, 2.1, 0.4, -0.6, 1.8, 1.1, -2.2, 0.9, 1.6, -0.8, 0.3])


def _rows(**params: Any) -> Rows:
    def rows() -> Iterable[Row]:
        matrix = _POINTS[:6].reshape(2, 3)
        yield row(_POINTS[:5], axis=0, **params)
        yield row(_POINTS[:4].astype(np.float32), axis=0, **params)
        yield row(matrix, axis=0, **params)
        yield row(matrix, axis=1, **params)
        yield row(_POINTS.reshape(2, 3, 2), axis=1, **params)
        yield row(matrix + 1j * matrix[:, ::-1], axis=1, **params)
        yield row(np.array([2.0, 1.0, 2.0, np.nan]), axis=0, smooth=False, **params)
        if "kth" not in params:
            yield row(_POINTS[:1], axis=0, **params)
            yield row(matrix[:, :0], axis=1, **params)

    return rows


# ------------------------------------------------------------------------------------------------ rearranged values


def _average_ties(t: Any, keys: Any, *, axis: int) -> Any:
    """Each value replaced by the mean over all that have the same key; keys are sorted."""
    t, keys = np.moveaxis(t, axis, -1), np.moveaxis(keys, axis, -1)
    fresh = np.ones(keys.shape, bool)
    fresh[..., 1:] = keys[..., 1:] != keys[..., :-1]
    if not fresh.all():
        starts = np.flatnonzero(fresh)
        counts = np.diff(starts, append=keys.size)
        means = np.add.reduceat(np.ravel(t), starts) / counts
        t = np.repeat(means, counts).reshape(keys.shape).astype(t.dtype)
    return np.moveaxis(t, -1, axis)


def _batch_ties(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    t, keys = (v if b else np.broadcast_to(v, (size, *np.shape(v))) for v, b in zip(values, batched, strict=True))
    return evaluate(op, (t, keys), {"axis": params["axis"] + 1})


average_ties: Op = linear(
    "average_ties",
    _average_ties,
    lambda ct, keys, axis: evaluate(average_ties, (ct, keys), {"axis": axis}),
    None,
    operands="t keys",
    batch=_batch_ties,
    rows=lambda: [
        row(_POINTS[:4], np.array([0, 1, 1, 2]), axis=0),
        row(_POINTS[:6].reshape(3, 2), np.array([[0, 3], [0, 3], [1, 3]]), axis=0),
        row(_POINTS[:3].astype(np.float32), np.arange(3), axis=0),
    ],
)


def _push_sorted(t: Any, x: Any, y: Any, axis: int) -> Any:
    moved = gather_along(t, np.argsort(x, axis=axis), axis)
    return evaluate(average_ties, (moved, y), {"axis": axis})


def _pull_sorted(ct: Any, x: Any, y: Any, of: Spec, axis: int) -> Any:
    ct = evaluate(average_ties, (ct, y), {"axis": axis})
    return scatter_along(ct, np.argsort(x, axis=axis), of, axis)


sort = operation(
    "sort",
    np.sort,
    jvp=_push_sorted,
    vjp=_pull_sorted,
    batch=_batch,
    rows=_rows(kind=None, order=None),
    selects=True,
)


def _push_partition(t: Any, x: Any, y: Any, axis: int) -> Any:
    order = np.argsort(y, axis=axis)
    moved = _push_sorted(t, x, gather_along(y, order, axis), axis)
    return gather_along(moved, np.argsort(order, axis=axis), axis)


def _pull_partition(ct: Any, x: Any, y: Any, of: Spec, axis: int) -> Any:
    order = np.argsort(y, axis=axis)
    return _pull_sorted(gather_along(ct, order, axis), x, gather_along(y, order, axis), of, axis)


partition = operation(
    "partition",
    np.partition,
    jvp=_push_partition,
    vjp=_pull_partition,
    batch=_batch,
    rows=_rows(kth=1, kind="introselect", order=None),
    selects=True,
)

# ------------------------------------------------------------------------------------------------- order statistics


def _order_statistics(x: Any, *, kth: tuple[int, ...], axis: int) -> Any:
    return np.take(np.partition(x, kth, axis), kth, axis)


def _chosen(x: Any, y: Any, axis: int) -> tuple[Any, Any]:
    """For each statistic, in front, which elements are equal to it, and how many."""
    chosen = x == np.expand_dims(np.moveaxis(y, axis, 0), axis + 1)
    return chosen, np.sum(chosen, axis=axis + 1)


def _push_statistics(t: Any, x: Any, y: Any, axis: int) -> Any:
    chosen, count = _chosen(x, y, axis)
    return np.moveaxis(np.sum(np.where(chosen, t, 0), axis=axis + 1) / count, 0, axis)


def _pull_statistics(ct: Any, x: Any, y: Any, axis: int) -> Any:
    chosen, count = _chosen(x, y, axis)
    return np.sum(np.where(chosen, np.expand_dims(np.moveaxis(ct, axis, 0) / count, axis + 1), 0), axis=0)


order_statistics = operation(
    "order_statistics",
    _order_statistics,
    jvp=_push_statistics,
    vjp=_pull_statistics,
    batch=_batch,
    rows=lambda: [
        row(_POINTS[:5], kth=(2,), axis=0),
        row(_POINTS[:6].reshape(2, 3).astype(np.float32), kth=(0, 2), axis=1),
        row(_POINTS.reshape(2, 3, 2), kth=(1, 2), axis=1),
        row(np.array([2.0, 1.0, 2.0]), kth=(1,), axis=0, smooth=False),
    ],
    selects=True,
)
"""The values at some positions of what would be sorted: far cheaper than sorting while these are few."""

# -------------------------------------------------------------------------------------------------------- positions


def _positional(name: str, implementation: Callable[..., Any], batch: Callable[..., Any], rows: Rows) -> Op:
    return operation(name, implementation, jvp=None, vjp=None, batch=batch, rows=rows)


argsort = _positional("argsort", np.argsort, _batch, _rows(kind=None, order=None))
argpartition = _positional("argpartition", np.argpartition, _batch, _rows(kth=1, kind="introselect", order=None))


def _batch_extreme(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    (x,), axis = values, params["axis"]
    if axis is not None:
        return evaluate(op, (x,), {**params, "axis": axis + 1})
    shape = np.shape(x)[1:]
    found = evaluate(op, (np.reshape(x, (size, math.prod(shape))),), {"axis": 1, "keepdims": False})
    return np.reshape(found, (size, *(1,) * len(shape))) if params["keepdims"] else found


def _extreme_rows() -> Iterable[Row]:
    matrix = _POINTS[:6].reshape(2, 3)
    yield row(_POINTS[:5], axis=0, keepdims=False)
    yield row(matrix, axis=None, keepdims=False)
    yield row(matrix, axis=None, keepdims=True)
    yield row(matrix, axis=1, keepdims=True)
    yield row(_POINTS.reshape(2, 3, 2).astype(np.float32), axis=1, keepdims=False)
    yield row(np.array([[1.0, np.nan, 3.0], [3.0, 3.0, np.nan]]), axis=1, keepdims=False)


def _position(function: Any) -> None:
    def find(x: Any, *, axis: int | None, keepdims: bool) -> Any:
        return function(x, axis, keepdims=keepdims)

    _positional(function.__name__, find, _batch_extreme, _extreme_rows)


for _function in (np.argmax, np.argmin, np.nanargmax, np.nanargmin):
    _position(_function)


def _batch_lexsort(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    keys = [k if b else np.broadcast_to(k, (size, *np.shape(k))) for k, b in zip(values, batched, strict=True)]
    return evaluate(op, keys, {"axis": params["axis"] + 1})


lexsort = operation(
    "lexsort",
    lambda *keys, axis: np.lexsort(keys, axis),
    jvp=None,
    vjp=None,
    operands="*keys",
    batch=_batch_lexsort,
    rows=lambda: [
        row(_POINTS[:5], np.array([1, 0, 1, 0, 0]), axis=0),
        row(_POINTS.reshape(3, 4), np.round(_POINTS).reshape(3, 4), axis=1),
    ],
)
