"""Elementwise operations: each is its partial derivatives, one line an operation.

A partial names what it needs: ``x`` (or ``a``, ``b``) the operands, ``y`` the result; 1 and -1 stand for themselves,
None for a derivative that is zero wherever it exists.  Broadcasting, promotion, batching and both modes follow.

Conventions: ``abs'(0) = 0``; ties of maximum and minimum share equally, and a NaN operand is the one chosen; a
complex derivative is the complex-linear one, so that of a real function is conjugated once, in `grad`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..core.array import dtype_of
from ..core.handler import evaluate
from ..core.operation import Row, Rows, elementwise, linear, operation, row
from .lanes import aligned

# ------------------------------------------------------------------------------------------------- sample operands


def points(low: float, high: float, *edges: float) -> Rows:
    """Rows for one operand: points inside an interval, a matrix, float32, a number, nothing; kinks as edges."""

    def rows() -> Iterable[Row]:
        x = low + (high - low) * np.array([0.13, 0.37, 0.52, 0.71, 0.94, 0.28])
        yield row(x)
        yield row(x.reshape(2, 3))
        yield row(x[:3].astype(np.float32))
        yield row(np.float64(x[1]))
        yield row(np.zeros((0, 2)) + x[0])
        for edge in edges:
            yield row(np.array([edge, x[0]]), smooth=False)

    return rows


def pairs(low: float, high: float, low_b: float | None = None, high_b: float | None = None) -> Rows:
    """Rows for two operands: equal shapes, broadcasting both ways, mixed dtypes, numbers, nothing."""

    def rows() -> Iterable[Row]:
        a = low + (high - low) * np.array([0.13, 0.37, 0.52, 0.71, 0.94, 0.28])
        bottom, top = (low if low_b is None else low_b), (high if high_b is None else high_b)
        b = bottom + (top - bottom) * np.array([0.81, 0.22, 0.67, 0.45, 0.09, 0.55])
        yield row(a, b)
        yield row(a.reshape(2, 3), b[:3])
        yield row(a[:3], b.reshape(2, 3))
        yield row(a.reshape(6, 1), b[:2])
        yield row(a[:2].astype(np.float32), b[:2])
        yield row(np.float64(a[0]), b)
        yield row(a, np.float64(b[0]))
        yield row(a[:0], b[:0])

    return rows


_anywhere = points(-2.0, 2.0)
_two = pairs(-2.0, 2.0)

# ------------------------------------------------------------------------------------------------------ arithmetic

add = elementwise("add", operator.add, 1, 1, rows=_two, quiet=True)
subtract = elementwise("subtract", operator.sub, 1, -1, rows=_two, quiet=True)
multiply = elementwise("multiply", operator.mul, lambda b: b, lambda a: a, rows=_two, quiet=True)
divide = elementwise("divide", operator.truediv, lambda b: 1 / b, lambda y, b: -y / b, rows=pairs(-2, 2, 0.5, 2))
negative = elementwise("negative", operator.neg, -1, rows=_anywhere, quiet=True)
positive = elementwise("positive", operator.pos, 1, rows=_anywhere, quiet=True)
reciprocal = elementwise("reciprocal", np.reciprocal, lambda y: -y * y, rows=points(0.5, 2))
square = elementwise("square", np.square, lambda x: 2 * x, rows=_anywhere, quiet=True)


def _power_in_base(a: Any, b: Any) -> Any:
    if isinstance(b, (int, float)):
        if b == 2:  # as it is most often; powers are dear
            return b * a
        return b * a ** (b - 1) if b else 0 * a
    return np.where(b == 0, 0, b * a ** np.where(b == 0, 1, b - 1))


def _power_in_exponent(y: Any, a: Any) -> Any:
    return y * np.log(np.where(a == 0, 1, a))


_powers = pairs(0.3, 2, -1.5, 1.5)
power = elementwise("power", operator.pow, _power_in_base, _power_in_exponent, rows=_powers)
float_power = elementwise("float_power", np.float_power, _power_in_base, _power_in_exponent, rows=_powers)

# Python's and NumPy's remainder: a - floor(a / b) * b.  At a jump the derivative is that of the side it belongs to.
remainder = elementwise(
    "remainder", operator.mod, 1, lambda a, b: -np.floor_divide(a, b), rows=pairs(-1.9, 1.9, 2.0, 3.0)
)
fmod = elementwise("fmod", np.fmod, 1, lambda a, b: -np.trunc(a / b), rows=pairs(-1.9, 1.9, 2.0, 3.0))
floor_divide = elementwise("floor_divide", operator.floordiv, None, None, rows=pairs(-1.9, 1.9, 2.0, 3.0))

# -------------------------------------------------------------------------------------- exponentials, logarithms

# Python numbers, not NumPy's: they leave float32 as it is.
_LOG_2, _LOG_10 = math.log(2), math.log(10)
exp = elementwise("exp", np.exp, lambda y: y, rows=_anywhere)
exp2 = elementwise("exp2", np.exp2, lambda y: y * _LOG_2, rows=_anywhere)
expm1 = elementwise("expm1", np.expm1, lambda x: np.exp(x), rows=_anywhere)
log = elementwise("log", np.log, lambda x: 1 / x, rows=points(0.2, 3))
log2 = elementwise("log2", np.log2, lambda x: 1 / (x * _LOG_2), rows=points(0.2, 3))
log10 = elementwise("log10", np.log10, lambda x: 1 / (x * _LOG_10), rows=points(0.2, 3))
log1p = elementwise("log1p", np.log1p, lambda x: 1 / (1 + x), rows=points(-0.7, 3))
sqrt = elementwise("sqrt", np.sqrt, lambda y: 0.5 / y, rows=points(0.2, 3))
cbrt = elementwise("cbrt", np.cbrt, lambda y: 1 / (3 * y * y), rows=points(0.2, 3))


def _softly(y: Any, mine: Any) -> Any:
    """exp(mine - y), the share of one operand in a log-sum; both infinite: the whole share."""
    return np.exp(np.where(mine == y, 0, mine - y))


logaddexp = elementwise("logaddexp", np.logaddexp, lambda y, a: _softly(y, a), lambda y, b: _softly(y, b), rows=_two)
logaddexp2 = elementwise(
    "logaddexp2",
    np.logaddexp2,
    lambda y, a: np.exp2(np.where(a == y, 0, a - y)),
    lambda y, b: np.exp2(np.where(b == y, 0, b - y)),
    rows=_two,
)

# ---------------------------------------------------------------------------------------- trigonometric, hyperbolic

sin = elementwise("sin", np.sin, lambda x: np.cos(x), rows=_anywhere, quiet=True)
cos = elementwise("cos", np.cos, lambda x: -np.sin(x), rows=_anywhere, quiet=True)
tan = elementwise("tan", np.tan, lambda y: 1 + y * y, rows=points(-1, 1))
arcsin = elementwise("arcsin", np.arcsin, lambda x: 1 / np.sqrt(1 - x * x), rows=points(-0.9, 0.9))
arccos = elementwise("arccos", np.arccos, lambda x: -1 / np.sqrt(1 - x * x), rows=points(-0.9, 0.9))
arctan = elementwise("arctan", np.arctan, lambda x: 1 / (1 + x * x), rows=_anywhere)
arctan2 = elementwise(
    "arctan2",
    np.arctan2,
    lambda a, b: b / (a * a + b * b),
    lambda a, b: -a / (a * a + b * b),
    rows=pairs(-2, 2, 0.5, 2),
)
hypot = elementwise("hypot", np.hypot, lambda y, a: a / y, lambda y, b: b / y, rows=pairs(0.5, 2))
sinh = elementwise("sinh", np.sinh, lambda x: np.cosh(x), rows=_anywhere)
cosh = elementwise("cosh", np.cosh, lambda x: np.sinh(x), rows=_anywhere)
tanh = elementwise("tanh", np.tanh, lambda y: 1 - y * y, rows=_anywhere, quiet=True)
arcsinh = elementwise("arcsinh", np.arcsinh, lambda x: 1 / np.sqrt(x * x + 1), rows=_anywhere)
arccosh = elementwise("arccosh", np.arccosh, lambda x: 1 / np.sqrt((x - 1) * (x + 1)), rows=points(1.2, 3))
arctanh = elementwise("arctanh", np.arctanh, lambda x: 1 / (1 - x * x), rows=points(-0.9, 0.9))
_DEGREE = np.pi / 180
deg2rad = elementwise("deg2rad", np.deg2rad, lambda: _DEGREE, rows=_anywhere)
radians = elementwise("radians", np.radians, lambda: _DEGREE, rows=_anywhere)
rad2deg = elementwise("rad2deg", np.rad2deg, lambda: 1 / _DEGREE, rows=_anywhere)
degrees = elementwise("degrees", np.degrees, lambda: 1 / _DEGREE, rows=_anywhere)

# --------------------------------------------------------------------------------------------- selection and signs


def _share_of(mine: Any, other: Any, *, smaller: bool, present: bool) -> Any:
    """The part of an extreme that comes from `mine`: ties share equally, NaN counts as chosen, or where present."""
    least, most = (other, mine) if smaller else (mine, other)
    chosen, rival = np.greater_equal(least, most), np.greater_equal(most, least)
    if not np.all(chosen | rival):
        unknown = (other != other, mine != mine) if present else (mine != mine, other != other)
        chosen, rival = chosen | unknown[0], rival | unknown[1]
    tied = chosen & rival
    dtype = np.result_type(mine, other)
    return (np.where(tied, 0.5, chosen) if np.any(tied) else chosen).astype(dtype)


def _share_rows() -> Iterable[Row]:
    a, b = np.array([1.0, 2.0, np.nan, 3.0]), np.array([2.0, 2.0, 1.0, np.nan])
    for smaller in (False, True):
        yield row(a, b, smooth=False, smaller=smaller, present=False)
        yield row(a, b, smooth=False, smaller=smaller, present=True)
    yield row(a[:2].astype(np.float32), b[:2, None].astype(np.float32), smooth=False, smaller=False, present=False)


share_of = operation("share_of", _share_of, jvp=None, vjp=None, operands="mine other", batch=aligned, rows=_share_rows)


def _selection(name: str, implementation: Any, smaller: bool = False, present: bool = False) -> Any:
    kind = {"smaller": smaller, "present": present}
    left = lambda a, b: evaluate(share_of, (a, b), kind)  # noqa: E731
    right = lambda a, b: evaluate(share_of, (b, a), kind)  # noqa: E731
    return elementwise(name, implementation, left, right, rows=_two, selects=True)


maximum = _selection("maximum", np.maximum)
minimum = _selection("minimum", np.minimum, smaller=True)
fmax = _selection("fmax", np.fmax, present=True)
fmin = _selection("fmin", np.fmin, smaller=True, present=True)


def _direction(x: Any) -> Any:
    """The sign, conjugated; of complex numbers, where it varies, written so that it can be differentiated in turn."""
    if dtype_of(x).kind != "c":
        return np.sign(x)
    size = np.abs(x)
    return np.conjugate(x) / np.where(size == 0, 1, size)


absolute = elementwise("absolute", operator.abs, _direction, rows=points(0.2, 2, 0.0))
fabs = elementwise("fabs", np.fabs, lambda x: np.sign(x), rows=points(-2, -0.2, 0.0))
copysign = elementwise(
    "copysign", np.copysign, lambda a, b: np.sign(a) * np.copysign(1, b), None, rows=pairs(0.5, 2, -2, -0.5)
)
heaviside = elementwise("heaviside", np.heaviside, None, lambda a: a == 0, rows=pairs(0.5, 2))
nextafter = elementwise("nextafter", np.nextafter, 1, None, rows=pairs(0.5, 2, 3, 4))
ldexp = elementwise(
    "ldexp",
    np.ldexp,
    lambda b: np.exp2(b),
    None,
    rows=lambda: [row(np.array([0.5, -1.5]), np.array([1, 3])), row(np.float64(0.7), np.array([2, -1]))],
)

# ---------------------------------------------------------------------------------------------------- no derivative

_comparisons: dict[str, Callable[..., Any]] = {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
for _name, _implementation in _comparisons.items():
    elementwise(_name, _implementation, None, None, rows=_two)
for _name in "sign floor ceil trunc rint isfinite isinf isnan signbit logical_not spacing".split():
    elementwise(_name, getattr(np, _name), None, rows=points(-1.9, 1.9))


def _integers(count: int) -> Rows:
    samples = (np.array([[5, 2], [7, 1]]), np.array([1, 3]))
    return lambda: [row(*samples[:count])]


_integer_pairs: dict[str, Callable[..., Any]] = {
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
    "left_shift": operator.lshift,
    "right_shift": operator.rshift,
    "gcd": np.gcd,
    "lcm": np.lcm,
}
for _name, _implementation in _integer_pairs.items():
    elementwise(_name, _implementation, None, None, rows=_integers(2))
elementwise("invert", operator.invert, None, rows=_integers(1))
elementwise("bitwise_count", np.bitwise_count, None, rows=_integers(1))
elementwise("isnat", np.isnat, None, rows=lambda: [row(np.array(["2020-01-01", "NaT"], dtype="M8[D]"))])

# ------------------------------------------------------------------------------- complex parts, several results


def _elementwise_batch(op: Any, size: int, values: list[Any], batched: list[bool], params: dict[str, Any]) -> Any:
    return evaluate(op, values, params)


def _complex_rows() -> Iterable[Row]:
    z = np.array([1.0 + 2.0j, -0.5 + 0.3j, 0.2 - 1.1j])
    yield row(z)
    yield row(z[:2].reshape(2, 1).astype(np.complex64))
    yield row(z.real.copy())


conjugate = linear("conjugate", np.conjugate, lambda ct: np.conjugate(ct), batch=_elementwise_batch, rows=_complex_rows)
real = linear("real", np.real, lambda ct: ct, batch=_elementwise_batch, rows=_complex_rows)
imag = linear("imag", np.imag, lambda ct: -1j * ct, batch=_elementwise_batch, rows=_complex_rows)

modf = operation(
    "modf",
    np.modf,
    jvp=lambda t: (t, 0 * t),
    vjp=lambda ct: ct[0],
    batch=_elementwise_batch,
    rows=points(-1.9, 1.9),
)
frexp = operation(
    "frexp",
    np.frexp,
    jvp=lambda t, y: (np.ldexp(t, -y[1]), 0 * t),
    vjp=lambda ct, y: np.ldexp(ct[0], -y[1]),
    batch=_elementwise_batch,
    rows=points(0.6, 0.9),
)
