"""Lowering of products: each is a contraction of labelled axes, a nest of loops over all labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...graph.graph import Node
from ...ops.products import explicit
from .loops import Accumulate, Affine, Apply, Buffer, Const, LibraryCall, Load, Storage, Store
from .lower import Location, Lowering, convert, rule
from .shaping import reshaped
from .views import ZERO, View, along

__all__: list[str] = []


def _subscripts(name: str, n: int, m: int) -> str:
    """The labels of a product of arrays of some dimensions."""
    if name == "matmul":
        left = "k" if n == 1 else "...nk"
        right = "k" if m == 1 else "...km"
        return (
            explicit(f"{left},{right}->...{'' if n == 1 else 'n'}{'' if m == 1 else 'm'}", (n, m))
            if (n > 2 or m > 2)
            else f"{left},{right}->{'' if n == 1 else 'n'}{'' if m == 1 else 'm'}".replace("...", "")
        )
    if name in ("vdot", "vecdot"):
        return "k,k->" if name == "vdot" else explicit("...k,...k->...", (n, m))
    if name == "matvec":
        return explicit("...nk,...k->...n", (n, m))
    if name == "vecmat":
        return explicit("...k,...km->...m", (n, m))
    letters = "abcdefghijklmnopqrstuvwxyz"
    a, b = letters[:n], letters[n : n + m]
    if not n or not m:
        return f"{a},{b}->{a}{b}"
    place = m - 1 if name == "inner" else max(m - 2, 0)
    b = b[:place] + a[-1] + b[place + 1 :]
    return f"{a},{b}->{a[:-1]}{b[:place]}{b[place + 1 :]}"


@rule("matmul", "dot", "inner", "vdot", "vecdot", "matvec", "vecmat", "einsum")
def _product(low: Lowering, node: Node, operands: list[Location]) -> Any:
    result = node.results[0]
    dtype = result.dtype
    if dtype.kind not in "iuf" or dtype.itemsize == 2 or any(x.dtype.kind not in "biuf" for x in operands):
        return NotImplemented
    if node.op.name == "einsum":
        subscripts = node.params["subscripts"]
    else:
        subscripts = _subscripts(node.op.name, *(len(low.shape(x)) for x in operands))
    inputs, output = subscripts.split("->")
    labels = inputs.split(",")
    views = [low.view(x) for x in operands]
    lengths: dict[str, Affine] = {}
    for names, view in zip(labels, views, strict=True):
        for label, n in zip(names, view.shape, strict=True):
            if label not in lengths or lengths[label].known == 1:
                lengths[label] = n
    summed = [label for label in lengths if label not in output]
    made = low.array(dtype, tuple(lengths[label] for label in output))
    if len(views) == 2 and dtype.kind == "f" and all(view.dtype == dtype for view in views):
        groups = _groups(labels, output, lengths)
        if groups is not None and low.libraries:
            _multiply(low, groups, labels, views, output, lengths, made)
            return made
    zero = Const(dtype.type(0), dtype)

    def term(at: dict[str, Affine]) -> Any:
        found: Any = None
        for names, view in zip(labels, views, strict=True):
            index = [ZERO if n.known == 1 else at[label] for label, n in zip(names, view.shape, strict=True)]
            factor = convert(view.load(index), dtype)
            found = factor if found is None else Apply("multiply", (found, factor), dtype)
        return found

    if not output or all(not names or names[-1] in summed for names in labels):
        with low.nest(made.shape) as outer:
            cell = Buffer(Storage(dtype, (), "temporary"), ())
            low.do(Store(cell, (), zero))
            with low.nest([lengths[label] for label in summed]) as inner:
                at = dict(zip([*output, *summed], [*outer, *inner], strict=True))
                low.do(Accumulate("add", cell, (), term(at)))
            low.do(Store(made.buffer, made.at(outer), Load(cell, ())))
    else:
        with low.nest(made.shape) as outer:
            low.do(Store(made.buffer, made.at(outer), zero))
        order = [*output[:-1], *summed, output[-1]]
        with low.nest([lengths[label] for label in order]) as index:
            at = dict(zip(order, index, strict=True))
            low.do(Accumulate("add", made.buffer, made.at([at[label] for label in output]), term(at)))
    return made if result.shape else low.let(made.load(()))


# ------------------------------------------------------------------------------------------------------- matrices

_WORTH_A_CALL = 24**3
"""The multiplications from which on a product of matrices is left to the library."""


class _Groups(NamedTuple):
    """The labels of a product of stacks of matrices, by what they stand for; each group together in every operand."""

    stack: str
    rows: str
    summed: str
    columns: str


def _groups(labels: Sequence[str], output: str, lengths: dict[str, Affine]) -> _Groups | None:
    """A contraction as a product of matrices, if it is one, and large."""
    a, b = labels
    if len(set(a)) < len(a) or len(set(b)) < len(b) or any(n.known == 1 for n in lengths.values()):
        return None
    found = _Groups(
        stack="".join(label for label in output if label in a and label in b),
        rows="".join(label for label in a if label not in b),
        summed="".join(label for label in a if label in b and label not in output),
        columns="".join(label for label in b if label not in a),
    )
    homes = {found.rows: (a, output), found.summed: (a, b), found.columns: (b, output)}
    if len(homes) < 3 or not all(group and all(group in names for names in known) for group, known in homes.items()):
        return None
    size = 1
    for label in found.rows + found.summed + found.columns:
        n = lengths[label].known
        if n is None and len(homes) < len(lengths) - len(found.stack):
            return None
        size *= 64 if n is None else n
    return found if size >= _WORTH_A_CALL else None


def _multiply(
    low: Lowering,
    groups: _Groups,
    labels: Sequence[str],
    views: Sequence[View],
    output: str,
    lengths: dict[str, Affine],
    made: View,
) -> None:
    """Call the library for each pair of matrices of the stacks."""
    a, b = (_merged(low, view, names, groups, lengths) for view, names in zip(views, labels, strict=True))
    c = _merged(low, made, output, groups, lengths)
    rows, summed, columns = (group[0] for group in groups[1:])
    a = a if _strided(a[0], a[1].index(rows), a[1].index(summed)) else (low.fresh(a[0]), a[1])
    b = b if _strided(b[0], b[1].index(summed), b[1].index(columns)) else (low.fresh(b[0]), b[1])
    with low.nest([lengths[label] for label in groups.stack]) as index:
        at = dict(zip(groups.stack, index, strict=True))
        left, right = _matrix(*a, at, (rows, summed)), _matrix(*b, at, (summed, columns))
        product = _matrix(*c, at, (rows, columns))
        if c[1].index(rows) > c[1].index(columns):
            # The transpose of a product is the product of the transposes, the other way round.
            left, right = right.transposed((1, 0)), left.transposed((1, 0))
            product = product.transposed((1, 0))
        low.do(LibraryCall("gemm", (left, right), product))


def _merged(low: Lowering, view: View, names: str, groups: _Groups, lengths: dict[str, Affine]) -> tuple[View, str]:
    """An operand with each group of labels as one axis, which has the name of the first."""
    short = names
    for group in groups[1:]:
        short = short.replace(group, group[0])
    sizes = {group[0]: _product_of([lengths[label] for label in group]) for group in groups[1:]}
    shape = tuple(sizes.get(label, lengths[label]) for label in short)
    return (view, names) if short == names else (reshaped(low, view, shape), short)


def _product_of(lengths: Sequence[Affine]) -> Affine:
    total = lengths[0]
    for n in lengths[1:]:
        total = total * (n.known or 0)
    return total


def _strided(view: View, first: int, second: int) -> bool:
    """Whether one of two axes of a view goes along memory, and the other in steps of whole rows."""
    moves: dict[int, list[tuple[int, int]]] = {}
    for d, (_, steps) in enumerate(view.places):
        for axis, step in steps:
            moves.setdefault(axis, []).append((d, step))
    last = len(view.places) - 1
    for inner, outer in ((second, first), (first, second)):
        if moves.get(inner) == [(last, 1)] and len(moves.get(outer, ())) == 1:
            ((d, step),) = moves[outer]
            return d < last and step > 0
    return False


def _matrix(view: View, labels: str, at: dict[str, Affine], pair: tuple[str, str]) -> View:
    """One matrix of a stack."""
    places = [
        along(pair.index(label)) if label in pair else ((ZERO if n.known == 1 else at[label]), ())
        for label, n in zip(labels, view.shape, strict=True)
    ]
    return view.seen(places, tuple(view.shape[labels.index(label)] for label in pair))
