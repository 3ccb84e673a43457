"""The signature of a call: what staging depends on, and what is traced.

Arrays and numbers are traced: their types are part of the signature, their values are not.  Everything else (strings,
booleans, None, functions, static arguments) is part of it by value.  With `dynamic` the leading lengths of arrays are
not part of it either; one graph serves them all.
"""

from __future__ import annotations

import inspect
import itertools
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, is_numeric
from ..core.errors import StaticArgumentError
from ..core.foreign import as_array
from ..graph.graph import Type
from ..lift.objects import lift_object
from ..lift.session import Session
from .staging import type_of_cell
from .unpacking import unpacker

__all__ = ["Dynamic", "Dynamics", "Signature", "Statics"]

_TRACED = (np.ndarray, np.generic, int, float, complex, Array)
_CONTAINERS = (tuple, list, dict)


class Statics:
    """The arguments that are taken by value."""

    __slots__ = ("function", "names", "numbers")

    def __init__(self, function: Callable[..., Any], numbers: Any, names: Any) -> None:
        self.function = function
        self.numbers = (numbers,) if isinstance(numbers, int) else tuple(numbers or ())
        self.names = {names} if isinstance(names, str) else set(names or ())
        if self.numbers or self.names:
            self._complete()

    def _complete(self) -> None:
        """An argument that is named may be passed by position, and the other way round."""
        try:
            parameters = list(inspect.signature(self.function).parameters)
        except (TypeError, ValueError):
            return
        unknown = self.names - set(parameters)
        if unknown and not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(self.function).parameters.values()):
            raise TypeError(f"br.jit: static_argnames names {sorted(unknown)}, which {self.function!r} does not have")
        self.names |= {parameters[n] for n in self.numbers if -len(parameters) <= n < len(parameters)}
        self.numbers = tuple({*self.numbers, *(parameters.index(n) for n in self.names if n in parameters)})

    def apart(
        self, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any], tuple[Any, ...]]:
        """The other arguments, with None in place of static ones, and the static ones as a key."""
        if not self.numbers and not self.names:
            return list(arguments), keywords, ()
        given, left = list(arguments), dict(keywords)
        found: list[tuple[Any, Any]] = []
        for number in self.numbers:
            if -len(given) <= number < len(given):
                found.append((number, given[number]))
                given[number] = None
        found += [(name, left.pop(name)) for name in self.names & left.keys()]
        for place, value in found:
            try:
                hash(value)
            except TypeError:
                raise StaticArgumentError(
                    f"br.jit of {getattr(self.function, '__name__', self.function)}: the static argument {place!r} is "
                    f"{value!r}, which has no hash; pass a tuple or another constant, or leave it traced"
                ) from None
        return given, left, tuple(sorted(found, key=lambda pair: str(pair[0])))


class Dynamic:
    """Annotation of an argument whose arrays have leading lengths that one program serves.

    >>> import numpy as np, bindrune as br
    >>> @br.jit
    ... def scaled(x: br.Dynamic, weights):
    ...     return x * weights.sum()
    >>> [scaled(np.ones(n), np.ones(2)).size for n in (3, 4, 5)], scaled.stats().stagings
    ([3, 4, 5], 1)
    """


class Dynamics:
    """The arguments whose leading lengths are left open: all, or those of some names."""

    __slots__ = ("names", "parameters")

    def __init__(self, parameters: Sequence[str], names: frozenset[str] | None) -> None:
        self.parameters = parameters
        self.names = names

    @staticmethod
    def of(function: Callable[..., Any], everything: bool) -> Dynamics | None:
        """What `dynamic=True` or annotations say of a function; None where they say nothing."""
        if everything:
            return Dynamics((), None)
        names = frozenset(_annotated(function))
        return Dynamics(list(inspect.signature(function).parameters), names) if names else None

    def of_leaves(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> list[bool]:
        """For each leaf of the arguments whether it is in one of them."""
        by_position = itertools.chain(self.parameters, itertools.repeat(self.parameters[-1] if self.parameters else ""))
        named = [*zip(by_position, arguments), *sorted(keywords.items())]  # noqa: B905
        return [self.names is None or name in self.names for name, a in named for _ in trees.flatten(a)[0]]


def _annotated(function: Callable[..., Any]) -> Iterator[str]:
    """The names of arguments with the annotation, which may be written as text."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (TypeError, NameError, AttributeError):
        return
    for name, hint in hints.items():
        if hint is Dynamic or Dynamic in getattr(hint, "__metadata__", ()):
            yield name


class Signature:
    """The arguments of one call.

    Attributes:
        key: what staging depends on.
        closed: the same where no length is left open.
        leaves: what is traced.
        types: their types.
        strange: an array among them that no program works on; None where there is none.
        opened: for each whether its leading length is left open.
        arguments: the arguments themselves.
        keywords: those by name.
    """

    __slots__ = (
        "_is_traced",
        "_others",
        "_statics",
        "_structure",
        "arguments",
        "closed",
        "key",
        "keywords",
        "leaves",
        "opened",
        "strange",
        "types",
    )

    def __init__(
        self, statics: Statics, arguments: tuple[Any, ...], keywords: dict[str, Any], dynamic: Dynamics | None
    ) -> None:
        self.arguments, self.keywords = arguments, keywords
        given, left, self._statics = statics.apart(arguments, keywords)
        found, self._structure = trees.flatten((given, left))
        found = [as_array(v) for v in found]
        self._is_traced = [isinstance(v, _TRACED) and not isinstance(v, bool) for v in found]
        self.leaves = [v for v, traced in zip(found, self._is_traced, strict=True) if traced]
        self._others = [v for v, traced in zip(found, self._is_traced, strict=True) if not traced]
        self.types = [type_of_cell(v) for v in self.leaves]
        self.strange = next(filter(_is_strange, self.leaves), None)
        others = tuple([(type(v), _by_value(v)) for v in self._others])
        orders = trees.key_orders((given, left))
        rest = self._structure, orders, others, tuple((type(v), v) for _, v in self._statics), self._statics
        self.closed = self.key = (tuple(self.types), *rest)
        self.opened = [False] * len(self.types)
        if dynamic is not None:
            # Lengths that are equal in one call are taken to be one length.
            known: dict[Any, int] = {}
            wanted = itertools.compress(dynamic.of_leaves(given, left), self._is_traced)
            self.opened = [w and len(t.shape) > 0 and t.shape[0] > 1 for w, t in zip(wanted, self.types, strict=True)]
            classes = [
                -1 - known.setdefault(t.shape[0], len(known)) if leave_open else None
                for t, leave_open in zip(self.types, self.opened, strict=True)
            ]
            self.key = (tuple(map(symbolic, self.types, classes)), *rest)

    @property
    def is_flat(self) -> bool:
        """Whether what is traced is just the arguments, by position."""
        return not self.keywords and not self._statics and list(map(id, self.leaves)) == list(map(id, self.arguments))

    def unpacker(self) -> Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, ...] | None] | None:
        """A function that gives what is traced in calls just like this one, if there can be one."""
        if self.is_flat:
            return lambda arguments, keywords: None if keywords else arguments
        traced, others = iter(self.leaves), iter(self._others)
        leaves = [next(traced if t else others) for t in self._is_traced]
        return unpacker(self._structure, leaves, self._is_traced, self._statics, list(self.keywords))

    def rebuild(self, cells: Sequence[Any], session: Session) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as the staged function sees them."""
        traced, others = iter(cells), iter(self._others)
        leaves = [next(traced) if t else session.lift(next(others)) for t in self._is_traced]
        arguments, keywords = trees.unflatten(self._structure, leaves)
        for place, value in self._statics:
            if isinstance(place, int):
                arguments[place] = session.lift(value)
            else:
                keywords[place] = session.lift(value)
        return [_lifted(a, session) for a in arguments], {n: _lifted(a, session) for n, a in keywords.items()}

    def places(self) -> list[str]:
        """How Python writes the way to each leaf, from the pair of arguments and keyword arguments."""
        numbered = trees.unflatten(self._structure, list(range(len(self._is_traced))))
        found = zip(trees.leaf_paths(numbered), self._is_traced, strict=True)
        return [place for place, traced in found if traced]


def _is_strange(value: Any) -> bool:
    """Whether an array is of a subclass with a meaning of its own (masked arrays, matrices), or not of numbers."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return False
    return not is_numeric(value.dtype) or (isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap))


class _Same:
    """Something without a hash as part of a key: told by its identity, and kept alive."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _by_value(value: Any) -> Any:
    """A value as part of a key."""
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return value


def _lifted(argument: Any, session: Session) -> Any:
    if isinstance(argument, (*_TRACED, *_CONTAINERS, str, type(None))) or callable(argument):
        return argument
    return lift_object(session, argument)


def symbolic(type: Type, length: Any) -> Type:
    """A type with something else for its leading length."""
    if not type.shape or length is None:
        return type
    return type._replace(shape=(length, *type.shape[1:]))
