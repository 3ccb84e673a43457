"""Nested containers of arrays ("trees"), by optree.

Dicts, lists, tuples, named tuples, `OrderedDict`, `None`, dataclasses (met for the first time they are registered
here; fields declared with ``metadata={"static": True}`` belong to the structure), and classes registered with optree
under the namespace ``"bindrune"``.  A plain array, the common case, never reaches optree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from .array import Array

__all__ = ["NAMESPACE", "broadcast_prefix", "flatten", "leaf_path", "leaf_paths", "map_leaves", "unflatten"]

NAMESPACE = "bindrune"

_PLAIN = (np.ndarray, Array, float, int, complex, np.generic)


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves of a tree and its structure (`None` for a tree that is one leaf)."""
    if isinstance(tree, _PLAIN):
        return [tree], None
    while True:
        leaves, structure = optree.tree_flatten(tree, namespace=NAMESPACE)
        unknown = {type(leaf) for leaf in leaves if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type)}
        if not unknown:
            return leaves, structure
        for kind in unknown:
            _register_dataclass(kind)


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """The tree of a structure, with these leaves."""
    return leaves[0] if structure is None else optree.tree_unflatten(structure, leaves)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with every leaf replaced by `function(leaf)`."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])


def leaf_paths(tree: Any) -> list[str]:
    """How Python writes the way to each leaf: ``["w"][0].bias``; empty for a tree that is one leaf."""
    flatten(tree)
    if isinstance(tree, _PLAIN):
        return [""]
    accessors = optree.tree_accessors(tree, namespace=NAMESPACE)
    return [accessor.codify("") for accessor in accessors]


def broadcast_prefix(prefix: Any, tree: Any) -> list[Any]:
    """For each leaf of `tree` the leaf of `prefix` above it; None is a leaf of the prefix."""
    flatten(tree)
    is_none = lambda node: node is None  # noqa: E731
    found: list[Any] = optree.broadcast_prefix(prefix, tree, is_leaf=is_none, namespace=NAMESPACE)
    return found


def leaf_path(tree: Any, index: int) -> str:
    """The path of one leaf."""
    return leaf_paths(tree)[index]


def _register_dataclass(kind: type) -> None:
    fields = [f for f in dataclasses.fields(kind)]
    names = tuple(f.name for f in fields if not f.metadata.get("static"))
    static = tuple(f.name for f in fields if f.metadata.get("static"))

    def take_apart(value: Any) -> tuple[tuple[Any, ...], Any, tuple[str, ...]]:
        return tuple(getattr(value, n) for n in names), tuple(getattr(value, n) for n in static), names

    def put_together(fixed: Any, children: Any) -> Any:
        # Without __init__: conversions and checks there are made for the user's values, not for stand-ins.
        value = object.__new__(kind)
        for name, child in zip(names + static, (*children, *fixed), strict=True):
            object.__setattr__(value, name, child)
        return value

    optree.register_pytree_node(
        kind,
        take_apart,
        put_together,
        path_entry_type=optree.GetAttrEntry,
        namespace=NAMESPACE,
    )
