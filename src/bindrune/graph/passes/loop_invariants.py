"""Loop-invariant motion: what a loop computes alike in every step is computed once, in front of it.

A loop may have no steps.  So what moves in front of one must be harmless where it would not have been performed: it
cannot raise, whatever its operands are (indices read from arrays, Python's divisions and NumPy's integer powers stay).
Where a loop is known to have a step, and its body no effects, everything moves.

A carry that no step changes is no carry, but something handed to the body.  Numbers that are shown in many places
(`broadcast_to`) go back into the body, where showing them costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core.operation import Elementwise
from ..graph import PYTHON, Graph, Literal, Node, Value
from ..rewrite import Rewriting, agree, captured, inner, is_known, lengths_of, rewrite

__all__ = ["loop_invariants"]

_HARMLESS = frozenset(
    (
        "reshape transpose astype copy broadcast_to windows diagonal from_parts concatenate stack where "
        "float item conjugate real imag modf frexp round sum mean prod max min var all any logsumexp logsumexp2 "
        "cumsum cumprod cummax cummin sort argsort argmax argmin matmul dot inner vdot vecdot matvec vecmat einsum "
        "convolve fft ifft rfft irfft"
    ).split()
)
"""Operations that raise for no content of operands whose types they accept."""

_PYTHON_HARMLESS = frozenset(
    (
        "add subtract multiply negative positive absolute maximum minimum logical_not "
        "equal not_equal less less_equal greater greater_equal"
    ).split()
)
"""Operations that raise for no numbers of Python's."""


def loop_invariants(graph: Graph) -> Graph:
    """The graph with invariants of loops computed in front of them."""
    return rewrite(graph, _step)


def _step(graph: Rewriting, node: Node) -> Node | Sequence[Value] | None:
    if node.op.name not in ("loop", "while_"):
        return None
    steady = _without_constant_carries(graph, node)
    if steady is not None:
        loop, results = steady
        loop = _moved(graph, loop) or loop
        graph.add(loop)
        return results
    return _moved(graph, node)


# --------------------------------------------------------------------------------------------- carries that are none


def _without_constant_carries(graph: Rewriting, node: Node) -> tuple[Node, list[Value]] | None:
    """The loop with carries that no step changes handed to the body instead, and the results of the loop it was."""
    body, count = node.params["body"], node.params["carries"]
    skip = len(body.outputs) - count
    constant = [
        i
        for i in range(count)
        if body.outputs[skip + i] is inner(node, body, 1 + i) and agree(node.operands[1 + i], node.results[i])
    ]
    if not constant:
        return None
    kept = [i for i in range(count) if i not in constant]
    order = [1 + i for i in kept] + [1 + i for i in constant] + list(captured(node))
    inputs = [*body.inputs[: len(body.inputs) - len(order)], *(inner(node, body, i) for i in order)]
    outputs = [*body.outputs[:skip], *(body.outputs[skip + i] for i in kept)]
    results = [node.results[i] for i in kept]
    loop = Node(
        node.op,
        [node.operands[0], *(node.operands[i] for i in order)],
        {**node.params, "body": Graph(inputs, body.nodes, outputs, body.name), "carries": len(kept)},
        results,
        node.line,
    )
    return loop, [node.operands[1 + i] if i in constant else v for i, v in enumerate(node.results)]


# ------------------------------------------------------------------------------------------------------- invariants


def _moved(graph: Rewriting, node: Node) -> Node | None:
    """The loop without what its body computes alike in every step, which is put in front of it; None without such."""
    body: Graph = node.params["body"]
    handed = {inner(node, body, i): node.operands[i] for i in captured(node)}
    handed = {value: operand for value, operand in handed.items() if agree(value, operand)}
    invariant = _invariant(body, set(handed), _has_a_step(node))
    moving, staying = _divided(body, invariant)
    if not moving:
        return None
    graph.replacement.update(handed)
    for moved in moving:
        graph.add(graph.copied(moved))
    used = {v for n in staying for v in (*n.uses, *lengths_of(n.results))} | {*body.outputs, *lengths_of(body.outputs)}
    crossing = [v for n in moving for v in n.results if v in used and not any(v in n.results for n in staying)]
    return Node(
        node.op,
        [*node.operands, *map(graph.now, crossing)],
        {**node.params, "body": Graph([*body.inputs, *crossing], staying, body.outputs, body.name)},
        node.results,
        node.line,
    )


def _invariant(body: Graph, fixed: set[Value], performed: bool) -> list[Node]:
    """The nodes that depend only on values that are fixed, and may be performed in front of the loop."""
    changing = {v for v in body.inputs if v not in fixed}
    found: list[Node] = []
    for node in body.nodes:
        needs = (*node.uses, *lengths_of(node.results))
        free = not node.effect and not any(v in changing for v in needs)
        if free and (performed or _harmless(node)):
            found.append(node)
        else:
            changing.update(node.results)
    return found


def _divided(body: Graph, invariant: list[Node]) -> tuple[list[Node], list[Node]]:
    """What moves out of a body, and what stays: of invariants only broadcasts that the body needs, perhaps in both."""
    movable = set(map(id, invariant))
    inside = {*body.outputs, *lengths_of(body.outputs)}
    outside: set[Value] = set()
    moving: list[Node] = []
    staying: list[Node] = []
    for node in reversed(body.nodes):
        if id(node) not in movable:
            staying.append(node)
            inside.update((*node.uses, *lengths_of(node.results)))
            continue
        stays = node.op.name == "broadcast_to" and any(v in inside for v in node.results)
        moves = any(v in outside or (v in inside and not stays) for v in node.results)
        if stays:
            staying.append(node)
            inside.update(node.uses)
        if moves:
            moving.append(node)
            outside.update(node.uses)
    return moving[::-1], staying[::-1]


def _has_a_step(node: Node) -> bool:
    """Whether a loop is known to perform all that its body says at least once, with nothing in between that shows."""
    first = node.operands[0]
    return isinstance(first, Literal) and first.content > 0 and not any(n.effect for n in node.params["body"].nodes)


def _harmless(node: Node) -> bool:
    """Whether a node can be performed on any operands of its types without raising."""
    name = node.op.name
    if isinstance(node.op, Elementwise):
        return _harmless_elementwise(node)
    if node.sizes or not all(is_known(v) for v in (*node.operands, *node.results)):
        return False
    return name in _HARMLESS or (name == "getitem" and len(node.operands) == 1)


def _harmless_elementwise(node: Node) -> bool:
    name, (result,) = node.op.name, node.results
    if all(v.form == PYTHON for v in node.operands):
        return name.removeprefix("python.") in _PYTHON_HARMLESS
    if name.startswith("math."):
        return False
    if any(v.shape and v.shape != result.shape and not (is_known(v) and is_known(result)) for v in node.operands):
        return False
    if result.dtype.kind in "iu":
        # A number of Python's may be too large for the dtype; a power may have a negative exponent.
        weak = any(v.form == PYTHON and not isinstance(v, Literal) for v in node.operands)
        return name != "power" and not (weak and result.dtype != np.int64)
    return True
