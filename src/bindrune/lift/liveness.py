"""Which variables are live after a statement: those that some way from there reads before it assigns them.

A staged statement hands on only what is live; the rest of what it assigns is its own.  So one loop's ``row = A[i]`` has
nothing to do with the next one's, and need not be something that a graph can carry.

This is the backward analysis of Aho, Sethi and Ullman (Compilers, 10.6) over the statements themselves: ways through
them are joined where control flow joins, and loops repeat until nothing is added.  What may be read at a time that
nobody sees is always live: what functions inside the function read, for they may be called later, and every variable
of one that asks for its variables by name.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from .syntax import loads

__all__ = ["Liveness", "Names"]

Names = frozenset[str]

_NONE: Names = frozenset()
_BY_NAME = frozenset({"locals", "vars", "dir", "eval", "exec"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.GeneratorExp)


class _Ways(NamedTuple):
    """What is live where control goes that leaves a block: by ``break``, by ``continue``, by an exception."""

    broken: Names = _NONE
    continued: Names = _NONE
    raised: Names = _NONE


class Liveness:
    """What is live after each statement of a function, and at the ends of its loops' bodies.

    Attributes:
        after: by identity of a statement, what is live when it is over, an ``else`` of a loop not counted to it.
        repeated: by identity of a loop, what is live when one of its steps is over.
    """

    def __init__(self, body: Sequence[ast.stmt]) -> None:
        self.after: dict[int, Names] = {}
        self.repeated: dict[int, Names] = {}
        read = loads(body)
        self._later = _read_by_functions(body)
        self._always = frozenset(read) if _BY_NAME & read.keys() else _NONE
        self._block(body, _NONE, _Ways())

    def _block(self, body: Sequence[ast.stmt], out: Names, ways: _Ways) -> Names:
        """What is live before some statements, of what is live after them."""
        for statement in reversed(body):
            out = self._statement(statement, out, ways) | ways.raised
        return out

    def _over(self, node: ast.stmt, out: Names) -> None:
        """Note what is live when a statement is over; functions inside it are its own."""
        here = _read_by_functions([node])
        later = frozenset(n for n, count in self._later.items() if count > here[n])
        self.after[id(node)] = out | later | self._always

    def _statement(self, node: ast.stmt, out: Names, ways: _Ways) -> Names:
        if isinstance(node, (ast.For, ast.While)):
            return self._loop(node, out, ways)
        self._over(node, out)
        match node:
            case ast.If():
                sides = self._block(node.body, out, ways) | self._block(node.orelse, out, ways)
                return sides | _read([node.test])
            case ast.Match():
                cases = [self._block(c.body, out, ways) | _read([c.pattern, c.guard]) for c in node.cases]
                return out.union(*cases) | _read([node.subject])
            case ast.With():
                # An exception inside may end here.
                inside = self._block(node.body, out, ways._replace(raised=ways.raised | out))
                return inside | _read(node.items)
            case ast.Try() | ast.TryStar():
                return self._try(node, out, ways)
            case ast.Return() | ast.Raise():
                return _read([node])
            case ast.Break():
                return ways.broken
            case ast.Continue():
                return ways.continued
            case ast.Delete():
                return out | _names(node.targets, ast.Del) | _read([node])
            case ast.Assign():
                return out - _names(node.targets, ast.Store) | _read([node])
            case ast.AnnAssign() if node.value is not None:
                return out - _names([node.target], ast.Store) | _read([node])
            case ast.FunctionDef() | ast.ClassDef():
                return out - {node.name} | _read([node])
        return out | _read([node])

    def _loop(self, node: ast.For | ast.While, out: Names, ways: _Ways) -> Names:
        ended = self._block(node.orelse, out, ways)
        self._over(node, out | ended)
        if isinstance(node, ast.For):
            bound, found, first = _names([node.target], ast.Store), ended, _read([node.iter])
        else:
            bound, found, first = _NONE, ended | _read([node.test]), _NONE
        before = None
        while found != before:
            before = found
            found |= self._block(node.body, found, ways._replace(broken=out, continued=found)) - bound
        self.repeated[id(node)] = found
        return found | first

    def _try(self, node: ast.Try | ast.TryStar, out: Names, ways: _Ways) -> Names:
        """Ways lead from everywhere inside to the handlers, and from there to what stands at the end."""
        last = self._block(node.finalbody, out, ways) | _read(node.finalbody)
        around = _Ways(ways.broken | last, ways.continued | last, ways.raised | last)
        caught = [self._block(h.body, last, around) | _read([h.type]) for h in node.handlers]
        body = around._replace(raised=around.raised.union(*caught))
        return self._block(node.body, self._block(node.orelse, last, around), body)


def _read(nodes: Sequence[ast.AST | None]) -> Names:
    return frozenset(loads([n for n in nodes if n is not None]))


def _names(targets: Sequence[ast.expr], context: type[ast.expr_context]) -> Names:
    """The names among targets, or in tuples of them."""
    inside = (n for target in targets for n in ast.walk(target))
    return frozenset(n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, context))


def _read_by_functions(nodes: Sequence[ast.AST]) -> Counter[str]:
    """How often names are read by functions inside, once for each function around."""
    return loads([n for node in nodes for n in ast.walk(node) if isinstance(n, _FUNCTIONS)])
