"""What a staged function changes beside its results: containers, objects and variables of its caller's.

While the function is staged it changes them as plain Python would.  Each is remembered as it was when it was first
seen; afterwards the differences are taken down as places with new contents, everything is put back, and each run of the
graph makes the changes again.  What belongs to an argument is told by the way there, because the next call has other
arguments.

What the function made itself was not seen before, and is no change by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np

from ..core.array import Array
from .places import (
    NOTHING,
    Attribute,
    Item,
    Member,
    Place,
    Variable,
    Whole,
    contents_of,
    identity,
    refill,
    same_contents,
)

__all__ = ["Change", "Changes", "Way", "duplicated"]


class Way:
    """How to come from the arguments of a call to something in them."""

    __slots__ = ("steps",)

    def __init__(self, *steps: Any) -> None:
        self.steps = steps

    def then(self, step: Any) -> Way:
        """One step further."""
        return Way(*self.steps, step)

    def follow(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> Any:
        """What is there in one call."""
        first, *rest = self.steps
        found = arguments[first] if isinstance(first, int) else keywords[first]
        for step in rest:
            found = getattr(found, step.name) if isinstance(step, _Named) else found[step]
        return found


class _Named:
    """The step to an attribute."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Change:
    """A place whose content is another after the call.

    Attributes:
        place: it, unless it belongs to an argument.
        way: to the argument that it belongs to.
        value: what is there, as cells.
    """

    __slots__ = ("place", "value", "way")

    def __init__(self, place: Place, value: Any, way: Way | None = None) -> None:
        self.place = place
        self.value = value
        self.way = way

    def locate(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> Place:
        """The place in one call."""
        return self.place if self.way is None else self.place.moved(self.way.follow(arguments, keywords))


class Changes:
    """What there was before, and where."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, Any, Any]] = {}
        """Containers and objects, what they held, and what the function finds in them."""
        self._ways: dict[int, Way] = {}
        self._kinds: dict[type | ModuleType, dict[str, Any]] = {}
        self._variables: dict[int, tuple[str, CellType, CellType, Any]] = {}

    # ------------------------------------------------------------------------------------------ before it changes

    def see(self, container: Any, shown: Mapping[str, Any] | None = None) -> None:
        """A container or an object of the caller's, before the function changes it; some of it is shown otherwise."""
        if isinstance(container, (type, ModuleType)):
            self._kinds.setdefault(container, dict(vars(container)))
            return
        contents = contents_of(container)
        if contents is not None and identity(container) not in self._seen:
            before = contents.copy()
            if shown:
                contents.update(shown)
            self._seen[identity(container)] = (container, before, contents.copy())

    def count(self) -> int:
        """How much was seen so far."""
        return len(self._seen)

    def rewind(self, count: int) -> None:
        """Put back what was in everything that was seen after so much."""
        for container, _, before in [*self._seen.values()][count:]:
            contents = contents_of(container)
            if not same_contents(contents, before):
                refill(contents, before)

    def see_arguments(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> None:
        """Containers and objects among the arguments as the function gets them."""
        waiting = [(Way(place), value) for place, value in (*enumerate(arguments), *keywords.items())]
        while waiting:
            way, value = waiting.pop()
            contents = contents_of(value)
            if contents is not None:
                if identity(value) in self._ways:
                    continue
                self.see(value)
                self._ways[identity(value)] = way
            waiting += [(way.then(step), part) for step, part in _parts(value, contents)]

    def variable(self, name: str, cell: CellType, lift: Callable[[Any], Any]) -> CellType:
        """The twin of a variable that functions share and assign, which holds what is lifted."""
        known = self._variables.get(id(cell))
        if known is None:
            twin, content = CellType(), Variable(name, cell).get()
            if content is not NOTHING:
                content = twin.cell_contents = lift(content)
            known = self._variables[id(cell)] = (name, cell, twin, content)
        return known[2]

    def is_own(self, owner: Any, name: str, value: Any) -> bool:
        """Whether an attribute was put there by the function itself."""
        seen = self._seen.get(identity(owner))
        return seen is not None and seen[2].get(name, NOTHING) is not value

    # -------------------------------------------------------------------------------------------------- afterwards

    def found(self, session: Any) -> list[Change]:
        """Everything that is no longer as it was."""
        found: list[Change] = []
        for container, _, before in self._seen.values():
            contents, owner = contents_of(container), session.lower(container)
            way = self._ways.get(identity(container))
            if contents is container:
                if not same_contents(contents, before):
                    found.append(Change(Whole(owner), contents.copy(), way))
                continue
            found += [
                Change(Attribute(owner, name), contents.get(name, NOTHING), way)
                for name in {**before, **contents}
                if contents.get(name, NOTHING) is not before.get(name, NOTHING)
            ]
        for kind, members in self._kinds.items():
            found += [
                Change(Member(kind, name), vars(kind).get(name, NOTHING))
                for name in {**members, **vars(kind)}
                if vars(kind).get(name, NOTHING) is not members.get(name, NOTHING)
            ]
        for name, cell, twin, before in self._variables.values():
            now = Variable(name, twin).get()
            if now is not before:
                found.append(Change(Variable(name, cell), now))
        for view in session.views.values():
            for name in view.stored & (view.keys() | view.witnesses.keys()):
                now = dict.get(view, name, NOTHING)
                if session.lower(now) is not view.witnesses.get(name, NOTHING):
                    found.append(Change(Item(view.real, name), now))
        return found

    def restore(self) -> None:
        """Put back what was there: each run makes the changes again."""
        for container, before, _ in self._seen.values():
            contents = contents_of(container)
            if not same_contents(contents, before):
                refill(contents, before)
        for kind, members in self._kinds.items():
            for name in {**members, **vars(kind)}:
                if vars(kind).get(name, NOTHING) is not members.get(name, NOTHING):
                    Member(kind, name).set(members.get(name, NOTHING))


def duplicated(arguments: Sequence[Any], keywords: dict[str, Any]) -> bool:
    """Whether a container or an object stands at several places among arguments."""
    seen: set[int] = set()
    waiting = [*arguments, *keywords.values()]
    while waiting:
        value = waiting.pop()
        contents = contents_of(value)
        if contents is not None:
            if identity(value) in seen:
                return True
            seen.add(identity(value))
        waiting += [part for _, part in _parts(value, contents)]
    return False


def _parts(value: Any, contents: Any) -> Iterator[tuple[Any, Any]]:
    """What is in an argument, with the step that leads there."""
    if isinstance(value, (Array, *_ATOMS)):
        return
    if isinstance(value, (list, tuple, deque)):
        yield from enumerate(value)
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(contents, dict):
        yield from ((_Named(name), part) for name, part in contents.items())


_ATOMS = (np.ndarray, np.generic, int, float, complex, str, bytes, type(None), type, ModuleType, FunctionType)
