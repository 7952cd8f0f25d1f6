"""Jobs on Ray: each is started once, and what is lost with a worker or a machine is the job that it did."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig
from tests import cli, made, stores

from silvertune.study import ray_jobs

SETTINGS: dict[str, Any] = {
    "address": None, "cpus": 1, "gpus": 0, "memory_gb": None, "resources": {}, "runtime_env": {},
    "local_cpus": 2, "local_gpus": 0,
}  # fmt: skip
TWO_ARMS = "".join(line for line in cli.STUDY.splitlines(True) if "base:" not in line and "confident" not in line)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cli.write_tables(tmp_path)
    cli.write_study(tmp_path, TWO_ARMS)
    stores.write(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def two_machines() -> Iterator[Any]:
    """A cluster of two nodes with one CPU each, which this process is connected to."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.setenv("RAY_worker_niceness", "0")  # other tests would have all of the CPU
        sizes = {"num_cpus": 1, "object_store_memory": ray_jobs.OBJECT_STORE_BYTES}
        cluster = Cluster(initialize_head=True, head_node_args={**sizes, "include_dashboard": False})
        cluster.far = cluster.add_node(**sizes, resources={"far": 1})
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


Launch = Callable[..., list[JobReturn]]


@pytest.fixture
def launch(tmp_path: Path, two_machines: Any, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Does small jobs, one for each number from 0 on, whose task may look at its number and at the folder."""
    (tmp_path / "config.yaml").write_text("n: 0\n")
    monkeypatch.chdir(tmp_path)

    def go(task: Callable[[DictConfig], Any], n_jobs: int, **settings: Any) -> list[JobReturn]:
        loader = ConfigLoaderImpl(create_config_search_path(str(tmp_path)))
        fixed = [f"hydra.sweep.dir={tmp_path}/out", "hydra.output_subdir=null", "hydra/job_logging=none",
                 "hydra.job.chdir=false"]  # fmt: skip
        config = loader.load_configuration("config", fixed, run_mode=RunMode.MULTIRUN)
        sweep = ray_jobs.Launched(HydraContext(loader, Callbacks()), task, config)
        overrides = [[f"n={number}"] for number in range(n_jobs)]
        return ray_jobs.run(ray_jobs.Settings.of({**SETTINGS, **settings}), sweep, overrides, 0)

    return go


def test_what_fails_or_is_killed_is_one_job_and_each_is_started_once(launch: Launch) -> None:
    def task(cfg: DictConfig) -> int:
        with open(f"started{cfg.n}", "a") as file:
            file.write("x")
        if cfg.n == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if cfg.n == 2:
            raise ValueError("my job fell over")
        return 10 * cfg.n

    answers = launch(task, 5)
    done = [answer.status == JobStatus.COMPLETED for answer in answers]
    assert done == [True, False, False, True, True]
    assert [answers[n].return_value for n in (0, 3, 4)] == [0, 30, 40]
    with made.refused("its process was killed", "the same command does it again"):
        answers[1].return_value  # noqa: B018
    with pytest.raises(ValueError, match="my job fell over"):
        answers[2].return_value  # noqa: B018
    assert [Path(f"started{n}").read_text() for n in range(5)] == ["x"] * 5


def test_what_no_machine_has_is_refused_before_anything_starts(launch: Launch) -> None:
    def task(cfg: DictConfig) -> None:
        open("started", "a").close()

    # Together the two machines have two CPUs, but no job runs on both.
    for settings, words in (
        ({"cpus": 2}, "2 CPU"), ({"gpus": 0.5}, "0.5 GPU"), ({"memory_gb": 99_999}, "1e+05 GB of memory"),
        ({"resources": {"a100": 1}}, "1 a100"),
    ):  # fmt: skip
        with made.refused(words, "no machine of the Ray cluster has that (there are: "):
            launch(task, 2, **settings)
    assert not Path("started").exists()


def test_settings_that_are_none_are_refused() -> None:
    for change, words in (
        ({"cpus": "two"}, "hydra.launcher.cpus=two"), ({"memory_gb": -1}, "hydra.launcher.memory_gb=-1"),
        ({"resources": {"a100": float("nan")}}, "hydra.launcher.resources.a100=nan"),
        ({"address": "ray://host:10001"}, "ray job submit"),
    ):  # fmt: skip
        with made.refused(words):
            ray_jobs.Settings.of(SETTINGS | change)


def test_a_cluster_with_another_python_or_ray_is_said_in_one_line() -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(RuntimeError) as caught:
        ray._private.utils.check_version_info({"ray_version": "2.9.0", "python_version": "3.9.1"}, "here")
    words = ray_jobs._of_versions(caught.value)
    python = ".".join(map(str, sys.version_info[:3]))
    here = f"this is Ray {ray.__version__} on Python {python}"
    assert words == f"that cluster has Ray 2.9.0 on Python 3.9.1, and {here}; want the same"


@pytest.mark.soak
def test_a_lost_machine_loses_its_own_job_and_those_that_nothing_else_could_do(  # the last: it takes the machine away
    launch: Launch, two_machines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    def task(cfg: DictConfig) -> int:
        with open(f"started{cfg.n}", "a") as file:
            file.write("x")
        if cfg.n == 0 and Path("first").exists():
            time.sleep(60)
        return cfg.n

    monkeypatch.setattr(ray_jobs, "LOOK_S", 0.2)
    monkeypatch.setattr(ray_jobs, "PATIENCE_S", 0.5)
    Path("first").touch()

    def lose_it() -> None:
        while not Path("started0").exists():
            time.sleep(0.05)
        two_machines.remove_node(two_machines.far, allow_graceful=False)

    thread = threading.Thread(target=lose_it)
    thread.start()
    answers = launch(task, 3, resources={"far": 1})
    thread.join()
    assert [answer.status for answer in answers] == [JobStatus.FAILED] * 3
    with made.refused("its machine was lost"):
        answers[0].return_value  # noqa: B018
    with made.refused("not started", "1 far left the Ray cluster"):
        answers[2].return_value  # noqa: B018
    assert not Path("started2").exists()
    Path("first").unlink()
    assert [answer.return_value for answer in launch(task, 3)] == [0, 1, 2]


@pytest.mark.soak
def test_a_study_runs_on_ray_and_a_killed_worker_loses_its_own_job_alone(folder: Path) -> None:
    pytest.importorskip("ray")
    (folder / "mine.py").write_text(
        "import os, signal\n"
        "from pathlib import Path\n"
        "from silvertune.labelers.recorded import Recorded\n"
        "class Killed(Recorded):\n"
        "    def label(self, items):\n"
        "        with Path('started.txt').open('a') as file:\n"
        "            file.write('started\\n')\n"
        "        if not Path('killed').exists():\n"
        "            Path('killed').touch()\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().label(items)\n"
    )
    cli.write_study(folder, TWO_ARMS + "labeler: {_target_: mine.Killed}\n")
    command = ["experiments=tiny", "hydra/launcher=silvertune_ray", "hydra.launcher.local_cpus=2",
               "evaluation.folds=2", "tracking.save_models=false"]  # fmt: skip
    refused = cli.silvertune(folder, *command, "hydra.launcher.gpus=3")
    assert refused.returncode == 1
    (line,) = [line for line in refused.stderr.splitlines() if "a job needs 1 CPU, 3 GPU" in line]
    assert "(there are: 2 CPU, 0 GPU)" in line
    assert not (folder / "started.txt").exists()

    first = cli.silvertune(folder, *command)
    assert first.returncode == 1, first.stderr
    assert first.stderr.count("its process was killed; the same command does it again") == 1
    runs = cli.runs(folder, "tiny")
    assert sorted(run.info.status for run in runs) == ["FINISHED"] * 3 + ["KILLED"]
    assert len((folder / "started.txt").read_text().splitlines()) == 4

    again = cli.silvertune(folder, *command)
    assert again.returncode == 0, again.stderr
    assert "3 already finished, 1 to do" in again.stdout
    finished = cli.names([run for run in cli.runs(folder, "tiny") if run.info.status == "FINISHED"])
    assert sorted(finished) == sorted(f"{arm}/tfidf_logreg/s{seed}" for arm in ("all", "expert") for seed in (0, 1))
