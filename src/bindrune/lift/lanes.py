"""Conditions that differ between lanes: what rewritten control flow calls.

Each of these takes the ordinary path for an ordinary boolean.  For a condition with one value a lane both sides run,
each under a *mask*: a write into an array changes only the lanes of the mask, and variables assigned on either side
are selected lane by lane afterwards.  A side that no lane takes does not run.  A loop runs until its last lane has
stopped; those that have stopped keep their state.

What cannot be selected (values of different kinds or shapes, a list that only some lanes would append to) raises with
the user's line.
"""

from __future__ import annotations

import operator
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.array import Array, concrete
from ..core.errors import TracedConditionError, user_line
from ..ops.indexing import is_concrete, masked, masks

__all__ = ["CALLS"]


class _Nothing:
    """Stands for a variable that has no value."""

    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def _differs(condition: Any) -> bool:
    return isinstance(condition, Array) and not is_concrete(condition)


def _lowest(value: Any) -> Any:
    while isinstance(value, Array):
        value = value.read()._value
    return value


def _running(condition: Any) -> Any:
    """A condition within the lanes that are running now."""
    mask = masks.get()
    return condition if mask is None else np.logical_and(condition, mask)


def _cells(names: tuple[str, ...], *functions: types.FunctionType) -> dict[str, types.CellType]:
    """The variables that some nested functions share, by name."""
    found: dict[str, types.CellType] = {}
    for function in functions:
        found |= dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    return {name: found[name] for name in names if name in found}


def _get(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _NOTHING


def _set(cell: types.CellType, value: Any) -> None:
    if value is _NOTHING:
        if _get(cell) is not _NOTHING:
            del cell.cell_contents
    else:
        cell.cell_contents = value


def _select(mask: Any, chosen: Any, other: Any, what: str) -> Any:
    """Each lane's value of two; what has no value on one side keeps that of the other."""
    if chosen is other or other is _NOTHING:
        return chosen
    if chosen is _NOTHING:
        return other
    if isinstance(chosen, (tuple, list)) and type(chosen) is type(other) and len(chosen) == len(other):
        return type(chosen)(_select(mask, a, b, what) for a, b in zip(chosen, other, strict=True))
    numbers = (Array, np.ndarray, np.generic, int, float, complex)
    if isinstance(chosen, numbers) and isinstance(other, numbers):
        if np.shape(chosen) != np.shape(other):
            raise TracedConditionError(
                f"{user_line()}: the condition differs between lanes, and {what} has shape {np.shape(chosen)} on one "
                f"side and {np.shape(other)} on the other"
            )
        return np.where(mask, chosen, other)
    if type(chosen) is type(other) and chosen == other:
        return chosen
    raise TracedConditionError(
        f"{user_line()}: the condition differs between lanes, and {what} is {chosen!r} on one side and {other!r} on "
        "the other, which no lane can select between"
    )


def branch(condition: Any, then: types.FunctionType, otherwise: types.FunctionType, names: tuple[str, ...]) -> None:
    """``if condition: then() else: otherwise()``, where `names` are the variables either assigns."""
    if not _differs(condition):
        (then if concrete(condition) else otherwise)()
        return
    condition = condition.read().astype(bool)
    inside, outside = _running(condition), _running(np.logical_not(condition))
    if not _lowest(outside).any():
        then()
        return
    if not _lowest(inside).any():
        otherwise()
        return
    cells = _cells(names, then, otherwise)
    before = {name: _get(cell) for name, cell in cells.items()}
    with masked(inside):
        then()
    chosen = {name: _get(cell) for name, cell in cells.items()}
    for name, cell in cells.items():
        _set(cell, before[name])
    with masked(outside):
        otherwise()
    for name, cell in cells.items():
        _set(cell, _select(condition, chosen[name], _get(cell), f"the variable {name!r}"))


def loop(test: Callable[[], Any], body: types.FunctionType, names: tuple[str, ...]) -> None:
    """``while test(): body()``, where `names` are the variables the body assigns."""
    going = test()
    while not _differs(going):
        if not concrete(going):
            return
        body()
        going = test()
    cells = _cells(names, body)
    going = _running(going.astype(bool))
    while _lowest(going).any():
        before = {name: _get(cell) for name, cell in cells.items()}
        with masked(going):
            body()
            again = test()
        for name, cell in cells.items():
            _set(cell, _select(going, _get(cell), before[name], f"the variable {name!r}"))
        going = np.logical_and(going, again)


def choose(condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """``then() if condition else otherwise()``."""
    if not _differs(condition):
        return then() if concrete(condition) else otherwise()
    condition = condition.astype(bool)
    inside, outside = _running(condition), _running(np.logical_not(condition))
    if not _lowest(outside).any():
        return then()
    if not _lowest(inside).any():
        return otherwise()
    with masked(inside):
        chosen = then()
    with masked(outside):
        other = otherwise()
    return _select(condition, chosen, other, "the conditional expression")


def both(*operands: Callable[[], Any]) -> Any:
    """``a and b and ...``."""
    value = operands[0]()
    for operand in operands[1:]:
        if _differs(value):
            value = np.logical_and(value, operand())
        elif not concrete(value):
            return value
        else:
            value = operand()
    return value


def either(*operands: Callable[[], Any]) -> Any:
    """``a or b or ...``."""
    value = operands[0]()
    for operand in operands[1:]:
        if _differs(value):
            value = np.logical_or(value, operand())
        elif concrete(value):
            return value
        else:
            value = operand()
    return value


def none(*flags: Any) -> Any:
    """``not a``; of several, whether none holds."""
    value = either(*[lambda f=f: f for f in flags])
    return np.logical_not(value) if _differs(value) else not concrete(value)


def chain(parts: tuple[Any, ...]) -> Any:
    """``a < b < c``: the comparisons, then the delayed operands."""
    count = len(parts) // 2
    links, operands = parts[:count], parts[count:]
    left = operands[0]()
    value: Any = True
    for link, operand in zip(links, operands[1:], strict=True):
        right = operand()
        value = link(left, right) if value is True else np.logical_and(value, link(left, right))
        if not _differs(value) and not concrete(value):
            return value
        value = value if _differs(value) else True
        left = right
    return value


def every(condition: Any) -> bool:
    """Whether an asserted condition holds in every lane that is running."""
    if not _differs(condition):
        return bool(concrete(condition))
    mask = masks.get()
    holds = condition if mask is None else np.logical_or(condition, np.logical_not(mask))
    return bool(_lowest(holds).all())


def all_lanes(*flags: Any) -> bool:
    """Whether in every lane one of the flags holds."""
    value = either(*[lambda f=f: f for f in flags])
    return bool(_lowest(value).all()) if _differs(value) else bool(concrete(value))


def set_item(target: Any, index: Any, value: Any) -> None:
    """``target[index] = value`` for the lanes that are running."""
    mask = masks.get()
    if mask is not None and isinstance(target, (list, dict)):
        try:
            before = target[index]
        except (KeyError, IndexError):
            before = _NOTHING
        value = _select(mask, value, before, f"the item {index!r}")
    target[index] = value


def set_attribute(target: Any, name: str, value: Any) -> None:
    """``target.name = value`` for the lanes that are running."""
    mask = masks.get()
    if mask is not None:
        value = _select(mask, value, getattr(target, name, _NOTHING), f"the attribute {name!r}")
    setattr(target, name, value)


def get_item(target: Any, index: Any) -> Any:
    """``target[index]``."""
    return target[index]


def get_attribute(target: Any, name: str) -> Any:
    """``target.name``."""
    return getattr(target, name)


def augmented(name: str, value: Any, other: Callable[[], Any]) -> Any:
    """``value op= other``, by the name of the operator; what is left in `value`'s place."""
    operation = _AUGMENTED[name]
    _refuse_change(value, operation.__name__)
    return operation(value, other())


_AUGMENTED: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.iadd,
    "Sub": operator.isub,
    "Mult": operator.imul,
    "Div": operator.itruediv,
    "FloorDiv": operator.ifloordiv,
    "Mod": operator.imod,
    "Pow": operator.ipow,
    "MatMult": operator.imatmul,
    "LShift": operator.ilshift,
    "RShift": operator.irshift,
    "BitAnd": operator.iand,
    "BitOr": operator.ior,
    "BitXor": operator.ixor,
}


def changing(target: Any, name: str) -> Any:
    """A method that changes a container."""
    _refuse_change(target, name)
    return getattr(target, name)


def _refuse_change(target: Any, name: str) -> None:
    """Lists, dicts and sets are the same for all lanes: refuse to change them while only some are running."""
    if masks.get() is not None and isinstance(target, (list, dict, set)):
        raise TracedConditionError(
            f"{user_line()}: {type(target).__name__}.{name} under a condition that differs between lanes would change "
            "the container for all of them. Write into an array, or select with np.where(condition, a, b)."
        )


def nothing() -> Any:
    """The value of a variable that has none yet."""
    return _NOTHING


def result(value: Any) -> Any:
    """What a function returns."""
    return None if value is _NOTHING else value


CALLS: dict[str, Callable[..., Any]] = {
    f"{function.__name__}()": function
    for function in (
        branch, loop, choose, both, either, none, chain, every, all_lanes, get_item, get_attribute, set_item,
        set_attribute, augmented, changing, nothing, result,
    )
}  # fmt: skip
"""By the names under which rewritten code knows them."""
