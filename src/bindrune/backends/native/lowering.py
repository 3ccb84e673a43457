"""From a graph to its loop program: all rules together."""

from __future__ import annotations

import functools
import operator

from ...graph.graph import Graph
from . import composed, control, indexing, products, reductions, shaping, stacks  # noqa: F401  (they enter their rules)
from .loops import Program
from .lower import Lowering

__all__ = ["lower"]


def lower(graph: Graph) -> Program:
    """The loop program of a graph."""
    lowering = Lowering(graph.name)
    lowering.known_stack = stacks.stack_of
    lowering.stack_at = functools.partial(stacks.Top, owned=False)
    lowering.place_of = operator.attrgetter("place")
    lowering.zeros = stacks.may_be_spent(graph)
    lowering.run(graph)
    return lowering.program
