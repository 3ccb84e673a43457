"""Instructions for operations on elements: one entry an operation, by NumPy's name.

An entry writes the instructions for operands that have been converted to the operation's own types already.  The
meaning is NumPy's to the last case: NaN in extremes, the sign of remainders, shifts by too much, division by zero in
integers.  What has no entry for some types (`available`) is left to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .formats import arithmetic, constant, numeric, of_parts, register_type
from .machine import scalar_alias, vector_variants

__all__ = [
    "LIBRARY",
    "Entry",
    "Writer",
    "available",
    "call_library",
    "cast",
    "complex_entries",
    "define",
    "enter_function",
    "instruct",
    "intrinsic",
    "pair",
    "parts",
    "select",
]

_SUFFIX = {4: "f32", 8: "f64"}


class Writer:
    """Collects the instructions of one function, and what they need declared."""

    __slots__ = ("_count", "declarations", "kept", "lines")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declarations: dict[str, str] = {}
        """By name what is declared: the text, with its attributes."""
        self.kept: set[str] = set()
        """Functions that nothing calls yet."""
        self._count = 0

    def fresh(self, stem: str = "") -> str:
        """A name that is not used yet."""
        self._count += 1
        return f"{stem}{self._count}"

    def value(self, instruction: str) -> str:
        """Write an instruction that has a result; the result."""
        name = f"%{self.fresh('v')}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Write an instruction that has none."""
        self.lines.append(f"  {instruction}")

    def begin(self, label: str) -> None:
        """Begin a block."""
        self.lines.append(f"{label}:")

    def call(self, name: str, result: str, arguments: Sequence[tuple[str, str]], attributes: str = "") -> str:
        """Call a function without side effects."""
        self.declare(name, result, [t for t, _ in arguments])
        return self.value(f"call {result} @{name}({', '.join(f'{t} {v}' for t, v in arguments)}) {attributes}")

    def declare(self, name: str, result: str, types: Sequence[str]) -> None:
        """Let a function without side effects be known."""
        if name not in self.declarations:
            self.declarations[name] = f"declare {result} @{name}({', '.join(types)}) #1"


# ------------------------------------------------------------------------------------------------------------ types


def parts(w: Writer, x: str, dtype: np.dtype[Any]) -> tuple[str, str]:
    """The two parts of a complex number."""
    t = register_type(dtype)
    return w.value(f"extractvalue {t} {x}, 0"), w.value(f"extractvalue {t} {x}, 1")


def pair(w: Writer, real: str, imag: str, dtype: np.dtype[Any]) -> str:
    """The complex number of two parts."""
    t, part = register_type(dtype), register_type(of_parts(dtype))
    first = w.value(f"insertvalue {t} poison, {part} {real}, 0")
    return w.value(f"insertvalue {t} {first}, {part} {imag}, 1")


def cast(w: Writer, x: str, source: np.dtype[Any], target: np.dtype[Any]) -> str:
    """A number converted as NumPy does."""
    a, b = register_type(source), register_type(target)
    if source == target:
        return x
    if source.kind == "c":
        kind = target if target.kind == "b" else of_parts(target)
        real, imag = (cast(w, part, of_parts(source), kind) for part in parts(w, x, source))
        return w.value(f"or i1 {real}, {imag}") if target.kind == "b" else pair(w, real, imag, target)
    if target.kind == "c":
        part = of_parts(target)
        return pair(w, cast(w, x, source, part), constant(0, part), target)
    if a == b and source.kind in "iu" and target.kind in "iu":
        return x
    if target.kind == "b":
        if source.kind == "f":
            return w.value(f"fcmp une {a} {x}, {constant(0, source)}")
        return w.value(f"icmp ne {a} {x}, 0")
    if source.kind == "f":
        if target.kind == "f":
            return w.value(f"{'fpext' if target.itemsize > source.itemsize else 'fptrunc'} {a} {x} to {b}")
        if target.kind == "u" and target.itemsize == 8:
            return w.value(f"fptoui {a} {x} to {b}")
        # Narrow integers take the low bits of a wide one, as they do on the machines that NumPy runs on.
        wide = "i64" if target.itemsize > 2 or target.kind == "u" else "i32"
        found = w.value(f"fptosi {a} {x} to {wide}")
        return found if wide == b else w.value(f"trunc {wide} {found} to {b}")
    if target.kind == "f":
        return w.value(f"{'sitofp' if source.kind == 'i' else 'uitofp'} {a} {x} to {b}")
    if target.itemsize < source.itemsize and source.kind != "b":
        return w.value(f"trunc {a} {x} to {b}")
    return w.value(f"{'sext' if source.kind == 'i' else 'zext'} {a} {x} to {b}")


# ------------------------------------------------------------------------------------------------------ instructions

Entry = Callable[[Writer, Sequence[str], np.dtype[Any], np.dtype[Any]], str]
"""Writes an operation on operands of one type (that of the first), giving another."""

_entries: dict[str, tuple[str, Entry]] = {}
"""By name the kinds of operands ("b", "i", "u", "f") there are instructions for, and the entry."""


complex_entries: dict[str, Entry] = {}
"""Operations on complex operands, by name (`complexes` enters them)."""


def available(name: str, dtypes: Sequence[np.dtype[Any]]) -> bool:
    """Whether there are instructions for an operation on operands of some types."""
    if any(d.kind == "c" for d in dtypes):
        return name in complex_entries and all(d.kind == "c" and numeric(d) for d in dtypes)
    if name not in _entries:
        return False
    kinds, _ = _entries[name]
    return all(arithmetic(d) for d in dtypes) and all(d.kind in kinds for d in dtypes)


def instruct(w: Writer, name: str, arguments: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    """Write an operation."""
    entry = complex_entries[name] if source.kind == "c" else _entries[name][1]
    return entry(w, arguments, source, target)


def define(names: str, kinds: str) -> Callable[[Entry], Entry]:
    """Declare a function to write some operations on elements of some kinds."""

    def defined(entry: Entry) -> Entry:
        for name in names.split():
            _entries[name] = (kinds, entry)
        return entry

    return defined


def _simple(of_floats: str | None, of_signed: str | None, of_unsigned: str | None, of_bools: str | None) -> Entry:
    """One instruction, whose name depends on the type."""

    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        name = {"f": of_floats, "i": of_signed, "u": of_unsigned, "b": of_bools}[source.kind]
        return w.value(f"{name} {register_type(source)} {', '.join(x)}")

    return entry


def _kinds(*names: str | None) -> str:
    return "".join(kind for kind, name in zip("fiub", names, strict=True) if name)


for _name, _names in {
    "add": ("fadd", "add", "add", "or"),
    "subtract": ("fsub", "sub", "sub", None),
    "multiply": ("fmul", "mul", "mul", "and"),
    "divide": ("fdiv", None, None, None),
    "equal": ("fcmp oeq", "icmp eq", "icmp eq", "icmp eq"),
    "not_equal": ("fcmp une", "icmp ne", "icmp ne", "icmp ne"),
    "less": ("fcmp olt", "icmp slt", "icmp ult", "icmp ult"),
    "less_equal": ("fcmp ole", "icmp sle", "icmp ule", "icmp ule"),
    "greater": ("fcmp ogt", "icmp sgt", "icmp ugt", "icmp ugt"),
    "greater_equal": ("fcmp oge", "icmp sge", "icmp uge", "icmp uge"),
    "bitwise_and": (None, "and", "and", "and"),
    "bitwise_or": (None, "or", "or", "or"),
    "bitwise_xor": (None, "xor", "xor", "xor"),
}.items():
    _entries[_name] = (_kinds(*_names), _simple(*_names))


def select(w: Writer, condition: str, dtype: np.dtype[Any], a: str, b: str) -> str:
    """One of two numbers."""
    t = register_type(dtype)
    return w.value(f"select i1 {condition}, {t} {a}, {t} {b}")


def intrinsic(w: Writer, name: str, dtype: np.dtype[Any], x: Sequence[str]) -> str:
    """What an intrinsic function of LLVM's makes of numbers of one type."""
    t = register_type(dtype)
    suffix = _SUFFIX[dtype.itemsize] if dtype.kind == "f" else t
    return w.call(f"llvm.{name}.{suffix}", t, [(t, v) for v in x])


def _float_intrinsic(name: str) -> Entry:
    return lambda w, x, source, target: intrinsic(w, name, source, x)


for _name, _of in {
    "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint", "fabs": "fabs",
    "copysign": "copysign", "fmax": "maxnum", "fmin": "minnum",
}.items():  # fmt: skip
    _entries[_name] = ("f", _float_intrinsic(_of))


def _extreme(of_floats: str, of_signed: str, of_unsigned: str) -> Entry:
    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        names = {"f": of_floats, "i": of_signed, "u": of_unsigned, "b": of_unsigned}
        return intrinsic(w, names[source.kind], source, x)

    return entry


_entries["maximum"] = ("fiub", _extreme("maximum", "smax", "umax"))
_entries["minimum"] = ("fiub", _extreme("minimum", "smin", "umin"))


def _python_extreme(comparison: str) -> Entry:
    """Python's `max` and `min`: the first operand unless the second is beyond it."""

    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        t = register_type(source)
        kind = {"f": "fcmp o", "i": "icmp s", "b": "icmp u"}[source.kind]
        return select(w, w.value(f"{kind}{comparison} {t} {x[1]}, {x[0]}"), source, x[1], x[0])

    return entry


_entries["python.maximum"] = ("fib", _python_extreme("gt"))
_entries["python.minimum"] = ("fib", _python_extreme("lt"))


@define("negative", "fiu")
def _negative(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    t = register_type(source)
    return w.value(f"fneg {t} {x[0]}" if source.kind == "f" else f"sub {t} 0, {x[0]}")


@define("positive stop_gradient", "fiub")
def _positive(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return x[0]


@define("from_parts", "f")
def _from_parts(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return pair(w, x[0], x[1], target)


@define("square", "fiu")
def _square(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return w.value(f"{'fmul' if source.kind == 'f' else 'mul'} {register_type(source)} {x[0]}, {x[0]}")


@define("reciprocal", "f")
def _reciprocal(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return w.value(f"fdiv {register_type(source)} {constant(1, source)}, {x[0]}")


@define("absolute", "fiub")
def _absolute(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    if source.kind == "f":
        return intrinsic(w, "fabs", source, x)
    if source.kind != "i":
        return x[0]
    t = register_type(source)
    return w.call(f"llvm.abs.{t}", t, [(t, x[0]), ("i1", "false")])


@define("invert", "iub")
def _invert(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return w.value(f"xor {register_type(source)} {x[0]}, -1")


def _shift(left: bool) -> Entry:
    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        t, bits = register_type(source), 8 * source.itemsize
        a, b = x
        small = w.value(f"icmp ult {t} {b}, {bits}")
        by = select(w, small, source, b, str(bits - 1))
        if left:
            return select(w, small, source, w.value(f"shl {t} {a}, {by}"), "0")
        if source.kind == "i":
            return w.value(f"ashr {t} {a}, {by}")
        return select(w, small, source, w.value(f"lshr {t} {a}, {by}"), "0")

    return entry


_entries["left_shift"] = ("iu", _shift(True))
_entries["right_shift"] = ("iu", _shift(False))


@define("bitwise_count", "iu")
def _bitwise_count(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    size = _absolute(w, x, source, source)
    return cast(w, intrinsic(w, "ctpop", source, [size]), np.dtype(f"u{source.itemsize}"), target)


# ------------------------------------------------------------------------------------------------- logic and tests


def _true(w: Writer, x: str, dtype: np.dtype[Any]) -> str:
    return cast(w, x, dtype, np.dtype(bool))


def _logical(name: str) -> Entry:
    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        return w.value(f"{name} i1 {', '.join(_true(w, v, source) for v in x)}")

    return entry


for _name, _of in {"logical_and": "and", "logical_or": "or", "logical_xor": "xor"}.items():
    _entries[_name] = ("fiub", _logical(_of))


@define("logical_not", "fiub")
def _logical_not(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return w.value(f"xor i1 {_true(w, x[0], source)}, true")


def _compared_to_infinity(name: str) -> Entry:
    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        if source.kind != "f":
            return "true" if name == "fcmp olt" else "false"
        size = intrinsic(w, "fabs", source, x)
        return w.value(f"{name} {register_type(source)} {size}, {constant(np.inf, source)}")

    return entry


_entries["isfinite"] = ("fiub", _compared_to_infinity("fcmp olt"))
_entries["isinf"] = ("fiub", _compared_to_infinity("fcmp oeq"))


@define("isnan", "fiub")
def _isnan(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    return w.value(f"fcmp uno {register_type(source)} {x[0]}, {x[0]}") if source.kind == "f" else "false"


@define("signbit", "f")
def _signbit(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    bits = f"i{8 * source.itemsize}"
    return w.value(f"icmp slt {bits} {w.value(f'bitcast {register_type(source)} {x[0]} to {bits}')}, 0")


@define("sign", "fiu")
def _sign(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    t, zero, one = register_type(source), constant(0, source), constant(1, source)
    less, greater = ("fcmp olt", "fcmp ogt") if source.kind == "f" else ("icmp slt", "icmp sgt")
    if source.kind == "u":
        return select(w, w.value(f"icmp ne {t} {x[0]}, 0"), source, one, zero)
    below = select(w, w.value(f"{less} {t} {x[0]}, {zero}"), source, constant(-1, source), zero)
    found = select(w, w.value(f"{greater} {t} {x[0]}, {zero}"), source, one, below)
    return select(w, _isnan(w, x, source, target), source, x[0], found) if source.kind == "f" else found


@define("heaviside", "f")
def _heaviside(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    t, zero = register_type(source), constant(0, source)
    above = select(w, w.value(f"fcmp ogt {t} {x[0]}, {zero}"), source, constant(1, source), zero)
    found = select(w, w.value(f"fcmp oeq {t} {x[0]}, {zero}"), source, x[1], above)
    return select(w, _isnan(w, x[:1], source, target), source, x[0], found)


# ------------------------------------------------------------------------------------------------------- the library

LIBRARY = {
    "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log", "log2": "log2", "log10": "log10", "log1p": "log1p",
    "cbrt": "cbrt", "sin": "sin", "cos": "cos", "tan": "tan", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
    "arctan2": "atan2", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "hypot": "hypot", "power": "pow", "float_power": "pow", "erf": "erf", "erfc": "erfc",
    "nextafter": "nextafter",
}  # fmt: skip
"""By NumPy's name that of the function in C's library."""

_VECTOR = set(LIBRARY.values()) - {"nextafter"}
"""Those that glibc has for vectors too."""


kernels: dict[tuple[str, int], Callable[..., str]] = {}
"""Functions that are written out here instead of being called, by name and bytes (`mathematics` enters them)."""


def call_library(w: Writer, name: str, x: Sequence[str], dtype: np.dtype[Any]) -> str:
    """Call a function of C's library, which a loop may call for vectors."""
    if (name, dtype.itemsize) in kernels:
        return kernels[name, dtype.itemsize](w, name, x[0], dtype)
    t = register_type(dtype)
    symbol = name if dtype.itemsize == 8 else f"{name}f"
    variants = vector_variants(symbol, len(x), dtype.itemsize) if name in _VECTOR else []
    for lanes, variant in variants:
        vector = f"<{lanes} x {t}>"
        w.declare(variant, vector, [vector] * len(x))
        w.kept.add(variant)
    if not variants:
        return w.call(symbol, t, [(t, v) for v in x])
    # Under its own name LLVM would take it for an instruction, which it has for vectors only element by element.
    alias = scalar_alias(symbol)
    mapped = ",".join(f"{variant.replace(symbol, alias)}({variant})" for _, variant in variants)
    return w.call(alias, t, [(t, v) for v in x], f'"vector-function-abi-variant"="{mapped}"')


def _of_library(name: str) -> Entry:
    return lambda w, x, source, target: call_library(w, name, x, source)


for _name, _of in LIBRARY.items():
    _entries[_name] = ("f", _of_library(_of))


def enter_function(name: str, symbol: str) -> None:
    """Let an operation be a call of a function of numbers in double precision, which is given a zero after them."""

    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        given = [("double", cast(w, v, source, np.dtype(float))) for v in x]
        return cast(w, w.call(symbol, "double", [*given, ("i32", "0")]), np.dtype(float), target)

    _entries[name] = ("f", entry)


def _scaled(factor: float) -> Entry:
    return lambda w, x, source, target: w.value(f"fmul {register_type(source)} {x[0]}, {constant(factor, source)}")


_entries["deg2rad"] = _entries["radians"] = ("f", _scaled(np.pi / 180))
_entries["rad2deg"] = _entries["degrees"] = ("f", _scaled(180 / np.pi))


def _log_of_sum(power: str, log_of_two: float, scale: float) -> Entry:
    def entry(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
        t = register_type(source)
        apart = w.value(f"fsub {t} {', '.join(x)}")
        far = w.value(f"fneg {t} {intrinsic(w, 'fabs', source, [apart])}")
        rest = call_library(w, "log1p", [call_library(w, power, [far], source)], source)
        if scale != 1:
            rest = w.value(f"fmul {t} {rest}, {constant(scale, source)}")
        above = w.value(f"fcmp ogt {t} {apart}, {constant(0, source)}")
        found = w.value(f"fadd {t} {select(w, above, source, x[0], x[1])}, {rest}")
        found = select(w, _isnan(w, [apart], source, target), source, apart, found)
        same = w.value(f"fcmp oeq {t} {', '.join(x)}")
        return select(w, same, source, w.value(f"fadd {t} {x[0]}, {constant(log_of_two, source)}"), found)

    return entry


_entries["logaddexp"] = ("f", _log_of_sum("exp", np.log(2), 1))
_entries["logaddexp2"] = ("f", _log_of_sum("exp2", 1, 1 / np.log(2)))


@define("expit", "f")
def _expit(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    t, one = register_type(source), constant(1, source)
    power = call_library(w, "exp", [w.value(f"fneg {t} {x[0]}")], source)
    return w.value(f"fdiv {t} {one}, {w.value(f'fadd {t} {one}, {power}')}")


@define("log_expit", "f")
def _log_expit(w: Writer, x: Sequence[str], source: np.dtype[Any], target: np.dtype[Any]) -> str:
    t = register_type(source)
    power = call_library(w, "exp", [w.value(f"fneg {t} {intrinsic(w, 'fabs', source, x)}")], source)
    rest = call_library(w, "log1p", [power], source)
    below = select(w, w.value(f"fcmp olt {t} {x[0]}, {constant(0, source)}"), source, x[0], constant(0, source))
    return w.value(f"fsub {t} {below}, {rest}")
