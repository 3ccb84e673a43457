"""Types of numbers: what they are in registers and in memory, and which there are instructions for."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

__all__ = ["SLOT", "arithmetic", "constant", "convertible", "memory_type", "numeric", "of_parts", "register_type"]

SLOT = 16
"""The bytes that one number or address takes where functions hand things to each other."""

_FLOATS = {4: "float", 8: "double"}


def register_type(dtype: np.dtype[Any]) -> str:
    """The type of a number in a register; what has no arithmetic here is a string of bits."""
    if dtype.kind == "b":
        return "i1"
    if dtype.kind == "f" and dtype.itemsize in _FLOATS:
        return _FLOATS[dtype.itemsize]
    if _is_complex(dtype):
        part = register_type(of_parts(dtype))
        return f"{{ {part}, {part} }}"
    return f"i{8 * dtype.itemsize}"


def memory_type(dtype: np.dtype[Any]) -> str:
    """The type of a number in memory."""
    return "i8" if dtype.kind == "b" else register_type(dtype)


def constant(value: Any, dtype: np.dtype[Any]) -> str:
    """A known number as an operand."""
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.kind in "iu":
        return str(int(value))
    if dtype.kind == "f" and dtype.itemsize in _FLOATS:
        # Floats too are written as the bits of a double.
        with np.errstate(all="ignore"):
            double = float(dtype.type(value))
        return f"0x{struct.unpack('<Q', struct.pack('<d', double))[0]:016X}"
    if _is_complex(dtype):
        part, number = of_parts(dtype), dtype.type(value)
        kind = register_type(part)
        return f"{{ {kind} {constant(number.real, part)}, {kind} {constant(number.imag, part)} }}"
    return str(int.from_bytes(np.asarray(value, dtype).tobytes(), "little"))


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" and dtype.itemsize in _FLOATS


def _is_complex(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "c" and dtype.itemsize // 2 in _FLOATS


def arithmetic(dtype: np.dtype[Any]) -> bool:
    """Whether there are instructions for numbers of a type, which are real."""
    return (dtype.kind in "biu" and dtype.isnative) or (_is_float(dtype) and dtype.isnative)


def numeric(dtype: np.dtype[Any]) -> bool:
    """Whether there are instructions for numbers of a type, real or complex."""
    return arithmetic(dtype) or (_is_complex(dtype) and dtype.isnative)


def convertible(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether numbers of one type can be converted to another; of the imaginary part that is lost NumPy has to tell."""
    return numeric(source) and numeric(target) and (source.kind != "c" or target.kind in "bc")


def of_parts(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of the two parts of a complex number."""
    return np.dtype(f"f{dtype.itemsize // 2}")
