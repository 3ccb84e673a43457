"""What names mean in a lifted function: `numpy`, `math`, a few builtins, and other modules.

NumPy's ufuncs and functions are replaced by ours where we have them.  A NumPy function that is itself written in
Python over others (`np.cross`, `np.trapezoid`) is lifted like the user's code.  Other modules are shown through a
view that lifts what is taken from them.
"""

from __future__ import annotations

import builtins
import math
import types
from functools import reduce
from typing import Any

import numpy as np

from ..core.array import Array, peek
from ..core.operation import registry
from ..core.protocol import FUNCTIONS, UFUNCS, hooks
from ..numpy.creation import CREATION
from ..numpy.ufuncs import lifted_ufunc
from ..ops.indexing import is_concrete
from .lanes import CALLS
from .reach import implementation, is_liftable

__all__ = ["BUILTINS", "CALLED", "REPLACED", "lifted_module", "lifted_special"]

REPLACED: dict[Any, Any] = {}
"""From a function, ufunc or builtin to what stands for it in lifted code."""

CALLED = {"float": "float()", "complex": "complex()", "type": "type()"}
"""Builtin types whose calls, and only those, go to ours; under a name no source text can write."""


class LiftedModule(types.ModuleType):
    """A module as lifted code sees it."""

    def __init__(self, real: types.ModuleType, session: Any) -> None:
        super().__init__(real.__name__, real.__doc__)
        self.__dict__["_real"] = real
        self.__dict__["_session"] = session

    def __getattr__(self, name: str) -> Any:
        return self._session.lift(getattr(self._real, name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)

    def __dir__(self) -> list[str]:
        return dir(self._real)


class LiftedNumpy(types.ModuleType):
    """`numpy`, or a part of it, as lifted code sees it."""

    def __init__(self, real: types.ModuleType) -> None:
        super().__init__(real.__name__, real.__doc__)
        self.__dict__["_real"] = real

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        lifted = self.__dict__[name] = _lift_numpy(value)
        return lifted

    def __dir__(self) -> list[str]:
        return dir(self._real)


def _lift_numpy(value: Any) -> Any:
    if isinstance(value, types.ModuleType):
        inside = value.__name__.startswith("numpy.") and value.__name__ != "numpy.random"
        return LiftedNumpy(value) if inside else value
    try:
        known = REPLACED.get(value)
    except TypeError:
        return value
    if known is not None:
        return known
    return hooks.fallback(value) if implementation(value) is not None else value


def lifted_special(value: Any) -> Any:
    """What stands for a function or ufunc of `scipy.special`, or of unknown origin; the first one fills the tables."""
    hooks.special()
    if value in UFUNCS:
        REPLACED[value] = lifted_ufunc(value)
    elif value in FUNCTIONS:
        REPLACED[value] = FUNCTIONS[value]
    return REPLACED.get(value, value)


def lifted_module(module: types.ModuleType, session: Any) -> types.ModuleType:
    """A module as lifted code sees it; the standard library's and those of C code stay as they are."""
    known = _MODULES.get(module.__name__)
    if known is not None:
        return known
    if module.__name__.startswith("numpy."):
        return _MODULES.setdefault(module.__name__, _lift_numpy(module))
    if not is_liftable(module.__dict__) and module.__name__ not in ("scipy", "scipy.special"):
        return module
    return LiftedModule(module, session)


# -------------------------------------------------------------------------------------------------------- builtins


def _extreme(builtin: Any, op_name: str) -> Any:
    def extreme(*values: Any, **keywords: Any) -> Any:
        if not keywords:
            items = values if len(values) > 1 else tuple(values[0])
            if builtins.any(isinstance(v, Array) and not is_concrete(v) for v in items):
                # Lanes differ: Python's comparison has no one answer, the elementwise selection has.
                return reduce(registry[op_name], items)
            return builtin(items)
        return builtin(*values, **keywords)

    return extreme


def _isinstance(value: Any, kinds: Any) -> bool:
    if isinstance(value, kinds):
        return True
    return isinstance(value, Array) and isinstance(peek(value), kinds)


def _type(*arguments: Any) -> Any:
    if len(arguments) == 1 and isinstance(arguments[0], Array):
        return type(peek(arguments[0]))
    return type(*arguments)


def _float(value: Any = 0.0) -> Any:
    return registry["float"](value) if isinstance(value, Array) else float(value)


def _complex(*values: Any) -> Any:
    if builtins.any(isinstance(v, Array) for v in values):
        return values[0] + 1j * values[1] if len(values) == 2 else values[0] + 0j
    return complex(*values)


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    module = builtins.__import__(name, getattr(globals, "real", globals), locals, fromlist, level)
    session = getattr(globals, "session", None)
    return module if session is None else session.lift(module)


# ------------------------------------------------------------------------------------------------------------ math


def _as_double(value: Any) -> Any:
    """A number as `math` takes it in: converted by `float`."""
    return registry["float"](value) if isinstance(value, Array) and value.dtype != float else value


def _lifted_math(function: Any, op: Any) -> Any:
    def call(*values: Any) -> Any:
        for value in values:
            if isinstance(value, Array):
                return op(*map(_as_double, values))
        return function(*values)

    call.__name__ = function.__name__
    call.__doc__ = function.__doc__
    return call


def _math_module() -> types.ModuleType:
    module = types.ModuleType("math", math.__doc__)
    module.__dict__.update({n: getattr(math, n) for n in dir(math) if not n.startswith("__")})
    for name in dir(math):
        op = registry.get(f"math.{name}")
        if op is not None:
            lifted = _lifted_math(getattr(math, name), op)
            module.__dict__[name] = REPLACED[getattr(math, name)] = lifted
    for name, composed in _MATH_COMPOSED.items():
        module.__dict__[name] = REPLACED[getattr(math, name)] = _lifted_math(getattr(math, name), composed)
    return module


def _dist(p: Any, q: Any) -> Any:
    return np.sqrt(sum((a - b) ** 2 for a, b in zip(p, q, strict=True)))


_MATH_COMPOSED: dict[str, Any] = {
    "pow": lambda a, b: registry["float_power"](a, b),
    "fabs": lambda x: abs(x),
    "isclose": lambda a, b, **k: math.isclose(peek(a), peek(b), **k),
    "isnan": lambda x: bool(np.isnan(peek(x))),
    "isinf": lambda x: bool(np.isinf(peek(x))),
    "isfinite": lambda x: bool(np.isfinite(peek(x))),
    "floor": lambda x: math.floor(peek(x)),
    "ceil": lambda x: math.ceil(peek(x)),
    "trunc": lambda x: math.trunc(peek(x)),
    "log": lambda x, *base: registry["math.log"](x) if not base else registry["math.log"](x) / math.log(*base),
}

BUILTINS: dict[str, Any] = dict(vars(builtins))
_MODULES: dict[str, types.ModuleType] = {}


def install() -> None:
    """Fill the tables; called once every operation is defined."""
    for ufunc in UFUNCS:
        REPLACED[ufunc] = lifted_ufunc(ufunc)
    REPLACED.update(FUNCTIONS)
    REPLACED.update({getattr(np, name): ours for name, ours in CREATION.items()})
    BUILTINS.update(
        {
            "max": _extreme(max, "maximum"),
            "min": _extreme(min, "minimum"),
            "isinstance": _isinstance,
            "float()": _float,
            "complex()": _complex,
            "type()": _type,
            "__import__": _import,
            **CALLS,
        }
    )
    for name in ("max", "min", "isinstance"):
        REPLACED[getattr(builtins, name)] = BUILTINS[name]
    _MODULES["math"] = _math_module()
    _MODULES["numpy"] = LiftedNumpy(np)
    for name in ("linalg", "fft"):
        _MODULES[f"numpy.{name}"] = getattr(_MODULES["numpy"], name)
