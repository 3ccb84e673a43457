"""How values of Python's are put together of what a graph gives.

The leaves of a tree are outputs of the graph, things that are what they are, or objects that the function made: those
are made again for each run.  What is stored somewhere may be an argument or a captured array itself.

Refused: results that hold values of the program where no recipe finds them, as closures and iterators do.
"""

from __future__ import annotations

import copy
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, GeneratorType, ModuleType
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, is_scalar
from ..core.handler import Handler
from ..graph.dims import Dim, Unstageable, hooks
from ..graph.graph import Type
from ..lift.containers import SIMPLE
from ..lift.session import Namespace, Session
from ..ops.rows import form_of_row, row_number
from ..ops.scalars import convert
from .places import contents_of
from .unpacking import packer

__all__ = ["Recipe"]

Maker = Callable[[Iterator[Any], Sequence[Any]], Any]


class Recipe:
    """How one tree is made.

    Args:
        tree: as the function left it, with cells for what is computed.
        outputs: the cells that the graph gives; those of the tree are added.
        session: says what lifted things stand for.
        given: by the identity of its cell the number of what stands for itself.
    """

    __slots__ = ("_leaves", "_shared", "_structure")

    def __init__(self, tree: Any, outputs: list[Any], session: Session, given: Mapping[int, int] | None = None) -> None:
        found, self._structure = trees.flatten(tree)
        places = [row_number(v) for v in found]
        counts = Counter(id(place[0]) for place in places if place is not None)
        shared = {id(p[0]): p[0] for p in places if p is not None and counts[id(p[0])] >= _MANY_ROWS}
        self._shared = len(shared)
        outputs += shared.values()
        numbers = {key: i for i, key in enumerate(shared)}
        self._leaves = [
            _maker(v, outputs, session, given or {})
            if place is None or id(place[0]) not in numbers
            else _Row(numbers[id(place[0])], place[1], v)
            for v, place in zip(found, places, strict=True)
        ]

    def make(self, outputs: Iterator[Any], given: Sequence[Any] = ()) -> Any:
        """The tree; takes as many outputs as it needs."""
        shared = [next(outputs) for _ in range(self._shared)]
        leaves = [make.of(shared) if isinstance(make, _Row) else make(outputs, given) for make in self._leaves]
        return trees.unflatten(self._structure, leaves)

    def maker(self) -> Callable[[Sequence[Any]], Any]:
        """`make` for all outputs at once, where nothing is given."""
        if any(make is not _next for make in self._leaves):
            return lambda outputs: self.make(iter(outputs))
        return packer(self._structure, len(self._leaves))

    def described(self, types: Iterator[Type], describe: Callable[[Type], Any]) -> Any:
        """The tree with a description of each leaf that is computed."""
        shared = [next(types) for _ in range(self._shared)]
        rest = map(describe, types)
        leaves = [describe(m.type(shared)) if isinstance(m, _Row) else m(rest, ()) for m in self._leaves]
        return trees.unflatten(self._structure, leaves)


_MANY_ROWS = 4
"""So many rows of one array are taken from it afterwards."""


class _Row:
    """A leaf that is a row of an array which the graph gives."""

    __slots__ = ("array", "form", "is_array", "number")

    def __init__(self, array: int, number: int, row: Any) -> None:
        self.array = array
        self.number = number
        self.form = form_of_row(row)
        self.is_array = not is_scalar(row)

    def type(self, types: Sequence[Type]) -> Type:
        """The type of the row, from those of the arrays."""
        whole = types[self.array]
        return Type(whole.shape[1:], whole.dtype, whole.form)

    def of(self, arrays: Sequence[Any]) -> Any:
        """The row, which owns its memory."""
        found = arrays[self.array][self.number]
        if self.form is not None:
            return convert(found, **self.form) if isinstance(found, Array) else found.item()
        return np.array(found) if self.is_array and not isinstance(found, Array) else found


def _maker(leaf: Any, outputs: list[Any], session: Session, given: Mapping[int, int]) -> Maker:
    if isinstance(leaf, Dim):
        leaf = hooks.number(leaf)
    if isinstance(leaf, Array):
        number = given.get(id(leaf))
        if number is not None:
            return lambda _, given: given[number]
        outputs.append(leaf)
        return _next
    plain = session.lower(leaf)
    if plain is not leaf or type(leaf) in SIMPLE or not _is_own(leaf, session):
        return lambda *_: plain
    if isinstance(leaf, (set, frozenset)) and all(type(v) in SIMPLE for v in leaf):
        return lambda *_: copy.copy(leaf)
    kind = trees.original_class(type(leaf))
    attributes = contents_of(leaf)
    if isinstance(leaf, (FunctionType, *_ITERATORS)) or attributes is None or kind.__itemsize__:
        raise Unstageable(
            f"a {kind.__name__} leaves the function with values of the program inside",
            "Return arrays, or trees of them",
        )
    recipe = Recipe(attributes.copy(), outputs, session, given)

    def make(outputs: Iterator[Any], given: Sequence[Any]) -> Any:
        made = object.__new__(kind)
        contents_of(made).update(recipe.make(outputs, given))
        return made

    return make


def _next(outputs: Iterator[Any], given: Sequence[Any]) -> Any:
    return next(outputs)


_ITERATORS: tuple[type, ...] = (type(iter([])), map, filter, zip, enumerate, reversed, GeneratorType)


def _is_own(leaf: Any, session: Session) -> bool:
    """Whether the function made something that holds values of the program, or that others may change."""
    if id(leaf) in session.originals:
        return False
    if isinstance(leaf, set) or "_bindrune_kind" in vars(type(leaf)):
        return True
    if isinstance(leaf, FunctionType) and isinstance(leaf.__globals__, Namespace):
        return True
    seen: set[int] = set()
    waiting = [leaf]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Array):
            return True
        if id(value) in seen or isinstance(value, _CLOSED):
            continue
        seen.add(id(value))
        if len(seen) > _MANY:
            return True
        waiting += gc.get_referents(value)
    return False


_CLOSED = (
    type, ModuleType, BuiltinFunctionType, Namespace, Session, Handler, np.ndarray, np.generic, np.dtype, str, bytes,
    int, float, complex,
)  # fmt: skip
_MANY = 10_000
