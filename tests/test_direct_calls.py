"""Calls of compiled functions without a signature: the third call gives what plain Python gives, whatever has changed.

The first call stages, the second takes the general way and remembers the path, and from the third on a call like it
goes straight to the machine code.
"""

from __future__ import annotations

import dataclasses
import gc
import threading
import timeit
import weakref
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import bindrune as br
from bindrune.core import trees
from expect import close

X = np.array([0.7, -1.3, 2.1])


def ready(f, *arguments, **options):
    """`f` under `jit`, after calls that let such arguments go straight to the machine code."""
    compiled = br.jit(f, backend="native", **options)
    for _ in range(3):
        alike(compiled(*arguments), f(*arguments))
    return compiled


def alike(found, expected):
    """Trees of one structure whose leaves are of the same types, and close."""
    mine, theirs = trees.flatten(found), trees.flatten(expected)
    assert mine[1] == theirs[1]
    assert trees.key_orders(found) == trees.key_orders(expected)
    assert list(map(type, mine[0])) == list(map(type, theirs[0]))
    for x, y in zip(mine[0], theirs[0], strict=True):
        close(x, y)


def affine(x):
    return 2 * x + 1


def is_direct(compiled):
    return len(compiled._direct) > 0


def test_calls_become_direct():
    compiled = ready(affine, X)
    assert is_direct(compiled)
    assert (compiled.stats().stagings, compiled.stats().hits) == (1, 2)
    first, second = compiled(X), compiled(X)
    assert first is not second
    assert not np.shares_memory(first, second)
    close(first, affine(X))


class Tagged(np.ndarray):
    """A subclass of NumPy's arrays."""


def fits(x):
    """Whether a call with this argument gives just what plain Python does."""
    compiled = ready(affine, X)
    found, expected = compiled(x), affine(x)
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    assert np.array_equal(found, expected)
    close(compiled(X), affine(X))


@pytest.mark.parametrize(
    "x",
    [
        X.astype(np.float32),
        X.astype(">f8"),
        np.arange(3),
        np.arange(4.0),
        np.ones((3, 1)),
        np.ones(())[()],
        np.array(2.0),
        2.0,
        2,
        True,
        10**30,
        1j,
        np.arange(6.0)[::2],
        np.arange(3.0)[::-1],
        np.frombuffer(b"0" * 25, np.uint8)[1:].view(np.float64),
        X.view(Tagged),
        np.ma.masked_array(X, [False, True, False]).filled(0.0),
    ],
    ids=lambda x: f"{type(x).__name__}-{np.shape(x)}-{np.asarray(x).dtype}",
)
def test_other_arguments_go_the_general_way(x):
    fits(x)


def test_numbers_of_python_and_numpy_are_told_apart():
    compiled = br.jit(affine, backend="native")
    for x in (2, 2.0, np.float64(2.0), np.float32(2.0), np.int64(2), True, 2j) * 4:
        found, expected = compiled(x), affine(x)
        assert (type(found), found) == (type(expected), expected)


def test_several_types_are_remembered():
    compiled = br.jit(affine, backend="native")
    arguments = [np.ones(n, t) for n in (2, 3) for t in (np.float32, np.float64)]
    for _ in range(3):
        for x in arguments:
            close(compiled(x), affine(x))


def test_a_tuple_is_not_its_items():
    def total(*parts):
        return sum(np.sum(p[0] if isinstance(p, tuple) else p) for p in parts)

    compiled = ready(total, X, X)
    close(compiled((X, 2 * X)), total((X, 2 * X)))
    assert is_direct(compiled)
    compiled = ready(total, (X, X))
    close(compiled(X, X), total(X, X))
    close(compiled((X,), (X,)), total((X,), (X,)))


def test_keywords_and_defaults():
    def scaled(x, factor=2.0):
        return x * factor

    compiled = ready(scaled, X)
    close(compiled(X, 3.0), scaled(X, 3.0))
    close(compiled(X, factor=4.0), scaled(X, factor=4.0))
    scaled.__defaults__ = (5.0,)
    close(compiled(X), X * 5.0)


def test_static_arguments_stay_apart():
    compiled = ready(lambda x, n=2: x**n, X, static_argnums=1)
    for n in (2, 3, 2, 3):
        close(compiled(X, n), X**n)
    close(compiled(X), X**2)


def test_captured_arrays_are_read_at_each_call():
    w = np.array([1.0, 2.0, 3.0])

    def f(x):
        return x @ w

    compiled = ready(f, X)
    assert is_direct(compiled)
    w[:] = 7.0
    close(compiled(X), X @ w)
    w = np.array([4.0, 5.0, 6.0])
    close(compiled(X), X @ w)
    w = np.ones((3, 2))
    close(compiled(X), X @ w)


def test_captured_numbers_and_functions_are_compared():
    scale, shift = 2.0, np.sin

    def f(x):
        return shift(x) * scale

    compiled = ready(f, X)
    for scale in (3.0, 4.0, 5.0, 5.0):  # noqa: B007
        close(compiled(X), f(X))
    shift = np.cos
    close(compiled(X), f(X))


def test_captured_containers_are_compared():
    weights = {"a": np.ones(3), "b": 2.0}

    def f(x):
        return x * weights["a"] + weights["b"]

    compiled = ready(f, X)
    weights["a"] *= 3
    close(compiled(X), f(X))
    weights["b"] = 7.0
    close(compiled(X), f(X))
    weights["a"] = np.arange(3.0)
    close(compiled(X), f(X))


def test_a_function_with_new_code():
    def f(x):
        return x + 1

    compiled = ready(f, X)
    f.__code__ = (lambda x: x - 1).__code__
    close(compiled(X), X - 1)


def test_guards_hold_or_another_path_is_taken():
    def f(x, n):
        return x[: int(n)] * 2

    compiled = ready(f, X, 2.0)
    for n in (1.0, 2.0, 1.0, 3.0, 2.0):
        close(compiled(X, n), f(X, n))


def test_errors_are_those_of_python():
    def f(x, i):
        return x[i]

    compiled = ready(f, X, 1)
    for _ in range(2):
        with pytest.raises(IndexError, match="index 3 is out of bounds"):
            compiled(X, 3)
    close(compiled(X, 2), X[2])


def test_writes_reach_the_callers_arrays():
    def f(x):
        x += 1
        return x * 2

    compiled = br.jit(f, backend="native")
    for _ in range(4):
        ours, expected = X.copy(), X.copy()
        close(compiled(ours), f(expected))
        close(ours, expected)


def test_what_is_stored_is_stored_at_each_call():
    seen = []

    def f(x):
        seen.append(x.sum())
        return x * 2

    compiled = br.jit(f, backend="native")
    for i in range(4):
        compiled(X + i)
    close(np.array(seen), np.array([(X + i).sum() for i in range(4)]))


def test_what_is_printed_is_printed_at_each_call(capsys):
    def f(x):
        br.debug.print("{}", x[0])
        return x * 2

    compiled = br.jit(f, backend="native")
    for i in range(4):
        compiled(np.full(2, float(i)))
    assert capsys.readouterr().out.split() == ["0.0", "1.0", "2.0", "3.0"]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x, x + 1),
        lambda x: [x.sum(), {"a": x, "b": None, "c": "text"}],
        lambda x: x,
        lambda x: 3.0,
        lambda x: None,
        lambda x: x[0],
        lambda x: (x, x),
    ],
)
def test_results_of_every_kind(f):
    compiled = br.jit(f, backend="native")
    for _ in range(4):
        found, expected = compiled(X), f(X)
        assert type(found) is type(expected)
        assert repr(found) == repr(expected)


def test_transformations_around():
    compiled = ready(lambda x: np.sum(x * x), X)
    close(br.grad(compiled)(X), 2 * X)
    close(br.vmap(compiled)(np.ones((2, 3))), np.full(2, 3.0))
    close(compiled(X), np.sum(X * X))

    def outer(x):
        return x * compiled(X)  # the argument is plain, the call is not

    close(br.grad(lambda x: np.sum(outer(x)))(X), np.full(3, np.sum(X * X)))


def test_a_captured_stand_in():
    compiled = None

    def loss(w):
        nonlocal compiled
        compiled = compiled or br.jit(lambda x: np.sum(x * w), backend="native")
        return compiled(X) + compiled(X) + compiled(X)

    close(br.grad(loss)(np.ones(3)), 3 * X)


def test_it_can_be_disabled_and_cleared():
    compiled = ready(affine, X)
    with br.disable_jit():
        compiled(X)
    assert compiled.stats().hits == 2
    compiled.clear()
    close(compiled(X), affine(X))
    assert compiled.stats().stagings == 2


def test_a_result_too_large_for_memory():
    def f(x):
        return x[0] * 2, np.zeros((2**23, 2**22)) + x[0]

    compiled = br.jit(f, backend="native")
    for _ in range(3):
        with pytest.raises(MemoryError):
            compiled(X)


@pytest.mark.filterwarnings("ignore:.*staged for 4 shapes")
def test_threads_share_a_function():
    compiled = ready(affine, X)
    wrong = []

    def work(i):
        for n in range(200):
            x = np.full(3 + n % 2, float(i))
            if not np.array_equal(compiled(x), affine(x)):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_functions_are_let_go():
    w = np.ones(3)
    compiled = ready(lambda x: x + w, X)
    watched = weakref.ref(compiled)
    del compiled
    gc.collect()
    assert watched() is None


def test_a_call_is_cheap():
    """A call of a small program takes no longer than a few of NumPy's."""
    compiled, x = ready(affine, np.ones(8)), np.ones(8)
    ours = min(timeit.repeat(lambda: compiled(x), number=2000, repeat=15))
    numpys = min(timeit.repeat(lambda: affine(x), number=2000, repeat=15))
    assert ours < 2 * numpys


# ------------------------------------------------------------------------------------------------ trees and keywords

Pair = namedtuple("Pair", ["w", "b"])


@dataclasses.dataclass
class Layer:
    w: object
    b: object


def parts(d):
    """The two parts of a tree, by what it is."""
    if isinstance(d, dict):
        return d["w"], d["b"]
    return (d.w, d.b) if hasattr(d, "w") else (d[0], d[1])


def layer(d, x, scale=1.0, *, flip=False, kind="sum"):
    w, b = parts(d)
    found = w * x * scale - b if kind == "sum" else w * x * scale * b
    return {"out": -found if flip else found, "all": (found, [w + b])}


class Keys(dict):
    """A subclass of dict."""


TREES = [
    {"w": X, "b": 2 * X},
    {"b": 2 * X, "w": X},
    {"w": X, "b": 2 * X, "c": X},
    OrderedDict(w=X, b=2 * X),
    Keys(w=X, b=2 * X),
    Pair(X, 2 * X),
    Layer(X, 2 * X),
    [X, 2 * X],
    (X, 2 * X),
    [X, 2 * X, X],
    {"w": X, "b": 0.5},
    {"w": X, "b": 3},
    Layer(X, np.float32(2)),
    {"w": X[:1], "b": X},
]


@pytest.mark.parametrize(
    "tree", TREES, ids=lambda tree: f"{type(tree).__name__}{len(list(vars(tree) if isinstance(tree, Layer) else tree))}"
)
def test_trees_are_direct_and_told_apart(tree):
    compiled = ready(layer, tree, X)
    assert is_direct(compiled) == (type(tree) is not Keys)
    hits = compiled.stats().hits
    found = compiled(tree, X)
    assert compiled.stats().hits == hits + 1
    assert list(found) == ["out", "all"]
    assert type(found["all"]) is tuple
    for other in TREES:
        alike(compiled(other, X), layer(other, X))
    alike(compiled(tree, X), layer(tree, X))


def test_keywords_are_direct_and_told_apart():
    d = {"w": X, "b": 2 * X}
    compiled = ready(lambda *a, **k: layer(*a, **k), d, X)
    calls = [
        ((d, X), {"scale": 2.0}),
        ((d, X), {"scale": 3}),
        ((d, X), {"scale": True}),
        ((d, X), {"flip": True}),
        ((d, X), {"flip": False}),
        ((d, X), {"flip": 1}),
        ((d, X), {"kind": "product"}),
        ((d, X), {"kind": "".join(["pro", "duct"])}),
        ((d, X), {"kind": None}),
        ((d, X), {"kind": "product", "flip": True}),
        ((d, X), {"flip": True, "kind": "product"}),
        ((d,), {"x": X}),
        ((), {"x": X, "d": d}),
        ((d, X, 4.0), {}),
    ]
    for _ in range(4):
        for arguments, keywords in calls:
            alike(compiled(*arguments, **keywords), layer(*arguments, **keywords))


def test_the_order_of_keys_matters():
    """Structures are equal whatever the order of keys; programs that go through them are not."""

    def first_less_rest(**parts):
        first, *rest = parts.values()
        return first - sum(rest)

    compiled = br.jit(first_less_rest, backend="native")
    for _ in range(4):
        alike(compiled(a=X, b=2 * X), -X)
        alike(compiled(b=2 * X, a=X), X)
    nested = br.jit(lambda d: first_less_rest(**d[0].w), backend="native")
    for _ in range(4):
        alike(nested([Layer({"a": X, "b": 2 * X}, X)]), -X)
        alike(nested([Layer({"b": 2 * X, "a": X}, X)]), X)


def test_static_arguments_are_direct():
    def power(x, n, function=np.sin, *, scale=1.0):
        return function(x) ** n * scale

    compiled = br.jit(power, static_argnums=(1, 2), static_argnames="n", backend="native")
    for _ in range(4):
        alike(compiled(X, 2), power(X, 2))
        alike(compiled(X, n=3), power(X, n=3))
        alike(compiled(X, 2, np.cos), power(X, 2, np.cos))
        alike(compiled(X, 2, np.cos, scale=3.0), power(X, 2, np.cos, scale=3.0))
    assert compiled.stats().stagings == 4
    assert is_direct(compiled)


def test_static_arguments_from_the_end_are_direct():
    compiled = br.jit(lambda x, n: x**n, static_argnums=-1, backend="native")
    for _ in range(4):
        alike(compiled(X, 2), X**2)
        alike(compiled(X, 3), X**3)


def test_fixed_values_of_other_classes_are_not_the_same():
    compiled = ready(lambda x, flag: x * 2 if flag is True else x, X, True)
    for flag in (True, 1, False, 0, None, "", 1.0, True):
        alike(compiled(X, flag), X * 2 if flag is True else X)


def test_trees_with_parts_twice():
    d = {"w": X, "b": X}
    compiled = ready(layer, d, X)
    other = {"w": X, "b": 5 * X}
    alike(compiled(other, 3 * X), layer(other, 3 * X))
    alike(compiled(d, X), layer(d, X))


def test_a_guard_in_a_tree_chooses_another_path():
    def choose(d, n):
        return d["x"] * (1.0, 2.0, 3.0)[n]

    compiled = br.jit(choose, backend="native")
    for _ in range(3):
        for n in (0, 1, 2, 0):
            alike(compiled({"x": X}, n), choose({"x": X}, n))
    with pytest.raises(IndexError):
        compiled({"x": X}, 7)


def test_calls_with_trees_cost_a_few_microseconds():
    d = {"w": X, "b": 2 * X, "c": X}
    compiled = ready(lambda d, x, flag: d["w"] * x + d["b"] if flag else d["c"], d, X, True)
    assert min(timeit.repeat(lambda: compiled(d, x=X, flag=True), number=500, repeat=20)) / 500 < 2e-5
