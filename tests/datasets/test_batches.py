"""Files read in batches: the same rows as a dataset reads, whatever the size of a batch."""

import bz2
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import made

from silvertune.datasets import batches
from silvertune.datasets.mapping import ColumnMapping
from silvertune.datasets.rows import read as read_whole

MAPPING = ColumnMapping(id="id", views={"text": "{a}\n{b}"})
ROWS = [{"id": f"r{k}", "a": f"one, {k}", "b": 'two "quoted"\nlines ü' if k % 3 else None} for k in range(23)]
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: bytes(pyarrow.compress(content, codec="zstd", asbytes=True)),
}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    frame = pd.DataFrame(rows)
    if ".parquet" in path.suffixes:
        frame.to_parquet(path)
        return path
    if ".csv" in path.suffixes:
        content = frame.to_csv(index=False).encode()
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(COMPRESSED[path.suffix if path.suffix in COMPRESSED else ""](content))
    return path


def texts(file: Path, mapping: ColumnMapping = MAPPING) -> list[tuple[str, str | None]]:
    """Id and text of every row, in order."""
    found: list[tuple[str, str | None]] = []
    for batch in batches.read(str(file), batches.kind_of(str(file), None), mapping):
        of_batch = mapping.texts(batch.columns()[0], batch.fields)
        found += zip(of_batch.ids, of_batch.views["text"], strict=True)
    return found


def whole(file: Path) -> list[tuple[str, str | None]]:
    rows = read_whole(str(file), {})
    values = zip(rows.values("id"), rows.values("a"), rows.values("b"), strict=True)
    return [(name, f"{a}\n{b or ''}".strip()) for name, a, b in values]


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("size", [5, 10_000])
def test_batches_hold_what_a_dataset_reads(
    ending: str, compression: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ending == ".parquet" and compression:
        return
    monkeypatch.setattr(batches, "ROWS", size)
    file = write(tmp_path / f"rows{ending}{compression}", ROWS)
    read = list(batches.read(str(file), batches.kind_of(str(file), None), MAPPING))
    assert [len(batch.numbers) for batch in read] == ([5, 5, 5, 5, 3] if size == 5 else [23])
    assert texts(file) == whole(file)
    assert read[-1].consumed == pytest.approx(1.0)
    assert len({batch.digest for batch in read}) == len(read)


def test_a_batch_ends_where_its_text_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CHARACTERS", 100)
    monkeypatch.setattr(batches, "LOOK", 1)
    file = write(tmp_path / "rows.jsonl", ROWS)
    assert max(len(batch.numbers) for batch in batches.read(str(file), "jsonl", MAPPING)) <= 2
    assert texts(file) == whole(file)


def test_the_digest_is_of_the_rows_and_where_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "ROWS", 5)

    def digests(rows: list[dict[str, object]]) -> list[str]:
        file = write(tmp_path / "rows.csv", rows)
        return [batch.digest for batch in batches.read(str(file), "csv", MAPPING)]

    before = digests(ROWS)
    assert digests(ROWS) == before
    assert digests([*ROWS, *ROWS[:4]])[:4] == before[:4]
    changed = digests([*ROWS[:7], {**ROWS[7], "a": "other"}, *ROWS[8:]])
    assert [one == other for one, other in zip(before, changed, strict=True)] == [True, False, True, True, True]


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8) | st.sampled_from(['"', "a\nb", ",", "\r\n"])


@given(cells=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=12), size=st.integers(1, 5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives(cells: list[tuple[str, str]], size: int, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batches, "ROWS", size)
        rows: list[dict[str, object]] = [{"id": f"r{k}", "a": a, "b": b} for k, (a, b) in enumerate(cells)]
        found = {ending: texts(write(tmp_path / f"rows{ending}", rows)) for ending in (".jsonl", ".parquet", ".csv")}
    assert found[".jsonl"] == found[".parquet"] == found[".csv"]
    assert [name for name, _ in found[".csv"]] == [f"r{k}" for k in range(len(cells))]


# ------------------------------------------------------------------------------------------- what is wrong with a row


def bad_rows(file: Path) -> dict[int, str]:
    (batch,) = batches.read(str(file), batches.kind_of(str(file), None), MAPPING)
    columns, bad = batch.columns()
    assert len(columns.numbers) == len(batch.numbers)
    return bad


def test_lines_that_are_no_json_are_bad_rows_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": 1, "a": "x", "b": ""}\n\n{bad\n[1]\n{"id": 2}\n')
    bad = bad_rows(file)
    assert bad[1].startswith(f"{file}:3: not JSON (")
    assert bad[2] == f"{file}:4: want one JSON object a line, got list"
    assert set(bad) == {1, 2}
    assert texts(file) == [("1", "x"), ("", None), ("", None), ("2", None)]


def test_ragged_and_misquoted_lines_are_bad_rows_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('id,a,b\n1,x,y\n2,x\n3,x,y,z\n4,"x"y,z\n,,\n\n5,x,y\n')
    bad = bad_rows(file)
    assert bad[1] == f"{file}:3: ragged row: 2 value(s) under 3 column(s)"
    assert bad[2] == f"{file}:4: ragged row: 4 value(s) under 3 column(s)"
    assert bad[3].startswith(f"{file}:5: not a CSV row (")
    assert [name for name, _ in texts(file)] == ["1", "", "", "", "", "5"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'[{"id": 1}]', "one JSON list, which can't be read in parts"),
        ("a.csv", b'id,a,b\n1,"x\n2,y,z\n', "unexpected end of data"),
        ("a.csv", b"id;a;b\n1;x;y\n", "say --separator ';'"),
        ("a.csv", b"id,a,a\n", "'a' stands twice"),
        ("a.csv", "id,a,b\n1,x,y\n2,\u00fc,z\n".encode("latin-1"), "line 3 is not UTF-8 (byte 0xfc); say --encoding"),
        ("a.jsonl", '{"id": 1}\n'.encode("utf-16"), "is not UTF-8, and begins as UTF-16 does; say --encoding utf-16"),
        ("a.csv", b"id,a,c\n1,x,y\n", "text='{a}\\n{b}': no field 'b'"),
        ("a.jsonl", b'{"a": "x", "b": "y"}\n', "id=id: no such column"),
        ("a.csv.gz", gzip.compress(b"id,a,b\n1,x,y\n" * 99)[:-9], "not a whole .gz file"),
        ("a.csv.xz", b"no xz", "not a whole .xz file"),
        ("a.csv.zst", b"no zst", "not a whole .zst file"),
        ("a.parquet", b"no parquet", "not a Parquet file"),
        ("a.parquet.gz", b"", "a compressed Parquet file"),
    ],
)
def test_a_file_that_is_wrong_is_told_in_one_line(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with made.refused(name, words):
        texts(tmp_path / name)


def test_a_file_in_another_encoding_is_read_where_it_is_said(tmp_path: Path) -> None:
    for encoding in ("utf-16", "cp1252", "utf-8-sig"):
        (tmp_path / "a.csv").write_bytes("sep=;\nid;a;b\n1;ü;y\n".encode(encoding))
        mapping = ColumnMapping(id="id", views=MAPPING.views, encoding=encoding)
        assert texts(tmp_path / "a.csv", mapping) == [("1", "ü\ny")]


def test_kinds_are_said_by_endings_or_by_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [batches.kind_of(name, None) for name in ("-", "a.ndjson.gz", "a.TSV")] == ["jsonl", "jsonl", "tsv"]
    assert batches.kind_of("a.txt", "csv") == "csv"
    for name, said in (("a.txt", None), ("-", "parquet")):
        with made.refused(name):
            batches.kind_of(name, said)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"id\ta\tb\n1\tx\ty\n")))
    (batch,) = batches.read("-", "tsv", MAPPING)
    assert MAPPING.texts(batch.columns()[0], batch.fields).views == {"text": ["x\ny"]}
    assert batch.consumed != batch.consumed


def test_a_parquet_file_is_read_in_the_columns_that_are_needed(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.parquet", [{**row, "other": "x" * 100, "deep": {"a": 1}} for row in ROWS])
    (batch,) = batches.read(str(file), "parquet", MAPPING)
    assert set(batch.columns()[0].values) == {"id", "a", "b"}
    deep = ColumnMapping(id=None, views={"text": "{deep.a}"})
    assert [text for _, text in texts(file, deep)] == ["1"] * 23


@pytest.mark.parametrize("written", ["t\u00e9xt", "te\u0301xt"], ids=ascii)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_column_is_found_in_any_unicode_form(name: str, written: str, tmp_path: Path) -> None:
    for column in ("t\u00e9xt", "te\u0301xt"):
        path = tmp_path / name
        if name == "a.parquet":
            pd.DataFrame({column: ["x"]}).to_parquet(path)
        else:
            row = f"{column}\nx\n" if name == "a.csv" else json.dumps({column: "x"})
            path.write_text(row, encoding="utf-8")
        mapping = ColumnMapping(id=written, views={"text": f"<{{{written}}}>"})
        (batch,) = batches.read(str(path), name.split(".")[1], mapping)
        columns, _ = batch.columns()
        texts = mapping.texts(columns, batch.fields)
        assert (texts.ids, texts.views, texts.bad_rows) == (["x"], {"text": ["<x>"]}, {})


def test_a_key_that_stands_twice_makes_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "x"}\n{"id": "2", "text": "x", "text": "y"}\n')
    mapping = ColumnMapping(id="id", views={"text": "{text}"})
    (batch,) = batches.read(str(tmp_path / "a.jsonl"), "jsonl", mapping)
    assert batch.columns()[1] == {1: f"{tmp_path}/a.jsonl:2: the key 'text' stands twice in one object"}
