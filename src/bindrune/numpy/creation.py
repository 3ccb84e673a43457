"""Arrays made inside a lifted function.

NumPy cannot dispatch `np.zeros(n)` or `np.array([a, b])`.  In a lifted function these answer with a constant cell,
into which traced values can be written later, and with one stand-in for a nested list of them.
"""

from __future__ import annotations

import builtins
import operator
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.array import Array, concrete, dtype_of, is_numeric, is_scalar, peek
from ..core.handler import HOST, constant, constants
from ..core.protocol import FUNCTIONS, hooks, implements
from ..graph.dims import Dim, is_open
from ..graph.dims import hooks as open_lengths
from ..ops.rows import consecutive, pieces, row_number
from .methods import Flat

__all__ = ["CREATION", "asarray", "cells_of"]


def _plain(x: Any) -> Any:
    """A shape, bound or fill value as NumPy wants it."""
    if isinstance(x, Array):
        return concrete(x)
    if isinstance(x, (tuple, list)) and builtins.any(isinstance(e, Array) for e in x):
        return tuple(_plain(e) for e in x)
    return x


def cells_of(result: Any) -> Any:
    """Arrays that were made, as cells if they hold numbers; stand-ins among objects stay what they are."""
    if type(result) is tuple or is_numeric(dtype_of(result)):
        return constants(result)
    return result


def _creating(function: Callable[..., Any]) -> Callable[..., Any]:
    def create(*arguments: Any, **keywords: Any) -> Any:
        return cells_of(function(*map(_plain, arguments), **{k: _plain(v) for k, v in keywords.items()}))

    create.__name__ = function.__name__
    create.__doc__ = function.__doc__
    return create


def _open_shape(shape: Any) -> tuple[Any, ...] | None:
    """A shape with lengths that only a running program knows; None where all are known."""
    lengths = shape if isinstance(shape, (tuple, list)) else (shape,)
    if not builtins.any(isinstance(n, (Array, Dim)) for n in lengths):
        return None
    found = tuple(n._handler.length(n) if isinstance(n, Array) else n for n in map(_read, lengths))
    return found if is_open(found) else None


def _read(x: Any) -> Any:
    return x.read() if isinstance(x, Array) else x


def _uniform(name: str, value: int) -> Callable[..., Any]:
    plain = _creating(getattr(np, name))

    def create(shape: Any, dtype: Any = None, order: Any = "C", **keywords: Any) -> Any:
        lengths = _open_shape(shape)
        if lengths is None:
            return plain(shape, dtype, order, **keywords)
        return open_lengths.full(lengths, np.dtype(dtype).type(value), new=True)

    return create


def _empty(shape: Any, dtype: Any = None, order: Any = "C", **keywords: Any) -> Any:
    # Zeros, for a program would hold whatever lay there as an array that is known.
    name = "zeros" if dtype is None or is_numeric(np.dtype(dtype)) else "empty"
    return _uniform(name, 0)(shape, dtype, order, **keywords)


def _full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C", **_: Any) -> Any:
    fill_value = asarray(fill_value) if isinstance(fill_value, (list, tuple)) else fill_value
    made: Any = CREATION["empty"](shape, dtype or dtype_of(fill_value), order)
    made[...] = fill_value
    return made


def _eye(N: Any, M: Any = None, k: Any = 0, dtype: Any = float, order: Any = "C", **_: Any) -> Any:  # noqa: N803
    rows, columns = N, N if M is None else M
    if _open_shape((rows, columns)) is None:
        return cells_of(np.eye(_plain(rows), _plain(columns), _plain(k), dtype, order))
    return (_arange(rows)[:, None] + k == _arange(columns)).astype(dtype)


def _arange(*bounds: Any, dtype: Any = None, **keywords: Any) -> Array:
    if len(bounds) < 3 and builtins.all(isinstance(b, (int, Dim)) or dtype_of(b).kind in "iu" for b in bounds):
        first, last = (0, *bounds)[-2:]
        lengths = _open_shape(last if type(first) is int and first == 0 else last - first)
        if lengths is not None:
            ones = open_lengths.full(lengths, np.dtype(int).type(1), new=True)
            counted: Array = first - 1 + FUNCTIONS[np.cumsum](ones)
            return counted if dtype is None else counted.astype(dtype)
    plain = np.arange(*map(_plain, bounds), dtype=dtype)
    if not builtins.any(isinstance(b, Array) and b._handler is not HOST for b in bounds):
        return Array(HOST, plain)
    start: Any = bounds[0] if len(bounds) > 1 else 0
    step: Any = bounds[2] if len(bounds) > 2 else 1
    made: Array = start + np.arange(len(plain)) * step
    return made


@implements(np.linspace)
def _linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: Any = False,
    dtype: Any = None,
    axis: int = 0,
    device: Any = None,
) -> Any:
    num = operator.index(num)
    if not isinstance(start, (Array, list, tuple)) and not isinstance(stop, (Array, list, tuple)):
        plain = np.linspace(start, stop, num, endpoint, retstep, dtype, axis)
        return (Array(HOST, plain[0]), plain[1]) if retstep else Array(HOST, plain)
    start, stop = (asarray(v) if isinstance(v, (list, tuple)) else v for v in (start, stop))
    exact = np.result_type(peek(start), peek(stop), 0.0)
    parts = num - 1 if endpoint else num
    step = (stop - start) / parts if parts > 0 else np.nan
    ramp = np.arange(num, dtype=exact).reshape((num,) + (1,) * max(np.ndim(start), np.ndim(stop)))
    made: Any = ramp * (step if parts > 0 else stop - start) + start
    if endpoint and num > 1:
        made[-1, ...] = stop
    made = FUNCTIONS[np.moveaxis](made, 0, axis) if axis else made
    if dtype is not None and np.issubdtype(dtype, np.integer):
        made = np.floor(made)
    made = made.astype(dtype or exact, copy=False)
    return (made, step) if retstep else made


def _like(function: Callable[..., Any]) -> Callable[..., Any]:
    def create(a: Any, *arguments: Any, **keywords: Any) -> Any:
        a = asarray(a) if isinstance(a, (list, tuple)) else a
        if isinstance(a, Array) and is_open(a.shape):
            dtype = arguments[0] if arguments else keywords.get("dtype")
            return CREATION[function.__name__.removesuffix("_like")](a.shape, dtype or a.dtype)
        plain = peek(a)
        return cells_of(function(plain, *map(_plain, arguments), **{k: _plain(v) for k, v in keywords.items()}))

    return create


for _function in (np.zeros_like, np.ones_like):
    implements(_function)(_like(_function))


@implements(np.empty_like)
def _empty_like(prototype: Any, dtype: Any = None, *arguments: Any, **keywords: Any) -> Any:
    kind = dtype_of(prototype) if dtype is None else np.dtype(dtype)
    like = np.zeros_like if is_numeric(kind) else np.empty_like
    return _like(like)(prototype, dtype, *arguments, **keywords)


@implements(np.full_like)
def _full_like(a: Any, fill_value: Any, *arguments: Any, **keywords: Any) -> Any:
    made = FUNCTIONS[np.empty_like](a, *arguments, **keywords)
    made[...] = fill_value
    return made


def _has_stand_in(x: Any) -> bool:
    return isinstance(x, Array) or (isinstance(x, (list, tuple)) and builtins.any(map(_has_stand_in, x)))


def asarray(x: Any, dtype: Any = None, order: Any = None, *, copy: bool | None = None, **_: Any) -> Array:
    """`np.asarray` for a lifted function: nested lists of stand-ins and numbers become one stand-in."""
    if isinstance(x, Array):
        if dtype is not None and x.dtype != dtype:
            cast: Array = x.astype(dtype)
            return cast
        if copy or (order in ("C", "F") and not np.asarray(peek(x)).flags[order]):
            copied: Array = FUNCTIONS[np.copy](x, order or "K")
            if not copy:
                hooks.layout(x, copied)
            return copied
        if order in ("C", "F"):
            hooks.layout(x, x)
        return x
    if isinstance(x, Flat):
        return asarray(x.copy(), dtype)
    if isinstance(x, (list, tuple)) and _has_stand_in(x):
        stacked = _of_rows(x)
        if stacked is not None:
            return stacked if dtype is None else stacked.astype(dtype)  # type: ignore[no-any-return]
        parts = [asarray(e) if isinstance(e, (list, tuple)) else e for e in x]
        stacked = FUNCTIONS[np.stack](tuple(parts))  # a list of rows would come back here
        made: Array = stacked if dtype is None else stacked.astype(dtype)
        return made
    return constant(np.array(x, dtype, copy=copy, order=order or "K"))


def _of_rows(x: Any) -> Any:
    """An array of values among which are rows of another, by what a staged loop appended."""
    whole = consecutive(x)
    if whole is not None:
        return FUNCTIONS[np.copy](whole)
    if type(x) is not list or not builtins.any(row_number(e) is not None for e in x):
        return None
    found = pieces(x)
    if not builtins.any(isinstance(p, Array) for p in found):
        return None
    return FUNCTIONS[np.concatenate]([p if isinstance(p, Array) else asarray(p) for p in found])


def array(x: Any, dtype: Any = None, *, copy: Any = True, order: Any = "K", ndmin: int = 0, **_: Any) -> Any:
    """`np.array` for a lifted function."""
    if dtype is not None and np.dtype(dtype) == object and _has_stand_in(x):
        return _of_objects(x)
    made = asarray(x, dtype, order, copy=copy)
    if not is_numeric(made.dtype):
        return np.array(made._value, copy=False, ndmin=ndmin)
    if made.shape == () and is_scalar(made):
        made = FUNCTIONS[np.copy](made)
    if made.ndim < ndmin:
        made = FUNCTIONS[np.reshape](made, (1,) * (ndmin - made.ndim) + made.shape)
    return made


def _of_objects(x: Any) -> Any:
    """An array of objects with stand-ins among them: its elements, as a list of them would hold them."""
    whole = asarray(x)
    made = np.empty(whole.shape, object)
    for index in np.ndindex(whole.shape):
        made[index] = whole[index]
    return made


def _converting(layout: str = "K", ndmin: int = 0) -> Callable[..., Any]:
    def convert(a: Any, dtype: Any = None, order: Any = None, *, copy: bool | None = None, **_: Any) -> Any:
        return array(a, dtype, copy=copy, order=order or layout, ndmin=ndmin)

    return convert


def _broadcast(*arrays: Any) -> Any:
    """`np.broadcast`: of stand-ins only the shapes, for the object's iterator would give frozen values."""
    if not builtins.any(isinstance(a, Array) and a.read()._handler is not HOST for a in arrays):
        return np.broadcast(*map(_plain, arrays))
    plain = np.broadcast(*(np.empty(np.shape(a), bool) for a in arrays))
    return types.SimpleNamespace(shape=plain.shape, ndim=plain.ndim, nd=plain.nd, size=plain.size)


CREATION: dict[str, Callable[..., Any]] = {
    name: _creating(getattr(np, name))
    for name in (
        "identity tri logspace geomspace frombuffer fromfunction fromiter indices "
        "hanning hamming bartlett blackman kaiser"
    ).split()
}
"""What NumPy cannot dispatch, by name."""
CREATION |= {
    "zeros": _uniform("zeros", 0),
    "ones": _uniform("ones", 1),
    "empty": _empty,
    "eye": _eye,
    "full": _full,
    "arange": _arange,
    "array": array,
    "asarray": _converting(),
    "asanyarray": _converting(),
    "ascontiguousarray": _converting("C", ndmin=1),
    "asfortranarray": _converting("F", ndmin=1),
    "asarray_chkfinite": _converting(),
    "require": lambda a, dtype=None, requirements=None, **_: array(a, dtype, copy=None),
    "broadcast": _broadcast,
}

hooks.asarray = asarray
