"""The transformations at their typical work, side by side with JAX, torch.func and autograd.

Everything is measured as in `eager.py`.  JAX stands in two columns: as it runs operation by operation, and compiled
by `jax.jit`, which the others are not.  Memory is measured twice: what Python and NumPy held by `tracemalloc`, and, as
PyTorch and JAX have allocators of their own, how much a fresh process grew.
"""

from measure import Calls, begin, check, head, line, medians, peak  # isort: skip  (it chooses the number of threads)

import subprocess
import sys
from pathlib import Path

import autograd
import autograd.extend
import autograd.numpy
import jax
import numpy as np
import torch
import torch.utils.checkpoint

import bindrune as br

SYSTEMS = ("autograd", "torch.func", "JAX", "JAX, jit")
BARS = {"torch.func": 1.0, "JAX": 0.5}

STEPS, SEGMENT = 1_000, 25
"""The checkpointed loop: systems without an operation for it checkpoint segments of this many steps."""
WIDTH, LARGE = 1_000, 30_000
"""How many elements its state has, and how many where the growth of the process is measured."""


def calls_of(ours, theirs, functional, jaxs, *arguments) -> Calls:
    """The same transformed function of every system at the same arguments; None for one that has none."""
    calls: Calls = {"bindrune": lambda: ours(*arguments)}
    if theirs is not None:
        calls["autograd"] = lambda: theirs(*arguments)
    if functional is not None:
        tensors = tuple(map(torch.tensor, arguments))
        calls["torch.func"] = lambda: functional(*tensors)
    if jaxs is not None:
        arrays, compiled = tuple(map(jax.numpy.array, arguments)), jax.jit(jaxs)
        calls["JAX"] = lambda: jaxs(*arrays).block_until_ready()
        calls["JAX, jit"] = lambda: compiled(*arrays).block_until_ready()
    return calls


# ------------------------------------------------------------------------------- the programs, for any of the NumPys


def perceptron(numpy):
    """The loss of a perceptron with one hidden layer, at one sample; the weights are one vector."""

    def run(weights, x):
        hidden = numpy.tanh(weights[:32].reshape(4, 8) @ x + weights[32:36])
        return (weights[36:40] @ hidden - 0.5) ** 2

    return run


def rosenbrock(numpy):
    """A sum of squares of neighbours."""

    def run(x):
        return numpy.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    return run


def chain(numpy):
    """Thirty operations."""

    def run(x):
        y = x
        for _ in range(10):
            y = numpy.sin(y) * x + y
        return y

    return run


def recurrence(numpy):
    """One step of a loop."""

    def run(state):
        return state + 0.001 * numpy.sin(state)

    return run


# ------------------------------------------------------------------------------------------------ what is compared


def gradients_of_samples() -> Calls:
    """The gradient of the loss at each of 64 samples."""
    generator = np.random.default_rng(0)
    weights, samples = generator.normal(size=40), generator.normal(size=(64, 8))
    return calls_of(
        br.vmap(br.grad(perceptron(np)), in_axes=(None, 0)),
        None,
        torch.func.vmap(torch.func.grad(perceptron(torch)), in_dims=(None, 0)),
        jax.vmap(jax.grad(perceptron(jax.numpy)), in_axes=(None, 0)),
        weights,
        samples,
    )


def hessians(size: int) -> Calls:
    """The matrix of second derivatives."""
    return calls_of(
        br.hessian(rosenbrock(np)),
        autograd.hessian(rosenbrock(autograd.numpy)),
        torch.func.hessian(rosenbrock(torch)),
        jax.hessian(rosenbrock(jax.numpy)),
        np.linspace(-1.0, 1.0, size),
    )


def jacobians() -> Calls:
    """The Jacobian of a function from 8 numbers to 8."""
    return calls_of(
        br.jacobian(chain(np)),
        autograd.jacobian(chain(autograd.numpy)),
        torch.func.jacrev(chain(torch)),
        jax.jacrev(chain(jax.numpy)),
        np.linspace(-1.0, 1.0, 8),
    )


def tangents() -> Calls:
    """One product of the Jacobian with a vector."""
    ours, functional, jaxs = chain(np), chain(torch), chain(jax.numpy)
    return calls_of(
        lambda x, t: br.jvp(ours, (x,), (t,))[1],
        None,
        lambda x, t: torch.func.jvp(functional, (x,), (t,))[1],
        lambda x, t: jax.jvp(jaxs, (x,), (t,))[1],
        np.linspace(-1.0, 1.0, 8),
        np.ones(8),
    )


def gradients_by_forward_rule() -> Calls:
    """The gradient of a small function of a softplus that has a forward rule."""

    def softplus(numpy, custom_jvp):
        @custom_jvp
        def run(x):
            return numpy.log1p(numpy.exp(x))

        @run.defjvp
        def _(primals, tangents):
            (x,), (t,) = primals, tangents
            return run(x), t / (1.0 + numpy.exp(-x))

        return run

    class Softplus(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return torch.log1p(torch.exp(x))

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, ct):
            (x,) = ctx.saved_tensors
            return ct / (1.0 + torch.exp(-x))

    def program(total, rule):
        return lambda x: total(rule(x) * x)

    return calls_of(
        br.grad(program(np.sum, softplus(np, br.custom_jvp))),
        None,
        torch.func.grad(program(torch.sum, Softplus.apply)),
        jax.grad(program(jax.numpy.sum, softplus(jax.numpy, jax.custom_jvp))),
        np.linspace(-1.0, 1.0, 8),
    )


def gradients_by_reverse_rule() -> Calls:
    """The gradient of a small function of a sine whose cotangents are clipped."""

    def clipped(numpy, custom_vjp):
        @custom_vjp
        def run(x):
            return numpy.sin(x)

        run.defvjp(lambda x: (numpy.sin(x), x), lambda x, ct: (numpy.clip(ct * numpy.cos(x), -0.5, 0.5),))
        return run

    theirs = autograd.extend.primitive(np.sin)
    autograd.extend.defvjp(theirs, lambda y, x: lambda ct: autograd.numpy.clip(ct * autograd.numpy.cos(x), -0.5, 0.5))

    class Clipped(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return torch.sin(x)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, ct):
            (x,) = ctx.saved_tensors
            return torch.clip(ct * torch.cos(x), -0.5, 0.5)

    def program(total, rule):
        return lambda x: total(rule(x) * x)

    return calls_of(
        br.grad(program(np.sum, clipped(np, br.custom_vjp))),
        autograd.grad(program(autograd.numpy.sum, theirs)),
        torch.func.grad(program(torch.sum, Clipped.apply)),
        jax.grad(program(jax.numpy.sum, clipped(jax.numpy, jax.custom_vjp))),
        np.linspace(-1.0, 1.0, 8),
    )


def gradients_of_loop(size: int) -> Calls:
    """The gradient of a checkpointed loop; ours in three ways."""
    start = np.linspace(-1.0, 1.0, size)

    def by_segments(numpy, checkpoint):
        step = recurrence(numpy)

        def segment(state):
            for _ in range(SEGMENT):
                state = step(state)
            return state

        segment = checkpoint(segment)

        def run(state):
            for _ in range(STEPS // SEGMENT):
                state = segment(state)
            return numpy.sum(state)

        return run

    def by_scan(state):
        step = recurrence(jax.numpy)

        @jax.checkpoint
        def segment(state, _):
            return jax.lax.scan(lambda s, _: (step(s), None), state, length=SEGMENT)

        return jax.numpy.sum(jax.lax.scan(segment, state, length=STEPS // SEGMENT)[0])

    def by_torch(function):
        return lambda x: torch.utils.checkpoint.checkpoint(function, x, use_reentrant=True)

    program = by_segments(torch, by_torch)

    def gradient_by_torch():
        leaf = torch.tensor(start, requires_grad=True)
        program(leaf).backward()
        return leaf.grad

    step = recurrence(np)

    def by_loop(states):
        return br.grad(lambda x: np.sum(br.checkpoint_loop(lambda i, s: step(s), STEPS, x, states)))

    calls = calls_of(
        by_loop(None), autograd.grad(by_segments(autograd.numpy, autograd.checkpoint)), None, jax.grad(by_scan), start
    )
    calls["torch.autograd"] = gradient_by_torch
    # As many states as there are segments and steps in one: what the other ways keep.
    more, segments = by_loop(STEPS // SEGMENT + SEGMENT), br.grad(by_segments(np, br.checkpoint))
    calls["bindrune, more states"] = lambda: more(start)
    calls["bindrune, segments"] = lambda: segments(start)
    return calls


def lanes_with_control_flow() -> dict[str, Calls]:
    """Python's `if` and `while` on numbers that differ between lanes; the peer is a Python loop over the lanes."""

    def piecewise(x):
        if x > 0.0:
            return np.sin(x) * x
        return x - x**3

    def newton(x):
        guess = x
        while abs(guess * guess - x) > 1e-12 * x:
            guess = 0.5 * (guess + x / guess)
        return guess

    points = np.linspace(-1.0, 1.0, 1_000), np.linspace(1.0, 9.0, 1_000)
    found: dict[str, Calls] = {}
    for title, function, xs in zip(("if", "while"), (piecewise, newton), points, strict=True):
        for kind, one in (("values", function), ("gradients", br.grad(function))):
            mapped = br.vmap(one)
            found[f"{title}, 1,000 lanes, {kind}"] = {
                "bindrune": lambda mapped=mapped, xs=xs: mapped(xs),
                "a loop": lambda one=one, xs=xs: np.array([one(x) for x in xs]),
            }
    return found


# ------------------------------------------------------------------------------------------------------- memory


def growth(name: str) -> float:
    """MiB by which a process that has made one small call grows in the large one."""
    command = [sys.executable, __file__, name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_growth(name: str) -> None:
    """Print what `growth` returns; this is the process."""
    gradients_of_loop(8)[name]()
    call = gradients_of_loop(LARGE)[name]
    before = resident("VmRSS")
    call()
    print(resident("VmHWM") - before)


def resident(field: str) -> float:
    """MiB of memory that the process holds (VmRSS) or has held at most (VmHWM), as Linux counts."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(entry.split()[1]) for entry in lines if entry.startswith(field)) / 1024


def main() -> None:
    """Measure everything and print the tables."""
    begin()
    head("", SYSTEMS, BARS)
    rows = {
        "vmap(grad), perceptron, 64 samples": gradients_of_samples(),
        "hessian, 100 variables": hessians(100),
        "jacobian, chain of 30 operations": jacobians(),
        "jvp, chain of 30 operations": tangents(),
        "grad, custom_jvp": gradients_by_forward_rule(),
        "grad, custom_vjp": gradients_by_reverse_rule(),
    }
    for title, calls in rows.items():
        check(calls)
        print(line(title, medians(calls), SYSTEMS, BARS), flush=True)

    calls = gradients_of_loop(WIDTH)
    check(calls)
    found = medians(calls, rounds=7)
    systems = ("autograd", "torch.autograd", "JAX", "JAX, jit")
    bars = {"JAX": BARS["JAX"]}
    head(f"grad of a loop of {STEPS:,} steps", systems, bars)
    ours = {
        "bindrune": "checkpoint_loop, log2(n) states",
        "bindrune, more states": f"checkpoint_loop, {STEPS // SEGMENT + SEGMENT} states",
        "bindrune, segments": f"checkpoint of {STEPS // SEGMENT} segments",
    }
    for name, title in ours.items():
        print(line(title, found | {"bindrune": found[name]}, systems, bars))
    traced = ", ".join(f"{name} {peak(calls[name]) / 2**10:.0f}" for name in (*ours, "autograd"))
    print(f"most memory that Python and NumPy held, {WIDTH:,} elements, KiB: {traced}")
    grown = ", ".join(f"{name} {growth(name):.0f}" for name in calls)
    print(f"growth of the process, {LARGE:,} elements, MiB: {grown}")

    head("vmap over Python's control flow", ("a loop",), {})
    for title, pair in lanes_with_control_flow().items():
        check(pair)
        print(line(title, medians(pair, rounds=7), ("a loop",), {}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure_growth(sys.argv[1])
    else:
        main()
