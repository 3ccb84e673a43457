"""Texts of values that only the running program has: what it prints, and what its errors say."""

from __future__ import annotations

import builtins
import copy
from collections.abc import Callable
from typing import Any

from ..core import trees
from ..core.array import Array
from ..lift.containers import SIMPLE
from ..lift.texts import Text
from .effects import Blank

__all__ = ["opened", "printer"]


class _Filler:
    """Puts a tree together of values of the program and of leaves that are known."""

    __slots__ = ("_leaves", "_structure", "operands")

    def __init__(self, tree: Any) -> None:
        found, self._structure = trees.flatten(tree)
        self.operands = [v for v in found if isinstance(v, Array)]
        self._leaves = [_OPEN if isinstance(v, Array) else _known(v) for v in found]

    def __call__(self, *values: Any) -> Any:
        given = iter(values)
        return trees.unflatten(self._structure, [next(given) if v is _OPEN else v for v in self._leaves])


_OPEN = object()


def _known(value: Any) -> Any:
    """What is known, as it is now: objects may change before the program runs."""
    return value if type(value) in SIMPLE or isinstance(value, Text) else _Said(str(value))


class _Said(str):
    """What an object said of itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def printer(values: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[list[Array], Callable[..., None]]:
    """The operands of a print, and what prints when it is given their values."""
    fill = _Filler([v.values if isinstance(v, Text) else v for v in values])
    makers = [v.make if isinstance(v, Text) else None for v in values]

    def show(*found: Any) -> None:
        parts = [v if make is None else make(*v) for v, make in zip(fill(*found), makers, strict=True)]
        builtins.print(*parts, **keywords)  # noqa: T201

    return fill.operands, show


def opened(error: BaseException) -> tuple[list[Array], BaseException]:
    """The operands of an error's message, and the error with blanks for them."""
    texts = [a for a in error.args if isinstance(a, Text)]
    if not texts:
        return [], error
    fill = _Filler([t.values for t in texts])
    made = copy.copy(error)

    def blank(text: Text, number: int) -> Blank:
        return Blank(lambda *values: text.make(*fill(*values)[number]))

    numbers = iter(range(len(texts)))
    made.args = tuple(blank(a, next(numbers)) if isinstance(a, Text) else a for a in error.args)
    return fill.operands, made
