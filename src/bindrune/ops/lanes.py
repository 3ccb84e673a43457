"""Batching rules that several families of operations share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.array import ndim_of, shape_of
from ..core.handler import evaluate
from ..core.operation import Op

__all__ = ["aligned", "as_stack"]


def as_stack(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    """For an operation on one operand that takes its leading axes as they come: the lanes are one more of them."""
    return evaluate(op, values, params)


def aligned(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    """For an operation that broadcasts its operands' leading axes: the lanes' axis comes before all of them."""
    return evaluate(op, align(size, values, batched), params)


def align(size: int, values: Sequence[Any], batched: Sequence[bool]) -> list[Any]:
    """Batched operands with axes of length one after the lanes' axis, up to the dimensions of the largest operand."""
    dims = [ndim_of(v) - b for v, b in zip(values, batched, strict=True)]
    most = max(dims)
    return [
        np.reshape(v, (size, *(1,) * (most - n), *shape_of(v)[1:])) if b and n < most else v
        for v, b, n in zip(values, batched, dims, strict=True)
    ]
