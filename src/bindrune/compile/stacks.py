"""Operations on stacks: `push` puts a value on one, `pop` takes the uppermost off; from a spent one it takes zeros.

A loop pushes what the loop that goes back will pop, of whatever shapes, as often as it runs.  Each is the other's
transpose, so that loops which use stacks have derivatives like all others.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.handler import constant, evaluate
from ..core.operation import Structured, spec_of
from ..core.stack import EMPTY, ZEROS, Stack
from ..graph.dims import Dim, substitute
from ..graph.graph import STACK_TYPE, Type, Value
from ..graph.interpreter import length_of
from ..transforms.batch import Batch
from ..transforms.forward import Forward
from ..transforms.programs import TangentSpace, batch_results, followed, push_results, record_results
from ..transforms.reverse import Reverse
from .staging import type_of_cell
from .types import blank, has_tangents, lane_type, tangent_type

__all__ = ["EMPTY", "pop", "push", "put_all", "take_all", "to_lanes"]


class _Push(Structured):
    """``push(stack, value)``: the stack with the value on top."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        return (Stack(*values),)

    def staged(self, values: Sequence[Value], params: dict[str, Any]) -> tuple[Any, dict[str, Any], Sequence[Type]]:
        return self, params, [STACK_TYPE]

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        values, tangents = handler.open(operands)
        below, moved = tangents
        (made,) = evaluate(self, values, params)
        if moved is None:
            moved = TangentSpace(values[1]).zeros()
        (moving,) = evaluate(self, [ZEROS if below is None else below, moved], params)
        return (Array(handler, made, moving),)

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        values, marks = handler.open(operands)
        found = evaluate(self, values, params)
        active = [i for i in range(2) if marks[i] is not None]
        like = type_of_cell(values[1])

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            both = evaluate(pop, [cotangents[0]], {"type": tangent_type(like)})
            return [both[i] for i in active]

        return record_results(handler, found, followed(marks), [spec_of(values[i]) for i in active], pull)

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (below, value), flags = handler.open(operands)
        below, value = (v if f else to_lanes(v, handler.size) for v, f in zip((below, value), flags, strict=True))
        return batch_results(handler, evaluate(self, [below, value], params))


class _Pop(Structured):
    """``pop(stack; type)``: the stack below, and the value on top, of a type."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        (stack,) = values
        if stack is ZEROS or stack is EMPTY:
            return stack, blank(params["type"])
        found: tuple[Any, ...] = stack.take(params["type"])
        return found

    def staged(self, values: Sequence[Value], params: dict[str, Any]) -> tuple[Any, dict[str, Any], Sequence[Type]]:
        return self, params, [STACK_TYPE, params["type"]]

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (stack,), (moving,) = handler.open(operands)
        below, value = evaluate(self, [stack], params)
        tangents = evaluate(self, [moving], {"type": tangent_type(params["type"])})
        differentiable = has_tangents(params["type"])
        return (
            Array(handler, below, tangents[0]),
            Array(handler, value, tangents[1]) if differentiable else constant(value),
        )

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (stack,), marks = handler.open(operands)
        found = evaluate(self, [stack], params)
        like = tangent_type(params["type"])

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            below, value = cotangents
            value = TangentSpace(like).zeros() if value is None else value
            return [*evaluate(push, [ZEROS if below is None else below, value], {})]

        return record_results(handler, found, followed(marks), [spec_of(stack)], pull)

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (stack,), _ = handler.open(operands)
        return batch_results(handler, evaluate(self, [stack], {"type": lane_type(params["type"], handler.size)}))


class _Merge(Structured):
    """``merge(a, b)``: the stack of sums."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        return (values[0] + values[1],)

    def staged(self, values: Sequence[Value], params: dict[str, Any]) -> tuple[Any, dict[str, Any], Sequence[Type]]:
        return self, params, [STACK_TYPE]

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        values, tangents = handler.open(operands)
        moving = evaluate(self, [ZEROS if t is None else t for t in tangents], params)
        return push_results(handler, evaluate(self, values, params), moving)

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        values, marks = handler.open(operands)
        known = followed(marks)
        specs = [spec_of(values[0])] * len(known)
        return record_results(handler, evaluate(self, values, params), known, specs, lambda cts: [cts[0]] * len(known))

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        values, flags = handler.open(operands)
        whole = [v if f else to_lanes(v, handler.size) for v, f in zip(values, flags, strict=True)]
        return batch_results(handler, evaluate(self, whole, params))


class _Spread(Structured):
    """``spread(stack; size, axis)``: a stack of arrays that all lanes share, with an axis for lanes."""

    __slots__ = ()

    def each(self, value: Any, size: int, axis: int) -> Any:
        """What becomes of a value."""
        value = np.expand_dims(value, axis)
        return np.broadcast_to(value, (*value.shape[:axis], size, *value.shape[axis + 1 :]))

    def before(self, type: Type, size: int, axis: int) -> Type:
        """The type of a value from that of what becomes of it."""
        return type._replace(shape=(*type.shape[:axis], *type.shape[axis + 1 :]))

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        before = functools.partial(self.before, **params)
        return (values[0].map(lambda value: self.each(value, **params), before),)

    def staged(self, values: Sequence[Value], params: dict[str, Any]) -> tuple[Any, dict[str, Any], Sequence[Type]]:
        return self, params, [STACK_TYPE]

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (stack,), (moving,) = handler.open(operands)
        return push_results(handler, evaluate(self, [stack], params), evaluate(self, [moving], params))

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (stack,), marks = handler.open(operands)
        found = evaluate(self, [stack], params)
        transpose = gather if self is spread else spread
        return record_results(
            handler, found, followed(marks), [spec_of(stack)], lambda cts: list(evaluate(transpose, cts, params))
        )

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        inner = {**params, "axis": params["axis"] + 1}
        return batch_results(handler, evaluate(self, handler.open(operands)[0], inner))


class _Gather(_Spread):
    """``gather(stack; size, axis)``: a stack of sums over lanes, the transpose of `spread`."""

    __slots__ = ()

    def each(self, value: Any, size: int, axis: int) -> Any:
        return np.sum(value, axis)

    def before(self, type: Type, size: int, axis: int) -> Type:
        return type._replace(shape=(*type.shape[:axis], size, *type.shape[axis:]))


push = _Push("push")
pop = _Pop("pop")
merge = _Merge("merge")
spread = _Spread("spread")
gather = _Gather("gather")


def to_lanes(value: Any, size: int) -> Any:
    """What all lanes share, with a lane axis in front."""
    if type_of_cell(value) != STACK_TYPE:
        return np.broadcast_to(value, (size, *np.shape(value)))
    if value is EMPTY or value is ZEROS:
        return value
    return evaluate(spread, [value], {"size": size, "axis": 0})[0]


def put_all(stack: Any, values: Sequence[Any]) -> Any:
    """Push values; the first comes to lie on top."""
    for value in reversed(values):
        (stack,) = push(stack, value)
    return stack


def take_all(stack: Any, likes: Sequence[Value], known: dict[Value, Any]) -> tuple[Any, list[Any]]:
    """Pop as many values as were pushed together.

    Lengths in their types are those of values among them that come before, or of others that are known.
    """
    found = dict(known)

    def length(dim: Dim) -> Any:
        return dim.at(lambda value: length_of(found[value]))

    kept = []
    for like in likes:
        stack, value = pop(stack, type=like.type._replace(shape=substitute(like.shape, length)))
        found[like] = value
        kept.append(value)
    return stack, kept
