"""The passes that know arithmetic: what they make simpler, and what they leave because it would not be exact."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import numpy as np
import pytest

import bindrune as br
from bindrune.compile.stacks import EMPTY, pop, push
from bindrune.core.operation import registry
from bindrune.graph.graph import NUMBER, Type, type_of
from bindrune.graph.passes import (
    contractions,
    dead_code,
    optimize,
    simplify,
    sink,
)
from bindrune.ops.indexing import ARRAY
from traced import FLOAT, INTEGER, MATRIX, REAL, SINGLE, VECTOR, M, Program, X, agree, graph_of, names, values

# --------------------------------------------------------------------------------------------------------- simplify


@pytest.mark.parametrize(
    "program",
    [
        lambda x: x * 1,
        lambda x: 1.0 * x,
        lambda x: x + -0.0,
        lambda x: -0.0 + x,
        lambda x: x - 0,
        lambda x: x - np.zeros(4),
        lambda x: x * np.ones(4),
        lambda x: x / 1,
        lambda x: x**1,
        lambda x: np.negative(-x),
        lambda x: +x,
        lambda x: np.conjugate(x),
        lambda x: registry["real"](x),
        lambda x: np.maximum(x, x),
        lambda x: np.where(x > 0, x, x),
        lambda x: np.where(np.True_, x, np.exp(x)),
        lambda x: np.where(np.False_, np.exp(x), x),
        lambda x: registry["transpose"](registry["transpose"](x, axes=(0,)), axes=(0,)),
        lambda x: x.reshape(2, 2).reshape(1, 4).reshape(4),
        lambda x: np.broadcast_to(x, (4,)),
        lambda x: registry["astype"](x, dtype=FLOAT),
        lambda x: registry["getitem"](x, index=(Ellipsis,)),
        lambda x: registry["getitem"](x, index=(slice(None),)),
        lambda x: registry["setitem"](np.exp(x), x, index=(slice(None),)),
    ],
)
def test_what_gives_its_operand(program: Program) -> None:
    graph = graph_of(program, VECTOR)
    assert graph.nodes
    changed = dead_code(simplify(graph))
    assert not changed.nodes
    agree(graph, changed, X)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: x + 0.0,
        lambda x: x + 0,
        lambda x: 0.0 - x,
        lambda x: x - -0.0,
        lambda x: x * 0.0,
        lambda x: x - x,
        lambda x: x / x,
        lambda x: x // 1,
        lambda x: x / 3,
        lambda x: x**3,
        lambda x: x ** np.array([2.0, 2.0, 2.0, 2.0]),
        lambda x: np.exp(np.log(x)),
        lambda x: np.sqrt(x) * np.sqrt(x),
        lambda x: (x + 1.0) + 2.0,
        lambda x: registry["astype"](registry["astype"](x, dtype=SINGLE), dtype=FLOAT),
        lambda x: registry["astype"](registry["astype"](x, dtype=np.dtype(int)), dtype=FLOAT),
        lambda x: registry["setitem"](x, 1.0, index=(0,)),
    ],
)
def test_what_would_not_be_exact_is_left(program: Program) -> None:
    graph = graph_of(program, VECTOR)
    assert simplify(graph) is graph


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda x, y: x**2, "multiply"),
        (lambda x, y: x**0.5, "sqrt"),
        (lambda x, y: x**-1, "reciprocal"),
        (lambda x, y: x / 4, "multiply"),
        (lambda x, y: x + -y, "subtract"),
        (lambda x, y: -x + y, "subtract"),
        (lambda x, y: x - -y, "add"),
        (lambda x, y: -x * -y, "multiply"),
        (lambda x, y: -x / -y, "divide"),
        (lambda x, y: abs(-x), "absolute"),
        (lambda x, y: np.square(-x), "square"),
        (lambda x, y: x * np.ones((3, 4)), "broadcast_to"),
    ],
)
def test_what_becomes_simpler(program: Program, expected: str) -> None:
    graph = graph_of(program, VECTOR, VECTOR)
    changed = dead_code(simplify(graph))
    assert names(changed) == [expected]
    assert changed.nodes[0].line == graph.nodes[-1].line
    with np.errstate(invalid="ignore"):
        agree(graph, changed, X, X[::-1])


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda x: x + 0, []),
        (lambda x: x - 0, []),
        (lambda x: x // 1, []),
        (lambda x: x**2, ["multiply"]),
        (lambda x: x - x, ["broadcast_to"]),
        (lambda x: x * 0, ["broadcast_to"]),
        (lambda x: ~(~x), []),
        (lambda x: x & x, []),
    ],
)
def test_integers(program: Program, expected: list[str]) -> None:
    integers = np.array([3, -7, 0, 2**62])
    graph = graph_of(program, type_of(integers))
    changed = dead_code(simplify(graph))
    assert names(changed) == expected
    agree(graph, changed, integers)


def test_narrow_integers_keep_their_wrapping() -> None:
    narrow = np.array([-128, 3], np.int8)
    graph = graph_of(lambda x, y: y + -x, type_of(narrow), Type((2,), np.dtype(int)))
    assert simplify(graph) is graph


def test_complex_products_are_left() -> None:
    graph = graph_of(lambda z: (z * 1) / 1 + 0, Type((2,), np.dtype(complex)))
    assert simplify(graph) is graph


def test_numbers_of_python() -> None:
    def program(a: Any, n: Any) -> Any:
        less = -(a * 1)
        return -less - 0, (n + 0) * 1 - n

    graph = graph_of(program, REAL, INTEGER)
    changed = dead_code(simplify(graph))
    assert not changed.nodes
    agree(graph, changed, -0.0, 5)
    power = graph_of(lambda a: a**2, REAL)
    assert simplify(power) is power  # raises where a product gives infinity


def test_a_number_keeps_its_power() -> None:
    graph = graph_of(lambda a: a**2, Type((), FLOAT, NUMBER))
    assert simplify(graph) is graph


def test_casts_through_what_holds_them() -> None:
    def program(x: Any) -> Any:
        wide = registry["astype"](x, dtype=FLOAT)
        return registry["astype"](wide, dtype=SINGLE), registry["astype"](wide, dtype=np.dtype(int))

    graph = graph_of(program, Type((4,), SINGLE))
    changed = dead_code(simplify(graph))
    assert names(changed) == ["astype", "astype"]
    assert changed.outputs[0] is changed.inputs[0]
    agree(graph, changed, X.astype(SINGLE))


def test_what_is_written_is_known_when_it_is_read() -> None:
    def program(x: Any, v: Any, i: Any) -> Any:
        written = registry["setitem"](x, v, i, index=(ARRAY,))
        return written, registry["getitem"](written, i, index=(ARRAY,)) * 2.0

    graph = graph_of(program, VECTOR, Type((), FLOAT, NUMBER), INTEGER)
    changed = simplify(graph)
    assert "getitem" not in names(dead_code(changed))
    agree(graph, changed, X, np.float64(3), 2)


def test_places_that_repeat_are_read_again() -> None:
    def program(x: Any, v: Any, places: Any) -> Any:
        written = registry["setitem"](x, v, places, index=(ARRAY,))
        return registry["getitem"](written, places, index=(ARRAY,))

    graph = graph_of(program, VECTOR, Type((2,), FLOAT), Type((2,), np.dtype(int)))
    assert simplify(graph) is graph
    np.testing.assert_array_equal(values(graph, X, np.array([1.0, 2.0]), np.array([1, 1]))[0], [2, 2])


def test_a_write_that_is_written_over_goes() -> None:
    def program(x: Any) -> Any:
        return registry["setitem"](registry["setitem"](x, 1.0, index=(0,)), 2.0, index=(0,))

    graph = graph_of(program, VECTOR)
    changed = dead_code(simplify(graph))
    assert names(changed) == ["setitem"]
    agree(graph, changed, X)


def test_a_value_pushed_and_popped() -> None:
    def program(x: Any) -> Any:
        (stack,) = push(EMPTY, x)
        return pop(stack, type=VECTOR)[1] + 1.0

    graph = graph_of(program, VECTOR)
    assert names(dead_code(simplify(graph))) == ["add"]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda x, y: x + 0.0, []),
        (lambda x, y: x - x, []),
        (lambda x, y: x * 0.0 + y, []),
        (lambda x, y: x / x, []),
        (lambda x, y: x / 3, ["multiply"]),
        (lambda x, y: x**3, ["multiply", "multiply"]),
        (lambda x, y: x**4, ["multiply", "multiply"]),
        (lambda x, y: (2.0 * x) * 3.0, ["multiply"]),
        (lambda x, y: x * y + np.sin(x) * y, ["sin", "add", "multiply"]),
        (lambda x, y: x * y / y, []),
        (lambda x, y: np.exp(np.log(abs(x))), ["absolute"]),
        (lambda x, y: np.sqrt(abs(x)) * np.sqrt(abs(x)), ["absolute"]),
        (lambda x, y: 0 - x, ["negative"]),
    ],
)
def test_what_holds_for_real_numbers_only(program: Program, expected: list[str]) -> None:
    graph = graph_of(program, VECTOR, VECTOR)
    changed = optimize(graph, fast_math=True)
    assert names(changed) == expected
    np.testing.assert_allclose(values(changed, X, X[::-1])[0], values(graph, X, X[::-1])[0], rtol=1e-14)


# ------------------------------------------------------------------------------------------------------------- sink


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda m: np.sin(m.T).T, ["sin"]),
        (lambda m: (np.sin(m.T) * m.T + 1.0).T, ["sin", "multiply", "add"]),
        (lambda m: np.where(m.T > 0, m.T, 0.0).T, ["greater", "where"]),
        (lambda m: np.sum(np.exp(m.T), axis=0), ["exp", "sum"]),
        (lambda m: np.sum(m.T), ["sum"]),
        (lambda m: np.sum(m.T[:, None], axis=(0, 1)), ["getitem", "sum"]),
        (lambda m: np.max(m.T, axis=0, keepdims=True), ["max", "transpose"]),
        (lambda m: np.exp(np.broadcast_to(m[0], (3, 4))), ["getitem", "exp", "broadcast_to"]),
        (lambda m: m * np.broadcast_to(m[0], (3, 4)), ["getitem", "multiply"]),
        (lambda m: np.sin(np.broadcast_to(np.sum(m), (3, 4))), ["sum", "sin", "broadcast_to"]),
        (lambda m: np.broadcast_to(2.0, (3, 4)).astype(float) * m, ["multiply"]),
    ],
)
def test_rearrangements_sink(program: Program, expected: list[str]) -> None:
    graph = graph_of(program, MATRIX)
    changed = optimize(graph)
    assert names(changed) == expected
    agree(graph, changed, M)


@pytest.mark.parametrize("reduce", [np.sum, np.mean, np.prod, np.max, np.min, np.all, np.any, np.logaddexp.reduce])
@pytest.mark.parametrize("axes", [(2, 0, 1), (1, 2, 0), (0, 2, 1)])
def test_reductions_of_transposed_cubes(reduce: Any, axes: tuple[int, ...]) -> None:
    cube = np.arange(24.0).reshape(2, 3, 4) / 8
    for axis in (0, 1, (0, 2), None):
        for keepdims in (False, True):
            reduced = functools.partial(reduce, axis=axis, keepdims=keepdims)
            graph = graph_of(lambda c, reduced=reduced: reduced(np.transpose(c, axes)), type_of(cube))
            changed = dead_code(sink(graph))
            assert names(changed)[0] != "transpose"
            agree(graph, changed, cube)


@pytest.mark.parametrize(
    "program",
    [
        lambda m: m.T + m.reshape(4, 3),
        lambda m: np.broadcast_to(m, (2, 3, 4)) ** 2,
        lambda m: np.broadcast_to(np.sum(m.astype(int)), (3,)) * 2,
    ],
)
def test_what_does_not_sink(program: Program) -> None:
    graph = graph_of(program, MATRIX)
    assert sink(graph) is graph


def test_cancelling_transposes_add_nothing_to_a_gradient() -> None:
    def plain(x: Any) -> Any:
        return np.sum(np.tanh(x) * x)

    def turned(x: Any) -> Any:
        return np.sum((np.tanh(x.T) * x.T).T)

    counts = [Counter(names(optimize(graph_of(lambda x, f=f: br.grad(f)(x), MATRIX)))) for f in (plain, turned)]
    assert counts[0] == counts[1]
    assert "transpose" not in counts[1]
    assert "copy" not in counts[1]


# ----------------------------------------------------------------------------------------------------- contractions


def test_an_einsum_takes_its_transposed_operands() -> None:
    graph = graph_of(lambda m: np.einsum("ij,jk->ik", m, m.T), MATRIX)
    changed = dead_code(contractions(graph))
    assert names(changed) == ["einsum"]
    agree(graph, changed, M)
    permutation = graph_of(lambda m: registry["einsum"](m, subscripts="ab->ba"), MATRIX)
    assert names(contractions(permutation)) == ["transpose"]
    agree(permutation, contractions(permutation), M)


def test_a_chain_of_products_goes_the_cheapest_way() -> None:
    shapes = [(20, 30), (30, 2), (2, 40), (40, 5)]
    arrays = [np.random.default_rng(i).normal(size=s) for i, s in enumerate(shapes)]
    graph = graph_of(lambda a, b, c, d: a @ b @ c @ d, *map(type_of, arrays))
    assert contractions(graph) is graph
    changed = dead_code(contractions(graph, fast_math=True))
    assert names(changed) == ["matmul"] * 3
    assert [n.results[0].shape for n in changed.nodes] == [(20, 2), (2, 5), (20, 5)]
    np.testing.assert_allclose(values(changed, *arrays)[0], values(graph, *arrays)[0], rtol=1e-10)
    assert contractions(changed, fast_math=True) is changed


def test_a_vector_at_the_end_of_a_chain() -> None:
    square = Type((4, 4), FLOAT)
    a = np.arange(16.0).reshape(4, 4) / 7
    graph = graph_of(lambda a, b, x: a @ b @ a @ x, square, square, VECTOR)
    changed = dead_code(contractions(graph, fast_math=True))
    assert [n.results[0].ndim for n in changed.nodes] == [1, 1, 1]
    np.testing.assert_allclose(values(changed, a, a.T, X)[0], values(graph, a, a.T, X)[0], rtol=1e-12)
    front = graph_of(lambda a, b, x: x @ (a @ b), square, square, VECTOR)
    assert [n.results[0].ndim for n in dead_code(contractions(front, fast_math=True)).nodes] == [1, 1]
    between = graph_of(lambda a, b, x: (a @ x) @ b, square, square, VECTOR)
    assert contractions(between, fast_math=True) is between


def test_a_product_that_is_needed_is_not_taken_apart() -> None:
    def program(a: Any, x: Any) -> Any:
        square = a @ a
        return square @ x, square

    graph = graph_of(program, Type((4, 4), FLOAT), VECTOR)
    assert contractions(graph, fast_math=True) is graph


def test_very_long_chains() -> None:
    graph = graph_of(lambda a, x: np.linalg.multi_dot([a] * 3) @ _power(a, 200) @ x, Type((4, 4), FLOAT), VECTOR)
    changed = optimize(graph, fast_math=True)
    a = np.eye(4) * 0.9 + 0.01
    np.testing.assert_allclose(values(changed, a, X)[0], values(graph, a, X)[0], rtol=1e-9)


def _power(a: Any, count: int) -> Any:
    found = a
    for _ in range(count):
        found = found @ a
    return found
