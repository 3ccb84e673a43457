"""What lifting reaches: the user's own Python code, and NumPy functions that are written in Python.

The standard library and packages that work on plain arrays are left as they are.
"""

from __future__ import annotations

import sys
import types
from typing import Any

__all__ = ["implementation", "is_liftable", "is_set", "is_users"]

_FOREIGN = frozenset(sys.stdlib_module_names - {"__main__"}) | {
    "bindrune", "numpy", "scipy", "pandas", "xarray", "matplotlib", "sklearn", "torch", "jax", "jaxlib", "autograd",
    "numba", "llvmlite", "optree", "tqdm", "attr", "attrs", "pydantic",
    "pytest", "_pytest", "hypothesis",
}  # fmt: skip


def is_liftable(globals_: dict[str, Any]) -> bool:
    """Whether code with these globals is the user's, rather than a library's that works on plain arrays."""
    return is_users(str(globals_.get("__name__", "")))


def is_users(module: str) -> bool:
    """Whether a module is the user's, by its name."""
    return module.partition(".")[0] not in _FOREIGN


def implementation(function: Any) -> types.FunctionType | None:
    """The Python function behind NumPy's dispatcher, or None for one written in C."""
    inner = getattr(function, "__wrapped__", function)
    return inner if isinstance(inner, types.FunctionType) else None


def is_set(cell: types.CellType) -> bool:
    """Whether a closure's variable has a value."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
