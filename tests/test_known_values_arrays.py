"""Gradients of reductions, rearrangements, indexing and products at points where they are known."""

import numpy as np
import pytest

import bindrune as br
from expect import close, weigh

# ------------------------------------------------------------------------------------------------------- reductions


def test_case_14_sum_mean_max_min():
    close(br.grad(np.sum)(np.zeros((2, 3))), np.ones((2, 3)))
    close(br.grad(np.mean)(np.zeros((2, 2))), np.full((2, 2), 0.25))
    close(br.grad(np.max)(np.array([[1.0, 3], [2, 4]])), [[0, 0], [0, 1]])
    close(br.grad(np.min)(np.array([[4.0, 2], [3, 1]])), [[0, 0], [0, 1]])


def test_case_15_prod_with_zeros():
    close(br.grad(np.prod)(np.array([2.0, 3, 4])), [12, 8, 6])
    rows = np.array([[2.0, 3, 4], [2, 0, 4], [0, 0, 4]])
    close(br.grad(lambda x: np.sum(np.prod(x, axis=1)))(rows), [[12, 8, 6], [0, 8, 0], [0, 0, 0]])


def test_case_16_ties_of_max_share_equally():
    rows = np.array([[2.0, 2, 0], [-1, -1, 3]])
    close(br.grad(lambda x: np.sum(np.max(x, axis=1)))(rows), [[0.5, 0.5, 0], [0, 0, 1]])


def test_case_17_broadcasting():
    a = np.array([[1.0, 2, 3], [4, 5, 6]])
    close(br.grad(lambda b: np.sum(a + b))(np.zeros(3)), [2, 2, 2])
    close(br.grad(lambda s: np.sum(a * s))(np.array([2.0, 3, 4])), [5, 7, 9])
    close(br.grad(lambda s: np.sum(a + s))(1.0), 6)
    close(br.grad(lambda s: np.sum(a * s))(1.0), 21)


def test_case_18_expansion():
    close(br.grad(lambda s: np.sum(np.broadcast_to(s, (3,))))(1.0), 3)
    close(br.grad(lambda x: np.sum(np.broadcast_to(x, (2, 3))))(np.zeros(3)), [2, 2, 2])
    condition = np.array([[True, False, True], [False, True, False]])
    close(br.grad(lambda s: np.sum(np.where(condition, np.ones((2, 3)), s)))(1.0), 3)


# --------------------------------------------------------------------------------------------------- rearrangements


@pytest.mark.parametrize(
    "rearrange",
    [
        lambda x: x.reshape(3, 2),
        lambda x: x.T,
        lambda x: np.squeeze(x[None]),
        lambda x: np.flip(x, axis=1),
        lambda x: np.pad(x, 1),
        lambda x: x.flatten(),
        lambda x: np.concatenate([x, np.zeros((1, 3))]),
        lambda x: np.stack([x, np.zeros((2, 3))], axis=1),
    ],
    ids=["reshape", "transpose", "squeeze", "flip", "pad", "flatten", "concatenate", "stack"],
)
def test_case_19_rearrangements_pass_ones(rearrange):
    close(br.grad(lambda x: np.sum(rearrange(x)))(np.zeros((2, 3))), np.ones((2, 3)))


def test_case_19_tile():
    close(br.grad(lambda x: np.sum(np.tile(x, 3)))(np.zeros(2)), [3, 3])


def test_case_20_pad_with_a_value():
    def square_sum(x):
        padded = np.pad(x, 1, constant_values=5)
        return np.sum(padded * padded), padded

    gradient, padded = br.grad(square_sum, has_aux=True)(np.array([1.0, 2]))
    close(padded, [5, 1, 2, 5])
    close(gradient, [2, 4])


# --------------------------------------------------------------------------------------------------------- indexing


@pytest.mark.parametrize(
    ("shape", "index"),
    [
        ((3, 3), 1),
        ((3, 3), (1, 1)),
        ((3, 4), (slice(1, 3), slice(0, 2))),
        ((4, 2), slice(0, 3, 2)),
    ],
    ids=["row", "element", "block", "step"],
)
def test_case_21_reads(shape, index):
    expected = np.zeros(shape)
    expected[index] = 1
    close(br.grad(lambda x: np.sum(x[index]))(np.zeros(shape)), expected)


def test_case_22_take():
    close(br.grad(lambda x: np.sum(np.take(x, [1, 3, 0])))(np.zeros(5)), [1, 1, 0, 1, 0])
    close(br.grad(lambda x: np.sum(np.take(x, [0, 2], axis=1)))(np.zeros((3, 3))), [[1, 0, 1]] * 3)
    repeated = br.grad(lambda x: np.sum(np.take(x, [1, 1]) ** 2))(np.array([2.0, 3, 4]))
    close(repeated, [0, 12, 0])


def test_case_23_take_along_axis():
    x = np.array([[4.0, 1, 2], [3, 5, 6]])
    picks = np.array([[0], [1]])
    close(br.grad(lambda x: np.sum(np.take_along_axis(x, picks, axis=1)))(x), [[1, 0, 0], [0, 1, 0]])


def test_case_24_sort():
    weights = np.array([10.0, 20, 30])
    close(br.grad(lambda x: np.sum(weights * np.sort(x)))(np.array([3.0, 1, 2])), [30, 10, 20])


def test_case_25_scatter_add_at_a_repeated_index():
    def scattered(x, v):
        x = x.copy()
        np.add.at(x, [1, 1, 0], v)
        return weigh(x)

    by_x, by_v = br.grad(scattered, argnums=(0, 1))(np.zeros(3), np.zeros(3))
    close(by_x, [0.5, 1, 1.5])
    close(by_v, [1, 1, 0.5])


def test_case_25_scatter_set_hides_what_it_overwrites():
    def scattered(x, v):
        x = x.copy()
        x[[1, 1, 0]] = v
        return weigh(x)

    by_x, by_v = br.grad(scattered, argnums=(0, 1))(np.zeros(3), np.zeros(3))
    close(by_x, [0, 0, 1.5])
    close(by_v, [0, 1, 0.5])


# -------------------------------------------------------------------------------------------------------- cumulative


def test_case_26_cumsum():
    close(br.grad(lambda x: np.sum(np.cumsum(x)))(np.array([1.0, 2, 3, 4])), [4, 3, 2, 1])
    close(br.grad(lambda x: np.sum(np.cumsum(x, axis=1)))(np.zeros((2, 3))), [[3, 2, 1]] * 2)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([1, 2, 3], [9, 4, 2]),
        ([2, 3, 0], [4, 2, 6]),
        ([0, 2, 3], [9, 0, 0]),
        ([2, 0, 3, 0, 5], [1, 8, 0, 0, 0]),
    ],
)
def test_case_27_cumprod_with_zeros(x, expected):
    close(br.grad(lambda x: np.sum(np.cumprod(x)))(np.array(x, float)), expected)


def test_case_28_running_maximum():
    close(br.grad(lambda x: np.sum(np.maximum.accumulate(x)))(np.array([3.0, 1, 2])), [3, 0, 0])
    _, tangent = br.jvp(np.maximum.accumulate, (np.array([3.0, 1, 3, 4]),), (np.array([1.0, 10, 100, 10]),))
    close(tangent, [1, 1, 1, 10])


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (lambda x: np.sum(np.cumprod(x)), [2, 3, 0], [4, 3, 5]),
        (np.prod, [0, 2, 0.5], [2.5, 0.5, 2]),
    ],
    ids=["cumprod", "prod"],
)
def test_case_29_second_derivatives_of_products(function, x, expected):
    row_sums = br.grad(lambda x: np.sum(br.grad(function)(x)))(np.array(x, float))
    close(row_sums, expected)


def test_case_30_trace_norm_dot():
    x, y = np.array([1.0, 2, 3]), np.array([4.0, 5, 6])
    close(br.grad(np.trace)(np.zeros((3, 3))), np.eye(3))
    close(br.grad(np.linalg.norm)(np.array([3.0, 0, 4])), [0.6, 0, 0.8])
    close(br.grad(np.dot, argnums=(0, 1))(x, y), (y, x))


# ----------------------------------------------------------------------------------------------------------- products


def test_case_31_matmul():
    a = np.array([[1.0, 2, 3], [4, 5, 6]])
    b = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    by_a, by_b = br.grad(lambda a, b: np.sum(a @ b), argnums=(0, 1))(a, b)
    close(by_a, [[0.3, 0.7, 1.1]] * 2)
    close(by_b, [[5, 5], [7, 7], [9, 9]])


def test_case_32_weighted_matmul():
    a = np.array([[0.5, -1.2, 2.1], [1.7, -0.4, 0.9]])
    b = np.array([[1.1, 0.3], [-0.8, 0.6], [0.4, -1.5]])
    by_a, by_b = br.grad(lambda a, b: weigh(a @ b), argnums=(0, 1))(a, b)
    close(by_a, [[0.85, 0.2, -1.3], [2.25, 0, -2.4]])
    close(by_b, [[2.8, 3.9], [-1.2, -2], [2.4, 3.9]])
