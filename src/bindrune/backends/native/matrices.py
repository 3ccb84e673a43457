"""Matrices as operands of machine code: stacks of them, their elimination, and room for libraries to work on one.

Small matrices are eliminated by straight-line code with partial pivoting: numbers that stay in registers, rows that
are exchanged by selection.  So a stack of matrices is a nest that can be vectorised, and a matrix that several
operations factor is factored once.  Larger ones are LAPACK's, on copies that it may overwrite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ...graph.graph import Node
from .formats import arithmetic
from .loops import (
    INTEGER,
    Accumulate,
    Affine,
    Apply,
    Buffer,
    Const,
    Expression,
    For,
    LibraryCall,
    Load,
    Storage,
    Store,
    Variable,
    affine,
)
from .lower import Location, Lowering, broadcast_lengths, convert
from .shaping import BOOL
from .views import ONE, ZERO, View, broadcast

__all__ = [
    "PIVOT", "Factors", "Library", "Matrix", "Refusal", "Stack", "computed", "each", "less", "number", "stacks",
    "store_column", "substituted", "unit",
]  # fmt: skip

_SMALL = 4
"""The most rows of a matrix that is eliminated by straight-line code."""

PIVOT = np.dtype(np.int32)
"""Fortran's integers."""

Matrix = list[list[Expression]]


def computed(low: Lowering, name: str, *x: Expression) -> Expression:
    """The result of an operation, computed once."""
    return low.let(Apply(name, x, x[-1].dtype))


def less(low: Lowering, a: Expression, factor: Expression, b: Expression) -> Expression:
    """A number less a multiple of another."""
    return computed(low, "subtract", a, Apply("multiply", (factor, b), b.dtype))


def number(x: float, dtype: np.dtype[Any]) -> Const:
    """A known number."""
    return Const(dtype.type(x), dtype)


# --------------------------------------------------------------------------------------------------------- stacks


class Stack(NamedTuple):
    """Matrices to be computed with: one view, and the type to compute in."""

    view: View
    dtype: np.dtype[Any]

    @property
    def lead(self) -> tuple[Affine, ...]:
        """The lengths of the axes before the matrices'."""
        return self.view.shape[:-2]

    @property
    def rows(self) -> Affine:
        """The number of rows."""
        return self.view.shape[-2]

    @property
    def columns(self) -> Affine:
        """The number of columns."""
        return self.view.shape[-1]

    @property
    def small(self) -> int | None:
        """The number of rows, if it is small, but there are some."""
        n = self.rows.known
        return n if n is not None and 1 <= n <= _SMALL else None

    def element(self, at: Sequence[Affine], i: Affine, j: Affine) -> Expression:
        """An element of one of the matrices."""
        return convert(self.view.load((*at, i, j)), self.dtype)

    def elements(self, low: Lowering, at: Sequence[Affine], n: int) -> Matrix:
        """All elements of one of the square matrices."""
        return [[low.let(self.element(at, affine(i), affine(j))) for j in range(n)] for i in range(n)]

    def written(self, low: Lowering, room: View, at: Sequence[Affine]) -> None:
        """Copy one of the matrices, for a library that goes down columns."""
        with low.nest(room.shape) as (j, i):
            low.do(Store(room.buffer, room.at((j, i)), self.element(at, i, j)))


def stacks(low: Lowering, node: Node, operands: Sequence[Location]) -> list[Stack] | None:
    """The operands as stacks of one length, if there are instructions for their type, or libraries for large ones."""
    dtype = node.results[-1].dtype
    if dtype.kind != "f" or any(not arithmetic(x.dtype) for x in operands):
        return None
    views = [low.view(x) for x in operands]
    lead = broadcast_lengths([view.shape[:-2] for view in views]) if any(len(v.shape) > 2 for v in views) else ()
    found = [Stack(broadcast(view, (*lead, *view.shape[-2:])), dtype) for view in views]
    return found if low.libraries or found[0].small is not None else None


@contextmanager
def each(low: Lowering, a: Stack) -> Iterator[tuple[Affine, ...]]:
    """For each matrix of a stack; large ones one after the other, as they share their room."""
    with low.nest(a.lead, ordered=a.small is None) as at:
        if a.small is not None and all(n.known == 1 for n in a.lead):
            # The code for one matrix is long: let it be one statement to those around it.
            once = For(Variable(INTEGER, "i", ONE), ONE, [], False)
            low.do(once)
            with low.inside(once.body):
                yield at
        else:
            yield at


class Refusal:
    """Stops the program if any of a stack of matrices is one for which the operation raises."""

    def __init__(self, low: Lowering, node: Node, explain: Callable[..., Any]) -> None:
        self.low, self.node, self.explain = low, node, explain
        self.cell = Buffer(Storage(BOOL, (), "temporary"), ())
        low.do(Store(self.cell, (), Const(False, BOOL)))

    def note(self, wrong: Expression) -> None:
        """Take one matrix into account."""
        self.low.do(Accumulate("logical_or", self.cell, (), wrong))

    def check(self) -> None:
        """Stop the program, or go on."""
        self.low.check(Apply("logical_not", (Load(self.cell, ()),), BOOL), self.node, self.explain)


# ----------------------------------------------------------------------------------------------------- elimination


class Factors:
    """A small matrix's triangular factors, by partial pivoting.

    Attributes:
        upper: the upper factor's rows.
        inverses: those of the pivots.
        singular: whether a pivot is zero.
        odd: whether the number of exchanges is.
    """

    def __init__(self, low: Lowering, a: Matrix) -> None:
        self.low = low
        self.upper = a
        self.inverses: list[Expression] = []
        self.singular: Expression = Const(False, BOOL)
        self.odd: Expression = Const(False, BOOL)
        self._steps: list[tuple[int, int, Expression, bool]] = []
        for k in range(len(a)):
            self._eliminate(k)

    def _eliminate(self, k: int) -> None:
        low, a = self.low, self.upper
        for i in range(k + 1, len(a)):
            sizes = [computed(low, "absolute", a[r][k]) for r in (i, k)]
            larger = low.let(Apply("greater", tuple(sizes), BOOL))
            self.odd = low.let(Apply("not_equal", (self.odd, larger), BOOL))
            self._steps.append((k, i, larger, True))
            for j in range(k, len(a)):
                a[k][j], a[i][j] = _exchanged(low, larger, a[k][j], a[i][j])
        pivot = a[k][k]
        zero = Apply("equal", (pivot, number(0, pivot.dtype)), BOOL)
        self.singular = low.let(Apply("logical_or", (self.singular, zero), BOOL))
        inverse = computed(low, "reciprocal", pivot)
        self.inverses.append(inverse)
        for i in range(k + 1, len(a)):
            factor = computed(low, "multiply", a[i][k], inverse)
            self._steps.append((k, i, factor, False))
            for j in range(k + 1, len(a)):
                a[i][j] = less(low, a[i][j], factor, a[k][j])

    def solution(self, column: Sequence[Expression]) -> list[Expression]:
        """What the matrix takes to a column."""
        low, x = self.low, list(column)
        for k, i, factor, exchange in self._steps:
            if exchange:
                x[k], x[i] = _exchanged(low, factor, x[k], x[i])
            else:
                x[i] = less(low, x[i], factor, x[k])
        return substituted(low, self.upper, self.inverses, x, range(len(x))[::-1])

    @property
    def pivots(self) -> list[Expression]:
        """The upper factor's diagonal."""
        return [row[i] for i, row in enumerate(self.upper)]

    def determinant(self) -> Expression:
        """The product of the pivots, unless `beyond` says that it is not."""
        low, dtype = self.low, self.inverses[0].dtype
        found: Expression = Apply("where", (self.odd, number(-1, dtype), number(1, dtype)), dtype)
        for pivot in self.pivots:
            found = Apply("multiply", (found, pivot), dtype)
        return low.let(Apply("where", (self.singular, number(0, dtype), found), dtype))

    def beyond(self, determinant: Expression) -> Expression:
        """Whether the product may have left the range of its type on the way."""
        dtype = determinant.dtype
        tiny = Apply("less", (Apply("absolute", (determinant,), dtype), number(np.finfo(dtype).tiny, dtype)), BOOL)
        tiny = Apply("logical_and", (tiny, Apply("logical_not", (self.singular,), BOOL)), BOOL)
        large = Apply("logical_not", (Apply("isfinite", (determinant,), BOOL),), BOOL)
        return Apply("logical_or", (tiny, large), BOOL)

    def eighth_root(self) -> Expression:
        """That of the size of the determinant, which is never out of range."""
        found: Expression = number(1, self.inverses[0].dtype)
        for pivot in self.pivots:
            root: Expression = Apply("absolute", (pivot,), pivot.dtype)
            for _ in range(3):
                root = Apply("sqrt", (root,), pivot.dtype)
            found = Apply("multiply", (found, root), pivot.dtype)
        return self.low.let(found)


def _exchanged(low: Lowering, condition: Expression, a: Expression, b: Expression) -> tuple[Expression, Expression]:
    """Two numbers, in the other order if a condition holds."""
    return (
        low.let(Apply("where", (condition, b, a), a.dtype)),
        low.let(Apply("where", (condition, a, b), a.dtype)),
    )


def substituted(
    low: Lowering, triangle: Matrix, inverses: Sequence[Expression], column: Sequence[Expression], order: Sequence[int]
) -> list[Expression]:
    """What a triangular matrix takes to a column; the order is that in which the unknowns are found."""
    x = list(column)
    for n, i in enumerate(order):
        for j in order[:n]:
            x[i] = less(low, x[i], triangle[i][j], x[j])
        x[i] = computed(low, "multiply", x[i], inverses[i])
    return x


def store_column(low: Lowering, made: View, at: Sequence[Affine], j: Affine, column: Sequence[Expression]) -> None:
    """Write a column of one of the matrices of a stack."""
    for i, x in enumerate(column):
        low.do(Store(made.buffer, made.at((*at, affine(i), j)), x))


# ---------------------------------------------------------------------------------------------------------- LAPACK


class Library:
    """Room for a library to work on one matrix at a time."""

    def __init__(self, low: Lowering, a: Stack) -> None:
        self.low, self.a, n = low, a, a.rows
        self.matrix = low.array(a.dtype, (n, n))
        """Goes along rows where the library goes down columns."""
        self.pivots = low.array(PIVOT, (n,))
        self.failed = low.array(PIVOT, (ONE,))

    def factor(self, at: Sequence[Affine]) -> None:
        """Replace a matrix by its triangular factors."""
        self.a.written(self.low, self.matrix, at)
        self.low.do(LibraryCall("getrf", (self.matrix, self.pivots), self.failed))

    def solve(self, at: Sequence[Affine], room: View) -> None:
        """Replace the rows of some room by the solutions for them."""
        self.a.written(self.low, self.matrix, at)
        self.low.do(LibraryCall("gesv", (self.matrix, self.pivots, room), self.failed))

    @property
    def fine(self) -> Expression:
        """Whether the last call succeeded."""
        return Apply("equal", (convert(self.failed.load((ZERO,)), INTEGER), ZERO), BOOL)

    def determinant(self) -> tuple[Expression, Expression]:
        """The sign of the determinant of what was factored, and the logarithm of its size."""
        low, dtype = self.low, self.a.dtype
        sign, logarithm = (Buffer(Storage(dtype, (), "temporary"), ()) for _ in range(2))
        low.do(Store(sign, (), number(1, dtype)))
        low.do(Store(logarithm, (), number(0, dtype)))
        with low.nest((self.a.rows,)) as (i,):
            pivot = low.let(self.matrix.load((i, i)))
            stays = Apply("equal", (convert(self.pivots.load((i,)), INTEGER), i + 1), BOOL)
            turns = Apply("equal", (stays, Apply("less", (pivot, number(0, dtype)), BOOL)), BOOL)
            factor = Apply("where", (turns, number(-1, dtype), number(1, dtype)), dtype)
            low.do(Accumulate("multiply", sign, (), factor))
            size = Apply("log", (Apply("absolute", (pivot,), dtype),), dtype)
            low.do(Accumulate("add", logarithm, (), size))
        fine = low.let(self.fine)
        return (
            low.let(Apply("where", (fine, Load(sign, ()), number(0, dtype)), dtype)),
            low.let(Apply("where", (fine, Load(logarithm, ()), number(-np.inf, dtype)), dtype)),
        )


def unit(i: Affine, j: Affine, dtype: np.dtype[Any]) -> Expression:
    """An element of the identity."""
    return Apply("where", (Apply("equal", (i, j), BOOL), number(1, dtype), number(0, dtype)), dtype)
