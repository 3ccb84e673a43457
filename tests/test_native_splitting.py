"""Loops that read an element of a row which they write: machine code does what Python does, step by step."""

from __future__ import annotations

import linecache

import numpy as np
import pytest

import bindrune as br
from bindrune.backends.native.executable import compile_graph
from bindrune.graph.passes.optimize import optimize
from expect import close

N = 40


def loops_of(f, *arguments):
    """The loop program of a function."""
    graph = br.make_graph(f)(*arguments)
    return compile_graph(optimize(graph))._program


def parts(f, *arguments):
    """How many loops there are."""
    return str(loops_of(f, *arguments)).count("for s")


def matrix(n=N, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n)) + 3 * np.eye(n)


def agree(f, *arguments, **options):
    compiled = br.jit(f, backend="native", **options)
    found = compiled(*[a.copy() if isinstance(a, np.ndarray) else a for a in arguments])
    close(found, f(*[a.copy() if isinstance(a, np.ndarray) else a for a in arguments]))
    assert compiled.stats().eager == 0


def shortest(d):
    d = d.copy()
    n = len(d)
    for k in range(n):
        for i in range(n):
            for j in range(n):
                d[i, j] = min(d[i, j], d[i, k] + d[k, j])
    return d


def test_shortest_paths():
    d = np.random.default_rng(1).uniform(1.0, 100.0, size=(N, N))
    agree(shortest, d)
    agree(shortest, d, dynamic=True)
    # The copy, two loops around, and the two parts and the step between them.
    assert str(loops_of(shortest, d)).count("in order") == 5


def test_negative_cycles():
    agree(shortest, matrix(seed=2))


def test_elimination():
    def eliminate(a):
        a = a.copy()
        n = len(a)
        for k in range(n):
            for i in range(n):
                if i != k:
                    for j in range(n):
                        a[i, j] = a[i, j] - a[k, j] * a[i, k] / a[k, k]
        return a

    agree(eliminate, matrix())


def row(body):
    """A sweep over one row, with a pivot that is an argument."""

    def sweep(x, p):
        x = x.copy()
        for j in range(len(x)):
            body(x, j, p)
        return x

    return sweep


def add_pivot(x, j, p):
    x[j] = x[j] + x[p]


def double_then_add(x, j, p):
    x[j] = 2 * x[j]
    x[j] = x[j] + x[p]


def add_pivot_before(x, j, p):
    x[j] += x[p] * 0.5
    x[j] *= x[p]


@pytest.mark.parametrize("body", [add_pivot, double_then_add, add_pivot_before])
@pytest.mark.parametrize("p", [0, 1, 17, N - 1])
def test_a_pivot_anywhere(body, p):
    agree(row(body), np.random.default_rng(3).normal(size=N), p)


@pytest.mark.parametrize("p", [0, 5, 20, 39])
def test_a_pivot_that_is_known(p):
    def sweep(x):
        x = x.copy()
        for j in range(N):
            x[j] = x[j] * 0.5 + x[p]
        return x

    agree(sweep, np.arange(float(N)))


@pytest.mark.parametrize("start", [0, 1, 10, 39, 40])
@pytest.mark.parametrize("p", [0, 9, 10, 11, 39])
def test_a_pivot_beside_the_range(start, p):
    def sweep(x, p):
        x = x.copy()
        for j in range(start, N):
            x[j] = x[j] - x[p] * 0.25
        return x

    agree(sweep, np.arange(float(N)), p)


def test_descending():
    def sweep(x, p):
        x = x.copy()
        for j in range(N - 1, -1, -1):
            x[j] = x[j] - x[p] * 0.25
        return x

    for p in (0, 7, N - 1):
        agree(sweep, np.arange(float(N)), p)


def test_two_pivots():
    def sweep(x, p, q):
        x = x.copy()
        for j in range(N):
            x[j] = x[j] + x[p] - x[q]
        return x

    for p, q in ((3, 20), (20, 3), (5, 5), (0, N - 1)):
        agree(sweep, np.arange(float(N)), p, q)


def test_a_pivot_that_is_written_too():
    def sweep(x, p):
        x = x.copy()
        for j in range(N):
            x[j] = x[j] + x[p]
            x[p] = x[p] * 0.5
        return x

    for p in (0, 7, N - 1):
        agree(sweep, np.arange(float(N)), p)


def test_steps_that_depend_on_those_before():
    def sweep(x, p):
        x = x.copy()
        for j in range(1, N):
            x[j] = x[j - 1] * 0.5 + x[p]
        return x

    for p in (0, 7, N - 1):
        agree(sweep, np.arange(float(N)), p)


def test_indices_that_are_computed():
    def sweep(x, order, p):
        x = x.copy()
        for j in range(N):
            x[j] = x[order[j]] + x[p]
        return x

    order = np.random.default_rng(4).permutation(N)
    for p in (0, 7, N - 1):
        agree(sweep, np.arange(float(N)), order, p)


def test_elements_that_are_scattered():
    def sweep(x, order, p):
        x = x.copy()
        for j in range(N):
            x[order[j]] = x[j] * 0.5 + x[p]
        return x

    order = np.random.default_rng(5).integers(0, N, N)
    for p in (0, 7, N - 1):
        agree(sweep, np.arange(float(N)), order, p)


@pytest.mark.parametrize("seed", range(40))
def test_random_sweeps(seed):
    """Every mixture of rows, columns, pivots and offsets."""
    rng = np.random.default_rng(seed)
    kinds = [
        "a[i, j]",
        "a[i, k]",
        "a[k, j]",
        "a[k, k]",
        "a[j, k]",
        "a[i, j - 1]",
        "a[j, i]",
        "a[i, 3]",
        "a[k, i]",
        "b[j]",
    ]
    terms = [f"{rng.uniform(-0.4, 0.4):.3f} * {kinds[n]}" for n in rng.choice(len(kinds), rng.integers(2, 5))]
    target = str(rng.choice(["a[i, j]", "a[k, j]", "a[j, i]", "a[i, j - 1]", "b[j]"]))
    more = f"\n                b[j] = b[j] - 0.1 * b[{rng.choice(['k', 'i', '5'])}]" if rng.random() < 0.4 else ""
    text = f"""
def sweep(a, b):
    a, b = a.copy(), b.copy()
    for k in range(0, {N}, 7):
        for i in range({N}):
            for j in range(1, {N}):
                {target} = {" + ".join(terms)}{more}
    return a, b
"""
    names = {}
    file = f"<sweep {seed}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), names)
    a, b = rng.normal(size=(N, N)), rng.normal(size=N)
    compiled = br.jit(names["sweep"], backend="native")
    found, expected = compiled(a, b), names["sweep"](a, b)
    assert compiled.stats().eager == 0
    for ours, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-12, atol=1e-12, err_msg=text)
