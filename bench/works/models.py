"""Models fitted to data: a filter, a mixture, and the geometry of cameras."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from .work import Work

__all__ = ["WORKS"]

CLUSTERS, DIMENSIONS = 25, 10
LOWER = np.tril_indices(DIMENSIONS, -1)


def kalman(transition, process, noise, observation, measurements):
    """The log-likelihood of measurements of a linear system with Gaussian noise."""
    n = len(transition)
    x, p = np.zeros(n), np.eye(n)
    total = 0.0
    for t in range(len(measurements)):
        x = transition @ x
        p = transition @ p @ transition.T + process
        r = measurements[t] - observation @ x
        s = observation @ p @ observation.T + noise
        gain = p @ observation.T @ np.linalg.inv(s)
        total = total - 0.5 * (r @ np.linalg.solve(s, r) + np.log(np.linalg.det(s)))
        x = x + gain @ r
        p = p - gain @ observation @ p
    return total


def jax_kalman(transition, process, noise, observation, measurements):
    """`kalman` in JAX."""
    n = len(transition)

    def step(state, measured):
        x, p = state
        x = transition @ x
        p = transition @ p @ transition.T + process
        r = measured - observation @ x
        s = observation @ p @ observation.T + noise
        gain = p @ observation.T @ jnp.linalg.inv(s)
        term = -0.5 * (r @ jnp.linalg.solve(s, r) + jnp.log(jnp.linalg.det(s)))
        return (x + gain @ r, p - gain @ observation @ p), term

    return jnp.sum(lax.scan(step, (jnp.zeros(n), jnp.eye(n)), measurements)[1])


def track(steps):
    """A point in the plane with a velocity, of which the place is measured."""
    transition = 0.95 * np.eye(4) + 0.1 * np.eye(4, k=2)
    observation = np.eye(2, 4)
    measurements = np.random.default_rng(0).normal(size=(steps, 2))
    return transition, 0.1 * np.eye(4), 0.5 * np.eye(2), observation, measurements


def mixture(numpy):
    """The log-likelihood of points under a mixture of Gaussians with full covariances, for any of the NumPys."""

    def likelihood(weights, means, scales, lower, points):
        terms = numpy.einsum("kij,nkj->nki", factors(scales, lower), points[:, None, :] - means)
        logs = weights + numpy.sum(scales, axis=1) - 0.5 * numpy.sum(terms**2, axis=2)
        return numpy.sum(log_sum_exp(logs)) - len(points) * log_sum_exp(weights)

    def log_sum_exp(x):
        most = numpy.max(x, axis=-1, keepdims=True)
        return most[..., 0] + numpy.log(numpy.sum(numpy.exp(x - most), axis=-1))

    factors = triangles if numpy is np else jax_triangles
    return likelihood


def triangles(scales, lower):
    """The clusters' triangular factors: the exponentials of scales on the diagonal, and what lies below it."""
    factors = np.zeros((CLUSTERS, DIMENSIONS, DIMENSIONS))
    factors[:, LOWER[0], LOWER[1]] = lower
    diagonal = np.arange(DIMENSIONS)
    factors[:, diagonal, diagonal] = np.exp(scales)
    return factors


def jax_triangles(scales, lower):
    """`triangles` in JAX."""
    diagonal = jnp.arange(DIMENSIONS)
    factors = jnp.zeros((CLUSTERS, DIMENSIONS, DIMENSIONS)).at[:, LOWER[0], LOWER[1]].set(lower)
    return factors.at[:, diagonal, diagonal].set(jnp.exp(scales))


def points(count):
    """Parameters of the mixture, and points."""
    generator = np.random.default_rng(0)
    return (
        generator.normal(size=CLUSTERS),
        generator.normal(size=(CLUSTERS, DIMENSIONS)),
        0.1 * generator.normal(size=(CLUSTERS, DIMENSIONS)),
        0.3 * generator.normal(size=(CLUSTERS, len(LOWER[0]))),
        generator.normal(size=(count, DIMENSIONS)),
    )


def projection(numpy):
    """The weighted error of a point's image in a camera with radial distortion, for any of the NumPys."""

    def residual(camera, point, weight, feature):
        turn, centre, focal, principal, radial = camera[:3], camera[3:6], camera[6], camera[7:9], camera[9:]
        angle = numpy.sqrt(numpy.sum(turn**2))
        axis, moved = turn / angle, point - centre
        cosine, sine = numpy.cos(angle), numpy.sin(angle)
        turned = moved * cosine + numpy.cross(axis, moved) * sine + axis * (axis @ moved) * (1.0 - cosine)
        image = turned[:2] / turned[2]
        squared = numpy.sum(image**2)
        distorted = image * (1.0 + radial[0] * squared + radial[1] * squared**2)
        return weight * (principal + focal * distorted - feature)

    return residual


def observations(count):
    """Cameras, points, weights and features, one of each for an observation."""
    generator = np.random.default_rng(0)
    cameras = 0.2 * generator.normal(size=(count, 11))
    cameras[:, 6] += 1.0
    seen = generator.normal(size=(count, 3)) + np.array([0.0, 0.0, 8.0])
    return cameras, seen, generator.uniform(0.5, 1.5, size=count), generator.normal(size=(count, 2))


WORKS = [
    Work(
        "Kalman filter, 4 states, steps",
        kalman,
        jax_kalman,
        track,
        sizes=(10_000,),
        small=(500,),
        argnums=(0, 1, 2),
        ratio=5.0,
        peer=0.4,
    ),
    Work(
        "Gaussian mixture, points",
        mixture(np),
        mixture(jnp),
        points,
        sizes=(1_000,),
        small=(100,),
        argnums=(0, 1, 2, 3),
        ratio=4.0,
        peer=0.7,
    ),
    Work(
        "bundle adjustment, observations",
        projection(np),
        projection(jnp),
        observations,
        sizes=(10_000,),
        small=(1_000,),
        argnums=(0, 1, 2),
        peer=0.7,
        lanes=True,
        jacobian=True,
    ),
]
