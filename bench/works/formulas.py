"""Whole-array formulas: prices of options, sums of functions, and what is done to the rows of a matrix."""

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import scipy.special

import bindrune as br

from .program import Program

__all__ = ["PROGRAMS"]


def options(numpy, erf):
    """The prices of European calls after Black and Scholes, for any of the NumPys."""

    def prices(spot, strike, time, rate, volatility):
        spread = volatility * numpy.sqrt(time)
        d1 = (numpy.log(spot / strike) + (rate + 0.5 * volatility**2) * time) / spread
        d2 = d1 - spread
        normal1 = 0.5 * (1.0 + erf(d1 * 0.7071067811865476))
        normal2 = 0.5 * (1.0 + erf(d2 * 0.7071067811865476))
        return spot * normal1 - strike * numpy.exp(-rate * time) * normal2

    return prices


prices, jax_prices = options(np, scipy.special.erf), options(jnp, jax.scipy.special.erf)


def total(spot, strike, time, rate, volatility):
    """The sum of the prices."""
    return np.sum(prices(spot, strike, time, rate, volatility))


def jax_total(spot, strike, time, rate, volatility):
    """`total` in JAX."""
    return jnp.sum(jax_prices(spot, strike, time, rate, volatility))


def market(dtype):
    """Options of every kind."""

    def arguments(small):
        generator = np.random.default_rng(0)
        n = 10_000 if small else 1_000_000
        lows, highs = (80.0, 80.0, 0.2, 0.01, 0.1), (120.0, 120.0, 2.0, 0.05, 0.4)
        return tuple(generator.uniform(a, b, n).astype(dtype) for a, b in zip(lows, highs, strict=True))

    return arguments


def bump(numpy):
    """A sum of a product of functions."""

    def run(x):
        return numpy.sum(numpy.tanh(x) * numpy.exp(-x * x))

    return run


def softmax(numpy):
    """Exponentials of rows, normalised."""

    def run(x):
        found = numpy.exp(x - numpy.max(x, axis=-1, keepdims=True))
        return found / numpy.sum(found, axis=-1, keepdims=True)

    return run


def layer_norm(numpy):
    """Rows with their mean and spread taken out."""

    def run(x):
        centred = x - numpy.mean(x, axis=-1, keepdims=True)
        return centred / numpy.sqrt(numpy.mean(centred**2, axis=-1, keepdims=True) + 1e-5)

    return run


def cross_entropy(numpy):
    """The mean of the negative logarithms of the labels' probabilities."""

    def run(x, labels):
        shifted = x - numpy.max(x, axis=-1, keepdims=True)
        logs = shifted - numpy.log(numpy.sum(numpy.exp(shifted), axis=-1, keepdims=True))
        return -numpy.mean(logs[numpy.arange(len(x)), labels])

    return run


def line(dtype):
    """Numbers about zero."""
    return lambda small: (np.linspace(-3.0, 2.0, 10_000 if small else 1_000_000, dtype=dtype),)


def matrix(small):
    """A square matrix of float32."""
    n = 128 if small else 1024
    return (np.random.default_rng(0).normal(size=(n, n)).astype(np.float32),)


def labelled(small):
    """The matrix and a label for each row."""
    (x,) = matrix(small)
    return x, np.random.default_rng(1).integers(0, len(x), len(x))


PROGRAMS = [
    program
    for dtype, bar, tolerance in (("float64", 0.35, 1e-9), ("float32", 1.0, 1e-4))
    for program in (
        Program(f"Black-Scholes, {dtype}", prices, market(dtype), {"JAX": bar}, jax_prices, tolerance=tolerance),
        Program(
            f"its gradient, {dtype}",
            br.grad(total, argnums=(0, 1, 2, 3, 4)),
            market(dtype),
            {"JAX": bar},
            jax.grad(jax_total, argnums=(0, 1, 2, 3, 4)),
            plain=False,
            tolerance=10 * tolerance,
        ),
        Program(f"sum(tanh(x) * exp(-x * x)), {dtype}", bump(np), line(dtype), {"JAX": 1.0}, bump(jnp), tolerance=1e-4),
    )
]
PROGRAMS += [
    Program(f"{name}, 1024 x 1024 float32", of(np), arguments, {"JAX": 1.0}, of(jnp), tolerance=1e-5)
    for name, of, arguments in (
        ("softmax", softmax, matrix),
        ("layer norm", layer_norm, matrix),
        ("cross-entropy", cross_entropy, labelled),
    )
]
