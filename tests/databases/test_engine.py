"""Databases are opened by many processes at once, and what is wrong with one is said in one line."""

import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests import made, postgres

from silvertune.databases import engine
from silvertune.databases.engine import opened, without_password
from silvertune.errors import UserError

TABLES = sa.MetaData()
things = sa.Table("things_of_a_test", TABLES, sa.Column("key", sa.String(10), primary_key=True))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Gives the URL of a database that has no table yet, as often as asked."""
    number = iter(range(100))
    with ExitStack() as databases:
        if request.param == "sqlite":
            yield lambda: f"sqlite:///{tmp_path / f'{next(number)}' / 'new.sqlite'}"
        else:
            server = request.getfixturevalue("postgres_server")
            yield lambda: databases.enter_context(postgres.database(server))


def _opens_and_writes(url: str, key: str, start: Any, words: Any) -> None:
    start.wait()
    try:
        with opened(url, "x.url", TABLES).begin() as connection:
            connection.execute(sa.insert(things).values(key=key))
        words.put("")
    except BaseException as error:
        words.put(f"{type(error).__name__}: {error}")


def test_eight_processes_open_a_new_database_at_once(new_database: Callable[[], str]) -> None:
    fork = multiprocessing.get_context("fork")
    for _ in range(2):
        url, start, words = new_database(), fork.Event(), fork.Queue()
        processes = [fork.Process(target=_opens_and_writes, args=(url, f"k{i}", start, words)) for i in range(8)]
        for process in processes:
            process.start()
        start.set()
        assert [words.get(timeout=60) for _ in processes] == [""] * 8
        for process in processes:
            process.join()
        with opened(url, "x.url", TABLES).begin() as connection:
            assert len(connection.execute(sa.select(things)).all()) == 8


class Switching:
    """A connection to a new file whose journal mode others set as well: SQLite says at once that it is locked."""

    def __init__(self, *errors: str) -> None:
        self.errors = list(errors)
        self.statements: list[str] = []

    def execute(self, statement: str) -> None:
        self.statements.append(statement)
        if self.errors and "journal_mode" in statement:
            raise sqlite3.OperationalError(self.errors.pop(0))


def test_the_journal_mode_of_a_new_file_is_tried_until_the_others_have_switched() -> None:
    connection = Switching("database is locked", "database is locked")
    engine._set_up_sqlite(connection, None)
    assert sum("journal_mode" in statement for statement in connection.statements) == 3
    assert connection.statements[-1] == "PRAGMA synchronous = FULL"
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        engine._set_up_sqlite(Switching("disk I/O error"), None)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_is_shared_with_nobody_and_refused(url: str) -> None:
    with made.refused(f"x.url={url}", "is in memory", "sqlite:///file.sqlite"):
        opened(url, "x.url", TABLES)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "it is not a URL"),
        ("postgresql://user:planted-secret@host:port/database", "it is not a URL"),
        ("mysql://user:planted-secret@host/database", "mysql is not supported"),
        ("sqlite:////proc/no/such.sqlite", "No such file"),
        ("sqlite:////tmp", "unable to open database file"),
        ("sqlite:////tmp/x.sqlite?timeout=soon", "soon"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_its_password(url: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        opened(url, "x.url", TABLES)
    with made.refused("x.url", words):
        raise caught.value
    assert "planted-secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text("item_id,label\n" * 100)
    with made.refused(f"x.url=sqlite:///{tmp_path}/votes.csv", "file is not a database"):
        opened(f"sqlite:///{tmp_path}/votes.csv", "x.url", TABLES)


def test_a_password_is_not_shown() -> None:
    assert without_password("postgresql+pg8000://u:planted-secret@h/d") == "postgresql+pg8000://u:***@h/d"
    assert without_password("postgresql://u:planted-secret@h:port/d") == "(not a URL)"
