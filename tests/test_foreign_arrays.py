"""Arrays of other libraries as arguments: read without a copy, and answered with arrays of NumPy."""

import numpy as np
import pytest

import bindrune as br
from bindrune.core.foreign import as_array
from expect import close

X = np.array([0.5, -1.0, 2.0])


class Exporter:
    """An array that only speaks DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Interface:
    """An array that only describes its memory."""

    def __init__(self, array):
        self.array = array
        self.__array_interface__ = array.__array_interface__


class Convertible:
    """An array that only converts itself."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype=dtype, copy=copy)


class Unexportable(Convertible):
    """An array on a device that DLPack does not reach."""

    def __dlpack__(self, **options):
        raise BufferError("not on this device")

    def __dlpack_device__(self):
        return (2, 0)


KINDS = [Exporter, Interface, Convertible, Unexportable]

each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_the_memory_is_shared(kind):
    array = X.copy()
    read = as_array(kind(array))
    assert type(read) is np.ndarray
    assert np.shares_memory(read, array)
    assert read.flags.writeable


def test_memory_lent_for_reading_stays_read_only():
    array = X.copy()
    array.flags.writeable = False
    for kind in (Exporter, Interface):
        assert not as_array(kind(array)).flags.writeable


@pytest.mark.parametrize("value", [X, 1.5, 3, 1j, np.float32(2), "text", None, float, len, [1.0]], ids=str)
def test_anything_else_passes_as_it_is(value):
    assert as_array(value) is value


def test_what_no_conversion_reads_is_refused():
    class Closed:
        def __dlpack__(self, **options):
            raise BufferError("not on this device")

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(BufferError, match="not on this device"):
        br.grad(lambda x: x)(Closed())


def loss(x):
    return np.sum(np.sin(x) * x)


def check_transformations(array, make):
    """Every transformation answers for `make(array)` as for the array."""
    given = make(array)
    tangent = np.ones_like(array)

    def same(found, expected):
        for a, b in zip(br.tree.leaves(found), br.tree.leaves(expected), strict=True):
            assert type(a) is type(b)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)

    same(br.grad(loss)(given), br.grad(loss)(array))
    same(br.value_and_grad(loss)(given), br.value_and_grad(loss)(array))
    same(br.grad(lambda p: loss(p["x"][0]))({"x": [given]}), br.grad(lambda p: loss(p["x"][0]))({"x": [array]}))
    same(br.jvp(loss, (given,), (make(tangent),)), br.jvp(loss, (array,), (tangent,)))
    value, pullback = br.vjp(np.sin, given)
    same(value, np.sin(array))
    same(pullback(make(tangent)), (np.cos(array),))
    same(br.vmap(lambda x: 2 * x)(given), 2 * array)
    same(br.vmap(lambda p, y: p["x"] + y, in_axes=(0, None))({"x": given}, array), array[:, None] + array)
    for jacobian in (br.jacfwd, br.jacrev, br.jacobian):
        same(jacobian(np.sin)(given), jacobian(np.sin)(array))
    same(br.hessian(loss)(given), br.hessian(loss)(array))
    same(br.linearize(np.sin, given)[1](make(tangent)), np.cos(array))


@each_kind
def test_transformations(kind):
    check_transformations(X, kind)
    check_transformations(X.astype(np.float32), kind)


def test_arguments_that_are_not_transformed():
    found = br.grad(lambda x, y, i: np.sum(x[i] * y))(X, Exporter(np.array([3.0, 4.0])), Exporter(np.array([2, 0])))
    close(found, [4.0, 0.0, 3.0])
    close(br.vmap(lambda x, y: x + y, in_axes=(0, None))(X, Exporter(X)), X[:, None] + X)


def test_writes_reach_the_owner():
    def halve(x):
        x *= 0.5
        return np.sum(x)

    array = X.copy()
    close(br.grad(halve)(Exporter(array)), np.full(3, 0.5))
    close(array, X / 2)
    array = X.copy()
    close(br.grad(lambda s, x: s * halve(x))(2.0, Exporter(array)), X.sum() / 2)
    close(array, X / 2)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        br.grad(halve)(Exporter(array))


def test_a_leaf_without_a_derivative_is_named():
    with pytest.raises(br.NonDifferentiableError, match=r"x\['i'\] has dtype int64"):
        br.grad(lambda x: 1.0)({"i": Exporter(np.arange(3))})


def test_random_keys_and_vectors():
    key = br.random.key(3)
    assert br.random.normal(Exporter(key)) == br.random.normal(key)
    close(br.tree.ravel([Exporter(X), 1.0])[0], [*X, 1.0])


# ------------------------------------------------------------------------------------------------------- real libraries


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    check_transformations(X, torch.from_numpy)
    followed = torch.tensor(X, requires_grad=True)
    close(br.grad(loss)(followed), br.grad(loss)(X))
    close(br.grad(loss)(torch.tensor(2.0)), np.float32(br.grad(loss)(2.0)))
    written = torch.from_numpy(X.copy())
    br.grad(lambda x: x.__setitem__(0, 9.0) or np.sum(x))(written)
    assert written[0] == 9


def test_arrays_of_jax():
    jax = pytest.importorskip("jax")
    check_transformations(X.astype(np.float32), jax.numpy.asarray)
    with pytest.raises(ValueError, match="read-only"):
        br.grad(lambda x: x.__setitem__(0, 9.0) or np.sum(x))(jax.numpy.ones(3))


def test_series_of_pandas():
    pandas = pytest.importorskip("pandas")
    close(br.grad(loss)(pandas.Series(X)), br.grad(loss)(X))
    frame = pandas.DataFrame({"a": X})
    close(br.grad(lambda x, frame: np.sum(x * frame["a"].to_numpy()))(X, frame), X)
