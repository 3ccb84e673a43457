"""Checkpointing: trading the memory of a gradient for a second evaluation.

A checkpointed function is one operation.  Going forward it runs one level out and records nothing; the backward pass
runs it again, recorded, and pulls back at once.  Under forward mode the function with its tangents is checkpointed in
turn, for the sake of reverse mode further out.

A policy says which results to keep from the first run instead of computing them again: a handler under the function's
arguments keeps them in the order in which they come, and hands them back in that order.  Functions with rules of their
own are one operation to it, what they do inside it does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.handler import constant, evaluate, paused_below
from ..core.operation import Binary, Op, Structured, Unary, linear, row, spec_of
from .batch import Batch
from .forward import Forward
from .performed import Arguments, Performed
from .programs import (
    Lanes,
    Program,
    Pushed,
    Runnable,
    Scope,
    bare,
    batch_results,
    lane_axis,
    push_results,
    record,
    record_results,
    rehearse,
)
from .reverse import Reverse

__all__ = [
    "checkpoint",
    "checkpoint_name",
    "remat",
    "save_everything",
    "save_matmuls",
    "save_nothing",
    "save_only_these_names",
]

Policy = Callable[[str, dict[str, Any]], bool]
"""Whether to keep the result of an operation, from its name and parameters."""


def save_nothing(operation: str, params: dict[str, Any]) -> bool:
    """The policy that computes everything again.

    >>> import bindrune as br
    >>> br.save_nothing("matmul", {})
    False
    """
    return False


def save_everything(operation: str, params: dict[str, Any]) -> bool:
    """The policy that computes nothing again.

    >>> import bindrune as br
    >>> br.save_everything("sin", {})
    True
    """
    return True


def save_matmuls(operation: str, params: dict[str, Any]) -> bool:
    """The policy that keeps the results of matrix products.

    >>> import bindrune as br
    >>> br.save_matmuls("matmul", {}), br.save_matmuls("sin", {})
    (True, False)
    """
    return operation in _PRODUCTS


_PRODUCTS = frozenset({"matmul", "dot", "einsum", "inner", "vecdot", "matvec", "vecmat"})


def save_only_these_names(*names: str) -> Policy:
    """The policy that keeps what `checkpoint_name` has given one of these names.

    >>> import bindrune as br
    >>> br.save_only_these_names("hidden")("checkpoint_name", {"name": "hidden"})
    True
    """
    return lambda operation, params: operation == "checkpoint_name" and params["name"] in names


_name = linear(
    "checkpoint_name",
    lambda x, name: x,
    lambda ct: ct,
    batch=lambda op, size, values, batched, params: evaluate(op, values, params),
    rows=lambda: [row(np.array([0.3, -1.2]), name="a")],
)


def checkpoint_name(x: Any, name: str) -> Any:
    """The array itself, under a name by which `save_only_these_names` can choose it.

    >>> import bindrune as br
    >>> br.checkpoint_name(2.0, "hidden")
    2.0
    """
    return _name(x, name=name) if isinstance(x, Array) else x


class _Keeper(Scope):
    """Keeps the results that a policy chooses, or hands back those of an earlier run; without a policy passes on."""

    __slots__ = ("handed", "kept", "policy")

    def __init__(self, policy: Policy, handed: Sequence[Any] | None = None) -> None:
        super().__init__("br.checkpoint")
        self.policy: Policy | None = policy
        self.kept: list[Any] = []
        self.handed = None if handed is None else iter(handed)

    def unary(self, op: Unary, x: Array) -> Array:
        result: Array = self.apply(op, (x,), {})
        return result

    def binary(self, op: Binary, a: Any, b: Any) -> Array:
        result: Array = self.apply(op, (a, b), {})
        return result

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        if self.policy is None or op.structured or not self.policy(op.name, params):
            return super().apply(op, operands, params)
        if self.handed is not None:
            return self.give(next(self.handed))
        result = evaluate(op, [self.take(x) for x in operands], params)
        self.kept.append(result)
        return self.give(result)


class _Repeat(Reverse):
    """Records a run over a `_Keeper`, which must not mistake what a rule does for what the function does."""

    __slots__ = ("keeper",)

    def __init__(self, keeper: _Keeper) -> None:
        super().__init__(keeper.origin)
        self.keeper = keeper

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        if not op.structured:
            return super().apply(op, operands, params)
        policy, self.keeper.policy = self.keeper.policy, None
        try:
            return super().apply(op, operands, params)
        finally:
            self.keeper.policy = policy


@dataclass(frozen=True, slots=True)
class _CheckpointCall:
    """One call of a checkpointed function."""

    program: Runnable
    policy: Policy

    def first(self, values: Sequence[Any], active: Sequence[int]) -> tuple[list[Any], list[Any]]:
        """The leaves of the result, and what the policy keeps."""
        if self.policy is save_nothing:
            return rehearse(lambda: Reverse("br.checkpoint"), self.program, values, active), []
        keeper = _Keeper(self.policy)
        found = rehearse(lambda: _Repeat(keeper), self.program, keeper.cells(values), active)
        keeper.policy = None
        found = [bare(keeper.take(v)) for v in found]
        keeper.end()
        return found, keeper.kept

    def again(self, values: Sequence[Any], kept: Sequence[Any], active: Sequence[int], cts: Sequence[Any]) -> list[Any]:
        """Run again, recorded, and pull the results' cotangents back to the values at `active`."""
        if self.policy is save_nothing:
            return record(Reverse("br.checkpoint"), self.program, values, active)[1](cts)
        keeper = _Keeper(self.policy, kept)
        _, pull = record(_Repeat(keeper), self.program, keeper.cells(values), active)
        keeper.policy = None
        found = [bare(keeper.take(ct)) for ct in pull(cts)]
        keeper.end()
        return found


class _CheckpointOperation(Structured):
    __slots__ = ()

    def run(self, *values: Any, call: _CheckpointCall) -> tuple[Any, ...]:
        return tuple(call.program(values))

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _CheckpointCall = params["call"]
        values, tangents = handler.open(operands)
        if paused_below() > handler.level:
            return tuple(map(constant, evaluate(self, values, params)))
        active = [i for i, t in enumerate(tangents) if t is not None]
        pushed = replace(call, program=Pushed(handler.origin, call.program, active))
        found = evaluate(self, [*values, *(tangents[i] for i in active)], {"call": pushed})
        count = len(found) // 2
        return push_results(handler, found[:count], found[count:])

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _CheckpointCall = params["call"]
        values, marks = handler.open(operands)
        if paused_below() > handler.level:
            return tuple(map(constant, evaluate(self, values, params)))
        active = [i for i, mark in enumerate(marks) if mark is not None]
        found, kept = call.first(values, active)
        parents: list[Any] = [marks[i] for i in active]
        return record_results(
            handler,
            found,
            parents,
            [spec_of(values[i]) for i in active],
            lambda cts: call.again(values, kept, active, cts),
        )

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _CheckpointCall = params["call"]
        values, batched = handler.open(operands)
        lanes = Lanes(call.program, batched, lane_axis(handler))
        found = evaluate(self, values, {"call": replace(call, program=lanes)})
        return batch_results(handler, found, lanes.differs)


_operation = _CheckpointOperation("checkpoint")


class Checkpoint(Performed):
    """`checkpoint`."""

    transformation = "checkpoint"
    takes_keywords = True

    def __init__(self, function: Callable[..., Any], policy: Policy, nondiff_argnums: Sequence[int]) -> None:
        super().__init__(function, nondiff_argnums)
        self.policy = policy

    def perform(self, program: Program, arguments: Arguments) -> Any:
        return _operation(*arguments.leaves, *program.cells, call=_CheckpointCall(program, self.policy))


def checkpoint(
    f: Callable[..., Any] | None = None, *, policy: Policy = save_nothing, nondiff_argnums: Sequence[int] = ()
) -> Any:
    """The same function, whose values the backward pass computes again instead of keeping them.

    Args:
        f: any function of arrays and trees of them; what it captures is differentiated too.
        policy: which results to keep after all: `save_nothing`, `save_everything`, `save_matmuls`,
            `save_only_these_names(...)`, or a function of an operation's name and parameters.
        nondiff_argnums: positions of arguments that are not differentiated.

    Returns:
        A function of the same arguments and results; without `f`, a decorator.

    Raises:
        MutationError: `f` writes to an array among its arguments; return the new value instead.

    >>> import numpy as np, bindrune as br
    >>> br.grad(br.checkpoint(lambda x: np.sum(np.sin(x) ** 2)))(np.array([0.0, 1.0]))
    array([0.        , 0.90929743])
    """
    if f is None:
        return lambda function: Checkpoint(function, policy, nondiff_argnums)
    return Checkpoint(f, policy, nondiff_argnums)


remat = checkpoint
