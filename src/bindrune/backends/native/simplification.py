"""What is left to do after fusion: nests over two axes that lie in memory as one, and copies that need not be made.

A perfect nest of two loops whose accesses all go along memory becomes one loop, which is better cut in parts and better
vectorised where the inner loop was short.  A copy at the end of a step of a loop, from an array that the step has made
to one that the loop carries, becomes a swap of their places.
"""

from __future__ import annotations

from .loops import (
    INTEGER,
    Accumulate,
    Affine,
    Allocate,
    Buffer,
    For,
    Let,
    Load,
    Program,
    Statement,
    Storage,
    Store,
    Swap,
    Variable,
    While,
    affine,
)
from .rewriting import Rewriter, accesses, variables, views

__all__ = ["simplify"]

_LARGE = 4096
"""The bytes from which on an array is rather swapped than copied."""


def simplify(program: Program) -> None:
    """Simplify the nests of a fused program."""
    _swap(program)
    program.body = _collapsed(program.body)


# --------------------------------------------------------------------------------------------------------- collapse


def _collapsed(block: list[Statement]) -> list[Statement]:
    done: list[Statement] = []
    for s in block:
        for inner in s.blocks:
            inner[:] = _collapsed(inner)
        if isinstance(s, For):
            s = _as_one(s) or s
        done.append(s)
    return done


def _as_one(outer: For) -> For | None:
    """A nest of two loops as one, if all that is in it goes along memory."""
    if outer.ordered or len(outer.body) != 1 or not isinstance(outer.body[0], For):
        return None
    inner = outer.body[0]
    length = _product(outer.extent, inner.extent)
    if inner.ordered or length is None or any(v is outer.variable for v, _ in inner.extent.terms):
        return None
    i, j = affine(outer.variable), affine(inner.variable)
    for s in inner.body:
        if not isinstance(s, (Let, Store, Accumulate)):
            return None
        if not all(_goes_along(buffer, index, i, j, inner.extent) for buffer, index, _ in accesses(s)):
            return None
        if _used_beside_accesses(s, {outer.variable, inner.variable}):
            return None
    variable = Variable(INTEGER, inner.variable.name, length)
    at = affine(variable)

    def element(buffer: Buffer, index: tuple[Affine, ...]) -> tuple[Buffer, tuple[Affine, ...]]:
        if i not in index:
            return buffer, index
        d = index.index(i)
        joined = _product(buffer.shape[d], buffer.shape[d + 1])
        assert joined is not None
        shape = (*buffer.shape[:d], joined, *buffer.shape[d + 2 :])
        return Buffer(buffer.storage, shape), (*index[:d], at, *index[d + 2 :])

    return For(variable, length, Rewriter(element=element).block(inner.body), False)


def _product(a: Affine, b: Affine) -> Affine | None:
    if a.known is not None:
        return b * a.known
    return a * b.known if b.known is not None else None


def _goes_along(buffer: Buffer, index: tuple[Affine, ...], i: Affine, j: Affine, inner: Affine) -> bool:
    """Whether an access goes on where it was when the inner loop is over."""
    (vi, _), (vj, _) = i.terms[0], j.terms[0]
    moving = [d for d, x in enumerate(index) if any(v in (vi, vj) for v, _ in x.terms)]
    if not moving:
        return True
    if len(moving) != 2 or moving[1] != moving[0] + 1:
        return False
    d = moving[0]
    along = index[d] == i and index[d + 1] == j and buffer.shape[d + 1] == inner
    return along and _product(buffer.shape[d], buffer.shape[d + 1]) is not None


def _used_beside_accesses(s: Statement, counters: set[Variable]) -> bool:
    """Whether a statement computes with a counter itself."""
    within = sum(1 for _, index, _ in accesses(s) for x in index for v, _ in x.terms if v in counters)
    return sum(v in counters for v in variables(s)) != within


# -------------------------------------------------------------------------------------------------------------- swap


def _swap(program: Program) -> None:
    """Turn copies into swaps, where they are the last use of what a step has made."""
    uses: dict[Storage, list[tuple[Statement, ...]]] = {}

    def look(block: list[Statement], loops: tuple[Statement, ...]) -> None:
        for s in block:
            for storage in _storages(s):
                uses.setdefault(storage, []).append(loops)
            for inner in s.blocks:
                look(inner, (*loops, s) if isinstance(s, (For, While)) else loops)

    look(program.body, ())
    taken: set[Storage] = set()

    def visit(block: list[Statement]) -> None:
        for s in block:
            for inner in s.blocks:
                if isinstance(s, While) or (isinstance(s, For) and s.ordered):
                    for n, copy in enumerate(inner):
                        pair = _copied(copy)
                        if pair is None or taken & set(pair):
                            continue
                        made, carried = pair
                        own = all(s in loops for loops in uses[made])
                        last = not any(made in _everything(later) for later in inner[n + 1 :])
                        if own and last and _swappable(program, made, carried):
                            taken.update(pair)
                            inner[n] = Swap(made, carried)
                visit(inner)

    visit(program.body)


def _storages(s: Statement) -> set[Storage]:
    found = {buffer.storage for buffer, _, _ in accesses(s)} | {view.storage for view in views(s)}
    return found | {s.storage} if isinstance(s, Allocate) else found


def _everything(s: Statement) -> set[Storage]:
    found = _storages(s)
    for block in s.blocks:
        for inner in block:
            found |= _everything(inner)
    return found


def _copied(s: Statement) -> tuple[Storage, Storage] | None:
    """What a nest copies from where to where, if that is all it does."""
    counters: list[tuple[Affine, Affine]] = []
    while isinstance(s, For) and not s.ordered and len(s.body) == 1:
        counters.append((affine(s.variable), s.extent))
        s = s.body[0]
    if not (counters and isinstance(s, Store) and isinstance(s.value, Load)):
        return None
    source, target = s.value, s
    for buffer, index in ((source.buffer, source.index), (target.buffer, target.index)):
        moving = [(i, n) for i, n in zip(index, buffer.shape, strict=True) if n.known != 1]
        if moving != counters or buffer.shape != buffer.storage.shape:
            return None
    return source.buffer.storage, target.buffer.storage


def _swappable(program: Program, made: Storage, carried: Storage) -> bool:
    """Whether two storages are alike, and large; an output that is carried gets its content at the end."""
    size = made.size
    if size is None or size != carried.size or made.dtype != carried.dtype or size * made.dtype.itemsize < _LARGE:
        return False
    if made.role != "temporary":
        return False
    if carried.role == "output":
        output = Storage(carried.dtype, carried.shape, "output", carried.position)
        program.outputs[program.outputs.index(carried)] = output
        carried.role, carried.position = "temporary", -1
        carried.name = f"t{output.name}"
        program.body.append(_copy(output, carried))
    return carried.role == "temporary"


def _copy(target: Storage, source: Storage) -> Statement:
    counters = [Variable(INTEGER, "i", n) for n in source.shape]
    index = tuple(map(affine, counters))
    s: Statement = Store(Buffer(target, target.shape), index, Load(Buffer(source, source.shape), index))
    for variable, n in reversed(list(zip(counters, source.shape, strict=True))):
        s = For(variable, n, [s], False)
    return s
