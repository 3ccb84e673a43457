"""Loops keep small frames in arrays: of which loops, and that gradients are those of eager mode."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

Program = Callable[..., Any]
X = np.random.default_rng(0).uniform(0.5, 1.5, 12)


def recurrence(x: Any) -> Any:
    s, most = 0.3, 0.0
    for v in x:
        s = np.sin(s * v) + v
        if s > 1.2:
            s = s * 0.5
        most = max(most, s)
    return s * most


def down(x: Any) -> Any:
    y = x.copy()
    for i in range(len(x) - 2, -1, -1):
        y[i] = np.tanh(y[i] * y[i + 1])
    for i in range(1, len(x)):
        y[i] = y[i] * y[i - 1] + x[i]
    return y.sum()


def small_vectors(x: Any) -> Any:
    state = np.array([1.0, 0.5, 0.2])
    for v in x:
        state = state + 0.1 * np.array([state[1] * v, -np.sin(state[0]), state[0] * state[2]])
    return state @ state


def triangle(x: Any) -> Any:
    s = 0.0
    for i in range(len(x)):
        t = 1.0
        for j in range(i):
            t = np.sin(t * x[j]) + x[i]
        s += t * t
    return s


def square(x: Any) -> Any:
    s = 0.1
    for i in range(len(x)):
        for j in range(5):
            s = np.cos(s * x[i]) + x[j]
    return s


def counted(x: Any) -> Any:
    s = 0.5
    for _ in range(int(x[0] * 3)):
        s = np.sin(s * x[1]) + s
    return s


def while_in_for(x: Any) -> Any:
    s = 0.0
    for v in x:
        t = v
        while t < 3.0:
            t = t * (1.0 + 0.5 * np.sin(v))
        s += t
    return s


def newton(x: Any) -> Any:
    y = 1.0
    for v in x:
        y = y - 0.1 * br.grad(lambda z, v=v: recurrence(np.array([z, v, z * v])))(y)
    return y


PROGRAMS = [recurrence, down, small_vectors, triangle, square, counted, while_in_for, newton]


@pytest.mark.parametrize("f", PROGRAMS)
def test_gradients_are_those_of_eager_mode(f: Program) -> None:
    compiled = br.jit(br.value_and_grad(f), backend="native")
    for x in (X, X[::-1].copy(), X * 0.9):
        value, slope = compiled(x)
        np.testing.assert_allclose(value, f(x), rtol=1e-12)
        np.testing.assert_allclose(slope, br.grad(f)(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("f", [recurrence, down, small_vectors, triangle, square])
def test_further_derivatives(f: Program) -> None:
    direction = np.cos(np.arange(12.0))
    for derived in (
        lambda x: br.hvp(f, (x,), (direction,)),
        lambda x: br.grad(lambda y: br.grad(f)(y) @ direction)(x),
        lambda x: br.vmap(br.grad(f))(np.stack([x, 1.1 * x])),
    ):
        np.testing.assert_allclose(br.jit(derived, backend="native")(X), derived(X), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("f", [recurrence, down, small_vectors, counted])
def test_nothing_goes_to_the_tape(f: Program) -> None:
    assert "tape" not in br.jit(br.grad(f), backend="native").lower(X).loops


def test_an_inner_loop_puts_its_arrays_on_the_tape_at_once() -> None:
    loops = br.jit(br.grad(triangle), backend="native").lower(X).loops
    inner = [line for line in loops.splitlines() if line.startswith(" " * 12)]
    assert not any("reserve" in line for line in inner)


def test_no_steps() -> None:
    compiled = br.jit(br.grad(counted), backend="native")
    np.testing.assert_array_equal(compiled(np.array([0.1, 2.0])), [0.0, 0.0])
    np.testing.assert_allclose(compiled(X), br.grad(counted)(X))


def test_a_way_back_that_is_another_program() -> None:
    compiled = br.jit(recurrence, backend="native")
    np.testing.assert_allclose(br.grad(compiled)(X), br.grad(recurrence)(X), rtol=1e-10)
    np.testing.assert_allclose(br.grad(compiled)(2 * X), br.grad(recurrence)(2 * X), rtol=1e-10)


def with_parameters(p: Any) -> Any:
    s = 0.1
    for i in range(40):
        s = np.sin(p[0] * s) + p[1 + i % 3] * p[4]
    return s


def at_a_place_of_the_outer_loop(p: Any) -> Any:
    s = 0.0
    for i in range(5):
        for j in range(i):
            s = s + np.sin(p[i + j] * p[i])
    return s


def while_it_goes(p: Any) -> Any:
    s = p[1]
    while s < 30.0:
        s = s * (1.0 + p[0]) + p[2]
    return s


def never(p: Any) -> Any:
    n = int(p[0] * 0.1)
    s = p[1]
    for _ in range(n):
        s = s * p[100]
    return s


@pytest.mark.parametrize("f", [with_parameters, at_a_place_of_the_outer_loop, while_it_goes, never])
def test_what_all_steps_add_to_one_element(f: Program) -> None:
    compiled = br.jit(br.grad(f), backend="native")
    np.testing.assert_allclose(compiled(X), br.grad(f)(X), rtol=1e-10, atol=1e-14)


def test_steps_do_not_wait_for_the_sum_of_the_last_one() -> None:
    loops = br.jit(br.grad(with_parameters), backend="native").lower(X).loops
    inside = [line for line in loops.splitlines() if line.startswith(" " * 8) and "o0[0]" in line]
    assert not inside


def test_an_element_beyond_an_array_that_no_step_reads() -> None:
    compiled = br.jit(br.grad(never), backend="native")
    compiled(X)
    with pytest.raises(IndexError):
        compiled(np.array([30.0, 1.0]))
