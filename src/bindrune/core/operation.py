"""Operations: one object per operation, holding all that is known of it.

Three kinds of entry describe everything:

* `elementwise`: the partial derivatives alone.  Forward mode, reverse mode, batching and shapes follow.
* `linear`: the transpose.  Forward mode is the operation itself.
* `operation`: a forward rule and a reverse rule for each operand.

A rule is a function whose *parameter names say what it needs*: ``y`` (the result), an operand or a parameter by its
name, ``of`` (shape and dtype of the operand it is for, without its value), ``position`` (that operand's),
``operands`` (all of them), ``specs`` (all shapes and dtypes).  What no rule names is not kept alive between the
passes; that is how writes stay in place and memory stays small.  Rules use NumPy's names and operators, so they run
under every outer handler, and higher derivatives, batching and staging need no second set.

Every entry lists *rows*, sample operands; the law suite runs over all rows of all entries.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .array import Array, View, dtype_of
from .handler import HOST, perform, write
from .protocol import hooks

__all__ = ["Binary", "Op", "Row", "Rule", "Spec", "Unary", "Write", "elementwise", "is_differentiable", "linear", "operation", "registry"]

registry: dict[str, Op] = {}
"""Every operation by name."""


class Spec(NamedTuple):
    """Shape and dtype of an array, without the array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        size = 1
        for n in self.shape:
            size *= n
        return size


def spec_of(value: Any) -> Spec:
    """The shape and dtype of an array, a stand-in or a number."""
    return Spec(value.shape if hasattr(value, "shape") else np.shape(value), dtype_of(value))


def is_differentiable(value: Any) -> bool:
    """Whether a value has a tangent space: floating and complex numbers do."""
    dtype = dtype_of(value)
    return dtype.kind in "fc" or (dtype.kind == "V" and dtype.names is None and "float" in dtype.name)


class Row(NamedTuple):
    """Sample operands of an operation, for the laws."""

    operands: tuple[Any, ...]
    params: dict[str, Any]
    smooth: bool = True
    """Whether the operation is differentiable there (at ties and kinks only the conventions are tested)."""


def row(*operands: Any, smooth: bool = True, **params: Any) -> Row:
    """Write a `Row`."""
    return Row(operands, params, smooth)


Rows = Callable[[], Iterable[Row]]


class Op:
    """An operation with its rules.

    Attributes:
        name: its name in messages, graphs and the registry.
        implementation: what computes it on plain arrays.
        operands: the names of its operands; one name starting with ``*`` stands for any number.
        jvps: for each operand the tangent of the result from the operand's, or None; ``"self"`` for linear ones.
        vjps: for each operand its cotangent from the result's, or None.
        batch: the result with a leading batch axis from operands of which some have one.
        selects: whether cotangents of elements that were not chosen are zero (see `transforms.reverse`).
        rows: sample operands.
    """

    __slots__ = ("batch", "implementation", "jvps", "name", "operands", "rows", "selects", "vjps")

    def __init__(
        self,
        name: str,
        implementation: Callable[..., Any],
        operands: str,
        *,
        jvps: Sequence[Callable[..., Any] | None] | str,
        vjps: Sequence[Callable[..., Any] | None],
        batch: Callable[..., Any] | None,
        rows: Rows | None,
        selects: bool = False,
    ) -> None:
        if name in registry:
            raise ValueError(f"operation {name!r} is defined twice")
        self.name = name
        self.implementation = implementation
        self.operands = tuple(operands.split())
        self.jvps = jvps if isinstance(jvps, str) else tuple(jvps)
        self.vjps = tuple(vjps)
        self.batch = batch
        self.rows = rows
        self.selects = selects
        registry[name] = self

    def __call__(self, *operands: Any, **params: Any) -> Any:
        return perform(self, operands, params)

    def __repr__(self) -> str:
        return f"<operation {self.name}>"

    @property
    def variadic(self) -> bool:
        """Whether it takes any number of operands of one kind."""
        return self.operands[-1].startswith("*")

    def differentiable(self, index: int) -> bool:
        """Whether a derivative with respect to operand `index` exists."""
        return self.vjps[self.slot(index)] is not None

    def slot(self, index: int) -> int:
        """Where the rules for operand `index` stand."""
        return min(index, len(self.vjps) - 1)

    def environment(
        self, y: Any, values: Sequence[Any], specs: Sequence[Spec], params: dict[str, Any]
    ) -> dict[str, Any]:
        """Everything a rule may name."""
        known = {"y": y, "operands": tuple(values), "specs": tuple(specs), **params}
        for i, name in enumerate(self.operands):
            known[name.lstrip("*")] = tuple(values[i:]) if name.startswith("*") else values[i] if i < len(values) else None
        return known


def needs(rule: Callable[..., Any]) -> tuple[str, ...]:
    """What a rule asks for beside the (co)tangent: its parameter names after the first."""
    code = rule.__code__  # type: ignore[attr-defined]
    return tuple(code.co_varnames[1 : code.co_argcount])


def arguments(rule: Callable[..., Any], known: dict[str, Any], specs: Sequence[Spec], position: int) -> list[Any]:
    """The values a rule asks for, from an operation's environment."""
    return [specs[position] if n == "of" else position if n == "position" else known[n] for n in needs(rule)]


# ---------------------------------------------------------------------------------------------------- elementwise

Partial = Callable[..., Any] | int | None
"""A partial derivative by the names ``y``, ``x`` or ``a``, ``b``; the numbers 1 and -1; None where it is zero."""


class Rule(NamedTuple):
    """The derivative of an elementwise operation for one choice of active operands."""

    keep: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    """From (y, operands...) what the partials need, in their order."""
    pull: Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]
    """The cotangents of the active operands from that of the result."""
    push: Callable[[Sequence[Any], tuple[Any, ...]], Any]
    """The tangent of the result from those of the active operands."""


def _term(partial: Callable[..., Any] | int) -> Callable[..., Any]:
    """Multiplication by a partial derivative."""
    if partial == 1:
        return lambda v: v
    if partial == -1:
        return operator.neg
    assert callable(partial)
    return lambda v, *kept: v * partial(*kept)


def _rule(partials: Sequence[Callable[..., Any] | int], names: tuple[str, ...]) -> Rule:
    positions: list[int] = []
    cuts = [0]
    for partial in partials:
        if callable(partial):
            code = partial.__code__  # type: ignore[attr-defined]
            positions += [names.index(n) for n in code.co_varnames[: code.co_argcount]]
        cuts.append(len(positions))
    keep: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    if not positions:
        keep = lambda values: ()  # noqa: E731
    elif len(positions) == 1:
        only = positions[0]
        keep = lambda values: (values[only],)  # noqa: E731
    else:
        keep = operator.itemgetter(*positions)
    first = _term(partials[0])
    if len(partials) == 1:
        return Rule(
            keep,
            lambda ct, kept: (first(ct, *kept),),
            lambda tangents, kept: first(tangents[0], *kept),
        )
    second, cut = _term(partials[1]), cuts[1]
    return Rule(
        keep,
        lambda ct, kept: (first(ct, *kept[:cut]), second(ct, *kept[cut:])),
        lambda tangents, kept: first(tangents[0], *kept[:cut]) + second(tangents[1], *kept[cut:]),
    )


class Elementwise(Op):
    """An operation on corresponding elements, known by its partial derivatives."""

    __slots__ = ("partials", "rules", "vectorized")

    def __init__(
        self,
        name: str,
        implementation: Callable[..., Any],
        partials: Sequence[Partial],
        vectorized: Callable[..., Any] | None,
        **attributes: Any,
    ) -> None:
        operands = "x" if len(partials) == 1 else "a b"
        vjps = [p if p is None or callable(p) else (lambda ct: ct) for p in partials]
        super().__init__(name, implementation, operands, jvps=(), vjps=vjps, batch=None, **attributes)
        self.partials = tuple(partials)
        self.vectorized = vectorized or implementation
        names = ("y", *self.operands)
        self.rules: list[Rule | None] = [None]
        """By the set of active operands: bit i for operand i."""
        for chosen in range(1, 1 << len(partials)):
            active = [p for i, p in enumerate(partials) if chosen >> i & 1]
            known = [p for p in active if p is not None]
            self.rules.append(_rule(known, names) if len(known) == len(active) else None)


class Unary(Elementwise):
    """An elementwise operation on one operand."""

    __slots__ = ()

    def __call__(self, x: Any, **params: Any) -> Any:
        kind = type(x)
        if kind is Array:
            return x._handler.unary(self, x)
        if kind is View:
            x = x.read()
            return x._handler.unary(self, x)
        if kind is list or kind is tuple:
            return self(hooks.asarray(x))
        return Array(HOST, self.implementation(x))


class Binary(Elementwise):
    """An elementwise operation on two operands."""

    __slots__ = ()

    def __call__(self, a: Any, b: Any, **params: Any) -> Any:
        kind = type(a)
        if kind is Array:
            left = a._handler
        elif kind is View:
            a = a.read()
            left = a._handler
        else:
            left = HOST
            if kind is list or kind is tuple:
                a = hooks.asarray(a)
                return self(a, b)
        kind = type(b)
        if kind is Array:
            right = b._handler
        elif kind is View:
            b = b.read()
            right = b._handler
        else:
            right = HOST
            if kind is list or kind is tuple:
                b = hooks.asarray(b)
                return self(a, b)
        return (left if left.level >= right.level else right).binary(self, a, b)


def elementwise(
    name: str,
    implementation: Callable[..., Any],
    *partials: Partial,
    vectorized: Callable[..., Any] | None = None,
    rows: Rows | None = None,
    selects: bool = False,
) -> Any:
    """Define an elementwise operation by its partial derivatives.

    Each partial names what it needs: ``y`` the result, ``x`` the operand (``a``, ``b`` of two).  ``vectorized`` is
    the implementation for arrays where ``implementation`` only takes numbers (those of `math`).
    """
    kind = Unary if len(partials) == 1 else Binary
    return kind(name, implementation, partials, vectorized, rows=rows, selects=selects)


# ------------------------------------------------------------------------------------------------ everything else


def linear(
    name: str,
    implementation: Callable[..., Any],
    *transposes: Callable[..., Any] | None,
    operands: str = "x",
    batch: Callable[..., Any] | None = None,
    rows: Rows | None = None,
    selects: bool = False,
) -> Op:
    """Define an operation that is linear in all its differentiable operands together (transpose None: not one)."""
    return Op(
        name,
        implementation,
        operands,
        jvps="self",
        vjps=transposes,
        batch=batch,
        rows=rows,
        selects=selects,
    )


def operation(
    name: str,
    implementation: Callable[..., Any],
    *,
    jvp: Callable[..., Any] | Sequence[Callable[..., Any] | None] | None,
    vjp: Callable[..., Any] | Sequence[Callable[..., Any] | None] | None,
    operands: str = "x",
    batch: Callable[..., Any] | None = None,
    rows: Rows | None = None,
    selects: bool = False,
) -> Op:
    """Define an operation by a forward and a reverse rule for each operand (None where it has no derivative)."""
    jvps = (jvp,) if callable(jvp) or jvp is None else tuple(jvp)
    vjps = (vjp,) if callable(vjp) or vjp is None else tuple(vjp)
    return Op(name, implementation, operands, jvps=jvps, vjps=vjps, batch=batch, rows=rows, selects=selects)


class Write(Op):
    """A write into an array, linear in the array and in what is written.

    ``in_place`` writes into a plain array.  ``adjoint`` takes the cotangent buffer of the array after the write,
    turns it *in place* into that of the array before, and returns the cotangent of what was written.
    """

    __slots__ = ("adjoint", "in_place")

    def __init__(
        self,
        name: str,
        in_place: Callable[..., None],
        operands: str,
        *,
        adjoint: Callable[..., Any],
        batch: Callable[..., Any],
        rows: Rows,
    ) -> None:
        def implementation(x: Any, *rest: Any, **params: Any) -> Any:
            fresh = np.array(x)
            in_place(fresh, *rest, **params)
            return fresh

        super().__init__(
            name,
            implementation,
            operands,
            jvps="self",
            vjps=(lambda ct: ct, lambda ct: ct, None),
            batch=batch,
            rows=rows,
            selects=True,
        )
        self.in_place = in_place
        self.adjoint = adjoint

    def __call__(self, cell: Any, *operands: Any, **params: Any) -> Any:
        """The array after the write, as a value of its own."""
        fresh = cell.snapshot() if isinstance(cell, Array) else Array(HOST, np.array(cell))
        write(fresh, self, operands, params)
        return fresh
