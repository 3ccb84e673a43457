"""What depends on what in a program: which results on which operands, through loops and branches.

An operation's results depend on all its operands, but those of control flow only on what reaches them in its regions.
So what one value of a loop needs (a lane axis, a derivative) is not asked of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..graph.graph import Graph, Node, Type, Value

__all__ = ["reached_operands"]

Passes = Callable[[Type], bool]
"""Whether values of a type can depend in the way that is asked for: integers have no derivatives."""


def reached_operands(body: Graph, lead: int, count: int, given: Sequence[bool], passes: Passes) -> list[bool]:
    """Which operands of a loop depend on those given: carries may come to, from others, over the steps."""
    return _carried_on(body, lead, count, given, passes)[0]


def _carried_on(
    body: Graph, lead: int, count: int, given: Sequence[bool], passes: Passes
) -> tuple[list[bool], set[Value]]:
    """The same, and which values of the body depend on them."""
    operands = list(given)
    skip = len(body.outputs) - count
    while True:
        reached = _reached(body, [*(False,) * lead, *operands], passes)
        grown = [
            r or (body.outputs[skip + i] in reached and passes(body.inputs[lead + i].type))
            for i, r in enumerate(operands[:count])
        ]
        if grown == operands[:count]:
            return operands, reached
        operands[:count] = grown


def _reached(graph: Graph, given: Sequence[bool], passes: Passes) -> set[Value]:
    """The values of a graph that depend on those of its inputs that are given."""
    reached = {v for v, r in zip(graph.inputs, given, strict=True) if r}
    for node in graph.nodes:
        flags = [v in reached for v in node.operands]
        if any(flags):
            reached.update(
                v for v, r in zip(node.results, _results(node, flags, passes), strict=True) if r and passes(v.type)
            )
    return reached


def _results(node: Node, given: Sequence[bool], passes: Passes) -> list[bool]:
    """Which results of an operation depend on its operands that are given."""
    first, *rest = given
    every = [True] * len(node.results)
    if node.op.name == "call":
        return _outputs(node.params["graph"], given, passes)
    if first:
        return every
    if node.op.name == "branch":
        sides = [_outputs(node.params[name], rest, passes) for name in ("then", "otherwise")]
        return [any(both) for both in zip(*sides, strict=True)]
    if node.op.name in ("loop", "while_"):
        body, count = node.params["body"], node.params["carries"]
        lead = 1 if node.op.name == "loop" else 0
        operands, reached = _carried_on(body, lead, count, rest, passes)
        # Where some lanes go on longer than others, all that they carry differs.
        return every if any(v in reached for v in body.outputs[: len(body.outputs) - count]) else operands[:count]
    return every


def _outputs(graph: Graph, given: Sequence[bool], passes: Passes) -> list[bool]:
    reached = _reached(graph, given, passes)
    return [v in reached for v in graph.outputs]
