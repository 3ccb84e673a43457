"""Functions drawn at random, full of loops, branches and writes: staged they do what Python does.

Each is drawn as source text and compiled, with its lines known to `inspect`, as a user's file is.  Loops are bounded
and values are kept small, so that every text that can be drawn is a program.
"""

from __future__ import annotations

import functools
import itertools
import linecache
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bindrune as br
from bindrune.backends.native import deferring, fusion, jamming, packing, splitting, swapping
from definite import require_definite

COUNT = os.environ.get("BINDRUNE_PROGRAMS")

STEEPEST = 1e4
"""The largest gradient that is compared; of a chaotic program the last digits tell nothing."""

HEAD = """\
def f(x, y, n):
    a = x.copy()
    b = np.cos(x)
    m = np.outer(x[:3], x)
    s, t, k = y, 0.5, 0
"""
TAIL = """\
    return s + t + np.sum(a * [1.0, 0.3, -0.7, 0.2]) + np.sum(np.sin(b)) + np.sum(m[0] - 0.5 * m[2]) + 0.1 * k
"""

_numbers = itertools.count()


class Writer:
    """Draws the statements of one function."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.counters = itertools.count()

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    # Expressions.

    def index(self, length: int, names: tuple[str, ...]) -> str:
        name = self.pick(*names)
        return self.pick("0", "-1", f"{name} % {length}", f"({name} + 1) % {length}")

    def number(self, names: tuple[str, ...], depth: int = 1) -> str:
        """A float."""
        place, other = self.index(4, names), self.index(3, names)
        plain = ["s", "t", "0.7", f"a[{place}]", f"b[{place}]", f"m[{other}, {place}]", f"0.1 * {self.pick(*names)}"]
        if depth == 0:
            return self.pick(*plain)
        one, two = self.number(names, depth - 1), self.number(names, depth - 1)
        return self.pick(
            *plain,
            f"np.sin({one})",
            f"({one} + {two})",
            f"{one} * {two}",
            f"({one} - 0.3)",
            f"abs({one})",
            f"max({one}, {two})",
            f"np.sum(a[: {self.pick(*names)} % 4 + 1])",
            "a @ b",
            "np.mean(m)",
            f"({one} if {self.condition(names, 0)} else {two})",
            f"{one} / (1.0 + {two} ** 2)",
        )

    def small(self, names: tuple[str, ...]) -> str:
        """A float between -1 and 1."""
        return self.pick("np.sin({})", "np.tanh({})", "0.2 * np.cos({})").format(self.number(names))

    def condition(self, names: tuple[str, ...], depth: int = 1) -> str:
        name = self.pick(*names)
        one = self.number(names, depth)
        plain = [
            f"{one} > 0.213",
            f"{name} % 2 == 0",
            f"{name} < 2",
            f"-0.4 < {one} < 0.613",
            "n > 3",
            "np.max(b) > 0.5",
        ]
        if depth == 0:
            return self.pick(*plain)
        two, three = self.condition(names, 0), self.condition(names, 0)
        return self.pick(*plain, f"{two} and {three}", f"{two} or {three}", f"not {two}", f"not ({two} or {three})")

    # Statements.

    def simple(self, names: tuple[str, ...]) -> list[str]:
        place, row = self.index(4, names), self.index(3, names)
        value = self.small(names)
        return [
            self.pick(
                f"s = {value}",
                f"t = {value}",
                f"s += 0.5 * {value}",
                f"t *= {value}",
                f"a[{place}] = {value}",
                f"a[{place}] *= {value}",
                f"b[{place}] += {value}",
                f"b = np.sin(a) * {value}",
                f"a = 0.5 * a + {value}",
                f"b *= {value}",
                f"m[{row}] = a * {value}",
                f"m[{row}, {place}] -= {value}",
                f"m[:, {place}] = {value}",
                "a[:2] = b[2:]",
                "a[1:], b[1:] = np.sin(a[:-1]), 0.5 * b[:-1]",
                "a, b = b, a",
                "s, t = t, s",
                f"m[0], m[1] = m[1].copy(), m[0] * {value}",
                "k += 1",
                "k = (3 * k + 1) % 7",
                f"a[{place}], b[{place}] = b[{place}], a[{place}]",
            )
        ]

    def branch(self, names: tuple[str, ...], depth: int, inside: bool) -> list[str]:
        lines = [f"if {self.condition(names)}:", *self.block(names, depth - 1, inside)]
        if self.pick(False, False, True):
            lines += [f"elif {self.condition(names)}:", *self.block(names, depth - 1, inside)]
        if self.pick(False, True):
            lines += ["else:", *self.block(names, depth - 1, inside)]
        return lines

    def counted(self, names: tuple[str, ...], depth: int) -> list[str]:
        i = f"i{next(self.counters)}"
        over = self.pick(
            f"for {i} in range(n):",
            f"for {i} in range(5):",
            f"for {i} in range(n, 0, -1):",
            f"for {i} in range(k % 4, 6):",
            f"for {i} in range({self.pick(*names)} % 4 + 1):",
            f"for {i}, v in enumerate(x):",
            f"for {i}, (v, w) in enumerate(zip(x, m[1])):",
        )
        lines = [over, *self.block((*names, i), depth - 1, True)]
        if self.pick(False, False, False, True):
            lines += ["else:", *self.block(names, 0, False)]
        return lines

    def conditional(self, names: tuple[str, ...], depth: int) -> list[str]:
        i = f"i{next(self.counters)}"
        head = [f"{i} = 0", f"while {i} < {self.pick('n', '5', 'k % 4 + 3')} and ({self.condition(names)}):"]
        return [*head, f"    {i} += 1", *self.block((*names, i), depth - 1, True)]

    def block(self, names: tuple[str, ...], depth: int, inside: bool) -> list[str]:
        lines = [line for _ in range(self.pick(1, 1, 2)) for line in self.statement(names, depth)]
        if inside and self.pick(False, False, True):
            leave = self.pick("break", "continue", "continue", f"return {self.number(names, 1)}")
            lines.insert(self.pick(0, len(lines)), f"if {self.condition(names)}: {leave}")
        return ["    " + line for line in lines]

    def statement(self, names: tuple[str, ...], depth: int) -> list[str]:
        if depth == 0:
            return self.simple(names)
        kind = self.pick("simple", "simple", "branch", "counted", "counted", "conditional")
        if kind == "branch":
            return self.branch(names, depth, False)
        if kind == "simple":
            return self.simple(names)
        return getattr(self, kind)(names, depth)


@st.composite
def sources(draw: Callable[[Any], Any]) -> str:
    """Draw the source of a function."""
    writer = Writer(draw)
    lines = [line for _ in range(draw(st.integers(1, 3))) for line in writer.statement(("k", "n"), 2)]
    return HEAD + "".join(f"    {line}\n" for line in lines) + TAIL


@functools.cache
def compiled(source: str) -> Callable[..., Any]:
    name = f"<control flow {next(_numbers)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    variables: dict[str, Any] = {"np": np}
    exec(compile(source, name, "exec"), variables)
    function: Callable[..., Any] = variables["f"]
    return function


def equal(found: Any, expected: Any, tolerance: float, what: str) -> None:
    scale = 1 + np.max(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale, err_msg=what)


X = 1.3 * np.sin(1.7 * np.arange(4) + 0.4)
CALLS = [(X, 0.8, 4), (-0.7 * X, -0.3, 4), (X[::-1].copy(), 0.8, 1), (X, 0.1, 0)]


def check(f: Callable[..., Any], backend: str) -> None:
    """Compare a function with itself staged."""
    staged, gradient = br.jit(f, backend=backend), br.grad(f, (0, 1))
    of_staged, staged_gradient = br.grad(staged, (0, 1)), br.jit(gradient, backend=backend)
    for x, y, n in CALLS:
        equal(staged(x.copy(), y, n), f(x.copy(), y, n), 1e-12, "the value")
    for x, y, n in CALLS[:2]:
        expected = gradient(x, y, n)
        if max(np.max(np.abs(g)) for g in expected) > STEEPEST:
            continue
        for found, what in ((of_staged, "grad of jit"), (staged_gradient, "jit of grad")):
            for one, other in zip(found(x, y, n), expected, strict=True):
                equal(one, other, 1e-8, what)
    assert not staged.stats().eager, staged.stats().reasons
    batch, numbers = np.stack([x for x, _, _ in CALLS]), np.array([y for _, y, _ in CALLS])
    try:
        found = br.vmap(staged, (0, 0, None))(batch, numbers, 4)
    except br.TracedConditionError:
        return  # a statement was left to Python
    equal(found, [f(x.copy(), y, 4) for x, y in zip(batch, numbers, strict=True)], 1e-12, "vmap of jit")


def drawn(count: int) -> Callable[[Any], Any]:
    """A test of so many programs, or as many as the environment says."""
    chosen = settings(
        max_examples=int(COUNT or count),
        derandomize=COUNT is None,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: chosen(given(sources())(test))


@pytest.mark.filterwarnings("ignore:.*TracedConditionError")
@drawn(200)
def test_a_function_agrees(source: str) -> None:
    check(compiled(source), "interpreter")


@pytest.mark.filterwarnings("ignore:.*TracedConditionError")
@drawn(15)
def test_a_function_agrees_with_small_loops_arranged_as_large_ones(source: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module, threshold in (
            (fusion, "_ROW"),
            (fusion, "_LONG_ROW"),
            (packing, "_FEW"),
            (jamming, "_SHORT"),
            (swapping, "_LARGE"),
            (splitting, "_FEWEST"),
            (deferring, "_SMALLEST"),
        ):
            patch.setattr(module, threshold, 1)
        patch.setattr(deferring, "_BLOCK", 2)
        require_definite(patch)
        check(compiled(source), "native")


@pytest.mark.filterwarnings("ignore:.*TracedConditionError")
@drawn(15)
def test_a_function_agrees_as_machine_code(source: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        require_definite(patch)
        check(compiled(source), "native")
