"""Derivatives of small eager NumPy programs, side by side with autograd, PyTorch and JAX.

Everything runs in one process on one thread.  The systems take turns, so that a change in the machine's speed meets
all of them; a figure is the median over the rounds, of processor time, which other programs do not touch.  Results
are compared with ours before anything is timed.  Nothing is compiled: JAX runs its operations one by one, as the
others do.
"""

from measure import Calls, begin, check, head, line, medians, peak  # isort: skip  (it chooses the number of threads)

import autograd
import autograd.numpy
import jax
import numpy as np
import torch

import bindrune as br

SYSTEMS = ("autograd", "torch.autograd", "torch.func", "JAX")
BARS = {"autograd": 0.35, "torch.autograd": 0.8, "JAX": 0.05}

POINT = np.linspace(-1.0, 1.0, 8)
ROWS = np.linspace(-1.0, 1.0, 8000).reshape(1000, 8)
TORCH_POINT, JAX_POINT = torch.tensor(POINT), jax.numpy.array(POINT)
TORCH_ROWS, JAX_ROWS = torch.tensor(ROWS), jax.numpy.array(ROWS)

# ------------------------------------------------------------------------------- the programs, for any of the NumPys


def product(numpy):
    """Two operations and a sum."""

    def run(x):
        return numpy.sum(numpy.sin(x) * x)

    return run


def chain(numpy):
    """Thirty operations and a sum."""

    def run(x):
        y = x
        for _ in range(10):
            y = numpy.sin(y) * x + y
        return numpy.sum(y)

    return run


def writes(zeros, total, count):
    """A loop that writes an array element by element."""

    def run(x):
        out = zeros(count)
        for i in range(count):
            out[i] = x[i % 8] * 2.0
        return total(out)

    return run


def steps(sin, count):
    """A loop that carries one number."""

    def run(y):
        for _ in range(count):
            y = y + 0.001 * sin(y)
        return y

    return run


# ------------------------------------------------------------------------------------------------ what is compared


def torch_gradient(function, point):
    """The gradient by a tape and `torch.autograd.grad`."""
    leaf = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    return lambda: torch.autograd.grad(function(leaf), leaf)[0]


def gradients(program) -> Calls:
    """The gradient at one point."""
    ours, theirs = br.grad(program(np)), autograd.grad(program(autograd.numpy))
    functional, jaxs = torch.func.grad(program(torch)), jax.grad(program(jax.numpy))
    return {
        "bindrune": lambda: ours(POINT),
        "autograd": lambda: theirs(POINT),
        "torch.autograd": torch_gradient(program(torch), POINT),
        "torch.func": lambda: functional(TORCH_POINT),
        "JAX": lambda: jaxs(JAX_POINT).block_until_ready(),
    }


def gradients_of_rows() -> Calls:
    """The gradient at each of a thousand points."""
    ours, functional = br.vmap(br.grad(chain(np))), torch.func.vmap(torch.func.grad(chain(torch)))
    jaxs = jax.vmap(jax.grad(chain(jax.numpy)))
    return {
        "bindrune": lambda: ours(ROWS),
        "torch.func": lambda: functional(TORCH_ROWS),
        "JAX": lambda: jaxs(JAX_ROWS).block_until_ready(),
    }


def sines_of_rows() -> Calls:
    """Nothing but NumPy's sines and cosines of those gradients, without which nobody gets by."""
    points = [ROWS]
    for _ in range(9):
        points.append(np.sin(points[-1]) * ROWS + points[-1])
    return {"bindrune": lambda: [(np.sin(y), np.cos(y)) for y in points]}


def hessians() -> Calls:
    """The matrix of second derivatives."""
    gradient, directions = br.grad(chain(np)), np.eye(8)
    ours = br.vmap(lambda v: br.jvp(gradient, (POINT,), (v,))[1])
    theirs, functional = autograd.hessian(chain(autograd.numpy)), torch.func.hessian(chain(torch))
    program, jaxs = chain(torch), jax.hessian(chain(jax.numpy))
    return {
        "bindrune": lambda: ours(directions),
        "autograd": lambda: theirs(POINT),
        "torch.autograd": lambda: torch.autograd.functional.hessian(program, TORCH_POINT),
        "torch.func": lambda: functional(TORCH_POINT),
        "JAX": lambda: jaxs(JAX_POINT).block_until_ready(),
    }


def gradients_of_writes(count: int) -> Calls:
    """The gradient of a loop of element writes; autograd and JAX have no such writes."""
    ours = br.grad(writes(np.zeros, np.sum, count))
    calls: Calls = {"bindrune": lambda: ours(POINT)}
    if count < 100_000:  # PyTorch's time grows with the square
        program = writes(lambda n: torch.zeros(n, dtype=torch.float64), torch.sum, count)
        calls["torch.autograd"] = torch_gradient(program, POINT)
    return calls


def gradients_of_steps(count: int) -> Calls:
    """The gradient of a loop over one number."""
    ours, theirs = br.grad(steps(np.sin, count)), autograd.grad(steps(autograd.numpy.sin, count))
    return {
        "bindrune": lambda: ours(0.5),
        "autograd": lambda: theirs(0.5),
        "torch.autograd": torch_gradient(steps(torch.sin, count), 0.5),
    }


def main() -> None:
    """Measure everything and print one table."""
    begin()
    head("8 elements", SYSTEMS, BARS)
    rows = {
        "grad, sum(sin(x) * x)": gradients(product),
        "grad, chain of 30 operations": gradients(chain),
        "vmap(grad), chain, 1000 rows": gradients_of_rows(),
        "hessian, chain": hessians(),
    }
    for title, calls in rows.items():
        check(calls)
        print(line(title, medians(calls), SYSTEMS, BARS), flush=True)

    print(line("of the rows, NumPy's own sines alone", medians(sines_of_rows()), SYSTEMS, {}), flush=True)

    check(gradients_of_writes(1_000))
    for count in (1_000, 10_000, 100_000):
        calls = gradients_of_writes(count)
        found = medians(calls, rounds=3)
        print(line(f"grad, {count:,} writes, each", {k: t / count for k, t in found.items()}, SYSTEMS, {}), flush=True)

    check(gradients_of_steps(1_000))
    count = 100_000
    calls = gradients_of_steps(count)
    found = medians(calls, rounds=1)
    print(line(f"grad, {count:,} scalar steps, each", {k: t / count for k, t in found.items()}, SYSTEMS, {}))
    for name in ("bindrune", "autograd"):
        print(f"peak memory of those steps, {name}: {peak(calls[name]) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
