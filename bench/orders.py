"""What forward mode and second derivatives cost: each work's against its own function, all of them compiled.

A tangent and a product with the Hessian are taken along one direction.  Before anything is timed the first is compared
with the gradient, and the second with central differences of gradients.
"""

from measure import begin, medians, verdict  # isort: skip  (it chooses the number of threads)

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import bindrune as br
from works import Work, all_works, sweeps

FORWARD = 2.5
"""The bar for forward mode over the function."""
SECOND = 5.0 * FORWARD
"""The same for products with the Hessian: forward mode over a gradient, which may take five functions."""
BUDGET = 2.0
"""Seconds the rounds of one row should take."""


def along(work: Work, transform: Callable[..., Any]) -> Any:
    """A derivative along directions, which are given after the arguments, under `br.jit`."""
    ours, places, count = work.ours, work.argnums, len(work.argnums)

    def derivative(*given: Any) -> Any:
        arguments, directions = list(given[:-count]), given[-count:]

        def function(*moving: Any) -> Any:
            for i, x in zip(places, moving, strict=True):
                arguments[i] = x
            return ours(*arguments)

        return transform(function, tuple(arguments[i] for i in places), directions)

    return br.jit(br.vmap(derivative) if work.lanes else derivative, backend="native")


def directions_of(work: Work, arguments: Sequence[Any]) -> list[Any]:
    """A direction for each argument that derivatives are by."""
    generator = np.random.default_rng(2)
    shapes = [np.shape(arguments[i]) for i in work.argnums]
    return [generator.normal(size=shape) if shape else float(generator.normal()) for shape in shapes]


def together(work: Work, slopes: Sequence[Any], directions: Sequence[Any]) -> Any:
    """Slopes times directions: a sum of all of them, or one for each lane."""
    products = [np.asarray(s * d) for s, d in zip(slopes, directions, strict=True)]
    return sum(p.reshape(len(p), -1).sum(1) if work.lanes else p.sum() for p in products)


def check(work: Work, arguments: Sequence[Any], directions: Sequence[Any], forward: Any, second: Any) -> None:
    """The tangent is the gradient's, and the product with the Hessian the gradient's difference."""
    gradient = work.derivative()
    value, slopes = gradient(*arguments)
    found, tangent = forward(*arguments, *directions)
    np.testing.assert_allclose(found, value, rtol=1e-9, err_msg="value")
    scale = together(work, list(map(np.abs, slopes)), list(map(np.abs, directions)))
    error = np.abs(tangent - together(work, slopes, directions)) / scale
    assert np.max(error) < 1e-9, "the tangent is not that of the gradient"
    step = 1e-6

    def moved(by: float) -> Any:
        given = list(arguments)
        for i, direction in zip(work.argnums, directions, strict=True):
            given[i] = given[i] + by * direction
        return gradient(*given)[1]

    products = second(*arguments, *directions)
    products = products if isinstance(products, tuple) else (products,)
    for found, up, down in zip(products, moved(step), moved(-step), strict=True):
        difference = (np.asarray(up) - down) / (2.0 * step)
        np.testing.assert_allclose(found, difference, rtol=1e-4, atol=1e-5 * np.abs(difference).max(), err_msg="hvp")


def row(work: Work, size: int) -> str:
    """Check and measure one size: its row of the table."""
    arguments = work.arguments(size)
    directions = directions_of(work, arguments)
    function, forward, second = work.function(), along(work, br.jvp), along(work, br.hvp)
    check(work, arguments, directions, forward, second)
    calls = {
        "function": partial(function, *arguments),
        "forward": partial(forward, *arguments, *directions),
        "second": partial(second, *arguments, *directions),
    }
    times = medians(calls, rounds=rounds_for(calls))
    text = f"{f'{work.name} {size:,}':40}{1e6 * times['function']:11.1f}"
    for name, bar in (("forward", FORWARD), ("second", SECOND)):
        ratio = times[name] / times["function"]
        text += f"{1e6 * times[name]:11.1f}{ratio:8.2f}{verdict(ratio, bar):>12}"
    return text


def rounds_for(calls: dict[str, Any]) -> int:
    """How many rounds fit into the budget."""
    spent = sum(max(seconds, 0.02) for seconds in medians(calls, rounds=1).values())
    return max(3, min(15, int(BUDGET / spent)))


def hessian(size: int) -> str:
    """The Hessian of a loop with some inputs: that many products with it."""
    lower, diagonal, upper, right = sweeps.tridiagonal(size)

    def solved(diagonal: Any) -> Any:
        return sweeps.thomas(lower, diagonal, upper, right)

    function = br.jit(solved, backend="native")
    second = br.jit(br.hessian(solved), backend="native")
    one = br.jit(lambda x, v: br.hvp(solved, (x,), (v,)), backend="native")
    found = second(diagonal)
    for column, unit in zip(found.T, np.eye(size), strict=True):
        np.testing.assert_allclose(column, one(diagonal, unit), rtol=1e-9, atol=1e-12)
    calls = {"function": partial(function, diagonal), "second": partial(second, diagonal)}
    times = medians(calls, rounds=rounds_for(calls))
    ratio = times["second"] / times["function"] / size
    text = f"{f'Hessian of the Thomas solver, n {size}':40}{1e6 * times['function']:11.1f}{'':31}"
    return text + f"{1e6 * times['second']:11.1f}{ratio:8.2f}{verdict(ratio, SECOND):>12}  a column"


def forward_and_second(only: str, small: bool) -> None:
    """Print the table."""
    print(f"{'':40}{'function':>11}{'forward':>11}{'ratio':>8}{'bar':>12}{'second':>11}{'ratio':>8}{'bar':>12}")
    for work in all_works():
        if only.lower() in work.name.lower() and not work.jacobian:
            for size in work.small if small else work.sizes:
                print(row(work, size), flush=True)
    if only.lower() in "hessian":
        for size in (16, 64):
            print(hessian(size), flush=True)


def main() -> int:
    """Measure everything and print one table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--small", action="store_true", help="small sizes only")
    options.add_argument("--only", default="", help="works whose name contains this")
    chosen = options.parse_args()
    begin()
    forward_and_second(chosen.only, chosen.small)
    return 0


if __name__ == "__main__":
    sys.exit(main())
