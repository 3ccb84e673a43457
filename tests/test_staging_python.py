"""Python's constructs under `jit`: each gives what plain Python gives, and loops on traced values stay loops."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest

import bindrune as br
from expect import close

NUMBERS = np.random.default_rng(0).normal(size=12) * 3


def same(found, expected, what=""):
    """Equal trees: the same structure, values and kinds (a Python number may be a NumPy one)."""
    assert type(found) is type(expected) or isinstance(expected, (int, float, np.generic, np.ndarray)), what
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), what
        for a, b in zip(found, expected, strict=True):
            same(a, b, what)
    elif isinstance(expected, dict):
        assert list(found) == list(expected), what
        for name in expected:
            same(found[name], expected[name], what)
    elif isinstance(expected, (str, type(None))):
        assert found == expected, what
    else:
        assert isinstance(found, np.ndarray) == isinstance(expected, np.ndarray), what
        assert np.asarray(found).dtype == np.asarray(expected).dtype, what
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=what)


def check(f, *calls, stagings=1):
    """`jit` gives what the function gives, for several arguments, from so many stagings and never as plain Python."""
    g = br.jit(f)
    for arguments in (*calls, *calls):
        copies = [[a.copy() if isinstance(a, np.ndarray) else a for a in arguments] for _ in range(2)]
        same(g(*copies[0]), f(*copies[1]), f"{f.__name__}{arguments}")
        same(copies[0], copies[1], f"the arguments of {f.__name__}{arguments}")
    stats = g.stats()
    assert not stats.eager, stats.reasons
    assert stagings is None or stats.stagings == stagings, stats.reasons
    return g


def stays_a_loop(f, make, sizes=(10, 37)):
    """The graph is as large for a few steps as for many."""
    small, large = (br.make_graph(f)(*make(n)).size() for n in sizes)
    assert small == large
    assert small < 60


# ----------------------------------------------------------------------------------------------------- conditions


def three_ways(x):
    if x > 1:
        y = x * 2
    elif x < -1:
        y = -x
    else:
        y = x + 10
    return y


def nested_conditions(x, y):
    if x > 0:
        if y > 0:
            return "first"[:0] + "", x + y
        z = x - y
    else:
        z = y
        if y > 5:
            z = z * 2
    return "", z


def without_else(x):
    y = x
    if x > 3:
        y = y * 10
    return y


def several_variables(x):
    a, b = 1.0, 2.0
    if x > 0:
        a, b = b * x, a
    return a, b


def boolean_operators(x, y):
    return (x > 0 and y > 0) or not (x < y), x > 0 or y > 0


def operators_give_operands(x, y):
    return x and y, x or y


def chained_comparisons(x, y):
    return 0 < x < y, 0 < x <= 1 < y


def conditional_expressions(x):
    return (x if x > 0 else -x) + (1.0 if 0 < x < 3 else 2.0)


def short_circuit(x):
    return x != 0 and 1 / x > 0.5


def conditions_on_arrays(x):
    if x.sum() > 0 and (x > -10).all():
        return x / x.sum()
    return np.zeros_like(x)


def extremes(x, y):
    return max(x, y) - min(x, y, 3.0), abs(x)


@pytest.mark.parametrize(
    ("f", "calls"),
    [
        (three_ways, [(2.0,), (0.0,), (-3.0,)]),
        (nested_conditions, [(1.0, 2.0), (1.0, -2.0), (-1.0, 2.0), (-1.0, 8.0)]),
        (without_else, [(1.0,), (5.0,)]),
        (several_variables, [(1.0,), (-5.0,)]),
        (boolean_operators, [(1.0, 2.0), (-1.0, 2.0), (3.0, 2.0), (-2.0, -3.0)]),
        (operators_give_operands, [(0.0, 2.0), (1.0, 2.0), (1.0, 0.0)]),
        (chained_comparisons, [(1.0, 2.0), (-1.0, 2.0), (3.0, 2.0), (0.5, 2.0)]),
        (conditional_expressions, [(1.0,), (-1.0,), (5.0,)]),
        (short_circuit, [(0.0,), (1.0,), (4.0,)]),
        (conditions_on_arrays, [(NUMBERS,), (-np.abs(NUMBERS),)]),
        (extremes, [(1.0, 2.0), (5.0, -2.0)]),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_conditions(f, calls):
    check(f, *calls)


# ---------------------------------------------------------------------------------------------------------- loops


def over_a_range(x):
    total = 0.0
    for i in range(len(x)):
        total += x[i] * i
    return total


def over_a_range_with_bounds(x):
    total = 0.0
    for i in range(len(x) - 1, 0, -2):
        total = total * 0.5 + x[i]
    return total


def over_an_array(x):
    total = 0.0
    for v in x:
        total += v * v
    return total


def over_rows(x):
    y = np.zeros(1)
    for row in x[:, None]:
        y = y * 0.5 + row
    return y


def over_zip(x):
    total = 0.0
    for a, b in zip(x, x[1:], strict=False):
        total += a * b
    return total


def over_enumerate(x):
    total = 0.0
    for i, v in enumerate(x, start=1):
        total += i * v
    return total


def over_reversed(x):
    total = 0.0
    for v in reversed(x):
        total = total * 0.5 + v
    return total


def over_all_of_them(x):
    total = 0.0
    for i, (a, b) in enumerate(zip(reversed(x), x, strict=True)):
        total += i * a - b
    return total


def with_break(x):
    total = 0.0
    for v in x:
        if v > 4:
            break
        total += v
    return total


def with_continue(x):
    total = 0.0
    for v in x:
        if v < 0:
            continue
        total += v
        if total > 8:
            total -= 1
            continue
        total *= 1.5
    return total


def with_both(x):
    found = -1
    for i, v in enumerate(x):
        if v < 0:
            continue
        if v > 2:
            found = i
            break
    return found


def with_else(x):
    for v in x:
        if v > 100:
            kind = 1
            break
    else:
        kind = 2
    return kind


def returning(x):
    for i, v in enumerate(x):
        if v > 3:
            return i * 1.0
    return -1.0


def returning_from_the_middle(x):
    total = 0.0
    for i in range(len(x)):
        for j in range(i):
            total += x[i] * x[j]
            if total > 20:
                return total, i
        if total < -50:
            return total, -i
    return total, 0


def nested_loops(x):
    n = len(x)
    a = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            a[i, j] = x[i] - x[j]
            if i == j:
                a[i, j] += 1
    return a


def swapping(x):
    a, b = 0.0, 1.0
    for v in x:
        a, b = b, a + v
    return a, b


def writing(x):
    y = np.zeros_like(x)
    for i in range(1, len(x)):
        y[i] = y[i - 1] * 0.5 + x[i]
    x[0] = y[-1]
    return y


def powers(x):
    while x > 1:
        x = x / 2
    return x


LOOPS = [
    over_a_range, over_a_range_with_bounds, over_an_array, over_rows, over_zip, over_enumerate, over_reversed,
    over_all_of_them, with_break, with_continue, with_both, with_else, returning, returning_from_the_middle,
    nested_loops, swapping, writing,
]  # fmt: skip


@pytest.mark.parametrize("f", LOOPS, ids=lambda f: f.__name__)
def test_loops(f):
    check(f, (NUMBERS,), (np.abs(NUMBERS),), (-NUMBERS,), stagings=None if f is with_else else 1)
    if f is with_else:
        return
    stays_a_loop(f, lambda n: (np.resize(NUMBERS, n),))


@pytest.mark.parametrize("f", LOOPS, ids=lambda f: f.__name__)
def test_gradients_of_loops(f):
    def loss(x):
        return sum(np.sum(leaf) * 1.0 for leaf in br.tree.leaves(f(x * 1.0))) + x[0]

    expected = br.grad(loss)(NUMBERS)
    close(br.grad(br.jit(loss))(NUMBERS), expected)
    close(br.jit(br.grad(loss))(NUMBERS), expected)


def test_loops_over_lists_and_dicts():
    def f(x):
        total = 0.0
        for factor in [1.0, 2.0, 3.0]:
            total += factor * x
        for name, factor in {"a": 1.0, "b": 2.0}.items():
            total += factor * len(name) * x
        for name in {"c": 1}:
            total += len(name)
        for a, b in zip([1, 2], "xy", strict=True):
            total += a * len(b)
        return total

    check(f, (1.0,), (-2.0,))


def test_loops_with_a_traced_bound():
    def f(n, x):
        total = 0.0
        for i in range(n):
            total += x * i
        return total

    check(f, (3, 2.0), (30, 2.0), (0, 1.0))


def test_while():
    def f(x):
        steps = 0
        while x > 1:
            x = x / 2
            steps += 1
            if steps > 20:
                break
        else:
            steps += 100
        return x, steps

    check(f, (10.0,), (1e30,), (0.5,))


def test_while_true():
    def f(x):
        while True:
            x = x * 0.5
            if x < 1:
                return x
            if x > 1e6:
                continue
            x -= 0.1

    check(f, (100.0,), (1e9,))


def test_while_on_python_values():
    def f(x):
        i = 0
        while i < 1000:
            x = np.sin(x) + i * 1e-3
            i += 1
        return x

    check(f, (1.0,))
    assert br.make_graph(f)(1.0).size() < 100


def test_a_long_range_is_a_loop():
    def f(x):
        for _ in range(1000):
            x = np.sin(x) + x * x
        return x

    assert br.make_graph(f)(0.1).size() < 20
    check(f, (0.1,), (-0.2,))


# ------------------------------------------------------------------------------------------- comprehensions and lists


def comprehension(x):
    return np.array([v * 2 for v in x])


def nested_comprehension(x):
    return np.array([[a * b for a in x] for b in x])


def comprehension_of_a_range(x):
    return [x[i] - x[i - 1] for i in range(1, len(x))]


def appended(x):
    found = []
    for v in x:
        found.append(v * 2)
    return found


def appended_states(x):
    states = [x[0]]
    for v in x[1:]:
        states.append(states[-1] * 0.5 + v)
    return np.array(states)


def appended_arrays(x):
    y, path = x[:3].copy(), []
    for v in x:
        y = np.sin(y) + v
        path.append(y)
    return np.stack(path), path[-1], len(path)


def appended_to_several(x):
    history = {"value": [], "pair": []}
    for i, v in enumerate(x):
        history["value"].append(v)
        history["pair"].append((i, v * v))
    return history


def summed(x):
    return sum(v * v for v in x) + sum([v for v in x])


def gone_through_again(x):
    doubled = [v * 2 for v in x]
    total = 0.0
    for a, b in zip(doubled, x, strict=True):
        total += a * b
    return total


@pytest.mark.parametrize(
    "f",
    [
        comprehension, nested_comprehension, appended_states, summed, gone_through_again,
    ],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_lists_in_loops(f):
    check(f, (NUMBERS,), (-NUMBERS,))
    small, large = (br.make_graph(f)(np.resize(NUMBERS, n)).size() for n in (10, 20))
    assert small == large or f is nested_comprehension
    loss = lambda x: np.sum(f(x))  # noqa: E731
    close(br.grad(br.jit(loss))(NUMBERS), br.grad(loss)(NUMBERS))


@pytest.mark.parametrize(
    "f", [comprehension_of_a_range, appended, appended_arrays, appended_to_several], ids=lambda f: f.__name__
)
def test_lists_as_results(f):
    check(f, (NUMBERS,), (-NUMBERS,))
    stays_a_loop(f, lambda n: (np.resize(NUMBERS, n),), (10, 20))


def test_lists_that_some_steps_append_to():
    def f(x):
        return [v * 2 for v in x if v > 0]

    check(f, (NUMBERS,), stagings=None)


def test_lists_that_are_looked_at_while_they_grow():
    def lengths(x):
        found = []
        for v in x:
            found.append(v * len(found))
        return found

    def first(x):
        found = [x[0]]
        for v in x:
            found.append(v * found[0])
        return found

    def emptiness(x):
        found = []
        for v in x:
            found.append(v if not found else v * 2)
        return found

    def last(x):
        found = []
        for v in x:
            found.append(np.zeros(2))
            found[-1][0] = v
        return found

    def popping(x):
        found = [x[0]]
        for v in x:
            found.append(found.pop() + v)
        return found

    for f in (lengths, first, emptiness, last, popping):
        check(f, (NUMBERS,))


def test_lists_of_one_array():
    def f(x):
        y, found = x.copy(), []
        for i in range(6):
            y[i] += 1
            found.append(y)
        return np.array(found)

    def g(x):
        found = []
        for i in range(6):
            x = x + i
            found.append(x)
        x[0] = 100.0
        return np.array(found)

    check(f, (NUMBERS,), stagings=None)
    check(g, (NUMBERS,), stagings=None)


def test_any_and_all():
    def f(x):
        return any(v > 3 for v in x), all(v > -1 for v in x), any(v > 100 for v in x)

    check(f, (NUMBERS,), (np.abs(NUMBERS),))
    stays_a_loop(f, lambda n: (np.resize(NUMBERS, n),))


def test_other_comprehensions():
    def f(x):
        named = {k: [v * i for i in range(3)] for k, v in {"a": x, "b": 2 * x}.items()}
        return named, max(abs(v) for v in (x, -2 * x)), {i for i in range(2)} == {0, 1}, [y := x + 1, y * 2]

    check(f, (1.0,), (-2.0,))


def test_extremes_compare_as_python_does():
    def f(x, y):
        return max(x, 0.0), min(1.0, x), max(x, y, 2 * x)

    for x in (0.0, -1.0, 3.0, np.nan):
        check(f, (x, 1.0), (1.0, x))
    for x in (0.0, 2.0, -2.0):
        assert br.jit(br.grad(lambda x: max(x, 0.0)))(x) == br.grad(lambda x: max(x, 0.0))(x)


# ------------------------------------------------------------------------------------------------ what loops carry


class Body:
    def __init__(self, x):
        self.x, self.v = x, 0.0

    def step(self, force, dt=0.1):
        self.v += force * dt
        self.x += self.v * dt
        return self.x


def attributes(forces):
    body = Body(1.0)
    for f in forces:
        body.step(f)
    return body.x, body.v


def items(x):
    state = {"t": 0.0, "n": 0, "rows": [0.0, 0.0]}
    for v in x:
        state["t"] += v
        state["n"] += 1
        state["rows"][1] = state["rows"][0]
        state["rows"][0] = v
    return state


def captured_variables(x):
    total, count = 0.0, 0

    def add(v):
        nonlocal total, count
        total += v
        count += 1
        return total

    for v in x:
        add(v)
    return total, count


def functions_inside(x):
    def square(v):
        return v * v

    def twice(f):
        return lambda v: f(f(v))

    total = 0.0
    for v in x:
        total += twice(square)(v)
    return total


def defaults_of_lambdas(x):
    functions = [lambda v, k=k: v * k for k in range(3)]
    total = 0.0
    for v in x:
        for f in functions:
            total += f(v)
    return total


def deleted(x):
    total = 0.0
    for v in x:
        square = v * v
        total += square
        del square
    return total


def bound_in_expressions(x):
    total = 0.0
    for v in x:
        if (square := v * v) > 4:
            total += square
    while (half := total / 2) > 1:
        total = half
    return total


@pytest.mark.parametrize(
    "f",
    [attributes, items, captured_variables, functions_inside, defaults_of_lambdas, deleted, bound_in_expressions],
    ids=lambda f: f.__name__,
)
def test_what_loops_carry(f):
    check(f, (NUMBERS,), (np.abs(NUMBERS),))
    stays_a_loop(f, lambda n: (np.resize(NUMBERS, n),))


def test_an_attribute_of_an_argument():
    def f(body, forces):
        for force in forces:
            body.step(force)
        return body.x

    one, two = Body(1.0), Body(1.0)
    g = br.jit(f)
    for _ in range(4):
        close(g(one, NUMBERS), f(two, NUMBERS))
        close([one.x, one.v], [two.x, two.v])


class Vault:
    def __init__(self):
        self.__count = 1.0

    def __add(self, v):
        self.__count += v
        return self.__count

    def filled(self, x):
        for v in x:
            if v > 0:
                self.__add(v)
        return self.__count


def test_private_names():
    check(lambda x: Vault().filled(x), (NUMBERS,))


def test_super():
    class Louder(Body):
        def step(self, force, dt=0.2):
            if force > 0:
                return super().step(force * 2, dt)
            return super().step(force)

    def f(forces):
        body = Louder(0.0)
        for force in forces:
            body.step(force)
        return body.x

    check(f, (NUMBERS,))


def test_star_arguments():
    def f(*xs, scale=1.0, **named):
        first, *rest = xs
        total = scale * first
        for v in rest:
            total += v
        return total + sum(named.values())

    g = br.jit(f)
    same(g(1.0, 2.0, 3.0, scale=2.0, a=4.0), f(1.0, 2.0, 3.0, scale=2.0, a=4.0))


# ----------------------------------------------------------------------------------------------------- statements


def test_match():
    def f(n, x):
        match n:
            case 0:
                y = x
            case 1 | 2:
                y = x * 2
            case k if k > 10:
                y = x * k
            case _:
                y = -x
        return y

    check(f, (0, 1.5), (1, 1.5), (2, 1.5), (11, 1.5), (5, 1.5))


def test_match_of_structures():
    def f(shape, x):
        match shape:
            case {"kind": "circle", "r": r}:
                return math.pi * r * r * x
            case (a, b):
                return a * b * x
            case str(name):
                return len(name) * x

    check(lambda x: f({"kind": "circle", "r": x}, x) + f((x, 2.0), x) + f("abc", x), (1.5,), (2.0,))


def test_with():
    @contextlib.contextmanager
    def scaled(log):
        log.append("in")
        yield 2.0
        log.append("out")

    def f(x):
        log = []
        with scaled(log) as factor, np.errstate(all="ignore"):
            if x > 0:
                return np.log(x) * factor, log
        return np.sqrt(-x), log

    check(f, (2.0,), (-2.0,), stagings=2)


def test_try():
    def f(x):
        steps = 0
        try:
            if x > 1:
                raise ValueError("large")
            steps = 1
        except ValueError:
            steps = 2
        else:
            steps += 10
        finally:
            x = x * 2
        return x, steps

    check(f, (0.0,), (2.0,), stagings=2)


def test_try_that_returns():
    def f(x):
        try:
            if x > 0:
                return x
        except ValueError:
            return -1.0
        else:
            x = x - 100.0
        finally:
            x = x + 1
        return x

    check(f, (1.0,), (-1.0,))


class RefusedError(Exception):
    def __init__(self, value, whole):
        super().__init__(value)
        self.whole = whole


def test_errors_show_what_was_computed_for_them():
    def f(x, t):
        if t < 0:
            raise ValueError(f"t is {t}, x begins with {x[0]:.3f} and its sum is {x.sum():.3f}")
        if x[0] > 100:
            raise RefusedError(x[1] * 2, whole=x)
        for v in x:
            if v > 50:
                raise KeyError(f"{v + 1} is too large")
        return x**t

    x = np.arange(1.0, 7.0)
    for backend in ("interpreter", "native"):
        g = br.jit(f, backend=backend)
        close(g(x, 2.0), f(x, 2.0))
        for arguments in ((x, -1.0), (x * 200, 2.0), (x * 20, 1.0)):
            with pytest.raises(Exception) as expected:  # noqa: PT011
                f(*arguments)
            with pytest.raises(type(expected.value)) as found:
                g(*arguments)
            assert str(found.value) == str(expected.value)
            same(vars(found.value), vars(expected.value))
        close(g(x * 2, 2.0), f(x * 2, 2.0))


def test_a_side_prints_before_it_raises(capsys):
    def f(x):
        if x < 0:
            print("about to fail with", x)
            raise ValueError("negative")
        return x

    g = br.jit(f)
    assert g(1.0) == 1.0
    with pytest.raises(ValueError, match="negative"):
        g(-2.0)
    assert capsys.readouterr().out == "about to fail with -2.0\n"


def test_messages_of_assertions_are_made_where_they_fail():
    def f(x, n):
        assert n < 3, f"{x[n]} at {n}"
        assert x[0] > 0, 1 / x[1]
        return x * n

    g = check(f, (np.arange(1.0, 4.0), 2))
    with pytest.raises(AssertionError, match=r"^4\.0 at 3"):
        g(np.arange(1.0, 8.0), 3)
    with pytest.raises(AssertionError, match=r"0\.5"):
        g(np.array([-1.0, 2.0, 3.0]), 1)


def test_an_error_that_is_handled_shows_values():
    def f(x):
        try:
            if x[0] < 0:
                raise ValueError(f"{x[1]:.2f}")
        except ValueError as error:
            return str(error)
        return ""

    check(f, (np.ones(3),), (-np.ones(3),), (np.array([-1.0, 7.0]),), stagings=None)


def test_assert():
    def f(x):
        assert x > 0, f"{x} is not positive, {x:+.1f}"
        return x * 2

    g = check(f, (1.0,), (2.0,))
    with pytest.raises(AssertionError, match=r"^-3.0 is not positive, -3.0"):
        g(-3.0)
    assert g.stats().stagings == 1


def test_an_assertion_in_a_loop():
    def f(x):
        for i, v in enumerate(x):
            assert v > -5, "step {} has {:.1f}".format(i, v)
        return x.sum()

    g = check(f, (NUMBERS,))
    with pytest.raises(AssertionError, match=r"^step 3 has -7.5"):
        g(np.array([0, 1, 2, -7.5, 4, 5]))


def test_for_else_after_a_return():
    def f(x):
        log = 0
        for v in x:
            if v > 5:
                return log
        else:
            log = 7
        return log

    check(f, (NUMBERS,), (np.abs(NUMBERS) * 10,))


def test_a_loop_that_may_not_run_after_a_return():
    def f(x, y, n):
        s = t = y
        for _ in range(n):
            if x[0] > 5:
                return x[1]
        while x[1] > 5 and n < 20:
            n, s = n + 7, x[2]
        for i in range(n):
            while x[2] > 5:
                t = i * x[0]
                x[2] -= 1
        return s + 10 * t

    plain = np.array([1.0, 2.0, 3.0])
    check(f, *((plain + 6 * e, 0.8, n) for e in (0, np.eye(3)[0], np.eye(3)[1], np.eye(3)[2]) for n in (5, 1, 0)))


def printed(f, *arguments, capsys):
    f(*arguments)
    return capsys.readouterr().out


def test_print(capsys):
    def f(x, n):
        print("begin", n, "of", x.shape)
        for i in range(n):
            if i % 2 == 0:
                print(f"step {i}: {x[i]:.3f}", x[i], sep=" | ", end=";\n")
        print("%.2f and %s" % (x.sum(), x), [x[0], {"a": x[1]}])

    g = br.jit(f)
    for scale in (1.0, 2.0, 3.0):
        x = np.arange(6.0) * scale
        assert printed(g, x, 6, capsys=capsys) == printed(f, x, 6, capsys=capsys)
    assert (g.stats().stagings, g.stats().hits) == (1, 2)


def test_print_of_what_a_transformation_follows(capsys):
    def f(x):
        y = np.sin(x)
        print("y is", y)
        return y.sum()

    for g in (br.jit(br.grad(f)), br.grad(br.jit(f))):
        for x in (np.zeros(2), np.ones(2)):
            assert printed(g, x, capsys=capsys) == f"y is {np.sin(x)}\n"


def test_print_before_a_guard(capsys):
    def f(x):
        print("value", x)
        return np.zeros(int(x))

    g = br.jit(f)
    for x in (1.0, 2.0, 1.0, 3.0):
        assert printed(g, x, capsys=capsys) == f"value {x}\n"


def test_texts_of_values():
    def f(x):
        return f"{x:.2f} {x!r}", str(x), repr(x), "{}".format(x), f"{[x]}"

    check(f, (1.5,), (2.5,), stagings=2)
    check(f, (np.float64(1.5),), stagings=None)
    check(lambda x: f"{x}", (NUMBERS[:2],), stagings=None)


def test_recursion():
    def power(x, n):
        return 1.0 if n == 0 else x * power(x, n - 1)

    def tree(x, depth):
        if depth == 0:
            return np.sin(x)
        return tree(x * 0.5, depth - 1) + tree(x + 1, depth - 1)

    def gcd(a, b):
        if b == 0:
            return a
        return gcd(b, a % b)

    check(lambda x: power(x, 5), (2.0,), (3.0,))
    check(lambda x: tree(x, 3), (0.3,))
    check(power, (2.0, 5), (2.0, 0), (3.0, 9), stagings=None)
    check(gcd, (48, 18), (7, 5), (1071, 462), stagings=None)


def test_mutual_recursion():
    def even(n):
        return True if n == 0 else odd(n - 1)

    def odd(n):
        return False if n == 0 else even(n - 1)

    check(lambda n: even(n), (6,), (7,), stagings=None)


def test_globals_in_loops():
    namespace_before = dict(globals())

    def f(x):
        global TOTAL
        for v in x:
            TOTAL += v
        return TOTAL

    globals()["TOTAL"] = 0.0
    expected = NUMBERS.sum()
    g = br.jit(f)
    close([g(NUMBERS), g(NUMBERS), g(NUMBERS)], [expected, 2 * expected, 3 * expected])
    close(TOTAL, 3 * expected)
    assert g.stats().stagings <= 3
    assert "TOTAL" not in namespace_before


TOTAL: float
globals().pop("TOTAL", None)


# ----------------------------------------------------------------------- what other systems list as their limitations


def test_undefined_after_a_branch():
    def f(x):
        if x > 0:
            y = x * 2
        return y  # noqa: F821

    g = br.jit(f)
    assert g(1.0) == 2.0
    with pytest.raises(UnboundLocalError, match="'y'"):
        g(-1.0)
    assert g(2.0) == 4.0


def test_defined_in_one_branch_and_used_under_the_same_condition():
    def f(x):
        if x > 0:
            y = x * 2
        z = 1.0
        if x > 0:
            z = y
        return z

    check(f, (1.0,), (-1.0,), stagings=None)


def test_variables_created_in_loops():
    def f(x):
        for v in x:
            last = v * 2
        return last

    def g(x):
        for v in x:
            if v > 1:
                found = v
        return found

    check(f, (NUMBERS,))
    check(g, (NUMBERS,), stagings=None)
    with pytest.raises(UnboundLocalError):
        br.jit(g)(np.zeros(12))
    with pytest.raises(UnboundLocalError):
        br.jit(f)(np.zeros(0))


def test_side_effects_in_called_functions_and_methods():
    log = {"calls": 0, "last": 0.0}
    body = Body(0.0)

    def note(v):
        log["calls"] += 1
        log["last"] = v
        body.step(v)

    def f(x):
        for v in x:
            if v > 0:
                note(v)
        return log["last"]

    def everything():
        return [log["calls"], log["last"], body.x, body.v]

    f(NUMBERS)
    expected = everything()
    log.update(calls=0, last=0.0)
    body.x = body.v = 0.0
    g = br.jit(f)
    g(NUMBERS)
    same(everything(), expected)
    g(-NUMBERS)
    found = everything()
    log.update(calls=expected[0], last=expected[1])
    body.x, body.v = expected[2:]
    f(-NUMBERS)
    same(found, everything())


def test_mutation_of_lists_and_dicts():
    def f(x):
        values, table = [0.0] * 4, {}
        for i in range(12):
            values[i % 4] += x[i]
        for i in range(3):
            table[i] = x[i]
        values.insert(0, x[0])
        values.sort()
        last = values.pop()
        table.update(extra=last)
        del table[1]
        return values, table

    check(f, (NUMBERS,), stagings=None)


def test_keys_that_are_not_constant():
    def f(x, n):
        table = {i: x[i] for i in range(5)}
        table[n] = 0.0
        return table[n + 1] + [x[0], x[1], x[2], x[3]][n]

    check(f, (NUMBERS, 2), (NUMBERS, 3), stagings=2)


def test_shapes_that_change_across_branches():
    def f(x):
        if x.sum() > 0:
            y = np.ones(3) * x[0]
        else:
            y = np.ones((2, 2)) * x[1]
        return y

    check(f, (NUMBERS,), (-np.abs(NUMBERS),), stagings=2)


def test_shapes_that_change_in_a_loop():
    def f(x):
        y = x[:1]
        for i in range(5):
            y = np.concatenate([y, x[i : i + 1] + y.sum()])
        return y

    check(f, (NUMBERS,))


def test_kinds_that_change_across_branches():
    def f(x):
        if x > 0:
            y = "positive"
        elif x == 0:
            y = None
        else:
            y = [x]
        return y

    check(f, (1.0,), (0.0,), (-1.0,), stagings=3)


def test_dtypes_that_change_in_a_loop():
    def f(x):
        total = 0
        for v in x:
            total += v
        return total

    check(f, (NUMBERS,), (np.arange(3),), stagings=2)


def test_aliases_that_a_loop_makes():
    def f(x):
        a = b = x.copy()
        for i in range(5):
            a[i] += 1
            b = b + a
            a, b = b, a
        return a, b

    check(f, (NUMBERS,), stagings=None)


def test_outer_products_of_slices():
    def f(a):
        a = a.copy()
        for j in range(len(a)):
            a[j + 1 :, j] /= a[j, j]
            a[j + 1 :, j + 1 :] -= np.outer(a[j + 1 :, j], a[j, j + 1 :])
        return a

    a = np.random.default_rng(0).normal(size=(40, 40)) + 10 * np.eye(40)
    check(f, (a,))
    assert "left to Python" not in br.jit(f).explain(a)


def test_blocks_of_a_matrix_stay_a_loop():
    """Lengths that differ by multiples of a counter (`j - 8 * i`) are positive for few choices of their values."""

    def factored(a):
        a = a.copy()
        n = len(a)
        for k in range(0, n, 8):
            stop = min(k + 8, n)
            for j in range(k, stop):
                a[j + 1 :, j] /= a[j, j]
                a[j + 1 :, j + 1 : stop] -= np.outer(a[j + 1 :, j], a[j, j + 1 : stop])
            for j in range(k + 1, stop):
                a[j, stop:] -= a[j, k:j] @ a[k:j, stop:]
            a[stop:, stop:] -= a[stop:, k:stop] @ a[k:stop, stop:]
        return a

    a = np.random.default_rng(0).normal(size=(60, 60)) / 8 + 4 * np.eye(60)
    check(factored, (a,))
    told = br.jit(factored).explain(a)
    assert told.count("staged as a loop") == 3
    assert "left to Python" not in told

    weights = np.random.default_rng(1).normal(size=(60, 60))
    gradient = br.grad(lambda a: np.sum(weights * factored(a)))
    compiled = br.jit(gradient)
    np.testing.assert_allclose(compiled(a), gradient(a), rtol=1e-9, atol=1e-12)
    assert (compiled.stats().stagings, compiled.stats().eager) == (1, 0)


# fmt: off
BESIDE_EACH_OTHER = {
    "total": lambda x: np.sum(x) if len(x) else 0.0, "more": lambda x: x + 1 if x[0] > 0 else -x,
    "less": lambda x: x - 1 if x[0] > 0 else -x, "each": lambda x: [v if v > 0 else -v for v in x],
    "plain": lambda x: np.cos(x), "other": lambda x: np.sin(x) if x[0] > 0 else x,
}
# fmt: on


@pytest.mark.parametrize("name", BESIDE_EACH_OTHER)
def test_lambdas_beside_each_other_are_told_apart(name):
    """In an expression of several lines the first lambda of a line was taken for all of them."""
    f = BESIDE_EACH_OTHER[name]
    for x in (np.array([1.0, -2.0]), np.array([-1.0, -2.0])):
        same(br.jit(f)(x), f(x))
