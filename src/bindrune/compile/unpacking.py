"""Taking the arguments of calls apart, and putting results together, by functions made for one structure.

To look at arguments whose structure is not known takes longer than many programs run.  Once a call has been served, a
function is written for calls like it: it gives what is traced of their arguments, or None where anything else is not as
it was, by classes, lengths, keys and their order, and fixed values.  What it cannot look at quickly it is not made for.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType, NoneType
from typing import Any

import numpy as np

from ..core import trees

__all__ = ["packer", "unpacker"]

_COMPARED = (int, str, bytes)
"""The classes of values that are quickly compared."""

_ONLY_THEMSELVES = (bool, type, FunctionType, BuiltinFunctionType, np.ufunc, NoneType)
"""Those of values that are equal to nothing else."""


class _Place(int):
    """Stands for a leaf of a structure: its number."""


class _UnknownError(Exception):
    """There is something of a kind that is not looked at."""


class _Text:
    """Collects the text of a function, and the values it mentions."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.values: dict[str, Any] = {}
        self._numbers = itertools.count()

    def mention(self, value: Any) -> str:
        """A name for a value."""
        name = f"k{next(self._numbers)}"
        self.values[name] = value
        return name

    def let(self, expression: str) -> str:
        """A name for what an expression gives."""
        name = f"x{next(self._numbers)}"
        self.lines.append(f"{name} = {expression}")
        return name

    def expect(self, condition: str) -> None:
        """Give nothing unless something holds."""
        self.lines.append(f"if not ({condition}): return None")

    def function(self, parameters: str, result: str) -> Callable[..., Any]:
        """The function."""
        body = "".join(f"    {line}\n" for line in [*self.lines, f"return {result}"])
        exec(f"def function({parameters}):\n{body}", self.values)
        found: Callable[..., Any] = self.values["function"]
        return found


def _numbered(structure: Any, count: int) -> Any:
    return trees.unflatten(structure, [_Place(i) for i in range(count)])


def _is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields") and kind.__getitem__ is tuple.__getitem__


# ------------------------------------------------------------------------------------------------------- taking apart


def unpacker(
    structure: Any,
    leaves: Sequence[Any],
    is_traced: Sequence[bool],
    statics: Sequence[tuple[Any, Any]],
    names: Sequence[str],
) -> Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, ...] | None] | None:
    """A function that gives what is traced of arguments and keywords, or None; None itself where there can be none.

    Args:
        structure: that of the arguments and keywords, in which None stands for a static argument.
        leaves: their leaves.
        is_traced: for each whether it is traced.
        statics: the places and values of static arguments.
        names: the keywords, in the order in which they are given.
    """
    text = _Text()
    found: list[str] = [""] * len(leaves)
    arguments, keywords = _numbered(structure, len(leaves))
    fixed = dict(statics)
    given: list[tuple[str, Any, Any]] = []
    text.expect(f"len(arguments) == {len(arguments)}")
    text.expect(f"tuple(keywords) == {text.mention(tuple(names))}" if names else "not keywords")
    for i, tree in enumerate(arguments):
        place = i if i in fixed else i - len(arguments)
        given.append((text.let(f"arguments[{i}]"), place, tree))
    given += [(text.let(f"keywords[{name!r}]"), name, keywords.get(name)) for name in names]
    try:
        for expression, place, tree in given:
            if place in fixed:
                _expect_equal(text, expression, fixed[place])
            else:
                _take_apart(text, expression, tree, leaves, is_traced, found)
    except _UnknownError:
        return None
    traced = [f"{expression}," for expression, wanted in zip(found, is_traced, strict=True) if wanted]
    return text.function("arguments, keywords", f"({' '.join(traced)})")


def _expect_equal(text: _Text, expression: str, value: Any) -> None:
    """A fixed value: the very same, or of some classes an equal one."""
    name = text.mention(value)
    same = f"{expression} is {name}"
    if type(value) in _COMPARED:
        same += f" or (type({expression}) is {text.mention(type(value))} and {expression} == {name})"
    elif not isinstance(value, _ONLY_THEMSELVES):
        raise _UnknownError
    text.expect(same)


def _take_apart(
    text: _Text, x: str, tree: Any, leaves: Sequence[Any], is_traced: Sequence[bool], found: list[str]
) -> None:
    """Look at a part of the arguments, and note where its leaves are."""
    kind = type(tree)
    if kind is _Place:
        found[tree] = x
        if not is_traced[tree]:
            _expect_equal(text, x, leaves[tree])
        return
    if tree is None:
        text.expect(f"{x} is None")
        return
    text.expect(f"type({x}) is {text.mention(kind)}")
    parts: list[tuple[str, Any]]
    if kind in (tuple, list) or _is_named_tuple(kind):
        text.expect(f"len({x}) == {len(tree)}")
        parts = [(f"{x}[{i}]", part) for i, part in enumerate(tree)]
    elif kind in (dict, OrderedDict):
        text.expect(f"tuple({x}) == {text.mention(tuple(tree))}")
        parts = [(f"{x}[{text.mention(key)}]", part) for key, part in tree.items()]
    else:
        fields = trees.registered_fields(kind)
        if fields is None or fields[1]:
            raise _UnknownError
        parts = [(f"{x}.{name}", getattr(tree, name)) for name in fields[0]]
    for expression, part in parts:
        _take_apart(text, text.let(expression), part, leaves, is_traced, found)


# --------------------------------------------------------------------------------------------------- putting together


def packer(structure: Any, count: int) -> Callable[[Sequence[Any]], Any]:
    """A function from the leaves of a structure to its tree."""
    text = _Text()
    try:
        return text.function("found", _put_together(text, _numbered(structure, count)))
    except _UnknownError:
        return lambda found: trees.unflatten(structure, found)


def _put_together(text: _Text, tree: Any) -> str:
    kind = type(tree)
    if kind is _Place:
        return f"found[{int(tree)}]"
    if tree is None:
        return "None"
    if kind is dict:
        return f"{{{', '.join(f'{text.mention(k)}: {_put_together(text, v)}' for k, v in tree.items())}}}"
    if kind not in (tuple, list):
        raise _UnknownError
    parts = ", ".join(_put_together(text, part) for part in tree)
    return f"[{parts}]" if kind is list else f"({parts}{',' if len(tree) == 1 else ''})"
