"""Linear algebra, as in `numpy.linalg`.

What this file does not define (`matrix_power`, `multi_dot`, `matrix_rank`, `tensorinv`, `matrix_norm`, `trace`, ...)
is NumPy's own Python code, lifted.  The gradient of a norm is zero where the norm is zero.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core.array import Array, concrete, peek
from ..core.errors import UnsupportedError, user_line
from ..core.protocol import hooks, implements
from ..ops import factorizations, linalg
from .shaping import cell_of

__all__: list[str] = []

_Eigen: Any = type(np.linalg.eig(np.eye(1)))
_HermitianEigen: Any = type(np.linalg.eigh(np.eye(1)))
_Svd: Any = type(np.linalg.svd(np.eye(1)))
_Qr: Any = type(np.linalg.qr(np.eye(1)))
_LogDeterminant: Any = type(np.linalg.slogdet(np.eye(1)))
_ABSENT: Any = inspect.signature(np.linalg.pinv).parameters["rtol"].default

# ------------------------------------------------------------------------------------------------ systems of equations


@implements(np.linalg.inv)
def _inv(a: Any) -> Array:
    result: Array = linalg.inv(cell_of(a))
    return result


@implements(np.linalg.solve)
def _solve(a: Any, b: Any) -> Array:
    a, b = cell_of(a), cell_of(b)
    if b.ndim != 1:
        matrices: Array = linalg.solve(a, b)
        return matrices
    if a.shape[-1:] != b.shape:
        np.linalg.solve(peek(a), peek(b))
    vectors: Array = linalg.solve(a, b[:, None])[..., 0]
    return vectors


@implements(np.linalg.tensorsolve)
def _tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    a, b = cell_of(a), cell_of(b)
    if axes is not None:
        a = np.moveaxis(a, axes, range(a.ndim - len(axes), a.ndim))
    shape = a.shape[-(a.ndim - b.ndim) :]
    size = int(np.prod(shape))
    if a.size != size**2:
        np.linalg.tensorsolve(np.empty(a.shape), np.empty(b.shape))
    return np.reshape(_solve(np.reshape(a, (size, size)), np.ravel(b)), shape)


@implements(np.linalg.lstsq)
def _lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Any, Any, Any, Any]:
    a, b = cell_of(a), cell_of(b)
    rcond = concrete(rcond)
    if b.ndim != 1:
        return linalg.lstsq(a, b, rcond=rcond)  # type: ignore[no-any-return]
    x, residuals, rank, values = linalg.lstsq(a, b[:, None], rcond=rcond)
    return x[:, 0], residuals, rank, values


@implements(np.linalg.pinv)
def _pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = _ABSENT) -> Array:
    a = cell_of(a)
    if rcond is None:
        rcond = 1e-15 if rtol is _ABSENT else max(a.shape[-2:]) * np.finfo(a.dtype).eps if rtol is None else rtol
    elif rtol is not _ABSENT:
        raise ValueError("`rtol` and `rcond` can't be both set.")
    result: Array = linalg.pinv(a, rcond=concrete(rcond), of_hermitian=bool(hermitian))
    return result


@implements(np.linalg.det)
def _det(a: Any) -> Array:
    result: Array = linalg.det(cell_of(a))
    return result


@implements(np.linalg.slogdet)
def _slogdet(a: Any) -> Any:
    return _LogDeterminant(*linalg.slogdet(cell_of(a)))


# ------------------------------------------------------------------------------------------------------ factorizations


@implements(np.linalg.cholesky)
def _cholesky(a: Any, /, *, upper: bool = False) -> Array:
    result: Array = factorizations.cholesky(cell_of(a), upper=bool(upper))
    return result


@implements(np.linalg.eigh)
def _eigh(a: Any, UPLO: str = "L") -> Any:  # noqa: N803  (NumPy's name)
    return _HermitianEigen(*factorizations.eigh(cell_of(a), lower=_reads_lower(UPLO)))


@implements(np.linalg.eigvalsh)
def _eigvalsh(a: Any, UPLO: str = "L") -> Array:  # noqa: N803
    result: Array = factorizations.eigvalsh(cell_of(a), lower=_reads_lower(UPLO))
    return result


def _reads_lower(side: str) -> bool:
    """Which triangle a name stands for."""
    if side.upper() not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return side.upper() == "L"


@implements(np.linalg.eig)
def _eig(a: Any) -> Any:
    return _Eigen(*factorizations.eig(cell_of(a)))


@implements(np.linalg.eigvals)
def _eigvals(a: Any) -> Array:
    # The eigenvectors are needed for the derivative, in the same order.
    result: Array = factorizations.eig(cell_of(a))[0]
    return result


@implements(np.linalg.svd)
def _svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    if hermitian:
        return hooks.fallback(np.linalg.svd)(a, full_matrices, compute_uv, True)
    a = cell_of(a)
    if not compute_uv:
        return factorizations.svdvals(a)
    return _Svd(*factorizations.svd(a, full_matrices=bool(full_matrices)))


@implements(np.linalg.qr)
def _qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "complete", "r"):
        raise UnsupportedError(f"{user_line()}: np.linalg.qr with mode={mode!r} has no rule for traced values")
    q, r = factorizations.qr(cell_of(a), mode="complete" if mode == "complete" else "reduced")
    return r if mode == "r" else _Qr(q, r)


# --------------------------------------------------------------------------------------------------------------- norms


@implements(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    x = cell_of(x)
    ord = concrete(ord)
    axes: Any = None if ord is None else tuple(range(x.ndim))
    if axis is not None:
        axes = normalize_axis_tuple(axis, x.ndim, allow_duplicate=True)
    of_vectors = axes is None or len(axes) == 1
    powers = ord is None or (of_vectors and not isinstance(ord, str) and abs(ord) not in (0, 1, np.inf))
    if powers or (not of_vectors and ord in ("fro", "f")):
        places = None if axis is None else axes[0] if of_vectors else axes
        result: Array = linalg.norm(x, ord=ord, axis=places, keepdims=bool(keepdims))
    else:
        result = hooks.fallback(np.linalg.norm)(x, ord, axis, keepdims)
    return result


@implements(np.linalg.cond)
def _cond(x: Any, p: Any = None) -> Any:
    x, p = cell_of(x), concrete(p)
    if 0 in x.shape[-2:]:
        raise np.linalg.LinAlgError("cond is not defined on empty arrays")
    with np.errstate(all="ignore"):
        if p in (None, 2, -2):
            values = _svd(x, compute_uv=False)
            largest, smallest = values[..., 0], values[..., -1]
            found = smallest / largest if p == -2 else largest / smallest
        else:
            found = _norm(x, p, (-2, -1)) * _norm(_inv(x), p, (-2, -1))
    unknown = np.isnan(found) & ~np.any(np.isnan(x), axis=(-2, -1))
    return np.where(unknown, np.inf, found)[()]
