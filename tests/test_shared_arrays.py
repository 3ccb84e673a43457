"""Arrays that several variables share: staged, a write through one shows in the others, as it does in Python."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br

X, Y = np.arange(1.0, 4.0), np.arange(5.0, 8.0)


def agree(f: Callable[..., Any], *arguments: Any) -> Any:
    """Compare a function with itself staged, what it writes to its arguments included: exactly, and as machine code."""
    staged, compiled = br.jit(f, backend="interpreter"), br.jit(f, backend="native")
    for g, rounding in ((staged, 0.0), (staged, 0.0), (compiled, 1e-15)):
        plain, given = copy.deepcopy(arguments), copy.deepcopy(arguments)
        np.testing.assert_allclose(g(*given), f(*plain), rtol=rounding)
        for one, other in zip(given, plain, strict=True):
            np.testing.assert_allclose(one, other, rtol=rounding)
    return staged


def loops(f: Callable[..., Any], *arguments: Any) -> bool:
    """Whether the outermost statement of a function is staged as a loop."""
    return any(node.op.name in ("loop", "while_") for node in br.make_graph(f)(*arguments).nodes)


# ---------------------------------------------------------------------------- buffers that change places stay loops


def relaxed(x, y, n):
    u, v = x.copy(), y.copy()
    for _ in range(n):
        v[:-1] = 0.5 * (u[1:] + v[:-1])
        u, v = v, u
    return u - v


def relaxed_in_a_list(x, y, n):
    buffers = [x.copy(), 2 * y]
    for _ in range(n):
        buffers[0][1:] = 0.5 * buffers[1][:-1]
        buffers[0], buffers[1] = buffers[1], buffers[0]
    return buffers[0] - buffers[1]


def relaxed_by_elements(x, y, n):
    u, v = x.copy(), np.zeros_like(y)
    for _ in range(n):
        for _ in range(n + 2):
            for i in range(1, len(u)):
                v[i] = 0.5 * (u[i] + u[i - 1])
            u, v = v, u
        u = 1.1 * u
    return u


def relaxed_until(x, y, n):
    u, v = x.copy(), np.zeros_like(y)
    while np.sum(u) > n:
        for i in range(1, len(u)):
            v[i] = 0.5 * (u[i] + u[i - 1])
        u, v = v, u
    return u


def swapped_on_a_condition(x, y, n):
    a, b = x.copy(), np.cos(y)
    for i in range(n):
        if x[i % 3] > 1.5:
            a, b = b, a
        elif b[0] > 0.1:
            b = np.sin(a)
        else:
            a[i % 3] = 5.0
        b[0] *= 0.5
    return a + 2 * b


@pytest.mark.parametrize("n", [2, 5, 6])
@pytest.mark.parametrize("f", [relaxed, relaxed_in_a_list, relaxed_by_elements, relaxed_until, swapped_on_a_condition])
def test_buffers_that_change_places(f: Callable[..., Any], n: int) -> None:
    agree(f, X, Y, n)
    assert loops(f, X, Y, n)


def test_gradient_through_buffers_that_change_places() -> None:
    def loss(x):
        return np.sum(relaxed_by_elements(x, Y, 3) ** 2)

    expected = br.grad(loss)(X)
    np.testing.assert_allclose(br.grad(br.jit(loss))(X), expected, rtol=1e-12)
    np.testing.assert_allclose(br.jit(br.grad(loss))(X), expected, rtol=1e-12)


# ------------------------------------------------------------------------ what cannot be told apart is left to Python


def first_step_writes_the_argument(x, y, n):
    u = x
    for _ in range(n):
        u[0] = 1.0
        u = 2 * u
    return u


def arguments_change_places(x, y, n):
    u, v = x, y
    for _ in range(n):
        v[:-1] = 0.5 * (u[1:] + v[:-1])
        u, v = v, u
    return u


def one_buffer_by_two_names(x, y, n):
    u = x.copy()
    v = u
    for _ in range(n):
        v[:-1] = 0.5 * (u[1:] + v[:-1])
        u, v = v, u
    return u


def a_buffer_that_is_read_afterwards(x, y, n):
    u, v = x.copy(), y.copy()
    kept = u
    for _ in range(n):
        v[:-1] = 0.5 * (u[1:] + v[:-1])
        u, v = v, u
    return u + kept


def a_view_is_written(x, y, n):
    u = x.copy()
    rest = u[1:]
    for _ in range(n):
        rest[0] += 1
        u = u + 1
    return u + rest[0]


def written_after_it_was_another(x, y, n):
    u, w = x.copy(), 3 * y
    for _ in range(n):
        u[0] += 5
        u = w
    return u + w


def rotated_arguments(x, y, n):
    for _ in range(n):
        t = x
        x = y
        y = t
        x[0] += 1
    return 2 * x + y


def the_best_is_written_later(x, y, n):
    best = x
    for _ in range(n):
        y = 0.9 * y
        if y.sum() < 8:
            best = y
    best[0] = 3.0
    return best + x + y


def the_best_goes_on(x, y, n):
    best = x.copy()
    for _ in range(n):
        x -= 0.1
        if x[0] > 0.5:
            best = x
    return best


def either_argument_is_written(x, y, n):
    u = x if n > 3 else y
    u[0] = 100.0
    return u + 0


def an_argument_is_written_that_was_chosen(x, y, n):
    if n > 3:
        u = x
    else:
        u = y
    x[0] = 50.0
    return u + 0


def written_on_one_side(x, y, n):
    u = 2 * x
    if n > 3:
        u[0] = 7.0
        y = u
    return u + y


@pytest.mark.parametrize("n", [1, 5, 6])
@pytest.mark.parametrize(
    "f",
    [
        first_step_writes_the_argument,
        arguments_change_places,
        one_buffer_by_two_names,
        a_buffer_that_is_read_afterwards,
        a_view_is_written,
        written_after_it_was_another,
        rotated_arguments,
        the_best_is_written_later,
        the_best_goes_on,
        either_argument_is_written,
        an_argument_is_written_that_was_chosen,
        written_on_one_side,
    ],
)
def test_a_write_shows_wherever_it_shows_in_python(f: Callable[..., Any], n: int) -> None:
    assert not agree(f, X, Y, n).stats().eager
