"""Linear algebra in machine code: straight-line code for small matrices, LAPACK for large ones, NumPy's errors."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br
from bindrune.compile.loops import loop
from bindrune.compile.staging import trace
from bindrune.core.operation import registry
from bindrune.graph.graph import Type, type_of
from bindrune.graph.interpreter import interpret

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

from bindrune.backends.native.executable import Executable, compile_graph

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "inv": np.linalg.inv,
    "solve a vector": lambda a: np.linalg.solve(a, a[..., :1] * 0.5 + 1.0),
    "solve": lambda a: np.linalg.solve(a, np.cos(a)),
    "det": np.linalg.det,
    "slogdet": np.linalg.slogdet,
    "cholesky": lambda a: np.linalg.cholesky(a @ a.mT),
    "cholesky of the upper triangle": lambda a: np.linalg.cholesky(a @ a.mT, upper=True),
}


def matrices(*shape: int, dtype: Any = np.float64) -> Any:
    """Matrices with pivots that are not on the diagonal."""
    x = np.random.default_rng(0).normal(size=shape)
    return (x + 2.0 * np.eye(shape[-1])[::-1]).astype(dtype)


def executable(function: Any) -> Executable:
    """The machine code behind a function under `br.jit`."""
    (path,) = (path for found in function._paths.values() for path in found)
    return next(made for made in path.graph.derived.values() if isinstance(made, Executable))


def native(op: str, *operands: Any, **params: Any) -> tuple[Executable, list[Any]]:
    """An operation compiled, and its results."""
    graph = trace(lambda cells: as_list(registry[op](*cells, **params)), [type_of(x) for x in operands])
    compiled = compile_graph(graph)
    return compiled, compiled.run([x.copy() for x in operands])


def as_list(x: Any) -> list[Any]:
    """Results as a list."""
    return list(x) if isinstance(x, tuple) else [x]


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (6, 6), (20, 20), (5, 4, 4), (2, 3, 9, 9)], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name: str, shape: tuple[int, ...]) -> None:
    dtype = np.float32 if shape[-1] in (4, 20) else np.float64
    function, a = FUNCTIONS[name], matrices(*shape, dtype=dtype)

    def weighted(a: Any) -> Any:
        found = function(a)
        parts = found if isinstance(found, tuple) else (found,)
        return sum(np.sum(np.cos(np.arange(np.size(x)).reshape(np.shape(x))) * x) for x in parts)

    tolerance = 2e-3 if dtype == np.float32 else 1e-9
    for transformed in (function, br.grad(weighted)):
        compiled = br.jit(transformed, backend="native")
        for found, expected in zip(as_list(compiled(a)), as_list(transformed(a)), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
        assert not executable(compiled).callbacks


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("shape", [(3, 3), (30, 30), (4, 3, 3), (4, 12, 12)], ids=str)
def test_triangular_systems(shape: tuple[int, ...], lower: bool) -> None:
    a = matrices(*shape) + 5.0 * np.eye(shape[-1])
    b = np.cos(np.arange(5.0 * a[..., 0].size)).reshape(*shape[:-1], 5)
    compiled, (found,) = native("solve_triangular", a, b, lower=lower)
    np.testing.assert_allclose((np.tril(a) if lower else np.triu(a)) @ found, b, rtol=1e-9, atol=1e-9)
    assert not compiled.callbacks


@pytest.mark.parametrize("n", [2, 5, 12])
@pytest.mark.parametrize("op", ["inv", "solve", "solve_triangular", "cholesky"])
def test_singular_matrices_raise_numpys_error(op: str, n: int) -> None:
    stack = np.stack([np.eye(n), np.eye(n), np.eye(n)])
    stack[1, -1, -1] = 0.0
    params = {"solve_triangular": {"lower": True}, "cholesky": {"upper": False}}.get(op, {})
    operands = [stack, np.ones((n, 2))] if op.startswith("solve") else [stack]
    graph = trace(lambda cells: [registry[op](*cells, **params)], [type_of(x) for x in operands])
    for a in (stack, stack[1:2]):
        with pytest.raises(np.linalg.LinAlgError) as expected:
            interpret(graph, [a, *operands[1:]])
    compiled = compile_graph(graph)
    assert not compiled.callbacks
    with pytest.raises(np.linalg.LinAlgError, match=str(expected.value)):
        compiled.run(operands)
    operands[0] = np.stack([2.0 * np.eye(n)] * 3)
    assert np.isfinite(compiled.run(operands)[0]).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 12])
def test_matrices_without_an_inverse_have_determinants_and_cofactors(n: int) -> None:
    a = np.eye(n)
    a[0, 0] = 0.0
    for op in ("det", "slogdet", "cofactors"):
        compiled, found = native(op, a)
        assert not compiled.callbacks
        for mine, expected in zip(found, as_list(registry[op].implementation(a)), strict=True):
            np.testing.assert_allclose(mine, expected, atol=1e-12)


def test_determinants_whose_parts_are_out_of_range() -> None:
    a = np.diag([1e200, 1e200, 1e-200, 1e-150])
    for matrix in (a, a[::-1, ::-1].copy(), -a[:3, :3]):
        np.testing.assert_allclose(native("det", matrix)[1][0], np.linalg.det(matrix), rtol=1e-12)
        np.testing.assert_allclose(native("slogdet", matrix)[1], np.linalg.slogdet(matrix), rtol=1e-14)
    np.testing.assert_array_equal(native("det", -a[:3, :3] * 1e100)[1][0], -np.inf)
    np.testing.assert_array_equal(native("det", a * np.nan)[1][0], np.nan)


def test_systems_of_lengths_that_only_the_loop_knows() -> None:
    a = matrices(20, 20) + 8.0 * np.eye(20)

    def total(a: Any) -> Any:
        found = 0.0
        for k in range(len(a)):
            part = a[:k, :k]
            found = found + np.sum(np.linalg.solve(part, np.ones(k))) + np.linalg.det(part) * 1e-9
        return found

    compiled = br.jit(total, backend="native")
    np.testing.assert_allclose(compiled(a), total(a), rtol=1e-9)


def test_a_loop_of_small_systems() -> None:
    def body(v: list[Any]) -> list[Any]:
        _, a, x = v
        return [a, np.linalg.solve(a, x[:, None])[:, 0] + 1.0]

    types = [Type((3, 3), np.dtype(float)), Type((3,), np.dtype(float))]
    inner = trace(body, [Type((), np.dtype(int), "python"), *types], "body")
    graph = trace(lambda cells: list(loop(9, *cells, body=inner, carries=2, descending=False)), types)
    compiled, arguments = compile_graph(graph), [matrices(3, 3) + 3.0 * np.eye(3), np.arange(3.0)]
    np.testing.assert_allclose(compiled.run(arguments)[1], interpret(graph, list(arguments))[1], rtol=1e-12)
    assert not compiled.callbacks
    with pytest.raises(np.linalg.LinAlgError, match="Singular matrix"):
        compiled.run([np.ones((3, 3)), np.arange(3.0)])


ALONE = """
import sys
import numpy as np
import bindrune as br

x = np.eye(40, dtype=np.float32)
assert np.array_equal(br.jit(lambda x: x @ x, backend="native")(x), x)
print("scipy.linalg" in sys.modules)
import scipy.linalg.cython_blas, scipy.linalg.cython_lapack
print("dgemm" in scipy.linalg.cython_blas.__pyx_capi__)
print(scipy.linalg.cython_lapack is sys.modules["scipy.linalg.cython_lapack"])
"""


def test_libraries_are_loaded_without_the_package_around_them() -> None:
    found = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=300, check=False)
    assert found.stdout.split() == ["False", "True", "True"], found.stderr
