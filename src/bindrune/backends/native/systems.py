"""Lowering of linear systems, inverses, determinants and Cholesky's factors.

A program stops at a matrix for which NumPy raises; one with no inverse still has cofactors, which are left to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...graph.graph import Node
from .decompositions import of_complex
from .loops import INTEGER, Affine, Apply, Buffer, Const, Expression, If, LibraryCall, Load, Storage, Store, affine
from .lower import Location, Lowering, convert, left_to_the_host, rule
from .matrices import (
    PIVOT,
    Factors,
    Library,
    Matrix,
    Refusal,
    Stack,
    computed,
    each,
    less,
    number,
    stacks,
    store_column,
    substituted,
    unit,
)
from .shaping import BOOL
from .views import ONE, ZERO, View

__all__: list[str] = []


def _raise(message: str) -> Callable[..., Any]:
    def explain(*values: Any) -> None:
        raise np.linalg.LinAlgError(message)

    return explain


_SINGULAR = _raise("Singular matrix")
_NOT_DEFINITE = _raise("Matrix is not positive definite")


# ------------------------------------------------------------------------------------------- systems and inverses


@rule("solve", "inv")
def _solve(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The solution for each column of a matrix, or of the identity."""
    found = stacks(low, node, operands)
    if found is None:
        return of_complex(low, node, operands)
    a, columns = found[0], found[1].columns if len(found) > 1 else found[0].columns
    dtype, shape = a.dtype, (*a.lead, a.rows, columns)
    made = low.array(dtype, shape)

    def right(at: Sequence[Affine], i: Affine, j: Affine) -> Expression:
        return found[1].element(at, i, j) if len(found) > 1 else unit(i, j, dtype)

    if a.small is not None:
        refusal = Refusal(low, node, _SINGULAR)
        with each(low, a) as at:
            factors = Factors(low, a.elements(low, at, a.small))
            refusal.note(factors.singular)
            with low.nest((columns,)) as (j,):
                column = [low.let(right(at, affine(i), j)) for i in range(a.small)]
                store_column(low, made, at, j, factors.solution(column))
        refusal.check()
        return made
    library, room = Library(low, a), low.array(dtype, (columns, a.rows))
    with each(low, a) as at:
        with low.nest(room.shape) as (j, i):
            low.do(Store(room.buffer, room.at((j, i)), right(at, i, j)))
        library.solve(at, room)
        low.check(library.fine, node, _SINGULAR)
        with low.nest((a.rows, columns)) as (i, j):
            low.do(Store(made.buffer, made.at((*at, i, j)), room.load((j, i))))
    return made


@rule("solve_triangular")
def _solve_triangular(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The solution for each column of a matrix, from the first row on or from the last."""
    found = stacks(low, node, operands)
    if found is None:
        return NotImplemented
    a, b = found
    lower = node.params["lower"]
    dtype, shape = a.dtype, (*a.lead, a.rows, b.columns)
    refusal = Refusal(low, node, _SINGULAR)
    made = low.array(dtype, shape)
    if a.small is not None:
        n = a.small
        order = range(n) if lower else range(n)[::-1]
        with each(low, a) as at:
            rows = a.elements(low, at, n)
            diagonal = [rows[k][k] for k in range(n)]
            for x in diagonal:
                refusal.note(Apply("equal", (x, number(0, dtype)), BOOL))
            inverses = [computed(low, "reciprocal", x) for x in diagonal]
            with low.nest((b.columns,)) as (j,):
                column = [low.let(b.element(at, affine(k), j)) for k in range(n)]
                store_column(low, made, at, j, substituted(low, rows, inverses, column, order))
        refusal.check()
        return made
    with low.nest((*a.lead, a.rows)) as at:
        refusal.note(Apply("equal", (a.element(at[:-1], at[-1], at[-1]), number(0, dtype)), BOOL))
    refusal.check()
    low.copy(made, b.view)
    room = low.array(dtype, (a.rows, a.rows))
    with each(low, a) as at:
        with low.nest(room.shape) as (i, j):
            low.do(Store(room.buffer, room.at((i, j)), a.element(at, i, j)))
        low.do(LibraryCall("trsm_lower" if lower else "trsm_upper", (room,), _matrix(made, at)))
    return made


def _swapped(a: Stack) -> tuple[int, ...]:
    """The order of axes in which rows are columns."""
    lead = len(a.lead)
    return (*range(lead), lead + 1, lead)


def _matrix(view: View, at: Sequence[Affine]) -> View:
    """One matrix of a stack."""
    return view.seen([*((i, ()) for i in at), (ZERO, ((0, 1),)), (ZERO, ((1, 1),))], view.shape[-2:])


# ----------------------------------------------------------------------------------------------------- determinants


@rule("det")
def _det(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The product of the pivots."""
    found = stacks(low, node, operands)
    if found is None:
        return of_complex(low, node, operands)
    (a,) = found
    made = low.array(a.dtype, a.lead)
    library = Library(low, a)
    with each(low, a) as at:
        if a.small is not None:
            factors = Factors(low, a.elements(low, at, a.small))
            product = factors.determinant()
            low.do(Store(made.buffer, made.at(at), product))
            again = If(factors.beyond(product), [], [])
            low.do(again)
            with low.inside(again.then):
                size = factors.eighth_root()
                for _ in range(3):
                    size = computed(low, "square", size)
                low.do(Store(made.buffer, made.at(at), Apply("copysign", (size, product), a.dtype)))
        else:
            library.factor(at)
            low.do(Store(made.buffer, made.at(at), _of_logarithm(*library.determinant())))
    return made


def _of_logarithm(sign: Expression, logarithm: Expression) -> Expression:
    """A number from its sign and the logarithm of its size."""
    return Apply("multiply", (sign, Apply("exp", (logarithm,), sign.dtype)), sign.dtype)


@rule("slogdet")
def _slogdet(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The sign of the determinant, and the logarithm of its size."""
    found = stacks(low, node, operands)
    if found is None:
        return of_complex(low, node, operands)
    (a,) = found
    dtype = a.dtype
    signs, logarithms = low.array(dtype, a.lead), low.array(dtype, a.lead)
    library = Library(low, a)
    size, power = (Buffer(Storage(dtype, (), "temporary"), ()) for _ in range(2))
    with each(low, a) as at:
        if a.small is not None:
            factors = Factors(low, a.elements(low, at, a.small))
            product = factors.determinant()
            low.do(Store(size, (), Apply("absolute", (product,), dtype)))
            low.do(Store(power, (), number(1, dtype)))
            again = If(factors.beyond(product), [], [])
            low.do(again)
            with low.inside(again.then):
                low.do(Store(size, (), factors.eighth_root()))
                low.do(Store(power, (), number(8, dtype)))
            side = Apply("copysign", (number(1, dtype), product), dtype)
            sign: Expression = Apply("where", (factors.singular, number(0, dtype), side), dtype)
            logarithm: Expression = Apply("log", (Load(size, ()),), dtype)
            logarithm = Apply("multiply", (Load(power, ()), logarithm), dtype)
        else:
            library.factor(at)
            sign, logarithm = library.determinant()
        low.do(Store(signs.buffer, signs.at(at), sign))
        low.do(Store(logarithms.buffer, logarithms.at(at), logarithm))
    return [signs, logarithms]


@rule("cofactors")
def _cofactors(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The determinant's partial derivatives: polynomials for up to three rows, else multiples of the inverse."""
    found = stacks(low, node, operands)
    if found is None:
        return NotImplemented
    (a,) = found
    n, dtype = a.small, a.dtype
    made = low.array(dtype, a.view.shape)
    if n is not None and n <= 3:
        with each(low, a) as at:
            rows = a.elements(low, at, n)
            for k in range(n):
                store_column(low, made, at, affine(k), [_cofactor(low, rows, row, k) for row in range(n)])
        return made
    if n is not None:
        refusal = Refusal(low, node, left_to_the_host)
        with each(low, a) as at:
            factors = Factors(low, a.elements(low, at, n))
            refusal.note(factors.singular)
            product = factors.determinant()
            refusal.note(factors.beyond(product))
            with low.nest((a.rows,)) as (i,):
                column = factors.solution([unit(i, affine(k), dtype) for k in range(n)])
                multiples = [computed(low, "multiply", product, x) for x in column]
                store_column(low, made.transposed(_swapped(a)), at, i, multiples)
        refusal.check()
        return made
    library, room = Library(low, a), low.array(dtype, (a.rows, a.rows))
    with each(low, a) as at:
        with low.nest(room.shape) as (i, j):
            low.do(Store(room.buffer, room.at((i, j)), unit(i, j, dtype)))
        library.solve(at, room)
        low.check(library.fine, node, left_to_the_host)
        determinant = low.let(_of_logarithm(*library.determinant()))
        # The room's rows are the inverse's columns.
        with low.nest(room.shape) as (i, j):
            scaled = Apply("multiply", (determinant, room.load((i, j))), dtype)
            low.do(Store(made.buffer, made.at((*at, i, j)), scaled))
    return made


def _cofactor(low: Lowering, rows: Matrix, i: int, j: int) -> Expression:
    """The partial derivative of a determinant of up to three rows by one element."""
    n = len(rows)
    if n == 1:
        return number(1, rows[0][0].dtype)
    # In cyclic order the signs come out right.
    a, b, c, d = (rows[(i + r) % n][(j + s) % n] for r, s in ((1, 1), (n - 1, n - 1), (1, n - 1), (n - 1, 1)))
    if n == 2:
        return a if i == j else computed(low, "negative", a)
    return computed(low, "subtract", Apply("multiply", (a, b), a.dtype), Apply("multiply", (c, d), a.dtype))


# --------------------------------------------------------------------------------------------------------- Cholesky


@rule("cholesky")
def _cholesky(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The triangular factor of a matrix, of which only that triangle is read."""
    found = stacks(low, node, operands)
    if found is None:
        return of_complex(low, node, operands)
    (a,) = found
    if node.params["upper"]:
        a = Stack(a.view.transposed(_swapped(a)), a.dtype)
    dtype = a.dtype
    made = low.array(dtype, a.view.shape)
    if a.small is not None:
        refusal = Refusal(low, node, _NOT_DEFINITE)
        with each(low, a) as at:
            wrong, rows = _root(low, a.elements(low, at, a.small))
            refusal.note(wrong)
            for k, column in enumerate(zip(*rows, strict=True)):
                store_column(low, made, at, affine(k), [number(0, dtype)] * k + list(column[k:]))
        refusal.check()
    else:
        room, failed = low.array(dtype, (a.rows, a.rows)), low.array(PIVOT, (ONE,))
        with each(low, a) as at:
            with low.nest(room.shape) as (i, j):
                low.do(Store(room.buffer, room.at((i, j)), a.element(at, i, j)))
            low.do(LibraryCall("potrf", (room,), failed))
            fine = Apply("equal", (convert(failed.load((ZERO,)), INTEGER), ZERO), BOOL)
            low.check(fine, node, _NOT_DEFINITE)
            with low.nest(room.shape) as (i, j):
                below = Apply("less_equal", (j, i), BOOL)
                x = Apply("where", (below, room.load((i, j)), number(0, dtype)), dtype)
                low.do(Store(made.buffer, made.at((*at, i, j)), x))
    return made.transposed(_swapped(a)) if node.params["upper"] else made


def _root(low: Lowering, a: Matrix) -> tuple[Expression, Matrix]:
    """Whether a matrix is not positive definite, and its lower factor."""
    wrong: Expression = Const(False, BOOL)
    for j in range(len(a)):
        for i in range(j, len(a)):
            for k in range(j):
                a[i][j] = less(low, a[i][j], a[i][k], a[j][k])
        square = a[j][j]
        fine = Apply("greater", (square, number(0, square.dtype)), BOOL)
        wrong = low.let(Apply("logical_or", (wrong, Apply("logical_not", (fine,), BOOL)), BOOL))
        a[j][j] = computed(low, "sqrt", square)
        inverse = computed(low, "reciprocal", a[j][j])
        for i in range(j + 1, len(a)):
            a[i][j] = computed(low, "multiply", a[i][j], inverse)
    return wrong, a
