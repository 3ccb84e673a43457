"""Dead code: what nobody needs is not computed.

Needed are the outputs and what effects use.  Control flow is narrowed to what is needed of it: results, the operands
it hands to its regions, and the carries of loops that nothing but their own next value depends on.  The inputs of the
graph itself stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Graph, Node, Value
from ..rewrite import lengths_of, on_regions

__all__ = ["dead_code"]


def dead_code(graph: Graph) -> Graph:
    """The graph without what nobody needs."""
    return _Pruning().prune(graph, graph.outputs)


class _Pruning:
    """Remembers what has become of the graphs that several nodes have as regions."""

    def __init__(self) -> None:
        self._done: dict[tuple[Graph, tuple[Value, ...]], Graph] = {}

    def prune(self, graph: Graph, outputs: Sequence[Value]) -> Graph:
        """The graph with some of its outputs, all its inputs, and the nodes that these outputs need."""
        key = (graph, tuple(outputs))
        if key not in self._done:
            self._done[key] = self._pruned(graph, outputs)
        return self._done[key]

    def _pruned(self, graph: Graph, outputs: Sequence[Value]) -> Graph:
        needed = set(_with_lengths(outputs))
        kept: list[Node] = []
        for node in reversed(graph.nodes):
            if node.effect or any(v in needed for v in node.results):
                node = self._narrowed(node, needed) if node.regions else node
                needed.update(_uses(node))
                kept.append(node)
        kept.reverse()
        same = len(kept) == len(graph.nodes) and len(outputs) == len(graph.outputs)
        if same and all(a is b for a, b in zip(kept, graph.nodes, strict=True)):
            return graph
        return Graph(graph.inputs, kept, outputs, graph.name)

    def _narrowed(self, node: Node, needed: set[Value]) -> Node:
        """A node of control flow that gives what is needed, and takes what it needs for that."""
        name = node.op.name
        if name in ("loop", "while_"):
            return self._narrowed_loop(node, needed)
        if name not in ("call", "branch"):
            return on_regions(node, lambda region: self.prune(region, region.outputs))
        chosen = [i for i, v in enumerate(node.results) if v in needed]
        regions = {key: self.prune(r, [r.outputs[i] for i in chosen]) for key, r in node.regions.items()}
        uses = [_used(region) for region in regions.values()]
        before = len(node.operands) - len(next(iter(regions.values())).inputs)
        kept = [
            i
            for i in range(len(node.operands) - before)
            if any(r.inputs[i] in used for r, used in zip(regions.values(), uses, strict=True))
        ]
        operands = [*node.operands[:before], *(node.operands[before + i] for i in kept)]
        return _changed(node, operands, {key: _taking(r, kept) for key, r in regions.items()}, chosen)

    def _narrowed_loop(self, node: Node, needed: set[Value]) -> Node:
        body, count = node.params["body"], node.params["carries"]
        before = len(body.inputs) - len(node.operands) + 1
        """How many inputs of the body come before the carries: the step of a `loop`."""
        skip = len(body.outputs) - count
        wanted = [i for i, v in enumerate(node.results) if v in needed]
        back = {body.inputs[before + i]: body.outputs[skip + i] for i in range(count)}
        roots = [*body.outputs[:skip], *(body.outputs[skip + i] for i in wanted)]
        reached = _reached(body, roots, back)
        chosen = [i for i in range(count) if i in wanted or body.inputs[before + i] in reached]
        pruned = self.prune(body, [*body.outputs[:skip], *(body.outputs[skip + i] for i in chosen)])
        used = _used(pruned)
        inputs = [
            *range(before),
            *(before + i for i in chosen),
            *(i for i in range(before + count, len(body.inputs)) if body.inputs[i] in used),
        ]
        # The first operand is the count, or whether to go on: the step's number stands where the count does.
        operands = [node.operands[0], *(node.operands[i + 1 - before] for i in inputs if i >= before)]
        narrowed = _changed(node, operands, {"body": _taking(pruned, inputs)}, chosen)
        if len(chosen) == count:
            return narrowed
        return Node(node.op, operands, {**narrowed.params, "carries": len(chosen)}, narrowed.results, node.line)


def _changed(node: Node, operands: Sequence[Value], regions: dict[str, Graph], chosen: Sequence[int]) -> Node:
    """A node with other operands and regions, and some of its results; itself where nothing is different."""
    same = len(operands) == len(node.operands) and len(chosen) == len(node.results)
    if same and all(node.params[key] is region for key, region in regions.items()):
        return node
    return Node(node.op, operands, {**node.params, **regions}, [node.results[i] for i in chosen], node.line)


def _taking(graph: Graph, inputs: Sequence[int]) -> Graph:
    """The graph with some of its inputs."""
    if len(inputs) == len(graph.inputs):
        return graph
    return Graph([graph.inputs[i] for i in inputs], graph.nodes, graph.outputs, graph.name)


# ------------------------------------------------------------------------------------------------------------ uses


def _with_lengths(values: Sequence[Value]) -> list[Value]:
    """Values, and those that their lengths are made of."""
    return [*values, *lengths_of(values)]


def _uses(node: Node) -> list[Value]:
    """What a node needs; what the lengths of its results are made of is asked for when those are."""
    return [*node.uses, *lengths_of(node.results)]


def _used(graph: Graph) -> set[Value]:
    """The values that a graph uses, those among them that lengths of its used inputs are made of."""
    used = set(_with_lengths(graph.outputs))
    for node in graph.nodes:
        used.update(_uses(node))
    return used.union(*(_with_lengths([v]) for v in graph.inputs if v in used))


def _reached(body: Graph, roots: Sequence[Value], back: dict[Value, Value]) -> set[Value]:
    """The values of a loop's body that some of its outputs depend on, in this step or the following."""
    definition = {v: node for node in body.nodes for v in node.results}
    reached: set[Value] = set()
    ways = [*_with_lengths(roots), *(v for node in body.nodes if node.effect for v in _uses(node))]
    while ways:
        value = ways.pop()
        if value in reached:
            continue
        reached.add(value)
        if value in definition:
            ways.extend(_uses(definition[value]))
        if value in back:
            ways.extend(_with_lengths([back[value]]))
    return reached
