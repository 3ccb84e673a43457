"""`int()`, `bool()` and `in` where Python has no one answer: staged they cause no new staging, batched lanes differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br

Program = Callable[[Any], Any]
ROWS = np.random.default_rng(0).uniform(0.1, 3.9, size=(5, 5))


def nearest(x: Any) -> Any:
    p = 1 + int(np.argmax(x[1:]))
    x = x.copy()
    if p != 1:
        x[[1, p]] = x[[p, 1]]
    return x[1] * 3 + x[p]


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
    n = int(x[0])
    return x[1] ** n + 2**n + x[1] * (1 << n) + n // 2 + int(-x[2]) * x[3] + int(x[4] > 2) * x[2]


def collatz(x: Any) -> Any:
    n = int(x[0] * 10)
    count = 0
    while n not in (0, 1):
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        count += 1
    return count * x[0]


def repeated(x: Any) -> Any:
    return sum([x[1]] * int(x[0]) + list(int(x[2]) * (x[3],)) + np.argmax(x) * [x[4]]) + len("ab" * int(x[0]))


def counted(x: Any) -> Any:
    s = x[0]
    for i in range(int(x[0] * 3)):
        s += x[i % 5] * i
    return s


def of_lengths(x: Any) -> Any:
    n = int(x[0]) + 1
    a = np.zeros(n + 1)
    a[n] = x[1]
    return a.sum() + x[:n].sum() + np.ones((n, 2)).sum() * x[0]


def belonging(x: Any) -> Any:
    n = int(x[0])
    s = x[1] if n in (1, 3) else x[2]
    if n not in [0, 2]:
        s *= 2
    if int(x[3]) in range(6, -1, -2) and 0 < n in {1, 2}:
        s += x[4]
    none: tuple[Any, ...] = ()
    return s if n in none else s + (None in (n, 1)) + (n in ("a", 1))


LANES = [nearest, interpolated, parities, powers, belonging]


@pytest.mark.parametrize("program", [*LANES, collatz, counted, of_lengths])
def test_staged_conversions_do_not_stage_again(program: Program) -> None:
    compiled, gradient = br.jit(program), br.jit(br.grad(program))
    for x in ROWS:
        np.testing.assert_allclose(compiled(x), program(x))
        np.testing.assert_allclose(gradient(x), br.grad(program)(x))
    assert compiled.stats().stagings == 1
    assert gradient.stats().stagings <= 2


@pytest.mark.parametrize("program", LANES)
def test_conversions_that_differ_between_lanes(program: Program) -> None:
    np.testing.assert_allclose(br.vmap(program)(ROWS), [program(x) for x in ROWS])
    np.testing.assert_allclose(br.vmap(br.grad(program))(ROWS), [br.grad(program)(x) for x in ROWS])
    np.testing.assert_allclose(br.jit(br.vmap(program))(ROWS), [program(x) for x in ROWS])


def test_sequences_that_are_repeated() -> None:
    compiled = br.jit(repeated)
    for x in ROWS:
        np.testing.assert_allclose(compiled(x), repeated(x))
        np.testing.assert_allclose(br.jit(br.grad(repeated))(x), br.grad(repeated)(x))
    with pytest.raises(br.TracedConditionError, match="differs between the lanes"):
        br.vmap(repeated)(ROWS)


def test_what_no_integer_stands_for() -> None:
    compiled = br.jit(lambda x: int(x[0]) + x[1])
    assert compiled(np.array([2.7, 1.0])) == 3.0
    with pytest.raises(ValueError, match="cannot convert float NaN to integer"):
        compiled(np.array([np.nan, 1.0]))
    with pytest.raises(OverflowError, match="cannot convert float infinity to integer"):
        compiled(np.array([np.inf, 1.0]))
    assert compiled(np.array([1e300, 1.0])) == 1e300


def test_a_length_that_differs_between_lanes_is_named() -> None:
    with pytest.raises(br.TracedConditionError, match="differs between the lanes"):
        br.vmap(of_lengths)(ROWS)


def broken_off(x: Any) -> Any:
    out, i = np.zeros(12), 0
    for i in range(1, int(x[0] * 2)):
        if x[i % 5] > 3:
            continue
        out[i] = x[1] * out[i - 1] + i
        if out[i] > 40:
            break
    return out.sum() + i


def nested_counts(x: Any) -> Any:
    s = 1.0
    for i in range(int(x[0])):
        for j in range(int(x[1]), -1, -1):
            s = s * 0.9 + x[i] * j
    for k, i in enumerate(range(int(x[2]))):
        s += k * x[i]
    return s


def returned(x: Any) -> Any:
    s = 0.0
    for i in range(int(x[0] * 2)):
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
