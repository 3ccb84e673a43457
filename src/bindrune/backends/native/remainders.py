"""Instructions for quotients rounded down and remainders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .formats import constant, register_type
from .instructions import Writer, define, intrinsic, select
from .machine import scalar_alias

__all__: list[str] = []

# ------------------------------------------------------------------------------------------------------------- floats


def _rest(w: Writer, x: Sequence[str], dtype: np.dtype[Any]) -> str:
    """The exact remainder of a quotient rounded to zero, of the dividend's sign.

    Rounding may bring a quotient up to the next integer, never down below one: then the remainder has the other sign,
    and one divisor less is the answer, which like every remainder is a floating-point number (IEEE 754, 5.3.1), so the
    fused multiplication gives it without an error.  Only for large quotients the library works bit by bit.
    """
    t = register_type(dtype)
    if x[1] == constant(1, dtype):
        return w.value(f"frem {t} {', '.join(x)}")
    symbol = f"bindrune.rest.{dtype.itemsize}"
    if symbol not in w.declarations:
        w.declarations[symbol] = f"define internal {t} @{symbol}({t} %x, {t} %y) #2 {{\n{_text_of_rest(w, dtype)}\n}}"
    return w.value(f"call {t} @{symbol}({t} {x[0]}, {t} {x[1]})")


def _text_of_rest(outer: Writer, dtype: np.dtype[Any]) -> str:
    w, t = Writer(), register_type(dtype)
    zero, one = constant(0, dtype), constant(1, dtype)
    quotient = w.value(f"fdiv {t} %x, %y")
    near = constant(2.0 ** (np.finfo(dtype).nmant - 1), dtype)
    near = w.value(f"fcmp olt {t} {intrinsic(w, 'fabs', dtype, [quotient])}, {near}")
    w.do(f"br i1 {near}, label %short, label %long")
    w.begin("short")
    whole = intrinsic(w, "trunc", dtype, [quotient])

    def without(count: str) -> str:
        return intrinsic(w, "fma", dtype, [w.value(f"fneg {t} {count}"), "%y", "%x"])

    rest = without(whole)
    sign = intrinsic(w, "copysign", dtype, [one, "%x"])
    other = w.value(f"fcmp olt {t} {w.value(f'fmul {t} {rest}, {sign}')}, {zero}")
    fewer = w.value(f"fsub {t} {whole}, {intrinsic(w, 'copysign', dtype, [one, quotient])}")
    rest = select(w, other, dtype, without(fewer), rest)
    # An infinite divisor leaves all, and what is left of zero is zero.
    rest = select(w, w.value(f"fcmp oeq {t} {whole}, {zero}"), dtype, "%x", rest)
    w.do(f"ret {t} {intrinsic(w, 'copysign', dtype, [rest, '%x'])}")
    w.begin("long")
    # Not `frem`: LLVM takes that for cheap, and computes it everywhere.
    w.do(f"ret {t} {w.call(scalar_alias({4: 'fmodf', 8: 'fmod'}[dtype.itemsize]), t, [(t, '%x'), (t, '%y')])}")
    for declared, text in w.declarations.items():
        outer.declarations.setdefault(declared, text)
    return "\n".join(w.lines)


# ------------------------------------------------------------------------------------------------------------ integers


def _quotient_is_safe(w: Writer, x: Sequence[str], source: np.dtype[Any]) -> tuple[str, str]:
    """For integers whether the divisor is not zero, and one by which division never traps."""
    t = register_type(source)
    present = w.value(f"icmp ne {t} {x[1]}, 0")
    divisor = select(w, present, source, x[1], "1")
    if source.kind == "i":
        least = w.value(f"icmp eq {t} {x[0]}, {-(1 << (8 * source.itemsize - 1))}")
        negative = w.value(f"icmp eq {t} {divisor}, -1")
        divisor = select(w, w.value(f"and i1 {least}, {negative}"), source, "1", divisor)
    return present, divisor


def _floored(w: Writer, x: Sequence[str], source: np.dtype[Any]) -> str | None:
    """The quotient of a signed integer and a positive constant, rounded down; None if they are something else.

    The complement of a negative number is not negative, and its quotient is the complement of what is looked for.
    """
    divisor = int(x[1]) if source.kind == "i" and x[1].isdigit() else 0
    if not divisor:
        return None
    t, bits = register_type(source), 8 * source.itemsize
    if divisor & (divisor - 1) == 0:
        return w.value(f"ashr {t} {x[0]}, {divisor.bit_length() - 1}")
    sign = w.value(f"ashr {t} {x[0]}, {bits - 1}")
    # The first bit is zero already; that it is said makes the division cheaper.
    positive = w.value(f"and {t} {w.value(f'xor {t} {x[0]}, {sign}')}, {(1 << bits - 1) - 1}")
    return w.value(f"xor {t} {w.value(f'udiv {t} {positive}, {divisor}')}, {sign}")


def _other_sign(w: Writer, rest: str, divisor: str, dtype: np.dtype[Any]) -> str:
    """Whether a remainder is not zero and has not the sign of the divisor."""
    t = register_type(dtype)
    if dtype.kind == "f":
        zero = constant(0, dtype)
        signs = [w.value(f"fcmp olt {t} {v}, {zero}") for v in (rest, divisor)]
        some = w.value(f"fcmp une {t} {rest}, {zero}")
        return w.value(f"and i1 {some}, {w.value(f'xor i1 {signs[0]}, {signs[1]}')}")
    some = w.value(f"icmp ne {t} {rest}, 0")
    both = w.value(f"xor {t} {rest}, {divisor}")
    return w.value(f"and i1 {some}, {w.value(f'icmp slt {t} {both}, 0')}")


@define("remainder", "fiu")
def _remainder(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    t = register_type(source)
    if source.kind == "f":
        rest = _rest(w, x, source)
        moved = select(w, _other_sign(w, rest, x[1], source), source, w.value(f"fadd {t} {rest}, {x[1]}"), rest)
        zero = w.value(f"fcmp oeq {t} {rest}, {constant(0, source)}")
        return select(w, zero, source, intrinsic(w, "copysign", source, [constant(0, source), x[1]]), moved)
    floored = _floored(w, x, source)
    if floored is not None:
        return w.value(f"sub {t} {x[0]}, {w.value(f'mul {t} {floored}, {x[1]}')}")
    present, divisor = _quotient_is_safe(w, x, source)
    rest = w.value(f"{'srem' if source.kind == 'i' else 'urem'} {t} {x[0]}, {divisor}")
    if source.kind == "i":
        rest = select(w, _other_sign(w, rest, divisor, source), source, w.value(f"add {t} {rest}, {divisor}"), rest)
    return select(w, present, source, rest, "0")


@define("floor_divide", "fiu")
def _floor_divide(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    t = register_type(source)
    if source.kind == "f":
        quotient = w.value(f"fdiv {t} {', '.join(x)}")
        rest = _rest(w, x, source)
        exact = w.value(f"fdiv {t} {w.value(f'fsub {t} {x[0]}, {rest}')}, {x[1]}")
        lower = w.value(f"fsub {t} {exact}, {constant(1, source)}")
        exact = select(w, _other_sign(w, rest, x[1], source), source, lower, exact)
        down = intrinsic(w, "floor", source, [exact])
        far = w.value(f"fcmp ogt {t} {w.value(f'fsub {t} {exact}, {down}')}, {constant(0.5, source)}")
        down = select(w, far, source, w.value(f"fadd {t} {down}, {constant(1, source)}"), down)
        nothing = w.value(f"fcmp oeq {t} {exact}, {constant(0, source)}")
        down = select(w, nothing, source, intrinsic(w, "copysign", source, [constant(0, source), quotient]), down)
        by_zero = w.value(f"fcmp oeq {t} {x[1]}, {constant(0, source)}")
        return select(w, by_zero, source, quotient, down)
    floored = _floored(w, x, source)
    if floored is not None:
        return floored
    present, divisor = _quotient_is_safe(w, x, source)
    if source.kind == "u":
        return select(w, present, source, w.value(f"udiv {t} {x[0]}, {divisor}"), "0")
    quotient = w.value(f"sdiv {t} {x[0]}, {divisor}")
    rest = w.value(f"sub {t} {x[0]}, {w.value(f'mul {t} {quotient}, {divisor}')}")
    lower = w.value(f"sub {t} {quotient}, 1")
    return select(w, present, source, select(w, _other_sign(w, rest, divisor, source), source, lower, quotient), "0")


@define("fmod", "fiu")
def _fmod(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    t = register_type(source)
    if source.kind == "f":
        return _rest(w, x, source)
    present, divisor = _quotient_is_safe(w, x, source)
    return select(w, present, source, w.value(f"{'srem' if source.kind == 'i' else 'urem'} {t} {x[0]}, {divisor}"), "0")
