"""Functions with derivative rules of their own: under every transformation, in both orders, and when they are wrong."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import bindrune as br
from expect import close, difference_gradient

X = np.array([0.7, -1.3, 2.1])


@br.custom_jvp
def softplus(x):
    return np.log1p(np.exp(x))


@softplus.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return softplus(x), t / (1 + np.exp(-x))


@br.custom_jvp
def product(a, b):
    return a * b


product.defjvps(lambda t, y, a, b: t * b, lambda t, y, a, b: t * a)


@br.custom_vjp
def sine(x):
    return np.sin(x)


sine.defvjp(lambda x: (np.sin(x), np.cos(x)), lambda cosine, ct: (ct * cosine,))


@br.custom_jvp
def halved(x):
    """The rule is wrong on purpose, which shows that it is used."""
    return x * x


@halved.defjvp
def _(primals, tangents):
    return halved(*primals), primals[0] * tangents[0]


@br.custom_vjp
def hundredfold(x):
    return 1.0 * x


hundredfold.defvjp(lambda x: (1.0 * x, None), lambda _, ct: (100 * ct,))

FIRST = {
    "grad": lambda f: br.grad(f),
    "jvp": lambda f: lambda x: br.jvp(f, (x,), (1.0,))[1],
    "pullback": lambda f: lambda x: br.vjp(f, x)[1](1.0)[0],
    "jacfwd": lambda f: br.jacfwd(f),
    "jacrev": lambda f: br.jacrev(f),
    "jacobian": lambda f: br.jacobian(f),
    "linearize": lambda f: lambda x: br.linearize(f, x)[1](1.0),
}
REVERSE = ("grad", "pullback", "jacrev", "jacobian", "linearize")

# ---------------------------------------------------------------------------------------------------------- plain calls


def test_a_plain_call_runs_the_function_itself():
    runs = []

    @br.custom_vjp
    def f(x):
        runs.append("function")
        return 2 * x

    f.defvjp(lambda x: runs.append("forward") or (2 * x, None), lambda _, ct: (2 * ct,))
    assert f(3.0) == 6.0
    close(br.vmap(f)(X), 2 * X)
    br.grad(lambda y: y * f(3.0))(1.0)
    assert runs == ["function"] * 3
    br.grad(f)(3.0)
    assert runs == ["function"] * 3 + ["forward"]


def test_it_bears_the_name_and_the_docstring_of_the_function():
    assert halved.__name__ == "halved"
    assert halved.__doc__.startswith("The rule is wrong")


def test_without_a_rule_it_runs_but_does_not_differentiate():
    f = br.custom_jvp(lambda x: 2 * x)
    g = br.custom_vjp(lambda x: 2 * x)
    assert f(3.0) == g(3.0) == 6.0
    with pytest.raises(
        br.UnsupportedError, match=r"test_custom_rules.py:\d+.*custom_jvp of .*define it with @f.defjvp"
    ):
        br.grad(f)(3.0)
    with pytest.raises(br.UnsupportedError, match=r"custom_vjp of .*define it with f.defvjp"):
        br.grad(g)(3.0)


# ----------------------------------------------------------------------------------------------- every transformation


@pytest.mark.parametrize("mode", FIRST)
def test_the_rule_is_used(mode):
    close(FIRST[mode](halved)(3.0), 3)
    close(FIRST[mode](lambda x: halved(2 * x) + x)(3.0), 13)


@pytest.mark.parametrize("mode", REVERSE)
def test_the_reverse_rule_is_used(mode):
    close(FIRST[mode](hundredfold)(3.0), 100)
    close(FIRST[mode](lambda x: hundredfold(x) * hundredfold(x))(3.0), 600)


@pytest.mark.parametrize("mode", ["jvp", "jacfwd"])
def test_forward_mode_refuses_a_reverse_rule(mode):
    message = r"test_custom_rules.py:\d+.*br.custom_vjp of sine .*forward mode.*br.custom_jvp"
    with pytest.raises(br.UnsupportedError, match=message):
        FIRST[mode](lambda x: 2 * sine(x))(1.0)


@pytest.mark.parametrize("outer", FIRST)
@pytest.mark.parametrize("inner", FIRST)
def test_second_derivatives(outer, inner):
    sigmoid = 1 / (1 + np.exp(-0.3))
    close(FIRST[outer](FIRST[inner](softplus))(0.3), sigmoid * (1 - sigmoid))
    # The derivative of the rule: halved' = x, so halved'' = 1.
    close(FIRST[outer](FIRST[inner](halved))(3.0), 1)
    close(FIRST[outer](FIRST[inner](lambda x: product(x, product(x, x))))(2.0), 12)


@pytest.mark.parametrize("outer", FIRST)
@pytest.mark.parametrize("inner", REVERSE)
def test_second_derivatives_through_a_reverse_rule(outer, inner):
    close(FIRST[outer](FIRST[inner](lambda x: sine(x) * x))(0.4), 2 * np.cos(0.4) - 0.4 * np.sin(0.4))


@pytest.mark.parametrize("f", [softplus, sine, halved, hundredfold, lambda x: product(x, x)])
def test_a_map_and_a_gradient_in_both_orders(f):
    expected = [br.grad(f)(x) for x in X]
    close(br.vmap(br.grad(f))(X), expected)
    close(br.grad(lambda x: np.sum(br.vmap(f)(x)))(X), expected)
    close(br.vmap(f)(X), [f(x) for x in X])
    close(br.jacobian(br.vmap(f))(X), np.diag(expected))
    close(br.vmap(br.vmap(br.grad(f)))(np.stack([X, X])), [expected, expected])
    mapped = br.grad(lambda x: np.sum(br.vmap(br.vmap(f))(x)))
    close(mapped(np.stack([X, 2 * X])), [expected, [br.grad(f)(2 * x) for x in X]])


@pytest.mark.parametrize("f", [softplus, halved, lambda x: product(x, x)])
def test_a_map_and_a_pushforward_in_both_orders(f):
    tangents = np.array([1.0, 0.5, -2.0])
    expected = [br.jvp(f, (x,), (t,))[1] for x, t in zip(X, tangents, strict=True)]
    close(br.jvp(br.vmap(f), (X,), (tangents,))[1], expected)
    close(br.vmap(lambda x, t: br.jvp(f, (x,), (t,))[1])(X, tangents), expected)
    # x is the same for all lanes, its tangent is not
    close(br.vmap(lambda t: br.jvp(f, (0.5,), (t,))[1])(tangents), tangents * br.grad(f)(0.5))


def test_hessian_of_a_map_and_map_of_hessians():
    second = [br.grad(br.grad(softplus))(x) for x in X]
    close(br.hessian(lambda x: np.sum(br.vmap(softplus)(x)))(X), np.diag(second))
    close(br.vmap(br.hessian(softplus))(X), second)
    close(br.hvp(lambda x: np.sum(softplus(x)), (X,), (np.ones(3),)), second)


def test_an_argument_shared_by_all_lanes_gets_the_sum():
    @br.custom_vjp
    def scaled(x, w):
        return x * w

    scaled.defvjp(lambda x, w: (x * w, (x, w)), lambda kept, ct: (ct * kept[1], ct * kept[0]))
    loss = lambda w, x: np.sum(br.vmap(scaled, in_axes=(0, None))(x, w))  # noqa: E731
    close(br.grad(loss)(3.0, X), np.sum(X))
    close(br.grad(lambda w: np.sum(br.vmap(product, in_axes=(0, None))(X, w)))(3.0), np.sum(X))
    close(br.vmap(br.grad(loss), in_axes=(0, None))(np.ones(2), X), np.full(2, np.sum(X)))


def test_linear_in_the_number_of_calls():
    calls = []

    @br.custom_jvp
    def f(x):
        calls.append("function")
        return np.sin(x)

    @f.defjvp
    def _(primals, tangents):
        calls.append("rule")
        return np.sin(primals[0]), np.cos(primals[0]) * tangents[0]

    br.jacobian(lambda x: np.stack([f(x), x]))(0.5)
    assert calls == ["rule"]
    _, push = br.linearize(f, 0.5)
    push(1.0)
    push(2.0)
    assert calls == ["rule"] * 2


def test_inside_a_loop_that_ends_on_a_value():
    def newton(a):
        x = a
        while abs(x * x - a) > 1e-12:
            x = x - (product(x, x) - a) / (2 * x)
        return x

    # The last step alone has the derivative of the root.
    close(br.grad(newton)(2.0), br.jvp(newton, (2.0,), (1.0,))[1])
    close(br.grad(newton)(2.0), 1 / (2 * np.sqrt(2)), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------- captured


def layer_with(rule):
    """A custom function of x that captures w, with the derivative by x given by a rule (twice the true one)."""

    def make(w):
        if rule == "jvp":

            @br.custom_jvp
            def f(x):
                return w * np.sin(x)

            f.defjvp(lambda primals, tangents: (f(*primals), 2 * w * np.cos(primals[0]) * tangents[0]))
            return f

        @br.custom_vjp
        def f(x):
            return w * np.sin(x)

        f.defvjp(lambda x: (w * np.sin(x), x), lambda x, ct: (2 * w * np.cos(x) * ct,))
        return f

    return make


@pytest.mark.parametrize("rule", ["jvp", "vjp"])
def test_what_is_captured_is_differentiated(rule):
    make = layer_with(rule)
    close(br.grad(lambda w: make(w)(0.4))(3.0), np.sin(0.4))
    close(br.grad(lambda w, x: make(w)(x), argnums=(0, 1))(3.0, 0.4), [np.sin(0.4), 6 * np.cos(0.4)])
    close(br.grad(lambda w, x: make(w * w)(x), argnums=(0, 1))(3.0, 0.4), [6 * np.sin(0.4), 18 * np.cos(0.4)])
    # once by w, once by x, in both orders: the rule is differentiated by what it captures
    by_x = lambda w, x: br.grad(lambda x: make(w)(x))(x)  # noqa: E731
    by_w = lambda w, x: br.grad(lambda w: make(w)(x))(w)  # noqa: E731
    close(br.grad(by_x)(3.0, 0.4), 2 * np.cos(0.4))
    close(br.grad(by_w, argnums=1)(3.0, 0.4), np.cos(0.4))


def test_what_is_captured_is_pushed_forward():
    make = layer_with("jvp")
    close(br.jvp(lambda w: make(w)(0.4), (3.0,), (1.0,))[1], np.sin(0.4))
    close(br.jvp(lambda w, x: make(w)(x), (3.0, 0.4), (1.0, 0.5))[1], np.sin(0.4) + 3 * np.cos(0.4))
    # with nothing to say for the rule, forward mode needs none
    close(br.jvp(lambda w: layer_with("vjp")(w)(0.4), (3.0,), (1.0,))[1], np.sin(0.4))


@pytest.mark.parametrize("rule", ["jvp", "vjp"])
def test_what_is_captured_is_mapped(rule):
    make = layer_with(rule)
    weights = np.array([1.0, 2.0, 3.0])
    close(br.vmap(lambda w: make(w)(0.4))(weights), weights * np.sin(0.4))
    close(br.vmap(lambda w, x: make(w)(x))(weights, X), weights * np.sin(X))
    close(br.vmap(br.grad(lambda w, x: make(w)(x), argnums=(0, 1)))(weights, X), [np.sin(X), 2 * weights * np.cos(X)])

    def total(w, x):
        return np.sum(br.vmap(lambda w, x: make(w)(x))(w, x))

    close(br.grad(total, argnums=(0, 1))(weights, X), [np.sin(X), 2 * weights * np.cos(X)])
    shared = lambda w: np.sum(br.vmap(lambda x: make(w)(x))(X))  # noqa: E731
    close(br.grad(shared)(2.0), np.sum(np.sin(X)))
    close(br.vmap(br.grad(shared))(weights), np.full(3, np.sum(np.sin(X))))


def test_variables_bound_anew_are_those_of_the_call():
    def total(x):
        result = 0.0
        for k in range(3):
            w = (k + 1) * x
            f = br.custom_vjp(lambda v: w * v)  # noqa: B023
            f.defvjp(lambda v: (w * v, v), lambda v, ct: (w * ct,))  # noqa: B023
            result = result + f(x)
        return result

    close(br.grad(total)(2.0), 2 * 6 * 2.0)


def test_captured_by_an_object_a_partial_and_a_container():
    class Model:
        def __init__(self, w):
            self.w = w

        def scaled(self, x):
            return self.w * x

    def check(make):
        def f(w, x):
            custom = br.custom_jvp(make(w))
            custom.defjvp(lambda primals, tangents: (custom(*primals), 10 * tangents[0]))
            return custom(x)

        close(br.grad(f, argnums=(0, 1))(3.0, 2.0), [2, 10])
        close(br.vmap(br.grad(f))(X, 2 * X), 2 * X)

    check(lambda w: Model(w).scaled)
    check(lambda w: partial(lambda w, x: w * x, w))
    check(lambda w: (lambda kept: lambda x: kept["w"][0] * x)({"w": [w]}))
    check(lambda w: lambda x: (lambda y: y * w)(x))


def test_what_is_captured_may_change_between_calls():
    class Scale:
        __slots__ = ("by",)

    def make():
        scale, kept, factor = Scale(), [], 1.0

        def scaled(x):
            return scale.by * x * kept[0] * factor

        custom = br.custom_vjp(scaled)
        custom.defvjp(lambda x: (scaled(x), None), lambda _, ct: (ct * scale.by * kept[0] * factor,))

        def f(w, x, on):
            nonlocal factor
            scale.by, kept[:], factor = (w, [2.0], 5.0) if on else (3.0, [w, w], 7.0)
            return custom(x)

        return f

    f, other = make(), make()
    for g in (f, other, f):
        close(br.grad(g, argnums=(0, 1))(4.0, 0.5, True), [0.5 * 2 * 5, 4 * 2 * 5])
        close(br.grad(g, argnums=(0, 1))(4.0, 0.5, False), [3 * 0.5 * 7, 3 * 4 * 7])


def test_one_custom_function_captures_another():
    def f(w, x):
        inner = layer_with("jvp")(w)
        outer = br.custom_vjp(lambda v: inner(v) * v)
        outer.defvjp(lambda v: (inner(v) * v, v), lambda v, ct: (ct * inner(v),))
        return outer(x)

    close(br.grad(f, argnums=(0, 1))(3.0, 0.4), [np.sin(0.4) * 0.4, 3 * np.sin(0.4)])
    # the outer rule w sin(x) by x: the inner rule, twice the true one
    close(br.grad(br.grad(f, argnums=1), argnums=1)(3.0, 0.4), 6 * np.cos(0.4))


GLOBAL = {}


def test_a_value_that_only_a_global_leads_to_is_refused():
    f = br.custom_jvp(lambda x: GLOBAL["w"] * x)
    f.defjvp(lambda primals, tangents: (GLOBAL["w"] * primals[0], tangents[0]))

    def loss(w):
        GLOBAL["w"] = w
        return f(w)

    with pytest.raises(br.UnsupportedError, match=r"br.grad of .*global variable.*Pass the value as an argument"):
        br.grad(loss)(3.0)
    GLOBAL.clear()


def test_a_write_that_would_be_lost_is_refused():
    def overwrites(x):
        x[0] = 0.0
        return np.sum(x)

    def logs(x):
        kept[0] = np.sum(x)
        return np.sum(x)

    kept = np.zeros(1)
    for function in (overwrites, logs):
        f = br.custom_jvp(function)
        f.defjvp(lambda primals, tangents, f=f: (f(primals[0]), np.sum(tangents[0])))
        with pytest.raises(br.MutationError, match=r"br.custom_jvp of .*writes to an array.*copy"):
            br.grad(f)(np.ones(2))


def test_a_change_of_a_captured_object_that_would_be_lost_is_refused():
    class Counter:
        def __init__(self, w):
            self.w = w
            self.count = 0

        def scaled(self, x):
            self.count += 1
            return self.w * x

    def loss(w):
        counter = Counter(w)
        f = br.custom_jvp(lambda x: counter.scaled(x))
        f.defjvp(lambda primals, tangents: (f(primals[0]), tangents[0]))
        return f(w)

    with pytest.raises(br.MutationError, match=r"changes a list, a dictionary or an object"):
        br.grad(loss)(2.0)


def test_a_rule_may_write_into_what_it_was_given():
    @br.custom_vjp
    def relu(x):
        return np.maximum(x, 0)

    def backward(x, ct):
        ct[:] = np.where(x < 0, 0.0, ct)
        return (ct,)

    relu.defvjp(lambda x: (np.maximum(x, 0), x), backward)
    close(br.grad(lambda x: np.sum(3 * relu(x)))(X), [3, 0, 3])
    close(br.grad(lambda x: np.sum(br.vmap(relu)(x)))(np.stack([X, -X])), [[1, 0, 1], [0, 1, 0]])
    close(br.vmap(br.grad(lambda x: np.sum(relu(x))))(np.stack([X, -X])), [[1, 0, 1], [0, 1, 0]])


# -------------------------------------------------------------------------------------------------------- with the rest


def test_a_custom_function_inside_a_checkpoint_and_a_checkpoint_inside_a_custom_function():
    checkpointed = br.checkpoint(lambda x: np.sin(halved(x)))
    close(br.grad(checkpointed)(1.5), np.cos(2.25) * 1.5)
    close(br.jvp(checkpointed, (1.5,), (1.0,))[1], np.cos(2.25) * 1.5)
    close(br.vmap(br.grad(checkpointed))(X), np.cos(X * X) * X)

    inner = br.checkpoint(np.sin)
    custom = br.custom_jvp(lambda x: inner(x))
    custom.defjvp(lambda primals, tangents: (inner(primals[0]), 3 * inner(primals[0]) * tangents[0]))
    close(br.grad(custom)(0.4), 3 * np.sin(0.4))
    close(br.grad(br.grad(custom))(0.4), 3 * np.cos(0.4))
    by_w = lambda w, x: br.checkpoint(lambda x: layer_with("vjp")(w)(x))(x)  # noqa: E731
    close(br.grad(by_w, argnums=(0, 1))(3.0, 0.4), [np.sin(0.4), 6 * np.cos(0.4)])


def test_without_gradients():
    with_pause = lambda x: br.no_grad(halved)(x) * x  # noqa: E731
    close(br.grad(with_pause)(3.0), 9)
    close(br.jvp(with_pause, (3.0,), (1.0,))[1], 9)
    close(br.grad(lambda x: br.no_grad(hundredfold)(x) * x)(3.0), 3)
    close(br.grad(lambda x: halved(br.stop_gradient(x)) * x)(3.0), 9)


def test_a_call_that_no_derivative_follows_runs_the_function_alone():
    runs = []

    @br.custom_jvp
    def f(x):
        runs.append("function")
        return x * x

    f.defjvp(lambda primals, tangents: (f(primals[0]), runs.append("rule") or 2 * primals[0] * tangents[0]))
    close(br.grad(lambda x: f(np.ones(3)) @ f(x))(X), 2 * X)
    assert runs == ["function", "function", "rule"]


def test_a_rule_that_takes_derivatives_itself():
    @br.custom_jvp
    def bent(x):
        return x**3

    bent.defjvp(lambda primals, tangents: (bent(*primals), br.grad(lambda x: x**3)(primals[0]) * tangents[0]))
    close(br.grad(bent)(2.0), 12)
    close(br.grad(br.grad(bent))(2.0), 12)


def test_a_pullback_outlives_the_call_and_can_be_used_again():
    def f(w):
        layer = layer_with("vjp")(w * w)
        return layer(w)

    value, pullback = br.vjp(f, 3.0)
    expected = 6 * np.sin(3.0) + 18 * np.cos(3.0)
    close(value, 9 * np.sin(3.0))
    close(pullback(1.0)[0], expected)
    close(pullback(2.0)[0], 2 * expected)
    close(br.vmap(lambda ct: pullback(ct)[0])(X), X * expected)


def test_views_as_arguments_and_results():
    f = br.custom_jvp(lambda x: x[1:])
    f.defjvp(lambda primals, tangents: (f(*primals), 2 * tangents[0][1:]))

    def program(x):
        y = f(x[:2])
        x[1] = 0.0  # what f returned does not change
        return np.sum(y * y) + np.sum(x)

    close(br.grad(program)(X.copy()), [1, 4 * X[1], 1])


def test_against_differences_inside_a_larger_program():
    def program(x):
        out = np.zeros(3)
        for i in range(3):
            out[i] = product(x[i], softplus(x[i - 1]))
        return np.sum(sine(out))

    close(br.grad(program)(X), difference_gradient(program, X), rtol=1e-6)
