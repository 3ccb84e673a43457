"""Arrays made inside a lifted function.

NumPy cannot dispatch `np.zeros(n)` or `np.array([a, b])`.  In a lifted function these answer with a constant cell,
into which traced values can be written later, and with one stand-in for a nested list of them.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.array import Array, concrete, dtype_of
from ..core.handler import HOST, constant
from ..core.protocol import FUNCTIONS, hooks, implements

__all__ = ["CREATION", "asarray"]


def _plain(x: Any) -> Any:
    """A shape, bound or fill value as NumPy wants it."""
    if isinstance(x, Array):
        return concrete(x)
    if isinstance(x, (tuple, list)) and builtins.any(isinstance(e, Array) for e in x):
        return tuple(_plain(e) for e in x)
    return x


def _creating(function: Callable[..., Any]) -> Callable[..., Any]:
    def create(*arguments: Any, **keywords: Any) -> Any:
        made = function(*map(_plain, arguments), **{k: _plain(v) for k, v in keywords.items()})
        return Array(HOST, made)

    create.__name__ = function.__name__
    create.__doc__ = function.__doc__
    return create


def _full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C", **_: Any) -> Array:
    fill_value = asarray(fill_value) if isinstance(fill_value, (list, tuple)) else fill_value
    made = Array(HOST, np.empty(_plain(shape), dtype or dtype_of(fill_value), order))
    made[...] = fill_value  # type: ignore[index]
    return made


def _arange(*bounds: Any, dtype: Any = None, **keywords: Any) -> Array:
    plain = np.arange(*map(_plain, bounds), dtype=dtype)
    if not builtins.any(isinstance(b, Array) and b._handler is not HOST for b in bounds):
        return Array(HOST, plain)
    start, step = (bounds[0] if len(bounds) > 1 else 0), (bounds[2] if len(bounds) > 2 else 1)
    return start + np.arange(len(plain)) * step  # type: ignore[no-any-return]


@implements(np.linspace)
def _linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    device: Any = None,
) -> Any:
    if not isinstance(start, (Array, list, tuple)) and not isinstance(stop, (Array, list, tuple)):
        made = np.linspace(start, stop, num, endpoint, retstep, dtype, axis)
        return (Array(HOST, made[0]), made[1]) if retstep else Array(HOST, made)
    start, stop = asarray(start), asarray(stop)
    ramp = np.arange(num) / max(num - 1 if endpoint else num, 1)
    ndim = max(start.ndim, stop.ndim)
    ramp = ramp.reshape((num,) + (1,) * ndim)
    made = start + (stop - start) * ramp
    made = FUNCTIONS[np.moveaxis](made, 0, axis) if axis else made
    if dtype is not None:
        made = made.astype(dtype)
    return (made, (stop - start) / max(num - 1 if endpoint else num, 1)) if retstep else made


def _like(function: Callable[..., Any]) -> Callable[..., Any]:
    def create(a: Any, *arguments: Any, **keywords: Any) -> Array:
        keywords.pop("subok", None)
        shape = keywords.pop("shape", None)
        dtype = keywords.pop("dtype", None) or (arguments[0] if arguments else None)
        keywords.pop("order", None)
        a = asarray(a) if isinstance(a, (list, tuple)) else a
        return Array(HOST, function(np.shape(a) if shape is None else _plain(shape), dtype or dtype_of(a)))

    return create


for _name in ("zeros", "ones", "empty"):
    implements(getattr(np, f"{_name}_like"))(_like(getattr(np, _name)))


@implements(np.full_like)
def _full_like(a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", subok: bool = True, **keywords: Any) -> Any:
    return _full(keywords.get("shape") or np.shape(a), fill_value, dtype or dtype_of(a))


def _has_stand_in(x: Any) -> bool:
    return isinstance(x, Array) or (isinstance(x, (list, tuple)) and builtins.any(map(_has_stand_in, x)))


def asarray(x: Any, dtype: Any = None, order: Any = None, *, copy: bool | None = None, **_: Any) -> Array:
    """`np.asarray` for a lifted function: nested lists of stand-ins and numbers become one stand-in."""
    if isinstance(x, Array):
        if dtype is not None and x.dtype != dtype:
            x = x.astype(dtype)  # type: ignore[attr-defined]
        elif copy:
            x = x.snapshot()
        return x
    if isinstance(x, (list, tuple)) and _has_stand_in(x):
        parts = [asarray(e) if isinstance(e, (list, tuple)) else e for e in x]
        made: Array = FUNCTIONS[np.stack](parts)
        return made if dtype is None else made.astype(dtype)  # type: ignore[attr-defined, no-any-return]
    return constant(np.array(x, dtype, copy=copy, order=order or "K"))


def array(x: Any, dtype: Any = None, *, copy: Any = True, order: Any = "K", ndmin: int = 0, **_: Any) -> Array:
    """`np.array` for a lifted function."""
    made = asarray(x, dtype, copy=copy)
    if made.shape == () and not isinstance(made._value, (Array, np.ndarray)):
        made = FUNCTIONS[np.reshape](made, ()).snapshot()
    if made.ndim < ndmin:
        made = FUNCTIONS[np.reshape](made, (1,) * (ndmin - made.ndim) + made.shape)
    return made


CREATION: dict[str, Callable[..., Any]] = {
    name: _creating(getattr(np, name))
    for name in (
        "zeros ones empty eye identity tri logspace geomspace frombuffer fromfunction fromiter indices "
        "hanning hamming bartlett blackman kaiser"
    ).split()
}
"""What NumPy cannot dispatch, by name."""
CREATION |= {
    "full": _full,
    "arange": _arange,
    "array": array,
    "asarray": asarray,
    "asanyarray": asarray,
    "ascontiguousarray": asarray,
    "asfortranarray": asarray,
    "asarray_chkfinite": asarray,
    "require": asarray,
}

hooks.asarray = asarray
