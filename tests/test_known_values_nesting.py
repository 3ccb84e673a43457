"""Known higher derivatives, and derivatives inside derivatives."""

from itertools import product

import numpy as np
import pytest

import bindrune as br
from expect import close


def sum_of_cubes(x):
    return np.sum(x**3)


DERIVATIVES = {
    "grad": lambda f, x: br.grad(f)(x),
    "jvp": lambda f, x: br.jvp(f, (x,), (1.0,))[1],
    "pullback": lambda f, x: br.vjp(f, x)[1](1.0)[0],
}


def test_case_69_second_and_third_derivatives():
    second = br.grad(lambda x: np.sum(br.grad(sum_of_cubes)(x)))
    close(second(np.array([1.0, -2, 3])), [6, -12, 18])
    close(br.grad(br.grad(br.grad(lambda x: x**4)))(2.0), 48)


@pytest.mark.parametrize(("outer", "inner"), list(product(DERIVATIVES, repeat=2)))
def test_case_70_perturbations_are_not_confused(outer, inner):
    outer, inner = DERIVATIVES[outer], DERIVATIVES[inner]
    close(outer(lambda x: x * inner(lambda y: x + y, 1.0), 1.0), 1)
    close(outer(lambda x: inner(lambda y: x * y, 1.0), 1.0), 1)


def test_case_71_a_gradient_inside_a_loss():
    outer = br.grad(lambda x: np.sum(br.grad(sum_of_cubes)(x) * sum_of_cubes(x)))
    close(outer(np.array([0.5, -1.2])), [-1.0065, 33.444])


def test_case_72_derivatives_of_directional_derivatives():
    v = np.array([1, 0.5, -1])
    close(br.grad(lambda x: br.jvp(lambda x: np.sum(x**2), (x,), (v,))[1])(np.zeros(3)), [2, 1, -2])

    x = np.array([1.0, -2, 3])
    inner = lambda x: br.jvp(sum_of_cubes, (x,), (v,))[1]  # noqa: E731
    close(br.jvp(inner, (x,), (v,))[1], 21)


STEPS = [
    lambda x, y: np.sin(x) * y,
    lambda x, y: np.tanh(x + y[::-1]),
    lambda x, y: x / (1 + y * y),
    lambda x, y: np.outer(x, y) @ x,
    lambda x, y: np.cumsum(x) - np.mean(y),
    lambda x, y: np.where(x > y, x * y, y),
    lambda x, y: np.sort(x) * np.exp(-y),
]


def random_program(seed):
    """A program of five steps, each of two earlier values."""
    chosen = np.random.default_rng(seed)
    plan = [(chosen.integers(len(STEPS)), *chosen.integers(i + 1, size=2)) for i in range(5)]

    def program(x):
        values = [x]
        for step, a, b in plan:
            values.append(STEPS[step](values[a], values[b]))
        return values[-1]

    return program


@pytest.mark.parametrize("seed", range(8))
def test_case_73_identities_of_random_programs(seed):
    f = random_program(seed)
    x, v, u, w = np.random.default_rng(100 + seed).normal(size=(4, 4))

    def loss(x):
        return np.sum(w * f(x))

    gradient = br.grad(loss)(x)
    pushed = br.jvp(f, (x,), (v,))[1]
    close(np.sum(w * pushed), br.vjp(f, x)[1](w)[0] @ v, rtol=1e-9)
    close(br.jvp(loss, (x,), (v,))[1], gradient @ v, rtol=1e-9)
    along_v = br.jvp(br.grad(loss), (x,), (v,))[1]
    along_u = br.jvp(br.grad(loss), (x,), (u,))[1]
    close(along_v @ u, along_u @ v, rtol=1e-8)
    close(br.vjp(br.grad(loss), x)[1](v)[0], along_v, rtol=1e-8)
