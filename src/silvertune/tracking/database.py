"""The SQLite file of a local store: made whole or not at all, and at home wherever its folder is moved to."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote

from silvertune.errors import UserError

SCHEME = "sqlite:///"
ARTIFACT_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""The tables and columns in which MLflow keeps absolute addresses of artifacts."""

_SUFFIXES = ("", "-journal", "-wal", "-shm")
"""Of the files that SQLite keeps for one database."""


def path_of(address: str) -> Path | None:
    """The file that a `sqlite:///` address names; None for any other address, and for a database in memory."""
    name = unquote(address.removeprefix(SCHEME).partition("?")[0])
    return Path(name) if address.startswith(SCHEME) and name not in ("", ":memory:") else None


def address_of(path: Path) -> str:
    """The `sqlite:///` address of a file."""
    return SCHEME + quote(str(path))


def named(uri: str | None, folder: str | None) -> dict[str, str | None]:
    """The store that the options `--uri` and `--dir` name.

    Args:
        uri: MLflow tracking URI; None: not said.
        folder: Folder of a local store; None: not said. It wins over what the environment says.

    Returns:
        `uri` and `dir`, as the configuration's `tracking` has them.
    """
    in_folder = address_of(Path(folder, "mlflow.db").absolute()) if folder else None
    return {"uri": uri or in_folder, "dir": "mlruns"}


def silence_libraries() -> None:
    """Have MLflow and Alembic log nothing: neither each table nor a traceback of what is told in one line."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def make(path: Path, artifacts: str | None, say: Callable[[str], None]) -> None:
    """Make an empty MLflow database, if there is none; call it under the lock of its folder.

    It is made under another name and renamed when it is whole, so that a start that is interrupted leaves nothing
    that a later one would stumble over.

    Args:
        path: The file.
        artifacts: Address of the folder for artifacts that MLflow's default experiment gets; None: MLflow's default.
        say: Is called with a line if a database is moved aside because its making was interrupted.

    Raises:
        sqlite3.Error: The file is there and is no database.
        OSError: The file can't be written.
    """
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH

    if path.is_file() and path.stat().st_size and _is_unfinished(path):
        aside = path.with_name(f"{path.name}.unfinished-{time.strftime('%Y%m%d-%H%M%S')}")
        for suffix in _SUFFIXES:
            if (part := Path(f"{path}{suffix}")).exists():
                part.rename(f"{aside}{suffix}")
        say(f"{path}: its making was interrupted, and it holds no runs; moved to {aside.name} and made anew")
    if path.exists() and path.stat().st_size:
        return
    new = path.with_name(f"{path.name}.new")
    for suffix in _SUFFIXES:
        Path(f"{new}{suffix}").unlink(missing_ok=True)
    _open(new, artifacts or DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
    with closing(sqlite3.connect(new, timeout=60)) as database:
        database.execute("PRAGMA journal_mode=WAL")  # readers (the UI) don't block writers
    os.replace(new, path)


def _is_unfinished(path: Path) -> bool:
    """Whether MLflow stumbles over what an interrupted start left, and no run would be lost with it."""
    from sqlalchemy.exc import OperationalError

    # MLflow is tried on a copy of its own: it keeps a connection to whatever it has opened.
    copy = path.with_name(f"{path.name}.check-{os.getpid()}-{time.monotonic_ns()}")
    with closing(sqlite3.connect(path, timeout=60)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "runs" in tables and database.execute("SELECT 1 FROM runs LIMIT 1").fetchone():
            return False
        with closing(sqlite3.connect(copy)) as other:
            database.backup(other)
    try:
        _open(copy, path.parent.as_uri())
    except OperationalError:
        return True
    finally:
        for suffix in _SUFFIXES:
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
    return False


def _open(path: Path, artifacts: str) -> None:
    """Have MLflow make the tables that are missing in a database."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    silence_libraries()
    SqlAlchemyStore(address_of(path), artifacts).engine.dispose()  # type: ignore[no-untyped-call]


def bring_home(path: Path, artifacts: Path, say: Callable[[str], None]) -> None:
    """Have the artifacts of a store whose folder was moved or copied found where the folder is now.

    MLflow keeps absolute addresses. Those that silvertune made end in `/artifacts` beside the database.

    Args:
        path: The database.
        artifacts: The folder of the store's artifacts, beside the database.
        say: Is called with a line if addresses are changed.

    Raises:
        UserError: A sweep is at work in this store under its old address.
    """
    new = artifacts.as_uri()
    with closing(sqlite3.connect(path, timeout=60)) as database, database:
        rows = database.execute("SELECT DISTINCT artifact_location FROM experiments")
        folders = [old for (old,) in rows if old and old.startswith("file:") and old.endswith(f"/{artifacts.name}")]
        moved = [old for old in folders if old != new and not _same(old, artifacts)]
        if not moved:
            return
        query = "SELECT 1 FROM runs WHERE status = 'RUNNING' AND lifecycle_stage = 'active' LIMIT 1"
        if database.execute(query).fetchone():
            raise UserError(
                f"tracking.dir={path.parent}: a sweep is at work in this store, and for it the store is "
                f"{_folder(moved[0]).parent}; wait until it has ended"
            )
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for old in moved:
            for table, column in ARTIFACT_ADDRESSES:
                if table in tables:
                    database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    )
    say(f"tracking.dir={path.parent}: was moved or copied from {_folder(moved[0]).parent}; artifacts are now found and "
        "kept here")  # fmt: skip


def _folder(address: str) -> Path:
    return Path(unquote(address.removeprefix("file:").removeprefix("//")))


def _same(address: str, folder: Path) -> bool:
    """Whether both name one folder, by links for example."""
    try:
        return _folder(address).samefile(folder)
    except OSError:
        return False
