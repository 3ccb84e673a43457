"""The text of graphs: a person reads it, and reading it back gives the same graph."""

from __future__ import annotations

import html.parser
import os
import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bindrune as br
from bindrune.compile.effects import check, guard
from bindrune.compile.staging import trace
from bindrune.core.operation import registry
from bindrune.core.stack import EMPTY, ZEROS
from bindrune.graph.dims import Dim, strided
from bindrune.graph.graph import NUMBER, PYTHON, Graph, Literal, Node, Type, Value
from bindrune.graph.pictures import to_dot, to_page
from bindrune.graph.text import parse, same, to_text
from bindrune.ops.indexing import ARRAY
from laws.samples import Sample
from random_graphs import INTEGER, call, each_operation, graphs, loop, of_sample, region

COUNT = os.environ.get("BINDRUNE_PROGRAMS")
ordinary = settings(
    max_examples=int(COUNT or 60),
    derandomize=COUNT is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

VECTOR = Type((8,), np.dtype(float))


def comes_back(graph: Graph) -> Graph:
    text = to_text(graph)
    again = parse(text)
    assert to_text(again) == text
    assert same(graph, again)
    return again


def of_literal(content: Any) -> Graph:
    return Graph([], [], [Literal(content)])


def of_param(content: Any) -> Graph:
    """A graph with one parameter of any kind."""
    x = Value(Type((), np.dtype(int), PYTHON))
    return Graph([x], [Node(guard, [x], {"expected": content}, [])], [x])


# ------------------------------------------------------------------------------------------------------ what it is like


def test_the_text_of_a_loop():
    x, y = Value(VECTOR), Value(VECTOR)
    step, carry, held = Value(INTEGER), Value(VECTOR), Value(VECTOR)
    row, new = Value(Type((), np.dtype(float), NUMBER)), Value(VECTOR)
    body = Graph(
        [step, carry, held],
        [
            Node(registry["getitem"], [held, step], {"index": (ARRAY,)}, [row], "model.py:3, in f"),
            Node(registry["multiply"], [carry, row], {}, [new], "model.py:3, in f"),
        ],
        [new],
        "step",
    )
    result = Value(VECTOR)
    node = Node(loop, [Literal(8), x, y], {"body": body, "carries": 1}, [result], "model.py:2, in f")
    graph = Graph([x, y], [node], [result, Literal(0.5)], "f")
    assert to_text(graph) == (
        "f(%0: f64[8], %1: f64[8]):\n"
        "  %2: f64[8] = loop(8, %0, %1; carries=1)        # model.py:2, in f\n"
        "    body = step(%3: int, %4: f64[8], %5: f64[8]):\n"
        "      %6: f64 = getitem(%5, %3; index=(ARRAY,))  # model.py:3, in f\n"
        "      %7: f64[8] = multiply(%4, %6)              # model.py:3, in f\n"
        "      return %7\n"
        "  return %2, 0.5\n"
    )
    assert str(graph) == to_text(graph)
    comes_back(graph)


def test_large_arrays_are_abbreviated_where_a_person_reads():
    graph = of_literal(np.arange(1000.0))
    assert "f64[1000](0.0, 1.0, 2.0, ...)" in str(graph)
    assert len(str(graph)) < 100
    comes_back(graph)
    with pytest.raises(br.GraphError, match="abbreviated"):
        parse(str(graph))


def test_a_graph_that_occurs_twice_is_written_once():
    inner = region(lambda v: [np.sin(v[0])], VECTOR, name="inner")
    graph = trace(lambda v: [call(call(v[0], graph=inner)[0], graph=inner)[0]], [VECTOR])
    text = to_text(graph)
    assert text.count("inner(") == 1
    first, second = comes_back(graph).nodes
    assert first.params["graph"] is second.params["graph"]


# ---------------------------------------------------------------------------------------------------- there and back


@each_operation
def test_every_row_comes_back(samples: list[Sample]):
    for sample in samples:
        comes_back(of_sample(sample))
        comes_back(of_sample(sample, active=1))


def test_a_loop_and_the_one_that_goes_back_come_back():
    body = region(lambda v: [np.sin(v[1]) * v[2]], INTEGER, VECTOR, VECTOR)

    def f(x: Any) -> Any:
        (y,) = loop(8, x, x, body=body, carries=1, descending=False)
        return np.sum(y)

    graph = trace(lambda v: [br.grad(f)(v[0])], [VECTOR])
    assert "pop(" in to_text(graph)
    comes_back(graph)


@ordinary
@given(graphs())
def test_any_graph_comes_back(graph: Graph):
    comes_back(graph)


NUMBERS = [
    0, -3, 2**62, True, False, 0.0, -0.0, 0.1, -1e300, 5e-324, float("inf"), float("-inf"), float("nan"), 1j, -0.0 - 2j,
    complex("nan"), complex(float("-inf"), float("nan")),
    np.float32(0.1), np.float64("-inf"), np.float16(0.1), np.longdouble("0.1"), np.int8(-5), np.uint64(2**64 - 1),
    np.bool(True), np.complex64(0.1 - 0.2j), np.complex128(complex(-0.0, -0.0)), ml_dtypes.bfloat16(0.1),
    ml_dtypes.float8_e4m3fn(0.3), np.datetime64("2020-02-29"), np.timedelta64(5, "ns"), np.str_("a # b"),
    np.longlong(7),
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_a_number_comes_back_in_kind_and_bits(number: Any):
    (literal,) = comes_back(of_literal(number)).outputs
    assert isinstance(literal, Literal)
    found = literal.content
    assert np.asarray(found).tobytes() == np.asarray(number).tobytes()
    assert np.asarray(found).dtype == np.asarray(number).dtype
    assert isinstance(found, np.generic) == isinstance(number, np.generic)
    assert repr(comes_back(of_param(number)).nodes[0].params["expected"]) == repr(found)


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.1, np.inf, np.nan, -0.0]), np.array(2.5), np.arange(6).reshape(2, 3), np.zeros((0, 2)),
        np.arange(24.0).reshape(2, 3, 4), np.ones((50, 50), np.float32), np.array([1 + 2j, complex("nan")]),
        np.array([True, False]), np.arange(20, dtype=ml_dtypes.bfloat16), np.array(["a", "bc"]),
        np.array(["2020-01-01"], "M8[D]"), np.arange(3, dtype=">f8"), np.broadcast_to(1.5, (100, 100)),
        np.array([0x7FF8000000000123], np.uint64).view(float), np.zeros(3, [("float0", np.void, 0)]),
        np.array([-np.nan, -1.5]),
    ],
    ids=lambda a: f"{a.dtype}{list(a.shape)}",
)  # fmt: skip
def test_an_array_comes_back_in_kind_and_bits(array: Any):
    (literal,) = comes_back(of_literal(array)).outputs
    found = literal.content
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


PARAMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=5)
    | st.sampled_from(
        [..., ARRAY, np.dtype("f4"), np.dtype("M8[ns]"), np.float32, np.bool, float, int, np.float64(0.5)]
    )
    | st.sampled_from([Type((3,), np.dtype("f4")), Type((), np.dtype(int), PYTHON), EMPTY, ZEROS])
    | st.sampled_from([slice(None), slice(1, None), slice(None, None, -2), slice(0, 5, 3), slice(None, -1)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=2)
    ),
    max_leaves=6,
)


@ordinary
@given(PARAMS)
def test_any_parameter_comes_back(content: Any):
    again = comes_back(of_param(content)).nodes[0].params["expected"]
    assert repr(again) == repr(content)


def test_lengths_come_back():
    n, x, y = Value(INTEGER), Value(VECTOR), Value(INTEGER)
    lengths = [Dim({n: 1}, 0), Dim({n: -1}, 5), Dim({n: 2, y: -3}, -1), Dim({y: -1, n: 1}, 0), Dim({n: 1}, 1)]
    made = Value(Type((lengths[4], lengths[1]), np.dtype(float)))
    node = Node(
        registry["getitem"], [x], {"index": (slice(lengths[0], lengths[2], lengths[3]), tuple(lengths))}, [made]
    )
    graph = Graph([n, y, x], [node], [made])
    assert "index=(%0:2*%0-3*%1-1:%0-%1, (%0, -%0+5, 2*%0-3*%1-1, %0-%1, %0+1))" in to_text(graph)
    assert "%3: f64[%0+1,-%0+5] = " in to_text(graph)
    comes_back(graph)


def test_slices_by_steps_come_back():
    n, x, y = Value(INTEGER), Value(VECTOR), Value(INTEGER)
    count = Dim({y: 1}, 0)
    made = Value(Type((count, 3), np.dtype(float)))
    index = (strided(Dim({n: -1}, 2), count, Dim({n: 2, y: -1}, 0)), strided(4, 3, Dim({n: 1}, 0)), strided(4, 3, -2))
    graph = Graph([n, y, x], [Node(registry["getitem"], [x], {"index": index}, [made])], [made])
    assert "index=(strided(-%0+2, %1, 2*%0-%1), strided(4, 3, %0), 4::-2)" in to_text(graph)
    comes_back(graph)


def test_lengths_of_which_the_program_says_nothing():
    anything = Value(INTEGER)
    x = Value(Type((Dim({anything: 1}, 0), Dim({anything: 2}, 1)), np.dtype(float)))
    graph = Graph([x], [], [x])
    assert "%0: f64[?0,2*?0+1]" in to_text(graph)
    comes_back(graph)


def test_a_literal_before_parameters_comes_back():
    for number in (0, -2.5, True, None):
        x, y = Value(VECTOR), Value(VECTOR)
        node = Node(registry["setitem"], [x, Literal(0.5), Literal(number)], {"index": (ARRAY,)}, [y])
        comes_back(Graph([x], [node], [y]))


def test_lines_come_back():
    x = Value(VECTOR)
    graph = Graph([x], [Node(guard, [x], {"expected": "#"}, [], "a b.py:3, in <lambda>")], [x], "<lambda>")
    assert comes_back(graph).nodes[0].line == "a b.py:3, in <lambda>"


# -------------------------------------------------------------------------------------------------------- differences


def test_same_looks_past_names_and_lines():
    def one(v: Any) -> Any:
        return [np.sin(v[0]) * 2.0]

    assert same(trace(one, [VECTOR], "one"), trace(lambda v: [np.sin(v[0]) * 2.0], [VECTOR], "other"))
    for other in (lambda v: [np.sin(v[0]) * 2], lambda v: [np.cos(v[0]) * 2.0], lambda v: [np.sin(v[0]) * -2.0]):
        assert not same(trace(one, [VECTOR]), trace(other, [VECTOR]))
    assert not same(trace(one, [VECTOR]), trace(one, [Type((7,), np.dtype(float))]))
    assert not same(of_literal(0.0), of_literal(-0.0))


def test_same_tells_objects_apart():
    error, other = ValueError("no"), ValueError("no")
    assert same(of_param(error), of_param(error))
    assert not same(of_param(error), of_param(other))


# ------------------------------------------------------------------------------------------------------------- refusals


def test_an_object_is_shown_but_not_read():
    x = Value(Type((), np.dtype(bool), NUMBER))
    graph = Graph([x], [Node(check, [x], {"error": ValueError("n > 0 is needed")}, [])], [])
    assert "check(%0; error=<ValueError('n > 0 is needed')>)" in str(graph)
    with pytest.raises(br.GraphError, match=r"line 2 .*an object of Python's"):
        parse(to_text(graph))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("main(%0: f64[3]):\n  %1: f64[3] = sine(%0)\n  return %1", "line 2 .*there is no operation 'sine'"),
        ("main(%0: f64[3]):\n  %0: f64[3] = sin(%0)\n  return %0", "line 2 .*%0 is defined twice"),
        ("main(%0: f64[3]):\n  return %1", "uses %1, which nothing defines"),
        ("main(%0: f64[3]):\n  %1: f64[3] = sin(%0)", "the text ends within a graph"),
        ("main(%0: f46[3]):\n  return %0", "'f46' is no dtype"),
        ("main(%0: f64[3]):\n  return %0\n  return %0", "line 3 .*the graph has ended before"),
        ("main(%0: f64[3]):\n  %1: f64[3] = sin(%0) !\n  return %1", "line 2 .*'!' cannot be read"),
        ("main(%0: f64[3]):\n  %1: f64[3] = sin(%0;)) \n  return %1", "unexpected '\\)'"),
        ("main(%0: f64[3]):\n  %1: f64[3] = add(%0, f64[2](1.0))\n  return %1", "no content of an array"),
        ("main(%0: f64[3]):\n  %1: f64[3] = add(%0, $0)\n  return %1", r"\$0 is not written at the end"),
        ("", "the text ends"),
    ],
)
def test_text_that_is_no_graph(text: str, problem: str):
    with pytest.raises(br.GraphError, match=problem):
        parse(text)


# ------------------------------------------------------------------------------------------------------------- pictures


class Nesting(html.parser.HTMLParser):
    """Checks that elements are closed in the order they are opened in."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert not any(name in ("src", "href") for name, _ in attrs)
        self.seen.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@ordinary
@given(graphs())
def test_pictures_of_any_graph(graph: Graph):
    nesting = Nesting()
    nesting.feed(to_page(graph))
    assert not nesting.open
    assert nesting.seen.count("tr") == graph.size()
    dot = to_dot(graph)
    defined = set(re.findall(r"^ *(n\d+) \[", dot, re.MULTILINE))
    assert {box for pair in re.findall(r"^ *(n\d+) -> (n\d+)", dot, re.MULTILINE) for box in pair} <= defined


def test_notebooks_show_a_graph():
    graph = trace(lambda v: [np.sin(v[0])], [VECTOR], "f")
    assert "<details open><summary>f(%0: f64[8]):</summary>" in graph._repr_html_()
