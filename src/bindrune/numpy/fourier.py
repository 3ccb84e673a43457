"""Discrete Fourier transforms, as in `numpy.fft`.

The four transforms along one axis are here; `fft2`, `rfftn`, `hfft`, `fftshift` and the others are NumPy's own Python
code over them, lifted.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core.array import Array
from ..core.operation import Op
from ..core.protocol import implements
from ..ops import fourier
from .shaping import cell_of
from .ufuncs import write_out

__all__: list[str] = []


def _transform(op: Op, real_result: bool = False) -> None:
    """Answer for a transform along one axis."""

    @implements(getattr(np.fft, op.name))
    def transform(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Array:
        a = cell_of(a)
        if n is None:
            n = a.shape[axis]
            n = (n - 1) * 2 if real_result else n
        params = {"n": operator.index(n), "axis": normalize_axis_index(operator.index(axis), a.ndim)}
        result: Array = op(a, **params, norm="backward" if norm is None else norm)
        return write_out(result, out, name=op.name)

    transform.__name__ = op.name


_transform(fourier.fft)
_transform(fourier.ifft)
_transform(fourier.rfft)
_transform(fourier.irfft, real_result=True)
