"""Loops over many small matrices, and over rows of a few elements, in machine code."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

import bindrune as br
from bindrune.backends.native.machine import vector_bytes
from compiled import compare, numbers

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

SIZES = [2, 3, 4, 5, 7, 8, 9]
DTYPES = [np.float64, np.float32, np.complex128, np.complex64, np.int64, np.uint8]
each_size = pytest.mark.parametrize("n", SIZES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)


@each_size
@each_dtype
def test_products(n: int, dtype: Any) -> None:
    def products(x: Any, y: Any) -> Any:
        z = np.einsum("bji,bjk->bik", x, y) + np.einsum("bij,bkj->bik", x, y)
        return x @ y, x @ y[:, :, :1], np.einsum("bij,bj->bi", x, y[:, 0]), z, x[:, :, :2] @ y[:, -2:]

    for count in (1, 7, 37):
        compare(products, numbers(count, n, n, dtype=dtype), numbers(count, n, n, dtype=dtype))
    compare(products, numbers(45, n, n, dtype=dtype), numbers(45, n, n, dtype=dtype), dynamic=True)


@each_size
@each_dtype
def test_rows(n: int, dtype: Any) -> None:
    def rows(x: Any, y: Any) -> Any:
        outer = x[:, :, None] * y[:, None]
        turned = outer.transpose(0, 2, 1) + outer * x[0]
        return x * y[0] + x[:, :1], x[:, 1:] - x[:, :-1], outer, turned, outer.sum(1), np.where(x != y, x, y[0])

    for count in (7, 37):
        compare(rows, numbers(count, n, dtype=dtype), numbers(count, n, dtype=dtype))
    compare(rows, numbers(45, n, dtype=dtype), numbers(45, n, dtype=dtype), dynamic=True)
    compare(lambda x: rows(x[::3, ::-1], x[1::3, :]), numbers(60, n, dtype=dtype))


@each_size
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda d: d.__name__)
def test_gradients(n: int, dtype: Any) -> None:
    def loss(x: Any, y: Any) -> Any:
        z = np.tanh(x @ y) @ x[:, :, :1]
        return np.sum(z / (2 + z * z)) + np.sum(np.max(x, axis=-1) * y[:, 0, 0, None])

    arguments = numbers(37, n, n, dtype=dtype), numbers(37, n, n, dtype=dtype)
    compare(br.grad(loss, argnums=(0, 1)), *arguments)
    compare(br.vmap(br.grad(lambda x, y: np.sum((x @ y) ** 2), argnums=(0, 1))), *arguments)


def test_true_and_false() -> None:
    x = numbers(37, 5) > 0
    compare(lambda x: (x & x[:, ::-1], x[:, :, None] | x[:, None], x.any(1)), x)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_matrices_are_not_gathered(n: int) -> None:
    arguments = numbers(1000, n, n), numbers(1000, n, n)
    text = br.jit(lambda x, y: x @ y, backend="native").lower(*arguments).llvm
    assert "gather" not in text
    assert f"fmul <{n} x double>" in text


def test_functions_of_rows_are_vectors_of_many_rows() -> None:
    text = br.jit(lambda x: np.exp(x - x[:, :1]), backend="native").lower(numbers(1000, 3)).llvm
    assert f"fmul <{vector_bytes() // 8} x double>" in text
