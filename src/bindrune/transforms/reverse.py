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

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.array import Array, dtype_of
from ..core.cotangents import Buffer, Part, accumulate, own
from ..core.handler import HOST, Handler, constant, constants, evaluate, paused_below, perform, update
from ..core.operation import Binary, Op, Spec, Unary, Write, is_differentiable, spec_of

__all__ = ["Reverse", "Tape", "lowest"]

_WEAK = (float, int, bool)

_Entry = tuple[Any, tuple[int, ...], Any, "list[Spec] | None"]
"""(pull, parents, kept, specs): pull(cotangent, kept) gives the parents' cotangents, brought to the given specs."""

_Kept = tuple[Any, list[Any]]
"""A reverse rule and what it asked for."""

_LEAF: _Entry = (None, (), None, None)


class Reverse(Handler):
    """Records operations on a tape."""

    __slots__ = ("noisy", "selects", "tape")

    def __init__(self, origin: object = "") -> None:
        super().__init__(origin)
        self.tape: list[_Entry] = []
        self.selects = False
        self.noisy = False
        """Whether NumPy may have something to warn of on the way back that was no matter on the way forward."""

    def leaf(self, value: Any) -> Array:
        """A cell to differentiate with respect to."""
        self.tape.append(_LEAF)
        return Array(self, value, len(self.tape) - 1)

    def unary(self, op: Unary, x: Array) -> Array:
        value = x._value
        y = op(value) if type(value) is Array else op.implementation(value)
        rule = op.rules[1]
        if rule is None or paused_below() > self.level:
            return constant(y)
        tape = self.tape
        tape.append((rule.pull, (x._mark,), rule.keep((y, value)), None))
        if not op.plain:
            self._remark(op)
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
        if paused_below() > self.level:
            return constant(y)
        rule = op.rules[chosen]
        if rule is None:
            rule, chosen, parents = _without_constant_partials(op, chosen, parents)
            if rule is None:
                return constant(y)
        specs: list[Spec] | None = None
        if chosen == 3 or type(b if chosen == 1 else a) not in _WEAK:
            try:
                same = a.shape == b.shape and a.dtype == b.dtype
            except AttributeError:
                same = type(a) is type(b) is float
            if not same:
                specs = [spec_of(x) for i, x in enumerate((a, b)) if chosen >> i & 1]
        tape = self.tape
        tape.append((rule.pull, parents, rule.keep((y, a, b)), specs))
        if not op.plain:
            self._remark(op)
        return Array(self, y, len(tape) - 1)

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        if op.structured:
            return op.answer_reverse(self, operands, params)  # type: ignore[attr-defined]
        if len(operands) == 1:
            return self._apply_to_one(op, operands[0], params)
        values, marks = self.open(operands)
        y = evaluate(op, values, params)
        active = [i for i, mark in enumerate(marks) if mark is not None and op.differentiable(i)]
        if not active or paused_below() > self.level:
            return constants(y)
        specs: list[Spec] = []
        kept: list[_Kept] = []
        for i in active:
            prepared = op.vjps[op.slot(i)]
            assert prepared is not None
            spec = spec_of(values[i])
            kept.append((prepared.rule, [read(y, values, params, i, spec) for read in prepared.readers]))
            specs.append(spec)
        return self._record(op, y, tuple([marks[i] for i in active]), kept, specs)

    def _apply_to_one(self, op: Op, x: Array, params: dict[str, Any]) -> Any:
        """`apply` for a single operand, which then is mine; the same as above without its loops."""
        value = x._value
        y = perform(op, (value,), params) if type(value) is Array else op.implementation(value, **params)
        prepared = op.vjps[0]
        if prepared is None or paused_below() > self.level:
            return constants(y)
        spec = spec_of(value)
        kept = [(prepared.rule, [read(y, (value,), params, 0, spec) for read in prepared.readers])]
        return self._record(op, y, (x._mark,), kept, [spec])

    def _record(self, op: Op, y: Any, parents: tuple[Any, ...], kept: list[_Kept], specs: list[Spec]) -> Any:
        """Append an operation with its rules, and what they keep, to the tape."""
        if not op.plain:
            self._remark(op)
        tape = self.tape
        if type(y) is tuple:
            hub = len(tape)
            tape.append((_pull_parts, parents, (kept, [spec_of(v) for v in y]), specs))
            return tuple(self._part(v, hub, i, len(y)) for i, v in enumerate(y))
        if not is_differentiable(y):
            return constant(y)
        tape.append((_pull_one if len(kept) == 1 else _pull, parents, kept, specs))
        return Array(self, y, len(tape) - 1)

    def update(self, op: Write, target: Array, operands: Sequence[Any], params: dict[str, Any]) -> Array:
        values, marks = self.open(operands)
        if paused_below() > self.level:
            marks[0] = None
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
        try:
            y = update(op, box, values, params)
        except BaseException:
            kept = box.pop()
            target._value = kept._value if isinstance(kept, Array) and target._handler is not self else kept
            raise
        if mark is None and (marks[0] is None or not is_differentiable(y)):
            return constant(y)
        parents = (-1 if mark is None else mark, -1 if marks[0] is None else marks[0])
        tape = self.tape
        tape.append((None, parents, (op, spec_of(values[0]), values[1:], params), None))
        self.selects = True
        return Array(self, y, len(tape) - 1)

    def open(self, operands: Sequence[Any]) -> tuple[list[Any], list[int | None]]:
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

    def _remark(self, op: Op) -> None:
        """Remember what the walk back must know of the operations."""
        self.selects |= op.selects
        self.noisy |= not op.quiet

    def _part(self, value: Any, hub: int, position: int, count: int) -> Array:
        if not is_differentiable(value):
            return constant(value)
        self.tape.append((_deliver, (hub,), (count, position), None))
        return Array(self, value, len(self.tape) - 1)


class Tape:
    """What a finished forward pass leaves: enough to pull cotangents back any number of times."""

    __slots__ = ("entries", "noisy", "selects")

    def __init__(self, handler: Reverse) -> None:
        self.entries = handler.tape
        self.selects = handler.selects
        self.noisy = handler.noisy

    def pull_back(self, seeds: Sequence[tuple[int, Any]], leaves: int) -> list[Any]:
        """The cotangents of the first `leaves` entries from those of others; None where there is none."""
        if not self.noisy and not self.selects:
            return self._walk(seeds, leaves)
        with np.errstate(all="ignore"):
            found = self._walk(seeds, leaves)
            if self.selects and any(_has_nan(ct) for ct in found):
                found = self._walk(seeds, leaves, guarded=True)
        return found

    def _walk(self, seeds: Sequence[tuple[int, Any]], leaves: int, guarded: bool = False) -> list[Any]:
        tape = self.entries
        slots: list[Any] = [None] * len(tape)
        for index, seed in seeds:
            slots[index] = seed if slots[index] is None else accumulate(slots[index], seed)
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
                pulled = (
                    (_fit(pulled[0], specs[0]),)
                    if len(specs) == 1
                    else [_fit(g, spec) for g, spec in zip(pulled, specs)]  # noqa: B905  (as below)
                )
            for parent, g in zip(parents, pulled):  # noqa: B905  (a rule's results match its operands)
                slot = slots[parent]
                if type(g) in _DENSE and (slot is None or type(slot) in _DENSE):
                    slots[parent] = g if slot is None else slot + g
                else:
                    slots[parent] = accumulate(slot, g)
        return [ct.value if type(ct) is Buffer else ct for ct in slots[:leaves]]


_DENSE = frozenset({np.ndarray, np.float64, np.float32, float, Array})
_NUMERIC = (np.ndarray, np.generic, float, complex, Array)


def _keep_zeros(pulled: Any, ct: Any) -> Any:
    """Cotangents that stay exactly zero where the result's was."""
    if not isinstance(ct, _NUMERIC):
        return pulled
    return [np.where(ct == 0, 0, g) if isinstance(g, _NUMERIC) and np.shape(g) == np.shape(ct) else g for g in pulled]


def _pull_one(ct: Any, kept: list[_Kept]) -> tuple[Any]:
    ((rule, arguments),) = kept
    return (rule(ct, *arguments),)


def _pull(ct: Any, kept: list[_Kept]) -> list[Any]:
    return [rule(ct, *arguments) for rule, arguments in kept]


def _deliver(ct: Any, kept: tuple[int, int]) -> tuple[Part]:
    return (Part(*kept, ct),)


def _pull_parts(parts: list[Any], kept: tuple[list[_Kept], list[Spec]]) -> list[Any]:
    rules, specs = kept
    return _pull(
        tuple(np.zeros(s.shape, s.dtype) if p is None else p for p, s in zip(parts, specs, strict=True)), rules
    )


def _pull_write(slots: list[Any], ct: Any, parents: tuple[int, ...], kept: Any) -> None:
    """A write turns its cotangent buffer into that of the array before it, and takes out what was written."""
    op, written, rest, params = kept
    buffer = own(ct)
    taken = op.adjoint(buffer, *rest, **params)
    target, value = parents
    if value >= 0:
        slots[value] = accumulate(slots[value], _fit(taken, written))
    if target >= 0:
        slots[target] = accumulate(slots[target], buffer)


def _fit(cotangent: Any, spec: Spec) -> Any:
    """Bring a cotangent to its operand's shape (summing what was broadcast) and dtype (dropping imaginary parts)."""
    kind = type(cotangent)
    if kind is np.ndarray or kind is np.float64:
        if cotangent.shape == spec[0] and cotangent.dtype == spec[1]:
            return cotangent
    elif not isinstance(cotangent, (Array, np.ndarray, np.generic, float)):
        return cotangent
    shape = np.shape(cotangent) if not isinstance(cotangent, Array) else cotangent.shape
    if shape != spec.shape:
        cotangent = unbroadcast(cotangent, shape, spec.shape)
    dtype = dtype_of(cotangent)
    if dtype != spec.dtype:
        if dtype.kind == "c" and spec.dtype.kind != "c":
            cotangent = np.real(cotangent)
        if dtype_of(cotangent) != spec.dtype:
            cotangent = cotangent.astype(spec.dtype) if hasattr(cotangent, "astype") else spec.dtype.type(cotangent)
    return cotangent


def unbroadcast(cotangent: Any, shape: tuple[int, ...], target: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes along which its operand was broadcast."""
    extra = len(shape) - len(target)
    if extra > 0:
        cotangent = np.sum(cotangent, axis=tuple(range(extra)))
        shape = shape[extra:]
    elif extra < 0:
        # An assignment drops leading axes of length one from what is written.
        shape = (1,) * -extra + shape
        cotangent = np.reshape(cotangent, shape)
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
