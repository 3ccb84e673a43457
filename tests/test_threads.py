"""Threads: transformations in several at once do not meet, whatever they share."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import bindrune as br
from expect import close

THREADS = 8


@pytest.fixture(autouse=True)
def switching_often():
    """Let the interpreter change threads after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(work, count=THREADS):
    """Call ``work(i)`` in so many threads that start together; their results."""
    barrier = threading.Barrier(count)

    def run(i):
        barrier.wait(10)
        return work(i)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_a_thousand_nested_gradients_in_each_of_eight_threads():
    # d/dx x d/dy (x y)^k at y = x is d/dx k x^(2k), which is 2 k^2 x^(2k - 1)
    def slope(k):
        return br.grad(lambda x: x * br.grad(lambda y: (x * y) ** k)(x))

    def work(k):
        points = np.linspace(0.5, 1.5, 1000)
        f = slope(k)
        return np.array([f(x) for x in points]), 2 * k**2 * points ** (2 * k - 1)

    for found, expected in at_once(lambda i: work(i + 1)):
        close(found, expected, rtol=1e-9)


def test_one_transformed_function_shared_by_all_threads():
    w = np.array([1.0, 2.0, 3.0])
    f = br.grad(lambda x: np.sum(w * np.sin(x) * x[0]))
    points = np.linspace(0, 1, 50)
    expected = [f(np.full(3, p)) for p in points]
    for found in at_once(lambda i: [f(np.full(3, p)) for p in points]):
        close(found, expected)


def test_one_pullback_and_one_pushforward_shared_by_all_threads():
    x = np.array([0.5, -1.0, 2.0])

    @br.checkpoint
    def layer(x):
        return np.sin(x) * x[0]

    def f(x):
        return layer(br.checkpoint_loop(lambda i, s: np.tanh(s) * 1.1, 6, layer(x)))

    jacobian = br.jacobian(f)(x)
    _, pullback = br.vjp(f, x)
    _, pushforward = br.linearize(f, x)

    def work(i):
        e = np.eye(3)[i % 3]
        return [pullback(e)[0] for _ in range(10)], [pushforward(e) for _ in range(10)]

    for i, (rows, columns) in enumerate(at_once(work)):
        close(rows, [jacobian[i % 3]] * 10, rtol=1e-9)
        close(columns, [jacobian[:, i % 3]] * 10, rtol=1e-9)


@br.custom_jvp
def bent(x):
    return x**3


@bent.defjvp
def _(primals, tangents):
    return bent(*primals), 3 * primals[0] ** 2 * tangents[0]


def test_custom_rules_maps_and_collectives():
    lanes = np.array([0.5, -1.0, 2.0])

    def work(i):
        scale = float(i + 1)
        f = lambda x: bent(scale * x) / br.psum(np.abs(x), "lanes")  # noqa: E731
        return [br.grad(lambda x: np.sum(br.vmap(f, axis_name="lanes")(x)))(lanes) for _ in range(20)]

    norm = np.sum(np.abs(lanes))
    for i, found in enumerate(at_once(work)):
        scale = float(i + 1) ** 3
        expected = 3 * scale * lanes**2 / norm - np.sum(scale * lanes**3) / norm**2 * np.sign(lanes)
        close(found, [expected] * 20)


def test_each_thread_has_scopes_of_its_own():
    def work(i):
        def f(x):
            if i % 2:
                with br.no_grad():
                    square = x * x
            else:
                square = x * x
            return square * x

        return [br.grad(f)(3.0) for _ in range(50)]

    for i, found in enumerate(at_once(work)):
        close(found, [9 if i % 2 else 27] * 50)


def test_writes_stay_in_their_thread():
    def work(i):
        def f(x):
            out = np.zeros(4)
            for k in range(4):
                out[k] = x[k] * i
                out[: k + 1] *= 1.1
            x[0] = 0.0
            return np.sum(out * out)

        given = np.arange(4.0)
        return [br.grad(f)(given.copy()) for _ in range(20)]

    powers = 1.1 ** np.arange(4, 0, -1)
    for i, found in enumerate(at_once(work)):
        close(found, [2 * np.arange(4.0) * i**2 * powers**2] * 20)


def test_an_error_in_one_thread_leaves_the_others_alone():
    def work(i):
        def f(x):
            if i == 3:
                raise KeyError("mine")
            return np.sum(x**2)

        try:
            return [br.grad(f)(np.ones(2) * i) for _ in range(50)]
        except KeyError:
            return "raised"

    for i, found in enumerate(at_once(work)):
        if i == 3:
            assert found == "raised"
        else:
            close(found, [[2 * i] * 2] * 50)
