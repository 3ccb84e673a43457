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

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .array import Array, View
from .errors import UnsupportedError, user_line
from .handler import HOST, perform, write
from .protocol import hooks
from .rules import Partial, Prepared, Rule, prepare, rule_of, rule_of_twice, together
from .specs import Spec, is_differentiable, spec_of

__all__ = [
    "Binary",
    "Op",
    "Prepared",
    "Row",
    "Rule",
    "Spec",
    "Structured",
    "Unary",
    "Write",
    "elementwise",
    "is_differentiable",
    "linear",
    "operation",
    "perform_binary",
    "perform_unary",
    "registry",
    "spec_of",
    "unknown",
]

registry: dict[str, Op] = {}
"""Every operation by name."""


_O = TypeVar("_O", bound="Op")


def _registered(op: _O) -> _O:
    if op.name in registry:
        raise ValueError(f"operation {op.name!r} is defined twice")
    registry[op.name] = op
    return op


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
        batch: the result with a leading batch axis from operands of which some have one; without it, or where it
            answers NotImplemented, the lanes are performed one by one.
        selects: whether cotangents of elements that were not chosen are zero (see `transforms.reverse`).
        quiet: whether its reverse rule is finite wherever the operation is, so that NumPy has nothing to warn of.
        plain: whether it is quiet and selects nothing; most operations are.
        rows: sample operands.
        shape: the shape of the result, from the operands' specs and the parameters, where lengths may be unknown
            (`graph.dims`) and no sample of them can tell; most operations need none.
    """

    __slots__ = (
        "_pulls",
        "batch",
        "implementation",
        "jvps",
        "name",
        "operands",
        "plain",
        "quiet",
        "rows",
        "selects",
        "shape",
        "vjps",
    )

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
        quiet: bool = False,
        shape: Callable[..., tuple[Any, ...]] | None = None,
    ) -> None:
        self.name = name
        self.shape = shape
        self.implementation = implementation
        self.operands = tuple(operands.split())
        self.jvps = jvps if isinstance(jvps, str) else tuple(prepare(r, self.operands) for r in jvps)
        self.vjps = tuple(prepare(r, self.operands) for r in vjps)
        self.batch = batch
        self.rows = rows
        self.selects = selects
        self.quiet = quiet
        self.plain = quiet and not selects
        self._pulls: dict[tuple[int, ...], Any] = {}

    structured = False
    effect = False
    """Whether it is performed for more than its results, and so may be neither dropped nor moved."""

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

    def vjp(self, index: int) -> Prepared:
        """The reverse rule for operand `index`, which has one."""
        rule = self.vjps[self.slot(index)]
        assert rule is not None
        return rule

    def pull_to(self, active: tuple[int, ...]) -> Callable[[Any, tuple[Any, ...], Any], Any]:
        """The reverse rule for several operands together: their cotangents from what each kept, and their specs."""
        pull = self._pulls.get(active)
        if pull is None:
            pull = self._pulls[active] = together([self.vjp(i) for i in active])
        return pull


# ---------------------------------------------------------------------------------------------------- elementwise


class Elementwise(Op):
    """An operation on corresponding elements, known by its partial derivatives."""

    __slots__ = ("lanes", "partials", "rules")

    def __init__(
        self,
        name: str,
        implementation: Callable[..., Any],
        partials: Sequence[Partial],
        lanes: Elementwise | None,
        **attributes: Any,
    ) -> None:
        operands = "x" if len(partials) == 1 else "a b"
        vjps = [p if p is None or callable(p) else (lambda ct: ct) for p in partials]
        super().__init__(name, implementation, operands, jvps=(), vjps=vjps, batch=None, **attributes)
        self.partials = tuple(partials)
        self.lanes: Any = lanes or self
        """What performs it on arrays, where `implementation` only takes numbers."""
        names = ("y", *self.operands)
        self.rules: list[Rule | None] = [None]
        """By the set of active operands: bit i for operand i; behind those, the rule for one operand in both places."""
        for chosen in range(1, 1 << len(partials)):
            active = [p for i, p in enumerate(partials) if chosen >> i & 1]
            known = [p for p in active if p is not None]
            self.rules.append(rule_of(known, names) if len(known) == len(active) else None)
        if len(partials) == 2:
            both = self.rules[3]
            self.rules.append(both and rule_of_twice([p for p in partials if p is not None], both))


class Unary(Elementwise):
    """An elementwise operation on one operand."""

    __slots__ = ()

    def __call__(self, x: Any, **params: Any) -> Any:
        return perform_unary(self, x)


class Binary(Elementwise):
    """An elementwise operation on two operands."""

    __slots__ = ()

    def __call__(self, a: Any, b: Any, **params: Any) -> Any:
        return perform_binary(self, a, b)


def perform_unary(op: Unary, x: Any) -> Any:
    """`perform` for an elementwise operation on one operand."""
    kind = type(x)
    if kind is Array:
        return x._handler.unary(op, x)
    if kind is View:
        x = x.read()
        return x._handler.unary(op, x)
    if kind is list or kind is tuple:
        return perform_unary(op, hooks.asarray(x))
    return Array(HOST, op.implementation(x))


def perform_binary(op: Binary, a: Any, b: Any) -> Any:
    """`perform` for an elementwise operation on two operands."""
    left = right = HOST
    kind = type(a)
    if kind is Array:
        left = a._handler
    elif kind is View:
        a = a.read()
        left = a._handler
    elif kind is list or kind is tuple:
        a = hooks.asarray(a)
        left = a._handler
    kind = type(b)
    if kind is Array:
        right = b._handler
    elif kind is View:
        b = b.read()
        right = b._handler
    elif kind is list or kind is tuple:
        b = hooks.asarray(b)
        right = b._handler
    return (left if left.level >= right.level else right).binary(op, a, b)


def elementwise(
    name: str,
    implementation: Callable[..., Any],
    *partials: Partial,
    lanes: Elementwise | None = None,
    rows: Rows | None = None,
    selects: bool = False,
    quiet: bool = False,
) -> Any:
    """Define an elementwise operation by its partial derivatives.

    Each partial names what it needs: ``y`` the result, ``x`` the operand (``a``, ``b`` of two).  ``lanes`` is
    the operation of the same meaning on arrays, where ``implementation`` only takes numbers (those of `math`).
    """
    kind = Unary if len(partials) == 1 else Binary
    return _registered(kind(name, implementation, partials, lanes, rows=rows, selects=selects, quiet=quiet))


def unknown(name: str, operand: str) -> Callable[..., Any]:
    """A derivative that exists but that no rule gives: whoever asks for it is told so, instead of getting zero.

    It stands for a partial derivative and for a rule.
    """

    def refuse(*_: Any) -> Any:
        raise UnsupportedError(
            f"{user_line()}: {name} has no derivative rule with respect to its operand {operand!r}. Keep that operand "
            "constant, or give the function a rule of its own."
        )

    return refuse


# ------------------------------------------------------------------------------------------------ everything else


def linear(
    name: str,
    implementation: Callable[..., Any],
    *transposes: Callable[..., Any] | None,
    operands: str = "x",
    batch: Callable[..., Any] | None = None,
    rows: Rows | None = None,
    selects: bool = False,
    shape: Callable[..., tuple[Any, ...]] | None = None,
) -> Op:
    """Define an operation that is linear in all its differentiable operands together (transpose None: not one)."""
    return _registered(
        Op(
            name,
            implementation,
            operands,
            jvps="self",
            vjps=transposes,
            batch=batch,
            rows=rows,
            selects=selects,
            quiet=True,
            shape=shape,
        )
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
    return _registered(
        Op(name, implementation, operands, jvps=jvps, vjps=vjps, batch=batch, rows=rows, selects=selects)
    )


class Write(Op):
    """A write into an array at an ``index``, its only parameter; linear in the array and in what is written.

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
        _registered(self)

    def __call__(self, cell: Any, *operands: Any, **params: Any) -> Any:
        """The array after the write, as a value of its own."""
        fresh = cell.snapshot() if isinstance(cell, Array) else Array(HOST, np.array(cell))
        write(fresh, self, operands, params)
        return fresh


class Structured(Op):
    """An operation on functions: one whose rules run other programs, such as a custom derivative or a checkpoint.

    Handlers leave it to answer for itself, by a method for each kind of handler.  Operands are the leaves of the
    function's arguments; results are a tuple of leaves.
    """

    __slots__ = ()

    structured = True

    def __init__(self, name: str) -> None:
        super().__init__(name, self.run, "*operands", jvps=(), vjps=(), batch=None, rows=None)
        _registered(self)

    def run(self, *values: Any, **params: Any) -> tuple[Any, ...]:
        """Without a handler: call the function."""
        raise NotImplementedError

    def answer_forward(self, handler: Any, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        """Under forward mode."""
        raise NotImplementedError

    def answer_reverse(self, handler: Any, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        """Under reverse mode."""
        raise NotImplementedError

    def answer_batch(self, handler: Any, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        """Under batching."""
        raise NotImplementedError
