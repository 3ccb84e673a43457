"""Functions whose calls are operations: what custom rules and checkpoints share.

A call on stand-ins is performed as one operation, whose operands are the arrays and numbers among the arguments, and
the stand-ins that the function captures.  Whatever else is among the arguments (strings, functions, objects with
stand-ins among their attributes) stays where it is.  A call on plain arrays is a call of the function itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..core import trees
from ..core.array import Array
from ..core.errors import UnsupportedError, for_users, user_line
from ..lift.objects import lift_object
from ..lift.session import Session
from .calls import Decorated, Transformed, argument_name
from .closures import Captured
from .programs import NUMERIC, Parts, Program, is_followed, refuse_writes

__all__ = ["Arguments", "Performed"]

_LEFT_ALONE = (*NUMERIC, tuple, list, dict, str, type(None))


class Arguments:
    """The arguments of one call, taken apart."""

    __slots__ = ("_has_keywords", "_parts", "_performed", "count", "fixed", "leaves", "others")

    def __init__(self, performed: Performed, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self._performed = performed
        self.count = len(arguments)
        self.fixed: dict[int, Any] = {}
        """Those that rules are given first, as they are."""
        if performed.nondiff_argnums:
            self.fixed = {i: arguments[i] for i in performed.fixed_positions(len(arguments))}
            arguments = tuple(a for i, a in enumerate(arguments) if i not in self.fixed)
        self._has_keywords = bool(keywords)
        self._parts = Parts((arguments, keywords) if keywords else arguments)
        self.leaves = self._parts.leaves
        self.others = self._parts.others

    @property
    def names(self) -> list[str]:
        """What messages call the moving ones."""
        return [argument_name(self._performed.function, i) for i in range(self.count) if i not in self.fixed]

    def whole(
        self, leaves: Iterable[Any], fixed: dict[int, Any], others: Iterable[Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """All arguments, positional and by keyword, with other leaves."""
        given, keywords = self._together(leaves, others)
        rest = map(self._performed.lift, given)
        return [fixed[i] if i in fixed else next(rest) for i in range(self.count)], keywords

    def moving(self, leaves: Iterable[Any], others: Iterable[Any]) -> tuple[Any, ...]:
        """All but the fixed ones, with other leaves."""
        return tuple(map(self._performed.lift, self._together(leaves, others)[0]))

    def tangents(self, leaves: Iterable[Any]) -> tuple[Any, ...]:
        """Trees like the moving ones of tangents, or of what stands for them; None for what has no tangent."""
        return self._together(leaves, (None,) * len(self.others))[0]

    def _together(self, leaves: Iterable[Any], others: Iterable[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tree = self._parts.together(leaves, others)
        return tree if self._has_keywords else (tree, {})


class Performed(Decorated):
    """A function whose call on stand-ins is one operation."""

    takes_keywords = False
    """Whether a call may have keyword arguments; rules are given theirs by position."""
    lifting: Session | None = None
    """Of a lifted one, the session it belongs to."""

    def __init__(self, function: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(function)
        self.nondiff_argnums = tuple(nondiff_argnums)
        self.rules: dict[str, Any] = {}

    def lifted(self, session: Session) -> Transformed:
        twin = self.with_function(self.function)
        assert isinstance(twin, Performed)
        session.known[id(self)] = (self, twin)  # its rules may call it
        twin.function = session.lift(self.function)
        twin.lifting = session
        twin.rules = {name: session.lift(rule) for name, rule in self.rules.items()}
        return twin

    def lift(self, argument: Any) -> Any:
        """An argument put together again: an object with methods runs them lifted."""
        if self.lifting is None or isinstance(argument, _LEFT_ALONE):
            return argument
        return lift_object(self.lifting, argument)

    @for_users
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        arguments, keywords = self._bind(arguments, keywords)
        taken = Arguments(self, arguments, keywords)
        program = self.program(self.function, taken)
        if not program.cells and not any(map(is_followed, taken.leaves)):
            if not any(isinstance(leaf, Array) for leaf in taken.leaves):
                return self.function(*arguments, **keywords)
            own = [leaf.snapshot() if isinstance(leaf, Array) else leaf for leaf in taken.leaves]
            return program.body(program.captured.contents, own)
        results = self.perform(program, taken)
        return trees.unflatten(program.structure, results)

    def perform(self, program: Program, arguments: Arguments) -> Any:
        """Perform the function as one operation; the leaves of its result."""
        raise NotImplementedError

    def program(self, function: Callable[..., Any], arguments: Arguments) -> Program:
        """A function of the arguments as a program of their leaves."""

        def body(contents: Any, cells: list[Any]) -> Any:
            function, fixed, others = contents
            given, keywords = arguments.whole(cells, fixed, others)
            result = function(*given, **keywords)
            refuse_writes(self, cells)
            return result

        return Program(self, Captured((function, arguments.fixed, arguments.others)), body)

    def rule(self, name: str, definition: str) -> Any:
        """A rule by name, or an error that says how to define it."""
        if name not in self.rules:
            raise UnsupportedError(f"{user_line()}: {self} has no rule; define it with {definition}")
        return self.rules[name]

    def fixed_positions(self, count: int) -> set[int]:
        """The positions of the arguments that rules are given as they are, in a call with so many."""
        for i in self.nondiff_argnums:
            if not -count <= i < count:
                raise TypeError(f"{self}: nondiff_argnums names argument {i}, but the call has {count} in all")
        return {i % count for i in self.nondiff_argnums}

    def _bind(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments in their places, with the defaults of those that rules are given by position."""
        reach = max([i + 1 if i >= 0 else -i for i in self.nondiff_argnums]) if self.nondiff_argnums else 0
        code = getattr(self.function, "__code__", None)
        if not self.takes_keywords and code is not None:
            reach = max(reach, code.co_argcount)
        if len(arguments) < reach or (keywords and not self.takes_keywords):
            bound = inspect.signature(self.function).bind(*arguments, **keywords)
            bound.apply_defaults()
            arguments, keywords = bound.args, {k: v for k, v in bound.kwargs.items() if k in keywords}
        if keywords and not self.takes_keywords:
            raise TypeError(f"{self}: keyword-only arguments {sorted(keywords)} cannot be passed to rules")
        return arguments, keywords
