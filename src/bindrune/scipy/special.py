"""`scipy.special` for stand-ins.

SciPy's ufuncs perform operations that are defined when the first of them is met; so `import bindrune` does not import
SciPy.  `logsumexp` and its kin have operations of their own, other functions written in Python over the ufuncs
(`polygamma`, `multigammaln`, `lambertw`, ...) are lifted.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core.array import Array
from ..core.errors import UnsupportedError, user_line
from ..core.operation import registry
from ..core.protocol import FUNCTIONS, UFUNCS, hooks, implements
from ..numpy.shaping import cell_of

__all__ = ["load"]

_LIFTED = (
    "ivp jvp kvp yvp lambertw multigammaln polygamma softplus spherical_in spherical_jn spherical_kn spherical_yn zeta"
)


@functools.cache
def load() -> None:
    """Define the operations of `scipy.special`, and let its names perform them."""
    from scipy import special

    from ..ops import special as _operations  # noqa: F401  (SciPy is imported with them)

    for name, op in registry.items():
        family, _, function = name.partition(".")
        if family == "special" and hasattr(special._ufuncs, function):
            UFUNCS[getattr(special._ufuncs, function)] = op
    for function in _LIFTED.split():
        if hasattr(special, function):
            FUNCTIONS[getattr(special, function)] = hooks.fallback(getattr(special, function))
    FUNCTIONS.update({special.logsumexp: _logsumexp, special.softmax: _softmax, special.log_softmax: _log_softmax})


hooks.special = load

# ----------------------------------------------------------------------------------------------------------- functions


def _axes(x: Array, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)


def _logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    a = cell_of(a)
    if b is None and not return_sign:
        return registry["special.logsumexp"](a, axis=_axes(a, axis), keepdims=bool(keepdims))
    if a.dtype.kind == "c" or (b is not None and cell_of(b).dtype.kind == "c"):
        raise UnsupportedError(f"{user_line()}: scipy.special.logsumexp of complex numbers with b= or return_sign=")
    a, b = np.broadcast_arrays(a, cell_of(1.0 if b is None else b))
    axes = _axes(a, axis)
    value, sign = registry["special.weighted_logsumexp"](a, b, axis=axes)
    if keepdims:
        value, sign = np.expand_dims(value, axes), np.expand_dims(sign, axes)
    return (value, sign) if return_sign else np.where(sign < 0, np.nan, value)[()]


def _softmax(x: Any, axis: Any = None) -> Any:
    x = cell_of(x)
    return registry["special.softmax"](x, axis=_axes(x, axis))


def _log_softmax(x: Any, axis: Any = None) -> Any:
    x = cell_of(x)
    return registry["special.log_softmax"](x, axis=_axes(x, axis))


@implements(np.sinc)
def _sinc(x: Any) -> Any:
    load()
    return registry["sinc"](x)


@implements(np.i0)
def _i0(x: Any) -> Any:
    load()
    return registry["i0"](x)
