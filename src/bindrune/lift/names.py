"""What names mean in a lifted function: `numpy`, `math`, a few builtins, and other modules.

NumPy's ufuncs and functions are replaced by ours where we have them.  A NumPy function that is itself written in
Python over others (`np.cross`, `np.trapezoid`) is lifted like the user's code.  Other modules are shown through a
view that lifts what is taken from them.
"""

from __future__ import annotations

import builtins
import math
import operator
import sys
import types
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from ..core.array import Array, concrete, is_staged, peek
from ..core.operation import registry
from ..core.protocol import FUNCTIONS, UFUNCS, hooks
from ..graph.dims import Dim
from ..numpy.creation import CREATION
from ..numpy.drawing import lifted_random
from ..numpy.ufuncs import lifted_ufunc
from ..ops.scalars import as_python
from ..ops.views import is_concrete
from .classes import lifted_super, type_of
from .lanes import CALLS, choose, lifted_sum
from .reach import implementation, is_liftable
from .stager import is_hidden
from .standard import lifted_standard, replaced_names
from .texts import lifted_print

__all__ = ["BUILTINS", "CALLED", "REPLACED", "lifted_function", "lifted_module", "lifted_special"]

REPLACED: dict[Any, Any] = {}
"""From a function, ufunc or builtin to what stands for it in lifted code."""

CALLED = {name: f"{name}()" for name in ("bool", "int", "float", "complex", "type")}
"""Builtin types whose calls, and only those, go to ours; under a name no source text can write."""


class LiftedModule(types.ModuleType):
    """A module as lifted code sees it."""

    def __init__(self, real: types.ModuleType, session: Any) -> None:
        super().__init__(real.__name__, real.__doc__)
        self.__dict__["_real"] = real
        self.__dict__["_session"] = session

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        watch = self._session.watch
        if watch is not None and name in vars(self._real):
            value = watch.name(vars(self._real), name, value)
        return self._session.lift(value)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._session.watch is not None:
            self._session.watch.seen(self._real)
        setattr(self._real, name, self._session.lower(value))

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
        if value.__name__ == "numpy.random":
            return lifted_random()
        return LiftedNumpy(value) if value.__name__.startswith("numpy.") else value
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


_SHOWN = frozenset({"scipy", "scipy.linalg", "scipy.special", "bindrune", "bindrune.random", "random", "time"})
"""Modules that are not the user's, with functions among theirs that are replaced, or refused while staging."""


def lifted_function(function: types.FunctionType) -> Any:
    """What stands for a library's function of Python code, or None."""
    library = str(function.__globals__.get("__name__", ""))
    if library.startswith("scipy.special."):
        return lifted_special(function)
    if str(function.__module__).startswith("scipy.linalg."):  # what decorates them is another module's
        hooks.linalg()
        return FUNCTIONS.get(function)
    if library == "statistics":
        _standard(sys.modules[library])
    return REPLACED.get(function)


def _standard(module: types.ModuleType) -> types.ModuleType:
    """`math` or `statistics` as lifted code sees it."""
    known = _MODULES.get(module.__name__)
    if known is None:
        known = _MODULES[module.__name__] = lifted_standard(module)
        REPLACED.update({plain: getattr(known, n) for n, plain in vars(module).items() if n in replaced_names(module)})
    return known


def lifted_module(module: types.ModuleType, session: Any) -> types.ModuleType:
    """A module as lifted code sees it; the standard library's and those of C code stay as they are."""
    known = _MODULES.get(module.__name__)
    if known is not None:
        return known
    if module.__name__ == "statistics":
        return _standard(module)
    if module.__name__.startswith("numpy."):
        return _MODULES.setdefault(module.__name__, _lift_numpy(module))
    if not is_liftable(module.__dict__) and module.__name__ not in _SHOWN:
        return module
    return LiftedModule(module, session)


# -------------------------------------------------------------------------------------------------------- builtins


def _len(value: Any) -> Any:
    if isinstance(value, Array) and value.shape and isinstance(value.shape[0], Dim):
        return value.shape[0]
    if is_hidden(value):
        bool(value[0])
    return len(value)


def _repr(value: Any) -> str:
    if isinstance(value, Array) and is_staged(value):
        value = concrete(value)
    return repr(value)


def _extreme(builtin: Any, beyond: Any) -> Any:
    """`max` or `min`: of several values the first that no later one lies beyond."""

    def further(best: Any, item: Any) -> Any:
        return choose(beyond(item, best), lambda: item, lambda: best)

    def extreme(*values: Any, **keywords: Any) -> Any:
        if not keywords:
            items = values if len(values) > 1 else tuple(values[0])
            if builtins.any(isinstance(v, Array) and not is_concrete(v) for v in items):
                # Lanes differ, or the values are traced: the comparison has no one answer.
                return reduce(further, items)
            return builtin(items)
        return builtin(*values, **keywords)

    return extreme


_ARRAY = np.empty(0)
"""Stands for any array with dimensions, where only its class is asked for."""


def _isinstance(value: Any, kinds: Any) -> bool:
    if isinstance(value, kinds):
        return True
    return isinstance(value, Array) and isinstance(_ARRAY if value.shape else peek(value), kinds)


def _hasattr(value: Any, name: str) -> bool:
    """Of a stand-in whether plain code would find the attribute there: Python's numbers have no shape."""
    plain = (_ARRAY if value.shape else peek(value)) if isinstance(value, Array) else value
    return hasattr(value, name) and hasattr(plain, name)


def _getattr(value: Any, name: str, *default: Any) -> Any:
    return default[0] if default and not _hasattr(value, name) else getattr(value, name)


def _type(*arguments: Any) -> Any:
    if len(arguments) != 1:
        return type(*arguments)
    return type(peek(arguments[0])) if isinstance(arguments[0], Array) else type_of(arguments[0])


def _float(value: Any = 0.0) -> Any:
    return registry["float"](value) if isinstance(value, Array) else float(value)


def _exact(kind: Any) -> Callable[..., Any]:
    """`bool` or `int`: of a number that nobody knows in a loop or a branch that is being staged, a traced one."""

    def converted(*values: Any, **keywords: Any) -> Any:
        value = values[0] if values else None
        if isinstance(value, Array) and value.shape == () and value.dtype.kind in "biuf" and _is_untold(value):
            return as_python(value, kind)
        return kind(*values, **keywords)

    return converted


def _is_untold(value: Any) -> bool:
    """Whether a value is not known before the program runs; of one that differs between lanes there is none to know."""
    while isinstance(value, Array):
        value = value.read()
        if value._handler.per_lane:
            return False
        if not value._handler.tells:
            return True
        value = value._value
    return False


def _complex(*values: Any) -> Any:
    if builtins.any(isinstance(v, Array) for v in values):
        return values[0] + 1j * values[1] if len(values) == 2 else values[0] + 0j
    return complex(*values)


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    module = builtins.__import__(name, getattr(globals, "real", globals), locals, fromlist, level)
    session = getattr(globals, "session", None)
    return module if session is None else session.lift(module)


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
            "len": _len,
            "print": lifted_print,
            "repr": _repr,
            "sum": lifted_sum,
            "max": _extreme(max, operator.gt),
            "min": _extreme(min, operator.lt),
            "isinstance": _isinstance,
            "hasattr": _hasattr,
            "getattr": _getattr,
            "bool()": _exact(bool),
            "int()": _exact(int),
            "float()": _float,
            "complex()": _complex,
            "type()": _type,
            "super": lifted_super,
            "__import__": _import,
            **CALLS,
        }
    )
    for name in ("max", "min", "isinstance", "hasattr", "getattr", "print", "repr", "sum"):
        REPLACED[getattr(builtins, name)] = BUILTINS[name]
    _standard(math)
    _MODULES["numpy"] = LiftedNumpy(np)
    for name in ("linalg", "fft"):
        _MODULES[f"numpy.{name}"] = getattr(_MODULES["numpy"], name)
