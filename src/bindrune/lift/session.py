"""Lifting: running a plain function so that what it reaches knows about stand-ins.

The same code object runs over a *view* of its globals, in which `numpy`, `math` and a few builtins answer with our
versions, and Python functions, captured arrays and objects found there are lifted as they are looked up.  No source
text is needed.  Functions defined inside a lifted function inherit its globals, so they are lifted by birth.

A `Session` lasts for one transformed call.  It remembers what it has lifted, so that an array captured by two
functions is one cell, and when the call ends it carries writes back to the caller's arrays.

What lifting cannot reach still works through NumPy's protocols, or raises; it never computes with a frozen constant.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..core.array import Array
from ..core.errors import MutationError
from ..core.handler import HOST, Handler
from .names import BUILTINS, CALLED, REPLACED, lifted_module
from .objects import lift_object

__all__ = ["Namespace", "Session", "lift"]

_PLAIN = (int, float, complex, str, bytes, bool, type(None), tuple, list, dict, set, np.generic, np.dtype, type)


class Namespace(dict[str, Any]):
    """A view of a module's globals.  What it does not hold yet is looked up there and lifted."""

    __slots__ = ("real", "session", "stored")

    def __init__(self, session: Session, real: dict[str, Any]) -> None:
        self.session = session
        self.real = real
        self.stored: set[str] = set()
        self["__builtins__"] = BUILTINS

    def __missing__(self, name: str) -> Any:
        try:
            value = self.real[name]
        except KeyError:
            value = self[name] = BUILTINS[name]
            return value
        if type(value) in _PLAIN:
            return value
        lifted = self.session.lift(value)
        if lifted is not value:
            self[name] = lifted
        return lifted


class Session:
    """Everything lifted for one transformed call."""

    __slots__ = ("arrays", "known", "owns", "views")

    def __init__(self, owns: bool = False) -> None:
        self.views: dict[int, Namespace] = {}
        self.known: dict[int, tuple[Any, Any]] = {}
        self.arrays: list[tuple[Any, Array, int | None]] = []
        self.owns = owns
        """Whether captured arrays are copied, because something (a pullback) outlives the call."""

    def lift(self, value: Any) -> Any:
        """What a lifted function sees in place of `value`."""
        kind = type(value)
        if kind is types.FunctionType:
            return self.function(value)
        if kind is np.ndarray:
            return self.cell(value)
        if isinstance(value, types.ModuleType):
            return lifted_module(value, self)
        try:
            return REPLACED[value]
        except (KeyError, TypeError):
            pass
        if kind is types.MethodType:
            function = value.__func__
            if isinstance(function, types.FunctionType):
                return types.MethodType(self.function(function), self.lift(value.__self__))
            return value
        if kind is functools.partial:
            keywords = {k: self.lift(v) for k, v in value.keywords.items()}
            return functools.partial(self.lift(value.func), *map(self.lift, value.args), **keywords)
        if isinstance(value, _PLAIN) or isinstance(value, Array):
            return value
        known = self.known.get(id(value))
        if known is None:
            known = (value, lift_object(self, value))
            self.known[id(value)] = known
        return known[1]

    def cell(self, array: np.ndarray[Any, Any]) -> Any:
        """The one cell for a captured array."""
        known = self.known.get(id(array))
        if known is None:
            if array.dtype.kind not in "biufcV":
                return array
            known = (array, self.follow(array, Array(HOST, array.copy() if self.owns else array)))
            self.known[id(array)] = known
        return known[1]

    def follow(self, array: Any, cell: Array, axis: int | None = None) -> Array:
        """Carry writes into `cell` back to the caller's `array` when the call ends."""
        self.arrays.append((array, cell, axis))
        return cell

    def function(self, function: types.FunctionType) -> types.FunctionType:
        """A Python function over a view of its globals."""
        known = self.known.get(id(function))
        if known is not None:
            lifted: types.FunctionType = known[1]
            return lifted
        if isinstance(function.__globals__, Namespace) or not is_liftable(function.__globals__):
            return function
        code, stored, assigned = _prepared(function.__code__)
        closure = function.__closure__
        cells: list[types.CellType] = []
        for name, cell in zip(code.co_freevars, closure or (), strict=True):
            cells.append(cell if name in assigned or not _captures(cell) else types.CellType())
        lifted = types.FunctionType(
            code, self.view(function.__globals__, stored), function.__name__, None, tuple(cells) if closure else None
        )
        self.known[id(function)] = (function, lifted)
        for old, new in zip(closure or (), cells, strict=True):
            if new is not old:
                new.cell_contents = self.lift(old.cell_contents)
        if function.__defaults__:
            lifted.__defaults__ = tuple(map(self.lift, function.__defaults__))
        if function.__kwdefaults__:
            lifted.__kwdefaults__ = {k: self.lift(v) for k, v in function.__kwdefaults__.items()}
        lifted.__qualname__ = function.__qualname__
        if function.__dict__:
            lifted.__dict__.update(function.__dict__)
        return lifted

    def view(self, real: dict[str, Any], stored: frozenset[str] = frozenset()) -> Namespace:
        """The view of a module's globals."""
        view = self.views.get(id(real))
        if view is None:
            view = self.views[id(real)] = Namespace(self, real)
        if stored:
            view.stored |= stored
        return view

    def finish(self, handler: Handler) -> None:
        """End the call: carry writes back, and break the cycle between views and the functions in them."""
        try:
            for array, cell, axis in self.arrays:
                if cell._version:
                    write_back(array, cell, handler, axis)
        finally:
            for view in self.views.values():
                for name in view.stored:
                    if dict.__contains__(view, name):
                        view.real[name] = view[name]
                view.clear()
                view["__builtins__"] = BUILTINS
            self.views.clear()
            self.known.clear()
            self.arrays.clear()


def write_back(array: Any, cell: Array, handler: Handler, axis: int | None) -> None:
    """Give the caller's array what the function wrote, as the code outside `handler` sees it."""
    value: Any = cell._value
    if cell._handler is handler:
        if handler.per_lane:
            if axis is None:
                raise MutationError(
                    f"{handler.origin}: an array that is the same for all lanes was written with values that differ "
                    "between them. Map over it too, or create it inside the function and return it."
                )
            value = np.moveaxis(value, 0, axis)
    elif cell._handler is not HOST:
        value = cell.snapshot()
    if isinstance(value, Array) and not isinstance(array, Array):
        raise MutationError(
            f"{handler.origin}: values followed by an outer transformation were written into an array which that "
            "transformation cannot see. Pass the array through it as an argument."
        )
    array[...] = value


def is_liftable(globals_: dict[str, Any]) -> bool:
    """Whether code with these globals is the user's, rather than a library's that works on plain arrays."""
    package = str(globals_.get("__name__", "")).partition(".")[0]
    return package not in _FOREIGN


_FOREIGN = frozenset(sys.stdlib_module_names - {"__main__"}) | {
    "bindrune", "numpy", "scipy", "pandas", "xarray", "matplotlib", "sklearn", "torch", "jax", "jaxlib", "autograd",
    "numba", "llvmlite", "optree", "tqdm", "pytest", "_pytest", "hypothesis",
}  # fmt: skip


def _captures(cell: types.CellType) -> bool:
    """Whether a closure cell holds something that is lifted."""
    try:
        return type(cell.cell_contents) not in _PLAIN
    except ValueError:
        return False


# ------------------------------------------------------------------------------------------------------ code objects

_Prepared = tuple[types.CodeType, frozenset[str], frozenset[str]]
_prepared_codes: WeakKeyDictionary[types.CodeType, _Prepared] = WeakKeyDictionary()


def _prepared(code: types.CodeType) -> _Prepared:
    """The code to run, the global names it assigns, and the captured names it assigns."""
    known = _prepared_codes.get(code)
    if known is None:
        stored: set[str] = set()
        assigned: set[str] = set()
        known = (_prepare(code, stored, assigned), frozenset(stored), frozenset(assigned))
        _prepared_codes[code] = known
    return known


def _prepare(code: types.CodeType, stored: set[str], assigned: set[str]) -> types.CodeType:
    """Let calls of `float(...)` and its kin go to ours, and leave those names alone where they are not called.

    `float` is a type as well: it is passed as a dtype and compared with.  Replacing the name would change what such
    code sees; replacing the call cannot.  A call is told by the bit of LOAD_GLOBAL that prepares one.
    """
    names = list(code.co_names)
    raw = bytearray(code.co_code)
    changed = False
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            stored.add(instruction.argval)
        elif instruction.opname in ("STORE_DEREF", "DELETE_DEREF"):
            assigned.add(instruction.argval)
        elif instruction.opname == "LOAD_GLOBAL" and instruction.argval in CALLED and (instruction.arg or 0) & 1:
            name = CALLED[instruction.argval]
            if name not in names:
                names.append(name)
            argument = names.index(name) << 1 | 1
            if argument < 256 and (instruction.arg or 0) < 256:
                raw[instruction.offset + 1] = argument
                changed = True
    constants = tuple(
        _prepare(c, stored, assigned) if isinstance(c, types.CodeType) else c for c in code.co_consts
    )
    if not changed and constants == code.co_consts:
        return code
    return code.replace(co_code=bytes(raw), co_names=tuple(names), co_consts=constants)


def lift(function: Callable[..., Any], owns: bool = False) -> tuple[Callable[..., Any], Session]:
    """A function ready to run on stand-ins, and the session that ends with the call."""
    session = Session(owns)
    return session.lift(function), session

