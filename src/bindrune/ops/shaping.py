"""Operations that rearrange elements without computing: reshape, transpose, broadcast, diagonal, and change of dtype.

All are linear.  Those that only move elements make views, and for these the file also says what an index into the
view means in the array behind it (`inside`) and which content of that array makes the view show a given one
(`behind`); see `indexing`.  An index whose elements no basic index of the base chooses stays one into the view.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from ..core.array import View
from ..core.cotangents import Sparse
from ..core.handler import evaluate
from ..core.operation import Op, Row, Spec, linear, row
from ..graph.dims import span_slice
from .elementwise import imag, real
from .indexing import ARRAY, Template, add_at, setitem, spell_out
from .views import behind, ending, inside, locate

__all__ = ["astype", "broadcast_to", "copy", "diagonal", "from_parts", "reshape", "transpose", "windows"]


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes another."""
    return tuple(axes.index(i) for i in range(len(axes)))


def _all_at_once(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    """The batching of an operation to which the lanes' axis is one like any other."""
    return evaluate(op, values, params)


# ---------------------------------------------------------------------------------------------------------- reshape


def _reshape(x: Any, shape: tuple[int, ...], order: str) -> Any:
    return np.reshape(x, shape, order=order)  # type: ignore[call-overload]


def _batch_reshape(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    (x,), shape = values, params["shape"]
    if params["order"] == "C":
        return evaluate(op, (x,), {"shape": (size, *shape), "order": "C"})
    # Fortran's order is C's order of the axes in reverse; the lanes' axis stays in front.
    x = np.reshape(_reverse_lane(x), (size, *shape[::-1]))
    return _reverse_lane(x)


def _reverse_lane(x: Any) -> Any:
    return np.transpose(x, (0, *range(np.ndim(x) - 1, 0, -1)))


def _reshape_rows() -> Iterable[Row]:
    x = np.arange(12.0).reshape(3, 4) / 7 - 0.6
    yield row(x, shape=(12,), order="C")
    yield row(x, shape=(2, 3, 2), order="F")
    yield row(x.astype(np.float32), shape=(4, 1, 3), order="C")
    yield row(x.T, shape=(6, 2), order="F")
    yield row(np.float64(0.3), shape=(1, 1), order="C")
    yield row(x[:1, :1], shape=(), order="C")
    yield row(x[:0], shape=(2, 0), order="C")


reshape: Op = linear(
    "reshape",
    _reshape,
    lambda ct, of, order: evaluate(reshape, (ct,), {"shape": of.shape, "order": order}),
    batch=_batch_reshape,
    rows=_reshape_rows,
    shape=lambda specs, params: params["shape"],
)


def _inside_reshape(view: View, template: Template) -> View | None:
    """Elements at equal distances in memory are a slice of one axis, wherever they fit into one."""
    flip = -1 if view._params["order"] == "F" else 1
    entries = spell_out(template, len(view.shape))[::flip]
    start, runs = _runs(entries, view.shape[::flip])
    found = _place(start, runs, view._base.shape[::flip])
    return None if found is None else locate(view._base, (*found[::flip], *ending(template)))


def _runs(entries: Template, shape: Sequence[int]) -> tuple[int, list[tuple[int, int]]]:
    """What a basic index chooses in C's order: where it starts, and for each axis it keeps a count and a distance."""
    start = 0
    runs: list[tuple[int, int]] = []
    axes = iter(zip(shape, _strides(shape), strict=True))
    for entry in entries:
        if entry is None:
            runs.append((1, 0))
            continue
        length, stride = next(axes)
        if isinstance(entry, int):
            start += entry % length * stride
        else:
            span = range(*entry.indices(length))
            start += span.start * stride
            runs.append((len(span), span.step * stride))
    return start, runs


def _place(start: int, runs: Sequence[tuple[int, int]], shape: Sequence[int]) -> Template | None:
    """The basic index that chooses such elements in an array of another shape, if one does."""
    if not prod(shape) or any(not count for count, _ in runs):
        return None
    axes = iter(
        [(start // stride % length, length, stride) for length, stride in zip(shape, _strides(shape), strict=True)]
    )
    index: list[Any] = []
    for count, distance in runs:
        if count == 1:
            index.append(None)
            continue
        for at, length, stride in axes:
            step = distance // stride
            if step and distance % stride == 0 and 0 <= at + (count - 1) * step < length:
                index.append(span_slice(range(at, at + count * step, step)))
                break
            index.append(at)
        else:
            return None
    return (*index, *(at for at, _, _ in axes))


def _strides(shape: Sequence[int]) -> list[int]:
    """How many elements apart neighbours along each axis lie, in C's order."""
    return [prod(shape[i + 1 :]) for i in range(len(shape))]


inside[reshape] = _inside_reshape
behind[reshape] = lambda view, value, op: np.reshape(value, view._base.shape, order=view._params["order"])

# -------------------------------------------------------------------------------------------------------- transpose


def _batch_transpose(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    return evaluate(op, values, {"axes": (0, *(axis + 1 for axis in params["axes"]))})


def _transpose_rows() -> Iterable[Row]:
    cube = np.arange(24.0).reshape(2, 3, 4) / 5 - 2
    yield row(cube[0], axes=(1, 0))
    yield row(cube, axes=(2, 0, 1))
    yield row(cube.astype(np.float32), axes=(0, 2, 1))
    yield row(cube[0, 0], axes=(0,))
    yield row(cube[:, :0], axes=(1, 2, 0))


transpose: Op = linear(
    "transpose",
    np.transpose,
    lambda ct, axes: evaluate(transpose, (ct,), {"axes": inverse(axes)}),
    batch=_batch_transpose,
    rows=_transpose_rows,
)


def _inside_transpose(view: View, template: Template) -> View:
    """The index of the base has the same entries in the base's order, and new axes in front."""
    axes = view._params["axes"]
    entries = spell_out(template, len(axes))
    asked = [e for e in entries if e is not None]
    new = len(entries) - len(asked)
    inner = [asked[i] for i in inverse(axes)]
    found = locate(view._base, (*(None,) * new, *inner, *ending(template)))
    kept = [i for i, e in enumerate(inner) if isinstance(e, slice)]
    news, olds = iter(range(new)), iter(axes)
    order = []
    for entry in entries:
        if entry is None:
            order.append(next(news))
        else:
            axis = next(olds)
            if isinstance(entry, slice):
                order.append(new + kept.index(axis))
    if order == sorted(order):
        return found
    return View(found, transpose, {"axes": tuple(order)}, tuple(found.shape[i] for i in order))


inside[transpose] = _inside_transpose
behind[transpose] = lambda view, value, op: np.transpose(value, inverse(view._params["axes"]))

# ------------------------------------------------------------------------------------------------------------ dtype


def _astype(x: Any, dtype: np.dtype[Any]) -> Any:
    return x.astype(dtype) if isinstance(x, (np.ndarray, np.generic)) else dtype.type(x)


def _astype_rows() -> Iterable[Row]:
    x = np.array([[0.3, -1.2], [2.5, 0.7]])
    yield row(x, dtype=np.dtype(np.float64))
    yield row(x.astype(np.float32), dtype=np.dtype(np.float64))
    yield row(x, dtype=np.dtype(np.complex128))
    yield row(np.float64(0.3), dtype=np.dtype(np.float64))
    yield row(x, dtype=np.dtype(np.int64), smooth=False)
    yield row(x[:0], dtype=np.dtype(np.float64))


astype = linear("astype", _astype, lambda ct: ct, batch=_all_at_once, rows=_astype_rows)

# ----------------------------------------------------------------------------------------------------------- layout


def _copy(x: Any, order: str) -> Any:
    return np.array(x, order=order)  # type: ignore[call-overload]


def _batch_copy(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    (x,) = values
    if params["order"] == "F":
        return _reverse_lane(evaluate(op, (_reverse_lane(x),), {"order": "C"}))
    return evaluate(op, (x,), params)


def _copy_rows() -> Iterable[Row]:
    x = np.arange(6.0).reshape(2, 3) / 5 - 0.6
    yield row(x, order="F")
    yield row(x.T.astype(np.float32), order="C")
    yield row(np.stack([x, x + 1])[:, :, ::2], order="K")
    yield row(x[:0], order="F")


copy = linear("copy", _copy, lambda ct: ct, batch=_batch_copy, rows=_copy_rows)

# -------------------------------------------------------------------------------------------------------- broadcast


def _batch_broadcast_to(
    op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]
) -> Any:
    (x,), shape = values, params["shape"]
    lane = np.shape(x)[1:]
    x = np.reshape(x, (size, *(1,) * (len(shape) - len(lane)), *lane))
    return evaluate(op, (x,), {"shape": (size, *shape)})


def _broadcast_rows() -> Iterable[Row]:
    x = np.array([[0.3], [-1.2]])
    yield row(x, shape=(2, 3))
    yield row(x.astype(np.float32), shape=(4, 2, 3))
    yield row(x[:, 0], shape=(3, 2))
    yield row(np.float64(0.3), shape=(2, 2))
    yield row(x, shape=(0, 2, 1))
    yield row(x, shape=(2, 0))


broadcast_to = linear(
    "broadcast_to",
    np.broadcast_to,
    lambda ct: ct,
    batch=_batch_broadcast_to,
    rows=_broadcast_rows,
)

# ---------------------------------------------------------------------------------------------------------- windows


def _windows(x: Any, length: int, axis: int) -> Any:
    return np.lib.stride_tricks.sliding_window_view(x, length, axis)


def _batch_windows(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    return evaluate(op, values, {"length": params["length"], "axis": params["axis"] + 1})


def _windows_rows() -> Iterable[Row]:
    cube = np.arange(24.0).reshape(2, 3, 4) / 5 - 2
    yield row(cube[0, 0], length=3, axis=0)
    yield row(cube, length=2, axis=1)
    yield row(cube[0].astype(np.float32), length=1, axis=1)
    yield row(cube[:0], length=3, axis=2)


def _transpose_windows(ct: Any, axis: int) -> Any:
    return evaluate(overlap_add, (ct,), {"axis": axis})


windows = linear("windows", _windows, _transpose_windows, batch=_batch_windows, rows=_windows_rows)


def _overlap_add(x: Any, axis: int) -> Any:
    """Sum what came from the same element, by the shorter of both axes: place by place, or window by window."""
    x = np.moveaxis(x, axis, -2)
    count, length = x.shape[-2:]
    found = np.zeros((*x.shape[:-2], count + length - 1), x.dtype)
    if length <= count:
        for i in range(length):
            found[..., i : i + count] += x[..., i]
    else:
        for i in range(count):
            found[..., i : i + length] += x[..., i, :]
    return np.moveaxis(found, -1, axis)


def _overlap_rows() -> Iterable[Row]:
    cube = np.arange(24.0).reshape(2, 3, 4) / 5 - 2
    yield row(cube[0], axis=0)
    yield row(cube, axis=0)
    yield row(cube.astype(np.float32), axis=1)
    yield row(cube[0, :1], axis=0)
    yield row(cube[:0], axis=1)


overlap_add = linear(
    "overlap_add",
    _overlap_add,
    lambda ct, of, axis: evaluate(windows, (ct,), {"length": of.shape[-1], "axis": axis}),
    batch=lambda op, size, values, batched, params: evaluate(op, values, {"axis": params["axis"] + 1}),
    rows=_overlap_rows,
)
"""The adjoint of `windows`: what the windows along the last axis say of each element, summed."""

# --------------------------------------------------------------------------------------------------------- diagonal


def _diagonal_places(shape: tuple[int, ...], offset: int, axis1: int, axis2: int) -> tuple[Any, Any]:
    """Where along both axes the elements of a diagonal lie."""
    count = max(min(shape[axis1] + min(offset, 0), shape[axis2] - max(offset, 0)), 0)
    along = np.arange(count)
    return along - min(offset, 0), along + max(offset, 0)


def _transpose_diagonal(ct: Any, of: Spec, offset: int, axis1: int, axis2: int) -> Sparse:
    rows, columns = _diagonal_places(of.shape, offset, axis1, axis2)
    index: list[Any] = [slice(None)] * of.ndim
    index[axis1] = index[axis2] = ARRAY
    # Index arrays side by side select in place, others in front.
    first = min(axis1, axis2)
    ct = np.moveaxis(ct, -1, first if abs(axis1 - axis2) == 1 else 0)
    places = (rows, columns) if axis1 < axis2 else (columns, rows)
    return Sparse(add_at, of, (ct, *places), {"index": tuple(index)})


def _batch_diagonal(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    moved = {"offset": params["offset"], "axis1": params["axis1"] + 1, "axis2": params["axis2"] + 1}
    return evaluate(op, values, moved)


def _diagonal_rows() -> Iterable[Row]:
    cube = np.arange(24.0).reshape(2, 3, 4) / 5 - 2
    yield row(cube[0], offset=0, axis1=0, axis2=1)
    yield row(cube[0], offset=-1, axis1=1, axis2=0)
    yield row(cube.astype(np.float32), offset=1, axis1=0, axis2=2)
    yield row(cube, offset=0, axis1=2, axis2=1)
    yield row(cube[0], offset=5, axis1=0, axis2=1)
    yield row(cube[:0], offset=0, axis1=0, axis2=1)


diagonal = linear(
    "diagonal", np.diagonal, _transpose_diagonal, batch=_batch_diagonal, rows=_diagonal_rows, selects=True
)

# ---------------------------------------------------------------------------------------------------- complex parts


def _from_parts(re: Any, im: Any) -> Any:
    made = np.empty(np.broadcast_shapes(np.shape(re), np.shape(im)), np.result_type(re, im, np.complex64))
    made.real, made.imag = re, im
    return made


def _parts_rows() -> Iterable[Row]:
    x = np.array([[0.3, -1.2], [2.5, 0.7]])
    yield row(x, x * 2 - 1)
    yield row(x.astype(np.float32), x.astype(np.float32))
    yield row(x[:0], x[:0])


from_parts = linear(
    "from_parts",
    _from_parts,
    lambda ct: np.real(ct),
    lambda ct: -np.imag(ct),
    operands="re im",
    batch=_all_at_once,
    rows=_parts_rows,
)


def _locate_part(view: View, template: Template) -> View:
    found = locate(view._base, template)
    return View(found, view._op, {}, found.shape)


def _behind_real(view: View, value: Any, op: Any) -> Any:
    other = np.imag(view._base)
    return from_parts(value, other if op is setitem else np.zeros_like(other))


def _behind_imag(view: View, value: Any, op: Any) -> Any:
    other = np.real(view._base)
    return from_parts(other if op is setitem else np.zeros_like(other), value)


inside[real] = inside[imag] = _locate_part
behind[real], behind[imag] = _behind_real, _behind_imag
