"""Sweeps from the shell: a real process, a real store, a real student."""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tests import cli, stores, tiny

ARMS = ["base/none", "all/tfidf_logreg", "confident/tfidf_logreg", "expert/tfidf_logreg"]
ALL_JOBS = sorted(f"{arm}/s{seed}" for arm in ARMS for seed in (0, 1))
FIRST_SEED = sorted(f"{arm}/s0" for arm in ARMS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of a user's: made-up tables, a study, no conf of its own."""
    cli.write_tables(tmp_path)
    cli.write_study(tmp_path)
    return tmp_path


def test_a_study_logs_every_run_and_its_comparison_and_a_second_time_does_nothing(finished: Path, copied: Path) -> None:
    first = (finished / "stdout.txt").read_text()
    runs = cli.runs(finished, "tiny")
    assert sorted(cli.names(runs)) == ALL_JOBS
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = cli.parents(finished, "tiny")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"

    client = cli.client(finished)
    by_name = {run.info.run_name: run for run in runs}
    run = by_name["confident/tfidf_logreg/s0"]
    wanted = {"arm": "confident", "seed": "0", "labeler": "recorded", "filter": "confidence", "fallback": "none",
              "model": "tfidf_logreg", "backend": "local", "simulated": "false"}  # fmt: skip
    assert wanted.items() <= run.data.tags.items()
    assert run.data.params["filter.confidence.top"] == "0.5"
    for metric in ("precision", "recall", "f1", "accuracy"):
        for name in (f"test/{metric}", f"test_by_group/{metric}"):
            value, low, high = (run.data.metrics[name + end] for end in ("", "_low", "_high"))
            assert low <= value <= high, name
    labels = ("kept_fraction", "noise_before", "noise_after", "n_train")
    assert {"test/auroc", "test/auprc", *(f"labels/{name}" for name in labels)} <= run.data.metrics.keys()
    assert run.data.metrics["labels/noise_after"] < run.data.metrics["labels/noise_before"]
    gap = run.data.metrics["test/f1"] - by_name["expert/tfidf_logreg/s0"].data.metrics["test/f1"]
    assert run.data.metrics["delta/expert/f1"] == pytest.approx(gap)
    assert run.data.metrics["delta/expert/f1_low"] <= gap <= run.data.metrics["delta/expert/f1_high"]
    assert run.inputs.dataset_inputs[0].dataset.name == "tables_jsonl"
    artifacts = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "overrides.yaml", "votes.parquet", "decisions.parquet", "predictions.parquet"} <= artifacts
    figures = {entry.path for entry in client.list_artifacts(run.info.run_id, "figures")}
    drawn = ("groups", "agreement", "label_noise", "prevalence", "reliability", "risk_coverage")
    assert figures == {f"figures/{name}.png" for name in drawn}

    kept = {entry.path for entry in client.list_artifacts(parent.info.run_id)}
    assert {"comparison.csv", "comparison.html", "groups.csv", "arms.png", "groups.png", "cost.png"} <= kept
    assert run.data.metrics["arm/delta/expert/f1_p_holm"] <= 1
    table = pd.read_csv(client.download_artifacts(parent.info.run_id, "comparison.csv", str(copied)))
    assert list(table["arm"]) == ["base", "all", "confident", "expert"]
    assert (table["seeds"] == 2).all()
    order = [first.index(f" {arm.split('/')[0]} ") for arm in ARMS]
    assert order == sorted(order)

    second = cli.silvertune(copied, "experiments=tiny")
    assert second.returncode == 0
    assert "8 run(s), 8 already finished, 0 to do" in second.stdout
    assert len(cli.runs(copied, "tiny")) == 8
    assert len(cli.parents(copied, "tiny")) == 1
    assert first.replace(str(finished), str(copied)).split("\n", 1)[1] == second.stdout.split("\n", 1)[1]

    third = cli.silvertune(copied, "experiments=tiny", "study.seeds=1", "resume=false")
    assert third.returncode == 0, third.stderr
    again = [run for run in cli.runs(copied, "tiny") if "retry_of" in run.data.tags]
    assert sorted(cli.names(again)) == [name for name in ALL_JOBS if name.endswith("s0")]
    for run in again:
        original = by_name[run.info.run_name]
        assert run.data.tags["retry_of"] == original.info.run_id
        assert run.data.metrics["test/f1"] == original.data.metrics["test/f1"]


def test_a_failing_arm_is_marked_and_listed_while_the_others_finish_and_only_it_is_retried(folder: Path) -> None:
    (folder / "mine.py").write_text("def broken(labels):\n    raise RuntimeError('my filter fell over')\n")
    conf = folder / "conf" / "filter"
    conf.mkdir(parents=True)
    (conf / "broken.yaml").write_text("broken:\n  _target_: mine.broken\n")
    command = ("dataset.path=tables.jsonl", "labeler=expert", "filter=broken,none", "evaluation.replicates=50",
               "evaluation.folds=2", "tracking.save_models=false")  # fmt: skip
    failed = cli.silvertune(folder, *command)
    assert failed.returncode == 1
    assert "expert/broken/tfidf_logreg/s0: RuntimeError: my filter fell over" in failed.stderr
    by_name = {run.info.run_name: run for run in cli.runs(folder, "silvertune")}
    broken = by_name["expert/broken/tfidf_logreg/s0"]
    assert broken.info.status == "FAILED"
    assert by_name["expert/none/tfidf_logreg/s0"].info.status == "FINISHED"
    traceback = cli.client(folder).download_artifacts(broken.info.run_id, "traceback.txt", str(folder))
    assert "my filter fell over" in Path(traceback).read_text()
    votes = cli.client(folder).download_artifacts(broken.info.run_id, "votes.parquet", str(folder))
    assert set(pd.read_parquet(votes)["annotator"]) == {"expert"}  # labelled, and perhaps paid for, before it failed
    assert cli.parents(folder, "silvertune")[0].info.status == "FAILED"

    (folder / "mine.py").write_text("def broken(labels):\n    return labels['label'].notna()\n")
    mended = cli.silvertune(folder, *command)
    assert mended.returncode == 0, mended.stderr
    assert "2 run(s), 1 already finished, 1 to do" in mended.stdout


def test_on_error_stop_starts_nothing_after_the_first_failure(folder: Path) -> None:
    (folder / "mine.py").write_text("def broken(labels):\n    raise RuntimeError('my filter fell over')\n")
    (folder / "conf" / "filter").mkdir(parents=True)
    (folder / "conf" / "filter" / "broken.yaml").write_text("broken:\n  _target_: mine.broken\n")
    stopped = cli.silvertune(
        folder, "dataset.path=tables.jsonl", "labeler=expert", "filter=broken,none", "seed=0,1", "on_error=stop"
    )
    assert stopped.returncode == 1
    assert cli.names(cli.runs(folder, "silvertune")) == ["expert/broken/tfidf_logreg/s0"]
    assert "expert/broken/tfidf_logreg/s1 and 2 more: not started: on_error=stop" in stopped.stderr


@pytest.mark.parametrize("which", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_an_interrupted_sweep_leaves_nothing_running_and_goes_on_later(folder: Path, which: signal.Signals) -> None:
    _hold_the_second(folder)
    stores.write(folder)
    command = ("experiments=tiny", "study.seeds=1", "evaluation.folds=2", "evaluation.replicates=20",
               "tracking.save_models=false")  # fmt: skip
    process = cli.start(folder, *command)
    _wait_for((folder / "held").exists)
    process.send_signal(which)
    process.communicate(timeout=60)
    assert process.returncode == 130
    (folder / "go").touch()
    statuses = [run.info.status for run in cli.runs(folder, "tiny")]
    assert statuses.count("KILLED") <= 1
    assert set(statuses) <= {"FINISHED", "KILLED"}
    assert cli.parents(folder, "tiny")[0].info.status == "KILLED"

    resumed = cli.silvertune(folder, *command)
    assert resumed.returncode == 0, resumed.stderr
    finished = [run for run in cli.runs(folder, "tiny") if run.info.status == "FINISHED"]
    assert sorted(cli.names(finished)) == FIRST_SEED


@pytest.mark.soak
def test_joblib_workers_share_the_store(folder: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    two_arms = "".join(line for line in cli.STUDY.splitlines(True) if "base:" not in line and "confident" not in line)
    cli.write_study(folder, two_arms)
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = cli.silvertune(folder, "experiments=tiny", "study.seeds=1", *joblib)
    assert done.returncode == 0, done.stderr
    runs = cli.runs(folder, "tiny")
    assert sorted(cli.names(runs)) == ["all/tfidf_logreg/s0", "expert/tfidf_logreg/s0"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags["pid"] for run in runs}) == 2
    assert all("delta/expert/f1" in run.data.metrics for run in runs if run.data.tags["arm"] != "expert")


def test_a_study_over_two_students_does_what_has_none_once(folder: Path) -> None:
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "strict.yaml").write_text("defaults: [tfidf_logreg, _self_]\nC: 0.1\n")
    cli.write_study(folder, "".join(line for line in cli.STUDY.splitlines(True) if "confident" not in line))
    done = cli.silvertune(folder, "experiments=tiny", "study.seeds=1", "evaluation.folds=2",
                          "model=tfidf_logreg,strict", "tracking.save_models=false")  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = {run.info.run_name: run for run in cli.runs(folder, "tiny")}
    students = [f"{arm}/{model}/s0" for arm in ("all", "expert") for model in ("tfidf_logreg", "strict")]
    assert sorted(runs) == sorted(["base/none/s0", *students])
    gap = runs["all/strict/s0"].data.metrics["test/f1"] - runs["expert/strict/s0"].data.metrics["test/f1"]
    assert runs["all/strict/s0"].data.metrics["delta/expert/f1"] == pytest.approx(gap)


def test_a_lora_student_is_tuned_measured_and_kept(folder: Path) -> None:
    tiny.bert(folder / "encoder")
    encoder = ("encoder.path=encoder", "encoder.sha256=null", "encoder.kept_layer=1", "encoder.max_tokens=32")
    student = (
        "model=minilm_lora",
        "model.validation_fraction=0.3",
        "model.learning_rate=0.01",
        "model.precision=float32",
    )
    two_arms = "".join(
        line for line in cli.STUDY.splitlines(True) if "    all:" not in line and "confident" not in line
    )
    cli.write_study(folder, two_arms.replace("references: [expert, all]", "references: [expert]"))
    study = ("experiments=tiny", "study.seeds=1", "evaluation.folds=2", "evaluation.threshold=validation")
    done = cli.silvertune(folder, *study, *encoder, *student)
    assert done.returncode == 0, done.stderr
    runs = {run.info.run_name: run for run in cli.runs(folder, "tiny")}
    run = runs["expert/minilm_lora/s0"]
    metrics = run.data.metrics
    rules = ("half", "validation", "shift_corrected")
    assert {f"test_at_{rule}/{name}" for rule in rules for name in ("precision", "recall", "f1")} <= metrics.keys()
    assert metrics["test/f1"] == metrics["test_at_validation/f1"] > 0.6
    assert {"threshold/validation", "threshold/shift_corrected", "alarms"} <= metrics.keys()
    assert "alarms" not in runs["base/none/s0"].data.metrics

    client = cli.client(folder)
    tuning = pd.read_csv(client.download_artifacts(run.info.run_id, "tuning.csv", str(folder)))
    assert set(tuning["fold"]) == {0, 1}
    assert {"epoch", "loss", "validation_loss", "validation_auprc"} <= set(tuning.columns)
    predictions = pd.read_parquet(client.download_artifacts(run.info.run_id, "predictions.parquet", str(folder)))
    assert {f"label:{rule}" for rule in rules} <= set(predictions.columns)
    assert (predictions["label"] == predictions["label:validation"]).all()
    kept = {entry.path for entry in client.list_artifacts(run.info.run_id, "model")}
    assert kept == {"model/fold0", "model/fold1"}
    assert len(list((folder / "mlruns" / "cache").glob("states-*-layer1.f16"))) == 1  # one for all arms and folds


@pytest.mark.soak
def test_an_arm_that_a_swept_setting_does_not_touch_stands_in_each_variant_once(folder: Path) -> None:
    command = (
        "experiments=tiny",
        "study.seeds=1",
        "study.only=[base,expert]",
        "evidence.folds=3,4",
    )  # no filter reads it
    done = cli.silvertune(folder, *command)
    assert done.returncode == 0, done.stderr
    (parent,) = cli.parents(folder, "tiny")
    table = pd.read_csv(cli.client(folder).download_artifacts(parent.info.run_id, "comparison.csv", str(folder)))
    rows = [(arm, f"evidence.folds={n}", 1) for n in (3, 4) for arm in ("base", "expert")]
    assert sorted(table[["arm", "variant", "seeds"]].itertuples(index=False, name=None)) == sorted(rows)
    assert "4 already finished, 0 to do" in cli.silvertune(folder, *command).stdout


def test_captions_in_and_out_are_rows_of_their_own(folder: Path) -> None:
    done = cli.silvertune(folder, "experiments=tiny", "study.seeds=1", "dataset.captions=true,false")
    assert done.returncode == 0, done.stderr
    runs = cli.runs(folder, "tiny")
    assert len(runs) == 8
    assert {run.data.tags["variant"] for run in runs} == {"dataset.captions=True", "dataset.captions=False"}


def test_a_comparison_that_can_not_be_made_fails_the_sweep(copied: Path) -> None:
    for path in (copied / "mlruns" / "artifacts").rglob("predictions.parquet"):
        path.unlink()
    again = cli.silvertune(copied, "experiments=tiny")
    assert again.returncode == 1
    assert "comparison:" in again.stderr
    assert cli.parents(copied, "tiny")[0].info.status == "FAILED"


def test_a_plan_does_nothing(tmp_path: Path) -> None:
    cli.write_tables(tmp_path)
    cli.write_study(tmp_path)
    plan = cli.silvertune(tmp_path, "experiments=tiny", "mode=plan")
    assert plan.returncode == 0, plan.stderr
    assert "8 runs: 0 finished, 8 to do" in plan.stdout
    assert all(name in plan.stdout for name in ALL_JOBS)
    assert not (tmp_path / "mlruns").exists()


def test_a_plan_knows_how_much_people_are_asked(tmp_path: Path) -> None:
    cli.write_tables(tmp_path)
    sheet = ("labeler=expert", "filter=oracle", "fallback=budgeted_answer_sheet", "fallback.budget.items=3")
    for split, most in (("kfold", 15), ("holdout", 3)):
        plan = cli.silvertune(tmp_path, "dataset.path=tables.jsonl", *sheet, f"evaluation={split}", "mode=plan")
        assert plan.returncode == 0, plan.stderr
        assert f"at most {most} calls" in plan.stdout
    assert not (tmp_path / "answers.csv").exists()


def test_the_parts_of_a_job_are_built_once(folder: Path) -> None:
    (folder / "counting.py").write_text(
        "from pathlib import Path\n"
        "from silvertune.labelers import Recorded\n"
        "def counting(task, annotations, **settings):\n"
        "    with Path('built.txt').open('a') as file:\n"
        "        file.write('built\\n')\n"
        "    return Recorded(task, annotations, **settings)\n"
    )
    done = cli.silvertune(
        folder, "-m", "dataset.path=tables.jsonl", "labeler=expert", "labeler._target_=counting.counting",
        "filter=none", "model=none", "evaluation.replicates=50", "seed=0,1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / "built.txt").read_text().split() == ["built"] * 2


def test_seeds_are_said_once(folder: Path) -> None:
    done = cli.silvertune(folder, "experiments=tiny", "study.seeds=3", "seed=4", "mode=plan")
    assert done.returncode == 1
    assert "study.seeds=3: seed=4 says which seeds already; give one of the two" in done.stderr


def test_ad_hoc_sweeps_are_named_by_their_parts_and_held_against_the_unfiltered_arm(folder: Path) -> None:
    command = (
        "-m",
        "dataset.path=tables.jsonl",
        "+dataset.annotations.machine={column:machine,confidence:sure,values:{0:other,1:soe}}",
        "labeler=recorded",
        "labeler.annotators=[machine]",
    )
    filters = "filter=none,[agreement,confidence]"
    done = cli.silvertune(folder, *command, "filter=none,random_matched", "filter.random_matched.like=confidence")
    assert done.returncode == 1
    assert "filter.random_matched.like" in done.stderr  # no such key where the filter is another: told before any run
    settings = ("evaluation.threshold=0.4,0.5", "evaluation.replicates=50", "evaluation.folds=2")
    done = cli.silvertune(folder, *command, filters, *settings, "tracking.save_models=false")
    assert done.returncode == 0, done.stderr
    by_name = {run.info.run_name: run for run in cli.runs(folder, "silvertune")}
    assert len(by_name) == 4
    run = by_name["recorded/agreement+confidence/tfidf_logreg/s0/evaluation.threshold=0.4"]
    other = by_name["recorded/none/tfidf_logreg/s0/evaluation.threshold=0.4"]
    gap = run.data.metrics["test/f1"] - other.data.metrics["test/f1"]
    assert run.data.metrics["delta/recorded/none/f1"] == pytest.approx(gap)
    assert run.data.metrics["labels/kept_fraction"] == pytest.approx(0.5, abs=0.03)
    assert re.search(r" evaluation.threshold=0.[45] seed=0 evaluation=none tracking.register=soe$", done.stdout, re.M)


@pytest.mark.soak
def test_kill_9_in_the_middle_loses_nothing_that_was_finished(folder: Path) -> None:
    _slow_down(folder)
    for wait_for in (1, 3, 5):
        process = cli.start(folder, "experiments=tiny", "study.seeds=3")
        _wait_for(lambda n=wait_for: cli.count(folder) >= n)  # type: ignore[misc]
        process.kill()
        process.communicate()
    done = cli.silvertune(folder, "experiments=tiny", "study.seeds=3")
    assert done.returncode == 0, done.stderr
    runs = cli.runs(folder, "tiny")
    finished = cli.names([run for run in runs if run.info.status == "FINISHED"])
    assert len(finished) == len(set(finished)) == 12
    assert not [run for run in runs if run.info.status == "RUNNING"]
    (parent,) = cli.parents(folder, "tiny")
    assert parent.info.status == "FINISHED"


@pytest.mark.soak
def test_kill_9_of_a_joblib_worker_ends_the_sweep_with_a_word_and_the_same_command_finishes_it(folder: Path) -> None:
    import psutil

    _slow_down(folder)
    command = ("experiments=tiny", "study.seeds=3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    process = cli.start(folder, *command)
    _wait_for(lambda: cli.count(folder, "RUNNING") >= 1 and cli.count(folder) >= 2)
    running = [run for run in cli.runs(folder, "tiny") if run.info.status == "RUNNING"]
    psutil.Process(int(running[0].data.tags["pid"])).kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "failed" in err
    assert not [run for run in cli.runs(folder, "tiny") if run.info.status == "RUNNING"]
    done = cli.silvertune(folder, *command)
    assert done.returncode == 0, done.stderr
    finished = cli.names([run for run in cli.runs(folder, "tiny") if run.info.status == "FINISHED"])
    assert len(finished) == len(set(finished)) == 12


@pytest.mark.soak
def test_kill_9_of_a_sweep_whose_workers_outlive_it_does_nothing_twice(folder: Path) -> None:
    _slow_down(folder, seconds=4)
    command = ("experiments=tiny", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    process = cli.start(folder, *command)
    _wait_for(lambda: cli.count(folder, "RUNNING") == 2)
    process.kill()
    process.wait(timeout=60)  # not communicate: the workers outlive it and hold its pipes
    done = cli.silvertune(folder, *command)
    assert done.returncode == 0, done.stderr
    time.sleep(5)  # an orphan would have finished by now
    runs = cli.runs(folder, "tiny")
    finished = cli.names([run for run in runs if run.info.status == "FINISHED"])
    assert sorted(finished) == ALL_JOBS
    assert {run.info.status for run in runs} == {"FINISHED", "KILLED"}


@pytest.mark.soak
def test_eight_filters_and_five_seeds_label_once(folder: Path) -> None:
    (folder / "counting.py").write_text(
        "from pathlib import Path\n"
        "from silvertune.encoders.encoder import Encoder\n"
        "class Counting(Encoder):\n"
        "    def _compute(self, missing, folder, database):\n"
        "        with Path('calls.txt').open('a') as file:\n"
        "            file.write(f'{len(missing)}\\n')\n"
        "        super()._compute(missing, folder, database)\n"
    )
    done = cli.silvertune(
        folder,
        "dataset.path=tables.jsonl",
        "encoder._target_=counting.Counting",
        "filter=none,agreement,confidence,top_k_per_class,random_matched,oracle,[agreement,confidence],[agreement,oracle]",
        "seed=range(5)",
        "evaluation.replicates=50",
        "evaluation.folds=3",
        "tracking.save_models=false",
    )
    runs = cli.runs(folder, "silvertune")
    assert len(runs) == 40, done.stderr
    assert len((folder / "calls.txt").read_text().splitlines()) == 1


def _slow_down(folder: Path, seconds: int = 1) -> None:
    """Every job takes some seconds longer: time enough to be killed in the middle of one."""
    (folder / "slow.py").write_text(
        "import time\n"
        "from silvertune.labelers.recorded import Recorded\n"
        "class Slow(Recorded):\n"
        "    def label(self, items):\n"
        f"        time.sleep({seconds})\n"
        "        return super().label(items)\n"
    )
    cli.write_study(folder, cli.STUDY + "labeler: {_target_: slow.Slow}\n")


def _hold_the_second(folder: Path) -> None:
    """From the second on, every job stays where it labels until there is a file `go`; `held` says that one has come."""
    (folder / "held_up.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "from silvertune.labelers.recorded import Recorded\n"
        "class HeldUp(Recorded):\n"
        "    def label(self, items):\n"
        "        if Path('first').exists():\n"
        "            Path('held').touch()\n"
        "            while not Path('go').exists():\n"
        "                time.sleep(0.05)\n"
        "        Path('first').touch()\n"
        "        return super().label(items)\n"
    )
    cli.write_study(folder, cli.STUDY + "labeler: {_target_: held_up.HeldUp}\n")


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("what was waited for did not happen")
