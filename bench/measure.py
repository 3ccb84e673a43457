"""What the benchmarks share: systems that take turns in one process, and a row of the table of ratios.

There is one thread, and time is the processor's, unless BENCH_THREADS asks for more; then time is the clock's.

Import it before anything that imports NumPy: threads are chosen here, and libraries read that choice when they load.
JAX is set to float64 here too, before arrays are made.
"""

import os

# Threads add noise where arrays are small, and the systems would use different numbers of them.
os.environ |= dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), os.environ.get("BENCH_THREADS", "1")
)
# First calls are first calls: nothing that an earlier process compiled.
os.environ["BINDRUNE_CACHE"] = "off"
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(os.environ['OMP_NUM_THREADS'] != '1').lower()}"

import gc
import statistics
import tracemalloc
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from threading import get_native_id
from time import perf_counter, process_time, sleep, thread_time

import jax
import numpy as np
import torch

import bindrune as br

__all__ = ["Calls", "begin", "check", "head", "line", "medians", "peak", "verdict"]

Calls = dict[str, Callable[[], object]]

ROUNDS = 25
THREADS = os.environ["OMP_NUM_THREADS"]
CLOCK = process_time if THREADS == "1" else perf_counter

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(int(THREADS))


def begin() -> None:
    """Say what is measured."""
    # Nobody has all these systems loaded: keep their modules out of the garbage collector's rounds.
    gc.collect()
    gc.freeze()
    names = ("numpy", "autograd", "torch", "jax")
    print(f"bindrune {br.__version__}; " + ", ".join(f"{name} {version(name)}" for name in names))
    print("microseconds (median), and bindrune's time as a multiple of the peer's; float64")


def head(title: str, systems: Sequence[str], bars: dict[str, float]) -> None:
    """Print the head of a table."""
    print(f"\n{title:38}{'bindrune':>10}" + "".join(f"{name:>24}" for name in systems))
    if bars:
        print(" " * 48 + "".join(f"{f'bar {bars[name]}x' if name in bars else '':>24}" for name in systems))


def check(calls: Calls) -> None:
    """All systems compute the same."""
    expected = np.asarray(calls["bindrune"]())
    for name, call in calls.items():
        np.testing.assert_allclose(np.asarray(call()), expected, rtol=1e-9, atol=1e-9, err_msg=name)


def settle() -> None:
    """Wait until other threads rest; where nothing says what threads do there is no waiting for them."""
    here = str(get_native_id())
    for _ in range(500):
        sleep(0.002)
        if not any(thread.name != here and _state(thread) in "RD" for thread in Path("/proc/self/task").glob("*")):
            return


def _state(thread: Path) -> str:
    """The letter for what a thread does, which comes after its name; X for one that has ended meanwhile."""
    try:
        return (thread / "stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "X"


def turn(call: Callable[[], object], count: int) -> float:
    """Seconds a call takes.

    What a system leaves to other threads, such as memory to give back, is its own and not the next one's: processor
    time goes on until they rest, but for that of waiting.
    """
    start = CLOCK()
    for _ in range(count):
        call()
    done, waited = CLOCK(), thread_time()
    settle()
    left = CLOCK() - done - (thread_time() - waited) if CLOCK is process_time else 0.0
    return (done - start + max(left, 0.0)) / count


def medians(calls: Calls, seconds: float = 0.02, rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds a call takes, by system: the systems take turns of about `seconds` each.

    A turn of several calls begins with one that finds the caches full of others' data, and is not counted.
    """
    repeats = {name: max(1, int(seconds / turn(call, 1))) for name, call in calls.items()}
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if repeats[name] > 1:
                turn(call, 1)
            found[name].append(turn(call, repeats[name]))
    return {name: statistics.median(times) for name, times in found.items()}


def peak(call: Callable[[], object]) -> int:
    """The most memory that Python and NumPy held during a call."""
    tracemalloc.start()
    call()
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return memory


def verdict(found: float, bar: float | None) -> str:
    """A bar and whether a figure keeps to it."""
    return "" if bar is None else f"{bar:g}x {'pass' if found <= bar else 'FAIL'}"


def line(title: str, times: dict[str, float], systems: Sequence[str], bars: dict[str, float]) -> str:
    """A row of the table: microseconds, and ours over each peer's with the verdict of its bar."""
    ours = times["bindrune"]
    cells = [f"{title:38}{1e6 * ours:10.1f}"]
    for name in systems:
        if name not in times:
            cells.append(f"{'-':>24}")
            continue
        ratio = ours / times[name]
        bar = bars.get(name)
        verdict = "" if bar is None else "pass" if ratio <= bar else "FAIL"
        cells.append(f"{1e6 * times[name]:12.1f} {ratio:6.3f}x {verdict:4}")
    return "".join(cells)
