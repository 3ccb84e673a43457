"""The tables through which NumPy's own names reach the operations.

`__array_ufunc__` and `__array_function__` look here.  Higher floors fill the tables when they are imported; this file
knows none of them.  What no table knows goes to `fallback`, which runs NumPy's own Python code on stand-ins where
there is some, and refuses otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["FUNCTIONS", "UFUNCS", "hooks", "implements"]

UFUNCS: dict[Any, Any] = {}
"""From a NumPy (or SciPy) ufunc to the elementwise operation it performs."""

FUNCTIONS: dict[Any, Callable[..., Any]] = {}
"""From a NumPy function to ours of the same signature."""

_F = TypeVar("_F", bound=Callable[..., Any])


class _Hooks:
    """What higher floors do for lower ones."""

    fallback: Callable[..., Any]
    """From a NumPy function no table knows to one that takes stand-ins."""
    asarray: Callable[[Any], Any]
    """From a nested list with stand-ins in it to one stand-in."""
    ufunc: Callable[..., Any]
    """``__array_ufunc__``: (ufunc, method, inputs, keywords) to the result."""
    drawing: Callable[[str], object] = staticmethod(lambda name: None)
    """Told before a generator of NumPy's draws; staging refuses."""
    layout: Callable[..., object] = staticmethod(lambda cell, made, by_order=True: None)
    """Told of what is made of a cell that is a view or not as that lies in memory; staging has no layouts.

    If it goes `by_order`, what is made was decided as for a cell in C's order; else nobody knows.
    """
    zeros: Callable[[tuple[Any, ...], Any], Any]
    """``np.zeros`` for a shape with lengths that only a running program knows."""
    reword: Callable[[BaseException], None]
    """Told of errors in the code of a transformed function, to correct what Python says there of stand-ins."""
    special: Callable[[], None]
    """Defines the operations of ufuncs outside NumPy."""
    linalg: Callable[[], None]
    """Defines those of SciPy's linear algebra."""


hooks = _Hooks()


def implements(*functions: Any) -> Callable[[_F], _F]:
    """Declare a function to be ours for NumPy's `functions`."""

    def register(function: _F) -> _F:
        for name in functions:
            FUNCTIONS[name] = function
        return function

    return register
