"""Medians, quantiles and percentiles: sorted values, and the position among them that is asked for.

A position is a real number that depends on ``q`` and on the method; the result lies between the values to either
side, so it has derivatives in the values and in ``q``.  A NaN sorts to the end: it makes a plain quantile NaN, while
the variants that ignore NaN count only what stands before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.array import Array, concrete, peek
from ..core.protocol import implements
from ..ops.sorting import order_statistics
from ..ops.views import is_concrete
from .reductions import fitted_weights, normalized_axes
from .shaping import cell_of
from .ufuncs import write_out

__all__: list[str] = []

_FEW = 8
"""So many values are chosen one by one; for more, sorting is cheaper."""

# -------------------------------------------------------------------------------------------------------- positions


def _between(alpha: float, beta: float) -> Callable[[Any, Any], Any]:
    return lambda n, q: n * q + (alpha + q * (1 - alpha - beta)) - 1


def _step(shift: float, stays: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The next whole position, or the one before where `stays` says so of it and of the distance from it."""

    def position(n: Any, q: Any) -> Any:
        real = n * q - shift
        before = np.floor(real)
        return np.maximum(np.where(stays(before, real - before), before, before + 1), 0).astype(np.intp)

    return position


_POSITIONS: dict[str, Callable[[Any, Any], Any]] = {
    "inverted_cdf": _step(1, lambda before, rest: rest == 0),
    "averaged_inverted_cdf": lambda n, q: n * q - 1,
    "closest_observation": _step(1.5, lambda before, rest: (rest == 0) & (before % 2 == 1)),
    "interpolated_inverted_cdf": _between(0, 1),
    "hazen": _between(0.5, 0.5),
    "weibull": _between(0, 0),
    "linear": lambda n, q: (n - 1) * q,
    "median_unbiased": _between(1 / 3, 1 / 3),
    "normal_unbiased": _between(3 / 8, 3 / 8),
    "lower": lambda n, q: np.floor((n - 1) * q).astype(np.intp),
    "higher": lambda n, q: np.ceil((n - 1) * q).astype(np.intp),
    "midpoint": lambda n, q: 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q)),
    "nearest": lambda n, q: np.round((n - 1) * q).astype(np.intp),
}
"""From the number of values and q to a position, counted from zero."""

_FRACTIONS: dict[str, Callable[[Any], Any]] = {
    "averaged_inverted_cdf": lambda rest: np.where(rest == 0, 0.5, 1.0),
    "midpoint": lambda rest: np.where(rest == 0, 0.0, 0.5),
}
"""How far to go from one value towards the next, where that is not what is left of the position."""

# --------------------------------------------------------------------------------------------------- sorted values


class _Groups:
    """An array with the axes to reduce made one, in front, and the way its results are shaped."""

    def __init__(self, a: Array, axis: Any, keepdims: Any, weights: Any = None) -> None:
        axes = normalized_axes(axis, a.ndim)
        if weights is not None:
            weights = np.broadcast_to(fitted_weights(weights, a, axes), a.shape)
            if is_concrete(weights) and np.any(concrete(weights) < 0):
                raise ValueError("Weights must be non-negative.")
        self.axes = tuple(range(a.ndim)) if axes is None else axes
        self.values = self.gather(a)
        self.weights = None if weights is None else self.gather(weights)
        kept = keepdims is not np._NoValue and keepdims
        shape = enumerate(a.shape)
        self.shape = tuple(1 if i in self.axes else n for i, n in shape if kept or i not in self.axes)

    def gather(self, a: Array) -> Any:
        """An array of the same axes, in that form."""
        rest = tuple(i for i in range(a.ndim) if i not in self.axes)
        count = math.prod(a.shape[i] for i in self.axes)
        return np.reshape(np.transpose(a, (*self.axes, *rest)), (count, *(a.shape[i] for i in rest)))

    def deliver(self, result: Any, leading: tuple[int, ...], out: Any, name: str) -> Array:
        """A result whose axes are some leading ones and then those not reduced."""
        shape = (*leading, *self.shape)
        # Without axes the result is a number; with weights NumPy leaves it an array.
        number = not shape and self.weights is None
        result = result[()] if number else np.reshape(result, shape)
        return write_out(result, out, name=name)


def _or_nan(result: Any, values: Any) -> Any:
    """A result, NaN where there is one among the values."""
    if values.dtype.kind not in "fc":
        return result
    return np.where(np.any(np.isnan(values), axis=0), np.nan, result).astype(result.dtype)


def _present(values: Any) -> Any:
    """How many values are not NaN."""
    return np.sum(~np.isnan(values), axis=0)


def _at(values: Any, position: Any, count: Any) -> Any:
    """For each group the value at each position in the order of size, or at the nearest one that there is.

    While the positions are few and the same for all groups, the values need not be sorted.
    """
    index = np.clip(position, 0, count - 1).astype(np.intp)
    rest = values.shape[1:]
    leading = index.shape[: index.ndim - len(rest)]
    if is_concrete(index) and math.prod(index.shape) == math.prod(leading):
        kth, places = np.unique(concrete(index), return_inverse=True)
        if len(kth) <= _FEW:
            statistics = order_statistics(values, kth=tuple(map(int, kth)), axis=0)
            return np.reshape(statistics[places.ravel()], (*leading, *rest))
    flat = np.reshape(np.broadcast_to(index, (*leading, *rest)), (-1, *rest))
    return np.reshape(np.take_along_axis(np.sort(values, axis=0), flat, 0), (*leading, *rest))


# ----------------------------------------------------------------------------------------------------------- medians


@implements(np.median)
def _median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Array:
    groups = _Groups(cell_of(a), axis, keepdims)
    values = groups.values
    count = values.shape[0]
    if not count:
        return groups.deliver(np.mean(values, axis=0), (), out, "median")
    middle = np.reshape(np.unique([(count - 1) // 2, count // 2]), (-1,) + (1,) * (values.ndim - 1))
    return groups.deliver(_or_nan(np.mean(_at(values, middle, count), axis=0), values), (), out, "median")


@implements(np.nanmedian)
def _nanmedian(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = np._NoValue
) -> Array:
    a = cell_of(a)
    if a.dtype.kind not in "fc" or not a.size:
        return _median(a, axis, out, overwrite_input, keepdims)
    groups = _Groups(a, axis, keepdims)
    count = _present(groups.values)
    middle = np.stack([(count - 1) // 2, count // 2])
    return groups.deliver(np.mean(_at(groups.values, middle, count), axis=0), (), out, "nanmedian")


# --------------------------------------------------------------------------------------------------------- quantiles


def _interpolated(values: Any, q: Any, count: Any, method: str, weak: bool) -> Any:
    """Quantiles of values of which `count`, one number or one a group, are taken into account."""
    position = _POSITIONS[method](count, q)
    if position.dtype.kind == "i":
        return _at(values, position, count)
    before = np.floor(position)
    low, high = _at(values, np.stack([before, before + 1]), count)
    step = high - low
    part = position - before
    part = _FRACTIONS[method](part).astype(part.dtype) if method in _FRACTIONS else part
    nearer_high, rest = part >= 0.5, 1 - part
    if weak and values.dtype.kind == "f":
        part, rest = part.astype(values.dtype), rest.astype(values.dtype)
    return np.where(nearer_high, high - step * rest, low + step * part)


def _weighted(values: Any, weights: Any, q: Any) -> Any:
    """The first value, in the order of size, up to which the weights make out a share q of all."""
    share = np.cumsum(np.take_along_axis(weights, np.argsort(values, axis=0), 0), axis=0, dtype=float)
    share = share / share[-1]
    if is_concrete(share) and np.any(np.isnan(concrete(share)[-1])):
        raise ValueError("Weights included NaN, inf or were all zero.")
    share = share.astype(q.dtype) if q.dtype.kind == "f" else share
    axis = q.ndim - (values.ndim - 1)
    skipped = (share < np.expand_dims(q, axis)) | (share == 0)
    return _at(values, np.sum(skipped, axis=axis), values.shape[0])


def _quantiles(function: Any, plain: Any, scale: int) -> None:
    """Define a function; `plain` is the one that does not ignore NaN."""
    what = "Percentiles" if scale == 100 else "Quantiles"

    @implements(function)
    def quantile(
        a: Any,
        q: Any,
        axis: Any = None,
        out: Any = None,
        overwrite_input: bool = False,
        method: str = "linear",
        keepdims: Any = np._NoValue,
        *,
        weights: Any = None,
    ) -> Any:
        a = cell_of(a)
        if a.dtype.kind == "c":
            raise TypeError("a must be an array of real numbers")
        weak = type(peek(q)) in (int, float)
        q = cell_of(q) / scale if scale != 1 else cell_of(q)
        if is_concrete(q) and not np.all((concrete(q) >= 0) & (concrete(q) <= 1)):
            raise ValueError(f"{what} must be in the range [0, {scale}]")
        if weights is not None and method != "inverted_cdf":
            raise ValueError(f"Only method 'inverted_cdf' supports weights. Got: {method}.")
        ignoring = function is not plain and a.dtype.kind == "f"
        if ignoring and not a.size:
            return np.nanmean(a, axis, out=out, keepdims=keepdims)
        groups = _Groups(a, axis, keepdims, weights)
        if q.ndim > 2:
            raise ValueError("q must be a scalar or 1d")
        if method not in _POSITIONS:
            raise ValueError(f"{method!r} is not a valid method. Use one of: {_POSITIONS.keys()}")
        values, leading = groups.values, q.shape
        q = np.reshape(q, leading + (1,) * (values.ndim - 1))
        if groups.weights is not None:
            weights = np.where(np.isnan(values), 0, groups.weights) if ignoring else groups.weights
            found = _weighted(values, weights, q)
        else:
            count = _present(values).astype(q.dtype) if ignoring else values.shape[0]
            found = _interpolated(values, q, count, method, weak)
        return groups.deliver(found if ignoring else _or_nan(found, values), leading, out, function.__name__)


_quantiles(np.quantile, np.quantile, 1)
_quantiles(np.percentile, np.percentile, 100)
_quantiles(np.nanquantile, np.quantile, 1)
_quantiles(np.nanpercentile, np.percentile, 100)
