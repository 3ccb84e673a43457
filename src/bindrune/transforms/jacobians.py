"""Jacobians, Hessians and linearisations: compositions of forward mode, reverse mode and `vmap`.

One evaluation of the function gives a whole Jacobian: its pushforward, or its pullback, is mapped over the standard
basis of one side.  A Jacobian of trees has the structure of the result and at each of its leaves a tree like the
argument; each block has the shape of the result's leaf followed by that of the argument's.

A linearisation is the transpose of the transpose: the pullback is a linear function, and pulling back through *it*
pushes tangents forward without another evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, dtype_of
from ..core.errors import NonDifferentiableError, TangentError, for_users
from ..core.foreign import as_array
from ..core.operation import Spec, is_differentiable, spec_of
from .batch import vmap
from .calls import FLOAT0, Transformed, argument_name, in_call_order, matching_leaves, signature_of
from .forward import jvp, push_forward, zero_tangent
from .gradients import Derivative, Recorded, grad, vjp

__all__ = [
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "linear_transpose",
    "linearize",
    "value_and_jacfwd",
    "value_and_jacrev",
]


def _basis(specs: Sequence[Spec]) -> list[Any]:
    """The standard basis of the space of some leaves: for each leaf an array with one more axis, of all vectors."""
    total = _size(specs)
    found = []
    start = 0
    for spec in specs:
        block = np.zeros((total, spec.size), spec.dtype)
        block[start : start + spec.size] = np.eye(spec.size, dtype=spec.dtype)
        found.append(block.reshape(total, *spec.shape))
        start += spec.size
    return found


def _blocks(mapped: Any, specs: Sequence[Spec]) -> list[Any]:
    """The rows of a mapped derivative, cut into one block a leaf of the basis."""
    found = []
    start = 0
    for spec in specs:
        block = mapped[start : start + spec.size].reshape((*spec.shape, *mapped.shape[1:]))
        found.append(block if block.shape else block[()])
        start += spec.size
    return found


def _columns(mapped: Any, specs: Sequence[Spec]) -> list[Any]:
    """The same for the basis of the arguments, whose axes come last."""
    blocks = zip(_blocks(mapped, specs), specs, strict=True)
    return [np.moveaxis(b, range(s.ndim), range(-s.ndim, 0)) if s.ndim else b for b, s in blocks]


class Jacobian(Derivative):
    """The Jacobian, in the mode that `name` says.

    Rows are for leaves of the result, columns for leaves of the chosen arguments.  Where either has no derivative
    (integers and booleans) there is no lane for it, and the block is zero.
    """

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        keys = self.selection.keys(self.function, arguments, keywords, self)
        order = in_call_order(keys, keywords)
        chosen = [trees.map_leaves(as_array, keywords[k] if isinstance(k, str) else arguments[k]) for k in order]
        for key, argument in zip(order, chosen, strict=True):
            self._check(argument_name(self.function, key), argument)
        by_mode = self._forward if self.transformation.endswith("jacfwd") else self._reverse
        value, blocks, aux = by_mode(order, chosen, arguments, keywords)
        self._check("the result", value)

        results, structure = trees.flatten(value)
        rows = []
        for result in results:
            row = _row(result, chosen, next(blocks) if is_differentiable(result) else None)
            picked = tuple(row[order.index(k)] for k in keys)
            rows.append(picked[0] if self.selection.single else picked)
        return self.answer(value, aux, trees.unflatten(structure, rows))

    def _forward(
        self, order: Sequence[int | str], chosen: Sequence[Any], arguments: Sequence[Any], keywords: dict[str, Any]
    ) -> tuple[Any, Iterator[list[Any]], Any]:
        columns = _specs(chosen)

        def push(*vectors: Any) -> Any:
            rest = iter(vectors)
            tangents = [
                trees.map_leaves(lambda x: next(rest) if is_differentiable(x) else _float0(x), a) for a in chosen
            ]
            value, tangent, aux = push_forward(
                self, dict(zip(order, tangents, strict=True)), arguments, keywords, self.has_aux
            )
            return tangent, value, aux

        mapped = vmap(push, out_axes=(0, None, None), axis_size=_size(columns))
        tangent, value, aux = mapped(*_basis(columns))
        moved = zip(trees.flatten(tangent)[0], trees.flatten(value)[0], strict=True)
        return value, (_columns(t, columns) for t, result in moved if is_differentiable(result)), aux

    def _reverse(
        self, order: Sequence[int | str], chosen: Sequence[Any], arguments: Sequence[Any], keywords: dict[str, Any]
    ) -> tuple[Any, Iterator[list[Any]], Any]:
        recorded = Recorded(self, order, arguments, keywords, self.has_aux, owns=True)
        rows, columns = _specs(recorded.value), _specs(chosen)
        back = _on_leaves(recorded)
        if self.transformation == "jacobian" and _size(columns) < _size(rows):
            mapped = vmap(_transpose(back, rows), axis_size=_size(columns))(*_basis(columns))
            return recorded.value, (_columns(m, columns) for m in mapped), recorded.aux
        mapped = vmap(back, axis_size=_size(rows))(*_basis(rows))
        cut = [_blocks(m, rows) for m in mapped]
        return recorded.value, ([column[i] for column in cut] for i in range(len(rows))), recorded.aux

    def _check(self, name: str, tree: Any) -> None:
        """Refuse complex numbers where the function is not said to be holomorphic, and others where it is."""
        if self.holomorphic:
            self.refuse_reals(name, tree)
            return
        for i, leaf in enumerate(trees.flatten(tree)[0]):
            if dtype_of(leaf).kind == "c":
                raise NonDifferentiableError(
                    f"{self}: {name}{trees.leaf_path(tree, i)} is complex. If the function is holomorphic pass "
                    "holomorphic=True; otherwise differentiate with respect to the real and imaginary parts."
                )


def _specs(tree: Any) -> list[Spec]:
    """The shapes and dtypes of the leaves that have a derivative."""
    return [spec_of(leaf) for leaf in trees.flatten(tree)[0] if is_differentiable(leaf)]


def _size(specs: Sequence[Spec]) -> int:
    return sum(spec.size for spec in specs)


def _float0(leaf: Any) -> Any:
    return np.zeros(spec_of(leaf).shape, FLOAT0)


def _row(result: Any, chosen: Sequence[Any], found: Sequence[Any] | None) -> list[Any]:
    """The blocks for a leaf of the result, as trees like the arguments, from those that are not zero by their types."""
    blocks = iter(found or ())

    def block(leaf: Any) -> Any:
        differentiable = is_differentiable(leaf)
        if differentiable and found is not None:
            return next(blocks)
        shape = (*spec_of(result).shape, *spec_of(leaf).shape)
        if not differentiable:
            return np.zeros(shape, FLOAT0)
        zeros = np.zeros(shape, dtype_of(result))
        return zeros if shape else zeros[()]

    return [trees.map_leaves(block, argument) for argument in chosen]


def _on_leaves(recorded: Recorded) -> Callable[..., list[Any]]:
    """A pullback as a function from cotangents of leaves to cotangents of leaves, those that have a derivative."""
    results = trees.flatten(recorded.value)[0]
    marks = [m for m, result in zip(recorded.outputs, results, strict=True) if is_differentiable(result)]

    def pull_back(*cotangents: Any) -> list[Any]:
        pairs = zip(marks, cotangents, strict=True)
        return recorded.pull_back_leaves([(m, _bare(ct)) for m, ct in pairs if m is not None])

    return pull_back


def _bare(cotangent: Any) -> Any:
    return cotangent.snapshot() if isinstance(cotangent, Array) else cotangent


def _transpose(function: Callable[..., Any], specs: Sequence[Spec]) -> Callable[..., list[Any]]:
    """The transpose of a linear function of arrays of these shapes."""
    zeros = [np.zeros(s.shape, s.dtype) if s.shape else s.dtype.type(0) for s in specs]
    _, pullback = vjp(function, *zeros)
    return lambda *cotangents: list(pullback(list(cotangents)))


def jacfwd(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    argnames: str | Sequence[str] | None = None,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """The Jacobian, by forward mode: one lane for each element of the chosen arguments.

    Args:
        f: any function of arrays, numbers and trees of them.
        argnums: the position of the argument to differentiate with respect to, or several; the first by default.
        argnames: the same for arguments by name.
        has_aux: whether `f` returns ``(value, aux)``; then ``(jacobian, aux)`` returns.
        holomorphic: whether `f` is a holomorphic function of complex arguments.
        allow_int: whether integers and booleans may stand among the leaves; their blocks are zeros of dtype float0.

    Returns:
        A function of the same arguments.  For a result of shape ``m`` and an argument of shape ``n`` it gives an
        array of shape ``m + n``; for trees a tree of those.

    Raises:
        NonDifferentiableError: a chosen leaf is not of a floating type; a leaf is complex without `holomorphic`, or
            with it is not.

    >>> import numpy as np, bindrune as br
    >>> br.jacfwd(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return Jacobian("jacfwd", False, f, argnums, argnames, has_aux, holomorphic, allow_int)


@signature_of(jacfwd)
def jacrev(*arguments: Any, **keywords: Any) -> Callable[..., Any]:
    """The Jacobian, by reverse mode: one lane for each element of the result.  As `jacfwd` otherwise.

    >>> import numpy as np, bindrune as br
    >>> br.jacrev(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    return Jacobian("jacrev", False, *arguments, **keywords)


@signature_of(jacfwd)
def jacobian(*arguments: Any, **keywords: Any) -> Callable[..., Any]:
    """The Jacobian, by the mode that needs fewer lanes; the function is evaluated once.  As `jacfwd` otherwise.

    >>> import numpy as np, bindrune as br
    >>> br.jacobian(lambda x: np.stack([x, x**2]))(3.0)
    array([1., 6.])
    """
    return Jacobian("jacobian", False, *arguments, **keywords)


@signature_of(jacfwd)
def value_and_jacfwd(*arguments: Any, **keywords: Any) -> Callable[..., Any]:
    """The value and the Jacobian, by forward mode, from one evaluation.  As `jacfwd` otherwise.

    >>> import numpy as np, bindrune as br
    >>> br.value_and_jacfwd(np.square)(3.0)
    (np.float64(9.0), np.float64(6.0))
    """
    return Jacobian("jacfwd", True, *arguments, **keywords)


@signature_of(jacfwd)
def value_and_jacrev(*arguments: Any, **keywords: Any) -> Callable[..., Any]:
    """The value and the Jacobian, by reverse mode, from one evaluation.  As `jacfwd` otherwise.

    >>> import numpy as np, bindrune as br
    >>> br.value_and_jacrev(np.square)(3.0)
    (np.float64(9.0), np.float64(6.0))
    """
    return Jacobian("jacrev", True, *arguments, **keywords)


@signature_of(jacfwd)
def hessian(f: Callable[..., Any], *arguments: Any, **keywords: Any) -> Callable[..., Any]:
    """The matrix of second derivatives: forward mode over reverse mode.  As `jacfwd` otherwise.

    >>> import numpy as np, bindrune as br
    >>> br.hessian(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    return jacfwd(jacrev(f, *arguments, **keywords), *arguments, **keywords)


@for_users
def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The product of a Hessian with a vector, without the Hessian: the tangent of the gradient.

    Args:
        f: a function that returns one number.
        primals: its arguments, as a tuple or list.
        tangents: one tree for each primal, as `jvp` takes them.

    Returns:
        A tree like the primal; for several primals a tuple of them.

    >>> import numpy as np, bindrune as br
    >>> br.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 10.0]),))
    array([  6., 120.])
    """
    argnums: Any = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(f, argnums, allow_int=True), primals, tangents)[1]


class _Linearize(Transformed):
    transformation = "linearize"


@for_users
def linearize(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function and its derivative as a linear function of tangents.

    Args:
        f: any function of arrays, numbers and trees of them.
        primals: its arguments, all of floating or complex type.
        has_aux: whether `f` returns ``(value, aux)``.

    Returns:
        ``(value, pushforward)``, with `has_aux` ``(value, pushforward, aux)``.  ``pushforward(*tangents)`` gives the
        tangent of the value; it does not run `f` again.

    >>> import numpy as np, bindrune as br
    >>> y, push = br.linearize(np.sin, 0.0)
    >>> push(2.0)
    np.float64(2.0)
    """
    transformed = _Linearize(f)
    recorded = Recorded(transformed, range(len(primals)), primals, {}, has_aux, owns=True)
    forward = _transpose(_on_leaves(recorded), _specs(recorded.value))
    still = trees.map_leaves(zero_tangent, recorded.value)

    def pushforward(*tangents: Any) -> Any:
        moved = iter(forward(*matching_leaves(primals, tangents, TangentError, transformed, "tangent", "argument")))
        return trees.map_leaves(lambda zeros: next(moved) if is_differentiable(zeros) else zeros, still)

    # The tape keeps the value; the caller may write into a copy.
    value = trees.map_leaves(lambda v: v.copy() if isinstance(v, np.ndarray) else v, recorded.value)
    return (value, pushforward, recorded.aux) if has_aux else (value, pushforward)


@for_users
def linear_transpose(f: Callable[..., Any], *primals: Any) -> Callable[[Any], tuple[Any, ...]]:
    """The transpose of a linear function.

    Args:
        f: a function that is linear in all its arguments together.
        primals: arrays of the shapes and dtypes of its arguments; their values do not matter.

    Returns:
        A function from a tree like the result of `f` to a tuple of trees like the arguments.

    >>> import numpy as np, bindrune as br
    >>> br.linear_transpose(lambda x: np.array([x[0] + x[1], x[1]]), np.zeros(2))(np.array([1.0, 10.0]))
    (array([ 1., 11.]),)
    """
    pullback: Callable[[Any], tuple[Any, ...]] = vjp(f, *primals)[1]
    return pullback
