"""A study tuned by custom jobs of Vertex AI, from its yaml to its runs: equal to one that was tuned here."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from tests import cli, fake_storage, vertex_jobs
from tests.vertex_jobs import STATE, Jobs

import silvertune
from silvertune.backends import Ledger
from silvertune.study import tuning_jobs

STUDY = ["dataset.path=tables.jsonl", "labeler=expert", "filter=none", "model=tfidf_logreg", "evaluation=kfold",
         "evaluation.folds=2", "evaluation.replicates=20"]  # fmt: skip


class Place:
    """A user's folder with tables, and the service."""

    def __init__(self, folder: Path, jobs: Jobs, backend: list[str]) -> None:
        self.folder, self.jobs, self.backend = folder, jobs, backend

    @property
    def ledger(self) -> Ledger:
        return Ledger(f"sqlite:///{self.folder / 'mlruns' / 'ledger.sqlite'}", budget_usd=None, lease_s=60)


@pytest.fixture
def place(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder = tmp_path / "user"
    folder.mkdir()
    cli.write_tables(folder, groups=4)
    monkeypatch.chdir(folder)
    jobs = Jobs(tmp_path / "service")
    with vertex_jobs.serving(jobs) as url:
        settings = vertex_jobs.settings(bucket, url)
        settings = {name: value for name, value in settings.items() if value is not None}
        overrides = [f"backend.service.{name}={value}" for name, value in settings.items()]
        yield Place(folder, jobs, ["backend=vertex_job", *overrides, "backend.poll_s=0.05"])


def results(folder: Path, target: Path) -> tuple[dict[str, float], pd.DataFrame, list[str]]:
    """Metrics, predictions and names of the artifacts of the newest run, without what depends on where it was tuned."""
    run = cli.runs(folder, "silvertune")[-1]
    target.mkdir()
    client = cli.client(folder)
    client.download_artifacts(run.info.run_id, "", str(target))
    metrics = {name: value for name, value in run.data.metrics.items() if name not in ("wall_s", "tuning/cost_usd")}
    files = sorted(str(file.relative_to(target)) for file in target.rglob("*") if file.is_file())
    return metrics, pd.read_parquet(target / "predictions.parquet"), files


def check_equal(place: Place, tmp_path: Path) -> None:
    """The newest run, and one that is tuned here, say the same."""
    there = results(place.folder, tmp_path / "there")
    silvertune.run([*STUDY, "backend=local"])
    here = results(place.folder, tmp_path / "here")
    assert there[0] == here[0]
    pd.testing.assert_frame_equal(there[1], here[1], check_exact=True)
    assert there[2] == here[2]


def test_a_study_is_planned_checked_and_tuned_there_as_it_is_here(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silvertune.run([*STUDY, *place.backend, "mode=plan"])
    silvertune.run([*STUDY, *place.backend, "mode=check"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "tuning takes at most 2 jobs, 0 tokens, and $4.00" in shown
    assert "answers in us-central1" in shown
    assert not place.jobs.jobs
    silvertune.run([*STUDY, *place.backend])
    silvertune.run([*STUDY, *place.backend, "resume=false", "backend.service.timeout_s=7200"])
    assert list(place.jobs.labels().values()) == [1, 1]
    costs = [run.data.metrics["tuning/cost_usd"] for run in cli.runs(place.folder, "silvertune")]
    assert costs[0] == costs[1]
    assert 0 < costs[0] < 4
    check_equal(place, tmp_path)


def started(place: Place) -> "subprocess.Popen[str]":
    """The study's command. `cli.start` would run Python between fork and exec, where gRPC's threads may hold locks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # one that is ignored would be so in the child
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "silvertune", *STUDY, *place.backend],
            cwd=place.folder,
            env={**os.environ, "STORAGE_EMULATOR_HOST": fake_storage.address()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(event: Callable[[], bool]) -> None:
    until = time.monotonic() + 300
    while not event():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.soak
def test_ctrl_c_says_what_runs_on_and_a_command_cancels_it(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.jobs.container = "endless"
    process = started(place)
    wait_for(lambda: "get" in place.jobs.calls)
    os.killpg(process.pid, signal.SIGINT)
    words = process.communicate(timeout=300)[1]
    names = list(place.jobs.jobs)
    assert f"2 tuning job(s) run on and bill at the provider: {', '.join(names)}; the same command collects" in words
    keys = [entry.key[:12] for entry in place.ledger.entries()]
    tuning_jobs.main(["cancel", *keys, *place.backend])
    assert capsys.readouterr().out.count(": cancelled, $") == 2
    assert [entry.state for entry in place.ledger.entries()] == ["cancelled", "cancelled"]
    tuning_jobs.main(["list", place.ledger.url])
    assert "0 run at the provider and bill" in capsys.readouterr().out
    place.jobs.container = "forked"
    silvertune.run([*STUDY, *place.backend])
    assert len(place.jobs.jobs) == 4


MOMENTS: dict[str, Callable[[Jobs], bool]] = {
    "it looks for an earlier job": lambda jobs: "list" in jobs.calls,
    "one job is made": lambda jobs: "create" in jobs.calls,
    "both jobs are made": lambda jobs: jobs.calls.count("create") == 2,
    "it waits": lambda jobs: "get" in jobs.calls,
    "a job has ended": lambda jobs: any(job.state == STATE.JOB_STATE_SUCCEEDED for job in list(jobs.jobs.values())),
}


@pytest.mark.soak
@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_of_the_command_makes_no_second_job_and_changes_no_result(
    place: Place, tmp_path: Path, moment: str
) -> None:
    process = started(place)
    wait_for(lambda: MOMENTS[moment](place.jobs))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=300)
    again = started(place)
    words = again.communicate(timeout=300)[1]
    if "it is unknown" in words:  # it died after it wrote down that it sends, and before it sent
        in_doubt = [entry for entry in place.ledger.entries() if entry.state == "unknown"]
        assert not any(entry.label in place.jobs.labels() for entry in in_doubt)
        tuning_jobs.main(["forget", place.ledger.url, *(entry.key for entry in in_doubt)])
        again = started(place)
        words = again.communicate(timeout=300)[1]
    assert again.returncode == 0, words
    assert list(place.jobs.labels().values()) == [1, 1]
    assert [entry.state for entry in place.ledger.entries()] == ["succeeded", "succeeded"]
    check_equal(place, tmp_path)
