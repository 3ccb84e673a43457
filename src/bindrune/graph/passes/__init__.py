"""Passes: graphs that compute the same with less work.

Each is a function from a graph to a graph, regions included, and gives the graph itself where it finds nothing to do.
"""

from .common_subexpressions import common_subexpressions
from .constant_folding import constant_folding
from .contractions import contractions
from .dead_code import dead_code
from .inline_calls import inline_calls
from .loop_invariants import loop_invariants
from .optimize import optimize
from .simplify import simplify
from .sink import sink

__all__ = [
    "common_subexpressions",
    "constant_folding",
    "contractions",
    "dead_code",
    "inline_calls",
    "loop_invariants",
    "optimize",
    "simplify",
    "sink",
]
