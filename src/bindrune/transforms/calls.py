"""What every transformed call shares.

Choosing arguments (`argnums`, `argnames`), lifting the function, giving it stand-ins, running it, ending what was
begun, and carrying writes to the caller's arrays.  A transformation is a `Transformed`: a callable that remembers the
function, so that it can be lifted and nested in turn.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import types
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ..core import trees
from ..core.array import Array, dtype_of, duplicate, peek
from ..core.errors import MutationError, NonDifferentiableError, is_engine
from ..core.foreign import as_array, is_foreign
from ..core.handler import HOST, Handler
from ..core.operation import is_differentiable, spec_of
from ..core.protocol import hooks
from ..lift.objects import lift_object
from ..lift.session import Session, write_back
from .reverse import lowest

__all__ = [
    "FLOAT0",
    "Call",
    "Decorated",
    "Selection",
    "Transformed",
    "argument_name",
    "as_leaf",
    "differentiable_leaves",
    "in_call_order",
    "in_chosen_order",
    "matching_leaves",
    "overlap",
    "separate",
    "signature_of",
    "split_aux",
    "take_out",
    "watcher",
]

FLOAT0 = np.dtype([("float0", np.void, 0)])
"""The dtype of derivatives with respect to integers and booleans: zeros without memory or arithmetic, as in JAX."""

_P = ParamSpec("_P")
_R = TypeVar("_R")

_CONTAINERS = (tuple, list, dict)
_ARRAYS = (np.ndarray, np.generic, float, complex, Array)

watcher: ContextVar[Callable[[Handler], None] | None] = ContextVar("watcher", default=None)
"""What is shown every handler that begins (by debugging)."""


def describe(function: Any) -> str:
    """How messages call a function: its name, and the line where it begins."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    code = getattr(function, "__code__", None)
    return name if code is None or is_engine(code) else f"{name} ({code.co_filename}:{code.co_firstlineno})"


class Transformed:
    """A function under a transformation.  It can be called, nested, and used as a method."""

    transformation = "transformation"
    """Its name in messages."""
    session: Session | None = None
    """What an earlier call has lifted, for the next."""
    selection: Selection | None = None
    """Which arguments it is about, where that can be chosen."""
    allow_int = False
    """Whether integers and booleans may stand among what is differentiated."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"br.{self.transformation} takes a function, not {function!r}")
        self.function = function

    def __del__(self) -> None:
        # A session and the views it made refer to each other.
        if self.session is not None:
            self.session.close()

    def __str__(self) -> str:
        return f"br.{self.transformation} of {describe(self.function)}"

    def lifted(self, session: Session) -> Transformed:
        """The same transformation as a lifted function sees it."""
        return self.with_function(session.lift(self.function))

    def with_function(self, function: Callable[..., Any]) -> Transformed:
        """The same transformation of another function."""
        twin = copy.copy(self)
        twin.function = function
        twin.session = None
        return twin

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        raise NotImplementedError

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<{self}>"


class Decorated(Transformed):
    """A transformed function that bears the name, signature and docstring of the original."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        functools.update_wrapper(self, function, updated=())


class Call:
    """One call of a transformed function, under one handler."""

    __slots__ = ("arguments", "followed", "function", "handler", "session", "transformed")

    def __init__(self, transformed: Transformed, handler: Handler, owns: bool = False, rewrites: bool = False) -> None:
        self.transformed = transformed
        self.handler = handler
        watch = watcher.get()
        if watch is not None:
            watch(handler)
        # Taken while in use: a call inside this one, or in another thread, has a session of its own.
        session, transformed.session = transformed.session, None
        if session is None or session.owns != owns or not session.is_current():
            session = Session(owns, rewrites)
        else:
            session.renew()
        self.session = session
        known = session.known.get(id(transformed.function))
        self.function = session.lift(transformed.function) if known is None else known[1]
        self.followed: list[tuple[Any, Array, int | None]] = []
        self.arguments: tuple[Sequence[Any], dict[str, Any]] = ((), {})

    def run(self, arguments: Sequence[Any], keywords: dict[str, Any], finish: bool = True) -> Any:
        """Call the function and finish; if it fails, also end the handler."""
        self.arguments = arguments, keywords
        try:
            try:
                result = self.function(*arguments, **keywords)
            except BaseException as error:
                hooks.reword(error)
                self.finish()
                raise
            if finish:
                self.finish()
        except BaseException:
            self.handler.end()
            raise
        return result

    def finish(self) -> None:
        """Carry writes back to the caller's arrays, which a tape must not be reading any more."""
        session = self.session
        if self._has_written():
            if self.followed or session.data:
                self._refuse_aliases()
            for array, cell, axis in self.followed:
                if cell._version:
                    write_back(array, cell, self.handler, axis)
        if session.finish(self.handler):
            self.transformed.session = self.session

    def _has_written(self) -> bool:
        """Whether the function has written to an array that it was given or captures."""
        for _, cell, _ in (*self.followed, *self.session.arrays):  # noqa: SIM110  (a generator costs twice as much here)
            if cell._version:
                return True
        return False

    def _refuse_aliases(self) -> None:
        """Refuse a write into memory that two cells stand for, because through the other it was not seen."""
        own = [*self.followed, *self.session.arrays]
        outer: list[tuple[Any, Any, None]] = [
            (x, x, None) for x in self._reached() if isinstance(x, Array) and all(x is not c for _, c, _ in own)
        ]
        outer += [(x, x, None) for data in self.session.data for x in data if isinstance(x, np.ndarray)]
        for array, cell, _ in own:
            if cell._version:
                other = next((c for a, c, _ in (*own, *outer) if c is not cell and overlap(a, array)), None)
                if other is not None:
                    self.session.close()
                    raise MutationError(
                        f"{self.transformed}: the function wrote into {self._name(cell)}, which shares memory with "
                        f"{self._name(other)}. Under a transformation the two have values of their own, so the write "
                        "was not seen through the other. Pass a copy of one of them."
                    )

    def _reached(self) -> list[Any]:
        """The leaves of the arguments, and what the function captures."""
        leaves: list[Any] = trees.flatten((list(self.arguments[0]), self.arguments[1]))[0]
        for variable in getattr(self.function, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # a variable that has no value
                leaves.append(variable.cell_contents)
        return leaves

    def _name(self, cell: Array) -> str:
        """What messages call the array that a cell stands for."""
        arguments, keywords = self.arguments
        keys: list[int | str] = [*range(len(arguments)), *keywords]
        for key, argument in zip(keys, (*arguments, *keywords.values()), strict=True):
            for i, leaf in enumerate(trees.flatten(argument)[0]):
                if leaf is cell:
                    path = "" if argument is cell else trees.leaf_path(argument, i)
                    return f"{argument_name(self.transformed.function, key)}{path}"
        return "an array that it captures"

    def follow(self, leaf: Any, cell: Array, axis: int | None = None) -> Array:
        """Give a caller's array a cell whose writes are carried back (a batched one's with its axis where it was)."""
        if isinstance(leaf, (np.ndarray, Array)):
            self.followed.append((leaf, cell, axis))
        return cell

    def tree(self, structure: Any, cells: Sequence[Any]) -> Any:
        """An argument made of stand-ins; an object with methods runs them lifted."""
        tree = trees.unflatten(structure, cells)
        return tree if structure is None or type(tree) in _CONTAINERS else lift_object(self.session, tree)

    def constant(self, argument: Any) -> Any:
        """An argument that is not transformed: an array becomes a cell, so that it can be written."""
        return self.session.lift(as_array(argument) if is_foreign(argument) else argument)


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays, or two cells one level out, share an element."""
    if isinstance(a, Array) or isinstance(b, Array):
        if not (isinstance(a, Array) and isinstance(b, Array) and a.root is b.root):
            return False
        a, b = peek(a), peek(b)
    try:
        return np.shares_memory(a, b, max_work=_MUCH_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


_MUCH_WORK = 10_000


def take_out(handler: Handler, value: Any) -> Any:
    """A result as the code outside the handler sees it: one level out, and its own."""
    if not isinstance(value, Array):
        return value
    cell = value if type(value) is Array else value.read()
    if cell._handler is handler or cell._handler is HOST:
        out = cell._value
        return out.snapshot() if type(out) is Array else out
    return cell.snapshot()


_FIRST = (0,)


class Selection:
    """Which arguments a transformation is about."""

    __slots__ = ("names", "numbers", "single")

    def __init__(self, argnums: int | Sequence[int] | None, argnames: str | Sequence[str] | None) -> None:
        if argnums is None:
            argnums = 0 if argnames is None else ()
        self.names = (argnames,) if isinstance(argnames, str) else tuple(argnames or ())
        self.single = (isinstance(argnums, int) and not self.names) or (isinstance(argnames, str) and argnums == ())
        self.numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        if not self.numbers and not self.names:
            raise ValueError("no argument chosen: argnums and argnames are empty")

    def keys(
        self, function: Any, arguments: Sequence[Any], keywords: dict[str, Any], origin: object
    ) -> tuple[int | str, ...]:
        """The chosen positions and names, as they stand in this call."""
        count = len(arguments)
        if self.numbers == _FIRST and count and not self.names:
            return _FIRST
        for number in self.numbers:
            if not -count <= number < count:
                raise TypeError(
                    f"{origin}: argnums={number}, but the call has {count} positional argument{'s' * (count != 1)}"
                )
        keys: tuple[int | str, ...] = tuple([number % count for number in self.numbers])
        return keys + tuple(self._key(function, name, count, keywords, origin) for name in self.names)

    @staticmethod
    def _key(function: Any, name: str, count: int, keywords: dict[str, Any], origin: object) -> int | str:
        if name in keywords:
            return name
        names = list(inspect.signature(function).parameters)
        if name not in names or names.index(name) >= count:
            raise TypeError(f"{origin}: argnames={name!r} is no argument of this call")
        return names.index(name)


def in_call_order(keys: Sequence[int | str], keywords: dict[str, Any]) -> list[int | str]:
    """The chosen arguments, each once, in the order in which they stand in the call."""
    return [*sorted(k for k in set(keys) if isinstance(k, int)), *(k for k in keywords if k in keys)]


def in_chosen_order(keys: Sequence[int | str], keywords: dict[str, Any], found: Sequence[Any]) -> tuple[Any, ...]:
    """Results that stand in the order of the call's arguments, in the order in which those were chosen."""
    order = in_call_order(keys, keywords)
    return tuple(found[order.index(key)] for key in keys)


def signature_of(model: Callable[_P, Any]) -> Callable[[Callable[..., _R]], Callable[_P, _R]]:
    """Give a function that passes its arguments on the signature of another that takes the same."""

    def adopt(function: Callable[..., _R]) -> Callable[_P, _R]:
        function.__signature__ = inspect.signature(model)  # type: ignore[attr-defined]
        return function

    return adopt


def split_aux(origin: object, result: Any) -> tuple[Any, Any]:
    """The (value, aux) that a function under `has_aux` returned."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{origin}: has_aux=True needs a function that returns (value, aux), not {result!r}")
    return result


def argument_name(function: Any, key: int | str) -> str:
    """How a message calls an argument: its name where there is one."""
    if isinstance(key, str):
        return key
    code = getattr(inspect.unwrap(function, stop=lambda f: hasattr(f, "__signature__")), "__code__", None)
    if code is not None and key < code.co_argcount:
        return str(code.co_varnames[key])
    try:
        return list(inspect.signature(function).parameters)[key]
    except (TypeError, ValueError, IndexError):
        return f"argument {key}"


def differentiable_leaves(transformed: Transformed, key: int | str, value: Any) -> tuple[list[Any], Any]:
    """The leaves of an argument with respect to which one differentiates, or an error that names the bad one.

    Under `allow_int` there may be integers and booleans among them.
    """
    found, structure = trees.flatten(value)
    leaves = [as_array(leaf) for leaf in found]
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, _ARRAYS) and is_differentiable(leaf):
            continue
        numeric = isinstance(leaf, (*_ARRAYS, int))
        integer = numeric and dtype_of(leaf).kind in "iub"
        if integer and transformed.allow_int:
            continue
        where = argument_name(transformed.function, key) + trees.leaf_path(value, i)
        what = f"dtype {dtype_of(leaf)}" if numeric else repr(leaf)
        remedies = ["Pass a float (x.astype(float))"]
        if transformed.selection is not None:
            remedies.append("choose other arguments with argnums")
            if integer:
                remedies.append("accept a zero derivative with allow_int=True")
        raise NonDifferentiableError(
            f"{transformed}: {where} has {what}, which has no derivative. {', or '.join(remedies)}."
        )
    return leaves, structure


def as_leaf(leaf: Any, owned: bool = False) -> Any:
    """A leaf as a handler takes it in: a plain array, a number, or a cell of its own one level out."""
    if isinstance(leaf, Array):
        cell = leaf.read()
        return cell._value if cell._handler is HOST else cell.snapshot()
    return duplicate(leaf) if owned and isinstance(leaf, np.ndarray) else leaf


def separate(arrays: list[Any], given: Sequence[Any] = ()) -> list[Any]:
    """Derivatives as arrays of their own: rules pass some on unchanged, which then are one array, or the caller's."""
    seen = {id(x) for x in given}
    for i, x in enumerate(arrays):
        if type(x) is np.ndarray and id(x) in seen:
            arrays[i] = x.copy()
        seen.add(id(x))
    return arrays


def matching_leaves(like: Any, given: Any, error: type[Exception], origin: object, what: str, of: str) -> list[Any]:
    """The leaves of a tangent or cotangent, which must fit `like` in structure, shapes and dtypes.

    Where `like` has integers or booleans there are zeros, of whatever dtype.
    """
    leaves, structure = trees.flatten(like)
    found, other = trees.flatten(given)
    if other != structure or len(found) != len(leaves):
        raise error(f"{origin}: the {what} has the structure {_outline(given)}, the {of} {_outline(like)}")
    found = [as_array(ct) for ct in found]
    for i, (leaf, ct) in enumerate(zip(leaves, found, strict=True)):
        expected = spec_of(as_array(leaf))
        path = what + trees.leaf_path(like, i)
        if not isinstance(ct, (*_ARRAYS, int)):
            raise error(f"{origin}: {path} is {ct!r}, not an array or number")
        spec = spec_of(ct)
        if spec.shape != expected.shape:
            raise error(f"{origin}: {path} has shape {spec.shape}, the {of} has {expected.shape}")
        if expected.dtype.kind in "iub":
            if spec.dtype != FLOAT0 and np.any(lowest(ct)):
                raise error(
                    f"{origin}: {path} is not zero, but the {of} has dtype {expected.dtype}, which has no derivative. "
                    "Give zeros there."
                )
            continue
        if not isinstance(ct, (int, float)) and not np.can_cast(spec.dtype, expected.dtype, "same_kind"):
            raise error(f"{origin}: {path} has dtype {spec.dtype}, the {of} has {expected.dtype}")
        if spec.dtype != expected.dtype:
            found[i] = ct.astype(expected.dtype) if hasattr(ct, "astype") else expected.dtype.type(ct)
    return [as_leaf(x) for x in found]


def _outline(tree: Any) -> str:
    """The structure of a tree, with a star for each leaf."""
    return repr(trees.map_leaves(lambda _: _STAR, tree))


class _Star:
    def __repr__(self) -> str:
        return "*"


_STAR = _Star()
