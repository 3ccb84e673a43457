"""Loops, branches and stacks as operations of graphs, under every transformation and in their edge cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br
from bindrune.compile.stacks import EMPTY, pop, push, spread
from bindrune.core.stack import STACK, ZEROS, Stack
from bindrune.graph.graph import Graph, Type

X = np.array([0.7, -1.3, 2.1, 0.4])


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def operations(f: Callable[..., Any], *arguments: Any) -> set[str]:
    """The names of a function's operations, those of regions included."""

    def visit(graph: Graph) -> set[str]:
        inner = (visit(region) for node in graph.nodes for region in node.regions.values())
        return {node.op.name for node in graph.nodes}.union(*inner)

    return visit(br.make_graph(f)(*arguments))


def agree(f: Callable[..., Any], x: Any, *rest: Any) -> None:
    """Compare a function of an array, which gives a number, with itself staged, under every transformation."""
    staged = br.jit(f)
    v = np.cos(np.arange(np.size(x)) + 1.0).reshape(np.shape(x))
    batch = np.stack([x, 0.9 * x, 1.1 * x])
    axes = (0, *[None] * len(rest))
    gradient, tangent = br.grad(f), lambda x: br.jvp(lambda x: f(x, *rest), (x,), (v,))[1]

    def product(g: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, *rest: br.jvp(lambda x: g(x, *rest), (x,), (v,))[1]

    def twice(g: Callable[..., Any]) -> Callable[..., Any]:
        return br.grad(lambda x, *rest: np.sum(v * br.grad(g)(x, *rest)))

    close(staged(x, *rest), f(x, *rest))
    close(br.grad(staged)(x, *rest), gradient(x, *rest))
    close(br.jit(gradient)(x, *rest), gradient(x, *rest))
    close(br.jvp(lambda x: staged(x, *rest), (x,), (v,))[1], tangent(x))
    close(br.jit(tangent)(x), tangent(x))
    close(tangent(x), np.sum(v * gradient(x, *rest)))
    second = product(gradient)(x, *rest)
    for found in (product(br.grad(staged)), br.jit(product(gradient)), twice(staged), br.jit(twice(f))):
        close(found(x, *rest), second)
    values = np.stack([f(lane, *rest) for lane in batch])
    gradients = np.stack([gradient(lane, *rest) for lane in batch])
    close(br.vmap(staged, axes)(batch, *rest), values)
    close(br.jit(br.vmap(f, axes))(batch, *rest), values)
    close(br.vmap(br.grad(staged), axes)(batch, *rest), gradients)
    close(br.jit(br.vmap(gradient, axes))(batch, *rest), gradients)
    close(br.grad(lambda b: np.sum(br.vmap(staged, axes)(b, *rest)))(batch), gradients)
    close(br.vmap(product(br.grad(staged)), axes)(batch, *rest), [product(gradient)(lane, *rest) for lane in batch])


# ---------------------------------------------------------------------------------------------------------- counted


def recurrence(x, n):
    total = x[0]
    for i in range(n):
        total = np.sin(total) * x[i % 4] + total
    return total


def writes(x, n):
    out = np.zeros(n + 1)
    out[0] = x[1]
    for i in range(n):
        out[i + 1] = out[i] * np.cos(x[i % 4]) + 0.1
    return np.sum(out * out)


def nested(x, n):
    a = np.outer(x, x)
    for i in range(n):
        for j in range(i + 1):
            a[i % 4, j % 4] += np.tanh(a[j % 4, i % 4]) * x[j % 4]
        x = x + 0.1 * a[i % 4]
    return np.sum(a) + np.sum(x)


def backwards(x, n):
    y = x.copy()
    for i in range(n - 1, -1, -1):
        y[i % 4] = y[i % 4] * y[(i + 1) % 4] + 0.3
    return np.sum(y)


def invariant_inner(x, n):
    """The inner loop is the same in every lane but for what is multiplied with it."""
    total = x[0]
    for i in range(n):
        w = 1.0 + 0.1 * i
        for _ in range(n):
            w = np.sin(w) + 0.5
        total = total * w + x[1]
    return total


@pytest.mark.parametrize("n", [0, 1, 5, 9])
@pytest.mark.parametrize("f", [recurrence, writes, nested, backwards, invariant_inner])
def test_loop(f: Callable[..., Any], n: int) -> None:
    agree(f, X, n)
    assert "loop" in operations(f, X, n)


def test_a_loop_shares_what_only_some_lanes_differ_in() -> None:
    def f(x, w):
        total = x
        for _ in range(6):
            u = w
            for _ in range(5):
                u = np.sin(u) * w
            total = total * u + x
        return total

    batch = np.array([0.3, 0.8, -0.4])
    for argnums in (0, 1):
        expected = [br.grad(f, argnums)(x, 0.7) for x in batch]
        close(br.vmap(br.grad(br.jit(f), argnums), (0, None))(batch, 0.7), expected)
        close(br.jit(br.vmap(br.grad(f, argnums), (0, None)))(batch, 0.7), expected)


def test_a_loop_over_lanes_of_lanes() -> None:
    def f(x, y):
        for _ in range(7):
            x = np.sin(x) * y + x
        return x

    x, y = np.array([0.3, 0.8]), np.array([0.1, 0.5, 0.9])
    expected = [[br.grad(f)(a, b) for b in y] for a in x]
    inner = br.vmap(br.grad(br.jit(f)), (None, 0))
    close(br.vmap(inner, (0, None))(x, y), expected)
    close(br.jit(br.vmap(inner, (0, None)))(x, y), expected)


def steps(x, n):
    total = x
    for i in range(n):
        total = total * np.cos(total) + i
    return total


def rows(x, start, stop):
    total = 0.0
    for i in range(start, stop):
        total += x[i] ** 2 * (i + 1)
    return total


def test_lanes_with_different_trip_counts() -> None:
    x, n = np.array([0.3, 0.8, -0.4, 1.0]), np.array([0, 7, 3, 9])
    expected = [steps(a, int(k)) for a, k in zip(x, n, strict=True)]
    gradients = [br.grad(steps)(a, int(k)) for a, k in zip(x, n, strict=True)]
    close(br.vmap(br.jit(steps))(x, n), expected)
    close(br.vmap(br.grad(br.jit(steps)))(x, n), gradients)
    close(br.jit(br.vmap(br.jit(steps)))(x, n), expected)
    close(br.jit(br.vmap(br.grad(br.jit(steps))))(x, n), gradients)


def test_a_lane_that_has_stopped_reads_nothing() -> None:
    start, stop = np.array([0, 3, 1, 4]), np.array([4, 4, 1, 4])
    expected = [rows(X, int(a), int(b)) for a, b in zip(start, stop, strict=True)]
    gradients = [br.grad(rows)(X, int(a), int(b)) for a, b in zip(start, stop, strict=True)]
    mapped = (None, 0, 0)
    close(br.vmap(br.jit(rows), mapped)(X, start, stop), expected)
    close(br.vmap(br.grad(br.jit(rows)), mapped)(X, start, stop), gradients)
    assert br.vmap(br.jit(rows), mapped)(X, start[:0], stop[:0]).shape == (0,)


# ---------------------------------------------------------------------------------------------------- while a condition


def halving(x, limit):
    while np.sum(x * x) > limit:
        x = x * 0.6 + 0.05 * np.sin(x)
    return np.sum(x**3)


def search(x, limit):
    i = 0
    while i < len(x) and x[i] * x[i] < limit:
        i += 1
    return np.sum(x) * i


def collatz(x, n):
    total = np.sum(x)
    while n != 1:
        if n % 2 == 0:
            n = n // 2
            total = total * 1.01
        else:
            n = 3 * n + 1
            total = np.sin(total)
    return total


@pytest.mark.parametrize(("f", "parameter"), [(halving, 0.5), (halving, 100.0), (search, 1.0), (collatz, 7)])
def test_while(f: Callable[..., Any], parameter: Any) -> None:
    agree(f, X, parameter)
    assert "while_" in operations(f, X, parameter)


def test_lanes_that_stop_one_by_one() -> None:
    limits = np.array([0.1, 100.0, 1.0])
    expected = [halving(X, limit) for limit in limits]
    close(br.vmap(br.jit(halving), (None, 0))(X, limits), expected)
    gradients = [br.grad(halving)(X, limit) for limit in limits]
    close(br.vmap(br.grad(br.jit(halving)), (None, 0))(X, limits), gradients)
    limits = np.array([0.1, 100.0, 2.0])
    close(br.vmap(br.jit(search), (None, 0))(X, limits), [search(X, limit) for limit in limits])


# ------------------------------------------------------------------------------------------------------------ branches


def kinked(x, limit):
    y = np.sum(x * x)
    if y > limit:
        y = np.sqrt(y) * x[0]
    else:
        y = y * y + x[1]
    return y


def writes_on_one_side(x, limit):
    y = x.copy()
    for i in range(len(x)):
        if y[i] > limit:
            y[i] = y[i] * y[(i + 1) % 4]
    return np.sum(y * y)


def deep(x, limit):
    y = x[0]
    if y > limit:
        if x[1] > limit:
            y = y * x[2]
        elif x[2] > limit:
            y = np.exp(y)
    return y if y < 1 else np.log(y)


@pytest.mark.parametrize("limit", [-10.0, 0.5, 10.0])
@pytest.mark.parametrize("f", [kinked, writes_on_one_side, deep])
def test_branch(f: Callable[..., Any], limit: float) -> None:
    agree(f, X, limit)
    assert "branch" in operations(f, X, limit)


def test_lanes_that_take_either_side() -> None:
    limits = np.array([-10.0, 10.0, 0.5])
    for f in (kinked, writes_on_one_side, deep):
        expected = [f(X, limit) for limit in limits]
        gradients = [br.grad(f)(X, limit) for limit in limits]
        close(br.vmap(br.jit(f), (None, 0))(X, limits), expected)
        close(br.vmap(br.grad(br.jit(f)), (None, 0))(X, limits), gradients)
        close(br.jit(br.vmap(br.grad(f), (None, 0)))(X, limits), gradients)


def element(x, i):
    return x[i] ** 2 if i < len(x) else np.sum(x)


def root(x, at):
    return np.sqrt(x[at]) / x[at] if x[at] > 0 else x[at]


def quotient(i, n):
    return i // n if n > 0 else -1


def inverse(a, use):
    return np.linalg.inv(a)[0, 0] if use > 0 else a[0, 0]


@pytest.mark.filterwarnings("error")
def test_the_side_that_a_lane_does_not_take_cannot_fail() -> None:
    index = np.array([3, 7, 0, 4])
    close(br.vmap(br.jit(element), (None, 0))(X, index), [element(X, int(i)) for i in index])
    close(br.vmap(br.grad(br.jit(element)), (None, 0))(X, index), [br.grad(element)(X, int(i)) for i in index])
    for inside in (br.vmap(br.jit(element), (None, 0)), br.jit(br.vmap(element, (None, 0)))):
        close(inside(X, index[1:2]), [np.sum(X)])
    x, at = np.array([0.0, -1.0, 4.0]), np.arange(3)
    close(br.vmap(br.jit(root), (None, 0))(x, at), [0.0, -1.0, 0.5])
    close(br.vmap(br.grad(br.jit(root)), (None, 0))(x, at), np.diag([1.0, 1.0, -0.0625]))
    close(br.vmap(br.jit(quotient))(np.array([4, 5, 6]), np.array([0, 2, 3])), [-1, 2, 2])
    matrices = np.stack([np.zeros((2, 2)), 2 * np.eye(2)])
    close(br.vmap(br.jit(inverse))(matrices, np.array([-1.0, 1.0])), [0.0, 0.5])
    close(br.vmap(br.grad(br.jit(inverse)))(matrices, np.array([-1.0, 1.0]))[:, 0, 0], [1.0, -0.25])


def test_a_branch_in_a_loop_whose_condition_all_lanes_share() -> None:
    def f(x, w):
        for i in range(6):
            if w * i > 1.2:
                x = np.sin(x) * w
            else:
                x = x * x + w
        return x

    batch = np.array([0.3, 0.8, -0.4])
    for argnums in (0, 1):
        expected = [br.grad(f, argnums)(x, 0.5) for x in batch]
        close(br.vmap(br.grad(br.jit(f), argnums), (0, None))(batch, 0.5), expected)


# -------------------------------------------------------------------------------------------------------------- stacks


def test_a_stack_gives_back_what_was_pushed() -> None:
    stack = Stack(Stack(EMPTY, np.arange(3.0)), np.float64(2.0))
    vector = Type((3,), np.dtype(float))
    below, top = pop.run(stack, type=Type((), np.dtype(float)))
    assert top == 2.0
    below, value = pop.run(below, type=vector)
    close(value, np.arange(3.0))
    for spent in (below, ZEROS):
        rest, value = pop.run(spent, type=vector)
        assert rest is spent
        close(value, np.zeros(3))


def test_stacks_add_value_by_value() -> None:
    a, b = Stack(Stack(EMPTY, 1.0), 2.0), Stack(Stack(ZEROS, 10.0), 20.0)
    total = a + b
    assert (total.value, total.below.value) == (22.0, 11.0)
    assert (a + ZEROS).value == 2.0


def test_a_stack_of_what_lanes_share_gets_an_axis() -> None:
    stack = Stack(Stack(EMPTY, np.arange(3.0)), Stack(EMPTY, 2.0))
    (wide,) = spread.run(stack, size=2, axis=0)
    assert wide.dtype == STACK
    close(wide.value.value, [2.0, 2.0])
    close(wide.below.value, [[0.0, 1.0, 2.0]] * 2)


def test_a_long_stack_is_let_go() -> None:
    stack = EMPTY
    for i in range(200_000):
        (stack,) = push.run(stack, i)
    del stack


def test_what_a_loop_keeps_is_gone_after_its_gradient() -> None:
    def f(x):
        for _ in range(20_000):
            x = np.sin(x)
        return x

    close(br.jit(br.grad(f))(0.5), br.grad(br.jit(f))(0.5))


# --------------------------------------------------------------------------------------------------- lengths that run


def prefixes(x, n):
    total = 0.0
    for i in range(n):
        total = total + np.sum(np.sin(x[: i % 4 + 1])) * x[i % 4]
    return total


def of_its_own_length(x, n):
    out = np.zeros(n)
    for i in range(n):
        out[i] = x[i % 4] * i
    return np.sum(out[1:] * out[:-1]) / n


@pytest.mark.parametrize("f", [prefixes, of_its_own_length])
def test_lengths_that_only_the_running_program_knows(f: Callable[..., Any]) -> None:
    agree(f, X, 6)
    staged = br.jit(f)
    close([staged(X, n) for n in (5, 6, 9)], [f(X, n) for n in (5, 6, 9)])
    assert staged.stats().stagings == 1


def test_lengths_that_meet_are_compared() -> None:
    def f(x, i, j):
        return np.sum(x[:i] * x[:j])

    staged = br.jit(f)
    for i, j in ((3, 3), (1, 4), (4, 1), (2, 2)):
        close(staged(X, i, j), f(X, i, j))
    with pytest.raises(ValueError, match="broadcast"):
        staged(X, 2, 3)


@pytest.mark.parametrize("size", [30])
def test_one_graph_for_all_lengths(size: int) -> None:
    def f(x, y):
        out = np.zeros_like(x)
        for i in range(len(x)):
            out[i] = x[i] * y[len(y) - 1 - i] if x[i] > 0.2 else np.mean(y)
        return out

    staged = br.jit(f, dynamic=True)
    for n in range(2, 2 + size):
        x, y = np.sin(np.arange(n) * 1.0), np.cos(np.arange(n) * 1.0)
        close(staged(x, y), f(x, y))
    assert staged.stats().stagings == 1
    close(staged(np.ones(1), np.ones(1)), f(np.ones(1), np.ones(1)))
    x, y = np.ones(3), np.arange(5.0)
    close(staged(x, y), f(x, y))
