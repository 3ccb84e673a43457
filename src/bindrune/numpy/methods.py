"""What `ndarray` has, a stand-in has: operators, methods, attributes, conversions.

They are attached to `Array` here because they need the operations.  An operator performs its operation at once; a
method calls the NumPy function of its name.  Conversions to Python numbers are exact for constants, for conditions
and for counting; a conversion that would freeze a followed value into a float is refused.
"""

from __future__ import annotations

import contextlib
import itertools
import linecache
import numbers
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core.array import Array, View, concrete, is_numeric, is_scalar, is_staged, peek
from ..core.errors import EscapedValueError, UnreachableError, UnsupportedError, user_frames, user_line
from ..core.handler import HOST
from ..core.operation import perform_binary, perform_unary, registry
from ..core.protocol import FUNCTIONS, hooks
from ..ops import elementwise, views  # noqa: F401  (the operations are defined when their module is imported)
from ..ops.scalars import as_python, rounded

__all__: list[str] = []


def _attach(name: str, value: Any, kind: type[Array] = Array) -> None:
    if callable(value) and not isinstance(value, type):
        value.__name__ = name
        value.__qualname__ = f"Array.{name}"
    setattr(kind, name, value)


# ---------------------------------------------------------------------------------------------------- operators

_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}
_COMPARE = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
_UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def _on_one(op: Any) -> Callable[[Any], Any]:
    return lambda self: perform_unary(op, self)


_OPERANDS = frozenset({Array, View, np.ndarray, list, tuple, float, int, bool, complex}) | {
    np.dtype(code).type for code in "?bBhHiIlLqQefdgFDG"
}


def _leaves_to(self: Array, other: Any, reflected: str) -> bool:
    """Whether an object has an operator of its own, which then must see the stand-in rather than its value."""
    kind: Any = type(other)
    if kind in _OPERANDS or not hasattr(kind, reflected) or isinstance(other, numbers.Rational):
        return False
    if hasattr(kind, "__array_ufunc__"):
        return kind.__array_ufunc__ is None
    if not self.shape or getattr(kind, "__array_priority__", -1) > 0:
        return True
    raise UnsupportedError(
        f"{user_line()}: of an array and an object of class {kind.__name__} NumPy makes an array of objects, which has "
        "no rule for traced values. Take the object first, or give its class __array_ufunc__ = None."
    )


def _forward(op: Any, reflected: str) -> Callable[[Any, Any], Any]:
    def method(self: Array, other: Any) -> Any:
        kind = type(other)
        if kind is Array and type(self) is Array:  # what `perform_binary` does, without calling it
            left, right = self._handler, other._handler
            return (left if left.level >= right.level else right).binary(op, self, other)
        if kind not in _OPERANDS:
            if _leaves_to(self, other, reflected):
                return NotImplemented
            other = float(other) if isinstance(other, numbers.Rational) else other
        return perform_binary(op, self, other)

    return method


def _comparing(op: Any) -> Callable[[Any, Any], Any]:
    return lambda self, other: perform_binary(op, self, other)


def _reflected(op: Any) -> Callable[[Any, Any], Any]:
    return lambda self, other: perform_binary(op, other, self)


def _augmented(op: Any, reflected: str) -> Callable[[Any, Any], Any]:
    def method(self: Array, other: Any) -> Any:
        if type(other) not in _OPERANDS and _leaves_to(self, other, reflected):
            return NotImplemented
        return store(self, op(self, other), op.name)

    return method


def store(cell: Array, result: Array, name: str) -> Array:
    """What ``cell op= other`` leaves in the name: numbers are immutable, arrays are written."""
    if not cell.shape and is_scalar(cell):
        return result
    if result.shape != cell.shape:
        raise ValueError(
            f"non-broadcastable output operand with shape {cell.shape} doesn't match the broadcast shape {result.shape}"
        )
    if not np.can_cast(result.dtype, cell.dtype, "same_kind"):
        raise TypeError(
            f"Cannot cast ufunc {name!r} output from {result.dtype!r} to {cell.dtype!r} with casting rule 'same_kind'"
        )
    views.assign(cell, result)
    return cell


_SEQUENCES = frozenset({list, tuple, str, bytes})


def _repeating(multiply: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Multiplication that repeats Python's sequences, as integers of Python's and of NumPy's do."""

    def method(self: Array, other: Any) -> Any:
        if type(other) in _SEQUENCES and is_scalar(self) and self.dtype.kind in "biu":
            return other * operator.index(concrete(self))
        return multiply(self, other)

    return method


for _name, _op in _BINARY.items():
    _attach(f"__{_name}__", _forward(registry[_op], f"__r{_name}__"))
    _attach(f"__r{_name}__", _reflected(registry[_op]))
    _attach(f"__i{_name}__", _augmented(registry[_op], f"__r{_name}__"))
for _name in ("__mul__", "__rmul__"):
    _attach(_name, _repeating(vars(Array)[_name]))
for _name, _op in _COMPARE.items():
    _attach(f"__{_name}__", _comparing(registry[_op]))
for _name, _op in _UNARY.items():
    _attach(f"__{_name}__", _on_one(registry[_op]))


_power = _forward(registry["power"], "__rpow__")


def _pow(self: Array, other: Any, modulus: Any = None) -> Any:
    return _power(self, other) if modulus is None else pow(*map(concrete, (self, other, modulus)))


_attach("__pow__", _pow)


def _divmod(self: Array, other: Any) -> tuple[Any, Any]:
    return self // other, self % other


def _rdivmod(self: Array, other: Any) -> tuple[Any, Any]:
    return other // self, other % self


_attach("__divmod__", _divmod)
_attach("__rdivmod__", _rdivmod)
_attach(
    "__matmul__",
    lambda self, other: NotImplemented if _leaves_to(self, other, "__rmatmul__") else FUNCTIONS[np.matmul](self, other),
)
_attach("__rmatmul__", lambda self, other: FUNCTIONS[np.matmul](other, self))
_attach("__imatmul__", lambda self, other: store(self, FUNCTIONS[np.matmul](self, other), "matmul"))

_OF_FLOATS = frozenset({"is_integer", "hex"})
"""Methods of Python's floats that decide or show."""


def _of_numbers(name: str) -> property:
    """What only Python's own numbers can do they do with the value of this call."""

    def get(self: Array) -> Any:
        kind = _kind(self)
        if (kind is int and hasattr(int, name)) or (kind is float and name in _OF_FLOATS):
            return getattr(concrete(self), name)
        raise AttributeError(_lack(kind, name), name=name, obj=self)

    return property(get)


def _kind(self: Array) -> Any:
    """The class of what plain code would hold here."""
    return np.ndarray if self.shape else type(peek(self))


def _lack(kind: Any, name: str) -> str:
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"'{module}{kind.__name__}' object has no attribute {name!r}"


def _reword(error: BaseException) -> None:
    """Let what Python says of an attribute that a stand-in lacks speak of what plain code would hold.

    Were it said by ``__getattr__`` instead, every look at a stand-in would be slower.
    """
    if not isinstance(error, AttributeError) or not isinstance(error.obj, Array):
        return
    if error.args == (f"{type(error.obj).__name__!r} object has no attribute {error.name!r}",):
        with contextlib.suppress(EscapedValueError):
            error.args = (_lack(_kind(error.obj), str(error.name)),)


hooks.reword = _reword

# ------------------------------------------------------------------------------------------ indexing and iteration

_attach("__getitem__", views.read_at)


def _setitem(self: Array, index: Any, value: Any) -> None:
    if not self.shape and is_scalar(self):
        raise TypeError(f"{user_line()}: a NumPy number does not support item assignment")
    views.write_at(self, index, value)


def _iter(self: Array) -> Iterator[Any]:
    if not self.shape:
        raise TypeError("iteration over a 0-d array")
    return (self[i] for i in range(self.shape[0]))


def _len(self: Array) -> int:
    if not self.shape:
        raise TypeError("len() of unsized object")
    return self.shape[0]


def _contains(self: Array, value: Any) -> bool:
    return bool(np.any(concrete(self == value)))


_attach("__setitem__", _setitem)
_attach("__iter__", _iter)
_attach("__len__", _len)
_attach("__contains__", _contains)

# --------------------------------------------------------------------------------------------------- conversions


def _follows(cell: Array) -> bool:
    """Whether some handler still follows the value (so that a copy of it would lose derivatives or lanes)."""
    return cell.read()._handler is not HOST


def _refuse(self: Array, what: str) -> UnreachableError:
    text = _expression()
    name = re.match(r"[\w.]*?(\w+)\(", text)
    kind = getattr(np, name[1], None) if name else None
    if name and hasattr(np.random.Generator, name[1]):
        remedy = (
            "Draw standard numbers and transform them (loc + scale * rng.standard_normal()), use br.random, or hold "
            "the parameter constant with br.stop_gradient."
        )
    elif isinstance(kind, type) and issubclass(kind, np.number):
        remedy = f"Use np.asarray(value, np.{name[1]})[()], or value.astype(np.{name[1]}) of an array."  # type: ignore[index]
    else:
        remedy = "Use the NumPy function of that name, or br.numpy; for printing use an f-string."
    return UnreachableError(
        f"{user_line()}: {text and text + ': '}{what} of a value that {self.read()._handler.origin} is following. Code "
        "that lifting does not reach (a C function, or a library that converts its arguments) would see a frozen "
        f"constant here. {remedy}"
    )


def _expression() -> str:
    """What the user's code is evaluating, as it is written there; empty where the source is not at hand."""
    frame = next(user_frames(), None)
    if frame is None:
        return ""
    places = itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None)
    first, last, start, stop = next(places, (None,) * 4)
    if first is None or last is None or start is None or stop is None:
        return ""
    lines = [linecache.getline(frame.f_code.co_filename, n).encode() for n in range(first, last + 1)]
    lines[-1] = lines[-1][:stop]
    lines[0] = lines[0][start:]
    return " ".join(line.decode().strip() for line in lines)


def _float(self: Array) -> float:
    if _follows(self):
        raise _refuse(self, "float()")
    return float(concrete(self))


def _complex(self: Array) -> complex:
    if _follows(self):
        raise _refuse(self, "complex()")
    return complex(concrete(self))


def _array(self: Array, dtype: Any = None, copy: bool | None = None) -> Any:
    if _follows(self):
        raise _refuse(self, "conversion to a plain ndarray")
    value = np.asarray(concrete(self), dtype=dtype)
    if copy:
        return value.copy()
    value = value.view()
    value.flags.writeable = False
    return value


def _hash(self: Array) -> int:
    if self.shape or not is_scalar(self):
        raise TypeError("unhashable type: 'numpy.ndarray'")
    if _follows(self) and not self.read()._handler.symbolic:
        # Equal keys would be one, but derivatives with respect to them are two.
        raise _refuse(self, "hash() (for a set, a dict or a cache)")
    return hash(concrete(self))


def _reduce(self: Array, protocol: Any) -> Any:
    if _follows(self):
        raise _refuse(self, "pickling")
    return concrete(self).__reduce_ex__(protocol)


def _conjugate(self: Array) -> Any:
    kind: Any = np.ndarray if self.shape else type(peek(self))
    return as_python(np.conjugate(self), kind) if kind in (int, float, complex) else np.conjugate(self)


def _round(self: Array, digits: Any = None) -> Any:
    if not is_scalar(self):
        raise TypeError("type numpy.ndarray doesn't define __round__ method")
    if digits is None or type(peek(self)) in (int, float):
        return rounded(self, digits=None if digits is None else operator.index(digits))
    return FUNCTIONS[np.round](self, digits)


def _view(self: Array, *arguments: Any, **keywords: Any) -> Any:
    if arguments in ((), (np.ndarray,)) and not keywords:
        return self[...]
    raise UnsupportedError(f"{user_line()}: a view of a stand-in as {(*arguments, *keywords.values())} has no rule")


def _shown(self: Array) -> Any:
    """What a text shows of a stand-in."""
    return concrete(self) if is_staged(self) else peek(self)


def _repr(self: Array) -> str:
    try:
        cell = self.read()
        if cell._handler.symbolic:
            return repr(concrete(cell))
        return f"{type(self).__name__}({peek(cell)!r}, of {cell._handler.origin})"
    except EscapedValueError:
        return f"{type(self).__name__}(of {self.root._handler.origin}, which has ended)"


_attach("__bool__", lambda self: bool(concrete(self)))
_attach("__int__", lambda self: int(concrete(self)))
_attach("__index__", lambda self: operator.index(concrete(self)))
_attach("__float__", _float)
_attach("__complex__", _complex)
_attach("__array__", _array)
_attach("__array_wrap__", lambda self, array, context=None, return_scalar=False: array)
_attach("__hash__", _hash)
_attach("__repr__", _repr)
_attach("__str__", lambda self: str(_shown(self)))
_attach("__format__", lambda self, spec: format(_shown(self), spec))

# ------------------------------------------------------------------------------------------ attributes and methods


def _method(function: Any) -> Callable[..., Any]:
    def method(self: Array, *arguments: Any, **keywords: Any) -> Any:
        return FUNCTIONS[function](self, *arguments, **keywords)

    return method


def _size(self: Array) -> int:
    size = 1
    for n in self.shape:
        size *= n
    return size


def _astype(
    self: Array, dtype: Any, order: Any = "K", casting: Any = "unsafe", subok: bool = True, copy: bool = True
) -> Any:
    target = np.dtype(dtype)
    if self.dtype == target and not copy:
        return self
    if not np.can_cast(self.dtype, target, casting):
        raise TypeError(f"Cannot cast array data from {self.dtype!r} to {target!r} according to the rule {casting!r}")
    if not is_numeric(target):
        if _follows(self):
            raise _refuse(self, f"conversion to {target!r}")
        return concrete(self).astype(target, order)
    result: Array = registry["astype"](self, dtype=target)
    return result


def _fill(self: Array, value: Any) -> None:
    self[...] = value


def _itemset(self: Array, *arguments: Any) -> Any:
    """The element at an index, as a number that is still followed."""
    if not arguments:
        if _size(self) != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return registry["item"](FUNCTIONS[np.reshape](self, ()))
    index = arguments if len(arguments) > 1 else arguments[0]
    flat = self if isinstance(index, tuple) else FUNCTIONS[np.ravel](self)
    return registry["item"](flat[index])


def _tolist(self: Array) -> Any:
    if not self.shape:
        return registry["item"](self)
    return [row.tolist() for row in self]


def _transpose(self: Array, *axes: Any) -> Array:
    whole = len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list)))
    result: Array = FUNCTIONS[np.transpose](self, (axes[0] if whole else axes) or None)
    return result


def _matrix_transpose(self: Array) -> Any:
    if self.ndim < 2:
        raise ValueError("matrix transpose with ndim < 2 is undefined")
    return FUNCTIONS[np.swapaxes](self, -1, -2)


def _reshape(self: Array, *shape: Any, order: str = "C", copy: bool | None = None) -> Array:
    if len(shape) == 1:
        shape = shape[0]
    result: Array = FUNCTIONS[np.reshape](self, shape, order=order, copy=copy)
    return result


def _sort(self: Array, axis: int = -1, kind: Any = None, order: Any = None) -> None:
    self[...] = FUNCTIONS[np.sort](self, axis=axis, kind=kind, order=order)


def _partition(self: Array, kth: Any, axis: int = -1, kind: str = "introselect", order: Any = None) -> None:
    self[...] = FUNCTIONS[np.partition](self, kth, axis=axis, kind=kind, order=order)


def _set_part(name: str) -> Callable[[Array, Any], None]:
    def setter(self: Array, value: Any) -> None:
        getattr(self, name)[...] = value

    return setter


def _set_shape(self: Array, shape: Any) -> None:
    raise AttributeError(f"{user_line()}: assigning to .shape is not supported; use x = x.reshape({shape!r})")


class Flat:
    """``x.flat``: an array's elements in order, to read, write and iterate."""

    __slots__ = ("base",)

    def __init__(self, base: Array) -> None:
        self.base = base

    def __len__(self) -> int:
        return _size(self.base)

    def __iter__(self) -> Iterator[Any]:
        return (self.base[i] for i in np.ndindex(self.base.shape))

    def _places(self, index: Any) -> tuple[Any, ...]:
        if isinstance(index, tuple) and len(index) == 1:
            index = index[0]
        places = range(len(self)) if isinstance(index, (int, np.integer, slice)) else np.arange(len(self))
        return np.unravel_index(places[concrete(index)], self.base.shape)

    def __getitem__(self, index: Any) -> Any:
        return self.base[self._places(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        places = self._places(index)
        if np.ndim(value):
            # Like NumPy: the values are repeated as often as needed.
            size = np.size(places[0])
            value = FUNCTIONS[np.resize](FUNCTIONS[np.ravel](value), size)
        self.base[places] = value

    def copy(self) -> Any:
        """The elements as an array of its own."""
        return FUNCTIONS[np.ravel](self.base).copy()


def install() -> None:
    """Attach the methods that are NumPy functions of the same name."""
    names = (
        "all any argmax argmin argpartition argsort choose clip cumprod cumsum diagonal dot "
        "max mean min nonzero prod ptp put ravel repeat round searchsorted squeeze std sum swapaxes take trace var"
    )
    for name in names.split():
        _attach(name, _method(getattr(np, {"max": "amax", "min": "amin"}.get(name, name))))
    for name, method in {
        "astype": _astype,
        "conj": lambda self: np.conjugate(self),
        "conjugate": _conjugate,
        "fill": _fill,
        "item": _itemset,
        "tolist": _tolist,
        "transpose": _transpose,
        "reshape": _reshape,
        "sort": _sort,
        "partition": _partition,
        "copy": lambda self, order="C": self.snapshot() if is_scalar(self) else FUNCTIONS[np.copy](self, order),
        "compress": lambda self, condition, axis=None, out=None: FUNCTIONS[np.compress](condition, self, axis, out),
        "flatten": lambda self, order="C": FUNCTIONS[np.ravel](self, order).snapshot(),
        "view": _view,
        "__copy__": lambda self: self.snapshot(),
        "__deepcopy__": lambda self, memo: self.snapshot(),
        "__round__": _round,
        "__reduce_ex__": _reduce,
        "tobytes": lambda self, order="C": np.asarray(self).tobytes(order),
    }.items():
        _attach(name, method)
    _attach("size", property(_size))
    _attach("T", property(lambda self: FUNCTIONS[np.transpose](self)))
    _attach("mT", property(_matrix_transpose))
    _attach("flat", property(Flat, lambda self, value: Flat(self).__setitem__(slice(None), value)))
    _attach("real", property(lambda self: FUNCTIONS[np.real](self), _set_part("real")))
    _attach("imag", property(lambda self: FUNCTIONS[np.imag](self), _set_part("imag")))
    _attach("itemsize", property(lambda self: self.dtype.itemsize))
    _attach("nbytes", property(lambda self: self.dtype.itemsize * _size(self)))
    _attach("strides", property(lambda self: np.asarray(peek(self)).strides))
    _attach("flags", property(lambda self: np.asarray(peek(self)).flags))
    _attach("base", property(lambda self: self._base if type(self) is View else None))
    _attach("device", property(lambda self: "cpu"))
    for name in {*dir(int), *_OF_FLOATS}:
        if not name.startswith("_") and not hasattr(Array, name):
            _attach(name, _of_numbers(name))
    for kind in (Array, View):
        _attach("shape", vars(kind)["shape"].setter(_set_shape), kind)
