"""What several test files compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def close(found: Any, expected: Any, rtol: float = 1e-6, atol: float = 1e-12) -> None:
    """Equal up to rounding, elementwise, in the same shape."""
    assert np.shape(found) == np.shape(expected), f"shape {np.shape(found)}, expected {np.shape(expected)}"
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def weigh(y: Any) -> Any:
    """A loss that tells elements apart: a uniform cotangent would hide permutation errors."""
    weights = (np.arange(y.size) % 5 + 1) / 2
    return np.sum(weights.reshape(y.shape) * y)


def difference_gradient(function: Callable[[Any], Any], x: Any, step: float = 1e-6) -> Any:
    """The gradient of a function of one array, by central differences."""
    x = np.asarray(x, dtype=float)
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (function(ahead) - function(behind)) / (2 * step)
    return gradient
