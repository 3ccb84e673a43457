"""Random bits: Threefry-2x32, a block cipher on counters.

From J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.  A key and a
counter are 64-bit words.  Element n of a draw is counter n enciphered, so elements do not depend on one another, nor
on the shape they are drawn in, and the lanes of a batch are the draws of their own keys.

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

__all__ = ["PARITY", "ROTATIONS", "ROUNDS", "child", "encipher", "fraction", "narrowed", "normal", "random_bits"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)
ROUNDS = 5
"""How often the key is added, each time after four rotations."""

# The words that stay in the first cache from round to round.
_BLOCK = 8192


def encipher(key: Any, counter: Any) -> Any:
    """Each counter under its key: 64-bit words, broadcast."""
    steps = np.nditer(
        [key, counter, None],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly"], ["readonly"], ["writeonly", "allocate"]],
        op_dtypes=[np.uint64] * 3,
        buffersize=_BLOCK,
    )
    with steps:
        for keys, counters, out in steps:
            _encipher_block(keys, counters, out)
        return steps.operands[2]


def _halves(words: Any) -> tuple[Any, Any]:
    """The upper and the lower 32 bits of words."""
    return (words >> 32).astype(np.uint32), words.astype(np.uint32)


def _encipher_block(keys: Any, counters: Any, out: Any) -> None:
    first, second = _halves(keys)
    schedule = (first, second, first ^ second ^ PARITY)
    a, b = _halves(counters)
    a += first
    b += second
    turned = np.empty_like(b)
    for step in range(ROUNDS):
        for rotation in ROTATIONS[step % 2]:
            a += b
            np.left_shift(b, rotation, out=turned)
            b >>= 32 - rotation
            b |= turned
            b ^= a
        a += schedule[(step + 1) % 3]
        b += schedule[(step + 2) % 3]
        b += step + 1
    out[...] = a
    out <<= 32
    out |= b


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
