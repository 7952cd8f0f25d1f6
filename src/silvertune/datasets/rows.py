"""Rows of a JSONL, CSV or Parquet file as plain dicts, with the place where each stands."""

import csv
import difflib
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from silvertune.errors import UserError, either

Row = dict[str, Any]
PARTITIONS = ("train", "validation", "test")


@dataclass(frozen=True)
class Rows:
    """What stands in the files.

    rows: column -> value, one a row. places: `file:line` of each (the header of a CSV is line 1).
    partition: `train`, `validation` or `test` of each, where each has a file of its own; else empty.
    columns: every column that any row has. digest: SHA-256 of the files, hex.
    """

    rows: list[Row]
    places: list[str]
    partition: list[str]
    columns: frozenset[str]
    files: str
    digest: str

    def __iter__(self) -> Iterator[tuple[Row, str]]:
        return zip(self.rows, self.places, strict=True)

    def require(self, column: str | None, key: str) -> None:
        """UserError that names `key` if the files have no such column."""
        if column is not None and column not in self.columns:
            near = difflib.get_close_matches(column, sorted(self.columns), n=1)
            raise UserError(
                f"{key}={column}: no such column in {self.files}; "
                + (f"did you mean {near[0]!r}? " if near else "")
                + f"It has {', '.join(name if name.isprintable() else repr(name) for name in sorted(self.columns))}"
            )


def read(path: str | None, files: Mapping[str, str | None]) -> Rows:
    """All rows of `path`, or of the `files` for train, validation and test.

    Raises UserError with the file and line of what can't be read.
    """
    rows: list[Row] = []
    places: list[str] = []
    partition: list[str] = []
    digest = hashlib.sha256()
    sources = _sources(path, files)
    for part, file in sources:
        key = "dataset.path" if part is None else f"dataset.files.{part}"
        content = _read(file, key)
        digest.update(f"{part} {len(content)} ".encode() + content)
        before = len(rows)
        for number, row in _rows(file, content, key):
            rows.append(row)
            places.append(f"{file}:{number}")
            if part is not None:
                partition.append(part)
        if len(rows) == before:
            raise UserError(f"{key}={file}: no rows in it")
    named = ", ".join(str(file) for _, file in sources)
    return Rows(rows, places, partition, frozenset().union(*rows), named, digest.hexdigest())


def name_of(value: Any) -> str:
    """One spelling for a value however the file wrote it: 1, 1.0, true and "1" are the same."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def text_of(value: Any) -> str:
    return "" if value is None else str(value)


def _sources(path: str | None, files: Mapping[str, str | None]) -> list[tuple[str | None, Path]]:
    given = {part: file for part, file in files.items() if file}
    if unknown := set(given) - set(PARTITIONS):
        raise UserError(f"dataset.files.{sorted(unknown)[0]}: no such part; want {either(PARTITIONS)}")
    if (path is None) == (not given):
        raise UserError(
            "dataset.path, dataset.files: set one of them to say where the items are "
            "(dataset=synthetic_protocols needs none, to try things out)"
        )
    if path is not None:
        return [(None, Path(path))]
    if missing := {"train", "test"} - set(given):
        raise UserError(f"dataset.files.{sorted(missing)[0]}=null: separate files need at least train and test")
    return [(part, Path(str(given[part]))) for part in PARTITIONS if part in given]


def _read(file: Path, key: str) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{key}={file}: can't be read ({error.strerror}); want a .jsonl, .csv or .parquet file"
        ) from None
    if file.suffix == ".parquet":
        return content
    if file.suffix not in (".jsonl", ".ndjson", ".csv"):
        raise UserError(f"{key}={file}: want a .jsonl, .csv or .parquet file, by its ending")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{key}={file}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        ) from None
    return content


def _rows(file: Path, content: bytes, key: str) -> Iterator[tuple[int, Row]]:
    """(1-based line or row, row) of the file; the header of a CSV is line 1. `key`: the config's, for messages."""
    read = {".parquet": _parquet, ".csv": _csv}.get(file.suffix, _jsonl)
    return read(file, content, key)


def _parquet(file: Path, content: bytes, key: str) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        # Not through pandas, where a whole number beside a null becomes a float.
        rows = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise UserError(f"{key}={file}: not a Parquet file ({str(error).splitlines()[0]})") from None
    yield from enumerate(rows, start=1)


def _csv(file: Path, content: bytes, key: str) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(2**31 - 1)  # a cell may hold a page
    # newline="": a quoted cell may hold line breaks of its own.
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    try:
        header = next(reader, [])
        if twice := {name for name in header if header.count(name) > 1}:
            raise UserError(f"{file}:1: {key}: the column {sorted(twice)[0]!r} stands twice in the header")
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise UserError(
                    f"{file}:{reader.line_num}: {key}: ragged row: {len(values)} value(s) under {len(header)} column(s)"
                )
            row = {name: value if value != "" else None for name, value in zip(header, values, strict=True)}
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num}: {key}: not a CSV row ({error})") from None


def _jsonl(file: Path, content: bytes, key: str) -> Iterator[tuple[int, Row]]:
    # Not splitlines(): JSON strings may hold U+2028 and the like.
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{file}:{number}: {key}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{file}:{number}: {key}: want one JSON object a line, got {type(row).__name__}")
        yield number, row
