"""Lowering of eigenvalues, singular values and orthogonal factors: NumPy's own loops over LAPACK, matrix by matrix.

Of complex matrices systems, inverses, determinants and Cholesky's factors are found in the same way.

They compute in double precision whatever the type, real or complex, as `np.linalg` does, and where one fails all that
it found is NaN.
Then, and for matrices without elements, the host performs the program, and says what NumPy says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.graph import Node
from .formats import numeric
from .loops import INTEGER, Affine, Apply, LibraryCall, Store, affine
from .lower import Location, Lowering, broadcast_lengths, convert, left_to_the_host, rule
from .numpy_functions import Loop, ufunc_loop
from .shaping import BOOL
from .views import ZERO, Place, View, along, broadcast

__all__ = ["of_complex", "one_of"]

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


def _matrices(low: Lowering, node: Node, x: Location, dtype: np.dtype[Any]) -> View | None:
    """The operand as a stack of matrices that a library may overwrite; None where there is none."""
    if not low.libraries or not numeric(x.dtype) or x.dtype.str[1:] == "f2":
        return None
    if any(v.dtype.kind not in "fc" or not numeric(v.dtype) or v.dtype.itemsize == 2 for v in node.results):
        return None
    source = low.view(x)
    for n in source.shape[-2:]:
        low.require(n - 1, node, left_to_the_host)
    made = low.array(dtype, source.shape)
    low.copy(made, source)
    return made


def _computed(x: Location) -> np.dtype[Any]:
    """The type that a decomposition computes in."""
    return np.dtype(complex) if x.dtype.kind == "c" else _DOUBLE


def _decomposed(low: Lowering, node: Node, given: Sequence[View], loop: Loop, types: str) -> list[Location]:
    """What a loop finds for each matrix of a stack, with the types of the node's results."""
    found = zip(types, node.results, strict=True)
    made = [low.array(np.dtype(letter), tuple(map(low.length, v.shape))) for letter, v in found]
    with low.nest(given[0].shape[:-2], ordered=True) as at:
        parts = [one_of(view, at) for view in (*given, *made)]
        low.do(LibraryCall(loop.symbol, tuple(parts[:-1]), parts[-1]))
        for part in parts[len(given) :]:
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
    name, letter = node.op.name, _computed(operands[0]).char
    if name in ("eigh", "eigvalsh"):
        of = f"{name}_{'lo' if node.params['lower'] else 'up'}"
        types = f"d{letter}" if name == "eigh" else "d"
    elif name == "svd":
        of, types = "svd_f" if node.params["full_matrices"] else "svd_s", f"{letter}d{letter}"
    else:
        of, types = "svd", "d"
    loop = _loop(of, f"{letter}->{types}")
    x = None if loop is None else _matrices(low, node, operands[0], _computed(operands[0]))
    return NotImplemented if loop is None or x is None else _decomposed(low, node, [x], loop, types)


@rule("qr")
def _qr(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The triangular factor replaces the matrix, but for what is below; from that the orthogonal one is made."""
    mode = node.params["mode"]
    dtype = _computed(operands[0])
    raw = _loop("qr_r_raw", f"{dtype.char}->{dtype.char}")
    turned = _loop("qr_complete" if mode == "complete" else "qr_reduced", f"{dtype.char * 2}->{dtype.char}")
    rows, columns = low.shape(operands[0])[-2:]
    wide = low.known(columns - rows)
    if raw is None or turned is None or not (wide or low.known(rows - columns)):
        return NotImplemented
    x = _matrices(low, node, operands[0], _computed(operands[0]))
    if x is None:
        return NotImplemented
    q, r = (low.array(dtype, tuple(map(low.length, v.shape))) for v in node.results)
    scales = low.array(dtype, (rows if wide else columns,))
    zero = convert(affine(0), dtype)
    with low.nest(x.shape[:-2], ordered=True) as at:
        matrix, mine = one_of(x, at), one_of(r, at)
        low.do(LibraryCall(raw.symbol, (matrix,), scales))
        with low.nest(mine.shape) as (i, j):
            upper = Apply("less_equal", (i, j), BOOL)
            inside = affine(low.let(Apply("minimum", (i, rows - 1), INTEGER)))
            kept = Apply("where", (upper, matrix.load((inside, j)), zero), dtype)
            low.do(Store(mine.buffer, mine.at((i, j)), kept))
        low.do(LibraryCall(turned.symbol, (matrix, scales), one_of(q, at)))
    return [_as(low, view, v.dtype) for view, v in zip((q, r), node.results, strict=True)]


def of_complex(low: Lowering, node: Node, operands: Sequence[Location]) -> Any:
    """Systems, inverses, determinants and factors of complex matrices."""
    if all(x.dtype.kind != "c" for x in operands):
        return NotImplemented
    name = node.op.name
    types = {"slogdet": "Dd", "eig": "DD"}.get(name, "D")
    if name == "cholesky":
        name = "cholesky_up" if node.params["upper"] else "cholesky_lo"
    loop = _loop(name, f"{'D' * len(operands)}->{types}")
    found = [] if loop is None else [_matrices(low, node, x, np.dtype(complex)) for x in operands]
    views = [x for x in found if x is not None]
    if loop is None or len(views) < len(operands):
        return NotImplemented
    lead = broadcast_lengths([x.shape[:-2] for x in views]) if any(len(x.shape) > 2 for x in views) else ()
    return _decomposed(low, node, [broadcast(x, (*lead, *x.shape[-2:])) for x in views], loop, types)


rule("eig")(of_complex)
