"""Writes: stores, augmented assignment, views of views, masks, `out=`, aliasing; all exactly as NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

import bindrune as br
from programs import check_program

X = np.array([0.5, -1.2, 2.1, 0.3, 1.7, -0.4])
M = np.array([[0.5, -1.2, 2.1], [1.7, -0.4, 0.9], [0.2, 1.3, -0.7]])


def store_into_argument(x):
    x[0] = 1.0
    x[1] *= x[2]
    return np.sum(x * x)


def store_into_local(x):
    out = np.zeros(len(x))
    for i in range(len(x)):
        out[i] = x[i] * x[-1 - i]
    return np.sum(out**2)


def running_recurrence(x):
    out = np.empty_like(x)
    out[0] = x[0]
    for i in range(1, len(x)):
        out[i] = 0.5 * out[i - 1] + np.sin(x[i])
    return np.sum(out * np.arange(len(x)))


def overwrite_twice(x):
    y = np.zeros(3)
    y[1] = x[0] * 2
    y[1] = x[1] * 3
    return np.sum(y * y)


def view_then_write(x):
    v = x[1:4]
    v[0] = x[5] ** 2
    v[1:] += 2 * x[0]
    return np.sum(x * x)


def view_sees_later_write(x):
    y = x * 1.0
    v = y[2:]
    y[3] = x[0] * x[1]
    return np.sum(v**2)


def view_of_view(x):
    y = x.copy()
    a = y[1:]
    b = a[::2]
    c = b[1:]
    c *= x[0]
    b[0] = x[1] * 3
    return np.sum(y**3)


def transposed(m):
    y = m * 1.0
    t = y.T
    t[0] = m[1] * 2
    t[1, 2] = m[0, 0] * m[2, 2]
    t[:, 1] += m[2]
    return np.sum(y**2 * M)


def reshaped(m):
    y = m.copy()
    flat = y.reshape(-1)
    flat[3] = m[0, 0] ** 2
    flat[5:8] *= 2
    y.ravel()[1] = m[1, 1] * m[0, 1]
    return np.sum(y**2)


def rows_divided(m):
    y = m**2 + 1
    for row in y:
        row /= np.sum(row)
    return np.sum(y * M)


def row_swaps(m):
    y = m.copy()
    y[[0, 2]] = y[[2, 0]]
    a, b = 0, 1
    y[a, 0], y[b, 0] = y[b, 0], y[a, 0]
    return np.sum(y**2 * np.arange(9.0).reshape(3, 3))


def mask_store(x):
    y = x * 2
    y[y < 0] = 0.25
    y[x > 1] *= x[0]
    return np.sum(y**2)


def out_argument(x):
    out = np.zeros(6)
    np.multiply(x, x, out=out)
    np.add(out, x, out=out[:])
    np.sin(x[:2], out=out[2:4])
    return np.sum(out * np.arange(6))


def where_argument(x):
    out = np.ones(6)
    np.exp(x, out=out, where=x > 0)
    return np.sum(out * x)


def fill_and_copyto(x):
    y = np.empty((2, 3))
    y.fill(x[0])
    np.copyto(y[1], x[:3] * x[3:])
    z = np.zeros((3, 3))
    np.fill_diagonal(z, x[2])
    return np.sum(y**2) + np.sum(z**3)


def flat_iterator(x):
    y = np.zeros((2, 3))
    y.flat[::2] = x[:3]
    y.flat[1] = x[5] ** 2
    return np.sum(y**2 * [[1, 2, 3], [4, 5, 6]]) + sum(y.flat)


def augmented_alias(x):
    y = x.copy()
    z = y
    z += x[0]
    z **= 2
    return np.sum(y)


def numbers_are_not_aliased(x):
    s = x[0]
    t = s
    s += x[1]
    return s * t * x[2]


def gauss_seidel(m):
    a = m @ m.T + 5 * np.eye(3)
    b = m[0]
    u = np.zeros(3)
    for _ in range(3):
        for i in range(3):
            s = b[i]
            for j in range(3):
                if j != i:
                    s -= a[i, j] * u[j]
            u[i] = s / a[i, i]
    return np.sum(u**2)


def lu_by_rows(m):
    a = m @ m.T + 3 * np.eye(3)
    for k in range(3):
        row = a[k]
        for i in range(k + 1, 3):
            a[i, k] /= a[k, k]
            a[i, k + 1 :] -= a[i, k] * row[k + 1 :]
    return np.sum(np.log(np.diagonal(a)))


def add_at(x):
    y = np.zeros(4)
    np.add.at(y, [0, 1, 1, 3, 0, 0], x**2)
    np.subtract.at(y, [2], x[0])
    return np.sum(y**2)


def multiply_at(x):
    y = np.ones(3)
    np.multiply.at(y, [0, 1, 1, 2, 0, 0], x)
    return np.sum(y)


def sorted_in_place(x):
    y = x * 1.0
    y.sort()
    return np.sum(y * np.arange(6))


def heat_step(x):
    u = x.copy()
    for _ in range(4):
        u[1:-1] += 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return np.sum(u**2 * np.arange(6))


def write_of_itself(x):
    y = x.copy()
    y[1:] = y[:-1]
    y[:] = y[::-1] * x
    return np.sum(y**2)


def nested_indexing(m):
    y = m.copy()
    for i in range(3):
        for j in range(3):
            y[i][j] = y[i][j] ** 2 + m[j][i]
    return np.sum(y * M)


def column_iteration(m):
    y = m.copy()
    for column in y.T:
        column -= np.mean(column)
    return np.sum(y**2)


def swapped_axes(m):
    y = m.copy()
    np.swapaxes(y, 0, 1)[0, 1:] = m[2, :2]
    np.expand_dims(y, 0)[0, 2, 2] = m[0, 0] ** 2
    return np.sum(y**2)


def integer_buffer(x):
    counts = np.zeros(3, dtype=int)
    counts[0] = x[2]
    return np.sum(x * x) + counts[0]


def complex_parts(x):
    z = np.zeros(3, dtype=complex)
    z.real = x[:3]
    z.imag[1:] = x[4:]
    return np.sum(np.abs(z) ** 2 * [1, 2, 3])


def put_and_place(x):
    y = x.copy()
    np.put(y, [0, -1], [x[1] * 2, x[2]])
    np.place(y, y > 1.5, x[0])
    np.putmask(y, y < 0, x * x)
    np.put_along_axis(y, np.array([2, 3]), x[:2], 0)
    return np.sum(y**2)


VECTOR_PROGRAMS = [
    store_into_argument, store_into_local, running_recurrence, overwrite_twice, view_then_write,
    view_sees_later_write, view_of_view, out_argument, fill_and_copyto, flat_iterator, augmented_alias,
    numbers_are_not_aliased, add_at, multiply_at, sorted_in_place, heat_step, write_of_itself, integer_buffer,
    complex_parts,
]  # fmt: skip
MATRIX_PROGRAMS = [
    transposed, reshaped, rows_divided, row_swaps, gauss_seidel, lu_by_rows, nested_indexing, column_iteration,
    swapped_axes,
]  # fmt: skip


@pytest.mark.parametrize("program", VECTOR_PROGRAMS, ids=lambda f: f.__name__)
def test_vector_program(program):
    check_program(program, X)


@pytest.mark.parametrize("program", MATRIX_PROGRAMS, ids=lambda f: f.__name__)
def test_matrix_program(program):
    check_program(program, M)


@pytest.mark.parametrize("program", [mask_store, where_argument, put_and_place], ids=lambda f: f.__name__)
def test_masked_program(program):
    plain = X.copy()
    expected = program(plain)
    x = X.copy()
    value, gradient = br.value_and_grad(program)(x)
    assert value == expected
    np.testing.assert_array_equal(x, plain)
    for i in range(6):
        up, down = X.copy(), X.copy()
        up[i] += 1e-6
        down[i] -= 1e-6
        np.testing.assert_allclose(gradient[i], (program(up) - program(down)) / 2e-6, rtol=1e-6, atol=1e-7)


def test_other_arguments_are_written_too():
    def f(x, out):
        out[:] = x * 2
        out[0] += out[1] * x[0]
        return np.sum(out)

    check_program(f, X, np.zeros(6))


def test_batched_argument_is_written_back_on_its_axis():
    def f(x):
        x[0] = x[1] * 2
        return x.sum()

    x = M.copy()
    result = br.vmap(f, in_axes=1)(x)
    expected = M.copy()
    np.testing.assert_array_equal(result, [f(expected[:, i]) for i in range(3)])
    np.testing.assert_array_equal(x, expected)


def test_unbatched_argument_written_with_batched_values_is_refused():
    out = np.zeros(3)
    with pytest.raises(br.MutationError, match="same for all lanes"):
        br.vmap(lambda x, out: out.__setitem__(0, x), in_axes=(0, None))(np.ones(4), out)


def test_captured_array_is_written():
    buffer = np.zeros(3)

    def f(x):
        buffer[1] = x[0] ** 2
        return np.sum(buffer)

    np.testing.assert_array_equal(br.grad(f)(np.array([3.0, 1.0])), [6.0, 0.0])
    np.testing.assert_array_equal(buffer, [0.0, 9.0, 0.0])


def test_captured_array_is_copied_before_writing():
    start = np.arange(3.0)

    def f(x):
        y = start.copy()
        y[0] = x * 2
        y += start
        return np.sum(y**2)

    assert br.grad(f)(1.5) == 2 * 3.0 * 2
    np.testing.assert_array_equal(start, np.arange(3.0))


def test_failed_write_leaves_the_array_as_it_was():
    def f(x):
        y = x * 2
        try:
            y[10] = x[0]
        except IndexError:
            y[0] = x[1]
        try:
            y[:2] = x[:3]
        except ValueError:
            y[1] = x[0]
        return np.sum(y**2)

    check_program(f, X)


def test_casting_errors_are_numpys():
    def f(x):
        counts = np.zeros(3, dtype=int)
        counts += x[:3]
        return np.sum(counts)

    with pytest.raises(TypeError, match="Cannot cast ufunc"):
        br.grad(f)(X)


def test_pullback_survives_later_writes_to_its_inputs_and_results():
    x = X.copy()
    y, pullback = br.vjp(lambda x: x * x * 2, x)
    x[:] = 0
    y[:] = 0
    np.testing.assert_array_equal(pullback(np.ones(6))[0], 4 * X)


def test_write_through_broadcast_view_is_refused():
    def f(x):
        y = np.broadcast_to(x, (2, 6))
        y[0, 0] = 1
        return np.sum(y)

    with pytest.raises(ValueError, match="read-only"):
        br.grad(f)(X)


@pytest.mark.parametrize("n", [100, 1000])
def test_many_scalar_writes_keep_the_value(n):
    def f(x):
        out = np.zeros(n)
        for i in range(n):
            out[i] = x * i
        return np.sum(out)

    assert br.grad(f)(2.0) == n * (n - 1) / 2


def test_rows_counted_from_both_ends_are_no_run():
    weights = np.arange(6.0).reshape(2, 3)

    def f(a):
        return np.sum(weights * np.stack([a[-1], a[0]]))

    a = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
    assert br.value_and_grad(f)(a)[0] == f(a)
    np.testing.assert_array_equal(br.grad(f)(a), weights[::-1])
