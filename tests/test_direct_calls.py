"""Calls of compiled functions without a signature: the third call gives what plain Python gives, whatever has changed.

The first call stages, the second takes the general way and remembers the path, and from the third on a call like it
goes straight to the machine code.
"""

from __future__ import annotations

import gc
import threading
import timeit
import weakref

import numpy as np
import pytest

import bindrune as br
from expect import close

X = np.array([0.7, -1.3, 2.1])


def ready(f, *arguments, **options):
    """`f` under `jit`, after calls that let such arguments go straight to the machine code."""
    compiled = br.jit(f, backend="native", **options)
    for _ in range(3):
        close(compiled(*arguments), f(*arguments))
    return compiled


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
