"""Small matrices and short vectors in machine code, whose loops' steps are lanes of vectors."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

SIZES = [2, 3, 4, 5, 8, 16]


def numbers(*shape: int, dtype: Any = np.float64) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def compare(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function compiled and as it is."""
    compiled = br.jit(function, backend="native")
    found, expected = compiled(*(a.copy() for a in arguments)), function(*(a.copy() for a in arguments))
    for mine, theirs in zip(br.tree.leaves(found), br.tree.leaves(expected), strict=True):
        rtol = 1e-4 if theirs.dtype == np.float32 else 1e-10
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max(initial=0.0))
        assert mine.dtype == theirs.dtype
    assert not compiled.stats().eager
    return compiled


def filtered(f: Any, q: Any, h: Any, x: Any, steps: int) -> Any:
    """A filter's covariance and state: products of all orders, sums, quotients."""
    p = q
    for t in range(steps):
        p = f @ p @ f.T + q
        gain = p @ h.T / (1.0 + np.sum(h * h))
        p = p - gain @ h @ p
        x = f @ x + gain @ (1.0 - h @ x) - 0.1 * t * np.diag(p)
    return p, x


def overlapping(x: Any, y: Any, steps: int) -> Any:
    """Writes of what was read from other places of the same array."""
    n = len(x) // 2
    for _ in range(steps):
        x[1 : n + 1] = x[:n] * 0.5
        x[:n] = -x[n : 2 * n]
        x[:n] += x[n - 1 :: -1]
        y[:, 1 : n + 1] = y[:, :n]
        y[: n + 1, 0] = y[0, : n + 1] / 2.0
        y[:n] = y[1 : n + 1, ::-1] - y[:n]
    return x, y


def changed(x: Any, y: Any, steps: int) -> Any:
    """Numbers of the steps' own, rows and columns, what is the same in all steps."""
    for t in range(steps):
        u = x * y[t % 2, 0]
        w = u / (2.0 + u * u) - 0.1 * x[t % len(x)]
        y[t % len(y)] = -w / (w * w + 1.0) + y[:, 0] * 0.1
        x = 0.5 * x + 0.1 * (w * y[0] + y @ w - w @ y)
    return x, y


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", SIZES)
def test_small_matrices(n: int, dtype: Any) -> None:
    f, q = np.eye(n, dtype=dtype) * dtype(0.9) + numbers(n, n, dtype=dtype) / dtype(20), np.eye(n, dtype=dtype)
    for m in (1, 2, n):
        h, x = numbers(m, n, dtype=dtype), numbers(n, dtype=dtype)
        compare(lambda f, q, h, x: filtered(f, q, h, x, 9), f, q, h, x)
        if m == 2:
            compare(br.grad(lambda f, q, h, x: np.sum(filtered(f, q, h, x, 9)[1]), argnums=(0, 1, 2, 3)), f, q, h, x)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", SIZES)
def test_what_is_read_where_it_is_written(n: int, dtype: Any) -> None:
    compare(lambda x, y: overlapping(x, y, 7), numbers(2 * n + 1, dtype=dtype), numbers(n + 1, n + 1, dtype=dtype))
    x, y = numbers(n, dtype=dtype), numbers(n, n, dtype=dtype) / dtype(n)
    compare(lambda x, y: changed(x, y, 7), x, y)
    compare(br.grad(lambda x, y: np.sum(changed(x, y, 7)[0]), argnums=(0, 1)), x, y)
    both = numbers(2 * n + 1), numbers(n + 1, n + 1)
    compare(lambda x, y: br.jvp(lambda x, y: overlapping(x.copy(), y.copy(), 7), (x, y), (x * x, -y)), *both)


def test_rows_of_four_are_vectors() -> None:
    def run(a: Any, p: Any) -> Any:
        for _ in range(100):
            p = a @ p @ a.T + a
        return p

    text = br.jit(run, backend="native").lower(np.eye(4), np.eye(4)).llvm
    assert "fmul <4 x double>" in text
    assert "fmul double" not in text


def test_the_sign_of_a_sum_of_zeros() -> None:
    def run(a: Any, x: Any) -> Any:
        for _ in range(6):
            x = a @ x
        return x

    found = compare(run, np.zeros((4, 4)), -np.ones(4))(np.zeros((4, 4)), -np.ones(4))
    assert not np.signbit(found).any()
