"""Systems stepped through time, and an iteration that runs until it has converged."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .work import Work

__all__ = ["WORKS"]

STEPS, STEP = 1_000, 1e-3


def lorenz(state, parameters, times):
    """The classical Runge-Kutta method for the equations of Lorenz."""
    sigma, rho, beta = parameters

    def rate(s):
        x, y, z = s
        return np.array([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])

    h = times[1] - times[0]
    for _ in range(len(times) - 1):
        k1 = rate(state)
        k2 = rate(state + 0.5 * h * k1)
        k3 = rate(state + 0.5 * h * k2)
        k4 = rate(state + h * k3)
        state = state + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return np.sum(state**2)


def jax_lorenz(state, parameters, times):
    """`lorenz` in JAX."""
    sigma, rho, beta = parameters

    def rate(s):
        x, y, z = s
        return jnp.array([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])

    h = times[1] - times[0]

    def step(state, _):
        k1 = rate(state)
        k2 = rate(state + 0.5 * h * k1)
        k3 = rate(state + 0.5 * h * k2)
        k4 = rate(state + h * k3)
        return state + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4), None

    return jnp.sum(lax.scan(step, state, None, length=len(times) - 1)[0] ** 2)


def butterfly(steps):
    """A time short enough for the flow to be smooth, in as many steps as asked for."""
    return np.array([1.0, 1.0, 1.0]), np.array([10.0, 28.0, 8.0 / 3.0]), np.linspace(0.0, 1.0, steps + 1)


def attraction(numpy):
    """The acceleration of bodies by each other, for any of the NumPys."""

    def accelerations(positions, masses):
        apart = positions[None, :, :] - positions[:, None, :]
        cubed = (numpy.sum(apart**2, axis=-1) + 0.01) ** 1.5
        return numpy.sum(masses[None, :, None] * apart / cubed[:, :, None], axis=1)

    return accelerations


accelerations, jax_accelerations = attraction(np), attraction(jnp)


def bodies(positions, velocities, masses):
    """Bodies under gravity, by symplectic steps."""
    for _ in range(STEPS):
        velocities = velocities + STEP * accelerations(positions, masses)
        positions = positions + STEP * velocities
    return np.sum(positions**2)


def jax_bodies(positions, velocities, masses):
    """`bodies` in JAX."""

    def step(state, _):
        positions, velocities = state
        velocities = velocities + STEP * jax_accelerations(positions, masses)
        return (positions + STEP * velocities, velocities), None

    return jnp.sum(lax.scan(step, (positions, velocities), None, length=STEPS)[0][0] ** 2)


def cluster(count):
    """Bodies at random places."""
    generator = np.random.default_rng(0)
    positions, velocities = generator.normal(size=(2, count, 3))
    return positions, 0.1 * velocities, generator.uniform(0.5, 1.5, size=count) / count


def kepler(mean, eccentricity):
    """The eccentric anomaly, by Newton's method."""
    anomaly, step = mean, 1.0
    while abs(step) > 1e-12:
        step = (anomaly - eccentricity * np.sin(anomaly) - mean) / (1.0 - eccentricity * np.cos(anomaly))
        anomaly = anomaly - step
    return anomaly


def jax_kepler(mean, eccentricity):
    """`kepler` in JAX."""

    def advance(state):
        anomaly, _ = state
        step = (anomaly - eccentricity * jnp.sin(anomaly) - mean) / (1.0 - eccentricity * jnp.cos(anomaly))
        return anomaly - step, step

    return lax.while_loop(lambda state: jnp.abs(state[1]) > 1e-12, advance, (mean, jnp.ones_like(mean)))[0]


def orbits(count):
    """Means and eccentricities."""
    return np.linspace(0.1, 3.0, count), np.linspace(0.1, 0.6, count)


WORKS = [
    Work(
        "RK4 Lorenz, steps",
        lorenz,
        jax_lorenz,
        butterfly,
        sizes=(10_000, 100_000),
        small=(1_000,),
        argnums=(0, 1),
        ratio=5.0,
        peer=0.3,
    ),
    Work(
        "n-body, 1,000 steps, bodies",
        bodies,
        jax_bodies,
        cluster,
        sizes=(8, 64),
        small=(8,),
        argnums=(0, 1, 2),
        ratio=5.0,
        peer=0.7,
    ),
    Work(
        "Newton with while, alone",
        kepler,
        jax_kepler,
        lambda _: (1.3, 0.5),
        sizes=(1,),
        small=(1,),
        argnums=(0, 1),
        ratio=5.0,
        refused=True,
    ),
    Work(
        "Newton with while, lanes",
        kepler,
        jax_kepler,
        orbits,
        sizes=(10_000,),
        small=(1_000,),
        argnums=(0, 1),
        ratio=5.0,
        lanes=True,
        refused=True,
    ),
]
