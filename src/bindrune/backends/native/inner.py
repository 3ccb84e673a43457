"""Functions cut out of others: what they take from outside is handed over in a *frame*, one thing after the other."""

from __future__ import annotations

from .formats import SLOT, register_type
from .functions import Function
from .loops import Variable

__all__ = ["Inner", "place_in"]


class Inner(Function):
    """Writes a function that is cut out of another.

    Attributes:
        outer: the other one.
        captured: what it takes from outside, by type and operand there.
    """

    def __init__(self, outer: Function) -> None:
        super().__init__(outer.module, outer.memory)
        self.outer = outer
        self.repeated = outer.repeated
        self.captured: list[tuple[str, str]] = []

    def capture(self, kind: str, operand: str) -> str:
        """What something outside is inside."""
        at = f"%captured{len(self.captured)}"
        self.entry += [
            f"  {at}.place = getelementptr i8, ptr %frame, i64 {SLOT * len(self.captured)}",
            f"  {at} = load {kind}, ptr {at}.place, align 16",
        ]
        self.captured.append((kind, operand))
        return at

    def hand_over(self, frame: str) -> None:
        """Have the outer function fill a frame."""
        for i, (kind, operand) in enumerate(self.captured):
            self.outer.w.do(f"store {kind} {operand}, ptr {place_in(self.outer, frame, SLOT * i)}")

    def knows(self, variable: Variable) -> bool:
        return variable in self.names or self.outer.knows(variable)

    def name(self, variable: Variable) -> str:
        found = self.names.get(variable)
        if found is None:
            operand = self.outer.name(variable)
            found = self.names[variable] = self.capture(register_type(variable.dtype), operand)
        return found


def place_in(f: Function, base: str, offset: int) -> str:
    """A place some bytes behind another."""
    return f.w.value(f"getelementptr i8, ptr {base}, i64 {offset}")
