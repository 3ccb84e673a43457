"""Inlining: control flow that is decided before the program runs becomes part of the graph around it.

A call is put in place if it is small or the only one of its graph; so are the side of a branch whose condition is
known, and the only step of a loop.  Nothing is left of a loop without steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..graph import Graph, Literal, Node, Value
from ..rewrite import Rewriting, agree, on_regions

__all__ = ["inline_calls"]

_SMALL = 8
"""The most nodes of a graph that is put in the place of each of its calls."""


def inline_calls(graph: Graph) -> Graph:
    """The graph with calls and decided control flow put in place."""
    calls: Counter[Graph] = Counter()
    done: dict[Graph, Graph] = {}
    _count_calls(graph, calls, set())

    def change(graph: Graph) -> Graph:
        if graph not in done:
            new = Rewriting(graph)
            for old in graph.nodes:
                node = new.updated(old)
                found = _in_place(new, node)
                if found is None:
                    new.add(on_regions(node, change))
                else:
                    new.replacement.update(zip(old.results, found, strict=True))
            done[graph] = new.finish()
        return done[graph]

    def _in_place(new: Rewriting, node: Node) -> Sequence[Value] | None:
        decided = _decided(node, calls)
        if decided is None:
            return None
        region, operands = decided
        if region is None:
            return operands if all(map(agree, operands, node.results)) else None
        if not all(map(agree, operands, region.inputs)) or not all(map(agree, region.outputs, node.results)):
            return None
        return new.splice(change(region), operands)

    return change(graph)


def _count_calls(graph: Graph, calls: Counter[Graph], seen: set[Graph]) -> None:
    seen.add(graph)
    for node in graph.nodes:
        for region in node.regions.values():
            calls[region] += 1
            if region not in seen:
                _count_calls(region, calls, seen)


def _decided(node: Node, calls: Counter[Graph]) -> tuple[Graph | None, Sequence[Value]] | None:
    """The region that is performed, once, and its inputs; no region where the results are operands."""
    name, operands, params = node.op.name, node.operands, node.params
    if name == "call":
        region = params["graph"]
        small = len(region.nodes) <= _SMALL and region.size() <= _SMALL
        return (region, operands) if small or calls[region] == 1 else None
    if name not in ("branch", "loop", "while_") or not isinstance(operands[0], Literal):
        return None
    known = operands[0].content
    if name == "branch":
        return params["then" if known else "otherwise"], operands[1:]
    carries = operands[1 : 1 + params["carries"]]
    if name == "while_":
        return None if known else (None, carries)
    if known > 1:
        return None
    return (params["body"], [Literal(0), *operands[1:]]) if known == 1 else (None, carries)
