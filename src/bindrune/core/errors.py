"""Every error bindrune raises, one class per cause.

Each class documents the cause, an example that fails, and the remedy; each message names the function, the
argument and the user's line.  `user_line` finds that line, `user_traceback` removes the engine's frames from a
traceback, so that the first thing a reader sees is their own code.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType, TracebackType

__all__ = [
    "BatchSizeError",
    "BindruneError",
    "CotangentError",
    "EscapedValueError",
    "MutationError",
    "NonDifferentiableError",
    "NonScalarOutputError",
    "TangentError",
    "TracedConditionError",
    "UnreachableError",
    "UnsupportedError",
    "user_line",
    "user_traceback",
]

_PACKAGE = str(Path(__file__).resolve().parent.parent)
_NUMPY = str(Path(sys.modules["numpy"].__file__ or "").resolve().parent) if "numpy" in sys.modules else "\0"


class BindruneError(Exception):
    """Base class of all errors raised by bindrune."""


class EscapedValueError(BindruneError, RuntimeError):
    """A stand-in was used after the transformation that made it had ended.

    Cause: the transformed function stored an intermediate value in a global, a list or an attribute, and code
    outside used it later.  The value belonged to a computation that no longer exists.

    Fails::

        kept = []
        br.grad(lambda x: kept.append(x * x) or np.sum(x))(np.ones(3))
        kept[0] + 1

    Remedy: return the value from the function (`has_aux=True` returns it beside the result).
    """


class NonDifferentiableError(BindruneError, TypeError):
    """A derivative was asked for with respect to something that has none.

    Cause: an argument leaf is an integer, a boolean, a string or another object without a tangent space.

    Fails::

        br.grad(lambda x: x * x)(3)

    Remedy: pass a float (`3.0`, or `x.astype(float)`), or choose other arguments with `argnums`.
    """


class NonScalarOutputError(BindruneError, TypeError):
    """`grad` was applied to a function whose result is not one real number.

    Fails::

        br.grad(lambda x: x * x)(np.ones(3))

    Remedy: reduce the result (`np.sum`, `np.mean`), or use `br.vjp` with a cotangent of the result's shape.
    """


class TangentError(BindruneError, TypeError):
    """A tangent does not fit its primal in structure, shape or dtype.

    Fails::

        br.jvp(np.sin, (np.ones(3),), (np.ones(4),))

    Remedy: give each tangent the shape and dtype of the argument leaf whose path the message names.
    """


class CotangentError(BindruneError, TypeError):
    """A cotangent given to a pullback does not fit the function's result.

    Fails::

        y, pullback = br.vjp(np.sin, np.ones(3))
        pullback(np.ones(4))

    Remedy: give each cotangent the shape and dtype of the result leaf whose path the message names.
    """


class BatchSizeError(BindruneError, ValueError):
    """The arguments of a batched function do not agree on what to map over.

    Fails::

        br.vmap(lambda a, b: a + b)(np.ones(3), np.ones(4))

    Remedy: make the mapped axes equally long, or exclude an argument with `in_axes=None`.
    """


class TracedConditionError(BindruneError, TypeError):
    """Python asked for one value where a batched function has one per lane.

    Cause: `if`, `while`, `float`, `int` or an index needs a single number, and the value differs between lanes.

    Fails::

        br.vmap(lambda x: x if x > 0 else -x)(np.ones(3))

    Remedy: select with `np.where(condition, a, b)`.
    """


class UnreachableError(BindruneError, TypeError):
    """Code that cannot see stand-ins was given one: it would have computed with a frozen constant.

    Cause: a C function, or a conversion such as `float`, in code that lifting does not reach.

    Fails::

        br.grad(lambda x: float.__add__(1.0, x))(2.0)

    Remedy: use the NumPy function of that name, or wrap the foreign code with rules of its own.
    """


class UnsupportedError(BindruneError, NotImplementedError):
    """An operation has no rule for the transformation that met it.

    Remedy: the message names the operation and, where there is one, an equivalent that is supported.
    """


class MutationError(BindruneError, ValueError):
    """A write into an array has no meaning under the transformation.

    Cause: an array that is the same for all lanes of a `vmap` was written with values that differ between lanes, or
    an array that lifting could not see was written with traced values.

    Fails::

        out = np.zeros(3)
        br.vmap(lambda x, out: out.__setitem__(0, x), in_axes=(0, None))(np.ones(4), out)

    Remedy: map over the array too, or create it inside the function and return it.
    """


def _is_engine(frame: FrameType) -> bool:
    """Whether a frame belongs to bindrune itself or to NumPy, rather than to the user."""
    filename = frame.f_code.co_filename
    return filename.startswith((_PACKAGE, _NUMPY))


def user_line() -> str:
    """The user's file, line and function nearest to the caller, as ``file:line, in function``."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_engine(frame):
        frame = frame.f_back
    if frame is None:
        return "<unknown line>"
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"


def user_traceback(error: BaseException) -> BaseException:
    """Give `error` a traceback whose frames are the user's: those of the engine are left out.

    An error raised by the engine itself keeps no frame of it; its message carries what is to be known.
    """
    frames: list[TracebackType] = []
    step = error.__traceback__
    while step is not None:
        if not step.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            frames.append(step)
        step = step.tb_next
    kept: TracebackType | None = None
    for step in reversed(frames):
        kept = TracebackType(kept, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return error.with_traceback(kept)
