"""Lowering of recursion: a graph that calls itself becomes a routine, and each ``recur`` runs it.

Numbers go in and out in registers.  An array that the graph changes and returns is *lent*: the routine works where it
lies, as a loop does with what it carries.  What is put on the tape lies behind what the caller has there; a routine
that returns no stack gives its part of the tape back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...core.operation import Write
from ...core.stack import STACK
from ...graph.graph import Graph, Node, Value
from ...graph.passes.optimize import optimize
from .control import Carry, is_own, settle
from .loops import INTEGER, Buffer, Expression, Invoke, Load, Program, Storage, affine
from .lower import Location, Lowering, convert, rule
from .stacks import Top, pushes
from .views import View, whole

__all__: list[str] = []


class _Routine(NamedTuple):
    """What a caller must know of a routine.

    Attributes:
        program: the routine.
        graph: what it was lowered from.
        lent: by outputs that are given in the place of an input, that input.
        taped: whether it puts anything on the tape, and whether it leaves anything there.
    """

    program: Program
    graph: Graph
    lent: Mapping[int, int]
    taped: tuple[bool, bool]


@rule("recur")
def _recur(low: Lowering, node: Node, operands: list[Location]) -> list[Location]:
    routine = _routine(low, node.params["graph"])
    given: list[View | Expression] = []
    for i, (value, x) in enumerate(zip(routine.graph.inputs, operands, strict=True)):
        if isinstance(x, Top):
            given.append(x.place)
        elif not value.shape:
            given.append(convert(low.number(x), value.dtype))
        elif i in routine.lent.values():
            others = [y.storage for k, y in enumerate(operands) if k != i and isinstance(y, View)]
            mine = isinstance(x, View) and is_own(x) and node.operands[i] in low.dying and x.storage not in others
            given.append(x if mine and isinstance(x, View) else low.fresh(x))
        else:
            given.append(x if isinstance(x, View) and _is_consecutive(x) else low.fresh(x))
    found: list[Location] = []
    results: list[View] = []
    for i, value in enumerate(node.results):
        lent = given[routine.lent[i]] if i in routine.lent else None
        if isinstance(lent, View):
            found.append(lent)
            continue
        dtype = INTEGER if value.dtype == STACK else value.dtype
        view = whole(Buffer(Storage(dtype, (), "temporary"), ()))
        if value.shape:
            view = low.array(dtype, tuple(map(low.length, value.shape)))
        results.append(view)
        found.append(view)
    puts, leaves = routine.taped
    if puts:
        given.append(Load(low.tape, ()))
    if leaves:
        results.append(whole(low.tape))
    low.do(Invoke(routine.program, tuple(given), tuple(results)))
    return [
        x if v.shape else Top(affine(low.let(Load(x.buffer, ()), "top")), owned=False) if v.dtype == STACK else x
        for v, x in zip(node.results, found, strict=True)
        if isinstance(x, View)
    ]


def _is_consecutive(x: View) -> bool:
    """Whether the elements of an array lie one after the other."""
    wanted = [i for i, n in enumerate(x.shape) if n.known != 1]
    moving = False
    for (_, steps), length in zip(x.places, x.buffer.shape, strict=True):
        along = [(axis, step) for axis, step in steps if x.shape[axis].known != 1]
        if not along and not moving:
            continue
        if along != [(wanted.pop(0), 1)] if wanted else length.known != 1:
            return False
        if moving and along and x.shape[along[0][0]] != length:
            return False
        moving = True
    return not wanted


def _routine(low: Lowering, itself: Any) -> _Routine:
    found: _Routine | None = low.routines.get(itself)
    if found is not None:
        return found
    graph = low.rearranged(optimize(itself.finished()))
    taped = (pushes(graph), any(v.dtype == STACK for v in graph.outputs))
    made = low.routines[itself] = _Routine(low.program.routine(), graph, _lent(graph), taped)
    inner = Lowering(made.program, low.libraries)
    inner.known_stack, inner.stack_at, inner.place_of = low.known_stack, low.stack_at, low.place_of
    inner.zeros, inner.routines, inner.rearranged = low.zeros, low.routines, low.rearranged
    inner.take(graph, taped[0], made.lent.values())
    carries = []
    for i in made.lent.values():
        view = inner.places[graph.inputs[i]]
        assert isinstance(view, View)
        carries.append(Carry.at(graph.inputs[i], view))
    inner.nodes(graph)
    inner.give(graph, (i for i in range(len(graph.outputs)) if i not in made.lent), taped[1])
    settle(inner, carries, [inner.locate(graph.outputs[i]) for i in made.lent])
    made.program.outputs.sort(key=lambda storage: storage.position)
    return made


# ------------------------------------------------------------------------------------------------- what is changed


def _lent(graph: Graph) -> dict[int, int]:
    """By outputs that are what becomes of an input, that input."""
    found: dict[int, int] = {}
    for i, output in enumerate(graph.outputs):
        for k, value in enumerate(graph.inputs):
            fits = value.shape and value.type == output.type and output is not value and k not in found.values()
            if fits and i not in found and _becomes(graph, value, output):
                found[i] = k
    return found


def _becomes(graph: Graph, before: Value, after: Value) -> bool:
    """Whether a value is what writes and sums, or control flow around them, make of an array where nothing calls."""
    made = {v: node for node in graph.nodes for v in node.results}
    values = [after]
    for value in values:
        if value is before:
            return True
        node = made.get(value)
        if node is None:
            continue
        at = node.results.index(value)
        if isinstance(node.op, Write):
            values.append(node.operands[0])
        elif node.op.name == "add":
            values += node.operands  # an element goes where it has been read
        elif node.op.name in ("branch", "call"):
            first = len(node.operands) - len(next(iter(node.regions.values())).inputs)
            values += [
                operand
                for region in node.regions.values()
                for operand, given in zip(node.operands[first:], region.inputs, strict=True)
                if given.type == value.type and _becomes(region, given, region.outputs[at])
            ]
        elif node.op.name in ("loop", "while_"):
            values.append(node.operands[1 + at])
    return False
