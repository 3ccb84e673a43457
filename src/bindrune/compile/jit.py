"""`jit`: a function staged to a graph on its first call for a signature, and run from the graph afterwards.

For one signature there may be several *paths*, told apart by the guards in their graphs; a call takes the first whose
guards hold, and stages another where none does.  A path also remembers what the function captured: arrays are read at
each call, and where anything else is not what it was the function is staged again.

Whatever cannot be staged runs as it would without `jit`; `explain` says what, where and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..core.errors import (
    BindruneError,
    EscapedValueError,
    TracedConditionError,
    UnreachableError,
    for_users,
    warn_user,
)
from ..graph.dims import Unstageable
from ..graph.graph import Graph
from ..transforms.calls import Decorated
from .effects import AssumptionFailed, GuardFailed, NanFound
from .execution import BACKENDS, executable
from .path import OTHERWISE, Direct, Path, record
from .signature import Dynamics, Signature, Statics
from .witnesses import Now

__all__ = ["Jit", "disable_jit", "jit"]

_MOST_PATHS = 64
"""Of one signature; a function that decides by ever new values is not worth staging."""
_MOST_DIRECT = 4
"""So many paths are tried before the arguments are looked at."""
_MOST_FAILURES = 3
"""After so many it is not tried again."""
_OF_STAGING = (EscapedValueError, TracedConditionError, UnreachableError)
"""Errors that plain Python does not have, because it has no stand-ins."""
_SHAPES = 3
"""After so many shapes of one rank a function is told about `dynamic`."""

_NAN = "a derivative is not a number in this call, and zeros are kept zero"

_disabled: ContextVar[bool] = ContextVar("disabled", default=False)


@contextmanager
def disable_jit(disable: bool = True) -> Any:
    """Within this context functions under `jit` run as plain Python.

    >>> import numpy as np, bindrune as br
    >>> with br.disable_jit():
    ...     br.jit(lambda x: x + 1)(np.ones(2))
    array([2., 2.])
    """
    token = _disabled.set(disable)
    try:
        yield
    finally:
        _disabled.reset(token)


class Stats:
    """What has become of the calls of one function under `jit`.

    Attributes:
        stagings: how often it was staged.
        hits: how many calls ran a graph that was there.
        guards: how many values its staging was decided by.
        eager: how many calls ran as plain Python, because the function could not be staged.
        reasons: why it was staged, each time.
    """

    def __init__(self) -> None:
        self.stagings = 0
        self.hits = 0
        self.guards = 0
        self.eager = 0
        self.reasons: list[str] = []

    def __repr__(self) -> str:
        counts = f"stagings={self.stagings}, hits={self.hits}, guards={self.guards}, eager={self.eager}"
        return f"Stats({counts}, reasons={self.reasons})"


class Jit(Decorated):
    """`jit`."""

    transformation = "jit"

    def __init__(
        self,
        function: Callable[..., Any],
        static_argnums: Any = (),
        static_argnames: Any = (),
        dynamic: bool = False,
        backend: str | None = None,
        fast_math: bool = False,
    ) -> None:
        super().__init__(function)
        self.original = function
        """What is staged; `function` is that, or lifted for a transformation around the call."""
        self.statics = Statics(function, static_argnums, static_argnames)
        self.dynamic = Dynamics.of(function, dynamic)
        if backend not in (None, "interpreter", *BACKENDS):
            raise ValueError(f"br.jit: there is no backend {backend!r}; there are interpreter, {', '.join(BACKENDS)}")
        self.backend = backend
        self.fast_math = fast_math
        self.opened: set[Any] = set()
        """Captured numbers that have changed, and therefore are inputs."""
        self._paths: dict[Any, list[Path]] = {}
        self._direct: list[Direct] = []
        """The latest paths that can be run without a signature."""
        self._closed: set[Any] = set()
        """Signatures for which lengths are taken as they are."""
        self.meets_nan: set[Any] = set()
        """Signatures for which derivatives were not numbers."""
        self._stats = Stats()
        self._shapes: dict[Any, set[Any]] = {}
        """The shapes that were met, by ranks and dtypes."""
        self._failures: Counter[Any] = Counter()
        """By signature how often it could not be staged."""

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if _disabled.get():
            return self.function(*arguments, **keywords)
        for run in self._direct:
            result = run(arguments, keywords)
            if result is not OTHERWISE:
                self._stats.hits += 1
                return result
        signature = Signature(self.statics, arguments, keywords, self.dynamic)
        if signature.strange is not None:
            return self._plainly(signature)
        key = signature.closed if signature.key in self._closed else signature.key
        paths = self._paths.get(key)
        if paths is None:
            paths = self._paths[key] = []
        reason = ""
        if self._failures[key] >= _MOST_FAILURES:
            return self._plainly(signature)
        for i, path in enumerate(paths):
            try:
                now = path.look()
                if now.stale:
                    reason = now.stale
                    continue
                if not path.lies(signature, now):
                    reason = "an array lies in memory another way"
                    continue
                result = self._run(path, signature, now)
            except Unstageable:
                # A transformation around the call needs what the graph does not have.
                return self._plainly(signature)
            except GuardFailed as failed:
                reason = f"a value is {failed.found!r} in this call, and Python decides by it"
                if isinstance(failed, NanFound):
                    reason = _NAN
                    self.meets_nan.add(signature.key)
                if isinstance(failed, AssumptionFailed):
                    reason = "a slice reaches beyond its array in this call"
                    self._closed.add(signature.key)
                continue
            if i:
                paths.insert(0, paths.pop(i))
            self._stats.hits += 1
            direct = path.direct(signature)
            if direct is not None and direct not in self._direct:
                self._direct[:] = [direct, *self._direct[: _MOST_DIRECT - 1]]
            return result
        if len(paths) >= _MOST_PATHS:
            return self._plainly(signature)
        return self._stage_and_run(signature, reason)

    def _plainly(self, signature: Signature) -> Any:
        """The result without staging."""
        self._stats.eager += 1
        return self.function(*signature.arguments, **signature.keywords)

    def _run(self, path: Path, signature: Signature, now: Now) -> Any:
        """The result by a path.  Errors are raised by plain Python, whose traceback and effects are the user's."""
        if path.is_confused(signature, now):
            return self._plainly(signature)
        try:
            return path.run(signature, now)
        except Exception as error:
            if path.shows:
                raise
            result = self._plainly(signature)
            if not path.handles:
                self._differs(error)
            return result

    def _differs(self, error: Exception) -> None:
        """Say that an error was not the user's: plain Python has none.

        Errors of ours are about derivatives, which plain Python takes later.
        """
        if isinstance(error, BindruneError) and not isinstance(error, _OF_STAGING):
            return
        warn_user(f"{self}: the program raised {error!r}, which plain Python does not", RuntimeWarning)

    def _stage_and_run(self, signature: Signature, reason: str) -> Any:
        self._stats.reasons.append(reason or self._novelty(signature))
        self._stats.stagings += 1
        unexpected: Exception | None = None
        for open_lengths in (True, False):
            if open_lengths and signature.key in self._closed:
                continue
            try:
                path = record(self, signature, open_lengths)
            except Unstageable as refused:
                self._stats.reasons[-1] += f"; {refused}"
                self._closed.add(signature.key)
                continue
            except Exception as error:
                if isinstance(error, BindruneError) and not isinstance(error, _OF_STAGING):
                    raise
                self._stats.reasons[-1] += f"; {type(error).__name__} while it was staged: {error}"
                if isinstance(error, _OF_STAGING):
                    self._closed.add(signature.key)  # it may have been for a length that is not known
                    continue
                unexpected = error
                break
            self._stats.guards += path.guards
            try:
                result = self._first_run(path, signature)
            except AssumptionFailed:
                self._closed.add(signature.key)
                continue
            except NanFound:
                self.meets_nan.add(signature.key)
                return self._stage_and_run(signature, _NAN)
            except GuardFailed:
                break
            except Unstageable as refused:
                self._stats.reasons[-1] += f"; {refused}"
                break
            self._paths.setdefault(signature.key if open_lengths else signature.closed, []).insert(0, path)
            return result
        result = self._plainly(signature)
        if unexpected is not None:
            self._differs(unexpected)
        self._failures[signature.closed if signature.key in self._closed else signature.key] += 1
        return result

    def _first_run(self, path: Path, signature: Signature) -> Any:
        """The result by a new path.

        Where Python decided by a number that machine code rounds another way, the path is left to the interpreter,
        whose numbers are those that Python saw, to the last bit.
        """
        try:
            return self._run(path, signature, path.look())
        except (AssumptionFailed, NanFound):
            raise
        except GuardFailed:
            path.backend = "interpreter"
            return self._run(path, signature, path.look())

    def _novelty(self, signature: Signature) -> str:
        """Why a signature is staged that has not been met before."""
        self._count_shapes(signature)
        if len(self._paths) == 1:
            return "the first call"
        return f"arguments of new types: {', '.join(f'{t.dtype}{list(t.shape)}' for t in signature.types)}"

    def _count_shapes(self, signature: Signature) -> None:
        """Tell about `dynamic`, once, where shapes of the same ranks are staged again and again."""
        shapes = self._shapes.setdefault(tuple((len(t.shape), t.dtype) for t in signature.types), set())
        before = len(shapes)
        shapes.add(tuple(t.shape for t in signature.types))
        if before == _SHAPES < len(shapes) and self.dynamic is None:
            warn_user(
                f"{self}: staged for {_SHAPES + 1} shapes of the same rank; br.jit(f, dynamic=True) stages once for "
                "all leading lengths",
                UserWarning,
            )

    def stats(self) -> Stats:
        """How often the function was staged and why, and how many calls found a graph."""
        return self._stats

    @for_users
    def explain(self, *arguments: Any, **keywords: Any) -> str:
        """What becomes of each statement for these arguments: staged, unrolled, guarded or left to NumPy, and why.

        Returns:
            A text with a line for each line of the function that was decided about.
        """
        signature = Signature(self.statics, arguments, keywords, self.dynamic)
        reasons: dict[str, None] = {}
        if signature.strange is not None:
            array = signature.strange
            return f"{self}: runs as plain Python, because\n  it is given a {type(array).__name__} of {array.dtype}"
        for open_lengths in (True, False):
            if open_lengths and signature.key in self._closed:
                continue
            try:
                return record(self, signature, open_lengths).report(str(self))
            except Unstageable as refused:
                reasons[str(refused)] = None
            except Exception as error:
                if isinstance(error, BindruneError) and not isinstance(error, _OF_STAGING):
                    raise
                reasons[f"{type(error).__name__}: {error}"] = None
        return "\n  ".join([f"{self}: runs as plain Python, because", *reasons])

    def graph(self, *arguments: Any, **keywords: Any) -> Graph:
        """The graph for these arguments."""
        signature = Signature(self.statics, arguments, keywords, self.dynamic)
        return record(self, signature, True).graph

    def lower(self, *arguments: Any, **keywords: Any) -> Any:
        """The machine code for these arguments, layer by layer.

        Returns:
            An object with the texts of the program as loops (`loops`), in LLVM's language (`llvm`) and in the machine's
            (`asm`), and the operations that are left to NumPy (`callbacks`).

        >>> import numpy as np, bindrune as br
        >>> print(br.jit(lambda x: 2 * x + 1).lower(np.ones(8)).loops)  # doctest: +ELLIPSIS
        <lambda>(i0: float64[8]) -> o0: float64[8]:
            for ... below 8:
                ...
        """
        return executable(self.graph(*arguments, **keywords), "native", self.fast_math)

    def clear(self) -> None:
        """Forget everything that was staged."""
        self._paths.clear()
        self._direct.clear()


def jit(
    f: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    dynamic: bool = False,
    donate_argnums: int | Sequence[int] = (),
    backend: str | None = None,
    fast_math: bool = False,
) -> Any:
    """Compile a function: the same results, faster.

    Python's control flow on traced values becomes control flow of the program; loops stay loops.  What cannot be
    staged is unrolled, or decided for the call at hand and guarded, and runs correctly all the same.

    Args:
        f: a function of NumPy arrays, numbers and trees of them.  Without it a decorator is returned.
        static_argnums: positions of arguments that are taken by value; they need a hash.
        static_argnames: the same by name.
        dynamic: whether leading lengths of arrays are left open, so that one graph serves all of them; for some
            arguments alone the annotation `br.Dynamic` says so.
        donate_argnums: accepted for code that comes from JAX; programs copy what they must not write to, and no more.
        backend: ``"native"`` (machine code) or ``"interpreter"`` (the graph performed by NumPy); by default what
            ``BINDRUNE_BACKEND`` in the environment says, else native.
        fast_math: whether results may differ in their last digits, as they do where the identities of real numbers
            are used to compute less (sums and products in another order, factors in place of quotients).

    Returns:
        A function like `f`, with the methods `stats()` and `explain(*arguments)`.

    Raises:
        StaticArgumentError: a static argument has no hash.

    >>> import numpy as np, bindrune as br
    >>> @br.jit
    ... def halvings(x):
    ...     n = 0
    ...     while x > 1:
    ...         x, n = x / 2, n + 1
    ...     return n
    >>> halvings(10.0), halvings(1000.0), halvings.stats().stagings
    (4, 10, 1)
    """
    if f is None:
        return lambda function: jit(
            function,
            static_argnums=static_argnums,
            static_argnames=static_argnames,
            dynamic=dynamic,
            donate_argnums=donate_argnums,
            backend=backend,
            fast_math=fast_math,
        )
    return Jit(f, static_argnums, static_argnames, dynamic, backend, fast_math)
