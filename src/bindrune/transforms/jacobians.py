"""Jacobians, Hessians and linearisations: compositions of forward mode, reverse mode and `vmap`.

One evaluation of the function gives a whole Jacobian: its pushforward, or its pullback, is mapped over the standard
basis of one side.  A Jacobian of trees has the structure of the result and at each of its leaves a tree like the
argument; each block has the shape of the result's leaf followed by that of the argument's.

A linearisation is the transpose of the transpose: the pullback is a linear function, and pulling back through *it*
pushes tangents forward without another evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, dtype_of
from ..core.errors import NonDifferentiableError, TangentError, for_users
from ..core.foreign import as_array
from ..core.operation import Spec, spec_of
from .batch import vmap
from .calls import Decorated, Selection, Transformed, argument_name, in_chosen_order, matching_leaves
from .forward import jvp, push_forward
from .gradients import Recorded, grad, vjp

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
    total = sum(s.size for s in specs)
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


def _last(block: Any, count: int) -> Any:
    """A block with its first `count` axes, those of the argument, moved to the end."""
    return np.moveaxis(block, range(count), range(-count, 0)) if count else block


class Jacobian(Decorated):
    """The Jacobian of a function with respect to some of its arguments, in one mode."""

    def __init__(
        self,
        function: Callable[..., Any],
        argnums: int | Sequence[int] | None,
        argnames: str | Sequence[str] | None,
        has_aux: bool,
        holomorphic: bool,
        mode: str,
        keep_value: bool = False,
    ) -> None:
        self.transformation = f"value_and_{mode}" if keep_value else mode
        super().__init__(function)
        self.selection = Selection(argnums, argnames)
        self.has_aux = has_aux
        self.holomorphic = holomorphic
        self.mode = mode
        self.keep_value = keep_value

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        keys = self.selection.keys(self.function, arguments, keywords, self)
        given = {k: keywords[k] if isinstance(k, str) else arguments[k] for k in keys}
        chosen = {k: trees.map_leaves(as_array, v) for k, v in given.items()}
        parts = [trees.flatten(v) for v in chosen.values()]
        for key, argument in chosen.items():
            self._check_complex(argument_name(self.function, key), argument)
        by_mode = self._forward if self.mode == "jacfwd" else self._reverse
        value, blocks, aux = by_mode(chosen, parts, arguments, keywords)

        # blocks[i][j]: leaf i of the result by leaf j of the chosen arguments.
        self._check_complex("the result", value)
        structure = trees.flatten(value)[1]
        rows = []
        for row in blocks:
            rest = iter(row)
            rows.append([trees.unflatten(s, [next(rest) for _ in found]) for found, s in parts])
        order = list(chosen)
        picked = [tuple(row[order.index(k)] for k in keys) for row in rows]
        jacobian = trees.unflatten(structure, [row[0] if self.selection.single else row for row in picked])
        if not self.keep_value:
            return (jacobian, aux) if self.has_aux else jacobian
        return ((value, aux) if self.has_aux else value), jacobian

    def _forward(
        self, chosen: dict[int | str, Any], parts: Sequence[Any], arguments: Sequence[Any], keywords: dict[str, Any]
    ) -> tuple[Any, list[list[Any]], Any]:
        specs = [spec_of(leaf) for leaves, _ in parts for leaf in leaves]

        def push(*vectors: Any) -> Any:
            rest = iter(vectors)
            tangents = {
                k: trees.unflatten(s, [next(rest) for _ in leaves])
                for k, (leaves, s) in zip(chosen, parts, strict=True)
            }
            value, tangent, aux = push_forward(self, tangents, arguments, keywords, self.has_aux)
            return tangent, value, aux

        tangent, value, aux = vmap(push, out_axes=(0, None, None))(*_basis(specs))
        moved = [_blocks(t, specs) for t in trees.flatten(tangent)[0]]
        return value, [[_last(b, s.ndim) for b, s in zip(row, specs, strict=True)] for row in moved], aux

    def _reverse(
        self, chosen: dict[int | str, Any], parts: Sequence[Any], arguments: Sequence[Any], keywords: dict[str, Any]
    ) -> tuple[Any, list[list[Any]], Any]:
        recorded = Recorded(self, tuple(chosen), arguments, keywords, self.has_aux, owns=True)
        results = [spec_of(v) for v in trees.flatten(recorded.value)[0]]
        sources = [spec_of(leaf) for leaves, _ in parts for leaf in leaves]
        forward = self.mode == "jacobian" and sum(s.size for s in sources) < sum(s.size for s in results)
        back = _Flat(recorded, tuple(chosen), keywords)
        if forward:
            mapped = vmap(_transpose(back, results))(*_basis(sources))
            columns = [_blocks(m, sources) for m in mapped]
            blocks = [[_last(b, s.ndim) for b, s in zip(row, sources, strict=True)] for row in columns]
            return recorded.value, blocks, recorded.aux
        mapped = vmap(back)(*_basis(results))
        columns = [_blocks(m, results) for m in mapped]
        return recorded.value, [[column[i] for column in columns] for i in range(len(results))], recorded.aux

    def _check_complex(self, name: str, tree: Any) -> None:
        for i, leaf in enumerate(trees.flatten(tree)[0]):
            if (dtype_of(leaf).kind == "c") == self.holomorphic:
                continue
            where = f"{self}: {name}{trees.leaf_path(tree, i)}"
            if self.holomorphic:
                raise NonDifferentiableError(f"{where} is not complex, as it must be with holomorphic=True")
            raise NonDifferentiableError(
                f"{where} is complex. If the function is holomorphic pass holomorphic=True; otherwise differentiate "
                "with respect to the real and imaginary parts."
            )


class _Flat:
    """A pullback as a function from the cotangents of the result's leaves to those of the arguments' leaves."""

    def __init__(self, recorded: Recorded, keys: tuple[int | str, ...], keywords: dict[str, Any]) -> None:
        self.recorded = recorded
        self.keys = keys
        self.keywords = keywords

    def __call__(self, *cotangents: Any) -> list[Any]:
        marks = self.recorded.outputs
        seeds = [(m, _bare(ct)) for m, ct in zip(marks, cotangents, strict=True) if m is not None]
        found = in_chosen_order(self.keys, self.keywords, self.recorded.pull_back(seeds))
        return [leaf for tree in found for leaf in trees.flatten(tree)[0]]


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
) -> Callable[..., Any]:
    """The Jacobian, by forward mode: one lane for each element of the chosen arguments.

    Args:
        f: any function of arrays, numbers and trees of them.
        argnums: the position of the argument to differentiate with respect to, or several; the first by default.
        argnames: the same for arguments by name.
        has_aux: whether `f` returns ``(value, aux)``; then ``(jacobian, aux)`` returns.
        holomorphic: whether `f` is a holomorphic function of complex arguments.

    Returns:
        A function of the same arguments.  For a result of shape ``m`` and an argument of shape ``n`` it gives an
        array of shape ``m + n``; for trees a tree of those.

    Raises:
        NonDifferentiableError: a chosen leaf is not of a floating type, or complex without `holomorphic`.

    >>> import numpy as np, bindrune as br
    >>> br.jacfwd(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return Jacobian(f, argnums, argnames, has_aux, holomorphic, "jacfwd")


def jacrev(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    argnames: str | Sequence[str] | None = None,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The Jacobian, by reverse mode: one lane for each element of the result.  As `jacfwd` otherwise.

    >>> import numpy as np, bindrune as br
    >>> br.jacrev(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    return Jacobian(f, argnums, argnames, has_aux, holomorphic, "jacrev")


def jacobian(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    argnames: str | Sequence[str] | None = None,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The Jacobian, by the mode that needs fewer lanes; the function is evaluated once.  As `jacfwd` otherwise.

    >>> import numpy as np, bindrune as br
    >>> br.jacobian(lambda x: np.stack([x, x**2]))(3.0)
    array([1., 6.])
    """
    return Jacobian(f, argnums, argnames, has_aux, holomorphic, "jacobian")


def value_and_jacfwd(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    argnames: str | Sequence[str] | None = None,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The value and the Jacobian, by forward mode, from one evaluation.  As `jacfwd` otherwise.

    >>> import numpy as np, bindrune as br
    >>> br.value_and_jacfwd(np.square)(3.0)
    (np.float64(9.0), np.float64(6.0))
    """
    return Jacobian(f, argnums, argnames, has_aux, holomorphic, "jacfwd", keep_value=True)


def value_and_jacrev(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    argnames: str | Sequence[str] | None = None,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The value and the Jacobian, by reverse mode, from one evaluation.  As `jacfwd` otherwise.

    >>> import numpy as np, bindrune as br
    >>> br.value_and_jacrev(np.square)(3.0)
    (np.float64(9.0), np.float64(6.0))
    """
    return Jacobian(f, argnums, argnames, has_aux, holomorphic, "jacrev", keep_value=True)


def hessian(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    argnames: str | Sequence[str] | None = None,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The matrix of second derivatives: forward mode over reverse mode.  As `jacfwd` otherwise.

    >>> import numpy as np, bindrune as br
    >>> br.hessian(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    first = jacrev(f, argnums, argnames, has_aux, holomorphic)
    return jacfwd(first, argnums, argnames, has_aux, holomorphic)


@for_users
def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The product of a Hessian with a vector, without the Hessian: the tangent of the gradient.

    Args:
        f: a function that returns one number.
        primals: its arguments, as a tuple or list.
        tangents: one tree for each primal.

    Returns:
        A tree like the primal; for several primals a tuple of them.

    >>> import numpy as np, bindrune as br
    >>> br.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 10.0]),))
    array([  6., 120.])
    """
    argnums: Any = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(f, argnums), primals, tangents)[1]


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
    leaves, structure = trees.flatten(recorded.value)
    back = _Flat(recorded, tuple(range(len(primals))), {})
    forward = _transpose(back, [spec_of(v) for v in leaves])

    def pushforward(*tangents: Any) -> Any:
        moved = matching_leaves(primals, tangents, TangentError, transformed, "tangent", "argument")
        return trees.unflatten(structure, forward(*moved))

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
