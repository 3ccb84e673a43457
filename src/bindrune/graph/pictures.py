"""Pictures of graphs: a page in HTML, which needs nothing else, and the DOT language for those who have Graphviz.

Both show what the text shows: a row or a box for each node with its operands, parameters, types and user line, and
regions inside the nodes they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .graph import Graph, Literal, Node, Value
from .text import Writer

__all__ = ["to_dot", "to_html", "to_page"]

_STYLE = """<style>
.bindrune { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; }
.bindrune table { border-collapse: collapse; margin: 0 0 0 1.2em; }
.bindrune td { border: 0; padding: 0 1em 0 0; text-align: left; vertical-align: top; white-space: pre-wrap; }
.bindrune summary { cursor: pointer; }
.bindrune .type { color: #2a6f4e; }
.bindrune .line { opacity: .55; }
.bindrune tr:hover > td { background: rgba(127, 127, 127, .12); }
</style>"""


def to_html(graph: Graph) -> str:
    """A graph as a piece of HTML, as notebooks show it."""
    return f'{_STYLE}<div class="bindrune">{"".join(_table(Writer(graph), graph, ""))}</div>'


def to_page(graph: Graph) -> str:
    """A graph as a whole page of HTML."""
    head = f'<meta charset="utf-8"><title>{escape(graph.name)}</title>'
    return f"<!DOCTYPE html>\n<html><head>{head}</head>\n<body>{to_html(graph)}</body></html>\n"


def _table(writer: Writer, graph: Graph, before: str) -> Iterator[str]:
    yield f"<details open><summary>{escape(before + writer.header(graph))}</summary><table>"
    for node in graph.nodes:
        results = "<br>".join(_defined(writer, value, graph) for value in node.results)
        operation = escape(writer.operation(node, graph))
        regions = "".join(
            part for name, region in writer.regions(node) for part in _table(writer, region, f"{name} = ")
        )
        yield f'<tr><td>{results}</td><td>{operation}{regions}</td><td class="line">{escape(node.line)}</td></tr>'
    yield f"</table>{escape(writer.outputs(graph))}</details>"


def _defined(writer: Writer, value: Value, graph: Graph) -> str:
    return f'{writer.name(value, graph)} <span class="type">{escape(writer.type(value, graph))}</span>'


# --------------------------------------------------------------------------------------------------------------- DOT


def to_dot(graph: Graph) -> str:
    """A graph in the DOT language: boxes are nodes, arrows are values, frames are regions."""
    return "\n".join(["digraph {", "  node [shape=box, fontname=monospace]", *_Dots(graph).lines(), "}"]) + "\n"


class _Dots:
    """Writes the statements, numbering the boxes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.writer = Writer(graph)
        self.boxes = 0
        self.frames = 0

    def lines(self) -> Iterator[str]:
        """The statements of the whole graph."""
        yield from self._of_graph(self.graph, "  ")

    def _box(self, label: str, indent: str, shape: str = "") -> tuple[str, str]:
        box = f"n{self.boxes}"
        self.boxes += 1
        return box, f"{indent}{box} [label={_quoted(label)}{shape}]"

    def _of_graph(self, graph: Graph, indent: str) -> Iterator[str]:
        sources: dict[Value, str] = {}
        for value in graph.inputs:
            sources[value], line = self._box(self.writer.typed(value, graph), indent, ", shape=ellipse")
            yield line
        for node in graph.nodes:
            box, line = self._box(self._label(node, graph), indent)
            yield line
            yield from self._arrows(node.uses, box, graph, sources, indent)
            sources.update(dict.fromkeys(node.results, box))
            for name, region in self.writer.regions(node):
                yield f"{indent}subgraph cluster{self.frames} {{"
                yield f"{indent}  label={_quoted(f'{name} of {box}')}"
                self.frames += 1
                yield from self._of_graph(region, indent + "  ")
                yield f"{indent}}}"
        box, line = self._box(self.writer.outputs(graph), indent, ", shape=ellipse")
        yield line
        yield from self._arrows(graph.outputs, box, graph, sources, indent)

    def _label(self, node: Node, graph: Graph) -> str:
        line = f"\n{node.line}" if node.line else ""
        return self.writer.operation(node, graph) + line

    def _arrows(
        self, values: tuple[Value, ...], box: str, graph: Graph, sources: dict[Value, str], indent: str
    ) -> Iterator[str]:
        for value in dict.fromkeys(values):
            if value in sources and not isinstance(value, Literal):
                yield f"{indent}{sources[value]} -> {box} [label={_quoted(self.writer.typed(value, graph))}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
