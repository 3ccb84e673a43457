"""What each pass finds, and what it leaves alone; that results stay the same is asked of random graphs elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

from bindrune.compile import control, effects, loops
from bindrune.core.handler import evaluate
from bindrune.core.operation import registry
from bindrune.graph.check import check_graph
from bindrune.graph.dims import Dim
from bindrune.graph.graph import Graph, Literal, Node, Type, Value, type_of
from bindrune.graph.passes import (
    common_subexpressions,
    constant_folding,
    dead_code,
    inline_calls,
    loop_invariants,
    optimize,
)
from bindrune.ops.indexing import ARRAY
from traced import FLOAT, INTEGER, MATRIX, REAL, VECTOR, M, Program, X, agree, graph_of, loop, names, values

# ------------------------------------------------------------------------------------------------------- dead code


def test_what_nobody_needs_goes() -> None:
    def program(x: Any) -> Any:
        np.exp(np.sin(x))
        return x + 1.0

    graph = graph_of(program, VECTOR)
    changed = dead_code(graph)
    assert names(changed) == ["add"]
    assert dead_code(changed) is changed
    agree(graph, changed, X)


def test_an_effect_keeps_what_it_needs() -> None:
    def program(x: Any) -> Any:
        evaluate(effects.check, [np.all(x > -5)], {"error": ValueError("too small")})
        return x

    graph = graph_of(program, VECTOR)
    assert dead_code(graph) is graph
    with pytest.raises(ValueError, match="too small"):
        values(graph, X - 10)


def test_inputs_of_the_graph_stay() -> None:
    assert len(dead_code(graph_of(lambda x, y: np.sin(x), VECTOR, VECTOR)).inputs) == 2


def test_a_loop_keeps_the_carries_that_results_depend_on() -> None:
    def step(i: Any, a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
        return a + b * x, b * 2.0, c + d * y, np.sin(d)

    def program(x: Any, y: Any) -> Any:
        return loop(step, 3, [x, x, x, y], x, y, types=[VECTOR] * 6)[0]

    graph = graph_of(program, VECTOR, VECTOR)
    changed = dead_code(graph)
    (node,) = changed.nodes
    assert node.params["carries"] == len(node.results) == 2
    assert len(node.operands) == 4
    assert len(node.params["body"].inputs) == 4
    assert Counter(names(node.params["body"])) == Counter(["multiply", "add", "multiply"])
    agree(graph, changed, X, X)


def test_a_loop_whose_results_nobody_needs_goes() -> None:
    def program(x: Any) -> Any:
        loop(lambda i, a: np.sin(a), 3, [x], types=[VECTOR])
        return x

    assert not dead_code(graph_of(program, VECTOR)).nodes


def test_a_while_loop_keeps_what_decides_when_it_ends() -> None:
    def body(n: Any, a: Any, b: Any, x: Any) -> Any:
        return n > 1, n - 1, a + x, b * x

    def program(x: Any, n: Any) -> Any:
        region = graph_of(body, INTEGER, VECTOR, VECTOR, VECTOR)
        return loops.while_(n > 0, n, x, x, x, body=region, carries=3)[2]

    graph = graph_of(program, VECTOR, INTEGER)
    changed = dead_code(graph)
    (node,) = [n for n in changed.nodes if n.op is loops.while_]
    assert node.params["carries"] == 2
    agree(graph, changed, X, 3)


def test_a_branch_and_a_call_give_what_is_needed() -> None:
    def side(x: Any, y: Any, z: Any) -> Any:
        return np.sin(x), y * z

    def program(x: Any, y: Any, z: Any) -> Any:
        region = graph_of(side, VECTOR, VECTOR, VECTOR)
        chosen = control.branch(np.any(x > 0), x, y, z, then=region, otherwise=region)[0]
        return chosen + control.call(x, y, z, graph=region)[1]

    graph = graph_of(program, VECTOR, VECTOR, VECTOR)
    changed = dead_code(graph)
    nodes = {n.op.name: n for n in changed.nodes}
    assert [len(n.operands) for n in (nodes["branch"], nodes["call"])] == [2, 2]
    assert names(nodes["branch"].params["then"]) == ["sin"]
    agree(graph, changed, X, X, X)


# -------------------------------------------------------------------------------------------- common subexpressions


def test_what_is_computed_twice_is_computed_once() -> None:
    graph = graph_of(lambda x, y: np.sin(x * y) + np.sin(y * x) * np.cos(x * y), VECTOR, VECTOR)
    changed = dead_code(common_subexpressions(graph))
    assert Counter(names(changed)) == Counter("multiply sin cos multiply add".split())
    agree(graph, changed, X, X)


def test_writes_are_shared() -> None:
    def program(x: Any) -> Any:
        return registry["setitem"](x, 1.0, index=(0,)) + registry["setitem"](x, 1.0, index=(0,))

    graph = graph_of(program, VECTOR)
    changed = common_subexpressions(graph)
    assert names(changed) == ["setitem", "add"]
    agree(graph, changed, X)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: np.copysign(x, 0.0) + np.copysign(x, -0.0),
        lambda x: x * 1 + x * 1.0,
        lambda x: x - 2.0 * x,
        lambda x: np.sum(x, axis=0) + np.sum(x, axis=0, keepdims=True),
        lambda x: np.maximum(x, 0.5) + np.maximum(x, np.float64(0.5)),
    ],
)
def test_what_differs_is_not_shared(program: Program) -> None:
    graph = graph_of(program, VECTOR)
    assert names(common_subexpressions(graph)) == names(graph)


def test_effects_are_not_shared() -> None:
    def program(x: Any) -> Any:
        for _ in range(2):
            evaluate(effects.check, [np.all(x > -5)], {"error": ValueError("no")})
        return x

    assert names(dead_code(common_subexpressions(graph_of(program, VECTOR)))).count("check") == 2


def test_an_operand_is_handed_to_a_loop_once() -> None:
    def program(x: Any) -> Any:
        return loop(lambda i, a, b, c: a + b * c, 3, [x], x, x, types=[VECTOR] * 3)[0]

    graph = graph_of(program, VECTOR)
    changed = common_subexpressions(graph)
    assert len(changed.nodes[0].operands) == 3
    agree(graph, changed, X)


# ------------------------------------------------------------------------------------------------- constant folding


def known(program: Program, *contents: Any) -> Graph:
    """The graph of a function whose arguments are literals."""
    graph = graph_of(program, *map(type_of, contents))
    new = Graph(
        [], [Node(control.call, [Literal(c) for c in contents], {"graph": graph}, graph.outputs)], graph.outputs
    )
    return inline_calls(new)


def test_what_is_known_is_computed() -> None:
    graph = known(lambda x, n: np.sum(np.sin(x) * n), X, 3)
    changed = constant_folding(graph)
    assert not changed.nodes
    assert isinstance(changed.outputs[0], Literal)
    assert changed.outputs[0].content == np.sum(np.sin(X) * 3)
    agree(graph, changed)


@pytest.mark.parametrize(
    ("program", "contents"),
    [
        (lambda n: 1 // n, [0]),
        (lambda x: 1 / x, [np.zeros(3)]),
        (lambda x: np.log(x), [-np.ones(3)]),
        (lambda x, i: registry["getitem"](x, i, index=(ARRAY,)), [X, 9]),
        (lambda x: np.broadcast_to(x, (100, 4)), [X]),
        (lambda x: np.sin(x), [np.ones(2000)]),
    ],
)
def test_what_raises_or_warns_or_grows_is_left(program: Program, contents: Any) -> None:
    graph = known(program, *contents)
    assert len(graph.nodes) == 1
    assert constant_folding(graph) is graph


def test_a_loop_is_handed_what_is_known() -> None:
    def program(x: Any) -> Any:
        return loop(lambda i, a, b, c: a + b * c, 3, [x], 2.0, 4.0, types=[VECTOR, REAL, REAL])[0]

    graph = graph_of(program, VECTOR)
    changed = constant_folding(constant_folding(graph))
    (node,) = changed.nodes
    assert len(node.operands) == 2
    assert names(node.params["body"]) == ["add"]
    agree(graph, changed, X)


# -------------------------------------------------------------------------------------------------- loop invariants


def body_of(graph: Graph) -> Graph:
    (node,) = [n for n in graph.nodes if n.op in (loops.loop, loops.while_)]
    body: Graph = node.params["body"]
    return body


def moved(step: Program, *types: Type, count: Any = None) -> tuple[Graph, Graph]:
    """A loop over `step` of one carried vector, captured values of the types and an unknown count, before and after."""

    def program(x: Any, n: Any, *captured: Any) -> Any:
        return loop(step, n if count is None else count, [x], *captured, types=[VECTOR, *types])[0]

    graph = graph_of(program, VECTOR, INTEGER, *types)
    changed = loop_invariants(graph)
    check_graph(changed)
    return graph, changed


def test_what_is_alike_in_every_step_moves_in_front() -> None:
    graph, changed = moved(lambda i, a, x, m: a + np.sum(np.sin(m) * 2.0, axis=0) * x + i, VECTOR, MATRIX)
    assert names(changed) == ["sin", "multiply", "sum", "multiply", "loop"]
    assert names(body_of(changed)) == ["add", "add"]
    for count in (0, 1, 5):
        agree(graph, changed, X, count, X, M)
    assert changed.nodes[0].line == body_of(graph).nodes[0].line


@pytest.mark.parametrize(
    ("step", "type", "bad"),
    [
        (lambda i, a, d: a + 1 // d, INTEGER, 0),
        (lambda i, a, d: a + 1.0 / d, REAL, 0.0),
        (lambda i, a, d: a + d**0.5, REAL, 1e300),
        (lambda i, a, d: a + registry["math.log"](d), REAL, -1.0),
        (lambda i, a, d: a + registry["getitem"](a * 0 + X, d, index=(ARRAY,)), INTEGER, 99),
        (lambda i, a, d: a + registry["getitem"](d, d, index=(ARRAY,)), Type((4,), np.dtype(int)), np.full(4, 99)),
        (lambda i, a, d: a + 2 ** (d - 3), Type((4,), np.dtype(int)), np.zeros(4, int)),
        (lambda i, a, d: a + np.linalg.inv(d)[0, 0], Type((2, 2), FLOAT), np.zeros((2, 2))),
    ],
)
def test_a_loop_without_steps_stays_harmless(step: Program, type: Type, bad: Any) -> None:
    graph, changed = moved(step, type)
    agree(graph, changed, X, 0, bad)


def test_where_a_step_is_certain_everything_moves() -> None:
    graph, changed = moved(lambda i, a, d: a + 1 // d, INTEGER, count=3)
    assert len(body_of(changed).nodes) == 1
    agree(graph, changed, X, 0, 2)
    with pytest.raises(ZeroDivisionError):
        values(changed, X, 0, 0)


def test_effects_stay_and_keep_the_order() -> None:
    def step(i: Any, a: Any, d: Any) -> Any:
        evaluate(effects.check, [d > 0], {"error": ValueError("not positive")})
        return a + 1 // d

    _, changed = moved(step, INTEGER, count=3)
    assert "python.floor_divide" in names(body_of(changed))
    with pytest.raises(ValueError, match="not positive"):
        values(changed, X, 0, 0)


def test_a_carry_that_never_changes_is_handed_over() -> None:
    def program(x: Any, y: Any, n: Any) -> Any:
        return loop(lambda i, a, b, c: (a + np.sin(b) * c, b), n, [x, y], x, types=[VECTOR] * 3)

    graph = graph_of(program, VECTOR, VECTOR, INTEGER)
    changed = loop_invariants(graph)
    assert names(changed) == ["sin", "multiply", "loop"]
    assert changed.nodes[-1].params["carries"] == 1
    assert changed.outputs[1] is changed.inputs[1]
    for count in (0, 3):
        agree(graph, changed, X, X[::-1], count)


def test_out_of_nested_loops() -> None:
    def inner(j: Any, a: Any, x: Any) -> Any:
        return a + np.exp(x)

    def outer(i: Any, a: Any, x: Any) -> Any:
        return loop(inner, i, [a], x, types=[VECTOR, VECTOR])[0]

    graph, changed = moved(outer, VECTOR)
    assert names(changed)[0] == "exp"
    agree(graph, changed, X, 3, X)


def test_out_of_a_while_loop() -> None:
    def body(n: Any, a: Any, x: Any) -> Any:
        return n > 1, n - 1, a + np.exp(x)

    def program(x: Any, n: Any) -> Any:
        region = graph_of(body, INTEGER, VECTOR, VECTOR)
        return loops.while_(n > 0, n, x, x, body=region, carries=2)[1]

    graph = graph_of(program, VECTOR, INTEGER)
    changed = loop_invariants(graph)
    assert "exp" not in names(body_of(changed))
    for count in (0, 4):
        agree(graph, changed, X, count)


def test_a_broadcast_stays_where_it_is_used() -> None:
    graph, changed = moved(lambda i, a, v: a + np.broadcast_to(np.sin(v), (4,)), Type((1,), FLOAT))
    assert names(changed) == ["sin", "loop"]
    assert names(body_of(changed)) == ["broadcast_to", "add"]
    assert loop_invariants(changed) is changed
    agree(graph, changed, X, 3, X[:1])


# ------------------------------------------------------------------------------------------------------ inline calls


def big(x: Any) -> Any:
    for _ in range(20):
        x = np.sin(x)
    return x


def test_a_call_is_put_in_place_if_it_is_small_or_the_only_one() -> None:
    def program(count: int, function: Program) -> Graph:
        region = graph_of(function, VECTOR)
        return graph_of(lambda x: tuple(control.call(x * i, graph=region)[0] for i in range(count)), VECTOR)

    small, once, often = program(3, np.sin), program(1, big), program(3, big)
    assert "call" not in names(inline_calls(small))
    assert "call" not in names(inline_calls(once))
    assert inline_calls(often) is often
    for graph in (small, once):
        agree(graph, inline_calls(graph), X)
    regions = {n.params["graph"] for n in optimize(often).nodes if n.op is control.call}
    assert len(regions) == 1


def test_control_flow_that_is_decided() -> None:
    def program(x: Any) -> Any:
        side = graph_of(lambda x: np.sin(x), VECTOR)
        other = graph_of(lambda x: np.cos(x), VECTOR)
        chosen = control.branch(True, x, then=side, otherwise=other)[0]
        once = loop(lambda i, a: a + i, 1, [chosen], types=[VECTOR])[0]
        never = loop(lambda i, a: np.exp(a), 0, [once], types=[VECTOR])[0]
        going = graph_of(lambda a: (np.any(a > 0), a + 1), VECTOR)
        return loops.while_(False, never, body=going, carries=1)[0]

    graph = graph_of(program, VECTOR)
    changed = inline_calls(graph)
    assert names(changed) == ["sin", "add"]
    agree(graph, changed, X)


def test_effects_of_a_call_keep_their_place() -> None:
    def checked(x: Any) -> Any:
        evaluate(effects.check, [np.all(x > -5)], {"error": ValueError("second")})
        return x

    def program(x: Any) -> Any:
        evaluate(effects.check, [np.all(x > -50)], {"error": ValueError("first")})
        (x,) = control.call(x, graph=graph_of(checked, VECTOR))
        evaluate(effects.check, [np.all(x > -500)], {"error": ValueError("third")})
        return x

    changed = optimize(graph_of(program, VECTOR))
    assert [str(n.params["error"]) for n in changed.nodes if n.op is effects.check] == ["first", "second", "third"]


# ----------------------------------------------------------------------------------------------- lengths, and all


def of_runtime_length() -> Graph:
    """``np.sin(x[:j])``, twice."""
    x, j = Value(VECTOR), Value(INTEGER)
    length = Dim({j: 1}, 0)
    parts = [Value(Type((length,), FLOAT)) for _ in range(4)]
    nodes = [
        Node(registry["getitem"], [x], {"index": (slice(None, length),)}, [parts[0]]),
        Node(registry["getitem"], [x], {"index": (slice(None, length),)}, [parts[1]]),
        Node(registry["sin"], [parts[0]], {}, [parts[2]]),
        Node(registry["multiply"], [parts[2], parts[1]], {}, [parts[3]]),
    ]
    return Graph([x, j], nodes, [parts[3]])


def test_lengths_that_only_the_program_knows() -> None:
    graph = of_runtime_length()
    check_graph(graph)
    changed = optimize(graph)
    assert names(changed) == ["getitem", "sin", "multiply"]
    for j in (0, 3):
        agree(graph, changed, X, j)


def test_lengths_that_become_known() -> None:
    region = of_runtime_length()
    x, result = Value(VECTOR), Value(Type((3,), FLOAT))
    graph = Graph([x], [Node(control.call, [x, Literal(3)], {"graph": region}, [result])], [result])
    changed = optimize(graph)
    assert changed.nodes[0].params["index"] == (slice(None, 3),)
    assert {v.shape for n in changed.nodes for v in n.results} == {(3,)}
    check_graph(changed)
    np.testing.assert_array_equal(values(changed, X)[0], np.sin(X[:3]) * X[:3])


def test_a_length_whose_value_is_computed_twice() -> None:
    x, n = Value(VECTOR), Value(INTEGER)
    lengths = [Value(INTEGER) for _ in range(2)]
    parts = [Value(Type((Dim({j: 1}, 0),), FLOAT)) for j in lengths]
    nodes = [
        *(Node(registry["python.subtract"], [n, Literal(1)], {}, [j]) for j in lengths),
        *(
            Node(registry["getitem"], [x], {"index": (slice(None, Dim({j: 1}, 0)),)}, [part])
            for j, part in zip(lengths, parts, strict=True)
        ),
    ]
    graph = Graph([x, n], nodes, parts)
    changed = common_subexpressions(graph)
    assert names(changed) == ["python.subtract", "getitem"]
    agree(graph, changed, X, 3)


def test_an_optimized_graph_is_kept() -> None:
    graph = graph_of(lambda x: np.sin(x) * 1 + np.sin(x), VECTOR)
    assert optimize(graph) is optimize(graph)
    assert optimize(optimize(graph)) is optimize(graph)
    assert names(optimize(graph)) == ["sin", "add"]


def test_ten_thousand_nodes() -> None:
    def program(x: Any) -> Any:
        y = x
        for i in range(2000):
            y = np.negative(-np.sin(y)) * x + float(i)
        return y

    graph = graph_of(program, VECTOR)
    assert len(graph.nodes) == 10_000
    start = time.process_time()
    changed = optimize(graph)
    assert time.process_time() - start < 5
    assert len(changed.nodes) == 6000


def test_deep_nests() -> None:
    def nest(depth: int) -> Program:
        def step(i: Any, a: Any, x: Any) -> Any:
            found = loop(nest(depth - 1), 2, [a], x, types=[VECTOR, VECTOR])[0] if depth else a
            return found + np.exp(x)

        return step

    graph, changed = moved(nest(8), VECTOR)
    start = time.process_time()
    changed = optimize(graph)
    assert time.process_time() - start < 5
    assert names(changed)[0] == "exp"
    agree(graph, changed, X, 1, X)
