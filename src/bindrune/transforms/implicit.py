"""Implicit differentiation: the derivative of a solution, not of the iteration that found it.

At a root f(x, theta) = 0 the implicit function theorem gives dx = -(df/dx)^-1 (df/dtheta) dtheta, whatever the solver
did.  What is differentiated is what `f` captures: theta is the stand-ins in its closure.  A linear solve is an
operation whose transpose is the solve with the transposed operator, so both modes, batching and higher derivatives
follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.errors import UnsupportedError, for_users, user_line
from ..core.handler import constant, evaluate, paused_below
from ..core.operation import Structured, is_differentiable, spec_of
from .batch import Batch
from .closures import Captured
from .custom import custom_jvp
from .forward import Forward, jvp
from .jacobians import jacobian, linear_transpose
from .programs import (
    AllLanes,
    LaneAxis,
    Program,
    Pushed,
    Runnable,
    TangentSpace,
    bare,
    batch_results,
    lane_axis,
    push_results,
    record,
    record_results,
)
from .reverse import Reverse, lowest
from .stopping import no_grad, stop_gradient

__all__ = ["custom_linear_solve", "custom_root", "fixed_point"]

MatVec = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Solve:
    """One linear solve.  All programs take leaves, then everything that any of them captures."""

    operator: Runnable
    """From the leaves of x to those of A x."""
    solver: Runnable | None
    """From the leaves of b to those of x; None where there is none."""
    transposed_solver: Runnable | None
    symmetric: bool
    count: int
    """How many leaves x and b have."""

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        if self.solver is None:
            raise UnsupportedError(
                f"{user_line()}: reverse mode solves with the transposed operator, for which br.custom_linear_solve "
                "needs transpose_solve, or symmetric=True."
            )
        return self.solver(values)

    def transposed(self) -> _Solve:
        """The solve with the transposed operator."""
        if self.symmetric:
            return self
        return replace(
            self,
            operator=_Transposed(self.operator, self.count),
            solver=self.transposed_solver,
            transposed_solver=self.solver,
        )

    def batched(self, flags: Sequence[bool], axis: LaneAxis) -> _Solve:
        """The solves of all lanes at once."""
        programs = (self.operator, self.solver, self.transposed_solver)
        operator, solver, transposed_solver = (p and AllLanes(p, flags, axis) for p in programs)
        assert operator is not None
        return replace(self, operator=operator, solver=solver, transposed_solver=transposed_solver)


class _Transposed:
    """The transpose of a program that is linear in its first values."""

    __slots__ = ("count", "operator")

    def __init__(self, operator: Runnable, count: int) -> None:
        self.operator = operator
        self.count = count

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        zeros = [TangentSpace(v).zeros() for v in values[: self.count]]
        handler = Reverse("br.custom_linear_solve")
        _, pull = record(handler, self.operator, [*zeros, *values[self.count :]], range(self.count))
        return pull(values[: self.count])


class _LinearSolve(Structured):
    """x with A x = b; the operands are the values of a `_Solve`."""

    __slots__ = ()

    def run(self, *values: Any, solve: _Solve) -> tuple[Any, ...]:
        return tuple(solve(values))

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        solve: _Solve = params["solve"]
        values, tangents = handler.open(operands)
        x = [bare(v) for v in evaluate(self, values, params)]
        if paused_below() > handler.level:
            return tuple(map(constant, x))
        captured = values[solve.count :]
        right = [TangentSpace(v).zeros() if t is None else t for v, t in zip(x, tangents, strict=False)]
        active = [i for i in range(solve.count, len(values)) if tangents[i] is not None]
        if active:
            pushed = Pushed(handler.origin, solve.operator, active)
            change = pushed([*x, *captured, *(tangents[i] for i in active)])[solve.count :]
            right = [a - b for a, b in zip(right, change, strict=True)]
        moved = [bare(v) for v in evaluate(self, [*right, *captured], params)]
        return push_results(handler, x, moved)

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        solve: _Solve = params["solve"]
        values, marks = handler.open(operands)
        x = [bare(v) for v in evaluate(self, values, params)]
        if paused_below() > handler.level:
            return tuple(map(constant, x))
        captured = values[solve.count :]
        sides = [i for i in range(solve.count) if marks[i] is not None]
        active = [i for i in range(solve.count, len(values)) if marks[i] is not None]
        spaces = [TangentSpace(v) for v in x]

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            given = [space.zeros() if ct is None else ct for ct, space in zip(cotangents, spaces, strict=True)]
            w = [bare(v) for v in evaluate(self, [*given, *captured], {"solve": solve.transposed()})]
            found = [w[i] for i in sides]
            if active:
                _, back = record(Reverse(handler.origin), solve.operator, [*x, *captured], active)
                found += back([-v for v in w])
            return found

        followed = [*sides, *active]
        parents: list[Any] = [marks[i] for i in followed]
        return record_results(handler, x, parents, [spec_of(values[i]) for i in followed], pull)

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        solve: _Solve = params["solve"]
        values, batched = handler.open(operands)
        for i in range(solve.count):
            if not batched[i]:
                # The solution differs between lanes as soon as anything does.
                values[i] = np.broadcast_to(values[i], (handler.size, *np.shape(values[i])))
        flags = [*[True] * solve.count, *batched[solve.count :]]
        return batch_results(handler, evaluate(self, values, {"solve": solve.batched(flags, lane_axis(handler))}))


_linear_solve = _LinearSolve("linear_solve")


@for_users
def custom_linear_solve(
    matvec: MatVec,
    b: Any,
    solve: Callable[[MatVec, Any], Any],
    transpose_solve: Callable[[MatVec, Any], Any] | None = None,
    symmetric: bool = False,
) -> Any:
    """The solution x of ``matvec(x) = b``, with the derivative of the solution whatever the solver.

    Args:
        matvec: a linear function; what it captures is differentiated.
        b: the right side, an array or a tree of them.
        solve: ``solve(matvec, b)`` finds x.
        transpose_solve: ``transpose_solve(vecmat, b)`` solves with the transposed function; needed by reverse mode.
        symmetric: whether `matvec` is its own transpose, so that `solve` serves for both.

    Returns:
        A tree like `b`.

    Raises:
        UnsupportedError: reverse mode met a solve without `transpose_solve` that is not `symmetric`.

    >>> import numpy as np, bindrune as br
    >>> def f(a, b):
    ...     return br.custom_linear_solve(lambda x: a * x, b, lambda matvec, b: b / matvec(1.0), symmetric=True)
    >>> br.grad(f, argnums=(0, 1))(2.0, 6.0)
    (np.float64(-1.5), np.float64(0.5))
    """
    leaves, structure = trees.flatten(b)
    captured = Captured((matvec, solve, transpose_solve))
    if not captured.cells and not any(isinstance(leaf, Array) for leaf in leaves):
        return solve(matvec, b)

    def operator(contents: Any, cells: list[Any]) -> Any:
        return contents[0](trees.unflatten(structure, cells))

    def solver(contents: Any, cells: list[Any]) -> Any:
        return contents[1](contents[0], trees.unflatten(structure, cells))

    def transposed_solver(contents: Any, cells: list[Any]) -> Any:
        right = trees.unflatten(structure, cells)
        transpose = linear_transpose(contents[0], right)
        return contents[2](lambda v: transpose(v)[0], right)

    of_operator, of_solver, of_transposed = (
        Program("br.custom_linear_solve", captured, body) for body in (operator, solver, transposed_solver)
    )
    system = _Solve(of_operator, of_solver, None if transpose_solve is None else of_transposed, symmetric, len(leaves))
    return trees.unflatten(structure, _linear_solve(*leaves, *captured.cells, solve=system))


def solve_dense(matvec: MatVec, b: Any) -> Any:
    """Solve a linear system of small size by its matrix: the Jacobian of the operator."""
    leaves, structure = trees.flatten(b)
    sizes = [int(np.size(v)) for v in leaves]
    cuts = np.cumsum(sizes)[:-1]
    flat = np.concatenate([np.reshape(v, -1) for v in leaves])

    def on_flat(vector: Any) -> Any:
        parts = np.split(vector, cuts)
        shaped = [np.reshape(p, np.shape(v)) for p, v in zip(parts, leaves, strict=True)]
        found = trees.flatten(matvec(trees.unflatten(structure, shaped)))[0]
        return np.concatenate([np.reshape(v, -1) for v in found])

    matrix = jacobian(on_flat, holomorphic=flat.dtype.kind == "c")(np.zeros_like(flat))
    x = np.linalg.solve(matrix, flat)
    return trees.unflatten(
        structure, [np.reshape(p, np.shape(v))[()] for p, v in zip(np.split(x, cuts), leaves, strict=True)]
    )


@for_users
def custom_root(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    tangent_solve: Callable[[MatVec, Any], Any] = solve_dense,
) -> Any:
    """A root of a function, with the derivative of the root whatever the solver.

    Args:
        f: a function whose root is sought; what it captures is differentiated.
        initial_guess: where to begin, an array or a tree of them; the root does not depend on it.
        solve: ``solve(f, initial_guess)`` finds a root.
        tangent_solve: ``tangent_solve(g, y)`` solves ``g(x) = y`` for the linear function g, the derivative of `f`
            at the root; by default with its matrix.

    Returns:
        A tree like `initial_guess`.

    >>> import bindrune as br
    >>> def sqrt(a):
    ...     def newton(f, x):
    ...         for _ in range(20):
    ...             x = x - f(x) / (2 * x)
    ...         return x
    ...     return br.custom_root(lambda x: x * x - a, 1.0, newton)
    >>> round(float(br.grad(sqrt)(4.0)), 6)
    0.25
    """
    captured = Captured(f)
    guess = stop_gradient(initial_guess)

    def root(*theta: Any) -> Any:
        with no_grad():
            return stop_gradient(solve(captured.over(theta).contents, guess))

    if not captured.cells:
        return root()
    rooted = custom_jvp(root)

    @rooted.defjvp
    def _rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        x = rooted(*primals)
        active = [i for i, p in enumerate(primals) if is_differentiable(p)]

        def at_x(*moving: Any) -> Any:
            theta = list(primals)
            for i, value in zip(active, moving, strict=True):
                theta[i] = value
            return captured.over(theta).contents(x)

        change = jvp(at_x, [primals[i] for i in active], [tangents[i] for i in active])[1]
        at_theta = captured.over(primals).contents
        right = trees.map_leaves(np.negative, change)
        # What solves with any linear function also solves with the transpose of this one.
        return x, custom_linear_solve(lambda v: jvp(at_theta, (x,), (v,))[1], right, tangent_solve, tangent_solve)

    return rooted(*captured.cells)


@for_users
def fixed_point(
    f: Callable[[Any], Any],
    initial_guess: Any,
    tolerance: float = 1e-12,
    max_steps: int = 1000,
    tangent_solve: Callable[[MatVec, Any], Any] = solve_dense,
) -> Any:
    """The fixed point x = f(x) by iteration, with the derivative of the point, not of the iteration.

    Args:
        f: a contraction; what it captures is differentiated.
        initial_guess: where to begin, an array or a tree of them.
        tolerance: the largest change of an element at which to stop.
        max_steps: the most steps to take.
        tangent_solve: as in `custom_root`.

    Raises:
        RuntimeError: it did not converge within `max_steps`.

    >>> import numpy as np, bindrune as br
    >>> f = lambda a: br.fixed_point(lambda x: np.cos(a * x), 1.0)
    >>> round(float(br.grad(f)(1.0)), 6)
    -0.297474
    """

    def iterate(residual: Callable[[Any], Any], x: Any) -> Any:
        for _ in range(max_steps):
            change = residual(x)
            x = _leafwise(np.add, x, change)
            largest = max((np.max(np.abs(lowest(v)), initial=0) for v in trees.flatten(change)[0]), default=0)
            if largest <= tolerance:
                return x
        raise RuntimeError(f"br.fixed_point: no convergence in {max_steps} steps (last change {largest:.3g})")

    return custom_root(lambda x: _leafwise(np.subtract, f(x), x), initial_guess, iterate, tangent_solve)


def _leafwise(function: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """A tree like the second, of a function of the leaves of two."""
    leaves, structure = trees.flatten(b)
    return trees.unflatten(structure, [function(x, y) for x, y in zip(trees.flatten(a)[0], leaves, strict=True)])
