"""Finite differences: derivatives from values alone, to check others by.

Each element of the argument is moved by a step, and the function is called as it stands.  By default a step balances
truncation and rounding in the argument's precision, and grows with elements larger than one.  The complex step has
neither error, but asks for a function that extends to complex numbers: whether this one does is verified.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, dtype_of
from ..core.errors import NonDifferentiableError, NonScalarOutputError, for_users
from ..core.foreign import as_array
from ..core.operation import is_differentiable
from .reverse import lowest

__all__ = ["default_step", "finite_diff", "finite_diff_jacobian", "precision"]

_METHODS = ("central", "forward", "backward", "complex")


def precision(leaves: Sequence[Any]) -> float:
    """The relative rounding error of the coarsest of some numbers; integers have none."""
    return max((float(np.finfo(dtype_of(x)).eps) for x in leaves if dtype_of(x).kind in "fc"), default=0.0)


def default_step(leaf: Any, method: str) -> float:
    """The step for elements up to one."""
    if method == "complex":
        return 1e-20
    return float(precision([leaf]) ** (1 / 3 if method == "central" else 1 / 2))


class _Differences:
    """The slopes of a function along each element of a tree."""

    def __init__(self, function: Callable[[Any], Any], x: Any, method: str, eps: float | None) -> None:
        if method not in _METHODS:
            raise ValueError(f"finite differences: method={method!r} is none of {', '.join(_METHODS)}")
        self.function = function
        self.method = method
        self.eps = eps
        leaves, self.structure = trees.flatten(x)
        self.leaves = [as_array(leaf) for leaf in leaves]
        self.here: list[Any] | None = None
        self.result: Any = None
        for i, leaf in enumerate(self.leaves):
            if not isinstance(leaf, (np.ndarray, np.generic, float, complex, Array)) or not is_differentiable(leaf):
                what = f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else repr(leaf)
                raise NonDifferentiableError(
                    f"finite differences: x{trees.leaf_path(x, i)} has {what}, which has no derivative. Pass a float."
                )
            if method == "complex" and dtype_of(leaf).kind == "c":
                raise TypeError(
                    f"finite differences: x{trees.leaf_path(x, i)} is complex; method='complex' needs reals"
                )

    def value(self, changed: dict[int, Any]) -> list[Any]:
        """The leaves of the function's value, some leaves of the argument being others."""
        leaves = [changed.get(i, leaf) for i, leaf in enumerate(self.leaves)]
        own = [leaf.copy() if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
        found, self.result = trees.flatten(self.function(trees.unflatten(self.structure, own)))
        return found

    def unmoved(self) -> list[Any]:
        """The leaves of the function's value at the point itself."""
        if self.here is None:
            self.here = self.value({})
        return self.here

    def steps(self, i: int, method: str) -> Any:
        """The step for each element of a leaf."""
        size = np.abs(self.leaves[i])
        return default_step(size, method) * np.maximum(1, size) if self.eps is None else self.eps * np.ones_like(size)

    def along(self, i: int, unit: complex = 1) -> list[list[Any]]:
        """For each element of leaf `i` the slopes of the result's leaves, the element moving by `unit`."""
        leaf = self.leaves[i]
        steps = self.steps(i, self.method) * unit
        found = []
        for index in np.ndindex(np.shape(leaf)):
            chosen = np.zeros(np.shape(leaf), bool)
            chosen[index] = True
            found.append(self.slopes(i, index, np.where(chosen, steps, 0).astype(steps.dtype)))
        return found

    def slopes(self, i: int, index: tuple[int, ...], step: Any) -> list[Any]:
        """The slopes of the result's leaves along one element."""
        leaf = self.leaves[i]
        if self.method == "complex":
            return [np.imag(v) / step[index] for v in self.extended({i: leaf + 1j * step})]
        ahead = leaf if self.method == "backward" else leaf + step
        behind = leaf if self.method == "forward" else leaf - step
        left = self.unmoved() if ahead is leaf else self.value({i: ahead})
        right = self.unmoved() if behind is leaf else self.value({i: behind})
        # The step as it came out in rounded numbers.
        distance = np.abs(ahead - behind)[index]
        return [(a - b) / distance for a, b in zip(left, right, strict=True)]

    def extended(self, changed: dict[int, Any]) -> list[Any]:
        """The leaves of the function's value at a complex point."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                found = self.value(changed)
        except (TypeError, np.exceptions.ComplexWarning) as error:
            raise TypeError(f"finite differences: {_NOT_COMPLEX} It raised {type(error).__name__}: {error}") from error
        if any(dtype_of(v).kind != "c" for v in found):
            raise TypeError(f"finite differences: {_NOT_COMPLEX} It returned real numbers.")
        return found

    def verify(self, slopes: Sequence[Sequence[Sequence[Any]]]) -> None:
        """Hold the slopes of complex steps against one central difference: all elements moving together."""
        steps = [self.steps(i, "central") for i in range(len(self.leaves))]
        ahead = self.value({i: leaf + s for i, (leaf, s) in enumerate(zip(self.leaves, steps, strict=True))})
        behind = self.value({i: leaf - s for i, (leaf, s) in enumerate(zip(self.leaves, steps, strict=True))})
        distances = [step for s in steps for step in np.ravel(s)]
        moves = list(zip(distances, [found for leaf in slopes for found in leaf], strict=True))
        for j, (a, b) in enumerate(zip(ahead, behind, strict=True)):
            expected = sum(step * found[j] for step, found in moves)
            rounding = 100 * precision([a]) * (np.abs(a) + np.abs(b))
            tolerance = 0.01 * sum(np.abs(step * found[j]) for step, found in moves) + rounding
            if np.any(lowest(np.abs((a - b) / 2 - expected) > tolerance)):
                raise TypeError(f"finite differences: {_NOT_COMPLEX} Its complex steps disagree with its differences.")


_NOT_COMPLEX = (
    "method='complex' needs a function that extends to complex numbers: not by np.abs, np.real, "
    "comparisons, float() or the functions of math. Use method='central'."
)


@for_users
def finite_diff(f: Callable[[Any], Any], x: Any, method: str = "central", eps: float | None = None) -> Any:
    """The gradient of a function of one argument by finite differences.

    Args:
        f: a function that returns one number, real unless all of `x` is complex.
        x: its argument, an array, a number or a tree of them.
        method: ``"central"``, ``"forward"``, ``"backward"`` or ``"complex"`` (a step in the imaginary direction, exact
            to rounding, for functions that extend to complex numbers).
        eps: the step; by default one that suits the method and the dtype.

    Returns:
        A tree like `x`, with the conventions of `br.grad`.

    Raises:
        NonDifferentiableError: a leaf of `x` is not of a floating or complex type.
        NonScalarOutputError: `f` returned something else than one such number.
        TypeError: with ``method="complex"``, the function does not extend to complex numbers.

    >>> import numpy as np, bindrune as br
    >>> br.finite_diff(lambda x: np.sum(np.exp(x)), np.array([0.0, 1.0]), method="complex")
    array([1.        , 2.71828183])
    """
    differences = _Differences(f, x, method, eps)
    slopes = [differences.along(i) for i in range(len(differences.leaves))]
    all_complex = all(dtype_of(leaf).kind == "c" for leaf in differences.leaves)
    for found in (found for leaf in slopes for found in leaf):
        if len(found) != 1 or np.shape(found[0]) or (dtype_of(found[0]).kind == "c" and not all_complex):
            what = f"{len(found)} arrays"
            if len(found) == 1:
                what = f"an array of shape {np.shape(found[0])} and dtype {dtype_of(found[0])}"
            raise NonScalarOutputError(
                f"finite differences: the function returned {what}, and a gradient needs one real number. "
                "Use br.finite_diff_jacobian."
            )
    if method == "complex":
        differences.verify(slopes)
    gradients = []
    for i, (leaf, found) in enumerate(zip(differences.leaves, slopes, strict=True)):
        numbers = [np.real(slope) for (slope,) in found]
        if dtype_of(leaf).kind == "c":
            numbers = [a + 1j * np.real(b) for a, (b,) in zip(numbers, differences.along(i, 1j), strict=True)]
        gradients.append(_stacked(numbers, np.shape(leaf), dtype_of(leaf)))
    return trees.unflatten(differences.structure, gradients)


@for_users
def finite_diff_jacobian(f: Callable[[Any], Any], x: Any, method: str = "central", eps: float | None = None) -> Any:
    """The Jacobian of a function of one argument by finite differences.

    Arguments and errors are those of `finite_diff`; `f` may return any tree of arrays.  For a complex argument the
    function is taken to be holomorphic.

    Returns:
        The result's tree, at each of its leaves a tree like `x`, as `br.jacobian` gives it.

    >>> import numpy as np, bindrune as br
    >>> br.finite_diff_jacobian(lambda x: x[0] * x, np.array([2.0, 3.0])).round(6)
    array([[4., 0.],
           [3., 2.]])
    """
    differences = _Differences(f, x, method, eps)
    values = differences.unmoved()
    slopes = [differences.along(i) for i in range(len(differences.leaves))]
    if method == "complex":
        differences.verify(slopes)
    rows = []
    for j, value in enumerate(values):
        blocks = []
        for leaf, found in zip(differences.leaves, slopes, strict=True):
            dtype = np.result_type(dtype_of(value), dtype_of(leaf))
            block = _stacked([column[j] for column in found], (*np.shape(leaf), *np.shape(value)), dtype)
            axes = range(np.ndim(leaf))
            blocks.append(np.moveaxis(block, axes, range(-np.ndim(leaf), 0)) if axes else block)
        rows.append(trees.unflatten(differences.structure, blocks))
    return trees.unflatten(differences.result, rows)


def _stacked(parts: Sequence[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Slopes along the elements of a leaf as one array, or a number."""
    if not parts:
        return np.zeros(shape, dtype)
    whole = np.reshape(np.stack(parts), shape).astype(dtype)
    return whole if shape else whole[()]
