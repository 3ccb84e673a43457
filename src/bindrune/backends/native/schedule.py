"""The order of nodes: what reads an array comes before what overwrites it, where it can.

A write goes to the array itself if nothing needs the old content any more.  In the order in which programs are staged,
above all on the way back through a write, something often does: a view is taken, its place is cleared, and only then
the view is used.  So what can be computed from the old content is computed first.
"""

from __future__ import annotations

from ...core.operation import Write
from ...graph.graph import Graph, Literal, Node, Value

__all__ = ["scheduled"]

_VIEWS = {
    "getitem", "transpose", "reshape", "broadcast_to", "windows", "diagonal", "copy", "stop_gradient", "real",
    "conjugate", "astype",
}  # fmt: skip
"""Operations whose results may lie in their first operand's memory."""


def scheduled(graph: Graph) -> Graph:
    """A graph with its nodes in a better order."""
    if not any(isinstance(node.op, Write) for node in graph.nodes):
        return graph
    origin: dict[Value, Value] = {}
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.operands:
            readers.setdefault(origin.get(value, value), []).append(node)
        if node.op.name in _VIEWS:
            first = node.operands[0]
            origin[node.results[0]] = origin.get(first, first)
    done: set[Value] = set(graph.inputs)
    order: list[Node] = []
    placed: set[int] = set()

    def place(node: Node) -> None:
        placed.add(id(node))
        order.append(node)
        done.update(node.results)

    for node in graph.nodes:
        if id(node) in placed:
            continue
        if isinstance(node.op, Write):
            target = origin.get(node.operands[0], node.operands[0])
            for reader in readers.get(target, ()):
                ready = all(isinstance(v, Literal) or v in done for v in reader.uses)
                if id(reader) not in placed and ready and _moves(reader):
                    place(reader)
        place(node)
    return Graph(graph.inputs, order, graph.outputs, graph.name)


def _moves(node: Node) -> bool:
    """Whether a node may be performed earlier, and ends the need for what it reads."""
    return not (isinstance(node.op, Write) or node.effect or node.regions or node.op.name in ("push", "pop"))
