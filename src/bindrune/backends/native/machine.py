"""The machine: what CPU this is, which libraries there are, and turning LLVM's text into functions of the process.

Everything that knows llvmlite is in this file.  One thread at a time is in LLVM (`alone`), and none is while the
process forks or ends: a thread that is left then would compile with what LLVM has taken down.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...core.threads import Turns, side_by_side
from .cache import key_of, load, store

__all__ = [
    "MATRICES",
    "Code",
    "alone",
    "cpu",
    "define_libraries",
    "define_symbol",
    "object_of",
    "scalar_alias",
    "vector_variants",
]

MATRICES = "bindrune.matrices."
"""What the symbols of the libraries for matrices begin with."""


alone = Turns()
"""Decorates what is in LLVM."""

_LEVEL = 2
"""How much trouble is taken over instructions and registers."""


@functools.cache
def _binding() -> Any:
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    if _vector_library():
        binding.load_library_permanently(_VECTOR_LIBRARY)
    return binding


_VECTOR_LIBRARY = "libmvec.so.1"
_LETTERS = {64: "e", 32: "d", 16: "b"}
"""By their bytes the letters that vectors have in the names of the vector library's functions."""


@functools.cache
def _vector_library() -> Any:
    try:
        return ctypes.CDLL(_VECTOR_LIBRARY)
    except OSError:
        return None


@alone
@functools.cache
def features() -> dict[str, bool]:
    """What the CPU can do, by LLVM's names."""
    return dict(_binding().get_host_cpu_features())


@functools.cache
def vector_bytes() -> int:
    """The length of a vector."""
    has = features()
    return 64 if has.get("avx512f") else 32 if has.get("avx2") else 16


def vector_variants(symbol: str, arguments: int, itemsize: int) -> list[tuple[int, str]]:
    """The vector forms of a function of C's library: the numbers of lanes, and their names."""
    library = _vector_library()
    found = []
    for size, letter in _LETTERS.items():
        lanes = size // itemsize
        name = f"_ZGV{letter}N{lanes}{'v' * arguments}_{symbol}"
        if size <= vector_bytes() and library is not None and hasattr(library, name):
            found.append((lanes, name))
    return found


_LIBRARIES = {"cython_blas": ("gemm", "trsm"), "cython_lapack": ("gesv", "getrf", "potrf")}
"""The libraries for matrices, and what is called of them."""


@alone
def define_libraries(texts: Sequence[str]) -> None:
    """Let machine code call the libraries for matrices that SciPy has, if its texts do."""
    for library, routines in _LIBRARIES.items():
        called = [f"@{MATRICES}{letter}{routine}(" for routine in routines for letter in "sdcz"]
        if any(name in text for text in texts for name in called):
            _define_library(library)


@functools.cache
def _define_library(library: str) -> None:
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found = _part_of_scipy("scipy.linalg", library)
    for routine in _LIBRARIES[library]:
        for function in (f"{letter}{routine}" for letter in ("sdcz" if routine == "gemm" else "sd")):
            capsule = found.__pyx_capi__[function]
            define_symbol(f"{MATRICES}{function}", get(capsule, name(capsule)))


def _part_of_scipy(package: str, name: str) -> Any:
    """An extension module of SciPy's, without the package around it, which takes long to import."""
    import scipy

    whole = f"{package}.{name}"
    folders = [os.path.join(path, *package.split(".")[1:]) for path in scipy.__path__]
    spec = importlib.machinery.PathFinder.find_spec(whole, folders)
    if package in sys.modules or spec is None or spec.loader is None:
        return importlib.import_module(whole)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    # It enters itself there.  Who imports it with its package is to find it as an attribute of that, too.
    sys.modules.pop(whole, None)
    return found


@alone
@functools.cache
def scalar_alias(symbol: str) -> str:
    """Another name for a function of C's library."""
    name = f"bindrune.{symbol}"
    found = ctypes.cast(getattr(ctypes.CDLL(_LIBRARY), symbol), ctypes.c_void_p).value
    assert found is not None
    define_symbol(name, found)
    return name


_LIBRARY = "libm.so.6"


@alone
def define_symbol(name: str, address: int) -> None:
    """Let machine code call what lies at an address."""
    _binding().add_symbol(name, address)


class Code:
    """Machine code of modules that may call each other.

    It is compiled and loaded when it is first asked where a function lies, and lives as long as this object.

    Args:
        texts: the modules in LLVM's language.
        level: how much trouble is taken; little at 0, for what does not run long enough to make up for it.
    """

    __slots__ = ("_engine", "_level", "_objects", "_texts")

    def __init__(self, texts: Sequence[str], level: int = _LEVEL) -> None:
        self._texts = texts
        self._level = level
        self._objects: list[bytes] = []
        self._engine: Any = None

    @alone
    def __del__(self) -> None:
        del self._engine

    @alone
    def address(self, name: str) -> int:
        """Where a function lies."""
        if self._engine is None:
            self.compile_together([self], 1)
            self._load()
        found: int = self._engine.get_function_address(name)
        return found

    def _load(self) -> None:
        binding = _binding()
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(self._level, **_IN_PROCESS))
        while self._objects:
            engine.add_object_file(binding.ObjectFileRef.from_data(self._objects.pop(0)))
        engine.finalize_object()
        self._engine = engine

    @property
    @alone
    def llvm(self) -> str:
        """The optimised text."""
        machine = _machine(**_IN_PROCESS)
        return "\n".join(str(_optimized(text, machine)) for text in self._texts)

    @property
    @alone
    def assembly(self) -> str:
        """The instructions of the machine."""
        machine = _machine(**_IN_FILES)
        machine.set_asm_verbosity(False)
        return "\n".join(machine.emit_assembly(_optimized(text, machine)) for text in self._texts)

    @classmethod
    @alone
    def compile_together(cls, codes: Iterable[Code], threads: int) -> None:
        """Let so many threads compile what is not compiled yet."""
        missing = [code for code in codes if not code._objects and code._engine is None]
        given = _circumstances()
        makers = [partial(_object, text, code._level, given) for code in missing for text in code._texts]
        made = side_by_side(makers, threads)
        for code in missing:
            code._objects, made = made[: len(code._texts)], made[len(code._texts) :]


def _object(text: str, level: int, given: Sequence[str]) -> bytes:
    """The machine code of a module, or what an earlier process made of it where the same was given."""
    key = key_of([text, str(level), *given])
    code = load(key)
    if code is None:
        machine = _machine(level, **_IN_PROCESS)
        code = _emitted(_optimized(text, machine, level), machine)
        store(key, code)
    return code


def _emitted(module: Any, machine: Any) -> bytes:
    """The object file of a module."""
    ffi = _binding().ffi
    with ffi.OutputString() as said:
        buffer = _unlocked("LLVMPY_TargetMachineEmitToMemory")(machine, module, True, said)
        if not buffer:
            raise RuntimeError(str(said))
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


@functools.cache
def _unlocked(name: str) -> Any:
    """A function of LLVM that several threads may be in, since each has a context of its own.

    llvmlite lets one thread at a time call any function, for all have the same context there.
    """
    library = _binding().ffi.lib
    function, known = getattr(ctypes.CDLL(library._name), name), getattr(library, name)
    function.argtypes, function.restype = known.argtypes, known.restype
    return function


@alone
def object_of(text: str, others: Sequence[str], seen: Sequence[str]) -> bytes:
    """An object file for C: texts as one module, of which only some functions are seen from outside.

    Raises:
        LookupError: it calls what C's library does not have, or a function has the name of one that it calls.
    """
    binding = _binding()
    machine = _machine(**_IN_FILES)
    module = binding.parse_assembly(text)
    for taken in {f.name for f in module.functions} & set(seen):
        raise LookupError(f"{taken} is the name of a function that it calls")
    for other in others:
        module.link_in(binding.parse_assembly(other))
    _hide(module, seen)
    module = _optimized(str(module), machine, context=binding.get_global_context())
    module.link_in(binding.parse_assembly(_own_names(module)))
    _hide(module, seen)
    return _emitted(module, machine)


def _hide(module: Any, seen: Sequence[str]) -> None:
    """Let only some functions of a module be seen from outside."""
    for f in module.functions:
        if not f.is_declaration and f.name not in seen:
            f.linkage = "internal"


_OURS = "bindrune."


def _own_names(module: Any) -> str:
    """Functions that lead from our names for functions of C's library to those."""
    found: dict[str, str] = {}
    for f in module.functions:
        if not f.is_declaration or not f.name.startswith(_OURS):
            continue
        name = f.name.removeprefix(_OURS)
        if not hasattr(ctypes.CDLL(_LIBRARY), name):
            raise LookupError(f"it calls {name}, which C's library does not have")
        kind, *others = (str(t) for t in f.global_value_type.elements)
        given = ", ".join(f"{t} %x{i}" for i, t in enumerate(others))
        found[f.name] = (
            f"define {kind} @{f.name}({given}) {{\n  %y = tail call {kind} @{name}({given})\n  ret {kind} %y\n}}"
        )
        found[name] = f"declare {kind} @{name}({', '.join(others)})"
    return "\n".join(found.values())


@alone
def cpu() -> str:
    """LLVM's name for the CPU."""
    return f"{_binding().get_default_triple().partition('-')[0]}, {_host()[0]}"


_IN_PROCESS: dict[str, Any] = {"reloc": "default", "codemodel": "jitdefault", "jit": True}
"""Code that may lie anywhere, far from what it calls."""

_IN_FILES: dict[str, Any] = {"reloc": "pic", "codemodel": "small", "jit": False}
"""Code that a linker puts beside what it calls."""

_TRANSFORMED = {
    "speed_level": 1,
    "loop_vectorization": True,
    "loop_interleaving": True,
    "loop_unrolling": False,
    "slp_vectorization": False,
}
"""What LLVM's passes do.

Much of what their higher levels do has been done on loops already, or comes to nothing; and loops are written out where
the text says so.  Scalar operations that stand side by side are not made vectors: LLVM 22 then puts some loads in front
of the stores that they depend on.  Where short loops let them stand so, `lanes` has written vectors already.
"""


def _machine(level: int = _LEVEL, **where: Any) -> Any:
    """Generates code for this CPU."""
    binding = _binding()
    name, has = _host()
    return binding.Target.from_default_triple().create_target_machine(cpu=name, features=has, opt=level, **where)


@functools.cache
def _host() -> tuple[str, str]:
    """LLVM's name for the CPU, and what it can do."""
    binding = _binding()
    return binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


def _optimized(text: str, machine: Any, level: int = _LEVEL, context: Any = None) -> Any:
    """A module with the text, after LLVM's passes if it is worth them."""
    binding = _binding()
    context = context or binding.create_context()
    for vectors in (True, False) if level else ():
        module = binding.parse_assembly(text, context)
        _optimize(module, machine, {**_TRANSFORMED, "loop_vectorization": vectors})
        if _is_sound(module):
            return module
    return binding.parse_assembly(text, context)


def _is_sound(module: Any) -> bool:
    """Whether LLVM's passes have left a program.

    Where small vectors are stored out of order and read as a larger one, LLVM 22 puts the larger one together before
    all of them are there, and generating code would end the process.
    """
    with _binding().ffi.OutputString() as said:
        return not _unlocked("LLVMPY_VerifyModule")(module, said)


def _optimize(module: Any, machine: Any, transformed: dict[str, Any]) -> None:
    binding = _binding()
    options = binding.create_pipeline_tuning_options()
    for name, value in transformed.items():
        setattr(options, name, value)
    builder = binding.create_pass_builder(machine, options)
    passes = builder.getModulePassManager()
    _unlocked("LLVMPY_RunNewModulePassManager")(passes, module, builder)
    # llvmlite keeps them for ever: it looks for the method that lets go where it does nothing.
    binding.ffi.lib.LLVMPY_DisposeNewModulePassManger(passes)
    passes.detach()


@functools.cache
def _circumstances() -> tuple[str, ...]:
    """What machine code depends on beside its text."""
    import llvmlite

    binding = _binding()
    package = sys.modules[__name__.partition(".")[0]]
    return (
        f"bindrune {package.__version__}, llvmlite {llvmlite.__version__}, LLVM {binding.llvm_version_info}",
        f"NumPy {np.__version__}, {sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')} {sys.version}",
        " ".join((binding.get_default_triple(), *_host())),
        f"{_TRANSFORMED} {_IN_PROCESS}",
    )
