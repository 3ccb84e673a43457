"""`vectorize`: NumPy's broadcasting for functions of numbers and of core dimensions."""

from __future__ import annotations

import numpy as np
import pytest

import bindrune as br
from expect import close, difference_gradient, weigh

RANDOM = np.random.default_rng(0)


def bump(a, b):
    return a * np.sin(b) if np.ndim(a) == 0 else np.nan


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((), ()),
        ((3,), ()),
        ((), (3,)),
        ((3,), (3,)),
        ((2, 1), (3,)),
        ((1,), (3,)),
        ((2, 3), (1, 1)),
        ((4, 1, 3), (2, 1)),
        ((0,), (1,)),
    ],
)
def test_functions_of_numbers_broadcast(left, right):
    a, b = RANDOM.normal(size=left), RANDOM.normal(size=right)
    close(br.vectorize(bump)(a, b), a * np.sin(b))
    if 0 not in left:
        gradient = br.grad(lambda a: np.sum(weigh(np.atleast_1d(br.vectorize(bump)(a, b)))))(a)
        expected = br.grad(lambda a: np.sum(weigh(np.atleast_1d(a * np.sin(b)))))(a)
        close(gradient, expected)


SIGNATURES = [
    ("(n),(n)->()", np.dot, (4,), (4,)),
    ("(n,m),(m)->(n)", np.matmul, (2, 3), (3,)),
    ("(n,m),(m,k)->(n,k)", np.matmul, (2, 3), (3, 4)),
    ("(n),(m)->(n,m)", np.outer, (2,), (3,)),
    ("(n),()->(n)", lambda a, b: a * b, (3,), ()),
    (" ( n ) , (n) -> ( ) ", np.dot, (2,), (2,)),
]


@pytest.mark.parametrize(("signature", "function", "left", "right"), SIGNATURES, ids=[s[0] for s in SIGNATURES])
@pytest.mark.parametrize(
    ("outer", "other"), [((), ()), ((5,), ()), ((), (5,)), ((5,), (5,)), ((2, 1), (5,)), ((1,), (5,))]
)
def test_core_dimensions_as_numpy_s(signature, function, left, right, outer, other):
    a, b = RANDOM.normal(size=outer + left), RANDOM.normal(size=other + right)
    ours, numpy_s = (
        br.vectorize(function, signature=signature),
        np.vectorize(function, signature=signature.replace(" ", "")),
    )
    close(ours(a, b), numpy_s(a, b))
    gradient = br.grad(lambda b: np.sum(np.sin(ours(a, b))))(b)
    close(gradient, difference_gradient(lambda b: np.sum(np.sin(numpy_s(a, b))), b), rtol=1e-5, atol=1e-7)


def test_several_results():
    both = br.vectorize(lambda x: (np.sum(x), x / np.sum(x)), signature="(n)->(),(n)")
    x = RANDOM.normal(size=(2, 3, 4))
    sums, parts = both(x)
    close(sums, np.sum(x, axis=-1))
    close(parts, x / np.sum(x, axis=-1, keepdims=True))


def test_excluded_arguments():
    f = br.vectorize(lambda x, table, y, name: table[name] * x + y, excluded={1, 3})
    x = np.array([1.0, 2.0])
    close(f(x, {"a": 3.0}, 1.0, "a"), 3 * x + 1)
    close(br.grad(lambda w: np.sum(f(x, {"a": w}, 1.0, "a")))(3.0), 3)
    close(br.vmap(lambda w: f(x, {"a": w}, 1.0, "a"))(x), np.outer(x, x) + 1)


def test_what_does_not_vary_is_computed_once():
    seen = []
    f = br.vectorize(
        lambda a, b: seen.append((np.shape(a), np.shape(b))) or np.sum(a) + np.sum(b), signature="(n),(n)->()"
    )
    f(np.ones((1, 3)), np.ones((4, 3)))
    assert seen == [((3,), (3,))]


def test_transformations_in_both_orders():
    f = br.vectorize(lambda a, x: a @ np.sin(x), signature="(n,n),(n)->(n)")
    a, x = RANDOM.normal(size=(2, 3, 3)), RANDOM.normal(size=(5, 1, 3))
    plain = lambda a, x: np.einsum("...ij,...j->...i", a, np.sin(x))  # noqa: E731
    for argnums in (0, 1):
        close(br.jacobian(f, argnums)(a, x), br.jacobian(plain, argnums)(a, x))
        close(br.jacfwd(f, argnums)(a, x), br.jacobian(plain, argnums)(a, x))
    close(br.vmap(f, in_axes=(None, 0))(a, x), plain(a, x[:, None])[:, 0])
    slopes = br.vectorize(br.grad(lambda x: np.sin(x) * x))
    x = RANDOM.normal(size=(2, 3))
    close(slopes(x), np.cos(x) * x + np.sin(x))
    curvatures = br.vectorize(br.hessian(lambda v: v[0] ** 2 * v[1]), signature="(n)->(n,n)")
    close(curvatures(x[:, :2]), [[[2 * b, 2 * a], [2 * a, 0]] for a, b in x[:, :2]])


def test_as_a_decorator_of_functions_and_methods():
    class Model:
        def __init__(self, w):
            self.w = w

        def score(self, x):
            out = np.zeros(2)
            out[:] = self.w * x
            return np.sum(out)

        def scores(self, xs):
            return br.vectorize(self.score, signature="(n)->()")(xs)

    model = Model(np.array([2.0, 3.0]))
    x = RANDOM.normal(size=(4, 2))
    close(model.scores(x), x @ model.w)
    close(br.jacobian(model.scores)(x)[1, 1], model.w)

    @br.vectorize
    def named(x):
        """Its docstring."""
        return x

    assert named.__name__ == "named"
    assert named.__doc__ == "Its docstring."


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: br.vectorize(np.dot, signature="(n),(n)")(1.0, 1.0),
            ValueError,
            r"not a gufunc signature: '\(n\),\(n\)'",
        ),
        (lambda: br.vectorize(np.dot, signature="n->n")(1.0), ValueError, r"write for example '\(n,m\),\(m\)->\(n\)'"),
        (
            lambda: br.vectorize(np.dot, signature="(n),(n)->()")(np.ones(3)),
            TypeError,
            "the signature has 2 arguments, the call 1",
        ),
        (
            lambda: br.vectorize(np.dot, signature="(n),(n)->()")(np.ones(3), 1.0),
            ValueError,
            r"of dot.*: argument 1 has shape \(\), but the core dimensions \('n',\)",
        ),
        (
            lambda: br.vectorize(np.dot, signature="(n),(n)->()")(np.ones(3), np.ones(2)),
            br.BatchSizeError,
            "of dot.*: dimension n is 3 and, in argument 1, 2",
        ),
        (
            lambda: br.vectorize(np.dot, signature="(n),(n)->()")(np.ones((2, 3)), np.ones((4, 3))),
            ValueError,
            "broadcast",
        ),
        (
            lambda: br.vectorize(np.sin, signature="(n)->()")(np.ones((2, 3))),
            ValueError,
            r"br.vectorize of .*: result 0 has shape \(3,\), but the core dimensions \(\)",
        ),
        (
            lambda: br.vectorize(lambda x: x[1:], signature="(n)->(n)")(np.ones((2, 3))),
            ValueError,
            r"result 0 has shape \(2,\), but the core dimensions \('n',\)",
        ),
        (
            lambda: br.vectorize(lambda x: (x, x), signature="(n)->(n)")(np.ones((2, 3))),
            TypeError,
            "the signature has 1 results, the function returned 2",
        ),
    ],
    ids=["no-arrow", "no-parentheses", "count", "too-few", "sizes", "loops", "result", "result-size", "results"],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
