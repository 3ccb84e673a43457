"""Structured arguments and results: every container Python offers, under every transformation."""

import dataclasses
from collections import OrderedDict, defaultdict, deque
from typing import Any, NamedTuple

import numpy as np
import optree
import pytest

import bindrune as br
from expect import close


class Line(NamedTuple):
    slope: Any
    offset: Any


@dataclasses.dataclass
class Layer:
    weight: Any
    bias: Any


@dataclasses.dataclass(frozen=True)
class FrozenLayer:
    weight: Any
    bias: Any


@dataclasses.dataclass
class NamedLayer:
    weight: Any
    bias: Any
    name: str = dataclasses.field(default="dense", metadata={"static": True})


class Interval:
    """A class registered with optree."""

    def __init__(self, low, high):
        self.low, self.high = low, high


optree.register_pytree_node(
    Interval, lambda i: ((i.low, i.high), None, ("low", "high")), lambda _, ends: Interval(*ends), namespace="bindrune"
)

A, B = np.array([1.0, -2, 3]), np.array([0.5, 4, -1])

CONTAINERS = {
    "dict": (lambda a, b: {"a": a, "b": b}, lambda t: (t["a"], t["b"])),
    "list": (lambda a, b: [a, b], tuple),
    "tuple": (lambda a, b: (a, b), tuple),
    "namedtuple": (Line, lambda t: (t.slope, t.offset)),
    "OrderedDict": (lambda a, b: OrderedDict(z=a, y=b), lambda t: (t["z"], t["y"])),
    "defaultdict": (lambda a, b: defaultdict(list, a=a, b=b), lambda t: (t["a"], t["b"])),
    "deque": (lambda a, b: deque([a, b]), tuple),
    "nested": (lambda a, b: {"x": [a, (None, {"y": b})]}, lambda t: (t["x"][0], t["x"][1][1]["y"])),
    "with-None": (lambda a, b: {"a": a, "none": None, "b": b}, lambda t: (t["a"], t["b"])),
    "dataclass": (Layer, lambda t: (t.weight, t.bias)),
    "frozen-dataclass": (FrozenLayer, lambda t: (t.weight, t.bias)),
    "dataclass-with-static-field": (lambda a, b: NamedLayer(a, b, "out"), lambda t: (t.weight, t.bias)),
    "dataclass-in-a-dict": (lambda a, b: {"layer": Layer(a, [b])}, lambda t: (t["layer"].weight, t["layer"].bias[0])),
    "registered-class": (Interval, lambda t: (t.low, t.high)),
}


@pytest.fixture(params=CONTAINERS)
def container(request):
    """How to build a container of two arrays, and how to take them out."""
    return CONTAINERS[request.param]


def assert_alike(found, expected):
    """The same kind of container, all the way down."""
    assert optree.tree_structure(found, namespace="bindrune") == optree.tree_structure(expected, namespace="bindrune")
    assert type(found) is type(expected)


def test_gradient_has_the_structure_of_the_argument(container):
    build, take = container

    def loss(tree):
        a, b = take(tree)
        return np.sum(a * a * b)

    gradient = br.grad(loss)(build(A, B))
    assert_alike(gradient, build(A, B))
    by_a, by_b = take(gradient)
    close(by_a, 2 * A * B)
    close(by_b, A * A)


def test_value_and_pullback_have_the_structure_of_the_result(container):
    build, take = container
    value, pullback = br.vjp(lambda a, b: build(a * b, b * 2), A, B)
    assert_alike(value, build(A, B))
    close(take(value)[0], A * B)
    by_a, by_b = pullback(build(np.ones(3), np.ones(3)))
    close(by_a, B)
    close(by_b, A + 2)


def test_tangents_have_the_structure_of_the_argument(container):
    build, take = container

    def scaled(tree):
        a, b = take(tree)
        return build(a * b, b * 2)

    value, tangent = br.jvp(scaled, (build(A, B),), (build(np.ones(3), A),))
    assert_alike(tangent, value)
    close(take(tangent)[0], B + A * A)
    close(take(tangent)[1], 2 * A)


def test_lanes_of_a_tree(container):
    build, take = container

    def scaled(tree):
        a, b = take(tree)
        assert a.shape == b.shape == ()
        return build(a * b, b * 2)

    found = br.vmap(scaled)(build(A, B))
    assert_alike(found, build(A, B))
    close(take(found)[0], A * B)
    close(take(found)[1], 2 * B)


def test_static_fields_are_kept():
    gradient = br.grad(lambda layer: np.sum(layer.weight) if layer.name == "out" else 0.0)(NamedLayer(A, B, "out"))
    assert gradient.name == "out"
    close(gradient.weight, np.ones(3))
    close(gradient.bias, np.zeros(3))


def test_a_dataclass_with_methods():
    @dataclasses.dataclass
    class Affine:
        weight: Any
        bias: Any

        def __call__(self, x):
            return np.sum(np.array([self.weight * x, self.bias]))

    gradient = br.grad(lambda f: f(3.0))(Affine(2.0, 1.0))
    close(gradient.weight, 3)
    close(gradient.bias, 1)


# ------------------------------------------------------------------------------------------------------------ leaves


@pytest.mark.parametrize("x", [2.0, np.float64(2), np.float32(2), np.array(2.0)], ids=lambda x: type(x).__name__)
def test_a_number_has_a_gradient_of_its_kind(x):
    gradient = br.grad(lambda x: x * x * 3)(x)
    assert gradient.shape == ()
    assert gradient.dtype == np.asarray(x).dtype
    assert isinstance(gradient, np.ndarray) == isinstance(x, np.ndarray)
    close(gradient, 12)


def test_a_list_of_numbers_is_a_tree_of_numbers():
    gradient = br.grad(lambda xs: xs[0] * xs[1] + sum(xs))([2.0, 3.0, 4.0])
    assert isinstance(gradient, list)
    close(gradient, [4, 3, 1])


def test_a_list_of_numbers_used_as_an_array():
    close(br.grad(lambda xs: np.sum(np.array(xs) ** 2))([2.0, 3.0]), [4, 6])
    close(br.grad(lambda xs: np.sum(np.sin(xs)))([0.0, 0.0]), [1, 1])


def test_an_empty_tree():
    assert br.grad(lambda tree: 2.0)({}) == {}
    assert br.grad(lambda tree: 2.0)(None) is None


def test_results_do_not_alias_arguments():
    value, pullback = br.vjp(lambda x: x, A)
    cotangent = np.ones(3)
    gradient = pullback(cotangent)[0]
    gradient[:] = 7
    value[:] = 7
    close(cotangent, np.ones(3))
    close(A, [1, -2, 3])


def test_gradients_of_several_leaves_are_several_arrays():
    by_a, by_b = br.grad(lambda a, b: np.sum((a + b) ** 2), argnums=(0, 1))(A, B)
    by_a[:] = 7
    close(by_b, 2 * (A + B))
    _, (tangent, other) = br.jvp(lambda x: (x + 1, x + 2), (A,), (np.ones(3),))
    tangent[:] = 7
    close(other, np.ones(3))


# ------------------------------------------------------------------------------------------------ choosing arguments


def product(a, b, c=1.0):
    return np.sum(a * b * c)


def test_argnums_one_several_negative():
    close(br.grad(product)(A, B), B)
    close(br.grad(product, argnums=1)(A, B), A)
    close(br.grad(product, argnums=-1)(A, B), A)
    several = br.grad(product, argnums=(1, 0))(A, B)
    assert isinstance(several, tuple)
    close(several[0], A)
    close(several[1], B)
    single = br.grad(product, argnums=(0,))(A, B)
    assert isinstance(single, tuple)
    assert len(single) == 1


def test_argnames():
    close(br.grad(product, argnames="b")(A, b=B), A)
    close(br.grad(product, argnames="b")(A, B), A)
    by_b, by_c = br.grad(product, argnames=("b", "c"))(A, b=B, c=2.0)
    close(by_b, 2 * A)
    close(by_c, A @ B)
    by_a, by_b = br.grad(product, argnums=0, argnames="b")(A, b=B)
    close(by_a, B)
    close(by_b, A)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"argnums": 2}, "argnums=2, but the call has 2 positional arguments"),
        ({"argnums": -3}, "argnums=-3"),
        ({"argnames": "z"}, "argnames='z'"),
    ],
)
def test_an_argument_that_is_not_there(chosen, message):
    with pytest.raises(TypeError, match=message):
        br.grad(product, **chosen)(A, B)


# --------------------------------------------------------------------------------------------------------- has_aux


def test_aux_is_taken_out_untouched():
    def loss(x):
        return np.sum(x * x), {"name": "aux", "squares": x * x, "count": 3, "nothing": None}

    gradient, aux = br.grad(loss, has_aux=True)(A)
    close(gradient, 2 * A)
    assert aux["name"] == "aux"
    assert aux["count"] == 3
    assert aux["nothing"] is None
    assert type(aux["squares"]) is np.ndarray
    close(aux["squares"], A * A)
    assert br.vjp(loss, A, has_aux=True)[2]["count"] == 3
    value, tangent, aux = br.jvp(loss, (A,), (np.ones(3),), has_aux=True)
    close(value, 14)
    close(tangent, 4)
    close(aux["squares"], A * A)


def test_aux_needs_a_pair():
    with pytest.raises(TypeError, match="has_aux=True"):
        br.grad(lambda x: np.sum(x), has_aux=True)(A)
    with pytest.raises(TypeError, match="has_aux=True"):
        br.jvp(lambda x: np.sum(x), (A,), (A,), has_aux=True)


def test_aux_under_an_outer_transformation():
    def inner(x):
        gradient, square = br.grad(lambda x: (x * x, x * x), has_aux=True)(x)
        return gradient + square

    close(br.grad(inner)(3.0), 8)


# -------------------------------------------------------------------------------------------------- the order of keys


def first_less_second(d):
    first, second = d.values()
    return first - 2 * second


def chosen(x, y, c):
    if c > 0:
        d = {"a": x, "b": y}
    else:
        d = {"b": y, "a": x}
    return first_less_second(d)


def turned(x, y, n):
    d = {"a": x, "b": y}
    while n > 0:
        d = {k: d[k] + 1 for k in list(d)[::-1]}
        n = n - 1
    return first_less_second(d)


def repeated(x, y, n):
    d = {"a": x, "b": y}
    for _ in range(int(n)):
        d = {k: d[k] + 1 for k in list(d)[::-1]}
    return first_less_second(d)


def called(x, y, n):
    def again(n, d):
        if n <= 0:
            return first_less_second(d)
        return again(n - 1, {k: d[k] for k in list(d)[::-1]})

    return again(n, {"a": x, "b": y})


@pytest.mark.parametrize("function", [chosen, turned, repeated, called], ids=lambda f: f.__name__)
def test_dicts_whose_keys_are_in_another_order_are_others(function):
    """Structures do not tell them apart, but programs go through their items."""
    x, y = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    compiled = br.jit(function)
    for n in (-1.0, 1.0, 6.0, 7.0) * 2:
        np.testing.assert_array_equal(compiled(x, y, n), function(x, y, n))


def test_lanes_do_not_select_between_orders_of_keys():
    x, y = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    with pytest.raises(br.TracedConditionError, match="keys in another order"):
        br.vmap(lambda c: chosen(x, y, c))(np.array([1.0, -1.0]))
