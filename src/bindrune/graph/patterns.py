"""Identities between expressions, written as Python writes them.

``identity("-a + b", "b - a", "f")`` says that a node that matches the left side may compute the right side instead.
Names are values (the same name twice is the same value), capital letters are values that are known and the same
throughout, numbers are themselves, zeros with their sign.  Operators and calls are operations by name; what commutes
is matched both ways round.

What holds of NumPy's operations holds of Python's on its own numbers (``python.add``): an identity stands for both.
An identity is applied only where both sides have the same type, so nobody has to think of promotion; a side that is a
mere name or number is broadcast to the shape of the other.  Integers of different widths wrap differently: those that
an identity combines must all be of the result's.
"""

from __future__ import annotations

import ast
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..core.operation import registry
from .graph import ARRAY, PYTHON, Literal, Node, Type, Value
from .inference import infer
from .rewrite import Rewriting, Step, is_known, same_type

__all__ = ["Identity", "commutes", "fit", "identities", "identity"]

_COMMUTATIVE = frozenset(
    "add multiply equal not_equal bitwise_and bitwise_or bitwise_xor logical_and logical_or logical_xor".split()
)
"""Operations on real numbers that give the same to the last bit for exchanged operands."""

_PYTHON = "python."


def commutes(name: str) -> bool:
    """Whether an operation on real numbers gives the same to the last bit for exchanged operands."""
    return name.removeprefix(_PYTHON) in _COMMUTATIVE


class _Call(NamedTuple):
    """An operation performed on sides."""

    name: str
    operands: tuple[_Side, ...]


class _Number(NamedTuple):
    content: Any


_Side = _Call | _Number | str


class Identity(NamedTuple):
    """Two expressions of the same value.

    Attributes:
        left: what is looked for.
        right: what stands for it.
        kinds: the kinds of dtype of the result for which it holds.
    """

    left: _Call
    right: _Side
    kinds: str


def identity(left: str, right: str, kinds: str) -> Identity:
    """Write an identity."""
    parsed = _parse(ast.parse(left, mode="eval").body)
    assert isinstance(parsed, _Call)
    return Identity(parsed, _parse(ast.parse(right, mode="eval").body), kinds)


_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "floor_divide",
    ast.BitAnd: "bitwise_and",
    ast.BitOr: "bitwise_or",
    ast.USub: "negative",
    ast.UAdd: "positive",
    ast.Invert: "invert",
}


def _parse(tree: ast.expr) -> _Side:
    match tree:
        case ast.Name(name):
            return name
        case ast.Constant(content) | ast.UnaryOp(ast.UAdd(), ast.Constant(content)):
            return _Number(content)
        case ast.UnaryOp(ast.USub(), ast.Constant(content)):
            return _Number(-content)  # type: ignore[operator]
        case ast.UnaryOp(operator, operand):
            return _Call(_OPERATORS[type(operator)], (_parse(operand),))
        case ast.BinOp(a, operator, b):
            return _Call(_OPERATORS[type(operator)], (_parse(a), _parse(b)))
        case ast.Call(ast.Name(name), arguments):
            return _Call(name, tuple(map(_parse, arguments)))
    raise ValueError(f"an identity cannot say {ast.unparse(tree)!r}")


def _orders(side: _Side) -> Iterator[_Side]:
    """A side in all orders of what commutes in it."""
    if not isinstance(side, _Call):
        yield side
        return
    for operands in itertools.product(*map(_orders, side.operands)):
        yield _Call(side.name, operands)
        if side.name in _COMMUTATIVE and operands[0] != operands[1]:
            yield _Call(side.name, operands[::-1])


# ------------------------------------------------------------------------------------------------------- matching


class _Place(NamedTuple):
    """Where an identity is looked for."""

    graph: Rewriting
    node: Node
    prefix: str
    """What the names of operations begin with: ``python.`` for those on Python's numbers."""


def _matches(side: _Side, value: Value, found: dict[str, Value], place: _Place) -> bool:
    """Whether a value is what a side says; the values of its names are noted."""
    graph = place.graph
    if isinstance(side, str):
        if side.isupper() and graph.constant(value) is None:
            return False
        return found.setdefault(side, value) is value
    if isinstance(side, _Number):
        constant = graph.constant(value)
        return constant is not None and _is_number(constant, side.content)
    node = graph.made_by(value, place.prefix + side.name)
    return node is not None and _node_matches(side, node, found, place)


def _node_matches(side: _Call, node: Node, found: dict[str, Value], place: _Place) -> bool:
    if len(node.operands) != len(side.operands):
        return False
    return all(_matches(s, v, found, place) for s, v in zip(side.operands, node.operands, strict=True))


def _is_number(constant: Any, number: Any) -> bool:
    """Whether they are equal, signs of zeros included; an integer zero is a positive one."""
    if np.ndim(constant) or constant != number:
        return False
    if constant == 0 and not np.iscomplexobj(constant):
        return bool(math.copysign(1, constant) == math.copysign(1, number))
    return True


# ------------------------------------------------------------------------------------------------------- building


def _type_of_side(side: _Side, found: dict[str, Value], prefix: str) -> Type:
    if isinstance(side, str):
        return found[side].type
    if isinstance(side, _Number):
        return Literal(side.content).type
    return infer(registry[prefix + side.name], [_type_of_side(s, found, prefix) for s in side.operands], {})[0]


def _build(side: _Side, found: dict[str, Value], place: _Place) -> Value:
    if isinstance(side, str):
        return found[side]
    if isinstance(side, _Number):
        return Literal(side.content)
    operands = [_build(s, found, place) for s in side.operands]
    return place.graph.emit(place.prefix + side.name, *operands, line=place.node.line)


def _instead(rule: Identity, found: dict[str, Value], place: _Place) -> Node | list[Value] | None:
    """What stands for a node that the left side matches, if an identity of this kind applies to its types."""
    node, right = place.node, rule.right
    type = node.results[0].type
    if type.dtype.kind not in rule.kinds:
        return None
    if isinstance(right, _Call):
        combined = [v for name, v in found.items() if name.islower()]
        if any(v.dtype.kind in "biu" and v.dtype != type.dtype for v in combined):
            return None
        if _type_of_side(right, found, place.prefix) != type:
            return None
        operands = [_build(s, found, place) for s in right.operands]
        return Node(registry[place.prefix + right.name], operands, {}, node.results, node.line)
    if isinstance(right, _Number):
        number = type.dtype.type(right.content)
        value: Value = Literal(number.item() if type.form == PYTHON else number)
    else:
        value = found[right]
    return fit(value, node)


def fit(value: Value, node: Node) -> Node | list[Value] | None:
    """A value instead of a node's only result, broadcast to its shape if need be; None where another type is needed."""
    (result,) = node.results
    if same_type(value, result):
        return [value]
    if value.dtype != result.dtype or result.form != ARRAY or not is_known(result) or not result.shape:
        return None
    return Node(registry["broadcast_to"], [value], {"shape": result.shape}, node.results, node.line)


def identities(rules: Iterable[Identity]) -> Step:
    """The step that applies the first identity of a table that matches."""
    table: dict[str, list[Identity]] = defaultdict(list)
    for rule in rules:
        for left in _orders(rule.left):
            assert isinstance(left, _Call)
            table[left.name].append(rule._replace(left=left))

    def step(graph: Rewriting, node: Node) -> Node | list[Value] | None:
        name = node.op.name.removeprefix(_PYTHON)
        place = _Place(graph, node, node.op.name.removesuffix(name))
        for rule in table.get(name, ()):
            found: dict[str, Value] = {}
            if _node_matches(rule.left, node, found, place):
                instead = _instead(rule, found, place)
                if instead is not None:
                    return instead
        return None

    return step
