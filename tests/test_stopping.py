"""What derivatives leave out: `stop_gradient` for values, `no_grad` for code."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import bindrune as br
from expect import close

X = np.array([0.7, -1.3, 2.1])

FIRST = {
    "grad": lambda f: br.grad(f),
    "jvp": lambda f: lambda x: br.jvp(f, (x,), (1.0,))[1],
    "pullback": lambda f: lambda x: br.vjp(f, x)[1](1.0)[0],
    "linearize": lambda f: lambda x: br.linearize(f, x)[1](1.0),
}
first = pytest.mark.parametrize("d", FIRST.values(), ids=FIRST)
second = pytest.mark.parametrize("e", FIRST.values(), ids=FIRST)


def constant_square(x):
    """x**2 * x, in which derivatives take the square for a constant."""
    with br.no_grad():
        square = x * x
    return square * x


# -------------------------------------------------------------------------------------------------------- stop_gradient


@first
def test_a_stopped_value_is_constant(d):
    close(d(lambda x: x * br.stop_gradient(x))(3.0), 3)
    close(d(lambda x: br.stop_gradient(x) ** 2)(3.0), 0)
    close(d(lambda x: br.stop_gradient(x * x) + x)(3.0), 1)
    assert br.detach is br.stop_gradient


@first
@second
def test_every_derivative_sees_a_constant(d, e):
    close(d(e(lambda x: x**2 * br.stop_gradient(x)))(3.0), 6)
    close(d(lambda x: e(lambda y: y**2 * br.stop_gradient(x))(x))(3.0), 6)
    close(d(lambda x: br.stop_gradient(e(lambda y: y**3)(x)) * x)(3.0), 27)


@first
def test_maps_pass_through(d):
    f = lambda x: x * br.stop_gradient(x)  # noqa: E731
    close(br.vmap(f)(X), X * X)
    close(br.vmap(d(f))(X), X)
    close(br.grad(lambda x: np.sum(br.vmap(f)(x)))(X), X)


def test_trees_and_plain_values():
    tree = {"a": (X, 2.0), "b": None, "c": "text"}
    found = br.stop_gradient(tree)
    assert found["a"][0] is X
    assert found == tree
    gradient = br.grad(lambda t: np.sum(t["a"] * br.stop_gradient(t)["b"]))({"a": X, "b": 2 * X})
    close(gradient["a"], 2 * X)
    close(gradient["b"], np.zeros(3))


def test_views_and_writes():
    def f(x):
        out = np.zeros(3)
        out[1:] = br.stop_gradient(x[1:])
        out[0] = x[0]
        frozen = br.stop_gradient(x)
        x[2] = 5.0  # what was stopped keeps its value
        return np.sum(out * out) + np.sum(frozen * x)

    close(br.grad(f)(X.copy()), [2 * X[0] + X[0], X[1], 0])


def test_complex_and_integer_values():
    z = 1.0 + 2.0j
    close(br.vjp(lambda z: z * br.stop_gradient(z), z)[1](1.0 + 0j)[0], z)
    assert br.stop_gradient(3) == 3


# -------------------------------------------------------------------------------------------------------------- no_grad


@first
def test_code_without_gradients(d):
    close(d(constant_square)(3.0), 9)
    close(d(lambda x: br.no_grad(np.square)(x) * x)(3.0), 9)
    assert constant_square(3.0) == 27.0


@first
@second
def test_every_derivative_begun_outside_is_paused(d, e):
    # the inner derivative of square * x is the square, which the outer one takes for a constant as well
    close(d(e(constant_square))(3.0), 0)
    close(d(lambda x: e(lambda y: y * constant_square(x))(x))(3.0), 9)


@first
@second
def test_a_derivative_begun_inside_goes_on(d, e):
    def f(x):
        with br.no_grad():
            slope = e(lambda y: y**3)(x)
        return slope * x

    close(f(3.0), 81)
    close(d(f)(3.0), 27)
    with br.no_grad():
        close(d(lambda x: x**3)(3.0), 27)
        close(d(e(lambda x: x**3))(3.0), 18)
        close(d(constant_square)(3.0), 9)


@first
def test_maps_go_on_inside(d):
    close(br.vmap(constant_square)(X), X**3)
    close(br.vmap(d(constant_square))(X), X**2)
    close(br.grad(lambda x: np.sum(br.vmap(constant_square)(x)))(X), X**2)

    def mapped_inside(x):
        with br.no_grad():
            squares = br.vmap(lambda y: y * x)(X)
        return np.sum(squares) * x

    close(d(mapped_inside)(2.0), np.sum(X) * 2)


@first
def test_scopes_in_scopes(d):
    def f(x):
        with br.no_grad():
            a = x * x
            with br.no_grad():
                b = a * x
            c = b * x
        return c + x * x

    close(d(f)(2.0), 4)

    def begun_between(x):
        with br.no_grad():
            inner = lambda y: y * constant_square(y)  # noqa: E731
            slope = d(inner)(x)  # the square is constant: 2 y square
        return slope * x

    close(begun_between(2.0), 32)
    close(d(begun_between)(2.0), 16)


@first
def test_writes_inside(d):
    def f(x):
        out = np.zeros(2)
        out[0] = x
        with br.no_grad():
            out[1] = x * x
            out[1] *= 2.0
        return out[0] * out[1]

    # out[1] = 2 x^2 is constant
    close(d(f)(3.0), 18)


def test_an_exception_leaves_the_scope():
    def f(x):
        with contextlib.suppress(KeyError), br.no_grad():
            raise KeyError
        with contextlib.suppress(KeyError):
            br.no_grad(lambda y: {}[y])("missing")
        return x * x

    close(br.grad(f)(3.0), 6)
    with pytest.raises(KeyError, match="mine"), br.no_grad():
        br.grad(lambda x: {"a": 1}["mine"])(1.0)
    close(br.grad(lambda x: x * x)(3.0), 6)


def test_one_scope_object_entered_again_and_again():
    scope = br.no_grad()

    def f(x):
        with scope:
            with scope:
                a = x * x
            b = a * x
        with scope:
            c = 1.0 * x
        return b * c * x

    close(br.grad(f)(2.0), 16)


class Model:
    def __init__(self, w):
        self.w = w

    @br.no_grad()
    def target(self, x):
        """The target."""
        out = np.zeros(3)
        out[:] = self.w * x
        return out

    @br.no_grad
    def scale(self, x):
        return self.w * x

    def loss(self, x):
        return np.sum(self.target(x) * self.scale(x) * x)


def test_as_a_decorator_of_methods():
    assert Model.target.__doc__ == "The target."
    assert Model.target.__name__ == "target"
    model = Model(2 * X)
    close(model.target(X), 2 * X * X)
    close(br.grad(model.loss)(X), 4 * X**4)
    close(br.vmap(br.grad(model.loss))(np.stack([X, X])), np.stack([4 * X**4] * 2))


def test_several_results_and_keywords():
    @br.no_grad
    def both(x, *, scale):
        return {"a": x * scale, "b": (+x,)}

    found = lambda x: both(x, scale=x)["a"] * x + both(x, scale=1.0)["b"][0]  # noqa: E731
    close(br.grad(found)(3.0), 9)


def test_what_passes_through_untouched_is_still_followed():
    def f(x):
        with br.no_grad():
            y = x
        return y * br.no_grad(lambda v: v)(x)

    close(br.grad(f)(3.0), 6)


def test_threads_do_not_share_scopes():
    entered, done = threading.Event(), threading.Event()

    def pausing():
        with br.no_grad():
            entered.set()
            done.wait(5)
            return br.grad(constant_square)(3.0)

    def working():
        entered.wait(5)
        try:
            return br.grad(lambda x: x**3)(3.0)
        finally:
            done.set()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(pausing), pool.submit(working)
        close([first.result(), second.result()], [9, 27])

    # one object, many threads
    scope = br.no_grad()
    barrier = threading.Barrier(4)

    def f(x):
        barrier.wait(5)
        with scope:
            barrier.wait(5)
            y = x * x
        barrier.wait(5)
        return y * x

    with ThreadPoolExecutor(4) as pool:
        close(list(pool.map(lambda x: br.grad(f)(x), [1.0, 2.0, 3.0, 4.0])), [1, 4, 9, 16])


def test_a_thread_started_inside_may_be_given_the_scope():
    def f(x):
        found = []
        with br.no_grad():
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(lambda: found.append(x * x),))
            thread.start()
            thread.join()
        return found[0] * x

    close(br.grad(f)(3.0), 9)


def test_tasks_do_not_share_scopes():
    async def paused(x):
        with br.no_grad():
            y = x * x
            await asyncio.sleep(0)
            return y * x

    async def followed(x):
        y = x * x
        await asyncio.sleep(0)
        return y * x

    def f(x):
        async def both():
            return await asyncio.gather(paused(x), followed(x))

        return sum(asyncio.run(both()))

    close(br.grad(f)(2.0), 12)


def test_in_a_generator_it_is_refused():
    def pairs(x):
        with br.no_grad():
            yield x * x
            yield x

    def f(x):
        return sum(value * x for value in pairs(x))

    with pytest.raises(
        br.UnsupportedError, match=r"test_stopping.py:\d+, in pairs: br.no_grad\(\): .*generator.*stop_gradient"
    ):
        br.grad(f)(2.0)

    @br.no_grad
    def values(x):
        yield x * x

    with pytest.raises(br.UnsupportedError, match=r"br.no_grad of .*values .*: the code of a generator"):
        br.grad(lambda x: next(values(x)) * x)(2.0)
    close(br.grad(lambda x: x * x)(3.0), 6)


def test_a_coroutine_function_is_refused():
    @br.no_grad
    async def later(x):
        return x

    with pytest.raises(br.UnsupportedError, match="coroutine"):
        asyncio.run(later(1.0))


def test_a_generator_may_call_a_function_without_gradients():
    def pairs(x):
        yield br.no_grad(np.square)(x)
        yield br.stop_gradient(x)

    close(br.grad(lambda x: sum(value * x for value in pairs(x)))(2.0), 6)


def test_a_scope_of_one_s_own():
    @contextlib.contextmanager
    def frozen():
        with br.no_grad():
            yield

    def f(x):
        with frozen():
            y = x * x
        return y * x

    close(br.grad(f)(3.0), 9)

    def stacked(x):
        with contextlib.ExitStack() as stack:
            stack.enter_context(br.no_grad())
            y = x * x
        return y * x

    close(br.grad(stacked)(3.0), 9)


def test_structured_operations_inside():
    def f(x):
        with br.no_grad():
            y = br.checkpoint(np.sin)(x)
            z = br.checkpoint_loop(lambda i, s: s * x, 2, x)
            w = br.fixed_point(lambda v: np.cos(x * v), 0.5)
        return (y + z + w) * x

    expected = np.sin(0.4) + 0.4**3 + br.fixed_point(lambda v: np.cos(0.4 * v), 0.5)
    close(br.grad(f)(0.4), expected)
    close(br.jvp(f, (0.4,), (1.0,))[1], expected)
