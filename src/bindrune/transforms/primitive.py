"""Foreign functions as operations: `primitive`; and functions with a batching rule of their own: `custom_vmap`.

A primitive is called with plain arrays only, whatever transformations are around it, so it may be a C library, a
simulator or a solver.  Its rules are given beside it; what it has no rule for is refused, never treated as constant.
Without a batching rule it is called lane by lane.  Nor may it write into what it is given: the arrays are read-only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.errors import UnsupportedError, for_users, user_line
from ..core.handler import HOST, constant, evaluate, paused_below
from ..core.operation import Structured, spec_of
from ..lift.session import Session
from .batch import Batch
from .calls import Decorated, Transformed, argument_name
from .custom import RuleName, check_cotangents, check_tangent
from .forward import Forward
from .performed import Arguments, Performed
from .programs import (
    Program,
    TangentSpace,
    bare,
    batch_results,
    push_results,
    record,
    record_results,
)
from .reverse import Reverse

__all__ = ["custom_vmap", "primitive"]


class _PrimitiveOperation(Structured):
    """A call of a foreign function; the operands are the leaves of its arguments."""

    __slots__ = ()

    def run(self, *values: Any, call: _PrimitiveCall) -> tuple[Any, ...]:
        return tuple(call.primal(values))

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _PrimitiveCall = params["call"]
        values, tangents = handler.open(operands)
        found = [bare(v) for v in evaluate(self, values, params)]
        if paused_below() > handler.level:
            return tuple(map(constant, found))
        given = [TangentSpace(v).zeros() if t is None else t for v, t in zip(values, tangents, strict=True)]
        return push_results(handler, found, call.push(values, given, found))

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _PrimitiveCall = params["call"]
        values, marks = handler.open(operands)
        found = [bare(v) for v in evaluate(self, values, params)]
        if paused_below() > handler.level:
            return tuple(map(constant, found))
        active = [i for i, mark in enumerate(marks) if mark is not None]
        parents: list[Any] = [marks[i] for i in active]
        pull = call.pullback(handler.origin, values, found, active)
        return record_results(handler, found, parents, [spec_of(values[i]) for i in active], pull)

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _PrimitiveCall = params["call"]
        values, batched = handler.open(operands)
        rule = call.primitive.rules.get("vmap")
        if rule is None:
            return batch_results(handler, handler.lane_by_lane(self, values, batched, params))
        arguments = trees.unflatten(call.arguments, _cells_over(values))
        flags = trees.unflatten(call.arguments, batched)
        found, call.structure = _by_batching_rule(rule, handler.size, flags, arguments)
        return batch_results(handler, found)


_primitive_operation = _PrimitiveOperation("primitive")


class _PrimitiveCall:
    """One call of a primitive: its rules, and the structures of its arguments and of its result."""

    __slots__ = ("arguments", "primitive", "structure")

    def __init__(self, primitive: Primitive, arguments: Any) -> None:
        self.primitive = primitive
        self.arguments = arguments
        self.structure: Any = None

    def primal(self, values: Sequence[Any]) -> list[Any]:
        """The leaves of the result, from plain arrays."""
        given = trees.unflatten(self.arguments, [_read_only(v) for v in values])
        found, self.structure = trees.flatten(self.primitive.function(*given))
        return found

    def push(self, values: Sequence[Any], tangents: Sequence[Any], found: Sequence[Any]) -> list[Any]:
        """The leaves of the result's tangent."""
        rule = self.primitive.rule("jvp", "@f.defjvp")
        primals = trees.unflatten(self.arguments, _cells_over(values))
        moved = trees.unflatten(self.arguments, _cells_over(tangents))
        value = trees.unflatten(self.structure, _cells_over(found))
        return check_tangent(RuleName("jvp rule", self.primitive), value, rule(primals, moved, value))

    def pullback(
        self, origin: object, values: Sequence[Any], found: Sequence[Any], active: Sequence[int]
    ) -> Callable[[Sequence[Any]], list[Any]]:
        """The way back to the active leaves: the reverse rule, or the forward rule transposed."""
        if "vjp" not in self.primitive.rules:
            # The rule is linear in the tangents, so it may be recorded at any, such as zero.
            zeros = [TangentSpace(v).zeros() for v in values]
            return record(Reverse(origin), lambda t: self.push(values, t, found), zeros, active)[1]
        rule = self.primitive.rule("vjp", "@f.defvjp")
        spaces = [TangentSpace(v) for v in found]

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            given = [space.zeros() if ct is None else ct for ct, space in zip(cotangents, spaces, strict=True)]
            primals = trees.unflatten(self.arguments, _cells_over(values))
            value, cotangent = (trees.unflatten(self.structure, _cells_over(v)) for v in (found, given))
            like = trees.unflatten(self.arguments, [TangentSpace(v) for v in values])
            names = [argument_name(self.primitive.function, i) for i in range(len(primals))]
            pulled = check_cotangents(
                RuleName("vjp rule", self.primitive), names, like, rule(cotangent, value, *primals)
            )
            return [pulled[i] for i in active]

        return pull


def _cells_over(values: Sequence[Any]) -> list[Any]:
    """Cells of their own over some values, so that a rule may use them as it likes."""
    return [
        v.snapshot() if isinstance(v, Array) else Array(HOST, v) if isinstance(v, (np.ndarray, np.generic)) else v
        for v in values
    ]


def _read_only(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def _by_batching_rule(rule: Callable[..., Any], size: int, flags: Any, arguments: Any) -> tuple[list[Any], Any]:
    """The results of ``rule(axis_size, in_batched, *arguments)`` with a lane axis in front, and their structure."""
    out, out_batched = rule(size, flags, *arguments)
    leaves, structure = trees.flatten(out)
    marks = trees.broadcast_prefix(out_batched, out)
    return [
        bare(v) if b else np.broadcast_to(bare(v), (size, *np.shape(v))) for v, b in zip(leaves, marks, strict=True)
    ], structure


class Primitive(Decorated):
    """`primitive`."""

    transformation = "primitive"

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self.rules: dict[str, Callable[..., Any]] = {}

    def lifted(self, session: Session) -> Transformed:
        twin = self.with_function(self.function)
        assert isinstance(twin, Primitive)
        twin.rules = {name: session.lift(rule) for name, rule in self.rules.items()}
        return twin

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Define the forward rule: ``rule(primals, tangents, value)`` returns the tangent of the value."""
        self.rules["jvp"] = rule
        return rule

    def defvjp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Define the reverse rule: ``rule(cotangent, value, *primals)`` returns a tuple of cotangents."""
        self.rules["vjp"] = rule
        return rule

    def defvmap(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Define the batching rule: ``rule(axis_size, in_batched, *arguments)`` returns ``(value, out_batched)``."""
        self.rules["vmap"] = rule
        return rule

    def rule(self, name: str, definition: str) -> Callable[..., Any]:
        """A rule by name, or an error that says how to define it."""
        if name not in self.rules:
            raise UnsupportedError(f"{user_line()}: {self} has no {name} rule; define it with {definition}")
        return self.rules[name]

    @for_users
    def __call__(self, *arguments: Any) -> Any:
        leaves, structure = trees.flatten(arguments)
        if not any(isinstance(leaf, Array) for leaf in leaves):
            return self.function(*arguments)
        call = _PrimitiveCall(self, structure)
        results = _primitive_operation(*leaves, call=call)
        return trees.unflatten(call.structure, results)


def primitive(f: Callable[..., Any]) -> Primitive:
    """A foreign function as an operation: it is only ever called with plain arrays.

    Args:
        f: a function of arrays and trees of them, in any language.

    Returns:
        The function, with `defjvp`, `defvjp` and `defvmap` to define its rules.  Reverse mode uses the reverse rule
        or transposes the forward rule; without a batching rule lanes are treated one after the other.

    Raises:
        UnsupportedError: it was differentiated without a rule.
        TangentError, CotangentError: a rule returned something that does not fit; the message names the leaf.

    >>> import math, numpy as np, bindrune as br
    >>> @br.primitive
    ... def erf(x):
    ...     return np.float64(math.erf(float(x)))
    >>> @erf.defjvp
    ... def _(primals, tangents, value):
    ...     return 2 / np.sqrt(np.pi) * np.exp(-primals[0] ** 2) * tangents[0]
    >>> round(float(br.grad(erf)(0.0)), 6)
    1.128379
    """
    return Primitive(f)


# --------------------------------------------------------------------------------------------------------- custom_vmap


@dataclass(frozen=True, slots=True)
class _VmapCall:
    """One call of a function with a batching rule of its own."""

    program: Program
    rule: Callable[..., Any]
    arguments: Arguments


class _CustomVmapOperation(Structured):
    """The operands are the leaves of the arguments, then what the function captures."""

    __slots__ = ()

    def run(self, *values: Any, call: _VmapCall) -> tuple[Any, ...]:
        return tuple(map(constant, call.program(values)))

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        return self.run(*operands, **params)

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        return self.run(*operands, **params)

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _VmapCall = params["call"]
        arguments = call.arguments
        count = len(arguments.leaves)
        values, batched = handler.open(operands)
        if any(batched[count:]):
            raise UnsupportedError(
                f"{user_line()}: {call.program.name} captures a value that differs between lanes, of which its rule "
                "knows nothing. Pass the value as an argument."
            )
        given = arguments.moving(_cells_over(values[:count]), arguments.others)
        flags = arguments.moving(batched, [False] * len(arguments.others))
        found, call.program.structure = _by_batching_rule(call.rule, handler.size, flags, given)
        return batch_results(handler, found)


_vmap_operation = _CustomVmapOperation("custom_vmap")


class CustomVmap(Performed):
    """`custom_vmap`."""

    transformation = "custom_vmap"

    def def_vmap(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Define the rule: ``rule(axis_size, in_batched, *arguments)`` returns ``(value, out_batched)``."""
        self.rules = {"vmap": rule}
        return rule

    def perform(self, program: Program, arguments: Arguments) -> Any:
        call = _VmapCall(program, self.rule("vmap", "@f.def_vmap"), arguments)
        return _vmap_operation(*arguments.leaves, *program.cells, call=call)


def custom_vmap(f: Callable[..., Any]) -> CustomVmap:
    """A function with a batching rule of its own; derivatives are those of the function.

    Args:
        f: a function of arrays and trees of them.

    Returns:
        The function, with `def_vmap` to define its rule.

    >>> import numpy as np, bindrune as br
    >>> @br.custom_vmap
    ... def total(x):
    ...     return np.sum(x)
    >>> @total.def_vmap
    ... def _(axis_size, in_batched, x):
    ...     return np.sum(x, axis=1), True
    >>> br.vmap(total)(np.ones((2, 3)))
    array([3., 3.])
    """
    return CustomVmap(f)
