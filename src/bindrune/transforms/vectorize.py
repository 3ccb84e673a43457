"""`vectorize`: NumPy's broadcasting for a function written for its core dimensions, by `vmap`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.errors import BatchSizeError, for_users
from .batch import vmap
from .calls import Decorated

__all__ = ["vectorize"]

_DIMENSIONS = r"\(\s*(?:\w+(?:\s*,\s*\w+)*)?\s*\)"
_SIGNATURE = re.compile(rf"^\s*{_DIMENSIONS}(\s*,\s*{_DIMENSIONS})*\s*->\s*{_DIMENSIONS}(\s*,\s*{_DIMENSIONS})*\s*$")


def _parse(signature: str) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The core dimensions of the arguments and of the results."""
    if not _SIGNATURE.match(signature):
        raise ValueError(f"br.vectorize: not a gufunc signature: {signature!r}; write for example '(n,m),(m)->(n)'")
    sides = signature.split("->")
    found = [[tuple(re.findall(r"\w+", part)) for part in re.findall(_DIMENSIONS, side)] for side in sides]
    return found[0], found[1]


class Vectorized(Decorated):
    """`vectorize`."""

    transformation = "vectorize"

    def __init__(self, function: Callable[..., Any], excluded: Collection[int], signature: str | None) -> None:
        super().__init__(function)
        self.excluded = frozenset(excluded)
        self.signature = signature

    @for_users
    def __call__(self, *arguments: Any) -> Any:
        moving = [i for i in range(len(arguments)) if i not in self.excluded]
        given = {i: a if isinstance(a, Array) else np.asarray(a) for i, a in enumerate(arguments) if i in moving}
        cores, results = ([()] * len(moving), None) if self.signature is None else _parse(self.signature)
        if len(cores) != len(moving):
            raise TypeError(f"{self}: the signature has {len(cores)} arguments, the call {len(moving)}")
        sizes: dict[str, int] = {}
        loops = {}
        for i, core in zip(moving, cores, strict=True):
            shape = given[i].shape
            if len(shape) < len(core):
                raise ValueError(f"{self}: argument {i} has shape {shape}, but the core dimensions {core}")
            for name, n in zip(core, shape[len(shape) - len(core) :], strict=True):
                if sizes.setdefault(name, n) != n:
                    raise BatchSizeError(f"{self}: dimension {name} is {sizes[name]} and, in argument {i}, {n}")
            loops[i] = shape[: len(shape) - len(core)]
        shape = np.broadcast_shapes(*loops.values())

        # Axes of length one are dropped, not mapped: what does not vary is computed once.
        mapped: Callable[..., Any] = partial(self._call, self.function, arguments, frozenset(given), results, sizes)
        for axis in range(1, len(shape) + 1):
            varies = [len(loops[i]) >= axis and loops[i][-axis] == shape[-axis] for i in moving]
            mapped = vmap(mapped, tuple(0 if v else None for v in varies), axis_size=shape[-axis])
        return mapped(*(self._squeezed(given[i], loops[i], shape) for i in moving))

    @staticmethod
    def _squeezed(value: Any, loop: tuple[int, ...], shape: tuple[int, ...]) -> Any:
        keep = [n for n, m in zip(loop, shape[len(shape) - len(loop) :], strict=True) if n == m]
        return np.reshape(value, (*keep, *value.shape[len(loop) :]))

    def _call(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        moving: frozenset[int],
        cores: list[tuple[str, ...]] | None,
        sizes: dict[str, int],
        *values: Any,
    ) -> Any:
        """The function with new values for the arguments that move; its results must be as the signature says."""
        rest = iter(values)
        result = function(*(next(rest) if i in moving else a for i, a in enumerate(arguments)))
        if cores is None:
            return result
        parts = result if isinstance(result, tuple) else (result,)
        if len(parts) != len(cores):
            raise TypeError(f"{self}: the signature has {len(cores)} results, the function returned {len(parts)}")
        for i, (part, core) in enumerate(zip(parts, cores, strict=True)):
            shape = np.shape(part)
            expected = tuple(sizes.setdefault(name, n) for name, n in zip(core, shape, strict=False))
            if len(shape) != len(core) or shape != expected:
                raise ValueError(f"{self}: result {i} has shape {shape}, but the core dimensions {core}")
        return result


def vectorize(
    pyfunc: Callable[..., Any], *, excluded: Collection[int] = (), signature: str | None = None
) -> Callable[..., Any]:
    """A function that broadcasts over the leading axes of its arguments, as NumPy's generalised ufuncs do.

    Args:
        pyfunc: a function of arrays of the core dimensions (of numbers without a signature).
        excluded: positions of arguments that are passed as they are.
        signature: the core dimensions, as ``"(n,m),(m)->(n)"``.

    Raises:
        ValueError: the signature is not one, an argument has too few dimensions, or a result is of another shape.
        BatchSizeError: a core dimension has different lengths.

    >>> import numpy as np, bindrune as br
    >>> br.vectorize(lambda a, b: a @ b, signature="(n),(n)->()")(np.ones((2, 3)), np.arange(3.0))
    array([3., 3.])
    """
    return Vectorized(pyfunc, excluded, signature)
