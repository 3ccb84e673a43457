"""Staging: under `jit` an operation gives what it gives without, alone and in either order with other transformations.

The interpreter's values are those of NumPy to the last bit; other values are equal up to rounding, for machine code has
elementary functions of its own, and a graph may sum cotangents in another order.
"""

import os
from typing import Any

import numpy as np

import bindrune as br

from .samples import Sample, always, assert_close, differentiable, law, parts
from .test_batching import TYPE_OF_VALUES, axes, stacked
from .test_types import assert_same, assert_same_type


def of_numbers(sample: Sample) -> bool:
    """Whether the operands are numbers: functions of dates run as plain Python."""
    return always(sample) and all(np.asarray(x).dtype.kind not in "mM" for x in sample.row.operands)


BACKEND = os.environ.get("BINDRUNE_BACKEND", "interpreter")
"""For derivatives and lanes, which are made before a backend comes in: machine code of every row takes minutes."""


def staged(function: Any, sample: Sample, backend: str = BACKEND) -> Any:
    """The function under `jit`, which must not have run as plain Python unless the types of results are values'."""
    made = br.jit(function, backend=backend)

    def call(*arguments: Any) -> Any:
        result = made(*arguments)
        assert not made.stats().eager or sample.op.name in TYPE_OF_VALUES, made.stats().reasons
        return result

    return call


def assert_like(found: Any, expected: Any, what: str) -> None:
    """Equal up to rounding, of the same shapes, dtypes and kinds."""
    assert_close(found, expected, what)
    for a, b in zip(parts(found), parts(expected), strict=True):
        assert_same_type(a, b, what)


@law(of_numbers)
def test_staged_equals_eager(sample: Sample) -> None:
    for backend, compare in (("interpreter", assert_same), ("native", assert_like)):
        function = staged(lambda *operands: sample.perform(*operands), sample, backend)
        for again in ("first", "second"):
            compare(function(*sample.row.operands), sample.value, f"{sample}: {backend}, {again} call")


@law(differentiable)
def test_staged_tangent(sample: Sample) -> None:
    primals, tangents = sample.primals, sample.noise(sample.primals, "v")
    function = sample.fix(sample.perform)
    expected = br.jvp(function, primals, tangents)
    inside = staged(lambda *given: br.jvp(function, given[: len(primals)], given[len(primals) :]), sample)
    outside = br.jvp(staged(function, sample), primals, tangents)
    for found, order in ((inside(*primals, *tangents), "jit of jvp"), (outside, "jvp of jit")):
        assert_like(found[0], expected[0], f"{sample}: value under {order}")
        assert_like(found[1], expected[1], f"{sample}: tangent under {order}")


@law(differentiable)
def test_staged_pullback(sample: Sample) -> None:
    primals, cotangent = sample.primals, sample.noise(sample.value, "w")
    function = sample.fix(sample.perform)
    expected = br.vjp(function, *primals)[1](cotangent)
    inside = staged(lambda cotangent, *given: br.vjp(function, *given)[1](cotangent), sample)
    outside = br.vjp(staged(function, sample), *primals)[1](cotangent)
    assert_like(inside(cotangent, *primals), expected, f"{sample}: jit of vjp")
    assert_like(outside, expected, f"{sample}: vjp of jit")


@law(of_numbers)
def test_staged_lanes(sample: Sample) -> None:
    chosen = tuple(range(len(sample.row.operands)))
    operands = stacked(sample, chosen)
    mapped = br.vmap(sample.perform, axes(operands, chosen))
    expected = parts(mapped(*operands))
    inside = staged(lambda *given: mapped(*given), sample)(*operands)
    outside = br.vmap(staged(lambda *given: sample.perform(*given), sample), axes(operands, chosen))(*operands)
    assert_like(inside, expected, f"{sample}: jit of vmap")
    assert_like(outside, expected, f"{sample}: vmap of jit")
