"""The way in from Python: a builtin function, made of machine code, that takes a tuple and returns a list of results.

It looks at the arguments as objects of CPython and of NumPy: their types, lengths and addresses.  Where all is as
compiled for, it makes the results, runs the program and hands them over, in some tenths of a microsecond.  Where it is
not (another layout, a subclass, an integer that is too long), it has done nothing and returns None.  Where the program
has stopped it asks the host what to do.

The function is the same for every program, and compiled once, as it stands, for LLVM's passes would gain nothing.  What
it must know of a program is in a table of words.  It is bound to a pair: whom it asks when the program stops, and the
table.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...graph.graph import ARRAY, NUMBER, Type
from .integers import LIMIT
from .machine import Code, alone, define_symbol

__all__ = ["CONTEXT_WORDS", "bound_entry", "entry_code", "is_plain", "table_of", "workspace_of"]

CONTEXT_WORDS = 64
_ALIGNMENT = 64
_CLASS, _DATA, _NDIM, _LENGTHS, _DTYPE, _FLAGS = 8, 16, 24, 32, 56, 64
"""Where in an object its class is, and where in an array of NumPy's other things are."""

_CONTIGUOUS_AND_ALIGNED = 0x101
_NUMBER, _ITEMS, _SIZE = 16, 24, 16
"""Where the content of a number is, the items of a tuple, and its length."""

_RUN, _WORKSPACE, _EXECUTABLE, _BYTES, _IS_LONG, _INPUTS, _OUTPUTS, _CONSTANTS, _HEAD = range(9)
"""The words of a table: the program, what its last run worked in, its number, the bytes it works in, whether other
threads should go on meanwhile, and how many arguments, results and known arrays there are.  The addresses of known
arrays follow, and what there is to know of each argument and each result."""

_KIND, _OBJECT, _CONTENT, _RANK, _SHAPE, _WORDS = range(6)
"""What there is to know: the kind, the class of the object and the dtype of its content, and the lengths of arrays."""

_OF_ARRAY, _OF_NUMPY, _FLOAT, _COMPLEX, _INTEGER, _TRUTH = range(6)
_KINDS = {"f": _FLOAT, "c": _COMPLEX, "i": _INTEGER, "b": _TRUTH}
_CLASSES = {"f": float, "c": complex, "i": int, "b": bool}

_WIDEST = 32
"""The bytes of the widest number."""


def is_plain(types: Sequence[Type]) -> bool:
    """Whether values of some types can be handed over without Python."""
    return all(t.dtype.kind in "biufc" and t.dtype.isnative and all(isinstance(n, int) for n in t.shape) for t in types)


def table_of(
    run: int,
    number: int,
    arena: int,
    is_long: bool,
    constants: Sequence[np.ndarray[Any, Any]],
    inputs: Sequence[Type],
    outputs: Sequence[Type],
) -> np.ndarray[Any, Any]:
    """What the entry must know of a program.

    Args:
        run: where the program's code lies.
        number: what the host knows it by.
        arena: the bytes it works in.
        is_long: whether it may take so long that other threads should go on meanwhile.
        constants: the known arrays that it is given after its arguments.
        inputs: the types of the arguments.
        outputs: those of the results.
    """
    types = [*inputs, *outputs]
    size = 8 * CONTEXT_WORDS + arena + _ALIGNMENT
    head = [run, 0, number, size, is_long, len(inputs), len(outputs), len(constants)]
    first = _HEAD + len(constants)
    lengths = first + _WORDS * len(types)
    table = np.zeros(lengths + sum(t.ndim for t in types), np.uintp)
    table[:first] = [*head, *(a.ctypes.data for a in constants)]
    for i, t in enumerate(types):
        kind, made_of = (
            (_OF_ARRAY, np.ndarray)
            if t.form == ARRAY
            else (_OF_NUMPY, t.dtype.type)
            if t.form == NUMBER
            else (_KINDS[t.dtype.kind], _CLASSES[t.dtype.kind])
        )
        at = first + _WORDS * i
        table[at : at + _WORDS] = kind, id(made_of), id(t.dtype), t.ndim, table.ctypes.data + 8 * lengths
        table[lengths : lengths + t.ndim] = t.shape
        lengths += t.ndim
    return table


def bound_entry(executable: object, table: np.ndarray[Any, Any]) -> Any:
    """The function for a program; `executable.stopped` is called when that stops."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    definition, name = _entry()
    # CPython reads the definition for as long as there is a function, to which what it is bound to belongs.
    return make(definition.ctypes.data, (executable, table, definition, name), None)


def workspace_of(table: np.ndarray[Any, Any]) -> int:
    """Where the memory lies that the last run worked in, or 0."""
    return int(table[_WORKSPACE])


class _Definition(ctypes.Structure):
    """What CPython wants to know of a builtin function, for as long as there is one."""

    _fields_ = (("name", ctypes.c_char_p), ("code", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


_ONE_ARGUMENT = 0x8


@functools.cache
def entry_code() -> Code:
    """The code of the function."""
    return Code([_text()], level=0)


@alone
@functools.cache
def _entry() -> tuple[np.ndarray[Any, Any], bytes]:
    _address_symbols()
    name = b"enter"
    # In memory that the garbage collector, which clears ctypes' before the functions, knows nothing of.
    definition = bytes(_Definition(name, entry_code().address("enter"), _ONE_ARGUMENT, None))
    return np.frombuffer(definition, np.uint8), name


# ---------------------------------------------------------------------------------------------- what it is linked with

_OF_PYTHON = {
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
_OF_NUMPYS = {
    "PyArray_Scalar": (60, "ptr (ptr, ptr, ptr)"),
    "PyArray_NewFromDescr": (94, "ptr (ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)"),
}
"""Functions with their places in the table of NumPy's C interface."""

_FUNCTIONS = {**_OF_PYTHON, **{name: signature for name, (_, signature) in _OF_NUMPYS.items()}}
_OBJECTS = {"tuple": tuple, "array": np.ndarray, "true": True, "none": None}


def _address_symbols() -> None:
    """Let machine code reach CPython's and NumPy's C interfaces."""
    capsule = np._core._multiarray_umath._ARRAY_API
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(get(capsule, None), ctypes.POINTER(ctypes.c_void_p))
    for name, (place, _) in _OF_NUMPYS.items():
        define_symbol(f"bindrune.{name}", table[place] or 0)
    for name in _OF_PYTHON:
        define_symbol(f"bindrune.{name}", ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0)
    for name, thing in _OBJECTS.items():
        define_symbol(f"bindrune.{name}", id(thing))


# ------------------------------------------------------------------------------------------------------------- text


class _Function:
    """Collects the text of a function."""

    def __init__(self, head: str) -> None:
        self.head = head
        self.lines: list[str] = []
        self._count = 0

    def __str__(self) -> str:
        return "\n".join([f"define {self.head} #0 {{", *self.lines, "}"])

    def value(self, text: str) -> str:
        self._count += 1
        self.lines.append(f"  %x{self._count} = {text}")
        return f"%x{self._count}"

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def begin(self, label: str) -> None:
        self.lines.append(f"{label}:")

    def at(self, base: str, offset: int) -> str:
        """An address so many bytes further."""
        return self.value(f"getelementptr i8, ptr {base}, i64 {offset}")

    def load(self, kind: str, base: str, offset: int) -> str:
        return self.value(f"load {kind}, ptr {self.at(base, offset)}")

    def word(self, table: str, number: int) -> str:
        return self.load("i64", table, 8 * number)

    def item(self, table: str, number: str, words: int = 1) -> str:
        """The address of an item of a table whose items have so many words."""
        return self.value(f"getelementptr [{words} x i64], ptr {table}, i64 {number}")

    def expect(self, condition: str, otherwise: str = "other") -> None:
        """Go elsewhere unless something holds."""
        self._count += 1
        self.do(f"br i1 {condition}, label %go{self._count}, label %{otherwise}, !prof !0")
        self.begin(f"go{self._count}")

    def same(self, kind: str, a: str, b: str) -> None:
        self.expect(self.value(f"icmp eq {kind} {a}, {b}"))

    def call(self, name: str, arguments: str) -> str:
        """Call a function of CPython's or NumPy's."""
        result, _, types = _FUNCTIONS[name].partition(" ")
        called = f"call {_FUNCTIONS[name] if '...' in types else result} @bindrune.{name}({arguments})"
        if result == "void":
            self.do(called)
            return ""
        return self.value(called)

    @contextmanager
    def each(self, name: str, count: str) -> Iterator[str]:
        """A loop over the numbers below another."""
        self.do(f"br label %{name}.begin")
        self.begin(f"{name}.begin")
        self.do(f"br label %{name}")
        self.begin(name)
        self.do(f"%{name}.i = phi i64 [ 0, %{name}.begin ], [ %{name}.next, %{name}.again ]")
        more = self.value(f"icmp ult i64 %{name}.i, {count}")
        self.do(f"br i1 {more}, label %{name}.body, label %{name}.done")
        self.begin(f"{name}.body")
        yield f"%{name}.i"
        self.do(f"br label %{name}.again")
        self.begin(f"{name}.again")
        self.do(f"%{name}.next = add i64 %{name}.i, 1")
        self.do(f"br label %{name}")
        self.begin(f"{name}.done")

    def switch(self, kind: str, labels: dict[int, str], default: str) -> None:
        listed = " ".join(f"i64 {number}, label %{label}" for number, label in labels.items())
        self.do(f"switch i64 {kind}, label %{default} [ {listed} ]")


def _text() -> str:
    declared = [
        *(f"declare {s.partition(' ')[0]} @bindrune.{name}{s.partition(' ')[2]}" for name, s in _FUNCTIONS.items()),
        *(f"@bindrune.{name} = external global i8" for name in _OBJECTS),
        '@stopped = private constant [8 x i8] c"stopped\\00"',
        '@format = private constant [4 x i8] c"LLO\\00"',
    ]
    functions = (_content(), _room(), _boxed(), _WORKSPACES, _enter())
    said = ("attributes #0 = { nounwind noinline optnone }", '!0 = !{!"branch_weights", i32 1000, i32 1}')
    return "\n".join([*declared, *map(str, functions), *said])


def _content() -> _Function:
    """Where the content of an object lies (a Python integer's is put into a cell), or null if it is not of a type."""
    x = _Function("internal ptr @content(ptr %object, ptr %type, ptr %cell)")
    x.same("i64", x.load("i64", "%object", _CLASS), x.word("%type", _OBJECT))
    x.switch(x.word("%type", _KIND), {_OF_ARRAY: "array", _INTEGER: "integer", _TRUTH: "truth"}, "inside")
    x.begin("inside")
    x.do(f"ret ptr {x.at('%object', _NUMBER)}")
    x.begin("truth")
    x.do(f"store i8 {x.value('zext i1 ' + x.value('icmp eq ptr %object, @bindrune.true') + ' to i8')}, ptr %cell")
    x.do("ret ptr %cell")
    x.begin("integer")
    overflow = x.at("%cell", 8)
    number = x.call("PyLong_AsLongLongAndOverflow", f"ptr %object, ptr {overflow}")
    x.same("i32", x.value(f"load i32, ptr {overflow}"), "0")
    beyond = x.value(f"add i64 {number}, {LIMIT - 1}")
    x.expect(x.value(f"icmp ult i64 {beyond}, {2 * LIMIT - 1}"))
    x.do(f"store i64 {number}, ptr %cell")
    x.do("ret ptr %cell")
    x.begin("array")
    x.same("i64", x.load("i64", "%object", _DTYPE), x.word("%type", _CONTENT))
    rank = x.word("%type", _RANK)
    x.same("i64", x.value(f"zext i32 {x.load('i32', '%object', _NDIM)} to i64"), rank)
    flags = x.value(f"and i32 {x.load('i32', '%object', _FLAGS)}, {_CONTIGUOUS_AND_ALIGNED}")
    x.same("i32", flags, str(_CONTIGUOUS_AND_ALIGNED))
    found, expected = x.load("ptr", "%object", _LENGTHS), x.load("ptr", "%type", 8 * _SHAPE)
    with x.each("lengths", rank) as i:
        x.same("i64", x.value(f"load i64, ptr {x.item(found, i)}"), x.value(f"load i64, ptr {x.item(expected, i)}"))
    x.do(f"ret ptr {x.load('ptr', '%object', _DATA)}")
    x.begin("other")
    x.do("ret ptr null")
    return x


def _room() -> _Function:
    """A new array of a type, or null where there is no memory."""
    x = _Function("internal ptr @room(ptr %type)")
    dtype = x.load("ptr", "%type", 8 * _CONTENT)
    x.call("Py_IncRef", f"ptr {dtype}")
    rank = x.value(f"trunc i64 {x.word('%type', _RANK)} to i32")
    lengths = x.load("ptr", "%type", 8 * _SHAPE)
    given = f"ptr @bindrune.array, ptr {dtype}, i32 {rank}, ptr {lengths}, ptr null, ptr null, i32 0, ptr null"
    x.do(f"ret ptr {x.call('PyArray_NewFromDescr', given)}")
    return x


def _boxed() -> _Function:
    """A number in a cell as an object."""
    x = _Function("internal ptr @boxed(ptr %type, ptr %cell)")
    labels = {_FLOAT: "float", _COMPLEX: "complex", _INTEGER: "integer", _TRUTH: "truth"}
    x.switch(x.word("%type", _KIND), labels, "numpy")
    x.begin("numpy")
    dtype = x.load("ptr", "%type", 8 * _CONTENT)
    x.do(f"ret ptr {x.call('PyArray_Scalar', f'ptr %cell, ptr {dtype}, ptr null')}")
    x.begin("float")
    x.do(f"ret ptr {x.call('PyFloat_FromDouble', 'double ' + x.load('double', '%cell', 0))}")
    x.begin("complex")
    parts = f"double {x.load('double', '%cell', 0)}, double {x.load('double', '%cell', 8)}"
    x.do(f"ret ptr {x.call('PyComplex_FromDoubles', parts)}")
    x.begin("integer")
    x.do(f"ret ptr {x.call('PyLong_FromLongLong', 'i64 ' + x.load('i64', '%cell', 0))}")
    x.begin("truth")
    flag = x.value(f"zext i8 {x.load('i8', '%cell', 0)} to i64")
    x.do(f"ret ptr {x.call('PyBool_FromLong', f'i64 {flag}')}")
    return x


_WORKSPACES = f"""
declare ptr @calloc(i64, i64)
declare void @free(ptr)

define internal ptr @take_workspace(ptr %table) #0 {{
  %place = getelementptr i64, ptr %table, i64 {_WORKSPACE}
  %had = atomicrmw xchg ptr %place, ptr null acq_rel
  %none = icmp eq ptr %had, null
  br i1 %none, label %make, label %done
done:
  ret ptr %had
make:
  %bytes.at = getelementptr i64, ptr %table, i64 {_BYTES}
  %bytes = load i64, ptr %bytes.at
  %made = call ptr @calloc(i64 %bytes, i64 1)
  %failed = icmp eq ptr %made, null
  br i1 %failed, label %nothing, label %fill
nothing:
  ret ptr null
fill:
  %address = ptrtoint ptr %made to i64
  %after = add i64 %address, {8 * CONTEXT_WORDS + _ALIGNMENT - 1}
  %aligned = and i64 %after, {-_ALIGNMENT}
  store i64 %aligned, ptr %made
  %number.at = getelementptr i64, ptr %table, i64 {_EXECUTABLE}
  %number = load i64, ptr %number.at
  %at = getelementptr i64, ptr %made, i64 1
  store i64 %number, ptr %at
  ret ptr %made
}}

define internal void @give_workspace(ptr %table, ptr %work) #0 {{
  %place = getelementptr i64, ptr %table, i64 {_WORKSPACE}
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


def _enter() -> _Function:
    """The function itself."""
    x = _Function("ptr @enter(ptr %self, ptr %given)")
    executable = x.load("ptr", "%self", _ITEMS)
    table = x.load("ptr", x.load("ptr", "%self", _ITEMS + 8), _DATA)
    inputs, outputs, constants = (x.word(table, number) for number in (_INPUTS, _OUTPUTS, _CONSTANTS))
    known = x.at(table, 8 * _HEAD)
    types = x.item(known, constants)
    results = x.value(f"alloca ptr, i64 {outputs}")
    arguments = x.value(f"alloca ptr, i64 {x.value(f'add i64 {inputs}, {constants}')}")
    made = x.value(f"alloca ptr, i64 {outputs}")
    total = x.value(f"add i64 {inputs}, {outputs}")
    cells = x.value(f"alloca [{_WIDEST} x i8], i64 {total}, align {_WIDEST}")
    x.same("ptr", x.load("ptr", "%given", _CLASS), "@bindrune.tuple")
    x.same("i64", x.load("i64", "%given", _SIZE), inputs)
    with x.each("inputs", inputs) as i:
        object = x.value(f"load ptr, ptr {x.item(x.at('%given', _ITEMS), i)}")
        type, cell = x.item(types, i, _WORDS), x.item(cells, i, _WIDEST // 8)
        content = x.value(f"call ptr @content(ptr {object}, ptr {type}, ptr {cell})")
        x.expect(x.value(f"icmp ne ptr {content}, null"))
        x.do(f"store ptr {content}, ptr {x.item(arguments, i)}")
    rest = x.item(arguments, inputs)
    with x.each("constants", constants) as i:
        x.do(f"store ptr {x.value(f'load ptr, ptr {x.item(known, i)}')}, ptr {x.item(rest, i)}")
    types_out, cells_out = x.item(types, inputs, _WORDS), x.item(cells, inputs, _WIDEST // 8)
    with x.each("outputs", outputs) as i:
        type, cell = x.item(types_out, i, _WORDS), x.item(cells_out, i, _WIDEST // 8)
        x.do(f"store ptr null, ptr {x.item(made, i)}")
        x.do(f"store ptr {cell}, ptr {x.item(results, i)}")
        is_array = x.value(f"icmp eq i64 {x.word(type, _KIND)}, {_OF_ARRAY}")
        x.do(f"br i1 {is_array}, label %make, label %made")
        x.begin("make")
        array = x.value(f"call ptr @room(ptr {type})")
        x.expect(x.value(f"icmp ne ptr {array}, null"), "full")
        x.do(f"store ptr {array}, ptr {x.item(made, i)}")
        x.do(f"store ptr {x.load('ptr', array, _DATA)}, ptr {x.item(results, i)}")
        x.do("br label %made")
        x.begin("made")
    work = x.value(f"call ptr @take_workspace(ptr {table})")
    x.expect(x.value(f"icmp ne ptr {work}, null"), "small")
    run = x.load("ptr", table, 8 * _RUN)
    called = f"call i64 {run}(ptr {arguments}, ptr {results}, ptr {work})"
    x.do(f"br i1 {x.value(f'icmp eq i64 {x.word(table, _IS_LONG)}, 0')}, label %short, label %long")
    x.begin("short")
    shortly = x.value(called)
    x.do("br label %ran")
    x.begin("long")
    thread = x.call("PyEval_SaveThread", "")
    longer = x.value(called)
    x.call("PyEval_RestoreThread", f"ptr {thread}")
    x.do("br label %ran")
    x.begin("ran")
    status = x.value(f"phi i64 [ {shortly}, %short ], [ {longer}, %long ]")
    x.expect(x.value(f"icmp eq i64 {status}, 0"), "stopped")
    x.do(f"call void @give_workspace(ptr {table}, ptr {work})")
    found = x.call("PyList_New", f"i64 {outputs}")
    with x.each("boxes", outputs) as i:
        array = x.value(f"load ptr, ptr {x.item(made, i)}")
        x.do(f"br i1 {x.value(f'icmp eq ptr {array}, null')}, label %box, label %boxed")
        x.begin("box")
        type, cell = x.item(types_out, i, _WORDS), x.item(cells_out, i, _WIDEST // 8)
        number = x.value(f"call ptr @boxed(ptr {type}, ptr {cell})")
        x.do("br label %boxed")
        x.begin("boxed")
        result = x.value(f"phi ptr [ {array}, %boxes.body ], [ {number}, %box ]")
        x.call("PyList_SetItem", f"ptr {found}, i64 {i}, ptr {result}")
    x.do(f"ret ptr {found}")
    x.begin("stopped")
    _let_go(x, "stopped", made, outputs)
    asked = f"ptr {executable}, ptr @stopped, ptr @format, i64 {status}, ptr {work}, ptr %given"
    told = x.call("PyObject_CallMethod", asked)
    x.do(f"call void @give_workspace(ptr {table}, ptr {work})")
    x.do(f"ret ptr {told}")
    x.begin("full")
    _let_go(x, "full", made, "%outputs.i")
    x.do("ret ptr null")
    x.begin("small")
    _let_go(x, "small", made, outputs)
    x.do("br label %other")
    x.begin("other")
    x.call("Py_IncRef", "ptr @bindrune.none")
    x.do("ret ptr @bindrune.none")
    return x


def _let_go(x: _Function, name: str, made: str, count: str) -> None:
    """Let so many results go."""
    with x.each(f"{name}.each", count) as i:
        array = x.value(f"load ptr, ptr {x.item(made, i)}")
        x.do(f"br i1 {x.value(f'icmp eq ptr {array}, null')}, label %{name}.kept, label %{name}.go")
        x.begin(f"{name}.go")
        x.call("Py_DecRef", f"ptr {array}")
        x.do(f"br label %{name}.kept")
        x.begin(f"{name}.kept")
