"""Checkpoints: the same values and derivatives, for less memory and one more evaluation."""

from __future__ import annotations

from collections import deque
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import bindrune as br
from bindrune.core.operation import registry
from bindrune.transforms.checkpoint import _PRODUCTS
from expect import close, weigh
from measures import peak

X = np.array([0.7, -1.3, 2.1])
W = np.array([[0.5, -1.2, 2.1], [1.7, -0.4, 0.9], [0.2, 1.3, -0.7]])

POLICIES = {
    "nothing": br.save_nothing,
    "everything": br.save_everything,
    "matmuls": br.save_matmuls,
    "names": br.save_only_these_names("hidden"),
    "own": lambda operation, params: operation in ("tanh", "multiply"),
}
policies = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def network(w, x):
    hidden = br.checkpoint_name(np.tanh(w @ x), "hidden")
    return weigh(np.sin(w @ hidden) * x)


def writing(w, x):
    """Creates arrays, writes into them, through views too, and branches on a value."""
    out = np.zeros((4, 3))
    out[0] = x
    for i in range(1, 4):
        row = out[i]
        row[:] = np.tanh(w @ out[i - 1])
        if row[0] > 0:
            row[1:] *= 2.0
    out[1:, 0] += x[0]
    return weigh(out * out)


PROGRAMS = {"network": network, "writing": writing}
programs = pytest.mark.parametrize("f", PROGRAMS.values(), ids=PROGRAMS)

# ---------------------------------------------------------------------------------------------------- same derivatives


@programs
@policies
def test_the_same_value_and_gradients(f, policy):
    g = br.checkpoint(f, policy=policy)
    assert g(W, X) == f(W, X)
    for found, expected in zip(_all_gradients(g), _all_gradients(f), strict=True):
        close(found, expected, rtol=1e-12)


def _all_gradients(f):
    value, (by_w, by_x) = br.value_and_grad(f, argnums=(0, 1))(W, X)
    return value, by_w, by_x, *br.vjp(f, W, X)[1](2.0)


@programs
@policies
def test_forward_mode_and_second_derivatives(f, policy):
    g = br.checkpoint(f, policy=policy)
    v = np.array([1.0, 0.5, -2.0])
    close(br.jvp(lambda x: g(W, x), (X,), (v,)), br.jvp(lambda x: f(W, x), (X,), (v,)), rtol=1e-12)
    close(br.linearize(lambda x: g(W, x), X)[1](v), br.jvp(lambda x: f(W, x), (X,), (v,))[1], rtol=1e-12)
    hessian = br.hessian(f, argnums=1)(W, X)
    close(br.hessian(g, argnums=1)(W, X), hessian, rtol=1e-9)
    close(br.jacrev(br.jacrev(g, argnums=1), argnums=1)(W, X), hessian, rtol=1e-9)
    close(br.jacrev(br.jacfwd(g, argnums=1), argnums=1)(W, X), hessian, rtol=1e-9)
    close(br.jacfwd(br.jacfwd(g, argnums=1), argnums=1)(W, X), hessian, rtol=1e-9)
    close(br.hvp(lambda x: g(W, x), (X,), (v,)), hessian @ v, rtol=1e-9)


def test_third_derivatives():
    g = br.checkpoint(lambda x: np.sin(x) * x)
    d = lambda f: br.grad(br.checkpoint(f))  # noqa: E731
    x = 0.7
    expected = -3 * np.sin(x) - x * np.cos(x)
    close(br.grad(br.grad(br.grad(g)))(x), expected)
    close(d(d(d(g)))(x), expected)
    close(br.grad(lambda x: br.jvp(br.grad(g), (x,), (1.0,))[1])(x), expected)


@programs
@policies
def test_under_a_map_in_both_orders(f, policy):
    if f is writing:
        f = network  # the branch of `writing` differs between lanes
    g = br.checkpoint(f, policy=policy)
    lanes = np.stack([X, 0.5 * X, -X])
    expected = [br.grad(f, argnums=(0, 1))(W, x) for x in lanes]
    by_w, by_x = br.vmap(br.grad(g, argnums=(0, 1)), in_axes=(None, 0))(W, lanes)
    close(by_w, [e[0] for e in expected], rtol=1e-9)
    close(by_x, [e[1] for e in expected], rtol=1e-9)
    total = lambda w, x: np.sum(br.vmap(g, in_axes=(None, 0))(w, x))  # noqa: E731
    by_w, by_x = br.grad(total, argnums=(0, 1))(W, lanes)
    close(by_w, sum(e[0] for e in expected), rtol=1e-9)
    close(by_x, [e[1] for e in expected], rtol=1e-9)
    whole = br.checkpoint(total, policy=policy)
    close(br.grad(whole, argnums=1)(W, lanes), by_x, rtol=1e-9)
    close(br.jvp(lambda x: total(W, x), (lanes,), (lanes,))[1], np.sum(by_x * lanes), rtol=1e-9)


@policies
def test_what_is_captured_is_differentiated(policy):
    def total(w, x):
        layer = br.checkpoint(lambda x: np.tanh(w @ x), policy=policy)
        return weigh(layer(layer(x)))

    plain = lambda w, x: weigh(np.tanh(w @ np.tanh(w @ x)))  # noqa: E731
    for argnums in (0, 1):
        close(br.grad(total, argnums)(W, X), br.grad(plain, argnums)(W, X), rtol=1e-12)
        close(br.jacfwd(total, argnums)(W, X), br.grad(plain, argnums)(W, X), rtol=1e-12)
        mapped = br.vmap(br.grad(total, argnums), in_axes=(0, None))(np.stack([W, 2 * W]), X)
        close(mapped, [br.grad(plain, argnums)(W, X), br.grad(plain, argnums)(2 * W, X)], rtol=1e-12)
    twice = br.grad(lambda w: np.sum(br.grad(total)(w, X) ** 2))(W)
    close(twice, br.grad(lambda w: np.sum(br.grad(plain)(w, X) ** 2))(W), rtol=1e-9)


def test_variables_bound_anew_are_those_of_the_call():
    def total(x):
        for k in range(3):
            scale = (k + 1) * x
            layer = br.checkpoint(lambda v: v * scale + k)  # noqa: B023
            x = layer(x)
        return x

    def plain(x):
        for k in range(3):
            x = x * ((k + 1) * x) + k
        return x

    close(br.value_and_grad(total)(0.9), br.value_and_grad(plain)(0.9))
    close(br.vmap(br.grad(total))(X), [br.grad(plain)(x) for x in X])


def test_captured_arrays_written_after_the_call():
    scale = np.array([2.0, 3.0])

    def total(x):
        y = br.checkpoint(lambda v: np.sum(v * scale * v))(x)
        scale[:] = 100.0
        return y

    close(br.grad(total)(np.ones(2)), [4, 6])
    close(scale, [100, 100])

    x = np.ones(2)
    _, pullback = br.vjp(lambda x: br.checkpoint(lambda v: np.sum(v * scale * v))(x), x)
    scale[:] = 0.0
    x[:] = 0.0
    close(pullback(1.0)[0], [200, 200])


@pytest.mark.parametrize(
    "layer",
    [
        lambda w: lambda x, w=w: w @ x,
        lambda w: partial(lambda w, x: w @ x, w),
        lambda w: (lambda held: lambda x: held["w"][0] @ x)({"w": [w]}),
        lambda w: (lambda held: lambda x: held.w @ x)(SimpleNamespace(w=w)),
        lambda w: Held(w).apply,
        lambda w: Slotted(w).apply,
        lambda w: br.checkpoint(lambda x: w @ x),
        lambda w: lambda x: (lambda y: w @ y)(x),
    ],
    ids=["default", "partial", "container", "namespace", "method", "slots", "checkpoint", "closure-of-closure"],
)
def test_ways_to_capture(layer):
    total = lambda w: weigh(br.checkpoint(layer(w))(X))  # noqa: E731
    close(br.grad(total)(W), br.grad(lambda w: weigh(w @ X))(W))


class Held:
    def __init__(self, w):
        self.w = w

    def apply(self, x):
        return self.w @ x


class Slotted:
    __slots__ = ("w",)

    def __init__(self, w):
        self.w = w

    def apply(self, x):
        return self.w @ x


def test_trees_keywords_and_results_that_are_trees():
    @br.checkpoint
    def layer(params, x, *, scale=1.0, name="tanh"):
        y = getattr(np, name)(params["w"] @ x)
        return {"y": scale * y, "norm": np.sum(x * x)}

    def loss(params, x):
        out = layer(params, x, scale=x[0], name="sin")
        return weigh(out["y"]) * out["norm"]

    def plain(params, x):
        return weigh(x[0] * np.sin(params["w"] @ x)) * np.sum(x * x)

    close(br.grad(loss)({"w": W}, X)["w"], br.grad(plain)({"w": W}, X)["w"], rtol=1e-12)
    close(br.grad(loss, argnums=1)({"w": W}, X), br.grad(plain, argnums=1)({"w": W}, X), rtol=1e-12)
    assert layer.__name__ == "layer"


def test_as_a_decorator_with_a_policy_and_of_methods():
    class Model:
        def __init__(self):
            self.w = W

        @br.checkpoint(policy=br.save_matmuls)
        def hidden(self, x):
            out = np.zeros(3)
            out[:] = np.tanh(self.w @ x)
            return out

        def loss(self, x):
            return weigh(self.hidden(x))

    close(br.grad(Model().loss)(X), br.grad(lambda x: weigh(np.tanh(W @ x)))(X))
    assert br.remat is br.checkpoint


def test_complex_values():
    f = lambda z: np.sum(np.abs(np.exp(z) * z) ** 2)  # noqa: E731
    z = X + 1j * X[::-1]
    close(br.grad(br.checkpoint(f))(z), br.grad(f)(z))
    g = lambda z: np.exp(z) * z  # noqa: E731
    close(br.vjp(br.checkpoint(g), z)[1](z)[0], br.vjp(g, z)[1](z)[0])
    close(br.jacrev(br.checkpoint(g), holomorphic=True)(z), br.jacrev(g, holomorphic=True)(z))


def test_dtypes_stay():
    x = X.astype(np.float32)
    value, gradient = br.value_and_grad(br.checkpoint(lambda x: np.sum(np.sin(x))))(x)
    assert value.dtype == gradient.dtype == np.float32


def test_outer_values_and_no_grad():
    close(br.grad(lambda x: br.no_grad(br.checkpoint(np.sin))(x) * x)(0.4), np.sin(0.4))
    paused = br.checkpoint(lambda x: br.no_grad(np.sin)(x) * x)
    close(br.grad(paused)(0.4), np.sin(0.4))
    close(br.jvp(paused, (0.4,), (1.0,))[1], np.sin(0.4))
    close(br.grad(br.checkpoint(lambda x: br.stop_gradient(x) * x))(0.4), 0.4)
    with br.no_grad():
        close(br.grad(br.checkpoint(np.sin))(0.4), np.cos(0.4))


def test_a_derivative_inside_a_checkpoint():
    inner = br.checkpoint(lambda x: br.grad(lambda y: y**3 * x)(x))
    close(br.grad(inner)(2.0), 9 * 4)
    close(br.vmap(br.grad(inner))(X), 9 * X**2)
    kept = br.checkpoint(lambda x: br.grad(lambda y: np.sin(y) * x)(x), policy=br.save_everything)
    close(br.grad(kept)(0.4), np.cos(0.4) - 0.4 * np.sin(0.4))


def test_a_write_to_an_argument_is_refused():
    @br.checkpoint
    def overwrites(x):
        x[0] = 0.0
        return np.sum(x * x)

    with pytest.raises(br.MutationError, match=r"br.checkpoint of .*overwrites .*writes to an array.*copy and return"):
        br.grad(overwrites)(X)


def test_a_write_to_a_captured_array_is_refused():
    log = np.zeros(3)

    @br.checkpoint
    def logs(x):
        log[:] = x
        return np.sum(x * x)

    with pytest.raises(br.MutationError, match=r"br.checkpoint of .*logs .*captures.*would be lost"):
        br.grad(logs)(X)


def test_a_value_that_gets_out_past_the_result_is_refused():
    kept = []

    def by_a_list(x):
        br.checkpoint(lambda v: kept.append(2 * v) or v)(x)
        return kept[0] * x

    def by_a_variable(x):
        total = 0.0

        @br.checkpoint
        def inner(v):
            nonlocal total
            total = total + v
            return 2 * v

        return inner(x) + total

    for f in (by_a_list, by_a_variable):
        with pytest.raises(br.EscapedValueError, match=r"inside br.checkpoint of .*Return it"):
            br.grad(f)(1.0)


def test_counting_inside():
    def f(x):
        count = 0

        @br.checkpoint
        def inner(v):
            nonlocal count
            count += 1
            return 2 * v

        return inner(inner(x)) * count

    close(br.grad(f)(1.0), 8)


class Shared:
    """Nothing but attributes of a class."""


@pytest.mark.parametrize("way", ["class", "generator", "deque"])
def test_a_value_that_comes_in_past_the_closure_is_refused(way):
    def f(x):
        Shared.w = x
        values = (x for _ in range(9)) if way == "generator" else deque([x])
        take = {"class": lambda: Shared.w, "generator": lambda: next(values), "deque": lambda: values[0]}[way]
        return br.checkpoint(lambda v: v * take())(x)

    with pytest.raises(
        br.UnsupportedError, match=r"uses a value followed by br.grad of .*Pass the value as an argument"
    ):
        br.grad(f)(1.0)
    with pytest.raises(
        br.UnsupportedError, match=r"uses a value followed by br.vmap of .*Pass the value as an argument"
    ):
        br.vmap(f)(X)


# -------------------------------------------------------------------------------------------------------- what is saved


def test_it_runs_once_more_for_each_way_back():
    runs = []

    @br.checkpoint
    def f(x):
        runs.append(1)
        return np.sum(np.sin(x))

    f(X)
    assert len(runs) == 1
    br.grad(f)(X)
    assert len(runs) == 3
    _, pullback = br.vjp(f, X)
    assert len(runs) == 4
    pullback(1.0)
    pullback(1.0)
    assert len(runs) == 6
    br.jvp(f, (X,), (X,))
    assert len(runs) == 7
    br.vmap(br.grad(f))(np.stack([X, X]))
    assert len(runs) == 9
    br.grad(lambda x: np.sum(br.vmap(f)(x)))(np.stack([X, X]))
    assert len(runs) == 11


def test_nested_checkpoints_run_once_more_a_level():
    runs = []

    @br.checkpoint
    def inner(x):
        runs.append("inner")
        return np.sin(x)

    @br.checkpoint
    def outer(x):
        runs.append("outer")
        return inner(inner(x))

    br.grad(outer)(0.4)
    assert runs.count("outer") == 2
    assert runs.count("inner") == 2 + 2 + 2


def counted(name):
    """Calls of an operation's implementation during a function."""

    def count(function):
        op = registry[name]
        before = op.implementation
        calls = []

        def counting(*arguments, **params):
            calls.append(1)
            return before(*arguments, **params)

        op.implementation = counting
        try:
            function()
        finally:
            op.implementation = before
        return len(calls)

    return count


@pytest.mark.parametrize(
    ("policy", "products", "tanhs"),
    [
        (br.save_everything, 2, 1),
        (br.save_matmuls, 2, 0),
        (br.save_only_these_names("hidden"), 0, 0),
    ],
    ids=["everything", "matmuls", "names"],
)
def test_what_a_policy_keeps_is_not_computed_again(policy, products, tanhs):
    again = br.checkpoint(network, policy=lambda operation, params: False)
    f = br.checkpoint(network, policy=policy)
    for name, fewer in (("matmul", products), ("tanh", tanhs)):
        assert counted(name)(lambda: br.grad(again)(W, X)) - counted(name)(lambda: br.grad(f)(W, X)) == fewer


def test_a_policy_is_asked_for_operations_and_their_parameters():
    asked = []

    def policy(operation, params):
        asked.append((operation, params))
        return False

    br.grad(br.checkpoint(lambda x: np.sum(np.sin(x).reshape(3, 1), axis=0)[0], policy=policy))(X)
    names = [name for name, _ in asked]
    assert names[:2] == ["sin", "reshape"]
    assert ("sum", {"axis": (0,), "keepdims": False}) in [
        (n, {k: p[k] for k in ("axis", "keepdims") if k in p}) for n, p in asked
    ]


def test_the_policies_know_real_operations():
    assert set(_PRODUCTS) <= set(registry)
    assert br.save_matmuls("matmul", {})
    assert not br.save_matmuls("sin", {})
    assert br.save_everything("sin", {})
    assert not br.save_nothing("sin", {})


@policies
def test_functions_with_rules_of_their_own_are_opaque_to_a_policy(policy):
    @br.custom_jvp
    def bent(x):
        return np.tanh(W @ x)

    @bent.defjvp
    def _(primals, tangents):
        y = np.tanh(W @ primals[0])
        return y, (1 - y * y) * (W @ tangents[0])

    f = lambda x: weigh(W @ bent(W @ bent(x) * np.tanh(x)))  # noqa: E731
    close(br.grad(br.checkpoint(f, policy=policy))(X), br.grad(f)(X), rtol=1e-12)
    nested = br.checkpoint(lambda x: weigh(W @ br.checkpoint(lambda x: W @ np.tanh(x))(x)), policy=policy)
    close(br.grad(nested)(X), br.grad(lambda x: weigh(W @ (W @ np.tanh(x))))(X), rtol=1e-12)
    inside = br.checkpoint(lambda x: br.jvp(f, (x,), (x,))[1] + br.grad(f)(x) @ x, policy=policy)
    close(br.grad(inside)(X), br.grad(lambda x: br.jvp(f, (x,), (x,))[1] + br.grad(f)(x) @ x)(X), rtol=1e-9)


@br.custom_vjp
def sine(x):
    return np.sin(x)


sine.defvjp(lambda x: (np.sin(x), np.cos(x)), lambda cosine, ct: (ct * cosine,))


@br.custom_vjp
def hundredfold(x):
    """The rule is wrong on purpose, which shows where it is used."""
    return x * x


hundredfold.defvjp(lambda x: (x * x, x), lambda x, ct: (100 * x * ct,))


@policies
@pytest.mark.parametrize("rule", [sine, hundredfold])
def test_a_reverse_rule_inside_is_followed_in_every_order(rule, policy):
    f = lambda x: weigh(np.tanh(W @ rule(x * x)) * x)  # noqa: E731
    checkpointed = br.checkpoint(f, policy=policy)
    nested = br.checkpoint(lambda x: weigh(np.tanh(W @ br.checkpoint(rule)(x * x)) * x), policy=policy)
    hessian = br.hessian(f)(X)
    for g in (checkpointed, nested):
        close(br.grad(g)(X), br.grad(f)(X), rtol=1e-12)
        for outer in (br.jacfwd, br.jacrev):
            close(outer(br.grad(g))(X), hessian, rtol=1e-9)
        close(br.hessian(g)(X), hessian, rtol=1e-9)
        close(br.hvp(g, (X,), (X,)), hessian @ X, rtol=1e-9)
        close(br.vmap(br.jacfwd(br.grad(g)))(np.stack([X, 2 * X]))[0], hessian, rtol=1e-9)
        close(br.jacfwd(br.jacfwd(br.grad(g)))(X), br.jacfwd(br.jacfwd(br.grad(f)))(X), rtol=1e-9)
        with pytest.raises(br.UnsupportedError, match="forward mode"):
            br.jvp(g, (X,), (X,))


def test_less_memory():
    x = np.linspace(0, 1, 20_000)

    def deep(block):
        def f(x):
            for _ in range(8):
                x = block(x)
            return np.sum(x)

        return f

    def block(x):
        for _ in range(8):
            x = np.sin(x) * 1.1
        return x

    plain = peak(lambda: br.grad(deep(block))(x))
    saved = peak(lambda: br.grad(deep(br.checkpoint(block)))(x))
    assert saved < plain / 2.5
    close(br.grad(deep(br.checkpoint(block)))(x), br.grad(deep(block))(x), rtol=1e-12)
