"""Lowering: from a graph to a loop program.

Node by node, each value gets a *location*: a number is an expression, an array a view of a buffer.  What only
rearranges elements makes another view; what computes makes a nest of loops; what updates an array writes into its
buffer if nothing that is still needed lies there, and into a copy if something does.  Which nests become one is a
later layer's business.

The rules for families of operations are in files of their own, and enter themselves in `rules`.  A node without a rule,
or whose rule answers NotImplemented, is left to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ...core.operation import Elementwise, Op
from ...core.stack import STACK
from ...graph.dims import Dim, Length, values_in
from ...graph.graph import PYTHON, Graph, Literal, Node, Type, Value
from .elements import Meaning, apply, convert, meaning
from .integers import keep_exact
from .loops import (
    INTEGER,
    Affine,
    Allocate,
    Apply,
    Buffer,
    Check,
    Const,
    Expression,
    For,
    HostCall,
    Let,
    Load,
    Program,
    Statement,
    Storage,
    Store,
    Variable,
    affine,
)
from .pieces import is_uniform
from .ranges import largest, nonnegative
from .schedule import scheduled
from .views import View, broadcast, whole

__all__ = [
    "FIRST",
    "HostEntry",
    "Location",
    "Lowering",
    "Reason",
    "Rule",
    "UnlowerableError",
    "as_given",
    "broadcast_lengths",
    "convert",
    "left_to_the_host",
    "rule",
    "rules",
]

Location = Expression | View
"""Where a value is: a number as an expression, an array as a view."""

Rule = Callable[["Lowering", Node, list[Location]], Any]
"""Lowers a node: its results' locations, from those of its operands.  NotImplemented leaves it to the host."""

rules: dict[str, Rule] = {}
"""By the name of the operation."""


class UnlowerableError(Exception):
    """A program that is not one for machines."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter a rule for some operations."""

    def entered(lowers: Rule) -> Rule:
        rules.update(dict.fromkeys(names, lowers))
        return lowers

    return entered


class HostEntry(NamedTuple):
    """What the host performs when it is called."""

    op: Op
    params: dict[str, Any]
    operands: tuple[Type, ...]
    """Those of the operation, then the values that the lengths among its parameters are made of."""
    results: tuple[Type, ...]
    sizes: tuple[Value, ...]
    line: str


class Reason(NamedTuple):
    """Why a program stops: an operation that raises for some numbers, which the host performs to see what it says."""

    node: Node
    explain: Callable[..., Any]
    """Raises the error, given the values that the program reported."""
    values: tuple[np.dtype[Any], ...]


class Lowering:
    """Lowers one graph, and the regions in it."""

    def __init__(self, program: Program, libraries: bool = True) -> None:
        self.program = program
        self.libraries = libraries
        """Whether libraries can be called."""
        self.program_inputs: set[Value] = set()
        self.block: list[Statement] = program.body
        self.places: dict[Value, Location] = {}
        """Where the values of the region at hand are."""
        self.users: dict[Value, list[Node | None]] = {}
        """By value of the region at hand the nodes that use it, None where it is an output."""
        self.dying: set[Value] = set()
        """The values that the node at hand is the last to use."""
        self.known_stack: Callable[[Any], Location]
        """The location of a stack that is known."""
        self.stack_at: Callable[[Affine], Location]
        """The location of a stack that others may reach, from its place on the tape."""
        self.place_of: Callable[[Any], Affine]
        """The place of a stack on the tape."""
        self.zeros = False
        """Whether something may be popped from a stack on which nothing is left."""
        self.pushing = False
        """Whether the loop at hand puts anything on the tape."""
        self.facts: list[Affine] = []
        """Expressions that were checked not to be negative."""
        self.definitions: dict[Variable, Expression] = {}
        """What variables were given as their value."""
        self.rearranged: Callable[[Graph], Graph]
        """A graph in the form in which graphs are lowered."""
        self.routines: dict[Any, Any] = {}
        """What is known of the program's routines, by what they are made from."""
        self.open = [self.block]
        """The blocks of statements around the place at hand, and the one at hand."""
        self._constants: dict[int, tuple[View, list[Statement]]] = {}
        self._tape: Buffer | None = None

    def run(self, graph: Graph) -> None:
        """Lower the whole program."""
        crosses = any(v.dtype == STACK for v in (*graph.inputs, *graph.outputs))
        self.take(graph, crosses)
        self.nodes(graph)
        self.give(graph, range(len(graph.outputs)), crosses)

    def take(self, graph: Graph, crosses: bool, lent: Collection[int] = ()) -> None:
        """Let a graph's inputs lie where they are given, and the tape go on where it does if it crosses the border.

        Those at some positions are lent: they may be written.
        """
        if crosses:
            used = self._scalar("input", len(graph.inputs), self.program.inputs)
            self.do(Store(self.tape, (), Load(used, ())))
        self.program_inputs = set(graph.inputs)
        for i, value in enumerate(graph.inputs):
            if not value.shape:
                self._input(i, value, "input")
        for i, value in enumerate(graph.inputs):
            if value.shape:
                self._input(i, value, "lent" if i in lent else "input")
        self.program.inputs.sort(key=lambda storage: storage.position)

    def give(self, graph: Graph, positions: Iterable[int], crosses: bool) -> None:
        """Bring some of a graph's outputs where they are to lie; if the tape crosses the border, say where it ends."""
        for i in positions:
            self._output(i, graph.outputs[i])
        if crosses:
            used = self._scalar("output", len(graph.outputs), self.program.outputs)
            self.do(Store(used, (), Load(self.tape, ())))

    def _scalar(self, role: str, position: int, among: list[Storage]) -> Buffer:
        """A number that goes in or out beside the graph's own values."""
        storage = Storage(INTEGER, (), role, position)
        among.append(storage)
        return Buffer(storage, ())

    def _input(self, position: int, value: Value, role: str) -> None:
        if value.dtype == STACK:
            place = self.let(Load(self._scalar("input", position, self.program.inputs), ()), "top")
            self.bind(value, self.stack_at(affine(place)))
            return
        shape = tuple(map(self.length, value.shape))
        storage = Storage(value.dtype, shape, role, position)
        self.program.inputs.append(storage)
        buffer = Buffer(storage, shape)
        if value.shape:
            self.bind(value, whole(buffer))
        else:
            self.bind(value, self.let(Load(buffer, ()), "a"))

    def _output(self, position: int, value: Value) -> None:
        found = self.locate(value)
        if value.dtype == STACK:
            self.do(Store(self._scalar("output", position, self.program.outputs), (), self.place_of(found)))
            return
        if isinstance(found, View):
            storage = found.storage
            if storage.role == "temporary" and found.contiguous and storage.size is not None and storage.shape:
                storage.role, storage.position = "output", position
                storage.name = f"o{position}"
                self.program.outputs.append(storage)
                return
            made = self.array(value.dtype, found.shape, Storage(value.dtype, found.shape, "output", position))
            self.program.outputs.append(made.storage)
            if any(v not in self.program_inputs for v in values_in(value.shape)):
                self.do(HostCall(MAKE_ROOM - position, tuple(found.shape), (made,)))
            self.copy(made, found)
            return
        storage = Storage(value.dtype, (), "output", position)
        self.program.outputs.append(storage)
        self.do(Store(Buffer(storage, ()), (), found))

    # ----------------------------------------------------------------------------------------------------- values

    def locate(self, value: Value) -> Location:
        """Where a value is."""
        if not isinstance(value, Literal):
            return self.places[value]
        content = value.content
        if value.dtype == STACK:
            return self.known_stack(content)
        if not value.shape:
            if value.dtype == INTEGER:
                return affine(int(content))
            return Const(np.asarray(content)[()], value.dtype)
        view, block = self._constants.get(id(content), (None, None))
        if view is None or not any(block is b for b in self.open):
            # What one block makes is not there in another that does not lie in it, such as a branch's other side.
            view, block = self._constants[id(content)] = self.constant(content), self.block
        return view

    def constant(self, content: np.ndarray[Any, Any]) -> View:
        """A known array; one number stands for an array of equal ones."""
        shape = tuple(map(affine, content.shape))
        if is_uniform(content):
            return self.uniform(Const(content.flat[0], content.dtype), shape)
        storage = Storage(content.dtype, shape, "constant", len(self.program.constants))
        self.program.constants.append((storage, np.ascontiguousarray(content)))
        return whole(Buffer(storage, shape))

    def uniform(self, x: Expression, shape: tuple[Affine, ...]) -> View:
        """An array of equal elements."""
        cell = Buffer(Storage(x.dtype, (), "temporary"), ())
        self.do(Store(cell, (), x))
        return broadcast(whole(cell), shape)

    def bind(self, value: Value, location: Location) -> None:
        """Say where a value is."""
        self.places[value] = location
        self.need(location, self.places, value)

    def need(self, location: Location, container: Any, key: Any) -> None:
        """Something keeps a location under a key, and needs it from here on."""
        if isinstance(location, View):
            location.storage.viewers[id(container), key] = container, self.block

    def release(self, value: Value) -> None:
        """A value is not needed any more."""
        location = self.places.get(value)
        if isinstance(location, View):
            location.storage.viewers.pop((id(self.places), value), None)

    def move_out(self, storage: Storage) -> bool:
        """Let what is needed of a storage lie elsewhere, where that is less than the storage; whether it was done.

        What is needed around a region leaves before the region: a side of a branch may not run.

        Parts of a length known only at run time are taken to be less: the step that reads them has as much to do
        anyway, and not with the rest.
        """
        views = [container[key] for (_, key), (container, _) in storage.viewers.items()]
        if storage.pins:
            return False
        sizes = [_size(view.shape) for view in views if not _is_part_of_some_length(view)]
        if sizes and (storage.size is None or None in sizes or sum(n or 0 for n in sizes) >= storage.size):
            return False
        for (_, key), (container, block) in list(storage.viewers.items()):
            with self.inside(block):
                container[key] = self.fresh(container[key])
                self.need(container[key], container, key)
        storage.viewers.clear()
        return True

    def length(self, n: Length) -> Affine:
        """A length as an expression."""
        if not isinstance(n, Dim):
            return affine(n)
        found = affine(n.offset)
        for value, factor in n.terms.items():
            x = self.locate(value)
            found = found + affine(self.let(self.number(x))) * factor
        return found

    def number(self, x: Location) -> Expression:
        """A value without axes as an expression."""
        return x.load(()) if isinstance(x, View) else x

    def shape(self, x: Location) -> tuple[Affine, ...]:
        """The lengths of a value's axes."""
        return x.shape if isinstance(x, View) else ()

    def view(self, x: Location) -> View:
        """A value as an array, which numbers become by being stored."""
        return x if isinstance(x, View) else self.uniform(x, ())

    # ------------------------------------------------------------------------------------------------- statements

    def do(self, statement: Statement) -> None:
        """Write a statement down."""
        self.block.append(statement)

    def let(self, x: Expression, name: str = "v") -> Expression:
        """An expression computed once."""
        if isinstance(x, (Const, Affine)):
            return x
        if isinstance(x, Variable):
            return affine(x) if x.dtype == INTEGER else x
        variable = Variable(x.dtype, name)
        self.definitions[variable] = x
        self.do(Let(variable, x))
        return affine(variable) if x.dtype == INTEGER else variable

    @contextmanager
    def inside(self, block: list[Statement]) -> Iterator[None]:
        """Write statements into another block for a while."""
        outer, self.block = self.block, block
        self.open.append(block)
        try:
            yield
        finally:
            self.open.pop()
            self.block = outer

    @contextmanager
    def nest(self, shape: Sequence[Affine], ordered: bool = False) -> Iterator[tuple[Affine, ...]]:
        """Write statements into a nest of loops over all indices of a shape."""
        index: list[Affine] = []
        outer = self.block
        block = outer
        start = len(outer)
        for n in shape:
            if n.known == 1:
                index.append(affine(0))
                continue
            variable = Variable(INTEGER, "ijklmn"[min(len(index), 5)], n)
            loop = For(variable, n, [], ordered)
            block.append(loop)
            block = loop.body
            index.append(affine(variable))
        with self.inside(block):
            yield tuple(index)
        if any(n.known == 0 for n in shape):
            del outer[start:]

    def array(self, dtype: np.dtype[Any], shape: tuple[Affine, ...], storage: Storage | None = None) -> View:
        """Room for an array."""
        if storage is None:
            storage = Storage(dtype, shape, "temporary")
            if storage.size is None:
                self.do(Allocate(storage))
        return whole(Buffer(storage, shape))

    def copy(self, target: View, source: Location) -> None:
        """Write one array into another of the same shape, or to be broadcast to it."""
        if isinstance(source, View):
            source = broadcast(source, target.shape)
        with self.nest(target.shape) as index:
            x = source.load(index) if isinstance(source, View) else source
            self.do(Store(target.buffer, target.at(index), convert(x, target.dtype)))

    def fresh(self, source: Location, shape: tuple[Affine, ...] | None = None) -> View:
        """A copy of an array of its own."""
        shape = self.shape(source) if shape is None else shape
        if not shape:
            # An array without axes that is written: one element in memory.
            shape = ()
        made = self.array(source.dtype, shape)
        self.copy(made, source)
        return made

    def known(self, x: Affine) -> bool:
        """Whether an expression is known not to be negative: by itself, or by what was checked before."""
        return nonnegative(x) or any(nonnegative(x - fact) for fact in self.facts[-_FACTS:])

    def require(self, x: Affine, node: Node, explain: Callable[..., Any], *values: Expression) -> None:
        """Stop the program where an expression is negative."""
        if not self.known(x):
            self.check(_test("greater_equal", x, affine(0)), node, explain, *values)
            self.facts.append(x)

    def check(self, condition: Expression, node: Node, explain: Callable[..., Any], *values: Expression) -> None:
        """Stop the program unless a condition holds."""
        if isinstance(condition, Const) and condition.value:
            return
        self.program.reasons.append(Reason(node, explain, tuple(v.dtype for v in values)))
        self.do(Check(condition, len(self.program.reasons) - 1, values))

    # ------------------------------------------------------------------------------------------------------ nodes

    @property
    def tape(self) -> Buffer:
        """The place up to which the tape is used."""
        if self._tape is None:
            self._tape = Buffer(Storage(INTEGER, (), "temporary"), ())
            self.program.body.insert(0, Store(self._tape, (), affine(FIRST)))
        return self._tape

    def nodes(self, graph: Graph) -> None:
        """Lower the nodes of a graph whose inputs are bound."""
        graph = scheduled(graph)
        outer, self.users = self.users, _users(graph)
        for node, dying in zip(graph.nodes, graph.last_uses, strict=True):
            operands = [self.locate(v) for v in node.operands]
            results = set(node.results)
            for value in dying:
                if value not in results:
                    self.release(value)
            self.dying = set(dying)
            found = self.perform(node, operands)
            for value, location in zip(node.results, found, strict=True):
                if not value.shape and isinstance(location, View):
                    location = self.let(location.load(()))
                self.bind(value, location)
                if value.form == PYTHON and value.dtype == INTEGER:
                    keep_exact(self, node, operands, location)
            for value in dying:
                if value in results:
                    self.release(value)
        self.users = outer

    def perform(self, node: Node, operands: list[Location]) -> Sequence[Location]:
        """Lower one node."""
        found: Any = NotImplemented
        lowers = rules.get(node.op.name)
        if lowers is not None:
            found = lowers(self, node, operands)
        elif isinstance(node.op, Elementwise):
            found = self.elementwise(node, operands)
        if found is NotImplemented:
            found = self.host(node, operands)
        return (found,) if isinstance(found, (Expression, View)) else found

    # ------------------------------------------------------------------------------------------------ elementwise

    def elementwise(self, node: Node, operands: list[Location]) -> Any:
        """An operation on corresponding elements."""
        (result,) = node.results
        means = meaning(node.op.name, node.operands, result)
        if means is None:
            return NotImplemented
        if not result.shape:
            numbers = [self.number(x) for x in operands]
            self.demand(node, means, numbers)
            return self.let(apply(means, numbers))
        return self.map(lambda *x: apply(means, x), operands, result.dtype)

    def map(self, function: Callable[..., Expression], operands: Sequence[Location], dtype: np.dtype[Any]) -> View:
        """A nest that computes each element from the corresponding ones of operands."""
        shape = broadcast_lengths([self.shape(x) for x in operands])
        spread = [broadcast(x, shape) if isinstance(x, View) else x for x in operands]
        made = self.array(dtype, shape)
        with self.nest(shape) as index:
            elements = [x.load(index) if isinstance(x, View) else x for x in spread]
            self.do(Store(made.buffer, made.at(index), function(*elements)))
        return made

    def demand(self, node: Node, means: Meaning, operands: Sequence[Expression]) -> None:
        """Where Python's operation on numbers would raise, let it."""

        def perform(*found: Any) -> None:
            node.op.implementation(*as_given(found, node.operands))

        if means.careful == "divisor":
            divisor = convert(operands[1], means.sources[1])
            holds = _test("not_equal", divisor, Const(0, divisor.dtype))
            self.check(holds, node, perform, *operands)
        elif means.careful == "exponent":
            self.check(_test("greater_equal", operands[1], Const(0, INTEGER)), node, perform, *operands)
        elif means.careful == "finite":
            found = apply(means, operands)
            finite = _finite(found)
            for x in operands:
                finite = Apply("logical_or", (finite, Apply("logical_not", (_finite(x),), np.dtype(bool))), BOOL)
            self.check(finite, node, perform, *operands)

    # ------------------------------------------------------------------------------------------------------- host

    def host(self, node: Node, operands: list[Location]) -> list[Location]:
        """Leave a node to the host."""
        if any(v.dtype == STACK for v in (*node.operands, *node.results)):
            raise UnlowerableError(f"{node.op.name} of stacks")
        given: list[Location] = []
        for value, x in zip((*node.operands, *node.sizes), (*operands, *map(self.locate, node.sizes)), strict=True):
            if isinstance(x, View) and not x.shape:
                x = x.load(())
            if isinstance(x, View) and not x.buffer.shape:
                x = self.fresh(x)
            given.append(x if isinstance(x, View) else convert(x, value.dtype))
        results = [self.array(v.dtype, tuple(map(self.length, v.shape))) for v in node.results]
        for i, (value, view) in enumerate(zip(node.results, results, strict=True)):
            if not value.shape:
                results[i] = self.array(value.dtype, (affine(1),)).seen([(affine(0), ())], ())
            del view
        entry = HostEntry(
            node.op,
            node.params.copy(),
            tuple(v.type for v in (*node.operands, *node.sizes)),
            tuple(v.type for v in node.results),
            node.sizes,
            node.line,
        )
        self.program.calls.append(entry)
        self.do(HostCall(len(self.program.calls) - 1, tuple(given), tuple(results)))
        return list(results)


BOOL = np.dtype(bool)

MAKE_ROOM = -1
"""The number of the host's call that makes the first output, when its lengths are known; less for the others."""

_FACTS = 24
"""How many of the last checks are remembered."""

FIRST = 16
"""Where the tape is used from: no place on it is that of an empty stack."""


def _is_part_of_some_length(view: View) -> bool:
    """Whether a view shows some of a storage's elements, and only the running program knows how many."""
    return view.injective and view.partial and any(n.known is None for n in view.shape)


def _size(shape: Sequence[Affine]) -> int | None:
    """The most elements that an array may have, as far as that is known."""
    size = 1
    for n in shape:
        most = n.known if n.known is not None else largest(n)
        if most is None:
            return None
        size *= max(most, 0)
    return size


def _users(graph: Graph) -> dict[Value, list[Node | None]]:
    found: dict[Value, list[Node | None]] = {}
    for node in graph.nodes:
        for value in node.uses:
            if value.dtype == STACK:
                found.setdefault(value, []).append(node)
    for value in graph.outputs:
        if value.dtype == STACK:
            found.setdefault(value, []).append(None)
    return found


def _test(name: str, a: Expression, b: Expression) -> Expression:
    if isinstance(a, Const) and isinstance(b, Const):
        return Const(bool(getattr(np, name)(a.value, b.value)), BOOL)
    return Apply(name, (a, b), BOOL)


def _finite(x: Expression) -> Expression:
    return Apply("isfinite", (convert(x, np.dtype(float)),), BOOL)


def broadcast_lengths(shapes: Sequence[tuple[Affine, ...]]) -> tuple[Affine, ...]:
    """The shape that arrays are broadcast to; a length that is not known is taken to be that of its partners."""
    found: list[Affine] = []
    for axis in range(max(map(len, shapes))):
        lengths = [shape[~axis] for shape in shapes if axis < len(shape)]
        known = [n for n in lengths if n.known is not None and n.known != 1]
        unknown = [n for n in lengths if n.known is None]
        found.append(known[0] if known else unknown[0] if unknown else affine(1))
    return tuple(found[::-1])


def left_to_the_host(*values: Any) -> None:
    """The host performs the whole program when nothing is raised."""


def as_given(numbers: Sequence[Any], values: Sequence[Value]) -> list[Any]:
    """Numbers that the program reported as numbers of NumPy or of Python, as the values are whose they are."""
    return [x.item() if v.form == PYTHON else x for x, v in zip(numbers, values, strict=True)]
