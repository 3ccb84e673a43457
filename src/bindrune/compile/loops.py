"""Loops as operations on graphs.

* ``loop(count, *carries, *captured; body, carries, descending)``: the body takes the step's number, the carries and
  what is captured, and gives the carries of the next step; the numbers go up from 0, or down to it.
* ``while_(going, *carries, *captured; body, carries)``: the body takes the carries and what is captured, and gives
  whether to go on, and the carries.

Transformed, a loop is a loop (see `compile.control`).  Going back it is a pair of them: one keeps on a stack what the
other, with its steps in reverse, takes off again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.handler import evaluate
from ..core.operation import spec_of
from ..graph.graph import STACK_TYPE, Graph, Type, Value
from ..graph.interpreter import interpret
from ..transforms.batch import Batch
from ..transforms.forward import Forward
from ..transforms.programs import (
    LaneAxis,
    Lanes,
    Pushed,
    TangentSpace,
    batch_results,
    lane_axis,
    push_results,
    record_results,
)
from ..transforms.reverse import Into, Reverse, guarding
from .control import Region, beside, derive, runnable, settled_tangent, stand_ins, whole_inputs
from .dependence import reached_operands
from .split import go_back, lasting_among, split
from .stacks import EMPTY, put_all, to_lanes
from .staging import trace, type_of_cell
from .types import INTEGER, has_tangents, lane_type, settle, tangent_type

__all__ = ["loop", "while_"]

_BOOL = np.dtype(bool)


class _Looping(Region):
    """What the two kinds of loop share: carries, and regions made of regions."""

    __slots__ = ()
    leading = 1
    """How many inputs of the body come before the carries."""

    def result_types(self, values: Sequence[Value], params: dict[str, Any]) -> Sequence[Type]:
        body, count, lead = params["body"], params["carries"], self.leading
        results = body.outputs[len(body.outputs) - count :]
        return self.outside(results, body.inputs[lead + count :], values[1 + count :])

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        body, count = params["body"], params["carries"]
        (first, *values), (_, *tangents) = handler.open(operands)
        lead = self.leading
        active = reached_operands(body, lead, count, [t is not None for t in tangents], has_tangents)
        carried = [i for i in range(count) if active[i]]
        captured = [i for i in range(count, len(values)) if active[i]]

        def make() -> Graph:
            types = [v.type for v in body.inputs]
            inner = Pushed(body.name, runnable(body), [lead + i for i in (*carried, *captured)])
            skip = len(body.outputs) - count

            def program(given: Sequence[Any]) -> list[Any]:
                head, rest = given[:lead], list(given[lead:])
                primals, rest = rest[:count], rest[count:]
                moving, rest = rest[: len(carried)], rest[len(carried) :]
                still, moved = rest[: len(values) - count], rest[len(values) - count :]
                found = inner([*head, *primals, *still, *moving, *moved])
                results, pushed = found[: skip + count], found[skip + count :]
                likes = map(type_of_cell, moving)
                return [*results, *(settle(pushed[skip + i], t) for i, t in zip(carried, likes, strict=True))]

            tangents_of = [tangent_type(types[lead + i]) for i in range(len(values))]
            given = [
                *body.inputs[: lead + count],
                *(tangents_of[i] for i in carried),
                *body.inputs[lead + count :],
                *(tangents_of[i] for i in captured),
            ]
            return trace(program, given, f"{body.name}_pushed")

        pushed = derive(body, ("push", count, tuple(active)), make)
        types = [v.type for v in body.inputs[lead:]]
        moving = [
            TangentSpace(values[i]).zeros()
            if tangents[i] is None
            else settled_tangent(tangents[i], types[i], values[i])
            for i in carried
        ]
        found = evaluate(
            self,
            [first, *values[:count], *moving, *values[count:], *(tangents[i] for i in captured)],
            {**params, "body": pushed, "carries": count + len(carried)},
        )
        moved: list[Any] = [None] * count
        for i, t in zip(carried, found[count:], strict=True):
            moved[i] = t
        return push_results(handler, found[:count], moved)

    def for_lanes(self, body: Graph, count: int, axis: LaneAxis, batched: Sequence[bool]) -> tuple[Graph, list[bool]]:
        """The body for all lanes, and which carries and captured values have a lane axis in it."""
        lead = self.leading
        flags = reached_operands(body, lead, count, batched, lambda type: True)

        def make() -> Graph:
            def program(given: Sequence[Any]) -> list[Any]:
                lanes = Lanes(runnable(body), [*(False,) * lead, *flags], axis)
                found = lanes(given)
                skip = len(found) - count
                carried = zip(found[skip:], flags, lanes.differs[skip:], strict=False)
                return [*found[:skip], *(to_lanes(v, axis.size) if f and not d else v for v, f, d in carried)]

            lanes_of = zip(body.inputs[lead:], flags, strict=True)
            given = [*body.inputs[:lead], *(lane_type(v.type, axis.size) if f else v for v, f in lanes_of)]
            return trace(program, given, f"{body.name}_mapped")

        return derive(body, ("loop map", count, axis.size, axis.name, tuple(flags)), make), flags

    def for_some_lanes(self, body: Graph, count: int, axis: LaneAxis, flags: Sequence[bool]) -> Graph:
        """The body for those lanes that still run; the others keep their carries, all of which have a lane axis.

        Before its other inputs it takes which lanes run, and before the carries it gives whether they go on.
        """
        lead = self.leading
        mapped, _ = self.for_lanes(body, count, axis, flags)
        whole = whole_inputs(mapped)[lead:]

        def program(given: Sequence[Any]) -> list[Any]:
            running, head, values = given[0], given[1 : 1 + lead], given[1 + lead :]
            found = interpret(mapped, [*head, *stand_ins(running, values, flags, whole)])
            skip = len(found) - count
            new = [kept(beside(running, b), a, b) for a, b in zip(found[skip:], values[:count], strict=True)]
            return [*(np.logical_and(running, again) for again in found[:skip]), *new]

        key = ("some lanes", count, axis.size, axis.name, tuple(flags))
        return derive(body, key, lambda: trace(program, [Type((axis.size,), _BOOL), *mapped.inputs], body.name))


class _Loop(_Looping):
    """A counted loop."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        body, count = params["body"], params["carries"]
        carry, captured = list(values[1 : 1 + count]), values[1 + count :]
        steps = range(int(values[0]))
        for i in reversed(steps) if params["descending"] else steps:
            given = [i, *carry, *captured]
            carry.clear()
            carry = interpret(body, given)
        return tuple(carry)

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        return self.reverse(handler, operands, params, self)

    def reverse(
        self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any], forward_op: _Looping
    ) -> tuple[Any, ...]:
        """Reverse mode, for a loop that goes forward as a counted one or as one with a condition.

        The first carry of one with a condition is the number of steps made.
        """
        body, count = params["body"], params["carries"]
        (first, *values), (_, *marks) = handler.open(operands)
        lead = forward_op.leading
        active = reached_operands(body, lead, count, [m is not None for m in marks], has_tangents)
        carried = tuple(i for i in range(count) if active[i])
        captured = tuple(i for i in range(count, len(values)) if active[i])
        types = [v.type for v in body.inputs[lead:]]
        lasting = tuple(lead + count + i for i in lasting_among(values[count:]))

        def loops() -> _Reversed:
            key = ("reverse", count, carried, captured, lasting, guarding.get())
            return derive(body, key, lambda: _reversed_loop(body, lead, count, carried, captured, lasting))

        made = loops()
        handler.selects |= made.selects
        more = {"descending": params["descending"]} if forward_op is self else {}
        stack, *found = evaluate(
            forward_op, [first, EMPTY, *values], {"body": made.forward, "carries": count + 1, **more}
        )

        def pull(cotangents: Sequence[Any], totals: Sequence[Any]) -> list[Any]:
            cts = [
                TangentSpace(found[i]).zeros() if ct is None else settled_tangent(ct, types[i], found[i])
                for i, ct in ((i, cotangents[i]) for i in carried)
            ]
            sums = [
                TangentSpace(values[i]).zeros() if total is None else settled_tangent(total, types[i], values[i])
                for i, total in zip(captured, totals[len(totals) - len(captured) :], strict=True)
            ]
            steps = first if forward_op is self else found[0]
            arrays = [found[i] for i in made.rewound]
            _, *pulled = evaluate(
                loop,
                [steps, stack, *cts, *sums, *arrays, *(values[i] for i in made.inputs)],
                {
                    "body": loops().backward,
                    "carries": 1 + len(cts) + len(sums) + len(arrays),
                    "descending": not params.get("descending", False),
                },
            )
            return [v for v, i in zip(pulled, (*carried, *captured), strict=False) if marks[i] is not None]

        followed = [(mark, i) for i in (*carried, *captured) if (mark := marks[i]) is not None]
        into = Into(pull, [i in captured for _, i in followed])
        return record_results(
            handler, found, [mark for mark, _ in followed], [spec_of(values[i]) for _, i in followed], into
        )

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        body, count, axis = params["body"], params["carries"], lane_axis(handler)
        (steps, *values), (differs, *batched) = handler.open(operands)
        if not differs:
            mapped, flags = self.for_lanes(body, count, axis, batched)
            found = evaluate(self, [steps, *_in_lanes(values, batched, flags, axis)], {**params, "body": mapped})
            return batch_results(handler, found, flags[:count])
        flags = [*(True,) * count, *batched[count:]]
        key = ("bounded", count, axis.size, axis.name, tuple(flags))
        bounded = derive(body, key, lambda: self.bounded(body, count, axis, flags))
        longest = np.max(steps) if axis.size else 0
        given = [longest, *_in_lanes(values, batched, flags, axis), steps]
        return batch_results(handler, evaluate(self, given, {**params, "body": bounded}))

    def bounded(self, body: Graph, count: int, axis: LaneAxis, flags: Sequence[bool]) -> Graph:
        """The body for lanes that run for different numbers of steps, which are captured last."""
        some = self.for_some_lanes(body, count, axis, flags)

        def program(given: Sequence[Any]) -> list[Any]:
            step, *values, steps = given
            return interpret(some, [step < steps, step, *values])

        return trace(program, [*some.inputs[1:], Type((axis.size,), INTEGER.dtype)], body.name)


class _Reversed(NamedTuple):
    """A loop that keeps residuals on a stack, and the one that takes them off again."""

    forward: Graph
    backward: Graph
    inputs: tuple[int, ...]
    """Which of the carries and captured values the way back needs; these are captured."""
    rewound: tuple[int, ...]
    """Which carries it rewinds, from what they are at the end."""
    selects: bool


def _reversed_loop(
    body: Graph, lead: int, count: int, carried: Sequence[int], captured: Sequence[int], lasting: Sequence[int]
) -> _Reversed:
    """The bodies of both.

    The cotangents of what is captured are totals that the way back carries along, so that a read of one element adds
    in place.
    """
    types = [v.type for v in body.inputs]
    skip = len(body.outputs) - count
    parts = split(
        runnable(body),
        body.inputs,
        [lead + i for i in carried],
        [lead + i for i in captured],
        outputs=[skip + i for i in carried],
        carried={lead + i: skip + i for i in range(count)},
        lasting=lasting,
    )
    inputs = tuple(i - lead for i in parts.inputs if i >= lead)
    rewound = tuple(i - lead for i in parts.rewound)

    def forward(given: Sequence[Any]) -> list[Any]:
        head, stack, rest = given[:lead], given[lead], given[lead + 1 :]
        found = interpret(parts.forward, [*head, *rest])
        kept = put_all(stack, found[skip + count :])
        return [*found[:skip], kept, *found[skip : skip + count]]

    def backward(given: Sequence[Any]) -> list[Any]:
        step, stack, rest = given[0], given[1], given[2:]
        moving = len(carried) + len(captured) + len(rewound)
        cts, still = rest[:moving], iter(rest[moving:])
        needed = {parts.forward.inputs[i]: step if i < lead else next(still) for i in parts.inputs}
        stack, found = go_back(parts, skip + count, stack, needed, cts)
        return [stack, *(settle(v, type_of_cell(ct)) for v, ct in zip(found, cts, strict=True))]

    tangents = [tangent_type(types[lead + i]) for i in (*carried, *captured)]
    arrays = [body.inputs[lead + i] for i in rewound]
    return _Reversed(
        trace(forward, [*body.inputs[:lead], STACK_TYPE, *body.inputs[lead:]], "forward"),
        trace(
            backward, [INTEGER, STACK_TYPE, *tangents, *arrays, *(body.inputs[lead + i] for i in inputs)], "backward"
        ),
        inputs,
        rewound,
        parts.selects,
    )


def kept(condition: Any, new: Any, old: Any) -> Any:
    """The new value where a condition holds, else the old one."""
    type = type_of_cell(old)
    return new if type == STACK_TYPE else settle(np.where(condition, new, old), type)


class _While(_Looping):
    """A loop that goes on as long as its body says so."""

    __slots__ = ()
    leading = 0

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        body, count = params["body"], params["carries"]
        going, carry, captured = values[0], list(values[1 : 1 + count]), values[1 + count :]
        while going:
            given = [*carry, *captured]
            carry.clear()
            going, *carry = interpret(body, given)
        return tuple(carry)

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        """The steps are counted on the way, and gone back one by one."""
        body, count = params["body"], params["carries"]

        def counting(given: Sequence[Any]) -> list[Any]:
            going, *carries = interpret(body, list(given[1:]))
            return [going, given[0] + 1, *carries]

        counted = derive(body, ("count", count), lambda: trace(counting, [INTEGER, *body.inputs], body.name))
        given = [operands[0], 0, *operands[1:]]
        return loop.reverse(handler, given, {"body": counted, "carries": count + 1}, self)[1:]

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        body, count, axis = params["body"], params["carries"], lane_axis(handler)
        (going, *values), (differs, *batched) = handler.open(operands)
        if not differs:
            mapped, flags = self.for_lanes(body, count, axis, batched)
            if not mapped.outputs[0].shape:
                found = evaluate(self, [going, *_in_lanes(values, batched, flags, axis)], {**params, "body": mapped})
                return batch_results(handler, found, flags[:count])
            going = to_lanes(going, axis.size)
        flags = [*(True,) * count, *batched[count:]]
        key = ("until all", count, axis.size, axis.name, tuple(flags))
        stepping = derive(body, key, lambda: self.until_all(body, count, axis, flags))
        given = [np.any(going), going, *_in_lanes(values, batched, flags, axis)]
        return batch_results(handler, evaluate(self, given, {"body": stepping, "carries": count + 1})[1:])

    def until_all(self, body: Graph, count: int, axis: LaneAxis, flags: Sequence[bool]) -> Graph:
        """The body of a loop that goes on until all lanes have stopped; which have not is its first carry."""
        some = self.for_some_lanes(body, count, axis, flags)

        def program(given: Sequence[Any]) -> list[Any]:
            going, *new = interpret(some, list(given))
            return [np.any(going), going, *new]

        return trace(program, some.inputs, body.name)


def _in_lanes(values: Sequence[Any], batched: Sequence[bool], flags: Sequence[bool], axis: LaneAxis) -> list[Any]:
    """Values with a lane axis where the body has one."""
    return [to_lanes(v, axis.size) if f and not b else v for v, b, f in zip(values, batched, flags, strict=True)]


loop = _Loop("loop")
while_ = _While("while_")
