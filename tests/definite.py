"""Whether a loop program reads only what it has written before, whichever way its branches go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from bindrune.backends.native import executable
from bindrune.backends.native.asides import Aside
from bindrune.backends.native.loops import (
    Accumulate,
    Affine,
    Apply,
    Expression,
    For,
    HostCall,
    If,
    Invoke,
    LibraryCall,
    Program,
    Statement,
    Storage,
    Store,
    While,
)
from bindrune.backends.native.rewriting import accesses
from bindrune.backends.native.views import View


def undefined(program: Program) -> list[str]:
    """The statements that read memory in which there may be nothing.

    An array counts as written by any write into it.  A loop whose number of steps is not known may have none: what it
    writes into arrays may have none either, but numbers are there or not.
    """
    given = {*program.inputs, *(storage for storage, _ in program.constants)}
    found: list[str] = []

    def look(block: Iterable[Statement], before: set[Storage]) -> set[Storage]:
        defined = set(before)
        for statement in block:
            early = [x for x in _read(statement) if x.role in ("temporary", "output") and x not in defined]
            found.extend(f"{x.name} is read before it is written: {next(statement.lines())}" for x in early)
            if isinstance(statement, Aside):
                defined = look(statement.body, defined)
            elif isinstance(statement, If):
                then, otherwise = look(statement.then, defined), look(statement.otherwise, defined)
                steps = not statement.otherwise and _is_about_steps(statement.condition)
                defined |= {storage for storage in then if storage in otherwise or (steps and storage.shape)}
            elif isinstance(statement, While):
                look(statement.body, defined)
            elif isinstance(statement, For):
                inside = look(statement.body, defined)
                runs = (statement.extent.known or 0) > 0
                defined |= {storage for storage in inside if runs or storage.shape}
            else:
                defined |= set(_written(statement))
        return defined

    there = look(program.body, given)
    missing = [storage for storage in program.outputs if storage not in there and storage.size != 0]
    return [*found, *(f"{storage.name} is not always written" for storage in missing)]


def _is_about_steps(condition: Expression) -> bool:
    """Whether a condition only compares numbers of steps."""
    if isinstance(condition, Apply):
        return all(map(_is_about_steps, condition.arguments))
    return isinstance(condition, Affine)


def _read(statement: Statement) -> Iterator[Storage]:
    yield from (buffer.storage for buffer, _, writes in accesses(statement) if not writes)
    if isinstance(statement, Accumulate):
        yield statement.buffer.storage
    if isinstance(statement, (HostCall, Invoke)):
        yield from (x.storage for x in statement.operands if isinstance(x, View))
    elif isinstance(statement, LibraryCall) and not statement.name.startswith("sort"):
        yield from (x.storage for x in statement.operands)  # of those that sort, some are room to work in


def _written(statement: Statement) -> Iterator[Storage]:
    if isinstance(statement, (Store, Accumulate)):
        yield statement.buffer.storage
    elif isinstance(statement, (HostCall, Invoke)):
        yield from (view.storage for view in statement.results)
    elif isinstance(statement, LibraryCall):
        yield statement.result.storage


def require_definite(patch: pytest.MonkeyPatch) -> None:
    """Look at every loop program that is compiled from now on."""
    lower = executable.lower

    def checked(graph: Any) -> Program:
        program = lower(graph)
        for each in (program, *program.routines):
            found = undefined(each)
            assert not found, "\n".join([*found, str(program)])
        return program

    patch.setattr(executable, "lower", checked)
