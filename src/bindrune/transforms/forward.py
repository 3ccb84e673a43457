"""Forward mode: each followed value carries its tangent.

A cell's mark is its tangent, a value one level out of the same shape and dtype.  The partial derivatives of an
elementwise operation and the `jvp` rules of the others give the tangent of each result; a linear operation is
performed once more, on the tangents.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array, dtype_of
from ..core.errors import TangentError, for_users
from ..core.handler import HOST, Handler, constant, constants, evaluate, paused_below, update
from ..core.operation import Binary, Op, Prepared, Spec, Unary, Write, is_differentiable, spec_of
from ..core.specs import zeros
from .calls import (
    Call,
    Transformed,
    argument_name,
    as_leaf,
    differentiable_leaves,
    matching_leaves,
    separate,
    split_aux,
    take_out,
)

__all__ = ["Forward", "jvp", "push_forward", "zero_tangent"]


class Forward(Handler):
    """Pushes tangents along with the values."""

    __slots__ = ()

    def unary(self, op: Unary, x: Array) -> Array:
        value = x._value
        y = op(value) if type(value) is Array else op.implementation(value)
        rule = op.rules[1]
        if rule is None or paused_below() > self.level:
            return constant(y)
        return Array(self, y, _fit(rule.push((x._mark,), rule.keep((y, value))), spec_of(y)))

    def binary(self, op: Binary, a: Any, b: Any) -> Array:
        (a, b), tangents = self.open((a, b))
        y = op(a, b) if type(a) is Array or type(b) is Array else op.implementation(a, b)
        active = [i for i in range(2) if tangents[i] is not None and op.differentiable(i)]
        rule = op.rules[sum(1 << i for i in active)]
        if rule is None or paused_below() > self.level:
            return constant(y)
        tangent = rule.push([tangents[i] for i in active], rule.keep((y, a, b)))
        return Array(self, y, _fit(tangent, spec_of(y)))

    def apply(self, op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
        if op.structured:
            return op.answer_forward(self, operands, params)  # type: ignore[attr-defined]
        values, tangents = self.open(operands)
        y = evaluate(op, values, params)
        active = [i for i, t in enumerate(tangents) if t is not None and op.differentiable(i)]
        if not active or paused_below() > self.level:
            return constants(y)
        if op.jvps == "self":
            moved = [
                t if t is not None else _zeros(v) if op.differentiable(i) else v
                for i, (v, t) in enumerate(zip(values, tangents, strict=True))
            ]
            tangent = evaluate(op, moved, params)
        else:
            terms = []
            for i in active:
                rule = op.jvps[op.slot(i)]
                assert isinstance(rule, Prepared)
                terms.append(rule.push(tangents[i], y, values, params, i))
            if type(y) is tuple:
                tangent = tuple(reduce(operator.add, parts) for parts in zip(*terms, strict=True))
            else:
                tangent = reduce(operator.add, terms)
        if type(y) is tuple:
            return tuple(self._cell(v, t) for v, t in zip(y, tangent, strict=True))
        return self._cell(y, tangent)

    def update(self, op: Write, target: Array, operands: Sequence[Any], params: dict[str, Any]) -> Array:
        values, tangents = self.open(operands)
        if paused_below() > self.level:
            tangents[0] = None
        mine = target._handler is self
        box = [target._value if mine or target._handler is HOST else target.snapshot()]
        tangent_box = [target._mark if mine else None]
        target._value = target._mark = None
        try:
            y = update(op, box, values, params)
        except BaseException:
            kept = box.pop()
            if mine or target._handler is HOST:
                target._value, target._mark = kept, tangent_box.pop()
            else:
                target._value, target._mark = kept._value, kept._mark
            raise
        if (tangent_box[0] is None and tangents[0] is None) or not is_differentiable(y):
            return constant(y)
        if tangent_box[0] is None:
            tangent_box[0] = _zeros(y)
        written = _zeros(values[0]) if tangents[0] is None else tangents[0]
        return Array(self, y, update(op, tangent_box, (written, *values[1:]), params))

    def _cell(self, value: Any, tangent: Any) -> Array:
        if tangent is None or not is_differentiable(value):
            return constant(value)
        return Array(self, value, _fit(tangent, spec_of(value)))


def _zeros(value: Any) -> Any:
    return zeros(spec_of(value))


def _fit(tangent: Any, spec: Spec) -> Any:
    """Bring a tangent to its primal's shape and dtype."""
    shape = tangent.shape if hasattr(tangent, "shape") else np.shape(tangent)
    if shape != spec.shape:
        tangent = np.broadcast_to(tangent, spec.shape)
    dtype = dtype_of(tangent)
    if dtype != spec.dtype:
        if dtype.kind == "c" and spec.dtype.kind != "c":
            tangent = np.real(tangent)
        tangent = tangent.astype(spec.dtype) if hasattr(tangent, "astype") else spec.dtype.type(tangent)
    return tangent


class _Jvp(Transformed):
    transformation = "jvp"
    allow_int = True


@for_users
def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """The value of a function and its directional derivative (Jacobian-vector product).

    Args:
        f: any function of NumPy arrays, numbers and trees of them.
        primals: its arguments, as a tuple or list.
        tangents: one tree for each primal, of the same structure, shapes and dtypes; for integers and booleans zeros,
            also of dtype float0.
        has_aux: whether `f` returns ``(value, aux)``.

    Returns:
        ``(value, tangent)``, the tangent a tree like the value; with `has_aux` ``(value, tangent, aux)``.

    Raises:
        NonDifferentiableError: a leaf of a primal is not a number or an array of numbers.
        TangentError: a tangent does not fit its primal.

    >>> import numpy as np, bindrune as br
    >>> br.jvp(lambda x: x * x, (np.array([1.0, 2.0]),), (np.array([1.0, 10.0]),))
    (array([1., 4.]), array([ 2., 40.]))
    """
    transformed = _Jvp(f)
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TangentError(
                f"{transformed}: {name} must be a tuple or list with one entry an argument, not {given!r}"
            )
    if len(primals) != len(tangents):
        raise TangentError(f"{transformed}: {len(primals)} primals, but {len(tangents)} tangents")
    value, tangent, aux = push_forward(transformed, dict(enumerate(tangents)), primals, {}, has_aux)
    return (value, tangent, aux) if has_aux else (value, tangent)


def push_forward(
    transformed: Transformed,
    tangents: dict[int | str, Any],
    arguments: Sequence[Any],
    keywords: dict[str, Any],
    has_aux: bool = False,
) -> tuple[Any, Any, Any]:
    """One forward pass: the value, its tangent and the auxiliary result, from tangents of some arguments."""
    handler = Forward(transformed)
    call = Call(transformed, handler)

    def given(key: int | str, value: Any) -> Any:
        if key not in tangents:
            return call.constant(value)
        leaves, structure = differentiable_leaves(transformed, key, value)
        what = f"tangent of {argument_name(transformed.function, key)}"
        moved = matching_leaves(value, tangents[key], TangentError, transformed, what, "argument")
        cells = [
            call.follow(x, Array(handler, as_leaf(x), t.copy() if isinstance(t, np.ndarray) else t))
            if is_differentiable(x)
            else call.constant(x)
            for x, t in zip(leaves, moved, strict=True)
        ]
        return call.tree(structure, cells)

    result = call.run([given(i, a) for i, a in enumerate(arguments)], {k: given(k, v) for k, v in keywords.items()})
    aux = None
    if has_aux:
        result, aux = split_aux(transformed, result)
        aux = trees.map_leaves(lambda v: take_out(handler, v), aux)
    outputs, structure = trees.flatten(result)
    values = [take_out(handler, v) for v in outputs]
    moved = separate([_tangent_of(handler, v, value) for v, value in zip(outputs, values, strict=True)])
    handler.end()
    return trees.unflatten(structure, values), trees.unflatten(structure, moved), aux


def _tangent_of(handler: Forward, out: Any, value: Any) -> Any:
    cell = out.read() if isinstance(out, Array) else out
    if isinstance(cell, Array) and cell._handler is handler:
        mark = cell._mark
        return mark.snapshot() if isinstance(mark, Array) else mark
    return zero_tangent(value)


def zero_tangent(value: Any) -> Any:
    """The tangent of a result that does not depend on what is followed; one that is no number is its own."""
    if not isinstance(value, (Array, np.ndarray, np.generic, int, float, complex)):
        return value
    zeros = _zeros(value)
    return zeros if isinstance(value, np.ndarray) else zeros[()]
