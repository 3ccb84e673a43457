"""Machine code for products, reductions and scattered writes of the shapes and orders in which programs have them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import bindrune as br
from bindrune.core.handler import evaluate
from bindrune.core.operation import registry

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

from bindrune.backends.native import advice, alignment
from bindrune.backends.native.executable import Executable


def executable(function: Any) -> Executable:
    """The machine code behind a function under `br.jit`."""
    (path,) = (path for found in function._paths.values() for path in found)
    return next(made for made in path.graph.derived.values() if isinstance(made, Executable))


def compare(function: Callable[..., Any], *arguments: Any, rtol: float = 1e-12) -> Executable:
    """Run a function compiled and as it is: the same numbers, without a call of the host."""
    compiled = br.jit(function, backend="native")
    found, expected = compiled(*arguments), function(*arguments)
    for mine, theirs in zip(br.tree.leaves(found), br.tree.leaves(expected), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max(initial=0.0))
    assert not executable(compiled).callbacks
    return executable(compiled)


def numbers(*shape: int, dtype: Any = np.float64) -> Any:
    """An array of numbers of either sign."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


# --------------------------------------------------------------------------------------------------------- products


@pytest.mark.parametrize(
    "subscripts",
    ["kij,nkj->nki", "kij,nkj->kni", "kji,nkj->nki", "jik,nkj->nki", "ijk,knj->kin", "nkj,kij->nik", "kij,jnk->nki"],
)
def test_small_matrices_times_many_rows(subscripts: str) -> None:
    lengths = {"k": 5, "i": 9, "j": 12, "n": 150}
    labels = subscripts.split("->")[0].split(",")
    a, b = (numbers(*(lengths[label] for label in text)) for text in labels)
    compiled = compare(lambda a, b: np.einsum(subscripts, a, b), a, b)
    assert "gemm" in compiled.loops


@pytest.mark.parametrize(
    ("subscripts", "calls"),
    [
        ("ij,kj,kl->il", 2),
        ("ij,kj,kl", 2),
        ("nij,ab,bj->nai", 2),
        ("abc,ai,bj,ck->ijk", 3),
        ("i,ij,jk,kl,l->", 0),
        ("ii,ij,jk->k", 0),
        ("i,i,i->i", 0),
        ("ij,j,->i", 0),
        ("...i,ij,jk->...k", 0),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.complex128, np.int64])
def test_products_of_several_arrays_go_two_by_two(subscripts: str, calls: int, dtype: Any) -> None:
    """As many nests as operands less one, wherever one nest over all labels takes far longer."""
    texts = subscripts.split("->")[0].split(",")
    operands = [(3 * numbers(*((2, 1, 28) if "." in text else (28,) * len(text)))).astype(dtype) for text in texts]
    compiled = compare(lambda *xs: np.einsum(subscripts, *xs), *operands, rtol=1e-11)
    if dtype is np.float64:
        assert compiled.loops.count("gemm(") == calls

    def total(*xs: Any) -> Any:
        return np.sum(np.sin(np.einsum(subscripts, *xs)))

    if dtype is np.float64:
        small = [x / 28 for x in operands]
        every = tuple(range(len(small)))
        for mine, eager in zip(
            br.jit(br.grad(total, every))(*small), br.grad(total, argnums=every)(*small), strict=True
        ):
            np.testing.assert_allclose(mine, eager, rtol=1e-9, atol=1e-9)


def test_products_of_several_arrays_of_lengths_that_are_not_known() -> None:
    f = br.jit(lambda a, b, c: np.einsum("ij,kj,kl->il", a, b, c), dynamic=True)
    for n in (2, 5, 40):
        a, b, c = numbers(n, 6), numbers(3 * n, 6), numbers(3 * n, 4)
        np.testing.assert_allclose(f(a, b, c), a @ b.T @ c, rtol=1e-11)
    assert f.stats().stagings == 1


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("subscripts", ["nkj,mkj->knm", "nkj,mkj->nmk", "nkj,mkj->mk", "nkj,mkj->jmkn", "nkj,mkj->"])
def test_products_of_what_is_only_repeated(subscripts: str, axes: tuple[int, ...]) -> None:
    a, b = numbers(12, 30, 25), numbers(7, 30, 25)

    def run(a: Any, b: Any) -> Any:
        repeated, other = (
            np.broadcast_to(x[tuple(slice(1) if i in axes else slice(None) for i in range(3))], x.shape) for x in (a, b)
        )
        return tuple(np.einsum(subscripts, *pair) for pair in ((repeated, b), (a, -other), (repeated, other)))

    compare(run, a, b)


def test_tangents_of_what_is_repeated_need_no_product_of_matrices() -> None:
    def run(means: Any, points: Any, factors: Any) -> Any:
        return np.sum(np.einsum("kij,nkj->nki", factors, points[:, None, :] - means) ** 2)

    means, points, factors = numbers(5, 12), numbers(300, 12), numbers(5, 12, 12)
    calls = compare(run, means, points, factors).loops.count("gemm")
    tangent = compare(lambda m, p, f: br.jvp(lambda m: run(m, p, f), (m,), (m * m,)), means, points, factors)
    assert tangent.loops.count("gemm") == calls


@pytest.mark.parametrize(
    ("product", "sums"), [(lambda a, x: a @ x, 10), (lambda a, x: x @ a, 2), (lambda a, x: x @ a.T, 10)]
)
def test_the_two_products_of_a_tangent_are_one_sum(product: Any, sums: int) -> None:
    """One for the function, one for the tangent: vectors, or numbers for each of four rows and of one that is left."""
    a, x = numbers(2, 21, 21), numbers(2, 21)
    compiled = compare(lambda a, x: br.jvp(lambda a, x: np.tanh(product(a, x)), (a[0], x[0]), (a[1], x[1])), a, x)
    assert compiled.loops.count("] = 0.0") == sums


def test_sums_that_are_used_otherwise_stay() -> None:
    a, b, x = numbers(21, 21), numbers(21, 21), numbers(21)

    def run(a: Any, b: Any, x: Any) -> Any:
        for _ in range(6):
            u, v = a @ x, b @ x
            w = b.T @ v
            x = np.tanh(u + v + w) + 0.1 * u
            x[0] = x @ x + u @ v
        return x, np.sum(a * x) + np.sum(b * u), a[:3] @ v + (b[:3] @ v + a[3:6] @ u)

    compare(run, a, b, x)


def test_rows_that_are_added_to_a_vector_are_added_to_each_other_first() -> None:
    found = compare(lambda x, a: x @ a, numbers(40), numbers(40, 33))
    added = re.findall(r"^ *(\w+\[j\d+\]) <- add\(add\(add\(add\(", found.loops, re.MULTILINE)
    assert len(added) == 1


def recurrent(weights: Any, inputs: Any) -> Any:
    h, loss = np.zeros(weights.shape[0]), 0.0
    for t in range(inputs.shape[0]):
        h = np.tanh(weights @ np.concatenate([h, inputs[t]]))
        loss = loss + np.sum(h**2)
    return loss


def gathered(columns: Any, rows: Any) -> Any:
    total, once = np.ones((columns.shape[1], rows.shape[1])), np.ones((columns.shape[1], rows.shape[1]))
    for t in range(len(rows)):
        total = np.outer(columns[t], rows[t]) + total + rows[t] * columns[t - 1, :, None]
        once = once * 0.5 + np.outer(columns[t], rows[t] ** 2)
    return total, once


@pytest.mark.parametrize("steps", [1, 31, 63, 64, 65, 100, 200])
@pytest.mark.parametrize("dynamic", [False, True])
def test_outer_products_that_a_loop_adds_up(steps: int, dynamic: bool) -> None:
    """A block of steps at a time, whatever their number; a total that is used in between stays."""
    columns, rows = numbers(steps, 70), numbers(steps, 40)
    compiled = br.jit(gathered, backend="native", dynamic=dynamic)
    for found, expected in zip(compiled(columns, rows), gathered(columns, rows), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
    assert dynamic or executable(compiled).loops.count("gemm") == (2 if steps >= 64 else 0)


@pytest.mark.parametrize("steps", [64, 75])
def test_cotangents_of_a_matrix_that_every_step_multiplies(steps: int) -> None:
    weights, inputs = numbers(40, 52) / 8.0, numbers(steps, 12)
    gradient = compare(br.value_and_grad(recurrent), weights, inputs, rtol=1e-10)
    assert gradient.loops.count("gemm") == 1
    second = compare(lambda w, x: br.hvp(lambda w: recurrent(w, x), (w,), (w * w,)), weights, inputs, rtol=1e-9)
    assert second.loops.count("gemm") == 2
    batch = np.stack([weights, 0.5 * weights])
    compare(br.vmap(br.grad(recurrent), in_axes=(0, None)), batch, inputs, rtol=1e-10)


def test_cotangents_of_a_matrix_that_every_step_multiplies_from_both_sides() -> None:
    def balanced(a: Any, x: Any) -> Any:
        for _ in range(70):
            y = 1.0 / (a @ x)
            x = 1.0 / (a.T @ y)
        return np.sum(x * x)

    gradient = compare(br.grad(balanced, argnums=(0, 1)), abs(numbers(50, 42)) + 0.1, abs(numbers(42)), rtol=1e-9)
    assert gradient.loops.count("gemm") == 2


def test_transposed_matrices_times_vectors_are_read_along_memory() -> None:
    def run(a: Any, x: Any) -> Any:
        for _ in range(5):
            x = np.tanh(a.T @ x[: len(a)])
        return x

    a = numbers(30, 33)
    found = compare(run, a, numbers(33))
    along = [line for line in found.loops.splitlines() if "<- add(multiply(i0[" in line]
    assert along
    assert all(re.search(r"i0\[[^,]*i\d+[^,]*, j\d+\]", line) for line in along)


# ------------------------------------------------------------------------------------------------------- reductions


@pytest.mark.parametrize("shape", [(3, 50, 10), (50, 3), (4, 5, 12), (2, 3, 4, 9), (6, 7, 16), (30, 11)], ids=str)
def test_reductions_of_what_is_computed_on_the_way(shape: tuple[int, ...]) -> None:
    x = numbers(*shape)
    for axis in range(len(shape)):
        compare(lambda x, axis=axis: np.sum(-x * 2.0, axis=axis), x)
        compare(lambda x, axis=axis: np.max(np.abs(x), axis=axis, keepdims=True) - x, x)
    compare(lambda x: np.sum(np.cos(x), axis=(0, -1)), x)
    compare(lambda x: np.sum(x, axis=()), x)


# ------------------------------------------------------------------------------------------------- scattered writes


@pytest.mark.parametrize(
    "index",
    [
        (np.array([2, 0, 2, -1, 2]),),
        (slice(None), np.array([[1, 1], [-3, 0]])),
        (np.array([[0], [1]]), slice(1, 3), np.array([2, 0, 2])),
        (1, np.array([0, 2, -4]), np.array([1, 1, 1])),
    ],
    ids=["rows", "columns", "apart", "pairs"],
)
def test_gradients_of_writes_to_places_that_repeat(index: Any) -> None:
    x = numbers(4, 4, 5)[tuple(slice(None) if isinstance(e, slice) else slice(0, 4) for e in index)]

    def total(x: Any, v: Any, *arrays: Any) -> Any:
        rest = iter(arrays)
        y = x * 1.0
        y[tuple(next(rest) if isinstance(e, np.ndarray) else e for e in index)] = v
        return np.sum(np.sin(y) * np.cos(np.arange(y.size).reshape(y.shape)))

    arrays = [e for e in index if isinstance(e, np.ndarray)]
    compare(br.grad(total, argnums=(0, 1)), x, numbers(*x[index].shape), *arrays)


# ----------------------------------------------------------------------------------------------------- contractions


@pytest.mark.parametrize(
    "subscripts",
    [
        "nchw,ocij->nohwij", "nohw,ocij->nhwcij", "abcd,cefb->aefd", "abcd,cefb->fade", "abcd,dcba->ab", "abc,abd->cd",
        "abc,bad->dc", "ab,bc->ca", "abcd,bd->ca", "abcd,acbe->edba", "nab,nbc->acn",
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_contractions_of_axes_anywhere(subscripts: str, dtype: Any) -> None:
    lengths = dict(zip("abcdefghijnow", (17, 19, 23, 18, 9, 11, 5, 6, 3, 2, 4, 21, 7), strict=True))
    a, b = (numbers(*(lengths[x] for x in text), dtype=dtype) for text in subscripts.split("->")[0].split(","))
    rtol = 1e-4 if dtype == np.float32 else 1e-11
    compare(lambda a, b: np.einsum(subscripts, a, b, optimize=True), a, b, rtol=rtol)
    compare(lambda a, b: np.einsum(subscripts, a[::-1], np.cos(b), optimize=True), a, b, rtol=rtol)


def convolve(images: Any, filters: Any, step: int = 1) -> Any:
    """The convolution of images with filters, by windows."""
    windows = np.lib.stride_tricks.sliding_window_view(images, filters.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows[:, :, ::step, ::step], filters, optimize=True)


def by_matrices(images: Any, filters: Any) -> Any:
    """The same by one product of matrices."""
    n, c, _, _ = images.shape
    o, _, height, width = filters.shape
    windows = np.lib.stride_tricks.sliding_window_view(images, (height, width), axis=(2, 3))
    rows = np.transpose(windows, (0, 2, 3, 1, 4, 5)).reshape(-1, c * height * width)
    found = rows @ filters.reshape(o, -1).T
    return np.transpose(found.reshape(n, windows.shape[2], windows.shape[3], o), (0, 3, 1, 2))


@pytest.mark.parametrize("function", [convolve, by_matrices, lambda x, f: convolve(x, f, 2)])
@pytest.mark.parametrize("shape", [((3, 4, 12, 13), (8, 4, 3, 3)), ((2, 16, 9, 9), (16, 16, 2, 4))])
def test_convolutions_and_their_gradients(function: Callable[..., Any], shape: Any) -> None:
    images, filters = (numbers(*s) for s in shape)
    compiled = compare(function, images, filters, rtol=1e-11)
    assert "gemm" in compiled.loops or images.shape[2] < 12

    def loss(images: Any, filters: Any) -> Any:
        return np.sum(np.sin(function(images, filters)))

    compare(br.grad(loss, argnums=(0, 1)), images, filters, rtol=1e-10)


# ----------------------------------------------------------------------------------------------------------- fusion


def test_what_two_chains_of_operations_give_meets_in_one_loop() -> None:
    def mixed(a: Any, b: Any, c: Any) -> Any:
        left, other = np.sqrt(c) * c, np.log(a / b)
        return other / left + np.exp(-c * left)

    compiled = compare(mixed, *(np.abs(numbers(1000)) + 0.1 * k for k in (1, 2, 3)))
    assert compiled.loops.count(" below ") == 1


# ----------------------------------------------------------------------------------------------------- there and back


def test_rows_that_do_not_fit_into_the_cache_are_gone_through_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def eliminated(a: Any) -> tuple[Any, Any]:
        a, met = a.copy(), np.zeros((len(a) - 1, len(a)))
        for k in range(len(a) - 1):
            met[k, k:] = np.cos(a[:k, k:]).sum(0) + a[:k, k:].min(0, initial=0.0)
            a[k + 1 :, k:] -= a[k + 1 :, k : k + 1] / a[k, k] * a[k, k:]
        return a, met

    def passes(text: str) -> int:
        return len(re.findall(r" = xor i64 %", text))

    a = numbers(40, 40) + 30 * np.eye(40)
    before = compare(eliminated, a).llvm
    monkeypatch.setattr(advice, "_CACHE", 1)
    assert passes(compare(eliminated, a).llvm) > passes(before) == 0
    compare(br.grad(lambda a: eliminated(a)[1].sum()), a, rtol=1e-10)


def cells(weights: Any, recurrence: Any, inputs: Any) -> Any:
    """A recurrent network."""
    h = np.zeros(recurrence.shape[-1])
    for x in inputs:
        h = np.tanh(weights @ x + recurrence @ h)
    return h


def test_sums_of_products_turn_back_from_the_nearest_cache_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given = 0.1 * numbers(20, 20), 0.1 * numbers(20, 20), numbers(41, 20)
    assert " = xor i64 %" not in compare(cells, *given).llvm
    monkeypatch.setattr(advice, "_NEAREST", 1)
    assert " = xor i64 %" in compare(cells, *given).llvm


# ------------------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("length", [64, 61])
def test_matrices_that_steps_multiply_with_lie_at_lines_of_the_cache(
    dtype: Any, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [dtype(0.1) * numbers(*shape, dtype=dtype) for shape in ((length, 8), (length, length), (41, 8))]
    rtol = 1e-4 if dtype == np.float32 else 1e-11

    def copies(f: Callable[..., Any], line: int, *given: Any) -> int:
        monkeypatch.setattr(alignment, "vector_bytes", lambda: line)
        return len(re.findall(r" t\d+\[.*\] = i\d+\[.*\]\n", compare(f, *given, rtol=rtol).loops))

    assert copies(cells, 64, *given) == (1 if length * 8 * given[0].itemsize < 1 << 12 else 2)
    assert copies(cells, 32, *given) == 0
    gradient = br.grad(lambda *x: cells(*x).sum(), argnums=(0, 1))
    compare(gradient, *given, rtol=100 * rtol)

    def once(a: Any, v: Any) -> Any:
        return a @ v + a.T @ v

    def changing(a: Any, v: Any) -> Any:
        a = np.cos(a)
        for k in range(40):
            v = np.tanh(a @ v)
            a[k] *= 0.5
        return v

    for f in (once, changing):
        assert copies(f, 64, given[1], given[1][0]) == 0


def test_products_are_rounded_once_where_their_sum_is_one_operation() -> None:
    """A product of matrices, but not a sum of what the program has made to numbers of its own."""
    assert " = fmul contract " in compare(lambda a, x: a @ x, numbers(5, 30), numbers(30)).llvm
    assert " = fmul contract " not in compare(lambda a, x: np.sum(a * x, 1), numbers(5, 30), numbers(30)).llvm


def test_vectors_that_would_straddle_lines_of_the_cache_are_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of neighbours only, and only where steps are independent: the order in which a sum is added up stays."""

    def text(f: Callable[..., Any], dtype: Any, line: int) -> str:
        monkeypatch.setattr(advice, "vector_bytes", lambda: line)
        return compare(f, numbers(500, dtype=dtype)).llvm

    def running(x: Any) -> Any:
        total = 0.0
        for i in range(len(x) - 1):
            total += x[i] + x[i + 1]
        return total

    def smoothed(x: Any) -> Any:
        return x[:-2] + x[2:] - x.dtype.type(2) * x[1:-1]

    assert "fsub <8 x float>" in text(smoothed, np.float32, 64)
    assert "fsub <4 x double>" in text(smoothed, np.float64, 64)
    others = [
        lambda x: x[1:] * x[1:],
        lambda x: np.exp(x[1:] - x[:-1]),
        lambda x: (x[1:] + x[:-1]).sum(),
        running,
    ]
    for f in others:
        assert text(f, np.float64, 64) == text(f, np.float64, 32)


# ------------------------------------------------------------------------------------------------------- mathematics


def test_the_error_function_in_single_precision() -> None:
    x = np.concatenate([np.linspace(-5.0, 5.0, 20_001), np.logspace(-40.0, 3.0, 2_001)]).astype(np.float32)
    found = br.jit(special.erf, backend="native")(x)
    expected = special.erf(x.astype(np.float64))
    assert found.dtype == np.float32
    assert np.all(np.abs(found - expected) <= 2.0 * np.spacing(np.abs(expected).astype(np.float32)))
    edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], np.float32)
    found = br.jit(special.erf, backend="native")(edges)
    np.testing.assert_array_equal(found, special.erf(edges))
    np.testing.assert_array_equal(np.signbit(found[:4]), np.signbit(edges[:4]))


@pytest.mark.parametrize("function", [special.logsumexp, special.softmax, special.log_softmax])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sums_of_exponentials_and_their_gradients(function: Callable[..., Any], dtype: Any) -> None:
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    x = 30.0 * numbers(6, 5, dtype=dtype)
    for axis in (0, 1, None):
        compare(lambda x, axis=axis: function(x, axis=axis), x, rtol=rtol)
        gradient = br.grad(lambda x, axis=axis: np.sum(function(x, axis=axis) ** 2))
        compare(gradient, x, rtol=20 * rtol)
    for special_values in ([0.0, -40.0], [-np.inf, -np.inf], [np.inf, 1.0], [np.nan, 1.0], [1e4, 1e4 - 800.0]):
        edges = np.array(special_values, dtype)
        with np.errstate(all="ignore"):
            expected = function(edges)
        np.testing.assert_allclose(br.jit(function, backend="native")(edges), expected, rtol=2 * rtol)


def test_norms_and_logistic_regression() -> None:
    x = numbers(7, 4)
    for order, axis in ((None, None), ("fro", (0, 1)), (2, 1), (3, 0), (2.5, 1)):
        compare(lambda x, order=order, axis=axis: np.linalg.norm(x, order, axis), x)

    def loss(weights: Any, x: Any, labels: Any) -> Any:
        scores = x @ weights
        return -np.sum(labels * special.log_expit(scores) + (1.0 - labels) * special.log_expit(-scores))

    compare(br.value_and_grad(loss), numbers(4), x, (numbers(7) > 0.0) * 1.0, rtol=1e-11)


def test_functions_with_rules_of_their_own_are_machine_code() -> None:
    @br.custom_jvp
    def cube(x: Any) -> Any:
        return x * x * x

    cube.defjvp(lambda primals, tangents: (cube(primals[0]), 3.0 * primals[0] ** 2 * tangents[0]))

    def run(x: Any) -> Any:
        for _ in range(4):
            x = br.checkpoint(lambda x: 0.5 * np.tanh(cube(x) + x[::-1]))(x)
        return br.checkpoint_loop(lambda i, x: np.cos(x + i), 30, x)

    compare(run, numbers(9))
    gradient = br.grad(br.jit(lambda x: np.sum(run(x)), backend="native"))
    np.testing.assert_allclose(gradient(numbers(9)), br.grad(lambda x: np.sum(run(x)))(numbers(9)), rtol=1e-10)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("lengths", [(6, 3), (6, 6), (1, 1), (3, 6), (300, 7), (300, 50)], ids=str)
def test_convolutions(lengths: tuple[int, int], mode: Any) -> None:
    a, v = map(numbers, lengths)
    compare(lambda a, v: np.convolve(a, v, mode), a, v)
    compare(lambda a, v: np.convolve(a, v, mode), a.astype(np.float32), v.astype(np.float32), rtol=1e-5)
    compare(lambda a, v: np.convolve(a, v, mode), np.round(a * 9).astype(int), np.round(v * 9).astype(int))
    loss = br.grad(lambda a, v: np.sum(np.convolve(a, v, mode) ** 2), argnums=(0, 1))
    compare(loss, a, v, rtol=1e-11)
    compare(br.vmap(loss, in_axes=(0, None)), numbers(3, lengths[0]), v, rtol=1e-11)


@pytest.mark.parametrize("zeros", [(), (3,), (0, 3), (6,)], ids=str)
def test_gradients_of_running_products(zeros: tuple[int, ...]) -> None:
    x = numbers(7)
    x[list(zeros)] = 0.0
    compare(br.grad(lambda x: np.sum(np.cumprod(x) * np.arange(7.0))), x)
    compare(lambda x: br.jvp(np.cumprod, (x,), (np.cos(x),))[1], x)


def test_the_first_factor_of_a_recurrence_has_no_meaning() -> None:
    for reverse in (False, True):

        def recur(a: Any, b: Any, reverse: bool = reverse) -> Any:
            return evaluate(registry["recurrence"], (a, b), {"reverse": reverse})

        for first in (np.inf, np.nan):
            compare(recur, np.array([first, 0.5, 3.0]), np.ones(3))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)])
def test_running_results_that_are_read_across_rows(axis: int, order: tuple[int, ...]) -> None:
    """What a loop in order writes is not read before another step of the loop around it has written it."""

    def f(x: Any) -> Any:
        y = np.transpose(np.maximum.accumulate(x, axis=axis), order)
        z = np.cumsum(y, axis=1)
        return y[:, 1:] != y[:, :-1], z[1:] - z[:-1] + y[:-1], np.cumprod(z, axis=2)[..., ::-1] * y

    x = np.random.default_rng(axis).normal(size=(3, 3, 3))
    for found, expected in zip(br.jit(f, backend="native")(x), f(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_small_vectors_that_are_stored_out_of_order():
    # LLVM 22 reads them as one larger vector before all of them are there, which ends the process if nobody looks.
    def loss(x):
        y = np.concatenate([x[3:], x[:3] * 2], 0) * 2
        return np.sum(np.sin(y)) + np.sin(np.max(y))

    x = np.random.default_rng(0).normal(size=(4, 1, 2))
    gradient = br.grad(loss)
    np.testing.assert_allclose(br.jit(gradient, backend="native")(x), gradient(x))
