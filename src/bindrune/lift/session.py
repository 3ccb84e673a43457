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
import types
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..core.array import Array, duplicate
from ..core.errors import MutationError
from ..core.handler import HOST, Handler
from .names import BUILTINS, CALLED, REPLACED, lifted_module, lifted_special
from .objects import lift_object
from .reach import is_liftable
from .rewrite import rewritten

__all__ = ["Namespace", "Session", "assigned_names"]

_PLAIN = (int, float, complex, str, bytes, bool, type(None), list, dict, set, np.generic, np.dtype, type)


class Namespace(dict[str, Any]):
    """A view of a module's globals.  What it does not hold yet is looked up there and lifted."""

    __slots__ = ("real", "session", "stored", "witnesses")

    def __init__(self, session: Session, real: dict[str, Any]) -> None:
        self.session = session
        self.real = real
        self.stored: set[str] = set()
        self.witnesses: dict[str, Any] = {}
        self["__builtins__"] = BUILTINS

    def __missing__(self, name: str) -> Any:
        try:
            value = self.real[name]
        except KeyError:
            value = _MISSING
        if value is _MISSING:
            lifted = BUILTINS[name]
        elif type(value) in _PLAIN and not (type(value) is type and value in REPLACED):
            return value
        else:
            lifted = self.session.lift(value)
            if lifted is value:
                return value
        self.witnesses[name] = value
        self[name] = lifted
        return lifted

    def is_current(self) -> bool:
        """Whether every name held here still means what it meant."""
        real = self.real
        for name, value in self.witnesses.items():  # noqa: SIM110  (a generator costs twice as much here)
            if real.get(name, _MISSING) is not value:
                return False
        return True


_MISSING = object()


class Session:
    """Everything lifted for one transformed call.

    A session that has captured no array can serve the next call of the same function, if the names it has looked up
    still mean the same.
    """

    __slots__ = ("arrays", "captured", "known", "owns", "rewrites", "views")

    def __init__(self, owns: bool = False, rewrites: bool = False) -> None:
        self.views: dict[int, Namespace] = {}
        self.known: dict[int, tuple[Any, Any]] = {}
        self.captured: list[tuple[types.CellType, Any]] = []
        self.arrays: list[tuple[Any, Array, int | None]] = []
        self.owns = owns
        """Whether captured arrays are copied, because something (a pullback) outlives the call."""
        self.rewrites = rewrites
        """Whether control flow is rewritten, because conditions may differ between lanes."""

    def is_current(self) -> bool:
        """Whether what was lifted still stands for what the function reaches."""
        for cell, content in self.captured:
            if cell.cell_contents is not content:
                return False
        for view in self.views.values():  # noqa: SIM110  (as above)
            if not view.is_current():
                return False
        return True

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
            return types.MethodType(self.lift(value.__func__), self.lift(value.__self__))
        if kind is functools.partial:
            keywords = {k: self.lift(v) for k, v in value.keywords.items()}
            return functools.partial(self.lift(value.func), *map(self.lift, value.args), **keywords)
        if kind is np.ufunc:
            return lifted_special(value)
        if kind is tuple:
            lifted = tuple(map(self.lift, value))
            return lifted if any(new is not old for new, old in zip(lifted, value, strict=True)) else value
        if isinstance(value, (*_PLAIN, Array)):
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
            known = (array, self.follow(array, Array(HOST, duplicate(array) if self.owns else array)))
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
        globals_ = function.__globals__
        if isinstance(globals_, Namespace):
            if globals_.session.rewrites or not self.rewrites:
                return function
        elif not is_liftable(globals_):
            library = str(globals_.get("__name__", ""))
            return lifted_special(function) if library.startswith("scipy.special.") else function
        source = rewritten(function.__code__) if self.rewrites else None
        code, stored, assigned = _prepared(source or function.__code__)
        captured = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        cells: dict[str, types.CellType] = {}
        for name in code.co_freevars:
            cell = captured[name]
            cells[name] = cell if name in assigned or not _captures(cell) else types.CellType()
        closure = tuple(cells.values()) or None
        lifted = types.FunctionType(code, self.view(globals_, stored), function.__name__, None, closure)
        self.known[id(function)] = (function, lifted)
        for name, new in cells.items():
            old = captured[name]
            if new is not old:
                content = old.cell_contents
                new.cell_contents = self.lift(content)
                self.captured.append((old, content))
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

    def finish(self, handler: Handler) -> bool:
        """End the call and carry writes back.  Returns whether the session may serve another call.

        A session that is done with breaks the cycle between its views and the functions in them, so that what they
        captured is freed at once.
        """
        reusable = not self.arrays and not self.owns
        try:
            for array, cell, axis in self.arrays:
                if cell._version:
                    write_back(array, cell, handler, axis)
        finally:
            for view in self.views.values():
                for name in view.stored:
                    if dict.__contains__(view, name):
                        view.real[name] = view[name]
                        reusable = False
            if not reusable:
                self.close()
        return reusable

    def close(self) -> None:
        """Forget everything lifted."""
        for view in self.views.values():
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


def assigned_names(code: types.CodeType) -> frozenset[str]:
    """The captured names that a code object, or one inside it, assigns."""
    return _prepared(code)[2]


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
    constants = tuple(_prepare(c, stored, assigned) if isinstance(c, types.CodeType) else c for c in code.co_consts)
    if not changed and constants == code.co_consts:
        return code
    return code.replace(co_code=bytes(raw), co_names=tuple(names), co_consts=constants)
