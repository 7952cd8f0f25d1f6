"""Databases at a SQLAlchemy URL, SQLite or PostgreSQL, opened so that many processes can write to them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from silvertune.errors import UserError

INSERTS: dict[str, Callable[..., Any]] = {"sqlite": sqlite_insert, "postgresql": postgres_insert}
"""Dialect -> its `insert`, which knows `on_conflict_do_nothing`."""


def opened(url: str, key: str, tables: sa.MetaData) -> sa.Engine:
    """Open a database and make the tables that it lacks.

    Args:
        url: SQLAlchemy URL.
        key: The configuration key that it comes from, for messages.
        tables: The tables.

    Returns:
        An engine of which each transaction takes the lock for writing when it begins.

    Raises:
        UserError: The database can't be opened, or is neither SQLite nor PostgreSQL.
    """
    try:
        address = sa.make_url(url)
        is_sqlite = address.get_backend_name() == "sqlite"
        if is_sqlite and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        # A connection is used by one thread at a time, if not always the same.
        options = {"check_same_thread": False} if is_sqlite else {}
        engine = sa.create_engine(address, poolclass=sa.NullPool, hide_parameters=True, connect_args=options)
        if engine.dialect.name not in INSERTS:
            raise UserError(f"{key}: {engine.dialect.name} is not supported; want sqlite or postgresql")
        if is_sqlite:
            sa.event.listen(engine, "connect", _set_up_sqlite)
            sa.event.listen(engine, "begin", _begin_immediate)
        tables.create_all(engine)
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        raise UserError(f"{key}={without_password(url)}: can't be opened ({type(error).__name__}); want a URL such as "
                        "sqlite:///file.sqlite or postgresql+pg8000://user@host/database") from None  # fmt: skip
    return engine


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    for pragma in ("busy_timeout = 60000", "journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: sa.Connection) -> None:
    # Taking the lock for writing later, in a transaction that has read, would fail at once if another was faster.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def without_password(url: str) -> str:
    """The URL as messages may show it."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "(not a URL)"
