"""Reads and writes at an index.

An index is a *template* (ints, slices, `Strided` for a slice by steps of which not all is known, None, Ellipsis, and
`ARRAY` where an index array stands) and the index arrays, which are operands: under `vmap` each lane may have its own.
Three operations say everything: `getitem` reads, `setitem` writes, `add_at` adds where indices may repeat.  The adjoint
of a read adds into the owner's cotangent at the same place; the adjoint of a write takes out and clears.  Neither makes
an array of the owner's size.

What `x[i]` and `x[i] = v` mean for stand-ins, and views, is said in `ops.views`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.array import Array, shape_of, unshare
from ..core.cotangents import Buffer, Sparse
from ..core.handler import evaluate
from ..core.operation import Op, Row, Spec, Write, linear, operation, row
from ..core.symbols import Symbol
from ..graph.dims import Strided, broadcast_shapes, is_open

__all__ = ["ARRAY", "Template", "add_at", "fill", "getitem", "selected_shape", "setitem", "spell_out"]


ARRAY = Symbol("ARRAY")
"""Marks the place of an index array in a template."""

Template = tuple[Any, ...]


def fill(index: Template, arrays: Sequence[Any]) -> Template:
    """The index itself: the template with its arrays."""
    if not arrays:
        return index
    rest = iter(arrays)
    return tuple(next(rest) if e is ARRAY else e for e in index)


def spell_out(index: Template, ndim: int) -> Template:
    """An index with an entry for each axis, and None where it makes one."""
    if len(index) == ndim and None not in index and Ellipsis not in index:
        return index
    missing = ndim - sum(e is not None and e is not Ellipsis for e in index)
    at = next((i for i, e in enumerate(index) if e is Ellipsis), len(index))
    return index[:at] + (slice(None),) * missing + index[at + 1 :]


# ------------------------------------------------------------------------------------------------------- batching


class _Layout:
    """Where NumPy puts the result axes of an index on an array of `ndim` dimensions, arrays having `k`."""

    def __init__(self, index: Template, ndim: int, k: int) -> None:
        self.index = spell_out(index, ndim)
        self.advanced = any(e is ARRAY for e in index)
        places = [i for i, e in enumerate(self.index) if e is ARRAY or isinstance(e, int)] if self.advanced else []
        self.adjacent = not places or places[-1] - places[0] + 1 == len(places)
        # Adjacent index arrays put their axes where they stand, separated ones in front.
        self.before = places[0] if places and self.adjacent else 0
        self.k = k if self.advanced else 0
        self.ndim = sum(e is None or isinstance(e, (slice, Strided)) for e in self.index) + self.k


_Move = tuple[Sequence[int], Sequence[int]]
_STAY: _Move = ((), ())


def _batched_index(
    index: Template, arrays: Sequence[Any], batched: Sequence[bool], x_batched: bool, lane_ndim: int, size: int
) -> tuple[_Layout, Template, list[Any], _Move]:
    """The index for all lanes at once, and how to move the result's axes to have the lanes' in front."""
    dims = [np.ndim(a) - b for a, b in zip(arrays, batched, strict=True)]
    k = max(dims, default=0)
    layout = _Layout(index, lane_ndim, k)
    if not any(batched):
        move = _STAY if layout.adjacent else ([k], [0])
        return layout, (slice(None), *layout.index), list(arrays), move
    aligned = [
        a.reshape(a.shape[0], *(1,) * (k - n), *a.shape[1:]) if b else a
        for a, b, n in zip(arrays, batched, dims, strict=True)
    ]
    if not x_batched:
        return layout, layout.index, aligned, ([layout.before], [0])
    lanes = np.arange(size).reshape(size, *(1,) * k)
    inner = range(1, k + 1)
    move = (list(inner), [i + layout.before for i in inner]) if layout.before else _STAY
    return layout, (ARRAY, *layout.index), [lanes, *aligned], move


def _batch_getitem(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    x, arrays = values[0], values[1:]
    if not arrays:
        return evaluate(op, (x,), {"index": (slice(None), *params["index"])})
    _, index, arrays, (source, target) = _batched_index(
        params["index"], arrays, batched[1:], batched[0], np.ndim(x) - batched[0], size
    )
    result = evaluate(op, (x, *arrays), {"index": index})
    return np.moveaxis(result, source, target) if source else result


def _batch_write(
    op: Op, size: int, lane: Spec, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    v, arrays, index = values[0], values[1:], params["index"]
    source: Sequence[int] = ()
    target: Sequence[int] = ()
    if arrays:
        layout, index, arrays, (source, target) = _batched_index(index, arrays, batched[1:], True, lane.ndim, size)
        ndim = layout.ndim
    else:
        index = (slice(None), *index)
        ndim = lane.ndim + sum(1 if e is None else -1 for e in index if e is None or type(e) is int)
    shape = shape_of(v)
    lanes, shape = ((size,), shape[1:]) if batched[0] else ((1,), shape)
    surplus = len(shape) - ndim
    if source or (batched[0] and surplus):
        v = np.reshape(v, (*lanes, *(1,) * -surplus, *shape[max(surplus, 0) :]))
    return (np.moveaxis(v, target, source) if source else v, *arrays), {"index": index}


# ----------------------------------------------------------------------------------------------------- operations


def _getitem(x: Any, *arrays: Any, index: Template) -> Any:
    return x[fill(index, arrays)]


def _setitem(x: Any, v: Any, *arrays: Any, index: Template) -> None:
    x[fill(index, arrays)] = v


def _add_at(x: Any, v: Any, *arrays: Any, index: Template) -> None:
    if arrays and len(arrays) == len(index) == x.ndim > 1 and x.flags.c_contiguous:
        # By far NumPy's fastest way: one index array, along one axis.
        places = np.ravel_multi_index(np.broadcast_arrays(*arrays), x.shape, mode="wrap")
        np.add.at(x.reshape(-1), places.ravel(), np.broadcast_to(v, places.shape).ravel())
    elif arrays:
        if index == (ARRAY,) and 0 < np.ndim(v) < np.ndim(arrays[0]):
            # NumPy itself forgets to repeat a value of fewer dimensions than the only index array.
            v = np.broadcast_to(v, np.shape(arrays[0]) + x.shape[1:])
        np.add.at(x, fill(index, arrays), v)
    else:
        x[index] += v


def _last_writes(*arrays: Any, index: Template, shape: tuple[int, ...]) -> Any:
    """For each element of a selection, whether it is the last one that writes to its place."""
    entries = [e for e in spell_out(index, len(shape)) if e is not None]
    dims = [n for e, n in zip(entries, shape, strict=True) if e is ARRAY]
    positions = np.ravel_multi_index(np.broadcast_arrays(*arrays), dims, mode="wrap")
    flat = positions.ravel()[::-1]
    last = np.zeros(flat.size, bool)
    last[np.unique(flat, return_index=True)[1]] = True
    return last[::-1].reshape(positions.shape)


def _rows() -> Iterable[Row]:
    x = np.arange(24.0).reshape(4, 6) / 7 - 1.3
    cube = np.arange(24.0).reshape(2, 3, 4) / 5 - 2
    picks = np.array([2, 0, 2])
    yield row(x, index=(1,))
    yield row(x, index=(-1, 2))
    yield row(x, index=(slice(1, 3), slice(None, None, -2)))
    yield row(x, index=(Ellipsis, None, 0))
    yield row(x.astype(np.float32), picks, index=(ARRAY,))
    yield row(x, picks, index=(slice(None), ARRAY))
    yield row(x, np.array([[0], [1]]), picks, index=(ARRAY, ARRAY))
    yield row(cube, picks % 2, np.array([3, 1, 3]), index=(ARRAY, slice(None), ARRAY))
    yield row(cube, picks, index=(1, slice(None, 2), ARRAY))
    yield row(cube, picks, index=(slice(None), ARRAY, None))
    yield row(x[:, :0], index=(slice(1, 3),))


def _write_rows() -> Iterable[Row]:
    for sample in _rows():
        x, *arrays = sample.operands
        index = sample.params["index"]
        selected = np.asarray(x[fill(index, arrays)])
        v = (np.arange(selected.size).reshape(selected.shape) * 0.3 - 1).astype(x.dtype)
        yield row(x, v, *arrays, index=index)
        yield row(x, x.dtype.type(0.7), *arrays, index=index)


def selected_shape(shape: Sequence[Any], index: Template, arrays: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The shape of what an index selects, of lengths that may be unknown; bounds that are lie within the axis."""
    layout = _Layout(index, len(shape), max(map(len, arrays), default=0))
    lengths = iter(shape)
    found: list[Any] = []
    for e in layout.index:
        n = 1 if e is None else next(lengths)
        if e is None or e == slice(None):
            found.append(n)
        elif isinstance(e, Strided):
            found.append(e.length)
        elif isinstance(e, slice):
            found.append(_slice_length(e, n))
    broadcast = broadcast_shapes(arrays)
    return (*found[: layout.before], *broadcast, *found[layout.before :])


def _slice_length(s: slice, length: Any) -> Any:
    if not is_open((s, length)) or s.step not in (None, 1, -1):
        # By another step the length is no linear function of the bounds: it is that of the call at hand.
        return len(
            range(
                *slice(*(b if b is None else operator.index(b) for b in (s.start, s.stop, s.step))).indices(
                    operator.index(length)
                )
            )
        )
    start, stop = (length + b if isinstance(b, int) and b < 0 else b for b in (s.start, s.stop))
    if s.step == -1:
        return (length if start is None else start + 1) - (0 if stop is None else stop + 1)
    return (length if stop is None else stop) - (0 if start is None else start)


def _getitem_shape(specs: Sequence[Spec], params: dict[str, Any]) -> tuple[Any, ...]:
    return selected_shape(specs[0].shape, params["index"], [s.shape for s in specs[1:]])


getitem = linear(
    "getitem",
    _getitem,
    lambda ct, of, arrays, index: Sparse(add_at, of, (ct, *arrays), {"index": index}),
    None,
    operands="x *arrays",
    batch=_batch_getitem,
    rows=_rows,
    selects=True,
    shape=_getitem_shape,
)

last_writes = operation(
    "last_writes",
    _last_writes,
    operands="*arrays",
    jvp=None,
    vjp=None,
    rows=lambda: [
        row(np.array([2, 0, 2]), index=(ARRAY,), shape=(4,)),
        row(np.array([[0], [1]]), np.array([2, 0, 2]), index=(ARRAY, slice(None), ARRAY), shape=(2, 5, 3)),
    ],
)


def _take(buffer: Buffer, arrays: Sequence[Any], index: Template) -> Any:
    value = buffer.value
    for a in arrays:
        value = buffer.writable(a)
    if isinstance(value, Array):
        return unshare(getitem(value, *arrays, index=index))
    taken = value[fill(index, arrays)]
    return taken.copy() if isinstance(taken, np.ndarray) and not arrays else taken


def _adjoint_setitem(buffer: Buffer, *arrays: Any, index: Template) -> Any:
    taken = _take(buffer, arrays, index)
    buffer.write(setitem, (0, *arrays), {"index": index})
    if any(map(np.ndim, arrays)):
        layout = _Layout(index, np.ndim(buffer.value), max(map(np.ndim, arrays)))
        last = evaluate(last_writes, arrays, {"index": index, "shape": np.shape(buffer.value)})
        # Bring the mask of the index arrays' axes to where those stand in the selection.
        after = layout.ndim - layout.before - layout.k
        taken = np.where(np.reshape(last, (*np.shape(last), *(1,) * after)), taken, 0)
    return taken


setitem: Write = Write(
    "setitem", _setitem, "x v *arrays", adjoint=_adjoint_setitem, batch=_batch_write, rows=_write_rows
)
add_at: Write = Write(
    "add_at",
    _add_at,
    "x v *arrays",
    adjoint=lambda buffer, *arrays, index: _take(buffer, arrays, index),
    batch=_batch_write,
    rows=_write_rows,
)
