"""Complex numbers and Fourier transforms as machine code: NumPy's results, to the infinities, and no host calls."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

from bindrune.backends.native import threads


def compare(function: Callable[..., Any], *arguments: Any, rtol: float = 1e-12, atol: float = 0.0) -> Any:
    """Run a function compiled and as it is: the same numbers, without a call of the host."""
    compiled = br.jit(function, backend="native")
    found, expected = compiled(*arguments), function(*arguments)
    for mine, theirs in zip(br.tree.leaves(found), br.tree.leaves(expected), strict=True):
        assert mine.dtype == theirs.dtype
        room = (
            atol + 1e-323 + rtol * np.abs(np.nan_to_num(theirs, posinf=0, neginf=0))
        )  # a part is as exact as the whole
        for a, b in ((np.real(mine), np.real(theirs)), (np.imag(mine), np.imag(theirs))):
            with np.errstate(invalid="ignore"):
                near = (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a * 1.0 - b) <= room)
            assert np.all(near), (np.extract(~near, a), np.extract(~near, b))
    lowered = compiled.lower(*arguments)
    assert not lowered.callbacks
    assert not compiled.stats().eager
    return lowered


def numbers(*shape: int, dtype: Any = np.complex128) -> Any:
    """An array of complex numbers."""
    generator = np.random.default_rng(sum(shape))
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(dtype)


SIDES = [0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan, 1e-310, 1e150, -1e300, 710.0, -745.0]
EDGES = np.array([complex(a, b) for a in SIDES for b in SIDES])

UNARY = [
    "negative", "positive", "conjugate", "reciprocal", "absolute", "exp", "log", "sqrt", "sin", "cos", "tan",
    "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "real", "imag", "angle",
    "isnan", "isinf", "isfinite", "logical_not",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
def test_functions_at_the_edges_and_between(name: str, dtype: Any) -> None:
    if dtype == np.complex64 and name in ("log", "tan", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh"):
        edges = EDGES[np.abs(EDGES) < 1e30].astype(dtype)  # NumPy's own are overflowing where ours are not
    else:
        edges = EDGES.astype(dtype)
    for x in (edges, 3 * numbers(1000, dtype=dtype)):
        compare(lambda x: getattr(np, name)(x), x, rtol=2e-15 if dtype == np.complex128 else 1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["add", "subtract", "divide", "equal", "not_equal", "logical_and", "logical_or"])
def test_pairs_at_the_edges(name: str) -> None:
    compare(getattr(np, name), np.repeat(EDGES, len(EDGES)), np.tile(EDGES, len(EDGES)), rtol=1e-15)


def test_products_where_nothing_overflows() -> None:
    # Where infinities of both signs meet, NumPy's own answer depends on the CPU.
    edges = EDGES[np.abs(np.nan_to_num(EDGES)) < 1e150]
    a, b = np.repeat(edges, len(edges)), np.tile(edges, len(edges))
    compare(np.multiply, a, b)
    compare(np.square, edges)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 7, -1, -3, 0.5, 2 + 0j, 0.3 - 2j])
def test_powers(exponent: Any) -> None:
    compare(lambda z: z**exponent, numbers(50))
    compare(lambda z, e: z**e, numbers(50), np.full(50, exponent, complex))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_powers_of_nothing() -> None:
    a, b = np.array([0j, 0j, 0j, 0j, 1j]), np.array([0j, 2, -1, 1 + 1j, 0])
    compare(lambda a, b: a**b, a, b)


def test_types_that_meet() -> None:
    z, x, k, c = numbers(12), np.arange(12.0), np.arange(12), numbers(12, dtype=np.complex64)
    compare(
        lambda z, x, k, c: (z + x, z * k, c * np.float32(2), c + 1j, c * z, 2.5 * c, k * 1j, x + (1 + 2j)), z, x, k, c
    )
    compare(lambda z, x: (z.real * x, z.imag, z.conj(), np.where(x > 3, z, x), z.astype(bool), x.astype(complex)), z, x)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (200, 300)])
def test_sums_products_and_means(shape: tuple[int, ...]) -> None:
    z = numbers(*shape)
    compare(lambda z: (np.sum(z), np.mean(z, axis=0), np.sum(z, axis=-1, keepdims=True)), z, rtol=1e-10, atol=1e-12)
    compare(lambda z: (np.any(z), np.all(z, axis=0), np.cumsum(z, axis=-1), np.prod(z[:4], axis=0)), z, rtol=1e-10)


@pytest.mark.parametrize("n", [2, 5, 64])
@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
def test_products_of_matrices(n: int, dtype: Any) -> None:
    a, b, v = numbers(n, n + 1, dtype=dtype), numbers(n + 1, n, dtype=dtype), numbers(n + 1, dtype=dtype)
    tolerance = 1e-11 if dtype == np.complex128 else 1e-4
    compare(lambda a, b, v: (a @ b, a @ v, a.conj() @ b.T.conj().T, b.T @ a.T), a, b, v, rtol=tolerance, atol=tolerance)
    compare(
        lambda a, v: (np.vdot(v, v), np.dot(v, v), np.outer(v, a[0]), a.real @ v), a, v, rtol=tolerance, atol=tolerance
    )


def test_large_products_are_those_of_the_library() -> None:
    assert "gemm" in compare(lambda a: a @ a.T.conj(), numbers(60, 60), atol=1e-11).loops


@pytest.fixture
def restored_threads() -> Any:
    """Lets a test set the number of threads."""
    before = threads.threads()
    yield
    threads.set_threads(before)


def wave(psi: Any, potential: Any) -> Any:
    """A thousand steps of a wave, in place."""
    psi = psi.copy()
    for _ in range(1000):
        psi[1:-1] += 1e-3j * (psi[2:] - 2 * psi[1:-1] + psi[:-2] - potential[1:-1] * psi[1:-1])
        psi *= np.exp(-1e-3j * potential)
    return psi


def norm(psi: Any, potential: Any) -> Any:
    return np.sum(np.abs(wave(psi, potential)[:15]) ** 2)


def test_a_loop_with_a_complex_state() -> None:
    x = np.linspace(-4, 4, 41)
    psi, potential = np.exp(-(x**2) + 2j * x), 0.3 * x**2
    compare(wave, psi, potential, rtol=1e-10)
    compare(br.grad(norm, argnums=(0, 1)), psi, potential, rtol=1e-9, atol=1e-12)


def test_numbers_that_a_loop_carries() -> None:
    def escape(c: Any) -> Any:
        z, steps = 0j, 0
        while abs(z.real) + abs(z.imag) < 4 and steps < 60:
            z, steps = z * z + c[0], steps + 1
        return z * np.ones(2), steps + np.zeros(1)

    for c in (-0.1 + 0.65j, 0.4 + 0.4j, 0j):
        compare(escape, np.array([c]))


def test_elements_written_one_by_one() -> None:
    def recurrence(a: Any) -> Any:
        z = np.zeros(len(a), complex)
        z[0] = 1.0
        for i in range(1, len(a)):
            z[i] = z[i - 1] * a[i] / (1 + np.abs(z[i - 1])) + 0.5j
        return z

    compare(recurrence, numbers(40))
    compare(br.grad(lambda a: np.sum(np.abs(recurrence(a)))), numbers(40), rtol=1e-10)


def test_division_by_pythons_zero() -> None:
    f = br.jit(lambda x: (1 + 2j) / complex(x, 0), backend="native")
    assert f(2.0) == 0.5 + 1j
    with pytest.raises(ZeroDivisionError):
        f(0.0)


def test_threads_share_sums(restored_threads: Any) -> None:
    z = numbers(300_000)
    threads.set_threads(3)
    compare(lambda z: (np.sum(z * np.exp(1j * z.real)), z * z), z, rtol=1e-9)


# --------------------------------------------------------------------------------------------------------- transforms


@pytest.mark.parametrize("n", [None, 1, 7, 16, 40])
@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_transforms(n: int | None, norm: Any, axis: int) -> None:
    z = numbers(6, 16, 5)
    x = z.real

    def transforms(z: Any, x: Any) -> Any:
        made = [f(z, n, axis, norm) for f in (np.fft.fft, np.fft.ifft, np.fft.irfft)]
        return [*made, np.fft.rfft(x, n, axis, norm), np.fft.fft(x, n, axis, norm), np.fft.ifft(z.T, n, axis, norm)]

    compare(transforms, z, x, rtol=1e-12, atol=1e-13)


def test_transforms_of_other_types() -> None:
    z = numbers(12, 9, dtype=np.complex64)
    compare(lambda z: (np.fft.fft(z), np.fft.rfft(z.real), np.fft.irfft(z), np.fft.ifft2(z)), z, rtol=1e-5, atol=1e-6)
    compare(lambda k: (np.fft.fft(k), np.fft.rfft(k[::2]), np.fft.fftshift(np.fft.fft(k))), np.arange(10), atol=1e-12)


def split_step(psi: Any, potential: Any, momentum: Any) -> Any:
    """Steps of a wave, half of each in the space of its frequencies."""
    for _ in range(50):
        psi = psi * np.exp(-0.05j * potential)
        psi = np.fft.ifft(np.exp(-0.05j * momentum**2) * np.fft.fft(psi))
    return psi


def test_transforms_within_a_loop() -> None:
    x = np.linspace(-4, 4, 32)
    psi, potential, momentum = np.exp(-(x**2) + 1j * x), 0.3 * x**2, 2 * np.pi * np.fft.fftfreq(32, x[1] - x[0])
    compare(split_step, psi, potential, momentum, rtol=1e-10)

    def loss(psi: Any, potential: Any) -> Any:
        return np.sum(x * np.abs(split_step(psi, potential, momentum)) ** 2)

    compare(br.grad(loss, argnums=(0, 1)), psi, potential, rtol=1e-9, atol=1e-12)
    compare(br.vmap(lambda p: split_step(p, potential, momentum)), np.stack([psi, psi[::-1]]), rtol=1e-10)


def test_filters_and_their_gradients() -> None:
    x, h = np.cos(np.arange(64.0)), np.exp(-np.arange(64.0))

    def filtered(x: Any, h: Any) -> Any:
        return np.fft.irfft(np.fft.rfft(x) * np.fft.rfft(h), len(x))

    compare(filtered, x, h, atol=1e-13)
    compare(br.grad(lambda x, h: np.sum(filtered(x, h) ** 3), argnums=(0, 1)), x, h, rtol=1e-10, atol=1e-12)
