"""NumPy's ufuncs on stand-ins: calls with `out=`, `where=`, `dtype=`, and the methods reduce, accumulate, outer, at.

A ufunc is an elementwise operation (or `matmul` and its kin); this file gives it the rest of a ufunc's interface by
composing operations.  In a lifted function `np.sin` is a `LiftedUfunc`, which goes to the operation directly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.array import Array, concrete, is_scalar
from ..core.errors import MutationError, UnsupportedError, user_line
from ..core.handler import constant
from ..core.operation import registry
from ..core.protocol import FUNCTIONS, UFUNCS, hooks
from ..ops import indexing
from .methods import store

__all__ = ["LiftedUfunc", "call_ufunc", "lifted_ufunc", "write_out"]

_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.sum,
    "multiply": np.prod,
    "maximum": np.max,
    "minimum": np.min,
    "logical_and": np.all,
    "logical_or": np.any,
}
_ACCUMULATIONS: dict[str, Callable[..., Any]] = {"add": np.cumsum, "multiply": np.cumprod}


def operand(x: Any) -> Any:
    """A ufunc's operand: lists with stand-ins in them become one."""
    return hooks.asarray(x) if isinstance(x, (list, tuple)) else x


def call_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """`__array_ufunc__`: any use of a ufunc with a stand-in among its arguments."""
    op = UFUNCS.get(ufunc) or _special(ufunc)
    if method == "__call__":
        inputs, keywords = inputs[: ufunc.nin], _with_positional_out(ufunc, inputs, keywords)
        return _call(op, ufunc, inputs, **keywords) if keywords else op(*map(operand, inputs))
    handler = _METHODS.get(method)
    if handler is None:
        raise UnsupportedError(f"{user_line()}: np.{ufunc.__name__}.{method} has no rule for traced values")
    return handler(ufunc, op, *inputs, **keywords)


def _special(ufunc: np.ufunc) -> Any:
    """The operation of a ufunc outside NumPy, whose table is loaded when the first one is met."""
    from ..scipy import special

    special.load()
    op = UFUNCS.get(ufunc)
    if op is None:
        raise UnsupportedError(f"{user_line()}: the ufunc {ufunc.__name__!r} has no derivative rule")
    return op


def _with_positional_out(ufunc: np.ufunc, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    return {**keywords, "out": inputs[ufunc.nin :]} if len(inputs) > ufunc.nin else keywords


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
    inputs = tuple(map(operand, inputs))
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
        return FUNCTIONS[np.where](where, result, FUNCTIONS[np.empty_like](result))  # type: ignore[no-any-return]
    if not isinstance(out, Array):
        raise MutationError(
            f"{user_line()}: out= of np.{name} is an array that lifting did not reach, so a traced result cannot be "
            "written into it. Create it inside the function, or pass it as an argument."
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
    ufunc: np.ufunc, op: Any, x: Any, axis: Any = 0, dtype: Any = None, out: Any = None, **keywords: Any
) -> Any:
    known = _REDUCTIONS.get(op.name)
    if known is not None:
        if known in (np.sum, np.prod):
            keywords["dtype"] = dtype
        return FUNCTIONS[known](x, axis=axis, out=out[0] if isinstance(out, tuple) else out, **keywords)
    return _fold(ufunc, op, x, axis, **keywords)[-1]


def _accumulate(ufunc: np.ufunc, op: Any, x: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    out = out[0] if isinstance(out, tuple) else out
    known = _ACCUMULATIONS.get(op.name)
    if known is not None:
        return FUNCTIONS[known](x, axis=axis, dtype=dtype, out=out)
    return write_out(FUNCTIONS[np.stack](_fold(ufunc, op, x, axis), axis), out)


def _fold(ufunc: np.ufunc, op: Any, x: Any, axis: int, **keywords: Any) -> list[Any]:
    """The running results of a binary operation along an axis, one operation an element."""
    if keywords.pop("keepdims", False) or keywords:
        raise UnsupportedError(f"{user_line()}: np.{ufunc.__name__}.reduce with {sorted(keywords) or 'keepdims'}")
    x = FUNCTIONS[np.moveaxis](x, axis, 0)
    found = [x[0]]
    for i in range(1, x.shape[0]):
        found.append(op(found[-1], x[i]))
    return found


def _at(ufunc: np.ufunc, op: Any, x: Any, index: Any, *others: Any) -> None:
    """Unbuffered ``x[index] = op(x[index], other)``: repeated positions are met one after the other."""
    if not isinstance(x, Array):
        raise MutationError(
            f"{user_line()}: np.{ufunc.__name__}.at writes traced values into an array that lifting did not reach"
        )
    template, arrays = indexing.split_index(index)
    if op.name in ("add", "subtract"):
        v = operand(others[0])
        indexing.put(x, template, arrays, v if op.name == "add" else -v, indexing.add_at)
        return
    values = [constant(operand(v)) for v in others]
    if not arrays:
        x[index] = op(x[index], *values)  # type: ignore[index]
        return
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    spread = [FUNCTIONS[np.broadcast_to](v, x[index].shape) for v in values]  # type: ignore[index]
    for chosen in _rounds([np.broadcast_to(concrete(a), shape) for a in arrays]):
        place = indexing.fill(template, [np.broadcast_to(concrete(a), shape)[chosen] for a in arrays])
        x[place] = op(x[place], *(v[chosen] for v in spread))  # type: ignore[index]


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
    "at": _at,
}


class LiftedUfunc:
    """A ufunc as a lifted function sees it."""

    def __init__(self, ufunc: np.ufunc, op: Any) -> None:
        self.ufunc = ufunc
        self.op = op
        self.nin, self.nout, self.identity = ufunc.nin, ufunc.nout, ufunc.identity
        self.__name__ = ufunc.__name__
        self.__doc__ = ufunc.__doc__

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        if keywords or len(inputs) > self.nin:
            return call_ufunc(self.ufunc, "__call__", inputs, keywords)
        return self.op(*inputs)

    def outer(self, a: Any, b: Any, **keywords: Any) -> Any:
        """As `numpy.ufunc.outer`."""
        return _outer(self.ufunc, self.op, a, b, **keywords)

    def reduce(self, x: Any, axis: Any = 0, **keywords: Any) -> Any:
        """As `numpy.ufunc.reduce`."""
        return _reduce(self.ufunc, self.op, constant(operand(x)), axis, **keywords)

    def accumulate(self, x: Any, axis: int = 0, **keywords: Any) -> Any:
        """As `numpy.ufunc.accumulate`."""
        return _accumulate(self.ufunc, self.op, constant(operand(x)), axis, **keywords)

    def at(self, x: Any, index: Any, *others: Any) -> None:
        """As `numpy.ufunc.at`."""
        if isinstance(x, Array):
            _at(self.ufunc, self.op, x, index, *others)
        else:
            self.ufunc.at(x, index, *others)


def lifted_ufunc(ufunc: np.ufunc) -> Any:
    """The ufunc for a lifted namespace."""
    return LiftedUfunc(ufunc, UFUNCS[ufunc])


def install() -> None:
    """Fill the table of ufuncs: each performs the operation of its own name."""
    for name in dir(np):
        ufunc = getattr(np, name)
        if isinstance(ufunc, np.ufunc) and ufunc.__name__ in registry:
            UFUNCS[ufunc] = registry[ufunc.__name__]
    hooks.ufunc = call_ufunc
