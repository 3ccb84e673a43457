"""Making a graph from another: what all passes share.

`rewrite` goes through the nodes of a graph in order, regions first, and asks a *step* about each: keep it (None), put
another node in its place that defines the same values, or use other values instead of its results.  Where nothing
changes the graph itself is the answer, so that whoever repeats passes knows when to stop.

Values are immutable, and so are their shapes; where a length is made of a value that is replaced, the value that has
the length is made anew.  The regions of control flow see only what is handed to them; which operand a region gets as
which input is said once, here, for all passes (`captured`, `inner`, `recapture`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.operation import Op, registry
from .dims import Dim, Length, linear, substitute, values_in
from .graph import Graph, Literal, Node, Type, Value
from .inference import infer

__all__ = [
    "Pass",
    "Rewriting",
    "Step",
    "agree",
    "captured",
    "inner",
    "is_known",
    "lengths",
    "lengths_of",
    "on_regions",
    "recapture",
    "renamed",
    "rewrite",
    "same_type",
    "specialize",
]

Pass = Callable[[Graph], Graph]

Step = Callable[["Rewriting", Node], Node | Sequence[Value] | None]
"""What to do with a node whose operands are up to date: keep it, replace it, or use other values for its results."""


def renamed(content: Any, replacement: Mapping[Value, Value]) -> Any:
    """Parameters or a shape with other values in their lengths; a length of which all is known is a number."""

    def of_dim(dim: Dim) -> Length:
        terms: dict[Any, int] = {}
        offset = dim.offset
        for value, factor in dim.terms.items():
            value = replacement.get(value, value)
            if isinstance(value, Literal):
                offset += factor * int(value.content)
            else:
                terms[value] = terms.get(value, 0) + factor
        return linear(terms, offset)

    return substitute(content, of_dim)


def is_known(value: Value) -> bool:
    """Whether all its lengths are known."""
    return Dim not in map(type, value.shape)


def agree(a: Value, b: Value) -> bool:
    """Whether two values are of one type as far as is known; their lengths may be written differently."""
    if a.form != b.form or a.dtype != b.dtype or len(a.shape) != len(b.shape):
        return False
    return all(n == m or isinstance(n, Dim) or isinstance(m, Dim) for n, m in zip(a.shape, b.shape, strict=True))


def same_type(a: Value, b: Value) -> bool:
    """Whether one value can stand for another."""
    return a.form == b.form and a.dtype == b.dtype and a.shape == b.shape


def lengths(value: Value) -> tuple[int, ...]:
    """The shape of a value whose lengths are known."""
    assert is_known(value)
    return value.shape  # type: ignore[return-value]


def lengths_of(values: Iterable[Value]) -> list[Value]:
    """The values that the lengths of some values are made of."""
    return [v for value in values if not is_known(value) for v in values_in(value.shape)]


# ----------------------------------------------------------------------------------------------------- one graph


class Rewriting:
    """A graph being made from another, node after node.

    Attributes:
        graph: the one it is made from.
        inputs: those of the new graph.
        nodes: those of the new graph so far.
        definition: by value the node that defines it in the new graph.
        replacement: by value of the old graph what stands for it in the new one, where it is another.
    """

    def __init__(self, graph: Graph, given: Mapping[Value, Value] | None = None) -> None:
        """Begin; inputs that something is `given` for are none of the new graph."""
        self.graph = graph
        self.nodes: list[Node] = []
        self.definition: dict[Value, Node] = {}
        self.replacement: dict[Value, Value] = dict(given or {})
        self.inputs = [self._renewed(v) for v in graph.inputs if v not in self.replacement]
        self._constants: dict[Value, Any] = {}
        self._uses: Counter[Value] | None = None

    def now(self, value: Value) -> Value:
        """What stands for a value of the old graph."""
        return self.replacement.get(value, value)

    def _renewed(self, value: Value) -> Value:
        """A value, or one like it if lengths of it have changed."""
        if is_known(value):
            return value
        shape = renamed(value.shape, self.replacement)
        if shape == value.shape:
            return value
        fresh = self.replacement[value] = Value(value.type._replace(shape=shape))
        return fresh

    def updated(self, node: Node) -> Node:
        """A node of the old graph with operands and lengths of the new one."""
        operands = [self.replacement.get(v, v) for v in node.operands]
        changed = any(a is not b for a, b in zip(operands, node.operands, strict=True))
        params: Mapping[str, Any] = node.params
        if any(v in self.replacement for v in node.sizes):
            params, changed = renamed(dict(params), self.replacement), True
        results = [self._renewed(v) for v in node.results]
        changed |= any(a is not b for a, b in zip(results, node.results, strict=True))
        return Node(node.op, operands, params, results, node.line) if changed else node

    def add(self, node: Node) -> None:
        """Put a node at the end."""
        self.nodes.append(node)
        for value in node.results:
            self.definition[value] = node

    def emit(self, op: Op | str, *operands: Value, line: str, type: Type | None = None, **params: Any) -> Value:
        """Put a new operation of one result at the end; its type is inferred unless it is given."""
        if isinstance(op, str):
            op = registry[op]
        (found,) = infer(op, [v.type for v in operands], params) if type is None else (type,)
        result = Value(found)
        self.add(Node(op, operands, params, [result], line))
        return result

    def splice(self, graph: Graph, operands: Sequence[Value]) -> list[Value]:
        """Put the nodes of another graph at the end, for these inputs; the values that its outputs are here."""
        self.replacement.update(zip(graph.inputs, operands, strict=True))
        for node in graph.nodes:
            self.add(self.copied(node))
        return [self.now(v) for v in graph.outputs]

    def copied(self, node: Node) -> Node:
        """A node of another graph whose inputs have been replaced, as one that defines values of its own."""
        results = [Value(v.type._replace(shape=renamed(v.shape, self.replacement))) for v in node.results]
        operands = [self.now(v) for v in node.operands]
        params = renamed(dict(node.params), self.replacement) if node.sizes else node.params
        self.replacement.update(zip(node.results, results, strict=True))
        return Node(node.op, operands, params, results, node.line)

    def made_by(self, value: Value, name: str) -> Node | None:
        """The node that defines a value, if it performs the operation of this name."""
        node = self.definition.get(value)
        return node if node is not None and node.op.name == name else None

    def sole(self, value: Value) -> bool:
        """Whether the old graph has this value and uses it once."""
        if self._uses is None:
            self._uses = Counter(v for node in self.graph.nodes for v in node.uses)
            self._uses.update(self.graph.outputs)
        return self._uses[value] == 1

    def constant(self, value: Value) -> Any:
        """The number that a value is, or that all its elements are, where that is known; else None."""
        if value not in self._constants:
            self._constants[value] = self._find_constant(value)
        return self._constants[value]

    def _find_constant(self, value: Value) -> Any:
        if isinstance(value, Literal):
            content = value.content
            if not isinstance(content, np.ndarray):
                return content
            if not content.size or content.size > _MOST_COMPARED or content.dtype.kind not in "biufc":
                return None
            first = content.flat[0]
            return first if np.all(content == first) and (first != 0 or _signs_agree(content)) else None
        node = self.definition.get(value)
        if node is not None and node.op.name in ("broadcast_to", "reshape", "transpose"):
            return self.constant(node.operands[0])
        return None

    def finish(self) -> Graph:
        """The new graph; the old one, if nothing has changed."""
        old = self.graph
        outputs = [self.now(v) for v in old.outputs]
        changed = len(self.nodes) != len(old.nodes) or len(self.inputs) != len(old.inputs)
        pairs = ((self.nodes, old.nodes), (self.inputs, old.inputs), (outputs, old.outputs))
        if changed or any(a is not b for new, was in pairs for a, b in zip(new, was, strict=True)):
            return Graph(self.inputs, self.nodes, outputs, old.name)
        return old


def _signs_agree(zeros: np.ndarray[Any, Any]) -> bool:
    """Whether zeros are all positive or all negative."""
    if zeros.dtype.kind not in "fc":
        return True
    return all(np.all(np.signbit(part) == np.signbit(part.flat[0])) for part in (zeros.real, zeros.imag))


_MOST_COMPARED = 1024
"""The most elements of an array that are compared to see whether they are all the same."""


def rewrite(graph: Graph, step: Step) -> Graph:
    """A graph, and the regions in it, with nodes replaced as a step says."""
    done: dict[Graph, Graph] = {}

    def change(graph: Graph) -> Graph:
        if graph not in done:
            new = Rewriting(graph)
            for old in graph.nodes:
                node = on_regions(new.updated(old), change)
                found = step(new, node)
                if found is None or isinstance(found, Node):
                    new.add(found or node)
                else:
                    new.replacement.update(zip(old.results, found, strict=True))
            done[graph] = new.finish()
        return done[graph]

    return change(graph)


def on_regions(node: Node, change: Pass) -> Node:
    """A node with its regions changed."""
    regions = node.regions
    if not regions:
        return node
    changed = {name: change(region) for name, region in regions.items()}
    if all(changed[name] is region for name, region in regions.items()):
        return node
    return Node(node.op, node.operands, {**node.params, **changed}, node.results, node.line)


# --------------------------------------------------------------------------------------- what regions are handed

_BEFORE = {"call": 0, "branch": 1, "loop": 0, "while_": 1}
"""By operation: how many operands come before those that its regions take as inputs.

The count of a `loop` stands where its body takes the number of the step.
"""


def captured(node: Node) -> range:
    """The positions of the operands that a node hands to its regions as they are, every time."""
    name = node.op.name
    if name not in _BEFORE:
        return range(0)
    return range(1 + node.params["carries"] if name in ("loop", "while_") else _BEFORE[name], len(node.operands))


def inner(node: Node, region: Graph, position: int) -> Value:
    """The input of a region that stands for the operand at a position."""
    return region.inputs[position - _BEFORE[node.op.name]]


def recapture(node: Node, given: Mapping[int, int | Literal]) -> Node:
    """A node without some of the operands it hands on: the regions use a known value, or another operand, instead."""

    def change(region: Graph) -> Graph:
        return specialize(
            region,
            {inner(node, region, i): inner(node, region, v) if isinstance(v, int) else v for i, v in given.items()},
        )

    regions = {name: change(region) for name, region in node.regions.items()}
    operands = [v for i, v in enumerate(node.operands) if i not in given]
    return Node(node.op, operands, {**node.params, **regions}, node.results, node.line)


def specialize(graph: Graph, given: Mapping[Value, Value]) -> Graph:
    """A graph in which other values stand for some of its inputs."""
    new = Rewriting(graph, given)
    for node in graph.nodes:
        new.add(new.updated(node))
    return new.finish()
