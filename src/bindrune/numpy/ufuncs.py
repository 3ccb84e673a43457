"""NumPy's ufuncs on stand-ins: calls with `out=`, `where=`, `dtype=`, and the methods of ufuncs.

A ufunc is an elementwise operation (or `matmul` and its kin); this file gives it the rest of a ufunc's interface by
composing operations.  In a lifted function `np.sin` goes to the operation directly.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..core.array import Array, concrete, dtype_of, is_scalar, peek
from ..core.errors import MutationError, UnsupportedError, user_line
from ..core.handler import constant
from ..core.operation import Binary, Unary, perform_binary, perform_unary, registry
from ..core.protocol import FUNCTIONS, UFUNCS, hooks
from ..ops import indexing, views
from ..ops.scalars import of_python
from .methods import store

__all__ = ["ACCUMULATIONS", "REDUCTIONS", "call_ufunc", "lifted_ufunc", "write_out"]

REDUCTIONS: dict[str, Callable[..., Any]] = {}
"""From an elementwise operation to what reduces by it, with the arguments of `numpy.ufunc.reduce`."""
ACCUMULATIONS: dict[str, Callable[..., Any]] = {}
"""From an elementwise operation to its running results, with the arguments of `numpy.ufunc.accumulate`."""


def operand(x: Any) -> Any:
    """A ufunc's operand: lists with stand-ins in them become one."""
    return hooks.asarray(x) if isinstance(x, (list, tuple)) else x


_STRONG = frozenset({np.ndarray, np.float64})
_PYTHONS = frozenset({float, int, bool, complex})


@functools.cache
def _is_pythonic(op: Any) -> bool:
    """Whether an operation is performed by one of Python's operators, at least on numbers of a staged program."""
    return op in of_python or (isinstance(op, (Unary, Binary)) and not isinstance(op.implementation, np.ufunc))


def _is_weak(x: Any) -> bool:
    """Whether plain code would hold one of Python's own numbers here."""
    value = x._value if type(x) is Array else x
    kind = type(value)
    if kind in _STRONG:
        return False
    if kind in _PYTHONS or not isinstance(x, Array):
        return kind in _PYTHONS
    return (isinstance(value, Array) or x._handler.symbolic) and not x.shape and type(peek(x)) in _PYTHONS


def _strengthen(x: Any) -> Any:
    """One of Python's numbers as NumPy's: operators then obey NumPy's rules, as its functions do."""
    return registry["astype"](x, dtype=dtype_of(x)) if isinstance(x, Array) else np.asarray(x)[()]


def _operands(op: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The operands of a ufunc, by NumPy's rules for numbers."""
    for x in inputs:
        if isinstance(x, (list, tuple)):
            inputs = tuple(map(operand, inputs))
            break
    if _is_pythonic(op) and all(map(_is_weak, inputs)):
        return _strengthen(inputs[0]), *inputs[1:]
    return inputs


def call_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """`__array_ufunc__`: any use of a ufunc with a stand-in among its arguments."""
    op = UFUNCS.get(ufunc) or _special(ufunc)
    if method == "__call__":
        if len(inputs) > ufunc.nin:
            inputs, keywords = inputs[: ufunc.nin], {**keywords, "out": inputs[ufunc.nin :]}
        return _call(op, ufunc, inputs, **keywords) if keywords else op(*_operands(op, inputs))
    handler = _METHODS.get(method)
    if handler is None or ufunc.signature is not None:
        raise UnsupportedError(f"{user_line()}: np.{ufunc.__name__}.{method} has no rule for traced values")
    return handler(ufunc, op, *inputs, **keywords)


def _special(ufunc: np.ufunc) -> Any:
    """The operation of a ufunc outside NumPy, whose table is loaded when the first one is met."""
    hooks.special()
    op = UFUNCS.get(ufunc)
    if op is None:
        raise UnsupportedError(f"{user_line()}: the ufunc {ufunc.__name__!r} has no derivative rule")
    return op


def _call(
    op: Any,
    ufunc: np.ufunc,
    inputs: tuple[Any, ...],
    out: Any = None,
    where: Any = True,
    dtype: Any = None,
    casting: str = "same_kind",
    order: str = "K",
    subok: bool = True,
    signature: Any = None,
    **others: Any,
) -> Any:
    inputs = _operands(op, inputs)
    if dtype is not None:
        inputs = tuple(FUNCTIONS[np.astype](constant(x), dtype) for x in inputs)
    result = op(*inputs, **others)
    outs = out if isinstance(out, tuple) else (out,)
    if type(result) is tuple:
        outs = outs if len(outs) == len(result) else (None,) * len(result)
        return tuple(write_out(r, o, where, ufunc.__name__) for r, o in zip(result, outs, strict=True))
    return write_out(result, outs[0], where, ufunc.__name__)


def write_out(result: Array, out: Any, where: Any = True, name: str = "out") -> Array:
    """Deliver a result to the array given as `out=`, under the mask given as `where=`."""
    if out is None:
        if where is True:
            return result
        # NumPy leaves the other elements unset.
        partial: Array = FUNCTIONS[np.where](where, result, FUNCTIONS[np.empty_like](result))
        return partial
    if out is Ellipsis:
        # An array even where NumPy would make a number of it.
        return FUNCTIONS[np.reshape](result, ()) if is_scalar(result) else result
    if not isinstance(out, Array):
        raise MutationError(
            f"{user_line()}: out= of np.{name} is an array that lifting did not reach (the result of a library that "
            "works on plain arrays), so a traced result cannot be written into it. Make it yours first: np.array(it)."
        )
    if where is not True:
        result = FUNCTIONS[np.where](where, result, out)
    elif result.shape != out.shape:
        result = FUNCTIONS[np.broadcast_to](result, out.shape).snapshot()
    if is_scalar(out):
        raise TypeError("return arrays must be of ArrayType")
    return store(out, result, name)


def _outer(ufunc: np.ufunc, op: Any, a: Any, b: Any, **keywords: Any) -> Any:
    a, b = constant(operand(a)), constant(operand(b))
    a = FUNCTIONS[np.reshape](a, a.shape + (1,) * b.ndim)
    return _call(op, ufunc, (a, b), **keywords)


def _reduce(
    ufunc: np.ufunc, op: Any, x: Any, axis: Any = 0, dtype: Any = None, out: Any = None, *others: Any, **keywords: Any
) -> Any:
    out = out[0] if isinstance(out, tuple) else out
    known = REDUCTIONS.get(op.name)
    if known is not None:
        return known(x, axis, dtype, out, *others, **keywords)
    return write_out(_fold_all(ufunc, op, x, axis, dtype, *others, **keywords), out, name=ufunc.__name__)


def _accumulate(ufunc: np.ufunc, op: Any, x: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    out = out[0] if isinstance(out, tuple) else out
    known = ACCUMULATIONS.get(op.name)
    if known is not None:
        return known(x, axis, dtype, out)
    x = x if dtype is None else FUNCTIONS[np.astype](x, dtype)
    return write_out(FUNCTIONS[np.stack](_fold(op, FUNCTIONS[np.moveaxis](x, axis, 0)), axis), out)


def _reduceat(ufunc: np.ufunc, op: Any, x: Any, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    """The reduction of each slice from one index to the next; the element itself where they do not increase."""
    x = FUNCTIONS[np.moveaxis](x, axis, 0)
    starts = concrete(indices) if isinstance(indices, Array) else indices
    stops = (*starts[1:], x.shape[0])
    found = [_reduce(ufunc, op, x[a:b], 0, dtype) if a < b else x[a] for a, b in zip(starts, stops, strict=True)]
    return write_out(FUNCTIONS[np.stack](found, axis), out[0] if isinstance(out, tuple) else out)


def _fold(op: Any, values: Any) -> list[Any]:
    """The running results of a binary operation on some values, one operation a value."""
    return list(itertools.accumulate(values, op))


def _fold_all(
    ufunc: np.ufunc,
    op: Any,
    x: Any,
    axis: Any,
    dtype: Any,
    keepdims: bool = False,
    initial: Any = np._NoValue,
    where: Any = True,
) -> Any:
    """The reduction by a binary operation, one operation an element."""
    if where is not True:
        raise UnsupportedError(f"{user_line()}: np.{ufunc.__name__}.reduce with where= has no rule for traced values")
    x = x if dtype is None else FUNCTIONS[np.astype](x, dtype)
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    rest = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    count = math.prod(x.shape[i] for i in axes)
    values = FUNCTIONS[np.reshape](FUNCTIONS[np.moveaxis](x, axes, range(len(axes))), (count, *rest))
    start = ufunc.identity if initial is np._NoValue and not count else initial
    if start is not np._NoValue and start is not None:
        start = FUNCTIONS[np.broadcast_to](start, (1, *rest))
        values = FUNCTIONS[np.concatenate]([start, values], dtype=x.dtype, casting="unsafe")
    elif not count:
        raise ValueError(f"zero-size array to reduction operation {ufunc.__name__} which has no identity")
    result = _fold(op, values)[-1]
    return FUNCTIONS[np.reshape](result, kept) if keepdims else result


def _at(ufunc: np.ufunc, op: Any, x: Any, index: Any, *others: Any) -> None:
    """Unbuffered ``x[index] = op(x[index], other)``: repeated positions are met one after the other."""
    if not isinstance(x, Array):
        raise MutationError(
            f"{user_line()}: np.{ufunc.__name__}.at writes traced values into an array that lifting did not reach"
        )
    if is_scalar(x):
        raise TypeError("first operand must be array")
    template, arrays = views.split_index(index, x.shape)
    if op.name in ("add", "subtract"):
        v = operand(others[0])
        views.put(x, template, arrays, v if op.name == "add" else -v, indexing.add_at)
        return
    values = [constant(operand(v)) for v in others]
    if not arrays:
        x[index] = op(x[index], *values)
        return
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    spread = [FUNCTIONS[np.broadcast_to](v, x[index].shape) for v in values]
    for chosen in _rounds([np.broadcast_to(concrete(a), shape) for a in arrays]):
        place = indexing.fill(template, [np.broadcast_to(concrete(a), shape)[chosen] for a in arrays])
        x[place] = op(x[place], *(v[chosen] for v in spread))


def _rounds(arrays: list[Any]) -> list[Any]:
    """Split positions into rounds in none of which one repeats: the first time each is met, the second, ..."""
    flat = np.stack([a.ravel() for a in arrays])
    _, inverse = np.unique(flat, axis=1, return_inverse=True)
    inverse = inverse.ravel()
    order = np.argsort(inverse, kind="stable")
    starts = np.searchsorted(inverse[order], np.arange(inverse.max() + 1 if inverse.size else 0))
    turn = np.empty(inverse.size, int)
    turn[order] = np.arange(inverse.size) - starts[inverse[order]]
    shape = arrays[0].shape
    return [np.unravel_index(np.flatnonzero(turn == r), shape) for r in range(turn.max() + 1 if turn.size else 0)]


_METHODS: dict[str, Callable[..., Any]] = {
    "outer": _outer,
    "reduce": _reduce,
    "accumulate": _accumulate,
    "reduceat": _reduceat,
    "at": _at,
}


def lifted_ufunc(ufunc: np.ufunc) -> Any:
    """A ufunc as a lifted function sees it: a function with the ufunc's methods and attributes."""
    op = UFUNCS[ufunc]
    pythonic = _is_pythonic(op)
    lifted: Any

    if isinstance(op, Unary):

        def lifted(x: Any, /, *out: Any, **keywords: Any) -> Any:
            if out or keywords:
                return call_ufunc(ufunc, "__call__", (x, *out), keywords)
            if pythonic and _is_weak(x):
                x = _strengthen(x)
            return x._handler.unary(op, x) if type(x) is Array else perform_unary(op, x)

    elif isinstance(op, Binary):

        def lifted(a: Any, b: Any, /, *out: Any, **keywords: Any) -> Any:
            if out or keywords:
                return call_ufunc(ufunc, "__call__", (a, b, *out), keywords)
            if pythonic and _is_weak(a) and _is_weak(b):
                a = _strengthen(a)
            return perform_binary(op, a, b)

    else:

        def lifted(*inputs: Any, **keywords: Any) -> Any:
            return call_ufunc(ufunc, "__call__", inputs, keywords)

    for name, method in _METHODS.items():
        setattr(lifted, name, _lifted_method(ufunc, op, name, method))
    for name in ("nin", "nout", "nargs", "identity", "types", "signature", "__doc__", "__name__"):
        setattr(lifted, name, getattr(ufunc, name))
    lifted.__qualname__ = ufunc.__name__
    return lifted


def _lifted_method(ufunc: np.ufunc, op: Any, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    plain = getattr(ufunc, name)

    def call(x: Any, *others: Any, **keywords: Any) -> Any:
        if name == "at" and not isinstance(x, Array):
            return plain(x, *others, **keywords)
        return method(ufunc, op, constant(operand(x)), *others, **keywords)

    return call


def _divmod(a: Any, b: Any) -> tuple[Any, Any]:
    return registry["floor_divide"](a, b), registry["remainder"](a, b)


def install() -> None:
    """Fill the table of ufuncs: each performs the operation of its own name."""
    UFUNCS[np.divmod] = _divmod
    for ufunc in vars(np).values():
        if isinstance(ufunc, np.ufunc) and ufunc.__name__ in registry:
            UFUNCS.setdefault(ufunc, registry[ufunc.__name__])
    hooks.ufunc = call_ufunc
