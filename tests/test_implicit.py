"""Implicit differentiation: the derivatives of solutions, against closed forms, in every mode and order."""

from __future__ import annotations

import math

import numpy as np
import pytest

import bindrune as br
from expect import close, difference_gradient, weigh

A = np.array([[4.0, 1, 0.5], [1, 3, -0.7], [-0.2, 1, 2]])
S = A @ A.T + np.eye(3)
B = np.array([4.0, 5, 6])

SLOPES = {
    "grad": lambda f: br.grad(f),
    "jvp": lambda f: lambda x: br.jvp(f, (x,), (1.0,))[1],
    "linearize": lambda f: lambda x: br.linearize(f, x)[1](1.0),
    "jacfwd": lambda f: br.jacfwd(f),
    "jacrev": lambda f: br.jacrev(f),
}
slopes = pytest.mark.parametrize("d", SLOPES.values(), ids=SLOPES)
second_slopes = pytest.mark.parametrize("e", SLOPES.values(), ids=SLOPES)


def newton(f, x):
    """Works for one number and for lanes of them."""
    for _ in range(30):
        x = x - f(x) / br.jvp(f, (x,), (1.0,))[1]
    return x


def newton_of_vectors(f, x):
    for _ in range(20):
        x = x - np.linalg.solve(br.jacobian(f)(x), f(x))
    return x


def square_root(a):
    return br.custom_root(lambda x: x * x - a, 1.0, newton)


def cubic_root(p):
    """The root of x**3 + p x - 1."""
    return br.custom_root(lambda x: x**3 + p * x - 1, 0.5, newton)


def cubic_slope(p):
    x = cubic_root(p)
    return -x / (3 * x**2 + p)


# ---------------------------------------------------------------------------------------------------------------- roots


@slopes
def test_roots_against_closed_forms(d):
    for a in (0.5, 4.0, 100.0):
        close(square_root(a), np.sqrt(a))
        close(d(square_root)(a), 1 / (2 * np.sqrt(a)))
    close(d(cubic_root)(0.7), cubic_slope(0.7))


@slopes
@second_slopes
def test_second_derivatives_of_roots(d, e):
    close(d(e(square_root))(4.0), -1 / 32)
    close(d(e(cubic_root))(0.7), br.grad(lambda p: -cubic_root(p) / (3 * cubic_root(p) ** 2 + p))(0.7))
    close(d(cubic_slope)(0.7), d(e(cubic_root))(0.7))


def test_third_derivative_of_a_root():
    close(br.grad(br.grad(br.grad(square_root)))(4.0), 3 / 8 * 4**-2.5)


@slopes
def test_maps_of_roots_in_both_orders(d):
    lanes = np.array([0.5, 4.0, 100.0])
    close(br.vmap(square_root)(lanes), np.sqrt(lanes))
    close(br.vmap(d(square_root))(lanes), 1 / (2 * np.sqrt(lanes)))
    close(br.grad(lambda a: np.sum(br.vmap(square_root)(a)))(lanes), 1 / (2 * np.sqrt(lanes)))
    close(br.jacfwd(br.vmap(square_root))(lanes), np.diag(1 / (2 * np.sqrt(lanes))))
    close(br.vmap(br.grad(br.grad(square_root)))(lanes), -(lanes**-1.5) / 4)


def test_the_solver_is_not_differentiated():
    calls = []

    def solve(f, x):
        calls.append(1)
        return math.sqrt(4.0)  # no operation that a derivative could follow

    root = lambda a: br.custom_root(lambda x: x * x - a, 1.0, solve)  # noqa: E731
    close(br.grad(root)(4.0), 0.25)
    assert len(calls) == 1
    close(br.jvp(root, (4.0,), (1.0,)), [2, 0.25])
    close(br.grad(br.grad(root))(4.0), -1 / 32)
    assert root(4.0) == 2.0


def test_the_guess_is_not_differentiated():
    root = lambda a, guess: br.custom_root(lambda x: x * x - a, guess, newton)  # noqa: E731
    close(br.grad(root, argnums=(0, 1))(4.0, 1.5), [0.25, 0])
    close(br.jvp(root, (4.0, 1.5), (1.0, 1.0))[1], 0.25)
    close(br.vmap(root, in_axes=(None, 0))(4.0, np.array([1.0, -1.0])), [2, -2])
    close(br.vmap(br.grad(root), in_axes=(None, 0))(4.0, np.array([1.0, -1.0])), [0.25, -0.25])


def test_an_unconverged_root_uses_the_derivative_there():
    rough = lambda a: br.custom_root(lambda x: x * x - a, 1.0, lambda f, x: x - f(x) / (2 * x))  # noqa: E731
    close(br.grad(rough)(4.0), 1 / (2 * rough(4.0)))


def test_a_solver_that_captures_what_is_followed():
    def root(a):
        return br.custom_root(lambda x: x * x - a, 1.0, lambda f, x: np.sqrt(a) + 0 * x)

    close(br.grad(root)(4.0), 0.25)
    close(br.jvp(root, (4.0,), (1.0,))[1], 0.25)
    close(br.vmap(br.grad(root))(np.array([1.0, 4.0])), [0.5, 0.25])
    close(br.grad(lambda a: np.sum(br.vmap(root)(a)))(np.array([1.0, 4.0])), [0.5, 0.25])


def test_roots_of_systems_and_trees():
    def solve(f, x):
        """Newton's method on trees: damped by a dense matrix."""
        names = sorted(x)
        pack = lambda tree: np.concatenate([np.reshape(tree[n], -1) for n in names])  # noqa: E731

        def unpack(v):
            return {"u": v[:2], "v": v[2]}

        found = newton_of_vectors(lambda v: pack(f(unpack(v))), pack(x))
        return unpack(found)

    def system(theta):
        def f(x):
            u, v = x["u"], x["v"]
            return {"u": u**3 + v * theta["a"] - theta["b"], "v": v + np.sum(u) * theta["c"] - 1.0}

        return br.custom_root(f, {"u": np.ones(2), "v": 1.0}, solve)

    theta = {"a": np.array([0.3, -0.2]), "b": np.array([1.0, 2.0]), "c": 0.1}
    loss = lambda theta: weigh(system(theta)["u"]) * system(theta)["v"]  # noqa: E731
    gradient = br.grad(loss)(theta)
    for name in theta:
        numeric = difference_gradient(lambda v, name=name: loss({**theta, name: v}), theta[name])
        close(gradient[name], numeric, rtol=1e-5, atol=1e-8)
    pushed = br.jvp(loss, (theta,), (theta,))[1]
    close(pushed, sum(np.sum(gradient[n] * theta[n]) for n in theta), rtol=1e-8)


def test_f_may_capture_integers_strings_and_constants():
    index = np.array([1, 0])
    scale = np.array([2.0, 3.0])

    def root(a, power):
        return br.custom_root(lambda x: scale * x[index] ** power - a, np.ones(2), newton_of_vectors)

    a = np.array([4.0, 5.0])
    expected = (a / scale)[index] ** (1 / 3)
    close(root(a, 3), expected)
    jacobian = br.jacobian(lambda a: root(a, 3))(a)
    close(jacobian, br.jacobian(lambda a: (a / scale)[index] ** (1 / 3))(a))
    close(br.jacfwd(lambda a: root(a, 3))(a), jacobian)


def test_a_tangent_solver_of_one_s_own():
    used = []

    def by_division(g, y):
        used.append(1)
        return y / g(1.0)

    root = lambda a: br.custom_root(lambda x: x * x - a, 1.0, newton, tangent_solve=by_division)  # noqa: E731
    close(br.grad(root)(4.0), 0.25)
    close(br.jvp(root, (4.0,), (1.0,))[1], 0.25)
    close(br.grad(br.grad(root))(4.0), -1 / 32)
    assert used


def conjugate_gradients(matvec, b):
    """For symmetric positive definite operators, on numbers, arrays and lanes of them."""
    x, r = 0.0 * b, b
    p, rr = r, np.sum(r * r)
    for _ in range(2 * np.size(b)):
        q = matvec(p)
        step = rr / np.where(rr == 0, 1.0, np.sum(p * q))
        x, r = x + step * p, r - step * q
        new = np.sum(r * r)
        p, rr = r + new / np.where(rr == 0, 1.0, rr) * p, new
    return x


def test_a_tangent_solver_that_iterates():
    # the minimum of x S x / 2 + sum(x**4) / 4 - b x
    def minimum(b):
        f = lambda x: S @ x + x**3 - b  # noqa: E731
        return br.custom_root(f, np.ones(3), newton_of_vectors, tangent_solve=conjugate_gradients)

    expected = lambda x: np.linalg.inv(S + np.diag(3 * x**2))  # noqa: E731
    close(br.jacrev(minimum)(B), expected(minimum(B)), rtol=1e-8)
    close(br.jacfwd(minimum)(B), expected(minimum(B)), rtol=1e-8)
    close(
        br.hessian(lambda b: weigh(minimum(b)))(B),
        br.jacobian(lambda b: br.jacrev(minimum)(b).T @ np.array([0.5, 1, 1.5]))(B),
        rtol=1e-6,
    )


# --------------------------------------------------------------------------------------------------------- fixed points


def kepler(e, m):
    """The eccentric anomaly: x = m + e sin x."""
    return br.fixed_point(lambda x: m + e * np.sin(x), m)


@slopes
def test_fixed_points_against_closed_forms(d):
    x = kepler(0.3, 1.0)
    close(x, 1.0 + 0.3 * np.sin(x))
    close(d(lambda e: kepler(e, 1.0))(0.3), np.sin(x) / (1 - 0.3 * np.cos(x)))
    close(d(lambda m: kepler(0.3, m))(1.0), 1 / (1 - 0.3 * np.cos(x)))
    close(d(d(lambda m: kepler(0.3, m)))(1.0), -0.3 * np.sin(x) / (1 - 0.3 * np.cos(x)) ** 3)


def test_maps_of_fixed_points_in_both_orders():
    lanes = np.array([0.1, 0.3, 0.6])
    expected = [br.grad(kepler)(e, 1.0) for e in lanes]
    close(br.vmap(kepler, in_axes=(0, None))(lanes, 1.0), [kepler(e, 1.0) for e in lanes])
    close(br.vmap(br.grad(kepler), in_axes=(0, None))(lanes, 1.0), expected)
    close(br.grad(lambda e: np.sum(br.vmap(kepler, in_axes=(0, None))(e, 1.0)))(lanes), expected)


def test_fixed_points_of_trees():
    def f(theta):
        step = lambda s: (np.cos(theta * s[1]["y"]) / 2, {"y": s[0] * theta / 3 + 0.1})  # noqa: E731
        x, rest = br.fixed_point(step, (np.zeros(2), {"y": np.zeros(2)}))
        return weigh(x) + weigh(rest["y"])

    theta = np.array([0.5, 1.1])
    close(br.grad(f)(theta), difference_gradient(f, theta), rtol=1e-6)


def test_one_way_back_however_many_steps():
    evaluations = []

    def f(w):
        def step(x):
            evaluations.append(1)
            return np.tanh(w * x) + 0.5

        return br.fixed_point(step, 0.0)

    f(0.99)
    forward = len(evaluations)
    br.grad(f)(0.99)
    assert len(evaluations) - 2 * forward < 10 < forward


def test_a_fixed_point_that_is_not_reached():
    with pytest.raises(RuntimeError, match=r"br.fixed_point: no convergence in 50 steps \(last change 5.63e\+14\)"):
        br.grad(lambda a: br.fixed_point(lambda x: 2 * x + a, 1.0, max_steps=50))(0.0)
    with pytest.raises(RuntimeError, match=r"no convergence .*\(last change nan\)"):
        br.fixed_point(lambda x: x * np.nan, 1.0, max_steps=5)
    # one lane of several
    with pytest.raises(RuntimeError, match=r"no convergence in 60 steps"):
        br.vmap(lambda a: br.fixed_point(lambda x: a * x + 1, 0.0, max_steps=60))(np.array([0.1, 1.5]))
    loose = br.fixed_point(lambda x: x / 2, 1.0, tolerance=0.1)
    assert 0 < loose < 0.2


# -------------------------------------------------------------------------------------------------------- linear solves


def solve_by_columns(matvec, b):
    """With the matrix of the operator."""
    matrix = br.jacobian(matvec, holomorphic=b.dtype.kind == "c")(0.0 * b)
    return np.linalg.solve(matrix, b)


def solution(a, b):
    return br.custom_linear_solve(lambda x: a @ x, b, solve_by_columns, solve_by_columns)


def symmetric_solution(a, b):
    return br.custom_linear_solve(lambda x: (a + a.T) @ x / 2, b, conjugate_gradients, symmetric=True)


SYSTEMS = {
    "columns": (solution, A, lambda a, b: np.linalg.solve(a, b)),
    "conjugate-gradients": (symmetric_solution, S, lambda a, b: np.linalg.solve((a + a.T) / 2, b)),
}
systems = pytest.mark.parametrize(("f", "a", "plain"), SYSTEMS.values(), ids=SYSTEMS)


@systems
def test_linear_solves_against_numpy(f, a, plain):
    close(f(a, B), plain(a, B))
    found, expected = (br.grad(lambda a, b, g=g: weigh(g(a, b)), (0, 1))(a, B) for g in (f, plain))
    close(found[0], expected[0], rtol=1e-8)
    close(found[1], expected[1], rtol=1e-8)
    close(br.jvp(f, (a, B), (a.T, B[::-1]))[1], br.jvp(plain, (a, B), (a.T, B[::-1]))[1], rtol=1e-8)
    for mode in (br.jacfwd, br.jacrev, br.jacobian):
        close(mode(f)(a, B), br.jacobian(plain)(a, B), rtol=1e-8, atol=1e-12)


@systems
def test_second_derivatives_of_linear_solves(f, a, plain):
    expected = br.hessian(lambda a: weigh(plain(a, B)))(a)
    for outer in (br.jacfwd, br.jacrev):
        for inner in (br.jacfwd, br.jacrev):
            close(outer(inner(lambda a: weigh(f(a, B))))(a), expected, rtol=1e-7, atol=1e-10)
    mixed = br.jacobian(br.grad(lambda a, b: weigh(f(a, b))), argnums=1)(a, B)
    close(mixed, br.jacobian(br.grad(lambda a, b: weigh(plain(a, b))), argnums=1)(a, B), rtol=1e-8, atol=1e-12)


@systems
def test_maps_of_linear_solves(f, a, plain):
    many, sides = np.stack([a, 2 * a, a + np.eye(3)]), np.stack([B, B[::-1], 2 * B])
    for in_axes in ((0, 0), (0, None), (None, 0)):
        given = (many if in_axes[0] == 0 else a, sides if in_axes[1] == 0 else B)
        mapped, expected = br.vmap(f, in_axes), br.vmap(plain, in_axes)
        close(mapped(*given), expected(*given), rtol=1e-9)
        for argnums in (0, 1):
            weighed = lambda g: lambda a, b: weigh(g(a, b))  # noqa: E731
            gradient = br.grad(weighed(expected), argnums)(*given)
            close(br.grad(weighed(mapped), argnums)(*given), gradient, rtol=1e-8, atol=1e-12)
            inside = br.vmap(br.grad(weighed(f), argnums), in_axes)(*given)
            close(inside, br.vmap(br.grad(weighed(plain), argnums), in_axes)(*given), rtol=1e-8, atol=1e-12)
        tangents = tuple(np.cos(g) for g in given)
        close(br.jvp(mapped, given, tangents)[1], br.jvp(expected, given, tangents)[1], rtol=1e-8)


def test_operators_without_a_matrix():
    """A differential operator on a grid: writes through slices, tree-shaped vectors."""

    def laplace(k):
        def matvec(x):
            y = np.zeros(5)
            y += (2 * k + 1) * x["u"]
            y[1:] -= k * x["u"][:-1]
            y[:-1] -= k * x["u"][1:]
            return {"u": y}

        return matvec

    def on_trees(matvec, b):
        return {"u": conjugate_gradients(lambda u: matvec({"u": u})["u"], b["u"])}

    def f(k, b):
        return weigh(br.custom_linear_solve(laplace(k), {"u": b}, on_trees, symmetric=True)["u"])

    matrix = lambda k: (2 * k + 1) * np.eye(5) - k * np.eye(5, k=1) - k * np.eye(5, k=-1)  # noqa: E731
    plain = lambda k, b: weigh(np.linalg.solve(matrix(k), b))  # noqa: E731
    b = np.arange(5.0)
    close(f(0.7, b), plain(0.7, b))
    for argnums in (0, 1):
        close(br.grad(f, argnums)(0.7, b), br.grad(plain, argnums)(0.7, b), rtol=1e-8)
    close(br.grad(br.grad(f))(0.7, b), br.grad(br.grad(plain))(0.7, b), rtol=1e-7)


def test_plain_calls_and_captured_constants():
    close(br.custom_linear_solve(lambda x: A @ x, B, solve_by_columns), np.linalg.solve(A, B))
    order = np.array([2, 0, 1])
    f = lambda b: br.custom_linear_solve(lambda x: (A @ x)[order], b, solve_by_columns, solve_by_columns)  # noqa: E731
    close(br.jacobian(f)(B), np.linalg.inv(A[order]))

    def scaled(w):
        return weigh(br.custom_linear_solve(lambda x: w * (A @ x)[order], B, solve_by_columns, solve_by_columns))

    close(br.grad(scaled)(2.0), br.grad(lambda w: weigh(np.linalg.solve(w * A[order], B)))(2.0))


def test_a_solver_that_captures_the_matrix():
    def f(a, b):
        return br.custom_linear_solve(
            lambda x: a @ x, b, lambda _, b: np.linalg.solve(a, b), lambda _, b: np.linalg.solve(a.T, b)
        )

    by_a, by_b = br.grad(lambda a, b: weigh(f(a, b)), (0, 1))(A, B)
    expected = br.grad(lambda a, b: weigh(np.linalg.solve(a, b)), (0, 1))(A, B)
    close(by_a, expected[0])
    close(by_b, expected[1])
    many = np.stack([A, 2 * A])
    close(br.vmap(f, in_axes=(0, None))(many, B), [np.linalg.solve(a, B) for a in many])
    close(
        br.grad(lambda a: weigh(br.vmap(f, in_axes=(0, None))(a, B)))(many),
        br.grad(lambda a: weigh(br.vmap(np.linalg.solve, in_axes=(0, None))(a, B)))(many),
    )
    value, pullback = br.vjp(f, A, B)
    close(pullback(value)[1], np.linalg.solve(A.T, value))


def test_complex_systems():
    a, b = A + 1j * A[::-1], B + 1j
    close(br.vjp(solution, a, b)[1](b)[1], br.vjp(np.linalg.solve, a, b)[1](b)[1])
    close(br.vjp(solution, a, b)[1](b)[0], br.vjp(np.linalg.solve, a, b)[1](b)[0])
    close(br.jvp(solution, (a, b), (b[:, None] * a, b))[1], br.jvp(np.linalg.solve, (a, b), (b[:, None] * a, b))[1])
    root = lambda c: br.custom_root(lambda z: z**2 - c, np.ones(2) + 1j, newton_of_complex_vectors)  # noqa: E731
    c = np.array([1.0 + 2j, 3.0 - 1j])
    close(br.jacrev(root, holomorphic=True)(c), np.diag(1 / (2 * np.sqrt(c))))
    close(br.jacfwd(root, holomorphic=True)(c), np.diag(1 / (2 * np.sqrt(c))))


def newton_of_complex_vectors(f, z):
    for _ in range(20):
        z = z - np.linalg.solve(br.jacobian(f, holomorphic=True)(z), f(z))
    return z


def test_reverse_mode_needs_the_transposed_solve():
    one_way = lambda b: weigh(br.custom_linear_solve(lambda x: A @ x, b, solve_by_columns))  # noqa: E731
    close(br.jvp(one_way, (B,), (B,))[1], one_way(B))
    with pytest.raises(
        br.UnsupportedError, match=r"test_implicit.py:\d+.*br.custom_linear_solve needs transpose_solve, or symmetric"
    ):
        br.grad(one_way)(B)


def test_errors_of_the_solver_come_through():
    def stubborn(f, x):
        raise ArithmeticError("no convergence")

    with pytest.raises(ArithmeticError, match="no convergence"):
        br.grad(lambda a: br.custom_root(lambda x: x - a, 0.0, stubborn))(1.0)
    with pytest.raises(np.linalg.LinAlgError):
        br.grad(lambda a: weigh(solution(a, B)))(np.zeros((3, 3)))
    close(br.grad(square_root)(4.0), 0.25)


def test_together_with_checkpoints_and_other_rules():
    close(br.grad(br.checkpoint(square_root))(4.0), 0.25)
    close(
        br.grad(br.checkpoint(lambda a: weigh(solution(a, B))))(A), br.grad(lambda a: weigh(np.linalg.solve(a, B)))(A)
    )
    nested = lambda a: br.fixed_point(lambda x: square_root(a + x) / 2, 1.0)  # noqa: E731
    # x = sqrt(a + x) / 2, so 4 x^2 - x - a = 0
    x = nested(4.0)
    close(4 * x * x - x, 4)
    close(br.grad(nested)(4.0), 1 / (8 * x - 1))
    close(br.vmap(br.grad(nested))(np.array([4.0, 4.0])), [1 / (8 * x - 1)] * 2)
    custom = br.custom_jvp(square_root)
    custom.defjvp(lambda primals, tangents: (custom(*primals), tangents[0] / (2 * square_root(*primals))))
    close(br.grad(br.grad(custom))(4.0), -1 / 32)
