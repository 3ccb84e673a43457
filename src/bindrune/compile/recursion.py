"""Recursion whose depth depends on traced values: a graph that calls itself.

A function that is called again with arguments of the same types, and the same in everything else, while it is being
staged would be staged for ever.  Its body is then staged once as a graph of its own, in which the calls inside are
``recur``: they run the graph that they are part of.  What the calls return is found from the sides of branches that
return without calling; then the body is tried again until the types of its results are settled.

A derivative of the graph has calls of the derivative inside: it is under way while it is made (`_under_way`).

Arrays that a recursion captures are arguments, and those among them that it writes results as well.  Refused: a
recursion that changes anything else that it captures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from ..core import trees
from ..core.array import Array
from ..core.handler import evaluate, perform
from ..core.operation import spec_of
from ..graph.dims import Unstageable
from ..graph.graph import STACK_TYPE, Graph, Reference, Type, Value
from ..graph.interpreter import interpret
from ..graph.rewrite import captured, inner, on_regions
from ..ops.views import is_concrete
from ..transforms.batch import Batch
from ..transforms.forward import Forward
from ..transforms.programs import (
    Lanes,
    Pushed,
    TangentSpace,
    batch_results,
    followed,
    lane_axis,
    push_results,
    record_results,
)
from ..transforms.reverse import Into, Reverse, guarding
from .carries import Carry, leaves_of
from .control import Region, call, runnable, settled_tangent
from .places import Content, Place
from .split import Split, go_back, lasting_among, split
from .stacks import EMPTY, put_all, to_lanes
from .staging import Staging, trace, type_of_cell
from .types import has_tangents, joined_type, lane_type, settle, tangent_type
from .world import World

__all__ = ["Recursions", "Unknown", "reached"]

_TRIALS = 8
_FEW = 8
"""How often a function may call itself with other numbers before these are traced."""


class Itself(Reference):
    """The graph that a call inside it stands for, known when it is finished."""

    def __init__(self) -> None:
        self.graph: Graph | None = None
        self.derived: dict[Any, Any] = {}
        self._effect: bool | None = None

    @property
    def effect(self) -> bool:  # type: ignore[override]
        if self._effect is None:
            try:
                self._effect = any(node.op.effect for part in reached(self.finished()) for node in part.nodes)
            except _UnfinishedError:
                return True
        return self._effect

    def finished(self) -> Graph:
        """The graph."""
        if self.graph is None:
            raise _UnfinishedError
        return self.graph

    def __repr__(self) -> str:
        return "<the graph around>"


def reached(graph: Graph) -> list[Graph]:
    """A graph, the regions in it, and the graphs that these call, each once."""
    found = [graph]
    seen = {graph}
    for part in found:
        for node in part.nodes:
            others = [*node.regions.values(), *([node.params["graph"].finished()] if node.op is recur else [])]
            found += [other for other in others if other not in seen]
            seen.update(others)
    return found


class _UnfinishedError(Exception):
    """Something is asked of a graph that is being made."""


class Unknown(BaseException):
    """A call inside a recursion returns what nobody knows yet: the side of a branch it stands on has no say."""


class _Again(BaseException):
    """A function under way is called again: with arguments of the same types, or all too often with other numbers."""

    def __init__(self, key: Any) -> None:
        super().__init__(key)
        self.key = key


class _Wider(BaseException):
    """A call inside a recursion has an argument of a more general type than was taken."""


class _Call:
    """A function that is being staged.

    Attributes:
        itself: what calls inside it stand for; None while it is not known to be a recursion.
        is_traced: tells the arguments that are inputs of the graph.
        types: theirs.
        results: the structure of what it returns, the types, and which arguments it writes; None at first.
        captured: the arrays it reads beside its arguments.
        changed: those that it writes; what becomes of them it gives last.
    """

    def __init__(self, itself: Itself | None = None, is_traced: Callable[[Any], bool] = bool) -> None:
        self.itself = itself
        self.is_traced = is_traced
        self.types: list[Type] = []
        self.results: tuple[Any, list[Type], list[int]] | None = None
        self.captured: list[Array] = []
        self.changed: list[Array] = []

    def again(self, leaves: Sequence[Any]) -> Any:
        """A call inside: of arguments that bring its types to what they have in common with these."""
        given = [v for v in leaves if self.is_traced(v)]
        joined = [joined_type(t, type_of_cell(v), "an argument") for t, v in zip(self.types, given, strict=True)]
        if joined != self.types:
            self.types, self.results = joined, None
            raise _Wider
        if self.results is None:
            raise Unknown
        return self.perform(recur, given, {"graph": self.itself, "types": self.results[1]})

    def perform(self, op: Any, given: Sequence[Any], params: dict[str, Any]) -> Any:
        """The result of a call with these arguments, some of which it writes, as it does some of what it captures."""
        assert self.results is not None
        structure, types, written = self.results
        settled = [settle(v, t) for v, t in zip(given, self.types, strict=True)]
        found = perform(op, (*settled, *self.changed, *self.captured), params)
        count = len(types) - len(written) - len(self.changed)
        for array, content in zip([*(given[i] for i in written), *self.changed], found[count:], strict=True):
            array.assign(content)
        return trees.unflatten(structure, list(found[:count]))


class Recursions:
    """The functions that are being staged, by what tells their calls apart.

    Numbers of Python's are taken as they are, until a function has called itself a few times with other ones; then they
    become traced as well.
    """

    def __init__(self, attempt: Callable[..., Any]) -> None:
        self._attempt = attempt
        """Tries a body under a handler of its own (see `compile.regions`)."""
        self._calls: dict[Any, _Call] = {}
        self._depths: Counter[Any] = Counter()
        self._unrolled: set[Any] = set()

    def call(self, body: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """A call of a function that calls itself."""
        leaves, structure = trees.flatten((arguments, keywords))
        if not any(isinstance(v, Array) and not is_concrete(v) for v in leaves):
            return body(*arguments, **keywords)
        closure = tuple(id(cell) for cell in body.__closure__ or ())
        same = (body.__code__, closure, structure, trees.key_orders((arguments, keywords)))
        key = (*same, tuple(map(_known, leaves)))
        family = (*same, tuple(0 if _is_number(v) else _known(v) for v in leaves))
        for known in (self._calls.get(family), self._calls.get(key)):
            if known is not None:
                if known.itself is None:
                    raise _Again(key)
                return known.again(leaves)
        if self._depths[family] >= _FEW and family not in self._unrolled:
            raise _Again(family)
        state = [(a, a._handler, a._value, a._mark, a._version) for a in World((), [body, *leaves]).arrays]
        self._calls[key] = _Call()
        self._depths[family] += 1
        try:
            return body(*arguments, **keywords)
        except _Again as met:
            again = met.key
            if again != key and (again != family or self._depths[family] > 1):
                raise
        finally:
            del self._calls[key]
            self._depths[family] -= 1
        for array, handler, value, mark, version in state:
            array._handler, array._value, array._mark, array._version = handler, value, mark, version
        if again == key:
            return self._stage(key, body, leaves, structure, _is_cell)
        try:
            return self._stage(family, body, leaves, structure, _is_number)
        except Unstageable:
            self._unrolled.add(family)
            return body(*arguments, **keywords)

    def _stage(
        self, key: Any, body: Any, leaves: Sequence[Any], structure: Any, is_traced: Callable[[Any], bool]
    ) -> Any:
        under_way = self._calls[key] = _Call(Itself(), is_traced)
        assert under_way.itself is not None
        given = [v for v in leaves if is_traced(v)]
        under_way.types = [type_of_cell(v) for v in given]
        try:
            for _ in range(_TRIALS):
                try:
                    found = self._try(body, leaves, structure, under_way)
                except _Wider:
                    continue
                if found is not None:
                    under_way.itself.graph = found
                    return under_way.perform(call, given, {"graph": found})
        except Unknown:
            raise Unstageable("a recursion that never returns", "Give it a case that does not call itself") from None
        finally:
            del self._calls[key]
        raise Unstageable("the types of what a recursion returns do not settle", "Return the same types in every case")

    def _try(self, body: Any, leaves: Sequence[Any], structure: Any, under_way: _Call) -> Graph | None:
        """Stage the body; the graph, if results and captured arrays were what they were taken to be."""
        world = World((), [body, *(v for v in leaves if not under_way.is_traced(v))])
        given: list[Any] = []
        sources: dict[Value, Array] = {}

        def run(*cells: Any) -> Any:
            sources.update({a._value: a for a in world.arrays if a._handler.symbolic})
            given[:] = cells
            rest = iter(cells)
            filled = [next(rest) if under_way.is_traced(v) else v for v in leaves]
            arguments, keywords = trees.unflatten(structure, filled)
            return body(*arguments, **keywords)

        carried: dict[Place, Carry] = {}
        for place in map(Content, under_way.changed):
            now, structure_of_one = leaves_of(place.get(), place)
            carried[place] = Carry(structure_of_one, [*map(type_of_cell, now)])
        trial = self._attempt(world, run, carried, set(), set(), under_way.types)
        for place in trial.changes:
            if not isinstance(place, Content):
                raise Unstageable(f"a recursion changes {place.text}", "Pass it as an argument and return it")
        changed = [place.array for place in trial.changes if isinstance(place, Content)]
        stage: Staging = trial.stage
        found, result_structure = trees.flatten(trial.result)
        written = [i for i, cell in enumerate(given) if cell._version]
        outputs = [stage.take(v) for v in (*found, *(given[i] for i in written), *trial.changes.values())]
        types = [v.type for v in outputs]
        if under_way.results is not None and len(under_way.results[1]) == len(types):
            types = [joined_type(a, b, "the result") for a, b in zip(under_way.results[1], types, strict=True)]
            outputs = [stage.take(settle(Array(stage, v), t)) for v, t in zip(outputs, types, strict=True)]
        graph = stage.finish(outputs, body.__name__)
        stage.end()
        results = (result_structure, types, written)
        try:
            captured = [sources[v] for v in graph.inputs[len(under_way.types) + len(carried) :]]
        except KeyError:
            raise Unstageable(
                "a recursion reads an array in a way that cannot be followed", "Pass the array as an argument"
            ) from None
        captured = [a for a in captured if not any(a is other for other in changed)]
        _refuse_shared([v for v in leaves if under_way.is_traced(v)], written, captured, changed)
        same = under_way.results == results and _are(under_way.captured, captured) and _are(under_way.changed, changed)
        under_way.results, under_way.captured, under_way.changed = results, captured, changed
        return graph if same else None


def _are(some: Sequence[Array], others: Sequence[Array]) -> bool:
    return [*map(id, some)] == [*map(id, others)]


def _refuse_shared(
    given: Sequence[Any], written: Sequence[int], captured: Sequence[Array], changed: Sequence[Array]
) -> None:
    """Refuse a write to memory that a recursion knows by two names."""
    arguments = [id(v.root) if isinstance(v, Array) else 0 for v in given]
    others = [id(a.root) for a in (*captured, *changed)]
    known = [*(n for n in arguments if n), *others]
    touched = [*(arguments[i] for i in written), *(id(a.root) for a in changed)]
    if any(known.count(n) > 1 for n in touched):
        raise Unstageable("a recursion writes an array that it knows by another name, too", "Give it the array once")


def _is_cell(leaf: Any) -> bool:
    return isinstance(leaf, Array)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (Array, int, float, complex)) and not isinstance(leaf, bool)


def _known(leaf: Any) -> Any:
    """What a call depends on in one of its arguments."""
    if isinstance(leaf, Array):
        return type_of_cell(leaf)
    try:
        hash(leaf)
    except TypeError:
        return id(leaf)
    return (type(leaf), leaf)


# ---------------------------------------------------------------------------------------------------- the operation


class _Recur(Region):
    """``recur(*values; graph, types)``: a call of the graph it stands in."""

    __slots__ = ()

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        return tuple(interpret(params["graph"].finished(), list(values)))

    def result_types(self, values: Sequence[Value], params: dict[str, Any]) -> Sequence[Type]:
        types: Sequence[Type] = params["types"]
        return types

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        itself, types = params["graph"], params["types"]
        values, tangents = handler.open(operands)
        active = tuple(i for i, t in enumerate(tangents) if t is not None)
        graph = itself.finished()

        def make() -> Graph:
            given = [*graph.inputs, *(tangent_type(graph.inputs[i].type) for i in active)]
            return trace(Pushed(graph.name, runnable(graph), active), given, f"{graph.name}_pushed")

        inside = {"graph": _under_way(itself, ("push", active), make), "types": [*types, *map(tangent_type, types)]}
        found = evaluate(self, [*values, *(tangents[i] for i in active)], inside)
        return push_results(handler, found[: len(types)], found[len(types) :])

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        itself, types = params["graph"], params["types"]
        values, marks = handler.open(operands)
        active = tuple(i for i, m in enumerate(marks) if m is not None)
        still = _still(itself)
        lasting = tuple(i for i in lasting_among(values) if i in still)
        inputs = itself.finished().inputs
        summed = [i for i in active if i in still and inputs[i].shape]
        alone = [i for i in active if i not in summed]
        handler.selects = True
        ways = _ways(itself, active, lasting)
        *found, stack = evaluate(self, values, {"graph": ways.forward, "types": [*types, STACK_TYPE]})

        def pull(cotangents: Sequence[Any], totals: Sequence[Any]) -> list[Any]:
            ways = _ways(itself, active, lasting)
            known = dict(zip(active, totals, strict=True))
            given = [
                TangentSpace(v).zeros() if ct is None else ct
                for v, t, ct in zip(found, types, cotangents, strict=True)
                if has_tangents(t)
            ]
            given += [
                TangentSpace(values[i]).zeros()
                if known[i] is None
                else settled_tangent(known[i], inputs[i].type, values[i])
                for i in summed
            ]
            needed = [values[i] for i in ways.needed]
            spaces = [tangent_type(inputs[i].type) for i in (*alone, *summed)]
            pulled = evaluate(self, [stack, *needed, *given], {"graph": ways.backward, "types": spaces})
            by_input = dict(zip((*alone, *summed), pulled, strict=True))
            return [by_input[i] for i in active]

        into = Into(pull, [i in summed for i in active])
        return record_results(handler, found, followed(marks), [spec_of(values[i]) for i in active], into)

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        itself, types = params["graph"], params["types"]
        values, batched = handler.open(operands)
        axis, graph = lane_axis(handler), itself.finished()

        def program(given: Sequence[Any]) -> list[Any]:
            lanes = Lanes(runnable(graph), batched, axis)
            found = lanes(given)
            return [v if d else to_lanes(v, axis.size) for v, d in zip(found, lanes.differs, strict=True)]

        def make() -> Graph:
            given = [lane_type(v.type, axis.size) if b else v for v, b in zip(graph.inputs, batched, strict=True)]
            return trace(program, given, f"{graph.name}_mapped")

        inside = _under_way(itself, ("map", axis.size, axis.name, tuple(batched)), make)
        of_lanes = [lane_type(t, axis.size) for t in types]
        return batch_results(handler, evaluate(self, values, {"graph": inside, "types": of_lanes}))


def _under_way(itself: Itself, key: Any, make: Callable[[], Graph]) -> Itself:
    """What stands for something made of a recursive graph, while that is made as well."""
    found: Itself | None = itself.derived.get(key)
    if found is None:
        found = itself.derived[key] = Itself()
        found.graph = make()
    return found


# ------------------------------------------------------------------------------------------------- forward and back


class _Ways:
    """A recursion that keeps residuals on a stack, and the one that takes them off again.

    Attributes:
        forward: from the inputs to the results and a stack.
        backward: from the stack, the inputs that are needed, the cotangents and the totals to the inputs' cotangents
            and the new totals.
        needed: which inputs the way back is given; a call inside asks before that is known.
    """

    __slots__ = ("backward", "forward", "needed")

    def __init__(self, needed: Sequence[int]) -> None:
        self.forward = Itself()
        self.backward = Itself()
        self.needed = needed


_made: ContextVar[list[tuple[Itself, Any]] | None] = ContextVar("made", default=None)
"""While ways are being made, those that have been made so far: they rely on each other."""


def _ways(itself: Itself, active: tuple[int, ...], lasting: tuple[int, ...]) -> _Ways:
    """The ways forward and back by the inputs that are active.

    Numbers are given to the way back, and what all calls have in common is.  Of other arrays it is hoped that it needs
    parts at most: each call would keep them whole.  Where one is needed all is made again.
    """
    key = ("ways", active, lasting, guarding.get())
    known: _Ways | None = itself.derived.get(key)
    if known is not None:
        return known
    graph, still = itself.finished(), _still(itself)
    summed = [i for i in active if i in still and graph.inputs[i].shape]
    alone = [i for i in active if i not in summed]
    needed = {i for i, v in enumerate(graph.inputs) if i in still or not v.shape}
    around = _made.get()
    made: list[tuple[Itself, Any]] = []
    token = _made.set(made)
    try:
        while True:
            made.append((itself, key))
            found = itself.derived[key] = _Ways(sorted(needed))
            parts = split(runnable(_anew(graph)), graph.inputs, alone, summed, lasting=lasting)
            if needed.issuperset(parts.inputs):
                break
            needed.update(parts.inputs)
            for other, its_key in made:
                other.derived.pop(its_key, None)
            made.clear()
    finally:
        _made.reset(token)
        if around is not None:
            around += made
    _make_both(found, parts, graph, (*alone, *summed), len(summed))
    return found


def _make_both(ways: _Ways, parts: Split, graph: Graph, active: Sequence[int], totals: int) -> None:
    """Make both ways of halves; the last of the active inputs have totals."""
    count = len(graph.outputs)
    inputs = parts.forward.inputs

    def forward(given: Sequence[Any]) -> list[Any]:
        found = interpret(parts.forward, list(given))
        return [*found[:count], put_all(EMPTY, found[count:])]

    def backward(given: Sequence[Any]) -> list[Any]:
        values = dict(zip(ways.needed, given[1:], strict=False))
        rest = given[1 + len(ways.needed) :]
        return go_back(parts, count, given[0], {inputs[i]: values[i] for i in parts.inputs}, rest)[1]

    cts = [tangent_type(v.type) for v in graph.outputs if has_tangents(v.type)]
    cts += [tangent_type(graph.inputs[i].type) for i in active[len(active) - totals :]]
    ways.forward.graph = trace(forward, graph.inputs, graph.name)
    needed = [graph.inputs[i] for i in ways.needed]
    ways.backward.graph = trace(backward, [STACK_TYPE, *needed, *cts], graph.name)


def _still(itself: Itself) -> frozenset[int]:
    """The inputs that all calls have in common."""
    found = itself.derived.get("still")
    if found is None:
        graph = itself.finished()
        same = set(range(len(graph.inputs)))
        _look(graph, {v: i for i, v in enumerate(graph.inputs)}, itself, same)
        found = itself.derived["still"] = frozenset(same)
    same_everywhere: frozenset[int] = found
    return same_everywhere


def _look(graph: Graph, origin: Mapping[Value, int], itself: Itself, same: set[int]) -> None:
    """Leave those inputs of a recursion which its calls in a graph hand on; `origin` says which values are inputs."""
    for node in graph.nodes:
        if node.op is recur:
            mine = node.params["graph"] is itself
            same.intersection_update(i for i, v in enumerate(node.operands) if mine and origin.get(v) == i)
        for region in node.regions.values():
            handed = {inner(node, region, i): origin[v] for i in captured(node) if (v := node.operands[i]) in origin}
            _look(region, handed, itself, same)


def _anew(graph: Graph) -> Graph:
    """A graph of which nothing has been made yet, nor of the regions in it."""
    return Graph(graph.inputs, [on_regions(node, _anew) for node in graph.nodes], graph.outputs, graph.name)


recur = _Recur("recur")
