"""Programs as scientists write them: each runs under grad, jvp and vmap as it is, or says why it cannot."""

from __future__ import annotations

import collections
import contextlib
import copy
import fractions
import functools
import heapq
import itertools
import logging
import math
import operator
import pickle
import random
import statistics
import typing
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
import scipy.integrate
import scipy.interpolate
import scipy.linalg
import scipy.ndimage
import scipy.optimize
import scipy.signal
import scipy.special
from numpy.random import default_rng

import bindrune as br
from user_programs import POINT, Program, agrees, collected, lanes_agree

PROGRAMS: list[Program] = []
WITHOUT_LANES: list[Program] = []
"""Programs that ask for one value where lanes have several."""
REFUSED: list[tuple[Program, str]] = []
"""Programs that cannot work, and what their error names."""

logger = logging.getLogger(__name__)
program = collected(PROGRAMS)
without_lanes = collected(WITHOUT_LANES)


def refused(naming: str) -> typing.Callable[[Program], Program]:
    def register(f: Program) -> Program:
        REFUSED.append((f, naming))
        return f

    return register


# ------------------------------------------------------------------------------------------ generators and callbacks


def running_sums(values):
    out = np.zeros(3)
    for i, v in enumerate(values):
        out[i] = v * v
        yield out[: i + 1].sum()


@program
def generators(x):
    def stage(source):
        total = np.zeros(1)
        for v in source:
            total[0] += v
            yield total[0]

    return sum(running_sums(x)) + list(running_sums(x))[1] + list(stage(stage(iter(x))))[-1]


def filled(row):
    z = np.zeros(2)
    z[0] = row[0]
    z[1] = row.sum()
    return z


@program
def callbacks_of_the_library(x):
    def add(a, b):
        z = np.zeros(1)
        z[0] = a * 1.1 + b
        return z[0]

    doubled = list(map(lambda v: np.full(2, v).sum(), x))  # noqa: C417
    running = list(itertools.accumulate(x, lambda s, v: s * v))
    return functools.reduce(add, x) + doubled[0] * doubled[1] + running[-1]


@without_lanes
def sorting_by_a_key(x):
    @dataclass(order=True)
    class Job:
        key: float
        value: typing.Any = field(compare=False, default=None)

    heap = []
    for v in x:
        heapq.heappush(heap, Job(-float(v), v))
    ordered = sorted(x, key=lambda v: -float(v))
    return ordered[0] ** 2 + heapq.heappop(heap).value + max(range(3), key=lambda i: x[i])


@program
def numpys_callbacks(x):
    table = np.outer(x, [1.0, 2.0])
    return (
        np.sum(np.apply_along_axis(filled, 1, table) ** 2)
        + np.piecewise(x, [x < 1, x >= 1], [lambda v: v**2, lambda v: 2 * v]).sum()
        + np.sum(np.fromfunction(lambda i: x[0] * i + x[1], (3,)) * x)
    )


@np.vectorize
def kinked(a, b):
    return a * b if a > 1 else -b


@program
def vectorized_functions(x):
    z = np.zeros(1)

    @np.vectorize(otypes=[float], excluded={"k"})
    def scaled(v, k):
        z[0] = v * k[1]
        return z[0]

    table = kinked(x[:, None], x)
    assert table.shape == (3, 3)
    assert table.dtype == float
    return np.sum(table * x) + scaled(x, k=x).sum() + kinked(x[0], 2.0)


@program
def loops_over_elements(x):
    out = np.zeros_like(x)
    for i, v in np.ndenumerate(x):
        out[i] = v * v * (i[0] + 1)
    for i in np.ndindex(x.shape):
        out[i] += x[i]
    return out.sum() + sum(v * v for v in np.nditer(x)) + sum(v for v in x.flat)


# ------------------------------------------------------------------------------------------------- decorated functions


@functools.cache
def table_of(n):
    return np.arange(float(n))


@functools.lru_cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.cache
def squared_once(v):
    z = np.zeros(1)
    z[0] = v * v
    return z[0]


@program
def caches(x):
    y = x * 0 + x[0]  # equal values, of which each has its own derivative
    memo = squared_once(y[0]) + 2 * squared_once(y[1] + 0 * x[1])
    return np.sum(table_of(3) * x**2) + fibonacci(60) * 1e-12 * x[1] + memo


def counted(function):
    calls = []

    @functools.wraps(function)
    def call(*arguments, **keywords):
        calls.append(len(arguments))
        z = np.zeros(1)
        z[0] = function(*arguments, **keywords)
        return z[0]

    call.calls = calls
    return call


def times(k):
    def decorate(function):
        @functools.wraps(function)
        def call(*arguments, **keywords):
            return np.full(2, function(*arguments, **keywords) * k).sum()

        return call

    return decorate


class Decorator:
    def __init__(self, function):
        self.function, self.calls = function, 0
        functools.update_wrapper(self, function)

    def __call__(self, *arguments):
        self.calls += 1
        z = np.zeros(1)
        z[0] = self.function(*arguments)
        return z[0]


@times(3)
@counted
def decorated_twice(v, w=2.0):
    return v * w


@Decorator
def decorated_by_a_class(v):
    return v**3


@program
def decorators(x):
    return decorated_twice(x[0]) + decorated_twice(x[1], w=x[2]) + decorated_by_a_class(x[2])


@functools.singledispatch
def size_of(shape):
    raise TypeError("no size")


@size_of.register
def _(shape: dict):
    z = np.zeros(1)
    z[0] = shape["a"] * shape["b"]
    return z[0]


@size_of.register(np.ndarray)
def _(shape):
    z = np.zeros(1)
    z[0] = shape.sum() ** 2
    return z[0]


@size_of.register(float)
def _(shape):
    return np.full(2, shape).sum()


@program
def single_dispatch(x):
    return size_of({"a": x[0], "b": x[1]}) + size_of(x) + size_of(x[2])


@contextlib.contextmanager
def scaled(v, k):
    z = np.zeros(1)
    z[0] = v * k
    yield z


@program
def context_managers(x):
    with scaled(x[0], 3.0) as z, scaled(x[1], 2.0) as w, np.errstate(all="ignore"), warnings.catch_warnings():
        z[0] += x[2]
        return z[0] * w[0] + np.log(x[0])


TABLE = {"a": filled, "b": lambda row: np.full(2, row[0])}
FUNCTIONS = [filled]


@program
def tables_of_functions(x):
    chosen = {"relu": lambda v: np.maximum(v, 0), "tanh": np.tanh}["tanh"]
    return sum(TABLE[k](x).sum() for k in ("a", "b")) + FUNCTIONS[0](x).sum() + chosen(x).sum()


# ---------------------------------------------------------------------------------------------------- Python's idioms


class TooLargeError(ValueError):
    def __init__(self, v):
        super().__init__("too large")
        self.v = v


def checked(v):
    if v > 1:
        raise TooLargeError(v)
    return v


@without_lanes
def exceptions(x):
    total = 0.0
    for v in x:
        try:
            total = total + checked(v)
        except TooLargeError as error:
            total = total + error.v**2
        finally:
            total = total * 1.5
    return total


@program
def printing(x):
    text = f"{x[0]:.3f} {x} {x.sum()!r} {x[0]}" + "{:.2f}".format(x[1])  # noqa: UP032
    with contextlib.redirect_stdout(None):
        print(text, x)  # noqa: T201
    logger.debug("value %s", x[0])
    return x.sum() ** 2


@program
def functions_of_math(x):
    a, b, c = x
    return (
        math.hypot(a, b, c)
        + math.erf(c)
        + math.gamma(a)
        + math.lgamma(c)
        + math.fsum(x)
        + math.prod(x, start=2.0)
        + math.dist([a, b], [1.0, c])
        + math.degrees(b)
        + math.copysign(a, -1)
        + math.fmod(c, 0.4)
        + math.remainder(c, 0.4)
        + math.modf(c * 3)[0]
        + math.ldexp(a, 3)
        + math.log(5, c)
        + math.pow(a, c)
    )


@program
def rounding_and_tests_of_math(x):
    return x[0] * (math.floor(x[2]) + math.ceil(x[0]) + math.trunc(x[1])) + (
        math.isfinite(x[0]) + math.isnan(x[0]) + math.isclose(x[0], 0.7)
    )


@program
def statistics_of_values(x):
    return (
        statistics.mean(x)
        + statistics.fmean(x)
        + statistics.variance(x)
        + statistics.pstdev(x)
        + statistics.harmonic_mean(x)
        + statistics.geometric_mean(list(x))
    )


@program
def combinations(x):
    return (
        sum(p * q for p, q in itertools.combinations(x, 2))
        + sum(i * j for i, j in itertools.product(x, repeat=2))
        + sum(itertools.starmap(lambda u, v: u * v * v, itertools.pairwise(x)))
        + sum(itertools.chain(x, x * 2))
        + operator.itemgetter(1)(x)
    )


@program
def containers(x):
    grouped = collections.defaultdict(lambda: np.zeros(1))
    for i, v in enumerate(x):
        grouped[i % 2][0] += v
    last = collections.deque(maxlen=2)
    for v in x:
        last.append(v * v)
    named = dict(zip("abc", x, strict=True))
    return grouped[0][0] * grouped[1][0] + sum(last) + sum(v * ord(k) for k, v in named.items())


@program
def copies(x):
    y, z = copy.copy(x), copy.deepcopy(x)
    y[0] = 3.0
    z[1] = x[0] * 2
    deep = copy.deepcopy({"a": [x, x[0]]})
    deep["a"][0][2] = 1.0
    return (y * z * x).sum() + deep["a"][0].sum() + deep["a"][1]


@program
def assertions_and_kinds(x):
    assert x.ndim == 1, "a vector"
    assert np.all(x > 0)
    assert np.allclose(x, x)
    assert isinstance(x[0], float)
    assert isinstance(x, np.ndarray)
    if hasattr(x, "__len__"):
        return len(x) * x.prod()
    return 0.0


@program
def fractions_of_values(x):
    return x[0] * fractions.Fraction(1, 3) + float(fractions.Fraction(1, 2)) * x[1]


@program
def objects_in_arrays(x):
    held = np.empty(3, dtype=object)
    for i in range(3):
        held[i] = x[i] ** 2
    return sum(held) + np.array([x[0], x[1]], dtype=object)[1]


@program
def records(x):
    table = np.zeros(3, dtype=[("a", float), ("b", int)])
    table["b"] = [1, 2, 3]
    names = np.array(["a", "b", "c"])
    return (x * table["b"]).sum() + x[names == "b"].sum()


@program
def division_by_zero_as_numpy(x):
    with np.errstate(all="ignore"):
        found = (
            np.divide(1.0, 0.0),
            np.power(0.0, -1.0),
            np.floor_divide(1, 0),
            np.add(True, True),
            np.multiply(2.0, 3.0),
        )
    assert np.isposinf(found[0])
    assert np.isposinf(found[1])
    assert found[2] == 0
    assert found[3].dtype == bool
    assert (np.ones(1, np.float32) * found[4]).dtype == float
    return x.sum()


@without_lanes
def counting_and_indexing(x):
    i, j = int(np.argmax(x)), round(x[0])
    assert type(j) is int
    return x[i] ** 2 + x[j] + x[np.searchsorted(np.array([0.0, 1.0, 2.0]), x[0]) - 1] + x[list({0, 2})].sum()


@program
def code_made_of_text(x):
    names = {"np": np, "x": x}
    exec("y = np.zeros(1)\ny[0] = x[0] ** 2", names)
    return names["y"][0] + eval("x[1] * 2")


@program
def threads(x):
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(lambda v: np.full(2, v).sum(), x))


@program
def arrays_seen_otherwise(x):
    windows = np.lib.stride_tricks.sliding_window_view(x, 2)
    return np.sum(windows.mean(axis=1) ** 2) + x.view(np.ndarray).sum() + x.tolist()[0] + x.item(1)


# ----------------------------------------------------------------------------------------------------- random numbers


@program
def random_numbers(x):
    rng = default_rng(0)
    random.seed(0)
    noise = rng.normal(size=3)
    noise[0] = x[0]
    out = np.zeros(3)
    rng.standard_normal(out=out)
    assert isinstance(rng, np.random.Generator)
    return (noise * x).sum() + (out * x).sum() + random.uniform(0, x[1]) + rng.integers(5) * x[2]


@program
def shuffling(x):
    rng, legacy = np.random.default_rng(0), np.random.RandomState(0)
    table = np.outer(x, [1.0, 2.0])
    weights = np.arange(6.0).reshape(3, 2)
    rng.shuffle(table)
    again = rng.permutation(table, axis=1)
    chosen = rng.choice(table, 2, replace=False)
    legacy.shuffle(again)
    return (table * weights).sum() + (again * weights).sum() + chosen[0, 0] + legacy.choice(x)


# --------------------------------------------------------------------------------------------------- what is refused


@refused("quad")
def quadrature(x):
    return scipy.integrate.quad(lambda t: np.sin(t) * x[0], 0, 1)[0]


@refused("solve_ivp")
def initial_values(x):
    return scipy.integrate.solve_ivp(lambda t, y: -x[0] * y, (0, 1), [x[1]]).y[0, -1]


@refused("gaussian_filter")
def a_blur(x):
    return scipy.ndimage.gaussian_filter(x, 1.0).sum()


@refused("minimize")
def a_minimum(x):
    return scipy.optimize.minimize(lambda t: np.sum((t - x) ** 2), np.zeros(3)).x.sum()


@refused("CubicSpline")
def a_spline(x):
    return scipy.interpolate.CubicSpline([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 4.0, 9.0])(x).sum()


@refused("lfilter")
def a_filter(x):
    return scipy.signal.lfilter([1.0, 2.0], [1.0, 0.5], x).sum()


@refused("pickle")
def pickled(x):
    return pickle.loads(pickle.dumps(x)).sum()


@refused("%")
def percent_formats(x):
    return x.sum() + len("%.3f" % x[0])  # noqa: UP031


@refused("table")
def records_of_values(x):
    table = np.zeros(3, dtype=[("a", float)])
    table["a"] = x
    return table["a"].sum()


@refused("found")
def values_as_keys(x):
    found = {}
    found[x[0]] = 1.0
    return x[0] * len(found)


@refused("astype")
def values_as_objects(x):
    return sum(x.astype(object))


@refused("nditer")
def writing_iterators(x):
    with np.nditer(x, op_flags=["readwrite"]) as places:
        for place in places:
            place[...] = 2 * place
    return x.sum()


@refused("noise")
def library_arrays(x):
    noise = scipy.linalg.hilbert(3)
    noise[0] = x
    return noise.sum()


@pytest.mark.parametrize("f", PROGRAMS + WITHOUT_LANES, ids=lambda f: f.__name__)
def test_derivatives_agree_with_differences(f):
    agrees(f)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_lanes_agree_with_a_loop(f):
    lanes_agree(f)


@pytest.mark.parametrize(("f", "naming"), REFUSED, ids=lambda v: getattr(v, "__name__", ""))
def test_what_cannot_work_names_the_line_and_the_expression(f, naming):
    line = f"{__file__}:{f.__code__.co_firstlineno}"[:-1]
    for transformed in (br.grad(f), lambda x: br.jvp(f, (x,), (x,))):
        with pytest.raises((br.UnreachableError, br.UnsupportedError)) as caught:
            transformed(POINT.copy())
        text = str(caught.value)
        assert __file__ in text, line
        assert f"in {f.__name__}" in text
        assert naming in text


# ------------------------------------------------------------------------------------------ arguments that share memory


def first_written(a, b):
    a[0] = 5.0
    return b.sum()


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda x: br.value_and_grad(first_written)(x, x), ("a", "b")),
        (lambda x: br.value_and_grad(first_written, (0, 1))(x, x), ("a", "b")),
        (lambda x: br.value_and_grad(first_written)(x, x[:2]), ("a", "b")),
        (lambda x: br.grad(lambda p: first_written(p["u"], p["v"]))({"u": x, "v": x}), ("p['u']", "p['v']")),
        (lambda x: br.grad(lambda a: first_written(a, x))(x), ("a", "an array that it captures")),
        (lambda x: br.jvp(first_written, (x, x), (x, x)), ("a", "b")),
        (lambda x: br.vjp(first_written, x, x), ("a", "b")),
        (lambda x: br.vmap(first_written)(x[:, None], x[:, None]), ("a", "b")),
        (lambda x: br.grad(lambda z: br.value_and_grad(first_written)(z, z)[0])(x), ("a", "b")),
    ],
)
def test_a_write_that_another_argument_should_see_is_refused(call, names):
    x = np.ones(3)
    with pytest.raises(br.MutationError) as caught:
        call(x)
    for name in names:
        assert name in str(caught.value)
    np.testing.assert_array_equal(x, np.ones(3))


def test_arguments_that_share_memory_may_be_read():
    x = np.array([1.0, 2.0])
    assert br.grad(lambda a, b: (a * b).sum())(x, x) == pytest.approx(x)


def test_arguments_side_by_side_in_memory_may_be_written():
    x = np.ones(4)
    value, gradient = br.value_and_grad(first_written)(x[::2], x[1::2])
    assert value == 2.0
    np.testing.assert_array_equal(gradient, [0.0, 0.0])
    np.testing.assert_array_equal(x, [5.0, 1.0, 1.0, 1.0])
    nested = br.grad(lambda z: br.value_and_grad(first_written)(z[:1], z[1:])[0])
    np.testing.assert_array_equal(nested(np.ones(3)), [0.0, 1.0, 1.0])


def test_constants_that_are_one_array_are_one():
    shared = np.ones(3)

    def f(s, a, b):
        a[0] = 5.0
        shared[1] = 7.0
        return (b.sum() + shared.sum()) * s

    value, gradient = br.value_and_grad(f)(2.0, shared, shared)
    assert value == 52.0
    assert gradient == 26.0
    np.testing.assert_array_equal(shared, [5.0, 7.0, 1.0])
