"""The types of an operation's results, found by performing it on samples.

An operation's implementation is the one authority on shapes and dtypes, so it is asked: it runs on samples of the
operands' types.  Elementwise operations run on single elements, for their shapes follow from broadcasting, and products
on operands that are as small as their lengths can be told apart.  Where lengths are not known (`Dim`), the others run
for several choices of them, and each length of a result is the linear expression that agrees with all.

Refused: results whose lengths are no linear function of the operands' (`Unstageable`); whoever asked then goes on
with the lengths of the arguments at hand.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.operation import Elementwise, Op, Spec, Write
from .dims import FIXED, Dim, Length, Unstageable, broadcast_shapes, dims_in, linear, substitute, values_in
from .graph import ARRAY, NUMBER, PYTHON, Type, type_of

__all__ = ["OF_VALUES", "infer", "sample"]


OF_VALUES = frozenset({"eig", "lstsq"})
"""Operations whose results have types that no sample tells: complex or real, as many residuals as the rank says."""

_PRODUCTS = frozenset({"matmul", "dot", "einsum", "inner", "vdot", "vecdot", "matvec", "vecmat"})
"""Operations of which each length of the result is one of an operand's."""

_PYTHON: dict[str, Any] = {"b": True, "i": 0, "f": 1.0, "c": 1 + 0j}
_OTHERS = (1, 0.5, 2)
"""What numbers become where an operation is not defined for the first choice: quotients, `atanh`, `acosh`."""

_known: dict[Any, tuple[Type, ...]] = {}
_MOST_KNOWN = 20_000


def infer(op: Op, types: Sequence[Type], params: Mapping[str, Any]) -> tuple[Type, ...]:
    """The types of the results of an operation on operands of some types."""
    if isinstance(op, Write):
        return (types[0]._replace(form=ARRAY),)
    if isinstance(op, Elementwise):
        (found,) = _remembered(op, [_of_one_element(t) for t in types], {})
        if all(t.shape == types[0].shape for t in types):
            return (found._replace(shape=types[0].shape),)
        return (found._replace(shape=broadcast_shapes([t.shape for t in types])),)
    if any(isinstance(n, Dim) for t in types for n in t.shape) or next(dims_in(params), None) is not None:
        return _with_lengths(op, types, params)
    if op.name in _PRODUCTS:
        return _of_product(op, types, params)
    return _remembered(op, types, params)


def _of_product(op: Op, types: Sequence[Type], params: Mapping[str, Any]) -> tuple[Type, ...]:
    """The types where other lengths stand for those there are: lengths that are equal stay so, and so does one."""
    lengths = sorted({0, 1, *(n for t in types for n in t.shape)})
    small = {n: i for i, n in enumerate(lengths)}
    try:
        found = _remembered(op, [t._replace(shape=tuple(small[n] for n in t.shape)) for t in types], params)
    except ValueError:
        return _remembered(op, types, params)  # it says which lengths do not fit
    return tuple(t._replace(shape=tuple(lengths[i] for i in t.shape)) for t in found)


def _of_one_element(type: Type) -> Type:
    return type._replace(shape=(1,) * len(type.shape))


def sample(type: Type, lengths: Callable[[Dim], int] | None = None) -> Any:
    """A value of a type: ones on the diagonal, so that it has an inverse and a root, and indices that exist."""
    if type.form == PYTHON:
        return _PYTHON[type.dtype.kind]
    if type.form == NUMBER:
        return type.dtype.type(0 if type.dtype.kind in "iu" else 1)
    shape = substitute(type.shape, lengths or _refuse_length)
    if type.dtype.kind in "biu":
        return np.zeros(shape, type.dtype)
    made = np.zeros(shape, type.dtype)
    if made.ndim < 2:
        made[...] = 1
    else:
        made[..., range(min(made.shape[-2:])), range(min(made.shape[-2:]))] = 1
    return made


def _refuse_length(dim: Dim) -> int:
    raise Unstageable("this needs the length of an array, which only the running program knows", FIXED)


def _remembered(op: Op, types: Sequence[Type], params: Mapping[str, Any]) -> tuple[Type, ...]:
    key: Any = (op, *types, _hashable(params))
    try:
        known = _known.get(key)
    except TypeError:
        return _types(_performed(op, [sample(t) for t in types], params))
    if known is None:
        if len(_known) > _MOST_KNOWN:
            _known.clear()
        known = _known[key] = _types(_performed(op, [sample(t) for t in types], params))
    return known


def _hashable(params: Any) -> Any:
    """Parameters in a form that can be a key: slices and dicts cannot."""
    if isinstance(params, slice):
        return ("slice", params.start, params.stop, params.step)
    if isinstance(params, (tuple, list)):
        return tuple(map(_hashable, params))
    if isinstance(params, Mapping):
        return tuple((name, _hashable(content)) for name, content in params.items())
    return (type(params), params) if isinstance(params, (bool, int, float)) else params


def _performed(op: Op, operands: Sequence[Any], params: Mapping[str, Any]) -> Any:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return op.implementation(*operands, **params)
        except (ArithmeticError, ValueError):
            for other in _OTHERS:
                with contextlib.suppress(ArithmeticError, ValueError):
                    return op.implementation(*(_replaced(x, other) for x in operands), **params)
            raise


def _replaced(x: Any, other: float) -> Any:
    """A sample of the same type with another number in it."""
    if isinstance(x, np.ndarray):
        return np.full_like(x, other) if x.dtype.kind in "iuf" else x
    if isinstance(x, (int, float, np.number)) and not isinstance(x, bool):
        kind: Any = type(x)
        return kind(other)
    return x


def _types(results: Any) -> tuple[Type, ...]:
    return tuple(map(type_of, results)) if type(results) is tuple else (type_of(results),)


def _with_lengths(op: Op, types: Sequence[Type], params: Mapping[str, Any]) -> tuple[Type, ...]:
    """The types where some lengths are not known: linear expressions fitted to what samples of them give."""
    if op.shape is not None:
        specs = [Spec(t.shape, t.dtype) for t in types]  # type: ignore[arg-type]
        shape = op.shape(specs, params)
        return (Type(shape, types[0].dtype, ARRAY if shape else NUMBER),)
    variables = values_in([[t.shape for t in types], dict(params)])
    places = {v: i for i, v in enumerate(variables)}

    def numbered(dim: Dim) -> Dim:
        return Dim({places[v]: factor for v, factor in dim.terms.items()}, dim.offset)

    known_types = [t._replace(shape=substitute(t.shape, numbered)) for t in types]
    found = _fitted(op, known_types, substitute(dict(params), numbered))

    def named(dim: Dim) -> Length:
        return linear({variables[i]: factor for i, factor in dim.terms.items()}, dim.offset)

    return tuple(t._replace(shape=substitute(t.shape, named)) for t in found)


def _fitted(op: Op, types: Sequence[Type], params: Mapping[str, Any]) -> tuple[Type, ...]:
    """The types where lengths are expressions over numbered variables, which makes them the same again and again."""
    key: Any = ("lengths", op, *types, _hashable(params))
    try:
        known = _known.get(key)
    except TypeError:
        return _fit(op, types, params)
    if known is None:
        known = _known[key] = _fit(op, types, params)
    return known


def _fit(op: Op, types: Sequence[Type], params: Mapping[str, Any]) -> tuple[Type, ...]:
    content = [[t.shape for t in types], dict(params)]
    variables, dims = values_in(content), list(dims_in(content))

    def perform(lengths: Mapping[Any, int]) -> tuple[Type, ...]:
        def number(dim: Dim) -> int:
            return dim.at(lengths.__getitem__)

        operands = [sample(t, number) for t in types]
        try:
            return _types(_performed(op, operands, substitute(dict(params), number)))
        except (ValueError, IndexError) as error:
            raise Unstageable(f"{op.name} of lengths that are not known: {error}", FIXED) from None

    base = _positive(variables, dims)
    found = perform(base)
    moved = [perform({**base, v: base[v] + 1}) for v in variables]
    checks = [{v: n + 2 + i for i, (v, n) in enumerate(base.items())}, *(_positive(variables, dims, s) for s in _FAR)]
    expected = [(at, perform(at)) for at in checks if all(d.at(at.__getitem__) > 0 for d in dims)]

    def fit(result: int, axis: int) -> Length:
        start = found[result].shape[axis]
        factors = {v: m[result].shape[axis] - start for v, m in zip(variables, moved, strict=True)}
        offset = start - sum(factors[v] * base[v] for v in variables)
        length = linear(factors, offset)
        for at, types in expected:
            promised = length.at(at.__getitem__) if isinstance(length, Dim) else length
            if promised != types[result].shape[axis]:
                raise Unstageable(f"the shape of what {op.name} gives is no linear function of the lengths", FIXED)
        return length

    return tuple(t._replace(shape=tuple(fit(i, axis) for axis in range(len(t.shape)))) for i, t in enumerate(found))


_FAR = (100, 200, 300)
"""Where else, by seeds, a fitted length must be right: what is linear here may not be so there."""


def _positive(variables: Sequence[Any], dims: Sequence[Dim], first: int = 0) -> dict[Any, int]:
    """Numbers for the values of some lengths that make all of them positive, and few of them equal.

    They stay positive where one of the values is one larger.
    """
    for seed in range(first, first + 64):
        rng = np.random.default_rng(seed)
        lengths = {v: int(n) for v, n in zip(variables, rng.integers(4, 24, len(variables)), strict=True)}
        for _ in range(_MENDED):
            short = [d for d in dims if d.at(lengths.__getitem__) <= _least(d)]
            if not short:
                return lengths
            _lengthen(short[rng.integers(len(short))], lengths, int(rng.integers(1, 8)))
    raise Unstageable("lengths that are not known are combined in a way that cannot be followed", FIXED)


_MENDED = 8
"""How many lengths are made positive, one after the other, which may take from others what these need."""


def _least(dim: Dim) -> int:
    """What a length must be larger than."""
    return max(1, *(-factor for factor in dim.terms.values()))


def _lengthen(dim: Dim, lengths: dict[Any, int], more: int) -> None:
    """Move the value that makes a length longest, until the length is that much larger than it must be."""
    value, factor = max(dim.terms.items(), key=lambda term: term[1])
    missing = _least(dim) + more - dim.at(lengths.__getitem__)
    lengths[value] = max(lengths[value] + (-(-missing // factor) if factor > 0 else missing // factor), 1)
