"""Databases at a SQLAlchemy URL, SQLite or PostgreSQL, opened so that many processes can write to them."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from silvertune.errors import UserError, in_one_line

INSERTS: dict[str, Callable[..., Any]] = {"sqlite": sqlite_insert, "postgresql": postgres_insert}
"""Dialect -> its `insert`, which knows `on_conflict_do_nothing`."""
_WAIT_S = 60
"""Seconds that a connection waits for the lock of a SQLite file."""
_LOCK_OF_TABLES = 0x53494C56
"""Number of the PostgreSQL lock that a process holds while it makes tables."""


def opened(url: str, key: str, tables: sa.MetaData) -> sa.Engine:
    """Open a database and make the tables that it lacks.

    Args:
        url: SQLAlchemy URL.
        key: The configuration key that it comes from, for messages.
        tables: The tables.

    Returns:
        An engine of which each transaction takes the lock for writing when it begins.

    Raises:
        UserError: The database can't be opened, is in memory, or is neither SQLite nor PostgreSQL.
    """
    try:
        address = sa.make_url(url)
        dialect = address.get_backend_name()
        if dialect not in INSERTS:
            raise UserError(f"{key}: {dialect} is not supported; want sqlite or postgresql")
        is_sqlite = dialect == "sqlite"
        if is_sqlite and is_in_memory(address):
            raise UserError(f"{key}={url}: is in memory, where no other process finds it; want sqlite:///file.sqlite")
        if is_sqlite and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        # A connection is used by one thread at a time, if not always the same.
        options = {"check_same_thread": False} if is_sqlite else {}
        engine = sa.create_engine(address, poolclass=sa.NullPool, hide_parameters=True, connect_args=options)
        if is_sqlite:
            sa.event.listen(engine, "connect", _set_up_sqlite)
            sa.event.listen(engine, "begin", _begin_immediate)
        with engine.begin() as connection:
            if not is_sqlite:  # two that make the same table at once: the second would fail
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK_OF_TABLES})"))
            tables.create_all(connection)
            _check_columns(connection, tables, f"{key}={without_password(url)}")
    except (sa.exc.SQLAlchemyError, ImportError, OSError, TypeError, ValueError) as error:  # the last two: of a driver
        raise UserError(
            f"{key}={without_password(url)}: can't be opened ({reason(error, url)}); want a URL such as "
            "sqlite:///file.sqlite or postgresql+pg8000://user@host/database"
        ) from None
    return engine


def _check_columns(connection: sa.Connection, tables: sa.MetaData, setting: str) -> None:
    """UserError where a table that was there lacks a column: another version of silvertune made it."""
    inspector = sa.inspect(connection)
    for table in tables.tables.values():
        lacking = set(table.columns.keys()) - {column["name"] for column in inspector.get_columns(table.name)}
        if lacking:
            raise UserError(
                f"{setting}: its table {table.name} has no column {', '.join(sorted(lacking))}, as another version of "
                "silvertune or another program made it; want another file or database, or that version"
            )


@contextmanager
def told(url: str, key: str) -> Iterator[None]:
    """Say in one line what fails in a database that was opened: its disk is full, its file damaged, its server gone.

    Args:
        url: SQLAlchemy URL.
        key: The configuration key that it comes from.

    Raises:
        UserError: In place of SQLAlchemy's errors.
    """
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise UserError(
            f"{key}={without_password(url)}: can't be read or written ({reason(error, url)}); the same command goes on "
            "where this one stopped"
        ) from error


def exists(url: str) -> bool:
    """Whether there is a database at the URL, as far as that can be seen: a SQLite file, or any server."""
    try:
        address = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return False
    return address.get_backend_name() != "sqlite" or Path(address.database or "").is_file()


def reason(error: Exception, url: str) -> str:
    """What a database or its driver says of a failure, in one line and without the password of the URL.

    Args:
        error: What SQLAlchemy raised.
        url: The database's URL.
    """
    cause = getattr(error, "orig", None) or error
    words = cause.args[0] if cause.args else ""
    text = str(words["M"]) if isinstance(words, dict) and "M" in words else in_one_line(cause)  # pg8000 raises dicts
    try:
        password = sa.make_url(url).password
    except (sa.exc.ArgumentError, ValueError):
        return "it is not a URL"  # the error's own message would repeat it, with what may be a password
    return f"{type(error).__name__}: {text.replace(password, '***') if password else text}"


def is_in_memory(address: sa.URL) -> bool:
    """Whether a SQLite URL names no file."""
    return address.database in (None, "", ":memory:") or "mode=memory" in str(address)


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    connection.execute(f"PRAGMA busy_timeout = {_WAIT_S * 1000}")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")


def _write_ahead(connection: Any) -> None:
    """Set the journal mode. SQLite's own timeout does not hold for the lock that a new database needs for that."""
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin_immediate(connection: sa.Connection) -> None:
    # Taking the lock for writing later, in a transaction that has read, would fail at once if another was faster.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def without_password(url: str) -> str:
    """The URL as messages may show it."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except (sa.exc.ArgumentError, ValueError):
        return "(not a URL)"
