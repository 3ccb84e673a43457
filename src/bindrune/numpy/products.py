"""Products of vectors, matrices and tensors.

`np.tensordot`, `np.kron` and the products of `np.linalg` are NumPy's own Python code, lifted.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..core.array import Array, peek
from ..core.operation import Op
from ..core.protocol import FUNCTIONS, UFUNCS, hooks, implements
from ..ops import products
from .shaping import cell_of, rearranged
from .ufuncs import call_ufunc, operand, write_out

__all__: list[str] = []

# ----------------------------------------------------------------------------------------------- generalized ufuncs


def _generalized(ufunc: np.ufunc, op: Op, conjugate: bool = False) -> None:
    """Answer for a ufunc on vectors and matrices, `axes=` and `axis=` included."""

    def compute(a: Any, b: Any, axes: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
        if axis is not None:
            axes = [axis, axis]
        if axes is None:
            found = perform(a, b)
        else:
            first, second, *rest = (e if isinstance(e, tuple) else (e,) for e in axes)
            found = perform(np.moveaxis(a, first, _last(first)), np.moveaxis(b, second, _last(second)))
            if rest:
                found = np.moveaxis(found, _last(rest[0]), rest[0])
        return np.expand_dims(found, -1 if axes is None else axes[0]) if keepdims else found

    def perform(a: Any, b: Any) -> Any:
        a = operand(a)
        return op(products.conjugated(a) if conjugate else a, operand(b))

    def function(a: Any, b: Any, /, *out: Any, **keywords: Any) -> Any:
        if out or keywords:
            return call_ufunc(ufunc, "__call__", (a, b, *out), keywords)
        return perform(a, b)

    function.__name__ = ufunc.__name__
    UFUNCS[ufunc] = compute
    FUNCTIONS[ufunc] = function


def _last(axes: Sequence[int]) -> range:
    """As many axes, but the last ones."""
    return range(-len(axes), 0)


_generalized(np.matmul, products.matmul)
_generalized(np.vecdot, products.vecdot, conjugate=True)
if hasattr(np, "matvec"):
    _generalized(np.matvec, products.matvec)
    _generalized(np.vecmat, products.vecmat, conjugate=True)

# -------------------------------------------------------------------------------------------------------- functions


@implements(np.dot)
def _dot(a: Any, b: Any, out: Any = None) -> Array:
    result: Array = products.dot(operand(a), operand(b))
    if out is not None and (out.shape, out.dtype) != (result.shape, result.dtype):
        raise ValueError(
            "output array is not acceptable (must have the right datatype, number of dimensions, and be a C-Array)"
        )
    return write_out(result, out, name="dot")


@implements(np.inner)
def _inner(a: Any, b: Any, /) -> Array:
    result: Array = products.inner(operand(a), operand(b))
    return result


@implements(np.vdot)
def _vdot(a: Any, b: Any, /) -> Array:
    result: Array = products.vdot(np.ravel(products.conjugated(cell_of(a))), np.ravel(cell_of(b)))
    return result


@implements(np.outer)
def _outer(a: Any, b: Any, out: Any = None) -> Any:
    # What is a vector already is not flattened, for its length may be known to the running program only.
    column, row = (x if x.ndim == 1 else np.ravel(x) for x in (cell_of(a), cell_of(b)))
    return np.multiply(column[:, None], row[None, :], out)


@implements(np.cross)
def _cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = cell_of(a), cell_of(b)
    if not (a.ndim and b.ndim):
        raise ValueError("At least one array has zero dimension")
    x = np.moveaxis(a, normalize_axis_index(axisa, a.ndim, "axisa"), -1)
    y = np.moveaxis(b, normalize_axis_index(axisb, b.ndim, "axisb"), -1)
    if (x.shape[-1], y.shape[-1]) != (3, 3):
        # Vectors of two components are deprecated there; the warning and the errors are NumPy's.
        return hooks.fallback(np.cross)(a, b, axisa, axisb, axisc)
    ndim = len(np.broadcast_shapes(x.shape[:-1], y.shape[:-1])) + 1
    axisc = normalize_axis_index(axisc, ndim, "axisc")
    following, preceding = np.array([1, 2, 0]), np.array([2, 0, 1])
    found = x[..., following] * y[..., preceding] - x[..., preceding] * y[..., following]
    return np.moveaxis(found, -1, axisc)


# ----------------------------------------------------------------------------------------------------------- einsum


@implements(np.einsum)
def _einsum(
    *operands: Any,
    out: Any = None,
    optimize: Any = False,
    dtype: Any = None,
    order: Any = "K",
    casting: Any = "safe",
) -> Array:
    subscripts, xs = _spelled_out(operands)
    cells = [cell_of(x) for x in xs]
    if dtype is not None:
        cells = [x.astype(dtype, casting=casting) for x in cells]
    try:
        labels = products.explicit(subscripts, tuple(x.ndim for x in cells))
    except ValueError:
        np.einsum(subscripts, *map(peek, cells))
        raise
    optimize = tuple(optimize) if isinstance(optimize, list) else optimize
    inputs, output = labels.split("->")
    if set(inputs) == set(output):
        result = rearranged(cells[0], products.einsum, subscripts=labels, optimize=optimize)
    else:
        result = products.einsum(*cells, subscripts=labels, optimize=optimize)
    return write_out(result, out, name="einsum")


def _spelled_out(operands: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """The subscripts as one string, and the arrays."""
    if isinstance(operands[0], str):
        return operands[0], operands[1:]
    pairs = len(operands) // 2 * 2
    subscripts = ",".join(map(_letters, operands[1:pairs:2]))
    if len(operands) > pairs:
        subscripts += f"->{_letters(operands[-1])}"
    return subscripts, operands[:pairs:2]


def _letters(labels: Sequence[Any]) -> str:
    """Labels given as numbers, in letters of the same order."""
    letters = string.ascii_uppercase + string.ascii_lowercase
    return "".join("..." if label is Ellipsis else letters[label] for label in labels)
