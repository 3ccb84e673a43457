"""Rows: loops over small matrices, or rows of a few elements, that lie one behind the other.

LLVM would write the short loops in such a loop out, and take several steps of the long one at a time; each vector were
then gathered from as many matrices, element by element.  Where the elements lie so far apart that whole matrices are
read sooner, the long loop is left as it is, and vectors are those of the short ones (`lanes.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

from .advice import LINE, does_several, is_elaborate
from .lanes import lanes_of
from .loops import Affine, Buffer, For, Statement, Storage, Variable
from .rewriting import accesses

if TYPE_CHECKING:
    from .functions import Function

__all__ = ["is_of_rows"]

_FAR = 8
"""Elements that lie no farther apart are loaded together, and shuffled, if they are in one line of the cache."""

_NEAR = 4
"""Elements that lie no nearer are better left in their rows, if these are vectors."""


def is_of_rows(f: Function, s: For) -> bool:
    """Whether a loop whose steps are independent goes from one row, or matrix, to the next, and computes with them."""
    if not (does_several(s, f.vectors) and any(isinstance(inner, For) for inner in s.body)) or is_elaborate(s):
        return False
    found: dict[tuple[Storage, tuple[Affine, ...]], tuple[int, int, bool]] = {}
    for buffer, index, count in _touched(s.body, {}):
        stride = _stride(buffer, index, s.variable)
        if stride:
            far = stride > _FAR or stride * buffer.dtype.itemsize >= LINE
            found[buffer.storage, index] = stride, count, far
    if any(far for _, _, far in found.values()):
        return 2 * sum(count for _, count, far in found.values() if far) >= sum(count for _, count, _ in found.values())
    return min((stride for stride, _, _ in found.values()), default=0) >= _NEAR and _are_vectors(f, s.body, s)


def _touched(block: list[Statement], around: dict[Variable, int]) -> Iterator[tuple[Buffer, tuple[Affine, ...], int]]:
    """What is read and written, and how many elements of it."""
    for s in block:
        for buffer, index, _ in accesses(s):
            counters = {v for i in index for v, _ in i.terms}
            yield buffer, index, prod(steps for v, steps in around.items() if v in counters)
        for part in s.blocks:
            yield from _touched(part, {**around, s.variable: s.extent.known or _FAR} if isinstance(s, For) else around)


def _stride(buffer: Buffer, index: tuple[Affine, ...], counter: Variable) -> int:
    """How many elements further the next step's element lies; more than far where that is not known."""
    stride, size = 0, 1
    for length, i in zip(reversed(buffer.shape), reversed(index), strict=True):
        stride += dict(i.terms).get(counter, 0) * size
        size *= _FAR + 1 if length.known is None else length.known
    return abs(stride)


def _are_vectors(f: Function, block: list[Statement], around: For) -> bool:
    """Whether all that is done is done to vectors."""
    return all(
        isinstance(s, For) and (lanes_of(f, s, around) is not None or _are_vectors(f, s.body, around)) for s in block
    )
