"""`silvertune.run`: what the command line does, as a function, wherever it is called from."""

import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase
from mlflow.exceptions import MlflowException
from omegaconf import OmegaConf
from tests import cli

import silvertune
from silvertune import UserError
from silvertune.tracking import database, runs, store

COUNTING = """from silvertune.labelers.recorded import Recorded
class Counting(Recorded):
    def label(self, items):
        with open('computed.txt', 'a') as file:
            file.write('x')
        return super().label(items)
"""
LABELER = "labeler._target_=counting_{}.Counting"
ARM = ("dataset.path=tables.jsonl", "labeler=expert", "filter=none", "model=none", "evaluation.replicates=20",
       "evaluation.folds=2")  # fmt: skip


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without experiments; MLflow takes seconds to make one."""
    made = tmp_path_factory.mktemp("empty") / "mlruns"
    made.mkdir()
    database.make(made / "mlflow.db", None, print)
    return made


@pytest.fixture
def folder(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder as working directory, with tables and a labeler that counts how often it is asked."""
    shutil.copytree(empty_store, tmp_path / "mlruns")
    cli.write_tables(tmp_path, groups=4)
    (tmp_path / f"counting_{abs(hash(tmp_path))}.py").write_text(COUNTING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def arm(folder: Path) -> list[str]:
    return [*ARM, LABELER.format(abs(hash(folder)))]


def times_computed(folder: Path) -> int:
    return len((folder / "computed.txt").read_text())


def test_it_gives_back_the_runs_and_does_nothing_a_second_time(folder: Path) -> None:
    first = silvertune.run([*arm(folder), "seed=0,1"])
    assert first.experiment == "silvertune"
    assert first.failures == ()
    assert {run.info.run_id for run in cli.runs(folder, "silvertune")} == set(first.run_ids.values())
    assert list(first.run_ids) == ["expert/none/none/s0", "expert/none/none/s1"]
    assert cli.parents(folder, "silvertune")[0].info.run_id == first.parent_run_id
    assert silvertune.run([*arm(folder), "seed=0,1"]) == first
    assert times_computed(folder) == 2
    plan = silvertune.run([*arm(folder), "mode=plan"])
    assert (plan.parent_run_id, plan.run_ids) == (None, {})


def test_of_runs_on_different_data_none_is_the_best(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (folder / "tables.jsonl").read_text().splitlines(keepends=True)
    (folder / "fewer.jsonl").write_text("".join(lines[:-1]))
    silvertune.run([*arm(folder), "dataset.path=tables.jsonl,fewer.jsonl"])
    assert "no arm is called the best: the runs are measured on different gold labels" in capsys.readouterr().out
    assert "best_arm" not in cli.parents(folder, "silvertune")[0].data.tags
    silvertune.run([*arm(folder), "seed=0,1"])
    assert "the best arm, expert/none: " in capsys.readouterr().out


def test_it_works_in_a_thread_inside_another_application_of_hydras(folder: Path) -> None:
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(silvertune.run(arm(folder)))
        except BaseException as error:
            outcome.append(error)

    (folder / "theirs").mkdir()
    (folder / "theirs" / "main.yaml").write_text("a: 1\n")
    with hydra.initialize_config_dir(str(folder / "theirs"), version_base="1.1"):
        HydraConfig.instance().cfg = theirs = OmegaConf.create({"hydra": {"job": {"name": "theirs"}}})
        try:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
            assert isinstance(outcome[0], silvertune.SweepResult), outcome
            assert HydraConfig.instance().cfg is theirs
            assert str(VersionBase.instance().getbase()) == "1.1"
            assert GlobalHydra.instance().is_initialized()
            assert hydra.compose("main").a == 1
        finally:
            HydraConfig.instance().cfg = None


def test_what_is_wrong_is_an_exception_of_one_line_and_never_an_exit(folder: Path) -> None:
    for wrong, words in (
        (["labeler=expret"], "expret"),
        (["dataset.path=tabels.jsonl"], "No such file"),
        (["dataset.path=a(1).jsonl"], "quote it"),
        (["sede=1"], "sede"),
    ):
        with pytest.raises(UserError) as caught:
            silvertune.run([*ARM, *wrong])
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_one_text_in_place_of_a_list_is_told() -> None:
    with pytest.raises(UserError, match=r"^overrides='filter=none': want a list of them: \['filter=none'\]$"):
        silvertune.run("filter=none")


def test_a_run_that_fails_is_an_exception_with_the_result_of_the_others(folder: Path) -> None:
    module = folder / f"counting_{abs(hash(folder))}.py"
    module.write_text(COUNTING.replace("with open", "raise RuntimeError('fell over')\n        with open"))
    with pytest.raises(silvertune.SweepError) as caught:
        silvertune.run(arm(folder))
    (failure,) = caught.value.result.failures
    assert failure.name == "expert/none/none/s0"
    assert "fell over" in failure.error
    assert caught.value.result.run_ids == {}


EDITING = COUNTING.replace(
    "        return super()",
    """        with open('tables.jsonl', 'a') as file:
            file.write('\\n')
        return super()""",
)


def test_data_edited_while_a_sweep_runs_are_not_those_that_it_has_read(folder: Path) -> None:
    (folder / f"counting_{abs(hash(folder))}.py").write_text(EDITING)
    silvertune.run([*arm(folder), "seed=0,1"])
    silvertune.run([*arm(folder), "seed=1"])  # on the data as they are now
    assert times_computed(folder) == 3


def test_an_interrupt_passes_and_leaves_nothing_running(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("silvertune.runner.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        silvertune.run(arm(folder))
    (run,), (parent,) = cli.runs(folder, "silvertune"), cli.parents(folder, "silvertune")
    assert run.info.status == parent.info.status == "KILLED"


# -------------------------------------------------------------------------------------------- a store that fails


def test_a_result_that_could_not_be_logged_is_logged_by_the_next_try_and_not_computed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise MlflowException("API request to http://mlflow failed with exception: no route")

    with monkeypatch.context() as patched:
        patched.setattr("mlflow.MlflowClient.log_artifacts", refuse)
        with pytest.raises(silvertune.SweepError) as caught:
            silvertune.run(arm(folder))
    (failure,) = (failure for failure in caught.value.result.failures if failure.name == "expert/none/none/s0")
    assert "could not be logged" in failure.error
    assert f"the result is kept in {folder / 'mlruns' / 'unlogged'}" in failure.error
    result = silvertune.run(arm(folder))
    assert times_computed(folder) == 1
    (run_id,) = result.run_ids.values()
    run = cli.client(folder).get_run(run_id)
    assert run.data.metrics["test/f1"] == 1.0
    assert run.data.tags["computed_by"] == cli.runs(folder, "silvertune")[0].info.run_id
    assert list((folder / "mlruns" / "unlogged").iterdir()) == []


def test_resume_false_computes_anew_what_could_not_be_logged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(runs, "log_kept", lambda *arguments: (_ for _ in ()).throw(MlflowException("gone")))
        with pytest.raises(silvertune.SweepError):
            silvertune.run(arm(folder))
    silvertune.run([*arm(folder), "resume=false"])
    assert times_computed(folder) == 2


def test_a_server_that_dies_in_the_middle_of_a_sweep_costs_no_computation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a server: from the first failure on, nothing answers, and no further run is started."""
    dead = threading.Event()
    labels = [*arm(folder), "seed=0,1,2"]

    def check_answers(address: str) -> None:
        if dead.is_set():
            raise UserError(f"tracking.uri={address}: no answer, is the server running? (refused)")

    def die(*arguments: object) -> None:
        dead.set()
        raise MlflowException("refused")

    with monkeypatch.context() as patched:
        patched.setattr(store, "check_answers", check_answers)
        patched.setattr("mlflow.MlflowClient.log_artifacts", die)
        with pytest.raises(UserError) as caught:
            silvertune.run(labels)
    assert "no answer" in str(caught.value)
    assert f"1 result(s) in {folder / 'mlruns' / 'unlogged'}" in str(caught.value)
    assert times_computed(folder) == 1
    assert len(silvertune.run(labels).run_ids) == 3
    assert times_computed(folder) == 3
    assert {run.info.status for run in cli.parents(folder, "silvertune")} == {"FINISHED"}


def test_a_sweep_that_was_deleted_in_mlflow_is_made_anew_with_its_runs(folder: Path) -> None:
    first = silvertune.run(arm(folder))
    assert first.parent_run_id is not None
    cli.client(folder).delete_run(first.parent_run_id)
    second = silvertune.run(arm(folder))
    assert second.parent_run_id != first.parent_run_id
    assert second.run_ids == first.run_ids
    assert {run.data.tags["mlflow.parentRunId"] for run in cli.runs(folder, "silvertune")} == {second.parent_run_id}
    assert times_computed(folder) == 1


def test_a_sweep_that_is_deleted_while_it_works_starts_no_further_run_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Callable[..., None] = runs.log_kept

    def deleting(client: Any, run_id: str, kept: Path) -> None:
        original(client, run_id, kept)
        client.delete_run(client.get_run(run_id).data.tags["mlflow.parentRunId"])

    with monkeypatch.context() as patched:
        patched.setattr(runs, "log_kept", deleting)
        with pytest.raises(UserError) as caught:
            silvertune.run([*arm(folder), "seed=0,1"])
    assert "\n" not in str(caught.value)
    assert times_computed(folder) == 1
    assert len(silvertune.run([*arm(folder), "seed=0,1"]).run_ids) == 2
    assert times_computed(folder) == 2


def test_a_moved_project_goes_on_where_it_is_now(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = silvertune.run(arm(folder))
    moved = folder.with_name(f"{folder.name} moved")
    shutil.copytree(folder, moved)
    before = sorted((folder / "mlruns" / "artifacts").rglob("*"))
    monkeypatch.chdir(moved)
    second = silvertune.run([*arm(folder), "seed=0,1"])
    assert second.run_ids["expert/none/none/s0"] == first.run_ids["expert/none/none/s0"]
    assert sorted((folder / "mlruns" / "artifacts").rglob("*")) == before
    for run in cli.runs(moved, "silvertune"):
        assert run.info.artifact_uri == (moved / "mlruns" / "artifacts" / run.info.run_id / "artifacts").as_uri()


# --------------------------------------------------------------------------------------------------------- Hydra's


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("hydra.job.chdir=true", "hydra.job.chdir=true"),
        ("hydra.mode=RUN", "hydra.mode=RUN"),
        ("hydra/sweeper=basic", "hydra/sweeper=basic"),
    ],
)
def test_settings_of_hydras_that_silvertune_can_not_have_are_one_line(folder: Path, setting: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        silvertune.run([*arm(folder), setting])
    assert str(caught.value).startswith(words) or words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert cli.runs(folder, "silvertune") == []


def test_the_environments_store_and_experiment_are_used_and_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(folder / "mlruns", folder / "theirs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/theirs/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from the shell")
    monkeypatch.setenv("MLFLOW_RUN_ID", "somebody else's")
    result = silvertune.run(arm(folder))
    assert (result.tracking_uri, result.experiment) == (f"sqlite:///{folder}/theirs/mlflow.db", "from the shell")
    told = capsys.readouterr().err
    assert "from MLFLOW_TRACKING_URI in the environment" in told
    assert "from MLFLOW_EXPERIMENT_NAME in the environment" in told
    assert not (folder / "mlruns" / "mlflow.db").exists()
    assert "MLFLOW_RUN_ID" not in os.environ
    explicit = silvertune.run(
        [*arm(folder), "tracking.experiment=mine", f"tracking.uri=sqlite:///{folder}/theirs/mlflow.db"]
    )
    assert (explicit.tracking_uri, explicit.experiment) == (result.tracking_uri, "mine")
    assert "environment" not in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- the package


def test_importing_silvertune_is_light_and_every_public_name_is_there() -> None:
    code = "import sys, silvertune; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"hydra", "pandas", "numpy", "mlflow", "omegaconf"} & set(done.stdout.split())
    for name in silvertune.__all__:
        assert getattr(silvertune, name) is not None
    assert set(silvertune.__all__) <= set(dir(silvertune))
    with pytest.raises(AttributeError, match="nothing"):
        _ = silvertune.nothing
    assert (Path(silvertune.__file__).parent / "py.typed").is_file()


def test_the_version_is_told_at_once() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-X", "importtime", "-m", "silvertune", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor: what else runs on the machine does not count. 0.05 s on a machine of 2024.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert done.stdout == f"{silvertune.__version__}\n"
    assert "hydra" not in {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
