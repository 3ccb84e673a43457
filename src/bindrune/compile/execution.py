"""What runs a graph on plain arrays: the native backend, or the interpreter.

The interpreter performs the graph as it was staged, operation by operation, with NumPy; it is the reference (under
`fast_math`, of what that makes of the graph).  The native backend optimises the graph and compiles it to machine code.
``BINDRUNE_BACKEND`` chooses for a process, and `jit(backend=...)` for a function.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

from ..core.garbage import Rest
from ..graph.graph import Graph
from ..graph.interpreter import interpret_apart
from ..graph.passes.optimize import optimize

__all__ = ["BACKENDS", "executable", "execute"]


BACKENDS: dict[str, str] = {"native": "backends.native.executable"}
"""The backends beside the interpreter: for each the module whose `compile_graph` makes an executable of a graph."""

_rest = Rest()


class _Interpreted:
    """A graph that the interpreter runs."""

    __slots__ = ("graph",)

    enter = None

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, values: Sequence[Any]) -> list[Any]:
        """The outputs for some arguments."""
        return interpret_apart(self.graph, values)


def executable(graph: Graph, backend: str | None = None, fast_math: bool = False) -> Any:
    """What runs a graph, made on the first demand.

    Its `run` takes plain arrays and numbers, and gives outputs of which arrays own their memory.  Its `enter` is None,
    or does the same for a tuple, at once, and gives None where that is not just what the graph was compiled for.
    """
    name = backend or os.environ.get("BINDRUNE_BACKEND", "native")
    key = ("backend", name, fast_math)
    found = graph.derived.get(key)
    if found is None:
        found = graph.derived[key] = _made(graph, name, fast_math)
    return found


def _made(graph: Graph, name: str, fast_math: bool) -> Any:
    if name == "interpreter":
        return _Interpreted(optimize(graph, fast_math) if fast_math else graph)
    if name not in BACKENDS:
        raise ValueError(f"br.jit: there is no backend {name!r}; there are interpreter, {', '.join(BACKENDS)}")
    package = __package__.rpartition(".")[0]
    with _rest:
        module = importlib.import_module(f"{package}.{BACKENDS[name]}")
        return module.compile_graph(optimize(graph, fast_math))


def execute(graph: Graph, values: Sequence[Any], backend: str | None = None, fast_math: bool = False) -> list[Any]:
    """The outputs of a graph for plain arrays and numbers; arrays among them own their memory."""
    found: list[Any] = executable(graph, backend, fast_math).run(values)
    return found
