"""Texts as paragraphs and tables: nothing is lost, and what is cut is small enough."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silvertune.reports import item_text
from silvertune.reports.item_text import blocks, common_limit, cut, size


@pytest.mark.parametrize(
    "text", [("-" * 200_000 + "a\tb\n") * 2, "a\n" * 400_000, "[" * 800_000, "a\tb\n\n\nx" * 90_000]
)
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    blocks(text)
    assert time.process_time() - started < 5  # where time grew with the square of the length, minutes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One line.\nAnother.", ["One line.\nAnother."]),
        ("", []),
        ('{"0": {"0": "a", "2": "c"}, "10": {"0": "b"}}', [[["a", "b"], ["c", ""]]]),
        ('{"dose": {"x": 1}, "unit": {"x": "mg"}}', [[["dose", "unit"], ["1", "mg"]]]),
        ('[["a", null], ["b", 2.5]]', [[["a", ""], ["b", "2.5"]]]),
        ('[{"a": 1}, {"b": true}]', [[["a", "b"], ["1", ""], ["", "true"]]]),
        ('{"title": "x", "body": "y"}', [[["title", "x"], ["body", "y"]]]),
        ("Table 1\na | b\nc | d\nNote.", ["Table 1", [["a", "b"], ["c", "d"]], "Note."]),
        ("a | b\ntail of a cell\nc | d", [[["a", "b"], ["tail of a cell"], ["c", "d"]]]),
        ("| a | b |\n|---|:--|\n| c | d |", [[["a", "b"], ["c", "d"]]]),
        ("a\tb\nc\t", [[["a", "b"], ["c", ""]]]),
        ("Before.\n" + '[["a"],["b"]]', ["Before.", [["a"], ["b"]]]),
        ("either this | or that, in one line", ["either this | or that, in one line"]),
        ("a|b\nc|d", ["a|b\nc|d"]),
        ("[not json]", ["[not json]"]),
        ("[1, 2]", ["[1, 2]"]),
        ('{"a": {"0": "x"}, "b": 1}', [[["a", '{"0": "x"}'], ["b", "1"]]]),
        (f"{'long ' * 8}| {'words ' * 8}| {'here ' * 8}\na | b\nc | d",
         [f"{'long ' * 8}| {'words ' * 8}| {'here ' * 8}", [["a", "b"], ["c", "d"]]]),
    ],
)  # fmt: skip
def test_a_table_is_a_table_and_a_text_is_a_text(text: str, expected: list[item_text.Block]) -> None:
    assert blocks(text) == expected


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "[" + "9" * 5000 + "]", '{"a": NaN', "{}", "[]"])
def test_odd_json_stays_a_text(text: str) -> None:
    assert blocks(text) == [text]


WORD = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.lists(st.one_of(WORD, st.lists(WORD, min_size=2).map(" | ".join)), max_size=12))
def test_no_word_of_a_text_is_lost(lines: list[str]) -> None:
    def letters(text: str) -> str:
        return "".join(sorted("".join(text.split()).replace("|", "").replace("-", "").replace(":", "")))

    shown = [
        part if isinstance(part, str) else " ".join(" ".join(row) for row in part) for part in blocks("\n".join(lines))
    ]
    rules = [line for line in lines if item_text.RULE.match(line)]
    if not rules:
        assert letters("\n".join(lines)) == letters(" ".join(shown))


@given(st.lists(st.one_of(WORD, st.lists(st.lists(WORD, max_size=4), max_size=4)), max_size=5), st.integers(0, 80))
def test_what_is_cut_fits_and_is_the_beginning(parts: list[item_text.Block], limit: int) -> None:
    kept, is_cut = cut(parts, limit)
    assert is_cut or kept == parts
    assert size(parts) > limit or not is_cut
    assert size(kept) <= limit + 3 * sum(len(row) for part in kept if not isinstance(part, str) for row in part)
    if kept and isinstance(kept[-1], str):
        assert str(parts[len(kept) - 1]).startswith(kept[-1])


def test_a_table_that_is_wide_long_or_sparse_is_cut() -> None:
    sparse = json.dumps({str(k): {str(k): "x"} for k in range(2000)})
    rows, is_cut = cut(blocks(sparse), 10**9)
    assert is_cut
    assert len(rows[0]) == item_text.MOST_ROWS
    assert {len(row) for row in rows[0]} == {item_text.MOST_COLUMNS}


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(0, 400))
def test_the_common_limit_is_the_largest_that_fits(sizes: list[int], budget: int) -> None:
    limit = common_limit(sizes, budget)
    assert sum(min(one, limit) for one in sizes) <= budget
    if sizes and limit < max(sizes):
        assert sum(min(one, limit + 1) for one in sizes) > budget
