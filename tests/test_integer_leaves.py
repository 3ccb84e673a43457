"""Integers and booleans among what is differentiated: seen as they are, with zeros of dtype float0 for derivatives."""

from __future__ import annotations

import numpy as np
import pytest

import bindrune as br
from expect import close

FLOAT0 = np.dtype([("float0", np.void, 0)])

X = np.array([1.0, 2.0])
PARAMS = {"w": X, "steps": 3, "order": np.array([1, 0, 1]), "keep": np.array([True, False])}


def polynomial(p):
    """Loops, branches and indexes by integers: 2 w1^2 + w0^2 + w0, and a write in between."""
    total = np.zeros(1)
    for i in range(p["steps"]):
        total[0] += p["w"][p["order"][i]] ** 2
    if p["keep"][0]:
        total += np.sum(p["w"][p["keep"]])
    return total[0]


def zeros(found, shape):
    """Whether a derivative is zeros of dtype float0."""
    return isinstance(found, np.ndarray) and found.dtype == FLOAT0 and found.shape == shape


def is_gradient(found, expected):
    close(found["w"], expected)
    assert zeros(found["steps"], ())
    assert zeros(found["order"], (3,))
    assert zeros(found["keep"], (2,))


# ------------------------------------------------------------------------------------------------------------ gradients


def test_grad_and_value_and_grad():
    is_gradient(br.grad(polynomial, allow_int=True)(PARAMS), [3, 8])
    value, gradient = br.value_and_grad(polynomial, allow_int=True)(PARAMS)
    close(value, 10)
    is_gradient(gradient, [3, 8])
    gradient, aux = br.grad(lambda p: (polynomial(p), "aux"), has_aux=True, allow_int=True)(PARAMS)
    is_gradient(gradient, [3, 8])
    assert aux == "aux"


def test_the_dtype_is_that_of_jax():
    jax = pytest.importorskip("jax")
    assert br.grad(lambda n: 2.0 * n, allow_int=True)(3).dtype == jax.dtypes.float0


def test_float0_takes_no_memory_and_refuses_arithmetic():
    found = br.grad(lambda n: np.sum(n * 0.5), allow_int=True)(np.arange(5))
    assert zeros(found, (5,))
    assert found.nbytes == 0
    with pytest.raises(TypeError):
        found * 0.1


@pytest.mark.parametrize(
    "leaf", [3, True, np.int8(3), np.bool_(True), np.array(3), np.arange(4), np.ones((2, 0), bool)]
)
def test_every_kind_of_integer_and_boolean(leaf):
    assert zeros(br.grad(lambda n: np.sum(n * 0.5), allow_int=True)(leaf), np.shape(leaf))
    by_n, by_x = br.grad(lambda n, x: np.sum(n * x), argnums=(0, 1), allow_int=True)(leaf, 2.0)
    assert zeros(by_n, np.shape(leaf))
    close(by_x, np.sum(leaf))


def test_by_name_and_in_any_order():
    f = lambda x, n: n * x  # noqa: E731
    by_n, by_x = br.grad(f, argnums=(1, 0), allow_int=True)(2.0, 3)
    assert zeros(by_n, ())
    close(by_x, 3)
    by_n, by_x = br.grad(f, argnames=("n", "x"), allow_int=True)(x=2.0, n=3)
    assert zeros(by_n, ())
    close(by_x, 3)


def test_an_argument_without_leaves_beside_one():
    gradient, empty = br.grad(lambda x, p: 2 * x, argnums=(0, 1))(1.0, {})
    close(gradient, 2)
    assert empty == {}


def test_the_caller_s_integers_can_be_written():
    n = np.arange(3)

    def f(x, n):
        n[0] = 5
        return x * n[0]

    close(br.grad(f, argnums=(0, 1), allow_int=True)(2.0, n)[0], 5)
    close(n, [5, 1, 2])


# ------------------------------------------------------------------------------------------------------------ Jacobians

JACOBIANS = {"jacfwd": br.jacfwd, "jacrev": br.jacrev, "jacobian": br.jacobian}
VALUE_AND = {"value_and_jacfwd": br.value_and_jacfwd, "value_and_jacrev": br.value_and_jacrev}


@pytest.mark.parametrize("mode", [*JACOBIANS.values(), *VALUE_AND.values()], ids=[*JACOBIANS, *VALUE_AND])
def test_jacobians(mode):
    f = lambda p: np.stack([polynomial(p), p["w"][0]])  # noqa: E731
    found = mode(f, allow_int=True)(PARAMS)
    if mode in VALUE_AND.values():
        value, found = found
        close(value, [10, 1])
    close(found["w"], [[3, 8], [1, 0]])
    assert zeros(found["steps"], (2,))
    assert zeros(found["order"], (2, 3))
    assert zeros(found["keep"], (2, 2))


@pytest.mark.parametrize("mode", JACOBIANS.values(), ids=JACOBIANS)
def test_a_jacobian_with_nothing_but_integers(mode):
    assert zeros(mode(lambda n: 0.5 * n, allow_int=True)(np.arange(3)), (3, 3))
    assert zeros(mode(lambda n: 0.5 * n, allow_int=True)(3), ())


@pytest.mark.parametrize("mode", JACOBIANS.values(), ids=JACOBIANS)
def test_integer_results_have_blocks_of_zeros(mode):
    def f(x, n):
        return {"outer": np.outer(x, x), "where": np.argmax(x), "n": n}

    by_x, by_n = (
        {k: found[k][i] for k in found} for found in [mode(f, argnums=(0, 1), allow_int=True)(X, 3)] for i in (0, 1)
    )
    close(by_x["outer"][:, :, 1], [[0, 1], [1, 4]])
    close(by_x["where"], [0, 0])
    close(by_x["n"], [0, 0])
    assert by_x["n"].dtype == int
    assert zeros(by_n["outer"], (2, 2))
    assert zeros(by_n["where"], ())


def test_hessian_and_its_product():
    found = br.hessian(polynomial, allow_int=True)(PARAMS)
    close(found["w"]["w"], [[2, 0], [0, 4]])
    shapes = {"w": (2,), "steps": (), "order": (3,), "keep": (2,)}
    for row, column in [(row, column) for row in shapes for column in shapes if (row, column) != ("w", "w")]:
        assert zeros(found[row][column], shapes[row] + shapes[column])
    tangents = {"w": X, "steps": 0, "order": np.zeros(3, int), "keep": np.zeros(2, FLOAT0)}
    is_gradient(br.hvp(polynomial, (PARAMS,), (tangents,)), [2, 8])


# ------------------------------------------------------------------------------------------------------------- tangents


@pytest.mark.parametrize(
    "zero",
    [
        {"steps": 0, "order": np.zeros(3, int), "keep": np.zeros(2, bool)},
        {"steps": np.zeros((), FLOAT0), "order": np.zeros(3, FLOAT0), "keep": np.zeros(2, FLOAT0)},
        {"steps": False, "order": np.zeros(3, np.int8), "keep": np.zeros(2, int)},
    ],
    ids=["own-dtype", "float0", "other-integers"],
)
def test_tangents_that_are_zero(zero):
    value, tangent = br.jvp(polynomial, (PARAMS,), ({"w": X, **zero},))
    close(value, 10)
    close(tangent, 3 + 16)


def test_the_gradient_is_a_tangent():
    gradient = br.grad(polynomial, allow_int=True)(PARAMS)
    close(br.jvp(polynomial, (PARAMS,), (gradient,))[1], 9 + 64)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"order": np.array([0, 0, 1])}, r"tangent of p\['order'\] is not zero, but the argument has dtype int64"),
        ({"steps": 1}, r"tangent of p\['steps'\] is not zero, but the argument has dtype int64"),
        ({"keep": np.array([False, True])}, r"tangent of p\['keep'\] is not zero, but the argument has dtype bool"),
        ({"order": np.zeros(2, FLOAT0)}, r"tangent of p\['order'\] has shape \(2,\), the argument has \(3,\)"),
        ({"w": np.zeros(2, FLOAT0)}, r"tangent of p\['w'\] has dtype .*float0.*, the argument has float64"),
    ],
    ids=["integers", "integer", "booleans", "shape", "float0-for-a-float"],
)
def test_tangents_that_do_not_fit(wrong, message):
    tangents = {"w": X, "steps": 0, "order": np.zeros(3, int), "keep": np.zeros(2, bool)}
    with pytest.raises(br.TangentError, match=rf"br\.jvp of polynomial .*: {message}"):
        br.jvp(polynomial, (PARAMS,), ({**tangents, **wrong},))


def test_tangents_that_differ_between_lanes():
    def push(x, n, t):
        return br.jvp(lambda x, n: x * n, (x, n), (1.0, t))[1]

    close(br.vmap(push)(X, np.array([3, 4]), np.array([0, 0])), [3, 4])
    with pytest.raises(br.TangentError, match="tangent of n is not zero"):
        br.vmap(push)(X, np.array([3, 4]), np.array([0, 1]))


def test_cotangents_and_tangents_of_integer_results():
    f = lambda x: (x * x, np.argmax(x), 3)  # noqa: E731
    _, pullback = br.vjp(f, X)
    for cotangent in ((X, 0, 0), (X, np.zeros((), FLOAT0), False)):
        close(pullback(cotangent)[0], 2 * X * X)
    with pytest.raises(br.CotangentError, match=r"cotangent\[1\] is not zero, but the result has dtype int64"):
        pullback((X, 1, 0))
    for tangent in (br.jvp(f, (X,), (X,))[1], br.linearize(f, X)[1](X)):
        close(tangent[0], 2 * X * X)
        assert [(type(t), t) for t in tangent[1:]] == [(np.int64, 0), (np.int64, 0)]


# -------------------------------------------------------------------------------------------------------------- nesting


def product(x, n):
    return x**3 * n


def test_derivatives_of_derivatives():
    inner = br.grad(product, argnums=(0, 1), allow_int=True)
    by_x, by_n = br.grad(lambda x, n: inner(x, n)[0], argnums=(0, 1), allow_int=True)(2.0, 3)
    close(by_x, 36)
    assert zeros(by_n, ())
    (slope, _), (curvature, still) = br.jvp(inner, (2.0, 3), (1.0, 0))
    close(slope, 36)
    close(curvature, 36)
    assert zeros(still, ())
    by_x, by_n = br.grad(lambda x, n: br.jvp(product, (x, n), (1.0, 0))[1], argnums=(0, 1), allow_int=True)(2.0, 3)
    close(by_x, 36)
    assert zeros(by_n, ())


def test_with_maps_in_both_orders():
    n = np.array([3, 4])
    by_x, by_n = br.vmap(br.grad(product, argnums=(0, 1), allow_int=True))(X, n)
    close(by_x, 3 * X**2 * n)
    assert zeros(by_n, (2,))
    by_x, by_n = br.grad(lambda x, n: np.sum(br.vmap(product)(x, n)), argnums=(0, 1), allow_int=True)(X, n)
    close(by_x, 3 * X**2 * n)
    assert zeros(by_n, (2,))
    by_x, by_n = br.jacrev(br.vmap(product), argnums=(0, 1), allow_int=True)(X, n)
    close(by_x, np.diag(3 * X**2 * n))
    assert zeros(by_n, (2, 2))


# ------------------------------------------------------------------------------------------------------------- refusals

TRANSFORMATIONS = {
    "grad": br.grad,
    "value_and_grad": br.value_and_grad,
    **JACOBIANS,
    **VALUE_AND,
    "hessian": br.hessian,
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_without_allow_int_the_leaf_is_named_with_the_remedy(name):
    shown = {"hessian": "jacfwd"}.get(name, name)
    message = rf"br\.{shown} of .*: p\['order'\] has dtype int64, which has no derivative\. .*allow_int=True"
    with pytest.raises(br.NonDifferentiableError, match=message):
        TRANSFORMATIONS[name](polynomial)({"w": X, "order": np.arange(3)})


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_strings_and_objects_have_no_derivative_either_way(name):
    with pytest.raises(br.NonDifferentiableError, match=r"p\['name'\] has 'linear'") as caught:
        TRANSFORMATIONS[name](polynomial, allow_int=True)({"w": X, "name": "linear"})
    assert "allow_int" not in str(caught.value)


def test_jvp_vjp_and_linearize_do_not_advise_what_they_do_not_have():
    for call in (
        lambda: br.vjp(product, 2.0, 3),
        lambda: br.linearize(product, 2.0, 3),
        lambda: br.jvp(product, (2.0, "3"), (1.0, "0")),
    ):
        with pytest.raises(br.NonDifferentiableError, match=r"n has .*Pass a float \(x\.astype\(float\)\)\.$"):
            call()
