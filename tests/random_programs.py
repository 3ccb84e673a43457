"""Programs drawn at random: straight lines and loops over small arrays, full of writes and views.

They are drawn knowing their shapes and their values at the given arguments: each line runs in plain NumPy as it is
drawn.  So all programs are valid, their values stay small, and hypothesis can shrink them.  Views are told from
copies by whether NumPy shares memory.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from effects import Add, Effect, Let, Program, Shape, Show, Statement, Store, evaluate

__all__ = ["programs"]

# ---------------------------------------------------------------------------------------------------- vocabularies

SHAPES: list[Shape] = [(3,), (2,), (2, 3), (3, 3), (3, 2), (1,), (1, 3), (2, 2, 2), (2, 1, 3), (3, 2, 2)]

LAYOUTS = {
    "C": "{values}.reshape{shape}",
    "F": "{values}.reshape{reversed}.T",
    "strided": "np.repeat({values}, 2).reshape{strided}[..., 1]",
    "backwards": "{values}.reshape{shape}[::-1]",
}

LARGEST = 18
"""The most elements an array may have."""

# What can be read of one variable, by its number of dimensions.
FORMS: list[list[str]] = [
    ["{}"],
    [
        "{}", "{}[0]", "{}[-1]", "{}[::-1]", "{}[1:]", "{}[:, None]", "{}[None]", "np.sum({})", "{}.mean()",
        "np.max({})", "np.cumsum({})", "{}[[1, 0, 1]]", "({} @ {})", "np.prod({})", "{}[1, ...]", "max({})",
        "{}[np.argsort({})]", "{}[np.argmin({})]", "np.sort({})", "np.diff({})", "np.interp(0.8, [0.0, 1.0, 2.0], {})",
    ],
    [
        "{}", "{}.T", "{}[0]", "{}[-1]", "{}[:, 0]", "{}[:, -1]", "{}[0, 0]", "{}[-1, -1]", "{}[:, ::-1]", "{}[1:]",
        "{}.ravel()", "np.sum({})", "{}.sum(axis=0)", "{}.mean(axis=1)", "np.max({}, axis=1)", "({} @ {}.T)",
        "np.sum({}, axis=1, keepdims=True)", "np.cumsum({}, axis=0)", "np.prod({}, axis=-1)", "{}[:, [1, 0]]",
        "{}.min(axis=0)", "np.diagonal({})", "{}[[1, 0], [0, 1]]", "np.swapaxes({}, 0, 1)", "sum({})", "np.tril({})",
        "{}[np.argsort({}[:, 0])]", "np.take_along_axis({}, np.argsort({}, axis=1), 1)", "np.var({}, axis=0)",
        "np.sort({}, axis=0)", "np.trace({})", "np.rot90({})",
    ],
    [
        "{}", "{}[0]", "{}[-1]", "{}[:, 0]", "{}[..., -1]", "{}[0, 0]", "{}[0, :, 0]", "{}[0, 0, 0]", "{}.T",
        "np.sum({}, axis=(0, 2))", "{}.mean(axis=1)", "np.transpose({}, (2, 0, 1))", "np.cumsum({}, axis=1)",
        "{}.reshape(-1)", "np.max({}, axis=2)", "np.moveaxis({}, 0, -1)", "{}[:, [0], ::-1]", "{}.sum()",
        "{}[[0, 1], :, [1, 0]]", "np.trace({})", "np.diff({}, axis=0)",
    ],
]  # fmt: skip

# Smooth, or with kinks that generic values miss; derivatives stay tame.
EXPRESSIONS = [
    "{0}", "{0} + {1}", "{0} * {1}", "{0} - {1}", "np.sin({0})", "0.5 * {0}", "np.tanh({0})", "{0} * {1} + {2}",
    "{0} / ({1} * {1} + 1.0)", "np.exp(-{0} * {0})", "np.maximum({0}, {1})", "np.minimum({0}, {1} + 0.1)",
    "np.where({0} > 0.317, {1}, {2})", "np.sqrt({0} * {0} + 0.5)", "{0} ** 2", "-{0} + np.cos({1})",
    "np.log1p({0} * {0})", "np.arctan2({0}, {1} ** 2 + 0.5)", "np.logaddexp({0}, {1})", "abs({0}) * {1}",
    "np.clip({0}, -0.731, 0.913)", "1.0 / (1.0 + np.exp({0}))", "np.select([{0} > 0.317], [{1}], {2})",
]  # fmt: skip

# Views, by the number of dimensions of what is viewed.
VIEWS: list[list[str]] = [
    ["{}[...]", "{}[None]", "{}.reshape(1)", "{}.T", "np.atleast_1d({})"],
    [
        "{}[...]", "{}.reshape(-1, 1)", "{}[None]", "{}[::-1]", "{}[:, None]", "{}.ravel()", "np.expand_dims({}, 0)",
        "np.asarray({})", "np.atleast_2d({})", "{}.view()", "{}.real", "np.split({}, [1])[1]", "{}.reshape(-1)",
    ],
    [
        "{}.T", "{}.reshape(-1)", "{}.ravel()", "np.swapaxes({}, 0, 1)", "{}[::-1]", "{}[:, None]", "{}.squeeze()",
        "{}.T.reshape(-1)", "{}[..., ::-1]", "np.transpose({})", "{}.reshape({}.shape[::-1])", "np.flip({}, 1)",
        "np.einsum('ii->i', {})", "np.rot90({})", "np.split({}, [1], axis=1)[0]", "{}.ravel(order='F')",
        "np.hsplit({}, [1])[1]", "{}.reshape(-1, order='F')",
    ],
    [
        "{}.T", "{}.reshape(-1)", "{}.ravel()", "np.swapaxes({}, 0, 2)", "np.transpose({}, (1, 2, 0))", "{}.squeeze()",
        "np.moveaxis({}, 0, -1)", "{}[:, 0].T", "{}.reshape({}.shape[0], -1)", "np.rollaxis({}, 2)",
        "{}.T.reshape(-1)", "np.einsum('iij->ij', {})", "{}[:, 0].ravel()",
    ],
]  # fmt: skip

COPIES = [
    "{}.copy()", "np.array({})", "{}.flatten()", "{}.T.copy()", "np.roll({}, 1, axis=0)", "np.repeat({}, 2, axis=0)",
    "np.take({}, [0, 0], axis=-1)", "np.flip({}).copy()", "np.tile({}, 2)", "np.copy({}, order='F')", "{} + 0.0",
    "np.stack([0.5 * row for row in {}])", "np.zeros_like({})", "np.pad({}, 1)", "{}.astype(float)",
    "{}.copy(order='K')",
]  # fmt: skip

PARTS = ["{}", "{}.T", "{}[::-1]", "np.split({}, 2)", "np.array_split({}, 2, axis=-1)"]

JOINS = [
    "np.stack([{}, {}])", "np.concatenate([{}, {}])", "np.stack([{}, {}], axis=-1)", "np.hstack([{}, {}])",
    "np.append({}, {})", "np.vstack([{}, {}])",
]  # fmt: skip

PRODUCTS = [
    "{} @ {}", "np.outer({}, {})", "np.dot({}, {})", "np.inner({}, {})", "np.einsum('i...,i...->i', {}, {})",
    "np.add.outer({}, {})", "np.kron({}, {})",
]  # fmt: skip


@functools.cache
def shape_of(form: str, *shapes: Shape) -> Shape | None:
    """The shape of a form of variables of given shapes; None where NumPy refuses, or too little or much comes out."""
    names = string.ascii_letters[: len(shapes)]
    text = form.format(*(names if len(shapes) > 1 else names * form.count("{}")))
    try:
        found = np.shape(evaluate(text, np, dict(zip(names, map(np.ones, shapes), strict=True))))
    except (ValueError, IndexError):
        return None
    return found if fits(found) else None


def fits(shape: Shape) -> bool:
    """Whether an array is of a size we care for."""
    return 0 < math.prod(shape) <= LARGEST and len(shape) <= 3


def broadcast(a: Shape, b: Shape) -> Shape | None:
    """The common shape of two operands, if there is one."""
    try:
        found = np.broadcast_shapes(a, b)
    except ValueError:
        return None
    return found if fits(found) else None


# --------------------------------------------------------------------------------------------------------- drawing


class Writer:
    """Writes one program, statement by statement, and runs each in plain NumPy."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.parameters: dict[str, str] = {}
        self.statements: list[Statement] = []
        self.variables: dict[str, Any] = {}
        self.batchable = True
        self.unused = (letter for letter in string.ascii_letters if letter not in "ij")

    def pick(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def evaluate(self, text: str) -> Any:
        return evaluate(text, np, self.variables)

    def emit(self, text: str, *effects: Effect) -> None:
        """Add a statement, perhaps in a function of its own where it binds no name, and run it."""
        binds = any(isinstance(e, (Let, Show)) for e in effects) or re.match(r"\w+ .=", text)
        if not binds and self.pick([False] * 7 + [True]):
            text = "def act():\n    " + text.replace("\n", "\n    ") + "\nact()"
        names = {**self.variables, "np": np, "halve": lambda x: np.multiply(x, 0.5, out=x)}
        exec(text, names)
        self.variables = {n: names[n] for n in [*self.variables, *(e.name for e in effects)] if n in names}
        self.statements.append(Statement(text, effects))

    def attempt(self, text: str) -> Any:
        """The value of an expression; None where NumPy refuses, or too little or much comes out."""
        try:
            found = self.evaluate(text)
        except (ValueError, IndexError):
            return None
        return found if fits(np.shape(found)) else None

    def binding(self, name: str, text: str) -> Effect:
        """What ``name = text`` does."""
        found = self.evaluate(text)
        for base in self.arrays():
            if np.shares_memory(found, self.variables[base]) and re.search(rf"\b{base}\b", text):
                return Show(name, base, re.sub(rf"\b{base}\b", "{}", text))
        return Let(name, text)

    def name(self) -> str:
        """A name to bind: a new one, or sometimes one in use."""
        rebound = [*self.variables][1:] if self.pick([False, False, False, True]) else []
        return str(self.pick(rebound) if rebound else next(self.unused))

    def bind(self, text: str) -> None:
        """Add a statement that gives the value of an expression a name."""
        name = self.name()
        self.emit(f"{name} = {text}", self.binding(name, text))

    def bind_path(self, base: str, path: str) -> None:
        """Add a statement that gives what a path leads to a name."""
        text = path.replace("{}", base)
        found = self.attempt(text)
        if found is not None:
            name = self.name()
            shares = np.shares_memory(found, self.variables[base])
            self.emit(f"{name} = {text}", Show(name, base, path) if shares else Let(name, text))

    # What there is to read.

    def arrays(self, least: int = 0) -> list[str]:
        """The names of arrays of at least so many dimensions."""
        return [n for n, v in self.variables.items() if isinstance(v, np.ndarray) and v.ndim >= least]

    def writable(self, least: int = 0) -> list[str]:
        return [n for n in self.arrays(least) if self.variables[n].flags.writeable]

    def shape(self, name: str) -> Shape:
        return np.shape(self.variables[name])

    def atoms(self) -> list[tuple[str, Shape]]:
        """Everything that can be read, with its shape."""
        found: list[tuple[str, Shape]] = [("0.7", ())]
        for name in self.variables:
            shape = self.shape(name)
            shapes = [(form.replace("{}", name), shape_of(form, shape)) for form in FORMS[len(shape)]]
            found += [(text, known) for text, known in shapes if known is not None]
        return found

    def expression(
        self, shape: Shape, grows: bool = False, limit: float | None = None, others: Sequence[tuple[str, Shape]] = ()
    ) -> str:
        """An expression that broadcasts to a shape (or beyond it, where it may grow), scaled down to a limit."""
        form = self.pick(EXPRESSIONS)
        atoms = [*others, *self.atoms()]
        chosen = []
        for _ in range(1 + max(k for k in range(3) if f"{{{k}}}" in form)):
            both = [(text, broadcast(shape, own)) for text, own in atoms]
            text, shape = self.pick([(t, s) for t, s in both if s is not None and (grows or s == shape)])
            chosen.append(text)
        text = str(form.format(*chosen))
        return text if limit is None else self.bounded(text, limit)

    def bounded(self, text: str, limit: float = 3.0) -> str:
        """An expression, scaled down where its values are large."""
        largest = np.max(np.abs(self.evaluate(text)))
        return text if largest <= limit else f"{2.0 ** -math.ceil(math.log2(largest / limit))} * ({text})"

    # Places to write to.

    def axis_index(self, n: int, basic: bool) -> str:
        """An index along an axis of `n` elements."""
        found = [":", "0", "-1", "::-1", *(["1:", ":-1", "::2"] if n > 1 else [])]
        ranked = [other for other in self.arrays(1) if self.shape(other) == (n,)]
        found += [f"np.argmax({other})" for other in ranked]
        if not basic:
            found += ["[0]", f"[{n - 1}, 0]", f"[0, {n - 1}, 0]", f"[-1, {n // 2}]", f"[[0], [{n - 1}]]"]
            found += [f"np.argsort({other})" for other in ranked]
        return str(self.pick(found))

    def index(self, shape: Shape, basic: bool = False) -> str:
        """An index into an array."""
        if not shape:
            return "..."
        kind = self.pick(["axes", "axes", "axes", "...", *([] if basic else ["mask"])])
        if kind == "...":
            return f"..., {self.axis_index(shape[-1], basic)}"
        count = self.pick(range(1, len(shape) + 1))
        if kind == "mask":
            bits = [self.pick([True, False]) for _ in range(math.prod(shape[:count]) - 1)]
            return f"np.array({np.reshape([*bits, True], shape[:count]).tolist()})"
        parts = [self.axis_index(n, basic) for n in shape[:count]]
        if self.pick([False, False, False, True]):
            parts.insert(self.pick(range(count + 1)), "None")
        return ", ".join(parts)

    def place(self, name: str, basic: bool = False) -> tuple[str, Shape]:
        """A path into an array, directly or through a nameless view of it, and the shape of what it leads to."""
        view = self.pick(VIEWS[len(self.shape(name))]) if self.pick([False, False, True]) else "{}"
        shape = shape_of(view, self.shape(name))
        if shape is not None and np.shares_memory(self.evaluate(view.replace("{}", name)), self.variables[name]):
            path = f"{view}[{self.index(shape, basic)}]"
            found = self.attempt(path.replace("{}", name))
            if found is not None and (not basic or isinstance(found, np.ndarray)):
                return path, np.shape(found)
        return "{}[...]", self.shape(name)

    # Statements.

    def elementwise(self) -> None:
        shape = np.shape(self.pick([*self.variables.values()]))
        self.bind(self.expression(shape, grows=True, limit=3.0))

    def view(self) -> None:
        base = self.pick(self.arrays())
        shape = self.shape(base)
        self.bind_path(base, self.pick([*VIEWS[len(shape)], *[f"{{}}[{self.index(shape, basic=True)}]"] * 6]))

    def copy(self) -> None:
        base = self.pick(self.arrays(1))
        self.bind_path(base, self.pick([*COPIES, *[f"{{}}[{self.index(self.shape(base))}]"] * 4]))

    def unpack(self) -> None:
        """Several names at once."""
        base = self.pick(self.arrays(1))
        text = self.pick(PARTS).replace("{}", base)
        try:
            parts = [*self.evaluate(text)]
        except ValueError:
            return
        if 1 < len(parts) <= 3 and all(fits(np.shape(part)) for part in parts):
            names = [next(self.unused) for _ in parts]
            effects = [self.binding(name, f"{text}[{i}]") for i, name in enumerate(names)]
            self.emit(f"{', '.join(names)} = {text}", *effects)

    def combine(self) -> None:
        form = self.pick(JOINS + PRODUCTS)
        first, one = self.pick(self.atoms())
        fitting = [second for second, two in self.atoms() if shape_of(form, one, two) is not None]
        if fitting:
            self.bind(self.bounded(form.format(first, self.pick(fitting))))

    def number(self) -> None:
        known = [n for n, v in self.variables.items() if not isinstance(v, np.ndarray)]
        if known and self.pick([True, False]):
            name, op = self.pick(known), self.pick(["+", "*", "-"])
            text = self.expression((), limit=1.0)
            self.emit(f"{name} {op}= {text}", Let(name, f"{name} {op} ({text})"))
        else:
            self.bind(self.pick(["-1.25", *(text for text, shape in self.atoms() if shape == ())]))

    def assign(self) -> None:
        name = self.pick(self.writable())
        path, shape = self.place(name)
        text = self.expression(shape, limit=3.0)
        if "np.array(" in path:
            text = f"0.5 * ({text})"  # NumPy reads a view while it writes through a mask of the same memory
        self.emit(f"{path.replace('{}', name)} = {text}", Store(name, path, text))

    def augment(self) -> None:
        name = self.pick(self.writable())
        path, shape = self.place(name)
        op = self.pick(["+", "*", "-", "/"])
        text = self.expression(shape, limit=1.0)
        if op == "/":
            text = f"({text}) ** 2 + 0.75"
        place = path.replace("{}", name)
        target = name if path == "{}[...]" else place
        self.emit(f"{target} {op}= {text}", Store(name, path, f"{place} {op} ({text})"))

    def write_out(self) -> None:
        """One of the functions and methods that write into an array they are given."""
        name = self.pick(self.writable())
        path, shape = self.place(name, basic=True)
        place = path.replace("{}", name)
        one, two = self.expression(shape, limit=1.5), self.expression(shape, limit=1.5)
        number = self.expression((), limit=1.5)
        mask = f"np.arange({math.prod(shape)}).reshape({shape}) % 2 == 0"
        text, value = self.pick(
            [
                (f"np.copyto({place}, {one})", one),
                (f"np.copyto({place}, {one}, where={mask})", f"np.where({mask}, {one}, {place})"),
                (f"{place}.fill({number})", number),
                (f"np.multiply({one}, {two}, out={place})", f"({one}) * ({two})"),
                (f"np.add({one}, {two}, {place})", f"({one}) + ({two})"),
                (f"np.sin({one}, out={place})", f"np.sin({one})"),
                (f"np.tanh({one}, out={place}, where={mask})", f"np.where({mask}, np.tanh({one}), {place})"),
                (f"np.putmask({place}, {mask}, {number})", f"np.where({mask}, {number}, {place})"),
                (f"halve({place})", f"0.5 * {place}"),
            ]
        )
        self.emit(text, Store(name, path, value))

    def write_flat(self) -> None:
        """A write by positions in an array's elements in order."""
        name = self.pick(self.writable(1))
        last = self.variables[name].size - 1
        index, shape = self.pick([("0", ()), ("1:", (last,)), (f"[{last}, 0]", (2,)), ("::-1", (last + 1,))])
        if math.prod(shape) > 0:
            text = self.expression(shape, limit=3.0)
            line = self.pick(
                [f"np.put({name}, np.arange({last + 1})[{index}], {text})", f"{name}.flat[{index}] = ({text}) + 0.0"]
            )
            self.emit(line, Store(name, f"{{}}.reshape(-1)[{index}]", text))

    def accumulate_at(self) -> None:
        name = self.pick(self.writable(1))
        index = self.index(self.shape(name))
        found = self.attempt(f"{name}[{index}]")
        if found is not None:
            text = self.expression(np.shape(found), limit=3.0)
            function, sign = self.pick([("add", ""), ("subtract", "-")])
            self.emit(
                f"np.{function}.at({name}, np.s_[{index}], {text})", Add(name, f"{{}}[{index}]", f"{sign}({text})")
            )

    def mask(self) -> None:
        """A write through a mask that depends on the values."""
        name, op = self.pick(self.writable(1)), self.pick(["", "*", "+"])
        if np.any(self.variables[name] > 0.317):
            self.batchable = False
            place = f"{name}[{name} > 0.317]"
            text = self.expression((), limit=1.5)
            value = f"{place} {op} ({text})" if op else text
            self.emit(f"{place} {op}= {text}", Store(name, f"{{}}[{name} > 0.317]", value))

    def swap(self) -> None:
        name = self.pick(self.writable(1))
        first, last = f"{name}[0]", f"{name}[{self.shape(name)[0] - 1}]"
        to_first, to_last = Store(name, "{}[0]", last), Store(name, "{}[-1]", first)
        exchange = (Let("old", first), to_first, Store(name, "{}[-1]", "old"))
        # Two views on the right side: the second shows what the first assignment wrote.
        views = len(self.shape(name)) > 1
        options = [
            (f"{first}, {last} = {last}, {first}", *((to_first, to_last) if views else exchange)),
            (f"{first}, {last} = {last}.copy(), {first}.copy()", *exchange),
            (f"{name}[[0, -1]] = {name}[[-1, 0]]", Store(name, "{}[[0, -1]]", f"{name}[[-1, 0]]")),
        ]
        self.emit(*self.pick(options))

    def rows(self) -> None:
        """A loop over the rows of an array, which are views."""
        if not self.writable(2):
            return
        name = self.pick(self.writable(2))
        path = self.pick(["{}", "{}[::-1]", "{}.T", "{}[1:]"])
        over = path.replace("{}", name)
        count, *rest = np.shape(self.evaluate(over))
        partners = [p for p in self.arrays(1) if self.shape(p)[0] == count]
        if not partners:
            return
        partner = self.pick(partners)
        others = [("row", tuple(rest)), ("other", self.shape(partner)[1:])]
        text = f"np.sin({self.expression(tuple(rest), others=others)})"
        target, value = self.pick([("row *", f"row * {text}"), ("row +", f"row + {text}"), ("row[...] ", text)])
        effects = []
        for i in range(count):
            here = value.replace("row", f"{over}[{i}]").replace("other", f"{partner}[{i}]")
            effects.append(Store(name, f"{path}[{i}]", here))
        self.emit(f"for row, other in zip({over}, {partner}):\n    {target}= {text}", *effects)

    def fill(self) -> None:
        """A loop that fills a new array or changes an old one, with a recurrence perhaps."""
        like = self.pick(self.writable(1))
        shape = self.shape(like)
        name, lines = like, ""
        effects: list[Effect] = []
        if self.pick([True, False]):
            name, made = next(self.unused), f"np.{self.pick(['zeros', 'ones'])}({shape})"
            lines = f"{name} = {made}\n"
            effects.append(Let(name, made))
        indices = self.pick(["i", "i, j"][: len(shape)])
        depth = len(indices.split())
        outer, inner = shape[:depth], shape[depth:]
        reads = [v for v in self.arrays(depth) if all(n >= m for n, m in zip(self.shape(v), outer, strict=False))]
        others = [(f"{name}[i - 1]", shape[1:]), *((f"{v}[{indices}]", self.shape(v)[depth:]) for v in reads)]
        text, op = f"np.sin({self.expression(inner, others=others)})", self.pick(["", "+", "*"])
        for at in itertools.product(*map(range, outer)):
            here = text.replace(f"[{indices}]", f"[{', '.join(map(str, at))}]").replace("[i - 1]", f"[{at[0] - 1}]")
            place = f"[{', '.join(map(str, at))}]"
            effects.append(Store(name, f"{{}}{place}", f"{name}{place} {op} {here}" if op else here))
        for letter, n in zip("ij", outer, strict=False):
            lines += f"for {letter} in range({n}):\n" + "    " * (1 + "ij".index(letter))
        self.emit(f"{lines}{name}[{indices}] {op}= {text}", *effects)

    def recurrence(self) -> None:
        """A value carried by a loop."""
        over = self.pick(self.arrays(1))
        count, *rest = self.shape(over)
        name = next(self.unused)
        start = self.pick(["0.5", f"{over}[0]"])
        text = f"np.sin({self.expression(tuple(rest), others=[('row', tuple(rest)), (name, ())])})"
        steps = [Let(name, text.replace("row", f"{over}[{i}]")) for i in range(count)]
        first = self.binding(name, start)
        self.emit(f"{name} = {start}\nfor row in {over}:\n    {name} = {text}", first, *steps)

    def statement(self) -> None:
        kinds = [
            self.elementwise, self.assign, self.augment, self.view, self.view, self.copy, self.unpack, self.combine,
            self.number, self.write_out, self.write_flat, self.accumulate_at, self.swap, self.rows, self.fill,
            self.recurrence, self.mask,
        ]  # fmt: skip
        self.pick(kinds)()

    def parameter(self) -> None:
        name = next(self.unused)
        shape = self.pick(SHAPES)
        values = f"(1.3 * np.sin(1.7 * np.arange({math.prod(shape)}) + {len(self.parameters)}.4))"
        text = LAYOUTS[self.pick([*LAYOUTS])].format(
            values=values, shape=shape, reversed=shape[::-1], strided=(*shape, 2)
        )
        self.parameters[name] = text
        self.variables[name] = self.evaluate(text)


@st.composite
def programs(draw: Any) -> Program:
    """Draw a program."""
    writer = Writer(draw)
    for _ in range(draw(st.integers(1, 2))):
        writer.parameter()
    for _ in range(draw(st.integers(1, 9))):
        writer.statement()
    return Program(writer.parameters, writer.statements, [*writer.variables], writer.batchable)
