"""Tracing a function: a handler that shows a listener each operation and performs it one level out, unchanged.

It owns the arguments, so it sees what depends on them: the user's operations and, of derivatives taken inside the
function, those of their rules.  Where a derivative is taken outside, it also sees the cotangents that come back
through the function's operations, after the function itself has returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.handler import HOST, Handler, evaluate, update
from ..core.operation import Op, Write
from .calls import Call, Decorated, as_leaf, take_out
from .forward import Forward
from .reverse import Reverse
from .watching import Event, Listener, as_results, attend, here, watching

__all__ = ["Trace", "Traced"]

_FOLLOWED = (np.ndarray, np.generic, float, complex, Array)


class Trace(Handler):
    """Shows each operation to a listener."""

    __slots__ = ("depth", "listener")

    def __init__(self, origin: object, listener: Listener) -> None:
        super().__init__(origin)
        self.listener = listener
        self.depth = len(here().stack)

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        values = [self.take(x) for x in operands]
        result = self.show(op, values, params, lambda: evaluate(op, values, params))
        return tuple(Array(self, v) for v in result) if type(result) is tuple else Array(self, result)

    def update(self, op: Write, target: Array, operands: Sequence[Any], params: dict[str, Any]) -> Array:
        values = [self.take(x) for x in operands]
        whole = target._handler is self or target._handler is HOST
        box = [target._value if whole else target.snapshot()]
        target._value = None
        try:
            return Array(self, self.show(op, values, params, lambda: update(op, box, values, params), box))
        except BaseException:
            target._value = box[0] if whole else box[0]._value
            raise

    def take(self, x: Any) -> Any:
        """An operand one level out."""
        if type(x) is not Array:
            return x
        return x._value if x._handler is self or x._handler is HOST else x.snapshot()

    def show(
        self,
        op: Op,
        values: Sequence[Any],
        params: dict[str, Any],
        perform: Callable[[], Any],
        written: Sequence[Any] = (),
    ) -> Any:
        """Perform an operation, and show it."""
        owners = {id(owner): owner for owner in _owners((*values, *written))}.values()
        tapes = [(owner, len(owner.tape)) for owner in owners if isinstance(owner, Reverse)]
        place = here()
        if tapes or any(isinstance(owner, Forward) for owner in owners):
            place = place._replace(phase=place.phase or "forward")
        start = perf_counter()
        result = perform()
        seconds = perf_counter() - start
        event = Event(self, op, params, values, as_results(result), place, seconds)
        self.listener.performed(self.inside(event))
        for reverse, before in tapes:
            attend(reverse, before, event, lambda pulled: self.listener.pulled(self.inside(pulled)))
        return result

    def inside(self, event: Event) -> Event:
        """An event as seen from the traced function: without the calls that led to it, if it is one of its own."""
        stack = event.place.stack
        return event._replace(place=event.place._replace(stack=stack[self.depth :] or stack[-1:]))


def _owners(values: Sequence[Any]) -> Iterator[Handler]:
    """The handlers further out that follow the values."""
    for value in values:
        while isinstance(value, Array):
            value = value.read()
            yield value._handler
            value = value._value


class Traced(Decorated):
    """A function that runs as it is, before a listener."""

    def trace(self, listener: Listener, arguments: Sequence[Any], keywords: dict[str, Any]) -> Any:
        """Call the function."""
        handler = Trace(self, listener)
        call = Call(self, handler)
        given = [_given(call, a) for a in arguments]
        named = {name: _given(call, a) for name, a in keywords.items()}
        with watching():
            result = call.run(given, named)
        out = trees.map_leaves(lambda v: take_out(handler, v), result)
        handler.end()
        return out


def _given(call: Call, argument: Any) -> Any:
    """Stand-ins for the arrays and floats in an argument; integers stay what they are, to count and index with."""
    leaves, structure = trees.flatten(argument)
    if not any(isinstance(leaf, _FOLLOWED) for leaf in leaves):
        return call.constant(argument)
    cells = [
        call.follow(leaf, Array(call.handler, as_leaf(leaf))) if isinstance(leaf, _FOLLOWED) else call.constant(leaf)
        for leaf in leaves
    ]
    return call.tree(structure, cells)
