"""NumPy's own Python code, lifted.

Many NumPy functions (`np.cross`, `np.trapezoid`, `np.kron`) are Python programs over others.  Run lifted, they work
on stand-ins exactly as they work on arrays: with their own argument handling and their own errors, and with the
derivatives of what they call.
"""

from __future__ import annotations

import types
from typing import Any

from ..core.errors import UnsupportedError, user_line
from ..core.protocol import FUNCTIONS, hooks

__all__ = ["is_python", "lifted_library"]


def implementation(function: Any) -> Any:
    """The Python function behind NumPy's dispatcher, or None."""
    inner = getattr(function, "__wrapped__", function)
    return inner if isinstance(inner, types.FunctionType) else None


def is_python(function: Any) -> bool:
    """Whether a NumPy function is written in Python."""
    return implementation(function) is not None


_lifted: dict[Any, Any] = {}


def lifted_library(function: Any) -> Any:
    """A NumPy function written in Python, to be called with stand-ins."""
    known = _lifted.get(function)
    if known is None:
        known = _lifted[function] = _SESSION.library(implementation(function))
    return known


def _fallback(function: Any) -> Any:
    """For a function that no table knows."""
    name = f"{getattr(function, '__module__', 'numpy')}.{getattr(function, '__name__', function)}"
    if not is_python(function):
        raise UnsupportedError(f"{user_line()}: {name} has no rule for traced values")
    return lifted_library(function)


def install() -> None:
    """Answer what no table knows."""
    global _SESSION
    from .session import Session

    class LibrarySession(Session):
        """A session without end, for code whose globals never change."""

        __slots__ = ()

        def library(self, function: types.FunctionType) -> types.FunctionType:
            """A library function over a view of its globals."""
            return types.FunctionType(
                function.__code__,
                self.view(function.__globals__),
                function.__name__,
                function.__defaults__,
                function.__closure__,
            )

        def function(self, function: types.FunctionType) -> Any:
            if function in FUNCTIONS:
                return FUNCTIONS[function]
            known = self.known.get(id(function))
            if known is None:
                if not function.__module__.startswith("numpy"):
                    return function
                lifted = self.library(function)
                lifted.__kwdefaults__ = function.__kwdefaults__
                known = self.known[id(function)] = (function, lifted)
            return known[1]

    _SESSION = LibrarySession()
    hooks.fallback = _fallback


_SESSION: Any = None
