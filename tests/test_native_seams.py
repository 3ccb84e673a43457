"""Arrays put together from others: machine code computes with their pieces, and gives what NumPy gives."""

from __future__ import annotations

import re

import numpy as np
import pytest

import bindrune as br
from expect import close


def loops_of(f, *arguments):
    """The text of a function's loop program."""
    return str(br.jit(f, backend="native").lower(*arguments).loops)


def arrays_between(f, *arguments):
    """How many temporary arrays a program has that are as large as loops make them."""
    return len(set(re.findall(r"\b(t\d+)\[[^\]]*[ij]\d", loops_of(f, *arguments))))


def agree(f, *arguments, **options):
    compiled = br.jit(f, backend="native", **options)
    close(compiled(*[np.copy(a) for a in arguments]), f(*[np.copy(a) for a in arguments]))
    assert compiled.stats().eager == 0


def agree_in_all(f, x):
    """The function, its gradient, and both for several arrays at once."""
    agree(f, x)
    agree(f, x, dynamic=True)
    gradient = br.grad(lambda x: np.sum(np.sin(f(x))))
    agree(gradient, x)
    several = np.stack([x, 2 * x, x - 1])
    agree(br.vmap(f), several)
    agree(br.vmap(gradient), several)


def array(*shape, dtype=np.float64, seed=0):
    x = np.random.default_rng(seed).normal(size=shape) * 5
    return x.astype(dtype)


def differences(x):
    return np.roll(x, 1) - x


def laplacian(u):
    return np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1) + np.roll(u, -1, 1) - 4 * u


def diffusion(u):
    for _ in range(10):
        u = u + 0.1 * laplacian(u)
    return u


SHAPES = [(0,), (1,), (7,), (1023,), (1031,), (0, 3), (3, 0), (1, 2000), (2000, 1), (33, 47), (2, 600), (600, 2)]
SHAPES += [(1, 1, 1), (11, 13, 17), (2, 2, 400)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("shift", [0, 1, -1, 5, -7, 4001])
def test_differences_with_periodic_boundaries(shape, shift):
    x = array(*shape)
    agree(lambda x: np.roll(x, shift) - x, x)
    for axis in range(x.ndim):
        agree(lambda x, axis=axis: 2 * np.roll(x, shift, axis) - x, x)
    agree(lambda x: np.roll(x, (shift, 2)[: x.ndim], tuple(range(x.ndim))[:2]) * x, x)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int8, np.complex128, np.bool_])
def test_types(dtype):
    x = array(37, 41, dtype=dtype)
    agree(lambda x: np.roll(x, 2, 0) * x, x)
    agree(lambda x: np.pad(x, 3) * np.pad(x, 3, mode="edge"), x)
    agree(lambda x: np.concatenate([x, x[:3]]) + 1, x)


@pytest.mark.parametrize("shape", [(1200,), (35, 36), (9, 12, 14)], ids=str)
def test_stencils_and_what_is_made_of_them(shape):
    def mixed(x):
        found = x
        for axis in range(x.ndim):
            found = found + np.sin(np.roll(x, 3, axis)) * x - np.roll(found, -2, axis)
        return found

    agree_in_all(mixed, array(*shape))


def test_steps_in_a_loop():
    u = array(40, 50) * 0.01
    agree_in_all(diffusion, u)
    assert arrays_between(diffusion, u) <= 2 + 4  # the field before and after, and two rows at each end


def test_no_array_is_between():
    assert arrays_between(differences, array(5000)) == 0
    assert arrays_between(lambda x, y: np.concatenate([x, y * 2, x - y]) ** 2, array(500), array(500)) == 0
    assert arrays_between(lambda x: np.sum((np.roll(x, 1) - x) ** 2), array(5000)) == 0
    assert arrays_between(lambda y: y + 0.1 * np.stack([y[1], -y[0] * y[1]]), array(2, 5000)) == 0


def test_what_is_small_is_not_cut():
    assert loops_of(differences, array(500)).count("for") == 2


def test_what_is_needed_as_an_array_is_not_cut():
    def product(x):
        rolled = np.roll(x, 1, 0)
        return rolled @ x, rolled * x

    x = array(40, 40)
    agree(product, x)
    assert loops_of(product, x).count("= multiply(") == 1


def test_reductions_of_pieces():
    x = array(45, 46)

    def reduced(x):
        d = np.roll(x, 1, 1) - x
        return np.sum(d), np.mean(d * d), np.max(d), np.min(d), np.any(d > 4), np.all(d > 4)

    agree(reduced, x)
    agree(br.grad(lambda x: reduced(x)[1] + reduced(x)[2]), x)


def test_shifts_of_arrays_of_any_length():
    rolled = br.jit(lambda x: np.roll(x, -7, 0) * np.roll(x, 2), backend="native", dynamic=True)
    for shape in ((30, 3), (5, 3), (2, 3), (1, 3), (0, 3), (700, 3)):
        x = array(*shape)
        close(rolled(x), np.roll(x, -7, 0) * np.roll(x, 2))
    assert rolled.stats().eager == 0


def test_several_uses():
    def used(x):
        d = np.roll(x, 1) - x
        e = d * d
        return d, e - np.max(d), np.cumsum(e), np.roll(e, 2) + d

    agree_in_all(lambda x: used(x)[3] + used(x)[2] + used(x)[1], array(1500))
    agree(used, array(1500))


def test_writes_of_pieces():
    def second_derivative(u):
        d = np.empty_like(u)
        d[1:-1] = u[2:] - 2 * u[1:-1] + u[:-2]
        d[0] = d[1]
        d[-1] = d[-2]
        return 0.1 * d + u

    agree_in_all(second_derivative, array(1300))
    agree_in_all(second_derivative, array(60, 30))

    def overwritten(x):
        found = np.full((50, 50), 2.5)
        found[10:20, 5:45] = x[10:20, 5:45]
        found[15:30] = x[3]
        found[:, 7] = 1
        found[40, 3:9] += x[0, 0]
        return found * x

    agree_in_all(overwritten, array(50, 50))


def test_many_writes():
    def striped(x):
        found = np.zeros(2000)
        for i in range(0, 2000, 50):
            found[i : i + 20] = x[i : i + 20]
        return found + x

    agree(striped, array(2000))


def test_a_value_that_is_written_later():
    def changed(x):
        y = np.roll(x, 1)
        z = y + x
        y[3:9] = 0
        z[0] += y[5]
        return z, y * 2

    agree(changed, array(1200))


MODES = ["constant", "edge", "wrap", "reflect", "symmetric", "linear_ramp", "maximum", "mean", "minimum"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [0, 2, ((3, 1),), "unequal"], ids=str)
@pytest.mark.parametrize("shape", [(5,), (1100,), (31, 43), (9, 11, 13)], ids=str)
def test_pad(shape, width, mode):
    if width == "unequal":
        width = tuple((i, 3 - i) for i in range(len(shape)))
    x = array(*shape)
    agree(lambda x: np.pad(x, width, mode=mode), x)
    agree(lambda x: 3 * np.pad(x, width, mode=mode) + 1, x)


def test_gradients_of_pad():
    for mode in ("constant", "edge", "wrap", "reflect"):
        agree_in_all(lambda x, mode=mode: np.pad(x, 2, mode=mode) * 3, array(33, 35))

    def by_slices(u):
        p = np.pad(u, 1, mode="edge")
        return p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u

    agree_in_all(by_slices, array(40, 41))
    assert arrays_between(by_slices, array(40, 41)) <= 4


def test_pad_with_values():
    x = array(40, 40)
    agree(lambda x: np.pad(x, 2, constant_values=((1, 2), (3, 4))), x)
    agree(lambda x: np.pad(x, 2, constant_values=np.nan), x)
    agree(lambda x: np.pad(x, 2, constant_values=x[0, 0]), x)
    agree(lambda x: np.pad(x, 2, constant_values=0.1), x.astype(np.float32))
    agree(lambda x: np.pad(x, 2, constant_values=-1), x.astype(np.int32))


def test_pad_writes_each_element_once():
    text = loops_of(lambda x: np.pad(x, 2), array(40, 40))
    assert "c0" not in text
    assert text.count("o0[") == 5


def test_arrays_of_any_content_are_no_part_of_a_program():
    for make in (lambda x: np.empty((30, 50)), np.empty_like):

        def doubled(x, make=make):
            found = make(x)
            found[...] = x
            return found * 2

        x = array(30, 50)
        agree(doubled, x)
        graph = br.make_graph(doubled)(x)
        literals = [v for node in graph.nodes for v in node.operands if hasattr(v, "content") and v.ndim]
        assert all(not np.any(v.content) for v in literals)


def test_empty_arrays_of_other_things():
    def listed(x):
        found = np.empty(2, object)
        found[0] = x
        return found[0] * 2, np.empty_like(found).shape

    close(br.jit(listed)(array(5))[0], 2 * array(5))


def test_rows_of_a_state():
    def step(y):
        position, speed = y
        forces = np.roll(position, 1) - 2 * position + np.roll(position, -1)
        return y + 0.1 * np.stack([speed, forces * speed])

    def steps(y):
        for _ in range(3):
            y = step(step(y))
        return y

    agree_in_all(steps, array(2, 1300) * 0.1)
    gradient = br.grad(lambda y: np.sum(step(y)))
    agree(gradient, array(2, 1300))


@pytest.mark.parametrize("most", [40, 100, 400])
def test_functions_cut_out_of_loops_with_arrays_that_change_places(most, monkeypatch):
    monkeypatch.setattr("bindrune.backends.native.cutting._MOST", most)
    monkeypatch.setattr("bindrune.backends.native.cutting._MOST_ONCE", most)
    monkeypatch.setattr("bindrune.backends.native.cutting._LEAST", 5)
    monkeypatch.setenv("BINDRUNE_CACHE", "off")

    def mixed(u):
        for _ in range(10):
            u = u + 0.1 * laplacian(u)
            u = np.where(u > 0.5, u * 0.5, np.roll(u, 3, 1))
        return u

    u = array(40, 50) * 0.1
    agree(mixed, u)
    agree(br.grad(lambda u: np.sum(mixed(u) ** 2)), u)
    if most == 40:
        functions = br.jit(mixed, backend="native").lower(u).llvm.split("define ")[1:]
        inner = [text for text in functions if "@piece" in text.splitlines()[0] and text.count("fadd") > 20]
        assert inner
        assert all(re.search(r"fadd <\d+ x double>", text) for text in inner)
