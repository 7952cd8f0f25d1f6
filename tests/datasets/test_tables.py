"""The parts of a table: rows and camelot's columns are the same grid, and captions can be taken out."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silvertune.datasets import tables

ROWS = [["Visit", "Screening", ""], ["ECG", "X", "X"], ["", "", "Week 4"]]
CELLS = st.text(max_size=12) | st.sampled_from(["", "a | b", 'say "hi"', "a\nb", "a\u2028b"])
GRIDS = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=4)
)


def columns_of(rows: list[list[Any]]) -> dict[str, dict[str, Any]]:
    """What camelot's `to_json` gives: column -> {row: cell}."""
    return {str(j): {str(i): row[j] for i, row in enumerate(rows)} for j in range(len(rows[0]))}


def fields(rows: list[list[str]], **given: Any) -> dict[str, str]:
    parts: dict[str, Any] = {"page_text": "", "caption": "", "footnotes": "", "captions": True}
    return tables.fields(rows, **(parts | given))


@settings(deadline=None)
@given(GRIDS)
def test_rows_and_columns_of_cells_are_the_same_grid(rows: list[list[str]]) -> None:
    assert tables.grid(rows) == rows
    assert tables.grid(columns_of(rows)) == rows
    assert tables.grid(json.loads(json.dumps(columns_of(rows)))) == rows


def test_cells_that_are_not_text_become_text() -> None:
    assert tables.grid([[1, None], [2.5, True]]) == [["1", ""], ["2.5", "True"]]


@pytest.mark.parametrize("value", [None, [], {}])
def test_no_cells_are_an_empty_grid(value: object) -> None:
    assert tables.grid(value) == []
    assert fields([])["cells_json"] == ""
    assert fields([])["cells_text"] == ""


@pytest.mark.parametrize(
    ("sparse", "rows"),
    [
        ({"0": {"0": "a", "2": "c"}, "1": {"0": "x", "1": "y", "2": "z"}}, [["a", "x"], ["", "y"], ["c", "z"]]),
        ({"1": {"0": "x"}, "10": {"0": "z"}, "2": {"0": "y"}}, [["x", "y", "z"]]),
    ],
    ids=["a cell left out", "keys sorted as text"],
)
def test_columns_of_cells_stand_where_their_numbers_say(sparse: dict[str, Any], rows: list[list[str]]) -> None:
    assert tables.grid(sparse) == rows


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([["a", "b"], ["c"]], "row 1 has 1 cells, row 0 has 2"),
        ("a table", "got str"),
        (7, "got int"),
        (["a", "b"], "got list"),
        ({"0": ["a", "b"]}, "column -> {row: cell}"),
    ],
)
def test_anything_else_is_refused(value: object, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        tables.grid(value)
    assert "\n" not in str(caught.value)


def test_the_json_view_maps_column_and_row_to_cell_without_the_empty_ones() -> None:
    view = fields(ROWS)["cells_json"]
    assert json.loads(view) == {
        "0": {"0": "Visit", "1": "ECG"},
        "1": {"0": "Screening", "1": "X"},
        "2": {"1": "X", "2": "Week 4"},
    }


def test_a_column_without_cells_is_left_out_of_the_json_view() -> None:
    assert json.loads(fields([["a", " ", "c"]])["cells_json"]) == {"0": {"0": "a"}, "2": {"0": "c"}}


def test_the_json_view_keeps_letters_as_they_are() -> None:
    assert "Prüfung ✓" in fields([["Prüfung ✓"]])["cells_json"]


def test_the_text_view_has_one_line_a_row() -> None:
    assert fields(ROWS)["cells_text"] == "Visit | Screening\nECG | X | X\nWeek 4"


def test_a_table_of_blanks_has_no_cells_to_show() -> None:
    found = fields([["", " "], ["\t", ""]])
    assert found["cells_json"] == ""
    assert found["cells_text"] == ""


def test_the_other_parts_are_handed_on() -> None:
    found = fields(ROWS, page_text="page", caption="Table 1", footnotes="a: fasting")
    assert (found["page_text"], found["caption"], found["footnotes"]) == ("page", "Table 1", "a: fasting")
    assert set(found) == set(tables.FIELDS)


PAGE = "Protocol 7\nTable 1.   Schedule\nof events\nECG X\nas in Table 1. Schedule, see above"


def test_captions_false_takes_the_caption_and_its_lines_on_the_page_away() -> None:
    found = fields(ROWS, page_text=PAGE, caption="table 1. schedule | OF EVENTS", captions=False)
    assert found["caption"] == ""
    assert found["page_text"] == "Protocol 7\nECG X\nas in Table 1. Schedule, see above"
    assert found["cells_json"] == fields(ROWS)["cells_json"]


def test_captions_true_leaves_the_page_as_it_is() -> None:
    assert fields(ROWS, page_text=PAGE, caption="Table 1. Schedule | of events")["page_text"] == PAGE


def test_captions_false_without_a_caption_takes_nothing_away() -> None:
    page = "a\n\nb"
    assert fields(ROWS, page_text=page, caption="", captions=False)["page_text"] == page
    assert fields(ROWS, page_text=page, caption=" | ", captions=False)["page_text"] == page


def test_captions_false_knows_the_lines_of_a_caption_of_several_lines() -> None:
    found = fields(ROWS, page_text=PAGE, caption="Table 1. Schedule\nof events", captions=False)
    assert found["page_text"] == "Protocol 7\nECG X\nas in Table 1. Schedule, see above"
