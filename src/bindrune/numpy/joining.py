"""Joining and splitting arrays.

`np.vstack`, `np.block`, `np.split` and their kin are NumPy's own Python code, lifted.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core.array import Array, concrete, peek
from ..core.protocol import hooks, implements
from ..ops import joining
from ..ops.rows import row_number
from ..ops.views import read_at
from .shaping import cell_of
from .ufuncs import write_out

__all__: list[str] = []

_GROUP = 64
"""How many arrays are joined at a time: to cut out the cotangent of one costs time in the number of those before."""


def _delivered(result: Array, out: Any, dtype: Any, casting: Any, name: str) -> Array:
    target = out.dtype if out is not None else dtype
    if target is not None:
        result = result.astype(target, casting=casting)
    if out is not None and np.shape(out) != result.shape:
        raise ValueError("Output array is the wrong shape")
    return write_out(result, out, name=name)


# `np.block` calls the function inside NumPy's dispatcher.
@implements(np.concatenate, getattr(np.concatenate, "__wrapped__", np.concatenate))
def _concatenate(
    arrays: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind"
) -> Array:
    if not hasattr(arrays, "__getitem__"):
        raise TypeError("The first input argument needs to be a sequence")
    cells: list[Any] = [cell_of(a) for a in arrays]
    if axis is None:
        cells, axis = [np.ravel(a) for a in cells], 0
    axis = operator.index(axis)
    ndim = np.concatenate([np.empty(a.shape, bool) for a in cells], axis).ndim
    axis = normalize_axis_index(axis, ndim)
    while len(cells) > _GROUP and len({a.dtype for a in cells}) == 1:
        cells = [joining.concatenate(*cells[i : i + _GROUP], axis=axis) for i in range(0, len(cells), _GROUP)]
    return _delivered(joining.concatenate(*cells, axis=axis), out, dtype, casting, "concatenate")


@implements(np.stack)
def _stack(arrays: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind") -> Array:
    if not hasattr(arrays, "__getitem__"):
        raise TypeError('arrays to stack must be passed as a "sequence" type such as list or tuple.')
    if type(arrays) is list and arrays and row_number(arrays[-1]) is not None:
        stacked: Any = hooks.asarray(arrays)
        return _delivered(np.moveaxis(stacked, 0, axis), out, dtype, casting, "stack")
    cells = [cell_of(a) for a in arrays]
    if not cells:
        raise ValueError("need at least one array to stack")
    if len({a.shape for a in cells}) != 1:
        raise ValueError("all input arrays must have the same shape")
    result = joining.stack(*cells, axis=normalize_axis_index(operator.index(axis), cells[0].ndim + 1))
    return _delivered(result, out, dtype, casting, "stack")


@implements(np.array_split)
def _array_split(ary: Any, indices_or_sections: Any, axis: Any = 0) -> list[Array]:
    ary = cell_of(ary)
    sections = concrete(indices_or_sections) if isinstance(indices_or_sections, Array) else indices_or_sections
    positions = np.arange(np.shape(peek(ary))[axis])
    axis = normalize_axis_index(operator.index(axis), ary.ndim)
    found = []
    for part in np.array_split(positions, sections):
        start = int(part[0]) if len(part) else 0
        found.append(read_at(ary, (slice(None),) * axis + (slice(start, start + len(part)),)))
    return found


class _IndexJoiner:
    """`np.r_` and `np.c_`: NumPy's own, their code lifted."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getitem__(self, key: Any) -> Any:
        return hooks.fallback(type(self.real).__getitem__)(self.real, key)


for _real in (np.r_, np.c_):
    _joiner: Any = _IndexJoiner(_real)
    implements(_real)(_joiner)
