"""Rewriting Python's control flow into calls that decide when they run.

Python asks a condition for one boolean, and under `vmap` there is one for each lane.  Where a function's source is at
hand its conditions become calls (`lift.lanes`): an ordinary boolean takes the ordinary path, a condition that differs
between lanes runs both sides, each for its lanes.

``if`` and ``while`` become calls with their bodies as nested functions that share the variables (``nonlocal``).
``break``, ``continue`` and ``return`` inside them become flags, and what follows them is guarded by the flags.
``and``, ``or``, ``not``, ``in``, conditional expressions and chained comparisons become calls with their operands
delayed.
Stores into items and attributes, and calls of methods that change containers, go through calls that know which lanes
are running.

Refused, and left as they are: generators, coroutines, and code without source.
"""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import types
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from .circles import circles, is_in_circle
from .expressions import MUTATORS, Expressions, opened
from .liveness import Liveness, Names
from .syntax import (
    MARK,
    assign,
    assigned,
    call,
    define,
    delayed,
    load,
    mangled,
    parameters,
    source_of,
    tuple_of,
    walk_scope,
)

__all__ = ["Rewriter", "rewritten"]

_codes: WeakKeyDictionary[types.CodeType, dict[bool, types.CodeType | None]] = WeakKeyDictionary()

_CONTROL = (
    ast.If, ast.While, ast.For, ast.IfExp, ast.BoolOp, ast.Assert, ast.Raise, ast.Match, ast.Attribute, ast.Subscript,
    ast.ListComp,
)  # fmt: skip
_RETURNED, _RESULT = f"returned{MARK}", f"result{MARK}"
_ITERATING = frozenset({"range", "enumerate", "zip", "reversed"})
_SHOWING = frozenset({"print", "sum", "any", "all"})
"""Builtins of which calls are rewritten."""


def _is_flag(name: str) -> bool:
    """Whether a name made here is read after the statement that assigns it."""
    return name.endswith(MARK) and name.startswith(("broken", "continued", "returned", "result"))


def rewritten(function: types.FunctionType) -> types.CodeType | None:
    """The code of the rewritten function, with the same free variables; None where there is nothing to rewrite."""
    code, in_circle = function.__code__, is_in_circle(function)
    known = _codes.setdefault(code, {})
    if in_circle not in known:
        known[in_circle] = _rewrite(code, in_circle)
    return known[in_circle]


def _rewrite(code: types.CodeType, in_circle: bool) -> types.CodeType | None:
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return None
    node = source_of(code)
    if node is None or not any(_is_control(n) for n in ast.walk(node)):
        return None
    # Free variables are parameters of a function around it, so that the compiler sees where they are bound.
    around = parameters(*code.co_freevars)
    inner: list[ast.stmt]
    if isinstance(node, ast.FunctionDef):
        node = Rewriter().function(node, in_circle)
        node.name = f"function{MARK}"  # a name of its own, so that a call of itself goes where it went
        inner = [node]
    else:
        inner = [ast.Return(Rewriter().expression_of(node))]
    module = ast.fix_missing_locations(ast.Module([define("around", around, inner)], []))
    compiled = compile(module, code.co_filename, "exec")
    outer = next(c for c in compiled.co_consts if isinstance(c, types.CodeType))
    name = node.name if isinstance(node, ast.FunctionDef) else code.co_name
    made = next(c for c in outer.co_consts if isinstance(c, types.CodeType) and c.co_name == name)
    return made.replace(co_name=code.co_name, co_qualname=code.co_qualname)


def _is_control(node: ast.AST) -> bool:
    if isinstance(node, (ast.Attribute, ast.Subscript)):
        return isinstance(node.ctx, ast.Store) or getattr(node, "attr", None) in MUTATORS
    if isinstance(node, ast.Compare):
        return len(node.ops) > 1 or isinstance(node.ops[0], (ast.In, ast.NotIn))
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _SHOWING
    return isinstance(node, _CONTROL) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def _first(arguments: ast.arguments) -> str:
    """The name of the first argument; empty where there is none."""
    return next((a.arg for a in (*arguments.posonlyargs, *arguments.args)), "")


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


class _Flags:
    """The flags in force: that the function has returned, that the loop is broken or its step is over."""

    def __init__(self, returned: str | None = None, broken: str | None = None, continued: str | None = None) -> None:
        self.returned = returned
        self.broken = broken
        self.continued = continued

    def names(self) -> list[str]:
        return [n for n in (self.returned, self.broken, self.continued) if n]


def _binds_names(target: ast.expr) -> bool:
    """Whether a target is a name, or made of names."""
    parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
    return all(isinstance(t, ast.Name) or (t is not target and _binds_names(t)) for t in parts)


class Rewriter:
    """Rewrites one function, and the functions inside it each by a rewriter of its own."""

    def __init__(self, numbers: Iterator[int] | None = None) -> None:
        self.numbers = numbers or itertools.count(1)
        self.before: list[ast.stmt] = []
        """What must stand before the statement that is being rewritten."""
        self.has_statements = True
        self.first = ""
        """The first argument of the function."""
        self.liveness = Liveness([])
        self.shared: set[str] = set()
        """The variables of enclosing functions that this one assigns."""
        self.globals: set[str] = set()
        """The global variables that it assigns."""
        self.circles: set[str] = set()
        """The functions inside that call themselves or each other in a circle."""

    def procedure(self, name: str, body: list[ast.stmt]) -> tuple[ast.FunctionDef, list[str]]:
        """A nested function without arguments that shares the variables it assigns, and those variables."""
        changed = assigned(body)
        names = [n for n in changed if n not in self.globals]
        shared: list[ast.stmt] = [ast.Nonlocal(names)] if names else []
        if len(names) < len(changed):
            shared.append(ast.Global([n for n in changed if n in self.globals]))
        return define(name, parameters(), [*shared, *body]), names

    def live(self, names: list[str], after: Names, own: str = "") -> ast.expr:
        """Those of some names that are live, or may be outside; a flag of its own is not."""
        return tuple_of([n for n in names if n in self.shared or n in after or (_is_flag(n) and n != own)])

    def fresh(self, what: str) -> str:
        return f"{what}_{next(self.numbers)}{MARK}"

    def inner(self) -> Rewriter:
        """A rewriter for a function inside."""
        return Rewriter(self.numbers)

    def binder(self, name: str) -> ast.expr:
        """A procedure that gives a variable the value of its argument, and that value."""
        value, bind = self.fresh("value"), self.fresh("bind")
        bound = assign(name, call("bound", delayed(load(name)), load(value)))
        procedure, _ = self.procedure(bind, [bound, ast.Return(load(name))])
        procedure.args = parameters(value)
        self.before.append(procedure)
        return load(bind)

    def expression_of(self, node: ast.Lambda) -> ast.Lambda:
        """The function of one expression, rewritten."""
        self.first, self.has_statements = _first(node.args), False
        return ast.copy_location(ast.Lambda(node.args, self.expression(node.body)), node)

    def function(self, node: ast.FunctionDef, in_circle: bool) -> ast.FunctionDef:
        """The function rewritten; one in a circle is called by functions that it calls."""
        self.first = _first(node.args)
        self.liveness = Liveness(node.body)
        self.shared = {n for s in walk_scope(node.body) if isinstance(s, ast.Nonlocal) for n in s.names}
        self.globals = {n for s in walk_scope(node.body) if isinstance(s, ast.Global) for n in s.names}
        self.circles = circles(node.body)
        recursive = in_circle or any(isinstance(n, ast.Call) and _is_name(n.func, node.name) for n in ast.walk(node))
        conditional = [
            n for s in node.body if not isinstance(s, ast.Return) for n in walk_scope([s]) if isinstance(n, ast.Return)
        ]
        flags = _Flags(returned=_RETURNED) if conditional else _Flags()
        body = self.block(node.body, flags)
        if conditional:
            start = [
                assign(_RETURNED, ast.Constant(False)),
                assign(_RESULT, call("nothing")),
            ]
            body = [*start, *body, ast.Return(call("result", load(_RESULT)))]
        # Variables that only nested functions assign must still be variables of this one.
        names = [n for n in assigned(body) if n not in self.shared | self.globals]
        bindings: list[ast.stmt] = [ast.If(ast.Constant(False), [assign(n, ast.Constant(None)) for n in names], [])]
        whole = [*(bindings if names else []), *body]
        if recursive:
            whole = self._through_call(node, whole)
        return ast.copy_location(define(node.name, node.args, whole), node)

    def _through_call(self, node: ast.FunctionDef, body: list[ast.stmt]) -> list[ast.stmt]:
        """The body of a function that calls itself, as a call that knows when it is one of its own."""
        inner = self.fresh(node.name)
        a = node.args
        absent: list[ast.expr | None] = [None] * len(a.kwonlyargs)
        arguments = ast.arguments(a.posonlyargs, a.args, a.vararg, a.kwonlyargs, absent, a.kwarg, [])
        given: list[ast.expr] = [load(x.arg) for x in (*a.posonlyargs, *a.args)]
        given += [ast.Starred(load(a.vararg.arg), ast.Load())] if a.vararg else []
        keywords = [ast.keyword(x.arg, load(x.arg)) for x in a.kwonlyargs]
        keywords += [ast.keyword(None, load(a.kwarg.arg))] if a.kwarg else []
        made = ast.Call(load("recursive()"), [load(inner), *given], keywords)
        return [define(inner, arguments, body), ast.Return(made)]

    # ------------------------------------------------------------------------------------------------- statements

    def block(self, nodes: list[ast.stmt], flags: _Flags) -> list[ast.stmt]:
        """Statements rewritten; what follows one that may set a flag is guarded by the flags."""
        done: list[ast.stmt] = []
        for i, node in enumerate(nodes):
            leaves = self._may_leave(node, flags)  # asked before the statement is rewritten in place
            before, self.before = self.before, []
            made = self.statement(node, flags)
            done += [ast.copy_location(s, node) for s in (*self.before, *made)]
            self.before = before
            if leaves and i + 1 < len(nodes):
                rest = nodes[i + 1 :]
                if not isinstance(node, (ast.Return, ast.Break, ast.Continue)):
                    free = call("none", *(load(n) for n in flags.names()))
                    deciding, after = "branch" if flags.broken else "rest", self.liveness.after[id(rest[-1])]
                    done += self._branch(free, self.block(rest, flags), [], node, after, deciding)
                return done
        return done or [ast.Pass()]

    def _may_leave(self, node: ast.stmt, flags: _Flags) -> bool:
        """Whether a statement may end the block it stands in."""
        inside = walk_scope([node])
        if flags.returned and any(isinstance(n, ast.Return) for n in inside):
            return True
        if not flags.broken and not flags.continued:
            return False
        loops = {id(n) for loop in inside if isinstance(loop, (ast.For, ast.While)) for n in walk_scope(loop.body)}
        return any(isinstance(n, (ast.Break, ast.Continue)) and id(n) not in loops for n in inside)

    def statement(self, node: ast.stmt, flags: _Flags) -> list[ast.stmt]:
        if isinstance(node, ast.If):
            test, after = self.expression(node.test), self.liveness.after[id(node)]
            return self._branch(test, self.block(node.body, flags), self.block(node.orelse, flags), node, after)
        if isinstance(node, ast.While):
            return self._while(node, flags)
        if isinstance(node, ast.For):
            return self._for(node, flags)
        if isinstance(node, ast.Return) and flags.returned:
            value = self.expression(node.value) if node.value else ast.Constant(None)
            return [assign(_RESULT, value), assign(flags.returned, ast.Constant(True))]
        if isinstance(node, ast.Break) and flags.broken:
            return [assign(flags.broken, ast.Constant(True))]
        if isinstance(node, ast.Continue) and flags.continued:
            return [assign(flags.continued, ast.Constant(True))]
        if isinstance(node, ast.Assert):
            message = [delayed(opened(copy.deepcopy(node.msg), Expressions(self, False)))] if node.msg else []
            return [ast.Assert(call("every", self.expression(node.test), *message), node.msg)]
        if isinstance(node, ast.Raise):
            return [self._raise(node)]
        if isinstance(node, ast.Match) and all(map(_is_comparison, node.cases)):
            return self._match(node, flags)
        if isinstance(node, ast.ClassDef):
            return [self._class(node)]
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            return self.statement(ast.copy_location(ast.Assign([node.target], node.value), node), flags)
        if isinstance(node, ast.Try) and node.handlers:
            return self._try(node, flags)
        if isinstance(node, ast.AsyncFunctionDef):
            return [node]
        if isinstance(node, ast.FunctionDef):
            return [self._function(node)]
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

    def _function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        if any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in walk_scope(node.body)):
            return node
        made = self.inner().function(node, node.name in self.circles)
        made.decorator_list = node.decorator_list
        return made

    def _class(self, node: ast.ClassDef) -> ast.ClassDef:
        """A class: only its methods are rewritten, for nothing shares the variables of its body."""
        node.body = [
            self._function(mangled(part, node.name)) if isinstance(part, ast.FunctionDef) else part
            for part in node.body
        ]
        return node

    def _raise(self, node: ast.Raise) -> ast.Raise:
        """What an error shows stays open while it is not known whether it is raised."""
        error = node.exc
        if isinstance(error, ast.Call):
            error.args = [opened(a, Expressions(self)) for a in error.args]
            error.keywords = [ast.keyword(k.arg, self.expression(k.value)) for k in error.keywords]
        elif error is not None:
            node.exc = self.expression(error)
        return node

    def _match(self, node: ast.Match, flags: _Flags) -> list[ast.stmt]:
        """A match that only compares, as the conditions that it is."""
        subject = self.fresh("subject")
        chain: list[ast.stmt] = []
        for case in reversed(node.cases):
            test = _comparison(case.pattern, subject)
            name = case.pattern.name if isinstance(case.pattern, ast.MatchAs) else None
            chosen: list[ast.stmt] = case.body
            if case.guard is not None:
                test = case.guard if test is None else ast.BoolOp(ast.And(), [test, case.guard])
            if test is not None:
                chosen = [ast.If(test, case.body, chain)]
                self.liveness.after[id(chosen[0])] = self.liveness.after[id(node)]
            chain = [*([assign(name, load(subject))] if name else []), *chosen]
        whole = [assign(subject, node.subject), *chain]
        for statement in whole:
            for part in ast.walk(statement):
                if isinstance(part, (ast.stmt, ast.expr)) and not hasattr(part, "lineno"):
                    ast.copy_location(part, node)
        return self.block(whole, flags)

    def _try(self, node: ast.Try, flags: _Flags) -> list[ast.stmt]:
        """What is raised inside must be raised while this runs, and so is not left to a staged check."""
        begin, end = (ast.Expr(call("trying", ast.Constant(depth))) for depth in (1, -1))
        leaves = any(self._may_leave(s, flags) for s in node.body)
        orelse = self.block(node.orelse, flags)
        if leaves and node.orelse:
            free = call("none", *(load(n) for n in flags.names()))
            orelse = self._branch(free, orelse, [], node, self.liveness.after[id(node)])
        body: list[ast.stmt] = [begin, ast.Try(self.block(node.body, flags), [], [], [end])]
        handlers = [self._part(h, flags) for h in node.handlers]
        final = self.block(node.finalbody, flags) if node.finalbody else []
        made = ast.Try(body, handlers, orelse if node.orelse else [], final)  # type: ignore[arg-type]
        return [made]

    def _branch(
        self,
        test: ast.expr,
        body: list[ast.stmt],
        orelse: list[ast.stmt],
        node: ast.stmt,
        after: Names,
        name: str = "branch",
    ) -> list[ast.stmt]:
        yes, no = self.fresh("then"), self.fresh("else")
        then, changed = self.procedure(yes, body)
        otherwise, also = self.procedure(no, orelse or [ast.Pass()])
        names = sorted({*changed, *also})
        deciding = call(name, test, load(yes), load(no), tuple_of(names), self.live(names, after))
        made: list[ast.stmt] = [then, otherwise, ast.Expr(deciding)]
        return [ast.copy_location(s, node) for s in made]

    def _while(self, node: ast.While, flags: _Flags) -> list[ast.stmt]:
        after = self.liveness.after[id(node)]
        broken, continued = self.fresh("broken"), self.fresh("continued")
        inner = _Flags(flags.returned, broken, continued)
        body = [assign(continued, ast.Constant(False)), *self.block(node.body, inner)]
        leave = [load(n) for n in (broken, flags.returned) if n]
        before, self.before = self.before, []
        test = call("both", delayed(call("none", *leave)), delayed(self.expression(node.test)))
        check, step = self.fresh("test"), self.fresh("body")
        asking, tested = self.procedure(check, [*self.before, ast.Return(test)])
        self.before = before
        procedure, names = self.procedure(step, body)
        names = sorted({*names, *tested})
        done: list[ast.stmt] = [
            assign(broken, ast.Constant(False)),
            assign(continued, ast.Constant(False)),
            asking,
            procedure,
            ast.Expr(call("loop", load(check), load(step), tuple_of(names), self.live(names, after, continued))),
        ]
        if node.orelse:
            done += self._branch(call("none", *leave), self.block(node.orelse, flags), [], node, after)
        return done

    def _for(self, node: ast.For, flags: _Flags) -> list[ast.stmt]:
        after, repeated = self.liveness.after[id(node)], self.liveness.repeated[id(node)]
        broken, continued = self.fresh("broken"), self.fresh("continued")
        inner = _Flags(flags.returned, broken, continued)
        leaves = any(self._may_leave(s, inner) for s in node.body)
        item = self.fresh("item")
        body = [*self._store(node.target, load(item)), *self.block(node.body, inner)]
        gone = [load(n) for n in (broken, flags.returned) if n]
        leaving: ast.expr = ast.Constant(None)
        if leaves:
            guarded = self._branch(call("none", *gone), body, [], node, repeated)
            body = [assign(continued, ast.Constant(False)), *guarded]
            leaving = delayed(call("either", *map(delayed, gone)))
        step = self.fresh("body")
        procedure, names = self.procedure(step, body)
        procedure.args.args.append(ast.arg(item))
        variables = tuple_of(names), self.live(names, after, continued)
        done: list[ast.stmt] = []
        if leaves:
            done = [assign(broken, ast.Constant(False)), assign(continued, ast.Constant(False))]
        done += [procedure, ast.Expr(call("each", self.items(node.iter), load(step), leaving, *variables))]
        if node.orelse:
            rest = self.block(node.orelse, flags)
            done += self._branch(call("none", *(load(n.id) for n in gone)), rest, [], node, after) if leaves else rest
        return done

    def items(self, node: ast.expr) -> ast.expr:
        """What a loop goes through; calls of builtins that make iterators say what they are made of."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _ITERATING:
            return self.expression(node)
        given = [self.items(a) for a in node.args]
        keywords = [ast.keyword(k.arg, self.expression(k.value)) for k in node.keywords]
        made = ast.Call(ast.Name("iterating()", ast.Load()), [load(node.func.id), *given], keywords)
        return ast.copy_location(made, node)

    def _assign_value(self, node: ast.Assign) -> list[ast.stmt]:
        if all(map(_binds_names, node.targets)):
            return [ast.Assign(node.targets, self.expression(node.value))]
        value = self.fresh("value")
        done: list[ast.stmt] = [assign(value, self.expression(node.value))]
        for target in node.targets:
            done += self._store(target, load(value))
        return done

    def _store(self, target: ast.expr, value: ast.expr) -> list[ast.stmt]:
        """Stores into items and attributes go through calls that know which lanes are running."""
        if isinstance(target, ast.Subscript):
            place = self.expression(target.value), self.expression(target.slice)
            return [ast.Expr(call("set_item", *place, value))]
        if isinstance(target, ast.Attribute):
            place = self.expression(target.value), ast.Constant(target.attr)
            return [ast.Expr(call("set_attribute", *place, value))]
        if isinstance(target, (ast.Tuple, ast.List)) and not any(isinstance(t, ast.Starred) for t in target.elts):
            parts = [self.fresh("part") for _ in target.elts]
            unpacked = ast.Tuple([ast.Name(p, ast.Store()) for p in parts], ast.Store())
            stores = [s for t, p in zip(target.elts, parts, strict=True) for s in self._store(t, load(p))]
            return [ast.Assign([unpacked], value), *stores]
        return [ast.Assign([target], value)]

    def _augment(self, node: ast.AugAssign) -> list[ast.stmt]:
        """``target op= value``: the place is evaluated once, read, and stored to."""
        target = node.target
        op = ast.Constant(type(node.op).__name__)
        value = delayed(self.expression(node.value))
        if isinstance(target, ast.Name):
            return [assign(target.id, call("augmented", op, load(target.id), value))]
        whole, key = self.fresh("whole"), self.fresh("key")
        item = isinstance(target, ast.Subscript)
        chosen = self.expression(target.slice) if isinstance(target, ast.Subscript) else ast.Constant(target.attr)
        before = call("get_item" if item else "get_attribute", load(whole), load(key))
        after = call("augmented", op, before, value)
        return [
            assign(whole, self.expression(target.value)),
            assign(key, chosen),
            ast.Expr(call("set_item" if item else "set_attribute", load(whole), load(key), after)),
        ]

    def _delete(self, node: ast.Delete) -> list[ast.stmt]:
        done: list[ast.stmt] = []
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                method = call("changing", self.expression(target.value), ast.Constant("__delitem__"))
                done.append(ast.Expr(ast.Call(method, [self.expression(target.slice)], [])))
            else:
                done.append(ast.Delete([target]))
        return done

    # ------------------------------------------------------------------------------------------------ expressions

    def expression(self, node: ast.expr) -> ast.expr:
        """An expression rewritten."""
        found = Expressions(self).visit(node)
        assert isinstance(found, ast.expr)
        return found


def _is_comparison(case: ast.match_case) -> bool:
    """Whether a case compares with values, or takes anything."""
    return _compares(case.pattern) or (isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None)


def _compares(pattern: ast.pattern) -> bool:
    if isinstance(pattern, ast.MatchOr):
        return all(map(_compares, pattern.patterns))
    return isinstance(pattern, (ast.MatchValue, ast.MatchSingleton))


def _comparison(pattern: ast.pattern, subject: str) -> ast.expr | None:
    """The condition that a pattern is; None for one that takes anything."""
    if isinstance(pattern, ast.MatchOr):
        return ast.BoolOp(ast.Or(), [c for p in pattern.patterns if (c := _comparison(p, subject)) is not None])
    if isinstance(pattern, ast.MatchValue):
        return ast.Compare(load(subject), [ast.Eq()], [pattern.value])
    if isinstance(pattern, ast.MatchSingleton):
        return ast.Compare(load(subject), [ast.Is()], [ast.Constant(pattern.value)])
    return None
