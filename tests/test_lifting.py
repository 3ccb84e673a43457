"""Lifting: which plain code runs transformed, without being rewritten."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import math
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
from numpy import full, ones, sin, zeros

import bindrune as br
from bindrune.lift.syntax import source_of

SCALE = 2.0
WEIGHTS = np.array([1.0, 2.0, 3.0])
COUNTER = 0
OUT = np.zeros(2)


def helper(x):
    out = np.zeros(3)
    out[1] = x
    return out


def test_helper_functions_are_lifted():
    assert br.grad(lambda x: np.sum(helper(x) ** 2))(3.0) == 6.0


def test_names_imported_from_numpy():
    def f(x):
        out = zeros(2)
        out[0] = sin(x)
        return out.sum()

    assert br.grad(f)(0.5) == pytest.approx(np.cos(0.5))


def test_names_imported_from_numpy_that_numpy_wrote_in_python():
    def f(x):
        y, z = ones(3), full((2, 2), 0.5)
        y[0] = x
        z[1] = y[0] * 2
        return np.sum(y * y) + np.sum(z)

    assert br.grad(f)(3.0) == 10.0


def test_math_functions():
    def f(x):
        return math.sin(x) * math.exp(-x) + math.sqrt(x) + math.atan2(x, 2.0) + math.log(x, 2) + math.pow(x, 3)

    x, h = 0.7, 1e-6
    assert br.grad(f)(x) == pytest.approx((f(x + h) - f(x - h)) / (2 * h), rel=1e-8)
    assert isinstance(br.value_and_grad(f)(x)[0], float)
    np.testing.assert_allclose(br.vmap(f)(np.array([0.3, 0.7])), [f(0.3), f(0.7)])


def test_math_errors_are_pythons():
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        br.grad(lambda x: math.sqrt(x))(-1.0)


def test_builtins():
    def f(x):
        a = max(x[0], x[1] * 2, 0.0)
        b = min(x)
        c = abs(x[2])
        return a * b * c + sum(x) + float(x[0]) ** 2 + round(3.7) + int(2.9) + len(x) + bool(x[0])

    x = np.array([0.5, 0.4, -2.0])
    numeric = [(f(x + h) - f(x - h)) / 2e-6 for h in np.eye(3) * 1e-6]
    np.testing.assert_allclose(br.grad(f)(x), numeric, rtol=1e-7)


def test_builtin_extremes_of_batched_values():
    x = np.array([[0.5, -1.0], [-2.0, 3.0]])
    np.testing.assert_array_equal(br.vmap(lambda r: max(r[0], r[1]) - min(r))(x), [1.5, 5.0])


def test_float_as_a_type_stays_a_type():
    def f(x):
        y = np.zeros(2, dtype=float)
        kinds = {float: 1, int: 2}
        y[0] = float(x) * kinds[float]
        assert isinstance(2.5, float)
        assert float("1.5") == 1.5
        return y.astype(float).sum()

    assert br.grad(f)(3.0) == 1.0


def test_isinstance_and_type_see_arrays():
    def f(x):
        assert isinstance(x, np.ndarray)
        assert isinstance(x, (list, np.ndarray))
        assert isinstance(x[0], float)
        assert not isinstance(x[0], np.ndarray)
        assert type(x) is np.ndarray
        assert isinstance(np.zeros(2), np.ndarray)
        return x[0]

    br.grad(f)(np.ones(2))


def test_creation_functions():
    def f(x):
        a = np.array([x[0], 2.0, x[1]])
        b = np.asarray([[x[0], x[1]], [1.0, x[2]]])
        c = np.stack([x, np.ones(3), [x[2], 1, 2]])
        d = np.full((2,), x[1])
        e = np.linspace(x[0], x[1], 4)
        g = np.eye(3) @ x + np.arange(3) + np.ones_like(x)
        return sum(np.sum(v**2) for v in (a, b, c, d, e, g))

    x = np.array([0.5, -1.2, 2.1])
    numeric = [(f(x + h) - f(x - h)) / 2e-6 for h in np.eye(3) * 1e-6]
    np.testing.assert_allclose(br.grad(f)(x), numeric, rtol=1e-6)


def test_closures_and_nested_functions():
    bias = np.array([1.0, -1.0])

    def outer(x):
        state = np.zeros(2)

        def inner(i):
            state[i] = x[i] * bias[i]

        for i in range(2):
            inner(i)
        return np.sum(state)

    np.testing.assert_array_equal(br.grad(outer)(np.ones(2)), bias)


def test_nonlocal_and_global():
    count = 0

    def f(x):
        nonlocal count
        global COUNTER
        count += 1
        COUNTER += 1
        return x * count

    before = COUNTER
    br.grad(f)(1.0)
    assert count == 1
    assert before + 1 == COUNTER


def test_recursion():
    def power(x, n):
        return np.ones(()) if n == 0 else x * power(x, n - 1)

    assert br.grad(power)(2.0, 5) == 80.0


class Model:
    def __init__(self, weights):
        self.weights = weights
        self.calls = 0

    def predict(self, x):
        self.calls += 1
        out = np.zeros(2)
        out[0] = x @ self.weights
        return out

    def loss(self, x):
        return np.sum(self.predict(x) ** 2)

    def __call__(self, x):
        return self.loss(x)

    @staticmethod
    def half(x):
        return 0.5 * x

    @property
    def total(self):
        return np.sum(self.weights)


def test_methods_and_callables():
    model = Model(WEIGHTS)
    x = np.array([1.0, 0.5, -1.0])
    expected = 2 * (x @ WEIGHTS) * WEIGHTS
    np.testing.assert_array_equal(br.grad(model.loss)(x), expected)
    np.testing.assert_array_equal(br.grad(model)(x), expected)
    np.testing.assert_array_equal(br.grad(lambda x: model.half(model(x)) * model.total)(x), expected * 0.5 * 6)
    assert model.calls == 3


def test_attributes_stay_shared():
    model = Model(WEIGHTS)

    def f(x):
        model.last = 7
        assert isinstance(model, Model)
        return model(x)

    br.grad(f)(np.ones(3))
    assert model.last == 7


def test_partials_lambdas_and_decorators():
    def logged(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            return f(*args, **kwargs)

        return wrapper

    @logged
    def f(x, k):
        out = np.zeros(1)
        out[0] = x**k
        return out[0]

    assert br.grad(functools.partial(f, k=3))(2.0) == 12.0
    assert br.grad(lambda x: f(x, k=2))(2.0) == 4.0


def test_cached_helpers():
    @functools.lru_cache
    def table(n):
        return np.arange(float(n))

    assert br.grad(lambda x: np.sum(table(3) * x))(2.0) == 3.0


def test_defaults_are_lifted():
    def f(x, out=OUT):
        out[0] = x
        return np.sum(out * 3)

    assert br.grad(f)(1.0) == 3.0


def test_rebound_names_are_seen():
    namespace = {"np": np, "k": 2.0}
    exec("def h(x):\n    return x * k\ndef f(x):\n    return h(x)\n", namespace)
    g = br.grad(namespace["f"])
    assert g(1.0) == 2.0
    namespace["k"] = 5.0
    assert g(1.0) == 5.0
    exec("def h(x):\n    return x * x\n", namespace)
    assert g(1.0) == 2.0


def test_rebound_captures_are_seen():
    scale = helper

    def f(x):
        return np.sum(scale(x))

    g = br.grad(f)
    assert g(1.0) == 1.0
    scale = np.sin
    assert g(0.0) == 1.0


def test_imports_inside_a_function():
    def f(x):
        import math as m

        import numpy as xp
        from numpy import ones

        out = xp.zeros(2)
        out[0] = m.sin(x)
        return xp.sum(out * ones(2))

    assert br.grad(f)(0.0) == 1.0


def test_numpys_own_python_code():
    def f(x):
        y = np.outer(x, x)
        return (
            np.trapezoid(x)
            + np.sum(np.cross(x, [1.0, 2.0, 3.0]))
            + np.sum(np.kron(x, x))
            + np.sum(np.roll(x, 1) * x)
            + np.average(x, weights=[1, 2, 3])
            + np.sum(np.tile(x, 2))
            + np.sum(np.diff(x) ** 2)
            + np.linalg.norm(y)
            + np.sum(np.pad(x, 1, mode="edge") ** 2)
            + np.sum(np.gradient(x) ** 2)
            + np.polyval([1.0, 2.0, 3.0], x[0])
        )

    x = np.array([0.5, -1.2, 2.1])
    numeric = [(f(x + h) - f(x - h)) / 2e-6 for h in np.eye(3) * 1e-6]
    np.testing.assert_allclose(br.grad(f)(x), numeric, rtol=1e-6)


def test_generators_and_comprehensions():
    def f(x):
        def squares():
            for v in x:
                yield v * v

        return sum(v for v in squares()) + sum([v for v in x if v > 0]) + np.sum(np.array([v * 2 for v in x]))

    x = np.array([1.0, -2.0])
    np.testing.assert_array_equal(br.grad(f)(x), 2 * x + [1, 0] + 2)


@dataclass
class Point:
    x: float
    y: float

    def norm(self):
        out = np.zeros(2)
        out[0] = self.x
        out[1] = self.y
        return np.sqrt(np.sum(out**2))


def test_methods_of_dataclass_arguments():
    gradient = br.grad(lambda p: p.norm())(Point(3.0, 4.0))
    assert type(gradient) is Point
    assert (gradient.x, gradient.y) == pytest.approx((0.6, 0.8))


def test_python_floats_stay_weak():
    x = np.ones(2, np.float32)
    result = br.jvp(lambda s: x * s * math.sin(s) * float(s), (2.0,), (1.0,))
    assert result[0].dtype == np.float32


def test_transformed_functions_are_lifted_through():
    def inner(x):
        out = np.zeros(1)
        out[0] = x**3
        return out[0]

    slope = br.grad(inner)

    def outer(x):
        buffer = np.zeros(2)
        buffer[0] = slope(x)
        return np.sum(buffer)

    assert br.grad(outer)(2.0) == 12.0
    np.testing.assert_array_equal(br.vmap(outer)(np.array([1.0, 2.0])), [3.0, 12.0])


def test_methods_decorated_with_a_transformation():
    class Quadratic:
        def __init__(self, k):
            self.k = k

        @functools.partial(br.grad, argnums=1)
        def slope(self, x):
            return self.k * x * x

    assert Quadratic(3.0).slope(2.0) == 12.0


def test_source_is_found_without_a_look_at_every_module(monkeypatch):
    # Which takes longer than staging where many are loaded.
    scale = 2.0

    def f(x):
        return x * scale if x > 0 else -x

    monkeypatch.setattr(inspect, "getabsfile", None)
    found = source_of(f.__code__)
    assert isinstance(found, ast.FunctionDef)
    assert (found.name, found.lineno) == ("f", f.__code__.co_firstlineno)


def test_source_of_a_module_in_an_archive(tmp_path, monkeypatch):
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archived_module.py", "def f(x):\n    return x if x > 0 else -x\n")
    monkeypatch.syspath_prepend(str(archive))
    found = source_of(importlib.import_module("archived_module").f.__code__)
    assert isinstance(found, ast.FunctionDef)
