"""What ``x[i]`` and ``x[i] = v`` mean for stand-ins: views, and reads and writes through them.

Views are cells over a `getitem` with a basic index (or a transposition, a reshape).  `read_at` and `write_at` keep
chains of views short: an index into a view is one into its base, where that can be told from the index alone; a write
through any other chain carries the coordinates of the root along it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..core.array import Array, View, concrete, is_scalar, peek
from ..core.handler import HOST, evaluate, write
from ..core.operation import Op, Write
from ..core.protocol import hooks
from ..graph.dims import Dim, is_open, span_slice, substitute
from ..graph.dims import hooks as lengths
from .indexing import ARRAY, Template, add_at, fill, getitem, selected_shape, setitem, spell_out
from .positions import nonzero_positions

__all__ = [
    "assign", "behind", "boxed", "ending", "inside", "is_concrete", "locate", "masked", "masks", "put", "read_at",
    "replay", "split_index", "write_at",
]  # fmt: skip


def split_index(index: Any, shape: Sequence[Any]) -> tuple[Template, list[Any]]:
    """An index as the user writes it, as a template and index arrays (masks become the positions they choose)."""
    if type(index) is int:
        return (index,), []
    template: list[Any] = []
    arrays: list[Any] = []
    masks: list[tuple[int, Any]] = []
    steps = False
    for e in index if type(index) is tuple else (index,):
        kind = type(e)
        if kind is int or e is None or e is Ellipsis:
            template.append(e)
        elif kind is slice:
            plain = _plain_slice(e)
            steps = steps or isinstance(plain.step, Dim) or plain.step not in (None, 1, -1)
            template.append(plain)
        elif isinstance(e, np.integer):
            template.append(int(e))
        elif isinstance(e, Array) and e.dtype.kind in "iu" and e.ndim == 0 and is_concrete(e):
            template.append(int(concrete(e)))
        else:
            e = e if isinstance(e, (Array, np.ndarray)) else hooks.asarray(e) if _has_stand_in(e) else np.asarray(e)
            if isinstance(e, np.ndarray) and e.dtype.kind == "f" and e.size == 0:
                e = e.astype(int)
            if e.dtype.kind == "b":
                masks.append((len(template), e))
                found = _chosen(e)
                template += [ARRAY] * len(found)
                arrays += found
            else:
                template.append(ARRAY)
                arrays.append(e)
    for place, mask in masks:
        _refuse_mask(tuple(template), place, mask.shape, shape)
    if steps and is_open((template, shape)):
        return _by_steps(tuple(template), shape), arrays
    return tuple(template), arrays


def _by_steps(template: Template, shape: Sequence[Any]) -> Template:
    """An index of which slices by steps say what they choose, where that is not known."""
    entries = spell_out(template, len(shape))
    if len(shape) != sum(e is not None for e in entries):
        return template  # there are too many, which is said where the index is used
    axes = iter(shape)
    return tuple(None if e is None else _by_step(e, next(axes)) for e in entries)


def _by_step(entry: Any, length: Any) -> Any:
    if not isinstance(entry, slice) or not is_open((entry, length)):
        return entry
    if not isinstance(entry.step, Dim) and entry.step in (None, 1, -1):
        return entry
    return lengths.stride(entry, length)


def _chosen(mask: Any) -> tuple[Any, ...]:
    """The positions that a mask chooses."""
    if not mask.ndim:
        return (np.zeros(int(bool(concrete(mask))), int),)
    if isinstance(mask, Array) and not is_concrete(mask):
        return nonzero_positions(mask)
    return np.nonzero(concrete(mask))


def _refuse_mask(template: Template, place: int, mask: Sequence[Any], shape: Sequence[Any]) -> None:
    """Refuse a mask that has not the lengths of the axes it stands for."""
    entries = [i for i, e in enumerate(template) if e is not None]
    at = template.index(Ellipsis) if Ellipsis in template else len(template)
    first = entries.index(place) if place < at else len(shape) - len(entries) + entries.index(place)
    for axis, (length, own) in enumerate(zip(shape[first:], mask, strict=False), first):
        if length != own:
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis}; size of axis is {length} but size of "
                f"corresponding boolean axis is {own}"
            )


def _has_stand_in(index: Any) -> bool:
    return isinstance(index, Array) or (isinstance(index, (list, tuple)) and any(map(_has_stand_in, index)))


def is_concrete(cell: Array) -> bool:
    """Whether Python may look at a value: it is the same for all lanes of every batch, and is not being staged."""
    while isinstance(cell, Array):
        cell = cell.read()
        if cell._handler.per_lane or cell._handler.symbolic:
            return False
        cell = cell._value
    return True


def _plain_slice(s: slice) -> slice:
    return slice(*map(_bound, (s.start, s.stop, s.step)))


def _bound(e: Any) -> Any:
    """A bound of a slice: None, a number, or a length that only the running program knows."""
    if e is None or type(e) is int or isinstance(e, Dim):
        return e
    if isinstance(e, Array) and e.dtype.kind in "iu" and not e.shape:
        e = e.read()
        return e._handler.length(e)
    return operator.index(e)


def read_at(cell: Array, index: Any) -> Array:
    """``cell[index]``: a number, a view (basic indices) or a copy (index arrays)."""
    if type(index) is int and type(cell) is Array:
        shape = cell.shape
        if len(shape) == 1 and type(shape[0]) is int and -shape[0] <= index < shape[0]:
            element: Array = cell._handler.apply(getitem, (cell,), {"index": (index,)})
            return element
    template, arrays = split_index(index, cell.shape)
    if not _are_numbers(arrays):
        result: Array = getitem(_under_flag(cell, index), *arrays, index=template)
        return result
    if is_open((template, cell.shape)):
        if cell.root._handler is HOST:
            lengths.adopt(cell.root, template)
        lengths.bound(cell.shape, template)
        shape = selected_shape(cell.shape, template, [a.shape for a in arrays])
        if not shape and Ellipsis not in template:
            one: Array = getitem(cell, *arrays, index=template)
            return one
        return View(cell, getitem, {"index": template}, shape, arrays)
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
        rest = len(cell.shape) - len(index.shape)
        if index.shape == cell.shape[: len(index.shape)] and np.ndim(value) <= rest:
            chosen: Any = np.where(np.reshape(index, (*index.shape, *(1,) * rest)), value, cell)
            assign(cell, chosen)
            return
    template, arrays = split_index(index, cell.shape)
    if type(value) is View and value.root is cell.root and _are_numbers(arrays):
        viewed = read_at(cell, index) if is_open((template, cell.shape)) else locate(cell, template, arrays)
        if _same(value, viewed):
            return  # `x[i] += v` has written through the view x[i] already
    if isinstance(value, (list, tuple)):
        value = hooks.asarray(value)
    put(_under_flag(cell, index) if arrays else cell, template, arrays, value)


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
    if type(cell) is View and cell._op is getitem and type(cell._base) is not View and template == (Ellipsis,):
        cell, template, arrays = cell._base, cell._params["index"], cell._operands
    if type(cell) is View:
        cell = _settled(cell)
        if is_open(template):
            template = substitute(template, operator.index)
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
    if is_open(cell.shape):
        write(cell, setitem, (content,), {"index": (Ellipsis,)})
        return
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


def _settled(cell: Array) -> Array:
    """A view whose places are those of the call at hand, where Python must know them."""
    if type(cell) is not View:
        return cell
    base = _settled(cell._base)
    if base is cell._base and not is_open(cell._params):
        return cell
    params, shape = (substitute(content, operator.index) for content in (cell._params, cell.shape))
    return View(base, cell._op, params, shape, cell._operands)


def ending(index: Template) -> Template:
    """What keeps the selection of one element an array, if the index has it."""
    return (Ellipsis,) if Ellipsis in index else ()


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
