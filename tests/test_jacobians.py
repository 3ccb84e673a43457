"""Jacobians, Hessians and linearisations: every mode, on trees, nested, from one evaluation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import bindrune as br
from expect import close, difference_gradient

X = np.array([0.7, -1.3, 2.1])
W = np.array([[0.5, -1.2, 2.1], [1.7, -0.4, 0.9]])

MODES = {"jacfwd": br.jacfwd, "jacrev": br.jacrev, "jacobian": br.jacobian}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def vector(x):
    return np.stack([x[0] * x[1], np.sin(x[2]) * x[0]])


def vector_jacobian(x):
    return np.array([[x[1], x[0], 0], [np.sin(x[2]), 0, x[0] * np.cos(x[2])]])


def writing(x):
    """Writes into arrays, through a view, in a loop, and branches on a value."""
    out = np.zeros((2, 3))
    row = out[1]
    for i in range(3):
        row[i] = x[i] * x[i - 1]
    if out[1, 0] < 0:
        out[0] = np.sin(x)
    out[:, 1:] += x[0]
    return out


def differences(f, x):
    """The Jacobian of a function of an array by central differences."""
    shape = np.shape(f(x))
    rows = [difference_gradient(lambda x, i=i: np.ravel(f(x))[i], x) for i in range(int(np.prod(shape)))]
    return np.reshape(rows, (*shape, *np.shape(x)))


# ------------------------------------------------------------------------------------------------------------ Jacobians


@modes
@pytest.mark.parametrize("f", [vector, writing, lambda x: np.outer(x, x), lambda x: x, np.sum, lambda x: W @ np.cos(x)])
def test_against_differences(mode, f):
    close(mode(f)(X), differences(f, X), rtol=1e-6, atol=1e-8)


@modes
def test_shapes_are_those_of_the_result_then_those_of_the_argument(mode):
    f = lambda x: np.ones((2, 1)) * np.sum(x) + x[0, 0]  # noqa: E731
    assert mode(f)(np.ones((1, 3))).shape == (2, 1, 1, 3)
    assert mode(lambda x: 2 * x)(1.5).shape == ()
    assert type(mode(lambda x: 2 * x)(1.5)) is np.float64
    assert mode(np.sum)(X).shape == (3,)
    assert mode(lambda x: x * np.ones(2))(1.5).shape == (2,)
    assert mode(lambda x: x[:0])(X).shape == (0, 3)
    assert mode(lambda x: np.ones(2) * np.sum(x))(np.zeros(0)).shape == (2, 0)


@modes
def test_dtypes_and_numbers(mode):
    found = mode(lambda x: x * x)(X.astype(np.float32))
    assert found.dtype == np.float32
    close(found, np.diag(2 * X), rtol=1e-6)


@modes
def test_a_constant_result_and_an_argument_it_does_not_depend_on(mode):
    close(mode(lambda x: np.ones(2))(X), np.zeros((2, 3)))
    close(mode(lambda x, y: y, argnums=(0, 1))(X, np.ones(2))[0], np.zeros((2, 3)))
    found = mode(lambda x: {"a": x, "b": np.ones(2)})(X)
    close(found["b"], np.zeros((2, 3)))


@modes
def test_trees_of_arguments_and_results(mode):
    class Point(NamedTuple):
        x: np.ndarray
        y: float

    def f(p):
        return {"product": p["at"].x * p["at"].y, "sums": (np.sum(p["at"].x) * p["w"], p["w"][0])}

    p = {"at": Point(X, 2.0), "w": np.array([3.0, 4.0])}
    found = mode(f)(p)
    assert type(found["product"]["at"]) is Point
    close(found["product"]["at"].x, 2 * np.eye(3))
    close(found["product"]["at"].y, X)
    close(found["product"]["w"], np.zeros((3, 2)))
    close(found["sums"][0]["at"].x, np.outer(p["w"], np.ones(3)))
    close(found["sums"][0]["at"].y, np.zeros(2))
    close(found["sums"][0]["w"], np.sum(X) * np.eye(2))
    close(found["sums"][1]["w"], [1, 0])


@modes
def test_several_arguments_by_number_and_name(mode):
    f = lambda a, b, c: a * b + c  # noqa: E731
    a, b, c = X, X + 1, X + 2
    close(mode(f, argnums=1)(a, b, c), np.diag(a))
    close(mode(f, argnums=-1)(a, b, c), np.eye(3))
    by_a, by_c = mode(f, argnums=(0, 2))(a, b, c)
    close(by_a, np.diag(b))
    close(by_c, np.eye(3))
    by_c, by_a = mode(f, argnums=(2, 0))(a, b, c)
    close(by_c, np.eye(3))
    close(by_a, np.diag(b))
    close(mode(f, argnames="b")(a, c=c, b=b), np.diag(a))
    by_c, by_b = mode(f, argnames=("c", "b"))(a, b=b, c=c)
    close(by_b, np.diag(a))
    close(by_c, np.eye(3))


@modes
def test_aux(mode):
    def f(x):
        return x * x, {"name": "square", "double": 2 * x}

    jacobian, aux = mode(f, has_aux=True)(X)
    close(jacobian, np.diag(2 * X))
    assert aux["name"] == "square"
    close(aux["double"], 2 * X)
    with pytest.raises(TypeError, match=r"has_aux=True needs a function that returns \(value, aux\)"):
        mode(lambda x: x, has_aux=True)(X)


def test_value_and_jacobian():
    for both in (br.value_and_jacfwd, br.value_and_jacrev):
        value, jacobian = both(vector)(X)
        close(value, vector(X))
        close(jacobian, vector_jacobian(X))
        (value, aux), jacobian = both(lambda x: (vector(x), "aux"), has_aux=True)(X)
        close(value, vector(X))
        close(jacobian, vector_jacobian(X))
        assert aux == "aux"


@modes
def test_one_evaluation(mode):
    runs = []

    def f(x):
        runs.append(1)
        return np.outer(x, x)

    mode(f)(X)
    assert len(runs) == 1
    br.hessian(lambda x: np.sum(f(x)))(X)
    assert len(runs) == 2
    br.value_and_jacrev(f)(X)
    br.value_and_jacfwd(f)(X)
    assert len(runs) == 4


@modes
def test_holomorphic(mode):
    z = X + 1j * X[::-1]
    f = lambda z: np.exp(z) * z[0]  # noqa: E731
    expected = np.diag(np.exp(z) * z[0])
    expected[:, 0] += np.exp(z)
    close(mode(f, holomorphic=True)(z), expected)


@modes
def test_captured_values_are_followed_by_outer_derivatives(mode):
    outer = br.grad(lambda w: np.sum(mode(lambda x: w * x**2)(X)))
    close(outer(3.0), np.sum(2 * X))
    close(br.jacfwd(lambda w: np.diag(mode(lambda x: w * x**2)(X)))(3.0), 2 * X)
    close(br.vmap(lambda w: mode(lambda x: w * x**2)(X))(X), [np.diag(2 * w * X) for w in X])


@modes
@pytest.mark.parametrize("outer", MODES.values(), ids=MODES)
def test_jacobians_of_jacobians(mode, outer):
    expected = np.zeros((2, 3, 3))
    expected[0, 0, 1] = expected[0, 1, 0] = 1
    expected[1, 0, 2] = expected[1, 2, 0] = np.cos(X[2])
    expected[1, 2, 2] = -X[0] * np.sin(X[2])
    close(outer(mode(vector))(X), expected)


@modes
def test_with_maps_in_both_orders(mode):
    lanes = np.stack([X, -X])
    close(br.vmap(mode(vector))(lanes), [vector_jacobian(x) for x in lanes])
    found = mode(br.vmap(vector))(lanes)
    assert found.shape == (2, 2, 2, 3)
    for i in range(2):
        close(found[i, :, i], vector_jacobian(lanes[i]))
        close(found[i, :, 1 - i], np.zeros((2, 3)))


@modes
def test_the_caller_s_arrays(mode):
    def f(x):
        x[0] = 5.0
        return x * x

    x = X.copy()
    close(mode(f)(x), np.diag([0, 2 * X[1], 2 * X[2]]))
    close(x, [5, -1.3, 2.1])


def test_as_a_method():
    class Model:
        def __init__(self):
            self.w = W

        def predict(self, x):
            return np.tanh(self.w @ x)

        by_x = br.jacfwd(predict, argnums=1)

    expected = (1 - np.tanh(W @ X) ** 2)[:, None] * W
    close(Model().by_x(X), expected)
    close(br.jacrev(Model().predict)(X), expected)


@modes
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mode: mode(vector)(np.arange(3)), r"vector .*: x has dtype int64, which has no derivative"),
        (lambda mode: mode(lambda p: p["a"])({"a": X, "n": 3}), r"p\['n'\] has dtype int64"),
        (lambda mode: mode(lambda z: z)(X * 1j), r"z is complex.*holomorphic=True.*real and imaginary"),
        (lambda mode: mode(lambda p: p["a"])({"a": X * 1j}), r"p\['a'\] is complex"),
        (lambda mode: mode(lambda x: 1j * x)(X), r"the result is complex.*holomorphic=True"),
        (lambda mode: mode(lambda z: z, holomorphic=True)(X), r"z is not complex, as it must be with holomorphic=True"),
        (lambda mode: mode(np.abs, holomorphic=True)(X * 1j), r"the result is not complex, as it must be"),
    ],
    ids=["integers", "leaf", "complex-argument", "complex-leaf", "complex-result", "real-argument", "real-result"],
)
def test_errors(mode, call, message):
    with pytest.raises(br.NonDifferentiableError, match=rf"br.jac\w+ of .*{message}"):
        call(mode)


# ------------------------------------------------------------------------------------------------------------- Hessians


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def test_hessian_of_trees():
    f = lambda p: np.sum(p["a"] ** 2 * p["b"]) + p["b"] ** 3  # noqa: E731
    found = br.hessian(f)({"a": X, "b": 2.0})
    close(found["a"]["a"], 4 * np.eye(3))
    close(found["a"]["b"], 2 * X)
    close(found["b"]["a"], 2 * X)
    close(found["b"]["b"], 12)


def test_hessian_of_several_arguments_and_aux():
    f = lambda a, b: np.sum(a * b**2)  # noqa: E731
    (aa, ab), (ba, bb) = br.hessian(f, argnums=(0, 1))(X, X)
    close(aa, np.zeros((3, 3)))
    close(ab, np.diag(2 * X))
    close(ba, np.diag(2 * X))
    close(bb, np.diag(2 * X))
    hessian, aux = br.hessian(lambda x: (np.sum(x**3), "aux"), has_aux=True)(X)
    close(hessian, np.diag(6 * X))
    assert aux == "aux"
    close(br.hessian(f, argnames="b")(X, b=X), np.diag(2 * X))


def test_hessian_of_a_vector_and_of_a_map():
    found = br.hessian(lambda x: x**3)(X)
    assert found.shape == (3, 3, 3)
    close(np.einsum("iii->i", found), 6 * X)
    points = np.array([[-1.2, 1.0], [1.0, 1.0]])
    close(br.vmap(br.hessian(rosenbrock))(points), [br.hessian(rosenbrock)(p) for p in points])


def test_hvp_in_every_position():
    v = np.array([1.0, 0.5, -2.0])
    f = lambda x: np.sum(np.sin(x) * x[0])  # noqa: E731
    expected = br.hessian(f)(X) @ v
    close(br.hvp(f, (X,), (v,)), expected)
    close(br.vmap(lambda v: br.hvp(f, (X,), (v,)))(np.eye(3)), br.hessian(f)(X))
    third = br.jacfwd(lambda x: br.hvp(f, (x,), (v,)))(X)
    close(third, br.jacrev(lambda x: br.hessian(f)(x) @ v)(X))
    close(br.grad(lambda x: np.sum(br.hvp(f, (x,), (v,)) * v))(X), v @ third)
    with pytest.raises(br.TangentError, match=r"tangent of x has shape \(2,\), the argument has \(3,\)"):
        br.hvp(f, (X,), (v[:2],))


# ------------------------------------------------------------------------------------------------------- linearisations


def test_linearize():
    runs = []

    def f(x, p):
        runs.append(1)
        return {"y": vector(x) * p["s"], "n": np.sum(x)}

    value, push = br.linearize(f, X, {"s": 2.0})
    close(value["y"], 2 * vector(X))
    v = np.array([1.0, 0.5, -2.0])
    moved = push(v, {"s": 3.0})
    _, expected = br.jvp(f, (X, {"s": 2.0}), (v, {"s": 3.0}))
    assert len(runs) == 2
    close(moved["y"], expected["y"])
    close(moved["n"], expected["n"])
    twice = push(2 * v, {"s": 6.0})
    close(twice["y"], 2 * expected["y"])
    assert len(runs) == 2


def test_linearize_with_everything_else():
    f = lambda x: writing(x) * np.sum(x)  # noqa: E731
    v = np.array([1.0, 0.5, -2.0])
    expected = br.jvp(f, (X,), (v,))[1]
    value, push, aux = br.linearize(lambda x: (f(x), "aux"), X, has_aux=True)
    assert aux == "aux"
    close(value, f(X))
    close(push(v), expected)
    close(br.vmap(push)(np.eye(3)), np.moveaxis(br.jacobian(f)(X), -1, 0))
    close(
        br.grad(lambda x: np.sum(br.linearize(f, x)[1](v)))(X), br.grad(lambda x: np.sum(br.jvp(f, (x,), (v,))[1]))(X)
    )
    close(br.vjp(push, v)[1](np.ones((2, 3)))[0], br.vjp(f, X)[1](np.ones((2, 3)))[0])
    close(br.vmap(lambda x: br.linearize(f, x)[1](v))(np.stack([X, X])), [expected, expected])
    z = X + 1j
    close(br.linearize(np.exp, z)[1](v + 0j), np.exp(z) * v)
    close(br.linearize(lambda x: np.ones(2), X)[1](v), [0, 0])


def test_a_linearisation_outlives_writes_to_arguments_captured_arrays_and_values():
    x, scale, v = X.copy(), np.array([2.0, 3.0, 4.0]), np.array([1.0, 0.5, -2.0])
    value, push = br.linearize(lambda x: np.exp(x) * scale, x)
    x[:] = scale[:] = value[:] = 0.0
    close(push(v), np.exp(X) * [2.0, 3.0, 4.0] * v)


def test_linearize_checks_its_tangents():
    _, push = br.linearize(vector, X)
    with pytest.raises(
        br.TangentError, match=r"br.linearize of vector .*tangent\[0\] has shape \(2,\), the argument has \(3,\)"
    ):
        push(np.ones(2))
    with pytest.raises(br.TangentError, match=r"br.linearize of vector .*structure"):
        push(X, X)
    with pytest.raises(br.NonDifferentiableError, match=r"br.linearize of vector .*: x has dtype int64"):
        br.linearize(vector, np.arange(3))


def test_linear_transpose():
    transpose = br.linear_transpose(lambda x: W @ x, np.zeros(3))
    close(transpose(np.array([1.0, 2.0]))[0], np.array([1.0, 2.0]) @ W)

    def f(x, p):
        return x[::-1] + p["b"], np.sum(x)

    transpose = br.linear_transpose(f, np.zeros(3), {"b": 0.0})
    by_x, by_p = transpose((X, 10.0))
    close(by_x, X[::-1] + 10)
    close(by_p["b"], np.sum(X))
    # the transpose of the transpose, under maps and inside derivatives
    back = br.linear_transpose(lambda ct: br.linear_transpose(lambda x: W @ x, np.zeros(3))(ct)[0], np.zeros(2))
    close(back(X)[0], W @ X)
    close(br.vmap(lambda ct: br.linear_transpose(lambda x: W @ x, np.zeros(3))(ct)[0])(np.eye(2)), W)
    by_w = br.grad(lambda w: np.sum(br.linear_transpose(lambda x: w @ x, np.zeros(3))(np.ones(2))[0] * X))(W)
    close(by_w, np.outer(np.ones(2), X))
    # complex: the transpose, not its conjugate
    close(br.linear_transpose(lambda x: 1j * x, np.zeros(2) * 1j)(np.ones(2) + 0j)[0], np.full(2, 1j))
    with pytest.raises(br.CotangentError, match=r"cotangent has shape \(3,\), the result has \(2,\)"):
        br.linear_transpose(lambda x: W @ x, np.zeros(3))(X)
