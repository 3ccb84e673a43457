"""What a call costs, and what it runs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

from bindrune.backends.native.executable import Executable


def peak(function: Callable[[], Any]) -> int:
    """The most memory in use at once during a function, in bytes."""
    function()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def executables(function: Any) -> list[Executable]:
    """The machine code behind a function under `br.jit`."""
    paths = [path for found in function._paths.values() for path in found]
    return [made for path in paths for made in path.graph.derived.values() if isinstance(made, Executable)]
