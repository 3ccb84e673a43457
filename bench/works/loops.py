"""Loops of Python over arrays that are written in place, which is where Numba is at home."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from . import dynamics
from .program import Program

__all__ = ["PROGRAMS"]

STEPS, BLOCK = 100, 40


def stencil(u):
    """Steps of smoothing with all eight neighbours."""
    u = u.copy()
    for _ in range(STEPS):
        beside = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
        corners = u[:-2, :-2] + u[:-2, 2:] + u[2:, :-2] + u[2:, 2:]
        u[1:-1, 1:-1] = 0.5 * u[1:-1, 1:-1] + 0.1 * beside + 0.025 * corners
    return u


def jax_stencil(u):
    """`stencil` in JAX."""

    def step(_, u):
        beside = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
        corners = u[:-2, :-2] + u[:-2, 2:] + u[2:, :-2] + u[2:, 2:]
        return u.at[1:-1, 1:-1].set(0.5 * u[1:-1, 1:-1] + 0.1 * beside + 0.025 * corners)

    return lax.fori_loop(0, STEPS, step, u)


def numba_stencil(u):
    """`stencil` by two arrays in turn, element by element."""
    u, new = u.copy(), u.copy()
    rows, columns = u.shape
    for _ in range(STEPS):
        for i in range(1, rows - 1):
            for j in range(1, columns - 1):
                beside = u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1]
                corners = u[i - 1, j - 1] + u[i - 1, j + 1] + u[i + 1, j - 1] + u[i + 1, j + 1]
                new[i, j] = 0.5 * u[i, j] + 0.1 * beside + 0.025 * corners
        u, new = new, u
    return u


def blocked(a):
    """The factors L and U in one array, block by block."""
    a = a.copy()
    n = len(a)
    for k in range(0, n, BLOCK):
        stop = min(k + BLOCK, n)
        for j in range(k, stop):
            a[j + 1 :, j] /= a[j, j]
            a[j + 1 :, j + 1 : stop] -= np.outer(a[j + 1 :, j], a[j, j + 1 : stop])
        for j in range(k + 1, stop):
            a[j, stop:] -= a[j, k:j] @ a[k:j, stop:]
        a[stop:, stop:] -= a[stop:, k:stop] @ a[k:stop, stop:]
    return a


def shortest(d):
    """The lengths of shortest paths, after Floyd and Warshall."""
    d = d.copy()
    n = len(d)
    for k in range(n):
        for i in range(n):
            for j in range(n):
                d[i, j] = min(d[i, j], d[i, k] + d[k, j])
    return d


def jax_shortest(d):
    """`shortest` in JAX."""
    return lax.fori_loop(0, len(d), lambda k, d: jnp.minimum(d, d[:, k, None] + d[k]), d)


def distance(a, b):
    """The number of edits from one word to another."""
    table = np.zeros((len(a) + 1, len(b) + 1), np.int64)
    table[:, 0] = np.arange(len(a) + 1)
    table[0, :] = np.arange(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            differs = 0 if a[i - 1] == b[j - 1] else 1
            cheapest = min(table[i - 1, j] + 1, table[i, j - 1] + 1)
            table[i, j] = min(cheapest, table[i - 1, j - 1] + differs)
    return table[len(a), len(b)]


def field(small):
    """A field on a square."""
    n = 50 if small else 1_000
    return (np.random.default_rng(0).normal(size=(n, n)),)


def system(small):
    """A matrix with a dominant diagonal."""
    n = 100 if small else 400
    return (np.random.default_rng(0).normal(size=(n, n)) / np.sqrt(n) + 4.0 * np.eye(n),)


def roads(small):
    """Lengths of roads."""
    n = 40 if small else 300
    return (np.random.default_rng(0).uniform(1.0, 100.0, size=(n, n)),)


def words(small):
    """Two words of four letters."""
    n = 100 if small else 2_000
    return tuple(np.random.default_rng(0).integers(0, 4, size=(2, n)))


PROGRAMS = [
    Program(
        "3x3 stencil, 1000 x 1000, 100 steps",
        stencil,
        field,
        {"JAX": 0.7, "Numba": 1.0},
        jax_stencil,
        numba_stencil,
    ),
    Program(
        "n-body, 8 bodies, 1,000 steps",
        dynamics.bodies,
        lambda small: dynamics.cluster(8),
        {"JAX": 0.7},
        dynamics.jax_bodies,
    ),
    Program(
        "Lorenz by RK4, 1e5 steps",
        dynamics.lorenz,
        lambda small: dynamics.butterfly(1_000 if small else 100_000),
        {"JAX": 1.0},
        dynamics.jax_lorenz,
        plain=False,
    ),
    Program("blocked LU, n = 400", blocked, system, {"Numba": 1.0}, numba=blocked),
    Program("Floyd-Warshall, n = 300", shortest, roads, {"Numba": 1.0}, jax_shortest, shortest, plain=False),
    Program("edit distance, 2000 x 2000", distance, words, {"Numba": 1.0}, numba=distance, plain=False),
]
