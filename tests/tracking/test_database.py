"""A local store's database: whole or not there, and at home wherever its folder is."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests import stores

from silvertune.errors import UserError
from silvertune.tracking import database, store


@pytest.fixture(autouse=True)
def made_by_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """How a database is made is tried here."""
    monkeypatch.setattr(database, "_open", stores.REAL_OPEN)


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def logged(folder: Path) -> str:
    """The id of a finished run of the store in `folder`, with an artifact."""
    client, experiment = store.prepare({"uri": None, "dir": str(folder)}, "study")
    run: str = client.create_run(experiment).info.run_id
    client.log_text(run, "hello", "note.txt")
    client.set_terminated(run)
    return run


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with one run, and that run's id."""
    folder = tmp_path_factory.mktemp("projekt #1") / "mlruns"
    return folder, logged(folder)


@pytest.fixture
def copied(original: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    """A copy of that store, elsewhere."""
    return Path(shutil.copytree(original[0], tmp_path / "kopie 2" / "mlruns")), original[1]


# ----------------------------------------------------------------------------------------------------------- making


def test_an_interrupted_making_leaves_no_database_and_the_next_start_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"

    def interrupted(new: Path, artifacts: str) -> None:
        with closing(sqlite3.connect(new)) as connection:
            connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(database, "_open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            database.make(path, None, print)
    assert not path.exists()
    assert (tmp_path / "mlflow.db.new").exists()
    database.make(path, None, print)
    assert {"runs", "experiments", "alembic_version"} <= tables(path)
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]


def test_what_an_interrupted_start_of_mlflow_left_is_moved_aside_and_told(
    original: tuple[Path, str], tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(original[0] / "mlflow.db")) as connection:
        connection.execute("VACUUM INTO ?", (str(path),))
    with closing(sqlite3.connect(path)) as connection, connection:
        # All columns are there and MLflow doesn't know: "duplicate column name", for ever.
        for table in ("tags", "latest_metrics", "params", "metrics", "input_tags", "inputs", "datasets", "runs"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM alembic_version")
        connection.execute("DROP TABLE trace_info")
    lines: list[str] = []
    database.make(path, None, lines.append)
    assert "was interrupted" in lines[0]
    assert "alembic_version" in tables(path)
    assert [file.name for file in tmp_path.iterdir() if "unfinished" in file.name]
    database.make(path, None, lines.append)
    assert len(lines) == 1


def test_a_database_with_runs_is_never_moved(original: tuple[Path, str], tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(original[0] / "mlflow.db")) as connection:
        connection.execute("VACUUM INTO ?", (str(path),))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
        connection.execute("DROP TABLE trace_info")
    database.make(path, None, print)
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]


# ------------------------------------------------------------------------------------------------------- moved home


def test_a_copied_store_has_its_artifacts_and_its_new_runs_where_it_is(
    original: tuple[Path, str], copied: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = copied
    tracking: dict[str, Any] = {"uri": None, "dir": str(folder)}
    store.bring_home(tracking)
    told = capsys.readouterr().err
    assert str(original[0]) in told
    assert told.count("\n") == 1
    client, experiment = store.prepare(tracking, "study")
    assert client.get_run(run).info.artifact_uri == (folder / "artifacts" / run / "artifacts").as_uri()
    assert Path(client.download_artifacts(run, "note.txt")).read_text() == "hello"
    new = client.create_run(experiment).info.run_id
    client.log_text(new, "new", "new.txt")
    assert (folder / "artifacts" / new / "artifacts" / "new.txt").is_file()
    assert not list(original[0].rglob("new.txt"))
    store.bring_home(tracking)
    assert capsys.readouterr().err == ""


def test_a_store_that_is_reached_through_a_link_is_left_as_it_is(
    original: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(original[0])
    store.bring_home({"uri": None, "dir": str(tmp_path / "link")})
    assert capsys.readouterr().err == ""


def test_a_store_that_a_sweep_uses_under_another_address_is_not_changed(copied: tuple[Path, str]) -> None:
    folder, run = copied
    client = store.client({"uri": None, "dir": str(folder)})
    client.update_run(run, status="RUNNING")
    with pytest.raises(UserError, match="a sweep is at work"):
        store.bring_home({"uri": None, "dir": str(folder)})


def test_an_experiment_that_keeps_its_artifacts_elsewhere_keeps_them_there(
    copied: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = copied
    client = store.client({"uri": None, "dir": str(folder)})
    theirs = client.create_experiment("theirs", artifact_location="s3://bucket/artifacts")
    store.bring_home({"uri": None, "dir": str(folder)})
    assert client.get_experiment(theirs).artifact_location == "s3://bucket/artifacts"


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///b%20c.db?timeout=9", "b c.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("postgresql://host/b.db", None),
    ],
)
def test_the_file_of_an_address(address: str, path: str | None) -> None:
    assert database.path_of(address) == (None if path is None else Path(path))
