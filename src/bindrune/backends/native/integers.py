"""Python's integers in machine words: exact, or else the program stops and the host performs it.

Each is kept below 2^62 in magnitude, when it comes in as when it is computed.  So a sum of two fits its word, and needs
to be looked at only where both may be large: to come from one bound to the other by steps of 2^16 would take a machine
many hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...graph.graph import PYTHON, Node, Value
from .elements import convert
from .formats import arithmetic
from .loops import INTEGER, Affine, Apply, Const, Expression, Variable

if TYPE_CHECKING:
    from .lower import Lowering

__all__ = ["LIMIT", "keep_exact"]

LIMIT = 1 << 62
_STEP = 1 << 16
_COUNT = 1 << 47
"""More than any loop counts, or any array has elements."""
_DOUBLE = np.dtype(float)
_GROWING = frozenset("add subtract multiply power convert item".split())
"""The operations whose result may be out of bounds where their operands are not."""


def keep_exact(low: Lowering, node: Node, operands: Sequence[Any], result: Any) -> None:
    """Stop the program where an operation that gives an integer of Python's leaves the bounds."""
    name = node.op.name.removeprefix("python.")
    if name not in _GROWING:
        return
    numbers = [low.number(x) for x in operands]
    if name in ("add", "subtract"):
        if min(_bound(low, x) for x in numbers) > _STEP:
            _require_small(low, node, result, numbers)
    elif name == "multiply":
        if _bound(low, numbers[0]) * _bound(low, numbers[1]) >= LIMIT:
            _require_small(low, node, Apply("multiply", _doubles(numbers), _DOUBLE), numbers)
    elif name == "power":
        _require_small(low, node, Apply("power", _doubles(numbers), _DOUBLE), numbers)
    elif _may_be_large(node.operands[0]) and arithmetic(node.operands[0].dtype):
        _require_small(low, node, convert(numbers[0], _DOUBLE), numbers)


def _may_be_large(x: Value) -> bool:
    """Whether a value that is brought to an integer of Python's may be out of bounds, or none at all."""
    return x.dtype.kind == "f" or (x.form != PYTHON and x.dtype.kind in "iu" and x.dtype.itemsize == INTEGER.itemsize)


def _doubles(numbers: Sequence[Expression]) -> tuple[Expression, ...]:
    return tuple(convert(x, _DOUBLE) for x in numbers)


def _require_small(low: Lowering, node: Node, x: Expression, numbers: Sequence[Expression]) -> None:
    def perform(*found: Any) -> None:
        """What may raise, as `int(nan)` does; what does not is left to the host with the whole program."""
        given = [n.item() if v.form == PYTHON else n for n, v in zip(found, node.operands, strict=True)]
        node.op.implementation(*given, **node.params)

    limit = Const(x.dtype.type(LIMIT), x.dtype)
    small = Apply("less", (Apply("absolute", (x,), x.dtype), limit), np.dtype(bool))
    low.check(small, node, perform, *numbers)


def _bound(low: Lowering, x: Expression) -> int:
    """What the magnitude of an integer does not exceed."""
    if isinstance(x, Const):
        return abs(int(x.value))
    if isinstance(x, Affine):
        return abs(x.offset) + sum(abs(factor) * _bound(low, variable) for variable, factor in x.terms)
    if isinstance(x, Variable):
        if x.below is not None:
            return _COUNT
        return _bound(low, low.definitions[x]) if x in low.definitions else LIMIT
    if isinstance(x, Apply):
        if x.name == "convert" and x.arguments[0].dtype.kind in "biu":
            return min(LIMIT, 1 << 8 * x.arguments[0].dtype.itemsize)
        if x.name == "remainder":
            return _bound(low, x.arguments[1])
    return LIMIT
