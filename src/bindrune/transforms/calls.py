"""What every transformed call shares.

Choosing arguments (`argnums`, `argnames`), lifting the function, giving it stand-ins, running it, ending what was
begun, and carrying writes to the caller's arrays.  A transformation is a `Transformed`: a callable that remembers the
function, so that it can be lifted and nested in turn.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, dtype_of
from ..core.errors import NonDifferentiableError, user_traceback
from ..core.handler import HOST, Handler
from ..core.operation import is_differentiable, spec_of
from ..lift.session import Session, lift

__all__ = ["Call", "Transformed", "argument_name", "describe", "take_out"]

_ARRAYS = (np.ndarray, np.generic, float, complex, Array)


def describe(function: Any) -> str:
    """How messages call a function."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__


class Transformed:
    """A function under a transformation.  It can be called, nested, and used as a method."""

    transformation = "transformation"

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"br.{self.transformation} takes a function, not {function!r}")
        self.function = function
        functools.update_wrapper(self, function, updated=())
        self.origin = f"br.{self.transformation} of {describe(function)}"

    def with_function(self, function: Callable[..., Any]) -> Transformed:
        """The same transformation of another function (of the lifted one)."""
        twin = copy.copy(self)
        twin.function = function
        return twin

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        raise NotImplementedError

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<{self.origin}>"


class Call:
    """One call of a transformed function, under one handler."""

    __slots__ = ("function", "handler", "session")

    def __init__(self, function: Callable[..., Any], handler: Handler, owns: bool = False) -> None:
        self.handler = handler
        self.function, self.session = lift(function, owns)

    def run(self, arguments: Sequence[Any], keywords: dict[str, Any]) -> Any:
        """Call the function; whatever happens, end the handler and carry writes back."""
        try:
            try:
                return self.function(*arguments, **keywords)
            finally:
                self.session.finish(self.handler)
        except BaseException as error:
            self.handler.end()
            raise user_traceback(error)

    def follow(self, leaf: Any, cell: Array, axis: int | None = None) -> Array:
        """Give a caller's array a cell whose writes are carried back (a batched one's with its axis where it was)."""
        if isinstance(leaf, (np.ndarray, Array)):
            self.session.follow(leaf, cell, axis)
        return cell

    def constants(self, arguments: Sequence[Any]) -> list[Any]:
        """Arguments that are not transformed: arrays become cells, so that they can be written."""
        return [self.session.lift(a) for a in arguments]


def take_out(handler: Handler, value: Any) -> Any:
    """A result as the code outside the handler sees it: one level out, and its own."""
    if not isinstance(value, Array):
        return value
    cell = value.read()
    if cell._handler is handler or cell._handler is HOST:
        out = cell._value
        return out.snapshot() if isinstance(out, Array) else out
    return cell.snapshot()


class Selection:
    """Which arguments a transformation is about."""

    __slots__ = ("names", "numbers", "single")

    def __init__(self, argnums: int | Sequence[int] | None, argnames: str | Sequence[str] | None) -> None:
        if argnums is None:
            argnums = 0 if argnames is None else ()
        names = (argnames,) if isinstance(argnames, str) else tuple(argnames or ())
        self.single = isinstance(argnums, int) and not names
        self.numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        self.names = names
        if not self.numbers and not names:
            raise ValueError("no argument chosen: argnums and argnames are empty")

    def keys(
        self, function: Any, arguments: Sequence[Any], keywords: dict[str, Any], origin: str
    ) -> list[int | str]:
        """The chosen positions and names, as they stand in this call."""
        keys: list[int | str] = []
        for number in self.numbers:
            if not -len(arguments) <= number < len(arguments):
                raise TypeError(
                    f"{origin}: argnums={number}, but the call has {len(arguments)} positional argument"
                    f"{'s' * (len(arguments) != 1)}"
                )
            keys.append(number % len(arguments))
        for name in self.names:
            if name in keywords:
                keys.append(name)
                continue
            names = list(inspect.signature(function).parameters)
            if name not in names or names.index(name) >= len(arguments):
                raise TypeError(f"{origin}: argnames={name!r} is no argument of this call")
            keys.append(names.index(name))
        return keys


def argument_name(function: Any, key: int | str) -> str:
    """How a message calls an argument: its name where there is one."""
    if isinstance(key, str):
        return key
    try:
        return list(inspect.signature(function).parameters)[key]
    except (TypeError, ValueError, IndexError):
        return f"argument {key}"


def differentiable_leaves(function: Any, key: int | str, value: Any, origin: str) -> tuple[list[Any], Any]:
    """The leaves of an argument with respect to which one differentiates, or an error that names the bad one."""
    leaves, structure = trees.flatten(value)
    for i, leaf in enumerate(leaves):
        if not isinstance(leaf, _ARRAYS) or not is_differentiable(leaf):
            where = argument_name(function, key) + trees.leaf_path(value, i)
            what = f"dtype {dtype_of(leaf)}" if isinstance(leaf, (int, np.ndarray, np.generic, Array)) else repr(leaf)
            raise NonDifferentiableError(
                f"{origin}: {where} has {what}, which has no derivative. Pass a float "
                "(x.astype(float)), or choose other arguments with argnums."
            )
    return leaves, structure


def as_leaf(leaf: Any) -> Any:
    """A leaf as a handler takes it in: a plain array, a number, or a cell of its own one level out."""
    if isinstance(leaf, Array):
        cell = leaf.read()
        return cell._value if cell._handler is HOST else cell.snapshot()
    return leaf


def matching_leaves(like: Any, given: Any, error: type[Exception], origin: str, what: str, of: str) -> list[Any]:
    """The leaves of a tangent or cotangent, which must fit `like` in structure, shapes and dtypes."""
    leaves, structure = trees.flatten(like)
    found, other = trees.flatten(given)
    if other != structure or len(found) != len(leaves):
        raise error(f"{origin}: the {what} has the structure {_outline(given)}, the {of} {_outline(like)}")
    for i, (leaf, ct) in enumerate(zip(leaves, found, strict=True)):
        expected = spec_of(leaf)
        path = what + trees.leaf_path(like, i)
        if not isinstance(ct, (*_ARRAYS, int)):
            raise error(f"{origin}: {path} is {ct!r}, not an array or number")
        spec = spec_of(ct)
        if spec.shape != expected.shape:
            raise error(f"{origin}: {path} has shape {spec.shape}, the {of} has {expected.shape}")
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
