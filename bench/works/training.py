"""Steps of training in float32: a perceptron, a transformer's block, a convolution."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import bindrune as br

from . import networks
from .program import Program

__all__ = ["PROGRAMS"]

HEADS = 4
RATE = 0.1


def perceptron(numpy):
    """The cross-entropy of a perceptron with two hidden layers, for any of the NumPys."""

    def loss(weights, x, labels):
        (w1, b1), (w2, b2), (w3, b3) = weights
        hidden = numpy.maximum(x @ w1 + b1, 0.0)
        hidden = numpy.maximum(hidden @ w2 + b2, 0.0)
        scores = hidden @ w3 + b3
        shifted = scores - numpy.max(scores, axis=1, keepdims=True)
        logs = shifted - numpy.log(numpy.sum(numpy.exp(shifted), axis=1, keepdims=True))
        return -numpy.mean(numpy.sum(logs * labels, axis=1))

    return loss


def descent(gradient):
    """A step down the gradient of a loss."""

    def step(weights, x, labels):
        slopes = gradient(weights, x, labels)
        return [(w - RATE * dw, b - RATE * db) for (w, b), (dw, db) in zip(weights, slopes, strict=True)]

    return step


def digits(small):
    """Weights and a batch."""
    generator = np.random.default_rng(0)
    sizes, batch = ((20, 16, 16, 10), 8) if small else ((784, 512, 512, 10), 256)
    weights = [
        ((generator.normal(size=(m, n)) / np.sqrt(m)).astype(np.float32), np.zeros(n, np.float32))
        for m, n in pairwise(sizes)
    ]
    x = generator.normal(size=(batch, sizes[0])).astype(np.float32)
    return weights, x, np.eye(10, dtype=np.float32)[generator.integers(0, 10, batch)]


def transformer(numpy):
    """A mean square after a transformer's block, for any of the NumPys."""

    def normalised(x):
        centred = x - numpy.mean(x, axis=-1, keepdims=True)
        return centred / numpy.sqrt(numpy.mean(centred**2, axis=-1, keepdims=True) + 1e-5)

    def heads(x):
        return numpy.transpose(x.reshape(len(x), HEADS, -1), (1, 0, 2))

    def loss(weights, x):
        into, out, widen, narrow = weights
        query, key, value = map(heads, numpy.split(normalised(x) @ into, 3, axis=1))
        scores = query @ numpy.swapaxes(key, 1, 2) / query.shape[-1] ** 0.5
        likely = numpy.exp(scores - numpy.max(scores, axis=-1, keepdims=True))
        likely = likely / numpy.sum(likely, axis=-1, keepdims=True)
        x = x + numpy.transpose(likely @ value, (1, 0, 2)).reshape(x.shape) @ out
        wide = normalised(x) @ widen
        curved = 0.5 * wide * (1.0 + numpy.tanh(0.7978845608 * (wide + 0.044715 * wide**3)))
        return numpy.mean((x + curved @ narrow) ** 2)

    return loss


def block(small):
    """Weights and a sequence."""
    generator = np.random.default_rng(0)
    length, width = (16, 32) if small else (128, 256)
    sizes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    weights = tuple((generator.normal(size=(m, n)) / np.sqrt(m)).astype(np.float32) for m, n in sizes)
    return weights, generator.normal(size=(length, width)).astype(np.float32)


def convolve(images, filters):
    """The convolution of images with filters of 3 by 3, with windows."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, filters, optimize=True)


def jax_convolve(images, filters):
    """`convolve` in JAX."""
    return lax.conv_general_dilated(images, filters, (1, 1), "VALID")


def convolution_loss(images, filters):
    """A sum of squares."""
    return np.sum(convolve(images, filters) ** 2)


def jax_convolution_loss(images, filters):
    """`convolution_loss` in JAX."""
    return jnp.sum(jax_convolve(images, filters) ** 2)


def images(small):
    """Images and filters."""
    generator = np.random.default_rng(0)
    batch, channels, side = (2, 4, 8) if small else (16, 32, 32)
    shapes = (batch, channels, side, side), (channels, channels, 3, 3)
    return tuple(generator.normal(size=s).astype(np.float32) for s in shapes)


PROGRAMS = [
    Program(
        "MLP step 784-512-512-10, batch 256",
        descent(br.grad(perceptron(np))),
        digits,
        {"JAX": 1.05},
        descent(jax.grad(perceptron(jnp))),
        plain=False,
        tolerance=1e-3,
        first=0.5,
    ),
    Program(
        "transformer block, 128 x 256, gradient",
        br.value_and_grad(transformer(np)),
        block,
        {"JAX": 1.0},
        jax.value_and_grad(transformer(jnp)),
        plain=False,
        tolerance=1e-3,
        first=0.5,
    ),
    Program(
        "LSTM, hidden 64, 1,000 steps",
        networks.lstm,
        lambda small: networks.sequence(4)(8 if small else 64),
        {"JAX": 0.7},
        networks.jax_lstm,
    ),
    Program("conv2d 3x3, 16 x 32 x 32 x 32", convolve, images, {"JAX": 1.5}, jax_convolve, tolerance=1e-4),
    Program(
        "its gradient",
        br.grad(convolution_loss, argnums=(0, 1)),
        images,
        {"JAX": 1.5},
        jax.grad(jax_convolution_loss, argnums=(0, 1)),
        plain=False,
        tolerance=1e-3,
    ),
]
