"""Roots and minima by SciPy's solvers: their derivatives are those of closed forms."""

import doctest
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from numpy.testing import assert_allclose

import bindrune as br

root, minimize = br.scipy.optimize.root, br.scipy.optimize.minimize

A = np.array([4.0, 9.0])
Q = np.array([[2.0, 0.5], [0.1, 3.0]])
B = np.array([1.0, -2.0])


def sqrt(a: Any) -> Any:
    return root(lambda x: x**2 - a, np.ones(np.shape(a))).x


def lowest(q: Any, b: Any) -> Any:
    """The minimum of a quadratic function."""
    return minimize(lambda x: x @ q @ x / 2 - b @ x, np.zeros(2), method="trust-exact").x


def lowest_solved(q: Any, b: Any) -> Any:
    return np.linalg.solve((q + q.T) / 2, b)


# ------------------------------------------------------------------------------------------------------------- values


def test_a_root_is_scipys() -> None:
    ours = root(lambda x: x**2 - A, np.ones(2))
    theirs = scipy.optimize.root(lambda x: x**2 - A, np.ones(2), jac=lambda x: np.diag(2 * x))
    assert_allclose(ours.x, theirs.x, rtol=1e-15)
    assert (type(ours), type(ours.x)) == (type(theirs), np.ndarray)
    assert (ours.nfev, ours.njev, ours.status, ours.message) == (theirs.nfev, theirs.njev, 1, theirs.message)
    assert ours.success
    assert_allclose(ours.fun, 0, atol=1e-9)


def test_a_minimum_is_scipys() -> None:
    ours = minimize(lambda x: np.sum(x**4 - A * x), np.ones(2))
    theirs = scipy.optimize.minimize(lambda x: np.sum(x**4 - A * x), np.ones(2), jac=lambda x: 4 * x**3 - A)
    assert_allclose(ours.x, theirs.x, rtol=1e-12)
    assert_allclose(ours.fun, theirs.fun, rtol=1e-15)
    assert (ours.nfev, ours.nit, ours.success) == (theirs.nfev, theirs.nit, True)


@pytest.mark.parametrize("x0", [1.0, 1, [1], np.float32(1), np.ones(1)], ids=repr)
def test_a_number_becomes_an_axis_as_in_scipy(x0: Any) -> None:
    assert_allclose(root(lambda x: [x[0] ** 2 - 4], x0).x, [2.0])
    assert_allclose(minimize(lambda x: (x[0] - 2) ** 2, x0).x, [2.0], rtol=1e-6)


def test_a_function_may_write_into_what_it_is_given() -> None:
    def residual(x: Any) -> Any:
        x *= x
        return x - A

    assert_allclose(root(residual, np.ones(2)).x, [2, 3])
    assert_allclose(minimize(lambda x: np.sum(residual(x) ** 2), np.ones(2), tol=1e-8).x, [2, 3])


@pytest.mark.parametrize("method", ["hybr", "broyden1", "anderson", "krylov", "df-sane"])
def test_every_method_for_roots(method: str) -> None:
    found = br.jacobian(lambda a: root(lambda x: x**2 - a, np.array([1.9, 3.1]), method=method).x)(A)
    assert_allclose(found, np.diag(0.5 / np.sqrt(A)), rtol=1e-5)


METHODS = (
    "Nelder-Mead Powell CG BFGS Newton-CG L-BFGS-B TNC COBYLA COBYQA SLSQP trust-constr dogleg trust-ncg trust-exact "
    "trust-krylov"
).split()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("error")
def test_every_method_for_minima(method: str) -> None:
    def at(a: Any) -> Any:
        return minimize(lambda x: np.sum(x**4 / 4 - a * x), np.ones(2), method=method).x

    x = np.cbrt(A)
    assert_allclose(at(A), x, rtol=2e-3)
    assert_allclose(br.jacobian(at)(A), np.diag(1 / (3 * x**2)), rtol=5e-3)


# -------------------------------------------------------------------------------------------------------- derivatives


def test_derivatives_of_a_root() -> None:
    expected = np.diag(0.5 / np.sqrt(A))
    assert_allclose(br.jacfwd(sqrt)(A), expected, rtol=1e-9)
    assert_allclose(br.jacrev(sqrt)(A), expected, rtol=1e-9)
    value, tangent = br.jvp(sqrt, (A,), (np.array([1.0, 0.0]),))
    assert_allclose(value, [2, 3])
    assert_allclose(tangent, [0.25, 0], rtol=1e-9)
    assert_allclose(br.grad(lambda a: np.sum(sqrt(a)))(A), np.diag(expected), rtol=1e-9)


def test_higher_derivatives_of_a_root() -> None:
    assert_allclose(br.hessian(lambda a: np.sum(sqrt(a)))(A), np.diag(-0.25 * A**-1.5), atol=1e-9)
    third = br.grad(br.grad(br.grad(lambda a: root(lambda x: x**2 - a, 1.0).x[0])))(4.0)
    assert_allclose(third, 3 / 8 * 4**-2.5, rtol=1e-6)


@pytest.mark.parametrize("argnum", [0, 1])
@pytest.mark.parametrize("mode", [br.jacfwd, br.jacrev])
def test_derivatives_of_a_minimum(mode: Callable[..., Any], argnum: int) -> None:
    assert_allclose(mode(lowest, argnum)(Q, B), mode(lowest_solved, argnum)(Q, B), rtol=1e-9, atol=1e-12)


def test_second_derivatives_of_a_minimum() -> None:
    def norm(solve: Callable[..., Any]) -> Callable[..., Any]:
        return br.hessian(lambda q, b: np.sum(solve(q, b) ** 2), argnums=(0, 1))

    for ours, expected in zip(norm(lowest)(Q, B), norm(lowest_solved)(Q, B), strict=True):
        for block, other in zip(ours, expected, strict=True):
            assert_allclose(block, other, rtol=1e-9, atol=1e-12)


def test_the_lowest_value_is_differentiable() -> None:
    def value(b: Any) -> Any:
        return minimize(lambda x: x @ Q @ x / 2 - b @ x, np.zeros(2), method="trust-exact").fun

    inverse = np.linalg.inv((Q + Q.T) / 2)
    assert_allclose(value(B), -B @ inverse @ B / 2)
    assert_allclose(br.grad(value)(B), -inverse @ B)
    assert_allclose(br.hessian(value)(B), -inverse)


def test_arguments_are_differentiated() -> None:
    def at(p: Any) -> Any:
        return root(lambda x, p, n: p["k"] * x**n - 8, 1.0, args=(p, 3)).x[0]

    assert_allclose(br.grad(at)({"k": 1.0})["k"], -2 / 3, rtol=1e-9)
    assert_allclose(br.grad(lambda a: minimize(lambda x, a: np.sum((x - a) ** 2), 0.0, args=a).x[0])(3.0), 1)


def test_a_module_level_function_with_an_array_it_captures() -> None:
    target = np.array([1.0, 2.0])
    found = br.jacobian(lambda s: root(lambda x: x - s * target, np.zeros(2)).x)(3.0)
    assert_allclose(found, target)


def test_the_starting_point_has_no_derivative() -> None:
    assert br.grad(lambda x0: root(lambda x: x**2 - 4.0, x0).x[0])(3.0) == 0
    assert br.grad(lambda x0: minimize(lambda x: np.sum((x - 4.0) ** 2), x0).fun)(3.0) == 0


def test_a_search_runs_once_whatever_the_order() -> None:
    calls = []

    def at(a: Any) -> Any:
        found = root(lambda x: x**2 - a, 1.0)
        calls.append(found.nfev)
        return found.x[0]

    at(4.0)
    br.grad(br.grad(at))(4.0)
    assert calls[0] == calls[1]


def test_an_optimum_within_an_optimum() -> None:
    def inner(y: Any) -> Any:
        return minimize(lambda x: np.sum((x - y**2) ** 2), np.zeros(1), method="trust-exact").x

    def outer(c: Any) -> Any:
        return root(lambda y: inner(y) - c, 1.0).x[0]

    assert_allclose(outer(9.0), 3)
    assert_allclose(br.grad(outer)(9.0), 1 / 6)


# ------------------------------------------------------------------------------------------------------------ batching


def test_lanes_are_searched_one_after_the_other() -> None:
    a = np.array([[4.0, 9.0], [1.0, 2.0], [25.0, 3.0]])
    assert_allclose(br.vmap(sqrt)(a), np.sqrt(a))
    assert_allclose(br.vmap(br.jacrev(sqrt))(a), [np.diag(d) for d in 0.5 / np.sqrt(a)], atol=1e-12)
    together = br.jacfwd(br.vmap(sqrt))(a)
    assert_allclose(np.einsum("ijij->ij", together), 0.5 / np.sqrt(a))


def test_lanes_of_minima() -> None:
    b = np.stack([B, 2 * B, B + 1])
    each = br.vmap(br.jacfwd(lowest, argnums=(0, 1)), in_axes=(None, 0))(Q, b)
    expected = [br.jacfwd(lowest_solved, argnums=(0, 1))(Q, row) for row in b]
    for found, parts in zip(each, zip(*expected, strict=True), strict=True):
        assert_allclose(found, np.stack(parts), rtol=1e-9, atol=1e-12)


def test_lanes_with_starting_points_of_their_own() -> None:
    def at(x0: Any) -> Any:
        found = root(np.sin, x0)
        return found.x, found.nfev

    x, count = br.vmap(at)(np.array([3.0, 6.2]))
    assert_allclose(x, [[np.pi], [2 * np.pi]])
    assert np.all(count == sum(root(np.sin, x0).nfev for x0 in (3.0, 6.2)))


# ----------------------------------------------------------------------------------------------------------- failures


def test_no_convergence_is_an_error_with_scipys_message() -> None:
    message = (
        r"root, method 'hybr', did not converge: The iteration is not making good progress, as measured by the imp"
    )
    with pytest.raises(RuntimeError, match=message):
        root(lambda x: x**2 + 1, 1.0)
    with pytest.raises(RuntimeError, match=message):
        br.vmap(br.grad(lambda a: root(lambda x: x**2 - a, 1.0).x[0]))(np.array([1.0, -1.0]))
    with pytest.raises(RuntimeError, match="minimize, method 'BFGS', did not converge: Maximum number of iterations"):
        minimize(lambda x: np.sum(np.cosh(x - A)), np.zeros(2), options={"maxiter": 1})


def test_least_squares_are_no_roots() -> None:
    with pytest.raises(ValueError, match=re.escape("what it finds need not be a root")):
        root(np.sin, 1.0, method="lm")


def test_a_starting_point_has_one_axis() -> None:
    with pytest.raises(ValueError, match=re.escape("x0 has shape (2, 2); it must have one axis at most")):
        minimize(np.sum, np.ones((2, 2)))


def test_a_minimum_is_that_of_one_number() -> None:
    with pytest.raises(ValueError, match="must return a scalar value"):
        minimize(np.sin, np.ones(2))


def test_the_examples_run() -> None:
    found = doctest.testmod(br.scipy.optimize)
    assert found.attempted
    assert not found.failed
