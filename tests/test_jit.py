"""`jit`: its results are those of plain Python, whatever the function is, captures, changes or raises."""

from __future__ import annotations

import functools
import re
import traceback
import types
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

import bindrune as br
from expect import close

X = np.array([0.7, -1.3, 2.1])


def smooth(x):
    return np.sum(np.sin(x) * x)


# ---------------------------------------------------------------------------------------------------- known values


def test_case_91_jit_gives_what_the_function_gives():
    f = br.jit(smooth)
    close(f(X), smooth(X))
    close(f(2 * X), smooth(2 * X))
    assert (f.stats().stagings, f.stats().hits) == (1, 1)
    close(f(np.ones(5)), smooth(np.ones(5)))
    assert f.stats().stagings == 2


def test_case_91_structured_results():
    found = br.jit(lambda x: {"mean": x.mean(), "parts": (x[0], [x * 2])})(X)
    close(found["mean"], X.mean())
    close(found["parts"][0], X[0])
    close(found["parts"][1][0], X * 2)


def test_case_91_captured_weights():
    w = np.array([1.0, 2.0, 3.0])
    close(br.jit(lambda x: x @ w)(X), X @ w)


@pytest.mark.parametrize("x", [np.arange(12.0).reshape(3, 4).T, np.arange(20.0)[3:17:2], np.arange(9.0)[::-1]])
def test_case_91_transposed_and_offset_views(x):
    close(br.jit(lambda x: x * 2 + x.sum(0))(x), x * 2 + x.sum(0))


def test_case_91_results_own_their_memory():
    f = br.jit(lambda x: x + 1)
    first = f(X)
    kept = first.copy()
    f(2 * X)
    close(first, kept)


def test_case_92_transformations_on_either_side():
    close(br.jit(br.grad(smooth))(2 * X), br.grad(smooth)(2 * X))
    close(br.grad(br.jit(smooth))(X), br.grad(smooth)(X))
    rows = np.stack([X, 2 * X, -X])
    close(br.vmap(br.jit(smooth))(rows), [smooth(r) for r in rows])
    close(br.jit(br.vmap(br.grad(smooth)))(rows), [br.grad(smooth)(r) for r in rows])


def test_case_92_one_program_for_both_ways_of_a_condition():
    @br.jit
    def f(x):
        if x.sum() > 0:
            return x * 2
        return x - 1

    close(f(X), X * 2)
    close(f(-X), -X - 1)
    assert f.stats().stagings == 1


def test_case_92_scan_in_jit():
    def running(xs):
        return br.scan(lambda total, x: (total + x, total + x), 0.0, xs)[1]

    close(br.jit(running)(np.array([1.0, 2.0, 3.0])), [1, 3, 6])


def test_case_93_a_captured_array_that_changes():
    w = np.ones(3)
    f = br.jit(lambda x: x * w)
    close(f(X), X)
    w[:] = 2
    close(f(X), 2 * X)
    assert f.stats().stagings == 1


def test_case_93_a_fresh_key_gives_fresh_draws():
    f = br.jit(lambda key: br.random.normal(key, (3,)))
    keys = br.random.split(br.random.key(0), 2)
    assert not np.array_equal(f(keys[0]), f(keys[1]))
    close(f(keys[0]), br.random.normal(keys[0], (3,)))


def test_case_100_cancelling_transposes_cost_nothing():
    from bindrune.graph.passes.optimize import optimize

    def plain(x):
        return np.sum(x * x)

    def twice(x):
        return np.sum(x.T.T * x)

    x = np.arange(6.0).reshape(2, 3)
    sizes = [optimize(br.make_graph(br.grad(f))(x)).size() for f in (plain, twice)]
    assert sizes[0] == sizes[1]


# ----------------------------------------------------------------------------------------------------- signatures

Point = namedtuple("Point", "x y")


@dataclass
class State:
    position: np.ndarray
    steps: int = 0


@pytest.mark.parametrize(
    "tree",
    [
        (X, 2.0),
        [X, [X, 3]],
        {"w": X, "b": {"c": 1.0}},
        Point(X, 2 * X),
        OrderedDict(w=X, b=2.0),
        State(X, 3),
        (X, None, "text", True),
    ],
    ids=lambda tree: type(tree).__name__,
)
def test_trees_go_in_and_come_out(tree):
    found = br.jit(lambda tree: tree)(tree)
    assert type(found) is type(tree)
    for a, b in zip(br.tree.leaves(found), br.tree.leaves(tree), strict=True):
        np.testing.assert_array_equal(a, b)
        assert type(a) is type(b)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i4", "i8", "u1", "?"])
def test_dtypes_are_part_of_the_signature(dtype):
    f = br.jit(lambda x: x + x)
    x = np.arange(3).astype(dtype)
    assert f(x).dtype == (x + x).dtype
    f(np.ones(3, "f2"))
    assert f.stats().stagings == 2


def test_python_numbers_stay_weak():
    f = br.jit(lambda x, c: x * c)
    assert f(np.ones(3, "f4"), 2.0).dtype == np.float32
    assert f(np.ones(3, "f4"), np.float64(2.0)).dtype == np.float64
    assert f.stats().stagings == 2
    f(np.ones(3, "f4"), 5.0)
    assert f.stats().stagings == 2


def test_python_numbers_come_back_as_such():
    assert type(br.jit(lambda n: n + 1)(3)) is int
    assert type(br.jit(lambda x: x / 2)(3)) is float
    assert type(br.jit(lambda x: np.sin(x))(3.0)) is np.float64
    assert type(br.jit(lambda x: x > 2)(3.0)) is bool
    assert type(br.jit(lambda x: not x)(np.float64(3.0))) is bool


def test_strings_and_booleans_are_taken_by_value():
    @br.jit
    def f(x, mode, flip):
        y = np.sin(x) if mode == "sin" else np.cos(x)
        return -y if flip else y

    close(f(X, "sin", False), np.sin(X))
    close(f(X, "cos", True), -np.cos(X))
    close(f(X, "sin", True), -np.sin(X))
    close(f(X, "sin", False), np.sin(X))
    assert f.stats().stagings == 3


def test_static_arguments():
    f = br.jit(lambda x, n, *, axis: x.reshape(n, -1).sum(axis), static_argnums=1, static_argnames="axis")
    x = np.arange(12.0)
    close(f(x, 3, axis=0), x.reshape(3, -1).sum(0))
    close(f(x, 4, axis=1), x.reshape(4, -1).sum(1))
    close(f(x, 3, axis=0), x.reshape(3, -1).sum(0))
    assert (f.stats().stagings, f.stats().guards) == (2, 0)


def test_a_static_argument_by_position_or_by_name():
    f = br.jit(lambda x, n: x[:n], static_argnames=("n",))
    close(f(X, 2), X[:2])
    close(f(X, n=2), X[:2])
    g = br.jit(lambda x, n: x[:n], static_argnums=(-1,))
    close(g(X, 1), X[:1])


def test_static_arguments_need_a_hash():
    f = br.jit(lambda x, sizes: x.reshape(sizes), static_argnums=1)
    with pytest.raises(br.StaticArgumentError, match=r"static argument 1 is \[3, 1\].*pass a tuple"):
        f(X, [3, 1])
    close(f(X, (3, 1)), X.reshape(3, 1))


def test_static_arguments_must_exist():
    with pytest.raises(TypeError, match="static_argnames names"):
        br.jit(lambda x: x, static_argnames="size")


def test_arguments_of_every_kind():
    @br.jit
    def f(a, /, b, *rest, c=10.0, **named):
        return a + b * 2 + sum(rest) + c + named.get("d", 0.0)

    assert f(1.0, 2.0) == 15.0
    assert f(1.0, b=2.0, c=1.0) == 6.0
    assert f(1.0, 2.0, 3.0, 4.0, d=5.0) == 27.0


def test_wrong_arguments_raise_what_python_raises():
    f = br.jit(lambda a, b: a + b)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        f(1.0)


# ------------------------------------------------------------------------------------------------- what is captured


def test_a_captured_number_is_checked_at_each_call():
    factor = 2.0

    @br.jit
    def f(x):
        return x * factor

    close(f(X), 2 * X)
    factor = 3.0
    close(f(X), 3 * X)
    assert "'factor'" in f.stats().reasons[-1]
    factor = 2.0
    close(f(X), 2 * X)


LEVEL, TABLE, WEIGHTS = 1.0, {"scale": 2.0, "shift": [1.0]}, np.ones(3)


def test_a_global_is_checked_at_each_call(monkeypatch):
    f = br.jit(lambda x: x + LEVEL)
    close(f(X), X + 1)
    monkeypatch.setitem(globals(), "LEVEL", 5.0)
    close(f(X), X + 5)


def test_items_of_a_captured_container_are_checked(monkeypatch):
    f = br.jit(lambda x: x * TABLE["scale"] + TABLE["shift"][0])
    close(f(X), X * 2 + 1)
    monkeypatch.setitem(TABLE, "scale", 3.0)
    close(f(X), X * 3 + 1)
    monkeypatch.setitem(TABLE, "shift", [7.0])
    close(f(X), X * 3 + 7)


def test_a_name_bound_to_another_array(monkeypatch):
    f = br.jit(lambda x: x * WEIGHTS)
    close(f(X), X)
    monkeypatch.setitem(globals(), "WEIGHTS", np.array([1.0, 2.0, 3.0]))
    close(f(X), X * [1, 2, 3])
    assert f.stats().stagings == 1
    monkeypatch.setitem(globals(), "WEIGHTS", np.float32([2, 2, 2]))
    assert f(X.astype("f4")).dtype == np.float32
    monkeypatch.setitem(globals(), "WEIGHTS", np.ones((2, 3)))
    assert f(X).shape == (2, 3)


class Model:
    rate = 0.5

    def __init__(self):
        self.w = np.array([1.0, 2.0, 3.0])
        self.bias = 1.0
        self.count = 0

    def __call__(self, x):
        return x * self.w + self.bias

    @br.jit
    def scaled(self, x):
        return self.rate * x * self.w

    def update(self, g):
        self.w = self.w - self.rate * g
        self.count += 1
        return self.count

    @property
    def norm(self):
        return np.sqrt(np.sum(self.w**2))

    @staticmethod
    def double(x):
        return 2 * x

    @classmethod
    def with_rate(cls, x):
        return cls.rate * x


def test_attributes_are_checked():
    model = Model()
    f = br.jit(lambda x: model(x) + model.norm)
    close(f(X), model(X) + model.norm)
    model.w[0] = 5.0
    close(f(X), model(X) + model.norm)
    model.w = np.array([0.0, 1.0, 0.0])
    close(f(X), model(X) + model.norm)
    assert f.stats().stagings == 1
    model.bias = -2.0
    close(f(X), model(X) + model.norm)
    assert f.stats().stagings == 2


def test_attributes_of_classes_are_checked(monkeypatch):
    model = Model()
    f = br.jit(lambda x: Model.with_rate(x) + model.rate)
    close(f(X), 0.5 * X + 0.5)
    monkeypatch.setattr(Model, "rate", 2.0)
    close(f(X), 2 * X + 2)


def test_a_function_that_is_replaced(monkeypatch):
    f = br.jit(lambda x: smooth(x) + 1)
    close(f(X), smooth(X) + 1)
    monkeypatch.setitem(globals(), "smooth", lambda x: x[0])
    close(f(X), X[0] + 1)


class Slotted:
    __slots__ = ("scale", "w")

    def __init__(self):
        self.scale, self.w = 2.0, np.ones(3)

    def of(self, x):
        return x * self.scale + self.w


def test_slots_are_checked():
    one = Slotted()
    f = br.jit(lambda x: one.of(x))
    close(f(X), X * 2 + 1)
    one.scale = 3.0
    close(f(X), X * 3 + 1)
    one.w = np.zeros(3)
    close(f(X), X * 3)


def test_an_attribute_that_was_not_there():
    box = types.SimpleNamespace()

    class Box:
        pass

    other = Box()

    @br.jit
    def f(x):
        return x * getattr(other, "scale", 1.0) + (box.shift if hasattr(box, "shift") else 0.0)

    close(f(X), X)
    other.scale = 2.0
    close(f(X), 2 * X)
    box.shift = 1.0
    close(f(X), 2 * X + 1)


def test_defaults_are_checked():
    def inner(x, power=2):
        return x**power

    f = br.jit(lambda x: inner(x))
    close(f(X), X**2)
    inner.__defaults__ = (3,)
    close(f(X), X**3)


# ------------------------------------------------------------------------------------------------ what is callable


def test_methods_of_every_kind():
    model = Model()
    close(model.scaled(X), 0.5 * X * model.w)
    close(br.jit(model.__call__)(X), model(X))
    close(br.jit(model)(X), model(X))
    close(br.jit(Model.double)(X), 2 * X)
    close(br.jit(Model.with_rate)(X), 0.5 * X)
    close(br.jit(Model.__call__)(model, X), model(X))


def test_a_jitted_method_tells_instances_apart():
    one, two = Model(), Model()
    two.w = two.w * 10
    close(one.scaled(X), 0.5 * X * one.w)
    close(two.scaled(X), 0.5 * X * two.w)
    close(one.scaled(X), 0.5 * X * one.w)


def test_partials_and_decorated_functions():
    def weighted(w, x, power):
        return w * x**power

    def logged(function):
        @functools.wraps(function)
        def call(*arguments, **keywords):
            return function(*arguments, **keywords) + 1

        return call

    w = np.array([1.0, 2.0, 3.0])
    f = br.jit(functools.partial(weighted, w, power=2))
    close(f(X), w * X**2)
    w[:] = 1
    close(f(X), X**2)
    close(br.jit(logged(smooth))(X), smooth(X) + 1)
    close(br.jit(functools.lru_cache(lambda x: x * 2))(3.0), 6.0)


def test_lambdas_on_one_line():
    f, g = br.jit(lambda x: x + 1 if x > 0 else x - 1), br.jit(lambda x: x * 2 if x > 0 else x * 3)
    assert (f(1.0), f(-1.0), g(1.0), g(-1.0)) == (2.0, -2.0, 2.0, -3.0)


def test_builtins_and_ufuncs():
    close(br.jit(np.sin)(X), np.sin(X))
    close(br.jit(np.linalg.norm)(X), np.linalg.norm(X))
    assert br.jit(abs)(-2.0) == 2.0


def test_generators_are_refused():
    def numbers(x):
        yield x

    with pytest.raises(br.UnsupportedError, match="generator or coroutine is not staged; return a list"):
        br.jit(numbers)(1.0)


def test_generators_inside_are_fine():
    def halves(x):
        while x > 1:
            x = x / 2
            yield x

    f = br.jit(lambda x: sum(halves(x)))
    assert f(10.0) == sum(halves(10.0))
    assert f(100.0) == sum(halves(100.0))


def test_code_without_source():
    scope = {"np": np}
    exec("def f(x):\n    if x.sum() > 0:\n        return x * 2\n    return -x", scope)
    f = br.jit(scope["f"])
    close(f(X), 2 * X)
    close(f(-X), X)
    close(f(3 * X), 6 * X)
    assert (f.stats().stagings, f.stats().hits) == (2, 1)


def test_conversions_are_guarded():
    f = br.jit(lambda x: np.zeros(int(x[0])) + float(x[1]))
    for x in (np.array([2.0, 1.5]), np.array([3.0, 1.5]), np.array([2.0, 2.5])):
        close(f(x), np.zeros(int(x[0])) + float(x[1]))
    assert f.stats().guards >= 2


def test_many_paths_end_in_plain_python():
    scope = {}
    exec("def f(n):\n    return [0] * int(n)", scope)
    f = br.jit(scope["f"])
    for n in range(80):
        assert f(float(n)) == [0] * n
    assert f.stats().eager


# ------------------------------------------------------------------------------------------------ what it changes


def test_writes_to_arguments():
    @br.jit
    def f(x, y):
        x[0] = 5.0
        x[1:] += y
        return x.sum()

    for _ in range(2):
        a = X.copy()
        expected = [5.0, X[1] + 1, X[2] + 1]
        close(f(a, 1.0), sum(expected))
        close(a, expected)
    assert f.stats().hits == 1


def test_writes_through_views_of_arguments():
    x = np.zeros((3, 4))
    br.jit(lambda x: np.copyto(x, 1.0))(x[1:, ::2])
    close(x, [[0, 0, 0, 0], [1, 0, 1, 0], [1, 0, 1, 0]])


def test_arguments_that_share_memory():
    def f(x, y):
        x[0] = 10.0
        return y * 2

    for make in (lambda: (lambda a: (a, a))(X.copy()), lambda: (lambda a: (a[:2], a[0:]))(X.copy())):
        found, expected = make(), make()
        close(br.jit(f)(*found), f(*expected))
        close(found[0], expected[0])


def test_writes_to_captured_arrays():
    total = np.zeros(3)

    @br.jit
    def add(x):
        total[:] += x

    add(X)
    add(X)
    close(total, 2 * X)
    assert add.stats().stagings == 1


def test_items_of_argument_containers():
    @br.jit
    def step(state, log):
        state["x"] = state["x"] * 2
        state["new"] = state["x"].sum()
        del state["old"]
        log.append(state["new"])

    for scale in (1.0, 3.0):
        state, log = {"x": X * scale, "old": 1.0}, []
        step(state, log)
        assert list(state) == ["x", "new"]
        close(state["x"], 2 * scale * X)
        close(log, [np.sum(2 * scale * X)])


def test_one_container_as_two_arguments():
    def f(a, b):
        a["x"] = a["x"] + 1
        return b["x"] * 2

    d, e = {"x": X}, {"x": X}
    close(br.jit(f)(d, d), f(e, e))
    close(d["x"], e["x"])


def test_attributes_of_arguments_and_captured_objects():
    model, other = Model(), Model()
    f = br.jit(lambda m, g: m.update(g))
    for g in (X, 2 * X, 3 * X):
        assert f(model, g) == other.update(g)
        close(model.w, other.w)
    captured = br.jit(lambda g: model.update(g))
    for g in (X, 2 * X):
        assert captured(g) == other.update(g)
        close(model.w, other.w)
    assert isinstance(model.w, np.ndarray)


def test_fields_of_dataclasses():
    @br.jit
    def move(state, v):
        state.position = state.position + v
        state.steps += 1
        return state

    state = State(X.copy())
    found = move(state, 1.0)
    close(state.position, X + 1)
    close(found.position, X + 1)
    assert (state.steps, found.steps) == (1, 1)


def test_captured_containers():
    history, cache, seen = [], {}, set()

    @br.jit
    def f(x, name):
        history.append(x.sum())
        cache[name] = x * 2
        seen.add(name)
        return x

    f(X, "a")
    f(2 * X, "a")
    f(X, "b")
    close(history, [X.sum(), 2 * X.sum(), X.sum()])
    assert seen == {"a", "b"}
    close(cache["a"], 4 * X)
    close(cache["b"], 2 * X)


def test_a_container_changed_by_a_function_in_c():
    import heapq

    heap = [3.0, 5.0]
    br.jit(lambda x: heapq.heappush(heap, x))(1.0)
    assert heap == [1.0, 5.0, 3.0]


def test_a_bound_method_of_a_captured_list():
    log = []
    note = log.append
    f = br.jit(lambda x: note(x * 2))
    f(1.0)
    f(2.0)
    assert log == [2.0, 4.0]


def test_variables_of_functions_around():
    count, total = 0, np.zeros(3)

    @br.jit
    def f(x):
        nonlocal count, total
        count += 1
        total = total + x
        return total.sum() * count

    close([f(X), f(X), f(2 * X)], [X.sum(), 4 * X.sum(), 12 * X.sum()])
    assert count == 3
    close(total, 4 * X)


COUNTER, CARRIED = 0, np.zeros(3)


def test_global_variables():
    def f(x):
        global COUNTER, CARRIED
        COUNTER += 1
        CARRIED = CARRIED + x
        return CARRIED.sum()

    g = br.jit(f)
    close([g(X), g(X)], [X.sum(), 2 * X.sum()])
    assert COUNTER == 2
    close(CARRIED, 2 * X)


class Counter:
    calls = 0


def test_attributes_of_classes():
    @br.jit
    def f(x):
        Counter.calls += 1
        return x * Counter.calls

    assert [f(1.0), f(1.0), f(2.0)] == [1.0, 2.0, 6.0]
    assert Counter.calls == 3


def test_attributes_of_functions():
    def helper(x):
        helper.calls += 1
        return x * helper.calls

    helper.calls = 0
    f = br.jit(lambda x: helper(x))
    assert [f(1.0), f(1.0), f(1.0)] == [1.0, 2.0, 3.0]


def test_what_is_stored_may_be_the_argument_itself():
    box = types.SimpleNamespace()

    @br.jit
    def keep(x):
        box.kept = x

    a, b = X.copy(), 2 * X
    keep(a)
    assert box.kept is a
    keep(b)
    assert box.kept is b


def test_a_cache_that_fills_itself():
    model = Model()

    def f(x):
        if not hasattr(model, "cached"):
            model.cached = x * 2
        return model.cached + x

    g = br.jit(f)
    close([g(X), g(2 * X)], [3 * X, 4 * X])


def test_objects_made_inside():
    class Pair:
        def __init__(self, a, b):
            self.a, self.b = a, b

        def total(self):
            return self.a + self.b

    f = br.jit(lambda x: Pair(x, [x * 2]))
    first, second = f(X), f(2 * X)
    assert type(first) is Pair
    close(first.a, X)
    close(second.b[0], 4 * X)
    close(br.jit(lambda x: Pair(x, 2 * x).total())(X), 3 * X)


def test_functions_that_come_out_run_plainly():
    f = br.jit(lambda x: lambda y: x * y)
    assert f(2.0)(3.0) == 6.0
    assert list(br.jit(lambda x: zip(x, x, strict=True))(X)) == list(zip(X, X, strict=True))


# -------------------------------------------------------------------------------------------------------- errors


def test_errors_keep_their_class_and_the_users_line():
    def check(x):
        if x < 0:
            raise ValueError(f"negative: {x}")
        return np.sqrt(x)

    f = br.jit(check)
    assert f(4.0) == 2.0
    with pytest.raises(ValueError, match=r"^negative: -1.0$") as raised:
        f(-1.0)
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert frames[-1].name == "check"
    assert "raise ValueError" in frames[-1].line
    assert f(9.0) == 3.0
    assert f.stats().stagings == 1


def test_assertions_show_values():
    def f(x):
        assert x > 0, f"{x:.1f} is not positive"
        return x

    g = br.jit(f)
    assert g(1.0) == 1.0
    with pytest.raises(AssertionError, match=r"-2\.0 is not positive"):
        g(-2.0)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda x: x @ np.ones(4), ValueError),
        (lambda x: x[7], IndexError),
        (lambda x: x.reshape(2, 2), ValueError),
        (lambda x: np.linalg.inv(np.zeros((3, 3)) * x), np.linalg.LinAlgError),
        (lambda x: {}["missing"], KeyError),
        (lambda x: x.nothing, AttributeError),
        (lambda x: undefined, NameError),  # noqa: F821
        (lambda x: x + "text", TypeError),
        (lambda x: 1 / (float(x[0]) - 0.7), ZeroDivisionError),
    ],
)
def test_errors_are_those_of_python(function, error):
    with pytest.raises(error) as expected:
        function(X)
    f = br.jit(function)
    for _ in range(2):
        with pytest.raises(error) as found:
            f(X)
        assert str(found.value) == str(expected.value)


def test_an_error_in_a_loop():
    def f(xs):
        total = 0.0
        for x in xs:
            if x > 10:
                raise OverflowError(f"{x} after {total}")
            total += x
        return total

    g = br.jit(f)
    assert g(np.arange(5.0)) == 10.0
    with pytest.raises(OverflowError, match=r"11\.0 after 55\.0"):
        g(np.arange(20.0))
    assert g(np.arange(5.0)) == 10.0


def test_writes_before_an_error_are_made():
    def f(x):
        x[0] = 9.0
        if x[1] < 0:
            raise ValueError("negative")

    x = X.copy()
    with pytest.raises(ValueError, match="negative"):
        br.jit(f)(x)
    assert x[0] == 9.0


def test_random_state_is_refused():
    with pytest.raises(br.UnsupportedError, match="would draw once"):
        br.jit(lambda x: x + np.random.rand())(1.0)


# ---------------------------------------------------------------------------------------------------- what it says


def test_stats_give_reasons():
    threshold = 1.0
    f = br.jit(lambda x: x * threshold)
    f(X)
    f(X)
    f(np.ones(4))
    threshold = 2.0
    f(X)
    stats = f.stats()
    assert (stats.stagings, stats.hits, stats.eager) == (3, 1, 0)
    assert stats.reasons[0] == "the first call"
    assert "float64[4]" in stats.reasons[1]
    assert "'threshold' changed from 1.0 to 2.0" in stats.reasons[2]


def test_explain_tells_what_becomes_of_each_line():
    def f(x, n):
        total = 0.0
        for v in x:
            total += v
        if total > 3:
            total = -total
        return np.zeros(int(n)) + total

    text = br.jit(f).explain(np.arange(10.0), 3.0)
    first = f.__code__.co_firstlineno
    assert f":{first + 2}, in f: for: staged as a loop" in text
    assert f":{first + 4}, in f: if: staged as a branch" in text
    assert f":{first + 6}, in f: guarded" in text


def test_explain_goes_by_lines_and_says_what_to_do():
    def f(x, names, n):
        y = x[:1]
        for i in range(6):
            y = np.concatenate([y, x[i : i + 1]])
        if x.sum() > 0:
            z = np.ones(3)
        else:
            z = np.ones(2)
        while y[0] > 1:
            y = y / 2
        assert y[0] > -100
        return y, z, names[n]

    first = f.__code__.co_firstlineno
    told = br.jit(f).explain(np.ones(8), ("a", "b"), 1).splitlines()[1:]
    lines = [int(re.search(r":(\d+)", line)[1]) - first for line in told]
    assert lines == sorted(lines)
    by_line = {n: [line for m, line in zip(lines, told, strict=True) if m == n] for n in lines}
    assert by_line[2][0].endswith("changes its shape from (1,) to (2,). Write into an array of the largest shape.")
    assert any("the variable 'z' changes its shape" in line for line in by_line[4])
    assert "while: staged as a loop" in by_line[8][0]
    assert "an error: raised when the program runs" in by_line[10][0]
    assert "guarded; calls with another value than 1 stage again" in by_line[11][0]


def test_explain_of_what_cannot_be_staged():
    def f(x):
        return np.asarray(memoryview(x)).sum()

    told = br.jit(f).explain(np.ones(3))
    assert "runs as plain Python, because" in told
    assert "TypeError: memoryview" in told
    assert f"test_jit.py:{f.__code__.co_firstlineno}" in told


def test_it_keeps_name_signature_and_docstring():
    def f(x, *, scale=2):
        """Scales."""
        return x * scale

    g = br.jit(f)
    assert (g.__name__, g.__doc__) == ("f", "Scales.")
    assert "scale" in str(__import__("inspect").signature(g))


def test_jit_as_a_decorator_with_options():
    @br.jit(static_argnames="n")
    def f(x, n):
        return x * n

    close(f(X, n=3), 3 * X)


# ------------------------------------------------------------------------------------------ with other transformations


def test_disable_jit():
    calls = []

    @br.jit
    def f(x):
        calls.append(type(x))
        return x * 2

    with br.disable_jit():
        close(f(X), 2 * X)
    assert calls == [np.ndarray]
    assert f.stats().stagings == 0


def test_jit_in_jit():
    @br.jit
    def inner(x):
        return np.sin(x) * 2

    f = br.jit(lambda x: inner(x) + inner(2 * x))
    close(f(X), inner(X) + inner(2 * X))
    close(br.grad(lambda x: f(x).sum())(X), 2 * np.cos(X) + 4 * np.cos(2 * X))


def test_a_gradient_of_jit_does_not_stage_again():
    f = br.jit(lambda x: np.sum(np.sin(x) ** 2))
    g = br.grad(f)
    for scale in (1.0, 2.0, 3.0):
        close(g(scale * X), np.sin(2 * scale * X))
    assert f.stats().stagings == 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: br.jit(br.grad(br.jit(f))),
        lambda f: br.grad(br.jit(br.jit(f))),
        lambda f: br.jit(lambda x: br.vjp(br.jit(f), x)[1](1.0)[0]),
        lambda f: lambda x: np.array([br.jvp(br.jit(f), (x,), (v,))[1] for v in np.eye(3)]),
    ],
)
def test_nested_derivatives(wrap):
    close(wrap(smooth)(X), br.grad(smooth)(X))


def test_second_derivatives():
    close(br.hessian(br.jit(smooth))(X), br.hessian(smooth)(X))
    close(br.jit(br.hessian(smooth))(X), br.hessian(smooth)(X))
    twice = br.jit(br.grad(lambda x: np.sum(br.grad(br.jit(smooth))(x) ** 2)))
    close(twice(X), 2 * br.hessian(smooth)(X) @ br.grad(smooth)(X))


def test_vmap_in_jit_in_vmap():
    rows = np.arange(12.0).reshape(4, 3)
    f = br.vmap(br.jit(br.vmap(lambda x: x * 2 if x > 3 else -x)))
    close(f(rows), np.where(rows > 3, 2 * rows, -rows))


def test_custom_rules_survive():
    @br.custom_vjp
    def clipped(x):
        return x * 1.0

    clipped.defvjp(lambda x: (clipped(x), None), lambda kept, ct: (np.clip(ct, -1, 1),))

    def loss(x):
        return np.sum(clipped(x) * 10)

    close(br.grad(br.jit(loss))(X), np.ones(3))
    close(br.jit(br.grad(loss))(X), np.ones(3))
    close(br.jit(br.grad(br.jit(loss)))(X), np.ones(3))


def test_checkpoint_survives():
    def f(x):
        return np.sum(br.checkpoint(lambda x: np.sin(np.sin(x)))(x))

    expected = br.grad(lambda x: np.sum(np.sin(np.sin(x))))(X)
    close(br.grad(br.jit(f))(X), expected)
    close(br.jit(br.grad(f))(X), expected)


def test_donated_arguments():
    f = br.jit(lambda x, y: x + y, donate_argnums=0)
    a = X.copy()
    close(f(a, 1.0), X + 1)
    close(f(X.copy(), 2.0), X + 2)


def test_dynamic_lengths_stage_once():
    @functools.partial(br.jit, dynamic=True)
    def f(x):
        total = 0.0
        for v in x:
            total += v * v
        return total / len(x)

    for n in range(2, 12):
        x = np.arange(float(n))
        close(f(x), np.mean(x * x))
    assert f.stats().stagings == 1


def test_many_shapes_are_told_about_dynamic():
    f = br.jit(lambda x: x + 1)

    def call() -> None:
        for n in range(1, 6):
            f(np.ones(n))

    with pytest.warns(UserWarning, match="dynamic=True"):
        call()


def test_threads_may_share_a_function():
    from concurrent.futures import ThreadPoolExecutor

    f = br.jit(lambda x: np.sum(np.sin(x) * x))
    with ThreadPoolExecutor(4) as pool:
        for x, found in zip(range(20), pool.map(lambda n: f(X * n), range(20)), strict=True):
            close(found, smooth(X * x))


class Simulation:
    def __init__(self):
        self.time, self.state = 0.0, {"n": 0, "x": np.zeros(3)}

    @br.jit
    def step(self, v):
        self.time += 0.5
        self.state["n"] += 1
        self.state["x"] = self.state["x"] + self.time * v


def test_numbers_that_change_become_inputs():
    one, two = Simulation(), Simulation()
    for _ in range(20):
        one.step(X)
        with br.disable_jit():
            two.step(X)
    assert (one.time, one.state["n"]) == (two.time, two.state["n"]) == (10.0, 20)
    close(one.state["x"], two.state["x"])
    assert Simulation.step.stats().stagings <= 4


def test_attributes_of_modules():
    module = types.ModuleType("settings")
    module.scale, module.calls = 2.0, 0

    @br.jit
    def f(x):
        module.calls += 1
        return x * module.scale

    close(f(X), 2 * X)
    module.scale = 3.0
    close(f(X), 3 * X)
    close(f(X), 3 * X)
    assert module.calls == 3


@pytest.mark.filterwarnings("error", "ignore::PendingDeprecationWarning")
@pytest.mark.parametrize(
    ("f", "argument"),
    [
        (lambda x: x.sum(), np.ma.array([1.0, 2.0], mask=[False, True])),
        (lambda x: x * x, np.matrix([[1.0, 2.0], [3.0, 4.0]])),
        (lambda x: x + np.timedelta64(1, "D"), np.array(["2020-01-01"], dtype="M8[D]")),
        (lambda x: x["a"] * 2, np.array([(1.0, 2)], dtype=[("a", float), ("b", int)])),
        (lambda x: x == "a", np.array(["a", "b"])),
        (lambda x: x + x, np.array([1, "a"], dtype=object)),
    ],
)
def test_arrays_that_no_program_works_on(f, argument):
    g = br.jit(f)
    for _ in range(2):
        found, expected = g(argument), f(argument)
        assert type(found) is type(expected)
        assert np.array_equal(found, expected)
    assert (g.stats().stagings, g.stats().eager) == (0, 2)
    assert "runs as plain Python" in g.explain(argument)


def test_a_backend_that_is_not_there():
    with pytest.raises(ValueError, match="no backend 'gpu'; there are interpreter, native"):
        br.jit(lambda x: x, backend="gpu")


def decided_by_a_rounded_number(x):
    s = float(np.sum(np.sin(x) * np.exp(x)))
    return x * {s: 2.0}[s]


@pytest.mark.parametrize("seed", range(4))
def test_a_number_that_machine_code_rounds_another_way(seed):
    x = np.random.default_rng(seed).normal(size=100)
    g = br.jit(decided_by_a_rounded_number)
    for _ in range(3):
        np.testing.assert_array_equal(g(x), 2 * x)
    assert (g.stats().stagings, g.stats().hits) == (1, 2)
    np.testing.assert_array_equal(
        br.grad(lambda x: np.sum(br.jit(decided_by_a_rounded_number)(x)))(x), np.full(100, 2.0)
    )
    np.testing.assert_array_equal(br.jit(lambda x: br.jit(decided_by_a_rounded_number)(x) + 1)(x), 2 * x + 1)


def a_part_of_a_written_array_in_a_variable(x):
    a, t = x.copy(), x[0].copy()
    for i in range(len(a)):
        a[i, 0] = np.sin(a[i, 0])
        t = a[i]
    return np.sum(a) + t[0]


def test_what_a_graph_cannot_carry_is_not_looked_at():
    x = np.random.default_rng(0).normal(size=(6, 3))
    g = br.jit(a_part_of_a_written_array_in_a_variable)
    np.testing.assert_allclose(g(x), a_part_of_a_written_array_in_a_variable(x), rtol=1e-12)
    np.testing.assert_allclose(g(2 * x), a_part_of_a_written_array_in_a_variable(2 * x), rtol=1e-12)
    assert (g.stats().stagings, g.stats().guards) == (1, 0)
    assert "the variable 't'" in g.explain(x)
