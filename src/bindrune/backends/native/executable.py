"""Compiled programs as callables: arguments in, results out, and what happens when a program stops.

A program that stops because an operation would raise says which and for what numbers; the host then performs that
operation, so that the error and its message are NumPy's or Python's own.  If nothing is raised after all, the whole
program is interpreted.

`compile_graph` compiles each graph once.
"""

from __future__ import annotations

import ctypes
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...graph.dims import substitute, values_in
from ...graph.graph import PYTHON, STACK_TYPE, Graph, Literal, Type, Value
from ...graph.interpreter import interpret_apart
from .calls import HOST
from .context import CONTEXT_TAPE, CONTEXT_VALUES, DEEP, FULL, OUTSIDE
from .depth import define_depth
from .entry import CONTEXT_WORDS, bound_entry, entry_code, is_plain, table_of, workspace_of
from .integers import LIMIT
from .llvm import Module
from .loops import For, HostCall, Invoke, LibraryCall, Program, Statement, While
from .lower import HostEntry, Reason, UnlowerableError
from .lowering import lower
from .machine import Code, define_libraries, define_symbol
from .tapes import boxed, leave_tape, stack_at, take_tape, tape_and_places
from .threads import define_threads, processors, thread_pool

__all__ = ["Executable", "compile_graph"]

_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def compile_graph(graph: Graph) -> Executable:
    """The machine code of a graph."""
    found = graph.derived.get("native")
    if found is None:
        found = graph.derived["native"] = Executable(graph)
    made: Executable = found
    return made


_ALIGNMENT = 64
_free = ctypes.CDLL(None).free
_free.argtypes = [ctypes.c_void_p]
_free.restype = None

_executables: weakref.WeakValueDictionary[int, Executable] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)
_errors: dict[int, BaseException] = {}
"""What the host raised, by the address of the run's context."""


_made: dict[int, dict[int, Any]] = {}
"""Outputs that the host was asked for, by the address of the run's context."""


class Executable:
    """A compiled graph.

    Attributes:
        graph: what it was compiled from.
        callbacks: the operations it leaves to the host, each with the user's line.
        enter: from a tuple of arguments to the list of outputs, or None where they are not just as compiled for; None
            itself where some arguments or results are never handed over so.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.callbacks: list[str] = []
        self.enter: Callable[[tuple[Any, ...]], list[Any] | None] | None = None
        self._code: Code | None = None
        self._types = [v.type for v in graph.inputs]
        self._results = [v.type for v in graph.outputs]
        self._crosses = STACK_TYPE in (*self._types, *self._results)
        """Whether stacks go in or out: then the size of the tape does so, too, as the last."""
        self._contexts: list[Any] = []
        self._table: Any = None
        try:
            self._program: Program = lower(graph)
        except UnlowerableError as reason:
            self.callbacks.append(f"the whole program: {reason}")
            return
        self.callbacks += [f"{entry.op.name}: {entry.line}" for entry in self._program.calls]
        self._constants = [array for _, array in self._program.constants]
        module = Module(self._program)
        self._arena = module.memory.size
        texts = module.apart(processors())
        self._code = Code(texts)
        plain = is_plain([*self._types, *self._results])
        needed = [self._code, *([thread_pool()] if module.threaded else []), *([entry_code()] if plain else [])]
        Code.compile_together(needed, processors())
        _define_host()
        if module.threaded:
            define_threads()
        if module.recursive:
            define_depth()
        define_libraries(texts)
        run = self._code.address("run")
        self._function = _PROTOTYPE(run)
        self._number = next(_numbers)
        _executables[self._number] = self
        if plain:
            self._table = table_of(
                run,
                self._number,
                self._arena,
                is_long(self._program.body),
                self._constants,
                self._types,
                self._results,
            )
            self.enter = bound_entry(self, self._table)

    def __del__(self) -> None:
        for context in self._contexts:
            _free(int(context[CONTEXT_TAPE]))
        work = 0 if self._table is None else workspace_of(self._table)
        if work:
            _free(ctypes.c_void_p.from_address(work + 8 * CONTEXT_TAPE).value)
            _free(work)

    @property
    def working_memory(self) -> int:
        """The bytes that runs have worked in beside arguments and results, their tape included."""
        if self._code is None:
            return 0
        tapes = [int(context[CONTEXT_TAPE + 1]) for context in self._contexts]
        work = 0 if self._table is None else workspace_of(self._table)
        if work:
            tapes.append(ctypes.c_int64.from_address(work + 8 * (CONTEXT_TAPE + 1)).value)
        return self._arena + sum(tapes)

    @property
    def loops(self) -> str:
        """The loop program's text."""
        return str(self._program) if self._code else ""

    @property
    def llvm(self) -> str:
        """LLVM's text, optimised."""
        return self._code.llvm if self._code else ""

    @property
    def asm(self) -> str:
        """The machine's instructions."""
        return self._code.assembly if self._code else ""

    def run(self, arguments: Sequence[Any]) -> list[Any]:
        """The outputs for some arguments."""
        found = None if self.enter is None else self.enter(tuple(arguments))
        return self._run_slowly(arguments) if found is None else found

    def _run_slowly(self, arguments: Sequence[Any]) -> list[Any]:
        """`run` for any arguments that can be brought to the types it was compiled for."""
        if self._code is None:
            return interpret_apart(self.graph, arguments)
        found = tape_and_places(arguments)
        if found is None or any(type(x) is int and abs(x) >= LIMIT for x in arguments):
            return interpret_apart(self.graph, arguments)
        tape, given = found
        try:
            context = self._contexts.pop()
        except IndexError:
            context = self._context()
        if self._crosses:
            leave_tape(tape, context)
        arrays = [_as_array(x, t) for x, t in zip(given, self._types, strict=True)]
        results = [self._result(t, arrays) for t in self._results]
        if self._crosses:
            arrays.append(np.array(tape.size))
            results.append(np.empty((), np.int64))
        held = [*arrays, *self._constants]
        status = self._function(_addresses(held), _addresses(results), context.ctypes.data)
        for position, array in _made.pop(context.ctypes.data, {}).items():
            results[position] = array
        try:
            if status:
                return self.stopped(status, context.ctypes.data, arguments)
            if STACK_TYPE in self._results:
                tape = take_tape(context, int(results[-1]))
                return [
                    stack_at(tape, int(a)) if t == STACK_TYPE else boxed(a, t)
                    for a, t in zip(results, self._results, strict=False)
                ]
        finally:
            self._contexts.append(context)
        return [boxed(a, t) for a, t in zip(results, self._results, strict=False)]

    def _context(self) -> Any:
        """A context with the arena behind it."""
        whole = np.zeros(CONTEXT_WORDS + self._arena // 8 + 2 * _ALIGNMENT, np.int64)
        whole[0] = (whole.ctypes.data + 8 * CONTEXT_WORDS + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
        whole[1] = self._number
        return whole

    def _result(self, type: Type, arrays: Sequence[Any]) -> Any:
        if type == STACK_TYPE:
            return np.empty((), np.int64)
        found = dict(zip(self.graph.inputs, arrays, strict=True))
        if any(v not in found for v in values_in(type.shape)):
            return np.empty(0, type.dtype)  # the program asks for it when it knows the lengths

        def number(value: Value) -> int:
            return int(value.content if isinstance(value, Literal) else found[value])

        # Of a length that is negative: the program stops at what it took for granted of its bounds.
        return np.empty(substitute(type.shape, lambda dim: max(dim.at(number), 0)), type.dtype)

    def stopped(self, status: int, context: int, arguments: Sequence[Any]) -> list[Any]:
        """What happens when the program has stopped: an error, or the outputs after all."""
        if status == OUTSIDE:
            raise RuntimeError(
                f"the machine code of {self.graph.name} leaves its buffers, which is an error of bindrune"
            )
        if status == FULL:
            raise MemoryError(f"there is not enough memory for {self.graph.name}")
        if status == DEEP:
            raise RecursionError(f"{self.graph.name} calls itself deeper than the stack of its thread allows")
        if status < 0:
            error = _errors.pop(context)
            if isinstance(error, _MisjudgedError):
                return interpret_apart(self.graph, arguments)
            raise error
        reason: Reason = self._program.reasons[status - 1]
        told = np.ctypeslib.as_array((ctypes.c_uint8 * (8 * CONTEXT_WORDS)).from_address(context))
        values = []
        for i, dtype in enumerate(reason.values):
            at = 8 * (CONTEXT_VALUES + 2 * i)
            values.append(told[at : at + dtype.itemsize].view(dtype)[0])
        try:
            reason.explain(*values)
        except Exception as error:
            if reason.node.line:
                error.add_note(f"in {reason.node.line}")
            raise
        return interpret_apart(self.graph, arguments)


def _addresses(arrays: Sequence[Any]) -> Any:
    return (ctypes.c_void_p * max(len(arrays), 1))(*(a.ctypes.data for a in arrays))


def _as_array(x: Any, type: Type) -> Any:
    if type == STACK_TYPE:
        return np.array(x, np.int64)
    found = np.ascontiguousarray(x, type.dtype) if type.shape else np.asarray(x, type.dtype)
    if not found.flags.aligned:
        found = found.copy()
    return found


_LONG = 20_000
"""The steps of loops from which on a program counts as long."""


def is_long(block: Sequence[Statement]) -> bool:
    """Whether statements may take more than some microseconds."""
    return _steps(block) > _LONG


def _steps(block: Sequence[Statement]) -> int:
    total = len(block)
    for s in block:
        if isinstance(s, For):
            total += _steps(s.body) * (_LONG if s.extent.known is None else s.extent.known)
        elif isinstance(s, (While, HostCall, Invoke, LibraryCall)):
            return _LONG + 1
        else:
            total += sum(map(_steps, s.blocks))
    return total


# --------------------------------------------------------------------------------------------------------- the host


class _MisjudgedError(Exception):
    """An operation gives another type for these operands than for the samples it was staged with."""


class _Memory:
    """Memory that NumPy can look at."""

    __slots__ = ("__array_interface__",)

    def __init__(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = {
            "data": (address, False),
            "shape": shape,
            "strides": tuple(s * dtype.itemsize for s in strides),
            "typestr": f"|V{dtype.itemsize}",
            "version": 3,
        }


def _array(packed: Any, at: int, ndim: int, dtype: np.dtype[Any]) -> tuple[Any, int]:
    """The array that a packed description at a place says, and the place after it."""
    address = packed[at]
    shape = tuple(packed[at + 1 : at + 1 + ndim])
    strides = tuple(packed[at + 1 + ndim : at + 1 + 2 * ndim])
    return np.asarray(_Memory(address, shape, strides, dtype)).view(dtype), at + 1 + 2 * ndim


def _perform(entry: HostEntry, address: int) -> None:
    packed = (ctypes.c_int64 * 4096).from_address(address)
    operands: list[Any] = []
    at = 0
    for type in entry.operands:
        if type.shape:
            array, at = _array(packed, at, len(type.shape), type.dtype)
            operands.append(array)
        else:
            number = np.asarray(_Memory(packed[at], (), (), type.dtype)).view(type.dtype).copy()
            at += 1
            operands.append(boxed(number, type))
    params = entry.params
    if entry.sizes:
        lengths = dict(zip(entry.sizes, operands[-len(entry.sizes) :], strict=True))
        del operands[-len(entry.sizes) :]
        params = substitute(
            params,
            lambda dim: dim.at(lambda v: int(v.content if isinstance(v, Literal) else lengths[v])),
        )
    found = entry.op.implementation(*operands, **params)
    if not entry.results:
        return
    for result, type in zip(found if isinstance(found, tuple) else (found,), entry.results, strict=True):
        target, at = _array(packed, at, len(type.shape), type.dtype)
        if type.form == PYTHON and type.dtype.kind == "i" and abs(result) >= LIMIT:
            raise _MisjudgedError(entry.op.name)
        if not np.can_cast(np.asarray(result).dtype, type.dtype, "same_kind") or np.shape(result) != target.shape:
            raise _MisjudgedError(entry.op.name)
        target[...] = result


def _make_room(executable: Executable, context: int, position: int, address: int) -> None:
    """Make an output whose lengths only the program knew."""
    type = executable._results[position]
    packed = (ctypes.c_int64 * max(len(type.shape), 1)).from_address(address)
    shape = tuple(ctypes.c_int64.from_address(packed[i]).value for i in range(len(type.shape)))
    made = _made.setdefault(context, {})[position] = np.empty(shape, type.dtype)
    packed[0] = made.ctypes.data


def _answer(context: int, number: int, packed: int) -> int:
    executable = _executables[ctypes.c_int64.from_address(context + 8).value]
    try:
        if number < 0:
            _make_room(executable, context, -1 - number, packed)
        else:
            _perform(executable._program.calls[number], packed)
    except BaseException as error:
        _errors[context] = error
        return 1
    return 0


_HOST = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(_answer)
_defined = False


def _define_host() -> None:
    global _defined
    if not _defined:
        address = ctypes.cast(_HOST, ctypes.c_void_p).value
        assert address is not None
        define_symbol(HOST, address)
        _defined = True
