"""Lengths that are only known when a program runs: linear expressions over its integer values.

``A[i, :j]`` in a staged loop has the length ``j``; ``x[1:]`` of an array of unknown length ``n`` has ``n - 1``.  A
`Dim` is such a length: integer multiples of values of the program, plus a constant.  Two are equal when they are the
same expression; whether they differ is decided where the difference is a number, and otherwise nobody knows before
the program runs (`difference` says None).

A length that turns out to be a number is that number: `linear` never makes a `Dim` without a value in it.

How many elements a slice by steps has is no linear expression of its bounds.  The program computes it, and where the
slice begins, as any other numbers, and the index has them: such a slice is `Strided`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Union

import numpy as np

from ..core.errors import user_line

__all__ = [
    "FIXED",
    "UNKNOWN",
    "Dim",
    "Length",
    "Strided",
    "Unstageable",
    "broadcast_shapes",
    "difference",
    "dims_in",
    "hooks",
    "is_open",
    "linear",
    "same_shape",
    "span_slice",
    "strided",
    "substitute",
    "values_in",
]


class Unstageable(BaseException):
    """What is being staged cannot be; whoever began it goes another way.

    Not an `Exception`, so that no handler in the user's code takes it for one of its own.

    Attributes:
        line: the user's.
        reason: why, and what to write instead.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        self.line = user_line()
        self.reason = f"{reason}. {remedy}."
        super().__init__(f"{self.line}: {self.reason}")


UNKNOWN = "Python needs a length that only the running program knows"
FIXED = "With lengths that are known (no dynamic=True, a mask outside) it works as it is"


class _Hooks:
    """What staging does for lengths: by themselves they are expressions."""

    @staticmethod
    def number(dim: Dim) -> Any:
        """The length as a number of the program that is being staged."""
        raise Unstageable(UNKNOWN, FIXED)

    @staticmethod
    def decide(dim: Dim, other: Length) -> bool:
        """Whether two lengths are equal of which nobody knows before the program runs."""
        return False

    @staticmethod
    def divide(dim: Dim, divisor: int) -> Any:
        """The length divided by a number, checked when the program runs to leave no rest."""
        raise Unstageable(UNKNOWN, FIXED)

    @staticmethod
    def stride(s: slice, length: Length) -> Any:
        """What a slice of an axis chooses, as `strided`; of bounds, a step or a length that are not known."""
        raise Unstageable(UNKNOWN, FIXED)

    @staticmethod
    def full(shape: Any, value: Any, new: bool = False) -> Any:
        """An array of one NumPy number everywhere, of a shape whose lengths are not known, nor their signs if new."""
        raise Unstageable(UNKNOWN, FIXED)

    @staticmethod
    def bound(shape: Any, index: Any) -> None:
        """Check when the program runs that the bounds of slices lie within the axes they belong to."""
        raise Unstageable(UNKNOWN, FIXED)

    @staticmethod
    def adopt(cell: Any, content: Any) -> None:
        """Make a constant cell one of the program whose lengths are in some content."""
        raise Unstageable(UNKNOWN, FIXED)


hooks = _Hooks()


class Dim:
    """A length: the sum of ``value * factor`` over `terms`, plus `offset`.  Immutable, compared by what it says."""

    __slots__ = ("offset", "terms")

    terms: dict[Any, int]
    offset: int

    def __init__(self, terms: Mapping[Any, int], offset: int) -> None:
        object.__setattr__(self, "terms", dict(terms))
        object.__setattr__(self, "offset", offset)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a Dim cannot be changed")

    def __add__(self, other: Any) -> Any:
        if isinstance(other, int):
            return Dim(self.terms, self.offset + other)
        if not isinstance(other, Dim):
            return hooks.number(self) + other
        terms = dict(self.terms)
        for value, factor in other.terms.items():
            terms[value] = terms.get(value, 0) + factor
        return linear(terms, self.offset + other.offset)

    __radd__ = __add__

    def __mul__(self, factor: Any) -> Any:
        if not isinstance(factor, int):
            return hooks.number(self) * (hooks.number(factor) if isinstance(factor, Dim) else factor)
        return linear({v: f * factor for v, f in self.terms.items()}, self.offset * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Length:
        found: Length = self * -1
        return found

    def __sub__(self, other: Any) -> Any:
        return self + other * -1

    def __rsub__(self, other: Any) -> Any:
        return self * -1 + other

    def divided(self, divisor: int) -> Length:
        """The length divided by a number that leaves no rest."""
        if any(n % divisor for n in (self.offset, *self.terms.values())):
            found: Length = hooks.divide(self, divisor)
            return found
        return Dim({v: f // divisor for v, f in self.terms.items()}, self.offset // divisor)

    def same(self, other: object) -> bool:
        """Whether two lengths are the same expression."""
        return isinstance(other, Dim) and self.terms == other.terms and self.offset == other.offset

    def __eq__(self, other: object) -> bool:
        if self.same(other):
            return True
        if not isinstance(other, (int, Dim)) or difference(self, other) is not None:
            return False
        return hooks.decide(self, other)

    def __getattr__(self, name: str) -> Any:
        """Whatever else numbers can do is done with the number of the program that the length is."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(hooks.number(self), name)

    def __lt__(self, other: Any) -> Any:
        return hooks.number(self) < other

    def __le__(self, other: Any) -> Any:
        return hooks.number(self) <= other

    def __gt__(self, other: Any) -> Any:
        return hooks.number(self) > other

    def __ge__(self, other: Any) -> Any:
        return hooks.number(self) >= other

    def __truediv__(self, other: Any) -> Any:
        return hooks.number(self) / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / hooks.number(self)

    def __floordiv__(self, other: Any) -> Any:
        return hooks.number(self) // other

    def __mod__(self, other: Any) -> Any:
        return hooks.number(self) % other

    def __pow__(self, other: Any) -> Any:
        return hooks.number(self) ** other

    def __rpow__(self, other: Any) -> Any:
        return other ** hooks.number(self)

    def __float__(self) -> float:
        return float(hooks.number(self))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        given = [hooks.number(x) if isinstance(x, Dim) else x for x in inputs]
        return getattr(ufunc, method)(*given, **keywords)

    def __hash__(self) -> int:
        return hash((frozenset(self.terms.items()), self.offset))

    def __index__(self) -> int:
        return operator.index(hooks.number(self))

    def __repr__(self) -> str:
        return self.text(lambda value: f"v{id(value) % 10_000}")

    def text(self, name: Callable[[Any], str]) -> str:
        """The expression, with `name` for each of its values."""
        parts = [f"{'' if f == 1 else '-' if f == -1 else f'{f}*'}{name(v)}" for v, f in self.terms.items()]
        if self.offset:
            parts.append(str(self.offset))
        return "+".join(parts).replace("+-", "-")

    def at(self, number: Callable[[Any], int]) -> int:
        """The length for given numbers in place of the values."""
        return self.offset + sum(number(value) * factor for value, factor in self.terms.items())


Length = Union[int, Dim]  # noqa: UP007  (a class, where the type checker wants one)
"""A length that is known, or one that is not."""


def linear(terms: Mapping[Any, int], offset: int) -> Length:
    """The sum as a `Dim`, or as the number that it is."""
    present = {value: factor for value, factor in terms.items() if factor}
    return Dim(present, offset) if present else offset


def difference(a: Length, b: Length) -> int | None:
    """``a - b`` where it is known."""
    found = a - b
    return found if isinstance(found, int) else None


def same_shape(a: Sequence[Length], b: Sequence[Length]) -> bool:
    """Whether two shapes are the same expressions."""
    return len(a) == len(b) and all(
        m.same(n) if isinstance(m, Dim) else not isinstance(n, Dim) and m == n for m, n in zip(a, b, strict=True)
    )


def dims_in(content: Any) -> Iterator[Dim]:
    """The dims in a nested structure of tuples, slices, dicts and lists, as parameters of operations are."""
    if isinstance(content, Dim):
        yield content
    for part in _parts(content):
        yield from dims_in(part)


def _parts(content: Any) -> Iterable[Any]:
    """What a structure consists of; nothing for what is no structure."""
    if isinstance(content, (tuple, list)):
        return content
    if isinstance(content, dict):
        return content.values()
    return (content.start, content.stop, content.step) if isinstance(content, slice) else ()


def is_open(content: Any) -> bool:
    """Whether a shape, or a nested structure, has lengths that only the running program knows."""
    if isinstance(content, Dim):
        return True
    # No generator, which would be slower: eager code asks about every index.
    for part in content if type(content) is tuple else _parts(content):
        if not (type(part) is int or part is None) and is_open(part):
            return True
    return False


class Strided(NamedTuple):
    """An entry of an index: so many elements of an axis, each as far from the one before.  `strided` makes it."""

    start: Length
    length: Length
    step: Length


def strided(start: Length, length: Length, step: Length) -> Strided | slice:
    """Elements of an axis at equal distances; a slice where all is known."""
    if isinstance(start, int) and isinstance(length, int) and isinstance(step, int):
        return span_slice(range(start, start + length * step, step))
    return Strided(start, length, step)


def span_slice(span: range) -> slice:
    """The slice that chooses exactly the indices of a range."""
    if not span:
        return slice(0, 0)
    stop = span.stop if span.step > 0 or span.stop >= 0 else None
    return slice(span.start, stop, span.step)


def values_in(content: Any) -> list[Any]:
    """The values that the dims of a structure are made of, each once."""
    return list({value: None for dim in dims_in(content) for value in dim.terms})


def substitute(content: Any, replace: Callable[[Dim], Any]) -> Any:
    """A structure with something in place of each of its dims."""
    if isinstance(content, Dim):
        return replace(content)
    if isinstance(content, Strided):
        return strided(*(substitute(part, replace) for part in content))
    if isinstance(content, tuple):
        parts = [substitute(part, replace) for part in content]
        return type(content)(*parts) if hasattr(content, "_fields") else tuple(parts)
    if isinstance(content, list):
        return [substitute(part, replace) for part in content]
    if isinstance(content, dict):
        return {key: substitute(part, replace) for key, part in content.items()}
    if isinstance(content, slice):
        return slice(*(substitute(part, replace) for part in (content.start, content.stop, content.step)))
    return content


def broadcast_shapes(shapes: Sequence[tuple[Length, ...]]) -> tuple[Length, ...]:
    """The shape that arrays are broadcast to; a length that is not known is taken to be that of its partners."""
    if not any(isinstance(n, Dim) for shape in shapes for n in shape):
        return np.broadcast_shapes(*shapes)
    found: list[Length] = []
    for axis in range(max(map(len, shapes))):
        lengths = [shape[~axis] for shape in shapes if axis < len(shape)]
        known = [n for n in lengths if isinstance(n, int) and n != 1]
        unknown = [n for n in lengths if isinstance(n, Dim)]
        found.append(known[0] if known else unknown[0] if unknown else 1)
    return tuple(found[::-1])
