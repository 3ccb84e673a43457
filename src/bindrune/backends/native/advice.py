"""What becomes of a loop: whether it is written out, left as it is, made vectors of; and how LLVM is told.

A loop over rows that do not all fit into the cache, and that a loop around runs again and again, goes through them
there and back: those that are still in the cache are the ones it came to last.
"""

from __future__ import annotations

import math
from collections.abc import Container

from .instructions import LIBRARY
from .loops import Accumulate, Affine, Apply, Expression, For, Let, Statement, Storage, Store, Variable
from .machine import vector_bytes
from .mathematics import KERNELS
from .rewriting import accesses, expressions

__all__ = ["LINE", "STEP_BY_STEP", "advised", "does_several", "is_elaborate", "is_short", "turns_back"]

STEP_BY_STEP = '!"llvm.loop.vectorize.enable", i1 false'
"""The loop is to stay as it is."""

_WRITTEN_OUT_IN_VECTORS = '!"llvm.loop.vectorize.followup_vectorized", !{!"llvm.loop.unroll.enable"}'
_ONE_AT_A_TIME = '!"llvm.loop.interleave.count", i32 1'
"""No more than one vector at a time is computed."""

_OF_LENGTH = '!"llvm.loop.vectorize.width", i32 {}'
"""Vectors are to have so many lanes."""

_SHORT, _LARGEST = 8, 256
"""Loops of fewer steps are written out, unless that makes more statements."""

_FEW = 128
"""Loops of no more steps are written out when they are vectorised, if there is little in them."""

LINE = 64
"""The bytes of a line of the cache."""

_SUMS = ("add", "subtract", "multiply", "negative")
"""The operations of sums and products."""

_CACHE = 1 << 20
"""The bytes that stay close to a core."""

_NEAREST = 1 << 15
"""The bytes that it can read at once."""

_LONG = 1 << 15
"""Loops of so many steps wait for memory: several vectors at a time do not make them faster."""


def does_several(s: For, vectors: Container[For]) -> bool:
    """Whether LLVM may do several steps of a loop at once."""
    return not s.ordered and (s.extent.known is None or s.extent.known >= _SHORT) and not _is_of_loops(s, vectors)


def advised(s: For, vectors: Container[For]) -> str:
    """What LLVM should do with a loop that is not written out, in its words: vectorise the inner ones only.

    Args:
        s: the loop.
        vectors: the loops whose steps are lanes of vectors already.
    """
    if _is_of_loops(s, vectors):
        return STEP_BY_STEP
    steps = s.extent.known
    if steps is not None and steps < 2 * _SHORT and steps & (steps - 1):
        return STEP_BY_STEP  # no whole number of vectors, and vectors that are masked would wait for memory
    if steps is not None and steps <= _FEW and not s.ordered and len(s.body) <= _SHORT and not is_elaborate(s):
        return _WRITTEN_OUT_IN_VECTORS
    if not s.ordered and vector_bytes() == LINE and _straddles(s):
        return _OF_LENGTH.format(LINE // 2 // max(a[0].dtype.itemsize for inner in s.body for a in accesses(inner)))
    sums = any(isinstance(inner, Accumulate) and inner.buffer.dtype.kind == "f" for inner in s.body)
    return _ONE_AT_A_TIME if steps is not None and steps >= _LONG and not sums else ""


def _straddles(s: For) -> bool:
    """Whether a loop adds up what it reads of rows at several places beside each other.

    Where a vector is as long as a line of the cache, all but one of these reads touch two lines, and half as many where
    vectors are half as long.  Where more is computed than sums and products, that counts for more.
    """
    offsets: dict[tuple[Storage, tuple[Affine, ...]], set[int]] = {}
    for inner in s.body:
        if not isinstance(inner, (Let, Store)) or not _is_sum(inner.value):
            return False
        for buffer, index, writes in accesses(inner):
            if index and not writes and (s.variable, 1) in index[-1].terms:
                place = buffer.storage, (*index[:-1], Affine(index[-1].terms, 0))
                offsets.setdefault(place, set()).add(index[-1].offset)
    return any(len(found) > 1 for found in offsets.values())


def _is_sum(x: Expression) -> bool:
    """Whether a real number is computed by sums and products."""
    return x.dtype.kind != "c" and (not isinstance(x, Apply) or (x.name in _SUMS and all(map(_is_sum, x.arguments))))


def _is_of_loops(s: For, vectors: Container[For]) -> bool:
    """Whether there are loops in a loop that are not written out."""
    return any(isinstance(loop, For) and not is_short(loop, vectors) for loop in s.body)


def turns_back(s: For, vectors: Container[For]) -> bool:
    """Whether a loop should go through its steps from the last to the first every other time that it runs."""
    if s.ordered or not _is_of_loops(s, vectors):
        return False
    touched: dict[Storage, int] = {}
    # Sums of products take so little that they wait even for what is in the second cache.
    close = _NEAREST if all(_is_sum_of_products(inner) for inner in s.body if isinstance(inner, For)) else _CACHE
    return _is_plain(s, {s.variable}, touched) and sum(touched.values()) > close


def _is_sum_of_products(s: For) -> bool:
    """Whether a loop does nothing but add up products."""
    return all(isinstance(inner, Accumulate) and inner.name == "add" and _is_sum(inner.value) for inner in s.body)


def _is_plain(s: Statement, counters: set[Variable], touched: dict[Storage, int]) -> bool:
    """Whether a statement only computes: what stops a program must do so at the first step that does.

    Args:
        s: the statement.
        counters: those of the loops in which it is taken to run; its own are added.
        touched: how many bytes of each storage are touched; what it touches is added.
    """
    if isinstance(s, For):
        counters.add(s.variable)
        return all(_is_plain(inner, counters, touched) for inner in s.body)
    for buffer, index, _ in accesses(s):
        moving = (
            n.known or 0 for n, i in zip(buffer.shape, index, strict=True) if any(v in counters for v, _ in i.terms)
        )
        size = math.prod(moving) * buffer.dtype.itemsize
        touched[buffer.storage] = max(size, touched.get(buffer.storage, 0))
    return isinstance(s, (Let, Store, Accumulate))


def is_short(s: For, vectors: Container[For]) -> bool:
    """Whether a loop is to be written out, step by step.

    LLVM could be told to, but warns where such a loop's end has become another one's.
    """
    return s.extent.known is not None and s.extent.known < _SHORT and _written_out(s, vectors) <= _LARGEST


def _written_out(s: Statement, vectors: Container[For]) -> int:
    """How many statements one is whose loops are written out, but for those whose steps are lanes of vectors."""
    steps = 1
    if isinstance(s, For) and s not in vectors:
        steps = _LARGEST + 1 if s.extent.known is None else s.extent.known
    return steps * (1 + sum(_written_out(inner, vectors) for block in s.blocks for inner in block))


def is_elaborate(s: Statement) -> bool:
    """Whether a statement computes functions that many elements at a time take little more for than one."""
    found = list(expressions(s))
    for x in found:
        if isinstance(x, Apply):
            if x.name in KERNELS or x.name in LIBRARY:
                return True
            found += x.arguments
    return any(is_elaborate(inner) for block in s.blocks for inner in block)
