"""Looking up in tables, counting into bins, interpolating.

`np.histogram` and its kin are NumPy's own Python code, lifted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.array import Array, concrete
from ..core.handler import constant
from ..core.protocol import implements
from ..ops import binning
from ..ops.positions import counted
from ..ops.views import is_concrete
from .shaping import cell_of

__all__: list[str] = []


@implements(np.searchsorted)
def _searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Array:
    table = cell_of(a) if sorter is None else cell_of(a)[cell_of(sorter)]
    positions: Array = binning.searchsorted(cell_of(v), table, side=side)
    return positions


@implements(np.digitize)
def _digitize(x: Any, bins: Any, right: bool = False) -> Array:
    positions: Array = binning.digitize(cell_of(x), cell_of(bins), right=right)
    return positions


@implements(np.bincount)
def _bincount(x: Any, /, weights: Any = None, minlength: Any = 0) -> Array:
    positions = cell_of(x)
    if is_concrete(positions):
        counts = np.bincount(concrete(positions), minlength=minlength)
        if weights is None:
            return constant(counts)
        length = len(counts)
    else:
        # NumPy says what it thinks of arrays like these.
        np.bincount(np.zeros((0,) * positions.ndim, positions.dtype), minlength=minlength)
        positions = positions.astype(np.intp)
        length = counted(np.maximum(np.max(positions, initial=-1) + 1, minlength))
    totals: Array = binning.bincount(
        cell_of(np.ones(positions.shape) if weights is None else weights), positions, length=length
    )
    return totals.astype(np.intp) if weights is None else totals


@implements(np.interp)
def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    x, xp, fp = cell_of(x), cell_of(xp), cell_of(fp)
    if period is not None:
        return _interp_periodic(x, xp, fp, np.abs(cell_of(period)))
    y = binning.interp(x, xp, fp)
    y = y if left is None else np.where(x < xp[0], left, y)
    return y if right is None else np.where(x > xp[-1], right, y)


def _interp_periodic(x: Any, xp: Any, fp: Any, period: Any) -> Any:
    """Interpolation in a table that is continued by one point at either end."""
    if is_concrete(period) and concrete(period) == 0:
        raise ValueError("period must be a non-zero value")
    if xp.ndim != 1 or fp.ndim != 1:
        raise ValueError("Data points must be 1-D sequences")
    if xp.shape != fp.shape:
        raise ValueError("fp and xp are not of the same length")
    x, xp = x % period, xp % period
    order = np.argsort(xp)
    xp, fp = xp[order], fp[order]
    xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
    return binning.interp(x, xp, np.concatenate([fp[-1:], fp, fp[:1]]))
