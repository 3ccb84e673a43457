"""Cotangents on their way back: what a reverse rule may return beside a plain array.

A rule for a read of a few elements must not build an array of the whole owner's size; this is what keeps gradients
of loops linear.  It returns a `Sparse` cotangent, which is added into the owner's `Buffer`: an array that exactly
one place holds, so that it may be written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .array import Array
from .handler import HOST, write
from .specs import zeros

if TYPE_CHECKING:
    from .operation import Spec, Write

__all__ = ["Buffer", "Contribution", "Part", "Sparse", "accumulate", "own"]


class Buffer:
    """A cotangent that is still being accumulated; `value` is a plain array or cell of its own."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def writable(self, other: Any) -> Any:
        """The value, as something that `other` can be written into."""
        if isinstance(other, Array) and not isinstance(self.value, Array):
            self.value = Array(HOST, self.value)
        return self.value

    def write(self, op: Write, operands: tuple[Any, ...], params: dict[str, Any]) -> None:
        """Write into the value in place."""
        for x in operands:
            self.writable(x)
        value = self.value
        if isinstance(value, Array):
            write(value, op, operands, params)
        else:
            op.in_place(value, *operands, **params)


class Contribution:
    """A cotangent in a form of its own."""

    __slots__ = ()

    def add_to(self, slot: Any) -> Any:
        """What `slot` (None, a cotangent or a `Buffer`) becomes when this is added."""
        raise NotImplementedError


class Sparse(Contribution):
    """The cotangent of an array of which only the elements at an index were read."""

    __slots__ = ("operands", "params", "spec", "write")

    def __init__(self, add: Write, spec: Spec, operands: tuple[Any, ...], params: dict[str, Any]) -> None:
        self.write = add
        self.spec = spec
        self.operands = operands
        self.params = params

    def add_to(self, slot: Any) -> Buffer:
        buffer = Buffer(zeros(self.spec)) if slot is None else own(slot)
        buffer.write(self.write, self.operands, self.params)
        return buffer


class Part(Contribution):
    """The cotangent of one of several results of an operation."""

    __slots__ = ("cotangent", "count", "position")

    def __init__(self, count: int, position: int, cotangent: Any) -> None:
        self.count = count
        self.position = position
        self.cotangent = cotangent

    def add_to(self, slot: Any) -> list[Any]:
        parts: list[Any] = [None] * self.count if slot is None else slot
        parts[self.position] = self.cotangent
        return parts


def own(slot: Any) -> Buffer:
    """A slot's cotangent as a buffer that may be written."""
    if type(slot) is Buffer:
        return slot
    return Buffer(slot.snapshot() if isinstance(slot, Array) else np.array(slot))


def accumulate(slot: Any, cotangent: Any) -> Any:
    """What a slot becomes when a cotangent is added; only buffers are written."""
    if isinstance(cotangent, Contribution):
        return cotangent.add_to(slot)
    if slot is None:
        return cotangent
    if type(cotangent) is Buffer:
        slot, cotangent = cotangent, slot.value if type(slot) is Buffer else slot
    if type(slot) is Buffer:
        value = slot.writable(cotangent)
        if isinstance(value, Array):
            value.assign((value + cotangent).read())
        else:
            value += cotangent
        return slot
    return slot + cotangent
