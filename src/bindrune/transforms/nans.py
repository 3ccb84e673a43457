"""Finding the first value, and the first derivative, that is not finite.

Each operation is checked where the user performs it, each derivative where it arises, with the user's line of the
operation.  Left alone are what merely passes on: infinities that an operand had already, and infinite derivatives of
elements that a selection did not choose, which the backward pass takes as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.cotangents import Buffer, Sparse
from ..core.errors import NonFiniteError, for_users
from ..core.operation import Elementwise, Write, is_differentiable
from .forward import Forward
from .reverse import Reverse
from .tracing import Traced
from .watching import Event, Listener, is_inside, nearest, watching

__all__ = ["debug_nans"]


def _values(thing: Any) -> Iterator[Any]:
    """The plain array under a value or a cotangent."""
    if isinstance(thing, Sparse):
        thing = thing.operands[0]
    elif isinstance(thing, Buffer):
        thing = thing.value
    elif isinstance(thing, list):
        for part in thing:
            yield from _values(part)
        return
    while isinstance(thing, Array):
        thing = thing.read()._value
    if thing is not None and is_differentiable(thing):
        yield np.asarray(thing)


def _tangents(value: Any) -> Iterator[tuple[Forward, Any]]:
    """The tangents that forward mode carries with a value at each level, as plain arrays, and what carries them."""
    while isinstance(value, Array):
        value = value.read()
        if isinstance(value._handler, Forward):
            yield from _tangents(value._mark)
            for tangent in _values(value._mark):
                yield value._handler, tangent
        value = value._value


def _arising(result: Any, sources: Sequence[Any]) -> Any:
    """Where a result is not a number, or is infinite though its sources are finite; None where nowhere."""
    if np.isfinite(result).all():
        return None
    found = ~np.isfinite(result) if all(np.isfinite(s).all() for s in sources) else np.isnan(result)
    return found if found.any() else None


class _Finite(Listener):
    """Raises at what is not finite."""

    __slots__ = ()

    def performed(self, event: Event) -> None:
        # A write passes on, and may write into memory that nobody has set yet.
        if is_inside() or isinstance(event.op, Write):
            return
        sources = [v for x in event.operands for v in _values(x)]
        for result in event.results:
            for value in _values(result):
                _check(event, f"{event.op.name} gives", value, sources)
        sources += [v for x in event.operands for _, v in _tangents(x)]
        for result in event.results:
            for handler, tangent in _tangents(result):
                _check(event._replace(handler=handler), f"the derivative of {event.op.name} is", tangent, sources)

    def pulled(self, event: Event) -> None:
        if is_inside():
            return
        sources = list(_values(event.cotangent))
        assert isinstance(event.handler, Reverse)
        zero = sources[0] == 0 if event.handler.selects and len(sources) == 1 else None
        sources += [v for _, v in _tangents(event.cotangent)]
        what = " in the derivative of ".join(event.place.of)
        for cotangent in event.results:
            found = [(event.handler, v) for v in _values(cotangent)]
            for handler, value in (*found, *_tangents(cotangent)):
                kept = np.where(zero, 0, value) if zero is not None and zero.shape == value.shape else value
                _check(event._replace(handler=handler), f"the derivative of {what} is", kept, sources)


def _check(event: Event, what: str, value: Any, sources: Sequence[Any]) -> None:
    bad = _arising(value, sources)
    if bad is None:
        return
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    where = f" at index {index if len(index) > 1 else index[0]} of shape {value.shape}" if index else ""
    operands = [v for x in event.operands for v in _values(x)] if isinstance(event.op, Elementwise) else []
    there = [str(v[index] if v.shape == value.shape else v[()]) for v in operands if v.shape in (value.shape, ())]
    given = f", from {', '.join(there)}" if there and len(there) == len(operands) else ""
    backward = event.place.phase == "backward" and isinstance(event.handler, Reverse)
    under = "in the backward pass of" if backward else "under"
    line = nearest(event.place.stack)
    raise NonFiniteError(f"{line}: {what} {value[index]}{where}{given}, {under} {event.handler.origin}")


class debug_nans:  # noqa: N801  (used as a keyword: with debug_nans():)
    """Find the first value or derivative that is infinite or not a number: a context manager, or a decorator.

    In the scope of ``with br.debug_nans():`` every transformed call (`grad`, `jvp`, `vmap` and their kin) is checked,
    operation by operation, forward and backward.  ``br.debug_nans(f)``, or the decorator ``@br.debug_nans``, also
    checks what `f` computes under no transformation, and its derivatives if it is differentiated.

    An infinity is reported where it arises, not where it passes through (a mask of ``-np.inf`` is no error); nor is an
    infinite derivative of elements that `np.where` or an index did not choose.

    Raises:
        NonFiniteError: something is not finite.  The message names the operation, the line where the user performed
            it, and the element.

    >>> import numpy as np, bindrune as br
    >>> with br.debug_nans():
    ...     br.grad(lambda x: np.sum(np.sqrt(x)))(np.array([4.0, 0.0]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    bindrune.core.errors.NonFiniteError: ...: the derivative of sqrt is inf at index 1 of shape (2,), from 0.0, in ...
    """

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else DebugNans(function)

    def __init__(self) -> None:
        self._scope = watching(_Finite())

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(self, *error: object) -> None:
        self._scope.__exit__(*error)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return DebugNans(function)


class DebugNans(Traced):
    """A function of which every operation and every derivative is checked."""

    transformation = "debug_nans"

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        listener = _Finite()
        with watching(listener):
            return self.trace(listener, arguments, keywords)
