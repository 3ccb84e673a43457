"""Roots and minima by SciPy's solvers, with the derivative of the solution: `br.scipy.optimize`.

SciPy searches on plain arrays, with exact Jacobians and gradients; what is differentiated is the solution, by the
implicit function theorem, never the search.  A minimum is a root of the gradient.  Refused is what has no such
derivative: a search that did not converge, and one whose result need not be a root.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.errors import for_users
from ..numpy.creation import asarray
from .closures import Captured
from .gradients import grad
from .implicit import custom_root
from .jacobians import hessian, jacobian
from .primitive import primitive
from .programs import bare

__all__ = ["minimize", "root"]

_TAKE_NO_GRADIENT = ("nelder-mead", "powell", "cobyla", "cobyqa")
_TAKE_HESSIAN = ("newton-cg", "dogleg", "trust-ncg", "trust-krylov", "trust-exact", "trust-constr")
_COUNTS = ("nfev", "njev", "nhev", "nit")

Search = Callable[[Callable[..., Any], Any], Any]


class _Searches:
    """The searches of one call, one for each lane, and what is reported of them."""

    __slots__ = ("found", "name", "search")

    def __init__(self, name: str, search: Search) -> None:
        self.name = name
        self.search = search
        self.found: list[Any] = []

    def solve(self, f: Callable[..., Any], guess: Any) -> Any:
        """A solution, from a search on plain arrays whatever `f` captures."""
        captured = Captured(f)

        def run(guess: Any, *values: Any) -> Any:
            found = self.search(captured.over(values).contents, guess)
            if not found.success:
                raise RuntimeError(f"{self.name} did not converge: {' '.join(found.message.split())}")
            self.found.append(found)
            return found.x

        return primitive(run)(guess, *captured.cells)

    def report(self, x: Any, value: Any) -> Any:
        """What SciPy reports, with the solution and the function's value there; counts are those of all lanes."""
        from scipy.optimize import OptimizeResult

        last = self.found[-1]
        counts = {name: sum(found[name] for found in self.found) for name in _COUNTS if name in last}
        return OptimizeResult(x=x, fun=value, success=True, status=last.get("status"), message=last.message, **counts)


def _starting_point(name: str, x0: Any) -> Any:
    x0 = bare(asarray(x0))
    if np.ndim(x0) > 1:
        raise ValueError(f"{name}: x0 has shape {np.shape(x0)}; it must have one axis at most")
    return np.reshape(x0, -1).astype(float)


def _on_plain(f: Callable[..., Any]) -> Callable[[Any], Any]:
    """A function as SciPy calls it: its result is a plain array."""
    return lambda x: bare(f(x))


@for_users
def root(
    fun: Callable[..., Any],
    x0: Any,
    args: Sequence[Any] | Any = (),
    method: str = "hybr",
    tol: float | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    """A root of a vector function by `scipy.optimize.root`, differentiable in what the function depends on.

    Args:
        fun: ``fun(x, *args)`` gives as many numbers as `x` has, all zero at the root.  What it captures, and `args`,
            are differentiated.
        x0: where the search begins, a number or an array of one axis.  The root does not depend on it.
        args: further arguments of `fun`, arrays and trees of them.
        method: one of SciPy's except ``"lm"``, whose result need not be a root.
        tol: SciPy's tolerance.
        options: SciPy's options for the method.

    Returns:
        A `scipy.optimize.OptimizeResult`: the root `x`, an array of one axis, the residual `fun`, and SciPy's
        `message`, `status` and counts.  Under `br.vmap` the searches of all lanes are counted together.

    Raises:
        RuntimeError: the search did not converge, in some lane; the message is SciPy's.

    >>> import numpy as np, bindrune as br
    >>> def sqrt(a):
    ...     return br.scipy.optimize.root(lambda x: x**2 - a, np.ones(2)).x
    >>> sqrt(np.array([4.0, 9.0])).round(6)
    array([2., 3.])
    >>> br.jacobian(sqrt)(np.array([4.0, 9.0])).round(6)
    array([[0.25    , 0.      ],
           [0.      , 0.166667]])
    """
    name = f"br.scipy.optimize.root, method {method!r},"
    if method.lower() == "lm":
        raise ValueError(f"{name} minimises squares: what it finds need not be a root. Use br.scipy.optimize.minimize")
    args = args if isinstance(args, tuple) else (args,)

    def residual(x: Any) -> Any:
        return np.reshape(bare(asarray(fun(x.copy(), *args))), -1)

    def search(f: Callable[..., Any], guess: Any) -> Any:
        from scipy import optimize

        jac = jacobian(f) if method.lower() == "hybr" else None
        return optimize.root(_on_plain(f), guess, jac=jac, method=method, tol=tol, options=options)

    searches = _Searches(name, search)
    x = custom_root(residual, _starting_point(name, x0), searches.solve)
    return searches.report(x, residual(x))


@for_users
def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Sequence[Any] | Any = (),
    method: str = "BFGS",
    tol: float | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    """A minimum of a function by `scipy.optimize.minimize`, differentiable in what the function depends on.

    The derivative is as precise as the minimum: see `tol`, and ``method="trust-exact"``, which uses Hessians.

    Args:
        fun: ``fun(x, *args)`` gives one number.  What it captures, and `args`, are differentiated.
        x0: where the search begins, a number or an array of one axis.  The minimum does not depend on it.
        args: further arguments of `fun`, arrays and trees of them.
        method: one of SciPy's.  Gradients and Hessians are supplied to those that take them.
        tol: SciPy's tolerance.
        options: SciPy's options for the method.

    Returns:
        A `scipy.optimize.OptimizeResult`: the minimum `x`, an array of one axis, the value `fun`, which is
        differentiable too, and SciPy's `message`, `status` and counts.  Under `br.vmap` the searches of all lanes are
        counted together.

    Raises:
        RuntimeError: the search did not converge, in some lane; the message is SciPy's.

    >>> import numpy as np, bindrune as br
    >>> def nearest(a):
    ...     return br.scipy.optimize.minimize(lambda x, a: np.sum((x - a**2) ** 2), np.zeros(2), args=(a,)).x
    >>> br.jacobian(nearest)(np.array([1.0, 3.0])).round(6)
    array([[2., 0.],
           [0., 6.]])
    """
    name = f"br.scipy.optimize.minimize, method {method!r},"
    args = args if isinstance(args, tuple) else (args,)

    def objective(x: Any) -> Any:
        return fun(x.copy(), *args)

    def search(gradient: Any, guess: Any) -> Any:
        from scipy import optimize

        f = gradient.function
        return optimize.minimize(
            _on_plain(f),
            guess,
            method=method,
            jac=None if method.lower() in _TAKE_NO_GRADIENT else gradient,
            hess=hessian(f) if method.lower() in _TAKE_HESSIAN else None,
            tol=tol,
            options=options,
        )

    searches = _Searches(name, search)
    x = custom_root(grad(objective), _starting_point(name, x0), searches.solve)
    return searches.report(x, objective(x))
