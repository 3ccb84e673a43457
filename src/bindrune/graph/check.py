"""Checking that a graph is a program: values are defined once, before they are used, with the types operations give.

Types are compared with what `inference` finds.  Where a length is known only to the running program, two lengths agree
unless they are known to differ.  The type of an input may contain lengths made of values from elsewhere: it then says
only which lengths are the same.  A parameter may not, for the running program needs its number.

What is not checked: the results of operations on functions other than control flow, which only their own rules know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..core.errors import GraphError
from ..core.operation import Elementwise, Write
from ..core.stack import STACK
from .dims import Unstageable, difference, dims_in, values_in
from .graph import ARRAY, STACK_TYPE, Graph, Literal, Node, Type, Value
from .inference import infer, sample
from .spelling import type_text
from .text import Writer

__all__ = ["check_graph"]

Problems = Iterator[str]


def check_graph(graph: Graph) -> None:
    """Check a graph and its regions.

    Raises:
        GraphError: the message names what is wrong, the graph and the node where, and the user's line.
    """
    _Checker(graph).check(graph, graph.name, set())


class _Checker:
    """Walks a graph and its regions."""

    def __init__(self, graph: Graph) -> None:
        self.root = graph
        self.checked: set[int] = set()

    def check(self, graph: Graph, path: str, around: set[Value]) -> None:
        """Check one graph; `around` are the values of the graphs it is a region of."""
        if id(graph) in self.checked:
            return
        self.checked.add(id(graph))
        later = {v for node in graph.nodes for v in node.results}
        scope: set[Value] = set()
        declared = set(values_in([v.shape for v in graph.inputs]))

        def refuse(problem: str, node: Node | None = None) -> None:
            shown = f"\n    {Writer(self.root).node(node, graph)}  # {node.line}" if node else ""
            raise GraphError(f"graph {path}: {problem}{shown}")

        def name(value: Value) -> str:
            return Writer(self.root).name(value, graph)

        def define(values: Sequence[Value], node: Node | None = None) -> None:
            for value in values:
                if isinstance(value, Literal):
                    refuse("a literal stands where a value is defined", node)
                if value in scope:
                    refuse(f"{name(value)} is defined twice", node)
                if value.shape and value.form != ARRAY:
                    refuse(f"{name(value)} is a number, and has dimensions", node)
                scope.add(value)

        def use(values: Sequence[Value], node: Node | None = None) -> None:
            for value in values:
                if isinstance(value, Literal) or value in scope:
                    continue
                if value in later:
                    refuse(f"{name(value)} is used before it is defined", node)
                if value in around:
                    refuse(f"{name(value)} belongs to the graph around; a region sees only its inputs", node)
                refuse(f"{name(value)} is used and defined nowhere", node)

        define(graph.inputs)
        for node in graph.nodes:
            use(node.uses, node)
            for problem in _of_node(node):
                refuse(problem, node)
            define(node.results, node)
            use([v for v in values_in([v.shape for v in node.results]) if v not in declared], node)
            for region, inner in node.regions.items():
                self.check(inner, f"{path} / {node.op.name} / {region}", around | scope)
        use(graph.outputs)


# ------------------------------------------------------------------------------------------------------------- types


def _differ(found: Type, expected: Type) -> bool:
    """Whether two types are known to be different."""
    if found[1:] != expected[1:] or found.ndim != expected.ndim:
        return True
    return any(difference(a, b) not in (0, None) for a, b in zip(found.shape, expected.shape, strict=True))


def _compare(what: str, found: Sequence[Value], expected: Sequence[Type], source: str) -> Problems:
    if len(found) != len(expected):
        yield f"there are {len(found)} {what}s, {source} {len(expected)}"
        return
    for i, (value, type) in enumerate(zip(found, expected, strict=True)):
        if _differ(value.type, type):
            yield f"{what} {i} has the type {type_text(value.type)}, {source} {type_text(type)}"


def _types(values: Sequence[Value]) -> list[Type]:
    return [v.type for v in values]


def _of_node(node: Node) -> Problems:
    """What is wrong with a node whose operands are in order."""
    if node.op.structured:
        problems = _RULES.get(node.op.name)
        return iter(()) if problems is None else problems(node)
    return _of_operation(node)


def _of_operation(node: Node) -> Problems:
    op, types, params = node.op, _types(node.operands), dict(node.params)
    most = len(op.operands)
    least = most if isinstance(op, Elementwise) else most - 1 if op.variadic else 1
    if len(types) < least or (len(types) > most and not op.variadic):
        yield f"{op.name} takes the operands ({' '.join(op.operands)}), and is given {len(types)}"
        return
    try:
        expected = infer(op, types, params)
        if isinstance(op, Write) and next(dims_in([[t.shape for t in types], params]), None) is None:
            op.implementation(*map(sample, types), **params)
    except Unstageable:
        return
    except Exception as error:
        yield f"{op.name} cannot be performed on such operands: {type(error).__name__}: {error}"
        return
    yield from _compare("result", node.results, expected, "the operation gives")


# ------------------------------------------------------------------------------------------- control flow and stacks


def _regions(node: Node, *names: str) -> Problems:
    for name in names:
        if name not in node.regions:
            yield f"{node.op.name} has no region {name!r}"


def _of_call(node: Node) -> Problems:
    if missing := [*_regions(node, "graph")]:
        yield from missing
        return
    graph = node.regions["graph"]
    yield from _compare("operand", node.operands, _types(graph.inputs), "the graph takes")
    yield from _compare("result", node.results, _types(graph.outputs), "the graph gives")


def _of_branch(node: Node) -> Problems:
    if missing := [*_regions(node, "then", "otherwise")]:
        yield from missing
        return
    then, otherwise = node.regions["then"], node.regions["otherwise"]
    if not node.operands or node.operands[0].ndim:
        yield "the first operand of a branch is its condition, which has no dimensions"
        return
    for name, side in (("then", then), ("otherwise", otherwise)):
        yield from _compare("value", node.operands[1:], _types(side.inputs), f"the side {name!r} takes")
    yield from _compare("output", then.outputs, _types(otherwise.outputs), "and on the side 'otherwise'")
    yield from _compare("result", node.results, _types(then.outputs), "the sides give")


def _of_loop(node: Node) -> Problems:
    if node.operands and (node.operands[0].ndim or node.operands[0].dtype.kind not in "iu"):
        yield "the first operand of a loop is the number of its steps, an integer"
    if "body" in node.regions:
        step = node.regions["body"].inputs[:1]
        if not step or step[0].ndim or step[0].dtype.kind not in "iu":
            yield "the first input of the body is the number of the step, an integer"
    yield from _of_carries(node, leading=1, ahead=0)


def _of_while(node: Node) -> Problems:
    if node.operands and node.operands[0].ndim:
        yield "the first operand of a while loop says whether to begin, and has no dimensions"
    if "body" in node.regions and any(v.ndim for v in node.regions["body"].outputs[:1]):
        yield "the first output of the body says whether to go on, and has no dimensions"
    yield from _of_carries(node, leading=0, ahead=1)


def _of_carries(node: Node, leading: int, ahead: int) -> Problems:
    """What is wrong with a loop, `leading` inputs and `ahead` outputs of whose body come before the carries."""
    if missing := [*_regions(node, "body")]:
        yield from missing
        return
    body, count, values = node.regions["body"], node.params.get("carries"), node.operands[1:]
    if not node.operands or not isinstance(count, int) or not 0 <= count <= len(values):
        yield f"the parameter 'carries' is {count!r}, and there are {len(values)} values"
        return
    yield from _compare("value", values, _types(body.inputs[leading:]), "the body takes")
    if len(body.outputs) != ahead + count:
        yield f"the body has {len(body.outputs)} outputs; it should have {ahead + count}"
        return
    carries = _types(body.inputs[leading : leading + count])
    yield from _compare("carry", body.outputs[ahead:], carries, "at the next step; the body takes")
    yield from _compare("result", node.results, carries, "the loop gives")


def _of_push(node: Node) -> Problems:
    if len(node.operands) != 2 or node.operands[0].dtype != STACK:
        yield "push takes a stack and a value"
    yield from _compare("result", node.results, [STACK_TYPE], "push gives")


def _of_pop(node: Node) -> Problems:
    if len(node.operands) != 1 or node.operands[0].dtype != STACK:
        yield "pop takes a stack"
    if not isinstance(node.params.get("type"), Type):
        yield "the parameter 'type' of pop is that of the value on top"
        return
    yield from _compare("result", node.results, [STACK_TYPE, node.params["type"]], "pop gives")


_RULES: dict[str, Callable[[Node], Problems]] = {
    "branch": _of_branch,
    "call": _of_call,
    "loop": _of_loop,
    "pop": _of_pop,
    "push": _of_push,
    "while_": _of_while,
}
"""What is wrong with an operation of control flow or on stacks, by its name."""
