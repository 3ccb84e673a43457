"""Derivatives with respect to complex numbers: steepest ascent, and with `holomorphic` the complex derivative."""

from __future__ import annotations

import numpy as np
import pytest

import bindrune as br
from expect import close

Z = np.array([1.0 + 2.0j, -0.5 + 0.3j])


def f(z):
    """Holomorphic, with a loop, a branch and writes."""
    out = np.zeros(2, complex)
    for i in range(2):
        out[i] = np.exp(z[i]) * z[i - 1]
    if np.real(z[0]) > 0:
        out *= z[0]
    return np.sum(out)


def derivative_of_f(z):
    a, b = z
    return np.array([2 * a * np.exp(b) + np.exp(a) * b * (1 + a), a * (a * np.exp(b) + np.exp(a))])


def ascent(function, z, step=1e-6):
    """df/dx + 1j df/dy for the real part of a function, by central differences."""
    found = np.zeros(z.shape, complex)
    for index in np.ndindex(z.shape):
        for unit in (1, 1j):
            d = np.zeros(z.shape, complex)
            d[index] = unit * step
            found[index] += unit * np.real(function(z + d) - function(z - d)) / (2 * step)
    return found


def test_grad_of_a_holomorphic_function_is_its_derivative():
    close(br.grad(f, holomorphic=True)(Z), derivative_of_f(Z))
    value, gradient = br.value_and_grad(f, holomorphic=True)(Z)
    close(value, f(Z))
    close(gradient, derivative_of_f(Z))
    gradient, aux = br.grad(lambda z: (z**3, "aux"), holomorphic=True, has_aux=True)(1.0 + 2.0j)
    close(gradient, 3 * (1 + 2j) ** 2)
    assert aux == "aux"


@pytest.mark.parametrize("mode", [br.jacfwd, br.jacrev, br.jacobian])
def test_jacobians_of_a_holomorphic_function_are_equal(mode):
    close(mode(f, holomorphic=True)(Z), derivative_of_f(Z))
    close(mode(br.grad(f, holomorphic=True), holomorphic=True)(Z), br.hessian(f, holomorphic=True)(Z))


@pytest.mark.parametrize(
    "function",
    [
        lambda z: np.sum(np.abs(z - 0.3) ** 2),
        lambda z: np.real(np.sum((0.3 - 0.8j) * z)),
        lambda z: np.sum(z**2),
        f,
        lambda z: np.sum(np.conj(z) * z * z),
        lambda z: np.sum(np.imag(z) * z),
    ],
    ids=["distance", "real-part", "holomorphic", "composed", "conjugate", "neither"],
)
def test_otherwise_grad_ascends_the_real_part(function):
    close(br.grad(function)(Z), ascent(function, Z), rtol=1e-6, atol=1e-8)


def test_trees():
    loss = lambda p: p["a"] ** 2 * np.sum(p["b"])  # noqa: E731
    found = br.grad(loss, holomorphic=True)({"a": 2j, "b": Z})
    close(found["a"], 4j * np.sum(Z))
    close(found["b"], [-4, -4])
    mixed = br.grad(lambda p: np.real(p["a"] * p["x"]))({"a": 2 + 1j, "x": 3.0})
    close(mixed["a"], 3)
    close(mixed["x"], 2)


def test_nested():
    cube = br.grad(lambda z: z**3, holomorphic=True)
    z = 1.0 + 2.0j
    close(br.grad(cube, holomorphic=True)(z), 6 * z)
    close(br.jvp(cube, (z,), (1j,))[1], 6j * z)
    close(br.vjp(cube, z)[1](1j)[0], 6j * z)
    close(br.vmap(cube)(Z), 3 * Z**2)
    close(br.grad(lambda z: np.sum(br.vmap(cube)(z)), holomorphic=True)(Z), 6 * Z)
    close(br.grad(lambda x: np.abs(cube(x + 1j)) ** 2)(0.5), 36 * 0.5 * (0.5**2 + 1))


@pytest.mark.parametrize("transformation", [br.grad, br.value_and_grad, br.jacfwd, br.jacrev, br.jacobian, br.hessian])
def test_what_is_not_complex_is_named(transformation):
    message = r"p\['b'\] is not complex, as it must be with holomorphic=True"
    with pytest.raises(br.NonDifferentiableError, match=message):
        transformation(lambda p: p["a"] * p["b"], holomorphic=True)({"a": 1j, "b": 2.0})
    with pytest.raises(TypeError, match="n is not complex"):
        transformation(lambda n: n * 1j, holomorphic=True, allow_int=True)(3)
    with pytest.raises(br.NonDifferentiableError, match="the result is not complex, as it must be"):
        transformation(np.abs, holomorphic=True)(1j)


def test_a_complex_result_of_real_arguments_has_no_gradient():
    with pytest.raises(br.NonScalarOutputError, match="a number of dtype complex128"):
        br.grad(lambda x: x * 1j)(1.0)
    with pytest.raises(br.NonScalarOutputError, match=r"an array of shape \(2,\)"):
        br.grad(lambda z: z, holomorphic=True)(Z)
