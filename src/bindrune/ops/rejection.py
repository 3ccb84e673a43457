"""Samples found by rejection: log-gamma, Poisson and binomial variates.

How often a draw is repeated depends on its values, so these are operations of their own, whose loops run on plain
arrays.  A gamma variate's elements have keys of their own, and each is drawn until it is accepted.  The elements of a
Poisson or binomial draw share a key, and are drawn again together until every one of them has been accepted; an
element keeps the last value that was.

The derivative of a gamma variate keeps its place in the distribution (implicit reparameterisation).  Discrete variates
are constants to every derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy import special

from ..core.operation import Row, operation, row
from .lanes import aligned
from .random import child, fraction, narrowed, normal
from .threefry import encipher

__all__ = ["binomial", "log_gamma", "poisson"]


def _uniform(words: Any, dtype: np.dtype[Any]) -> Any:
    return fraction(narrowed(words, 8 * dtype.itemsize), dtype)


# -------------------------------------------------------------------------------------------------------------- gamma


def _log_gamma(key: Any, a: Any) -> Any:
    """G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables", 2000."""
    shape = np.broadcast_shapes(np.shape(key), np.shape(a))
    key, a = (np.broadcast_to(x, shape).ravel() for x in (key, a))
    large = a >= 1
    d = np.where(large, a, a + 1) - a.dtype.type(1 / 3)
    c = a.dtype.type(1 / 3) / np.sqrt(d)
    cubes = np.ones_like(a)
    keys = child(key, 0)
    pending = np.arange(a.size)
    while pending.size:
        x, v = _positive_cube_root(child(keys[pending], 1), c[pending])
        u = _uniform(child(child(keys[pending], 2), 0), a.dtype)
        keys[pending] = child(keys[pending], 0)
        square, cubes[pending] = x * x, v * v * v
        logarithms = square * 0.5 + d[pending] * (1 - cubes[pending] + np.log(cubes[pending]))
        rejected = (u >= 1 - a.dtype.type(0.0331) * (square * square)) & (np.log(u) >= logarithms)
        pending = pending[rejected]
    # A variate for a < 1 is one for a + 1 times u ** (1 / a).
    u = _uniform(child(child(key, 1), 0), a.dtype)
    boost = np.where(large | (u == 0), 0, np.log1p(-u) / a)
    return (np.log(d) + np.log(cubes) + boost).reshape(shape)[()]


def _positive_cube_root(keys: Any, c: Any) -> tuple[Any, Any]:
    """Normal variates x for which 1 + c * x is positive, and that."""
    x, v = np.empty_like(c), np.empty_like(c)
    pending = np.arange(c.size)
    while pending.size:
        x[pending] = normal(_uniform(child(child(keys[pending], 1), 0), c.dtype), c.dtype)
        v[pending] = 1 + x[pending] * c[pending]
        keys[pending] = child(keys[pending], 0)
        pending = pending[v[pending] <= 0]
    return x, v


# Nodes and weights of the integral from 0 to infinity of what decays like exp(-u): u = exp(t - exp(-t)), t = n / 8.
_STEPS = np.arange(-28, 37) / 8
_NODES = np.exp(_STEPS - np.exp(-_STEPS))
_WEIGHTS = _NODES * (1 + np.exp(-_STEPS)) / 8


def _log_gamma_slope(y: Any, a: Any) -> Any:
    """The derivative of a log-gamma variate y by its parameter a, at a fixed place in the distribution.

    With F the distribution function of x = exp(y) it is -F_a / (x F_x): the integral of F'(t) / F'(x) times
    log(t) - digamma(a), over the tail above x or, negative, over that below.  The former is taken where x is above a,
    the latter elsewhere, by t = x + s and t = x exp(-s), so that no terms cancel.
    """
    x = np.exp(y)
    above = x >= a
    rate = np.abs(x - a) + np.minimum(x, np.sqrt(x))
    scale = (np.where(above, x, 1) / rate)[..., None]
    s = scale * _NODES.astype(x.dtype)
    start = np.where(above, x, 1)[..., None]
    moved = np.where(above[..., None], np.log1p(s / start), -s)
    step = np.where(above[..., None], scale / (start + s), -scale)
    density = np.exp(moved * np.expand_dims(a, -1) - x[..., None] * np.expm1(moved))
    distance = moved + (y - special.digamma(a))[..., None]
    return np.sum(density * distance * step * _WEIGHTS.astype(x.dtype), axis=-1)


_KEYS = np.array([3, 2**40 + 1, 2**63 + 5], dtype=np.uint64)


def _gamma_rows() -> Iterable[Row]:
    # The sampler itself, at a fixed key, is no smooth path through the distributions.
    yield row(_KEYS, np.array([0.3, 1.0, 7.5]), smooth=False)
    yield row(_KEYS[:2], np.array([[0.02], [40.0]]), smooth=False)
    yield row(_KEYS, np.float64(2.5), smooth=False)
    yield row(_KEYS[0], np.float32(0.7), smooth=False)
    yield row(_KEYS[:0], np.zeros(0), smooth=False)


log_gamma = operation(
    "log_gamma_variate",
    _log_gamma,
    jvp=(None, lambda t, y, a: t * _log_gamma_slope(y, a)),
    vjp=(None, lambda ct, y, a: ct * _log_gamma_slope(y, a)),
    operands="key a",
    batch=aligned,
    rows=_gamma_rows,
)
"""The logarithm of a gamma variate for each key and parameter."""

# ----------------------------------------------------------------------------------------------- draws that share a key


def _in_lanes(key: Any, *parameters: Any, ndim: int) -> tuple[Any, list[Any], tuple[int, ...]]:
    """The key of each lane, its parameters as one row, and the shape of the result.

    The last `ndim` axes are those of one draw; a key has length one along them.
    """
    shape = np.broadcast_shapes(np.shape(key), *map(np.shape, parameters))
    lanes = shape[: len(shape) - ndim]
    flat = (int(np.prod(lanes)), int(np.prod(shape[len(lanes) :])))
    keys = np.broadcast_to(np.reshape(key, np.shape(key)[: np.ndim(key) - ndim]), lanes).ravel()
    return keys, [np.broadcast_to(x, shape).reshape(flat) for x in parameters], shape


def _drawn(keys: Any, number: int, like: Any) -> Any:
    """Uniform variates in rows of the length of `like`'s, from each key's `number`-th child."""
    counters = np.arange(like.shape[1], dtype=np.uint64)
    return _uniform(encipher(child(keys, number)[:, None], counters), like.dtype)


def _until_accepted(keys: Any, attempt: Callable[[Any, Any, Any], tuple[Any, Any]], needed: Any, like: Any) -> Any:
    """Draw the rows where it is needed again, whole, until each of their elements has been accepted.

    ``attempt(rows, u, v)`` makes values of uniform variates, and says which of them are accepted.
    """
    found, accepted = np.full_like(like, -1), np.zeros(like.shape, bool)
    rows = np.flatnonzero(needed)
    while rows.size:
        values, good = attempt(rows, _drawn(keys[rows], 1, like), _drawn(keys[rows], 2, like))
        keys[rows] = child(keys[rows], 0)
        found[rows] = np.where(good, values, found[rows])
        accepted[rows] |= good
        rows = rows[~accepted[rows].all(axis=1)]
    return found


def _poisson(key: Any, rate: Any, ndim: int) -> Any:
    keys, (rate,), shape = _in_lanes(key, rate, ndim=ndim)
    few = ~(rate >= 10)
    with np.errstate(all="ignore"):
        counted = _poisson_by_counting(keys.copy(), np.where(few, rate, 0))
        found = _poisson_by_rejection(keys.copy(), np.where(few, 1e5, rate).astype(rate.dtype), ~few.all(axis=1))
    return np.where(rate == 0, 0, np.where(few, counted, found)).astype(rate.dtype).reshape(shape)[()]


def _poisson_by_counting(keys: Any, rate: Any) -> Any:
    """D. Knuth: the number of uniform variates whose product stays above exp(-rate)."""
    count, logarithm = np.zeros_like(rate), np.zeros_like(rate)
    rows = np.arange(len(rate))
    while True:
        rows = rows[(logarithm[rows] > -rate[rows]).any(axis=1)]
        if not rows.size:
            return count - 1
        count[rows] += logarithm[rows] > -rate[rows]
        logarithm[rows] += np.log(_drawn(keys[rows], 1, rate))
        keys[rows] = child(keys[rows], 0)


def _poisson_by_rejection(keys: Any, rate: Any, needed: Any) -> Any:
    """W. Hormann, "The transformed rejection method for generating Poisson random variables", 1993: PTRS."""
    b = 0.931 + 2.53 * np.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse = 1.1239 + 1.1328 / (b - 3.4)
    height = 0.9277 - 3.6224 / (b - 2)
    log_rate = np.log(rate)

    def attempt(rows: Any, u: Any, v: Any) -> tuple[Any, Any]:
        u = u - 0.5
        edge = 0.5 - np.abs(u)
        k = np.floor((2 * a[rows] / edge + b[rows]) * u + rate[rows] + 0.43)
        left = np.log(v * inverse[rows] / (a[rows] / (edge * edge) + b[rows]))
        right = -rate[rows] + k * log_rate[rows] - special.gammaln(k + 1)
        outside = (k < 0) | ((edge < 0.013) & (v > edge))
        return k, ((edge >= 0.07) & (v <= height[rows])) | (~outside & (left <= right))

    return _until_accepted(keys, attempt, needed, rate)


def _binomial(key: Any, count: Any, chance: Any, ndim: int) -> Any:
    keys, (count, chance), shape = _in_lanes(key, count, chance, ndim=ndim)
    rare = chance < 0.5
    q = np.where(rare, chance, 1 - chance)
    negative, bad = np.isnan(count) | (count < 0), np.isnan(q) | (q < 0)
    q = np.where(bad, 0.01, q).astype(chance.dtype)
    few = negative | (count * q <= 10)
    whole = np.floor(count)
    with np.errstate(all="ignore"):
        counted = _binomial_by_counting(keys.copy(), np.where(few, whole, 0), q)
        many, half = (np.where(few, x, y).astype(q.dtype) for x, y in ((1e4, whole), (0.5, q)))
        found = _binomial_by_rejection(keys.copy(), many, half, ~few.all(axis=1))
        found = np.where(few, counted, found)
        infinite = np.isinf(count)
        found = np.where(negative | bad, np.nan, np.where(infinite, np.inf, found))
        kept = rare | negative | np.isnan(chance) | infinite
        return np.where(kept, found, whole - found).astype(chance.dtype).reshape(shape)[()]


def _binomial_by_counting(keys: Any, count: Any, q: Any) -> Any:
    """The number of geometric waiting times that fit into the trials."""
    found, waited = np.zeros_like(q), np.zeros_like(q)
    log_failure = np.log1p(-q)
    rows = np.arange(len(q))
    while True:
        rows = rows[(waited[rows] <= count[rows]).any(axis=1)]
        if not rows.size:
            return found - 1
        found[rows] += waited[rows] <= count[rows]
        waited[rows] += np.ceil(np.log(_drawn(keys[rows], 0, q)) / log_failure[rows])
        keys[rows] = child(keys[rows], 1)


def _binomial_by_rejection(keys: Any, count: Any, q: Any, needed: Any) -> Any:
    """W. Hormann, "The generation of binomial random variates", 1993: BTRS."""
    deviation = np.sqrt(count * q * (1 - q))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * q
    centre = count * q + 0.5
    height = 0.92 - 4.2 / b
    odds = q / (1 - q)
    alpha = (2.83 + 5.1 / b) * deviation
    mode = np.floor((count + 1) * q)

    def attempt(rows: Any, u: Any, v: Any) -> tuple[Any, Any]:
        n, m, r = count[rows], mode[rows], odds[rows]
        u = u - 0.5
        edge = 0.5 - np.abs(u)
        k = np.floor((2 * a[rows] / edge + b[rows]) * u + centre[rows])
        left = np.log(v * alpha[rows] / (a[rows] / (edge * edge) + b[rows]))
        right = (
            (m + 0.5) * np.log((m + 1) / (r * (n - m + 1)))
            + (n + 1) * np.log((n - m + 1) / (n - k + 1))
            + (k + 0.5) * np.log(r * (n - k + 1) / (k + 1))
            + (_stirling_error(m) + _stirling_error(n - m) - _stirling_error(k) - _stirling_error(n - k))
        )
        outside = (k < 0) | (k > n)
        return k, ((edge >= 0.07) & (v <= height[rows])) | (~outside & (left <= right))

    return _until_accepted(keys, attempt, needed, q)


_COUNTS = np.arange(10.0)
_STIRLING_ERRORS = special.gammaln(_COUNTS + 1) - (
    (_COUNTS + 0.5) * np.log(_COUNTS + 1) - (_COUNTS + 1) + np.log(2 * np.pi) / 2
)


def _stirling_error(k: Any) -> Any:
    """What Stirling's approximation of log(k!) about k + 1 leaves out, with that of 9 for all beyond.

    Holding it there changes the odds of acceptance by less than a thousandth, and is part of the stream.
    """
    # Unlike `clip`, these put a NaN inside the table too.
    return _STIRLING_ERRORS.astype(k.dtype)[np.fmax(np.fmin(k, 9), 0).astype(int)]


def _discrete_rows(*parameters: Any) -> Iterable[Row]:
    wide = [np.array([x, x]) for x in parameters]
    yield row(_KEYS[0], *parameters, ndim=0, smooth=False)
    yield row(_KEYS[:1], *wide, ndim=1, smooth=False)
    yield row(_KEYS[:1, None], *(np.stack([x, x / 2, x / 20]) for x in wide), ndim=2, smooth=False)
    yield row(_KEYS[:1], *(x[:0] for x in wide), ndim=1, smooth=False)


poisson = operation(
    "poisson_variate",
    _poisson,
    jvp=None,
    vjp=None,
    operands="key rate",
    batch=aligned,
    rows=lambda: _discrete_rows(np.float32(60)),
)
binomial = operation(
    "binomial_variate",
    _binomial,
    jvp=None,
    vjp=None,
    operands="key count chance",
    batch=aligned,
    rows=lambda: _discrete_rows(np.float64(90), np.float64(0.6)),
)
