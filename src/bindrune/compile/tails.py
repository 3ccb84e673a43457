"""Lists that a staged loop appends to: the items of all steps are rows of arrays, by which it is extended afterwards.

While the body is staged the list is *hidden*: what it held before the loop, and how long it is, differs from step to
step, so whoever looks is refused.  The last item alone may be looked at; it is carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..core import trees
from ..core.array import Array
from ..graph.dims import Unstageable
from ..graph.graph import ARRAY, Type
from ..lift.stager import Hidden
from ..ops.rows import consecutive, row
from .places import NOTHING, Place
from .staging import type_of_cell

__all__ = ["Last", "LastRead", "Tail", "taken_apart"]


class _Structure(NamedTuple):
    """How items are put together of rows.

    Attributes:
        tree: the structure of the tree they are.
        orders: the keys of dicts in it.
        lists: for each leaf that is a list of rows in turn, what its items are.
    """

    tree: Any
    orders: tuple[Any, ...]
    lists: tuple[Any, ...]

    def build(self, rows: Sequence[Array]) -> Any:
        """The items of one step."""
        return trees.unflatten(self.tree, [_listed(r, t) if t else r for r, t in zip(rows, self.lists, strict=True)])


def _listed(array: Array, of: tuple[Any, ...]) -> list[Any]:
    shape, dtype, form, inner = of
    found = [row(array, i, shape, dtype, form) for i in range(array.shape[0])]
    return [_listed(v, inner) for v in found] if inner else found


def taken_apart(items: Any) -> tuple[list[Any], _Structure]:
    """The numeric leaves of items, lists of the rows of an array taken as that array."""
    found, tree = trees.flatten_nodes(
        items, lambda v: v is not items and type(v) is list and consecutive(v) is not None
    )
    lists = tuple(_kind_of(v) if type(v) is list else None for v in found)
    return [consecutive(v) if type(v) is list else v for v in found], _Structure(tree, trees.key_orders(items), lists)


def _kind_of(items: list[Any]) -> tuple[Any, ...]:
    """What the items of a list of rows are."""
    first = items[0]
    if type(first) is list:
        inner = consecutive(first)
        assert inner is not None
        return inner.shape, inner.dtype, ARRAY, _kind_of(first)
    return (*type_of_cell(first), None)


_BESIDE = "Keep it in a variable beside the list"


class LastRead(Unstageable):
    """The last item was looked at of a list that a loop appends to.

    Attributes:
        items: the list.
    """

    def __init__(self, items: list[Any]) -> None:
        super().__init__("an item is read of a list that the loop appends to", _BESIDE)
        self.items = items


class Tail(Place):
    """The items that a loop appends to a list."""

    __slots__ = ("_hidden", "_made", "count", "items")

    def __init__(self, items: list[Any], count: int = 0) -> None:
        self.items = items
        self.count = count
        self._hidden: list[Any] = []
        self._made: list[Array] = []

    @property
    def text(self) -> str:
        return "a list that the loop appends to"

    def get(self) -> Any:
        return self._made or NOTHING

    def set(self, value: Any) -> None:
        """Hide what the list holds."""

        def refuse_last() -> None:
            raise LastRead(self.items)

        def refuse() -> None:
            raise Unstageable("an item is read of a list that the loop appends to", _BESIDE)

        # One more than there are, so that the first item is told from the last.
        self._hidden = [Hidden(refuse) for _ in self.items] + [Hidden(refuse_last)]
        self.items[:] = self._hidden

    def appended(self) -> list[Any]:
        """What was appended since it was hidden."""
        count = len(self._hidden)
        kept = self.items[: count - 1]
        if len(self.items) < count or any(a is not b for a, b in zip(kept, self._hidden, strict=False)):
            raise Unstageable(
                "a list changes other than by what is appended to it", "Write into an array of its final length"
            )
        return self.items[count:]

    def extend(self, structure: _Structure, arrays: Sequence[Array], types: Sequence[Type]) -> None:
        """Append all steps' items, which are rows of some arrays."""
        self._made = list(arrays)
        for step in range(self.count):
            self.items += structure.build(
                [row(a, step, t.shape, t.dtype, t.form) for a, t in zip(arrays, types, strict=True)]
            )

    def key(self) -> Any:
        return ("tail", id(self.items))


class Last(Place):
    """The last item of a list that a loop appends to."""

    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    @property
    def text(self) -> str:
        return "the last item of a list that the loop appends to"

    def get(self) -> Any:
        return self.items[-1] if self.items else NOTHING

    def set(self, value: Any) -> None:
        self.items[-1] = value

    def key(self) -> Any:
        return ("last", id(self.items))
