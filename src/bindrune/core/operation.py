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
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .array import Array, View, dtype_of
from .errors import UnsupportedError, user_line
from .handler import HOST, perform, write
from .protocol import hooks

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
    "unknown",
]

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


_new_spec = tuple.__new__  # half the time of Spec(...), for what every operation does


def spec_of(value: Any) -> Spec:
    """The shape and dtype of an array, a stand-in or a number."""
    try:
        return _new_spec(Spec, (value.shape, value.dtype))
    except AttributeError:
        return Spec(np.shape(value), dtype_of(value))


def is_differentiable(value: Any) -> bool:
    """Whether a value has a tangent space: floating and complex numbers do."""
    if type(value) is np.float64 or type(value) is float:
        return True
    dtype = dtype_of(value)
    return dtype.kind in "fc" or (dtype.kind == "V" and dtype.names is None and "float" in dtype.name)


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
    """

    __slots__ = ("batch", "implementation", "jvps", "name", "operands", "plain", "quiet", "rows", "selects", "vjps")

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
    ) -> None:
        self.name = name
        self.implementation = implementation
        self.operands = tuple(operands.split())
        self.jvps = jvps if isinstance(jvps, str) else tuple(_prepare(r, self.operands) for r in jvps)
        self.vjps = tuple(_prepare(r, self.operands) for r in vjps)
        self.batch = batch
        self.rows = rows
        self.selects = selects
        self.quiet = quiet
        self.plain = quiet and not selects

    structured = False

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


Reader = Callable[[Any, Sequence[Any], dict[str, Any], int, Spec], Any]
"""Fetches one thing a rule asked for, from (y, operands, parameters, position and spec of the operand it is for)."""


def _reader(name: str, operands: Sequence[str]) -> Reader:
    if name == "y":
        return lambda y, values, params, position, spec: y
    if name == "of":
        return lambda y, values, params, position, spec: spec
    if name == "position":
        return lambda y, values, params, position, spec: position
    if name == "operands":
        return lambda y, values, params, position, spec: tuple(values)
    if name == "specs":
        return lambda y, values, params, position, spec: tuple(map(spec_of, values))
    if name in operands:
        i = operands.index(name)
        return lambda y, values, params, position, spec: values[i] if i < len(values) else None
    if f"*{name}" in operands:
        i = operands.index(f"*{name}")
        return lambda y, values, params, position, spec: tuple(values[i:])
    return lambda y, values, params, position, spec: params[name]


class Prepared(NamedTuple):
    """A forward or reverse rule with the readers of what it asks for beside the (co)tangent."""

    rule: Callable[..., Any]
    readers: tuple[Reader, ...]


def _prepare(rule: Callable[..., Any] | None, operands: Sequence[str]) -> Prepared | None:
    if rule is None:
        return None
    code = rule.__code__
    return Prepared(rule, tuple(_reader(name, operands) for name in code.co_varnames[1 : code.co_argcount]))


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


_ITSELF: Any = lambda x: x  # noqa: E731
"""What a partial derivative looks like that is one of its arguments, as those of a product are."""


def _term(partial: Callable[..., Any] | int, start: int, stop: int) -> Callable[[Any, tuple[Any, ...]], Any]:
    """Multiplication by a partial derivative, whose arguments are kept[start:stop]."""
    if partial == 1:
        return lambda v, kept: v
    if partial == -1:
        return lambda v, kept: -v
    assert callable(partial)
    if partial.__code__.co_code == _ITSELF.__code__.co_code and stop - start == 1:
        return lambda v, kept: v * kept[start]

    def term(v: Any, kept: tuple[Any, ...]) -> Any:
        try:
            return v * partial(*kept[start:stop])
        except ArithmeticError:
            # Where Python's numbers raise, NumPy's become infinite.
            return v * partial(*[np.asarray(k)[()] if type(k) in (float, complex) else k for k in kept[start:stop]])

    return term


def _rule(partials: Sequence[Callable[..., Any] | int], names: tuple[str, ...]) -> Rule:
    positions: list[int] = []
    terms = []
    for partial in partials:
        start = len(positions)
        if callable(partial):
            code = partial.__code__
            positions += [names.index(n) for n in code.co_varnames[: code.co_argcount]]
        terms.append(_term(partial, start, len(positions)))
    keep: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    if not positions:
        keep = lambda values: ()  # noqa: E731
    elif len(positions) == 1:
        only = positions[0]
        keep = lambda values: (values[only],)  # noqa: E731
    else:
        keep = operator.itemgetter(*positions)
    first = terms[0]
    if len(terms) == 1:
        return Rule(keep, lambda ct, kept: (first(ct, kept),), lambda tangents, kept: first(tangents[0], kept))
    second = terms[1]
    return Rule(
        keep,
        lambda ct, kept: (first(ct, kept), second(ct, kept)),
        lambda tangents, kept: first(tangents[0], kept) + second(tangents[1], kept),
    )


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
        """By the set of active operands: bit i for operand i."""
        for chosen in range(1, 1 << len(partials)):
            active = [p for i, p in enumerate(partials) if chosen >> i & 1]
            known = [p for p in active if p is not None]
            self.rules.append(_rule(known, names) if len(known) == len(active) else None)


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
