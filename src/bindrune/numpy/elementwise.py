"""NumPy's elementwise functions that are not ufuncs: rounding."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..core.handler import evaluate
from ..core.operation import operation, row
from ..core.protocol import hooks, implements
from .ufuncs import write_out

__all__ = ["round_to"]

_round = operation(
    "round",
    np.round,
    jvp=None,
    vjp=None,
    batch=lambda op, size, values, batched, params: evaluate(op, values, params),
    rows=lambda: [
        row(np.array([0.126, -1.35, 2.4]), decimals=0),
        row(np.array([0.5, 1.5, 2.5]), decimals=0, smooth=False),
        row(np.array([[0.126, -1.35], [2.5, 3.14159]]), decimals=2),
    ],
)


@implements(np.round, np.around)
def round_to(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """As `numpy.round`; constant between the steps, so its derivative is zero."""
    return write_out(_round(hooks.asarray(a), decimals=operator.index(decimals)), out, name="round")


@implements(np.fix)
def fix(x: Any, out: Any = None) -> Any:
    """As `numpy.fix`."""
    return write_out(np.trunc(hooks.asarray(x)), out, name="fix")
