"""What is measured of a compiled program, and against which bars."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Program"]


@dataclass(frozen=True)
class Program:
    """A program in NumPy and the same for its peers.

    Attributes:
        name: what it computes.
        ours: the program, to be compiled by `br.jit`; it may take derivatives within.
        arguments: its arguments, or a small set of them.
        bars: the bars for our time over a peer's, by peer.
        jaxs: the program in JAX, to be compiled by `jax.jit`.
        numba: what Numba compiles, where it can.
        plain: whether NumPy alone can run it in reasonable time.
        tolerance: the relative error of results; absolute, it is of the largest element.
        first: the bar for our first call over JAX's.
    """

    name: str
    ours: Callable[..., Any]
    arguments: Callable[[bool], tuple[Any, ...]]
    bars: dict[str, float] = field(default_factory=dict)
    jaxs: Callable[..., Any] | None = None
    numba: Callable[..., Any] | None = None
    plain: bool = True
    tolerance: float = 1e-9
    first: float | None = None
