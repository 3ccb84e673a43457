"""Objects as lifted code sees them: twins.

A twin shares its original's attributes (the same `__dict__`, the same slots) and is an instance of its class; methods
looked up on it run lifted, and what its attributes hold is lifted as it is read.  Only objects of ordinary Python
classes have twins; others are left alone, but for those of the standard library and NumPy that hold functions.
"""

from __future__ import annotations

import copyreg
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.array import Array
from ..core.handler import HOST
from .classes import is_at_home, is_lifted, is_ordinary, is_plain, make_class, set_order
from .wrappers import lift_wrapper

if TYPE_CHECKING:
    from .session import Session

__all__ = ["lift_object", "release", "settle"]


def lift_object(session: Session, value: Any) -> Any:
    """The twin of an object, a transformed function over the lifted function, or the object itself."""
    kind = type(value)
    lifted = getattr(kind, "lifted", None)
    if lifted is not None:
        return lifted(value, session)
    if is_at_home(kind, session):
        return value
    if not is_ordinary(kind):
        return lift_wrapper(session, value)
    lifted = session.lift(kind)
    if issubclass(kind, tuple) and lifted is not kind:
        return tuple.__new__(lifted, map(session.lift, value))
    twin_kind = session.twins.get(kind)
    if twin_kind is None:
        twin_kind = session.twins[kind] = _twin_class(session, kind, lifted)
    if twin_kind is kind:
        return value
    twin: Any = object.__new__(twin_kind)
    object.__setattr__(twin, "_bindrune_original", value)
    if kind.__dictoffset__:
        object.__setattr__(twin, "__dict__", object.__getattribute__(value, "__dict__"))
    return twin


def _twin_class(session: Session, kind: type, lifted: Any) -> type:
    """The class of the twins of a class's objects, or the class itself where they cannot be."""
    inside = {"__slots__": ("_bindrune_original",), "_bindrune_session": session, "_bindrune_kind": kind}
    if not is_plain(kind) and isinstance(kind.__init_subclass__, types.MethodType):
        return kind
    try:
        made = make_class(kind, inside)
        object.__new__(made)
    except TypeError:  # its objects are more than attributes
        return kind
    body: dict[str, Any] = {"_bindrune_class": lifted}
    for c in kind.__mro__:
        for name, slot in vars(c).items():
            if isinstance(slot, types.MemberDescriptorType) and name != "_bindrune_original":
                body.setdefault(name, _forwarded(slot))
    body |= {"__getattribute__": _reading(session, lifted), "__setattr__": _setting(session, lifted)}
    if not any({"__reduce__", "__reduce_ex__", "__getstate__"} & vars(c).keys() for c in kind.__mro__[:-1]):
        body["__reduce_ex__"] = _reducing(lifted)
    compares: Any = kind.__eq__
    if compares is object.__eq__:
        body["__eq__"] = lambda self, other: _original(self) is _original(other)
        body["__hash__"] = lambda self: hash(_original(self))
    set_order(session, made, list(lifted.__mro__))
    for name, value in body.items():
        type.__setattr__(made, name, value)
    return made  # type: ignore[no-any-return]


def _original(value: Any) -> Any:
    return object.__getattribute__(value, "_bindrune_original") if "_bindrune_class" in vars(type(value)) else value


def _forwarded(slot: types.MemberDescriptorType) -> property:
    """A slot of the original."""

    def write(twin: Any, value: Any) -> None:
        slot.__set__(_original(twin), value)

    return property(lambda twin: slot.__get__(_original(twin)), write, lambda twin: slot.__delete__(_original(twin)))


def _reading(session: Session, lifted: Any) -> Any:
    inner = lifted.__getattribute__

    def getattribute(self: Any, name: str) -> Any:
        if name == "__class__":
            return lifted
        watch = session.watch
        try:
            value = inner(self, name)
        except AttributeError:
            if watch is not None:
                watch.attribute(_original(self), name)
            raise
        if name == "__dict__" or (type(value) is types.MethodType and value.__self__ is self):
            return value
        if watch is not None:
            if not watch.is_own(_original(self), name, value):
                value = watch.attribute(_original(self), name, value)
            elif session.is_own(value):
                return value
        return session.lift(value)

    return getattribute


def _setting(session: Session, lifted: Any) -> Any:
    inner = lifted.__setattr__

    def set_attribute(self: Any, name: str, value: Any) -> None:
        keeps = session.watch is not None and isinstance(value, Array)
        inner(self, name, value if keeps else session.lower(value))

    return set_attribute


def _reducing(lifted: Any) -> Any:
    """What a copy is made of: an object of the lifted class, with attributes of its own."""

    def reduce(self: Any, protocol: int) -> tuple[Any, ...]:
        named = object.__getattribute__(self, "__dict__") if hasattr(self, "__dict__") else {}
        slots = [n for n, v in vars(type(self)).items() if isinstance(v, property) and hasattr(self, n)]
        state = {name: getattr(self, name) for name in named}, {name: getattr(self, name) for name in slots}
        return copyreg.__newobj__, (lifted,), state  # type: ignore[attr-defined]

    return reduce


# ------------------------------------------------------------------------------------------------ when the call is over


def settle(session: Session, twin: Any) -> None:
    """Give an object's attributes back to plain code: constants that lifted code stored there become plain arrays."""
    if "_bindrune_class" in vars(type(twin)) and hasattr(twin, "__dict__"):
        _settle_attributes(session, object.__getattribute__(twin, "__dict__"))


def _settle_attributes(session: Session, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        plain = release(session, value)
        if plain is not value:
            attributes[name] = plain


def release(session: Session, value: Any) -> Any:
    """What lifted code stored where plain code finds it; an array of its own where a pullback may hold that one."""
    if isinstance(value, Array):
        cell = value.read()
        if cell._handler is not HOST:
            return value
        return cell._value.copy() if session.owns and isinstance(cell._value, np.ndarray) else cell._value
    kind = type(value)
    if is_lifted(kind) and is_plain(kind):
        value.__class__ = vars(kind)["_bindrune_kind"]
        _settle_attributes(session, value.__dict__)
    return value
