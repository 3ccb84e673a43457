"""Gradients of losses and small models, and what a few steps along them reach."""

import numpy as np

import bindrune as br
from expect import close, weigh

POINTS = np.array([0.7, -1.3, 2.1])


def log_softmax(x):
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def test_case_39_cross_entropy():
    logits = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    targets = np.eye(3)[[0, 2]]
    gradient = br.grad(lambda x: -np.sum(targets * log_softmax(x)))(logits)
    close(gradient, [[-0.69939039, 0.33222499, 0.3671654], [0.30060961, 0.33222499, -0.6328346]])


def test_case_40_binary_cross_entropy():
    targets = np.array([0.0, 1, 1, 0])

    def loss(logits):
        return np.mean(np.logaddexp(0, logits) - targets * logits)

    gradient = br.grad(loss)(np.array([-1.0, 0.5, 0.5, -1]))
    close(gradient, [0.06723536, -0.09438517, -0.09438517, 0.06723536])


def test_case_41_softmax():
    close(br.grad(lambda x: weigh(log_softmax(x)))(POINTS), [-0.07797508, 0.92177958, -0.8438045])
    close(br.grad(lambda x: np.sum(np.exp(log_softmax(x))))(POINTS), [0, 0, 0], atol=1e-15)


def test_case_42_layer_norm():
    def layer_norm(x):
        return (x - np.mean(x)) / np.sqrt(np.var(x) + 1e-5)

    close(br.grad(lambda x: weigh(layer_norm(x)))(POINTS), [-0.37554464, 0.15463527, 0.22090937])


def test_case_43_linear_layer():
    x = np.arange(12.0).reshape(4, 3)
    by_w, by_b = br.grad(lambda w, b: np.sum(x @ w + b), argnums=(0, 1))(np.zeros((3, 2)), np.zeros(2))
    close(by_w, x.T @ np.ones((4, 2)))
    close(by_b, [4, 4])


def test_case_44_gradient_descent():
    start = np.array([1.0, -2, 3])
    x = start
    for _ in range(100):
        x = x - 0.1 * br.grad(lambda x: np.sum(x**2))(x)
    close(x, 0.8**100 * start)


def test_case_45_linear_regression():
    x = np.random.default_rng(0).normal(size=(64, 3))
    y = x @ np.array([2, -1, 0.5]) + 0.3

    def loss(params):
        return np.mean((x @ params["w"] + params["b"] - y) ** 2)

    params = {"w": np.zeros(3), "b": 0.0}
    for _ in range(200):
        gradient = br.grad(loss)(params)
        params = {name: params[name] - 0.1 * gradient[name] for name in params}
    close(params["w"], [2, -1, 0.5], rtol=1e-4)
    close(params["b"], 0.3, rtol=1e-4)


def test_case_46_trajectory_of_a_perceptron():
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(8, 3)), generator.normal(size=(8, 2))
    start = [generator.normal(size=(3, 5)), generator.normal(size=(5, 2))]

    def loss(first, second):
        return np.mean((np.tanh(x @ first) @ second - y) ** 2)

    def by_hand(first, second):
        hidden = np.tanh(x @ first)
        residual = 2 * (hidden @ second - y) / y.size
        return x.T @ (residual @ second.T * (1 - hidden**2)), hidden.T @ residual

    found, expected = start, start
    for _ in range(5):
        found = [p - 0.1 * g for p, g in zip(found, br.grad(loss, argnums=(0, 1))(*found), strict=True)]
        expected = [p - 0.1 * g for p, g in zip(expected, by_hand(*expected), strict=True)]
    close(found[0], expected[0], rtol=1e-12)
    close(found[1], expected[1], rtol=1e-12)
