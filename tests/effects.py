"""Programs as data, and what they mean in a world without memory.

Each statement of a program has its lines of Python and the *effects* of those lines: a name gets a value of its own
(`Let`), or shows part of what another name shows (`Show`), or elements are replaced (`Store`) or added to (`Add`).
The lines make a function, which runs as a user's would.  The effects make a second one, which has no views and no
writes: every array is a flat value that writes replace, every name a table of positions in one (`Memory`).  Where
the two disagree, one of them is wrong.

Effects speak of elements by a *path*: an expression in which ``{}`` stands for the array they are found in.
"""

from __future__ import annotations

import functools
import math
from collections import ChainMap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Add", "Effect", "Let", "Program", "Show", "Statement", "Store", "evaluate"]

Shape = tuple[int, ...]


class Let(NamedTuple):
    """A name gets a value of its own."""

    name: str
    value: str


class Show(NamedTuple):
    """A name shows what a path into another shows: a view."""

    name: str
    base: str
    path: str


class Store(NamedTuple):
    """The elements at a path into an array are replaced."""

    name: str
    path: str
    value: str


class Add(NamedTuple):
    """To the elements at a path into an array is added, as often as each is met."""

    name: str
    path: str
    value: str


Effect = Let | Show | Store | Add


class Statement(NamedTuple):
    """Lines of Python, and what they do."""

    text: str
    effects: tuple[Effect, ...]


_HEAD = """\
import numpy as np


def weigh(x, k):
    return np.sum(np.cos(np.arange(np.size(x)) + k).reshape(np.shape(x)) * x)


def halve(x):
    x *= 0.5


"""


class Program:
    """A function of one or two arrays that returns a number, with arguments."""

    def __init__(
        self, parameters: dict[str, str], statements: Sequence[Statement], results: Sequence[str], batchable: bool
    ) -> None:
        self.parameters = parameters
        self.statements = statements
        self.results = results
        self.batchable = batchable
        """Whether what it does is the same for all arguments: `vmap` refuses masks that depend on them."""

    @property
    def source(self) -> str:
        """The function in Python."""
        lines = [line for statement in self.statements for line in statement.text.split("\n")]
        total = " + ".join(f"weigh({name}, {k})" for k, name in enumerate(self.results))
        body = "".join(f"    {line}\n" for line in [*lines, f"return {total}"])
        return f"{_HEAD}def program({', '.join(self.parameters)}):\n{body}"

    def __repr__(self) -> str:
        return f"\n{self.source}\n\nprint(program({', '.join(self.parameters.values())}))\n"

    def make(self) -> list[Any]:
        """Fresh arguments, in the memory layouts that the program asks for."""
        return [evaluate(text, np, {}) for text in self.parameters.values()]

    @property
    def function(self) -> Callable[..., Any]:
        """The program as a user would write it."""
        module: dict[str, Any] = {"__name__": "program"}
        exec(compile(self.source, "<program>", "exec"), module)
        function: Callable[..., Any] = module["program"]
        return function

    @property
    def pure_function(self) -> Callable[..., Any]:
        """The program without views and writes."""

        def function(*arguments: Any) -> Any:
            memory = Memory(np)  # a lifted one, where this function is lifted
            for name, value in zip(self.parameters, arguments, strict=True):
                memory.let(name, value)
            for statement in self.statements:
                for effect in statement.effects:
                    memory.run(effect)
            values = [memory[name] for name in self.results]
            return sum(np.sum(_weights(np.shape(value), k) * value) for k, value in enumerate(values))

        return function


def _weights(shape: Shape, k: int) -> Any:
    return np.cos(np.arange(math.prod(shape)) + k).reshape(shape)


@functools.cache
def _compiled(text: str) -> Any:
    return compile(text, "<expression>", "eval")


def evaluate(text: str, numpy: Any, names: Any) -> Any:
    """The value of an expression."""
    return eval(_compiled(text), {"np": numpy}, names)


class Memory:
    """Flat values, which writes replace, and names, which are tables of positions in them."""

    def __init__(self, numpy: Any) -> None:
        self.numpy = numpy
        self.values: list[Any] = []
        self.names: dict[str, tuple[int, Any]] = {}

    def __getitem__(self, name: str) -> Any:
        owner, table = self.names[name]
        return self.values[owner][table]

    def evaluate(self, text: str) -> Any:
        return evaluate(text, self.numpy, self)

    def find(self, name: str, path: str) -> tuple[int, Any]:
        """The flat value, and the positions in it, that a path into a name leads to."""
        owner, table = self.names[name]
        names: Any = ChainMap({"here": table}, self)  # type: ignore[arg-type]
        return owner, evaluate(path.replace("{}", "here"), np, names)

    def let(self, name: str, value: Any) -> None:
        """Give a value a name."""
        self.names[name] = len(self.values), np.arange(np.size(value)).reshape(np.shape(value))
        self.values.append(np.reshape(value, -1))

    def run(self, effect: Effect) -> None:
        """Let an effect happen."""
        match effect:
            case Let(name, value):
                self.let(name, self.evaluate(value))
            case Show(name, base, path):
                self.names[name] = self.find(base, path)
            case Store(name, path, value) | Add(name, path, value):
                owner, places = self.find(name, path)
                written = np.reshape(np.broadcast_to(self.evaluate(value), np.shape(places)), -1)
                old = self.values[owner]
                keep, scatter = _write(np.ravel(places), np.size(old), isinstance(effect, Add))
                self.values[owner] = keep * old + scatter @ written


def _write(places: Any, size: int, adds: bool) -> tuple[Any, Any]:
    """A write as linear algebra: new = keep * old + scatter @ written."""
    scatter = np.zeros((size, places.size))
    for k, place in enumerate(places):
        if not adds:
            scatter[place] = 0  # the last write to a place wins
        scatter[place, k] = 1
    return np.ones(size) if adds else 1 - scatter.sum(axis=1), scatter
