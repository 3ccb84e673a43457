"""Random chains of operations along and across axes: machine code computes what NumPy does, whatever is fused."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

COUNT = int(os.environ.get("BINDRUNE_PROGRAMS", "60"))
BATCH = 20


def written(v: Any) -> Any:
    v = v.copy()
    v[..., 0] = v[..., -1] * 2
    return v


STEPS: list[Callable[[Any, int, int], Any]] = [
    lambda v, axis, n: np.cumsum(v, axis=axis),
    lambda v, axis, n: np.cumprod(v * 0.5, axis=axis),
    lambda v, axis, n: np.maximum.accumulate(v, axis=axis),
    lambda v, axis, n: np.moveaxis(v, axis, -1 if n % 2 else 0),
    lambda v, axis, n: np.flip(v, axis=axis),
    lambda v, axis, n: np.roll(v, n % 5 - 2, axis=axis),
    lambda v, axis, n: np.diff(v, axis=axis) if v.shape[axis] > 1 else v,
    lambda v, axis, n: np.sum(v, axis=axis, keepdims=bool(n % 2)),
    lambda v, axis, n: np.max(v, axis=axis, keepdims=True),
    lambda v, axis, n: np.sort(v, axis=axis),
    lambda v, axis, n: np.argsort(v, axis=axis).astype(float),
    lambda v, axis, n: np.concatenate([v, v * 2], axis=axis) if v.size < 200 else v,
    lambda v, axis, n: np.where(v > 0, v, -0.5 * v),
    lambda v, axis, n: np.sin(v),
    lambda v, axis, n: written(v),
]


def program(seed: int) -> Callable[..., list[Any]]:
    """A few steps, each on one of the arrays so far and perhaps joined with another."""
    chosen = [int(n) for n in np.random.default_rng(seed).integers(0, 2**30, size=80)]

    def chain(*arrays: Any) -> list[Any]:
        numbers = iter(chosen)
        values = list(arrays)
        for _ in range(3 + next(numbers) % 6):
            v, other = (values[next(numbers) % len(values)] for _ in range(2))
            step, axis, n = (next(numbers) for _ in range(3))
            made = STEPS[step % len(STEPS)](v, axis % v.ndim, n) if v.ndim else v + 1
            joined = next(numbers)
            try:
                np.broadcast_shapes(made.shape, other.shape)
            except ValueError:
                joined = 0
            values.append(made * other if joined % 4 == 1 else made - other if joined % 4 == 2 else made)
        return values[len(arrays) :]

    return chain


@pytest.mark.parametrize("first", range(0, COUNT, BATCH))
def test_chains(first: int) -> None:
    for seed in range(first, min(first + BATCH, COUNT)):
        generator = np.random.default_rng(seed + 10**6)
        arrays = generator.normal(size=(3, 4, 2)), generator.normal(size=(4, 2) if seed % 2 else (3, 3))
        chain = program(seed)
        expected = chain(*arrays)
        for found, value in zip(br.jit(chain, backend="native")(*arrays), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-9, err_msg=f"program {seed}")
        if seed % 4 == 0:

            def total(*arrays: Any, chain: Any = chain) -> Any:
                return sum(np.sum(np.tanh(v)) for v in chain(*arrays))

            found, value = (g(*arrays) for g in (br.jit(br.grad(total), backend="native"), br.grad(total)))
            np.testing.assert_allclose(found, value, rtol=1e-7, atol=1e-8, err_msg=f"gradient of program {seed}")
