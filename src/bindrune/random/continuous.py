"""Continuous distributions: uniform and normal numbers, and what follows from them by a formula.

Every sampler takes a key; `shape`, that of the result; and `dtype`, the floating dtype in which it is computed,
float64 unless given.  A result without axes is a number.  With parameters `shape` may be left out: it is then that of
the parameters, which broadcast.  Samples are differentiable in their parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from ..core.errors import user_line
from ..transforms.stopping import stop_gradient
from .keys import children, use
from .parameters import (
    cast,
    common_shape,
    dtype_like,
    shape_like,
    signs,
    standard_normal,
    standard_uniform,
    uniform_between,
)

__all__ = [
    "cauchy",
    "double_sided_maxwell",
    "exponential",
    "gumbel",
    "laplace",
    "logistic",
    "lognormal",
    "maxwell",
    "normal",
    "pareto",
    "rayleigh",
    "standard_exponential",
    "standard_gumbel",
    "triangular",
    "truncated_normal",
    "uniform",
    "wald",
    "weibull_min",
]

# ------------------------------------------------------------------------------------------------- without parameters


def standard_exponential(word: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Numbers from the exponential distribution of mean 1."""
    return -np.log1p(-standard_uniform(word, shape, dtype))


def standard_gumbel(word: Any, shape: tuple[int, ...], dtype: np.dtype[Any], mode: str | None = None) -> Any:
    """Numbers from the Gumbel distribution."""
    if mode not in (None, "low", "high"):
        raise ValueError(f"{user_line()}: the mode of a Gumbel draw is 'low' or 'high', not {mode!r}")
    tiny = np.finfo(dtype).tiny
    if mode != "high":
        return -np.log(-np.log(uniform_between(word, shape, dtype, tiny, dtype.type(1))))
    high, low = standard_uniform(word, (2, *shape), dtype)
    x = np.where(high >= 0.5, high, high + 2.0 ** -np.finfo(dtype).nmant * low + tiny)[()]
    return -np.log(-np.log1p(-x))


def standard_maxwell(word: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Lengths of vectors of three normal numbers."""
    return np.sqrt(np.sum(standard_normal(word, (*shape, 3), dtype) ** 2, axis=-1))


def uniform(key: Any, shape: Any = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0) -> Any:
    """Uniform numbers from `minval` on and below `maxval`, which broadcast to `shape`.

    >>> import bindrune as br
    >>> br.random.uniform(br.random.key(0), (2,), minval=-1, maxval=1)
    array([-0.16308578, -0.56740909])
    """
    word, dtype = use(key, "uniform"), dtype_like("uniform", dtype)
    low, high = cast(minval, dtype), cast(maxval, dtype)
    return uniform_between(word, common_shape("uniform", shape, low, high), dtype, low, high)


def normal(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Normal numbers of mean 0 and variance 1; for a complex dtype this is the variance of both parts together.

    >>> import bindrune as br
    >>> br.random.normal(br.random.key(0), (2,))
    array([-0.20584214, -0.78476578])
    """
    return standard_normal(use(key, "normal"), shape_like(shape), dtype_like("normal", dtype, "fc"))


def exponential(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Exponential numbers: density exp(-x), x >= 0.

    >>> import bindrune as br
    >>> br.random.exponential(br.random.key(0), (2,))
    array([0.54207056, 0.24372319])
    """
    return standard_exponential(use(key, "exponential"), shape_like(shape), dtype_like("exponential", dtype))


def cauchy(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Cauchy numbers: density proportional to 1 / (1 + x**2).

    >>> import bindrune as br
    >>> br.random.cauchy(br.random.key(0), (2,))
    array([-0.26192951, -1.23784602])
    """
    word, dtype = use(key, "cauchy"), dtype_like("cauchy", dtype)
    u = uniform_between(word, shape_like(shape), dtype, np.finfo(dtype).eps, dtype.type(1))
    return np.tan(dtype.type(np.pi) * (u - 0.5))


def gumbel(key: Any, shape: Any = (), dtype: Any = None, mode: str | None = None) -> Any:
    """Gumbel numbers: density exp(-(x + exp(-x))).

    In mode ``"high"`` two draws make one number, which reaches further into the upper tail.

    >>> import bindrune as br
    >>> br.random.gumbel(br.random.key(0), (2,))
    array([ 0.13790566, -0.42599294])
    """
    return standard_gumbel(use(key, "gumbel"), shape_like(shape), dtype_like("gumbel", dtype), mode)


def laplace(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Laplace numbers: density exp(-abs(x)) / 2.

    >>> import bindrune as br
    >>> br.random.laplace(br.random.key(0), (2,))
    array([0.17803369, 0.83796278])
    """
    word, dtype = use(key, "laplace"), dtype_like("laplace", dtype)
    u = uniform_between(word, shape_like(shape), dtype, dtype.type(-1) + np.finfo(dtype).epsneg, dtype.type(1))
    return np.sign(u) * np.log1p(-np.abs(u))


def logistic(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Logistic numbers: density exp(-x) / (1 + exp(-x))**2.

    >>> import bindrune as br
    >>> br.random.logistic(br.random.key(0), (2,))
    array([-0.32911032, -1.28738678])
    """
    word, dtype = use(key, "logistic"), dtype_like("logistic", dtype)
    x = uniform_between(word, shape_like(shape), dtype, np.finfo(dtype).tiny, dtype.type(1))
    return np.log(x) - np.log1p(-x)


def maxwell(key: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Maxwell numbers: density proportional to x**2 exp(-x**2 / 2), x >= 0.

    >>> import bindrune as br
    >>> br.random.maxwell(br.random.key(0), (2,))
    array([1.98906991, 0.42460738])
    """
    return standard_maxwell(use(key, "maxwell"), shape_like(shape), dtype_like("maxwell", dtype))


# ---------------------------------------------------------------------------------------------------- with parameters


def double_sided_maxwell(key: Any, loc: Any, scale: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Maxwell numbers with a random sign, times `scale`, plus `loc`.

    The result has the axes of `shape`, followed by those of the parameters.

    >>> import bindrune as br
    >>> br.random.double_sided_maxwell(br.random.key(0), 1.0, 2.0, (2,))
    array([ 4.96922408, -3.9564148 ])
    """
    word, dtype = use(key, "double_sided_maxwell"), dtype_like("double_sided_maxwell", dtype)
    loc, scale = cast(loc, dtype), cast(scale, dtype)
    shape = shape_like(shape) + np.broadcast_shapes(np.shape(loc), np.shape(scale))
    words = children(word)
    return signs(words[1], shape, dtype) * standard_maxwell(words[0], shape, dtype) * scale + loc


def lognormal(key: Any, sigma: Any = 1.0, shape: Any = None, dtype: Any = None) -> Any:
    """Exponentials of normal numbers of standard deviation `sigma`.

    >>> import bindrune as br
    >>> br.random.lognormal(br.random.key(0), 0.5, (2,))
    array([0.90219818, 0.67544544])
    """
    word, dtype = use(key, "lognormal"), dtype_like("lognormal", dtype)
    sigma = cast(sigma, dtype)
    return np.exp(standard_normal(word, common_shape("lognormal", shape, sigma), dtype) * sigma)


def pareto(key: Any, b: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Pareto numbers: density b / x**(b + 1), x >= 1.

    >>> import bindrune as br
    >>> br.random.pareto(br.random.key(0), 3.0, (2,))
    array([1.19804395, 1.08463233])
    """
    word, dtype = use(key, "pareto"), dtype_like("pareto", dtype)
    b = cast(b, dtype)
    return np.exp(standard_exponential(word, common_shape("pareto", shape, b), dtype) / b)


def rayleigh(key: Any, scale: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Rayleigh numbers: density proportional to x exp(-x**2 / (2 scale**2)), x >= 0.

    >>> import bindrune as br
    >>> br.random.rayleigh(br.random.key(0), 2.0, (2,))
    array([2.63997102, 3.49983995])
    """
    word, dtype = use(key, "rayleigh"), dtype_like("rayleigh", dtype)
    scale = cast(scale, dtype)
    return scale * np.sqrt(np.log(standard_uniform(word, common_shape("rayleigh", shape, scale), dtype)) * -2)


def triangular(key: Any, left: Any, mode: Any, right: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Numbers whose density rises linearly from `left` to `mode` and falls to `right`.

    >>> import bindrune as br
    >>> br.random.triangular(br.random.key(0), 0.0, 1.0, 4.0, (2,))
    array([1.35831216, 0.9301515 ])
    """
    word, dtype = use(key, "triangular"), dtype_like("triangular", dtype)
    left, mode, right = cast(left, dtype), cast(mode, dtype), cast(right, dtype)
    u = standard_uniform(word, common_shape("triangular", shape, left, mode, right), dtype)
    width, rise, fall = right - left, mode - left, right - mode
    rising = u < rise / width
    # Each root is taken only of what is on its side, and so has a finite derivative.
    up = left + np.sqrt(np.where(rising, u, 1) * width * rise)
    down = right - np.sqrt(np.where(rising, 1, 1 - u) * width * fall)
    return np.where(rising, up, down)[()]


def truncated_normal(key: Any, lower: Any, upper: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Normal numbers between `lower` and `upper`, neither of them included.

    >>> import bindrune as br
    >>> br.random.truncated_normal(br.random.key(0), 0.0, 1.0, (2,))
    array([0.36605541, 0.18613695])
    """
    word, dtype = use(key, "truncated_normal"), dtype_like("truncated_normal", dtype)
    lower, upper = cast(lower, dtype), cast(upper, dtype)
    shape = common_shape("truncated_normal", shape, lower, upper)
    root = dtype.type(np.sqrt(2))
    u = uniform_between(word, shape, dtype, special.erf(lower / root), special.erf(upper / root))
    # Rounding may reach the ends.
    first = np.nextafter(stop_gradient(lower), dtype.type(np.inf))
    last = np.nextafter(stop_gradient(upper), dtype.type(-np.inf))
    return np.clip(cast(root * special.erfinv(u), dtype), first, last)


def wald(key: Any, mean: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Wald (inverse Gaussian) numbers of this mean, of shape parameter 1.

    >>> import bindrune as br
    >>> br.random.wald(br.random.key(0), 2.0, (2,))
    array([0.22327945, 3.90085525])
    """
    word, dtype = use(key, "wald"), dtype_like("wald", dtype)
    mean = cast(mean, dtype)
    shape = common_shape("wald", shape, mean)
    words = children(word)
    y = standard_normal(words[0], shape, dtype) ** 2
    x = mean + mean**2 * y / 2 - mean / 2 * np.sqrt(4 * mean * y + mean**2 * y**2)
    z = standard_uniform(words[1], shape, dtype)
    return np.where(z <= mean / (mean + x), x, mean**2 / x)[()]


def weibull_min(key: Any, scale: Any, concentration: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Weibull numbers: density proportional to x**(c - 1) exp(-(x / scale)**c), x > 0, with c the concentration.

    The parameters broadcast with `shape`.

    >>> import bindrune as br
    >>> br.random.weibull_min(br.random.key(0), 2.0, 1.5, (2,))
    array([1.32963939, 0.78035921])
    """
    word, dtype = use(key, "weibull_min"), dtype_like("weibull_min", dtype)
    scale, concentration = cast(scale, dtype), cast(concentration, dtype)
    return standard_exponential(word, shape_like(shape), dtype) ** (1 / concentration) * scale
