"""What is left to do after fusion: nests over two axes that lie in memory as one.

A perfect nest of two loops whose accesses all go along memory becomes one loop, which is better cut in parts and better
vectorised where the inner loop was short.
"""

from __future__ import annotations

from .loops import (
    INTEGER,
    Accumulate,
    Affine,
    Buffer,
    For,
    Let,
    Program,
    Statement,
    Store,
    Variable,
    affine,
)
from .rewriting import Rewriter, accesses, variables

__all__ = ["simplify"]


def simplify(program: Program) -> None:
    """Simplify the nests of a fused program."""
    program.body = _collapsed(program.body)


def _collapsed(block: list[Statement]) -> list[Statement]:
    done: list[Statement] = []
    for s in block:
        for inner in s.blocks:
            inner[:] = _collapsed(inner)
        if isinstance(s, For):
            s = _as_one(s) or s
        done.append(s)
    return done


def _as_one(outer: For) -> For | None:
    """A nest of two loops as one, if all that is in it goes along memory."""
    if outer.ordered or len(outer.body) != 1 or not isinstance(outer.body[0], For):
        return None
    inner = outer.body[0]
    length = _product(outer.extent, inner.extent)
    if inner.ordered or length is None or any(v is outer.variable for v, _ in inner.extent.terms):
        return None
    i, j = affine(outer.variable), affine(inner.variable)
    for s in inner.body:
        if not isinstance(s, (Let, Store, Accumulate)):
            return None
        if not all(_goes_along(buffer, index, i, j, inner.extent) for buffer, index, _ in accesses(s)):
            return None
        if _used_beside_accesses(s, {outer.variable, inner.variable}):
            return None
    variable = Variable(INTEGER, inner.variable.name, length)
    at = affine(variable)

    def element(buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        if i not in index:
            return buffer, index
        d = index.index(i)
        joined = _product(buffer.shape[d], buffer.shape[d + 1])
        assert joined is not None
        shape = (*buffer.shape[:d], joined, *buffer.shape[d + 2 :])
        return Buffer(buffer.storage, shape), (*index[:d], at, *index[d + 2 :])

    return For(variable, length, Rewriter(element=element).block(inner.body), False)


def _product(a: Affine, b: Affine) -> Affine | None:
    if a.known is not None:
        return b * a.known
    return a * b.known if b.known is not None else None


def _goes_along(buffer: Buffer, index: tuple[Affine, ...], i: Affine, j: Affine, inner: Affine) -> bool:
    """Whether an access goes on where it was when the inner loop is over."""
    (vi, _), (vj, _) = i.terms[0], j.terms[0]
    moving = [d for d, x in enumerate(index) if any(v in (vi, vj) for v, _ in x.terms)]
    if not moving:
        return True
    if len(moving) != 2 or moving[1] != moving[0] + 1:
        return False
    d = moving[0]
    along = index[d] == i and index[d + 1] == j and buffer.shape[d + 1] == inner
    return along and _product(buffer.shape[d], buffer.shape[d + 1]) is not None


def _used_beside_accesses(s: Statement, counters: set[Variable]) -> bool:
    """Whether a statement computes with a counter itself."""
    within = sum(1 for _, index, _ in accesses(s) for x in index for v, _ in x.terms if v in counters)
    return sum(v in counters for v in variables(s)) != within
