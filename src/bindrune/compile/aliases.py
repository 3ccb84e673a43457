"""Arrays that several places show: Python lets them share one, while in a graph each place has a value of its own.

That makes no difference until one of them is written.  So a loop whose body writes through a place is refused where
another place may show the same array, now or in a later step.  It is not where the array is *private*: where nothing
but that place refers to it, as Python's reference counts tell.  Buffers that change places (``u, v = v, u``) are.

What a statement leaves in a place may be an array that was there before.  From then on both are *shared*: they may be
read, and a function that writes to one is not staged.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.handler import HOST
from ..graph.dims import Unstageable
from ..graph.graph import ARRAY
from .places import NOTHING, Content, Place, Variable
from .staging import type_of_cell
from .world import World

__all__ = ["Aliases", "SharedWriteFound", "Sharing", "arrays_in", "private_arrays"]


_COPY = "Copy one of them (x.copy())"


class SharedWriteFound(Unstageable):
    """What was staged writes to an array that another place may show too."""


class Sharing:
    """Arrays that places may share without being known to: what statements left in places, and what was there before.

    Args:
        strict: whether statements that leave such arrays are refused at once.
    """

    __slots__ = ("cells", "ordered", "strict")

    def __init__(self, strict: bool = False) -> None:
        self.cells: list[tuple[Array, int]] = []
        self.ordered = False
        """Whether arguments are taken to be in C's order (`compile.layouts`)."""
        self.strict = strict

    def expect(self, places: set[Place]) -> None:
        """A statement is going to leave such arrays in some places."""
        if self.strict and places:
            raise Unstageable("an array that it leaves may be another one, and is written later", _COPY)

    def add(self, places: set[Place], arrays: Sequence[Array]) -> None:
        """From now on what is in some places, and some arrays, are only read."""
        found = [*arrays, *(array for place in places for array in arrays_in(place.get()))]
        self.cells += [(array, array._version) for array in found]

    def refuse_writes(self) -> None:
        """Refuse what was staged so far where one of them was written."""
        if any(cell._version != version for cell, version in self.cells):
            raise SharedWriteFound("an array is written that another place may show too", _COPY)


class Aliases:
    """Who shows which array when the body of a loop begins, and when it ends.

    Args:
        worlds: what the body reaches, and the statements around it, the innermost last.
        before: by place what the body found there.
        after: by place what it left there.
        temporary: variables that nobody reads after the statement.
        shared: arrays that the body's own statements left in places and which others may show.
        others: what sides of branches around it left.
    """

    def __init__(
        self,
        worlds: Sequence[World],
        before: Mapping[Place, Any],
        after: Mapping[Place, Any],
        temporary: set[str],
        shared: Sequence[Array],
        others: Sequence[Mapping[Place, Any]] = (),
    ) -> None:
        self.worlds = worlds
        self.others = (before, after, *others)
        self.before = {p: v for p, v in before.items() if not isinstance(p, Content)}
        self.after = {p: v for p, v in after.items() if not isinstance(p, Content)}
        self.temporary = temporary
        self.inside = shared
        self.shown = {id(a) for a in (*worlds[-1].arrays, *self.inside)}
        self._private: set[int] | None = None

    def shared(self) -> tuple[set[Place], list[Array]]:
        """The places whose results may be arrays that were there before, or that another place shows too.

        Returns:
            These places, and those arrays from before.
        """
        world = self.worlds[-1]
        roots = {place: {id(a.root) for a in arrays_in(value)} for place, value in self.after.items()}
        count = Counter(root for found in roots.values() for root in found)
        before = {p: {id(a.root) for a in arrays_in(p.get())} for p in self.before}
        owners = {id(cell): place for place, value in self.before.items() for cell in arrays_in(value)}
        sources = {p: {owners[r] for r in found if r in owners} for p, found in roots.items()}
        chosen = {p for p, found in roots.items() if any(r in self.shown or count[r] > 1 for r in found)}
        while True:
            more = {p for p, found in sources.items() if any(q in chosen or not self._is_private(q) for q in found)}
            if more <= chosen:
                break
            chosen |= more
        if any(id(a) in world.written or (id(a) in owners and a._version) for a in self.inside):
            raise Unstageable("the loop writes to an array that another place may show too", _COPY)
        for place, value in self.before.items():
            written = any(a._version for a in arrays_in(value))
            if (
                (written and (place in chosen or not self._is_private(place)))
                or roots[place] & world.written
                or before[place] & world.written
            ):
                what = f"{place.text} may share an array with another place"
                raise Unstageable(f"{what}, and it is written", _COPY)
        shown = set[int]().union(*(roots[p].union(*(before[q] for q in (p, *sources[p]))) for p in chosen))
        return chosen, [a for a in world.arrays if id(a) in shown]

    def _is_private(self, place: Place) -> bool:
        """Whether the arrays that were in a place before the statement are in that place only."""
        if self._private is None:
            self._private = private_arrays(self.worlds, self.temporary, self.others)
        found = place.get()
        return found is NOTHING or all(
            isinstance(leaf, Array) and (id(leaf) in self._private or type_of_cell(leaf).form != ARRAY)
            for leaf in trees.flatten(found)[0]
            if isinstance(leaf, (Array, np.ndarray))
        )


def private_arrays(worlds: Sequence[World], temporary: set[str], others: Sequence[Mapping[Place, Any]]) -> set[int]:
    """The arrays that just one place refers to, of those that somebody looks at after a statement, by identity.

    Args:
        worlds: what the statement reaches, and the statements around it, the innermost last.
        temporary: variables that nobody reads after it.
        others: what else refers to arrays and does not count.
    """
    world = worlds[-1]
    shown = [v.get() for name, v in world.variables.items() if not (isinstance(v, Variable) and name in temporary)]
    shown += world.items()
    live = Counter(map(id, shown))
    del shown
    known = Counter(id(value) for value in _references(worlds, others))
    found = zip(world.arrays, _counts(world.arrays), strict=True)
    return {id(array) for array, count in found if live[id(array)] <= 1 and count == known[id(array)]}


def _references(worlds: Sequence[World], others: Sequence[Mapping[Place, Any]]) -> Iterator[Any]:
    """Every reference to an array that is known of."""
    for world in worlds:
        yield from world.held()
    for variable in worlds[-1].variables.values():
        yield variable.get()
    yield from worlds[-1].items()
    for content in others:
        for value in content.values():
            yield from arrays_in(value)
    contents = {id(place): place for content in others for place in content if isinstance(place, Content)}
    for place in contents.values():
        yield place.array


def arrays_in(value: Any) -> list[Array]:
    """The arrays among the leaves of what a place holds; numbers cannot be written."""
    if value is NOTHING:
        return []
    leaves: Iterable[Any] = (value,) if isinstance(value, Array) else trees.flatten(value)[0]
    return [leaf for leaf in leaves if isinstance(leaf, Array) and type_of_cell(leaf).form == ARRAY]


def _counts(arrays: list[Array]) -> list[int]:
    """How many references there are to each array, those of this function left out."""
    return [sys.getrefcount(array) - _OWN for array in arrays]


_OWN = 0
_OWN = _counts([Array(HOST, 0)])[0] - 1
