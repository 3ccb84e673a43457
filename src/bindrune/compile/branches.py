"""Staging conditions: both sides are tried, and what either changes is one result of a branch.

A side that raises becomes a check of the condition, and the other side goes on; where the code around handles errors,
the condition is decided for the call at hand.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.handler import perform
from ..core.operation import Elementwise
from ..graph.dims import Unstageable
from ..graph.graph import Graph, Literal, Value
from ..lift.stager import Variables
from .aliases import arrays_in, private_arrays
from .carries import Carry, containers_in, is_numeric, is_same, leaves_of
from .control import branch
from .effects import check
from .messages import opened
from .places import NOTHING, Content, Place, Variable
from .recursion import Unknown
from .staging import Staging, type_of_cell
from .trials import Read, Trial, Trials
from .types import blank, joined_type, settle
from .world import World

__all__ = ["Branches"]


class Branches(Trials):
    """Stages conditions."""

    def _branch(
        self, condition: Any, then: Callable[[], None], otherwise: Callable[[], None], variables: Variables
    ) -> None:
        world = self._world(variables.names, then, otherwise)
        temporary = set(variables.names) - set(variables.live)
        unread = set(temporary)
        while True:
            try:
                sides = self._try_sides(world, then, otherwise, unread, temporary)
                break
            except Read as read:
                if read.name not in unread:
                    raise
                unread.discard(read.name)
        for trial, holds, other in ((sides[0], False, otherwise), (sides[1], True, then)):
            if trial.raised is not None:
                if self.handling:
                    (then if condition else otherwise)()
                else:
                    self._raise_unless(condition if holds else np.logical_not(condition), trial)
                    other()
                return
        places = list(dict.fromkeys((*sides[0].changes, *sides[1].changes)))
        private = self._private(world, temporary, sides)
        merged, common = self._merged(world, condition, places, sides, private, variables.moot)
        self._put(merged, common)
        for name in temporary & (sides[0].assigned | sides[1].assigned):
            world.forget(name)

    def _choose(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        world = self._world((), then, otherwise)
        sides = self._try_sides(world, then, otherwise, set(), set())
        for trial, holds, other in ((sides[0], False, otherwise), (sides[1], True, then)):
            if trial.raised is not None:
                if self.handling:
                    return then() if condition else otherwise()
                self._raise_unless(condition if holds else np.logical_not(condition), trial)
                return other()
        result = Variable("the value of the conditional expression", types.CellType())
        for trial in sides:
            trial.changes[result] = trial.result
        if all(_is_safe(trial) for trial in sides) and len(sides[0].changes) == len(sides[1].changes) == 1:
            selected = self._selected(condition, then, otherwise, sides)
            if selected is not NotImplemented:
                return selected
        places = list(dict.fromkeys((*sides[0].changes, *sides[1].changes)))
        private = self._private(world, set(), sides)
        merged, common = self._merged(world, condition, places, sides, private)
        self._put(merged, common)
        return merged[result]

    def _try_sides(
        self,
        world: World,
        then: Callable[[], Any],
        otherwise: Callable[[], Any],
        unread: set[str],
        temporary: set[str],
    ) -> list[Trial]:
        first = self.try_(world, then, {}, unread, temporary, may_raise=True)
        self.left.append(first.changes)
        try:
            return [first, self.try_(world, otherwise, {}, unread, temporary, may_raise=True)]
        finally:
            self.left.pop()

    def _private(self, world: World, temporary: set[str], sides: Sequence[Trial]) -> set[int]:
        """The arrays that one place alone shows before the branch."""
        changes = [*self.left, *(trial.changes for trial in sides)]
        return private_arrays([*self.worlds, world], temporary, changes)

    def _shared_by_sides(
        self, world: World, sides: Sequence[Trial], roots: Sequence[dict[Place, set[int]]], private: set[int]
    ) -> tuple[set[Place], list[Array]]:
        """The places whose results other places may show too, and arrays from before that may be among them.

        A private array that its place loses is not: it has only moved.
        """
        moved = private & {id(a) for place in roots[0] for a in arrays_in(place.get())}
        known = {id(a): a for a in world.arrays if id(a) not in moved}
        places: set[Place] = set()
        arrays = [array for trial in sides for array in trial.shared]
        for by_place in roots:
            count = Counter(root for found in by_place.values() for root in found)
            for place, found in by_place.items():
                if any(root in known or count[root] > 1 for root in found):
                    places.add(place)
                    arrays += [known[root] for root in found if root in known]
        self.sharing.expect(places)
        return places, arrays

    def _selected(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any], sides: Any) -> Any:
        """Two booleans that nothing can go wrong with, or numbers that are there: both are computed."""
        kinds = [type_of_cell(t.result) for t in sides if is_numeric(t.result)]
        are_there = not any(trial.stage.nodes for trial in sides)
        if len(kinds) < len(sides) or any(k.shape or not (are_there or k.dtype == bool) for k in kinds):
            return NotImplemented
        for trial in sides:
            trial.stage.end()
        a, b = then(), otherwise()
        if a is condition:
            found = np.logical_or(condition, b)
        elif b is condition:
            found = np.logical_and(condition, a)
        else:
            found = np.where(condition, a, b)
        return settle(found, joined_type(kinds[0], kinds[1], "the value of the conditional expression"))

    def _raise_unless(self, condition: Any, trial: Trial) -> None:
        """Raise what one side raises, when the program takes that side.

        A side that has made what its error shows, or does something before it raises, is performed for that.
        """
        assert trial.raised is not None
        if isinstance(trial.raised, Unknown):
            return
        operands, error = opened(trial.raised.with_traceback(None))
        stage = trial.stage
        if not any(v.read()._handler is stage for v in operands) and not any(n.effect for n in stage.nodes):
            perform(check, (condition, *operands), {"error": error})
            return
        stage.emit(check, [Literal(False), *map(stage.take, operands)], {"error": error}, ())
        side = stage.finish([], "side")
        stage.end()
        given = [stage.outside[v] for v in side.inputs]
        other = Graph([Value(type_of_cell(v)) for v in given], (), (), "side")
        perform(branch, (condition, *given), {"then": other, "otherwise": side})

    def _merged(
        self,
        world: World,
        condition: Any,
        places: Sequence[Place],
        sides: Sequence[Trial],
        private: set[int],
        is_moot: bool = False,
    ) -> tuple[dict[Place, Any], tuple[set[Place], list[Array]]]:
        """Perform a branch: by place what either side leaves there, and what of it other places may show too."""
        joined: dict[Place, Carry] = {}
        static: dict[Place, Any] = {}
        found: list[dict[Place, list[Any]]] = [{}, {}]
        roots: tuple[dict[Place, set[int]], ...] = ({}, {})
        moot = [any(_is_return(p) and v is True for p, v in trial.changes.items()) for trial in sides]
        moot[1] |= is_moot
        for place in places:
            values = [trial.changes.get(place, place.get()) for trial in sides]
            if is_same(values[0], values[1]):
                static[place] = values[0]
                continue
            values = [
                blank_for(other, place, trial.stage) if v is NOTHING and (place.internal or has_returned) else v
                for v, other, trial, has_returned in zip(values, values[::-1], sides[::-1], moot, strict=True)
            ]
            if any(v is NOTHING for v in values):
                self._reveal(place)
                raise Unstageable(f"{place.text} has a value on one side of the branch only", "Give it one before")
            (a, structure), (b, other) = (leaves_of(v, place) for v in values)
            if structure != other:
                raise Unstageable(
                    f"{place.text} has another structure on each side of the branch", "Give it the same on both"
                )
            kinds = [[t.stage.outward(type_of_cell(v)) for v in vs] for t, vs in zip(sides, (a, b), strict=True)]
            types = [joined_type(x, y, place.text) for x, y in zip(*kinds, strict=True)]
            joined[place] = Carry(structure, types)
            for trial, leaves, by_place, its_roots in zip(sides, (a, b), found, roots, strict=True):
                by_place[place] = [trial.left(v) for v in leaves]
                if not isinstance(place, Content):
                    its_roots[place] = {id(v.root) for v in arrays_in(leaves)}
        self._refuse_shared(world, [{p: t.changes[p] for p in joined if p in t.changes} for t in sides])
        common = self._shared_by_sides(world, sides, roots, private)
        graphs, operands = self._sides(sides, joined, found)
        results = iter(perform(branch, (condition, *operands), {"then": graphs[0], "otherwise": graphs[1]}))
        made = {place: carry.make([next(results) for _ in carry.types]) for place, carry in joined.items()}
        return {**static, **made}, common

    def _sides(
        self, sides: Sequence[Trial], joined: dict[Place, Carry], found: Sequence[dict[Place, list[Any]]]
    ) -> tuple[list[Graph], list[Any]]:
        """The graphs of both sides, which take the same operands."""
        made: list[tuple[Graph, dict[Any, Value]]] = []
        operands: dict[Any, Any] = {}
        for trial, by_place in zip(sides, found, strict=True):
            stage = trial.stage
            outputs = [
                stage.take(settle(stage.bring(v), t))
                for place, carry in joined.items()
                for v, t in zip(by_place[place], stage.local(carry.types), strict=True)
            ]
            graph = stage.finish(outputs, "side")
            stage.end()
            inputs = {_identity(stage.outside[v]): v for v in graph.inputs}
            operands.update({_identity(stage.outside[v]): stage.outside[v] for v in graph.inputs})
            made.append((graph, inputs))
        graphs = []
        for graph, inputs in made:
            given = [inputs.get(key) or Value(type_of_cell(content)) for key, content in operands.items()]
            graphs.append(Graph(given, graph.nodes, graph.outputs, graph.name))
        return graphs, list(operands.values())

    def _refuse_shared(self, world: World, left: Sequence[Mapping[Place, Any]]) -> None:
        """A container that two places show is two values afterwards: refuse it where it is one."""
        for changes in left:
            seen = set(world.containers)
            for place, value in changes.items():
                if isinstance(place, Content):
                    continue
                found = set(containers_in(value))
                if not seen.isdisjoint(found):
                    raise Unstageable(
                        f"{place.text} shares a container with another place",
                        "Make a container of its own (list(x), dict(x))",
                    )
                seen |= found


def _identity(content: Any) -> int:
    return id(content._value) if isinstance(content, Array) else id(content)


def blank_for(value: Any, place: Place, stage: Staging) -> Any:
    leaves, structure = leaves_of(value, place)
    return structure.build([blank(stage.outward(type_of_cell(v))) for v in leaves])


def _is_return(place: Place) -> bool:
    """Whether a place is the flag that says that the function has returned."""
    return isinstance(place, Variable) and place.internal and place.name.startswith("returned")


def _is_safe(trial: Trial) -> bool:
    """Whether nothing a body does can go wrong."""
    return all(isinstance(n.op, Elementwise) and not n.op.name.startswith(_RAISING) for n in trial.stage.nodes)


_RAISING = ("math.", "python.divide", "python.floor_divide", "python.remainder", "python.power")
"""Operations on Python's numbers that may raise."""
