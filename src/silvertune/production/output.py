"""The forms of a file of predictions. The parts of a file, one behind the other, are the file."""

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from silvertune.errors import UserError

ENDINGS = "a .csv, .jsonl or .parquet file, the first two also with .gz, .bz2, .xz or .zst behind it"
DIGITS = 6
"""Digits behind the point of a probability."""


@dataclass(frozen=True)
class Columns:
    """The columns of a file of predictions, in their order.

    Attributes:
        texts: Before the probabilities.
        probs: The probabilities.
        reason: Why a row has no label; the last column.
    """

    texts: Sequence[str]
    probs: Sequence[str]
    reason: str = "reason"

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [*self.texts, *self.probs, self.reason]


@dataclass(frozen=True)
class Form:
    """What a file's endings say.

    Attributes:
        kind: `csv`, `jsonl` or `parquet`.
        compression: `gz`, `bz2`, `xz`, `zst` or "".
    """

    kind: str
    compression: str


def form_of(out: Path) -> Form:
    """The form of an output file, by its endings. Raises UserError for endings that name none."""
    endings = [ending.lower().removeprefix(".") for ending in out.suffixes]
    compression = endings.pop() if endings and endings[-1] in ("gz", "bz2", "xz", "zst") else ""
    kind = endings[-1] if endings else ""
    if kind not in ("csv", "jsonl", "parquet") or (kind == "parquet" and compression):
        raise UserError(f"--out={out}: want {ENDINGS}")
    return Form(kind, compression)


def part(table: pd.DataFrame, form: Form, columns: Columns) -> bytes:
    """The bytes of some rows.

    Args:
        table: The rows, with `columns`; a text may be "", a probability NaN.
        form: The form of the file.
        columns: Its columns.
    """
    rounded = {name: table[name].astype(float).round(DIGITS) for name in columns.probs}
    if form.kind == "parquet":
        return _parquet(table.assign(**rounded), columns)
    texts: dict[str, list[Any]] = {name: table[name].tolist() for name in (*columns.texts, columns.reason)}
    probs: dict[str, list[Any]] = {}
    for name, values in rounded.items():
        listed: list[Any] = values.tolist()
        if values.isna().any():
            listed = [None if value != value else value for value in listed]
        probs[name] = listed
    rows = zip(*({**texts, **probs}[name] for name in columns.names), strict=True)
    text = io.StringIO()
    if form.kind == "csv":
        csv.writer(_Lines(text), lineterminator="\r\n").writerows(rows)
    else:
        for row in rows:
            shown = {name: None if value == "" else value for name, value in zip(columns.names, row, strict=True)}
            text.write(json.dumps(shown, ensure_ascii=False) + "\n")
    return _compressed(text.getvalue().encode("utf-8"), form.compression)


class _Lines:
    """Lines of a CSV that end in a line feed; a text with a carriage return is quoted as if both ended them.

    A `csv.writer` quotes only what its own ends of lines contain, and who reads the file takes either for an end.
    """

    def __init__(self, text: io.StringIO) -> None:
        self._text = text

    def write(self, line: str) -> int:
        return self._text.write(line[:-2] + "\n")


def join(file: "IO[bytes]", parts: Sequence[Path], form: Form, columns: Columns) -> None:
    """Write a file from its parts.

    Args:
        file: Where to write.
        parts: Written by `part`, in their order.
        form: The form of the file.
        columns: Its columns.
    """
    if form.kind == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetWriter(file, _schema(columns), compression="zstd") as writer:
            for path in parts:
                writer.write_table(pq.read_table(path))
        return
    if form.kind == "csv":
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(columns.names)
        file.write(_compressed(header.getvalue().encode("utf-8"), form.compression))
    for path in parts:
        with open(path, "rb") as content:
            shutil.copyfileobj(content, file, 1 << 20)


def _schema(columns: Columns) -> Any:
    import pyarrow as pa

    return pa.schema([(name, pa.float64() if name in columns.probs else pa.string()) for name in columns.names])


def _parquet(table: pd.DataFrame, columns: Columns) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = {name: table[name].where(table[name] != "", None) for name in (*columns.texts, columns.reason)}
    arrow = pa.Table.from_pandas(table.assign(**texts)[columns.names], schema=_schema(columns), preserve_index=False)
    sink = io.BytesIO()
    pq.write_table(arrow.replace_schema_metadata(None), sink, compression="zstd")
    return sink.getvalue()


def _compressed(content: bytes, compression: str) -> bytes:
    """One member, frame or stream of a compressed file; several behind each other are one file."""
    if compression == "gz":
        import gzip

        return gzip.compress(content, 6, mtime=0)
    if compression == "bz2":
        import bz2

        return bz2.compress(content)
    if compression == "xz":
        import lzma

        return lzma.compress(content)
    if compression == "zst":
        import pyarrow

        return bytes(pyarrow.compress(content, codec="zstd", asbytes=True))
    return content
