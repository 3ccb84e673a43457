"""Lists of the rows of an array: what a staged loop appended, step by step, to a list.

Each item is a view that is read when somebody looks at it.  Whoever takes all of them together (`np.array`, a loop over
the list) takes the array instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.array import Array, View
from ..graph.graph import ARRAY, PYTHON
from .indexing import getitem
from .scalars import convert

__all__ = ["consecutive", "form_of_row", "pieces", "row", "row_number"]


def row(array: Array, number: int, shape: tuple[Any, ...], dtype: np.dtype[Any], form: str) -> Array:
    """One row as a value of some form."""
    index = (number,) if shape or form != ARRAY else (number, Ellipsis)
    found = View(array, getitem, {"index": index}, shape)
    return View(found, convert, {"dtype": dtype, "form": PYTHON}, ()) if form == PYTHON else found


def row_number(value: Any) -> tuple[Array, int] | None:
    """The array of which a value is a row, and which; None for other values."""
    if type(value) is not View:
        return None
    if value._op is convert and type(value._base) is View:
        value = value._base
    index = value._params.get("index", ())
    if value._op is not getitem or value._operands or not index or type(index[0]) is not int:
        return None
    if index[1:] not in ((), (Ellipsis,)):
        return None
    number, length = index[0], value._base.shape[0]
    if number < 0 and not isinstance(length, int):
        return None
    return value._base, number if number >= 0 else number + length


def form_of_row(value: Any) -> dict[str, Any] | None:
    """How a row is brought to its form; None where it needs nothing."""
    return value._params if value._op is convert else None


def consecutive(values: Sequence[Any]) -> Array | None:
    """The part of an array whose rows some values are, in order; None where they are something else."""
    values = [_whole(v) if type(v) is list else v for v in values]
    first = row_number(values[0]) if values else None
    if first is None:
        return None
    base, start = first
    for i, value in enumerate(values):
        found = row_number(value)
        if found is None or found[0] is not base or found[1] != start + i:
            return None
    if start == 0 and len(values) == base.shape[0]:
        return base
    part: Array = base[start : start + len(values)]
    return part


def _whole(values: list[Any]) -> Array | None:
    """The array all of whose rows a list holds."""
    found = consecutive(values)
    first = row_number(values[0]) if values and type(values[0]) is not list else None
    return found if found is not None and (first is None or found is first[0]) else None


def pieces(values: Sequence[Any]) -> list[Any]:
    """Values with runs of rows as the arrays of which they are rows: arrays, and lists of other values."""
    found: list[Any] = []
    i = 0
    while i < len(values):
        stop = i + 1
        here = row_number(values[i])
        while here is not None and stop < len(values):
            after = row_number(values[stop])
            if after is None or after[0] is not here[0] or after[1] != here[1] + stop - i:
                break
            stop += 1
        if stop - i >= _RUN:
            found.append(consecutive(values[i:stop]))
        elif found and isinstance(found[-1], list):
            found[-1] += values[i:stop]
        else:
            found.append(list(values[i:stop]))
        i = stop
    return found


_RUN = 4
"""So many rows one after the other are taken together."""
