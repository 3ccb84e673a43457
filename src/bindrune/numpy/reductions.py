"""Sums, products, extremes, averages and running results, with all of NumPy's keywords.

`reduced` and `accumulated` are what every one of them does; `np.add.reduce` and its kin go there too.  The variants
that ignore NaN replace it by the neutral element, and count what is left.
"""

from __future__ import annotations

import operator
from functools import partial
from types import GeneratorType
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..core.array import Array, concrete, dtype_of
from ..core.handler import perform
from ..core.operation import Op, registry
from ..core.protocol import FUNCTIONS, implements
from ..ops import cumulative, reductions  # noqa: F401  (the operations are defined when their module is imported)
from ..ops.views import is_concrete
from .shaping import cell_of
from .ufuncs import ACCUMULATIONS, REDUCTIONS, write_out

__all__ = ["accumulated", "fitted_weights", "normalized_axes", "reduced"]

_NOTHING: Any = np._NoValue
_ALL = {"axis": None, "dtype": None, "keepdims": False}


def normalized_axes(axis: Any, ndim: int) -> tuple[int, ...] | None:
    """The axes to reduce, counted from the front; None for all."""
    if axis is None:
        return None
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    if ndim == 0 and axis in (0, -1):
        return None
    axes: tuple[int, ...] = normalize_axis_tuple(axis, ndim, allow_duplicate=True)
    if len(set(axes)) != len(axes):
        raise ValueError("duplicate value in 'axis'")
    return axes


def _given(keyword: Any, default: Any) -> Any:
    return default if keyword is _NOTHING else keyword


def reduced(
    op: Op,
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = _NOTHING,
    initial: Any = _NOTHING,
    where: Any = _NOTHING,
    **params: Any,
) -> Array:
    """Perform a reduction as NumPy's keywords ask for it (`initial` may be whatever its third operand is)."""
    a = cell_of(a)
    mask: Any = True if where is _NOTHING or where is True else cell_of(where)
    operands = [a]
    if initial is not _NOTHING and initial is not None:
        operands += [mask, initial]
    elif mask is not True:
        operands.append(mask)
    axes = normalized_axes(axis, len(a.shape))
    params |= {"axis": axes, "dtype": dtype, "keepdims": bool(_given(keepdims, False))}
    return write_out(perform(op, operands, params), out, name=op.name)


# ------------------------------------------------------------------------------------------------ sums and products


def _sum_or_product(function: Any, op: Op) -> None:
    @implements(function)
    def reduce(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = _NOTHING,
        initial: Any = _NOTHING,
        where: Any = _NOTHING,
    ) -> Any:
        if type(a) is Array and axis is dtype is out is None and keepdims is initial is where is _NOTHING:
            return a._handler.apply(op, (a,), _ALL)
        if isinstance(a, GeneratorType):
            return function(a)
        return reduced(op, a, axis, dtype, out, keepdims, initial, where)


_sum_or_product(np.sum, registry["sum"])
_sum_or_product(np.prod, registry["prod"])


@implements(np.count_nonzero)
def _count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Array:
    return reduced(registry["sum"], cell_of(a) != 0, axis, np.intp, keepdims=keepdims)


# --------------------------------------------------------------------------------------------------------- extremes


def _extreme(op: Op, *functions: Any) -> None:
    @implements(*functions)
    def reduce(
        a: Any,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = _NOTHING,
        initial: Any = _NOTHING,
        where: Any = _NOTHING,
    ) -> Array:
        return reduced(op, a, axis, None, out, keepdims, initial, where)


_extreme(registry["max"], np.max, np.amax)
_extreme(registry["min"], np.min, np.amin)
_extreme(registry["nanmax"], np.nanmax)
_extreme(registry["nanmin"], np.nanmin)


@implements(np.ptp)
def _ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = _NOTHING) -> Array:
    a = cell_of(a)
    highest, lowest = (reduced(registry[name], a, axis, keepdims=keepdims) for name in ("max", "min"))
    return write_out(highest - lowest, out, name="ptp")


def _truth(function: Any, op: Op) -> None:
    @implements(function)
    def reduce(a: Any, axis: Any = None, out: Any = None, keepdims: Any = _NOTHING, *, where: Any = _NOTHING) -> Array:
        return reduced(op, a, axis, bool, out, keepdims, where=where)


_truth(np.all, registry["all"])
_truth(np.any, registry["any"])

# ----------------------------------------------------------------------------------------------- means and variances


@implements(np.mean)
def _mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = _NOTHING, *, where: Any = _NOTHING
) -> Any:
    if axis is dtype is out is None and keepdims is where is _NOTHING:
        return perform(registry["mean"], (a if isinstance(a, Array) else cell_of(a),), _ALL)
    return reduced(registry["mean"], a, axis, dtype, out, keepdims, where=where)


def _freedom_lost(ddof: Any, correction: Any) -> Any:
    if correction is _NOTHING:
        return ddof
    if ddof != 0:
        raise ValueError("ddof and correction can't be provided simultaneously.")
    return correction


@implements(np.var)
def _var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = _NOTHING,
    *,
    where: Any = _NOTHING,
    mean: Any = _NOTHING,
    correction: Any = _NOTHING,
) -> Array:
    ddof = _freedom_lost(ddof, correction)
    ddof = float(concrete(ddof)) if isinstance(ddof, Array) else ddof
    return reduced(registry["var"], a, axis, dtype, out, keepdims, mean, where, ddof=ddof)


@implements(np.std)
def _std(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = _NOTHING, **others: Any
) -> Array:
    deviation: Any = np.sqrt(_var(a, axis, dtype, None, ddof, keepdims, **others))
    return write_out(deviation, out, name="std")


def fitted_weights(weights: Any, a: Array, axes: tuple[int, ...] | None) -> Any:
    """Weights for the elements along some axes, in a form that broadcasts against the array."""
    weights = cell_of(weights)
    if weights.shape == a.shape:
        return weights
    if axes is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    if weights.shape != tuple(a.shape[i] for i in axes):
        raise ValueError("Shape of weights must be consistent with shape of a along specified axis.")
    ordered = np.transpose(weights, sorted(range(len(axes)), key=axes.__getitem__))
    return np.reshape(ordered, tuple(n if i in axes else 1 for i, n in enumerate(a.shape)))


@implements(np.average)
def _average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = _NOTHING) -> Any:
    a = cell_of(a)
    average: Any
    scale: Any
    if weights is None:
        average = reduced(registry["mean"], a, axis, keepdims=keepdims)
        scale = np.full_like(average, a.size / average.size)
    else:
        weights = fitted_weights(weights, a, normalized_axes(axis, a.ndim))
        dtype = np.result_type(a.dtype, weights.dtype, *([float] if a.dtype.kind in "biu" else []))
        scale = reduced(registry["sum"], weights, axis, dtype, keepdims=keepdims)
        if is_concrete(scale) and np.any(concrete(scale) == 0):
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        average = reduced(registry["sum"], np.multiply(a, weights, dtype=dtype), axis, keepdims=keepdims) / scale
    return (average, np.broadcast_to(scale, average.shape).copy()) if returned else average


# ----------------------------------------------------------------------------------------------------- ignoring NaN


def _without_nan(a: Any, neutral: float) -> Any:
    a = cell_of(a)
    return np.where(np.isnan(a), neutral, a) if a.dtype.kind in "fc" else a


def _ignoring_nan(function: Any, plain: Any, neutral: float) -> None:
    @implements(function)
    def reduce(a: Any, *arguments: Any, **keywords: Any) -> Any:
        return FUNCTIONS[plain](_without_nan(a, neutral), *arguments, **keywords)


_ignoring_nan(np.nansum, np.sum, 0)
_ignoring_nan(np.nanprod, np.prod, 1)
_ignoring_nan(np.nancumsum, np.cumsum, 0)
_ignoring_nan(np.nancumprod, np.cumprod, 1)


def _check_inexact(dtype: Any, out: Any) -> None:
    for name, kind in (("dtype", dtype), ("out", None if out is None else dtype_of(out))):
        if kind is not None and not np.issubdtype(kind, np.inexact):
            raise TypeError(f"If a is inexact, then {name} must be inexact")


@implements(np.nanmean)
def _nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = _NOTHING, *, where: Any = _NOTHING
) -> Any:
    a = cell_of(a)
    if a.dtype.kind not in "fc":
        return _mean(a, axis, dtype, out, keepdims, where=where)
    _check_inexact(dtype, out)
    count = reduced(registry["sum"], ~np.isnan(a), axis, np.intp, None, keepdims, where=where)
    total = reduced(registry["sum"], _without_nan(a, 0), axis, dtype, None, keepdims, where=where)
    return write_out((total / count).astype(total.dtype), out, name="nanmean")


@implements(np.nanvar)
def _nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = _NOTHING,
    *,
    where: Any = _NOTHING,
    mean: Any = _NOTHING,
    correction: Any = _NOTHING,
) -> Array:
    a = cell_of(a)
    if a.dtype.kind not in "fc":
        return _var(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    _check_inexact(dtype, out)
    if mean is _NOTHING:
        mean = _nanmean(a, axis, dtype, None, True, where=where)
    deviation = np.where(np.isnan(a), 0, a - mean).astype(a.dtype)
    squares = np.real(deviation * np.conjugate(deviation))
    count = reduced(registry["sum"], ~np.isnan(a), axis, np.intp, None, keepdims, where=where)
    total = reduced(registry["sum"], squares, axis, dtype, None, keepdims, where=where)
    freedom = count - _freedom_lost(ddof, correction)
    variance: Any = total / np.where(freedom > 0, freedom, np.nan)
    return write_out(variance.astype(total.dtype), out, name="nanvar")


@implements(np.nanstd)
def _nanstd(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = _NOTHING, **others: Any
) -> Array:
    deviation: Any = np.sqrt(_nanvar(a, axis, dtype, None, ddof, keepdims, **others))
    return write_out(deviation, out, name="nanstd")


# -------------------------------------------------------------------------------------------------- running results


def accumulated(op: Op, a: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Array:
    """Perform a running reduction as NumPy's keywords ask for it."""
    a = cell_of(a)
    if not a.shape:
        raise TypeError("cannot accumulate on a scalar")
    axis = normalize_axis_index(operator.index(axis), a.ndim)
    return write_out(op(a, axis=axis, dtype=dtype), out, name=op.name)


def _running(function: Any, op: Op) -> None:
    @implements(function)
    def accumulate(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Array:
        a = cell_of(a)
        if axis is None or (not a.shape and axis in (0, -1)):
            a, axis = np.ravel(a), 0
        return accumulated(op, a, axis, dtype, out)


_running(np.cumsum, registry["cumsum"])
_running(np.cumprod, registry["cumprod"])


@implements(np.ediff1d)
def _ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    ary = np.ravel(cell_of(ary))
    parts = [ary[1:] - ary[:-1]]
    for name, ends in (("to_begin", to_begin), ("to_end", to_end)):
        if ends is not None:
            ends = np.ravel(cell_of(ends))
            if not np.can_cast(ends.dtype, ary.dtype, casting="same_kind"):
                raise TypeError(f"dtype of `{name}` must be compatible with input `ary` under the `same_kind` rule.")
            parts.insert(0 if name == "to_begin" else len(parts), ends)
    return np.concatenate(parts, dtype=ary.dtype)


# ----------------------------------------------------------------------------------------- the methods of ufuncs

for _ufunc, _name in {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "fmax": "nanmax",
    "fmin": "nanmin",
    "logaddexp": "logsumexp",
    "logaddexp2": "logsumexp2",
    "logical_and": "all",
    "logical_or": "any",
    "bitwise_and": "bitwise_and_reduce",
    "bitwise_or": "bitwise_or_reduce",
    "bitwise_xor": "bitwise_xor_reduce",
}.items():
    REDUCTIONS[_ufunc] = partial(reduced, registry[_name])
for _ufunc, _name in {"add": "cumsum", "multiply": "cumprod", "maximum": "cummax", "minimum": "cummin"}.items():
    ACCUMULATIONS[_ufunc] = partial(accumulated, registry[_name])
