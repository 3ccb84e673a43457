"""Which variables are live after statements, and what that lets loops do with the others."""

from __future__ import annotations

import ast

import numpy as np
import pytest

import bindrune as br
from bindrune.lift.liveness import Liveness


def after(source):
    """What is live after the first compound statement of some source."""
    body = ast.parse(source).body
    compound = next(s for s in body if isinstance(s, (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.Match)))
    return set(Liveness(body).after[id(compound)])


@pytest.mark.parametrize(
    ("source", "live"),
    [
        ("for i in r:\n    a = i\nprint(a)", {"print", "a"}),
        ("for i in r:\n    a = i\na = 1\nprint(a)", {"print"}),
        ("for i in r:\n    a = i\nif c:\n    a = 1\nprint(a)", {"print", "a", "c"}),
        ("for i in r:\n    a = i\nif c:\n    a = 1\nelse:\n    a = 2\nprint(a)", {"print", "c"}),
        ("for i in r:\n    a = i\na += 1", {"a"}),
        ("for i in r:\n    a = i\na: int\nuse(a)", {"a", "int", "use"}),
        ("for i in r:\n    a = i\na[0] = 1", {"a"}),
        ("for i in r:\n    a = i\na, b = b, 1", {"b"}),
        ("for i in r:\n    a = i\ndel a", {"a"}),
        ("for i in r:\n    a = i\nelse:\n    use(a)", {"a", "use"}),
        ("for i in r:\n    a = i\nfor a in s:\n    use(a)", {"s", "use"}),
        ("for i in r:\n    a = i\nfor j in s:\n    use(a)\n    a = 1", {"a", "s", "use"}),
        ("for i in r:\n    a = i\nwhile t:\n    a = 1\n    use(a)", {"t", "use"}),
        ("for i in r:\n    a = i\nwhile a:\n    a = 1", {"a"}),
        ("for i in r:\n    a = i\nfor j in s:\n    if j:\n        break\n    a = 1\nuse(a)", {"a", "s", "use"}),
        ("for i in r:\n    a = i\nwhile t:\n    if c:\n        continue\n    a = 1\n    use(a)", {"t", "c", "use"}),
        ("for i in r:\n    a = i\ntry:\n    a = g()\nexcept E:\n    use(a)", {"g", "E", "use", "a"}),
        ("for i in r:\n    a = i\ntry:\n    a = g()\nfinally:\n    use(a)", {"g", "use", "a"}),
        ("for i in r:\n    a = i\nwith w:\n    a = g()\nuse(a)", {"w", "g", "use", "a"}),
        ("for i in r:\n    a = i\nmatch m:\n    case 1:\n        a = 1\nuse(a)", {"m", "use", "a"}),
        ("def h():\n    return a\nfor i in r:\n    a = i\na = 1", {"a"}),
        ("for i in r:\n    a = i\n    f = lambda: a", set()),
        ("for i in r:\n    a = i\nlocals()", {"locals", "r", "i"}),
        ("if c:\n    a = 1\nreturn_ = [a for a in x]", {"a", "x"}),
        ("if c:\n    a = 1\nwhile t:\n    if (b := a):\n        pass", {"a", "t"}),
    ],
)
def test_what_is_live(source, live):
    assert after(source) == live


def test_what_is_live_when_a_step_is_over():
    (loop,) = body = ast.parse("while t:\n    use(a)\n    b = a\n    a = 1").body
    assert set(Liveness(body).repeated[id(loop)]) == {"t", "use", "a"}


def one_after_the_other(x):
    a, b = x.copy(), x.copy()
    for i in range(len(a)):
        row = a[i]
        row[1:] *= row[0]
    for i in range(len(b)):
        row = b[i]
        row[...] = np.sin(row)
    return np.sum(a * b)


def one_in_the_other(x):
    a, b = x.copy(), 0.5 * x
    for i in range(len(a)):
        row = a[i]
        row[0] += 1.0
        for j in range(i):
            row = b[j]
            row[1:] *= a[i, 1:]
        for j in range(i):
            row = a[j]
            row *= 0.5
    return np.sum(a * b)


def in_a_branch(x):
    a = x.copy()
    for i in range(len(a)):
        row = a[i]
        if row[0] > 0:
            row = a[-1]
            row[1:] += 0.1
        row = a[0]
        row[0] *= 0.9
    return np.sum(a)


def after_a_way_out(x):
    a, s = x.copy(), 0.0
    for i in range(len(a)):
        row = a[i]
        if row[0] > 2:
            break
        if row[1] < 0:
            continue
        row = a[i, ::-1]
        row[0] *= 0.9
        s += row[0]
    row = a[0]
    row[...] = s
    return np.sum(a)


@pytest.mark.parametrize("f", [one_after_the_other, one_in_the_other, in_a_branch, after_a_way_out])
@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_a_name_for_parts_of_several_arrays(f, backend):
    x, y = np.random.default_rng(0).normal(size=(2, 6, 5))
    g = br.jit(f, backend=backend)
    for z in (x, y):
        np.testing.assert_allclose(g(z), f(z), rtol=1e-12)
        np.testing.assert_allclose(br.grad(g)(z), br.grad(f)(z), rtol=1e-12)
    assert "left to Python" not in g.explain(x)
    assert g.stats().stagings == 1
    assert g.stats().guards == 0
