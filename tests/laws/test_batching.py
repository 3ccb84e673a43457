"""Batching: a mapped operation equals the loop over its lanes, whichever operands are mapped, along whatever axes."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

import bindrune as br

from .samples import Sample, always, assert_close, differentiable, law, parts

LANES = 3

TYPE_OF_VALUES = {"eig", "eigvals", "lstsq"}
"""Operations whose shapes or dtypes depend on values (a complex root, a rank): no lanes have none to go by."""


def scaled(x: Any, n: int) -> Any:
    """An operand for lane `n`: the row's own in the first, a little smaller in each of the others."""
    x = np.asarray(x)
    return x * x.dtype.type(1 - 0.03 * n) if x.dtype.kind in "fc" else x


def rearranged(x: Any, n: int) -> Any:
    """The same with other elements in each place, so that lanes sort and select differently."""
    return np.roll(scaled(x, n), n)


def stacked(sample: Sample, chosen: tuple[int, ...], count: int = LANES) -> list[Any]:
    """The operands, those chosen with `count` lanes in front.

    They are only scaled where rearranged ones have no such result (an indefinite matrix has no Cholesky factor).
    """
    for change in (rearranged, scaled):
        operands = [
            np.stack([change(x, n) for n in range(LANES)]) if i in chosen else x
            for i, x in enumerate(sample.row.operands)
        ]
        if change is scaled or all(has_like_result(sample, in_lane(operands, chosen, n)) for n in range(LANES)):
            break
    return [x[:count] if i in chosen else x for i, x in enumerate(operands)]


def has_like_result(sample: Sample, operands: list[Any]) -> bool:
    """Whether the result for other operands has the shapes and dtypes of the row's."""
    try:
        result = sample.plain(*operands)
    except (ValueError, ArithmeticError):
        return False
    return all(
        np.shape(a) == np.shape(b) and np.asarray(a).dtype == np.asarray(b).dtype
        for a, b in zip(parts(result), parts(sample.value), strict=True)
    )


def in_lane(operands: list[Any], chosen: tuple[int, ...], n: int) -> list[Any]:
    """The operands of one lane."""
    return [x[n] if i in chosen else x for i, x in enumerate(operands)]


def axes(operands: list[Any], chosen: tuple[int, ...], axis: int = 0) -> tuple[int | None, ...]:
    """`in_axes` for the chosen operands."""
    return tuple(axis if i in chosen else None for i in range(len(operands)))


def subsets(sample: Sample) -> list[tuple[int, ...]]:
    """Every choice of mapped operands; of more than three operands each alone, each pair, and all."""
    count = len(sample.row.operands)
    sizes = range(1, count + 1) if count <= 3 else (1, 2, count)
    return [chosen for size in sizes for chosen in combinations(range(count), size)]


def stack_results(results: list[Any]) -> tuple[Any, ...]:
    """One array for each result from the results of the lanes."""
    return tuple(np.stack(column) for column in zip(*map(parts, results), strict=True))


@law(always)
def test_map_equals_loop(sample: Sample) -> None:
    for chosen in subsets(sample):
        operands = stacked(sample, chosen)
        expected = stack_results([sample.plain(*in_lane(operands, chosen, n)) for n in range(LANES)])
        for count in (LANES, 1) if sample.op.name in TYPE_OF_VALUES else (LANES, 1, 0):
            given = [x[:count] if i in chosen else x for i, x in enumerate(operands)]
            found = br.vmap(sample.perform, axes(given, chosen))(*given)
            what = f"{sample}: operands {chosen}, {count} lanes"
            for a, b in zip(parts(found), expected, strict=True):
                assert a.dtype == b.dtype, f"{what}: {a.dtype}, expected {b.dtype}"
            assert_close(found, tuple(b[:count] for b in expected), what)


@law(always)
def test_map_along_the_last_axis(sample: Sample) -> None:
    for chosen in subsets(sample):
        operands = stacked(sample, chosen)
        expected = stack_results([sample.plain(*in_lane(operands, chosen, n)) for n in range(LANES)])
        given = [np.moveaxis(x, 0, -1) if i in chosen else x for i, x in enumerate(operands)]
        found = br.vmap(sample.perform, axes(given, chosen, -1), out_axes=-1)(*given)
        assert_close(found, tuple(np.moveaxis(b, 0, -1) for b in expected), f"{sample}: operands {chosen}")


@law(differentiable)
def test_mapped_pullback(sample: Sample) -> None:
    for chosen in subsets(sample):
        operands = stacked(sample, chosen)
        values = [sample.plain(*in_lane(operands, chosen, n)) for n in range(LANES)]
        cotangents = sample.noise(stack_results(values), "w")

        def pulled(cotangent: Any, *given: Any) -> Any:
            function = sample.fix(sample.perform, given)
            several = isinstance(sample.value, tuple)
            return br.vjp(function, *(given[i] for i in sample.active))[1](cotangent if several else cotangent[0])

        expected = [pulled(tuple(c[n] for c in cotangents), *in_lane(operands, chosen, n)) for n in range(LANES)]
        found = br.vmap(pulled, (0, *axes(operands, chosen)))(cotangents, *operands)
        assert_close(found, stack_results(expected), f"{sample}: vmap of the pullback, operands {chosen}")

        mapped = br.vmap(sample.perform, axes(operands, chosen))
        several = cotangents if isinstance(sample.value, tuple) else cotangents[0]
        total = br.vjp(sample.fix(mapped, tuple(operands)), *(operands[i] for i in sample.active))[1](several)
        summed = tuple(
            lanes if i in chosen else lanes.sum(0)
            for i, lanes in zip(sample.active, stack_results(expected), strict=True)
        )
        assert_close(total, summed, f"{sample}: pullback of vmap, operands {chosen}")


@law(differentiable)
def test_mapped_tangent(sample: Sample) -> None:
    chosen = tuple(range(len(sample.row.operands)))
    operands = stacked(sample, chosen)
    primals = tuple(operands[i] for i in sample.active)
    tangents = sample.noise(primals, "v")

    def pushed(tangents: Any, *given: Any) -> Any:
        function = sample.fix(sample.perform, given)
        return br.jvp(function, tuple(given[i] for i in sample.active), tangents)[1]

    mapped = br.vmap(sample.perform, axes(operands, chosen))
    outside = br.jvp(sample.fix(mapped, tuple(operands)), primals, tangents)[1]
    inside = br.vmap(pushed)(tangents, *operands)
    assert_close(inside, outside, f"{sample}: vmap of jvp against jvp of vmap")
    looped = [pushed(tuple(t[n] for t in tangents), *in_lane(operands, chosen, n)) for n in range(LANES)]
    assert_close(inside, stack_results(looped), f"{sample}: vmap of jvp against the loop")


@law(differentiable)
def test_empty_map_of_derivatives(sample: Sample) -> None:
    chosen = tuple(range(len(sample.row.operands)))
    operands = stacked(sample, chosen, 0)
    primals = tuple(operands[i] for i in sample.active)
    function = sample.fix(br.vmap(sample.perform), tuple(operands))
    value, tangent = br.jvp(function, primals, primals)
    for v, t in zip(parts(value), parts(tangent), strict=True):
        assert v.shape == t.shape, sample
    value, pullback = br.vjp(function, *primals)
    for x, g in zip(primals, pullback(value), strict=True):
        assert x.shape == g.shape, sample
        assert x.dtype == g.dtype, sample
