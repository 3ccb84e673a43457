"""Operations on Python numbers: `float`, `item`, and the functions of `math`.

They differ from NumPy's in what they return (a Python float, which takes part in promotion weakly) and in raising
where NumPy warns; their derivatives are the same.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.handler import evaluate
from ..core.operation import Op, elementwise, linear, operation, registry, row
from ..graph.graph import ARRAY, NUMBER, PYTHON
from . import elementwise as _defined  # noqa: F401  (the operations whose partials are used here)

__all__ = ["as_python", "of_python", "rounded"]


def _cast_lanes(op: Any, size: int, values: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    return evaluate(registry["astype"], values, {"dtype": np.result_type(values[0].dtype, float)})


def _scalar_lanes(op: Any, size: int, values: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    return values[0]


to_float = linear(
    "float", float, lambda ct: ct, batch=_cast_lanes, rows=lambda: [row(np.float32(0.3)), row(np.float64(-1.2))]
)
item = linear(
    "item",
    lambda x: x.item() if isinstance(x, (np.ndarray, np.generic)) else x,
    lambda ct: ct,
    batch=_scalar_lanes,
    rows=lambda: [row(np.float64(0.3)), row(np.array(1.5))],
)


def _convert(x: Any, *, dtype: np.dtype[Any], form: str) -> Any:
    if form == PYTHON:
        return {"b": bool, "i": int, "f": float, "c": complex}[dtype.kind](x)
    made = np.asarray(x).astype(dtype, copy=False)
    return made[()] if form == NUMBER else made


convert = linear(
    "convert",
    _convert,
    lambda ct: ct,
    batch=lambda op, size, values, batched, params: values[0].astype(params["dtype"]),
    rows=lambda: [
        row(np.float64(0.3), dtype=np.dtype("f8"), form=ARRAY),
        row(np.array(0.3), dtype=np.dtype("f8"), form=NUMBER),
    ],
)
"""A value as one of another dtype and form, as a variable of a loop has them from the second step on."""


def as_python(x: Any, kind: type) -> Any:
    """A value as a number of Python's own; under `vmap` an array of the lanes'."""
    return convert(x, dtype=np.dtype(kind), form=PYTHON)


def _scalar(name: str, function: Callable[..., Any], numpy_name: str, *sample: float) -> None:
    """The function of `math` with the partial derivatives of NumPy's of the same meaning."""
    op: Any = registry[numpy_name]
    elementwise(
        f"math.{name}",
        function,
        *op.partials,
        lanes=op,
        rows=lambda: [row(*sample), row(*(np.float64(s) for s in sample))],
    )


for _name in "sin cos tan sinh cosh tanh exp exp2 expm1 log log2 log10 log1p sqrt cbrt".split():
    _scalar(_name, getattr(math, _name), _name, 0.4)
for _name in "sin cos tan sinh tanh".split():
    _scalar(f"a{_name}", getattr(math, f"a{_name}"), f"arc{_name}", 0.4)
_scalar("acosh", math.acosh, "arccosh", 1.7)
_scalar("radians", math.radians, "radians", 40.0)
_scalar("degrees", math.degrees, "degrees", 0.4)
_scalar("atan2", math.atan2, "arctan2", 0.4, -0.7)
_scalar("hypot", math.hypot, "hypot", 0.4, -0.7)
_scalar("fmod", math.fmod, "fmod", 3.4, 1.3)
_scalar("copysign", math.copysign, "copysign", 0.4, -1.0)

_OF_PYTHON: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "power": operator.pow,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "maximum": max,
    "minimum": min,
    "negative": operator.neg,
    "positive": operator.pos,
    "absolute": abs,
    "logical_not": operator.not_,
}
"""What Python computes with its own numbers where NumPy has a ufunc of the same meaning."""


def _python(numpy_name: str, function: Callable[..., Any]) -> Any:
    op: Any = registry[numpy_name]
    samples = [(0.4,), (-1.5,)] if len(op.partials) == 1 else [(0.7, 1.3), (2.5, -0.4)]
    if numpy_name == "power":
        samples = [(0.7, 1.3), (2.5, -0.4)]
    return elementwise(
        f"python.{numpy_name}", function, *op.partials, lanes=op, rows=lambda: [row(*sample) for sample in samples]
    )


of_python: dict[Any, Any] = {registry[name]: _python(name, function) for name, function in _OF_PYTHON.items()}
"""From an operation of NumPy's to the one that Python performs on its own numbers."""


def _round_lanes(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    digits = params["digits"]
    return np.round(values[0]).astype(int) if digits is None else np.round(values[0], digits)


rounded = operation(
    "python.round",
    lambda x, digits: round(x, digits),
    jvp=None,
    vjp=None,
    batch=_round_lanes,
    rows=lambda: [row(2.5, digits=None), row(-1.26, digits=1), row(np.float64(3.7), digits=None)],
)
"""What Python rounds its own numbers to: the nearest decimal, where NumPy scales, and an integer without digits."""
