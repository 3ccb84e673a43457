"""Batching: each followed value has one more axis, in front.

A cell over a batched value shows the shape of one lane; everything else is a constant, the same for all lanes.
Elementwise operations only need their operands' lane axes aligned; other operations have a `batch` rule, and one
without a rule is performed lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, ndim_of, peek, shape_of
from ..core.errors import BatchSizeError, TracedConditionError, for_users, user_line
from ..core.foreign import as_array
from ..core.handler import HOST, Handler, evaluate, update
from ..core.operation import Binary, Op, Spec, Unary, Write
from ..graph.dims import is_open
from ..lift.lanes import Parted
from .calls import Call, Decorated, argument_name, as_leaf, take_out

__all__ = ["Batch", "named_axes", "vmap"]


class Batch(Handler):
    """Performs operations on all lanes at once."""

    __slots__ = ("size",)

    per_lane = True
    size: int

    def __init__(self, size: int, origin: object = "") -> None:
        super().__init__(origin)
        self.size = size

    def shape(self, value: Any) -> tuple[int, ...]:
        shape: tuple[int, ...] = value.shape
        return shape[1:]

    def peek(self, value: Any) -> Any:
        batched = peek(value)
        if not len(batched):
            return np.zeros(batched.shape[1:], batched.dtype)
        lane = batched[0]
        # The layout decides what reshapes to a view: it is that of an array of its own, not of one strided by lanes.
        return lane if not lane.shape or lane.flags.forc else lane.copy(order="K")

    def concrete(self, value: Any) -> Any:
        raise TracedConditionError(
            f"{user_line()}: Python needs one value here (in a condition, an index or a conversion), but under "
            f"{self.origin} it differs between the lanes. Select with np.where(condition, a, b)."
        )

    def unary(self, op: Unary, x: Array) -> Array:
        value, op = x._value, op.lanes
        return Array(self, op(value) if type(value) is Array else op.implementation(value))

    def binary(self, op: Binary, a: Any, b: Any) -> Array:
        left = right = False
        if type(a) is Array:
            left = a._handler is self
            a = a._value if left or a._handler is HOST else a.snapshot()
        if type(b) is Array:
            right = b._handler is self
            b = b._value if right or b._handler is HOST else b.snapshot()
        kind = type(b if left else a)
        if kind is not float and kind is not int:
            # NumPy's broadcasting lines lanes up that have as many axes behind them.
            surplus = ndim_of(a) - left - ndim_of(b) + right
            if surplus < 0 and left:
                a = a.reshape(a.shape[0], *(1,) * -surplus, *a.shape[1:])
            elif surplus > 0 and right:
                b = b.reshape(b.shape[0], *(1,) * surplus, *b.shape[1:])
        op = op.lanes
        return Array(self, op(a, b) if type(a) is Array or type(b) is Array else op.implementation(a, b))

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        if op.structured:
            return op.answer_batch(self, operands, params)  # type: ignore[attr-defined]
        values, batched = self.open(operands)
        result = NotImplemented if op.batch is None else op.batch(op, self.size, values, batched, params)
        if result is NotImplemented:
            result = self.lane_by_lane(op, values, batched, params)
        if type(result) is tuple:
            return tuple(Array(self, _lane_by_lane_in_memory(v)) for v in result)
        return Array(self, _lane_by_lane_in_memory(result))

    def update(self, op: Write, target: Array, operands: Sequence[Any], params: dict[str, Any]) -> Array:
        values, batched = self.open(operands)
        if target._handler is self:
            box = [target._value]
            target._value = None
        else:
            # The same for all lanes until now: each lane gets a copy of its own.
            box = [self.repeated(target._value if target._handler is HOST else target.snapshot())]
        assert op.batch is not None
        lane = Spec(box[0].shape[1:], box[0].dtype)
        try:
            operands, params = op.batch(op, self.size, lane, values, batched, params)
            operands = [x.read() if isinstance(x, Array) else x for x in operands]
            return Array(self, update(op, box, operands, params))
        except BaseException:
            if target._handler is self:
                target._value = box.pop()
            raise

    def repeated(self, value: Any) -> Any:
        """A copy of an array for each lane; of one that is not in C's order, what shows it in each."""
        if type(value) is np.ndarray and value.flags.c_contiguous:
            copies = np.empty((self.size, *value.shape), value.dtype)
            copies[...] = value
            return copies
        shape = shape_of(value)
        lanes = np.broadcast_to(value, (self.size, *shape))
        return lanes.copy() if is_open(shape) or np.asarray(peek(value)).flags.c_contiguous else lanes

    def open(self, operands: Sequence[Any]) -> tuple[list[Any], list[bool]]:
        """The operands one level out, and which of them are batched."""
        values: list[Any] = []
        batched: list[bool] = []
        for x in operands:
            mine = False
            if type(x) is Array:
                mine = x._handler is self
                x = x._value if mine or x._handler is HOST else x.snapshot()
            values.append(x)
            batched.append(mine)
        return values, batched

    def lane_by_lane(self, op: Op, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
        """Perform an operation without a batching rule on one lane after the other."""
        if self.size == 0:
            lanes = [evaluate(op, [_first(v) if b else v for v, b in zip(values, batched, strict=True)], params)]
        else:
            lanes = [
                evaluate(op, [v[i] if b else v for v, b in zip(values, batched, strict=True)], params)
                for i in range(self.size)
            ]
        if type(lanes[0]) is tuple:
            return tuple(np.stack(parts)[: self.size] for parts in zip(*lanes, strict=True))
        return np.stack(lanes)[: self.size]


def _lane_by_lane_in_memory(value: Any) -> Any:
    """The value with its lanes one after the other.

    Further results inherit the order of axes in memory, and it decides what reshapes to a view: were lanes interleaved,
    a lane's own axes could end up in another order than they have outside a batch.
    """
    if type(value) is not np.ndarray or value.ndim < 2 or value.flags.c_contiguous:
        return value
    steps = [abs(n) for n in value.strides]
    if not 0 < steps[0] < max(steps):
        return value
    order = [0, *sorted(range(1, value.ndim), key=lambda axis: -steps[axis])]
    return np.ascontiguousarray(value.transpose(order)).transpose(np.argsort(order))


def _first(value: Any) -> Any:
    """Stands for a lane where there is none, for the sake of its shape."""
    return np.ones(value.shape[1:], value.dtype)


# ------------------------------------------------------------------------------------------------------ the interface


named_axes: ContextVar[tuple[tuple[str | None, Batch], ...]] = ContextVar("named_axes", default=())
"""The axes being mapped over by the code that runs now, outermost first."""


class Vmap(Decorated):
    """`vmap`."""

    transformation = "vmap"

    def __init__(
        self, function: Callable[..., Any], in_axes: Any, out_axes: Any, axis_size: int | None, axis_name: str | None
    ) -> None:
        super().__init__(function)
        self.in_axes = in_axes
        self.out_axes = out_axes
        self.axis_size = axis_size
        self.axis_name = axis_name

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        origin = self
        in_axes = self.in_axes
        if isinstance(in_axes, (tuple, list)):
            if len(in_axes) != len(arguments):
                raise BatchSizeError(f"{origin}: in_axes has {len(in_axes)} entries for {len(arguments)} arguments")
        else:
            in_axes = (in_axes,) * len(arguments)
        plans = [_Mapped(self, i, a, x) for i, (a, x) in enumerate(zip(arguments, in_axes, strict=True))]
        plans += [_Mapped(self, n, a, 0) for n, a in keywords.items()]
        size = _common_size(origin, plans, self.axis_size)
        handler = Batch(size, origin)
        call = Call(self, handler, rewrites=True)
        given = [plan.cells(call, handler) for plan in plans]
        count = len(arguments)
        token = named_axes.set((*named_axes.get(), (self.axis_name, handler)))
        try:
            result = call.run(given[:count], dict(zip(keywords, given[count:], strict=True)))
        except Parted as parted:
            raise TracedConditionError(str(parted)) from parted.__cause__
        finally:
            named_axes.reset(token)
        outputs, structure = trees.flatten(result)
        axes = _axes_of_leaves(origin, lambda: "out_axes", self.out_axes, result)
        values = [
            _unbatched(origin, handler, out, axis, partial(trees.leaf_path, result, i))
            for i, (out, axis) in enumerate(zip(outputs, axes, strict=True))
        ]
        handler.end()
        return trees.unflatten(structure, values)


class _Mapped:
    """One argument: its leaves, and the axis each is mapped over (None: not mapped)."""

    __slots__ = ("axes", "key", "leaves", "origin", "sizes", "structure", "value")

    def __init__(self, origin: Vmap, key: int | str, value: Any, in_axes: Any) -> None:
        self.origin = origin
        self.key = key
        self.value = value
        self.leaves: list[Any] = []
        self.structure: Any = None
        self.axes: list[int | None] = []
        self.sizes: list[tuple[int, int, int]] = []
        """Of each leaf that is mapped its number, the axis as it was given, and the length there."""
        if in_axes is None:
            return
        self.leaves, self.structure = trees.flatten(value)
        self.axes = _axes_of_leaves(origin, lambda: f"in_axes of {self.name()}", in_axes, value)
        for i, (leaf, axis) in enumerate(zip(self.leaves, self.axes, strict=True)):
            if axis is None:
                continue
            leaf = self.leaves[i] = as_array(leaf)
            shape = shape_of(leaf)
            if not shape:
                raise BatchSizeError(
                    f"{origin}: {self.name(i)} is a number and has no axis to map over; use in_axes=None"
                )
            if not -len(shape) <= axis < len(shape):
                raise BatchSizeError(f"{origin}: {self.name(i)} has shape {shape} and no axis {axis}")
            self.axes[i] = axis % len(shape)
            self.sizes.append((i, axis, shape[axis]))

    def name(self, leaf: int | None = None) -> str:
        """What messages call the argument, or one of its leaves; finding out takes a while."""
        path = "" if leaf is None else trees.leaf_path(self.value, leaf)
        return argument_name(self.origin.function, self.key) + path

    def name_of_axis(self, leaf: int, axis: int) -> str:
        """What messages call an axis that is mapped."""
        return f"axis {axis} of {self.name(leaf)} (shape {shape_of(self.leaves[leaf])})"

    def cells(self, call: Call, handler: Batch) -> Any:
        """The argument as the function sees it."""
        if not any(axis is not None for axis in self.axes):
            return call.constant(self.value)
        cells = []
        for leaf, axis in zip(self.leaves, self.axes, strict=True):
            if axis is None:
                cells.append(call.constant(leaf))
                continue
            value = as_leaf(leaf if isinstance(leaf, Array) else np.asarray(leaf))
            # A copy, so that each lane has the layout of an array of its own (it decides what reshapes to a view).
            cell = Array(handler, np.moveaxis(value, axis, 0).copy() if axis else value)
            cells.append(call.follow(leaf, cell, axis))
        return call.tree(self.structure, cells)


def _common_size(origin: object, plans: Sequence[_Mapped], axis_size: int | None) -> int:
    sizes = [(plan, *found) for plan in plans for found in plan.sizes]
    if axis_size is None:
        if not sizes:
            raise BatchSizeError(
                f"{origin}: no argument is mapped over; give one an axis in in_axes, or pass axis_size"
            )
        common = sizes[0][-1]
    else:
        common = axis_size
    for plan, leaf, axis, size in sizes:
        if size != common:
            first = "axis_size" if axis_size is not None else sizes[0][0].name_of_axis(*sizes[0][1:3])
            raise BatchSizeError(
                f"{origin}: {first} has {common} lanes, but {plan.name_of_axis(leaf, axis)} has {size}"
            )
    return common


def _axes_of_leaves(origin: object, name: Callable[[], str], axes: Any, tree: Any) -> list[int | None]:
    """An axis for each leaf of a tree, from a number for all or a tree that is a prefix of it."""
    if axes is None or isinstance(axes, int):
        return [axes] * len(trees.flatten(tree)[0])
    try:
        return trees.broadcast_prefix(axes, tree)
    except (ValueError, TypeError) as error:
        raise BatchSizeError(f"{origin}: {name()}={axes!r} does not fit the structure of the value: {error}") from None


def _unbatched(origin: object, handler: Batch, out: Any, axis: int | None, path: Callable[[], str]) -> Any:
    """A result with its batch axis where `out_axes` wants it."""
    cell = out.read() if isinstance(out, Array) else out
    mine = isinstance(cell, Array) and cell._handler is handler
    value = take_out(handler, cell)
    if axis is None:
        if mine:
            raise BatchSizeError(f"{origin}: out_axes=None, but the result{path()} differs between the lanes")
        return value
    if not isinstance(value, (Array, np.ndarray, np.generic, int, float, complex)):
        raise BatchSizeError(f"{origin}: the result{path()} is {value!r}, not an array or number")
    if not mine:
        value = np.broadcast_to(value, (handler.size, *np.shape(value)))
        value = value if isinstance(value, Array) else value.copy()
    ndim = ndim_of(value)
    if not -ndim <= axis < ndim:
        raise BatchSizeError(f"{origin}: out_axes={axis}, but the result{path()} has {ndim} axes")
    return np.moveaxis(value, 0, axis) if axis else value


def vmap(
    f: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_size: int | None = None,
    axis_name: str | None = None,
) -> Callable[..., Any]:
    """Map a function over an axis of its arguments, all lanes at once.

    Args:
        f: a function of arrays, written for one lane.
        in_axes: the axis of each argument to map over, None for an argument that is the same for all lanes: one
            number for all, or one entry an argument, each a number, None or a tree that is a prefix of the argument.
            Keyword arguments are mapped over their first axis.
        out_axes: where the batch axis goes in the results, in the same form; None for a result that does not differ.
        axis_size: the number of lanes, needed when no argument is mapped.
        axis_name: a name by which code inside can speak of all lanes (`psum`, `all_gather`, `axis_index`).

    Returns:
        A function of the arguments with one more axis each.

    Raises:
        BatchSizeError: the axes do not agree, or are not there.
        TracedConditionError: Python needs a single value that differs between lanes.
        MutationError: an argument that is the same for all lanes was written with values that differ.

    >>> import numpy as np, bindrune as br
    >>> br.vmap(lambda row, b: row @ row + b, in_axes=(0, None))(np.array([[1.0, 2.0], [3.0, 4.0]]), 1.0)
    array([ 6., 26.])
    """
    return Vmap(f, in_axes, out_axes, axis_size, axis_name)
