"""Keys and samples in a lifted function: constant cells, as the arrays of `np.zeros` are there.

Traced values can be written into them, and derivatives and lanes are followed from there on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from ..core.handler import constant
from ..lift.names import REPLACED

__all__ = ["replace"]


def replace(functions: Iterable[Callable[..., Any]]) -> None:
    """Let lifted code have constant cells from functions that return an array or a number."""
    for function in functions:
        REPLACED[function] = _giving_cells(function)


def _giving_cells(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def give(*arguments: Any, **keywords: Any) -> Any:
        return constant(function(*arguments, **keywords))

    return give
