"""Running results along an axis: sums, products, extremes, and first-order recurrences.

The derivative of a running product is again a recurrence, ``h[k] = a[k] h[k-1] + b[k]``, and so is the derivative of
a recurrence.  So `recurrence` gives derivatives of every order without a division, exact where there are zeros.
A running extreme hands its derivative to the first of the elements that attain it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core.cotangents import Sparse
from ..core.handler import evaluate
from ..core.operation import Op, Row, Rows, Spec, linear, operation, row
from .indexing import ARRAY, add_at, getitem

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "exclusive", "gather_along", "recurrence", "scatter_along"]


def _batch(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    return evaluate(op, values, {**params, "axis": params["axis"] + 1})


def _implementation(ufunc: Any) -> Callable[..., Any]:
    def implementation(x: Any, *, axis: int, dtype: Any) -> Any:
        return ufunc.accumulate(x, axis, dtype)

    return implementation


_POINTS = np.array([0.7, -1.3, 2.1, 0.4, -0.6, 1.8, 1.1, -2.2, 0.9, 1.6, -0.8, 0.3])


def _rows(*edges: Row) -> Rows:
    def rows() -> Iterable[Row]:
        matrix = _POINTS[:6].reshape(2, 3)
        yield row(_POINTS[:5], axis=0, dtype=None)
        yield row(_POINTS[:4].astype(np.float32), axis=0, dtype=None)
        yield row(matrix, axis=0, dtype=None)
        yield row(matrix, axis=1, dtype=None)
        yield row(_POINTS.reshape(2, 3, 2), axis=1, dtype=None)
        yield row(_POINTS[:1], axis=0, dtype=None)
        yield row(matrix[:, :0], axis=1, dtype=None)
        yield from edges

    return rows


# ------------------------------------------------------------------------------------------------------------ sums

_wider = row(_POINTS[:3].astype(np.float32), axis=0, dtype=np.float64)
_complex = row(_POINTS[:6].reshape(2, 3) + 1j * _POINTS[6:].reshape(2, 3), axis=1, dtype=None)

cumsum = linear(
    "cumsum",
    _implementation(np.add),
    lambda ct, axis: np.flip(np.cumsum(np.flip(ct, axis), axis), axis),
    batch=_batch,
    rows=_rows(_wider, _complex),
)

# ----------------------------------------------------------------------------------------------------- recurrences


def _recur(a: Any, b: Any, *, reverse: bool) -> Any:
    a, b = np.broadcast_arrays(a, b)
    h = np.array(b, np.result_type(a, b))
    n = h.shape[-1]
    lanes = h.size // n if n else 0
    if 4 * lanes < n and h.dtype.char in "efdFD":
        # A few long lanes: each is a triangular system with one diagonal beside the main one.
        from scipy.linalg import lapack

        solve = lapack.ztbtrs if h.dtype.kind == "c" else lapack.dtbtrs
        band = np.ones((2, n), complex if h.dtype.kind == "c" else float, order="F")
        for lane in np.ndindex(h.shape[:-1]):
            band[1, :-1] = -a[lane][1:]
            h[lane] = solve(band, h[lane][:, None], uplo="L", trans="T" if reverse else "N", diag="U")[0][:, 0]
    elif reverse:
        for k in range(n - 1, 0, -1):
            h[..., k - 1] += a[..., k] * h[..., k]
    else:
        for k in range(1, n):
            h[..., k] += a[..., k] * h[..., k - 1]
    return h


def _zero(y: Any) -> Any:
    return np.zeros_like(y[..., :1])


def _push_factors(t: Any, a: Any, y: Any, reverse: bool) -> Any:
    if reverse:
        change = np.concatenate([t[..., 1:] * y[..., 1:], _zero(y)], axis=-1)
    else:
        change = np.concatenate([_zero(y), t[..., 1:] * y[..., :-1]], axis=-1)
    return evaluate(recurrence, (a, change), {"reverse": reverse})


def _pull_factors(ct: Any, a: Any, y: Any, reverse: bool) -> Any:
    s = evaluate(recurrence, (a, ct), {"reverse": not reverse})
    parts = s[..., :-1] * y[..., 1:] if reverse else s[..., 1:] * y[..., :-1]
    return np.concatenate([_zero(y), parts], axis=-1)


def _batch_recurrence(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    return evaluate(op, values, params)


def _recurrence_rows() -> Iterable[Row]:
    a, b = _POINTS[:6], _POINTS[6:]
    for reverse in (False, True):
        yield row(a, b, reverse=reverse)
        yield row(a.reshape(2, 3), b.reshape(2, 3), reverse=reverse)
        yield row(a[:4].astype(np.float32), b[:4].astype(np.float32), reverse=reverse)
        yield row(a[:3] + 0.3j, b[:3] - 0.2j, reverse=reverse)
        yield row(np.cos(np.arange(40.0)), np.sin(np.arange(40.0)), reverse=reverse)
        yield row(a[:1], b[:1], reverse=reverse)
        yield row(a[:0], b[:0], reverse=reverse)


recurrence: Op = operation(
    "recurrence",
    _recur,
    operands="a b",
    jvp=(_push_factors, lambda t, a, reverse: evaluate(recurrence, (a, t), {"reverse": reverse})),
    vjp=(_pull_factors, lambda ct, a, reverse: evaluate(recurrence, (a, ct), {"reverse": not reverse})),
    batch=_batch_recurrence,
    rows=_recurrence_rows,
)
"""``h[k] = a[k] h[k-1] + b[k]`` along the last axis; with `reverse` ``h[k] = a[k+1] h[k+1] + b[k]``, its transpose."""

# -------------------------------------------------------------------------------------------------------- products


def exclusive(y: Any) -> Any:
    """Running products along the last axis of the elements before each, from those that include it."""
    return np.concatenate([np.ones_like(y[..., :1]), y[..., :-1]], axis=-1)


def _push_product(t: Any, x: Any, y: Any, axis: int) -> Any:
    x, y, t = (np.moveaxis(v, axis, -1) for v in (x, y, t))
    return np.moveaxis(evaluate(recurrence, (x, t * exclusive(y)), {"reverse": False}), -1, axis)


def _pull_product(ct: Any, x: Any, y: Any, axis: int) -> Any:
    x, y, ct = (np.moveaxis(v, axis, -1) for v in (x, y, ct))
    return np.moveaxis(evaluate(recurrence, (x, ct), {"reverse": True}) * exclusive(y), -1, axis)


cumprod = operation(
    "cumprod",
    _implementation(np.multiply),
    jvp=_push_product,
    vjp=_pull_product,
    batch=_batch,
    rows=_rows(
        _wider,
        _complex,
        row(np.array([2.0, 3.0, 0.0]), axis=0, dtype=None),
        row(np.array([[2.0, 0.0, 3.0, 0.0, 5.0], [0.0, 0.0, 1.0, 2.0, -0.5]]), axis=1, dtype=None),
    ),
)

# -------------------------------------------------------------------------------------------------------- extremes


def _places(positions: Any, shape: Sequence[int], axis: int) -> list[Any]:
    """Index arrays for elements at positions along one axis, and where they are along the others."""
    return [
        positions if i == axis else np.arange(n).reshape(n, *(1,) * (len(shape) - 1 - i)) for i, n in enumerate(shape)
    ]


def gather_along(x: Any, positions: Any, axis: int) -> Any:
    """The elements at positions along an axis, as `np.take_along_axis`."""
    shape = np.shape(x)
    return evaluate(getitem, (x, *_places(positions, shape, axis)), {"index": (ARRAY,) * len(shape)})


def scatter_along(ct: Any, positions: Any, of: Spec, axis: int) -> Sparse:
    """The cotangent of an array from that of what `gather_along` took of it."""
    return Sparse(add_at, of, (ct, *_places(positions, of.shape, axis)), {"index": (ARRAY,) * of.ndim})


def _positions(y: Any, axis: int) -> Any:
    """For each running extreme, where the first element that attains it stands."""
    y = np.moveaxis(y, axis, -1)
    before, after = y[..., :-1], y[..., 1:]
    fresh = (after != before) & (before == before)
    steps = np.where(fresh, np.arange(1, fresh.shape[-1] + 1), 0)
    steps = np.concatenate([np.zeros_like(y[..., :1], dtype=int), steps], axis=-1)
    return np.moveaxis(np.maximum.accumulate(steps, axis=-1), -1, axis)


def _extreme(name: str, ufunc: Any) -> Op:
    return operation(
        name,
        _implementation(ufunc),
        jvp=lambda t, y, axis: gather_along(t, _positions(y, axis), axis),
        vjp=lambda ct, of, y, axis: scatter_along(ct, _positions(y, axis), of, axis),
        batch=_batch,
        rows=_rows(row(np.array([3.0, 1.0, 3.0, 4.0]), axis=0, dtype=None, smooth=False)),
        selects=True,
    )


cummax = _extreme("cummax", np.maximum)
cummin = _extreme("cummin", np.minimum)
