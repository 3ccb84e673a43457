"""How dtypes, types, numbers and arrays are written, and read again.

A type is ``f64[3,4]`` for an array, ``f64`` for a NumPy number, ``float`` for one of Python's, ``stack`` for a stack.
A number is the shortest run of digits that gives its bytes back, an array its numbers in brackets; where digits would
not do (dates, strings, the payload of a NaN) the bytes themselves stand, in base 64.

What text does not keep: the layout of an array in memory.
"""

from __future__ import annotations

import ast
import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.stack import STACK
from .dims import Length
from .graph import ARRAY, PYTHON, Type

__all__ = [
    "PYTHON_DTYPES",
    "array_of",
    "array_text",
    "bytes_text",
    "dtype_named",
    "dtype_of_spec",
    "dtype_text",
    "few",
    "number_of",
    "number_text",
    "type_text",
]

_LETTERS = {"float": "f", "int": "i", "uint": "u", "complex": "c"}
_SHORT = {f"{name}{bits}": f"{letter}{bits}" for name, letter in _LETTERS.items() for bits in (8, 16, 32, 64, 128, 256)}
_SHORT |= {"bool": "b1", "bfloat16": "bf16"}
_LONG = {short: long for long, short in _SHORT.items()}

PYTHON_DTYPES: dict[str, np.dtype[Any]] = {kind.__name__: np.dtype(kind) for kind in (bool, int, float, complex)}
"""The dtypes of Python's numbers, by the names of their types."""

_PYTHON_NAMES = {dtype.kind: name for name, dtype in PYTHON_DTYPES.items()}

# ------------------------------------------------------------------------------------------------------------- types


def type_text(type: Type, length: Callable[[Length], str] = str) -> str:
    """A type; `length` writes its lengths."""
    if type.dtype == STACK:
        return "stack"
    if type.form == PYTHON:
        return _PYTHON_NAMES[type.dtype.kind]
    lengths = f"[{','.join(map(length, type.shape))}]" if type.form == ARRAY else ""
    return dtype_text(type.dtype) + lengths


def dtype_text(dtype: np.dtype[Any]) -> str:
    """A dtype: a letter and the number of bits, where it is one of the usual ones."""
    if _is_extension(dtype) or (dtype.kind in "biufc" and dtype.isnative):
        return _SHORT.get(dtype.name, dtype.name)
    return f"dtype({dtype.str if dtype.names is None else dtype.descr!r})"


def _is_extension(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is one of those that `ml_dtypes` adds to NumPy's."""
    return dtype.type.__module__.partition(".")[0] == "ml_dtypes"


def dtype_named(name: str) -> np.dtype[Any] | None:
    """The dtype that a name stands for, if it is one's."""
    long = _LONG.get(name, name)
    found = getattr(np, long, None)
    if found is None and name not in PYTHON_DTYPES:
        import ml_dtypes

        found = getattr(ml_dtypes, long, None)
    return np.dtype(found) if isinstance(found, type) and issubclass(found, np.generic) else None


def dtype_of_spec(spec: str) -> np.dtype[Any]:
    """The dtype of what `dtype_text` writes in parentheses."""
    found: np.dtype[Any] = np.dtype(ast.literal_eval(spec))
    return found


# ----------------------------------------------------------------------------------------------------------- numbers


def number_text(x: Any) -> str:
    """A number's digits."""
    if isinstance(x, (complex, np.complexfloating)):
        real, imaginary = number_text(x.real), number_text(x.imag)
        return f"{real}{'' if imaginary.startswith('-') else '+'}{imaginary}j"
    return repr(x) if type(x) in (bool, int, float) else str(x)


def number_of(text: str, dtype: np.dtype[Any]) -> Any:
    """The NumPy number of some digits."""
    if dtype.kind == "b":
        return np.bool(text == "True")
    if dtype.kind in "iu":
        return dtype.type(int(text))
    if dtype.kind == "c":
        return dtype.type(complex(text))
    return dtype.type(text) if dtype.kind == "f" else dtype.type(float(text))


# ------------------------------------------------------------------------------------------------------------ arrays

_FEW = 16


def few(array: np.ndarray[Any, Any]) -> bool:
    """Whether an array is written where it is used: it has few elements, or all are the same."""
    return array.size <= _FEW or _uniform(array)


def _uniform(array: np.ndarray[Any, Any]) -> bool:
    content = array.tobytes()
    return content == content[: array.itemsize] * array.size


def array_text(array: np.ndarray[Any, Any]) -> str:
    """The content of an array: its digits, or its bytes."""
    if not array.size or not (_is_extension(array.dtype) or array.dtype.kind in "biufc"):
        return bytes_text(array)
    if array.size > 1 and _uniform(array):
        text, shown = f"{number_text(array.flat[0])} everywhere", array.flat[:1]
    elif array.size <= _FEW:
        text, shown = _digits(array), array
    else:
        return bytes_text(array)
    again = np.array([number_of(number_text(x), array.dtype) for x in shown.flat], array.dtype)
    return text if again.tobytes() == shown.tobytes() else bytes_text(array)


def _digits(array: np.ndarray[Any, Any]) -> str:
    if not array.ndim:
        return number_text(array[()])
    return f"[{', '.join(_digits(part) if array.ndim > 1 else number_text(part) for part in array)}]"


def bytes_text(array: np.ndarray[Any, Any]) -> str:
    """The bytes of an array."""
    return f'"{base64.b64encode(array.tobytes()).decode()}"'


def array_of(content: str | Sequence[str], type: Type, everywhere: bool = False) -> np.ndarray[Any, Any]:
    """An array of a type from its bytes, or from the digits of its elements in order, or of all of them."""
    if isinstance(content, str):
        return np.ndarray(type.shape, type.dtype, base64.b64decode(content)).copy()
    flat = np.array([number_of(text, type.dtype) for text in content], type.dtype)
    return np.full(type.shape, flat[0]) if everywhere else flat.reshape(type.shape)
