"""Derivatives: both modes are adjoint, agree with difference quotients, and so do second derivatives."""

from typing import Any

import numpy as np
import pytest

import bindrune as br

from .samples import Sample, assert_close, differentiable, law, parts, precision, smooth

STEP = 1e-5


def inner(a: Any, b: Any) -> tuple[float, float]:
    """The bilinear product of two tuples of arrays (no conjugation), and the size of its terms."""
    terms = [
        np.asarray(x * y).ravel() for x, y in zip(parts(a), parts(b), strict=True) if np.asarray(x).dtype.kind in "fc"
    ]
    flat = np.concatenate(terms) if terms else np.zeros(0)
    return float(np.sum(flat.real)), float(np.sum(np.abs(flat)))


def difference_quotient(function: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, ...]:
    """The central difference of a function along a direction."""
    ahead = parts(function(*(x + STEP * t for x, t in zip(primals, tangents, strict=True))))
    behind = parts(function(*(x - STEP * t for x, t in zip(primals, tangents, strict=True))))
    return tuple(
        (a - b) / (2 * STEP) if np.asarray(a).dtype.kind in "fc" else np.zeros_like(a)
        for a, b in zip(ahead, behind, strict=True)
    )


@law(differentiable)
def test_adjoint(sample: Sample) -> None:
    function, primals = sample.fix(sample.perform), sample.primals
    tangents = sample.noise(primals, "v")
    cotangent = sample.noise(sample.value, "w")
    pushed = br.jvp(function, primals, tangents)[1]
    pulled = br.vjp(function, *primals)[1](cotangent)
    if not all(np.all(np.isfinite(x)) for x in (*parts(pushed), *pulled)):
        assert not sample.row.smooth, f"{sample}: a derivative is not finite"
        pytest.skip("infinite at an edge")
    forward, size = inner(cotangent, pushed)
    reverse, _ = inner(pulled, tangents)
    tolerance = precision(*primals, *parts(sample.value)) * 10
    assert abs(forward - reverse) <= tolerance * size + 1e-300, f"{sample}: <w, Jv> = {forward}, <Jw, v> = {reverse}"


@law(smooth)
def test_difference(sample: Sample) -> None:
    primals = sample.primals
    tangents = sample.noise(primals, "v")
    pushed = br.jvp(sample.fix(sample.perform), primals, tangents)[1]
    assert_close(pushed, difference_quotient(sample.fix(sample.plain), primals, tangents), sample, 1e-6)


@law(smooth)
def test_second_difference(sample: Sample) -> None:
    function, primals = sample.fix(sample.perform), sample.primals
    tangents = sample.noise(primals, "v")
    cotangent = sample.noise(sample.value, "w")

    def pulled(*values: Any) -> Any:
        return br.vjp(function, *values)[1](cotangent)

    pushed = br.jvp(pulled, primals, tangents)[1]
    assert_close(pushed, difference_quotient(pulled, primals, tangents), sample, 1e-6)


@law(smooth)
def test_hessian_in_all_mode_orders(sample: Sample) -> None:
    function, primals = sample.fix(sample.perform), sample.primals
    tangents, others = sample.noise(primals, "v"), sample.noise(primals, "u")
    cotangent = sample.noise(sample.value, "w")

    def pulled(*values: Any) -> Any:
        return br.vjp(function, *values)[1](cotangent)

    def pushed(*values: Any) -> Any:
        return br.jvp(function, values, tangents)[1]

    forward_over_reverse = br.jvp(pulled, primals, tangents)[1]
    reverse_over_reverse = br.vjp(pulled, *primals)[1](tangents)
    reverse_over_forward = br.vjp(pushed, *primals)[1](cotangent)
    forward_over_forward = br.jvp(pushed, primals, others)[1]
    assert_close(reverse_over_reverse, forward_over_reverse, f"{sample}: reverse over reverse", 1e-9)
    assert_close(reverse_over_forward, forward_over_reverse, f"{sample}: reverse over forward", 1e-9)
    expected, size = inner(forward_over_reverse, others)
    found, _ = inner(cotangent, forward_over_forward)
    assert abs(found - expected) <= 1e-9 * max(size, 1), f"{sample}: forward over forward {found}, expected {expected}"
