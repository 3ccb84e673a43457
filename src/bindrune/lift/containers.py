"""Containers as lifted code sees them: copies that hold what is lifted.

A list of layers, a table of functions: what is taken out of them must be lifted as well.  A container that holds
nothing to lift is itself.  Another has a copy with lifted items for the length of the call; what was changed in the
copy is then carried back, as writes to arrays are.
"""

from __future__ import annotations

import collections
import copy
import types
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from .objects import release

if TYPE_CHECKING:
    from .session import Session

__all__ = ["CONTAINERS", "SIMPLE", "carry_back", "lift_container"]

SIMPLE: frozenset[type] = frozenset(
    {int, float, complex, str, bytes, bool, type(None), type(...), type(NotImplemented), slice, range}
    | {np.dtype(code).type for code in "?bBhHiIlLqQefdgFDGSUMm"}
)
"""The types of values that are never lifted."""


def _values(container: Any) -> list[Any]:
    """Everything in a container; the keys of a dict, then its values."""
    if isinstance(container, types.SimpleNamespace):
        container = vars(container)
    return [*container, *container.values()] if isinstance(container, dict) else [*container]


def _fill_mapping(mapping: dict[Any, Any], values: Collection[Any]) -> None:
    items = list(values)
    half = len(items) // 2
    mapping.clear()
    mapping.update(zip(items[:half], items[half:], strict=True))


def _fill_list(container: list[Any], values: Collection[Any]) -> None:
    container[:] = values


def _fill_other(container: Any, values: Collection[Any]) -> None:
    container.clear()
    (container.update if isinstance(container, set) else container.extend)(values)


CONTAINERS: dict[type, Callable[[Any, Collection[Any]], None]] = {
    list: _fill_list,
    dict: _fill_mapping,
    collections.OrderedDict: _fill_mapping,
    collections.defaultdict: _fill_mapping,
    types.SimpleNamespace: lambda namespace, values: _fill_mapping(vars(namespace), values),
    set: _fill_other,
    collections.deque: _fill_other,
}
"""What fills a container of each type with other values."""


_DATA = 256
"""So many arrays are data to read, rather than state to write: each of them would cost a cell in every call."""


def lift_container(session: Session, container: Any) -> tuple[Any, list[Any]]:
    """What stands for a container, and the values it was filled with; itself where it holds nothing to lift."""
    values = _values(container)
    shown = values if session.watch is None else session.watch.container(container, values, _values)
    factory = getattr(container, "default_factory", None)
    lifted_factory = session.lift(factory)
    kinds = set(map(type, shown))
    if lifted_factory is factory and kinds <= SIMPLE:
        return container, values
    if len(values) > _DATA and session.watch is None and kinds <= SIMPLE | {np.ndarray}:
        session.data.append(container)
        return container, values
    made = copy.copy(container)
    session.remember(container, made)  # it may hold itself
    lifted = [session.lift(v) for v in shown]
    if lifted_factory is factory and all(new is old for new, old in zip(lifted, values, strict=True)):
        return container, values
    if factory is not None:
        made.default_factory = lifted_factory
    CONTAINERS[type(made)](made, lifted)
    return made, lifted


def carry_back(session: Session, container: Any, made: Any, filled: list[Any]) -> None:
    """Change a container as its copy was changed."""
    now = _values(made)
    if len(now) != len(filled) or any(a is not b for a, b in zip(now, filled, strict=True)):
        CONTAINERS[type(made)](container, [release(session, session.lower(v)) for v in now])
