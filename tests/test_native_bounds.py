"""Machine code that looks at every access whether it stays within its buffer: for tests, ``BINDRUNE_CHECK=bounds``."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import bindrune as br

if importlib.util.find_spec("llvmlite") is None:
    pytest.skip("llvmlite is not installed", allow_module_level=True)

from bindrune.backends.native.lower import Lowering
from bindrune.compile.effects import GuardFailed


def smooth(x, n):
    y = x.copy()
    for i in range(1, n - 1):
        y[i] = 0.25 * y[i - 1] + 0.5 * y[i] + 0.25 * y[i + 1]
    return np.sum(y * y)


def test_programs_stay_within_their_buffers(monkeypatch):
    monkeypatch.setenv("BINDRUNE_CHECK", "bounds")
    x = np.linspace(0.0, 1.0, 20)
    np.testing.assert_allclose(br.jit(smooth, backend="native")(x, 20), smooth(x, 20))
    np.testing.assert_allclose(br.jit(br.grad(smooth), backend="native")(x, 20), br.grad(smooth)(x, 20))
    with pytest.raises(IndexError):
        br.jit(smooth, backend="native")(x, 22)


def test_a_program_that_leaves_them_is_stopped(monkeypatch):
    monkeypatch.setenv("BINDRUNE_CHECK", "bounds")
    monkeypatch.setattr(Lowering, "check", lambda self, *arguments: None)
    lowered = br.jit(lambda x, i: x[i] + 1, backend="native").lower(np.ones(4), 1)
    assert lowered.run([np.ones(4), 2]) == [2.0]
    with pytest.raises(RuntimeError, match="leaves its buffers"):
        lowered.run([np.ones(4), 10_000])


def test_lengths_that_differ_are_found_before_elements_are_read(monkeypatch):
    monkeypatch.setenv("BINDRUNE_CHECK", "bounds")

    def f(x, y, i, j):
        return np.sin(x[:i]) + y[:j]

    lowered = br.jit(f, backend="native").lower(np.ones(100), np.ones(5), 3, 3)
    np.testing.assert_array_equal(lowered.run([np.ones(100), np.ones(5), 2, 2])[0], 1 + np.sin(np.ones(2)))
    with pytest.raises(GuardFailed):
        lowered.run([np.ones(100), np.ones(5), 100, 4])


def test_each_layer_prints():
    lowered = br.jit(smooth).lower(np.ones(50), 50)
    assert "for " in lowered.loops
    assert "define" in lowered.llvm
    assert "run:" in lowered.asm
    assert lowered.callbacks == []
