"""What is measured of a program, and against which bars."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

import bindrune as br

__all__ = ["Work"]

Function = Callable[..., Any]


@dataclass(frozen=True)
class Work:
    """A program in NumPy and in JAX.

    Attributes:
        name: what it computes.
        ours: the program in NumPy.
        jaxs: the program in JAX.
        arguments: the arguments for a size.
        sizes: the sizes to measure.
        small: the sizes of a quick run.
        argnums: the arguments that the derivative is by.
        ratio: the bar for the derivative's time over the function's.
        peer: the bar for the derivative's time over JAX's, for all sizes or by size.
        exponent: the bar for the growth of the derivative's time, as a power of the size.
        memory: the same for its memory.
        lanes: whether the program is of one lane, and is run under `vmap`.
        jacobian: whether the derivative is the Jacobian instead of the gradient.
        refused: whether JAX cannot take the derivative.
    """

    name: str
    ours: Function
    jaxs: Function
    arguments: Callable[[int], tuple[Any, ...]]
    sizes: Sequence[int]
    small: Sequence[int]
    argnums: tuple[int, ...]
    ratio: float | None = None
    peer: float | dict[int, float] | None = None
    exponent: float | None = None
    memory: float | None = None
    lanes: bool = False
    jacobian: bool = False
    refused: bool = False

    def bar(self, size: int) -> float | None:
        """The bar against JAX at a size."""
        return self.peer.get(size) if isinstance(self.peer, dict) else self.peer

    def function(self) -> Function:
        """The program under `br.jit`."""
        return br.jit(br.vmap(self.ours) if self.lanes else self.ours, backend="native")

    def derivative(self) -> Function:
        """Its derivative under `br.jit`; a gradient comes with the value."""
        derive = br.jacrev if self.jacobian else br.value_and_grad
        found = derive(self.ours, argnums=self.argnums)
        return br.jit(br.vmap(found) if self.lanes else found, backend="native")

    def jax_function(self) -> Function:
        """The JAX program under `jax.jit`."""
        return jax.jit(jax.vmap(self.jaxs) if self.lanes else self.jaxs)

    def jax_derivative(self) -> Function:
        """Its derivative under `jax.jit`."""
        derive = jax.jacrev if self.jacobian else jax.value_and_grad
        found = derive(self.jaxs, argnums=self.argnums)
        return jax.jit(jax.vmap(found) if self.lanes else found)
