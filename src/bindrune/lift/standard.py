"""The standard library's functions of numbers, as lifted code sees them: `math` and `statistics`.

They are C code, or convert what they are given to exact fractions.  On stand-ins they are composed of operations, and
return what plain code would hold: Python's own floats.  What is missing here refuses stand-ins.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..core.array import Array, concrete, peek
from ..core.operation import registry
from ..core.protocol import hooks
from ..ops.scalars import as_python
from ..ops.views import is_concrete

__all__ = ["lifted_standard"]


def lifted_standard(module: types.ModuleType) -> types.ModuleType:
    """`math` or `statistics`."""
    lifted = types.ModuleType(module.__name__, module.__doc__)
    vars(lifted).update({n: getattr(module, n) for n in dir(module) if not n.startswith("__")})
    for name, ours in _composed(module).items():
        setattr(lifted, name, _on_stand_ins(getattr(module, name), ours))
    return lifted


def replaced_names(module: types.ModuleType) -> set[str]:
    """The names in a module that mean something else to lifted code."""
    return set(_composed(module))


def _composed(module: types.ModuleType) -> dict[str, Callable[..., Any]]:
    found = dict(_MATH if module is math else _STATISTICS)
    if module is math:
        known = (name for name in dir(math) if f"math.{name}" in registry)
        found = {name: _of_doubles(registry[f"math.{name}"]) for name in known} | found
    return {name: ours for name, ours in found.items() if hasattr(module, name)}


def _on_stand_ins(function: Any, ours: Callable[..., Any]) -> Any:
    """A function that leaves plain numbers to the original."""

    @functools.wraps(function)
    def call(*values: Any, **keywords: Any) -> Any:
        for value in values:
            if isinstance(value, Array):
                return ours(*values, **keywords)
        return function(*values, **keywords)

    @functools.wraps(function)
    def call_with_data(*data: Any, **keywords: Any) -> Any:
        data = tuple(list(d) if isinstance(d, Iterable) else d for d in data)
        for values in data:
            if type(values) is list and any(isinstance(v, Array) for v in values):
                return ours(*data, **keywords)
        return function(*data, **keywords)

    return call_with_data if function.__name__ in _OF_DATA else call


def _double(value: Any) -> Any:
    """A number as `math` takes it in: converted by `float`."""
    return registry["float"](value) if isinstance(value, Array) and value.dtype != float else value


def _of_doubles(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values, **keywords: function(*map(_double, values), **keywords)


def _as_double(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy's, with a result that is Python's."""
    return lambda *values: registry["float"](function(*values))


def _special(name: str) -> Callable[[Any], Any]:
    def call(x: Any) -> Any:
        hooks.special()
        return registry["float"](registry[f"special.{name}"](x))

    return call


def _to_integer(function: Any, ufunc: Any) -> Callable[[Any], Any]:
    """Rounding to an integer, one for each lane where they differ."""
    return lambda x: function(concrete(x)) if is_concrete(x) else as_python(ufunc(x), int)


def _truth(answer: Any) -> Any:
    """One of Python's booleans; where lanes differ numbers, with which one can count as with those."""
    if is_concrete(answer):
        return bool(concrete(answer))
    made = as_python(answer, bool)
    return made if type(peek(made)) is bool else made.astype(int)


def _test(ufunc: Any) -> Callable[[Any], Any]:
    return lambda x: _truth(ufunc(x))


# ------------------------------------------------------------------------------------------------------------ math


def _sum(values: list[Any]) -> Any:
    return registry["float"](sum(values))


def _product(values: list[Any], *, start: Any = 1) -> Any:
    return functools.reduce(operator.mul, values, start)


def _products(p: list[Any], q: list[Any]) -> Any:
    return sum(a * b for a, b in zip(p, q, strict=True))


def _distance(p: list[Any], q: list[Any]) -> Any:
    return registry["float"](np.sqrt(sum((a - b) ** 2 for a, b in zip(p, q, strict=True))))


def _hypotenuse(*values: Any) -> Any:
    return functools.reduce(registry["math.hypot"], map(_double, values[1:]), abs(_double(values[0])))


def _logarithm(x: Any, *base: Any) -> Any:
    found, *scale = (registry["math.log"](_double(v)) if isinstance(v, Array) else math.log(v) for v in (x, *base))
    return found / scale[0] if base else found


def _is_close(a: Any, b: Any, *, rel_tol: Any = 1e-9, abs_tol: Any = 0.0) -> Any:
    larger = np.maximum(np.maximum(abs(a), abs(b)) * rel_tol, abs_tol)
    return _truth((a == b) | (abs(a - b) <= larger))


_MATH: dict[str, Callable[..., Any]] = {
    "pow": _as_double(lambda a, b: registry["float_power"](a, b)),
    "fabs": _of_doubles(abs),
    "fsum": _sum,
    "prod": _product,
    "sumprod": _products,
    "dist": _distance,
    "hypot": _hypotenuse,
    "log": _logarithm,
    "remainder": _of_doubles(lambda x, y: x - y * registry["float"](np.rint(x / y))),
    "modf": _of_doubles(lambda x: (x - registry["float"](np.trunc(x)), registry["float"](np.trunc(x)))),
    "ldexp": _of_doubles(lambda x, i: x * 2.0**i),
    "floor": _to_integer(math.floor, np.floor),
    "ceil": _to_integer(math.ceil, np.ceil),
    "trunc": _to_integer(math.trunc, np.trunc),
    "isnan": _test(np.isnan),
    "isinf": _test(np.isinf),
    "isfinite": _test(np.isfinite),
    "isclose": _is_close,
    "erf": _special("erf"),
    "erfc": _special("erfc"),
    "gamma": _special("gamma"),
    "lgamma": _special("gammaln"),
}

# ------------------------------------------------------------------------------------------------------ statistics


def _mean(data: list[Any], weights: Any = None) -> Any:
    if weights is None:
        return sum(data) / len(data)
    return _products(data, weights) / sum(weights)


def _variance(degrees: int) -> Callable[..., Any]:
    def variance(data: list[Any], centre: Any = None) -> Any:
        if len(data) <= degrees:
            raise sys.modules["statistics"].StatisticsError(f"variance requires at least {degrees + 1} data points")
        centre = _mean(data) if centre is None else centre
        return sum((x - centre) ** 2 for x in data) / (len(data) - degrees)

    return variance


def _deviation(degrees: int) -> Callable[..., Any]:
    variance = _variance(degrees)
    return lambda data, centre=None: registry["float"](np.sqrt(variance(data, centre)))


_STATISTICS: dict[str, Callable[..., Any]] = {
    "mean": _mean,
    "fmean": _as_double(_mean),
    "variance": _variance(1),
    "pvariance": _variance(0),
    "stdev": _deviation(1),
    "pstdev": _deviation(0),
    "geometric_mean": lambda data: registry["float"](np.exp(_mean([np.log(x) for x in data]))),
    "harmonic_mean": lambda data, weights=None: 1 / _mean([1 / x for x in data], weights),
}

_OF_DATA = {"fsum", "prod", "sumprod", "dist", *_STATISTICS}
"""The functions of whole sequences."""
