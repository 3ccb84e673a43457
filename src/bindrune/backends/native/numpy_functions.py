"""Functions in C of NumPy and SciPy, for machine code to call: what sorts, the loops of ufuncs, special functions.

NumPy's interface for C says where its functions lie: a table by type of elements, and the ufuncs themselves.  What is
read there is compared first with what NumPy says of itself in Python; where that differs, the operation is left to the
host.  SciPy hands out its special functions, with their types, for Cython to call.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np

from .machine import define_symbol

__all__ = ["ALGORITHMS", "Loop", "core_lengths", "loops", "sorting_function", "special_function", "ufunc_loop"]

_OURS = "bindrune.numpy."
"""What the symbols of NumPy's functions begin with."""

# ---------------------------------------------------------------------------------------------------------- sorting

_VERSION = 0x02000000
"""That of NumPy's interface for C which the rest of this section is about."""

_FUNCTIONS_OF_TYPE = 365
"""Where in the interface the function stands that gives a type's table."""

_SORTS = {"sort": 33, "argsort": 36}
"""Where in that table the functions begin that sort elements, and positions of elements: one for each algorithm."""

ALGORITHMS = {"quicksort": 0, "mergesort": 2, "stable": 2}
"""By NumPy's names which of them is meant."""


@functools.cache
def sorting_function(name: str, kind: str, dtype: np.dtype[Any]) -> str | None:
    """The symbol of NumPy's function that sorts contiguous elements, or positions; None where there is none."""
    algorithm = ALGORITHMS.get(kind)
    if algorithm is None or dtype.kind not in "biuf" or not dtype.isnative:
        return None
    table = _table_of(dtype)
    address = table[_SORTS[name] + algorithm] if table is not None else None
    if not address:
        return None
    symbol = f"{_OURS}{name}.{dtype.name}.{algorithm}"
    define_symbol(symbol, address)
    return symbol


def _table_of(dtype: np.dtype[Any]) -> Any:
    """The addresses of the functions that NumPy has for a type."""
    from numpy._core import _multiarray_umath

    capsule = _multiarray_umath._ARRAY_API
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    interface = ctypes.cast(get(capsule, None), ctypes.POINTER(ctypes.c_void_p))
    if ctypes.CFUNCTYPE(ctypes.c_uint)(interface[0] or 0)() != _VERSION:
        return None
    find = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(interface[_FUNCTIONS_OF_TYPE] or 0)
    return ctypes.cast(find(dtype), ctypes.POINTER(ctypes.c_void_p))


# ----------------------------------------------------------------------------------------------------------- ufuncs


class _Ufunc(ctypes.Structure):
    """The first part of a ufunc."""

    _fields_ = (
        ("object", ctypes.c_byte * object.__basicsize__),
        ("inputs", ctypes.c_int),
        ("outputs", ctypes.c_int),
        ("arguments", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("count", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("name", ctypes.c_char_p),
    )


class Loop:
    """The loop of a ufunc for some types.

    Attributes:
        symbol: that of its function.
        data: that of what it is given beside its operands, if anything.
        lengths: by operand the names of the lengths of its axes.
    """

    __slots__ = ("data", "lengths", "symbol")

    def __init__(self, symbol: str, data: str | None, lengths: tuple[tuple[str, ...], ...]) -> None:
        self.symbol = symbol
        self.data = data
        self.lengths = lengths


@functools.cache
def ufunc_loop(ufunc: np.ufunc, types: str) -> Loop | None:
    """The loop of a ufunc with a signature, for types as the ufunc lists them; None where there is none."""
    head = _Ufunc.from_address(id(ufunc))
    numbers = (head.inputs, head.outputs, head.arguments, head.count)
    if numbers != (ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes) or head.name != ufunc.__name__.encode():
        return None
    if ufunc.signature is None or types not in ufunc.types:
        return None
    position = ufunc.types.index(types)
    symbol = f"{_OURS}{ufunc.__name__}.{types.replace('->', '.')}"
    define_symbol(symbol, head.functions[position])
    data = head.data[position] if head.data else None
    if data:
        define_symbol(f"{symbol}.data", data)
    found = loops[symbol] = Loop(symbol, f"{symbol}.data" if data else None, core_lengths(ufunc.signature))
    return found


loops: dict[str, Loop] = {}
"""Those that were asked for, by symbol."""


def core_lengths(signature: str) -> tuple[tuple[str, ...], ...]:
    """By operand, inputs and then outputs, the names of the lengths in a signature.

    >>> core_lengths("(m, n),(n)->(m)")
    (('m', 'n'), ('n',), ('m',))
    """
    operands = signature.replace(" ", "").replace("->", ",")[1:-1].split("),(")
    return tuple(tuple(name for name in operand.split(",") if name) for operand in operands)


# ------------------------------------------------------------------------------------------------- special functions


@functools.cache
def special_function(name: str, arguments: int) -> str | None:
    """The symbol of SciPy's function of so many numbers in double precision, and of a word that has no meaning here."""
    from scipy.special import cython_special

    wanted = f"double ({'double, ' * arguments}int __pyx_skip_dispatch)".encode()
    told = ctypes.pythonapi.PyCapsule_GetName
    told.restype, told.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    # A function for several types is there once for each, under a name with a number.
    for alias in (name, *(f"__pyx_fuse_{i}{name}" for i in range(_MOST_TYPES))):
        capsule = cython_special.__pyx_capi__.get(alias)
        if capsule is not None and told(capsule) == wanted:
            symbol = f"{_OF_SCIPY}{name}"
            define_symbol(symbol, get(capsule, wanted))
            return symbol
    return None


_OF_SCIPY = "bindrune.scipy."
_MOST_TYPES = 4
