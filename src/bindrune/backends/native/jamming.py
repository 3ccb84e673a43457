"""Jamming: four steps of an outer loop at a time, so that its inner loops read what they share once.

The rows of a matrix times a vector are sums of their own, each of which must be added up across the lanes of a register
at its end, and each reads the whole vector.  Four at a time they keep four sums, and read the vector once.  In the same
way what several rows add to one vector is loaded and stored once.

It applies to loops whose steps are independent of each other, up to accumulations, and whose inner loops go over the
same range in all steps.
"""

from __future__ import annotations

from .asides import Aside
from .loops import (
    INTEGER,
    Accumulate,
    Affine,
    Apply,
    For,
    Let,
    Program,
    Statement,
    Storage,
    Store,
    Variable,
    affine,
)
from .memory import in_register
from .rewriting import Copier, Rewriter, accesses

__all__ = ["jam"]

_TOGETHER = 4
_SHORT = 8
"""Loops of fewer steps are left alone."""

_LARGEST = 24
"""The most statements of a body that is written so often."""


def jam(program: Program) -> None:
    """Take steps of loops together where that saves loads."""
    scopes: dict[Storage, set[int]] = {}
    _look(program.body, (), scopes)
    program.body = _jammed(program.body, scopes)


def _look(block: list[Statement], loops: tuple[int, ...], scopes: dict[Storage, set[int]]) -> None:
    """Find for each storage the loops that all its accesses are in."""
    for s in block:
        for buffer, _, _ in accesses(s):
            scopes.setdefault(buffer.storage, set(loops)).intersection_update(loops)
        for inner in s.blocks:
            _look(inner, (*loops, id(s)), scopes)


def _jammed(block: list[Statement], scopes: dict[Storage, set[int]]) -> list[Statement]:
    found: list[Statement] = []
    for s in block:
        if isinstance(s, For) and _is_worth_it(s, scopes):
            found += _together(s, scopes)
        else:
            for inner in () if isinstance(s, Aside) else s.blocks:
                inner[:] = _jammed(inner, scopes)
            found.append(s)
    return found


def _is_worth_it(outer: For, scopes: dict[Storage, set[int]]) -> bool:
    if outer.ordered or not _is_long(outer):
        return False
    inner = [s for s in outer.body if isinstance(s, For)]
    if any(v is outer.variable for loop in inner for v, _ in loop.extent.terms):
        return False
    straight = [s for s in outer.body if not isinstance(s, For)] + [s for loop in inner for s in loop.body]
    if len(straight) > _LARGEST or not all(isinstance(s, (Let, Store, Accumulate)) for s in straight):
        return False
    touched = {buffer.storage for s in straight for buffer, _, _ in accesses(s)}
    if any(storage.shape and storage.role == "temporary" and id(outer) in scopes[storage] for storage in touched):
        return False
    counted = {outer.variable, *(s.variable for s in straight if isinstance(s, Let))}
    if any(v in counted for storage in touched if storage.start is not None for v, _ in storage.start.terms):
        return False
    if any(buffer.storage.start is not None for loop in inner for s in loop.body for buffer, _, _ in accesses(s)):
        return False  # so many rows and the tape cannot be told apart before the loop
    # Only what is summed is read or written less often.
    return any(isinstance(s, Accumulate) and s.name == "add" for loop in inner if _is_long(loop) for s in loop.body)


def _is_long(loop: For) -> bool:
    return loop.extent.known is None or loop.extent.known >= _SHORT


def _together(outer: For, scopes: dict[Storage, set[int]]) -> list[Statement]:
    """A loop over groups of steps, and one over those that are left."""
    found: list[Statement] = []
    if outer.extent.known is not None:
        groups = affine(outer.extent.known // _TOGETHER)
    else:
        variable = Variable(INTEGER, "g")
        found.append(Let(variable, Apply("floor_divide", (outer.extent, affine(_TOGETHER)), INTEGER)))
        groups = affine(variable)
    group = Variable(INTEGER, outer.variable.name, groups)
    copies = [_copy(outer, affine(group) * _TOGETHER + i, scopes) for i in range(_TOGETHER)]
    body: list[Statement] = []
    for i, s in enumerate(outer.body):
        if isinstance(s, For):
            step = Variable(INTEGER, s.variable.name, s.extent)
            jammed: list[Statement] = []
            for copy in copies:
                mine = copy[i]
                assert isinstance(mine, For)
                jammed += Rewriter({mine.variable: affine(step)}).block(mine.body)
            body.append(For(step, s.extent, jammed, s.ordered))
        else:
            body += [copy[i] for copy in copies]
    found.append(For(group, groups, body, False))
    left = outer.extent - groups * _TOGETHER
    if left.known != 0:
        last = Variable(INTEGER, outer.variable.name, left)
        found.append(For(last, left, _copy(outer, affine(last) + groups * _TOGETHER, scopes), False))
    return found


def _copy(outer: For, step: Affine, scopes: dict[Storage, set[int]]) -> list[Statement]:
    """The body of a loop at a step, with variables and temporaries of its own."""
    own = {storage for storage, loops in scopes.items() if in_register(storage) and id(outer) in loops}
    return Copier({outer.variable: step}, own).block(outer.body)
