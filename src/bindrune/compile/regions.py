"""Staging statements: from a Python body to a region, and from a region to one operation.

A loop's body is *tried* (`compile.trials`), and afterwards what it changed is looked at.  What changed is *carried*,
and the body is tried again with placeholders for what is carried, until carries and their types are settled.  Then the
operation (`compile.loops`) is performed on the cells outside, and its results go where the body's changes would have
gone.

So nothing here knows about derivatives or batching: whatever handlers own the cells apply their rules for loops.

Refused (`Unstageable`, and Python goes on with the statement): carries that change shape or structure, containers that
grow, values that Python itself needs.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.handler import HOST, perform
from ..graph.dims import Dim, Unstageable, same_shape
from ..graph.graph import PYTHON, Graph, Type, Value
from ..lift.iteration import Items
from ..lift.stager import Variables
from .aliases import Aliases
from .branches import Branches
from .carries import Carry, Rows, leaves_of
from .effects import show
from .loops import loop, while_
from .messages import printer
from .places import NOTHING, Content, Place, Variable
from .staging import type_of_cell
from .tails import Last, LastRead, Tail
from .trials import Read, Trial, truth
from .types import blank, joined_type, settle
from .world import World

__all__ = ["RegionStager"]

_FEW = 4
"""Loops of at most so many steps that all run are left to Python: unrolled, they fuse with what is around them."""
_GROWTHS = 24
_DEEPEST = 24


class RegionStager(Branches):
    """Stages the statements of one function, and of those it calls."""

    # ------------------------------------------------------------------------------------------ what lanes ask

    def trying(self, depth: int) -> None:
        self.handling += depth
        self.handles = True

    def show(self, values: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        operands, printed = printer(values, keywords)
        if any(v.read()._handler is not HOST for v in operands):
            perform(show, operands, {"print": printed})
        else:
            self.stages[-1].apply(show, operands, {"print": printed})

    def check(self, condition: Any, message: Callable[[], Any] | None) -> bool:
        def fail() -> None:
            said = None if message is None else message()
            raise said if isinstance(said, BaseException) else AssertionError(*([] if message is None else [said]))

        def attempt() -> None:
            trial = self.try_(self._world((), fail), fail, {}, set(), set(), may_raise=True)
            self._raise_unless(condition.astype(bool), trial)

        return not self.handling and self._attempt("assert", attempt)

    def branch(
        self, condition: Any, then: Callable[[], None], otherwise: Callable[[], None], variables: Variables
    ) -> bool:
        condition = truth(condition)
        return self._attempt("if", lambda: self._branch(condition, then, otherwise, variables))

    def choose(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        condition = truth(condition)
        found: list[Any] = [NotImplemented]

        def attempt() -> None:
            found[0] = self._choose(condition, then, otherwise)

        self._attempt("a conditional expression", attempt)
        return found[0]

    def while_(self, going: Any, test: Callable[[], Any], body: Callable[[], None], variables: Variables) -> bool:
        going = truth(going)
        return self._attempt("while", lambda: self._while(going, test, body, variables))

    def each(
        self, items: Items, body: Callable[[Any], None], leaving: Callable[[], Any] | None, variables: Variables
    ) -> bool:
        if leaving is None and not isinstance(items.count, (Array, Dim)) and items.count <= _FEW:
            return False
        return self._attempt("for", lambda: self._each(items, body, leaving, variables))

    def _attempt(self, what: str, stage: Callable[[], None]) -> bool:
        if len(self.stages) > _DEEPEST:
            raise Unstageable(
                f"{what} within more than {_DEEPEST} others, or a recursion",
                "Put the inner ones into a br.jit of its own",
            )
        try:
            stage()
        except Unstageable as reason:
            self.report(what, reason)
            return False
        return True

    def recurse(self, body: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return self.recursions.call(body, arguments, keywords)

    def original(self, function: Any) -> Any:
        """A method of a container that stands for a captured one, as that of the captured one."""
        owner = getattr(function, "__self__", None)
        lowered = self.session.lower(owner)
        return function if lowered is owner else getattr(lowered, function.__name__)

    def _settled(
        self,
        world: World,
        run: Callable[..., Any],
        body: types.CodeType,
        variables: Variables,
        leading: Sequence[Type],
    ) -> tuple[Trial, dict[Place, Carry]]:
        """Try a loop's body until its carries and their types are settled."""
        temporary = set(variables.names) - set(variables.live)
        reads = self.reads.setdefault(body, set())
        unread = set(variables.names) - reads
        temporary -= reads
        carried = self._carried_before(world, body, unread)
        pruned = False
        growths = 0
        while growths < _GROWTHS:
            try:
                known_names = {p.name for p in carried if isinstance(p, Variable)}
                trial = self.try_(world, run, carried, unread - known_names, temporary, leading)
            except LastRead as read:
                last = Last(read.items)
                if last in carried or not read.items:
                    raise
                leaves, structure = leaves_of(last.get(), last)
                carried[last] = Carry(structure, [type_of_cell(v) for v in leaves])
                continue
            except Read as read:
                if read.name not in unread:
                    raise
                reads.add(read.name)
                unread.discard(read.name)
                temporary.discard(read.name)
                continue
            grown = self._grown(trial, carried, unread)
            if len(grown) == len(carried) and all(grown[p].agrees(c) for p, c in carried.items()):
                idle = [p for p in carried if isinstance(p, Content) and id(p.array) not in trial.written]
                if not idle or pruned:
                    worlds = [*self.worlds, world]
                    self._refuse_shared(world, [trial.changes])
                    known = Aliases(worlds, trial.placeholders, trial.changes, temporary, trial.shared, self.left)
                    trial.common = known.shared()
                    self.sharing.expect(trial.common[0])
                    labels = {place: label for label, place in _reached(world).items()}
                    self.known[body] = {labels.get(p, p): (c, self._found(p, unread)) for p, c in carried.items()}
                    return trial, carried
                pruned = True
                grown = {p: c for p, c in carried.items() if p not in idle}
            trial.stage.end()
            carried, growths = grown, growths + 1
        raise Unstageable(
            "the types of what the loop carries do not settle", "Begin with values of the types they end with"
        )

    def _grown(self, trial: Trial, carried: dict[Place, Carry], unread: set[str]) -> dict[Place, Carry]:
        """What the loop carries, and what it must carry in addition."""
        grown = dict(carried)
        for place, value in trial.changes.items():
            leaves, structure = leaves_of(value, place)
            types = [trial.stage.outward(type_of_cell(v)) for v in leaves]
            known = grown.get(place)
            if isinstance(place, Tail):
                grown[place] = Rows(structure, types, place, known)
                continue
            if known is None:
                known = self._initial(place, structure, types, unread)
            elif known.structure != structure:
                raise Unstageable(f"{place.text} changes its structure", "Begin with the structure that it ends with")
            joined = [joined_type(a, b, place.text) for a, b in zip(known.types, types, strict=True)]
            grown[place] = Carry(structure, joined)
        return grown

    def _initial(self, place: Place, structure: Any, types: Sequence[Type], unread: set[str]) -> Carry:
        """The carry of a place before the first step; one that the body writes before it reads has no say."""
        found = self._found(place, unread)
        if found is None:
            return Carry(structure, types)
        if found.structure != structure:
            raise Unstageable(f"{place.text} changes its structure", "Begin with the structure that it ends with")
        return found

    def _found(self, place: Place, unread: set[str]) -> Carry | None:
        """What a loop finds in a place; None where it does not look."""
        before = place.get()
        if before is NOTHING or (isinstance(place, Variable) and place.name in unread):
            return None
        leaves, structure = leaves_of(before, place)
        return Carry(structure, [type_of_cell(v) for v in leaves])

    def _carried_before(self, world: World, body: types.CodeType, unread: set[str]) -> dict[Place, Carry]:
        """What a body carried when it was tried before in the same place, where it finds the same types there."""
        known = self.known.get(body)
        if known is None:
            return {}
        reached = _reached(world)
        carried: dict[Place, Carry] = {}
        for label, (carry, before) in known.items():
            place = reached.get(label)
            if type(carry) is not Carry or place is None:
                return {}
            carried[place] = carry
            now = self._found(place, unread)
            if (now is None) != (before is None):
                return {}
            if (
                now is not None
                and before is not None
                and not (now.structure == before.structure and now.agrees(before))
            ):
                return {}
        return carried

    # --------------------------------------------------------------------------------------------------- loops

    def _each(
        self, items: Items, body: Callable[[Any], None], leaving: Callable[[], Any] | None, variables: Variables
    ) -> None:
        world = self._world(variables.names, body, leaving, items.at)
        world.count = items.count if type(items.count) is int and leaving is None else None
        integer = Type((), np.dtype(int), PYTHON)

        def run(step: Any) -> Any:
            body(items.at(step))
            return None if leaving is None else truth(leaving())

        trial, carried = self._settled(world, run, body.__code__, variables, [integer])
        left = trial.result
        if left is not None and not (isinstance(left, Array) or left is False):
            raise Unstageable("the loop ends in its first step", "It needs no other form")
        count = items.count
        outputs = self._outputs(trial, carried)
        if not isinstance(left, Array):
            graph = trial.stage.finish(outputs, "body")
            trial.stage.end()
            if not _traces(trial, carried, count):
                raise Unstageable("the body works on nothing that is traced", "It needs no other form")
            self._perform_loop(world, loop, [count], [], graph, trial, carried, variables)
            return
        # A counted loop that may end before is one with a condition, which carries the step's number.
        stage = trial.stage
        step = Array(stage, stage.inputs[0])
        further = step + 1
        going = np.logical_and(np.logical_not(left), further < count)
        graph = stage.finish([stage.take(going), stage.take(further), *outputs], "body")
        stage.end()
        self._perform_loop(world, while_, [truth(count > 0)], [0], graph, trial, carried, variables)

    def _while(self, going: Any, test: Callable[[], Any], body: Callable[[], None], variables: Variables) -> None:
        world = self._world(variables.names, body, test)

        def run() -> Any:
            body()
            return truth(test())

        trial, carried = self._settled(world, run, body.__code__, variables, ())
        if not isinstance(trial.result, Array) and trial.result:
            raise Unstageable("the condition does not depend on what the body does", "It needs no other form")
        outputs = [trial.stage.take(trial.result), *self._outputs(trial, carried)]
        graph = trial.stage.finish(outputs, "body")
        trial.stage.end()
        self._perform_loop(world, while_, [going], [], graph, trial, carried, variables)

    def _outputs(self, trial: Trial, carried: dict[Place, Carry]) -> list[Value]:
        """What the body leaves in the places it carries, of the settled types."""
        found: list[Value] = []
        for place, carry in carried.items():
            leaves, _ = leaves_of(trial.changes[place], place)
            if isinstance(carry, Rows):
                found += carry.put(trial.stage, trial.placeholders[place], leaves)
                continue
            types = trial.stage.local(carry.types)
            found += [trial.stage.take(settle(trial.stage.bring(v), t)) for v, t in zip(leaves, types, strict=True)]
        return found

    def _perform_loop(
        self,
        world: World,
        op: Any,
        first: list[Any],
        given: list[Any],
        body: Graph,
        trial: Trial,
        carried: dict[Place, Carry],
        variables: Variables,
    ) -> None:
        own = len(given)
        for place, carry in carried.items():
            before = place.get()
            if before is NOTHING and not place.internal:
                self._reveal(place)
            leaves = [blank(t) for t in carry.types] if before is NOTHING else leaves_of(before, place)[0]
            if len(leaves) != len(carry.types) or not all(map(_is_of_shape, leaves, carry.types)):
                leaves = [blank(t) for t in carry.types]
            given += [settle(v, t) for v, t in zip(leaves, carry.types, strict=True)]
        captured = [trial.stage.outside[v] for v in body.inputs if v in trial.stage.outside]
        params = {"body": body, "carries": len(given)} | ({"descending": False} if op is loop else {})
        results = iter(perform(op, (*first, *given, *captured), params)[own:])
        made = {}
        for place, carry in carried.items():
            leaves = [next(results) for _ in carry.types]
            if isinstance(place, Tail) and isinstance(carry, Rows):
                place.extend(carry.structure, leaves, carry.items)
            elif not isinstance(place, Last):
                made[place] = carry.make(leaves)
        self._put(made, trial.common)
        for name in trial.assigned:
            if world.variables[name] not in carried:
                world.forget(name)


def _reached(world: World) -> dict[Any, Place]:
    """What a body reaches, by labels that are the same in another call of the function that it stands in."""
    return {**world.variables, **{i: Content(array) for i, array in enumerate(world.arrays)}}


def _is_of_shape(value: Any, type: Type) -> bool:
    return same_shape(type_of_cell(value).shape, type.shape)


def _traces(trial: Trial, carried: dict[Place, Carry], count: Any) -> bool:
    """Whether a loop has to do with anything that is traced."""
    if isinstance(count, (Array, Dim)):
        return True
    outside: Iterable[Any] = trial.stage.outside.values()
    before = [leaf for place in carried for leaf in _cells_of(place.get())]
    return any(isinstance(v, Array) and v.read()._handler is not HOST for v in (*outside, *before))


def _cells_of(value: Any) -> list[Any]:
    return [] if value is NOTHING else trees.flatten(value)[0]
