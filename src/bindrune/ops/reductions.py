"""Reductions: many elements to one, along some axes or all.

Sums and means are linear.  The others are known by the partial derivative of the result with respect to each element:
for a product that of the others together (found without division where there are zeros), for an extreme an equal
share among the elements that attain it, for a logarithm of a sum of exponentials the softmax.

All take ``where``, a mask of the elements that count, and those that NumPy gives one an ``initial`` value, as further
operands that may be absent.  ``axis`` is a tuple, or None for all axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core.handler import evaluate
from ..core.operation import Op, Row, Rows, linear, operation, row
from ..graph.dims import hooks, is_open
from .cumulative import exclusive, recurrence
from .lanes import aligned

__all__ = ["keep_axes"]

Axes = tuple[int, ...] | None

# ---------------------------------------------------------------------------------------------------------- shapes


def keep_axes(y: Any, shape: tuple[int, ...], axis: Axes, keepdims: bool) -> Any:
    """A result of reducing an array of a shape, such that it broadcasts against that array."""
    if keepdims or axis is None:
        return y
    return np.reshape(y, tuple(1 if i in axis else n for i, n in enumerate(shape)))


def _spread(ct: Any, shape: tuple[int, ...], axis: Axes, keepdims: bool) -> Any:
    """One value a group given to every element of the group."""
    if isinstance(ct, np.floating):
        if is_open(shape):
            return hooks.full(shape, ct)
        # What `broadcast_to` does, in a tenth of the time: one number in memory, shown everywhere.
        return np.ndarray(shape, ct.dtype, ct, 0, (0,) * len(shape))
    return np.broadcast_to(keep_axes(ct, shape, axis, keepdims), shape)


def _masked(values: Any, where: Any) -> Any:
    return values if where is None else np.where(where, values, 0)


def _count(shape: tuple[int, ...], where: Any, axis: Axes) -> Any:
    """How many elements a group has, in a form that broadcasts against them."""
    if where is not None:
        return np.sum(np.broadcast_to(where, shape), axis=axis, keepdims=True)
    count = 1
    for i in range(len(shape)) if axis is None else axis:
        count *= shape[i]
    return count


def _batch(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    """Reduce all lanes: the axes move by one.  What may only be one number is given lane by lane."""
    if op.operands[-1] == "initial" and True in batched[2:]:
        return NotImplemented
    x = values[0]
    ndim = np.ndim(x) - batched[0]
    if not batched[0]:
        x = np.broadcast_to(x, (size, *np.shape(x)))
    rest = [
        np.reshape(v, (size, *(1,) * (ndim + 1 - np.ndim(v)), *np.shape(v)[1:])) if b else v
        for v, b in zip(values[1:], batched[1:], strict=True)
    ]
    axis = params["axis"]
    axis = tuple(range(1, ndim + 1)) if axis is None else tuple(i + 1 for i in axis)
    return evaluate(op, (x, *rest), {**params, "axis": axis})


# ------------------------------------------------------------------------------------------------- sample operands


def _sample(
    *operands: Any, axis: Axes = None, dtype: Any = None, keepdims: bool = False, smooth: bool = True, **params: Any
) -> Row:
    return row(*operands, axis=axis, dtype=dtype, keepdims=keepdims, smooth=smooth, **params)


_POINTS = np.array([0.7, -1.3, 2.1, 0.4, -0.6, 1.8, 1.1, -2.2, 0.9, 1.6, -0.8, 0.3])


def _plain_rows(**params: Any) -> Iterable[Row]:
    cube = _POINTS.reshape(2, 3, 2)
    yield _sample(_POINTS[:5], **params)
    yield _sample(_POINTS[:6].reshape(2, 3), axis=(0,), **params)
    yield _sample(_POINTS[:6].reshape(2, 3), axis=(1,), keepdims=True, **params)
    yield _sample(cube, axis=(0, 2), **params)
    yield _sample(cube, keepdims=True, **params)
    yield _sample(cube, axis=(), **params)
    yield _sample(_POINTS[:4].astype(np.float32), axis=(0,), **params)
    yield _sample(np.float64(0.7), **params)


def _rows(*edges: Row, initial: bool = True, empty: bool = True, needs_initial: bool = False) -> Rows:
    """Rows for a reduction: axes, and as far as it takes them an initial value, nothing, a mask; edges of its own."""

    def rows() -> Iterable[Row]:
        yield from _plain_rows()
        matrix = _POINTS[:6].reshape(2, 3)
        mask = np.array([[True, False, True], [True, True, False]])
        if initial:
            yield _sample(matrix, mask, np.float64(-1.7), axis=(1,))
            yield _sample(matrix, mask[0], np.float64(3.1))
            yield _sample(matrix, True, np.float64(0.9), axis=(0,), keepdims=True)
        if empty:
            yield _sample(matrix[:, :0], axis=(1,))
        if not needs_initial:
            yield _sample(matrix, mask, axis=(1,))
        yield from edges

    return rows


_COMPLEX = np.array([[0.7 + 0.2j, -1.3 + 1j, 0.4j], [1.1 - 0.6j, 0.5, -0.8 - 0.9j]])
_complex_row = _sample(_COMPLEX, axis=(1,))

# ---------------------------------------------------------------------------------------------------- sums and means


def _implementation(ufunc: Any) -> Callable[..., Any]:
    reduce, nothing = ufunc.reduce, np._NoValue

    def implementation(
        x: Any, where: Any = True, initial: Any = nothing, *, axis: Axes, dtype: Any, keepdims: bool
    ) -> Any:
        if where is True and initial is nothing:  # which NumPy is slower to find out
            return reduce(x, axis, dtype, None, keepdims)
        return reduce(x, axis, dtype, None, keepdims, initial, where)

    return implementation


def _transpose_sum(ct: Any, of: Any, where: Any, axis: Axes, keepdims: bool) -> Any:
    spread = _spread(ct, of.shape, axis, keepdims)
    return spread if where is None else _masked(spread, where)


linear(
    "sum",
    _implementation(np.add),
    _transpose_sum,
    None,
    lambda ct: ct,
    operands="x where initial",
    batch=_batch,
    rows=_rows(_complex_row, _sample(_POINTS[:3].astype(np.float32), dtype=np.float64)),
)


def _mean(x: Any, where: Any = True, *, axis: Axes, dtype: Any, keepdims: bool) -> Any:
    return np.mean(x, axis, dtype, None, keepdims, where=where)


def _transpose_mean(ct: Any, of: Any, where: Any, axis: Axes, keepdims: bool) -> Any:
    if where is None:
        return _spread(ct / _count(of.shape, None, axis), of.shape, axis, keepdims)
    ct = keep_axes(ct, of.shape, axis, keepdims) / _count(of.shape, where, axis)
    return _masked(np.broadcast_to(ct, of.shape), where)


linear(
    "mean",
    _mean,
    _transpose_mean,
    None,
    operands="x where",
    batch=_batch,
    rows=_rows(_complex_row, initial=False, empty=False),
)

# ------------------------------------------------------------------------------------- known by partial derivatives


def _reduction(
    name: str,
    ufunc: Any,
    partial: Callable[..., Any],
    partial_in_initial: Callable[..., Any],
    rows: Rows,
) -> Op:
    """Define a reduction by its partial derivatives in each element, and in the initial value.

    Both are functions of (x, y, where, initial, axis), the result y being such that it broadcasts against x.
    """

    def slopes(x: Any, y: Any, where: Any, initial: Any, axis: Axes, keepdims: bool) -> Any:
        y = keep_axes(y, np.shape(x), axis, keepdims)
        return _masked(partial(x, y, where, initial, axis), where)

    def push(t: Any, x: Any, y: Any, where: Any, initial: Any, axis: Axes, keepdims: bool) -> Any:
        return np.sum(slopes(x, y, where, initial, axis, keepdims) * t, axis=axis, keepdims=keepdims)

    def pull(ct: Any, x: Any, y: Any, where: Any, initial: Any, axis: Axes, keepdims: bool) -> Any:
        return slopes(x, y, where, initial, axis, keepdims) * keep_axes(ct, np.shape(x), axis, keepdims)

    def move_initial(change: Any, x: Any, y: Any, where: Any, initial: Any, axis: Axes, keepdims: bool) -> Any:
        slope = partial_in_initial(x, keep_axes(y, np.shape(x), axis, keepdims), where, initial, axis)
        return np.reshape(slope, np.shape(y)) * change

    return operation(
        name,
        _implementation(ufunc),
        jvp=(push, None, move_initial),
        vjp=(pull, None, move_initial),
        operands="x where initial",
        batch=_batch,
        rows=rows,
    )


def _grouped(x: Any, axis: Axes) -> tuple[Any, Callable[[Any], Any]]:
    """An array with its groups along the last axis, and the way back for arrays like it."""
    shape = np.shape(x)
    axes = tuple(range(len(shape))) if axis is None else axis
    rest = tuple(i for i in range(len(shape)) if i not in axes)
    order = (*rest, *axes)
    grouped = np.reshape(np.transpose(x, order), (*(shape[i] for i in rest), _count(shape, None, axes)))
    inverse = tuple(np.argsort(order))
    return grouped, lambda v: np.transpose(np.reshape(v, tuple(shape[i] for i in order)), inverse)


def _flip(x: Any) -> Any:
    return np.flip(x, -1)


def _before(x: Any) -> Any:
    """For each element the product of those before it."""
    return exclusive(np.cumprod(x, axis=-1))


def _push_before(t: Any, x: Any) -> Any:
    moved = evaluate(recurrence, (x, t * _before(x)), {"reverse": False})
    return np.concatenate([np.zeros_like(x[..., :1]), moved[..., :-1]], axis=-1)


def _others(x: Any, *, axis: Axes) -> Any:
    product = np.multiply.reduce(x, axis, keepdims=True)
    size = np.abs(product)
    if np.all((size >= np.finfo(size.dtype).smallest_normal) & (size < np.inf)):
        return product / x
    x, back = _grouped(x, axis)
    return back(_before(x) * _flip(_before(_flip(x))))


def _differential_of_others(t: Any, x: Any, axis: Axes) -> Any:
    (x, back), (t, _) = _grouped(x, axis), _grouped(t, axis)
    flipped = _flip(x)
    change = _push_before(t, x) * _flip(_before(flipped))
    return back(change + _before(x) * _flip(_push_before(_flip(t), flipped)))


def _others_rows() -> Iterable[Row]:
    yield row(_POINTS[:5], axis=None)
    yield row(_POINTS[:6].reshape(2, 3), axis=(0,))
    yield row(_POINTS.reshape(2, 3, 2), axis=(0, 2))
    yield row(_POINTS[:4].astype(np.float32), axis=(0,))
    yield row(_COMPLEX, axis=(1,))
    yield row(np.array([[2.0, 3.0, 4.0], [2.0, 0.0, 4.0], [0.0, 0.0, 4.0]]), axis=(1,))
    yield row(np.array([1e200, 1e200, 3.0]), axis=None, smooth=False)
    yield row(_POINTS[:6].reshape(2, 3)[:, :0], axis=(1,))


def _batch_others(op: Op, size: int, values: Sequence[Any], batched: Sequence[bool], params: dict[str, Any]) -> Any:
    axis = range(np.ndim(values[0]) - 1) if params["axis"] is None else params["axis"]
    return evaluate(op, values, {"axis": tuple(i + 1 for i in axis)})


others = operation(
    "others",
    _others,
    jvp=_differential_of_others,
    # The second derivative of a function is symmetric.
    vjp=lambda ct, x, axis: _differential_of_others(ct, x, axis),
    batch=_batch_others,
    rows=_others_rows,
)
"""For each element the product of all others in its group: a division, exact even so where products are zero."""


def _product_of_others(x: Any, y: Any, where: Any, initial: Any, axis: Axes) -> Any:
    found = evaluate(others, (x if where is None else np.where(where, x, 1),), {"axis": axis})
    return found if initial is None else found * initial


def _product(x: Any, y: Any, where: Any, initial: Any, axis: Axes) -> Any:
    return np.prod(x if where is None else np.where(where, x, 1), axis=axis, keepdims=True)


_reduction(
    "prod",
    np.multiply,
    _product_of_others,
    _product,
    rows=_rows(
        _complex_row,
        _sample(np.array([[2.0, 3.0, 4.0], [2.0, 0.0, 4.0], [0.0, 0.0, 4.0]]), axis=(1,)),
        _sample(np.array([0.0, 2.0, 0.5])),
    ),
)


def _log_of_sum(name: str, ufunc: Any, power: Any) -> Op:
    def weight(x: Any, y: Any) -> Any:
        return power(np.where(x == y, 0, x - y))

    return _reduction(
        name,
        ufunc,
        lambda x, y, where, initial, axis: weight(x, y),
        lambda x, y, where, initial, axis: weight(initial, y),
        rows=_rows(empty=False),
    )


_log_of_sum("logsumexp", np.logaddexp, np.exp)
_log_of_sum("logsumexp2", np.logaddexp2, np.exp2)

# --------------------------------------------------------------------------------------------------------- extremes


def _attains(x: Any, y: Any) -> Any:
    return (x == y) | ((x != x) & (y != y))


def _attained(x: Any, y: Any, where: Any = True, initial: Any = None, *, axis: Axes) -> tuple[Any, Any]:
    """Which elements attain the extreme, and how many do in each group; a NaN attains another."""
    chosen = _attains(x, y) if np.any(y != y) else x == y
    chosen = chosen if where is True else chosen & where
    count = np.any(chosen, axis, keepdims=True).astype(y.dtype)
    if np.count_nonzero(chosen) != np.count_nonzero(count):  # several in a group, then, which is slower to count
        count = np.count_nonzero(chosen, axis, keepdims=True).astype(y.dtype)
    return chosen, count if initial is None else count + _attains(initial, y)


attained = operation(
    "attained",
    _attained,
    jvp=None,
    vjp=None,
    operands="x y where initial",
    batch=_batch,
    rows=lambda: [
        row(np.array([[2.0, 2.0, 0.0], [3.0, 2.0, np.nan]]), np.array([[2.0], [np.nan]]), axis=(1,)),
        row(np.array([1.0, 2.0, 2.0]), np.float64(2), np.array([True, True, False]), np.float64(2), axis=None),
    ],
)


def _deal(share: Any, chosen: Any) -> Any:
    # Few are chosen, as a rule: memory that is zero already need not be touched.
    dealt = np.zeros(np.broadcast(share, chosen).shape, share.dtype)
    np.copyto(dealt, share, where=chosen)
    return dealt


deal = linear(
    "deal",
    _deal,
    lambda ct, chosen: np.where(chosen, ct, 0),
    None,
    operands="share chosen",
    batch=aligned,
    rows=lambda: [
        row(np.array([[2.0], [3.0]]), np.array([[True, False, True], [False, False, True]])),
        row(np.float32(0.7), np.arange(20) == 4),
        row(np.array([0.7, 0.3]), np.arange(20).reshape(10, 2) == 4),
    ],
    selects=True,
)
"""Each group's share to all who are chosen in it, and zero to the others."""


def _among_attained(x: Any, y: Any, where: Any, initial: Any, axis: Axes, keepdims: bool) -> tuple[Any, Any]:
    y = keep_axes(y, np.shape(x), axis, keepdims)
    operands = [v for v in (x, y, where, initial) if v is not None]
    chosen, count = evaluate(attained, operands, {"axis": axis})
    return chosen, count


def _push_extreme(t: Any, x: Any, y: Any, where: Any, initial: Any, axis: Axes, keepdims: bool) -> Any:
    chosen, count = _among_attained(x, y, where, initial, axis, keepdims)
    return np.sum(t / count, axis=axis, keepdims=keepdims, where=chosen)


def _pull_extreme(ct: Any, x: Any, y: Any, where: Any, initial: Any, axis: Axes, keepdims: bool) -> Any:
    chosen, count = _among_attained(x, y, where, initial, axis, keepdims)
    return evaluate(deal, (keep_axes(ct, np.shape(x), axis, keepdims) / count, chosen), {})


def _move_initial(change: Any, x: Any, y: Any, where: Any, initial: Any, axis: Axes, keepdims: bool) -> Any:
    _, count = _among_attained(x, y, where, initial, axis, keepdims)
    return np.where(_attains(initial, y), change / np.reshape(count, np.shape(y)), 0)


def _extreme(name: str, ufunc: Any) -> Op:
    """Define an extreme: the elements that attain it share its derivative equally."""
    return operation(
        name,
        _implementation(ufunc),
        jvp=(_push_extreme, None, _move_initial),
        vjp=(_pull_extreme, None, _move_initial),
        operands="x where initial",
        batch=_batch,
        rows=_rows(
            _sample(np.array([[2.0, 2.0, 0.0], [-1.0, -1.0, -3.0]]), axis=(1,), smooth=False),
            _sample(np.array([1.0, np.nan, 0.0]), smooth=False),
            empty=False,
            needs_initial=True,
        ),
        selects=True,
    )


_extreme("max", np.maximum)
_extreme("min", np.minimum)
_extreme("nanmax", np.fmax)
_extreme("nanmin", np.fmin)

# --------------------------------------------------------------------------------------------------------- variance


def _var(
    x: Any, where: Any = True, mean: Any = np._NoValue, *, axis: Axes, ddof: Any, dtype: Any, keepdims: bool
) -> Any:
    return np.var(x, axis, dtype, None, ddof, keepdims, where=where, mean=mean)


def _slopes_of_variance(x: Any, where: Any, mean: Any, axis: Axes, ddof: Any) -> Any:
    if mean is None:
        mean = np.mean(x, axis=axis, keepdims=True, where=True if where is None else where)
    freedom = _count(np.shape(x), where, axis) - ddof
    freedom = max(freedom, 0) if where is None else np.maximum(freedom, 0)
    return _masked(2 * np.conjugate(x - mean) / freedom, where)


def _push_variance(t: Any, x: Any, where: Any, mean: Any, axis: Axes, ddof: Any, keepdims: bool) -> Any:
    return np.sum(_slopes_of_variance(x, where, mean, axis, ddof) * t, axis=axis, keepdims=keepdims)


def _pull_variance(ct: Any, x: Any, where: Any, mean: Any, axis: Axes, ddof: Any, keepdims: bool) -> Any:
    return _slopes_of_variance(x, where, mean, axis, ddof) * keep_axes(ct, np.shape(x), axis, keepdims)


def _variance_rows() -> Iterable[Row]:
    yield from _plain_rows(ddof=0)
    matrix = _POINTS[:6].reshape(2, 3)
    mask = np.array([[True, False, True], [True, True, True]])
    yield _sample(_COMPLEX, axis=(1,), ddof=0)
    yield _sample(matrix, axis=(1,), ddof=1)
    yield _sample(matrix, mask, axis=(1,), ddof=1)
    yield _sample(matrix, mask, np.array([[0.2], [-0.4]]), axis=(1,), ddof=0)
    yield _sample(matrix, True, np.array([[0.2, 0.1, -0.3]]), axis=(0,), ddof=0)


operation(
    "var",
    _var,
    jvp=(
        _push_variance,
        None,
        lambda t, x, where, mean, axis, ddof, keepdims: _push_variance(-t, x, where, mean, axis, ddof, keepdims),
    ),
    vjp=(
        _pull_variance,
        None,
        lambda ct, x, where, mean, axis, ddof, keepdims: _pull_variance(-ct, x, where, mean, axis, ddof, keepdims),
    ),
    operands="x where mean",
    batch=_batch,
    rows=_variance_rows,
)

# ---------------------------------------------------------------------------------------------------- no derivative


def _no_derivative_rows() -> Iterable[Row]:
    truth = np.array([[True, False, True], [False, False, False]])
    yield _sample(truth)
    yield _sample(truth, axis=(1,))
    yield _sample(truth, truth[::-1], axis=(0,), keepdims=True)
    yield _sample(truth[:, :0], axis=(1,))


for _name, _ufunc in {
    "all": np.logical_and,
    "any": np.logical_or,
    "bitwise_and_reduce": np.bitwise_and,
    "bitwise_or_reduce": np.bitwise_or,
    "bitwise_xor_reduce": np.bitwise_xor,
}.items():
    operation(
        _name,
        _implementation(_ufunc),
        jvp=None,
        vjp=None,
        operands="x where initial",
        batch=_batch,
        rows=_no_derivative_rows,
    )
