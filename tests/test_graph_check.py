"""Checking graphs: what staging builds is in order, and every kind of mistake is found and named."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import bindrune as br
from bindrune.compile.staging import trace
from bindrune.core.operation import Binary, registry
from bindrune.graph.check import check_graph
from bindrune.graph.dims import Dim
from bindrune.graph.graph import NUMBER, PYTHON, STACK_TYPE, Graph, Literal, Node, Type, Value
from bindrune.graph.inference import infer
from bindrune.graph.text import parse, to_text
from laws.samples import Sample
from random_graphs import INTEGER, branch, call, each_operation, graphs, loop, of_sample, region

COUNT = os.environ.get("BINDRUNE_PROGRAMS")
ordinary = settings(
    max_examples=int(COUNT or 60),
    derandomize=COUNT is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

FLOAT = np.dtype(float)
VECTOR, SHORT, NUMERIC = Type((8,), FLOAT), Type((7,), FLOAT), Type((), FLOAT, NUMBER)
CONDITION = Type((), np.dtype(bool), NUMBER)


def refused(graph: Graph, problem: str) -> None:
    with pytest.raises(br.GraphError, match=problem):
        check_graph(graph)


# ------------------------------------------------------------------------------------------------------------ in order


@each_operation
def test_every_row_is_in_order(samples: list[Sample]):
    for sample in samples:
        check_graph(of_sample(sample))


@ordinary
@given(graphs())
def test_any_graph_is_in_order_before_and_after_it_was_text(graph: Graph):
    check_graph(graph)
    check_graph(parse(to_text(graph)))


@pytest.mark.parametrize("transform", [br.grad, br.hessian, lambda f: lambda x: br.jvp(f, (x,), (x,))[1]])
def test_derivatives_are_in_order(transform: Callable[..., Any]):
    then, otherwise = (region(lambda v, f=f: [f(v[0]) * v[1]], VECTOR, VECTOR) for f in (np.sin, np.exp))

    def f(x: Any) -> Any:
        (y,) = branch(np.any(x > 1.0), x, x, then=then, otherwise=otherwise)
        (y,) = call(y, graph=region(lambda v: [np.sum(np.tanh(v[0]))], VECTOR))
        return y

    check_graph(trace(lambda v: [transform(f)(v[0])], [VECTOR]))


def test_a_loop_and_the_one_that_goes_back_are_in_order():
    body = region(lambda v: [np.sin(v[1]) * v[2]], INTEGER, VECTOR, VECTOR)

    def f(x: Any) -> Any:
        (y,) = loop(8, x, x, body=body, carries=1, descending=False)
        return np.sum(y)

    check_graph(trace(lambda v: [br.grad(f)(v[0])], [VECTOR]))


def test_lengths_that_are_not_known():
    def body(v: Sequence[Any]) -> list[Any]:
        step, total, x = v
        return [total + np.sum(x[:step] * x[:step])]

    stepped = region(body, INTEGER, NUMERIC, VECTOR)
    check_graph(trace(lambda v: [*loop(8, v[0], v[1], body=stepped, carries=1, descending=False)], [NUMERIC, VECTOR]))


def test_lengths_of_an_input_that_belong_to_nothing():
    anything = Value(INTEGER)
    x = Value(Type((Dim({anything: 1}, 0),), FLOAT))
    y = Value(x.type)
    check_graph(Graph([x], [Node(registry["sin"], [x], {}, [y])], [y]))


# ------------------------------------------------------------------------------------------------------ names and order


def chain() -> tuple[list[Value], list[Node]]:
    """x; y = sin(x); z = cos(y)."""
    values = [Value(VECTOR) for _ in range(3)]
    x, y, z = values
    return values, [
        Node(registry["sin"], [x], {}, [y], "a.py:1, in f"),
        Node(registry["cos"], [y], {}, [z], "a.py:2, in f"),
    ]


def test_a_value_used_before_it_is_defined():
    (x, _, z), (first, second) = chain()
    refused(
        Graph([x], [second, first], [z], "f"),
        r"graph f: %2 is used before it is defined\n    %1: f64\[8\] = cos\(%2\)  # a.py:2, in f",
    )


def test_a_value_defined_twice():
    (x, _, z), nodes = chain()
    refused(Graph([x], [*nodes, nodes[0]], [z]), r"%1 is defined twice\n .* = sin\(%0\)  # a.py:1")
    refused(Graph([x, x], nodes, [z]), "%0 is defined twice")


def test_a_value_defined_nowhere():
    (x, y, z), nodes = chain()
    refused(Graph([x], nodes[1:], [z]), r"\?0 is used and defined nowhere\n .* = cos\(\?0\)")
    refused(Graph([x], [], [y]), "graph main: .0 is used and defined nowhere")
    refused(Graph([], nodes, [z]), "defined nowhere")


def test_a_literal_that_is_defined():
    refused(Graph([Literal(1.0)], [], []), "a literal stands where a value is defined")


def test_a_region_that_uses_values_of_the_graph_around():
    x, y, inner, out = (Value(VECTOR) for _ in range(4))
    side = Graph([inner], [Node(registry["add"], [inner, x], {}, [out])], [out], "side")
    node = Node(call, [x], {"graph": side}, [y], "a.py:3, in f")
    refused(Graph([x], [node], [y], "f"), r"graph f / call / graph: %0 belongs to the graph around; a region sees only")


def test_a_length_made_of_a_value_that_is_not_there():
    n, x, y = Value(INTEGER), Value(VECTOR), Value(Type((Dim({Value(INTEGER): 1}, 0),), FLOAT))
    node = Node(registry["getitem"], [x], {"index": (slice(0, Dim({n: 1}, 0)),)}, [y])
    refused(Graph([x], [node], [y]), "is used and defined nowhere")
    refused(Graph([n, x], [node], [y]), "is used and defined nowhere")


# --------------------------------------------------------------------------------------------------------------- types


def test_a_result_of_another_type():
    x = Value(VECTOR)
    for found in (SHORT, Type((8,), np.dtype("f4")), NUMERIC, Type((8, 1), FLOAT)):
        y = Value(found)
        refused(Graph([x], [Node(registry["sin"], [x], {}, [y])], [y]), r"result 0 has the type .* gives f64\[8\]")


def test_too_many_results():
    x, y, z = (Value(VECTOR) for _ in range(3))
    refused(Graph([x], [Node(registry["sin"], [x], {}, [y, z])], [y]), "there are 2 results, the operation gives 1")


def test_operands_of_another_number():
    x, y = Value(VECTOR), Value(VECTOR)
    refused(Graph([x], [Node(registry["add"], [x], {}, [y])], [y]), r"add takes the operands \(a b\), and is given 1")
    refused(
        Graph([x], [Node(registry["setitem"], [x], {"index": (0,)}, [y])], [y]), r"\(x v \*arrays\), and is given 1"
    )


def test_operands_that_do_not_fit():
    x, z, y = Value(VECTOR), Value(SHORT), Value(VECTOR)
    refused(Graph([x, z], [Node(registry["add"], [x, z], {}, [y])], [y]), "add cannot be performed .*ValueError")
    write = Node(registry["setitem"], [x, z], {"index": (slice(0, 3),)}, [y])
    refused(Graph([x, z], [write], [y]), r"setitem cannot be performed .*could not broadcast")


def test_a_number_with_dimensions():
    refused(Graph([Value(Type((3,), FLOAT, NUMBER))], [], []), "%0 is a number, and has dimensions")


# -------------------------------------------------------------------------------------------------------- control flow


def of_control(name: str, operands: Sequence[Type], results: Sequence[Type], **params: Any) -> Graph:
    given, made = [Value(t) for t in operands], [Value(t) for t in results]
    return Graph(given, [Node(registry[name], given, params, made, "a.py:7, in f")], made)


def straight(inputs: Sequence[Type], outputs: Sequence[int]) -> Graph:
    """A graph that gives some of its inputs."""
    values = [Value(t) for t in inputs]
    return Graph(values, [], [values[i] for i in outputs])


LOOP = straight([INTEGER, VECTOR, SHORT], [1])
WHILE = straight([CONDITION, VECTOR], [0, 0, 1])


@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        (of_control("loop", [INTEGER, VECTOR, SHORT], [VECTOR], body=LOOP, carries=1), ""),
        (of_control("loop", [INTEGER, VECTOR, SHORT], [VECTOR], carries=1), "loop has no region 'body'"),
        (of_control("loop", [INTEGER, VECTOR, SHORT], [VECTOR], body=LOOP), "'carries' is None"),
        (of_control("loop", [INTEGER, VECTOR, SHORT], [VECTOR], body=LOOP, carries=3), "'carries' is 3, .* 2 values"),
        (
            of_control("loop", [VECTOR, VECTOR, SHORT], [VECTOR], body=LOOP, carries=1),
            "number of its steps, an integer",
        ),
        (of_control("loop", [INTEGER, VECTOR], [VECTOR], body=LOOP, carries=1), "there are 1 values, the body takes 2"),
        (
            of_control("loop", [INTEGER, SHORT, SHORT], [VECTOR], body=LOOP, carries=1),
            r"value 0 has the type f64\[7\], the body takes f64\[8\]",
        ),
        (
            of_control("loop", [INTEGER, VECTOR, SHORT], [SHORT], body=LOOP, carries=1),
            r"result 0 has the type f64\[7\], the loop gives f64\[8\]",
        ),
        (of_control("loop", [INTEGER, VECTOR, SHORT], [VECTOR] * 2, body=LOOP, carries=1), "there are 2 results"),
        (
            of_control("loop", [INTEGER, VECTOR], [VECTOR], body=straight([INTEGER, VECTOR], []), carries=1),
            "the body has 0 outputs; it should have 1",
        ),
        (
            of_control("loop", [INTEGER, VECTOR], [VECTOR], body=straight([INTEGER, VECTOR], [0]), carries=1),
            r"carry 0 has the type int, .* the body takes f64\[8\]",
        ),
        (
            of_control("loop", [INTEGER, VECTOR], [VECTOR], body=straight([VECTOR, VECTOR], [1]), carries=1),
            "the first input of the body is the number of the step",
        ),
        (of_control("while_", [CONDITION, CONDITION, VECTOR], [CONDITION, VECTOR], body=WHILE, carries=2), ""),
        (
            of_control("while_", [CONDITION, CONDITION, VECTOR], [CONDITION], body=WHILE, carries=1),
            "3 outputs; .* have 2",
        ),
        (
            of_control("while_", [VECTOR, CONDITION, VECTOR], [CONDITION, VECTOR], body=WHILE, carries=2),
            "whether to begin, and has no dimensions",
        ),
        (
            of_control("while_", [CONDITION, VECTOR], [VECTOR], body=straight([VECTOR], [0, 0]), carries=1),
            "whether to go on, and has no dimensions",
        ),
        (of_control("branch", [CONDITION, VECTOR], [], then=straight([VECTOR], [])), "no region 'otherwise'"),
        (
            of_control("branch", [VECTOR], [], then=straight([], []), otherwise=straight([], [])),
            "condition, which has no dimensions",
        ),
        (
            of_control("branch", [CONDITION, VECTOR], [], then=straight([VECTOR], []), otherwise=straight([], [])),
            "there are 1 values, the side 'otherwise' takes 0",
        ),
        (
            of_control(
                "branch",
                [CONDITION, VECTOR, SHORT],
                [VECTOR],
                then=straight([VECTOR, SHORT], [0]),
                otherwise=straight([VECTOR, SHORT], [1]),
            ),
            r"output 0 has the type f64\[8\], and on the side 'otherwise' f64\[7\]",
        ),
        (of_control("push", [STACK_TYPE, VECTOR], [STACK_TYPE]), ""),
        (of_control("push", [VECTOR, VECTOR], [STACK_TYPE]), "push takes a stack and a value"),
        (of_control("pop", [STACK_TYPE], [STACK_TYPE, VECTOR], type=VECTOR), ""),
        (of_control("pop", [STACK_TYPE], [STACK_TYPE, VECTOR]), "the parameter 'type' of pop"),
        (of_control("pop", [STACK_TYPE], [STACK_TYPE, SHORT], type=VECTOR), "result 1 has the type"),
        (of_control("call", [VECTOR], [VECTOR], graph=straight([VECTOR], [0])), ""),
        (of_control("call", [VECTOR], [VECTOR]), "call has no region 'graph'"),
        (of_control("call", [VECTOR], [SHORT], graph=straight([VECTOR], [0])), "result 0 has the type"),
        (of_control("call", [SHORT], [VECTOR], graph=straight([VECTOR], [0])), "operand 0 has the type"),
    ],
)
def test_control_flow(graph: Graph, problem: str):
    if problem:
        refused(graph, problem)
    else:
        check_graph(graph)


# ----------------------------------------------------------------------------------------------------- seeded mistakes


def all_graphs(graph: Graph) -> list[Graph]:
    """A graph and its regions."""
    return [graph, *(g for node in graph.nodes for inner in node.regions.values() for g in all_graphs(inner))]


def with_nodes(graph: Graph, target: Graph, nodes: Sequence[Node]) -> Graph:
    """A graph in which one of its graphs has other nodes."""
    if graph is target:
        return Graph(graph.inputs, nodes, graph.outputs, graph.name)
    rebuilt = []
    for node in graph.nodes:
        regions = {name: with_nodes(region, target, nodes) for name, region in node.regions.items()}
        rebuilt.append(Node(node.op, node.operands, {**node.params, **regions}, node.results, node.line))
    return Graph(graph.inputs, rebuilt, graph.outputs, graph.name)


def used(graph: Graph) -> set[Value]:
    return {v for node in graph.nodes for v in node.uses} | set(graph.outputs)


@ordinary
@given(graphs(), st.data())
def test_a_missing_node_is_found(graph: Graph, data: st.DataObject):
    target = data.draw(st.sampled_from(all_graphs(graph)))
    needed = [node for node in target.nodes if used(target) & set(node.results)]
    assume(needed)
    lost = data.draw(st.sampled_from(needed))
    refused(with_nodes(graph, target, [n for n in target.nodes if n is not lost]), "is used and defined nowhere")


@ordinary
@given(graphs(), st.data())
def test_a_node_that_comes_twice_is_found(graph: Graph, data: st.DataObject):
    target = data.draw(st.sampled_from([g for g in all_graphs(graph) if g.nodes]))
    node = data.draw(st.sampled_from(target.nodes))
    refused(with_nodes(graph, target, [*target.nodes, node]), "is defined twice")


@ordinary
@given(graphs(), st.data())
def test_a_node_out_of_order_is_found(graph: Graph, data: st.DataObject):
    target = data.draw(st.sampled_from(all_graphs(graph)))
    needed = [n for n in target.nodes if {v for m in target.nodes if m is not n for v in m.uses} & set(n.results)]
    assume(needed)
    late = data.draw(st.sampled_from(needed))
    nodes = [*(n for n in target.nodes if n is not late), late]
    refused(with_nodes(graph, target, nodes), "is used before it is defined")


@ordinary
@given(graphs(), st.data())
def test_a_result_of_another_type_is_found(graph: Graph, data: st.DataObject):
    changed = parse(to_text(graph))
    target = data.draw(st.sampled_from([g for g in all_graphs(changed) if g.nodes]))
    node = data.draw(st.sampled_from(target.nodes))
    value = data.draw(st.sampled_from(node.results))
    if value.form == PYTHON or data.draw(st.booleans()):
        value.dtype = np.dtype("i2" if value.dtype.kind == "f" else "f2")
        value.form = NUMBER if value.form == PYTHON else value.form
    else:
        value.shape, value.form = (*value.shape, 3), "array"
    refused(changed, r"(result|carry|output|value|operand) \d has the type|whether to go on|cannot be performed")


@ordinary
@given(graphs(), st.data())
def test_a_missing_operand_is_found(graph: Graph, data: st.DataObject):
    target = data.draw(st.sampled_from(all_graphs(graph)))
    pairs = [n for n in target.nodes if isinstance(n.op, Binary) or n.regions]
    assume(pairs)
    chosen = data.draw(st.sampled_from(pairs))
    short = Node(chosen.op, chosen.operands[:-1], chosen.params, chosen.results)
    nodes = [short if n is chosen else n for n in target.nodes]
    refused(with_nodes(graph, target, nodes), "and is given 1|there are \\d values|there are \\d operands|'carries' is")


def test_graphs_are_immutable():
    graph = br.make_graph(lambda x: np.sin(x) + 1)(1.0)
    for thing, name in ((graph, "nodes"), (graph, "outputs"), (graph.nodes[0], "operands"), (graph.nodes[0], "op")):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(thing, name, ())
    with pytest.raises(TypeError):
        graph.nodes[0].params["axis"] = 0


def test_types_of_products_do_not_take_the_time_of_products(monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    matmul = registry["matmul"]
    implementation = matmul.implementation

    def looked_at(*operands: Any) -> Any:
        seen.extend(np.size(x) for x in operands)
        return implementation(*operands)

    monkeypatch.setattr(matmul, "implementation", looked_at)
    a, b = Type((1, 907, 1013), np.dtype(np.float32)), Type((3, 1013, 911), np.dtype(float))
    assert infer(matmul, [a, b], {}) == (Type((3, 907, 911), np.dtype(float)),)
    assert 0 < max(seen) < 1000
    with pytest.raises(ValueError, match="size 907 is different from 911"):
        infer(matmul, [b, a], {})
