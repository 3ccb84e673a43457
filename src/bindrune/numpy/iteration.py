"""NumPy's loops over elements in Python: `np.vectorize` and `np.nditer`.

Both are classes of C code that hand out plain numbers.  Here the loop runs over stand-ins; the other uses of `nditer`
(several operands, buffers, writing) have no meaning for them and are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.array import Array, dtype_of
from ..core.errors import UnsupportedError, user_line
from ..core.handler import HOST
from ..core.operation import registry
from ..core.protocol import FUNCTIONS
from .creation import CREATION, array, asarray

__all__ = ["Vectorized"]


class Vectorized:
    """`np.vectorize` of a function that takes stand-ins."""

    def __init__(
        self,
        pyfunc: Any = np._NoValue,
        otypes: Any = None,
        doc: str | None = None,
        excluded: Any = None,
        cache: bool = False,
        signature: str | None = None,
    ) -> None:
        if signature is not None:
            raise UnsupportedError(f"{user_line()}: np.vectorize with a signature has no rule here; use br.vectorize")
        self.pyfunc = pyfunc
        self.otypes: Sequence[Any] = () if otypes is None else otypes
        self.excluded = set(excluded or ())
        self.__doc__ = doc or getattr(pyfunc, "__doc__", None)
        self.__name__ = getattr(pyfunc, "__name__", "vectorized")

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if self.pyfunc is np._NoValue:
            self.__init__(*arguments, self.otypes, excluded=self.excluded)  # type: ignore[misc]
            return self
        places: list[int | str] = [*range(len(arguments)), *keywords]
        values = dict(zip(places, [*arguments, *keywords.values()], strict=True))
        looped = [place for place in places if place not in self.excluded]
        spread = FUNCTIONS[np.broadcast_arrays](*(asarray(values[place]) for place in looped))
        shape = spread[0].shape if spread else ()
        found = []
        for index in np.ndindex(shape):
            chosen = values | {p: registry["item"](x[index]) for p, x in zip(looped, spread, strict=True)}
            found.append(self.pyfunc(*(chosen[p] for p in range(len(arguments))), **{k: chosen[k] for k in keywords}))
        if not found:
            if not self.otypes:
                raise ValueError("cannot call `vectorize` on size 0 inputs unless `otypes` is set")
            return _one_or_several([CREATION["zeros"](shape, kind) for kind in self.otypes])
        several = isinstance(found[0], tuple)
        columns = list(zip(*found, strict=True)) if several else [found]
        kinds = self.otypes or [dtype_of(column[0]) for column in columns]
        results = [
            array(FUNCTIONS[np.reshape](asarray(list(column)), shape)).astype(kind)
            for column, kind in zip(columns, kinds, strict=True)
        ]
        return tuple(results) if several else results[0]


def _one_or_several(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else tuple(results)


def _nditer(op: Any, *arguments: Any, **keywords: Any) -> Any:
    """`np.nditer` over one array, to read; the elements, in order of memory for what plain code would hold."""
    operands = op if isinstance(op, (list, tuple)) else [op]
    if not any(isinstance(x, Array) and x.read()._handler is not HOST for x in operands):
        plain = [x.read()._value if isinstance(x, Array) else x for x in operands]
        return np.nditer(plain if isinstance(op, (list, tuple)) else plain[0], *arguments, **keywords)
    if arguments or keywords or len(operands) > 1:
        raise UnsupportedError(
            f"{user_line()}: np.nditer with flags or several operands hands out plain memory, where traced values "
            "cannot be. Iterate over x.flat, np.ndenumerate(x) or np.ndindex(x.shape)."
        )
    return iter(FUNCTIONS[np.ravel](operands[0], order="K"))


CREATION["vectorize"] = Vectorized
CREATION["nditer"] = _nditer
