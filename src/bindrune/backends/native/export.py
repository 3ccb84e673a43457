"""Programs for C: a function compiled ahead of time for one signature, as an object file or a shared library.

What is written needs neither Python nor bindrune, only C's library: no program that calls Python while it runs is
exported.  Matrix products are loops there instead of calls of a library, and loops run on the thread of whoever calls.
What the function captures is part of what is written, as it is now.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...compile.effects import check
from ...compile.interface import recorded
from ...compile.path import Surroundings
from ...compile.signature import Signature
from ...core import trees
from ...core.errors import ExportError, for_users
from ...graph.dims import Unstageable, values_in
from ...graph.graph import Graph
from ...graph.passes.optimize import optimize
from ...graph.spelling import type_text
from ...transforms.calls import describe
from .c_entry import ALONE, PROGRAM, UNREADY, Interface, Parameter, declaration, function_text, is_passable
from .llvm import Module
from .loops import HostCall, LibraryCall, Program, Statement
from .lower import Reason, UnlowerableError
from .lowering import lower
from .machine import cpu, object_of

__all__ = ["Exported", "export"]

_OBJECTS, _LIBRARIES = (".o", ".obj"), (".so", ".dylib", ".dll")


class Exported:
    """What `export` has written.

    Attributes:
        name: the function's name in C.
        path: the object file or the library.
        header: the C header.
        declaration: how C declares the function.
    """

    __slots__ = ("declaration", "header", "name", "path")

    def __init__(self, name: str, path: Path, header: Path, declaration: str) -> None:
        self.name = name
        self.path = path
        self.header = header
        self.declaration = declaration

    def __repr__(self) -> str:
        return f"<exported {self.path}: {self.declaration}>"


@for_users
def export(
    f: Callable[..., Any],
    *arguments: Any,
    path: str | os.PathLike[str] | None = None,
    name: str | None = None,
    **keywords: Any,
) -> Exported:
    """Compile a function ahead of time for C: an object file or a shared library, and a header beside it.

    The C function takes arrays as pointers to contiguous elements and numbers by value, in the order of the leaves of
    the arguments; it writes results where its last parameters say, and changes those arguments that the function
    changes.  It returns 0, or the number of a reason, for which ``<name>_message`` has a text: an index that is out of
    bounds, an error of the function's own, a value by which staging was decided.  Calls may be made from many threads.
    The code is for this machine's kind of CPU, and needs C's mathematical library (``-lm``) and nothing else.

    Args:
        f: a function of arrays, numbers and trees of them; of `br.jit(f, dynamic=True)` leading lengths are parameters.
        arguments: its arguments, or `ShapeDtype`s in place of arrays.
        path: where to write.  The ending says what: ``.o`` for an object file, ``.so`` for a shared library, for which
            the C compiler is called that ``CC`` names.  By default an object file in the current folder.
        name: the function's name in C; by default that which it has in Python, or else that of the file.
        keywords: its keyword arguments.

    Returns:
        What was written: an object with `path`, `header`, `name` and `declaration`.

    Raises:
        ExportError: the function's program is not one for C.

    >>> import numpy as np, bindrune as br, pathlib, tempfile
    >>> def line(x, slope):
    ...     return slope * x + 1
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> exported = br.export(line, np.ones(8), 2.0, path=folder / "line.o")
    >>> exported.declaration
    'int line(const double x[8], double slope, double out[8]);'
    >>> sorted(file.name for file in folder.iterdir())
    ['line.h', 'line.o']
    """
    whose = f"br.export of {describe(f)}"
    own = getattr(f, "__name__", "")
    name = name or (own if own.isidentifier() else Path(path).stem if path is not None else "")
    target = Path(f"{name}.o" if path is None else path)
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name in _KEYWORDS:
        raise ExportError(f"{whose}: {name!r} is no name for a function in C; choose one: br.export(..., name='...')")
    if target.suffix not in (*_OBJECTS, *_LIBRARIES):
        endings = ", ".join((*_OBJECTS, *_LIBRARIES))
        raise ExportError(f"{whose}: what to write is said by the ending of a path, and {target} has none of {endings}")
    try:
        way, signature = recorded(f, arguments, keywords)
    except Unstageable as refused:
        raise ExportError(f"{whose}: it runs as plain Python, because {refused}") from None
    graph = optimize(way.graph)
    surroundings = way.surroundings
    parameters = _parameters(f, graph, signature, surroundings, way.shapes(lambda t: _COMPUTED), whose)
    program, module = _compiled(graph, whose)
    captured = [np.asarray(v) for v in surroundings.captured]
    interface = Interface(
        parameters=parameters,
        names={v: p.name for v, p in zip(graph.inputs, parameters, strict=False)},
        inputs=len(graph.inputs) - len(captured),
        constants=[*captured, *(array for _, array in program.constants)],
        changed=surroundings.written,
        arena=module.memory.size,
        reasons=[*map(_said, program.reasons)],
    )
    declared = declaration(name, interface)
    try:
        text = module.text.replace("@run(", f"@{PROGRAM}(")
        code = object_of(text, (ALONE, function_text(name, interface)), (name, f"{name}_message"))
    except LookupError as missing:
        raise ExportError(f"{whose}: {missing.args[0]}") from None
    header = target.with_suffix(".h")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix in _OBJECTS:
        target.write_bytes(code)
    else:
        _link(code, target, whose)
    header.write_text(_header(name, interface, declared), encoding="utf-8")
    return Exported(name, target, header, declared)


# ---------------------------------------------------------------------------------------------------------- programs


def _compiled(graph: Graph, whose: str) -> tuple[Program, Module]:
    """The loop program of a graph, and its text; it calls nothing but C's library."""
    try:
        program = lower(graph, libraries=False)
    except UnlowerableError as reason:
        raise ExportError(f"{whose}: there is no machine code for the program: {reason}") from None
    parts = [program, *program.routines]
    left = [f"{entry.op.name}, {entry.line}" for entry in program.calls]
    left += [f"{s.name}, of BLAS or LAPACK" for part in parts for s in _all(part.body) if isinstance(s, LibraryCall)]
    if left:
        listed = "".join(f"\n  {line}" for line in dict.fromkeys(left))
        raise ExportError(
            f"{whose}: it calls Python, or a library that C programs do not have, for what has no machine code here:"
            f"{listed}\nWrite it with other operations, or leave it to the caller: pass its result as an argument."
        )
    if any(isinstance(s, HostCall) for s in _all(program.body)):
        raise ExportError(
            f"{whose}: the length of a result depends on values, so that a caller cannot make room for it. Return an "
            "array of the largest length, and how much of it counts."
        )
    return program, Module(program)


def _all(block: Iterable[Statement]) -> Iterator[Statement]:
    for s in block:
        yield s
        for inner in s.blocks:
            yield from _all(inner)


def _said(reason: Reason) -> str:
    """Why a program stops, as far as it is known before it runs."""
    node = reason.node
    where = f" ({node.line})" if node.line else ""
    if node.op is check:
        error = node.params["error"]
        return f"{type(error).__name__}: {error}{where}"
    if node.op.effect:
        return f"a value is not what the function was compiled for{where}"
    return f"{node.op.name.removeprefix('python.')} has no result for these operands{where}"


# -------------------------------------------------------------------------------------------------------- parameters

_KEYWORDS = frozenset(
    "auto bool break case char const continue default do double else enum extern false float for goto if inline int "
    "long main register restrict return short signed sizeof static struct switch true typedef union unsigned void "
    "volatile while and asm catch class delete explicit export friend mutable namespace new not operator or private "
    "protected public template this throw try typename using virtual xor".split()
)
"""Words that name nothing in C, and those of C++, for which the header is good too."""


def _parameters(
    f: Callable[..., Any], graph: Graph, signature: Signature, around: Surroundings, results: Any, whose: str
) -> list[Parameter]:
    """What the C function is given: the arguments' leaves, open lengths, and where results go."""
    leaves = len(signature.leaves)
    if around.changes or any(i >= leaves for i in around.written):
        raise ExportError(
            f"{whose}: it changes something that is not an argument. Return what it should be, or pass it as an array."
        )
    types = [v.type for v in (*graph.inputs, *graph.outputs)]
    for t in types:
        if not is_passable(t):
            raise ExportError(f"{whose}: C has no type for {type_text(t)} among its arguments and results")
    known = set(graph.inputs)
    if any(v not in known for v in values_in([v.shape for v in graph.outputs])):
        raise ExportError(
            f"{whose}: the length of a result depends on values, so that a caller cannot make room for it"
        )
    names = _Names()
    found: list[Parameter] = []
    for i, place in enumerate(signature.places()):
        role = "changed" if i in around.written else "argument"
        if role == "changed" and not types[i].shape:
            raise ExportError(f"{whose}: it changes an array without axes, which C has as a number; give it one axis")
        found.append(Parameter(names.made(_spelled(f, place)), types[i], role))
    for leaf, _ in around.lengths:
        found.append(Parameter(names.made(f"length_of_{found[leaf].name}"), types[len(found)], "length"))
    outputs = graph.outputs[: len(graph.outputs) - len(around.written)]
    for stem, value in zip(_result_names(results, len(outputs)), outputs, strict=True):
        found.append(Parameter(names.made(stem), value.type, "result"))
    return found


class _Names:
    """Makes names for parameters, each once."""

    def __init__(self) -> None:
        self._taken = set(_KEYWORDS)

    def made(self, stem: str) -> str:
        stem = re.sub(r"\W", "_", stem, flags=re.ASCII) or "x"
        stem = f"x{stem}" if stem[0].isdigit() else stem
        name, number = stem, 2
        while name in self._taken:
            name, number = f"{stem}_{number}", number + 1
        self._taken.add(name)
        return name


def _words(place: str) -> list[str]:
    """The keys, numbers and attributes in the way to a leaf."""
    return re.findall(r"\w+", place)


def _spelled(f: Callable[..., Any], place: str) -> str:
    """A leaf's name: that of the parameter it is in, and the way from there."""
    which, first, *rest = _words(place)
    if which == "1":
        return "_".join([first, *rest])
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    position = int(first)
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    others = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
    if position < len(plain):
        return "_".join([plain[position], *rest])
    return "_".join([f"{others[0] if others else 'x'}{position - len(plain)}", *rest])


_COMPUTED = object()
"""Stands for a leaf of the results that the program gives."""


def _result_names(results: Any, count: int) -> list[str]:
    """Names for the leaves of the results that are computed."""
    leaves, structure = trees.flatten(results)
    places = trees.leaf_paths(trees.unflatten(structure, list(range(len(leaves)))))
    found = [place for leaf, place in zip(leaves, places, strict=True) if leaf is _COMPUTED]
    if len(found) != count:
        return [f"out{i}" for i in range(count)]
    return ["_".join(["out", *_words(place)]) for place in found]


# ------------------------------------------------------------------------------------------------------------- files


def _header(name: str, interface: Interface, declared: str) -> str:
    guard = f"{name.upper()}_H"
    lines = [f"   {p.name}: {_described(p, interface)}" for p in interface.parameters]
    statuses = [*enumerate(UNREADY, -len(UNREADY)), *enumerate(interface.reasons, 1)]
    return "\n".join(
        [
            f"/* Written by bindrune, for CPUs like {cpu()}.  Link with -lm. */",
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#include <stdbool.h>",
            "#include <stdint.h>",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            "/*",
            *lines,
            "",
            "   Elements are contiguous, in C's order; nothing that is written may overlap with anything else.",
            "   Returns 0, or why it stopped; then results are undefined, and arguments have not been changed:",
            *(f"   {i}: {text}".replace("*/", "* /") for i, text in statuses),
            "*/",
            declared,
            "",
            "/* What a status says. */",
            f"const char *{name}_message(int status);",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            "#endif",
            "",
        ]
    )


def _described(p: Parameter, interface: Interface) -> str:
    shape = " x ".join(map(interface.length, p.type.shape))
    parts = [p.type.dtype.name, *([shape] if shape else []), *(["changed"] if p.role == "changed" else [])]
    if p.type.dtype.kind == "c":
        parts.append("real and imaginary parts in turn")
    return ", ".join(parts)


def _link(code: bytes, target: Path, whose: str) -> None:
    """Make a shared library of an object file."""
    compiler = _compiler()
    if not compiler:
        raise ExportError(
            f"{whose}: a shared library takes a C compiler to link it, and there is none (CC, cc, gcc, clang). Write "
            "an object file instead: a path that ends in .o"
        )
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "code.o"
        made.write_bytes(code)
        command = [*compiler, "-shared", "-o", str(target), str(made), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExportError(f"{whose}: {shlex.join(command)} failed:\n{done.stderr}")


def _compiler() -> Sequence[str]:
    """The system's C compiler, as the start of a command."""
    asked = shlex.split(os.environ.get("CC", ""))
    if asked:
        return asked
    return [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
