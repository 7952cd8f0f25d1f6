"""Hidden states of a frozen layer, kept on disk: computed once, read by every arm, seed, fold and process.

There is one flat file of half-precision numbers, read through a memory map, and an index in SQLite, which says where
the states of each text are in the file. The key of a text is its SHA-256. The file is written first and the index after
it, so whatever is indexed is complete, also after `kill -9` or on a full disk.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

HALF = np.dtype(np.float16)


def key_of(text: str) -> str:
    """The key of a text: its SHA-256, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def rows_of(database: sqlite3.Connection, table: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Read rows by their keys.

    Args:
        database: An open database.
        table: A table with a column `key`.
        keys: Any number, also more than one query takes; repeated ones count once.

    Yields:
        The rows that are there, in no order.
    """
    unique = list(dict.fromkeys(keys))
    for start in range(0, len(unique), 500):
        chunk = unique[start : start + 500]
        marks = ",".join("?" * len(chunk))
        yield from database.execute(f"SELECT * FROM {table} WHERE key IN ({marks})", chunk)


@dataclass(frozen=True)
class Store:
    """The states of one layer of one encoder.

    Attributes:
        path: Without its endings: the numbers are in `<path>.f16`, the index in `<path>.sqlite`.
        width: How many numbers a token's state has.
    """

    path: Path
    width: int

    @property
    def file(self) -> Path:
        """The file of numbers."""
        return self.path.with_name(f"{self.path.name}.f16")

    @property
    def index(self) -> Path:
        """The SQLite file that says where each text's states are."""
        return self.path.with_name(f"{self.path.name}.sqlite")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process computes what is missing; the others wait for it and then read. Re-entrant."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.index}.lock", is_singleton=True):
            yield

    def missing(self, keys: Sequence[str]) -> set[str]:
        """Those of `keys` whose states are not stored."""
        return set(keys) - set(self._places(keys))

    def add(self, states: Mapping[str, np.ndarray]) -> None:
        """Store the states (tokens, width) of some keys; those that are stored already stay as they are."""
        with self.locked(), closing(self._open()) as database:
            new = {key: states[key] for key in self.missing(list(states))}
            # Over what a killed process may have left behind the last indexed text.
            (end,) = database.execute("SELECT COALESCE(MAX(start + length), 0) FROM states").fetchone()
            places = []
            with self.file.open("r+b" if self.file.exists() else "w+b") as file:
                file.seek(end * self.width * HALF.itemsize)
                for key, rows in new.items():
                    file.write(rows.astype(HALF, copy=False).tobytes())
                    places.append((key, end, len(rows)))
                    end += len(rows)
                file.flush()
                os.fsync(file.fileno())
            with database:
                database.executemany("INSERT INTO states VALUES (?, ?, ?)", places)

    def read(self, keys: Sequence[str]) -> list[np.ndarray]:
        """Read states.

        Args:
            keys: Stored ones.

        Returns:
            The states (tokens, width) float16 of each key, as views of a memory map.

        Raises:
            KeyError: The states of a key are not stored.
        """
        if not keys:
            return []
        place_by_key = self._places(keys)
        places = [place_by_key[key] for key in keys]
        # Complete rows: a killed process may have left a part of one at the end.
        rows = self.size() // (self.width * HALF.itemsize)
        # Copy on write: the file never changes, and torch takes the rows as they are.
        mapped = np.memmap(self.file, dtype=HALF, mode="c", shape=(rows, self.width))
        return [mapped[start : start + length] for start, length in places]

    def size(self) -> int:
        """Bytes of states on disk."""
        return self.file.stat().st_size if self.file.is_file() else 0

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.index)
        database.execute(
            "CREATE TABLE IF NOT EXISTS states (key TEXT PRIMARY KEY, start INTEGER NOT NULL, length INTEGER NOT NULL)"
        )
        return database

    def _places(self, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
        if not self.index.is_file():
            return {}
        with closing(self._open()) as database:
            return {key: (start, length) for key, start, length in rows_of(database, "states", keys)}
