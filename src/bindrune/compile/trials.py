"""Trying bodies: what Python code does, seen without its having been done.

A body runs once under a handler of its own, in which every array it reaches is a captured value.  Afterwards it is seen
what it changed (variables, contents of arrays, items, attributes), and everything is put back.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

from ..core.array import Array, View
from ..graph.dims import Unstageable
from ..graph.graph import Type
from ..lift.session import Session
from .aliases import Sharing
from .carries import Carry
from .places import Content, Place, Variable
from .recursion import Recursions, Unknown
from .staging import Staging
from .world import World

__all__ = ["Read", "Trial", "Trials", "truth"]


class Trial:
    """A body that has run once under a handler of its own.

    Attributes:
        stage: that handler; it has not ended yet.
        changes: by place, what the body left there, as cells of the stage.
    """

    __slots__ = ("assigned", "changes", "common", "placeholders", "raised", "result", "shared", "stage", "written")

    def __init__(self, stage: Staging) -> None:
        self.stage = stage
        self.placeholders: dict[Place, Any] = {}
        self.assigned: set[str] = set()
        self.written: set[int] = set()
        self.shared: list[Array] = []
        self.common: tuple[set[Place], list[Array]] = (set(), [])
        self.changes: dict[Place, Any] = {}
        self.result: Any = None
        self.raised: BaseException | None = None

    def left(self, leaf: Any) -> Any:
        """What the body left in an array that was there before it and that another place has come to show."""
        if not isinstance(leaf, Array) or id(leaf.root) not in self.written:
            return leaf
        if isinstance(leaf, View):
            raise Unstageable("a view is kept of an array that is written", "Copy what is kept (x[i:j].copy())")
        return self.changes[Content(leaf)]


class Trials:
    """Tries bodies, one inside the other."""

    def __init__(
        self, top: Staging, report: Callable[[str, Unstageable], None], sharing: Sharing, session: Session
    ) -> None:
        self.session = session
        self.stages = [top]
        self.report = report
        self.handling = 0
        self.handles = False
        """Whether there was code that handles errors: some that the program raises are none in plain Python."""
        self.worlds: list[World] = []
        self.forgotten: list[set[str]] = []
        self.sharing = sharing
        self.reads: dict[types.CodeType, set[str]] = {}
        """Of bodies tried before, the variables that they read before they assign them."""
        self.known: dict[types.CodeType, dict[Any, tuple[Carry, Carry | None]]] = {}
        """Of bodies tried before, what they carried, and what was there before the first step."""
        self.left: list[dict[Place, Any]] = []
        """What first sides left whose second sides are being tried."""
        self.recursions = Recursions(self.try_)

    def try_(
        self,
        world: World,
        run: Callable[..., Any],
        carried: dict[Place, Carry],
        forgotten: set[str],
        temporary: set[str],
        leading: Sequence[Type] = (),
        may_raise: bool = False,
    ) -> Trial:
        """Run a body under a handler of its own, and see what it changed; the world is as before afterwards."""
        met = self._met()
        world.explore(met)
        stage = Staging(f"a region of {self.stages[0].origin}")
        stage.open_lengths = self.stages[0].open_lengths
        trial = Trial(stage)
        first = [stage.input(t) for t in leading]
        placeholders = trial.placeholders = {
            place: carry.make([stage.input(t) for t in carry.types]) for place, carry in carried.items()
        }
        self.stages.append(stage)
        self.worlds.append(world)
        self.forgotten.append(forgotten)
        shared = len(self.sharing.cells)
        world.enter(stage, placeholders, forgotten)
        try:
            trial.result = run(*first)
            trial.changes = world.changes(placeholders, temporary)
            self.sharing.refuse_writes()
        except NameError as error:
            if any(error.name in unbound for unbound in self.forgotten):
                raise Read(str(error.name)) from None
            raise Unstageable(str(error), "Give the variable a value before") from None
        except Unknown as unknown:
            if not may_raise:
                raise
            trial.raised = unknown
        except Exception as error:
            if not may_raise:
                raise Unstageable(
                    f"the body raises {type(error).__name__}: {error}",
                    "Raise under a condition of its own (if ...: raise ...)",
                ) from None
            trial.raised = error
        finally:
            world.leave()
            self.stages.pop()
            self.worlds.pop()
            self.forgotten.pop()
            self._restore_what_was_met(met)
            trial.written, trial.assigned = world.written, world.assigned
            trial.shared = [array for array, _ in self.sharing.cells[shared:]]
            del self.sharing.cells[shared:]
        if self._met() != met:
            stage.end()
            return self.try_(world, run, carried, forgotten, temporary, leading, may_raise)
        return trial

    def _reveal(self, place: Place) -> None:
        """Where nothing is in a place: begin again with what is there, if a body around was tried without it."""
        if isinstance(place, Variable) and any(place.name in unbound for unbound in self.forgotten):
            raise Read(place.name)

    def _world(self, names: Sequence[str], *functions: Any) -> World:
        return World(names, functions, self._met())

    def _met(self) -> tuple[int, int]:
        """How many containers and arrays of the caller's have been met so far."""
        return self.session.watch.changes.count(), len(self.session.arrays)

    def _restore_what_was_met(self, met: tuple[int, int]) -> None:
        """Undo changes of what a body met for the first time, which its world did not know of."""
        self.session.watch.changes.rewind(met[0])
        for array, cell, _ in self.session.arrays[met[1] :]:
            if cell._version:
                fresh = self.session.watch.array(array)
                cell._handler, cell._value, cell._mark, cell._version = fresh._handler, fresh._value, None, 0

    def _put(self, merged: dict[Place, Any], common: tuple[set[Place], list[Array]]) -> None:
        """Put results where they belong."""
        for place, value in merged.items():
            place.set(value)
        self.sharing.add(*common)


class Read(BaseException):
    """A variable was read that was taken to be written first."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def truth(condition: Any) -> Any:
    """A condition as a boolean."""
    if not isinstance(condition, Array):
        return bool(condition)
    condition = condition.read()
    return condition if condition.dtype == bool and not condition.shape else condition.astype(bool).reshape(())
