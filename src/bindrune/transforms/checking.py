"""Checking derivatives against finite differences.

`check_grads` is for tests: it raises, with a table of the worst elements.  It reduces the result to one number by fixed
weights that tell elements apart, and compares the derivative of that number in each mode, to any order.
`check_gradient` and `check_gradients` report on the gradient of a function that returns a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import dtype_of
from ..core.errors import GradientCheckError, NonDifferentiableError, for_users
from ..core.foreign import as_array
from ..core.operation import is_differentiable, spec_of
from .calls import argument_name, describe
from .differences import default_step, finite_diff, precision
from .forward import jvp
from .gradients import grad, vjp

__all__ = ["GradientCheck", "Mismatch", "check_gradient", "check_gradients", "check_grads"]


@dataclass(frozen=True)
class Mismatch:
    """An element whose derivatives differ."""

    argument: str
    """The argument, and the path of the array in it."""
    index: tuple[int, ...]
    autodiff: Any
    finite_difference: Any
    error: float


@dataclass(frozen=True)
class GradientCheck:
    """How a gradient compares with finite differences."""

    passed: bool
    max_abs_error: float
    max_rel_error: float
    mean_abs_error: float
    mean_rel_error: float
    num_checked: int
    num_failed: int
    failed_indices: tuple[Mismatch, ...]
    """The elements that differ by more than the tolerance, the worst first."""

    def __str__(self) -> str:
        summary = (
            f"{self.num_failed} of {self.num_checked} derivatives differ from finite differences "
            f"(largest error {self.max_abs_error:.3g} absolute, {self.max_rel_error:.3g} relative)"
        )
        return "\n".join((summary, *_table(self.failed_indices)))


def _table(worst: Sequence[Mismatch], most: int = 10) -> Iterator[str]:
    """The worst elements, a line each."""
    if not worst:
        return
    rows = [
        ("argument", "index", "autodiff", "finite difference", "error"),
        *(
            (m.argument, str(m.index), f"{m.autodiff:.8g}", f"{m.finite_difference:.8g}", f"{m.error:.3g}")
            for m in worst[:most]
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if len(worst) > most:
        yield f"  and {len(worst) - most} more"


def _compare(names: Sequence[str], exact: Any, numeric: Any, atol: float, rtol: float) -> GradientCheck:
    """Compare two gradients, which are trees of one structure, whose leaves have these names."""
    failed: list[Mismatch] = []
    errors: list[Any] = []
    relative: list[Any] = []
    for name, a, n in zip(names, trees.flatten(exact)[0], trees.flatten(numeric)[0], strict=True):
        a, n = np.asarray(a), np.asarray(n)
        error = np.abs(a - n)
        size = np.maximum(np.abs(a), np.abs(n))
        errors.append(np.ravel(error))
        relative.append(np.ravel(error / np.where(size == 0, 1, size)))
        # Written so that NaN fails.
        for index in zip(*np.nonzero(np.atleast_1d(~(error <= atol + rtol * np.abs(n)))), strict=True):
            index = tuple(int(i) for i in index) if a.shape else ()
            failed.append(Mismatch(name, index, a[index], n[index], float(error[index])))
    failed.sort(key=lambda m: -np.nan_to_num(m.error, nan=np.inf))
    every, ratios = (np.concatenate(parts) if parts else np.zeros(0) for parts in (errors, relative))
    return GradientCheck(
        passed=not failed,
        max_abs_error=float(np.max(every, initial=0)),
        max_rel_error=float(np.max(ratios, initial=0)),
        mean_abs_error=float(np.mean(every)) if every.size else 0.0,
        mean_rel_error=float(np.mean(ratios)) if ratios.size else 0.0,
        num_checked=every.size,
        num_failed=len(failed),
        failed_indices=tuple(failed),
    )


def _tolerance(leaves: Sequence[Any], terms: Sequence[Any], eps: float | None) -> tuple[float, float]:
    """Absolute and relative: what central differences of a sum of these terms can be trusted for."""
    coarse = precision([*leaves, *terms])
    trusted = 2 * coarse ** (1 / 3)
    step = eps or min((default_step(leaf, "central") for leaf in leaves), default=1.0)
    rounding = coarse * sum(float(np.sum(np.abs(t))) for t in terms) / step
    return trusted + 10 * rounding, trusted


def _names(f: Callable[..., Any], arguments: Sequence[Any], numbers: Sequence[int]) -> list[str]:
    """How the leaves of some arguments are called."""
    return [argument_name(f, i) + path for i in numbers for path in trees.leaf_paths(arguments[i])]


@for_users
def check_gradients(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    eps: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> GradientCheck:
    """Compare the gradient of a function with central differences, element by element.

    Args:
        f: a function that returns one real number.
        args: its arguments, arrays, numbers and trees; leaves without a derivative (integers) are kept as they are.
        eps: the step of the differences.
        rtol: the relative error that passes; by default what central differences can be trusted for in the precision
            at hand.
        atol: the absolute error that passes, in addition.

    Returns:
        A `GradientCheck` with `passed`, `max_abs_error`, `max_rel_error`, `mean_abs_error`, `mean_rel_error`,
        `num_checked`, `num_failed` and `failed_indices`; its `str` is a table of the worst elements.

    >>> import numpy as np, bindrune as br
    >>> check = br.check_gradients(lambda w, x: np.sum(np.tanh(x @ w)), (np.ones(3), np.eye(3)))
    >>> check.passed, check.num_checked
    (True, 12)
    """
    arguments = _read(args)
    chosen = [i for i, a in enumerate(arguments) if any(map(_has_derivative, trees.flatten(a)[0]))]
    gradients = grad(f, argnums=tuple(chosen or [0]), allow_int=bool(chosen))(*_own(arguments))
    leaves, structure = trees.flatten(tuple(arguments[i] for i in chosen))
    moving = [i for i, leaf in enumerate(leaves) if _has_derivative(leaf)]

    def value(moved: Sequence[Any]) -> Any:
        changed = _own(leaves)
        for i, leaf in zip(moving, moved, strict=True):
            changed[i] = leaf
        whole = _own(arguments)
        for i, argument in zip(chosen, trees.unflatten(structure, changed), strict=True):
            whole[i] = argument
        return f(*whole)

    here = [leaves[i] for i in moving]
    found, every = trees.flatten(gradients)[0], _names(f, arguments, chosen)
    names, exact = [every[i] for i in moving], [found[i] for i in moving]
    numeric = finite_diff(value, here, eps=eps)
    default = _tolerance(here, [value(_own(here))], eps)
    return _compare(names, exact, numeric, default[0] if atol is None else atol, default[1] if rtol is None else rtol)


def _has_derivative(leaf: Any) -> bool:
    return isinstance(leaf, (np.ndarray, np.generic, float, complex)) and is_differentiable(leaf)


def _read(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Arguments with the arrays of other libraries read."""
    return tuple(trees.map_leaves(as_array, a) for a in arguments)


def _own(arguments: Sequence[Any]) -> list[Any]:
    """Copies of arguments, which the function may write into."""
    return [trees.map_leaves(lambda v: v.copy() if isinstance(v, np.ndarray) else v, a) for a in arguments]


def check_gradient(
    f: Callable[[Any], Any],
    x: Any,
    *,
    eps: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> GradientCheck:
    """`check_gradients` for a function of one argument.

    >>> import numpy as np, bindrune as br
    >>> br.check_gradient(lambda x: np.sum(x**3), np.array([1.0, 2.0])).passed
    True
    """
    return check_gradients(f, (x,), eps=eps, rtol=rtol, atol=atol)


# -------------------------------------------------------------------------------------------------------- check_grads

_MODES = {"fwd": "forward", "rev": "reverse"}


@for_users
def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 1,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Check the derivatives of a function against central differences, and raise where they differ.

    Every element of every argument is moved, so this is for small arguments.

    Args:
        f: any function of arrays, numbers and trees of them.
        args: its arguments, all of floating or complex type.
        order: the highest derivative to check; each mode is checked on the derivatives by each mode.
        modes: ``"fwd"`` (`jvp`), ``"rev"`` (`vjp`), or both.
        atol: the absolute error that passes; by default what central differences can be trusted for in the precision
            at hand.
        rtol: the relative error that passes, in addition.
        eps: the step of the differences.

    Raises:
        GradientCheckError: a derivative differs; the message has a table of the worst elements.
        NonDifferentiableError: a leaf of an argument is not of a floating or complex type.

    >>> import numpy as np, bindrune as br
    >>> br.check_grads(lambda a, b: np.exp(a) * np.sin(b), (0.5, np.array([1.0, 2.0])), order=2)
    """
    for mode in modes:
        if mode not in _MODES:
            raise ValueError(f"br.check_grads: modes={modes!r} has {mode!r}, which is neither 'fwd' nor 'rev'")
    arguments = _read(args)
    title = f"br.check_grads of {describe(f)}"
    names = _names(f, arguments, range(len(arguments)))
    for name, leaf in zip(names, trees.flatten(arguments)[0], strict=True):
        if not _has_derivative(leaf):
            what = f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else repr(leaf)
            raise NonDifferentiableError(f"{title}: {name} has {what}, which has no derivative. Pass a float.")
    _check(f, title, names, arguments, order, modes, atol, rtol, eps)


def _check(
    f: Callable[..., Any],
    title: str,
    names: Sequence[str],
    arguments: Sequence[Any],
    order: int,
    modes: Sequence[str],
    atol: float | None,
    rtol: float | None,
    eps: float | None,
) -> None:
    value = f(*_own(arguments))
    leaves, structure = trees.flatten(value)
    single = len(leaves) == 1 and not np.shape(leaves[0]) and dtype_of(leaves[0]).kind == "f"
    weights = [dtype_of(leaves[0]).type(1)] if single else [_weights(leaf, i) for i, leaf in enumerate(leaves)]
    of = "" if single else " (of a weighed sum of the result)"
    terms = [w * leaf for w, leaf in zip(weights, leaves, strict=True)]

    def weighed(tree: Any) -> Any:
        return sum(float(np.sum(np.real(w * v))) for w, v in zip(weights, trees.flatten(tree)[0], strict=True))

    numeric = finite_diff(lambda moving: weighed(f(*moving)), tuple(arguments), eps=eps)
    default = _tolerance(trees.flatten(arguments)[0], terms, eps)
    tolerance = default[0] if atol is None else atol, default[1] if rtol is None else rtol
    for mode in modes:
        if mode == "fwd":
            exact = _by_pushing(f, arguments, weighed)
        else:
            pulled = vjp(f, *_own(arguments))[1](trees.unflatten(structure, weights))
            exact = trees.map_leaves(np.conjugate, pulled)
        check = _compare(names, exact, numeric, *tolerance)
        if not check.passed:
            raise GradientCheckError(f"{title}, {_MODES[mode]} mode{of}: {check}")
    if order > 1:
        tangents = tuple(trees.map_leaves(lambda v: _weights(v, 1), a) for a in arguments)
        cotangent = trees.unflatten(structure, weights)
        derivatives: dict[str, Callable[..., Any]] = {
            "fwd": lambda *moving: jvp(f, moving, tangents)[1],
            "rev": lambda *moving: vjp(f, *moving)[1](cotangent),
        }
        for mode in modes:
            deeper = f"{title}, derivative of {_MODES[mode]} mode"
            _check(derivatives[mode], deeper, names, arguments, order - 1, modes, atol, rtol, eps)


def _weights(leaf: Any, seed: int) -> Any:
    """Numbers between 0.5 and 1.5 in magnitude like a leaf; zero where it has no derivative."""
    spec = spec_of(leaf)
    if not is_differentiable(leaf):
        return np.zeros(spec.shape, spec.dtype)[()]
    generator = np.random.default_rng(seed)
    drawn = generator.uniform(0.5, 1.5, spec.shape) * generator.choice([-1, 1], spec.shape)
    if spec.dtype.kind == "c":
        drawn = drawn + 1j * generator.uniform(0.5, 1.5, spec.shape)
    found = np.asarray(drawn).astype(spec.dtype)
    return found if spec.shape else found[()]


def _by_pushing(f: Callable[..., Any], arguments: Sequence[Any], weighed: Callable[[Any], Any]) -> Any:
    """The gradient of the weighed result by forward mode: one push along each element."""
    leaves, structure = trees.flatten(tuple(arguments))
    zeros = [np.zeros(np.shape(leaf), dtype_of(leaf)) for leaf in leaves]

    def push(i: int, index: tuple[int, ...], unit: complex) -> Any:
        tangent = zeros[i].copy()
        tangent[index] = unit
        moved = trees.unflatten(structure, [*zeros[:i], tangent, *zeros[i + 1 :]])
        return weighed(jvp(f, _own(arguments), moved)[1])

    found = []
    for i, leaf in enumerate(leaves):
        gradient = zeros[i].copy()
        for index in np.ndindex(gradient.shape):
            gradient[index] = push(i, index, 1)
            if dtype_of(leaf).kind == "c":
                gradient[index] += 1j * push(i, index, 1j)
        found.append(gradient)
    return trees.unflatten(structure, found)
