"""Programs compiled to machine code, side by side with JAX, Numba where it is installed, and NumPy.

Everything runs in one process, and the systems take turns, as in `eager.py`; on one thread unless BENCH_THREADS says
otherwise.  Results are compared before anything is timed.  First calls stage and compile; theirs are in a table of
their own, with what a call costs where there is next to nothing to compute, and what a fresh process costs.  Where
there is a bar they are medians of fresh processes, too, in which each system has compiled something small before.

    python bench/native.py [--small] [--only NAME]
"""

from measure import Calls, begin, head, line, medians, verdict  # isort: skip  (it chooses the number of threads)

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import jax
import numpy as np

import bindrune as br
from works import Program, all_programs

SYSTEMS = ("JAX", "Numba", "NumPy")
BUDGET = 4.0
"""Seconds the rounds of one row should take."""

AFRESH = 5
"""How many processes make the first calls of a program."""

SMALL = "2 * x + 1"

FRESH = {
    "bindrune, import": "import bindrune",
    "bindrune, call": "import bindrune as br, numpy as np; br.jit(lambda x: 2 * x + 1, backend='native')(np.ones(8))",
    "JAX, import": "import jax, jax.numpy",
    "JAX, call": "import jax, numpy as np; np.asarray(jax.jit(lambda x: 2 * x + 1)(np.ones(8)))",
}


def calls_of(program: Program, arguments: tuple[Any, ...]) -> Calls:
    """A call of each system's; none has been made yet."""
    ours = br.jit(program.ours, backend="native")
    calls: Calls = {"bindrune": lambda: ours(*arguments)}
    if program.jaxs is not None:
        theirs, given = jax.jit(program.jaxs), jax.tree.map(jax.numpy.asarray, arguments)
        calls["JAX"] = lambda: jax.block_until_ready(theirs(*given))
    if program.numba is not None and importlib.util.find_spec("numba"):
        import numba

        compiled = numba.njit(program.numba)
        calls["Numba"] = lambda: compiled(*arguments)
    if program.plain:
        calls["NumPy"] = lambda: program.ours(*arguments)
    return calls


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and its result."""
    start = perf_counter()
    found = call()
    return perf_counter() - start, found


def first_calls(program: Program, calls: Calls) -> dict[str, float]:
    """Seconds of each system's first call; all systems compute the same."""
    times = {}
    expected: list[Any] = []
    for name, call in calls.items():
        times[name], found = timed(call)
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(found)]
        expected = expected or leaves
        for ours, other in zip(expected, leaves, strict=True):
            allowed = program.tolerance * float(np.abs(other).max())
            np.testing.assert_allclose(ours, other, rtol=program.tolerance, atol=allowed, err_msg=name)
    return times


def measured(calls: Calls) -> dict[str, float]:
    """Seconds a call takes, by system."""
    spent = sum(max(timed(call)[0], 0.02) for call in calls.values())
    return medians(calls, rounds=max(3, min(15, int(BUDGET / spent))))


def small_calls() -> Calls:
    """Next to nothing to compute, ndarray in and out."""
    ours, theirs = br.jit(lambda x: 2 * x + 1, backend="native"), jax.jit(lambda x: 2 * x + 1)
    x = np.ones(8)
    return {"bindrune": lambda: ours(x), "JAX": lambda: np.asarray(theirs(x)), "NumPy": lambda: 2 * x + 1}


@contextlib.contextmanager
def installed() -> Iterator[dict[str, str]]:
    """The environment of fresh processes whose modules are compiled to bytecode once, as installers do."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        yield {**environment, "PYTHONPYCACHEPREFIX": folder}


def fresh_processes(rounds: int) -> dict[str, float]:
    """Seconds of processes of their own, by what they do."""
    with installed() as environment:

        def process(code: str) -> float:
            return timed(lambda: subprocess.run([sys.executable, "-c", code], check=True, env=environment))[0]

        found = [{name: process(code) for name, code in FRESH.items()} for _ in range(1 + rounds)]
    return {name: statistics.median(times[name] for times in found[1:]) for name in FRESH}


def first_calls_afresh(program: str, rounds: int) -> dict[str, float]:
    """Seconds of each system's first call of a program in fresh processes."""
    found = []
    with installed() as environment:
        for turn in range(1 + rounds):
            command = [sys.executable, __file__, "--first", program, "--turn", str(turn)]
            told = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
            found.append(json.loads(told.splitlines()[-1]))
    return {name: statistics.median(times[name] for times in found[1:]) for name in found[0]}


def tell_first_call(name: str, turn: int, small: bool) -> None:
    """Print the seconds of each system's first call of a program, as JSON; the systems begin by turns."""
    x = np.ones(8)
    br.jit(lambda x: x - 3, backend="native")(x)
    np.asarray(jax.jit(lambda x: x - 3)(x))
    if name == SMALL:
        calls = small_calls()
    else:
        program = next(program for program in all_programs() if program.name == name)
        calls = calls_of(program, program.arguments(small))
    systems = ["bindrune", "JAX"][:: 1 - 2 * (turn % 2)]
    print(json.dumps({system: timed(calls[system])[0] for system in systems}))


def compare(title: str, ours: float, theirs: float, bar: float | None) -> None:
    """Print a row of the second table: milliseconds."""
    print(f"{title:44}{1e3 * ours:10.1f}{1e3 * theirs:10.1f}{ours / theirs:8.3f}x {verdict(ours / theirs, bar)}")


def main() -> int:
    """Measure everything and print both tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--small", action="store_true", help="small arguments only")
    options.add_argument("--only", default="", help="programs whose name contains this")
    options.add_argument("--first", default="", help="tell what the first call of this program takes, and no more")
    options.add_argument("--turn", type=int, default=0, help="which system begins with that")
    chosen = options.parse_args()
    # Numba tells of slices that are not contiguous, and cannot do better.
    warnings.filterwarnings("ignore", module=".*numba.*")
    warnings.filterwarnings("ignore", message=".*contiguous arrays.*")
    begin()
    if chosen.first:
        tell_first_call(chosen.first, chosen.turn, chosen.small)
        return 0
    head("float64 unless float32 is named", SYSTEMS, {})
    firsts = []
    failed = 0
    for program in all_programs():
        if chosen.only.lower() not in program.name.lower():
            continue
        calls = calls_of(program, program.arguments(chosen.small))
        try:
            first = first_calls(program, calls)
            print(line(program.name, measured(calls), SYSTEMS, program.bars), flush=True)
        except Exception as error:
            failed += 1
            told = " ".join("".join(traceback.format_exception_only(error)).split())
            print(f"{program.name:38} FAILED: {told[:400]}", flush=True)
            continue
        if program.first is not None:
            first = first_calls_afresh(program.name, 1 if chosen.small else AFRESH)
        if "JAX" in first:
            firsts.append((program.name, first["bindrune"], first["JAX"], program.first))
    if not chosen.only:
        calls = small_calls()
        for call in calls.values():
            call()
        print(line("a call of 2 * x + 1 on 8 numbers", measured(calls), SYSTEMS, {"JAX": 0.35}))
        first = first_calls_afresh(SMALL, 1 if chosen.small else AFRESH)
        firsts.append((SMALL, first["bindrune"], first["JAX"], 0.5))
    print(f"\n{'first calls, milliseconds':44}{'bindrune':>10}{'JAX':>10}")
    for row in firsts:
        compare(*row)
    if not chosen.only:
        fresh = fresh_processes(2 if chosen.small else 7)
        for what in ("import", "call"):
            compare(f"a fresh process, {what}", fresh[f"bindrune, {what}"], fresh[f"JAX, {what}"], 0.5)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
