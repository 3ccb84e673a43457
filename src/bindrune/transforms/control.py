"""Control flow as functions: `cond`, `switch`, `while_loop`, `fori_loop`, `scan`, `map`, `associative_scan`, `select`.

Python's own statements do all of this; these functions are for those who like them, and for code that comes from JAX.
They run as Python runs them, so both modes of differentiation go through them, `while_loop` included.  Where a
condition differs between the lanes of a `vmap`, both sides run and each lane selects; a loop runs until its last lane
has stopped, and lanes that have stopped keep their state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.errors import for_users
from ..lift.lanes import changing, choose, each, every, loop
from .batch import vmap
from .reverse import lowest

__all__ = ["associative_scan", "cond", "fori_loop", "map", "scan", "select", "switch", "while_loop"]


@for_users
def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """``true_fun(*operands) if pred else false_fun(*operands)``.

    Args:
        pred: a boolean, or one for each lane of a `vmap`; then both functions run and each lane selects.
        true_fun: a function of the operands.
        false_fun: another; for a `pred` that differs between lanes their results must agree in structure and shapes.
        operands: any arguments.

    Raises:
        TracedConditionError: the results of the two functions differ in structure or shape where lanes select.

    >>> import numpy as np, bindrune as br
    >>> br.vmap(lambda x: br.cond(x > 0, np.square, np.negative, x))(np.array([2.0, -3.0]))
    array([4., 3.])
    """
    return choose(pred, lambda: true_fun(*operands), lambda: false_fun(*operands))


@for_users
def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)``; where the index differs between lanes all run and each lane selects.

    Raises:
        IndexError: the index is not that of a branch.  (It is never clamped.)

    >>> import bindrune as br
    >>> br.switch(1, [lambda x: x, lambda x: 10 * x], 2.0)
    20.0
    """
    count = len(branches)
    known = not isinstance(index, Array) or not isinstance(lowest(index), Array)
    if known and np.any((np.asarray(lowest(index)) < 0) | (np.asarray(lowest(index)) >= count)):
        raise IndexError(f"br.switch: index {lowest(index)} is out of range for {count} branches")
    if not known:
        beyond = f"br.switch: index out of range for {count} branches"
        every(np.logical_and(index >= 0, index < count), lambda: IndexError(beyond))

    def chosen(i: int) -> Any:
        if i == count - 1:
            return branches[i](*operands)
        return choose(index == i, lambda: branches[i](*operands), lambda: chosen(i + 1))

    return chosen(0)


@for_users
def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any) -> Any:
    """Apply a function while a condition holds: ``while cond_fun(val): val = body_fun(val)``.

    Reverse mode works: what is recorded grows with the steps taken.  Under `vmap` each lane stops by itself.

    Args:
        cond_fun: from the value to a boolean.
        body_fun: from the value to the next one, a tree of the same structure.
        init_val: the first value.

    >>> import bindrune as br
    >>> br.grad(lambda x: br.while_loop(lambda v: v < 10, lambda v: 2 * v, x))(1.0)
    np.float64(16.0)
    """
    value = init_val

    def test() -> Any:
        return cond_fun(value)

    def body() -> None:
        nonlocal value
        value = body_fun(value)

    loop(test, body, ("value",), ("value",))
    return value


@for_users
def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """Apply a function for each index of a range: ``for i in range(lower, upper): val = body_fun(i, val)``.

    >>> import bindrune as br
    >>> br.grad(lambda x: br.fori_loop(0, 3, lambda i, v: v * x, 1.0))(2.0)
    np.float64(12.0)
    """
    value = init_val

    def body(i: Any) -> None:
        nonlocal value
        value = body_fun(i, value)

    if isinstance(lower, Array) or isinstance(upper, Array):
        _, value = while_loop(
            lambda pair: pair[0] < upper, lambda pair: (pair[0] + 1, body_fun(*pair)), (lower, init_val)
        )
        return value
    each(range(lower, upper), body, None, ("value",), ("value",))
    return value


def _length(name: str, xs: Any, length: int | None = None) -> int:
    """How many steps a loop over leading axes has."""
    what = "length"
    for i, leaf in enumerate(trees.flatten(xs)[0]):
        leading = f"the leading axis of xs{trees.leaf_path(xs, i)}"
        if not np.ndim(leaf):
            raise ValueError(f"{name}: {leading} is missing, a number has no axis to loop over")
        if length is not None and np.shape(leaf)[0] != length:
            raise ValueError(f"{name}: {what} is {length}, but {leading} is {np.shape(leaf)[0]}")
        what, length = leading, np.shape(leaf)[0]
    if length is None:
        raise ValueError(f"{name}: nothing to loop over; give xs or length")
    return length


def _join(name: str, join: Callable[[Sequence[Any]], Any], parts: Sequence[Any]) -> Any:
    """Trees of one structure, leaf by leaf joined into one."""
    columns = []
    first = trees.flatten(parts[0])[1]
    for part in parts:
        leaves, structure = trees.flatten(part)
        if structure != first:
            raise TypeError(f"{name}: results have different structures: {first} and {structure}")
        columns.append(leaves)
    return trees.unflatten(first, [join(column) for column in zip(*columns, strict=True)])


@for_users
def scan(
    f: Callable[[Any, Any], Any], init: Any, xs: Any = None, length: int | None = None, reverse: bool = False
) -> Any:
    """Loop over the leading axis of arrays with a carried value.

    Args:
        f: ``f(carry, x)`` returns ``(carry, y)``.
        init: the first carry.
        xs: an array, or a tree of arrays with equally long leading axes; None for none.
        length: the number of steps, needed when `xs` is None.
        reverse: whether to go from the last to the first.

    Returns:
        ``(carry, ys)``: the last carry, and the results stacked along a new leading axis.

    Raises:
        ValueError: `xs` holds a number or axes of different lengths, or there is no step to take.
        TypeError: `f` does not return a pair, or its results differ in structure.

    >>> import numpy as np, bindrune as br
    >>> br.scan(lambda c, x: (c + x, c + x), 0.0, np.array([1.0, 2.0, 3.0]))
    (np.float64(6.0), array([1., 3., 6.]))
    """
    steps = _length("br.scan", xs, length)
    if not steps:
        raise ValueError("br.scan: the leading axis is empty, so the results have no shape")
    leaves, structure = trees.flatten(xs)
    carry = init
    found: list[Any] = []

    def body(i: Any) -> None:
        nonlocal carry
        pair = f(carry, trees.unflatten(structure, [leaf[i] for leaf in leaves]))
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"br.scan: the function must return (carry, y), not {pair!r}")
        carry, y = pair
        changing(found, "append")(y)

    each(range(steps - 1, -1, -1) if reverse else range(steps), body, None, ("carry",), ("carry",))
    if reverse:
        found.reverse()
    return carry, _join("br.scan", np.stack, found)


@for_users
def map(f: Callable[[Any], Any], xs: Any, batch_size: int | None = None) -> Any:
    """Apply a function to each element of the leading axis, one after the other.

    Args:
        f: a function of one element.
        xs: an array, or a tree of arrays with equally long leading axes.
        batch_size: how many elements to treat at once by `vmap`; one by default.

    Returns:
        The results stacked along a new leading axis.

    >>> import numpy as np, bindrune as br
    >>> br.map(lambda x: x * x, np.array([1.0, 2.0, 3.0]), batch_size=2)
    array([1., 4., 9.])
    """
    if batch_size is None:
        return scan(lambda carry, x: (carry, f(x)), None, xs)[1]
    steps = _length("br.map", xs)
    starts = range(0, max(steps, 1), batch_size)
    chunks = [vmap(f)(trees.map_leaves(lambda leaf: leaf[i : i + batch_size], xs)) for i in starts]  # noqa: B023
    return _join("br.map", np.concatenate, chunks)


@for_users
def associative_scan(fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """All prefixes of an associative operation, in a logarithmic number of calls.

    Args:
        fn: ``fn(a, b)`` combines two trees of arrays elementwise along `axis`; associative.
        elems: an array or a tree of arrays with equally long `axis`.
        reverse: whether to combine from the end.
        axis: the axis to go along.

    The recursion (pair up, scan the pairs, fill in) is Blelloch's (Prefix sums and their applications, 1990).

    >>> import numpy as np, bindrune as br
    >>> br.associative_scan(np.multiply, np.array([1.0, 2.0, 3.0, 4.0]))
    array([ 1.,  2.,  6., 24.])
    """
    leaves, structure = trees.flatten(elems)
    arrays = [np.moveaxis(leaf, axis, 0) for leaf in leaves]
    if reverse:
        arrays = [np.flip(a, 0) for a in arrays]

    def combine(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
        whole = fn(
            trees.unflatten(structure, [np.moveaxis(x, 0, axis) for x in a]),
            trees.unflatten(structure, [np.moveaxis(x, 0, axis) for x in b]),
        )
        return [np.moveaxis(x, axis, 0) for x in trees.flatten(whole)[0]]

    def prefixes(parts: list[Any]) -> list[Any]:
        n = np.shape(parts[0])[0]
        if n < 2:
            return parts
        odd = prefixes(combine([p[: n - 1 : 2] for p in parts], [p[1::2] for p in parts]))
        rest = [p[2::2] for p in parts]
        count = np.shape(rest[0])[0]
        even = combine([o[:count] for o in odd], rest) if count else rest
        first = [np.concatenate([p[:1], e]) for p, e in zip(parts, even, strict=True)]
        return [_interleave(e, o) for e, o in zip(first, odd, strict=True)]

    found = prefixes(arrays)
    if reverse:
        found = [np.flip(a, 0) for a in found]
    return trees.unflatten(structure, [np.moveaxis(a, 0, axis) for a in found])


def _interleave(even: Any, odd: Any) -> Any:
    """The elements of two arrays in turn; the first may have one more."""
    count = np.shape(odd)[0]
    pairs = np.stack([even[:count], odd], axis=1)
    mixed = np.reshape(pairs, (2 * count, *np.shape(odd)[1:]))
    return mixed if np.shape(even)[0] == count else np.concatenate([mixed, even[count:]])


@for_users
def select(pred: Any, on_true: Any, on_false: Any) -> Any:
    """Choose between two arrays of one shape by a boolean, or elementwise by an array of that shape.

    >>> import numpy as np, bindrune as br
    >>> br.select(np.array([True, False]), np.array([1.0, 2.0]), np.array([10.0, 20.0]))
    array([ 1., 20.])
    """
    if np.shape(on_true) != np.shape(on_false):
        raise TypeError(f"br.select: the arrays have shapes {np.shape(on_true)} and {np.shape(on_false)}")
    return np.where(pred, on_true, on_false)
