"""What debugging shows: records of operations as lines of text and as a page of HTML, and where the time goes.

Records hold text, not arrays: nothing they show can change afterwards, and they keep nothing alive.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from ..core.array import Array
from ..core.cotangents import Buffer, Sparse
from ..core.operation import spec_of
from .batch import Batch
from .watching import Event, Line, nearest

__all__ = ["Described", "Profile", "Record", "Table", "Usage", "performed", "pulled"]

_LONGEST = 60


class Described(NamedTuple):
    """A value as text."""

    dtype: str
    shape: tuple[int, ...]
    lanes: tuple[int, ...]
    """The sizes of the batches it is in, the innermost first; its text shows all lanes."""
    text: str

    def __str__(self) -> str:
        shape = f"[{','.join(map(str, self.shape))}]" if self.shape else ""
        lanes = f" in {'x'.join(map(str, self.lanes))} lanes" if self.lanes else ""
        return f"{self.dtype}{shape}{lanes} {self.text}".rstrip()


def describe(value: Any) -> Described:
    """A value or a cotangent as text."""
    if isinstance(value, Sparse):
        value = value.operands[0]
    elif isinstance(value, Buffer):
        value = value.value
    if value is None:
        return Described("zero", (), (), "")
    lanes = []
    level = value
    while isinstance(level, Array):
        level = level.read()
        if isinstance(level._handler, Batch):
            lanes.append(level._handler.size)
        level = level._value
    spec = spec_of(value)
    kind = type(level).__name__ if type(level) in (bool, int, float, complex) else str(spec.dtype)
    return Described(kind, spec.shape, tuple(lanes), _brief(level))


def _brief(value: Any) -> str:
    array = np.asarray(value)
    if not array.shape and array.dtype.kind in "fc":
        return f"{array[()]:.6g}"
    shown = np.array2string(array, precision=4, threshold=6, edgeitems=2, max_line_width=10_000)
    return _cut(" ".join(shown.split()))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


class Record(NamedTuple):
    """One operation that was performed, or one through which cotangents came back."""

    operation: str
    params: str
    operands: tuple[Described, ...]
    results: tuple[Described, ...]
    phase: str
    """The pass of a derivative, ``forward`` or ``backward``; empty where none is taken."""
    of: tuple[str, ...]
    """The operation whose derivative it belongs to, the one whose derivative that belongs to, and so on."""
    stack: tuple[Line, ...]
    """The user's calls that lead to it, from the function that is shown to the line that performs it."""

    @property
    def line(self) -> str:
        """The user's line."""
        return nearest(self.stack)

    @property
    def purpose(self) -> str:
        """What it belongs to, if that is a derivative."""
        return f"in the derivative of {' of '.join(self.of)}" if self.of else ""

    def __str__(self) -> str:
        results = ", ".join(map(str, self.results))
        operands = ", ".join(map(str, self.operands))
        what = f"{self.phase} {self.operation}".lstrip()
        return "  ".join(
            filter(None, (f"{what} -> {results}", f"of {operands}{self.params}", self.purpose, f"at {self.line}"))
        )


def performed(event: Event) -> Record:
    """The record of an operation."""
    told = {} if event.op.structured else event.params
    params = "".join(f", {k}={_cut(repr(v))}" for k, v in told.items() if v is not None and v is not False)
    operands, results = tuple(map(describe, event.operands)), tuple(map(describe, event.results))
    return Record(event.op.name, params, operands, results, event.place.phase, event.place.of, event.place.stack)


def pulled(event: Event) -> Record:
    """The record of cotangents that came back through an operation."""
    cotangents = event.cotangent if isinstance(event.cotangent, list) else [event.cotangent]
    operands, results = tuple(map(describe, cotangents)), tuple(map(describe, event.results))
    name = f"pullback of {event.op.name}"
    return Record(name, "", operands, results, event.place.phase, event.place.of[1:], event.place.stack)


class Table(list[Record]):
    """The operations of a call, in the order in which they were performed."""

    def __str__(self) -> str:
        return _aligned(("pass", "operation", "result", "of", "", "line"), map(_cells, self))

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page that shows the operations under the calls of the user's functions that led to them."""
        body = "\n".join(_tree([(_nodes(r), r) for r in self]))
        with open(path, "w", encoding="utf-8") as file:
            file.write(_PAGE.format(count=len(self), body=body))


def _cells(record: Record) -> tuple[str, ...]:
    results, operands = (", ".join(map(str, values)) for values in (record.results, record.operands))
    return record.phase, record.operation, results, operands + record.params, record.purpose, record.line


def _aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of text."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    used = [i for i in range(len(header)) if any(line[i] for line in lines[1:])]  # without empty columns
    return "\n".join("  ".join(line[i].ljust(widths[i]) for i in used).rstrip() for line in lines)


# -------------------------------------------------------------------------------------------------------------- HTML

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Operations</title>
<style>
  body {{ font: 14px/1.5 ui-monospace, monospace; margin: 2em; color: #222; background: #fff }}
  details {{ margin-left: 1.2em }}
  summary {{ cursor: pointer; font-weight: bold }}
  .op {{ margin-left: 2.4em; white-space: pre-wrap }}
  .name {{ color: #0b5394; font-weight: bold }}
  .value, .line {{ color: #777 }}
</style>
<h1>{count} operations</h1>
{body}
</html>
"""


def _nodes(record: Record) -> tuple[str, ...]:
    """The nodes above a record: the pass, then each function that was called, with the line that called it."""
    phase = (f"{record.phase} pass",) if record.phase else ()
    calls = [f"called at {line.file}:{line.number}" for line in record.stack[:-1]]
    functions = [line.function for line in record.stack]
    return (*phase, *(f"{f} {c}".rstrip() for f, c in zip(functions, ("", *calls), strict=False)))


def _tree(rows: Sequence[tuple[tuple[str, ...], Record]]) -> Iterator[str]:
    """Neighbouring records under the nodes they share."""
    for node, group in groupby(rows, key=lambda row: row[0][:1]):
        found = [(nodes[1:], record) for nodes, record in group]
        if node:
            yield f"<details open><summary>{_escape(node[0])}</summary>"
            yield from _tree(found)
            yield "</details>"
        else:
            yield from (_html(record) for _, record in found)


def _escape(text: str) -> str:
    import html  # not at the top: it would cost every `import bindrune` a millisecond

    return html.escape(text)


def _html(record: Record) -> str:
    def values(described: Sequence[Described]) -> str:
        return ", ".join(_escape(str(d)) for d in described)

    return (
        f'<div class="op"><span class="name">{_escape(record.operation)}</span> -&gt; {values(record.results)}'
        f' <span class="value">of {values(record.operands)}{_escape(record.params)}</span>'
        f' <span class="line">{_escape(record.purpose)} at {_escape(record.line)}</span></div>'
    )


# ------------------------------------------------------------------------------------------------------------ profile


class Usage(NamedTuple):
    """How often something ran, and how long in all."""

    name: str
    calls: int
    seconds: float


class Profile:
    """Where the time of a call goes, by operation and by line of the user's.

    Counted is the time in operations, not that of the Python code between them.
    """

    def __init__(self) -> None:
        self._operations: dict[str, Usage] = {}
        self._lines: dict[str, Usage] = {}

    def add(self, operation: str, line: str, seconds: float) -> None:
        """Count an operation."""
        for usages, name in ((self._operations, operation), (self._lines, line)):
            _, calls, total = usages.get(name, (name, 0, 0.0))
            usages[name] = Usage(name, calls + 1, total + seconds)

    @property
    def operations(self) -> list[Usage]:
        """The operations, the one that took longest first."""
        return sorted(self._operations.values(), key=lambda usage: -usage.seconds)

    @property
    def lines(self) -> list[Usage]:
        """The user's lines, the one that took longest first."""
        return sorted(self._lines.values(), key=lambda usage: -usage.seconds)

    @property
    def calls(self) -> int:
        """The number of operations."""
        return sum(usage.calls for usage in self._operations.values())

    @property
    def seconds(self) -> float:
        """The time in operations."""
        return sum(usage.seconds for usage in self._operations.values())

    def __str__(self) -> str:
        rows = [_columns(usage) for usage in (Usage("all", self.calls, self.seconds), *self.operations)]
        operations = _aligned(("operation", "calls", "milliseconds"), rows)
        return operations + "\n\n" + _aligned(("line", "calls", "milliseconds"), map(_columns, self.lines))


def _columns(usage: Usage) -> tuple[str, str, str]:
    return usage.name, str(usage.calls), f"{1000 * usage.seconds:.3f}"
