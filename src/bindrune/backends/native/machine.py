"""The machine: what CPU this is, which libraries there are, and turning LLVM's text into functions of the process.

Everything that knows llvmlite is in this file.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

__all__ = ["Code", "compile_text", "define_libraries", "define_symbol", "scalar_alias", "vector_variants"]


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


@functools.cache
def define_libraries() -> None:
    """Let machine code call the library for matrices that SciPy has."""
    from scipy.linalg import cython_blas

    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    for function in ("sgemm", "dgemm"):
        capsule = cython_blas.__pyx_capi__[function]
        define_symbol(f"bindrune.{function}", get(capsule, name(capsule)))


@functools.cache
def scalar_alias(symbol: str) -> str:
    """Another name for a function of C's library."""
    name = f"bindrune.{symbol}"
    found = ctypes.cast(getattr(ctypes.CDLL(_LIBRARY), symbol), ctypes.c_void_p).value
    assert found is not None
    define_symbol(name, found)
    return name


_LIBRARY = "libm.so.6"


@functools.cache
def _target() -> Any:
    binding = _binding()
    cpu = binding.get_host_cpu_name()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=binding.get_host_cpu_features().flatten(), opt=3, reloc="pic", codemodel="small", jit=True
    )
    machine.set_asm_verbosity(False)
    return machine


def define_symbol(name: str, address: int) -> None:
    """Let machine code call what lies at an address."""
    _binding().add_symbol(name, address)


class Code:
    """A compiled module: it lives as long as this object."""

    __slots__ = ("_engine", "_machine", "_module", "text")

    def __init__(self, engine: Any, module: Any, machine: Any) -> None:
        self._engine = engine
        self._module = module
        self._machine = machine
        self.text = ""

    def address(self, name: str) -> int:
        """Where a function lies."""
        found: int = self._engine.get_function_address(name)
        return found

    @property
    def llvm(self) -> str:
        """The optimised text."""
        return str(self._module)

    @property
    def assembly(self) -> str:
        """The instructions of the machine."""
        found: str = _target().emit_assembly(_binding().parse_assembly(str(self._module)))
        return found


def compile_text(text: str, straight: bool = False) -> Code:
    """Compile LLVM's text.

    Much of what LLVM's higher levels do has been done on loops already, or comes to nothing in them.  Loops are written
    out where the text says so.

    Args:
        text: it.
        straight: whether scalar operations that stand side by side may make a vector.
    """
    binding = _binding()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=2,
        reloc="default",
        codemodel="jitdefault",
        jit=True,
    )
    module = binding.parse_assembly(text)
    options = binding.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = True
    options.loop_interleaving = True
    options.slp_vectorization = straight
    options.loop_unrolling = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return Code(engine, module, machine)
