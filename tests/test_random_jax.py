"""The streams of `jax.random`, where JAX is installed: the same keys draw the same numbers, with the same gradients."""

import pprint

import numpy as np
import pytest

import bindrune as br
from random_streams import ANSWERS, DRAWS, KEY

jax = pytest.importorskip("jax")


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def theirs(label):
    """What JAX draws."""
    sampler, arguments = DRAWS[label]
    with jax.enable_x64(True):
        given = [jax.numpy.asarray(x) if isinstance(x, np.ndarray) else x for x in arguments]
        return np.asarray(getattr(jax.random, sampler)(jax.numpy.asarray(KEY), *given))


def assert_same_stream(found, expected):
    """Equal integers, and floating numbers that are equal to rounding."""
    assert np.shape(found) == np.shape(expected)
    if np.asarray(expected).dtype.kind not in "fc":
        np.testing.assert_array_equal(found, expected)
    else:
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        np.testing.assert_allclose(found, expected, rtol=200 * float(np.finfo(expected.dtype).eps), atol=1e-300)


@pytest.mark.parametrize("label", DRAWS)
def test_a_draw_is_that_of_jax(label):
    sampler, arguments = DRAWS[label]
    assert_same_stream(getattr(br.random, sampler)(KEY, *arguments), theirs(label))


@pytest.mark.parametrize("label", DRAWS)
def test_the_table_of_answers_is_what_jax_draws(label):
    assert_same_stream(np.array(ANSWERS[label], theirs(label).dtype), theirs(label))


MANY = {
    "normal": ((5000,),),
    "gamma": (0.3, (2000,)),
    "poisson": (np.linspace(0.1, 100, 1000),),
    "binomial": (np.linspace(1, 300, 1000).round(), np.linspace(0, 1, 1000)),
    "permutation": (5000,),
    "randint": ((5000,), 0, 10**12),
}


@pytest.mark.parametrize("sampler", MANY)
def test_a_long_draw_is_that_of_jax(sampler):
    arguments = MANY[sampler]
    given = [jax.numpy.asarray(x) if isinstance(x, np.ndarray) else x for x in arguments]
    expected = np.asarray(getattr(jax.random, sampler)(jax.numpy.asarray(KEY), *given))
    found = getattr(br.random, sampler)(KEY, *arguments)
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-11)
    else:
        np.testing.assert_array_equal(found, expected)


def test_keys_are_those_of_jax():
    key = jax.numpy.asarray(KEY)
    for seed in (0, 1, -5, 2**45, np.int32(-1), np.uint8(200)):
        np.testing.assert_array_equal(br.random.key(seed), jax.random.PRNGKey(seed))
    for number in (2, 5, (2, 3)):
        np.testing.assert_array_equal(br.random.split(KEY, number), jax.random.split(key, number))
    for data in (0, 9, 2**32 - 1, np.int32(-5)):
        np.testing.assert_array_equal(br.random.fold_in(KEY, data), jax.random.fold_in(key, data))


def test_a_key_of_jax_is_a_key():
    assert br.random.normal(jax.random.PRNGKey(3)) == br.random.normal(br.random.key(3))


PARAMETERS = {
    "ball": (lambda r, p: r.ball(KEY, 3, p, (20,)), (2.0,)),
    "beta": (lambda r, a, b: r.beta(KEY, a, b, (20,)), (0.5, 2.0)),
    "chisquare": (lambda r, df: r.chisquare(KEY, df, (20,)), (3.0,)),
    "double_sided_maxwell": (lambda r, loc, scale: r.double_sided_maxwell(KEY, loc, scale, (20,)), (1.0, 2.0)),
    "f": (lambda r, a, b: r.f(KEY, a, b, (20,)), (3.0, 5.0)),
    "gamma": (lambda r, a: r.gamma(KEY, a, (20,)), (0.7,)),
    "generalized_normal": (lambda r, p: r.generalized_normal(KEY, p, (20,)), (4.0,)),
    "loggamma": (lambda r, a: r.loggamma(KEY, a, (20,)), (0.01,)),
    "lognormal": (lambda r, sigma: r.lognormal(KEY, sigma, (20,)), (0.5,)),
    "pareto": (lambda r, b: r.pareto(KEY, b, (20,)), (2.0,)),
    "rayleigh": (lambda r, scale: r.rayleigh(KEY, scale, (20,)), (2.0,)),
    "t": (lambda r, df: r.t(KEY, df, (20,)), (3.0,)),
    "triangular": (lambda r, a, b, c: r.triangular(KEY, a, b, c, (20,)), (0.0, 1.0, 4.0)),
    "truncated_normal": (lambda r, a, b: r.truncated_normal(KEY, a, b, (20,)), (-1.0, 2.0)),
    "uniform": (lambda r, a, b: r.uniform(KEY, (20,), minval=a, maxval=b), (1.0, 3.0)),
    "wald": (lambda r, mean: r.wald(KEY, mean, (20,)), (2.0,)),
    "weibull_min": (lambda r, scale, c: r.weibull_min(KEY, scale, c, (20,)), (2.0, 1.5)),
}


@pytest.mark.parametrize("sampler", PARAMETERS)
def test_gradients_in_the_parameters_are_those_of_jax(sampler):
    draw, parameters = PARAMETERS[sampler]
    positions = tuple(range(len(parameters)))

    def weighted(sample):
        return (sample * np.cos(np.arange(sample.size)).reshape(sample.shape)).sum()

    ours = br.grad(lambda *values: weighted(draw(br.random, *values)), positions)(*parameters)
    expected = jax.grad(lambda *values: weighted(draw(jax.random, *values)), positions)(*parameters)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


if __name__ == "__main__":
    pprint.pp({label: theirs(label).tolist() for label in DRAWS}, width=120)
