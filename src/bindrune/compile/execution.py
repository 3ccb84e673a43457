"""What runs a graph on plain arrays: the native backend, or the interpreter.

The interpreter performs the graph as it was staged, operation by operation, with NumPy; it is the reference (under
`fast_math`, of what that makes of the graph).  The
native backend optimises the graph and compiles it to machine code.  ``BINDRUNE_BACKEND`` chooses for a process, and
`jit(backend=...)` for a function.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any

from ..graph.graph import Graph
from ..graph.interpreter import interpret_apart
from ..graph.passes.optimize import optimize

__all__ = ["BACKENDS", "execute"]


BACKENDS: dict[str, str] = {"native": "backends.native.executable"}
"""The backends beside the interpreter: for each the module whose `compile_graph` makes an executable of a graph."""


def _compiled(graph: Graph, name: str, fast_math: bool) -> Callable[[list[Any]], list[Any]]:
    if name == "interpreter":
        return functools.partial(interpret_apart, optimize(graph, fast_math) if fast_math else graph)
    if name not in BACKENDS:
        raise ValueError(f"br.jit: there is no backend {name!r}; there are interpreter, {', '.join(BACKENDS)}")
    package = __package__.rpartition(".")[0]
    module = importlib.import_module(f"{package}.{BACKENDS[name]}")
    run: Callable[[list[Any]], list[Any]] = module.compile_graph(optimize(graph, fast_math)).run
    return run


def execute(graph: Graph, values: list[Any], backend: str | None = None, fast_math: bool = False) -> list[Any]:
    """The outputs of a graph for plain arrays and numbers; arrays among them own their memory."""
    name = backend or os.environ.get("BINDRUNE_BACKEND", "native")
    key = ("backend", name, fast_math)
    run = graph.derived.get(key)
    if run is None:
        run = graph.derived[key] = _compiled(graph, name, fast_math)
    found: list[Any] = run(values)
    return found
