"""Operations that put arrays together: along an axis there is (`concatenate`), along a new one (`stack`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.handler import evaluate
from ..core.operation import Op, Row, Spec, linear, row

__all__ = ["concatenate", "stack"]


def _batch(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    lanes = [v if b else np.broadcast_to(v, (size, *np.shape(v))) for v, b in zip(values, batched, strict=True)]
    return evaluate(op, lanes, {"axis": params["axis"] + 1})


def _concatenate(*xs: Any, axis: int) -> Any:
    return np.concatenate(xs, axis)


def _cut(ct: Any, position: int, specs: Sequence[Spec], axis: int) -> Any:
    """The stretch of a joined array that came from one part."""
    start = sum(s.shape[axis] for s in specs[:position])
    return ct[(slice(None),) * axis + (slice(start, start + specs[position].shape[axis]),)]


def _concatenate_rows() -> Iterable[Row]:
    x = np.arange(6.0).reshape(2, 3) / 3 - 0.7
    yield row(x[0], x[1, :2], axis=0)
    yield row(x, x[:1] * 2, axis=0)
    yield row(x, x[:, :0], x[:, 1:] + 1, axis=1)
    yield row(x.astype(np.float32), x, axis=1)
    yield row(x[:, None], axis=1)


concatenate = linear("concatenate", _concatenate, _cut, operands="*xs", batch=_batch, rows=_concatenate_rows)


def _stack(*xs: Any, axis: int) -> Any:
    return np.stack(xs, axis)


def _layer(ct: Any, position: int, axis: int) -> Any:
    """What a stacked array has of one part."""
    return ct[(slice(None),) * axis + (position,)]


def _stack_rows() -> Iterable[Row]:
    x = np.arange(6.0).reshape(2, 3) / 3 - 0.7
    yield row(np.float64(0.3), np.float64(-1.2), axis=0)
    yield row(x[0], x[1], axis=1)
    yield row(x, x * 2, x - 1, axis=2)
    yield row(x.astype(np.float32), x, axis=0)
    yield row(x[:0], x[:0], axis=1)


stack = linear("stack", _stack, _layer, operands="*xs", batch=_batch, rows=_stack_rows)
