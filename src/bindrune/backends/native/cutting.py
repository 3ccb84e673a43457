"""Cutting: statements of a program that is very large go to functions of their own, one group after the other.

The time that compiling takes grows with the size of functions, and not only in proportion.  A group is called with a
frame, which says where everything lies that others use, too.  Numbers that pass between groups lie side by side in
memory: a group reads those that it needs at its beginning and writes back at its end what others need, so that the
function that calls the groups has nothing to do with most of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from .formats import SLOT, register_type
from .functions import Function
from .inner import Inner
from .likeness import outline
from .loops import Allocate, For, HostCall, If, Let, Statement, Storage, Swap, Variable, While
from .memory import in_register
from .rewriting import accesses, variables, views

if TYPE_CHECKING:
    from .llvm import Module

__all__ = ["Cutting"]

_MOST = 400
"""What is in one function, about: statements, of which a loop counts as some."""

_MOST_ONCE = 250
"""The same for what runs once: a call costs it nothing, and more functions can be compiled side by side."""

_LOOP, _CALL = 8, 2
"""A loop, beside what is in it, and the call that it becomes if it is cut out."""

_LEAST = 60
"""What is not worth a function of its own."""


class Cutting:
    """Decides where to cut, and cuts.

    Args:
        module: what the functions belong to.
        once: the statements of the program that run once.

    Attributes:
        functions: the text of the functions.
    """

    def __init__(self, module: Module, once: Sequence[Statement]) -> None:
        self.module = module
        self._sizes: dict[Statement, int] = {}
        self._once = once
        self._repeated = _repeated(once) if sum(map(self._size, once)) > _MOST_ONCE else set()
        self.functions: list[str] = []
        self._later: dict[Statement, set[Variable]] = {}
        """By the last statement of a group the variables that are used behind it."""

    def _size(self, s: Statement) -> int:
        found = self._sizes.get(s)
        if found is None:
            found = 1 + sum(self._size(inner) for block in s.blocks for inner in block)
            found += _LOOP if isinstance(s, (For, While)) else 0
            self._sizes[s] = found
        return found

    def repeats(self, s: Statement) -> bool:
        """Whether a statement runs once, and there seem to be others like it in a large program."""
        return s in self._repeated

    def groups(self, block: Sequence[Statement]) -> Iterator[tuple[Sequence[Statement], bool]]:
        """The statements of a block in groups, and whether each is to be a function."""
        most = _MOST_ONCE if block is self._once else _MOST
        if sum(map(self._size, block)) <= most:
            yield block, False
            return
        if block is self._once:
            self._sizes.update((s, _CALL) for s in block if isinstance(s, For) and self.module.sharing.callers(s))
        group: list[Statement] = []
        found: list[tuple[list[Statement], bool]] = []
        size = 0
        for s in block:
            mine = self._size(s)
            stays = (mine > most and _can_be_cut(s)) or (isinstance(s, HostCall) and s.number < 0)
            if group and (stays or size + mine > most):
                found.append((group, size > _LEAST))
                group, size = [], 0
            if stays:
                found.append(([s], False))
            else:
                group.append(s)
                size += mine
        if group:
            found.append((group, size > _LEAST))
        used: set[Variable] = set()
        for some, apart in reversed(found):
            if apart:
                self._later[some[-1]] = set(used)
            for s in some:
                used |= _used(s)
        yield from found

    def cut(self, f: Function, group: Sequence[Statement]) -> None:
        """Write a call that runs some statements, and the function of those."""
        piece = _Piece(f, group)
        name = f"piece{len(self.functions)}"
        later = self._later.pop(group[-1])
        kept = [s.variable for s in group if isinstance(s, Let) and s.variable in later]
        self.functions.append(piece.whole(name, kept))
        f.frame = max(f.frame, SLOT * len(piece.captured), SLOT)
        piece.hand_over("%frame.inner")
        status = f.w.value(f"call i64 @{name}(ptr %frame.inner, ptr %arguments, ptr %context)")
        if self.module.taped:
            f.look_at_tape()
        stem = f.w.fresh("piece")
        f.w.do(f"br i1 {f.w.value(f'icmp eq i64 {status}, 0')}, label %{stem}.done, label %{stem}.failed")
        f.begin(f"{stem}.failed")
        f.fail(status)
        f.begin(f"{stem}.done")
        for variable in kept:
            f.names.pop(variable, None)
            f.computed[variable] = len(f.w.lines) - 1


def _repeated(block: Sequence[Statement]) -> set[Statement]:
    """The loops of which there seem to be several."""
    found: dict[Hashable, list[Statement]] = {}
    for s in block:
        if isinstance(s, For) and not s.ordered:
            found.setdefault(outline(s), []).append(s)
    return {s for some in found.values() if len(some) > 1 for s in some}


def _can_be_cut(s: Statement) -> bool:
    """Whether what is in a statement can be cut into groups."""
    return isinstance(s, (While, If)) or (isinstance(s, For) and s.ordered)


def _used(s: Statement) -> set[Variable]:
    found = set(variables(s))
    for block in s.blocks:
        for inner in block:
            found |= _used(inner)
    return found


def _written(block: Sequence[Statement]) -> Iterator[Storage]:
    for s in block:
        yield from (buffer.storage for buffer, _, written in accesses(s) if written)
        yield from (view.storage for view in views(s))
        for inner in s.blocks:
            yield from _written(inner)


def _moved(block: Sequence[Statement]) -> Iterator[Storage]:
    for s in block:
        if isinstance(s, Allocate):
            yield s.storage
        elif isinstance(s, Swap):
            yield from (s.first, s.second)
        for inner in s.blocks:
            yield from _moved(inner)


class _Piece(Inner):
    """Writes the function for some statements."""

    def __init__(self, outer: Function, group: Sequence[Statement]) -> None:
        super().__init__(outer)
        self.group = outer.group
        self.shares = outer.shares
        self.cuts = False
        self._group = group
        self._moving = set(_moved(group))
        """The arrays that lie elsewhere afterwards."""
        self._kept: list[Variable] = []
        self._arena = ""
        self._spilled = ""
        self._registers: dict[Storage, str] = {}
        """Where the numbers are outside that it has copies of."""
        self._slots: dict[Storage, str] = {}
        """Where the addresses are outside that it has copies of."""

    def whole(self, name: str, kept: list[Variable]) -> str:
        """The function; it keeps some variables for others."""
        self._kept = kept
        lines = self.text(self._group)
        given = "ptr noalias %frame, ptr %arguments, ptr noalias %context"
        return "\n".join([f"define internal i64 @{name}({given}) noinline #0 {{", *lines])

    def block(self, statements: Sequence[Statement]) -> None:
        super().block(statements)
        if statements is not self._group:
            return
        for variable in self._kept:
            at = self._place(variable)
            self.w.do(f"store {register_type(variable.dtype)} {self.name(variable)}, ptr {at}")
        for storage, slot in self._slots.items():
            self.w.do(f"store ptr {self.pointer(storage)}, ptr {slot}")
        written = set(_written(self._group))
        for storage, at in self._registers.items():
            if storage in written:
                kind = register_type(storage.dtype)
                self.w.do(f"store {kind} {self.w.value(f'load {kind}, ptr {self.pointers[storage]}')}, ptr {at}")

    def enter(self) -> None:
        pass

    def let_go(self) -> None:
        pass

    def arena(self) -> str:
        self._arena = self._arena or self.capture("ptr", self.outer.arena())
        return self._arena

    def name(self, variable: Variable) -> str:
        if variable not in self.names and variable in self.outer.computed:
            at, found = self._place(variable), f"%given{self.w.fresh()}"
            self.entry.append(f"  {found} = load {register_type(variable.dtype)}, ptr {at}, align {SLOT}")
            self.names[variable] = found
        return super().name(variable)

    def _place(self, x: Variable | Storage) -> str:
        """Where a number lies that others use, too."""
        self._spilled = self._spilled or self.capture("ptr", "%spilled")
        at = f"%place{self.w.fresh()}"
        self.entry.append(f"  {at} = getelementptr i8, ptr {self._spilled}, i64 {self.outer.spill(x)}")
        return at

    def pointer(self, storage: Storage) -> str:
        known = storage.start is not None or storage in self.pointers or storage in self.slots
        if not known and not self._is_own(storage):
            if storage in self._moving:
                self.outer.pointer(storage)
                slot, capacity = self.outer.slots[storage]
                if capacity:
                    self.slots[storage] = self.capture("ptr", slot), self.capture("ptr", capacity)
                else:
                    self.slots[storage] = self._swapping(storage, self.capture("ptr", slot)), ""
            elif in_register(storage):
                self.pointers[storage] = self._copied(storage)
            else:
                self.pointers[storage] = self.capture("ptr", self.outer.pointer(storage))
        return super().pointer(storage)

    def _is_own(self, storage: Storage) -> bool:
        """Whether nobody else uses a storage."""
        first, last = self._group[0], self._group[-1]
        return storage.size is not None and self.memory.within(storage, first, last)

    def _swapping(self, storage: Storage, slot: str) -> str:
        """A copy of the place where the address of an array is kept, which nothing that is written can overlap."""
        self._slots[storage] = slot
        found = f"%place.{storage.name}"
        self.entry += [
            f"  {found} = alloca ptr",
            f"  {found}.before = load ptr, ptr {slot}",
            f"  store ptr {found}.before, ptr {found}",
        ]
        return found

    def _copied(self, storage: Storage) -> str:
        """A copy of a number outside."""
        kind, found = register_type(storage.dtype), f"%{storage.name}"
        self.outer.pointer(storage)
        at = self._registers[storage] = self._place(storage)
        self.entry += [
            f"  {found} = alloca {kind}",
            f"  {found}.before = load {kind}, ptr {at}",
            f"  store {kind} {found}.before, ptr {found}",
        ]
        return found
