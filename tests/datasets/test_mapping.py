"""How views are made of columns, once more for files that came later."""

from typing import Any

import pytest
from tests import made

from silvertune.datasets.formats import ABSENT, Columns
from silvertune.datasets.mapping import ColumnMapping, ItemTexts

MESSAGES = ColumnMapping(id="id", views={"text": "{subject}\n{body}"})


def columns(**values: list[Any]) -> Columns:
    count = len(next(iter(values.values())))
    return Columns(values, range(2, count + 2), "messages.csv:")


def test_texts_are_made_as_the_dataset_makes_them() -> None:
    file = columns(id=["a", 7.0], subject=["Late", None], body=["It came late.", "Fine"], other=[1, 2])
    fields = MESSAGES.fields_in(file, "messages.csv")
    assert fields == {"id", "subject", "body"}
    assert MESSAGES.texts(file, fields) == ItemTexts(["a", "7"], {"text": ["Late\nIt came late.", "Fine"]}, {})


def test_a_row_without_text_is_no_bad_row() -> None:
    file = columns(id=["a"], subject=[""], body=[None])
    assert MESSAGES.texts(file, {"id", "subject", "body"}).views == {"text": [None]}


def test_a_row_that_holds_no_text_is_the_only_one_to_suffer() -> None:
    file = columns(id=["a", "b", ["c"]], subject=["one", {"two": 2}, "three"], body=["", "", ""])
    texts = MESSAGES.texts(file, {"id", "subject", "body"})
    assert texts.views == {"text": ["one", None, None]}
    assert texts.ids == ["a", "", ""]
    assert "messages.csv:3: column 'subject': holds an object" in texts.bad_rows[1]
    assert "messages.csv:4: column 'id'" in texts.bad_rows[2]


def test_a_row_that_lacks_a_field_has_it_empty() -> None:
    later = columns(id=["a", "b"], subject=["one", ABSENT])
    assert MESSAGES.texts(later, {"id", "subject", "body"}).views == {"text": ["one", None]}


def test_rows_without_ids_are_numbered() -> None:
    mapping = ColumnMapping(id=None, views={"text": "{text}"})
    assert mapping.texts(columns(text=["x", True, "z"]), {"text"}, first=11).ids == ["11", "", "13"]
    assert mapping.texts(columns(text=["x", "y"]), {"text"}, first=11).ids == ["11", "12"]


@pytest.mark.parametrize(
    ("lacking", "words"),
    [("body", "text='{subject}\\n{body}': no field 'body'"), ("id", "id=id: no such column in messages.csv")],
)
def test_a_column_that_is_missing_is_told(lacking: str, words: str) -> None:
    values = {name: ["x"] for name in ("id", "subject", "body") if name != lacking}
    with made.refused(words):
        MESSAGES.fields_in(columns(**values), "messages.csv")


def test_tables_are_read_as_tables() -> None:
    mapping = ColumnMapping(id=None, views={"json": "{cells_json}", "text": "{cells_text}"}, cells="rows")
    file = columns(rows=[[["a", "b"]], [["a"], ["b", "c"]]])
    texts = mapping.texts(file, mapping.fields_in(file, "tables.jsonl"))
    assert texts.views["text"] == ["a | b", None]
    assert "ragged" in texts.bad_rows[1]
    assert mapping.only(["text"]).views == {"text": "{cells_text}"}


def test_columns_with_braces_keep_their_names() -> None:
    mapping = ColumnMapping(id=None, views={"text": "{free {{text}}}", "other": '{"a {b}"}'})
    file = columns(**{"free {text}": ["x"], "a {b}": ["y"]})
    assert mapping.texts(file, mapping.fields_in(file, "f")).views == {"text": ["x"], "other": ["y"]}


def test_views_themselves_may_be_columns() -> None:
    mapping = ColumnMapping.of_views(["json", "a {b}"])
    file = columns(**{"json": ["x"], "a {b}": ["y"]})
    assert mapping.texts(file, mapping.fields_in(file, "f")).views == {"json": ["x"], "a {b}": ["y"]}


def test_only_what_makes_views_is_kept_of_a_dataset() -> None:
    of_file = {
        "_target_": "silvertune.datasets.load_files",
        "id": "id",
        "views": {"text": "{t}"},
        "gold": {"column": "g"},
    }
    assert ColumnMapping.of_dataset(of_file) == ColumnMapping(id="id", views={"text": "{t}"})
    assert ColumnMapping.of_dataset({"_target_": "my_dataset.load", "views": 2}) is None
    with made.refused("view 'other'"):
        MESSAGES.only(["text", "other"])
