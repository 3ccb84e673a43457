"""Calls of the host from staged programs: `pure_callback`, `io_callback`, `progress`.

A pure callback computes values in Python; it may be called as often as the program likes, or not at all when nobody
needs the result.  An input-output callback is called once for each time the program comes by, in order.  Neither has a
derivative: a function that is to be differentiated gets rules (`custom_jvp`, `custom_vjp`, `primitive`).

Outside `jit` they are calls of the function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.errors import UnsupportedError, for_users, user_line
from ..core.handler import evaluate, perform
from ..core.operation import Structured
from ..graph.graph import ARRAY, NUMBER, Type, Value
from ..lift.iteration import Items, items_of
from ..lift.stager import current
from ..transforms.batch import Batch
from ..transforms.programs import batch_results
from .effects import Effect

__all__ = ["io_callback", "progress", "pure_callback"]


class _Callback(Structured):
    """``callback(*values; function, types)``: the leaves of what a function of Python's returns."""

    __slots__ = ("effect",)

    def __init__(self, name: str, effect: bool) -> None:
        super().__init__(name)
        self.effect = effect

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        found = params["function"](*values)
        for i, (value, type) in enumerate(zip(found, params["types"], strict=True)):
            if np.shape(value) != type.shape or not np.can_cast(np.asarray(value).dtype, type.dtype, "same_kind"):
                raise TypeError(
                    f"br.{self.name}: result {i} has shape {np.shape(value)} and dtype {np.asarray(value).dtype}; "
                    f"{type.shape} and {type.dtype} were announced"
                )
        return tuple(
            np.asarray(v, dtype=t.dtype) if t.shape else t.dtype.type(v)
            for v, t in zip(found, params["types"], strict=True)
        )

    def staged(self, values: Sequence[Value], params: dict[str, Any]) -> tuple[Any, dict[str, Any], Sequence[Type]]:
        return self, params, params["types"]

    def answer_forward(self, handler: Any, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        raise UnsupportedError(
            f"{user_line()}: br.{self.name} has no derivative, because Python computes it. Give the function rules of "
            "its own (br.primitive, br.custom_jvp, br.custom_vjp), or stop the derivative with br.stop_gradient."
        )

    answer_reverse = answer_forward

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        values, batched = handler.open(operands)
        lanes = [
            evaluate(self, [v[i] if b else v for v, b in zip(values, batched, strict=True)], params)
            for i in range(handler.size)
        ]
        return batch_results(handler, [np.stack(parts) for parts in zip(*lanes, strict=True)])


_pure = _Callback("pure_callback", False)
_ordered = _Callback("io_callback", True)


def _called(op: _Callback, callback: Callable[..., Any], result: Any, arguments: tuple[Any, ...]) -> Any:
    """Perform a callback on the leaves of some arguments."""
    stager: Any = current.get()
    if stager is not None:
        callback = stager.original(callback)
    leaves, structure = trees.flatten(arguments)
    announced, result_structure = trees.flatten(result)
    types = [Type(tuple(r.shape), np.dtype(r.dtype), ARRAY if r.shape else NUMBER) for r in announced]

    def function(*values: Any) -> list[Any]:
        found, structure_found = trees.flatten(callback(*trees.unflatten(structure, list(values))))
        if structure_found != result_structure and announced:
            raise TypeError(f"br.{op.name}: the result has another structure than was announced")
        return found if announced else []

    found = perform(op, leaves, {"function": function, "types": types})
    return trees.unflatten(result_structure, list(found)) if announced else None


@for_users
def pure_callback(callback: Callable[..., Any], result: Any, *arguments: Any) -> Any:
    """Call a Python function that works on plain arrays, from a function that may be staged.

    Args:
        callback: a function of plain arrays without side effects.
        result: what it returns, as a tree of `ShapeDtype`s (or of anything with a shape and a dtype).
        arguments: trees of arrays and numbers.

    Returns:
        What the callback returns.

    Raises:
        TypeError: the result is not what was announced.
        UnsupportedError: a derivative is asked for.

    >>> import numpy as np, bindrune as br
    >>> f = br.jit(lambda x: br.pure_callback(np.cumsum, br.ShapeDtype((3,), float), x) * 2)
    >>> f(np.ones(3))
    array([2., 4., 6.])
    """
    return _called(_pure, callback, result, arguments)


@for_users
def io_callback(callback: Callable[..., Any], result: Any, *arguments: Any, ordered: bool = True) -> Any:
    """Call a Python function for what it does: at each run of the program, in order.

    Args:
        callback: a function of plain arrays.
        result: what it returns, as a tree of `ShapeDtype`s; None for nothing.
        arguments: trees of arrays and numbers.
        ordered: accepted for code that comes from JAX; the order is always kept.

    Returns:
        What the callback returns.

    Raises:
        TypeError: the result is not what was announced.
        UnsupportedError: a derivative is asked for.

    >>> import numpy as np, bindrune as br
    >>> seen = []
    >>> f = br.jit(lambda x: br.io_callback(seen.append, None, x))
    >>> f(1.0), f(2.0), seen
    (None, None, [1.0, 2.0])
    """
    return _called(_ordered, callback, result, arguments)


# --------------------------------------------------------------------------------------------------------- progress


class _Bar:
    """A progress bar that begins with a loop's first step."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._bar: Any = None

    def advance(self, step: int, count: int) -> None:
        """One step begins."""
        if step == 0 or self._bar is None:
            self._bar = _tqdm()(total=count, **self._options)
        self._bar.update(1)
        if step == count - 1:
            self._bar.close()
            self._bar = None


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ImportError("br.progress shows its bar with tqdm: pip install 'bindrune[progress]'") from None
    return tqdm


class _Tick(Effect):
    """A step of a loop that shows its progress."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        params["bar"].advance(int(values[0]), int(values[1]))
        return ()


_tick = _Tick("tick")


class _Progress(Items):
    """Items whose steps show in a bar, staged or not."""

    def __init__(self, inner: Items, options: dict[str, Any]) -> None:
        bar = _Bar(options)

        def at(place: Any) -> Any:
            if isinstance(place, Array) or isinstance(inner.count, Array):
                perform(_tick, (place, inner.count), {"bar": bar})
            return inner.at(place)

        def plain() -> Iterator[Any]:
            return iter(_tqdm()(inner, total=len(inner), **options))

        super().__init__(inner.count, at, plain)


def progress(iterable: Iterable[Any], **options: Any) -> Iterable[Any]:
    """Go through something with a progress bar, which also moves while a staged loop runs.

    Args:
        iterable: a range, an array, or anything to go through.
        options: those of `tqdm`, such as ``desc``.

    >>> import bindrune as br
    >>> sum(i for i in br.progress(range(4), disable=True))
    6
    """
    inner = items_of(iterable)
    if inner is None:
        found: Iterable[Any] = _tqdm()(iterable, **options)
        return found
    return _Progress(inner, options)
