"""What a rewritten `for` goes through: a length and the item at each place, where iterators would only give items.

``range``, ``enumerate``, ``zip`` and ``reversed`` over arrays and each other are described by `Items`, so that the loop
may be staged with the place as its variable, and so that bounds may be traced.  Everything else is iterated as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core.array import Array, concrete
from ..core.operation import registry
from ..graph.dims import Dim, hooks
from ..ops.rows import consecutive, form_of_row

__all__ = ["Items", "items_of"]


class Items:
    """Something of a length, with an item at each place.

    Attributes:
        count: the length: a number, or a stand-in of one.
        at: the item at a place, which may be a stand-in.
        plain: makes the iterator that Python would go through.
    """

    __slots__ = ("at", "count", "plain")

    def __init__(self, count: Any, at: Callable[[Any], Any], plain: Callable[[], Iterator[Any]]) -> None:
        self.count = count
        self.at = at
        self.plain = plain

    def __iter__(self) -> Iterator[Any]:
        return self.plain()

    def __len__(self) -> int:
        return int(concrete(self.count))


def items_of(iterable: Any) -> Items | None:
    """The items of something with places; None for what can only be iterated."""
    if isinstance(iterable, Items):
        return iterable
    if isinstance(iterable, range):
        return _range(iterable.start, iterable.stop, iterable.step)
    if isinstance(iterable, (Array, np.ndarray)) and np.ndim(iterable):
        length = iterable.shape[0]
        count = hooks.number(length) if isinstance(length, Dim) else length
        return Items(count, lambda place: iterable[place], lambda: iter(iterable))
    if isinstance(iterable, list):
        return _rows(iterable)
    return None


def _rows(items: list[Any]) -> Items | None:
    """A list of the rows of an array."""
    array = consecutive(items)
    if array is None:
        return None
    form = form_of_row(items[0])

    def at(place: Any) -> Any:
        return array[place] if form is None else registry["convert"](array[place], **form)

    return Items(len(items), at, lambda: iter(items))


def _range(*bounds: Any) -> Items:
    start, stop, step = (0, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1) if len(bounds) == 2 else bounds
    start, stop, step = (hooks.number(b) if isinstance(b, Dim) else b for b in (start, stop, step))
    if any(isinstance(b, Array) for b in (start, stop, step)):
        found = (stop - start + step - (np.sign(step) if isinstance(step, Array) else 1 if step > 0 else -1)) // step
        count = np.maximum(found, 0) if isinstance(found, Array) else max(found, 0)
    else:
        count = len(range(start, stop, step))

    def plain() -> Iterator[Any]:
        return iter(range(*(int(concrete(b)) for b in (start, stop, step))))

    def at(place: Any) -> Any:
        stride = place if type(step) is int and step == 1 else place * step
        return stride if type(start) is int and start == 0 else start + stride

    return Items(count, at, plain)


def _described(function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Items | None:
    """The items of a call of one of the builtins that make iterators."""
    if function is range:
        return _range(*arguments) if not keywords and any(isinstance(a, (Array, Dim)) for a in arguments) else None
    parts = [items_of(a) for a in arguments[: 1 if function is enumerate else None]]
    if not parts or any(p is None for p in parts):
        return None
    known = [p for p in parts if p is not None]
    if function is enumerate:
        start = keywords.get("start", arguments[1] if len(arguments) > 1 else 0)
        (inner,) = known
        return Items(inner.count, lambda i: (start + i, inner.at(i)), lambda: enumerate(inner, start))
    if function is reversed:
        (inner,) = known
        return Items(inner.count, lambda i: inner.at(inner.count - 1 - i), lambda: reversed(list(inner)))
    counts = [p.count for p in known]
    if any(isinstance(n, Array) for n in counts) or (keywords.get("strict") and len(set(counts)) > 1):
        return None
    count = min(counts)
    return Items(count, lambda i: tuple(p.at(i) for p in known), lambda: zip(*known))  # noqa: B905


def iterating(function: Any, *arguments: Any, **keywords: Any) -> Any:
    """A call of what may be one of the builtins that make iterators, as something to go through."""
    if function in (range, enumerate, zip, reversed):
        described = _described(function, arguments, keywords)
        if described is not None:
            return described
    return function(*arguments, **keywords)
