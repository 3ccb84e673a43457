"""Convolution along the last axis, linear in each of its two operands.

Where both overlap in part (``full``) or the shorter lies inside the longer (``valid``): each is the other's adjoint.
Further axes broadcast, so that lanes are convolved together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.handler import evaluate
from ..core.operation import Op, Row, operation, row

__all__ = ["convolve"]


def _convolve(a: Any, v: Any, *, mode: str) -> Any:
    if np.ndim(a) == np.ndim(v) == 1:
        return np.convolve(a, v, mode)  # type: ignore[call-overload]
    m = v.shape[-1]
    if mode == "full":
        a = np.pad(a, [(0, 0)] * (a.ndim - 1) + [(m - 1, m - 1)])
    windows = np.lib.stride_tricks.sliding_window_view(a, m, -1)
    return np.einsum("...km,...m->...k", windows, v[..., ::-1])


def _pull_longer(ct: Any, v: Any, mode: str) -> Any:
    return evaluate(convolve, (ct, v[..., ::-1]), {"mode": "valid" if mode == "full" else "full"})


def _pull_shorter(ct: Any, a: Any, mode: str) -> Any:
    if mode == "full":
        return evaluate(convolve, (ct, a[..., ::-1]), {"mode": "valid"})
    return evaluate(convolve, (a, ct[..., ::-1]), {"mode": "valid"})[..., ::-1]


def _batch(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    return evaluate(op, values, params)


def _rows() -> Iterable[Row]:
    points = np.array([0.7, -1.3, 2.1, 0.4, -0.6, 1.8, 1.1, -2.2, 0.9])
    for mode in ("full", "valid"):
        yield row(points[:6], points[6:], mode=mode)
        yield row(points[:3], points[3:6], mode=mode)
        yield row(points[:4].astype(np.float32), points[:2].astype(np.float32), mode=mode)
        yield row(points[:4] + 1j * points[4:8], points[:2] - 0.5j, mode=mode)
        yield row(points[:1], points[1:2], mode=mode)


convolve: Op = operation(
    "convolve",
    _convolve,
    operands="a v",
    jvp=(
        lambda t, v, mode: evaluate(convolve, (t, v), {"mode": mode}),
        lambda t, a, mode: evaluate(convolve, (a, t), {"mode": mode}),
    ),
    vjp=(_pull_longer, _pull_shorter),
    batch=_batch,
    rows=_rows,
)
"""``mode`` is "full", or "valid" where `a` is at least as long as `v`."""
