"""Random numbers: the generator, keys, the streams of every sampler, lanes, gradients, distributions, reuse."""

import doctest
import threading
import warnings

import numpy as np
import pytest
from scipy import special, stats

import bindrune as br
from bindrune.ops.threefry import encipher
from bindrune.random import key as key_of
from bindrune.random import normal
from expect import close, difference_gradient
from random_streams import ANSWERS, DRAWS, KEY

each_draw = pytest.mark.parametrize("label", DRAWS)


def draw(label, key=KEY):
    sampler, arguments = DRAWS[label]
    return getattr(br.random, sampler)(key, *arguments)


# ---------------------------------------------------------------------------------------------- the generator and keys


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        (0, 0, 0x6B20015999BA4EFE),
        (2**64 - 1, 2**64 - 1, 0x1CB996FCBB002BE7),
        (0x13198A2E03707344, 0x243F6A8885A308D3, 0xC4923A9C483DF7A0),
    ],
)
def test_threefry_has_the_known_answers_of_random123(key, counter, expected):
    assert int(encipher(np.uint64(key), np.uint64(counter))) == expected


def test_a_draw_does_not_depend_on_the_shape_it_is_made_in():
    whole = br.random.bits(KEY, (3, 20_000))
    np.testing.assert_array_equal(whole.ravel(), br.random.bits(KEY, (60_000,)))
    np.testing.assert_array_equal(whole.ravel()[:7], br.random.bits(KEY, 7))


def test_counters_pass_32_bits():
    first = np.uint64(2**32 - 1)
    expected = [encipher(np.uint64(5), np.uint64(2**32 - 1 + n)) for n in range(3)]
    found = br.core.operation.registry["random_bits"].implementation(np.uint64(5), first, (3,), 64)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("seed", "words"),
    [(0, [0, 0]), (42, [0, 42]), (2**45 + 1, [8192, 1]), (-1, [2**32 - 1, 2**32 - 1]), (np.int32(-1), [0, 2**32 - 1])],
)
def test_a_key_holds_its_seed(seed, words):
    for made in (br.random.key(seed), br.random.PRNGKey(seed)):
        assert type(made) is np.ndarray
        assert made.dtype == np.uint32
        np.testing.assert_array_equal(made, words)


def test_splitting_and_folding():
    key = br.random.key(42)
    np.testing.assert_array_equal(br.random.split(key), [[1832780943, 270669613], [64467757, 2916123636]])
    assert br.random.split(key, 5).shape == (5, 2)
    assert br.random.split(key, (2, 3)).shape == (2, 3, 2)
    np.testing.assert_array_equal(br.random.split(key, (2, 3)).reshape(6, 2), br.random.split(key, 6))
    np.testing.assert_array_equal(br.random.fold_in(key, 7), [2547012911, 1371500959])
    assert len({tuple(br.random.fold_in(key, i)) for i in range(100)}) == 100


def test_keys_and_their_words():
    np.testing.assert_array_equal(br.random.key_data(KEY), KEY)
    np.testing.assert_array_equal(br.random.wrap_key_data(KEY), KEY)
    assert br.random.wrap_key_data(np.zeros((3, 2), np.uint32)).shape == (3, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: br.random.normal(0), TypeError, r"br\.random\.normal takes a key"),
        (lambda: br.random.normal(np.zeros(2)), TypeError, "float64 of shape"),
        (lambda: br.random.normal(np.zeros(3, np.uint32)), TypeError, "uint32 of shape"),
        (lambda: br.random.normal(br.random.split(KEY, 3)), ValueError, r"keys of shape \(3, 2\).*br\.vmap"),
        (lambda: br.random.key(1.5), TypeError, "a seed is an integer"),
        (lambda: br.random.key(np.arange(2)), TypeError, "one integer"),
        (lambda: br.random.key(2**63), OverflowError, "too large|out of bounds"),
        (lambda: br.random.fold_in(KEY, 1.5), TypeError, "one integer"),
        (lambda: br.random.fold_in(KEY, -1), OverflowError, "too large|out of bounds"),
        (lambda: br.random.wrap_key_data(np.zeros(2)), TypeError, "uint32"),
        (lambda: br.random.normal(KEY, dtype=int), TypeError, "a floating or complex dtype, not int64"),
        (lambda: br.random.uniform(KEY, dtype=complex), TypeError, "a floating dtype"),
        (lambda: br.random.bits(KEY, (), int), TypeError, "unsigned"),
        (lambda: br.random.randint(KEY, (), 0, 9, float), TypeError, "an integer dtype"),
        (lambda: br.random.bernoulli(KEY, 1), TypeError, "bernoulli"),
        (lambda: br.random.bernoulli(KEY, 0.5, (), "middle"), ValueError, "'low' or 'high'"),
        (lambda: br.random.gumbel(KEY, (), None, "middle"), ValueError, "'low' or 'high'"),
        (lambda: br.random.gamma(KEY, np.ones(3), (4,)), ValueError, r"\(3,\).*do not broadcast to the shape \(4,\)"),
        (lambda: br.random.uniform(KEY, (), None, np.ones(3)), ValueError, "broadcast"),
        (lambda: br.random.dirichlet(KEY, 1.0), ValueError, "vector"),
        (lambda: br.random.multivariate_normal(KEY, 1.0, np.eye(1)), ValueError, "mean of shape"),
        (lambda: br.random.multivariate_normal(KEY, np.ones(2), np.eye(3)), ValueError, "mean of shape"),
        (lambda: br.random.multivariate_normal(KEY, np.ones(2), np.eye(2), method="lu"), ValueError, "'cholesky'"),
        (lambda: br.random.choice(KEY, 0, (2,)), ValueError, "nothing to choose"),
        (lambda: br.random.choice(KEY, 3, (4,), replace=False), ValueError, "4 different elements"),
        (lambda: br.random.choice(KEY, 3, (4,), p=np.ones(2)), ValueError, "as many probabilities"),
        (
            lambda: br.random.categorical(KEY, np.ones(3), shape=(4,), replace=False),
            ValueError,
            "4 different positions",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------------------------------------------- the streams


def test_all_names_are_there():
    samplers = (
        "ball bernoulli beta binomial bits categorical cauchy chisquare choice dirichlet double_sided_maxwell "
        "exponential f gamma generalized_normal geometric gumbel laplace loggamma logistic lognormal maxwell "
        "multinomial multivariate_normal normal orthogonal pareto permutation poisson rademacher randint rayleigh t "
        "triangular truncated_normal uniform wald weibull_min"
    ).split()
    assert len(samplers) == 38
    assert {sampler for sampler, _ in DRAWS.values()} == set(samplers)
    assert set(samplers) <= set(br.random.__all__)


@each_draw
def test_a_draw_is_the_known_one(label):
    found = draw(label)
    expected = np.array(ANSWERS[label])
    assert np.shape(found) == expected.shape
    assert isinstance(found, np.ndarray) == (expected.ndim > 0)
    if expected.dtype.kind in "fc":
        close(found, expected, rtol=200 * float(np.finfo(found.dtype).eps))
    else:
        np.testing.assert_array_equal(found, expected)


@each_draw
def test_the_same_key_draws_the_same(label):
    np.testing.assert_array_equal(draw(label), draw(label))
    other = draw(label, br.random.fold_in(KEY, 1))
    assert np.shape(other) == np.shape(draw(label))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("sampler", "cauchy exponential gumbel laplace logistic maxwell normal uniform".split())
def test_floating_dtypes(sampler, dtype):
    for shape in ((), (3,), (2, 0)):
        found = getattr(br.random, sampler)(KEY, shape, dtype)
        assert found.dtype == dtype
        assert found.shape == shape
    assert np.all(np.isfinite(getattr(br.random, sampler)(KEY, (1000,), dtype)))


@pytest.mark.parametrize("sampler", "chisquare gamma loggamma pareto poisson rayleigh t wald geometric".split())
def test_an_empty_draw(sampler):
    assert getattr(br.random, sampler)(KEY, np.zeros((0, 2)) + 0.5).shape == (0, 2)


def test_a_sample_stays_inside_its_interval():
    u = br.random.uniform(KEY, (100_000,), np.float16)
    assert u.min() >= 0
    assert u.max() < 1
    x = br.random.truncated_normal(KEY, -0.001, 0.001, (10_000,), np.float32)
    assert np.all((x > -0.001) & (x < 0.001))


def test_integers_reach_both_ends():
    assert set(br.random.randint(KEY, (1000,), -2, 3).tolist()) == {-2, -1, 0, 1, 2}
    assert set(br.random.randint(KEY, (5000,), 0, 256, np.uint8).tolist()) == set(range(256))
    assert br.random.randint(KEY, (), 5, 5) == 5
    lows = np.array([0, 10, 20])
    assert np.all(br.random.randint(KEY, (4, 3), lows, lows + 2) // 2 == lows // 2)


def test_choices_without_replacement_differ():
    assert sorted(br.random.choice(KEY, 50, (50,), replace=False)) == list(range(50))
    weights = np.arange(1.0, 51)
    assert sorted(br.random.choice(KEY, 50, (50,), replace=False, p=weights)) == list(range(50))
    assert sorted(br.random.permutation(KEY, 50)) == list(range(50))
    assert br.random.choice(KEY, 5, (0,)).shape == (0,)


def test_draws_of_unlikely_elements():
    assert np.all(br.random.choice(KEY, 3, (100,), p=np.array([0.0, 1.0, 0.0])) == 1)
    assert np.all(br.random.categorical(KEY, np.array([-np.inf, 0.0]), shape=(100,)) == 1)
    assert not br.random.bernoulli(KEY, 0.0, (100,)).any()
    assert br.random.bernoulli(KEY, 1.0, (100,)).all()
    assert np.all(br.random.poisson(KEY, 0.0, (10,)) == 0)
    assert np.all(br.random.binomial(KEY, 7, 0.0, (10,)) == 0)
    assert np.all(br.random.binomial(KEY, 7, 1.0, (10,)) == 7)
    assert np.isnan(br.random.binomial(KEY, -1.0, 0.5))
    assert np.isnan(br.random.binomial(KEY, 5.0, np.nan))
    assert np.isinf(br.random.binomial(KEY, np.inf, 0.5))


def test_an_orthogonal_matrix_is_orthogonal():
    for dtype in (float, complex):
        q = br.random.orthogonal(KEY, 4, (3,), dtype, 2)
        assert q.dtype == dtype
        close(q.conj().mT @ q, np.broadcast_to(np.eye(2), (3, 2, 2)), atol=1e-12)


def test_roots_of_a_covariance_by_every_method():
    covariance = np.array([[2.0, 1.0], [1.0, 3.0]])
    for method in ("cholesky", "eigh", "svd"):
        x = br.random.multivariate_normal(KEY, np.zeros(2), covariance, (40_000,), method=method)
        close(np.cov(x.T), covariance, rtol=0.05)


# ------------------------------------------------------------------------------------------------------------ lanes

KEYS = br.random.split(KEY, 4)


@each_draw
def test_a_lane_draws_what_its_key_draws_alone(label):
    found = br.vmap(lambda key: draw(label, key))(KEYS)
    for row, key in zip(found, KEYS, strict=True):
        alone = draw(label, key)
        assert row.dtype == alone.dtype
        # To the bit, but for products of matrices, which BLAS adds up in an order of its own.
        np.testing.assert_allclose(row, alone, rtol=1e-14 if label == "multivariate_normal" else 0)


@each_draw
def test_a_captured_key_gives_identical_lanes(label):
    found = br.vmap(lambda x: draw(label))(np.zeros(3))
    for row in found:
        np.testing.assert_array_equal(row, draw(label))


@each_draw
def test_lanes_within_lanes(label):
    found = br.vmap(br.vmap(lambda key: draw(label, key)), 1, 1)(KEYS.reshape(2, 2, 2).swapaxes(0, 1))
    expected = br.vmap(lambda key: draw(label, key))(KEYS)
    np.testing.assert_array_equal(found.swapaxes(0, 1).reshape(expected.shape), expected)


def test_parameters_that_differ_between_lanes():
    rates = np.array([0.5, 4.0, 30.0, 200.0])
    found = br.vmap(lambda key, rate: br.random.poisson(key, rate, (50,)))(KEYS, rates)
    np.testing.assert_array_equal(found, [br.random.poisson(k, r, (50,)) for k, r in zip(KEYS, rates, strict=True)])
    found = br.vmap(lambda rate: br.random.gamma(KEY, rate, (3,)))(rates)
    np.testing.assert_array_equal(found, [br.random.gamma(KEY, r, (3,)) for r in rates])
    found = br.vmap(lambda key: br.vmap(lambda n: br.random.binomial(key, n, 0.4))(rates))(KEYS)
    np.testing.assert_array_equal(found, [[br.random.binomial(k, n, 0.4) for n in rates] for k in KEYS])


def test_keys_made_in_lanes():
    seeds = np.arange(4)
    found = br.vmap(br.random.key)(seeds)
    np.testing.assert_array_equal(found, [br.random.key(int(s)) for s in seeds])
    found = br.vmap(lambda i: br.random.fold_in(KEY, i))(seeds)
    np.testing.assert_array_equal(found, [br.random.fold_in(KEY, int(i)) for i in seeds])
    found = br.vmap(lambda key: br.random.split(key, 3))(KEYS)
    np.testing.assert_array_equal(found, [br.random.split(key, 3) for key in KEYS])


def test_no_lanes():
    assert br.vmap(lambda key: br.random.normal(key, (3,)))(KEYS[:0]).shape == (0, 3)
    assert br.vmap(lambda key: br.random.poisson(key, 30.0, (3,)))(KEYS[:0]).shape == (0, 3)


# -------------------------------------------------------------------------------------------------------- gradients


def test_the_gradient_of_dropout_is_its_mask():
    x = np.arange(1.0, 9)
    mask = br.random.bernoulli(KEY, 0.5, x.shape)

    def dropped(x, key):
        return np.sum(np.where(br.random.bernoulli(key, 0.5, x.shape), x / 0.5, 0))

    close(br.grad(dropped)(x, KEY), mask / 0.5)
    close(br.grad(lambda x: np.sum(x * br.random.bernoulli(KEY, 0.5, x.shape)))(x), mask.astype(float))
    close(br.vmap(br.grad(dropped), (None, 0))(x, KEYS), [br.random.bernoulli(k, 0.5, x.shape) / 0.5 for k in KEYS])


def test_location_and_scale():
    loc, scale = np.array([1.0, 2.0]), np.array([0.5, 3.0])
    noise = br.random.normal(KEY, (2,))
    by_loc, by_scale = br.grad(lambda a, b: np.sum(a + b * br.random.normal(KEY, (2,))), (0, 1))(loc, scale)
    close(by_loc, np.ones(2))
    close(by_scale, noise)


SMOOTH = {
    "uniform": lambda p: br.random.uniform(KEY, (4,), minval=p[0], maxval=p[1] + 5),
    "truncated_normal": lambda p: br.random.truncated_normal(KEY, p[0], p[1] + 2, (4,)),
    "triangular": lambda p: br.random.triangular(KEY, p[0], p[0] + 1, p[1] + 5, (4,)),
    "lognormal": lambda p: br.random.lognormal(KEY, p, (3, 2)),
    "pareto": lambda p: br.random.pareto(KEY, p),
    "rayleigh": lambda p: br.random.rayleigh(KEY, p),
    "wald": lambda p: br.random.wald(KEY, p),
    "weibull_min": lambda p: br.random.weibull_min(KEY, p[0], p[1], (4,)),
    "double_sided_maxwell": lambda p: br.random.double_sided_maxwell(KEY, p[0], p[1], (4,)),
    "multivariate_normal": lambda p: br.random.multivariate_normal(KEY, p, np.diag(p) + 1, (3,)),
    "choice": lambda p: br.random.choice(KEY, p, (5,)),
    "permutation": lambda p: br.random.permutation(KEY, p) * np.arange(2),
}


@pytest.mark.parametrize("sampler", SMOOTH)
def test_samples_are_differentiable_in_their_parameters(sampler):
    def loss(p):
        sample = SMOOTH[sampler](p)
        return np.sum(np.sin(sample) * np.arange(1.0, sample.size + 1).reshape(sample.shape))

    p = np.array([0.7, 1.3])
    close(br.grad(loss)(p), difference_gradient(loss, p), rtol=1e-5)


@pytest.mark.parametrize("a", [0.01, 0.3, 1.0, 2.5, 40.0, 1e4])
def test_a_gamma_variate_keeps_its_place_in_the_distribution(a):
    sample = br.random.gamma(KEY, a, (50,))
    sample = sample[sample > 1e-200]
    place = special.gammainc(a, sample)
    inside = (place > 1e-4) & (place < 1 - 1e-4)
    moved = br.jvp(lambda a: br.random.gamma(KEY, a, (50,)), (a,), (1.0,))[1][-len(sample) :]
    h = 1e-4 * a
    expected = (special.gammaincinv(a + h, place) - special.gammaincinv(a - h, place)) / (2 * h)
    close(moved[inside], expected[inside], rtol=1e-5)


def test_the_gradient_of_the_mean_is_the_mean_of_the_gradients():
    close(br.grad(lambda a: np.mean(br.random.gamma(KEY, a, (40_000,))))(3.0), 1.0, rtol=0.02)
    close(br.grad(lambda a: np.mean(br.random.gamma(KEY, a, (40_000,)) ** 2))(3.0), 7.0, rtol=0.03)
    close(br.grad(lambda a: np.mean(br.random.beta(KEY, a, 2.0, (40_000,))))(3.0), 2 / 25, rtol=0.03)


def test_second_derivatives_of_a_gamma_variate():
    def slope(a):
        return br.grad(lambda a: np.sum(np.sin(br.random.loggamma(KEY, a, (5,)))))(a)

    def place(a):
        return special.gammainc(2.0, np.exp(br.random.loggamma(KEY, 2.0, (5,))))

    # The sampler is no smooth path in its parameter; the quantile function is, and has these derivatives.
    def quantiles(a):
        return np.sum(np.sin(np.log(special.gammaincinv(a, place(2.0)))))

    h = 1e-3
    expected = (quantiles(2 + h) - 2 * quantiles(2.0) + quantiles(2 - h)) / h**2
    close(br.grad(slope)(2.0), expected, rtol=1e-4)


def test_gradients_of_many_lanes_of_gamma_variates():
    a = np.array([0.3, 1.5, 9.0])
    gradient = br.grad(lambda a, key: br.random.gamma(key, a))
    close(br.vmap(gradient)(a, KEYS[:3]), [gradient(x, key) for x, key in zip(a, KEYS[:3], strict=True)])


def test_a_fresh_key_draws_afresh():
    transformed = br.value_and_grad(lambda x, key: np.sum(x * br.random.normal(key, (3,))))
    values = {transformed(np.ones(3), br.random.fold_in(KEY, step))[0] for step in range(5)}
    assert len(values) == 5
    captured = KEY.copy()
    again = br.grad(lambda x: np.sum(x * br.random.normal(captured, (3,))))
    before = again(np.ones(3))
    captured[:] = br.random.fold_in(KEY, 1)
    close(before, br.random.normal(KEY, (3,)))
    close(again(np.ones(3)), br.random.normal(captured, (3,)))


def test_a_sample_can_be_written_into():
    def loss(x, key):
        sample = br.random.normal(key, (3,))
        sample[0] = x
        return np.sum(sample * sample)

    close(br.grad(loss)(3.0, KEY), 6.0)


def ways_to_draw():
    """Samples from a key made inside, found in every way that a function can find a sampler."""

    def by_module():
        return br.random.normal(br.random.key(7), (3,))

    def by_name():
        return normal(key_of(7), (3,))

    def by_import():
        from bindrune.random import key
        from bindrune.random import normal as draw

        return draw(key(7), (3,))

    def by_import_of_all():
        import bindrune

        return bindrune.random.normal(bindrune.random.key(7), (3,))

    def by_container():
        return br.random.normal(CONTAINER["key"], (3,))

    def by_split():
        return np.stack([br.random.normal(k) for k in br.random.split(br.random.key(7), 3)])

    return [by_module, by_name, by_import, by_import_of_all, by_container, by_split]


CONTAINER = {"key": br.random.key(7)}


@pytest.mark.parametrize("sample", ways_to_draw(), ids=lambda sample: sample.__name__)
def test_a_sample_from_a_key_made_inside_can_be_written_into(sample):
    def loss(x):
        drawn = sample()
        kept = drawn[1] * 1.0
        drawn[0] = x[0]
        drawn *= x
        return np.sum(drawn * drawn) * kept

    x = np.array([0.5, -1.2, 2.0])
    drawn = sample()
    expected = np.array([4 * x[0] ** 3, *(2 * x[1:] * drawn[1:] ** 2)]) * drawn[1]
    close(br.grad(loss)(x), expected)
    close(br.jacfwd(loss)(x), expected)
    close(br.vmap(br.grad(loss))(x[None])[0], expected)


def test_an_index_drawn_inside():
    def f(x):
        order = br.random.permutation(br.random.key(3), 3)
        out = np.zeros(3)
        out[order] = x
        out[br.random.randint(br.random.key(4), (), 0, 3)] *= 2
        return out

    close(br.jacrev(f)(np.ones(3)).sum(axis=1), f(np.ones(3)))


# ----------------------------------------------------------------------------------------------------- distributions

COUNT = 20_000

CONTINUOUS = {
    "beta": (lambda k: br.random.beta(k, 0.5, 2.0, (COUNT,)), stats.beta(0.5, 2.0)),
    "cauchy": (lambda k: br.random.cauchy(k, (COUNT,)), stats.cauchy()),
    "chisquare": (lambda k: br.random.chisquare(k, 3.0, (COUNT,)), stats.chi2(3.0)),
    "double_sided_maxwell": (
        lambda k: np.abs(br.random.double_sided_maxwell(k, 1, 2, (COUNT,)) - 1) / 2,
        stats.maxwell(),
    ),
    "exponential": (lambda k: br.random.exponential(k, (COUNT,)), stats.expon()),
    "f": (lambda k: br.random.f(k, 3.0, 5.0, (COUNT,)), stats.f(3.0, 5.0)),
    "gamma-small": (lambda k: br.random.gamma(k, 0.2, (COUNT,)), stats.gamma(0.2)),
    "gamma-large": (lambda k: br.random.gamma(k, 7.0, (COUNT,)), stats.gamma(7.0)),
    "generalized_normal": (lambda k: br.random.generalized_normal(k, 4.0, (COUNT,)), stats.gennorm(4.0)),
    "gumbel": (lambda k: br.random.gumbel(k, (COUNT,)), stats.gumbel_r()),
    "gumbel-high": (lambda k: br.random.gumbel(k, (COUNT,), mode="high"), stats.gumbel_r()),
    "laplace": (lambda k: br.random.laplace(k, (COUNT,)), stats.laplace()),
    "loggamma": (lambda k: br.random.loggamma(k, 0.3, (COUNT,)), stats.loggamma(0.3)),
    "logistic": (lambda k: br.random.logistic(k, (COUNT,)), stats.logistic()),
    "lognormal": (lambda k: br.random.lognormal(k, 0.5, (COUNT,)), stats.lognorm(0.5)),
    "maxwell": (lambda k: br.random.maxwell(k, (COUNT,)), stats.maxwell()),
    "normal": (lambda k: br.random.normal(k, (COUNT,)), stats.norm()),
    "normal-complex": (lambda k: br.random.normal(k, (COUNT,), complex).imag * np.sqrt(2), stats.norm()),
    "pareto": (lambda k: br.random.pareto(k, 3.0, (COUNT,)), stats.pareto(3.0)),
    "rayleigh": (lambda k: br.random.rayleigh(k, 2.0, (COUNT,)), stats.rayleigh(scale=2.0)),
    "t": (lambda k: br.random.t(k, 3.0, (COUNT,)), stats.t(3.0)),
    "triangular": (lambda k: br.random.triangular(k, 0.0, 1.0, 4.0, (COUNT,)), stats.triang(0.25, 0, 4)),
    "truncated_normal": (lambda k: br.random.truncated_normal(k, -1.0, 2.0, (COUNT,)), stats.truncnorm(-1.0, 2.0)),
    "uniform": (lambda k: br.random.uniform(k, (COUNT,), minval=2.0, maxval=5.0), stats.uniform(2.0, 3.0)),
    "wald": (lambda k: br.random.wald(k, 2.0, (COUNT,)), stats.invgauss(2.0, scale=1.0)),
    "weibull_min": (lambda k: br.random.weibull_min(k, 2.0, 1.5, (COUNT,)), stats.weibull_min(1.5, scale=2.0)),
    "ball": (lambda k: np.linalg.norm(br.random.ball(k, 3, shape=(COUNT,)), axis=-1) ** 3, stats.uniform()),
    "dirichlet": (lambda k: br.random.dirichlet(k, np.array([1.0, 2.0, 3.0]), (COUNT,))[:, 0], stats.beta(1, 5)),
}


@pytest.mark.parametrize("label", CONTINUOUS)
def test_a_sample_has_its_distribution(label):
    sample, distribution = CONTINUOUS[label]
    assert stats.kstest(sample(KEY), distribution.cdf).pvalue > 1e-3


DISCRETE = {
    "bernoulli": (lambda k: br.random.bernoulli(k, 0.3, (COUNT,)), stats.bernoulli(0.3)),
    "bernoulli-high": (lambda k: br.random.bernoulli(k, 0.3, (COUNT,), "high"), stats.bernoulli(0.3)),
    "binomial-few": (lambda k: br.random.binomial(k, 9, 0.7, (COUNT,)), stats.binom(9, 0.7)),
    "binomial-many": (lambda k: br.random.binomial(k, 80, 0.3, (COUNT,)), stats.binom(80, 0.3)),
    "categorical": (
        lambda k: br.random.categorical(k, np.log(np.array([0.8, 0.2])), shape=(COUNT,)),
        stats.bernoulli(0.2),
    ),
    "choice": (lambda k: br.random.choice(k, 2, (COUNT,), p=np.array([0.8, 0.2])), stats.bernoulli(0.2)),
    "geometric": (lambda k: br.random.geometric(k, 0.3, (COUNT,)), stats.geom(0.3)),
    "multinomial": (
        lambda k: br.random.multinomial(k, np.array(20.0), np.array([0.5, 0.3, 0.2]), shape=(COUNT, 3))[:, 1],
        stats.binom(20, 0.3),
    ),
    "poisson-small": (lambda k: br.random.poisson(k, 3.0, (COUNT,)), stats.poisson(3.0)),
    "poisson-large": (lambda k: br.random.poisson(k, 60.0, (COUNT,)), stats.poisson(60.0)),
    "rademacher": (lambda k: (br.random.rademacher(k, (COUNT,)) + 1) // 2, stats.bernoulli(0.5)),
    "randint": (lambda k: br.random.randint(k, (COUNT,), -3, 8), stats.randint(-3, 8)),
}


@pytest.mark.parametrize("label", DISCRETE)
def test_counts_have_their_distribution(label):
    sample, distribution = DISCRETE[label]
    values, counts = np.unique(sample(KEY), return_counts=True)
    expected = distribution.pmf(values) * COUNT
    often = expected > 5
    rest = np.array([COUNT - expected[often].sum(), COUNT - counts[often].sum()])
    statistic = np.sum((counts - expected)[often] ** 2 / expected[often]) + (rest[1] - rest[0]) ** 2 / max(rest[0], 5)
    assert stats.chi2(often.sum()).sf(statistic) > 1e-3


def test_poisson_moments_where_rounding_decides():
    sample = br.random.poisson(KEY, 5e4, (COUNT,)).astype(float)
    assert abs(sample.mean() - 5e4) < 5 * np.sqrt(5e4 / COUNT)
    assert abs(sample.var() / 5e4 - 1) < 0.05


# ------------------------------------------------------------------------------------------------------------- reuse


def reused(action):
    """The messages of the warnings that an action causes under the watch."""
    with warnings.catch_warnings(record=True) as caught, br.random.check_keys():
        warnings.simplefilter("always")
        action()
    assert all(w.category is br.KeyReuseWarning and w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


def test_a_second_draw_is_reported_with_both_lines():
    def twice():
        br.random.normal(KEY)
        br.random.uniform(KEY)

    (message,) = reused(twice)
    first = twice.__code__.co_firstlineno + 1
    assert f"{__file__}:{first}, in twice" in message
    assert f"{__file__}:{first + 1}, in twice" in message
    assert "[3 141]" in message


@pytest.mark.parametrize(
    ("actions", "count"),
    [
        ([br.random.split, br.random.normal], 1),
        ([br.random.split, br.random.split], 1),
        ([br.random.normal, br.random.normal, br.random.normal], 2),
        ([lambda k: br.random.fold_in(k, 0), lambda k: br.random.fold_in(k, 1), br.random.normal], 0),
        ([br.random.normal, lambda k: br.random.normal(br.random.clone(k))], 0),
        ([lambda k: [br.random.gamma(x, 2.0) for x in br.random.split(k, 3)]], 0),
    ],
)
def test_what_counts_as_a_use(actions, count):
    def act():
        for action in actions:
            action(KEY)

    assert len(reused(act)) == count


def test_keys_of_lanes_are_watched():
    assert not reused(lambda: br.vmap(br.random.normal)(KEYS))
    assert len(reused(lambda: [br.vmap(br.random.normal)(KEYS), br.random.normal(KEYS[1])])) == 1
    assert len(reused(lambda: br.vmap(br.random.normal)(np.stack([KEY, KEY])))) == 1
    assert not reused(lambda: br.grad(lambda x: x * br.random.normal(KEY))(2.0))


def test_the_watch_is_over_outside_and_in_other_threads():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            br.random.normal(KEY)
        with br.random.check_keys():
            br.random.normal(KEY)
            other = threading.Thread(target=br.random.normal, args=(KEY,))
            other.start()
            other.join()
        with br.random.check_keys():
            br.random.normal(KEY)


# ------------------------------------------------------------------------------------------------------ documentation


@pytest.mark.parametrize("name", br.random.__all__)
def test_a_function_is_documented_and_its_example_runs(name):
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(br.random, name), name, globs={})
    assert example.examples
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0
