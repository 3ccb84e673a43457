"""Graphs as text: one node a line, which a person can read and `parse` reads back.

::

    f(%0: f64[8], %1: f64[8]):
      %2: f64[8] = sin(%0)                      # model.py:12, in f
      %3: f64[8] = loop(8, %2, %1; carries=1)   # model.py:13, in f
        body = step(%4: int, %5: f64[8], %6: f64[8]):
          %7: f64 = getitem(%6, %4; index=(ARRAY,))
          %8: f64[8] = multiply(%5, %7)
          return %8
      return %3

``%n`` is a value of the program, ``?n`` a length of which it says nothing, ``$n`` an array that is written at the end,
``@n`` a graph that occurs more than once; a type among the parameters follows ``_:``.  Values are numbered as they are
defined.  A region sees no values but its inputs; the values that lengths in it are made of may be those of the graph
around it.

Parameters that are objects of Python's (an error, the rules of a function) appear as ``<...>``, and such text cannot
be parsed.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core.stack import EMPTY, ZEROS
from ..core.symbols import Symbol
from .dims import Dim, Length, Strided
from .graph import Graph, Literal, Node, Type, Value, type_of
from .reading import parse
from .spelling import array_text, bytes_text, dtype_text, few, number_text, type_text

__all__ = ["Writer", "parse", "same", "to_text"]

_NUMBERS = (bool, int, float, complex)

_COLUMN = 80
"""Comments stand in one column, unless a line is longer."""


def to_text(graph: Graph, exact: bool = True) -> str:
    """The text of a graph.

    Args:
        graph: the graph.
        exact: whether large arrays are written in full, so that the text can be parsed.
    """
    return Writer(graph).text(exact)


def same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are the same program: up to their names and their users' lines."""
    first, second = (Writer(g, canonical=True) for g in (a, b))
    return first.text() == second.text() and [*map(id, first.objects)] == [*map(id, second.objects)]


class Writer:
    """Writes one graph; its values have one name each throughout.

    Attributes:
        objects: the parameters met that text cannot say.
    """

    def __init__(self, graph: Graph, canonical: bool = False) -> None:
        self.graph = graph
        self.objects: list[Any] = []
        self._canonical = canonical
        self._scopes: dict[int, ChainMap[Value, str]] = {}
        self._times: Counter[int] = Counter()
        self._labels: dict[int, str] = {}
        self._unbound: dict[Value, str] = {}
        self._constants: dict[Any, tuple[str, np.ndarray[Any, Any]]] = {}
        self._count = 0
        self._number(graph, ChainMap())

    # ------------------------------------------------------------------------------------------------------ names

    def _number(self, graph: Graph, around: ChainMap[Value, str]) -> None:
        self._times[id(graph)] += 1
        if id(graph) in self._scopes:
            return
        scope = self._scopes[id(graph)] = around.new_child()
        self._define(graph.inputs, scope)
        for node in graph.nodes:
            self._define(node.results, scope)
            for _, region in self.regions(node):
                self._number(region, scope)

    def _define(self, values: tuple[Value, ...], scope: ChainMap[Value, str]) -> None:
        for value in values:
            if value not in scope.maps[0]:
                scope[value] = f"%{self._count}"
                self._count += 1

    def regions(self, node: Node) -> list[tuple[str, Graph]]:
        """The regions of a node."""
        found = node.regions.items()
        return sorted(found) if self._canonical else list(found)

    def name(self, value: Value, graph: Graph) -> str:
        """A value as the nodes of a graph write it: its name, or what it is known to be."""
        if isinstance(value, Literal):
            return self.content(value.content, graph)
        name = self._scopes[id(graph)].get(value)
        return name or self._unbound.setdefault(value, f"?{len(self._unbound)}")

    def typed(self, value: Value, graph: Graph) -> str:
        """A value where it is defined, with its type."""
        return f"{self.name(value, graph)}: {self.type(value, graph)}"

    def type(self, value: Value, graph: Graph) -> str:
        """The type of a value."""
        return type_text(value.type, lambda length: self.length(length, graph))

    def length(self, length: Length, graph: Graph) -> str:
        """A length."""
        if not isinstance(length, Dim):
            return str(length)
        known = sum(int(v.content) * f for v, f in length.terms.items() if isinstance(v, Literal))
        names = {v: self.name(v, graph) for v in length.terms if not isinstance(v, Literal)}
        ordered = sorted(names, key=lambda v: (names[v][0], int(names[v][1:])))
        return Dim({v: length.terms[v] for v in ordered}, length.offset + known).text(names.__getitem__) or "0"

    # ------------------------------------------------------------------------------------------------- parameters

    def content(self, x: Any, graph: Graph) -> str:
        """A literal or a parameter."""
        kind = type(x)
        if x is Ellipsis:
            return "..."
        if x is EMPTY or x is ZEROS:
            return "EMPTY" if x is EMPTY else "ZEROS"
        if x is None or kind in (bool, str) or isinstance(x, Symbol):
            return repr(x)
        if kind in (int, float, complex):
            return number_text(x)
        if kind is Dim:
            return self.length(x, graph)
        if kind is Type:
            return f"_: {type_text(x, lambda length: self.length(length, graph))}"
        if kind is tuple:
            parts = ", ".join(self.content(part, graph) for part in x)
            return f"({parts},)" if len(x) == 1 else f"({parts})"
        if kind is list:
            return f"[{', '.join(self.content(part, graph) for part in x)}]"
        if kind is dict:
            return f"{{{', '.join(f'{self.content(k, graph)}: {self.content(v, graph)}' for k, v in x.items())}}}"
        if kind is slice:
            return self._slice(x, graph)
        if kind is Strided:
            return f"strided({', '.join(self.length(part, graph) for part in x)})"
        if isinstance(x, (np.ndarray, np.generic)) and not x.dtype.hasobject:
            return self._array(np.asarray(x), x)
        if isinstance(x, np.dtype) and not x.hasobject:
            return dtype_text(x)
        if isinstance(x, type) and (x in _NUMBERS or issubclass(x, np.generic)):
            return x.__name__ if x in _NUMBERS else f"np.{x.__name__}"
        self.objects.append(x)
        return f"<{x!r}>" if isinstance(x, BaseException) else f"<{getattr(x, '__qualname__', kind.__qualname__)}>"

    def _slice(self, x: slice, graph: Graph) -> str:
        start, stop, step = ("" if part is None else self.content(part, graph) for part in (x.start, x.stop, x.step))
        return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"

    def _array(self, array: np.ndarray[Any, Any], content: Any) -> str:
        if few(array):
            return f"{type_text(type_of(content))}({array_text(array)})"
        key = array.dtype, array.shape, array.tobytes()
        return self._constants.setdefault(key, (f"${len(self._constants)}", array))[0]

    # ------------------------------------------------------------------------------------------------------ lines

    def operation(self, node: Node, graph: Graph) -> str:
        """What a node performs, with its operands and its parameters, regions aside."""
        operands = ", ".join(self.name(v, graph) for v in node.operands)
        plain = sorted((name, x) for name, x in node.params.items() if not isinstance(x, Graph))
        params = ", ".join(f"{name}={self.content(x, graph)}" for name, x in plain)
        return f"{node.op.name}({operands}{'; ' if params else ''}{params})"

    def node(self, node: Node, graph: Graph) -> str:
        """The line of a node, regions aside."""
        results = ", ".join(self.typed(v, graph) for v in node.results)
        return f"{results} = {self.operation(node, graph)}" if results else self.operation(node, graph)

    def header(self, graph: Graph) -> str:
        """The name and the inputs of a graph."""
        name = "graph" if self._canonical else graph.name
        inputs = ", ".join(self.typed(v, graph) for v in graph.inputs)
        return f"{name if name.replace('.', '_').isidentifier() else repr(name)}({inputs}):"

    def outputs(self, graph: Graph) -> str:
        """What a graph gives."""
        return f"return {', '.join(self.name(v, graph) for v in graph.outputs)}".rstrip()

    def _lines(self, graph: Graph, before: str, indent: str) -> Iterator[tuple[str, str]]:
        yield f"{indent}{before}{self.header(graph)}", ""
        indent += "  "
        for node in graph.nodes:
            yield indent + self.node(node, graph), "" if self._canonical else node.line
            for name, region in self.regions(node):
                yield from self._region(name, region, indent + "  ")
        yield indent + self.outputs(graph), ""

    def _region(self, name: str, region: Graph, indent: str) -> Iterator[tuple[str, str]]:
        label = self._labels.get(id(region))
        if label is not None:
            yield f"{indent}{name} = {label}", ""
            return
        if self._times[id(region)] > 1:
            label = self._labels[id(region)] = f"@{len(self._labels)}"
        yield from self._lines(region, f"{name} {label} = " if label else f"{name} = ", indent)

    def text(self, exact: bool = True) -> str:
        """The whole text."""
        lines = list(self._lines(self.graph, "", ""))
        column = min(max((len(text) for text, line in lines if line), default=0), _COLUMN)
        written = [f"{text:{column}}  # {line}" if line else text for text, line in lines]
        if self._constants:
            written.append("where")
        for name, array in self._constants.values():
            start = ", ".join(map(number_text, array.flat[:3])) if array.dtype.kind in "biufc" else ""
            content = bytes_text(array) if exact else f"{start}, ..."
            written.append(f"  {name} = {type_text(type_of(array))}({content})")
        return "\n".join(written) + "\n"
