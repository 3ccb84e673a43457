"""Functions of flat lists: what all operations that run a user's function are made of.

A *program* takes a list of values and returns a list of results.  `Program` makes one of a user's function: the values
are the leaves of its arguments followed by what it captures, and it runs on cells of its own over them.  A program can
be mapped over lanes (`Lanes`), carry tangents along (`Pushed`) and be recorded (`record`), and the outcome is a program
again.  So an operation on functions needs one definition, whatever transformations are around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple, Self

import numpy as np

from ..core import trees
from ..core.array import Array, View, dtype_of
from ..core.errors import MutationError, UnsupportedError, user_line
from ..core.handler import HOST, Handler, constant, evaluate, update
from ..core.operation import Binary, Op, Spec, Unary, Write, is_differentiable
from ..core.specs import zeros
from ..core.stack import STACK, ZEROS
from .batch import Batch, named_axes
from .closures import Captured
from .forward import Forward
from .reverse import Into, Reverse, deliver

__all__ = [
    "NUMERIC",
    "AllLanes",
    "LaneAxis",
    "Lanes",
    "Parts",
    "Program",
    "Pull",
    "Pushed",
    "Runnable",
    "Scope",
    "TangentSpace",
    "bare",
    "batch_results",
    "followed",
    "is_followed",
    "lane_axis",
    "leaf_count",
    "push_results",
    "record",
    "record_results",
    "recorded",
    "refuse_writes",
    "rehearse",
]

_FOLLOWED = (np.ndarray, np.generic, float, complex, Array)
NUMERIC = (*_FOLLOWED, int)

Runnable = Callable[[Sequence[Any]], list[Any]]
"""A program: from values to results, which are plain or cells of their own, never views."""


def bare(value: Any) -> Any:
    """A result as the code one level out holds it: a plain array, or a cell of its own."""
    if not isinstance(value, Array):
        return value
    cell = value.read()
    return cell._value if cell._handler is HOST else cell


def leaf_count(structure: Any) -> int:
    """How many leaves a tree of this structure has."""
    return 1 if structure is None else structure.num_leaves


class Parts:
    """A tree taken apart: its arrays and numbers, and all else."""

    __slots__ = ("_is_numeric", "_structure", "leaves", "others")

    def __init__(self, tree: Any) -> None:
        self._structure: Any = None
        self._is_numeric: list[bool] | None = None
        if type(tree) is tuple and all(isinstance(leaf, NUMERIC) for leaf in tree):  # as most arguments are
            self.leaves: list[Any] = list(tree)
            self.others: tuple[Any, ...] = ()
            return
        found, self._structure = trees.flatten(tree)
        self._is_numeric = [isinstance(leaf, NUMERIC) for leaf in found]
        self.leaves = [v for v, numeric in zip(found, self._is_numeric, strict=True) if numeric]
        self.others = tuple(v for v, numeric in zip(found, self._is_numeric, strict=True) if not numeric)

    def together(self, leaves: Iterable[Any], others: Iterable[Any]) -> Any:
        """The tree with other leaves."""
        if self._is_numeric is None:
            return tuple(islice(leaves, len(self.leaves)))
        numbers, rest = iter(leaves), iter(others)
        return trees.unflatten(self._structure, [next(numbers if numeric else rest) for numeric in self._is_numeric])


class TangentSpace:
    """Shape and dtype of the tangents of a value.  Integers have none of their own; theirs are zeros of float type."""

    __slots__ = ("dtype", "shape")

    def __init__(self, value: Any) -> None:
        dtype = dtype_of(value)
        self.shape = np.shape(value) if not hasattr(value, "shape") else value.shape
        self.dtype = dtype if is_differentiable(value) else np.dtype(float)

    def zeros(self) -> Any:
        """The zero tangent."""
        if self.dtype == STACK:
            return ZEROS
        return zeros(Spec(self.shape, self.dtype)) if self.shape else self.dtype.type(0)


def refuse_writes(name: object, cells: Sequence[Any]) -> None:
    """Writes to what a function was given cannot be seen outside when it runs on its own: refuse them."""
    if any(isinstance(c, Array) and c._version for c in cells):
        raise MutationError(
            f"{name}: the function writes to an array that it was given or captures; under this transformation the "
            "write would be lost. Write to a copy and return it."
        )


class Scope(Handler):
    """Passes everything on.  What gets out of a program past its results belongs to it, and so is refused later."""

    __slots__ = ()

    def unary(self, op: Unary, x: Array) -> Array:
        value = x._value
        return Array(self, op(value) if type(value) is Array else op.implementation(value))

    def binary(self, op: Binary, a: Any, b: Any) -> Array:
        if type(a) is Array:
            a = a._value if a._handler is self or a._handler is HOST else a.snapshot()
        if type(b) is Array:
            b = b._value if b._handler is self or b._handler is HOST else b.snapshot()
        return Array(self, op(a, b) if type(a) is Array or type(b) is Array else op.implementation(a, b))

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        return self.give(evaluate(op, [self.take(x) for x in operands], params))

    def update(self, op: Write, target: Array, operands: Sequence[Any], params: dict[str, Any]) -> Array:
        values = [self.take(x) for x in operands]
        whole = target._handler is self or target._handler is HOST
        box = [target._value if whole else target.snapshot()]
        target._value = None
        try:
            return Array(self, update(op, box, values, params))
        except BaseException:
            target._value = box[0] if whole else box[0]._value
            raise

    def give(self, result: Any) -> Any:
        """A cell over the result, or over each of the several results, of an operation."""
        return tuple(Array(self, v) for v in result) if type(result) is tuple else Array(self, result)

    def cells(self, values: Sequence[Any]) -> list[Any]:
        """Cells over arrays and numbers; integers of Python's stay what they are, to count and index with."""
        return [Array(self, v) if isinstance(v, _FOLLOWED) else v for v in values]

    def take(self, x: Any) -> Any:
        """A value one level out."""
        if type(x) is not Array:
            return x
        return x._value if x._handler is self or x._handler is HOST else x.snapshot()


def is_followed(value: Any) -> bool:
    """Whether a handler does anything with a value; a scope only passes on, and constants have none."""
    while isinstance(value, Array):
        if type(value) is View or not (value._handler is HOST or type(value._handler) is Scope):
            return True
        value = value._value
    return False


class Program:
    """A user's function as a program.

    ``body(contents, cells)`` runs it on cells over the first values; `contents` is what captures, with cells over the
    other values in place of the captured stand-ins.
    """

    __slots__ = ("body", "captured", "name", "structure")

    def __init__(self, name: object, captured: Captured, body: Callable[[Any, list[Any]], Any]) -> None:
        self.name = name
        self.captured = captured
        self.body = body
        self.structure: Any = None
        """That of the latest result."""

    @property
    def cells(self) -> list[Array]:
        """The captured stand-ins."""
        return self.captured.cells

    def take_apart(self, result: Any) -> list[Any]:
        """The leaves of a result."""
        leaves, self.structure = trees.flatten(result)
        return leaves

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        scope = Scope(self.name)
        given = scope.cells(values)
        contents, captured = self.captured.contents, self.captured.cells
        copies = None
        if captured:
            given, captured = given[: -len(captured)], given[-len(captured) :]
            copies = self.captured.over(captured)
            contents = copies.contents
        try:
            result = self.body(contents, given)
            found = [bare(scope.take(bare(v))) for v in self.take_apart(result)]
        finally:
            scope.end()
        if copies is None:
            return found
        refuse_writes(self.name, captured)
        if copies.are_changed():
            raise MutationError(
                f"{self.name}: the function changes a list, a dictionary or an object that it captures and that holds "
                "values followed by a transformation; the change would be lost. Return the new value instead."
            )
        return found


# ------------------------------------------------------------------------------------------------------------ batching


class LaneAxis(NamedTuple):
    """What is to be known of a batch to make another like it."""

    size: int
    name: str | None
    origin: object


def lane_axis(handler: Batch) -> LaneAxis:
    """The axis of a batch under way."""
    name = next((name for name, other in named_axes.get() if other is handler), None)
    return LaneAxis(handler.size, name, handler.origin)


class Lanes:
    """A program for all lanes at once.

    Values that are flagged have a lane axis in front, and so have those results that differ between lanes.
    """

    __slots__ = ("axis", "differs", "flags", "program")

    def __init__(self, program: Runnable, flags: Sequence[bool], axis: LaneAxis) -> None:
        self.program = program
        self.flags = flags
        self.axis = axis
        self.differs: list[bool] = []
        """Which of the latest results have a lane axis."""

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        handler = Batch(self.axis.size, self.axis.origin)
        token = named_axes.set((*named_axes.get(), (self.axis.name, handler)))
        try:
            found = self.program([Array(handler, v) if f else v for v, f in zip(values, self.flags, strict=True)])
        finally:
            named_axes.reset(token)
            handler.end()
        self.differs = [isinstance(v, Array) and v._handler is handler for v in found]
        return [bare(v._value) if d else v for v, d in zip(found, self.differs, strict=True)]

    def broadcast(self, found: Sequence[Any]) -> list[Any]:
        """Give a lane axis to those of the first results that have none."""
        return [
            v if differs else bare(np.broadcast_to(v, (self.axis.size, *np.shape(v))))
            for v, differs in zip(found, self.differs, strict=False)
        ]


class AllLanes(Lanes):
    """A program for all lanes at once; all results have a lane axis in front."""

    __slots__ = ()

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        return self.broadcast(super().__call__(values))


# ------------------------------------------------------------------------------------------------------- derivatives


class Pushed:
    """A program that carries tangents along.

    Its values are those of the program followed by tangents of the ones at `active`, its results those of the program
    followed by their tangents.
    """

    __slots__ = ("active", "name", "program")

    def __init__(self, name: object, program: Runnable, active: Sequence[int]) -> None:
        self.name = name
        self.program = program
        self.active = active

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        count = len(values) - len(self.active)
        handler = Forward(self.name)
        given = list(values[:count])
        for i, tangent in zip(self.active, values[count:], strict=True):
            given[i] = Array(handler, given[i], tangent)
        try:
            found = self.program(given)
        finally:
            handler.end()
        results, tangents = [], []
        for v in found:
            mine = isinstance(v, Array) and v._handler is handler
            results.append(v._value if mine else v)
            tangents.append(bare(v._mark) if mine else TangentSpace(v).zeros())
        return results + tangents


Pull = Callable[[Sequence[Any]], list[Any]]
"""From the cotangents of results, None for zero, to those of values."""


def recorded(handler: Reverse, program: Runnable, values: Sequence[Any], active: Sequence[int]) -> list[Any]:
    """Run a program under a handler of its own that follows the values at `active`: the results."""
    given = list(values)
    for i in active:
        given[i] = handler.leaf(given[i])
    try:
        return program(given)
    finally:
        handler.end()


def followed(marks: Sequence[int | None]) -> list[int]:
    """The marks of those operands that a handler follows."""
    return [mark for mark in marks if mark is not None]


def record(handler: Reverse, program: Runnable, values: Sequence[Any], active: Sequence[int]) -> tuple[list[Any], Pull]:
    """Run a program under a handler of its own: the results, and the way back to the values at `active`."""
    found = recorded(handler, program, values, active)
    mine = [isinstance(v, Array) and v._handler is handler for v in found]
    seats = [v._mark if m else None for v, m in zip(found, mine, strict=True)]
    spaces = [TangentSpace(values[i]) for i in active]

    def pull(cotangents: Sequence[Any]) -> list[Any]:
        seeds = [(s, ct) for s, ct in zip(seats, cotangents, strict=True) if s is not None and ct is not None]
        pulled = handler.pull_back(seeds, len(active))
        return [space.zeros() if ct is None else bare(ct) for ct, space in zip(pulled, spaces, strict=True)]

    return [bare(v._value) if m else v for v, m in zip(found, mine, strict=True)], pull


class _NoTape(list[Any]):
    """A tape that keeps nothing."""

    def __iadd__(self, entry: Any) -> Self:  # type: ignore[misc]
        return self


def rehearse(
    recorder: Callable[[], Reverse], program: Runnable, values: Sequence[Any], active: Sequence[int] | None = None
) -> list[Any]:
    """Run a program that is going to be recorded later: the results it then has, and nothing kept.

    Derivatives further out follow what a function with rules does under reverse mode, which is not what it does alone.
    Followed are the values at `active`, or all that have a derivative.
    """
    if not any(map(_is_differentiated, values)):
        return program(values)
    handler = recorder()
    handler.tape = _NoTape()
    if active is None:
        active = [i for i, v in enumerate(values) if is_differentiable(v)]
    return record(handler, program, values, active)[0]


def _is_differentiated(value: Any) -> bool:
    """Whether a value may be followed by a derivative: neither scopes nor batches take any."""
    while isinstance(value, Array):
        if not (value._handler is HOST or isinstance(value._handler, (Scope, Batch))):
            return True
        value = value._value
    return False


# ------------------------------------------------------------------------------------------------ results of operations


def _outside(handler: Handler, value: Any) -> Any:
    """A result that came from one level out, as promised by the function that made it."""
    value = bare(value)
    if isinstance(value, Array) and value._handler.level >= handler.level:
        raise UnsupportedError(
            f"{user_line()}: a function that runs on its own (with rules, or as a checkpoint) uses a value followed by "
            f"{value._handler.origin} that it reaches neither through its arguments nor through its closure, but for "
            "instance through a global variable. Pass the value as an argument."
        )
    return value


def push_results(handler: Forward, values: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The results of an operation under forward mode."""
    outside = [_outside(handler, v) for v in values]
    return tuple(
        Array(handler, v, t) if t is not None and is_differentiable(v) else constant(v)
        for v, t in zip(outside, tangents, strict=True)
    )


def record_results(
    handler: Reverse,
    values: Sequence[Any],
    parents: Sequence[int],
    specs: Sequence[Spec],
    pull: Pull | Into,
    also: Sequence[Any] | None = None,
) -> tuple[Any, ...]:
    """Put an operation of several results on the tape: `pull` gives the parents' cotangents from all the results'.

    A result is also a function of whatever its cell in `also` depends on.
    """
    handler.noisy = True
    pulls: Any = pull if isinstance(pull, Into) else lambda parts, kept, specs: list(pull(parts))
    hub = handler.record(pulls, None, tuple(parents), tuple(specs))
    results = []
    for i, value in enumerate(_outside(handler, v) for v in values):
        if not is_differentiable(value):
            results.append(constant(value))
            continue
        other = also[i] if also is not None else None
        if isinstance(other, Array) and other._handler is handler:
            mark = handler.record(_deliver_twice, (len(values), i), (hub, other._mark), None)
        else:
            mark = handler.record(deliver, (len(values), i), hub, None)
        results.append(Array(handler, value, mark))
    return tuple(results)


def _deliver_twice(ct: Any, kept: tuple[int, int], specs: None) -> list[Any]:
    """The share of the hub, and of what a result depends on beside it."""
    return [deliver(ct, kept, specs), ct]


def batch_results(handler: Batch, values: Sequence[Any], differs: Sequence[bool] | None = None) -> tuple[Any, ...]:
    """The results of an operation under batching, of which all have a lane axis or only those that differ."""
    outside = [_outside(handler, v) for v in values]
    return tuple(Array(handler, v) if differs is None or differs[i] else constant(v) for i, v in enumerate(outside))
