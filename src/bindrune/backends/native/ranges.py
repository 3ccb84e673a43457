"""What is known of affine expressions from what their variables are counted up to."""

from __future__ import annotations

from .loops import Affine

__all__ = ["differ", "largest", "nonnegative"]


def nonnegative(x: Affine) -> bool:
    """Whether an expression is known not to be negative, from what its variables are counted up to."""
    while x.terms:
        variable, factor = x.terms[-1]
        if variable.below is None:
            return False
        x = x - Affine(((variable, factor),), 0)
        if factor < 0:
            x = x + (variable.below - 1) * factor
    return x.offset >= 0


def differ(i: Affine, j: Affine) -> bool:
    """Whether two indices are known never to be equal, from what their variables are counted up to."""
    if i.terms == j.terms:
        return i.offset != j.offset
    # Mostly all lengths are known, and numbers decide.
    factors = dict(i.terms)
    for variable, factor in j.terms:
        factors[variable] = factors.get(variable, 0) - factor
    least = most = i.offset - j.offset
    for variable, factor in factors.items():
        if variable.below is None or variable.below.terms:
            return nonnegative(i - j - 1) or nonnegative(j - i - 1)
        reach = factor * (variable.below.offset - 1)
        if reach < 0:
            least += reach
        else:
            most += reach
    return least > 0 or most < 0


def largest(x: Affine) -> int | None:
    """The largest number an expression can be, from what its variables are counted up to."""
    while x.terms:
        variable, factor = x.terms[-1]
        if variable.below is None:
            return None
        x = x - Affine(((variable, factor),), 0)
        if factor > 0:
            x = x + (variable.below - 1) * factor
    return x.offset
