"""Sweeps on a Ray cluster of two machines, with their runs on PostgreSQL: machines are lost, and many write at once."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from tests import cli

import silvertune
from silvertune.study import launchers, ray_jobs

STUDY = ["dataset.path=tables.jsonl", "labeler=expert", "filter=none", "evaluation.folds=2",
         "evaluation.replicates=20", "tracking.save_models=false"]  # fmt: skip


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes with one CPU each; the second can be lost."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # other tests would have all of the CPU
    sizes = {"num_cpus": 1, "object_store_memory": ray_jobs.OBJECT_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**sizes, "include_dashboard": False})
    cluster.far = cluster.add_node(**sizes)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that all machines share."""
    cli.write_tables(tmp_path, groups=4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(launchers, "_is_shared", lambda folder: folder == tmp_path / "mlruns")
    return tmp_path


def runs_of(url: str) -> list[Run]:
    """The runs of all jobs."""
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name("silvertune")
    if experiment is None:
        return []
    every, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        every += [run for run in page if "mlflow.parentRunId" in run.data.tags]
        if not (token := page.token):
            return every


@pytest.mark.soak
@pytest.mark.postgres
def test_a_lost_machine_loses_its_own_job_and_the_same_command_finishes_the_study(
    folder: Path, two_machines: Any, postgres_url: str
) -> None:
    (folder / f"slow_{folder.parent.name.replace('-', '_')}.py").write_text(
        "import time\n"
        "from silvertune.labelers.recorded import Recorded\n"
        "class Slow(Recorded):\n"
        "    def label(self, items):\n"
        "        time.sleep(4)\n"
        "        return super().label(items)\n"
    )
    study = [*STUDY, f"labeler._target_=slow_{folder.parent.name.replace('-', '_')}.Slow", "seed=range(6)",
             "hydra/launcher=silvertune_ray", f"hydra.launcher.address={two_machines.address}",
             f"tracking.uri={postgres_url}", f"tracking.dir={folder / 'mlruns'}"]  # fmt: skip
    with pytest.raises(silvertune.UserError, match="reach: tracking"):
        silvertune.run(study[:-2])

    def lose_the_second() -> None:
        while sum(run.info.status == "RUNNING" for run in runs_of(postgres_url)) < 2:
            time.sleep(0.2)
        two_machines.remove_node(two_machines.far, allow_graceful=False)

    thread = threading.Thread(target=lose_the_second)
    thread.start()
    with pytest.raises(silvertune.SweepError) as caught:
        silvertune.run(study)
    thread.join()
    (failure,) = caught.value.result.failures
    assert failure.error in ("its machine was lost; the same command does it again",
                             "its process was killed; the same command does it again")  # fmt: skip
    assert sorted(run.info.status for run in runs_of(postgres_url)) == ["FINISHED"] * 5 + ["KILLED"]

    done = silvertune.run(study)
    assert len(done.run_ids) == 6
    assert sorted(run.info.status for run in runs_of(postgres_url)) == ["FINISHED"] * 6 + ["KILLED"]


@pytest.mark.soak
@pytest.mark.postgres
@pytest.mark.parametrize("n_jobs", [400])
def test_eight_workers_log_400_jobs_to_postgres_and_none_is_lost(
    folder: Path, postgres_url: str, n_jobs: int, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    sweep = [*STUDY, "model=none", f"seed=range({n_jobs})", "hydra/launcher=silvertune_ray",
             "hydra.launcher.local_cpus=8", f"tracking.uri={postgres_url}"]  # fmt: skip
    done = silvertune.run(sweep)
    assert len(done.run_ids) == n_jobs
    runs = runs_of(postgres_url)
    assert [run.info.status for run in runs] == ["FINISHED"] * n_jobs
    assert len({run.info.run_name for run in runs}) == n_jobs
    assert len({run.data.tags["pid"] for run in runs}) >= 8
    printed = capfd.readouterr()
    for word in ("deadlock", "could not serialize", "lock timeout", "OperationalError", "IntegrityError"):
        assert word not in printed.out + printed.err
