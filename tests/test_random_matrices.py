"""Random loops over matrices: slices with bounds that loops compute, products of slices, writes, branches and views.

They are what factorisations, sweeps and recurrences are written with.  Each is drawn from a seed as source text, and
machine code gives its values and its derivatives as plain Python and eager mode do.
"""

from __future__ import annotations

import importlib.util
import itertools
import linecache
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br
from definite import require_definite

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

COUNT = int(os.environ.get("BINDRUNE_PROGRAMS", "160")) // 20
"""They are long programs, of which there are fewer than of others."""

STEEPEST = 1e4
"""The largest derivative that is compared; of a chaotic program the last digits tell nothing."""

HEAD = """\
def f(A, B, v, w, p):
    n = len(v)
    A, B, v, w, s = A.copy(), B.copy(), v.copy(), w.copy(), 0.3
"""
TAIL = """\
    return s + np.sum(A * np.arange(n)) + np.sum(B * B) + v @ np.arange(n) + np.sum(np.sin(w))
"""

Names = tuple[str, ...]


class Writer:
    """Draws a function of two matrices, two vectors and a permutation."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.counters = itertools.count()

    def pick(self, *options: Any) -> Any:
        return options[self.generator.integers(len(options))]

    # Indices.

    def slices(self, names: Names) -> list[tuple[str, str]]:
        """Slices of an axis of n, each with its length."""
        found = [(":", "n"), ("::-1", "n")]
        for i in names:
            found += [(f":{i}", i), (f"{i}:", f"n - {i}"), (f"{i} + 1:", f"n - {i} - 1"), (f":{i} + 1", f"{i} + 1")]
            found += [(f"n - {i}:", i), (f"n - {i} - 1:", f"{i} + 1"), (f":n - {i}", f"n - {i}")]
        return found

    def along(self, length: str, names: Names) -> str:
        return self.pick(*[text for text, n in self.slices(names) if n == length])

    def place(self, names: Names) -> str:
        i = self.pick(*names)
        return self.pick(i, i, f"(2 * {i} + 1) % n", f"-{i} - 1", "0", "-1", f"p[{i}]")

    # Values.

    def vector(self, length: str, names: Names, depth: int = 1) -> str:
        def along() -> str:
            return self.along(length, names)

        def place() -> str:
            return self.place(names)

        plain = [f"A[{place()}, {along()}]", f"A[{along()}, {place()}]", f"B[{along()}, {place()}]"]
        plain += [f"B[{place()}, {along()}]", f"v[{along()}]", f"w[{along()}]"]
        if depth == 0:
            return self.pick(*plain)
        one, two = (self.vector(length, names, depth - 1) for _ in range(2))
        across, n = self.pick(*self.slices(names))
        return self.pick(
            *plain,
            f"np.sin({one})",
            f"({one} + {two})",
            f"{one} * {two}",
            f"np.maximum({one}, {two})",
            f"np.where({one} > 0.1, {one}, {two})",
            f"{one} * {self.number(names, 0)}",
            f"0.3 * (A[{along()}, {across}] @ {self.vector(n, names, 0)})",
            f"0.3 * ({self.vector(n, names, 0)} @ B[{across}, {along()}])",
            f"0.3 * np.sum(A[{along()}, {across}], axis=1)",
            f"0.3 * np.cumsum({one})",
            f"np.sort({one})",
        )

    def number(self, names: Names, depth: int = 1) -> str:
        one, two = self.place(names), self.place(names)
        plain = [f"A[{one}, {two}]", f"B[{one}, {two}]", f"v[{one}]", f"w[{two}]", "s"]
        if depth == 0:
            return self.pick(*plain)
        _, n = self.pick(*self.slices(names))
        return self.pick(
            *plain,
            f"0.3 * ({self.vector(n, names, 0)} @ {self.vector(n, names, 0)})",
            f"0.2 * np.sum({self.vector(n, names)})",
            f"np.sin({self.number(names, 0)})",
            f"{self.number(names, 0)} * {self.number(names, 0)}",
            f"({self.number(names, 0)} - {self.number(names, 0)})",
            f"np.max(A[{one}])",
        )

    # Statements.

    def simple(self, names: Names) -> str:
        (one, n), (two, m) = self.pick(*self.slices(names)), self.pick(*self.slices(names))
        i, j = self.place(names), self.place(names)
        return self.pick(
            f"A[{i}, {one}] = np.tanh({self.vector(n, names)})",
            f"A[{one}, {i}] = np.tanh({self.vector(n, names)})",
            f"A[{one}, {i}] *= {self.number(names)}",
            f"B[{i}, {one}] -= np.sin({self.vector(n, names)})",
            f"A[{one}, {two}] -= 0.1 * np.outer({self.vector(n, names, 0)}, {self.vector(m, names, 0)})",
            f"B[{one}, {two}] = np.sin({self.vector(n, names, 0)})[:, None] + 0.2 * {self.vector(m, names, 0)}",
            f"v[{one}] += 0.5 * {self.vector(n, names)}",
            f"w[{one}] = np.cos({self.vector(n, names)})",
            f"v[{i}] = np.sin({self.number(names)})",
            f"A[{i}, {j}] -= np.sin({self.number(names)})",
            f"B[{i}, {j}] = np.tanh({self.number(names)})",
            f"s = np.sin({self.number(names)})",
            f"s += 0.2 * {self.number(names)}",
            "v[p] = np.sin(w)",
            f"w[p] += 0.1 * A[{i}]",
            "A, B = B, A",
            "v, w = w, v",
            f"A[[{i}, {j}]] = 0.5 * A[[{j}, {i}]]",
            "B = np.tanh(0.2 * (A @ B))",
            "A = np.sin(B.T) - 0.1 * A",
            f"row = A[{i}]; row[{one}] += 0.1 * {self.vector(n, names)}",
            f"T = B.T; T[{one}, {i}] = np.sin({self.vector(n, names)})",
        )

    def statement(self, names: Names, depth: int) -> list[str]:
        kind = self.pick("simple", "branch", "loop", "loop", "loop") if depth else "simple"
        if kind == "simple":
            return [self.simple(names)]
        if kind == "loop":
            i, last = f"i{next(self.counters)}", self.pick(*names)
            over = self.pick("n", last, f"{last} + 1, n", "n - 1, -1, -1", f"{last}, n")
            return [f"for {i} in range({over}):", *self.block((*names, i), depth - 1)]
        condition = self.pick(f"{self.number(names)} > 0.1", f"{self.pick(*names)} % 2 == 0", "np.sum(v) > 0.3")
        lines = [f"if {condition}:", *self.block(names, depth - 1)]
        return [*lines, "else:", *self.block(names, depth - 1)] if self.pick(False, True) else lines

    def block(self, names: Names, depth: int) -> list[str]:
        return ["    " + line for _ in range(self.pick(1, 2, 3)) for line in self.statement(names, depth)]

    def function(self) -> str:
        lines: list[str] = []
        for _ in range(self.pick(1, 2)):
            i = f"i{next(self.counters)}"
            lines += [
                f"for {i} in range({self.pick('n', 'n', 'n - 1, -1, -1')}):",
                *self.block((i,), self.pick(0, 1, 1, 2)),
            ]
        return HEAD + "".join(f"    {line}\n" for line in lines) + TAIL


def compiled(source: str, name: str) -> Callable[..., Any]:
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    variables: dict[str, Any] = {"np": np}
    exec(compile(source, name, "exec"), variables)
    function: Callable[..., Any] = variables["f"]
    return function


def drawn(seed: int, n: int) -> tuple[Any, ...]:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, n, n))
    v, w = generator.normal(size=(2, n))
    return a, b, v, w, generator.permutation(n)


def equal(found: Any, expected: Any, tolerance: float, what: str) -> None:
    scale = 1 + np.max(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale, err_msg=what)


def check(f: Callable[..., Any], seed: int) -> None:
    """Compare a function and its derivatives with the same as machine code."""
    staged, gradient = br.jit(f, backend="native"), br.grad(f, (0, 1, 2, 3))
    calls = drawn(seed + 1, 4 + seed % 4 * 3), drawn(seed, 5)
    for arguments in calls:
        expected = gradient(*arguments)
        if not max(np.max(np.abs(g)) for g in expected) < STEEPEST:
            return
        equal(staged(*arguments), f(*arguments), 1e-10, "the value")
    for derivative, what in ((br.grad(staged, (0, 1, 2, 3)), "grad of jit"), (br.jit(gradient), "jit of grad")):
        for found, value in zip(derivative(*arguments), expected, strict=True):
            equal(found, value, 1e-8, what)
    *tangents, _ = drawn(seed + 7, 5)
    slope = sum(np.sum(g * t) for g, t in zip(expected, tangents, strict=True))
    *primals, p = arguments
    forward = br.jit(lambda *x: br.jvp(lambda *y: f(*y, p), x, tuple(tangents))[1], backend="native")
    equal(forward(*primals), slope, 1e-8, "jit of jvp")


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_function_agrees(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    require_definite(monkeypatch)
    source = Writer(seed).function()
    try:
        check(compiled(source, f"<matrices {seed}>"), seed)
    except AssertionError as error:
        error.add_note(source)
        raise


def parts_of_what_a_side_of_a_branch_writes(a: Any, c: Any) -> Any:
    a = a * 2
    row, column = a[1].copy(), a[:, 2].copy()
    if c > 0:
        a[1] = c
        a[2] *= row[0]
    return np.sum(a) + row @ column


def a_constant_on_both_sides(a: Any, c: Any) -> Any:
    z = np.full((5, 5), 3.5)
    if c > 0:
        y = a * z
        y = y[::-1] + z
    else:
        y = a
        for i in range(7):
            y = y + z * y[i % 5]
    return np.sum(y * z)


@pytest.mark.parametrize("c", [1.0, -1.0])
def test_a_constant_is_there_on_both_sides(c: float, monkeypatch: pytest.MonkeyPatch) -> None:
    require_definite(monkeypatch)
    a, f = np.random.default_rng(0).normal(size=(5, 5)), a_constant_on_both_sides
    equal(br.jit(f, backend="native")(a, c), f(a, c), 1e-12, "the value")


@pytest.mark.parametrize("c", [1.0, -1.0])
def test_a_side_that_does_not_run_saves_nothing(c: float) -> None:
    a = np.random.default_rng(0).normal(size=(5, 5))
    f = parts_of_what_a_side_of_a_branch_writes
    equal(br.jit(f, backend="native")(a, c), f(a, c), 1e-12, "the value")
    equal(br.jit(br.grad(f), backend="native")(a, c), br.grad(f)(a, c), 1e-12, "jit of grad")
    equal(br.grad(br.jit(f, backend="native"))(a, c), br.grad(f)(a, c), 1e-12, "grad of jit")
