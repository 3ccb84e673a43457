"""LLVM's text for the routines of a program, which may call themselves and each other.

Each call has temporary arrays of its own: a few small ones on the stack, the others in memory that is let go at the
end.  Numbers are given and returned in registers.  Before anything else a routine looks how deep the stack is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .calls import returned
from .context import DEEP
from .formats import memory_type, register_type
from .functions import Function
from .loops import Program, Storage

if TYPE_CHECKING:
    from .llvm import Module

__all__ = ["RoutineFunction"]

_MOST_STACKED = 512
"""The bytes of temporary arrays that each call has on the stack."""


class RoutineFunction(Function):
    """Writes the instructions of a routine."""

    def __init__(self, module: Module, routine: Program, inputs: int) -> None:
        """Begin with a routine of a program that has so many inputs."""
        super().__init__(module, module.memory_of(routine), _MOST_STACKED)
        self.routine = routine
        self.shares = False
        self.know((storage for storage, _ in routine.constants), "arguments", inputs)

    def whole(self) -> str:
        """The function."""
        parameters = ["ptr %arguments", "ptr noalias %context"]
        for storage in self.routine.inputs:
            if storage.shape:
                parameters.append(f"ptr{' noalias' if storage.role == 'lent' else ''} %{storage.name}")
                self.pointers[storage] = f"%{storage.name}"
            else:
                kind = register_type(storage.dtype)
                parameters.append(f"{kind} %{storage.name}")
                self._keep(storage)
        for storage in self.routine.outputs:
            if storage.shape:
                parameters.append(f"ptr noalias %{storage.name}")
                self.pointers[storage] = f"%{storage.name}"
            else:
                self._room_for(storage)
        head = f"define internal fastcc {returned(self.routine)} @{self.routine.name}({', '.join(parameters)}) #0 {{"
        return "\n".join([head, *self.text(self.routine.body)])

    def enter(self) -> None:
        deep = self.w.value(f"icmp ult i64 {self.here()}, {self.deepest()}")
        self.w.do(f"br i1 {deep}, label %deep, label %start")
        self.begin("deep")
        self.fail(DEEP)
        self.begin("start")
        if self.memory.size:
            self.entry.append(f"  %arena = call ptr @malloc(i64 {self.memory.size})")
            self.found("%arena", str(self.memory.size))

    def leave(self, status: str) -> None:
        if self.memory.size:
            self.w.do("call void @free(ptr %arena)")
        kind = returned(self.routine)
        found = self.w.value(f"insertvalue {kind} undef, i64 {status}, 0")
        for i, storage in enumerate((s for s in self.routine.outputs if not s.shape), 1):
            x = self.w.value(f"load {memory_type(storage.dtype)}, ptr {self.pointers[storage]}")
            if storage.dtype.kind == "b":
                x = self.w.value(f"trunc i8 {x} to i1")
            found = self.w.value(f"insertvalue {kind} {found}, {register_type(storage.dtype)} {x}, {i}")
        self.w.do(f"ret {kind} {found}")

    def _room_for(self, storage: Storage) -> str:
        """Room for a number that the caller gives or is given."""
        place = self.pointers[storage] = f"%{storage.name}.place"
        self.entry.append(f"  {place} = alloca {memory_type(storage.dtype)}")
        return place

    def _keep(self, storage: Storage) -> None:
        """Keep a number that is given."""
        place, kind = self._room_for(storage), memory_type(storage.dtype)
        given = f"%{storage.name}"
        if storage.dtype.kind == "b":
            self.entry.append(f"  {given}.wide = zext i1 {given} to i8")
            given += ".wide"
        self.entry.append(f"  store {kind} {given}, ptr {place}")
