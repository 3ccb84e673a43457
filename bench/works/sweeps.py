"""Sweeps over arrays that are written in place: a tridiagonal solver and two relaxations of Poisson's equation."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .work import Work

__all__ = ["WORKS"]

SWEEPS = 8
STEPS = 50


def thomas(lower, diagonal, upper, right):
    """The sum of squares of the solution of a tridiagonal system."""
    n = len(diagonal)
    c, d, x = np.empty(n), np.empty(n), np.empty(n)
    c[0] = upper[0] / diagonal[0]
    d[0] = right[0] / diagonal[0]
    for i in range(1, n):
        pivot = diagonal[i] - lower[i] * c[i - 1]
        c[i] = upper[i] / pivot
        d[i] = (right[i] - lower[i] * d[i - 1]) / pivot
    x[n - 1] = d[n - 1]
    for i in range(n - 2, -1, -1):
        x[i] = d[i] - c[i] * x[i + 1]
    return np.sum(x**2)


def jax_thomas(lower, diagonal, upper, right):
    """`thomas` in JAX."""
    n = len(diagonal)

    def eliminate(i, state):
        c, d = state
        pivot = diagonal[i] - lower[i] * c[i - 1]
        return c.at[i].set(upper[i] / pivot), d.at[i].set((right[i] - lower[i] * d[i - 1]) / pivot)

    def substitute(k, x):
        i = n - 2 - k
        return x.at[i].set(d[i] - c[i] * x[i + 1])

    zeros = jnp.zeros(n)
    first = zeros.at[0].set(upper[0] / diagonal[0]), zeros.at[0].set(right[0] / diagonal[0])
    c, d = lax.fori_loop(1, n, eliminate, first)
    x = lax.fori_loop(0, n - 1, substitute, zeros.at[n - 1].set(d[n - 1]))
    return jnp.sum(x**2)


def tridiagonal(n):
    """A system with a dominant diagonal."""
    generator = np.random.default_rng(0)
    lower, upper, right = generator.normal(size=(3, n))
    return lower, 4.0 + generator.uniform(size=n), upper, right


def gauss_seidel(u, f):
    """Sweeps element by element, each with its neighbours' newest values."""
    u = u.copy()
    rows, columns = u.shape
    for _ in range(SWEEPS):
        for i in range(1, rows - 1):
            for j in range(1, columns - 1):
                u[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - f[i, j])
    return np.sum(u**2)


def jax_gauss_seidel(u, f):
    """`gauss_seidel` in JAX."""
    rows, columns = u.shape

    def element(i, j, u):
        return u.at[i, j].set(0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - f[i, j]))

    def row(i, u):
        return lax.fori_loop(1, columns - 1, lambda j, u: element(i, j, u), u)

    u = lax.fori_loop(0, SWEEPS, lambda _, u: lax.fori_loop(1, rows - 1, row, u), u)
    return jnp.sum(u**2)


def jacobi(u, f):
    """Steps that write the whole interior from the neighbours' old values."""
    u = u.copy()
    for _ in range(STEPS):
        u[1:-1, 1:-1] = 0.25 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - f[1:-1, 1:-1])
    return np.sum(u**2)


def jax_jacobi(u, f):
    """`jacobi` in JAX."""

    def step(_, u):
        around = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
        return u.at[1:-1, 1:-1].set(0.25 * (around - f[1:-1, 1:-1]))

    return jnp.sum(lax.fori_loop(0, STEPS, step, u) ** 2)


def square(n):
    """A field and a source on a square of n by n."""
    field, source = np.random.default_rng(0).normal(size=(2, n, n))
    return field, source


WORKS = [
    Work(
        "Thomas solver",
        thomas,
        jax_thomas,
        tridiagonal,
        sizes=(500, 1_000, 2_000, 4_000, 8_000),
        small=(500, 2_000),
        argnums=(0, 1, 2, 3),
        ratio=5.0,
        peer={8_000: 0.02},
        exponent=1.1,
    ),
    Work(
        "Gauss-Seidel, 8 sweeps",
        gauss_seidel,
        jax_gauss_seidel,
        square,
        sizes=(40, 80, 160),
        small=(20, 40),
        argnums=(0, 1),
        ratio=5.0,
        peer=0.02,
    ),
    Work(
        "Jacobi 2-D, 50 steps",
        jacobi,
        jax_jacobi,
        square,
        sizes=(150,),
        small=(50,),
        argnums=(0, 1),
        ratio=5.0,
        peer=0.3,
    ),
]
