"""Programs with state, control flow and data structures as scientists write them, for `test_staged_programs`."""

from __future__ import annotations

import bisect
import collections
import contextlib
import copy
import dataclasses
import heapq
import itertools
import math
import string
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special as sp

import bindrune as br

__all__ = ["PROGRAMS"]

PROGRAMS: list[tuple[Callable[..., Any], list[tuple[Any, ...]]]] = []

RNG = np.random.default_rng(3)
X = RNG.normal(size=8)
M = RNG.normal(size=(4, 4))
P = np.abs(X) + 0.1


def program(*calls: tuple[Any, ...]) -> Callable[[Any], Any]:
    """A program, and arguments to call it with."""

    def register(f: Any) -> Any:
        PROGRAMS.append((f, list(calls)))
        return f

    return register


class Layer:
    def __init__(self, w, b):
        self.w, self.b = w, b

    def __call__(self, x):
        return np.tanh(x @ self.w + self.b)


class MLP:
    def __init__(self, sizes, rng):
        self.layers = [Layer(rng.normal(size=(a, b)), np.zeros(b)) for a, b in itertools.pairwise(sizes)]
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        for layer in self.layers:
            x = layer(x)
        return x


NET = MLP([4, 3, 2], np.random.default_rng(0))


@program((M,))
def network(m):
    return NET(m).sum(axis=0)


@program((X, 3), (X, 6))
def prefix_max(x, k):
    best = -math.inf
    where = None
    for i in range(k):
        if x[i] > best:
            best, where = x[i], i
    return best, where


@program((X,))
def two_pointers(x):
    y = np.sort(x)
    i, j, best = 0, len(y) - 1, math.inf
    pair = (0, 0)
    while i < j:
        s = y[i] + y[j]
        if abs(s) < best:
            best, pair = abs(s), (i, j)
        if s > 0:
            j -= 1
        elif s < 0:
            i += 1
        else:
            break
    return best, pair


@program((M,))
def power_iteration(a):
    v = np.ones(len(a))
    lam = 0.0
    for it in range(200):  # noqa: B007  (the number of steps is a result)
        w = a @ a.T @ v
        new = np.linalg.norm(w)
        v = w / new
        if abs(new - lam) < 1e-9 * new:
            break
        lam = new
    return lam, v, it


@program((1.0, 2.0, 3.0), (1.0, 2.0, 1.0), (0.0, 2.0, 1.0))
def quadratic(a, b, c):
    if a == 0:
        return (-c / b,)
    d = b * b - 4 * a * c
    if d < 0:
        return complex(-b / 2 / a, math.sqrt(-d) / 2 / a), complex(-b / 2 / a, -math.sqrt(-d) / 2 / a)
    if d == 0:
        return (-b / 2 / a,)
    return (-b + math.sqrt(d)) / 2 / a, (-b - math.sqrt(d)) / 2 / a


@program((X,))
def heap_and_bisect(x):
    h = []
    for i in range(5):
        heapq.heappush(h, (i * 3 % 5, i))
    order = [heapq.heappop(h)[1] for _ in range(5)]
    k = bisect.bisect([1, 3, 5], 4)
    return x[order], k


@program((X,))
def moving_state(x):
    queue = collections.deque(maxlen=3)
    out = []
    for v in x:
        queue.append(v)
        out.append(sum(queue) / len(queue))
    return np.array(out)


@program((X, 0.3), (X, 0.9))
def nested_closures(x, a):
    def make(decay):
        state = {"v": 0.0}

        def update(z):
            state["v"] = decay * state["v"] + (1 - decay) * z
            return state["v"]

        return update, state

    f, s1 = make(a)
    g, s2 = make(1 - a)
    for v in x:
        if f(v) > g(v):
            s2["v"] += 0.1
    return s1, s2


class Vec(typing.NamedTuple):
    x: float
    y: float

    def __add__(self, o):
        return Vec(self.x + o.x, self.y + o.y)

    def scale(self, s):
        return Vec(self.x * s, self.y * s)

    @property
    def norm(self):
        return math.hypot(self.x, self.y)


@program((1.0, 2.0), (3.0, -4.0))
def orbit(px, vy):
    pos, vel = Vec(px, 0.0), Vec(0.0, vy)
    for _ in range(20):
        r3 = pos.norm**3 + 0.1
        vel = vel + pos.scale(-0.05 / r3)
        pos = pos + vel.scale(0.05)
    return pos, vel, pos.norm


@dataclasses.dataclass
class State:
    t: float = 0.0
    y: typing.Any = None
    log: list = dataclasses.field(default_factory=list)


@program((X[:3], 0.1), (X[:3], 0.2))
def rk4(y0, h):
    s = State(y=y0.copy())

    def f(t, y):
        return np.array([y[1], -y[0] + 0.1 * t, y[0] * y[1]])

    while s.t < 1.0:
        k1 = f(s.t, s.y)
        k2 = f(s.t + h / 2, s.y + h / 2 * k1)
        k3 = f(s.t + h / 2, s.y + h / 2 * k2)
        k4 = f(s.t + h, s.y + h * k3)
        s.y = s.y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        s.t += h
    return s.y, s.t


@program((M,))
def symmetric_fill(a):
    n = len(a)
    out = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            out[i, j] = out[j, i] = a[i] @ a[j]
    out[np.diag_indices(n)] *= 2
    out[np.triu_indices(n, 1)] -= 1
    iu = np.tril_indices(n, -1)
    return out, out[iu].sum(), np.fill_diagonal(out, 0.0)


@program((X, np.array([2, 0, 1, 2, 1, 0, 2, 2])))
def group_by(x, labels):
    groups = {}
    for i in range(len(x)):
        groups.setdefault(int(labels[i]), []).append(x[i])
    return {k: sum(v) / len(v) for k, v in sorted(groups.items())}


@program((X, np.array([2, 0, 1, 2, 1, 0, 2, 2])))
def segment_sum(x, labels):
    sums = np.zeros(3)
    counts = np.zeros(3, dtype=int)
    for v, label in zip(x, labels, strict=False):
        sums[label] += v
        counts[label] += 1
    return sums / np.maximum(counts, 1), counts


@program((X,))
def ufunc_methods(x):
    a = np.add.reduce(x)
    b = np.multiply.accumulate(x)
    c = np.subtract.outer(x[:2], x[:3])
    d = np.add.reduceat(x, [0, 3, 5])
    e = np.maximum.reduce(x.reshape(2, 4), axis=0)
    out = np.empty(8)
    np.multiply(x, 2, out=out)
    np.sin(x, out=out, where=x > 0)
    return a, b, c, d, e, out


@program((X,))
def inplace_ops(x):
    x += 1
    x[2:5] *= 2
    x[::2] -= x[1::2]
    x.sort()
    x[0], x[-1] = x[-1], x[0]
    y = x
    y /= 2
    z = x[:]
    z[0] = 9.0
    x.fill(x[1])
    return y.sum(), z


@program((3, X), (0, X))
def dispatch_table(op, x):
    table = {0: np.sum, 1: np.prod, 2: np.max, 3: lambda v: v[0] - v[-1]}
    return table[op](x)


@program((X,), (np.round(X),))
def run_length(x):
    out = []
    prev = None
    n = 0
    for v in np.sign(x):
        if prev is not None and v == prev:
            n += 1
        else:
            if prev is not None:
                out.append((prev, n))
            prev, n = v, 1
    out.append((prev, n))
    return out


@program((P,))
def specials(p):
    q = p / p.sum()
    return (
        sp.rel_entr(q, 1 / 8).sum(),
        sp.digamma(p),
        sp.betaln(p[0], p[1]),
        sp.softmax(p),
        sp.log_softmax(p),
        sp.ndtr(p),
        sp.i0e(p),
        sp.gammainc(p[0], p[1]),
        sp.logit(q),
        sp.erfinv(q),
        sp.entr(q).sum(),
        sp.expit(p[0]),
    )


@program((1.5,), (2,), (np.float64(1.5),), (np.array(1.5),), (True,), (1 + 2j,))
def kinds(a):
    b = a + 1
    return (
        a,
        b,
        -a,
        abs(a),
        a * 1.0,
        np.sin(a),
        np.asarray(a),
        a.real,
        a == 1,
        (a, [a], {"a": a}),
        np.array(a).shape,
        a if b != 0 else 0,
        np.where(True, a, 0),
        np.sum(a),
        np.square(a),
        +a,
        a * np.ones(2),
    )


@program((X,))
def context(x):
    @contextlib.contextmanager
    def scaled(f):
        saved = x.copy()
        x[:] = x * f
        try:
            yield x
        finally:
            x[:] = saved

    with scaled(2.0) as y:
        s = y.sum()
    return s, x.sum()


@program((X,))
def copies(x):
    a = copy.copy(x)
    b = copy.deepcopy({"x": x, "l": [x]})
    b["l"][0][0] = 5.0
    a[1] = 7.0
    return x.sum(), a, b["x"][0], b["l"][0] is b["x"]


@program((X,))
def strings_and_sets(x):
    seen = set()
    out = ""
    for i in range(6):
        k = i % 3
        if k not in seen:
            seen.add(k)
            out += string.ascii_lowercase[k]
    return out, len(seen), x[sorted(seen)]


@program((X, True), (X, False), (X, None))
def flags(x, flag):
    if flag is None:
        return x.sum()
    return x.max() if flag else x.min()


@program((M,))
def game(m):
    b = (m > 0).astype(int)
    for _ in range(3):
        n = sum(np.roll(b, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0))
        b = ((n == 3) | ((b == 1) & (n == 2))).astype(int)
    return b, b.sum()


@program((X, 1e-3))
def finite_difference(x, h):
    def f(v):
        return np.sum(np.sin(v) * v)

    g = np.zeros_like(x)
    for i in range(len(x)):
        e = np.zeros_like(x)
        e[i] = h
        g[i] = (f(x + e) - f(x - e)) / (2 * h)
    return g


@program((X,), (X[:3],))
def recursion_arrays(x):
    def fft(v):
        n = len(v)
        if n == 1:
            return v + 0j
        e, o = fft(v[::2]), fft(v[1::2])
        m = min(len(e), len(o))
        t = np.exp(-2j * np.pi * np.arange(m) / n)
        return np.concatenate([e[:m] + t * o[:m], e[:m] - t * o[:m]])

    return np.abs(fft(x[: 2 ** int(math.log2(len(x)))]))


@program((0.5, 4), (0.25, 10))
def continued(x, n):
    r = 0.0
    for k in range(n, 0, -1):
        r = k * x / (1 + r)
    return r


@program((X, 2.0), (X, 0.5))
def kwonly(x, p):
    def norm(v, *, ord=2, keep=False, **rest):
        r = (np.abs(v) ** ord).sum() ** (1 / ord)
        return np.array([r]) if keep else r

    return norm(x, ord=p), norm(x, keep=True), norm(x, ord=3, zzz=1)


class Base:
    scale = 2.0

    def f(self, x):
        return x * self.scale

    @classmethod
    def build(cls, **k):
        o = cls()
        vars(o).update(k)
        return o

    @staticmethod
    def twice(x):
        return 2 * x


class Child(Base):
    def f(self, x):
        return super().f(x) + self.twice(self.off)


@program((X,))
def inheritance(x):
    c = Child.build(off=x[0])
    c.scale = 3.0
    return c.f(x).sum() + Base().f(x).prod()


@program((X,))
def big_table(x):
    memo = {}

    def f(i, j):
        if (i, j) in memo:
            return memo[i, j]
        if i == 0 or j == 0:
            r = x[i] + x[j]
        else:
            r = max(f(i - 1, j), f(i, j - 1)) * 0.5 + x[i] * x[j]
        memo[i, j] = r
        return r

    return f(4, 5), len(memo)


@program((X,), (-P,))
def enumerate_reversed(x):
    out = 0.0
    for i, v in reversed(list(enumerate(x))):
        if v < 0:
            continue
        out = out * 0.5 + v * i
    for a, b, c in zip(x, x[1:], x[2:], strict=False):
        out += (a - b) * c
    for i, row in enumerate(x.reshape(4, 2), start=1):
        out += i * row[0]
    return out


@dataclasses.dataclass(frozen=True)
class Cfg:
    lr: float
    steps: int
    clip: float | None = None


@program((X, Cfg(0.1, 12)), (X, Cfg(0.1, 12, 0.05)), (X, Cfg(0.1, 3)))
def descend(w, cfg):
    for _ in range(cfg.steps):
        g = 2 * w + np.cos(w)
        if cfg.clip is not None:
            n = np.linalg.norm(g)
            if n > cfg.clip:
                g = g * (cfg.clip / n)
        w = w - cfg.lr * g
    return w


class Particle:
    __slots__ = ("v", "x")

    def __init__(self, x, v):
        self.x, self.v = x, v

    def kick(self, a, dt):
        self.v += a * dt
        return self

    def drift(self, dt):
        self.x += self.v * dt
        return self


@program((1.0, 0.5), (2.0, -0.25))
def slots(x, v):
    ps = [Particle(x, v), Particle(-x, -v)]
    for _i in range(12):
        for a, b in ((0, 1), (1, 0)):
            ps[a].kick(-(ps[a].x - ps[b].x), 0.05).drift(0.05)
    return [(p.x, p.v) for p in ps]


@program((X,))
def defaultdicts(x):
    d = collections.defaultdict(float)
    c = collections.Counter()
    for i, v in enumerate(x):
        d[i % 3] += v
        c[i % 2] += 1
    return dict(d), dict(c), c.most_common(1)


@program((X,))
def list_of_states(x):
    states = [np.zeros(2) for _ in range(3)]
    for i in range(len(x)):
        for s in range(3):
            states[s][i % 2] += x[i] * (s + 1)
    states[0], states[2] = states[2], states[0]
    return states


@program((M,))
def nested_loops_break_flags(m):
    found = None
    for i, row in enumerate(m):
        for j, v in enumerate(row):
            if v > 1.0:
                found = (i, j)
                break
        if found:
            break
    return found, m[found] if found else 0.0


@program((X, 4), (X, 20))
def while_true(x, n):
    i = 0
    acc = []
    while True:
        if i >= n:
            return "n", acc
        v = x[i % len(x)]
        if v < -3:
            return "v", acc
        acc.append(v)
        i += 1
        if len(acc) > 6:
            break
    return "len", acc


@program((P,))
def prices(p):
    hold, _best, cash = -math.inf, 0.0, 0.0
    for v in p:
        hold = max(hold, cash - v)
        cash = max(cash, hold + v)
    return cash


@program((X, X[::-1].copy()))
def dtw(a, b):
    n, m = len(a), len(b)
    table = np.full((n + 1, m + 1), np.inf)
    table[0, 0] = 0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            table[i, j] = abs(a[i - 1] - b[j - 1]) + min(table[i - 1, j], table[i, j - 1], table[i - 1, j - 1])
    return table[n, m]


@program((X,))
def swap_lists(x):
    a, b = [x[0], x[1]], [x[2], x[3]]
    for _i in range(7):
        a, b = b, a
        a[0] += b[1] * 0.1
    return a, b


@program((X,))
def aliasing(x):
    a = x
    b = a[2:]
    c = b
    for i in range(len(c)):
        c[i] += a[i] * 0.5
    return a.sum(), b is c, np.shares_memory(a, b)


@program((X,))
def complex_roots(x):
    c = np.roots([1.0, -6.0, 11.0, -6.0])
    z = x[0] + 1j * x[1]
    for _ in range(8):
        z = z - (z**3 - 1) / (3 * z**2)
    return np.sort(c), z, np.abs(z) ** 2, np.angle(z), z.real


@program((X,))
def stringy(x):
    s = ""
    for i in range(3):
        s += f"{i}:{x[i]:.2f};"
    return s, s.count(";"), ",".join(str(round(float(v), 1)) for v in x[:2])


@program((X,))
def dictcomp_state(x):
    params = {"w": np.ones(3), "b": 0.0}
    for v in x:
        grads = {k: p * v for k, p in params.items()}
        params = {k: params[k] - 0.1 * grads[k] for k in params}
    return params


@program((M,))
def slicing_assign(m):
    out = np.zeros((4, 4))
    for i in range(4):
        out[i, : i + 1] = np.cumsum(m[i, : i + 1])
        out[:i, i] -= out[i, :i]
        out[i, ::2] *= 2
        out[i : i + 1, [0, 2]] += 1
    return out


@program((X,))
def argsorts(x):
    order = np.argsort(x)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(x))
    inv = x[order][::-1]
    top = [int(i) for i in order[-2:]]
    return order, ranks, inv, top, x[top].sum()


@program((X, 0.1), (X, 3.0))
def convergence(x, tol):
    prev = np.inf
    cur = np.sum(x**2)
    k = 0
    while abs(prev - cur) > tol and k < 20:
        prev, cur = cur, cur * 0.5
        k += 1
    else:
        k = -k
    return cur, k


@program((X,))
def int_state(x):
    a = np.zeros(4, np.int32)
    h = 17
    f = np.uint8(250)
    with np.errstate(all="ignore"):
        for i in range(12):
            h = (h * 31 + i) % 1000003
            a[h % 4] += 1
            f = f + np.uint8(i)
    return a, h, f, h // 7, h % -7, -h // 7, h & 255, h >> 3, h ^ 5, ~h


@program((X, "fwd"), (X, "bwd"))
def by_name(x, direction):
    it = range(len(x)) if direction == "fwd" else range(len(x) - 1, -1, -1)
    acc = 0.0
    for i in it:
        acc = acc * 0.9 + x[i]
    return acc


@program((X,))
def inner_jit(x):
    g = br.jit(lambda v, k: v * k, static_argnums=1)
    s = 0.0
    for i in range(6):
        s += g(x[i], 2)
    return s + br.grad(lambda v: np.sum(v**3))(x).sum()


@program((X,))
def vmapped_inside(x):
    def f(v):
        return v * v if v > 0 else -v

    return br.vmap(f)(x), sum(map(f, x))


@program((X, M))
def matrix_loop(x, m):
    h = x[:4]
    hs = []
    for t in range(6):
        h = np.tanh(m @ h + x[t])
        hs.append(h)
    return np.stack(hs), h @ h, np.concatenate(hs)[::5]


@program((X,))
def finally_return(x):
    out = np.zeros(2)
    try:
        out[0] = 1
        for v in x:
            if v > 0.5:
                out[1] = v
                break
        else:
            return -1.0, out
    finally:
        out *= 2
    return out.sum(), out


@program((X, None), (X, P))
def optional(x, w=None):
    w = np.ones_like(x) if w is None else w
    return (w * x).sum() / w.sum()


@program((X,))
def chained_assign(x):
    a = b = np.zeros(3)
    a[0] = x[0]
    b[1] += 2
    c = d = x[1]
    c += 1
    e, f = (g := [x[2]]), g
    e.append(1.0)
    return a, b, a is b, c, d, f, len(g)


@program((X,))
def starred(x):
    def f(*a, k=1, **kw):
        return sum(a) * k + sum(kw.values())

    args = [x[i] for i in range(3)]
    kw = {"k": 2, "z": x[3]}
    return f(*args, **kw), f(*args, *args), max(*args), [*args, *x[:2]], {**kw, "q": 1}["q"]
