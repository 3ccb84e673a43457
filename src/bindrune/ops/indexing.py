"""Reads and writes at an index.

An index is a *template* (ints, slices, None, Ellipsis, and `ARRAY` where an index array stands) and the index arrays,
which are operands: under `vmap` each lane may have its own.  Three operations say everything: `getitem` reads,
`setitem` writes, `add_at` adds where indices may repeat.  The adjoint of a read adds into the owner's cotangent at
the same place; the adjoint of a write takes out and clears.  Neither makes an array of the owner's size.

Views are cells over a `getitem` with a basic index (or a transposition, a reshape); `read_at` and `write_at` are what
`x[i]` and `x[i] = v` do, and keep chains of views short.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.array import Array, View, concrete, peek, unshare
from ..core.cotangents import Buffer, Sparse
from ..core.handler import evaluate, write
from ..core.operation import Op, Row, Spec, Write, linear, operation, row

__all__ = ["ARRAY", "add_at", "assign", "getitem", "read_at", "setitem", "split_index", "write_at"]


class _Slot:
    """Marks the place of an index array in a template."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ARRAY"


ARRAY = _Slot()

Template = tuple[Any, ...]


def fill(index: Template, arrays: Sequence[Any]) -> Template:
    """The index itself: the template with its arrays."""
    if not arrays:
        return index
    rest = iter(arrays)
    return tuple(next(rest) if e is ARRAY else e for e in index)


# ------------------------------------------------------------------------------------------------------- batching


class _Layout:
    """Where NumPy puts the result axes of an index on an array of `ndim` dimensions, arrays having `k`."""

    def __init__(self, index: Template, ndim: int, k: int) -> None:
        missing = ndim - sum(e is not None and e is not Ellipsis for e in index)
        whole = (slice(None),) * missing
        at = next((i for i, e in enumerate(index) if e is Ellipsis), len(index))
        self.index = index[:at] + whole + index[at + 1 :]
        self.advanced = any(e is ARRAY for e in index)
        places = [i for i, e in enumerate(self.index) if e is ARRAY or isinstance(e, int)] if self.advanced else []
        self.adjacent = not places or places[-1] - places[0] + 1 == len(places)
        # Adjacent index arrays put their axes where they stand, separated ones in front.
        self.before = places[0] if places and self.adjacent else 0
        self.k = k if self.advanced else 0
        self.ndim = sum(e is None or isinstance(e, slice) for e in self.index) + self.k


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
    _, index, arrays, (source, target) = _batched_index(
        params["index"], arrays, batched[1:], batched[0], np.ndim(x) - batched[0], size
    )
    result = evaluate(op, (x, *arrays), {"index": index})
    return np.moveaxis(result, source, target) if source else result


def _batch_write(
    op: Op, size: int, lane: Spec, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    v, arrays = values[0], values[1:]
    layout, index, arrays, (source, target) = _batched_index(
        params["index"], arrays, batched[1:], True, lane.ndim, size
    )
    shape = np.shape(v)
    lanes, shape = ((size,), shape[1:]) if batched[0] else ((1,), shape)
    shape = shape[max(len(shape) - layout.ndim, 0) :]
    if batched[0] or source:
        v = np.reshape(v, (*lanes, *(1,) * (layout.ndim - len(shape)), *shape))
    return (np.moveaxis(v, target, source) if source else v, *arrays), {"index": index}


# ----------------------------------------------------------------------------------------------------- operations


def _getitem(x: Any, *arrays: Any, index: Template) -> Any:
    return x[fill(index, arrays)]


def _setitem(x: Any, v: Any, *arrays: Any, index: Template) -> None:
    x[fill(index, arrays)] = v


def _add_at(x: Any, v: Any, *arrays: Any, index: Template) -> None:
    if arrays:
        np.add.at(x, fill(index, arrays), v)
    else:
        x[index] += v


def _last_writes(*arrays: Any, index: Template, shape: tuple[int, ...]) -> Any:
    """For each element of a selection, whether it is the last one that writes to its place."""
    chosen = [a for a in arrays]
    dims = [n for e, n in zip(_Layout(index, len(shape), 0).index, shape, strict=False) if e is ARRAY]
    positions = np.ravel_multi_index(np.broadcast_arrays(*chosen), dims, mode="wrap")
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


getitem = linear(
    "getitem",
    _getitem,
    lambda ct, of, arrays, index: Sparse(add_at, of, (ct, *arrays), {"index": index}),
    None,
    operands="x *arrays",
    batch=_batch_getitem,
    rows=_rows,
    selects=True,
)

last_writes = operation("last_writes", _last_writes, operands="*arrays", jvp=None, vjp=None)


def _take(buffer: Buffer, arrays: Sequence[Any], index: Template) -> Any:
    value = buffer.value
    for a in arrays:
        value = buffer.writable(a)
    if isinstance(value, Array):
        return unshare(getitem(value, *arrays, index=index))
    return np.array(value[fill(index, arrays)])


def _adjoint_setitem(buffer: Buffer, *arrays: Any, index: Template) -> Any:
    taken = _take(buffer, arrays, index)
    buffer.write(setitem, (0, *arrays), {"index": index})
    if arrays:
        layout = _Layout(index, np.ndim(buffer.value), max(map(np.ndim, arrays)))
        last = evaluate(last_writes, arrays, {"index": index, "shape": np.shape(buffer.value)})
        # Bring the mask of the index arrays' axes to where those stand in the selection.
        after = layout.ndim - layout.before - layout.k
        taken = np.where(np.reshape(last, (*np.shape(last), *(1,) * after)), taken, 0)
    return taken


setitem = Write(
    "setitem", _setitem, "x v *arrays", adjoint=_adjoint_setitem, batch=_batch_write, rows=_write_rows
)
add_at = Write(
    "add_at",
    _add_at,
    "x v *arrays",
    adjoint=lambda buffer, *arrays, index: _take(buffer, arrays, index),
    batch=_batch_write,
    rows=_write_rows,
)

# -------------------------------------------------------------------------------------------- what x[i] means


def split_index(index: Any) -> tuple[Template, list[Any]]:
    """An index as the user writes it, as a template and index arrays (masks become the positions they choose)."""
    template: list[Any] = []
    arrays: list[Any] = []
    for e in index if type(index) is tuple else (index,):
        kind = type(e)
        if kind is int or e is None or e is Ellipsis:
            template.append(e)
        elif kind is slice:
            template.append(_plain_slice(e))
        elif isinstance(e, np.integer):
            template.append(int(e))
        elif isinstance(e, Array) and e.dtype.kind in "iu" and e.ndim == 0 and is_concrete(e):
            template.append(int(concrete(e)))
        else:
            e = e if isinstance(e, (Array, np.ndarray)) else np.asarray(e)
            if e.size == 0 and e.dtype.kind == "f" and isinstance(e, np.ndarray):
                e = e.astype(int)
            if e.dtype.kind == "b":
                found = np.nonzero(concrete(e)) if e.ndim else (np.zeros(int(bool(concrete(e))), int),)
                template += [None] if not e.ndim else []
                template += [ARRAY] * len(found)
                arrays += found
            else:
                template.append(ARRAY)
                arrays.append(e)
    return tuple(template), arrays


def is_concrete(cell: Array) -> bool:
    """Whether a value is the same for all lanes of every batch."""
    while isinstance(cell, Array):
        cell = cell.read()
        if cell._handler.per_lane:
            return False
        cell = cell._value
    return True


def _plain_slice(s: slice) -> slice:
    return slice(*(None if e is None else e if type(e) is int else operator.index(e) for e in (s.start, s.stop, s.step)))


def read_at(cell: Array, index: Any) -> Array:
    """``cell[index]``: a number, a view (basic indices) or a copy (index arrays)."""
    template, arrays = split_index(index)
    if arrays:
        result: Array = getitem(cell, *arrays, index=template)
        return result
    found = peek(cell)[template]
    while type(cell) is View:
        composed = _compose(cell, template)
        if composed is None:
            break
        cell, template = composed
    if not isinstance(found, np.ndarray):
        number: Array = getitem(cell, index=template)
        return number
    return View(cell, getitem, {"index": template}, found.shape)


def write_at(cell: Array, index: Any, value: Any) -> None:
    """``cell[index] = value``."""
    template, arrays = split_index(index)
    if type(value) is View and value._base is cell and value._op is getitem and value._params["index"] == template:
        return  # `x[i] += v` has written through the view x[i] already
    put(cell, template, arrays, value)


def put(cell: Array, template: Template, arrays: Sequence[Any], value: Any, op: Write = setitem) -> None:
    """Write at a split index, through however many views."""
    while type(cell) is View and not arrays:
        composed = _compose(cell, template)
        if composed is None:
            break
        cell, template = composed
    if type(cell) is View:
        cell, template, arrays = _root_positions(cell, template, arrays)
    write(cell, op, (value, *arrays), {"index": template})


def assign(cell: Array, content: Array) -> None:
    """``cell[...] = content`` for a content of the same shape: the cell takes it over."""
    dtype = cell.dtype
    if content.dtype != dtype:
        content = content.astype(dtype)  # type: ignore[attr-defined]
    if type(cell) is View:
        if cell._op.name in ("real", "imag"):
            _assign_part(cell, content)
        else:
            put(cell, (Ellipsis,), (), content)
    else:
        cell.assign(content.read().snapshot())


def _assign_part(view: View, content: Array) -> None:
    """Write the real or imaginary part of a complex array."""
    whole = view._base
    other = whole - (view.read() if view._op.name == "real" else 1j * view.read())  # type: ignore[operator]
    assign(whole, other + (content if view._op.name == "real" else 1j * content))


def _root_positions(view: View, template: Template, arrays: Sequence[Any]) -> tuple[Array, Template, list[Any]]:
    """Where a selection of a view lies in its root: the view's operations, done to a table of positions."""
    root = view.root
    shape = root.shape
    table = np.arange(int(np.prod(shape))).reshape(shape)
    chain: list[View] = []
    step: Array = view
    while type(step) is View:
        chain.append(step)
        step = step._base
    for link in reversed(chain):
        table = link._op.implementation(table, **link._params)
    picked = evaluate(getitem, (table, *arrays), {"index": template})
    places = np.unravel_index(concrete(picked), shape)
    return root, (ARRAY,) * len(shape), list(places)


def _compose(view: View, template: Template) -> tuple[Array, Template] | None:
    """A basic index into a view as one into its base, where that is again a basic index."""
    if view._op is not getitem:
        return None
    base = view._base
    inner = iter(_Layout(template, len(view.shape), 0).index)
    lengths = iter(base.shape)
    combined: list[Any] = []
    for first in _Layout(view._params["index"], len(base.shape), 0).index:
        if first is None:
            # A new axis: an index into it only drops it.
            second = next(inner, slice(None))
            while second is None:
                combined.append(None)
                second = next(inner)
            if isinstance(second, slice):
                if second.indices(1) != (0, 1, 1):
                    return None
                combined.append(None)
            continue
        length = next(lengths)
        if isinstance(first, int):
            combined.append(first)
            continue
        second = next(inner, slice(None))
        while second is None:
            combined.append(None)
            second = next(inner)
        span = range(*first.indices(length))[second]
        combined.append(span if isinstance(span, int) else _as_slice(span))
    combined += inner
    return base, tuple(combined)


def _as_slice(span: range) -> slice:
    """The slice that chooses exactly the indices of a range."""
    if not span:
        return slice(0, 0)
    stop = span.stop if span.step > 0 or span.stop >= 0 else None
    return slice(span.start, stop, span.step)


