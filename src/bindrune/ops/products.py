"""Products: `matmul`, `dot` and their kin, and `einsum`.

Every product here is linear in each operand, and einsum subscripts say all there is to know of it: the cotangent of
an operand is the product of the result's cotangent with the other operands under the same labels, and a batch is one
more label.  `contract` carries out any such product by the fastest route, pair after pair, each pair as one matrix
product where it is one.  Only the results themselves come from NumPy's own routine for each name, to the last bit.

Conjugation (`vdot`, `vecdot`, `vecmat`) is not bilinear, so it happens before: the operations take the first operand
conjugated already.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import numpy as np

from ..core.array import dtype_of, ndim_of, shape_of
from ..core.handler import evaluate
from ..core.operation import Op, Row, Rows, Spec, operation, row
from .indexing import getitem

__all__ = ["conjugated", "contract", "explicit"]

# -------------------------------------------------------------------------------------------------------- subscripts


@lru_cache(maxsize=1024)
def _parts(subscripts: str) -> tuple[tuple[str, ...], str]:
    """The labels of each operand, and of the result."""
    inputs, output = subscripts.split("->")
    return tuple(inputs.split(",")), output


def _fresh(used: str) -> str:
    """A label that is not used yet."""
    return next(label for label in string.ascii_letters if label not in used)


@lru_cache(maxsize=1024)
def explicit(subscripts: str, ndims: tuple[int, ...]) -> str:
    """Subscripts with every axis labelled and the result's labels written out.

    Raises:
        ValueError: they do not fit operands of these dimensions; NumPy's own check has the better message.
    """
    subscripts = subscripts.replace(" ", "")
    given, arrow, output = subscripts.partition("->")
    inputs = given.split(",")
    free = [label for label in string.ascii_letters if label not in subscripts]
    widths = [n - len(labels.replace("...", "")) for labels, n in zip(inputs, ndims, strict=True)]
    if any(w < 0 or (w and "..." not in labels) for labels, w in zip(inputs, widths, strict=True)):
        raise ValueError(f"subscripts {subscripts!r} for operands of {ndims} dimensions")
    width = max(widths)
    rest = "".join(reversed(free[:width]))
    filled = [labels.replace("...", rest[width - w :]) for labels, w in zip(inputs, widths, strict=True)]
    if not arrow:
        named = given.replace("...", "").replace(",", "")
        output = "..." + "".join(sorted(label for label in set(named) if named.count(label) == 1))
    elif width and "..." not in output:
        raise ValueError(f"the result of {subscripts!r} lacks an ellipsis")
    output = output.replace("...", rest)
    if not f"{''.join(filled)}{output}".isalpha() and any(filled):
        raise ValueError(f"subscripts {subscripts!r}")
    return f"{','.join(filled)}->{output}"


# ------------------------------------------------------------------------------------------------------- contraction


def contract(subscripts: str, *operands: Any) -> Any:
    """`np.einsum` of explicit subscripts by the fastest route, which need not be NumPy's to the last bit."""
    inputs, output = _parts(subscripts)
    if len(operands) == 1:
        return _reduced(operands[0], inputs[0], output)
    if len(operands) == 2:
        return _pair(inputs[0], inputs[1], output, *operands)
    rest = list(operands)
    for places, step in route(subscripts, tuple(map(np.shape, operands))).steps:
        rest.append(contract(step, *(rest.pop(place) for place in places)))
    return rest[0]


class Route(NamedTuple):
    """The cheapest way found to contract several operands."""

    steps: list[tuple[tuple[int, ...], str]]
    """Which operands to take next, in the order in which they are taken off the list, and their subscripts; what they
    make comes last on the list."""
    speedup: float
    """How many times as many operations all labels at once would take."""


@lru_cache(maxsize=1024)
def route(subscripts: str, shapes: tuple[tuple[int, ...], ...]) -> Route:
    """The steps of a contraction with explicit subscripts."""
    import opt_einsum

    _, information = opt_einsum.contract_path(subscripts, *shapes, shapes=True)
    return Route([(step[0], step[2]) for step in information.contraction_list], float(information.speedup))


def _reduced(x: Any, labels: str, output: str) -> Any:
    """One operand with its axes as `output` wants them: diagonals taken, the others summed."""
    return x if labels == output else np.einsum(f"{labels}->{output}", x)


def _transposed(x: Any, axes: tuple[int, ...]) -> Any:
    return x.transpose(axes) if type(x) is np.ndarray else np.transpose(x, axes)


Steps = list[tuple[Callable[[Any, Any], Any], Any]]
"""What to do to an array, one after the other: a function and its second argument."""


class _Plan(NamedTuple):
    """How to multiply two operands of given shapes."""

    first: Steps
    second: Steps
    subscripts: str | None
    """Those of an elementwise product; None for a product of matrices."""
    last: Steps
    turned: bool = False
    """Whether the second operand is the left factor of the product of matrices."""


def _pair(la: str, lb: str, output: str, a: Any, b: Any) -> Any:
    """The product of two operands."""
    plan = _plan(la, lb, output, shape_of(a), shape_of(b))
    a, b = _arranged(a, plan.first), _arranged(b, plan.second)
    if plan.turned:
        a, b = b, a
    return _arranged(a @ b if plan.subscripts is None else np.einsum(plan.subscripts, a, b), plan.last)


def _arranged(x: Any, steps: Steps) -> Any:
    for function, argument in steps:
        x = function(x, argument)
    return x


@lru_cache(maxsize=4096)
def _plan(la: str, lb: str, output: str, shape_a: tuple[int, ...], shape_b: tuple[int, ...]) -> _Plan:
    first, la, sizes_a = _prepared(la, lb + output, shape_a)
    second, lb, sizes_b = _prepared(lb, la + output, shape_b)
    # An axis of length one is the same for all of the other operand: it goes.
    for steps, mine, other in ((first, sizes_a, sizes_b), (second, sizes_b, sizes_a)):
        stretched = [label for label in mine if mine[label] == 1 != other.get(label, 1)]
        if stretched:
            for label in stretched:
                del mine[label]
            steps.append((np.reshape, tuple(mine.values())))
    la, lb = "".join(sizes_a), "".join(sizes_b)
    if any((label in la) + (label in lb) + (label in output) < 2 for label in la + lb):
        rest = _plan(la, lb, output, tuple(sizes_a.values()), tuple(sizes_b.values()))
        return rest._replace(first=first + rest.first, second=second + rest.second)
    summed = [label for label in la if label in lb and label not in output]
    left = [label for label in la if label not in lb]
    right = [label for label in lb if label not in la]
    if not summed or not (left or right):
        return _Plan(first, second, f"{la},{lb}->{output}", [])
    stack = [label for label in output if label in la and label in lb]
    # The factor whose labels come first in the result is the left one.
    turned = bool(right) and (not left or output.index(right[0]) < output.index(left[0]))
    if turned:
        first += _as_matrices(sizes_a, stack, summed, left)
        second += _as_matrices(sizes_b, stack, right, summed)
        found = stack + right + left
    else:
        first += _as_matrices(sizes_a, stack, left, summed)
        second += _as_matrices(sizes_b, stack, summed, right)
        found = stack + left + right
    sizes = sizes_a | sizes_b
    last: Steps = []
    if len(left) > 1 or len(right) > 1 or (stack and not (left and right)):
        last.append((np.reshape, tuple(sizes[label] for label in found)))
    order = tuple(found.index(label) for label in output)
    if order != tuple(sorted(order)):
        last.append((_transposed, order))
    return _Plan(first, second, None, last, turned)


def _prepared(labels: str, wanted: str, shape: tuple[int, ...]) -> tuple[Steps, str, dict[str, int]]:
    """The steps to an operand whose labels are all different and all needed, those labels, and their lengths."""
    sizes = {label: n for label, n in zip(labels, shape, strict=True) if label in wanted}
    kept = "".join(sizes)
    steps: Steps = [] if kept == labels else [(lambda x, subscripts: np.einsum(subscripts, x), f"{labels}->{kept}")]
    return steps, kept, sizes


def _as_matrices(sizes: dict[str, int], stack: list[str], rows: list[str], columns: list[str]) -> Steps:
    """The steps to a stack of matrices, or to a vector; several labels may make up the rows and the columns."""
    steps: Steps = []
    labels = "".join(sizes)
    order = tuple(labels.index(label) for label in stack + rows + columns)
    if order != tuple(sorted(order)):
        steps.append((_transposed, order))
    sides = [rows, columns] if stack or (rows and columns) else [rows or columns]
    if any(len(side) != 1 for side in sides):
        lengths = (_size(sizes[label] for label in side) for side in sides)
        steps.append((np.reshape, (*(sizes[label] for label in stack), *lengths)))
    return steps


def _size(lengths: Iterable[int]) -> int:
    return reduce(lambda a, b: a * b, lengths, 1)


# -------------------------------------------------------------------------------------------------- rules for labels


def _pull(subscripts: str, position: int, ct: Any, others: Sequence[Any], of: Spec) -> Any:
    """The cotangent of one operand of a product."""
    inputs, output = _parts(subscripts)
    mine = inputs[position]
    labels, factors = [output, *inputs[:position], *inputs[position + 1 :]], [ct, *others]
    target = ""
    for label, length in zip(mine, of.shape, strict=True):
        if label in target:
            # The operand was read on a diagonal, off which its cotangent is zero.
            diagonal = label + _fresh(subscripts + target)
            labels.append(diagonal)
            factors.append(np.eye(length, dtype=dtype_of(ct)))
            label = diagonal[1]
        target += label
    met = "".join(label for label in target if any(label in known for known in labels))
    found = contract(f"{','.join(labels)}->{met}", *factors)
    lengths = dict(zip(met, np.shape(found), strict=True))
    if met != target:
        found = np.reshape(found, [lengths.get(label, 1) for label in target])
    # Along an axis that nothing else has, or has with length one, the cotangent is the same everywhere.
    whole = tuple(
        n if lengths.get(label, 1) == 1 else lengths[label] for label, n in zip(target, of.shape, strict=True)
    )
    return found if np.shape(found) == whole else np.broadcast_to(found, whole)


@lru_cache(maxsize=1024)
def _with_lanes(subscripts: str, batched: tuple[bool, ...]) -> str:
    """The subscripts of a product for all lanes at once."""
    inputs, output = _parts(subscripts)
    lane = _fresh(subscripts)
    labels = [lane + labels if b else labels for labels, b in zip(inputs, batched, strict=True)]
    return f"{','.join(labels)}->{lane}{output}"


def _batched(subscripts: str, values: Sequence[Any], batched: Sequence[bool]) -> Any:
    """A product for all lanes at once."""
    found = contract(_with_lanes(subscripts, tuple(batched)), *values)
    # A product lies in memory in the order of its axes, and that decides which reshapes of it are views.
    return np.ascontiguousarray(found) if type(found) is np.ndarray else found


Labels = Callable[[int, int], str]
"""The explicit subscripts of a product of two operands, from their dimensions."""

Pull = Callable[[Any, Any, int], Any]
"""The cotangent of one operand from the result's, the other operand and this one's dimensions; None if not known."""


def _product(name: str, implementation: Callable[..., Any], labels: Labels, left: Pull, right: Pull, rows: Rows) -> Op:
    """Define a product of two operands; `left` and `right` are short cuts for its commonest cotangents."""

    def push_left(t: Any, b: Any) -> Any:
        return evaluate(op, (t, b), {})

    def push_right(t: Any, a: Any) -> Any:
        return evaluate(op, (a, t), {})

    def pull_left(ct: Any, b: Any, of: Spec) -> Any:
        found = left(ct, b, of.ndim)
        return _pull(labels(of.ndim, ndim_of(b)), 0, ct, (b,), of) if found is None else found

    def pull_right(ct: Any, a: Any, of: Spec) -> Any:
        found = right(ct, a, of.ndim)
        return _pull(labels(ndim_of(a), of.ndim), 1, ct, (a,), of) if found is None else found

    def batch(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
        (a, b), (left, right) = values, batched
        return _batched(labels(ndim_of(a) - left, ndim_of(b) - right), values, batched)

    op = operation(
        name,
        implementation,
        jvp=(push_left, push_right),
        vjp=(pull_left, pull_right),
        operands="a b",
        batch=batch,
        rows=rows,
    )
    return op


def _no_short_cut(ct: Any, other: Any, ndim: int) -> Any:
    return None


def conjugated(x: Any) -> Any:
    """The complex conjugate; a real operand itself, uncopied."""
    return np.conjugate(x) if dtype_of(x).kind == "c" else x


# ----------------------------------------------------------------------------------------------- matrices and vectors


def _column(x: Any) -> Any:
    """A vector as a matrix."""
    return evaluate(getitem, (x,), {"index": (slice(None), None)})


def _left_of_matrices(ct: Any, b: Any, ndim: int) -> Any:
    """The cotangent of `a` in a product of vectors and matrices."""
    other = ndim_of(b)
    if ndim == 2:
        if other == 2:
            return ct @ b.T
        if other == 1:
            return _column(ct) * b
    elif ndim == 1:
        if other == 1:
            return ct * b
        if other == 2:
            return b @ ct
    return None


def _right_of_matrices(ct: Any, a: Any, ndim: int) -> Any:
    """The cotangent of `b` in a product of vectors and matrices."""
    other = ndim_of(a)
    if ndim == 2:
        if other == 2:
            return a.T @ ct
        if other == 1:
            return _column(a) * ct
    elif ndim == 1:
        if other == 1:
            return ct * a
        if other == 2:
            return ct @ a
    return None


@lru_cache
def _labels_of_matmul(n: int, m: int) -> str:
    if n == 1:
        return explicit("k,k->" if m == 1 else "k,...km->...m", (n, m))
    return explicit("...k,k->..." if m == 1 else "...nk,...km->...nm", (n, m))


@lru_cache
def _labels_of_dot(n: int, m: int) -> str:
    letters = string.ascii_letters
    a, b = letters[:n], letters[n : n + m]
    if n and m:
        # The last axis of a and the last but one of b are summed over.
        place = max(m - 2, 0)
        b = b[:place] + a[-1] + b[place + 1 :]
        return f"{a},{b}->{a[:-1]}{b[:place]}{b[place + 1 :]}"
    return f"{a},{b}->{a}{b}"


@lru_cache
def _labels_of_inner(n: int, m: int) -> str:
    letters = string.ascii_letters
    if n and m:
        a, b = letters[:n], letters[n : n + m - 1]
        return f"{a},{b}{a[-1]}->{a[:-1]}{b}"
    return _labels_of_dot(n, m)


def _real(*shape: int) -> Any:
    size = _size(shape)
    return (np.arange(size) * 0.37 % 1.9 - 0.8).reshape(shape)


def _vector_rows() -> Iterable[Row]:
    yield row(_real(4), _real(4)[::-1] + 0.2)
    yield row(_real(3).astype(np.float32), _real(3) + 0.1)
    yield row(_real(2) + 1j * _real(2)[::-1], _real(2) - 0.3j)
    yield row(_real(1), _real(1))
    yield row(_real(0), _real(0))


def _matrix_rows() -> Iterable[Row]:
    yield from _vector_rows()
    yield row(np.array([[0.5, -1.2, 2.1], [1.7, -0.4, 0.9]]), np.array([[1.1, 0.3], [-0.8, 0.6], [0.4, -1.5]]))
    yield row(_real(2, 3), _real(3))
    yield row(_real(3), _real(3, 2))
    yield row(_real(2, 3).astype(np.float32), _real(3, 2))
    yield row(_real(2, 2) + 1j * _real(2, 2).T, _real(2, 3))
    yield row(_real(1, 3), _real(3, 1))
    yield row(_real(2, 0), _real(0, 3))
    yield row(_real(2, 2, 3), _real(3))
    yield row(_real(2, 2, 3), _real(3, 2))


def _matmul_rows() -> Iterable[Row]:
    yield from _matrix_rows()
    yield row(_real(3), _real(2, 3, 2))
    yield row(_real(2, 3), _real(2, 3, 2))
    yield row(_real(2, 2, 3), _real(2, 3, 1))
    yield row(_real(2, 1, 2, 3), _real(3, 3, 2))
    yield row(_real(0, 2, 3), _real(3, 2))


def _dot_rows() -> Iterable[Row]:
    yield from _matrix_rows()
    yield row(np.float64(0.7), _real(2, 3))
    yield row(_real(3), np.float64(-1.3))
    yield row(np.float64(0.7), np.float64(-1.3))
    yield row(_real(3), _real(2, 3, 2))
    yield row(_real(2, 3), _real(2, 3, 2))
    yield row(_real(2, 1, 3), _real(2, 3, 2))


def _inner_rows() -> Iterable[Row]:
    yield from _vector_rows()
    yield row(np.float64(0.7), _real(2, 3))
    yield row(_real(3), np.float64(-1.3))
    yield row(_real(2, 3), _real(4, 3))
    yield row(_real(3), _real(2, 3))
    yield row(_real(2, 2, 3), _real(3))
    yield row(_real(2, 1, 3), _real(2, 2, 3))


matmul = _product("matmul", np.matmul, _labels_of_matmul, _left_of_matrices, _right_of_matrices, _matmul_rows)
dot = _product("dot", np.dot, _labels_of_dot, _left_of_matrices, _right_of_matrices, _dot_rows)
inner = _product("inner", np.inner, _labels_of_inner, _no_short_cut, _no_short_cut, _inner_rows)


def _vector_stack_rows() -> Iterable[Row]:
    yield from _vector_rows()
    yield row(_real(2, 3), _real(2, 3))
    yield row(_real(3), _real(2, 3))
    yield row(_real(2, 1, 3), _real(2, 3))


def _matvec_rows() -> Iterable[Row]:
    yield row(_real(2, 3), _real(3))
    yield row(_real(2, 2) + 1j * _real(2, 2).T, _real(2) - 0.3j)
    yield row(_real(4, 2, 3).astype(np.float32), _real(3))
    yield row(_real(2, 3), _real(4, 3))
    yield row(_real(2, 1, 2, 3), _real(2, 3))
    yield row(_real(2, 0), _real(0))


def _vecmat_rows() -> Iterable[Row]:
    for sample in _matvec_rows():
        matrix, vector = sample.operands
        yield row(vector, np.ascontiguousarray(np.matrix_transpose(matrix)))


vdot = _product(
    "vdot",
    lambda a, b: np.vdot(conjugated(a), b),
    lambda n, m: "k,k->",
    _left_of_matrices,
    _right_of_matrices,
    _vector_rows,
)
vecdot = _product(
    "vecdot",
    lambda a, b: np.vecdot(conjugated(a), b),
    lambda n, m: explicit("...k,...k->...", (n, m)),
    _no_short_cut,
    _no_short_cut,
    _vector_stack_rows,
)
if hasattr(np, "matvec"):
    matvec = _product(
        "matvec",
        np.matvec,
        lambda n, m: explicit("...mk,...k->...m", (n, m)),
        _no_short_cut,
        _no_short_cut,
        _matvec_rows,
    )
    vecmat = _product(
        "vecmat",
        lambda a, b: np.vecmat(conjugated(a), b),
        lambda n, m: explicit("...k,...km->...m", (n, m)),
        _no_short_cut,
        _no_short_cut,
        _vecmat_rows,
    )

# ------------------------------------------------------------------------------------------------------------ einsum


def _einsum(*xs: Any, subscripts: str, optimize: Any = False) -> Any:
    return np.einsum(subscripts, *xs, optimize=optimize)


def _push_einsum(t: Any, operands: Any, position: int, subscripts: str) -> Any:
    return contract(subscripts, *operands[:position], t, *operands[position + 1 :])


def _pull_einsum(ct: Any, operands: Any, position: int, of: Spec, subscripts: str) -> Any:
    return _pull(subscripts, position, ct, operands[:position] + operands[position + 1 :], of)


def _batch_einsum(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    return _batched(params["subscripts"], values, batched)


def _einsum_rows() -> Iterable[Row]:
    yield row(_real(2, 3), subscripts="ab->ba")
    yield row(_real(2, 3), subscripts="ab->b")
    yield row(_real(3, 3), subscripts="aa->a")
    yield row(_real(3, 3), subscripts="aa->")
    yield row(_real(2, 2, 3), subscripts="aab->b")
    yield row(_real(2, 3), _real(3, 2), subscripts="ab,bc->ac")
    yield row(_real(2, 3).astype(np.float32), _real(3, 2), subscripts="ab,bc->ca")
    yield row(_real(2, 3), _real(4), subscripts="ab,c->cb")
    yield row(_real(2, 3), _real(2, 3), subscripts="ab,ab->")
    yield row(_real(2, 2, 3), _real(2, 3, 2), subscripts="abc,acd->abd")
    yield row(_real(3, 3), _real(3, 2), subscripts="aa,ab->b")
    yield row(_real(1, 3), _real(4, 3), subscripts="ab,ab->a")
    yield row(_real(1, 3), _real(4, 3), subscripts="ab,ab->b")
    yield row(_real(2, 3), np.float64(0.4), subscripts="ab,->ab")
    yield row(_real(2, 2) + 1j * _real(2, 2).T, _real(2, 2), subscripts="ab,cb->ac")
    yield row(_real(2, 3), _real(3, 4), _real(4, 2), subscripts="ab,bc,cd->ad", optimize="greedy")
    yield row(_real(3), _real(3, 2), _real(2), subscripts="a,ab,b->")
    yield row(_real(0, 3), _real(3, 2), subscripts="ab,bc->ac")


einsum = operation(
    "einsum",
    _einsum,
    jvp=_push_einsum,
    vjp=_pull_einsum,
    operands="*xs",
    batch=_batch_einsum,
    rows=_einsum_rows,
)
