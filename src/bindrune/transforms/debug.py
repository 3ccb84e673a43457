"""Showing what a function does: `br.debug` and what belongs to it.

``br.debug(f)`` prints each operation as it is performed, ``br.debug.record(f)`` returns them all, ``br.debug.profile``
says where the time goes.  Results and derivatives are those of `f`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

from ..core import trees
from ..core.errors import for_users, user_frames
from .debug_report import Profile, Table, performed, pulled
from .reverse import lowest
from .tracing import Traced
from .watching import Event, Listener, nearest

__all__ = ["Debugged", "breakpoint_here", "call_back", "print_values", "profile", "record"]


class _Printer(Listener):
    """Writes a line for each event."""

    __slots__ = ("file",)

    def __init__(self, file: TextIO | None) -> None:
        self.file = file

    def performed(self, event: Event) -> None:
        _write(str(performed(event)), self.file)

    def pulled(self, event: Event) -> None:
        _write(str(pulled(event)), self.file)


def _write(text: str, file: TextIO | None) -> None:
    (file or sys.stdout).write(text + "\n")


class _Recorder(Listener):
    """Fills a table."""

    __slots__ = ("table",)

    def __init__(self) -> None:
        self.table = Table()

    def performed(self, event: Event) -> None:
        self.table.append(performed(event))

    def pulled(self, event: Event) -> None:
        self.table.append(pulled(event))


class _Counter(Listener):
    """Fills a profile."""

    __slots__ = ("profile",)

    def __init__(self) -> None:
        self.profile = Profile()

    def performed(self, event: Event) -> None:
        self.profile.add(event.op.name, nearest(event.place.stack), event.seconds)

    def pulled(self, event: Event) -> None:
        self.profile.add(f"pullback of {event.op.name}", nearest(event.place.stack), event.seconds)


class Debugged(Traced):
    """A function that prints what it does."""

    transformation = "debug"

    def __init__(self, function: Callable[..., Any], file: TextIO | None) -> None:
        super().__init__(function)
        self.file = file

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.trace(_Printer(self.file), arguments, keywords)


class Recording(Traced):
    """A function that also returns a table of what it did."""

    transformation = "debug.record"

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> tuple[Any, Table]:
        listener = _Recorder()
        return self.trace(listener, arguments, keywords), listener.table


def record(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns ``(result, table)``, the table a list of records of the operations performed.

    These are those that `br.debug` shows: operations on what depends on the arguments, not on constants alone.
    ``str(table)`` shows it as text, ``table.to_html(path)`` writes a page.  Under a derivative take the table out as
    auxiliary result; what comes back through the operations is added to it in the backward pass.

    >>> import numpy as np, bindrune as br
    >>> gradient, table = br.grad(br.debug.record(lambda x: np.sum(x * x)), has_aux=True)(np.array([1.0, 2.0]))
    >>> [(r.phase, r.operation) for r in table]  # doctest: +NORMALIZE_WHITESPACE
    [('forward', 'multiply'), ('forward', 'sum'),
     ('backward', 'pullback of sum'), ('backward', 'pullback of multiply')]
    """
    return Recording(f)


class Profiled(Traced):
    """A function that also returns where its time went."""

    transformation = "debug.profile"

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> tuple[Any, Profile]:
        listener = _Counter()
        return self.trace(listener, arguments, keywords), listener.profile


def profile(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns ``(result, profile)``: time and calls by operation and by line of the user's.

    ``str(profile)`` is a table.  The time of a derivative's operations counts for the line differentiated.

    >>> import numpy as np, bindrune as br
    >>> _, profile = br.debug.profile(br.grad(lambda x: np.sum(np.sin(x))))(np.ones(3))
    >>> sorted((usage.name, usage.calls) for usage in profile.operations)
    [('cos', 1), ('multiply', 1), ('sin', 1), ('sum', 1)]
    """
    return Profiled(f)


# ------------------------------------------------------------------------------------------- called in user code


def print_values(template: str, *values: Any, **named: Any) -> None:
    """Print the values that stand-ins stand for; under `vmap` those of all lanes, along a first axis.

    Args:
        template: a format string, as for `str.format`.
        values: arrays, numbers, trees of them, or anything else to be formatted.
        named: the same by name.

    >>> import numpy as np, bindrune as br
    >>> def f(x):
    ...     br.debug.print("x = {} of shape {shape}", x, shape=x.shape)
    ...     return x * x
    >>> _ = br.vmap(br.grad(f))(np.array([1.0, 2.0]))
    x = [1. 2.] of shape ()
    """
    if not isinstance(template, str):
        raise TypeError(f"br.debug.print takes a format string first, not {type(template).__name__}")
    shown = [trees.map_leaves(lowest, v) for v in values]
    _write(template.format(*shown, **{name: trees.map_leaves(lowest, v) for name, v in named.items()}), None)


def call_back(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
    """Call a function with the values that stand-ins stand for; under `vmap` with those of all lanes.

    The arrays are copies, the result is dropped, and derivatives do not see the call.

    >>> import numpy as np, bindrune as br
    >>> seen = []
    >>> br.grad(lambda x: br.debug.callback(seen.append, x) or x * x)(3.0)
    np.float64(6.0)
    >>> seen
    [3.0]
    """
    function(
        *(trees.map_leaves(_own, a) for a in arguments),
        **{name: trees.map_leaves(_own, a) for name, a in keywords.items()},
    )


def _own(value: Any) -> Any:
    value = lowest(value)
    return value.copy() if isinstance(value, np.ndarray) else value


def breakpoint_here() -> None:
    """Open `pdb` on the user's line.  Stand-ins show their values.

    >>> import bindrune as br
    >>> br.debug.breakpoint()  # doctest: +SKIP
    """
    import pdb

    pdb.Pdb().set_trace(next(user_frames()))
