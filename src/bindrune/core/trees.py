"""Nested containers of arrays ("trees"), by optree.

Dicts, lists, tuples, named tuples, `OrderedDict`, `None`, classes that declare their fields (dataclasses, and those of
attrs and pydantic; met for the first time they are registered here), and classes registered with optree under the
namespace ``"bindrune"``.  Fields declared static belong to the structure.  A plain array, the common case, never
reaches optree.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .array import Array

__all__ = [
    "NAMESPACE",
    "broadcast_prefix",
    "flatten",
    "flatten_nodes",
    "leaf_path",
    "leaf_paths",
    "map_leaves",
    "register",
    "register_fields",
    "unflatten",
]

NAMESPACE = "bindrune"

_PLAIN = (np.ndarray, Array, float, int, complex, np.generic)


@functools.cache
def _optree() -> Any:
    """optree, whose import takes a while, when the first container is met."""
    import optree

    return optree


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves of a tree and its structure (`None` for a tree that is one leaf)."""
    if isinstance(tree, _PLAIN):
        return [tree], None
    leaves, structure = flatten_nodes(tree)
    return leaves, None if structure.is_leaf() else structure


def flatten_nodes(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Any]:
    """The leaves of a tree and its structure, always one of optree; what `is_leaf` says is a leaf stays whole."""
    while True:
        leaves, structure = _optree().tree_flatten(tree, is_leaf=is_leaf, namespace=NAMESPACE)
        unknown = {kind for kind in set(map(type, leaves)) if _fields(kind) is not None}
        if is_leaf is not None and unknown:
            unknown &= {type(leaf) for leaf in leaves if type(leaf) in unknown and not is_leaf(leaf)}
        if not unknown:
            return leaves, structure
        for kind in unknown:
            register_fields(kind)


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """The tree of a structure, with these leaves."""
    return leaves[0] if structure is None else _optree().tree_unflatten(structure, leaves)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with every leaf replaced by `function(leaf)`."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])


def leaf_paths(tree: Any) -> list[str]:
    """How Python writes the way to each leaf: ``["w"][0].bias``; empty for a tree that is one leaf."""
    flatten(tree)
    if isinstance(tree, _PLAIN):
        return [""]
    accessors = _optree().tree_accessors(tree, namespace=NAMESPACE)
    return [accessor.codify("") for accessor in accessors]


def broadcast_prefix(prefix: Any, tree: Any) -> list[Any]:
    """For each leaf of `tree` the leaf of `prefix` above it; None is a leaf of the prefix."""
    flatten(tree)
    marked = _optree().tree_map(lambda leaf: _NONE if leaf is None else leaf, prefix, none_is_leaf=True)
    found = _optree().broadcast_prefix(marked, tree, namespace=NAMESPACE)
    return [None if leaf is _NONE else leaf for leaf in found]


_NONE = object()


def leaf_path(tree: Any, index: int) -> str:
    """The path of one leaf."""
    return leaf_paths(tree)[index]


# -------------------------------------------------------------------------------------------------------- registration


def _fields(kind: Any) -> dict[str, bool] | None:
    """The fields that a class declares, and whether each is static; None for a class that declares none.

    attrs and pydantic are told by the marks they leave on classes, so that neither needs to be imported.
    """
    if dataclasses.is_dataclass(kind):
        return {f.name: bool(f.metadata.get("static")) for f in dataclasses.fields(kind)}
    declared = getattr(kind, "__attrs_attrs__", None)
    if declared is not None:
        return {f.name: bool(f.metadata.get("static")) for f in declared}
    declared = getattr(kind, "__pydantic_fields__", None)
    if declared is not None:
        extras = {name: f.json_schema_extra for name, f in declared.items()}
        return {name: isinstance(extra, dict) and bool(extra.get("static")) for name, extra in extras.items()}
    return None


def register_fields(kind: type, static: Sequence[str] = ()) -> None:
    """Make a class that declares its fields a kind of tree; the fields named, or declared so, are static."""
    fields = _fields(kind)
    if fields is None:
        raise TypeError(f"{kind.__qualname__} declares no fields as dataclasses do; register it with its own functions")
    unknown = set(static) - fields.keys()
    if unknown:
        raise TypeError(f"{kind.__qualname__} has no fields {sorted(unknown)}")
    names = tuple(n for n, fixed in fields.items() if not fixed and n not in static)
    fixed_names = tuple(n for n in fields if n not in names)

    def take_apart(value: Any) -> tuple[tuple[Any, ...], Any, tuple[str, ...]]:
        return tuple(getattr(value, n) for n in names), tuple(getattr(value, n) for n in fixed_names), names

    # Inside a lifted function an object has a twin of a class of its own (see lift.objects); outside it has not.
    original: Any = getattr(kind, "_bindrune_kind", kind)
    construct = getattr(original, "model_construct", None) if hasattr(original, "__pydantic_fields__") else None

    def put_together(fixed: Any, children: Any) -> Any:
        # Without __init__: conversions and checks there are made for the user's values, not for stand-ins.
        values = dict(zip(names + fixed_names, (*children, *fixed), strict=True))
        if construct is not None:
            return construct(**values)
        made = object.__new__(original)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made

    register(kind, take_apart, put_together, path_entry_type=_optree().GetAttrEntry)


def register(kind: type, take_apart: Callable[..., Any], put_together: Callable[..., Any], **options: Any) -> None:
    """Make a class a kind of tree, by functions in the manner of optree."""
    _optree().register_pytree_node(kind, take_apart, put_together, namespace=NAMESPACE, **options)
