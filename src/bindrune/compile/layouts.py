"""How arrays lie in memory, as far as a function can tell: NumPy's `reshape` and `ravel` give views where it allows.

A graph's values have no layout.  What is made of an array is taken to be a view if it would be one of an array in C's
order, which is right for arrays that are known to be in that order, and else makes a difference only where the array or
what is made of it is written afterwards.  So of an array that may lie otherwise both are *shared* (`compile.aliases`):
a function that writes to one is not staged.  Where the order is that of the arguments at hand, calls with arguments
that lie otherwise take another path.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.array import Array, peek
from ..core.operation import Elementwise, Write
from ..core.protocol import hooks
from ..graph.graph import Literal, Node, Value
from ..lift.stager import current
from .staging import Staging

__all__ = ["is_in_order"]

_OF_FIRST = frozenset({"copy", "astype", "convert", "sum", "prod", "mean", "max", "min", "concatenate", "stack"})
"""Operations whose results lie as their operands do."""
_ORDERED = frozenset({"reshape", "matmul", "dot", "outer", "einsum", "tensordot", "solve", "inv", "cholesky"})
"""Operations whose results are in C's order."""


def is_in_order(x: Any) -> bool:
    """Whether an array of no stage is in C's order, where that can make a difference."""
    return not isinstance(x, np.ndarray) or x.ndim < 2 or bool(x.flags.c_contiguous)


class _Order:
    """Looks for the order of values, and remembers whether it is that of an argument."""

    def __init__(self) -> None:
        self.of_argument = False

    def of_cell(self, cell: Array) -> bool:
        cell = cell.read()
        while isinstance(cell._value, Array):
            cell = cell._value.read()
        value, handler = cell._value, cell._handler
        if not isinstance(value, Value):
            return True  # its layout is seen
        return isinstance(handler, Staging) and self.of_value(handler, value)

    def of_value(self, stage: Staging, value: Value) -> bool:
        """Whether a value is known to be in C's order."""
        if len(value.shape) < 2:
            return True
        if isinstance(value, Literal):
            return is_in_order(value.content)
        node = next((n for n in reversed(stage.nodes) if value in n.results), None)
        if node is not None:
            return self._of_node(stage, node)
        if value in stage.outside:
            outside = stage.outside[value]
            if isinstance(outside, Array):
                return self.of_cell(outside)
        elif stage.known is None:
            return False
        self.of_argument = True
        return is_in_order(peek(stage.known[value])) if stage.known is not None else is_in_order(outside)

    def _of_node(self, stage: Staging, node: Node) -> bool:
        name = node.op.name
        if name in _ORDERED or "order" in node.params:
            return bool(node.params.get("order", "C") == "C")
        if isinstance(node.op, Write):
            return self.of_value(stage, node.operands[0])
        if isinstance(node.op, Elementwise) or name in _OF_FIRST:
            return all(self.of_value(stage, v) for v in node.operands)
        (source, *_) = node.operands
        return bool(name == "broadcast_to" and isinstance(source, Literal) and source.ndim == 0)


def _note(cell: Array, made: Array, by_order: bool = True) -> None:
    """Something was made of a cell that is a view if it would be one of an array in C's order, if that is known."""
    stager: Any = current.get()
    if stager is None or len(cell.shape) < 2:
        return
    order = _Order()
    if not by_order or not order.of_cell(cell.root):
        stager.sharing.cells += [(root, root._version) for root in (cell.root, made.root)]
    elif order.of_argument:
        stager.sharing.ordered = True


hooks.layout = _note
