"""Residuals in arrays: a stack on which a loop puts a frame in each step, for one loop that takes them off again.

If the frames are a few numbers each, all alike, a stack costs more than what lies on it: where a frame goes is known
only when the last one has been put down, and each says how large it is.  The loop then carries arrays with a place for
each of its steps instead, and the loop that goes back reads them; steps depend on each other by nothing but what they
compute.

The stack of an inner loop lies in a frame of the outer one's.  So two loops belong together if one starts from the
other's stack; or if one puts its stack on that of the loop around it, and the other, in the loop that belongs to this,
starts from what is taken from the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...core.operation import Op, registry
from ...core.stack import STACK
from ...graph.dims import Dim, Length
from ...graph.graph import ARRAY as ARRAY_FORM
from ...graph.graph import NUMBER, STACK_TYPE, Graph, Literal, Node, Type, Value
from ...graph.rewrite import captured, inner, on_regions
from ...ops.indexing import ARRAY
from .formats import arithmetic
from .lower import Location, Lowering, rule

__all__ = ["residuals_in_arrays"]

_LARGEST = 1024
"""The bytes of the largest frame that is divided among arrays; moving a larger one costs more than its header."""

_ROOM = Op("room", np.empty, "", jvps=(), vjps=(), batch=None, rows=None)
"""Room for an array, all of which is written before it is read."""

_Same = Callable[[Value, Value], bool]
"""Whether a value where frames are put down is the same as one where they are taken up."""


def residuals_in_arrays(graph: Graph) -> Graph:
    """The graph with arrays instead of stacks where frames are small and alike."""
    new = _Nodes(graph)
    for node in graph.nodes:
        changed = on_regions(node, residuals_in_arrays)
        if changed is not node:
            new.put(node, [changed])
    for source in graph.nodes:
        for carry in _stacks(source):
            stack = source.results[carry]
            sink = new.only_user(stack)
            if sink is None or sink.op.name != "loop":
                continue
            ends = _ends(new.now(source), new.now(sink), stack, stack)
            found = _moved(*ends, _is)
            if found is not None and not new.uses(ends[1].rest):
                new.put(source, found.putting)
                new.put(sink, found.taking(found.kept))
    return new.finish()


def _is(a: Value, b: Value) -> bool:
    return a is b or _equal_literals(a, b)


def _equal_literals(a: Value, b: Value) -> bool:
    return (
        isinstance(a, Literal) and isinstance(b, Literal) and a.type == b.type and bool(np.all(a.content == b.content))
    )


class _Nodes:
    """A graph some of whose nodes are replaced."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.definition = {v: node for node in graph.nodes for v in node.results}
        self._users: dict[Value, list[Node | None]] = {}
        self._made: dict[Node, list[Node]] = {}
        for node in graph.nodes:
            for v in node.uses:
                self._users.setdefault(v, []).append(node)
        for v in graph.outputs:
            self._users.setdefault(v, []).append(None)

    def only_user(self, value: Value) -> Node | None:
        """The node that uses a value, if it is the only one and uses it once."""
        users = self._users.get(value, ())
        return users[0] if len(users) == 1 else None

    def uses(self, value: Value) -> int:
        """How often a value is used."""
        return len(self._users.get(value, ()))

    def now(self, node: Node) -> Node:
        """What a node has become: the last of those in its place."""
        return self._made[node][-1] if node in self._made else node

    def put(self, node: Node, made: Iterable[Node]) -> None:
        """Put other nodes in the place of one, or of the last that stand there already."""
        self._made[node] = [*self._made.get(node, ())[:-1], *made]

    def finish(self) -> Graph:
        """The new graph; the old one, if nothing has changed."""
        if not self._made:
            return self.graph
        nodes = [n for node in self.graph.nodes for n in self._made.get(node, (node,))]
        return Graph(self.graph.inputs, nodes, self.graph.outputs, self.graph.name)


def _stacks(node: Node) -> list[int]:
    """The carries of a loop that are stacks on which nothing lies when it starts."""
    if node.op.name != "loop":
        return []
    given = node.operands[1 : 1 + node.params["carries"]]
    return [i for i, v in enumerate(given) if v.dtype == STACK and isinstance(v, Literal)]


@rule("room")
def _room(low: Lowering, node: Node, operands: list[Location]) -> Location:
    (result,) = node.results
    return low.array(result.dtype, tuple(map(low.length, result.shape)))


# -------------------------------------------------------------------------------------------------------- both ends


class _End(NamedTuple):
    """A loop, and which of its carries is the stack."""

    loop: Node
    carry: int

    @property
    def body(self) -> Graph:
        """What each step does."""
        body: Graph = self.loop.params["body"]
        return body

    @property
    def start(self) -> Value:
        """The stack when a step begins."""
        return self.body.inputs[1 + self.carry]

    @property
    def stop(self) -> Value:
        """The stack when a step ends."""
        return self.body.outputs[self.carry]

    @property
    def rest(self) -> Value:
        """The stack when the loop has ended."""
        return self.loop.results[self.carry]

    def frame(self, name: str) -> list[Node] | None:
        """The nodes that put what a frame consists of on the stack, or take it off, if nothing else happens to it."""
        nodes = _Nodes(self.body)
        found: list[Node] = []
        stack = self.start
        while stack is not self.stop:
            user = nodes.only_user(stack)
            if user is None or user.op.name != name or user.operands[0] is not stack:
                return None
            found.append(user)
            stack = user.results[0]
        return found if nodes.uses(stack) == 1 else None


def _ends(source: Node, sink: Node, stack: Value, again: Value) -> tuple[_End, _End]:
    """The loop that gives a stack, and the one that starts from it."""
    return _End(source, source.results.index(stack)), _End(sink, sink.operands.index(again) - 1)


class _Moved(NamedTuple):
    """What two loops become.

    Attributes:
        putting: the nodes in place of the loop that goes forward.
        kept: what this gives instead of the stack.
        types: those of the same values where they are taken up.
        taking: the nodes in place of the loop that goes back, from these values.
    """

    putting: list[Node]
    kept: list[Value]
    types: list[Type]
    taking: Callable[[Sequence[Value]], list[Node]]


def _moved(source: _End, sink: _End, same: _Same) -> _Moved | None:
    """Two loops with arrays instead of the stack between them, or between loops inside them; None where none can be."""
    if sink.carry >= sink.loop.params["carries"]:
        return None
    put, taken = source.frame("push"), sink.frame("pop")
    if put is None or taken is None or len(put) != len(taken):
        return None
    pairs = [*zip(put, reversed(taken), strict=True)]
    here = _correspondence(source, sink, pairs, same)
    count, again = source.loop.operands[0], sink.loop.operands[0]
    alike = same(count, again) and source.loop.params["descending"] != sink.loop.params["descending"]
    if alike and _is_small([p.operands[1].type for p, _ in pairs]) and all(_agree(p, t) for p, t in pairs):
        return _in_arrays(source, sink, pairs)
    return _inside(source, sink, pairs, here)


def _is_small(types: Sequence[Type]) -> bool:
    if not types or not all(arithmetic(t.dtype) and not any(isinstance(n, Dim) for n in t.shape) for t in types):
        return False
    return sum(int(np.prod(t.shape, dtype=int)) * t.dtype.itemsize for t in types) <= _LARGEST


def _agree(put: Node, taken: Node) -> bool:
    return put.operands[1].type == taken.results[1].type


def _correspondence(source: _End, sink: _End, pairs: Iterable[tuple[Node, Node]], outside: _Same) -> _Same:
    """Which values of two bodies are the same in steps that belong together."""
    kept = {taken.results[1]: put.operands[1] for put, taken in pairs}
    first, second = (_Nodes(end.body).definition for end in (source, sink))
    around, beyond = ({inner(e.loop, e.body, i): e.loop.operands[i] for i in captured(e.loop)} for e in (source, sink))
    opposite = source.loop.params["descending"] != sink.loop.params["descending"]

    def same(a: Value, b: Value) -> bool:
        if kept.get(b) is a or _equal_literals(a, b):
            return True
        if a is source.body.inputs[0] and b is sink.body.inputs[0]:
            return opposite and outside(source.loop.operands[0], sink.loop.operands[0])
        if a in around and b in beyond:
            return outside(around[a], beyond[b])
        made, again = first.get(a), second.get(b)
        if made is None or again is None or made.op is not again.op or made.params != again.params or made.regions:
            return False
        if made.effect or made.results.index(a) != again.results.index(b) or len(made.operands) != len(again.operands):
            return False
        return all(map(same, made.operands, again.operands))

    return same


# ------------------------------------------------------------------------------------------------------ inner loops


def _inside(source: _End, sink: _End, pairs: Sequence[tuple[Node, Node]], same: _Same) -> _Moved | None:
    """Two loops with arrays instead of the stacks between loops inside them, which lie in the frames."""
    first, second = _Nodes(source.body), _Nodes(sink.body)
    changed = False
    for put, taken in pairs:
        stack, again = put.operands[1], taken.results[1]
        loop, back = first.definition.get(stack), second.only_user(again)
        if stack.dtype != STACK or loop is None or back is None or back.op.name != "loop":
            continue
        if loop.results.index(stack) not in _stacks(loop) or first.only_user(stack) is not put:
            continue
        ends = _ends(first.now(loop), second.now(back), stack, again)
        found = _moved(*ends, same)
        if found is None or second.uses(ends[1].rest):
            continue
        if any(isinstance(n, Dim) for t in found.types for n in t.shape) and not _is_there(second, back, taken):
            continue
        changed = True
        first.put(loop, found.putting)
        first.put(put, _pushes(put, found.kept))
        values = [Value(t) for t in found.types]
        second.put(taken, _pops(taken, values))
        second.put(back, found.taking(values))
    if not changed:
        return None
    putting, taking = (
        Node(e.loop.op, e.loop.operands, {**e.loop.params, "body": body}, e.loop.results, e.loop.line)
        for e, body in ((source, first.finish()), (sink, second.finish()))
    )

    def started(values: Sequence[Value]) -> list[Node]:
        return [_with_operands(taking, {1 + sink.carry: values[0]})]

    return _Moved([putting], [putting.results[source.carry]], [STACK_TYPE], started)


def _is_there(nodes: _Nodes, loop: Node, taken: Node) -> bool:
    """Whether it is known how often a loop runs before a value is taken from a stack."""
    count = loop.operands[0]
    made = nodes.definition.get(count)
    order = nodes.graph.nodes
    return made is None or order.index(made) < order.index(taken)


def _with_operands(node: Node, other: Mapping[int, Value]) -> Node:
    operands = [other.get(i, v) for i, v in enumerate(node.operands)]
    return Node(node.op, operands, node.params, node.results, node.line)


def _pushes(push: Node, values: Sequence[Value]) -> list[Node]:
    """The nodes that put some values on a stack instead of one."""
    made: list[Node] = []
    stack = push.operands[0]
    for i, value in enumerate(values):
        after = push.results[0] if i == len(values) - 1 else Value(STACK_TYPE)
        made.append(Node(push.op, (stack, value), push.params, [after], push.line))
        stack = after
    return made


def _pops(pop: Node, values: Sequence[Value]) -> list[Node]:
    """The nodes that take some values off a stack instead of one, the last one first."""
    made: list[Node] = []
    stack = pop.operands[0]
    for i, value in reversed([*enumerate(values)]):
        below = pop.results[0] if i == 0 else Value(STACK_TYPE)
        made.append(Node(pop.op, (stack,), {"type": value.type}, [below, value], pop.line))
        stack = below
    return made


# ----------------------------------------------------------------------------------------------------------- arrays


def _in_arrays(source: _End, sink: _End, pairs: Sequence[tuple[Node, Node]]) -> _Moved:
    """Two loops with arrays instead of the stack between them."""
    slots = [put.operands[1].type for put, _ in pairs]
    count = source.loop.operands[0]
    kept = [Value(_rows(t, count)) for t in slots]
    starts = [Value(v.type) for v in kept]
    rooms = [Node(_ROOM, (), {"shape": v.shape}, [v], source.loop.line) for v in starts]
    types = [_rows(t, sink.loop.operands[0]) for t in slots]
    return _Moved(
        [*rooms, _putting(source, pairs, starts, kept)], kept, types, lambda values: [_taking(sink, pairs, values)]
    )


def _rows(slot: Type, count: Value) -> Type:
    """The type of an array with a place for each of so many steps."""
    length: Length = int(count.content) if isinstance(count, Literal) else Dim({count: 1}, 0)
    return Type((length, *slot.shape), slot.dtype, ARRAY_FORM)


def _handed(loop: Node) -> tuple[list[Value], list[Value], Value]:
    """What the body needs to be handed for lengths that are the number of steps: outside, inside, and that number."""
    count = loop.operands[0]
    if isinstance(count, Literal):
        return [], [], count
    length = Value(count.type)
    return [count], [length], length


def _putting(end: _End, pairs: Sequence[tuple[Node, Node]], starts: Sequence[Value], kept: Sequence[Value]) -> Node:
    """The loop that goes forward with arrays that it writes into."""
    loop, body, i = end.loop, end.body, end.carry
    outside, inside, count = _handed(loop)
    before, after = ([Value(_rows(p.operands[1].type, count)) for p, _ in pairs] for _ in range(2))
    nodes = [n for n in body.nodes if all(n is not p for p, _ in pairs)]
    for (put, _), old, new in zip(pairs, before, after, strict=True):
        written = (old, put.operands[1], body.inputs[0])
        nodes.append(Node(registry["setitem"], written, {"index": (ARRAY,)}, [new], put.line))
    inputs = [*body.inputs[: 1 + i], *before, *body.inputs[2 + i :], *inside]
    outputs = [*body.outputs[:i], *after, *body.outputs[i + 1 :]]
    params = {"body": Graph(inputs, nodes, outputs, body.name), "carries": loop.params["carries"] + len(kept) - 1}
    operands = [*loop.operands[: 1 + i], *starts, *loop.operands[2 + i :], *outside]
    results = [*loop.results[:i], *kept, *loop.results[i + 1 :]]
    return Node(loop.op, operands, {**loop.params, **params}, results, loop.line)


def _taking(end: _End, pairs: Sequence[tuple[Node, Node]], values: Sequence[Value]) -> Node:
    """The loop that goes back with arrays that it is handed."""
    loop, body, i = end.loop, end.body, end.carry
    outside, inside, count = _handed(loop)
    handed = [Value(_rows(p.operands[1].type, count)) for p, _ in pairs]
    reads = {taken: array for (_, taken), array in zip(pairs, handed, strict=True)}
    nodes: list[Node] = []
    for node in body.nodes:
        nodes += _reads(node, reads[node], body.inputs[0]) if node in reads else [node]
    inputs = [*body.inputs[: 1 + i], *body.inputs[2 + i :], *handed, *inside]
    params = {
        "body": Graph(inputs, nodes, [*body.outputs[:i], *body.outputs[i + 1 :]], body.name),
        "carries": loop.params["carries"] - 1,
    }
    operands = [*loop.operands[: 1 + i], *loop.operands[2 + i :], *values, *outside]
    results = [*loop.results[:i], *loop.results[i + 1 :]]
    return Node(loop.op, operands, {**loop.params, **params}, results, loop.line)


def _reads(pop: Node, array: Value, step: Value) -> list[Node]:
    """The nodes that read what was kept in a step."""
    result = pop.results[1]
    form = ARRAY_FORM if result.shape else NUMBER
    found = result if result.form == form else Value(result.type._replace(form=form))
    nodes = [Node(registry["getitem"], (array, step), {"index": (ARRAY,)}, [found], pop.line)]
    if found is not result:
        params = {"dtype": result.dtype, "form": result.form}
        nodes.append(Node(registry["convert"], (found,), params, [result], pop.line))
    return nodes
