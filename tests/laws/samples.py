"""What the laws run over: each row of each operation, as a function of its floating operands."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest

import bindrune.compile.jit
import bindrune.random  # noqa: F401  (both define operations)
from bindrune.core.operation import Op, Row, is_differentiable, registry
from bindrune.scipy import linalg, special

special.load()
linalg.load()


@dataclass(frozen=True, eq=False)
class Sample:
    """One row of an operation."""

    op: Op
    number: int
    row: Row

    def __str__(self) -> str:
        return f"{self.op.name}-{self.number}"

    @cached_property
    def active(self) -> tuple[int, ...]:
        """The positions of the floating operands, those with a tangent space."""
        return tuple(i for i, x in enumerate(self.row.operands) if is_differentiable(x))

    @property
    def primals(self) -> tuple[Any, ...]:
        """The floating operands."""
        return tuple(self.row.operands[i] for i in self.active)

    @property
    def double(self) -> bool:
        """Whether every floating operand has the precision that difference quotients need."""
        return all(np.finfo(np.asarray(x).dtype).eps < 1e-15 for x in self.primals)

    @cached_property
    def value(self) -> Any:
        """What plain NumPy returns."""
        return self.plain(*self.row.operands)

    def plain(self, *operands: Any) -> Any:
        """The operation on plain operands, by plain NumPy."""
        return self.op.implementation(*operands, **self.row.params)

    def perform(self, *operands: Any) -> Any:
        """The operation on operands of any kind, as a transformed function performs it."""
        return self.op(*operands, **self.row.params)

    def fix(self, function: Callable[..., Any], operands: tuple[Any, ...] | None = None) -> Callable[..., Any]:
        """`function` of all operands as one of the floating ones alone, the others as in `operands` (the row's)."""
        given = self.row.operands if operands is None else operands
        active = self.active

        def of_active(*values: Any) -> Any:
            whole = list(given)
            for i, x in zip(active, values, strict=True):
                whole[i] = x
            return function(*whole)

        return of_active

    def noise(self, like: Any, name: str) -> Any:
        """Random values for tangents and cotangents of `like`, a tuple of arrays or one; zero where it has none."""
        if isinstance(like, tuple):
            return tuple(self.noise(part, f"{name}{i}") for i, part in enumerate(like))
        x = np.asarray(like)
        generator = np.random.default_rng(zlib.crc32(f"{self}:{name}".encode()))
        drawn = generator.uniform(-1, 1, x.shape)
        if x.dtype.kind == "c":
            drawn = drawn + 1j * generator.uniform(-1, 1, x.shape)
        made = np.asarray(drawn).astype(x.dtype) if is_differentiable(x) else np.zeros_like(x)
        return made if isinstance(like, np.ndarray) else made[()]


SAMPLES = [
    Sample(op, number, row)
    for op in registry.values()
    for number, row in enumerate(op.rows() if op.rows is not None else ())
]


def always(sample: Sample) -> bool:
    """Every row."""
    return True


def differentiable(sample: Sample) -> bool:
    """Rows with a floating operand."""
    return bool(sample.active)


def smooth(sample: Sample) -> bool:
    """Rows where difference quotients converge, in double precision."""
    return bool(sample.active) and sample.row.smooth and sample.double


def law(applies: Callable[[Sample], bool]) -> Callable[[Callable[..., None]], Any]:
    """Run a test over all rows it applies to."""

    def decorate(check: Callable[..., None]) -> Any:
        name = check.__name__.removeprefix("test_").replace("_", "-")
        chosen = [sample for sample in SAMPLES if applies(sample)]
        return pytest.mark.parametrize("sample", chosen, ids=[f"{sample}-{name}" for sample in chosen])(check)

    return decorate


def parts(result: Any) -> tuple[Any, ...]:
    """The results of an operation, one or several."""
    return result if isinstance(result, tuple) else (result,)


def precision(*arrays: Any) -> float:
    """The rounding to allow: that of the coarsest floating dtype among them."""
    dtypes = [np.asarray(x).dtype for x in arrays]
    eps = max([float(np.finfo(d).eps) for d in dtypes if d.kind in "fc"], default=0.0)
    return max(eps * 1e3, 1e-11)


def assert_close(found: Any, expected: Any, what: Any, tolerance: float | None = None) -> None:
    """Elements agree up to rounding, relative to the largest of them."""
    assert len(parts(found)) == len(parts(expected)), f"{what}: {len(parts(found))} results"
    for a, b in zip(parts(found), parts(expected), strict=True):
        assert np.shape(a) == np.shape(b), f"{what}: shape {np.shape(a)}, expected {np.shape(b)}"
        rtol = precision(a, b) if tolerance is None else tolerance
        if np.asarray(b).dtype.kind not in "fc":
            np.testing.assert_array_equal(a, b, err_msg=str(what))
            continue
        size = np.abs(b)[np.isfinite(b)]
        scale = max(1.0, float(np.max(size, initial=0)))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=str(what))
