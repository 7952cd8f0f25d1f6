"""One study started while it runs, and eight times at once: it is done once, and each start says who does it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tests import cli, fake_storage, stores
from tests.backends import vertex_double

import silvertune
from silvertune.backends.ledger import Ledger

AT_ONCE = 8
ARMS = """# @package _global_
defaults:
  - override /evaluation: kfold
study:
  arms:
    all: [labeler=recorded, 'labeler.annotators=[machine]', filter=none]
    expert: [labeler=expert, filter=none]
  references: [expert]
  seeds: 1
evaluation: {folds: 2, replicates: 20}
dataset:
  path: tables.jsonl
  annotations:
    machine: {column: machine, confidence: sure, values: {0: other, 1: soe}}
tracking: {save_models: false}
"""


def test_a_study_that_runs_is_not_begun_again(
    tmp_path: Path, user: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.write_tables(tmp_path, groups=4)
    stores.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    module = user(
        "from pathlib import Path\n"
        "from silvertune.labelers.recorded import Recorded\n"
        "from tests import cli\n"
        "class StartsItAgain(Recorded):\n"
        "    def label(self, items):\n"
        "        if not Path('again').exists():\n"
        "            Path('again').touch()\n"
        "            done = cli.silvertune(Path.cwd(), *Path('command').read_text().split())\n"
        "            Path('again').write_text(f'{done.returncode} {done.stderr}')\n"
        "        return super().label(items)\n"
    )
    command = ["dataset.path=tables.jsonl", "labeler=expert", f"labeler._target_={module}.StartsItAgain", "filter=none",
               "model=none", "evaluation.folds=2", "evaluation.replicates=20"]  # fmt: skip
    (tmp_path / "command").write_text(" ".join(command))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")
    silvertune.run(command)
    words = (tmp_path / "again").read_text()
    assert words.startswith(f"1 silvertune: this study is already running: process {os.getpid()} on ")
    assert "the same command finds its results when it is done" in words
    (run,) = [*cli.runs(tmp_path, "silvertune")]
    (sweep,) = cli.parents(tmp_path, "silvertune")
    assert run.info.status == sweep.info.status == "FINISHED"


@pytest.mark.soak
@pytest.mark.parametrize("again", [False, True], ids=["first", "after kill -9"])
def test_eight_shells_run_one_study_and_each_job_is_made_and_billed_once(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, database_url: str, again: bool
) -> None:
    cli.write_tables(tmp_path, groups=8, per_group=6)
    cli.write_study(tmp_path, ARMS)
    is_server = not database_url.startswith("sqlite")
    ledger_url = database_url if is_server else f"sqlite:///{tmp_path / 'mlruns' / 'ledger.sqlite'}"
    runs_url = database_url if is_server else f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}"
    by_url = [f"tracking.uri={runs_url}", f"model.store.url={database_url}"] if is_server else []
    with vertex_double.running(tmp_path / "google", monkeypatch) as double:
        double.looks = 20
        command = ["experiments=tiny", "model.views=[text]", *vertex_double.overrides(double, bucket),
                   f"backend.ledger.url={ledger_url}", "backend.deadline_s=600", *by_url]  # fmt: skip

        def started() -> "subprocess.Popen[str]":
            return subprocess.Popen(
                [sys.executable, "-m", "silvertune", *command], cwd=tmp_path, text=True, start_new_session=True,
                env={**os.environ, "STORAGE_EMULATOR_HOST": fake_storage.address()},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip

        if again:  # they find the same interrupted sweep
            first = started()
            while not double.jobs and first.poll() is None:
                pass
            first.kill()
            first.communicate()
        shells = [started() for _ in range(AT_ONCE)]
        ends = [(*shell.communicate(timeout=1800), shell.returncode) for shell in shells]
        whole = [end for end in ends if end[2] == 0]
        refused = [end for end in ends if end[2] != 0]
        for out, _, _ in whole:
            assert "expert" in out
        for _, err, status in refused:
            assert status == 1
            (line,) = [line for line in err.splitlines() if "this study is already running: process" in line]
            assert "the same command finds its results when it is done" in line
        assert whole
        last = started()  # whoever was refused does as it was told
        out, err = last.communicate(timeout=600)
        assert last.returncode == 0, err
        assert "2 run(s), 2 already finished, 0 to do" in out

        assert set(double.jobs_by_label().values()) == {1}
        assert set(double.jobs_by_files().values()) == {1}
        assert len(double.jobs) == 4
        assert sorted(entry["job"] for entry in double.did("billed")) == sorted(double.jobs)
        ledger = Ledger(ledger_url, budget_usd=None, lease_s=60)
        assert [entry.state for entry in ledger.entries()] == ["succeeded"] * 4
        assert set(double.asked.values()) == {1}
    client = MlflowClient(runs_url)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    every = client.search_runs([experiment.experiment_id])
    sweeps = [run for run in every if "mlflow.parentRunId" not in run.data.tags]
    runs = [run for run in every if "mlflow.parentRunId" in run.data.tags]
    assert [sweep.info.status for sweep in sweeps] == ["FINISHED"]
    ended = sorted(run.info.status for run in runs)
    assert ended == ["FINISHED"] * 2 + ["KILLED"] * (len(ended) - 2)
    assert len(ended) <= 2 + again
