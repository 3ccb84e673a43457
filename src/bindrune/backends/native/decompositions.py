"""Lowering of eigenvalues, singular values and orthogonal factors: NumPy's own loops over LAPACK, matrix by matrix.

They compute in double precision whatever the type, as `np.linalg` does, and where one fails all that it found is NaN.
Then, and for matrices without elements, the host performs the program, and says what NumPy says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.graph import Node
from .loops import INTEGER, Affine, Apply, LibraryCall, Store, affine
from .lower import Location, Lowering, convert, left_to_the_host, rule
from .numpy_functions import Loop, ufunc_loop
from .shaping import BOOL
from .views import ZERO, Place, View, along

__all__ = ["one_of"]

_DOUBLE = np.dtype(float)


def _loop(name: str, types: str) -> Loop | None:
    """A loop among those of `np.linalg`."""
    try:
        from numpy.linalg import _umath_linalg
    except ImportError:
        return None
    ufunc = getattr(_umath_linalg, name, None)
    return ufunc_loop(ufunc, types) if isinstance(ufunc, np.ufunc) else None


def one_of(view: View, at: Sequence[Affine]) -> View:
    """What belongs to one index of a stack."""
    places: list[Place] = [(i, ()) for i in at]
    rest = len(view.shape) - len(at)
    return view.seen([*places, *(along(i) for i in range(rest))], view.shape[len(at) :])


def _matrices(low: Lowering, node: Node, x: Location) -> View | None:
    """The operand as a stack of matrices that a library may overwrite; None where there is none."""
    if not low.libraries or x.dtype.kind not in "biuf" or x.dtype.str[1:] == "f2" or x.dtype.itemsize > 8:
        return None
    if any(v.dtype.kind != "f" or v.dtype.itemsize not in (4, 8) for v in node.results):
        return None
    source = low.view(x)
    for n in source.shape[-2:]:
        low.require(n - 1, node, left_to_the_host)
    made = low.array(_DOUBLE, source.shape)
    low.copy(made, source)
    return made


def _decomposed(low: Lowering, node: Node, x: View, loop: Loop) -> list[Location]:
    """What a loop finds for each matrix of a stack, with the types of the node's results."""
    made = [low.array(_DOUBLE, tuple(map(low.length, v.shape))) for v in node.results]
    with low.nest(x.shape[:-2], ordered=True) as at:
        parts = [one_of(view, at) for view in (x, *made)]
        low.do(LibraryCall(loop.symbol, tuple(parts[:-1]), parts[-1]))
        for part in parts[1:]:
            first = low.let(part.load((ZERO,) * len(part.shape)))
            low.check(Apply("equal", (first, first), BOOL), node, left_to_the_host)
    return [_as(low, view, v.dtype) for view, v in zip(made, node.results, strict=True)]


def _as(low: Lowering, view: View, dtype: np.dtype[Any]) -> View:
    if view.dtype == dtype:
        return view
    made = low.array(dtype, view.shape)
    low.copy(made, view)
    return made


@rule("eigh", "eigvalsh", "svd", "svdvals")
def _spectrum(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """Eigenvalues and singular values, with vectors or without."""
    name = node.op.name
    if name in ("eigh", "eigvalsh"):
        loop = _loop(f"{name}_{'lo' if node.params['lower'] else 'up'}", "d->dd" if name == "eigh" else "d->d")
    elif name == "svd":
        loop = _loop("svd_f" if node.params["full_matrices"] else "svd_s", "d->ddd")
    else:
        loop = _loop("svd", "d->d")
    x = None if loop is None else _matrices(low, node, operands[0])
    return NotImplemented if loop is None or x is None else _decomposed(low, node, x, loop)


@rule("qr")
def _qr(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The triangular factor replaces the matrix, but for what is below; from that the orthogonal one is made."""
    mode = node.params["mode"]
    raw = _loop("qr_r_raw", "d->d")
    turned = _loop("qr_complete" if mode == "complete" else "qr_reduced", "dd->d")
    rows, columns = low.shape(operands[0])[-2:]
    wide = low.known(columns - rows)
    if raw is None or turned is None or not (wide or low.known(rows - columns)):
        return NotImplemented
    x = _matrices(low, node, operands[0])
    if x is None:
        return NotImplemented
    q, r = (low.array(_DOUBLE, tuple(map(low.length, v.shape))) for v in node.results)
    scales = low.array(_DOUBLE, (rows if wide else columns,))
    zero = convert(affine(0), _DOUBLE)
    with low.nest(x.shape[:-2], ordered=True) as at:
        matrix, mine = one_of(x, at), one_of(r, at)
        low.do(LibraryCall(raw.symbol, (matrix,), scales))
        with low.nest(mine.shape) as (i, j):
            upper = Apply("less_equal", (i, j), BOOL)
            inside = affine(low.let(Apply("minimum", (i, rows - 1), INTEGER)))
            kept = Apply("where", (upper, matrix.load((inside, j)), zero), _DOUBLE)
            low.do(Store(mine.buffer, mine.at((i, j)), kept))
        low.do(LibraryCall(turned.symbol, (matrix, scales), one_of(q, at)))
    return [_as(low, view, v.dtype) for view, v in zip((q, r), node.results, strict=True)]
