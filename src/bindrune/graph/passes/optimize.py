"""All passes, one after the other, until nothing changes any more."""

from __future__ import annotations

from functools import partial

from ..graph import Graph
from .common_subexpressions import common_subexpressions
from .constant_folding import constant_folding
from .contractions import contractions
from .dead_code import dead_code
from .inline_calls import inline_calls
from .loop_invariants import loop_invariants
from .simplify import simplify
from .sink import sink

__all__ = ["optimize"]

_MOST_ROUNDS = 8


def optimize(graph: Graph, fast_math: bool = False) -> Graph:
    """A graph that computes the same with less.

    Made once for each graph.  Elements of results are the same to the last bit, but for sums whose operand lies in
    memory in another order than before; under `fast_math` rounding may differ as `simplify` and `contractions` say.
    """
    key = (optimize, fast_math)
    if key not in graph.derived:
        passes = (
            inline_calls,
            constant_folding,
            partial(simplify, fast_math=fast_math),
            sink,
            partial(contractions, fast_math=fast_math),
            common_subexpressions,
            loop_invariants,
            dead_code,
        )
        found = graph
        for _ in range(_MOST_ROUNDS):
            before = found
            for change in passes:
                found = change(found)
            if found is before:
                break
        graph.derived[key] = found.derived[key] = found
    optimized: Graph = graph.derived[key]
    return optimized
