"""Programs drawn at random: the transformations against plain NumPy, against a world without memory, and each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import bindrune as br
from effects import Program
from random_programs import programs

COUNT = os.environ.get("BINDRUNE_PROGRAMS")

STEEPEST = 1e3
"""The largest gradient that is compared with central differences; of a chaotic program they tell nothing."""

Make = Callable[[], list[Any]]
"""Makes arguments afresh, because programs write to them, always in the same memory layout."""


def equal(found: Sequence[Any], expected: Sequence[Any], tolerance: float, what: str) -> None:
    """Equal up to rounding, relative to the largest of the numbers compared."""
    scale = 1 + max(np.max(np.abs(e)) for e in expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale, err_msg=what)


def direction(arguments: Sequence[Any]) -> list[Any]:
    return [np.cos(np.arange(a.size) + k).reshape(a.shape) for k, a in enumerate(arguments)]


def along(gradients: Sequence[Any], v: Sequence[Any]) -> Any:
    return sum(np.sum(g * w) for g, w in zip(gradients, v, strict=True))


def moved(arguments: Sequence[Any], v: Sequence[Any], step: float) -> Sequence[Any]:
    for a, w in zip(arguments, v, strict=True):
        a += step * w
    return arguments


def check_first_order(f: Callable[..., Any], make: Make, argnums: tuple[int, ...]) -> None:
    plain, reverse, forward = make(), make(), make()
    v = direction(make())
    expected = f(*plain)
    value, gradients = br.value_and_grad(f, argnums)(*reverse)
    primal, tangent = br.jvp(f, forward, v)
    for found in (value, primal):
        assert type(found) is type(expected)
        equal([found], [expected], 1e-13, "the value")
    for seen in (reverse, forward):
        equal(seen, plain, 1e-13, "the caller's arrays after the call")
    equal([tangent], [along(gradients, v)], 1e-10, "jvp and grad")
    seen = make()
    equal([br.grad(f)(*seen)], gradients[:1], 1e-12, "grad with respect to the first argument alone")
    equal(seen, plain, 1e-13, "the caller's arrays, the first followed")
    _, pullback = br.vjp(f, *make())
    for _ in range(2):
        equal(pullback(1.0), gradients, 1e-12, "vjp and grad")
    if max(np.max(np.abs(g)) for g in gradients) > STEEPEST:
        return
    wide, near = (difference(f, make, v, step) for step in (1e-6, 3e-7))
    # Where the two steps disagree, the program is too curved to ask for more.
    tolerance = 1e-5 * (1 + along(map(np.abs, gradients), map(np.abs, v))) + abs(wide - near)
    assert abs(near - tangent) < tolerance, f"central differences {near}, jvp {tangent}"


def difference(f: Callable[..., Any], make: Make, v: Sequence[Any], step: float) -> Any:
    return (f(*moved(make(), v, step)) - f(*moved(make(), v, -step))) / (2 * step)


def check_second_order(f: Callable[..., Any], make: Make, argnums: tuple[int, ...]) -> None:
    v = direction(make())
    gradient = br.grad(f, argnums)
    reverse = br.grad(lambda *x: along(gradient(*x), v), argnums)(*make())
    _, forward = br.jvp(gradient, make(), v)
    equal(reverse, forward, 1e-9, "the Hessian is symmetric")


def check_lanes(f: Callable[..., Any], make: Make, argnums: tuple[int, ...]) -> None:
    def batch() -> list[Any]:
        return [np.stack([a * (1 - 0.1 * k) for k in range(3)]) for a in make()]

    lanes, seen = list(zip(*batch(), strict=True)), batch()
    gradients = [br.grad(f, argnums)(*lane) for lane in zip(*batch(), strict=True)]
    values = [f(*lane) for lane in lanes]
    equal([br.vmap(f)(*seen)], [values], 1e-12, "vmap")
    equal(seen, [np.stack(part) for part in zip(*lanes, strict=True)], 1e-12, "the caller's arrays after vmap")
    check_first_batched(f, make, batch)
    together = br.vmap(br.grad(f, argnums))(*batch())
    equal(together, [np.stack(part) for part in zip(*gradients, strict=True)], 1e-10, "vmap of grad")


def check_first_batched(f: Callable[..., Any], make: Make, batch: Make) -> None:
    """Only the first argument has lanes: into the others, which they share, none may write what differs."""
    axes = (0, *[None] * (len(make()) - 1))
    expected = [f(lane, *make()[1:]) for lane in batch()[0]]
    try:
        found = br.vmap(f, axes)(batch()[0], *make()[1:])
    except br.MutationError:
        return
    equal([found], [expected], 1e-12, "vmap over the first argument alone")


def check(f: Callable[..., Any], make: Make, batchable: bool = True) -> None:
    """Compare a function that writes with itself under every transformation."""
    argnums = tuple(range(len(make())))
    check_first_order(f, make, argnums)
    check_second_order(f, make, argnums)
    if batchable:
        check_lanes(f, make, argnums)


@settings(
    max_examples=int(COUNT or 200),
    derandomize=COUNT is None,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(programs())
def test_a_program_agrees(program: Program) -> None:
    f, pure = program.function, program.pure_function
    argnums = tuple(range(len(program.parameters)))
    equal([pure(*program.make())], [f(*program.make())], 1e-12, "the world without memory")
    expected = br.grad(pure, argnums)(*program.make())
    equal(br.grad(f, argnums)(*program.make()), expected, 1e-9, "the gradient in the world without memory")
    check(f, program.make, program.batchable)


# ------------------------------------------------------------------------- programs that have disagreed, made small


def generic(*shape: int) -> Any:
    return 1.3 * np.sin(1.7 * np.arange(np.prod(shape)) + 0.4).reshape(shape)


def write_what_was_read(a):
    a[1] = a[1] * np.max(a)
    return np.sum(a)


def write_a_second_argument(a, b):
    y = np.sum(a * b)
    b[0] = 100.0
    return y


def flatten_after_writing(a):
    a[:] += 0.7
    flat = a.ravel()
    flat[0] = 0.7
    return np.sum(a * a) + flat[0]


def flatten_after_adding(a, b):
    a += b
    flat = a.ravel()
    flat[1] = 5.0
    return np.sum(a * b)


def flatten_after_out(a, b):
    np.multiply(b, b, out=a)
    flat = a.reshape(-1)
    flat[1] = 5.0
    return np.sum(a * b)


def flatten_stacked(a):
    d = np.stack([a[[1, 0, 1]], a[[1, 0, 1]]])
    d.reshape(-1)[:2] = 0.7
    return np.sum(d * d)


def flatten_taken(a):
    d = np.take(a, [0, 0], axis=-1)
    d.reshape(-1)[:2] = 0.7
    return np.sum(d * d)


def flatten_product(a, b):
    d = a[..., 0] @ b
    d.reshape(-1)[:2] = 0.7
    return np.sum(d * d)


def add_repeatedly(a):
    np.add.at(a[None], [0, 0], a)
    return np.sum(a * a)


def write_diagonal(a):
    diagonal = np.einsum("ii->i", a)
    diagonal[0] = a[0, 1] * a[1, 1]
    return np.sum(a * a)


def write_row_at_a_number_of_its_own(a):
    row = a[np.argmax(a[:, 0])]
    row *= 2.0
    a[np.argmin(a[:, 1])][::-1][0] = row[0] * a[0, 1]
    return np.sum(a * a)


def write_no_dimensions(a):
    total = np.full((), a[0])
    same = total
    total += a[1]
    chosen = np.where(a[0] > 0, a[0], a[1])
    kept = chosen
    chosen *= a[2]
    return same * kept


@pytest.mark.parametrize(
    ("f", "make"),
    [
        (write_what_was_read, lambda: [generic(3)]),
        (write_a_second_argument, lambda: [generic(3), generic(3)]),
        (flatten_after_writing, lambda: [generic(3, 2)[:, 0]]),
        (flatten_after_writing, lambda: [generic(3, 2).T]),
        (flatten_after_writing, lambda: [generic(3)[::-1]]),
        (flatten_after_adding, lambda: [generic(3, 2).T, generic(2, 3)]),
        (flatten_after_adding, lambda: [generic(2, 3), generic(3, 2).T]),
        (flatten_after_out, lambda: [generic(3, 2).T, generic(2, 3)]),
        (flatten_after_out, lambda: [generic(2, 3), generic(3, 2).T]),
        (flatten_stacked, lambda: [generic(2)]),
        (flatten_taken, lambda: [generic(2, 3)]),
        (flatten_product, lambda: [generic(2, 2, 2), generic(2, 2, 2)]),
        (add_repeatedly, lambda: [generic(3)]),
        (write_diagonal, lambda: [generic(2, 2)]),
        (write_row_at_a_number_of_its_own, lambda: [generic(3, 2)]),
        (write_no_dimensions, lambda: [generic(3)]),
    ],
)
def test_a_program_that_disagreed(f: Callable[..., Any], make: Make) -> None:
    check(f, make)


def test_a_captured_array_written_after_it_was_read() -> None:
    scale = np.array([1.0, 2.0, 3.0])

    def f(x):
        y = np.sum(x * scale)
        scale[0] = 100.0
        return y

    np.testing.assert_array_equal(br.grad(f)(np.ones(3)), [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(scale, [100.0, 2.0, 3.0])
