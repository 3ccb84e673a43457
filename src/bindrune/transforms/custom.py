"""Functions with derivative rules of their own: `custom_jvp` and `custom_vjp`.

The rule of a call runs one level out, so it is itself differentiated by handlers further out.  One `jvp` rule serves
both modes: reverse mode records what the rule does to the tangents, on a tape of its own, and pulls back along it.

The rule speaks of the arguments.  What a function captures is differentiated as if there were no rule, never dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.errors import CotangentError, TangentError, UnsupportedError, user_line
from ..core.handler import Handler, constant, evaluate, paused_below
from ..core.operation import Structured, is_differentiable, spec_of
from .batch import Batch
from .calls import matching_leaves
from .closures import Captured
from .forward import Forward
from .performed import Arguments, Performed
from .programs import (
    AllLanes,
    LaneAxis,
    Lanes,
    Parts,
    Program,
    Runnable,
    TangentSpace,
    batch_results,
    lane_axis,
    leaf_count,
    push_results,
    record,
    record_results,
    refuse_writes,
)
from .reverse import Reverse

__all__ = ["RuleName", "check_cotangents", "check_tangent", "custom_jvp", "custom_vjp"]


class RuleName(NamedTuple):
    """What messages call a rule; put together only for one."""

    rule: str
    owner: object

    def __str__(self) -> str:
        return f"the {self.rule} of {self.owner}"


def check_tangent(where: object, value: Any, tangent: Any) -> list[Any]:
    """The leaves of the tangent of a value that a rule returned, which must fit the value."""
    like = trees.map_leaves(lambda v: v if is_differentiable(v) else TangentSpace(v).zeros(), value)
    return matching_leaves(like, tangent, TangentError, where, "tangent", "value")


def check_cotangents(where: object, names: Sequence[str], spaces: Sequence[Any], cotangents: Any) -> list[Any]:
    """The leaves of the cotangents that a rule returned, which must fit the arguments; zeros where there is None."""
    if not isinstance(cotangents, tuple) or len(cotangents) != len(spaces):
        raise CotangentError(
            f"{where} must return a tuple with one cotangent for each argument ({', '.join(names)}), not {cotangents!r}"
        )
    leaves: list[Any] = []
    for name, space, ct in zip(names, spaces, cotangents, strict=True):
        zeros = space.zeros() if isinstance(space, TangentSpace) else trees.map_leaves(TangentSpace.zeros, space)
        found = zeros if ct is None else ct
        leaves += matching_leaves(zeros, found, CotangentError, where, f"cotangent of {name}", "argument")
    return leaves


class _Rule(Program):
    """A rule as a program; its body gives the leaves of its results in a list."""

    __slots__ = ()

    def take_apart(self, result: Any) -> list[Any]:
        leaves: list[Any] = result
        return leaves


class _Ruled(Structured):
    """A call of a function with a rule: ``call`` is the rule's, ``call.primal`` the function itself.

    The operands are the leaves of the arguments, then what the function captures, then what its rules capture.
    """

    __slots__ = ()

    def run(self, *values: Any, call: Any, **_: Any) -> tuple[Any, ...]:
        return tuple(call.primal(values[: call.reach]))

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        values, batched = handler.open(operands)
        call = params["call"].batched(batched, lane_axis(handler))
        return batch_results(handler, evaluate(self, values, {**params, "call": call}))

    def without_rule(
        self, handler: Handler, operands: Sequence[Any], values: Sequence[Any], marks: Sequence[Any], call: Any
    ) -> list[Any] | None:
        """The results as functions of what the function captures; None where nothing of that is followed."""
        if paused_below() > handler.level or not _any(marks[call.count : call.reach]):
            return None
        found: list[Any] = call.primal([*values[: call.count], *operands[call.count : call.reach]])
        return found

    def is_about(self, handler: Handler, marks: Sequence[Any], call: Any) -> bool:
        """Whether the rule has something to say: an argument is followed."""
        return paused_below() <= handler.level and _any(marks[: call.count])


def _any(marks: Sequence[Any]) -> bool:
    return any(m is not None for m in marks)


# ---------------------------------------------------------------------------------------------------------- custom_jvp


@dataclass(frozen=True, slots=True)
class _JvpCall:
    """One call of a function with a forward rule."""

    primal: Runnable
    rule: Runnable
    count: int
    """How many leaves the arguments have."""
    reach: int
    """How many values `primal` takes."""

    def push(self, values: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        """The leaves of the result, followed by those of its tangent."""
        return self.rule([*values[: self.count], *tangents, *values[self.reach :]])

    def batched(self, flags: Sequence[bool], axis: LaneAxis) -> _JvpCall:
        """The call for all lanes at once.  A tangent has the primal's shape, and so its lane axis."""
        of_rule = [*flags[: self.count], *flags[: self.count], *flags[self.reach :]]
        return replace(
            self, primal=AllLanes(self.primal, flags[: self.reach], axis), rule=AllLanes(self.rule, of_rule, axis)
        )


class _CustomJvpOperation(_Ruled):
    __slots__ = ()

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _JvpCall = params["call"]
        values, tangents = handler.open(operands)
        own = self.without_rule(handler, operands, values, tangents, call)
        if not self.is_about(handler, tangents, call):
            return tuple(map(constant, evaluate(self, values, params) if own is None else own))
        given = [TangentSpace(values[i]).zeros() if tangents[i] is None else tangents[i] for i in range(call.count)]
        found = call.push(values, given)
        count = len(found) // 2
        moved = found[count:]
        for i, other in enumerate(own or ()):
            if isinstance(other, Array) and other._handler is handler:
                moved[i] = moved[i] + other._mark
        return push_results(handler, found[:count], moved)

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _JvpCall = params["call"]
        values, marks = handler.open(operands)
        own = self.without_rule(handler, operands, values, marks, call)
        if not self.is_about(handler, marks, call):
            return tuple(map(constant, evaluate(self, values, params) if own is None else own))
        active = [i for i in range(call.count) if marks[i] is not None]
        # The rule is linear in the tangents, so it may be recorded at any, such as zero.
        zeros = [TangentSpace(v).zeros() for v in values[: call.count]]
        found, pull = record(Reverse(handler.origin), lambda tangents: call.push(values, tangents), zeros, active)
        count = len(found) // 2
        parents: list[Any] = [marks[i] for i in active]
        return record_results(
            handler,
            found[:count],
            parents,
            [spec_of(values[i]) for i in active],
            lambda cotangents: pull([*[None] * count, *cotangents]),
            own,
        )


_jvp_operation = _CustomJvpOperation("custom_jvp")


class CustomJvp(Performed):
    """`custom_jvp`."""

    transformation = "custom_jvp"

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Define the rule: ``rule(*nondiff, primals, tangents)`` returns ``(value, tangent)``."""
        self.rules = {"jvp": rule}
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Define a rule for each argument: ``rule(tangent, value, *primals)``, None for no derivative."""
        if self.nondiff_argnums:
            raise TypeError(f"{self}: nondiff_argnums need one rule for all arguments; define it with @f.defjvp")
        self.rules = {"jvps": rules}

    def perform(self, program: Program, arguments: Arguments) -> Any:
        count = len(arguments.leaves)
        name = RuleName("jvp rule", self)
        whole = "jvps" not in self.rules
        rule = self.rule("jvp", "@f.defjvp") if whole else self.rules["jvps"]

        def body(contents: Any, cells: list[Any]) -> Any:
            function, rule, fixed, others = contents
            primals = arguments.moving(cells[:count], others)
            tangents = arguments.tangents(cells[count:])
            if whole:
                found = rule(*(fixed[i] for i in sorted(fixed)), primals, tangents)
                if not isinstance(found, tuple) or len(found) != 2:
                    raise TangentError(f"{name} must return (value, tangent), not {found!r}")
                value, tangent = found
            else:
                value = function(*primals)
                tangent = self._add_terms(rule, value, primals, tangents)
            leaves, program.structure = trees.flatten(value)
            return leaves + check_tangent(name, value, tangent)

        function = None if whole else self
        of_rule = _Rule(name, Captured((function, rule, arguments.fixed, arguments.others)), body)
        call = _JvpCall(program, of_rule, count, count + len(program.cells))
        return _jvp_operation(*arguments.leaves, *program.cells, *of_rule.cells, call=call)

    def _add_terms(self, rules: Sequence[Any], value: Any, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        """The tangent of a value by a rule for each argument."""
        if len(rules) != len(primals):
            raise TypeError(f"{self}: defjvps was given {len(rules)} rules, the call {len(primals)} arguments")
        total = trees.map_leaves(lambda v: TangentSpace(v).zeros(), value)
        for rule, tangent in zip(rules, tangents, strict=True):
            if rule is not None:
                term = check_tangent(RuleName("jvp rule", self), value, rule(tangent, value, *primals))
                leaves, structure = trees.flatten(total)
                total = trees.unflatten(structure, [a + b for a, b in zip(leaves, term, strict=True)])
        return total


def custom_jvp(f: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> CustomJvp:
    """A function whose derivative is given by a forward rule; reverse mode transposes it.

    Args:
        f: the function, of arrays and trees of them.
        nondiff_argnums: positions of arguments that are passed to the rule as they are, first.

    Returns:
        The function, with `defjvp` and `defjvps` to define its rule.

    Raises:
        UnsupportedError: it was differentiated without a rule.
        TangentError: the rule returned a tangent that does not fit the value; the message names the leaf.
        MutationError: the function writes to an array that it was given or captures.

    >>> import numpy as np, bindrune as br
    >>> @br.custom_jvp
    ... def softplus(x):
    ...     return np.log1p(np.exp(x))
    >>> @softplus.defjvp
    ... def _(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return softplus(x), t / (1 + np.exp(-x))
    >>> br.grad(softplus)(0.0)
    np.float64(0.5)
    """
    return CustomJvp(f, nondiff_argnums)


# ---------------------------------------------------------------------------------------------------------- custom_vjp


@dataclass(frozen=True, slots=True)
class _VjpCall:
    """One call of a function with a forward pass and a backward pass of its own.

    What both capture stands behind what `primal` takes, in this order.
    """

    primal: Runnable
    forward: Runnable
    """Gives the leaves of the result, then those of the residual."""
    backward: Runnable
    """From the residual and the results' cotangents to the arguments'."""
    results: Callable[[], int]
    """How many leaves the result has; known when `forward` has run."""
    count: int
    reach: int
    forward_reach: int
    """Where the values that `forward` takes end."""

    def run_forward(self, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The leaves of the result, and those of the residual."""
        found = self.forward([*values[: self.count], *values[self.reach : self.forward_reach]])
        return found[: self.results()], found[self.results() :]

    def batched(self, flags: Sequence[bool], axis: LaneAxis) -> _VjpCall:
        """The call for all lanes at once."""
        of_forward = [*flags[: self.count], *flags[self.reach : self.forward_reach]]
        forward = _ForwardLanes(self.forward, of_forward, axis, self.results)
        return replace(
            self,
            primal=AllLanes(self.primal, flags[: self.reach], axis),
            forward=forward,
            backward=_BackwardLanes(self.backward, forward, flags[: self.count], flags[self.forward_reach :]),
        )


class _ForwardLanes(Lanes):
    """A forward pass for all lanes.  What they share of the residual stays shared, numbers and strings too."""

    __slots__ = ("results",)

    def __init__(self, program: Runnable, flags: Sequence[bool], axis: LaneAxis, results: Callable[[], int]) -> None:
        super().__init__(program, flags, axis)
        self.results = results

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        found = super().__call__(values)
        count = self.results()
        return self.broadcast(found[:count]) + found[count:]


class _BackwardLanes:
    """A backward pass for all lanes.  An argument that all lanes share gets the sum of what they give."""

    __slots__ = ("arguments", "captured", "forward", "program")

    def __init__(
        self, program: Runnable, forward: _ForwardLanes, arguments: Sequence[bool], captured: Sequence[bool]
    ) -> None:
        self.program = program
        self.forward = forward
        self.arguments = arguments
        self.captured = captured

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        differs = self.forward.differs[self.forward.results() :]
        flags = [*differs, *[True] * (len(values) - len(differs) - len(self.captured)), *self.captured]
        found = AllLanes(self.program, flags, self.forward.axis)(values)
        return [ct if mapped else np.sum(ct, axis=0) for ct, mapped in zip(found, self.arguments, strict=True)]


class _CustomVjpOperation(_Ruled):
    __slots__ = ()

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _VjpCall = params["call"]
        values, tangents = handler.open(operands)
        if self.is_about(handler, tangents, call):
            raise UnsupportedError(
                f"{user_line()}: {params['name']} cannot be differentiated by forward mode, which its rule does not "
                "serve. Define the function with br.custom_jvp, whose one rule serves both modes."
            )
        own = self.without_rule(handler, operands, values, tangents, call)
        return tuple(map(constant, evaluate(self, values, params) if own is None else own))

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        call: _VjpCall = params["call"]
        values, marks = handler.open(operands)
        own = self.without_rule(handler, operands, values, marks, call)
        if not self.is_about(handler, marks, call):
            return tuple(map(constant, evaluate(self, values, params) if own is None else own))
        found, residual = call.run_forward(values)
        spaces = [TangentSpace(v) for v in found]
        captured = values[call.forward_reach :]
        active = [i for i in range(call.count) if marks[i] is not None]

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            given = [space.zeros() if ct is None else ct for ct, space in zip(cotangents, spaces, strict=True)]
            pulled = call.backward([*residual, *given, *captured])
            return [pulled[i] for i in active]

        parents: list[Any] = [marks[i] for i in active]
        return record_results(handler, found, parents, [spec_of(values[i]) for i in active], pull, own)


_vjp_operation = _CustomVjpOperation("custom_vjp")


class CustomVjp(Performed):
    """`custom_vjp`."""

    transformation = "custom_vjp"

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Define the rules.

        ``forward(*arguments)`` returns ``(value, residual)``; ``backward(*nondiff, residual, cotangent)`` returns a
        tuple with one cotangent for each argument (None for zero).
        """
        self.rules = {"forward": forward, "backward": backward}

    def perform(self, program: Program, arguments: Arguments) -> Any:
        forward = self.rule("forward", "f.defvjp(forward, backward)")
        backward = self.rules["backward"]
        count = len(arguments.leaves)
        name = RuleName("backward pass", self)
        residual = Parts(None)
        held = Captured(())
        spaces: list[TangentSpace] = []

        def forward_body(contents: Any, cells: list[Any]) -> Any:
            nonlocal residual, held, spaces
            function, fixed, others = contents
            given, _ = arguments.whole(cells, fixed, others)
            found = function(*given)
            refuse_writes(self, cells)
            if not isinstance(found, tuple) or len(found) != 2:
                raise CotangentError(f"the forward pass of {self} must return (value, residual), not {found!r}")
            spaces = [TangentSpace(c) for c in cells]
            leaves, program.structure = trees.flatten(found[0])
            residual = Parts(found[1])
            held = Captured(residual.others)
            return [*leaves, *residual.leaves, *held.cells]

        def backward_body(contents: Any, cells: list[Any]) -> Any:
            function, fixed = contents
            first = len(residual.leaves)
            last = first + len(held.cells)
            kept = residual.together(cells[:first], held.over(cells[first:last]).contents)
            cotangent = trees.unflatten(program.structure, cells[last:])
            found = function(*(fixed[i] for i in sorted(fixed)), kept, cotangent)
            return check_cotangents(name, arguments.names, arguments.tangents(spaces), found)

        of_forward = _Rule(self, Captured((forward, arguments.fixed, arguments.others)), forward_body)
        of_backward = _Rule(name, Captured((backward, arguments.fixed)), backward_body)
        reach = count + len(program.cells)
        call = _VjpCall(
            program,
            of_forward,
            of_backward,
            lambda: leaf_count(program.structure),
            count,
            reach,
            reach + len(of_forward.cells),
        )
        captured = (*program.cells, *of_forward.cells, *of_backward.cells)
        return _vjp_operation(*arguments.leaves, *captured, call=call, name=self)


def custom_vjp(f: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> CustomVjp:
    """A function whose reverse-mode derivative is given by a forward pass and a backward pass.

    Args:
        f: the function, of arrays and trees of them.
        nondiff_argnums: positions of arguments that are passed to the backward pass as they are, first.

    Returns:
        The function, with `defvjp` to define its rules.

    Raises:
        UnsupportedError: it was differentiated without rules, or by forward mode (use `custom_jvp` for that).
        CotangentError: the backward pass returned something that does not fit the arguments.
        MutationError: the function writes to an array that it was given or captures.

    >>> import numpy as np, bindrune as br
    >>> @br.custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, ct: (np.clip(ct, -1, 1),))
    >>> br.grad(lambda x: 5 * clipped(x))(2.0)
    np.float64(1.0)
    """
    return CustomVjp(f, nondiff_argnums)
