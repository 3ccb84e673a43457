"""Objects that lifted code captures, and what they hold: layers in lists, tables, containers, derivatives within."""

from __future__ import annotations

import collections
import copy
import types
import typing
import weakref
from dataclasses import dataclass, field

import numpy as np
import pytest

import bindrune as br
from user_programs import POINT, Program, agrees, collected, lanes_agree

PROGRAMS: list[Program] = []
WITHOUT_LANES: list[Program] = []
"""Programs that write arrays which all lanes share."""
program = collected(PROGRAMS)
without_lanes = collected(WITHOUT_LANES)


class Doubling:
    def __init__(self, v):
        self.v = np.full(2, v)

    def value(self):
        return self.v.sum() * 2


class Dense:
    def __init__(self, n, seed):
        self.w = np.random.default_rng(seed).normal(size=(n, n))
        self.b = np.zeros(n)
        self.f = np.tanh

    def __call__(self, x):
        out = np.zeros(len(x))
        for i in range(len(x)):
            out[i] = self.w[i] @ x + self.b[i]
        return self.f(out)


class Net:
    def __init__(self):
        self.layers = [Dense(3, 0), Dense(3, 1)]
        self.last = {"square": lambda v: np.square(v), "none": None}

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.last["square"](x)


NET = Net()
LAYERS = (Dense(3, 0), Dense(3, 1))


@program
def objects_in_attributes(x):
    return NET.forward(x).sum()


@program
def objects_in_tuples(x):
    for layer in LAYERS:
        x = layer(x)
    return x.sum()


@program
def objects_made_and_updated(x):
    net = Net()
    for layer in net.layers:
        layer.w -= 0.1 * np.outer(x, x)
        layer.b[:] = x
    return net.forward(x).sum()


@program
def captured_objects_updated(x):
    before = [layer.w.copy() for layer in NET.layers]
    for layer in NET.layers:
        layer.w = layer.w * x[0]
    found = NET.forward(x).sum()
    for layer, w in zip(NET.layers, before, strict=True):
        layer.w = w
    return found


@program
def copies_of_objects(x):
    deep, shallow = copy.deepcopy(NET), copy.copy(NET)
    deep.layers[0].w[0] = x
    shallow.extra = x
    assert not hasattr(NET, "extra")
    return deep.forward(x).sum() + NET.forward(x).sum() + shallow.extra.sum()


SEEN, KNOWN = {NET: 2.0}, {NET}
WEAK = weakref.WeakKeyDictionary({NET: 3.0})


@program
def objects_as_keys(x):
    assert NET in KNOWN
    return SEEN[NET] * WEAK[NET] * x.sum()


NAMESPACE = types.SimpleNamespace(w=np.ones(3), fs=[lambda v: np.full(1, v)[0]], n=0)
PARAMETERS = [np.ones(3), np.ones(3)]
ALIAS = PARAMETERS[0]
QUEUE = collections.deque([np.ones(2), 3.0], maxlen=5)
FACTORY = collections.defaultdict(lambda: np.zeros(2))
DOT = ALIAS.dot


@without_lanes
def captured_containers(x):
    NAMESPACE.n += 1
    NAMESPACE.w[0] = x[0]
    ALIAS[0] = x[0]
    QUEUE[0][0] = x[0]
    FACTORY["k"][0] = x[1]
    found = NAMESPACE.w.sum() * NAMESPACE.fs[0](x[1]) + PARAMETERS[0].sum() ** 2 + QUEUE[0].sum() * x[1]
    found = found + FACTORY["k"].sum() ** 2 + DOT(x)
    NAMESPACE.w[0] = ALIAS[0] = QUEUE[0][0] = 1.0
    FACTORY.clear()
    return found


@dataclass
class Line:
    w: typing.Any
    b: typing.Any
    name: str = field(default="line", metadata={"static": True})

    def loss(self, x):
        z = np.zeros(1)
        z[0] = (self.w * x).sum() + self.b
        return z[0] ** 2

    def step(self, g, rate):
        return Line(self.w - rate * g.w, self.b - rate * g.b)


@program
def training(x):
    line = Line(np.ones(3), 0.5)
    for _ in range(3):
        line = line.step(br.grad(lambda each: each.loss(x))(line), 0.01)
    return line.loss(x)


@program
def nested_transformations_of_methods(x):
    class Energy:
        def __init__(self, v):
            self.v, self.buf = v, np.zeros(3)

        def of(self, y):
            self.buf[:] = y * self.v
            return (self.buf**2).sum()

    energy = Energy(x[0])
    return br.grad(energy.of)(x).sum() + br.vmap(lambda t: energy.v * t * t)(x).sum()


@program
def lanes_inside(x):
    outside = Doubling(x[0])

    def f(t):
        made = Doubling(t)
        if t > 1:
            made.v[0] = x[0]
            return made.value() * outside.value()
        return made.value()

    return br.vmap(f)(x).sum()


class Place(typing.NamedTuple):
    a: typing.Any
    b: typing.Any

    def product(self):
        return np.full(1, self.a * self.b)[0]


class Node:
    def __init__(self, value, children=()):
        self.value, self.children = value, list(children)

    def product(self):
        z = np.zeros(1)
        z[0] = self.value
        for child in self.children:
            z[0] *= child.product()
        return z[0]


@program
def trees_of_objects(x):
    return Node(x[0], [Node(x[1]), Node(x[2], [Node(x[0])])]).product()


class Value:
    """A reverse mode of its own, in the manner of teaching examples."""

    def __init__(self, data, children=()):
        self.data, self.grad, self.children, self.back = data, 0.0, children, lambda: None

    def __add__(self, other):
        out = Value(self.data + other.data, (self, other))

        def back():
            self.grad += out.grad
            other.grad += out.grad

        out.back = back
        return out

    def __mul__(self, other):
        out = Value(self.data * other.data, (self, other))

        def back():
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad

        out.back = back
        return out

    def backward(self):
        order, seen = [], set()

        def visit(v):
            if v not in seen:
                seen.add(v)
                for child in v.children:
                    visit(child)
                order.append(v)

        visit(self)
        self.grad = 1.0
        for v in reversed(order):
            v.back()


@program
def another_differentiator(x):
    a, b = Value(x[0]), Value(x[1])
    (a * b + a * a).backward()
    return a.grad * 2 + b.grad


class OnTheRight:
    def __init__(self, v):
        self.v = v

    def __radd__(self, other):
        return OnTheRight(other + self.v)

    def __rmul__(self, other):
        return OnTheRight(other * self.v)


@program
def reflected_operators_see_stand_ins(x):
    return (x[0] + OnTheRight(2.0)).v ** 2 + (x[1] * OnTheRight(x[0])).v


@pytest.mark.parametrize("f", PROGRAMS + WITHOUT_LANES, ids=lambda f: f.__name__)
def test_derivatives_agree_with_differences(f):
    agrees(f)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_lanes_agree_with_a_loop(f):
    lanes_agree(f)


def test_captured_objects_hold_plain_arrays_afterwards():
    class Kept:
        def __init__(self):
            self.w = np.ones(2)

        def go(self, x):
            self.fresh = np.zeros(2)
            self.w[0] = 3.0
            return (self.w * x).sum()

    kept = Kept()
    np.testing.assert_array_equal(br.grad(kept.go)(np.ones(2)), [3.0, 1.0])
    assert type(kept.fresh) is np.ndarray
    np.testing.assert_array_equal(kept.w, [3.0, 1.0])
    np.testing.assert_array_equal(br.grad(kept.go)(np.ones(2)), [3.0, 1.0])


def test_classes_that_change_between_calls_are_seen():
    class Scaled:
        factor = np.array(2.0)

        def of(self, x):
            return x * self.factor

    def f(x):
        return Scaled().of(x)

    g = br.grad(f)
    assert g(1.0) == 2.0
    Scaled.factor = np.array(5.0)
    assert g(1.0) == 5.0
    Scaled.of = lambda self, x: x * x
    assert g(3.0) == 6.0


def test_class_attributes_that_change_between_calls_are_seen():
    class Settings:
        rate = 2.0

    settings = Settings()
    g = br.grad(lambda x: x * settings.rate)
    assert g(1.0) == 2.0
    Settings.rate = 3.0
    assert g(1.0) == 3.0
    Settings.rate = np.array(4.0)
    assert g(1.0) == 4.0


def test_containers_that_change_between_calls_are_seen():
    layers = [Dense(3, 0)]

    def f(x):
        for layer in layers:
            x = layer(x)
        return x.sum()

    g = br.grad(f)
    first = g(POINT)
    layers.append(Dense(3, 1))
    assert not np.allclose(g(POINT), first)
    agrees(f)


def test_what_is_appended_to_a_captured_list_of_objects_stays():
    found = [Doubling(1.0)]

    def f(x):
        found.append(found[0])
        return x * found[0].value()

    assert br.grad(f)(2.0) == 4.0
    assert found[1] is found[0]
    assert len(found) == 2


def test_results_are_of_the_users_classes():
    def f(x):
        return x.sum(), {"line": Line(x * 2, x[0]), "point": Place(x, 1.0)}

    _, aux = br.grad(f, has_aux=True)(POINT)
    assert type(aux["line"]) is Line
    assert type(aux["point"]) is Place
    np.testing.assert_array_equal(aux["line"].w, POINT * 2)


def test_a_pullback_does_not_share_what_an_object_was_given():
    class Keeps:
        def of(self, x):
            self.weights = np.full(2, 3.0)
            return self.weights * x

    keeps = Keeps()
    _, pullback = br.vjp(keeps.of, np.ones(2))
    keeps.weights[:] = 0.0
    np.testing.assert_array_equal(pullback(np.ones(2))[0], [3.0, 3.0])


def test_containers_of_many_arrays_are_data():
    data = [np.full(2, float(i)) for i in range(1000)]
    first = data[0]

    def reads(x):
        return sum((x * each).sum() for each in data[:3])

    np.testing.assert_array_equal(br.grad(reads)(np.ones(2)), [3.0, 3.0])

    def writes(x):
        first[0] = x[0]
        return (data[0] * x).sum()

    with pytest.raises(br.MutationError, match="shares memory"):
        br.grad(writes)(np.ones(2))
