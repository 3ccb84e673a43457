"""Algebraic simplification: cheaper ways to the same numbers.

The identities of `EXACT` and the cancellations of `rearrangements` give every element to the last bit, signs of zeros
and NaNs included: ``x + 0.0`` stays, for it makes ``-0.0`` positive, and ``x * 0.0`` stays, for it keeps NaNs.
Complex numbers have few exact identities, because their products mix the parts.

Under ``fast_math`` the identities of `FAST` hold as well, which are those of real numbers: rounding may differ, and
so may results that involve zeros' signs, infinities, NaNs or overflow.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.operation import registry
from ..graph import ARRAY, PYTHON, Graph, Literal, Node, Value
from ..patterns import identities, identity
from ..rewrite import Rewriting, Step, rewrite
from .rearrangements import CANCELLATIONS

__all__ = ["EXACT", "FAST", "simplify"]

_INTEGERS, _REALS, _NUMBERS = "iu", "iuf", "iufc"

EXACT = [
    identity("x + 0", "x", _INTEGERS),
    identity("x + -0.0", "x", "f"),
    identity("x - 0", "x", _REALS),
    identity("x * 1", "x", _REALS),
    identity("x / 1", "x", "f"),
    identity("x // 1", "x", _INTEGERS),
    identity("x * 0", "0", _INTEGERS),
    identity("x - x", "0", _INTEGERS),
    identity("-(-x)", "x", _NUMBERS),
    identity("+x", "x", _NUMBERS),
    identity("a + -b", "a - b", _NUMBERS),
    identity("a - -b", "a + b", _NUMBERS),
    identity("-a * -b", "a * b", _REALS),
    identity("-a / -b", "a / b", "f"),
    identity("square(-x)", "square(x)", _REALS),
    identity("absolute(-x)", "absolute(x)", "f"),
    identity("absolute(absolute(x))", "absolute(x)", "f"),
    identity("conjugate(conjugate(x))", "x", _NUMBERS),
    identity("conjugate(x)", "x", _REALS),
    identity("real(x)", "x", _REALS),
    identity("float(x)", "x", "f"),
    identity("item(x)", "x", "biufc"),
    identity("logical_not(logical_not(x))", "x", "b"),
    identity("~(~x)", "x", "biu"),
    identity("x & x", "x", "biu"),
    identity("x | x", "x", "biu"),
    identity("maximum(x, x)", "x", _REALS),
    identity("minimum(x, x)", "x", _REALS),
    identity("where(True, a, b)", "a", "biufc"),
    identity("where(False, a, b)", "b", "biufc"),
    identity("where(c, x, x)", "x", "biufc"),
]
"""What holds to the last bit."""

FAST = [
    identity("x + 0", "x", "fc"),
    identity("x * 1", "x", "c"),
    identity("x * 0", "0", "fc"),
    identity("0 / x", "0", "fc"),
    identity("x - x", "0", "fc"),
    identity("x / x", "1", "fc"),
    identity("0 - x", "-x", "fc"),
    identity("(x + C) + D", "x + (C + D)", "fc"),
    identity("(x * C) * D", "x * (C * D)", "fc"),
    identity("a * x + b * x", "(a + b) * x", "fc"),
    identity("a * x - b * x", "(a - b) * x", "fc"),
    identity("a * x / x", "a", "fc"),
    identity("a / x * x", "a", "fc"),
    identity("a / (b / c)", "a * c / b", "fc"),
    identity("sqrt(x) * sqrt(x)", "x", "f"),
    identity("square(sqrt(x))", "x", "f"),
    identity("sqrt(square(x))", "absolute(x)", "f"),
    identity("exp(log(x))", "x", "f"),
    identity("log(exp(x))", "x", "f"),
]
"""What holds for real numbers."""


def _simplify_power(graph: Rewriting, node: Node) -> Node | list[Value] | None:
    """A power of an array with a number of Python's as exponent: what NumPy itself does with it."""
    x, exponent = node.operands
    (result,) = node.results
    if not isinstance(exponent, Literal) or exponent.form != PYTHON or x.type != result.type or x.form != ARRAY:
        return None
    number = exponent.content
    if number == 1 and x.dtype.kind in _REALS:
        return [x]
    if number == 2 and x.dtype.kind in _REALS:
        return Node(registry["multiply"], (x, x), {}, node.results, node.line)
    known = {0.5: "sqrt", -1: "reciprocal"}
    if number in known and x.dtype.kind == "f":
        return Node(registry[known[number]], (x,), {}, node.results, node.line)
    return None


def _multiply_powers(graph: Rewriting, node: Node) -> Node | list[Value] | None:
    """A small whole power as a few products, the power of two halves each."""
    x, exponent = node.operands
    (result,) = node.results
    number = graph.constant(exponent)
    if result.dtype.kind not in "fc" or x.type != result.type or x.form == PYTHON or number not in (2, 3, 4):
        return None
    other = x if number == 2 else graph.emit("multiply", x, x, line=node.line)
    return Node(registry["multiply"], (other, x if number == 3 else other), {}, node.results, node.line)


def _divide_by_constant(graph: Rewriting, node: Node, exact: bool) -> Node | None:
    """A division by a known number as a product with its reciprocal, which of a power of two is exact."""
    x, divisor = node.operands
    (result,) = node.results
    number = graph.constant(divisor)
    if x.type != result.type or x.form == PYTHON or x.dtype.kind != "f" or x.dtype.itemsize > 8:
        return None
    if number is None or np.iscomplexobj(number) or not _SMALLEST <= abs(number) <= 1 / _SMALLEST:
        return None
    if exact and abs(math.frexp(number)[0]) != 0.5:
        return None
    return Node(registry["multiply"], (x, Literal(1 / float(number))), {}, node.results, node.line)


_SMALLEST = 2.0**-14
"""The smallest normal number of the narrowest dtype: from there to its reciprocal powers of two have reciprocals."""


_exact, _fast = identities(EXACT), identities(FAST)


def _step(fast_math: bool) -> Step:
    def step(graph: Rewriting, node: Node) -> Any:
        name = node.op.name
        found: Any = CANCELLATIONS[name](graph, node) if name in CANCELLATIONS else _exact(graph, node)
        if found is None and name == "power":
            found = _simplify_power(graph, node)
        if found is None and fast_math:
            found = _fast(graph, node)
        if found is None and name == "power" and fast_math:
            found = _multiply_powers(graph, node)
        if found is None and name == "divide":
            found = _divide_by_constant(graph, node, exact=not fast_math)
        return found

    return step


def simplify(graph: Graph, fast_math: bool = False) -> Graph:
    """The graph with nodes replaced by simpler ones, or by what they are equal to."""
    return rewrite(graph, _step(fast_math))
