"""The works that are measured: each an ordinary NumPy program, and the same in JAX's own idiom.

The NumPy programs are written as users write them: loops, element reads and writes, slices, no thought of derivatives.
The JAX programs use `lax.scan`, `lax.fori_loop` and `.at[].set`, which is what JAX asks for.  A `Work` is measured with
its derivative, over sizes; a `Program` as it stands, against whoever can run it.
"""

from . import dynamics, factorizations, formulas, loops, models, networks, recursions, sweeps, training
from .program import Program
from .work import Work

__all__ = ["Program", "Work", "all_programs", "all_works"]


def all_works() -> list[Work]:
    """Every work, in the order of the table."""
    return [*sweeps.WORKS, *dynamics.WORKS, *networks.WORKS, *factorizations.WORKS, *models.WORKS, *recursions.WORKS]


def all_programs() -> list[Program]:
    """Every program, in the order of the table."""
    return [*formulas.PROGRAMS, *training.PROGRAMS, *loops.PROGRAMS]
