"""The study of the paper's table, tuned and asked by doubles of Vertex AI, from its command line to the table."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import cli
from tests.backends import vertex_double
from tests.backends.vertex_double import Double

import silvertune
from silvertune.backends.ledger import Ledger
from silvertune.errors import UserError

SMALL = ["dataset=synthetic_protocols", "dataset.protocols=4", "encoder.max_tokens=16", "study.seeds=1",
         "evaluation=holdout", "evaluation.replicates=20", "evidence.folds=2", "model.views=[text]"]  # fmt: skip
USD = 1.5
"""For a million tokens; see `vertex_double.overrides`."""


@pytest.fixture
def double(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    monkeypatch.chdir(tmp_path)
    with vertex_double.running(tmp_path / "google", monkeypatch) as double:
        yield double


def check_paid_once(folder: Path, double: Double) -> None:
    """By the server's own log: no label and no content has two jobs, and none is billed twice."""
    assert set(double.jobs_by_label().values()) == {1}
    assert set(double.jobs_by_files().values()) == {1}
    billed = [entry["job"] for entry in double.did("billed")]
    assert sorted(billed) == sorted(double.jobs)
    assert len(set(billed)) == len(billed)
    ledger = Ledger(f"sqlite:///{folder / 'mlruns' / 'ledger.sqlite'}", budget_usd=None, lease_s=60)
    assert ledger.committed_usd() == pytest.approx(double.billed_tokens() * USD / 1e6)
    assert {entry.state for entry in ledger.entries()} == {"succeeded"}


def test_the_papers_study_end_to_end(
    tmp_path: Path, bucket: str, double: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    silvertune.run(["experiments=soe_table3", *SMALL, *vertex_double.overrides(double, bucket)])
    shown = capsys.readouterr().out
    runs = {run.info.run_name.partition(" ")[0]: run for run in cli.runs(tmp_path, "soe_table3")}
    assert len(runs) == 10
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for arm in ("base", "all", "filtered", "iterated", "hybrid_simulated", "expert"):
        assert arm in shown
    check_paid_once(tmp_path, double)
    assert set(double.asked.values()) == {1}
    tuned = {name: run for name, run in runs.items() if not name.startswith("base")}
    for run in tuned.values():
        metrics, tags = run.data.metrics, run.data.tags
        assert metrics["tuning/cost_usd"] == pytest.approx(metrics["tuning/billed_tokens"] * USD / 1e6)
        assert metrics["tuning/predictions"] > 0
        assert metrics["tuning/predictions_usd"] > 0
        assert metrics["tuning/dropped_examples"] == 0
        assert tags["tuned_on.base_model"] == "gemini-3.5-flash-lite"
        assert tags["tuned_on.probabilities"] == "0 or 1, by the answered word"
        assert "AUPRC, Brier, ECE and chosen thresholds say little more" in tags["alarms"]
    expert = next(run for name, run in runs.items() if name.startswith("expert"))
    assert expert.data.metrics["test/f1"] > 0.5  # it has learned what it was sent
    secret = (tmp_path / "google" / "key.json").read_text()[100:160]
    for file in (tmp_path / "mlruns").rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()


TWO_FOLDS = ["dataset=tables_jsonl", "dataset.path=tables.jsonl", "labeler=expert", "filter=none",
             "evaluation=kfold", "evaluation.folds=2", "evaluation.replicates=20", "model.views=[text]",
             "tracking.save_models=false"]  # fmt: skip


@pytest.fixture
def command(tmp_path: Path, bucket: str, double: Double) -> list[str]:
    cli.write_tables(tmp_path, groups=4)
    return [*TWO_FOLDS, *vertex_double.overrides(double, bucket)]


def test_plan_and_check_pay_for_nothing_and_a_run_no_more_than_planned(
    tmp_path: Path, double: Double, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    silvertune.run([*command, "mode=plan"])
    plan = " ".join(capsys.readouterr().out.split())
    silvertune.run([*command, "mode=check"])
    check = " ".join(capsys.readouterr().out.split())
    assert double.log == []
    assert "what tuning would cost, at most" in plan
    assert "tuning gemini-3.5-flash-lite: $1.5 for a million tokens in each of 3 epoch(s), read on 2026-11-29" in plan
    assert "asking the tuned models is not in it" in plan
    planned = float(plan.partition("tuning takes at most 2 jobs, ")[2].partition("$")[2].partition(",")[0])
    assert "gemini-3.5-flash-lite can be tuned" in check
    assert "quota: 1000 tuning job(s) at a time" in check

    silvertune.run(command)
    (run,) = cli.runs(tmp_path, "silvertune")
    assert 0 < run.data.metrics["tuning/cost_usd"] <= planned + 0.005
    # Neither a look at how it is asked, nor a price, nor the ledger's settings tune anything again.
    silvertune.run([*command, "resume=false", "model.llm.price.input=0.4", "model.budget_usd=5",
                    "backend.service.usd_per_million_tokens=2", "backend.ledger.budget_usd=50"])  # fmt: skip
    check_paid_once(tmp_path, double)
    assert len(double.jobs) == 2
    assert set(double.asked.values()) == {1}
    votes = [*command, "model.probabilities=votes", "model.repeats=3"]
    silvertune.run(votes)
    assert len(double.jobs) == 2
    tables = [run.data.tags["tuned_on.probabilities"] for run in cli.runs(tmp_path, "silvertune")]
    assert tables[-1] == "shares of 3 answers"


# Bad input: one line each, before anything is paid.
PLANTED = "AIzaSyPlanted-4f9a8b7c6d5e4f3a2b1c"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["model.base_model=gemini-2.5-flash", "model.llm.thinking_level=null"],
         "model.base_model=gemini-2.5-flash: its provider has ended it on 2026-10-20; want gemini-3.5-flash-lite"),
        (["model.base_model=gemini-9-ultra"], "Vertex AI does not tune it"),
        (["model=tfidf_logreg"], "backend=vertex can't tune model TfidfLogreg"),
        (["backend=local"], "backend=local can't tune model GeminiTuned"),
        ([f"backend.service.project={PLANTED}"], "backend.service.project: want the id of a Google Cloud project"),
        ([f"model.llm.api_key_env={PLANTED}"], "model.llm.api_key_env: want the NAME of an environment variable"),
        (["backend.service.location=global"], "backend.service.location: want one region"),
        (["backend.service.location=europe-west4"], "the bucket is in us-central1, and the jobs run in europe-west4"),
        (["backend.service.storage=gs://no-such-bucket-anywhere"], "there is no bucket no-such-bucket-anywhere"),
        (["backend.service.limits.tokens_per_example=100"], "backend.service.limits.tokens_per_example=100"),
        (["model.views=[picture]"], "'picture' has no prompt"),
        (["backend.ledger.budget_usd=0.0001"], "backend.ledger.budget_usd=0.0001: $0.00 of it is spent"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_before_anything_is_paid(
    changed: list[str], words: str, tmp_path: Path, double: Double, command: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    groups = {text.partition("=")[0] for text in changed}
    if changed[0] == "model=tfidf_logreg" or changed[0] == "backend=local":
        gone = f"{changed[0].partition('=')[0]}."
        command = [text for text in command if not text.startswith(gone)]
    kept = [text for text in command if text.partition("=")[0] not in groups]
    with pytest.raises(UserError) as caught:
        silvertune.run([*kept, *changed])
    told = f"{caught.value} {capsys.readouterr().err}"
    assert words in " ".join(told.split())
    assert PLANTED not in told
    assert double.did("made") == []
    for file in (tmp_path / "mlruns").rglob("*"):
        assert not file.is_file() or PLANTED.encode() not in file.read_bytes()


def test_without_credentials_it_is_one_line(
    double: Double, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
    without = [text for text in command if not text.startswith("backend.service.base_url=")]
    with pytest.raises(UserError, match="no Google credentials on this machine"):
        silvertune.run([*without, "backend.service.base_url=null"])
    assert double.did("made") == []


def test_a_quota_of_0_is_told_by_check_and_by_the_first_submission(
    double: Double, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    double.quota = 0
    with pytest.raises(UserError):
        silvertune.run([*command, "mode=check"])
    assert "quota: 0 tuning job(s) at a time" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match="the quota is used up"):
        silvertune.run(command)
    assert double.did("made") == []


# ------------------------------------------------------------------------------ killed, and many at the same time

THREE_ARMS = """# @package _global_
defaults:
  - override /evaluation: kfold
study:
  arms:
    all: [labeler=recorded, 'labeler.annotators=[machine]', filter=none]
    confident: [labeler=recorded, 'labeler.annotators=[machine]', filter=confidence]
    expert: [labeler=expert, filter=none]
  references: [expert]
  seeds: 1
evaluation: {folds: 5, replicates: 20}
dataset:
  path: tables.jsonl
  annotations:
    machine: {column: machine, confidence: sure, values: {0: other, 1: soe}}
tracking: {save_models: false}
"""


@pytest.fixture
def study(tmp_path: Path, bucket: str, double: Double) -> list[str]:
    """The command of a study of 3 arms and 5 folds."""
    cli.write_tables(tmp_path, groups=8, per_group=6)
    cli.write_study(tmp_path, THREE_ARMS)
    double.looks = 5
    return ["experiments=tiny", "model.views=[text]", *vertex_double.overrides(double, bucket)]


def finish(folder: Path, double: Double, command: list[str]) -> None:
    """Run the command until it ends well; a job in doubt that the provider has not is forgotten, as by a person."""
    for _ in range(20):
        done = cli.silvertune(folder, *command)
        if done.returncode == 0:
            break
        ledger = Ledger(f"sqlite:///{folder / 'mlruns' / 'ledger.sqlite'}", budget_usd=None, lease_s=60)
        doubtful = [entry for entry in ledger.entries() if entry.state == "unknown"]
        assert doubtful, done.stderr
        for entry in doubtful:
            assert entry.label not in double.jobs_by_label()
            ledger.forget(entry.key)
    else:
        raise AssertionError(done.stderr)


def check_every_arm_has_its_result(folder: Path, double: Double) -> None:
    check_paid_once(folder, double)
    assert len(double.jobs) == 15
    runs = [run for run in cli.runs(folder, "tiny") if run.info.status == "FINISHED"]
    assert {run.data.tags["arm"] for run in runs} == {"all", "confident", "expert"}
    for run in runs:
        billed = run.data.metrics["tuning/billed_tokens"] * USD / 1e6
        assert run.data.metrics["tuning/cost_usd"] == pytest.approx(billed)
        assert run.data.metrics["test/n"] == 48


@pytest.mark.soak
def test_kill_9_at_random_moments_of_a_study(tmp_path: Path, double: Double, study: list[str]) -> None:
    drawn = random.Random(14)
    for _ in range(8):
        process = cli.start(tmp_path, *study)
        # From before the first job to the last run: what was done by earlier ones is not done again.
        until = time.monotonic() + drawn.uniform(4, 25)
        while time.monotonic() < until and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(tmp_path, double, study)
    check_every_arm_has_its_result(tmp_path, double)
