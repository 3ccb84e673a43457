"""Graphs: programs in functional static single assignment.

A `Graph` has input values, nodes and output values.  A `Node` performs an operation on values and defines new ones;
its parameters are static, and may contain graphs (the *regions* of a loop, a branch, a call) and lengths that depend
on values (`Dim`).  A `Value` has a type: shape, dtype and *form*, which tells an array from a NumPy number and from a
Python one, because NumPy's promotion and its results do.  A `Literal` is a value that is known.

Nothing changes once it is built.  The order of nodes is a topological order, and the order in which effects (checks,
prints, guards) happen; everything else may be moved.  A region sees no values but its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..core.array import dtype_of
from ..core.operation import Op
from ..core.stack import STACK, Stack
from .dims import Dim, Length, substitute, values_in

__all__ = [
    "ARRAY",
    "NUMBER",
    "PYTHON",
    "STACK_TYPE",
    "Graph",
    "Literal",
    "Node",
    "Reference",
    "Type",
    "Value",
    "rename",
    "type_of",
]

ARRAY, NUMBER, PYTHON = "array", "number", "python"
"""The forms of a value: an `ndarray`, a NumPy number, a number of Python's."""


class Type(NamedTuple):
    """What is known of a value before the program runs."""

    shape: tuple[Length, ...]
    dtype: np.dtype[Any]
    form: str = ARRAY

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)


STACK_TYPE = Type((), STACK, "stack")
"""The type of every stack."""


def type_of(content: Any) -> Type:
    """The type of an array, a number or a stack."""
    if isinstance(content, Stack):
        return STACK_TYPE
    if isinstance(content, np.ndarray):
        return Type(content.shape, content.dtype, ARRAY)
    return Type((), dtype_of(content), NUMBER if isinstance(content, np.generic) else PYTHON)


class _Fixed:
    """What does not change once it is made: each attribute is set once."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(self, name) and not name.startswith("_"):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be changed: graphs are immutable; make another")
        object.__setattr__(self, name, value)


class Value:
    """A value of a program, defined once: by being an input, or by a node."""

    __slots__ = ("dtype", "form", "shape", "stage")

    shape: tuple[Length, ...]
    dtype: np.dtype[Any]
    form: str

    def __init__(self, type: Type) -> None:
        self.shape, self.dtype, self.form = type
        self.stage: Any = None
        """Who is staging the program it belongs to, while that is under way."""

    @property
    def type(self) -> Type:
        """Shape, dtype and form."""
        return Type(self.shape, self.dtype, self.form)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.dtype}{list(self.shape)}>"


class Literal(Value):
    """A value that is known: an array, which is held and never copied, or a number."""

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        super().__init__(type_of(content))
        self.content = content


class Node(_Fixed):
    """One operation performed: `results` from `operands`.

    Attributes:
        op: the operation.
        operands: the values it is performed on.
        params: its static parameters by name; graphs among them are its regions.
        results: the values it defines.
        line: the user's line it came from, as ``file:line, in function``.
    """

    __slots__ = ("line", "op", "operands", "params", "results", "sizes")

    def __init__(
        self,
        op: Op,
        operands: Sequence[Value],
        params: Mapping[str, Any],
        results: Sequence[Value],
        line: str = "",
    ) -> None:
        self.op = op
        self.operands = tuple(operands)
        self.params = MappingProxyType(dict(params))
        self.results = tuple(results)
        self.line = line
        self.sizes: tuple[Value, ...] = tuple(values_in(self.params.copy()))
        """The values that lengths among its parameters are made of."""

    @property
    def regions(self) -> dict[str, Graph]:
        """The graphs among its parameters."""
        return {name: p for name, p in self.params.items() if isinstance(p, Graph)}

    @property
    def uses(self) -> tuple[Value, ...]:
        """Every value it needs."""
        return self.operands + self.sizes

    @property
    def effect(self) -> bool:
        """Whether it is performed for more than its results."""
        return self.op.effect or any(p.effect for p in self.params.values() if isinstance(p, (Graph, Reference)))

    def __repr__(self) -> str:
        return f"<node {self.op.name}>"


class Reference:
    """What stands among a node's parameters for a graph that is not one of its regions: the one around it.

    Attributes:
        effect: whether that is performed for more than its results.
    """

    effect: bool


class Graph(_Fixed):
    """A program: from `inputs` to `outputs` by `nodes`."""

    __slots__ = ("__weakref__", "_last_uses", "derived", "inputs", "name", "nodes", "outputs")

    def __init__(
        self, inputs: Sequence[Value], nodes: Sequence[Node], outputs: Sequence[Value], name: str = "main"
    ) -> None:
        self.inputs = tuple(inputs)
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)
        self.name = name
        self.derived: dict[Any, Any] = {}
        """What has been made from this graph (its derivatives, its machine code), by what asked for it."""
        self._last_uses: list[tuple[Value, ...]] | None = None

    @property
    def last_uses(self) -> list[tuple[Value, ...]]:
        """For each node the values that no later node and no output needs."""
        if self._last_uses is None:
            needed = set(self.outputs)
            needed.update(values_in([v.shape for v in self.outputs]))
            found: list[tuple[Value, ...]] = []
            for node in reversed(self.nodes):
                dying = {v for v in (*node.uses, *node.results) if v not in needed and not isinstance(v, Literal)}
                needed |= dying
                found.append(tuple(dying))
            self._last_uses = found[::-1]
        return self._last_uses

    @property
    def effect(self) -> bool:
        """Whether it is performed for more than its results."""
        return any(node.effect for node in self.nodes)

    def values(self) -> Iterator[Value]:
        """Every value, in order of definition; literals where they are first used."""
        seen: set[int] = set()
        for value in (*self.inputs, *(v for n in self.nodes for v in (*n.uses, *n.results)), *self.outputs):
            if id(value) not in seen:
                seen.add(id(value))
                yield value

    def size(self) -> int:
        """The number of nodes, those of regions included."""
        return len(self.nodes) + sum(region.size() for node in self.nodes for region in node.regions.values())

    def __str__(self) -> str:
        from .text import to_text

        return to_text(self, exact=False)

    def _repr_html_(self) -> str:
        from .pictures import to_html

        return to_html(self)

    def __repr__(self) -> str:
        return f"<graph {self.name}: {len(self.inputs)} inputs, {self.size()} nodes, {len(self.outputs)} outputs>"


def rename(content: Any, replacement: Mapping[Value, Value]) -> Any:
    """Parameters or a shape with other values in their lengths."""

    def renamed(dim: Dim) -> Length:
        found: Length = dim.offset
        for value, factor in dim.terms.items():
            value = replacement.get(value, value)
            found = (value.content * factor if isinstance(value, Literal) else Dim({value: factor}, 0)) + found
        return found

    return substitute(content, renamed)
