"""Every error bindrune raises, one class per cause.

Each class documents the cause, an example that fails, and the remedy; each message names the function, the
argument and the user's line.  `user_line` finds that line, `for_users` takes the engine's frames out of tracebacks, so
that the first thing a reader sees is their own code.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar, cast

import numpy as np

__all__ = [
    "REWRITTEN",
    "BatchSizeError",
    "BindruneError",
    "CotangentError",
    "EscapedValueError",
    "ExportError",
    "GradientCheckError",
    "GraphError",
    "MutationError",
    "NonDifferentiableError",
    "NonFiniteError",
    "NonScalarOutputError",
    "StaticArgumentError",
    "TangentError",
    "TracedConditionError",
    "UnreachableError",
    "UnsupportedError",
    "for_users",
    "is_engine",
    "user_frames",
    "user_line",
    "warn_user",
]

_F = TypeVar("_F", bound=Callable[..., Any])

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_NUMPY = os.path.dirname(os.path.abspath(np.__file__))
_SCIPY = os.path.join(os.path.dirname(_NUMPY), "scipy")


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

    Cause: a length, a loop count, a conversion or a Python container needs a single value, and it differs between
    lanes.  (Conditions of `if`, `while`, `and`, `or`, `not` may differ: each lane takes its own way.  They may not in
    code without source text.)

    Fails::

        br.vmap(lambda n: np.zeros(int(n)))(np.ones(3))

    Remedy: select with `np.where(condition, a, b)`, or use arrays of the largest length with a mask.
    """


class UnreachableError(BindruneError, TypeError):
    """Code that cannot see stand-ins was given one: it would have computed with a frozen constant.

    Cause: a C function, or a conversion such as `float`, in code that lifting does not reach.

    Fails::

        br.grad(lambda x: math.frexp(x)[0])(2.0)

    Remedy: use the NumPy function of that name, or wrap the foreign code with rules of its own.
    """


class UnsupportedError(BindruneError, NotImplementedError):
    """An operation has no rule for the transformation that met it.

    Fails::

        br.grad(lambda x: np.sum(x * np.packbits(x > 0)))(np.ones(1))

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


class GradientCheckError(BindruneError, AssertionError):
    """Derivatives disagree with differences of the function's values.

    Cause: a derivative rule of one's own is wrong, or the function is not differentiable at the point it was checked
    at (a kink, a jump, random numbers inside).

    Fails::

        double = br.custom_jvp(lambda x: 2 * x)
        double.defjvps(lambda tangent, y, x: 4 * tangent)
        br.check_grads(double, (1.0,))

    Remedy: the message lists the worst elements, with the ratio of the two; correct the rule, or check at another
    point.  Larger `atol` and `rtol` are for functions whose values are themselves inexact.
    """


class GraphError(BindruneError, ValueError):
    """A graph, or the text of one, is not a program.

    Cause: a graph was built or changed by hand, or its text was, and a value is used where it is not defined, or has
    another type than its operation gives; or the text holds what text cannot say (an abbreviated array, an object).

    Fails::

        from bindrune.graph.text import parse
        parse("main(%0: f64[3]): %1: f64[3] = sin(%0) return %1")

    Remedy: the message names the graph, the node and the user's line, and what is wrong there.  Text that is to be
    parsed comes from `to_text`, with one node on each line.
    """


class NonFiniteError(BindruneError, FloatingPointError):
    """Under `debug_nans` a value or a derivative is infinite or not a number.

    Fails::

        with br.debug_nans():
            br.grad(np.sqrt)(0.0)

    Remedy: the message names the operation, the user's line and the element; keep the operand away from the point
    (`np.where`, `np.maximum`, a small constant inside the root or logarithm).
    """


class StaticArgumentError(BindruneError, TypeError):
    """A static argument of `jit` cannot be compared by value.

    Cause: static arguments are part of what a staged function is known by, and need a hash that does not change.

    Fails::

        br.jit(lambda x, sizes: x.reshape(sizes), static_argnums=1)(np.ones(4), [2, 2])

    Remedy: pass a tuple instead of a list, or leave the argument traced.
    """


class ExportError(BindruneError, ValueError):
    """A function cannot be exported as a library for C.

    Cause: its program calls Python while it runs (an operation without machine code, a print, a callback), decides the
    lengths of results by values, or changes what is neither an argument nor a result; or there is no compiler to link
    with.

    Fails::

        br.export(lambda x: print(x) or 2 * x, np.ones(3))

    Remedy: the message lists the operations with the user's lines.  Leave prints and callbacks to the caller, write
    what has no machine code with other operations, pass and return what would be changed.
    """


class KeyReuseWarning(UserWarning):
    """Under `br.random.check_keys`: a random key was used for the second time.

    Cause: two draws from one key are the same numbers, or functions of them; so are a draw and the keys of a split.

    Warns::

        with br.random.check_keys():
            key = br.random.key(0)
            noise = br.random.normal(key, (3,)) + br.random.normal(key, (3,))

    Remedy: split the key first (`br.random.split`); where the same draw is meant, use `br.random.clone(key)`.
    """


def is_engine(code: CodeType) -> bool:
    """Whether code belongs to bindrune itself, to NumPy or to SciPy, rather than to the user."""
    return code.co_filename.startswith((_PACKAGE, _NUMPY, _SCIPY))


def user_frames() -> Iterator[FrameType]:
    """The frames of the user's code that lead to the caller, the nearest first."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if not is_engine(frame.f_code):
            yield frame
        frame = frame.f_back


def _user_frame() -> FrameType | None:
    """The user's frame nearest to the caller."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_engine(frame.f_code):
        frame = frame.f_back
    return frame


def user_line() -> str:
    """The user's file, line and function nearest to the caller, as ``file:line, in function``."""
    frame = _user_frame()
    if frame is None:
        return "<unknown line>"
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {_written_name(frame)}"


REWRITTEN = "_of_lanes"
"""Ends the names of functions and variables that rewriting makes (`lift.rewrite`)."""


def _written_name(frame: FrameType) -> str:
    """The name of the function that the user wrote around a line."""
    outer: FrameType | None = frame
    while outer is not None and (outer.f_code.co_name.endswith(REWRITTEN) or is_engine(outer.f_code)):
        outer = outer.f_back
    return (outer or frame).f_code.co_name


_warned: dict[Any, Any] = {}


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the user's line, once for each message."""
    frame = _user_frame()
    file, line = ("<unknown>", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
    warnings.warn_explicit(message, category, file, line, registry=_warned)


def for_users(function: _F) -> _F:
    """Make a function one that users call: errors leave it with a traceback whose frames are theirs.

    An error raised by the engine itself keeps no frame of it; its message carries what is to be known.  With
    ``BINDRUNE_TRACEBACK=full`` in the environment every frame stays.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        try:
            return function(*arguments, **keywords)
        except BaseException as error:
            if os.environ.get("BINDRUNE_TRACEBACK") != "full":
                error.__traceback__ = _without_engine(error.__traceback__)
            cause = error.__cause__
            if isinstance(cause, (UnreachableError, TracedConditionError)) and _is_disguise(error):
                raise cause.with_traceback(error.__traceback__) from None
            raise

    return cast(_F, call)


def _is_disguise(error: BaseException) -> bool:
    """Whether an error is what C code, NumPy or SciPy made of a refusal that met them unawares."""
    if isinstance(error, SystemError) or str(error) == "setting an array element with a sequence.":
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and is_engine(last.tb_frame.f_code)


def _without_engine(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the engine's frames."""
    frames: list[TracebackType] = []
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            frames.append(traceback)
        traceback = traceback.tb_next
    kept: TracebackType | None = None
    for step in reversed(frames):
        kept = TracebackType(kept, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return kept
