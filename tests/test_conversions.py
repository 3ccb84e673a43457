"""`int()`, `bool()` and `in` in loops that are staged, and ranges that differ between lanes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br

Program = Callable[[Any], Any]
ROWS = np.random.default_rng(0).uniform(0.1, 3.9, size=(5, 5))


def interpolated(x: Any) -> Any:
    s = 0.0
    for k in range(20):
        t = abs(math.sin(x[k % 5] * k)) * 3.9
        i = int(t)
        s += (x[i] * (i + 1 - t) + x[i + 1] * (t - i)) ** 2
    return s


def parities(x: Any) -> Any:
    s = 0.0
    for v in x:
        if bool(v > 2):
            s += v
        if not bool(int(v) % 2):
            s -= v
    return s


def powers(x: Any) -> Any:
    s = 0.0
    for v in x:
        n = int(v)
        s += v**n + 2**n + v * (1 << n) + n // 2 + int(-v) * x[3] + int(v > 2) * x[2]
    return s


def belonging(x: Any) -> Any:
    s = 0.0
    none: tuple[Any, ...] = ()
    for v in x:
        n = int(v)
        s += x[1] if n in (1, 3) else x[2]
        if n not in [0, 2]:
            s *= 2
        if int(3.9 - v) in range(6, -1, -2) and 0 < n in {1, 2}:
            s += x[4]
        s = s if n in none else s + (None in (n, 1)) + (n in ("a", 1))
    return s


def pivots(a: Any) -> Any:
    m, sign = np.outer(a, np.cos(a)) + np.diag(a), 1.0
    for k in range(5):
        p = k + int(np.argmax(np.abs(m[k:, k])))
        if p != k:
            m[[k, p]] = m[[p, k]]
            sign = -sign
        for i in range(k + 1, 5):
            m[i, k:] -= m[i, k] / m[k, k] * m[k, k:]
    return sign * np.prod(np.diag(m))


@pytest.mark.parametrize("program", [interpolated, parities, powers, belonging, pivots])
def test_loops_with_conversions_are_staged_once(program: Program) -> None:
    compiled, gradient = br.jit(program), br.jit(br.grad(program))
    for x in ROWS:
        np.testing.assert_allclose(compiled(x), program(x))
        np.testing.assert_allclose(gradient(x), br.grad(program)(x))
    assert compiled.stats().stagings == gradient.stats().stagings == 1


def repeated(x: Any) -> Any:
    part = [x[1]] * int(x[0]) + list(int(x[2]) * (x[3],)) + np.argmax(x) * [x[4]]
    return sum(part) + len("ab" * int(x[0]))


def grouped(x: Any) -> Any:
    groups: dict[int, list[Any]] = {}
    for v in x:
        groups.setdefault(int(v), []).append(v)
    return {k: sum(v) / len(v) for k, v in sorted(groups.items())}


def test_sequences_that_are_repeated() -> None:
    for x in ROWS:
        np.testing.assert_allclose(br.jit(repeated)(x), repeated(x))
        np.testing.assert_allclose(br.jit(br.grad(repeated))(x), br.grad(repeated)(x))
    with pytest.raises(br.TracedConditionError, match="differs between the lanes"):
        br.vmap(repeated)(ROWS)


def test_keys_that_are_computed() -> None:
    compiled = br.jit(grouped)
    for x in ROWS:
        found, expected = compiled(x), grouped(x)
        assert list(found) == list(expected)
        assert all(type(k) is int for k in found)
        np.testing.assert_allclose([*found.values()], [*expected.values()])


def added_as_integers(x: Any) -> Any:
    s = 0
    for v in x:
        s = s + int(v)
    return s + x[0]


def test_what_no_integer_stands_for() -> None:
    compiled = br.jit(added_as_integers)
    x = np.arange(6.0) + 0.5
    assert compiled(x) == 15.5
    for wrong, error in ((np.nan, ValueError), (np.inf, OverflowError)):
        with pytest.raises(error, match="cannot convert float"):
            compiled(np.where(x > 2, wrong, x))
    assert compiled(np.where(x > 2, 1e300, x)) == added_as_integers(np.where(x > 2, 1e300, x))


# ------------------------------------------------------------------------------------------------------- lanes


def counted(x: Any) -> Any:
    s = x[0]
    for i in range((x[0] * 3).astype(int)):
        s += x[i % 5] * i
    return s


def broken_off(x: Any) -> Any:
    out, i = np.zeros(12), 0
    for i in range(1, np.floor(x[0] * 2).astype(int)):
        if x[i % 5] > 3:
            continue
        out[i] = x[1] * out[i - 1] + i
        if out[i] > 40:
            break
    return out.sum() + i


def nested_counts(x: Any) -> Any:
    n = x.astype(int)
    s = 1.0
    for i in range(n[0]):
        for j in range(n[1], -1, -1):
            s = s * 0.9 + x[i] * j
    for k, i in enumerate(range(n[2])):
        s += k * x[i]
    return s


def returned(x: Any) -> Any:
    s = 0.0
    for i in range((x[0] * 2).astype(int)):
        s += x[i % 5]
        if s > 4:
            return s * 100
    return -s


@pytest.mark.parametrize("program", [counted, broken_off, nested_counts, returned])
def test_loops_as_long_as_each_lane_says(program: Program) -> None:
    rows = ROWS + 0.5
    values, slopes = [program(x) for x in rows], [br.grad(program)(x) for x in rows]
    np.testing.assert_allclose(br.vmap(program)(rows), values)
    np.testing.assert_allclose(br.vmap(br.grad(program))(rows), slopes)
    np.testing.assert_allclose(br.jit(br.vmap(program))(rows), values)
    np.testing.assert_allclose(br.jit(br.vmap(br.grad(program)))(rows), slopes)
