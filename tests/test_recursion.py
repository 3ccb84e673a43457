"""Recursion under `jit`: graphs that call themselves where the depth depends on traced values."""

import numpy as np
import pytest

import bindrune as br


def factorial(n):
    return 1 if n <= 1 else n * factorial(n - 1)


def power(x, n):
    if n == 0:
        return 1.0
    return x * power(x, n - 1)


def fibonacci(n):
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)


def ackermann(m, n):
    if m == 0:
        return n + 1
    if n == 0:
        return ackermann(m - 1, 1)
    return ackermann(m - 1, ackermann(m, n - 1))


def divisor(a, b):
    return a if b == 0 else divisor(b, a % b)


def quicksort(a, low, high):
    if low < high:
        pivot, i = a[high], low - 1
        for k in range(low, high):
            if a[k] <= pivot:
                i += 1
                a[i], a[k] = a[k], a[i]
        a[i + 1], a[high] = a[high], a[i + 1]
        quicksort(a, low, i)
        quicksort(a, i + 2, high)


def integral(f, a, b, tolerance):
    """Adaptive Simpson's rule."""
    middle = 0.5 * (a + b)
    whole = (b - a) / 6 * (f(a) + 4 * f(middle) + f(b))
    left = (middle - a) / 6 * (f(a) + 4 * f(0.5 * (a + middle)) + f(middle))
    right = (b - middle) / 6 * (f(middle) + 4 * f(0.5 * (middle + b)) + f(b))
    if abs(left + right - whole) < 15 * tolerance:
        return left + right
    return integral(f, a, middle, tolerance / 2) + integral(f, middle, b, tolerance / 2)


@pytest.mark.parametrize(
    ("f", "calls"),
    [
        (factorial, [(1,), (5,), (12,)]),
        (power, [(2.0, 0), (1.5, 7)]),
        (fibonacci, [(0,), (10,), (13,)]),
        (ackermann, [(1, 2), (2, 3)]),
        (divisor, [(48, 18), (17, 5)]),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_one_graph_serves_every_depth(f, calls):
    staged = br.jit(f)
    for arguments in calls:
        found = staged(*arguments)
        assert found == f(*arguments)
        assert type(found) is type(f(*arguments))
    assert staged.stats().stagings == 1
    assert staged.stats().guards == 0


def test_recursion_in_place():
    for seed, n in enumerate((2, 7, 20)):
        a = np.random.default_rng(seed).normal(size=n)
        expected = np.sort(a)
        br.jit(quicksort)(a, 0, n - 1)
        np.testing.assert_array_equal(a, expected)


def test_adaptive_integration():
    def of(a, b):
        return integral(lambda x: np.exp(-x * x) * np.sin(3 * x), a, b, 1e-7)

    staged = br.jit(of)
    for bounds in ((0.0, 1.0), (0.0, 3.0)):
        np.testing.assert_allclose(staged(*bounds), of(*bounds), rtol=1e-13)
    assert staged.stats().stagings == 1


def test_derivatives_of_a_recursion():
    staged = br.jit(power)
    np.testing.assert_allclose(br.grad(staged)(1.5, 7), 7 * 1.5**6)
    np.testing.assert_allclose(br.jit(br.grad(power))(1.5, 7), 7 * 1.5**6)
    np.testing.assert_allclose(br.jvp(lambda x: staged(x, 7), (1.5,), (1.0,))[1], 7 * 1.5**6)
    np.testing.assert_allclose(br.grad(br.grad(lambda x: staged(x, 7)))(1.5), 42 * 1.5**5)
    assert staged.stats().stagings == 1


def test_what_a_recursion_captures_is_an_input():
    weights = 0.5 * np.eye(2)

    def deep(x, n):
        if n <= 0:
            return x
        return deep(np.tanh(weights @ x), n - 1)

    staged = br.jit(deep)
    x = np.array([1.0, -2.0])
    np.testing.assert_allclose(staged(x, 3), deep(x, 3))
    weights[0, 1] = 1.0
    np.testing.assert_allclose(staged(x, 4), deep(x, 4))
    assert staged.stats().stagings == 1
    np.testing.assert_allclose(br.jacrev(lambda x: staged(x, 4))(x), br.jacrev(lambda x: deep(x, 4))(x))


def test_a_depth_that_python_knows_is_unrolled():
    def deep(x, n):
        return x if n == 0 else deep(np.sin(x), n - 1)

    staged = br.jit(deep, static_argnums=1)
    np.testing.assert_allclose(staged(1.0, 4), deep(1.0, 4))
    assert [node.op.name for node in staged.graph(1.0, 4).nodes] == ["sin"] * 4


def test_lanes_of_a_recursion_run_as_python_runs_them():
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(br.vmap(lambda v: br.jit(power)(v, 3))(x), x**3)
