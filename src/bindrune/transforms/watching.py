"""Watching handlers at work: what they answer, and which line of the user's each derivative comes from.

A handler that begins while somebody watches turns into one of a watching class, which answers as before and tells a
`Listener`.  A tape remembers for each entry the `Place` of its operation, so that what happens on the way back can be
told by the user's line on the way forward.  When nobody watches, all of this costs one look at a `ContextVar` for
each transformed call.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from time import perf_counter
from types import FrameType
from typing import Any, NamedTuple

from ..core.array import Array
from ..core.cotangents import Part
from ..core.errors import user_frames
from ..core.handler import Handler
from ..core.operation import Binary, Elementwise, Op, Unary, Write
from .batch import Batch
from .calls import watcher
from .forward import Forward
from .reverse import Reverse

__all__ = ["Event", "Line", "Listener", "Place", "attend", "here", "nearest", "watching"]


class Line(NamedTuple):
    """A line of the user's."""

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}, in {self.function}"


class Place(NamedTuple):
    """Where an operation comes from."""

    stack: tuple[Line, ...]
    """The user's calls that lead to it, the outermost first; on the way back, those of the operation differentiated."""
    phase: str
    """The pass of a derivative: ``forward``, ``backward``, or empty where none is taken."""
    of: tuple[str, ...]
    """The operation whose derivative it belongs to, and the one whose derivative *that* belongs to, and so on."""


def nearest(stack: Sequence[Line]) -> str:
    """The last of the user's calls, as text."""
    return str(stack[-1]) if stack else "<unknown line>"


class Event(NamedTuple):
    """An operation that was answered, or one through which cotangents were pulled back."""

    handler: Handler
    op: Op
    params: dict[str, Any]
    operands: Sequence[Any]
    """Values or cells; of a pullback, those of elementwise operations only."""
    results: Sequence[Any]
    """Values or cells; of a pullback, the operands' cotangents."""
    place: Place
    seconds: float
    cotangent: Any = None
    """Of a pullback, the result's."""


class Listener:
    """Is told what happens."""

    __slots__ = ()

    def performed(self, event: Event) -> None:
        """An operation was answered."""

    def pulled(self, event: Event) -> None:
        """Cotangents came back through an operation."""


_NOWHERE = Place((), "", ())

_current: ContextVar[tuple[Place, int] | None] = ContextVar("place", default=None)
"""On whose behalf a handler is at work, and how many of the user's frames led there."""

_NOBODY = Listener()

_listening: ContextVar[Listener] = ContextVar("listening", default=_NOBODY)

_behind: ContextVar[Place | None] = ContextVar("behind", default=None)
"""The place of the latest work done on behalf of one: on the way back what is then delivered belongs to it too."""


def here() -> Place:
    """The place of the operation that is being performed."""
    frames = [Line(f.f_code.co_filename, f.f_lineno, f.f_code.co_name) for f in user_frames()][::-1]
    place, depth = _current.get() or (_NOWHERE, 0)
    if not _is_delivering():
        return place._replace(stack=(*place.stack, *frames[depth:]))
    return _behind.get() or place._replace(stack=(*place.stack, *frames[depth:]), phase="backward")


def _is_delivering() -> bool:
    """Whether a backward pass is between two operations, with no code of the user's in between."""
    user = next(user_frames(), None)
    frame: FrameType | None = sys._getframe()
    while frame is not user and frame is not None and frame.f_code is not _Placed.__call__.__code__:
        if frame.f_code is Reverse._walk.__code__:
            return True
        frame = frame.f_back
    return False


def is_inside() -> bool:
    """Whether what is being performed serves a handler that is watched itself."""
    return _current.get() is not None


class _At:
    """Work done on behalf of a place."""

    __slots__ = ("place", "token")

    def __init__(self, place: Place) -> None:
        self.place = place

    def __enter__(self) -> None:
        self.token = _current.set((self.place, sum(1 for _ in user_frames())))
        _behind.set(self.place)

    def __exit__(self, *error: object) -> None:
        _current.reset(self.token)
        _behind.set(self.place)


class watching:  # noqa: N801  (used as a keyword: with watching():)
    """Watch every handler that begins in a scope of the running thread or task."""

    def __init__(self, listener: Listener | None = None) -> None:
        self.listener = listener
        self.tokens: list[tuple[Token[Any], Token[Any]]] = []

    def __enter__(self) -> None:
        listener = _listening.get() if self.listener is None else self.listener
        self.tokens.append((watcher.set(_watch), _listening.set(listener)))

    def __exit__(self, *error: object) -> None:
        watch, listening = self.tokens.pop()
        watcher.reset(watch)
        _listening.reset(listening)


def attend(reverse: Reverse, start: int, event: Event, tell: Callable[[Event], None]) -> None:
    """Make the entries of a tape from `start` on, which are those of an event, tell when cotangents come back."""
    place = event.place._replace(phase="backward", of=(event.op.name, *event.place.of))
    # What is kept for the listener is shared, so that a write would have to copy it: only what is small next to
    # the arrays that loops write in.
    operands = event.operands if isinstance(event.op, Elementwise) else ()
    behind = event._replace(handler=reverse, operands=operands, results=(), place=place)

    def attended(pull: Any) -> Any:
        if not isinstance(pull, Write):
            return _attended(pull, behind, tell)
        twin = copy.copy(pull)
        twin.adjoint = _attended(pull.adjoint, behind, tell, written=True)
        return twin

    reverse.attend(start, attended)


class _Placed:
    """A function that is called on behalf of a place."""

    __slots__ = ("function", "place")

    def __init__(self, function: Callable[..., Any], place: Place) -> None:
        self.function = function
        self.place = place

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        with _At(self.place):
            return self.function(*arguments, **keywords)


def _attended(
    pull: Callable[..., Any], event: Event, tell: Callable[[Event], None], written: bool = False
) -> Callable[..., Any]:
    placed = _Placed(pull, event.place)

    def call(ct: Any, *kept: Any, **params: Any) -> Any:
        start = perf_counter()
        found = placed(ct, *kept, **params)
        cotangents = as_results(found)
        # The cotangents of several results are gathered, one by one, before they come back through the operation.
        if not any(isinstance(part, Part) for part in cotangents):
            # Of the array written, only what comes back to the elements: all of it would be shown for each write.
            own = found if written else ct
            tell(event._replace(results=cotangents, seconds=perf_counter() - start, cotangent=own))
        return found

    return call


class Watched(Handler):
    """A handler that tells of each operation it has answered, but not of those it performs to that end."""

    __slots__ = ()

    phase = ""

    def unary(self, op: Unary, x: Array) -> Array:
        result: Array = self.watch(op, (x,), {}, lambda: super(Watched, self).unary(op, x))
        return result

    def binary(self, op: Binary, a: Any, b: Any) -> Array:
        result: Array = self.watch(op, (a, b), {}, lambda: super(Watched, self).binary(op, a, b))
        return result

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        return self.watch(op, operands, params, lambda: super(Watched, self).apply(op, operands, params))

    def update(self, op: Write, target: Array, operands: Sequence[Any], params: dict[str, Any]) -> Array:
        result: Array = self.watch(
            op, operands, params, lambda: super(Watched, self).update(op, target, operands, params)
        )
        return result

    def watch(self, op: Op, operands: Sequence[Any], params: dict[str, Any], answer: Callable[[], Any]) -> Any:
        """Answer, and tell."""
        place = here()
        place = place._replace(phase=place.phase or self.phase)
        before = len(self.tape) if isinstance(self, Reverse) else 0
        start = perf_counter()
        with _At(place):
            result = answer()
        seconds = perf_counter() - start
        event = Event(self, op, params, operands, as_results(result), place, seconds)
        listener = _listening.get()
        listener.performed(event)
        if isinstance(self, Reverse):
            attend(self, before, event, listener.pulled)
        return result


class _WatchedForward(Watched, Forward):
    __slots__ = ()

    phase = "forward"


class _WatchedReverse(Watched, Reverse):
    __slots__ = ()

    phase = "forward"


class _WatchedBatch(Watched, Batch):
    __slots__ = ()


def as_results(result: Any) -> tuple[Any, ...]:
    """The results of an operation, be it one or several."""
    return tuple(result) if type(result) in (tuple, list) else (result,)


_WATCHED: dict[type, type[Handler]] = {Forward: _WatchedForward, Reverse: _WatchedReverse, Batch: _WatchedBatch}


def _watch(handler: Handler) -> None:
    """Turn a handler into one of a watching class."""
    kind = _WATCHED.get(type(handler))
    if kind is not None:
        handler.__class__ = kind
