"""Numbers that are one operand or two: reading, writing, choosing and combining them, real ones and complex ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formats import memory_type, numeric, of_parts, register_type
from .instructions import Writer, instruct, pair, parts

__all__ = ["REORDERED", "chosen", "combined", "loaded", "product", "stored"]

REORDERED = {"add": "fadd", "multiply": "fmul"}
"""The accumulations whose order may be changed, and their instructions."""


def _is_pair(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "c" and numeric(dtype)


def _alignment(dtype: np.dtype[Any]) -> int:
    return min(dtype.itemsize, 8)


def _places(w: Writer, address: str, part: np.dtype[Any]) -> tuple[str, str]:
    """Where the parts of a complex number lie."""
    return address, w.value(f"getelementptr inbounds {register_type(part)}, ptr {address}, i64 1")


def loaded(w: Writer, address: str, dtype: np.dtype[Any], said: str) -> str:
    """Read a number from memory, of which something is said."""
    if _is_pair(dtype):
        part = of_parts(dtype)
        real, imag = (loaded(w, at, part, said) for at in _places(w, address, part))
        return pair(w, real, imag, dtype)
    found = w.value(f"load {memory_type(dtype)}, ptr {address}, align {_alignment(dtype)}{said}")
    return w.value(f"trunc i8 {found} to i1") if dtype.kind == "b" else found


def stored(w: Writer, address: str, x: str, dtype: np.dtype[Any], said: str) -> None:
    """Write a number to memory, of which something is said."""
    if _is_pair(dtype):
        part = of_parts(dtype)
        for at, v in zip(_places(w, address, part), parts(w, x, dtype), strict=True):
            stored(w, at, v, part, said)
        return
    if dtype.kind == "b":
        x = w.value(f"zext i1 {x} to i8")
    w.do(f"store {memory_type(dtype)} {x}, ptr {address}, align {_alignment(dtype)}{said}")


def chosen(w: Writer, dtype: np.dtype[Any], condition: str, a: str, b: str) -> str:
    """One of two numbers."""
    if _is_pair(dtype):
        both = zip(parts(w, a, dtype), parts(w, b, dtype), strict=True)
        real, imag = (chosen(w, of_parts(dtype), condition, *some) for some in both)
        return pair(w, real, imag, dtype)
    t = register_type(dtype)
    return w.value(f"select i1 {condition}, {t} {a}, {t} {b}")


def combined(w: Writer, name: str, old: str, x: str, dtype: np.dtype[Any]) -> str:
    """Two numbers combined by an operation whose order may be changed, and which may become one with a product."""
    if name in REORDERED and dtype.kind == "f":
        return w.value(f"{REORDERED[name]} reassoc contract {register_type(dtype)} {old}, {x}")
    if name == "add" and dtype.kind == "c":
        both = zip(parts(w, old, dtype), parts(w, x, dtype), strict=True)
        real, imag = (combined(w, name, *some, of_parts(dtype)) for some in both)
        return pair(w, real, imag, dtype)
    return instruct(w, name, [old, x], dtype, dtype)


def product(w: Writer, a: str, b: str, dtype: np.dtype[Any]) -> str:
    """A product of real numbers that need not be rounded before it is added to others."""
    return w.value(f"fmul contract {register_type(dtype)} {a}, {b}")
