"""Seams: arithmetic on arrays that are put together from others is done piece by piece.

What `np.roll`, `np.concatenate` and `np.pad` give is used element by element as a rule, and then need not be an array:
each box between the seams is computed from what its elements come from.  With periodic boundaries that is a large box
in the middle, whose loop reads shifted elements of one array, and thin ones at the edges.  What is needed as a whole
is written there once, box by box.

A *stretch* is what is cut alike: elementwise operations that use each other's results, of which at least one uses an
array with seams.  A value is one of its own results for what is around it if anything else than the stretch uses it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.operation import Elementwise, Op
from ...graph.graph import ARRAY, Graph, Literal, Node, Type, Value
from ...graph.passes.dead_code import dead_code
from ...graph.rewrite import Rewriting, is_known, lengths, on_regions
from .elements import meaning
from .formats import numeric
from .loops import affine
from .lower import Location, Lowering, rule
from .pieces import (
    PUT_TOGETHER,
    SMALLEST,
    Box,
    Layout,
    Piece,
    clipped,
    extent,
    is_filled,
    joined,
    moved,
    overlap,
    place,
    shifted,
    size,
    whole,
)
from .views import along

__all__ = ["in_pieces"]

_THIN = 16
"""What is less than this part of an array is not cut any further."""

_MOST_BOXES = 16
"""The most boxes of an array."""

_LARGEST = 400
"""The most operations that a stretch may become."""

_SEAMS = frozenset({"concatenate", "stack", "setitem", "add_at"})
"""The operations by which an array has seams."""

_ASSEMBLED = Op("assembled", np.empty, "*pieces", jvps=(), vjps=(), batch=None, rows=None)
"""An array from the values that fill its boxes."""

_COMBINED = {"sum": "add", "mean": "add", "max": "maximum", "min": "minimum", "any": "logical_or", "all": "logical_and"}
"""Reductions, and what puts together those of parts."""

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def in_pieces(graph: Graph) -> Graph:
    """The graph with arithmetic on what is put together done piece by piece."""
    done: dict[Graph, Graph] = {}

    def change(graph: Graph) -> Graph:
        if graph not in done:
            nodes = [on_regions(node, change) for node in graph.nodes]
            same = all(a is b for a, b in zip(nodes, graph.nodes, strict=True))
            inner = graph if same else Graph(graph.inputs, nodes, graph.outputs, graph.name)
            plan = _Plan(inner)
            needless = not (plan.layouts or plan.stretches)
            done[graph] = inner if needless else dead_code(_Cutting(inner, plan).run())
        return done[graph]

    return change(graph)


# ----------------------------------------------------------------------------------------------------------- planning


class _Stretch(NamedTuple):
    """Operations that are cut alike."""

    nodes: list[Node]
    boxes: list[Box]


class _Plan:
    """What is in pieces in a graph.

    Attributes:
        layouts: by value what it is put together from.
        inlined: the values among these that need not be arrays.
        stretches: by node the stretch it is in.
        closed: the results of stretches that are needed as a whole.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._users: dict[Value, list[Node | None]] = {}
        """By value the nodes that use it, None where it is an output."""
        self.layouts: dict[Value, Layout] = {}
        self.inlined: set[Value] = set()
        self.stretches: dict[Node, _Stretch] = {}
        self.closed: set[Value] = set()
        self._aligned: set[Node] = set()
        if all(node.op.name not in _SEAMS for node in graph.nodes):
            return
        for node in graph.nodes:
            for v in (*node.uses, *node.results):
                self._users.setdefault(v, [])
            for v in node.uses:
                self._users[v].append(node)
        for v in graph.outputs:
            self._users.setdefault(v, []).append(None)
        self._aligned = {node for node in graph.nodes if _is_aligned(node)}
        self._find_layouts()
        self._find_stretches()

    def _find_layouts(self) -> None:
        """The layouts, of values that are arrays anyway none of what they are put together from."""
        nodes = [node for node in self._graph.nodes if node.op.name in PUT_TOGETHER]
        kept: set[Value] = set()
        while True:
            found: dict[Value, Layout] = {}
            usable: dict[Value, Layout] = {}
            for node in nodes:
                layout = joined(node, usable)
                if layout is not None:
                    (value,) = node.results
                    found[value] = layout
                    if value not in kept:
                        usable[value] = layout
            inlined: set[Value] = set()
            for node in reversed(nodes):
                for v in node.results:
                    if v in usable and self._is_inlined(v, found, inlined):
                        inlined.add(v)
            self.layouts, self.inlined = found, inlined
            more = {
                v
                for v in usable
                if v not in inlined and any(u and u.results and u.results[0] in found for u in self._users[v])
            }
            if not more:
                return
            kept |= more

    def _is_inlined(self, value: Value, layouts: dict[Value, Layout], inlined: set[Value]) -> bool:
        """Whether all that use a value can do with what it is put together from, and at most one of them copies it."""
        copies = 0
        for user in self._users[value]:
            if user is None or not user.results:
                return False
            result = user.results[0]
            if user in self._aligned and _alike(value, user):
                continue
            if result not in layouts:
                return False
            copies += result not in inlined and len(layouts[result]) > 1
        return copies <= 1

    def _find_stretches(self) -> None:
        """What is cut alike: what uses seams, what goes on from there, and what is computed for nothing else."""
        made: dict[Value, Node] = {}
        computed = {node.results[0] for node in self._aligned}
        for node in self._graph.nodes:
            if node in self._aligned and (
                self._begins(node, computed) or any(self._is_linked(v, node, made) for v in node.operands)
            ):
                made[node.results[0]] = node
        for node in reversed(self._graph.nodes):
            if node in self._aligned and node.results[0] not in made:
                (value,) = node.results
                users = self._users[value]
                if users and all(u and u.results and u.results[0] in made and _alike(value, u) for u in users):
                    made[value] = node
        groups: dict[Node, list[Node]] = {}
        for node in self._graph.nodes:
            if node.results and made.get(node.results[0]) is node:
                groups[node] = [node]
                for v in node.operands:
                    if self._is_linked(v, node, made) and groups[made[v]] is not groups[node]:
                        groups[made[v]] += groups[node]
                        groups.update(dict.fromkeys(groups[node], groups[made[v]]))
        for group in {id(group): group for group in groups.values()}.values():
            boxes = self._boxes(group)
            if 1 < len(boxes) <= _MOST_BOXES and len(boxes) * len(group) <= _LARGEST:
                self.stretches.update(dict.fromkeys(group, _Stretch(group, boxes)))
                self.closed.update(v for node in group for v in node.results if not self._is_open(v))

    def _begins(self, node: Node, computed: set[Value]) -> bool:
        """Whether an operation has a reason of its own to be cut."""
        if node.op.name != "add_at":
            return any(self._has_seams(v, node) for v in node.operands)
        # It would be done in place, but what it adds to is a number everywhere, or computed only for it.
        base = node.operands[0]
        return is_filled(base) or (len(self._users[base]) == 1 and base in computed)

    def _boxes(self, group: Sequence[Node]) -> list[Box]:
        """The boxes into which operations are cut."""
        whole_box = whole(lengths(group[0].results[0]))
        seams = [[p.box for p in self.layouts[v]] for node in group for v in node.operands if self._has_seams(v, node)]
        added = [_target(node) for node in group if node.op.name == "add_at"]
        if not seams and all(2 * size(box) < size(whole_box) for box in added):
            return []
        return list(_parts(whole_box, [*seams, *([box] for box in added)], max(SMALLEST, size(whole_box) // _THIN)))

    def _has_seams(self, value: Value, user: Node) -> bool:
        return value in self.inlined and _alike(value, user)

    def _is_linked(self, value: Value, user: Node, made: dict[Value, Node]) -> bool:
        """Whether what uses a result of what is cut is cut alike: either nothing else needs it, or it is added up."""
        return value in made and _alike(value, user) and (self._is_open(value) or self._is_summed(user))

    def _is_open(self, value: Value) -> bool:
        """Whether a value is only used by what can be cut as it is."""
        return all(
            u is not None and (_is_total(u) or (u in self._aligned and _alike(value, u))) for u in self._users[value]
        )

    def _is_summed(self, node: Node) -> bool:
        return all(u is not None and _is_total(u) for u in self._users[node.results[0]])


def _alike(value: Value, user: Node) -> bool:
    """Whether a value has the shape of what is made of it."""
    return value.shape == user.results[0].shape


def _is_aligned(node: Node) -> bool:
    """Whether machine code makes each element of a large array of those in the same place."""
    if len(node.results) != 1 or not node.results[0].shape or not all(map(is_known, (*node.operands, *node.results))):
        return False
    (result,) = node.results
    if size(whole(lengths(result))) < SMALLEST:
        return False
    if node.op.name == "add_at":
        return _is_box(node)
    if node.op.name in ("where", "astype"):
        return all(numeric(v.dtype) for v in (*node.operands, result))
    return isinstance(node.op, Elementwise) and meaning(node.op.name, node.operands, result) is not None


def _is_box(node: Node) -> bool:
    """Whether something of the shape of a box is added to an array there."""
    base, value = node.operands[:2]
    found = place(node)
    if found is None or value.dtype != base.dtype or base.dtype.kind not in "iufc" or value.shape == base.shape:
        return False
    return value.shape == tuple(n for n, alone in zip(extent(found[0]), found[1], strict=True) if not alone)


def _target(node: Node) -> Box:
    """The box to which an operation adds."""
    found = place(node)
    assert found is not None
    return found[0]


def _is_total(node: Node) -> bool:
    """Whether an operation reduces all elements of an array of floating-point numbers, or of truth values, to one."""
    if node.op.name not in _COMBINED or len(node.operands) != 1:
        return False
    (x,) = node.operands
    axes = node.params["axis"]
    every = axes is None or len(axes) == x.ndim
    exact = node.op.name in ("any", "all") or (x.dtype in _FLOATS and node.results[0].dtype == x.dtype)
    return every and exact and not node.params["keepdims"]


def _parts(box: Box, seams: Sequence[Sequence[Box]], smallest: int) -> Iterator[Box]:
    """A box cut at seams, first across the first axes; what is thin is not cut further."""
    if size(box) >= smallest:
        for axis, (low, high) in enumerate(box):
            inside = (part[axis] for parts in seams for part in parts if overlap(part, box))
            edges = sorted({low, high, *(e for side in inside for e in side if low < e < high)})
            if len(edges) > 2:
                for side in itertools.pairwise(edges):
                    yield from _parts((*box[:axis], side, *box[axis + 1 :]), seams, smallest)
                return
    yield box


# ------------------------------------------------------------------------------------------------------------ cutting


class _Cutting(Rewriting):
    """A graph being made in which stretches are cut."""

    def __init__(self, graph: Graph, plan: _Plan) -> None:
        super().__init__(graph)
        self._plan = plan
        self._pieces: dict[Value, list[Value]] = {}
        self._stretch: dict[Value, _Stretch] = {}
        self._parts: dict[tuple[Value, Box], Value] = {}

    def run(self) -> Graph:
        """The whole graph."""
        plan = self._plan
        for old in self.graph.nodes:
            value = old.results[0] if old.results else None
            stretch = plan.stretches.get(old)
            if stretch is not None:
                self._cut(old, stretch)
            elif _is_total(old) and old.operands[0] in self._pieces:
                self._combine(old)
            elif value in plan.inlined:
                continue
            elif value in plan.layouts and self._gains(old):
                assert value is not None
                self.replacement[value] = self._joined(plan.layouts[value], lengths(value), value, old.line)
            else:
                for v in old.uses:
                    self._whole(v, old.line)
                self.add(self.updated(old))
        for v in self.graph.outputs:
            self._whole(v, "")
        return self.finish()

    def _gains(self, node: Node) -> bool:
        """Whether something put together is made with less to copy, if it is made of what its parts are made of."""
        return node.op.name == "setitem" or any(v in self._plan.inlined for v in node.operands)

    def _whole(self, value: Value, line: str) -> Value:
        """A value as an array, even if it might have been none."""
        if value in self._plan.inlined and value not in self.replacement:
            self.replacement[value] = self._joined(self._plan.layouts[value], lengths(value), value, line)
        return self.now(value)

    def _cut(self, node: Node, stretch: _Stretch) -> None:
        """Perform an elementwise operation box by box."""
        (result,) = node.results
        found = self._pieces[result] = []
        self._stretch[result] = stretch
        for i, box in enumerate(stretch.boxes):
            operands = [self._part(v, box, i, node) for v in node.operands[: 1 if node.op.name == "add_at" else None]]
            if node.op.name == "add_at":
                found.append(self._added(node, operands[0], box))
                continue
            type = Type(extent(box), result.dtype, ARRAY)
            found.append(self.emit(node.op, *operands, line=node.line, type=type, **node.params))
        if result in self._plan.closed:
            self.replacement[result] = self._assembled(stretch.boxes, found, result, node.line)

    def _combine(self, node: Node) -> None:
        """Reduce what is in pieces piece by piece."""
        (x,), (result,) = node.operands, node.results
        name = "sum" if node.op.name == "mean" else node.op.name
        params = {**node.params, "axis": None}
        parts = [self.emit(name, v, line=node.line, type=result.type, **params) for v in self._pieces[x]]
        total, *rest = parts
        for part in rest:
            total = self.emit(_COMBINED[node.op.name], total, part, line=node.line, type=result.type)
        if node.op.name == "mean":
            count = Literal(result.dtype.type(size(whole(lengths(x)))))
            total = self.emit("divide", total, count, line=node.line, type=result.type)
        self.replacement[result] = total

    def _added(self, node: Node, base: Value, box: Box) -> Value:
        """A box of an array to a box of which something is added."""
        there = _target(node)
        common = overlap(there, box)
        if common is None:
            return base
        value = self._added_there(node, shifted(common, [-low for low, _ in there]))
        if common == box:
            return self.emit("add", base, value, line=node.line, type=base.type)
        index = tuple(slice(low, high, 1) for low, high in shifted(common, [-low for low, _ in box]))
        return self.emit("add_at", base, value, line=node.line, type=base.type, index=index)

    def _added_there(self, node: Node, box: Box) -> Value:
        """A part of what is added, with the axes that the index leaves out."""
        _, alone = place(node) or ((), ())
        value = self._found(node.operands[1], tuple(s for s, one in zip(box, alone, strict=True) if not one), node.line)
        if not any(alone):
            return value
        index = tuple(None if one else slice(None) for one in alone)
        return self.emit("getitem", value, line=node.line, type=value.type._replace(shape=extent(box)), index=index)

    def _part(self, value: Value, box: Box, number: int, node: Node) -> Value:
        """What an operand has for a box of the result."""
        if value in self._pieces and self._plan.stretches[node] is self._stretch[value]:
            return self._pieces[value][number]
        if not value.ndim:
            return self.now(value)
        shape = lengths(value)
        sides = zip(shape, box[len(box) - len(shape) :], strict=True)
        mine = tuple(side if n > 1 else (0, 1) for n, side in sides)
        return self._found(value, mine, node.line)

    def _found(self, value: Value, box: Box, line: str) -> Value:
        """A box of a value."""
        key = value, box
        if key not in self._parts:
            if value in self._plan.inlined and value not in self.replacement:
                inside = moved(clipped(self._plan.layouts[value], box), [-low for low, _ in box])
                like = Value(Type(extent(box), value.dtype, ARRAY))
                self._parts[key] = self._joined(inside, extent(box), like, line)
            else:
                self._parts[key] = self._slice(self.now(value), box, line)
        return self._parts[key]

    def _slice(self, value: Value, box: Box, line: str) -> Value:
        if box == whole(lengths(value)):
            return value
        index = tuple(slice(low, high, 1) for low, high in box)
        type = value.type._replace(shape=extent(box))
        return self.emit("getitem", value, line=line, type=type, index=index)

    def _joined(self, layout: Layout, shape: tuple[int, ...], like: Value, line: str) -> Value:
        """An array put together as a layout says."""
        filled = [self._filling(piece, like.dtype, line) for piece in layout]
        if len(filled) == 1 and filled[0].shape == shape:
            return filled[0]
        return self._assembled([piece.box for piece in layout], filled, like, line)

    def _filling(self, piece: Piece, dtype: np.dtype[Any], line: str) -> Value:
        """What fills a piece; its axes may be of length one where it is repeated, or missing."""
        source = self._whole(piece.source, line)
        if not piece.shape:
            return source
        if source.shape != piece.shape:
            index = _with_new_axes(source.shape, piece.shape)
            source = self.emit("getitem", source, line=line, type=source.type._replace(shape=piece.shape), index=index)
        ends = (
            (s, s + (1 if again else high - low))
            for s, again, (low, high) in zip(piece.start, piece.repeated, piece.box, strict=True)
        )
        return self._slice(source, tuple(ends), line)

    def _assembled(self, boxes: Sequence[Box], pieces: Sequence[Value], like: Value, line: str) -> Value:
        return self.emit(_ASSEMBLED, *pieces, line=line, type=like.type, boxes=tuple(boxes), shape=like.shape)


def _with_new_axes(shape: Sequence[Any], wanted: Sequence[int]) -> tuple[slice | None, ...]:
    """The index that gives an array of a shape axes of length one, to have another."""
    at = 0
    found: list[slice | None] = []
    for n in wanted:
        mine = at < len(shape) and shape[at] == n
        found.append(slice(None) if mine else None)
        at += mine
    return tuple(found)


@rule("assembled")
def _assemble(low: Lowering, node: Node, operands: list[Location]) -> Location:
    (result,) = node.results
    made = low.array(result.dtype, tuple(map(affine, lengths(result))))
    for box, piece in zip(node.params["boxes"], operands, strict=True):
        places = [along(i, affine(first)) for i, (first, _) in enumerate(box)]
        low.copy(made.seen(places, tuple(affine(last - first) for first, last in box)), piece)
    return made
