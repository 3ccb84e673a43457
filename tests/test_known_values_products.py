"""Known products of Jacobians with vectors: pullbacks and directional derivatives."""

import numpy as np
import pytest

import bindrune as br
from expect import close

POINTS = np.array([0.7, -1.3, 2.1])


def test_case_58_pullbacks():
    cotangent = np.array([10.0, 1])
    close(br.vjp(lambda x: x * x, np.array([1.0, 2]))[1](cotangent)[0], [20, 4])
    close(br.vjp(lambda x: x, np.zeros(2))[1](cotangent)[0], cotangent)
    close(br.vjp(lambda x: np.ones(2), np.zeros(2))[1](cotangent)[0], [0, 0])


def test_case_58_a_leaf_returned_twice_adds_both_cotangents():
    _, pullback = br.vjp(lambda x: (x, x), np.zeros(2))
    close(pullback((np.array([10.0, 1]), np.array([1.0, 2])))[0], [11, 3])


def test_case_59_a_pullback_can_be_used_again_without_another_run():
    calls = []

    def counted(x):
        calls.append(None)
        return np.sin(x) * x

    cotangents = np.array([1.0, 2, 3]), np.array([-1.0, 0, 5])
    _, pullback = br.vjp(counted, POINTS)
    again = [pullback(ct)[0] for ct in cotangents]
    assert len(calls) == 1
    for ct, found in zip(cotangents, again, strict=True):
        assert found.tobytes() == br.vjp(counted, POINTS)[1](ct)[0].tobytes()


def test_case_59_a_mapped_pullback_is_the_jacobian():
    _, pullback = br.vjp(lambda x: np.array([x[0] * x[1], np.sin(x[2]) * x[0]]), POINTS)
    jacobian = br.vmap(pullback)(np.eye(2))[0]
    close(jacobian, [[-1.3, 0.7, 0], [0.86320937, 0, -0.35339227]])


def test_case_60_directional_derivative():
    value, tangent = br.jvp(lambda w: np.sum(w * w), (np.array([1.0, -2, 3]),), (np.ones(3),))
    close(value, 14)
    close(tangent, 4)
    close(br.jvp(lambda w: 7.0, (np.ones(3),), (np.ones(3),))[1], 0)


@pytest.mark.parametrize(
    ("function", "at", "along", "expected"),
    [
        (lambda x, y: x + y, (2.0, 3.0), (1.0, 0.5), 1.5),
        (lambda x, y: x * y, (2.0, 3.0), (1.0, 0.5), 4),
        (lambda x, y: x - y, (5.0, 3.0), (1.0, 0.5), 0.5),
        (lambda x, y: x / y, (6.0, 2.0), (1.0, 0.5), -0.25),
        (lambda x, y: x**y, (2.0, 3.0), (1.0, 0.0), 12),
        (np.prod, (np.array([2.0, 3, 4]),), (np.ones(3),), 26),
        (np.cumprod, (np.array([1.0, 2, 3]),), (np.array([0.1, 0.2, 0.3]),), [0.1, 0.4, 1.8]),
    ],
    ids=["add", "multiply", "subtract", "divide", "power", "prod", "cumprod"],
)
def test_case_61_operations(function, at, along, expected):
    close(br.jvp(function, at, along)[1], expected)


def test_case_62_both_modes_of_a_product():
    def f(x):
        return np.sum(np.sin(x) * np.exp(x))

    close(br.jvp(f, (POINTS,), (np.array([-1.25, 0.5, -0.5]),))[1], -5.10494947)
    close(br.grad(f)(POINTS), [2.83749814, -0.1896983, 2.92645529])


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (lambda x: x**2, 0.0, 0),
        (lambda x: x**3, -2.0, 12),
        (lambda x: x * 2, np.inf, 2),
        (lambda x: x / 2, np.inf, 0.5),
    ],
    ids=["square-at-zero", "cube-of-negative", "double-infinity", "half-infinity"],
)
def test_case_63_constant_operands_leave_no_nan(function, x, expected):
    close(br.jvp(function, (x,), (1.0,))[1], expected)
    close(br.grad(function)(x), expected)
    close(br.jvp(function, (np.array([x]),), (np.ones(1),))[1], [expected])
    close(br.grad(lambda x: np.sum(function(x)))(np.array([x])), [expected])
