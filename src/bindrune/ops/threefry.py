"""Threefry-2x32: a block cipher on counters.

From J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.  A key and a
counter are 64-bit words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["PARITY", "ROTATIONS", "ROUNDS", "encipher"]

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
