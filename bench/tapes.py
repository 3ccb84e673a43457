"""How the memory and the time of gradients grow with the length of a loop: checkpoints, unknown lengths, eager mode.

Compiled, a loop over a state of 1,000 numbers keeps the state of each step; with `br.checkpoint` in two loops of
sqrt(n) steps, and with `br.checkpoint_loop`, it keeps few of them.  The tape of a `while` grows with its steps: alone,
in a counted loop, and under `vmap` with another length for each lane.  Eager gradients of loops that write in place
take time and memory for the operations that were executed.  Gradients are compared before they are timed.

    python bench/tapes.py
"""

from measure import begin, medians, peak, verdict  # isort: skip  (it chooses the number of threads)

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import bindrune as br
from gradients import executables

STATE = np.linspace(0.3, 1.4, 1_000)
STEPS = (256, 1_024, 4_096, 16_384)

Function = Callable[..., Any]


def step(x: Any) -> Any:
    """A step of a smooth map."""
    return np.tanh(1.1 * np.sin(x) + 0.1 * x[::-1]) + 0.01 * x


def plain(n: int) -> Function:
    """All steps in one loop."""

    def run(x: Any) -> Any:
        for _ in range(n):
            x = step(x)
        return np.sum(x)

    return run


def in_two_loops(n: int) -> Function:
    """Loops of sqrt(n) steps, the inner one a checkpoint, and each step as well."""
    width = round(n**0.5)

    @br.checkpoint
    def some(x: Any) -> Any:
        for _ in range(width):
            x = br.checkpoint(step)(x)
        return x

    def run(x: Any) -> Any:
        for _ in range(width):
            x = some(x)
        return np.sum(x)

    return run


def scheduled(n: int) -> Function:
    """`br.checkpoint_loop`."""
    return lambda x: np.sum(br.checkpoint_loop(lambda i, x: step(x), n, x))


def until(x: Any, n: Any) -> Any:
    """As many steps as a number says that only the running program knows."""
    y, k = x.copy(), 0.0
    while k < n:
        y = step(y)
        k = k + 1.0
    return np.sum(y)


def until_again(x: Any, n: Any) -> Any:
    """The same, in parts of growing length."""
    total = 0.0
    for i in range(4):
        total = total + until(x, n * (i + 1) / 10.0)
    return total


def in_place(n: int) -> Function:
    """A loop that writes elements."""

    def run(x: Any) -> Any:
        y = np.zeros(n)
        y[0] = x[0]
        for i in range(1, n):
            y[i] = 0.5 * np.sin(y[i - 1]) + x[i % 8]
        return np.sum(y * y)

    return run


def power(sizes: Sequence[float], found: Sequence[float]) -> float:
    """The power of the size by which a figure grows, fitted to logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(found), 1)[0])


def tape(function: Any) -> int:
    """The bytes that a compiled function has worked in."""
    return sum(made.working_memory for made in executables(function))


def table(title: str, sizes: Sequence[int], figures: Callable[[int], tuple[float, float]], bars: Any) -> None:
    """Print seconds and bytes by size, the powers by which they grow, and their bars."""
    times, memory = zip(*map(figures, sizes), strict=True)
    print(
        f"{title:44}" + "".join(f"{1e3 * t:10.2f} ms {m / 2**10:8.0f} KiB" for t, m in zip(times, memory, strict=True))
    )
    told = (
        f"{name} {power(sizes, found):.2f} {verdict(power(sizes, found), bar)}"
        for name, found, bar in zip(("time", "memory"), (times, memory), bars, strict=True)
    )
    print(f"{'':6}for sizes {', '.join(f'{n:,}' for n in sizes)}; powers: {', '.join(told)}", flush=True)


def checkpoints() -> None:
    """Gradients of long loops, all the same."""
    expected = {n: br.jit(br.grad(plain(n)), backend="native")(STATE) for n in STEPS}
    for title, make, bar in (
        ("plain, each step's state kept", plain, 1.1),
        ("br.checkpoint, two loops of sqrt(n) steps", in_two_loops, 0.6),
        ("br.checkpoint_loop", scheduled, 0.25),
    ):

        def figures(n: int, make: Any = make) -> tuple[float, float]:
            gradient = br.jit(br.grad(make(n)), backend="native")
            np.testing.assert_allclose(gradient(STATE), expected[n], rtol=1e-9, atol=1e-300)
            return medians({"": lambda: gradient(STATE)}, rounds=3)[""], tape(gradient)

        table(title, STEPS, figures, (None, bar))


def unknown_lengths() -> None:
    """Gradients of loops whose lengths only the running program knows."""
    state = np.linspace(0.3, 1.4, 20)
    lanes = np.stack([state, 0.9 * state, 1.1 * state])

    def shares(n: int) -> Any:
        return n * np.array([0.25, 0.5, 1.0])

    mapped = br.vmap(br.grad(until), in_axes=(0, 0))
    for title, function, arguments in (
        ("while of unknown length", br.grad(until), lambda n: (state, float(n))),
        ("the same in a counted loop", br.grad(until_again), lambda n: (state, float(n))),
        ("the same under vmap, by lane", mapped, lambda n: (lanes, shares(n))),
    ):
        compiled = br.jit(function, backend="native")

        def figures(n: int, compiled: Any = compiled, function: Any = function, given: Any = arguments) -> Any:
            if n == min(STEPS):
                np.testing.assert_allclose(compiled(*given(n)), function(*given(n)), rtol=1e-9, atol=1e-300)
            time = medians({"": lambda: compiled(*given(n))}, rounds=3)[""]
            return time, tape(compiled)

        table(title, STEPS, figures, (None, 1.1))


def eager() -> None:
    """Gradients that Python runs, of loops that write in place."""
    x = np.linspace(0.1, 0.8, 8)

    def figures(n: int) -> tuple[float, float]:
        gradient = br.grad(in_place(n))
        return medians({"": lambda: gradient(x)}, rounds=3)[""], peak(lambda: gradient(x))

    table("eager, n elements written in place", (2_000, 4_000, 8_000, 16_000, 32_000), figures, (1.1, 1.1))


def main() -> int:
    """Measure everything."""
    begin()
    for part in (checkpoints, unknown_lengths, eager):
        part()
    return 0


if __name__ == "__main__":
    sys.exit(main())
