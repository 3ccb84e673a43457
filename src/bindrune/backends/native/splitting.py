"""Splitting: a loop that reads one element of a row which it writes becomes two loops and the step between them.

The step that writes the element is known before the loop begins.  The steps before it all read what was there, those
after it all read what it has left, so that each of the two loops reads the element once, does not depend on itself any
more, and can be vectorised.  It is what sweeps with a pivot do: shortest paths, eliminations.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from .fusion import same_step
from .loops import (
    INTEGER,
    Accumulate,
    Affine,
    Apply,
    Expression,
    For,
    If,
    Let,
    Load,
    Program,
    Statement,
    Store,
    Variable,
    affine,
)
from .ranges import nonnegative
from .rewriting import Access, Rewriter, accesses

__all__ = ["is_independent", "split"]

_LARGEST = 32
"""The most statements of a body that is written three times."""

_FEWEST = 16
"""A loop of fewer steps is not worth it."""

_BOOL = np.dtype(bool)


def split(program: Program) -> None:
    """Split the loops of a program, where that lets them be vectorised."""
    program.body = list(_split(program.body))


def is_independent(s: For) -> bool:
    """Whether it can be seen that no step of a loop touches what another one writes."""
    if not all(isinstance(inner, (Let, Store)) for inner in s.body):
        return False
    own, touched = _own(s), _touched(s)
    at = affine(s.variable)
    return all(
        a[0].storage is not b[0].storage
        or (a[0].storage.start is None and same_step(a[0], _fixed(a, own), at, b[0], _fixed(b, own), at))
        for b in touched
        if b[2]
        for a in touched
    )


def _fixed(access: Access, own: set[Variable]) -> tuple[Affine, ...]:
    """An index, but zero where it depends on what the steps compute."""
    return tuple(affine(0) if any(v in own for v, _ in i.terms) else i for i in access[1])


def _own(s: For) -> set[Variable]:
    """The variables that a step gives values."""
    return {inner.variable for inner in s.body if isinstance(inner, Let)}


def _touched(s: For) -> list[Access]:
    return [access for inner in s.body for access in accesses(inner)]


def _split(block: list[Statement]) -> Iterator[Statement]:
    for s in block:
        for inner in s.blocks:
            inner[:] = _split(inner)
        step = _pivot(s) if isinstance(s, For) else None
        if step is None:
            yield s
        else:
            assert isinstance(s, For)
            yield from _parts(s, step)


def _pivot(s: For) -> Affine | None:
    """The one step of a loop that writes what other steps read."""
    if not s.ordered or len(s.body) > _LARGEST or (s.extent.known is not None and s.extent.known < _FEWEST):
        return None
    if not all(isinstance(inner, (Let, Store, Accumulate)) for inner in s.body):
        return None
    own, touched = _own(s), _touched(s)
    found = {step for a in touched for b in touched if b[2] for step in _meetings(a, b, s.variable)}
    steps = [step for step in found if not (nonnegative(affine(-1) - step) or nonnegative(step - s.extent))]
    if len(steps) != 1 or any(v in own for v, _ in steps[0].terms):
        return None
    return steps[0]


def _meetings(a: Access, b: Access, counter: Variable) -> Iterator[Affine]:
    """The only step at which one access can write the element that another touches at every step."""
    if a[0].storage is not b[0].storage or a[0].shape != b[0].shape:
        return
    for i, j in zip(a[1], b[1], strict=True):
        factor = dict(j.terms).get(counter, 0)
        if abs(factor) == 1 and counter not in dict(i.terms):
            yield (i - (j - affine(counter) * factor)) * factor


def _parts(s: For, step: Affine) -> Iterator[Statement]:
    """The loop up to a step, that step, and the loop from there on; the step need not be one of the loop's."""
    before = step
    if not nonnegative(s.extent - step):
        before = yield from _chosen(_less(step, s.extent), step, s.extent)
    yield _part(s, step, affine(0), before)
    alone = Rewriter({s.variable: step}).block(s.body)
    limits = [] if nonnegative(step) else [_less(affine(-1), step)]
    if not nonnegative(s.extent - 1 - step):
        limits.append(_less(step, s.extent))
    # A loop of one step, for what it computes is computed again in the other parts.
    once: Statement = For(Variable(INTEGER, s.variable.name, affine(1)), affine(1), alone, True)
    if limits:
        once = If(limits[0] if len(limits) == 1 else Apply("logical_and", tuple(limits), _BOOL), [once], [])
    yield once
    after = step + 1
    if not nonnegative(after):
        after = yield from _chosen(_less(after, affine(0)), affine(0), after)
    yield _part(s, step, after, s.extent - after)


def _part(s: For, step: Affine, start: Affine, steps: Affine) -> Statement:
    """A part of a loop without the step; where it has any steps, what that step would write is read beforehand."""
    read = _Read(s, step)
    body = read.block(s.body)
    counter = Variable(INTEGER, s.variable.name, steps)
    moved = Rewriter({s.variable: affine(counter) + start}).block(body)
    loop = For(counter, steps, moved, s.ordered)
    return If(_less(affine(0), steps), [*read.before, loop], [])


class _Read(Rewriter):
    """Puts numbers that are read once in place of elements that a loop only touches at one step.

    Attributes:
        before: the statements that read them.
    """

    def __init__(self, s: For, step: Affine) -> None:
        super().__init__()
        self.before: list[Statement] = []
        self._variables: dict[tuple[int, tuple[Affine, ...]], Variable] = {}
        own, touched = _own(s), _touched(s)
        for a in touched:
            key = id(a[0].storage), a[1]
            moving = any(v in own or v is s.variable for i in a[1] for v, _ in i.terms)
            writes = [b for b in touched if b[2] and b[0].storage is a[0].storage]
            if moving or not writes or key in self._variables:
                continue
            if all(step in _meetings(a, b, s.variable) for b in writes):
                variable = self._variables[key] = Variable(a[0].dtype)
                self.before.append(Let(variable, Load(a[0], a[1])))

    def expression(self, x: Expression) -> Expression:
        if isinstance(x, Load):
            return self._variables.get((id(x.buffer.storage), x.index), x)
        return super().expression(x)


def _chosen(condition: Expression, a: Affine, b: Affine) -> Generator[Statement, None, Affine]:
    """Name the one of two numbers that a condition says."""
    variable = Variable(INTEGER)
    yield Let(variable, Apply("where", (condition, a, b), INTEGER))
    return affine(variable)


def _less(a: Affine, b: Affine) -> Expression:
    return Apply("less", (a, b), _BOOL)
