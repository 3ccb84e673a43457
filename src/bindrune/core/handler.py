"""Handlers, and how an operation finds the one that answers it.

An operation is *performed* on operands.  The newest handler that owns an operand answers: it does its bookkeeping
and performs the operation again on the values one level out, until only plain arrays are left and NumPy answers.
Handlers are numbered by a counter when they are made, newer is inner; there is no other state, so threads,
re-entrance and exceptions need no care.

`perform` is what user code reaches: its results are cells.  `evaluate` is what handlers use to go one level out: on
plain arrays it is the NumPy call itself.  `update` performs a write: it consumes the array written to, and where
nobody else holds that array the write happens in place.
"""

from __future__ import annotations

import itertools
import operator
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from .array import Array, View, duplicate, peek, shape_of
from .errors import EscapedValueError, user_line

if TYPE_CHECKING:
    from .operation import Binary, Op, Unary, Write

__all__ = [
    "HOST",
    "Handler",
    "constant",
    "constants",
    "evaluate",
    "next_number",
    "paused",
    "paused_below",
    "perform",
    "update",
    "write",
]

_numbers = itertools.count(1)

paused: ContextVar[int] = ContextVar("paused", default=0)
"""Derivatives begun before this number see only constants (`no_grad`)."""

paused_below = paused.get


def next_number() -> int:
    """A number above that of every handler made so far."""
    return next(_numbers)


class Handler:
    """Answers operations on the cells it owns.  A transformation is a subclass."""

    __slots__ = ("level", "origin")

    per_lane = False
    """Whether a cell stands for one value per lane."""
    symbolic = False
    """Whether values are not known while the function runs: it is being staged."""
    tells = True
    """Whether values, if they are symbolic, can be told for the call at hand."""
    level: int
    origin: object
    """What messages call the transformation, by its `str`."""

    def __init__(self, origin: object = "") -> None:
        self.level = next(_numbers)
        self.origin = origin

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        """Perform `op`, at least one of whose operands is mine; operands are cells (never views) or plain values."""
        raise NotImplementedError

    def unary(self, op: Unary, x: Array) -> Array:
        """`apply` for an elementwise operation on one operand, which is mine."""
        result: Array = self.apply(op, (x,), {})
        return result

    def binary(self, op: Binary, a: Any, b: Any) -> Array:
        """`apply` for an elementwise operation on two operands, at least one of them mine."""
        result: Array = self.apply(op, (a, b), {})
        return result

    def update(self, op: Write, target: Array, operands: Sequence[Any], params: dict[str, Any]) -> Array:
        """Perform a write that consumes `target`; it or one of the operands is mine."""
        raise NotImplementedError

    def open(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The operands one level out, and the marks of those that are mine."""
        values: list[Any] = []
        marks: list[Any] = []
        for x in operands:
            mark = None
            if type(x) is Array:
                if x._handler is self:
                    mark = x._mark
                    x = x._value
                else:
                    x = x._value if x._handler is HOST else x.snapshot()
            values.append(x)
            marks.append(mark)
        return values, marks

    def shape(self, value: Any) -> tuple[int, ...]:
        """The shape that a cell over `value` shows."""
        return shape_of(value)

    def peek(self, value: Any) -> Any:
        """A plain array of the geometry that a cell over `value` shows."""
        return peek(value)

    def concrete(self, value: Any) -> Any:
        """What Python gets when it needs the value of a cell itself: to branch, count or print."""
        return value

    def length(self, cell: Array) -> Any:
        """An integer as the bound of a slice: a number, or a length that is not known yet (`graph.dims.Dim`)."""
        value = cell._value
        if self.per_lane or not isinstance(value, Array):
            return operator.index(cell)
        value = value.read()
        return value._handler.length(value)

    def decide(self, cell: Array, otherwise: bool) -> bool:
        """A condition that decides between two ways to one result; where it cannot be known, `otherwise`."""
        return bool(cell)

    def end(self) -> None:
        """Refuse all further use: every cell that got away raises from now on."""
        self.__class__ = type(self).ended

    ended: type[Handler]
    """What a handler of this class becomes when its transformation is over."""

    def __init_subclass__(cls) -> None:
        if "ended" not in cls.__dict__:
            refusing = dict.fromkeys(("apply", "unary", "binary", "update", "shape", "peek", "concrete"), _refuse)
            cls.ended = type(f"Ended{cls.__name__}", (cls,), {"__slots__": (), "ended": None, **refusing})


def _refuse(handler: Handler, *_: Any) -> Any:
    raise EscapedValueError(
        f"{user_line()}: this value was made inside {handler.origin} and used after that call had ended. Return it "
        "from the function instead of storing it (has_aux=True returns it beside the result)."
    )


class Host(Handler):
    """The level of plain NumPy: owns the constants of a lifted function."""

    __slots__ = ()

    def __init__(self) -> None:
        self.level = 0
        self.origin = "plain NumPy"

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        values = [x._value if isinstance(x, Array) else x for x in operands]
        return constants(op.implementation(*values, **params))

    def unary(self, op: Unary, x: Array) -> Array:
        return Array(self, op.implementation(x._value))

    def binary(self, op: Binary, a: Any, b: Any) -> Array:
        return Array(
            self,
            op.implementation(a._value if type(a) is Array else a, b._value if type(b) is Array else b),
        )

    def update(self, op: Write, target: Array, operands: Sequence[Any], params: dict[str, Any]) -> Array:
        box = [target._value]
        target._value = None
        try:
            return Array(self, update(op, box, [x._value if isinstance(x, Array) else x for x in operands], params))
        except BaseException:
            target._value = box.pop()
            raise


HOST = Host()


def constant(value: Any) -> Array:
    """A cell over a value that no handler follows."""
    return value if isinstance(value, Array) else Array(HOST, value)


def constants(result: Any) -> Any:
    """Cells over the result, or the several results, of an operation."""
    return tuple(map(constant, result)) if type(result) is tuple else constant(result)


def perform(op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
    """Perform an operation as user code does: the newest handler among the operands answers with cells."""
    if len(operands) == 1 and isinstance(operands[0], Array):
        only = operands[0].read()
        return only._handler.apply(op, (only,), params)
    top: Handler = HOST
    read = []
    for x in operands:
        kind = type(x)
        if kind is Array or kind is View:
            x = x.read()
            if x._handler.level > top.level:
                top = x._handler
        read.append(x)
    return top.apply(op, read, params)


def evaluate(op: Op, values: Sequence[Any], params: dict[str, Any]) -> Any:
    """Perform an operation one level out: on plain arrays, the NumPy call itself."""
    for value in values:
        if isinstance(value, Array):
            return op(*values, **params)
    return op.implementation(*values, **params)


def update(op: Write, box: list[Any], operands: Sequence[Any], params: dict[str, Any]) -> Any:
    """Write into the value in `box`, which is taken out (and put back if the write fails); the new value returns.

    The write is in place when the box held the only reference.  Reference counts are exact in CPython, and a NumPy
    view of an array counts as a reference to it.
    """
    target = box.pop()
    try:
        top: Handler | None = None
        for x in operands:
            if isinstance(x, Array) and (top is None or x._handler.level > top.level):
                top = x._handler
        if isinstance(target, Array):
            if sys.getrefcount(target) > _SOLE or type(target) is View:
                target = target.snapshot()
            if top is None or target._handler.level > top.level:
                top = target._handler
            return top.update(op, target, operands, params)
        if top is not None:
            return top.update(op, Array(HOST, target), operands, params)
        if not isinstance(target, np.ndarray):
            target = np.asarray(target)
        fresh = target if sys.getrefcount(target) == _SOLE and _has_sole_base(target) else duplicate(target)
        op.in_place(fresh, *operands, **params)
        return fresh
    except BaseException:
        box.append(target)
        raise


def write(cell: Array, op: Write, operands: Sequence[Any], params: dict[str, Any]) -> None:
    """Write into a root cell."""
    top = cell._handler
    read = []
    for x in operands:
        if isinstance(x, Array):
            x = x.read()
            if x is cell:
                x = cell.snapshot()
            if x._handler.level > top.level:
                top = x._handler
        read.append(x)
    target = Array(cell._handler, cell._value, cell._mark)
    cell._value = cell._mark = None
    try:
        new = top.update(op, target, read, params)
        cell._handler, cell._value, cell._mark = new._handler, new._value, new._mark
        new._value = new._mark = None
    except BaseException:
        cell._value, cell._mark = target._value, target._mark
        raise
    cell._version += 1


def _has_sole_base(array: np.ndarray[Any, Any]) -> bool:
    """Whether an array owns its memory, or is the only view of what does (and no broadcast one)."""
    base = array.base
    if base is None:
        return True
    sole = type(base) is np.ndarray and sys.getrefcount(base) == _SOLE + 1
    return sole and base.flags.owndata and array.flags.writeable


def _sole_count() -> int:
    """The reference count that `update` sees for a value only its box held, whatever this interpreter counts."""
    box = [np.empty(0)]
    target = box.pop()
    return sys.getrefcount(target)


_SOLE = _sole_count()
