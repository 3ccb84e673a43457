"""Programs as scientists write them: `jit` gives what plain Python gives, in value, type and effect.

Their derivatives are the same staged, on either side.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br
from alike import alike
from staged_programs import PROGRAMS

BACKENDS = ["interpreter", "native"]
DIFFERENTIABLE = [
    (f, calls[0]) for f, calls in PROGRAMS if np.asarray(br.tree.leaves(calls[0][0])[0]).dtype.kind == "f"
]
each = pytest.mark.parametrize(("f", "calls"), PROGRAMS, ids=[f.__name__ for f, _ in PROGRAMS])


def total(f: Callable[..., Any]) -> Callable[..., Any]:
    """The sum of all floating numbers that a function returns, each with a weight of its own."""

    def weighed(*arguments: Any) -> Any:
        found = 0.0
        for i, leaf in enumerate(br.tree.leaves(f(*arguments))):
            if not isinstance(leaf, (str, bool, int, type(None))) and np.asarray(leaf).dtype.kind in "fc":
                found = found + np.real(np.sum(leaf)) * (1.0 + 0.1 * i)
        return found

    return weighed


def outcome(f: Callable[..., Any], arguments: Any) -> tuple[Any, Any]:
    """What a call gives or raises, and what it leaves in its arguments."""
    mine = copy.deepcopy(arguments)
    try:
        found = f(*mine)
    except Exception as error:
        found = type(error), str(error)
    return found, mine


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@each
def test_a_program_is_plain_python(f: Callable[..., Any], calls: list[Any], backend: str) -> None:
    g = br.jit(f, backend=backend)
    for arguments in (*calls, *calls):
        (found, mine), (expected, plain) = outcome(g, arguments), outcome(f, arguments)
        alike(found, expected)
        for a, b in zip(mine, plain, strict=True):
            if isinstance(a, np.ndarray):
                alike(a, b)
    assert not g.stats().eager, g.stats().reasons


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("f", "arguments"), DIFFERENTIABLE, ids=[f.__name__ for f, _ in DIFFERENTIABLE])
def test_a_gradient_is_the_same_staged(f: Callable[..., Any], arguments: Any) -> None:
    gradient = br.grad(total(f))
    expected, _ = outcome(gradient, arguments)
    for staged in (br.jit(gradient), br.grad(br.jit(total(f)))):
        found, _ = outcome(staged, arguments)
        if isinstance(expected, tuple):
            assert found[0] is expected[0]
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
