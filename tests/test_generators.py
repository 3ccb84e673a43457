"""A `numpy.random.Generator` inside a transformed function: NumPy's draws, each made once, and constants."""

from __future__ import annotations

import numpy as np
import pytest

import bindrune as br
from expect import close

X = np.array([0.5, -1.0, 2.0])


def generator():
    return np.random.default_rng(7)


def draws(count=1):
    """What a fresh generator draws, three standard normal numbers at a time."""
    rng = generator()
    return [rng.normal(size=3) for _ in range(count)]


def noisy(x, rng):
    return np.sum(x * x * rng.normal(size=3))


DERIVATIVES = {
    "grad": lambda f: br.grad(f)(X),
    "value_and_grad": lambda f: br.value_and_grad(f)(X)[1],
    "vjp": lambda f: br.vjp(f, X)[1](1.0)[0],
    "jvp": lambda f: np.array([br.jvp(f, (X,), (e,))[1] for e in np.eye(3)[:1]]),
    "jacfwd": lambda f: br.jacfwd(f)(X),
    "jacrev": lambda f: br.jacrev(f)(X),
    "jacobian": lambda f: br.jacobian(f)(X),
}


@pytest.mark.parametrize("derivative", DERIVATIVES.values(), ids=DERIVATIVES)
def test_a_draw_is_made_once_and_is_constant(derivative):
    rng = generator()
    (first,) = draws()
    found = derivative(lambda x: noisy(x, rng))
    close(found, (2 * X * first)[: len(found)])
    assert rng.bit_generator.state == _state_after(1)


def _state_after(count):
    rng = generator()
    for _ in range(count):
        rng.normal(size=3)
    return rng.bit_generator.state


def test_calls_advance_the_generator():
    rng = generator()
    slope = br.grad(lambda x: noisy(x, rng))
    for drawn in draws(3):
        close(slope(X), 2 * X * drawn)


def test_a_pullback_and_a_pushforward_keep_their_draw():
    rng = generator()
    f = lambda x: noisy(x, rng)  # noqa: E731
    first, second = draws(2)
    _, pullback = br.vjp(f, X)
    _, push = br.linearize(f, X)
    for _ in range(2):
        close(pullback(1.0)[0], 2 * X * first)
        close(push(np.ones(3)), np.sum(2 * X * second))
    assert rng.bit_generator.state == _state_after(2)


def test_wherever_the_generator_comes_from():
    class Model:
        def __init__(self):
            self.rng = generator()

        def loss(self, x):
            return noisy(x, self.rng)

    def local(x):
        return noisy(x, np.random.default_rng(7))

    (drawn,) = draws()
    for found in (
        br.grad(noisy)(X, generator()),
        br.grad(Model().loss)(X),
        br.grad(local)(X),
        br.grad(lambda x, tools: noisy(x, tools["rng"]))(X, {"rng": generator()}),
        br.grad(lambda x, draw: np.sum(x * x * draw(size=3)))(X, generator().normal),
    ):
        close(found, 2 * X * drawn)


def test_lanes_share_a_draw():
    rng = generator()
    first, second = draws(2)
    lanes = np.stack([X, 2 * X])
    close(br.vmap(lambda x: x * rng.normal(size=3))(lanes), lanes * first)
    close(br.vmap(br.grad(lambda x: noisy(x, rng)))(lanes), 2 * lanes * second)
    assert rng.bit_generator.state == _state_after(2)


def test_nested_derivatives():
    rng = generator()
    inner, outer, last = draws(3)

    def f(x):
        return np.sum(br.grad(lambda x: noisy(x, rng))(x) * rng.normal(size=3))

    close(br.grad(f)(X), 2 * inner * outer)
    close(br.hessian(lambda x: noisy(x, rng))(X), np.diag(2 * last))
    close(br.grad(lambda x: np.sum(br.vmap(lambda v: v * generator().normal())(x)))(X), np.full(3, inner[0]))


def test_draws_decide_branches_and_indices_and_are_written():
    rng = generator()

    def f(x):
        out = np.zeros(6)
        for i in rng.permutation(6):
            out[i] = x[rng.integers(3)] * (2.0 if rng.random() < 0.5 else 1.0)
        out[rng.choice(6, 2, replace=False)] += rng.normal(np.zeros(2), np.ones(2))
        return np.sum(out * np.arange(6))

    found = br.grad(f)(X)
    rng = generator()  # f draws from this one from now on
    ahead = f(X)
    after = rng.bit_generator.state
    rng = generator()
    close(found @ X, ahead - f(np.zeros(3)))
    rng = generator()
    br.jvp(f, (X,), (X,))
    assert rng.bit_generator.state == after


SAMPLES = {
    "normal(loc=x)": lambda rng, x: rng.normal(loc=x),
    "normal(0.0, x)": lambda rng, x: rng.normal(0.0, x),
    "uniform(0, x)": lambda rng, x: rng.uniform(0, x),
    "exponential(x)": lambda rng, x: rng.exponential(x),
    "gamma(np.ones(2) * x)": lambda rng, x: np.sum(rng.gamma(np.ones(2) * x)),
    "poisson(x)": lambda rng, x: rng.poisson(x),
    "binomial(3, x)": lambda rng, x: rng.binomial(3, x),
    "choice([x, x])": lambda rng, x: rng.choice([x, x]),
    "multivariate_normal([x, x], np.eye(2))": lambda rng, x: np.sum(rng.multivariate_normal([x, x], np.eye(2))),
}
CALLS = {
    "grad": lambda f: br.grad(f)(0.5),
    "jvp": lambda f: br.jvp(f, (0.5,), (1.0,)),
    "vmap": lambda f: br.vmap(f)(np.array([0.5, 0.25])),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_parameters_that_are_followed_are_refused(sample, call):
    rng = generator()
    with pytest.raises(br.UnreachableError) as caught:
        CALLS[call](lambda x: SAMPLES[sample](rng, x))
    message = str(caught.value)
    assert "test_generators.py:" in message
    assert f"rng.{sample}: " in message
    assert f"of a value that br.{call} of " in message
    assert "is following" in message
    assert "loc + scale * rng.standard_normal()" in message
    assert "br.random" in message
    assert rng.bit_generator.state == generator().bit_generator.state


def test_what_the_refusal_advises():
    drawn = generator().standard_normal()
    rng = generator()
    close(br.grad(lambda x: x + x * rng.standard_normal())(0.5), 1 + drawn)
    rng = generator()
    close(br.grad(lambda x: x * rng.normal(br.stop_gradient(x)))(0.5), 0.5 + drawn)
    key = br.random.key(0)
    close(br.grad(lambda x: x + x * br.random.normal(key))(0.5), 1 + br.random.normal(key))
