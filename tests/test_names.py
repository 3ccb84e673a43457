"""The table of other systems' names is true, complete as far as it goes, and the one that is printed."""

import functools

import numpy as np
import pytest

import bindrune as br
import names

ROWS = [row for rows in names.SECTIONS.values() for row in rows]


def label(row: names.Row) -> str:
    return row.jax or row.rune or row.ours


@pytest.mark.parametrize("row", [r for r in ROWS if r.example], ids=label)
def test_an_example_is_true(row: names.Row) -> None:
    assert np.all(names.run(row.example))


@pytest.mark.parametrize("row", [r for r in ROWS if not r.example and r.ours], ids=label)
def test_what_is_said_to_be_missing_is_missing(row: names.Row) -> None:
    with pytest.raises(AttributeError):
        functools.reduce(getattr, row.ours.split(".")[1:], br)


def test_no_name_stands_twice() -> None:
    for found in ([n for r in ROWS for n in r.jax.split()], [n for r in ROWS for n in r.rune.split()]):
        assert len(found) == len(set(found))


def test_every_function_of_ours_has_a_row() -> None:
    code = " ".join(r.ours + r.example for r in ROWS)
    assert not [n for n in br.__all__ if f"br.{n}" not in code and not isinstance(getattr(br, n), type)]


def test_the_document_is_what_the_rows_say() -> None:
    assert names.DOCUMENT.read_text() == names.document(), "run: python tests/names.py"
