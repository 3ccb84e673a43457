"""The way in from C: a function of pointers and numbers, as text for LLVM and for a header.

Arrays are pointers to contiguous elements, numbers are given by value, and results are written where the caller says.
Each call works in memory of its own, so that calls may be made from many threads.  What the program changes among its
arguments is put there when it has ended well.

The status is 0, the number of the reason why the program stopped, or one of the negative ones; all have a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...graph.dims import Dim, Length
from ...graph.graph import PYTHON, Type, Value
from .context import CONTEXT_DEEPEST, CONTEXT_TAPE, STACK_BOUNDS
from .entry import CONTEXT_WORDS
from .formats import memory_type
from .integers import LIMIT

__all__ = ["ALONE", "PROGRAM", "UNREADY", "Interface", "Parameter", "declaration", "function_text", "is_passable"]

PROGRAM = "bindrune.program"
"""The symbol of the program itself."""

NO_MEMORY, TOO_LARGE = -1, -2

ALONE = f"""
define i64 @bindrune.parts(i64 %count, i64 %cost) alwaysinline {{
  ret i64 1
}}

define void @bindrune.parallel(ptr %body, ptr %frame, i64 %count, i64 %parts) alwaysinline {{
  call void %body(ptr %frame, i64 0, i64 0, i64 %count)
  ret void
}}

define void @{STACK_BOUNDS}(ptr %context, i64 %here) alwaysinline {{
  %deepest = getelementptr i64, ptr %context, i64 {CONTEXT_DEEPEST}
  store i64 0, ptr %deepest
  ret void
}}
"""
"""What stands for the pool of threads: everything is done by whoever calls; and how deep recursion goes is C's own
business."""

UNREADY = (f"an integer is {LIMIT} or more in magnitude", "there is no memory")
"""What the negative statuses say, the lowest first."""

_ALIGNMENT = 64
_FLOATS = {4: "float", 8: "double"}


class Parameter(NamedTuple):
    """A parameter of the C function.

    Attributes:
        name: its name there.
        type: what it is in the program.
        role: "argument", "length", "result", or "changed" for an argument that is a result as well.
    """

    name: str
    type: Type
    role: str

    @property
    def by_value(self) -> bool:
        """Whether it is a number instead of an address."""
        return self.role in ("argument", "length") and not self.type.shape and _c_type(self.type.dtype)[1] == 1

    @property
    def limited(self) -> bool:
        """Whether it is an integer as Python has them, which programs keep small enough to be exact."""
        return self.role == "argument" and self.type.form == PYTHON and self.type.dtype.kind == "i"


class Interface(NamedTuple):
    """What the C function is given, and what the program is.

    Attributes:
        parameters: in order; the inputs first.
        names: for each value that lengths are made of the parameter that says it.
        inputs: how many parameters are inputs of the program.
        constants: the contents of its other inputs.
        changed: the parameters that its last outputs are put in.
        arena: the bytes it works in.
        reasons: why it may stop.
    """

    parameters: Sequence[Parameter]
    names: Mapping[Value, str]
    inputs: int
    constants: Sequence[np.ndarray[Any, Any]]
    changed: Sequence[int]
    arena: int
    reasons: Sequence[str]

    @property
    def results(self) -> list[Parameter]:
        """The parameters that only take results."""
        return [p for p in self.parameters if p.role == "result"]

    def length(self, n: Length) -> str:
        """A length as C writes it."""
        return n.text(self.names.__getitem__) if isinstance(n, Dim) else str(n)


def is_passable(type: Type) -> bool:
    """Whether C has a type for something's elements."""
    return (
        type.dtype.kind in "biufc" and type.dtype.isnative and type.dtype.itemsize <= 8 * (1 + (type.dtype.kind == "c"))
    )


def _c_type(dtype: np.dtype[Any]) -> tuple[str, int]:
    """The C type of a number's parts, and how many there are."""
    if dtype.kind == "b":
        return "bool", 1
    if dtype.kind == "c":
        return _FLOATS[dtype.itemsize // 2], 2
    if dtype.kind == "f" and dtype.itemsize in _FLOATS:
        return _FLOATS[dtype.itemsize], 1
    return f"{'int' if dtype.kind == 'i' else 'uint'}{8 * dtype.itemsize}_t", 1


def declaration(name: str, interface: Interface) -> str:
    """The function as C declares it."""
    return f"int {name}({', '.join(_declared(p, interface) for p in interface.parameters) or 'void'});"


def _declared(p: Parameter, interface: Interface) -> str:
    kind, parts = _c_type(p.type.dtype)
    if p.by_value:
        return f"{kind} {p.name}"
    const = "const " if p.role == "argument" else ""
    size = parts * int(np.prod([n for n in p.type.shape if isinstance(n, int)]))
    if all(isinstance(n, int) for n in p.type.shape) and size > 1:
        return f"{const}{kind} {p.name}[{size}]"
    return f"{const}{kind} *{p.name}"


# ------------------------------------------------------------------------------------------------------------- text


def function_text(name: str, interface: Interface) -> str:
    """The function in LLVM's language, and the one that says what its result means."""
    return "\n".join(
        [*_constants(interface), *_function(name, interface), *_messages(name, interface.reasons), _DECLARED]
    )


_DECLARED = f"""
declare i64 @{PROGRAM}(ptr, ptr, ptr)
declare ptr @aligned_alloc(i64, i64)
declare void @free(ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""


def _quoted(content: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}" for b in content)


def _constants(interface: Interface) -> Iterator[str]:
    for i, array in enumerate(interface.constants):
        content = array.tobytes() or bytes(1)
        kind = f"[{len(content)} x i8]"
        yield f'@constant{i} = private constant {kind} c"{_quoted(content)}", align {_ALIGNMENT}'


def _function(name: str, interface: Interface) -> Iterator[str]:
    parameters, results = interface.parameters, interface.results
    inputs = interface.inputs + len(interface.constants)
    outputs = len(results) + len(interface.changed)
    yield f"define signext i32 @{name}({', '.join(map(_taken, parameters))}) nounwind {{"
    yield "entry:"
    yield f"  %context = alloca [{CONTEXT_WORDS} x i64], align {_ALIGNMENT}"
    yield f"  %arguments = alloca [{max(inputs, 1)} x ptr]"
    yield f"  %results = alloca [{max(outputs, 1)} x ptr]"
    places = []
    for p in parameters[: interface.inputs]:
        places.append(f"%p.{p.name}")
        if p.by_value:
            kind = memory_type(p.type.dtype)
            yield f"  %cell.{p.name} = alloca {kind}, align 8"
            yield f"  store {kind} %p.{p.name}, ptr %cell.{p.name}"
            places[-1] = f"%cell.{p.name}"
    for i, p in enumerate(p for p in parameters if p.limited):
        yield f"  %beyond{i} = add i64 %p.{p.name}, {LIMIT - 1}"
        yield f"  %small{i} = icmp ult i64 %beyond{i}, {2 * LIMIT - 1}"
        yield f"  br i1 %small{i}, label %go{i}, label %large{i}"
        yield f"large{i}:"
        yield f"  ret i32 {TOO_LARGE}"
        yield f"go{i}:"
    places += [f"@constant{i}" for i in range(len(interface.constants))]
    for i, place in enumerate(places):
        yield f"  %argument{i} = getelementptr ptr, ptr %arguments, i64 {i}"
        yield f"  store ptr {place}, ptr %argument{i}"
    for i, word in enumerate((1, CONTEXT_TAPE, CONTEXT_TAPE + 1, CONTEXT_DEEPEST, CONTEXT_DEEPEST + 1)):
        yield f"  %word{i} = getelementptr i64, ptr %context, i64 {word}"
        yield f"  store i64 0, ptr %word{i}"
    # What it works in, and behind it the new contents of arguments.
    total = str((interface.arena + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT)
    starts, sizes = [], []
    for i, target in enumerate(interface.changed):
        starts.append(total)
        lines, size = _bytes(parameters[target].type, interface.names, f"size{i}")
        yield from lines
        sizes.append(size)
        yield f"  %sum{i} = add i64 {size}, {_ALIGNMENT - 1}"
        yield f"  %whole{i} = and i64 %sum{i}, -{_ALIGNMENT}"
        yield f"  %total{i} = add i64 {total}, %whole{i}"
        total = f"%total{i}"
    needed = total != "0"
    if needed:
        yield f"  %work = call ptr @aligned_alloc(i64 {_ALIGNMENT}, i64 {total})"
        yield "  %none = icmp eq ptr %work, null"
        yield "  br i1 %none, label %poor, label %begin"
        yield "poor:"
        yield f"  ret i32 {NO_MEMORY}"
    else:
        yield "  br label %begin"
    yield "begin:"
    yield f"  store ptr {'%work' if needed else 'null'}, ptr %context"
    for i, start in enumerate(starts):
        yield f"  %new{i} = getelementptr i8, ptr %work, i64 {start}"
    targets = [*(f"%p.{p.name}" for p in results), *(f"%new{i}" for i in range(len(starts)))]
    for i, place in enumerate(targets):
        yield f"  %result{i} = getelementptr ptr, ptr %results, i64 {i}"
        yield f"  store ptr {place}, ptr %result{i}"
    yield f"  %status = call i64 @{PROGRAM}(ptr %arguments, ptr %results, ptr %context)"
    yield "  %tape = load ptr, ptr %word1"
    yield "  call void @free(ptr %tape)"
    yield "  %fine = icmp eq i64 %status, 0"
    yield "  br i1 %fine, label %done, label %leave"
    yield "done:"
    for i, target in enumerate(interface.changed):
        place = f"%p.{parameters[target].name}"
        yield f"  call void @llvm.memcpy.p0.p0.i64(ptr {place}, ptr %new{i}, i64 {sizes[i]}, i1 false)"
    yield "  br label %leave"
    yield "leave:"
    if needed:
        yield "  call void @free(ptr %work)"
    yield "  %found = trunc i64 %status to i32"
    yield "  ret i32 %found"
    yield "}"


def _taken(p: Parameter) -> str:
    """A parameter as LLVM declares it; narrow integers are as wide as C's calls make them."""
    if not p.by_value:
        return f"ptr %p.{p.name}"
    dtype = p.type.dtype
    kind = memory_type(dtype)
    extended = "" if kind in ("i64", *_FLOATS.values()) else " signext" if dtype.kind == "i" else " zeroext"
    return f"{kind}{extended} %p.{p.name}"


def _bytes(type: Type, names: Mapping[Value, str], stem: str) -> tuple[list[str], str]:
    """How many bytes an array takes, and the instructions that say it."""
    lines: list[str] = []
    total = str(type.dtype.itemsize * int(np.prod([n for n in type.shape if isinstance(n, int)])))

    def let(instruction: str) -> str:
        lines.append(f"  %{stem}.{len(lines)} = {instruction}")
        return f"%{stem}.{len(lines) - 1}"

    for n in type.shape:
        if isinstance(n, Dim):
            found = str(n.offset)
            for value, factor in n.terms.items():
                found = let(f"add i64 {found}, {let(f'mul i64 %p.{names[value]}, {factor}')}")
            total = let(f"mul i64 {total}, {found}")
    return lines, total


def _messages(name: str, reasons: Sequence[str]) -> Iterator[str]:
    """The texts, from that for the lowest status on, and the function that gives one of them."""
    texts = [*UNREADY, "", *reasons, "no such status"]
    for i, text in enumerate(texts):
        content = text.encode() + b"\0"
        yield f'@text{i} = private constant [{len(content)} x i8] c"{_quoted(content)}"'
    listed = ", ".join(f"ptr @text{i}" for i in range(len(texts)))
    last = len(texts) - 1
    yield f"@texts = private constant [{len(texts)} x ptr] [{listed}]"
    yield f"define ptr @{name}_message(i32 signext %status) nounwind {{"
    yield f"  %number = add i32 %status, {len(UNREADY)}"
    yield f"  %there = icmp ult i32 %number, {last}"
    yield f"  %safe = select i1 %there, i32 %number, i32 {last}"
    yield "  %at = getelementptr ptr, ptr @texts, i32 %safe"
    yield "  %found = load ptr, ptr %at"
    yield "  ret ptr %found"
    yield "}"
