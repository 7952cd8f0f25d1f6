"""One rule for launchers whose jobs run elsewhere: what jobs share must be reachable from there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests import cli

from silvertune.errors import UserError
from silvertune.study import launchers
from silvertune.study.state import Sweep
from silvertune.tracking import store

SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
POSTGRES = "postgresql+pg8000://user@host/database"


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    everything = {
        "tracking": {"uri": "https://mlflow.example", "dir": str(folder)},
        "labeler": {"store": {"_target_": "silvertune.labelers.StorePlace", "url": POSTGRES}},
        "fallback": None,
        "backend": {"_target_": "silvertune.backends.local"},
    }
    return everything | changes


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on storage that all machines share."""
    monkeypatch.setattr(launchers, "_is_shared", lambda folder: folder == tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "target",
    [
        SLURM,
        "hydra_plugins.hydra_rq_launcher.rq_launcher.RQLauncher",
        "mine.MyLauncher",
    ],
)
def test_a_launcher_that_leaves_this_machine_needs_all_by_url(shared: Path, target: str) -> None:
    launchers.check({"_target_": target}, [config(shared)])
    launchers.check({"_target_": target}, [config(shared, labeler={"_target_": "silvertune.labelers.Recorded"})])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tracking": {"uri": None, "dir": "FOLDER"}}, ["tracking.uri=sqlite:///", "http(s)://"]),
        ({"tracking": {"uri": "sqlite:////shared/mlflow.db", "dir": "FOLDER"}}, ["tracking.uri=sqlite:"]),
        ({"tracking": {"uri": "https://mlflow.example", "dir": "mlruns"}}, ["tracking.dir=mlruns", "storage"]),
        ({"tracking": {"uri": "https://mlflow.example", "dir": "/home/ada/mlruns"}}, ["tracking.dir=/home/ada/mlruns"]),
        ({"labeler": {"store": {"url": None}}}, ["labeler.store.url=null", "postgresql"]),
        ({"fallback": {"labeler": {"store": {"url": "sqlite:///a"}}}}, ["fallback.labeler.store.url=sqlite:///a"]),
        ({"backend": {"ledger": None}}, ["backend.ledger=null"]),
        ({"backend": {"ledger": {"url": "sqlite:///x"}}}, ["backend.ledger.url=sqlite:///x"]),
    ],
)
def test_what_is_missing_is_told_by_its_key(shared: Path, change: dict[str, Any], words: list[str]) -> None:
    if change.get("tracking", {}).get("dir") == "FOLDER":
        change = {"tracking": change["tracking"] | {"dir": str(shared)}}
    with pytest.raises(UserError) as caught:
        launchers.check({"_target_": SLURM}, [config(shared, **change)])
    assert str(caught.value).startswith("hydra/launcher=SlurmLauncher starts jobs on other machines")
    for word in words:
        assert word in str(caught.value)
    assert "; " not in str(caught.value)  # nothing else is missing


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    missing = config(tmp_path, tracking={"uri": None, "dir": "mlruns"}, labeler={"store": {"url": None}})
    with pytest.raises(UserError) as caught:
        launchers.check({"_target_": SLURM}, [missing, missing])
    assert str(caught.value).count("; ") == 2


@pytest.mark.parametrize(
    "target",
    [
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    ],
)
def test_a_launcher_of_this_machine_needs_nothing(tmp_path: Path, target: str) -> None:
    launchers.check({"_target_": target}, [config(tmp_path, tracking={"uri": None, "dir": "mlruns"})])


def test_ray_stays_on_this_machine_unless_it_is_given_an_address(tmp_path: Path) -> None:
    here = {"_target_": "hydra_plugins.silvertune.ray_launcher.RayLauncher", "address": None}
    launchers.check(here, [config(tmp_path, tracking={"uri": None, "dir": "mlruns"})])
    with pytest.raises(UserError, match="RayLauncher starts jobs on other machines"):
        launchers.check(here | {"address": "auto"}, [config(tmp_path, tracking={"uri": None, "dir": "mlruns"})])


def test_a_folder_on_a_disk_of_this_machine_is_not_shared(tmp_path: Path) -> None:
    assert not launchers._is_shared(tmp_path / "not" / "there")


def test_jobs_for_slurm_are_composed_and_refused_where_they_would_share_nothing(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="hydra-submitit-launcher is not installed")
    cli.write_tables(tmp_path, groups=4)
    slurm = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1",
             "hydra.launcher.mem_gb=16", "hydra.launcher.timeout_min=240"]  # fmt: skip
    composed = cli.silvertune(tmp_path, *slurm, "--cfg", "hydra", "--package", "hydra.launcher")
    assert composed.returncode == 0, composed.stderr
    for line in (f"_target_: {SLURM}", "partition: gpu", "gpus_per_node: 1", "mem_gb: 16", "timeout_min: 240"):
        assert line in composed.stdout
    study = ["dataset.path=tables.jsonl", "labeler=expert", "filter=none,agreement", "evaluation.folds=2"]
    refused = cli.silvertune(tmp_path, *study, *slurm)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "hydra/launcher=SlurmLauncher starts jobs on other machines, which can't reach: tracking.uri=sqlite" in line
    assert not (tmp_path / "mlruns").exists()


def test_a_run_that_is_another_where_it_ran_is_told(tmp_path: Path) -> None:
    client, experiment = store.prepare({"uri": None, "dir": str(tmp_path)}, "study")
    jobs: Any = [SimpleNamespace(name=name) for name in ("elsewhere", "lost", "failed", "finished")]
    of_sweep = Sweep(client, {}, "study", experiment, "p", jobs, jobs, {})
    for name, status in (("elsewhere", "FINISHED"), ("lost", "KILLED")):
        run = client.create_run(experiment, run_name=name, tags={store.PARENT: "p"})
        client.set_terminated(run.info.run_id, status)
    finished: Any = [(jobs[3], None)]
    told = of_sweep.lost(finished, {"failed"})
    assert [failure.name for failure in told] == ["elsewhere", "lost"]
    words = [failure.error for failure in told]
    assert "the code or the data differ where it ran" in words[0]
    assert words[1] == "did not finish"


@pytest.mark.soak
def test_submitit_runs_a_sweep_as_it_would_on_slurm(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="hydra-submitit-launcher is not installed")
    cli.write_tables(tmp_path, groups=4)
    study = ["dataset.path=tables.jsonl", "labeler=expert", "filter=none,agreement", "evaluation.folds=2",
             "evaluation.replicates=20", "tracking.save_models=false"]  # fmt: skip
    done = cli.silvertune(tmp_path, *study, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10")
    assert done.returncode == 0, done.stderr
    runs = cli.runs(tmp_path, "silvertune")
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    assert len({run.data.tags["pid"] for run in runs}) == 2
