"""Views: arrays as ways of reading a buffer.

A view says for each dimension of its buffer which index an element of the view has there: a start, and a step along
some of the view's axes.  Slices, transpositions, new axes, broadcasting, diagonals and sliding windows are all views of
views, so none of them ever copies or needs a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .loops import Affine, Buffer, Load, Storage, affine

__all__ = ["Place", "View", "along", "broadcast", "whole"]

Place = tuple[Affine, tuple[tuple[int, int], ...]]
"""An index: where it starts, and its step along each axis that it varies with."""

ZERO, ONE = affine(0), affine(1)


class View:
    """An array: a buffer, the place of an element in each of its dimensions, and the lengths of the array's axes."""

    __slots__ = ("buffer", "places", "shape")

    def __init__(self, buffer: Buffer, places: tuple[Place, ...], shape: tuple[Affine, ...]) -> None:
        self.buffer = buffer
        self.places = places
        self.shape = shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return self.buffer.dtype

    @property
    def storage(self) -> Storage:
        """The memory it lies in."""
        return self.buffer.storage

    def at(self, index: Sequence[Affine]) -> tuple[Affine, ...]:
        """Where in the buffer the element at an index lies."""
        found = []
        for start, steps in self.places:
            for axis, step in steps:
                start = start + index[axis] * step
            found.append(start)
        return tuple(found)

    def load(self, index: Sequence[Affine]) -> Load:
        """The element at an index."""
        return Load(self.buffer, self.at(index))

    def seen(self, axes: Sequence[Place], shape: tuple[Affine, ...]) -> View:
        """A view of the view: `axes` are the places of its elements along each of this view's axes."""
        places = []
        for start, steps in self.places:
            sums: dict[int, int] = {}
            for axis, step in steps:
                first, inner = axes[axis]
                start = start + first * step
                for new, along_it in inner:
                    sums[new] = sums.get(new, 0) + along_it * step
            places.append((start, tuple(sums.items())))
        return View(self.buffer, tuple(places), shape)

    def transposed(self, axes: Sequence[int]) -> View:
        """The axes in another order."""
        return self.seen([along(axes.index(i)) for i in range(len(axes))], tuple(self.shape[i] for i in axes))

    def with_shape(self, shape: tuple[Affine, ...]) -> View | None:
        """The same elements under another shape, where axes of length one come and go and the others stay."""
        mine = [i for i, n in enumerate(self.shape) if n.known != 1]
        theirs = [i for i, n in enumerate(shape) if n.known != 1]
        if [self.shape[i] for i in mine] != [shape[i] for i in theirs]:
            return None
        new = dict(zip(mine, theirs, strict=True))
        return self.seen([along(new[i]) if i in new else (ZERO, ()) for i in range(len(self.shape))], shape)

    @property
    def contiguous(self) -> bool:
        """Whether it shows all of its buffer, in order."""
        wanted = [i for i, n in enumerate(self.shape) if n.known != 1]
        axes = iter(wanted)
        for (start, steps), length in zip(self.places, self.buffer.shape, strict=True):
            if length.known == 1:
                if start != ZERO:
                    return False
                continue
            axis = next(axes, None)
            moving = [(a, s) for a, s in steps if self.shape[a].known != 1]
            if axis is None or start != ZERO or moving != [(axis, 1)] or self.shape[axis] != length:
                return False
        return next(axes, None) is None

    @property
    def injective(self) -> bool:
        """Whether different indices are different elements."""
        shown = {axis for _, steps in self.places for axis, step in steps if step and len(steps) == 1}
        return all(n.known == 1 or axis in shown for axis, n in enumerate(self.shape))

    @property
    def partial(self) -> bool:
        """Whether it seems to leave out elements of its buffer: lengths that are written differently may be equal."""
        free = set(range(len(self.shape)))
        for (_, steps), length in zip(self.places, self.buffer.shape, strict=True):
            axis = next((axis for axis, _ in steps if axis in free and self.shape[axis] == length), None)
            if axis is not None:
                free.remove(axis)
            elif length.known != 1:
                return True
        return False

    def __repr__(self) -> str:
        places = ", ".join(
            f"{start}{''.join(f' + {step}*axis{axis}' for axis, step in steps)}" for start, steps in self.places
        )
        return f"{self.storage.name}[{places}]"


def whole(buffer: Buffer) -> View:
    """All of a buffer."""
    return View(buffer, tuple(along(i) for i in range(len(buffer.shape))), buffer.shape)


def along(axis: int, start: Affine = ZERO, step: int = 1) -> Place:
    """The place of what moves along an axis."""
    return start, ((axis, step),)


def broadcast(view: View, shape: tuple[Affine, ...]) -> View:
    """A view repeated along new leading axes and along those of length one."""
    surplus = len(shape) - len(view.shape)
    if not surplus and view.shape == shape:
        return view
    axes = [(ZERO, ()) if n.known == 1 else along(surplus + i) for i, n in enumerate(view.shape)]
    return view.seen(axes, shape)
