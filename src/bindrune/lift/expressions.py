"""Rewriting expressions: what decides, what binds, what collects, and what formats.

``and``, ``or``, ``not``, ``in``, conditional expressions and chained comparisons become calls with their operands
delayed.
``name := value`` becomes a call of a procedure that binds the name, because operands that are delayed cannot.
List comprehensions, and generators that `sum`, `any` or `all` go through, become functions with loops, which are
rewritten like any others.  Texts that are only shown (`print`, messages of errors) stay open until they are.

Left as they are: comprehensions inside lambdas and inside comprehensions that are no lists, for their variables cannot
be reached from a function that stands before the statement.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING

from .syntax import assign, call, define, delayed, load, names_bound, parameters

if TYPE_CHECKING:
    from .rewrite import Rewriter

__all__ = ["MUTATORS", "Expressions", "opened"]

MUTATORS = frozenset(
    "append extend insert pop popitem remove clear update setdefault add discard appendleft popleft extendleft rotate "
    "sort reverse move_to_end".split()
)
"""Methods that change containers."""
_GOING_THROUGH = frozenset({"sum", "any", "all"})


class Expressions(ast.NodeTransformer):
    """Rewrites the expressions of one statement; what must stand before the statement goes to the rewriter."""

    def __init__(self, rewriter: Rewriter, is_reachable: bool = True) -> None:
        self.rewriter = rewriter
        self.is_reachable = is_reachable
        """Whether what stands before the statement sees the variables here."""

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        return self.rewriter.inner().expression_of(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        name = "both" if isinstance(node.op, ast.And) else "either"
        return ast.copy_location(call(name, *map(delayed, node.values)), node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        return ast.copy_location(call("none", node.operand), node) if isinstance(node.op, ast.Not) else node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        return ast.copy_location(call("choose", node.test, delayed(node.body), delayed(node.orelse)), node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        if len(node.ops) == 1:
            return ast.copy_location(_comparison(node.left, node.ops[0], node.comparators[0]), node)
        links = [delayed(_comparison(load("a"), op, load("b")), "a", "b") for op in node.ops]
        values = [delayed(v) for v in (node.left, *node.comparators)]
        pair = ast.Tuple([*links, *values], ast.Load())
        return ast.copy_location(call("chain", pair), node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and node.func.id == "print":
            return self._print(node)
        if self._goes_through(node):
            return self._through(node)
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args and self.rewriter.first:
            # Said, because it may come to stand in a function that does not have this argument.
            node.args = [ast.copy_location(load(n), node) for n in ("__class__", self.rewriter.first)]
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            node.func = ast.copy_location(call("changing", node.func.value, ast.Constant(node.func.attr)), node.func)
        return node

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        self.generic_visit(node)
        if not self.rewriter.has_statements:
            return node
        return ast.copy_location(ast.Call(self.rewriter.binder(node.target.id), [node.value], []), node)

    # ---------------------------------------------------------------------------------------------- comprehensions

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        if not self._may_stand_before(node):
            return self._unreachable(node)
        found = self.rewriter.fresh("collected")
        add = ast.Expr(call("collect", load(found), node.elt))
        return self._loop(node, assign(found, ast.List([], ast.Load())), add, load(found))

    def visit_SetComp(self, node: ast.SetComp) -> ast.expr:
        return self._unreachable(node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.expr:
        return self._unreachable(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        return self._unreachable(node)

    def _unreachable(self, node: ast.expr) -> ast.expr:
        """Rewrite what is inside."""
        inside = Expressions(self.rewriter, False)
        inside.generic_visit(node)
        return node

    def _may_stand_before(self, node: ast.ListComp | ast.GeneratorExp) -> bool:
        return self.is_reachable and self.rewriter.has_statements and not any(g.is_async for g in node.generators)

    def _goes_through(self, node: ast.Call) -> bool:
        """Whether a call is one of `sum`, `any` or `all` with a generator."""
        if not isinstance(node.func, ast.Name) or node.func.id not in _GOING_THROUGH or len(node.args) != 1:
            return False
        given = node.args[0]
        return isinstance(given, ast.GeneratorExp) and not node.keywords and self._may_stand_before(given)

    def _through(self, node: ast.Call) -> ast.expr:
        """`sum`, `any` or `all` as a loop, unless the name stands for something else."""
        (given,) = node.args
        assert isinstance(given, ast.GeneratorExp)
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        plain = copy.deepcopy(node)
        plain.args = [self._unreachable(plain.args[0])]
        total = self.rewriter.fresh("total")
        if name == "sum":
            start: ast.expr = ast.Constant(0)
            step: ast.stmt = assign(total, ast.BinOp(load(total), ast.Add(), given.elt))
        else:
            start = ast.Constant(name == "all")
            test = given.elt if name == "any" else ast.UnaryOp(ast.Not(), given.elt)
            step = ast.If(test, [ast.Return(ast.Constant(name == "any"))], [])
        staged = self._loop(given, assign(total, start), step, load(total))
        made = call("through", ast.Constant(name), load(name), delayed(staged), delayed(plain))
        return ast.copy_location(made, node)

    def _loop(
        self, node: ast.ListComp | ast.GeneratorExp, start: ast.stmt, step: ast.stmt, result: ast.expr
    ) -> ast.expr:
        """A call of a function that goes through what a comprehension goes through."""
        bound = names_bound(node)
        body, items = step, self.rewriter.fresh("items")
        first = node.generators[0].iter
        for i, generator in enumerate(reversed(node.generators)):
            for test in reversed(generator.ifs):
                body = ast.If(test, [body], [])
            iterable = load(items) if i == len(node.generators) - 1 else generator.iter
            body = ast.For(generator.target, iterable, [body], [])
        shared: list[ast.stmt] = []
        for names, declare in ((self.rewriter.globals, ast.Global), (None, ast.Nonlocal)):
            mine = [n for n in bound if (n in self.rewriter.globals) == (names is not None)]
            shared += [declare(mine)] if mine else []
        name = self.rewriter.fresh("comprehension")
        function = define(name, parameters(items), [*shared, start, body, ast.Return(result)])
        for statement in ast.walk(function):
            if isinstance(statement, (ast.stmt, ast.expr)) and not hasattr(statement, "lineno"):
                ast.copy_location(statement, node)
        self.rewriter.before.append(self.rewriter.inner().function(function, in_circle=False))
        return ast.copy_location(ast.Call(load(name), [self.rewriter.items(first)], []), node)

    # ------------------------------------------------------------------------------------------------------- texts

    def _print(self, node: ast.Call) -> ast.expr:
        given = [opened(a, self) for a in node.args]
        keywords = [ast.keyword(k.arg, self.visit(k.value)) for k in node.keywords]
        made = ast.Call(load("printing()"), [node.func, *given], keywords)
        return ast.copy_location(made, node)


def opened(node: ast.expr, expressions: Expressions) -> ast.expr:
    """An expression that is shown: where it formats values, they are formatted when it is shown."""
    holes: list[ast.expr] = []
    made = _template(node, holes)
    if made is None or not holes:
        found: ast.expr = expressions.visit(node)
        return found
    names = [f"value_{i}" for i in range(len(holes))]
    return ast.copy_location(call("text", delayed(made, *names), *map(expressions.visit, holes)), node)


def _hole(node: ast.expr, holes: list[ast.expr]) -> ast.expr:
    holes.append(node)
    return ast.copy_location(load(f"value_{len(holes) - 1}"), node)


def _template(node: ast.expr, holes: list[ast.expr]) -> ast.expr | None:
    """What formats, with names in place of the values; None for an expression that does not."""
    if isinstance(node, ast.JoinedStr):
        return _joined(node, holes)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and _is_text(node.left):
        given = node.right
        values = [_hole(v, holes) for v in (given.elts if isinstance(given, ast.Tuple) else [given])]
        right = ast.Tuple(values, ast.Load()) if isinstance(given, ast.Tuple) else values[0]
        return ast.copy_location(ast.BinOp(node.left, node.op, right), node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        if not _is_text(node.func.value) or any(isinstance(a, ast.Starred) for a in node.args):
            return None
        keywords = [ast.keyword(k.arg, _hole(k.value, holes)) for k in node.keywords]
        return ast.copy_location(ast.Call(node.func, [_hole(a, holes) for a in node.args], keywords), node)
    return None


def _joined(node: ast.JoinedStr, holes: list[ast.expr]) -> ast.JoinedStr:
    parts: list[ast.expr] = []
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            spec = part.format_spec
            value = _hole(part.value, holes)
            chosen = _joined(spec, holes) if isinstance(spec, ast.JoinedStr) else spec
            part = ast.copy_location(ast.FormattedValue(value, part.conversion, chosen), part)
        parts.append(part)
    return ast.copy_location(ast.JoinedStr(parts), node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.expr:
    if not isinstance(op, (ast.In, ast.NotIn)):
        return ast.Compare(left, [op], [right])
    found = call("among", left, right)
    return found if isinstance(op, ast.In) else call("none", found)
