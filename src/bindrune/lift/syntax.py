"""The syntax behind a code object, and small pieces of syntax to build with.

Source text is found by `inspect`; where it does not tell which function a code object comes from (two lambdas alike on
one line, text that has changed), there is none.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import linecache
import os
import sys
import textwrap
import types
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..core.errors import REWRITTEN
from ..core.threads import Turns

__all__ = [
    "MARK",
    "assign",
    "assigned",
    "call",
    "define",
    "delayed",
    "load",
    "loads",
    "mangled",
    "names_bound",
    "parameters",
    "source_of",
    "tuple_of",
    "walk_scope",
]

MARK = REWRITTEN
"""Ends the names that rewriting makes."""

_SCOPES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Lambda,
    ast.ClassDef,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)

# ------------------------------------------------------------------------------------------------------ finding syntax


_parsed = Turns()(ast.parse)
"""`ast.parse`, by one thread at a time: CPython 3.11 counts in one place how deep all of them are."""


def _lines(code: types.CodeType) -> tuple[list[str], int]:
    """The lines of source behind a code object, and the number of the first.

    Raises:
        OSError: there are none.
    """
    if not (os.path.exists(code.co_filename) or code.co_filename in linecache.cache):
        return inspect.getsourcelines(code)
    # For a code object `inspect` would look at every module there is for the one whose file it is from.  The lines of
    # a file that is there do not depend on that, and for a function of no module it does not look.
    cells = tuple(types.CellType() for _ in code.co_freevars)
    return inspect.getsourcelines(types.FunctionType(code, {}, closure=cells))


def source_of(code: types.CodeType) -> ast.FunctionDef | ast.Lambda | None:
    """The syntax of the function that was compiled to this code; None where it cannot be told."""
    try:
        lines, first = _lines(code)
        tree = _parsed(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return _lambda_in_part(code)
    ast.increment_lineno(tree, first - 1)
    if code.co_name == "<lambda>":
        return _matching_lambda(tree, code)
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == code.co_name]
    owner = _owner(code.co_qualname)
    return None if len(found) != 1 else mangled(found[0], owner) if owner else found[0]


def _lambda_in_part(code: types.CodeType) -> ast.Lambda | None:
    """A lambda whose line is no statement by itself: try what begins at the word and ends at each bracket."""
    if code.co_name != "<lambda>":
        return None
    try:
        lines, first = _lines(code)
    except (OSError, TypeError):
        return None
    text = "".join(lines)
    found: list[ast.Lambda] = []
    start = text.find("lambda")
    while start >= 0:
        for stop in range(len(text), start, -1):
            try:
                tree = _parsed(text[start:stop].strip(), mode="eval")
            except SyntaxError:
                continue
            ast.increment_lineno(tree, first - 1)
            found += [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and n.col_offset == 0][:1]
            break
        start = text.find("lambda", start + 1)
    return _matching(found, code)


def _matching_lambda(tree: ast.AST, code: types.CodeType) -> ast.Lambda | None:
    """The lambda in some source that compiles to this code, if it is the only one."""
    return _matching([n for n in ast.walk(tree) if isinstance(n, ast.Lambda)], code)


def _matching(lambdas: Sequence[ast.Lambda], code: types.CodeType) -> ast.Lambda | None:
    found = [n for n in lambdas if _arguments(n) == _names(code)]
    if len(found) > 1:
        found = [n for n in found if _compiles_to(n, code)]
    return found[0] if len(found) == 1 else None


def _arguments(node: ast.Lambda) -> tuple[str, ...]:
    a = node.args
    return tuple(x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs))


def _names(code: types.CodeType) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _compiles_to(node: ast.Lambda, code: types.CodeType) -> bool:
    compiled = compile(ast.Expression(node), code.co_filename, "eval")
    inner = next(c for c in compiled.co_consts if isinstance(c, types.CodeType))
    if _numbers(inner) != _numbers(code) or {*inner.co_names} != {*code.co_names, *code.co_freevars}:
        return False
    return bool(code.co_freevars) or inner.co_code == code.co_code


def _numbers(code: types.CodeType) -> list[Any]:
    """The constants of some code, without functions inside."""
    return [(type(c), c) for c in code.co_consts if not isinstance(c, types.CodeType)]


def _owner(qualname: str) -> str:
    """The class in whose body a function stands, by its qualified name; empty for none."""
    parts = qualname.split(".")
    classes = [a for a, b in itertools.pairwise(parts) if "<locals>" not in (a, b)]
    return classes[-1] if classes else ""


class _Mangling(ast.NodeTransformer):
    """Gives private names the form that the compiler gives them inside a class."""

    def __init__(self, owner: str) -> None:
        self.prefix = f"_{owner.lstrip('_')}"

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for field in ("attr", "id", "arg", "name"):
            name = getattr(node, field, None)
            if isinstance(name, str) and name.startswith("__") and not name.endswith("__"):
                setattr(node, field, self.prefix + name)
        return node if isinstance(node, ast.ClassDef) else super().generic_visit(node)


def mangled(node: Any, owner: str) -> Any:
    """Syntax from the body of a class, to be compiled outside of it."""
    return _Mangling(owner).visit(node) if owner.strip("_") else node


# -------------------------------------------------------------------------------------------------- asking about names


def loads(nodes: Sequence[ast.AST]) -> Counter[str]:
    """How often each name is read in some code, nested functions included."""
    found = (n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    counted = Counter(n.id for n in found)
    augmented = (n.target for node in nodes for n in ast.walk(node) if isinstance(n, ast.AugAssign))
    counted.update(t.id for t in augmented if isinstance(t, ast.Name))
    return counted


def walk_scope(nodes: Iterable[ast.AST]) -> list[ast.AST]:
    """All nodes of some statements except those of nested functions and classes."""
    found: list[ast.AST] = []
    rest: list[ast.AST] = list(nodes)
    while rest:
        node = rest.pop()
        found.append(node)
        if not isinstance(node, _SCOPES):
            rest += ast.iter_child_nodes(node)
    return found


def names_bound(node: ast.AST) -> list[str]:
    """The names that an expression binds (``:=``) in the function around it."""
    return sorted({n.target.id for n in ast.walk(node) if isinstance(n, ast.NamedExpr)})


def assigned(nodes: Sequence[ast.stmt]) -> list[str]:
    """The variables that some statements assign, also through the procedures they have become."""
    names: set[str] = set()
    for node in walk_scope(nodes):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef) and node.name.endswith(MARK):
            names.update(n for s in node.body if isinstance(s, ast.Nonlocal) for n in s.names)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            names.update(names_bound(node))
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
    return sorted(names)


# ----------------------------------------------------------------------------------------------------- building syntax


def define(name: str, arguments: ast.arguments, body: list[ast.stmt]) -> ast.FunctionDef:
    """``def name(arguments): body``."""
    since_3_12: dict[str, Any] = {"type_params": []} if sys.version_info >= (3, 12) else {}
    return ast.FunctionDef(name, arguments, body, [], None, None, **since_3_12)


def parameters(*names: str) -> ast.arguments:
    """Parameters of these names."""
    return ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])


def call(name: str, *arguments: ast.expr) -> ast.Call:
    """A call of a function of `lift.lanes`, under a name no source text can write."""
    return ast.Call(ast.Name(f"{name}()", ast.Load()), list(arguments), [])


def load(name: str) -> ast.Name:
    """A name that is read."""
    return ast.Name(name, ast.Load())


def assign(name: str, value: ast.expr) -> ast.stmt:
    """``name = value``."""
    return ast.Assign([ast.Name(name, ast.Store())], value)


def tuple_of(names: Sequence[str]) -> ast.expr:
    """A tuple of strings."""
    return ast.Tuple([ast.Constant(n) for n in names], ast.Load())


def delayed(body: ast.expr, *names: str) -> ast.Lambda:
    """``lambda names: body``."""
    return ast.Lambda(parameters(*names), body)
