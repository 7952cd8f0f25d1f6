"""A run whose process is gone is KILLED; one that works is left alone, from wherever it is looked at."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from silvertune.databases import owner
from silvertune.tracking import processes, store

Tags = dict[str, str]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    return store.prepare({"uri": None, "dir": str(tmp_path_factory.mktemp("mlruns"))}, "study")[0]


@pytest.fixture
def experiment(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    """An experiment of the test's own."""
    return str(client.create_experiment(request.node.name))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "BEAT_S", 0.1)
    monkeypatch.setattr(processes, "PATIENCE_S", 1.0)


def tags_of(pid: int) -> Tags:
    """The tags that a process of this place would give its runs."""
    return {**processes.tags(), "pid": str(pid), "pid_started": owner.start_time(pid)}


@pytest.fixture
def ended() -> Tags:
    """The tags of a process of this place that is gone."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    tags = tags_of(process.pid)
    process.communicate(b"\n")
    return tags


@pytest.fixture
def living() -> Iterator[Tags]:
    """The tags of another process of this place that is there."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield tags_of(process.pid)
    process.communicate(b"\n")


def reaped(client: MlflowClient, experiment: str, tags: Tags) -> Run:
    """A run with these tags, after reaping."""
    run = client.create_run(experiment, tags=tags).info.run_id
    processes.reap(client, experiment)
    return client.get_run(run)


# ------------------------------------------------------------------------------------------------------- in sight


def test_a_run_whose_process_is_gone_is_killed_and_says_so(client: MlflowClient, experiment: str, ended: Tags) -> None:
    run = reaped(client, experiment, ended)
    assert run.info.status == "KILLED"
    assert run.info.end_time is not None
    assert "process ended" in run.data.tags["error"]


def test_a_run_whose_process_id_was_given_to_another_is_killed(
    client: MlflowClient, experiment: str, living: Tags
) -> None:
    long_ago = living | {"pid_started": str(int(living["pid_started"]) - 3600)}
    assert reaped(client, experiment, long_ago).info.status == "KILLED"


def test_a_run_whose_process_lives_is_left_alone(client: MlflowClient, experiment: str, living: Tags) -> None:
    for tags in (living, processes.tags()):
        run = reaped(client, experiment, tags)
        assert run.info.status == "RUNNING"
        assert "error" not in run.data.tags


@pytest.mark.parametrize("step", [-7200, 3, 86400])
def test_a_step_of_the_clock_kills_nothing(
    client: MlflowClient, experiment: str, living: Tags, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    now, started = time.time, psutil.Process.create_time
    monkeypatch.setattr(time, "time", lambda: now() + step)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: started(self) + step)
    assert reaped(client, experiment, living).info.status == "RUNNING"


def test_reaping_counts_and_leaves_what_has_ended_alone(client: MlflowClient, experiment: str, ended: Tags) -> None:
    finished = client.create_run(experiment, tags=ended).info.run_id
    client.set_terminated(finished, "FINISHED")
    for _ in range(2):
        client.create_run(experiment, tags=ended)
    assert processes.reap(client, experiment) == 2
    assert processes.reap(client, experiment) == 0
    assert client.get_run(finished).info.status == "FINISHED"


def test_a_run_that_is_none_of_ours_is_left_alone(client: MlflowClient, experiment: str) -> None:
    assert reaped(client, experiment, {}).info.status == "RUNNING"


def test_a_worker_that_outlives_its_sweep_is_ended(client: MlflowClient, experiment: str, ended: Tags) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    sweep = client.create_run(experiment, tags=ended | {"sweep": "s"}).info.run_id
    run = reaped(client, experiment, tags_of(process.pid) | {"mlflow.parentRunId": sweep})
    assert run.info.status == client.get_run(sweep).info.status == "KILLED"
    assert not psutil.pid_exists(process.pid)
    process.wait()


def test_a_sweep_of_this_process_that_ended_without_a_word_is_killed_though_the_process_lives(
    client: MlflowClient, experiment: str
) -> None:
    """A notebook's kernel outlives its sweeps."""
    sweep = client.create_run(experiment, tags=processes.tags() | {"sweep": "s"}).info.run_id
    with processes.beating(client, sweep):
        assert processes.reap(client, experiment) == 0
    assert processes.reap(client, experiment) == 1
    assert client.get_run(sweep).info.status == "KILLED"


def test_a_sweep_that_was_deleted_in_mlflow_while_it_works_keeps_its_runs(
    client: MlflowClient, experiment: str, living: Tags
) -> None:
    sweep = client.create_run(experiment, tags=living | {"sweep": "s"}).info.run_id
    client.delete_run(sweep)
    assert reaped(client, experiment, living | {"mlflow.parentRunId": sweep}).info.status == "RUNNING"


# ----------------------------------------------------------------------------------------------------- out of sight

ELSEWHERE = pytest.mark.parametrize(
    "place",
    [{"host": "another-machine"}, {"boot": "another-boot"}, {"pid_namespace": "pid:[1]"}],
    ids=["another host", "another boot", "another container"],
)


@ELSEWHERE
def test_a_sweep_out_of_sight_that_beats_is_left_alone_with_its_runs(
    client: MlflowClient, experiment: str, ended: Tags, place: Tags
) -> None:
    tags = ended | place
    sweep = client.create_run(experiment, tags=tags | {"sweep": "s"}).info.run_id
    child = client.create_run(experiment, tags=tags | {"mlflow.parentRunId": sweep}).info.run_id
    lines: list[str] = []
    with processes.beating(client, sweep):
        wait_for(lambda: "beat" in client.get_run(sweep).data.tags)
        assert processes.reap(client, experiment, lines.append) == 0
    assert len(lines) == 1
    assert {client.get_run(run).info.status for run in (sweep, child)} == {"RUNNING"}


@ELSEWHERE
def test_a_sweep_out_of_sight_that_beats_no_more_is_killed_with_its_runs(
    client: MlflowClient, experiment: str, living: Tags, place: Tags
) -> None:
    tags = living | place
    sweep = client.create_run(experiment, tags=tags | {"sweep": "s", "beat": "7"}).info.run_id
    child = client.create_run(experiment, tags=tags | {"mlflow.parentRunId": sweep}).info.run_id
    assert processes.reap(client, experiment) == 2
    assert {client.get_run(run).info.status for run in (sweep, child)} == {"KILLED"}
    assert psutil.pid_exists(int(living["pid"]))  # its number is another process's here


@ELSEWHERE
def test_a_sweep_out_of_sight_that_never_beat_is_left_alone(
    client: MlflowClient, experiment: str, ended: Tags, place: Tags
) -> None:
    assert reaped(client, experiment, ended | place).info.status == "RUNNING"


def test_beats_go_on_while_the_store_does_not_answer(
    client: MlflowClient, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = client.create_run(experiment, tags=processes.tags()).info.run_id
    calls: list[Any] = []

    def fail(*arguments: Any) -> None:
        calls.append(arguments)
        raise OSError("no route")

    with monkeypatch.context() as patched:
        patched.setattr(client, "set_tag", fail)
        with processes.beating(client, sweep):
            wait_for(lambda: len(calls) > 2)
    assert threading.active_count() < 50


@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="needs unshare, as root")
def test_a_process_in_a_pid_namespace_of_its_own_is_not_taken_for_dead(
    client: MlflowClient, experiment: str, tmp_path: Path
) -> None:
    sweep = client.create_run(experiment).info.run_id
    code = (
        "import sys, time\n"
        "from mlflow import MlflowClient\n"
        "from silvertune.tracking import processes\n"
        "client, sweep = MlflowClient(sys.argv[1]), sys.argv[2]\n"
        "for name, value in {**processes.tags(), 'sweep': 's'}.items():\n"
        "    client.set_tag(sweep, name, value)\n"
        "processes.BEAT_S = 0.1\n"
        "with processes.beating(client, sweep):\n"
        "    open(sys.argv[3], 'w').close()\n"
        "    input()\n"
    )
    begun = tmp_path / "begun"
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code, client.tracking_uri, sweep, begun],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(lambda: begun.exists() or process.poll() is not None, 60)
        if process.poll() is not None and b"unshare" in process.communicate()[1]:
            pytest.skip("unshare is not permitted here")
        wait_for(lambda: "beat" in client.get_run(sweep).data.tags)
        tags = client.get_run(sweep).data.tags
        assert int(tags["pid"]) < 10
        assert tags["boot"] == processes.tags()["boot"]
        assert processes.reap(client, experiment) == 0
    finally:
        process.communicate(b"\n", timeout=60)
    assert processes.reap(client, experiment) == 1
    assert client.get_run(sweep).info.status == "KILLED"


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "what was waited for did not happen"
        time.sleep(0.05)
