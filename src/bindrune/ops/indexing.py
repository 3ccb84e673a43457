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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..core.array import Array, View, concrete, is_scalar, peek, unshare
from ..core.cotangents import Buffer, Sparse
from ..core.handler import evaluate, write
from ..core.operation import Op, Row, Spec, Write, linear, operation, row
from ..core.protocol import hooks

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
    if arrays:
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

# -------------------------------------------------------------------------------------------- what x[i] means


def split_index(index: Any) -> tuple[Template, list[Any]]:
    """An index as the user writes it, as a template and index arrays (masks become the positions they choose)."""
    if type(index) is int:
        return (index,), []
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
    return slice(*(e if e is None or type(e) is int else operator.index(e) for e in (s.start, s.stop, s.step)))


def read_at(cell: Array, index: Any) -> Array:
    """``cell[index]``: a number, a view (basic indices) or a copy (index arrays)."""
    if type(index) is int and type(cell) is Array:
        shape = cell.shape
        if len(shape) == 1 and -shape[0] <= index < shape[0]:
            element: Array = getitem(cell, index=(index,))
            return element
    template, arrays = split_index(index)
    if not _are_numbers(arrays):
        result: Array = getitem(_under_flag(cell, index), *arrays, index=template)
        return result
    plain = peek(cell)
    found = plain[fill(template, [*map(peek, arrays)])]
    if type(cell) is View:
        view = locate(cell, template, arrays)
        return view if isinstance(found, np.ndarray) else view.read()
    if not isinstance(found, np.ndarray):
        number: Array = getitem(cell, *arrays, index=template)
        return number
    if not isinstance(plain, np.ndarray):
        fresh: Array = boxed(cell) if not found.shape else getitem(cell, index=template)
        return fresh
    return View(cell, getitem, {"index": template}, found.shape, arrays)


def _are_numbers(arrays: Sequence[Any]) -> bool:
    """Whether an index has no arrays but numbers that differ between lanes: integers to NumPy, so it gives a view."""
    return all(isinstance(a, Array) and not a.shape and a.dtype.kind in "iu" and is_scalar(a) for a in arrays)


def boxed(number: Array) -> View:
    """A number as an array of no dimensions: a view of one element, for a lane of no dimensions is a number."""
    return View(getitem(number, index=(None,)), getitem, {"index": (0, Ellipsis)}, ())


def write_at(cell: Array, index: Any, value: Any) -> None:
    """``cell[index] = value``."""
    if isinstance(index, Array) and index.dtype.kind == "b" and index.shape and not is_concrete(index):
        _write_chosen(cell, index, value)
        return
    template, arrays = split_index(index)
    viewed = type(value) is View and value.root is cell.root and _are_numbers(arrays)
    if viewed and _same(value, locate(cell, template, arrays)):
        return  # `x[i] += v` has written through the view x[i] already
    if isinstance(value, (list, tuple)):
        value = hooks.asarray(value)
    put(_under_flag(cell, index) if arrays else cell, template, arrays, value)


def _write_chosen(cell: Array, mask: Array, value: Any) -> None:
    """``cell[mask] = value`` for a mask that differs between lanes: what to write must not depend on their number."""
    rest = len(cell.shape) - len(mask.shape)
    if mask.shape != cell.shape[: len(mask.shape)] or np.ndim(value) > rest:
        concrete(mask)  # refuses
    chosen: Any = np.where(np.reshape(mask, (*mask.shape, *(1,) * rest)), value, cell)
    assign(cell, chosen)


def _under_flag(cell: Array, index: Any) -> Array:
    """For ``cell[flag]``: the cell under a new axis, of which one bool keeps the one element or none."""
    array = isinstance(index, (Array, np.ndarray))
    flag = index.dtype.kind == "b" and not index.shape if array else isinstance(index, (bool, np.bool))
    return locate(cell, (None,)) if flag else cell


masks: ContextVar[Any] = ContextVar("masks", default=None)
"""The lanes that are running, where a condition differs between them; None for all."""


@contextmanager
def masked(mask: Any) -> Iterator[None]:
    """Run code for some lanes only: what it writes into arrays changes those lanes."""
    token = masks.set(mask)
    try:
        yield
    finally:
        masks.reset(token)


def put(cell: Array, template: Template, arrays: Sequence[Any], value: Any, op: Write = setitem) -> None:
    """Write at a split index, through however many views."""
    mask = masks.get()
    if mask is not None:
        value = np.where(mask, value, 0 if op is add_at else getitem(cell.read(), *arrays, index=template))
    if type(cell) is View and _are_numbers(arrays):
        peek(cell)[fill(template, [*map(peek, arrays)])]  # raises for an index that is out of bounds
        cell, value = _unwind(locate(cell, template, arrays), value, op)
        template, arrays = (Ellipsis,), ()
        if type(cell) is View and type(cell._base) is not View and cell._op is getitem:
            cell, template, arrays = cell._base, cell._params["index"], cell._operands
    if type(cell) is View:
        cell, template, arrays, value = _at_root(cell, template, arrays, value, op)
    write(cell, op, (value, *arrays), {"index": template})


def assign(cell: Array, content: Array) -> None:
    """``cell[...] = content`` for a content of the same shape: a cell takes over one that lies in memory alike."""
    mask = masks.get()
    if mask is not None:
        selected: Any = np.where(mask, content, cell)
        content = selected
    cell, content = _unwind(cell, _cast(content, cell.dtype), setitem)
    if type(cell) is View:
        put(cell, (Ellipsis,), (), content)
        return
    content = _cast(content, cell.dtype).read()
    plain = peek(content)
    if isinstance(plain, np.ndarray) and plain.strides == peek(cell).strides:
        cell.assign(content.snapshot())
    else:
        write(cell, setitem, (content,), {"index": (Ellipsis,)})


def _cast(content: Array, dtype: np.dtype[Any]) -> Array:
    return content if content.dtype == dtype else content.astype(dtype)


# ------------------------------------------------------------------------------------------------ views of views

inside: dict[Op, Callable[[View, Template], View | None]] = {}
"""By the operation of a view: a basic index into the view as a view nearer to the root (None where there is none)."""

behind: dict[Op, Callable[[View, Any, Write], Any]] = {}
"""By the operation of a view that shows all of its base: what is written to the base when this is to the view."""


def locate(cell: Array, template: Template, numbers: Sequence[Array] = ()) -> View:
    """The view that shows a basic index, as near to the root as can be."""
    if type(cell) is View and not numbers:
        nearer = inside.get(cell._op)
        found = None if nearer is None else nearer(cell, template)
        if found is not None:
            return found
    shape = peek(cell)[fill(template, [*map(peek, numbers)])].shape
    return View(cell, getitem, {"index": template}, shape, numbers)


def ending(index: Template) -> Template:
    """What keeps the selection of one element an array, if the index has it."""
    return (Ellipsis,) if Ellipsis in index else ()


def span_slice(span: range) -> slice:
    """The slice that chooses exactly the indices of a range."""
    if not span:
        return slice(0, 0)
    stop = span.stop if span.step > 0 or span.stop >= 0 else None
    return slice(span.start, stop, span.step)


def _inside_getitem(view: View, template: Template) -> View | None:
    base = view._base
    inner = iter(spell_out(template, len(view.shape)))
    lengths = iter(base.shape)
    combined: list[Any] = []
    for first in spell_out(view._params["index"], len(base.shape)):
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
        if isinstance(first, int) or first is ARRAY:
            combined.append(first)
            continue
        second = next(inner, slice(None))
        while second is None:
            combined.append(None)
            second = next(inner)
        span = range(*first.indices(length))[second]
        combined.append(span if isinstance(span, int) else span_slice(span))
    combined += inner
    return locate(base, (*combined, *ending(template)), view._operands)


inside[getitem] = _inside_getitem


def _same(view: Array, other: Array) -> bool:
    """Whether two views of one root are the same view."""
    while type(view) is View and type(other) is View:
        if view._op is not other._op or view._params != other._params:
            return False
        if [*map(id, view._operands)] != [*map(id, other._operands)]:
            return False
        view, other = view._base, other._base
    return view is other


def _unwind(cell: Array, value: Any, op: Write) -> tuple[Array, Any]:
    """A write to all of a view as one to all of the cell behind its rearrangements."""
    while type(cell) is View and cell._op in behind:
        value = behind[cell._op](cell, _fit(value, cell.shape), op)
        cell = cell._base
    return cell, value


def _fit(value: Any, shape: tuple[int, ...]) -> Any:
    """A value broadcast to the shape it is written to."""
    found = np.shape(value)
    if found == shape:
        return value
    surplus = len(found) - len(shape)
    if surplus > 0 and found[:surplus] == (1,) * surplus:
        value = np.reshape(value, found[surplus:])
    elif surplus > 0 or any(n not in (1, m) for n, m in zip(found[::-1], shape[::-1], strict=False)):
        a, b = (str(s).replace(" ", "") for s in (found, shape))
        raise ValueError(f"could not broadcast input array from shape {a} into shape {b}")
    return np.broadcast_to(value, shape)


def replay(cell: Array, memory: Any, lanes: bool = False) -> Any:
    """What a cell would show if its root held this plain array; of integers the real and imaginary part are all.

    Where indices differ between lanes: in each of them, or else in the first.
    """
    if type(cell) is not View:
        return memory
    found = replay(cell._base, memory, lanes)
    if cell._op.name == "imag" and found.dtype.kind != "c":
        return found
    numbers = cell._operands if lanes else map(peek, cell._operands)
    return evaluate(cell._op, (found, *numbers), cell._params)


def _part(cell: Array) -> View | None:
    """The view of a real or imaginary part in a chain of views."""
    while type(cell) is View and cell._op.name not in ("real", "imag"):
        cell = cell._base
    return cell if type(cell) is View else None


def _at_root(
    view: View, template: Template, arrays: Sequence[Any], value: Any, op: Write
) -> tuple[Array, Template, list[Any], Any]:
    """A write into a view as one into its root, where coordinates are carried through the view's operations."""
    root, shape = view.root, view.root.shape
    memory = _spread(np.zeros(1), shape, None)
    shown = replay(view, memory)
    if not (shown if isinstance(shown, np.ndarray) else replay(view._base, memory)).flags.writeable:
        raise ValueError("assignment destination is read-only")
    if not shape:
        chosen = evaluate(getitem, (shown, *arrays), {"index": template})
        given = np.reshape(_fit(value, chosen.shape), (-1,))
        value = np.sum(given) if op is add_at else given[-1] if chosen.size else root
        return root, (Ellipsis,), [], value
    tables = (replay(view, _spread(np.arange(length), shape, axis), lanes=True) for axis, length in enumerate(shape))
    places = [evaluate(getitem, (table, *arrays), {"index": template}) for table in tables]
    everywhere = (ARRAY,) * len(shape)
    part = _part(view)
    if part is not None:
        whole = getitem(root, *places, index=everywhere)
        value = behind[part._op](View(whole, part._op, {}, whole.shape), _fit(value, whole.shape), op)
    return root, everywhere, places, value


def _spread(x: Any, shape: tuple[int, ...], axis: int | None) -> Any:
    """An array that varies along one axis only, of any shape without memory for it, and not read-only."""
    strides = tuple(x.itemsize if i == axis else 0 for i in range(len(shape)))
    return np.lib.stride_tricks.as_strided(x, shape, strides)
