"""Positions of elements that are chosen by their values: how many there are is a parameter.

A program that is being staged does not know how many elements of a mask are true.  It computes that number first, and
the positions are then an array of a length that only the running program has.  Where lanes differ in their number,
asking for it is refused as any value is that Python would need.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.operation import Op, operation, row
from .scalars import as_python

__all__ = ["counted", "distinct_positions", "nonzero_positions"]


def _of_length(found: Any, count: int) -> Any:
    """As many positions as were announced; samples, which have no values to speak of, are padded."""
    made = np.zeros(count, np.intp)
    made[: found.size] = found[:count]
    return made


def _chosen(name: str, positions: Any) -> tuple[Op, Op]:
    """The operations that count some positions in the flattened array, and that give them."""
    x = np.array([[0.7, 0.0, -2.1], [0.7, 0.4, 0.0]])
    count = operation(
        f"{name}_count", lambda x: np.intp(positions(x).size), jvp=None, vjp=None, rows=lambda: [row(x), row(x[0] > 0)]
    )
    place = operation(
        f"{name}_positions",
        lambda x, count: _of_length(positions(x), count),
        jvp=None,
        vjp=None,
        rows=lambda: [row(x, count=4), row(x[0] > 0, count=1), row(x[:0], count=0)],
    )
    return count, place


_nonzero = _chosen("nonzero", np.flatnonzero)
_distinct = _chosen("distinct", lambda x: np.unique(x, return_index=True)[1])


def counted(count: Array) -> Any:
    """A number that the program computes as the length of an array."""
    number = as_python(count, int).read()
    return number._handler.length(number)


def _placed(x: Array, operations: tuple[Op, Op]) -> Array:
    count, place = operations
    found: Array = place(x, count=counted(count(x)))
    return found


def nonzero_positions(x: Array) -> tuple[Array, ...]:
    """`np.nonzero` of an array that only the running program has."""
    flat = _placed(x, _nonzero)
    found: list[Array] = []
    for axis, length in enumerate(x.shape):
        place = flat // math.prod(x.shape[axis + 1 :]) if axis < len(x.shape) - 1 else flat
        found.append(place % length if axis else place)
    return tuple(found)


def distinct_positions(x: Array) -> Array:
    """The first positions of the elements of `np.unique`, in the flattened array."""
    return _placed(x, _distinct)
