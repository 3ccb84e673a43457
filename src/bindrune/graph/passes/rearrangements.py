"""Rearrangements that undo each other, and writes that are read back: what `simplify` knows of shapes and places.

One function an operation, from a node to what can stand for it.  All keep every element as it is.  What they may
change is the order of elements in memory, as NumPy's views have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Node, Value
from ..patterns import fit
from ..rewrite import Rewriting, same_type

__all__ = ["CANCELLATIONS", "inverse"]

Replacement = Node | list[Value] | None

CANCELLATIONS: dict[str, Callable[[Rewriting, Node], Replacement]] = {}
"""By the name of an operation: what stands for a node that performs it, if something does."""


def _cancels(name: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        CANCELLATIONS[name] = function
        return function

    return register


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes another."""
    return tuple(axes.index(i) for i in range(len(axes)))


def _itself(node: Node) -> list[Value] | None:
    """The first operand, where it has the type of the result."""
    return [node.operands[0]] if same_type(node.operands[0], node.results[0]) else None


def _with(node: Node, *operands: Value, **params: Any) -> Node:
    """The same operation on other operands, of the same type of result."""
    return Node(node.op, operands, params, node.results, node.line)


@_cancels("transpose")
def _transpose(graph: Rewriting, node: Node) -> Replacement:
    (x,), axes = node.operands, tuple(node.params["axes"])
    before = graph.made_by(x, "transpose")
    if before is not None:
        (x,), axes = before.operands, tuple(before.params["axes"][i] for i in axes)
    if axes == tuple(range(len(axes))):
        return [x] if same_type(x, node.results[0]) else None
    return None if before is None else _with(node, x, axes=axes)


@_cancels("reshape")
def _reshape(graph: Rewriting, node: Node) -> Replacement:
    before = graph.made_by(node.operands[0], "reshape")
    if before is not None and before.params["order"] == node.params["order"] == "C":
        node = _with(node, before.operands[0], **node.params)
        return _itself(node) or node
    return _itself(node)


@_cancels("broadcast_to")
def _broadcast_to(graph: Rewriting, node: Node) -> Replacement:
    before = graph.made_by(node.operands[0], "broadcast_to")
    return _itself(node) if before is None else _with(node, before.operands[0], **node.params)


@_cancels("convert")
def _convert(graph: Rewriting, node: Node) -> Replacement:
    return _itself(node)


@_cancels("astype")
def _astype(graph: Rewriting, node: Node) -> Replacement:
    (x,) = node.operands
    before = graph.made_by(x, "astype")
    if before is None or before.operands[0].form != x.form or not _holds(x.dtype, before.operands[0].dtype):
        return _itself(node)
    if x.dtype.kind in "fc" and node.params["dtype"].kind not in "fc":
        return None  # what is too large for an integer is not said to become the same from every type
    node = _with(node, before.operands[0], **node.params)
    return _itself(node) or node


def _holds(wide: np.dtype[Any], narrow: np.dtype[Any]) -> bool:
    """Whether one dtype has every number of another."""
    if wide.kind in "fc" and narrow.kind in "iu":
        return np.iinfo(narrow).bits - (narrow.kind == "i") <= np.finfo(wide).nmant + 1
    return wide.kind in "biufc" and narrow.kind in "biufc" and np.can_cast(narrow, wide, "safe")


# ---------------------------------------------------------------------------------------------- reading and writing


@_cancels("pop")
def _pop(graph: Rewriting, node: Node) -> Replacement:
    pushed = graph.made_by(node.operands[0], "push")
    return list(pushed.operands) if pushed is not None and all(map(same_type, pushed.operands, node.results)) else None


def _everything(index: Any) -> bool:
    """Whether an index selects all elements where they are."""
    return all(e is Ellipsis or (isinstance(e, slice) and e == slice(None)) for e in index)


@_cancels("getitem")
def _getitem(graph: Rewriting, node: Node) -> Replacement:
    x, *places = node.operands
    if not places and _everything(node.params["index"]):
        return _itself(node)
    written = graph.made_by(x, "setitem")
    if written is None or written.params["index"] != node.params["index"]:
        return None
    _, content, *others = written.operands
    # A single number leads to one place; of an array of places several may be the same.
    same = len(places) == len(others) and all(a is b and not a.shape for a, b in zip(places, others, strict=True))
    return [content] if same and content.type == node.results[0].type else None


@_cancels("setitem")
def _setitem(graph: Rewriting, node: Node) -> Replacement:
    x, content, *places = node.operands
    if not places and _everything(node.params["index"]) and content.dtype == x.dtype and content.ndim <= x.ndim:
        return fit(content, node)
    written = graph.made_by(x, "setitem")
    if written is not None and written.params["index"] == node.params["index"] and graph.sole(x):
        origin, _, *others = written.operands
        if len(places) == len(others) and all(a is b for a, b in zip(places, others, strict=True)):
            return _with(node, origin, content, *places, **node.params)
    return None
