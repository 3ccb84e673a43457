"""Discrete distributions, bits, choices and permutations.

Arguments are those of the other samplers (see `bindrune.random.continuous`).  Samples are constants to every
derivative; what `choice` and `permutation` take from an array is differentiable in the array.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core.array import Array, dtype_of
from ..core.errors import user_line
from ..core.handler import evaluate
from ..core.protocol import FUNCTIONS
from ..ops import rejection
from .continuous import standard_gumbel
from .keys import children, draw_bits, use
from .parameters import array_of, cast, common_shape, dtype_like, fitting_shape, shape_like, signs, standard_uniform

__all__ = [
    "bernoulli",
    "binomial",
    "bits",
    "categorical",
    "choice",
    "geometric",
    "multinomial",
    "permutation",
    "poisson",
    "rademacher",
    "randint",
]


def bits(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Random bits, as unsigned integers.

    Args:
        key: a key.
        shape: the shape of the result.
        dtype: an unsigned dtype, uint64 by default.

    Returns:
        An array of that shape and dtype.

    >>> import numpy as np, bindrune as br
    >>> br.random.bits(br.random.key(0), (2,), np.uint8)
    array([167, 146], dtype=uint8)
    """
    dtype = np.dtype(np.uint64 if dtype is None else dtype)
    if dtype.kind != "u":
        raise TypeError(f"{user_line()}: br.random.bits makes unsigned integers, not {dtype}")
    return draw_bits(use(key, "bits"), shape_like(shape), 8 * dtype.itemsize)


def bernoulli(key: Any, p: Any = 0.5, shape: Any = None, mode: str = "low") -> Any:
    """True with probability `p`, False otherwise.

    Args:
        key: a key.
        p: the probability, of a floating dtype, in which the draw is made.
        shape: the shape of the result, that of `p` by default.
        mode: ``"high"`` makes each decision by two draws, for probabilities so small that one is too coarse.

    Returns:
        An array of booleans.

    >>> import bindrune as br
    >>> br.random.bernoulli(br.random.key(0), 0.5, (3,))
    array([ True,  True, False])
    """
    word, p = use(key, "bernoulli"), array_of(p)
    dtype = dtype_like("bernoulli", dtype_of(p))
    shape = common_shape("bernoulli", shape, p)
    if mode not in ("low", "high"):
        raise ValueError(f"{user_line()}: the mode of br.random.bernoulli is 'low' or 'high', not {mode!r}")
    if mode == "low":
        return standard_uniform(word, shape, dtype) < p
    u = standard_uniform(word, (2, *shape), dtype)
    return u[1] * 2.0 ** -np.finfo(dtype).nmant < p - u[0]


def rademacher(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """One or minus one, equally often; of dtype int64 unless given.

    >>> import bindrune as br
    >>> br.random.rademacher(br.random.key(0), (3,))
    array([ 1,  1, -1])
    """
    return signs(use(key, "rademacher"), shape_like(shape), np.dtype(int if dtype is None else dtype))


# ----------------------------------------------------------------------------------------------------------- integers


def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = None) -> Any:
    """Integers from `minval` on and below `maxval`, which broadcast to `shape`.

    They are remainders of twice as many bits, and so very nearly equally frequent.  Where `maxval` is not above
    `minval` the result is `minval`.

    >>> import bindrune as br
    >>> br.random.randint(br.random.key(0), (5,), 0, 10)
    array([5, 1, 5, 7, 3])
    """
    word, dtype = use(key, "randint"), dtype_like("randint", dtype, "iu", int)
    low, high = _integers(minval), _integers(maxval)
    shape = common_shape("randint", shape, low, high)
    if dtype.itemsize >= 4:
        return _integers_between(word, shape, low, high, dtype)
    # Few bits would leave some integers visibly more frequent.
    limits = np.iinfo(dtype)
    low = np.clip(low, limits.min, limits.max).astype(np.int32)
    high = np.clip(high, limits.min, limits.max + 1).astype(np.int32)
    return _integers_between(word, shape, low, high, np.dtype(np.int32)).astype(dtype)


def _integers(x: Any) -> Any:
    x = array_of(x)
    return x if dtype_of(x).kind in "iu" else x.astype(int)


def _clipped(x: Any, dtype: np.dtype[Any]) -> Any:
    """Integers in another dtype, those beyond its range at its ends."""
    mine, other = np.iinfo(dtype_of(x)), np.iinfo(dtype)
    return np.clip(x, max(mine.min, other.min), min(mine.max, other.max)).astype(dtype)


def _integers_between(word: Any, shape: tuple[int, ...], low: Any, high: Any, dtype: np.dtype[Any]) -> Any:
    width = 8 * dtype.itemsize
    # One above the largest integer is a valid end, which the dtype cannot hold.
    beyond = high > np.iinfo(dtype).max
    low, high = _clipped(low, dtype), _clipped(high, dtype)
    words = children(word)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    with np.errstate(over="ignore", divide="ignore"):
        span = np.where(high <= low, 1, (high - low).astype(unsigned)).astype(unsigned)
        span = (span + (beyond & (high > low)).astype(unsigned))[()]
        factor = _remainder(unsigned.type(2 ** (width // 2)), span)
        factor = _remainder(factor * factor, span)
        upper, lower = (_remainder(draw_bits(words[i], shape, width), span) for i in range(2))
        return low + _remainder(upper * factor + lower, span).astype(dtype)


def _remainder(x: Any, span: Any) -> Any:
    """The remainder; a span of zero stands for one more than the largest integer."""
    return np.where(span == 0, x, x % np.where(span == 0, 1, span))[()]


def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = None) -> Any:
    """How often to try until the first success, each try succeeding with probability `p`; int64 unless given.

    >>> import bindrune as br
    >>> br.random.geometric(br.random.key(0), 0.2, (3,))
    array([4, 7, 1])
    """
    word, dtype = use(key, "geometric"), dtype_like("geometric", dtype, "iuf", int)
    p = _probability(p)
    u = standard_uniform(word, common_shape("geometric", shape, p), dtype_of(p))
    tries = np.floor(np.log(np.where(u == 0, 1, u)) / np.log1p(-p)) + 1
    return tries[()].astype(dtype)


def _probability(p: Any) -> Any:
    """A parameter of a floating dtype."""
    p = array_of(p)
    return p if dtype_of(p).kind == "f" else p.astype(float)


def poisson(key: Any, lam: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Poisson numbers of mean `lam`; int64 unless given.

    The draw is made in float32, in which rounding decides now and then: for means in the thousands a few numbers in a
    thousand are not those of `jax.random`.

    >>> import bindrune as br
    >>> br.random.poisson(br.random.key(0), 4.0, (5,))
    array([0, 1, 5, 5, 2])
    """
    word, dtype = use(key, "poisson"), dtype_like("poisson", dtype, "iuf", int)
    lam = cast(lam, np.dtype(np.float32))
    shape = common_shape("poisson", shape, lam)
    return _shared_draw(rejection.poisson, word, shape, lam).astype(dtype)


def _shared_draw(op: Any, word: Any, shape: tuple[int, ...], *parameters: Any) -> Any:
    """A draw whose elements share a key."""
    key = np.reshape(word, (1,) * len(shape))
    return evaluate(op, (key, *(np.broadcast_to(p, shape) for p in parameters)), {"ndim": len(shape)})


def binomial(key: Any, n: Any, p: Any, shape: Any = None, dtype: Any = None) -> Any:
    """How many of `n` tries succeed, each with probability `p`; of a floating dtype, float64 unless given.

    >>> import bindrune as br
    >>> br.random.binomial(br.random.key(0), 10, 0.3, (5,))
    array([4., 1., 3., 4., 3.])
    """
    word, dtype = use(key, "binomial"), dtype_like("binomial", dtype)
    n, p = array_of(n), _probability(p)
    return _binomial(word, n, p, common_shape("binomial", shape, n, p)).astype(dtype)


def _binomial(word: Any, n: Any, p: Any, shape: tuple[int, ...]) -> Any:
    return _shared_draw(rejection.binomial, word, shape, cast(n, dtype_of(p)), p)


def multinomial(key: Any, n: Any, p: Any, *, shape: Any = None, dtype: Any = None) -> Any:
    """How many of `n` tries have each outcome.

    Args:
        key: a key.
        n: the number of tries.
        p: the probabilities of the outcomes, along the last axis.
        shape: the shape of the result, its last axis that of `p`; that of `p` by default.
        dtype: the floating dtype of the result, float64 by default.

    Returns:
        An array of counts; along the last axis their sum is `n`.

    >>> import numpy as np, bindrune as br
    >>> br.random.multinomial(br.random.key(0), 10, np.array([0.2, 0.3, 0.5]))
    array([1., 4., 5.])
    """
    word, dtype = use(key, "multinomial"), dtype_like("multinomial", dtype)
    n, p = array_of(n), _probability(p)
    shape = np.shape(p) if shape is None else shape_like(shape)
    p = np.moveaxis(np.broadcast_to(p, shape), -1, 0)
    left = np.broadcast_to(cast(n, dtype_of(p)), shape[:-1])
    rest = np.cumsum(p[::-1], axis=0)[::-1]
    # Among the tries that had none of the outcomes before, so many have this one.
    chances = np.clip(p / np.where(rest == 0, 1, rest), 0, 1)
    words = children(word, (len(p),))
    counts = []
    for i in range(len(p)):
        counts.append(_binomial(words[i], left, chances[i], shape[:-1]))
        left = left - counts[-1]
    return np.stack(counts, axis=-1).astype(dtype)


# ------------------------------------------------------------------------------------------------ choices, permutations


def categorical(
    key: Any, logits: Any, axis: int = -1, shape: Any = None, replace: bool = True, mode: str | None = None
) -> Any:
    """Positions along an axis, each with a probability proportional to the exponential of its logit.

    Args:
        key: a key.
        logits: the logarithms of the probabilities, up to a constant.
        axis: the axis of `logits` along which the choices stand.
        shape: the shape of the result; it ends with that of `logits` without the axis, which is the default.
        replace: whether a position may be drawn again, within the leading axes of `shape`.
        mode: that of `gumbel`.

    Returns:
        An array of integers.

    >>> import numpy as np, bindrune as br
    >>> br.random.categorical(br.random.key(0), np.log(np.array([0.1, 0.2, 0.7])), shape=(5,))
    array([2, 2, 2, 1, 1])
    """
    word, logits = use(key, "categorical"), _probability(logits)
    dtype, sizes = dtype_of(logits), np.shape(logits)
    axis = normalize_axis_index(axis, len(sizes))
    batch = sizes[:axis] + sizes[axis + 1 :]
    shape = fitting_shape("categorical", shape, batch)
    leading = shape[: len(shape) - len(batch)]
    if replace:
        noise = standard_gumbel(word, leading + sizes, dtype, mode)
        return np.argmax(noise + logits, axis=axis - len(sizes))
    count = math.prod(leading)
    if count > sizes[axis]:
        raise ValueError(f"{user_line()}: {count} different positions, but there are only {sizes[axis]}")
    scores = logits + standard_gumbel(word, sizes, dtype, mode)
    chosen = np.moveaxis(_largest(scores, count, axis), axis, 0)
    return np.reshape(chosen, shape)


def _largest(x: Any, count: int, axis: int) -> Any:
    """The positions of the largest elements, in falling order."""
    order = np.argsort(-x, axis=axis, kind="stable")
    return order[(slice(None),) * axis + (slice(count),)]


def permutation(key: Any, x: Any, axis: int = 0, independent: bool = False) -> Any:
    """A shuffled array, or the integers below a number, shuffled.

    Args:
        key: a key.
        x: an array, or how many integers.
        axis: the axis along which to shuffle.
        independent: whether each vector along the axis is shuffled in its own way.

    Returns:
        An array like `x`.

    >>> import bindrune as br
    >>> br.random.permutation(br.random.key(0), 5)
    array([0, 1, 4, 3, 2])
    """
    return _permutation(use(key, "permutation"), x, axis, independent)


def _permutation(word: Any, x: Any, axis: int, independent: bool = False) -> Any:
    x = array_of(x)
    if not np.ndim(x):
        return _shuffled(word, np.arange(operator.index(x)), 0)
    axis = normalize_axis_index(axis, np.ndim(x))
    if independent or np.ndim(x) == 1:
        return _shuffled(word, x, axis)
    return _taken(x, _shuffled(word, np.arange(np.shape(x)[axis]), 0), axis)


def _taken(x: Any, places: Any, axis: int) -> Any:
    """`np.take`, which NumPy does not dispatch on the places."""
    return FUNCTIONS[np.take](x, places, axis) if isinstance(places, Array) else np.take(x, places, axis)


def _shuffled(word: Any, x: Any, axis: int) -> Any:
    """Sorted by random numbers, so often that no two elements are likely to have met equal ones each time."""
    size = math.prod(np.shape(x))
    for _ in range(math.ceil(3 * math.log(max(1, size)) / math.log(2**32 - 1))):
        words = children(word)
        word = words[0]
        order = np.argsort(draw_bits(words[1], np.shape(x), 32), axis=axis, kind="stable")
        x = np.take_along_axis(x, order, axis)
    return x


def choice(
    key: Any,
    a: Any,
    shape: Any = (),
    replace: bool = True,
    p: Any = None,
    axis: int = 0,
    mode: str | None = None,
) -> Any:
    """Elements of an array, or of the integers below a number.

    Args:
        key: a key.
        a: an array, or how many integers.
        shape: the shape of the draw.
        replace: whether an element may be drawn again.
        p: the elements' probabilities, equal by default.
        axis: the axis of `a` along which the elements stand.
        mode: that of `gumbel`, which draws without replacement by probabilities.

    Returns:
        An array in which the axes of `shape` stand for the axis of `a`.

    >>> import numpy as np, bindrune as br
    >>> br.random.choice(br.random.key(0), 10, (3,), replace=False)
    array([0, 1, 8])
    >>> br.random.choice(br.random.key(0), np.array([2.0, 3.0, 5.0]), (4,), p=np.array([0.1, 0.2, 0.7]))
    array([5., 5., 2., 5.])
    """
    word, a, shape = use(key, "choice"), array_of(a), shape_like(shape)
    axis = normalize_axis_index(axis, max(np.ndim(a), 1))
    sizes = np.shape(a) or (operator.index(a),)
    count, draws = sizes[axis], math.prod(shape)
    if count <= 0 < draws:
        raise ValueError(f"{user_line()}: there is nothing to choose from")
    if not replace and draws > count:
        raise ValueError(f"{user_line()}: {draws} different elements, but there are only {count}")
    if p is None and not replace:
        chosen = _permutation(word, a, axis)[(slice(None),) * axis + (slice(draws),)]
        return np.reshape(chosen, sizes[:axis] + shape + sizes[axis + 1 :])
    if p is None:
        places = _integers_between(word, shape, np.int64(0), np.int64(count), np.dtype(np.int64))
    else:
        p = _probability(p)
        if np.shape(p) != (count,):
            raise ValueError(f"{user_line()}: {count} elements need as many probabilities; p has shape {np.shape(p)}")
        if replace:
            sums = np.cumsum(p)
            places = np.searchsorted(sums, sums[-1] * (1 - standard_uniform(word, shape, dtype_of(p))))
        else:
            scores = standard_gumbel(word, (count,), dtype_of(p), mode) + np.log(p)
            places = np.reshape(_largest(scores, draws, 0), shape)
    return _taken(a, places, axis) if np.ndim(a) else places
