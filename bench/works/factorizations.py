"""Factorisations of matrices written as loops over slices whose lengths are known only as the loop runs.

JAX's slices have lengths known beforehand, so its programs work on whole rows and columns and mask them.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .work import Work

__all__ = ["WORKS"]


def cholesky(a, weights):
    """The weighted sum of the factor's elements."""
    n = len(a)
    factor = np.zeros((n, n))
    for j in range(n):
        factor[j, j] = np.sqrt(a[j, j] - factor[j, :j] @ factor[j, :j])
        factor[j + 1 :, j] = (a[j + 1 :, j] - factor[j + 1 :, :j] @ factor[j, :j]) / factor[j, j]
    return np.sum(weights * factor)


def jax_cholesky(a, weights):
    """`cholesky` in JAX; columns yet to be written are zero, and add nothing to the product."""
    rows = jnp.arange(len(a))

    def column(j, factor):
        rest = a[:, j] - factor @ factor[j]
        return factor.at[:, j].set(jnp.where(rows >= j, rest / jnp.sqrt(rest[j]), 0.0))

    return jnp.sum(weights * lax.fori_loop(0, len(a), column, jnp.zeros_like(a)))


def triangular(a, weights):
    """The weighted sum of the elements of the factors L and U, in one array, after Crout."""
    n = len(a)
    factors = np.zeros((n, n))
    for k in range(n):
        factors[k, k:] = a[k, k:] - factors[k, :k] @ factors[:k, k:]
        factors[k + 1 :, k] = (a[k + 1 :, k] - factors[k + 1 :, :k] @ factors[:k, k]) / factors[k, k]
    return np.sum(weights * factors)


def jax_triangular(a, weights):
    """`triangular` in JAX."""
    places = jnp.arange(len(a))

    def step(k, factors):
        row = a[k] - jnp.where(places < k, factors[k], 0.0) @ factors
        factors = factors.at[k].set(jnp.where(places >= k, row, factors[k]))
        column = (a[:, k] - factors @ jnp.where(places < k, factors[:, k], 0.0)) / factors[k, k]
        return factors.at[:, k].set(jnp.where(places > k, column, factors[:, k]))

    return jnp.sum(weights * lax.fori_loop(0, len(a), step, jnp.zeros_like(a)))


def definite(n):
    """A symmetric, positive definite matrix, and weights."""
    generator = np.random.default_rng(0)
    a, weights = generator.normal(size=(2, n, n))
    return a @ a.T / n + np.eye(n), weights


def dominant(n):
    """A matrix with a dominant diagonal, and weights."""
    generator = np.random.default_rng(0)
    a, weights = generator.normal(size=(2, n, n))
    return a / np.sqrt(n) + 4.0 * np.eye(n), weights


WORKS = [
    Work(
        name,
        ours,
        jaxs,
        arguments,
        sizes=(100, 200, 400),
        small=(50, 100),
        argnums=(0,),
        ratio=4.0,
        peer=0.03,
        memory=2.1,
    )
    for name, ours, jaxs, arguments in (
        ("Cholesky by loops, n", cholesky, jax_cholesky, definite),
        ("LU by loops, n", triangular, jax_triangular, dominant),
    )
]
