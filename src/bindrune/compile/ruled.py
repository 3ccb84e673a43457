"""Functions with rules of their own, in graphs: custom derivatives, checkpoints, implicit solutions.

Such a function is staged as a call of its graph that remembers the rule.  Run, it is the graph; asked by a handler, it
answers with the rule, as it does outside graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.operation import Structured
from ..graph.graph import Graph, Type, Value
from ..graph.interpreter import interpret

__all__ = ["Rule", "ruled"]


class Rule:
    """An operation on functions with its parameters, which are programs of Python's."""

    __slots__ = ("op", "params")

    def __init__(self, op: Structured, params: dict[str, Any]) -> None:
        self.op = op
        self.params = params

    def __repr__(self) -> str:
        return f"<rule of {self.op.name}>"


class _Ruled(Structured):
    """``ruled(*values; graph, rule)``."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        return tuple(interpret(params["graph"], list(values)))

    def staged(self, values: Sequence[Value], params: dict[str, Any]) -> tuple[Any, dict[str, Any], Sequence[Type]]:
        graph: Graph = params["graph"]
        return self, params, [v.type for v in graph.outputs]

    def answer_forward(self, handler: Any, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        rule: Rule = params["rule"]
        return rule.op.answer_forward(handler, operands, rule.params)

    def answer_reverse(self, handler: Any, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        rule: Rule = params["rule"]
        return rule.op.answer_reverse(handler, operands, rule.params)

    def answer_batch(self, handler: Any, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        rule: Rule = params["rule"]
        return rule.op.answer_batch(handler, operands, rule.params)


ruled = _Ruled("ruled")
