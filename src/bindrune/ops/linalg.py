"""Linear algebra without factors: inverses, solutions of linear systems, determinants, norms.

Everything takes stacks of matrices, so a batch is one more leading axis.  Forward rules are textbook (M. Giles, "An
extended collection of matrix derivative results", 2008).  Reverse rules are their transposes for the bilinear product
sum(w * v), which for complex matrices is the adjoint with a conjugation before and after.

Singular matrices raise, as in NumPy; the gradient of a determinant is a polynomial and exists there too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.array import dtype_of
from ..core.handler import evaluate
from ..core.operation import Op, Row, operation, row
from .lanes import aligned, as_stack
from .products import conjugated

__all__ = [
    "dagger",
    "det",
    "half",
    "hermitian",
    "identity",
    "inv",
    "lstsq",
    "norm",
    "pinv",
    "slogdet",
    "solve",
    "solve_triangular",
    "spread",
    "to_triangle",
    "triangular_solution",
]


def dagger(x: Any) -> Any:
    """The conjugate transpose of each matrix."""
    return conjugated(x).mT


def spread(x: Any) -> Any:
    """One number for each matrix, shaped to multiply all of its elements."""
    return np.expand_dims(x, (-2, -1))


def identity(x: Any) -> Any:
    """The identity matrix for the columns of `x`."""
    return np.eye(np.shape(x)[-1], dtype=dtype_of(x))


def trace_of_product(a: Any, b: Any) -> Any:
    """The sum of a * b over each matrix."""
    return np.sum(a * b, axis=(-2, -1))


def half(x: Any, lower: bool) -> Any:
    """One triangle of each matrix, with half its diagonal: a Hermitian matrix is this and its adjoint."""
    mask = np.tri(np.shape(x)[-1], dtype=np.finfo(dtype_of(x)).dtype)
    np.fill_diagonal(mask, 0.5)
    return x * (mask if lower else mask.T)


def hermitian(x: Any, lower: bool) -> Any:
    """The Hermitian matrix of which a triangle is given."""
    triangle = half(x, lower)
    return triangle + dagger(triangle)


def to_triangle(x: Any, lower: bool) -> Any:
    """The adjoint of `hermitian`."""
    return half(x + dagger(x), lower)


def sample(*shape: int, dominant: float = 3.0) -> Any:
    """A stack of matrices far from singular ones."""
    x = np.cos(np.arange(int(np.prod(shape))) * 1.7 + 0.4).reshape(shape)
    return x + dominant * np.eye(shape[-2], shape[-1])


def _lapack(name: str, dtype: np.dtype[Any]) -> Any:
    """A routine of LAPACK's for a dtype."""
    from scipy.linalg import lapack

    return getattr(lapack, {"f": "s", "F": "c", "D": "z"}.get(dtype.char, "d") + name)


def _square_rows() -> Iterable[Row]:
    yield row(np.array([[4.0, 1, 1], [1, 3, 1], [1, 1, 2]]))
    yield row(sample(2, 2).astype(np.float32))
    yield row(sample(2, 2) + 0.5j * sample(2, 2)[::-1])
    yield row(sample(3, 2, 2))
    yield row(sample(1, 1))
    yield row(sample(0, 2, 2))
    yield row(np.zeros((0, 0)))


# --------------------------------------------------------------------------------------------- inverses and systems

inv = operation(
    "inv",
    np.linalg.inv,
    jvp=lambda t, y: -(y @ t @ y),
    vjp=lambda ct, y: -(y.mT @ ct @ y.mT),
    batch=as_stack,
    rows=_square_rows,
)


def _solve_rows() -> Iterable[Row]:
    yield row(np.array([[4.0, 1, 1], [1, 3, 1], [1, 1, 2]]), np.array([[4.0], [5], [6]]))
    yield row(sample(2, 2).astype(np.float32), sample(2, 3))
    yield row(sample(2, 2) + 0.5j * sample(2, 2)[::-1], sample(2, 1))
    yield row(sample(3, 2, 2), sample(3, 2, 4))
    yield row(sample(2, 2), sample(3, 2, 2))
    yield row(sample(3, 2, 2), sample(2, 1))
    yield row(sample(2, 1, 2, 2), sample(3, 2, 1))
    yield row(sample(2, 2), sample(2, 0))


def _batch_solve(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    a, b = values
    if batched[0] or np.ndim(a) != 2 or np.ndim(b) != 3:
        return aligned(op, size, values, batched, params)
    # One matrix for all lanes: their right-hand sides side by side, so that it is factored once.
    columns = np.shape(b)[-1]
    beside = np.reshape(np.moveaxis(b, 0, 1), (np.shape(b)[1], size * columns))
    found = evaluate(op, (a, beside), params)
    return np.moveaxis(np.reshape(found, (np.shape(b)[1], size, columns)), 1, 0)


solve = operation(
    "solve",
    np.linalg.solve,
    jvp=(lambda t, a, y: -np.linalg.solve(a, t @ y), lambda t, a: np.linalg.solve(a, t)),
    vjp=(lambda ct, a, y: -(np.linalg.solve(a.mT, ct) @ y.mT), lambda ct, a: np.linalg.solve(a.mT, ct)),
    operands="a b",
    batch=_batch_solve,
    rows=_solve_rows,
)
"""The solution of a x = b for matrices b (vectors are columns here)."""


def _triangle(x: Any, lower: bool) -> Any:
    return np.tril(x) if lower else np.triu(x)


def _solve_triangular(a: Any, b: Any, lower: bool) -> Any:
    if a.ndim > 2 or b.ndim > 2:
        return np.linalg.solve(_triangle(a, lower), b)
    dtype = np.result_type(a, b, np.float32)
    if not a.size or not b.size:
        return np.zeros(b.shape, dtype)
    x, failed = _lapack("trtrs", dtype)(a, b, lower=lower)
    if failed:
        raise np.linalg.LinAlgError("Singular matrix")
    return x


def triangular_solution(a: Any, b: Any, lower: bool) -> Any:
    """The solution of a x = b, of whose a only one triangle is read."""
    return evaluate(solve_triangular, (a, b), {"lower": lower})


def _triangular_rows() -> Iterable[Row]:
    for lower in (True, False):
        yield row(sample(3, 3), sample(3, 2), lower=lower)
        yield row(sample(2, 2).astype(np.float32), sample(2, 1), lower=lower)
        yield row(sample(2, 2) + 0.5j * sample(2, 2)[::-1], sample(2, 1), lower=lower)
        yield row(sample(3, 2, 2), sample(3, 2, 2), lower=lower)
        yield row(sample(2, 2), sample(3, 2, 2), lower=lower)
        yield row(np.zeros((0, 0)), np.zeros((0, 2)), lower=lower)


solve_triangular = operation(
    "solve_triangular",
    _solve_triangular,
    jvp=(
        lambda t, a, y, lower: -triangular_solution(a, _triangle(t, lower) @ y, lower),
        lambda t, a, lower: triangular_solution(a, t, lower),
    ),
    vjp=(
        lambda ct, a, y, lower: -_triangle(triangular_solution(a.mT, ct, not lower) @ y.mT, lower),
        lambda ct, a, lower: triangular_solution(a.mT, ct, not lower),
    ),
    operands="a b",
    batch=aligned,
    rows=_triangular_rows,
)

# ----------------------------------------------------------------------------------------------------- determinants


def _cofactors_of_one(a: Any) -> Any:
    """The cofactors of a regular matrix, whose determinant and inverse come from one factorization."""
    dtype = np.result_type(a, np.float32)
    factors, pivots, singular = _lapack("getrf", dtype)(a)
    if singular:
        raise np.linalg.LinAlgError("Singular matrix")
    swaps = np.count_nonzero(pivots != np.arange(len(pivots)))
    determinant = np.prod(np.diagonal(factors)) * (-1 if swaps % 2 else 1)
    return determinant * _lapack("getri", dtype)(factors, pivots, overwrite_lu=True)[0].T


def _cofactors(a: Any) -> Any:
    """The determinant's partial derivatives: det(a) inv(a).T, and its limit where a is singular."""
    try:
        return _cofactors_of_one(a) if a.ndim == 2 and a.size else spread(np.linalg.det(a)) * np.linalg.inv(a).mT
    except np.linalg.LinAlgError:
        u, s, vh = np.linalg.svd(a)
        others = np.prod(np.where(np.eye(s.shape[-1], dtype=bool), 1, s[..., None, :]), axis=-1)
        sign = spread(np.linalg.det(u) * np.linalg.det(vh))
        return sign * (np.conjugate(u) * others[..., None, :]) @ np.conjugate(vh)


def _differential_of_cofactors(t: Any, a: Any, y: Any) -> Any:
    inverse = np.linalg.inv(a).mT
    return spread(trace_of_product(inverse, t)) * y - y @ t.mT @ inverse


cofactors = operation(
    "cofactors",
    _cofactors,
    jvp=_differential_of_cofactors,
    # The second derivative of a function is symmetric.
    vjp=lambda ct, a, y: _differential_of_cofactors(ct, a, y),
    operands="a",
    batch=as_stack,
    rows=_square_rows,
)


def _det_rows() -> Iterable[Row]:
    yield from _square_rows()
    yield row(np.array([[1.0, 2], [2, 4]]), smooth=False)
    yield row(np.zeros((3, 3)), smooth=False)


det = operation(
    "det",
    np.linalg.det,
    jvp=lambda t, a: trace_of_product(evaluate(cofactors, (a,), {}), t),
    vjp=lambda ct, a: spread(ct) * evaluate(cofactors, (a,), {}),
    operands="a",
    batch=as_stack,
    rows=_det_rows,
)


def _push_slogdet(t: Any, a: Any, y: Any) -> Any:
    change = trace_of_product(np.linalg.inv(a).mT, t)
    sign, _ = y
    return sign * 1j * np.imag(change) if dtype_of(sign).kind == "c" else 0 * sign, np.real(change)


def _pull_slogdet(ct: Any, a: Any, y: Any) -> Any:
    of_sign, of_logarithm = ct
    sign, _ = y
    if dtype_of(sign).kind == "c":
        # The sign turns with the imaginary part of the change of the logarithm.
        of_logarithm = of_logarithm + 1j * np.imag(of_sign * sign)
    return spread(of_logarithm) * np.linalg.inv(a).mT


slogdet = operation(
    "slogdet",
    lambda a: tuple(np.linalg.slogdet(a)),
    jvp=_push_slogdet,
    vjp=_pull_slogdet,
    operands="a",
    batch=as_stack,
    rows=_square_rows,
)

# --------------------------------------------------------------------------------------- pseudoinverse, least squares


def _push_pinv(t: Any, a: Any, y: Any, of_hermitian: bool) -> Any:
    if of_hermitian:
        a, t = hermitian(a, lower=True), hermitian(t, lower=True)
    across = dagger(t)
    outside = across - (across @ a) @ y
    inside = across - y @ (a @ across)
    return -(y @ t @ y) + y @ (dagger(y) @ outside) + (inside @ dagger(y)) @ y


def _pull_pinv(ct: Any, a: Any, y: Any, of_hermitian: bool) -> Any:
    if of_hermitian:
        a = hermitian(a, lower=True)
    # ct.mT is the adjoint of the conjugated cotangent.
    across, back = ct.mT, dagger(y)
    outside = across - a @ (y @ across)
    inside = across - (across @ y) @ a
    found = outside @ y @ back + back @ y @ inside - back @ conjugated(ct) @ back
    return conjugated(to_triangle(found, lower=True) if of_hermitian else found)


def _pinv_rows() -> Iterable[Row]:
    usual: dict[str, Any] = {"rcond": 1e-15, "of_hermitian": False}
    yield row(sample(3, 2), **usual)
    yield row(sample(2, 3), **usual)
    yield row(sample(2, 2).astype(np.float32), **usual)
    yield row(sample(3, 2) + 0.5j * sample(3, 2)[::-1], **usual)
    yield row(sample(2, 3, 2), rcond=1e-12, of_hermitian=False)
    yield row(sample(2, 2) + sample(2, 2).T, rcond=1e-15, of_hermitian=True)
    yield row(sample(3, 1) @ sample(1, 3), smooth=False, **usual)


pinv = operation(
    "pinv",
    lambda a, rcond, of_hermitian: np.linalg.pinv(a, rcond, of_hermitian),
    jvp=_push_pinv,
    vjp=_pull_pinv,
    batch=as_stack,
    rows=_pinv_rows,
    operands="a",
)
"""The pseudoinverse; its derivative is that along matrices of the same rank (Golub and Pereyra 1973)."""


def _lstsq(a: Any, b: Any, rcond: Any) -> Any:
    return tuple(np.linalg.lstsq(a, b, rcond))


def _push_lstsq_in_a(t: Any, a: Any, b: Any, y: Any) -> Any:
    x, residuals, _, _ = y
    inverse, rest, across = np.linalg.pinv(a), b - a @ x, dagger(t)
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    around = across @ (dagger(inverse) @ x)
    moved = inverse @ (dagger(inverse) @ (across @ rest) - t @ x) + around - inverse @ (a @ around)
    return (
        moved,
        -2 * np.real(np.sum(conjugated(rest) * (t @ x), axis=0))[: residuals.shape[0]],
        0,
        np.real(np.sum(conjugated(u) * (t @ dagger(vh)), axis=0)),
    )


def _push_lstsq_in_b(t: Any, a: Any, b: Any, y: Any) -> Any:
    x, residuals, _, _ = y
    rest = b - a @ x
    change = 2 * np.real(np.sum(conjugated(rest) * t, axis=0))[: residuals.shape[0]]
    return np.linalg.pinv(a) @ t, change, 0, 0 * y[3]


def _pull_lstsq_in_a(ct: Any, a: Any, b: Any, y: Any) -> Any:
    of_x, of_residuals, _, of_values = ct
    x, residuals, _, _ = y
    inverse, rest, across = np.linalg.pinv(a), b - a @ x, of_x.mT
    back = dagger(inverse)
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    found = (rest @ across @ inverse) @ back + back @ (x @ (across - (across @ inverse) @ a))
    found = found - back @ conjugated(of_x) @ dagger(x) + (u * of_values) @ vh
    if residuals.shape[0]:
        found = found - (2 * of_residuals * rest) @ dagger(x)
    return conjugated(found)


def _pull_lstsq_in_b(ct: Any, a: Any, b: Any, y: Any) -> Any:
    of_x, of_residuals, _, _ = ct
    found = np.linalg.pinv(a).mT @ of_x
    if y[1].shape[0]:
        found = found + 2 * of_residuals * conjugated(b - a @ y[0])
    return found


def _lstsq_rows() -> Iterable[Row]:
    yield row(sample(4, 2), sample(4, 3), rcond=None)
    yield row(sample(2, 2), sample(2, 1), rcond=None)
    yield row(sample(2, 3), sample(2, 1), rcond=None)
    yield row(sample(4, 2) + 0.5j * sample(4, 2)[::-1], sample(4, 1), rcond=None)
    yield row(sample(3, 2).astype(np.float32), sample(3, 1).astype(np.float32), rcond=None)


lstsq = operation(
    "lstsq",
    _lstsq,
    jvp=(_push_lstsq_in_a, _push_lstsq_in_b),
    vjp=(_pull_lstsq_in_a, _pull_lstsq_in_b),
    operands="a b",
    rows=_lstsq_rows,
)
"""Least squares for matrices b; the derivative is that for matrices a of full rank."""

# ------------------------------------------------------------------------------------------------------------- norms


def _norm(x: Any, ord: Any, axis: Any, keepdims: bool) -> Any:
    return np.linalg.norm(x, ord, axis, keepdims)


def _slope(x: Any, y: Any, ord: Any, axis: Any, keepdims: bool) -> tuple[Any, Any, Any]:
    """The partial derivatives of a p-norm, zero where the norm is zero, as (factor, factor of each group); the axes."""
    axes = tuple(range(np.ndim(x))) if axis is None else axis
    if not keepdims:
        y = np.expand_dims(y, axes)
    zero = y == 0
    inverse = np.where(zero, 0, 1 / np.where(zero, 1, y))
    if ord in (None, "fro", "f", 2):
        return conjugated(x), inverse, axes
    return conjugated(np.sign(x)) * (np.abs(x) * inverse) ** (ord - 1), 1, axes


def _push_norm(t: Any, x: Any, y: Any, ord: Any, axis: Any, keepdims: bool) -> Any:
    slope, scale, axes = _slope(x, y, ord, axis, keepdims)
    return np.real(np.sum(slope * scale * t, axis=axes, keepdims=keepdims))


def _pull_norm(ct: Any, x: Any, y: Any, ord: Any, axis: Any, keepdims: bool) -> Any:
    slope, scale, axes = _slope(x, y, ord, axis, keepdims)
    return slope * (scale * (ct if keepdims else np.expand_dims(ct, axes)))


def _batch_norm(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    x, axis = values[0], params["axis"]
    if axis is not None:
        moved = axis + 1 if isinstance(axis, int) else tuple(i + 1 for i in axis)
        return evaluate(op, values, {**params, "axis": moved})
    lane = np.shape(x)[1:]
    ord = None if isinstance(params["ord"], str) else params["ord"]
    flat = np.reshape(x, (size, int(np.prod(lane))))
    found = evaluate(op, (flat,), {"ord": ord, "axis": 1, "keepdims": False})
    return np.reshape(found, (size, *(1,) * len(lane))) if params["keepdims"] else found


def _norm_rows() -> Iterable[Row]:
    x = sample(2, 3, dominant=1.0)
    yield row(x[0], ord=None, axis=None, keepdims=False)
    yield row(x, ord=None, axis=None, keepdims=True)
    yield row(x, ord="fro", axis=None, keepdims=False)
    yield row(x, ord=2, axis=1, keepdims=False)
    yield row(x, ord=3.5, axis=0, keepdims=True)
    yield row(x.astype(np.float32), ord=3, axis=1, keepdims=False)
    yield row(x + 0.5j * x[::-1], ord=None, axis=0, keepdims=False)
    yield row(sample(2, 3, 2), ord="fro", axis=(0, 2), keepdims=False)
    yield row(sample(2, 3, 2), ord=None, axis=None, keepdims=False)
    yield row(np.zeros(3), ord=None, axis=None, keepdims=False, smooth=False)
    yield row(np.array([[0.0, 0.0], [3.0, 4.0]]), ord=3, axis=1, keepdims=False, smooth=False)


norm = operation("norm", _norm, jvp=_push_norm, vjp=_pull_norm, batch=_batch_norm, rows=_norm_rows)
"""Norms that are sums of powers, with a power other than one: vectors' p-norms, and matrices' Frobenius norm."""
