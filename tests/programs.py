"""Comparing a transformed program with the plain one: what tests of mutation, views and lifting share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

import bindrune as br

__all__ = ["check_program", "numeric_gradient"]


def numeric_gradient(f: Callable[..., Any], x: Any, step: float = 1e-6) -> Any:
    """The gradient of a function of one array by central differences, on copies of its argument."""
    grad = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        grad[i] = (f(up) - f(down)) / (2 * step)
    return grad


def check_program(f: Callable[..., Any], *arguments: Any, tolerance: float = 1e-6) -> None:
    """Compare value, writes to arguments and derivatives of `f` with those of plain NumPy.

    `f` takes arrays, of which the first is differentiated with respect to, and returns a number.
    """
    plain = copy.deepcopy(arguments)
    expected = f(*plain)

    seen = copy.deepcopy(arguments)
    value, gradient = br.value_and_grad(f)(*seen)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert type(value) is type(expected), (type(value), type(expected))
    for ours, theirs in zip(seen, plain, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg="the caller's arrays after the call")
    x, rest = arguments[0], arguments[1:]

    def of_first(v: Any) -> Any:
        return f(v, *copy.deepcopy(rest))

    numeric = numeric_gradient(of_first, x)
    np.testing.assert_allclose(gradient, numeric, rtol=tolerance, atol=tolerance)

    v = np.cos(np.arange(x.size)).reshape(x.shape)
    value, tangent = br.jvp(of_first, (x.copy(),), (v,))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(tangent, np.sum(numeric * v), rtol=tolerance, atol=10 * tolerance)

    lanes = np.stack([x, x * 0.9, x * 1.1])
    np.testing.assert_allclose(br.vmap(of_first)(lanes.copy()), [of_first(lane.copy()) for lane in lanes], rtol=1e-10)
    np.testing.assert_allclose(br.vmap(br.grad(of_first))(lanes.copy())[0], gradient, rtol=1e-10, atol=1e-12)
    second = br.grad(lambda x: np.sum(br.grad(of_first)(x) * v))(x.copy())
    forward = br.jvp(br.grad(of_first), (x.copy(),), (v,))[1]
    np.testing.assert_allclose(second, forward, rtol=1e-9, atol=1e-9)
