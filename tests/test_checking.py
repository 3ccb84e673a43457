"""Derivatives are checked against finite differences: what is right passes, what is wrong is named."""

import math
import re

import numpy as np
import pytest

import bindrune as br
from expect import close

X = np.array([0.5, -1.2, 2.0])


def scaled_rule(scale):
    """x -> x ** 2, with a derivative that is wrong by a factor."""
    square = br.custom_jvp(lambda x: x * x)
    square.defjvps(lambda tangent, y, x: scale * 2 * x * tangent)
    return square


# -------------------------------------------------------------------------------------------------------- check_grads


@pytest.mark.parametrize("order", [1, 2, 3])
def test_right_derivatives_pass(order):
    br.check_grads(lambda a, b: np.exp(a) * np.sin(b), (0.5, np.array([1.0, 2.0])), order=order)


@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_a_rule_twice_too_large_is_rejected(mode):
    with pytest.raises(br.GradientCheckError):
        br.check_grads(scaled_rule(2.0), (X,), modes=[mode])


def test_the_tolerance_decides():
    almost = scaled_rule(1.005)
    br.check_grads(almost, (X,), atol=1e-2, rtol=1e-2)
    with pytest.raises(br.GradientCheckError):
        br.check_grads(almost, (X,), atol=1e-3, rtol=1e-3)


def test_a_wrong_second_derivative_is_found():
    @br.custom_jvp
    def cube(x):
        return x**3

    @cube.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        return cube(x), 3 * x * br.stop_gradient(x) * t

    br.check_grads(cube, (2.0,))
    with pytest.raises(br.GradientCheckError, match="derivative of forward mode, forward mode"):
        br.check_grads(cube, (2.0,), order=2)


def test_the_message_shows_the_worst_elements():
    @br.custom_vjp
    def total(p):
        return np.sum(p["w"]) + np.sum(p["b"])

    total.defvjp(
        lambda p: (total(p), None),
        lambda _, ct: ({"w": ct * np.array([[1.0, 3.0]]), "b": ct * np.array([1.0, 1.5])},),
    )
    with pytest.raises(br.GradientCheckError) as caught:
        br.check_grads(total, ({"w": np.ones((1, 2)), "b": np.ones(2)},), modes=["rev"])
    summary, header, *rows = str(caught.value).split("\n")
    assert "reverse mode: 2 of 4 derivatives differ" in summary
    assert header.split() == ["argument", "index", "autodiff", "finite", "difference", "error"]
    assert [re.split(r"\s{2,}", row.strip()) for row in rows] == [
        ["p['w']", "(0, 1)", "3", "1", "2"],
        ["p['b']", "(1,)", "1.5", "1", "0.5"],
    ]


def test_a_gradient_check_error_is_an_assertion():
    assert issubclass(br.GradientCheckError, AssertionError)


def test_a_long_table_is_cut():
    with pytest.raises(br.GradientCheckError, match="and 15 more"):
        br.check_grads(scaled_rule(2.0), (np.arange(1.0, 26.0),))


def test_nan_is_no_agreement():
    with np.errstate(all="ignore"), pytest.raises(br.GradientCheckError, match="nan"):
        br.check_grads(np.log, (np.array([1.0, -1.0]),))


@pytest.mark.parametrize(
    "function",
    [lambda z: z * z, lambda z: np.abs(z), lambda z: np.conj(z) * z * z, lambda z: np.real(z) * np.exp(1j * z)],
    ids=["holomorphic", "absolute", "conjugate", "mixed"],
)
def test_complex_functions(function):
    br.check_grads(function, (np.array([1.0 + 2.0j, 0.5 - 1.0j]),), order=2)


def test_trees_single_precision_and_large_values():
    br.check_grads(lambda p: {"y": p["w"] @ p["x"], "n": 3}, ({"w": np.eye(2), "x": np.arange(2.0)},))
    br.check_grads(lambda x: np.sin(x) * x, (X.astype(np.float32),), order=2)
    br.check_grads(lambda x: 1e6 + 1e6 * x, (X,))


def test_a_function_that_writes_into_its_argument():
    def f(x):
        x[0] *= x[1]
        return np.sum(x * x)

    x = X.copy()
    br.check_grads(f, (x,))
    assert (x == X).all()


def test_arguments_without_derivative_are_named():
    with pytest.raises(br.NonDifferentiableError, match="n has 3"):
        br.check_grads(lambda x, n: x * n, (1.0, 3))
    with pytest.raises(br.NonDifferentiableError, match=r"n\[0\] has dtype int64"):
        br.check_grads(lambda x, n: x * n[0], (1.0, [np.arange(2)]))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'forward', which is neither"):
        br.check_grads(np.sin, (1.0,), modes=["forward"])


# ------------------------------------------------------------------------------- check_gradient and check_gradients


def test_a_check_that_passes():
    check = br.check_gradient(lambda x: np.sum(np.sin(x)), X)
    assert check.passed
    assert (check.num_checked, check.num_failed, check.failed_indices) == (3, 0, ())
    assert 0 < check.mean_abs_error <= check.max_abs_error < 1e-8
    assert 0 < check.mean_rel_error <= check.max_rel_error < 1e-8


def test_a_check_that_fails_lists_the_elements():
    half = br.custom_jvp(lambda x: x * x)
    half.defjvps(lambda tangent, y, x: 2 * x * tangent * np.array([1.0, 1.5, 0.5]))
    check = br.check_gradient(lambda x: np.sum(half(x)), X)
    assert not check.passed
    assert (check.num_checked, check.num_failed) == (3, 2)
    worst, other = check.failed_indices
    assert (worst.argument, worst.index, other.index) == ("x", (2,), (1,))
    close([worst.autodiff, worst.finite_difference, worst.error], [2, 4, 2])
    close([other.autodiff, other.finite_difference, other.error], [-3.6, -2.4, 1.2])
    close([check.max_abs_error, check.mean_abs_error], [2, 3.2 / 3])
    close([check.max_rel_error, check.mean_rel_error], [1 / 2, (1 / 2 + 1 / 3) / 3])
    assert "2 of 3 derivatives differ" in str(check)


def test_several_arguments():
    double = scaled_rule(2.0)
    check = br.check_gradients(lambda x, n, p: np.sum(double(x)) * n + p["a"], (X, 3, {"a": 1.0}))
    assert check.num_checked == 4
    assert [m.argument for m in check.failed_indices] == ["x"] * 3
    assert br.check_gradients(lambda a, b: a * np.sin(b), (2.0, 3.0)).num_checked == 2


def test_leaves_without_derivative_stay_as_they_are():
    p = {"w": X, "count": 3, "keep": np.array([True, False, True])}
    double = scaled_rule(2.0)
    check = br.check_gradients(lambda p, i: np.sum(double(p["w"])[p["keep"]]) * p["count"] + p["w"][i[0]], (p, [2]))
    assert check.num_checked == 3
    assert [(m.argument, m.index) for m in check.failed_indices] == [("p['w']", (2,)), ("p['w']", (0,))]
    with pytest.raises(br.NonDifferentiableError, match="n has dtype int64"):
        br.check_gradient(lambda n: n * 2.0, 3)


def test_arrays_of_other_libraries_are_read():
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    close(br.finite_diff(lambda x: np.sum(x**2), x), [2, 4])
    close(br.finite_diff_jacobian(lambda x: x**2, x), [[2, 0], [0, 4]])
    assert br.check_gradient(lambda x: np.sum(x**2), x).passed
    br.check_grads(lambda x: x**2, (x,), order=2)


def test_tolerances_of_a_check():
    almost = scaled_rule(1.005)
    assert br.check_gradient(lambda x: np.sum(almost(x)), X, rtol=1e-2, atol=1e-2).passed
    assert not br.check_gradient(lambda x: np.sum(almost(x)), X, rtol=1e-3, atol=1e-3).passed
    assert not br.check_gradient(lambda x: np.sum(x**4), X, eps=0.5).passed


def test_an_empty_argument_has_nothing_to_check():
    check = br.check_gradient(np.sum, np.zeros(0))
    assert check.passed
    assert check.num_checked == 0


# -------------------------------------------------------------------------------------------------- finite differences

METHODS = {"central": 1e-9, "forward": 1e-6, "backward": 1e-6, "complex": 1e-14}


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_finite_differences(method):
    close(br.finite_diff(lambda x: np.sum(np.exp(x)), X, method), np.exp(X), rtol=METHODS[method])
    close(br.finite_diff(lambda x: x**2, 3.0, method), 6.0, rtol=METHODS[method])
    close(br.finite_diff_jacobian(lambda x: x[0] * x, X, method), X[0] * np.eye(3) + np.outer(X, [1, 0, 0]), rtol=1e-6)


def test_finite_differences_of_trees():
    gradient = br.finite_diff(lambda p: np.sum(p["w"]) * p["b"], {"w": np.ones((2, 1)), "b": 3.0})
    assert gradient.keys() == {"w", "b"}
    close(gradient["w"], np.full((2, 1), 3.0))
    close(gradient["b"], 2.0)


def test_a_jacobian_of_trees_has_the_structure_of_autodiff():
    def f(p):
        return [p["a"] * p["b"], np.sum(p["b"])]

    p = {"a": 2.0, "b": np.array([[1.0, 2.0]])}
    found, expected = br.finite_diff_jacobian(f, p), br.jacobian(f)(p)
    for ours, theirs in zip(found, expected, strict=True):
        close(ours["a"], theirs["a"])
        close(ours["b"], theirs["b"])


def test_complex_arguments_follow_the_conventions_of_grad():
    z = np.array([1.0 + 2.0j, -0.5j])
    close(br.finite_diff(lambda z: np.sum(np.abs(z) ** 2), z), br.grad(lambda z: np.sum(np.abs(z) ** 2))(z), rtol=1e-9)
    close(br.finite_diff_jacobian(lambda z: z * z, z), np.diag(2 * z), rtol=1e-9, atol=1e-9)


def test_a_complex_result_of_complex_arguments_counts_by_its_real_part():
    z = np.array([1.0 + 2.0j, -0.5j])
    for function in (lambda z: np.sum(z**3), lambda z: np.sum(np.abs(z) * z)):
        close(br.finite_diff(function, z), br.grad(function)(z), rtol=1e-8)
        assert br.check_gradient(function, z).passed
    with pytest.raises(br.NonScalarOutputError, match=r"an array of shape \(\) and dtype complex128"):
        br.finite_diff(lambda x: x * 1j, 1.0)


def test_finite_differences_in_lanes():
    lanes = np.stack([X, -X])
    for method in METHODS:
        found = br.vmap(lambda x, method=method: br.finite_diff(lambda x: np.sum(np.exp(x) * x), x, method))(lanes)
        close(found, np.exp(lanes) * (1 + lanes), rtol=1e-5)
    with pytest.raises(TypeError, match="disagree with its differences"):
        br.vmap(lambda x: br.finite_diff(lambda x: np.sum(np.abs(x) * x), x, "complex"))(lanes)


def test_steps_suit_the_precision_and_the_size():
    single = X.astype(np.float32)
    found = br.finite_diff(lambda x: np.sum(np.sin(x)), single)
    assert found.dtype == np.float32
    close(found, np.cos(single), rtol=1e-3)
    close(br.finite_diff(lambda x: x**2, 1e8), 2e8, rtol=1e-9)
    close(br.finite_diff(lambda x: x**3, 1.0, eps=0.1), 3.01)


def test_finite_differences_can_be_differentiated():
    close(br.grad(lambda x: br.finite_diff(lambda y: np.sin(y) * x, x))(0.3), np.cos(0.3) - 0.3 * np.sin(0.3))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: np.sum(np.abs(x)), "returned real numbers"),
        (lambda x: np.sum(np.abs(x) * x), "disagree with its differences"),
        (lambda x: math.sin(x[0]), "raised ComplexWarning"),
        (lambda x: np.sum(np.arctan2(x, 1)), "raised TypeError"),
    ],
    ids=["real", "inside", "math", "unsupported"],
)
def test_a_complex_step_that_is_not_valid_is_refused(function, reason):
    with pytest.raises(TypeError, match=f"method='complex' needs a function that extends.*{reason}"):
        br.finite_diff(function, X, "complex")


def test_a_complex_step_from_a_complex_point_is_refused():
    with pytest.raises(TypeError, match="x is complex"):
        br.finite_diff(np.abs, 1j, "complex")


def test_finite_differences_say_what_they_cannot_do():
    with pytest.raises(br.NonScalarOutputError, match=r"an array of shape \(3,\).*finite_diff_jacobian"):
        br.finite_diff(np.sin, X)
    with pytest.raises(br.NonDifferentiableError, match=r"x\[1\] has dtype int64"):
        br.finite_diff(lambda p: p[0], [1.0, np.arange(2)])
    with pytest.raises(ValueError, match="none of central"):
        br.finite_diff(np.sin, 1.0, "sideways")
