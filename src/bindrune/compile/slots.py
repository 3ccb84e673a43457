"""The attributes of objects whose classes have slots, as a `__dict__` would hold them.

What is in slots is looked at, put back and carried like what is in a `__dict__`.  An object may have both.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from ..lift.classes import is_ordinary

__all__ = ["Slots", "slots_of"]


_known: WeakKeyDictionary[type, dict[str, types.MemberDescriptorType]] = WeakKeyDictionary()


def _descriptors(kind: type) -> dict[str, types.MemberDescriptorType]:
    """The slots of the objects of a class."""
    known = _known.get(kind)
    if known is not None:
        return known
    found: dict[str, types.MemberDescriptorType] = {}
    for c in kind.__mro__:
        for name, slot in vars(c).items() if "__slots__" in vars(c) else ():
            if isinstance(slot, types.MemberDescriptorType) and not name.startswith("_bindrune"):
                found.setdefault(name, slot)
    _known[kind] = found
    return found


def _original(value: Any) -> Any:
    """The object whose attributes these are: a twin shows those of its original."""
    return object.__getattribute__(value, "_bindrune_original") if "_bindrune_class" in vars(type(value)) else value


def slots_of(value: Any) -> Slots | None:
    """The attributes of an object of a user's class with slots; None for any other."""
    kind = type(value)
    plain = vars(kind).get("_bindrune_kind", kind)
    if not _descriptors(plain) or not is_ordinary(plain):
        return None
    return Slots(_original(value))


class Slots(dict[str, Any]):
    """What is in the slots and in the `__dict__` of an object, now and whenever it is asked.

    Attributes:
        owner: the object.
    """

    __slots__ = ("owner",)

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self.owner = owner

    def copy(self) -> dict[str, Any]:
        found = dict(getattr(self.owner, "__dict__", ()))
        for name, slot in _descriptors(type(self.owner)).items():
            try:
                found[name] = slot.__get__(self.owner)
            except AttributeError:
                continue
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.copy())

    def __len__(self) -> int:
        return len(self.copy())

    def __contains__(self, name: object) -> bool:
        return name in self.copy()

    def __getitem__(self, name: str) -> Any:
        return self.copy()[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.copy().get(name, default)

    def keys(self) -> Any:
        return self.copy().keys()

    def values(self) -> Any:
        return self.copy().values()

    def items(self) -> Any:
        return self.copy().items()

    def __setitem__(self, name: str, value: Any) -> None:
        slot = _descriptors(type(self.owner)).get(name)
        if slot is None:
            self.owner.__dict__[name] = value
        else:
            slot.__set__(self.owner, value)

    def pop(self, name: str, *default: Any) -> Any:
        found = self.copy().pop(name, *default)
        slot = _descriptors(type(self.owner)).get(name)
        if slot is None:
            self.owner.__dict__.pop(name, None)
        elif name in self:
            slot.__delete__(self.owner)
        return found

    def clear(self) -> None:
        for name in self.copy():
            self.pop(name)

    def update(self, *others: Any, **named: Any) -> None:
        for name, value in dict(*others, **named).items():
            self[name] = value
