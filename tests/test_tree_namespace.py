"""`br.tree`: flattening, mapping, paths, vectors, registration, and classes that other packages define."""

import dataclasses
import doctest
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

import bindrune as br
from expect import close

A, B = np.array([[1.0, -2.0], [3.0, 0.5]]), np.array([0.5, 4.0, -1.0])


class Line(NamedTuple):
    slope: Any
    offset: Any


@dataclasses.dataclass
class Layer:
    weight: Any
    bias: Any
    name: str = dataclasses.field(default="dense", metadata={"static": True})


TREES = {
    "leaf": 3.0,
    "list": [1, 2],
    "nothing": None,
    "empty": {},
    "dict": {"b": 1, "a": [2, None, (3,)]},
    "ordered": OrderedDict(b=1, a=2),
    "named": Line(1, [2, 3]),
    "dataclass": {"x": Layer(1, [2], "first")},
}

each_tree = pytest.mark.parametrize("name", TREES)


@each_tree
def test_flatten_and_unflatten_are_inverse(name):
    tree = TREES[name]
    leaves, structure = br.tree.flatten(tree)
    assert leaves == br.tree.leaves(tree)
    assert structure == br.tree.structure(tree)
    assert br.tree.unflatten(structure, leaves) == tree
    assert br.tree.map(lambda x: x, tree) == tree


@each_tree
def test_paths_lead_to_their_leaves(name):
    tree = TREES[name]
    pairs = br.tree.leaves_with_path(tree)
    assert pairs == br.tree.flatten_with_path(tree)[0]
    assert [leaf for _, leaf in pairs] == br.tree.leaves(tree)
    for path, leaf in pairs:
        found = tree
        for step in path:
            found = getattr(found, step) if dataclasses.is_dataclass(found) else found[step]
        assert found == leaf
    assert br.tree.leaves(br.tree.map_with_path(lambda path, x: (path, x), tree)) == [
        x for p, v in pairs for x in (*p, v)
    ]


def test_a_leaf_has_a_structure_and_an_empty_path():
    assert br.tree.structure(3.0) == br.tree.structure("x")
    assert br.tree.leaves_with_path(3.0) == [((), 3.0)]


def test_keys_are_sorted_and_order_is_kept():
    assert br.tree.leaves({"b": 1, "a": 2}) == [2, 1]
    assert br.tree.leaves(OrderedDict(b=1, a=2)) == [1, 2]
    assert list(br.tree.map(lambda x: x, {"b": 1, "a": 2})) == ["b", "a"]


def test_map_over_several_trees():
    assert br.tree.map(lambda x, y, z: x + y + z, [1, (2,)], [10, (20,)], [100, (200,)]) == [111, (222,)]
    assert br.tree.map(lambda x, y: (x, y), {"a": 1}, {"a": {"deep": 2}}) == {"a": (1, {"deep": 2})}
    with pytest.raises(ValueError, match=r"structure|arity|keys|length"):
        br.tree.map(lambda x, y: x, [1, 2], [1, 2, 3])


def test_what_is_to_be_taken_whole():
    tree = {"a": Line(1, 2), "b": [Line(3, 4)]}

    def whole(node):
        return isinstance(node, Line)

    assert br.tree.leaves(tree, is_leaf=whole) == [Line(1, 2), Line(3, 4)]
    assert br.tree.map(sum, tree, is_leaf=whole) == {"a": 3, "b": [7]}
    assert br.tree.leaves_with_path(tree, is_leaf=whole)[1] == (("b", 0), Line(3, 4))
    assert br.tree.reduce(lambda n, line: n + line.slope, tree, 0, is_leaf=whole) == 4

    @dataclasses.dataclass
    class Unknown:
        value: Any

    assert br.tree.leaves([Unknown(1)], is_leaf=lambda node: isinstance(node, Unknown)) == [Unknown(1)]
    assert br.tree.leaves([Unknown(1)]) == [1]


def test_reduce_and_all():
    assert br.tree.reduce(lambda a, b: a * b, {"a": 2, "b": [3, 4]}) == 24
    assert br.tree.reduce(lambda a, b: a + b, [], 5) == 5
    with pytest.raises(TypeError, match="empty"):
        br.tree.reduce(lambda a, b: a + b, [])
    assert br.tree.all([True, {"a": 1}])
    assert not br.tree.all([True, {"a": 0}])
    assert br.tree.all([])


def test_transpose_and_broadcast():
    rows = [{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}]
    outer, inner = br.tree.structure([0] * 3), br.tree.structure({"a": 0, "b": 0})
    columns = br.tree.transpose(outer, inner, rows)
    assert columns == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert br.tree.transpose(inner, outer, columns) == rows
    assert br.tree.broadcast({"a": 1, "b": (2, 3)}, {"a": [0, 0], "b": (0, [0])}) == {"a": [1, 1], "b": (2, [3])}
    assert br.tree.broadcast(7, Layer(1, [2, 3])) == Layer(7, [7, 7])


# ------------------------------------------------------------------------------------------------------------ vectors


@each_tree
def test_unravel_is_the_inverse_of_ravel(name):
    tree = br.tree.map(lambda x: np.float64(x), TREES[name])
    vector, unravel = br.tree.ravel(tree)
    assert vector.shape == (len(br.tree.leaves(tree)),)
    assert vector.dtype == float
    assert unravel(vector) == tree
    with pytest.raises(ValueError, match="the vector has shape"):
        unravel(np.zeros(99))


def test_dtypes_and_kinds_return():
    tree = {"f": np.float32(1.5), "i": np.array([1, 2]), "c": np.array([1j]), "x": 2, "e": np.zeros((0, 3))}
    vector, unravel = br.tree.ravel(tree)
    assert vector.dtype == complex
    with pytest.warns(np.exceptions.ComplexWarning):
        found = unravel(vector)
    for key, value in tree.items():
        assert np.asarray(found[key]).dtype == np.asarray(value).dtype
        assert isinstance(found[key], np.ndarray) == isinstance(value, np.ndarray)
        np.testing.assert_array_equal(found[key], value)


def test_a_vector_and_its_tree_under_transformations():
    params = {"w": A, "b": B}
    vector, unravel = br.tree.ravel(params)

    def loss(p):
        return np.sum(p["w"] ** 3) + np.sum(np.sin(p["b"]))

    gradient = br.grad(loss)(params)
    close(br.grad(lambda v: loss(unravel(v)))(vector), br.tree.ravel(gradient)[0])
    close(br.grad(lambda p: np.sum(br.tree.ravel(p)[0] ** 2))(params)["w"], 2 * A)
    hessian = br.hessian(lambda v: loss(unravel(v)))(vector)
    close(np.diag(hessian), np.concatenate([-np.sin(B), 6 * A.ravel()]))
    rows = br.vmap(unravel)(np.stack([vector, 2 * vector]))
    close(rows["w"], np.stack([A, 2 * A]))
    close(br.vmap(lambda p: br.tree.ravel(p)[0])(rows), np.stack([vector, 2 * vector]))
    _, tangent = br.jvp(lambda p: br.tree.ravel(p)[0], (params,), (params,))
    close(tangent, vector)


def test_functions_of_trees_inside_a_transformation():
    def loss(params):
        scaled = br.tree.map(lambda x: 2 * np.tanh(np.array([x, x])), params)
        return br.tree.reduce(lambda total, x: total + np.sum(x), scaled, 0.0)

    gradient = br.grad(loss)({"a": 0.3, "b": [0.1]})
    close(gradient["a"], 4 / np.cosh(0.3) ** 2)
    close(gradient["b"][0], 4 / np.cosh(0.1) ** 2)


# ------------------------------------------------------------------------------------------------------- registration


def test_registering_functions_and_methods():
    class Interval:
        def __init__(self, low, high, label=""):
            self.low, self.high, self.label = low, high, label

    same = br.tree.register(
        Interval, lambda i: ((i.low, i.high), i.label, ("low", "high")), lambda label, ends: Interval(*ends, label)
    )
    assert same is Interval
    found = br.tree.map(lambda x: -x, Interval(1, 2, "kept"))
    assert (found.low, found.high, found.label) == (-1, -2, "kept")
    assert br.tree.leaves_with_path(Interval(1, 2))[1] == (("high",), 2)
    gradient = br.grad(lambda i: i.low * i.high)(Interval(2.0, 3.0))
    assert (gradient.low, gradient.high) == (3.0, 2.0)

    @br.tree.register
    class Point:
        def __init__(self, x):
            self.x = x

        def tree_flatten(self):
            return (self.x,), None

        @classmethod
        def tree_unflatten(cls, fixed, children):
            return cls(*children)

    assert br.tree.map(lambda x: x + 1, Point(1)).x == 2

    @br.tree.register(flatten=lambda s: (sorted(s.items), None), unflatten=lambda _, items: Bag(set(items)))
    class Bag:
        def __init__(self, items):
            self.items = items

    assert br.tree.leaves(Bag({3, 1})) == [1, 3]


def test_registering_fields():
    @br.tree.register_dataclass(static=("scale",))
    @dataclasses.dataclass(frozen=True)
    class Scaled:
        value: Any
        scale: float

    assert br.tree.leaves(Scaled(1.0, 2.0)) == [1.0]
    assert br.tree.structure(Scaled(1.0, 2.0)) != br.tree.structure(Scaled(1.0, 3.0))
    close(br.grad(lambda s: s.value * s.scale)(Scaled(1.0, 2.0)).value, 2.0)

    @br.tree.register_dataclass
    @dataclasses.dataclass
    class Plain:
        value: Any

    assert br.tree.leaves(Plain(1)) == [1]
    with pytest.raises(TypeError, match="no fields"):
        br.tree.register_dataclass(int)
    with pytest.raises(TypeError, match=r"\['nowhere'\]"):
        br.tree.register_dataclass(Layer, static=("nowhere",))


def check_model(kind):
    """A class with fields `weight`, `bias` and the static `name`."""
    tree = {"model": kind(weight=A, bias=B, name="first")}
    assert len(br.tree.leaves(tree)) == 2
    assert br.tree.leaves_with_path(tree)[1][0] == ("model", "bias")
    assert br.tree.structure(tree) != br.tree.structure({"model": kind(weight=A, bias=B, name="second")})

    def loss(tree):
        model = tree["model"]
        assert model.name == "first"
        return np.sum(model.weight**2) + np.sum(model.bias)

    gradient = br.grad(loss)(tree)["model"]
    assert type(gradient) is kind
    assert gradient.name == "first"
    close(gradient.weight, 2 * A)
    close(gradient.bias, np.ones(3))
    lanes = br.vmap(lambda model: kind(weight=model.weight * 2, bias=model.bias, name="first"))
    close(lanes(kind(weight=A, bias=A, name="first")).weight, 2 * A)


def test_classes_of_attrs():
    attrs = pytest.importorskip("attrs")
    for frozen in (False, True):
        for slots in (False, True):

            @attrs.define(frozen=frozen, slots=slots, eq=False)
            class Model:
                weight: Any
                bias: Any
                name: str = attrs.field(default="", metadata={"static": True})

            check_model(Model)


def test_models_of_pydantic():
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        weight: Any
        bias: Any
        name: str = pydantic.Field(default="", json_schema_extra={"static": True})

    check_model(Model)

    class Frozen(Model, frozen=True):
        pass

    check_model(Frozen)


@pytest.mark.parametrize("name", br.tree.__all__)
def test_a_function_is_documented_and_its_example_runs(name):
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(br.tree, name), name, globs={})
    assert example.examples
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0
