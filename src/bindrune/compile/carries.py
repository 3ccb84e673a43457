"""What statements carry from one region to the next: trees of values of the program, and how they are put together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, View
from ..graph.dims import Unstageable, same_shape
from ..graph.graph import ARRAY, Type, Value
from .places import ATOMS, Place, contents_of, identity
from .staging import Staging
from .tails import Tail, taken_apart
from .types import joined_type, settle

__all__ = ["Carry", "Rows", "containers_in", "is_numeric", "is_same", "leaves_of"]

_NUMERIC = (Array, np.ndarray, np.generic, int, float, complex)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), range, slice, np.dtype)


def is_numeric(value: Any) -> bool:
    """Whether a value can be one of the program."""
    return isinstance(value, _NUMERIC)


def is_same(a: Any, b: Any) -> bool:
    """Whether two values of Python's are the same for any purpose."""
    if a is b:
        return True
    if isinstance(a, Array) or isinstance(b, Array) or type(a) is not type(b):
        return False
    return isinstance(a, _PLAIN) and repr(a) == repr(b)


class Structure:
    """A tree without its numbers: what else is in it stays as it is."""

    __slots__ = ("fixed", "orders", "spec")

    def __init__(self, spec: Any, orders: Any, fixed: Sequence[tuple[int, Any]]) -> None:
        self.spec = spec
        self.orders = orders
        self.fixed = fixed

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Structure) or self.spec != other.spec or self.orders != other.orders:
            return False
        if len(self.fixed) != len(other.fixed):
            return False
        return all(i == j and is_same(a, b) for (i, a), (j, b) in zip(self.fixed, other.fixed, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def build(self, leaves: Sequence[Any]) -> Any:
        """The tree with these numbers."""
        whole = list(leaves)
        for i, value in self.fixed:
            whole.insert(i, value)
        return trees.unflatten(self.spec, whole)


def leaves_of(value: Any, place: Place) -> tuple[list[Any], Any]:
    """The numbers in what a place holds, and how they are put together."""
    if isinstance(place, Tail):
        found, rows = taken_apart(value)
        if not all(map(is_numeric, found)):
            raise Unstageable(f"{place.text} gets what is no number", "Append numbers and arrays")
        structure: Any = rows
    else:
        whole, spec = trees.flatten(value)
        structure = Structure(spec, trees.key_orders(value), [(i, v) for i, v in enumerate(whole) if not is_numeric(v)])
        found = [v for v in whole if is_numeric(v)]
    if any(isinstance(leaf, View) and leaf.root._version for leaf in found):
        raise Unstageable(f"{place.text} becomes a view of an array that is written", "Copy it, or index the array")
    return found, structure


def containers_in(value: Any) -> Iterator[int]:
    """Identities of the containers and objects that a tree is made of."""
    if isinstance(value, (Array, *ATOMS)):
        return
    contents = contents_of(value)
    if contents is not None:
        yield identity(value)
    parts = contents.values() if isinstance(contents, dict) else value
    if isinstance(value, (list, tuple, deque)) or contents is not None:
        for part in parts:
            yield from containers_in(part)


class Carry:
    """What one place carries: a tree of values of settled types."""

    __slots__ = ("structure", "types")

    def __init__(self, structure: Any, types: Sequence[Type]) -> None:
        self.structure = structure
        self.types = list(types)

    def make(self, leaves: Sequence[Any]) -> Any:
        """What is in the place, of its leaves."""
        return self.structure.build(leaves)

    def agrees(self, other: Carry) -> bool:
        """Whether the types are the same."""
        return all(
            same_shape(a.shape, b.shape) and a[1:] == b[1:] for a, b in zip(self.types, other.types, strict=True)
        )


class Rows(Carry):
    """What the steps append to a list: arrays of which each has a row of every step."""

    __slots__ = ("items",)

    items: Sequence[Type]

    def __init__(self, structure: Any, items: Sequence[Type], tail: Tail, known: Carry | None) -> None:
        if isinstance(known, Rows):
            if known.structure != structure:
                raise Unstageable(
                    "what is appended to a list changes its structure", "Append the same structure in every step"
                )
            items = [joined_type(a, b, "what is appended to a list") for a, b in zip(known.items, items, strict=True)]
        super().__init__(structure, [Type((tail.count, *t.shape), t.dtype, ARRAY) for t in items])
        self.items = items

    def make(self, leaves: Sequence[Any]) -> Any:
        return list(leaves)

    def agrees(self, other: Carry) -> bool:
        return isinstance(other, Rows) and self.items == other.items

    def put(self, stage: Staging, arrays: Sequence[Array], leaves: Sequence[Any]) -> Iterator[Value]:
        """The arrays with the rows of one step."""
        step = Array(stage, stage.inputs[0])
        for array, leaf, type in zip(arrays, leaves, self.items, strict=True):
            array[step] = settle(stage.bring(leaf), type)
            yield stage.take(array)
