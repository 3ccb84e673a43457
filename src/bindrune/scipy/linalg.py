"""`scipy.linalg` for stand-ins.

Its names perform the operations of `numpy.linalg`, and some of their own; they are entered when the first of them is
met, so `import bindrune` does not import SciPy.  What only tells SciPy how to go about it (`overwrite_a`,
`check_finite`, `lapack_driver`) has no meaning here.  Options that choose other results and have no rule are refused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.array import concrete
from ..core.errors import UnsupportedError, user_line
from ..core.operation import registry
from ..core.protocol import FUNCTIONS, hooks
from ..numpy.shaping import cell_of
from ..ops import factorizations
from ..ops import linalg as systems

__all__ = ["load"]

_OURS: dict[str, Callable[..., Any]] = {}


def _ours(function: Callable[..., Any]) -> Callable[..., Any]:
    """Enter a function under its name, without the underscore."""
    _OURS[function.__name__[1:]] = function
    return function


@functools.cache
def load() -> None:
    """Let the names of `scipy.linalg` perform operations."""
    from scipy import linalg

    from ..ops import matrices  # noqa: F401  (SciPy is imported with them)

    FUNCTIONS.update({getattr(linalg, name): function for name, function in _OURS.items()})


hooks.linalg = load


def _refuse(function: str, **options: Any) -> None:
    """Refuse what is not left as it is by default."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise UnsupportedError(
                f"{user_line()}: scipy.linalg.{function} with {name}={value!r} has no rule for values that are "
                "followed. Leave it out, or give the function rules of its own with br.primitive."
            )


def _as_columns(solve: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """A solution for vectors by one for matrices."""
    return solve(a, b[:, None])[..., 0] if b.ndim == 1 else solve(a, b)


# ------------------------------------------------------------------------------------------------ systems of equations


@_ours
def _inv(
    a: Any, overwrite_a: bool = False, check_finite: bool = True, *, assume_a: Any = None, lower: Any = False
) -> Any:
    return np.linalg.inv(_assumed(cell_of(a), assume_a, lower))


@_ours
def _solve(
    a: Any,
    b: Any,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    assume_a: str | None = None,
    transposed: bool = False,
) -> Any:
    a = _assumed(cell_of(a), assume_a, lower)
    return _as_columns(np.linalg.solve, a.mT if transposed else a, cell_of(b))


def _assumed(a: Any, kind: str | None, lower: bool) -> Any:
    """The matrix of which only a part is read."""
    kind = (kind or "general").split()[0]
    if kind in ("her", "hermitian", "pos", "sym", "symmetric"):
        kept, other = (np.tril(a), np.tril(a, -1)) if lower else (np.triu(a), np.triu(a, 1))
        return kept + (other.mT if kind.startswith("sym") else systems.dagger(other))
    if kind in ("upper", "lower"):
        return np.triu(a) if kind == "upper" else np.tril(a)
    return a


@_ours
def _solve_triangular(
    a: Any,
    b: Any,
    trans: Any = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    a = cell_of(a)
    if unit_diagonal:
        a = np.tril(a, -1) + np.triu(a, 1) + np.eye(a.shape[-1], dtype=a.dtype)
    a, lower = _transposed(a, trans), bool(lower) != (trans not in (0, "N"))
    return _as_columns(lambda a, b: systems.solve_triangular(a, b, lower=lower), a, cell_of(b))


def _transposed(a: Any, trans: Any) -> Any:
    """The matrix, its transpose or its adjoint."""
    return a if trans in (0, "N") else a.mT if trans in (1, "T") else systems.dagger(a)


@_ours
def _det(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    return np.linalg.det(cell_of(a))


@_ours
def _lstsq(
    a: Any,
    b: Any,
    cond: Any = None,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
    lapack_driver: Any = None,
) -> Any:
    a, b = cell_of(a), cell_of(b)
    precision = np.finfo(np.result_type(a.dtype, b.dtype, np.float32)).eps
    x, residuals, rank, values = np.linalg.lstsq(a, b, rcond=precision if cond is None else cond)
    return x, residuals[0] if b.ndim == 1 and residuals.shape[0] else residuals, rank, values


@_ours
def _pinv(a: Any, *, atol: Any = None, rtol: Any = None, return_rank: bool = False, check_finite: bool = True) -> Any:
    _refuse("pinv", atol=atol, return_rank=return_rank)
    return np.linalg.pinv(cell_of(a), rtol=rtol)


@_ours
def _norm(a: Any, ord: Any = None, axis: Any = None, keepdims: bool = False, check_finite: bool = True) -> Any:
    return np.linalg.norm(cell_of(a), ord, axis, keepdims)


# ------------------------------------------------------------------------------------------------------ factorizations


@_ours
def _cholesky(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    return np.linalg.cholesky(cell_of(a), upper=not lower)


@_ours
def _cho_factor(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    a = cell_of(a)
    factor = np.linalg.cholesky(a, upper=not lower)
    # The other triangle is what it was.
    return factor + (np.triu(a, 1) if lower else np.tril(a, -1)), lower


@_ours
def _cho_solve(c_and_lower: Any, b: Any, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    c, lower = c_and_lower
    factor = np.tril(cell_of(c)) if lower else systems.dagger(np.triu(cell_of(c)))

    def solve(factor: Any, b: Any) -> Any:
        inner = systems.solve_triangular(factor, b, lower=True)
        return systems.solve_triangular(systems.dagger(factor), inner, lower=False)

    return _as_columns(solve, factor, cell_of(b))


def _own(name: str, *operands: Any, **params: Any) -> Any:
    """An operation that NumPy has not, performed."""
    return registry[f"linalg.{name}"](*operands, **params)


@_ours
def _lu_factor(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    packed, pivots = _own("lu_factor", cell_of(a))
    return packed, pivots


@_ours
def _lu_solve(lu_and_piv: Any, b: Any, trans: Any = 0, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    packed, pivots = map(cell_of, lu_and_piv)
    order = _own("rows_in_order", pivots, rows=packed.shape[-1])
    lower = np.tril(packed, -1) + np.eye(packed.shape[-1], dtype=packed.dtype)
    upper = np.triu(packed)

    def solve(packed: Any, b: Any) -> Any:
        if trans in (0, "N"):
            inner = systems.solve_triangular(lower, b[order], lower=True)
            return systems.solve_triangular(upper, inner, lower=False)
        inner = systems.solve_triangular(_transposed(upper, trans), b, lower=True)
        return systems.solve_triangular(_transposed(lower, trans), inner, lower=False)[np.argsort(order)]

    return _as_columns(solve, packed, cell_of(b))


@_ours
def _lu(
    a: Any,
    permute_l: bool = False,
    overwrite_a: bool = False,
    check_finite: bool = True,
    p_indices: bool = False,
) -> Any:
    a = cell_of(a)
    rows, columns = a.shape[-2:]
    few = min(rows, columns)
    packed, pivots = _own("lu_factor", a)
    lower = np.tril(packed[..., :few], -1) + np.eye(rows, few, dtype=packed.dtype)
    upper = np.triu(packed[..., :few, :])
    back = np.argsort(_own("rows_in_order", pivots, rows=rows), axis=-1)
    if permute_l:
        return np.take_along_axis(lower, back[..., None], axis=-2), upper
    if p_indices:
        return back, lower, upper
    return cell_of(np.eye(rows, dtype=packed.dtype))[back], lower, upper


@_ours
def _qr(
    a: Any,
    overwrite_a: bool = False,
    lwork: Any = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
) -> Any:
    _refuse("qr", pivoting=pivoting, mode=None if mode in ("full", "r", "economic") else mode)
    a = cell_of(a)
    whole = mode != "economic" and a.shape[-2] > a.shape[-1]
    q, r = factorizations.qr(a, mode="complete" if whole else "reduced")
    return (r,) if mode == "r" else (q, r)


@_ours
def _eigh(
    a: Any,
    b: Any = None,
    *,
    lower: bool = True,
    eigvals_only: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    type: int = 1,
    check_finite: bool = True,
    subset_by_index: Any = None,
    subset_by_value: Any = None,
    driver: Any = None,
) -> Any:
    _refuse("eigh", subset_by_value=subset_by_value, type=None if type == 1 else type)
    a = cell_of(a)
    if b is None:
        values, vectors = np.linalg.eigh(a, "L" if lower else "U")
    else:
        # With b = L L*, the vectors x of a x = w b x are those of L^-1 a L^-*, solved by L*.
        factor = (
            systems.dagger(np.linalg.cholesky(cell_of(b), upper=True)) if not lower else np.linalg.cholesky(cell_of(b))
        )
        a = systems.hermitian(a, bool(lower))
        inner = systems.solve_triangular(factor, a, lower=True)
        inner = systems.dagger(systems.solve_triangular(factor, systems.dagger(inner), lower=True))
        values, vectors = np.linalg.eigh(inner)
        vectors = systems.solve_triangular(systems.dagger(factor), vectors, lower=False)
    if subset_by_index is not None:
        first, last = map(int, concrete(subset_by_index))
        values, vectors = values[..., first : last + 1], vectors[..., first : last + 1]
    return values if eigvals_only else (values, vectors)


@_ours
def _eigvalsh(a: Any, b: Any = None, **options: Any) -> Any:
    return _eigh(a, b, eigvals_only=True, **options)


@_ours
def _eigvals(
    a: Any, b: Any = None, overwrite_a: bool = False, check_finite: bool = True, homogeneous_eigvals: bool = False
) -> Any:
    _refuse("eigvals", b=b, homogeneous_eigvals=homogeneous_eigvals)
    return np.linalg.eigvals(cell_of(a)) + 0j


@_ours
def _svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Any:
    a = cell_of(a)
    return tuple(factorizations.svd(a, full_matrices=bool(full_matrices))) if compute_uv else factorizations.svdvals(a)


@_ours
def _svdvals(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    return factorizations.svdvals(cell_of(a))


# --------------------------------------------------------------------------------- functions of matrices, and patterns


@_ours
def _expm(A: Any) -> Any:  # noqa: N803  (SciPy's name)
    return _own("expm", cell_of(A))


@_ours
def _toeplitz(c: Any, r: Any = None) -> Any:
    c = cell_of(c)
    r = np.conjugate(c) if r is None else cell_of(r)
    rows, columns = c.shape[-1], r.shape[-1]
    values = np.concatenate([c[..., ::-1], r[..., 1:]], axis=-1)
    return values[..., np.arange(rows - 1, -1, -1)[:, None] + np.arange(columns)]


@_ours
def _hankel(c: Any, r: Any = None) -> Any:
    c = cell_of(c)
    r = np.zeros_like(c) if r is None else cell_of(r)
    values = np.concatenate([c, r[..., 1:]], axis=-1)
    return values[..., np.arange(c.shape[-1])[:, None] + np.arange(r.shape[-1])]


@_ours
def _circulant(c: Any) -> Any:
    c = cell_of(c)
    n = c.shape[-1]
    return c[..., (np.arange(n)[:, None] - np.arange(n)) % max(n, 1)]


@_ours
def _block_diag(*arrs: Any) -> Any:
    blocks: list[Any] = [np.atleast_2d(cell_of(a)) for a in arrs] or [cell_of(np.zeros((1, 0)))]
    width = sum(b.shape[-1] for b in blocks)
    rows: list[Any] = []
    before = 0
    for block in blocks:
        after = width - before - block.shape[-1]
        rows.append(np.pad(block, [(0, 0)] * (block.ndim - 1) + [(before, after)]))
        before += block.shape[-1]
    return np.concatenate(rows, axis=-2)
