"""How derivative rules are called.

A rule is a function whose parameter names say what it needs.  Here the names are read once, and become functions that
collect what is needed when an operation is performed, and that call the rule later, when a cotangent comes back.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .specs import Spec, spec_of

__all__ = ["Partial", "Prepared", "Rule", "prepare", "rule_of", "rule_of_twice", "together"]

# ------------------------------------------------------------------------------------------- forward and reverse rules

_NEEDS = {
    "y": "y",
    "of": "spec_of(values[position])",
    "position": "position",
    "operands": "tuple(values)",
    "specs": "tuple(map(spec_of, values))",
}


def _need(name: str, operands: Sequence[str]) -> str:
    """Where what a rule names is found, among `y`, `values`, `params` and `position`; as Python writes it."""
    if name in _NEEDS:
        return _NEEDS[name]
    if name in operands:
        i = operands.index(name)
        return f"values[{i}] if len(values) > {i} else None" if i else "values[0]"
    if f"*{name}" in operands:
        return f"tuple(values[{operands.index(f'*{name}')}:])"
    return f"params[{name!r}]"


def _collector(names: Sequence[str], operands: Sequence[str]) -> Callable[..., tuple[Any, ...]]:
    """A function that collects what a rule names, made of one piece: every operation of a program calls one."""
    needs = "".join(f"{_need(name, operands)}, " for name in names)
    # In this file's name, so that its frames count as the engine's.
    source = compile(f"lambda y, values, params, position: ({needs})", __file__, "eval")
    collect: Callable[..., tuple[Any, ...]] = eval(source, {"spec_of": spec_of})
    return collect


class Prepared:
    """A forward or reverse rule, and the collectors of what it asks for beside the (co)tangent."""

    def __init__(self, rule: Callable[..., Any], operands: Sequence[str]) -> None:
        code = rule.__code__
        self._rule = rule
        self._names = code.co_varnames[1 : code.co_argcount]
        self._operands = operands

    @functools.cached_property
    def pull(self) -> Callable[[Any, tuple[Any, ...], Any], Any]:
        """The operand's cotangent from that of the result, what `keep` kept, and the operand's `Spec`."""
        kept = (f"kept[{i}]" for i in itertools.count())
        arguments = ", ".join("of" if name == "of" else next(kept) for name in self._names)
        source = compile(f"lambda ct, kept, of: rule(ct, {arguments})", __file__, "eval")
        pull: Callable[..., Any] = eval(source, {"rule": self._rule})
        return pull

    @functools.cached_property
    def keep(self) -> Callable[..., tuple[Any, ...]]:
        """What the reverse rule must be given later beside the `Spec`, from (y, values, params, position)."""
        return _collector([name for name in self._names if name != "of"], self._operands)

    @functools.cached_property
    def _collect(self) -> Callable[..., tuple[Any, ...]]:
        return _collector(self._names, self._operands)

    def push(self, tangent: Any, y: Any, values: Sequence[Any], params: dict[str, Any], position: int) -> Any:
        """What the tangent of the operand at a position contributes to that of the result."""
        return self._rule(tangent, *self._collect(y, values, params, position))


def prepare(rule: Callable[..., Any] | None, operands: Sequence[str]) -> Prepared | None:
    """A rule for an operation with these operands; None stays None."""
    return None if rule is None else Prepared(rule, operands)


def together(rules: Sequence[Prepared]) -> Callable[[Any, tuple[Any, ...], Any], Any]:
    """The cotangents of several operands by the rules of each."""
    pulls = [rule.pull for rule in rules]

    def pull(ct: Any, kept: tuple[Any, ...], specs: Sequence[Spec]) -> list[Any]:
        return [pull(ct, k, of) for pull, k, of in zip(pulls, kept, specs, strict=True)]

    return pull


# --------------------------------------------------------------------------------------------- partial derivatives

Partial = Callable[..., Any] | int | None
"""A partial derivative by the names ``y``, ``x`` or ``a``, ``b``; the numbers 1 and -1; None where it is zero."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The derivative of an elementwise operation for one choice of active operands.

    What the partials need is kept bare where it is one thing, and as a tuple where it is several.
    """

    keep: Callable[[tuple[Any, ...]], Any]
    """From (y, operands...) what the partials need, in their order."""
    pull: Callable[[Any, Any, Any], Any]
    """The cotangent of the only active operand, or those of both, from that of the result; the specs do not matter."""
    push: Callable[[Sequence[Any], Any], Any]
    """The tangent of the result from those of the active operands."""


_ITSELF: Any = lambda x: x  # noqa: E731


def _is_argument(partial: Callable[..., Any] | int) -> bool:
    """Whether a partial derivative is its only argument, as those of a product are."""
    if not callable(partial):
        return False
    code = partial.__code__
    return code.co_argcount == 1 and code.co_code == _ITSELF.__code__.co_code


def _term(partial: Callable[..., Any] | int, start: int, stop: int, bare: bool) -> Callable[..., Any]:
    """Multiplication by a partial derivative, whose arguments are kept[start:stop], or the one bare thing kept."""
    if partial == 1:
        return lambda v, kept, specs=None: v
    if partial == -1:
        return lambda v, kept, specs=None: -v
    assert callable(partial)
    if _is_argument(partial):
        return (lambda v, kept, specs=None: v * kept) if bare else (lambda v, kept, specs=None: v * kept[start])

    def term(v: Any, kept: Any, specs: Any = None) -> Any:
        arguments = (kept,) if bare else kept[start:stop]
        try:
            return v * partial(*arguments)
        except ArithmeticError:
            # Where Python's numbers raise, NumPy's become infinite.
            return v * partial(*[np.asarray(k)[()] if type(k) in (float, complex, int) else k for k in arguments])

    return term


def rule_of(partials: Sequence[Callable[..., Any] | int], names: tuple[str, ...]) -> Rule:
    """The rule for the operands to which some partial derivatives belong, of an operation with these names."""
    positions: list[int] = []
    spans: list[tuple[int, int]] = []
    for partial in partials:
        start = len(positions)
        if callable(partial):
            code = partial.__code__
            positions += [names.index(n) for n in code.co_varnames[: code.co_argcount]]
        spans.append((start, len(positions)))
    keep = operator.itemgetter(*positions) if positions else lambda values: ()
    terms = [_term(p, *span, bare=len(positions) == 1) for p, span in zip(partials, spans, strict=True)]
    first = terms[0]
    if len(terms) == 1:
        return Rule(keep, first, lambda tangents, kept: first(tangents[0], kept))
    second = terms[1]
    pull = lambda ct, kept, specs: [first(ct, kept), second(ct, kept)]  # noqa: E731
    # Most of what programs do is to add and to multiply: these two say the same with fewer calls.
    if partials[0] == partials[1] == 1:
        pull = lambda ct, kept, specs: [ct, ct]  # noqa: E731
    elif all(map(_is_argument, partials)):
        pull = lambda ct, kept, specs: [ct * kept[0], ct * kept[1]]  # noqa: E731
    return Rule(keep, pull, lambda tangents, kept: first(tangents[0], kept) + second(tangents[1], kept))


def rule_of_twice(partials: Sequence[Callable[..., Any] | int], rule: Rule) -> Rule:
    """The rule for one operand in both places, from that for two."""
    pull = lambda ct, kept, specs: rule.push((ct, ct), kept)  # noqa: E731
    if all(map(_is_argument, partials)):
        pull = lambda ct, kept, specs: ct * (kept[0] + kept[1])  # noqa: E731
    return replace(rule, pull=pull)
