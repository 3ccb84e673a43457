"""Known gradients of structured arguments, of Python's control flow, and of programs that write in place."""

from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

import bindrune as br
from expect import close

# ------------------------------------------------------------------------------------------------------- structures


def test_case_47_a_dict_of_parameters():
    params = {"w": np.array([1.0, -2, 3]), "b": np.array([0.5]), "s": 2.0}

    def loss(p):
        return np.sum(p["w"] * p["w"]) + 3 * np.sum(p["b"]), "aux"

    (value, aux), gradient = br.value_and_grad(loss, has_aux=True)(params)
    assert list(gradient) == ["w", "b", "s"]
    close(gradient["w"], [2, -4, 6])
    close(gradient["b"], [3])
    close(gradient["s"], 0)
    close(value, 15.5)
    assert aux == "aux"


def test_case_48_leaves_keep_their_dtypes():
    params = {"single": np.ones(2, np.float32), "double": np.ones(2)}
    gradient = br.grad(lambda p: np.sum(p["single"] * p["double"]))(params)
    assert gradient["single"].dtype == np.float32
    assert gradient["double"].dtype == np.float64


def test_case_48_an_integer_leaf_is_named():
    with pytest.raises(br.NonDifferentiableError, match=r"p\['count'\] has dtype int64"):
        br.grad(lambda p: np.sum(p["w"]))({"w": np.ones(2), "count": np.arange(2)})


def test_case_49_one_array_at_two_leaves_is_two_parameters():
    a = np.array([1.0, 2])
    gradient = br.grad(lambda p: np.sum(p["a"]) + 3 * np.sum(p["b"]))({"a": a, "b": a})
    close(gradient["a"], [1, 1])
    close(gradient["b"], [3, 3])


def test_case_50_a_captured_array_is_constant_even_if_it_is_the_argument():
    w = np.array([1.0, -2, 3])
    close(br.grad(lambda x: np.sum(x * w))(w), w)


def test_case_51_a_result_that_is_not_scalar():
    with pytest.raises(br.NonScalarOutputError, match=r"shape \(3,\).*br\.vjp"):
        br.grad(lambda x: x * x)(np.ones(3))


@pytest.mark.parametrize(
    ("cotangent", "message"),
    [
        ({"a": np.ones(2), "b": np.ones(2)}, r"cotangent\['a'\] has shape \(2,\), the result has \(3,\)"),
        ({"a": np.ones(3), "b": np.ones(2) * 1j}, r"cotangent\['b'\] has dtype complex128"),
        ({"a": np.ones(3)}, r"cotangent has the structure \{'a': \*\}"),
    ],
    ids=["shape", "dtype", "structure"],
)
def test_case_51_a_cotangent_that_does_not_fit(cotangent, message):
    _, pullback = br.vjp(lambda x: {"a": x, "b": x[:2]}, np.ones(3))
    with pytest.raises(br.CotangentError, match=message):
        pullback(cotangent)


@pytest.mark.parametrize(
    ("tangent", "message"),
    [
        ({"a": np.ones(2), "b": np.ones(2)}, r"tangent of p\['a'\] has shape \(2,\), the argument has \(3,\)"),
        ({"a": np.ones(3), "b": np.ones(2) * 1j}, r"tangent of p\['b'\] has dtype complex128"),
        ({"a": np.ones(3)}, r"tangent of p has the structure \{'a': \*\}"),
    ],
    ids=["shape", "dtype", "structure"],
)
def test_case_51_a_tangent_that_does_not_fit(tangent, message):
    primal = {"a": np.ones(3), "b": np.ones(2)}
    with pytest.raises(br.TangentError, match=message):
        br.jvp(lambda p: p["a"], (primal,), (tangent,))


# ----------------------------------------------------------------------------------------------------- control flow


def test_case_52_a_detached_value_is_constant_to_every_derivative():
    close(br.grad(lambda x: x * br.detach(x))(3.0), 3)
    close(br.grad(lambda x: np.sum(br.detach(x)))(np.array([1.0, 2])), [0, 0])
    close(br.jvp(lambda x: x * br.detach(x), (3.0,), (1.0,))[1], 3)
    # The inner derivative of x y detach(y) at y = x is x x; the outer one sees the detached factor as constant.
    close(br.grad(lambda x: br.grad(lambda y: x * y * br.detach(y))(x))(3.0), 3)


def test_case_52_code_without_gradients():
    def loss(x):
        with br.no_grad():
            square = x * x
        return square * x

    close(br.grad(loss)(3.0), 9)


def test_case_53_reading_a_value_is_transparent():
    close(br.grad(lambda x: x.item() * 2)(np.array(3.0)), 2)
    close(br.grad(lambda x: np.sum(x) * x[1].item())(np.array([3.0, 4])), [4, 11])


@pytest.mark.parametrize(("x", "expected"), [([0.5, 2], [1, 4]), ([-0.5, -2], [1, 1])])
def test_case_53_branches_follow_the_value(x, expected):
    def branching(x):
        if np.sum(x) > 0:
            return np.sum(x * x)
        return np.sum(x)

    close(br.grad(branching)(np.array(x)), expected)


def test_case_54_a_loop_that_stops_on_a_value():
    def double_until_ten(x):
        while np.sum(x) < 10:
            x = x * 2
        return np.sum(x), x

    gradient, value = br.grad(double_until_ten, has_aux=True)(np.array([1, 0.5]))
    close(value, [8, 4])
    close(gradient, [8, 8])


def test_case_55_the_function_runs_once_for_a_gradient():
    calls = []

    def counted(x):
        calls.append(None)
        return np.sum(np.sin(x) * x)

    x = np.linspace(-1, 1, 7)
    first = br.grad(counted)(x)
    assert len(calls) == 1
    assert first.tobytes() == br.grad(counted)(x).tobytes()


def test_case_55_two_threads_do_not_interfere():
    def loss(x, power):
        total = 0.0
        for _ in range(200):
            total = total + np.sum(x**power)
        return total

    def work(power):
        return [br.grad(loss)(np.array([1.0, 2]), power) for _ in range(5)]

    with ThreadPoolExecutor(2) as threads:
        squares, cubes = threads.map(work, (2, 3))
    for square, cube in zip(squares, cubes, strict=True):
        close(square, [400, 800])
        close(cube, [600, 2400])


# -------------------------------------------------------------------------------------------------- writes in place


def test_case_56_a_write_into_the_argument():
    def loss(x):
        before = x[0] * x[1]
        x[0] = 1
        return before + np.sum(x * x)

    x = np.array([2.0, 3, 5])
    close(br.grad(loss)(x), [3, 2 + 6, 10])
    close(x, [1, 3, 5])


def test_case_56_a_write_into_a_local_array():
    def loss(x):
        y = x * x
        y[0] = 1
        return np.sum(y * x)

    close(br.grad(loss)(np.array([2.0, 3, 5])), [1, 27, 75])


def test_case_56_a_write_through_a_view():
    def loss(x):
        y = x * x
        tail = y[1:]
        tail[0] = x[0]
        return np.sum(y * x)

    # sum(y x) with y = (x0^2, x0, x2^2)
    close(br.grad(loss)(np.array([2.0, 3, 5])), [12 + 3, 2, 75])


def test_case_56_a_write_through_a_slice_of_a_view():
    def loss(x):
        y = (x * x).reshape(2, 2)
        corner = y.T[1:][:, 1:]
        corner[0, 0] = x[0] * x[1]
        return np.sum(y.ravel() * x)

    # sum(y x) with y = (x0^2, x1^2, x2^2, x0 x1)
    close(br.grad(loss)(np.array([2.0, 3, 5, 7])), [12 + 21, 27 + 14, 75, 6])


# -------------------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize(("narrow", "tolerance"), [(np.float16, 0.005), (ml_dtypes.bfloat16, 0.02)])
def test_case_57_a_sandwich_of_half_precision(narrow, tolerance):
    generator = np.random.default_rng(2)
    x = generator.uniform(-1, 1, (4, 3)).astype(np.float32)
    w = generator.uniform(-1, 1, (3, 2)).astype(np.float32)

    def loss(w, dtype):
        return np.mean(np.tanh(x.astype(dtype) @ w.astype(dtype))).astype(np.float32)

    found, expected = br.grad(loss)(w, narrow), br.grad(loss)(w, np.float32)
    assert found.dtype == np.float32
    close(found, expected, rtol=0, atol=tolerance)
