"""Which element operation a node means: the types it computes in, by NumPy's rules of promotion or by Python's.

NumPy itself is asked, ufunc by ufunc, with its own notion of weak Python numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...graph.graph import PYTHON, Value
from . import complexes  # noqa: F401  (it enters what it writes)
from .formats import numeric
from .instructions import available, enter_function
from .loops import INTEGER, Affine, Apply, Const, Expression, Variable, affine
from .numpy_functions import special_function

__all__ = ["Meaning", "apply", "convert", "meaning"]

BOOL, DOUBLE, SINGLE = np.dtype(bool), np.dtype(float), np.dtype(np.float32)


class Meaning(NamedTuple):
    """An element operation: its name, the types its operands are converted to, and the type of its result."""

    name: str
    sources: tuple[np.dtype[Any], ...]
    target: np.dtype[Any]
    careful: str = ""
    """For Python's numbers what must hold, or else Python may raise: "divisor", "finite" or "exponent"."""


_PYTHON_TYPES: dict[str, Any] = {"b": bool, "i": int, "f": float, "c": complex}

_OF_MATH = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
    "atan2": "arctan2",
}  # fmt: skip

_OF_SPECIAL = {f"special.{name}" for name in ("erf", "erfc", "expm1", "log1p", "exp2", "cbrt", "expit", "log_expit")}
"""SciPy's functions that have instructions, or a function of C's library."""

_COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}

_OF_PYTHON = {
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "power", "maximum", "minimum", "negative",
    "positive", "absolute", "logical_not", *_COMPARISONS,
}  # fmt: skip


def meaning(name: str, operands: Sequence[Value], result: Value) -> Meaning | None:
    """What an elementwise operation of the registry does to elements; None where there are no instructions for it."""
    types = tuple((v.dtype, v.form == PYTHON) for v in operands)
    return _meaning(name, types, result.dtype, result.form == PYTHON)


@functools.cache
def _meaning(
    name: str, operands: tuple[tuple[np.dtype[Any], bool], ...], result: np.dtype[Any], python: bool
) -> Meaning | None:
    dtypes = tuple(d for d, _ in operands)
    if any(not numeric(d) for d in (*dtypes, result)):
        return None
    if name.startswith("math."):
        name = name.removeprefix("math.")
        found: Meaning | None = Meaning(_OF_MATH.get(name, name), (DOUBLE,) * len(dtypes), DOUBLE, "finite")
    elif python and (name.startswith("python.") or name in _OF_PYTHON):
        found = _of_python(name.removeprefix("python."), dtypes, result)
    else:
        found = _of_numpy(name, operands)
    if found is None or found.target != result or not available(found.name, found.sources):
        return None
    return found


def _of_python(name: str, dtypes: Sequence[np.dtype[Any]], result: np.dtype[Any]) -> Meaning | None:
    """What Python does with its own numbers."""
    if any(d.kind == "c" for d in dtypes):
        return _of_complex_python(name, len(dtypes))
    widest = DOUBLE if DOUBLE in dtypes else INTEGER
    sources = (widest,) * len(dtypes)
    if name in _COMPARISONS:
        return Meaning(name, sources, BOOL)
    if name == "logical_not":
        return Meaning(name, tuple(dtypes), BOOL)
    if name in ("maximum", "minimum"):
        return Meaning(f"python.{name}", tuple(dtypes), result) if dtypes[0] == dtypes[1] == result else None
    if name == "divide":
        return Meaning(name, (DOUBLE, DOUBLE), DOUBLE, "divisor")
    if name in ("floor_divide", "remainder"):
        return Meaning(name, sources, widest, "divisor")
    if name == "power":
        if widest == DOUBLE:
            return Meaning(name, sources, DOUBLE, "finite")
        return Meaning(name, sources, INTEGER, "exponent") if result == INTEGER else None
    return Meaning(name, sources, widest)


def _of_complex_python(name: str, count: int) -> Meaning | None:
    """What Python does with its complex numbers, as far as it cannot overflow in its own way."""
    sources = (np.dtype(complex),) * count
    if name in ("equal", "not_equal", "logical_not"):
        return Meaning(name, sources, BOOL)
    if name in ("add", "subtract", "multiply", "negative", "positive", "divide"):
        return Meaning(name, sources, sources[0], "divisor" if name == "divide" else "")
    return None


def _of_numpy(name: str, operands: Sequence[tuple[np.dtype[Any], bool]]) -> Meaning | None:
    """What NumPy's ufunc does."""
    if name == "stop_gradient":
        return Meaning("positive", (operands[0][0],), operands[0][0])
    if name in _OF_SPECIAL:
        dtype = operands[0][0]
        return Meaning(name.removeprefix("special."), (dtype,), dtype) if dtype.kind == "f" else None
    ufunc = getattr(_special() if name.startswith(_SPECIAL) else np, name.removeprefix(_SPECIAL), None)
    if not isinstance(ufunc, np.ufunc):
        return None
    types = [_PYTHON_TYPES[d.kind] if weak else d for d, weak in operands]
    types = [d if d in (int, float, complex) or isinstance(d, np.dtype) else np.dtype(d) for d in types]
    try:
        *sources, target = ufunc.resolve_dtypes((*types, None))
    except TypeError:
        return None
    if target == BOOL and name == "subtract":
        return None
    if name.startswith(_SPECIAL):
        symbol = special_function(name.removeprefix(_SPECIAL), ufunc.nin)
        if symbol is None or target not in (DOUBLE, SINGLE) or any(d != target for d in sources):
            return None
        enter_function(name, symbol)
    return Meaning(name, tuple(sources), target)


_SPECIAL = "special."


def _special() -> Any:
    from scipy import special

    return special


# ------------------------------------------------------------------------------------------------ expressions


def convert(x: Expression, dtype: np.dtype[Any]) -> Expression:
    """An expression as one of another type."""
    if x.dtype == dtype:
        return x
    if isinstance(x, Affine) and x.known is not None:
        x = Const(x.known, INTEGER)
    if isinstance(x, Const):
        return Const(np.asarray(x.value).astype(dtype)[()], dtype)
    return Apply("convert", (x,), dtype)


def apply(means: Meaning, operands: Sequence[Expression]) -> Expression:
    """An element operation on elements."""
    if means.target == INTEGER and means.name in ("add", "subtract", "multiply") and means.sources[0] == INTEGER:
        found = _integer(means.name, operands)
        if found is not None:
            return found
    arguments = tuple(convert(x, d) for x, d in zip(operands, means.sources, strict=True))
    if means.name in ("power", "float_power") and isinstance(arguments[1], Const):
        shorter = _small_power(arguments[0], arguments[1].value, means.target)
        if shorter is not None:
            return shorter
    return Apply(means.name, arguments, means.target)


def _integer(name: str, operands: Sequence[Expression]) -> Affine | None:
    """An affine expression of integers, where it is one."""
    parts = [
        affine(x) if isinstance(x, (Affine, Const)) or (isinstance(x, Variable) and x.dtype == INTEGER) else None
        for x in operands
    ]
    a, b = parts
    if a is None or b is None:
        return None
    if name == "add":
        return a + b
    if name == "subtract":
        return a - b
    if a.known is not None:
        return b * a.known
    return a * b.known if b.known is not None else None


def _small_power(base: Expression, exponent: Any, dtype: np.dtype[Any]) -> Expression | None:
    """A power by multiplications, for the exponents that NumPy treats so."""
    if exponent == 1:
        return base
    if exponent == 2:
        return Apply("square", (base,), dtype)
    if exponent == 3:
        return Apply("multiply", (Apply("square", (base,), dtype), base), dtype)
    if exponent == 4 and dtype.kind == "c":
        return Apply("square", (Apply("square", (base,), dtype),), dtype)
    if exponent == 0:
        return Const(dtype.type(1), dtype)
    if dtype.kind in "fc" and exponent == 0.5:
        return Apply("sqrt", (base,), dtype)
    if dtype.kind in "fc" and exponent == -1:
        return Apply("reciprocal", (base,), dtype)
    return None
