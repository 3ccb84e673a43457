"""Nests that go along one array and across another, in machine code."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

import bindrune as br
from bindrune.backends.native import threads
from compiled import compare, numbers

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

DTYPES = [
    np.float64, np.float32, np.float16, np.complex128, np.complex64, np.int64, np.int32, np.int16, np.uint8, np.bool_,
]  # fmt: skip
SHAPES = [(16, 16), (17, 33), (64, 24), (31, 100), (128, 8), (1, 40), (0, 20), (40, 15)]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)


@each_dtype
@pytest.mark.parametrize("shape", SHAPES)
def test_transposed_copies(shape: tuple[int, int], dtype: Any) -> None:
    def copies(x: Any) -> Any:
        return (
            x.T.copy(),
            x[::-1].T.copy(),
            x[:, ::-1].T.copy(),
            x[3:, 2:].T.copy(),
            x[::2].T.copy(),
            x[:, ::2].T.copy(),
        )

    x = numbers(*shape, dtype=dtype)
    compare(copies, x)
    compare(copies, x, dynamic=True)


@each_dtype
@pytest.mark.parametrize("n", [7, 16, 37, 64])
def test_what_is_computed_with_rows_and_columns(n: int, dtype: Any) -> None:
    def mixed(x: Any, y: Any) -> Any:
        z = np.where(x != y.T, x, y)
        return x.T + x, x + y.T * x.T, z.T | z if dtype is np.bool_ else z.T - z, y.T.astype(np.complex128) + x

    x, y = numbers(n, n, dtype=dtype), numbers(n, n, dtype=dtype)[::-1].copy()
    if dtype is np.bool_:
        compare(lambda x, y: (x.T & y, x ^ y.T, np.where(x, y.T, x)), x, y)
        return
    compare(mixed, x, y)
    compare(mixed, x, y, dynamic=True)


@pytest.mark.parametrize("dtype", [np.float64, np.complex64, np.uint8], ids=lambda d: d.__name__)
def test_more_axes(dtype: Any) -> None:
    x = numbers(19, 17, 3, 24, dtype=dtype)
    for axes in [(0, 3, 2, 1), (3, 2, 1, 0), (1, 0, 2, 3), (3, 0, 1, 2), (0, 1, 3, 2), (1, 2, 3, 0), (2, 3, 0, 1)]:
        compare(lambda x, axes=axes: (x.transpose(axes).copy(), x.transpose(axes)[::-1] * 2), x)
        compare(lambda x, axes=axes: x.transpose(axes).copy(), x, dynamic=True)


def test_rows_that_are_looked_up() -> None:
    x, i = numbers(30, 40), np.random.default_rng(0).integers(0, 30, 50)
    compare(lambda x, i: (x[i].T.copy(), x[i].T + 1, x.T[:, i].copy(), x[i].T * x[i[::-1]].T), x, i)


@pytest.mark.parametrize("n", [16, 45])
def test_writes(n: int) -> None:
    def written(x: Any, y: Any) -> Any:
        y[:, :] = x.T
        y[1:, :-1] += x.T[:-1, 1:] * 2
        x[:] = x.T + y.T
        x[:16, :16] = x.T[:16, :16]
        return x, y, np.asfortranarray(x) + y

    x, y = numbers(n, n), numbers(n, n) + 1
    compiled = br.jit(written, backend="native")
    mine, theirs = (x.copy(), y.copy()), (x.copy(), y.copy())
    for found, expected in zip(compiled(*mine), written(*theirs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_array_equal(mine, theirs)
    assert not compiled.stats().eager


@pytest.mark.parametrize("n", [16, 45])
def test_gradients(n: int) -> None:
    def loss(x: Any, y: Any) -> Any:
        z = (x.T * y + y.T) @ x.T
        return np.sum(np.tanh(z.T - x)) + np.sum(x.T / (1 + y * y))

    x, y = numbers(n, n), numbers(n, n) + 1
    compare(br.grad(loss, argnums=(0, 1)), x, y)
    compare(lambda x, y: br.jvp(loss, (x, y), (y.T, x.T)), x, y)
    compare(br.vmap(br.grad(lambda x, y: np.sum((x.T + y) * x), argnums=(0, 1))), numbers(5, n, n), numbers(5, n, n))


def test_steps_that_depend_on_each_other() -> None:
    def swept(x: Any) -> Any:
        for i in range(1, len(x)):
            for j in range(1, x.shape[1]):
                x[i, j] = x[j, i - 1] + 0.5 * x[i, j - 1]
        return x

    x = numbers(33, 33)
    np.testing.assert_allclose(br.jit(swept, backend="native")(x.copy()), swept(x.copy()), rtol=1e-12)


def test_packed_operands_of_products() -> None:
    x, y = numbers(6, 40, 50), numbers(6, 50, 44)
    compare(lambda x, y: np.einsum("bij,bjk->ik", x, y), x, y)
    compare(lambda x, y: np.einsum("aij,bjk->abik", x, y).transpose(3, 1, 0, 2) + 1, x, y)


@pytest.fixture
def three_threads() -> Any:
    """Lets three threads share the loops of a test."""
    before = threads.threads()
    threads.set_threads(3)
    yield
    threads.set_threads(before)


def test_shared_by_threads(three_threads: Any) -> None:
    x, y = numbers(515, 700), numbers(700, 515)
    compare(lambda x, y: (x.T.copy(), x.T * 2 - y, np.where(y > 0, x.T, y)), x, y)


def test_a_transposed_copy_is_shuffled_in_registers() -> None:
    text = br.jit(lambda x: x.T.copy(), backend="native").lower(numbers(200, 200)).llvm
    assert "load <8 x i64>" in text
    assert "gather" not in text


def test_nothing_is_made_only_to_be_read_across() -> None:
    def mixed(x: Any, y: Any) -> Any:
        return np.where(y < x.T, (x.T * 2 + y) / x.T, -x.T)

    x, y = numbers(40, 48), numbers(48, 40)
    compare(mixed, x, y)
    loops = str(br.jit(mixed, backend="native").lower(x, y).loops)
    assert len([line for line in loops.splitlines() if line.startswith("    for")]) == 1


def test_access_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDRUNE_CHECK", "bounds")
    compare(lambda x: (x.T.copy(), x.T + x[:20, :20].sum()), numbers(37, 45))


@pytest.mark.parametrize("n", [8, 40, 45])
def test_what_is_computed_where_it_is_read(n: int) -> None:
    x, y = numbers(n, 3 * n), numbers(n, 3 * n) + 1
    compare(lambda x, y: (x.T * 2 + y.T) / y.T, x, y)
    compare(lambda x, y: (x.T * 2 + y.T) / y.T, x, y, dynamic=True)
    compare(lambda x, y: (x.T + y.T, (x.T + y.T).sum(0), x.T - y.T, np.exp(x.T) * y.T), x, y)
    compare(lambda x: (x.reshape(n, 3, n).transpose(2, 0, 1) + 1, x.reshape(n, n, 3).transpose(1, 2, 0) * 2), x)


@pytest.mark.parametrize("n", [16, 21])
def test_what_is_read_across_in_a_loop(n: int) -> None:
    def stacked(x: Any, steps: int) -> Any:
        out = np.zeros((steps, n, n))
        for t in range(steps):
            x = x.T * 0.5 + 1.0
            out[t] = x.T - t
            out[t] += (out[t].T + x.T)[::-1]
        return out, x

    compare(lambda x: stacked(x, 7), numbers(n, n))
    compare(br.grad(lambda x: np.sum(stacked(x, 7)[0] ** 2)), numbers(n, n))


@pytest.mark.parametrize("n", [8, 19])
def test_nests_that_make_other_arrays_too(n: int) -> None:
    def mixed(x: Any, y: Any) -> Any:
        z = x - x.mean(0)
        w = z[::-1] + x[:, ::-1]
        return x, z, w.T, np.where(np.greater(y.T, x), z, -y.T).T

    def more(x: Any, y: Any) -> Any:
        u = np.tanh(y.T) - y.T
        w = y * u.T.sum()
        return u.T, np.where(np.greater(u.T, x.T), y, -u.T), x + x * 0.5, w, w.T.copy()

    compare(mixed, numbers(n, n + 3), numbers(n + 3, n))
    compare(more, numbers(n, n + 3), numbers(n + 3, n))
