"""The store of a sweep: made once, whoever comes first, and nothing in it stays RUNNING for ever."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from tests import forked

from silvertune.errors import UserError
from silvertune.tracking import store

Tracking = dict[str, Any]


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    """A store that four processes prepared at once, in a folder whose name needs quoting."""
    settings: Tracking = {"uri": None, "dir": str(tmp_path_factory.mktemp("läufe #1"))}
    started = [forked.CONTEXT.Process(target=store.prepare, args=(settings, "study")) for _ in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join(180)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in started] == [0, 0, 0, 0]
    return settings


@pytest.fixture(scope="module")
def client(tracking: Tracking) -> MlflowClient:
    return store.client(tracking)


@pytest.fixture
def experiment(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    """An experiment of the test's own."""
    return str(client.create_experiment(request.node.name))


def test_processes_that_start_together_make_one_database_and_one_experiment(
    tracking: Tracking, client: MlflowClient
) -> None:
    assert (Path(tracking["dir"]) / "mlflow.db").is_file()
    found = [found.name for found in client.search_experiments()]
    assert found.count("study") == 1


def test_the_database_is_in_wal_mode(tracking: Tracking) -> None:
    with closing(sqlite3.connect(Path(tracking["dir"]) / "mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_preparing_again_finds_the_same_experiment(tracking: Tracking, client: MlflowClient) -> None:
    there = client.get_experiment_by_name("study")
    assert there is not None
    again, found = store.prepare(tracking, "study")
    assert found == there.experiment_id
    run = again.create_run(found).info.run_id
    assert store.prepare(tracking, "study")[1] == found
    assert client.get_run(run).info.run_id == run


def test_another_experiment_is_another(tracking: Tracking) -> None:
    one, other = (store.prepare(tracking, name)[1] for name in ("study", "second"))
    assert one != other


def test_artifacts_are_beside_the_database(tracking: Tracking) -> None:
    client, experiment = store.prepare(tracking, "with artifacts")
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "hello", "note.txt")
    (file,) = (Path(tracking["dir"]) / "artifacts").rglob("note.txt")
    assert file.read_text(encoding="utf-8") == "hello"


def test_a_deleted_experiment_is_refused_in_one_line(tracking: Tracking, client: MlflowClient) -> None:
    client.delete_experiment(store.prepare(tracking, "gone")[1])
    with pytest.raises(UserError) as caught:
        store.prepare(tracking, "gone")
    assert str(caught.value).startswith("tracking.experiment=gone: that experiment is deleted")
    assert "\n" not in str(caught.value)


def test_an_inherited_run_id_is_not_logged_into(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "somebody-else's")
    store.client(tracking)
    assert "MLFLOW_RUN_ID" not in os.environ


# -------------------------------------------------------------------------------------------------------- address


def test_without_a_uri_the_store_is_in_the_folder_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store.uri({"uri": None, "dir": "mlruns"}) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert store.uri({"uri": "http://localhost:1", "dir": "mlruns"}) == "http://localhost:1"


@pytest.mark.parametrize("name", ["runs", "läufe #1", "50%20", "what?"])
def test_the_uri_names_the_database_in_the_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    address = store.uri({"uri": None, "dir": str(tmp_path / name)})
    assert make_url(address).database == str(tmp_path / name / "mlflow.db")


@pytest.mark.parametrize("address", ["file:///somewhere/mlruns", "file:mlruns", "./mlruns", "mlruns"])
def test_a_file_store_is_refused_in_one_line(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError) as caught:
        store.prepare({"uri": address, "dir": str(tmp_path / "new")}, "study")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"tracking.uri={address}: ")
    assert "sqlite:///" in message
    assert not (tmp_path / "new").exists()


def test_a_store_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    for settings in (
        {"uri": None, "dir": str(tmp_path / "taken")},
        {"uri": f"sqlite:///{tmp_path}/no/such/folder/mlflow.db", "dir": str(tmp_path / "new")},
        {"uri": f"sqlite:///{tmp_path}/taken", "dir": str(tmp_path / "new")},
    ):
        with pytest.raises(UserError) as caught:
            store.prepare(settings, "study")
        assert len(str(caught.value).splitlines()) == 1
        assert str(caught.value).startswith(f"tracking.uri={store.uri(settings)}: can't be used (")


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("the server said no\nand more"),
        OperationalError("SELECT 1", {}, Exception("connection refused")),
        ModuleNotFoundError("No module named 'psycopg2'"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_database_that_cannot_be_reached_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Unreachable:
        def get_experiment_by_name(self, name: str) -> None:
            raise error

    monkeypatch.setattr(store, "client", lambda tracking: Unreachable())
    with pytest.raises(UserError) as caught:
        store.prepare({"uri": "postgresql://nowhere/runs", "dir": str(tmp_path)}, "study")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith("tracking.uri=postgresql://nowhere/runs: can't be used (")


def test_all_runs_are_found_oldest_first(
    client: MlflowClient, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [client.create_run(experiment, start_time=1000 + i, tags={"n": str(i)}).info.run_id for i in range(5)]
    original = client.search_runs

    def two_a_page(ids: list[str], query: str, **given: Any) -> Any:
        return original(ids, query, **(given | {"max_results": 2}))

    monkeypatch.setattr(client, "search_runs", two_a_page)
    assert [run.info.run_id for run in store.runs(client, experiment, "")] == made
    assert [run.data.tags["n"] for run in store.runs(client, experiment, "tags.n = '3'")] == ["3"]
