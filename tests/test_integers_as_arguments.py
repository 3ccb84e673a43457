"""Python's integers as arguments of `jit`: as axes, lengths, orders and counts they decide, and results are NumPy's.

An integer is a value of the program; where NumPy or Python needs it, it is that of the call at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br
from alike import alike, fresh

X = np.arange(24.0).reshape(2, 3, 4) + 0.5
V = np.arange(1.0, 9.0)
M = np.arange(16.0).reshape(4, 4) + np.eye(4) * 5

PROGRAMS: list[tuple[Callable[[Any, Any], Any], Any, Any]] = [
    (lambda x, a: np.sum(x, axis=a), X, 1),
    (lambda x, a: x.mean(a), X, -1),
    (lambda x, a: x.max(axis=a, keepdims=True), X, 0),
    (lambda x, a: np.cumsum(x, a), X, 1),
    (lambda x, a: np.sort(x, axis=a), X, 2),
    (lambda x, a: np.argmax(x, a), X, 1),
    (lambda x, a: np.concatenate([x, x], a), X, 1),
    (lambda x, a: np.stack([x, x], a), X, 2),
    (lambda x, a: np.expand_dims(x, a), X, 1),
    (lambda x, a: np.swapaxes(x, a, 0), X, 2),
    (lambda x, a: np.moveaxis(x, a, 0), X, 2),
    (lambda x, a: np.roll(x, a), V, 2),
    (lambda x, a: np.roll(x, a, axis=0), X, 1),
    (lambda x, a: np.repeat(x, a), V, 2),
    (lambda x, a: np.tile(x, a), V, 3),
    (lambda x, a: np.tile(x, (a, 2)), V, 3),
    (lambda x, a: x.reshape(a, -1), V, 2),
    (lambda x, a: x.reshape((a, 8 // a)), V, 2),
    (lambda x, a: np.reshape(x, (-1, a)), V, 4),
    (lambda x, a: np.resize(x, (a, a)), V, 3),
    (lambda x, a: np.diag(x, a), V, 1),
    (lambda x, a: np.diagonal(x, a), M, 1),
    (lambda x, a: np.tril(x, a), M, 1),
    (lambda x, a: np.triu(x, k=a), M, -1),
    (lambda x, a: np.trace(x, a), M, 1),
    (lambda x, a: np.eye(a, k=1) * x[0], V, 3),
    (lambda x, a: np.identity(a) * x[0], V, 3),
    (lambda x, a: np.full((a, 2), x[0]), V, 3),
    (lambda x, a: np.zeros((a, a)) + x[0], V, 3),
    (lambda x, a: np.arange(a) * x[0], V, 3),
    (lambda x, a: np.arange(0, a, 2) * x[0], V, 7),
    (lambda x, a: np.split(x, a), V, 2),
    (lambda x, a: np.array_split(x, a), V, 3),
    (lambda x, a: np.take(x, a), V, 2),
    (lambda x, a: np.delete(x, a), V, 2),
    (lambda x, a: np.insert(x, a, 1.0), V, 2),
    (lambda x, a: np.pad(x, a), V, 2),
    (lambda x, a: np.pad(x, (a, 0), mode="edge"), V, 2),
    (lambda x, a: np.diff(x, a), V, 2),
    (lambda x, a: np.linalg.matrix_power(x, a), M, 3),
    (lambda x, a: np.partition(x, a), V, 2),
    (lambda x, a: np.percentile(x, a), V, 30),
    (lambda x, a: np.quantile(x, a / 100), V, 30),
    (lambda x, a: np.var(x, ddof=a), V, 1),
    (lambda x, a: np.round(x, a), V / 7, 2),
    (lambda x, a: np.histogram(x, a), V, 3),
    (lambda x, a: np.polyfit(x, x * x, a), V, 1),
    (lambda x, a: np.vander(x, a), V, 3),
    (lambda x, a: np.tensordot(x, x, a), M, 1),
    (lambda x, a: np.rot90(x, a), M, 1),
    (lambda x, a: np.flip(x, a), X, 1),
    (lambda x, a: np.squeeze(x[:, :1], a), X, 1),
    (lambda x, a: np.take_along_axis(x, np.argsort(x, a), a), X, 1),
    (lambda x, a: np.lib.stride_tricks.sliding_window_view(x, a), V, 3),
    (lambda x, a: np.fft.fft(x, a), V, 4),
    (lambda x, a: np.fft.rfftfreq(a) * x[0], V, 6),
    (lambda x, a: np.linalg.norm(x, a), V, 1),
    (lambda x, a: np.linalg.norm(x, axis=a), M, 1),
    (lambda x, a: np.cov(x, ddof=a), M, 0),
    (lambda x, a: np.gradient(x, a), V, 2),
    (lambda x, a: np.trapezoid(x, dx=a), V, 2),
    (lambda x, a: np.convolve(x, np.ones(a)), V, 2),
    (lambda x, a: np.clip(x, a, None), V, 2),
    (lambda x, a: np.logspace(0, 1, a) * x[0], V, 3),
    (lambda x, a: np.geomspace(1, 10, a) * x[0], V, 3),
    (lambda x, a: np.hanning(a) * x[0], V, 4),
    (lambda x, a: np.ones(a) @ x[:a], V, 4),
    (lambda x, a: x[..., a], X, 2),
    (lambda x, a: x[[0, a]], X, 1),
    (lambda x, a: x[:, [a, 0]], X, 1),
    (lambda x, a: [1.0, 2.0, 3.0][a] * x, V, 1),
    (lambda x, a: "abc"[a] * 2, V, 1),
    (lambda x, a: math.factorial(a) * x, V, 4),
    (lambda x, a: math.comb(8, a) * x, V, 4),
    (lambda x, a: x**a, V, 3),
    (lambda x, a: a**x, V, 3),
    (lambda x, a: sum(range(a)) * x, V, 4),
    (lambda x, a: [x[i] for i in range(a)], V, 3),
    (lambda x, a: np.unravel_index(a, (2, 4)), V, 5),
    (lambda x, a: np.bincount(np.array([0, 1, 1, 2]), minlength=a), V, 5),
    (lambda x, a: np.searchsorted(x, a), V, 5),
    (lambda x, a: np.digitize(x, np.arange(a)), V, 5),
    (lambda x, a: a << 2 | a & 3 ^ 1, V, 5),
    (lambda x, a: ~a >> 1, V, 5),
    (
        lambda x, a: (
            math.floor(a / 2),
            math.ceil(a / 2),
            math.trunc(a / 2),
            math.isqrt(a),
            a // 2,
            a % 2,
            divmod(a, 2),
            -a,
            abs(-a),
            a / 2,
            int(a / 2),
            float(a),
            bool(a),
            pow(a, 2),
            pow(a, 2, 3),
            math.gcd(a, 4),
        ),
        V,
        7,
    ),
    (
        lambda x, a: (
            a.bit_length(),
            isinstance(a, int),
            a.real,
            str(a),
            f"{a:03d}",
            hash(a) % 7,
            a == 7,
            a != 7,
            3 < a < 9,
            a in (1, 7),
            [1, 2, 3].count(a),
            {7: "x"}.get(a),
            bin(a),
            chr(a + 60),
            a.conjugate(),
        ),
        V,
        7,
    ),
    (lambda x, a: x.astype(int) % a, V, 3),
    (lambda x, a: np.array([a, a * 2]), V, 3),
    (lambda x, a: np.asarray(a), V, 3),
    (lambda x, a: np.int32(3) * a, V, 3),
    (lambda x, a: np.float32(3) * a, V, 3),
    (lambda x, a: x.astype(np.float32) * a, V, 3),
    (lambda x, a: np.maximum(a, 2), V, 3),
    (lambda x, a: np.sqrt(a), V, 3),
    (lambda x, a: np.add(a, a), V, 3),
    (lambda x, a: np.abs(a), V, 3),
    (lambda x, a: max(a, 2), V, 3),
    (lambda x, a: (a, [a], {"k": a}), V, 3),
    (lambda x, a: np.einsum("i,i", x, x) * a, V, 3),
    (lambda x, a: np.outer(x, np.arange(a)), V, 3),
    (lambda x, a: np.where(x > a, x, a), V, 3),
    (lambda x, a: np.broadcast_to(x, (a, 8)), V, 3),
    (lambda x, a: np.block([[np.eye(a), np.zeros((a, 1))]]) * x[0], V, 2),
    (lambda x, a: np.kron(np.eye(a), x), V, 2),
    (lambda x, a: x.flatten()[a:].sum(), M, 3),
    (lambda x, a: np.median(x, axis=a), M, 0),
    (lambda x, a: np.allclose(x, a), V, 3),
    (lambda x, a: np.apply_along_axis(np.sum, a, x), M, 1),
    (lambda x, a: np.nonzero(x > a), V, 3),
    (lambda x, a: x.item(a), V, 3),
    (lambda x, a: np.meshgrid(np.arange(a), x[:2]), V, 3),
    (lambda x, a: np.indices((a, 2)), V, 2),
    (lambda x, a: np.tri(a) * x[0], V, 2),
    (lambda x, a: np.count_nonzero(x > a), V, 2),
    (lambda x, a: np.ix_([0, a], [1]), V, 2),
    (lambda x, a: np.putmask(x, x > a, 0.0) or x, V, 2),
    (lambda x, a: np.argpartition(x, a)[:1], V, 2),
    (lambda x, a: np.cross(x[:3], x[a : a + 3]), V, 2),
    (lambda x, a: np.interp(a, x, x * 2), V, 2),
    (lambda x, a: np.atleast_2d(a), V, 2),
    (lambda x, a: np.linspace(a, a + 1, 5), V, 2),
    (lambda x, a: np.unwrap(x * a), V, 2),
]


@pytest.mark.parametrize("backend", ["interpreter", "native"])
@pytest.mark.parametrize(("f", "x", "n"), PROGRAMS)
def test_an_integer_is_what_it_is_in_plain_code(f: Callable[..., Any], x: Any, n: Any, backend: str) -> None:
    g = br.jit(f, backend=backend)
    for _ in range(2):
        alike(g(*fresh((x, n))), f(*fresh((x, n))))
    assert not g.stats().eager, g.stats().reasons


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_lengths_that_are_no_linear_function(backend: str) -> None:
    def f(x, n):
        y = np.convolve(x, np.ones(n), "valid")
        return len(y), y.mean(), y

    g, x = br.jit(f, backend=backend), np.arange(8.0)
    for n in (2, 3, 4, 1, 5, 12, 3):
        alike(g(x, n), f(x, n))


def test_guards_under_a_derivative() -> None:
    def f(x, n):
        return math.floor(x) * x + round(x, n) * x + int(x) * x

    g = br.grad(br.jit(f))
    for x in (2.5, 3.5, -1.25, 2.5):
        assert g(x, 1) == br.grad(f)(x, 1)


def test_attributes_are_those_of_the_value() -> None:
    def f(x, y):
        found = [hasattr(v, name) for v in (x, y) for name in ("shape", "is_integer", "foo")]
        return found, getattr(x, "shape", "none"), getattr(y, "ndim", 0), x.is_integer()

    alike(br.jit(f)(1.5, np.ones(2)), f(1.5, np.ones(2)))
    for argument, name in ((1.5, "float"), (2, "int"), (np.ones(2), "numpy.ndarray"), (np.float32(1), "numpy.float32")):
        with pytest.raises(AttributeError, match=f"^'{name}' object has no attribute 'foo'"):
            br.jit(lambda x: x.foo)(argument)
