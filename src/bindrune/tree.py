"""Trees: nested containers of arrays, flattened, mapped, put together again.

A tree is made of dicts, lists, tuples, named tuples, `OrderedDict`, `None`, dataclasses, classes of attrs and models
of pydantic, and of what is registered here; everything else is a leaf.  A dict's keys are taken in sorted order.

>>> import numpy as np, bindrune as br
>>> params = {"w": np.array([1.0, 2.0]), "b": 3.0}
>>> br.tree.map(lambda x: 2 * x, params)
{'w': array([2., 4.]), 'b': 6.0}
>>> br.tree.leaves(params)
[3.0, array([1., 2.])]

Static fields belong to a tree's structure: ``field(metadata={"static": True})`` of dataclasses and attrs, and
``Field(json_schema_extra={"static": True})`` of pydantic.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from .core import trees
from .core.array import dtype_of
from .core.errors import user_line
from .core.foreign import as_array

__all__ = [
    "all",
    "broadcast",
    "flatten",
    "flatten_with_path",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "ravel",
    "reduce",
    "register",
    "register_dataclass",
    "structure",
    "transpose",
    "unflatten",
]

IsLeaf = Callable[[Any], bool] | None
_C = TypeVar("_C", bound=type)


def flatten(tree: Any, is_leaf: IsLeaf = None) -> tuple[list[Any], Any]:
    """The leaves of a tree, and its structure.

    Args:
        tree: the tree.
        is_leaf: says of a node whether it is to be taken whole.

    Returns:
        The list of leaves, and the structure; structures can be compared.

    >>> import bindrune as br
    >>> leaves, structure = br.tree.flatten([1, (2, 3)])
    >>> leaves
    [1, 2, 3]
    """
    return trees.flatten_nodes(tree, is_leaf)


def leaves(tree: Any, is_leaf: IsLeaf = None) -> list[Any]:
    """The leaves of a tree.

    >>> import bindrune as br
    >>> br.tree.leaves({"b": 1, "a": [2, None]})
    [2, 1]
    """
    return flatten(tree, is_leaf)[0]


def structure(tree: Any, is_leaf: IsLeaf = None) -> Any:
    """The structure of a tree, without its leaves.

    >>> import bindrune as br
    >>> br.tree.structure([1, 2]) == br.tree.structure([3, 4])
    True
    """
    return flatten(tree, is_leaf)[1]


def unflatten(structure: Any, leaves: Iterable[Any]) -> Any:
    """The tree of a structure, with these leaves.

    >>> import bindrune as br
    >>> br.tree.unflatten(br.tree.structure([1, (2, 3)]), "abc")
    ['a', ('b', 'c')]
    """
    return trees.unflatten(structure, list(leaves))


def map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None) -> Any:
    """The tree of the results of a function of the leaves.

    Args:
        f: a function of one leaf of each tree.
        tree: the tree whose structure the result has.
        rest: trees that have at least this structure.
        is_leaf: says of a node whether it is to be taken whole.

    Returns:
        A tree like the first.

    >>> import bindrune as br
    >>> br.tree.map(lambda x, y: x + y, {"a": 1, "b": (2,)}, {"a": 10, "b": (20,)})
    {'a': 11, 'b': (22,)}
    """
    first, shape = flatten(tree, is_leaf)
    return unflatten(shape, builtins.map(f, first, *(shape.flatten_up_to(r) for r in rest)))


def reduce(f: Callable[[Any, Any], Any], tree: Any, *initial: Any, is_leaf: IsLeaf = None) -> Any:
    """The leaves of a tree, joined by a function of two, from the first to the last.

    >>> import bindrune as br
    >>> br.tree.reduce(lambda a, b: a + b, {"a": 1, "b": (2, 3)})
    6
    """
    return functools.reduce(f, leaves(tree, is_leaf), *initial)


def all(tree: Any, is_leaf: IsLeaf = None) -> bool:
    """Whether every leaf is true.

    >>> import bindrune as br
    >>> br.tree.all({"a": True, "b": [1, 2]})
    True
    """
    return builtins.all(leaves(tree, is_leaf))


def flatten_with_path(tree: Any, is_leaf: IsLeaf = None) -> tuple[list[tuple[tuple[Any, ...], Any]], Any]:
    """The leaves of a tree with the path to each, and the tree's structure.

    A path is the tuple of keys, positions and names of fields that lead to a leaf.

    >>> import bindrune as br
    >>> br.tree.flatten_with_path({"w": [1, 2]})[0]
    [(('w', 0), 1), (('w', 1), 2)]
    """
    found, shape = flatten(tree, is_leaf)
    return list(zip(shape.paths(), found, strict=True)), shape


def leaves_with_path(tree: Any, is_leaf: IsLeaf = None) -> list[tuple[tuple[Any, ...], Any]]:
    """The leaves of a tree, each with its path.

    >>> import bindrune as br
    >>> br.tree.leaves_with_path({"w": [1, 2]})
    [(('w', 0), 1), (('w', 1), 2)]
    """
    return flatten_with_path(tree, is_leaf)[0]


def map_with_path(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None) -> Any:
    """`map` with a function that takes a leaf's path first.

    >>> import bindrune as br
    >>> br.tree.map_with_path(lambda path, x: f"{path[-1]}={x}", {"w": 1, "b": 2})
    {'w': 'w=1', 'b': 'b=2'}
    """
    first, shape = flatten(tree, is_leaf)
    return unflatten(shape, builtins.map(f, shape.paths(), first, *(shape.flatten_up_to(r) for r in rest)))


def transpose(outer: Any, inner: Any, tree: Any) -> Any:
    """A tree of trees, turned inside out.

    Args:
        outer: the structure of the tree.
        inner: the structure of each of its leaves.
        tree: the tree.

    Returns:
        A tree of the structure `inner` whose leaves have the structure `outer`.

    >>> import bindrune as br
    >>> rows = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    >>> br.tree.transpose(br.tree.structure([0, 0]), br.tree.structure({"a": 0, "b": 0}), rows)
    {'a': [1, 3], 'b': [2, 4]}
    """
    return trees.by_optree("tree_transpose", outer, inner, tree)


def broadcast(prefix: Any, tree: Any, is_leaf: IsLeaf = None) -> Any:
    """A tree like another, each leaf of which is the leaf above it in a prefix of that tree.

    >>> import bindrune as br
    >>> br.tree.broadcast({"a": 1, "b": 2}, {"a": [10, 20], "b": 30})
    {'a': [1, 1], 'b': 2}
    """
    structure(tree, is_leaf)
    return trees.by_optree("tree_broadcast_prefix", prefix, tree, is_leaf=is_leaf, namespace=trees.NAMESPACE)


def ravel(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """All numbers of a tree in one vector, and the way back.

    Args:
        tree: a tree of arrays and numbers.

    Returns:
        ``(vector, unravel)``: the elements of all leaves, of the dtype they have in common; ``unravel(vector)`` is a
        tree like the one given, of its shapes and dtypes.  Both are differentiable and can be mapped.

    >>> import numpy as np, bindrune as br
    >>> vector, unravel = br.tree.ravel({"w": np.array([[1.0, 2.0]]), "b": 3.0})
    >>> vector
    array([3., 1., 2.])
    >>> unravel(2 * vector)
    {'w': array([[2., 4.]]), 'b': np.float64(6.0)}
    """
    found, shape = flatten(tree)
    arrays = [as_array(x) for x in found]
    shapes = [np.shape(x) for x in arrays]
    dtypes = [dtype_of(x) for x in arrays]
    ends = np.cumsum([0, *builtins.map(math.prod, shapes)]).tolist()
    vector = np.concatenate([np.ravel(x) for x in arrays]) if arrays else np.zeros(0)

    def unravel(vector: Any) -> Any:
        """The tree with these elements."""
        if np.shape(vector) != (ends[-1],):
            raise ValueError(f"{user_line()}: the tree has {ends[-1]} numbers, the vector has shape {np.shape(vector)}")
        parts = []
        for start, end, size, dtype in zip(ends, ends[1:], shapes, dtypes, strict=False):
            part = np.reshape(vector[start:end], size) if size else vector[start]
            parts.append(part if dtype_of(part) == dtype else part.astype(dtype))
        return unflatten(shape, parts)

    return vector, unravel


def register(
    cls: _C | None = None,
    flatten: Callable[[Any], Any] | None = None,
    unflatten: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Make a class a kind of tree.

    Args:
        cls: the class; without it, a decorator returns.
        flatten: takes an instance apart, into its children and what belongs to the structure (hashable); by default
            the method ``tree_flatten``.
        unflatten: puts what belongs to the structure and the children together; by default the class method
            ``tree_unflatten``.

    Returns:
        The class.

    >>> import bindrune as br
    >>> class Interval:
    ...     def __init__(self, low, high):
    ...         self.low, self.high = low, high
    >>> _ = br.tree.register(Interval, lambda i: ((i.low, i.high), None), lambda _, ends: Interval(*ends))
    >>> br.tree.map(lambda x: 2 * x, Interval(1, 2)).high
    4
    >>> @br.tree.register
    ... class Line:
    ...     def __init__(self, slope):
    ...         self.slope = slope
    ...     def tree_flatten(self):
    ...         return (self.slope,), None
    ...     @classmethod
    ...     def tree_unflatten(cls, fixed, children):
    ...         return cls(*children)
    >>> br.tree.leaves(Line(3.0))
    [3.0]
    """
    if cls is None:
        return functools.partial(register, flatten=flatten, unflatten=unflatten)
    kind: Any = cls
    trees.register(kind, flatten or kind.tree_flatten, unflatten or kind.tree_unflatten)
    return cls


def register_dataclass(cls: _C | None = None, static: Sequence[str] = ()) -> Any:
    """Make a class that declares its fields a kind of tree, some of whose fields are static.

    Without static fields there is no need to: such classes are trees by themselves.

    Args:
        cls: a dataclass, or a class of attrs or pydantic; without it, a decorator returns.
        static: the fields that belong to the structure, beside those declared so.

    Returns:
        The class.

    >>> import dataclasses, bindrune as br
    >>> @br.tree.register_dataclass(static=("name",))
    ... @dataclasses.dataclass
    ... class Layer:
    ...     weight: float
    ...     name: str
    >>> br.tree.map(lambda x: 2 * x, Layer(1.5, "first"))
    Layer(weight=3.0, name='first')
    """
    if cls is None:
        return functools.partial(register_dataclass, static=static)
    trees.register_fields(cls, static)
    return cls
