"""Complex numbers: instructions on their two parts, by the formulas that NumPy has for them.

Products are the plain formula and quotients Smith's, so that infinities and NaN come out as NumPy's do.  The
exponential is made of real functions, of which loops are made vectors; other functions are those of C's library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .formats import constant, of_parts, register_type
from .instructions import Entry, Writer, call_library, cast, complex_entries, instruct, pair, parts
from .machine import scalar_alias

__all__ = ["PARTWISE"]

DOUBLE, COMPLEX, BOOL = np.dtype(float), np.dtype(complex), np.dtype(bool)

PARTWISE = {"add", "subtract", "negative"}
"""What is done to each part alone."""


class _Real:
    """Arithmetic on the parts of numbers of one type."""

    def __init__(self, w: Writer, dtype: np.dtype[Any]) -> None:
        self.w = w
        self.dtype = of_parts(dtype)

    def __call__(self, name: str, *x: str) -> str:
        return instruct(self.w, name, x, self.dtype, self.dtype)

    def test(self, name: str, *x: str) -> str:
        """Whether something holds."""
        return instruct(self.w, name, x, self.dtype, BOOL)

    def choose(self, condition: str, a: str, b: str) -> str:
        """One of two numbers."""
        t = register_type(self.dtype)
        return self.w.value(f"select i1 {condition}, {t} {a}, {t} {b}")

    def number(self, x: float) -> str:
        """A known number."""
        return constant(x, self.dtype)


def _define(*names: str) -> Callable[[Entry], Entry]:
    def defined(entry: Entry) -> Entry:
        complex_entries.update(dict.fromkeys(names, entry))
        return entry

    return defined


def _partwise(name: str) -> Entry:
    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        of = _Real(w, source)
        both = zip(*(parts(w, v, source) for v in x), strict=True)
        real, imag = (of(name, *some) for some in both)
        return pair(w, real, imag, target)

    return entry


for _name in PARTWISE:
    complex_entries[_name] = _partwise(_name)


@_define("positive", "stop_gradient")
def _positive(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return x[0]


@_define("real")
def _real(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return parts(w, x[0], source)[0]


@_define("imag")
def _imag(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return parts(w, x[0], source)[1]


@_define("conjugate")
def _conjugate(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    real, imag = parts(w, x[0], source)
    return pair(w, real, _Real(w, source)("negative", imag), target)


@_define("absolute")
def _absolute(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return call_library(w, "hypot", parts(w, x[0], source), of_parts(source))


@_define("multiply")
def _multiply(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    of = _Real(w, source)
    (a, b), (c, d) = (parts(w, v, source) for v in x)
    real = of("subtract", of("multiply", a, c), of("multiply", b, d))
    return pair(w, real, of("add", of("multiply", a, d), of("multiply", b, c)), target)


@_define("square")
def _square(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return _multiply(w, [x[0], x[0]], source, target)


@_define("divide")
def _divide(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    of = _Real(w, source)
    (a, b), (c, d) = (parts(w, v, source) for v in x)
    # The larger part of the divisor is divided by; where that is the imaginary one, parts change places.
    sizes = of("fabs", c), of("fabs", d)
    straight = of.test("greater_equal", *sizes)
    large, small = of.choose(straight, c, d), of.choose(straight, d, c)
    ratio = of("divide", small, large)
    scale = of("divide", of.number(1), of("add", large, of("multiply", small, ratio)))
    real = of("multiply", of("add", _weighted(of, straight, a, ratio), _weighted(of, straight, b, ratio, True)), scale)
    imag = of("subtract", _weighted(of, straight, b, ratio), _weighted(of, straight, a, ratio, True))
    imag = of("multiply", imag, scale)
    nothing = w.value(f"and i1 {straight}, {of.test('equal', sizes[0], of.number(0))}")
    real = of.choose(nothing, of("divide", a, sizes[0]), real)
    return pair(w, real, of.choose(nothing, of("divide", b, sizes[0]), imag), target)


def _weighted(of: _Real, straight: str, x: str, ratio: str, turned: bool = False) -> str:
    """A part, multiplied by the ratio where parts have changed places, or where they have not."""
    other = of("multiply", x, ratio)
    return of.choose(straight, other, x) if turned else of.choose(straight, x, other)


@_define("reciprocal")
def _reciprocal(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    of = _Real(w, source)
    c, d = parts(w, x[0], source)
    straight = of.test("less_equal", of("fabs", d), of("fabs", c))
    large, small = of.choose(straight, c, d), of.choose(straight, d, c)
    ratio = of("divide", small, large)
    size = of("add", large, of("multiply", small, ratio))
    one, other = of("divide", of.number(1), size), of("divide", ratio, size)
    imag = of("negative", of.choose(straight, other, one))
    return pair(w, of.choose(straight, one, other), imag, target)


def _on_either(name: str, combine: str) -> Entry:
    """A test that holds where it does for one of the parts, or for both."""

    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        of = _Real(w, source)
        found = [of.test(name, *some) for some in zip(*(parts(w, v, source) for v in x), strict=True)]
        return w.value(f"{combine} i1 {', '.join(found)}")

    return entry


for _name, _combine in {"equal": "and", "not_equal": "or", "isnan": "or", "isinf": "or", "isfinite": "and"}.items():
    complex_entries[_name] = _on_either(_name, _combine)


def _logical(name: str) -> Entry:
    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        return instruct(w, name, [cast(w, v, source, BOOL) for v in x], BOOL, BOOL)

    return entry


for _name in ("logical_and", "logical_or", "logical_xor", "logical_not"):
    complex_entries[_name] = _logical(_name)


_FAR = {4: 80.0, 8: 700.0}
"""By bytes numbers whose exponential is large, and can be told still."""


@_define("exp")
def _exp(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    of = _Real(w, source)
    a, b = parts(w, x[0], source)
    # Large sizes in two factors: neither overflows where a part of the result does not.
    far = _FAR[of.dtype.itemsize]
    above, below = of.test("greater", a, of.number(far)), of.test("less", a, of.number(-far))
    shift = of.choose(above, of.number(far), of.choose(below, of.number(-far), of.number(0)))
    rest = of.choose(above, of.number(np.exp(far)), of.choose(below, of.number(np.exp(-far)), of.number(1)))
    size = of("exp", of("subtract", a, shift))
    real, imag = (of("multiply", of("multiply", size, of(name, b)), rest) for name in ("cos", "sin"))
    on_axis = of.test("equal", b, of.number(0))
    real, imag = of.choose(on_axis, of("multiply", size, rest), real), of.choose(on_axis, b, imag)
    # Where the angle is none: nothing has no direction, and what is infinite is so in its real part.
    astray = w.value(f"xor i1 {of.test('isfinite', b)}, true")
    vanishes = w.value(f"and i1 {astray}, {of.test('equal', a, of.number(-np.inf))}")
    explodes = w.value(f"and i1 {astray}, {of.test('equal', a, of.number(np.inf))}")
    real = of.choose(explodes, a, of.choose(vanishes, of.number(0), real))
    return pair(w, real, of.choose(vanishes, of.number(0), imag), target)


@_define("power")
def _power(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    of = _Real(w, COMPLEX)
    (a, b), (c, d) = ([*parts(w, cast(w, v, source, COMPLEX), COMPLEX)] for v in x)
    found = w.call(scalar_alias("cpow"), register_type(COMPLEX), [("double", v) for v in (a, b, c, d)])
    zero = of.number(0)
    one, none = (
        w.value(f"and i1 {of.test('equal', u, zero)}, {of.test('equal', v, zero)}") for u, v in ((c, d), (a, b))
    )
    vanishes = of.test("greater", c, zero)
    real, imag = (
        of.choose(one, of.number(unit), of.choose(none, of.choose(vanishes, zero, of.number(np.nan)), part))
        for unit, part in zip((1, 0), parts(w, found, COMPLEX), strict=True)
    )
    return cast(w, pair(w, real, imag, COMPLEX), COMPLEX, target)


_LIBRARY = {
    "log": "clog", "sqrt": "csqrt", "sin": "csin", "cos": "ccos", "tan": "ctan", "sinh": "csinh", "cosh": "ccosh",
    "tanh": "ctanh", "arcsin": "casin", "arccos": "cacos", "arctan": "catan", "arcsinh": "casinh",
    "arccosh": "cacosh", "arctanh": "catanh",
}  # fmt: skip
"""By NumPy's name that of the function in C's library, in double precision."""


def _of_library(name: str) -> Entry:
    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        given = parts(w, cast(w, x[0], source, COMPLEX), COMPLEX)
        found = w.call(scalar_alias(name), register_type(COMPLEX), [("double", v) for v in given])
        return cast(w, found, COMPLEX, target)

    return entry


for _name, _of in _LIBRARY.items():
    complex_entries[_name] = _of_library(_of)
