"""Splitting a program and its derivative into two graphs: one that runs forward, one that goes back.

The program is recorded on a tape while it is staged, and the tape is walked back in the same graph.  What was staged
before the walk is the forward half, what the walk staged is the backward half; the values of the first that the second
needs are the *residuals*.  Inputs that are there in both need not be kept, and neither does what follows from them and
from other residuals by a little arithmetic, or only shows a part of them: it is computed again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from ..core.array import Array
from ..core.operation import Elementwise
from ..graph.dims import values_in
from ..graph.graph import Graph, Literal, Node, Type, Value
from ..graph.interpreter import interpret
from ..transforms.programs import Runnable, TangentSpace, bare, recorded
from ..transforms.reverse import Reverse, guarding, lowest
from .rewinding import rewind
from .stacks import take_all
from .staging import Staging
from .types import has_tangents, tangent_type

__all__ = ["Split", "go_back", "lasting_among", "split"]


class Split(NamedTuple):
    """The two halves of a derivative.

    Attributes:
        forward: from the inputs to the outputs and the residuals.
        again: from the inputs that are needed on the way back to what is computed again.
        backward: from these inputs, what was computed again, the residuals, the outputs' cotangents, the totals, and
            the arrays to be rewound, to the cotangents of the inputs that are active, the new totals, and the arrays as
            they were before.
        inputs: which inputs are needed on the way back.
        rewound: which carried arrays are rewound (see `compile.rewinding`).
        selects: whether the way back leaves out elements that were not chosen (see `transforms.reverse`).
    """

    forward: Graph
    again: Graph
    backward: Graph
    inputs: tuple[int, ...]
    rewound: tuple[int, ...]
    selects: bool


def split(
    program: Runnable,
    given_types: Sequence[Type | Value],
    active: Sequence[int],
    totals: Sequence[int] = (),
    outputs: Sequence[int] | None = None,
    carried: Mapping[int, int] | None = None,
    lasting: Collection[int] = (),
) -> Split:
    """Stage a program with its derivative, and split it.

    Args:
        program: from cells to results.
        given_types: those of its inputs, or values whose types they have.
        active: the inputs whose cotangents are asked for.
        totals: the inputs whose cotangents are to be added to totals that are given.
        outputs: the outputs that have cotangents; all that can have one, unless given.
        carried: the inputs that a loop carries, and as which outputs.  They are not there on the way back, but arrays
            among them may be rewound.
        lasting: the other inputs that are there on the way back without anybody keeping them.
    """
    stage = Staging("split")
    cells = stage.inputs_like(given_types)
    types = [c._value.type for c in cells]
    is_outermost = _lasting.get() is None
    there = {cells[i]._value for i in lasting}
    token = _lasting.set(there)
    try:
        handler = Reverse("split")
        found = recorded(handler, program, cells, (*active, *totals))
        mine = [isinstance(v, Array) and v._handler is handler for v in found]
        results = [stage.take(bare(v._value) if m else v) for v, m in zip(found, mine, strict=True)]
        chosen = range(len(found)) if outputs is None else outputs
        before = len(stage.nodes)
        cts = [
            (i, stage.input(tangent_type(results[i].type)))
            for i in chosen
            if outputs is not None or has_tangents(results[i].type)
        ]
        sums = [stage.input(tangent_type(types[i])) for i in totals]
        seeds = [(found[i]._mark, ct) for i, ct in cts if mine[i]]
        seeds += [(len(active) + k, total) for k, total in enumerate(sums)]
        handler.selects |= guarding.get()
        pulled = handler.pull_back(seeds, len(active) + len(totals))
        cotangents = [
            stage.take(TangentSpace(cells[i]).zeros() if ct is None else ct)
            for i, ct in zip((*active, *totals), pulled, strict=True)
        ]
        given = [ct._value for ct in (*(ct for _, ct in cts), *sums)]
        halves = _halves(stage, results, before, given, cotangents, len(types), carried or {}, there, is_outermost)
    finally:
        _lasting.reset(token)
        stage.end()
    return halves._replace(selects=handler.selects)


def go_back(
    parts: Split, count: int, stack: Any, needed: dict[Value, Any], cotangents: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """Run a backward half whose residuals lie on a stack: the stack below them, and the cotangents.

    Args:
        parts: the halves.
        count: how many outputs of the forward half come before the residuals.
        stack: has the residuals on top.
        needed: the inputs that are needed, by their values in the forward half, in order.
        cotangents: those of the outputs, the totals, and the arrays to be rewound.
    """
    there = needed | dict(zip(parts.again.outputs, interpret(parts.again, [*needed.values()]), strict=True))
    stack, kept = take_all(stack, parts.forward.outputs[count:], there)
    return stack, interpret(parts.backward, [*there.values(), *kept, *cotangents])


def _halves(
    stage: Staging,
    results: Sequence[Value],
    before: int,
    given: Sequence[Value],
    cotangents: Sequence[Value],
    count: int,
    carried: Mapping[int, int],
    lasting: set[Value],
    rewinds: bool,
) -> Split:
    first, second = stage.nodes[:before], _needed(stage.nodes[before:], cotangents)
    inputs = stage.inputs[:count]
    free = set(inputs) - {inputs[i] for i in carried}
    arrays: dict[Value, Value] = {}
    if rewinds:
        kept = {v for node in second for v in node.uses}
        both = {inputs[i]: results[o] for i, o in carried.items() if inputs[i].shape}
        first, second, arrays = rewind(stage, first, second, both, kept)
    given, cotangents = [*given, *arrays.values()], [*cotangents, *arrays]
    wanted = _asked_of_others(second, [*cotangents, *given])
    there = {*lasting, *(v for v in free if not v.shape), *(v for v in wanted if v in free)}
    carrying = set(inputs).intersection(wanted)  # kept anyway
    # A length is known before what has it is taken from among the residuals.
    lengths = set(values_in([v.shape for v in wanted]))
    repeated = _derived(first, there, [v for v in wanted if v in lengths])
    fresh = {v for node in repeated for v in node.results}
    second = [*_derived(first, there | fresh | carrying, wanted, lengths), *second]
    known = set(given)
    wanted = [v for v in _asked_of_others(second, [*cotangents, *given]) if v not in known]
    outside = {v for v in wanted if v not in free and v not in fresh}
    # In the order in which they are computed, which is that of every split of the same program.
    residuals = [v for v in (*inputs, *(v for node in first for v in node.results)) if v in outside]
    recomputed = [v for v in wanted if v in fresh]
    needed = {*wanted, *_asked_of_others(repeated, ())}
    used = [i for i, v in enumerate(inputs) if v in free and v in needed]
    needed_inputs = [inputs[i] for i in used]
    return Split(
        Graph(inputs, _needed(first, [*results, *residuals]), [*results, *residuals], "forward"),
        Graph(needed_inputs, repeated, recomputed, "again"),
        Graph([*needed_inputs, *recomputed, *residuals, *given], second, cotangents, "backward"),
        tuple(used),
        tuple(i for i, v in enumerate(inputs) if v in arrays),
        False,
    )


def _asked_of_others(nodes: Sequence[Node], outputs: Sequence[Value]) -> list[Value]:
    """The values that nodes and outputs need and do not make, each once; those that make up lengths come first."""
    needed = [*(v for node in nodes for v in node.uses), *outputs]
    lengths = values_in([v.shape for v in needed])
    made = {v for node in nodes for v in node.results}
    return [v for v in dict.fromkeys((*lengths, *needed)) if not isinstance(v, Literal) and v not in made]


def _needed(nodes: Sequence[Node], outputs: Sequence[Value]) -> list[Node]:
    """The nodes that outputs depend on, and those with effects."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if node.effect or any(v in wanted for v in node.results):
            wanted.update(node.uses)
            kept.append(node)
    return kept[::-1]


_lasting: ContextVar[set[Value] | None] = ContextVar("lasting", default=None)
"""While a program is being split, its inputs that are there on the way back without anybody keeping them.

Of others a loop inside must not need more than it reads: whole arrays would be kept for every time it runs.
"""


def lasting_among(values: Sequence[Any]) -> tuple[int, ...]:
    """Which operands of a region are there on the way back without anybody keeping them."""
    known = _lasting.get()
    cells = [lowest(v) for v in values]
    return tuple(i for i, v in enumerate(cells) if known is None or not isinstance(v, Array) or v._value in known)


_SHOWN = frozenset({"getitem", "transpose", "reshape", "broadcast_to", "convert", "stop_gradient"})
"""Operations whose results are parts of their operands, or the same under another form."""

_ARITHMETIC = frozenset(
    "add subtract multiply divide negative positive square where maximum minimum sign absolute equal not_equal less "
    "less_equal greater greater_equal logical_and logical_or logical_not isnan".split()
)
_FEW = 3
"""How much arithmetic is rather done again than a value kept; that on integer numbers does not count."""


def _costs(node: Node) -> bool | None:
    """Whether an operation counts when a value is computed again; `None` if it is not done again at all."""
    if node.effect or len(node.results) != 1:
        return None
    (result,) = node.results
    name = node.op.name.removeprefix("python.")
    if name in _SHOWN or (isinstance(node.op, Elementwise) and not result.shape and result.dtype.kind in "biu"):
        return False
    return True if name in _ARITHMETIC else None


def _derived(
    nodes: Sequence[Node], there: Collection[Value], wanted: Collection[Value], kept: Collection[Value] = ()
) -> list[Node]:
    """The nodes behind those wanted values that follow easily from what is there, or from others that are kept.

    Args:
        nodes: the program.
        there: what need not be computed.
        wanted: the values asked for; those which do not follow easily are kept.
        kept: those among them that are kept even if they follow.
    """
    counted: dict[Value, frozenset[int]] = {v: frozenset() for v in there}  # by value: what counts on the way to it
    given, asked, sought = set(there), set[Value](), set(wanted)
    for place, node in enumerate(nodes):
        costs = _costs(node)
        ways = [counted.get(v) for v in _behind(node)]
        if costs is not None and None not in ways:
            way = frozenset({place} if costs else ()).union(*(w for w in ways if w is not None))
            if len(way) <= _FEW:
                counted[node.results[0]] = way
        for value in node.results:
            if value in sought and value not in given:
                if value in counted and value not in kept:
                    asked.add(value)
                else:
                    given.add(value)
                counted[value] = frozenset()
    chosen = []
    for node in reversed(nodes):
        if any(v in asked for v in node.results):
            chosen.append(node)
            asked.update(v for v in _behind(node) if v not in given)
    return chosen[::-1]


def _behind(node: Node) -> list[Value]:
    """The values that a node follows from, those that make up the lengths of its results among them."""
    return [v for v in (*node.uses, *values_in([r.shape for r in node.results])) if not isinstance(v, Literal)]
