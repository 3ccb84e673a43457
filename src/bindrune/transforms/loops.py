"""`checkpoint_loop`: the gradient of a long loop with few of its states kept.

The loop is one operation.  Going forward it keeps a few states; the backward pass goes from the last step to the first,
each time running from the nearest state kept to the step it needs, and keeping states on the way as room gets free.
Which states to keep follows the binomial schedule, which needs the fewest evaluations for a given number of states
(Griewank and Walther, Algorithm 799, ACM TOMS 2000).  With log2(n) of them each step runs at most about log2(n) times.

Where a program is being staged the schedule must be one of loops: loops within loops, each a checkpoint of the next.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, comb
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.errors import for_users
from ..core.handler import constant, evaluate, paused_below
from ..core.operation import Structured, is_differentiable, spec_of
from ..lift.stager import current
from .batch import Batch
from .checkpoint import checkpoint
from .closures import Captured
from .control import fori_loop
from .forward import Forward
from .programs import (
    LaneAxis,
    Lanes,
    Program,
    Pushed,
    Runnable,
    TangentSpace,
    batch_results,
    lane_axis,
    push_results,
    record,
    record_results,
    rehearse,
)
from .reverse import Reverse

__all__ = ["checkpoint_loop", "steps_to_next_state"]


def steps_to_next_state(steps: int, states: int) -> int:
    """How far to go before keeping a state, when so many steps are to be reversed and so many states may be kept.

    The one at hand counts.  ``comb(states + r, states)`` steps can be reversed with no step run more than r times.
    """
    if states == 1:
        return steps - 1
    repeats = 1
    while comb(states + repeats, states) < steps:
        repeats += 1
    least = comb(states + repeats - 2, states) if repeats > 1 else 1
    return max(least, steps - comb(states - 1 + repeats, states - 1), 1)


_recorder = functools.partial(Reverse, "br.checkpoint_loop")

State = list[Any]
Kept = list[tuple[int, State]]
"""Steps, and the states before them, in order."""


@dataclass(frozen=True, slots=True)
class _Loop:
    """One call: the step takes its number, the leaves of the state and what is captured."""

    step: Runnable
    steps: int
    count: int
    """How many leaves a state has."""
    states: int
    """How many states to keep."""

    def rehearse(self, number: int, state: State, captured: Sequence[Any]) -> State:
        """Take one step."""
        return rehearse(_recorder, self.step, [number, *state, *captured])

    def advance(self, kept: Kept, stop: int, captured: Sequence[Any]) -> State:
        """The state before the last step before `stop`, from the last one kept; keeps more on the way."""
        at, state = kept[-1]
        while at < stop - 1:
            free = self.states - len(kept)
            goal = at + steps_to_next_state(stop - at, free + 1)
            for i in range(at, goal):
                state = self.rehearse(i, state, captured)
            at = goal
            if free and at < stop - 1:
                kept.append((at, state))
        return state

    def run(self, values: Sequence[Any]) -> tuple[State, Kept]:
        """The last state, and those kept, the one before the last step among them."""
        state, captured = list(values[: self.count]), values[self.count :]
        if not self.steps:
            return state, []
        kept = [(0, state)]
        state = self.advance(kept, self.steps, captured)
        if kept[-1][0] < self.steps - 1:
            kept.append((self.steps - 1, state))
        return self.rehearse(self.steps - 1, state, captured), kept

    def reverse(self, kept: Kept, captured: Sequence[Any], active: Sequence[int], cts: Sequence[Any]) -> list[Any]:
        """The cotangents of the first state's leaves, then of those captured values that are active."""
        state_cts = list(cts)
        totals: list[Any] = [TangentSpace(captured[i]).zeros() for i in active]
        for stop in range(self.steps, 0, -1):
            while kept[-1][0] == stop:
                kept.pop()
            values = [stop - 1, *self.advance(kept, stop, captured), *captured]
            followed = [i for i in range(1, 1 + self.count) if is_differentiable(values[i])]
            _, pull = record(_recorder(), self.step, values, [*followed, *(1 + self.count + i for i in active)])
            found = pull(state_cts)
            state_cts = [None] * self.count
            for i, ct in zip(followed, found, strict=False):
                state_cts[i - 1] = ct
            totals = [total + ct for total, ct in zip(totals, found[len(followed) :], strict=True)]
        return state_cts + totals

    def pushed(self, of_state: Sequence[int], of_captured: Sequence[int]) -> _Loop:
        """The loop whose state and captured values are followed by tangents of some of them."""
        active = [*(1 + i for i in of_state), *(1 + self.count + i for i in of_captured)]
        step = Pushed("br.checkpoint_loop", self.step, active)
        more = self.count + len(of_state)

        def with_tangents(values: Sequence[Any]) -> list[Any]:
            number, state, rest = values[0], values[1 : 1 + more], values[1 + more :]
            captured = len(rest) - len(of_captured)
            found = step([number, *state[: self.count], *rest[:captured], *state[self.count :], *rest[captured:]])
            return found[: self.count] + [found[self.count + i] for i in of_state]

        return replace(self, step=with_tangents, count=more)


class _Step(Program):
    """A step, which compares the leaves of the state it returns with those it was given: they are its result."""

    __slots__ = ()

    def take_apart(self, result: list[Any]) -> list[Any]:
        return result


class _StepInLanes:
    """A step for all lanes at once, which knows of each state what differs between lanes."""

    __slots__ = ("axis", "captured", "differs", "step")

    def __init__(self, step: Runnable, state: Sequence[bool], captured: Sequence[bool], axis: LaneAxis) -> None:
        self.step = step
        self.captured = captured
        self.axis = axis
        self.differs = {0: state}
        """By the number of steps taken."""

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        number = values[0]
        lanes = Lanes(self.step, [False, *self.differs[number], *self.captured], self.axis)
        found = lanes(values)
        self.differs[number + 1] = lanes.differs
        return found


class _LoopOperation(Structured):
    """The operands are the leaves of the first state and what the step captures."""

    __slots__ = ()

    def run(self, *values: Any, loop: _Loop) -> tuple[Any, ...]:
        return tuple(replace(loop, states=1).run(values)[0])

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        loop: _Loop = params["loop"]
        values, tangents = handler.open(operands)
        if paused_below() > handler.level:
            return tuple(map(constant, evaluate(self, values, params)))
        state, captured = values[: loop.count], values[loop.count :]
        of_state = [i for i, v in enumerate(state) if is_differentiable(v)]
        of_captured = [i for i in range(len(captured)) if tangents[loop.count + i] is not None]
        moved = [TangentSpace(state[i]).zeros() if tangents[i] is None else tangents[i] for i in of_state]
        values = [*state, *moved, *captured, *(tangents[loop.count + i] for i in of_captured)]
        found = evaluate(self, values, {"loop": loop.pushed(of_state, of_captured)})
        results: list[Any] = [None] * loop.count
        for i, tangent in zip(of_state, found[loop.count :], strict=True):
            results[i] = tangent
        return push_results(handler, found[: loop.count], results)

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        loop: _Loop = params["loop"]
        values, marks = handler.open(operands)
        if paused_below() > handler.level:
            return tuple(map(constant, evaluate(self, values, params)))
        found, kept = loop.run(values)
        spare = [kept]
        captured = values[loop.count :]
        first = [i for i in range(loop.count) if marks[i] is not None]
        rest = [i for i in range(len(captured)) if marks[loop.count + i] is not None]

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            # The first way back uses the states up; a further one, or one in another thread, begins with the first.
            try:
                states = spare.pop()
            except IndexError:
                states = [(0, values[: loop.count])]
            pulled = loop.reverse(states, captured, rest, cotangents)
            starts = [TangentSpace(values[i]).zeros() if pulled[i] is None else pulled[i] for i in first]
            return starts + pulled[loop.count :]

        active = [*first, *(loop.count + i for i in rest)]
        parents: list[Any] = [marks[i] for i in active]
        return record_results(handler, found, parents, [spec_of(values[i]) for i in active], pull)

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        loop: _Loop = params["loop"]
        values, batched = handler.open(operands)
        step = _StepInLanes(loop.step, batched[: loop.count], batched[loop.count :], lane_axis(handler))
        found = evaluate(self, values, {"loop": replace(loop, step=step)})
        return batch_results(handler, found, step.differs[loop.steps])


_operation = _LoopOperation("checkpoint_loop")


def nested_loops(steps: int, states: int) -> tuple[int, int]:
    """How deep to nest loops that together make so many steps, and how many steps each makes.

    Every loop keeps a state for each of its steps, and runs once more for each loop around it: as few as may be.
    """
    depth = 1
    while True:
        width = max(ceil(steps ** (1 / depth)), _NARROW)
        if depth * width <= states or width == _NARROW:
            return depth, width
        depth += 1


_NARROW = 5
"""The fewest steps of a loop: shorter ones are written out, and would have to be so many that they keep no less."""


def _nested(body: Callable[[int, Any], Any], n: int, state: Any, depth: int, width: int) -> Any:
    """`checkpoint_loop` as loops within loops."""

    def run(level: int, first: Any, state: Any) -> Any:
        """Up to ``width ** level`` steps, beginning with the first."""
        if not level:
            return body(first, state)
        part = width ** (level - 1)
        inner = checkpoint(functools.partial(run, level - 1))
        count = min(width, -(-n // part)) if level == depth else np.minimum(width, (n - first + part - 1) // part)
        return fori_loop(0, count, lambda k, state: inner(first + k * part, state), state)

    return run(depth, 0, state)


@for_users
def checkpoint_loop(body: Callable[[int, Any], Any], n: int, state: Any, states: int | None = None) -> Any:
    """The state after n steps of a loop, whose gradient keeps few of the states between.

    Args:
        body: ``body(i, state)`` returns the next state, a tree like the one it was given, which it may write to.  What
            it captures is differentiated too.
        n: the number of steps.
        state: the first state, an array or a tree of them; it is left as it is.
        states: how many states to keep at a time, the first included; about log2(n) by default, and twice as many under
            `jit`.

    Returns:
        The last state.

    Raises:
        ValueError: `states` is less than one.
        TypeError: a step changes the structure of the state, or makes floats of integers in it.

    >>> import numpy as np, bindrune as br
    >>> br.grad(lambda x: br.checkpoint_loop(lambda i, s: 1.5 * s, 4, x))(1.0)
    np.float64(5.0625)
    """
    if states is not None and states < 1:
        raise ValueError(f"br.checkpoint_loop: states={states}, but at least one state must be kept")
    n = operator.index(n)
    if current.get() is not None:
        depth, width = nested_loops(n, 2 * n.bit_length() if states is None else states)
        return _nested(body, n, state, depth, width)
    leaves, structure = trees.flatten(state)

    def step(body: Any, cells: list[Any]) -> list[Any]:
        number, *given = cells
        found, other = trees.flatten(body(number, trees.unflatten(structure, given)))
        if other != structure:
            raise TypeError(f"br.checkpoint_loop: step {number} turns a state of structure {structure} into {other}")
        for i, (old, new) in enumerate(zip(given, found, strict=True)):
            if not is_differentiable(old) and is_differentiable(new):
                raise TypeError(
                    f"br.checkpoint_loop: step {number} makes floats of integers in state{trees.leaf_path(state, i)}. "
                    "Begin with floats."
                )
        return found

    program = _Step("br.checkpoint_loop", Captured(body), step)
    if not program.cells and not any(isinstance(leaf, Array) for leaf in leaves):
        state = trees.map_leaves(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, state)
        for i in range(n):
            state = body(i, state)
        return state
    loop = _Loop(program, n, len(leaves), max(n.bit_length(), 1) if states is None else states)
    return trees.unflatten(structure, _operation(*leaves, *program.cells, loop=loop))
