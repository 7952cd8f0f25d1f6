"""kill -9 of a sweep at random moments: in the end each job is finished once, as in an undisturbed sweep."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
from tests import cli, stores

N_JOBS = 24
N_KILLS = 8
SWEEP = ["-m", "dataset.path=tables.jsonl", "labeler=expert", "filter=none", "model=tfidf_logreg", "evaluation.folds=2",
         "evaluation.replicates=20", "tracking.save_models=false", f"seed=range({N_JOBS})"]  # fmt: skip
LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "ray": ["hydra/launcher=silvertune_ray", "hydra.launcher.local_cpus=2"],
}


def results(folder: Path) -> dict[str, dict[str, float]]:
    """The metrics of each finished run by its name, but for the time that it took; each name is there once."""
    finished = [run for run in cli.runs(folder, "silvertune") if run.info.status == "FINISHED"]
    assert len({run.info.run_name for run in finished}) == len(finished)
    return {
        str(run.info.run_name): {name: value for name, value in run.data.metrics.items() if name != "wall_s"}
        for run in finished
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    cli.write_tables(folder, groups=4)
    stores.write(folder)
    done = cli.silvertune(folder, *SWEEP)
    assert done.returncode == 0, done.stderr
    return results(folder)


@pytest.mark.soak
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_kill_9_at_random_moments_loses_and_doubles_nothing(
    tmp_path: Path, undisturbed: dict[str, Any], launcher: str
) -> None:
    pytest.importorskip({"basic": "hydra", "joblib": "hydra_plugins.hydra_joblib_launcher", "ray": "ray"}[launcher])
    cli.write_tables(tmp_path, groups=4)
    stores.write(tmp_path)
    command = [*SWEEP, *LAUNCHERS[launcher]]
    seed = random.randrange(10**6)
    print(f"moments drawn with seed {seed}")
    draw = random.Random(seed)
    n_killed = 0
    for number in range(N_KILLS):
        process = cli.start(tmp_path, *command, RAY_worker_niceness="0")
        if number < 2:  # before the first job, or about then
            time.sleep(draw.uniform(0, 8))
        else:
            more = cli.count(tmp_path) + draw.randint(1, 3)
            while cli.count(tmp_path) < more and process.poll() is None:
                time.sleep(0.02)
            time.sleep(draw.uniform(0, 0.7))
        n_killed += process.poll() is None
        process.kill()
        process.wait(timeout=60)  # not communicate: workers may outlive it and hold its pipes
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    assert n_killed >= 6
    done = cli.silvertune(tmp_path, *command, RAY_worker_niceness="0")
    assert done.returncode == 0, done.stderr
    time.sleep(5)  # an orphan would have finished by now
    assert results(tmp_path) == undisturbed
    assert len(undisturbed) == N_JOBS
    every = [*cli.runs(tmp_path, "silvertune"), *cli.parents(tmp_path, "silvertune")]
    assert {run.info.status for run in every} <= {"FINISHED", "KILLED"}
    (sweep,) = cli.parents(tmp_path, "silvertune")
    assert sweep.info.status == "FINISHED"
