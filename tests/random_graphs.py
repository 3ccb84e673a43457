"""Graphs drawn at random: operations from the rows of the registry, with loops, branches and calls among them.

They are traced as programs are, so all of them are valid; that their values mean nothing does not matter, for only
their form is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import bindrune.compile.jit  # noqa: F401  (defines the operations of control flow)
from bindrune.compile.staging import trace, type_of_cell
from bindrune.core.operation import registry
from bindrune.graph.graph import NUMBER, PYTHON, Graph, Type, type_of
from bindrune.graph.inference import OF_VALUES
from bindrune.ops.indexing import ARRAY
from laws.samples import SAMPLES, Sample, parts

__all__ = [
    "INTEGER",
    "branch",
    "call",
    "each_operation",
    "graphs",
    "loop",
    "of_sample",
    "pick",
    "picks",
    "region",
    "while_",
]

branch, call, loop, while_ = (registry[name] for name in ("branch", "call", "loop", "while_"))


INTEGER = Type((), np.dtype(int), PYTHON)
FLAG = Type((), np.dtype(bool), NUMBER)

# The types of some results depend on values, which a closed graph does not have.
CHOSEN = [s for s in SAMPLES if s.op.name not in OF_VALUES and not s.op.structured]

BY_OPERATION = {s.op.name: [other for other in CHOSEN if other.op is s.op] for s in CHOSEN}
"""The rows of each operation."""

each_operation = pytest.mark.parametrize("samples", BY_OPERATION.values(), ids=BY_OPERATION)

UNARY = ["sin", "negative", "floor", "exp"]
BINARY = ["add", "multiply", "maximum", "arctan2"]

Draw = Callable[..., Any]
Pool = list[Any]


def region(program: Callable[[Sequence[Any]], Sequence[Any]], *types: Type, name: str = "region") -> Graph:
    """The graph of a function of cells."""
    return trace(lambda cells: [*program(cells)], types, name)


def pick(draw: Draw, pool: Pool) -> Any:
    """One of some values, chosen by its place: the values themselves are not to be looked at."""
    return pool[draw(st.integers(0, len(pool) - 1))]


def picks(draw: Draw, pool: Pool, most: int) -> Pool:
    """Some of them."""
    return [pool[i] for i in draw(st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=most))]


def of_sample(sample: Sample, active: int | None = None) -> Graph:
    """The graph of an operation performed on a row, of which the first few operands are inputs and the others known."""
    given = sample.row.operands[:active]
    rest = sample.row.operands[len(given) :]
    return trace(lambda v: [*parts(sample.op(*v, *rest, **sample.row.params))], [*map(type_of, given)])


@st.composite
def graphs(draw: Draw, depth: int = 2) -> Graph:
    """Any graph."""
    samples: list[Sample] = draw(st.lists(st.sampled_from(CHOSEN), min_size=1, max_size=4))
    types = [type_of(x) for sample in samples for x in sample.row.operands]

    def program(cells: Sequence[Any]) -> list[Any]:
        pool = [*cells]
        for sample in samples:
            pool += parts(sample.op(*_operands(draw, pool, sample), **sample.row.params))
            if depth and draw(st.booleans()):
                pool += _control(draw, pool, depth)
        return picks(draw, pool, 3)

    return trace(program, types, draw(st.sampled_from(["main", "<lambda>", "f_pushed"])))


def _like(pool: Pool, type: Type) -> Pool:
    return [cell for cell in pool if type_of_cell(cell) == type]


def _operands(draw: Draw, pool: Pool, sample: Sample) -> list[Any]:
    """Values of the right types, and for some that are not the first, the row's own."""
    return [
        x if i and draw(st.booleans()) else pick(draw, _like(pool, type_of(x)))
        for i, x in enumerate(sample.row.operands)
    ]


def _mix(draw: Draw, pool: Pool, step: Any | None) -> Any:
    """A value of the type of one in the pool, made of those in the pool; a write, where there is a step."""
    cell = pick(draw, pool)
    type = type_of_cell(cell)
    other = pick(draw, _like(pool, type))
    if step is not None and type.shape and type.shape[0] > 1 and draw(st.booleans()):
        taken = registry["getitem"](other, step, index=(ARRAY,))
        return registry["setitem"](cell, taken, step, index=(ARRAY,))
    if draw(st.booleans()):
        return registry[draw(st.sampled_from(UNARY))](cell)
    return registry[draw(st.sampled_from(BINARY))](cell, other)


def _control(draw: Draw, pool: Pool, depth: int) -> Pool:
    """The results of a loop, a branch or a call on some values of a pool."""
    floats = [cell for cell in pool if type_of_cell(cell).dtype == float and type_of_cell(cell).form != PYTHON]
    if not floats:
        return []
    values = picks(draw, floats, 3)
    types = [type_of_cell(v) for v in values]
    carries = draw(st.integers(1, len(values)))

    def body(cells: Sequence[Any], step: Any | None = None) -> Pool:
        inner = [*cells]
        for _ in range(draw(st.integers(0, 3))):
            inner.append(_mix(draw, inner, step))
        if depth > 1 and draw(st.booleans()):
            inner += _control(draw, inner, depth - 1)
        return [pick(draw, _like(inner, t)) for t in types[:carries]]

    kind = draw(st.sampled_from(["loop", "while_", "branch", "call"]))
    if kind == "loop":
        stepped = region(lambda cells: body(cells[1:], cells[0]), INTEGER, *types, name="step")
        steps, descending = draw(st.integers(0, 5)), draw(st.booleans())
        return [*loop(steps, *values, body=stepped, carries=carries, descending=descending)]
    if kind == "while_":
        going = region(lambda cells: [np.any(cells[0] > 3.0), *body(cells)], *types)
        return [*while_(np.any(values[0] > 3.0), *values, body=going, carries=carries)]
    sides = {name: region(body, *types, name=name) for name in ("then", "otherwise")}
    if kind == "branch":
        return [*branch(np.any(values[0] > 0.5), *values, **sides)]
    once = call(*values, graph=sides["then"])
    return [*once, *call(*values, graph=sides["then"])]
