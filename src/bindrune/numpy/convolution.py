"""Convolution and correlation of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.array import Array
from ..core.protocol import implements
from ..ops.convolution import convolve
from .shaping import cell_of

__all__: list[str] = []

_MODES = ("valid", "same", "full")


def _sequence(x: Any, name: str) -> Any:
    x = cell_of(x)
    if x.ndim > 1:
        raise ValueError("object too deep for desired array")
    if x.size == 0:
        raise ValueError(f"{name} cannot be empty")
    return np.reshape(x, -1)


def _convolved(a: Array, v: Array, mode: Any) -> Array:
    """The convolution with a sequence that is not longer."""
    np.convolve([0], [0], mode)  # NumPy says what is wrong with a mode
    mode = mode if isinstance(mode, str) else _MODES[mode]
    if mode != "same":
        result: Array = convolve(a, v, mode=mode)
        return result
    start = (v.shape[0] - 1) // 2
    middle: Array = convolve(a, v, mode="full")[start : start + a.shape[0]]
    return middle


@implements(np.convolve)
def _convolve(a: Any, v: Any, mode: Any = "full") -> Array:
    a, v = _sequence(a, "a"), _sequence(v, "v")
    return _convolved(a, v, mode) if a.shape[0] >= v.shape[0] else _convolved(v, a, mode)


@implements(np.correlate)
def _correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    a, v = _sequence(a, "first array argument"), _sequence(v, "second array argument")
    if a.shape[0] < v.shape[0]:
        return np.conjugate(_correlate(v, a, mode))[::-1]
    return _convolved(a, np.conjugate(v)[::-1], mode)
