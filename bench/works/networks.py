"""Recurrent networks: the loss of a sequence of 1,000 steps."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .work import Work

__all__ = ["WORKS"]

STEPS, INPUTS = 1_000, 8


def recurrent(weights, recurrence, bias, inputs, targets):
    """A recurrent network of tanh."""
    h = np.zeros(len(bias))
    loss = 0.0
    for x, target in zip(inputs, targets):  # noqa: B905
        h = np.tanh(weights @ x + recurrence @ h + bias)
        loss = loss + np.sum((h - target) ** 2)
    return loss / len(inputs)


def jax_recurrent(weights, recurrence, bias, inputs, targets):
    """`recurrent` in JAX."""

    def step(h, given):
        x, target = given
        h = jnp.tanh(weights @ x + recurrence @ h + bias)
        return h, jnp.sum((h - target) ** 2)

    losses = lax.scan(step, jnp.zeros(len(bias)), (inputs, targets))[1]
    return jnp.sum(losses) / len(inputs)


def lstm(weights, recurrence, bias, inputs, targets):
    """A network of long short-term memory."""
    n = len(bias) // 4
    h, c = np.zeros(n), np.zeros(n)
    loss = 0.0
    for t in range(len(inputs)):
        gates = weights @ inputs[t] + recurrence @ h + bias
        enter, forget, leave = np.split(1.0 / (1.0 + np.exp(-gates[: 3 * n])), 3)
        c = forget * c + enter * np.tanh(gates[3 * n :])
        h = leave * np.tanh(c)
        loss = loss + np.sum((h - targets[t]) ** 2)
    return loss / len(inputs)


def jax_lstm(weights, recurrence, bias, inputs, targets):
    """`lstm` in JAX."""
    n = len(bias) // 4

    def step(state, given):
        h, c = state
        x, target = given
        gates = weights @ x + recurrence @ h + bias
        enter, forget, leave = jnp.split(jax.nn.sigmoid(gates[: 3 * n]), 3)
        c = forget * c + enter * jnp.tanh(gates[3 * n :])
        h = leave * jnp.tanh(c)
        return (h, c), jnp.sum((h - target) ** 2)

    losses = lax.scan(step, (jnp.zeros(n), jnp.zeros(n)), (inputs, targets))[1]
    return jnp.sum(losses) / len(inputs)


def sequence(gates):
    """Weights of a network with a number of gates for each hidden unit, and a sequence."""

    def arguments(hidden):
        generator = np.random.default_rng(0)
        rows = gates * hidden
        weights = generator.normal(size=(rows, INPUTS)) / np.sqrt(INPUTS)
        recurrence = 0.8 * generator.normal(size=(rows, hidden)) / np.sqrt(hidden)
        inputs, targets = generator.normal(size=(STEPS, INPUTS)), generator.normal(size=(STEPS, hidden))
        return weights, recurrence, np.zeros(rows), inputs, targets

    return arguments


WORKS = [
    Work(
        "tanh RNN, 1,000 steps, hidden",
        recurrent,
        jax_recurrent,
        sequence(1),
        sizes=(16, 128),
        small=(16,),
        argnums=(0, 1, 2),
        ratio=4.0,
        peer={16: 0.4, 128: 1.0},
    ),
    Work(
        "LSTM, 1,000 steps, hidden",
        lstm,
        jax_lstm,
        sequence(4),
        sizes=(64,),
        small=(16,),
        argnums=(0, 1, 2),
        ratio=4.0,
        peer=0.5,
    ),
]
