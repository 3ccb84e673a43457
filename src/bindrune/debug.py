"""`br.debug`: a transformation that prints what a function does, and the namespace of everything for debugging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO

from .transforms import debug as _debug
from .transforms.nans import debug_nans

__all__ = ["debug"]


class Debug:
    """Print each operation of a function as it is performed: ``br.debug(f)(*args)``.

    A line shows the operation, its results and operands (dtype, shape, a few values), and the user's line.  Where a
    derivative is taken it begins with the pass.  ``br.debug(br.grad(f))`` shows all operations of both passes, those
    of the backward pass with the line they are the derivative of; ``br.grad(br.debug(f))`` shows the operations of
    `f` and then the cotangents that come back through them.  Results and derivatives are unchanged.

    Args:
        f: any function of NumPy arrays, numbers and trees of them.  Shown are operations on what depends on its
            arguments, and writes into arrays that do so far.  Not shown is what `f` does with constants alone, such
            as ``np.zeros(3)`` or the sine of a number it was written with; what is passed as an argument is shown.
        file: where to print; standard output by default.

    Returns:
        A function of the same arguments.

    Also here: `record` and `profile` for whole functions, `nans` (which is `br.debug_nans`), and `print`,
    `callback` and `breakpoint` to be called inside.

    >>> import numpy as np, bindrune as br
    >>> br.debug(lambda x: np.sum(x * x))(np.array([1.0, 2.0]))  # doctest: +ELLIPSIS
    multiply -> float64[2] [1. 4.]  of float64[2] [1. 2.], float64[2] [1. 2.]  at ..., in <lambda>
    sum -> float64 5  of float64[2] [1. 4.]...  at ..., in <lambda>
    np.float64(5.0)
    """

    record = staticmethod(_debug.record)
    profile = staticmethod(_debug.profile)
    print = staticmethod(_debug.print_values)
    callback = staticmethod(_debug.call_back)
    breakpoint = staticmethod(_debug.breakpoint_here)
    nans = debug_nans

    def __call__(self, f: Callable[..., Any], file: TextIO | None = None) -> Callable[..., Any]:
        return _debug.Debugged(f, file)

    def __repr__(self) -> str:
        return "<br.debug>"


debug = Debug()
