"""Lowering of stacks: what a loop keeps for the loop that goes back lies on one tape, which grows.

Values that are pushed together make a *frame*: the values, the last one pushed on top, and above them two words, where
the stack went on before (its top then) and the frame's size.  A stack is the place above its uppermost frame, zero
where it is empty.  So stacks may share frames, nest and interleave, and nothing that is on a tape is ever changed.  A
frame that only a dying stack reaches is given back when it is popped, if it is the last on the tape.

A frame whose values are taken off otherwise than they were put on stops the program, and the host performs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...compile.recursion import reached
from ...core.stack import EMPTY, STACK, ZEROS
from ...graph.graph import Graph, Literal, Node, Value
from .loops import INTEGER, Affine, Apply, Buffer, Const, Expression, If, Load, Reserve, Storage, Store, affine
from .lower import Location, Lowering, convert, rule
from .shaping import BOOL
from .views import View, along, whole

__all__ = ["HEADER", "NEVER_EMPTY", "WORD", "Top", "may_be_spent", "pushes", "stack_of"]

WORD = 8
HEADER = 2 * WORD
NEVER_EMPTY = -1
"""The top of the stack of zeros without end."""


class Top(Expression):
    """Where a stack ends.

    Attributes:
        place: the number of bytes on the tape up to there.
        owned: whether no other stack reaches its frames.
        pending: what is to be pushed on it, the first one first, if anything is.
        cursor: while a frame is taken off, the place above the values that are left; and where the frame begins.
    """

    __slots__ = ("cursor", "owned", "pending", "place")

    def __init__(
        self,
        place: Affine,
        owned: bool,
        pending: list[Location] | None = None,
        cursor: tuple[Affine, Affine] | None = None,
    ) -> None:
        self.dtype = INTEGER
        self.place = place
        self.owned = owned
        self.pending = pending
        self.cursor = cursor


def stack_of(x: Any) -> Top:
    """A stack that is known: the empty one, or that of zeros."""
    return Top(affine(0 if x is EMPTY else NEVER_EMPTY), owned=x is EMPTY)


def may_be_spent(graph: Graph) -> bool:
    """Whether a program may pop from a stack on which nothing is left, which gives zeros."""
    return any(
        isinstance(v, Literal) and v.content is ZEROS
        for part in reached(graph)
        for v in (*(v for node in part.nodes for v in node.operands), *part.outputs)
    )


def pushes(graph: Graph) -> bool:
    """Whether anything is put on a tape in a graph."""
    return any(node.op.name == "push" for part in reached(graph) for node in part.nodes)


def _continues(low: Lowering, stack: Value, name: str) -> bool:
    """Whether the only use of a stack is to be pushed on, or popped from, next."""
    users = low.users.get(stack, ())
    return len(users) == 1 and users[0] is not None and users[0].op.name == name and users[0].operands[0] is stack


# ------------------------------------------------------------------------------------------------------------- push


@rule("push")
def _push(low: Lowering, node: Node, operands: list[Location]) -> Location:
    below, value = operands
    assert isinstance(below, Top)
    # The list goes along with the stack: it is where the value is found if it must move.
    pending = below.pending if below.pending is not None else []
    low.need(value, pending, len(pending))
    pending.append(value)
    return _ended(low, node, Top(below.place, below.owned and node.operands[0] in low.dying, pending))


@rule("spread")
def _spread(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """What is to be pushed gets another axis; what lies on the tape is the host's business."""
    (stack,) = operands
    assert isinstance(stack, Top)
    pending = stack.pending or []
    if stack.place.known is None or any(isinstance(x, Top) for x in pending):
        return NotImplemented
    made: list[Location] = []
    for i, x in enumerate(pending):
        view = low.view(x)
        axis = node.params["axis"]
        shape = (*view.shape[:axis], affine(node.params["size"]), *view.shape[axis:])
        seen = view.seen([along(n + (n >= axis)) for n in range(len(view.shape))], shape)
        view.storage.viewers.pop((id(pending), i), None)
        low.need(seen, made, i)
        made.append(seen)
    return _ended(low, node, Top(stack.place, stack.owned and node.operands[0] in low.dying, made)) if made else stack


def _ended(low: Lowering, node: Node, stack: Top) -> Top:
    """A stack on which no more is pushed: with a frame of what was, unless there is more to come."""
    pending = stack.pending
    assert pending is not None
    if any(_continues(low, node.results[0], name) for name in ("push", "spread")):
        return stack
    bottom = affine(low.let(Load(low.tape, ()), "b"))
    cursor = bottom
    starts: list[Affine] = []
    for x in pending:
        starts.append(cursor)
        cursor = cursor + _room(low, _shape(low, x), x.dtype)
    top = cursor + HEADER
    low.do(Reserve(top))
    for i, (x, start) in enumerate(zip(pending, starts, strict=True)):
        _put(low, x, start)
        if isinstance(x, View):
            x.storage.viewers.pop((id(pending), i), None)
    header = on_tape(INTEGER, (affine(2),), cursor)
    low.do(Store(header.buffer, (affine(0),), stack.place))
    low.do(Store(header.buffer, (affine(1),), cursor - bottom))
    low.do(Store(low.tape, (), top))
    return Top(top, stack.owned)


def _shape(low: Lowering, x: Location) -> tuple[Affine, ...]:
    return x.shape if isinstance(x, View) else ()


def _room(low: Lowering, shape: Sequence[Affine], dtype: np.dtype[Any]) -> Affine:
    """The bytes that an array takes on the tape."""
    size = affine(dtype.itemsize)
    for n in shape:
        if n.known is not None:
            size = size * n.known
        elif size.known is not None:
            size = n * size.known
        else:
            size = affine(low.let(Apply("multiply", (size, n), INTEGER)))
    if all(factor % WORD == 0 for _, factor in size.terms):
        return Affine(size.terms, (size.offset + WORD - 1) // WORD * WORD)
    return affine(low.let(Apply("bitwise_and", (size + (WORD - 1), affine(-WORD)), INTEGER)))


def on_tape(dtype: np.dtype[Any], shape: tuple[Affine, ...], start: Affine) -> View:
    """An array at a place on the tape."""
    storage = Storage(dtype, shape, "tape")
    storage.start = start
    return whole(Buffer(storage, shape))


def _put(low: Lowering, x: Location, start: Affine) -> None:
    if isinstance(x, Top):
        _put(low, x.place, start)
    elif isinstance(x, View):
        low.copy(on_tape(x.dtype, x.shape, start), x)
    else:
        cell = on_tape(x.dtype, (), start)
        low.do(Store(cell.buffer, (), x))


# -------------------------------------------------------------------------------------------------------------- pop


@rule("pop")
def _pop(low: Lowering, node: Node, operands: list[Location]) -> list[Location]:
    (stack,) = operands
    assert isinstance(stack, Top)
    below, result = node.results
    owned = stack.owned and node.operands[0] in low.dying
    shape = tuple(map(low.length, result.shape))
    if stack.place.known is not None:
        return [stack, _zeros(low, result, shape)]
    endless = _is_endless(low, stack.place)
    if stack.cursor is None:
        if endless is None:
            low.require(stack.place - 1, node, _another_frame, stack.place)
        cursor, start = _open(low, stack.place, endless)
        if owned:
            bottom = low.let(Load(low.tape, ()))
            last = Apply("equal", (bottom, stack.place), BOOL)
            low.do(Store(low.tape, (), Apply("where", (last, start, bottom), INTEGER)))
    else:
        cursor, start = stack.cursor
    dtype = INTEGER if result.dtype == STACK else result.dtype
    cursor = affine(low.let(cursor - _room(low, shape, dtype)))
    found = _take(low, result, dtype, shape, cursor, endless, owned)
    rest = Top(stack.place, owned, cursor=(cursor, start))
    if not _continues(low, below, "pop"):
        rest = _close(low, node, rest, endless)
    return [rest, found]


def _is_endless(low: Lowering, place: Affine) -> Expression | None:
    """Whether nothing is left on a stack; None where that cannot be."""
    return Apply("less_equal", (place, affine(0)), BOOL) if low.zeros else None


def _guarded(low: Lowering, endless: Expression | None, read: Expression, otherwise: Expression) -> Expression:
    """What is read from the tape, where there is something."""
    if endless is None:
        return low.let(read)
    cell = Buffer(Storage(read.dtype, (), "temporary"), ())
    choice = If(endless, [Store(cell, (), otherwise)], [Store(cell, (), read)])
    low.do(choice)
    return low.let(Load(cell, ()))


def _open(low: Lowering, place: Affine, endless: Expression | None) -> tuple[Affine, Affine]:
    """The place above the values of the uppermost frame, and where it begins."""
    above = place - HEADER
    header = on_tape(INTEGER, (affine(2),), above)
    size = _guarded(low, endless, Load(header.buffer, (affine(1),)), affine(0))
    return above, above - affine(size)


def _take(
    low: Lowering,
    result: Value,
    dtype: np.dtype[Any],
    shape: tuple[Affine, ...],
    start: Affine,
    endless: Expression | None,
    owned: bool,
) -> Location:
    """The value at a place on the tape."""
    seen = on_tape(dtype, shape, start)
    if result.dtype == STACK:
        place = _guarded(low, endless, Load(seen.buffer, ()), affine(0))
        return Top(affine(place), owned)
    zero = Const(np.zeros((), dtype)[()], dtype)
    if not shape:
        return _guarded(low, endless, Load(seen.buffer, ()), convert(zero, dtype))
    if endless is None:
        return low.fresh(seen) if low.pushing else seen
    made = low.array(dtype, shape)
    choice = If(endless, [], [])
    for block, source in ((choice.then, zero), (choice.otherwise, seen)):
        with low.inside(block):
            low.copy(made, source)
    low.do(choice)
    return made


def _zeros(low: Lowering, result: Value, shape: tuple[Affine, ...]) -> Location:
    if result.dtype == STACK:
        return stack_of(ZEROS)
    zero = Const(np.zeros((), result.dtype)[()], result.dtype)
    return low.uniform(zero, shape) if shape else zero


def _close(low: Lowering, node: Node, stack: Top, endless: Expression | None) -> Top:
    """The stack below a frame all of whose values have been taken."""
    assert stack.cursor is not None
    cursor, start = stack.cursor
    whole_frame: Expression = Apply("equal", (cursor, start), BOOL)
    if endless is not None:
        whole_frame = Apply("logical_or", (endless, whole_frame), BOOL)
    low.check(whole_frame, node, _another_frame, cursor)
    header = on_tape(INTEGER, (affine(2),), stack.place - HEADER)
    below = _guarded(low, endless, Load(header.buffer, (affine(0),)), stack.place)
    return Top(affine(below), stack.owned)


def _another_frame(found: Any) -> None:
    """The host performs the whole program when nothing is raised."""
