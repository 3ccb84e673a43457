"""`scipy.linalg`: transformed functions compute what SciPy does, and have its derivatives."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import linalg

import bindrune as br

A = np.array([[0.2, 1.0, 0.3], [1.5, -0.4, 0.6], [0.7, 0.8, 1.9]])
B = np.array([[1.0, 2.0], [-1.0, 0.5], [0.3, 0.7]])
WIDE = np.arange(6.0).reshape(2, 3) % 4 + 0.1


def positive(a: Any) -> Any:
    return a @ a.T + np.eye(3)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "inv": linalg.inv,
    "inv of positive": lambda a: linalg.inv(positive(a), assume_a="pos"),
    "solve": lambda a: linalg.solve(a, B),
    "solve for a vector": lambda a: linalg.solve(A, a[0]),
    "solve symmetric": lambda a: linalg.solve(a, B, assume_a="sym", lower=True),
    "solve positive": lambda a: linalg.solve(positive(a), B[:, 0], assume_a="pos"),
    "solve transposed": lambda a: linalg.solve(a, B, transposed=True),
    "solve_triangular": lambda a: linalg.solve_triangular(a, B),
    "solve_triangular lower": lambda a: linalg.solve_triangular(a, B[:, 0], lower=True, trans="T"),
    "solve_triangular unit": lambda a: linalg.solve_triangular(a, a[1], unit_diagonal=True, trans=1),
    "det": linalg.det,
    "lstsq": lambda a: linalg.lstsq(a[:, :2], B)[0],
    "residuals of lstsq": lambda a: linalg.lstsq(a[:, :2], B[:, 0])[1],
    "pinv": lambda a: linalg.pinv(a[:, :2]),
    "norm": linalg.norm,
    "norm of columns": lambda a: linalg.norm(a, 1, axis=0),
    "cholesky": lambda a: linalg.cholesky(positive(a)),
    "cholesky lower": lambda a: linalg.cholesky(positive(a), lower=True),
    "cho_factor": lambda a: linalg.cho_factor(positive(a))[0],
    "cho_solve": lambda a: linalg.cho_solve(linalg.cho_factor(positive(a)), a @ B),
    "cho_solve lower": lambda a: linalg.cho_solve(linalg.cho_factor(positive(a), lower=True), a[0]),
    "lu_factor": lambda a: linalg.lu_factor(a)[0],
    "lu_solve": lambda a: linalg.lu_solve(linalg.lu_factor(a), a @ B),
    "lu_solve transposed": lambda a: linalg.lu_solve(linalg.lu_factor(a), a[1], trans=1),
    "lu": lambda a: sum(i * factor for i, factor in enumerate(linalg.lu(a), 1)),
    "lu permuted": lambda a: linalg.lu(a, permute_l=True)[0],
    "lu by indices": lambda a: linalg.lu(a, p_indices=True)[1],
    "qr": lambda a: np.concatenate(linalg.qr(a)),
    "qr economic": lambda a: linalg.qr(a[:, :2], mode="economic")[0],
    "qr r": lambda a: linalg.qr(a, mode="r")[0],
    "eigh": lambda a: linalg.eigh(a + a.T)[0],
    "eigh generalized": lambda a: linalg.eigh(a + a.T, positive(a))[0],
    "eigh generalized vectors": lambda a: np.abs(linalg.eigh(a + a.T, positive(a))[1]),
    "eigh of some": lambda a: linalg.eigh(a + a.T, eigvals_only=True, subset_by_index=[0, 1]),
    "eigvalsh": lambda a: linalg.eigvalsh(a + a.T),
    "eigvals": lambda a: np.sort(np.abs(linalg.eigvals(a))),
    "svd": lambda a: linalg.svd(a, compute_uv=False),
    "svdvals": lambda a: linalg.svdvals(a[:2]),
    "expm": linalg.expm,
    "toeplitz": lambda a: linalg.toeplitz(a[0], a[1]),
    "toeplitz symmetric": lambda a: linalg.toeplitz(a[0]),
    "hankel": lambda a: linalg.hankel(a[0], a[1, 1:]),
    "circulant": lambda a: linalg.circulant(a[2]),
    "block_diag": lambda a: linalg.block_diag(a, a[0], WIDE, a[:2]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_scipy(name: str) -> None:
    f = FUNCTIONS[name]
    expected, direction = f(A), np.cos(np.arange(9.0)).reshape(3, 3)

    def total(a: Any) -> Any:
        return np.sum(np.sin(f(a)))

    value, moved = br.jvp(f, (A,), (direction,))
    assert value.dtype == expected.dtype
    np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-12)
    step = 1e-6
    np.testing.assert_allclose(moved, (f(A + step * direction) - f(A - step * direction)) / (2 * step), atol=2e-7)
    gradient = br.grad(total)(A)
    slope = (total(A + step * direction) - total(A - step * direction)) / (2 * step)
    np.testing.assert_allclose(np.sum(gradient * direction), slope, atol=2e-7)
    np.testing.assert_allclose(br.jit(br.grad(total))(A), gradient, rtol=1e-9, atol=1e-11)
    batch = np.stack([A, A.T + 0.1])
    np.testing.assert_allclose(br.vmap(f)(batch), [f(a) for a in batch], rtol=1e-9, atol=1e-11)


def test_rows_change_places_as_in_lapack() -> None:
    packed, pivots = br.jit(linalg.lu_factor)(A)
    expected = linalg.lu_factor(A)
    np.testing.assert_array_equal(packed, expected[0])
    np.testing.assert_array_equal(pivots, expected[1])
    for found, known in zip(br.jit(linalg.lu)(B), linalg.lu(B), strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    ("f", "named"),
    [
        (lambda a: linalg.qr(a, pivoting=True)[1], "pivoting=True"),
        (lambda a: linalg.pinv(a, atol=0.1), "atol=0.1"),
        (lambda a: linalg.lu_factor(a[:2])[0], r"shape \(2, 3\)"),
    ],
)
def test_what_has_no_rule_says_so(f: Callable[[Any], Any], named: str) -> None:
    with pytest.raises(br.UnsupportedError, match=named):
        br.grad(lambda a: np.sum(f(a)))(A)
