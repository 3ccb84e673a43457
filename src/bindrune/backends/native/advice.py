"""What LLVM is told of loops: which to write out, and which to leave as they are."""

from __future__ import annotations

from .loops import For, Statement

__all__ = ["STEP_BY_STEP", "advice"]

_SHORT, _LARGEST = 8, 256
"""Loops of fewer steps are written out, unless that makes more statements."""

_FEW = 128
"""Loops of no more steps are written out when they are vectorised, if there is little in them."""

STEP_BY_STEP = "vectorize.enable"
"""What LLVM is told of a loop that is to stay as it is."""


def advice(s: For) -> str:
    """What LLVM should do with a loop: write out short ones, and of the others vectorise the inner ones only."""
    if _is_short(s):
        return "unroll.full"
    if any(isinstance(loop, For) and not _is_short(loop) for loop in s.body):
        return STEP_BY_STEP
    steps = s.extent.known
    if steps is not None and _SHORT < steps < 2 * _SHORT:
        return STEP_BY_STEP  # no whole number of vectors, and vectors that are masked would wait for memory
    few = steps is not None and steps <= _FEW and not s.ordered
    return "vectorize.followup_vectorized" if few and len(s.body) <= _SHORT else ""


def _is_short(s: For) -> bool:
    return s.extent.known is not None and s.extent.known < _SHORT and _written_out(s) <= _LARGEST


def _written_out(s: Statement) -> int:
    """How many statements one is whose loops are written out."""
    steps = 1
    if isinstance(s, For):
        steps = _LARGEST + 1 if s.extent.known is None else s.extent.known
    return steps * (1 + sum(_written_out(inner) for block in s.blocks for inner in block))
