"""About how many cycles the statements of a loop program take."""

from __future__ import annotations

from collections.abc import Iterable

from .instructions import LIBRARY
from .loops import Accumulate, Apply, Expression, For, If, Let, LibraryCall, Statement, Store

__all__ = ["least_work", "work"]

_DEAR = {"power": 40, "float_power": 40, "divide": 4, "sqrt": 4, "remainder": 20, "floor_divide": 20, "fmod": 20}
_CALLED = 8
"""What a function of the library costs for an element, where it is vectorised."""

_VECTOR = 8
"""How many elements are computed at a time, where that goes well."""

_PRODUCTS = 32
"""How many products of elements a cycle has room for in products of matrices."""


def work(block: Iterable[Statement]) -> int:
    """The cycles that statements take, one element after the other."""
    total = 0
    for s in block:
        if isinstance(s, For):
            total += work(s.body) * s.extent.guess
        elif isinstance(s, If):
            total += max(work(s.then), work(s.otherwise))
        else:
            total += 1 + (_cost(s.value) if isinstance(s, (Let, Store, Accumulate)) else 0)
    return total


def _cost(x: Expression) -> int:
    if not isinstance(x, Apply):
        return 0
    mine = _DEAR.get(x.name, _CALLED if x.name in LIBRARY else 0)
    return mine + sum(map(_cost, x.arguments))


def least_work(block: Iterable[Statement]) -> float:
    """The cycles that statements take in any case, as far as that is known."""
    total = 0.0
    for s in block:
        if isinstance(s, For):
            total += least_work(s.body) * max(s.extent.known or 0, 0)
        elif isinstance(s, If):
            total += min(least_work(s.then), least_work(s.otherwise))
        elif isinstance(s, LibraryCall) and s.name in ("gemm", "gemm_add"):
            lengths = [n.known or 0 for n in (*s.result.shape, s.operands[0].shape[-1])]
            total += lengths[0] * lengths[1] * lengths[2] / _PRODUCTS
        elif not s.blocks:
            total += work([s]) / _VECTOR
    return total
