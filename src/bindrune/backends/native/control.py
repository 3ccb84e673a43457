"""Lowering of control flow: loops, branches and calls become machine control flow around their lowered regions.

What a loop carries lies in one place for the whole loop: numbers in registers, arrays in a buffer that the body updates
in place, or, where the body makes another array, receives at the end of each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...compile.effects import AssumptionFailed, GuardFailed, NanFound, filled
from ...core.stack import STACK
from ...graph.dims import Dim
from ...graph.graph import Graph, Literal, Node, Value
from .formats import arithmetic
from .loops import (
    INTEGER,
    Affine,
    Apply,
    Buffer,
    Const,
    Expression,
    For,
    If,
    Load,
    Statement,
    Storage,
    Store,
    Variable,
    While,
    affine,
)
from .lower import Location, Lowering, as_given, convert, rule
from .shaping import BOOL
from .stacks import Top, pushes
from .views import View, whole

__all__ = ["Carry", "is_own", "settle"]


@contextmanager
def _region(low: Lowering, graph: Graph, given: Sequence[Location], block: list[Statement]) -> Iterator[None]:
    """Lower the nodes of a region into a block; its values can be located inside."""
    outer, low.places = low.places, {}
    facts = len(low.facts)
    try:
        with low.inside(block):
            for value, location in zip(graph.inputs, given, strict=True):
                low.bind(value, location)
                _learn_lengths(low, value, location)
            low.nodes(graph)
            yield
    finally:
        for value in {*graph.inputs, *graph.outputs}:
            if value in low.places and (value in graph.outputs or not _used(graph, value)):
                low.release(value)
        low.places = outer
        del low.facts[facts:]


def _used(graph: Graph, value: Value) -> bool:
    """Whether some node needs an input; its last use lets it go."""
    return any(value in node.uses for node in graph.nodes)


def _learn_lengths(low: Lowering, value: Value, location: Location) -> None:
    """Lengths of an input that nothing else defines are those of what is given."""
    for n, length in zip(value.shape, low.shape(location), strict=True):
        if isinstance(n, Dim) and len(n.terms) == 1:
            ((name, factor),) = n.terms.items()
            if factor == 1 and name not in low.places:
                low.places[name] = length - n.offset


def _lent(low: Lowering, given: Sequence[Location], values: Sequence[Value], again: bool) -> list[Location]:
    """What a region is given: a stack is its own if nothing else needs it and the region does not run again."""
    return [
        Top(x.place, x.owned and not again and v in low.dying) if isinstance(x, Top) else x
        for x, v in zip(given, values, strict=True)
    ]


@rule("call", "ruled")
def _call(low: Lowering, node: Node, operands: list[Location]) -> list[Location]:
    graph = node.params["graph"]
    operands = _lent(low, operands, node.operands, again=False)
    with _region(low, graph, operands, low.block):
        return [low.locate(v) for v in graph.outputs]


# ------------------------------------------------------------------------------------------------------ carried


class Carry:
    """Where a value lies that a loop carries, that both sides of a branch give, or that a routine changes."""

    def __init__(self, low: Lowering, start: Location | None, value: Value, dying: bool) -> None:
        """Make its place, with what it starts from."""
        self.value = value
        self.view: View
        self.owned = False
        if not value.shape:
            dtype = INTEGER if value.dtype == STACK else value.dtype
            self.view = whole(Buffer(Storage(dtype, (), "temporary"), ()))
            if isinstance(start, Top):
                self.owned = start.owned and dying
                low.do(Store(self.view.buffer, (), start.place))
            elif start is not None:
                low.do(Store(self.view.buffer, (), convert(low.number(start), value.dtype)))
        elif isinstance(start, View) and dying and is_own(start):
            self.view = start
        else:
            assert start is not None
            self.view = low.fresh(start)

    @classmethod
    def at(cls, value: Value, view: View) -> Carry:
        """One whose place is there already."""
        made = cls.__new__(cls)
        made.value, made.view, made.owned = value, view, True
        return made

    def location(self, low: Lowering) -> Location:
        """The value, read now."""
        if self.value.shape:
            return self.view
        if self.value.dtype == STACK:
            return Top(affine(low.let(Load(self.view.buffer, ()), "top")), self.owned)
        return low.let(Load(self.view.buffer, ()), "c")


def is_own(x: View) -> bool:
    """Whether an array is all of a buffer of the program's own, in which nothing else that is needed lies."""
    return x.storage.role in ("temporary", "lent") and not x.storage.needed and x.contiguous and bool(x.buffer.shape)


def settle(low: Lowering, carries: Sequence[Carry], found: Sequence[Location]) -> None:
    """Bring values to their places, all at once: none is overwritten before it has been read."""
    pending: list[tuple[View, Location]] = []
    for carry, location in zip(carries, found, strict=True):
        if isinstance(location, Top):
            carry.owned &= location.owned
            location = location.place
        if isinstance(location, View) and carry.value.shape and _identical(location, carry.view):
            continue
        pending.append((carry.view, location))
    targets = [view.storage for view, _ in pending]
    ready: list[tuple[View, Location]] = []
    for i, (view, location) in enumerate(pending):
        if isinstance(location, View) and location.storage in targets:
            # Its memory is about to be overwritten, by itself or by another.
            location = low.fresh(location)
        elif not isinstance(location, View):
            location = low.let(location)
        ready.append((view, location))
        del i
    for view, location in ready:
        if view.shape:
            low.copy(view, location)
        else:
            low.do(Store(view.buffer, view.at(()), convert(low.number(location), view.dtype)))


def _identical(a: View, b: View) -> bool:
    return a.storage is b.storage and a.buffer.shape == b.buffer.shape and a.places == b.places and a.shape == b.shape


def _hold(locations: Sequence[Location], count: int) -> None:
    """Let locations count as needed, or no more."""
    for location in locations:
        if isinstance(location, View):
            location.storage.pins += count


# -------------------------------------------------------------------------------------------------------- loops


def _carries(
    low: Lowering, body: Graph, values: Sequence[Value], given: Sequence[Value], operands: Sequence[Location]
) -> list[Carry]:
    """The places of what a loop carries."""
    carries: list[Carry] = []
    for value, source, start in zip(values, given, operands, strict=False):
        free = not (isinstance(start, View) and any(c.view.storage is start.storage for c in carries))
        if isinstance(start, Top):
            # A stack that is used twice, here or in the body, is nobody's own.
            free = (isinstance(source, Literal) or source in low.dying) and _uses(body, value) == 1
            free = free and sum(source is other for other in given) == 1
        carries.append(Carry(low, start, value, dying=free))
    return carries


def _uses(graph: Graph, value: Value) -> int:
    return sum(value is v for node in graph.nodes for v in node.operands) + sum(value is v for v in graph.outputs)


@contextmanager
def _tape_of_step(low: Lowering, body: Graph, carried: Sequence[Value], block: list[Statement]) -> Iterator[None]:
    """What a step puts on the tape, and none of the carries reaches, is given back at its end."""
    outer, low.pushing = low.pushing, pushes(body)
    temporary = low.pushing and all(v.dtype != STACK for v in carried)
    try:
        if temporary:
            with low.inside(block):
                mark = low.let(Load(low.tape, ()), "mark")
        yield
        if temporary:
            block.append(Store(low.tape, (), mark))
    finally:
        low.pushing = outer


@rule("loop")
def _loop(low: Lowering, node: Node, operands: list[Location]) -> list[Location]:
    body, count = node.params["body"], node.params["carries"]
    steps, *values = operands
    captured = _lent(low, values[count:], node.operands[1 + count :], again=True)
    _hold(captured, 1)
    extent = _count(low, low.let(convert(low.number(steps), INTEGER)))
    carried = body.inputs[1 : 1 + count]
    carries = _carries(low, body, carried, node.operands[1 : 1 + count], values)
    variable = Variable(INTEGER, "s", extent)
    loop = For(variable, extent, [], ordered=True)
    step = extent - 1 - affine(variable) if node.params["descending"] else affine(variable)
    with low.inside(loop.body):
        given = [c.location(low) for c in carries]
    with _tape_of_step(low, body, carried, loop.body), _region(low, body, [step, *given, *captured], loop.body):
        settle(low, carries, [low.locate(v) for v in body.outputs])
    _hold(captured, -1)
    low.do(loop)
    return [c.location(low) for c in carries]


def _count(low: Lowering, steps: Expression) -> Affine:
    """How often a loop runs, or something negative where it does not run at all."""
    found = affine(steps)
    if len(found.terms) == 1 and found.offset == 0 and found.terms[0][1] == 1:
        value = low.definitions.get(found.terms[0][0])
        if isinstance(value, Apply) and value.name in ("maximum", "python.maximum"):
            a, b = value.arguments
            if isinstance(a, Affine) and isinstance(b, Affine) and 0 in (a.known, b.known):
                steps = b if a.known == 0 else a
                low.facts.append(found - steps)
                return steps
    return found


@rule("while_")
def _while(low: Lowering, node: Node, operands: list[Location]) -> list[Location]:
    body, count = node.params["body"], node.params["carries"]
    going, *values = operands
    captured = _lent(low, values[count:], node.operands[1 + count :], again=True)
    _hold(captured, 1)
    carried = body.inputs[:count]
    carries = _carries(low, body, carried, node.operands[1 : 1 + count], values)
    flag = Buffer(Storage(BOOL, (), "temporary"), ())
    low.do(Store(flag, (), convert(low.number(going), BOOL)))
    loop = While(flag, [])
    with low.inside(loop.body):
        given = [c.location(low) for c in carries]
    with _tape_of_step(low, body, carried, loop.body), _region(low, body, [*given, *captured], loop.body):
        again, *found = (low.locate(v) for v in body.outputs)
        again = low.let(convert(low.number(again), BOOL))
        settle(low, carries, found)
        low.do(Store(flag, (), again))
    _hold(captured, -1)
    low.do(loop)
    return [c.location(low) for c in carries]


# ----------------------------------------------------------------------------------------------------- branches


@rule("branch")
def _branch(low: Lowering, node: Node, operands: list[Location]) -> list[Location]:
    condition, *values = operands
    values = _lent(low, values, node.operands[1:], again=False)
    choice = If(low.let(convert(low.number(condition), BOOL)), [], [])
    # Both sides may write in place what dies here, for only one of them runs.
    carries: list[Carry] = []
    found: dict[str, list[Location]] = {}
    for name, block in (("then", choice.then), ("otherwise", choice.otherwise)):
        graph = node.params[name]
        with _region(low, graph, values, block):
            found[name] = [low.locate(v) for v in graph.outputs]
    given = [x.storage for x in values if isinstance(x, View)]
    pairs = [*zip(found["then"], found["otherwise"], strict=True)]
    kept = [a.storage for a, b in pairs if isinstance(a, View) and isinstance(b, View) and _identical(a, b)]
    for value, (a, b) in zip(node.results, pairs, strict=True):
        carries.append(_joined(low, value, a, b, given, [*kept, *(c.view.storage for c in carries)]))
    for name, block in (("then", choice.then), ("otherwise", choice.otherwise)):
        with low.inside(block):
            settle(low, carries, found[name])
    low.do(choice)
    return [c.location(low) for c in carries]


def _joined(
    low: Lowering, value: Value, a: Location, b: Location, given: Sequence[Storage], taken: Sequence[Storage]
) -> Carry:
    """The place of what both sides give: one side's own where there is one, rather given to it than made by it."""
    if not value.shape:
        dtype = INTEGER if value.dtype == STACK else value.dtype
        return Carry.at(value, whole(Buffer(Storage(dtype, (), "temporary"), ())))
    if isinstance(a, View) and isinstance(b, View) and _identical(a, b):
        return Carry.at(value, a)
    free = [side for side in (a, b) if isinstance(side, View) and is_own(side) and side.storage not in taken]
    for side in free:
        if side.storage in given:
            return Carry.at(value, side)
    for side in free:
        if side.storage.size is not None:
            return Carry.at(value, side)
    return Carry.at(value, low.array(value.dtype, low.shape(a)))


# ------------------------------------------------------------------------------------------------ effects


@rule("guard")
def _guard(low: Lowering, node: Node, operands: list[Location]) -> Any:
    (x,) = operands
    expected = node.params["expected"]
    if isinstance(expected, np.ndarray) or (isinstance(x, View) and x.shape) or not arithmetic(x.dtype):
        return NotImplemented
    number = low.number(x)

    def explain(found: Any) -> None:
        raise GuardFailed(*as_given([found], node.operands))

    wanted: Expression = Const(np.asarray(expected, x.dtype)[()], x.dtype)
    low.check(Apply("equal", (number, wanted), BOOL), node, explain, number)
    return []


@rule("assume")
def _assume(low: Lowering, node: Node, operands: list[Location]) -> Any:
    number = low.let(low.number(operands[0]))

    def explain(found: Any) -> None:
        raise AssumptionFailed(*as_given([found], node.operands))

    if number.dtype == INTEGER:
        low.require(affine(number), node, explain, number)
    else:
        low.check(Apply("greater_equal", (number, convert(affine(0), number.dtype)), BOOL), node, explain, number)
    return []


@rule("finite")
def _finite(low: Lowering, node: Node, operands: list[Location]) -> Any:
    def explain(found: Any) -> None:
        raise NanFound(*as_given([found], node.operands))

    if operands[0].dtype.kind != "b" or low.shape(operands[0]):
        return NotImplemented
    number = low.number(operands[0])
    low.check(Apply("logical_not", (number,), BOOL), node, explain, number)
    return []


@rule("check")
def _check(low: Lowering, node: Node, operands: list[Location]) -> Any:
    if any(not arithmetic(x.dtype) or (isinstance(x, View) and x.shape) for x in operands):
        return NotImplemented
    condition, *shown = map(low.number, operands)

    def explain(*found: Any) -> None:
        raise filled(node.params["error"], as_given(found, node.operands[1:]))

    low.check(convert(condition, BOOL), node, explain, *shown)
    return []
