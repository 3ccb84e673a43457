"""Transparency: under every transformation an operation's results are NumPy's, in value, shape, dtype and kind."""

from typing import Any

import numpy as np

import bindrune as br

from .samples import Sample, differentiable, law, parts


def assert_same(found: Any, expected: Any, what: str) -> None:
    """Exactly NumPy's results, numbers where NumPy has numbers."""
    assert len(parts(found)) == len(parts(expected)), what
    for a, b in zip(parts(found), parts(expected), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=what)
        assert_same_type(a, b, what)


def assert_same_type(found: Any, expected: Any, what: str) -> None:
    """The same shape and dtype, and both arrays or both numbers."""
    a, b = np.asarray(found), np.asarray(expected)
    assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{what}: {a.shape} {a.dtype}, expected {b.shape} {b.dtype}"
    kinds = isinstance(found, np.ndarray), isinstance(expected, np.ndarray)
    assert kinds[0] == kinds[1], f"{what}: {type(found).__name__}, expected {type(expected).__name__}"


@law(differentiable)
def test_types_under_jvp(sample: Sample) -> None:
    value, tangent = br.jvp(sample.fix(sample.perform), sample.primals, sample.noise(sample.primals, "v"))
    assert_same(value, sample.value, f"{sample}: value")
    for t, v in zip(parts(tangent), parts(sample.value), strict=True):
        assert_same_type(t, v, f"{sample}: tangent")


@law(differentiable)
def test_types_under_vjp(sample: Sample) -> None:
    value, pullback = br.vjp(sample.fix(sample.perform), *sample.primals)
    assert_same(value, sample.value, f"{sample}: value")
    for g, x in zip(pullback(sample.noise(sample.value, "w")), sample.primals, strict=True):
        assert_same_type(g, x, f"{sample}: cotangent")
