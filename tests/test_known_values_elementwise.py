"""Gradients of elementwise operations at points where they are known."""

import numpy as np
import pytest
from scipy import special

import bindrune as br
from expect import close, weigh

POINTS = np.array([0.7, -1.3, 2.1])
INSIDE = np.array([0.3, -0.6, 0.8])


def derivative(function, x):
    """The derivative of an elementwise function at each element."""
    return br.grad(lambda x: np.sum(function(x)))(x)


@pytest.mark.parametrize(
    ("function", "at", "expected"),
    [
        (lambda x, y: x + y, (2.0, 3.0), (1, 1)),
        (lambda x, y: x * y, (2.0, 3.0), (3, 2)),
        (lambda x, y: x - y, (5.0, 3.0), (1, -1)),
        (lambda x, y: x / y, (6.0, 2.0), (0.5, -1.5)),
    ],
    ids=["add", "multiply", "subtract", "divide"],
)
def test_case_01_arithmetic(function, at, expected):
    close(br.grad(function, argnums=(0, 1))(*at), expected)


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (np.exp, 0.0, 1),
        (np.log, 2.0, 0.5),
        (np.sin, 0.0, 1),
        (np.cos, 0.0, 0),
        (np.sqrt, 4.0, 0.25),
        (lambda x: 1 / x, 2.0, -0.25),
        (np.reciprocal, 2.0, -0.25),
        (lambda x: 1 / np.sqrt(x), 4.0, -0.0625),
        (np.square, 3.0, 6),
    ],
    ids=["exp", "log", "sin", "cos", "sqrt", "one-over", "reciprocal", "rsqrt", "square"],
)
def test_case_02_one_operand(function, x, expected):
    close(br.grad(function)(x), expected)


def test_case_03_chains():
    def doubled(x):
        a = x * x
        return a + a

    close(br.grad(lambda x: x**3)(2.0), 12)
    close(br.grad(lambda x: (x**2) ** 2)(2.0), 32)
    close(br.grad(doubled)(2.0), 8)
    close(br.grad(lambda x: x**2 + np.sin(x))(2.0), 3.58385316)


def test_case_04_tanh():
    close(derivative(np.tanh, POINTS), [0.63473959, 0.2574332, 0.05822304])


def test_case_05_tan_arcsin_arccos():
    close(derivative(np.tan, INSIDE), [1.0956889, 1.4680432, 2.0601556])
    close(derivative(np.arcsin, INSIDE), [1.0482848, 1.25, 1.6666667])
    close(derivative(np.arccos, INSIDE), [-1.0482848, -1.25, -1.6666667])


def test_case_06_arctan():
    close(derivative(np.arctan, POINTS), [0.67114094, 0.37174721, 0.18484288])


def test_case_06_erf():
    close(derivative(special.erf, POINTS), [0.69127486, 0.20820799, 0.01371565])


def test_case_07_sinh_cosh():
    close(derivative(np.sinh, POINTS), [1.255169, 1.9709142, 4.1443132])
    close(derivative(np.cosh, POINTS), [0.7585837, -1.6983824, 4.0218567])


@pytest.mark.parametrize(
    ("function", "a", "b", "by_a", "by_b"),
    [
        (
            np.divide,
            [0.7, -1.3, 2.1],
            [1.9, 0.8, 0.6],
            [0.52631579, 1.25, 1.66666667],
            [-0.19390582, 2.03125, -5.83333333],
        ),
        (
            np.power,
            [0.7, 1.3, 2.1],
            [1.9, 0.8, -0.6],
            [1.37829391, 0.75910406, -0.18306292],
            [-0.18111686, 0.32363789, 0.47537425],
        ),
        (
            np.arctan2,
            [0.7, -1.3, 2.1],
            [1.9, 0.8, 0.6],
            [0.46341463, 0.34334764, 0.12578616],
            [-0.17073171, 0.55793991, -0.44025157],
        ),
    ],
    ids=["case_08_divide", "case_09_power", "case_10_arctan2"],
)
def test_two_operands(function, a, b, by_a, by_b):
    found = br.grad(lambda a, b: np.sum(function(a, b)), argnums=(0, 1))(np.array(a), np.array(b))
    close(found[0], by_a)
    close(found[1], by_b)


def test_case_11_sigmoid_far_out_is_flat_and_not_nan():
    def sigmoid(x):
        return 0.5 * (np.tanh(x / 2) + 1)

    close(br.grad(sigmoid)(0.0), 0.25)
    close(derivative(sigmoid, np.array([-1000.0, 1000.0])), [0, 0])


def test_case_11_expit():
    close(derivative(special.expit, np.array([0.0, -1000.0, 1000.0])), [0.25, 0, 0])


def test_case_12_relu():
    def relu(x):
        return np.where(x > 0, x, 0)

    close(derivative(relu, np.array([-2.0, -1, 0, 1, 2])), [0, 0, 0, 1, 1])
    close(
        br.grad(lambda x: np.mean(relu(x)))(np.array([[-1.0, 0, 1], [-2, 2, 3]])), np.array([[0, 0, 1], [0, 1, 1]]) / 6
    )
    close(br.grad(lambda x: np.maximum(x, 0))(0.0), 0.5)


@pytest.mark.parametrize("step", [np.sign, np.floor, np.ceil, np.trunc, np.round])
def test_case_13_steps_are_flat(step):
    close(derivative(step, POINTS), [0, 0, 0])


def test_case_13_division_by_zero_does_not_raise():
    with np.errstate(all="ignore"):
        assert not np.isfinite(br.grad(lambda x: x / (x - x))(np.float64(1.0)))


def test_weights_tell_elements_apart():
    close(br.grad(weigh)(np.zeros(6)), [0.5, 1, 1.5, 2, 2.5, 0.5])
