"""What a function captures: finding the stand-ins a function reaches through its closure, and replacing them.

A function that runs again later, such as a checkpointed one in the backward pass, must not meet the stand-ins of a
forward pass that has ended, nor variables that have meanwhile been bound to something else.  `Captured` takes a copy
of every closure on its way, finds the stand-ins in closures, defaults, partials, containers and the attributes of
objects, and makes the same contents over other values.

Containers and objects are copied only where they lead to a stand-in.  What a function then changes in such a copy would
be lost: `Copies.are_changed` tells.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.handler import Handler
from ..lift.reach import is_liftable
from ..lift.session import Namespace, Session, assigned_names
from .calls import Transformed

__all__ = ["Captured", "Copies"]

_NOTHING_INSIDE = (np.ndarray, np.generic, int, float, complex, str, bytes, type(None), type, types.ModuleType)


class Captured:
    """The stand-ins that something captures: `cells` lists them, `over` replaces them."""

    __slots__ = ("cells", "contents", "leading")

    def __init__(self, contents: Any) -> None:
        cells, leading = _explore(contents)
        self.contents = Copies(contents, leading, {id(cell): cell for cell in cells}, closures=True).contents
        self.cells, self.leading = _explore(self.contents) if cells else ([], set())

    def over(self, values: Sequence[Any]) -> Copies:
        """The contents with other values in place of the captured cells."""
        known = {id(cell): value for cell, value in zip(self.cells, values, strict=True)}
        return Copies(self.contents, self.leading, known)


def _explore(contents: Any) -> tuple[list[Array], set[int]]:
    """The stand-ins in something, and the ids of all that leads to one."""
    cells: dict[int, Array] = {}
    holders: dict[int, list[int]] = {}
    seen = {id(contents)}
    waiting = [contents]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Array):
            if value.root._handler.ended is not None:
                cells[id(value)] = value
            continue
        for part in _parts(value):
            if isinstance(part, _NOTHING_INSIDE):
                continue
            holders.setdefault(id(part), []).append(id(value))
            if id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)
    leading: set[int] = set()
    ways = list(cells)
    while ways:
        for holder in holders.get(ways.pop(), ()):
            if holder not in leading:
                leading.add(holder)
                ways.append(holder)
    return list(cells.values()), leading


def _parts(value: Any) -> Sequence[Any]:
    """What a value holds that a function may reach through it."""
    if isinstance(value, types.FunctionType):
        contents = [cell.cell_contents for cell in _read_cells(value) if _is_set(cell)]
        return [*contents, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, (Handler, Session, Namespace, Captured, Copies)):
        return ()
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, dict):
        return list(value.values())
    return [attribute for _, attribute in _attributes(value)]


def _read_cells(function: types.FunctionType) -> Sequence[types.CellType]:
    """The closure cells that a function only reads; one that it assigns is shared with others."""
    closure = function.__closure__
    if not closure:
        return ()
    assigned = assigned_names(function.__code__)
    return [cell for name, cell in zip(function.__code__.co_freevars, closure, strict=True) if name not in assigned]


def _is_set(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object, as they are stored."""
    if type(value).__dictoffset__:
        yield from object.__getattribute__(value, "__dict__").items()
    for kind in type(value).__mro__:
        if "__slots__" in kind.__dict__:
            for name, slot in kind.__dict__.items():
                if isinstance(slot, types.MemberDescriptorType) and _is_filled(slot, value):
                    yield name, slot.__get__(value)


def _blank(value: Any) -> Any:
    """A new object of the same class."""
    try:
        return object.__new__(type(value))
    except TypeError:
        return copy.copy(value)


def _is_filled(slot: types.MemberDescriptorType, value: Any) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True


class Copies:
    """Contents in which some things are replaced, and what holds them is copied.

    With `closures`, functions are copied whether they lead to a stand-in or not: their variables may be bound anew.
    """

    __slots__ = ("_closures", "_known", "_leading", "_made", "contents")

    def __init__(self, contents: Any, leading: set[int], known: dict[int, Any], closures: bool = False) -> None:
        self._leading = leading
        self._known = known
        self._closures = closures
        self._made: list[tuple[Any, list[Any]]] = []
        self.contents = self._copy(contents) if leading or closures else contents

    def are_changed(self) -> bool:
        """Whether a container or an object was changed after it had been copied."""
        return any(
            len(parts) != len(now) or any(a is not b for a, b in zip(parts, now, strict=True))
            for made, parts in self._made
            for now in [_parts(made)]
        )

    def _copy(self, value: Any) -> Any:
        known = self._known
        if id(value) in known:
            return known[id(value)]
        if isinstance(value, types.FunctionType):
            return self._copy_function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(self._copy(value.__func__), self._copy(value.__self__))
        if isinstance(value, functools.partial):
            keywords = {k: self._copy(v) for k, v in value.keywords.items()}
            return functools.partial(self._copy(value.func), *map(self._copy, value.args), **keywords)
        if type(value) is tuple:
            return tuple(map(self._copy, value))
        if id(value) not in self._leading and not (self._closures and isinstance(value, Transformed)):
            return value
        if isinstance(value, tuple):
            parts = map(self._copy, value)
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        made: Any
        if isinstance(value, list):
            made = known[id(value)] = copy.copy(value)
            made[:] = map(self._copy, value)
        elif isinstance(value, dict):
            made = known[id(value)] = copy.copy(value)
            made.update((k, self._copy(v)) for k, v in value.items())
        else:
            made = known[id(value)] = _blank(value)
            for name, attribute in _attributes(value):
                object.__setattr__(made, name, self._copy(attribute))
            if isinstance(value, Transformed):
                made.session = None
                return made
        self._made.append((made, list(_parts(made))))
        return made

    def _copy_function(self, function: types.FunctionType) -> types.FunctionType:
        if id(function) not in self._leading and not (
            self._closures and function.__closure__ and is_liftable(function.__globals__)
        ):
            return function
        read = {id(cell): types.CellType() for cell in _read_cells(function)}
        closure = tuple(read.get(id(cell), cell) for cell in function.__closure__ or ())
        made = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, None, closure if function.__closure__ else None
        )
        self._known[id(function)] = made
        for cell in function.__closure__ or ():
            if id(cell) in read and _is_set(cell):
                read[id(cell)].cell_contents = self._copy(cell.cell_contents)
        if function.__defaults__:
            made.__defaults__ = tuple(map(self._copy, function.__defaults__))
        if function.__kwdefaults__:
            made.__kwdefaults__ = {k: self._copy(v) for k, v in function.__kwdefaults__.items()}
        made.__qualname__ = function.__qualname__
        made.__dict__.update(function.__dict__)
        return made
