"""Leaving things out of derivatives: `stop_gradient` for values, `no_grad` for code.

`stop_gradient` is an operation without a derivative, so every derivative that meets it, inner or outer, sees a
constant; batching passes through.  `no_grad` pauses the derivatives under way in a scope of the running thread or task
(those begun inside go on): it is the one thing that is scoped rather than carried by values, and it lives in a
`ContextVar`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.errors import UnsupportedError, for_users, user_line
from ..core.handler import next_number, paused
from ..core.operation import elementwise, row
from ..lift.reach import is_liftable
from .calls import Decorated

__all__ = ["detach", "no_grad", "stop_gradient"]

_stop = elementwise(
    "stop_gradient", lambda x: x, None, rows=lambda: [row(np.array([0.5, -1.0]), smooth=False), row(np.float32(0.5))]
)


def stop_gradient(tree: Any) -> Any:
    """The value itself, as a constant to every derivative.

    Args:
        tree: an array, a number, or a tree of them.

    Returns:
        A tree of the same values.

    >>> import numpy as np, bindrune as br
    >>> br.grad(lambda x: x * br.stop_gradient(x))(3.0)
    np.float64(3.0)
    """
    return trees.map_leaves(lambda leaf: _stop(leaf) if isinstance(leaf, Array) else leaf, tree)


detach = stop_gradient


class no_grad:  # noqa: N801  (used as a keyword: with no_grad():)
    """Code that derivatives do not see: a context manager, a decorator, or a call ``no_grad(f)``.

    Raises:
        UnsupportedError: the code is that of a generator, which takes turns with code that derivatives do see.

    >>> import numpy as np, bindrune as br
    >>> def f(x):
    ...     with br.no_grad():
    ...         scale = x * x
    ...     return scale * x
    >>> br.grad(f)(3.0)
    np.float64(9.0)
    >>> br.grad(lambda x: br.no_grad(np.square)(x) * x)(3.0)
    np.float64(9.0)
    """

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else NoGrad(function)

    def __enter__(self) -> None:
        frame = sys._getframe(1)
        # A library that resumes a generator (contextlib, pytest) enters and leaves the scope with it.
        if frame.f_code.co_flags & _GENERATOR and frame.f_back and is_liftable(frame.f_back.f_globals):
            raise _not_for_generators(f"{user_line()}: br.no_grad()")
        _outside.set((*_outside.get(), paused.get()))
        paused.set(next_number())

    def __exit__(self, *error: object) -> None:
        *rest, before = _outside.get()
        _outside.set(tuple(rest))
        paused.set(before)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return NoGrad(function)


_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

_outside: ContextVar[tuple[int, ...]] = ContextVar("outside", default=())
"""What was paused outside each of the scopes that the running code is in."""


class NoGrad(Decorated):
    """A function whose inside derivatives do not see."""

    transformation = "no_grad"

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        with no_grad():
            result = self.function(*arguments, **keywords)
        if isinstance(result, (GeneratorType, AsyncGeneratorType, CoroutineType)):
            if isinstance(result, CoroutineType):
                result.close()
            raise _not_for_generators(str(self))
        return result


def _not_for_generators(where: str) -> UnsupportedError:
    return UnsupportedError(
        f"{where}: the code of a generator or coroutine runs in turns with code that derivatives see. Put what they "
        "shall not see into a function f and call br.no_grad(f), or use br.stop_gradient."
    )
