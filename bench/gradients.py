"""What gradients cost: each against its own function and against JAX's, all of them compiled.

Everything runs in one process on one thread, and the systems take turns, as in `eager.py`.  Before anything is timed
values and derivatives are compared with JAX's, and derivatives with central differences in random directions.

Memory, ours: the working memory of the machine code (its arena and the tape between the forward and the reverse loop),
and the most that Python and NumPy held during a call, which is its results.  What steps keep for the way back is what
`br.cost` counts, which takes a loop of unknown length for one step.  JAX's: what XLA says of its program, temporary
memory and results.  First calls stage and compile.

    python bench/gradients.py [--small] [--only NAME] [--plot FILE]
"""

from measure import begin, medians, peak, verdict  # isort: skip  (it chooses the number of threads)

import argparse
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import jax
import numpy as np

import bindrune as br
from bindrune.backends.native.executable import Executable
from works import Work, all_works

LIMIT = 1.0
"""Seconds a call of JAX's may take; where one takes longer, larger sizes are left out."""
BUDGET = 3.0
"""Seconds the rounds of one row should take."""

HEAD = f"{'':40}{'function':>11}{'gradient':>11}{'ratio':>7}{'bar':>12}{'JAX':>11}{'gradient':>11}{'ratio':>7}"
HEAD += f"{'ours/JAX':>10}{'bar':>12}{'memory':>10}{'kept':>9}{'JAX':>10}{'first':>8}{'JAX':>7}{'host':>6}"


@dataclass
class Row:
    """The figures of one size: seconds by what was called, bytes, seconds of the first call."""

    size: int
    times: dict[str, float]
    memory: int
    kept: float
    jax_memory: int | None
    first: float
    jax_first: float | None
    callbacks: int


def executables(function: Any) -> list[Any]:
    """The machine code behind a function under `br.jit`."""
    paths = [path for found in function._paths.values() for path in found]
    return [made for path in paths for made in path.graph.derived.values() if isinstance(made, Executable)]


def flat(tree: Any) -> list[Any]:
    """The arrays of a result."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def check(work: Work, arguments: Sequence[Any], function: Any, derivative: Any, theirs: Any) -> None:
    """The derivative is that of the function, and JAX's."""
    found = derivative(*arguments)
    value, slopes = (function(*arguments), found) if work.jacobian else found
    np.testing.assert_allclose(value, function(*arguments), rtol=1e-9, err_msg="value")
    if theirs is not None:
        expected = jax.tree.leaves(theirs(*arguments))
        for ours, jaxs in zip(flat(found), expected, strict=True):
            np.testing.assert_allclose(ours, jaxs, rtol=1e-6, atol=1e-7 * np.abs(jaxs).max(), err_msg="JAX")
    generator = np.random.default_rng(1)
    for _ in range(3):
        directions = {i: generator.normal(size=np.shape(arguments[i])) for i in work.argnums}

        def moved(by: float, directions: Any = directions) -> Any:
            return np.asarray(function(*(a + by * directions.get(i, 0.0) for i, a in enumerate(arguments))))

        step = 1e-6
        difference = (moved(step) - moved(-step)) / (2.0 * step)
        lanes = len(arguments[0]) if work.lanes else 1
        predicted = sum(
            np.reshape(slope, (lanes, -1, directions[i].size // lanes)) @ directions[i].reshape(lanes, -1, 1)
            for i, slope in zip(work.argnums, slopes, strict=True)
        )
        difference = difference.reshape(np.shape(predicted))
        # What cancels among the terms of a direction leaves the errors of all of them.
        scale = 1e-6 * np.abs(difference).max() + 1e-9 * np.abs(value).max()
        np.testing.assert_allclose(predicted, difference, rtol=1e-4, atol=10 * scale, err_msg="central differences")


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = perf_counter()
    call()
    return perf_counter() - start


def measure(work: Work, size: int, with_jax: bool) -> Row:
    """Check and measure one size."""
    arguments = work.arguments(size)
    function, derivative = work.function(), work.derivative()
    calls = {"function": lambda: function(*arguments), "derivative": lambda: derivative(*arguments)}
    calls["function"]()
    first = timed(calls["derivative"])
    their_derivative = jax_first = jax_memory = None
    if with_jax:
        given = tuple(map(jax.numpy.asarray, arguments))
        their_function = work.jax_function()
        calls["JAX function"] = lambda: jax.block_until_ready(their_function(*given))
        calls["JAX function"]()
        if not work.refused:
            their_derivative = work.jax_derivative()
            calls["JAX derivative"] = lambda: jax.block_until_ready(their_derivative(*given))
            jax_first = timed(calls["JAX derivative"])
            analysis = their_derivative.lower(*given).compile().memory_analysis()
            jax_memory = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    check(work, arguments, function, derivative, their_derivative)
    if function.stats().eager or derivative.stats().eager:
        raise RuntimeError(f"not compiled: {derivative.stats()}")
    spent = sum(max(timed(call), 0.02) for call in calls.values())
    times = medians(calls, rounds=max(5, min(15, int(BUDGET / spent))))
    programs = executables(derivative)
    memory = sum(program.working_memory for program in programs) + peak(calls["derivative"])
    kept = br.cost(derivative)(*arguments).bytes_kept
    return Row(size, times, memory, kept, jax_memory, first, jax_first, sum(len(p.callbacks) for p in programs))


def line(work: Work, row: Row) -> str:
    """A row of the table."""

    def microseconds(name: str) -> str:
        return f"{1e6 * row.times[name]:11.1f}" if name in row.times else f"{'-':>11}"

    ours, theirs = row.times["derivative"], row.times.get("JAX derivative")
    ratio = ours / row.times["function"]
    text = f"{f'{work.name} {row.size:,}':40}{microseconds('function')}{microseconds('derivative')}{ratio:7.2f}"
    text += f"{verdict(ratio, work.ratio):>12}{microseconds('JAX function')}{microseconds('JAX derivative')}"
    if theirs is None:
        text += f"{'-':>7}{'-':>10}{'':>12}"
    else:
        text += f"{theirs / row.times['JAX function']:7.1f}{ours / theirs:10.4f}"
        text += f"{verdict(ours / theirs, work.bar(row.size)):>12}"
    text += f"{row.memory / 2**10:10.0f}{row.kept / 2**10:9.0f}" + (
        f"{'-':>10}" if row.jax_memory is None else f"{row.jax_memory / 2**10:10.0f}"
    )
    text += f"{row.first:8.2f}" + (f"{'-':>7}" if row.jax_first is None else f"{row.jax_first:7.2f}")
    return text + f"{row.callbacks or '':>6}"


def power(told: str, sizes: Sequence[int], found: Sequence[float], bar: float | None) -> str:
    """The power of the size by which a figure grows, fitted to logarithms, and its bar."""
    fitted = float(np.polyfit(np.log(sizes), np.log(found), 1)[0])
    judged = "" if bar is None else f" (bar {bar:g}, {'pass' if fitted <= bar else 'FAIL'})"
    return f"{told} {fitted:.2f}{judged}"


def growth(work: Work, rows: Sequence[Row]) -> str:
    """How the times and the memory grow with the size."""
    names = {"function": "function", "derivative": "gradient", "JAX derivative": "JAX's gradient"}
    parts = []
    for name, told in names.items():
        known = [(row.size, row.times[name]) for row in rows if name in row.times]
        if len(known) > 1:
            bar = work.exponent if name == "derivative" else None
            parts.append(power(told, *zip(*known, strict=True), bar))
    parts.append(power("memory", [row.size for row in rows], [row.memory for row in rows], work.memory))
    return f"{'':6}grows with the size to the power of: {', '.join(parts)}"


def draw(measured: Sequence[tuple[Work, Sequence[Row]]], path: str) -> None:
    """Plot the time of gradients against the size of their problems, ours and JAX's."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, math.ceil(len(measured) / 2), figsize=(3 * math.ceil(len(measured) / 2), 6))
    for axes, (work, rows) in zip(panels.flat, measured, strict=False):
        for name, style, told in (
            ("JAX derivative", "C1s--", "JAX, gradient"),
            ("derivative", "C0o-", "bindrune, gradient"),
            ("function", "C0.:", "bindrune, function"),
        ):
            known = [(row.size, 1e3 * row.times[name]) for row in rows if name in row.times]
            if known:
                axes.loglog(*zip(*known, strict=True), style, label=told)
        axes.set(title=work.name, xlabel="size", ylabel="ms")
    for axes in panels.flat[len(measured) :]:
        axes.axis("off")
    panels.flat[0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path)


def main() -> int:
    """Measure everything and print one table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--small", action="store_true", help="small sizes only")
    options.add_argument("--only", default="", help="works whose name contains this")
    options.add_argument("--plot", default="", help="a file for a plot of cost against size")
    chosen = options.parse_args()
    begin()
    measured: list[tuple[Work, list[Row]]] = []
    print("memory in KiB, first calls of the derivative in seconds, host: operations left to NumPy\n" + HEAD)
    failed = 0
    for work in all_works():
        if chosen.only.lower() not in work.name.lower():
            continue
        rows: list[Row] = []
        slowest = 0.0
        for size in work.small if chosen.small else work.sizes:
            try:
                row = measure(work, size, slowest < LIMIT)
            except Exception as error:
                failed += 1
                told = "".join(traceback.format_exception_only(error)).strip().splitlines()
                print(f"{f'{work.name} {size:,}':40}FAILED: {' '.join(told)[:400]}", flush=True)
                continue
            rows.append(row)
            slowest = max(row.times.get("JAX derivative", 0.0), math.inf if "JAX function" not in row.times else 0.0)
            print(line(work, row), flush=True)
        if len(rows) > 1:
            measured.append((work, rows))
            print(growth(work, rows), flush=True)
    if chosen.plot and measured:
        draw(measured, chosen.plot)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
