"""Ids that were written elsewhere, matched with those of the dataset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silvertune.datasets.item_ids import matched


@pytest.mark.parametrize(
    ("written", "items", "matches"),
    [
        (["a", "b"], ["a", "b", "c"], {"a": "a", "b": "b"}),
        (["7"], ["007"], {"7": "007"}),
        (["007"], ["7"], {"007": "7"}),
        (["7.0"], ["7"], {"7.0": "7"}),
        (["7"], ["7", "007"], {"7": "7"}),
        (["07"], ["7", "007"], {}),
        (["7", "7.0"], ["007"], {}),
        (["1.1", "1.10"], ["1.1"], {"1.1": "1.1"}),
        (["a\u0301"], ["\u00e1"], {"a\u0301": "\u00e1"}),
        (["\u00e1 "], ["\u00e1", "a\u0301"], {}),
        (["a\u0301"], ["\u00e1", "a\u0301"], {"a\u0301": "a\u0301"}),
        (["true"], ["1"], {}),
        (["x"], ["1"], {}),
    ],
    ids=str,
)
def test_ids_are_matched_exactly_and_as_numbers_where_only_one_fits(
    written: list[str], items: list[str], matches: dict[str, str]
) -> None:
    assert matched(written, items) == matches


@given(st.lists(st.text("0127.e+ ", min_size=1).map(str.strip).filter(bool), min_size=1, unique=True))
def test_every_id_is_its_own(ids: list[str]) -> None:
    assert matched(ids, ids) == {name: name for name in ids}


@given(st.lists(st.text("0127.", min_size=1)), st.lists(st.text("0127.", min_size=1)))
def test_no_two_written_ids_are_one_item_unless_blanks_differ(written: list[str], items: list[str]) -> None:
    matches = matched(written, items)
    assert set(matches.values()) <= set(items)
    assert len(set(matches.values())) == len(matches)
