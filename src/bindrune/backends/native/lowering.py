"""From a graph to its loop program: all rules together, and then what is done to the nests they have made."""

from __future__ import annotations

import functools
import operator

from ...graph.graph import Graph
from . import (  # noqa: F401  (they enter their rules)
    ciphers,
    composed,
    control,
    decompositions,
    indexing,
    products,
    reductions,
    shaping,
    sorting,
    stacks,
    systems,
    tables,
)
from .asides import set_aside
from .deferring import deferred
from .fusion import fuse
from .jamming import jam
from .loops import Program
from .lower import Lowering
from .packing import pack
from .regrouping import regrouped
from .simplification import simplify
from .splitting import split

__all__ = ["lower"]


def lower(graph: Graph, libraries: bool = True) -> Program:
    """The loop program of a graph; it calls libraries for what they do better, if there are any."""
    graph = regrouped(deferred(graph) if libraries else graph)
    lowering = Lowering(graph.name, libraries)
    lowering.known_stack = stacks.stack_of
    lowering.stack_at = functools.partial(stacks.Top, owned=False)
    lowering.place_of = operator.attrgetter("place")
    lowering.zeros = stacks.may_be_spent(graph)
    lowering.run(graph)
    program = lowering.program
    for arrange in (fuse, set_aside, pack, jam, simplify, split):
        arrange(program)
    return program
