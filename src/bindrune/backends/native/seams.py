"""Seams: arithmetic on arrays that are put together from others is done piece by piece.

What `np.roll`, `np.concatenate` and `np.pad` give is used element by element as a rule, and then need not be an array:
each box between the seams is computed from what its elements come from.  With periodic boundaries that is a large box
in the middle, whose loop reads shifted elements of one array, and thin ones at the edges.  What is needed as a whole
is written there once, box by box.

A *stretch* is what is cut alike: elementwise operations that use each other's results, of which at least one uses an
array with seams.  A value is one of its own results for what is around it if anything else than the stretch uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.operation import Elementwise, Op
from ...graph.graph import ARRAY, Graph, Literal, Node, Type, Value
from ...graph.passes.dead_code import dead_code
from ...graph.rewrite import Rewriting, is_known, lengths, on_regions
from .loops import affine
from .lower import Location, Lowering, rule
from .pieces import SMALLEST, Box, Layout, Piece, clipped, joined, overlap, size, whole
from .views import along

__all__ = ["in_pieces"]

_THIN = 16
"""What is less than this part of an array is not cut any further."""

_MOST_BOXES = 16
"""The most boxes of an array."""

_LARGEST = 400
"""The most operations that a stretch may become."""

_ASSEMBLED = Op("assembled", np.empty, "*pieces", jvps=(), vjps=(), batch=None, rows=None)
"""An array from the values that fill its boxes."""

_COMBINED = {"sum": "add", "mean": "add", "max": "maximum", "min": "minimum", "any": "logical_or", "all": "logical_and"}
"""Reductions, and what puts together those of parts."""


def in_pieces(graph: Graph) -> Graph:
    """The graph with arithmetic on what is put together done piece by piece."""
    done: dict[Graph, Graph] = {}

    def change(graph: Graph) -> Graph:
        if graph not in done:
            nodes = [on_regions(node, change) for node in graph.nodes]
            same = all(a is b for a, b in zip(nodes, graph.nodes, strict=True))
            inner = graph if same else Graph(graph.inputs, nodes, graph.outputs, graph.name)
            plan = _Plan(inner)
            done[graph] = dead_code(_Cutting(inner, plan).run()) if plan.layouts else inner
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
        self._users: dict[Value, list[tuple[Node | None, int]]] = {}
        self.layouts: dict[Value, Layout] = {}
        self.inlined: set[Value] = set()
        self.stretches: dict[Node, _Stretch] = {}
        self.closed: set[Value] = set()
        if not any(node.op.name in ("concatenate", "setitem", "add_at") for node in graph.nodes):
            return
        for node in graph.nodes:
            for i, v in enumerate(node.uses):
                self._users.setdefault(v, []).append((node, i))
        for v in graph.outputs:
            self._users.setdefault(v, []).append((None, 0))
        self._find_layouts()
        if self.layouts:
            self._find_stretches()

    def _find_layouts(self) -> None:
        """The layouts, of values that are arrays anyway none of what they are put together from."""
        kept: set[Value] = set()
        while True:
            found: dict[Value, Layout] = {}
            usable: dict[Value, Layout] = {}
            for node in self._graph.nodes:
                layout = joined(node, usable)
                if layout is not None:
                    (value,) = node.results
                    found[value] = layout
                    if value not in kept:
                        usable[value] = layout
            inlined: set[Value] = set()
            for node in reversed(self._graph.nodes):
                for v in node.results:
                    if v in usable and self._is_inlined(v, found, inlined):
                        inlined.add(v)
            self.layouts, self.inlined = found, inlined
            more = {v for v in usable if v not in inlined and any(n and n.results[0] in found for n, _ in self._users.get(v, ()))}
            if not more:
                return
            kept |= more

    def _is_inlined(self, value: Value, layouts: dict[Value, Layout], inlined: set[Value]) -> bool:
        """Whether all that use a value can do with what it is put together from, and at most one of them copies it."""
        copies = 0
        for user, _ in self._users.get(value, ()):
            if user is None or not user.results:
                return False
            result = user.results[0]
            if _is_elementwise(user) and result.shape == value.shape:
                continue
            if result not in layouts:
                return False
            copies += result not in inlined and len(layouts[result]) > 1
        return copies <= 1

    def _find_stretches(self) -> None:
        cut: dict[Node, None] = {}
        made: dict[Value, Node] = {}
        for node in self._graph.nodes:
            if _is_elementwise(node) and any(self._has_seams(v, node) or self._is_open(v, made) for v in node.operands):
                cut[node] = None
                made[node.results[0]] = node
        for node in reversed(self._graph.nodes):
            if node in cut or not _is_elementwise(node):
                continue
            users = self._users.get(node.results[0], ())
            shape = node.results[0].shape
            if users and all(u in cut and u.results[0].shape == shape for u, _ in users):
                cut[node] = None
        order = [node for node in self._graph.nodes if node in cut]
        made = {node.results[0]: node for node in order}
        groups = {node: [node] for node in order}
        for node in order:
            for v in node.operands:
                if self._is_open(v, made) and v.shape == node.results[0].shape:
                    mine, other = groups[node], groups[made[v]]
                    if mine is not other:
                        other += mine
                        groups.update(dict.fromkeys(mine, other))
        for group in {id(g): g for g in groups.values()}.values():
            seams = [self.layouts[v] for node in group for v in node.operands if self._has_seams(v, node)]
            if not seams:
                continue
            shape = lengths(group[0].results[0])
            boxes = list(_parts(whole(shape), seams, max(SMALLEST, size(whole(shape)) // _THIN)))
            if 1 < len(boxes) <= _MOST_BOXES and len(boxes) * len(group) <= _LARGEST:
                stretch = _Stretch(group, boxes)
                self.stretches.update(dict.fromkeys(group, stretch))
                self.closed.update(n.results[0] for n in group if not self._is_open(n.results[0], made))

    def _has_seams(self, value: Value, user: Node) -> bool:
        return value in self.inlined and value.shape == user.results[0].shape

    def _is_open(self, value: Value, made: dict[Value, Node]) -> bool:
        """Whether a result of what is cut is only used by what can be cut alike, or adds it all up."""
        if value not in made:
            return False
        return all(
            user is not None
            and (_is_total(user) or (_is_elementwise(user) and user.results[0].shape == value.shape))
            for user, _ in self._users.get(value, ())
        )


def _is_elementwise(node: Node) -> bool:
    """Whether an operation makes a large array element by element."""
    if not (isinstance(node.op, Elementwise) or node.op.name in ("where", "astype")) or len(node.results) != 1:
        return False
    (result,) = node.results
    if not result.shape or not all(is_known(v) for v in (*node.operands, result)):
        return False
    return size(whole(lengths(result))) >= SMALLEST


def _is_total(node: Node) -> bool:
    """Whether an operation reduces all elements of an array of floating-point numbers, or of truth values, to one."""
    if node.op.name not in _COMBINED or len(node.operands) != 1:
        return False
    (x,) = node.operands
    axes = node.params["axis"]
    every = axes is None or len(axes) == x.ndim
    exact = node.op.name in ("any", "all") or (x.dtype.kind == "f" and node.results[0].dtype == x.dtype)
    return every and exact and not node.params["keepdims"]


def _parts(box: Box, seams: Sequence[Layout], smallest: int) -> Iterator[Box]:
    """A box cut at seams, first across the first axes; what is thin is not cut further."""
    if size(box) >= smallest:
        for axis, (low, high) in enumerate(box):
            inside = (piece.box[axis] for layout in seams for piece in layout if overlap(piece.box, box))
            edges = sorted({low, high, *(e for side in inside for e in side if low < e < high)})
            if len(edges) > 2:
                for side in zip(edges, edges[1:], strict=False):
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
        for i, box in enumerate(stretch.boxes):
            operands = [self._part(v, box, i, node.line) for v in node.operands]
            type = Type(tuple(high - low for low, high in box), result.dtype, ARRAY)
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

    def _part(self, value: Value, box: Box, number: int, line: str) -> Value:
        """What an operand has for a box of the result."""
        if value in self._pieces and value not in self._plan.closed:
            return self._pieces[value][number]
        if not value.ndim:
            return self.now(value)
        shape = lengths(value)
        sides = zip(shape, box[len(box) - len(shape) :], strict=True)
        mine = tuple(side if n > 1 else (0, 1) for n, side in sides)
        return self._found(value, mine, line)

    def _found(self, value: Value, box: Box, line: str) -> Value:
        """A box of a value."""
        key = value, box
        if key not in self._parts:
            if value in self._plan.inlined and value not in self.replacement:
                shape = tuple(high - low for low, high in box)
                moved = [
                    p._replace(box=tuple((i - k, j - k) for (i, j), (k, _) in zip(p.box, box, strict=True)))
                    for p in clipped(self._plan.layouts[value], box)
                ]
                like = Value(Type(shape, value.dtype, ARRAY))
                self._parts[key] = self._joined(moved, shape, like, line)
            else:
                self._parts[key] = self._slice(self.now(value), box, line)
        return self._parts[key]

    def _slice(self, value: Value, box: Box, line: str) -> Value:
        if box == whole(lengths(value)):
            return value
        index = tuple(slice(low, high, 1) for low, high in box)
        type = value.type._replace(shape=tuple(high - low for low, high in box))
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
            type = source.type._replace(shape=piece.shape)
            source = self.emit("reshape", source, line=line, type=type, shape=piece.shape, order="C")
        ends = (
            (s, s + (1 if again else high - low))
            for s, again, (low, high) in zip(piece.start, piece.repeated, piece.box, strict=True)
        )
        return self._slice(source, tuple(ends), line)

    def _assembled(self, boxes: Sequence[Box], pieces: Sequence[Value], like: Value, line: str) -> Value:
        return self.emit(_ASSEMBLED, *pieces, line=line, type=like.type, boxes=tuple(boxes), shape=like.shape)


@rule("assembled")
def _assemble(low: Lowering, node: Node, operands: list[Location]) -> Location:
    (result,) = node.results
    made = low.array(result.dtype, tuple(map(affine, lengths(result))))
    for box, piece in zip(node.params["boxes"], operands, strict=True):
        places = [along(i, affine(first)) for i, (first, _) in enumerate(box)]
        low.copy(made.seen(places, tuple(affine(last - first) for first, last in box)), piece)
    return made
