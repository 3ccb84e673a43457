"""Numerical programs: staged they compute what Python computes, their loops stay loops, and they are differentiated."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import bindrune as br
from numerical_programs import PROGRAMS, Numerical

SMOOTH = [p for p in PROGRAMS if p.smooth]


def parts(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def assert_same(found: Any, expected: Any, tolerance: float = 0.0) -> None:
    """Equal results, in type too; up to rounding where a tolerance is given."""
    for one, other in zip(parts(found), parts(expected), strict=True):
        assert np.shape(one) == np.shape(other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def assert_close(found: Sequence[Any], expected: Sequence[Any], tolerance: float = 1e-10) -> None:
    """Equal up to rounding, relative to the largest element."""
    for one, other in zip(found, expected, strict=True):
        scale = 1 + np.max(np.abs(other), initial=0)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(("backend", "rounding"), [("interpreter", 0.0), ("native", 1e-14)])
@pytest.mark.parametrize("program", PROGRAMS, ids=repr)
def test_staged_is_plain(program: Numerical, backend: str, rounding: float) -> None:
    staged = br.jit(program.function, backend=backend)
    for size in (*program.sizes, program.sizes[0]):
        arguments, given = program.arguments(size), program.arguments(size)
        expected = program.function(*arguments)
        assert_same(staged(*given), expected, max(program.tolerance, rounding))
        for one, other in zip(given, arguments, strict=True):
            np.testing.assert_allclose(one, other, rtol=rounding)
    assert not staged.stats().eager, staged.stats().reasons


@pytest.mark.parametrize("program", [p for p in PROGRAMS if p.rolled], ids=repr)
def test_loops_stay_loops(program: Numerical) -> None:
    sizes = [br.make_graph(program.function)(*program.arguments(n)).size() for n in program.sizes]
    assert sizes[0] == sizes[1]


class Loss:
    """A number that depends on all results of a program, as a function of what is smooth in it."""

    def __init__(self, program: Numerical, size: int) -> None:
        self.program = program
        self.arguments = program.arguments(size)
        self.at = tuple(np.asarray(self.arguments[i], float)[()] for i in program.smooth)
        self.argnums = tuple(range(len(self.at)))
        self.direction = tuple(np.cos(np.arange(np.size(x)) + 1.0).reshape(np.shape(x))[()] for x in self.at)

    def __call__(self, *smooth: Any) -> Any:
        arguments = list(copy.copy(self.arguments))
        for i, x in zip(self.program.smooth, smooth, strict=True):
            arguments[i] = x
        total = 0.0
        for k, part in enumerate(parts(self.program.function(*arguments))):
            if np.asarray(part).dtype.kind == "f":
                total = total + np.sum(np.cos(np.arange(np.size(part)) + k).reshape(np.shape(part)) * part)
        return total


@functools.cache
def loss_of(program: Numerical) -> tuple[Loss, Any]:
    """A loss with its gradient."""
    loss = Loss(program, program.sizes[0])
    return loss, br.grad(loss, loss.argnums)(*loss.at)


def along(gradients: Sequence[Any], loss: Loss) -> Any:
    return sum(np.sum(g * v) for g, v in zip(gradients, loss.direction, strict=True))


def moved(loss: Loss, step: float) -> Any:
    return loss(*(x + step * v for x, v in zip(loss.at, loss.direction, strict=True)))


@pytest.mark.parametrize("program", SMOOTH, ids=repr)
def test_gradient(program: Numerical) -> None:
    loss, expected = loss_of(program)
    staged = br.jit(br.grad(loss, loss.argnums))
    assert_close(br.grad(br.jit(loss), loss.argnums)(*loss.at), expected)
    for _ in range(2):
        assert_close(staged(*loss.at), expected)
    assert not staged.stats().eager, staged.stats().reasons
    difference = (moved(loss, 1e-6) - moved(loss, -1e-6)) / 2e-6
    assert_close([along(expected, loss)], [difference], 1e-5)


@pytest.mark.parametrize("program", [p for p in SMOOTH if p.rolled], ids=repr)
def test_loops_stay_loops_in_gradients(program: Numerical) -> None:
    sizes = []
    for n in program.sizes:
        loss = Loss(program, n)
        sizes.append(br.make_graph(br.grad(loss, loss.argnums))(*loss.at).size())
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("program", SMOOTH, ids=repr)
def test_tangent(program: Numerical) -> None:
    loss, gradient = loss_of(program)
    expected = [loss(*loss.at), along(gradient, loss)]
    assert_close(br.jvp(br.jit(loss), loss.at, loss.direction), expected)
    assert_close(br.jit(lambda at, v: br.jvp(loss, at, v))(loss.at, loss.direction), expected)


@pytest.mark.parametrize("program", SMOOTH, ids=repr)
def test_second_order(program: Numerical) -> None:
    loss, _ = loss_of(program)

    def products(gradient: Callable[..., Any]) -> list[Any]:
        return [
            *br.jvp(gradient, loss.at, loss.direction)[1],
            *br.grad(lambda *x: along(gradient(*x), loss), loss.argnums)(*loss.at),
        ]

    expected = products(br.grad(loss, loss.argnums))
    count = len(loss.at)
    assert_close(expected[:count], expected[count:], 1e-9)
    assert_close(products(br.grad(br.jit(loss), loss.argnums)), expected, 1e-9)
    assert_close(products(br.jit(br.grad(loss, loss.argnums))), expected, 1e-9)


@pytest.mark.parametrize("program", SMOOTH, ids=repr)
def test_lanes(program: Numerical) -> None:
    loss, _ = loss_of(program)
    batch = [np.stack([x * (1 - 0.01 * k) for k in range(3)]) for x in loss.at]
    lanes = list(zip(*batch, strict=True))
    values = np.stack([loss(*lane) for lane in lanes])
    assert_close([br.vmap(br.jit(loss))(*batch)], [values])
    assert_close([br.jit(br.vmap(loss))(*batch)], [values])
    gradient = br.grad(loss, loss.argnums)
    gradients = [np.stack(part) for part in zip(*(gradient(*lane) for lane in lanes), strict=True)]
    assert_close(br.vmap(br.grad(br.jit(loss), loss.argnums))(*batch), gradients)
    assert_close(br.jit(br.vmap(gradient))(*batch), gradients)
