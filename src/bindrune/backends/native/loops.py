"""Loop programs: what a graph is lowered to, before it becomes instructions.

A program is a list of statements over *buffers* (arrays in memory, row-major, whose lengths may be known only at run
time) and *variables* (numbers, assigned once).  `For` is every loop: the nests that compute arrays, whose iterations
may run in any order, and the loops of the user's program, whose iterations may not (`ordered`).  Indices are per
dimension and affine in the loops' variables wherever the program's are, so that passes can see which iterations touch
the same element.

Expressions are trees of named operations on elements; their meaning is NumPy's, and the choice of instructions is the
next layer's.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .views import View

__all__ = [
    "INTEGER",
    "Accumulate",
    "Affine",
    "Allocate",
    "Apply",
    "Buffer",
    "Check",
    "Const",
    "Expression",
    "For",
    "HostCall",
    "If",
    "Invoke",
    "Let",
    "LibraryCall",
    "Load",
    "Program",
    "Reserve",
    "Statement",
    "Storage",
    "Store",
    "Swap",
    "Variable",
    "While",
    "affine",
]

INTEGER = np.dtype(np.int64)
"""The type of indices, lengths and Python's integers."""

_UNKNOWN = 64
"""What a length is taken to be that is not known."""


class _Numbers(threading.local):
    """Tells the variables and storages of one program apart; what is alike has the same numbers in every process."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._count = itertools.count()

    def __next__(self) -> int:
        return next(self._count)


_numbers = _Numbers()

# ------------------------------------------------------------------------------------------------------ expressions


class Expression:
    """A number computed from others."""

    __slots__ = ("dtype",)

    dtype: np.dtype[Any]


class Const(Expression):
    """A number that is known."""

    __slots__ = ("value",)

    def __init__(self, value: Any, dtype: np.dtype[Any]) -> None:
        self.value = value
        self.dtype = dtype

    def __repr__(self) -> str:
        return repr(self.value.item() if isinstance(self.value, np.generic) else self.value)


class Variable(Expression):
    """A number assigned once: by a `Let`, or by a loop, which counts it from zero up to `below`."""

    __slots__ = ("below", "name", "number")

    def __init__(self, dtype: np.dtype[Any], name: str = "v", below: Affine | None = None) -> None:
        self.dtype = dtype
        self.number = next(_numbers)
        self.name = name
        self.below = below

    def __repr__(self) -> str:
        return f"{self.name}{self.number}"


class Affine(Expression):
    """Integer multiples of variables, plus a constant.  Compared by what it says."""

    __slots__ = ("offset", "terms")

    def __init__(self, terms: tuple[tuple[Variable, int], ...], offset: int) -> None:
        self.terms = terms
        """In the order in which the variables were made."""
        self.offset = offset
        self.dtype = INTEGER

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.terms, self.offset + other) if other else self
        if not other.terms:
            return self + other.offset
        if not self.terms:
            return other + self.offset
        if self.terms[-1][0].number < other.terms[0][0].number:
            return Affine(self.terms + other.terms, self.offset + other.offset)
        sums = dict(self.terms)
        for variable, factor in other.terms:
            sums[variable] = sums.get(variable, 0) + factor
        kept = sorted(((v, f) for v, f in sums.items() if f), key=lambda term: term[0].number)
        return Affine(tuple(kept), self.offset + other.offset)

    def __mul__(self, factor: int) -> Affine:
        if factor == 1:
            return self
        if not factor:
            return Affine((), 0)
        return Affine(tuple((v, f * factor) for v, f in self.terms), self.offset * factor)

    def __sub__(self, other: Affine | int) -> Affine:
        return self + other * -1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and self.offset == other.offset and self.terms == other.terms

    def __hash__(self) -> int:
        return hash((self.terms, self.offset))

    @property
    def known(self) -> int | None:
        """The number it is, if it is one."""
        return None if self.terms else self.offset

    @property
    def guess(self) -> int:
        """The number it is taken to be where something is weighed."""
        return _UNKNOWN if self.terms else self.offset

    def __repr__(self) -> str:
        parts = [f"{'' if f == 1 else '-' if f == -1 else f'{f}*'}{v}" for v, f in self.terms]
        if self.offset or not parts:
            parts.append(str(self.offset))
        return " + ".join(parts).replace("+ -", "- ")


def affine(x: Any) -> Affine:
    """An integer, a constant or an integer variable as an affine expression."""
    if isinstance(x, Affine):
        return x
    if isinstance(x, Variable):
        return Affine(((x, 1),), 0)
    return Affine((), int(x.value if isinstance(x, Const) else x))


class Load(Expression):
    """An element of a buffer."""

    __slots__ = ("buffer", "index")

    def __init__(self, buffer: Buffer, index: tuple[Affine, ...]) -> None:
        self.buffer = buffer
        self.index = index
        self.dtype = buffer.dtype

    def __repr__(self) -> str:
        return _element(self.buffer, self.index)


class Apply(Expression):
    """An operation on elements, by NumPy's name for it."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, arguments: tuple[Expression, ...], dtype: np.dtype[Any]) -> None:
        self.name = name
        self.arguments = arguments
        self.dtype = dtype

    def __repr__(self) -> str:
        name = self.dtype.name if self.name == "convert" else self.name
        return f"{name}({', '.join(map(repr, self.arguments))})"


# ---------------------------------------------------------------------------------------------------------- buffers


class Storage:
    """A piece of memory.

    Attributes:
        role: where it comes from: "input", "constant", "output", "temporary", "lent" for what a routine is given to
            work in, or "tape".
        position: which input, constant or output it is.
        start: where on the tape it begins, in bytes.
        shape: the lengths whose product is the number of elements it has room for.
        viewers: the values that are still needed and lie in it, while the program is lowered: for each who keeps its
            location, and under which key, and the statements of the region where it is kept.
        pins: how many others need what it holds.
    """

    __slots__ = ("dtype", "name", "pins", "position", "role", "shape", "start", "viewers")

    def __init__(self, dtype: np.dtype[Any], shape: tuple[Affine, ...], role: str, position: int = -1) -> None:
        self.dtype = dtype
        self.shape = shape
        self.role = role
        self.position = position
        self.name = f"{role[0]}{next(_numbers) if position < 0 else position}"
        self.viewers: dict[tuple[int, Any], Any] = {}
        self.pins = 0
        self.start: Affine | None = None

    @property
    def needed(self) -> bool:
        """Whether anything that is still needed lies in it."""
        return bool(self.viewers or self.pins)

    @property
    def size(self) -> int | None:
        """The number of elements, where it is known."""
        size = 1
        for n in self.shape:
            if n.known is None:
                return None
            size *= n.known
        return size


class Buffer:
    """An array: some storage under a shape, in C's order."""

    __slots__ = ("shape", "storage")

    def __init__(self, storage: Storage, shape: tuple[Affine, ...]) -> None:
        self.storage = storage
        self.shape = shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self.storage.dtype

    def __repr__(self) -> str:
        return f"{self.storage.name}: {self.dtype}[{', '.join(map(repr, self.shape))}]"


def _element(buffer: Buffer, index: Sequence[Affine]) -> str:
    if buffer.storage.start is not None:
        return f"tape({buffer.storage.start})[{', '.join(map(repr, index))}]"
    return f"{buffer.storage.name}[{', '.join(map(repr, index))}]"


# ------------------------------------------------------------------------------------------------------- statements


class Statement:
    """Something done."""

    __slots__ = ()

    def lines(self) -> Iterator[str]:
        """Its text."""
        raise NotImplementedError

    @property
    def blocks(self) -> tuple[list[Statement], ...]:
        """The lists of statements in it."""
        return ()


def _indented(block: Iterable[Statement]) -> Iterator[str]:
    for statement in block:
        for line in statement.lines():
            yield f"    {line}"


class Allocate(Statement):
    """Make room in a storage whose size only the running program knows."""

    __slots__ = ("storage",)

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def lines(self) -> Iterator[str]:
        lengths = ", ".join(map(repr, self.storage.shape))
        yield f"allocate {self.storage.name}: {self.storage.dtype}[{lengths}]"


class Reserve(Statement):
    """Make room on the tape up to a place."""

    __slots__ = ("top",)

    def __init__(self, top: Affine) -> None:
        self.top = top

    def lines(self) -> Iterator[str]:
        yield f"reserve {self.top}"


class Swap(Statement):
    """Let two storages of one size change places."""

    __slots__ = ("first", "second")

    def __init__(self, first: Storage, second: Storage) -> None:
        self.first = first
        self.second = second

    def lines(self) -> Iterator[str]:
        yield f"swap {self.first.name}, {self.second.name}"


class Let(Statement):
    """Give a variable its value."""

    __slots__ = ("value", "variable")

    def __init__(self, variable: Variable, value: Expression) -> None:
        self.variable = variable
        self.value = value

    def lines(self) -> Iterator[str]:
        yield f"{self.variable} = {self.value}"


class Store(Statement):
    """Write an element."""

    __slots__ = ("buffer", "index", "value")

    def __init__(self, buffer: Buffer, index: tuple[Affine, ...], value: Expression) -> None:
        self.buffer = buffer
        self.index = index
        self.value = value

    def lines(self) -> Iterator[str]:
        yield f"{_element(self.buffer, self.index)} = {self.value}"


class Accumulate(Statement):
    """Combine an element with a value by an operation, whose order over iterations may be changed."""

    __slots__ = ("buffer", "index", "name", "value")

    def __init__(self, name: str, buffer: Buffer, index: tuple[Affine, ...], value: Expression) -> None:
        self.name = name
        self.buffer = buffer
        self.index = index
        self.value = value

    def lines(self) -> Iterator[str]:
        yield f"{_element(self.buffer, self.index)} <- {self.name}({self.value})"


class For(Statement):
    """A counted loop; not `ordered` where its iterations are independent of each other, up to accumulations."""

    __slots__ = ("body", "extent", "ordered", "variable")

    def __init__(self, variable: Variable, extent: Affine, body: list[Statement], ordered: bool) -> None:
        self.variable = variable
        self.extent = extent
        self.body = body
        self.ordered = ordered

    @property
    def blocks(self) -> tuple[list[Statement], ...]:
        return (self.body,)

    def lines(self) -> Iterator[str]:
        yield f"for {self.variable} {'in order ' if self.ordered else ''}below {self.extent}:"
        yield from _indented(self.body)


class While(Statement):
    """A loop that goes on as long as the one element of a buffer is true."""

    __slots__ = ("body", "going")

    def __init__(self, going: Buffer, body: list[Statement]) -> None:
        self.going = going
        self.body = body

    @property
    def blocks(self) -> tuple[list[Statement], ...]:
        return (self.body,)

    def lines(self) -> Iterator[str]:
        yield f"while {_element(self.going, ())}:"
        yield from _indented(self.body)


class If(Statement):
    """One of two blocks."""

    __slots__ = ("condition", "otherwise", "then")

    def __init__(self, condition: Expression, then: list[Statement], otherwise: list[Statement]) -> None:
        self.condition = condition
        self.then = then
        self.otherwise = otherwise

    @property
    def blocks(self) -> tuple[list[Statement], ...]:
        return (self.then, self.otherwise)

    def lines(self) -> Iterator[str]:
        yield f"if {self.condition}:"
        yield from _indented(self.then)
        if self.otherwise:
            yield "else:"
            yield from _indented(self.otherwise)


class Check(Statement):
    """Stop the program where a condition does not hold, for a reason that the host knows by its number."""

    __slots__ = ("condition", "reason", "values")

    def __init__(self, condition: Expression, reason: int, values: tuple[Expression, ...]) -> None:
        self.condition = condition
        self.reason = reason
        self.values = values
        """What the host is told."""

    def lines(self) -> Iterator[str]:
        yield f"check {self.condition} or stop for reason {self.reason}: {', '.join(map(repr, self.values))}"


class HostCall(Statement):
    """Let the host perform an operation, known to it by its number."""

    __slots__ = ("number", "operands", "results")

    def __init__(self, number: int, operands: tuple[View | Expression, ...], results: tuple[View, ...]) -> None:
        self.number = number
        self.operands = operands
        self.results = results

    def lines(self) -> Iterator[str]:
        yield f"{', '.join(map(repr, self.results)) or '-'} = host {self.number}({', '.join(map(repr, self.operands))})"


class LibraryCall(Statement):
    """Let a library perform an operation on matrices."""

    __slots__ = ("name", "operands", "result")

    def __init__(self, name: str, operands: tuple[View, ...], result: View) -> None:
        self.name = name
        self.operands = operands
        self.result = result

    def lines(self) -> Iterator[str]:
        yield f"{self.result} = {self.name}({', '.join(map(repr, self.operands))})"


class Invoke(Statement):
    """Run a routine of the program: numbers are given by value, arrays where their consecutive elements lie.

    Numbers among the results go to cells, arrays where they are to lie; what a routine is lent it changes.
    """

    __slots__ = ("operands", "results", "routine")

    def __init__(self, routine: Program, operands: tuple[View | Expression, ...], results: tuple[View, ...]) -> None:
        self.routine = routine
        self.operands = operands
        self.results = results

    def lines(self) -> Iterator[str]:
        results = ", ".join(map(repr, self.results)) or "-"
        yield f"{results} = {self.routine.name}({', '.join(map(repr, self.operands))})"


# ---------------------------------------------------------------------------------------------------------- programs


class Program:
    """A loop program, and what the host must know of it; or a routine of one, which may call itself.

    Attributes:
        inputs: the storages of the arguments, in order.
        constants: storages with the arrays they hold.
        outputs: the storages of the results, in order.
        body: what is done.
        calls: the operations that are left to the host, by number.
        reasons: why the program may stop, by number.
        routines: its routines, which share all this with it but for arguments, results and what they do.
    """

    __slots__ = ("body", "calls", "constants", "inputs", "name", "outputs", "reasons", "routines")

    def __init__(self, name: str) -> None:
        _numbers.restart()
        self.name = name
        self.inputs: list[Storage] = []
        self.constants: list[tuple[Storage, np.ndarray[Any, Any]]] = []
        self.outputs: list[Storage] = []
        self.body: list[Statement] = []
        self.calls: list[Any] = []
        self.reasons: list[Any] = []
        self.routines: list[Program] = []

    def routine(self) -> Program:
        """One more routine."""
        made = Program.__new__(Program)
        made.name = f"routine{len(self.routines)}"
        made.inputs, made.outputs, made.body = [], [], []
        made.constants, made.calls, made.reasons = self.constants, self.calls, self.reasons
        made.routines = self.routines
        self.routines.append(made)
        return made

    def __str__(self) -> str:
        def declared(storage: Storage) -> str:
            return f"{storage.name}: {storage.dtype}[{', '.join(map(repr, storage.shape))}]"

        inputs = ", ".join(map(declared, [*self.inputs, *(storage for storage, _ in self.constants)]))
        outputs = ", ".join(map(declared, self.outputs))
        routines = [] if self in self.routines else map(str, self.routines)
        return "\n".join([f"{self.name}({inputs}) -> {outputs}:", *_indented(self.body), *routines])
