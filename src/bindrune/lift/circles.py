"""Functions that call each other in a circle: mutual recursion, seen from names before anything runs."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator

from .syntax import walk_scope

__all__ = ["circles", "is_in_circle"]

_MOST = 256
"""How many functions are looked at."""


def is_in_circle(function: types.FunctionType) -> bool:
    """Whether a function may call others of its module that call it."""
    found = [function]
    for caller in found:
        for other in _named(caller, caller.__code__):
            if other is function and caller is not function:
                return True
            if other.__globals__ is function.__globals__ and other not in found and len(found) < _MOST:
                found.append(other)
    return False


def _named(function: types.FunctionType, code: types.CodeType) -> Iterator[types.FunctionType]:
    """The functions that the names in a function's code stand for by now."""
    for name in code.co_names:
        other = function.__globals__.get(name)
        if type(other) is types.FunctionType:
            yield other
    for cell in function.__closure__ or () if code is function.__code__ else ():
        other = _content(cell)
        if type(other) is types.FunctionType:
            yield other
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _named(function, part)


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def circles(body: list[ast.stmt]) -> set[str]:
    """The names of the functions defined in a body that call themselves, or others there that call them."""
    functions = [n for n in walk_scope(body) if isinstance(n, ast.FunctionDef)]
    names = {f.name for f in functions}
    calls = {f.name: names.intersection(_called(f)) for f in functions}
    found = set()
    for name in names:
        reached = list(calls[name])
        for other in reached:
            reached += [more for more in calls[other] if more not in reached]
        if name in reached:
            found.add(name)
    return found


def _called(function: ast.FunctionDef) -> Iterator[str]:
    """The names that a function calls."""
    for n in ast.walk(function):
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name):
            yield n.func.id
