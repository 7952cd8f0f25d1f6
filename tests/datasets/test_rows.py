"""Rows of JSONL, CSV and Parquet files: the same content is the same rows, and every bad file is told in one line."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silvertune.datasets import formats, rows, values
from silvertune.errors import UserError

# Everything that UTF-8 can hold; NUL is tried in JSON alone, no CSV writer makes it.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30) | st.sampled_from(
    [
        'say "hi"',
        "a\nb",
        "a\r\nb",
        "a\rb",
        "a\u2028b",
        "a\u2029b",
        "a\x85b",
        "a | b",
        ",",
        "'",
        "\\",
        "{x}",
        "\ufeff",
        '"',
    ]
)


def jsonl(path: Path, content: Sequence[Mapping[str, Any]]) -> Path:
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content).encode())
    return path


def table(path: Path, content: Sequence[Mapping[str, Any]]) -> Path:
    made = io.StringIO(newline="")
    writer = csv.DictWriter(made, list(content[0]))
    writer.writeheader()
    writer.writerows(content)
    path.write_bytes(made.getvalue().encode())
    return path


def parquet(path: Path, content: Sequence[Mapping[str, Any]]) -> Path:
    pd.DataFrame(list(content)).to_parquet(path, index=False)
    return path


WRITERS: dict[str, Callable[[Path, Sequence[Mapping[str, Any]]], Path]] = {
    "jsonl": jsonl,
    "csv": table,
    "parquet": parquet,
}


def refused(path: Path | str | None, files: Mapping[str, str | None] | None = None) -> str:
    """The message of the UserError that reading gives; one line."""
    with pytest.raises(UserError) as caught:
        rows.read(None if path is None else str(path), files or {})
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("ending", WRITERS)
def test_a_file_gives_its_rows_in_order_with_their_places(tmp_path: Path, ending: str) -> None:
    content = [{"id": "b", "text": "zwei"}, {"id": "a", "text": "eins"}]
    path = WRITERS[ending](tmp_path / f"items.{ending}", content)
    found = rows.read(str(path), {})
    assert found.rows == content
    first = 2 if ending == "csv" else 1  # the header is line 1
    assert found.places == [f"{path}:{first}", f"{path}:{first + 1}"]
    assert found.columns == {"id", "text"}
    assert found.partition == []


@pytest.mark.parametrize("ending", WRITERS)
def test_missing_values_are_none_in_every_format(tmp_path: Path, ending: str) -> None:
    path = WRITERS[ending](tmp_path / f"items.{ending}", [{"id": "a", "text": None}, {"id": "b", "text": "x"}])
    assert [row["text"] for row in rows.read(str(path), {}).rows] == [None, "x"]


@settings(deadline=None, max_examples=60)
@given(st.lists(CELLS.filter(bool), min_size=1, max_size=4))
def test_any_text_survives_csv_and_jsonl(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    content = [{"id": str(i), "text": cell} for i, cell in enumerate(cells)]
    assert rows.read(str(jsonl(folder / "a.jsonl", content)), {}).rows == content
    assert rows.read(str(table(folder / "a.csv", content)), {}).rows == content


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeffid,text\n1,x\n".encode())
    (tmp_path / "a.jsonl").write_bytes("\ufeff".encode() + b'{"id": 1}\n')
    assert rows.read(str(tmp_path / "a.csv"), {}).columns == {"id", "text"}
    assert rows.read(str(tmp_path / "a.jsonl"), {}).rows == [{"id": 1}]


def test_blank_lines_count_in_places_but_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n\n  \n{"id": 2}\r\n', encoding="utf-8")
    found = rows.read(str(path), {})
    assert [row["id"] for row in found.rows] == [1, 2]
    assert found.places == [f"{path}:1", f"{path}:4"]


def test_parquet_lists_are_plain_lists(tmp_path: Path) -> None:
    cells = [["a", None], ["b", "c"]]
    path = parquet(tmp_path / "a.parquet", [{"id": "1", "rows": cells}])
    assert rows.read(str(path), {}).rows == [{"id": "1", "rows": cells}]


def test_whole_numbers_beside_a_null_stay_whole_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "page": pa.array([3, None], pa.int64())}), path)
    found = rows.read(str(path), {}).rows
    assert [values.text_of(row["page"], "") for row in found] == ["3", ""]


def test_a_parquet_column_that_was_an_index_is_a_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"id": ["a", "b"], "text": ["x", "y"]}).set_index("id").to_parquet(path)
    assert rows.read(str(path), {}).columns == {"id", "text"}


def test_a_cell_may_be_as_long_as_a_page_in_csv_too(tmp_path: Path) -> None:
    content = [{"id": "a", "text": "word " * 40_000 + "end"}]
    assert rows.read(str(jsonl(tmp_path / "a.jsonl", content)), {}).rows == content
    assert rows.read(str(table(tmp_path / "a.csv", content)), {}).rows == content


# ------------------------------------------------------------------------------------------------ separate files


def test_separate_files_are_read_in_the_order_train_validation_test(tmp_path: Path) -> None:
    named = {
        part: str(jsonl(tmp_path / f"{part}.jsonl", [{"id": f"{part}{i}"} for i in range(n)]))
        for part, n in (("test", 1), ("train", 2), ("validation", 1))
    }
    found = rows.read(None, named)
    assert [row["id"] for row in found.rows] == ["train0", "train1", "validation0", "test0"]
    assert found.partition == ["train", "train", "validation", "test"]
    assert found.places[-1] == f"{named['test']}:1"


def test_separate_files_may_have_different_endings_and_no_validation(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "a.jsonl", [{"id": "1"}])
    test = table(tmp_path / "b.csv", [{"id": "2"}])
    found = rows.read(None, {"train": str(train), "validation": None, "test": str(test)})
    assert list(zip((row["id"] for row in found.rows), found.partition, strict=True)) == [("1", "train"), ("2", "test")]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"train": "a.jsonl"}, ["dataset.files.test=null", "train and test"]),
        ({"train": "a.jsonl", "tset": "b.jsonl"}, ["dataset.files.tset", "train, validation or test"]),
        ({}, ["dataset.path", "dataset.files"]),
    ],
)
def test_files_that_are_not_both_train_and_test_are_refused(files: dict[str, str | None], told: list[str]) -> None:
    message = refused(None, files)
    assert all(part in message for part in told), message


def test_path_and_files_together_are_refused(tmp_path: Path) -> None:
    path = str(jsonl(tmp_path / "a.jsonl", [{"id": "1"}]))
    message = refused(path, {"train": path, "test": path})
    assert "dataset.path" in message
    assert "dataset.files" in message


def test_the_digest_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    one, same, other = (
        rows.read(str(jsonl(tmp_path / f"{name}.jsonl", [{"id": text}])), {}).digest
        for name, text in (("a", "1"), ("b", "1"), ("c", "2"))
    )
    assert one == same
    assert one != other
    assert re.fullmatch("[0-9a-f]{64}", one)


def test_the_digest_tells_what_is_trained_on_from_what_is_tested_on(tmp_path: Path) -> None:
    a, b, c = ({"id": name} for name in "abc")

    def digest(name: str, train: list[dict[str, str]], test: list[dict[str, str]]) -> str:
        named = {
            "train": str(jsonl(tmp_path / f"{name}_train.jsonl", train)),
            "test": str(jsonl(tmp_path / f"{name}_test.jsonl", test)),
        }
        return rows.read(None, named).digest

    assert digest("x", [a], [b, c]) != digest("y", [a, b], [c])


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("gone.jsonl", None, ["dataset.path=", "gone.jsonl", "No such file", ".csv or .parquet"]),
        ("items.xlsx", b"PK", ["dataset.path=", "items.xlsx", ".jsonl, .csv or .parquet", "ending"]),
        ("items.jsonl", b'{"id": 1}\n{"id": "caf\xe9"}\n', ["dataset.path=", "items.jsonl", "line 2", "UTF-8", "0xe9"]),
        ("items.csv", b"id,text\n1,x\n2,\xff\n", ["dataset.path=", "items.csv", "line 3", "UTF-8"]),
        ("items.jsonl", b'{"id": 1}\n\n{"id": 2,}\n', ["items.jsonl:3", "not JSON"]),
        ("items.jsonl", b'{"id": 1}\n["id", 2]\n', ["items.jsonl:2", "one JSON object a line", "list"]),
        ("items.csv", b"id,text\n1,x\n2,y,z\n", ["items.csv:3", "ragged", "3 value(s)", "2 column(s)"]),
        ("items.csv", b'id,text\n1,"x\ny"\n2\n', ["items.csv:4", "ragged", "1 value(s)", "2 column(s)"]),
        ("items.csv", b"id,text,id\n1,x,1\n", ["items.csv:1", "'id'", "twice"]),
        ("items.csv", b'id,text\n1,"x" y\n', ["items.csv:2", "not a CSV row"]),
        ("items.csv", b'id,text\n1,"x\n', ["items.csv:2", "not a CSV row"]),
        ("items.jsonl", b"", ["dataset.path=", "items.jsonl", "no rows"]),
        ("items.jsonl", b"\n \n", ["dataset.path=", "items.jsonl", "no rows"]),
        ("items.csv", b"", ["dataset.path=", "items.csv", "no rows"]),
        ("items.csv", b"id,text\n", ["dataset.path=", "items.csv", "no rows"]),
        ("items.parquet", b"", ["dataset.path=", "items.parquet", "not a Parquet file"]),
        ("items.parquet", b"id,text\n1,x\n", ["dataset.path=", "items.parquet", "not a Parquet file"]),
    ],
    ids=str,
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, name: str, content: bytes | None, told: list[str]) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    message = refused(tmp_path / name)
    assert str(tmp_path / name) in message
    assert all(part in message for part in told), message


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").mkdir()
    assert f"dataset.path={tmp_path / 'items.jsonl'}" in refused(tmp_path / "items.jsonl")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.jsonl", b"{'id': 1}\n"),
        ("items.jsonl", b"1\n"),
        ("items.csv", b"id,text\n1\n"),
        ("items.csv", b"id,id\n1,1\n"),
        ("items.csv", b'id,text\n1,"x" y\n'),
    ],
    ids=str,
)
def test_what_is_wrong_inside_a_file_names_the_config_key_too(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "dataset.path" in refused(tmp_path / name)


@pytest.mark.parametrize("content", [None, b"PAR1 no more"], ids=["missing", "broken"])
def test_a_bad_separate_file_is_called_by_its_own_key(tmp_path: Path, content: bytes | None) -> None:
    train = jsonl(tmp_path / "train.jsonl", [{"id": "1"}])
    if content is not None:
        (tmp_path / "test.parquet").write_bytes(content)
    message = refused(None, {"train": str(train), "test": str(tmp_path / "test.parquet")})
    assert message.startswith(f"dataset.files.test={tmp_path / 'test.parquet'}: ")


def test_an_empty_separate_file_is_refused(tmp_path: Path) -> None:
    train = jsonl(tmp_path / "train.jsonl", [{"id": "1"}])
    (tmp_path / "test.jsonl").write_bytes(b"")
    message = refused(None, {"train": str(train), "test": str(tmp_path / "test.jsonl")})
    assert "dataset.files.test" in message
    assert "no rows" in message


def test_a_number_that_python_will_not_read_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": ' + "1" * 5000 + "}\n", encoding="utf-8")
    assert "a.jsonl:2" in refused(tmp_path / "a.jsonl")


# ------------------------------------------------------------------------------------------------------- columns


def test_a_misspelt_column_names_the_key_and_the_near_one(tmp_path: Path) -> None:
    found = rows.read(str(jsonl(tmp_path / "a.jsonl", [{"id": 1, "caption": "x"}])), {})
    with pytest.raises(UserError) as caught:
        found.require("captoin", "dataset.caption")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("dataset.caption=captoin: ")
    assert "did you mean 'caption'?" in message
    assert "a.jsonl" in message
    assert "caption, id" in message


def test_a_column_unlike_any_lists_what_there_is(tmp_path: Path) -> None:
    found = rows.read(str(jsonl(tmp_path / "a.jsonl", [{"id": 1}, {"text": "only in the second row"}])), {})
    found.require("text", "dataset.page_text")
    found.require(None, "dataset.caption")
    with pytest.raises(UserError, match=r"dataset\.cells=zzz: .*; it has id, text$") as caught:
        found.require("zzz", "dataset.cells")
    assert "did you mean" not in str(caught.value)


def test_a_line_break_in_a_column_name_does_not_break_the_message(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,"adverse\nevents"\n1,x\n')
    with pytest.raises(UserError) as caught:
        rows.read(str(tmp_path / "a.csv"), {}).require("text", "dataset.page_text")
    assert len(str(caught.value).splitlines()) == 1


KEYS = st.sampled_from(["a", "b", "a.b", "a.b.0", "b.0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
CONTENT = st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(CONTENT, CONTENT, st.sampled_from(["a", "a.b", "a.b.0", "b.0", "a.b.0.a", "c"]))
def test_the_values_of_a_column_are_those_of_its_rows(
    tmp_path_factory: pytest.TempPathFactory,
    one: list[dict[str, Any]],
    other: list[dict[str, Any]],
    column: str,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    jsonl(folder / "1.jsonl", one)
    (folder / "2.json").write_text(json.dumps(other), encoding="utf-8")
    found = rows.read(str(folder), {})
    assert found.rows == one + other
    assert found.values(column) == [rows.value_at(row, column) for row in one + other]
    assert found.columns == set().union(*one, *other)
    assert len(found) == len(found.places) == len(one + other)
    assert found.places[-1] == f"{folder / '2.json'}: entry {len(other)}"
    assert found.places[: len(one)] == [f"{folder / '1.jsonl'}:{number}" for number in range(1, len(one) + 1)]


def test_rows_keep_their_numbers_over_the_batches_in_which_they_become_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = [{"id": number, **({"late": "x"} if number > 4 else {})} for number in range(7)]
    path = jsonl(tmp_path / "a.jsonl", content)
    at_once = rows.read(str(path), {})
    monkeypatch.setattr(formats, "ROWS_AT_ONCE", 2)
    in_batches = rows.read(str(path), {})
    assert in_batches.rows == at_once.rows == content
    assert in_batches.places == at_once.places


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_csv_counts_its_lines_by_any_line_end(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.csv").write_bytes(end.join(["id,text", f'1,"two{end}lines"', "2,x"]).encode())
    found = rows.read(str(tmp_path / "a.csv"), {})
    assert found.rows == [{"id": "1", "text": f"two{end}lines"}, {"id": "2", "text": "x"}]
    assert found.places == [f"{tmp_path / 'a.csv'}:3", f"{tmp_path / 'a.csv'}:4"]
