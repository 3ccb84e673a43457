"""Arrays that a loop carries and writes, on the way back: rewound step by step instead of kept.

A step that reads slices of such an array would have to keep them all, and a factorisation n^3 numbers.  Instead it
keeps the elements that it overwrites, in an undo log; the way back starts from the array as the loop leaves it, puts
them back write by write, and reads again what it needs.  That takes as much memory as the writes do, and no arithmetic
is undone: every read finds the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..core.array import Array
from ..core.handler import evaluate
from ..core.operation import Write
from ..graph.graph import Node, Value
from ..ops.indexing import getitem, setitem
from .staging import Staging

__all__ = ["Rewound", "rewind"]

_VIEWS = frozenset({"getitem", "transpose", "reshape", "diagonal"})
"""Operations that are repeated rather than their results kept: they cost nothing."""


class Rewound(NamedTuple):
    """Two halves of a step of which some arrays are rewound.

    Attributes:
        forward: the nodes of the first half; they read what is overwritten.
        backward: those of the second; they put it back.
        arrays: by those arrays before the step, after it.
    """

    forward: list[Node]
    backward: list[Node]
    arrays: dict[Value, Value]


def rewind(
    stage: Staging,
    forward: Sequence[Node],
    backward: Sequence[Node],
    carried: Mapping[Value, Value],
    kept: set[Value],
) -> Rewound:
    """Rewind the arrays for which that pays.

    Args:
        stage: where both halves are being staged.
        forward: the nodes of the first half.
        backward: those of the second.
        carried: the arrays that may be rewound, before and after the step.
        kept: the values of the first half that the second needs.
    """
    found = Rewound(list(forward), list(backward), {})
    for before, after in carried.items():
        writes = _writes(forward, before, after)
        versions = [before, *(node.results[0] for node in writes)]
        reads = _reads(forward, versions, kept)
        # Slices of all axes: a step may read as much as the array has, and write only a little.
        if writes and any(value.ndim == before.ndim for value in reads):
            found.arrays[before] = after
            log = [_logged(stage, found.forward, node) for node in writes]
            for i, (write, old) in enumerate(zip(writes, log, strict=True)):
                value = write.operands[1]
                places = write.operands[2:]
                if (
                    value in kept
                    and write.op is setitem
                    and value.type == old.type
                    and not any(v.shape for v in places)
                ):
                    # What is written is in the array until it is rewound, unless another value went to the same place.
                    read = Node(getitem, (versions[i + 1], *places), write.params, [value], write.line)
                    reads.setdefault(value, (i + 1, (read,)))
            found = found._replace(backward=_interleaved(found.backward, reads, versions, writes, log))
    return found


def _writes(forward: Sequence[Node], before: Value, after: Value) -> list[Node]:
    """The writes that lead from an array to what it becomes, where nothing else does."""
    made = {node.results[0]: node for node in forward if isinstance(node.op, Write)}
    found = []
    while after is not before:
        node = made.get(after)
        if node is None or any(v.dtype == bool for v in node.operands[2:]):
            return []
        found.append(node)
        after = node.operands[0]
    return found[::-1]


def _reads(
    forward: Sequence[Node], versions: Sequence[Value], kept: set[Value]
) -> dict[Value, tuple[int, tuple[Node, ...]]]:
    """The kept values that show parts of an array: of which version, and by which nodes."""
    seen: dict[Value, tuple[int, tuple[Node, ...]]] = {v: (i, ()) for i, v in enumerate(versions)}
    for node in forward:
        if node.op.name in _VIEWS and node.operands[0] in seen:
            version, before = seen[node.operands[0]]
            seen[node.results[0]] = (version, (*before, node))
    return {v: found for v, found in seen.items() if v in kept}


def _logged(stage: Staging, forward: list[Node], write: Node) -> Value:
    """What a write overwrites, read before it."""
    count = len(stage.nodes)
    target, _, *index = (Array(stage, v) if v.stage is stage else v.content for v in write.operands)  # type: ignore[attr-defined]
    old = stage.take(evaluate(getitem, [target, *index], write.params.copy()))
    place = forward.index(write)
    forward[place:place] = stage.nodes[count:]
    del stage.nodes[count:]
    return old


def _interleaved(
    backward: Sequence[Node],
    reads: Mapping[Value, tuple[int, tuple[Node, ...]]],
    versions: Sequence[Value],
    writes: Sequence[Node],
    log: Sequence[Value],
) -> list[Node]:
    """The second half, with each version of an array restored as late as possible, and read there."""
    found: list[Node] = []
    there: set[Value] = set()
    current = len(writes)

    def back_to(version: int) -> None:
        nonlocal current
        while current > version:
            current -= 1
            write = writes[current]
            operands = (versions[current + 1], log[current], *write.operands[2:])
            found.append(Node(setitem, operands, write.params, [versions[current]], write.line))

    for node in backward:
        for value in node.uses:
            if value in reads:
                version, nodes = reads[value]
                back_to(version)
                for read in nodes:
                    if read.results[0] not in there:
                        there.add(read.results[0])
                        found.append(read)
        found.append(node)
    back_to(0)
    return found
