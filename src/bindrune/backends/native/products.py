"""Lowering of products: each is a contraction of labelled axes, a nest of loops over all labels.

A label along which the operands are only repeated is left out, and the result is repeated along it, as the tangent of
what was broadcast is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...graph.graph import Node
from ...ops.products import explicit, route
from .contractions import contracted
from .formats import numeric
from .loops import Accumulate, Affine, Apply, Buffer, Const, Load, Storage, Store
from .lower import Location, Lowering, convert, rule
from .views import ZERO, Place, View, along

__all__: list[str] = []

_MUCH = 2.0
"""How many times as many operations one nest over all labels must take as several nests over some."""


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


def _along_memory(view: View, labels: str) -> str | None:
    """The label whose axis goes along memory, if it is one of the view's."""
    moving = [labels[axis] for axis, step in view.places[-1][1] if step == 1] if view.places else []
    return moving[0] if len(moving) == 1 else None


def _without_repetition(view: View, labels: str, output: str, lengths: Mapping[str, Affine]) -> tuple[View, str]:
    """An operand without the axes along which it is only repeated, and so is the result as far as it depends on it."""
    moving = {axis for _, steps in view.places for axis, step in steps if step}
    kept = [i for i, label in enumerate(labels) if i in moving or label not in output or lengths[label].known == 1]
    places: list[Place] = [along(kept.index(i)) if i in kept else (ZERO, ()) for i in range(len(labels))]
    return view.seen(places, tuple(view.shape[i] for i in kept)), "".join(labels[i] for i in kept)


@rule("matmul", "dot", "inner", "vdot", "vecdot", "matvec", "vecmat", "einsum")
def _product(low: Lowering, node: Node, operands: list[Location]) -> Any:
    result = node.results[0]
    dtype = result.dtype
    if dtype.kind == "b" or dtype.itemsize == 2 or not all(map(numeric, (dtype, *(x.dtype for x in operands)))):
        return NotImplemented
    if node.op.name == "einsum":
        subscripts = node.params["subscripts"]
    else:
        subscripts = _subscripts(node.op.name, *(len(low.shape(x)) for x in operands))
    inputs, wanted = subscripts.split("->")
    labels = inputs.split(",")
    views = [low.view(x) for x in operands]
    lengths: dict[str, Affine] = {}
    for names, view in zip(labels, views, strict=True):
        for label, n in zip(names, view.shape, strict=True):
            if label not in lengths or lengths[label].known == 1:
                lengths[label] = n
    found = [_without_repetition(view, names, wanted, lengths) for view, names in zip(views, labels, strict=True)]
    views, labels = [view for view, _ in found], [names for _, names in found]
    output = "".join(label for label in wanted if any(label in names for names in labels))
    made = _contraction(low, views, labels, output, lengths, dtype)
    if not result.shape:
        return low.let(made.load(()))
    return made.seen([along(wanted.index(label)) for label in output], tuple(lengths[label] for label in wanted))


def _in_pairs(
    low: Lowering,
    views: Sequence[View],
    labels: Sequence[str],
    output: str,
    lengths: Mapping[str, Affine],
    dtype: np.dtype[Any],
) -> tuple[Sequence[View], Sequence[str]]:
    """What is left of several operands when all but the last contraction are done, if that saves much."""
    shapes = tuple(tuple(lengths[label].guess for label in names) for names in labels)
    steps, speedup = route(f"{','.join(labels)}->{output}", shapes)
    if speedup < _MUCH:
        return views, labels
    rest = list(zip(views, labels, strict=True))
    for places, step in steps[:-1]:
        taken = [rest.pop(place) for place in places]
        made = step.partition("->")[2]
        found = _contraction(low, [view for view, _ in taken], [names for _, names in taken], made, lengths, dtype)
        rest.append((found, made))
    return [view for view, _ in rest], [names for _, names in rest]


def _contraction(
    low: Lowering,
    views: Sequence[View],
    labels: Sequence[str],
    output: str,
    lengths: Mapping[str, Affine],
    dtype: np.dtype[Any],
) -> View:
    """The sum of the products of operands' elements over all labels that the output does not have."""
    if len(views) > 2:
        views, labels = _in_pairs(low, views, labels, output, lengths, dtype)
    summed = [label for label in lengths if label not in output and any(label in names for names in labels)]
    if dtype.kind == "c":
        views = [v if v.dtype == dtype else low.map(lambda x: convert(x, dtype), [v], dtype) for v in views]
    if low.libraries and len(views) == 2 and dtype.kind in "fc" and all(view.dtype == dtype for view in views):
        found = contracted(low, views, labels, output, lengths)
        if found is not None:
            return found
    made = low.array(dtype, tuple(lengths[label] for label in output))
    zero = Const(dtype.type(0), dtype)

    def term(at: dict[str, Affine]) -> Any:
        found: Any = None
        for names, view in zip(labels, views, strict=True):
            index = [ZERO if n.known == 1 else at[label] for label, n in zip(names, view.shape, strict=True)]
            factor = convert(view.load(index), dtype)
            found = factor if found is None else Apply("multiply", (found, factor), dtype)
        return found

    moving = [_along_memory(view, names) for view, names in zip(views, labels, strict=True)]
    if not output or all(label is None or label in summed for label in moving):
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
    return made
