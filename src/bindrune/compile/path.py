"""One way through a function: a graph, where its inputs come from, and where its outputs go.

Besides arguments and results, a function reads what it captures and changes what it is given.  Captured arrays are
inputs; everything else it read is remembered, and compared at each call.  What it changes (arrays, items, attributes,
global variables) follows the results among the outputs, and is put in its place after each run.
"""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.array import Array
from ..core.errors import UnsupportedError, user_line
from ..core.handler import evaluate
from ..core.protocol import hooks
from ..graph.dims import Unstageable, linear
from ..graph.graph import PYTHON, Graph, Type
from ..lift.session import Session
from ..lift.stager import current
from ..transforms.calls import as_leaf, overlap
from .aliases import SharedWriteFound, Sharing
from .changes import Change, Changes, duplicated
from .control import call
from .effects import GuardFailed, Test, guard, shown
from .execution import executable, execute
from .layouts import is_in_order
from .recipes import Recipe
from .regions import RegionStager
from .signature import Signature
from .staging import Staging
from .witnesses import UNTOUCHED, Now, Witnesses

__all__ = ["OTHERWISE", "Direct", "Path", "Surroundings", "record"]

Direct = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Runs a path for arguments and keywords."""

OTHERWISE = object()
"""Given in place of a result: this call is not one of the direct ones."""


class Surroundings(NamedTuple):
    """What the inputs and outputs of a path's graph are, beside the arguments' leaves and the results."""

    lengths: Sequence[tuple[int, int]]
    """The inputs behind the leaves: of which leaf the length, and along which axis."""
    captured: Sequence[Any]
    """The inputs behind those: what the function captures, as it is now."""
    written: Sequence[int]
    """The outputs behind the results: new contents of which leaves, or behind these of which captured arrays."""
    changes: bool
    """Whether the outputs behind those change anything else."""


class Path:
    """One staged way.

    Attributes:
        graph: from the arguments' leaves, lengths that are open, and captured arrays to results and changes.
        guards: how many values it was decided by.
        shows: whether it does something that others see while it runs.
        handles: whether the function handles errors, so that one of the program's may be none of the function's.
    """

    def __init__(
        self,
        graph: Graph,
        lengths: Sequence[tuple[int, int]],
        held: Sequence[Any],
        captured: Sequence[Any],
        result: Recipe,
        written: Sequence[int],
        changes: Sequence[tuple[Change, Recipe]],
        notes: Sequence[tuple[str, str, str]],
        witnesses: Witnesses,
        backend: str | None,
        fast_math: bool,
        handles: bool,
        ordered: bool,
    ) -> None:
        self.backend = backend
        self.fast_math = fast_math
        self.graph = graph
        self.guards = sum(node.op is guard for node in graph.nodes)
        self.shows = _shows(graph)
        self.handles = handles
        self._ordered = ordered
        self._lengths = lengths
        self._held = held
        self._captured = captured
        self._result = result
        self._written = written
        self._changes = changes
        self._notes = notes
        self._witnesses = witnesses
        self._direct: tuple[Direct | None] | None = None

    def look(self) -> Now:
        """What the function captures, as it is now."""
        return self._witnesses.now()

    @property
    def surroundings(self) -> Surroundings:
        """What the graph's inputs and outputs are, beside the arguments' leaves and the results."""
        return Surroundings(self._lengths, self.look().of(self._held), self._written, bool(self._changes))

    def run(self, signature: Signature, now: Now) -> Any:
        """The result for some arguments, after the function's changes were made."""
        leaves = signature.leaves
        lengths = [np.shape(leaves[i])[axis] for i, axis in self._lengths]
        values = [*map(as_leaf, leaves), *lengths, *now.of(self._held)]
        waiting: list[Callable[[], None]] = []
        token = shown.set(waiting) if self.shows and self.guards else None
        try:
            if any(isinstance(v, Array) for v in values):
                found = list(evaluate(call, values, {"graph": self.graph, "backend": self.backend}))
            else:
                found = execute(self.graph, values, self.backend, self.fast_math)
        except GuardFailed:
            waiting.clear()
            raise
        finally:
            if token is not None:
                shown.reset(token)
            for show in waiting:
                show()
        outputs = iter(found)
        result = self._result.make(outputs)
        given = self._given(signature, now)
        for target in self._written:
            given[target][...] = next(outputs)
        for change, recipe in self._changes:
            change.locate(signature.arguments, signature.keywords).set(recipe.make(outputs, given))
        return result

    def direct(self, signature: Signature) -> Direct | None:
        """`run` for calls just like one that was served: plain arrays and numbers of the very types it was staged for.

        It finds out whether they are, and gives `OTHERWISE` where they are not, or anything else is not as it is in
        most calls.  Paths that change what they are given, or are seen while they run, have none.
        """
        if self._direct is None:
            self._direct = (self._made_direct(signature),)
        return self._direct[0]

    def _made_direct(self, signature: Signature) -> Direct | None:
        enter = executable(self.graph, self.backend, self.fast_math).enter
        if enter is None or self._lengths or self._written or self._changes or self._ordered or self.shows:
            return None
        unpack = signature.unpacker()
        if unpack is None:
            return None
        look, held, make = self._witnesses.now, self._held, self._result.maker()

        def run(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            now = look()
            if now is not UNTOUCHED:
                return OTHERWISE
            try:
                leaves = unpack(arguments, keywords)
                if leaves is None:
                    return OTHERWISE
                found = enter((*leaves, *now.of(held)) if held else leaves)
            except (Exception, GuardFailed):
                # The general way meets it again: a guard chooses another path (it is none of the exceptions that the
                # user's code may catch), and an error is raised by plain Python, with the user's lines.
                return OTHERWISE
            return OTHERWISE if found is None else make(found)

        return run

    def _given(self, signature: Signature, now: Now) -> list[Any]:
        """What the function is given: leaves of its arguments, and what it captures."""
        return [*signature.leaves, *now.of(self._captured)]

    def lies(self, signature: Signature, now: Now) -> bool:
        """Whether arrays lie in memory as it was taken for granted."""
        return not self._ordered or all(map(is_in_order, self._given(signature, now)))

    def is_confused(self, signature: Signature, now: Now) -> bool:
        """Whether the function changes what in this call stands at another place too, which no graph tells apart."""
        if self._written:
            given = self._given(signature, now)
            if any(overlap(given[t], v) for t in self._written for i, v in enumerate(given) if i != t):
                return True
        return any(change.way for change, _ in self._changes) and duplicated(signature.arguments, signature.keywords)

    def shapes(self, describe: Callable[[Type], Any]) -> Any:
        """The result with a description of each leaf that is computed."""
        return self._result.described(iter([v.type for v in self.graph.outputs]), describe)

    def report(self, name: str) -> str:
        """What was staged, unrolled, guarded, and left to NumPy, a line each, in the order of the source."""
        kinds = {
            "loop": "for: staged as a loop",
            "while_": "while: staged as a loop",
            "branch": "if: staged as a branch",
            "check": "an error: raised when the program runs",
        }
        seen: dict[tuple[str, str], None] = {}

        def visit(graph: Graph) -> None:
            for node in graph.nodes:
                if node.op.name in kinds:
                    seen[node.line, kinds[node.op.name]] = None
                elif node.op is guard:
                    value = reprlib.repr(node.params["expected"])
                    seen[node.line, f"guarded; calls with another value than {value} stage again"] = None
                for region in node.regions.values():
                    visit(region)

        visit(self.graph)
        for line, what, reason in self._notes:
            seen[line, f"{what}: left to Python, because {reason}"] = None
        for callback in getattr(executable(self.graph, self.backend, self.fast_math), "callbacks", ()):
            what, _, line = callback.partition(": ")
            seen[line, f"{what}: performed by NumPy, as there is no machine code for it"] = None
        found = sorted(seen, key=lambda entry: _numbered(entry[0]))
        return "\n".join([f"{name}: {self.graph.size()} operations", *(f"  {line}: {text}" for line, text in found)])


def _numbered(line: str) -> tuple[str, int]:
    """A line of the user's, to be sorted by its number."""
    place = re.match(r"(.*):(\d+)", line)
    return (place[1], int(place[2])) if place else (line, 0)


def record(jit: Any, signature: Signature, open_lengths: bool) -> Path:
    """Stage a function for a signature; lengths may be left open or are those of this call."""
    try:
        return _record(jit, signature, open_lengths, Sharing())
    except SharedWriteFound:
        return _record(jit, signature, open_lengths, Sharing(strict=True))


def _record(jit: Any, signature: Signature, open_lengths: bool, sharing: Sharing) -> Path:
    stage = Staging(jit, known={})
    stage.open_lengths = open_lengths
    stage.takes_numbers = signature.key not in jit.meets_nan
    session = Session(rewrites=True)
    changes = Changes()
    witnesses = session.watch = Witnesses(stage, changes, jit.opened)
    lengths: list[tuple[int, int]] = []
    types = list(signature.types)
    if open_lengths and any(signature.opened):
        types, lengths = _open(stage, types, signature.opened)
    cells = [stage.input(t, as_leaf(v)) for t, v in zip(types, signature.leaves, strict=True)]
    stage.inputs = stage.inputs[len(lengths) :] + stage.inputs[: len(lengths)]
    for (i, axis), value in zip(lengths, stage.inputs[len(cells) :], strict=True):
        stage.known[value] = np.shape(signature.leaves[i])[axis]  # type: ignore[index]
    notes: list[tuple[str, str, str]] = []

    def note(what: str, refused: Unstageable) -> None:
        notes.append((refused.line, what, refused.reason))

    stager = RegionStager(stage, note, sharing, session)
    arguments, keywords = signature.rebuild(cells, session)
    changes.see_arguments(arguments, keywords)
    token = current.set(stager)
    try:
        function = session.lift(jit.original)
        result = function(*arguments, **keywords)
        if inspect.isgenerator(result) or inspect.iscoroutine(result):
            raise UnsupportedError(
                f"{jit}: a generator or coroutine is not staged; return a list or a tuple of its items instead"
            )
        sharing.refuse_writes()
        outputs: list[Array] = []
        recipe = Recipe(result, outputs, session)
        captured = [array for array, _, _ in session.arrays]
        known = [*cells, *(cell for _, cell, _ in session.arrays)]
        written = [i for i, cell in enumerate(known) if cell._version]
        outputs += [known[i] for i in written]
        given = {id(cell): i for i, cell in enumerate(known)}
        made = [(c, Recipe(c.value, outputs, session, given)) for c in changes.found(session)]
        values = [stage.take(v) for v in outputs]
    except AttributeError as error:
        hooks.reword(error)
        raise
    finally:
        current.reset(token)
        changes.restore()
        session.close()
        stage.end()
    graph = stage.finish(values, getattr(jit.original, "__name__", "main"))
    held = [stage.outside[v] for v in graph.inputs[len(types) + len(lengths) :]]
    return Path(
        graph,
        lengths,
        held,
        captured,
        recipe,
        written,
        made,
        notes,
        witnesses,
        jit.backend,
        jit.fast_math,
        stager.handles,
        sharing.ordered,
    )


def _shows(graph: Graph) -> bool:
    """Whether a graph prints, or calls the host for what it does."""
    return any(
        (node.op.effect and not isinstance(node.op, Test)) or any(map(_shows, node.regions.values()))
        for node in graph.nodes
    )


def _refuse_drawing(name: str) -> None:
    """NumPy's generators draw when the function is staged, and never again."""
    if current.get() is not None:
        raise UnsupportedError(
            f"{user_line()}: np.random's {name} inside a function under br.jit would draw once and stay the same. Draw "
            "outside and pass the numbers as an argument, or use br.random with a key that is an argument."
        )


hooks.drawing = _refuse_drawing


def _open(stage: Staging, types: Sequence[Type], opened: Sequence[bool]) -> tuple[list[Type], list[tuple[int, int]]]:
    """Types whose leading lengths are values of the program where they are opened; equal ones are one."""
    known: dict[Any, Any] = {}
    lengths: list[tuple[int, int]] = []
    found = []
    for i, (t, leave_open) in enumerate(zip(types, opened, strict=True)):
        if leave_open:
            if t.shape[0] not in known:
                cell = stage.input(Type((), np.dtype(int), PYTHON))
                known[t.shape[0]] = linear({cell._value: 1}, 0)
                lengths.append((i, 0))
            t = t._replace(shape=(known[t.shape[0]], *t.shape[1:]))
        found.append(t)
    return found, lengths
