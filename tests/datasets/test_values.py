"""Single values of files: nulls, text, names and numbers."""

import datetime
import json
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import made

from silvertune.datasets import values
from silvertune.errors import UserError


@pytest.mark.parametrize(
    "value", [None, float("nan"), np.nan, pd.NaT, pd.NA, Decimal("nan"), np.float64("nan")], ids=str
)
def test_every_null_is_null(value: object) -> None:
    assert values.is_null(value)
    assert values.text_of(value, "") == ""
    assert values.name_of(value, "") == ""
    assert values.number_of(value) is None
    assert values.without_nulls({"a": [value, {"b": value}]}) == {"a": [None, {"b": None}]}


@pytest.mark.parametrize("value", ["", "nan", "None", "NA", 0, 0.0, False, [], {}, b"", float("inf")], ids=repr)
def test_nothing_else_is_null(value: object) -> None:
    assert not values.is_null(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("caf\u00e9", "caf\u00e9"),
        ("caf\u00e9".encode(), "caf\u00e9"),
        (3, "3"),
        (0.5, "0.5"),
        (Decimal("1.10"), "1.10"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
    ids=repr,
)
def test_text_numbers_and_dates_are_text(value: object, text: str) -> None:
    assert values.text_of(value, "") == text


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (True, "a truth value (True)"),
        (["a"], "a list (['a'])"),
        ({"a": 1}, "an object ({'a': 1})"),
        (b"caf\xe9", "not UTF-8 text (0xe9 at byte 3)"),
        ("a\ud83d", "half a character ('\\ud83d' at position 1)"),
        (range(3), "range"),
    ],
    ids=repr,
)
def test_what_is_no_text_is_refused_with_its_place(value: object, part: str) -> None:
    with made.refused("items.jsonl:7: column 'text': holds", part):
        values.text_of(value, "items.jsonl:7: column 'text'")


def test_a_refused_value_is_shown_in_part_and_in_ascii() -> None:
    with pytest.raises(UserError) as caught:
        values.text_of(["\ud83d" + "x" * 500], "items.jsonl:7")
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("value", [1, 1.0, "1", " 1 ", Decimal("1.0"), b"1"])
def test_one_has_one_name(value: object) -> None:
    assert values.name_of(value, "items.jsonl:1") == "1"


@pytest.mark.parametrize("value", [0, 0.0, -0.0, "0"])
def test_zero_has_one_name(value: object) -> None:
    assert values.name_of(value, "items.jsonl:1") == "0"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (0.5, "0.5"),
        (Decimal("1e30"), "1" + "0" * 30),
        ("one", "one"),
        (10**20, "1" + "0" * 20),
    ],
)
def test_other_values_are_called_as_they_are_written(value: object, name: str) -> None:
    assert values.name_of(value, "items.jsonl:1") == name


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), Decimal("inf"), json.loads("1e400")], ids=repr)
def test_an_infinite_number_is_no_name(value: object) -> None:
    with made.refused("items.jsonl:1: column 'id': holds an infinite number", "write it as text"):
        values.name_of(value, "items.jsonl:1: column 'id'")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("007", "7"),
        ("7.10", "7.1"),
        (" -4E5 ", "-400000"),
        (".5", "0.5"),
        ("1e400", "1e400"),
        (10**30, "1e30"),
        (0.1, "0.1"),
        (True, "1"),
        ("FALSE", "0"),
    ],
    ids=repr,
)
def test_numbers_are_exact(value: object, number: str) -> None:
    assert values.number_of(value) == Decimal(number)


@pytest.mark.parametrize(
    "value", ["1_000", "\uff11", "1,5", "nan", "inf", "0x10", "1:30", "", "e5", ".", [1], b"1"], ids=repr
)
def test_other_spellings_are_no_numbers(value: object) -> None:
    assert values.number_of(value) is None


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_the_number_that_it_is_written_as(value: float) -> None:
    assert values.number_of(value) == values.number_of(repr(value))


def test_blanks_around_are_of_every_kind() -> None:
    assert values.without_blanks_around("\u200b\u00a0 \ufeffyes, sir\t\u2060 ") == "yes, sir"
