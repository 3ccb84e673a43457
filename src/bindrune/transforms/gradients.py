"""Gradients: `grad`, `value_and_grad` and `vjp`, the interface of reverse mode.

A `Recorded` is one forward pass under a `Reverse` handler: the value, and the tape that leads back to the chosen
arguments.  A gradient pulls the number one back along it; a pullback any cotangent, any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, dtype_of, duplicate, is_scalar
from ..core.errors import CotangentError, NonDifferentiableError, NonScalarOutputError, for_users
from ..core.foreign import as_array
from ..core.operation import is_differentiable, registry, spec_of
from .calls import (
    FLOAT0,
    Call,
    Decorated,
    Selection,
    Transformed,
    argument_name,
    as_leaf,
    differentiable_leaves,
    in_chosen_order,
    matching_leaves,
    separate,
    signature_of,
    split_aux,
    take_out,
)
from .reverse import Reverse

__all__ = ["Derivative", "Pullback", "Recorded", "grad", "value_and_grad", "vjp"]


class Recorded:
    """A forward pass: the value, and the way back to the chosen arguments.

    One that does not own copies of the caller's arrays must finish its `call` after the last way back.
    """

    __slots__ = ("aux", "call", "handler", "has_complex", "leaves", "outputs", "structures", "value")

    def __init__(
        self,
        transformed: Transformed,
        keys: Sequence[int | str],
        arguments: Sequence[Any],
        keywords: dict[str, Any],
        has_aux: bool = False,
        owns: bool = False,
    ) -> None:
        handler = self.handler = Reverse(transformed)
        call = self.call = Call(transformed, handler, owns)
        self.leaves: list[Any] = []
        self.has_complex = False
        self.structures: list[tuple[Any, Sequence[Any]]] = []
        """The structure of each chosen argument, and for each leaf None, or its gradient if that is known already."""
        given: list[Any] = []
        for i, a in enumerate(arguments):
            given.append(self._leaf(call, i, a) if i in keys else call.constant(a))
        named = keywords and {k: self._leaf(call, k, v) if k in keys else call.constant(v) for k, v in keywords.items()}
        result = call.run(given, named, finish=owns)
        self.aux = None
        if type(result) is Array and result._handler is handler and not has_aux:
            value = result._value
            self.outputs = [result._mark]
            self.value = value.snapshot() if type(value) is Array else value
            handler.end()
            return
        if has_aux:
            result, aux = split_aux(transformed, result)
            self.aux = trees.map_leaves(lambda v: take_out(handler, v), aux)
        outputs, structure = trees.flatten(result)
        self.outputs = [_mark_of(handler, out) for out in outputs]
        self.value = trees.unflatten(structure, [take_out(handler, v) for v in outputs])
        handler.end()

    def _leaf(self, call: Call, key: int | str, value: Any) -> Any:
        """Stand-ins for the leaves of a chosen argument."""
        handler: Any = call.handler
        if type(value) is np.ndarray and value.dtype.kind == "f":  # as it is most often
            self.leaves.append(value)
            self.structures.append(_ONE_LEAF)
            cell: Array = handler.leaf(duplicate(value) if call.session.owns else value)
            call.followed.append((value, cell, None))
            return cell
        leaves, structure = differentiable_leaves(call.transformed, key, value)
        known: list[Any] = []
        cells: list[Any] = []
        for leaf in leaves:
            if is_differentiable(leaf):
                self.leaves.append(leaf)
                self.has_complex |= dtype_of(leaf).kind == "c"
                known.append(None)
                cells.append(call.follow(leaf, handler.leaf(as_leaf(leaf, call.session.owns))))
            else:
                known.append(np.zeros(spec_of(leaf).shape, FLOAT0))
                cells.append(call.constant(leaf))
        self.structures.append((structure, known))
        return call.tree(structure, cells)

    def pull_back(self, seeds: Sequence[tuple[int, Any]], conjugate: bool = False) -> list[Any]:
        """The cotangents of the chosen arguments, as trees like theirs, in the order of the call."""
        found = self.pull_back_leaves(seeds, conjugate)
        if found and len(self.structures) == 1 and self.structures[0][0] is None:
            return found
        rest = iter(found)
        return [
            trees.unflatten(structure, [next(rest) if zeros is None else zeros for zeros in known])
            for structure, known in self.structures
        ]

    def pull_back_leaves(self, seeds: Sequence[tuple[int, Any]], conjugate: bool = False) -> list[Any]:
        """The cotangents of the leaves that have one."""
        leaves = self.leaves
        found = self.handler.pull_back(seeds, len(leaves))
        if conjugate and self.has_complex:
            found = [np.conjugate(ct) if ct is not None and dtype_of(ct).kind == "c" else ct for ct in found]
        if len(leaves) > 1 or not conjugate:
            found = separate(found, [seed for _, seed in seeds])
        return list(map(_finish, found, leaves))


_ONE_LEAF = (None, (None,))
"""The structure of an argument that is one array, and that its gradient is not known."""


def _mark_of(handler: Reverse, out: Any) -> int | None:
    """The place of a result on the tape; None for one that does not depend on the leaves."""
    cell = out.read() if isinstance(out, Array) else None
    return cell._mark if cell is not None and cell._handler is handler else None


def _finish(cotangent: Any, leaf: Any) -> Any:
    """The gradient with respect to a leaf: zeros where there is none, an array of its own, a number for a number."""
    if type(cotangent) is type(leaf) is np.ndarray:
        return cotangent if cotangent.base is None else cotangent.copy()
    if cotangent is None:
        spec = spec_of(leaf)
        cotangent = np.zeros(spec.shape, spec.dtype)
    if isinstance(cotangent, Array):
        cotangent = cotangent.read()
        if not cotangent.shape and is_scalar(cotangent) != is_scalar(leaf):
            form = "number" if is_scalar(leaf) else "array"
            return registry["convert"](cotangent, dtype=cotangent.dtype, form=form)
        return cotangent.snapshot()
    if isinstance(leaf, np.ndarray) or not is_scalar(leaf):
        cotangent = cotangent if type(cotangent) is np.ndarray else np.asarray(cotangent)
        return cotangent if cotangent.base is None else cotangent.copy()
    return cotangent[()] if isinstance(cotangent, np.ndarray) else dtype_of(leaf).type(cotangent)


class Derivative(Decorated):
    """A derivative of a function with respect to some of its arguments, as a function of them all."""

    def __init__(
        self,
        name: str,
        keep_value: bool,
        f: Callable[..., Any],
        argnums: int | Sequence[int] | None = None,
        argnames: str | Sequence[str] | None = None,
        has_aux: bool = False,
        holomorphic: bool = False,
        allow_int: bool = False,
    ) -> None:
        self.transformation = f"value_and_{name}" if keep_value else name
        super().__init__(f)
        self.selection: Selection = Selection(argnums, argnames)
        self.keep_value = keep_value
        self.has_aux = has_aux
        self.holomorphic = holomorphic
        self.allow_int = allow_int

    def answer(self, value: Any, aux: Any, derivative: Any) -> Any:
        """What a call returns."""
        if not self.keep_value:
            return (derivative, aux) if self.has_aux else derivative
        return ((value, aux) if self.has_aux else value), derivative

    def refuse_reals(self, name: str, tree: Any) -> None:
        """Refuse a tree with a leaf that is not complex, as all must be for a holomorphic function."""
        for i, leaf in enumerate(trees.flatten(tree)[0]):
            if dtype_of(as_array(leaf)).kind != "c":
                where = f"{self}: {name}{trees.leaf_path(tree, i)}"
                raise NonDifferentiableError(f"{where} is not complex, as it must be with holomorphic=True")


class Gradient(Derivative):
    """`grad` and `value_and_grad`."""

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        keys = self.selection.keys(self.function, arguments, keywords, self)
        if self.holomorphic:
            for key in keys:
                self.refuse_reals(
                    argument_name(self.function, key), keywords[key] if isinstance(key, str) else arguments[key]
                )
        recorded = Recorded(self, keys, arguments, keywords, self.has_aux)
        value = recorded.value
        try:
            # The derivative as a linear map is that of `vjp`; its conjugate is the direction of steepest ascent.
            grads = recorded.pull_back(self._seed(recorded, value), conjugate=not self.holomorphic)
        finally:
            recorded.call.finish()
        gradient = grads[0] if self.selection.single else in_chosen_order(keys, keywords, grads)
        return self.answer(value, recorded.aux, gradient)

    def _seed(self, recorded: Recorded, value: Any) -> list[tuple[int, Any]]:
        """The cotangent of the result, which must be a number: one."""
        kind = type(value)
        if kind is not np.float64 and kind is not float:
            if not isinstance(value, (Array, np.ndarray, np.generic, int, float, complex)):
                raise _not_scalar(self, f"{kind.__name__} {value!r}")
            spec = spec_of(value)
            if spec.shape:
                raise _not_scalar(self, f"an array of shape {spec.shape}")
            complex_only = spec.dtype.kind == "c" and any(dtype_of(leaf).kind != "c" for leaf in recorded.leaves)
            if complex_only or not (is_differentiable(value) or isinstance(value, int)):
                raise _not_scalar(self, f"a number of dtype {spec.dtype}")
        if self.holomorphic:
            self.refuse_reals("the result", value)
        mark = recorded.outputs[0]
        if mark is None:
            return []
        return [(mark, _ONE if kind is np.float64 else dtype_of(value).type(1))]


_ONE = np.float64(1)


def _not_scalar(origin: object, what: str) -> NonScalarOutputError:
    return NonScalarOutputError(
        f"{origin}: the function returned {what}, and a gradient needs one real number. Reduce it (np.sum, np.mean), "
        "or use br.vjp with a cotangent of that shape; br.vmap of the pullback gives the Jacobian."
    )


def grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    argnames: str | Sequence[str] | None = None,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """The gradient of a function that returns one number.

    Args:
        f: any function of NumPy arrays, numbers and trees of them, returning a real number (shape ``()``).
        argnums: the position of the argument to differentiate with respect to, or several; the first by default.
        argnames: the same for arguments by name.
        has_aux: whether `f` returns ``(value, aux)``; then ``(gradient, aux)`` returns.
        holomorphic: whether `f` is a holomorphic function of complex arguments; then its complex derivative returns.
        allow_int: whether integers and booleans may stand among the leaves; their gradients are zeros of dtype float0.

    Returns:
        A function of the same arguments whose result has the structure, shapes and dtypes of the chosen argument
        (a tuple of such for several).  Without `holomorphic`, the gradient with respect to complex numbers is the
        direction of steepest ascent, that of a complex result the one of its real part.

    Raises:
        NonDifferentiableError: a chosen leaf is not of a floating or complex type, or with `holomorphic` not complex.
        NonScalarOutputError: `f` returned something else than one number.

    >>> import numpy as np, bindrune as br
    >>> br.grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> br.grad(lambda p, x: p["a"] * x, argnums=(0, 1))({"a": 2.0}, 3.0)
    ({'a': np.float64(3.0)}, np.float64(2.0))
    >>> br.grad(lambda z: z**2, holomorphic=True)(1.0 + 2.0j)
    np.complex128(2+4j)
    """
    return Gradient("grad", False, f, argnums, argnames, has_aux, holomorphic, allow_int)


@signature_of(grad)
def value_and_grad(*arguments: Any, **keywords: Any) -> Callable[..., Any]:
    """The value of a function and its gradient, from one evaluation.  Arguments and errors are those of `grad`.

    Returns:
        A function that returns ``(value, gradient)``, or ``((value, aux), gradient)`` with `has_aux`.

    >>> import numpy as np, bindrune as br
    >>> br.value_and_grad(lambda x: np.sum(x * x))(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """
    return Gradient("grad", True, *arguments, **keywords)


class Pullback:
    """From a cotangent of a function's result to the cotangents of its arguments; may be used again and again."""

    __slots__ = ("_origin", "_recorded")

    def __init__(self, recorded: Recorded, origin: object) -> None:
        self._recorded = recorded
        self._origin = origin

    @for_users
    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        recorded = self._recorded
        leaves = matching_leaves(recorded.value, cotangent, CotangentError, self._origin, "cotangent", "result")
        seeds = [(mark, ct) for mark, ct in zip(recorded.outputs, leaves, strict=True) if mark is not None]
        return tuple(recorded.pull_back(seeds))

    def __repr__(self) -> str:
        return f"<pullback of {self._origin}>"


class _Vjp(Transformed):
    transformation = "vjp"


@for_users
def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of a function and its pullback (vector-Jacobian product).

    Args:
        f: any function of NumPy arrays, numbers and trees of them.
        primals: its arguments, all of floating or complex type.
        has_aux: whether `f` returns ``(value, aux)``.

    Returns:
        ``(value, pullback)``, with `has_aux` ``(value, pullback, aux)``.  ``pullback(cotangent)`` takes a tree like
        the value and returns a tuple with one tree for each primal.  It does not run `f` again.

    Raises:
        NonDifferentiableError: a leaf of a primal is not of a floating or complex type.
        CotangentError: the pullback was given something that does not fit the value.

    >>> import numpy as np, bindrune as br
    >>> y, pullback = br.vjp(np.sin, np.zeros(2))
    >>> pullback(np.array([1.0, 2.0]))
    (array([1., 2.]),)
    """
    transformed = _Vjp(f)
    recorded = Recorded(transformed, range(len(primals)), primals, {}, has_aux, owns=True)
    pullback = Pullback(recorded, transformed)
    value = trees.map_leaves(lambda v: v.copy() if isinstance(v, np.ndarray) else v, recorded.value)
    return (value, pullback, recorded.aux) if has_aux else (value, pullback)
