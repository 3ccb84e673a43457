"""Every transformation inside and outside every kind of derivative and map, on a function that branches and writes.

Each case is a function that uses one transformation, and the same function without it; each order takes derivatives or
maps of both.
"""

from __future__ import annotations

import io

import numpy as np
import pytest

import bindrune as br
from expect import close, weigh

X = np.array([0.7, -1.3, 2.1])
V = np.array([1.0, 0.5, -2.0])
LANES = np.stack([X, -X, X[::-1] / 2])
MATRIX = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]])


def body(x):
    """Writes in a loop, through a view, and by a branch that differs between lanes."""
    out = np.zeros(3)
    for i in range(3):
        out[i] = np.sin(x[i]) * x[i - 1]
    if out[0] > 0:
        tail = out[1:]
        tail += x[0]
    else:
        out *= 2
    return out


def loss(x):
    return np.sum(body(x) * np.cos(x))


def steps(x):
    for _ in range(3):
        x = np.tanh(body(x))
    return x


def model(p):
    out = body(p["inner"]["u"])
    out[0] += p["b"]
    return {"out": out, "sums": (np.sum(out) * p["b"],)}


def params(x):
    return {"inner": {"u": x * 1.0}, "b": x[1] * x[2]}


def flat(tree):
    return br.tree.ravel(tree)[0]


# ------------------------------------------------------------------------------------------ derivatives written by hand


def by_rows(x):
    """The Jacobian of `body`, a gradient for each row."""
    return np.stack([br.grad(lambda x, i=i: body(x)[i])(x) for i in range(3)])


def by_columns(x):
    """The Hessian of `loss`, a directional derivative for each column."""
    return np.stack([br.jvp(br.grad(loss), (x,), (e,))[1] for e in np.eye(3)], axis=1)


def newton(f, x):
    for _ in range(30):
        x = x - f(x) / br.jvp(f, (x,), (np.ones(3),))[1]
    return x


def solve(product, b):
    return np.linalg.solve(br.jacfwd(product)(np.zeros(3)), b)


@br.custom_jvp
def forward_rule(x):
    return body(x)


@forward_rule.defjvp
def _(primals, tangents):
    return forward_rule(*primals), br.jvp(body, primals, tangents)[1]


@br.custom_vjp
def reverse_rule(x):
    return body(x)


reverse_rule.defvjp(lambda x: (body(x), x), lambda x, ct: (br.vjp(body, x)[1](ct)[0],))


@br.custom_vmap
def lane_rule(x):
    return body(x)


@lane_rule.def_vmap
def _(size, batched, x):
    return np.stack([body(x[i]) for i in range(size)]), True


def lanes(function):
    return lambda x: br.vmap(function, axis_name="lanes")(x)


def halving(x):
    while np.sum(x * x) > 1.0:
        x = x * 0.7
    return x


CASES = {
    "value_and_grad": (lambda x: br.value_and_grad(loss)(x)[1], br.grad(loss)),
    "vjp": (lambda x: br.vjp(loss, x)[1](1.0)[0], br.grad(loss)),
    "vjp-tree": (
        lambda x: flat(br.vjp(model, params(x))[1]({"out": V, "sums": (2.0,)})[0]),
        lambda x: flat(br.grad(lambda p: np.sum(flat(model(p)) * np.append(V, 2.0)))(params(x))),
    ),
    "jvp": (lambda x: br.jvp(body, (x,), (V,))[1], lambda x: by_rows(x) @ V),
    "jacfwd": (br.jacfwd(body), by_rows),
    "jacrev": (br.jacrev(body), by_rows),
    "jacobian": (br.jacobian(body), by_rows),
    "value_and_jacfwd": (lambda x: br.value_and_jacfwd(body)(x)[1], by_rows),
    "value_and_jacrev": (lambda x: br.value_and_jacrev(body)(x)[1], by_rows),
    "jacobian-tree": (
        lambda x: flat(br.jacfwd(lambda p: model(p)["out"])(params(x))),
        lambda x: flat(br.jacrev(lambda p: model(p)["out"])(params(x))),
    ),
    "hessian": (br.hessian(loss), by_columns),
    "hvp": (lambda x: br.hvp(loss, (x,), (V,)), lambda x: by_columns(x) @ V),
    "hvp-moving": (lambda x: br.hvp(loss, (x,), (x,)), lambda x: by_columns(x) @ x),
    "linearize": (lambda x: br.linearize(body, x)[1](x), lambda x: by_rows(x) @ x),
    "linear_transpose": (
        lambda x: br.linear_transpose(lambda y: np.cumsum(x * y), np.zeros(3))(body(x))[0],
        lambda x: x * np.cumsum(body(x)[::-1])[::-1],
    ),
    "custom_jvp": (forward_rule, body),
    "custom_vjp": (reverse_rule, body),
    "custom_vmap": (lane_rule, body),
    "checkpoint": (br.checkpoint(body), body),
    "checkpoint-nothing": (br.checkpoint(body, policy=br.save_nothing), body),
    "checkpoint_loop": (lambda x: br.checkpoint_loop(lambda i, s: np.tanh(body(s)), 3, x), steps),
    "cond": (
        lambda x: br.cond(x[0] > 0, body, lambda x: x * x, x),
        lambda x: np.where(x[0] > 0, body(x), x * x),
    ),
    "switch": (lambda x: br.switch(np.array(1), [np.sin, body], x), body),
    "while_loop": (lambda x: br.while_loop(lambda s: np.sum(s * s) > 1.0, lambda s: s * 0.7, x), halving),
    "fori_loop": (lambda x: br.fori_loop(0, 3, lambda i, s: np.tanh(body(s)), x), steps),
    "scan": (lambda x: br.scan(lambda s, _: (np.tanh(body(s)), None), x, None, length=3)[0], steps),
    "scan-results": (
        lambda x: br.scan(lambda c, v: (c + np.sin(v), c * v), 0.0, x)[1],
        lambda x: (np.cumsum(np.sin(x)) - np.sin(x)) * x,
    ),
    "map": (lambda x: br.map(lambda v: np.sin(v) * x, x, batch_size=2), lambda x: np.outer(np.sin(x), x)),
    "associative_scan": (lambda x: br.associative_scan(lambda a, b: a * b, x), np.cumprod),
    "select": (lambda x: br.select(x > 0, x * x, np.sin(x)), lambda x: np.where(x > 0, x * x, np.sin(x))),
    "vmap": (
        lambda x: br.vmap(lambda w: body(x * w))(V),
        lambda x: np.stack([body(x * w) for w in V]),
    ),
    "vectorize": (
        lambda x: br.vectorize(lambda a, b: a * b @ b, signature="(),(n)->()")(x, np.outer(V, x)),
        lambda x: x * V**2 * (x @ x),
    ),
    "psum": (lanes(lambda v: np.sin(v) / br.psum(np.exp(v), "lanes")), lambda x: np.sin(x) / np.sum(np.exp(x))),
    "pmean": (lanes(lambda v: v * br.pmean(v, "lanes")), lambda x: x * np.mean(x)),
    "pmax": (lanes(lambda v: v * br.pmax(v, "lanes")), lambda x: x * np.max(x)),
    "all_gather": (lanes(lambda v: np.sin(br.all_gather(v, "lanes")) * v), lambda x: np.outer(x, np.sin(x))),
    "axis_index": (lanes(lambda v: v**2 * br.axis_index("lanes")), lambda x: x**2 * np.arange(3)),
    "custom_root": (
        lambda x: br.custom_root(lambda y: y * y - (x * x + 1), np.ones(3), newton),
        lambda x: np.sqrt(x * x + 1),
    ),
    "custom_linear_solve": (
        lambda x: br.custom_linear_solve(lambda y: (MATRIX + np.diag(x * x)) @ y, np.sin(x), solve, symmetric=True),
        lambda x: np.linalg.solve(MATRIX + np.diag(x * x), np.sin(x)),
    ),
    "fixed_point": (lambda x: br.fixed_point(lambda y: y / 3 + np.sin(x), np.zeros(3)), lambda x: 1.5 * np.sin(x)),
    "debug": (lambda x: br.debug(body, file=io.StringIO())(x), body),
    "debug_nans": (br.debug_nans()(body), body),
    "ravel": (lambda x: flat(params(x)), lambda x: np.append(x[1] * x[2], x)),
}


def once(f):
    return lambda x: weigh(np.sin(f(x)))


ORDERS = {
    "value": lambda f: f(X),
    "grad": lambda f: br.grad(once(f))(X),
    "jvp": lambda f: br.jvp(f, (X,), (V,))[1],
    "vmap": lambda f: br.vmap(f)(LANES),
    "vmap-grad": lambda f: br.vmap(br.grad(once(f)))(LANES),
    "grad-vmap": lambda f: br.grad(once(br.vmap(f)))(LANES),
    "vmap-jvp": lambda f: br.vmap(lambda x: br.jvp(f, (x,), (V,))[1])(LANES),
    "jvp-vmap": lambda f: br.jvp(br.vmap(f), (LANES,), (LANES[::-1],))[1],
    "grad-grad": lambda f: br.grad(lambda x: br.grad(once(f))(x) @ V)(X),
    "jvp-grad": lambda f: br.jvp(br.grad(once(f)), (X,), (V,))[1],
    "grad-jvp": lambda f: br.grad(lambda x: weigh(np.sin(br.jvp(f, (x,), (V,))[1])))(X),
    "jvp-jvp": lambda f: br.jvp(lambda x: br.jvp(f, (x,), (V,))[1], (X,), (V,))[1],
    "jacobian": lambda f: br.jacobian(f)(X),
    "linearize": lambda f: br.linearize(f, X)[1](V),
    "checkpoint": lambda f: br.grad(br.checkpoint(once(f)))(X),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", CASES)
def test_with_the_transformation_and_without(case, order):
    function, plain = CASES[case]
    if case == "custom_vjp" and "jvp" in order and order != "jvp-grad":
        with pytest.raises(br.UnsupportedError, match=r"br\.custom_jvp"):
            ORDERS[order](function)
        return
    close(ORDERS[order](function), ORDERS[order](plain), rtol=1e-6, atol=1e-9)
