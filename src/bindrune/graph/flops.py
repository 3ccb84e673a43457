"""How many floating-point operations an operation takes: one line for each that is not one for each element.

The counts are those of the textbook algorithms (Golub and Van Loan for the factorisations), to their leading order:

* an elementwise operation is one for each element; an exponential, a logarithm, a sine, a power or another function
  that is a series on the machine is counted apart, as one *transcendental* for each element;
* a product of an m by k and a k by n matrix is 2 m n k; a reduction one for each element reduced;
* sorting n elements is n log2 n comparisons; a Fourier transform is 5 n log2 n;
* moving, selecting and converting is none, and so is arithmetic on integers; complex numbers count fourfold.

An operation that is not listed counts as one for each element of its results.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.operation import Elementwise, Op
from .graph import Node, Value

__all__ = ["Shape", "flops_of"]

Shape = tuple[float, ...]
"""Lengths, those that are not known as what they are expected to be."""


class _Sight(NamedTuple):
    """What a rule sees of a node."""

    operands: tuple[Shape, ...]
    results: tuple[Shape, ...]
    params: dict[str, Any]

    @property
    def given(self) -> float:
        """The elements of the first operand."""
        return math.prod(self.operands[0])

    @property
    def made(self) -> float:
        """The elements of the first result."""
        return math.prod(self.results[0])

    @property
    def last(self) -> float:
        """The length of the last axis of the first operand."""
        return self.operands[0][-1] if self.operands[0] else 1

    @property
    def matrices(self) -> tuple[float, float, float]:
        """Of a stack of matrices: how many, the longer side and the shorter."""
        *stack, m, n = self.operands[0]
        return math.prod(stack), max(m, n), min(m, n)

    def along(self) -> float:
        """The length of the axis an operation works along."""
        axis = self.params.get("axis")
        return self.operands[0][axis] if isinstance(axis, int) and self.operands[0] else self.given


Rule = Callable[[_Sight], float]


def _log2(n: float) -> float:
    return math.log2(n) if n > 1 else 0.0


def _cubic(factor: float) -> Rule:
    """A factorisation of square matrices."""

    def rule(sight: _Sight) -> float:
        stack, n, _ = sight.matrices
        return factor * stack * n**3

    return rule


def _rectangular(per_long: float, per_short: float) -> Rule:
    """A factorisation of m by n matrices, m >= n: so many m n^2 and n^3."""

    def rule(sight: _Sight) -> float:
        stack, m, n = sight.matrices
        return stack * (per_long * m * n**2 + per_short * n**3)

    return rule


def _solve(factor: float) -> Rule:
    """Factorise once, then 2 n^2 for each right-hand side."""

    def rule(sight: _Sight) -> float:
        stack, n, _ = sight.matrices
        return factor * stack * n**3 + 2 * sight.made * n

    return rule


def _einsum(sight: _Sight) -> float:
    subscripts: str = sight.params["subscripts"]
    inputs, _, output = subscripts.partition("->")
    labels = inputs.split(",")
    if len(labels) > 2 and "." not in subscripts:
        import opt_einsum

        shapes = [tuple(round(n) for n in shape) for shape in sight.operands]
        return float(opt_einsum.contract_path(subscripts, *shapes, shapes=True)[1].opt_cost)
    lengths: dict[str, float] = {}
    for names, shape in zip(labels, sight.operands, strict=True):
        lengths.update(zip(names, shape, strict=False))
    multiplied, summed = len(labels) > 1, any(name not in output for name in lengths)
    return math.prod(lengths.values()) * (multiplied + summed)


def _contracted(sight: _Sight) -> float:
    return 2 * sight.made * sight.last


def _compared(sight: _Sight) -> float:
    return sight.given * _log2(sight.along())


def _looked_up(sight: _Sight) -> float:
    return sight.given * _log2(math.prod(sight.operands[1]))


def _transformed(sight: _Sight) -> float:
    return 5 * max(sight.given, sight.made) * _log2(sight.params["n"])


def _per_operand(factor: float) -> Rule:
    return lambda sight: factor * sight.given


_RULES: dict[str, Rule] = {
    "add_at": lambda sight: 0,
    "average_ties": _per_operand(2),
    "bincount": _per_operand(1),
    "cholesky": _cubic(1 / 3),
    "cofactors": _cubic(8 / 3),
    "convolve": lambda s: 2 * math.prod(s.operands[0]) * math.prod(s.operands[1]),
    "cumsum": _per_operand(1),
    "cumprod": _per_operand(1),
    "cummax": _per_operand(1),
    "cummin": _per_operand(1),
    "det": _cubic(2 / 3),
    "digitize": _looked_up,
    "eig": _cubic(25),
    "eigh": _cubic(9),
    "eigvalsh": _cubic(4 / 3),
    "einsum": _einsum,
    "interp": lambda s: _looked_up(s) + 5 * s.made,
    "inv": _cubic(2),
    "lexsort": lambda s: len(s.operands) * _compared(s),
    "lstsq": _rectangular(4, 8),
    "mean": lambda s: s.given + s.made,
    "norm": _per_operand(2),
    "overlap_add": _per_operand(1),
    "pinv": _rectangular(16, 9),
    "qr": _rectangular(4, -4 / 3),
    "recurrence": _per_operand(2),
    "searchsorted": _looked_up,
    "slogdet": _cubic(2 / 3),
    "solve": _solve(2 / 3),
    "solve_triangular": lambda s: s.made * s.matrices[1],
    "svd": _rectangular(14, 8),
    "svdvals": _rectangular(4, -4 / 3),
    "var": _per_operand(4),
    "vdot": _per_operand(2),
}
_RULES |= dict.fromkeys("dot inner matmul matvec vecdot vecmat".split(), _contracted)
_RULES |= dict.fromkeys("argsort argpartition order_statistics partition sort".split(), _compared)
_RULES |= dict.fromkeys("fft ifft irfft rfft".split(), _transformed)
_RULES |= dict.fromkeys(
    "all any argmax argmin attained max min nanargmax nanargmin nanmax nanmin prod sum".split(), _per_operand(1)
)
_RULES |= dict.fromkeys(
    (
        "astype broadcast_to checkpoint_name concatenate conjugate convert copy diagonal float from_parts getitem imag "
        "item last_writes pop push random_bits real reshape setitem stack stop_gradient transpose where windows"
    ).split(),
    lambda sight: 0,
)

_TRANSCENDENTAL = frozenset(
    (
        "arccos arccosh arcsin arcsinh arctan arctan2 arctanh cbrt cos cosh exp exp2 expm1 float_power i0 log log10 "
        "log1p log2 logaddexp logaddexp2 power sin sinc sinh tan tanh"
    ).split()
)
_EXPONENTIALS = frozenset("logsumexp logsumexp2 special.log_softmax special.logsumexp special.softmax".split())
"""Those that take an exponential of each element of their operand, and reduce what they get."""


def _is_transcendental(op: Op) -> bool:
    name = op.lanes.name if isinstance(op, Elementwise) else op.name
    return name in _TRANSCENDENTAL or name.partition(".")[0] == "special"


def _is_floating(value: Value) -> bool:
    return value.dtype.kind in "fc" or "float" in value.dtype.name


def flops_of(node: Node, shape: Callable[[Value], Shape]) -> tuple[float, float]:
    """The floating-point operations of a node that is no control flow, and its transcendental functions.

    Args:
        node: the node.
        shape: tells the shape of a value.
    """
    values = (*node.operands, *node.results)
    if node.op.effect or not any(map(_is_floating, values)):
        return 0, 0
    weight = 4 if any(v.dtype.kind == "c" for v in values) else 1
    sight = _Sight(tuple(map(shape, node.operands)), tuple(map(shape, node.results)), dict(node.params))
    if node.op.name in _EXPONENTIALS:
        return weight * 2 * sight.given, weight * sight.given
    rule = _RULES.get(node.op.name)
    if rule is not None:
        return weight * rule(sight), 0
    made = sum(map(math.prod, sight.results)) if sight.results else 0
    return (0, weight * made) if _is_transcendental(node.op) else (weight * made, 0)
