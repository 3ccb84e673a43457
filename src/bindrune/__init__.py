"""Transformations of ordinary NumPy functions: derivatives, batching and compilation.

>>> import numpy as np, bindrune as br
>>> br.grad(lambda x: np.sum(np.sin(x) * x))(np.array([0.0, 1.0]))
array([0.        , 1.38177329])
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import _install  # noqa: F401
from .core.errors import (
    BatchSizeError,
    BindruneError,
    CotangentError,
    EscapedValueError,
    ExportError,
    GradientCheckError,
    GraphError,
    KeyReuseWarning,
    MutationError,
    NonDifferentiableError,
    NonFiniteError,
    NonScalarOutputError,
    StaticArgumentError,
    TangentError,
    TracedConditionError,
    UnreachableError,
    UnsupportedError,
)
from .transforms.axes import all_gather, axis_index, axis_size, pmax, pmean, pmin, psum
from .transforms.batch import vmap
from .transforms.control import associative_scan, cond, fori_loop, map, scan, select, switch, while_loop
from .transforms.forward import jvp
from .transforms.gradients import grad, value_and_grad, vjp
from .transforms.jacobians import (
    hessian,
    hvp,
    jacfwd,
    jacobian,
    jacrev,
    linear_transpose,
    linearize,
    value_and_jacfwd,
    value_and_jacrev,
)
from .transforms.stopping import detach, no_grad, stop_gradient

if TYPE_CHECKING:
    from . import random, tree
    from .backends.native.export import export
    from .backends.native.threads import set_threads
    from .compile.interface import (
        Dynamic,
        ShapeDtype,
        cost,
        disable_jit,
        eval_shape,
        io_callback,
        jit,
        make_graph,
        progress,
        pure_callback,
    )
    from .debug import debug
    from .transforms.checking import check_gradient, check_gradients, check_grads
    from .transforms.checkpoint import (
        checkpoint,
        checkpoint_name,
        remat,
        save_everything,
        save_matmuls,
        save_nothing,
        save_only_these_names,
    )
    from .transforms.custom import custom_jvp, custom_vjp
    from .transforms.differences import finite_diff, finite_diff_jacobian
    from .transforms.implicit import custom_linear_solve, custom_root, fixed_point
    from .transforms.loops import checkpoint_loop
    from .transforms.nans import debug_nans
    from .transforms.primitive import custom_vmap, primitive
    from .transforms.vectorize import vectorize

__all__ = [
    "BatchSizeError",
    "BindruneError",
    "CotangentError",
    "Dynamic",
    "EscapedValueError",
    "ExportError",
    "GradientCheckError",
    "GraphError",
    "KeyReuseWarning",
    "MutationError",
    "NonDifferentiableError",
    "NonFiniteError",
    "NonScalarOutputError",
    "ShapeDtype",
    "StaticArgumentError",
    "TangentError",
    "TracedConditionError",
    "UnreachableError",
    "UnsupportedError",
    "all_gather",
    "associative_scan",
    "axis_index",
    "axis_size",
    "check_gradient",
    "check_gradients",
    "check_grads",
    "checkpoint",
    "checkpoint_loop",
    "checkpoint_name",
    "cond",
    "cost",
    "custom_jvp",
    "custom_linear_solve",
    "custom_root",
    "custom_vjp",
    "custom_vmap",
    "debug",
    "debug_nans",
    "detach",
    "disable_jit",
    "eval_shape",
    "export",
    "finite_diff",
    "finite_diff_jacobian",
    "fixed_point",
    "fori_loop",
    "grad",
    "hessian",
    "hvp",
    "io_callback",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "linear_transpose",
    "linearize",
    "make_graph",
    "map",
    "no_grad",
    "pmax",
    "pmean",
    "pmin",
    "primitive",
    "progress",
    "psum",
    "pure_callback",
    "random",
    "remat",
    "save_everything",
    "save_matmuls",
    "save_nothing",
    "save_only_these_names",
    "scan",
    "select",
    "set_threads",
    "stop_gradient",
    "switch",
    "tree",
    "value_and_grad",
    "value_and_jacfwd",
    "value_and_jacrev",
    "vectorize",
    "vjp",
    "vmap",
    "while_loop",
]

__version__ = "0.1.0"


_LATER = {
    "backends.native.export": "export",
    "backends.native.threads": "set_threads",
    "compile.interface": "Dynamic ShapeDtype cost disable_jit eval_shape io_callback jit make_graph progress "
    "pure_callback",
    "debug": "debug",
    "transforms.checking": "check_gradient check_gradients check_grads",
    "transforms.checkpoint": "checkpoint checkpoint_name remat save_everything save_matmuls save_nothing "
    "save_only_these_names",
    "transforms.custom": "custom_jvp custom_vjp",
    "transforms.differences": "finite_diff finite_diff_jacobian",
    "transforms.implicit": "custom_linear_solve custom_root fixed_point",
    "transforms.loops": "checkpoint_loop",
    "transforms.nans": "debug_nans",
    "transforms.primitive": "custom_vmap primitive",
    "transforms.vectorize": "vectorize",
}
"""Where the names are defined whose modules are imported when they are first asked for: what not every program uses,
and what needs SciPy or optree.  The engine itself is imported at once."""

_HOME = {name: module for module, names in _LATER.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in ("random", "tree"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return value
