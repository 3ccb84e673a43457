"""Tables: finding the interval a value lies in, counting into bins, interpolating between points.

Positions have no derivative; counts are linear in their weights; a piecewise linear interpolant has a derivative in
all three arguments, at a point of the table that of the interval to its right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.cotangents import Sparse
from ..core.handler import evaluate
from ..core.operation import Op, Row, Spec, linear, operation, row
from .indexing import ARRAY, add_at, getitem

__all__ = ["bincount", "digitize", "interp", "searchsorted"]


def _at(table: Any, places: Any) -> Any:
    return evaluate(getitem, (table, places), {"index": (ARRAY,)})


_TABLE = np.array([-1.0, 0.2, 0.5, 1.7])
_VALUES = np.array([[0.3, -2.0, 0.25], [1.6, -0.4, 2.5]])

# -------------------------------------------------------------------------------------------------------- positions


def _batch_lookup(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    """What is looked up may have any shape; a table for each lane is met lane by lane."""
    return NotImplemented if any(batched[1:]) else evaluate(op, values, params)


def _lookup_rows(**params: Any) -> list[Row]:
    chosen: tuple[Any, ...] = (_VALUES, _VALUES[0].astype(np.float32), np.float64(0.3), _VALUES[:0])
    return [row(x, _TABLE, **params) for x in chosen]


searchsorted = operation(
    "searchsorted",
    lambda x, table, side: np.searchsorted(table, x, side),
    jvp=None,
    vjp=None,
    operands="x table",
    batch=_batch_lookup,
    rows=lambda: _lookup_rows(side="left"),
)
digitize = operation(
    "digitize",
    lambda x, table, right: np.digitize(x, table, right),
    jvp=None,
    vjp=None,
    operands="x table",
    batch=_batch_lookup,
    rows=lambda: _lookup_rows(right=False),
)

# --------------------------------------------------------------------------------------------------------- counting


def _bincount(weights: Any, positions: Any, *, length: int) -> Any:
    return np.bincount(positions, weights, length)


def _batch_bincount(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    """The bins of all lanes side by side."""
    length = params["length"]
    if not isinstance(length, int):
        return NotImplemented
    weights, positions = values
    positions = positions + length * np.arange(size).reshape(size, 1)
    weights = np.ravel(np.broadcast_to(weights, np.shape(positions)))
    found = np.reshape(evaluate(op, (weights, np.ravel(positions)), {"length": size * length}), (size, length))
    # NumPy counts nothing, with whatever weights, in integers.
    return found if size or not positions.shape[1] else found.astype(float)


bincount = linear(
    "bincount",
    _bincount,
    lambda ct, positions: _at(ct, positions),
    None,
    operands="weights positions",
    batch=_batch_bincount,
    rows=lambda: [
        row(np.array([0.7, -1.3, 2.1, 0.4]), np.array([1, 0, 1, 3]), length=5),
        row(np.array([0.7, -1.3], np.float32), np.array([2, 2]), length=3),
        row(np.zeros(0), np.zeros(0, int), length=2),
    ],
)

# ---------------------------------------------------------------------------------------------------- interpolation


def _bracket(x: Any, xp: Any) -> tuple[Any, Any, Any]:
    """The two points of the table around each value, and how far along from one to the other it is, from 0 to 1."""
    last = xp.shape[0] - 1
    left = np.clip(np.searchsorted(xp, x, side="right") - 1, 0, max(last - 1, 0))
    right = np.minimum(left + 1, last)
    width = _at(xp, right) - _at(xp, left)
    return left, right, np.clip((x - _at(xp, left)) / np.where(width == 0, 1, width), 0, 1)


def _slope(x: Any, xp: Any, fp: Any) -> Any:
    left, right, _ = _bracket(x, xp)
    width = _at(xp, right) - _at(xp, left)
    inside = (x >= xp[0]) & (x <= xp[-1]) & (width != 0)
    return np.where(inside, (_at(fp, right) - _at(fp, left)) / np.where(width == 0, 1, width), 0)


def _deal(ct: Any, x: Any, xp: Any, of: Spec) -> Sparse:
    """Each cotangent to the two points around its value, to the nearer one the more."""
    left, right, fraction = _bracket(x, xp)
    shares = np.stack([ct * (1 - fraction), ct * fraction])
    return Sparse(add_at, of, (shares, np.stack([left, right])), {"index": (ARRAY,)})


def _interp_rows() -> Iterable[Row]:
    fp = np.array([0.7, -1.3, 2.1, 0.4])
    yield row(_VALUES, _TABLE, fp)
    yield row(_VALUES[1], _TABLE, fp + 1j * fp[::-1])
    yield row(_VALUES[0].astype(np.float32), _TABLE.astype(np.float32), fp.astype(np.float32))
    yield row(np.float64(0.3), _TABLE, fp)
    yield row(_VALUES[:0], _TABLE, fp)
    yield row(_VALUES[0], _TABLE[:1], fp[:1])
    yield row(np.array([0.2, -1.0, 1.7]), _TABLE, fp, smooth=False)


interp = operation(
    "interp",
    np.interp,
    operands="x xp fp",
    jvp=(
        lambda t, x, xp, fp: t * _slope(x, xp, fp),
        lambda t, x, xp, fp: -_slope(x, xp, fp) * np.interp(x, xp, t),
        lambda t, x, xp: np.interp(x, xp, t),
    ),
    vjp=(
        lambda ct, x, xp, fp: ct * _slope(x, xp, fp),
        lambda ct, x, xp, fp, of: _deal(np.real(-ct * _slope(x, xp, fp)), x, xp, of),
        lambda ct, x, xp, of: _deal(ct, x, xp, of),
    ),
    batch=_batch_lookup,
    rows=_interp_rows,
)
