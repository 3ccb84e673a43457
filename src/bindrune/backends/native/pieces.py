"""Pieces: arrays that are put together from others, as what they are put together from.

`np.roll`, `np.concatenate`, `np.pad` and writes into an array of zeros only say where elements come from.  Of the value
of such an operation a layout is known: boxes that cover it, and for each the array, or the number, that fills it.  What
is cut from it, or put together with more, has a layout again, of the same arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...graph.graph import ARRAY, Literal, Node, Value
from ...graph.rewrite import is_known, lengths
from ...ops.indexing import spell_out

__all__ = [
    "PUT_TOGETHER", "SMALLEST", "Box", "Layout", "Piece", "clipped", "extent", "is_filled", "is_uniform", "joined",
    "moved", "overlap", "place", "shifted", "size", "whole",
]  # fmt: skip

SMALLEST = 1024
"""The elements of an array from which on it matters how often it goes through memory."""

_MOST = 16
"""The most pieces of an array."""

Box = tuple[tuple[int, int], ...]
"""Where a part of an array begins and ends along each axis."""


class Piece(NamedTuple):
    """A box of an array, and what fills it."""

    box: Box
    source: Value
    shape: tuple[int, ...]
    """The source's, with axes of length one where the box has further ones; that of a number has no axes."""
    start: tuple[int, ...]
    """Where in the source the box begins."""
    repeated: tuple[bool, ...]
    """Along which axes all of the box is the one place where it begins."""


Layout = list[Piece]


def whole(shape: Sequence[int]) -> Box:
    """The box that is all of an array."""
    return tuple((0, n) for n in shape)


def size(box: Box) -> int:
    """The number of elements in a box."""
    count = 1
    for low, high in box:
        count *= high - low
    return count


def extent(box: Box) -> tuple[int, ...]:
    """The lengths of a box."""
    return tuple(high - low for low, high in box)


def shifted(box: Box, by: Sequence[int]) -> Box:
    """A box moved along the axes."""
    return tuple((low + n, high + n) for (low, high), n in zip(box, by, strict=True))


def overlap(a: Box, b: Box) -> Box | None:
    """What two boxes have in common; None for nothing."""
    found = tuple((max(i, k), min(j, m)) for (i, j), (k, m) in zip(a, b, strict=True))
    return found if all(i < j for i, j in found) else None


def clipped(layout: Layout, box: Box) -> Layout:
    """The part of a layout that lies in a box."""
    found = []
    for piece in layout:
        common = overlap(piece.box, box)
        if common is not None:
            places = zip(piece.start, piece.repeated, common, piece.box, strict=False)
            start = tuple(s if again else s + i - k for s, again, (i, _), (k, _) in places)
            found.append(piece._replace(box=common, start=start))
    return found


def moved(layout: Layout, by: Sequence[int]) -> Layout:
    """A layout moved along the axes."""
    return [piece._replace(box=shifted(piece.box, by)) for piece in layout]


def is_uniform(content: np.ndarray[Any, Any]) -> bool:
    """Whether all elements of an array are the same, bit by bit."""
    if not content.size:
        return False
    flat = np.ascontiguousarray(content).reshape(-1)
    first = flat[:1].tobytes()
    if not any(first):
        return not flat.view(np.uint8).any()
    return flat[-1:].tobytes() == first and flat.tobytes() == first * flat.size


def place(node: Node) -> tuple[Box, tuple[bool, ...]] | None:
    """The box that a read or a write is about, and which of its axes the index leaves out; None where it is no box.

    A new axis in front of a number stands for the one that the number leaves out.
    """
    x = node.operands[0]
    if not is_known(x) or len(node.operands) != 1 + (node.op.name != "getitem"):
        return None
    box: list[tuple[int, int]] = []
    alone: list[bool] = []
    fresh = False
    for e in spell_out(node.params["index"], x.ndim):
        if e is None and not fresh:
            fresh = True
            continue
        side = _side(e, lengths(x)[len(box)])
        if side is None or (fresh and type(e) is not int):
            return None
        box.append(side)
        alone.append(type(e) is int and not fresh)
        fresh = False
    return None if fresh else (tuple(box), tuple(alone))


def _side(e: Any, n: int) -> tuple[int, int] | None:
    """The consecutive places along an axis that an entry of an index is about."""
    if type(e) is int:
        return (e % n, e % n + 1) if -n <= e < n else None
    if not isinstance(e, slice) or any(b is not None and type(b) is not int for b in (e.start, e.stop, e.step)):
        return None
    first, last, step = e.indices(n)
    return (first, last) if step == 1 and first < last else None


def joined(node: Node, layouts: dict[Value, Layout]) -> Layout | None:
    """The layout of a node's result, if it only puts elements together or cuts from what is put together."""
    (result,) = node.results if len(node.results) == 1 else (None,)
    make = _MAKERS.get(node.op.name)
    if make is None or result is None or result.form != ARRAY or not is_known(result) or 0 in result.shape:
        return None
    if not all(is_known(v) for v in node.operands):
        return None
    found = make(node, layouts)
    return found if found is not None and len(found) <= _MOST else None


def _of(value: Value, layouts: dict[Value, Layout]) -> Layout:
    """The layout of a value, which may be one piece."""
    if value in layouts:
        return layouts[value]
    shape = lengths(value)
    return [_all_of(value, shape)]


def _all_of(value: Value, shape: tuple[int, ...]) -> Piece:
    """A value as the only piece of an array of a shape."""
    return Piece(whole(shape), value, shape, (0,) * len(shape), (False,) * len(shape))


def _number(value: Value, box: Box) -> Piece:
    """A box full of one number."""
    return Piece(box, value, (), (), ())


def _concatenated(node: Node, layouts: dict[Value, Layout]) -> Layout | None:
    (result,) = node.results
    axis, at = node.params["axis"], 0
    found: Layout = []
    for x in node.operands:
        if x.dtype != result.dtype:
            return None
        length = lengths(x)[axis]
        if length:
            found += moved(_of(x, layouts), [at if i == axis else 0 for i in range(result.ndim)])
        at += length
    return found


def _stacked(node: Node, layouts: dict[Value, Layout]) -> Layout | None:
    (result,) = node.results
    axis = node.params["axis"]
    if any(x.dtype != result.dtype or not x.ndim for x in node.operands):
        return None
    found: Layout = []
    for i, x in enumerate(node.operands):
        shape = (*lengths(x)[:axis], 1, *lengths(x)[axis:])
        found += moved([_all_of(x, shape)], [i if k == axis else 0 for k in range(result.ndim)])
    return found


def _same(node: Node, layouts: dict[Value, Layout]) -> Layout | None:
    (x,) = node.operands
    (result,) = node.results
    return layouts.get(x) if x.shape == result.shape and x.dtype == result.dtype else None


def _cut(node: Node, layouts: dict[Value, Layout]) -> Layout | None:
    x = node.operands[0]
    found = place(node) if x in layouts else None
    if found is None or any(found[1]):
        return None
    box, _ = found
    return moved(clipped(layouts[x], box), [-low for low, _ in box])


def _written(node: Node, layouts: dict[Value, Layout]) -> Layout | None:
    base = node.operands[0]
    under = layouts.get(base) or _filled(base)
    found = None if under is None else place(node)
    within = None if found is None else _spread(node.operands[1], base.dtype, *found, layouts)
    if under is None or found is None or within is None:
        return None
    return [*(rest for piece in under for rest in _without(piece, found[0])), *within]


def is_filled(value: Value) -> bool:
    """Whether a value is a large array that is known to be one number everywhere."""
    if not isinstance(value, Literal) or not isinstance(value.content, np.ndarray) or value.content.size < SMALLEST:
        return False
    return is_uniform(value.content)


def _filled(base: Value) -> Layout | None:
    """The layout of an array that is one number everywhere."""
    if not isinstance(base, Literal) or not is_filled(base):
        return None
    return [_number(Literal(base.content.reshape(-1)[0]), whole(lengths(base)))]


def _spread(
    value: Value, dtype: np.dtype[Any], box: Box, alone: Sequence[bool], layouts: dict[Value, Layout]
) -> Layout | None:
    """The layout of a box into which a value is written, which may be repeated along axes."""
    if not value.ndim:
        number = _converted(value, dtype)
        return None if number is None else [_number(number, box)]
    axes = [i for i, one in enumerate(alone) if not one]
    if value.dtype != dtype or value.ndim > len(axes):
        return None
    shape = [1] * len(box)
    for i, n in zip(axes[::-1], lengths(value)[::-1], strict=False):
        shape[i] = n
    again = [n == 1 != high - low for n, (low, high) in zip(shape, box, strict=True)]
    if any(n != high - low and not one for n, (low, high), one in zip(shape, box, again, strict=True)):
        return None
    layout = layouts.get(value) if value.ndim == len(box) else None
    return [_widened(piece, box, again) for piece in layout or [_all_of(value, tuple(shape))]]


def _widened(piece: Piece, box: Box, again: Sequence[bool]) -> Piece:
    """A piece of what fills a box, repeated along some axes, as a piece of the array in which the box is."""
    sides = tuple(
        there if one else (i + there[0], j + there[0]) for (i, j), there, one in zip(piece.box, box, again, strict=True)
    )
    return piece._replace(box=sides, repeated=tuple(a or b for a, b in zip(piece.repeated, again, strict=False)))


def _converted(value: Value, dtype: np.dtype[Any]) -> Value | None:
    """A number as one of another type, if it is none that changes."""
    if value.dtype == dtype:
        return value
    if not isinstance(value, Literal):
        return None
    content = np.asarray(value.content)
    with np.errstate(all="ignore"):
        found = content.astype(dtype) if dtype.kind == "c" or content.dtype.kind in "biuf" else None
    if found is None or (content.dtype.kind in "iu" and found != content):
        return None
    return Literal(found[()])


def _without(piece: Piece, box: Box) -> Iterator[Piece]:
    """What is left of a piece outside of a box: in front of it and behind it, axis by axis."""
    common = overlap(piece.box, box)
    if common is None:
        yield piece
        return
    rest = list(piece.box)
    for axis, (low, high) in enumerate(common):
        first, last = rest[axis]
        for side in ((first, low), (high, last)):
            if side[0] < side[1]:
                yield from clipped([piece], (*rest[:axis], side, *rest[axis + 1 :]))
        rest[axis] = (low, high)


_MAKERS = {
    "concatenate": _concatenated,
    "copy": _same,
    "getitem": _cut,
    "reshape": _same,
    "setitem": _written,
    "stack": _stacked,
    "stop_gradient": _same,
}

PUT_TOGETHER = frozenset(_MAKERS)
"""The operations whose results may have layouts."""
