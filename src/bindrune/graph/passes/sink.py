"""Sinking: broadcasts and transpositions move past elementwise operations, towards what uses them.

``sin(x.T)`` is ``sin(x).T``: behind, a transposition meets others to cancel with (`simplify` does that), or a
reduction, which needs none.  ``sin(broadcast_to(x, s))`` is ``broadcast_to(sin(x), s)``, which computes less; and an
operand that NumPy would broadcast anyway need not be broadcast before.

Elements stay what they are.  Numbers of Python's are left alone, for these promote in another way, and so are
powers, which NumPy computes differently for one exponent and for many.
"""

from __future__ import annotations

from ...core.operation import Elementwise, registry
from ..dims import broadcast_shapes
from ..graph import PYTHON, Graph, Node, Value
from ..inference import infer
from ..rewrite import Rewriting, is_known, rewrite
from .rearrangements import inverse

__all__ = ["sink"]

_POINTWISE = frozenset("astype conjugate real imag where from_parts".split())
"""Operations beside the elementwise ones whose results' elements come from corresponding elements of operands."""

_REDUCTIONS = frozenset("sum mean prod max min all any logsumexp logsumexp2".split())
"""Operations on all elements along the axes of their parameter ``axis``, a tuple or None for all."""


def sink(graph: Graph) -> Graph:
    """The graph with broadcasts and transpositions as late as can be."""
    return rewrite(graph, _step)


def _step(graph: Rewriting, node: Node) -> Node | None:
    if len(node.results) != 1 or not node.operands:
        return None
    if isinstance(node.op, Elementwise) or node.op.name in _POINTWISE:
        return _below_broadcasts(graph, node) or _below_transposes(graph, node)
    if node.op.name in _REDUCTIONS:
        return _reduced_below_transpose(graph, node)
    return None


# --------------------------------------------------------------------------------------------------- transpositions


def _below_transposes(graph: Rewriting, node: Node) -> Node | None:
    """The transposed result of the operation on what its operands are the transposes of."""
    made = [graph.made_by(v, "transpose") for v in node.operands if v.shape]
    if not made or made[0] is None:
        return None
    axes = made[0].params["axes"]
    if any(m is None or m.params["axes"] != axes for m in made):
        return None
    (result,) = node.results
    origins = iter([m.operands[0] for m in made if m is not None])
    operands = [next(origins) if v.shape else v for v in node.operands]
    shape = tuple(result.shape[i] for i in inverse(axes))
    found = graph.emit(node.op, *operands, line=node.line, type=result.type._replace(shape=shape), **node.params)
    return Node(registry["transpose"], [found], {"axes": axes}, node.results, node.line)


def _reduced_below_transpose(graph: Rewriting, node: Node) -> Node | None:
    """The reduction along other axes of what its operand is the transpose of."""
    x, *rest = node.operands
    made = graph.made_by(x, "transpose")
    if made is None or rest:
        return None
    axes, axis, keepdims = made.params["axes"], node.params["axis"], node.params["keepdims"]
    origin = made.operands[0]
    (result,) = node.results
    if axis is None:
        return Node(node.op, [origin], node.params, node.results, node.line)
    params = {**node.params, "axis": tuple(sorted(axes[i] for i in axis))}
    kept = axes if keepdims else tuple(a for i, a in enumerate(axes) if i not in axis)
    order = tuple(sorted(kept).index(a) for a in kept)
    if order == tuple(range(len(order))):
        return Node(node.op, [origin], params, node.results, node.line)
    shape = tuple(result.shape[i] for i in inverse(order))
    found = graph.emit(node.op, origin, line=node.line, type=result.type._replace(shape=shape), **params)
    return Node(registry["transpose"], [found], {"axes": order}, node.results, node.line)


# ------------------------------------------------------------------------------------------------------- broadcasts


def _below_broadcasts(graph: Rewriting, node: Node) -> Node | None:
    """The operation on what its operands are broadcast from, broadcast itself where its shape needs that."""
    (result,) = node.results
    if not result.shape or node.op.name in ("power", "float_power"):
        return None
    operands = [_source(graph, v, result) for v in node.operands]
    if all(a is b for a, b in zip(operands, node.operands, strict=True)):
        return None
    shape = broadcast_shapes([v.shape for v in operands])
    if not all(map(is_known, operands)) and any(v.shape not in ((), shape) for v in operands):
        return None
    if shape == result.shape:
        return Node(node.op, operands, node.params, node.results, node.line)
    if not shape and any(v.dtype.kind not in "fcb" for v in operands):
        return None  # NumPy warns where an integer overflows, but says nothing of arrays
    (type,) = infer(node.op, [v.type for v in operands], node.params)
    if type.dtype != result.dtype:
        return None
    found = graph.emit(node.op, *operands, line=node.line, type=type, **node.params)
    return Node(registry["broadcast_to"], [found], {"shape": result.shape}, node.results, node.line)


def _source(graph: Rewriting, value: Value, result: Value) -> Value:
    """What an operand of the shape of the result was broadcast from; itself if it was not."""
    made = graph.made_by(value, "broadcast_to")
    if made is None or value.shape != result.shape or made.operands[0].form == PYTHON:
        return value
    return made.operands[0]
