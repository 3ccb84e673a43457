"""What follows from an order, in machine code: sorting, looking up, selecting, counting; bit by bit as NumPy."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br
from bindrune.backends.native.executable import Executable
from measures import executables

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

from bindrune.backends.native.numpy_functions import sorting_function, ufunc_loop

TYPES = ["?", "b", "B", "h", "i", "I", "l", "L", "f", "d"]
SHAPES = [(0,), (1,), (5,), (40,), (1000,), (3, 7), (4, 0), (2, 3, 50)]


def executable(function: Any) -> Executable:
    """The only one."""
    found = list({id(made): made for made in executables(function)}.values())
    assert len(found) == 1
    return found[0]


def same(function: Callable[..., Any], *arguments: Any) -> None:
    """Compiled and plain results are the same bits, and nothing is left to the host."""
    compiled = br.jit(function, backend="native")
    found, expected = compiled(*arguments), function(*arguments)
    parts = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    for mine, theirs in parts:
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        assert mine.tobytes() == theirs.tobytes()
    assert executable(compiled).callbacks == []


def values(shape: tuple[int, ...], dtype: str) -> Any:
    """Numbers with many ties; among floats zeros of both signs, infinity, and what is no number."""
    x = np.round(np.random.default_rng(0).normal(size=shape) * 20)
    if dtype == "L":
        x = np.abs(x)
    if dtype in "fd" and x.size > 4:
        x.flat[:4] = np.inf, -0.0, np.nan, 0.0
    return x.astype(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TYPES)
def test_sorting(dtype: str, shape: tuple[int, ...]) -> None:
    x = values(shape, dtype)
    for axis in range(x.ndim):
        for kind in (None, "stable"):
            same(lambda x, axis=axis, kind=kind: np.sort(x, axis=axis, kind=kind), x)
            same(lambda x, axis=axis, kind=kind: np.argsort(x, axis=axis, kind=kind), x)
    same(lambda x: np.lexsort((x[::-1], x)), x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["?", "l", "d"])
def test_selection(dtype: str, shape: tuple[int, ...]) -> None:
    x = values(shape, dtype)
    same(lambda x: np.nonzero(x), x)
    same(lambda x: x[x > 0], x)
    same(lambda x: np.unique(x, return_index=True), x)
    if 0 < shape[-1] <= 512:
        same(lambda x: np.median(x, axis=-1), x)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("dtypes", ["dd", "fl", "lf", "dL", "iB"])
def test_tables(dtypes: str, n: int) -> None:
    x, table = values((4, 30), dtypes[0]), np.sort(values((n,), dtypes[1]))
    for side in ("left", "right"):
        same(lambda x, table, side=side: np.searchsorted(table, x, side), x, table)
    bins = np.unique(np.nan_to_num(table, posinf=99))
    for right in (False, True):
        same(lambda x, bins, right=right: np.digitize(x, bins, right), x, bins)
        falling = bins[::-1].copy()
        found = br.jit(lambda x, bins, right=right: np.digitize(x, bins, right))(x, falling)
        np.testing.assert_array_equal(found, np.digitize(x, falling, right))
    heights = np.random.default_rng(1).normal(size=bins.shape)
    heights[n // 2 : n // 2 + 1] = np.inf
    same(np.interp, x, bins, heights)


def test_ties_share_derivatives() -> None:
    x, w = np.array([3.0, 1.0, 3.0, 2.0, 1.0, 1.0]), np.arange(6.0)
    compiled = br.jit(br.grad(lambda x: np.sum(w * np.sort(x))), backend="native")
    np.testing.assert_allclose(compiled(x), [4.5, 1.0, 4.5, 3.0, 1.0, 1.0])
    assert executable(compiled).callbacks == []


def test_counts_of_data_are_staged_once() -> None:
    """The positions were frozen into the program, which was staged again for each data set."""
    generator = np.random.default_rng(0)
    weigh = br.jit(lambda i, w: np.bincount(i, w, 4), backend="native")
    count = br.jit(lambda i: np.bincount(i), backend="native")
    histogram = br.jit(lambda x: np.histogram(x, bins=10, range=(0.0, 1.0))[0], backend="native")
    for k in range(1, 7):
        i, w = generator.integers(0, k, 20).astype(np.uint8), generator.normal(size=20)
        np.testing.assert_array_equal(weigh(i, w), np.bincount(i, w, 4))
        np.testing.assert_array_equal(count(i), np.bincount(i))
        x = generator.random(100)
        np.testing.assert_array_equal(histogram(x), np.histogram(x, bins=10, range=(0.0, 1.0))[0])
    for compiled in (weigh, count, histogram):
        assert compiled.stats().stagings == 1
        assert executable(compiled).callbacks == []
    assert count(np.array([255], np.uint8)).shape == (256,)
    for wrong in (np.array([-1, 2]), np.array([1.5]), np.array([[1]])):
        with pytest.raises((ValueError, TypeError)) as expected:
            np.bincount(wrong)
        with pytest.raises(expected.type, match=str(expected.value)[:20]):
            count(wrong)


def test_counts_have_derivatives() -> None:
    i, w = np.array([2, 0, 2, 1]), np.array([0.5, -1.0, 2.0, 3.0])
    compiled = br.jit(br.grad(lambda w, i: np.sum(np.bincount(i, w) ** 2)), backend="native")
    np.testing.assert_allclose(compiled(w, i), [5.0, -2.0, 5.0, 6.0])


def test_random_numbers() -> None:
    for shape in ((), (5,), (3, 4), (0,)):
        same(lambda seed, shape=shape: br.random.uniform(br.random.key(seed), shape), np.int64(3))
        same(lambda seed, shape=shape: br.random.randint(br.random.key(seed), shape, 0, 100), np.int64(3))


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (40, 40), (2, 3, 5, 2), (2, 4, 4), (0, 3, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["d", "f", "l"])
def test_decompositions(dtype: str, shape: tuple[int, ...]) -> None:
    a = (np.random.default_rng(0).normal(size=shape) * 4).astype(dtype)
    for full in (False, True):
        same(lambda a, full=full: tuple(np.linalg.svd(a, full)), a)
    same(np.linalg.svdvals, a)
    for mode in ("reduced", "complete"):
        same(lambda a, mode=mode: tuple(np.linalg.qr(a, mode)), a)
    if shape[-1] == shape[-2]:
        for side in "LU":
            same(lambda a, side=side: tuple(np.linalg.eigh(a, side)), a)
            same(lambda a, side=side: np.linalg.eigvalsh(a, side), a)


@pytest.mark.parametrize("name", ["eigh", "eigvalsh", "svd"])
def test_what_does_not_converge_raises_numpys_error(name: str) -> None:
    function = getattr(np.linalg, name)
    compiled = br.jit(lambda a: as_tuple(function(a)), backend="native")
    with pytest.raises(np.linalg.LinAlgError) as expected:
        function(np.full((3, 3), np.nan))
    with pytest.raises(np.linalg.LinAlgError, match=str(expected.value)):
        compiled(np.full((3, 3), np.nan))


def as_tuple(x: Any) -> tuple[Any, ...]:
    """Results as a tuple."""
    return tuple(x) if isinstance(x, tuple) else (x,)


def test_functions_that_numpy_does_not_have_are_left_to_the_host() -> None:
    assert sorting_function("sort", "heapsort", np.dtype(float)) is None
    assert sorting_function("sort", "quicksort", np.dtype(complex)) is None
    assert ufunc_loop(np.add, "dd->d") is None
    x = np.array([3.0, 1.0, 2.0])
    np.testing.assert_array_equal(br.jit(lambda x: np.sort(x, kind="heapsort"))(x), np.sort(x))


def test_explain_lists_what_is_left_to_numpy() -> None:
    def parted(x: Any) -> Any:
        return np.partition(x, 2) + np.linalg.eigvals(np.outer(x, x)).real

    told = br.jit(parted, backend="native").explain(np.ones(4))
    assert told.count("performed by NumPy") == 3
    assert "partition" in told
    assert "performed by NumPy" not in br.jit(parted, backend="interpreter").explain(np.ones(4))


OF_ANY_LENGTH: dict[str, Callable[..., Any]] = {
    "sort": np.sort,
    "argsort": lambda x: np.argsort(x, kind="stable"),
    "unique": lambda x: np.unique(x, return_index=True, return_inverse=True, return_counts=True),
    "selected": lambda x: np.sort(x[x > 0]),
    "looked up": lambda x: np.searchsorted(np.sort(x), np.linspace(-4.0, 4.0, 9), "right"),
    "digitized": lambda x: np.digitize(np.linspace(-4.0, 4.0, 9), np.sort(x)),
    "counted": lambda x: np.bincount(np.abs(x).astype(int), x),
    "eigenvalues": lambda x: np.linalg.eigvalsh(np.outer(x, x)) if len(x) else x,
}


@pytest.mark.parametrize("name", OF_ANY_LENGTH)
def test_lengths_that_are_not_known(name: str) -> None:
    function = OF_ANY_LENGTH[name]
    compiled = br.jit(function, dynamic=True, backend="native")
    for n in (5, 3, 64, 1, 9, 2, 100, 0):
        assert not any(made.callbacks for made in executables(compiled))
        x = np.round(np.random.default_rng(n).normal(size=n) * 2, 1)
        found, expected = compiled(x), function(x)
        for mine, theirs in zip(as_tuple(found), as_tuple(expected), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-12)
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
