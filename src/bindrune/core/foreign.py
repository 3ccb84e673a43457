"""Arrays of other libraries, read where they enter.

A `torch.Tensor`, a `jax.Array`, or anything that speaks DLPack or NumPy's array protocols becomes an `ndarray` over
the same memory where there is a way to share it.  Memory that its owner lends for reading only stays read-only.  What
is no array passes as it is; one that cannot be read on the host is refused by its own library.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .array import Array

__all__ = ["as_array", "is_foreign"]

_OURS = (np.ndarray, Array, np.generic, float, int, complex, str, bytes, type(None), type)


def is_foreign(value: Any) -> bool:
    """Whether a value is an array of another library, rather than an object that can be made into one."""
    return hasattr(type(value), "__dlpack__") and not isinstance(value, _OURS)


def as_array(value: Any) -> Any:
    """An `ndarray` over the memory of another library's array; anything else as it is."""
    if isinstance(value, _OURS):
        return value
    if getattr(value, "requires_grad", False) is True:
        value = value.detach()
    kind = type(value)
    if hasattr(kind, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError):
            # On another device, or of a dtype that DLPack has no name for: the library's own conversion may know more.
            if not hasattr(kind, "__array__"):
                raise
    if hasattr(kind, "__array__") or hasattr(value, "__array_interface__"):
        return np.asarray(value)
    return value
