"""Numerical programs as people write them: NumPy, Python's control flow, writes into arrays.

Each has arguments of any size, so that staging can be seen not to depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import bindrune as br

__all__ = ["PROGRAMS", "Numerical"]


class Numerical(NamedTuple):
    """A program to be tested.

    Attributes:
        function: the program.
        arguments: makes arguments of a size.
        smooth: the arguments that it is differentiated with respect to, by position.
        tolerance: how far the staged program may be from the plain one, relatively.
        sizes: two sizes.
        rolled: whether the staged program is the same for both.
    """

    function: Callable[..., Any]
    arguments: Callable[[int], tuple[Any, ...]]
    smooth: tuple[int, ...] = ()
    tolerance: float = 0.0
    sizes: tuple[int, int] = (7, 12)
    rolled: bool = True

    def __repr__(self) -> str:
        return self.function.__name__


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(low, high, shape)


def integers(low: int, high: int, *shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(low, high, shape)


# ------------------------------------------------------------------------------------------------- roots and integrals


def bisection(c, low, high, steps):
    """The root of a cubic between two points."""

    def cubic(x):
        return x**3 + c * x - 2.0

    for _ in range(steps):
        middle = 0.5 * (low + high)
        if high - low < 1e-13:
            break
        if cubic(low) * cubic(middle) <= 0:
            high = middle
        else:
            low = middle
    return 0.5 * (low + high)


def newton(a, tolerance):
    """A cube root, and how many steps it took."""
    x = max(a, 1.0)
    steps = 0
    while abs(x**3 - a) > tolerance * abs(a):
        x = x - (x**3 - a) / (3 * x**2)
        steps += 1
    return x, steps


def adaptive_runge_kutta(y, end, tolerance):
    """Heun's method with step control, for a damped pendulum."""

    def slope(y):
        return np.array([y[1], -np.sin(y[0]) - 0.1 * y[1]])

    t, h, rejected = 0.0, 0.1, 0
    while t < end:
        h = min(h, end - t)
        first = slope(y)
        euler = y + h * first
        heun = y + 0.5 * h * (first + slope(euler))
        error = np.max(np.abs(heun - euler))
        if error <= tolerance:
            t = t + h
            y = heun
        else:
            rejected += 1
        h = 0.9 * h * min(2.0, max(0.3, np.sqrt(tolerance / (error + 1e-30))))
    return y


def lorenz(state, steps, h):
    """The classical Runge-Kutta method on Lorenz's equations: the whole path."""
    sigma, rho, beta = 10.0, 28.0, 8.0 / 3.0

    def slope(s):
        x, y, z = s
        return np.array([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])

    path = np.zeros((steps, 3))
    for i in range(steps):
        k1 = slope(state)
        k2 = slope(state + 0.5 * h * k1)
        k3 = slope(state + 0.5 * h * k2)
        k4 = slope(state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path[i] = state
    return path


def n_body(positions, velocities, masses, steps):
    """Bodies that attract each other, by the leapfrog method."""
    n = len(masses)
    positions, velocities = positions.copy(), velocities.copy()
    for _ in range(steps):
        for i in range(n):
            for j in range(n):
                if i != j:
                    d = positions[j] - positions[i]
                    velocities[i] += 0.01 * masses[j] * d / (np.sum(d * d) + 0.1) ** 1.5
        positions += 0.01 * velocities
    return positions, velocities


# ------------------------------------------------------------------------------------------------------ linear algebra


def thomas(lower, diagonal, upper, right):
    """A system with three diagonals."""
    n = len(right)
    c, d = np.zeros(n), np.zeros(n)
    c[0] = upper[0] / diagonal[0]
    d[0] = right[0] / diagonal[0]
    for i in range(1, n):
        pivot = diagonal[i] - lower[i] * c[i - 1]
        c[i] = upper[i] / pivot
        d[i] = (right[i] - lower[i] * d[i - 1]) / pivot
    x = np.zeros(n)
    x[-1] = d[-1]
    for i in range(n - 2, -1, -1):
        x[i] = d[i] - c[i] * x[i + 1]
    return x


def lu_with_pivoting(a):
    """LU in place with rows exchanged, and the order of the rows."""
    a = a.copy()
    n = len(a)
    order = np.arange(n)
    for k in range(n - 1):
        pivot = k + np.argmax(np.abs(a[k:, k]))
        if pivot != k:
            a[[k, pivot]] = a[[pivot, k]]
            order[[k, pivot]] = order[[pivot, k]]
        for i in range(k + 1, n):
            a[i, k] /= a[k, k]
            for j in range(k + 1, n):
                a[i, j] -= a[i, k] * a[k, j]
    return a, order


def cholesky(a):
    """A Cholesky factor by columns."""
    n = a.shape[0]
    factor = np.zeros_like(a)
    for j in range(n):
        pivot = np.sqrt(a[j, j] - factor[j, :j] @ factor[j, :j])
        factor[j, j] = pivot
        factor[j + 1 :, j] = (a[j + 1 :, j] - factor[j + 1 :, :j] @ factor[j, :j]) / pivot
    return factor


def gauss_seidel(a, b, sweeps):
    """Sweeps that use each new component at once."""
    x = np.zeros_like(b)
    for _ in range(sweeps):
        for i in range(len(b)):
            x[i] = (b[i] - a[i, :i] @ x[:i] - a[i, i + 1 :] @ x[i + 1 :]) / a[i, i]
    return x


def conjugate_gradients(a, b, tolerance):
    """A symmetric system."""
    x = np.zeros_like(b)
    residual = b - a @ x
    direction = residual
    size = residual @ residual
    while size > tolerance:
        image = a @ direction
        step = size / (direction @ image)
        x = x + step * direction
        residual = residual - step * image
        before, size = size, residual @ residual
        direction = residual + size / before * direction
    return x


def jacobi_stencil(u, steps):
    """Heat on a plate, in two buffers that change places."""
    u = u.copy()
    v = u.copy()
    rows, columns = u.shape
    for _ in range(steps):
        for i in range(1, rows - 1):
            for j in range(1, columns - 1):
                v[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])
        u, v = v, u
    return u


def sparse_product(values, columns, starts, x):
    """A matrix in compressed rows times a vector; rows have lengths of their own."""
    n = len(starts) - 1
    y = np.zeros(n)
    for i in range(n):
        row = slice(starts[i], starts[i + 1])
        y[i] = np.sum(values[row] * x[columns[row]])
    return y


def page_rank(links, damping, tolerance):
    """The stationary distribution of a surfer."""
    n = len(links)
    transition = links / np.sum(links, axis=0)
    rank = np.full(n, 1.0 / n)
    change = 1.0
    while change > tolerance:
        new = damping * transition @ rank + (1 - damping) / n
        change = np.sum(np.abs(new - rank))
        rank = new
    return rank


# -------------------------------------------------------------------------------------------------- dynamic programming


def floyd_warshall(distances):
    """The shortest ways between all pairs."""
    d = distances.copy()
    n = len(d)
    for k in range(n):
        for i in range(n):
            for j in range(n):
                if d[i, k] + d[k, j] < d[i, j]:
                    d[i, j] = d[i, k] + d[k, j]
    return d


def levenshtein(a, b):
    """How many edits make one word of another."""
    m, n = len(a), len(b)
    cost = np.zeros((m + 1, n + 1), dtype=int)
    for i in range(m + 1):
        cost[i, 0] = i
    for j in range(n + 1):
        cost[0, j] = j
    for i in range(1, m + 1):
        for j in range(1, n + 1):
            same = 0 if a[i - 1] == b[j - 1] else 1
            cost[i, j] = min(cost[i - 1, j] + 1, cost[i, j - 1] + 1, cost[i - 1, j - 1] + same)
    return cost[m, n]


def alignment(scores, gap):
    """The best score of an alignment, by the recurrence of Needleman and Wunsch."""
    m, n = scores.shape
    best = np.zeros((m + 1, n + 1))
    for i in range(m + 1):
        best[i, 0] = -gap * i
    for j in range(n + 1):
        best[0, j] = -gap * j
    for i in range(1, m + 1):
        for j in range(1, n + 1):
            take = best[i - 1, j - 1] + scores[i - 1, j - 1]
            skip = max(best[i - 1, j], best[i, j - 1]) - gap
            best[i, j] = take if take > skip else skip
    return best[m, n]


def viterbi(start, transition, emission, seen):
    """The likeliest path of a hidden chain, and its score."""
    steps, states = len(seen), len(start)
    score = start + emission[:, seen[0]]
    back = np.zeros((steps, states), dtype=int)
    for t in range(1, steps):
        ways = score[:, None] + transition
        back[t] = np.argmax(ways, axis=0)
        score = np.max(ways, axis=0) + emission[:, seen[t]]
    path = np.zeros(steps, dtype=int)
    path[-1] = np.argmax(score)
    for t in range(steps - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    return path, np.max(score)


def matrix_chain(sizes):
    """The fewest multiplications for a chain of matrix products."""
    n = len(sizes) - 1
    cost = np.zeros((n, n))
    for length in range(2, n + 1):
        for i in range(n - length + 1):
            j = i + length - 1
            best = np.inf
            for k in range(i, j):
                here = cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1]
                if here < best:
                    best = here
            cost[i, j] = best
    return cost[0, n - 1]


def knapsack(weights, values, capacity):
    """The best load, in one row that is filled from behind."""
    best = np.zeros(capacity + 1)
    for i in range(len(weights)):
        for room in range(capacity, weights[i] - 1, -1):
            best[room] = max(best[room], best[room - weights[i]] + values[i])
    return best[capacity]


# ------------------------------------------------------------------------------------------------ sorting and searching


def quicksort(x):
    """In place, with a stack of ranges."""
    x = x.copy()
    n = len(x)
    stack = np.zeros((n + 1, 2), dtype=int)
    stack[0] = 0, n - 1
    top = 1
    while top > 0:
        top -= 1
        low, high = stack[top]
        if low >= high:
            continue
        pivot = x[high]
        i = low
        for j in range(low, high):
            if x[j] < pivot:
                x[i], x[j] = x[j], x[i]
                i += 1
        x[i], x[high] = x[high], x[i]
        stack[top] = low, i - 1
        stack[top + 1] = i + 1, high
        top += 2
    return x


def mergesort(x):
    """From below, in two buffers that change places."""
    n = len(x)
    source, target = x.copy(), np.zeros_like(x)
    width = 1
    while width < n:
        for low in range(0, n, 2 * width):
            middle, high = min(low + width, n), min(low + 2 * width, n)
            i, j = low, middle
            for k in range(low, high):
                if i < middle and (j >= high or source[i] <= source[j]):
                    target[k] = source[i]
                    i += 1
                else:
                    target[k] = source[j]
                    j += 1
        source, target = target, source
        width *= 2
    return source


def queens(n):
    """In how many ways queens can stand on a board and leave each other alone."""
    column = np.zeros(n, dtype=int)
    row, found = 0, 0
    column[0] = -1
    while row >= 0:
        column[row] += 1
        if column[row] == n:
            row -= 1
            continue
        free = True
        for above in range(row):
            if column[above] == column[row] or abs(column[above] - column[row]) == row - above:
                free = False
                break
        if free:
            if row == n - 1:
                found += 1
            else:
                row += 1
                column[row] = -1
    return found


# ---------------------------------------------------------------------------------------------- statistics and learning


def kalman(seen, model, view, process, noise_of_view):
    """What a filter makes of measurements."""
    steps = len(seen)
    n = len(model)
    state, spread = np.zeros(n), np.eye(n)
    means = np.zeros((steps, n))
    for t in range(steps):
        state = model @ state
        spread = model @ spread @ model.T + process
        surprise = seen[t] - view @ state
        gain = spread @ view.T @ np.linalg.inv(view @ spread @ view.T + noise_of_view)
        state = state + gain @ surprise
        spread = spread - gain @ view @ spread
        means[t] = state
    return means


def metropolis(key, start, width, steps):
    """A walk whose places are distributed like a double well, and how often it moved."""

    def log_density(x):
        return -((x * x - 1.0) ** 2)

    x = start
    moved = 0
    path = np.zeros(steps)
    for i in range(steps):
        key, step, decision = br.random.split(key, 3)
        proposal = x + width * br.random.normal(step)
        if np.log(br.random.uniform(decision)) < log_density(proposal) - log_density(x):
            x = proposal
            moved += 1
        path[i] = x
    return path, moved


def k_means(points, centers, most):
    """Centers of clusters, until they rest."""
    centers = centers.copy()
    n, k = len(points), len(centers)
    labels = np.zeros(n, dtype=int)
    for _ in range(most):
        for i in range(n):
            labels[i] = np.argmin(np.sum((points[i] - centers) ** 2, axis=1))
        sums, counts = np.zeros_like(centers), np.zeros(k)
        for i in range(n):
            sums[labels[i]] += points[i]
            counts[labels[i]] += 1
        new = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centers)
        if np.all(new == centers):
            break
        centers = new
    return centers, labels


def tanh_network(inputs, state, recurrent, inward):
    """A recurrent network: the states, one after the other."""
    states = []
    for x in inputs:
        state = np.tanh(recurrent @ state + inward @ x)
        states.append(state)
    return np.stack(states)


def lstm(inputs, weights, bias):
    """A long short-term memory: its last output."""
    size = len(bias) // 4
    h, c = np.zeros(size), np.zeros(size)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for x in inputs:
        gates = weights @ np.concatenate([h, x]) + bias
        i, f, o = (sigmoid(gates[k * size : (k + 1) * size]) for k in range(3))
        c = f * c + i * np.tanh(gates[3 * size :])
        h = o * np.tanh(c)
    return h


# ------------------------------------------------------------------------------------------------- pictures and prices


def mandelbrot(real, imaginary, most):
    """After how many steps each point is gone."""
    counts = np.zeros((len(imaginary), len(real)), dtype=int)
    for i in range(len(imaginary)):
        for j in range(len(real)):
            c = complex(real[j], imaginary[i])
            z, n = 0j, 0
            while n < most and abs(z) <= 2.0:
                z = z * z + c
                n += 1
            counts[i, j] = n
    return counts


def life(board, steps):
    """Conway's game on a torus."""
    rows, columns = board.shape
    for _ in range(steps):
        new = np.zeros_like(board)
        for i in range(rows):
            for j in range(columns):
                alive = 0
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        if di != 0 or dj != 0:
                            alive += board[(i + di) % rows, (j + dj) % columns]
                if alive == 3 or (alive == 2 and board[i, j] == 1):
                    new[i, j] = 1
        board = new
    return board


def black_scholes(spot, strikes, volatility, rate, years):
    """Prices of calls."""
    prices = np.zeros_like(strikes)
    for i in range(len(strikes)):
        width = volatility * math.sqrt(years)
        d1 = (math.log(spot / strikes[i]) + (rate + 0.5 * volatility**2) * years) / width
        d2 = d1 - width
        first = 0.5 * (1 + math.erf(d1 / math.sqrt(2)))
        second = 0.5 * (1 + math.erf(d2 / math.sqrt(2)))
        prices[i] = spot * first - strikes[i] * math.exp(-rate * years) * second
    return prices


def american_put(spot, strike, rate, volatility, steps):
    """A price by a tree, from its leaves to its root."""
    h = 1.0 / steps
    up = np.exp(volatility * np.sqrt(h))
    chance = (np.exp(rate * h) - 1 / up) / (up - 1 / up)
    values = np.zeros(steps + 1)
    for i in range(steps + 1):
        values[i] = max(strike - spot * up ** (2.0 * i - steps), 0.0)
    for n in range(steps - 1, -1, -1):
        for i in range(n + 1):
            wait = np.exp(-rate * h) * (chance * values[i + 1] + (1 - chance) * values[i])
            values[i] = max(wait, strike - spot * up ** (2.0 * i - n))
    return values[0]


# ------------------------------------------------------------------------------------------------------------ the table


def positive(n: int, seed: int = 0) -> Any:
    """A symmetric matrix with positive eigenvalues."""
    a = noise(n, n, seed=seed)
    return a @ a.T / n + 2 * np.eye(n)


def rows_of(n: int) -> tuple[Any, ...]:
    """A sparse matrix, some of whose rows are empty."""
    lengths = integers(0, 4, n, seed=3)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    count = int(starts[-1])
    return noise(count), integers(0, n, count, seed=4), starts, noise(n, seed=5)


def chain(n: int) -> tuple[Any, ...]:
    states, kinds = 3, 4
    shapes = [(states,), (states, states), (states, kinds)]
    logs = [np.log(uniform(*shape, low=0.1, seed=i)) for i, shape in enumerate(shapes)]
    return (*logs, integers(0, kinds, n, seed=6))


def tracking(n: int) -> tuple[Any, ...]:
    model = np.array([[1.0, 0.1], [0.0, 1.0]])
    return noise(n, 1), model, np.array([[1.0, 0.0]]), 0.01 * np.eye(2), np.array([[0.1]])


def bodies(n: int) -> tuple[Any, ...]:
    return noise(n, 2), noise(n, 2, seed=1), uniform(n, low=0.5, seed=2), 3 * n


PROGRAMS = [
    Numerical(bisection, lambda n: (1.0 + 0.1 * n, 0.0, 2.0, 10 * n)),
    Numerical(newton, lambda n: (float(n), 1e-12), smooth=(0,)),
    Numerical(adaptive_runge_kutta, lambda n: (np.array([1.0, 0.1]), 0.3 * n, 1e-3), smooth=(0,)),
    Numerical(lorenz, lambda n: (np.array([1.0, 1.1, 0.9]), n, 0.02), smooth=(0,)),
    Numerical(n_body, bodies, smooth=(0, 1, 2), sizes=(5, 6)),
    Numerical(
        thomas, lambda n: (uniform(n), 3 + uniform(n, seed=1), uniform(n, seed=2), noise(n)), smooth=(0, 1, 2, 3)
    ),
    Numerical(lu_with_pivoting, lambda n: (noise(n, n),), smooth=(0,)),
    Numerical(cholesky, lambda n: (positive(n),), smooth=(0,), tolerance=1e-13),
    Numerical(gauss_seidel, lambda n: (positive(n) + 2 * np.eye(n), noise(n), n), smooth=(0, 1), tolerance=1e-13),
    Numerical(conjugate_gradients, lambda n: (positive(n), noise(n), 1e-20), smooth=(1,), tolerance=1e-12),
    Numerical(jacobi_stencil, lambda n: (noise(n, n + 1), n), smooth=(0,)),
    Numerical(sparse_product, rows_of, smooth=(0, 3)),
    Numerical(page_rank, lambda n: (uniform(n, n, low=0.1), 0.85, 1e-12), smooth=(0,), tolerance=1e-12),
    Numerical(floyd_warshall, lambda n: (uniform(n, n, low=0.1),), smooth=(0,)),
    Numerical(levenshtein, lambda n: (integers(0, 4, n), integers(0, 4, n + 2, seed=1))),
    Numerical(alignment, lambda n: (noise(n, n + 1), 0.3), smooth=(0, 1)),
    Numerical(viterbi, chain),
    Numerical(matrix_chain, lambda n: (uniform(n, low=1.0, high=5.0),), smooth=(0,)),
    Numerical(knapsack, lambda n: (integers(1, 6, n), uniform(n, seed=1), 3 * n), smooth=(1,)),
    Numerical(quicksort, lambda n: (noise(n),), smooth=(0,)),
    Numerical(mergesort, lambda n: (noise(n),), smooth=(0,), rolled=False),
    Numerical(queens, lambda n: (n,), sizes=(5, 6)),
    Numerical(kalman, tracking, smooth=(0, 1, 3), tolerance=1e-12),
    Numerical(metropolis, lambda n: (br.random.key(3), 0.5, 0.8, 3 * n)),
    Numerical(k_means, lambda n: (noise(2 * n, 2), noise(3, 2, seed=1), n)),
    Numerical(
        tanh_network,
        lambda n: (noise(n, 2), noise(3), 0.5 * noise(3, 3), noise(3, 2, seed=1)),
        smooth=(0, 1, 2, 3),
        rolled=False,
    ),
    Numerical(lstm, lambda n: (noise(n, 2), 0.5 * noise(12, 5), noise(12)), smooth=(0, 1, 2)),
    Numerical(mandelbrot, lambda n: (np.linspace(-2, 0.5, n), np.linspace(-1, 1, n + 1), 5 * n)),
    Numerical(life, lambda n: (integers(0, 2, n, n + 2), n)),
    Numerical(
        black_scholes, lambda n: (1.1, np.linspace(0.8, 1.3, n), 0.2, 0.03, 1.5), smooth=(0, 2, 3, 4), tolerance=1e-14
    ),
    Numerical(american_put, lambda n: (1.0, 1.05, 0.05, 0.3, 2 * n), smooth=(0, 1, 2, 3)),
]
