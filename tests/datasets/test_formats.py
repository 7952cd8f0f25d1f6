"""Exports as they come: every kind of file gives the same rows, and what is odd about one is told in one line."""

import bz2
import csv
import gzip
import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import made

from silvertune.datasets import rows
from silvertune.datasets.formats import TextFormat

CONTENT = [{"id": "1", "text": "caf\u00e9, noir"}, {"id": "2", "text": "th\u00e9 \u2013 vert"}]


def table(separator: str = ",") -> str:
    made_table = io.StringIO(newline="")
    writer = csv.DictWriter(made_table, ["id", "text"], delimiter=separator)
    writer.writeheader()
    writer.writerows(CONTENT)
    return made_table.getvalue()


def lines() -> str:
    return "".join(json.dumps(row) + "\n" for row in CONTENT)


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(CONTENT), out)
    return out.getvalue()


FILES: dict[str, bytes] = {
    "a.csv": table().encode(),
    "A.CSV": table().encode(),
    "bom.csv": table().encode("utf-8-sig"),
    "unix.csv": table().replace("\r\n", "\n").encode(),
    "a.tsv": table("\t").encode(),
    "excel.csv": f"sep=;\r\n{table(';')}".encode(),
    "pipe.csv": f"SEP=|\n{table('|')}".encode(),
    "trailing.csv": b"id,text,,\r\n" + b"".join(row + b",,\r\n" for row in table().encode().splitlines()[1:]),
    "blank.csv": table().encode() + b",\r\n\r\n,\r\n",
    "a.jsonl": lines().encode(),
    "a.ndjson": lines().encode(),
    "lines.json": lines().encode(),
    "a.json": json.dumps(CONTENT, indent=2).encode(),
    "list.jsonl": ("\ufeff " + json.dumps(CONTENT)).encode(),
    "a.parquet": parquet(),
    "a.csv.gz": gzip.compress(table().encode(), mtime=0),
    "two.jsonl.gz": gzip.compress(lines().encode()[:40], mtime=0) + gzip.compress(lines().encode()[40:], mtime=0),
    "a.JSON.GZ": gzip.compress(json.dumps(CONTENT).encode(), mtime=0),
    "a.tsv.bz2": bz2.compress(table("\t").encode()),
    "a.jsonl.zst": pa.compress(lines().encode(), codec="zstd", asbytes=True),
    "a.parquet.zst": pa.compress(parquet(), codec="zstd", asbytes=True),
}
SAID: dict[str, tuple[bytes, TextFormat]] = {
    "semicolons": (table(";").encode(), TextFormat(separator=";")),
    "tabs": (table("\t").encode(), TextFormat(separator="tab")),
    "utf-16": (table("\t").encode("utf-16"), TextFormat("utf-16", "tab")),
    "cp1252": (table().encode("cp1252"), TextFormat("cp1252")),
    "latin": (table().replace("\u2013", "-").encode("latin-1"), TextFormat("ISO-8859-1")),
}


def read(path: Path, text_format: TextFormat | None = None) -> list[dict[str, Any]]:
    return rows.read(str(path), {}, text_format).rows


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_has_the_same_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    assert read(tmp_path / name) == CONTENT


@pytest.mark.parametrize("name", SAID)
def test_encoding_and_separator_can_be_said(tmp_path: Path, name: str) -> None:
    content, text_format = SAID[name]
    (tmp_path / "a.csv").write_bytes(content)
    wanted = CONTENT if name != "latin" else [CONTENT[0], {"id": "2", "text": "th\u00e9 - vert"}]
    assert read(tmp_path / "a.csv", text_format) == wanted


def test_jsonl_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines().encode("utf-16"))
    assert read(tmp_path / "a.jsonl", TextFormat("utf-16")) == CONTENT


def test_compression_and_encoding_do_not_change_the_digest_of_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(FILES["a.csv"])
    (tmp_path / "a.csv.gz").write_bytes(FILES["a.csv.gz"])
    digests = {rows.read(str(tmp_path / name), {}).digest for name in ("a.csv", "a.csv.gz")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        (
            "a.csv",
            table(";").encode(),
            ["a.csv:1", "one column, 'id;text'", "1 times ';'", "say 'dataset.separator=\";\"'"],
        ),
        ("a.csv", table("\t").encode(), ["dataset.separator=tab"]),
        ("a.tsv", table(",").encode(), ['dataset.separator=","']),
        ("a.csv", table().encode("utf-16"), ["begins as UTF-16", "dataset.encoding=utf-16"]),
        ("a.csv", table().encode("utf-16-le"), ["begins as UTF-16-LE", "dataset.encoding=utf-16-le"]),
        ("a.jsonl", b'{"id": 1}'.decode().encode("utf-16-be"), ["dataset.encoding=utf-16-be"]),
        ("a.csv", table().encode("utf-32"), ["begins as UTF-32", "dataset.encoding=utf-32"]),
        ("a.csv", gzip.compress(table().encode(), mtime=0), ["it is a gzip file; let its name end in .gz"]),
        ("a.csv", b"PK\x03\x04\x14\x00", ["it is an Excel or zip file; save it as CSV"]),
        ("a.jsonl", b"PAR1\x15", ["it is a Parquet file"]),
        ("a.jsonl", b'{"id": 1, "text": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", ["a.jsonl:1", "not JSON", "recursion"]),
        ("a.json", b"[" * 10**5 + b"]" * 10**5, ["not JSON", "recursion"]),
        ("a.csv", table().encode("cp1252"), ["line 2 is not UTF-8 (byte 0xe9)", "dataset.encoding=cp1252"]),
        ("a.json", b'{"data": [\n{"id": 1}]}', ["a.json:1", "not JSON", "a list of objects, or one object a line"]),
        ("a.json", b'[{"id": 1}, 2]', ["a.json: entry 2", "got int"]),
        ("a.json", b'[{"id": 1}', ["a.json", "not JSON"]),
        ("a.json", b"[]", ["no rows in it"]),
        ("a.jsonl", b'{"id": 1}\n{"id": 2, "id": 2}', ["a.jsonl:2: ", "the key 'id' stands twice in one object"]),
        ("a.json", b'[{"id": "[,"} ,\n{"id": {"b": 1, "b": 2}}]', ["a.json: entry 2: ", "the key 'b' stands twice"]),
        ("a.jsonl", '{"\u00e9": 1, "e\u0301": 2}'.encode(), ["a.jsonl:1", r"keys '\xe9' and 'e\u0301' are the same"]),
        ("a.csv", "\u00e9,e\u0301\n1,2\n".encode(), ["a.csv:1", r"columns '\xe9' and 'e\u0301' are the same letters"]),
        ("a.csv.gz", b"no gzip", ["not a whole .gz file"]),
        ("a.csv.gz", FILES["a.csv.gz"][:-9], ["not a whole .gz file"]),
        ("a.jsonl.zst", b"no zstd", ["not a whole .zst file"]),
        ("a.xlsx", b"PK", [".jsonl, .csv or .parquet", ".gz, .bz2, .xz or .zst"]),
        ("a.txt.gz", gzip.compress(b"x", mtime=0), ["by its ending"]),
        ("a.csv", b"id,,text,\n1,2,3,4\n", ["a.csv:2", "a value under a column without a name"]),
        ("a.csv", b"sep=;\nid;text\n1;2;3\n", ["a.csv:3", "ragged row: 3 value(s) under 2 column(s)"]),
    ],
)
def test_what_is_odd_about_a_file_is_told_in_one_line(
    tmp_path: Path, name: str, content: bytes, parts: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with made.refused("dataset.path", str(tmp_path / name), *parts):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("text_format", "part"),
    [
        (TextFormat("utf-9"), "dataset.encoding=utf-9: no such encoding"),
        (TextFormat("hex"), "dataset.encoding=hex: no such encoding"),
        (TextFormat(separator=";;"), "dataset.separator=;;: want one character"),
        (TextFormat(separator='"'), 'dataset.separator=": want one character'),
    ],
)
def test_settings_that_are_none_are_refused(tmp_path: Path, text_format: TextFormat, part: str) -> None:
    with made.refused(part):
        read(tmp_path / "a.csv", text_format)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_a_number_of_a_parquet_file_is_the_one_that_a_csv_has(tmp_path: Path, kind: str) -> None:
    column = pa.array(np.array([0.7, 0.1, 2.0, np.nan], dtype=kind))
    pq.write_table(pa.table({"score": column}), tmp_path / "a.parquet")
    assert [row["score"] for row in read(tmp_path / "a.parquet")] == [0.7, 0.1, 2.0, None]


def test_a_column_that_stands_twice_in_a_parquet_file_is_told(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with made.refused("dataset.path", "the column 'id' stands twice"):
        read(tmp_path / "a.parquet")


def test_columns_of_a_parquet_file_that_are_the_same_letters_are_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"\u00e9": [1], "e\u0301": [2]}), tmp_path / "a.parquet")
    with made.refused("dataset.path", r"the columns '\xe9' and 'e\u0301' are the same letters"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_a_column_is_found_in_any_unicode_form(tmp_path: Path, name: str, form: Literal["NFC", "NFD"]) -> None:
    column = unicodedata.normalize(form, "t\u00e9xt")
    row = {column: "x", "more": {column: {column: "y"}}}
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / name)
    elif name.endswith(".csv"):
        (tmp_path / name).write_text(f"{column},more\nx,\n", encoding="utf-8")
    else:
        text = json.dumps([row] if name == "a.json" else row, ensure_ascii=False)
        (tmp_path / name).write_text(text, encoding="utf-8")
    content = rows.read(str(tmp_path / name), {})
    for written in ("t\u00e9xt", "te\u0301xt"):
        content.require(written, "dataset.id")
        assert content.values(written) == ["x"]
        if not name.endswith(".csv"):
            assert content.values(f"more.{written}.{written}") == ["y"]


def test_a_column_may_hold_separators_where_the_separator_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a;b\nx\n")
    assert read(tmp_path / "a.csv", TextFormat(separator=",")) == [{"a;b": "x"}]


# ------------------------------------------------------------------------------------------------ folders and patterns


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, row in (("b.jsonl", '{"id": "2"}\n'), ("a.csv", "id\n1\n"), ("c.json", '[{"id": "3"}]')):
        (tmp_path / name).write_text(row)
    (tmp_path / ".hidden.csv").write_text("id\n9\n")
    (tmp_path / "notes.txt").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        (lambda folder: folder, ["1", "2", "3"]),
        (lambda folder: folder / "*.json*", ["2", "3"]),
        (lambda folder: folder / "[ab].*", ["1", "2"]),
        (lambda folder: folder / "**" / "a.csv", ["1"]),
    ],
    ids=["folder", "star", "brackets", "any depth"],
)
def test_the_files_of_a_folder_or_pattern_are_read_by_name(
    folder: Path, path: Callable[[Path], Path], ids: list[str]
) -> None:
    found = rows.read(str(path(folder)), {})
    assert [row["id"] for row in found.rows] == ids


def test_files_of_another_kind_in_a_folder_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows.read(str(folder), {})
    assert "1 file(s) of another kind left out: notes.txt" in capsys.readouterr().err


def test_each_part_may_be_a_folder(folder: Path) -> None:
    found = rows.read(None, {"train": str(folder), "test": str(folder / "b.jsonl")})
    assert found.partition == ["train", "train", "train", "test"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").write_text("id\n1\n")
    assert rows.read(str(tmp_path / "a[1].csv"), {}).rows == [{"id": "1"}]


@pytest.mark.parametrize("name", ["empty", "nothing/*.csv", "*.txt"])
def test_a_folder_or_pattern_without_a_file_is_refused(folder: Path, name: str) -> None:
    (folder / "empty").mkdir()
    with made.refused(f"dataset.path={folder / name}", "no file there that can be read"):
        rows.read(str(folder / name), {})


# --------------------------------------------------------------------------------------------------- paths into columns


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("data.text", "x"),
        ("annotations.0.result.0.value.choices.0", "pos"),
        ("annotations.1.result", None),
        ("annotations.-1", None),
        ("a.b", "a column with a dot"),
        ("data.key.with.dots", "y"),
        ("data.missing", None),
        ("data.text.more", None),
    ],
)
def test_a_path_leads_into_objects_and_lists(column: str, value: object) -> None:
    row = {
        "data": {"text": "x", "key.with": {"dots": "y"}},
        "annotations": [{"result": [{"value": {"choices": ["pos"]}}]}],
        "a": {"b": "no"},
        "a.b": "a column with a dot",
    }
    assert rows.value_at(row, column) == value
