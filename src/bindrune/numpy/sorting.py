"""Sorting, positions of extremes and of what is not zero, and sets.

How many elements are not zero, or differ, depends on the values: such positions are found from the values themselves
(`ops.positions` where these are not known yet), and under `vmap`, where the lanes may differ in their number, asking
for them is an error that says so.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core.array import Array, concrete
from ..core.handler import constant
from ..core.operation import Op, registry
from ..core.protocol import implements
from ..ops import sorting
from ..ops.positions import distinct_positions, nonzero_positions
from ..ops.views import is_concrete
from .shaping import cell_of
from .ufuncs import write_out

__all__: list[str] = []


def _along(a: Any, axis: Any) -> tuple[Any, int]:
    """An array and the axis to sort along; the flattened array for None."""
    a = cell_of(a)
    if axis is None:
        return np.ravel(a), 0
    return a, normalize_axis_index(operator.index(axis), a.ndim)


# ---------------------------------------------------------------------------------------------------------- sorting


def _sorting(function: Any, op: Op) -> None:
    @implements(function)
    def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Array:
        a, axis = _along(a, axis)
        if stable is not None:
            if kind is not None:
                raise ValueError(
                    "`kind` and keyword parameters can't be provided at the same time. Use only one of them."
                )
            kind = "stable" if stable else None
        result: Array = op(a, axis=axis, kind=kind, order=order)
        return result


_sorting(np.sort, sorting.sort)
_sorting(np.argsort, sorting.argsort)


def _partitioning(function: Any, op: Op) -> None:
    @implements(function)
    def partition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Array:
        a, axis = _along(a, axis)
        kth = concrete(kth) if isinstance(kth, Array) else kth
        kth = tuple(map(operator.index, kth)) if np.ndim(kth) else operator.index(kth)
        result: Array = op(a, axis=axis, kth=kth, kind=kind, order=order)
        return result


_partitioning(np.partition, sorting.partition)
_partitioning(np.argpartition, sorting.argpartition)


@implements(np.lexsort)
def _lexsort(keys: Any, axis: Any = -1) -> Array:
    cells = [cell_of(key) for key in keys]
    if not cells:
        raise TypeError("need sequence of keys with len > 0 in lexsort")
    order: Array = sorting.lexsort(*cells, axis=normalize_axis_index(operator.index(axis), cells[0].ndim))
    return order


# ---------------------------------------------------------------------------------------------- where extremes stand


def _position(function: Any, op: Op) -> None:
    @implements(function)
    def find(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Array:
        a = cell_of(a)
        if axis is not None:
            # A number counts as an array of one axis here.
            axis = normalize_axis_index(operator.index(axis), max(a.ndim, 1))
            axis = axis if a.ndim else None
        found = op(a, axis=axis, keepdims=keepdims is not np._NoValue and bool(keepdims))
        return write_out(found, out, name=op.name)


for _function in (np.argmax, np.argmin, np.nanargmax, np.nanargmin):
    _position(_function, registry[_function.__name__])

# ------------------------------------------------------------------------------------------ what depends on the values


@implements(np.nonzero)
def _nonzero(a: Any) -> tuple[Array, ...]:
    a = cell_of(a)
    return tuple(map(constant, np.nonzero(concrete(a)))) if is_concrete(a) or not a.ndim else nonzero_positions(a)


@implements(np.unique)
def _unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    **others: Any,
) -> Any:
    a = cell_of(ar)
    if not is_concrete(a) and axis is None and a.dtype.kind in "biuf" and others.get("equal_nan", True):
        return _unique_of_program(np.ravel(a), a.shape, return_index, return_inverse, return_counts)
    plain = np.unique(concrete(a), True, return_inverse, return_counts, axis, **others)  # type: ignore[call-overload]
    index, *rest = plain[1:]
    values = np.ravel(a)[index] if axis is None else np.take(a, index, axis)
    found = (values, *([constant(index)] if return_index else []), *map(constant, rest))
    return found if len(found) > 1 else values


def _unique_of_program(a: Any, shape: Any, *returned: bool) -> Any:
    """`np.unique` of flattened values that only the running program has."""
    index = distinct_positions(a)
    values = a[index]
    inverse = np.searchsorted(values, a)
    counts = np.zeros_like(index)
    np.add.at(counts, inverse, 1)
    others = (index, np.reshape(inverse, shape), counts)
    found = (values, *(v for v, wanted in zip(others, returned, strict=True) if wanted))
    return found if len(found) > 1 else values
