"""What a body reaches: variables, arrays, containers and objects.

A `World` is entered with placeholders in the places that are carried, every followed array being a captured value of
the region; it tells what has changed; and it is left as it was.
"""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core import trees
from ..core.array import Array, View
from ..core.handler import HOST, Handler
from ..graph.dims import Unstageable
from ..lift.session import Namespace, Session, assigned_names
from .places import (
    ATOMS,
    NOTHING,
    Attribute,
    Content,
    Global,
    Item,
    Place,
    Variable,
    contents_of,
    identity,
    moves_on,
    refill,
    same_contents,
)
from .staging import Staging
from .tails import Last, Tail

__all__ = ["World"]


class World:
    """What some functions reach, and the variables they share."""

    def __init__(self, names: Sequence[str], functions: Sequence[Any], met: Any = None) -> None:
        self.variables: dict[str, Variable | Global] = {}
        for function in functions:
            if isinstance(function, types.FunctionType):
                for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                    if name in names:
                        self.variables.setdefault(name, Variable(name, cell))
        self.assigned: set[str] = set()
        """The variables that a body has given another value."""
        self.written: set[int] = set()
        """The arrays that a body has written, by identity."""
        self.count: int | None = None
        """How many steps a loop has whose body this is, where that is known."""
        self.arrays: list[Array] = []
        self.views: list[View] = []
        self.containers: dict[int, Any] = {}
        self._saved: list[tuple[Array, Handler, Any, Any, int]] = []
        self._before: dict[str, Any] = {}
        self._entered: dict[str, Any] = {}
        self._placeholders: Mapping[Place, Any] = {}
        self._versions: dict[int, int] = {}
        self._contents: list[tuple[Any, Any]] = []
        self._functions = functions
        self._met: Any = NOTHING
        self.explore(met)

    def explore(self, met: Any) -> None:
        """Look for everything that is reached, unless as much has been met as when that was done before."""
        if met == self._met:
            return
        self._met = met
        self.arrays, self.views, self.containers = [], [], {}
        for function in self._functions:
            globals_ = getattr(function, "__globals__", None)
            for view in globals_.session.views.values() if isinstance(globals_, Namespace) else ():
                for name in view.stored:
                    self.variables.setdefault(f"global {id(view)} {name}", Global(view, name))
        seen: set[int] = set()
        waiting: list[Any] = [f for f in self._functions if f is not None]
        while waiting:
            value = waiting.pop()
            if id(value) in seen or isinstance(value, ATOMS):
                continue
            seen.add(id(value))
            if moves_on(value):
                raise Unstageable(
                    f"a {type(value).__name__} is used that moves on", "Index an array with the step's number"
                )
            if isinstance(value, View):
                self.views.append(value)
                waiting += [value._base, *value._operands]
            elif isinstance(value, Array):
                self.arrays.append(value)
            else:
                contents = contents_of(value)
                if contents is not None:
                    self.containers[identity(value)] = value
                if isinstance(value, types.FunctionType):
                    self._share(value)
                waiting += _parts(value)

    def _share(self, function: types.FunctionType) -> None:
        """Follow the variables of functions around that a function assigns."""
        own = {id(v.cell) for v in self.variables.values() if isinstance(v, Variable)}
        assigned = assigned_names(function.__code__) if function.__closure__ else ()
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name in assigned and id(cell) not in own:
                self.variables[f"shared {id(cell)}"] = Variable(name, cell)

    # ---------------------------------------------------------------------------------------------- in and out

    def enter(self, stage: Staging, placeholders: Mapping[Place, Any], forgotten: set[str]) -> None:
        """Put placeholders where they belong, make followed arrays captured ones, and take out the forgotten."""
        self._saved = [(a, a._handler, a._value, a._mark, a._version) for a in self.arrays]
        self._before = {name: v.get() for name, v in self.variables.items()}
        self._contents = [(c, contents_of(c).copy()) for c in self.containers.values()]
        for view in self.views:
            view._content = None
        for place, content in placeholders.items():
            if isinstance(place, Content):
                array = place.array
                array._handler, array._value, array._mark = stage, content._value, None
        carried = {id(p.array) for p in placeholders if isinstance(p, Content)}
        for array, handler, *_ in self._saved:
            if handler is not HOST and id(array) not in carried:
                value = stage.hold(array)
                array._handler, array._value, array._mark = stage, value, None
        self._versions = {id(a): a._version for a in self.arrays}
        self.written, self.assigned = set(), set()
        self._placeholders = placeholders
        for place, content in sorted(placeholders.items(), key=lambda pair: isinstance(pair[0], Last)):
            if not isinstance(place, Content):
                place.set(content)
        for name in forgotten:
            self.forget(name)
        self._entered = {name: v.get() for name, v in self.variables.items()}

    def forget(self, name: str) -> None:
        """Leave a variable without a value."""
        if name in self.variables:
            self.variables[name].set(NOTHING)

    def changes(self, placeholders: Mapping[Place, Any], temporary: set[str]) -> dict[Place, Any]:
        """By place what a body has left there, where that is something else; what was carried is always there."""
        found: dict[Place, Any] = {place: _now(place, content) for place, content in placeholders.items()}
        for name, variable in self.variables.items():
            now = variable.get()
            if now is self._entered[name]:
                continue
            self.assigned.add(name)
            if name not in temporary:
                if now is NOTHING:
                    raise Unstageable(f"{variable.text} is deleted", "Leave it, or delete it after the statement")
                found[variable] = now
        for array in self.arrays:
            if array._version != self._versions[id(array)]:
                self.written.add(id(array))
                if Content(array) not in found:
                    found[Content(array)] = array.snapshot()
        for container, before in self._contents:
            contents = contents_of(container)
            if same_contents(contents, before) or (type(contents) is list and Tail(contents) in placeholders):
                continue
            if _has_grown(contents, before) and self.count is not None:
                found[Tail(contents, self.count)] = contents[len(before) :]
                continue
            if isinstance(contents, set) or len(contents) != len(before):
                raise Unstageable(
                    f"a {type(container).__name__} grows or shrinks", "Write into an array, or make its items before"
                )
            for index in contents if isinstance(contents, dict) else range(len(contents)):
                place: Place = Item(container, index)
                if contents is not container:
                    place = Attribute(container, str(index))
                if place not in found and contents[index] is not _at(before, index):
                    found[place] = contents[index]
        return found

    def items(self) -> Iterator[Any]:
        """The items and attributes that are reached."""
        for container in self.containers.values():
            contents = contents_of(container)
            yield from contents.values() if isinstance(contents, dict) else contents

    def held(self) -> Iterator[Any]:
        """What the world itself refers to."""
        yield from self.arrays
        yield from (array for array, *_ in self._saved)
        yield from self._before.values()
        yield from self._entered.values()
        for content in self._placeholders.values():
            yield from trees.flatten(content)[0]
        for _, contents in self._contents:
            yield from contents.values() if isinstance(contents, dict) else contents

    def leave(self) -> None:
        """Put everything back."""
        for container, before in self._contents:
            contents = contents_of(container)
            if not same_contents(contents, before):
                refill(contents, before)
        for name, value in self._before.items():
            self.variables[name].set(value)
        for array, handler, value, mark, version in self._saved:
            array._handler, array._value, array._mark, array._version = handler, value, mark, version
        for view in self.views:
            view._content = None
        self._saved, self._contents = [], []
        self._before, self._entered, self._placeholders = {}, {}, {}


def _has_grown(contents: Any, before: Any) -> bool:
    return type(contents) is list and len(contents) > len(before) and same_contents(contents[: len(before)], before)


def _now(place: Place, content: Any) -> Any:
    if isinstance(place, Tail):
        return place.appended()
    if isinstance(place, Content):
        return place.array.snapshot()
    return place.get()


def _at(before: Any, index: Any) -> Any:
    try:
        return before[index]
    except (KeyError, IndexError):
        return NOTHING


def _parts(value: Any) -> Iterator[Any]:
    """What a value holds that a function may reach through it."""
    if isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:
                continue
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
        if isinstance(value.__globals__, Namespace):
            yield value.__globals__.session
    elif isinstance(value, Session):
        for _, lifted in (*value.known.values(), *value.passing.values()):
            yield lifted
    elif isinstance(value, types.MethodType):
        yield value.__func__
        yield value.__self__
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    else:
        yield from getattr(value, "__dict__", {}).values()
        for kind in type(value).__mro__:
            for slot in kind.__dict__.values() if "__slots__" in kind.__dict__ else ():
                if isinstance(slot, types.MemberDescriptorType):
                    try:
                        yield slot.__get__(value)
                    except AttributeError:
                        continue
