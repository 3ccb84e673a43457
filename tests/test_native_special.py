"""SciPy's special functions in machine code: calls of the very functions that SciPy calls."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from scipy import special

import bindrune as br

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

from bindrune.backends.native.numpy_functions import special_function

ONE = ["gammaln", "psi", "erfinv", "ndtr", "log_ndtr", "ndtri", "logit", "i0", "j1", "k0e", "ellipk", "gamma", "entr"]
TWO = ["beta", "betaln", "binom", "xlogy", "rel_entr", "huber", "poch", "owens_t", "kl_div"]
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 0.25, -0.75, 3.0, -2.5, 40.0, 1e-300, 1e300, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("name", ONE + TWO)
def test_values_are_scipys(name: str) -> None:
    function = getattr(special, name)
    x = np.concatenate([EDGES, np.random.default_rng(0).normal(size=200)])
    operands = (x,) if name in ONE else (x[:, None], x[::7])
    compiled = br.jit(lambda *operands: function(*operands), backend="native")
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(compiled(*operands), function(*operands))
        number = br.jit(lambda *operands: function(*operands), backend="native")
        numbers = (0.7,) * len(operands)
        assert number(*numbers) == function(*numbers)
    assert compiled.lower(*operands).callbacks == []


@pytest.mark.parametrize("name", ONE + TWO)
def test_single_precision_is_that_of_double_rounded(name: str) -> None:
    function = getattr(special, name)
    x = np.concatenate([EDGES[:10], np.random.default_rng(0).normal(size=200)]).astype(np.float32)
    operands = (x,) if name in ONE else (x[:, None], x[::7])
    compiled = br.jit(lambda *operands: function(*operands), backend="native")
    with np.errstate(all="ignore"):
        found, expected = compiled(*operands), function(*operands)
        exact = function(*(x.astype(float) for x in operands)).astype(np.float32)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, exact)
    finite = np.isfinite(expected) & np.isfinite(found)  # SciPy's own overflow earlier here and there
    np.testing.assert_allclose(found[finite], expected[finite], rtol=2e-5, atol=1e-6)
    assert compiled.lower(*operands).callbacks == []


def test_other_types_are_left_to_scipy() -> None:
    compiled = br.jit(lambda x: special.gammaln(x), backend="native")
    for x in (np.array([0.5, 3.0], np.float16), np.array([2, 5])):
        found, expected = compiled(x), special.gammaln(x)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert len(compiled.lower(np.ones(2, np.float16)).callbacks) == 1
    assert special_function("gammaln", 2) is None
    assert special_function("no_such_function", 1) is None


def test_derivatives() -> None:
    x = np.linspace(0.3, 4.0, 7)

    def likelihood(x: Any) -> Any:
        return np.sum(special.gammaln(x) - special.betaln(x, 2.0) + special.ndtri(x / 5))

    compiled = br.jit(br.grad(likelihood), backend="native")
    np.testing.assert_allclose(compiled(x), br.grad(likelihood)(x), rtol=1e-12)
    assert compiled.lower(x).callbacks == []


def test_normal_numbers_in_a_loop() -> None:
    def walk(seed: Any) -> Any:
        key, x = br.random.key(seed), 0.0
        for i in range(50):
            x = x + br.random.normal(br.random.fold_in(key, i))
        return x

    compiled = br.jit(walk, backend="native")
    np.testing.assert_allclose(compiled(np.int64(3)), walk(np.int64(3)), rtol=1e-13)
    assert compiled.lower(np.int64(3)).callbacks == []


def test_programs_for_c_do_without(tmp_path: Any) -> None:
    with pytest.raises(br.ExportError, match="erfinv"):
        br.export(lambda x: special.erfinv(x), np.ones(3), path=tmp_path / "f.o")
