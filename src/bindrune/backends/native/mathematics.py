"""Kernels of the commonest functions, as LLVM functions without a branch: vectorised with the loops they are in.

Each reduces its argument to a small interval by powers of two, where a polynomial (minimax, by Remez's algorithm) gives
the rest.  Errors are below 2 units in the last place; NaN, infinity, signed zero and subnormal numbers come out as they
do from C's library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .formats import constant
from .formats import register_type as _register_type
from .instructions import Writer, kernels

__all__ = ["KERNELS", "call_kernel"]

import numpy as np


class _Format(NamedTuple):
    """A floating-point format, and the constants of the kernels in it."""

    dtype: np.dtype
    mantissa: int
    bias: int
    magic: float
    """Added to a number and taken away again, it leaves the nearest integer; meanwhile that is in the lowest bits."""
    log2_high: float
    log2_low: float
    exp_range: tuple[float, float]
    expm1_range: tuple[float, float]
    exp: tuple[float, ...]
    """Of ``(exp(r) - 1 - r) / r**2`` for ``|r| <= log(2) / 2``."""
    log: tuple[float, ...]
    """Of ``(log((1 + s) / (1 - s)) - 2 * s) / s**3`` in ``s**2``."""
    tanh_limit: float
    root_half: int
    """The bits of the square root of one half."""
    erf: tuple[float, ...] = ()
    """Of ``(erf(x) - x) / x`` in ``x**2`` for ``|x| < 1.1``."""
    erfc: tuple[float, ...] = ()
    """Of ``sqrt(1 - erf(x))`` in ``x - 2`` for ``1.1 <= x <= 4``."""


_DOUBLE = _Format(
    dtype=np.dtype(np.float64),
    mantissa=52,
    bias=1023,
    magic=6755399441055744.0,
    log2_high=6.93147180369123816490e-01,
    log2_low=1.90821492927058770002e-10,
    exp_range=(-746.0, 710.0),
    expm1_range=(-40.0, 710.0),
    exp=(
        0.5, 0.16666666666666677, 0.0416666666666667, 0.008333333333321579, 0.001388888888886678,
        0.00019841269886266294, 2.4801587360669886e-05, 2.755724406189839e-06, 2.7557242663845033e-07,
        2.510909041294864e-08, 2.09244725983338e-09,
    ),
    log=(
        0.666666666666667, 0.3999999999989803, 0.2857142862658824, 0.22222211042075557, 0.1818289545499908,
        0.1533152277482323, 0.14618788060689222,
    ),
    tanh_limit=22.0,
    root_half=0x3FE6A09E667F3BCD,
)  # fmt: skip

_SINGLE = _Format(
    dtype=np.dtype(np.float32),
    mantissa=23,
    bias=127,
    magic=12582912.0,
    log2_high=0.693145751953125,
    log2_low=1.428606765330187e-06,
    exp_range=(-104.0, 89.0),
    expm1_range=(-20.0, 89.0),
    exp=(
        0.5000000046524985, 0.1666666681745809, 0.04166635416473411, 0.008333272948592006, 0.0013941050005500074,
        0.00019914231110031041,
    ),
    log=(0.6666666655270946, 0.4000012300639298, 0.28550708566562577, 0.2333315734911182),
    tanh_limit=10.0,
    root_half=0x3F3504F3,
    erf=(
        0.12837916693394774, -0.3761263724167812, 0.1128376331977295, -0.02686431001791387, 0.0052179211456637575,
        -0.0008439851189819222, 0.00010954589512175952, -8.806763609657448e-06,
    ),
    erfc=(
        0.06839386614259645, -0.15108770297262952, 0.13529802326744794, -0.05366087480107748, -0.0005837190513854752,
        0.009224910644068674, -0.0028165387003970675, -0.0003753073568710084, 0.0003643284224218686,
        -5.618769531121944e-05,
    ),
)  # fmt: skip

_FORMATS = {4: _SINGLE, 8: _DOUBLE}


class _Kernel:
    """Writes one kernel: arithmetic on operands in one format."""

    def __init__(self, format: _Format) -> None:
        self.format = format
        self.w = Writer()
        self.t = _register_type(format.dtype)
        self.bits = f"i{8 * format.dtype.itemsize}"

    def number(self, x: float) -> str:
        return constant(x, self.format.dtype)

    def add(self, a: str, b: str) -> str:
        return self.w.value(f"fadd {self.t} {a}, {b}")

    def subtract(self, a: str, b: str) -> str:
        return self.w.value(f"fsub {self.t} {a}, {b}")

    def multiply(self, a: str, b: str) -> str:
        return self.w.value(f"fmul {self.t} {a}, {b}")

    def divide(self, a: str, b: str) -> str:
        return self.w.value(f"fdiv {self.t} {a}, {b}")

    def fused(self, a: str, b: str, c: str) -> str:
        """The sum ``a * b + c``."""
        return self.intrinsic("fmuladd", a, b, c)

    def intrinsic(self, name: str, *x: str) -> str:
        suffix = {4: "f32", 8: "f64"}[self.format.dtype.itemsize]
        return self.w.call(f"llvm.{name}.{suffix}", self.t, [(self.t, v) for v in x])

    def compare(self, how: str, a: str, b: str) -> str:
        return self.w.value(f"fcmp {how} {self.t} {a}, {b}")

    def select(self, condition: str, a: str, b: str) -> str:
        return self.w.value(f"select i1 {condition}, {self.t} {a}, {self.t} {b}")

    def integer(self, instruction: str, a: str, b: str | int) -> str:
        return self.w.value(f"{instruction} {self.bits} {a}, {b}")

    def as_bits(self, x: str) -> str:
        return self.w.value(f"bitcast {self.t} {x} to {self.bits}")

    def as_float(self, x: str) -> str:
        return self.w.value(f"bitcast {self.bits} {x} to {self.t}")

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        found = self.number(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            found = self.fused(found, x, self.number(c))
        return found

    def clamped(self, x: str, low: float, high: float) -> str:
        """A number brought into a range, NaN being left as it is."""
        x = self.select(self.compare("ogt", x, self.number(high)), self.number(high), x)
        return self.select(self.compare("olt", x, self.number(low)), self.number(low), x)

    def rounded(self, x: str, factor: float) -> tuple[str, str]:
        """The integer nearest to ``x * factor``, as a float and as an integer."""
        magic = self.number(self.format.magic)
        shifted = self.fused(x, self.number(factor), magic)
        start = int(np.asarray(self.format.magic, self.format.dtype).view(f"i{self.format.dtype.itemsize}"))
        return self.subtract(shifted, magic), self.integer("sub", self.as_bits(shifted), start)

    def power_of_two(self, k: str) -> str:
        """2 to an integer within the normal range."""
        return self.as_float(self.integer("shl", self.integer("add", k, self.format.bias), self.format.mantissa))

    def halves(self, k: str) -> tuple[str, str]:
        """Two integers of half the size, whose sum is the integer."""
        half = self.integer("ashr", k, 1)
        return half, self.integer("sub", k, half)

    def reduced(self, x: str) -> tuple[str, str]:
        """``exp(r) - 1`` and `k`, such that ``x`` is ``r + k * log(2)``."""
        k_float, k = self.rounded(x, 1 / np.log(2))
        r = self.fused(k_float, self.number(-self.format.log2_high), x)
        r = self.fused(k_float, self.number(-self.format.log2_low), r)
        return self.rest_of_exp(r), k

    def rest_of_exp(self, r: str) -> str:
        return self.fused(self.multiply(r, r), self.polynomial(r, self.format.exp), r)

    def scaled(self, p: str, k: str) -> str:
        """``(1 + p) * 2**k``, which may overflow or be subnormal."""
        first, second = map(self.power_of_two, self.halves(k))
        return self.multiply(self.multiply(self.add(p, self.number(1)), first), second)


def _exp(f: _Kernel, x: str) -> str:
    return f.scaled(*f.reduced(f.clamped(x, *f.format.exp_range)))


def _exp2(f: _Kernel, x: str) -> str:
    low, high = (1.45 * limit for limit in f.format.exp_range)
    x = f.clamped(x, low, high)
    k_float, k = f.rounded(x, 1)
    return f.scaled(f.rest_of_exp(f.multiply(f.subtract(x, k_float), f.number(np.log(2)))), k)


def _expm1(f: _Kernel, x: str) -> str:
    p, k = f.reduced(f.clamped(x, *f.format.expm1_range))
    half, rest = f.halves(k)
    first, second, inverse = f.power_of_two(half), f.power_of_two(rest), f.power_of_two(f.integer("sub", "0", rest))
    found = f.multiply(f.fused(first, p, f.subtract(first, inverse)), second)
    return f.intrinsic("copysign", found, x)


def _tanh(f: _Kernel, x: str) -> str:
    size = f.intrinsic("fabs", x)
    size = f.select(f.compare("ogt", size, f.number(f.format.tanh_limit)), f.number(f.format.tanh_limit), size)
    p, k = f.reduced(f.add(size, size))
    scale = f.power_of_two(k)
    grown = f.fused(scale, p, f.subtract(scale, f.number(1)))
    return f.intrinsic("copysign", f.divide(grown, f.add(grown, f.number(2))), x)


def _parts_of(f: _Kernel, x: str) -> tuple[str, str]:
    """A positive normal number as `k` and `m`: ``m * 2**k`` with `m` between the square roots of a half and of two."""
    bits = f.as_bits(x)
    above = f.integer("sub", bits, f.format.root_half)
    k = f.integer("ashr", above, f.format.mantissa)
    return k, f.as_float(f.integer("sub", bits, f.integer("shl", k, f.format.mantissa)))


def _as_number(f: _Kernel, k: str) -> str:
    """A small integer as a float."""
    if f.bits == "i64":
        k = f.w.value(f"trunc i64 {k} to i32")
    return f.w.value(f"sitofp i32 {k} to {f.t}")


def _log_of_sum(f: _Kernel, m: str, k: str, correction: str | None) -> str:
    """``log(1 + m) + k * log(2)``, and a correction."""
    s = f.divide(m, f.add(m, f.number(2)))
    z = f.multiply(s, s)
    half_square = f.multiply(f.multiply(m, m), f.number(0.5))
    rest = f.multiply(s, f.fused(z, f.polynomial(z, f.format.log), half_square))
    small = f.fused(k, f.number(f.format.log2_low), rest)
    if correction is not None:
        small = f.add(small, correction)
    inner = f.subtract(f.subtract(half_square, small), m)
    return f.subtract(f.multiply(k, f.number(f.format.log2_high)), inner)


def _at_edges(f: _Kernel, found: str, x: str, zero: float) -> str:
    """A logarithm where its argument is not a positive number; it is minus infinity at `zero`."""
    below = f.select(f.compare("oeq", x, f.number(zero)), f.number(-np.inf), f.number(np.nan))
    finite = f.compare("olt", x, f.number(np.inf))
    found = f.select(finite, found, x)
    undefined = f.compare("ole", x, f.number(zero))
    return f.select(undefined, below, found)


def _log(f: _Kernel, x: str) -> str:
    smallest = float(np.finfo(f.format.dtype).smallest_normal)
    subnormal = f.compare("olt", x, f.number(smallest))
    lift = f.format.mantissa + 2
    k, m = _parts_of(f, f.select(subnormal, f.multiply(x, f.number(2.0**lift)), x))
    k = f.subtract(_as_number(f, k), f.select(subnormal, f.number(lift), f.number(0)))
    return _at_edges(f, _log_of_sum(f, f.subtract(m, f.number(1)), k, None), x, 0.0)


def _log1p(f: _Kernel, x: str) -> str:
    u = f.add(x, f.number(1))
    k, m = _parts_of(f, u)
    # What rounding took from 1 + x.
    big = f.compare("ogt", x, f.number(1))
    lost = f.select(big, f.subtract(f.number(1), f.subtract(u, x)), f.subtract(x, f.subtract(u, f.number(1))))
    near = f.w.value(f"icmp eq {f.bits} {k}, 0")
    correction = f.select(near, f.number(0), f.divide(lost, u))
    m = f.select(near, x, f.subtract(m, f.number(1)))
    found = _log_of_sum(f, m, _as_number(f, k), correction)
    found = f.select(f.compare("oeq", x, f.number(0)), x, found)
    return _at_edges(f, found, x, -1.0)


def _erf(f: _Kernel, x: str) -> str:
    near = f.fused(x, f.polynomial(f.multiply(x, x), f.format.erf), x)
    size = f.intrinsic("fabs", x)
    root = f.polynomial(f.subtract(size, f.number(2)), f.format.erfc)
    root = f.select(f.compare("ogt", size, f.number(3.9)), f.number(0), root)
    far = f.fused(f.w.value(f"fneg {f.t} {root}"), root, f.number(1))
    return f.select(f.compare("olt", size, f.number(1.1)), near, f.intrinsic("copysign", far, x))


KERNELS: dict[str, Callable[[_Kernel, str], str]] = {
    "exp": _exp,
    "exp2": _exp2,
    "expm1": _expm1,
    "tanh": _tanh,
    "log": _log,
    "log1p": _log1p,
    "erf": _erf,
}
"""By the name in C's library."""


def call_kernel(w: Writer, name: str, x: str, dtype: np.dtype) -> str:
    """Call a kernel, which is inlined later."""
    t = _register_type(dtype)
    symbol = f"bindrune.kernel.{name}.{dtype.itemsize}"
    if symbol not in w.declarations:
        kernel = _Kernel(_FORMATS[dtype.itemsize])
        found = KERNELS[name](kernel, "%x")
        for declared, text in kernel.w.declarations.items():
            w.declarations.setdefault(declared, text)
        body = "\n".join([*kernel.w.lines, f"  ret {t} {found}"])
        w.declarations[symbol] = f"define internal {t} @{symbol}({t} %x) #2 {{\n{body}\n}}"
    return w.value(f"call {t} @{symbol}({t} {x})")


kernels.update(
    ((name, size), call_kernel) for name in KERNELS for size, format in _FORMATS.items() if name != "erf" or format.erf
)
