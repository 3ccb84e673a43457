"""Calls out of machine code: of the host, which performs what has no instructions, and of the library for matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .instructions import constant, memory_type, register_type
from .loops import Affine, HostCall, LibraryCall
from .views import View

if TYPE_CHECKING:
    from .functions import Function

__all__ = ["HOST", "call_host", "call_library"]

HOST = "bindrune_host"
"""The symbol of the function that performs what is left to the host."""

HOST_FAILED = -1
"""What a program returns where the host raised an error."""


def _strides(f: Function, view: View) -> list[str]:
    """How many elements apart neighbours along each axis of a view are."""
    found = ["0"] * len(view.shape)
    stride = "1"
    for (_, steps), length in zip(reversed(view.places), reversed(view.buffer.shape), strict=True):
        for axis, step in steps:
            found[axis] = f.plus(found[axis], f.times(stride, str(step)))
        stride = f.times(stride, f.sum(length))
    return found


def _first(f: Function, view: View) -> str:
    """Where the first element of a view lies."""
    return f.address(view.buffer, [start for start, _ in view.places])


def call_host(f: Function, s: HostCall) -> None:
    """Call the host; a call for room for an output, which has no address yet, answers with it."""
    slots: list[tuple[str, str]] = []
    for x in s.operands if s.number < 0 else (*s.operands, *s.results):
        if isinstance(x, View):
            slots.append(("ptr", _first(f, x)))
            slots += [("i64", f.sum(n)) for n in x.shape]
            slots += [("i64", n) for n in _strides(f, x)]
        else:
            found = f.value(x)
            if x.dtype.kind == "b":
                found = f.w.value(f"zext i1 {found} to i8")
            slots.append(("ptr", f.cell(memory_type(x.dtype), found)))
    f.packing = max(f.packing, len(slots), 1)
    for i, (kind, operand) in enumerate(slots):
        f.w.do(f"store {kind} {operand}, ptr {f.w.value(f'getelementptr i64, ptr %packed, i64 {i}')}")
    f.w.declarations.setdefault(HOST, f"declare i64 @{HOST}(ptr, i64, ptr)")
    failed = f.w.value(f"call i64 @{HOST}(ptr %context, i64 {s.number}, ptr %packed)")
    stem = f.w.fresh("host")
    f.w.do(f"br i1 {f.w.value(f'icmp eq i64 {failed}, 0')}, label %{stem}.done, label %{stem}.failed")
    f.begin(f"{stem}.failed")
    f.fail(HOST_FAILED)
    f.begin(f"{stem}.done")
    if s.number < 0:
        f.make_room(-1 - s.number, f.w.value("load ptr, ptr %packed"))


def call_library(f: Function, s: LibraryCall) -> None:
    """Call the library."""
    a, b = s.operands
    t = register_type(s.result.dtype)
    symbol = f"bindrune.{'d' if t == 'double' else 's'}gemm"
    f.w.declarations.setdefault(symbol, f"declare void @{symbol}({', '.join(['ptr'] * 13)})")
    # The library's matrices go down columns: what it multiplies are transposes, in the other order.
    arguments = [*(_letter(f, view) for view in (b, a))]
    arguments += [f.cell("i32", _narrow(f, n)) for n in (b.shape[1], a.shape[0], a.shape[1])]
    arguments.append(f.cell(t, constant(1, s.result.dtype)))
    for view in (b, a):
        arguments += [_first(f, view), f.cell("i32", _leading(f, view))]
    arguments += [f.cell(t, constant(0, s.result.dtype)), _first(f, s.result)]
    arguments.append(f.cell("i32", _leading(f, s.result)))
    f.w.do(f"call void @{symbol}({', '.join(f'ptr {x}' for x in arguments)})")


def _narrow(f: Function, n: Affine) -> str:
    """A length as a Fortran integer."""
    found = f.sum(n)
    return found if n.known is not None else f.w.value(f"trunc i64 {found} to i32")


def _letter(f: Function, view: View) -> str:
    """Whether the library must transpose a matrix."""
    return f.cell("i8", str(ord("N" if _strides(f, view)[1] == "1" else "T")))


def _leading(f: Function, view: View) -> str:
    """How far apart the rows of a matrix are, or its columns."""
    rows, columns = _strides(f, view)
    found = rows if columns == "1" else columns
    return found if found.isdigit() else f.w.value(f"trunc i64 {found} to i32")
