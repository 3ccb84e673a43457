"""Control flow as functions: as Python's own statements, in both modes, and where lanes go different ways."""

from __future__ import annotations

import numpy as np
import pytest

import bindrune as br
from expect import close, weigh

X = np.array([0.7, -1.3, 2.1])
LANES = np.array([0.3, 1.5, 4.0, 11.0])

ORDERS = {
    "vmap-grad": lambda f: lambda x: br.vmap(br.grad(f))(x),
    "grad-vmap": lambda f: lambda x: br.grad(lambda x: np.sum(br.vmap(f)(x)))(x),
    "jvp-vmap": lambda f: lambda x: br.jvp(br.vmap(f), (x,), (np.ones_like(x),))[1],
    "vmap-jvp": lambda f: lambda x: br.vmap(lambda x: br.jvp(f, (x,), (1.0,))[1])(x),
    "jacobian": lambda f: lambda x: np.diag(br.jacobian(br.vmap(f))(x)),
}
orders = pytest.mark.parametrize("slopes", ORDERS.values(), ids=ORDERS)


def check(f, plain, lanes=LANES, rtol=1e-9):
    """Compare a function of a number with plain Python: values, slopes, second derivatives, each lane by itself."""
    close(br.vmap(f)(lanes), [plain(x) for x in lanes], rtol=rtol)
    expected = [br.grad(plain)(x) for x in lanes]
    for slopes in ORDERS.values():
        close(slopes(f)(lanes), expected, rtol=rtol)
    seconds = [br.grad(br.grad(plain))(x) for x in lanes]
    close(br.vmap(br.grad(br.grad(f)))(lanes), seconds, rtol=rtol)
    close(br.vmap(br.hessian(f))(lanes), seconds, rtol=rtol)
    for x in lanes:
        close(f(x), plain(x), rtol=rtol)
        close(br.grad(f)(x), br.grad(plain)(x), rtol=rtol)


# ------------------------------------------------------------------------------------------------------ cond and switch


def test_cond():
    def f(x):
        return br.cond(x > 2, lambda x: x**3, lambda x: np.sin(x) * x, x)

    check(f, lambda x: x**3 if x > 2 else np.sin(x) * x)


def test_cond_runs_one_side_where_it_can():
    ran = []
    f = lambda x: br.cond(np.sum(x) > 0, lambda x: ran.append(1) or x, lambda x: ran.append(0) or -x, x)  # noqa: E731
    close(f(X), X)
    close(br.grad(lambda x: np.sum(f(x)))(-X), [-1, -1, -1])
    br.vmap(lambda y: br.cond(True, lambda: ran.append(1) or y, lambda: ran.append(0) or -y))(X)
    assert ran == [1, 0, 1]


def test_cond_of_trees_and_captured_values():
    def f(w, x):
        out = br.cond(x[0] > 0, lambda p: {"a": w * p["a"], "b": 1.0}, lambda p: {"a": p["a"], "b": w}, {"a": x})
        return np.sum(out["a"]) * out["b"]

    lanes = np.stack([X, -X])
    close(br.vmap(f, in_axes=(None, 0))(2.0, lanes), [2 * np.sum(X), -2 * np.sum(X)])
    close(br.vmap(br.grad(f), in_axes=(None, 0))(2.0, lanes), [np.sum(X), -np.sum(X)])
    close(br.grad(lambda w: np.sum(br.vmap(f, in_axes=(None, 0))(w, lanes)))(2.0), 0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@orders
def test_the_side_not_taken_leaks_nothing(slopes):
    safe = lambda x: br.cond(x > 0, np.sqrt, lambda x: 0.0 * x, x)  # noqa: E731
    close(slopes(safe)(np.array([0.0, 4.0])), [0, 0.25])
    bounded = lambda x: br.while_loop(lambda v: v < 10, lambda v: v / (9.5 - v) + v + 2, x)  # noqa: E731
    found = slopes(bounded)(np.array([9.5 - 1e-3, 20.0]))
    assert np.isfinite(found).all()
    close(found[1], 1)


def test_switch():
    branches = [lambda x: x, lambda x: x**2, lambda x: np.sin(x)]
    for i in range(3):
        close(br.switch(i, branches, 0.7), branches[i](0.7))
        close(br.grad(lambda x, i=i: br.switch(i, branches, x))(0.7), br.grad(branches[i])(0.7))
    index = np.array([2, 0, 1])
    close(br.vmap(lambda i, x: br.switch(i, branches, x))(index, X), [np.sin(X[0]), X[1], X[2] ** 2])
    slopes = br.vmap(br.grad(lambda x, i: br.switch(i, branches, x)))(X, index)
    close(slopes, [np.cos(X[0]), 1, 2 * X[2]])


def test_what_cond_and_switch_refuse():
    mapped = br.vmap(lambda x: br.cond(x > 0, lambda: (x, x), lambda: x))
    with pytest.raises(TypeError, match=r"the conditional expression has another structure"):
        mapped(X)
    with pytest.raises(TypeError, match=r"has shape \(2,\) on one side and \(\) on the other"):
        br.vmap(lambda x: br.cond(x > 0, lambda: x * np.ones(2), lambda: x))(X)
    for index in (3, -1):
        with pytest.raises(IndexError, match=rf"br.switch: index {index} is out of range for 3 branches"):
            br.switch(index, [np.sin] * 3, 1.0)
    with pytest.raises(IndexError, match=r"out of range for 2 branches"):
        br.vmap(lambda i: br.switch(i, [np.sin] * 2, 1.0))(np.array([0, 2]))


def test_select():
    mask = np.array([True, False, True])
    close(br.select(mask, X, -X), np.where(mask, X, -X))
    close(br.grad(lambda x: np.sum(br.select(mask, x**2, x)))(X), np.where(mask, 2 * X, 1))
    close(br.vmap(lambda m, x: br.select(m, x, -x))(mask, X), np.where(mask, X, -X))
    with pytest.raises(TypeError, match=r"br.select: the arrays have shapes \(3,\) and \(2,\)"):
        br.select(mask, X, X[:2])


# ---------------------------------------------------------------------------------------------------------------- loops


def doubling(x):
    return br.while_loop(lambda v: v < 10, lambda v: 2 * v + np.sin(v), x)


def plain_doubling(x):
    while x < 10:
        x = 2 * x + np.sin(x)
    return x


def test_while_loop_with_lanes_that_stop_apart():
    check(doubling, plain_doubling)


def test_lanes_of_lanes_that_stop_apart():
    grid = np.stack([LANES, 2 * LANES])
    expected = [[plain_doubling(x) for x in row] for row in grid]
    close(br.vmap(br.vmap(doubling))(grid), expected)
    slopes = [[br.grad(plain_doubling)(x) for x in row] for row in grid]
    close(br.vmap(br.vmap(br.grad(doubling)))(grid), slopes)
    close(br.grad(lambda x: np.sum(br.vmap(br.vmap(doubling))(x)))(grid), slopes)
    close(br.vmap(br.grad(lambda row: np.sum(br.vmap(doubling)(row))))(grid), slopes)
    # only the outer lanes differ in when they stop
    powers = lambda x, y: br.while_loop(lambda v: v[0] < 10, lambda v: (2 * v[0], v[1] * y), (x, y))[1]  # noqa: E731
    close(br.vmap(lambda x: br.vmap(lambda y: powers(x, y))(X))(LANES[1:]), [X**4, X**3, X])


def test_while_loop_of_trees():
    def newton(a):
        def step(state):
            x = (state["x"] + a / state["x"]) / 2
            return {"x": x, "change": np.abs(x - state["x"]), "steps": state["steps"] + 1}

        return br.while_loop(lambda s: s["change"] > 1e-12, step, {"x": a, "change": np.inf, "steps": 0})

    lanes = np.array([2.0, 9.0, 1e4])
    found = br.vmap(newton)(lanes)
    close(found["x"], np.sqrt(lanes))
    assert found["steps"][0] < found["steps"][2]
    for slopes in ORDERS.values():
        close(slopes(lambda a: newton(a)["x"])(lanes), 1 / (2 * np.sqrt(lanes)), rtol=1e-6)


def test_while_loop_over_what_is_captured():
    def f(w, x):
        return br.while_loop(lambda v: v < 10, lambda v: w * v, x)

    close(br.grad(f, argnums=(0, 1))(2.0, 1.0), [4 * 8, 16])
    rates = np.array([2.0, 3.0, 11.0])
    close(br.vmap(f, in_axes=(0, None))(rates, 1.0), [16, 27, 11])
    close(br.vmap(br.grad(f), in_axes=(0, None))(rates, 1.0), [32, 27, 1])


def test_while_loop_that_takes_no_step():
    assert br.while_loop(lambda v: False, lambda v: 1 / 0, 3.0) == 3.0
    close(br.vmap(doubling)(np.array([20.0, 30.0])), [20, 30])


def test_while_loop_that_writes():
    def f(x):
        buffer = np.zeros(4)

        def step(i):
            buffer[i] = x ** (i + 1)
            return i + 1

        br.while_loop(lambda i: i < 4, step, 0)
        return np.sum(buffer)

    close(br.grad(f)(1.5), 1 + 2 * 1.5 + 3 * 1.5**2 + 4 * 1.5**3)
    close(br.vmap(f)(X), X + X**2 + X**3 + X**4)


def test_fori_loop():
    power = lambda n: lambda x: br.fori_loop(0, n, lambda i, v: v * x + i, 1.0)  # noqa: E731

    def plain(x):
        v = 1.0
        for i in range(4):
            v = v * x + i
        return v

    check(power(4), plain)
    close(power(0)(2.0), 1.0)
    close(br.fori_loop(3, 1, lambda i, v: 1 / 0, 5.0), 5.0)
    # bounds that differ between lanes
    counts = np.array([0, 1, 3])
    close(br.vmap(lambda n, x: br.fori_loop(0, n, lambda i, v: v * x, 1.0))(counts, X), X**counts)
    slopes = br.vmap(br.grad(lambda x, n: br.fori_loop(0, n, lambda i, v: v * x, 1.0)))(X, counts)
    close(slopes, counts * X ** np.maximum(counts - 1, 0))
    lower = br.vmap(lambda n: br.fori_loop(n, 3, lambda i, v: v + i, 0))(counts)
    assert lower.tolist() == [3, 3, 0]


# ----------------------------------------------------------------------------------------------------------------- scan


def recurrence(xs, decay=0.5, reverse=False):
    def step(carry, x):
        carry = decay * carry + np.sin(x)
        return carry, carry * x

    carry, ys = br.scan(step, 0.1, xs, reverse=reverse)
    return carry + weigh(ys)


def plain_recurrence(xs, decay=0.5, reverse=False):
    carry, ys = 0.1, np.zeros(len(xs))
    for i in range(len(xs) - 1, -1, -1) if reverse else range(len(xs)):
        carry = decay * carry + np.sin(xs[i])
        ys[i] = carry * xs[i]
    return carry + weigh(ys)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan(reverse):
    f, plain = lambda x: recurrence(x, reverse=reverse), lambda x: plain_recurrence(x, reverse=reverse)
    close(f(X), plain(X))
    close(br.grad(f)(X), br.grad(plain)(X), rtol=1e-9)
    close(br.jvp(f, (X,), (X,)), br.jvp(plain, (X,), (X,)), rtol=1e-9)
    close(br.hessian(f)(X), br.hessian(plain)(X), rtol=1e-9)
    lanes = np.stack([X, -X, 2 * X])
    close(br.vmap(br.grad(f))(lanes), [br.grad(plain)(x) for x in lanes], rtol=1e-9)
    close(br.grad(lambda x: np.sum(br.vmap(f)(x)))(lanes), [br.grad(plain)(x) for x in lanes], rtol=1e-9)
    decays = np.array([0.1, 0.2])
    close(br.vmap(lambda d: recurrence(X, d))(decays), [plain_recurrence(X, d) for d in decays])
    close(br.grad(lambda d: recurrence(X, d))(0.3), br.grad(lambda d: plain_recurrence(X, d))(0.3))


def test_scan_of_trees():
    xs = {"a": np.arange(6.0).reshape(3, 2), "b": (X,)}

    def step(carry, x):
        total = carry["sum"] + x["a"] * x["b"][0]
        return {"sum": total}, (total, {"last": x["b"][0]})

    carry, (sums, rest) = br.scan(step, {"sum": np.zeros(2)}, xs)
    close(sums, np.cumsum(xs["a"] * X[:, None], axis=0))
    close(carry["sum"], sums[-1])
    close(rest["last"], X)
    gradient = br.grad(lambda xs: weigh(br.scan(step, {"sum": np.zeros(2)}, xs)[1][0]))(xs)
    weights = (np.arange(6).reshape(3, 2) % 5 + 1) / 2
    left = np.cumsum(weights[::-1], axis=0)[::-1]
    close(gradient["a"], left * X[:, None])
    close(gradient["b"][0], np.sum(left * xs["a"], axis=1))


def test_scan_by_length_and_without_results():
    carry, ys = br.scan(lambda c, x: (2 * c, x), 1.0, None, length=5)
    assert carry == 32.0
    assert ys is None
    carry, ys = br.scan(lambda c, x: (c + x, None), 0.0, X, length=3)
    close(carry, np.sum(X))
    assert ys is None
    close(br.grad(lambda w: br.scan(lambda c, _: (c * w, c), 1.0, None, 3)[0])(2.0), 12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: br.scan(f, 0.0, 3.0), ValueError, "the leading axis of xs is missing, a number"),
        (lambda f: br.scan(f, 0.0, {"a": X, "b": 1.0}), ValueError, r"the leading axis of xs\['b'\] is missing"),
        (lambda f: br.scan(f, 0.0, np.zeros(0)), ValueError, "the leading axis is empty"),
        (lambda f: br.scan(f, 0.0), ValueError, "nothing to loop over; give xs or length"),
        (lambda f: br.scan(f, 0.0, X, length=2), ValueError, "length is 2, but the leading axis of xs is 3"),
        (
            lambda f: br.scan(f, 0.0, (X, X[:2])),
            ValueError,
            r"the leading axis of xs\[0\] is 3, but the leading axis of xs\[1\] is 2",
        ),
        (lambda f: br.scan(lambda c, x: c + x, 0.0, X), TypeError, r"the function must return \(carry, y\)"),
        (
            lambda f: br.scan(lambda c, x: (c + 1, (x,) if c else x), 0, X),
            TypeError,
            "results have different structures",
        ),
    ],
    ids=["number", "leaf", "empty", "nothing", "length", "lengths", "no-pair", "structures"],
)
def test_what_scan_refuses(call, error, message):
    with pytest.raises(error, match=f"br.scan: {message}"):
        call(lambda c, x: (c, x))


# ------------------------------------------------------------------------------------------------------------------ map


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 4, 10])
def test_map(batch_size):
    f = lambda p: {"y": p["a"] * np.sin(p["b"])}  # noqa: E731
    xs = {"a": np.arange(8.0).reshape(4, 2), "b": LANES}
    mapped = lambda xs: br.map(f, xs, batch_size=batch_size)  # noqa: E731
    expected = xs["a"] * np.sin(LANES)[:, None]
    close(mapped(xs)["y"], expected)
    gradient = br.grad(lambda xs: np.sum(mapped(xs)["y"]))(xs)
    close(gradient["b"], np.sum(xs["a"], axis=1) * np.cos(LANES))
    close(br.vmap(lambda s: mapped({"a": s * xs["a"], "b": LANES})["y"])(X), X[:, None, None] * expected)
    close(br.grad(lambda w: np.sum(br.map(lambda x: w * x, LANES, batch_size=batch_size)))(2.0), np.sum(LANES))


def test_map_of_lanes_that_stop_apart():
    close(br.map(doubling, LANES, batch_size=3), [plain_doubling(x) for x in LANES])
    close(br.grad(lambda x: np.sum(br.map(doubling, x, 3)))(LANES), [br.grad(plain_doubling)(x) for x in LANES])


def test_what_map_refuses():
    with pytest.raises(ValueError, match=r"br.map: the leading axis of xs is missing"):
        br.map(np.sin, 1.0, batch_size=2)
    with pytest.raises(ValueError, match=r"br.scan: the leading axis is empty"):
        br.map(np.sin, np.zeros(0))
    assert br.map(np.sin, np.zeros((0, 2)), batch_size=2).shape == (0, 2)


# ----------------------------------------------------------------------------------------------------- associative scan


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 8, 13])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(
    ("fn", "cumulative"),
    [(np.add, np.cumsum), (np.multiply, np.cumprod), (np.maximum, np.maximum.accumulate)],
    ids=["add", "multiply", "maximum"],
)
def test_associative_scan(n, reverse, axis, fn, cumulative):
    shape = [2, 2]
    shape[axis] = n
    x = np.sin(np.arange(2.0 * n) + 1).reshape(shape)

    def expected(x):
        flipped = np.flip(x, axis) if reverse else x
        found = cumulative(flipped, axis=axis)
        return np.flip(found, axis) if reverse else found

    found = lambda x: br.associative_scan(fn, x, reverse=reverse, axis=axis)  # noqa: E731
    close(found(x), expected(x))
    if fn is not np.maximum and n:
        close(br.grad(lambda x: weigh(found(x)))(x), br.grad(lambda x: weigh(expected(x)))(x), rtol=1e-9)
        close(br.jvp(found, (x,), (x,))[1], br.jvp(expected, (x,), (x,))[1], rtol=1e-9)


def test_associative_scan_of_trees():
    # the recurrence y' = a y + b, composed pairwise
    def compose(first, second):
        return {"a": first["a"] * second["a"], "b": second["a"] * first["b"] + second["b"]}

    a, b = np.array([0.5, 0.9, -0.3, 0.2, 0.7]), np.arange(5.0)

    def plain(a, b):
        y, found = 0.0, []
        for i in range(5):
            y = a[i] * y + b[i]
            found.append(y)
        return weigh(np.stack(found))

    scanned = lambda a, b: weigh(br.associative_scan(compose, {"a": a, "b": b})["b"])  # noqa: E731
    close(scanned(a, b), plain(a, b))
    for found, expected in zip(br.grad(scanned, (0, 1))(a, b), br.grad(plain, (0, 1))(a, b), strict=True):
        close(found, expected, rtol=1e-9)
    close(br.hessian(scanned)(a, b), br.hessian(plain)(a, b), rtol=1e-9, atol=1e-12)
    close(br.vmap(scanned, in_axes=(None, 0))(a, np.stack([b, -b])), [plain(a, b), -plain(a, b)])


def test_associative_scan_of_matrices():
    m = np.random.default_rng(0).normal(size=(6, 2, 2))
    found = br.associative_scan(np.matmul, m)
    product = np.eye(2)
    for i in range(6):
        product = product @ m[i]
        close(found[i], product)


def test_associative_scan_calls_few_times():
    calls = []
    br.associative_scan(lambda a, b: calls.append(1) or a + b, np.ones(1024))
    assert len(calls) <= 20
