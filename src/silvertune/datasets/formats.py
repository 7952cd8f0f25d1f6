"""The kinds of files that columns are read from: JSON Lines, JSON, CSV and Parquet, compressed or not."""

import codecs
import csv
import io
import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from silvertune.datasets.column_names import names_of_columns
from silvertune.datasets.json_text import NotReadError, decoded, entry_with_key_twice
from silvertune.datasets.values import without_nulls
from silvertune.errors import UserError

Row = dict[str, Any]
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()
"""Stands in a column where the row of a JSON file has no such key."""
_CSV_LINE_END = re.compile("\r\n|\r|\n")
_JSON_LINE_END = re.compile("\n")
ROWS_AT_ONCE = 10_000
"""So many rows of a text file are held as rows, until they are columns."""
SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
"""What separates the columns of usual CSV files, and how a configuration writes it."""
_OTHER_KINDS = {
    b"PK\x03\x04": "an Excel or zip file; save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save it as CSV",
    b"PAR1": "a Parquet file; let its name end in .parquet",
    b"\x1f\x8b": "a gzip file; let its name end in .gz",
    b"(\xb5/\xfd": "a Zstandard file; let its name end in .zst",
    b"\xfd7zXZ\x00": "an xz file; let its name end in .xz",
}
"""First bytes of files that are no text -> what they are, and what to do."""
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ENDINGS = (
    "a .jsonl, .csv or .parquet file (.json, .ndjson and .tsv too, each also with .gz, .bz2, .xz or .zst behind it)"
)


@dataclass(frozen=True)
class TextFormat:
    """How text files are written.

    Attributes:
        encoding: The name of a codec of Python, such as `utf-8`, `utf-16` or `cp1252`.
        separator: What separates the columns of a CSV, one character or `tab`; None: as the ending of the file says.
        key: Where the configuration says so, for messages; None where options of a command line do, or nothing can.
    """

    encoding: str = "utf-8"
    separator: str | None = None
    key: str | None = "dataset"

    def check(self) -> None:
        """Raises UserError for an encoding that is none or a separator of more than one character."""
        key = "--" if self.key is None else f"{self.key}."
        try:
            "a".encode(self.encoding)
        except (LookupError, TypeError, UnicodeError):
            raise UserError(
                f"{key}encoding={self.encoding}: no such encoding; want utf-8, utf-16, cp1252 ..."
            ) from None
        if self.separator is not None and (len(self.character) != 1 or self.character in '"\r\n'):
            raise UserError(f"{key}separator={self.separator}: want one character, such as ';', or tab")

    def advice(self, setting: str, value: str, without: str) -> str:
        """What to do about a file: say a setting, or where there is none, save it in another way."""
        if self.key is None:
            return without
        # A mark in quotes: as Hydra reads it in double ones, and as a shell hands it on in single ones.
        word = f"{self.key}.{setting}={value}"
        return "say '" + word.replace("'", '"') + "'" if "'" in value else f"say {word}"

    @property
    def character(self) -> str:
        """The separator as a character; "" where the ending of the file says it."""
        return {"tab": "\t", "\\t": "\t"}.get(self.separator or "", self.separator or "")


@dataclass(frozen=True)
class Columns:
    """What stands in one file.

    Attributes:
        values: Column -> its values, all of one length: a list, or an Arrow array where a Parquet file has the column.
        numbers: The line or entry of each row.
        place: What a message puts before that number: the file, and `:` or `: entry `.
    """

    values: Mapping[str, Any]
    numbers: Sequence[int]
    place: str

    def of(self, column: str) -> list[Any]:
        """The values of a column; every null is None, and ABSENT stands where a row lacks the column."""
        if column not in self.values:
            return [ABSENT] * len(self.numbers)
        values = self.values[column]
        return values if isinstance(values, list) else _python_values(values)


def is_readable(file: Path) -> bool:
    """Whether the ending of a file names a kind that can be read."""
    return endings_of(file)[0] in _READERS


def content_of(file: Path, key: str) -> bytes:
    """The bytes of a file, decompressed.

    Args:
        file: The file.
        key: The configuration's key of the file, for messages.

    Raises:
        UserError: It can't be read, is of another kind, or is broken.
    """
    kind, compression = endings_of(file)
    if kind not in _READERS:
        raise UserError(f"{key}={file}: want {ENDINGS}, by its ending")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{key}={file}: can't be read ({error.strerror}); want {ENDINGS}") from None
    return _decompressed(content, compression, f"{key}={file}")


def columns_of(file: Path, content: bytes, key: str, text_format: TextFormat) -> Columns:
    """The columns of a file.

    Args:
        file: The file, whose ending says its kind.
        content: Its bytes, decompressed.
        key: The configuration's key of the file, for messages.
        text_format: How it is written, if it is text.

    Raises:
        UserError: Something in it is not as its kind wants, with the line.
    """
    return _READERS[endings_of(file)[0]](file, content, key, text_format)


def of_rows(rows: Iterator[tuple[int, Row]], place: str) -> Columns:
    """The columns of rows that come with their numbers, after what a message puts before a number."""
    values: dict[str, list[Any]] = {}
    numbers = array("L")
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        for name in dict.fromkeys(name for _, row in batch for name in row):
            values.setdefault(name, [ABSENT] * len(numbers))
        for name, column in values.items():
            column += [row.get(name, ABSENT) for _, row in batch]
        numbers.extend(number for number, _ in batch)
    return Columns(values, numbers, place)


def endings_of(file: Path) -> tuple[str, str]:
    """The kind of a file and its compression, as lower-case endings; "" where it is not compressed."""
    endings = [ending.lower() for ending in file.suffixes]
    if endings and endings[-1] in (".gz", ".bz2", ".xz", ".zst"):
        return (endings[-2] if len(endings) > 1 else ""), endings[-1]
    return (endings[-1] if endings else ""), ""


def _decompressed(content: bytes, compression: str, where: str) -> bytes:
    import bz2
    import gzip
    import lzma
    import zlib

    try:
        if compression == ".gz":
            return gzip.decompress(content)
        if compression == ".bz2":
            return bz2.decompress(content)
        if compression == ".xz":
            return lzma.decompress(content)
        if compression == ".zst":
            import pyarrow

            return bytes(pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd").read())
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{where}: not a whole {compression} file ({error})") from None
    return content


def _decoded(file: Path, content: bytes, key: str, text_format: TextFormat) -> str:
    encoding = codecs.lookup(text_format.encoding).name
    if other := next((words for start, words in _OTHER_KINDS.items() if content.startswith(start)), None):
        raise UserError(f"{key}={file}: begins as no text does: it is {other}")
    if encoding in ("utf-8", "utf-8-sig"):
        if other := _other_unicode(content):
            advice = text_format.advice("encoding", other, "save the file as UTF-8")
            raise UserError(f"{key}={file}: is not UTF-8, and begins as {other.upper()} does; {advice}")
        encoding = "utf-8-sig"
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        line = content.count(b"\n", 0, start) + 1
        advice = text_format.advice("encoding", "cp1252 (western Windows) or another", "save the file as UTF-8")
        name = "UTF-8" if encoding == "utf-8-sig" else text_format.encoding
        raise UserError(
            f"{key}={file}: line {line} is not {name} (byte 0x{content[start : start + 1].hex()}); {advice}"
        ) from None


def _other_unicode(content: bytes) -> str | None:
    """The encoding that a text begins as: by its mark, or by the zeros beside its first two letters; or None."""
    for mark, name in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return name
    zeros = [byte == 0 for byte in content[:4]]
    if zeros == [False, True, False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False, True, False] else None


def _parquet(file: Path, content: bytes, key: str, text_format: TextFormat) -> Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(io.BytesIO(content)).names
        columns_of_file = names_of_columns(names, f"{key}={file}")
        # Not through pandas, where a whole number beside a null becomes a float.
        table = pyarrow.parquet.read_table(io.BytesIO(content))
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise UserError(f"{key}={file}: not a Parquet file ({str(error).splitlines()[0]})") from None
    columns = dict(zip(columns_of_file, table.columns, strict=True))
    return Columns(columns, range(1, table.num_rows + 1), f"{file}:")


def _python_values(column: Any) -> list[Any]:
    """The values of an Arrow array as Python has them; every null is None."""
    import pyarrow.types

    values: list[Any] = column.to_pylist()
    for is_of, short in ((pyarrow.types.is_float16, np.float16), (pyarrow.types.is_float32, np.float32)):
        if is_of(column.type):
            # 0.7 of 32 bits is 0.699999988: the number is the shortest that it is written as, as in every other file.
            values = [None if value is None else float(str(short(value))) for value in values]
    is_plain = pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_integer
    return values if any(check(column.type) for check in is_plain) else [without_nulls(value) for value in values]


def _csv(file: Path, content: bytes, key: str, text_format: TextFormat) -> Columns:
    return of_rows(_csv_rows(file, content, key, text_format), f"{file}:")


def _csv_rows(file: Path, content: bytes, key: str, text_format: TextFormat) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(2**31 - 1)  # a cell may hold a page
    text = _decoded(file, content, key, text_format)
    separator, lines_before = text_format.character, 0
    # Excel writes and reads a first line such as `sep=;`.
    if text[:4].lower() == "sep=" and text[5:6] in ("\r", "\n") and separator in ("", text[4]):
        separator, lines_before = text[4], 1
        text = text[5:].removeprefix("\r").removeprefix("\n")
    is_said, separator = bool(separator), separator or ("\t" if endings_of(file)[0] == ".tsv" else ",")
    # With their ends: a quoted cell may hold line breaks of its own.
    reader = csv.reader(_lines(text, _CSV_LINE_END), delimiter=separator, strict=True)
    try:
        header = next(reader, [])
        columns = max((number for number, name in enumerate(header, start=1) if name), default=0)
        names = names_of_columns(header[:columns], f"{file}:1: {key}")
        if columns == 1 and not is_said:
            _refuse_other_separator(names[0], separator, f"{file}:1: {key}", text_format)
        for values in reader:
            line = reader.line_num + lines_before
            if not any(values):
                continue
            if len(values) not in (columns, len(header)):
                raise UserError(f"{file}:{line}: {key}: ragged row: {len(values)} value(s) under {columns} column(s)")
            if any(values[columns:]):
                raise UserError(f"{file}:{line}: {key}: a value under a column without a name")
            yield line, {name: value if value != "" else None for name, value in zip(names, values, strict=False)}
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num + lines_before}: {key}: not a CSV row ({error})") from None


def _refuse_other_separator(header: str, separator: str, where: str, text_format: TextFormat) -> None:
    """A header of one column is usually one of several that something else separates."""
    counts = {other: header.count(other) for other in SEPARATORS if other != separator}
    likely = max(counts, key=lambda other: counts[other])
    if counts[likely]:
        advice = text_format.advice("separator", SEPARATORS[likely], f"save the file with {SEPARATORS[separator]}")
        raise UserError(
            f"{where}: one column, {header[:60]!r}, and in it {counts[likely]} times {SEPARATORS[likely]}: if that "
            f"separates the columns, {advice}"
        )


def _json(file: Path, content: bytes, key: str, text_format: TextFormat) -> Columns:
    """JSON Lines, or one JSON list, whichever the content is: exports go by either ending."""
    text = _decoded(file, content, key, text_format)
    if text.lstrip().startswith("["):
        return of_rows(_json_entries(file, text, key), f"{file}: entry ")
    return of_rows(_json_lines(file, text, key), f"{file}:")


def _json_entries(file: Path, text: str, key: str) -> Iterator[tuple[int, Row]]:
    try:
        entries = decoded(text)
    except NotReadError as error:
        number = entry_with_key_twice(text)
        raise UserError(f"{file}: {f'entry {number}: ' if number else ''}{key}: {error}") from None
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise UserError(
                f"{file}: entry {number}: {key}: want a list of JSON objects, or one JSON object a line, got "
                f"{type(entry).__name__}"
            )
        yield number, entry


def _json_lines(file: Path, text: str, key: str) -> Iterator[tuple[int, Row]]:
    # Not splitlines(): JSON strings may hold U+2028 and the like.
    for number, line in enumerate(_lines(text, _JSON_LINE_END), start=1):
        if not line.strip():
            continue
        try:
            row = decoded(line.removesuffix("\n"))
        except NotReadError as error:
            hint = "; want a list of objects, or one object a line" if endings_of(file)[0] == ".json" else ""
            raise UserError(f"{file}:{number}: {key}: {error}{hint}") from None
        if not isinstance(row, dict):
            raise UserError(f"{file}:{number}: {key}: want one JSON object a line, got {type(row).__name__}")
        yield number, row


def _lines(text: str, end: re.Pattern[str]) -> Iterator[str]:
    """The lines of a text with their ends, one at a time; `io.StringIO` would need four bytes a character."""
    start = 0
    for match in end.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]


_READERS: dict[str, Callable[[Path, bytes, str, TextFormat], Columns]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
}
