"""Lanes: short loops over elements that lie side by side, as operations on vectors.

The rows of small matrices, the states of a filter: loops of a few steps, independent of each other, which LLVM would
write out step by step.  All steps are done at once instead.  What lies side by side is loaded and stored together,
what is the same in all steps is spread over the lanes, and numbers of the steps' own are vectors.  A column is put
together from its elements where that can be done once, before the loop around.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .formats import constant, register_type
from .loops import (
    Accumulate,
    Affine,
    Apply,
    Buffer,
    Const,
    Expression,
    For,
    Let,
    Load,
    Statement,
    Storage,
    Store,
    Variable,
    affine,
)
from .machine import vector_bytes
from .memory import in_register
from .rewriting import Rewriter, accesses

if TYPE_CHECKING:
    from .functions import Function

__all__ = ["Lanes", "lanes_of"]

_OPERATIONS = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv", "negative": "fneg"}

_LONG = 8
"""Inner loops of so many steps are better vectorised themselves."""

_LARGEST = 64
"""The most statements that are written for a loop."""


def lanes_of(f: Function, loop: For, around: For | None) -> Lanes | None:
    """How to do all steps of a loop at once, if that can be."""
    if loop.ordered or loop.extent.known is None:
        return None
    dtypes = {buffer.dtype for s in _all(loop.body) for buffer, _, _ in accesses(s)}
    if len(dtypes) != 1:
        return None
    (dtype,) = dtypes
    if dtype.kind != "f" or dtype.itemsize not in (4, 8):
        return None
    # A register with lanes to spare is loaded and stored in pieces, for which the next step would have to wait.
    independent = around is not None and not around.ordered
    for turned in (loop, *_interchanged(loop)):
        steps = turned.extent.known or 0
        if steps > 1 and (independent or not steps & (steps - 1)) and steps * dtype.itemsize <= vector_bytes():
            found = Lanes(f, turned, loop, around, dtype)
            if found.fits():
                return found
    return None


def _written_out(block: list[Statement]) -> int:
    """How many statements there are when all loops among some are written out."""
    return sum((s.extent.known or 0) * _written_out(s.body) if isinstance(s, For) else 1 for s in block)


def _interchanged(loop: For) -> Iterator[For]:
    """A perfect nest of two loops with the other one outside."""
    match loop.body:
        case [For(ordered=False) as inner] if not any(v is loop.variable for v, _ in inner.extent.terms):
            yield For(inner.variable, inner.extent, [For(loop.variable, loop.extent, inner.body, False)], False)


def _all(block: list[Statement]) -> Iterator[Statement]:
    for s in block:
        yield s
        for inner in s.blocks:
            yield from _all(inner)


def _only_adds(loop: For) -> bool:
    """Whether each statement of a loop adds to one element of its own at all steps, and none reads such an element."""
    totals = [s.buffer.storage for s in loop.body if isinstance(s, Accumulate) and s.name == "add"]
    if len(totals) < len(loop.body) or len(set(totals)) < len(totals):
        return False
    touched = [access for s in loop.body for access in accesses(s)]
    moving = (i for buffer, index, written in touched if written for i in index)
    read = {buffer.storage for buffer, _, written in touched if not written}
    return read.isdisjoint(totals) and not any(v is loop.variable for i in moving for v, _ in i.terms)


class Lanes:
    """Writes the instructions that do all steps of a loop at once.

    LLVM turns what is read from memory into what is still in registers, and takes columns out of the loops around.
    """

    def __init__(self, f: Function, loop: For, whole: For, around: For | None, dtype: np.dtype[Any]) -> None:
        self._f = f
        self._loop = loop
        self._whole = whole
        """The nest as the program has it."""
        self._around = around
        self._dtype = dtype
        self._scalar = register_type(dtype)
        self._type = f"<{loop.extent.known} x {self._scalar}>"
        self._own: dict[Storage, str] = {}
        """The places of numbers of the steps' own."""
        self._names: dict[Variable, str] = {}
        self._written = {
            buffer.storage for s in _all([around or loop]) for buffer, _, written in accesses(s) if written
        }

    # ---------------------------------------------------------------------------------------------------- deciding

    def fits(self) -> bool:
        """Whether there are vectors for all that is done, and it is not too much to be written out."""
        return _written_out(self._loop.body) <= _LARGEST and all(map(self._fits, _all(self._loop.body)))

    def _fits(self, s: Statement) -> bool:
        if isinstance(s, For):
            return s.extent.known is not None and s.extent.known < _LONG
        if isinstance(s, Let):
            return self._is_vector(s.value)
        if not isinstance(s, (Store, Accumulate)) or (isinstance(s, Accumulate) and s.name not in ("add", "multiply")):
            return False
        return self._is_vector(s.value) and (self._is_own(s.buffer.storage) or self._step(s.buffer, s.index) == 1)

    def _is_vector(self, x: Expression) -> bool:
        if x.dtype != self._dtype:
            return False
        if isinstance(x, Load):
            return self._is_own(x.buffer.storage) or self._step(x.buffer, x.index) in (0, 1) or self._is_kept(x)
        if isinstance(x, Apply):
            return x.name in _OPERATIONS and all(map(self._is_vector, x.arguments))
        return isinstance(x, (Const, Variable))

    def _is_own(self, storage: Storage) -> bool:
        return in_register(storage) and self._f.memory.private(storage, self._whole)

    def _step(self, buffer: Buffer, index: tuple[Affine, ...]) -> int | None:
        """How many elements further the next step's element lies, if that is none or one."""
        start = () if buffer.storage.start is None else (buffer.storage.start,)
        moving = [dict(i.terms).get(self._loop.variable, 0) for i in (*start, *index)]
        if not any(moving):
            return 0
        return 1 if index and moving[-1] == 1 and not any(moving[:-1]) else None

    def _is_kept(self, x: Load) -> bool:
        """Whether a column can be put together before the loop around."""
        if self._around is None or x.buffer.storage in self._written or x.buffer.storage.start is not None:
            return False
        return not any(v is self._around.variable for i in x.index for v, _ in i.terms)

    # ----------------------------------------------------------------------------------------------------- writing

    def write(self) -> None:
        """Write the instructions."""
        f = self._f
        known = f.sums
        f.sums = dict(known)
        f.names[self._loop.variable] = "0"
        self._block(self._loop.body)
        f.sums = known

    def _block(self, block: list[Statement]) -> None:
        for s in block:
            if isinstance(s, For):
                self._write_out(s)
            elif isinstance(s, Let):
                self._names[s.variable] = self._value(s.value)
            elif isinstance(s, Store):
                self._store(s.buffer, s.index, self._value(s.value))
            else:
                assert isinstance(s, Accumulate)
                self._accumulate(s, self._value(s.value))

    def _accumulate(self, s: Accumulate, x: str) -> None:
        self._store(s.buffer, s.index, self._operation(s.name, self._load(Load(s.buffer, s.index)), x))

    def _operation(self, name: str, *arguments: str) -> str:
        return self._f.w.value(f"{_OPERATIONS[name]} {self._type} {', '.join(arguments)}")

    def _write_out(self, loop: For) -> None:
        """Write all steps of an inner loop, and add up its terms in pairs, for none to wait for all before it."""
        f = self._f
        terms: dict[Statement, list[str]] = {}
        for step in range(loop.extent.known or 0):
            known = f.sums
            f.sums = dict(known)
            f.names[loop.variable] = str(step)
            if _only_adds(loop):
                for s in loop.body:
                    assert isinstance(s, Accumulate)
                    terms.setdefault(s, []).append(self._value(s.value))
            else:
                self._block(loop.body)
            f.sums = known
        for s, found in terms.items():
            assert isinstance(s, Accumulate)
            while len(found) > 1:
                left = found[len(found) // 2 * 2 :]
                found = [self._operation("add", a, b) for a, b in zip(found[::2], found[1::2], strict=False)] + left
            self._accumulate(s, found[0])

    def _value(self, x: Expression) -> str:
        if isinstance(x, Const):
            return self._spread(constant(x.value, x.dtype))
        if isinstance(x, Variable):
            return self._names[x] if x in self._names else self._spread(self._f.name(x))
        if isinstance(x, Load):
            return self._load(x)
        assert isinstance(x, Apply)
        return self._operation(x.name, *map(self._value, x.arguments))

    def _spread(self, x: str) -> str:
        w = self._f.w
        first = w.value(f"insertelement {self._type} poison, {self._scalar} {x}, i64 0")
        steps = self._loop.extent.known
        return w.value(f"shufflevector {self._type} {first}, {self._type} poison, <{steps} x i32> zeroinitializer")

    def _load(self, x: Load) -> str:
        if self._is_own(x.buffer.storage):
            return self._f.w.value(f"load {self._type}, ptr {self._place(x.buffer.storage)}")
        step = self._step(x.buffer, x.index)
        if step == 0:
            return self._spread(self._f.load(x.buffer, x.index))
        if step == 1:
            place, said = self._elements(x.buffer, x.index)
            return self._f.w.value(f"load {self._type}, ptr {place}{said}")
        found = "poison"
        for lane in range(self._loop.extent.known or 0):
            index = tuple(map(Rewriter({self._loop.variable: affine(lane)}).affine, x.index))
            element = self._f.load(x.buffer, index)
            found = self._f.w.value(f"insertelement {self._type} {found}, {self._scalar} {element}, i64 {lane}")
        return found

    def _store(self, buffer: Buffer, index: tuple[Affine, ...], x: str) -> None:
        if self._is_own(buffer.storage):
            self._f.w.do(f"store {self._type} {x}, ptr {self._place(buffer.storage)}")
        else:
            place, said = self._elements(buffer, index)
            self._f.w.do(f"store {self._type} {x}, ptr {place}{said}")

    def _place(self, storage: Storage) -> str:
        """The place of a number of the steps' own."""
        found = self._own.get(storage)
        if found is None:
            found = self._own[storage] = f"%lanes{self._f.w.fresh()}"
            self._f.entry.append(f"  {found} = alloca {self._type}")
        return found

    def _elements(self, buffer: Buffer, index: tuple[Affine, ...]) -> tuple[str, str]:
        """Where elements side by side lie, and what is said of them."""
        f = self._f
        if f.module.bounded:
            last = Rewriter({self._loop.variable: self._loop.extent - 1})
            f.stay_within(buffer, index)
            f.stay_within(buffer, tuple(map(last.affine, index)))
        place = f.address(buffer, index)
        return place, f", align {self._dtype.itemsize}{f.memory.overlap(buffer.storage)}"
