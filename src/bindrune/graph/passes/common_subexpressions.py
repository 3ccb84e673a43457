"""Common subexpressions: what is computed twice from the same operands is computed once.

Writes are shared like all else, for in a graph they make new values.  Not shared are effects, and what has equal but
different regions.  Equal literals become one, and an operand that control flow hands
to its regions twice is handed over once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import Dim
from ..graph import Graph, Literal, Node, Value
from ..patterns import commutes
from ..rewrite import Rewriting, captured, inner, recapture, rewrite, same_type

__all__ = ["common_subexpressions"]

_MOST_COMPARED = 1024
"""The most elements of an array that is compared with others."""


def common_subexpressions(graph: Graph) -> Graph:
    """The graph with equal nodes made one."""
    known: dict[Rewriting, _Known] = {}

    def step(graph: Rewriting, node: Node) -> Node | tuple[Value, ...] | None:
        if graph not in known:
            known[graph] = _Known()
        return known[graph].find(node)

    return rewrite(graph, step)


class _Known:
    """What one graph has computed so far."""

    def __init__(self) -> None:
        self._nodes: dict[Any, tuple[Node, Node]] = {}
        self._literals: dict[Any, Literal] = {}

    def find(self, node: Node) -> Node | tuple[Value, ...] | None:
        """The results of an equal node; or this node with equal operands made one."""
        if node.effect:
            return None
        node = self._with_shared_literals(node)
        operands: tuple[Value, ...] = node.operands
        if commutes(node.op.name) and node.results[0].dtype.kind != "c":
            operands = tuple(sorted(operands, key=id))
        key = (node.op, tuple(map(id, operands)), _key(node.params.copy()))
        equal = self._nodes.get(key)
        if equal is not None and all(map(same_type, equal[1].results, node.results)):
            return equal[1].results
        # The key is made of addresses in the node as it is: both are kept, so that none is used again.
        self._nodes[key] = node, _without_duplicates(node)
        return self._nodes[key][1]

    def _with_shared_literals(self, node: Node) -> Node:
        operands = [
            self._literals.setdefault(_literal_key(v), v) if isinstance(v, Literal) else v for v in node.operands
        ]
        if all(a is b for a, b in zip(operands, node.operands, strict=True)):
            return node
        return Node(node.op, operands, node.params, node.results, node.line)


def _without_duplicates(node: Node) -> Node:
    """A node of control flow that hands each value to its regions once."""
    first: dict[Value, int] = {}
    duplicates: dict[int, int | Literal] = {}
    for i in captured(node):
        earlier = first.setdefault(node.operands[i], i)
        same = all(same_type(inner(node, r, i), inner(node, r, earlier)) for r in node.regions.values())
        if earlier != i and same:
            duplicates[i] = earlier
    return recapture(node, duplicates) if duplicates else node


def _literal_key(literal: Literal) -> Any:
    """Equal for literals of the same content to the last bit; large arrays are the same only if they are one."""
    content = literal.content
    if isinstance(content, (int, float, complex, np.generic)):
        return type(content), repr(content)
    if not isinstance(content, np.ndarray) or content.size > _MOST_COMPARED or content.dtype.hasobject:
        return id(content)
    return content.dtype, content.shape, content.strides, content.tobytes()


def _key(content: Any) -> Any:
    """Parameters as a key: equal only if they mean the same, so 1, 1.0 and True differ, and -0.0 from 0.0."""
    if isinstance(content, slice):
        return slice, _key((content.start, content.stop, content.step))
    if isinstance(content, (tuple, list)):
        return type(content), *map(_key, content)
    if isinstance(content, dict):
        return tuple((name, _key(part)) for name, part in content.items())
    if isinstance(content, (float, complex, np.generic)):
        return type(content), repr(content)
    if content is None or isinstance(content, (bool, int, str, bytes, Dim, np.dtype)):
        return type(content), content
    return id(content)
