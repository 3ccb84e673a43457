"""Lengths that depend on values: masks, positions of what is not zero, unique values, staged once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br

Program = Callable[[Any], Any]

RNG = np.random.default_rng(0)
CALLS = [RNG.normal(size=8) for _ in range(5)]


def total(x):
    return x[x > 0].sum()


def mean_and_largest(x):
    y = x[x > 0]
    return y.mean() + y.max() * len(y) + y.size


def loop_over_chosen(x):
    s = 0.0
    for v in x[x > 0]:
        s += v * v
    return s


def sorted_and_reversed(x):
    return np.sort(x[x > -10])[::-1].sum() + x[x > 0][::-1].sum()


def products(x):
    y = x[x > 0]
    return y @ y + np.linalg.norm(y) + y.std()


def written_masks(x):
    y, m = np.zeros(8), x > 0
    y[m] = np.exp(x[m])
    y[~m] = -x[~m]
    y[m] *= 2
    y[(x < 1) & m] += 1.0
    return (y * np.arange(8)).sum()


def written_positions(x):
    y, i = np.array(x), np.flatnonzero(x > 0)
    y[i] *= 2
    y[i[0]] += 1
    return (y**2).sum()


def masks_of_a_loop(x):
    s = 0.0
    for k in range(10):
        s += x[x > 0.1 * k].sum() * k
    return s


def matrices(x):
    a = x.reshape(2, 4)
    i, j = np.where(a > 0)
    rows = np.argwhere(a > 0)
    return a[i, j].sum() + (rows[:, 1] * a[a > 0]).sum() + a[a.sum(1) > -100].sum() + a[:, a[0] > 0].sum()


def unique_values(x):
    u, index, inverse, counts = np.unique(np.round(x), True, True, True)
    return (u * counts).sum() + (u[inverse] * x).sum() + x[index].sum()


def compressed(x):
    return np.compress(x > 0, x).sum() + np.extract(x > 0, x).sum()


PROGRAMS: list[Program] = [
    total, mean_and_largest, loop_over_chosen, sorted_and_reversed, products, written_masks, written_positions,
    masks_of_a_loop, matrices, unique_values, compressed,
]  # fmt: skip


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", ["interpreter", "native"])
@pytest.mark.parametrize("f", PROGRAMS)
def test_one_graph_serves_every_length(f: Program, backend: str) -> None:
    g = br.jit(f, backend=backend)
    for x in CALLS:
        close(g(x), f(x))
    assert (g.stats().stagings, g.stats().eager) == (1, 0), g.stats().reasons


@pytest.mark.parametrize("backend", ["interpreter", "native"])
@pytest.mark.parametrize("f", PROGRAMS)
def test_gradients(f: Program, backend: str) -> None:
    outside, inside = br.jit(br.grad(f), backend=backend), br.grad(br.jit(f, backend=backend))
    for x in CALLS:
        expected = br.grad(f)(x)
        close(outside(x), expected)
        close(inside(x), expected)
    assert not outside.stats().eager, outside.stats().reasons


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_positions_are_results(backend: str) -> None:
    def f(x):
        (i,) = np.nonzero(x > 0)
        return x[i] * 2, i, np.argwhere(x.reshape(2, 4) > 0), np.unique(np.round(x), return_counts=True)

    g = br.jit(f, backend=backend)
    for x in (*CALLS, -np.ones(8), np.ones(8)):
        for a, b in zip(br.tree.leaves(g(x)), br.tree.leaves(f(x)), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
    assert g.stats().stagings == 1


def test_what_cannot_be_done_for_every_length_is_done_for_each() -> None:
    def f(x):
        return np.median(x[x > 0]) + np.concatenate([x[x > 0], x[x <= 0]]) @ np.arange(8.0)

    g = br.jit(f)
    lengths = {int((x > 0).sum()) for x in CALLS}
    for x in (*CALLS, *CALLS):
        close(g(x), f(x))
    assert g.stats().stagings == len(lengths)
    assert not g.stats().eager


def test_errors_of_empty_selections() -> None:
    g = br.jit(lambda x: x[x > 0].max())
    assert g(np.arange(3.0)) == 2.0
    with pytest.raises(ValueError, match="zero-size array to reduction operation maximum which has no identity"):
        g(np.zeros(3))


@pytest.mark.parametrize("transform", [br.grad, br.jit, lambda f: br.jit(br.grad(f))])
@pytest.mark.parametrize(
    ("f", "axis", "size", "own"),
    [
        (lambda x: np.sum(x[np.array([True, False])]), 0, 3, 2),
        (lambda x: np.sum(x[(x > 0)[:2]]), 0, 3, 2),
        (lambda x: np.sum(np.outer(x, x)[..., (x > 0)[1:]]), 1, 3, 2),
        (lambda x: np.sum(np.outer(x, x)[None, np.ones((3, 4), bool)] * x[0]), 1, 3, 4),
    ],
)
def test_masks_of_another_length(transform: Any, f: Program, axis: int, size: int, own: int) -> None:
    message = (
        f"boolean index did not match indexed array along axis {axis}; size of axis is {size} but size of "
        f"corresponding boolean axis is {own}"
    )
    for g in (f, transform(f)):
        with pytest.raises(IndexError, match=message):
            g(np.arange(3.0))


def test_a_mask_of_another_length_is_not_written_to() -> None:
    def f(x):
        x[(x > 0)[:2]] = np.arange(2.0)

    for g in (f, br.jit(f)):
        with pytest.raises(IndexError, match="boolean index did not match"):
            g(np.ones(3))


def test_lanes_may_not_differ_in_length() -> None:
    for g in (br.vmap(total), br.vmap(br.jit(lambda x: x[x > 0]))):
        with pytest.raises(br.TracedConditionError, match="differs between the lanes"):
            g(np.stack(CALLS))


# ----------------------------------------------------------------------------------------------- bounds of slices


SLICES: list[Program] = [
    lambda x: x[:5] * 2, lambda x: x[::2] * 2, lambda x: x[::-1] * 2, lambda x: x[1:-1] * 2, lambda x: x[-3:] * 2,
    lambda x: x[3::-1] * 2, lambda x: x[-2:1:-1] * 2, lambda x: x[::-2] * 2, lambda x: np.float64(len(x[:5])),
    lambda x: np.float64(len(x[-4:])), lambda x: np.float64(len(x[3::-1])), lambda x: x[x > 2][:2] * 2,
    lambda x: np.float64(len(x[x > 2][:-1])), lambda x: np.float64(len(x[::3])),
]  # fmt: skip


@pytest.mark.parametrize("backend", ["interpreter", "native"])
@pytest.mark.parametrize("f", SLICES)
def test_slices_of_arrays_that_may_be_shorter(f: Program, backend: str) -> None:
    g = br.jit(f, backend=backend, dynamic=True)
    for n in (10, 3, 7, 2, 1, 12):
        found, expected = g(np.arange(float(n))), f(np.arange(float(n)))
        np.testing.assert_array_equal(found, expected)
    assert not g.stats().eager


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_bounds_of_slices_that_go_back(backend: str) -> None:
    def f(x, n):
        return x[n::-1] * 1.0, len(x[n:0:-1]), x[-1:n:-2].sum(), x[:n:-1].sum(), x[-2:n:-1].sum()

    g, x = br.jit(f, backend=backend), np.arange(8.0)
    for n in (3, 5, 2, 0, 7, -1, 9):
        for a, b in zip(g(x, n), f(x, n), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_loop_over_slices_that_go_back_stays_a_loop() -> None:
    def f(x):
        s = 0.0
        for i in range(1, len(x)):
            s += x[i::-1] @ x[: i + 1]
        return s

    x = RNG.normal(size=20)
    close(br.jit(f)(x), f(x))
    close(br.grad(br.jit(f))(x), br.grad(f)(x))
    assert br.make_graph(f)(x).size() == br.make_graph(f)(x[:9]).size()
