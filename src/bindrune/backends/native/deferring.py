"""Deferring: outer products that a loop adds up, as products of matrices.

A step that adds an outer product to a total reads and writes all of the total for one multiplication an element: the
cotangent of a matrix that every step multiplies with a vector is such a total.  So the vectors of some steps are kept
as the rows of two matrices, whose product is added at once: the loop becomes one over blocks of steps, with a loop over
the steps of a block in it.  The rows of steps that the last block lacks are zeros.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...core.operation import registry
from ...graph.graph import Graph, Literal, Node, Type, Value
from ...graph.passes.dead_code import dead_code
from ...graph.rewrite import Rewriting, is_known, lengths, rewrite
from ...ops.indexing import ARRAY

__all__ = ["deferred"]

_BLOCK = 32
"""How many steps are taken together."""

_SMALLEST = 2048
"""The elements of a total from which on it matters how often it is read and written."""

_Product = tuple[Value, Value]
"""A column, and what every element of it is multiplied with."""


def deferred(graph: Graph) -> Graph:
    """The graph with outer products that loops add up put off."""
    return rewrite(graph, _step)


def _step(graph: Rewriting, node: Node) -> Node | None:
    if node.op.name != "loop" or not all(map(is_known, node.params["body"].inputs)):
        return None
    steps = node.operands[0]
    if isinstance(steps, Literal) and steps.content < 2 * _BLOCK:
        return None
    totals = _totals(node.params["body"], node.params["carries"])
    return _in_blocks(graph, node, totals) if totals else None


# ------------------------------------------------------------------------------------------------------------ finding


def _totals(body: Graph, count: int) -> dict[int, list[_Product]]:
    """The carries to which a body only adds outer products, and these."""
    uses = Counter(v for node in body.nodes for v in node.uses)
    uses.update(body.outputs)
    definition = {v: node for node in body.nodes for v in node.results}
    found: dict[int, list[_Product]] = {}
    for i, (start, total) in enumerate(zip(body.inputs[1 : 1 + count], body.outputs, strict=True)):
        products = _added(start, total, definition, uses)
        if products:
            found[i] = products
    return found


def _added(start: Value, total: Value, definition: Mapping[Value, Node], uses: Counter[Value]) -> list[_Product]:
    """The outer products that are added to one value and make it another; none where anything else happens to it."""
    if start.ndim != 2 or start.dtype.kind != "f" or np.prod(lengths(start)) < _SMALLEST or uses[start] != 1:
        return []
    found: list[_Product] = []
    terms = [total]
    complete = False
    while terms:
        value = terms.pop()
        node = definition.get(value)
        if value is start:
            complete = True
        elif node is None or uses[value] != 1 or value.type != start.type:
            return []
        elif (factors := _factors(node, definition, uses)) is not None:
            found.append(factors)
        elif node.op.name == "add":
            terms += node.operands
        else:
            return []
    return found if complete else []


def _factors(node: Node, definition: Mapping[Value, Node], uses: Counter[Value]) -> _Product | None:
    """The factors of an outer product, or of one that is transposed."""
    if node.op.name == "transpose" and node.params["axes"] == (1, 0):
        (product,) = node.operands
        made = definition.get(product)
        found = None if made is None or uses[product] != 1 else _factors(made, definition, uses)
        return None if found is None else found[::-1]
    if node.op.name != "multiply":
        return None
    (result,) = node.results
    n, m = result.shape
    for column, row in (node.operands, node.operands[::-1]):
        if column.shape == (n, 1) and row.shape in ((m,), (1, m)) and column.dtype == row.dtype == result.dtype:
            return column, row
    return None


# ---------------------------------------------------------------------------------------------------------- rewriting


def _in_blocks(graph: Rewriting, node: Node, totals: Mapping[int, list[_Product]]) -> Node:
    """The loop over blocks of steps."""
    body, count = node.params["body"], node.params["carries"]
    factors = dict.fromkeys(v for products in totals.values() for product in products for v in product)
    kept = [i for i in range(count) if i not in totals]
    block, steps, *given = (Value(v.type) for v in (body.inputs[0], node.operands[0], *body.inputs[1:]))
    new = Rewriting(Graph([block, *given, steps], (), ()))

    def integer(name: str, a: Value, b: Value) -> Value:
        return new.emit(f"python.{name}", a, b, line=node.line)

    first = integer("multiply", block, Literal(_BLOCK))
    count_here = integer("minimum", integer("subtract", steps, first), Literal(_BLOCK))
    zeros = [Literal(np.zeros((_BLOCK, np.prod(lengths(v), dtype=int)), v.dtype)) for v in factors]
    carried = [*(given[i] for i in kept), *zeros]
    found = [Value(v.type) for v in carried]
    inner = {"body": _one_step(body, count, kept, factors), "carries": len(carried)}
    new.add(Node(node.op, [count_here, *carried, *given[count:], first], {**node.params, **inner}, found, node.line))
    rows = dict(zip(factors, found[len(kept) :], strict=True))
    after = dict(zip(kept, found, strict=False))
    for i, products in totals.items():
        after[i] = given[i]
        for column, row in products:
            columns = new.emit("transpose", rows[column], line=node.line, axes=(1, 0))
            product = new.emit("matmul", columns, rows[row], line=node.line)
            after[i] = new.emit("add", after[i], product, line=node.line)
    outer = Graph(new.inputs, new.nodes, [after[i] for i in range(count)], body.name)
    operands = [_blocks(graph, node), *node.operands[1:], node.operands[0]]
    return Node(node.op, operands, {**node.params, "body": outer}, node.results, node.line)


def _blocks(graph: Rewriting, node: Node) -> Value:
    """How many blocks the steps of a loop make."""
    steps = node.operands[0]
    if isinstance(steps, Literal):
        return Literal(-(-steps.content // _BLOCK))
    more = graph.emit("python.add", steps, Literal(_BLOCK - 1), line=node.line)
    return graph.emit("python.floor_divide", more, Literal(_BLOCK), line=node.line)


def _one_step(body: Graph, count: int, kept: Sequence[int], factors: Iterable[Value]) -> Graph:
    """A step of a block, whose first step is given last: it writes the factors into its row of matrices."""
    step, carries, captured = body.inputs[0], body.inputs[1 : 1 + count], body.inputs[1 + count :]
    place, first = Value(step.type), Value(step.type)
    nodes = [Node(registry["python.add"], (first, place), {}, [step]), *body.nodes]
    before: list[Value] = []
    after: list[Value] = []
    for factor in factors:
        size = int(np.prod(lengths(factor)))
        flat, old, new = (Value(Type(shape, factor.dtype)) for shape in ((size,), (_BLOCK, size), (_BLOCK, size)))
        nodes.append(Node(registry["reshape"], (factor,), {"shape": (size,), "order": "C"}, [flat]))
        nodes.append(Node(registry["setitem"], (old, flat, place), {"index": (ARRAY,)}, [new]))
        before.append(old)
        after.append(new)
    inputs = [place, *(carries[i] for i in kept), *before, *captured, first]
    # Nothing needs the totals any more.
    return dead_code(Graph(inputs, nodes, [*(body.outputs[i] for i in kept), *after], body.name))
