"""What a function captures: finding the stand-ins a function reaches through its closure, and replacing them.

A function that runs again later, such as a checkpointed one in the backward pass, must not meet the stand-ins of a
forward pass that has ended, nor variables that have meanwhile been bound to something else.  `Captured` takes a copy
of every closure on its way, finds the stand-ins in closures, defaults, partials, containers and the attributes of
objects, and makes the same contents over other values.

It does so at each call, because what variables, containers and objects hold may have changed.  Where to look does not
change: it is worked out once for each code object and class.

Containers and objects are copied only where they lead to a stand-in.  What a function then changes in such a copy would
be lost: `Copies.are_changed` tells.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..core.array import Array
from ..core.handler import Handler
from ..lift.reach import is_liftable, is_set
from ..lift.session import Namespace, Session, assigned_names
from .calls import Transformed
from .reverse import Reverse

__all__ = ["Captured", "Copies"]


class Captured:
    """The stand-ins that something captures: `cells` lists them, `over` replaces them."""

    __slots__ = ("_leading", "cells", "contents")

    def __init__(self, contents: Any) -> None:
        cells, leading = _explore(contents, closures=True)
        self.contents = Copies(contents, leading, {id(cell): cell for cell in cells}).contents
        self.cells, self._leading = _explore(self.contents) if cells else (cells, set())

    def over(self, values: Sequence[Any]) -> Copies:
        """The contents with other values in place of the captured cells."""
        return Copies(self.contents, self._leading, dict(zip(map(id, self.cells), values, strict=True)))


def _explore(contents: Any, closures: bool = False) -> tuple[list[Array], set[int]]:
    """The stand-ins in something, and the ids of all that leads to one.

    With `closures` also the ids of what leads to a function with a closure, other than through a container or object.
    """
    cells: dict[int, Array] = {}
    functions: list[int] = []
    ways: list[tuple[int, Any]] = []
    seen: set[int] = set()
    waiting: list[tuple[Any, Sequence[Any]]] = [(_NOBODY, (contents,))]
    while waiting:
        holder, parts = waiting.pop()
        for part in parts:
            read = _READERS[type(part)]
            if read is _nothing or not (inside := read(part)):
                continue
            ways.append((id(part), holder))
            if id(part) in seen:
                continue
            seen.add(id(part))
            if read is not _of_stand_in:
                waiting.append((part, inside))
                if read is _of_function and closures and part.__closure__ and is_liftable(part.__globals__):
                    functions.append(id(part))
            elif part.root._handler.ended is not None:
                cells[id(part)] = part
    leading = _leading(cells, ways, object) if cells else set()
    if functions:
        leading.update(functions, _leading(functions, ways, _TRANSPARENT))
    return list(cells.values()), leading


_NOBODY = object()
"""What holds the contents themselves."""

_TRANSPARENT = (types.FunctionType, types.MethodType, functools.partial, tuple, Transformed)
"""What nobody can change, so that a copy in its place makes no difference."""


def _leading(ends: Iterable[int], ways: Iterable[tuple[int, Any]], kinds: Any) -> set[int]:
    """The ids of all holders of some kinds that lead to one of the ends through holders of these kinds."""
    holders: dict[int, list[int]] = {}
    for part, holder in ways:
        if isinstance(holder, kinds):
            holders.setdefault(part, []).append(id(holder))
    leading: set[int] = set()
    waiting = list(ends)
    while waiting:
        for holder in holders.get(waiting.pop(), ()):
            if holder not in leading:
                leading.add(holder)
                waiting.append(holder)
    return leading


class Copies:
    """Contents in which some things are replaced, and what leads to them is copied."""

    __slots__ = ("_known", "_leading", "_made", "contents")

    def __init__(self, contents: Any, leading: set[int], known: dict[int, Any]) -> None:
        self._leading = leading
        self._known = known
        self._made: list[tuple[Any, list[Any]]] = []
        self.contents = self._copy(contents) if leading else contents

    def are_changed(self) -> bool:
        """Whether a container or an object was changed after it had been copied."""
        return any(
            len(parts) != len(now) or any(a is not b for a, b in zip(parts, now, strict=True))
            for made, parts in self._made
            for now in [_READERS[type(made)](made)]
        )

    def _copy(self, value: Any) -> Any:
        known = self._known
        if id(value) in known:
            return known[id(value)]
        if id(value) not in self._leading:
            return value
        if isinstance(value, types.FunctionType):
            return self._copy_function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(self._copy(value.__func__), self._copy(value.__self__))
        if isinstance(value, functools.partial):
            keywords = {k: self._copy(v) for k, v in value.keywords.items()}
            return functools.partial(self._copy(value.func), *map(self._copy, value.args), **keywords)
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
        self._made.append((made, list(_READERS[type(made)](made))))
        return made

    def _copy_function(self, function: types.FunctionType) -> types.FunctionType:
        read = {id(cell): types.CellType() for cell in _read_cells(function)}
        closure = tuple(read.get(id(cell), cell) for cell in function.__closure__ or ())
        made = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, None, closure if function.__closure__ else None
        )
        self._known[id(function)] = made
        for cell in function.__closure__ or ():
            if id(cell) in read and is_set(cell):
                read[id(cell)].cell_contents = self._copy(cell.cell_contents)
        if function.__defaults__:
            made.__defaults__ = tuple(map(self._copy, function.__defaults__))
        if function.__kwdefaults__:
            made.__kwdefaults__ = {k: self._copy(v) for k, v in function.__kwdefaults__.items()}
        made.__qualname__ = function.__qualname__
        made.__dict__.update(function.__dict__)
        return made


def _blank(value: Any) -> Any:
    """A new object of the same class."""
    try:
        return object.__new__(type(value))
    except TypeError:
        return copy.copy(value)


# ------------------------------------------------------------------------------------------------------ where to look

_Reader = Callable[[Any], Sequence[Any]]


def _nothing(value: Any) -> Sequence[Any]:
    return ()


def _of_stand_in(cell: Array) -> Sequence[Any]:
    return (cell,)


def _of_function(function: types.FunctionType) -> Sequence[Any]:
    if not (function.__closure__ or function.__defaults__ or function.__kwdefaults__):
        return ()
    found = [cell.cell_contents for cell in _read_cells(function) if is_set(cell)]
    if function.__defaults__:
        found += function.__defaults__
    if function.__kwdefaults__:
        found += function.__kwdefaults__.values()
    return found


class _Readers(dict[type, _Reader]):
    """By the class of a value, what lists the things that it holds and that a function may reach through it.

    Held for good are only classes of C code, of which there are few.
    """

    def __missing__(self, kind: type) -> _Reader:
        found = _of_classes.get(kind)
        if found is None:
            inside = kind.__dictoffset__ or any("__slots__" in base.__dict__ for base in kind.__mro__)
            chosen = (reader for bases, reader in _KINDS if issubclass(kind, bases))
            found = _of_classes[kind] = next(chosen, _of_object if inside else _nothing)
            if not kind.__flags__ & _IN_PYTHON:
                self[kind] = found
        return found


_IN_PYTHON = 1 << 9
"""The flag of a class that a Python statement made."""

_READERS = _Readers()

_of_classes: WeakKeyDictionary[type, _Reader] = WeakKeyDictionary()

_KINDS: Sequence[tuple[tuple[type, ...], _Reader]] = [
    ((np.ndarray, np.generic, int, float, complex, str, bytes, type(None), type, types.ModuleType), _nothing),
    ((Reverse.ended,), lambda recorder: (recorder.tape,)),  # of a pullback
    ((Handler, Session, Namespace, Captured, Copies), _nothing),
    ((Array,), _of_stand_in),
    ((types.FunctionType,), _of_function),
    ((types.MethodType,), lambda method: (method.__func__, method.__self__)),
    ((functools.partial,), lambda partial: (partial.func, *partial.args, *partial.keywords.values())),
    ((list, tuple), lambda values: values),
    ((dict,), lambda named: list(named.values())),
]


def _of_object(value: Any) -> Sequence[Any]:
    return [attribute for _, attribute in _attributes(value)]


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object, as they are stored."""
    if type(value).__dictoffset__:
        yield from object.__getattribute__(value, "__dict__").items()
    for kind in type(value).__mro__:
        if "__slots__" in kind.__dict__:
            for name, slot in kind.__dict__.items():
                if isinstance(slot, types.MemberDescriptorType) and _is_filled(slot, value):
                    yield name, slot.__get__(value)


def _is_filled(slot: types.MemberDescriptorType, value: Any) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True


_read_positions: WeakKeyDictionary[types.CodeType, tuple[int, ...]] = WeakKeyDictionary()


def _read_cells(function: types.FunctionType) -> Sequence[types.CellType]:
    """The closure cells that a function only reads; one that it assigns is shared with others."""
    closure = function.__closure__
    if not closure:
        return ()
    code = function.__code__
    positions = _read_positions.get(code)
    if positions is None:
        assigned = assigned_names(code)
        positions = tuple(i for i, name in enumerate(code.co_freevars) if name not in assigned)
        _read_positions[code] = positions
    return [closure[i] for i in positions]
