"""Functions in the wrappings of the standard library and NumPy, as lifted code sees them.

Decorators of the standard library keep the user's function in a closure or in an object of C code; the wrapping is
made anew around the lifted function.  A cache answers only for arguments that no transformation follows: two followed
values may be equal, but their derivatives are different.
"""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.array import Array, peek
from ..core.protocol import hooks
from ..core.trees import original_class
from ..numpy.drawing import lifted_drawing
from ..numpy.iteration import Vectorized
from .reach import is_liftable

if TYPE_CHECKING:
    from .session import Session

__all__ = ["DispatchedMethod", "lift_wrapper", "lift_wrapping_function"]


def lift_wrapper(session: Session, value: Any) -> Any:
    """An object that wraps a function, around the lifted function; any other object as it is."""
    if isinstance(value, functools._lru_cache_wrapper):
        return _cached(session, value)
    drawing = lifted_drawing(value)
    if drawing is not value:
        return drawing
    if isinstance(value, np.vectorize):
        return Vectorized(
            session.lift(value.pyfunc), value.otypes, value.__doc__, value.excluded, False, value.signature
        )
    owner = value.__self__ if hasattr(type(value), "__self__") else None
    if owner is not None and not isinstance(owner, (types.ModuleType, type)):
        lifted = session.lift(owner)
        return value if lifted is owner else getattr(lifted, value.__name__)
    wrapped = getattr(value, "__wrapped__", None)
    if not isinstance(wrapped, types.FunctionType):
        return value
    return hooks.fallback(value) if wrapped.__module__.startswith("numpy.") else session.lift(wrapped)


def _cached(session: Session, cache: Any) -> Any:
    function = session.lift(cache.__wrapped__)
    if function is cache.__wrapped__:
        return cache
    remember = functools.lru_cache(**cache.cache_parameters())(function)

    @functools.wraps(function)
    def cached(*arguments: Any, **keywords: Any) -> Any:
        follows = any(isinstance(a, Array) for a in (*arguments, *keywords.values()))
        return (function if follows else remember)(*arguments, **keywords)

    cached.cache_info, cached.cache_clear = remember.cache_info, remember.cache_clear  # type: ignore[attr-defined]
    cached.cache_parameters = remember.cache_parameters  # type: ignore[attr-defined]
    return cached


def lift_wrapping_function(session: Session, function: types.FunctionType) -> Any:
    """A library's function; one around a user's function (`contextmanager`, `singledispatch`), around the lifted."""
    if not function.__closure__ or not hasattr(function, "__wrapped__"):
        return function
    if hasattr(function, "dispatch") and hasattr(function, "registry"):
        return _dispatched(session, function)
    contents = [cell.cell_contents for cell in function.__closure__]
    lifted = [session.lift(v) if _is_users(v) else v for v in contents]
    if all(new is old for new, old in zip(lifted, contents, strict=True)):
        return function
    closure = tuple(map(types.CellType, lifted))
    made = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, closure
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    return made


def _is_users(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and (is_liftable(value.__globals__) or hasattr(value, "__wrapped__"))


def _dispatched(session: Session, function: Any) -> Any:
    """`functools.singledispatch`, by the class that plain code would see."""

    @functools.wraps(function)
    def dispatched(*arguments: Any, **keywords: Any) -> Any:
        if not arguments:
            raise TypeError(f"{function.__name__} requires at least 1 positional argument")
        return session.lift(function.dispatch(_plain_class(arguments[0])))(*arguments, **keywords)

    return dispatched


def _plain_class(value: Any) -> type:
    kind: type = original_class(peek(value).__class__)
    return kind


class DispatchedMethod:
    """`functools.singledispatchmethod`, by the class that plain code would see."""

    def __init__(self, session: Session, method: Any) -> None:
        self.session = session
        self.dispatch = method.dispatcher.dispatch

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        def dispatched(value: Any, *others: Any, **keywords: Any) -> Any:
            method = _lift_descriptor(self.session, self.dispatch(_plain_class(value)))
            return method.__get__(instance, owner)(value, *others, **keywords)

        return dispatched


def _lift_descriptor(session: Session, method: Any) -> Any:
    inside = getattr(method, "__func__", None)
    return session.lift(method) if inside is None else type(method)(session.lift(inside))
