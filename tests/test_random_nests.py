"""Random nests: transformations around functions that are wrapped in ways that change nothing.

A checkpoint, a loop of one step, a rule that says what is true anyway: whatever transformations such a function stands
in, the results are those of the function itself.
"""

from __future__ import annotations

import numpy as np
import pytest

import bindrune as br
from expect import close

V = np.array([0.3, -0.8, 1.1])
W = np.array([[0.1, -0.3, 0.6], [0.4, 0.2, -0.5], [-0.7, 0.3, 0.2]])
SCALES = np.array([1.0, 0.5])


def base(w, x):
    """From a matrix and a vector to a vector, with writes in a loop."""
    out = np.zeros(3)
    for i in range(3):
        out[i] = np.sin(w[i] @ x) + x[i] * x[i - 1]
        out[:i] *= 0.9
    return out


def with_forward_rule(f):
    custom = br.custom_jvp(f)
    custom.defjvp(lambda primals, tangents: br.jvp(f, primals, tangents))
    return custom


def with_forward_rule_by_x(f):
    def g(w, x):
        custom = br.custom_jvp(lambda x: f(w, x))
        custom.defjvp(lambda primals, tangents: br.jvp(lambda x: f(w, x), primals, tangents))
        return custom(x)

    return g


def with_batching_rule(f):
    custom = br.custom_vmap(f)

    @custom.def_vmap
    def _(size, in_batched, w, x):
        return br.vmap(f, in_axes=tuple(0 if b else None for b in in_batched))(w, x), True

    return custom


WRAPPERS = {
    "checkpoint": br.checkpoint,
    "checkpoint that keeps all": lambda f: br.checkpoint(f, policy=br.save_everything),
    "checkpoint that keeps some": lambda f: br.checkpoint(
        f, policy=lambda name, params: name in ("matmul", "multiply")
    ),
    "checkpoint that captures": lambda f: lambda w, x: br.checkpoint(lambda x: f(w, x))(x),
    "loop of one step": lambda f: lambda w, x: br.checkpoint_loop(lambda i, s: f(w, s), 1, x),
    "loop of three steps": lambda f: lambda w, x: br.checkpoint_loop(lambda i, s: f(w, s) if i == 1 else s, 3, x, 1),
    "forward rule": with_forward_rule,
    "forward rule by x": with_forward_rule_by_x,
    "batching rule": with_batching_rule,
    "scan": lambda f: lambda w, x: br.scan(lambda c, _: (f(w, c), None), x, length=1)[0],
    "cond": lambda f: lambda w, x: br.cond(x[0] == x[0], lambda: f(w, x), lambda: 2 * x),
}

TRANSFORMATIONS = {
    "grad": lambda f: lambda w, x: br.grad(lambda x: np.sum(V * f(w, x)))(x),
    "grad by w": lambda f: lambda w, x: br.grad(lambda w: np.sum(V * f(w, x)))(w)[1],
    "jvp": lambda f: lambda w, x: br.jvp(lambda x: f(w, x), (x,), (V,))[1],
    "vjp": lambda f: lambda w, x: br.vjp(lambda x: f(w, x), x)[1](V)[0],
    "linearize": lambda f: lambda w, x: br.linearize(lambda x: f(w, x), x)[1](V),
    "jacfwd": lambda f: lambda w, x: V @ br.jacfwd(lambda x: f(w, x))(x),
    "jacobian": lambda f: lambda w, x: br.jacobian(lambda x: f(w, x))(x) @ V,
    "vmap": lambda f: lambda w, x: br.vmap(lambda s: f(w, s * x))(SCALES)[1],
    "vmap by w": lambda f: lambda w, x: br.vmap(lambda s: f(s * w, x))(SCALES)[1] + x,
    "vmap with a name": lambda f: (
        lambda w, x: br.vmap(lambda s: f(w, s * x) * br.psum(s, "i"), axis_name="i")(SCALES)[0]
    ),
}


@pytest.mark.parametrize("seed", range(60))
def test_wrapping_changes_nothing(seed):
    chosen = np.random.default_rng(seed)
    f = g = base
    for _ in range(chosen.integers(1, 4)):
        for wrapper in chosen.choice(list(WRAPPERS), chosen.integers(0, 3)):
            g = WRAPPERS[wrapper](g)
        transformation = TRANSFORMATIONS[chosen.choice(list(TRANSFORMATIONS))]
        f, g = transformation(f), transformation(g)
    close(g(W, V), f(W, V), rtol=1e-8, atol=1e-10)
