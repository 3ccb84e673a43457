"""Array manipulation: shapes, axes, order, repetition, diagonals.

Whatever NumPy answers with a view is a `View` here, so that writes through it reach the array behind it; whether it
is one is asked of NumPy itself, on the plain array under the stand-in.  What this file does not define (`np.flip`,
`np.tile`, `np.pad`, `np.atleast_2d`, ...) is NumPy's own Python code, lifted.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy._core._multiarray_umath import _array_converter
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..core.array import Array, View, concrete, dtype_of, is_scalar, peek
from ..core.handler import constant
from ..core.operation import Op
from ..core.protocol import hooks, implements
from ..graph.dims import Dim, is_open, substitute, values_in
from ..graph.dims import hooks as open_lengths
from ..graph.interpreter import length_of
from ..ops import joining, shaping
from ..ops.elementwise import imag, real
from ..ops.views import boxed, read_at, replay, write_at

__all__ = ["cell_of", "rearranged"]


def cell_of(x: Any) -> Array:
    """An array-like argument as a stand-in."""
    cell: Array = x if isinstance(x, Array) else hooks.asarray(x)
    return cell


def rearranged(cell: Array, op: Op, **params: Any) -> Any:
    """The result of an operation that moves elements: a view where NumPy's is one."""
    plain, given = _with_some_lengths(cell, params) if is_open((cell.shape, params)) else (peek(cell), params)
    found = op.implementation(plain, **given)
    if not _is_view(plain, found):
        return op(cell, **params)
    return View(cell, op, params, found.shape if given is params else op(cell, **params).shape)


def _with_some_lengths(cell: Array, params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """An array like a cell, and parameters, with numbers in place of lengths that are not known."""
    values = values_in((cell.shape, params))
    content = substitute((cell.shape, params), lambda dim: dim.at(lambda v: 5 + values.index(v)))
    return np.empty(content[0], cell.dtype), content[1]


def _is_view(plain: Any, found: Any) -> bool:
    """Whether an array shows the memory of another (of an empty one there is nothing to tell)."""
    return isinstance(plain, np.ndarray) and (not found.size or np.may_share_memory(plain, found))


@implements(_array_converter)
class _Converter:
    """How NumPy's own Python code converts its arguments, and wraps its results."""

    def __init__(self, *arguments: Any) -> None:
        self.cells = tuple(map(cell_of, arguments))

    def __getitem__(self, index: int) -> Array:
        return self.cells[index]

    def as_arrays(self, **_: Any) -> tuple[Array, ...]:
        """The arguments as arrays."""
        return self.cells

    def wrap(self, result: Any, **_: Any) -> Any:
        """A result as it is."""
        return result


# ----------------------------------------------------------------------------------------------------------- shapes


@implements(np.shape)
def _shape(a: Any) -> tuple[int, ...]:
    return a.shape if isinstance(a, Array) else cell_of(a).shape


@implements(np.ndim)
def _ndim(a: Any) -> int:
    return len(_shape(a))


@implements(np.size)
def _size(a: Any, axis: Any = None) -> int:
    return np.size(np.empty(_shape(a), bool), axis)


@implements(np.reshape)
def _reshape(a: Any, /, shape: Any, order: Any = "C", *, copy: bool | None = None) -> Any:
    a = cell_of(a)
    if is_open((a.shape, shape)):
        return _reshape_open(a, shape, order, bool(copy))
    plain = peek(a)
    shape = concrete(shape) if isinstance(shape, Array) else shape
    if copy is False:
        np.reshape(plain, shape, order=order, copy=False)
    found = np.reshape(plain, shape, order=order)
    if order == "A":
        order = "F" if np.asarray(plain).flags.fnc else "C"
    params = {"shape": found.shape, "order": order}
    if _is_view(plain, found):
        view = View(a, shaping.reshape, params, found.shape)
        hooks.layout(a, view)
        return view.snapshot() if copy else view
    made = shaping.reshape(a, **params)
    hooks.layout(a, made)
    return made


def _reshape_open(a: Array, shape: Any, order: str, copy: bool) -> Array:
    """A reshape with lengths that are not known."""
    shape = tuple(map(length_of, shape)) if isinstance(shape, (tuple, list)) else length_of(shape)
    found = _filled_in(a.shape, shape)
    is_view = a.ndim < 2 or (type(a) is Array and order in ("C", "A"))
    params = {"shape": found, "order": "F" if order == "F" else "C"}
    made = View(a, shaping.reshape, params, found) if is_view else shaping.reshape(a, **params)
    hooks.layout(a, made, is_view)
    return made.snapshot() if copy else made


def _filled_in(lengths: Sequence[Any], shape: Any) -> tuple[Any, ...]:
    """A shape with the length that -1 stands for, where lengths are not known: of what is left of them all."""
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    left, others = list(lengths), []
    for n in shape:
        if n in left and n != -1:
            left.remove(n)
        elif n != -1:
            others.append(n)
    whole, rest = _product(left), _product(others)
    if -1 in shape:
        rest = operator.index(rest)
        found = whole.divided(rest) if isinstance(whole, Dim) else whole // rest
        return tuple(found if n == -1 else n for n in shape)
    if whole != rest:
        np.empty([*map(operator.index, lengths)]).reshape([*map(operator.index, shape)])
    return tuple(shape)


def _product(lengths: Sequence[Any]) -> Any:
    """The product of some lengths, of which at most one is left open."""
    first = next((n for n in lengths if isinstance(n, Dim)), 1)
    return first * math.prod(operator.index(n) for n in lengths if n is not first)


@implements(np.ravel)
def _ravel(a: Any, order: Any = "C") -> Any:
    a = cell_of(a)
    if is_open(a.shape):
        return _reshape_open(a, -1, "C" if order == "K" else order, False)
    plain = peek(a)
    flat = np.ravel(plain, order)
    flags = np.asarray(plain).flags
    if order == "A" or (order == "K" and flags.forc):
        order = "F" if flags.fnc else "C"
    elif order == "K":
        a, order = _permuted(a, _in_memory(plain.strides)), "C"
    params = {"shape": flat.shape, "order": order}
    view = _is_view(plain, flat)
    made = View(a, shaping.reshape, params, flat.shape) if view else _copy(shaping.reshape(a, **params))
    hooks.layout(a, made)
    return made


def _in_memory(strides: Sequence[int]) -> list[int]:
    """The axes as NumPy walks through memory: by their strides, while those it broadcasts stay where they are."""
    inward: list[int] = []
    for axis in reversed(range(len(strides))):
        at = len(inward)
        for place in reversed(range(at)):
            mine, other = abs(strides[axis]), abs(strides[inward[place]])
            if mine and other:
                if other <= mine:
                    break
                at = place
        inward.insert(at, axis)
    return inward[::-1]


@implements(np.expand_dims)
def _expand_dims(a: Any, axis: Any) -> Any:
    a = cell_of(a)
    np.expand_dims(peek(a), axis)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    ndim = a.ndim + len(axes)
    new = normalize_axis_tuple(axes, ndim)
    if is_scalar(a):
        return _reshape(a, (1,) * len(axes))
    return read_at(a, (*(None if i in new else slice(None) for i in range(ndim)), Ellipsis))


@implements(np.squeeze)
def _squeeze(a: Any, axis: Any = None) -> Any:
    a = cell_of(a)
    plain = peek(a)
    found = np.squeeze(plain, axis)
    if not isinstance(found, np.ndarray):
        return a
    axes = range(a.ndim) if axis is None else normalize_axis_tuple(axis, a.ndim)
    gone = [n == 1 and i in axes for i, n in enumerate(a.shape)]
    return read_at(a, (*(0 if g else slice(None) for g in gone), Ellipsis))


@implements(np.resize)
def _resize(a: Any, new_shape: Any) -> Any:
    shape = (new_shape,) if isinstance(new_shape, (int, np.integer, Array)) else tuple(new_shape)
    shape = tuple(map(operator.index, shape))
    if any(n < 0 for n in shape):
        raise ValueError("all elements of `new_shape` must be non-negative")
    flat = _ravel(a)
    size = int(np.prod(shape))
    if not flat.shape[0] or not size:
        return constant(np.zeros(shape, dtype_of(flat)))
    return _reshape(read_at(flat, np.arange(size) % flat.shape[0]), shape)


# ------------------------------------------------------------------------------------------------------------- axes


@functools.cache
def _any_array(ndim: int) -> Any:
    """An array by which NumPy tells whether axes are right."""
    return np.empty((0,) * ndim)


def _permuted(a: Array, axes: Sequence[int]) -> Array:
    return View(a, shaping.transpose, {"axes": tuple(axes)}, tuple(a.shape[i] for i in axes))


@implements(np.transpose)
def _transpose(a: Any, axes: Any = None) -> Any:
    a = cell_of(a)
    if is_scalar(a):
        np.transpose(peek(a), axes)
        return a
    ndim = a.ndim
    if axes is None:
        return _permuted(a, range(ndim - 1, -1, -1))
    axes = concrete(axes) if isinstance(axes, Array) else axes
    np.transpose(_any_array(ndim), axes)
    axes = axes if isinstance(axes, Sequence | np.ndarray) else (axes,)
    return _permuted(a, [operator.index(i) % ndim for i in axes])


@implements(np.swapaxes)
def _swapaxes(a: Any, axis1: Any, axis2: Any) -> Any:
    a = cell_of(a)
    np.swapaxes(_any_array(a.ndim), axis1, axis2)
    axes = list(range(a.ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return _permuted(a, axes)


@implements(np.moveaxis)
def _moveaxis(a: Any, source: Any, destination: Any) -> Any:
    a = cell_of(a)
    ndim = a.ndim
    moved = normalize_axis_tuple(source, ndim, "source")
    targets = normalize_axis_tuple(destination, ndim, "destination")
    if len(moved) != len(targets):
        raise ValueError("`source` and `destination` arguments must have the same number of elements")
    axes = [i for i in range(ndim) if i not in moved]
    for target, axis in sorted(zip(targets, moved, strict=True)):
        axes.insert(target, axis)
    return _permuted(a, axes)


# ---------------------------------------------------------------------------------------------- copies and dtypes


@implements(np.astype)
def _astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    x, dtype = cell_of(x), np.dtype(dtype)
    if not copy and x.dtype == dtype:
        return x
    return shaping.astype(x, dtype=dtype)


@implements(np.copy)
def _copy(a: Any, order: Any = "K", subok: bool = False) -> Any:
    np.empty(0).copy(order)  # raises for an order there is not
    made = cell_of(a).snapshot()
    if is_open(made.shape):
        return made
    plain = peek(made)
    flags = np.asarray(plain).flags
    layout = ("F" if flags.fnc else "C") if order == "A" else order
    fits = flags.forc if layout == "K" else flags.f_contiguous if layout == "F" else flags.c_contiguous
    if not (fits and isinstance(plain, np.ndarray)):
        made = shaping.copy(made, order=layout)
    return boxed(made) if is_scalar(made) else made


@implements(np.real)
def _real(val: Any) -> Any:
    val = cell_of(val)
    return rearranged(val, real) if val.dtype.kind == "c" else val


@implements(np.imag)
def _imag(val: Any) -> Any:
    val = cell_of(val)
    return rearranged(val, imag) if val.dtype.kind == "c" else constant(np.imag(peek(val)))


# ------------------------------------------------------------------------------------------------------ broadcasting


@implements(np.broadcast_to)
def _broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    array = cell_of(array)
    shape = concrete(shape) if isinstance(shape, Array) else shape
    if is_open((array.shape, shape)):
        params = {"shape": tuple(shape)}
        return (
            View(array, shaping.broadcast_to, params, tuple(shape))
            if array.shape
            else shaping.broadcast_to(array, **params)
        )
    return rearranged(array, shaping.broadcast_to, shape=np.broadcast_to(peek(array), shape).shape)


@implements(np.broadcast_arrays)
def _broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Array, ...]:
    cells = [cell_of(a) for a in args]
    shape = np.broadcast_shapes(*(a.shape for a in cells))
    return tuple(a if a.shape == shape and not is_scalar(a) else _broadcast_to(a, shape) for a in cells)


@implements(np.meshgrid)
def _meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Array, ...]:
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    axes = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        axes[:2] = 1, 0
    grids = tuple(_reshape(x, (*(1,) * i, -1, *(1,) * (len(xi) - i - 1))) for x, i in zip(xi, axes, strict=True))
    if not sparse:
        grids = _broadcast_arrays(*grids)
    return tuple(_copy(grid, "C") for grid in grids) if copy else grids


@implements(np.lib.stride_tricks.sliding_window_view)
def _sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Any:
    x = cell_of(x)
    lengths = [*map(operator.index, window_shape if isinstance(window_shape, (tuple, list)) else (window_shape,))]
    np.lib.stride_tricks.sliding_window_view(np.empty(x.shape, bool), lengths, axis)
    axes = range(x.ndim) if axis is None else normalize_axis_tuple(axis, x.ndim, allow_duplicate=True)
    for along, length in zip(axes, lengths, strict=True):
        x = rearranged(x, shaping.windows, length=length, axis=along)
    return x


# --------------------------------------------------------------------------------------------- repetition and order


@implements(np.repeat)
def _repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    a = cell_of(a)
    if axis is None:
        a, axis = _ravel(a), 0
    axis = normalize_axis_index(operator.index(axis), a.ndim)
    repeats = concrete(repeats) if isinstance(repeats, Array) else repeats
    if np.ndim(repeats):
        chosen = np.repeat(np.arange(a.shape[axis]), repeats)
        return read_at(a, (slice(None),) * axis + (chosen,))
    before, length, after = a.shape[:axis], a.shape[axis], a.shape[axis + 1 :]
    total = np.repeat(np.empty(length, bool), repeats).size
    spread = _broadcast_to(_expand_dims(a, axis + 1), (*before, length, operator.index(repeats), *after))
    return shaping.reshape(spread, shape=(*before, total, *after), order="C")


@implements(np.roll)
def _roll(a: Any, shift: Any, axis: Any = None) -> Any:
    a = cell_of(a)
    if axis is None:
        return _reshape(_roll(_ravel(a), shift, 0), a.shape)
    shift = concrete(shift) if isinstance(shift, Array) else shift
    axes = normalize_axis_tuple(axis, a.ndim, allow_duplicate=True)
    places = np.broadcast(shift, axes)
    if places.ndim > 1:
        raise ValueError("'shift' and 'axis' should be scalars or 1D sequences")
    for distance, along in places:
        length = a.shape[along]
        if isinstance(length, Dim):
            cut: Any = -int(distance) % np.maximum(open_lengths.number(length), 1)
        else:
            cut = -int(distance) % length if length else 0
        before = (slice(None),) * along
        halves = read_at(a, (*before, slice(cut, None))), read_at(a, (*before, slice(0, cut)))
        a = joining.concatenate(*halves, axis=along)
    return a


# -------------------------------------------------------------------------------------------------------- diagonals


@implements(np.diagonal)
def _diagonal(a: Any, offset: Any = 0, axis1: Any = 0, axis2: Any = 1) -> Any:
    a = cell_of(a)
    np.diagonal(peek(a), offset, axis1, axis2)
    params = {"offset": operator.index(offset), "axis1": axis1 % a.ndim, "axis2": axis2 % a.ndim}
    return rearranged(a, shaping.diagonal, **params)


@implements(np.diag)
def _diag(v: Any, k: Any = 0) -> Any:
    v = cell_of(v)
    if v.ndim == 2:
        return _diagonal(v, k)
    if v.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    size = v.shape[0] + abs(k)
    made = constant(np.zeros((size, size), v.dtype))
    along = np.arange(v.shape[0])
    write_at(made, (along + max(-k, 0), along + max(k, 0)), v)
    return made


@implements(np.trace)
def _trace(a: Any, offset: Any = 0, axis1: Any = 0, axis2: Any = 1, dtype: Any = None, out: Any = None) -> Any:
    return np.sum(_diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype, out=out)


# ------------------------------------------------------------------------------------------------ iteration, memory


@implements(np.ndenumerate)
def _ndenumerate(arr: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    arr = cell_of(arr)
    return zip(np.ndindex(arr.shape), arr.flat, strict=True)


def _overlap(question: Any) -> Any:
    def overlap(a: Any, b: Any, /, max_work: int | None = None) -> bool:
        if not (isinstance(a, Array) and isinstance(b, Array)):
            return bool(question(peek(a), peek(b), max_work))
        if a.root is not b.root:
            return False
        memory = np.empty(a.root.shape, a.root.dtype)
        return bool(question(replay(a, memory), replay(b, memory), max_work))

    return overlap


implements(np.may_share_memory)(_overlap(np.may_share_memory))
implements(np.shares_memory)(_overlap(np.shares_memory))
