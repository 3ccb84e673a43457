"""Control flow as operations on graphs: `call` and `branch`, and what they share with loops (`compile.loops`).

Their operands are values, their regions graphs that see nothing else.  A handler answers by making the region of the
answer from the region of the question: the region is interpreted under a handler of the same kind while that is staged
(`derive`).  So nothing here knows a rule of calculus, and every transformation of a loop is a loop again.

* ``call(*values; graph)``; outside graphs also `backend`, which is to run it
* ``branch(condition, *values; then, otherwise)``: both graphs take the values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..core.handler import evaluate
from ..core.operation import Elementwise, Structured, Write, spec_of
from ..graph.dims import Unstageable, is_open, values_in
from ..graph.graph import STACK_TYPE, Graph, Literal, Type, Value, rename
from ..graph.interpreter import interpret
from ..transforms.batch import Batch
from ..transforms.forward import Forward
from ..transforms.programs import (
    LaneAxis,
    Lanes,
    Pushed,
    Runnable,
    TangentSpace,
    batch_results,
    followed,
    lane_axis,
    push_results,
    record_results,
)
from ..transforms.reverse import Into, Reverse, guarding
from .execution import execute
from .split import Split, go_back, lasting_among, split
from .stacks import EMPTY, put_all, to_lanes
from .staging import trace, type_of_cell
from .types import blank, has_tangents, lane_type, settle, tangent_type

__all__ = ["Region", "beside", "branch", "call", "derive", "runnable", "settled_tangent", "stand_ins", "whole_inputs"]

_T = TypeVar("_T")


def runnable(graph: Graph) -> Runnable:
    """A graph as a program."""
    return lambda values: interpret(graph, list(values))


def derive(graph: Graph, key: Any, make: Callable[[], _T]) -> _T:
    """What is made of a graph for a purpose, made once."""
    if key not in graph.derived:
        graph.derived[key] = make()
    found: _T = graph.derived[key]
    return found


class Region(Structured):
    """An operation with graphs among its parameters."""

    __slots__ = ()

    def result_types(self, values: Sequence[Value], params: dict[str, Any]) -> Sequence[Type]:
        """The types of the results."""
        raise NotImplementedError

    def staged(self, values: Sequence[Value], params: dict[str, Any]) -> tuple[Any, dict[str, Any], Sequence[Type]]:
        return self, params, self.result_types(values, params)

    def outside(self, results: Sequence[Value], inner: Sequence[Value], outer: Sequence[Value]) -> list[Type]:
        """The types of a region's results, whose lengths are in terms of its inputs, in terms of the operands."""
        found = [v.type for v in results]
        if is_open([t.shape for t in found]):
            replacement = dict(zip(inner, outer, strict=True))
            if not replacement.keys() >= set(values_in([t.shape for t in found])):
                raise Unstageable(
                    f"a length is known only inside the {self.name}",
                    "Reduce the array there, or write it into one of known length",
                )
            found = [t._replace(shape=rename(t.shape, replacement)) for t in found]
        return found


# --------------------------------------------------------------------------------------------------------- call


class _Call(Region):
    """A graph performed as one operation."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        """By a backend where one is named (or none in particular), else as part of what is being interpreted."""
        graph = params["graph"]
        return tuple(
            execute(graph, list(values), params["backend"]) if "backend" in params else interpret(graph, [*values])
        )

    def staged(self, values: Sequence[Value], params: dict[str, Any]) -> tuple[Any, dict[str, Any], Sequence[Type]]:
        return super().staged(values, {"graph": params["graph"]})

    def result_types(self, values: Sequence[Value], params: dict[str, Any]) -> Sequence[Type]:
        graph = params["graph"]
        return self.outside(graph.outputs, graph.inputs, values)

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        graph = params["graph"]
        values, tangents = handler.open(operands)
        active = tuple(i for i, t in enumerate(tangents) if t is not None)
        found = evaluate(self, [*values, *(tangents[i] for i in active)], {**params, "graph": _pushed(graph, active)})
        count = len(graph.outputs)
        return push_results(handler, found[:count], found[count:])

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        graph = params["graph"]
        values, marks = handler.open(operands)
        active = tuple(i for i, m in enumerate(marks) if m is not None)
        lasting = lasting_among(values)
        parts = _halves(graph, active, lasting)
        handler.selects |= parts.selects
        count = len(graph.outputs)
        found = evaluate(self, values, {**params, "graph": parts.forward})
        kept = found[count:]

        def pull(cotangents: Sequence[Any], totals: Sequence[Any]) -> list[Any]:
            summed, sums = _sums(graph, values, active, totals)
            parts = _halves(graph, active, lasting, summed)
            needed = [values[i] for i in parts.inputs]
            needed += evaluate(self, needed, {**params, "graph": parts.again})
            given = [*needed, *kept, *_given(graph.outputs, cotangents), *sums]
            return _in_order(active, summed, evaluate(self, given, {**params, "graph": parts.backward}))

        into = Into(pull, [True] * len(active))
        return record_results(handler, found[:count], followed(marks), [spec_of(values[i]) for i in active], into)

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        values, batched = handler.open(operands)
        mapped, differs = _mapped(params["graph"], lane_axis(handler), batched)
        return batch_results(handler, evaluate(self, values, {**params, "graph": mapped}), differs)


def _given(outputs: Sequence[Value], cotangents: Sequence[Any]) -> list[Any]:
    """The cotangents of those outputs that have one."""
    return [
        TangentSpace(v).zeros() if ct is None else ct
        for v, ct in zip(outputs, cotangents, strict=True)
        if has_tangents(v.type)
    ]


def _pushed(graph: Graph, active: tuple[int, ...]) -> Graph:
    def make() -> Graph:
        given: list[Type | Value] = [*graph.inputs, *(tangent_type(graph.inputs[i].type) for i in active)]
        return trace(Pushed(graph.name, runnable(graph), active), given, f"{graph.name}_pushed")

    return derive(graph, ("push", active), make)


def _halves(graph: Graph, active: tuple[int, ...], lasting: tuple[int, ...], summed: tuple[int, ...] = ()) -> Split:
    """A graph's derivative by the inputs that are active; for those among them that are summed it adds to totals."""
    alone = [i for i in active if i not in summed]
    make = functools.partial(split, runnable(graph), graph.inputs, alone, summed, lasting=lasting)
    return derive(graph, ("split", active, lasting, summed, guarding.get()), make)


def _sums(
    graph: Graph, values: Sequence[Any], active: Sequence[int], totals: Sequence[Any]
) -> tuple[tuple[int, ...], list[Any]]:
    """Which of the active inputs have a cotangent already, and these cotangents."""
    known = [(i, t) for i, t in zip(active, totals, strict=True) if t is not None]
    return tuple(i for i, _ in known), [settled_tangent(t, graph.inputs[i].type, values[i]) for i, t in known]


def _in_order(active: Sequence[int], summed: Sequence[int], found: Sequence[Any]) -> list[Any]:
    """The cotangents of active inputs, from those of the ones that are not summed followed by the others."""
    order = [*(i for i in active if i not in summed), *summed]
    return [found[order.index(i)] for i in active]


def settled_tangent(tangent: Any, type: Type, value: Any) -> Any:
    """A tangent of a value as a region has it, whose type is in terms of the region's inputs."""
    type = tangent_type(type)
    return settle(tangent, type._replace(shape=type_of_cell(value).shape) if is_open(type.shape) else type)


def _mapped(graph: Graph, axis: LaneAxis, batched: Sequence[bool]) -> tuple[Graph, list[bool]]:
    """A graph for all lanes, and which of its results have a lane axis."""

    def make() -> tuple[Graph, list[bool]]:
        lanes = Lanes(runnable(graph), batched, axis)
        given = [lane_type(v.type, axis.size) if b else v for v, b in zip(graph.inputs, batched, strict=True)]
        return trace(lanes, given, f"{graph.name}_mapped"), lanes.differs

    return derive(graph, ("map", axis.size, axis.name, tuple(batched)), make)


call = _Call("call")

# ------------------------------------------------------------------------------------------------------- branch


class _Branch(Region):
    """One of two graphs, by a condition."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        condition, *rest = values
        return tuple(interpret(params["then" if condition else "otherwise"], rest))

    def result_types(self, values: Sequence[Value], params: dict[str, Any]) -> Sequence[Type]:
        side = params["then"]
        return self.outside(side.outputs, side.inputs, values[1:])

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (condition, *values), (_, *tangents) = handler.open(operands)
        active = tuple(i for i, t in enumerate(tangents) if t is not None)
        pushed = {name: _pushed(side, active) for name, side in params.items()}
        found = evaluate(self, [condition, *values, *(tangents[i] for i in active)], pushed)
        count = len(params["then"].outputs)
        return push_results(handler, found[:count], found[count:])

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        """Each side that has residuals has a stack of its own for them: lanes may take both."""
        (condition, *values), (_, *marks) = handler.open(operands)
        active = tuple(i for i, m in enumerate(marks) if m is not None)
        then, outputs = params["then"], params["then"].outputs
        count = len(outputs)
        lasting = lasting_among(values)
        parts = {name: _halves(side, active, lasting) for name, side in params.items()}
        handler.selects |= any(both.selects for both in parts.values())
        stacked = [name for name, both in parts.items() if len(both.forward.outputs) > count]
        forward = {n: _keeping(parts[n], count, [n == other for other in stacked]) for n in params}
        found = evaluate(self, [condition, *values], forward)
        found, stacks = found[:count], found[count:]

        def pull(cotangents: Sequence[Any], totals: Sequence[Any]) -> list[Any]:
            summed, sums = _sums(then, values, active, totals)
            halves = {name: _halves(side, active, lasting, summed) for name, side in params.items()}
            needed = sorted({i for both in halves.values() for i in both.inputs})
            backward = {
                n: _returning(both, count, summed, needed, [n == other for other in stacked])
                for n, both in halves.items()
            }
            given = [condition, *stacks, *(values[i] for i in needed), *_given(outputs, cotangents), *sums]
            return _in_order(active, summed, evaluate(self, given, backward))

        into = Into(pull, [True] * len(active))
        return record_results(handler, found, followed(marks), [spec_of(values[i]) for i in active], into)

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (condition, *values), (differs, *batched) = handler.open(operands)
        sides = {name: _mapped(side, lane_axis(handler), batched) for name, side in params.items()}
        flags = [differs or any(both) for both in zip(*(flags for _, flags in sides.values()), strict=True)]
        graphs = {name: _in_lanes(side, flags, given, handler.size) for name, (side, given) in sides.items()}
        if not differs:
            return batch_results(handler, evaluate(self, [condition, *values], graphs), flags)
        found = [
            self.of_some(running, values, batched, side)
            for running, side in ((condition, graphs["then"]), (np.logical_not(condition), graphs["otherwise"]))
        ]
        likes = zip(*(side.outputs for side in graphs.values()), strict=True)
        chosen = zip(likes, *found, strict=True)
        return batch_results(handler, [_either(condition, like, a, b) for like, a, b in chosen])

    def of_some(self, running: Any, values: Sequence[Any], batched: Sequence[bool], side: Graph) -> Sequence[Any]:
        """A side for some of the lanes, perhaps none."""
        if all(isinstance(node.op, Elementwise) and node.op.name in TOTAL for node in side.nodes):
            found: Sequence[Any] = evaluate(call, values, {"graph": side})
            return found
        nothing = derive(side, "nothing", lambda: _nothing(side))
        given = stand_ins(running, values, batched, derive(side, "whole", lambda: whole_inputs(side)))
        return evaluate(self, [np.any(running), *given], {"then": side, "otherwise": nothing})  # type: ignore[no-any-return]


def _keeping(halves: Split, count: int, mine: Sequence[bool]) -> Graph:
    """The forward half of a side, with its residuals on that one of some stacks which is its own."""

    def program(values: Sequence[Any]) -> list[Any]:
        found = interpret(halves.forward, list(values))
        return [*found[:count], *(put_all(EMPTY, found[count:]) if own else EMPTY for own in mine)]

    forward = halves.forward
    return derive(forward, ("keeping", tuple(mine)), lambda: trace(program, forward.inputs, forward.name))


def _returning(halves: Split, count: int, summed: Sequence[int], inputs: Sequence[int], mine: Sequence[bool]) -> Graph:
    """The backward half of a side, which takes its residuals from that one of some stacks which is its own.

    Its own inputs are those at `inputs`, which either side needs.
    """
    there = [halves.forward.inputs[i] for i in inputs]

    def program(given: Sequence[Any]) -> list[Any]:
        stack = next((v for v, own in zip(given, mine, strict=False) if own), EMPTY)
        values = dict(zip(inputs, given[len(mine) :], strict=False))
        needed = {halves.forward.inputs[i]: values[i] for i in halves.inputs}
        return go_back(halves, count, stack, needed, given[len(mine) + len(inputs) :])[1]

    cts = [tangent_type(v.type) for v in halves.forward.outputs[:count] if has_tangents(v.type)]
    cts += [tangent_type(halves.forward.inputs[i].type) for i in summed]
    return derive(
        halves.backward,
        ("returning", tuple(inputs), tuple(mine)),
        lambda: trace(program, [STACK_TYPE] * len(mine) + [*there, *cts], halves.backward.name),
    )


def _in_lanes(side: Graph, flags: Sequence[bool], given: Sequence[bool], size: int) -> Graph:
    """A side with a lane axis in those of its results that are flagged, where some are given with one."""
    if list(flags) == list(given):
        return side

    def program(values: Sequence[Any]) -> list[Any]:
        found = interpret(side, list(values))
        return [to_lanes(v, size) if f and not g else v for v, f, g in zip(found, flags, given, strict=True)]

    return derive(side, ("in lanes", tuple(flags), size), lambda: trace(program, side.inputs, side.name))


def _nothing(side: Graph) -> Graph:
    """A side of which nobody looks at the results."""
    return trace(lambda values: [blank(v.type) for v in side.outputs], side.inputs, side.name)


def _either(condition: Any, like: tuple[Value, Value], then: Any, otherwise: Any) -> Any:
    """The result of either side for each lane; of a stack that only one side pushes to, that one."""
    if like[0].type == STACK_TYPE:
        return otherwise if isinstance(like[0], Literal) else then
    return np.where(beside(condition, then), then, otherwise)


branch = _Branch("branch")

# -------------------------------------------------------------------------------------------- lanes that do not run

TOTAL = frozenset(
    "add subtract multiply negative absolute sign square maximum minimum where equal not_equal less less_equal greater "
    "greater_equal logical_and logical_or logical_not logical_xor sin cos tanh arctan conjugate".split()
)
"""Elementwise operations that are defined everywhere: lanes may perform them that do not need them."""


def stand_ins(running: Any, values: Sequence[Any], batched: Sequence[bool], whole: Sequence[bool]) -> list[Any]:
    """Values for all lanes, where those that do not run have those of one that does.

    So nothing goes wrong in them that does not go wrong in the other.  Arrays that are only read by index stay.
    """
    replaced = [b and w for b, w in zip(batched, whole, strict=True)]
    if not np.shape(running)[0] or not any(replaced):
        return list(values)
    first = np.argmax(running)
    return [np.where(beside(running, v), v, v[first]) if r else v for v, r in zip(values, replaced, strict=True)]


def whole_inputs(graph: Graph) -> list[bool]:
    """Which inputs of a graph for all lanes a program reads as a whole, or are one number a lane."""
    read: set[Value] = set()
    for node in graph.nodes:
        by_index = node.op.name == "getitem" or isinstance(node.op, Write)
        read.update(node.operands[1:] if by_index else () if node.regions else node.operands)
    return [v.type != STACK_TYPE and (v in read or v.ndim == 1) for v in graph.inputs]


def beside(condition: Any, value: Any) -> Any:
    """A condition for each lane, to be broadcast against a value with a lane axis."""
    return np.reshape(condition, (-1, *(1,) * (np.ndim(value) - 1)))
