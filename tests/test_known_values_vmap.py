"""Mapped functions against loops over lanes and known values."""

import numpy as np
import pytest

import bindrune as br
from expect import close

X = np.array([[0.5, -1.2, 2.1], [1.7, -0.4, 0.9], [0.2, 1.3, -0.7], [0.8, -1.6, 0.4]])
W = np.array([[1.1, 0.3], [-0.8, 0.6], [0.4, -1.5]])
SQUARE = np.array([[0.2, -1, 0.7], [1.3, 0.4, -0.6], [0.1, 0.8, 1.9]])
STACK = np.arange(12.0).reshape(2, 3, 2) / 7 - 0.8


def softmax(r):
    e = np.exp(r - np.max(r))
    return e / np.sum(e)


def loop(function, *arrays):
    """The mapped function, lane by lane."""
    return np.stack([function(*lane) for lane in zip(*arrays, strict=True)])


ROW_FUNCTIONS = {
    "exp-sin": lambda r: np.exp(np.sin(r)) + r * r,
    "times-column": lambda r: r * np.array([2.0, -1, 0.5]),
    "plus-number": lambda r: r + 3,
    "sum": lambda r: np.sum(r),
    "centred": lambda r: r - np.mean(r),
    "max": lambda r: np.max(r),
    "row-times-matrix": lambda r: r @ W,
    "matrix-times-row": lambda r: SQUARE @ r,
    "transpose-reshape": lambda r: np.transpose(r.reshape(3, 1)),
    "where": lambda r: np.where(r > 0.4, r, -r),
    "sort": lambda r: np.sort(r),
    "cumsum": lambda r: np.cumsum(r),
    "concatenate": lambda r: np.concatenate([r, np.ones(2), r * 2]),
    "pad": lambda r: np.pad(r, (1, 2), constant_values=5),
    "slice": lambda r: r[1:],
    "reversed": lambda r: r[::-1],
    "take-along-axis": lambda r: np.take_along_axis(r, np.array([2, 0]), axis=0),
    "softmax": softmax,
    "constant": lambda r: np.array([1.0, 2]),
}


@pytest.mark.parametrize("name", ROW_FUNCTIONS)
def test_case_74_map_equals_loop(name):
    function = ROW_FUNCTIONS[name]
    close(br.vmap(function)(X), loop(function, X), rtol=1e-12)


def test_case_75_rows_times_a_matrix():
    close(br.vmap(lambda r: r @ W)(X), [[2.35, -3.72], [2.55, -1.08], [-1.1, 1.89], [2.32, -1.32]])


def test_case_76_softmax():
    close(br.vmap(softmax)(X)[0], [0.16298017, 0.02977379, 0.80724604])


@pytest.mark.parametrize("axis", [1, -2, 0, -1])
def test_case_77_in_axes(axis):
    moved = np.moveaxis(X, 0, axis)
    close(br.vmap(lambda r: r * r[0], in_axes=axis)(moved), loop(lambda r: r * r[0], X))


def test_case_77_unmapped_argument_and_out_axes():
    found = br.vmap(lambda r, c: r * c, in_axes=(0, None), out_axes=1)(X, W[:, 0])
    close(found, (X * W[:, 0]).T)


def test_case_77_two_mapped_leaves():
    pair = {"a": X, "b": 2 * X}
    close(br.vmap(lambda p: p["a"] @ p["b"])(pair), loop(lambda r: 2 * r @ r, X))
    close(br.vmap(lambda p: p["a"] @ p["b"], in_axes=({"a": 0, "b": 1},))({"a": X, "b": 2 * X.T}), 2 * np.sum(X * X, 1))


@pytest.mark.parametrize(
    ("in_axes", "arguments", "message"),
    [
        (
            0,
            (np.ones(3), np.ones(4)),
            r"axis 0 of a \(shape \(3,\)\) has 3 lanes, but axis 0 of b \(shape \(4,\)\) has 4",
        ),
        (0, (np.ones(3), 2.0), "b is a number and has no axis"),
        (None, (np.ones(3), np.ones(3)), "no argument is mapped"),
        ((0,), (np.ones(3), np.ones(3)), "in_axes has 1 entries for 2 arguments"),
        ((0, 1), (np.ones(3), np.ones(3)), r"b has shape \(3,\) and no axis 1"),
        ((0, ({"c": 0},)), (np.ones(3), np.ones(3)), "in_axes of b"),
    ],
    ids=["sizes", "number", "nothing-mapped", "count", "bounds", "structure"],
)
def test_case_77_axes_that_do_not_fit(in_axes, arguments, message):
    with pytest.raises(br.BatchSizeError, match=message):
        br.vmap(lambda a, b: a + b, in_axes=in_axes)(*arguments)


# ---------------------------------------------------------------------------------------------- with derivatives


def test_case_78_map_and_derivatives_in_both_orders():
    def sum_of_squares(r):
        return np.sum(r * r)

    close(br.vmap(br.grad(sum_of_squares))(X), 2 * X)
    close(br.grad(lambda x: np.sum(br.vmap(sum_of_squares)(x)))(X), 2 * X)

    x = np.array([[1.0, 2], [3, 4], [5, 6]])
    outside = br.jvp(br.vmap(sum_of_squares), (x,), (x / 10,))
    inside = br.vmap(lambda r, t: br.jvp(sum_of_squares, (r,), (t,)))(x, x / 10)
    for primals, tangents in (outside, inside):
        close(primals, [5, 25, 61])
        close(tangents, [1, 5, 12.2])


def test_case_79_two_arguments():
    def g(x, y):
        return np.sum(x * y)

    x, y = np.array([[1.0, 2], [3, 4]]), np.array([[5.0, 6], [7, 8]])
    outside = br.jvp(br.vmap(g), (x, y), (x / 10, y / 10))
    inside = br.vmap(lambda x, y: br.jvp(g, (x, y), (x / 10, y / 10)))(x, y)
    for primals, tangents in (outside, inside):
        close(primals, [17, 53])
        close(tangents, [3.4, 10.6])
    close(br.vmap(br.grad(g))(x, y), y)
    close(br.grad(lambda x, y: np.sum(br.vmap(g)(x, y)))(x, y), y)


def test_case_80_maps_of_maps():
    found = br.vmap(lambda x: br.vmap(lambda y: np.sin(x) * y)(X))(X[:2])
    close(found, np.array([[np.sin(x) * y for y in X] for x in X[:2]]))
    pairwise = br.vmap(br.vmap(lambda a, b: a @ b, in_axes=(None, 0)), in_axes=(0, None))
    close(pairwise(X, X[:2]), X @ X[:2].T)


def test_case_80_a_mapped_row_times_a_constant_stack():
    close(br.vmap(lambda r: r @ STACK)(X), loop(lambda r: r @ STACK, X))
    matrices = X.reshape(2, 2, 3)
    close(br.vmap(lambda m: m @ STACK)(matrices), loop(lambda m: m @ STACK, matrices))


# ----------------------------------------------------------------------------------------------- single values, samples


@pytest.mark.parametrize(
    "read",
    [lambda r: r if bool(r[0] > 0) else -r, lambda r: W[int(r[0])], lambda r: np.zeros(r[0])],
    ids=["condition", "int", "shape"],
)
def test_case_81_reading_a_value_that_differs_between_lanes(read):
    with pytest.raises(br.TracedConditionError):
        br.vmap(read)(X)


def test_case_81_reading_a_constant():
    close(br.vmap(lambda r: r * int(W[0, 0]) if W[0, 0] > 0 else r)(X), X)


def test_case_81_gradients_of_a_gather_for_each_sample():
    table = np.array([1.0, 2, 3])
    picks = np.array([[0, 0], [1, 2]])
    gradients = br.vmap(br.grad(lambda table, i: np.sum(table[i] ** 2)), in_axes=(None, 0))(table, picks)
    close(gradients, [[4, 0, 0], [0, 4, 6]])


def test_case_82_gradients_of_a_linear_model_for_each_sample():
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(8, 3)), generator.normal(size=8)
    params = generator.normal(size=3), 0.5

    def loss(w, b, x, y):
        return (x @ w + b - y) ** 2

    gradient = br.grad(loss, argnums=(0, 1))
    by_w, by_b = br.vmap(gradient, in_axes=(None, None, 0, 0))(*params, x, y)
    assert by_w.shape == (8, 3)
    assert by_b.shape == (8,)
    looped = [gradient(*params, x[i], y[i]) for i in range(8)]
    close(by_w, np.stack([w for w, _ in looped]), rtol=1e-12)
    close(by_b, np.stack([b for _, b in looped]), rtol=1e-12)


def test_case_83_draws_in_lanes():
    key = br.random.key(7)
    draw = lambda key: br.random.normal(key, (3,))  # noqa: E731
    assert (draw(key) == draw(br.random.key(7))).all()
    keys = br.random.split(key, 4)
    assert (br.vmap(draw)(keys) == np.stack([draw(keys[i]) for i in range(4)])).all()
    lanes = br.vmap(lambda x: x + draw(key))(np.zeros(4))
    assert (lanes == draw(key)).all()


def test_case_83_the_gradient_of_dropout():
    key = br.random.key(7)

    def dropout(x):
        return np.sum(np.where(br.random.bernoulli(key, 0.5, x.shape), x, 0.0))

    mask = br.random.bernoulli(key, 0.5, (20,))
    assert 0 < np.sum(mask) < 20
    close(br.grad(dropout)(np.linspace(1, 2, 20)), mask.astype(float))
