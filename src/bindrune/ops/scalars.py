"""Operations on Python numbers: `float`, `item`, and the functions of `math`.

They differ from NumPy's in what they return (a Python float, which takes part in promotion weakly) and in raising
where NumPy warns; their derivatives are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.handler import evaluate
from ..core.operation import elementwise, linear, registry, row
from . import elementwise as _defined  # noqa: F401  (the operations whose partials are used here)

__all__: list[str] = []


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
