"""What users ask of staging beside `jit`: the graph of a function, the types of its results, what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import trees
from ..graph.cost import cost_of
from ..graph.graph import Graph
from .callbacks import io_callback, progress, pure_callback
from .jit import Jit, disable_jit, jit
from .path import Path, record
from .signature import Dynamic, Signature

__all__ = [
    "Dynamic",
    "ShapeDtype",
    "cost",
    "disable_jit",
    "eval_shape",
    "io_callback",
    "jit",
    "make_graph",
    "progress",
    "pure_callback",
    "recorded",
]


class ShapeDtype:
    """The shape and dtype of an array, without the array.

    >>> import numpy as np, bindrune as br
    >>> br.eval_shape(lambda x: x @ x.T, br.ShapeDtype((3, 2), np.float32))
    ShapeDtype(shape=(3, 3), dtype=float32)
    """

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeDtype) and (self.shape, self.dtype) == (other.shape, other.dtype)

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        return f"ShapeDtype(shape={self.shape}, dtype={self.dtype})"


def recorded(f: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Path, Signature]:
    """A function staged for some arguments, and their signature."""
    function = f if isinstance(f, Jit) else Jit(f)
    given, named = trees.map_leaves(_blank, (arguments, keywords))
    signature = Signature(function.statics, given, named, function.dynamic)
    return record(function, signature, True), signature


def _blank(leaf: Any) -> Any:
    """Zeros for what only has a shape and a dtype; they take no memory that is not touched."""
    return np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, ShapeDtype) else leaf


def make_graph(f: Callable[..., Any]) -> Callable[..., Graph]:
    """The graph of a function: what `jit` stages, as something to read.

    Args:
        f: a function of arrays, numbers and trees of them.

    Returns:
        A function of the arguments of `f` (or of `ShapeDtype`s in place of arrays) that gives the graph.

    >>> import numpy as np, bindrune as br
    >>> graph = br.make_graph(lambda x: np.sin(x) * 2)(np.ones(3))
    >>> [node.op.name for node in graph.nodes]
    ['sin', 'multiply']
    """
    return lambda *arguments, **keywords: recorded(f, arguments, keywords)[0].graph


def eval_shape(f: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """The shapes and dtypes of a function's results, without computing them.

    Args:
        f: a function of arrays, numbers and trees of them.
        arguments: its arguments, or `ShapeDtype`s in place of arrays.
        keywords: its keyword arguments.

    Returns:
        A tree like the result, of `ShapeDtype`s.

    >>> import numpy as np, bindrune as br
    >>> br.eval_shape(lambda x: {"mean": x.mean(0)}, np.ones((4, 3)))
    {'mean': ShapeDtype(shape=(3,), dtype=float64)}
    """
    return recorded(f, arguments, keywords)[0].shapes(lambda t: ShapeDtype(t.shape, t.dtype))  # type: ignore[arg-type]


def cost(f: Callable[..., Any]) -> Callable[..., Any]:
    """What a function costs: floating-point operations, bytes moved, memory at its peak, in all and for each line.

    Of a gradient ``bytes_kept`` says how much a loop's tape takes, for all of its steps.

    Args:
        f: a function of arrays, numbers and trees of them.

    Returns:
        A function of the arguments of `f` that gives a `Cost`.

    >>> import numpy as np, bindrune as br
    >>> br.cost(lambda a, b: a @ b)(np.ones((10, 20)), np.ones((20, 5))).flops
    2000
    """
    return lambda *arguments, **keywords: cost_of(recorded(f, arguments, keywords)[0].graph)
