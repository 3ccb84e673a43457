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
    fourier,
    indexing,
    products,
    recursion,
    reductions,
    shaping,
    sorting,
    stacks,
    systems,
    tables,
)
from .alignment import align
from .asides import set_aside
from .deferring import deferred
from .fusion import fuse
from .jamming import jam
from .loops import Program
from .lower import Lowering
from .packing import pack
from .regrouping import regrouped
from .residuals import residuals_in_arrays
from .seams import in_pieces
from .simplification import simplify
from .splitting import split
from .swapping import swap
from .tiling import tile
from .totals import add_after_loops, gather_terms, merge_totals
from .turning import turn

__all__ = ["lower"]


def lower(graph: Graph, libraries: bool = True) -> Program:
    """The loop program of a graph; it calls libraries for what they do better, if there are any."""
    graph = _rearranged(graph, libraries)
    program = Program(graph.name)
    lowering = Lowering(program, libraries)
    lowering.rearranged = functools.partial(_rearranged, libraries=libraries)
    lowering.known_stack = stacks.stack_of
    lowering.stack_at = functools.partial(stacks.Top, owned=False)
    lowering.place_of = operator.attrgetter("place")
    lowering.zeros = stacks.may_be_spent(graph)
    lowering.run(graph)
    for part in (program, *program.routines):
        for arrange in (
            fuse, merge_totals, pack, align, set_aside, jam, gather_terms, add_after_loops, swap, turn, tile,
            simplify, split,
        ):  # fmt: skip
            arrange(part)
    return program


def _rearranged(graph: Graph, libraries: bool) -> Graph:
    """A graph in a form that makes better loops."""
    graph = residuals_in_arrays(graph)
    return in_pieces(regrouped(deferred(graph) if libraries else graph))
