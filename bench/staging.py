"""What it costs to stage functions, and to stage their gradients: the time from Python to a graph.

A loop is staged once, however often it runs, so the time does not depend on the number of steps; JAX traces and
compiles every step of a Python loop.  It is to grow with the length of the source and no faster, and one graph is to
serve arrays of all lengths.
"""

from measure import CLOCK, THREADS  # isort: skip  (it chooses the number of threads)

import linecache
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import bindrune as br

ROUNDS = 9


def sines(numpy):
    """A thousand steps of two operations."""

    def run(x):
        for _ in range(1000):
            x = numpy.sin(x) + 0.1 * x * x
        return x

    return run


def lu(a):
    """Three nested loops, in place."""
    a = a.copy()
    n = len(a)
    for k in range(n - 1):
        for i in range(k + 1, n):
            a[i, k] /= a[k, k]
            for j in range(k + 1, n):
                a[i, j] -= a[i, k] * a[k, j]
    return np.sum(a)


def of_length(count: int) -> Callable[..., Any]:
    """A function of so many statements, every fourth of which is a loop with a branch."""
    lines = ["def run(x):", "    y = x.copy()"]
    for i in range(count // 4):
        lines += [
            f"    for i in range({i % 7 + 5}):",
            f"        y[i % 4] = np.sin(y[{i % 4}]) if x[i % 4] > 0 else y[i % 4] * 0.5",
            f"    y = y * x + {i}.0",
            "    x = np.cos(x)",
        ]
    lines.append("    return np.sum(y)")
    source, name = "\n".join(lines) + "\n", f"<{count} statements>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    variables: dict[str, Any] = {"np": np}
    exec(compile(source, name, "exec"), variables)
    run: Callable[..., Any] = variables["run"]
    return run


def filtered(x, y):
    """A loop over as many elements as there are."""
    out = np.zeros_like(x)
    for i in range(len(x)):
        out[i] = x[i] * y[len(y) - 1 - i] if x[i] > 0.2 else np.mean(y)
    return out


def milliseconds(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median time of a call."""
    return taking_turns([call], rounds)[0]


def taking_turns(calls: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """The median times of calls that are to be compared, in milliseconds: the machine is not always equally fast."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, times, strict=True):
            start = CLOCK()
            call()
            taken.append(CLOCK() - start)
    return [1e3 * statistics.median(taken) for taken in times]


def staged(f: Callable[..., Any], *arguments: Any) -> Callable[[], object]:
    """Staging a function for some arguments."""
    return lambda: br.make_graph(f)(*arguments)


def row(what: str, found: float, bar: float | None = None) -> None:
    """Print a line of the table."""
    verdict = "" if bar is None else f"   bar {bar:g} ms: {'holds' if found <= bar else 'FAILS'}"
    print(f"{what:58}{found:10.2f} ms{verdict}")


def main() -> None:
    """Measure."""
    matrix = np.random.default_rng(0).random((8, 8)) + 8 * np.eye(8)
    print(f"bindrune {br.__version__}, {THREADS} thread(s): median time to stage")
    row("1000 steps of sin(x) + x * x", milliseconds(staged(sines(np), 0.1)), 50)
    row("their gradient", milliseconds(staged(br.grad(sines(np)), 0.1)), 50)
    row("LU by three loops", milliseconds(staged(lu, matrix)), 15)
    row("its gradient", milliseconds(staged(br.grad(lu), matrix)), 60)
    x = np.linspace(-1.0, 1.0, 4)
    counts = (40, 80, 160, 320)
    times = taking_turns([staged(of_length(count), x) for count in counts])
    for count, taken in zip(counts, times, strict=True):
        row(f"{count} statements", taken)
    growth = times[-1] / counts[-1] / (times[0] / counts[0])
    print(f"{'a statement among 320 costs, of one among 40':58}{growth:10.2f} x    bar 1.5: ", end="")
    print("holds" if growth <= 1.5 else "FAILS")
    function = br.jit(filtered, dynamic=True)
    for n in range(2, 32):
        np.testing.assert_array_equal(function(np.ones(n), np.ones(n)), filtered(np.ones(n), np.ones(n)))
    print(f"{'stagings for 30 lengths with dynamic=True':58}{function.stats().stagings:10}      bar 1")
    compiled = jax.jit(jax.grad(sines(jax.numpy)))
    row(
        "JAX: the gradient of the 1000 steps, unrolled and compiled",
        milliseconds(lambda: compiled.lower(0.1).compile(), 1),
    )


if __name__ == "__main__":
    main()
