"""Nested containers of arrays ("trees"), by optree.

Dicts, lists, tuples, named tuples, `OrderedDict`, `None`, classes that declare their fields (dataclasses, and those of
attrs and pydantic; met for the first time they are registered here), and classes registered with optree under the
namespace ``"bindrune"``.  Fields declared static belong to the structure.  A plain array, the common case, never
reaches optree.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .array import Array
from .threads import Turns

__all__ = [
    "NAMESPACE",
    "broadcast_prefix",
    "by_optree",
    "expect_twins_of_tuples",
    "flatten",
    "flatten_nodes",
    "key_orders",
    "leaf_path",
    "leaf_paths",
    "map_leaves",
    "original_class",
    "register",
    "register_fields",
    "registered_fields",
    "unflatten",
]

NAMESPACE = "bindrune"

_PLAIN = (np.ndarray, Array, float, int, complex, np.generic)


@functools.cache
def _optree() -> Any:
    """optree, whose import takes a while, when the first container is met."""
    import optree

    return optree


@functools.cache
def _turns() -> Turns:
    """Made after optree is imported, and so told before it that the process ends: it then forgets what nodes are."""
    _optree()
    return Turns()


def by_optree(name: str, *arguments: Any, **options: Any) -> Any:
    """What one of optree's functions returns: it lets other threads go on while it looks at a node's class."""
    with _turns():
        return getattr(_optree(), name)(*arguments, **options)


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves of a tree and its structure (`None` for a tree that is one leaf)."""
    if isinstance(tree, _PLAIN):
        return [tree], None
    leaves, structure = flatten_nodes(tree)
    return leaves, None if structure.is_leaf() else structure


def flatten_nodes(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Any]:
    """The leaves of a tree and its structure, always one of optree; what `is_leaf` says is a leaf stays whole."""
    while True:
        found, structure = by_optree("tree_flatten", tree, is_leaf=_leaves_twins(is_leaf), namespace=NAMESPACE)
        kinds = set(map(type, found))
        twins = {kind for kind in kinds if original_class(kind) is not kind and _is_node(original_class(kind))}
        unknown = {kind for kind in kinds - twins if _fields(kind) is not None}
        if is_leaf is not None and (twins or unknown):
            parts = {type(leaf) for leaf in found if type(leaf) in twins | unknown and not is_leaf(leaf)}
            twins, unknown = twins & parts, unknown & parts
        if not twins and not unknown:
            return found, structure
        for kind in unknown:
            register_fields(kind)
        if twins:
            tree = unflatten(structure, [_without_twin(leaf) if type(leaf) in twins else leaf for leaf in found])


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """The tree of a structure, with these leaves."""
    return leaves[0] if structure is None else by_optree("tree_unflatten", structure, leaves)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with every leaf replaced by `function(leaf)`."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])


def _known(tree: Any) -> Any:
    """The tree, made of classes that optree knows."""
    leaves, structure = flatten(tree)
    return unflatten(structure, leaves)


def key_orders(tree: Any) -> tuple[tuple[Any, ...], ...]:
    """The keys of each dict in a tree in their order, which structures do not tell apart.

    >>> structures = [flatten(tree)[1] for tree in ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
    >>> structures[0] == structures[1], key_orders({"b": [{}], "a": 1})
    (True, (('b', 'a'), ()))
    """
    found: list[tuple[Any, ...]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _PLAIN):
            continue
        if isinstance(node, dict):
            found.append(tuple(node))
            waiting += reversed(node.values())
        elif type(node) in (tuple, list):
            waiting += reversed(node)
        else:
            entry = _optree().register_pytree_node.get(type(node), namespace=NAMESPACE)
            if entry is not None:
                waiting += reversed(list(entry.flatten_func(node)[0]))
    return tuple(found)


def leaf_paths(tree: Any) -> list[str]:
    """How Python writes the way to each leaf: ``["w"][0].bias``; empty for a tree that is one leaf."""
    if isinstance(tree, _PLAIN):
        return [""]
    tree = _known(tree)
    accessors = by_optree("tree_accessors", tree, namespace=NAMESPACE)
    return [accessor.codify("") for accessor in accessors]


def broadcast_prefix(prefix: Any, tree: Any) -> list[Any]:
    """For each leaf of `tree` the leaf of `prefix` above it; None is a leaf of the prefix."""
    marked = by_optree("tree_map", lambda leaf: _NONE if leaf is None else leaf, prefix, none_is_leaf=True)
    found = by_optree("broadcast_prefix", marked, _known(tree), namespace=NAMESPACE)
    return [None if leaf is _NONE else leaf for leaf in found]


_NONE = object()


def leaf_path(tree: Any, index: int) -> str:
    """The path of one leaf."""
    return leaf_paths(tree)[index]


# --------------------------------------------------------------------------------------------------------------- twins

_expected_twins_of_tuples: list[bool] = []


def original_class(kind: Any) -> Any:
    """The user's class behind one that was made to run lifted (see `lift.classes`); anything else as it is."""
    while isinstance(kind, type) and "_bindrune_kind" in vars(kind):
        kind = vars(kind)["_bindrune_kind"]
    return kind


def expect_twins_of_tuples() -> None:
    """From now on there may be objects of lifted classes that optree takes for named tuples."""
    _expected_twins_of_tuples[:] = [True]


def _leaves_twins(is_leaf: Callable[[Any], bool] | None) -> Callable[[Any], bool] | None:
    """A predicate that also holds for named tuples of lifted classes, so that they are met among the leaves."""
    if not _expected_twins_of_tuples:
        return is_leaf
    return lambda node: "_bindrune_kind" in vars(type(node)) or (is_leaf is not None and is_leaf(node))


def _is_node(kind: type) -> bool:
    """Whether objects of a class are containers."""
    if _fields(kind) is not None or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
        return True
    return _optree().register_pytree_node.get(kind, namespace=NAMESPACE) is not None


def _without_twin(value: Any) -> Any:
    """An object of a lifted class, as one of the user's class with the same attributes."""
    kind = original_class(type(value))
    if issubclass(kind, tuple):
        return tuple.__new__(kind, value)
    made: Any = object.__new__(kind)
    slots = [n for c in kind.__mro__ for n, v in vars(c).items() if isinstance(v, types.MemberDescriptorType)]
    for name in (*getattr(value, "__dict__", ()), *slots):
        if hasattr(value, name):
            object.__setattr__(made, name, getattr(value, name))
    return made


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

    construct = getattr(kind, "model_construct", None) if hasattr(kind, "__pydantic_fields__") else None

    def put_together(fixed: Any, children: Any) -> Any:
        # Without __init__: conversions and checks there are made for the user's values, not for stand-ins.
        values = dict(zip(names + fixed_names, (*children, *fixed), strict=True))
        if construct is not None:
            return construct(**values)
        made: Any = object.__new__(kind)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made

    register(kind, take_apart, put_together, path_entry_type=_optree().GetAttrEntry)
    _registered[kind] = names, fixed_names


_registered: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {}


def registered_fields(kind: type) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The fields of a class that are children and those that are static, if it was registered by its fields."""
    return _registered.get(kind)


def register(kind: type, take_apart: Callable[..., Any], put_together: Callable[..., Any], **options: Any) -> None:
    """Make a class a kind of tree, by functions in the manner of optree."""
    by_optree("register_pytree_node", kind, take_apart, put_together, namespace=NAMESPACE, **options)
