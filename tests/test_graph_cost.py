"""What a graph costs: each family of operations by its formula, loops by their steps, memory by what is alive."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import bindrune as br
from bindrune.compile.effects import guard
from bindrune.compile.staging import trace
from bindrune.core.operation import registry
from bindrune.graph.cost import Cost, cost_of
from bindrune.graph.dims import Dim
from bindrune.graph.graph import NUMBER, Graph, Node, Type, Value
from laws.samples import Sample, parts
from random_graphs import INTEGER, branch, each_operation, graphs, loop, of_sample, region, while_

COUNT = os.environ.get("BINDRUNE_PROGRAMS")
ordinary = settings(
    max_examples=int(COUNT or 60),
    derandomize=COUNT is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

FLOAT = np.dtype(float)
NUMERIC = Type((), FLOAT, NUMBER)
CONDITION = Type((), np.dtype(bool), NUMBER)


def array(*shape: int, dtype: Any = float) -> Type:
    return Type(shape, np.dtype(dtype))


def cost(program: Callable[..., Any], *types: Type) -> Cost:
    """The cost of a function of arrays."""
    return cost_of(trace(lambda cells: [*parts(program(*cells))], types))


# ---------------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("program", "shapes", "flops"),
    [
        (lambda x, y: x + y, [(3, 4), (4,)], 12),
        (lambda x: -x * 2.0, [(5,)], 10),
        (lambda a, b: a @ b, [(3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (lambda a, b: a @ b, [(7, 3, 4), (4,)], 2 * 7 * 3 * 4),
        (lambda a, b: np.dot(a, b), [(4,), (4,)], 8),
        (lambda a, b: np.vdot(a, b), [(3, 4), (3, 4)], 24),
        (lambda a, b: np.einsum("ij,jk->ik", a, b), [(3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (lambda a, b: np.einsum("i,j->ij", a, b), [(3,), (5,)], 15),
        (lambda a, b: np.sum(a) + np.max(b), [(3, 4), (5,)], 12 + 5 + 1),
        (lambda a: np.cumsum(a), [(6,)], 6),
        (lambda a: np.sort(a), [(8,)], 8 * 3),
        (lambda a: np.linalg.inv(a), [(10, 10)], 2 * 10**3),
        (lambda a: np.linalg.cholesky(a), [(2, 9, 9)], 2 * 9**3 / 3),
        (lambda a, b: np.linalg.solve(a, b), [(6, 6), (6, 2)], 2 / 3 * 6**3 + 2 * 6**2 * 2),
        (lambda a: np.linalg.qr(a)[1], [(8, 4)], 4 * 8 * 16 - 4 / 3 * 64),
        (lambda a: a.T.reshape(-1)[1:], [(3, 4)], 0),
        (lambda a: np.concatenate([a, a]), [(3,)], 0),
        (lambda a: a[[2, 0]], [(3,)], 0),
        (lambda a: np.fft.fft(a), [(8,)], 4 * 5 * 8 * 3),
    ],
)
def test_floating_point_operations(program: Callable[..., Any], shapes: Sequence[tuple[int, ...]], flops: float):
    found = cost(program, *(array(*s) for s in shapes))
    assert found.flops == pytest.approx(flops)
    assert found.transcendental == 0


def test_transcendental_functions_are_counted_apart():
    found = cost(lambda x: np.exp(x) * np.sin(x) + x, array(10))
    assert (found.flops, found.transcendental) == (20, 20)


def test_arithmetic_on_integers_is_not_floating():
    assert cost(lambda x: x * 2 + x, array(10, dtype=int)).flops == 0


def test_complex_numbers_count_fourfold():
    assert cost(lambda a, b: a @ b, array(3, 3, dtype=complex), array(3, 3, dtype=complex)).flops == 8 * 27


# -------------------------------------------------------------------------------------------------------------- traffic


def test_bytes_of_an_elementwise_operation():
    found = cost(lambda x, y: x + y, array(3, 4), array(4, dtype="f4"))
    assert (found.bytes_read, found.bytes_written) == (12 * 8 + 4 * 4, 12 * 8)


def test_views_cost_nothing_and_gathers_what_they_select():
    assert cost(lambda x: x.T[1:], array(30, 40)).row() == [0, 0, 0, 0, 0]
    found = cost(lambda x: x[np.array([1, 2, 3])], array(1000, 10))
    assert (found.bytes_read, found.bytes_written) == (30 * 8 + 3 * 8, 30 * 8)


def write_row(x: Any) -> Any:
    y = x * 1.0
    y[2] = 7.0
    return y


def test_a_write_touches_what_it_writes():
    found = cost(write_row, array(1000, 10))
    assert found.bytes_written == 1000 * 10 * 8 + 10 * 8
    assert found.peak_memory == 2 * 1000 * 10 * 8


def test_a_write_copies_what_is_still_needed():
    def program(x: Any) -> Any:
        x[2] = 7.0
        return x

    found = cost(program, array(100))
    assert (found.bytes_read, found.bytes_written) == (100 * 8, 100 * 8 + 8)
    assert found.peak_memory == 2 * 100 * 8


def test_adding_in_place_reads_too():
    def program(x: Any) -> Any:
        y = x * 1.0
        np.add.at(y, np.array([1, 1, 2]), 1.0)
        return y

    base = cost(lambda x: x * 1.0, array(100))
    found = cost(program, array(100))
    assert found.flops - base.flops == 3
    assert found.bytes_read - base.bytes_read == 3 * 8 + 3 * 8
    assert found.bytes_written - base.bytes_written == 3 * 8


# --------------------------------------------------------------------------------------------------------------- memory


def test_the_peak_of_memory():
    size = 100 * 8
    assert cost(lambda x: np.sum(x * x), array(100)).peak_memory == 2 * size
    assert cost(lambda x: (x + 1.0) * 2.0 - 3.0, array(100)).peak_memory == 3 * size - size
    assert cost(lambda x: (x + 1.0) * (x + 2.0), array(100)).peak_memory == 4 * size - size
    assert cost(lambda x: np.broadcast_to(x, (50, 100)), array(100)).peak_memory == size


def test_constants_need_memory_once():
    table = np.arange(1000.0)
    assert cost(lambda x: np.sum(x * table + table), array(1000)).peak_memory == pytest.approx(4 * 8000, abs=8000)


# --------------------------------------------------------------------------------------------------------- control flow


def test_a_loop_costs_its_steps():
    def body(step: Any, total: Any, x: Any) -> list[Any]:
        return [total + np.sum(x)]

    def program(total: Any, x: Any) -> Any:
        return loop(
            50, total, x, body=region(lambda v: body(*v), INTEGER, NUMERIC, array(10)), carries=1, descending=False
        )

    found = cost(program, NUMERIC, array(10))
    assert found.flops == 50 * 11
    assert found.bytes_read == 50 * 80
    assert not found.notes


def test_a_triangular_loop_counts_with_the_mean_of_its_lengths():
    def body(v: Sequence[Any]) -> list[Any]:
        step, total, x = v
        return [total + np.sum(x[:step])]

    stepped = region(body, INTEGER, NUMERIC, array(100))
    found = cost(lambda total, x: loop(100, total, x, body=stepped, carries=1, descending=False), NUMERIC, array(100))
    assert found.flops == sum(range(100)) + 100


def test_writes_in_a_loop_are_in_place():
    def body(v: Sequence[Any]) -> list[Any]:
        step, x = v
        x[step] = 2.0
        return [x]

    stepped = region(body, INTEGER, array(1000))
    found = cost(lambda x: loop(1000, x * 1.0, body=stepped, carries=1, descending=False), array(1000))
    assert found.bytes_written == 8000 + 1000 * 8
    assert found.peak_memory == 2 * 8000


def test_what_a_loop_keeps_for_the_one_that_goes_back_needs_memory():
    stepped = region(lambda v: [np.sin(v[1])], INTEGER, array(100))

    def f(x: Any) -> Any:
        (y,) = loop(1000, x, body=stepped, carries=1, descending=False)
        return np.sum(y)

    found = cost(br.grad(f), array(100))
    kept = 1000 * 100 * 8
    assert kept <= found.peak_memory < 1.01 * kept
    assert found.bytes_written > kept
    assert found.bytes_kept == kept
    assert sum(line.bytes_kept for line in found.lines.values()) == kept


def test_a_loop_of_unknown_length_counts_for_one_step():
    stepped = region(lambda v: [v[1] * v[1]], INTEGER, array(10))
    found = cost(lambda n, x: loop(n, x, body=stepped, carries=1, descending=False), INTEGER, array(10))
    assert found.flops == 10
    assert any("a loop of unknown length is counted for one step" in note for note in found.notes)


def test_a_trip_count_may_be_given():
    n, x, y = Value(INTEGER), Value(array(10)), Value(array(10))
    body = region(lambda v: [v[1] * v[1]], INTEGER, array(10))
    graph = Graph([n, x], [Node(loop, [n, x], {"body": body, "carries": 1, "descending": False}, [y])], [y])
    assert cost_of(graph, {n: 7}).flops == 70
    assert not cost_of(graph, {n: 7}).notes


def test_a_while_loop_counts_for_one_step():
    going = region(lambda v: [np.any(v[0] > 1.0), v[0] * 0.5], array(10))
    found = cost(lambda x: while_(np.any(x > 1.0), x, body=going, carries=1), array(10))
    assert found.flops == 10 + 10 + 10
    assert len(found.notes) == 1


def test_of_a_branch_the_dearer_side_counts():
    sides = {
        "then": region(lambda v: [v[0] @ v[0]], array(10, 10)),
        "otherwise": region(lambda v: [v[0] + v[0]], array(10, 10)),
    }
    assert cost(lambda c, x: branch(c, x, **sides), CONDITION, array(10, 10)).flops == 2000
    assert cost(lambda c, x: branch(c, x, **dict(reversed(sides.items()))), CONDITION, array(10, 10)).flops == 2000


def test_lengths_that_are_not_known_are_noted():
    n = Value(INTEGER)
    x, y = (Value(Type((Dim({n: 1}, 0),), FLOAT)) for _ in range(2))
    graph = Graph([n, x], [Node(registry["negative"], [x], {}, [y], "a.py:1, in f")], [y])
    assert cost_of(graph, {n: 30}).bytes_read == 240
    found = cost_of(graph)
    assert found.bytes_read == 8
    assert "a.py:1, in f: a length that only the running program knows is counted as 1" in found.notes


# --------------------------------------------------------------------------------------------------------------- tables


def test_each_line_has_its_share():
    def program(x: Any) -> Any:
        y = x * 2.0
        return np.sum(y)

    found = cost(program, array(1500))
    first, second = found.lines
    assert first.endswith("in program")
    assert (found.lines[first].flops, found.lines[second].flops) == (1500, 1500)
    table = str(found).splitlines()
    assert table[0].split() == ["flops", "transcendental", "bytes", "read", "bytes", "written", "bytes", "kept"]
    assert table[1].split()[-5:] == ["1,500", "0", "12,000", "12,000", "0"]
    assert table[3].split() == ["in", "all", "3,000", "0", "24,000", "12,000", "0"]
    assert table[4] == "peak memory: 24,000 bytes"


def test_effects_cost_what_they_read():
    x = Value(array(10))
    found = cost_of(Graph([x], [Node(guard, [x], {"expected": 1}, [])], [x]))
    assert found.row() == [0, 0, 80, 0, 0]


@each_operation
def test_every_row_has_a_cost(samples: list[Sample]):
    for found in map(cost_of, map(of_sample, samples)):
        assert all(count >= 0 for count in found.row())
        assert not found.notes


@ordinary
@given(graphs())
def test_any_graph_has_a_cost(graph: Graph):
    found = cost_of(graph)
    assert all(np.isfinite(count) and count >= 0 for count in (*found.row(), found.peak_memory))
    assert found.row() == pytest.approx([sum(c.row()[i] for c in found.lines.values()) for i in range(5)])
    assert found.peak_memory >= sum(np.prod(v.shape) * v.dtype.itemsize for v in graph.inputs if v.form == "array")
    assert str(found)
