"""Calls from machine code.

The host performs what has no instructions; libraries are called for matrices; routines are the program's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .formats import constant, memory_type, register_type
from .loops import Affine, HostCall, Invoke, LibraryCall, Program
from .machine import MATRICES
from .numpy_functions import ALGORITHMS, Loop, loops, sorting_function
from .views import View

if TYPE_CHECKING:
    from .functions import Function

__all__ = ["HOST", "call_host", "call_library", "call_routine", "returned"]

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


def returned(routine: Program) -> str:
    """The type of what a routine returns: its status, and its results that are numbers."""
    numbers = [register_type(storage.dtype) for storage in routine.outputs if not storage.shape]
    return f"{{ {', '.join(['i64', *numbers])} }}"


def call_routine(f: Function, s: Invoke) -> None:
    """Call a routine; the tape may be elsewhere afterwards."""
    given = ["ptr %arguments", "ptr %context"]
    given += [
        f"ptr {_first(f, x)}" if isinstance(x, View) else f"{register_type(x.dtype)} {f.value(x)}" for x in s.operands
    ]
    given += [f"ptr {_first(f, view)}" for view in s.results if view.shape]
    kind = returned(s.routine)
    found = f.w.value(f"call fastcc {kind} @{s.routine.name}({', '.join(given)})")
    status = f.w.value(f"extractvalue {kind} {found}, 0")
    if f.module.taped:
        f.look_at_tape()
    stem = f.w.fresh("routine")
    f.w.do(f"br i1 {f.w.value(f'icmp eq i64 {status}, 0')}, label %{stem}.done, label %{stem}.failed")
    f.begin(f"{stem}.failed")
    f.fail(status)
    f.begin(f"{stem}.done")
    for i, view in enumerate((view for view in s.results if not view.shape), 1):
        f.store(view.buffer, view.at(()), f.w.value(f"extractvalue {kind} {found}, {i}"))


def call_library(f: Function, s: LibraryCall) -> None:
    """Call a library."""
    if s.name in loops:
        _loop(f, s, loops[s.name])
    else:
        _ROUTINES[s.name](f, s)


_LETTERS = {"f": "s", "d": "d", "F": "c", "D": "z"}
"""By NumPy's letter for a type that of Fortran's libraries."""


def _call(f: Function, routine: str, dtype: np.dtype[Any], arguments: Sequence[str]) -> None:
    """Call a routine of Fortran's, for a type."""
    symbol = f"{MATRICES}{_LETTERS[dtype.char]}{routine}"
    f.w.declarations.setdefault(symbol, f"declare void @{symbol}({', '.join(['ptr'] * len(arguments))})")
    f.w.do(f"call void @{symbol}({', '.join(f'ptr {x}' for x in arguments)})")


def _gemm(adds: bool) -> Callable[[Function, LibraryCall], None]:
    """The product of two matrices, added to the result's content or not."""

    def write(f: Function, s: LibraryCall) -> None:
        a, b = s.operands
        t, dtype = register_type(s.result.dtype), s.result.dtype
        # The library's matrices go down columns: what it multiplies are transposes, in the other order.
        arguments = [*(_letter(f, "N" if _strides(f, view)[1] == "1" else "T") for view in (b, a))]
        arguments += [_integer(f, n) for n in (b.shape[1], a.shape[0], a.shape[1])]
        arguments.append(f.cell(t, constant(1, dtype)))
        for view in (b, a):
            arguments += [_first(f, view), _leading(f, view)]
        arguments += [f.cell(t, constant(int(adds), dtype)), _first(f, s.result), _leading(f, s.result)]
        _call(f, "gemm", dtype, arguments)

    return write


def _trsm(lower: bool) -> Callable[[Function, LibraryCall], None]:
    """Replace a matrix by what a triangular one takes to it."""

    def write(f: Function, s: LibraryCall) -> None:
        (a,), b = s.operands, s.result
        one = f.cell(register_type(b.dtype), constant(1, b.dtype))
        # The library sees the transposes: the unknown one stands on the left, and the other triangle is read.
        arguments = [*(_letter(f, x) for x in ("R", "U" if lower else "L", "N", "N"))]
        arguments += [_integer(f, b.shape[1]), _integer(f, b.shape[0]), one]
        arguments += [_first(f, a), _leading(f, a), _first(f, b), _leading(f, b)]
        _call(f, "trsm", b.dtype, arguments)

    return write


def _gesv(f: Function, s: LibraryCall) -> None:
    """Replace a matrix by its transpose's triangular factors, and the rows of another by what it takes to them."""
    a, pivots, b = s.operands
    arguments = [_integer(f, a.shape[0]), _integer(f, b.shape[0]), _first(f, a), _leading(f, a), _first(f, pivots)]
    arguments += [_first(f, b), _leading(f, b), _first(f, s.result)]
    _call(f, "gesv", a.dtype, arguments)


def _getrf(f: Function, s: LibraryCall) -> None:
    """Replace a matrix by the triangular factors of its transpose."""
    a, pivots = s.operands
    n = _integer(f, a.shape[0])
    _call(f, "getrf", a.dtype, [n, n, _first(f, a), _leading(f, a), _first(f, pivots), _first(f, s.result)])


def _potrf(f: Function, s: LibraryCall) -> None:
    """Replace the lower triangle of a matrix by its Cholesky factor."""
    (a,) = s.operands
    upper = _letter(f, "U")  # to the library, which sees the transpose
    _call(f, "potrf", a.dtype, [upper, _integer(f, a.shape[0]), _first(f, a), _leading(f, a), _first(f, s.result)])


def _sorting(name: str, kind: str) -> Callable[[Function, LibraryCall], None]:
    """Sort contiguous elements where they lie, or positions by the elements there."""

    def write(f: Function, s: LibraryCall) -> None:
        symbol = sorting_function(name, kind, s.operands[0].dtype)
        given = [*(f"ptr {_first(f, view)}" for view in s.operands), f"i64 {f.sum(s.operands[0].shape[0])}", "ptr null"]
        types = ", ".join(x.split()[0] for x in given)
        f.w.declarations.setdefault(str(symbol), f"declare i32 @{symbol}({types})")
        failed = f.w.value(f"call i32 @{symbol}({', '.join(given)})")
        f.w.do(f"store i32 {failed}, ptr {_first(f, s.result)}")

    return write


def _loop(f: Function, s: LibraryCall, loop: Loop) -> None:
    """The loop of a ufunc: it is told how often, the lengths that its signature names, and all strides in bytes."""
    views = (*s.operands, s.result)
    lengths: dict[str, Affine] = {}
    times, outer, inner = "1", [], []
    for view, names in zip(views, loop.lengths, strict=True):
        steps = [f.times(n, str(view.dtype.itemsize)) for n in _strides(f, view)]
        before = len(view.shape) - len(names)
        if before:
            times = f.sum(view.shape[0])
        outer.append(steps[0] if before else "0")
        inner += steps[before:]
        lengths.update(zip(names, view.shape[before:], strict=True))
    addresses = _row(f, "ptr", [_first(f, view) for view in views])
    counts = _row(f, "i64", [times, *map(f.sum, lengths.values())])
    data = "null"
    if loop.data is not None:
        data = f"@{loop.data}"
        f.w.declarations.setdefault(loop.data, f"{data} = external global i8")
    f.w.declarations.setdefault(loop.symbol, f"declare void @{loop.symbol}(ptr, ptr, ptr, ptr)")
    f.w.do(
        f"call void @{loop.symbol}(ptr {addresses}, ptr {counts}, ptr {_row(f, 'i64', [*outer, *inner])}, ptr {data})"
    )


def _row(f: Function, kind: str, numbers: Sequence[str]) -> str:
    """Numbers side by side in memory."""
    name = f"%row{f.w.fresh()}"
    f.entry.append(f"  {name} = alloca [{len(numbers)} x {kind}], align 16")
    for i, x in enumerate(numbers):
        f.w.do(f"store {kind} {x}, ptr {f.w.value(f'getelementptr {kind}, ptr {name}, i64 {i}')}")
    return name


_ROUTINES: dict[str, Callable[[Function, LibraryCall], None]] = {
    "gemm": _gemm(adds=False), "gemm_add": _gemm(adds=True), "gesv": _gesv, "getrf": _getrf, "potrf": _potrf,
    "trsm_lower": _trsm(lower=True), "trsm_upper": _trsm(lower=False),
    **{f"{name}.{kind}": _sorting(name, kind) for name in ("sort", "argsort") for kind in ALGORITHMS},
}  # fmt: skip
"""By the name of a library call what writes it."""


def _integer(f: Function, n: Affine) -> str:
    """A length as Fortran takes it."""
    found = f.sum(n)
    return f.cell("i32", found if n.known is not None else f.w.value(f"trunc i64 {found} to i32"))


def _letter(f: Function, letter: str) -> str:
    """A letter as Fortran takes it."""
    return f.cell("i8", str(ord(letter)))


def _leading(f: Function, view: View) -> str:
    """How far apart the rows of a matrix are, or its columns; at least one."""
    rows, columns = _strides(f, view)
    found = rows if columns == "1" else columns
    if found.isdigit():
        return f.cell("i32", str(max(int(found), 1)))
    found = f.w.value(f"trunc i64 {found} to i32")
    some = f.w.value(f"icmp sgt i32 {found}, 0")
    return f.cell("i32", f.w.value(f"select i1 {some}, i32 {found}, i32 1"))
