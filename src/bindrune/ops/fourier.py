"""Discrete Fourier transforms along one axis.

All are linear.  A complex transform is its own transpose (its matrix is symmetric); those between real signals and
half spectra are each other's, the frequencies of which the other half is the mirror image counting twice.  A signal
that is cut or padded to the transform's length gets its cotangent padded or cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.array import dtype_of
from ..core.handler import evaluate
from ..core.operation import Op, Row, Spec, linear, row

__all__ = ["fft", "ifft", "irfft", "rfft"]


def _resized(x: Any, length: int, axis: int) -> Any:
    """The first elements along an axis, followed by zeros if there are not enough."""
    missing = length - np.shape(x)[axis]
    if missing < 0:
        return x[(slice(None),) * axis + (slice(length),)]
    if missing == 0:
        return x
    shape = list(np.shape(x))
    shape[axis] = missing
    return np.concatenate([x, np.zeros(shape, dtype_of(x))], axis=axis)


def _counts(spectrum: Any, n: int, axis: int) -> Any:
    """How many frequencies of the whole spectrum each one of the half stands for."""
    counts = np.full(n // 2 + 1, 2, np.finfo(dtype_of(spectrum)).dtype)
    counts[0] = 1
    if n % 2 == 0:
        counts[-1] = 1
    return counts.reshape(-1, *(1,) * (np.ndim(spectrum) - axis - 1))


_OPPOSITE: dict[str, Any] = {"backward": "forward", "ortho": "ortho", "forward": "backward"}
"""The convention by which the transform in the other direction has the same factor."""


def _transpose_rfft(ct: Any, of: Spec, n: int, axis: int, norm: str) -> Any:
    halved = np.conjugate(ct) / _counts(ct, n, axis)
    return _resized(np.fft.irfft(halved, n, axis, _OPPOSITE[norm]), of.shape[axis], axis)


def _transpose_irfft(ct: Any, of: Spec, n: int, axis: int, norm: str) -> Any:
    spectrum = np.conjugate(np.fft.rfft(ct, n, axis, _OPPOSITE[norm]))
    return _resized(spectrum * _counts(spectrum, n, axis), of.shape[axis], axis)


def _batch(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    return evaluate(op, values, {**params, "axis": params["axis"] + 1})


def _real_rows() -> Iterable[Row]:
    x = np.cos(np.arange(24) * 1.3 + 0.2)
    yield row(x[:5], n=5, axis=0, norm="backward")
    yield row(x[:6], n=6, axis=0, norm="ortho")
    yield row(x[:6].reshape(2, 3), n=3, axis=1, norm="forward")
    yield row(x[:6].reshape(3, 2), n=3, axis=0, norm="backward")
    yield row(x[:6], n=4, axis=0, norm="forward")
    yield row(x.reshape(2, 3, 4), n=5, axis=1, norm="ortho")
    yield row(x[:4].astype(np.float32), n=4, axis=0, norm="backward")
    yield row(x[:1], n=1, axis=0, norm="backward")
    yield row(x[:0].reshape(0, 2), n=2, axis=1, norm="backward")


def _complex_rows() -> Iterable[Row]:
    for sample in _real_rows():
        x = sample.operands[0]
        yield row(x, **sample.params)
        yield row((x + 1j * x[::-1] ** 2).astype(np.result_type(x.dtype, 1j)), **sample.params)


fft = linear(
    "fft",
    lambda x, n, axis, norm: np.fft.fft(x, n, axis, norm),
    lambda ct, of, n, axis, norm: _resized(np.fft.fft(ct, n, axis, norm), of.shape[axis], axis),
    batch=_batch,
    rows=_complex_rows,
)
ifft = linear(
    "ifft",
    lambda x, n, axis, norm: np.fft.ifft(x, n, axis, norm),
    lambda ct, of, n, axis, norm: _resized(np.fft.ifft(ct, n, axis, norm), of.shape[axis], axis),
    batch=_batch,
    rows=_complex_rows,
)
rfft = linear(
    "rfft",
    lambda x, n, axis, norm: np.fft.rfft(x, n, axis, norm),
    _transpose_rfft,
    batch=_batch,
    rows=_real_rows,
)
irfft = linear(
    "irfft",
    lambda x, n, axis, norm: np.fft.irfft(x, n, axis, norm),
    _transpose_irfft,
    batch=_batch,
    rows=_complex_rows,
)
