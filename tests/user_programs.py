"""How programs written for plain NumPy are compared under transformations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import bindrune as br

__all__ = ["POINT", "Program", "agrees", "collected", "lanes_agree"]

Program = Callable[[Any], Any]

POINT = np.array([0.7, 1.3, 2.1])


def collected(programs: list[Program]) -> Callable[[Program], Program]:
    """A decorator that adds a program to a list."""

    def add(f: Program) -> Program:
        programs.append(f)
        return f

    return add


def _differences(f: Program, x: np.ndarray) -> np.ndarray:
    steps = np.eye(x.size).reshape(x.size, *x.shape) * 1e-6
    return np.array([(f(x + h) - f(x - h)) / 2e-6 for h in steps]).reshape(x.shape)


def agrees(f: Program, x: np.ndarray = POINT) -> None:
    """The value, the gradient and a directional derivative are those of the plain function."""
    expected, slopes = f(x.copy()), _differences(f, x)
    for _ in range(2):  # what the first call has lifted serves the second
        value, gradient = br.value_and_grad(f)(x.copy())
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, slopes, rtol=2e-5, atol=2e-6)
    value, tangent = br.jvp(f, (x.copy(),), (np.ones_like(x),))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(tangent, slopes.sum(), rtol=2e-5, atol=2e-5)


def lanes_agree(f: Program, x: np.ndarray = POINT) -> None:
    """Lanes give what a loop over plain calls gives, and so do lanes of gradients."""
    rows = np.stack([x, x * 1.1 + 0.05, x[::-1]])
    np.testing.assert_allclose(br.vmap(f)(rows), [f(row.copy()) for row in rows], rtol=1e-12)
    np.testing.assert_allclose(br.vmap(br.grad(f))(rows), [br.grad(f)(row.copy()) for row in rows], rtol=1e-12)
