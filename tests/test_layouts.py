"""Views under `jit` are NumPy's whatever way arguments lie in memory, and whether lengths are known or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bindrune as br

VIEWS: dict[str, Callable[[Any], Any]] = {
    "transposed": lambda x: x.T,
    "swapped": lambda x: np.swapaxes(x, 0, 1),
    "with an axis more": lambda x: x[:, None],
    "with an axis less": lambda x: np.squeeze(x[:, None], 1),
    "flipped": lambda x: np.flip(x, 0),
    "turned": lambda x: np.rot90(x),
    "a half": lambda x: np.hsplit(x, 2)[0],
    "a column": lambda x: x[:, 1],
    "a row": lambda x: x[1],
    "within": lambda x: x[1:-1],
    "flat": lambda x: x.ravel(),
    "reshaped to one axis": lambda x: x.reshape(-1),
    "reshaped to other axes": lambda x: x.reshape(2, -1),
    "broadcast": lambda x: np.broadcast_to(x, (2, *x.shape)),
    "in order": lambda x: np.ascontiguousarray(x),
    "of the other order": lambda x: np.asfortranarray(x),
    "transposed and flat": lambda x: x.T.ravel(),
    "transposed and reshaped": lambda x: x.T.reshape(-1),
    "columns reshaped": lambda x: x[:, 1:].reshape(-1),
    "by einsum": lambda x: np.einsum("ij->ji", x),
    "sums by einsum": lambda x: np.einsum("ij->i", x),
    "computed, transposed and reshaped": lambda x: (x.T + 1).reshape(-1),
    "copied, transposed and reshaped": lambda x: np.array(x.T).reshape(-1),
    "of zeros": lambda x: np.zeros_like(x.T).reshape(-1),
}

LAYOUTS: dict[str, Callable[[int], Any]] = {
    "C": lambda n: np.arange(4.0 * n).reshape(n, 4),
    "F": lambda n: np.asfortranarray(np.arange(4.0 * n).reshape(n, 4)),
    "strided": lambda n: np.arange(8.0 * n).reshape(n, 8)[:, ::2],
}


def writing(view: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        y = view(x)
        if np.shape(y) != (2, *np.shape(x)):
            y[0] = 5.0
        z = y * 1
        x[0, 0] += 2
        return z, y + 0, x * 1

    return f


@pytest.mark.parametrize("backend", ["interpreter", "native"])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_one_where_numpys_is(name: str, dynamic: bool, backend: str) -> None:
    f = writing(VIEWS[name])
    for make in LAYOUTS.values():
        g = br.jit(f, backend=backend, dynamic=dynamic)
        for n in (4, 6, 4):
            mine, plain = make(n), make(n)
            for found, expected in zip(g(mine), f(plain), strict=True):
                np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(mine, plain)


def test_calls_whose_arguments_lie_in_memory_another_way() -> None:
    def f(x):
        y = x.reshape(-1)
        y[0] = 5.0
        return x * 1

    g = br.jit(f)
    for name in ("C", "F", "C", "strided", "C"):
        np.testing.assert_array_equal(g(LAYOUTS[name](3)), f(LAYOUTS[name](3)))
    assert (g.stats().stagings, g.stats().hits) == (3, 2)


def test_where_nothing_is_written_one_path_serves_all() -> None:
    g = br.jit(lambda x: x.T.reshape(-1) @ np.arange(12.0))
    for name in ("F", "C", "strided", "C"):
        x = LAYOUTS[name](3)
        np.testing.assert_array_equal(g(x), x.T.reshape(-1) @ np.arange(12.0))
    assert (g.stats().stagings, g.stats().eager) == (1, 0)
