"""From a graph to its loop program: all rules together."""

from __future__ import annotations

from ...graph.graph import Graph
from . import (  # noqa: F401  (they enter their rules)
    composed,
    control,
    indexing,
    products,
    reductions,
    shaping,
    stacks,
    systems,
)
from .loops import Program
from .lower import Lowering
from .regrouping import regrouped

__all__ = ["lower"]


def lower(graph: Graph) -> Program:
    """The loop program of a graph."""
    graph = regrouped(graph)
    lowering = Lowering(graph.name)
    lowering.known_stack = stacks.stack_of
    lowering.zeros = stacks.may_be_spent(graph)
    lowering.run(graph)
    return lowering.program
