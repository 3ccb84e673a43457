"""Lowering of Fourier transforms: NumPy's own loops, which transform one row after the other.

They cut or pad what they transform themselves, whatever way it lies in memory.  Of the spectrum of a real signal they
compute the first half only.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.graph import Node
from .decompositions import one_of
from .elements import convert
from .formats import convertible, of_parts
from .loops import Affine, Apply, Const, Expression, LibraryCall, Store, affine
from .lower import Location, Lowering, rule
from .numpy_functions import Loop, ufunc_loop
from .views import View

__all__: list[str] = []


def _loop(name: str, n: int, types: str) -> Loop | None:
    """The loop of a transform of a length."""
    try:
        library = importlib.import_module("numpy.fft._pocketfft_umath")
    except ImportError:
        return None
    if name == "rfft":
        name = "rfft_n_odd" if n % 2 else "rfft_n_even"
    ufunc = getattr(library, name, None)
    return ufunc_loop(ufunc, types) if isinstance(ufunc, np.ufunc) else None


def _factor(n: int, norm: str, forward: bool, dtype: np.dtype[Any]) -> Any:
    """What a transform is multiplied by."""
    if norm == "ortho":
        return np.reciprocal(np.sqrt(n, dtype=dtype))
    return np.reciprocal(dtype.type(n)) if (norm == "forward") == forward else dtype.type(1)


@rule("fft", "ifft", "rfft", "irfft")
def _transform(low: Lowering, node: Node, operands: list[Location]) -> Any:
    name, dtype = node.op.name, node.results[0].dtype
    n, axis, norm = (node.params[key] for key in ("n", "axis", "norm"))
    real = of_parts(dtype) if dtype.kind == "c" else dtype
    half = name == "fft" and operands[0].dtype.kind != "c"
    source = real if name == "rfft" or half else np.result_type(real, np.complex64)
    types = f"{source.char}{real.char}->{dtype.char}"
    loop = _loop("rfft" if half else name, n, types) if isinstance(n, int) else None
    if loop is None or not low.libraries or not convertible(operands[0].dtype, source):
        return NotImplemented
    x = low.view(operands[0])
    if x.dtype != source:
        x = low.map(lambda v: convert(v, source), [x], source)
    shape = tuple(map(low.length, node.results[0].shape))
    made = low.array(dtype, (*shape[:axis], affine(n // 2 + 1), *shape[axis + 1 :]) if half else shape)
    factor = low.uniform(Const(_factor(n, norm, name in ("fft", "rfft"), real), real), ())
    order = [*(i for i in range(len(x.shape)) if i != axis), axis]
    signals, spectra = x.transposed(order), made.transposed(order)
    with low.nest(signals.shape[:-2], ordered=True) as at:
        low.do(LibraryCall(loop.symbol, (one_of(signals, at), factor), one_of(spectra, at)))
    return _mirrored(low, made, shape, axis, n) if half else made


def _mirrored(low: Lowering, half: View, shape: Sequence[Affine], axis: int, n: int) -> View:
    """The spectrum of a real signal of n numbers: what is behind its first half is the conjugate of what is in it."""
    made = low.array(half.dtype, tuple(shape))

    def put(index: Sequence[Affine], at: Affine, value: Expression) -> None:
        place = [*index[:axis], at, *index[axis + 1 :]]
        low.do(Store(made.buffer, made.at(place), value))

    with low.nest(half.shape) as index:
        put(index, index[axis], half.load(index))
    behind = n - half.shape[axis].offset
    if behind > 0:
        with low.nest((*shape[:axis], affine(behind), *shape[axis + 1 :])) as index:
            source = half.load([*index[:axis], affine(behind) - index[axis], *index[axis + 1 :]])
            put(index, index[axis] + half.shape[axis], Apply("conjugate", (source,), half.dtype))
    return made
