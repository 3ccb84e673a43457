"""Transformations of ordinary NumPy functions: derivatives, batching, compilation.

>>> import numpy as np, bindrune as br
>>> br.grad(lambda x: np.sum(np.sin(x) * x))(np.array([0.0, 1.0]))
array([0.        , 1.38177329])
"""

from . import _install  # noqa: F401
from .core.errors import (
    BatchSizeError,
    BindruneError,
    CotangentError,
    EscapedValueError,
    MutationError,
    NonDifferentiableError,
    NonScalarOutputError,
    TangentError,
    TracedConditionError,
    UnreachableError,
    UnsupportedError,
)
from .transforms.batch import vmap
from .transforms.forward import jvp
from .transforms.reverse import grad, value_and_grad, vjp

__all__ = [
    "BatchSizeError",
    "BindruneError",
    "CotangentError",
    "EscapedValueError",
    "MutationError",
    "NonDifferentiableError",
    "NonScalarOutputError",
    "TangentError",
    "TracedConditionError",
    "UnreachableError",
    "UnsupportedError",
    "grad",
    "jvp",
    "value_and_grad",
    "vjp",
    "vmap",
]

__version__ = "0.1.0"
