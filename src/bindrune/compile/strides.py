"""What a slice by steps chooses of an axis: Python's `slice.indices`, of numbers that may be known or traced.

Written without branches, so that a traced step may have either sign, and without products, so that no step is too
large: what is known is computed now, and the program computes the rest.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..core.array import Array

__all__ = ["chosen"]

_FAR = sys.maxsize // 2
"""Farther away than any element, and room to add a length."""


def chosen(start: Any, stop: Any, step: Any, length: Any) -> tuple[Any, Any]:
    """The first index that a slice chooses, and how many; None stands for what it leaves out.

    >>> chosen(-3, None, 2, 10), chosen(None, 2, -3, 10), chosen(5, 1, 1, 10)
    ((7, 2), (9, 3), (5, 0))
    """
    down = step < 0
    lowest, highest = _either(down, -1, 0), _either(down, length - 1, length)
    first = _either(down, highest, lowest) if start is None else _within(start, length, lowest, highest)
    end = _either(down, lowest, highest) if stop is None else _within(stop, length, lowest, highest)
    last = end - _either(down, -1, 1)
    # A step of zero is refused by whoever asks, and may not end the program in another way.
    step = _either(step == 0, 1, step) if isinstance(step, Array) else max(-_FAR, min(step, _FAR))
    return first, _larger((last - first) // step + 1, 0)


def _within(bound: Any, length: Any, lowest: Any, highest: Any) -> Any:
    """A bound as an index, counted from the end where it is negative, between the lowest and the highest."""
    if isinstance(bound, int):
        bound = max(-_FAR, min(bound, _FAR))
    bound = _smaller(bound, highest)
    return _larger(_either(bound < 0, bound + length, bound), lowest)


def _either(condition: Any, a: Any, b: Any) -> Any:
    return np.where(condition, a, b) if isinstance(condition, Array) else a if condition else b


def _larger(a: Any, b: Any) -> Any:
    return np.maximum(a, b) if isinstance(a, Array) or isinstance(b, Array) else max(a, b)


def _smaller(a: Any, b: Any) -> Any:
    return np.minimum(a, b) if isinstance(a, Array) or isinstance(b, Array) else min(a, b)
