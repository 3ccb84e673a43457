"""The text of a graph, read: each line by a small grammar, the regions of a node after its line.

Indentation is for the eye; a graph begins with a name and inputs, and ends with ``return``.  Lines, names and types are
taken as they stand: whether they make a program is for `check_graph` to say.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..core.errors import GraphError
from ..core.operation import Op, registry
from ..core.protocol import hooks
from ..core.stack import EMPTY, ZEROS
from ..core.symbols import symbols
from .dims import Length, linear, strided
from .graph import ARRAY, NUMBER, PYTHON, STACK_TYPE, Graph, Literal, Node, Type, Value
from .spelling import PYTHON_DTYPES, array_of, dtype_named, dtype_of_spec

__all__ = ["parse"]

_DIGITS = r"(?:inf|nan|\d+(?:\.\d*)?(?:e[+-]?\d+)?)"
_TOKEN = re.compile(
    rf"""\s*(?:
    (?P<string> '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" )
  | (?P<complex> -?{_DIGITS}[+-]{_DIGITS}j )
  | (?P<number> -?{_DIGITS}(?!\w) )
  | (?P<value> [%?]\d+ )
  | (?P<constant> \$\d+ )
  | (?P<label> @\d+ )
  | (?P<word> [^\W\d]\w*(?:\.[^\W\d]\w*)* )
  | (?P<sign> \.\.\. | [()\[\]{{}},:;=+*-] )
  | (?P<object> <.* )
  | (?P<comment> \#.* )
  | (?P<end> $ )
    )""",
    re.VERBOSE,
)
_INTEGER = re.compile(r"-?\d+")
_UNBOUND = Type((), np.dtype(int), PYTHON)
_WORDS: dict[str, Any] = {"None": None, "True": True, "False": False, "bool": bool, "int": int, "float": float}
_WORDS |= {"complex": complex, "EMPTY": EMPTY, "ZEROS": ZEROS}


def parse(text: str) -> Graph:
    """The graph of a text that `to_text` wrote.

    Raises:
        GraphError: the text is not that of a graph, or holds what text cannot say: an abbreviated array, an object of
            Python's, an operation that is not defined.
    """
    return _Reader(text).program()


class _Reader:
    """Reads lines, one token after the other."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.line = -1
        self.tokens: list[tuple[str, str]] = []
        self.values: dict[str, Value] = {}
        self.defined: set[str] = set()
        self.graphs: dict[str, Graph] = {}
        self.constants: dict[str, Literal] = {}

    # ----------------------------------------------------------------------------------------------------- tokens

    def refuse(self, problem: str) -> NoReturn:
        """Raise for the line at hand."""
        shown = self.lines[self.line].strip() if self.line < len(self.lines) else "the end"
        raise GraphError(f"line {self.line + 1} of the text of a graph: {problem}\n    {shown}")

    def next_line(self) -> None:
        """Go on to the next line that is not empty."""
        self.tokens = []
        while not self.tokens:
            self.line += 1
            if self.line >= len(self.lines):
                self.refuse("the text ends within a graph; its last line is `return`")
            self.tokens = self._split(self.lines[self.line])[::-1]

    def _split(self, text: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        at = 0
        while True:
            match = _TOKEN.match(text, at)
            if match is None:
                self.refuse(f"{text[at:].strip()!r} cannot be read")
            kind = match.lastgroup or ""
            if kind == "end":
                return found
            found.append((kind, match[kind]))
            at = match.end()

    @property
    def ahead(self) -> str:
        """The token that comes next; empty at the end of the line."""
        return self.tokens[-1][1] if self.tokens and self.tokens[-1][0] != "comment" else ""

    @property
    def kind(self) -> str:
        """The kind of the token that comes next."""
        return self.tokens[-1][0] if self.ahead else ""

    def take(self, *wanted: str) -> str:
        """The next token, which is of one of the kinds wanted."""
        if self.kind not in wanted:
            self.refuse(f"expected {' or '.join(wanted)}, found {self.ahead or 'the end of the line'!r}")
        return self.tokens.pop()[1]

    def skip(self, sign: str) -> bool:
        """Pass over a sign, if it comes next."""
        if self.kind == "sign" and self.ahead == sign:
            self.tokens.pop()
            return True
        return False

    def expect(self, sign: str) -> None:
        """Pass over a sign that has to come next."""
        if not self.skip(sign):
            self.refuse(f"expected {sign!r}, found {self.ahead or 'the end of the line'!r}")

    def several(self, end: str, item: Callable[[], Any]) -> list[Any]:
        """Items with commas between them, up to a sign."""
        found: list[Any] = []
        while not self.skip(end):
            if found:
                self.expect(",")
                if self.skip(end):
                    break
            found.append(item())
        return found

    # ----------------------------------------------------------------------------------------------------- graphs

    def program(self) -> Graph:
        """The whole text."""
        self._read_constants()
        self.next_line()
        graph = self.graph()
        if any(line.strip() for line in self.lines[self.line + 1 :]):
            self.next_line()
            self.refuse("the graph has ended before this line")
        missing = [name for name in self.values if name[0] == "%" and name not in self.defined]
        if missing:
            raise GraphError(f"the text of graph {graph.name!r} uses {', '.join(missing)}, which nothing defines")
        return graph

    def _read_constants(self) -> None:
        start = next((i for i, line in enumerate(self.lines) if line.strip() == "where"), None)
        if start is None:
            return
        lines, self.line = self.lines, start
        while any(line.strip() for line in lines[self.line + 1 :]):
            self.next_line()
            name = self.take("constant")
            self.expect("=")
            self.constants[name] = Literal(self.word())
        self.lines, self.line = lines[:start], -1

    def graph(self) -> Graph:
        """A graph, from the line that names it."""
        name = self.take("word", "string")
        if name[0] in "'\"":
            name = ast.literal_eval(name)
        self.expect("(")
        inputs = self.several(")", self.definition)
        self.expect(":")
        self.end_line()
        nodes = []
        self.next_line()
        while self.ahead != "return":
            nodes.append(self.node())
        self.take("word")
        outputs = [self.operand()] if self.kind else []
        while self.skip(","):
            outputs.append(self.operand())
        self.end_line()
        return Graph(inputs, nodes, outputs, name)

    def end_line(self) -> str:
        """The comment, which is all that is left of the line."""
        if self.kind:
            self.refuse(f"unexpected {self.ahead!r}")
        return self.tokens.pop()[1].removeprefix("#").strip() if self.tokens else ""

    def node(self) -> Node:
        """A node and its regions; the line after them is at hand then."""
        results: list[Value] = []
        if self.kind == "value":
            results = [self.definition()]
            while self.skip(","):
                results.append(self.definition())
            self.expect("=")
        op = self.op(self.take("word"))
        self.expect("(")
        operands, params = [], {}
        while not (self.ahead in (")", ";") and self.kind == "sign"):
            operands.append(self.operand())
            if self.ahead not in (")", ";"):
                self.expect(",")
        if self.skip(";"):
            params = dict(self.several(")", self.param))
        else:
            self.expect(")")
        line = self.end_line()
        self.next_line()
        while self.kind == "word" and self.ahead != "return" and len(self.tokens) > 1 and self.tokens[-2][1] != "(":
            name = self.take("word")
            params[name] = self.region()
        return Node(op, operands, params, results, line)

    def region(self) -> Graph:
        """What follows the name of a region."""
        label = self.take("label") if self.kind == "label" else ""
        self.expect("=")
        if not label and self.kind == "label":
            label = self.take("label")
            if label not in self.graphs:
                self.refuse(f"no graph before this line is called {label}")
            graph = self.graphs[label]
            self.end_line()
        else:
            graph = self.graphs[label] = self.graph()
        self.next_line()
        return graph

    def op(self, name: str) -> Op:
        """An operation by name."""
        if name.startswith("special."):
            hooks.special()
        if name.startswith("linalg."):
            hooks.linalg()
        if name not in registry:
            self.refuse(f"there is no operation {name!r}; if it is one of your own, import what defines it first")
        return registry[name]

    # ----------------------------------------------------------------------------------------------------- values

    def value(self) -> Value:
        """A value by name; its type is set where it is defined."""
        name = self.take("value")
        return self.values.setdefault(name, Value(_UNBOUND))

    def definition(self) -> Value:
        """A value and its type, where it is defined."""
        if self.ahead in self.defined:
            self.refuse(f"{self.ahead} is defined twice")
        self.defined.add(self.ahead)
        value = self.value()
        self.expect(":")
        value.shape, value.dtype, value.form = self.type()
        return value

    def operand(self) -> Value:
        """A value or a literal."""
        if self.kind == "value":
            return self.value()
        if self.kind == "constant":
            return self.constant()
        return Literal(self.content())

    def constant(self) -> Literal:
        """An array that is written at the end of the text."""
        name = self.take("constant")
        if name not in self.constants:
            self.refuse(f"{name} is not written at the end of the text")
        return self.constants[name]

    def type(self) -> Type:
        """A type."""
        name = self.take("word")
        if name in PYTHON_DTYPES:
            return Type((), PYTHON_DTYPES[name], PYTHON)
        if name == "stack":
            return STACK_TYPE
        return self._after(self.dtype(name))

    def _after(self, dtype: np.dtype[Any]) -> Type:
        return Type(tuple(self.several("]", self.length)), dtype, ARRAY) if self.skip("[") else Type((), dtype, NUMBER)

    def dtype(self, name: str) -> np.dtype[Any]:
        """A dtype, of which the first word is read."""
        found = dtype_named(name)
        if name == "dtype":
            self.expect("(")
            spec = ""
            while self.ahead != ")" or spec.count("(") > spec.count(")"):
                spec += self.take("string", "sign", "number")
            self.expect(")")
            found = dtype_of_spec(spec)
        if found is None:
            self.refuse(f"{name!r} is no dtype and no parameter that text can say")
        return found

    def length(self) -> Length:
        """A length: a sum of multiples of values."""
        terms: dict[Any, int] = {}
        offset = 0
        while self.ahead not in ("", ",", ";", "]", ":", ")", "}"):
            factor = 1
            self.skip("+")
            if self.skip("-"):
                factor = -1
            if self.kind == "number":
                factor = int(self.take("number"))
                if not self.skip("*"):
                    offset += factor
                    continue
            value = self.value()
            terms[value] = terms.get(value, 0) + factor
        return linear(terms, offset)

    # ------------------------------------------------------------------------------------------------- parameters

    def param(self) -> tuple[str, Any]:
        """A parameter and its name."""
        name = self.take("word")
        self.expect("=")
        return name, self.content()

    def content(self) -> Any:
        """A literal or a parameter."""
        start = None if self.ahead == ":" else self.single()
        if self.kind != "sign" or self.ahead != ":":
            return start
        ends: list[Any] = []
        while self.skip(":"):
            ends.append(None if self.ahead in (":", ",", ")", "]", "}") else self.single())
        return slice(start, *ends)

    def single(self) -> Any:
        """A parameter that is no slice."""
        kind, ahead = self.kind, self.ahead
        if kind == "string":
            return ast.literal_eval(self.take(kind))
        if kind == "complex":
            return complex(self.take(kind))
        if kind == "number" and not _INTEGER.fullmatch(ahead):
            return float(self.take(kind))
        if kind in ("number", "value") or ahead == "-":
            return self.length()
        if kind == "constant":
            return self.constant().content
        if kind == "word":
            return self.word()
        if self.skip("..."):
            return Ellipsis
        if self.skip("("):
            return tuple(self.several(")", self.content))
        if self.skip("["):
            return self.several("]", self.content)
        if self.skip("{"):
            return dict(self.several("}", self.entry))
        if kind == "object":
            self.refuse("an object of Python's stands here, which text can show and not say")
        return self.refuse(f"expected a parameter, found {ahead or 'the end of the line'!r}")

    def entry(self) -> tuple[Any, Any]:
        """A key and what a dict has there."""
        key = self.single()
        self.expect(":")
        return key, self.content()

    def word(self) -> Any:
        """What a word stands for: a constant, a type, a dtype, or an array or number that follows its type."""
        name = self.take("word")
        if name == "_":
            self.expect(":")
            return self.type()
        if name in _WORDS:
            return _WORDS[name]
        if name in symbols:
            return symbols[name]
        if name == "strided" and self.skip("("):
            return strided(*self.several(")", self.length))
        if name.startswith("np."):
            return getattr(np, name.removeprefix("np."))
        dtype = self.dtype(name)
        if self.ahead not in ("[", "("):
            return dtype
        type = self._after(dtype)
        self.expect("(")
        if self.ahead == "...":
            self.refuse("the array is abbreviated; `to_text(graph)` writes it in full")
        try:
            made = self._array(type)
        except (TypeError, ValueError) as error:
            self.refuse(f"this is no content of an array of that type: {error}")
        return made if type.form == ARRAY else made[()]

    def _array(self, type: Type) -> np.ndarray[Any, Any]:
        if self.kind == "string":
            content = ast.literal_eval(self.take("string"))
            self.expect(")")
            return array_of(content, type)
        digits, everywhere = [], False
        while not self.skip(")"):
            if self.kind == "sign" and self.ahead in "[],":
                self.take("sign")
            elif self.ahead == "everywhere":
                everywhere = self.take("word") != ""
            elif self.ahead == "...":
                self.refuse("the array is abbreviated; `to_text(graph)` writes it in full")
            else:
                digits.append(self.take("number", "complex", "word"))
        return array_of(digits, type, everywhere)
