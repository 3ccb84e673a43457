"""Rewriting loop programs: expressions and statements with something in place of variables and elements."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any

from .asides import Aside
from .loops import (
    INTEGER,
    Accumulate,
    Affine,
    Allocate,
    Apply,
    Buffer,
    Check,
    Const,
    Expression,
    For,
    HostCall,
    If,
    Invoke,
    Let,
    LibraryCall,
    Load,
    Reserve,
    Statement,
    Storage,
    Store,
    Swap,
    Variable,
    While,
    affine,
)
from .views import View

__all__ = ["Access", "Copier", "Rewriter", "accesses", "expressions", "variables", "views"]


class Rewriter:
    """Rewrites statements: variables by a mapping, elements of buffers by a function.

    Args:
        mapping: the expressions that stand for variables.
        element: from a buffer and an index to those that stand for them.
    """

    def __init__(
        self,
        mapping: dict[Variable, Any] | None = None,
        element: Callable[[Buffer, tuple[Affine, ...]], tuple[Buffer, tuple[Affine, ...]]] | None = None,
    ) -> None:
        self.mapping = mapping or {}
        self._element = element

    def affine(self, x: Affine) -> Affine:
        """An affine expression, rewritten."""
        if not any(v in self.mapping for v, _ in x.terms):
            return x
        found = affine(x.offset)
        for v, factor in x.terms:
            found = found + self.mapping.get(v, affine(v)) * factor
        return found

    def expression(self, x: Expression) -> Expression:
        """An expression, rewritten."""
        if isinstance(x, Affine):
            return self.affine(x)
        if isinstance(x, Const):
            return x
        if isinstance(x, Variable):
            found: Expression = self.mapping.get(x, x)
            return found
        if isinstance(x, Load):
            return Load(*self.place(x.buffer, x.index))
        assert isinstance(x, Apply)
        return Apply(x.name, tuple(map(self.expression, x.arguments)), x.dtype)

    def place(self, buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        """Where an element is, rewritten."""
        index = tuple(map(self.affine, index))
        return (buffer, index) if self._element is None else self._element(buffer, index)

    def view(self, x: View) -> View:
        """A view, rewritten."""
        places = tuple((self.affine(start), steps) for start, steps in x.places)
        return View(x.buffer, places, tuple(map(self.affine, x.shape)))

    def block(self, block: list[Statement]) -> list[Statement]:
        """Statements, rewritten."""
        return [self.statement(s) for s in block]

    def statement(self, s: Statement) -> Statement:
        """A statement, rewritten."""
        if isinstance(s, Let):
            return Let(s.variable, self.expression(s.value))
        if isinstance(s, Store):
            return Store(*self.place(s.buffer, s.index), self.expression(s.value))
        if isinstance(s, Accumulate):
            return Accumulate(s.name, *self.place(s.buffer, s.index), self.expression(s.value))
        if isinstance(s, For):
            return For(s.variable, self.affine(s.extent), self.block(s.body), s.ordered)
        if isinstance(s, While):
            return While(s.going, self.block(s.body))
        if isinstance(s, If):
            return If(self.expression(s.condition), self.block(s.then), self.block(s.otherwise))
        if isinstance(s, Aside):
            return Aside(self.block(s.body))
        if isinstance(s, Check):
            return Check(self.expression(s.condition), s.reason, tuple(map(self.expression, s.values)))
        if isinstance(s, Reserve):
            return Reserve(self.affine(s.top))
        if isinstance(s, HostCall):
            return HostCall(s.number, tuple(map(self._operand, s.operands)), tuple(map(self.view, s.results)))
        if isinstance(s, Invoke):
            return Invoke(s.routine, tuple(map(self._operand, s.operands)), tuple(map(self.view, s.results)))
        if isinstance(s, LibraryCall):
            return LibraryCall(s.name, tuple(map(self.view, s.operands)), self.view(s.result))
        assert isinstance(s, (Allocate, Swap))
        return s

    def _operand(self, x: View | Expression) -> View | Expression:
        return self.view(x) if isinstance(x, View) else self.expression(x)


class Copier(Rewriter):
    """A rewriter that gives variables that are defined, and some numbers in registers, names of their own.

    Args:
        mapping: the expressions that stand for variables.
        own: the storages of those numbers.
    """

    def __init__(self, mapping: dict[Variable, Any], own: Container[Storage]) -> None:
        super().__init__(mapping, self._cell)
        self._own = own
        self._cells: dict[Storage, Buffer] = {}

    def _cell(self, buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        storage = buffer.storage
        if storage not in self._own:
            return buffer, index
        if storage not in self._cells:
            self._cells[storage] = Buffer(Storage(storage.dtype, (), storage.role), ())
        return self._cells[storage], index

    def statement(self, s: Statement) -> Statement:
        """A statement, rewritten."""
        if isinstance(s, Let):
            value = self.expression(s.value)
            fresh = Variable(s.variable.dtype, s.variable.name)
            self.mapping[s.variable] = affine(fresh) if fresh.dtype == INTEGER else fresh
            return Let(fresh, value)
        return super().statement(s)


# -------------------------------------------------------------------------------------------------------- looking


Access = tuple[Buffer, tuple[Affine, ...], bool]
"""A buffer, an index, and whether it is written."""


def expressions(s: Statement) -> Iterator[Expression]:
    """The expressions of a statement itself."""
    if isinstance(s, (Let, Store, Accumulate)):
        yield s.value
    if isinstance(s, (Store, Accumulate)):
        yield from s.index
    elif isinstance(s, For):
        yield s.extent
    elif isinstance(s, If):
        yield s.condition
    elif isinstance(s, Check):
        yield s.condition
        yield from s.values
    elif isinstance(s, Reserve):
        yield s.top
    elif isinstance(s, Allocate):
        yield from s.storage.shape
    elif isinstance(s, While):
        yield Load(s.going, ())
    elif isinstance(s, (HostCall, Invoke)):
        yield from (x for x in s.operands if isinstance(x, Expression))
    for view in views(s):
        yield from (start for start, _ in view.places)
        yield from view.shape


def views(s: Statement) -> Iterator[View]:
    """The views that a call is given."""
    if isinstance(s, (HostCall, Invoke)):
        yield from (x for x in s.operands if isinstance(x, View))
        yield from s.results
    elif isinstance(s, LibraryCall):
        yield from s.operands
        yield s.result


def accesses(s: Statement) -> list[Access]:
    """What a statement itself reads and writes, element by element."""
    found: list[Access] = []
    if isinstance(s, (Let, Store, Accumulate)):
        _find_loads(s.value, found)
        if not isinstance(s, Let):
            found.append((s.buffer, s.index, True))
    else:
        for x in expressions(s):
            _find_loads(x, found)
    return found


def _find_loads(x: Expression, found: list[Access]) -> None:
    if isinstance(x, Load):
        found.append((x.buffer, x.index, False))
    elif isinstance(x, Apply):
        for a in x.arguments:
            _find_loads(a, found)


def variables(s: Statement) -> list[Variable]:
    """The variables that a statement itself uses."""
    found: list[Variable] = []
    for x in expressions(s):
        _find_variables(x, found)
    return found


def _find_variables(x: Expression, found: list[Variable]) -> None:
    if isinstance(x, Affine):
        found += (v for v, _ in x.terms)
    elif isinstance(x, Variable):
        found.append(x)
    elif isinstance(x, Load):
        start = x.buffer.storage.start
        for i in (*x.index, *x.buffer.shape, *(() if start is None else (start,))):
            if i.terms:
                found += (v for v, _ in i.terms)
    elif isinstance(x, Apply):
        for a in x.arguments:
            _find_variables(a, found)
