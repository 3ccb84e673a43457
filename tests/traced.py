"""Graphs of small programs, for the tests of what is done to graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bindrune.compile import loops
from bindrune.compile.staging import trace
from bindrune.graph.check import check_graph
from bindrune.graph.graph import PYTHON, Graph, Type
from bindrune.graph.interpreter import interpret

__all__ = [
    "FLOAT",
    "INTEGER",
    "MATRIX",
    "REAL",
    "SINGLE",
    "VECTOR",
    "M",
    "Program",
    "X",
    "agree",
    "graph_of",
    "loop",
    "names",
    "values",
]

FLOAT, SINGLE = np.dtype(float), np.dtype(np.float32)
VECTOR, MATRIX = Type((4,), FLOAT), Type((3, 4), FLOAT)
INTEGER = Type((), np.dtype(int), PYTHON)
REAL = Type((), FLOAT, PYTHON)

X = np.array([0.7, -1.3, 2.1, 0.4])
M = np.arange(12.0).reshape(3, 4) / 5 - 1

Program = Callable[..., Any]


def graph_of(program: Program, *types: Type) -> Graph:
    """The graph of a function of cells with one result, or a tuple of them."""

    def listed(cells: Sequence[Any]) -> list[Any]:
        found = program(*cells)
        return [*found] if isinstance(found, tuple) else [found]

    return trace(listed, types)


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def values(graph: Graph, *arguments: Any) -> list[Any]:
    return interpret(graph, [a.copy() if isinstance(a, np.ndarray) else a for a in arguments])


def agree(graph: Graph, changed: Graph, *arguments: Any) -> None:
    check_graph(changed)
    for found, expected in zip(values(changed, *arguments), values(graph, *arguments), strict=True):
        np.testing.assert_array_equal(found, expected)


def loop(body: Program, count: Any, carries: Sequence[Any], *captured: Any, types: Sequence[Type]) -> tuple[Any, ...]:
    region = graph_of(body, INTEGER, *types)
    found = loops.loop(count, *carries, *captured, body=region, carries=len(carries), descending=False)
    assert isinstance(found, tuple)
    return found
