"""Foreign functions as operations, and functions with batching rules of their own."""

from __future__ import annotations

import ctypes
import ctypes.util
import math

import numpy as np
import pytest

import bindrune as br
from expect import close

X = np.array([0.7, -1.3, 2.1])


def plain_only(function):
    """A function that refuses anything but plain arrays and numbers, as C code would."""

    def call(*arguments):
        for argument in arguments:
            assert type(argument) in (np.ndarray, np.float64, float, int), type(argument)
        return function(*arguments)

    call.__name__ = call.__qualname__ = function.__name__
    return call


libm = ctypes.CDLL(ctypes.util.find_library("m"))
libm.cbrt.restype = ctypes.c_double
libm.cbrt.argtypes = [ctypes.c_double]


@br.primitive
def cube_root(x):
    """The cube root, by the C library."""
    return np.float64(libm.cbrt(float(x)))


@cube_root.defjvp
def _(primals, tangents, value):
    return tangents[0] / (3 * value**2)


def forward_power():
    @br.primitive
    @plain_only
    def power(a, b):
        return np.power(a, b)

    @power.defjvp
    def _(primals, tangents, value):
        (a, b), (da, db) = primals, tangents
        return b * value / a * da + np.log(a) * value * db

    return power


def reverse_power():
    @br.primitive
    @plain_only
    def power(a, b):
        return np.power(a, b)

    @power.defvjp
    def _(cotangent, value, a, b):
        return cotangent * b * value / a, cotangent * np.log(a) * value

    return power


def both_power():
    power = forward_power()
    power.defvjp(lambda ct, value, a, b: (ct * b * value / a, ct * np.log(a) * value))

    @power.defvmap
    def _(size, in_batched, a, b):
        assert isinstance(size, int)
        if not all(in_batched):
            a, b = (
                v if f else np.broadcast_to(v, (size, *np.shape(v))) for v, f in zip((a, b), in_batched, strict=True)
            )
        return power(a, b), True

    return power


A, EXPONENTS = np.array([0.7, 1.3, 2.1]), np.array([1.9, 0.8, -0.6])

# ------------------------------------------------------------------------------------------------------------ primitive


def test_a_c_function():
    close(cube_root(8.0), 2)
    close(br.grad(cube_root)(8.0), 1 / 12)
    close(br.grad(br.grad(cube_root))(8.0), -2 / 9 * 8 ** (-5 / 3))
    close(br.jvp(cube_root, (8.0,), (3.0,)), [2, 0.25])
    close(br.vmap(cube_root)(np.array([1.0, 8.0, 27.0])), [1, 2, 3])
    close(br.vmap(br.grad(cube_root))(np.array([1.0, 8.0])), [1 / 3, 1 / 12])
    close(br.grad(lambda x: np.sum(br.vmap(cube_root)(x)))(np.array([1.0, 8.0])), [1 / 3, 1 / 12])
    assert cube_root.__doc__.startswith("The cube root")


@pytest.mark.parametrize("make", [forward_power, reverse_power, both_power])
def test_reverse_mode_in_every_order(make):
    power = make()
    plain = lambda a, b: a**b  # noqa: E731
    loss = lambda g: lambda a, b: np.sum(np.sin(g(a, b)) * a)  # noqa: E731
    for argnums in (0, 1):
        expected = br.grad(loss(plain), argnums)(A, EXPONENTS)
        close(br.grad(loss(power), argnums)(A, EXPONENTS), expected)
        hessian = br.jacrev(br.grad(loss(plain), argnums), argnums)(A, EXPONENTS)
        close(br.jacrev(br.grad(loss(power), argnums), argnums)(A, EXPONENTS), hessian, rtol=1e-9, atol=1e-12)
        lanes = br.vmap(br.grad(lambda a, b: np.sin(power(a, b)) * a, argnums))(A, EXPONENTS)
        close(lanes, expected)
        mapped = br.grad(lambda a, b: np.sum(np.sin(br.vmap(power)(a, b)) * a), argnums)(A, EXPONENTS)
        close(mapped, expected)
    shared = br.grad(lambda b: np.sum(br.vmap(power, in_axes=(0, None))(A, b)))(2.0)
    close(shared, np.sum(A**2 * np.log(A)))
    value, pullback = br.vjp(power, A, EXPONENTS)
    close(br.vmap(lambda ct: pullback(ct)[0])(np.eye(3)), np.diag(EXPONENTS * value / A))


@pytest.mark.parametrize("make", [forward_power, both_power])
def test_forward_mode_in_every_order(make):
    power = make()
    plain = lambda a, b: a**b  # noqa: E731
    given, moved = (A, EXPONENTS), (EXPONENTS, A)
    close(br.jvp(power, given, moved), br.jvp(plain, given, moved))
    close(br.jvp(br.vmap(power), given, moved), br.jvp(plain, given, moved))
    close(br.jacfwd(power)(*given), br.jacfwd(plain)(*given))
    close(br.hessian(lambda a: np.sum(power(a, EXPONENTS)))(A), br.hessian(lambda a: np.sum(a**EXPONENTS))(A))
    close(br.jacfwd(br.jacfwd(lambda a: power(a, 1.5)))(1.3), 0.75 * 1.3**-0.5)
    close(br.linearize(power, *given)[1](*moved), br.jvp(plain, given, moved)[1])


def test_a_plain_call_is_the_function_itself():
    calls = []

    @br.primitive
    def f(x):
        calls.append(x)
        return x

    assert f("anything") == "anything"
    assert f(X) is X
    assert calls[0] == "anything"


def test_rules_that_are_missing():
    power = reverse_power()
    nothing = br.primitive(lambda x: x)
    message = r"test_primitive.py:\d+.*br.primitive of power.* has no jvp rule; define it with @f.defjvp"
    with pytest.raises(br.UnsupportedError, match=message):
        br.jvp(power, (A, EXPONENTS), (A, A))
    for use in (lambda: br.grad(nothing)(1.0), lambda: br.jvp(nothing, (1.0,), (1.0,))):
        with pytest.raises(br.UnsupportedError, match=r"br.primitive of .* has no jvp rule"):
            use()
    close(br.vmap(nothing)(X), X)
    close(br.grad(lambda x: nothing(br.stop_gradient(x)) * x)(3.0), 3)
    close(br.grad(lambda x: br.no_grad(nothing)(x) * x)(3.0), 3)


def test_trees_integers_and_strings():
    @br.primitive
    def pick(params, index, name):
        assert isinstance(name, str)
        return {"value": np.float64(params[name][index]), "where": (np.int64(index),)}

    @pick.defvjp
    def _(cotangent, value, params, index, name):
        out = np.zeros_like(params[name])
        out[index] = cotangent["value"]
        return {**{n: np.zeros_like(v) for n, v in params.items()}, name: out}, None, None

    params = {"a": X, "b": 2 * X}
    loss = lambda p: pick(p, 1, "b")["value"] ** 2  # noqa: E731
    gradient = br.grad(loss)(params)
    close(gradient["a"], np.zeros(3))
    close(gradient["b"], [0, 4 * X[1], 0])
    lanes = br.vmap(lambda p: pick(p, 1, "b"))({"a": np.stack([X, X]), "b": np.stack([X, 3 * X])})
    close(lanes["value"], [X[1], 3 * X[1]])
    assert lanes["where"][0].tolist() == [1, 1]


def test_several_results_and_cotangents_of_none():
    @br.primitive
    def both(a, b):
        return np.sum(a), a * b

    both.defvjp(lambda ct, value, a, b: (ct[0] + ct[1] * b, None))
    total = lambda a, b: both(a, b)[0] * np.sum(both(a, b)[1])  # noqa: E731
    by_a, by_b = br.grad(total, argnums=(0, 1))(X, A)
    close(by_a, np.sum(X * A) + np.sum(X) * A)
    close(by_b, np.zeros(3))
    close(br.grad(lambda a: both(a, A)[0])(X), np.ones(3))


def test_a_batching_rule_sees_all_lanes_at_once():
    calls = []

    @br.primitive
    def total(x, w):
        calls.append(np.shape(x))
        return np.sum(x * w)

    total.defvjp(lambda ct, value, x, w: (ct * w, ct * x))
    close(br.vmap(total, in_axes=(0, None))(np.stack([X, A]), A), [X @ A, A @ A])
    assert calls == [(3,), (3,)]

    flags = []

    @total.defvmap
    def _(size, in_batched, x, w):
        flags.append(tuple(in_batched))
        return np.sum(x * w, axis=-1), True

    calls.clear()
    lanes = np.stack([X, A])
    close(br.vmap(total, in_axes=(0, None))(lanes, A), [X @ A, A @ A])
    close(br.vmap(total, in_axes=(None, 0))(A, lanes), [X @ A, A @ A])
    close(br.grad(lambda x: np.sum(br.vmap(total, in_axes=(0, None))(x, A)))(lanes), [A, A])
    assert calls == []
    assert flags == [(True, False), (False, True), (True, False)]
    total.defvmap(lambda size, in_batched, x, w: (np.float64(7.0), False))
    close(br.vmap(total, in_axes=(0, None))(lanes, A), [7, 7])


def test_lanes_of_lanes_and_no_lanes():
    grid = np.stack([A, 2 * A])
    power = forward_power()
    close(br.vmap(br.vmap(power))(grid, np.stack([EXPONENTS] * 2)), grid**EXPONENTS)
    close(br.vmap(lambda a: br.vmap(lambda b: power(a, b))(EXPONENTS))(A), A[:, None] ** EXPONENTS)
    assert br.vmap(power)(np.zeros(0), np.zeros(0)).shape == (0,)


def test_it_may_not_write_into_what_it_is_given():
    @br.primitive
    def overwrites(x):
        x[0] = 0.0
        return np.sum(x)

    overwrites.defvjp(lambda ct, value, x: (ct * np.ones(3),))
    with pytest.raises(ValueError, match="read-only"):
        br.grad(overwrites)(X)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda t: t[:2], r"the jvp rule of br.primitive of .*: tangent has shape \(2,\), the value has \(3,\)"),
        (lambda t: (t,), r"the tangent has the structure \(\*,\), the value \*"),
        (lambda t: 1j * t, r"tangent has dtype complex128"),
    ],
)
def test_a_jvp_rule_that_returns_what_does_not_fit(rule, message):
    f = br.primitive(lambda x: 2 * x)
    f.defjvp(lambda primals, tangents, value: rule(tangents[0]))
    for use in (lambda: br.jvp(f, (X,), (X,)), lambda: br.vjp(f, X)):
        with pytest.raises(br.TangentError, match=message):
            use()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            lambda ct: ct,
            r"the vjp rule of br.primitive of .* must return a tuple with one cotangent for each argument \(p\)",
        ),
        (lambda ct: ({"a": ct[:2]},), r"cotangent of p\['a'\] has shape \(2,\), the argument has \(3,\)"),
        (lambda ct: ((ct,),), r"cotangent of p has the structure \(\*,\), the argument \{'a': \*\}"),
    ],
)
def test_a_vjp_rule_that_returns_what_does_not_fit(rule, message):
    f = br.primitive(lambda p: 2 * p["a"])
    f.defvjp(lambda ct, value, p: rule(ct))
    _, pullback = br.vjp(f, {"a": X})
    with pytest.raises(br.CotangentError, match=message):
        pullback(X)


simulate = br.primitive(lambda x: np.float64(math.tanh(x)))
simulate.defjvp(lambda primals, tangents, value: (1 - value * value) * tangents[0])


def test_in_loops_with_everything_else():
    def f(x):
        for _ in range(3):
            x = simulate(x) * 2
        return x

    def plain(x):
        for _ in range(3):
            x = np.tanh(x) * 2
        return x

    close(br.grad(f)(0.4), br.grad(plain)(0.4))
    close(br.grad(br.checkpoint(f))(0.4), br.grad(plain)(0.4))
    close(br.grad(lambda x: br.checkpoint_loop(lambda i, s: simulate(s) * 2, 3, x))(0.4), br.grad(plain)(0.4))
    close(br.vmap(br.hessian(f))(X), [br.grad(br.grad(plain))(x) for x in X])
    close(br.grad(lambda x: np.sum(br.vmap(br.grad(f))(x)))(X), [br.grad(br.grad(plain))(x) for x in X])


# ---------------------------------------------------------------------------------------------------------- custom_vmap


@pytest.fixture
def total():
    @br.custom_vmap
    def total(x, w):
        return np.sum(x * w)

    total.seen = []

    @total.def_vmap
    def _(size, in_batched, x, w):
        total.seen.append((size, tuple(in_batched), np.shape(x), np.shape(w)))
        return np.einsum("...i,...i->...", x, w), True

    return total


def test_the_batching_rule_is_used(total):
    lanes = np.stack([X, A])
    close(br.vmap(total, in_axes=(0, None))(lanes, A), lanes @ A)
    assert total.seen == [(2, (True, False), (2, 3), (3,))]
    close(total(X, A), X @ A)
    assert len(total.seen) == 1


def test_derivatives_are_those_of_the_function(total):
    close(br.grad(total)(X, A), A)
    close(br.jvp(total, (X, A), (A, X))[1], X @ X + A @ A)
    close(br.hessian(lambda x: total(x, x))(X), 2 * np.eye(3))
    lanes = np.stack([X, A])
    close(br.grad(lambda x: np.sum(br.vmap(total, in_axes=(0, None))(x, A) ** 2))(lanes), 2 * (lanes @ A)[:, None] * A)
    close(br.vmap(br.grad(total), in_axes=(0, None))(lanes, A), [A, A])
    close(br.jvp(lambda x: br.vmap(total, in_axes=(0, None))(x, A), (lanes,), (lanes,))[1], lanes @ A)
    close(br.vmap(br.vmap(total, in_axes=(None, 0)), in_axes=(0, None))(lanes, lanes), lanes @ lanes.T)


def test_a_result_that_does_not_differ_between_lanes():
    f = br.custom_vmap(lambda x: {"a": x, "b": np.float64(3.0)})
    f.def_vmap(lambda size, in_batched, x: ({"a": 10 * x, "b": np.float64(3.0)}, {"a": True, "b": False}))
    found = br.vmap(f)(X)
    close(found["a"], 10 * X)
    close(found["b"], [3, 3, 3])


def test_trees_methods_and_captured_values():
    scale = br.custom_vmap(lambda p, name: p[name] * 2)
    scale.def_vmap(lambda size, in_batched, p, name: (p[name] * 2 + int(in_batched[0][name]), True))
    close(br.vmap(lambda x: scale({"a": x, "b": 1.0}, "a"))(X), 2 * X + 1)
    # one that captures what is the same for all lanes
    w = np.array([1.0, 2.0, 3.0])

    def f(w, x):
        g = br.custom_vmap(lambda x: w @ x)
        g.def_vmap(lambda size, in_batched, x: (x @ w, True))
        return g(x)

    lanes = np.stack([X, A])
    close(br.vmap(f, in_axes=(None, 0))(w, lanes), lanes @ w)
    close(br.grad(lambda w: np.sum(br.vmap(f, in_axes=(None, 0))(w, lanes)))(w), X + A)
    message = r"test_primitive.py:\d+.*br.custom_vmap of .*captures a value that differs between lanes.*as an argument"
    with pytest.raises(br.UnsupportedError, match=message):
        br.vmap(f)(lanes, lanes)


def test_without_a_batching_rule():
    f = br.custom_vmap(lambda x: x)
    assert f(1.0) == 1.0
    with pytest.raises(br.UnsupportedError, match=r"br.custom_vmap of .* has no rule; define it with @f.def_vmap"):
        br.vmap(f)(X)
