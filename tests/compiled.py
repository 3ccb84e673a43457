"""A function compiled and as it is: the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import bindrune as br

__all__ = ["compare", "numbers"]


def numbers(*shape: int, dtype: Any = np.float64) -> Any:
    """An array of numbers: small whole ones for integers, any for the others, complex ones too."""
    rng = np.random.default_rng(sum(shape))
    if np.dtype(dtype).kind in "iub":
        return rng.integers(0, 9, shape).astype(dtype)
    found = rng.normal(size=shape)
    return (found + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else found).astype(dtype)


def compare(function: Callable[..., Any], *arguments: Any, dynamic: bool = False) -> Any:
    """Run a function as machine code and as it is; the compiled one."""
    compiled = br.jit(function, backend="native", dynamic=dynamic)
    found, expected = compiled(*arguments), function(*arguments)
    for mine, theirs in zip(br.tree.leaves(found), br.tree.leaves(expected), strict=True):
        rtol = {2: 1e-2, 4: 1e-5}.get(theirs.real.dtype.itemsize, 1e-12) if theirs.dtype.kind in "fc" else 0
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max(initial=0.0))
        assert mine.dtype == theirs.dtype
    assert not compiled.stats().eager
    return compiled
