"""Recursion under `jit`: graphs that call themselves where the depth depends on traced values."""

import threading

import numpy as np
import pytest

import bindrune as br
from measures import executables


def factorial(n):
    return 1 if n <= 1 else n * factorial(n - 1)


def power(x, n):
    if n == 0:
        return 1.0
    return x * power(x, n - 1)


def fibonacci(n):
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)


def ackermann(m, n):
    if m == 0:
        return n + 1
    if n == 0:
        return ackermann(m - 1, 1)
    return ackermann(m - 1, ackermann(m, n - 1))


def divisor(a, b):
    return a if b == 0 else divisor(b, a % b)


def quicksort(a, low, high):
    if low < high:
        pivot, i = a[high], low - 1
        for k in range(low, high):
            if a[k] <= pivot:
                i += 1
                a[i], a[k] = a[k], a[i]
        a[i + 1], a[high] = a[high], a[i + 1]
        quicksort(a, low, i)
        quicksort(a, i + 2, high)


def integral(f, a, b, tolerance):
    """Adaptive Simpson's rule."""
    middle = 0.5 * (a + b)
    whole = (b - a) / 6 * (f(a) + 4 * f(middle) + f(b))
    left = (middle - a) / 6 * (f(a) + 4 * f(0.5 * (a + middle)) + f(middle))
    right = (b - middle) / 6 * (f(middle) + 4 * f(0.5 * (middle + b)) + f(b))
    if abs(left + right - whole) < 15 * tolerance:
        return left + right
    return integral(f, a, middle, tolerance / 2) + integral(f, middle, b, tolerance / 2)


@pytest.mark.parametrize(
    ("f", "calls"),
    [
        (factorial, [(1,), (5,), (12,)]),
        (power, [(2.0, 0), (1.5, 7)]),
        (fibonacci, [(0,), (10,), (13,)]),
        (ackermann, [(1, 2), (2, 3)]),
        (divisor, [(48, 18), (17, 5)]),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_one_graph_serves_every_depth(f, calls):
    staged = br.jit(f)
    for arguments in calls:
        found = staged(*arguments)
        assert found == f(*arguments)
        assert type(found) is type(f(*arguments))
    assert staged.stats().stagings == 1
    assert staged.stats().guards == 0


def test_recursion_in_place():
    for seed, n in enumerate((2, 7, 20)):
        a = np.random.default_rng(seed).normal(size=n)
        expected = np.sort(a)
        br.jit(quicksort)(a, 0, n - 1)
        np.testing.assert_array_equal(a, expected)


def test_adaptive_integration():
    def of(a, b):
        return integral(lambda x: np.exp(-x * x) * np.sin(3 * x), a, b, 1e-7)

    staged = br.jit(of)
    for bounds in ((0.0, 1.0), (0.0, 3.0)):
        np.testing.assert_allclose(staged(*bounds), of(*bounds), rtol=1e-13)
    assert staged.stats().stagings == 1


def test_derivatives_of_a_recursion():
    staged = br.jit(power)
    np.testing.assert_allclose(br.grad(staged)(1.5, 7), 7 * 1.5**6)
    np.testing.assert_allclose(br.jit(br.grad(power))(1.5, 7), 7 * 1.5**6)
    np.testing.assert_allclose(br.jvp(lambda x: staged(x, 7), (1.5,), (1.0,))[1], 7 * 1.5**6)
    np.testing.assert_allclose(br.grad(br.grad(lambda x: staged(x, 7)))(1.5), 42 * 1.5**5)
    assert staged.stats().stagings == 1


def test_what_a_recursion_captures_is_an_input():
    weights = 0.5 * np.eye(2)

    def deep(x, n):
        if n <= 0:
            return x
        return deep(np.tanh(weights @ x), n - 1)

    staged = br.jit(deep)
    x = np.array([1.0, -2.0])
    np.testing.assert_allclose(staged(x, 3), deep(x, 3))
    weights[0, 1] = 1.0
    np.testing.assert_allclose(staged(x, 4), deep(x, 4))
    assert staged.stats().stagings == 1
    np.testing.assert_allclose(br.jacrev(lambda x: staged(x, 4))(x), br.jacrev(lambda x: deep(x, 4))(x))


def test_a_depth_that_python_knows_is_unrolled():
    def deep(x, n):
        return x if n == 0 else deep(np.sin(x), n - 1)

    staged = br.jit(deep, static_argnums=1)
    np.testing.assert_allclose(staged(1.0, 4), deep(1.0, 4))
    assert [node.op.name for node in staged.graph(1.0, 4).nodes] == ["sin"] * 4


def test_lanes_of_a_recursion_run_as_python_runs_them():
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(br.vmap(lambda v: br.jit(power)(v, 3))(x), x**3)


# ------------------------------------------------------------------------------------------------------- gradients


def tree(x, n):
    if n < 2:
        return x * n
    return np.sin(tree(x, n - 1)) + tree(x, n - 2)


def squaring(x, n):
    if n == 0:
        return 1.0
    if n % 2 == 0:
        half = squaring(x, n // 2)
        return half * half
    return x * squaring(x, n - 1)


def climbing(x, m, n):
    """Ackermann's recursion, with a number that changes on the way."""
    if m == 0:
        return x * (n + 1), n + 1
    if n == 0:
        return climbing(np.sin(x), m - 1, 1)
    y, k = climbing(x, m, n - 1)
    return climbing(np.cos(y), m - 1, k)


def climbed(x, m, n):
    return climbing(x, m, n)[0]


def bell(width, a, b):
    return integral(lambda x: np.exp(-width * x * x) * np.sin(3 * x), a, b, 1e-6)


def even(x, n):
    return x if n == 0 else odd(np.sin(x) + 1, n - 1)


def odd(x, n):
    return -x if n == 0 else even(np.cos(x) * x, n - 1)


def pair(x, y, n):
    if n == 0:
        return x, y
    a, b = pair(y, x * y, n - 1)
    return a + x, b * y


def paired(x, n):
    a, b = pair(x, x + 1, n)
    return a * b


def layers(w, x, n):
    if n <= 0:
        return np.sum(x)
    return layers(w, np.tanh(w @ x), n - 1)


def product(a, low, high):
    """A tree over an array that all calls read."""
    if high - low == 1:
        return np.sin(a[low])
    middle = (low + high) // 2
    return product(a, low, middle) * product(a, middle, high) + a[middle]


def merge(a, low, high):
    if high - low < 2:
        return
    middle = (low + high) // 2
    merge(a, low, middle)
    merge(a, middle, high)
    b = np.zeros(len(a))
    i, j = low, middle
    for k in range(low, high):
        if j >= high or (i < middle and a[i] <= a[j]):
            b[k] = a[i]
            i += 1
        else:
            b[k] = a[j]
            j += 1
    a[low:high] = b[low:high]


def scanned(a, low, high):
    if high - low < 2:
        return
    middle = (low + high) // 2
    scanned(a, low, middle)
    scanned(a, middle, high)
    for k in range(middle, high):
        a[k] = a[k] * np.sin(a[middle - 1])


def changed(f):
    """The function of an array that another one makes of it in place."""

    def g(x, low, high):
        x = x.copy()
        f(x, low, high)
        return np.sum(np.arange(1.0, len(x) + 1) * x * x)

    g.__name__ = f.__name__
    return g


def summed(x, n):
    """A recursion in a loop."""
    s = 0.0
    for i in range(n):
        s += tree(x * i * 0.1, i)
    return s


def wandering(x, n):
    """A loop of unknown length in a recursion."""
    if n == 0:
        return x
    k = 0
    while k < n and x < 50:
        x = x + np.sin(x) * 0.5 + 0.1
        k += 1
    return wandering(x, n - 1) * 1.01


def mixing(a, b, n):
    """Whole arrays in loops, given on in another order."""
    if n <= 0:
        return np.sum(b)
    y = 0.0
    for i in range(n):
        b[:] = np.tanh(a + b)
        y = y + 0.1 * a[i % 4]
    a[:] = np.sin(a * b)
    if y < 0.3:
        y = y + mixing(np.sin(a), b, n - 1)
    return y * b[2] + mixing(b, a, n - 2)


def mixed(x, n):
    return mixing(x.copy(), np.cos(x), n)


V = np.random.default_rng(1).normal(size=14)
W = np.array([[0.5, 0.1], [0.2, 0.4]])

GRADIENTS = [
    (power, (1.1, 7)),
    (tree, (0.3, 8)),
    (squaring, (1.1, 21)),
    (climbed, (0.3, 2, 2)),
    (bell, (1.3, 0.0, 2.0)),
    (even, (0.3, 5)),
    (paired, (1.1, 5)),
    (layers, (W, np.array([1.0, -2.0]), 5)),
    (product, (V, 0, 14)),
    (changed(merge), (V, 0, 14)),
    (changed(quicksort), (V, 0, 13)),
    (changed(scanned), (V + 3, 0, 14)),
    (summed, (0.3, 6)),
    (mixed, (np.linspace(-0.5, 0.6, 4), 4)),
    (wandering, (0.3, 5)),
]


@pytest.mark.parametrize(("f", "arguments"), GRADIENTS, ids=[f.__name__ for f, _ in GRADIENTS])
def test_gradients_are_those_of_plain_python(f, arguments):
    x, *rest = arguments
    direction = np.cos(x)

    def gradient(x, *rest):
        return br.grad(f)(x, *rest)

    def pushed(x, *rest):
        return br.jvp(lambda x: f(x, *rest), (x,), (direction,))[1]

    def curved(x, *rest):
        return br.jvp(lambda x: br.grad(f)(x, *rest), (x,), (direction,))[1]

    def twice(x, *rest):
        return br.grad(lambda x: np.sum(direction * br.grad(f)(x, *rest)))(x)

    for derivative in (gradient, pushed, curved, twice):
        compiled = br.jit(derivative, backend="native")
        np.testing.assert_allclose(compiled(x, *rest), derivative(x, *rest), rtol=1e-10, err_msg=derivative.__name__)
        assert not compiled.stats().eager
        assert not compiled.stats().guards
        assert not any(made.callbacks for made in executables(compiled))
    np.testing.assert_allclose(br.grad(br.jit(f))(x, *rest), gradient(x, *rest), rtol=1e-10)
    lanes = np.stack([x, 1.01 * x, 0.99 * x])
    mapped = br.jit(br.vmap(gradient, in_axes=(0, *(None,) * len(rest))))
    np.testing.assert_allclose(mapped(lanes, *rest), [gradient(lane, *rest) for lane in lanes], rtol=1e-10)


def test_a_chain_of_ten_thousand_calls():
    compiled = br.jit(br.value_and_grad(power), backend="native")
    for n in (10, 10_000, 20_000):
        value, slope = compiled(1.0001, n)
        np.testing.assert_allclose(value, 1.0001**n)
        np.testing.assert_allclose(slope, n * 1.0001 ** (n - 1))
    assert not compiled.stats().eager


@pytest.mark.filterwarnings("ignore:br.jit of power. the program raised RecursionError")
def test_a_recursion_that_is_too_deep_says_so():
    compiled = br.jit(power, backend="native")
    compiled(1.5, 3)
    found = []

    def attempt():
        with pytest.raises(RecursionError):
            compiled(1.5, 10_000_000)
        found.append(compiled(1.5, 3))

    attempt()
    before = threading.stack_size(1 << 18)
    try:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert found == [1.5**3] * 2


def test_the_way_back_keeps_numbers_and_no_arrays():
    def kept(f, n):
        compiled = br.jit(br.grad(f), backend="native")
        compiled(np.linspace(1.0, 2.0, n), 0, n)
        return sum(made.working_memory for made in executables(compiled))

    for f in (product, changed(scanned)):
        few, many = kept(f, 512), kept(f, 8192)
        assert many < 40 * few, f


def test_errors_in_a_recursion_whose_results_nobody_needs():
    def look(x, n):
        if n == 3:
            raise ValueError("three")
        if n <= 0:
            return x
        look(x, n - 1)
        return x

    staged = br.jit(look)
    assert staged(1.0, 2) == 1.0
    with pytest.raises(ValueError, match="three"):
        staged(1.0, 5)
    with pytest.raises(ValueError, match="three"):
        br.jit(br.grad(look))(1.0, 5)


def circle(x, n):
    """Functions inside that call each other."""

    def first(x, n):
        return x if n == 0 else second(np.sin(x), n - 1) + 1

    def second(x, n):
        if n == 0:
            return -x
        return third(np.cos(x), n - 1)

    def third(x, n):
        if n == 0:
            return 2 * x
        return first(x, n - 1) * second(x, n - 1)

    return first(x, n)


@pytest.mark.parametrize("f", [even, circle])
def test_functions_that_call_each_other_are_one_graph(f):
    staged, derived = br.jit(f), br.jit(br.grad(f))
    for n in (0, 1, 2, 5, 8):
        np.testing.assert_allclose(staged(0.3, n), f(0.3, n))
        np.testing.assert_allclose(derived(0.3, n), br.grad(f)(0.3, n))
    for compiled in (staged, derived):
        assert compiled.stats().stagings == 1
        assert compiled.stats().guards == 0


# ------------------------------------------------------------------------------------------------ what is captured


def remembered(x, n):
    """A recursion that writes down what it has found."""
    found, known = np.zeros(50), np.zeros(50, bool)

    def value(n):
        if n < 2:
            return x * n
        if known[n]:
            return found[n]
        v = np.sin(value(n - 1)) + value(n - 2)
        found[n] = v
        known[n] = True
        return v

    return value(n)


def arranged(w):
    """The sum over all permutations, by a search that marks what it has used."""
    n = len(w)
    used, total = np.zeros(n), np.zeros(1)

    def place(k, s):
        if k == n:
            total[0] += np.exp(-s)
        else:
            for i in range(n):
                if used[i] == 0:
                    used[i] = 1
                    place(k + 1, s + w[k, i])
                    used[i] = 0

    place(0, 0.0)
    return total[0]


def backwards(x, n):
    """A recursion that writes through a view of what the function is given."""
    tail = x[1:]

    def go(n):
        if n > 0:
            tail[n] = tail[n] * np.sin(tail[n - 1])
            go(n - 1)

    go(n)
    return np.sum(x)


@pytest.mark.parametrize(
    ("f", "arguments"),
    [(remembered, (0.3, 20)), (arranged, (np.random.default_rng(2).normal(size=(4, 4)),)), (backwards, (V, 6))],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_what_a_recursion_captures_may_be_written(f, arguments):
    def given():
        return (np.copy(arguments[0]) if np.ndim(arguments[0]) else arguments[0], *arguments[1:])

    for function in (f, lambda x, *rest: br.grad(f)(np.copy(x) if np.ndim(x) else x, *rest)):
        compiled, ours, theirs = br.jit(function), given(), given()
        np.testing.assert_allclose(compiled(*ours), function(*theirs), rtol=1e-11)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert not compiled.stats().eager
        assert not compiled.stats().guards


def entangled(a, b, n):
    if n == 0:
        return 0.0
    b[n] = b[n] + a[n - 1]
    return a[n] + entangled(a, b, n - 1)


def test_one_array_under_two_names_stays_one():
    def twice(x, n):
        x = x.copy()
        return entangled(x, x, n)

    def beside(x, n):
        x = x.copy()
        return entangled(x[1:], x[:-1], n)

    def inside(x, n):
        x = x.copy()

        def go(a, n):
            if n == 0:
                return 0.0
            x[n] += a[n - 1]
            return a[n] + go(a, n - 1)

        return go(x, n)

    for f in (twice, beside, inside):
        np.testing.assert_allclose(br.jit(f)(V, 5), f(V, 5))
        np.testing.assert_allclose(br.jit(br.grad(f))(V, 5), br.grad(f)(V, 5))
