"""The operation that selects between two arrays element by element."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..core.operation import Row, linear, row
from .lanes import aligned

__all__ = ["where"]


def _rows() -> Iterable[Row]:
    a = np.array([[0.3, -1.2, 0.8], [2.5, 0.7, -0.4]])
    c = np.array([[True, False, True], [False, False, True]])
    yield row(c, a, a * 2 + 1)
    yield row(c[0], a, np.float64(0.4))
    yield row(c[:, :1], a[0], a.astype(np.float32))
    yield row(c[0], np.float64(0.1), np.float64(0.4))
    yield row(c[0, 0], a, a[0])
    yield row(c[:0], a[:0], a[:0])


where = linear(
    "where",
    np.where,
    None,
    lambda ct, c: np.where(c, ct, 0),
    lambda ct, c: np.where(c, 0, ct),
    operands="c a b",
    batch=aligned,
    rows=_rows,
    selects=True,
)
