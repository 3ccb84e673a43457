"""Slices whose step the program computes: `x[a:b:k]` read, written and differentiated as Python's `slice` says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bindrune as br

BACKENDS = pytest.mark.parametrize("backend", ["interpreter", "native"])
RNG = np.random.default_rng(5)

Program = Callable[..., Any]


def same(found: Any, expected: Any) -> None:
    for a, b in zip(br.tree.leaves(found), br.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def sieve(n):
    s = np.ones(n, np.bool_)
    s[:2] = False
    i = 2
    while i * i < n:
        if s[i]:
            s[i * i :: i] = False
        i += 1
    return s


def marked(n):
    s = np.ones(n)
    for i in range(2, n):
        for j in range(i * i, n, i):
            s[j] = 0.0
    return s


@BACKENDS
@pytest.mark.parametrize("f", [sieve, marked])
def test_sieves(f: Program, backend: str) -> None:
    g = br.jit(f, backend=backend)
    for n in (2, 3, 4, 30, 100):
        np.testing.assert_array_equal(g(n), f(n))
    assert not g.stats().eager
    assert br.make_graph(f)(100).size() == br.make_graph(f)(1000).size()
    report = str(g.explain(100))
    assert "left to Python" not in report
    assert "NumPy" not in report


# ------------------------------------------------------------------------------------------ as Python's slices are

PATTERNS: list[Program] = [
    lambda x, a, b, k: x[a:b:k], lambda x, a, b, k: x[a::k], lambda x, a, b, k: x[:b:k], lambda x, a, b, k: x[::k],
    lambda x, a, b, k: x[a:b:2], lambda x, a, b, k: x[a::3], lambda x, a, b, k: x[:b:-2], lambda x, a, b, k: x[-3:b:k],
    lambda x, a, b, k: x[a : 10**30 : k], lambda x, a, b, k: x[a : b : 10**30], lambda x, a, b, k: x[a : -(9**30) : -3],
]  # fmt: skip
"""Which of the three are given."""


@BACKENDS
@pytest.mark.parametrize("pattern", range(len(PATTERNS)))
def test_every_slice_is_pythons(pattern: int, backend: str) -> None:
    choose = PATTERNS[pattern]
    read = br.jit(lambda x, a, b, k: choose(x, a, b, k) * 2, backend=backend)
    for n in (5, 1, 0):
        x = np.arange(float(n))
        for a, b, k in itertools.product((-7, -5, -1, 0, 2, 4, 5, 9), (-6, -2, 0, 3, 5, 8), (-6, -2, -1, 1, 2, 7)):
            np.testing.assert_array_equal(read(x, a, b, k), choose(x, a, b, k) * 2)
    assert (read.stats().stagings, read.stats().eager) == (3, 0), read.stats().reasons


def read_and_written(x, u, a, b, k):
    x[a:b:k] = 2 * x[a:b:k] + 1
    x[b:a:k] *= 3
    np.add.at(x, slice(a, None, k), 0.5)
    x[::k] = u[::k]
    y = x[a::k]
    y -= 1
    y[...] = y * y
    return x, x[::-k].sum() + u[b::k] @ x[b::k]


def several_axes(x, u, a, b, k):
    m = x.reshape(3, -1)
    m[a::k, b::2] += 1
    m[1, b::k] = 5.0
    m[::k, np.array([0, 1, 0])] *= 2
    return m[::-k, a:b:k] * 2, m[:, a::k].T @ m[:, a::k], m[None, ..., ::k].sum(0), m[np.array([2, 0]), ::k]


def in_a_loop(x, u, a, b, k):
    total = 0.0
    for i in range(1, len(x)):
        x[i * i :: i] += x[i] * 0.1
        x[:: -i - 1] *= 0.9
        total += x[i : 2 * i * i : i].sum() * u[i] + x[abs(a) :: i] @ x[abs(a) :: i]
    return x, total


def with_a_branch(x, u, a, b, k):
    for i in range(1, 6):
        if x[i] > 0:
            x[i::i] = u[i::i] * x[i]
        else:
            x[-1:i:-i] += 1
    return x


def nested_loops(x, u, a, b, k):
    total = 0.0
    for i in range(1, 6):
        for j in range(i, 6):
            total += x[j::i].sum() * u[i]
            x[j::i] *= 0.95
    return total, x


PROGRAMS: list[Program] = [read_and_written, several_axes, in_a_loop, with_a_branch, nested_loops]
CALLS = [(1, 9, 2), (0, -1, 3), (-5, 4, -1), (7, 2, -3), (30, -30, 1), (2, 2, 12)]
X, U = RNG.normal(size=12), RNG.normal(size=12)


@BACKENDS
@pytest.mark.parametrize("f", PROGRAMS)
def test_programs(f: Program, backend: str) -> None:
    g = br.jit(f, backend=backend)
    for call in CALLS:
        same(g(X.copy(), U, *call), f(X.copy(), U, *call))
    assert not g.stats().eager, g.stats().reasons


def value(f: Program) -> Program:
    """The program as one of its arrays' values, which it leaves alone."""

    def total(x, u, *numbers):
        return sum(np.sum(np.cos(v)) for v in br.tree.leaves(f(x.copy(), u, *numbers)))

    return total


def along(f: Program) -> Program:
    """The derivative of a program along a direction, by forward mode."""

    def slope(x, u, *numbers):
        return br.jvp(lambda x, u: f(x, u, *numbers), (x, u), (np.cos(x), np.sin(u)))[1]

    return slope


@BACKENDS
@pytest.mark.parametrize("f", PROGRAMS)
def test_derivatives(f: Program, backend: str) -> None:
    h = value(f)
    programs = [br.jit(br.grad(h, (0, 1)), backend=backend), br.grad(br.jit(h, backend=backend), (0, 1))]
    for call in CALLS[:4]:
        expected = br.grad(h, (0, 1))(X, U, *call)
        for g in programs:
            same(g(X, U, *call), expected)
        slope = expected[0] @ np.cos(X) + expected[1] @ np.sin(U)
        same(along(br.jit(h, backend=backend))(X, U, *call), slope)
        same(br.jit(along(h), backend=backend)(X, U, *call), slope)
    assert not programs[0].stats().eager, programs[0].stats().reasons


@BACKENDS
@pytest.mark.parametrize("f", PROGRAMS)
def test_lanes(f: Program, backend: str) -> None:
    x, u = RNG.normal(size=(2, 3, 12))
    axes = (0, 0, None, None, None)
    programs = [
        br.jit(br.vmap(f, axes), backend=backend),
        br.vmap(br.jit(f, backend=backend), axes),
        br.jit(br.vmap(br.grad(value(f)), axes), backend=backend),
    ]
    for call in CALLS[:4]:
        expected = [f(a.copy(), b, *call) for a, b in zip(x, u, strict=True)]
        slopes = [br.grad(value(f))(a, b, *call) for a, b in zip(x, u, strict=True)]
        for g in programs[:2]:
            found = br.tree.leaves(g(x.copy(), u, *call))
            for i, one in enumerate(expected):
                same([v[i] for v in found], br.tree.leaves(one))
        same(programs[2](x.copy(), u, *call), np.stack(slopes))


# ------------------------------------------------------------------------------------------------ drawn at random

NUMBERS = st.integers(-9, 9)
MAYBE = st.one_of(st.none(), NUMBERS)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 7),
    slices=st.lists(st.tuples(MAYBE, MAYBE, NUMBERS.filter(bool)), min_size=2, max_size=2),
    backend=st.sampled_from(["interpreter", "native"]),
)
def test_random_slices(n: int, slices: Any, backend: str) -> None:
    given = [v for s in slices for v in s if v is not None]
    (a, b, c), (d, e, g) = [[v is not None for v in s] for s in slices]

    def f(x, *numbers):
        left = iter(numbers)
        rows, columns = (slice(*(next(left) if there else None for there in part)) for part in ((a, b, c), (d, e, g)))
        x = x * 1.0
        x[rows, columns] = np.sin(x[rows, columns]) + 1
        x[rows] *= 2
        x[:, columns] += x[:, columns]
        return (x * x).sum(), x[rows, columns]

    x = np.arange(5.0 * n).reshape(n, 5)
    same(br.jit(f, backend=backend)(x, *given), f(x, *given))
    slope = br.jit(br.grad(lambda x, *numbers: f(x, *numbers)[0]), backend=backend)
    expected = br.grad(lambda x: f(x, *given)[0])(x)
    same(slope(x, *given), expected)
    direction = np.cos(x)
    _, out = br.jit(lambda x, *numbers: br.jvp(lambda x: f(x, *numbers)[0], (x,), (np.cos(x),)), backend=backend)(
        x, *given
    )
    same(out, (expected * direction).sum())
    lanes = np.stack([x, -x])
    mapped = br.jit(br.vmap(f, in_axes=(0, *(None for _ in given))), backend=backend)(lanes, *given)
    for i in range(2):
        same([v[i] for v in br.tree.leaves(mapped)], br.tree.leaves(f(lanes[i], *given)))


# ----------------------------------------------------------------------------------------------------- steps of zero


@BACKENDS
def test_a_step_of_zero(backend: str) -> None:
    def read(x, k):
        return x[1::k] * 2

    def write(x, k):
        for i in range(6):
            x[::k] += x[i]
            k = k - 1
        return x

    for f, k in ((read, 0), (write, 3)):
        g = br.jit(f, backend=backend)
        same(g(np.ones(6), 9), f(np.ones(6), 9))
        with pytest.raises(ValueError, match=r"^slice step cannot be zero$") as caught:
            g(np.ones(6), k)
        assert f.__code__ in [entry.frame.code.raw for entry in caught.traceback]
        assert g.stats().stagings == 1, g.stats().reasons


@BACKENDS
def test_a_step_of_zero_that_is_not_reached(backend: str) -> None:
    def f(x, k):
        if k > 0:
            x[::k] = 0.0
        return x

    g = br.jit(f, backend=backend)
    for k in (2, 0, 1):
        same(g(np.ones(6), k), f(np.ones(6), k))
    assert not g.stats().eager


# --------------------------------------------------------------------------------------------- what bounds may be


@BACKENDS
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_integers_of_arrays(dtype: str, backend: str) -> None:
    def f(x, u):
        return x[u[0] : u[1]].sum(), x[u[0] : u[1] : u[2]] * 2, x[u[1] : u[0] : -u[2].astype(int)].sum()

    x = np.arange(300.0)
    g = br.jit(f, backend=backend)
    for u in ([2, 100, 3], [3, 3, 100], [0, 127, 1], [50, 60, 127]):
        given = np.array(u, dtype)
        same(g(x, given), f(x, given))
    assert not g.stats().eager, g.stats().reasons


@BACKENDS
def test_steps_that_leave_every_array(backend: str) -> None:
    def f(x, k):
        return x[2::k] * 2, x[-1::-k] * 2, x[k::k] * 2, x[:k:k] * 2

    g = br.jit(f, backend=backend)
    for k in (1, 4, 2**31, 2**62, 2**63 - 1, -(2**62), -(2**63) + 1):
        same(g(np.arange(5.0), k), f(np.arange(5.0), k))
        same(g(np.arange(5.0), np.int64(k)), f(np.arange(5.0), np.int64(k)))


@BACKENDS
def test_arrays_of_any_length(backend: str) -> None:
    def f(x, k):
        y = x[::2] * 1.0
        y[::k] += x[1::k][0]
        return y, x[::-2].sum() + x[1:-1:3] @ x[1:-1:3], x[x > 3][::2] * 1.0

    g = br.jit(f, backend=backend, dynamic=True)
    for n, k in ((9, 2), (4, 3), (7, -1), (12, 5)):
        same(g(np.arange(float(n)), k), f(np.arange(float(n)), k))
    assert (g.stats().stagings, g.stats().eager) == (1, 0), g.stats().reasons


@BACKENDS
def test_arrays_that_may_not_be_combined(backend: str) -> None:
    g = br.jit(lambda x, j, k: x[::j] + x[::k], backend=backend)
    same(g(np.arange(6.0), 2, 2), np.arange(6.0)[::2] * 2)
    same(g(np.arange(6.0), 1, 9), np.arange(6.0))
    with pytest.raises(ValueError, match="could not be broadcast together"):
        g(np.arange(6.0), 2, 3)


@BACKENDS
def test_views_are_written_through(backend: str) -> None:
    def f(x, a, k):
        y = x[a::k]
        y[0] = 10.0
        z = y[1:]
        z *= 2
        z[0] += y[0]
        for i in range(3):
            y = x[i::k]
            y[-1] += i
        return x, y.sum()

    g = br.jit(f, backend=backend)
    for a, k in ((1, 2), (0, 3), (7, -2)):
        same(g(np.arange(8.0), a, k), f(np.arange(8.0), a, k))
