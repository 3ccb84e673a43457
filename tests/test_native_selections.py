"""What machine code computes from what is known: selections at known places, roundings, quotients of integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br


def compare(function: Callable[..., Any], *arguments: Any) -> str:
    """Run a function compiled and as it is: the same to the last bit, nothing left to the host.  Its loops."""
    compiled = br.jit(function, backend="native")
    with np.errstate(all="ignore"):
        pairs = zip(br.tree.leaves(compiled(*arguments)), br.tree.leaves(function(*arguments)), strict=True)
        for mine, theirs in pairs:
            assert np.asarray(mine).dtype == np.asarray(theirs).dtype
            np.testing.assert_array_equal(mine, theirs)
    loops = str(compiled.lower(*arguments).loops)
    assert " host " not in loops
    return loops


# ------------------------------------------------------------------------------------------- selections at known places


@pytest.mark.parametrize("places", [[1, 2, 0], [2, 0, 1], [0, 1, 2], [-1, 0], [3, 2, 1], [0, 0, 0], [5], [0, 2, 4]])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_selections_at_known_places_are_slices(places: list[int], axis: int) -> None:
    x = np.arange(6.0 * 7 * 8).reshape(6, 7, 8)

    def selected(x: Any) -> Any:
        # Places that a function makes itself are known; arrays from outside may change from call to call.
        return x[(slice(None),) * axis + (np.array(places),)] * 2.0

    assert "where" not in compare(selected, x)
    for f in (br.grad(lambda x: np.sum(np.sin(selected(x)))), lambda x: br.jvp(selected, (x,), (x * x,))):
        for mine, eager in zip(br.tree.leaves(br.jit(f)(x)), br.tree.leaves(f(x)), strict=True):
            np.testing.assert_allclose(mine, eager, rtol=1e-14)


def test_selections_at_many_known_places_and_beside_slices() -> None:
    x = np.arange(60.0).reshape(5, 12)
    many = np.random.default_rng(0).permutation(12)
    compare(lambda x: x[:, many], x)
    compare(lambda x: x[None, 1:, [1, 2, 0]], x)
    compare(lambda x: x[..., [3, 4], None], x)
    compare(lambda x: x[[0, 1]][:, [1, 0]], x)
    compare(lambda x: x[[0, 1], [1, 0]], x)
    compare(lambda x: x[np.array([], int)], x)
    with pytest.raises(IndexError, match="index 12 is out of bounds for axis 1 with size 12"):
        br.jit(lambda x: x[:, [1, 12]])(x)


def test_what_is_selected_is_a_copy() -> None:
    def f(x: Any) -> Any:
        x = x.copy()
        some = x[[0, 1]]
        x[0] = 7.0
        some[1] = 8.0
        return x, some

    compare(f, np.arange(4.0))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("function", [np.argmax, np.argmin])
def test_positions_of_flags(function: Callable[..., Any], axis: int | None, share: float) -> None:
    flags = np.random.default_rng(1).random((3, 4, 5)) < share
    compare(lambda x: function(x, axis=axis), flags)
    compare(lambda x: function(x, axis=axis, keepdims=True), flags)


def test_a_cross_product_is_one_nest() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 50, 3))
    assert compare(np.cross, x, y).count("below 50") == 1


# ----------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decimals", [0, 1, 2, 7, 12, 23, -1, -3, 400])
def test_rounding_to_decimals(decimals: int, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    some = [0.5, 1.5, -0.5, -0.0, 2.675, np.nan, np.inf, -np.inf, 1e-40]
    x = np.concatenate([rng.normal(size=200) * 10 ** rng.uniform(-5, 12, 200), some]).astype(dtype)
    compare(lambda x: np.round(x, decimals), x)
    compare(lambda x: np.round(x[3], decimals), x)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64])
def test_quotients_of_integers_and_constants(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    some = np.random.default_rng(0).integers(limits.min, limits.max, 300, dtype=dtype)
    x = np.concatenate([some, np.array([limits.min, limits.max, limits.min + 1, limits.max - 1, 0, 1, 7], dtype)])
    for divisor in (1, 2, 3, 7, 10, 64, 127, -1, -2, -7, 641, 2**31 - 1, 2**40 + 1, 2**62, 2**63 - 1):
        if limits.min <= divisor <= limits.max:
            compare(lambda x, divisor=divisor: (x // divisor, x % divisor, np.divmod(x, divisor)), x)


def test_divmod_is_a_ufunc_with_derivatives() -> None:
    x = np.array([1.0, 2.5, -3.1])

    def written(x: Any) -> Any:
        quotient, rest = np.zeros(3), np.zeros(3)
        np.divmod(x, 0.3, quotient, rest)
        return quotient + rest

    compare(written, x)
    for f in (lambda x: np.divmod(x, 0.3)[1].sum(), lambda x: sum(np.divmod(x, 0.3)).sum()):
        np.testing.assert_array_equal(br.grad(f)(x), np.ones(3))
    np.testing.assert_array_equal(br.grad(lambda x: np.divmod(1.0, x)[1].sum())(x), -(1.0 // x))
    np.testing.assert_array_equal(br.vmap(lambda n: np.divmod(n, 7)[0])(np.arange(-9, 9)), np.arange(-9, 9) // 7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", [np.fmod, np.remainder, np.floor_divide])
def test_remainders_of_floats_are_exact(function: Callable[..., Any], dtype: Any) -> None:
    """Also where a rounded quotient is an integer above the exact one, and of numbers of any size."""
    limits = np.finfo(dtype)
    rng = np.random.default_rng(0)
    edges = [0.0, -0.0, 1.0, -3.0, np.inf, -np.inf, np.nan, limits.max, limits.tiny, limits.smallest_subnormal, np.pi]
    divisors = rng.normal(size=20_000).astype(dtype)
    multiples = (rng.integers(-100_000, 100_000, 20_000) * divisors.astype(float)).astype(dtype)
    any_bits = rng.integers(0, np.iinfo(f"u{limits.dtype.itemsize}").max, (2, 20_000), f"u{limits.dtype.itemsize}")
    pairs = [
        np.array(np.meshgrid(edges, edges), dtype).reshape(2, -1),
        any_bits.view(dtype),
        np.stack([multiples, divisors]),
        np.stack([np.nextafter(multiples, dtype(np.inf)), divisors]),
        np.stack([np.nextafter(multiples, dtype(-np.inf)), divisors]),
    ]
    x, y = np.concatenate(pairs, axis=1)
    with np.errstate(all="ignore"):
        compare(lambda x, y: (function(x, y), np.signbit(function(x, y))), x, y)
        compare(lambda x: function(x, x.dtype.type(0.7)), x)
        compare(lambda x: function(x, x.dtype.type(1)), x)
