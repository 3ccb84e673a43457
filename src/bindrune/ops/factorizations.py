"""Matrix factorizations: Cholesky, eigenvalues, singular values, QR.

A factorization is determined up to signs or phases, which NumPy's choice keeps fixed to first order; where LAPACK
fixes none (complex `eigh` and `svd`), the diagonal of the factors' rotation is taken to be zero, as everywhere, and
only functions that do not depend on the choice have a derivative.  Eigenvectors of equal eigenvalues turn infinitely
fast: their derivatives are infinite, except where nothing asks for them.

Reverse rules are the transposes of the forward ones for the bilinear product sum(w * v): the adjoint, with a
conjugation before and after.  `cholesky` and `eigh` read one triangle of their matrix, and only that has derivatives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from ..core.array import dtype_of
from ..core.errors import UnsupportedError, user_line
from ..core.operation import Row, Spec, operation, row
from .lanes import as_stack
from .linalg import dagger, half, hermitian, identity, sample, to_triangle, triangular_solution
from .products import conjugated

__all__ = ["cholesky", "eig", "eigh", "eigvalsh", "qr", "svd", "svdvals"]

_SIDE: dict[bool, Literal["L", "U"]] = {True: "L", False: "U"}
"""How NumPy calls the triangle that is read."""


def _positive(x: Any) -> Any:
    """A positive definite matrix."""
    return x @ dagger(x) + np.eye(x.shape[-1])


def _hermitian_rows(**params: Any) -> Iterable[Row]:
    yield row(np.array([[4.0, 1, 1], [1, 3, 1], [1, 1, 2]]), **params)
    yield row(_positive(sample(2, 2)).astype(np.float32), **params)
    yield row(_positive(sample(3, 2, 2)), **params)
    yield row(_positive(sample(1, 1)), **params)
    yield row(np.zeros((0, 0)), **params)


def _complex_hermitian() -> Any:
    return _positive(sample(2, 2) + 0.5j * sample(2, 2)[::-1])


# ----------------------------------------------------------------------------------------------------------- Cholesky


def _push_cholesky(t: Any, y: Any, upper: bool) -> Any:
    if upper:
        return _push_cholesky(t.mT, y.mT, False).mT
    inner = dagger(triangular_solution(y, hermitian(t, lower=True), lower=True))
    return y @ half(triangular_solution(y, inner, lower=True), lower=True)


def _pull_cholesky(ct: Any, y: Any, upper: bool) -> Any:
    """I. Murray, "Differentiation of the Cholesky decomposition", 2016, equation 10."""
    if upper:
        return _pull_cholesky(ct.mT, y.mT, False).mT
    across = dagger(y)
    inner = triangular_solution(across, half(across @ conjugated(ct), lower=True), lower=False)
    return conjugated(to_triangle(triangular_solution(across, dagger(inner), lower=False), lower=True))


def _cholesky_rows() -> Iterable[Row]:
    for upper in (False, True):
        yield from _hermitian_rows(upper=upper)
        yield row(_complex_hermitian(), upper=upper)


cholesky = operation(
    "cholesky",
    lambda a, upper: np.linalg.cholesky(a, upper=upper),
    jvp=_push_cholesky,
    vjp=_pull_cholesky,
    batch=as_stack,
    rows=_cholesky_rows,
    operands="a",
)

# -------------------------------------------------------------------------------------------------------- eigenvalues


def _ratio(a: Any, b: Any) -> Any:
    """The quotient, and zero where both are zero."""
    return a / np.where((a == 0) & (b == 0), 1, b)


def _over_gaps(x: Any, values: Any, squared: bool = False) -> Any:
    """Each element off the diagonal, divided by its column's eigenvalue less its row's (by that of their squares)."""
    gaps = values[..., None, :] - values[..., :, None]
    if squared:
        gaps = gaps * (values[..., None, :] + values[..., :, None])
    eye = identity(x)
    return _ratio(x * (1 - eye), gaps + eye)


def _diagonal(values: Any) -> Any:
    """Diagonal matrices."""
    return values[..., None, :] * identity(values)


def _push_eigh(t: Any, y: Any, lower: bool) -> Any:
    values, vectors = y
    turned = dagger(vectors) @ hermitian(t, lower) @ vectors
    return np.real(np.einsum("...ii->...i", turned)), vectors @ _over_gaps(turned, values)


def _pull_eigh(ct: Any, y: Any, lower: bool) -> Any:
    of_values, of_vectors = ct
    values, vectors = y
    across = dagger(vectors)
    inner = _diagonal(of_values) + _over_gaps(across @ conjugated(of_vectors), values)
    return conjugated(to_triangle(vectors @ inner @ across, lower))


def _eigh_rows() -> Iterable[Row]:
    for lower in (True, False):
        yield from _hermitian_rows(lower=lower)
        yield row(_complex_hermitian(), smooth=False, lower=lower)
    yield row(np.eye(2), smooth=False, lower=True)


eigh = operation(
    "eigh",
    lambda a, lower: tuple(np.linalg.eigh(a, _SIDE[lower])),
    jvp=_push_eigh,
    vjp=_pull_eigh,
    batch=as_stack,
    rows=_eigh_rows,
    operands="a",
)


def _push_eigvalsh(t: Any, a: Any, lower: bool) -> Any:
    vectors = np.linalg.eigh(a, _SIDE[lower])[1]
    return np.real(np.sum(conjugated(vectors) * (hermitian(t, lower) @ vectors), axis=-2))


def _pull_eigvalsh(ct: Any, a: Any, lower: bool) -> Any:
    vectors = np.linalg.eigh(a, _SIDE[lower])[1]
    return conjugated(to_triangle((vectors * ct[..., None, :]) @ dagger(vectors), lower))


def _eigvalsh_rows() -> Iterable[Row]:
    for lower in (True, False):
        yield from _hermitian_rows(lower=lower)
        yield row(_complex_hermitian(), lower=lower)


eigvalsh = operation(
    "eigvalsh",
    lambda a, lower: np.linalg.eigvalsh(a, _SIDE[lower]),
    jvp=_push_eigvalsh,
    vjp=_pull_eigvalsh,
    batch=as_stack,
    rows=_eigvalsh_rows,
    operands="a",
)

# LAPACK scales each general eigenvector to length one, and turns a complex one so that its largest component is real.


def _peak(vectors: Any) -> Any:
    """Where each complex eigenvector's real component stands, and that component."""
    n = np.shape(vectors)[-1]
    height = np.where(np.imag(vectors) == 0, np.abs(vectors), -1)
    place = np.arange(n)[:, None] == np.argmax(height, axis=-2)[..., None, :]
    return place, np.sum(np.where(place, np.real(vectors), 0), axis=-2, keepdims=True)


def _push_eig(t: Any, y: Any) -> Any:
    values, vectors = y
    turned = np.linalg.solve(vectors, t @ vectors)
    moved = vectors @ _over_gaps(turned, values)
    moved = moved - vectors * np.real(np.sum(conjugated(vectors) * moved, axis=-2, keepdims=True))
    if dtype_of(vectors).kind == "c":
        place, peak = _peak(vectors)
        moved = moved - 1j * vectors * (np.sum(place * np.imag(moved), axis=-2, keepdims=True) / peak)
    return np.einsum("...ii->...i", turned), moved


def _pull_eig(ct: Any, y: Any) -> Any:
    of_values, of_vectors = ct
    values, vectors = y
    along = np.sum(of_vectors * vectors, axis=-2, keepdims=True)
    of_moved = of_vectors - conjugated(vectors) * np.real(along)
    if dtype_of(vectors).kind == "c":
        place, peak = _peak(vectors)
        of_moved = of_moved - 1j * place * (np.imag(along) / peak)
    inner = _diagonal(of_values) + _over_gaps(vectors.mT @ of_moved, values)
    return np.linalg.solve(vectors.mT, inner) @ vectors.mT


def _eig_rows() -> Iterable[Row]:
    yield row(np.array([[4.0, 1, 1], [0.5, 3, 1], [0.2, 1, 1]]))
    yield row(np.array([[1.0, 2.3], [-0.7, 0.4]]))
    yield row(np.array([[1.0, 2, 0.3], [-0.7, 0.4, 0.1], [0.2, -0.5, 3]]))
    yield row(sample(2, 2) + 0.5j * sample(2, 2)[::-1])
    yield row(sample(2, 2).astype(np.float32))
    yield row(np.stack([np.array([[1.0, 2.3], [-0.7, 0.4]]), np.array([[2.0, 0.3], [0.7, 0.4]])]))


eig = operation(
    "eig", lambda a: tuple(np.linalg.eig(a)), jvp=_push_eig, vjp=_pull_eig, batch=as_stack, rows=_eig_rows, operands="a"
)

# ---------------------------------------------------------------------------------------------------- singular values


def _refuse_full(of: Spec, full_matrices: bool) -> None:
    if full_matrices and of.shape[-1] != of.shape[-2]:
        raise UnsupportedError(
            f"{user_line()}: np.linalg.svd of matrices of shape {of.shape[-2:]} has no derivative with "
            "full_matrices=True: the vectors that complete the basis are arbitrary. Pass full_matrices=False."
        )


def _push_svd(t: Any, y: Any, of: Spec, full_matrices: bool) -> Any:
    """J. Townsend, "Differentiating the singular value decomposition", 2016, equations 10, 21 and 22."""
    _refuse_full(of, full_matrices)
    u, s, vh = y
    row_s, across_u, v = s[..., None, :], dagger(u), dagger(vh)
    turned = across_u @ t @ v
    of_u, of_v = turned * row_s, dagger(turned) * row_s
    moved_u = u @ _over_gaps(of_u + dagger(of_u), s, squared=True)
    moved_v = v @ _over_gaps(of_v + dagger(of_v), s, squared=True)
    diagonal = np.einsum("...ii->...i", turned)
    if dtype_of(turned).kind == "c":
        moved_u = moved_u + u * _ratio(1j * np.imag(diagonal), s)[..., None, :]
    if of.shape[-2] > of.shape[-1]:
        moved_u = moved_u + _ratio(t @ v - u @ turned, row_s)
    elif of.shape[-2] < of.shape[-1]:
        moved_v = moved_v + _ratio(dagger(t) @ u - v @ dagger(turned), row_s)
    return moved_u, np.real(diagonal), dagger(moved_v)


def _pull_svd(ct: Any, y: Any, of: Spec, full_matrices: bool) -> Any:
    _refuse_full(of, full_matrices)
    (of_u, of_s, of_vh), (u, s, vh) = ct, y
    row_s, across_u, v = s[..., None, :], dagger(u), dagger(vh)
    of_u, of_v = conjugated(of_u), of_vh.mT
    along_u, along_v = across_u @ of_u, vh @ of_v
    turned_u = _over_gaps(along_u, s, squared=True)
    turned_v = _over_gaps(along_v, s, squared=True)
    inner = (turned_u + dagger(turned_u)) * row_s + s[..., :, None] * (turned_v + dagger(turned_v)) + _diagonal(of_s)
    if dtype_of(along_u).kind == "c":
        inner = inner + _diagonal(_ratio(1j * np.imag(np.einsum("...ii->...i", along_u)), s))
    found = u @ inner @ vh
    if of.shape[-2] > of.shape[-1]:
        found = found + _ratio(of_u - u @ along_u, row_s) @ vh
    elif of.shape[-2] < of.shape[-1]:
        found = found + u @ dagger(_ratio(of_v - v @ along_v, row_s))
    return conjugated(found)


def _svd_rows() -> Iterable[Row]:
    yield row(sample(3, 3), full_matrices=True)
    for shape in ((3, 2), (2, 3), (2, 2), (2, 3, 2), (1, 1)):
        yield row(sample(*shape), full_matrices=False)
    yield row(sample(3, 2).astype(np.float32), full_matrices=False)
    for shape in ((3, 2), (2, 3), (2, 2)):
        yield row(sample(*shape) + 0.5j * sample(*shape)[::-1], smooth=False, full_matrices=False)


svd = operation(
    "svd",
    lambda a, full_matrices: tuple(np.linalg.svd(a, full_matrices)),
    jvp=_push_svd,
    vjp=_pull_svd,
    batch=as_stack,
    rows=_svd_rows,
    operands="a",
)


def _push_svdvals(t: Any, a: Any) -> Any:
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    return np.real(np.sum(conjugated(u) * (t @ dagger(vh)), axis=-2))


def _pull_svdvals(ct: Any, a: Any) -> Any:
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    return conjugated((u * ct[..., None, :]) @ vh)


def _svdvals_rows() -> Iterable[Row]:
    for sampled in _svd_rows():
        yield row(*sampled.operands)
    yield row(np.zeros((2, 3)), smooth=False)


svdvals = operation(
    "svdvals",
    lambda a: np.linalg.svd(a, compute_uv=False),
    jvp=_push_svdvals,
    vjp=_pull_svdvals,
    batch=as_stack,
    rows=_svdvals_rows,
    operands="a",
)

# ----------------------------------------------------------------------------------------------------------------- QR


def _refuse_complete(of: Spec, mode: str) -> None:
    if mode == "complete" and of.shape[-2] > of.shape[-1]:
        raise UnsupportedError(
            f"{user_line()}: np.linalg.qr of matrices of shape {of.shape[-2:]} has no derivative with mode='complete': "
            "the vectors that complete the basis are arbitrary. Use mode='reduced'."
        )


def _turn(x: Any) -> Any:
    """The rotation of `q` that keeps `r` triangular, with a real diagonal."""
    below = np.tril(x, -1)
    turn = below - dagger(below)
    return turn + 1j * np.imag(x) * identity(x) if dtype_of(x).kind == "c" else turn


def _push_qr(t: Any, y: Any, of: Spec, mode: str) -> Any:
    _refuse_complete(of, mode)
    q, r = y
    k = min(of.shape[-2:])
    moved = triangular_solution(r[..., :k].mT, t[..., :k].mT, lower=True).mT
    inner = dagger(q) @ moved
    turn = _turn(inner)
    return moved - q @ (inner - turn), np.triu(dagger(q) @ t - turn @ r)


def _pull_qr(ct: Any, y: Any, of: Spec, mode: str) -> Any:
    """The transpose of the forward rule, wide matrices included (their leading columns determine `q`)."""
    _refuse_complete(of, mode)
    (of_q, of_r), (q, r) = ct, y
    k = min(of.shape[-2:])
    of_q, of_r = conjugated(of_q), np.triu(conjugated(of_r))
    along = dagger(q) @ of_q
    of_turn = along - of_r @ dagger(r)
    below = np.tril(of_turn - dagger(of_turn), -1)
    if dtype_of(of_turn).kind == "c":
        below = below + 1j * np.imag(of_turn) * identity(of_turn)
    of_moved = of_q - q @ (along - below)
    leading = dagger(triangular_solution(r[..., :k], dagger(of_moved), lower=False))
    if k < of.shape[-1]:
        rest = np.zeros((*np.shape(leading)[:-1], of.shape[-1] - k), dtype_of(leading))
        leading = np.concatenate([leading, rest], axis=-1)
    return conjugated(q @ of_r + leading)


def _qr_rows() -> Iterable[Row]:
    yield row(sample(2, 2), mode="complete")
    for shape in ((3, 2), (2, 3), (2, 2), (2, 3, 2), (1, 1)):
        yield row(sample(*shape), mode="reduced")
    yield row(sample(3, 2).astype(np.float32), mode="reduced")
    for shape in ((3, 2), (2, 3)):
        yield row(sample(*shape) + 0.5j * sample(*shape)[::-1], mode="reduced")


qr = operation(
    "qr",
    lambda a, mode: tuple(np.linalg.qr(a, mode)),
    jvp=_push_qr,
    vjp=_pull_qr,
    batch=as_stack,
    rows=_qr_rows,
    operands="a",
)
