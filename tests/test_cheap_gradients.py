"""Gradients of loops that read and write arrays: right, and at the cost of the elements that are touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import bindrune as br
from bindrune.graph.graph import Graph, Node
from bindrune.transforms.loops import nested_loops
from measures import executables

X = np.linspace(0.3, 1.4, 6)


def cholesky(a):
    n = len(a)
    factor = np.zeros((n, n))
    for j in range(n):
        factor[j, j] = np.sqrt(a[j, j] - factor[j, :j] @ factor[j, :j])
        factor[j + 1 :, j] = (a[j + 1 :, j] - factor[j + 1 :, :j] @ factor[j, :j]) / factor[j, j]
    return np.sum(np.sin(factor))


def crout(a):
    n = len(a)
    factors = np.zeros((n, n))
    for k in range(n):
        factors[k, k:] = a[k, k:] - factors[k, :k] @ factors[:k, k:]
        factors[k + 1 :, k] = (a[k + 1 :, k] - factors[k + 1 :, :k] @ factors[:k, k]) / factors[k, k]
    return np.sum(factors**2)


def overwritten_twice(x):
    u = x.copy()
    for i in range(len(x) - 1):
        u[i:] = np.sin(u[i:]) * x[i]
        u[: i + 1] *= u[: i + 1]
        u[1:] = u[:-1] * u[1:]
    return np.sum(u * x)


def scattered(x):
    u = np.outer(x, x)
    places = np.array([0, 2, 2, 1])
    for i in range(len(x)):
        v = u[1:] * u[:-1]
        u[places, i] = v[0, :4] * x[i]
        np.add.at(u, (places, 0), v[1, :4] * u[places, 1])
    return np.sum(u)


def written_twice_to_one_place(x):
    u, total = x.copy(), 0.0
    places = np.array([0, 2, 2, 1, 3, 3])
    for _ in range(8):
        v = np.exp(u * -x)
        u[places] = v
        total = total + np.sum(v * v)
    return total + np.sum(u * u)


def two_arrays(x):
    u, v = x.copy(), x[::-1].copy()
    for i in range(1, len(x)):
        u[i:] = u[i:] * v[: len(x) - i]
        v[:i] = np.cos(v[:i]) * u[len(x) - i :]
    return np.sum(u * v)


def lengths_that_follow(x):
    place, total = 0, 0.3
    for _ in range(9):
        place = (place * 5 + 3) % 5
        length = min(place + 1, 4)
        y = np.sin(x[:length] * total)
        total = total + np.sum(np.exp(y) * x[:length]) / 10 * np.sin(x[place]) * x[place]
    return total


def until_small(x):
    u = x.copy()
    while np.sum(u) > 0.5:
        u[1:] = u[1:] * u[:-1]
        u[0] = 0.7 * u[0]
    return np.sum(u * x)


def read_afterwards(x):
    u = x.copy()
    for i in range(5, len(x) + 5):
        u[1:] = np.tanh(u[1:] * u[:-1]) + i
    w = u * u
    u[:] = 0.0
    return np.sum(w) + np.sum(u)


def columns_that_feed_themselves(a):
    a = a.copy()
    for _ in range(9):
        for j in range(1, len(a)):
            a[j, 0] = 0.5 * a[j - 1, 0] + a[j, 0] * 0.25
    return a


def test_a_column_that_is_written_is_not_packed() -> None:
    a = np.random.default_rng(0).normal(size=(12, 5))
    expected = columns_that_feed_themselves(a)
    np.testing.assert_allclose(br.jit(columns_that_feed_themselves, backend="native")(a), expected, rtol=1e-12)


MATRIX = np.eye(6) * 3 + np.sin(np.arange(36.0)).reshape(6, 6) @ np.sin(np.arange(36.0)).reshape(6, 6).T / 6
PROGRAMS = [
    (cholesky, MATRIX), (crout, MATRIX), (overwritten_twice, X), (scattered, X), (two_arrays, X), (until_small, X),
    (read_afterwards, X), (written_twice_to_one_place, X), (lengths_that_follow, X),
]  # fmt: skip


@pytest.mark.parametrize("backend", ["interpreter", "native"])
@pytest.mark.parametrize(("f", "x"), PROGRAMS, ids=[f.__name__ for f, _ in PROGRAMS])
def test_rewound_arrays(f: Callable[..., Any], x: Any, backend: str) -> None:
    v = np.cos(np.arange(x.size)).reshape(x.shape)
    expected, before = br.value_and_grad(f)(x), x.copy()
    second = br.hvp(f, (x,), (v,))
    staged = br.jit(f, backend=backend)
    for found in (br.jit(br.value_and_grad(f), backend=backend)(x), br.value_and_grad(staged)(x)):
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-11)
    for found in (
        br.jit(lambda x: br.hvp(f, (x,), (v,)), backend=backend)(x),
        br.jit(br.grad(lambda x: np.sum(v * br.grad(f)(x))), backend=backend)(x),
    ):
        np.testing.assert_allclose(found, second, rtol=1e-8, atol=1e-9)
    batch = np.stack([x, 1.05 * x])
    found = br.jit(br.vmap(br.grad(f)), backend=backend)(batch)
    np.testing.assert_allclose(found, [br.grad(f)(lane) for lane in batch], rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(x, before)


def unchanged(x, bound, n):
    u = x.copy()
    for _ in range(n):
        if bound > 0.2:
            break
        for _ in x:
            u, bound = u, bound
    return bound + np.sum(u)


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_a_branch_of_which_nothing_is_needed(backend: str) -> None:
    expected = br.grad(unchanged, (0, 1))(X, 0.1, 4)
    for f in (
        br.jit(br.grad(unchanged, (0, 1)), backend=backend),
        br.grad(br.jit(unchanged, backend=backend), (0, 1)),
    ):
        for one, other in zip(f(X, 0.1, 4), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


def nodes_in_loops(graph: Graph, inside: bool = False) -> Iterator[Node]:
    for node in graph.nodes:
        if inside:
            yield node
        for region in node.regions.values():
            yield from nodes_in_loops(region, inside or node.op.name in ("loop", "while_"))


@pytest.mark.parametrize("f", [cholesky, crout])
def test_no_slice_is_kept(f: Callable[..., Any]) -> None:
    graph = br.make_graph(br.grad(f))(np.eye(50))
    pushed = [node.operands[1] for node in nodes_in_loops(graph) if node.op.name == "push"]
    assert pushed
    assert all(value.ndim < 2 for value in pushed)


def relaxed(u, f):
    u = u.copy()
    for _ in range(6):
        for i in range(1, len(u) - 1):
            for j in range(1, len(u) - 1):
                u[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - f[i, j] * u[i, j])
    return np.sum(u**2)


def chosen(u, f):
    u = u.copy()
    for i in range(1, len(u)):
        if u[i, 0] > f[i, 1]:
            u[i, 0] = u[i - 1, 0] * f[i, 0] * f[0, 0]
        else:
            u[i, 0] = np.sin(u[i - 1, 1]) * f[i, 1]
    return np.sum(u**2)


@pytest.mark.parametrize("f", [relaxed, chosen])
def test_no_whole_array_in_a_step(f: Callable[..., Any]) -> None:
    """Reads and writes of elements go back as reads and writes of elements."""
    u, g = np.random.default_rng(0).normal(size=(2, 12, 12))
    graph = br.make_graph(br.grad(f, (0, 1)))(u, g)
    element_by_element = {"setitem", "add_at", "loop", "branch"}
    for node in nodes_in_loops(graph):
        assert node.op.name in element_by_element or not any(v.shape == (12, 12) for v in node.results), node.op
        assert node.op.name != "push" or not node.operands[1].shape
    for found, expected in zip(br.jit(br.grad(f, (0, 1)))(u, g), br.grad(f, (0, 1))(u, g), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_checkpoints_in_compiled_loops() -> None:
    def step(x: Any) -> Any:
        for _ in range(3):
            x = np.sin(x) * 1.1 + 0.1 * x[::-1]
        return x

    def few(n: int, states: int | None = None) -> Callable[..., Any]:
        return lambda x: np.sum(br.checkpoint_loop(lambda i, x: step(x) * (1 + 0.01 * i), n, x, states))

    def plain(n: int) -> Callable[..., Any]:
        def run(x: Any) -> Any:
            for i in range(n):
                x = step(x) * (1 + 0.01 * i)
            return np.sum(x)

        return run

    for n in (1, 7, 30, 100):
        expected = br.grad(plain(n))(X)
        for states in (None, 1, 2 * round(n**0.5), n):
            compiled = br.jit(br.grad(few(n, states)))
            np.testing.assert_allclose(compiled(X), expected, rtol=1e-9)
            assert not compiled.stats().eager


def test_schedules_of_nested_loops() -> None:
    for n in (1, 5, 100, 10**3, 10**6):
        for states in (1, 2 * n.bit_length(), 2 * round(n**0.5) + 2, n):
            depth, width = nested_loops(n, states)
            assert width**depth >= n
            assert depth * width <= max(states, 5 * (n.bit_length() / 2 + 1))
        assert nested_loops(n, n)[0] == 1 or n < 5
        assert nested_loops(n, 2 * round(n**0.5) + 2)[0] <= 2


def test_integers_of_pythons_stay_exact() -> None:
    def factorial(n: int) -> int:
        product = 1
        for i in range(1, n + 1):
            product *= i
        return product

    def fibonacci(n: int) -> int:
        a, b = 0, 1
        for _ in range(n):
            a, b = b, a + b
        return a

    for f in (factorial, fibonacci, lambda n: n**n, lambda n: (3 * n + 1) * n, lambda n: int(1.5e18 * n)):
        compiled = br.jit(f, backend="native")
        for n in (5, 20, 21, 70, 200):
            assert compiled(n) == f(n)
    for big in (2**62, -(2**62), 2**63 - 1, 2**64, 10**30):
        assert br.jit(lambda x: x + 1, backend="native")(big) == big + 1
    with pytest.raises(ValueError, match="NaN"):
        br.jit(lambda x: int(x), backend="native")(float("nan"))


def test_a_compiled_function_hands_its_tape_on() -> None:
    def f(x: Any, n: int) -> Any:
        y = np.zeros(len(x))
        for i in range(n):
            for k in range(len(x)):
                y[k] = np.sin(y[k] + x[k]) * x[(k + i) % len(x)]
        return np.sum(y)

    compiled = br.jit(f, backend="native")
    expected = br.grad(f)(X, 9)
    value, pull = br.vjp(lambda x: compiled(x, 9), X)
    np.testing.assert_allclose(value, f(X, 9))
    for by in (1.0, 2.0, -1.0):  # a pullback may be used again
        np.testing.assert_allclose(pull(by)[0], by * expected, rtol=1e-12)

    def twice(g: Callable[..., Any]) -> Callable[..., Any]:
        def run(x: Any) -> Any:
            _, pull = br.vjp(lambda x: g(x, 9), x)
            return np.sum(pull(1.0)[0] ** 2 + pull(2.0)[0])

        return run

    np.testing.assert_allclose(br.grad(twice(compiled))(X), br.grad(twice(f))(X), rtol=1e-10)
    np.testing.assert_allclose(br.jacrev(lambda x: compiled(x, 9) * x)(X), br.jacrev(lambda x: f(x, 9) * x)(X))
    np.testing.assert_allclose(br.hessian(compiled)(X, 9), br.hessian(f)(X, 9), rtol=1e-9, atol=1e-12)


def until(x: Any, n: Any) -> Any:
    y, k = x.copy(), 0.0
    while k < n:
        y[1:] = np.sin(y[1:]) + 0.1 * y[:-1]
        y[0] = np.cos(y[0])
        k = k + 1.0
    return np.sum(y * y)


def parts_of_growing_length(x: Any, n: Any) -> Any:
    total = 0.0
    for i in range(12):
        total = total + until(x * (1.0 + i), n * i / 12.0)
    return total


@pytest.mark.parametrize("f", [until, parts_of_growing_length])
def test_loops_of_unknown_length(f: Callable[..., Any]) -> None:
    """Their tapes grow with the steps, whatever contains them, and lanes stop each at its own."""
    compiled = br.jit(br.value_and_grad(f), backend="native")
    used = []
    for n in (0.0, 5.0, 40.0, 640.0, 10_240.0):
        found, expected = compiled(X, n), br.value_and_grad(f)(X, min(n, 640.0))
        if n <= 640.0:
            np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-12)
        used.append(sum(made.working_memory for made in executables(compiled)))
    assert used[-1] < 40 * used[-2]
    lanes, lengths = np.stack([X, 0.5 * X, 2.0 * X]), np.array([3.0, 0.0, 50.0])
    mapped = br.jit(br.vmap(br.grad(f)), backend="native")(lanes, lengths)
    each = [br.grad(f)(*lane) for lane in zip(lanes, lengths, strict=True)]
    np.testing.assert_allclose(mapped, each, rtol=1e-9, atol=1e-12)


def test_a_recursion_that_writes_in_place() -> None:
    def down(y: Any, i: Any, n: Any) -> Any:
        if i >= n:
            return np.sum(y * y)
        y[i] = np.sin(y[i]) * y[i - 1]
        return down(y, i + 1, n) + y[i]

    def f(x: Any, n: Any) -> Any:
        return down(x.copy(), 1, n)

    compiled = br.jit(br.value_and_grad(f))
    for n in (1, 2, 6):
        for found, expected in zip(compiled(X, n), br.value_and_grad(f)(X, n), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    second = br.jit(lambda x, n: br.hvp(lambda x: f(x, n), (x,), (x * x,)))
    np.testing.assert_allclose(second(X, 5), br.hvp(lambda x: f(x, 5), (X,), (X * X,)), rtol=1e-11)
    assert not compiled.stats().eager


def reflected(a):
    a = a.copy()
    for k in range(len(a) - 1):
        x = a[k:, k].copy()
        x[0] += np.sign(x[0]) * np.sqrt(x @ x)
        x /= np.sqrt(x @ x)
        a[k:, k:] -= 2 * np.outer(x, x @ a[k:, k:])
    return np.sum(np.log(np.abs(np.diag(a))))


def eliminated(a):
    a = a.copy()
    for k in range(len(a) - 1):
        a[k + 1 :, k] /= a[k, k]
        a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
    return np.sum(np.log(np.abs(np.diag(a))))


@pytest.mark.parametrize("f", [reflected, eliminated])
def test_machine_code_copies_no_whole_array_in_a_step(f: Callable[..., Any]) -> None:
    """Slices that are read before they are overwritten are set aside, not the array that they are of."""
    a = np.random.default_rng(0).normal(size=(37, 37)) + 9 * np.eye(37)
    for derivative in (f, br.grad(f), lambda a: br.jvp(f, (a,), (a,))):
        lines = str(br.jit(derivative, backend="native").lower(a).loops).splitlines()
        assert any("in order below 36" in line for line in lines)
        assert not [line for line in lines if line.startswith("        ") and f"below {37 * 37}" in line]
    found = br.jit(br.grad(f), backend="native")(a)
    np.testing.assert_allclose(found, np.linalg.inv(a).T if f is eliminated else br.grad(f)(a), rtol=1e-9, atol=1e-12)
