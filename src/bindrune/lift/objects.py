"""Objects with methods, as lifted code sees them: twins.

A twin shares its original's attributes (the same `__dict__`) and is an instance of its class; methods looked up on
it run lifted, arrays and objects among its attributes are lifted too.  Only ordinary Python objects have twins;
others are left alone.
"""

from __future__ import annotations

import types
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..core.protocol import hooks
from .reach import is_liftable

__all__ = ["lift_object"]

_classes: WeakKeyDictionary[type, type | None] = WeakKeyDictionary()

# Looked up on the class, never through __getattribute__.
_KEPT = {
    "__init__", "__new__", "__init_subclass__", "__class_getitem__", "__getattribute__", "__getattr__", "__setattr__",
    "__delattr__", "__repr__", "__hash__", "__eq__", "__del__", "__reduce__", "__reduce_ex__", "__getstate__",
    "__setstate__", "__sizeof__", "__dir__", "__format__", "__subclasshook__",
}  # fmt: skip


def lift_object(session: Any, value: Any) -> Any:
    """The twin of an object, a transformed function over the lifted function, or the object itself."""
    lifted = getattr(type(value), "lifted", None)
    if lifted is not None:
        return lifted(value, session)
    kind = type(value)
    if hasattr(kind, "_bindrune_kind"):
        return value
    twin_kind = _twin_class(kind)
    if twin_kind is None:
        wrapped = getattr(value, "__wrapped__", None)  # functools.cache and its kin: the function inside
        if not isinstance(wrapped, types.FunctionType):
            return value
        return hooks.fallback(value) if wrapped.__module__.startswith("numpy.") else session.lift(wrapped)
    twin: Any = object.__new__(twin_kind)
    object.__setattr__(twin, "_bindrune_session", session)
    object.__setattr__(twin, "__dict__", value.__dict__)
    return twin


def _twin_class(kind: type) -> type | None:
    if kind not in _classes:
        _classes[kind] = _make_twin_class(kind) if _has_methods(kind) else None
    return _classes[kind]


def _has_methods(kind: type) -> bool:
    """Whether a class is ordinary Python: no C layout, no slots, no metaclass, of the user's own modules."""
    if type(kind) is not type or issubclass(kind, (BaseException, np.ndarray, types.ModuleType)):
        return False
    if kind.__dictoffset__ == 0 or not is_liftable({"__name__": kind.__module__}):
        return False
    bases = [c for c in kind.__mro__ if c is not object]
    if any(not c.__flags__ & 1 << 9 or "__slots__" in c.__dict__ for c in bases):
        return False
    return any(isinstance(v, types.FunctionType) for c in bases for v in vars(c).values())


def _make_twin_class(kind: Any) -> type:
    def getattribute(self: Any, name: str) -> Any:
        get = object.__getattribute__
        if name == "__class__":
            return kind
        if name == "__dict__":
            return get(self, name)
        value = kind.__getattribute__(self, name)
        session = get(self, "_bindrune_session")
        if type(value) is types.MethodType and value.__self__ is self:
            return types.MethodType(session.lift(value.__func__), self)
        return session.lift(value)

    def forwarding(name: str) -> Any:
        def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
            session = object.__getattribute__(self, "_bindrune_session")
            return session.lift(getattr(kind, name))(self, *arguments, **keywords)

        return method

    special = {
        name
        for c in kind.__mro__
        for name, value in vars(c).items()
        if c is not object and isinstance(value, types.FunctionType) and name.startswith("__") and name not in _KEPT
    }
    body: dict[str, Any] = {name: forwarding(name) for name in special}
    body |= {
        "__slots__": ("_bindrune_session",),
        "__getattribute__": getattribute,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "_bindrune_kind": kind,
    }
    return type(kind.__name__, (kind,), body)
