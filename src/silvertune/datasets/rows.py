"""What stands in the files of a dataset, by column, with the place where each row stands."""

import difflib
import glob
import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from silvertune.datasets import formats
from silvertune.datasets.formats import ABSENT, Columns, Row, TextFormat
from silvertune.datasets.notices import say
from silvertune.datasets.values import normal_form
from silvertune.errors import UserError, either

PARTITIONS = ("train", "validation", "test")
_GLOB = "*?["


class Places(Sequence[str]):
    """Where each row stands: file and line (the header of a CSV is line 1). A place is made when it is asked for.

    Args:
        files: The columns of each file, one after the other.
        rows: The numbers of some rows, from 0; None: all.
    """

    def __init__(self, files: Sequence[Columns], rows: Sequence[int] | None = None) -> None:
        self._files = files
        self._starts = [sum(len(file.numbers) for file in files[:k]) for k in range(len(files))]
        self._rows = range(sum(len(file.numbers) for file in files)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: Any) -> Any:
        """The place of one row; a slice has the places of many."""
        if isinstance(position, slice):
            return [self[number] for number in range(*position.indices(len(self)))]
        row = self._rows[position]
        k = bisect_right(self._starts, row) - 1
        return f"{self._files[k].place}{self._files[k].numbers[row - self._starts[k]]}"

    def of(self, rows: Sequence[int]) -> "Places":
        """The places of some rows, by their numbers."""
        return Places(self._files, rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


@dataclass(frozen=True)
class Rows:
    """What stands in the files.

    Attributes:
        parts: `train`, `validation` or `test`, or None where the files are not separate, and the columns of a file;
            no file is without rows.
        files: The names of the files, for messages.
        digest: SHA-256 of the content of the files, hexadecimal.
    """

    parts: Sequence[tuple[str | None, Columns]]
    files: str
    digest: str

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def columns(self) -> frozenset[str]:
        """Every column that any row has."""
        return frozenset[str]().union(*(file.values for _, file in self.parts))

    @cached_property
    def places(self) -> Places:
        """File and line of each row."""
        return Places([file for _, file in self.parts])

    @property
    def partition(self) -> list[str]:
        """`train`, `validation` or `test` of each row, where each has a file of its own; else empty."""
        return [part for part, file in self.parts if part is not None for _ in file.numbers]

    @property
    def rows(self) -> list[Row]:
        """Column -> value of each row."""
        columns = {name: self._column(name) for name in sorted(self.columns)}
        return [
            {name: value for name, value in zip(columns, values, strict=True) if value is not ABSENT}
            for values in zip(*columns.values(), strict=True)
        ]

    def values(self, column: str) -> list[Any]:
        """The values of a column, or at a path into one (see `value_at`), of all rows; None where a row has none.

        Columns and keys are named in Unicode's composed form; a name in another form is the same name.
        """
        column = normal_form(column)
        prefixes = [column[:at] for at, letter in enumerate(column) if letter == "." and column[:at] in self.columns]
        if not prefixes:
            return [None if value is ABSENT else value for value in self._column(column)]
        names = [column, *prefixes]
        return [
            value_at({name: value for name, value in zip(names, values, strict=True) if value is not ABSENT}, column)
            for values in zip(*map(self._column, names), strict=True)
        ]

    def _column(self, name: str) -> list[Any]:
        columns = [file.of(name) for _, file in self.parts]
        return columns[0] if len(columns) == 1 else [value for column in columns for value in column]

    def has(self, column: str) -> bool:
        """Whether there is such a column, or some row has a value at that path into one."""
        return normal_form(column) in self.columns or any(value is not None for value in self.values(column))

    def require(self, column: str | None, key: str) -> None:
        """Check that the files have a column, or some row a value at a path into one (see `value_at`).

        Args:
            column: The column or path; None is always there. `path.*` wants an object at `path`.
            key: The configuration's key that names it.

        Raises:
            UserError: There is none. The message names the nearest column and all that there are.
        """
        if column is not None and not isinstance(column, str):
            raise UserError(f"{key}={column}: want the name of a column, in quotes")
        if column is None or self.has(column):
            return
        column = normal_form(column)
        first = column.split(".")[0]
        if first in self.columns:
            if column.endswith(".*") and (column[:-2] in self.columns or self.has(column[:-2])):
                return
            raise UserError(f"{key}={column}: no row of {self.files} has such a key in column {first!r}")
        near = difflib.get_close_matches(first, sorted(self.columns), n=1)
        raise UserError(
            f"{key}={column}: no such column in {self.files}; "
            + (f"did you mean {near[0]!r}? It has " if near else "it has ")
            + ", ".join(
                name if name.isprintable() and name == name.strip() else repr(name) for name in sorted(self.columns)
            )
        )


def value_at(row: Any, column: str) -> Any:
    """The value of a column, or at a path into one.

    Args:
        row: Column -> value.
        column: The name of a column, or names and numbers with dots between them: `data.text` is the key `text` of
            the object in `data`, `choices.0` the first entry of the list in `choices`. A key that has a dot in its
            name comes first.

    Returns:
        The value; None where there is none.
    """
    if isinstance(row, list):
        first, _, rest = column.partition(".")
        if not (first.isascii() and first.isdigit()) or int(first) >= len(row):
            return None
        return value_at(row[int(first)], rest) if rest else row[int(first)]
    if not isinstance(row, dict):
        return None
    if column in row:
        return row[column]
    for position in range(len(column) - 1, 0, -1):
        if column[position] == "." and column[:position] in row:
            return value_at(row[column[:position]], column[position + 1 :])
    return None


def read(path: str | None, files: Mapping[str, str | None], text_format: TextFormat | None = None) -> Rows:
    """All rows of a dataset.

    Args:
        path: A file, a folder of files, or a pattern such as `exports/*.jsonl`; the files are read by name. Or
        files: The same each for `train`, `test` and, if there is one, `validation`.
        text_format: How files of text are written; None is UTF-8, with the separator that the ending says.

    Returns:
        The rows, those to train on first.

    Raises:
        UserError: Something can't be read, with the file and the line.
    """
    text_format = text_format or TextFormat()
    text_format.check()
    content = _Content()
    sources = _sources(path, files)
    for part, pattern in sources:
        key = "dataset.path" if part is None else f"dataset.files.{part}"
        for file in files_of(pattern, key):
            content.add(file, key, text_format, part)
    return content.rows(", ".join(pattern for _, pattern in sources))


def read_file(path: str, key: str) -> Rows:
    """All rows of one file.

    Args:
        path: The file.
        key: The configuration's key that names it, for messages.

    Raises:
        UserError: Something can't be read, with the file and the line.
    """
    content = _Content()
    content.add(Path(path), key, TextFormat(key=None), None)
    return content.rows(path)


def files_of(pattern: str, key: str) -> list[Path]:
    """The files that a path names: itself, those of a folder, or those that a pattern matches; sorted by name.

    Raises:
        UserError: A folder or pattern names no file that can be read.
    """
    path = Path(pattern)
    if path.is_dir():
        candidates = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    elif not path.exists() and any(character in pattern for character in _GLOB):
        candidates = sorted(Path(name) for name in glob.glob(pattern, recursive=True) if Path(name).is_file())
    else:
        return [path]
    readable = [file for file in candidates if formats.is_readable(file)]
    if not readable:
        raise UserError(f"{key}={pattern}: no file there that can be read; want {formats.ENDINGS}")
    if others := [file.name for file in candidates if file not in readable]:
        shown = ", ".join(others[:3]) + (" ..." if len(others) > 3 else "")
        say(f"{key}={pattern}: {len(others)} file(s) of another kind left out: {shown}")
    return readable


class _Content:
    """The columns of the files while they are read."""

    def __init__(self) -> None:
        self._parts: list[tuple[str | None, Columns]] = []
        self._digest = hashlib.sha256()

    def add(self, file: Path, key: str, text_format: TextFormat, part: str | None) -> None:
        """The columns of one file; UserError if it has no rows."""
        content = formats.content_of(file, key)
        self._digest.update(f"{part} {len(content)} ".encode())
        self._digest.update(content)
        columns = formats.columns_of(file, content, key, text_format)
        if not len(columns.numbers):
            raise UserError(f"{key}={file}: no rows in it")
        self._parts.append((part, columns))

    def rows(self, files: str) -> Rows:
        return Rows(self._parts, files, self._digest.hexdigest())


def _sources(path: str | None, files: Mapping[str, str | None]) -> Sequence[tuple[str | None, str]]:
    paths = {part: str(file) for part, file in files.items() if file}
    if unknown := set(paths) - set(PARTITIONS):
        raise UserError(f"dataset.files.{sorted(unknown)[0]}: no such part; want {either(PARTITIONS)}")
    if (path is None) == (not paths):
        raise UserError(
            "dataset.path, dataset.files: set one of them to say where the items are "
            "(dataset=synthetic_protocols needs none, to try things out)"
        )
    if path is not None:
        return [(None, str(path))]
    if missing := {"train", "test"} - set(paths):
        raise UserError(f"dataset.files.{sorted(missing)[0]}=null: separate files need at least train and test")
    return [(part, paths[part]) for part in PARTITIONS if part in paths]
