"""Running a graph by performing its operations, one after the other.

On plain arrays that executes it with NumPy; on stand-ins each operation goes to the handler that owns them, so every
transformation applies to graphs with the rules that operations have anyway.

Values are let go at their last use, which is what lets a write happen in place: `update` writes into an array that
nobody else holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.handler import HOST, evaluate, update
from ..core.operation import Write
from .dims import Dim, hooks, is_open, substitute
from .graph import Graph, Literal, Value

__all__ = ["interpret", "interpret_apart", "length_of"]


def length_of(content: Any) -> Any:
    """An integer of the program as a length."""
    if isinstance(content, Array):
        content = content.read()
        return content._handler.length(content)
    return content if isinstance(content, Dim) else int(content)


def interpret(graph: Graph, arguments: list[Any]) -> list[Any]:
    """The outputs of a graph for some arguments: plain arrays and numbers, or cells of one level out.

    The list of arguments is emptied, so that what only it held may be written in place.
    """
    found: dict[Value, Any] = dict(zip(graph.inputs, arguments, strict=True))
    arguments.clear()

    def number(value: Value) -> Any:
        return length_of(value.content if isinstance(value, Literal) else found[value])

    for node, dying in zip(graph.nodes, graph.last_uses, strict=True):
        operands = [v.content if isinstance(v, Literal) else found[v] for v in node.operands]
        params = node.params.copy()
        if node.sizes:
            params = substitute(params, lambda dim: dim.at(number))
            if is_open(params) and not any(isinstance(x, Array) for x in operands):
                operands[0] = _adopted(operands[0], params)
        for value in dying:
            found.pop(value, None)
        if isinstance(node.op, Write):
            target = [operands.pop(0)]
            results: Any = (update(node.op, target, operands, params),)
        else:
            results = evaluate(node.op, operands, params)
            if type(results) is not tuple:
                results = (results,)
        operands.clear()
        for value, result in zip(node.results, results, strict=True):
            found[value] = result.read() if isinstance(result, Array) else result
        del results
        for value in dying:
            found.pop(value, None)
    return [v.content if isinstance(v, Literal) else found[v] for v in graph.outputs]


def interpret_apart(graph: Graph, arguments: Sequence[Any]) -> list[Any]:
    """The outputs for plain arrays and numbers; arrays among them own their memory."""
    found = interpret(graph, list(arguments))
    seen = {id(v) for v in arguments}
    for i, v in enumerate(found):
        if isinstance(v, np.ndarray):
            if v.base is not None or id(v) in seen:
                found[i] = v = v.copy()
            seen.add(id(v))
    return found


def _adopted(value: Any, params: Any) -> Array:
    """A plain value as a cell of the program whose lengths are among some parameters."""
    cell = Array(HOST, value)
    hooks.adopt(cell, params)
    return cell
