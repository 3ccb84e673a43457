"""Text with values in it that are not known while a function is staged: what is printed, and messages of errors.

Where such a text is only shown, it stays open until the program runs: a `Text` holds what makes it and the values.
Whoever needs it sooner turns it into a string, for which the values are computed (and guarded).
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from ..core import trees
from ..core.array import Array
from .stager import current

__all__ = ["Text", "closed", "lifted_print", "printing", "text"]


class Text:
    """A string to be made of values.

    Attributes:
        make: makes it.
        values: trees of what it is made of.
    """

    __slots__ = ("make", "values")

    def __init__(self, make: Callable[..., str], values: tuple[Any, ...]) -> None:
        self.make = make
        self.values = values

    def __str__(self) -> str:
        return self.make(*self.values)


def text(make: Callable[..., str], *values: Any) -> Any:
    """An f-string, or another expression that formats, of some values."""
    if current.get() is not None and any(isinstance(v, Array) for v in trees.flatten(list(values))[0]):
        return Text(make, values)
    return make(*values)


def closed(value: Any) -> Any:
    """A text as the string that it is; anything else as it is."""
    return str(value) if isinstance(value, Text) else value


def lifted_print(*values: Any, **keywords: Any) -> None:
    """`print`: a staged function prints whenever it runs."""
    stager = current.get()
    if stager is None:
        builtins.print(*values, **keywords)  # noqa: T201
    else:
        stager.show(values, keywords)


def printing(function: Callable[..., Any], *values: Any, **keywords: Any) -> Any:
    """A call of `print`, or of what else has that name."""
    if function is not lifted_print:
        values = tuple(map(closed, values))
    return function(*values, **keywords)
