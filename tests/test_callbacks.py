"""What programs call on the host: callbacks, pure or for what they do, and a bar that shows a loop's progress."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

import bindrune as br

each_backend = pytest.mark.parametrize("backend", ["interpreter", "native"])


class Log:
    """Keeps what it is told, out of sight of staging."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, value: Any) -> None:
        self.text += f"{float(value):g} "


@each_backend
def test_callbacks_happen_at_each_step_in_order(backend: str) -> None:
    log = Log()

    def f(x):
        total = 0.0
        for v in x:
            br.io_callback(log, None, v)
            total += br.pure_callback(lambda a: np.float64(a * a), br.ShapeDtype((), float), v)
            if v > 3:
                br.io_callback(log, None, -v)
        return total

    g = br.jit(f, backend=backend)
    for scale in (1.0, 2.0):
        log.text = ""
        assert g(np.arange(6.0) * scale) == 55.0 * scale**2
        told, log.text = log.text, ""
        f(np.arange(6.0) * scale)
        assert told == log.text
    assert br.make_graph(f)(np.arange(6.0)).size() == br.make_graph(f)(np.arange(20.0)).size()


@each_backend
def test_a_bar_shows_how_far_a_loop_is(backend: str) -> None:
    def f(x):
        for _ in br.progress(range(50)):
            x = np.sin(x) + x
        return x

    g, shown = br.jit(f, backend=backend), io.StringIO()
    with contextlib.redirect_stderr(shown):
        found = [g(0.1), g(0.2), br.grad(g)(0.1)]
    plain = io.StringIO()
    with contextlib.redirect_stderr(plain):
        np.testing.assert_allclose(found, [f(0.1), f(0.2), br.grad(f)(0.1)], rtol=1e-14)
    assert shown.getvalue().count("50/50") >= 3
    assert "50/50" in plain.getvalue()
    assert br.make_graph(f)(0.1).size() < 20
