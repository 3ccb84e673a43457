"""Known values of Jacobians, custom rules, checkpoints, loops, solutions, and of derivatives at edges."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest

import bindrune as br
from expect import close, difference_gradient, weigh

X = np.array([0.7, -1.3, 2.1])

# ------------------------------------------------------------------------------------------- factorizations, transforms

SYMMETRIC = np.array([[4.0, 1.0, 0.5], [1.0, 2.0, -0.3], [0.5, -0.3, 0.7]])
TALL = np.array([[0.9, -0.4], [0.3, 1.2], [-0.7, 0.5]])


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda a: np.linalg.svd(a, compute_uv=False), TALL),
        (lambda a: np.linalg.eigh((a + a.T) / 2)[0], SYMMETRIC),
        (lambda a: np.linalg.qr(a)[0], TALL),
        (lambda a: np.linalg.qr(a)[1], TALL),
        (np.linalg.inv, SYMMETRIC),
    ],
    ids=["svd", "eigh", "q", "r", "inv"],
)
def test_case_37_factorizations_with_well_separated_spectra(f, x):
    close(br.grad(lambda a: weigh(f(a)))(x), difference_gradient(lambda a: weigh(f(a)), x), rtol=1e-5, atol=1e-8)


def test_case_37_a_complete_qr_of_a_tall_matrix():
    with pytest.raises(br.UnsupportedError, match="complete"):
        br.grad(lambda a: np.sum(np.linalg.qr(a, mode="complete")[0]))(TALL)


def test_case_38_a_fourier_transform_and_back():
    z = X + 1j * X[::-1]
    close(br.grad(lambda z: np.real(np.sum(np.fft.ifft(np.fft.fft(z)))))(z), np.ones(3))
    close(br.grad(lambda x: np.real(np.sum(np.fft.ifft(np.fft.fft(x)))))(X), np.ones(3))


def test_case_38_a_factorization_of_a_constant_in_an_unused_branch():
    close(br.grad(lambda x: np.sum(x * x) + 0 * np.sum(np.linalg.svd(TALL)[0]))(X), 2 * X)


# -------------------------------------------------------------------------------------------------- Jacobians, Hessians


@pytest.mark.parametrize("mode", [br.jacfwd, br.jacrev, br.jacobian])
def test_case_64_a_jacobian(mode):
    runs = []

    def f(x):
        runs.append(1)
        return np.stack([x[0] * x[1], np.sin(x[2]) * x[0]])

    close(mode(f)(X), [[-1.3, 0.7, 0], [0.86320937, 0, -0.35339227]])
    assert len(runs) == 1
    assert mode(lambda x: np.sum(x) * np.ones((2, 1)))(np.ones((1, 3))).shape == (2, 1, 1, 3)


def test_case_65_hessian_and_its_products():
    cubes = lambda x: np.sum(x**3)  # noqa: E731
    close(br.hessian(cubes)(X), np.diag([4.2, -7.8, 12.6]))
    close(br.hvp(cubes, (np.array([1.0, -2, 3]),), (np.array([1, 0.5, -1]),)), [6, -6, -18])


def test_case_66_a_structured_product_of_a_hessian():
    f = lambda p: np.sum(p[0] ** 2) + np.sum(p[0] * p[1])  # noqa: E731
    at = (X, np.array([1.0, 2, 3]))
    v = (np.array([1.0, 0, 2]), np.array([0.5, -1, 0]))
    for found in (br.hvp(f, (at,), (v,)), br.hvp(lambda a, b: f((a, b)), at, v)):
        close(found[0], [2.5, -1, 4])
        close(found[1], [1, 0, 2])


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def test_case_67_rosenbrock():
    x = np.array([-1.2, 1])
    close(br.grad(rosenbrock)(x), [-215.6, -88])
    close(br.hessian(rosenbrock)(x), [[1330, 480], [480, 200]])
    close(br.hvp(rosenbrock, (x,), (np.array([0.5, -1]),)), [185, 40])
    for _ in range(6):
        x = x - np.linalg.solve(br.hessian(rosenbrock)(x), br.grad(rosenbrock)(x))
    assert rosenbrock(x) < 1e-18


def test_case_68_checking_derivatives():
    f = lambda a, b: np.exp(a) * np.sin(b)  # noqa: E731
    br.check_grads(f, (0.3, 0.7), order=2)

    def scaled(factor):
        g = br.custom_jvp(np.sin)
        g.defjvp(lambda primals, tangents: (np.sin(primals[0]), factor * np.cos(primals[0]) * tangents[0]))
        return g

    with pytest.raises(br.GradientCheckError):
        br.check_grads(scaled(2), (0.4,), order=1)
    br.check_grads(scaled(1.005), (0.4,), order=1, atol=1e-2, rtol=1e-2)
    with pytest.raises(br.GradientCheckError):
        br.check_grads(scaled(1.005), (0.4,), order=1, atol=1e-3, rtol=1e-3)


# --------------------------------------------------------------------------------------------------------- custom rules


@br.custom_vjp
def hundredfold(x):
    return np.sin(x)


hundredfold.defvjp(lambda x: (np.sin(x), None), lambda _, ct: (100 * ct,))


@br.custom_vjp
def sine(x):
    return np.sin(x)


sine.defvjp(lambda x: (np.sin(x), np.cos(x)), lambda cosine, ct: (ct * cosine,))


def test_case_84_a_reverse_rule():
    close(br.grad(lambda x: np.sum(hundredfold(x)))(X), np.full(3, 100))
    close(br.grad(lambda x: np.sum(sine(x)))(X), np.cos(X))
    close(br.grad(lambda x: sine(x) * sine(x))(0.4), 2 * np.sin(0.4) * np.cos(0.4))
    close(br.grad(lambda x: x + np.sum(sine(X)))(0.4), 1)
    # not differentiated: the function itself, not its rule
    close(sine(X), np.sin(X))
    runs = []
    counted = br.custom_vjp(lambda x: runs.append("function") or 2 * x)
    counted.defvjp(lambda x: runs.append("forward") or (2 * x, None), lambda _, ct: (runs.append("back") or 2 * ct,))
    close(counted(3.0), 6)
    assert runs == ["function"]


def test_case_85_a_rule_of_two_arguments():
    multiply = br.custom_vjp(lambda a, b: a * b)
    multiply.defvjp(lambda a, b: (a * b, (a, b)), lambda kept, ct: (ct * kept[1], ct * kept[0]))
    close(br.grad(multiply, argnums=(0, 1))(2.0, 3.0), [3, 2])
    with pytest.raises(br.UnsupportedError, match=r"custom_vjp.*forward mode.*Define the function with br.custom_jvp"):
        br.jvp(multiply, (2.0, 3.0), (1.0, 0.0))
    forward = br.custom_jvp(lambda a, b: a * b)
    forward.defjvps(lambda t, y, a, b: t * b, lambda t, y, a, b: t * a)
    close(br.grad(forward, argnums=(0, 1))(2.0, 3.0), [3, 2])


@br.custom_jvp
def softplus(x):
    return np.log1p(np.exp(x))


@softplus.defjvp
def _(primals, tangents):
    return softplus(*primals), tangents[0] / (1 + np.exp(-primals[0]))


@pytest.mark.parametrize(("outer", "inner"), list(product([br.jacfwd, br.jacrev], repeat=2)))
def test_case_86_second_derivatives_of_softplus(outer, inner):
    close(outer(inner(lambda x: softplus(x) ** 2))(0.0), 0.84657359)


def test_case_87_maps_of_custom_functions():
    close(br.vmap(br.grad(sine))(X), np.cos(X))
    close(br.grad(lambda x: np.sum(br.vmap(sine)(x)))(X), np.cos(X))
    identity = br.custom_vjp(lambda x: x)
    identity.defvjp(lambda x: (x, None), lambda _, ct: (ct,))
    close(br.grad(lambda x: np.sum(identity(x)))(X), np.ones(3))
    close(br.grad(lambda x: np.sum(identity(x) + x))(X), np.full(3, 2))
    other = br.custom_jvp(lambda x: x)
    other.defjvp(lambda primals, tangents: (primals[0], tangents[0]))
    close(br.grad(lambda x: np.sum(other(x)))(X), np.ones(3))


# ---------------------------------------------------------------------------------------- checkpoints, loops, solutions


def test_case_88_a_checkpoint():
    runs = []
    w = np.array([2.0, 3, 4])

    def block(w):
        @br.checkpoint
        def f(x):
            runs.append(1)
            return np.sum(np.sin(w * x))

        return f

    value, gradient = br.value_and_grad(block(w))(X)
    close(value, np.sum(np.sin(w * X)))
    close(gradient, w * np.cos(w * X))
    assert len(runs) == 2
    value, gradient = br.value_and_grad(lambda w: block(w)(X))(w)
    close(value, np.sum(np.sin(w * X)))
    close(gradient, X * np.cos(w * X))
    assert len(runs) == 4


def test_case_89_a_running_sum():
    x = np.array([0.5, -1.2, 2.1, 0.8])
    running = lambda x: br.scan(lambda c, v: (c + v, c + v), 0.0, x)  # noqa: E731
    carry, sums = running(x)
    close(carry, 2.2)
    close(sums, np.cumsum(x))
    close(br.grad(lambda x: np.sum(running(x)[1] ** 2))(x), [6.8, 5.8, 7.2, 4.4])
    close(br.vmap(lambda x: running(x)[1])(np.stack([x, -x])), [np.cumsum(x), -np.cumsum(x)])
    for wrong in (3.0, np.zeros(0)):
        with pytest.raises(ValueError, match=r"br.scan: the leading axis"):
            running(wrong)


def newton_square_root(a):
    """Steps until the change is small, as many as each lane needs."""
    start = {"x": a, "change": np.inf}

    def step(s):
        x = (s["x"] + a / s["x"]) / 2
        return {"x": x, "change": np.abs(x - s["x"])}

    return br.while_loop(lambda s: s["change"] > 1e-10, step, start)["x"]


def newton(f, x):
    for _ in range(40):
        x = x - f(x) / br.jvp(f, (x,), (1.0,))[1]
    return x


def test_case_90_iterations_and_solutions():
    a = np.array([0.5, 2, 900])
    close(br.vmap(newton_square_root)(a), np.sqrt(a))
    close(br.vmap(br.grad(newton_square_root))(a), 1 / (2 * np.sqrt(a)))
    with pytest.raises(RuntimeError, match="no convergence in 10 steps"):
        br.fixed_point(lambda x: -x, 1.0, max_steps=10)

    root = lambda a: br.custom_root(lambda x: x * x - a, 1.0, newton)  # noqa: E731
    close(br.grad(root)(2.0), 1 / (2 * np.sqrt(2)))
    cubic = lambda p: br.custom_root(lambda x: x**3 + p * x - 1, 0.5, newton)  # noqa: E731
    x = cubic(0.7)
    close(br.grad(cubic)(0.7), -x / (3 * x * x + 0.7))
    rough = lambda a: br.custom_root(lambda x: x * x - a, 1.0, lambda f, x: x - f(x) / (2 * x))  # noqa: E731
    close(br.grad(rough)(2.0), 1 / (2 * rough(2.0)))


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "slope", [lambda f: br.grad(f), lambda f: lambda x: br.jvp(f, (x,), (1.0,))[1]], ids=["grad", "jvp"]
)
def test_case_94_derivatives_at_edges(slope):
    close(slope(np.abs)(0.0), 0)
    assert slope(np.sqrt)(0.0) == np.inf
    assert slope(lambda x: 1 / x)(np.float64(0)) == -np.inf
    assert slope(np.log)(0.0) == np.inf
    assert slope(np.arcsin)(1.0) == np.inf
    close(slope(lambda x: np.where(x > 0, np.sqrt(x), 0.0))(0.0), 0)


def test_case_95_ties_and_nans_of_maximum():
    close(br.grad(np.maximum, argnums=(0, 1))(1.0, 1.0), [0.5, 0.5])
    value, tangent = br.jvp(np.maximum, (np.nan, 1.0), (3.0, 5.0))
    assert np.isnan(value)
    close(tangent, 3)
    value, tangent = br.jvp(np.maximum, (1.0, np.nan), (3.0, 5.0))
    assert np.isnan(value)
    close(tangent, 5)


def test_case_96_negative_zero_subnormal_numbers_and_empty_leaves():
    gradient = br.grad(lambda x: x * x)(-0.0)
    assert gradient == 0
    assert np.signbit(gradient)
    assert br.grad(lambda x: x * x)(1e-310) == 2e-310
    gradient = br.grad(lambda p: np.sum(p["a"]) + np.sum(p["b"] ** 2))({"a": np.zeros(0), "b": X})
    assert gradient["a"].shape == (0,)
    close(gradient["b"], 2 * X)


def test_case_97_remainders():
    close(br.grad(np.mod)(4.0, 2.0), 1)
    close(br.grad(lambda b: np.mod(4.0, b))(2.0), -2)


def test_case_98_complex_functions():
    c = 0.3 - 0.8j
    z = 1.0 + 2.0j
    # the direction of steepest ascent
    close(br.grad(lambda z: np.abs(z - c) ** 2)(z), 2 * (z - c))
    close(br.grad(lambda z: np.real((z - c) * np.conj(z - c)))(z), 2 * (z - c))
    close(br.grad(lambda z: np.real(c * z))(z), np.conj(c))
    zs = X + 1j * X[::-1]
    # of the real part, where the result is complex
    close(br.grad(lambda z: np.sum(z**2))(zs), np.conj(2 * zs))
    close(br.grad(lambda z: np.real(np.sum(z**2)))(zs), np.conj(2 * zs))
    # the derivative itself, and the plain transpose
    close(br.grad(lambda z: np.sum(z**2), holomorphic=True)(zs), 2 * zs)
    close(br.vjp(lambda z: np.sum(z**2), zs)[1](1.0 + 0j)[0], 2 * zs)
    f = lambda z: np.exp(z) * z[0]  # noqa: E731
    close(br.jacrev(f, holomorphic=True)(zs), br.jacfwd(f, holomorphic=True)(zs))


# ------------------------------------------------------------------------------------------------------------ debugging


def test_case_99_a_log_of_operations():
    f = lambda x: np.sum(x * x)  # noqa: E731
    for debugged in (lambda file: br.grad(br.debug(f, file=file)), lambda file: br.debug(br.grad(f), file=file)):
        stream = io.StringIO()
        assert (debugged(stream)(X) == br.grad(f)(X)).all()
        assert "multiply ->" in stream.getvalue()
        assert "sum ->" in stream.getvalue()
