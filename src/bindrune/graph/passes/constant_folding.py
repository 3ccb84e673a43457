"""Constant folding: what is known before the program runs is computed before it runs.

A node whose operands are all known is performed, as it would be when the program runs.  What raises or warns is left
to the program, so that the user gets the message from where it belongs; what would grow is left too, because a number
shown in many places (`broadcast_to`) is cheaper than an array of it.  Known operands that control flow hands to its
regions become known there.
"""

from __future__ import annotations

import warnings
from math import prod
from typing import Any

import numpy as np

from ..graph import Graph, Literal, Node, Value, type_of
from ..rewrite import Rewriting, captured, inner, is_known, lengths, recapture, rewrite, same_type

__all__ = ["constant_folding"]

_LARGEST = 1024
"""The most elements that an operand or a result may have."""

_SMALL = 16
"""The most elements of a result that is larger than its operands together."""


def constant_folding(graph: Graph) -> Graph:
    """The graph with what is known computed."""
    with np.errstate(divide="raise", over="raise", invalid="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        return rewrite(graph, _fold)


def _fold(graph: Rewriting, node: Node) -> Node | list[Value] | None:
    if node.regions:
        return _hand_over(node)
    if node.op.structured or node.sizes or not node.operands or not _worthwhile(node):
        return None
    try:
        found: Any = node.op.implementation(*(v.content for v in node.operands), **node.params)  # type: ignore[attr-defined]
    except Exception:
        return None
    results = found if type(found) is tuple else (found,)
    same = all(type_of(r) == v.type for r, v in zip(results, node.results, strict=True))
    return [Literal(r) for r in results] if same else None


def _worthwhile(node: Node) -> bool:
    """Whether the operands are known, and neither they nor the results are large."""
    if not all(isinstance(v, Literal) for v in node.operands) or not all(is_known(v) for v in node.results):
        return False
    given = sum(prod(lengths(v)) for v in node.operands)
    made = sum(prod(lengths(v)) for v in node.results)
    return given <= _LARGEST and made <= max(given, _SMALL)


def _hand_over(node: Node) -> Node | None:
    """Known operands in the regions; not in those of a call, which may be the same as those of other calls."""
    if node.op.name == "call":
        return None
    regions = node.regions.values()
    known = {
        i: operand
        for i in captured(node)
        if isinstance(operand := node.operands[i], Literal)
        and all(same_type(operand, inner(node, region, i)) for region in regions)
    }
    return recapture(node, known) if known else None
