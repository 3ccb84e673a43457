"""Conditions that Python cannot decide: what rewritten control flow calls.

Each of these takes the ordinary path for an ordinary boolean.  While a function is being staged, a traced condition
goes to the stager (`lift.stager`), which writes the statement down.  For a condition with one value a lane both sides
run, each under a *mask*: a write into an array changes only the lanes of the mask, and variables assigned on either
side are selected lane by lane afterwards.  A side that no lane takes does not run.  A loop runs until its last lane has
stopped; those that have stopped keep their state.

What cannot be selected (values of different kinds or shapes, a list that only some lanes would append to) raises with
the user's line.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import operator
import types
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, concrete, peek
from ..core.errors import TracedConditionError, user_line
from ..ops.scalars import as_python
from ..ops.views import is_concrete, masked, masks
from .iteration import Items, items_of, iterating
from .stager import NOTHING, Variables, current, is_hidden
from .texts import printing, text

__all__ = ["CALLS", "Parted", "changing", "choose", "each", "every", "lifted_sum", "loop"]

_PATIENCE = 16
"""After how many steps a `while` loop on conditions of Python's own is offered to the stager."""


def _differs(condition: Any) -> bool:
    if is_hidden(condition):
        bool(condition[0])
    return isinstance(condition, Array) and not is_concrete(condition)


def _lowest(value: Any) -> Any:
    while isinstance(value, Array):
        value = value.read()._value
    return value


def _running(condition: Any) -> Any:
    """A condition within the lanes that are running now."""
    mask = masks.get()
    return condition if mask is None else np.logical_and(condition, mask)


def _cells(names: tuple[str, ...], *functions: Any) -> dict[str, types.CellType]:
    """The variables that some nested functions share, by name."""
    found: dict[str, types.CellType] = {}
    for function in functions:
        found |= dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    return {name: found[name] for name in names if name in found}


def _get(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return NOTHING


def _set(cell: types.CellType, value: Any) -> None:
    if value is NOTHING:
        if _get(cell) is not NOTHING:
            del cell.cell_contents
    else:
        cell.cell_contents = value


def _select(mask: Any, chosen: Any, other: Any, what: str) -> Any:
    """Each lane's value of two; what has no value on one side keeps that of the other."""
    if chosen is other or other is NOTHING:
        return chosen
    if chosen is NOTHING:
        return other
    numbers = (Array, np.ndarray, np.generic, int, float, complex)
    if isinstance(chosen, numbers) and isinstance(other, numbers):
        if np.shape(chosen) != np.shape(other):
            raise TracedConditionError(
                f"{user_line()}: the condition differs between lanes, and {what} has shape {np.shape(chosen)} on one "
                f"side and {np.shape(other)} on the other"
            )
        return np.where(mask, chosen, other)
    left, structure = trees.flatten(chosen)
    right, other_structure = trees.flatten(other)
    if structure != other_structure or trees.key_orders(chosen) != trees.key_orders(other):
        raise TracedConditionError(
            f"{user_line()}: the condition differs between lanes, and {what} has another structure, or keys in another "
            f"order, on each side: {chosen!r} and {other!r}"
        )
    if structure is not None:
        return trees.unflatten(structure, [_select(mask, a, b, what) for a, b in zip(left, right, strict=True)])
    if type(chosen) is type(other) and chosen == other:
        return chosen
    raise TracedConditionError(
        f"{user_line()}: the condition differs between lanes, and {what} is {chosen!r} on one side and {other!r} on "
        "the other, which no lane can select between"
    )


def branch(
    condition: Any,
    then: types.FunctionType,
    otherwise: types.FunctionType,
    names: tuple[str, ...],
    live: tuple[str, ...],
    moot: bool = False,
) -> None:
    """``if condition: then() else: otherwise()``, where `names` are the variables either assigns."""
    if not _differs(condition):
        (then if concrete(condition) else otherwise)()
        return
    stager = current.get()
    if stager is not None:
        if not stager.branch(condition, then, otherwise, Variables(names, live, moot)):
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
        _of_some(then)
    chosen = {name: _get(cell) for name, cell in cells.items()}
    for name, cell in cells.items():
        _set(cell, before[name])
    with masked(outside):
        _of_some(otherwise)
    for name, cell in cells.items():
        _set(cell, _select(condition, chosen[name], _get(cell), f"the variable {name!r}"))


def rest(
    going: Any,
    then: types.FunctionType,
    otherwise: types.FunctionType,
    names: tuple[str, ...],
    live: tuple[str, ...],
) -> None:
    """What follows a statement that may have returned, which it has not where it is `going` on."""
    branch(going, then, otherwise, names, live, moot=True)


def loop(test: Callable[[], Any], body: Callable[[], None], names: tuple[str, ...], live: tuple[str, ...]) -> None:
    """``while test(): body()``, where `names` are the variables the body assigns."""
    stager = current.get()
    going, steps = test(), 0
    while stager is not None or not _differs(going):
        if stager is not None and ((_differs(going) and steps < _PATIENCE) or steps == _PATIENCE):
            if stager.while_(going, test, body, Variables(names, live)):
                return
            steps = max(steps, _PATIENCE)
        if not concrete(going):
            return
        body()
        going, steps = test(), steps + 1
    cells = _cells(names, body, test)
    going = _running(going.astype(bool))
    while _lowest(going).any():
        going = np.logical_and(going, _step(going, cells, body, test))


def _step(going: Any, cells: dict[str, types.CellType], body: Callable[[], None], test: Callable[[], Any]) -> Any:
    """A step of a loop in some lanes only, and what is found after it; in the others variables stay what they are."""
    before = {name: _get(cell) for name, cell in cells.items()}
    with masked(going):
        body()
        found = test()
    for name, cell in cells.items():
        _set(cell, _select(going, _get(cell), before[name], f"the variable {name!r}"))
    return found


def each(
    items: Any,
    body: Callable[[Any], None],
    leaving: Callable[[], Any] | None,
    names: tuple[str, ...],
    live: tuple[str, ...],
) -> None:
    """``for item in items: body(item)``, which ends when one of the flags that `leaving` looks at is set."""
    stager = current.get()
    if stager is not None:
        described = items_of(items)
        if described is not None and stager.each(described, body, leaving, Variables(names, live)):
            return
    elif isinstance(items, Items) and _differs(items.count):
        _each_in_lanes(items, body, leaving, _cells(names, body))
        return
    for item in items:
        body(item)
        if leaving is not None and all_lanes(leaving()):
            return


def _each_in_lanes(
    items: Items, body: Callable[[Any], None], leaving: Callable[[], Any] | None, cells: dict[str, types.CellType]
) -> None:
    """`each`, where the number of items differs between lanes."""
    for place in itertools.count():
        going = _running(place < items.count)
        if not _lowest(going).any():
            return
        _step(going, cells, functools.partial(body, items.at(place)), lambda: None)
        if leaving is not None and all_lanes(leaving()):
            return


def choose(condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """``then() if condition else otherwise()``."""
    if not _differs(condition):
        return then() if concrete(condition) else otherwise()
    stager = current.get()
    if stager is not None:
        found = stager.choose(condition, then, otherwise)
        return found if found is not NotImplemented else then() if concrete(condition) else otherwise()
    condition = condition.astype(bool)
    inside, outside = _running(condition), _running(np.logical_not(condition))
    if not _lowest(outside).any():
        return then()
    if not _lowest(inside).any():
        return otherwise()
    with masked(inside):
        chosen = _of_some(then)
    with masked(outside):
        other = _of_some(otherwise)
    return _select(condition, chosen, other, "the conditional expression")


def _itself(value: Any) -> Any:
    return value


def both(*operands: Callable[[], Any]) -> Any:
    """``a and b and ...``."""
    value = operands[0]()
    for operand in operands[1:]:
        if _differs(value):
            value = _unless_staged(value, operand, functools.partial(_itself, value), np.logical_and)
        elif not concrete(value):
            return value
        else:
            value = operand()
    return value


def _unless_staged(
    value: Any, then: Callable[[], Any], otherwise: Callable[[], Any], combine: Callable[[Any, Any], Any]
) -> Any:
    """A choice by a value that differs; of lanes both sides are combined, the second of which only some may reach."""
    if current.get() is not None:
        return choose(value, then, otherwise)
    reached, operand = (value, then) if combine is np.logical_and else (np.logical_not(value), otherwise)
    running = _running(reached.astype(bool))
    if not _lowest(running).any():
        return value
    with masked(running):
        return combine(value, operand())


def either(*operands: Callable[[], Any]) -> Any:
    """``a or b or ...``."""
    value = operands[0]()
    for operand in operands[1:]:
        if _differs(value):
            value = _unless_staged(value, functools.partial(_itself, value), operand, np.logical_or)
        elif concrete(value):
            return value
        else:
            value = operand()
    return value


def none(*flags: Any) -> Any:
    """``not a``; of several, whether none holds."""
    value = either(*[lambda f=f: f for f in flags])
    if not _differs(value):
        return not concrete(value)
    found = np.logical_not(value)
    if current.get() is None or type(peek(found)) is bool:
        return found
    return as_python(found, bool)


def chain(parts: tuple[Any, ...]) -> Any:
    """``a < b < c``: the comparisons, then the delayed operands."""
    count = len(parts) // 2
    links, operands = parts[:count], parts[count:]

    def rest(i: int, left: Any) -> Any:
        right = operands[i + 1]()
        value = links[i](left, right)
        if i == count - 1:
            return value
        if _differs(value):
            return _unless_staged(value, lambda: rest(i + 1, right), lambda: value, np.logical_and)
        return rest(i + 1, right) if concrete(value) else value

    return rest(0, operands[0]())


def among(item: Any, container: Any) -> Any:
    """``item in container``: where the item differs, or the members do, whether it equals one of them."""
    kind = type(container)
    if kind is range and _is_number(item) and _differs(item):
        if container.step < 0:
            container = container[::-1]
        start, step = container.start, container.step
        return both(lambda: item >= start, lambda: item < container.stop, lambda: (item - start) % step == 0)
    if kind in (tuple, list, set, frozenset):
        members = [m for m in container if _is_number(m)]
        others = [m for m in container if not _is_number(m)]
        if any(map(_differs, (item, *members))) and all(isinstance(m, _NO_NUMBERS) for m in others):
            if isinstance(item, _NO_NUMBERS):
                return item in others
            if _is_number(item):
                return either(*[lambda m=m: item == m for m in members]) if members else False
    return item in container


_NO_NUMBERS = (str, bytes, types.NoneType)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex, np.generic)) or (isinstance(value, Array) and not value.shape)


def every(condition: Any, message: Callable[[], Any] | None = None) -> bool:
    """Whether an asserted condition holds in every lane that is running; a staged one is checked when it runs."""
    if not _differs(condition):
        return bool(concrete(condition))
    stager = current.get()
    if stager is not None:
        return stager.check(condition, message) or bool(concrete(condition))
    mask = masks.get()
    holds = condition if mask is None else np.logical_or(condition, np.logical_not(mask))
    return bool(_lowest(holds).all())


def all_lanes(*flags: Any) -> bool:
    """Whether in every lane one of the flags holds."""
    value = either(*[lambda f=f: f for f in flags])
    if _differs(value) and current.get() is None:
        return bool(_lowest(value).all())
    return bool(concrete(value))


def set_item(target: Any, index: Any, value: Any) -> None:
    """``target[index] = value`` for the lanes that are running."""
    mask = masks.get()
    if mask is not None and isinstance(target, (list, dict)):
        try:
            before = target[index]
        except (KeyError, IndexError):
            before = NOTHING
        value = _select(mask, value, before, f"the item {index!r}")
    target[index] = value


def set_attribute(target: Any, name: str, value: Any) -> None:
    """``target.name = value`` for the lanes that are running."""
    mask = masks.get()
    if mask is not None:
        value = _select(mask, value, getattr(target, name, NOTHING), f"the attribute {name!r}")
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


def collect(collected: list[Any], item: Any) -> None:
    """Put an item on the list that a comprehension makes."""
    collected.append(item)


def through(name: str, function: Any, loop: Callable[[], Any], plain: Callable[[], Any]) -> Any:
    """A call of `sum`, `any` or `all` with a generator; staged it is a loop."""
    staged = current.get() is not None and function in (getattr(builtins, name), lifted_sum)
    return loop() if staged else plain()


def lifted_sum(items: Any, /, start: Any = 0) -> Any:
    """`sum`, which is a loop where it goes through an array that is not known."""
    described = items_of(items) if current.get() is not None else None
    if described is None:
        return builtins.sum(items, start)
    total = start

    def add(item: Any) -> None:
        nonlocal total
        total = total + item

    each(described, add, None, ("total",), ("total",))
    return total


def bound(before: Callable[[], Any], value: Any) -> Any:
    """``(name := value)`` for the lanes that are running, where `before` gives what the name stood for."""
    mask = masks.get()
    if mask is None:
        return value
    try:
        return _select(mask, value, before(), "a variable that is bound in an expression")
    except NameError:
        return value


def changing(target: Any, name: str) -> Any:
    """A method that changes a container."""
    _refuse_change(target, name)
    return getattr(target, name)


class Parted(BaseException):
    """Some lanes raise what the code around handles, and others do not.

    Not an `Exception`, which that code would take for one of its own; `vmap` raises its message.
    """


_handling: ContextVar[int] = ContextVar("handling", default=0)
"""How many statements are running that handle exceptions."""


def _of_some(side: Callable[[], Any]) -> Any:
    """Run a side that only some lanes take."""
    try:
        return side()
    except Exception as error:
        if not _handling.get():
            raise
        raise Parted(
            f"{user_line()}: {type(error).__name__} ({error}) is raised in some lanes only, and the try statement "
            "around it would handle it for all of them. Select with np.where(condition, a, b) instead of raising."
        ) from error


def trying(depth: int) -> None:
    """A statement that handles exceptions begins (1) or ends (-1)."""
    _handling.set(_handling.get() + depth)
    stager = current.get()
    if stager is not None:
        stager.trying(depth)


def recursive(body: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """A call of a function that calls itself."""
    stager = current.get()
    return body(*arguments, **keywords) if stager is None else stager.recurse(body, arguments, keywords)


def _refuse_change(target: Any, name: str) -> None:
    """Lists, dicts and sets are the same for all lanes: refuse to change them while only some are running."""
    if masks.get() is not None and isinstance(target, (list, dict, set)):
        raise TracedConditionError(
            f"{user_line()}: {type(target).__name__}.{name} under a condition that differs between lanes would change "
            "the container for all of them. Write into an array, or select with np.where(condition, a, b)."
        )


def nothing() -> Any:
    """The value of a variable that has none yet."""
    return NOTHING


def result(value: Any) -> Any:
    """What a function returns."""
    return None if value is NOTHING else value


CALLS: dict[str, Callable[..., Any]] = {
    f"{function.__name__}()": function
    for function in (
        branch, rest, loop, each, iterating, recursive, trying, choose, both, either, none, chain, among, every,
        all_lanes, get_item, get_attribute, set_item, set_attribute, augmented, bound, changing, collect, through,
        printing, text, nothing, result,
    )
}  # fmt: skip
"""By the names under which rewritten code knows them."""
