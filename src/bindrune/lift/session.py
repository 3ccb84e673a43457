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
import operator
import types
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..core.array import Array, duplicate, is_numeric
from ..core.errors import MutationError
from ..core.handler import HOST, Handler
from .classes import forget_attributes, lift_class
from .containers import CONTAINERS, SIMPLE, carry_back, lift_container
from .names import BUILTINS, CALLED, REPLACED, lifted_function, lifted_module, lifted_special
from .objects import lift_object, release, settle
from .reach import is_liftable, is_set
from .rewrite import rewritten
from .wrappers import DispatchedMethod, lift_wrapper, lift_wrapping_function

__all__ = ["Namespace", "Session", "assigned_names", "prepared_code"]


class Namespace(dict[str, Any]):
    """A view of a module's globals.  What it does not hold yet is looked up there and lifted."""

    __slots__ = ("awaited", "passing", "real", "session", "stored", "witnesses")

    def __init__(self, session: Session, real: dict[str, Any]) -> None:
        self.session = session
        self.real = real
        self.stored: set[str] = set()
        self.witnesses: dict[str, Any] = {}
        self.passing: list[str] = []
        """The names of what is lifted for one call only."""
        self.awaited: set[str] = set()
        """The names that code reads which does not ask for what is missing."""
        self["__builtins__"] = BUILTINS

    def __missing__(self, name: str) -> Any:
        try:
            value = self.real[name]
        except KeyError:
            value = _MISSING
        if value is _MISSING:
            lifted = BUILTINS[name]
        elif type(value) in SIMPLE:
            return value if self.session.watch is None else self.session.watch.name(self.real, name, value)
        else:
            if self.session.watch is not None:
                self.session.watch.name(self.real, name, value)
            lifted = self.session.lift(value)
            if not _is_lasting(lifted):
                self.passing.append(name)
        self.witnesses[name] = value
        self[name] = lifted
        return lifted

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or name in self.real

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name."""
        return self[name] if name in self else default  # noqa: SIM401  (that is this method)

    def await_names(self, names: Iterable[str]) -> None:
        """Look names up that are about to be read by code which does not ask for what is missing."""
        for name in names:
            if name in self.real and not dict.__contains__(self, name):
                self.witnesses[name] = self.real[name]
                self[name] = self[name]

    def is_current(self) -> bool:
        """Whether every name held here still means what it meant."""
        real = self.real
        for name, value in self.witnesses.items():  # noqa: SIM110  (a generator costs twice as much here)
            if real.get(name, _MISSING) is not value:
                return False
        return True

    def forget(self, names: Iterable[str]) -> None:
        """Look names up afresh when they are met again."""
        for name in names:
            self.pop(name, None)
            self.witnesses.pop(name, None)


_MISSING = object()


class Session:
    """Everything lifted for one transformed call.

    It can serve the next call of the same function if the names it has looked up still mean the same.  Functions and
    classes are then kept; what has state (arrays, objects, containers) is lifted anew.
    """

    __slots__ = (
        "arrays",
        "captured",
        "classes",
        "containers",
        "data",
        "known",
        "originals",
        "owns",
        "passing",
        "places",
        "rewrites",
        "seen",
        "stores",
        "twins",
        "views",
        "watch",
    )

    def __init__(self, owns: bool = False, rewrites: bool = False) -> None:
        self.views: dict[int, Namespace] = {}
        self.known: dict[int, tuple[Any, Any]] = {}
        """Functions and classes by their ids, with what stands for them."""
        self.passing: dict[int, tuple[Any, Any]] = {}
        """The same for what is lifted for one call only."""
        self.originals: dict[int, tuple[Any, Any]] = {}
        """What is lifted by its id, with what it stands for."""
        self.captured: list[tuple[types.CellType, Any]] = []
        self.places: list[tuple[Callable[[Any], object], Any]] = []
        """Where, other than in views, something is put that is lifted for one call only."""
        self.classes: list[type] = []
        """All classes that were made here."""
        self.seen: dict[type, tuple[Any, ...]] = {}
        """What the attributes of the user's classes were."""
        self.twins: dict[type, type] = {}
        """From a class to that of the twins of its objects."""
        self.arrays: list[tuple[Any, Array, int | None]] = []
        self.containers: list[tuple[Any, Any, list[Any]]] = []
        self.data: list[Any] = []
        """Containers of so many arrays that those are left as they are."""
        self.stores = False
        """Whether a function assigns global variables."""
        self.owns = owns
        """Whether captured arrays are copied, because something (a pullback) outlives the call."""
        self.rewrites = rewrites
        """Whether control flow is rewritten, because conditions may differ between lanes."""
        self.watch: Any = None
        """Who is told of everything that is read, because the function is being staged (`compile.witnesses`)."""

    def is_current(self) -> bool:
        """Whether what was lifted still stands for what the function reaches."""
        for cell, content in self.captured:
            if cell.cell_contents is not content:
                return False
        for view in self.views.values():
            if not view.is_current():
                return False
        for kind, before in self.seen.items():
            now = vars(kind).values()
            if len(now) != len(before) or not all(map(operator.is_, now, before)):
                if len(now) != len(before) or not all(
                    _is_same_to_lifting(*pair) for pair in zip(now, before, strict=True)
                ):
                    return False
                self.seen[kind] = tuple(now)
                self.touch()
        return True

    def touch(self) -> None:
        """Let changes of the user's classes be seen in those made for them."""
        for kind in self.classes:
            forget_attributes(kind)

    def renew(self) -> None:
        """Begin another call."""
        for put, value in self.places:
            put(self.lift(value))
        for view in self.views.values():
            if view.awaited:
                view.await_names(view.awaited)

    def lift(self, value: Any) -> Any:
        """What a lifted function sees in place of `value`."""
        kind = type(value)
        if kind is types.FunctionType:
            return self.function(value)
        if kind is np.ndarray:
            return self.cell(value)
        if kind in SIMPLE or isinstance(value, Array):
            return value
        if isinstance(value, types.ModuleType):
            return lifted_module(value, self)
        try:
            return REPLACED[value]
        except (KeyError, TypeError):
            pass
        if kind is types.MethodType:
            if isinstance(value.__func__, types.FunctionType):
                return types.MethodType(self.lift(value.__func__), self.lift(value.__self__))
            return lift_wrapper(self, value)
        if kind is functools.partial:
            keywords = {k: self.lift(v) for k, v in value.keywords.items()}
            return functools.partial(self.lift(value.func), *map(self.lift, value.args), **keywords)
        if kind is np.ufunc:
            return lifted_special(value)
        if kind is tuple or kind is frozenset:
            lifted = kind(map(self.lift, value))
            return lifted if any(new is not old for new, old in zip(lifted, value, strict=True)) else value
        known = self.known.get(id(value)) or self.passing.get(id(value))
        if known is not None:
            return known[1]
        if isinstance(value, type):
            if self.watch is not None:
                self.watch.seen(value)
            return lift_class(self, value)
        if kind in CONTAINERS:
            return self.container(value)
        lifted = lift_object(self, value)
        if lifted is not value:
            self.remember(value, lifted)
        if self.watch is not None:
            self.watch.seen(value)
        return lifted

    def is_own(self, value: Any) -> bool:
        """Whether lifted code made a container, so that it stands for itself."""
        return type(value) in CONTAINERS and id(value) not in self.passing

    def lower(self, value: Any) -> Any:
        """What something lifted stands for; anything else as it is."""
        known = self.originals.get(id(value))
        return value if known is None else known[1]

    def remember(self, value: Any, lifted: Any) -> None:
        """Let what stands for a value stand for it wherever it is met."""
        (self.known if _is_lasting(lifted) else self.passing)[id(value)] = (value, lifted)
        self.originals[id(lifted)] = (lifted, value)

    def place(
        self, put: Callable[[Any], object], value: Any, lift: Callable[[Session, Any], Any] | None = None
    ) -> None:
        """Put what is lifted where it belongs, in this call and in those to come."""
        lift = lift or Session.lift
        lifted = lift(self, value)
        if lifted is not value:
            put(lifted)
        if not _is_lasting(lifted):
            self.places.append((put, value))

    def cell(self, array: np.ndarray[Any, Any]) -> Any:
        """The one cell for a captured array."""
        known = self.passing.get(id(array))
        if known is not None:
            return known[1]
        if not is_numeric(array.dtype):
            return array
        made = Array(HOST, duplicate(array) if self.owns else array) if self.watch is None else self.watch.array(array)
        cell = self.follow(array, made)
        self.remember(array, cell)
        return cell

    def follow(self, array: Any, cell: Array, axis: int | None = None) -> Array:
        """Carry writes into `cell` back to the caller's `array` when the call ends."""
        self.arrays.append((array, cell, axis))
        return cell

    def container(self, container: Any) -> Any:
        """A container whose items are lifted."""
        made, filled = lift_container(self, container)
        if self.watch is not None:
            self.watch.seen(made)
        self.remember(container, made)
        if made is not container:
            self.containers.append((container, made, filled))
        return made

    def lifts(self, function: types.FunctionType) -> bool:
        """Whether a function becomes another one here."""
        globals_ = function.__globals__
        if isinstance(globals_, Namespace):
            return self.rewrites and not globals_.session.rewrites
        return is_liftable(globals_)

    def function(self, function: types.FunctionType) -> Any:
        """A Python function over a view of its globals."""
        known = self.known.get(id(function))
        if known is not None:
            return known[1]
        globals_ = function.__globals__
        if not self.lifts(function):
            if isinstance(globals_, Namespace):
                return function
            return lifted_function(function) or lift_wrapping_function(self, function)
        source = rewritten(function) if self.rewrites else None
        code, stored, assigned, awaited = _prepared(source or function.__code__)
        captured = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        cells: dict[str, types.CellType] = {}
        for name in code.co_freevars:
            cell = captured[name]
            if name in assigned and self.watch is not None:
                cells[name] = self.watch.shared(name, cell, self.lift)
            elif self.watch is not None and is_set(cell) and not _captures(cell):
                cells[name] = types.CellType(self.watch.variable(name, cell, cell.cell_contents))
            else:
                cells[name] = cell if name in assigned or not _captures(cell) else types.CellType()
        closure = tuple(cells.values()) or None
        lifted = types.FunctionType(code, self.view(globals_, stored), function.__name__, None, closure)
        self.remember(function, lifted)
        if awaited:
            view = self.view(globals_)
            view.awaited |= awaited
            view.await_names(awaited)
        for name, new in cells.items():
            old = captured[name]
            if self.watch is not None and is_set(old):
                self.watch.variable(name, old, old.cell_contents)
            if new is not old and not is_set(new) and is_set(old):
                content = new.cell_contents = old.cell_contents
                self.place(functools.partial(setattr, new, "cell_contents"), content)
                self.captured.append((old, content))
        for name in ("__defaults__", "__kwdefaults__"):
            value = getattr(function, name)
            setattr(lifted, name, value)
            self.place(functools.partial(setattr, lifted, name), value)
        lifted.__qualname__ = function.__qualname__
        if function.__dict__:
            lifted.__dict__.update(function.__dict__)
        if self.watch is not None:
            self.watch.function(function, lifted)
        return lifted

    def view(self, real: dict[str, Any], stored: frozenset[str] = frozenset()) -> Namespace:
        """The view of a module's globals."""
        view = self.views.get(id(real))
        if view is None:
            view = self.views[id(real)] = Namespace(self, real)
        if stored:
            view.stored |= stored
            self.stores = True
        return view

    def finish(self, handler: Handler) -> bool:
        """End the call and carry back what was written and changed.  Returns whether the session may serve another.

        One that is done with breaks the cycle between its views and the functions in them, so that what they
        captured is freed at once.
        """
        if not (self.arrays or self.containers or self.passing or self.stores or self.data or self.owns):
            return True  # as most calls are: nothing was captured but functions
        reusable = False
        try:
            for array, cell, axis in self.arrays:
                if cell._version:
                    write_back(array, cell, handler, axis)
            for container, made, filled in self.containers:
                carry_back(self, container, made, filled)
            for _, lifted in self.passing.values():
                settle(self, lifted)
            for view in self.views.values():
                for name in view.stored:
                    if dict.__contains__(view, name):
                        view.real[name] = release(self, self.lower(view[name]))
                view.forget(view.stored)
            reusable = not self.owns and len(self.known) < _MANY
        finally:
            if reusable:
                self.rest()
            else:
                self.close()
        return reusable

    def rest(self) -> None:
        """Keep nothing of a call that is over."""
        for put, value in self.places:
            put(value)
        for view in self.views.values():
            view.forget(view.passing)
            view.passing.clear()
        if self.passing:
            self.passing.clear()
            self.originals = {id(lifted): (lifted, value) for value, lifted in self.known.values()}
        for listed in (self.arrays, self.containers, self.data):
            listed.clear()

    def close(self) -> None:
        """Forget everything lifted."""
        for view in self.views.values():
            view.clear()
            view["__builtins__"] = BUILTINS
        for kept in (self.views, self.known, self.passing, self.originals, self.seen, self.twins):
            kept.clear()
        for listed in (self.arrays, self.containers, self.data, self.places, self.classes, self.captured):
            listed.clear()


_MANY = 1000
"""So many functions are not those of one function, but arguments of many calls."""


def _is_same_to_lifting(a: Any, b: Any) -> bool:
    return a is b or (type(a) in SIMPLE and type(b) in SIMPLE)


def _is_lasting(lifted: Any) -> bool:
    """Whether something lifted has no state of its own, so that it serves every call."""
    kind = type(lifted)
    return kind in SIMPLE or issubclass(kind, _STATELESS) or hasattr(kind, "lifted")


_STATELESS = (
    types.FunctionType,
    types.ModuleType,
    types.BuiltinFunctionType,
    type,
    staticmethod,
    classmethod,
    property,
    functools.cached_property,
    functools.partialmethod,
    DispatchedMethod,
)


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
        return type(cell.cell_contents) not in SIMPLE
    except ValueError:
        return False


# ------------------------------------------------------------------------------------------------------ code objects

_Prepared = tuple[types.CodeType, frozenset[str], frozenset[str], frozenset[str]]
_prepared_codes: WeakKeyDictionary[types.CodeType, _Prepared] = WeakKeyDictionary()


def _prepared(code: types.CodeType) -> _Prepared:
    """The code to run, the global names it assigns, the captured names it assigns, and the names of class bodies."""
    known = _prepared_codes.get(code)
    if known is None:
        stored: set[str] = set()
        assigned: set[str] = set()
        awaited: set[str] = set()
        made = _prepare(code, stored, assigned, awaited)
        known = (made, frozenset(stored), frozenset(assigned), frozenset(awaited))
        _prepared_codes[code] = known
    return known


def prepared_code(code: types.CodeType) -> types.CodeType:
    """Code whose calls of `float` and its kin go to ours."""
    return _prepared(code)[0]


def assigned_names(code: types.CodeType) -> frozenset[str]:
    """The captured names that a code object, or one inside it, assigns."""
    return _prepared(code)[2]


def _prepare(code: types.CodeType, stored: set[str], assigned: set[str], awaited: set[str]) -> types.CodeType:
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
        elif instruction.opname in _BY_NAME:
            awaited.add(instruction.argval)
        elif instruction.opname == "LOAD_GLOBAL" and instruction.argval in CALLED and (instruction.arg or 0) & 1:
            name = CALLED[instruction.argval]
            if name not in names:
                names.append(name)
            argument = names.index(name) << 1 | 1
            if argument < 256 and (instruction.arg or 0) < 256:
                raw[instruction.offset + 1] = argument
                changed = True
    constants = tuple(
        _prepare(c, stored, assigned, awaited) if isinstance(c, types.CodeType) else c for c in code.co_consts
    )
    if not changed and constants == code.co_consts:
        return code
    return code.replace(co_code=bytes(raw), co_names=tuple(names), co_consts=constants)


_BY_NAME = frozenset({"LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
"""How class bodies read globals: unlike functions, they do not ask a view for what it does not hold yet."""
