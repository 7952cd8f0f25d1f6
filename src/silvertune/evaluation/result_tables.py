"""The tables of a run, on disk as they come: a run holds no more of them than its next step needs.

A table comes in parts, such as one a fold, and each part is a Parquet file in a folder that only its run reads. At the
run's end the parts become one file. Whole rows are read back by column, and in part by part.
"""

import errno
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from silvertune.votes import none_if_null

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_OF_A_GROUP = 100_000
"""Rows of a row group of a Parquet file, at most."""


@dataclass(frozen=True)
class _Part:
    """A file with some rows of a table, and the ids that these rows are indexed by; None: their numbers."""

    file: Path
    ids: "pd.Index[Any] | None"


class ResultTables:
    """Tables by name, each in parts.

    A table that is indexed by item_id has item_id as its first column on disk, and is indexed by it when it is read
    back. The ids stay in memory: they are those of the dataset.

    Args:
        places: Folders to write to, made when they are needed. Where the disk of one is full, the next is written to.
            None given: a temporary folder, which is removed with this object.
    """

    def __init__(self, *places: Path) -> None:
        if not places:
            self._temporary = tempfile.TemporaryDirectory(prefix="silvertune-")
            places = (Path(self._temporary.name),)
        self._places = places
        self._parts: dict[str, list[_Part]] = {}
        self._written = 0

    def add(self, name: str, rows: pd.DataFrame) -> None:
        """Write one more part of a table.

        Args:
            name: The table's.
            rows: The part, perhaps with other columns than the parts before.

        Raises:
            OSError: The disk of the last place is full, or something else failed.
        """
        self._parts.setdefault(name, []).append(self._write(name, rows))

    def replace(self, name: str, number: int, rows: pd.DataFrame) -> None:
        """Write a part of a table anew.

        Args:
            name: The table's.
            number: The part's, from 0.
            rows: What the part has now.

        Raises:
            OSError: The disk of the last place is full, or something else failed; the part is as before.
        """
        former = self._parts[name][number]
        self._parts[name][number] = self._write(name, rows)
        former.file.unlink()

    def count(self, name: str) -> int:
        """How many parts a table has."""
        return len(self._parts.get(name, []))

    def read(self, name: str, columns: Sequence[str] | None = None, *, part: int | None = None) -> pd.DataFrame:
        """Read a table back.

        Args:
            name: The table's.
            columns: The columns that are needed; `score:` stands for all that begin so. Those that no part has are
                left out. None: all of them.
            part: The number of the only part to read, from 0; None: all parts.

        Returns:
            The rows, in the order in which they came. Texts are objects, and None where there is none.
        """
        parts = self._parts[name] if part is None else [self._parts[name][part]]
        rows = pd.concat([_read(one, columns) for one in parts], ignore_index=True)
        ids = [one.ids for one in parts if one.ids is not None]
        return rows.set_axis(_joined(ids)) if ids else rows

    def write(self, name: str, path: Path) -> None:
        """Write a table as one Parquet file, a row group at a time: no copy of it is in memory.

        Args:
            name: The table's.
            path: The file.

        Raises:
            OSError: The disk is full, or something else failed.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        files = [part.file for part in self._parts[name]]
        schema = pa.unify_schemas([pq.read_schema(file) for file in files], promote_options="permissive")
        schema = pa.schema([_text_if_null(field) for field in schema])
        with path.open("wb") as sink, pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            for file in files:
                with pq.ParquetFile(file) as source:
                    for number in range(source.num_row_groups):
                        writer.write_table(_with_schema(source.read_row_group(number), schema))

    def _write(self, name: str, rows: pd.DataFrame) -> _Part:
        self._written += 1
        index = rows.index if rows.index.name == "item_id" else None
        table = rows.reset_index() if index is not None else rows
        for number, place in enumerate(self._places):
            file = place / f"{name}-{self._written}.parquet"
            try:
                place.mkdir(parents=True, exist_ok=True)
                _write_parquet(table, file)
            except BaseException as error:
                with suppress(OSError):
                    file.unlink(missing_ok=True)
                is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
                if not is_full or number == len(self._places) - 1:
                    raise
            else:
                return _Part(file, None if index is None else _joined([index]))
        raise AssertionError("there is no place")


def _write_parquet(table: pd.DataFrame, file: Path) -> None:
    """Write a table, a row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.Schema.from_pandas(table, preserve_index=False)
    # Categories are a matter of memory: of two parts they may differ.
    schema = pa.schema([_of_values(field) for field in schema])
    with file.open("wb") as sink, pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for start in range(0, max(len(table), 1), ROWS_OF_A_GROUP):
            rows = table.iloc[start : start + ROWS_OF_A_GROUP]
            writer.write_table(pa.Table.from_pandas(rows, schema=schema, preserve_index=False))


def _of_values(field: "pa.Field[Any]") -> "pa.Field[Any]":
    """The column, of the values of its categories if it has some."""
    import pyarrow as pa

    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _text_if_null(field: "pa.Field[Any]") -> "pa.Field[Any]":
    """The column, as one of texts if no part has a value in it."""
    import pyarrow as pa

    return field.with_type(pa.string()) if pa.types.is_null(field.type) else field


def _with_schema(table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """The rows with the columns of a schema; nulls in those that they lack."""
    import pyarrow as pa

    present = set(table.column_names)
    columns = [
        table[field.name].cast(field.type) if field.name in present else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _read(part: _Part, columns: Sequence[str] | None) -> pd.DataFrame:
    """The rows of a part, by number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(part.file)
    names = [str(name) for name in schema.names if part.ids is None or name != "item_id"]
    if columns is not None:
        beginnings = tuple(name for name in columns if name.endswith(":"))
        names = [name for name in names if name in columns or name.startswith(beginnings)]
    types = {name: schema.field(name).type for name in names}
    texts = [name for name, type_ in types.items() if pa.types.is_string(type_) or pa.types.is_large_string(type_)]
    # The texts are few, such as classes: each is in memory once, however many rows have it.
    table = pq.read_table(part.file, columns=names, read_dictionary=texts)
    rows: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    for name, values in rows.items():
        if not pd.api.types.is_numeric_dtype(values.dtype):
            rows[name] = none_if_null(values)
    return rows


def _joined(ids: "Sequence[pd.Index[Any]]") -> "pd.Index[Any]":
    """One index of the ids, without what pandas keeps with one to look ids up: that takes more memory than they do."""
    joined: pd.Index[Any] = pd.Index(
        np.concatenate([part.to_numpy() for part in ids]), dtype=ids[0].dtype, name="item_id"
    )
    return joined
