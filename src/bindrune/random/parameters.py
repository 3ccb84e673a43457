"""What samplers share: checking shapes and dtypes, and uniform and normal numbers from a key's word."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..core.array import Array, dtype_of
from ..core.errors import user_line
from ..core.foreign import as_array
from ..ops.random import fraction, normal
from .keys import children, draw_bits

__all__ = [
    "array_of",
    "cast",
    "common_shape",
    "dtype_like",
    "fitting_shape",
    "shape_like",
    "signs",
    "standard_normal",
    "standard_uniform",
    "uniform_between",
]


def shape_like(shape: Any) -> tuple[int, ...]:
    """A shape, from a number or several."""
    return tuple(map(operator.index, shape)) if np.iterable(shape) else (operator.index(shape),)


def common_shape(name: str, shape: Any, *parameters: Any) -> tuple[int, ...]:
    """The shape of a result: that of the parameters together, or one given, to which they must broadcast."""
    return fitting_shape(name, shape, *map(np.shape, parameters))


def fitting_shape(name: str, shape: Any, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """`common_shape` for parameters of which some axes belong to each sample."""
    if shape is None:
        together: tuple[int, ...] = np.broadcast_shapes(*shapes)
        return together
    given = shape_like(shape)
    try:
        fits = np.broadcast_shapes(given, *shapes) == given
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{user_line()}: the parameters of br.random.{name} have the shapes {', '.join(map(str, shapes))}, which "
            f"do not broadcast to the shape {given} of the result"
        )
    return given


_KINDS = {"f": "a floating", "fc": "a floating or complex", "iu": "an integer", "iuf": "an integer or floating"}


def dtype_like(name: str, dtype: Any, kinds: str = "f", default: Any = float) -> np.dtype[Any]:
    """A dtype of one of these kinds, the default for None."""
    chosen: np.dtype[Any] = np.dtype(default if dtype is None else dtype)
    if chosen.kind not in kinds or chosen.itemsize > (16 if chosen.kind == "c" else 8):
        raise TypeError(f"{user_line()}: br.random.{name} draws numbers of {_KINDS[kinds]} dtype, not {chosen}")
    return chosen


def array_of(x: Any) -> Any:
    """A parameter as an array, a number or a stand-in."""
    x = as_array(x)
    return x if isinstance(x, Array) else np.asarray(x)[()]


def cast(x: Any, dtype: Any) -> Any:
    """A parameter in the dtype of the result."""
    x = array_of(x)
    return x if dtype_of(x) == dtype else x.astype(dtype)


def standard_uniform(word: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Numbers in [0, 1)."""
    return fraction(draw_bits(word, shape, 8 * dtype.itemsize), dtype)


def uniform_between(word: Any, shape: tuple[int, ...], dtype: np.dtype[Any], low: Any, high: Any) -> Any:
    """Numbers in [low, high)."""
    return np.maximum(low, standard_uniform(word, shape, dtype) * (high - low) + low)


def standard_normal(word: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Numbers from the standard normal distribution; a complex one has half the variance in each part."""
    if dtype.kind != "c":
        return normal(standard_uniform(word, shape, dtype), dtype)
    part = np.dtype(f"f{dtype.itemsize // 2}")
    words = children(word)
    real, imaginary = (standard_normal(words[i], shape, part) for i in range(2))
    return ((real + 1j * imaginary) / np.sqrt(2)).astype(dtype)


def signs(word: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """One or minus one, equally often."""
    return (1 - 2 * (standard_uniform(word, shape, np.dtype(float)) >= 0.5)).astype(dtype)
