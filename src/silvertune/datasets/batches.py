"""The rows of a file in batches of bounded size, whatever the size of the file; what is wrong with a row stays its own.

A dataset is read whole (`silvertune.datasets.rows`); what a model predicts need not fit into memory.
"""

import csv
import hashlib
import io
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import IO, Any

from silvertune.datasets import formats
from silvertune.datasets.column_names import names_of_columns
from silvertune.datasets.formats import SEPARATORS, Columns, Row, TextFormat, endings_of
from silvertune.datasets.json_text import NotReadError, decoded
from silvertune.datasets.mapping import ColumnMapping
from silvertune.datasets.values import normal_form
from silvertune.errors import UserError, either

ROWS = 10_000
"""Rows of a batch at most."""
CHARACTERS = 1 << 24
"""A batch ends behind the row with which its text has so many characters."""
LOOK = 8
"""After every so many rows the characters are counted."""
HEAD = 100
"""Rows of a Parquet file that are looked at first, to see which columns are needed."""
KINDS = ("jsonl", "csv", "tsv", "parquet")
_KIND_OF_ENDING = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv"} | {
    ".parquet": "parquet"
}


@dataclass(frozen=True)
class Batch:
    """Some rows of a file, not parsed yet.

    Attributes:
        kind: `jsonl` (a line a row), `csv` (a list of cells a row) or `parquet` (an Arrow RecordBatch).
        content: The rows.
        numbers: The line of each row; of a Parquet file, its number from 1.
        place: What a message puts before that number.
        header: The columns of a CSV.
        fields: What of the columns the mapping reads.
        digest: SHA-256 of the rows, of what they are called and of where they stand; hexadecimal.
        consumed: How much of the file has been read, 0-1; NaN where its size is unknown.
    """

    kind: str
    content: Any
    numbers: Sequence[int]
    place: str
    header: Sequence[str] = ()
    fields: frozenset[str] = frozenset()
    digest: str = ""
    consumed: float = field(default=float("nan"), compare=False)

    def columns(self) -> tuple[Columns, dict[int, str]]:
        """The columns of the rows, and what is wrong with those that can't be read, by their number from 0."""
        if self.kind == "parquet":
            names = names_of_columns(self.content.schema.names, self.place.removesuffix(": row "))
            return Columns(dict(zip(names, self.content.columns, strict=True)), self.numbers, self.place), {}
        bad_rows: dict[int, str] = {}
        count = len(self.header)
        if self.kind == "csv" and all(type(values) is list and len(values) == count for values in self.content):
            by_column = dict(zip(self.header, zip(*self.content, strict=True), strict=True))
            texts = {name: [value or None for value in column] for name, column in by_column.items()}
            return Columns(texts, self.numbers, self.place), {}
        read = _json_row if self.kind == "jsonl" else self._csv_row
        rows: list[tuple[int, Row]] = []
        for number, line in enumerate(self.content):
            row = read(line)
            if isinstance(row, str):
                bad_rows[number] = f"{self.place}{self.numbers[number]}: {row}"
                row = {}
            rows.append((self.numbers[number], row))
        return formats.of_rows(iter(rows), self.place), bad_rows

    def _csv_row(self, values: Sequence[str] | str) -> Row | str:
        if isinstance(values, str):
            return values
        columns = len(self.header)
        if len(values) < columns or any(values[columns:]):
            return f"ragged row: {len(values)} value(s) under {columns} column(s)"
        return {name: value if value != "" else None for name, value in zip(self.header, values, strict=False)}


def _json_row(line: str) -> Row | str:
    """The object of a line, or what is wrong with it."""
    try:
        row = decoded(line)
    except NotReadError as error:
        return str(error)
    return row if isinstance(row, dict) else f"want one JSON object a line, got {type(row).__name__}"


def kind_of(file: str, said: str | None) -> str:
    """The kind of a file: what is said, or what its ending says; JSON Lines for `-`, the standard input.

    Args:
        file: The file's name.
        said: One of `KINDS`, or None.

    Raises:
        UserError: Its ending names no kind, or the standard input is to be Parquet.
    """
    kind = said or ("jsonl" if file == "-" else _KIND_OF_ENDING.get(endings_of(Path(file))[0]))
    if kind is None:
        raise UserError(f"{file}: want {formats.ENDINGS}, or --format {either(KINDS)}")
    if file == "-" and kind == "parquet":
        raise UserError("-: a Parquet file can't be read from the standard input; name the file")
    return kind


def read(file: str, kind: str, mapping: ColumnMapping, also: Collection[str] = ()) -> Iterator[Batch]:
    """Read the rows of a file, batch by batch.

    Args:
        file: The file; `-` is the standard input.
        kind: One of `KINDS`.
        mapping: Which columns are needed, how text is encoded, and what separates the columns of a CSV.
        also: Further columns, and paths into columns, that are wanted where the file has them.

    Yields:
        The batches. One ends after `ROWS` rows, or earlier at `CHARACTERS` characters.

    Raises:
        UserError: The file can't be read, is encoded in another way, lacks a column, or is no file of its kind.
    """
    text_format = TextFormat(mapping.encoding, mapping.separator, key=None)
    if kind == "parquet":
        yield from _parquet(file, mapping, also)
        return
    with _opened(file) as (stream, consumed), _told(file):
        lines = _Lines(file, stream, text_format, consumed, newline="\n" if kind == "jsonl" else "")
        batches = _json(lines) if kind == "jsonl" else _csv(lines, text_format, "\t" if kind == "tsv" else ",")
        fields = None
        for batch in batches:
            if fields is None:
                columns, bad_rows = batch.columns()
                if len(bad_rows) == len(batch.numbers):
                    raise UserError(f"{bad_rows[0]}; none of the first {len(bad_rows):,} row(s) can be read")
                fields = mapping.fields_in(columns, file)
            yield replace(batch, fields=fields)


@contextmanager
def _opened(file: str) -> "Iterator[tuple[IO[bytes], Any]]":
    """The decompressed bytes of a file, and a function that says how much of it has been read, 0-1."""
    import bz2
    import gzip
    import lzma

    if file == "-":
        yield sys.stdin.buffer, lambda: float("nan")
        return
    try:
        raw = open(file, "rb")  # noqa: SIM115
        size = max(Path(file).stat().st_size, 1)
    except OSError as error:
        raise UserError(f"{file}: can't be read ({error.strerror}); want {formats.ENDINGS}") from None
    with raw:
        compression = endings_of(Path(file))[1]
        stream: Any = raw
        if compression == ".gz":
            stream = gzip.GzipFile(fileobj=raw)
        elif compression == ".bz2":
            stream = bz2.BZ2File(raw)
        elif compression == ".xz":
            stream = lzma.LZMAFile(raw)  # noqa: SIM115
        elif compression == ".zst":
            import pyarrow

            stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")
        yield io.BufferedReader(stream), lambda: min(raw.tell() / size, 1.0)


@contextmanager
def _told(file: str) -> Iterator[None]:
    """Turn what a broken compressed file raises into a UserError."""
    import lzma
    import zlib

    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        compression = endings_of(Path(file))[1]
        words = f"not a whole {compression} file" if compression else "can't be read"
        raise UserError(f"{file}: {words} ({error})") from None


class _Lines:
    """The lines of a text with their ends, one at a time, hashed while they are read."""

    def __init__(self, file: str, stream: "IO[bytes]", text_format: TextFormat, consumed: Any, newline: str) -> None:
        text_format.check()
        self.file, self.consumed = file, consumed
        self._encoding = text_format.encoding
        head = stream.peek(4)[:4] if isinstance(stream, io.BufferedReader) else b""
        is_utf8 = self._encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")
        if is_utf8 and head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError(f"{file}: is not UTF-8, and begins as UTF-16 does; say --encoding utf-16")
        encoding = "utf-8-sig" if is_utf8 else self._encoding
        self._text = io.TextIOWrapper(stream, encoding, errors="strict", newline=newline)
        self._is_utf8, self._before, self._counted, self._characters = is_utf8, 0, 0, 0
        self._lines: list[str] = []  # since the last batch

    @property
    def number(self) -> int:
        """Of the line that was read last."""
        return self._before + len(self._lines)

    def is_much(self) -> bool:
        """Whether what was read since the last batch has `CHARACTERS` characters."""
        self._characters += sum(map(len, self._lines[self._counted :]))
        self._counted = len(self._lines)
        return self._characters >= CHARACTERS

    def __iter__(self) -> Iterator[str]:
        append = self._lines.append
        try:
            for line in self._text:
                append(line)
                yield line
        except UnicodeError as error:
            seen, start = getattr(error, "object", b""), getattr(error, "start", 0)
            number = self.number + 1 + (seen[:start].count(b"\n") if isinstance(seen, bytes) else 0)
            byte = f" (byte 0x{seen[start : start + 1].hex()})" if isinstance(seen, bytes) else ""
            name = "UTF-8" if self._is_utf8 else self._encoding
            raise UserError(
                f"{self.file}: line {number} is not {name}{byte}; say --encoding cp1252 (western Windows) or another"
            ) from None

    def batch(self, kind: str, content: Sequence[Any], numbers: Sequence[int], header: Sequence[str] = ()) -> Batch:
        """A batch of what was read since the last one."""
        digest = hashlib.sha256("".join(self._lines).encode("utf-8", "surrogatepass"))
        digest.update(json.dumps([kind, self.file, numbers[0], list(header)]).encode())
        self._before, self._counted, self._characters = self.number, 0, 0
        self._lines.clear()
        place = f"{self.file}:"
        return Batch(kind, content, numbers, place, header, digest=digest.hexdigest(), consumed=self.consumed())


def _json(lines: _Lines) -> Iterator[Batch]:
    content: list[str] = []
    numbers: list[int] = []
    is_first = True
    for line in lines:
        if not line.strip():
            continue
        if is_first and line.lstrip().startswith("["):
            raise UserError(
                f"{lines.file}: one JSON list, which can't be read in parts; want one JSON object a line "
                "(jq -c '.[]' makes it)"
            )
        is_first = False
        content.append(line)
        numbers.append(lines.number)
        if len(content) >= ROWS or (len(content) % LOOK == 0 and lines.is_much()):
            yield lines.batch("jsonl", content, numbers)
            content, numbers = [], []
    if content:
        yield lines.batch("jsonl", content, numbers)


def _csv(lines: _Lines, text_format: TextFormat, usual: str) -> Iterator[Batch]:
    csv.field_size_limit(2**31 - 1)  # a cell may hold a page
    source = iter(lines)
    first = next(source, "")
    separator = text_format.character
    # Excel writes and reads a first line such as `sep=;`.
    if first[:4].lower() == "sep=" and first[5:].strip("\r\n") == "" and separator in ("", first[4:5]):
        separator, first = first[4], next(source, "")
    is_said, separator = bool(separator), separator or usual
    reader = csv.reader(chain([first] if first else [], source), delimiter=separator, strict=True)
    before = lines.number - 1
    header: list[str] = []
    content: list[list[str] | str] = []
    numbers: list[int] = []
    try:
        names = next(reader, [])
        header = names[: max((number for number, name in enumerate(names, start=1) if name), default=0)]
        header = names_of_columns(header, f"{lines.file}:1")
        if len(header) == 1 and not is_said:
            _refuse_other_separator(header[0], separator, f"{lines.file}:1")
        for values in _rows(reader):
            if not values:
                continue
            content.append(values)
            numbers.append(reader.line_num + before)
            if len(content) >= ROWS or (len(content) % LOOK == 0 and lines.is_much()):
                yield lines.batch("csv", content, numbers, header)
                content, numbers = [], []
    except csv.Error as error:
        raise UserError(f"{lines.file}:{reader.line_num + before}: not a CSV row ({error})") from None
    if content:
        yield lines.batch("csv", content, numbers, header)


def _rows(reader: Any) -> Iterator[list[str] | str]:
    """Each row, or what is wrong with it. A quote that never ends is no matter of one row."""
    while True:
        try:
            yield from reader
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise
            words = f"not a CSV row ({error})"
        yield words


def _refuse_other_separator(header: str, separator: str, where: str) -> None:
    counts = {other: header.count(other) for other in SEPARATORS if other != separator}
    likely = max(counts, key=lambda other: counts[other])
    if counts[likely]:
        raise UserError(
            f"{where}: one column, {header[:60]!r}, and in it {counts[likely]} times {SEPARATORS[likely]}: if that "
            f"separates the columns, say --separator {SEPARATORS[likely]}"
        )


def _parquet(file: str, mapping: ColumnMapping, also: Collection[str]) -> Iterator[Batch]:
    import pyarrow
    import pyarrow.parquet

    if endings_of(Path(file))[1]:
        raise UserError(f"{file}: a compressed Parquet file can't be read in parts; decompress it")
    try:
        source = pyarrow.parquet.ParquetFile(file)
        total = max(source.metadata.num_rows, 1)
        place = f"{file}: row "
        head = next(source.iter_batches(HEAD), None)
        if head is None:
            return
        fields = mapping.fields_in(Batch("parquet", head, range(1, len(head) + 1), place).columns()[0], file)
        wanted = [*fields, *map(normal_form, also)]
        needed = [
            name
            for name in source.schema_arrow.names
            if any(f"{text}.".startswith(f"{normal_form(name)}.") for text in wanted)
        ]
        start = 0
        for rows in source.iter_batches(ROWS, columns=needed):
            numbers = range(start + 1, start + len(rows) + 1)
            sink = pyarrow.BufferOutputStream()
            with pyarrow.ipc.new_stream(sink, rows.schema) as writer:
                writer.write_batch(rows)
            digest = hashlib.sha256(json.dumps(["parquet", file, start]).encode())
            digest.update(sink.getvalue())
            start += len(rows)
            yield Batch("parquet", rows, numbers, place, (), fields, digest.hexdigest(), start / total)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{file}: not a Parquet file that can be read ({str(error).splitlines()[0]})") from None
