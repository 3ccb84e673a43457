"""Asides: loops that take next to no part of a program's time are set aside, and not optimised.

LLVM is as long about a loop over a few hundred numbers as about one over millions.  What the program takes at least is
known from its products and from the loops whose steps are known.  Of these the smallest, as many as together take no
share of it that matters even one element after the other, are neither jammed nor vectorised.
"""

from __future__ import annotations

from collections.abc import Iterator

from .loops import For, Program, Statement
from .work import least_work, work

__all__ = ["Aside", "set_aside"]

_SHARE = 1 / 500
"""The part of a program's time that may be given away."""


class Aside(Statement):
    """A loop of a program that takes next to no part of its time."""

    __slots__ = ("body",)

    def __init__(self, body: list[Statement]) -> None:
        self.body = body

    @property
    def blocks(self) -> tuple[list[Statement], ...]:
        return (self.body,)

    def lines(self) -> Iterator[str]:
        yield "aside:"
        for s in self.body:
            yield from (f"    {line}" for line in s.lines())


def set_aside(program: Program) -> None:
    """Set aside the loops of a program that are not worth being optimised."""
    left = _SHARE * least_work(program.body)
    loops = [(work([s]), i, s) for i, s in enumerate(program.body) if isinstance(s, For) and _is_known(s)]
    for cost, i, s in sorted(loops, key=lambda item: item[:2]):
        left -= cost
        if left < 0:
            break
        program.body[i] = Aside([s])


def _is_known(s: Statement) -> bool:
    """Whether the steps of all loops in a statement are known."""
    if s.blocks and not (isinstance(s, For) and s.extent.known is not None):
        return False
    return all(_is_known(inner) for block in s.blocks for inner in block)
