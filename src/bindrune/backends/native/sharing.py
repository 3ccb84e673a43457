"""Loops that are cut out: each becomes a function of a *frame* and of a range of its counter.

Threads share those that are worth it.  Of others a large program may have the like several times: they are functions,
too, which are called for all steps, and functions that are alike are one.

The frame holds what the loop needs from outside.  What only the loop uses is private to each part; what it accumulates
in one number, each part accumulates for itself, and the parts are combined in order, so that a result depends on the
number of threads, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .advice import STEP_BY_STEP
from .formats import SLOT, constant, register_type
from .functions import Function
from .inner import Inner, place_in
from .instructions import instruct
from .likeness import signature
from .loops import (
    Accumulate,
    Allocate,
    Check,
    For,
    HostCall,
    Invoke,
    LibraryCall,
    Reserve,
    Statement,
    Storage,
    While,
)
from .memory import in_register
from .neutral import neutral
from .pairs import REORDERED
from .rewriting import accesses
from .threads import EVEN, MANY, MOST, PARALLEL, PARTS
from .work import work

if TYPE_CHECKING:
    from .llvm import Module

__all__ = ["Sharing"]

_NOBODY, _ONE, _THREADS = "", "one", "threads"

_WORTH = 100_000
"""The work, in about as many cycles, from which on a loop is shared, if its size is known."""

_WORTH_A_CALL = 2_000
"""The same from which on a loop may be a function that is called once."""

_PRIVATE = 1 << 16
"""The bytes of private arrays that a part may have on its stack."""


class Sharing:
    """Decides which loops are cut out, and does so.

    Attributes:
        module: the text that they are in.
        functions: the text of the functions.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.functions: list[str] = []
        self._names: dict[str, str] = {}
        """By what functions are about the name of the one that is."""
        self._callers: dict[For, str] = {}

    # ---------------------------------------------------------------------------------------------------- deciding

    def callers(self, loop: For) -> str:
        """Who calls the function that a loop becomes: threads, one thread, or nobody, for it becomes none."""
        if loop not in self._callers:
            self._callers[loop] = self._decide(loop)
        return self._callers[loop]

    def _decide(self, loop: For) -> str:
        cycles = work([loop])
        large = loop.extent.known is None or cycles >= _WORTH
        repeats = self.module.cutting.repeats(loop) and cycles >= _WORTH_A_CALL
        if loop.ordered or self.module.bounded or not (large or repeats) or not self._movable(loop):
            return _NOBODY
        if large and all(self._combinable(s, loop) for s in _all(loop.body)):
            return _THREADS
        return _ONE if repeats else _NOBODY

    def _movable(self, loop: For) -> bool:
        """Whether a loop can be cut out."""
        private = 0
        for s in _all(loop.body):
            if isinstance(s, (Check, HostCall, Invoke, LibraryCall, Reserve, While, Allocate)):
                return False
            if isinstance(s, For) and s.ordered:
                return False
        for storage in {b.storage for s in _all(loop.body) for b, _, _ in accesses(s)}:
            if self.module.memory.private(storage, loop):
                if storage.size is None:
                    return False
                private += storage.size * storage.dtype.itemsize
        return private <= _PRIVATE

    def _combinable(self, s: Statement, loop: For) -> bool:
        """Whether what parts of a loop accumulate by a statement can be combined."""
        if not isinstance(s, Accumulate):
            return True
        storage = s.buffer.storage
        if in_register(storage) or self.module.memory.private(storage, loop):
            return True
        return any(v is loop.variable for i in s.index for v, _ in i.terms)

    # ------------------------------------------------------------------------------------------------- cutting out

    def cut(self, f: Function, loop: For) -> None:
        """Write a call that runs a loop, in parts if threads share it, and the function for a part."""
        shared = self.callers(loop) == _THREADS
        part = _Part(f, loop, shared)
        name = f"part{len(self.functions)}"
        said = len(self.module.said)
        text = part.part(name)
        known = self._names.setdefault(signature(text, self.module.described), name)
        if known is name:
            self.functions.append(text)
        else:
            del self.module.said[said:]
        frame = f"%frame{f.w.fresh()}"
        f.entry.append(f"  {frame} = alloca [{max(part.size, SLOT)} x i8], align 16")
        part.hand_over(frame)
        count, parts = f.sum(loop.extent), "1"
        if shared:
            for symbol, head in ((PARTS, "i64 @{}(i64, i64)"), (PARALLEL, "void @{}(ptr, ptr, i64, i64)")):
                f.w.declarations.setdefault(symbol, f"declare {head.format(symbol)}")
            self.module.threaded = True
            parts = f.w.value(f"call i64 @{PARTS}(i64 {count}, i64 {work(loop.body)})")
            f.w.do(f"call void @{PARALLEL}(ptr @{known}, ptr {frame}, i64 {count}, i64 {parts})")
        else:
            f.w.do(f"call void @{known}(ptr {frame}, i64 0, i64 0, i64 {count})")
        for storage, combine in part.totals.items():
            _combine(f, storage, combine, place_in(f, frame, part.place(storage)), parts)


class _Part(Inner):
    """Writes the function for a part of a loop.

    Attributes:
        totals: the numbers outside that it accumulates, and by which operation; in the frame behind what is captured,
            for each of the most parts that there can be.
    """

    def __init__(self, outer: Function, loop: For, shared: bool) -> None:
        super().__init__(outer)
        self.whole = loop
        self._shared = shared
        self.totals: dict[Storage, str] = {}
        self.shares = self.cuts = False
        self._tape = ""
        for s in _all(loop.body):
            if isinstance(s, Accumulate) and in_register(s.buffer.storage) and not self._private(s.buffer.storage):
                self.totals[s.buffer.storage] = s.name

    def part(self, name: str) -> str:
        """The function."""
        start, stop, steps = "%from", "%to", self.whole.extent.known
        if steps is not None and not self._shared:
            start, stop = "0", str(steps)
        elif steps is not None and steps >= MANY and steps % EVEN == 0:
            # So are those of each part, and LLVM need not think of any that are left over.
            even = self.w.value(f"and i64 {self.w.value('sub i64 %to, %from')}, {-EVEN}")
            stop = self.w.value(f"add nsw i64 %from, {even}")
        self.count(self.whole, start, stop)
        offset = self.w.value(f"mul i64 %thread, {SLOT}")
        for storage in self.totals:
            kind = register_type(storage.dtype)
            total = self.w.value(f"load {kind}, ptr {self.pointer(storage)}")
            mine = self.w.value(f"getelementptr i8, ptr {place_in(self, '%frame', self.place(storage))}, i64 {offset}")
            self.w.do(f"store {kind} {total}, ptr {mine}")
        return "\n".join(
            [
                f"define internal void @{name}(ptr noalias %frame, i64 %thread, i64 %from, i64 %to) noinline #0 {{",
                "entry:",
                *self.entry,
                "  br label %begin",
                "begin:",
                *self.w.lines,
                "  ret void",
                "}",
            ]
        )

    @property
    def size(self) -> int:
        """The bytes of the frame."""
        return SLOT * (len(self.captured) + len(self.totals) * MOST)

    def place(self, storage: Storage) -> int:
        """Where in the frame the parts' totals of a number are; known when all is written."""
        return SLOT * (len(self.captured) + list(self.totals).index(storage) * MOST)

    def tape(self) -> str:
        if not self._tape:
            self._tape = self.capture("ptr", self.outer.tape())
        return self._tape

    def pointer(self, storage: Storage) -> str:
        if storage.start is None and storage not in self.pointers:
            self.pointers[storage] = self._pointer(storage)
        return super().pointer(storage)

    def _private(self, storage: Storage) -> bool:
        return self.memory.private(storage, self.whole)

    def _pointer(self, storage: Storage) -> str:
        if self._private(storage):
            return self.room(storage, (storage.size or 0) * storage.dtype.itemsize)
        if not in_register(storage):
            return self.capture("ptr", self.outer.pointer(storage))
        kind = register_type(storage.dtype)
        if storage in self.totals:
            start = constant(neutral(self.totals[storage], storage.dtype), storage.dtype)
        else:
            start = self.capture(kind, self.outer.w.value(f"load {kind}, ptr {self.outer.pointer(storage)}"))
        found = f"%{storage.name}"
        self.entry += [f"  {found} = alloca {kind}", f"  store {kind} {start}, ptr {found}"]
        return found

    def room(self, storage: Storage, size: int) -> str:
        name = f"%{storage.name}"
        kind = register_type(storage.dtype) if in_register(storage) else f"[{max(size, 1)} x i8]"
        self.entry.append(f"  {name} = alloca {kind}, align 64")
        return name


def _combine(f: Function, storage: Storage, combine: str, totals: str, parts: str) -> None:
    """Combine the totals of all parts with a number."""
    stem = f.w.fresh("combine")
    kind, dtype, before = register_type(storage.dtype), storage.dtype, f.label
    cell = f.pointer(storage)
    f.w.do(f"br label %{stem}")
    f.begin(stem)
    counter = f"%{stem}.i"
    f.w.do(f"{counter} = phi i64 [ 0, %{before} ], [ {counter}.next, %{stem} ]")
    offset = f.w.value(f"mul i64 {counter}, {SLOT}")
    total = f.w.value(f"load {kind}, ptr {f.w.value(f'getelementptr i8, ptr {totals}, i64 {offset}')}")
    old = f.w.value(f"load {kind}, ptr {cell}")
    if combine in REORDERED and dtype.kind == "f":
        new = f.w.value(f"{REORDERED[combine]} {kind} {old}, {total}")
    else:
        new = instruct(f.w, combine, [old, total], dtype, dtype)
    f.w.do(f"store {kind} {new}, ptr {cell}")
    f.w.do(f"{counter}.next = add i64 {counter}, 1")
    more = f.w.value(f"icmp slt i64 {counter}.next, {parts}")
    f.w.do(f"br i1 {more}, label %{stem}, label %{stem}.done{f.module.advice(STEP_BY_STEP)}")
    f.begin(f"{stem}.done")


def _all(block: Iterable[Statement]) -> Iterator[Statement]:
    for s in block:
        yield s
        for inner in s.blocks:
            yield from _all(inner)
