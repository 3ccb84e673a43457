"""Machine code computes what the interpreter computes: every row of every operation, and control flow around them."""

from __future__ import annotations

import copy
import importlib.util
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import bindrune as br
from bindrune.compile.control import branch
from bindrune.compile.loops import loop, while_
from bindrune.compile.staging import trace
from bindrune.core.array import Array
from bindrune.core.operation import registry
from bindrune.graph.dims import Unstageable, linear
from bindrune.graph.graph import Graph, Type, type_of
from bindrune.graph.interpreter import interpret
from bindrune.ops.indexing import getitem
from laws.samples import SAMPLES, Sample

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

from bindrune.backends.native import threads
from bindrune.backends.native.executable import Executable, compile_graph


def copied(values: list[Any]) -> list[Any]:
    """Values that a program may write."""
    return [copy.deepcopy(v) for v in values]


def agree(graph: Graph, arguments: list[Any], ulps: int = 8, exact: bool = False) -> Executable:
    """Run a graph both ways and compare values, types and shapes."""
    compiled = compile_graph(graph)
    given = copied(arguments)
    with np.errstate(all="ignore"):
        expected = interpret(graph, copied(arguments))
    found = compiled.run(given)
    for before, after in zip(arguments, given, strict=True):
        np.testing.assert_array_equal(before, after, err_msg="an argument was changed")
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert type(mine) is type(theirs)
        assert np.shape(mine) == np.shape(theirs)
        if isinstance(theirs, (np.ndarray, np.generic)):
            assert mine.dtype == theirs.dtype
        same(mine, theirs, 0 if exact else ulps)
    return compiled


def same(mine: Any, theirs: Any, ulps: int) -> None:
    """Equal up to some units in the last place of the largest element."""
    mine, theirs = np.asarray(mine), np.asarray(theirs)
    if theirs.dtype.kind not in "fc" or not ulps:
        np.testing.assert_array_equal(mine, theirs)
        return
    finite = np.abs(theirs[np.isfinite(theirs)])
    scale = float(finite.max()) if finite.size else 1.0
    eps = float(np.finfo(theirs.dtype).eps)
    np.testing.assert_allclose(mine, theirs, rtol=ulps * eps, atol=ulps * eps * scale / 4, equal_nan=True)


def staged(sample: Sample) -> Graph:
    """A row of an operation as a graph of one node."""
    row = sample.row

    def program(cells: list[Any]) -> list[Any]:
        found = sample.op(*cells, **row.params)
        return list(found) if isinstance(found, tuple) else [found]

    return trace(program, [type_of(x) for x in row.operands])


def _as_values(sample: Sample) -> list[Any]:
    return [
        x if isinstance(x, (np.ndarray, np.generic, bool, int, float, complex)) else np.asarray(x)
        for x in sample.row.operands
    ]


@pytest.mark.parametrize("sample", SAMPLES, ids=map(str, SAMPLES))
def test_rows(sample: Sample) -> None:
    arguments = _as_values(sample)
    try:
        graph = staged(sample)
    except Unstageable:
        pytest.skip("the type of its results depends on values")
    with np.errstate(all="ignore"):
        agree(graph, arguments, ulps=32)


# ---------------------------------------------------------------------------------------------------- control flow

FLOAT = np.dtype(float)
NUMBER = Type((), FLOAT, "number")
INTEGER = Type((), np.dtype(int), "python")


def vector(n: int) -> Type:
    """The type of an array of `n` numbers."""
    return Type((n,), FLOAT)


def looped(body: Any, types: list[Type], carries: int, count: Any = None) -> Graph:
    """A graph of one loop."""
    inner = trace(body, [INTEGER, *types], "body")

    def program(cells: list[Any]) -> list[Any]:
        first, rest = (cells[0], cells[1:]) if count is None else (count, cells)
        return list(loop(first, *rest, body=inner, carries=carries, descending=False))

    return trace(program, [*([INTEGER] if count is None else []), *types])


def running_product(v: list[Any]) -> list[Any]:
    """One step of a recurrence that is written into an array."""
    i, out, x = v
    out[i + 1] = out[i] * np.sin(x[i])
    return [out]


def test_a_loop_that_writes_elements() -> None:
    x = np.linspace(0.5, 2, 8)
    compiled = agree(looped(running_product, [vector(9), vector(8)], 1, count=8), [np.ones(9), x])
    assert not compiled.callbacks


def test_a_loop_with_a_count_known_at_run_time() -> None:
    x = np.linspace(0.5, 2, 8)
    graph = looped(running_product, [vector(9), vector(8)], 1)
    for count in (0, 1, 5, 8):
        agree(graph, [count, np.ones(9), x])


def test_indices_out_of_bounds_raise_numpys_error() -> None:
    graph = looped(running_product, [vector(9), vector(8)], 1)
    with pytest.raises(IndexError, match="index 8 is out of bounds for axis 0 with size 8") as caught:
        compile_graph(graph).run([9, np.ones(9), np.ones(8)])
    assert "test_native.py" in caught.value.__notes__[0]


def test_scalar_recurrence() -> None:
    def step(v: list[Any]) -> list[Any]:
        _, a, b, x = v
        return [b, a * 0.5 + np.cos(b) * x]

    agree(looped(step, [NUMBER, NUMBER, NUMBER], 2), [1000, np.float64(0.1), np.float64(0.2), np.float64(0.9)], 64)


def test_carries_that_change_places() -> None:
    def step(v: list[Any]) -> list[Any]:
        _, a, b, c = v
        return [b, a, a + c]

    graph = looped(step, [vector(4), vector(4), vector(4)], 3)
    for count in range(5):
        agree(graph, [count, np.arange(4.0), np.arange(4.0) * 2, np.arange(4.0) * 3])


def test_a_stencil_reads_what_was_there() -> None:
    def step(v: list[Any]) -> list[Any]:
        _, u = v
        u[1:-1] = u[1:-1] + 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
        return [u]

    agree(looped(step, [vector(32)], 1, count=50), [np.sin(np.arange(32.0))])


def test_a_view_of_what_is_written_keeps_its_content() -> None:
    def program(v: list[Any]) -> list[Any]:
        (x,) = v
        y = x * 2
        before = br.debug and (y[1:3] + 0)
        y[2] = 5.0
        return [y, before, y[1:3] + 0]

    agree(trace(program, [vector(6)]), [np.arange(6.0)])


def test_overlapping_assignment() -> None:
    def program(v: list[Any]) -> list[Any]:
        (x,) = v
        y = x + 0
        y[1:] = y[:-1]
        y[::-1][:2] = y[:2]
        return [y]

    agree(trace(program, [vector(7)]), [np.arange(7.0)])


def test_branches() -> None:
    def then(v: list[Any]) -> list[Any]:
        x, y = v
        x[1] = 7.0
        return [x, y * 2, x[0]]

    def otherwise(v: list[Any]) -> list[Any]:
        x, y = v
        return [x, x + y, y[0]]

    types = [vector(5), vector(5)]
    sides = {"then": trace(then, types), "otherwise": trace(otherwise, types)}
    graph = trace(lambda v: list(branch(v[0] > 0, v[1], v[2], **sides)), [NUMBER, *types])
    for condition in (1.0, -1.0):
        agree(graph, [np.float64(condition), np.arange(5.0), np.arange(5.0) + 3])


def test_a_branch_that_swaps() -> None:
    types = [vector(5), vector(5)]
    sides = {"then": trace(lambda v: [v[1], v[0]], types), "otherwise": trace(lambda v: [v[0], v[1]], types)}

    def program(v: list[Any]) -> list[Any]:
        return list(branch(v[0] > 0, v[1] + 1, v[2] + 1, **sides))

    graph = trace(program, [NUMBER, *types])
    for condition in (1.0, -1.0):
        agree(graph, [np.float64(condition), np.arange(5.0), np.arange(5.0) + 3])


def test_while() -> None:
    def body(v: list[Any]) -> list[Any]:
        x, n, target = v
        x = 0.5 * (x + target / x)
        return [np.abs(x * x - target) > 1e-12, x, n + 1]

    inner = trace(body, [NUMBER, INTEGER, NUMBER])
    graph = trace(lambda v: list(while_(True, v[0], 0, v[0], body=inner, carries=2)), [NUMBER])
    agree(graph, [np.float64(3.7)])


def test_nested_loops_with_slices_of_runtime_length() -> None:
    n = 6

    def inner(v: list[Any]) -> list[Any]:
        j, low, a, i = v
        low[i, j] = (a[i, j] - np.sum(low[i, :2] * low[j, :2])) / (low[j, j] + 2)
        return [low]

    matrix = Type((n, n), FLOAT)
    body = trace(inner, [INTEGER, matrix, matrix, INTEGER])

    def outer(v: list[Any]) -> list[Any]:
        i, low, a = v
        return list(loop(i + 1, low, a, i, body=body, carries=1, descending=False))

    graph = looped(outer, [matrix, matrix], 1, count=n)
    agree(graph, [np.zeros((n, n)), np.arange(36.0).reshape(n, n) + np.eye(n)])


def through_loop(body: Graph, carries: int, count: int, start: Any, x: Any) -> Any:
    """The sum of what a loop carries, inside a transformation or not."""
    operands = (count, start, x)
    if isinstance(x, Array):
        (found,) = loop(*operands, body=body, carries=carries, descending=False)
    else:
        (found,) = loop.run(*operands, body=body, carries=carries, descending=False)
    return np.sum(found * found)


def test_gradients_of_loops() -> None:
    body = trace(running_product, [INTEGER, vector(9), vector(8)])

    def f(x: Any) -> Any:
        return through_loop(body, 1, 8, np.ones(9), x)

    x = np.linspace(0.5, 2, 8)
    value, gradient = br.value_and_grad(f)(x)
    graph = trace(lambda v: list(br.value_and_grad(f)(v[0])), [vector(8)])
    compiled = agree(graph, [x], 16)
    found = compiled.run([x])
    np.testing.assert_allclose(found[0], value)
    np.testing.assert_allclose(found[1], gradient)
    assert not compiled.callbacks


def test_second_derivatives_and_lanes_of_loops() -> None:
    body = trace(running_product, [INTEGER, vector(9), vector(8)])

    def f(x: Any) -> Any:
        return through_loop(body, 1, 8, np.ones(9), x)

    x = np.linspace(0.5, 2, 8)
    agree(trace(lambda v: [br.hessian(f)(v[0])], [vector(8)]), [x], 64)
    lanes = np.stack([x, x * 0.7, x * 1.1])
    agree(trace(lambda v: [br.vmap(br.grad(f))(v[0])], [Type((3, 8), FLOAT)]), [lanes], 64)


# ------------------------------------------------------------------------------------------ numbers left to the host


def _written(x: Any, d: Any) -> Any:
    y = d.copy()
    y[1:3] = x[:2]
    y[0] = x[3]
    np.add.at(y, np.array([0, 0]), x[:2])
    return y


def _counted(x: Any, d: Any) -> Any:
    s = 0.0
    for i in range(len(x)):
        if x[i]:
            s += 1.0
        while x[i] > s:
            s += 1.0
    return s


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
@pytest.mark.parametrize(
    "f",
    [
        lambda x, d: np.where(x, d, -d),
        lambda x, d: np.where(d > 1, x, d),
        lambda x, d: np.concatenate([x, d]),
        lambda x, d: np.stack([d, x]),
        lambda x, d: 1.0 if x[1] else 2.0,
        lambda x, d: d[: int(x[2])],
        lambda x, d: float(x[1]) * 2 + int(x[2]),
        lambda x, d: (x.astype(bool), x.astype(np.int8), d.astype(x.dtype), np.array(3, np.uint8).astype(x.dtype)),
        lambda x, d: (np.sum(x), np.max(x), np.argmax(x), np.cumsum(x), np.any(x), np.all(x), x @ x, np.mean(x)),
        _written,
        _counted,
    ],
)
def test_numbers_without_instructions(f: Any, dtype: Any) -> None:
    x, d = np.array([0, 1, 2, 3], dtype), np.arange(4.0)
    compiled = br.jit(f, backend="native")
    for found, expected in zip(*(r if isinstance(r, tuple) else (r,) for r in (compiled(x, d), f(x, d))), strict=True):
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        np.testing.assert_array_equal(found, expected)
    assert not compiled.stats().eager


# ---------------------------------------------------------------------------------------------------------- threads


@pytest.fixture
def restored_threads() -> Any:
    """Lets a test set the number of threads."""
    before = threads.threads()
    yield
    threads.set_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_loops_that_threads_share(count: int, restored_threads: Any) -> None:
    n = 30_001
    x = np.sin(np.arange(n) * 0.37)

    def program(v: list[Any]) -> list[Any]:
        a, b = v
        rows = np.exp(a - np.max(a, axis=1, keepdims=True))
        soft = rows / np.sum(rows, axis=1, keepdims=True)
        return [np.sum(np.tanh(b) * b), np.max(b), np.tanh(b) * 2, soft, np.any(b > 2), np.sum(b > 0)]

    threads.set_threads(count)
    matrix = np.resize(x, (300, 100))
    graph = trace(program, [type_of(matrix), type_of(x)])
    compiled = agree(graph, [matrix, x], 256)
    assert "bindrune.parallel" in compiled.llvm
    first, second = compiled.run([matrix, x]), compiled.run([matrix, x])
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_programs_run_in_many_threads_at_once() -> None:
    n = 20_000

    def program(v: list[Any]) -> list[Any]:
        return [np.sum(np.tanh(v[0]) * v[0]), np.tanh(v[0])]

    compiled = compile_graph(trace(program, [vector(n)]))
    given = [np.linspace(-k, k + 1, n) for k in range(8)]
    expected = [compiled.run([x]) for x in given]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for mine, theirs in zip(pool.map(lambda x: compiled.run([x]), given), expected, strict=True):
                for a, b in zip(mine, theirs, strict=True):
                    np.testing.assert_array_equal(a, b)


def test_lengths_that_only_the_program_knows() -> None:
    def program(v: list[Any]) -> list[Any]:
        x, n, a = v
        given = linear({n._value: 1}, 0)
        found = linear({registry["item"](np.sum(a > 0.5))._value: 1}, 1)
        head = getitem(x, index=(slice(None, given, None),))
        tail = getitem(x, index=(slice(given, None, None),))
        return [
            head * 2,
            registry["cumsum"](tail, axis=0, dtype=None),
            getitem(x, index=(slice(None, found, None),)) + 1,
        ]

    graph = trace(program, [vector(9), INTEGER, vector(4)])
    for n in (0, 3, 9):
        compiled = agree(graph, [np.arange(9.0), n, np.array([0.1, 0.7, 0.9, 0.2])])
        assert not compiled.callbacks


# ----------------------------------------------------------------------------------------------------------- memory


def test_what_a_step_makes_changes_places_with_what_the_loop_carries() -> None:
    def step(v: list[Any]) -> list[Any]:
        _, u = v
        return [u[::-1] * 0.5 + 1]

    graph = looped(step, [vector(2000)], 1)
    for count in (0, 1, 2, 5):
        compiled = agree(graph, [count, np.sin(np.arange(2000.0))])
    assert "swap" in compiled.loops


def cross(u: Any) -> Any:
    u = u.copy()
    u[1:-1, 1:-1] = 0.5 * u[1:-1, 1:-1] + 0.2 * (u[:-2, 1:-1] + u[1:-1, 2:]) - 0.1 * u[2:, :-2]
    return u


def corner(u: Any) -> Any:
    u = u.copy()
    u[2:, :-3] = 0.5 * u[:-2, 3:] + u[1:-1, 1:-2]
    return u


def line(u: Any) -> Any:
    u = u.copy()
    u[..., :-2] = 0.5 * u[..., 2:] - u[..., 1:-1]
    return u


def box(u: Any) -> Any:
    u = u.copy()
    u[1:-1, :, 2:] = 0.5 * u[2:, :, 1:-1] - u[:-2, :, :-2]
    return u


@pytest.mark.parametrize(("step", "shape"), [(cross, (40, 30)), (corner, (41, 33)), (line, (600,)), (box, (30, 6, 40))])
def test_what_a_step_makes_of_an_interior_changes_places_with_the_whole(step: Any, shape: tuple[int, ...]) -> None:
    x = np.sin(np.arange(float(np.prod(shape)))).reshape(shape)
    graph = looped(lambda v: [step(v[1])], [type_of(x)], 1)
    for count in (0, 1, 2, 5):
        compiled = agree(graph, [count, x])
    assert "swap" in compiled.loops
    agree(looped(lambda v: [step(step(v[1]))], [type_of(x)], 1), [3, x])


def test_a_step_that_makes_little_of_what_the_loop_carries() -> None:
    def step(v: list[Any]) -> list[Any]:
        u = v[1].copy()
        u[20:-1, 1:] = u[19:-2, 1:] - u[20:-1, :-1]
        return [u]

    x = np.sin(np.arange(3000.0)).reshape(60, 50)
    assert "swap" not in agree(looped(step, [type_of(x)], 1), [3, x]).loops


def test_carries_that_change_places_and_are_large() -> None:
    def step(v: list[Any]) -> list[Any]:
        _, a, b = v
        new = a.copy()
        new[1:-1] = 2 * a[1:-1] - b[1:-1] + 0.3 * (a[2:] - 2 * a[1:-1] + a[:-2])
        return [new, a]

    graph = looped(step, [vector(3000), vector(3000)], 2)
    for count in (0, 1, 2, 7):
        agree(graph, [count, np.sin(np.arange(3000.0)), np.cos(np.arange(3000.0))])


def test_two_axes_that_lie_in_memory_as_one() -> None:
    def program(v: list[Any]) -> list[Any]:
        x, y = v
        return [np.sin(x) * y + 1, np.sum(x * y)]

    x = np.sin(np.arange(60.0)).reshape(5, 4, 3)
    compiled = agree(trace(program, [type_of(x), type_of(x)]), [x, x + 1], 16)
    assert "below 60" in compiled.loops


def test_arrays_that_are_dead_leave_their_place() -> None:
    def program(v: list[Any]) -> list[Any]:
        (x,) = v
        for _ in range(12):
            x = np.sort(np.sin(x))
        return [x]

    compiled = agree(trace(program, [vector(5000)]), [np.arange(5000.0)])
    assert compiled.working_memory < 4 * 5000 * 8


# ------------------------------------------------------------------------------------------------------------ asides


def test_loops_that_take_next_to_no_time_are_set_aside() -> None:
    def program(v: list[Any]) -> list[Any]:
        x, a = v
        return [np.cumsum(np.exp(x[:7]), axis=0), np.sum(np.exp(x), axis=1), np.max(np.tanh(a @ a), axis=0)]

    x, a = np.sin(np.arange(120.0)).reshape(12, 10), np.cos(np.arange(160000.0)).reshape(400, 400)
    *_, asides = agree(trace(program, [type_of(x), type_of(a)]), [x, a], 64).loops.partition("aside:")
    assert "exp(" in asides
    assert re.search(r"\n {4}for [^:]*:\n {8}for [^:]*:\n {12}[^\n]*tanh", asides)
    few = a[:12, :12].copy()
    assert "aside" not in agree(trace(program, [type_of(x), type_of(few)]), [x, few], 64).loops


def test_loops_of_unknown_length_are_not_set_aside() -> None:
    def program(v: list[Any]) -> list[Any]:
        n, x, a = v
        return [np.sum(np.sqrt(x[:n])), a @ a]

    x, a = np.arange(50.0), np.cos(np.arange(90000.0)).reshape(300, 300)
    graph = trace(program, [INTEGER, type_of(x), type_of(a)])
    for n in (0, 1, 50):
        assert "aside" not in agree(graph, [n, x, a], 64).loops
