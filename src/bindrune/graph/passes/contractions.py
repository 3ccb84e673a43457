"""Products: transpositions that `einsum` can say itself, and chains of matrix products in the cheapest order.

The first is exact.  The second is not, for the order decides what is rounded, so it is made under ``fast_math`` only:
``(A @ B) @ x`` as ``A @ (B @ x)``, and longer chains by the textbook's dynamic programming.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from math import prod
from typing import NamedTuple

from ...core.operation import registry
from ..graph import ARRAY, Graph, Node, Value
from ..rewrite import Rewriting, is_known, lengths, rewrite
from .rearrangements import inverse

__all__ = ["contractions"]

_LONGEST = 32
"""The most factors that are ordered together."""


def contractions(graph: Graph, fast_math: bool = False) -> Graph:
    """The graph with cheaper products."""
    continued: dict[Graph, set[Value]] = {}

    def step(graph: Rewriting, node: Node) -> Node | None:
        if node.op.name == "einsum":
            return _einsum(graph, node, exact=not fast_math)
        if not fast_math or not _is_product(node):
            return None
        if graph.graph not in continued:
            continued[graph.graph] = _continued(graph.graph)
        within = continued[graph.graph]
        return None if node.results[0] in within else _chain(graph, node, within)

    return rewrite(graph, step)


# ------------------------------------------------------------------------------------------------------------ einsum


def _einsum(graph: Rewriting, node: Node, exact: bool) -> Node | None:
    """An einsum of what its operands are the transposes of; one that only permutes axes, as a transposition."""
    subscripts = node.params["subscripts"]
    if "." in subscripts or "->" not in subscripts:
        return None
    left, output = subscripts.split("->")
    inputs = left.split(",")
    if len(inputs) == 1 and len(set(left)) == len(left) and sorted(left) == sorted(output):
        axes = tuple(left.index(label) for label in output)
        return Node(registry["transpose"], node.operands, {"axes": axes}, node.results, node.line)
    made = [graph.made_by(v, "transpose") for v in node.operands]
    # The route of an optimised einsum, and with it the rounding, may depend on where the axes lie.
    if not any(made) or (exact and node.params.get("optimize")):
        return None
    operands = [v if m is None else m.operands[0] for v, m in zip(node.operands, made, strict=True)]
    labels = [
        text if m is None else "".join(text[i] for i in inverse(m.params["axes"]))
        for text, m in zip(inputs, made, strict=True)
    ]
    params = {**node.params, "subscripts": f"{','.join(labels)}->{output}"}
    return Node(node.op, operands, params, node.results, node.line)


# ------------------------------------------------------------------------------------------------------------ chains


def _is_product(node: Node) -> bool:
    """Whether a node is a product of matrices, or of a matrix and a vector, of known lengths and one dtype."""
    if node.op.name not in ("matmul", "dot") or not node.results[0].shape:
        return False
    dtype = node.results[0].dtype
    factors = node.operands
    return dtype.kind in "fc" and all(
        v.form == ARRAY and 1 <= v.ndim <= 2 and is_known(v) and v.dtype == dtype for v in factors
    )


def _continued(graph: Graph) -> set[Value]:
    """The products that are factors of a product themselves, and used for nothing else."""
    uses = Counter(v for node in graph.nodes for v in node.uses)
    uses.update(graph.outputs)
    made = {node.results[0]: node for node in graph.nodes if _is_product(node)}
    return {
        v
        for node in made.values()
        for side, v in enumerate(node.operands)
        if v in made and uses[v] == 1 and _is_longer(made[v], side)
    }


def _is_longer(product: Node, side: int) -> bool:
    """Whether a product may be taken apart as the left (0) or right (1) end of a chain, or within it.

    A vector at an end belongs to its neighbour only from there: ``(A @ x) @ B`` is no chain of three.
    """
    return product.results[0].ndim == 2 or product.operands[side].ndim == 1


_Order = int | tuple["_Order", "_Order"]
"""How to multiply factors: one of them, or the product of two such orders."""


class _Best(NamedTuple):
    cost: int
    order: _Order


def _chain(graph: Rewriting, node: Node, continued: set[Value]) -> Node | None:
    """The product of a chain in the cheapest order; None where it is that already."""
    factors = list(node.operands)
    cost = _cost(node)
    i = 0
    while i < len(factors):
        made = graph.definition.get(factors[i])
        if made is None or factors[i] not in continued or len(factors) == _LONGEST:
            i += 1
        else:
            factors[i : i + 1] = made.operands
            cost += _cost(made)
    rows = 1 if factors[0].ndim == 1 else lengths(factors[0])[0]
    best = _cheapest((rows, *(1 if i and v.ndim == 1 else lengths(v)[-1] for i, v in enumerate(factors))))
    if best.cost >= cost:
        return None

    def build(order: _Order) -> Value:
        if isinstance(order, int):
            return factors[order]
        return graph.emit("matmul", *map(build, order), line=node.line)

    assert isinstance(best.order, tuple)
    return Node(registry["matmul"], [build(part) for part in best.order], {}, node.results, node.line)


def _cost(product: Node) -> int:
    """How many multiplications a product takes."""
    a, b = map(lengths, product.operands)
    return prod(a) * (b[1] if len(b) == 2 else 1)


@lru_cache(maxsize=256)
def _cheapest(lengths: tuple[int, ...]) -> _Best:
    """The order that takes the fewest multiplications for matrices of ``lengths[i]`` by ``lengths[i + 1]``."""
    count = len(lengths) - 1
    best = {(i, i + 1): _Best(0, i) for i in range(count)}
    for width in range(2, count + 1):
        for i in range(count - width + 1):
            j = i + width
            best[i, j] = min(
                (
                    _Best(
                        best[i, k].cost + best[k, j].cost + lengths[i] * lengths[k] * lengths[j],
                        (best[i, k].order, best[k, j].order),
                    )
                    for k in range(i + 1, j)
                ),
                key=lambda found: found.cost,
            )
    return best[0, count]
