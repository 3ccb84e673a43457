"""Reverse mode: the handler that keeps a tape, and the walk back along it.

Going forward each operation on a followed value appends one entry to the tape: how to pull a cotangent back, to which
earlier entries, and what the rule asked to keep.  A cell's mark is the index of its entry.  Going back, entries are
visited in reverse order of creation, which is a topological order; there is no recursion, and a pullback may be used
any number of times because the tape is never changed.

What is kept is what rules name, and no entry holds an array that a later write could want to change in place.

Zero times infinity: elements that a selection (`where`, an index, a maximum) did not choose get an exact zero
cotangent, yet an infinite partial derivative further back would turn that zero into NaN.  When a gradient comes out
NaN and the tape holds a selection, the walk is repeated with zero cotangents staying zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, dtype_of
from ..core.cotangents import Buffer, Part, accumulate, own
from ..core.errors import CotangentError, NonScalarOutputError
from ..core.handler import HOST, Handler, constant, evaluate, update
from ..core.operation import Binary, Op, Spec, Unary, Write, arguments, is_differentiable, spec_of
from .calls import Call, Selection, Transformed, as_leaf, differentiable_leaves, matching_leaves, take_out

__all__ = ["Pullback", "Reverse", "Tape", "grad", "value_and_grad", "vjp"]

_WEAK = (float, int, bool)

_Entry = tuple[Any, tuple[int, ...], Any, "list[Spec | None] | None"]
"""(pull, parents, kept, specs): pull(cotangent, kept) gives the parents' cotangents, brought to the given specs."""

_LEAF: _Entry = (None, (), None, None)


class Reverse(Handler):
    """Records operations on a tape."""

    __slots__ = ("selects", "tape")

    def __init__(self, origin: str = "") -> None:
        super().__init__(origin)
        self.tape: list[_Entry] = []
        self.selects = False

    def leaf(self, value: Any) -> Array:
        """A cell to differentiate with respect to."""
        self.tape.append(_LEAF)
        return Array(self, value, len(self.tape) - 1)

    def unary(self, op: Unary, x: Array) -> Array:
        value = x._value
        y = op(value) if type(value) is Array else op.implementation(value)
        rule = op.rules[1]
        if rule is None:
            return constant(y)
        tape = self.tape
        tape.append((rule.pull, (x._mark,), rule.keep((y, value)), None))
        if op.selects:
            self.selects = True
        return Array(self, y, len(tape) - 1)

    def binary(self, op: Binary, a: Any, b: Any) -> Array:
        chosen = 0
        parents: tuple[int, ...] = ()
        if type(a) is Array:
            if a._handler is self:
                chosen = 1
                parents = (a._mark,)
                a = a._value
            else:
                a = a._value if a._handler is HOST else a.snapshot()
        if type(b) is Array:
            if b._handler is self:
                chosen += 2
                parents += (b._mark,)
                b = b._value
            else:
                b = b._value if b._handler is HOST else b.snapshot()
        y = op(a, b) if type(a) is Array or type(b) is Array else op.implementation(a, b)
        rule = op.rules[chosen]
        if rule is None:
            rule, chosen, parents = _without_constant_partials(op, chosen, parents)
            if rule is None:
                return constant(y)
        specs: list[Spec | None] | None = None
        if not (type(b) in _WEAK or type(a) in _WEAK) or chosen == 3:
            try:
                same = a.shape == b.shape and a.dtype == b.dtype
            except AttributeError:
                same = type(a) is type(b) is float
            if not same:
                specs = [spec_of(x) for i, x in enumerate((a, b)) if chosen >> i & 1]
        tape = self.tape
        tape.append((rule.pull, parents, rule.keep((y, a, b)), specs))
        if op.selects:
            self.selects = True
        return Array(self, y, len(tape) - 1)

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        values, marks = self._open(operands)
        y = evaluate(op, values, params)
        active = [i for i, mark in enumerate(marks) if mark is not None and op.differentiable(i)]
        if not active:
            return tuple(map(constant, y)) if type(y) is tuple else constant(y)
        specs = [spec_of(v) for v in values]
        known = op.environment(y, values, specs, params)
        rules: list[Any] = []
        kept: list[Any] = []
        for i in active:
            rule = op.vjps[op.slot(i)]
            assert rule is not None
            rules.append(rule)
            kept.append(arguments(rule, known, specs, i))
        parents = tuple(marks[i] for i in active)
        if op.selects:
            self.selects = True
        tape = self.tape
        if type(y) is tuple:
            hub = len(tape)
            tape.append((_pull_parts, parents, (rules, kept, [spec_of(v) for v in y]), [specs[i] for i in active]))
            return tuple(self._part(v, hub, i, len(y)) for i, v in enumerate(y))
        if not is_differentiable(y):
            return constant(y)
        tape.append((_pull, parents, (rules, kept), [specs[i] for i in active]))
        return Array(self, y, len(tape) - 1)

    def update(self, op: Write, target: Array, operands: Sequence[Any], params: dict[str, Any]) -> Array:
        values, marks = self._open(operands)
        mark = None
        if target._handler is self:
            mark = target._mark
            box = [target._value]
            target._value = None
        elif target._handler is HOST:
            box = [target._value]
            target._value = None
        else:
            box = [target.snapshot()]
            target._value = None
        spec = spec_of(box[0])
        try:
            y = update(op, box, values, params)
        except BaseException:
            kept = box.pop()
            target._value = kept._value if isinstance(kept, Array) and target._handler is not self else kept
            raise
        if (mark is None and marks[0] is None) or not is_differentiable(y):
            return constant(y)
        parents = (-1 if mark is None else mark, -1 if marks[0] is None else marks[0])
        self.tape.append((None, parents, (op, spec, spec_of(values[0]), tuple(values[1:]), params), None))
        self.selects = True
        return Array(self, y, len(self.tape) - 1)

    def _open(self, operands: Sequence[Any]) -> tuple[list[Any], list[int | None]]:
        """The operands one level out, and the marks of those that are mine."""
        values: list[Any] = []
        marks: list[int | None] = []
        for x in operands:
            mark = None
            if type(x) is Array:
                if x._handler is self:
                    mark = x._mark
                    x = x._value
                else:
                    x = x._value if x._handler is HOST else x.snapshot()
            values.append(x)
            marks.append(mark)
        return values, marks

    def _part(self, value: Any, hub: int, position: int, count: int) -> Array:
        if not is_differentiable(value):
            return constant(value)
        self.tape.append((_deliver, (hub,), (count, position), None))
        return Array(self, value, len(self.tape) - 1)


class Tape:
    """What a finished forward pass leaves: enough to pull cotangents back any number of times."""

    __slots__ = ("entries", "selects")

    def __init__(self, handler: Reverse) -> None:
        self.entries = handler.tape
        self.selects = handler.selects

    def pull_back(self, seeds: Sequence[tuple[int, Any]], leaves: int) -> list[Any]:
        """The cotangents of the first `leaves` entries from those of others; None where there is none."""
        with np.errstate(all="ignore"):
            found = self._walk(seeds, leaves)
            if self.selects and any(_has_nan(ct) for ct in found):
                found = self._walk(seeds, leaves, guarded=True)
        return found

    def _walk(self, seeds: Sequence[tuple[int, Any]], leaves: int, guarded: bool = False) -> list[Any]:
        tape = self.entries
        slots: list[Any] = [None] * len(tape)
        for index, seed in seeds:
            slots[index] = accumulate(slots[index], seed)
        for i in range(len(tape) - 1, leaves - 1, -1):
            ct = slots[i]
            if ct is None:
                continue
            slots[i] = None
            pull, parents, kept, specs = tape[i]
            if pull is None:
                _pull_write(slots, ct, parents, kept)
                continue
            if type(ct) is Buffer:
                ct = ct.value
            pulled = pull(ct, kept)
            if guarded:
                pulled = _keep_zeros(pulled, ct)
            if specs is not None:
                pulled = [g if s is None else _fit(g, s) for g, s in zip(pulled, specs, strict=True)]
            for parent, g in zip(parents, pulled, strict=True):
                slot = slots[parent]
                if slot is None and type(g) in _DENSE:
                    slots[parent] = g
                else:
                    slots[parent] = accumulate(slot, g)
        return [ct.value if type(ct) is Buffer else ct for ct in slots[:leaves]]


_DENSE = frozenset({np.ndarray, np.float64, np.float32, float, Array})


def _keep_zeros(pulled: Any, ct: Any) -> Any:
    """Cotangents that stay exactly zero where the result's was."""
    return [np.where(ct == 0, 0, g) if np.shape(g) == np.shape(ct) else g for g in pulled]


def _pull(ct: Any, kept: tuple[list[Any], list[Any]]) -> list[Any]:
    return [rule(ct, *known) for rule, known in zip(*kept, strict=True)]


def _deliver(ct: Any, kept: tuple[int, int]) -> tuple[Part]:
    return (Part(*kept, ct),)


def _pull_parts(parts: list[Any], kept: tuple[list[Any], list[Any], list[Spec]]) -> list[Any]:
    rules, known, specs = kept
    cts = tuple(np.zeros(s.shape, s.dtype) if p is None else p for p, s in zip(parts, specs, strict=True))
    return _pull(cts, (rules, known))


def _pull_write(slots: list[Any], ct: Any, parents: tuple[int, ...], kept: Any) -> None:
    """A write turns its cotangent buffer into that of the array before it, and takes out what was written."""
    op, before, written, rest, params = kept
    buffer = own(ct, before)
    taken = op.adjoint(buffer, *rest, **params)
    target, value = parents
    if value >= 0:
        slots[value] = accumulate(slots[value], _fit(taken, written))
    if target >= 0:
        slots[target] = accumulate(slots[target], buffer)


def _fit(cotangent: Any, spec: Spec) -> Any:
    """Bring a cotangent to its operand's shape (summing what was broadcast) and dtype (dropping imaginary parts)."""
    if not isinstance(cotangent, (Array, np.ndarray, np.generic, float)):
        return cotangent
    shape = np.shape(cotangent) if not isinstance(cotangent, Array) else cotangent.shape
    if shape != spec.shape:
        cotangent = unbroadcast(cotangent, shape, spec.shape)
    dtype = dtype_of(cotangent)
    if dtype != spec.dtype:
        if dtype.kind == "c" and spec.dtype.kind != "c":
            cotangent = np.real(cotangent)
        cotangent = cotangent.astype(spec.dtype) if dtype_of(cotangent) != spec.dtype else cotangent
    return cotangent


def unbroadcast(cotangent: Any, shape: tuple[int, ...], target: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes along which its operand was broadcast."""
    extra = max(len(shape) - len(target), 0)
    if extra:
        cotangent = np.sum(cotangent, axis=tuple(range(extra)))
        shape = shape[extra:]
    stretched = tuple(i for i, (n, m) in enumerate(zip(shape, target, strict=False)) if m == 1 != n)
    if stretched:
        cotangent = np.sum(cotangent, axis=stretched, keepdims=True)
    return cotangent


def _has_nan(cotangent: Any) -> bool:
    if cotangent is None:
        return False
    return bool(np.isnan(lowest(cotangent)).any())


def lowest(value: Any) -> Any:
    """The plain array that holds a value's elements, batch axes included."""
    while isinstance(value, Array):
        value = value.read()._value
    return value


def _without_constant_partials(op: Binary, chosen: int, parents: tuple[int, ...]) -> tuple[Any, int, tuple[int, ...]]:
    """The rule for those active operands that have a derivative at all."""
    known = sum(1 << i for i in range(2) if chosen >> i & 1 and op.differentiable(i))
    if chosen == 3 and known:
        parents = (parents[known - 1],)
    return op.rules[known], known, parents


# ------------------------------------------------------------------------------------------------------ the interface


class _Recorded:
    """A forward pass: the value, and the way back to the chosen arguments."""

    __slots__ = ("aux", "counts", "leaves", "outputs", "structure", "structures", "tape", "value")

    def __init__(
        self,
        transformed: Transformed,
        keys: Sequence[int | str],
        arguments: Sequence[Any],
        keywords: dict[str, Any],
        *,
        has_aux: bool,
        owns: bool,
    ) -> None:
        origin = transformed.origin
        handler = Reverse(origin)
        call = Call(transformed.function, handler, owns)
        given: list[Any] = call.constants(arguments)
        named = {k: call.session.lift(v) for k, v in keywords.items()}
        self.leaves: list[Any] = []
        self.structures: list[Any] = []
        self.counts: list[int] = []
        for key in keys:
            value = keywords[key] if isinstance(key, str) else arguments[key]
            leaves, structure = differentiable_leaves(transformed.function, key, value, origin)
            cells = [
                call.follow(x, handler.leaf(x.copy() if owns and isinstance(x, np.ndarray) else as_leaf(x)))
                for x in leaves
            ]
            replaced = trees.unflatten(structure, cells)
            if isinstance(key, str):
                named[key] = replaced
            else:
                given[key] = replaced
            self.leaves += leaves
            self.structures.append(structure)
            self.counts.append(len(leaves))
        result = call.run(given, named)
        if has_aux:
            if not isinstance(result, tuple) or len(result) != 2:
                handler.end()
                raise TypeError(f"{origin}: has_aux=True needs a function that returns (value, aux), not {result!r}")
            result, aux = result
            self.aux = trees.map_leaves(lambda v: take_out(handler, v), aux)
        else:
            self.aux = None
        outputs, self.structure = trees.flatten(result)
        self.outputs: list[int | None] = []
        for out in outputs:
            cell = out.read() if isinstance(out, Array) else out
            mine = isinstance(cell, Array) and cell._handler is handler
            self.outputs.append(cell._mark if mine else None)
        values = [take_out(handler, v) for v in outputs]
        self.value = trees.unflatten(self.structure, values)
        self.tape = Tape(handler)
        handler.end()

    def pull_back(self, seeds: Sequence[tuple[int, Any]]) -> list[Any]:
        """The cotangents of the chosen arguments, as trees like theirs."""
        found = self.tape.pull_back(seeds, len(self.leaves))
        grads = [_finish(ct, leaf) for ct, leaf in zip(found, self.leaves, strict=True)]
        trees_ = []
        at = 0
        for structure, count in zip(self.structures, self.counts, strict=True):
            trees_.append(trees.unflatten(structure, grads[at : at + count]))
            at += count
        return trees_


def _finish(cotangent: Any, leaf: Any) -> Any:
    """The gradient with respect to a leaf: zeros where there is none, an array of its own, a number for a number."""
    if cotangent is None:
        spec = spec_of(leaf)
        cotangent = np.zeros(spec.shape, spec.dtype)
    if isinstance(cotangent, Array):
        return cotangent.read().snapshot()
    if isinstance(leaf, np.ndarray):
        cotangent = np.asarray(cotangent)
        return cotangent if cotangent.base is None and cotangent.flags.owndata else cotangent.copy()
    return cotangent[()] if isinstance(cotangent, np.ndarray) else dtype_of(leaf).type(cotangent)


class ValueAndGrad(Transformed):
    """`value_and_grad`, and `grad` with `keep_value` off."""

    transformation = "value_and_grad"

    def __init__(
        self,
        function: Callable[..., Any],
        argnums: int | Sequence[int] | None,
        argnames: str | Sequence[str] | None,
        has_aux: bool,
        keep_value: bool,
    ) -> None:
        self.transformation = "value_and_grad" if keep_value else "grad"
        super().__init__(function)
        self.selection = Selection(argnums, argnames)
        self.has_aux = has_aux
        self.keep_value = keep_value

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        keys = self.selection.keys(self.function, arguments, keywords, self.origin)
        recorded = _Recorded(self, keys, arguments, keywords, has_aux=self.has_aux, owns=False)
        value = recorded.value
        seeds = _scalar_seed(recorded, value, self.origin)
        grads = recorded.pull_back(seeds)
        gradient = grads[0] if self.selection.single else tuple(grads)
        if not self.keep_value:
            return (gradient, recorded.aux) if self.has_aux else gradient
        return ((value, recorded.aux) if self.has_aux else value), gradient


def _scalar_seed(recorded: _Recorded, value: Any, origin: str) -> list[tuple[int, Any]]:
    shape = value.shape if isinstance(value, (Array, np.ndarray)) else () if np.isscalar(value) else None
    if recorded.structure is not None or shape != ():
        what = f"an array of shape {shape}" if shape is not None else f"{type(value).__name__} {value!r}"
        raise NonScalarOutputError(
            f"{origin}: the function returned {what}, and a gradient needs one number. Reduce it (np.sum, np.mean), "
            "or use br.vjp with a cotangent of that shape; a Jacobian is br.vmap of the pullback."
        )
    dtype = dtype_of(value)
    if not is_differentiable(value):
        raise NonScalarOutputError(f"{origin}: the function returned {dtype}, and a gradient needs a real number")
    mark = recorded.outputs[0]
    return [] if mark is None else [(mark, dtype.type(1))]


def grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    argnames: str | Sequence[str] | None = None,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """The gradient of a function that returns one number.

    Args:
        f: any function of NumPy arrays, numbers and trees of them, returning a real number (shape ``()``).
        argnums: the position of the argument to differentiate with respect to, or several; the first by default.
        argnames: the same for arguments by name.
        has_aux: whether `f` returns ``(value, aux)``; then ``(gradient, aux)`` returns.

    Returns:
        A function of the same arguments whose result has the structure, shapes and dtypes of the chosen argument
        (a tuple of such for several).

    Raises:
        NonDifferentiableError: a chosen leaf is not of a floating or complex type.
        NonScalarOutputError: `f` returned something else than one number.

    >>> import numpy as np, bindrune as br
    >>> br.grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> br.grad(lambda p, x: p["a"] * x, argnums=(0, 1))({"a": 2.0}, 3.0)
    ({'a': np.float64(3.0)}, np.float64(2.0))
    """
    return ValueAndGrad(f, argnums, argnames, has_aux, keep_value=False)


def value_and_grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] | None = None,
    argnames: str | Sequence[str] | None = None,
    has_aux: bool = False,
) -> Callable[..., Any]:
    """The value of a function and its gradient, from one evaluation.  Arguments and errors are those of `grad`.

    Returns:
        A function that returns ``(value, gradient)``, or ``((value, aux), gradient)`` with `has_aux`.

    >>> import numpy as np, bindrune as br
    >>> br.value_and_grad(lambda x: np.sum(x * x))(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """
    return ValueAndGrad(f, argnums, argnames, has_aux, keep_value=True)


class Pullback:
    """From a cotangent of a function's result to the cotangents of its arguments; may be used again and again."""

    __slots__ = ("_origin", "_recorded")

    def __init__(self, recorded: _Recorded, origin: str) -> None:
        self._recorded = recorded
        self._origin = origin

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        recorded = self._recorded
        leaves = matching_leaves(recorded.value, cotangent, CotangentError, self._origin, "cotangent", "result")
        seeds = [(mark, ct) for mark, ct in zip(recorded.outputs, leaves, strict=True) if mark is not None]
        return tuple(recorded.pull_back(seeds))

    def __repr__(self) -> str:
        return f"<pullback of {self._origin}>"


class _Vjp(Transformed):
    transformation = "vjp"


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
    recorded = _Recorded(transformed, range(len(primals)), primals, {}, has_aux=has_aux, owns=True)
    pullback = Pullback(recorded, transformed.origin)
    value = trees.map_leaves(lambda v: v.copy() if isinstance(v, np.ndarray) else v, recorded.value)
    return (value, pullback, recorded.aux) if has_aux else (value, pullback)
