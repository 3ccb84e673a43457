"""The engine itself: nesting, threads, re-entrance, generators, recursion, memory, and cost that stays linear."""

import gc
import math
import statistics
import threading
import time
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import bindrune as br
from expect import close

X = np.array([0.5, -1.2, 2.0])

DERIVATIVES = {
    "grad": lambda f, x: br.grad(f)(x),
    "jvp": lambda f, x: br.jvp(f, (x,), (1.0,))[1],
    "pullback": lambda f, x: br.vjp(f, x)[1](1.0)[0],
}


def sum_of_cubes(x):
    return np.sum(x**3)


# ---------------------------------------------------------------------------------------------------------- nesting


@pytest.mark.parametrize("outer", DERIVATIVES)
@pytest.mark.parametrize("middle", DERIVATIVES)
@pytest.mark.parametrize("inner", DERIVATIVES)
def test_three_levels_keep_their_perturbations_apart(outer, middle, inner):
    outer, middle, inner = DERIVATIVES[outer], DERIVATIVES[middle], DERIVATIVES[inner]

    # d/dx x d/dy y d/dz (x y z) at 2 is d/dx x (2 x y) at y = 3, which is 4 x y
    def f(x):
        return x * middle(lambda y: y * inner(lambda z: x * y * z, 5.0), 3.0)

    close(outer(f, 2.0), 24)


def test_an_inner_transformation_of_the_same_value():
    close(br.grad(lambda x: x * br.grad(lambda y: y * x)(x))(3.0), 6)
    close(br.grad(lambda x: br.vjp(lambda y: y * x, x)[1](x)[0])(3.0), 6)


def test_one_value_in_both_places_of_which_only_the_second_has_a_derivative():
    for derivative in DERIVATIVES.values():
        close(derivative(lambda x: np.heaviside(x, x), 0.0), 1)


def test_transformed_functions_are_values():
    derivatives = [np.sin]
    for _ in range(4):
        derivatives.append(br.grad(derivatives[-1]))
    close([d(0.4) for d in derivatives[1:]], [np.cos(0.4), -np.sin(0.4), -np.cos(0.4), np.sin(0.4)])


def test_a_map_between_two_derivatives():
    hessian_diagonal = br.grad(lambda x: np.sum(br.vmap(br.grad(lambda e: e**4))(x)))
    close(hessian_diagonal(X), 12 * X**2)


def test_a_transformation_calls_itself_inside():
    def f(x, depth):
        return np.sin(x) if depth == 0 else br.grad(f)(x, depth - 1) * x

    # f_1 = x cos x, f_2 = x (cos x - x sin x)
    x = 0.7
    close(br.grad(f)(x, 2), br.grad(lambda x: x * np.cos(x) - x * x * np.sin(x))(x), rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------- threads


def test_threads_with_nested_gradients_do_not_meet():
    barrier = threading.Barrier(8)

    def work(power):
        barrier.wait()
        second = br.grad(lambda x: np.sum(br.grad(lambda x: np.sum(x**power))(x)))
        return [second(X) for _ in range(30)]

    with ThreadPoolExecutor(8) as threads:
        for power, found in zip(range(2, 10), threads.map(work, range(2, 10)), strict=True):
            for gradient in found:
                close(gradient, power * (power - 1) * X ** (power - 2), rtol=1e-12)


def test_one_transformed_function_in_many_threads():
    gradient = br.grad(lambda x: np.sum(np.sin(x) * x))
    expected = np.sin(X) + X * np.cos(X)
    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(lambda _: gradient(X), range(100)):
            close(found, expected, rtol=1e-12)


def test_a_thread_inside_a_function():
    def loss(x):
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(lambda: np.sum(x * x)).result()

    close(br.grad(loss)(X), 2 * X)


# ---------------------------------------------------------------------------------------------------- Python's forms


def test_generators():
    def powers(x):
        value = x
        while True:
            yield value
            value = value * x

    def loss(x):
        stream = powers(x)
        return np.sum(next(stream) + next(stream) + next(stream))

    close(br.grad(loss)(X), 1 + 2 * X + 3 * X**2)
    close(br.vmap(loss)(X), X + X**2 + X**3)
    close(br.grad(lambda x: sum(e * e for e in x))(X), 2 * X)


def test_a_generator_suspended_across_transformations():
    def running():
        total = 0.0
        while True:
            x = yield total
            total = br.grad(sum_of_cubes)(x) + total

    accumulator = running()
    next(accumulator)
    close(accumulator.send(X), 3 * X**2)
    close(accumulator.send(X), 6 * X**2)


def test_exceptions_caught_inside_the_function():
    def careful(x):
        try:
            y = x * x
            raise ValueError(y)
        except ValueError as error:
            return np.sum(error.args[0] * x)
        finally:
            x = None

    close(br.grad(careful)(X), 3 * X**2)
    close(br.jvp(careful, (X,), (np.ones(3),))[1], np.sum(3 * X**2))


def test_a_transformation_that_failed_inside_the_function():
    def loss(x):
        try:
            return br.grad(lambda y: y * x)(x)
        except br.NonScalarOutputError:
            return np.sum(x * x)

    close(br.grad(loss)(X), 2 * X)


def test_recursion():
    def power(x, n):
        return x if n == 1 else x * power(x, n - 1)

    close(br.grad(power)(1.5, 10), 10 * 1.5**9)


def test_nested_functions_and_nonlocal_names():
    def loss(x):
        total = 0.0

        def add(v):
            nonlocal total
            total = total + v * v

        for e in x:
            add(e)
        return total

    close(br.grad(loss)(X), 2 * X)


def test_comprehensions_star_arguments_and_unpacking():
    def loss(x):
        a, *rest = [e * e for e in x]
        return np.hypot(*rest) + max(a, *rest) + min({f"x{i}": e for i, e in enumerate(rest)}.values())

    def by_hand(x):
        return np.hypot(x[1] ** 2, x[2] ** 2) + x[2] ** 2 + x[1] ** 2

    close(br.grad(loss)(X), br.grad(by_hand)(X))


def test_functions_of_math_compute_in_double_precision():
    x = np.array([0.3, 0.7], np.float32)
    found = br.vmap(lambda e: math.sin(e))(x)
    assert found.dtype == float
    close(found, [math.sin(e) for e in x], rtol=1e-15)
    gradient = br.grad(lambda x: np.sum(br.vmap(lambda e: math.sin(e))(x)))(x)
    assert gradient.dtype == np.float32
    close(gradient, np.cos(x))


def test_results_are_plain_arrays_and_arguments_stay_untouched():
    x = X.copy()
    value, gradient = br.value_and_grad(lambda x: np.sum(x * x))(x)
    assert type(value) is np.float64
    assert type(gradient) is np.ndarray
    assert x.tobytes() == X.tobytes()


# ------------------------------------------------------------------------------------------------------------ memory


@pytest.fixture
def no_collector():
    """Reference counting alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


MEMORY_PROGRAMS = {
    "grad": lambda x: br.grad(sum_of_cubes)(x),
    "nested": lambda x: br.grad(lambda x: np.sum(br.grad(sum_of_cubes)(x)))(x),
    "jvp": lambda x: br.jvp(sum_of_cubes, (x,), (x,)),
    "pullback": lambda x: br.vjp(lambda x: x * x, x)[1](x),
    "vmap": lambda x: br.vmap(lambda e: e * e)(x),
    "closure": lambda x: br.grad(lambda y: np.sum(x * y * x))(x),
}


@pytest.mark.parametrize("name", MEMORY_PROGRAMS)
def test_memory_stays_flat_without_a_garbage_collector(name, no_collector):
    program = MEMORY_PROGRAMS[name]
    x = np.ones(1000)
    for _ in range(20):
        program(x)
    tracemalloc.start()
    program(x)
    before = tracemalloc.get_traced_memory()[0]
    calls = 1000 if name == "grad" else 200
    for _ in range(calls):
        program(x)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # An array is 8,000 bytes, a forgotten object some hundreds; the interpreter's free lists take less than that.
    assert grown < 150 * calls, f"{grown / calls:.0f} bytes stay behind after each call"


def test_no_reference_to_the_argument_stays_behind(no_collector):
    x = np.ones(1000)
    gone = weakref.ref(x)
    br.grad(sum_of_cubes)(x)
    br.vmap(lambda e: e * e)(x)
    br.jvp(sum_of_cubes, (x,), (x,))
    del x
    assert gone() is None


def test_a_pullback_remembers_values_not_arrays():
    x, w = X.copy(), np.array([1.0, 2, 3])
    value, pullback = br.vjp(lambda x: x * x * w, x)
    x[:] = w[:] = value[:] = 0
    close(pullback(np.ones(3))[0], 2 * X * [1, 2, 3])


def test_a_pullback_of_a_function_that_writes_into_its_argument():
    def doubling(x):
        square = x * x
        x *= 2
        return square * x

    x = X.copy()
    _, pullback = br.vjp(doubling, x)
    close(x, 2 * X)
    close(pullback(np.ones(3))[0], 6 * X**2)
    close(pullback(np.ones(3))[0], 6 * X**2)


def test_a_pullback_in_another_thread():
    _, pullback = br.vjp(lambda x: np.sin(x), X)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda n: pullback(np.full(3, float(n)))[0] / n, range(1, 20)):
            close(found, np.cos(X))


def test_a_pullback_keeps_only_what_its_rules_need(no_collector):
    tracemalloc.start()
    x = np.ones(100_000)
    before = tracemalloc.get_traced_memory()[0]
    _, pullback = br.vjp(lambda x: np.sum(((x + 1) * 2 - 3) / 4), x)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept < 2 * x.nbytes, f"a chain of linear steps keeps {kept / x.nbytes:.1f} arrays"
    close(pullback(1.0)[0], np.full(100_000, 0.5))


# -------------------------------------------------------------------------------------------------------------- cost


def test_a_long_loop_needs_no_recursion():
    def loop(x):
        for _ in range(100_000):
            x = x * 1.00001
        return x

    close(br.grad(loop)(2.0), 1.00001**100_000)


def seconds_per_write(transform, n):
    """The median processor time of one element write, in a loop of n under a transformation."""

    def fill(x):
        out = np.zeros(n)
        for i in range(n):
            out[i] = x
        return np.sum(out)

    times = []
    for _ in range(2 if n >= 100_000 else 7):
        start = time.process_time()
        transform(fill)
        times.append(time.process_time() - start)
    return statistics.median(times) / n


@pytest.mark.parametrize(
    "transform",
    [lambda f: br.grad(f)(2.0), lambda f: br.jvp(f, (2.0,), (1.0,)), lambda f: br.vmap(f)(np.ones(2))],
    ids=["grad", "jvp", "vmap"],
)
def test_a_loop_of_writes_costs_the_same_for_each(transform):
    small, medium, large = (seconds_per_write(transform, n) for n in (1_000, 10_000, 100_000))
    assert medium < 3 * small, f"{small * 1e6:.1f} us a write of 1,000, {medium * 1e6:.1f} us of 10,000"
    assert large < 3 * small, f"{small * 1e6:.1f} us a write of 1,000, {large * 1e6:.1f} us of 100,000"


def test_a_loop_of_reads_and_writes_stays_linear():
    def scan(x):
        out = np.zeros(len(x))
        out[0] = x[0]
        for i in range(1, len(x)):
            out[i] = 0.5 * out[i - 1] + x[i]
        return np.sum(out * out)

    times = []
    for n in (1_000, 10_000):
        x = np.linspace(0, 1, n)
        spent = []
        for _ in range(5):
            start = time.process_time()
            br.grad(scan)(x)
            spent.append(time.process_time() - start)
        times.append(statistics.median(spent) / n)
    assert times[1] < 3 * times[0]
