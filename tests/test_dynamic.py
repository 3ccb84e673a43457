"""Leading lengths that are left open: for all arguments, for annotated ones, and the notice that says so."""

from __future__ import annotations

import typing
import warnings
from typing import Any

import numpy as np
import pytest

import bindrune as br


def scaled(x: br.Dynamic, weights: Any, *others: Any, offset: br.Dynamic = 0.0) -> Any:
    return x * weights.sum() + sum(o.sum() for o in others) + np.sum(offset)


def test_an_annotated_argument_has_one_graph_for_all_lengths() -> None:
    g = br.jit(scaled)
    for n in (3, 4, 5, 9):
        np.testing.assert_array_equal(g(np.ones(n), np.ones(2)), scaled(np.ones(n), np.ones(2)))
        np.testing.assert_array_equal(
            g(np.ones(4), np.ones(2), offset=np.ones(n + 2)), scaled(np.ones(4), np.ones(2), offset=np.ones(n + 2))
        )
    assert g.stats().stagings == 2
    g(np.ones(4), np.ones(3))
    assert g.stats().stagings == 3


def test_annotations_of_other_forms() -> None:
    def f(w: Any, tree: typing.Annotated[Any, br.Dynamic]) -> Any:
        return {"a": tree["a"].sum() + w[0], "b": tree["b"] * 2}

    g = br.jit(br.grad(lambda w, tree: f(w, tree)["a"], 1))
    h = br.jit(f)
    for n in (3, 4, 7):
        tree = {"a": np.ones(n), "b": np.ones((n, 2))}
        assert h(np.ones(2), tree)["b"].shape == (n, 2)
        assert g(np.ones(2), tree)["b"].shape == (n, 2)
    assert (h.stats().stagings, g.stats().stagings) == (1, 3)


def test_a_derivative_has_the_annotations_of_its_function() -> None:
    def loss(x: br.Dynamic, w: Any) -> Any:
        return np.sum(x * w)

    g = br.jit(br.grad(loss))
    for n in (3, 4, 5):
        np.testing.assert_array_equal(g(np.ones(n), 2.0), np.full(n, 2.0))
    assert g.stats().stagings == 1


def test_only_shapes_count_for_the_notice() -> None:
    g = br.jit(lambda x, how: x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for how in "abcdefgh":
            g(np.ones(3), how)
        for n in (4, 5):
            g(np.ones(n), "a")
    with pytest.warns(UserWarning, match=r"staged for 4 shapes of the same rank; br.jit\(f, dynamic=True\)"):
        g(np.ones(6), "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        g(np.ones(7), "a")


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_fast_math(backend: str) -> None:
    def f(x):
        return np.sum(x / 3.0 + 0.0)

    x = np.linspace(0, 1, 50)
    exact, fast = br.jit(f, backend=backend), br.jit(f, backend=backend, fast_math=True)
    np.testing.assert_allclose(fast(x), exact(x), rtol=1e-14)
    np.testing.assert_allclose(br.grad(fast)(x), br.grad(f)(x), rtol=1e-14)
