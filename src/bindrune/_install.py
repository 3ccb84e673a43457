"""Puts the floors together at import: operations, then NumPy's names over them, then lifting over those."""

from .lift import library, names
from .numpy import (  # noqa: F401
    creation,
    joining,
    methods,
    products,
    reductions,
    selection,
    shaping,
    sorting,
    ufuncs,
)
from .ops import scalars  # noqa: F401

ufuncs.install()
methods.install()
library.install()
names.install()
