"""How deep routines may call each other: the stack of a thread is not endless, and what lies behind it is not ours.

A program with routines asks once how far down the stack of its thread goes; each routine compares that with where it
is.  A part of the stack is left to what the host performs in the deepest call.  The main thread's stack stays what it
is; of other threads' stacks nothing is remembered, for they end.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

from .context import CONTEXT_DEEPEST, STACK_BOUNDS
from .machine import define_symbol

__all__ = ["define_depth"]

_LEFT = 8
"""The part of the stack that is left to others: one of so many."""

_SURE = 1 << 17
"""The bytes that the smallest stacks have, where nobody tells how many there are."""

_Bounds = Callable[[], tuple[int, int]]


def _of_linux(library: Any) -> _Bounds:
    attributes = (ctypes.c_size_t * 32)()
    low, size = ctypes.c_size_t(), ctypes.c_size_t()
    library.pthread_self.restype = ctypes.c_size_t
    library.pthread_getattr_np.argtypes = [ctypes.c_size_t, ctypes.c_void_p]

    def bounds() -> tuple[int, int]:
        library.pthread_getattr_np(library.pthread_self(), attributes)
        library.pthread_attr_getstack(attributes, ctypes.byref(low), ctypes.byref(size))
        library.pthread_attr_destroy(attributes)
        return low.value, low.value + size.value

    return bounds


def _of_mac(library: Any) -> _Bounds:
    library.pthread_self.restype = ctypes.c_size_t
    for name in ("pthread_get_stackaddr_np", "pthread_get_stacksize_np"):
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_size_t], ctypes.c_size_t

    def bounds() -> tuple[int, int]:
        high = library.pthread_get_stackaddr_np(library.pthread_self())
        return high - library.pthread_get_stacksize_np(library.pthread_self()), high

    return bounds


def _of_windows(library: Any) -> _Bounds:
    low, high = ctypes.c_size_t(), ctypes.c_size_t()

    def bounds() -> tuple[int, int]:
        library.GetCurrentThreadStackLimits(ctypes.byref(low), ctypes.byref(high))
        return low.value, high.value

    return bounds


@functools.cache
def _bounds() -> _Bounds | None:
    """What tells where the stack of a thread lies, if anything does."""
    try:
        if sys.platform == "win32":
            return _of_windows(ctypes.windll.kernel32)
        library = ctypes.PyDLL(None)
        return _of_mac(library) if sys.platform == "darwin" else _of_linux(library)
    except (AttributeError, OSError):
        return None


def _answer(context: int, here: int) -> None:
    """Tell a program where the stack of its thread lies."""
    bounds = _bounds()
    low, high = (here - _SURE, 0) if bounds is None else bounds()
    deepest = low + (max(high, here) - low) // _LEFT
    words = (ctypes.c_size_t * 2).from_address(context + 8 * CONTEXT_DEEPEST)
    words[:] = [deepest, high if threading.current_thread() is threading.main_thread() else 0]


_HOST = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_size_t)(_answer)


@functools.cache
def define_depth() -> None:
    """Let programs ask."""
    address = ctypes.cast(_HOST, ctypes.c_void_p).value
    assert address is not None
    define_symbol(STACK_BOUNDS, address)
