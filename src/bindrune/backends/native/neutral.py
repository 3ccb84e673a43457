"""What accumulations start from."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["neutral"]


def neutral(name: str, dtype: np.dtype[Any]) -> Any:
    """What an operation starts from."""
    if name in ("add", "logical_or", "bitwise_or", "bitwise_xor"):
        return 0
    if name in ("multiply", "logical_and"):
        return 1
    if name == "bitwise_and":
        return True if dtype.kind == "b" else -1
    if name in ("fmax", "fmin"):
        return np.nan
    lowest = name == "maximum"
    if dtype.kind == "f":
        return -np.inf if lowest else np.inf
    if dtype.kind == "b":
        return not lowest
    limits = np.iinfo(dtype)
    return limits.min if lowest else limits.max
