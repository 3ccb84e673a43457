"""Reverse mode: the handler that keeps a tape, and the walk back along it.

Going forward each operation on a followed value appends one entry to the tape: how to pull a cotangent back, what the
rule asked to keep, to which earlier entries, and the specs that cotangents are brought to there.  A cell's mark says
where its entry stands.  Going back, entries are visited in reverse order of creation, which is a topological order;
there is no recursion, and a pullback may be used any number of times because the tape is never changed.

What is kept is what rules name, and no entry holds an array that a later write could want to change in place.

The tape is one flat list, four fields an entry, and what they hold is as far as possible none of Python's containers,
nor tuples of more than arrays and numbers.  A long loop leaves millions of entries; were they objects, Python's
garbage collector would walk over them again and again, and a step would cost the more the longer the loop.

Zero times infinity: elements that a selection (`where`, an index, a maximum) did not choose get an exact zero
cotangent, yet an infinite partial derivative further back would turn that zero into NaN.  When a gradient comes out
NaN and the tape holds a selection, the walk is repeated with zero cotangents staying zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import islice
from types import FunctionType
from typing import Any

import numpy as np

from ..core.array import Array, dtype_of
from ..core.cotangents import Buffer, Contribution, Part, accumulate, own
from ..core.handler import HOST, Handler, constant, constants, evaluate, paused_below, perform, update
from ..core.operation import Binary, Op, Spec, Unary, Write, is_differentiable, spec_of
from ..core.specs import zeros
from ..core.stack import STACK

__all__ = ["Into", "Pull", "Reverse", "deliver", "lowest"]

_WEAK = (float, int, bool)

_TWICE = 4
"""Where the rule stands for one operand in both places."""

Pull = Callable[[Any, Any, Any], Any]
"""From (the result's cotangent, what was kept, the parents' specs) to the parents' cotangents."""

_FIELDS = 4
"""Of an entry: pull, kept, parents, specs.

`parents` is the mark of the only parent, or a tuple of marks; `pull` then returns one cotangent, or a list of its own.
`specs` is alike; None where cotangents fit already.  The `pull` of a write is the `Write`; what adds to its parents'
cotangents itself has an `Into`.
"""


_LEAF = (None, None, None, None)


class Reverse(Handler):
    """Records operations on a tape; after it has ended, pulls cotangents back along it any number of times."""

    __slots__ = ("noisy", "selects", "tape")

    def __init__(self, origin: object = "") -> None:
        super().__init__(origin)
        self.tape: list[Any] = []
        self.selects = False
        self.noisy = False
        """Whether NumPy may have something to warn of on the way back that was no matter on the way forward."""

    def leaf(self, value: Any) -> Array:
        """A cell to differentiate with respect to."""
        tape = self.tape
        tape += _LEAF
        return Array(self, value, len(tape) // _FIELDS - 1)

    def record(self, pull: Pull | Write | None, kept: Any, parents: Any, specs: Any) -> int:
        """Append an entry to the tape: its mark."""
        tape = self.tape
        tape += (pull, kept, parents, specs)
        return len(tape) // _FIELDS - 1

    def attend(self, start: int, change: Callable[[Any], Any]) -> None:
        """Change the pulls of all entries that stand on the tape from `start` on."""
        for i in range(start, len(self.tape), _FIELDS):
            self.tape[i] = change(self.tape[i])

    def unary(self, op: Unary, x: Array) -> Array:
        value = x._value
        y = op(value) if type(value) is Array else op.implementation(value)
        rule = op.rules[1]
        if rule is None or paused_below() > self.level:
            return constant(y)
        tape = self.tape
        tape += (rule.pull, rule.keep((y, value)), x._mark, None)
        if not op.plain:
            self._remark(op)
        return Array(self, y, len(tape) // _FIELDS - 1)

    def binary(self, op: Binary, a: Any, b: Any) -> Array:
        left: Any = None
        right: Any = None
        if type(a) is Array:
            if a._handler is self:
                left = a._mark
                a = a._value
            else:
                a = a._value if a._handler is HOST else a.snapshot()
        if type(b) is Array:
            if b._handler is self:
                right = b._mark
                b = b._value
            else:
                b = b._value if b._handler is HOST else b.snapshot()
        y = op(a, b) if type(a) is Array or type(b) is Array else op.implementation(a, b)
        if paused_below() > self.level:
            return constant(y)
        parents: Any
        if right is None:
            chosen, parents = 1, left
        elif left is None:
            chosen, parents = 2, right
        elif left == right and op.rules[_TWICE] is not None:
            chosen, parents = _TWICE, left
        else:
            chosen, parents = 3, (left, right)
        rule = op.rules[chosen]
        if rule is None:
            rule, chosen, parents = _without_constant_partials(op, chosen, parents)
            if rule is None:
                return constant(y)
        specs: Any = None
        if chosen == 3:
            if not _are_alike(a, b):
                specs = (spec_of(a), spec_of(b))
        elif chosen != _TWICE and type(b if chosen == 1 else a) not in _WEAK and not _are_alike(a, b):
            specs = spec_of(a if chosen == 1 else b)
        tape = self.tape
        tape += (rule.pull, rule.keep((y, a, b)), parents, specs)
        if not op.plain:
            self._remark(op)
        return Array(self, y, len(tape) // _FIELDS - 1)

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        if op.structured:
            return op.answer_reverse(self, operands, params)  # type: ignore[attr-defined]
        if len(operands) == 1:
            return self._apply_to_one(op, operands[0], params)
        values, marks = self.open(operands)
        y = evaluate(op, values, params)
        if paused_below() > self.level:
            return constants(y)
        active: list[int] = []
        kept: list[Any] = []
        for i, mark in enumerate(marks):
            if mark is not None:
                rule = op.vjps[op.slot(i)]
                if rule is not None:
                    active.append(i)
                    kept.append(rule.keep(y, values, params, i))
        if not active:
            return constants(y)
        if len(active) == 1:
            i = active[0]
            return self._follow(op, y, op.vjp(i).pull, kept[0], marks[i], spec_of(values[i]))
        parents, specs = tuple([marks[i] for i in active]), tuple([spec_of(values[i]) for i in active])
        return self._follow(op, y, op.pull_to(tuple(active)), tuple(kept), parents, specs)

    def _apply_to_one(self, op: Op, x: Array, params: dict[str, Any]) -> Any:
        """`apply` for a single operand, which then is mine; the same as above without its loops."""
        value = x._value
        y = perform(op, (value,), params) if type(value) is Array else op.implementation(value, **params)
        rule = op.vjps[0]
        if rule is None or paused_below() > self.level:
            return constants(y)
        kept = rule.keep(y, (value,), params, 0)
        if type(y) is tuple:
            return self._follow(op, y, rule.pull, kept, x._mark, spec_of(value))
        if not op.plain:
            self._remark(op)
        if not is_differentiable(y):
            return constant(y)
        tape = self.tape
        tape += (rule.pull, kept, x._mark, spec_of(value))
        return Array(self, y, len(tape) // _FIELDS - 1)

    def _follow(self, op: Op, y: Any, pull: Pull, kept: Any, parents: Any, specs: Any) -> Any:
        """Record an operation: the cell of its result, or the cells of its several results."""
        if not op.plain:
            self._remark(op)
        if type(y) is tuple:
            hub = self.record(_from_parts(pull, [spec_of(v) for v in y]), kept, parents, specs)
            return tuple([self._part(v, hub, i, len(y)) for i, v in enumerate(y)])
        return Array(self, y, self.record(pull, kept, parents, specs)) if is_differentiable(y) else constant(y)

    def _part(self, value: Any, hub: int, position: int, count: int) -> Array:
        if not is_differentiable(value):
            return constant(value)
        return Array(self, value, self.record(deliver, (count, position), hub, None))

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
        self.selects = True
        spec = None if marks[0] is None else spec_of(values[0])
        return Array(self, y, self.record(op, (params["index"], *values[1:]), (mark, marks[0]), spec))

    def _remark(self, op: Op) -> None:
        """Remember what the walk back must know of the operations."""
        self.selects |= op.selects
        self.noisy |= not op.quiet

    def pull_back(self, seeds: Sequence[tuple[int, Any]], leaves: int) -> list[Any]:
        """The cotangents of the first `leaves` entries from those of others; None where there is none."""
        if not self.noisy and not self.selects:
            return self._walk(seeds, leaves)
        with np.errstate(all="ignore"):
            found = self._walk(seeds, leaves)
            if self.selects and any(_has_nan(ct) for ct in found):
                token = guarding.set(True)
                try:
                    found = self._walk(seeds, leaves, guarded=True)
                finally:
                    guarding.reset(token)
        return found

    def _walk(self, seeds: Sequence[tuple[int, Any]], leaves: int, guarded: bool = False) -> list[Any]:
        count = len(self.tape) // _FIELDS
        slots: list[Any] = [None] * count
        for mark, seed in seeds:
            slots[mark] = seed if slots[mark] is None else accumulate(slots[mark], seed)
        fields = reversed(self.tape)
        entries = zip(fields, fields, fields, fields)  # noqa: B905  (none is cut short)
        for specs, parents, kept, pull in islice(entries, count - leaves):
            ct = slots.pop()
            if ct is None:
                continue
            if type(pull) is not FunctionType:
                if type(pull) is Write:
                    _pull_write(slots, ct, pull, kept, parents, specs)
                    continue
                if type(pull) is Into:
                    _pull_into(slots, ct, pull, parents, specs)
                    continue
            if type(ct) is Buffer:
                ct = ct.value
            found = pull(ct, kept, specs)
            if type(parents) is int:
                if guarded:
                    found = _keep_zero(found, ct)
                if specs is not None:
                    found = _fit(found, specs)
                if slots[parents] is None and type(found) in _DENSE:
                    slots[parents] = found
                else:
                    _add(slots, parents, found)
                continue
            if guarded:
                found = [_keep_zero(g, ct) for g in found]
            if specs is not None:
                found = list(map(_fit, found, specs))
            for parent in reversed(parents):
                g = found.pop()  # so that no one else holds what is in a slot
                if slots[parent] is None and type(g) in _DENSE:
                    slots[parent] = g
                else:
                    _add(slots, parent, g)
        for i, ct in enumerate(slots):
            if type(ct) is Buffer:
                slots[i] = ct.value
        return slots


def _pull_write(
    slots: list[Any],
    ct: Any,
    op: Write,
    kept: tuple[Any, ...],
    parents: tuple[int | None, int | None],
    written: Spec | None,
) -> None:
    """A write turns its cotangent buffer into that of the array before it, and takes out what was written."""
    index, *arrays = kept
    buffer = own(ct)
    taken = op.adjoint(buffer, *arrays, index=index)
    target, value = parents
    if value is not None:
        assert written is not None
        _add(slots, value, _fit(taken, written))
    if target is not None:
        _add(slots, target, buffer)


class Into:
    """The pull of an operation that adds to cotangents itself.

    Attributes:
        pull: from the results' cotangents and those that the parents have by now, None where there is none, to the
            parents' new ones.
        adds: to which parents' it adds; of the others it is not given any.
    """

    __slots__ = ("adds", "pull")

    def __init__(self, pull: Callable[[Sequence[Any], Sequence[Any]], list[Any]], adds: Sequence[bool]) -> None:
        self.pull = pull
        self.adds = adds


def _pull_into(slots: list[Any], ct: list[Any], pull: Into, parents: Sequence[int], specs: Sequence[Spec]) -> None:
    """Replace the cotangents of parents by what they become."""
    totals: list[Any] = []
    for parent, adds in zip(parents, pull.adds, strict=True):
        total = _taken(slots, parent) if adds else None
        totals.append(total.value if type(total) is Buffer else total)
    for parent, found, spec in zip(parents, pull.pull(ct, totals), specs, strict=True):
        _add(slots, parent, _fit(found, spec))


def _add(slots: list[Any], mark: int, cotangent: Any) -> None:
    """Add a cotangent to what is in a slot."""
    if type(slots[mark]) in _DENSE and type(cotangent) in _DENSE:
        slots[mark] = _taken(slots, mark) + cotangent
    else:
        slots[mark] = accumulate(slots[mark], cotangent)


def _taken(slots: list[Any], mark: int) -> Any:
    """What was in a slot.  Often nobody else holds it, and then NumPy reuses the memory of a large array."""
    cotangent, slots[mark] = slots[mark], None
    return cotangent


_DENSE = frozenset({np.ndarray, np.float64, np.float32, float, Array})
_NUMERIC = (np.ndarray, np.generic, float, complex, Array)


def _keep_zero(pulled: Any, ct: Any) -> Any:
    """A cotangent that stays exactly zero where the result's was."""
    if not isinstance(ct, _NUMERIC) or not isinstance(pulled, _NUMERIC) or np.shape(pulled) != np.shape(ct):
        return pulled
    return np.where(ct == 0, 0, pulled)


def deliver(ct: Any, kept: tuple[int, int], specs: None) -> Part:
    """Pull the cotangent of one of several results back to where those of all are gathered."""
    return Part(*kept, ct)


def _from_parts(pull: Pull, results: Sequence[Spec]) -> Pull:
    """A pull from the cotangents of several results, gathered in a list in which some may be missing."""

    def call(parts: list[Any], kept: Any, specs: Any) -> Any:
        whole = tuple([zeros(r) if p is None else p for p, r in zip(parts, results, strict=True)])
        return pull(whole, kept, specs)

    return call


def _fit(cotangent: Any, spec: Spec) -> Any:
    """Bring a cotangent to its operand's shape (summing what was broadcast) and dtype (dropping imaginary parts)."""
    kind = type(cotangent)
    if kind is np.ndarray or kind is np.float64 or kind is Array:
        if cotangent.shape == spec[0] and cotangent.dtype == spec[1]:
            return cotangent
    elif isinstance(cotangent, Contribution) or not isinstance(cotangent, (Array, np.ndarray, np.generic, float)):
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


guarding: ContextVar[bool] = ContextVar("guarding", default=False)
"""Whether the walk under way keeps zero cotangents zero."""


def _has_nan(cotangent: Any) -> bool:
    if cotangent is None or dtype_of(cotangent) == STACK:
        return False
    found: Any = np.isnan(lowest(cotangent)).any()
    return found._handler.decide(found, guarding.get()) if isinstance(found, Array) else bool(found)


def lowest(value: Any) -> Any:
    """The plain array that holds a value's elements, batch axes included; of what is being staged, its cell."""
    while isinstance(value, Array):
        value = value.read()
        if value._handler.symbolic:
            return value
        value = value._value
    return value


_NUMBERS = frozenset({np.float64, float})


def _are_alike(a: Any, b: Any) -> bool:
    """Whether two operands have one shape and one dtype, so that what comes back fits both."""
    kind = type(a)
    if kind is type(b) and kind in _NUMBERS:
        return True
    try:
        return bool(a.shape == b.shape and (a.dtype is b.dtype or a.dtype == b.dtype))
    except AttributeError:
        return False


def _without_constant_partials(op: Binary, chosen: int, parents: Any) -> tuple[Any, int, Any]:
    """The rule for those active operands that have a derivative at all."""
    known = sum(1 << i for i in range(2) if chosen >> i & 1 and op.differentiable(i))
    if chosen == 3 and known:
        parents = parents[known - 1]
    return op.rules[known], known, parents
