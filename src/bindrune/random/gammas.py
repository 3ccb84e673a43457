"""Gamma variates, and the distributions that are made of them.

Arguments are those of the other samplers (see `bindrune.random.continuous`).  A gamma variate is differentiable in its
parameter: the derivative is that of the value at a fixed place in the distribution, so that the gradient of a mean
over samples estimates the gradient of the mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import user_line
from ..core.handler import evaluate
from ..ops.rejection import log_gamma
from .continuous import standard_exponential
from .keys import children, use
from .parameters import cast, common_shape, dtype_like, fitting_shape, shape_like, signs, standard_normal

__all__ = ["ball", "beta", "chisquare", "dirichlet", "f", "gamma", "generalized_normal", "loggamma", "t"]


def _log_gamma(word: Any, a: Any, shape: tuple[int, ...]) -> Any:
    """Logarithms of gamma numbers; each element has a key of its own."""
    return evaluate(log_gamma, (children(word, shape), a), {})


def loggamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Logarithms of gamma numbers: precise where `a` is so small that the numbers themselves are zero.

    >>> import bindrune as br
    >>> br.random.loggamma(br.random.key(0), 0.001, (2,))
    array([-1113.02584633, -2280.53575798])
    """
    word, dtype = use(key, "loggamma"), dtype_like("loggamma", dtype)
    a = cast(a, dtype)
    return _log_gamma(word, a, common_shape("loggamma", shape, a))


def gamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Gamma numbers: density proportional to x**(a - 1) exp(-x), x >= 0.  Multiply them by a scale.

    >>> import bindrune as br
    >>> br.random.gamma(br.random.key(0), 2.0, (2,))
    array([1.3520308 , 1.12435945])
    """
    word, dtype = use(key, "gamma"), dtype_like("gamma", dtype)
    a = cast(a, dtype)
    return np.exp(_log_gamma(word, a, common_shape("gamma", shape, a)))


def chisquare(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Chi-squared numbers with `df` degrees of freedom.

    >>> import bindrune as br
    >>> br.random.chisquare(br.random.key(0), 3.0, (2,))
    array([1.81389348, 1.44835385])
    """
    word, dtype = use(key, "chisquare"), dtype_like("chisquare", dtype)
    df = cast(df, dtype)
    return _chi_squared(word, df, common_shape("chisquare", shape, df))


def _chi_squared(word: Any, df: Any, shape: tuple[int, ...]) -> Any:
    return 2 * np.exp(_log_gamma(word, df / 2, shape))


def f(key: Any, dfnum: Any, dfden: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Numbers from the F distribution with `dfnum` degrees of freedom over `dfden`.

    >>> import bindrune as br
    >>> br.random.f(br.random.key(0), 3.0, 5.0, (2,))
    array([1.54798047, 0.35745633])
    """
    word, dtype = use(key, "f"), dtype_like("f", dtype)
    dfnum, dfden = cast(dfnum, dtype), cast(dfden, dtype)
    shape = common_shape("f", shape, dfnum, dfden)
    words = children(word)
    return (_chi_squared(words[1], dfnum, shape) / dfnum) / (_chi_squared(words[0], dfden, shape) / dfden)


def t(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Numbers from Student's t distribution with `df` degrees of freedom.

    >>> import bindrune as br
    >>> br.random.t(br.random.key(0), 3.0, (2,))
    array([ 1.40115888, -0.60724612])
    """
    word, dtype = use(key, "t"), dtype_like("t", dtype)
    half = cast(df, dtype) / 2
    shape = common_shape("t", shape, half)
    words = children(word)
    return standard_normal(words[0], shape, dtype) * np.sqrt(half / np.exp(_log_gamma(words[1], half, shape)))


def beta(key: Any, a: Any, b: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Beta numbers: density proportional to x**(a - 1) (1 - x)**(b - 1), 0 <= x <= 1.

    >>> import bindrune as br
    >>> br.random.beta(br.random.key(0), 2.0, 3.0, (2,))
    array([0.32795607, 0.61380901])
    """
    word, dtype = use(key, "beta"), dtype_like("beta", dtype)
    a, b = cast(a, dtype), cast(b, dtype)
    shape = common_shape("beta", shape, a, b)
    words = children(word)
    x, y = _log_gamma(words[0], a, shape), _log_gamma(words[1], b, shape)
    largest = np.maximum(x, y)
    x, y = np.exp(x - largest), np.exp(y - largest)
    return x / (x + y)


def dirichlet(key: Any, alpha: Any, shape: Any = None, dtype: Any = None) -> Any:
    """Vectors from the Dirichlet distribution: numbers along the last axis, with sum 1.

    Args:
        key: a key.
        alpha: the concentrations, along the last axis.
        shape: the shape of the result without its last axis.
        dtype: the floating dtype of the result.

    Returns:
        An array of shape ``shape + alpha.shape[-1:]``.

    >>> import numpy as np, bindrune as br
    >>> br.random.dirichlet(br.random.key(0), np.array([1.0, 2.0, 3.0]))
    array([0.07065346, 0.16705569, 0.76229085])
    """
    word, dtype = use(key, "dirichlet"), dtype_like("dirichlet", dtype)
    alpha = cast(alpha, dtype)
    if not np.ndim(alpha):
        raise ValueError(f"{user_line()}: the concentrations of br.random.dirichlet are a vector, not one number")
    shape = fitting_shape("dirichlet", shape, np.shape(alpha)[:-1])
    x = _log_gamma(word, alpha, shape + np.shape(alpha)[-1:])
    x = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return x / np.sum(x, axis=-1, keepdims=True)


def _generalized_normal(word: Any, p: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    words = children(word)
    return signs(words[1], shape, dtype) * np.exp(_log_gamma(words[0], 1 / p, shape) / p)


def generalized_normal(key: Any, p: Any, shape: Any = (), dtype: Any = None) -> Any:
    """Numbers of density proportional to exp(-abs(x)**p).

    >>> import bindrune as br
    >>> br.random.generalized_normal(br.random.key(0), 4.0, (2,))
    array([ 0.70833083, -0.98146637])
    """
    word, dtype = use(key, "generalized_normal"), dtype_like("generalized_normal", dtype)
    return _generalized_normal(word, cast(p, dtype), shape_like(shape), dtype)


def ball(key: Any, d: int, p: Any = 2, shape: Any = (), dtype: Any = None) -> Any:
    """Points spread evenly in the unit ball of the p-norm, in `d` dimensions: the last axis.

    >>> import bindrune as br
    >>> br.random.ball(br.random.key(0), 2)
    array([-0.87015073, -0.45473046])
    """
    word, dtype, shape = use(key, "ball"), dtype_like("ball", dtype), shape_like(shape)
    p = cast(p, dtype)
    words = children(word)
    g = _generalized_normal(words[0], p, (*shape, d), dtype)
    e = standard_exponential(words[1], shape, dtype)
    return g / ((np.sum(np.abs(g) ** p, axis=-1) + e) ** (1 / p))[..., None]
