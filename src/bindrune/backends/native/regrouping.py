"""Products of matrices that were made of arrays with more axes, as the contractions that they are.

The cotangents of `einsum`, `np.tensordot`, and convolutions written by hand bring their operands into the shape of
matrices, by a transposition and a reshape that copies, and the result into another one.  `contractions` finds a way
with less to copy when it sees all the axes.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...core.operation import registry
from ...graph.graph import ARRAY, Graph, Node, Type, Value
from ...graph.passes.dead_code import dead_code
from ...graph.rewrite import Rewriting, is_known, lengths, rewrite

__all__ = ["regrouped"]

_SMALLEST = 24**3
"""The multiplications from which on it matters how operands reach a product."""


def regrouped(graph: Graph) -> Graph:
    """The graph with products of matrices as contractions of what the matrices are made of."""
    found = rewrite(graph, _step)
    return graph if found is graph else dead_code(found)


class _Merged(NamedTuple):
    """A matrix as what it is made of: an array, whose axes in some order are those of rows and of columns."""

    source: Value
    order: Sequence[int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]


def _step(graph: Rewriting, node: Node) -> Node | None:
    if node.op.name not in ("matmul", "dot") or any(v.ndim != 2 or not is_known(v) for v in node.operands):
        return None
    (result,) = node.results
    if any(v.dtype != result.dtype or v.form != ARRAY for v in node.operands) or result.dtype.kind != "f":
        return None
    (n, k), (_, m) = map(lengths, node.operands)
    parts = [_taken_apart(graph, v) for v in node.operands]
    if n * k * m < _SMALLEST or not any(parts):
        return None
    a, b = (_whole(v) if part is None else part for v, part in zip(node.operands, parts, strict=True))
    a, b = _split(graph, node, a, b.rows, rows=False), _split(graph, node, b, a.columns, rows=True)
    if a.columns != b.rows:
        return None
    letters = iter(string.ascii_letters)
    rows, summed, columns = (_labels(letters, group) for group in (a.rows, a.columns, b.columns))
    subscripts = f"{_placed(a, rows + summed)},{_placed(b, summed + columns)}->{rows}{columns}"
    params = {"subscripts": subscripts, "optimize": False}
    shape = (*a.rows, *b.columns)
    if shape == result.shape:
        return Node(registry["einsum"], (a.source, b.source), params, node.results, node.line)
    type = Type(shape, result.dtype, ARRAY)
    found = graph.emit("einsum", a.source, b.source, line=node.line, type=type, **params)
    return Node(registry["reshape"], (found,), {"shape": result.shape, "order": "C"}, node.results, node.line)


def _whole(matrix: Value) -> _Merged:
    n, m = lengths(matrix)
    return _Merged(matrix, (0, 1), (n,), (m,))


def _taken_apart(graph: Rewriting, matrix: Value) -> _Merged | None:
    """What a matrix is made of, if its elements had to be copied together."""
    shaped = graph.made_by(matrix, "reshape")
    if shaped is None or shaped.params["order"] != "C" or not is_known(shaped.operands[0]):
        return None
    (inner,) = shaped.operands
    turned = graph.made_by(inner, "transpose")
    shape, (count, _) = lengths(inner), lengths(matrix)
    if (turned is None and graph.made_by(inner, "windows") is None) or 1 in shape or 0 in shape:
        return None
    size, at = 1, 0
    while size < count:
        size, at = size * shape[at], at + 1
    if size != count:
        return None
    order = range(len(shape)) if turned is None else tuple(turned.params["axes"])
    return _Merged(inner if turned is None else turned.operands[0], order, shape[:at], shape[at:])


def _split(graph: Rewriting, node: Node, matrix: _Merged, other: tuple[int, ...], rows: bool) -> _Merged:
    """A matrix whose one summed axis is split as the other operand's axes are."""
    mine = matrix.rows if rows else matrix.columns
    if len(mine) > 1 or len(other) == 1 or tuple(matrix.order) != tuple(range(len(matrix.order))):
        return matrix
    parts = (other, matrix.columns) if rows else (matrix.rows, other)
    shape = (*parts[0], *parts[1])
    type = Type(shape, matrix.source.dtype, ARRAY)
    source = graph.emit("reshape", matrix.source, line=node.line, type=type, shape=shape, order="C")
    return _Merged(source, range(len(shape)), *parts)


def _labels(letters: Iterator[str], group: Sequence[int]) -> str:
    return "".join(next(letters) for _ in group)


def _placed(matrix: _Merged, labels: str) -> str:
    """The labels of a matrix in the order of its source's axes."""
    return "".join(labels[list(matrix.order).index(axis)] for axis in range(len(labels)))
