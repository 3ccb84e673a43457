"""Where a program's temporary arrays lie, and what may overlap.

An array that is dead leaves its place to a later one: places are handed out in the order in which arrays are first
used, and an array that a loop uses together with something outside lives as long as the loop.  Arrays in different
places do not overlap, nor do inputs and outputs with anything; LLVM is told so by a scope for each place, as far as the
accesses are in one nest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .likeness import Descriptions
from .loops import For, Program, Reserve, Statement, Storage, Swap, While
from .rewriting import accesses, views

__all__ = ["Memory", "in_register", "uses_tape"]

_TAPE, _READ = "tape", "inputs"
"""Memory that is told apart as a whole: the tape, and what is only read."""

_LINE = 64
"""Places begin at multiples of a cache line, and are one line apart."""

_MANY = 100
"""So many arrays used side by side are not told apart: each of them would have to name all others."""


def in_register(storage: Storage) -> bool:
    """Whether a storage is a single number of the program's own."""
    return storage.role == "temporary" and not storage.shape


def uses_tape(block: Iterable[Statement]) -> bool:
    """Whether statements touch the tape."""
    return any(
        isinstance(s, Reserve)
        or any(buffer.storage.start is not None for buffer, _, _ in accesses(s))
        or any(map(uses_tape, s.blocks))
        for s in block
    )


class _Life:
    """When a storage is used, in the order of statements, and by which loops."""

    __slots__ = ("first", "last", "loops")

    def __init__(self) -> None:
        self.first = self.last = -1
        self.loops: list[tuple[Statement, ...]] = []


class Memory:
    """The memory of a program.

    Attributes:
        size: the bytes of working memory.
        metadata: the scopes, as LLVM's text.
    """

    def __init__(self, program: Program, numbers: Iterator[int], described: Descriptions) -> None:
        """Look at a program; its metadata take the next of some numbers, under which they are entered."""
        self._numbers = numbers
        self._described = described
        self.size = 0
        self.metadata: list[str] = []
        self._lives: dict[Storage, _Life] = {}
        self._spans: dict[Statement, tuple[int, int]] = {}
        self._together: list[dict[Storage, None]] = []
        self._written: set[Storage] = set()
        self._swapped: dict[Storage, Storage] = {}
        self._count = 0
        self._look(program.body, (), None)
        self._slots: dict[Storage, int] = {}
        self._offsets: dict[int, int] = {}
        self._place()
        self._overlaps: dict[Any, str] = {}
        self._describe()

    # ------------------------------------------------------------------------------------------------------ looking

    def _look(self, block: list[Statement], loops: tuple[Statement, ...], nest: dict[Storage, None] | None) -> None:
        beside: dict[Storage, None] = {}
        self._together.append(beside)
        for s in block:
            self._count += 1
            start, here = self._count, beside if nest is None else nest
            for buffer, _, written in accesses(s):
                self._use(buffer.storage, loops, here)
                if written:
                    self._written.add(buffer.storage)
            for view in views(s):
                self._use(view.storage, loops, here)
                self._written.add(view.storage)
            if isinstance(s, Swap):
                for storage in (s.first, s.second):
                    self._use(storage, loops, here)
                self._swapped[s.first], self._swapped[s.second] = s.second, s.first
            inner = nest
            if nest is None and isinstance(s, For) and not s.ordered:
                inner = {}
                self._together.append(inner)
            around = (*loops, s) if isinstance(s, (For, While)) else loops
            for part in s.blocks:
                self._look(part, around, inner)
            self._spans[s] = (start, self._count)

    def _use(self, storage: Storage, loops: tuple[Statement, ...], here: dict[Storage, None]) -> None:
        life = self._lives.setdefault(storage, _Life())
        if life.first < 0:
            life.first = self._count
        life.last = self._count
        life.loops.append(loops)
        here[storage] = None

    def private(self, storage: Storage, loop: For) -> bool:
        """Whether only a loop uses a storage."""
        return storage.role == "temporary" and all(loop in loops for loops in self._lives[storage].loops)

    def within(self, storage: Storage, first: Statement, last: Statement) -> bool:
        """Whether only statements from one up to another use a storage."""
        life = self._lives[storage]
        mine = storage.role == "temporary" and storage not in self._swapped
        return mine and self._spans[first][0] <= life.first and life.last <= self._spans[last][1]

    # ------------------------------------------------------------------------------------------------------ placing

    def _span(self, storage: Storage) -> tuple[int, int]:
        """From where to where a storage is needed."""
        life = self._lives[storage]
        first, last = life.first, life.last
        whole = set(life.loops[0]).intersection(*map(set, life.loops[1:]))
        for loops in life.loops:
            for loop in loops:
                if loop not in whole:
                    start, stop = self._spans[loop]
                    first, last = min(first, start), max(last, stop)
        return first, last

    def _place(self) -> None:
        """Hand out places."""
        spans = {
            storage: self._span(storage)
            for storage in self._lives
            if storage.role == "temporary" and storage.start is None and storage.size is not None and storage.shape
        }
        sizes: list[int] = []
        busy: list[int] = []
        for storage, (first, last) in sorted(spans.items(), key=lambda item: item[1][0]):
            size = (storage.size or 0) * storage.dtype.itemsize
            free = [i for i, until in enumerate(busy) if until < first and storage not in self._swapped]
            fitting = [i for i in free if sizes[i] >= size]
            if fitting:
                slot = min(fitting, key=sizes.__getitem__)
            elif free:
                slot = max(free, key=sizes.__getitem__)
                sizes[slot] = size
            else:
                slot = len(sizes)
                sizes.append(size)
                busy.append(-1)
            busy[slot] = last if storage not in self._swapped else self._count + 1
            self._slots[storage] = slot
        for slot, size in enumerate(sizes):
            self._offsets[slot] = self.size
            self.size += (size + 2 * _LINE - 1) // _LINE * _LINE

    def offset(self, storage: Storage) -> int:
        """Where in the working memory a temporary array begins."""
        return self._offsets[self._slots[storage]]

    def swapped(self, storage: Storage) -> bool:
        """Whether a storage changes places with another."""
        return storage in self._swapped

    # -------------------------------------------------------------------------------------------------- overlapping

    def _told_apart(self, storage: Storage) -> Any:
        """What may overlap with a storage: all that have the same answer."""
        if storage.start is not None:
            return _TAPE
        if storage in self._swapped:
            return min((storage, self._swapped[storage]), key=lambda s: s.name)
        if storage.role in ("input", "constant"):
            return _READ
        return self._slots.get(storage, storage)

    def _describe(self) -> None:
        # In the order of the program: its text must be the same in every process.
        groups = [dict.fromkeys(self._told_apart(s) for s in group if not in_register(s)) for group in self._together]
        changed = {self._told_apart(s) for s in self._written if not in_register(s)}
        others: dict[Any, set[Any]] = {}
        for group in groups:
            if len(group) <= _MANY and group.keys() & changed:
                for memory in group:
                    others.setdefault(memory, set()).update(group.keys() - {memory})
        if not others:
            return
        numbers = self._numbers
        whole = next(numbers)
        self.metadata.append(f'!{whole} = distinct !{{!{whole}, !"memory"}}')
        scopes = {memory: next(numbers) for memory in others}
        for number in scopes.values():
            self.metadata.append(f"!{number} = distinct !{{!{number}, !{whole}}}")
        for memory, rest in others.items():
            mine, theirs = self._list([scopes[memory]]), self._list(sorted(scopes[other] for other in rest))
            self._overlaps[memory] = f", !alias.scope !{mine}, !noalias !{theirs}" if rest else ""

    def _list(self, scopes: Sequence[int]) -> int:
        """The number of a list of scopes."""
        number, listed = next(self._numbers), [str(scope) for scope in scopes]
        self._described.scopes[str(number)] = listed
        self.metadata.append(f"!{number} = !{{{', '.join(f'!{scope}' for scope in listed)}}}")
        return number

    def overlap(self, storage: Storage) -> str:
        """What an access to a storage says of its overlapping with others."""
        return self._overlaps.get(self._told_apart(storage), "")
