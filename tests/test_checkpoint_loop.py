"""Loops whose gradients keep few states: derivatives, evaluations counted, memory measured."""

from __future__ import annotations

from functools import lru_cache, partial
from math import comb

import numpy as np
import pytest

import bindrune as br
from bindrune.transforms.loops import steps_to_next_state
from expect import close
from measures import peak

X = np.array([0.7, -1.3, 2.1])
W = np.array([[0.5, -1.2, 2.1], [1.7, -0.4, 0.9], [0.2, 1.3, -0.7]])


def logistic(i, x):
    return 3.2 * x * (1 - x) + 0.01 * i


def looped(n, states=None):
    return lambda x: br.checkpoint_loop(logistic, n, x, states)


def unrolled(n):
    def f(x):
        for i in range(n):
            x = logistic(i, x)
        return x

    return f


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, 13, 21])
@pytest.mark.parametrize("states", [None, 1, 2, 3, 50])
def test_a_loop_has_the_derivatives_of_its_steps(n, states):
    f, plain = looped(n, states), unrolled(n)
    x = 0.3
    close(f(x), plain(x))
    close(br.value_and_grad(f)(x), br.value_and_grad(plain)(x), rtol=1e-9)
    close(br.jvp(f, (x,), (1.0,)), br.jvp(plain, (x,), (1.0,)), rtol=1e-9)


def test_second_derivatives_of_a_loop_in_all_orders():
    f, plain = looped(7), unrolled(7)
    expected = br.grad(br.grad(plain))(0.3)
    for outer in (br.grad, br.jacfwd):
        for inner in (br.grad, br.jacfwd):
            close(outer(inner(f))(0.3), expected, rtol=1e-9)


@pytest.mark.parametrize("states", [None, 1, 2])
def test_a_reverse_rule_inside_is_followed_in_every_order(states):
    sine = br.custom_vjp(np.sin)
    sine.defvjp(lambda x: (np.sin(x), np.cos(x)), lambda cosine, ct: (ct * cosine,))
    f = lambda x: br.checkpoint_loop(lambda i, s: sine(s) * (x + i), 6, x, states)  # noqa: E731
    plain = lambda x: br.checkpoint_loop(lambda i, s: np.sin(s) * (x + i), 6, x, states)  # noqa: E731
    for outer in (br.grad, br.jacfwd):
        close(outer(br.grad(f))(0.3), br.grad(br.grad(plain))(0.3), rtol=1e-9)


def test_maps_of_loops_and_loops_of_maps():
    lanes = np.array([0.1, 0.3, 0.8])
    expected = [br.grad(unrolled(6))(x) for x in lanes]
    close(br.vmap(looped(6))(lanes), [unrolled(6)(x) for x in lanes])
    close(br.vmap(br.grad(looped(6)))(lanes), expected, rtol=1e-9)
    close(br.grad(lambda x: np.sum(br.vmap(looped(6))(x)))(lanes), expected, rtol=1e-9)
    close(br.jvp(br.vmap(looped(6)), (lanes,), (np.ones(3),))[1], expected, rtol=1e-9)
    mapped = lambda x: np.sum(br.checkpoint_loop(lambda i, s: br.vmap(partial(logistic, i))(s), 6, x))  # noqa: E731
    close(br.grad(mapped)(lanes), expected, rtol=1e-9)
    # the first state is the same for all lanes, what the step captures is not
    power = lambda w: br.checkpoint_loop(lambda i, s: s * w, 5, 1.0)  # noqa: E731
    close(br.vmap(power)(lanes), lanes**5)
    close(br.vmap(br.grad(power))(lanes), 5 * lanes**4)
    close(br.grad(lambda w: np.sum(br.vmap(power)(w)))(lanes), 5 * lanes**4)


def test_what_a_step_captures_is_differentiated():
    def f(w, x):
        return np.sum(br.checkpoint_loop(lambda i, s: np.tanh(w @ s + i), 6, x))

    def plain(w, x):
        for i in range(6):
            x = np.tanh(w @ x + i)
        return np.sum(x)

    for argnums in (0, 1):
        expected = br.grad(plain, argnums)(W, X)
        close(br.grad(f, argnums)(W, X), expected, rtol=1e-9, atol=1e-14)
        close(br.jacfwd(f, argnums)(W, X), expected, rtol=1e-9, atol=1e-14)
        close(br.vmap(br.grad(f, argnums), in_axes=(0, None))(W[None], X)[0], expected, rtol=1e-9, atol=1e-14)
    close(br.hessian(lambda w: f(w, X))(W), br.hessian(lambda w: plain(w, X))(W), rtol=1e-6, atol=1e-12)
    close(
        br.grad(lambda w: br.jvp(lambda x: f(w, x), (X,), (X,))[1])(W),
        br.grad(lambda w: br.jvp(lambda x: plain(w, x), (X,), (X,))[1])(W),
        rtol=1e-9,
        atol=1e-14,
    )


def test_states_are_trees_and_may_be_written():
    def body(i, state):
        state["x"][1:] += 0.1 * state["x"][:-1]
        state["count"] = state["count"] + 1
        return {**state, "sum": state["sum"] + np.sum(np.sin(state["x"]))}

    def f(x):
        start = {"x": x, "sum": 0.0, "count": 0}
        end = br.checkpoint_loop(body, 5, start)
        assert end["count"] == 5
        return end["sum"]

    def plain(x):
        state = {"x": x.copy(), "sum": 0.0, "count": 0}
        for i in range(5):
            state = body(i, state)
        return state["sum"]

    x = X.copy()
    close(f(x), plain(x))
    close(x, X)
    close(br.grad(f)(x), br.grad(plain)(x), rtol=1e-9)
    close(br.jacfwd(f)(x), br.grad(plain)(x), rtol=1e-9)
    close(x, X)


@lru_cache(None)
def fewest_evaluations(n, states):
    """Steps run without being recorded, by trying every place for the next state."""
    if n <= 1:
        return 0
    if states == 1:
        return n * (n - 1) // 2
    return min(m + fewest_evaluations(n - m, states - 1) + fewest_evaluations(m, states) for m in range(1, n))


def griewank(n, states):
    """The known formula for the same."""
    repeats = 0
    while comb(states + repeats, states) < n:
        repeats += 1
    return repeats * n - comb(states + repeats, repeats - 1) if repeats else 0


def evaluations(n, states):
    """How many steps a gradient runs."""
    runs = []

    def body(i, x):
        runs.append(i)
        return 0.9 * x

    br.grad(lambda x: br.checkpoint_loop(body, n, x, states))(1.0)
    return len(runs)


@pytest.mark.parametrize("states", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 12, 20, 35])
def test_the_schedule_needs_the_fewest_evaluations(n, states):
    assert fewest_evaluations(n, states) == griewank(n, states)
    # every step is recorded once, and the last one also runs for the value
    assert evaluations(n, states) == fewest_evaluations(n, states) + n + 1


def test_steps_to_the_next_state_are_steps():
    assert all(1 <= steps_to_next_state(n, s) < n for n in range(2, 60) for s in range(1, 8))


def test_evaluations_grow_like_n_log_n_and_states_like_log_n():
    for n in (64, 512):
        assert evaluations(n, None) <= n * (np.log2(n) + 2)


@pytest.mark.parametrize(("n", "states", "most"), [(256, None, 9), (256, 3, 3), (64, 1, 1), (400, 6, 6)])
def test_memory_of_a_loop(n, states, most):
    size = 50_000
    x = np.linspace(0.1, 0.9, size)
    used = peak(lambda: br.grad(lambda x: np.sum(br.checkpoint_loop(lambda i, s: 0.99 * s, n, x, states)))(x))
    # the states kept, and a few arrays at work: the state underway, the cotangent, what a step needs
    assert used < (most + 6) * 8 * size


def test_a_long_loop_of_writes():
    def f(x):
        def body(i, buffer):
            buffer[i + 1] = np.sin(buffer[i]) + x
            return buffer

        return br.checkpoint_loop(body, 30, np.zeros(31))[-1]

    def plain(x):
        buffer = np.zeros(31)
        for i in range(30):
            buffer[i + 1] = np.sin(buffer[i]) + x
        return buffer[-1]

    close(br.value_and_grad(f)(0.4), br.value_and_grad(plain)(0.4), rtol=1e-9)


def test_a_pullback_through_a_loop_can_be_used_again():
    value, pullback = br.vjp(looped(9), 0.3)
    close(value, unrolled(9)(0.3))
    expected = br.grad(unrolled(9))(0.3)
    close([pullback(1.0)[0], pullback(2.0)[0]], [expected, 2 * expected], rtol=1e-9)
    close(br.vmap(lambda ct: pullback(ct)[0])(X), expected * X, rtol=1e-9)


def test_a_loop_without_derivatives():
    assert br.checkpoint_loop(lambda i, s: s + i, 4, 1) == 7
    close(br.grad(lambda x: br.no_grad(looped(3))(x) * x)(0.3), unrolled(3)(0.3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: br.checkpoint_loop(logistic, 4, x, states=0), ValueError, "states=0, but at least one"),
        (lambda x: br.checkpoint_loop(lambda i, s: (s, s), 2, x), TypeError, "step 0 turns a state of structure"),
        (
            lambda x: br.checkpoint_loop(lambda i, s: (s[0] * x, s[1]), 2, (1, x))[0],
            TypeError,
            r"step 0 makes floats of integers in state\[0\]",
        ),
    ],
    ids=["states", "structure", "integers"],
)
def test_loops_that_are_refused(call, error, message):
    with pytest.raises(error, match=rf"br.checkpoint_loop: {message}"):
        br.grad(call)(0.3)
