"""Rewriting Python's control flow into calls that decide when they run.

Python asks a condition for one boolean, and under `vmap` there is one for each lane.  Where a function's source is at
hand its conditions become calls (`lift.lanes`): an ordinary boolean takes the ordinary path, a condition that differs
between lanes runs both sides, each for its lanes.

``if`` and ``while`` become calls with their bodies as nested functions that share the variables (``nonlocal``).
``break``, ``continue`` and ``return`` inside them become flags, and what follows them is guarded by the flags.
``and``, ``or``, ``not``, conditional expressions and chained comparisons become calls with their operands delayed.
Stores into items and attributes, and calls of methods that change containers, go through calls that know which lanes
are running.

Refused, and left as they are: generators, coroutines, functions with ``global`` declarations, and code without source.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import types
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["rewritten"]

_codes: WeakKeyDictionary[types.CodeType, types.CodeType | None] = WeakKeyDictionary()

_CONTROL = (ast.If, ast.While, ast.IfExp, ast.BoolOp, ast.Assert)
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
_MARK = "_of_lanes"
"""Ends the names that are made here."""
_RETURNED, _RESULT = f"returned{_MARK}", f"result{_MARK}"
_MUTATORS = frozenset("append extend insert pop popitem remove clear update setdefault add discard appendleft".split())


def rewritten(code: types.CodeType) -> types.CodeType | None:
    """The code of the rewritten function, with the same free variables; None where there is nothing to rewrite."""
    if code not in _codes:
        _codes[code] = _rewrite(code)
    return _codes[code]


def _rewrite(code: types.CodeType) -> types.CodeType | None:
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return None
    node = _source(code)
    if node is None or not any(_is_control(n) for n in ast.walk(node)):
        return None
    if any(isinstance(n, (ast.Global, ast.Await, ast.Yield, ast.YieldFrom)) for n in ast.walk(node)):
        return None
    node = _Rewriter().function(node)
    # Free variables are parameters of a function around it, so that the compiler sees where they are bound.
    parameters = ast.arguments([], [ast.arg(n) for n in code.co_freevars], None, [], [], None, [])
    inner: list[ast.stmt] = [node] if isinstance(node, ast.FunctionDef) else [ast.Return(node)]
    module = ast.fix_missing_locations(ast.Module([_define("around", parameters, inner)], []))
    compiled = compile(module, code.co_filename, "exec")
    around = next(c for c in compiled.co_consts if isinstance(c, types.CodeType))
    return next(c for c in around.co_consts if isinstance(c, types.CodeType) and c.co_name == code.co_name)


def _is_control(node: ast.AST) -> bool:
    return isinstance(node, _CONTROL) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def _source(code: types.CodeType) -> ast.FunctionDef | ast.Lambda | None:
    """The syntax of the function that was compiled to this code; None where it cannot be told."""
    try:
        lines, first = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return _lambda_in_part(code)
    ast.increment_lineno(tree, first - 1)
    if code.co_name == "<lambda>":
        return _matching_lambda(tree, code)
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == code.co_name]
    return found[0] if len(found) == 1 else None


def _lambda_in_part(code: types.CodeType) -> ast.Lambda | None:
    """A lambda whose line is no statement by itself: try what begins at the word and ends at each bracket."""
    if code.co_name != "<lambda>":
        return None
    try:
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError):
        return None
    text = "".join(lines)
    start = text.find("lambda")
    while start >= 0:
        for stop in range(len(text), start, -1):
            try:
                tree = ast.parse(text[start:stop].strip(), mode="eval")
            except SyntaxError:
                continue
            ast.increment_lineno(tree, first - 1)
            found = _matching_lambda(tree, code)
            if found is not None:
                return found
        start = text.find("lambda", start + 1)
    return None


def _matching_lambda(tree: ast.AST, code: types.CodeType) -> ast.Lambda | None:
    """The lambda in some source that compiles to this code, if it is the only one."""
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and _arguments(n) == _names(code)]
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
    return inner.co_consts == code.co_consts and {*inner.co_names} == {*code.co_names, *code.co_freevars}


# --------------------------------------------------------------------------------------------------------- the rewriter


def _define(name: str, arguments: ast.arguments, body: list[ast.stmt]) -> ast.FunctionDef:
    since_3_12: dict[str, Any] = {"type_params": []} if sys.version_info >= (3, 12) else {}
    return ast.FunctionDef(name, arguments, body, [], None, None, **since_3_12)


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    """A call of a function of `lift.lanes`, under a name no source text can write."""
    return ast.Call(ast.Name(f"{name}()", ast.Load()), list(arguments), [])


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _assign(name: str, value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _tuple_of(names: list[str]) -> ast.expr:
    return ast.Tuple([ast.Constant(n) for n in names], ast.Load())


def _delayed(body: ast.expr) -> ast.Lambda:
    return ast.Lambda(ast.arguments([], [], None, [], [], None, []), body)


def _procedure(name: str, body: list[ast.stmt], names: list[str]) -> ast.FunctionDef:
    """A nested function without arguments that shares the variables it assigns."""
    shared: list[ast.stmt] = [ast.Nonlocal(names)] if names else []
    return _define(name, ast.arguments([], [], None, [], [], None, []), [*shared, *body])


def _walk_scope(nodes: list[ast.stmt]) -> list[ast.AST]:
    """All nodes of some statements except those of nested functions and classes."""
    found: list[ast.AST] = []
    rest: list[ast.AST] = list(nodes)
    while rest:
        node = rest.pop()
        found.append(node)
        if not isinstance(node, _SCOPES):
            rest += ast.iter_child_nodes(node)
    return found


def _assigned(nodes: list[ast.stmt]) -> list[str]:
    """The variables that some statements assign, also through the procedures they have become."""
    names: set[str] = set()
    for node in _walk_scope(nodes):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef) and node.name.endswith(_MARK):
            shared = node.body[0]
            names.update(shared.names if isinstance(shared, ast.Nonlocal) else ())
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
    return sorted(names)


class _Flags:
    """The flags in force: that the function has returned, that the loop is broken or its step is over."""

    def __init__(self, returned: str | None = None, broken: str | None = None, continued: str | None = None) -> None:
        self.returned = returned
        self.broken = broken
        self.continued = continued

    def names(self) -> list[str]:
        return [n for n in (self.returned, self.broken, self.continued) if n]


class _Rewriter:
    """Rewrites one function, and the functions inside it each by a rewriter of its own."""

    def __init__(self) -> None:
        self.count = 0

    def fresh(self, what: str) -> str:
        self.count += 1
        return f"{what}_{self.count}{_MARK}"

    def function(self, node: ast.FunctionDef | ast.Lambda) -> ast.FunctionDef | ast.Lambda:
        """The function rewritten."""
        if isinstance(node, ast.Lambda):
            return ast.copy_location(ast.Lambda(node.args, self.expression(node.body)), node)
        conditional = [
            n for s in node.body if not isinstance(s, ast.Return) for n in _walk_scope([s]) if isinstance(n, ast.Return)
        ]
        flags = _Flags(returned=_RETURNED) if conditional else _Flags()
        body = self.block(node.body, flags)
        if conditional:
            start = [
                _assign(_RETURNED, ast.Constant(False)),
                _assign(_RESULT, _call("nothing")),
            ]
            body = [*start, *body, ast.Return(_call("result", _load(_RESULT)))]
        # Variables that only nested functions assign must still be variables of this one.
        declared = {n for s in _walk_scope(node.body) if isinstance(s, ast.Nonlocal) for n in s.names}
        names = [n for n in _assigned(body) if n not in declared]
        bindings: list[ast.stmt] = [ast.If(ast.Constant(False), [_assign(n, ast.Constant(None)) for n in names], [])]
        return ast.copy_location(_define(node.name, node.args, [*(bindings if names else []), *body]), node)

    # ------------------------------------------------------------------------------------------------- statements

    def block(self, nodes: list[ast.stmt], flags: _Flags) -> list[ast.stmt]:
        """Statements rewritten; what follows one that may set a flag is guarded by the flags."""
        done: list[ast.stmt] = []
        for i, node in enumerate(nodes):
            done += [ast.copy_location(s, node) for s in self.statement(node, flags)]
            rest = nodes[i + 1 :]
            raised = self._may_leave(node, flags)
            if raised and rest:
                if not isinstance(node, (ast.Return, ast.Break, ast.Continue)):
                    free = _call("none", *(_load(n) for n in flags.names()))
                    done += self._branch(free, self.block(rest, flags), [], node)
                return done
        return done or [ast.Pass()]

    def _may_leave(self, node: ast.stmt, flags: _Flags) -> bool:
        """Whether a statement may end the block it stands in."""
        inside = _walk_scope([node])
        if flags.returned and any(isinstance(n, ast.Return) for n in inside):
            return True
        if not flags.broken and not flags.continued:
            return False
        loops = {id(n) for loop in inside if isinstance(loop, (ast.For, ast.While)) for n in _walk_scope(loop.body)}
        return any(isinstance(n, (ast.Break, ast.Continue)) and id(n) not in loops for n in inside)

    def statement(self, node: ast.stmt, flags: _Flags) -> list[ast.stmt]:
        if isinstance(node, ast.If):
            test = self.expression(node.test)
            return self._branch(test, self.block(node.body, flags), self.block(node.orelse, flags), node)
        if isinstance(node, ast.While):
            return self._while(node, flags)
        if isinstance(node, ast.For):
            return self._for(node, flags)
        if isinstance(node, ast.Return) and flags.returned:
            value = self.expression(node.value) if node.value else ast.Constant(None)
            return [_assign(_RESULT, value), _assign(flags.returned, ast.Constant(True))]
        if isinstance(node, ast.Break) and flags.broken:
            return [_assign(flags.broken, ast.Constant(True))]
        if isinstance(node, ast.Continue) and flags.continued:
            return [_assign(flags.continued, ast.Constant(True))]
        if isinstance(node, ast.Assert):
            return [ast.Assert(_call("every", self.expression(node.test)), node.msg)]
        if isinstance(node, ast.FunctionDef):
            inner = _Rewriter().function(node)
            assert isinstance(inner, ast.FunctionDef)
            inner.decorator_list = node.decorator_list
            return [inner]
        if isinstance(node, ast.Assign):
            return self._assign_value(node)
        if isinstance(node, ast.AugAssign):
            return self._augment(node)
        if isinstance(node, ast.Delete):
            return self._delete(node)
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, name, self.block(value, flags))
            elif isinstance(value, list):
                setattr(node, name, [self._part(v, flags) for v in value])
            elif isinstance(value, ast.expr):
                setattr(node, name, self.expression(value))
        return [node]

    def _part(self, value: object, flags: _Flags) -> object:
        """A handler, a case or an item of a `with`: statements inside statements."""
        if isinstance(value, ast.expr):
            return self.expression(value)
        if isinstance(value, (ast.ExceptHandler, ast.match_case)):
            value.body = self.block(value.body, flags)
        elif isinstance(value, ast.withitem):
            value.context_expr = self.expression(value.context_expr)
        return value

    def _branch(self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt], node: ast.stmt) -> list[ast.stmt]:
        names = _assigned([*body, *orelse])
        yes, no = self.fresh("then"), self.fresh("else")
        call = _call("branch", test, _load(yes), _load(no), _tuple_of(names))
        made: list[ast.stmt] = [
            _procedure(yes, body, names),
            _procedure(no, orelse or [ast.Pass()], names if orelse else []),
            ast.Expr(call),
        ]
        return [ast.copy_location(s, node) for s in made]

    def _while(self, node: ast.While, flags: _Flags) -> list[ast.stmt]:
        broken, continued = self.fresh("broken"), self.fresh("continued")
        inner = _Flags(flags.returned, broken, continued)
        body = [_assign(continued, ast.Constant(False)), *self.block(node.body, inner)]
        leave = [_load(n) for n in (broken, flags.returned) if n]
        test = _call("both", _delayed(_call("none", *leave)), _delayed(self.expression(node.test)))
        names = _assigned(body)
        check, step = self.fresh("test"), self.fresh("body")
        done: list[ast.stmt] = [
            _assign(broken, ast.Constant(False)),
            _assign(continued, ast.Constant(False)),
            _procedure(check, [ast.Return(test)], []),
            _procedure(step, body, names),
            ast.Expr(_call("loop", _load(check), _load(step), _tuple_of(names))),
        ]
        if node.orelse:
            done += self._branch(_call("none", *leave), self.block(node.orelse, flags), [], node)
        return done

    def _for(self, node: ast.For, flags: _Flags) -> list[ast.stmt]:
        broken, continued = self.fresh("broken"), self.fresh("continued")
        inner = _Flags(flags.returned, broken, continued)
        leaves = any(self._may_leave(s, inner) for s in node.body)
        body = self.block(node.body, inner)
        if leaves:
            gone = [_load(n) for n in (broken, flags.returned) if n]
            stop = ast.If(_call("all_lanes", *gone), [ast.Break()], [])
            guarded = self._branch(_call("none", *gone), body, [], node)
            body = [stop, _assign(continued, ast.Constant(False)), *guarded]
        loop = ast.For(node.target, self.expression(node.iter), body, [])
        start: list[ast.stmt] = (
            [_assign(broken, ast.Constant(False)), _assign(continued, ast.Constant(False))] if leaves else []
        )
        done: list[ast.stmt] = [*start, loop]
        if node.orelse:
            rest = self.block(node.orelse, flags)
            done += self._branch(_call("none", _load(broken)), rest, [], node) if leaves else rest
        return done

    def _assign_value(self, node: ast.Assign) -> list[ast.stmt]:
        if all(isinstance(t, ast.Name) for t in node.targets):
            return [ast.Assign(node.targets, self.expression(node.value))]
        value = self.fresh("value")
        done: list[ast.stmt] = [_assign(value, self.expression(node.value))]
        for target in node.targets:
            done += self._store(target, _load(value))
        return done

    def _store(self, target: ast.expr, value: ast.expr) -> list[ast.stmt]:
        """Stores into items and attributes go through calls that know which lanes are running."""
        if isinstance(target, ast.Subscript):
            place = self.expression(target.value), self.expression(target.slice)
            return [ast.Expr(_call("set_item", *place, value))]
        if isinstance(target, ast.Attribute):
            place = self.expression(target.value), ast.Constant(target.attr)
            return [ast.Expr(_call("set_attribute", *place, value))]
        if isinstance(target, (ast.Tuple, ast.List)) and not any(isinstance(t, ast.Starred) for t in target.elts):
            parts = [self.fresh("part") for _ in target.elts]
            unpacked = ast.Tuple([ast.Name(p, ast.Store()) for p in parts], ast.Store())
            stores = [s for t, p in zip(target.elts, parts, strict=True) for s in self._store(t, _load(p))]
            return [ast.Assign([unpacked], value), *stores]
        return [ast.Assign([target], value)]

    def _augment(self, node: ast.AugAssign) -> list[ast.stmt]:
        """``target op= value``: the place is evaluated once, read, and stored to."""
        target = node.target
        op = ast.Constant(type(node.op).__name__)
        value = _delayed(self.expression(node.value))
        if isinstance(target, ast.Name):
            return [_assign(target.id, _call("augmented", op, _load(target.id), value))]
        whole, key = self.fresh("whole"), self.fresh("key")
        item = isinstance(target, ast.Subscript)
        chosen = self.expression(target.slice) if isinstance(target, ast.Subscript) else ast.Constant(target.attr)
        before = _call("get_item" if item else "get_attribute", _load(whole), _load(key))
        after = _call("augmented", op, before, value)
        return [
            _assign(whole, self.expression(target.value)),
            _assign(key, chosen),
            ast.Expr(_call("set_item" if item else "set_attribute", _load(whole), _load(key), after)),
        ]

    def _delete(self, node: ast.Delete) -> list[ast.stmt]:
        done: list[ast.stmt] = []
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                method = _call("changing", self.expression(target.value), ast.Constant("__delitem__"))
                done.append(ast.Expr(ast.Call(method, [self.expression(target.slice)], [])))
            else:
                done.append(ast.Delete([target]))
        return done

    # ------------------------------------------------------------------------------------------------ expressions

    def expression(self, node: ast.expr) -> ast.expr:
        """An expression rewritten; one that binds names as it goes is left as it is."""
        if any(isinstance(n, ast.NamedExpr) for n in ast.walk(node)):
            return node
        found = _Expressions(self).visit(node)
        assert isinstance(found, ast.expr)
        return found


class _Expressions(ast.NodeTransformer):
    def __init__(self, rewriter: _Rewriter) -> None:
        self.rewriter = rewriter

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        made = _Rewriter().function(node)
        assert isinstance(made, ast.Lambda)
        return made

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        name = "both" if isinstance(node.op, ast.And) else "either"
        return ast.copy_location(_call(name, *map(_delayed, node.values)), node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        return ast.copy_location(_call("none", node.operand), node) if isinstance(node.op, ast.Not) else node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        return ast.copy_location(_call("choose", node.test, _delayed(node.body), _delayed(node.orelse)), node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        if len(node.ops) == 1:
            return node
        links = [
            ast.Lambda(
                ast.arguments([], [ast.arg("a"), ast.arg("b")], None, [], [], None, []),
                ast.Compare(_load("a"), [op], [_load("b")]),
            )
            for op in node.ops
        ]
        values = [_delayed(v) for v in (node.left, *node.comparators)]
        pair = ast.Tuple([*links, *values], ast.Load())
        return ast.copy_location(_call("chain", pair), node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
            node.func = ast.copy_location(_call("changing", node.func.value, ast.Constant(node.func.attr)), node.func)
        return node
