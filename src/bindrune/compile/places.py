"""The places a statement may change: variables, contents of arrays, items of containers, attributes of objects.

What has changed in them, and for whom, is seen by `compile.world` (regions) and `compile.changes` (calls).
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterator, MutableSequence
from io import IOBase
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.errors import REWRITTEN
from ..core.handler import HOST, Handler
from ..lift.session import Namespace
from ..lift.stager import NOTHING, Hidden
from .slots import Slots, slots_of

__all__ = [
    "ATOMS",
    "NOTHING",
    "Attribute",
    "Content",
    "Global",
    "Item",
    "Member",
    "Place",
    "Variable",
    "Whole",
    "contents_of",
    "identity",
    "moves_on",
    "refill",
    "same_contents",
]


class Place:
    """Somewhere a value may be put.  Two of one place are equal."""

    __slots__ = ()
    internal = False
    """Whether it was made by rewriting."""

    @property
    def text(self) -> str:
        """How messages call it."""
        raise NotImplementedError

    def get(self) -> Any:
        """What is there; NOTHING where there is nothing."""
        raise NotImplementedError

    def set(self, value: Any) -> None:
        """Put something there."""
        raise NotImplementedError

    def key(self) -> Any:
        """What tells it from other places."""
        raise NotImplementedError

    def moved(self, owner: Any) -> Place:
        """The same place in another container or object."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())


class Variable(Place):
    """A variable that nested functions share."""

    __slots__ = ("cell", "name")

    def __init__(self, name: str, cell: types.CellType) -> None:
        self.name = name
        self.cell = cell

    @property
    def internal(self) -> bool:  # type: ignore[override]
        return self.name.endswith(REWRITTEN)

    @property
    def text(self) -> str:
        return "the result" if self.internal else f"the variable {self.name!r}"

    def get(self) -> Any:
        try:
            return self.cell.cell_contents
        except ValueError:
            return NOTHING

    def set(self, value: Any) -> None:
        if value is not NOTHING:
            self.cell.cell_contents = value
        elif self.get() is not NOTHING:
            del self.cell.cell_contents

    def key(self) -> Any:
        return ("variable", id(self.cell))


class Global(Place):
    """A global variable that lifted code assigns."""

    __slots__ = ("name", "view")

    def __init__(self, view: Namespace, name: str) -> None:
        self.view = view
        self.name = name

    @property
    def text(self) -> str:
        return f"the global variable {self.name!r}"

    def get(self) -> Any:
        try:
            return self.view[self.name]
        except KeyError:
            return NOTHING

    def set(self, value: Any) -> None:
        if value is NOTHING:
            self.view.pop(self.name, None)
        else:
            self.view[self.name] = value

    def key(self) -> Any:
        return ("global", id(self.view), self.name)


class Content(Place):
    """The content of an array."""

    __slots__ = ("array",)

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def text(self) -> str:
        return f"the content of an array of shape {self.array.shape}"

    def get(self) -> Any:
        return self.array

    def set(self, value: Any) -> None:
        self.array.assign(value.read() if isinstance(value, Array) else Array(HOST, value))

    def key(self) -> Any:
        return ("content", id(self.array))


class Item(Place):
    """An item of a list or a dictionary."""

    __slots__ = ("index", "owner")

    def __init__(self, owner: Any, index: Any) -> None:
        self.owner = owner
        self.index = index

    @property
    def text(self) -> str:
        return f"the item {self.index!r} of a {type(self.owner).__name__}"

    def get(self) -> Any:
        try:
            return self.owner[self.index]
        except (KeyError, IndexError):
            return NOTHING

    def set(self, value: Any) -> None:
        if value is not NOTHING:
            self.owner[self.index] = value
        elif self.get() is not NOTHING:
            del self.owner[self.index]

    def key(self) -> Any:
        return ("item", id(self.owner), self.index)


class Whole(Place):
    """All items of a container."""

    __slots__ = ("container",)

    def __init__(self, container: Any) -> None:
        self.container = container

    @property
    def text(self) -> str:
        return f"a {type(self.container).__name__}"

    def get(self) -> Any:
        return self.container

    def set(self, value: Any) -> None:
        refill(self.container, value)

    def key(self) -> Any:
        return ("whole", id(self.container))

    def moved(self, owner: Any) -> Place:
        return Whole(owner)


class Attribute(Place):
    """An attribute of an object."""

    __slots__ = ("name", "owner")

    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.name = name

    @property
    def text(self) -> str:
        return f"the attribute {self.name!r} of a {type(self.owner).__name__}"

    def get(self) -> Any:
        return contents_of(self.owner).get(self.name, NOTHING)

    def set(self, value: Any) -> None:
        if value is NOTHING:
            contents_of(self.owner).pop(self.name, None)
        else:
            contents_of(self.owner)[self.name] = value

    def key(self) -> Any:
        return ("attribute", identity(self.owner), self.name)

    def moved(self, owner: Any) -> Place:
        return Attribute(owner, self.name)


class Member(Place):
    """An attribute of a class or a module."""

    __slots__ = ("kind", "name")

    def __init__(self, kind: type | types.ModuleType, name: str) -> None:
        self.kind = kind
        self.name = name

    @property
    def text(self) -> str:
        return f"the attribute {self.name!r} of {self.kind.__name__}"

    def get(self) -> Any:
        return vars(self.kind).get(self.name, NOTHING)

    def set(self, value: Any) -> None:
        if value is NOTHING:
            delattr(self.kind, self.name)
        else:
            setattr(self.kind, self.name, value)

    def key(self) -> Any:
        return ("member", id(self.kind), self.name)


def refill(contents: Any, before: Any) -> None:
    """Put back what a container held."""
    contents.clear()
    (contents.extend if isinstance(contents, (list, deque)) else contents.update)(before)


def same_contents(contents: Any, before: Any) -> bool:
    """Whether a container holds the very things it held, in the same order."""
    if len(contents) != len(before):
        return False
    if isinstance(contents, set):
        return bool(contents == before)
    if isinstance(contents, dict):
        return all(a is b and contents[a] is before[b] for a, b in zip(contents, before, strict=True))
    return all(a is b for a, b in zip(contents, before, strict=True))


def contents_of(container: Any) -> Any:
    """What a container or object holds its items or attributes in."""
    if isinstance(container, (list, dict, set, deque)):
        return container
    if isinstance(container, (Array, *ATOMS)):
        return None
    slots = slots_of(container)
    if slots is not None:
        return slots
    contents = getattr(container, "__dict__", None)
    return contents if isinstance(contents, dict) else None


def moves_on(value: Any) -> bool:
    """Whether something changes as it is used, in ways that cannot be seen or put back: iterators, files, buffers."""
    if isinstance(value, (Array, list, dict, set, deque, *ATOMS)):
        return False
    return isinstance(value, (Iterator, MutableSequence, IOBase)) or type(value).__module__ == "random"


def identity(container: Any) -> int:
    """What tells the contents of a container or object apart; those of a twin are its original's."""
    contents = contents_of(container)
    return id(contents.owner if isinstance(contents, Slots) else contents)


ATOMS = (
    np.ndarray, np.generic, int, float, complex, str, bytes, type(None), type, types.ModuleType, Handler, Namespace,
    types.BuiltinFunctionType, Hidden,
)  # fmt: skip
