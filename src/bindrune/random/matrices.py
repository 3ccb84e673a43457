"""Normal vectors of a given covariance, and orthogonal matrices."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..core.array import dtype_of
from ..core.errors import user_line
from .keys import use
from .parameters import array_of, cast, dtype_like, fitting_shape, shape_like, standard_normal

__all__ = ["multivariate_normal", "orthogonal"]


def multivariate_normal(
    key: Any, mean: Any, cov: Any, shape: Any = None, dtype: Any = None, method: str = "cholesky"
) -> Any:
    """Normal vectors of this mean and covariance.

    Args:
        key: a key.
        mean: vectors of length n, along the last axis.
        cov: covariance matrices, positive definite, along the last two axes.
        shape: the shape of the result without its last axis; by default that of `mean` and `cov` together.
        dtype: the floating dtype of the result, by default that of `mean` and `cov`.
        method: how to take the root of the covariance: ``"cholesky"``, or ``"eigh"`` or ``"svd"`` for a singular one.

    Returns:
        An array of shape ``shape + (n,)``, differentiable in `mean` and `cov`.

    >>> import numpy as np, bindrune as br
    >>> br.random.multivariate_normal(br.random.key(0), np.zeros(2), np.array([[2.0, 1.0], [1.0, 2.0]]))
    array([-0.29110475, -1.10669023])
    """
    word, mean, cov = use(key, "multivariate_normal"), array_of(mean), array_of(cov)
    promoted = np.result_type(dtype_of(mean), dtype_of(cov))
    dtype = dtype_like("multivariate_normal", dtype, default=promoted if promoted.kind == "f" else float)
    mean, cov = cast(mean, dtype), cast(cov, dtype)
    n = np.shape(mean)[-1:]
    if not n or np.shape(cov)[-2:] != n * 2:
        raise ValueError(
            f"{user_line()}: br.random.multivariate_normal takes a mean of shape (..., n) and a covariance of shape "
            f"(..., n, n), not {np.shape(mean)} and {np.shape(cov)}"
        )
    shape = fitting_shape("multivariate_normal", shape, np.shape(mean)[:-1], np.shape(cov)[:-2])
    return mean + np.einsum("...ij,...j->...i", _root(cov, method), standard_normal(word, shape + n, dtype))


def _root(cov: Any, method: str) -> Any:
    """A matrix that gives `cov` when multiplied by its transpose."""
    if method == "cholesky":
        return np.linalg.cholesky(cov)
    if method == "eigh":
        values, vectors = np.linalg.eigh(cov)
    elif method == "svd":
        vectors, values, _ = np.linalg.svd(cov)
    else:
        raise ValueError(f"{user_line()}: method is 'cholesky', 'eigh' or 'svd', not {method!r}")
    return vectors * np.sqrt(values)[..., None, :]


def orthogonal(key: Any, n: int, shape: Any = (), dtype: Any = None, m: int | None = None) -> Any:
    """Matrices spread evenly over the orthogonal group; for a complex dtype, over the unitary group.

    Args:
        key: a key.
        n: the number of rows.
        shape: the shape of the result without its last two axes.
        dtype: a floating or complex dtype.
        m: the number of columns, `n` by default.  Of a matrix that is not square, the shorter side is orthonormal.

    Returns:
        An array of shape ``shape + (n, m)``.

    >>> import bindrune as br
    >>> br.random.orthogonal(br.random.key(0), 2)
    array([[-0.11262267, -0.99363783],
           [ 0.99363783, -0.11262267]])
    """
    word, dtype, shape = use(key, "orthogonal"), dtype_like("orthogonal", dtype, "fc"), shape_like(shape)
    rows = operator.index(n)
    columns = rows if m is None else operator.index(m)
    q, r = np.linalg.qr(standard_normal(word, (*shape, max(rows, columns), min(rows, columns)), dtype))
    # The signs of R's diagonal are LAPACK's choice; without them Q is spread evenly.
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return q.mT if rows < columns else q
