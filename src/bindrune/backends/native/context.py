"""The context of a run: what stands where in it, and what a program says when it has stopped.

A context is an array of words, whose first is the address of the memory that a run works in.
"""

from __future__ import annotations

__all__ = ["CONTEXT_DEEPEST", "CONTEXT_TAPE", "CONTEXT_VALUES", "DEEP", "FULL", "OUTSIDE", "STACK_BOUNDS"]

CONTEXT_TAPE = 2
"""Where in the context the address of the tape lies, and behind it the bytes it has room for."""

OUTSIDE = -(1 << 32)
"""The status of a program that would have left its buffers."""

FULL = -(1 << 33) - 1
"""The status of a program for which there is not enough memory; for C its lower half is, which says the same there."""

DEEP = -(1 << 34) - 3
"""The status of a program whose routines call each other deeper than the stack of its thread allows."""

CONTEXT_DEEPEST = 4
"""Where in the context the address stands below which no routine is begun, and that where its stack ends above."""

STACK_BOUNDS = "bindrune.stack"
"""The symbol of the function that puts both there."""

CONTEXT_VALUES = 6
"""Where in the context the values begin that the host is told."""
