"""NumPy's random numbers inside a lifted function.

What a generator draws are constants, as cells into which traced values can be written later.  Shuffling and choosing
rearrange stand-ins by the same draws with which they would rearrange an array.  A traced parameter of a distribution is
refused: its derivative is not that of a constant.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.protocol import FUNCTIONS, hooks
from .creation import cells_of

__all__ = ["lifted_drawing", "lifted_random"]


def _drawing(generator: Any, name: str, draw: Any) -> Any:
    """A method of a generator."""
    rearrange: Any = _REARRANGING.get(name)

    @functools.wraps(draw)
    def drawn(*arguments: Any, **keywords: Any) -> Any:
        hooks.drawing(name)
        if rearrange is not None and arguments and isinstance(arguments[0], Array) and arguments[0].ndim:
            return rearrange(generator, *arguments, **keywords)
        out = keywords.pop("out", None)
        result = draw(*arguments, **keywords, **({} if out is None else {"size": out.shape}))
        if out is None:
            return cells_of(result) if isinstance(result, np.ndarray) else result
        out[...] = result
        return out

    return drawn


def _order(generator: Any, x: Any, axis: int) -> Any:
    return generator.permutation(x.shape[axis])


def _shuffle(generator: Any, x: Any, axis: int = 0) -> None:
    x[...] = FUNCTIONS[np.take](x, _order(generator, x, axis), axis)


def _permutation(generator: Any, x: Any, axis: int = 0) -> Any:
    return FUNCTIONS[np.take](x, _order(generator, x, axis), axis)


def _choice(generator: Any, a: Any, *arguments: Any, axis: int = 0, **keywords: Any) -> Any:
    return FUNCTIONS[np.take](a, generator.choice(a.shape[axis], *arguments, **keywords), axis)


_REARRANGING = {"shuffle": _shuffle, "permutation": _permutation, "choice": _choice}


class _Lifted:
    """A generator as lifted code sees it."""

    __slots__ = ("_generator",)

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._generator, name)
        return _drawing(self._generator, name, value) if name in _drawing_methods(self.__class__) else value

    __class__: Any = property(lambda self: type(self._generator))


@functools.cache
def _drawing_methods(kind: type) -> frozenset[str]:
    """The methods that draw: all that do not concern the state of the generator."""
    others = {"bit_generator", "spawn", "get_state", "set_state", "seed", "bytes"}
    return frozenset(name for name in vars(kind) if not name.startswith("_")) - others


def lifted_generator(generator: Any) -> Any:
    """A `Generator` or `RandomState` whose arrays are cells."""
    return generator if isinstance(generator, _Lifted) else _Lifted(generator)


class _Kind(type):
    """The class of a generator as lifted code sees it: it makes lifted ones, and knows both."""

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        return lifted_generator(cls.__base__(*arguments, **keywords))  # type: ignore[misc]

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, cls.__base__)  # type: ignore[arg-type]


@functools.cache
def lifted_random() -> types.ModuleType:
    """`numpy.random`."""
    random = np.random
    module = types.ModuleType("numpy.random", random.__doc__)
    vars(module).update({n: v for n, v in vars(random).items() if not n.startswith("__")})
    for name, value in vars(random).items():
        owner = getattr(value, "__self__", None)
        if isinstance(owner, random.RandomState):
            setattr(module, name, getattr(lifted_generator(owner), name))
    for kind in (random.Generator, random.RandomState):
        setattr(module, kind.__name__, _Kind(kind.__name__, (kind,), {"__module__": kind.__module__}))
    vars(module)["default_rng"] = lambda seed=None: lifted_generator(random.default_rng(_plain(seed)))
    return module


def _plain(seed: Any) -> Any:
    return object.__getattribute__(seed, "_generator") if type(seed) is _Lifted else seed


def lifted_drawing(value: Any) -> Any:
    """What stands for a generator, for a method of one, or for a class or function of `numpy.random`."""
    owner = getattr(value, "__self__", None)
    if type(owner).__module__ in _MODULES:
        return getattr(lifted_generator(owner), value.__name__)
    if type(value).__module__ in _MODULES:
        return lifted_generator(value)
    return getattr(lifted_random(), value.__name__, value) if getattr(value, "__module__", "") in _MODULES else value


_MODULES = ("numpy.random", "numpy.random._generator", "numpy.random.mtrand")
