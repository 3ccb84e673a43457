"""What a graph costs to run, counted without running it: arithmetic, memory traffic, and memory.

Each operation is counted on its own, as if it read its operands from memory and wrote its results there: numbers are
in registers, views cost nothing, a read at an index reads what it selects, and a write touches what it writes (and
copies the whole array only where somebody else still needs it as it was).  `flops` says what counts as how much
arithmetic.

A loop costs its body times its steps; where their number is not known, one step, and a note says so.  Of a branch the
dearer side counts.  A length made of a loop's step counts with its mean over the steps: for triangular loops that is
exact where it stands alone.  Any other length that is not known counts as 1, with a note.

The peak of memory is that of all arrays alive at once, arguments and constants included, when each is let go after its
last use.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from ..core.operation import Elementwise, Op, Write, registry
from ..core.stack import STACK
from .dims import Dim, Unstageable
from .flops import Shape, flops_of
from .graph import ARRAY, Graph, Literal, Node, Value
from .inference import infer

__all__ = ["Cost", "Counts", "cost_of"]


@dataclass(frozen=True)
class Counts:
    """Arithmetic and memory traffic.

    Attributes:
        flops: floating-point operations.
        transcendental: exponentials, logarithms, sines and their like, which are not among the former.
        bytes_read: bytes of arrays read.
        bytes_written: bytes of arrays written.
        bytes_kept: bytes put on tapes, which a way back takes off again.
    """

    flops: float = 0
    transcendental: float = 0
    bytes_read: float = 0
    bytes_written: float = 0
    bytes_kept: float = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(self.row(), other.row(), strict=True)))

    def __mul__(self, times: float) -> Counts:
        return Counts(*(a * times for a in self.row()))

    def row(self) -> list[float]:
        """The counts in order."""
        return [getattr(self, f.name) for f in fields(Counts)]


@dataclass(frozen=True)
class Cost(Counts):
    """What a graph costs: `Counts` in all and for each line of the user's, and the memory it needs.

    Attributes:
        peak_memory: the most bytes that are alive at one time.
        lines: the counts by line, as ``file:line, in function``.
        notes: what had to be assumed.
    """

    peak_memory: float = 0
    lines: Mapping[str, Counts] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = ["", *(f.name.replace("_", " ") for f in fields(Counts))]
        rows = [[line or "(no line)", *map(_figure, c.row())] for line, c in self.lines.items()]
        rows.append(["in all", *map(_figure, self.row())])
        widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
        table = [
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in [names, *rows]
        ]
        return "\n".join([*table, f"peak memory: {_figure(self.peak_memory)} bytes", *self.notes])


def _figure(count: float) -> str:
    return f"{round(count):,}"


def cost_of(graph: Graph, known: Mapping[Value, int] | None = None) -> Cost:
    """What a graph costs to run.

    Args:
        graph: the graph.
        known: the numbers of inputs, and of other values, that lengths and trip counts are made of.
    """
    meter = _Meter(known or {})
    lines, memory = meter.measure(graph, owned=())
    counts = {f.name: sum(getattr(c, f.name) for c in lines.values()) for f in fields(Counts)}
    return Cost(**counts, peak_memory=memory.peak + meter.constants, lines=lines, notes=tuple(meter.notes))


_VIEWS = frozenset("broadcast_to checkpoint_name diagonal imag real reshape stop_gradient transpose windows".split())
"""Operations whose result shows the memory of their operand."""

_INTEGER = {"add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b}
"""Arithmetic that lengths and trip counts go through."""


def _is_view(node: Node) -> bool:
    if not node.results or node.results[0].form != ARRAY:
        return False
    if node.op.name == "getitem":
        return not any(v.form == ARRAY for v in node.operands[1:])
    return node.op.name in _VIEWS


class _Meter:
    """Measures graphs; what is expected of integers is shared by all of them."""

    def __init__(self, known: Mapping[Value, int]) -> None:
        self.known: dict[Value, float] = dict(known)
        self.notes: dict[str, None] = {}
        self.constants: float = 0
        self._counted: set[int] = set()
        self._line = ""

    # ----------------------------------------------------------------------------------------------------- sizes

    def number(self, value: Value) -> float | None:
        """What is expected of an integer, if anything is."""
        if isinstance(value, Literal):
            return float(value.content) if not value.shape and value.dtype.kind in "biu" else None
        return self.known.get(value)

    def shape(self, value: Value) -> Shape:
        """A shape, its lengths as they are expected."""
        return tuple(float(self._length(n)) if isinstance(n, Dim) else n for n in value.shape)

    def _length(self, dim: Dim) -> float:
        numbers = {value: self.number(value) for value in dim.terms}
        if None in numbers.values():
            self.notes[f"{self._line}: a length that only the running program knows is counted as 1"] = None
            return 1
        return max(0.0, dim.offset + sum(f * (numbers[v] or 0) for v, f in dim.terms.items()))

    def bytes(self, value: Value) -> float:
        """The memory of a value; numbers need none."""
        return math.prod(self.shape(value)) * value.dtype.itemsize if value.form == ARRAY else 0

    # ---------------------------------------------------------------------------------------------------- graphs

    def measure(self, graph: Graph, owned: Sequence[bool]) -> tuple[dict[str, Counts], _Memory]:
        """The counts of a graph by line, and its memory at the end.

        Args:
            graph: the graph.
            owned: for each input whether it may be written in place; none, unless given.
        """
        protected = {v for i, v in enumerate(graph.inputs) if i >= len(owned) or not owned[i]}
        memory = _Memory(protected)
        for value in graph.inputs:
            memory.define(value, self.bytes(value))
        lines: dict[str, Counts] = {}
        for node, dying in zip(graph.nodes, graph.last_uses, strict=True):
            self._line = node.line
            self._count_constants(node.operands)
            ending = set(dying)
            if node.regions:
                inside = self._of_regions(node, ending, memory)
            else:
                inside = {node.line: self._of_node(node, ending, memory)}
                self._expect(node)
            for line, counts in inside.items():
                lines[line] = lines.get(line, Counts()) + counts
            memory.release(dying)
        self._count_constants(graph.outputs)
        return lines, memory

    def _count_constants(self, values: Sequence[Value]) -> None:
        for value in values:
            if isinstance(value, Literal) and id(value.content) not in self._counted:
                self._counted.add(id(value.content))
                self.constants += self.bytes(value)

    def _expect(self, node: Node) -> None:
        """Follow integers through arithmetic."""
        op = node.op
        compute = _INTEGER.get(op.lanes.name) if isinstance(op, Elementwise) else None
        if compute is not None and not node.results[0].shape and node.results[0].dtype.kind in "iu":
            numbers = [self.number(v) for v in node.operands]
            if None not in numbers:
                self.known[node.results[0]] = compute(*numbers)

    # ----------------------------------------------------------------------------------------------------- nodes

    def _of_node(self, node: Node, ending: set[Value], memory: _Memory) -> Counts:
        if isinstance(node.op, Write):
            return self._of_write(node, ending, memory)
        if _is_view(node):
            memory.share(node.results[0], node.operands[0])
            return Counts()
        if node.op.name in ("push", "pop"):
            return self._of_stack(node, memory)
        for value in node.results:
            memory.define(value, self.bytes(value))
        flops, transcendental = flops_of(node, self.shape)
        written = sum(map(self.bytes, node.results))
        if node.op.name == "getitem":
            selected = math.prod(self.shape(node.results[0])) * node.results[0].dtype.itemsize
            return Counts(0, 0, selected + sum(map(self.bytes, node.operands[1:])), written)
        return Counts(flops, transcendental, sum(map(self.bytes, node.operands)), written)

    def _of_stack(self, node: Node, memory: _Memory) -> Counts:
        """What is pushed becomes part of the stack's memory, numbers too; what is popped is taken out of it."""
        pushed = node.op.name == "push"
        value = (node.operands if pushed else node.results)[1]
        size = math.prod(self.shape(value)) * value.dtype.itemsize
        memory.share(node.results[0], node.operands[0])
        memory.grow(node.results[0], size if pushed else -size)
        if pushed:
            return Counts(0, 0, self.bytes(value), size, size)
        memory.define(value, self.bytes(value))
        return Counts(0, 0, size, self.bytes(value))

    def _of_write(self, node: Node, ending: set[Value], memory: _Memory) -> Counts:
        target, given, *arrays = node.operands
        (result,) = node.results
        selected = self._selected(node)
        touched = selected * target.dtype.itemsize
        read, written = sum(map(self.bytes, (given, *arrays))), touched
        flops = 0.0
        if node.op.name == "add_at":
            read += touched
            flops = selected if target.dtype.kind in "fc" else 0
        if target in ending and memory.may_write(target):
            memory.share(result, target)
        else:
            memory.define(result, self.bytes(result))
            read += self.bytes(target)
            written += self.bytes(target)
        return Counts(flops, 0, read, written)

    def _selected(self, node: Node) -> float:
        """How many elements a write touches."""
        target, given, *arrays = node.operands
        getitem: Op = registry["getitem"]
        try:
            (type,) = infer(getitem, [v.type for v in (target, *arrays)], dict(node.params))
        except Unstageable:
            return math.prod(self.shape(given))
        return math.prod(self.shape(Value(type)))

    # --------------------------------------------------------------------------------------------- control flow

    def _of_regions(self, node: Node, ending: set[Value], memory: _Memory) -> dict[str, Counts]:
        times, sides = self._enter(node)
        mine = [v in ending and memory.may_write(v) for v in node.operands]
        carries = node.params.get("carries", 0)
        found = []
        for region, values, carried in sides:
            passed = [v is not None and mine[node.operands.index(v)] for v in values]
            owned = [p or i in carried for i, p in enumerate(passed)]
            given = sum(map(self.bytes, region.inputs))
            lines, inside = self.measure(region, owned)
            grown = [inside.size(v) for v in region.outputs[-len(node.results) :]]
            found.append((lines, max(0, inside.peak - given), grown))
        self._line = node.line
        extra = max((extra for _, extra, _ in found), default=0)
        memory.reach(extra)
        for i, value in enumerate(node.results):
            operand = node.operands[1 + i] if carries else None
            if operand is not None and (mine[1 + i] or value.dtype == STACK):
                memory.share(value, operand)
            else:
                memory.define(value, self.bytes(value))
            if value.dtype == STACK:
                memory.grow(value, times * max(grown[i] for _, _, grown in found))
        memory.reach(extra)
        dearest = max((lines for lines, _, _ in found), key=_weight, default={})
        return {line: counts * times for line, counts in dearest.items()}

    def _enter(self, node: Node) -> tuple[float, list[tuple[Graph, list[Value | None], range]]]:
        """How often the regions of a node run, and each with what its inputs are and which of them it carries."""
        name, operands = node.op.name, list(node.operands)
        sides: list[tuple[Graph, list[Value | None], range]] = []
        times: float = 1
        if name in ("loop", "while_"):
            body, count = node.params["body"], node.params["carries"]
            trips = self.number(operands[0]) if name == "loop" else None
            if trips is None:
                self.notes[f"{node.line}: a loop of unknown length is counted for one step"] = None
            times = 1 if trips is None else trips
            lead: list[Value | None] = [None] if name == "loop" else []
            if lead and trips is not None:
                self.known[body.inputs[0]] = max(0.0, (trips - 1) / 2)
            sides.append((body, [*lead, *operands[1:]], range(len(lead), len(lead) + count)))
        else:
            values = operands[1:] if name == "branch" else operands
            sides = [(region, [*values], range(0)) for region in node.regions.values()]
        for region, given, carried in sides:
            for i, (inner, outer) in enumerate(zip(region.inputs, given, strict=False)):
                number = None if outer is None or i in carried else self.number(outer)
                if number is not None:
                    self.known[inner] = number
        return times, sides


def _weight(lines: Mapping[str, Counts]) -> tuple[float, float]:
    total = sum(lines.values(), Counts())
    return total.flops + total.transcendental, total.bytes_read + total.bytes_written


class _Memory:
    """The arrays alive at one time.  Views share the memory of what they show."""

    def __init__(self, protected: set[Value]) -> None:
        self.peak: float = 0
        self._protected = protected
        self._owner: dict[Value, Value] = {}
        self._sizes: dict[Value, float] = {}
        self._holders: Counter[Value] = Counter()
        self._alive: float = 0

    def define(self, value: Value, size: float) -> None:
        """A new array."""
        self._owner[value] = value
        self._sizes[value] = size
        self._holders[value] = 1
        self._alive += size
        self.reach(0)

    def share(self, value: Value, other: Value) -> None:
        """A value in the memory of another."""
        if other not in self._owner:  # a literal
            self.define(value, 0)
            return
        owner = self._owner[value] = self._owner[other]
        self._holders[owner] += 1

    def grow(self, stack: Value, size: float) -> None:
        """More, or less, in the memory of a stack."""
        self._sizes[self._owner[stack]] += size
        self._alive += size
        self.reach(0)

    def size(self, value: Value) -> float:
        """The size of the memory that a value is in."""
        return self._sizes.get(self._owner.get(value, value), 0)

    def may_write(self, value: Value) -> bool:
        """Whether only this value has its memory."""
        owner = self._owner.get(value)
        return owner is not None and owner not in self._protected and self._holders[owner] == 1

    def reach(self, extra: float) -> None:
        """Note that there is so much beside what is alive."""
        self.peak = max(self.peak, self._alive + extra)

    def release(self, values: Sequence[Value]) -> None:
        """Let values go."""
        for value in values:
            owner = self._owner.get(value)
            if owner is None:
                continue
            self._holders[owner] -= 1
            if not self._holders[owner]:
                self._alive -= self._sizes[owner]
