"""Puts the floors together at import: operations, then NumPy's names over them, then lifting over those."""

from importlib import import_module
from typing import Any

from . import scipy
from .lift import library, names
from .numpy import (  # noqa: F401
    binning,
    convolution,
    creation,
    elementwise,
    fourier,
    iteration,
    joining,
    linalg,
    methods,
    products,
    quantiles,
    reductions,
    selection,
    shaping,
    sorting,
    ufuncs,
)
from .ops import scalars  # noqa: F401
from .scipy import linalg as _linear_algebra  # noqa: F401
from .scipy import special  # noqa: F401

ufuncs.install()
methods.install()
library.install()
names.install()


def _above_scipy(name: str) -> Any:
    """What stands among SciPy's names but is made of transformations."""
    if name != "optimize":
        raise AttributeError(f"module {scipy.__name__!r} has no attribute {name!r}")
    return import_module(".transforms.optimize", __package__)


vars(scipy)["__getattr__"] = _above_scipy
