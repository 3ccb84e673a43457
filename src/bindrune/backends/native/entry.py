"""The way in from Python: a builtin function, made of machine code, that takes a tuple and returns a list of results.

It looks at the arguments as objects of CPython and of NumPy: their types, lengths and addresses.  Where all is as
compiled for, it makes the results, runs the program and hands them over, in some tenths of a microsecond.  Where it is
not (another layout, a subclass, an integer that is too long), it has done nothing and returns None.  Where the program
has stopped it asks the host what to do.

Everything outside is reached by symbols, so that the text says nothing of this process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.graph import ARRAY, NUMBER, Type
from .machine import define_symbol

__all__ = ["CONTEXT_WORDS", "address_symbols", "builtin", "entry_text", "is_plain"]

CONTEXT_WORDS = 64
_ALIGNMENT = 64
_DATA, _NDIM, _LENGTHS, _DTYPE, _FLAGS = 16, 24, 32, 56, 64
"""Where in an array object of NumPy's things are."""

_CONTIGUOUS_AND_ALIGNED = 0x101
_NUMBER, _ITEMS, _SIZE = 16, 24, 16
"""Where the content of a number is, the items of a tuple, and its length."""

_API = {"array_type": 2, "PyArray_Scalar": 60, "PyArray_NewFromDescr": 94}
"""Places in the table of NumPy's C interface."""

_PYTHON = {"f": "PyFloat_Type", "i": "PyLong_Type", "b": "PyBool_Type", "c": "PyComplex_Type"}


def is_plain(types: Sequence[Type]) -> bool:
    """Whether values of some types can be handed over without Python."""
    return all(t.dtype.kind in "biufc" and t.dtype.isnative and all(isinstance(n, int) for n in t.shape) for t in types)


_defined: set[str] = set()


def address_symbols() -> None:
    """Let machine code reach NumPy's C interface."""
    if _defined:
        return
    capsule = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined]
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(get(capsule, None), ctypes.POINTER(ctypes.c_void_p))
    for name, place in _API.items():
        _define(f"bindrune.{name}", table[place])
    for kind in ("PyFloat_Type", "PyLong_Type", "PyBool_Type", "PyComplex_Type", "PyTuple_Type"):
        _define(f"bindrune.{kind}", ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, kind)))
    for name in _FUNCTIONS:
        _define(f"bindrune.{name}", ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)
    _define("bindrune.true", id(True))
    _define("bindrune.none", id(None))


_FUNCTIONS = {
    "PyList_New": "ptr (i64)",
    "PyList_SetItem": "i32 (ptr, i64, ptr)",
    "PyFloat_FromDouble": "ptr (double)",
    "PyLong_FromLongLong": "ptr (i64)",
    "PyLong_AsLongLongAndOverflow": "i64 (ptr, ptr)",
    "PyBool_FromLong": "ptr (i64)",
    "PyComplex_FromDoubles": "ptr (double, double)",
    "PyObject_CallMethod": "ptr (ptr, ptr, ptr, ...)",
    "PyEval_SaveThread": "ptr ()",
    "PyEval_RestoreThread": "void (ptr)",
    "Py_IncRef": "void (ptr)",
    "Py_DecRef": "void (ptr)",
}


def _define(name: str, address: Any) -> None:
    define_symbol(name, address)
    _defined.add(name)


def _object_of(prefix: str, dtype: np.dtype[Any], thing: Any) -> str:
    """The symbol of an object that belongs to a dtype, and lives as long as NumPy does."""
    name = f"bindrune.{prefix}.{dtype.kind}{dtype.itemsize}.{dtype.num}"
    if name not in _defined:
        _define(name, id(thing))
    return name


_NAME = ctypes.create_string_buffer(b"enter")
_ONE_ARGUMENT = 0x8


def builtin(address: int, owner: object) -> Any:
    """A builtin function of one argument whose code lies at an address, bound to an object.

    What CPython knows of it is in an array that it holds on to as its module: an array is not taken apart when the
    garbage collector takes apart what the function is part of.
    """
    definition = np.array([ctypes.addressof(_NAME), address, _ONE_ARGUMENT, 0], np.uintp)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    return make(definition.ctypes.data, owner, definition)


# ------------------------------------------------------------------------------------------------------------- text


class _Text:
    """Collects the function."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.globals: dict[str, str] = {}
        self.functions: set[str] = set()
        self._count = 0

    def value(self, text: str) -> str:
        self._count += 1
        self.lines.append(f"  %x{self._count} = {text}")
        return f"%x{self._count}"

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def begin(self, label: str) -> None:
        self.lines.append(f"{label}:")

    def at(self, base: str, offset: int | str) -> str:
        return base if offset == 0 else self.value(f"getelementptr i8, ptr {base}, i64 {offset}")

    def load(self, kind: str, base: str, offset: int = 0) -> str:
        return self.value(f"load {kind}, ptr {self.at(base, offset)}")

    def object(self, name: str) -> str:
        self.globals[name] = f"@{name} = external global i8"
        return f"@{name}"

    def expect(self, condition: str) -> None:
        """Return None unless something holds."""
        self._count += 1
        self.do(f"br i1 {condition}, label %go{self._count}, label %other, !prof !10000")
        self.begin(f"go{self._count}")

    def same(self, kind: str, a: str, b: str) -> None:
        self.expect(self.value(f"icmp eq {kind} {a}, {b}"))

    def call(self, name: str, arguments: str) -> str:
        """Call a function of CPython's or NumPy's."""
        signature = _FUNCTIONS.get(name) or _OF_NUMPY[name]
        result, _, types = signature.partition(" ")
        symbol = f"bindrune.{name}"
        self.globals[symbol] = f"declare {result} @{symbol}{types}"
        called = f"call {signature if '...' in types else result} @{symbol}({arguments})"
        if result == "void":
            self.do(called)
            return ""
        return self.value(called)


_OF_NUMPY = {
    "PyArray_Scalar": "ptr (ptr, ptr, ptr)",
    "PyArray_NewFromDescr": "ptr (ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)",
}


def entry_text(inputs: Sequence[Type], outputs: Sequence[Type], constants: int, arena: int, long: bool) -> str:
    """The text of the function, which calls the program's.

    Args:
        inputs: the types of the arguments.
        outputs: those of the results.
        constants: how many known arrays the program is given.
        arena: the bytes it works in.
        long: whether it may take so long that other threads should go on meanwhile.
    """
    x = _Text()
    tables = ("arguments", len(inputs) + constants), ("results", len(outputs))
    for name, size in tables:
        x.do(f"%{name} = alloca [{max(size, 1)} x ptr]")
    cells = len(inputs) + len(outputs)
    x.do(f"%cells = alloca [{max(cells, 1)} x [2 x i64]], align 16")
    x.same("ptr", x.load("ptr", "%given", 8), x.object("bindrune.PyTuple_Type"))
    x.same("i64", x.load("i64", "%given", _SIZE), str(len(inputs)))
    for i, t in enumerate(inputs):
        found = _unboxed(x, x.load("ptr", "%given", _ITEMS + 8 * i), t, i)
        x.do(f"store ptr {found}, ptr {x.at('%arguments', 8 * i)}")
    for i in range(constants):
        address = x.value(f"load ptr, ptr {x.at('@constants', 8 * i)}")
        x.do(f"store ptr {address}, ptr {x.at('%arguments', 8 * (len(inputs) + i))}")
    made: list[str] = []
    for i, t in enumerate(outputs):
        made.append(_room(x, t, i, len(inputs) + i, made))
    work = x.value("call ptr @take_workspace()")
    if long:
        thread = x.call("PyEval_SaveThread", "")
    status = x.value(f"call i64 @run(ptr %arguments, ptr %results, ptr {work})")
    if long:
        x.call("PyEval_RestoreThread", f"ptr {thread}")
    fine = x.value(f"icmp eq i64 {status}, 0")
    x.do(f"br i1 {fine}, label %done, label %stopped, !prof !10000")
    x.begin("done")
    x.do(f"call void @give_workspace(ptr {work})")
    found = x.call("PyList_New", f"i64 {len(outputs)}")
    for i, t in enumerate(outputs):
        boxed = made[i] or _boxed(x, t, len(inputs) + i)
        x.call("PyList_SetItem", f"ptr {found}, i64 {i}, ptr {boxed}")
    x.do(f"ret ptr {found}")
    x.begin("stopped")
    for array in filter(None, made):
        x.call("Py_DecRef", f"ptr {array}")
    told = x.call(
        "PyObject_CallMethod",
        f"ptr %self, ptr @name.stopped, ptr @format.stopped, i64 {status}, ptr {work}, ptr %given",
    )
    x.do(f"call void @give_workspace(ptr {work})")
    x.do(f"ret ptr {told}")
    x.begin("other")
    none = x.object("bindrune.none")
    x.call("Py_IncRef", f"ptr {none}")
    x.do(f"ret ptr {none}")
    names = {"name.stopped": "stopped", "format.stopped": "LLO"}
    strings = [f'@{name} = private constant [{len(s) + 1} x i8] c"{s}\\00"' for name, s in names.items()]
    return "\n".join(
        [
            *x.globals.values(),
            *strings,
            f"@constants = global [{max(constants, 1)} x ptr] zeroinitializer",
            "@executable = global i64 0",
            _WORKSPACE.format(
                words=CONTEXT_WORDS,
                bytes=8 * CONTEXT_WORDS + arena + _ALIGNMENT,
                first=8 * CONTEXT_WORDS + _ALIGNMENT - 1,
                mask=-_ALIGNMENT,
            ),
            "define ptr @enter(ptr %self, ptr %given) #3 {",
            *x.lines,
            "}",
            "attributes #3 = { nounwind minsize }",
            '!10000 = !{!"branch_weights", i32 1000, i32 1}',
            '!10001 = !{!"branch_weights", i32 1, i32 1000}',
        ]
    )


_WORKSPACE = """
declare ptr @calloc(i64, i64)
@workspace = global ptr null

define ptr @take_workspace() noinline minsize {{
  %place = load ptr, ptr @workspace
  %had = atomicrmw xchg ptr %place, ptr null acq_rel
  %none = icmp eq ptr %had, null
  br i1 %none, label %make, label %done
done:
  ret ptr %had
make:
  %made = call ptr @calloc(i64 {bytes}, i64 1)
  %address = ptrtoint ptr %made to i64
  %after = add i64 %address, {first}
  %aligned = and i64 %after, {mask}
  store i64 %aligned, ptr %made
  %number = load i64, ptr @executable
  %at = getelementptr i64, ptr %made, i64 1
  store i64 %number, ptr %at
  ret ptr %made
}}

define void @give_workspace(ptr %work) noinline minsize {{
  %place = load ptr, ptr @workspace
  %had = atomicrmw xchg ptr %place, ptr %work acq_rel
  %none = icmp eq ptr %had, null
  br i1 %none, label %done, label %extra
done:
  ret void
extra:
  %at = getelementptr i64, ptr %had, i64 2
  %tape = load ptr, ptr %at
  call void @free(ptr %tape)
  call void @free(ptr %had)
  ret void
}}
"""


def _unboxed(x: _Text, object: str, t: Type, cell: int) -> str:
    """Where the content of an argument lies, after a look at what it is."""
    kind = x.load("ptr", object, 8)
    if t.form == ARRAY:
        x.same("ptr", kind, x.object("bindrune.array_type"))
        x.same("ptr", x.load("ptr", object, _DTYPE), x.object(_object_of("dtype", t.dtype, t.dtype)))
        x.same("i32", x.load("i32", object, _NDIM), str(len(t.shape)))
        flags = x.value(f"and i32 {x.load('i32', object, _FLAGS)}, {_CONTIGUOUS_AND_ALIGNED}")
        x.same("i32", flags, str(_CONTIGUOUS_AND_ALIGNED))
        if t.shape:
            lengths = x.load("ptr", object, _LENGTHS)
            for i, n in enumerate(t.shape):
                x.same("i64", x.load("i64", lengths, 8 * i), str(n))
        return x.load("ptr", object, _DATA)
    if t.form == NUMBER:
        x.same("ptr", kind, x.object(_object_of("number", t.dtype, t.dtype.type)))
        return x.at(object, _NUMBER)
    x.same("ptr", kind, x.object(f"bindrune.{_PYTHON[t.dtype.kind]}"))
    if t.dtype.kind in "fc":
        return x.at(object, _NUMBER)
    place = x.at("%cells", 16 * cell)
    if t.dtype.kind == "b":
        true = x.value(f"icmp eq ptr {object}, {x.object('bindrune.true')}")
        x.do(f"store i8 {x.value(f'zext i1 {true} to i8')}, ptr {place}")
        return place
    overflow = x.at(place, 8)
    number = x.call("PyLong_AsLongLongAndOverflow", f"ptr {object}, ptr {overflow}")
    x.same("i32", x.load("i32", overflow), "0")
    x.do(f"store i64 {number}, ptr {place}")
    return place


def _room(x: _Text, t: Type, i: int, cell: int, before: Sequence[str]) -> str:
    """Make a result, or room for a number, and say where its content goes; the array that was made.

    Where there is no memory the arrays from before are let go, and NumPy's error stands.
    """
    if t.form != ARRAY:
        place = x.at("%cells", 16 * cell)
        x.do(f"store ptr {place}, ptr {x.at('%results', 8 * i)}")
        return ""
    dtype = x.object(_object_of("dtype", t.dtype, t.dtype))
    x.call("Py_IncRef", f"ptr {dtype}")
    lengths = f"lengths{i}"
    shape = ", ".join(f"i64 {n}" for n in t.shape) or "i64 0"
    x.globals[lengths] = f"@{lengths} = private constant [{max(len(t.shape), 1)} x i64] [{shape}]"
    array = x.object("bindrune.array_type")
    made = x.call(
        "PyArray_NewFromDescr",
        f"ptr {array}, ptr {dtype}, i32 {len(t.shape)}, ptr @{lengths}, ptr null, ptr null, i32 0, ptr null",
    )
    x.do(f"br i1 {x.value(f'icmp eq ptr {made}, null')}, label %none{i}, label %made{i}, !prof !10001")
    x.begin(f"none{i}")
    for array in filter(None, before):
        x.call("Py_DecRef", f"ptr {array}")
    x.do("ret ptr null")
    x.begin(f"made{i}")
    x.do(f"store ptr {x.load('ptr', made, _DATA)}, ptr {x.at('%results', 8 * i)}")
    return made


def _boxed(x: _Text, t: Type, cell: int) -> str:
    """A number as an object."""
    place = x.at("%cells", 16 * cell)
    if t.form == NUMBER:
        dtype = x.object(_object_of("dtype", t.dtype, t.dtype))
        return x.call("PyArray_Scalar", f"ptr {place}, ptr {dtype}, ptr null")
    if t.dtype.kind == "f":
        return x.call("PyFloat_FromDouble", f"double {x.load('double', place)}")
    if t.dtype.kind == "b":
        flag = x.value(f"zext i8 {x.load('i8', place)} to i64")
        return x.call("PyBool_FromLong", f"i64 {flag}")
    if t.dtype.kind == "c":
        return x.call("PyComplex_FromDoubles", f"double {x.load('double', place)}, double {x.load('double', place, 8)}")
    return x.call("PyLong_FromLongLong", f"i64 {x.load('i64', place)}")
