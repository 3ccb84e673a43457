"""Python's control flow where conditions differ between the lanes of a `vmap`: equal to a loop over the lanes."""

from __future__ import annotations

import numpy as np
import pytest

import bindrune as br

POINTS = np.array([-1.5, 0.3, 2.0, 7.0, -0.2])


def absolute(x):
    if x > 0:
        return x
    return -x


def three_ways(x):
    if x < 0:
        y = x * x
    elif x < 1:
        y = np.sin(x)
        y = y * 2
    else:
        y = 3 * x
    return y + 1


def nested(x):
    y = x
    if x > 0:
        if x > 1:
            y = y * 2
        else:
            y = y + 10
            y = y * 1.5
        y = y + 1
    return y


def doubling(x):
    count = 0
    while x < 10 and count < 6:
        x = 2 * x + 1
        count += 1
    return x * count


def newton(a):
    a = abs(a) + 1
    x = a
    while abs(x * x - a) > 1e-10:
        x = 0.5 * (x + a / x)
    return x


def breaking(x):
    total = 0.0
    for i in range(10):
        if total > 3:
            break
        if i % 2 == 1:
            continue
        if x * i > 5:
            continue
        total = total + x * x + i
    return total


def searching(x):
    for i in range(20):
        if i * 0.5 > x:
            return i + x
    return -1.0


def loop_with_else(x):
    y = 0.0
    n = 0
    while n < 3:
        n += 1
        if x > 5:
            y = y + 1
            break
        y = y + x
    else:
        y = y * 100
    return y


def writing(x):
    out = np.zeros(3)
    out[0] = x
    if x > 0:
        out[1] = x * x
        out[2] += 5.0
    else:
        out[1:] -= x
    return np.sum(out * np.array([1.0, 10.0, 100.0]))


def writing_in_a_loop(x):
    out = np.zeros(4)
    i = 0
    while i < 4 and out.sum() < x:
        out[i] = i + 1.0
        i += 1
    return out.sum() * x


def conditional_expression(x):
    return (x if x > 0 else x * x) + (1 if 0 < x < 1 else 0)


def logic(x):
    if not x > 0 or (x > 1 and x < 5):
        return 1.0 * x
    return 100.0 * x


def helper(x):
    if x > 1:
        return np.log(x)
    return x - 1


def through_a_helper(x):
    return helper(x) * 2


def items_and_attributes(x):
    state = {"t": 0.0}
    values = [x, 1.0]
    if x > 0:
        state["t"] = x * 2
        values[1] = x
    return state["t"] + values[1]


def one_sided_variable(x):
    if x > 0:
        z = x * 2
    if x > 0:
        return z
    return x


def bound_behind_and(x):
    i = 0.0
    if x > 0 and (i := x * 7) > 3:
        x = x * i
    y = x < -1 or (i := i + 1) > 1
    return x + i * y


PROGRAMS = [
    absolute, bound_behind_and, three_ways, nested, doubling, newton, breaking, searching, loop_with_else, writing,
    writing_in_a_loop, conditional_expression, logic, through_a_helper, items_and_attributes, one_sided_variable,
    lambda x: x if x > 0 else -x,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_lanes_equal_a_loop(program):
    np.testing.assert_allclose(br.vmap(program)(POINTS), [program(p) for p in POINTS], rtol=1e-12)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_gradients_of_lanes_equal_a_loop(program):
    expected = [br.grad(program)(p) for p in POINTS]
    np.testing.assert_allclose(br.vmap(br.grad(program))(POINTS), expected, rtol=1e-10)
    np.testing.assert_allclose(br.grad(lambda x: np.sum(br.vmap(program)(x)))(POINTS), expected, rtol=1e-10)
    tangents = br.jvp(br.vmap(program), (POINTS,), (np.ones(5),))[1]
    np.testing.assert_allclose(tangents, expected, rtol=1e-10)


def test_lanes_of_lanes():
    grid = np.outer(POINTS, [1.0, -1.0])
    np.testing.assert_allclose(br.vmap(br.vmap(three_ways))(grid), [[three_ways(v) for v in row] for row in grid])


def test_a_side_that_no_lane_takes_does_not_run():
    def program(x):
        if x > 100:
            raise ValueError("no lane comes here")
        return x

    np.testing.assert_array_equal(br.vmap(program)(POINTS), POINTS)


def test_a_raise_that_some_lane_meets_is_raised():
    def program(x):
        if x < 0:
            raise ValueError("negative")
        return x

    with pytest.raises(ValueError, match="negative"):
        br.vmap(program)(POINTS)


def test_appending_for_some_lanes_is_refused():
    def program(x):
        found = []
        if x > 0:
            found.append(x)
        return len(found) * x

    with pytest.raises(br.TracedConditionError, match=r"list\.append"):
        br.vmap(program)(POINTS)


def test_sides_of_different_shapes_are_refused():
    def program(x):
        y = np.ones(2) * x if x > 0 else np.ones(3) * x
        return np.sum(y)

    with pytest.raises(br.TracedConditionError, match="shape"):
        br.vmap(program)(POINTS)


def test_assertions_hold_in_every_lane():
    def program(x):
        assert x > -1, "too small"
        return x

    np.testing.assert_array_equal(br.vmap(program)(POINTS[1:]), POINTS[1:])
    with pytest.raises(AssertionError, match="too small"):
        br.vmap(program)(POINTS)


def test_code_without_source_names_the_line():
    namespace = {}
    exec("def f(x):\n    return x if x > 0 else -x\n", namespace)
    with pytest.raises(br.TracedConditionError, match=r"np\.where"):
        br.vmap(namespace["f"])(POINTS)


def test_closures_keep_their_variables():
    scale = 2.0
    calls = 0

    def program(x):
        nonlocal calls
        calls += 1
        if x > 0:
            return scale * x
        return x

    np.testing.assert_array_equal(br.vmap(program)(POINTS), np.where(POINTS > 0, 2 * POINTS, POINTS))
    assert calls == 1


def test_methods():
    class Clip:
        def __init__(self, top):
            self.top = top

        def __call__(self, x):
            if x > self.top:
                return self.top + 0 * x
            return x

    np.testing.assert_array_equal(br.vmap(Clip(1.0))(POINTS), np.minimum(POINTS, 1.0))


def collatz(x):
    n = np.floor(abs(x) * 5) + 1
    steps = 0
    while n > 1:
        if n % 2 == 0:
            n = n / 2
        else:
            n = 3 * n
            n += 1
        steps += 1
        if steps > 12:
            break
    return steps + 0 * x


def bisection(target):
    low, high = -20.0, 20.0
    root = None
    while True:
        middle = 0.5 * (low + high)
        if high - low < 1e-9:
            root = middle
            break
        if middle**3 + middle > target:
            high = middle
            continue
        low = middle
    return root + 0 * target


def early_returns_in_loops(x):
    total = 0.0
    for i in range(6):
        for j in range(3):
            if i * j > x + 2:
                return total
            total += i + x * j
        if total > 20:
            return total * 2
    return -total


def comprehension(x):
    return sum(v * x if v > 1 else v for v in [0.5, 1.5, 2.5] if v * 2 > 2) + sum([1.0 for v in range(3) if v])


def unpacking_and_swaps(x):
    a, b = x, 1.0
    if a > b:
        a, b = b, a
    return a - 2 * b


def list_as_array(x):
    values = np.array([x, 1.0, -x])
    for i in range(3):
        if values[i] < 0:
            values[i] = 0.0
    return values.sum()


def insertion_sort(x):
    v = np.array([x, 2 * x - 1, 1.0, -x])
    for i in range(1, 4):
        j = i
        while j > 0 and v[j - 1] > v[j]:
            v[j - 1], v[j] = v[j], v[j - 1]
            j -= 1
    return v @ np.array([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    "program",
    [collatz, bisection, early_returns_in_loops, comprehension, unpacking_and_swaps, list_as_array, insertion_sort],
    ids=lambda f: f.__name__,
)
def test_larger_programs(program):
    expected = [program(p) for p in POINTS]
    np.testing.assert_allclose(br.vmap(program)(POINTS), expected, rtol=1e-12, atol=1e-12)
    slopes = [br.grad(program)(p) for p in POINTS]
    np.testing.assert_allclose(br.vmap(br.grad(program))(POINTS), slopes, rtol=1e-9, atol=1e-12)


def items_of_a_dict(x):
    state = {"t": 0.0, "n": 0}
    pair = [1.0, x]
    while state["n"] < 4:
        if x * state["n"] > 1:
            state["t"] += x
            pair[0], pair[1] = pair[1], pair[0]
        state["n"] += 1
    return state["t"] + 2 * pair[0] + pair[1]


class Counter:
    def __init__(self):
        self.total = 0.0


def attributes(x):
    counter = Counter()
    for i in range(3):
        if x > i:
            counter.total += x
        else:
            counter.total = counter.total - 1
    return counter.total + 0 * x


@pytest.mark.parametrize("program", [items_of_a_dict, attributes], ids=lambda f: f.__name__)
def test_state_in_containers_and_objects(program):
    np.testing.assert_allclose(br.vmap(program)(POINTS), [program(p) for p in POINTS])
    np.testing.assert_allclose(br.vmap(br.grad(program))(POINTS), [br.grad(program)(p) for p in POINTS])


def test_extending_a_list_for_some_lanes_is_refused():
    def program(x):
        found = [x]
        if x > 0:
            found += [x]
        return len(found) * x

    with pytest.raises(br.TracedConditionError, match=r"list\.iadd"):
        br.vmap(program)(POINTS)


def masked_stores(x):
    y = np.array([x, -x, 2 * x, 1.0])
    y[y < 0] = 0.5
    z = np.ones((4, 2)) * x
    z[y > 1] = np.array([x, 3.0])
    return np.sum(y) + np.sum(z * y[:, None])


def test_masks_that_differ_between_lanes():
    np.testing.assert_allclose(br.vmap(masked_stores)(POINTS), [masked_stores(p) for p in POINTS])
    slopes = [br.grad(masked_stores)(p) for p in POINTS]
    np.testing.assert_allclose(br.vmap(br.grad(masked_stores))(POINTS), slopes)
    with pytest.raises(br.TracedConditionError):
        br.vmap(lambda x: np.sum(x[x > 0]))(np.outer(POINTS, POINTS))


def test_lanes_that_part_at_an_exception_say_so():
    def guarded(x):
        try:
            if x > 0:
                raise ValueError("positive")
        except Exception:
            return 10 * x
        return x

    with pytest.raises(br.TracedConditionError, match=r"ValueError \(positive\) is raised in some lanes only"):
        br.vmap(guarded)(np.array([-1.0, 2.0]))
    np.testing.assert_array_equal(br.vmap(guarded)(np.array([1.0, 2.0])), [10.0, 20.0])
    with pytest.raises(ValueError, match="positive"):
        br.vmap(lambda x: guarded_outside(x))(np.array([-1.0, 2.0]))


def guarded_outside(x):
    if x > 0:
        raise ValueError("positive")
    return x
