"""The stand-in: what a transformed function holds where a plain one would hold an array.

An `Array` is a mutable *cell* over an immutable value: `_value` lives one level out (an `ndarray`, a number, or the
`Array` of an outer transformation), `_handler` is the transformation that owns it, and `_mark` is what that handler
keeps beside the value (its place on a tape, its tangent).  A write gives the cell a new value, so whatever an
operation has recorded is never corrupted.  Constants belong to `HOST`, the level of plain NumPy.

A `View` knows the cell it looks into and the operation (indexing, transposition, reshaping) that leads there.  It
reads afresh after its root was written, and a write through it writes the root.

Methods and operators of `ndarray` are attached by `bindrune.numpy`, which knows the operations.  What this file
refuses: to hand a traced value to code that would freeze it into a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .protocol import FUNCTIONS, hooks

if TYPE_CHECKING:
    from .handler import Handler
    from .operation import Op

    _attached: Any = None

__all__ = [
    "Array",
    "View",
    "concrete",
    "dtype_of",
    "duplicate",
    "is_numeric",
    "is_scalar",
    "is_staged",
    "ndim_of",
    "peek",
    "shape_of",
    "unshare",
]


class Array:
    """A stand-in for an array or number inside a transformed function.

    It obeys NumPy's protocols and has `ndarray`'s attributes, methods and operators.  Users never create one.
    """

    __slots__ = ("__weakref__", "_handler", "_mark", "_value", "_version")

    _handler: Handler
    _value: Any
    _mark: Any
    _version: int

    def __init__(self, handler: Handler, value: Any, mark: Any = None) -> None:
        self._handler = handler
        self._value = value
        self._mark = mark
        self._version = 0

    if TYPE_CHECKING:
        # What `bindrune.numpy` attaches.
        __getitem__ = __setitem__ = __iter__ = __array__ = _attached
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _attached
        __floordiv__ = __mod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _attached
        __neg__ = __abs__ = __invert__ = __and__ = __or__ = _attached
        __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _attached

        def __getattr__(self, name: str) -> Any: ...

    def read(self) -> Array:
        """The cell itself; a `View` answers with a cell that holds what it shows now."""
        return self

    @property
    def root(self) -> Array:
        """The cell that owns the memory: itself, or what a chain of views leads to."""
        return self

    def snapshot(self) -> Array:
        """A cell of its own with today's contents; the values are shared until either is written."""
        return Array(self._handler, self._value, self._mark)

    def assign(self, other: Array) -> None:
        """Take over the contents of `other`, a cell nobody else writes to."""
        self._handler = other._handler
        self._value = other._value
        self._mark = other._mark
        self._version += 1

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        return hooks.ufunc(ufunc, method, inputs, keywords)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        ours = FUNCTIONS.get(function)
        if ours is None:
            ours = hooks.fallback(function)
        return ours(*arguments, **keywords)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as `ndarray.shape`."""
        return self._handler.shape(self._value)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype, as `ndarray.dtype`."""
        try:
            dtype: np.dtype[Any] = self._value.dtype
        except AttributeError:
            dtype = dtype_of(self._value)
        return dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions, as `ndarray.ndim`."""
        return len(self.shape)


class View(Array):
    """A cell that shows part of another, or all of it rearranged.

    The operands of its operation beside the base are numbers: indices of which each lane of a batch has its own.
    """

    __slots__ = ("_base", "_content", "_op", "_operands", "_params", "_seen", "_shape")

    def __init__(
        self, base: Array, op: Op, params: dict[str, Any], shape: tuple[int, ...], operands: Sequence[Array] = ()
    ) -> None:
        self._base = base
        self._op = op
        self._params = params
        self._shape = shape
        self._operands = operands
        self._content: Array | None = None
        self._seen = -1

    def read(self) -> Array:
        """A cell that holds what the view shows now.

        Once the root has been written, reads own their memory: were they NumPy views, each would force the next
        write to copy the whole root, and a loop of n writes would cost O(n^2).
        """
        version = self._base.root._version
        content = self._content
        if content is None or self._seen != version:
            content = self._op(self._base.read(), *self._operands, **self._params)
            if version:
                content = unshare(content)
            self._content, self._seen = content, version
        return content

    @property
    def root(self) -> Array:
        """The cell at the end of the chain of views."""
        return self._base.root

    def snapshot(self) -> Array:
        """A cell of its own with what the view shows now."""
        return unshare(self.read()).snapshot()  # type: ignore[no-any-return]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as `ndarray.shape`."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype, as `ndarray.dtype`."""
        return self.read().dtype


def unshare(value: Any) -> Any:
    """Make a freshly read value own its memory, at the bottom of however many levels it has."""
    if isinstance(value, Array):
        value = value.read()
        value._value = unshare(value._value)
        if isinstance(value._mark, (Array, np.ndarray)):
            value._mark = unshare(value._mark)
        return value
    if not isinstance(value, np.ndarray) or value.base is None:
        return value
    if 0 not in value.strides:
        return value.copy(order="K")
    # What is broadcast stays so: it costs no memory, and the layout of results depends on it.
    once = value[tuple(slice(None) if stride else slice(1) for stride in value.strides)]
    return np.broadcast_to(once.copy(order="K"), value.shape)


def duplicate(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy whose elements lie as those of the original do, gaps included: NumPy views and copies it alike."""
    copy = array.copy(order="K")
    if copy.strides == array.strides or array.flags.forc or 0 in array.strides:
        return copy
    low, high = np.lib.array_utils.byte_bounds(array)
    start = array.__array_interface__["data"][0] - low
    copy = np.ndarray(array.shape, array.dtype, np.empty(high - low, np.uint8), start, array.strides)
    copy[...] = array
    return copy


def peek(value: Any) -> Any:
    """The plain array or number under a value: under `vmap` that of one lane.

    For geometry (shape, strides, what is a view of what) and for kinds (scalar or array), never for results.
    """
    if isinstance(value, View):
        return value._op.implementation(peek(value._base), *map(peek, value._operands), **value._params)
    if isinstance(value, Array):
        return value._handler.peek(value._value)
    return value


def concrete(value: Any) -> Any:
    """The plain array or number a value stands for; refused where there is one for each lane."""
    while isinstance(value, Array):
        value = value.read()
        value = value._handler.concrete(value._value)
    return value


def is_staged(value: Any) -> bool:
    """Whether a value is one that only the running program has."""
    while isinstance(value, Array):
        value = value.read()
        if value._handler.symbolic:
            return True
        value = value._value
    return False


def is_scalar(value: Any) -> bool:
    """Whether plain NumPy would have a number here (immutable), rather than an array of no dimensions.

    A lane of no dimensions looks like a number, but what has been written is an array.
    """
    if isinstance(value, Array) and (value.root._version or value.shape):
        return False
    return not isinstance(peek(value), np.ndarray)


_NUMBERS: dict[type, np.dtype[Any]] = {
    bool: np.dtype(bool),
    int: np.dtype(int),
    float: np.dtype(float),
    complex: np.dtype(complex),
}


def dtype_of(value: Any) -> np.dtype[Any]:
    """The dtype of an array, a stand-in or a Python number."""
    try:
        dtype: np.dtype[Any] = value.dtype
    except AttributeError:
        known = _NUMBERS.get(type(value))
        dtype = known if known is not None else np.asarray(value).dtype
    return dtype


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of an array, a stand-in or a number, as `np.shape` but without NumPy's dispatch."""
    try:
        shape: tuple[int, ...] = value.shape
    except AttributeError:
        shape = np.shape(value)
    return shape


def ndim_of(value: Any) -> int:
    """The number of dimensions of an array, a stand-in or a number, likewise."""
    try:
        ndim: int = value.ndim
    except AttributeError:
        ndim = np.ndim(value)
    return ndim


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of a dtype hold numbers, rather than objects, records, text or dates."""
    return dtype.kind in "biufc" or (dtype.kind == "V" and dtype.names is None)
