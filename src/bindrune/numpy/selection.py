"""Choosing elements: by a condition, by position, within bounds; and writing those chosen.

A write goes through the stand-in it is given, views included.  What this file does not define (`np.select`,
`np.extract`, `np.nan_to_num`, `np.isclose`, ...) is NumPy's own Python code, lifted.  It refuses to write followed
values into a plain array that lifting did not reach.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core.array import Array, concrete, is_scalar, peek
from ..core.errors import MutationError, user_line
from ..core.handler import HOST, constants
from ..core.protocol import FUNCTIONS, hooks, implements
from ..ops import indexing, selection, views
from ..ops.indexing import ARRAY
from ..ops.scalars import as_python
from ..ops.views import is_concrete, read_at, write_at
from .shaping import cell_of
from .ufuncs import call_ufunc, operand, write_out

__all__: list[str] = []


@implements(np.where)
def _where(condition: Any, *branches: Any) -> Any:
    if not branches:
        return FUNCTIONS[np.nonzero](condition)
    if len(branches) != 2:
        raise ValueError("either both or neither of x and y should be given")
    chosen = selection.where(*map(operand, (condition, *branches)))
    return views.boxed(chosen) if is_scalar(chosen) else chosen


@implements(np.clip)
def _clip(
    a: Any,
    a_min: Any = np._NoValue,
    a_max: Any = np._NoValue,
    out: Any = None,
    *,
    min: Any = np._NoValue,
    max: Any = np._NoValue,
    **keywords: Any,
) -> Any:
    given = a_min is not np._NoValue, a_max is not np._NoValue
    if given == (False, False):
        a_min = None if min is np._NoValue else min
        a_max = None if max is np._NoValue else max
    elif given != (True, True):
        raise TypeError(f"clip() missing 1 required positional argument: {'a_max' if given[0] else 'a_min'!r}")
    elif min is not np._NoValue or max is not np._NoValue:
        raise ValueError("Passing `min` or `max` keyword argument when `a_min` and `a_max` are provided is forbidden.")
    a = operand(a)
    dtype = a.dtype if hasattr(a, "dtype") else np.asarray(a).dtype
    if dtype.kind in "iu":
        # A Python integer outside the dtype's range bounds nothing (and could not be converted).
        a_min = None if type(a_min) is int and a_min <= np.iinfo(dtype).min else a_min
        a_max = None if type(a_max) is int and a_max >= np.iinfo(dtype).max else a_max
    steps: list[tuple[np.ufunc, Any]] = [(np.maximum, a_min), (np.minimum, a_max)]
    calls = [(ufunc, bound) for ufunc, bound in steps if bound is not None]
    delivery = {"out": out, **keywords}
    if not calls:
        return call_ufunc(np.positive, "__call__", (a,), delivery)
    for ufunc, bound in calls[:-1]:
        a = call_ufunc(ufunc, "__call__", (a, bound), {})
    ufunc, bound = calls[-1]
    return call_ufunc(ufunc, "__call__", (a, bound), delivery)


@implements(np.choose)
def _choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    a, options = cell_of(a), [operand(c) for c in choices]
    count = len(options)
    if mode == "raise" and is_concrete(a):
        np.choose(concrete(a), np.zeros(count, bool))
    chosen = a % count if mode == "wrap" else _clip(a, 0, count - 1)
    result = selection.where(chosen == 0, options[0], options[0])
    for i, option in enumerate(options[1:], 1):
        result = selection.where(chosen == i, option, result)
    return write_out(result.astype(np.result_type(*map(peek, options))), out, name="choose")


@implements(np.piecewise)
def _piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **keywords: Any) -> Any:
    conditions = condlist if isinstance(condlist, (list, tuple)) else [condlist]
    if all(is_concrete(c) for c in conditions if isinstance(c, Array)):
        return hooks.fallback(np.piecewise)(x, condlist, funclist, *args, **keywords)
    # Where the lanes of a batch differ every function sees all of x, and each element keeps what was chosen for it.
    if len(funclist) not in (len(conditions), len(conditions) + 1):
        n = len(conditions)
        raise ValueError(f"with {n} condition(s), either {n} or {n + 1} functions are expected")
    pieces = [f(x, *args, **keywords) if callable(f) else f for f in funclist]
    default = pieces.pop() if len(pieces) > len(conditions) else 0
    result = np.zeros_like(x) + default
    for condition, piece in zip(conditions, pieces, strict=True):
        result = selection.where(condition, piece, result)
    return result.astype(x.dtype)


# ----------------------------------------------------------------------------------------------------- comparison


def _verdict(agreement: Any) -> Any:
    """One Python bool about whole arrays, or one for each lane where those differ."""
    return bool(agreement) if is_concrete(agreement) else as_python(agreement, bool)


@implements(np.allclose)
def _allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    return _verdict(np.all(np.isclose(a, b, rtol, atol, equal_nan)))


@implements(np.array_equal)
def _array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    a1, a2 = cell_of(a1), cell_of(a2)
    if a1.shape != a2.shape:
        return False
    same = a1 == a2
    return _verdict(np.all(same | (np.isnan(a1) & np.isnan(a2)) if equal_nan else same))


@implements(np.array_equiv)
def _array_equiv(a1: Any, a2: Any) -> Any:
    a1, a2 = cell_of(a1), cell_of(a2)
    try:
        np.broadcast_shapes(a1.shape, a2.shape)
    except ValueError:
        return False
    return _verdict(np.all(a1 == a2))


# ------------------------------------------------------------------------------------------------------ by position


@implements(np.take)
def _take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    strict = isinstance(indices, (Array, np.ndarray))
    a, indices = cell_of(a), cell_of(indices)
    if strict and not np.can_cast(indices.dtype, np.intp, "same_kind"):
        raise TypeError(
            f"Cannot cast array data from {indices.dtype!r} to {np.dtype(np.intp)!r} according to the rule 'safe'"
        )
    if axis is None:
        a, axis = np.ravel(a), 0
    axis = normalize_axis_index(operator.index(axis), a.ndim)
    places = _within(indices.astype(np.intp, copy=False), a.shape[axis], mode)
    result = indexing.getitem(a, places, index=(slice(None),) * axis + (ARRAY,))
    if axis:
        # It lies in memory in the order of its axes, which what an index array chose from a later axis does not.
        result = np.copy(result, order="C")
    if out is not None and np.shape(out) != result.shape:
        raise ValueError("output array does not match result of ndarray.take")
    return write_out(result, out, name="take")


def _within(indices: Any, length: int, mode: str) -> Any:
    """Positions brought into an axis; those outside are left to raise."""
    if mode == "wrap":
        return indices % length
    return _clip(indices, 0, length - 1) if mode == "clip" else indices


@implements(np.take_along_axis)
def _take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    arr, indices = cell_of(arr), cell_of(indices)
    if axis is None:
        arr, axis = _flattened(arr, indices), 0
    return read_at(arr, _along(arr.shape, indices, normalize_axis_index(axis, arr.ndim)))


@implements(np.put_along_axis)
def _put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    arr, indices = _target(arr, "put_along_axis"), cell_of(indices)
    if axis is None:
        arr, axis = _flattened(arr, indices), 0
    write_at(arr, _along(arr.shape, indices, normalize_axis_index(axis, arr.ndim)), values)


def _flattened(arr: Any, indices: Array) -> Any:
    if indices.ndim != 1:
        raise ValueError("when axis=None, `indices` must have a single dimension.")
    return np.ravel(arr)


def _along(shape: tuple[int, ...], indices: Array, axis: int) -> tuple[Any, ...]:
    """An index that chooses along one axis, position by position of the others."""
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if indices.ndim != len(shape):
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    ndim = len(shape)
    grid = [np.arange(n).reshape((1,) * i + (n,) + (1,) * (ndim - i - 1)) for i, n in enumerate(shape)]
    return (*grid[:axis], indices, *grid[axis + 1 :])


@implements(np.compress)
def _compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    mask = cell_of(condition)
    if mask.ndim != 1:
        raise ValueError("condition must be a 1-d array")
    return _take(a, FUNCTIONS[np.nonzero](mask)[0], axis, out)


def _plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of positions alone, which are the same for all lanes."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        made = function(*map(_positions, arguments), **{k: _positions(v) for k, v in keywords.items()})
        return constants(made)

    return call


def _positions(x: Any) -> Any:
    return tuple(map(_positions, x)) if isinstance(x, (tuple, list)) else concrete(x)


implements(np.unravel_index)(_plainly(np.unravel_index))
implements(np.ravel_multi_index)(_plainly(np.ravel_multi_index))


# ----------------------------------------------------------------------------------------------------------- writes


def _target(array: Any, name: str) -> Array:
    """What a function writes into."""
    if not isinstance(array, Array):
        raise MutationError(
            f"{user_line()}: np.{name} writes traced values into an array that lifting did not reach. Create it "
            "inside the function, or pass it as an argument."
        )
    if is_scalar(array):
        raise TypeError(f"{user_line()}: np.{name} writes into an array, and this is a number")
    return array


def _writing(function: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare a function to be ours for one that writes; where nothing is followed a plain array is written plainly."""
    name = function.__name__

    def register(ours: Callable[..., None]) -> Callable[..., None]:
        def call(target: Any, *arguments: Any, **keywords: Any) -> None:
            followed = [v for v in (*arguments, *keywords.values()) if isinstance(v, Array)]
            if isinstance(target, np.ndarray) and all(v.read()._handler is HOST for v in followed):
                function(target, *map(_positions, arguments), **{k: _positions(v) for k, v in keywords.items()})
            else:
                ours(_target(target, name), *arguments, **keywords)

        implements(function)(call)
        return call

    return register


@_writing(np.copyto)
def _copyto(dst: Array, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    src = operand(src)
    sample = np.empty((1,) * min(src.ndim, 1), src.dtype) if isinstance(src, Array) else src
    np.copyto(np.empty(np.shape(sample), dst.dtype), sample, casting=casting)
    if where is not True:
        src = selection.where(operand(where), src, dst)
    write_at(dst, Ellipsis, src)


@_writing(np.putmask)
def _putmask(a: Array, /, mask: Any, values: Any) -> None:
    if isinstance(values, (Array, np.ndarray)):
        np.putmask(np.empty(1, a.dtype), True, np.empty(1, values.dtype))
    mask, values = cell_of(mask), cell_of(values)
    if mask.size != a.size:
        raise ValueError("putmask: mask and data must be the same size")
    if not values.size:
        return
    if values.shape != a.shape:
        values = np.resize(values, a.shape)
    write_at(a, Ellipsis, selection.where(np.reshape(mask, a.shape), values, a))


@_writing(np.place)
def _place(arr: Array, mask: Any, vals: Any) -> None:
    mask, vals = np.ravel(cell_of(mask)).astype(bool), np.ravel(cell_of(vals))
    if mask.size != arr.size:
        raise ValueError("place: mask and data must be the same size")
    if not vals.size:
        if np.any(mask):
            raise ValueError("Cannot insert from an empty array!")
        return
    turn = (np.cumsum(mask) - 1) % vals.size
    chosen = np.reshape(read_at(vals, turn), arr.shape)
    write_at(arr, Ellipsis, selection.where(np.reshape(mask, arr.shape), chosen, arr))


@_writing(np.put)
def _put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    ind, v = np.ravel(cell_of(ind)), cell_of(v)
    if not ind.size or not v.size:
        return
    if not a.ndim:
        a = np.reshape(a, (1,))
    if mode == "raise" and is_concrete(ind):
        np.take(np.broadcast_to(False, a.size), concrete(ind))
    places = _within(ind, a.size, mode) % a.size
    coordinates = []
    for length in reversed(a.shape):
        coordinates.append(places % length)
        places = places // length
    views.put(a, (ARRAY,) * a.ndim, coordinates[::-1], np.resize(v, ind.shape))


# ----------------------------------------------------------------------------------------------------------- dtypes


@implements(np.result_type)
def _result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    return np.result_type(*map(peek, arrays_and_dtypes))


@implements(np.can_cast)
def _can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    return np.can_cast(from_.dtype if isinstance(from_, Array) else from_, to, casting)


@implements(np.min_scalar_type)
def _min_scalar_type(a: Any, /) -> np.dtype[Any]:
    return np.min_scalar_type(peek(a))
