"""Likeness: functions of a program that do the same with what they are given are one function.

The layers of a network make the same loops again and again, with other arrays.  What a function is about is its text
but for the names in it: its own arrays, and the numbers under which the module says what may overlap and how loops are
to be compiled, are named in the order in which they come.  What does not overlap with what the function does not touch
is left out.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence

from .loops import Apply, Expression, For, Statement
from .rewriting import expressions

__all__ = ["Descriptions", "outline", "signature"]

_NAMED = re.compile(r"%(t\d+)\b|!alias\.scope !(\d+), !noalias !(\d+)|!llvm\.access\.group !(\d+)|!llvm\.loop !(\d+)")
_SCOPE = re.compile(r"!alias\.scope !(\d+)")


class Descriptions:
    """What a module says under numbers, of memory and of loops.

    Attributes:
        scopes: by the number of a list of scopes what is in it.
        loops: by the number of what is said of a loop the advice for LLVM, and the number of its group of accesses.
    """

    def __init__(self) -> None:
        self.scopes: dict[str, Sequence[str]] = {}
        self.loops: dict[str, tuple[str, str]] = {}


def signature(text: str, described: Descriptions) -> str:
    """A text that functions share that are alike; the first line, which names them, is no part of it."""
    body = text.partition("\n")[2]
    met = _numbered(scope for number in _SCOPE.findall(body) for scope in described.scopes[number])
    names: dict[str, int] = {}

    def renamed(found: re.Match[str]) -> str:
        own, mine, others, group, loop = found.groups()
        if own:
            return f"%t.{names.setdefault(own, len(names))}"
        if mine:
            return f"in {_known(described.scopes[mine], met)}, not in {_known(described.scopes[others], met)}"
        if group:
            return f"group {names.setdefault(group, len(names))}"
        advice, group = described.loops[loop]
        return f"loop {advice} {names.setdefault(group, len(names)) if group else ''}"

    return _NAMED.sub(renamed, body)


def _numbered(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found.setdefault(name, len(found))
    return found


def _known(scopes: Iterable[str], met: Mapping[str, int]) -> list[int]:
    """The scopes that a function touches, by when it does so first."""
    return sorted(met[scope] for scope in scopes if scope in met)


def outline(s: Statement) -> Hashable:
    """What a statement is made of, whatever arrays it is about: the same for statements that are alike."""
    steps = s.extent.known if isinstance(s, For) else None
    inside = tuple(tuple(map(outline, block)) for block in s.blocks)
    return type(s).__name__, steps, tuple(map(_operations, expressions(s))), inside


def _operations(x: Expression) -> Hashable:
    return (x.name, *map(_operations, x.arguments)) if isinstance(x, Apply) else type(x).__name__
