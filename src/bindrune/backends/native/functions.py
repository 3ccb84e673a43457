"""LLVM's text for statements: the instructions of one function.

Loops become loops that LLVM can vectorise: counters that do not overflow, memory known not to overlap, sums that may be
reordered.  Numbers in buffers of no dimensions live in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .advice import STEP_BY_STEP, advised, does_several, is_short, turns_back
from .asides import Aside
from .calls import call_host, call_library, call_routine
from .context import CONTEXT_DEEPEST, CONTEXT_TAPE, CONTEXT_VALUES, FULL, OUTSIDE, STACK_BOUNDS
from .formats import SLOT, constant, memory_type, register_type
from .instructions import cast, instruct
from .lanes import lanes_of
from .loops import (
    Accumulate,
    Affine,
    Allocate,
    Apply,
    Buffer,
    Check,
    Const,
    Expression,
    For,
    HostCall,
    If,
    Invoke,
    Let,
    LibraryCall,
    Load,
    Reserve,
    Statement,
    Storage,
    Store,
    Swap,
    Variable,
    While,
    affine,
)
from .memory import Memory, in_register
from .pairs import chosen, combined, loaded, product, stored
from .rows import is_of_rows
from .splitting import is_independent
from .squares import square_of

if TYPE_CHECKING:
    from .llvm import Module

__all__ = ["Function"]

_SMALL = 1024
"""The bytes up to which a temporary array lies on the stack."""

_STACK = 1 << 16
"""The bytes of all that do: the stack of a thread is not large."""


class Function:
    """Writes the instructions of one function.

    Attributes:
        module: the text it belongs to.
        w: its instructions.
        entry: what it does first: room on the stack, addresses.
        names: the operands that variables are.
        pointers: where storages begin.
        slots: for storages whose size is not known the places of their address and their size.
        sums: affine expressions that have been computed on the way to where we are.
        group: what is said of loads and stores in a loop whose steps are seen to be independent.
        shares: whether its loops may be cut out, to be shared by threads.
        plain: whether LLVM is to leave them as they are.
        around: the loop around.
        repeated: the counter of the next loop around whose steps are in order.
        spread: whether LLVM may do several steps of a loop around at once.
        vectors: the loops whose steps are lanes of vectors.
        cuts: whether statements may be cut out of it to functions of their own.
        frame: the bytes of what those are given.
        registers: the storages that are numbers in registers of its own.
        spilled: what those functions know, too: how far it is from `%spilled`.
        computed: for variables that they compute, after which of its lines it can read them.
        stacked: the bytes of the temporary arrays that lie on the stack.
        memory: what is known of its memory.
        most_stacked: how many bytes may lie on the stack.
    """

    def __init__(self, module: Module, memory: Memory, most_stacked: int = _STACK) -> None:
        self.module = module
        self.memory = memory
        self.most_stacked = most_stacked
        self.w = module.writer()
        self.entry: list[str] = []
        self.label = "begin"
        self.names: dict[Variable, str] = {}
        self.pointers: dict[Storage, str] = {}
        self.slots: dict[Storage, tuple[str, str]] = {}
        self.sums: dict[Affine, str] = {}
        self.packing = 0
        self.group = ""
        self.around: For | None = None
        self.repeated: Variable | None = None
        self.spread = False
        self.vectors: set[For] = set()
        self.stacked = 0
        self.shares = True
        self.plain = False
        self.cuts = True
        self.frame = 0
        self.registers: list[Storage] = []
        self.spilled: dict[Variable | Storage, int] = {}
        self.computed: dict[Variable, int] = {}

    # ----------------------------------------------------------------------------------------------------- memory

    def name(self, variable: Variable) -> str:
        """The operand that a variable is."""
        found = self.names.get(variable)
        if found is None:
            found = self.names[variable] = f"%reloaded{self.w.fresh()}"
            place = f"{found}.place = getelementptr i8, ptr %spilled, i64 {self.spilled[variable]}"
            read = f"{found} = load {register_type(variable.dtype)}, ptr {found}.place, align {SLOT}"
            self.w.lines[self.computed[variable]] += f"\n  {place}\n  {read}"
        return found

    def knows(self, variable: Variable) -> bool:
        """Whether a variable has its value."""
        return variable in self.names or variable in self.computed

    def spill(self, x: Variable | Storage) -> int:
        """Give a number a place that is known to functions cut out of this one, too."""
        return self.spilled.setdefault(x, SLOT * len(self.spilled))

    def tape(self) -> str:
        """Where the tape begins."""
        return self.w.value("load ptr, ptr %tape")

    def pointer(self, storage: Storage) -> str:
        """Where a storage begins."""
        if storage.start is not None:
            return self.w.value(f"getelementptr inbounds i8, ptr {self.tape()}, i64 {self.sum(storage.start)}")
        if storage in self.slots:
            return self.w.value(f"load ptr, ptr {self.slots[storage][0]}")
        found = self.pointers.get(storage)
        if found is None:
            if storage.size is None:
                self.slots[storage] = self.slot(storage)
                return self.pointer(storage)
            found = self.room(storage, storage.size * storage.dtype.itemsize)
            if self.memory.swapped(storage):
                place = f"%place.{storage.name}"
                self.entry += [f"  {place} = alloca ptr", f"  store ptr {found}, ptr {place}"]
                self.slots[storage] = (place, "")
                return self.pointer(storage)
            self.pointers[storage] = found
        return found

    def swap(self, s: Swap) -> None:
        places = [self.pointer(storage) and self.slots[storage][0] for storage in (s.first, s.second)]
        first, second = (self.w.value(f"load ptr, ptr {place}") for place in places)
        self.w.do(f"store ptr {second}, ptr {places[0]}")
        self.w.do(f"store ptr {first}, ptr {places[1]}")

    def slot(self, storage: Storage) -> tuple[str, str]:
        """Where the address of a storage is kept that is made when its size is known, and its size."""
        self.module.grows = True
        slot, capacity = f"%slot.{storage.name}", f"%capacity.{storage.name}"
        self.entry += [
            f"  {slot} = alloca ptr",
            f"  store ptr null, ptr {slot}",
            f"  {capacity} = alloca i64",
            f"  store i64 0, ptr {capacity}",
        ]
        return slot, capacity

    def room(self, storage: Storage, size: int) -> str:
        """Make room for a storage."""
        name = f"%{storage.name}"
        if in_register(storage):
            self.registers.append(storage)
        elif size <= _SMALL and self.stacked + size <= self.most_stacked:
            self.stacked += size
            self.entry.append(f"  {name} = alloca [{max(size, 1)} x i8], align 64")
        else:
            offset = self.memory.offset(storage)
            self.entry.append(f"  {name} = getelementptr inbounds i8, ptr {self.arena()}, i64 {offset}")
        return name

    def arena(self) -> str:
        """Where its working memory begins."""
        return "%arena"

    def address(self, buffer: Buffer, index: Sequence[Affine]) -> str:
        """Where an element lies."""
        base = self.pointer(buffer.storage)
        offset = self.offset(buffer.shape, index)
        if offset == "0":
            return base
        return self.w.value(f"getelementptr inbounds {memory_type(buffer.dtype)}, ptr {base}, i64 {offset}")

    def stay_within(self, buffer: Buffer, index: Sequence[Affine]) -> None:
        """Leave the program where an element is not in its buffer."""
        for length, i in zip(buffer.shape, index, strict=True):
            if all(self.knows(v) for v, _ in length.terms):
                stem = self.w.fresh("within")
                inside = self.w.value(f"icmp ult i64 {self.sum(i)}, {self.sum(length)}")
                self.w.do(f"br i1 {inside}, label %{stem}.holds, label %{stem}.fails")
                self.begin(f"{stem}.fails")
                self.fail(OUTSIDE)
                self.begin(f"{stem}.holds")

    def offset(self, shape: Sequence[Affine], index: Sequence[Affine]) -> str:
        """How many elements an index is from the first one."""
        found: Affine | None = affine(0)
        for length, i in zip(shape, index, strict=True):
            if found is not None and length.known is not None:
                found = found * length.known + i
            elif found is not None and found.known == 0:
                found = i
            else:
                found = None
                break
        if found is not None:
            return self.sum(found)
        total = "0"
        for length, i in zip(shape, index, strict=True):
            total = self.plus(self.times(total, self.sum(length)), self.sum(i))
        return total

    def sum(self, x: Affine) -> str:
        """The value of an affine expression."""
        if x.known is not None:
            return str(x.known)
        found = self.sums.get(x)
        if found is None:
            found = "0"
            for variable, factor in x.terms:
                found = self.plus(found, self.times(self.name(variable), str(factor)))
            found = self.sums[x] = self.plus(found, str(x.offset))
        return found

    def plus(self, a: str, b: str) -> str:
        """The sum of two lengths."""
        if a == "0" or b == "0":
            return b if a == "0" else a
        if not (a.startswith("%") or b.startswith("%")):
            return str(int(a) + int(b))
        return self.w.value(f"add nsw i64 {a}, {b}")

    def times(self, a: str, b: str) -> str:
        """The product of two lengths."""
        if a == "0" or b == "0":
            return "0"
        if a == "1" or b == "1":
            return b if a == "1" else a
        if not (a.startswith("%") or b.startswith("%")):
            return str(int(a) * int(b))
        return self.w.value(f"mul nsw i64 {a}, {b}")

    def load(self, buffer: Buffer, index: Sequence[Affine]) -> str:
        """Read an element."""
        if self.module.bounded:
            self.stay_within(buffer, index)
        address = self.address(buffer, index)
        dtype = buffer.dtype
        if in_register(buffer.storage):
            return self.w.value(f"load {register_type(dtype)}, ptr {address}")
        return loaded(self.w, address, dtype, self.memory.overlap(buffer.storage) + self.group)

    def store(self, buffer: Buffer, index: Sequence[Affine], x: str) -> None:
        """Write an element."""
        if self.module.bounded:
            self.stay_within(buffer, index)
        address = self.address(buffer, index)
        dtype = buffer.dtype
        if in_register(buffer.storage):
            self.w.do(f"store {register_type(dtype)} {x}, ptr {address}")
            return
        stored(self.w, address, x, dtype, self.memory.overlap(buffer.storage) + self.group)

    # ------------------------------------------------------------------------------------------- the whole function

    def text(self, statements: Sequence[Statement]) -> list[str]:
        """All its instructions."""
        self.entry += ["  %status = alloca i64", "  store i64 0, ptr %status"]
        if self.module.taped:
            self.entry += ["  %tape = alloca ptr", "  %capacity = alloca i64"]
            self.look_at_tape()
        self.enter()
        self.block(statements)
        self.w.do("br label %exit")
        self.w.begin("exit")
        self.let_go()
        self.leave(self.w.value("load i64, ptr %status"))
        if self.packing:
            self.entry.append(f"  %packed = alloca [{self.packing} x i64], align 16")
        if self.frame:
            self.entry.append(f"  %frame.inner = alloca [{self.frame} x i8], align 16")
        return ["entry:", *self._homes(), *self.entry, "  br label %begin", "begin:", *self.w.lines, "}"]

    def _homes(self) -> Iterator[str]:
        """Where the numbers in registers are, before LLVM finds registers."""
        if self.spilled:
            yield f"  %spilled = alloca [{SLOT * len(self.spilled)} x i8], align {SLOT}"
        for storage in self.registers:
            at = self.spilled.get(storage)
            home = f"alloca {register_type(storage.dtype)}"
            yield f"  %{storage.name} = {home if at is None else f'getelementptr i8, ptr %spilled, i64 {at}'}"

    def let_go(self) -> None:
        """Give memory back."""
        for slot, capacity in self.slots.values():
            if capacity:
                self.w.do(f"call void @free(ptr {self.w.value(f'load ptr, ptr {slot}')})")

    def enter(self) -> None:
        """Write what is done before everything else."""
        if not self.module.recursive:
            return
        here = self.here()
        deepest, end = self.deepest(), self.deepest(1)
        inside = [self.w.value(f"icmp {x}") for x in (f"uge i64 {here}, {deepest}", f"ult i64 {here}, {end}")]
        self.w.do(f"br i1 {self.w.value(f'and i1 {inside[0]}, {inside[1]}')}, label %start, label %ask")
        self.begin("ask")
        self.w.declarations.setdefault(STACK_BOUNDS, f"declare void @{STACK_BOUNDS}(ptr, i64)")
        self.w.do(f"call void @{STACK_BOUNDS}(ptr %context, i64 {here})")
        self.w.do("br label %start")
        self.begin("start")

    def here(self) -> str:
        """Where on its thread's stack the function is."""
        self.w.declarations.setdefault("llvm.frameaddress.p0", "declare ptr @llvm.frameaddress.p0(i32 immarg)")
        return self.w.value(f"ptrtoint ptr {self.w.value('call ptr @llvm.frameaddress.p0(i32 0)')} to i64")

    def deepest(self, word: int = 0) -> str:
        """What is known of the stack."""
        at = self.w.value(f"getelementptr i64, ptr %context, i64 {CONTEXT_DEEPEST + word}")
        return self.w.value(f"load i64, ptr {at}")

    def leave(self, status: str) -> None:
        """Write what is done at the end."""
        self.w.do(f"ret i64 {status}")

    def know(self, storages: Iterable[Storage], table: str, first: int = 0) -> None:
        """Let storages lie where a table of addresses says, from some place in it on."""
        for i, storage in enumerate(storages, first):
            self.entry.append(f"  %{table}{i} = getelementptr ptr, ptr %{table}, i64 {i}")
            self.entry.append(f"  %{storage.name} = load ptr, ptr %{table}{i}, !invariant.load !0")
            self.pointers[storage] = f"%{storage.name}"

    def look_at_tape(self) -> None:
        """Learn where the tape is now, and how much room it has."""
        for i, (name, kind) in enumerate((("tape", "ptr"), ("capacity", "i64"))):
            at = self.w.value(f"getelementptr i64, ptr %context, i64 {CONTEXT_TAPE + i}")
            self.w.do(f"store {kind} {self.w.value(f'load {kind}, ptr {at}')}, ptr %{name}")

    # ------------------------------------------------------------------------------------------------ expressions

    def value(self, x: Expression) -> str:
        """Compute an expression."""
        if isinstance(x, Const):
            return constant(x.value, x.dtype)
        if isinstance(x, Variable):
            return self.name(x)
        if isinstance(x, Affine):
            return self.sum(x)
        if isinstance(x, Load):
            return self.load(x.buffer, x.index)
        assert isinstance(x, Apply)
        if x.name == "where":
            return chosen(self.w, x.dtype, *map(self.value, x.arguments))
        arguments = [self.value(a) for a in x.arguments]
        source = x.arguments[0].dtype
        if x.name == "convert":
            return cast(self.w, arguments[0], source, x.dtype)
        return instruct(self.w, x.name, arguments, source, x.dtype)

    # ------------------------------------------------------------------------------------------------- statements

    def block(self, statements: Sequence[Statement]) -> None:
        """Write statements one after the other."""
        known = self.sums
        self.sums = dict(known)
        for some, apart in self.module.cutting.groups(statements) if self.cuts else ((statements, False),):
            if apart:
                self.module.cutting.cut(self, some)
                continue
            for statement in some:
                _WRITERS[type(statement)](self, statement)
        self.sums = known

    def begin(self, label: str) -> None:
        """Begin a block of instructions."""
        self.w.begin(label)
        self.label = label

    def let(self, s: Let) -> None:
        self.names[s.variable] = self.value(s.value)

    def allocate(self, s: Allocate) -> None:
        self.pointer(s.storage)
        size = "1"
        for length in s.storage.shape:
            size = self.times(size, self.sum(length))
        slot, capacity = self.slots[s.storage]
        size = self.times(size, str(s.storage.dtype.itemsize))
        self.found(self.w.value(f"call ptr @grow(ptr {slot}, ptr {capacity}, i64 {size})"), size)

    def reserve(self, s: Reserve) -> None:
        stem = self.w.fresh("reserve")
        bytes = self.sum(s.top)
        enough = self.w.value(f"icmp ule i64 {bytes}, {self.w.value('load i64, ptr %capacity')}")
        self.w.do(f"br i1 {enough}, label %{stem}.done, label %{stem}.more")
        self.begin(f"{stem}.more")
        place = self.w.value(f"call ptr @extend(ptr %context, i64 {bytes})")
        self.found(place, bytes)
        self.w.do(f"store ptr {place}, ptr %tape")
        at = self.w.value(f"getelementptr i64, ptr %context, i64 {CONTEXT_TAPE + 1}")
        self.w.do(f"store i64 {self.w.value(f'load i64, ptr {at}')}, ptr %capacity")
        self.w.do(f"br label %{stem}.done")
        self.begin(f"{stem}.done")

    def found(self, place: str, size: str) -> None:
        """Leave the program where there is no memory of a size."""
        stem = self.w.fresh("memory")
        missing = self.w.value(f"icmp eq ptr {place}, null")
        some = self.w.value(f"icmp ne i64 {size}, 0")
        full = self.w.value(f"and i1 {missing}, {some}")
        self.w.do(f"br i1 {full}, label %{stem}.full, label %{stem}.found")
        self.begin(f"{stem}.full")
        self.fail(FULL)
        self.begin(f"{stem}.found")

    def write(self, s: Store) -> None:
        self.store(s.buffer, s.index, self.value(s.value))

    def accumulate(self, s: Accumulate) -> None:
        if isinstance(s.value, Apply) and s.value.name == "multiply" and s.value.dtype.kind == "f":
            a, b = map(self.value, s.value.arguments)
            x = product(self.w, a, b, s.value.dtype)
        else:
            x = self.value(s.value)
        old = self.load(s.buffer, s.index)
        self.store(s.buffer, s.index, combined(self.w, s.name, old, x, s.buffer.dtype))

    def loop(self, s: For) -> None:
        if s.extent.known == 1:
            self.names[s.variable] = "0"
            self.block(s.body)
            return
        if self.shares and self.module.sharing.callers(s):
            self.module.sharing.cut(self, s)
            return
        lanes = None if self.spread else square_of(self, s) or lanes_of(self, s, self.around)
        if lanes is not None:
            self.vectors.add(s)
            lanes.write()
            return
        if not self.plain and is_short(s, self.vectors):
            for step in range(s.extent.known or 0):
                self.names[s.variable] = str(step)
                self.block(s.body)
            return
        self.count(s, "0", self.sum(s.extent))

    def count(self, s: For, start: str, stop: str) -> None:
        """A loop whose counter goes over a range."""
        stem = self.w.fresh("loop")
        before, counter = self.label, f"%{s.variable.name}.{stem}"
        known = not (start.startswith("%") or stop.startswith("%"))
        if known and int(start) >= int(stop):
            return
        if known:
            self.w.do(f"br label %{stem}")
        else:
            some = self.w.value(f"icmp slt i64 {start}, {stop}")
            self.w.do(f"br i1 {some}, label %{stem}, label %{stem}.done")
        self.begin(stem)
        self.w.do(f"{counter} = phi i64 [ {start}, %{before} ], [ {counter}.next, %{stem}.again ]")
        self.names[s.variable] = self.index(s, counter, start, stop)
        rows = is_of_rows(self, s)
        outside = self.group, self.around, self.spread, self.cuts, self.repeated
        group = self.module.group() if is_independent(s) else ""
        self.group, self.around = group and f", !llvm.access.group {group}", s
        self.spread |= does_several(s, self.vectors) and not rows
        self.cuts &= s.ordered
        self.repeated = s.variable if s.ordered else self.repeated
        self.block(s.body)
        self.group, self.around, self.spread, self.cuts, self.repeated = outside
        self.w.do(f"br label %{stem}.again")
        self.begin(f"{stem}.again")
        self.w.do(f"{counter}.next = add nuw nsw i64 {counter}, 1")
        more = self.w.value(f"icmp ne i64 {counter}.next, {stop}")
        advice = self.module.advice(STEP_BY_STEP if self.plain or rows else advised(s, self.vectors), group)
        self.w.do(f"br i1 {more}, label %{stem}, label %{stem}.done{advice}")
        self.begin(f"{stem}.done")

    def index(self, s: For, counter: str, start: str, stop: str) -> str:
        """The step that a loop over a range is at; every other time it may go through them from the last on."""
        if self.repeated is None or self.plain or not turns_back(s, self.vectors):
            return counter
        odd = self.w.value(f"and i64 {self.name(self.repeated)}, 1")
        mask = self.w.value(f"sub i64 0, {odd}")
        ends = self.w.value(f"and i64 {self.plus(start, stop)}, {mask}")
        return self.w.value(f"add i64 {self.w.value(f'xor i64 {counter}, {mask}')}, {ends}")

    def repeat(self, s: While) -> None:
        stem = self.w.fresh("while")
        self.w.do(f"br label %{stem}")
        self.begin(stem)
        self.w.do(f"br i1 {self.load(s.going, ())}, label %{stem}.body, label %{stem}.done")
        self.begin(f"{stem}.body")
        self.block(s.body)
        self.w.do(f"br label %{stem}")
        self.begin(f"{stem}.done")

    def choose(self, s: If) -> None:
        stem = self.w.fresh("if")
        self.w.do(f"br i1 {self.value(s.condition)}, label %{stem}.then, label %{stem}.otherwise")
        for name, block in (("then", s.then), ("otherwise", s.otherwise)):
            self.begin(f"{stem}.{name}")
            self.block(block)
            self.w.do(f"br label %{stem}.done")
        self.begin(f"{stem}.done")

    def check(self, s: Check) -> None:
        stem = self.w.fresh("check")
        self.w.do(f"br i1 {self.value(s.condition)}, label %{stem}.holds, label %{stem}.fails")
        self.begin(f"{stem}.fails")
        known = self.sums
        self.sums = dict(known)
        for i, x in enumerate(s.values):
            at = self.w.value(f"getelementptr i64, ptr %context, i64 {CONTEXT_VALUES + 2 * i}")
            found = self.value(x)
            if x.dtype.kind == "b":
                found = self.w.value(f"zext i1 {found} to i8")
            self.w.do(f"store {memory_type(x.dtype)} {found}, ptr {at}")
        self.sums = known
        self.fail(s.reason + 1)
        self.begin(f"{stem}.holds")

    def cell(self, kind: str, x: str) -> str:
        """A number in memory, to be handed over by its address and only read there."""
        if not x.startswith("%"):
            name = f'@"known.{kind}.{x}"'
            self.w.declarations[name] = f"{name} = private unnamed_addr constant {kind} {x}, align 16"
            return name
        name = f"%cell{self.w.fresh()}"
        self.entry.append(f"  {name} = alloca {kind}, align 16")
        self.w.do(f"store {kind} {x}, ptr {name}")
        return name

    def fail(self, status: int | str) -> None:
        """Leave the program."""
        self.w.do(f"store i64 {status}, ptr %status")
        self.w.do("br label %exit")

    def make_room(self, position: int, address: str) -> None:
        """An output lies at an address from now on."""
        for storage in self.module.outputs:
            if storage.position == position:
                self.pointers[storage] = address

    def aside(self, s: Aside) -> None:
        around = self.shares, self.plain
        self.shares, self.plain = False, True
        self.block(s.body)
        self.shares, self.plain = around

    def host(self, s: HostCall) -> None:
        call_host(self, s)

    def library(self, s: LibraryCall) -> None:
        call_library(self, s)

    def invoke(self, s: Invoke) -> None:
        call_routine(self, s)


_WRITERS: dict[type[Statement], Callable[[Function, Any], None]] = {
    Let: Function.let,
    Swap: Function.swap,
    Allocate: Function.allocate,
    Reserve: Function.reserve,
    Store: Function.write,
    Accumulate: Function.accumulate,
    For: Function.loop,
    While: Function.repeat,
    If: Function.choose,
    Aside: Function.aside,
    Check: Function.check,
    HostCall: Function.host,
    LibraryCall: Function.library,
    Invoke: Function.invoke,
}
