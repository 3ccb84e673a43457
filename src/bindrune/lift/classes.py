"""Classes as lifted code sees them.

A lifted class stands, in the order of method resolution, right before the class that it lifts, and holds only what
differs there: functions over lifted globals, arrays as cells.  Each of its bases has a lifted class of its own, so
``super()`` finds lifted methods too; everything else is inherited.  Its instances are instances of the original,
which learns nothing of all this: neither its metaclass nor ``__init_subclass__`` runs, ``__subclasses__`` does not
show the new class, and what is set on the new class is set on the original.

Exceptions and enumerations stay as they are, because they are told apart by identity.  So do classes of C code, of
libraries, and those without anything to lift.
"""

from __future__ import annotations

import enum
import functools
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import REWRITTEN
from ..core.trees import expect_twins_of_tuples, original_class
from ..numpy.drawing import lifted_drawing
from .reach import is_users
from .wrappers import DispatchedMethod

if TYPE_CHECKING:
    from .session import Session

__all__ = [
    "forget_attributes",
    "is_at_home",
    "is_lifted",
    "is_ordinary",
    "is_plain",
    "lift_class",
    "lifted_super",
    "make_class",
    "set_order",
    "type_of",
]


class LiftedClass(type):
    """The metaclass of lifted classes, and of those that lifted code derives from them."""

    if TYPE_CHECKING:
        _bindrune_kind: Any
        _bindrune_session: Session

    def mro(cls) -> list[type]:
        """The order that the class was given, if it was."""
        order: list[type] | None = vars(cls).get("_bindrune_order")
        return super().mro() if order is None else [cls, *order]

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, original_class(cls)) if is_lifted(cls) else super().__instancecheck__(value)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, original_class(cls)) if is_lifted(cls) else super().__subclasscheck__(kind)

    def __setattr__(cls, name: str, value: Any) -> None:
        if is_lifted(cls):
            plain = cls._bindrune_session.lower(value)
            setattr(cls._bindrune_kind, name, plain)
            cls._bindrune_session.touch()
            if plain is value and name not in vars(cls):
                return
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        if is_lifted(cls):
            delattr(cls._bindrune_kind, name)
            cls._bindrune_session.touch()
            if name not in vars(cls):
                return
        super().__delattr__(name)

    def __subclasses__(cls) -> list[Any]:
        derived: list[Any] = super().__subclasses__()
        if is_lifted(cls):
            plain = [c for c in cls._bindrune_kind.__subclasses__() if not isinstance(c, LiftedClass)]
            derived = [cls._bindrune_session.lift(c) for c in plain] + derived
        return derived


class _Shell:
    """Has the layout of every class without slots and without a base in C."""


_metaclasses: dict[type, type] = {type: LiftedClass}


def _layout(kind: type) -> tuple[int, ...]:
    return kind.__basicsize__, kind.__itemsize__, kind.__dictoffset__, kind.__weakrefoffset__


def is_plain(kind: type) -> bool:
    """Whether objects of a class have attributes in a `__dict__` and nothing else."""
    return _layout(kind) == _layout(_Shell)


def is_lifted(kind: type) -> bool:
    """Whether a class was made here, for another one."""
    return "_bindrune_kind" in vars(kind)


def is_at_home(kind: type, session: Session) -> bool:
    """Whether a class was made by lifted code, or for it, of which this session makes nothing else."""
    owner = getattr(kind, "_bindrune_session", None)
    return owner is not None and (owner.rewrites or not session.rewrites)


def is_ordinary(kind: type) -> bool:
    """Whether a class is the user's, and an object of it no more than its attributes and methods."""
    if issubclass(kind, (BaseException, enum.Enum, np.ndarray, types.ModuleType, type)):
        return False
    maker, module = type(kind).__module__, kind.__module__
    if not kind.__flags__ & _HEAP or not isinstance(module, str) or not isinstance(maker, str):
        return False
    return is_users(module) and (maker in ("builtins", "abc", "typing", __name__) or is_users(maker))


def lift_class(session: Session, kind: type) -> type:
    """The lifted class of a class, or the class itself where there is nothing to lift."""
    if is_at_home(kind, session):
        return kind
    if not is_ordinary(kind):
        return lifted_drawing(kind)  # type: ignore[no-any-return]
    if not any(map(functools.partial(_lifts, session), kind.__mro__)):
        return kind
    if not is_plain(kind) and isinstance(kind.__init_subclass__, types.MethodType):
        return kind  # it could not be kept from running
    lifted = make_class(kind, {"__slots__": (), "_bindrune_session": session, "_bindrune_kind": kind})
    session.remember(kind, lifted)
    order = []
    for c in kind.__mro__:
        above = session.lift(c)
        order += [c] if above is c else [above, c]
    set_order(session, lifted, order[1:])
    for name, value in tuple(vars(kind).items()):
        if not _is_kept(name, value):
            session.place(functools.partial(type.__setattr__, lifted, name), value, _lift_member)
    if kind.__flags__ & _ABSTRACT:
        type.__setattr__(lifted, "__abstractmethods__", kind.__abstractmethods__)  # type: ignore[attr-defined]
    if issubclass(kind, tuple):
        expect_twins_of_tuples()
    return lifted  # type: ignore[no-any-return]


_HEAP, _ABSTRACT = 1 << 9, 1 << 20
_FUNCTIONS = (types.FunctionType, staticmethod, classmethod, property)


def _is_kept(name: str, value: Any) -> bool:
    """Whether a lifted class inherits an attribute as it is: what describes the class, and what Python put there."""
    if name in ("__init_subclass__", "__class_getitem__", "__subclasshook__", "__del__"):
        return True
    return name.startswith("__") and name.endswith("__") and not isinstance(value, _FUNCTIONS)


def _lifts(session: Session, kind: type) -> bool:
    """Whether a class has something of its own to lift."""
    if not is_ordinary(kind):
        return False
    generated = "<string>" if "__dataclass_fields__" in vars(kind) else None
    for value in vars(kind).values():
        for part in _parts(value):
            if isinstance(part, types.FunctionType):
                if part.__code__.co_filename != generated and session.lifts(part):
                    return True
            elif isinstance(part, np.ndarray) or isinstance(getattr(part, "__wrapped__", None), types.FunctionType):
                return True
    return False


def _parts(value: Any) -> tuple[Any, ...]:
    """The functions in an attribute of a class."""
    if isinstance(value, (staticmethod, classmethod)):
        return (value.__func__,)
    if isinstance(value, property):
        return value.fget, value.fset, value.fdel
    if isinstance(value, (functools.cached_property, functools.partialmethod)):
        return (value.func,)
    return (value,)


def _lift_member(session: Session, value: Any) -> Any:
    """An attribute of a class, lifted."""
    if isinstance(value, functools.singledispatchmethod):
        return DispatchedMethod(session, value)
    parts = _parts(value)
    lifted = tuple(map(session.lift, parts))
    if all(new is old for new, old in zip(lifted, parts, strict=True)):
        return value
    kind = type(value)
    if kind is staticmethod or kind is classmethod:
        return kind(lifted[0])
    if kind is property:
        return property(lifted[0], lifted[1], lifted[2], value.__doc__)
    if kind is functools.partialmethod:
        return functools.partialmethod(lifted[0], *value.args, **value.keywords)
    if kind is functools.cached_property:
        made = functools.cached_property(lifted[0])
        made.attrname = value.attrname
        return made
    return lifted[0] if parts[0] is value else value


def make_class(kind: type, namespace: dict[str, Any]) -> Any:
    """A class with the layout of another, to be given its order; the other is not told of it."""
    metaclass = _metaclasses.get(type(kind))
    if metaclass is None:
        base = type(kind)
        metaclass = base if issubclass(base, LiftedClass) else type(f"Lifted{base.__name__}", (LiftedClass, base), {})
        _metaclasses[base] = metaclass
    described = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    base = _Shell if is_plain(kind) else kind
    return type.__new__(metaclass, kind.__name__, (base,), described | namespace)


def set_order(session: Session, kind: type, order: list[type]) -> None:
    """Give a class its order of resolution, which counts from when its bases are assigned."""
    type.__setattr__(kind, "_bindrune_order", order)
    type.__setattr__(kind, "__bases__", kind.__bases__)
    session.classes.append(kind)
    for c in order:
        if is_ordinary(c) and not isinstance(c, LiftedClass):
            session.seen[c] = tuple(vars(c).values())


def forget_attributes(kind: type) -> None:
    """Let Python look up a class's attributes afresh: it is told of changes of its own, not of those of its order."""
    type.__setattr__(kind, "_bindrune_session", vars(kind)["_bindrune_session"])


# ------------------------------------------------------------------------------------------ builtins that see classes


def type_of(value: Any) -> Any:
    """The class of an object as lifted code knows it."""
    kind = type(value)
    twin = vars(kind).get("_bindrune_class")
    if twin is not None:
        return twin
    session = getattr(sys._getframe(2).f_globals, "session", None)
    return kind if session is None else session.lift(kind)


def _is_rewritten(code: types.CodeType) -> bool:
    return code.co_name.endswith(REWRITTEN)


def lifted_super(*arguments: Any) -> Any:
    """`super`, which begins after the original of a lifted class."""
    if not arguments:
        frame: Any = sys._getframe(1)
        while "__class__" not in frame.f_locals or not frame.f_code.co_argcount or _is_rewritten(frame.f_code):
            frame = frame.f_back  # rewritten control flow stands in functions of its own
        names = frame.f_locals
        arguments = names["__class__"], names[frame.f_code.co_varnames[0]]
    return super(original_class(arguments[0]), *arguments[1:])
