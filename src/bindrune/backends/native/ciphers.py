"""Lowering of random bits: each counter is enciphered by itself, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...graph.graph import Node
from ...ops.threefry import PARITY, ROTATIONS, ROUNDS
from .indexing import linear
from .loops import Affine, Apply, Const, Expression, Store, affine
from .lower import Location, Lowering, broadcast_lengths, convert, rule
from .views import broadcast

__all__: list[str] = []

_WORD, _HALF = np.dtype(np.uint64), np.dtype(np.uint32)


@rule("random_bits")
def _random_bits(low: Lowering, node: Node, operands: list[Location]) -> Any:
    """The bits of a draw for each key and counter."""
    result, width = node.results[0], node.params["width"]
    shape = tuple(map(low.length, node.params["shape"]))
    if any(x.dtype != _WORD for x in operands) or any(n.known is None for n in shape[1:]):
        return NotImplemented
    lead = broadcast_lengths([low.shape(x) for x in operands]) if any(map(low.shape, operands)) else ()
    key, start = (broadcast(low.view(x), lead) for x in operands)

    def word(at: Sequence[Affine], number: Affine) -> Expression:
        counter = Apply("add", (start.load(at), convert(number, _WORD)), _WORD)
        found = _enciphered(low, key.load(at), low.let(counter))
        if width < 64:
            upper = Apply("right_shift", (found, Const(32, _WORD)), _WORD)
            found = convert(low.let(Apply("bitwise_xor", (upper, found), _WORD)), result.dtype)
        return found

    if not result.shape:
        return low.let(word((), affine(0)))
    made = low.array(result.dtype, (*lead, *shape))
    with low.nest(made.shape) as index:
        at, place = index[: len(lead)], index[len(lead) :]
        low.do(Store(made.buffer, made.at(index), word(at, linear(place, shape))))
    return made


def _enciphered(low: Lowering, key: Expression, counter: Expression) -> Expression:
    """A counter under a key, as `ops.threefry.encipher` says."""

    def halves(x: Expression) -> list[Expression]:
        upper = Apply("right_shift", (x, Const(32, _WORD)), _WORD)
        return [low.let(convert(upper, _HALF)), low.let(convert(x, _HALF))]

    def computed(name: str, *x: Expression) -> Expression:
        return low.let(Apply(name, x, _HALF))

    def number(x: int) -> Const:
        return Const(_HALF.type(x), _HALF)

    first, second = halves(low.let(key))
    schedule = (first, second, computed("bitwise_xor", computed("bitwise_xor", first, second), number(int(PARITY))))
    a, b = halves(counter)
    a, b = computed("add", a, first), computed("add", b, second)
    for step in range(ROUNDS):
        for rotation in ROTATIONS[step % 2]:
            a = computed("add", a, b)
            turned = (computed("left_shift", b, number(rotation)), computed("right_shift", b, number(32 - rotation)))
            b = computed("bitwise_xor", computed("bitwise_or", *turned), a)
        a = computed("add", a, schedule[(step + 1) % 3])
        b = computed("add", computed("add", b, schedule[(step + 2) % 3]), number(step + 1))
    upper = Apply("left_shift", (convert(a, _WORD), Const(32, _WORD)), _WORD)
    return low.let(Apply("bitwise_or", (upper, convert(b, _WORD)), _WORD))
