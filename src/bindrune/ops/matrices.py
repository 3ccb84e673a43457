"""Operations on matrices that SciPy has and NumPy has not: LU factors and the exponential.

They take stacks of matrices.  LU factors of matrices that are not square have no derivative and say so; which rows
change places is taken to be fixed, as it is almost everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import linalg

from ..core.errors import UnsupportedError, user_line
from ..core.handler import evaluate
from ..core.operation import Row, Spec, operation, row
from .lanes import as_stack
from .linalg import sample, triangular_solution

__all__ = ["expm", "factors", "rows_in_order"]

# ----------------------------------------------------------------------------------------------------------- LU factors


def _rows_in_order(pivots: Any, rows: int) -> Any:
    order = np.broadcast_to(np.arange(rows), (*pivots.shape[:-1], rows)).copy()
    for i in range(pivots.shape[-1]):
        other = pivots[..., i, None]
        moved = np.take_along_axis(order, other, axis=-1)
        np.put_along_axis(order, other, order[..., i, None], axis=-1)
        order[..., i, None] = moved
    return order


def _pivots_rows() -> Iterable[Row]:
    yield row(np.array([2, 2, 3, 3], np.int32), rows=4)
    yield row(np.array([1, 1], np.int32), rows=3)
    yield row(np.array([[1, 1], [0, 1]], np.int32), rows=2)
    yield row(np.zeros((2, 0), np.int32), rows=1)


rows_in_order = operation(
    "linalg.rows_in_order",
    _rows_in_order,
    jvp=None,
    vjp=None,
    batch=as_stack,
    rows=_pivots_rows,
    operands="pivots",
)
"""The order of rows of which each in its turn has changed places with another."""


def _factors(a: Any) -> tuple[Any, Any]:
    *lead, rows, columns = a.shape
    packed = np.empty(a.shape, np.result_type(a, np.float32))
    pivots = np.empty((*lead, min(rows, columns)), np.int32)
    for index in np.ndindex(*lead) if a.size else ():
        packed[index], pivots[index] = linalg.lu_factor(a[index], check_finite=False)
    return packed, pivots


def _order(pivots: Any, of: Spec) -> Any:
    return evaluate(rows_in_order, (pivots,), {"rows": of.shape[-2]})


def _unit_lower(packed: Any) -> Any:
    """The left factor."""
    return np.tril(packed, -1) + np.eye(np.shape(packed)[-1], dtype=packed.dtype)


def _refuse_oblong(of: Spec) -> None:
    if of.shape[-2] != of.shape[-1]:
        raise UnsupportedError(
            f"{user_line()}: LU factors of matrices of shape {of.shape[-2:]} have no derivative here; only those of "
            "square ones do."
        )


def _push_factors(t: Any, y: Any, of: Spec) -> tuple[Any, Any]:
    """From P dA = dL U + L dU: L^-1 P dA U^-1 is L^-1 dL below the diagonal and dU U^-1 from it on."""
    _refuse_oblong(of)
    packed, pivots = y
    lower, upper = _unit_lower(packed), np.triu(packed)
    moved = np.take_along_axis(t, _order(pivots, of)[..., None], axis=-2)
    moved = triangular_solution(lower, moved, lower=True)
    moved = triangular_solution(upper.mT, moved.mT, lower=True).mT
    return lower @ np.tril(moved, -1) + np.triu(moved) @ upper, 0


def _pull_factors(ct: Any, y: Any, of: Spec) -> Any:
    _refuse_oblong(of)
    packed, pivots = y
    lower, upper = _unit_lower(packed), np.triu(packed)
    moved = np.tril(lower.mT @ np.tril(ct[0], -1), -1) + np.triu(np.triu(ct[0]) @ upper.mT)
    moved = triangular_solution(lower.mT, moved, lower=False)
    moved = triangular_solution(upper, moved.mT, lower=False).mT
    return np.take_along_axis(moved, np.argsort(_order(pivots, of), axis=-1)[..., None], axis=-2)


def _factors_rows() -> Iterable[Row]:
    yield row(np.array([[1.0, 4, 1], [4, 1, 1], [1, 1, 3]]))
    yield row(sample(2, 2)[::-1].astype(np.float32))
    yield row(sample(2, 2) + 0.5j * sample(2, 2)[::-1])
    yield row(sample(3, 2, 2)[:, ::-1])
    yield row(sample(1, 1))
    yield row(sample(0, 2, 2))


factors = operation(
    "linalg.lu_factor",
    _factors,
    jvp=_push_factors,
    vjp=_pull_factors,
    batch=as_stack,
    rows=_factors_rows,
    operands="a",
)
"""L below the diagonal and U from it on, and LAPACK's pivots."""

# ------------------------------------------------------------------------------------------------------- exponentials


def _directed(a: Any, direction: Any) -> Any:
    """The derivative of the exponential in a direction: a block of the exponential of [[a, direction], [0, a]].

    R. Mathias, "A chain rule for matrix functions and applications", 1996, theorem 2.1.
    """
    n = np.shape(a)[-1]
    above = np.concatenate([a, direction], axis=-1)
    below = np.concatenate([np.zeros_like(a), a], axis=-1)
    return evaluate(expm, (np.concatenate([above, below], axis=-2),), {})[..., :n, n:]


def _expm_rows() -> Iterable[Row]:
    yield row(np.array([[0.3, 1, 0], [-1, 0.2, 0.5], [0.1, 0.4, -0.6]]))
    yield row(0.3 * sample(2, 2).astype(np.float32))
    yield row(0.3 * sample(2, 2) + 0.2j * sample(2, 2)[::-1])
    yield row(0.3 * sample(3, 2, 2))
    yield row(sample(1, 1))
    yield row(np.zeros((2, 2)))


expm = operation(
    "linalg.expm",
    linalg.expm,
    jvp=lambda t, a: _directed(a, t),
    vjp=lambda ct, a: _directed(a.mT, ct),
    batch=as_stack,
    rows=_expm_rows,
    operands="a",
)
"""The exponential of matrices."""
