"""Random bits, by Threefry.

A key and a counter are 64-bit words.  Element n of a draw is counter n enciphered, so elements do not depend on one
another, nor on the shape they are drawn in, and the lanes of a batch are the draws of their own keys.

Bits have no derivative: to every derivative they are constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import special

from ..core.operation import Row, operation, row
from .lanes import aligned
from .threefry import encipher

__all__ = ["child", "fraction", "narrowed", "normal", "random_bits"]


def child(key: Any, number: int) -> Any:
    """The word that a key's `number`-th child is, and that its `number`-th draw is made of."""
    return encipher(key, np.uint64(number))


def narrowed(words: Any, width: int) -> Any:
    """Random words of fewer bits."""
    return words if width == 64 else (words >> 32 ^ words).astype(f"u{width // 8}")


def fraction(bits: Any, dtype: np.dtype[Any]) -> Any:
    """Random bits, as wide as a floating dtype, as numbers in [0, 1) that are equally spaced."""
    precision = np.finfo(dtype).nmant
    return (bits >> (8 * dtype.itemsize - precision)).astype(dtype) * dtype.type(2.0**-precision)


def normal(u: Any, dtype: np.dtype[Any]) -> Any:
    """Numbers from [0, 1) as numbers from the standard normal distribution."""
    low = np.nextafter(dtype.type(-1), dtype.type(0))
    return (dtype.type(np.sqrt(2)) * special.erfinv(np.maximum(low, u * (1 - low) + low))).astype(dtype)


def _random_bits(key: Any, counter: Any, shape: tuple[int, ...], width: int) -> Any:
    counters = np.asarray(counter)[..., None] + np.arange(math.prod(shape), dtype=np.uint64)
    words = encipher(np.asarray(key)[..., None], counters)
    return narrowed(words.reshape(words.shape[:-1] + shape), width)[()]


def _rows() -> Iterable[Row]:
    key, other = np.uint64(0x13198A2E03707344), np.uint64(7)
    yield row(key, np.uint64(0), shape=(), width=64)
    yield row(key, np.uint64(5), shape=(3,), width=32)
    yield row(other, np.uint64(2**32 - 2), shape=(2, 3), width=64)
    yield row(other, np.uint64(0), shape=(2, 1, 2), width=8)
    yield row(other, np.uint64(0), shape=(0, 2), width=16)


random_bits = operation(
    "random_bits", _random_bits, jvp=None, vjp=None, operands="key counter", batch=aligned, rows=_rows
)
"""The bits of a draw of some shape, from the counter given on."""
