"""What a type says of a value: bringing a value to it, its tangents, its lanes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.stack import EMPTY
from ..graph.dims import Unstageable, hooks, is_open, same_shape
from ..graph.graph import ARRAY, NUMBER, PYTHON, STACK_TYPE, Type
from ..ops.scalars import convert
from .staging import type_of_cell

__all__ = ["INTEGER", "blank", "convert", "has_tangents", "joined_type", "lane_type", "settle", "tangent_type"]

INTEGER = Type((), np.dtype(int), PYTHON)


def settle(x: Any, type: Type) -> Any:
    """A value brought to a type: what every step of a loop, and every side of a branch, must agree on."""
    found = type_of_cell(x)
    if type == STACK_TYPE:
        return x
    if not same_shape(found.shape, type.shape):
        x = np.broadcast_to(x, type.shape)  # type: ignore[arg-type]
        found = type_of_cell(x)
    if found.dtype == type.dtype and (found.shape or found.form == type.form):
        return x
    if type.shape:
        return x.astype(type.dtype)
    return convert(x, dtype=type.dtype, form=type.form)


def has_tangents(type: Type) -> bool:
    """Whether values of a type have tangents."""
    return type.dtype.kind in "fcV"


def tangent_type(type: Type) -> Type:
    """The type of the tangents of values of a type; those of an integer are zeros."""
    return type if has_tangents(type) else Type(type.shape, np.dtype(float), type.form)


def lane_type(type: Type, size: int) -> Type:
    """The type of the values of all lanes together; a stack holds those of all lanes."""
    return type if type == STACK_TYPE else Type((size, *type.shape), type.dtype, ARRAY)


def blank(type: Type) -> Any:
    """Any value of a type, where one is needed and never looked at."""
    if type == STACK_TYPE:
        return EMPTY
    if is_open(type.shape):
        return hooks.full(type.shape, type.dtype.type(0))
    return np.zeros(type.shape, type.dtype) if type.shape else settle(np.zeros((), type.dtype)[()], type)


def joined_type(a: Type, b: Type, what: str) -> Type:
    """The type that values of two types have in common."""
    if not same_shape(a.shape, b.shape):
        raise Unstageable(
            f"{what} changes its shape from {a.shape} to {b.shape}", "Write into an array of the largest shape"
        )
    dtype = np.result_type(_weak(a), _weak(b))
    form = next(f for f in (ARRAY, NUMBER, PYTHON) if f in (a.form, b.form))
    return Type(a.shape, dtype, form)


def _weak(type: Type) -> Any:
    return {"b": True, "i": 1, "f": 1.0, "c": 1j}[type.dtype.kind] if type.form == PYTHON else type.dtype
