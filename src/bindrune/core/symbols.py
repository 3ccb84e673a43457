"""Constants known by name: what stands among the parameters of operations and means nothing but itself."""

from __future__ import annotations

__all__ = ["Symbol", "symbols"]


class Symbol:
    """A constant that is equal to itself alone, and has one name in messages and in the text of graphs."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name
        symbols[name] = self

    def __repr__(self) -> str:
        return self.name


symbols: dict[str, Symbol] = {}
"""Every symbol by name."""
