"""Named axes: what the lanes of a map do together, under derivatives in both orders, with one axis and with two."""

from __future__ import annotations

import numpy as np
import pytest

import bindrune as br
from expect import close, difference_gradient, weigh

X = np.array([0.7, -1.3, 2.1])
M = np.array([[0.5, -1.2, 2.1], [1.7, -0.4, 0.9]])

REDUCTIONS = {
    "psum": (br.psum, np.sum),
    "pmean": (br.pmean, np.mean),
    "pmax": (br.pmax, np.max),
    "pmin": (br.pmin, np.min),
}
reductions = pytest.mark.parametrize(("collective", "reduction"), REDUCTIONS.values(), ids=REDUCTIONS)


def mapped(f, x, name="i"):
    return br.vmap(f, axis_name=name)(x)


# --------------------------------------------------------------------------------------------------------------- values


@reductions
def test_reductions_over_lanes(collective, reduction):
    close(mapped(lambda x: collective(x, "i"), X), np.full(3, reduction(X)))
    close(mapped(lambda row: collective(row, "i"), M), np.tile(reduction(M, axis=0), (2, 1)))
    found = mapped(lambda x: collective({"a": x, "b": (2 * x,)}, "i"), X)
    close(found["a"], np.full(3, reduction(X)))
    close(found["b"][0], np.full(3, reduction(2 * X)))


@reductions
def test_what_is_the_same_in_all_lanes(collective, reduction):
    same = np.array([1.0, 2.0])
    close(mapped(lambda x: collective(same, "i"), X), np.tile(reduction(np.tile(same, (3, 1)), axis=0), (3, 1)))
    close(mapped(lambda x: collective(2.0, "i") + 0 * x, X), np.full(3, reduction(np.full(3, 2.0))))


def test_all_gather():
    close(mapped(lambda x: br.all_gather(x, "i"), X), np.tile(X, (3, 1)))
    for axis in (0, 1, -1):
        found = mapped(lambda row, axis=axis: br.all_gather(row, "i", axis=axis), M)
        close(found, np.stack([np.stack([M[0], M[1]], axis=axis)] * 2))


def test_index_and_size():
    close(mapped(lambda x: x + 10 * br.axis_index("i"), X), X + np.array([0, 10, 20]))
    close(mapped(lambda x: x * br.axis_size("i"), X), 3 * X)
    assert mapped(lambda x: br.axis_index("i"), X).tolist() == [0, 1, 2]
    # each lane picks another element
    close(mapped(lambda x: br.all_gather(x, "i")[(br.axis_index("i") + 1) % br.axis_size("i")], X), np.roll(X, -1))


def test_in_loops_and_with_writes():
    def f(x):
        out = np.zeros(2)
        for k in range(2):
            out[k] = br.psum(x**k, "i")
        return out * x

    close(mapped(f, X), [[3 * x, np.sum(X) * x] for x in X])


# ------------------------------------------------------------------------------------------------------------- two axes


def test_two_axes():
    def f(x):
        return br.psum(x, "row"), br.psum(x, "column"), br.psum(br.psum(x, "row"), "column")

    rows = br.vmap(br.vmap(f, axis_name="column"), axis_name="row")
    over_rows, over_columns, total = rows(M)
    close(over_rows, np.tile(np.sum(M, axis=0), (2, 1)))
    close(over_columns, np.tile(np.sum(M, axis=1)[:, None], (1, 3)))
    close(total, np.full((2, 3), np.sum(M)))


@reductions
@pytest.mark.parametrize("axis", ["row", "column"])
def test_reductions_over_one_of_two_axes(collective, reduction, axis):
    cube = np.sin(np.arange(24.0)).reshape(2, 3, 4)
    found = br.vmap(br.vmap(lambda x: collective(x, axis), axis_name="column"), axis_name="row")(cube)
    number = 0 if axis == "row" else 1
    close(found, np.broadcast_to(reduction(cube, axis=number, keepdims=True), cube.shape))


def test_gathering_over_one_of_two_axes():
    cube = np.sin(np.arange(24.0)).reshape(2, 3, 4)

    def along(axis):
        return br.vmap(br.vmap(lambda x: br.all_gather(x, axis), axis_name="column"), axis_name="row")(cube)

    for i in range(2):
        for j in range(3):
            close(along("row")[i, j], cube[:, j])
            close(along("column")[i, j], cube[i])


def test_values_that_know_only_one_of_two_axes():
    def f(r, c):
        return br.psum(r, "row") * c + br.psum(c, "column") * r + br.psum(r, "column") + br.psum(c, "row")

    r, c = np.array([1.0, 2.0]), X
    nested = br.vmap(lambda r: br.vmap(lambda c: f(r, c), axis_name="column")(c), axis_name="row")
    expected = 3 * c[None] + np.sum(c) * r[:, None] + 3 * r[:, None] + 2 * c[None]
    close(nested(r), expected)
    indices = br.vmap(
        lambda r: br.vmap(lambda c: 10 * br.axis_index("row") + br.axis_index("column"), axis_name="column")(c),
        axis_name="row",
    )
    assert indices(r).tolist() == [[0, 1, 2], [10, 11, 12]]


def test_the_inner_of_two_axes_of_one_name_is_meant():
    found = br.vmap(br.vmap(lambda x: br.psum(x, "i"), axis_name="i"), axis_name="i")(M)
    close(found, np.tile(np.sum(M, axis=1)[:, None], (1, 3)))


# ---------------------------------------------------------------------------------------------------------- derivatives

PROGRAMS = {
    "normalised": lambda x: np.sin(x) / br.psum(np.exp(x), "i"),
    "centred": lambda x: (x - br.pmean(x, "i")) ** 3,
    "largest": lambda x: x * br.pmax(x * x, "i"),
    "smallest": lambda x: x * br.pmin(x, "i"),
    "weighed": lambda x: weigh(br.all_gather(x, "i") ** 2) * x,
    "shifted": lambda x: br.all_gather(x**2, "i")[br.axis_index("i") - 1] * x,
    "twice": lambda x: br.psum(x * br.psum(x, "i") ** 2, "i") * x,
}
programs = pytest.mark.parametrize("f", PROGRAMS.values(), ids=PROGRAMS)
WEIGHTS = np.array([1.0, -2.0, 0.5])


@programs
def test_derivatives_outside(f):
    total = lambda x: np.sum(WEIGHTS * mapped(f, x))  # noqa: E731
    expected = difference_gradient(total, X)
    close(br.grad(total)(X), expected, rtol=1e-6)
    close(br.jvp(total, (X,), (WEIGHTS,))[1], expected @ WEIGHTS, rtol=1e-6)
    jacobian = br.jacfwd(lambda x: mapped(f, x))(X)
    close(br.jacrev(lambda x: mapped(f, x))(X), jacobian)
    close(WEIGHTS @ jacobian, expected, rtol=1e-6)
    hessian = br.hessian(total)(X)
    close(hessian, br.jacrev(br.grad(total))(X))
    close(hessian, hessian.T)


@programs
def test_derivatives_inside_are_those_of_the_sum_over_lanes(f):
    expected = br.grad(lambda x: np.sum(mapped(f, x)))(X)
    close(mapped(br.grad(f), X), expected)
    close(mapped(lambda x: br.vjp(f, x)[1](1.0)[0], X), expected)
    # each lane has a cotangent of its own
    found = br.vmap(lambda x, w: br.vjp(f, x)[1](w)[0], axis_name="i")(X, WEIGHTS)
    close(found, br.grad(lambda x: np.sum(WEIGHTS * mapped(f, x)))(X))


@programs
def test_pushforwards_inside(f):
    found = br.vmap(lambda x, t: br.jvp(f, (x,), (t,))[1], axis_name="i")(X, WEIGHTS)
    close(found, br.jvp(lambda x: mapped(f, x), (X,), (WEIGHTS,))[1])
    linear = br.vmap(lambda x, t: br.linearize(f, x)[1](t), axis_name="i")(X, WEIGHTS)
    close(linear, found)


@programs
def test_second_derivatives_inside_and_outside(f):
    inside = lambda x: mapped(br.grad(f), x)  # noqa: E731
    close(br.jacfwd(inside)(X), br.hessian(lambda x: np.sum(mapped(f, x)))(X))
    close(br.jacrev(inside)(X), br.jacfwd(inside)(X))


def test_derivatives_with_two_axes():
    def f(x):
        return x * br.psum(x**2, "row") + br.psum(np.sin(x), "column") * br.psum(br.pmean(x, "row"), "column")

    run = lambda g, m: br.vmap(br.vmap(g, axis_name="column"), axis_name="row")(m)  # noqa: E731
    total = lambda m: np.sum(run(f, m))  # noqa: E731
    expected = difference_gradient(total, M)
    close(br.grad(total)(M), expected, rtol=1e-6)
    close(run(br.grad(f), M), expected, rtol=1e-6)
    between = br.vmap(br.grad(lambda row: np.sum(br.vmap(f, axis_name="column")(row))), axis_name="row")
    close(between(M), expected, rtol=1e-6)
    tangents = np.cos(M)
    pushed = br.jvp(lambda m: run(f, m), (M,), (tangents,))[1]
    inside = br.vmap(br.vmap(lambda x, t: br.jvp(f, (x,), (t,))[1], axis_name="column"), axis_name="row")(M, tangents)
    close(inside, pushed)


def test_a_captured_value_is_differentiated():
    f = lambda w: np.sum(mapped(lambda x: br.psum(w * x, "i") * x * w, X))  # noqa: E731
    close(br.grad(f)(2.0), 4 * np.sum(X) ** 2)
    close(br.jvp(f, (2.0,), (1.0,))[1], 4 * np.sum(X) ** 2)


def test_without_gradients():
    f = lambda x: br.no_grad(lambda x: br.psum(x, "i"))(x) * x  # noqa: E731
    close(br.grad(lambda x: np.sum(mapped(f, x)))(X), np.full(3, np.sum(X)))
    close(mapped(br.grad(f), X), np.full(3, np.sum(X)))
    close(br.jvp(lambda x: mapped(f, x), (X,), (WEIGHTS,))[1], np.sum(X) * WEIGHTS)


@pytest.mark.parametrize("order", ["inside", "outside"])
def test_inside_checkpoints_and_custom_functions(order):
    def run(f):
        return mapped(br.grad(f), X) if order == "inside" else br.grad(lambda x: np.sum(mapped(f, x)))(X)

    plain = lambda x: np.sin(x) / br.psum(np.exp(x), "i")  # noqa: E731
    expected = run(plain)
    close(run(br.checkpoint(plain)), expected)
    close(run(br.checkpoint(plain, policy=br.save_everything)), expected)

    custom = br.custom_jvp(plain)
    custom.defjvp(lambda primals, tangents: (plain(*primals), br.jvp(plain, primals, tangents)[1]))
    close(run(custom), expected)

    ruled = br.custom_vjp(plain)
    ruled.defvjp(lambda x: br.vjp(plain, x), lambda pullback, ct: pullback(ct))
    close(run(ruled), expected)

    looped = lambda x: br.checkpoint_loop(lambda i, s: s / br.psum(np.exp(s), "i"), 3, np.sin(x))  # noqa: E731

    def unrolled(x):
        s = np.sin(x)
        for _ in range(3):
            s = s / br.psum(np.exp(s), "i")
        return s

    close(run(looped), run(unrolled))


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "use", [br.psum, br.pmean, br.pmax, br.pmin, br.all_gather, lambda x, name: br.axis_index(name)]
)
def test_a_name_that_is_not_there(use):
    message = r"test_named_axes.py:\d+.*no axis is named 'j' here \(named: \['i'\]\).*br.vmap\(f, axis_name=...\)"
    with pytest.raises(br.BatchSizeError, match=message):
        mapped(lambda x: use(x, "j"), X)
    with pytest.raises(br.BatchSizeError, match=r"no axis is named 'i'"):
        use(X, "i")
    with pytest.raises(br.BatchSizeError, match=r"no axis is named 'i'"):
        br.vmap(lambda x: use(x, "i"))(X)


def test_the_name_ends_with_the_map():
    with pytest.raises(KeyError):
        mapped(lambda x: {}[0], X)
    with pytest.raises(br.BatchSizeError):
        br.axis_size("i")
