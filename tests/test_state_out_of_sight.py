"""State under `jit` that is in no `__dict__`: slots are followed; what moves on as it is used is left to Python."""

from __future__ import annotations

import array
import dataclasses
import io
import itertools
import random
import time
from random import gauss

import numpy as np
import pytest

import bindrune as br
from alike import alike

X = np.linspace(0.5, 2.0, 12)


class Counter:
    __slots__ = ("count", "total")

    def __init__(self, count=0, total=0.0):
        self.count, self.total = count, total

    def add(self, v):
        self.count += 1
        self.total += v * self.count


class Named(Counter):
    def __init__(self, name):
        super().__init__()
        self.name = name
        self.calls = 0


@dataclasses.dataclass(slots=True)
class Pair:
    first: float
    second: float = 0.0


def in_a_loop(x):
    counter, named, pair = Counter(), Named("a"), Pair(1.0)
    for v in x:
        counter.add(v)
        named.add(v)
        named.calls += 2
        pair.first, pair.second = pair.second + v, pair.first
    return counter.count, counter.total, named.calls, named.total, pair.first, pair.second


def on_sides(x):
    counter = Counter()
    if x[0] > 0:
        counter.count = 5
    else:
        counter.total = x[1]
    return counter.count, counter.total


@pytest.mark.parametrize("f", [in_a_loop, on_sides])
def test_slots_are_followed(f):
    g = br.jit(f)
    for x in (X, -X, 2 * X):
        found, expected = g(x), f(x)
        np.testing.assert_allclose(found, expected)
        assert [type(v) is int for v in found] == [type(v) is int for v in expected]
    assert (g.stats().stagings, g.stats().eager) == (1, 0)


def test_a_loop_over_slots_stays_a_loop():
    assert br.make_graph(in_a_loop)(X).size() == br.make_graph(in_a_loop)(X[:9]).size()
    alike(br.jit(br.grad(lambda x: in_a_loop(x)[1]))(X), br.grad(lambda x: in_a_loop(x)[1])(X))


def test_slots_of_arguments_and_results():
    def f(counter, x):
        for v in x:
            counter.add(v)
        return Counter(counter.count, counter.total), [Named("b")]

    g, mine, plain = br.jit(f), Counter(), Counter()
    for _ in range(3):
        found, expected = g(mine, X), f(plain, X)
        assert (mine.count, type(found[0])) == (plain.count, Counter)
        np.testing.assert_allclose([mine.total, found[0].total], [plain.total, expected[0].total])
        assert (found[1][0].name, found[1][0].calls, found[1][0].count) == ("b", 0, 0)


def an_iterator(x):
    steps, total = iter(range(100)), 0.0
    for v in x:
        total += v * next(steps)
    return total


def a_counter(x):
    steps, total = itertools.count(1), 0.0
    while total < 50:
        total += x[0] * next(steps)
    return total


def a_generator(x):
    squares, total = (i * i for i in range(100)), 0.0
    for v in x:
        if v > 0:
            total += v * next(squares)
    return total


def pairs(x):
    both, total = zip(x, x[::-1], strict=True), 0.0
    for v in x:
        a, b = next(both)
        total += a * b * v
    return total


def buffers(x):
    text, data, numbers = io.StringIO(), bytearray(1), array.array("d", [0.0])
    for v in x:
        text.write("x")
        data[0] += 1
        numbers[0] += 1.0
        last = v
    return len(text.getvalue()), data[0], numbers[0], last


def draws_of_its_own(x):
    source, total = random.Random(3), 0.0
    for v in x:
        total += v * source.random()
    return total


@pytest.mark.parametrize("f", [an_iterator, a_counter, a_generator, pairs, buffers, draws_of_its_own])
def test_what_moves_on_in_a_loop(f):
    g = br.jit(f)
    for x in (X, 2 * X, X):
        alike(g(x), f(x))
    assert not g.stats().eager
    assert "is used that moves on" in br.jit(f).explain(X)


SOURCE, STEPS, TEXT = random.Random(1), itertools.count(), io.StringIO()


def of_the_module(x):
    return x * random.random()


def of_a_name(x):
    return x * gauss(0, 1)


def of_a_source(x):
    return x * SOURCE.random()


def of_an_iterator(x):
    return x * next(STEPS)


def of_the_clock(x):
    return x * time.perf_counter()


@pytest.mark.parametrize("f", [of_the_module, of_a_name, of_a_source, of_an_iterator, of_the_clock])
def test_what_moves_on_outside_is_asked_at_each_call(f):
    g = br.jit(f)
    assert len({float(g(1.0)) for _ in range(5)}) == 5
    assert g.stats().eager == 5
    assert "gives something else each time it is asked" in br.jit(f).explain(1.0)


def test_a_file_outside_is_written_at_each_call():
    def f(x):
        TEXT.write("x")
        return x + 1

    g = br.jit(f)
    for _ in range(3):
        g(1.0)
    assert TEXT.getvalue() == "xxx"


def test_an_iterator_as_an_argument():
    g, steps = br.jit(lambda x, steps: x * next(steps)), iter([2.0, 3.0, 4.0])
    assert [g(1.0, steps) for _ in range(3)] == [2.0, 3.0, 4.0]
