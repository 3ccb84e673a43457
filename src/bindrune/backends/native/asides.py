"""Asides: loops that take next to no part of a program's time are set aside, and not optimised.

LLVM is as long about a loop over a few hundred numbers as about one over millions.  What the program takes at least is
known from its products and from the loops whose steps are known.  Of these the smallest, as many as together take no
share of it that matters even one element after the other, are neither jammed nor vectorised.
"""

from __future__ import annotations

from .loops import Aside, For, Program, Statement
from .work import least_work, work

__all__ = ["set_aside"]

_SHARE = 1 / 500
"""The part of a program's time that may be given away."""


def set_aside(program: Program) -> None:
    """Set aside the loops of a program that are not worth being optimised."""
    left = _SHARE * least_work(program.body)
    costs = {i: work([s]) for i, s in enumerate(program.body) if isinstance(s, For) and _is_known(s)}
    body = list(program.body)
    for i, cost in sorted(costs.items(), key=lambda item: item[1]):
        left -= cost
        if left < 0:
            break
        body[i] = Aside([body[i]])
    program.body = body


def _is_known(s: Statement) -> bool:
    """Whether the steps of all loops in a statement are known."""
    if s.blocks and not (isinstance(s, For) and s.extent.known is not None):
        return False
    return all(_is_known(inner) for block in s.blocks for inner in block)
