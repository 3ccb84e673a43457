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
from .reach import implementation
from .session import Session, prepared_code

__all__ = ["lifted_library"]


class _LibrarySession(Session):
    """A session without end, for code whose globals never change."""

    __slots__ = ()

    def library(self, function: types.FunctionType) -> types.FunctionType:
        """A library function over a view of its globals."""
        lifted = types.FunctionType(
            prepared_code(function.__code__),
            self.view(function.__globals__),
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        lifted.__kwdefaults__ = function.__kwdefaults__
        return lifted

    def function(self, function: types.FunctionType) -> Any:
        if function in FUNCTIONS:
            return FUNCTIONS[function]
        known = self.known.get(id(function))
        if known is None:
            if not function.__module__.startswith("numpy"):
                return function
            known = self.known[id(function)] = (function, self.library(function))
        return known[1]

    def container(self, container: Any) -> Any:
        return container


_session = _LibrarySession()
_lifted: dict[Any, types.FunctionType] = {}


def lifted_library(function: Any) -> types.FunctionType:
    """What stands for a NumPy function that no table knows: its own Python code, lifted."""
    known = _lifted.get(function)
    if known is None:
        code = implementation(function)
        if code is None:
            name = f"{getattr(function, '__module__', 'numpy')}.{getattr(function, '__name__', function)}"
            raise UnsupportedError(f"{user_line()}: {name} has no rule for traced values")
        known = _lifted[function] = _session.library(code)
    return known


def install() -> None:
    """Answer what no table knows."""
    hooks.fallback = lifted_library
