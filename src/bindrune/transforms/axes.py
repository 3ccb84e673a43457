"""Named axes: what lanes of a `vmap` do together.

``vmap(f, axis_name="i")`` gives the axis a name, by which code inside can speak of all lanes at once.  One operation
carries everything: `all_gather` gives each lane the values of all lanes; its transpose sums over the lanes what each
gave to a lane.  Sums, means and extremes over lanes are those of NumPy on what was gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import trees
from ..core.array import Array
from ..core.errors import BatchSizeError, user_line
from ..core.handler import constant, evaluate, paused_below
from ..core.operation import Structured, spec_of
from .batch import Batch, named_axes
from .forward import Forward
from .programs import bare, push_results, record_results
from .reverse import Reverse

__all__ = ["all_gather", "axis_index", "axis_size", "pmax", "pmean", "pmin", "psum"]


def _handler(axis_name: str) -> Batch:
    for name, handler in reversed(named_axes.get()):
        if name == axis_name:
            return handler
    known = [name for name, _ in named_axes.get()]
    raise BatchSizeError(
        f"{user_line()}: no axis is named {axis_name!r} here (named: {known}). Name it in br.vmap(f, axis_name=...)."
    )


class _Collective(Structured):
    """A linear operation between the lanes of one axis.  One side has an axis more than the other, in front."""

    __slots__ = ("transpose",)

    transpose: _Collective

    def __call__(self, x: Any, **params: Any) -> Any:
        if isinstance(x, Array) and x.read()._handler.level >= params["axis"].level:
            return super().__call__(x, **params)
        return tuple(map(constant, self.run(x, **params)))

    def run(self, *values: Any, axis: Batch, name: str) -> tuple[Any, ...]:
        """Answer for a value that is the same in all lanes of the axis."""
        raise NotImplementedError

    def answer_forward(self, handler: Forward, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (value,), (tangent,) = handler.open(operands)
        y = evaluate(self, (value,), params)
        if paused_below() > handler.level:
            return tuple(map(constant, y))
        return push_results(handler, [bare(v) for v in y], [bare(t) for t in evaluate(self, (tangent,), params)])

    def answer_reverse(self, handler: Reverse, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (value,), (mark,) = handler.open(operands)
        y = evaluate(self, (value,), params)
        if paused_below() > handler.level or mark is None:
            return tuple(map(constant, y))

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            # A custom rule may go back in another map over the axis, when the one it went forward in has ended.
            axis = params["axis"] if params["axis"].ended is not None else _handler(params["name"])
            return [bare(v) for v in evaluate(self.transpose, cotangents, {**params, "axis": axis})]

        return record_results(handler, [bare(v) for v in y], [mark], [spec_of(value)], pull)

    def answer_batch(self, handler: Batch, operands: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
        (value,), _ = handler.open(operands)
        return (self.together(handler, value) if handler is params["axis"] else self.apart(handler, value, params),)

    def together(self, handler: Batch, value: Any) -> Array:
        """Answer for the lanes of the axis; `value` has them in front."""
        raise NotImplementedError

    def apart(self, handler: Batch, value: Any, params: dict[str, Any]) -> Array:
        """Answer for the lanes of another axis; `value` has them in front."""
        raise NotImplementedError


class _Gather(_Collective):
    """From a value of each lane to all of them, the same in every lane."""

    __slots__ = ()

    def run(self, *values: Any, axis: Batch, name: str) -> tuple[Any, ...]:
        (x,) = values
        return (np.broadcast_to(x, (axis.size, *np.shape(x))),)

    def together(self, handler: Batch, value: Any) -> Array:
        return constant(value)

    def apart(self, handler: Batch, value: Any, params: dict[str, Any]) -> Array:
        (y,) = evaluate(self, (value,), params)
        return Array(handler, bare(np.moveaxis(y, 0, 1)))


class _Scatter(_Collective):
    """From a value in each lane for every lane to the sum of what each lane was given."""

    __slots__ = ()

    def run(self, *values: Any, axis: Batch, name: str) -> tuple[Any, ...]:
        (x,) = values
        return (Array(axis, bare(axis.size * x)),)

    def together(self, handler: Batch, value: Any) -> Array:
        return Array(handler, bare(np.sum(value, axis=0)))

    def apart(self, handler: Batch, value: Any, params: dict[str, Any]) -> Array:
        (y,) = evaluate(self, (np.moveaxis(value, 1, 0),), params)
        return Array(handler, bare(y))


_gather = _Gather("all_gather")
_scatter = _Scatter("scatter_sum")
_gather.transpose, _scatter.transpose = _scatter, _gather


def all_gather(x: Any, axis_name: str, axis: int = 0) -> Any:
    """The values of all lanes, stacked along a new axis; the same in every lane.

    Args:
        x: an array or a tree of them.
        axis_name: the name of the axis, given to `vmap`.
        axis: where the new axis goes.

    Raises:
        BatchSizeError: no axis of that name is being mapped over.

    >>> import numpy as np, bindrune as br
    >>> br.vmap(lambda x: br.all_gather(x, "i"), axis_name="i")(np.array([1.0, 2.0]))
    array([[1., 2.],
           [1., 2.]])
    """
    handler = _handler(axis_name)

    def gather(leaf: Any) -> Any:
        (found,) = _gather(leaf, axis=handler, name=axis_name)
        return np.moveaxis(found, 0, axis) if axis else found

    return trees.map_leaves(gather, x)


def psum(x: Any, axis_name: str) -> Any:
    """The sum over the lanes of an axis.  Arguments and errors as `all_gather`.

    >>> import numpy as np, bindrune as br
    >>> br.vmap(lambda x: x / br.psum(x, "i"), axis_name="i")(np.array([1.0, 3.0]))
    array([0.25, 0.75])
    """
    return trees.map_leaves(lambda leaf: np.sum(all_gather(leaf, axis_name), axis=0), x)


def pmean(x: Any, axis_name: str) -> Any:
    """The mean over the lanes of an axis.  Arguments and errors as `all_gather`.

    >>> import numpy as np, bindrune as br
    >>> br.vmap(lambda x: x - br.pmean(x, "i"), axis_name="i")(np.array([1.0, 3.0]))
    array([-1.,  1.])
    """
    return trees.map_leaves(lambda leaf: np.mean(all_gather(leaf, axis_name), axis=0), x)


def pmax(x: Any, axis_name: str) -> Any:
    """The largest value over the lanes of an axis.  Arguments and errors as `all_gather`.

    >>> import numpy as np, bindrune as br
    >>> br.vmap(lambda x: br.pmax(x, "i"), axis_name="i")(np.array([1.0, 3.0]))
    array([3., 3.])
    """
    return trees.map_leaves(lambda leaf: np.max(all_gather(leaf, axis_name), axis=0), x)


def pmin(x: Any, axis_name: str) -> Any:
    """The smallest value over the lanes of an axis.  Arguments and errors as `all_gather`.

    >>> import numpy as np, bindrune as br
    >>> br.vmap(lambda x: br.pmin(x, "i"), axis_name="i")(np.array([1.0, 3.0]))
    array([1., 1.])
    """
    return trees.map_leaves(lambda leaf: np.min(all_gather(leaf, axis_name), axis=0), x)


def axis_index(axis_name: str) -> Any:
    """The number of the lane along an axis.  Errors as `all_gather`.

    >>> import numpy as np, bindrune as br
    >>> br.vmap(lambda x: x + 10 * br.axis_index("i"), axis_name="i")(np.array([1.0, 3.0]))
    array([ 1., 13.])
    """
    handler = _handler(axis_name)
    return Array(handler, np.arange(handler.size))


def axis_size(axis_name: str) -> int:
    """How many lanes an axis has.  Errors as `all_gather`.

    >>> import numpy as np, bindrune as br
    >>> br.vmap(lambda x: x * br.axis_size("i"), axis_name="i")(np.array([1.0, 3.0]))
    array([2., 6.])
    """
    return _handler(axis_name).size
