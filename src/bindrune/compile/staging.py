"""Staging: the handler that writes a program down instead of running it.

A cell's value is a `Value` of the graph being built; each operation becomes a node.  What Python sees of such a cell is
its type, and for its geometry a sample.  Where Python needs the value itself (a condition without source, a size, a
conversion), the top level computes it from the program so far and the arguments at hand, and the graph gets a *guard*:
a call for which the value is another takes another path.  Within a region (the body of a staged loop) there is no such
value, and `Unstageable` says so to whoever staged it.

`trace` stages a closed function of values; `jit` stages users' functions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import protocol
from ..core.array import Array, concrete, is_scalar
from ..core.errors import user_line
from ..core.handler import HOST, Handler, constant
from ..core.operation import Binary, Elementwise, Op, Structured, Unary, Write, registry
from ..core.stack import STACK
from ..graph.dims import (
    FIXED,
    UNKNOWN,
    Dim,
    Length,
    Strided,
    Unstageable,
    difference,
    dims_in,
    hooks,
    is_open,
    linear,
    strided,
    values_in,
)
from ..graph.graph import ARRAY, NUMBER, PYTHON, STACK_TYPE, Graph, Literal, Node, Type, Value, rename, type_of
from ..graph.inference import OF_VALUES, infer, sample
from ..graph.interpreter import interpret
from ..ops.indexing import selected_shape, spell_out
from ..ops.scalars import as_python, of_python
from ..ops.shaping import broadcast_to
from ..transforms.programs import Runnable, bare
from .effects import assume, check, expect, finite, guard
from .ruled import Rule, ruled
from .strides import chosen

__all__ = ["Staging", "trace", "type_of_cell"]


_ONLY_THERE = "Python needs a value that only the running program has"
_LINEAR = frozenset({"python.add", "python.subtract", "python.multiply", "python.negative"})


class Staging(Handler):
    """Builds a graph.

    Attributes:
        nodes: those performed so far.
        inputs: the values the graph is a function of: arguments first, then what is captured on the way.
        outside: for each captured input the cell or array it stands for.
        known: for the top level, the values of this call as far as they were computed.
    """

    __slots__ = (
        "_assumed",
        "_held",
        "_literals",
        "_performed",
        "_strides",
        "_sums",
        "inputs",
        "known",
        "nodes",
        "open_lengths",
        "outside",
        "takes_numbers",
    )

    symbolic = True

    def __init__(self, origin: object = "br.jit", known: dict[Value, Any] | None = None) -> None:
        super().__init__(origin)
        self.nodes: list[Node] = []
        self.inputs: list[Value] = []
        self.outside: dict[Value, Any] = {}
        self.known = known
        self.takes_numbers = True
        """Whether derivatives are taken to be numbers, so that zeros need no care (see `transforms.reverse`)."""
        self.open_lengths = True
        """Whether bounds of slices may be lengths that only the running program knows."""
        self._performed = 0
        self._held: dict[int, tuple[Any, Value]] = {}
        self._literals: dict[int, tuple[Any, Literal]] = {}
        self._sums: dict[Value, Node] = {}
        self._strides: dict[Any, Strided | slice] = {}
        self._assumed: set[Any] = set()

    # ------------------------------------------------------------------------------------------------- values

    def input(self, type: Type, content: Any = None) -> Array:
        """A cell over a new input; at the top level with its content in this call."""
        value = Value(self.local(type))
        value.stage = self
        self.inputs.append(value)
        if self.known is not None:
            self.known[value] = content
        return Array(self, value)

    def inputs_like(self, types: Sequence[Type | Value]) -> list[Array]:
        """Cells over new inputs, some of them like values of another graph, in whose lengths they take their place."""
        values = [Value(t.type if isinstance(t, Value) else t) for t in types]
        known = {old: new for old, new in zip(types, values, strict=True) if isinstance(old, Value)}
        for value in values:
            value.shape = rename(value.shape, known)
            value.stage = self
        self.inputs += values
        return [Array(self, v) for v in values]

    def local(self, content: Any) -> Any:
        """Parameters or a type, with the values of other levels in its lengths captured."""
        others = {v: v for v in values_in(content) if v.stage is not self and v.stage is not None}
        if not others:
            return content
        return rename(content, {v: self.hold(Array(v.stage, v)) for v in others})

    def outward(self, content: Any) -> Any:
        """Parameters or a type with the values outside in place of those captured."""
        return rename(content, {v: self.outside[v]._value for v in values_in(content) if v in self.outside})

    def hold(self, outside: Any, content: Any = None) -> Value:
        """The input that stands for something captured: an array, or a cell of another level."""
        key = id(outside._value) if isinstance(outside, Array) else id(outside)
        held = self._held.get(key)
        if held is None:
            kept = outside.snapshot() if isinstance(outside, Array) else outside
            value = self.input(type_of_cell(outside), content)._value
            self.outside[value] = kept
            held = self._held[key] = (kept._value if isinstance(kept, Array) else kept, value)
        return held[1]

    def bring(self, x: Any) -> Any:
        """A stand-in as a cell of mine; numbers stay what they are."""
        return Array(self, self.take(x)) if isinstance(x, Array) else x

    def take(self, x: Any) -> Value:
        """The value of the graph that an operand stands for."""
        if isinstance(x, Dim):
            x = self.number(x)
        if isinstance(x, Array):
            x = x.read()
            if x._handler is self:
                value: Value = x._value
                return value
            if x._handler is not HOST:
                return self.hold(x)
            x = x._value
            if isinstance(x, Array):
                return self.take(x)
        if not isinstance(x, np.ndarray):
            return Literal(x)
        known = self._literals.get(id(x))
        if known is None:
            known = self._literals[id(x)] = (x, Literal(x))
        return known[1]

    # ------------------------------------------------------------------------------------------- operations

    def emit(self, op: Op, operands: Sequence[Value], params: dict[str, Any], types: Sequence[Type]) -> list[Value]:
        """Write one operation down."""
        if is_open((params, [t.shape for t in types])):
            params, types = self.local(params), [self.local(t) for t in types]
        results = [Value(t) for t in types]
        for value in results:
            value.stage = self
        node = Node(op, operands, params, results, user_line())
        self.nodes.append(node)
        if op.name in _LINEAR:
            self._sums[results[0]] = node
        return results

    def unary(self, op: Unary, x: Array) -> Array:
        value: Value = x._value
        if value.form == PYTHON:
            op = of_python.get(op, op)
        return Array(self, self.emit(op, (value,), {}, infer(op, (value.type,), {}))[0])

    def binary(self, op: Binary, a: Any, b: Any) -> Array:
        values = (self.take(a), self.take(b))
        if values[0].dtype == STACK:
            # Cotangents of a stack that two have taken from.
            (total,) = self.apply(registry["merge"], (a, b), {})
            return total  # type: ignore[no-any-return]
        if values[0].form == values[1].form == PYTHON:
            op = of_python.get(op, op)
        types = infer(op, (values[0].type, values[1].type), {})
        if is_open(types[0].shape):
            self._agree([v.shape for v in values])
        return Array(self, self.emit(op, values, {}, types)[0])

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        values = [self.take(x) for x in operands]
        if op.shape is not None:
            self.bound(values[0].shape, params.get("index", ()))
        if isinstance(op, Structured):
            if not hasattr(op, "staged"):
                op, params = ruled, {"graph": _own_graph(op, values, params), "rule": Rule(op, params)}
            op, params, types = op.staged(values, params)
            return tuple(Array(self, v) for v in self.emit(op, values, params, types))
        types = infer(op, [v.type for v in values], params)
        if isinstance(op, Elementwise) and is_open(types[0].shape):
            self._agree([v.shape for v in values])
        results = self.emit(op, values, params, types)
        if op.name in OF_VALUES:
            self._expect(results)
        return Array(self, results[0]) if len(types) == 1 else tuple(Array(self, v) for v in results)

    def update(self, op: Write, target: Array, operands: Sequence[Any], params: dict[str, Any]) -> Array:
        values = [self.take(target), *(self.take(x) for x in operands)]
        self.bound(values[0].shape, params.get("index", ()))
        if is_open(([v.shape for v in values], params)):
            place = selected_shape(values[0].shape, params["index"], [v.shape for v in values[2:]])
            self._agree([place, values[1].shape])
        else:
            infer_write(op, [v.type for v in values], params)
        return Array(self, self.emit(op, values, params, (values[0].type._replace(form=ARRAY),))[0])

    # ----------------------------------------------------------------------------------------------- lengths

    def length(self, cell: Array) -> Length:
        """An integer of the program as a length: the linear expression that it is."""
        if not self.open_lengths:
            return int(self.concrete(self.take(cell)))
        if cell.dtype != int:
            cell = as_python(cell, int)
        return self._linear(self.take(cell))

    def _linear(self, value: Value) -> Length:
        if isinstance(value, Literal):
            return int(value.content)
        node = self._sums.get(value)
        if node is None:
            return linear({value: 1}, 0)
        terms = [self._linear(v) for v in node.operands]
        name = node.op.name
        if name == "python.negative":
            return -terms[0]
        if name == "python.multiply":
            if not any(isinstance(t, int) for t in terms):
                return linear({value: 1}, 0)
            return terms[0] * terms[1]
        return terms[0] + terms[1] if name == "python.add" else terms[0] - terms[1]

    def number(self, length: Length) -> Any:
        """A length as a number of the program."""
        if not isinstance(length, Dim):
            return length
        found: Any = length.offset
        for value, factor in length.terms.items():
            term = Array(self, value)
            found = found + (term if factor == 1 else term * factor)
        return found

    def stride(self, s: slice, length: Length) -> Strided | slice:
        """What a slice by steps chooses of an axis, computed once."""
        key = (s.start, s.stop, s.step, length)
        if key not in self._strides:
            start, stop, step, n = (self.number(self.local(part)) for part in key)
            if isinstance(step, Array):
                self.emit(check, [self.take(step != 0)], {"error": ValueError("slice step cannot be zero")}, ())
            elif not step:
                raise ValueError("slice step cannot be zero")
            first, count = (self._as_length(x) for x in chosen(start, stop, step, n))
            self._strides[key] = strided(first, count, self.local(s.step))
        return self._strides[key]

    def _as_length(self, x: Any) -> Length:
        return self.length(x) if isinstance(x, Array) else int(x)

    def _assume(self, length: Length) -> None:
        """Check once when the program runs that a length is not negative."""
        assert isinstance(length, Dim)
        key = (frozenset(length.terms.items()), length.offset)
        if key not in self._assumed:
            self._assumed.add(key)
            self.emit(assume, [self.take(self.number(length))], {}, ())

    def _agree(self, shapes: Sequence[Sequence[Length]]) -> None:
        """Check when the program runs that lengths are equal which meet in one axis and are not known to be."""
        for axis in range(1, 1 + max(map(len, shapes))):
            met = [shape[-axis] for shape in shapes if axis <= len(shape)]
            first, *others = [n for n in met if isinstance(n, Dim)] or [1]  # type: ignore[list-item]
            for other in others:
                more = first - other
                if isinstance(more, Dim):
                    self._assume(more)
                    self._assume(-more)
                elif more:
                    raise Unstageable("two lengths differ that meet in one axis", "Give the arrays equal lengths")

    def bound(self, shape: Sequence[Length], index: Sequence[Any]) -> None:
        """Check the bounds of slices when the program runs: lengths are taken to be what lies between them."""
        for e, n in zip(spell_out(tuple(e for e in index if e is not None), len(shape)), shape, strict=True):
            if not isinstance(e, slice) or (e.start is None and e.stop is None) or not is_open((e, n)):
                continue
            bounds = [n + b if isinstance(b, int) and b < 0 else b for b in (e.start, e.stop) if b is not None]
            points = [0, *bounds, n] if e.step in (None, 1) else [0, *bounds[::-1], n - 1]
            for low, high in itertools.pairwise(points):
                found = difference(high, low)
                if found is None:
                    self._assume(high - low)
                elif found < 0:
                    raise Unstageable(
                        "the bounds of a slice are not in order", "Put them in order, or take an empty array"
                    )

    # ------------------------------------------------------------------------------------ what Python sees

    def shape(self, value: Any) -> tuple[int, ...]:
        shape: tuple[int, ...] = value.shape
        return shape

    def peek(self, value: Any) -> Any:
        return sample(value.type)

    @property
    def tells(self) -> bool:  # type: ignore[override]
        return self.known is not None

    def concrete(self, value: Any) -> Any:
        if self.known is None:
            raise Unstageable(
                _ONLY_THERE, "Index an array with it instead, select with np.where, or compute it before the statement"
            )
        found = concrete(self._compute(value))
        self.nodes.append(Node(guard, (value,), {"expected": found}, (), user_line()))
        return found

    def decide(self, cell: Array, otherwise: bool) -> bool:
        if self.known is None:
            return otherwise
        if self.takes_numbers:
            self.emit(finite, [self.take(cell)], {}, ())
            return False
        return bool(cell)

    def _expect(self, results: Sequence[Value]) -> None:
        """Take types from values, and go another way in calls where they are others."""
        if self.known is None:
            raise Unstageable(
                "the type of a result depends on values that only the running program has",
                "Compute it before the statement",
            )
        for value in results:
            value.shape, value.dtype, value.form = type_of(self._compute(value))
            self.nodes.append(Node(expect, (value,), {"type": value.type}, (), user_line()))

    def _compute(self, value: Value) -> Any:
        """A value in this call: performs what has not been performed yet."""
        if isinstance(value, Literal):
            return value.content
        assert self.known is not None
        while self._performed < len(self.nodes):
            node = self.nodes[self._performed]
            self._performed += 1
            if node.effect and not node.results:
                continue
            needed = [v for v in dict.fromkeys(node.uses) if not isinstance(v, Literal)]
            step = Graph(needed, (node,), node.results)
            self.known.update(zip(node.results, interpret(step, [self.known[v] for v in needed]), strict=True))
        return self.known[value]

    # ----------------------------------------------------------------------------------------------- the graph

    def finish(self, outputs: Sequence[Value], name: str = "main") -> Graph:
        """The graph; captured inputs that nothing uses are left out."""
        for value in (*self.inputs, *(v for node in self.nodes for v in node.results)):
            value.stage = None
        used = set(outputs) | set(values_in([v.shape for v in outputs]))
        for node in self.nodes:
            used.update(node.uses)
        used.update(values_in([v.shape for v in self.inputs if v in used or v not in self.outside]))
        kept = [v for v in self.inputs if v in used or v not in self.outside]
        self.outside = {v: c for v, c in self.outside.items() if v in used}
        kept.sort(key=lambda v: v in self.outside)  # lengths in the types of arguments are captured before them
        return Graph(kept, self.nodes, outputs, name)


def _own_graph(op: Structured, values: Sequence[Value], params: dict[str, Any]) -> Graph:
    """The graph of an operation on functions, as it is without a handler."""
    return trace(lambda cells: list(op.run(*cells, **params)), values, op.name)


def infer_write(op: Write, types: Sequence[Type], params: dict[str, Any]) -> None:
    """Perform a write on samples."""
    op.implementation(*[sample(t) for t in types], **params)


def type_of_cell(x: Any) -> Type:
    """The type of an array, a number or a stand-in."""
    if not isinstance(x, Array):
        return type_of(x)
    x = x.read()
    while isinstance(x, Array) and not isinstance(x._value, Value):
        if x._handler.per_lane:
            return STACK_TYPE if x.dtype == STACK else Type(x.shape, x.dtype, NUMBER if is_scalar(x) else ARRAY)
        x = x._value.read() if isinstance(x._value, Array) else x._value
    found: Type = x._value.type if isinstance(x, Array) else type_of(x)
    return found


def trace(program: Runnable, types: Sequence[Type | Value], name: str = "main") -> Graph:
    """The graph of a closed function of values.

    Args:
        program: from cells to results (see `transforms.programs`).
        types: those of its arguments, or values of another graph whose types they have.
        name: the graph's.
    """
    stage = Staging(name)
    try:
        found = program(stage.inputs_like(types))
        outputs = [stage.take(constant(v) if isinstance(v, Array) else bare(v)) for v in found]
    finally:
        stage.end()
    return stage.finish(outputs, name)


def _number(dim: Dim) -> Any:
    stage = next(iter(dim.terms)).stage
    if stage is None:
        raise Unstageable(UNKNOWN, FIXED)
    return stage.number(dim)


def _decide(dim: Dim, other: Any) -> bool:
    stage = next(iter(dim.terms)).stage
    if stage is None or stage.known is None:
        return False
    return bool(stage.number(dim) == (stage.number(other) if isinstance(other, Dim) else other))


hooks.number = _number  # type: ignore[method-assign]
hooks.decide = _decide  # type: ignore[method-assign]


def _divide(dim: Dim, divisor: int) -> Length:
    stage = _stage_of((dim,))
    number = stage.number(dim)
    rest = stage.length(number % divisor)
    if isinstance(rest, Dim):
        stage._assume(-rest)
    elif rest:
        raise Unstageable(f"a length that is divided by {divisor} leaves a rest", "Give the array another length")
    return stage.length(number // divisor)


hooks.divide = _divide  # type: ignore[method-assign]


def _full(shape: Sequence[Length], value: Any, new: bool = False) -> Array:
    stage = _stage_of(shape)
    for dim in dims_in(tuple(shape) if new else ()):
        stage._assume(dim)
    made = stage.emit(broadcast_to, [Literal(value)], {"shape": shape}, [Type(tuple(shape), value.dtype, ARRAY)])
    return Array(stage, made[0])


def _adopt(cell: Array, content: Any) -> None:
    stage = _stage_of(content)
    cell._value, cell._handler = stage.take(cell), stage


def _bound(shape: Sequence[Length], index: Sequence[Any]) -> None:
    _stage_of((tuple(shape), tuple(index))).bound(shape, index)


def _stage_of(content: Any) -> Staging:
    """The innermost of those whose values are in some lengths."""
    stages = [v.stage for v in values_in(content)]
    if None in stages:
        raise Unstageable(UNKNOWN, FIXED)
    found: Staging = max(stages, key=lambda stage: stage.level)
    return found


def _stride(s: slice, length: Length) -> Strided | slice:
    return _stage_of((s, length)).stride(s, length)


hooks.stride = _stride  # type: ignore[method-assign]
hooks.full = _full  # type: ignore[method-assign]
protocol.hooks.zeros = lambda shape, dtype: _full(shape, dtype.type(0))
hooks.adopt = _adopt  # type: ignore[method-assign]
hooks.bound = _bound  # type: ignore[method-assign]
