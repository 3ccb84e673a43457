"""Recursions whose depth depends on the values: a quadrature that refines itself, and a sort in place."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .work import Work

__all__ = ["WORKS"]

TOLERANCE = 1e-11


def refined(width, left, right, at_left, at_middle, at_right, tolerance):
    """The integral of a wave packet by Simpson's rule, in halves where it is not exact enough."""
    middle = 0.5 * (left + right)
    at_first, at_second = packet(np, width, 0.5 * (left + middle)), packet(np, width, 0.5 * (middle + right))
    whole = (right - left) / 6.0 * (at_left + 4.0 * at_middle + at_right)
    halves = (right - left) / 12.0 * (at_left + 4.0 * at_first + 2.0 * at_middle + 4.0 * at_second + at_right)
    if abs(halves - whole) < 15.0 * tolerance:
        return halves + (halves - whole) / 15.0
    return refined(width, left, middle, at_left, at_first, at_middle, 0.5 * tolerance) + refined(
        width, middle, right, at_middle, at_second, at_right, 0.5 * tolerance
    )


def packet(numpy, width, x):
    """The integrand."""
    return numpy.exp(-width * x) * numpy.sin(3.0 * x)


def quadrature(width, stop):
    """The integral up to a place, by recursion."""
    ends = packet(np, width, 0.0), packet(np, width, 0.5 * stop), packet(np, width, stop)
    return refined(width, 0.0, stop, *ends, TOLERANCE * stop)


def jax_quadrature(width, stop):
    """`quadrature` in JAX, with a stack of intervals."""

    def advance(state):
        lefts, rights, tolerances, count, total = state
        left, right, tolerance = lefts[count - 1], rights[count - 1], tolerances[count - 1]
        middle = 0.5 * (left + right)
        values = packet(jnp, width, left + 0.25 * (right - left) * jnp.arange(5.0))
        whole = (right - left) / 6.0 * (values @ jnp.array([1.0, 0.0, 4.0, 0.0, 1.0]))
        halves = (right - left) / 12.0 * (values @ jnp.array([1.0, 4.0, 2.0, 4.0, 1.0]))
        done = jnp.abs(halves - whole) < 15.0 * tolerance
        lefts = lefts.at[count - 1].set(middle).at[count].set(left)
        rights = rights.at[count].set(middle)
        tolerances = tolerances.at[count - 1].set(0.5 * tolerance).at[count].set(0.5 * tolerance)
        more = jnp.where(done, halves + (halves - whole) / 15.0, 0.0)
        return lefts, rights, tolerances, count + jnp.where(done, -1, 1), total + more

    stacks = jnp.zeros(64), jnp.zeros(64).at[0].set(stop), jnp.zeros(64).at[0].set(TOLERANCE * stop)
    return lax.while_loop(lambda state: state[3] > 0, advance, (*stacks, 1, 0.0 * width))[4]


def sort(a, low, high):
    """Quicksort."""
    if low < high:
        pivot, i = a[high], low - 1
        for k in range(low, high):
            if a[k] <= pivot:
                i += 1
                a[i], a[k] = a[k], a[i]
        a[i + 1], a[high] = a[high], a[i + 1]
        sort(a, low, i)
        sort(a, i + 2, high)


def inequality(incomes):
    """Gini's coefficient, of sorted incomes."""
    a = incomes.copy()
    n = len(a)
    sort(a, 0, n - 1)
    return 2.0 * np.sum(np.arange(1.0, n + 1.0) * a) / (n * np.sum(a)) - (n + 1.0) / n


def jax_inequality(incomes):
    """`inequality` in JAX, which sorts by itself."""
    n = len(incomes)
    return 2.0 * jnp.sum(jnp.arange(1.0, n + 1.0) * jnp.sort(incomes)) / (n * jnp.sum(incomes)) - (n + 1.0) / n


def wave(stop):
    """The width and the end of the interval."""
    return 0.01, float(stop)


def incomes(count):
    """So many numbers in no order, none so close to another that a small step would exchange them."""
    return (np.random.default_rng(0).permutation(np.exp(np.linspace(-2.0, 2.0, count))),)


WORKS = [
    Work(
        "Simpson's rule by recursion, up to",
        quadrature,
        jax_quadrature,
        wave,
        sizes=(4, 16, 64),
        small=(4,),
        argnums=(0,),
        ratio=5.0,
        refused=True,
    ),
    Work(
        "Gini by quicksort, incomes",
        inequality,
        jax_inequality,
        incomes,
        sizes=(1_000, 4_000, 16_000),
        small=(500,),
        argnums=(0,),
    ),
]
