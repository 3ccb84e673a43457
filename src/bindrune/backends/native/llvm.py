"""LLVM's text for a loop program.

The function `run` takes the addresses of inputs and constants, those of outputs, and a context (working memory, what
the host is told when the program stops); it returns zero, or one more than the number of the reason why it stopped.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence

from . import complexes, mathematics, remainders  # noqa: F401  (they enter what they write)
from .context import CONTEXT_TAPE
from .cutting import Cutting
from .functions import Function
from .instructions import Writer
from .likeness import Descriptions
from .loops import Program
from .machine import vector_bytes
from .memory import Memory, uses_tape
from .routines import RoutineFunction
from .sharing import Sharing

__all__ = ["Module"]

_MEMORY = """
declare ptr @malloc(i64)
declare void @free(ptr)
"""

_GROW = """
define internal ptr @grow(ptr %slot, ptr %capacity, i64 %bytes) noinline {
  %had = load i64, ptr %capacity
  %enough = icmp uge i64 %had, %bytes
  %old = load ptr, ptr %slot
  br i1 %enough, label %keep, label %more
keep:
  ret ptr %old
more:
  call void @free(ptr %old)
  %new = call ptr @malloc(i64 %bytes)
  %full = icmp eq ptr %new, null
  %room = select i1 %full, i64 0, i64 %bytes
  store ptr %new, ptr %slot
  store i64 %room, ptr %capacity
  ret ptr %new
}
"""

_EXTEND = f"""
declare ptr @realloc(ptr, i64)

define internal ptr @extend(ptr %context, i64 %bytes) noinline {{
  %slot = getelementptr i64, ptr %context, i64 {CONTEXT_TAPE}
  %capacity = getelementptr i64, ptr %context, i64 {CONTEXT_TAPE + 1}
  %had = load i64, ptr %capacity
  %twice = shl i64 %had, 1
  %larger = call i64 @llvm.umax.i64(i64 %bytes, i64 %twice)
  %room = call i64 @llvm.umax.i64(i64 %larger, i64 65536)
  %old = load ptr, ptr %slot
  %new = call ptr @realloc(ptr %old, i64 %room)
  %full = icmp eq ptr %new, null
  br i1 %full, label %nothing, label %keep
nothing:
  ret ptr null
keep:
  store ptr %new, ptr %slot
  store i64 %room, ptr %capacity
  ret ptr %new
}}
"""

_OWN, _SEEN = "define internal", "define hidden"
"""How functions begin that only their module knows, and those that other modules of a program know, too."""

_WORTH = 250
"""The lines in loops that are worth a module of their own."""

_STRAIGHT = 0.1
"""What a line outside of loops takes of the time that one in a loop does."""

_BOUND = re.compile(r"(?:loop|while)\d+(\.done)?:")
"""Where a loop begins or ends."""


class Module:
    """The text of a program, as it is written.

    Attributes:
        said: what is said of loops, and what is numbered for that, as text.
        described: what that and the scopes mean, by their numbers.
        memory: what is known of the program's memory.
        taped: whether it uses the tape.
        grows: whether it has arrays whose size only the running program knows.
        threaded: whether it uses threads.
        recursive: whether it has routines.
        bounded: whether every access looks first whether it is within its buffer (``BINDRUNE_CHECK=bounds``).
    """

    def __init__(self, program: Program) -> None:
        self._numbers = itertools.count(1)
        self._scopes: list[str] = []
        self.said: list[str] = []
        self.described = Descriptions()
        self.memory = self.memory_of(program)
        self.sharing = Sharing(self)
        self.cutting = Cutting(self, program.body)
        self.taped = any(uses_tape(part.body) for part in (program, *program.routines))
        self.threaded = False
        self.grows = False
        self.recursive = bool(program.routines)
        self.bounded = os.environ.get("BINDRUNE_CHECK") == "bounds"
        self.outputs = program.outputs
        self._declared = Writer()
        self._run(program)

    def memory_of(self, program: Program) -> Memory:
        """What is known of the memory of the program, or of a routine."""
        found = Memory(program, self._numbers, self.described)
        self._scopes += found.metadata
        return found

    def group(self) -> str:
        """A name for the loads and stores of one loop."""
        return self._described("distinct !{}")

    def advice(self, kind: str, group: str = "") -> str:
        """What is said of a loop, and that the loads and stores of a group are independent of other steps'."""
        said = []
        if kind:
            said.append(self._described(f"!{{{kind}}}"))
        if group:
            said.append(self._described(f'!{{!"llvm.loop.parallel_accesses", {group}}}'))
        if not said:
            return ""
        number = str(next(self._numbers))
        self.described.loops[number] = kind, group.removeprefix("!")
        self.said.append(f"!{number} = distinct !{{{', '.join([f'!{number}', *said])}}}")
        return f", !llvm.loop !{number}"

    def _described(self, text: str) -> str:
        """A number for some metadata."""
        number = f"!{next(self._numbers)}"
        self.said.append(f"{number} = {text}")
        return number

    def writer(self) -> Writer:
        """A writer for one more function."""
        w = Writer()
        w.declarations, w.kept = self._declared.declarations, self._declared.kept
        return w

    def _run(self, program: Program) -> None:
        f = Function(self, self.memory)
        f.know([*program.inputs, *(s for s, _ in program.constants)], "arguments")
        f.know(program.outputs, "results")
        f.entry.append("  %arena = load ptr, ptr %context")
        lines = f.text(program.body)
        routines = [RoutineFunction(self, routine, len(program.inputs)).whole() for routine in program.routines]
        if self.taped:
            self._declared.declarations["llvm.umax.i64"] = "declare i64 @llvm.umax.i64(i64, i64)"
        given = "ptr noalias %arguments, ptr noalias %results, ptr noalias %context"
        self._main = "\n".join([*routines, f"define i64 @run({given}) #0 {{", *lines])

    @property
    def text(self) -> str:
        """All of it as one module."""
        return self._whole([*self._cut_out, self._main])

    def apart(self, most: int) -> list[str]:
        """All of it as at most so many modules, which take about equally long to compile."""
        efforts = {function: _effort(function) for function in self._cut_out}
        mine = _effort(self._main)
        count = min(most, int(sum(efforts.values()) + mine) // _WORTH)
        if count < 2 or self.recursive:
            return [self.text]
        parts = [[self._main], *([] for _ in range(count - 1))]
        loads = [mine, *(0.0 for _ in range(count - 1))]
        for function in sorted(efforts, key=efforts.__getitem__, reverse=True):
            lightest = loads.index(min(loads))
            parts[lightest].append(function)
            loads[lightest] += efforts[function]
        return [
            self._whole([_declared(f) for f in efforts if f not in part] + [f.replace(_OWN, _SEEN, 1) for f in part])
            for part in parts
        ]

    @property
    def _cut_out(self) -> list[str]:
        return [*self.sharing.functions, *self.cutting.functions]

    def _whole(self, functions: Sequence[str]) -> str:
        """A module with some functions."""
        return "\n".join(
            [
                _MEMORY,
                _GROW if self.grows else "",
                _EXTEND if self.taped else "",
                *self._declared.declarations.values(),
                _kept(self._declared.kept),
                *functions,
                f'attributes #0 = {{ nounwind "prefer-vector-width"="{8 * vector_bytes()}" }}',
                "attributes #1 = { nounwind willreturn memory(none) }",
                "attributes #2 = { alwaysinline nounwind willreturn memory(none) }",
                "!0 = !{}",
                *self._scopes,
                *self.said,
                "",
            ]
        )


def _effort(function: str) -> float:
    """About how long a function takes to be compiled, in lines that are in loops."""
    found, depth = 0.0, 0
    for line in function.split("\n"):
        bound = _BOUND.fullmatch(line)
        if bound:
            depth += -1 if bound[1] else 1
        found += 1 if depth else _STRAIGHT
    return found


def _declared(function: str) -> str:
    """That a function is in another module."""
    head = function.partition("\n")[0]
    return head.replace(_OWN, "declare hidden", 1).removesuffix(" {")


def _kept(names: set[str]) -> str:
    """Declarations that nothing uses yet, and that must stay."""
    if not names:
        return ""
    listed = ", ".join(f"ptr @{name}" for name in sorted(names))
    return f'@llvm.compiler.used = appending global [{len(names)} x ptr] [{listed}], section "llvm.metadata"'
