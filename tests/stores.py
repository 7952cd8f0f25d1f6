"""MLflow's database, made once and copied: each of its hundred migrations costs CPU time, a second in all.

To learn which migration is the last, MLflow imports all of them for each database that it opens: here once a process.
"""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

import mlflow.store.db.utils
import pytest

from silvertune.tracking import database

REAL_OPEN = database._open
"""What makes a database; `conftest` puts `copy_or_open` in its place, but for the tests of the making itself."""


def copy_or_open(path: Path, artifacts: str, database_made: Path | None = None) -> None:
    """In place of `database._open`: a copy of a made database where there is none yet."""
    if path.exists():
        REAL_OPEN(path, artifacts)
    else:
        shutil.copy(database_made or made(), path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE experiments SET artifact_location = ?", (f"{artifacts}/0",))


def be_quick(patched: pytest.MonkeyPatch) -> None:
    """Have this process make and open databases quickly."""
    patched.setattr(database, "_open", copy_or_open)
    patched.setattr(mlflow.store.db.utils, "_get_latest_schema_revision", last_migration)


last_migration = cache(mlflow.store.db.utils._get_latest_schema_revision)


def write(folder: Path) -> None:
    """The store that a sweep in `folder` would make, empty."""
    (folder / "mlruns").mkdir()
    database.make(folder / "mlruns" / "mlflow.db", (folder / "mlruns" / "artifacts").as_uri(), print)


@cache
def made() -> Path:
    """An empty database, made once a process."""
    path = Path(_folder().name) / "mlflow.db"
    REAL_OPEN(path, "file:///artifacts")
    return path


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory()
