"""What is to be known of an array without its elements: shape and dtype."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .array import dtype_of
from .protocol import hooks
from .stack import STACK

__all__ = ["Spec", "is_differentiable", "spec_of", "zeros"]


class Spec(NamedTuple):
    """Shape and dtype of an array, without the array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for n in self.shape:
            size *= n
        return size


_shared_spec = functools.lru_cache(1024)(Spec)
"""The one `Spec` of a shape and dtype: tapes hold very many of very few kinds."""


def spec_of(value: Any) -> Spec:
    """The shape and dtype of an array, a stand-in or a number."""
    try:
        return _shared_spec(value.shape, value.dtype)
    except AttributeError:
        return _shared_spec(np.shape(value), dtype_of(value))


def zeros(spec: Spec) -> Any:
    """An array of zeros."""
    known = all(isinstance(n, (int, np.integer)) for n in spec.shape)
    return np.zeros(spec.shape, spec.dtype) if known else hooks.zeros(spec.shape, spec.dtype)


def is_differentiable(value: Any) -> bool:
    """Whether a value has a tangent space: floating and complex numbers do."""
    kind = type(value)
    if kind is np.float64 or kind is float:
        return True
    dtype = value.dtype if kind is np.ndarray else dtype_of(value)
    return dtype.kind in "fc" or (dtype.kind == "V" and (dtype == STACK or "float" in dtype.name))
