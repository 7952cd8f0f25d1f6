"""Tuning by Vertex AI under faults: by the double's own log, no key has two jobs and nothing is billed twice."""

import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests import made
from tests.backends import vertex_double, vertex_parts
from tests.backends.test_remote_faults import stops_at
from tests.backends.vertex_double import Double

from silvertune.backends import tuning_files
from silvertune.backends.ledger import BudgetError
from silvertune.errors import UserError
from silvertune.interfaces import PredictorTraits, TrainingSet, Tuned

ITEMS = made.items(12)


@pytest.fixture
def double(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    with vertex_double.running(tmp_path, monkeypatch) as double:
        yield double


def sets(number: int = 2) -> list[TrainingSet]:
    rows = ITEMS.assign(label=made.gold(12), weight=1.0)
    return [TrainingSet(rows.iloc[k:], rows.iloc[:k], 0, "settings") for k in range(number)]


def tune(folder: Path, double: Double, bucket: str, number: int = 2, **changed: Any) -> list[Tuned]:
    of_model = {name.removeprefix("model_"): changed.pop(name) for name in list(changed) if name.startswith("model_")}
    model = vertex_parts.model(folder, double.url, **of_model)
    return list(vertex_parts.remote(folder, double, bucket, **changed).tune(model, sets(number)))


def check_paid_once(folder: Path, double: Double, bucket: str, number: int = 2) -> None:
    """What the same command gives in the end: every set is tuned on, by one job that is billed once."""
    tuned_models = tune(folder, double, bucket, number)
    assert len(tuned_models) == number
    assert list(double.jobs_by_label().values()) == [1] * number
    assert list(double.jobs_by_files().values()) == [1] * number
    assert sorted(entry["job"] for entry in double.did("billed")) == sorted(double.jobs)
    dollars = double.billed_tokens() * vertex_parts.USD / 1e6
    assert sum(tuned.cost_usd for tuned in tuned_models) == pytest.approx(dollars)
    assert vertex_parts.remote(folder, double, bucket).ledger.committed_usd() == pytest.approx(dollars)


# ------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("faults", [["lost"], ["503"], ["", "lost"], ["503", "lost"]])
def test_an_answer_that_is_lost_after_the_job_was_made(
    faults: list[str], tmp_path: Path, double: Double, bucket: str
) -> None:
    double.faults = list(faults)
    assert len(tune(tmp_path, double, bucket)) == 2
    check_paid_once(tmp_path, double, bucket)


def test_a_request_that_perhaps_never_arrived_is_not_sent_again(tmp_path: Path, double: Double, bucket: str) -> None:
    double.faults = ["lost before"]
    for _ in range(2):
        with made.refused("it is unknown whether a tuning job was made", "forget key"):
            tune(tmp_path, double, bucket)
    assert double.did("made") == []
    ledger = vertex_parts.remote(tmp_path, double, bucket).ledger
    (entry,) = ledger.entries()
    ledger.forget(entry.key)
    check_paid_once(tmp_path, double, bucket)


def test_a_service_that_does_not_answer_while_a_job_runs_is_no_failure(
    tmp_path: Path, double: Double, bucket: str
) -> None:
    double.deaf = 3
    assert len(tune(tmp_path, double, bucket)) == 2
    check_paid_once(tmp_path, double, bucket)


def test_a_service_that_refuses_filters_is_asked_for_all_jobs(tmp_path: Path, double: Double, bucket: str) -> None:
    double.filters, double.faults = False, ["lost"]
    check_paid_once(tmp_path, double, bucket)


@pytest.mark.parametrize("state", ["JOB_STATE_PAUSED", "JOB_STATE_PARTIALLY_SUCCEEDED", "JOB_STATE_UNSPECIFIED", 99])
def test_a_state_that_does_not_end_by_itself_is_for_people(
    state: str | int, tmp_path: Path, double: Double, bucket: str
) -> None:
    double.ends = state
    with made.refused("neither goes on nor ends", "decide at the provider"):
        tune(tmp_path, double, bucket, 1)
    double.ends = "JOB_STATE_SUCCEEDED"
    for name in double.jobs:  # somebody has decided
        double._end(double.jobs[name])
    check_paid_once(tmp_path, double, bucket, 1)


@pytest.mark.parametrize(
    ("state", "words"),
    [("JOB_STATE_FAILED", "failed"), ("JOB_STATE_EXPIRED", "failed"), ("JOB_STATE_CANCELLED", "cancelled")],
)
def test_a_job_that_fails_is_told_and_submitted_anew(
    state: str, words: str, tmp_path: Path, double: Double, bucket: str
) -> None:
    double.ends = state
    with made.refused(words, "as the test says", "the same command submits it anew"):
        tune(tmp_path, double, bucket, 1)
    double.ends = "JOB_STATE_SUCCEEDED"
    assert len(tune(tmp_path, double, bucket, 1)) == 1
    assert len(double.jobs_by_label()) == 2  # another attempt has another label


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((grpc.StatusCode.PERMISSION_DENIED, "aiplatform.tuningJobs.create"), "check the roles Vertex AI User"),
        ((grpc.StatusCode.INVALID_ARGUMENT, "base model x"), "Google refused it (400 base model x)"),
        ((grpc.StatusCode.NOT_FOUND, "no project"), "Google refused it (404 no project)"),
    ],
)
def test_a_refusal_is_one_line_and_sets_nothing_aside(
    refusal: Any, words: str, tmp_path: Path, double: Double, bucket: str
) -> None:
    double.refusal = refusal
    with made.refused("backend.service: ", words):
        tune(tmp_path, double, bucket)
    assert vertex_parts.remote(tmp_path, double, bucket).ledger.committed_usd() == 0
    double.refusal = None
    check_paid_once(tmp_path, double, bucket)


@pytest.mark.parametrize("quota", [1, 2])
def test_more_jobs_than_the_quota_wait_for_their_turn(quota: int, tmp_path: Path, double: Double, bucket: str) -> None:
    double.quota = quota
    assert len(tune(tmp_path, double, bucket, 4)) == 4
    check_paid_once(tmp_path, double, bucket, 4)


def test_a_quota_of_0_is_one_line(tmp_path: Path, double: Double, bucket: str) -> None:
    double.quota = 0
    with made.refused("backend.service: the quota is used up", "Quota exceeded"):
        tune(tmp_path, double, bucket)
    assert vertex_parts.remote(tmp_path, double, bucket).ledger.committed_usd() == 0
    double.quota = 1
    check_paid_once(tmp_path, double, bucket)


def test_two_jobs_with_one_label_are_told(tmp_path: Path, double: Double, bucket: str) -> None:
    tune(tmp_path, double, bucket, 1)
    (job,) = double.jobs.values()
    double.jobs[f"{job.name}0"] = type(job)(job, name=f"{job.name}0")
    with made.refused("two tuning jobs have the label"):
        vertex_parts.service(double, bucket).find(job.labels["silvertune-key"])


fork = multiprocessing.get_context("forkserver")


@pytest.fixture
def ready() -> None:
    """Processes are forked from one that has imported Google's libraries already, unless another test has begun."""
    fork.set_forkserver_preload(["tests.backends.test_vertex"])


def environment() -> dict[str, str]:
    """What a process needs to find the doubles."""
    names = ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "NO_GCE_CHECK")
    return {name: os.environ[name] for name in names}


def _dies(folder: Path, addresses: tuple[str, str], bucket: str, environment: dict[str, str], step: int) -> None:
    os.environ.update(environment)
    double = Double()
    double.address, double.url = addresses
    remote = stops_at(vertex_parts.remote(folder, double, bucket), step, lambda: os._exit(9))
    list(remote.tune(vertex_parts.model(folder, double.url), sets(1)))


def killed_at(step: int, folder: Path, double: Double, bucket: str) -> int | None:
    """The exit code of a process that is killed at a step, or not where there are fewer steps."""
    folder.mkdir(exist_ok=True)
    process = fork.Process(target=_dies, args=(folder, (double.address, double.url), bucket, environment(), step))
    process.start()
    process.join(300)
    return process.exitcode


@pytest.mark.soak
def test_kill_9_between_any_two_steps(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, ready: None
) -> None:
    for step in itertools.count():
        folder = tmp_path / str(step)
        with vertex_double.running(folder, monkeypatch) as double:
            code = killed_at(step, folder, double, bucket)
            ledger = vertex_parts.remote(folder, double, bucket).ledger
            if not double.did("made") and [entry.state for entry in ledger.entries()] == ["sent"]:
                with made.refused("it is unknown whether"):  # a person looks, and forgets it
                    tune(folder, double, bucket, 1)
                ledger.forget(ledger.entries()[0].key)
            check_paid_once(folder, double, bucket, 1)
        if code == 0:
            break
        assert code == 9
    assert step > 20


def _tunes_all(folder: Path, addresses: tuple[str, str], bucket: str, settings: dict[str, str], dies_at: int) -> None:
    os.environ.update(settings)
    double = Double()
    double.address, double.url = addresses
    model = vertex_parts.model(folder, double.url)
    for _ in range(20):  # it stops for a job in doubt
        with suppress(UserError):
            remote = stops_at(vertex_parts.remote(folder, double, bucket), dies_at, lambda: os._exit(9))
            for tuned in remote.tune(model, sets(6)):
                tuned.predictor.predict_proba(ITEMS)
            return
        time.sleep(0.1)


@pytest.mark.soak
def test_eight_processes_tune_on_the_same_sets_and_some_are_killed(
    tmp_path: Path, double: Double, bucket: str, ready: None
) -> None:
    double.looks, double.faults = 3, ["", "lost", "", "503", "lost"]
    arguments = (tmp_path, (double.address, double.url), bucket, environment())
    processes = [
        fork.Process(target=_tunes_all, args=(*arguments, dies_at)) for dies_at in (-1, -1, -1, 2, 7, 9, 14, 23)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        if process.exitcode is None:
            process.kill()
    ledger = vertex_parts.remote(tmp_path, double, bucket).ledger
    for entry in ledger.entries():  # killed after `sent` and before the request: a person looks, and forgets it
        if entry.state in ("sent", "unknown") and entry.label not in double.jobs_by_label():
            ledger.forget(entry.key)
    check_paid_once(tmp_path, double, bucket, 6)
    assert set(double.asked.values()) <= {1}


@pytest.mark.parametrize("step", [9, 10])
def test_a_process_that_is_killed_around_the_submission(step: int, tmp_path: Path, double: Double, bucket: str) -> None:
    assert killed_at(step, tmp_path, double, bucket) == 9
    check_paid_once(tmp_path, double, bucket, 1)


# ------------------------------------------------------------------------------------------------------- budget


def test_a_budget_stops_before_the_job_that_would_pass_it_and_keeps_what_was_paid(
    tmp_path: Path, double: Double, bucket: str
) -> None:
    model = vertex_parts.model(tmp_path, double.url)
    each = [vertex_parts.service(double, bucket).estimate(model, [one]).dollars for one in sets(3)]
    billed_share = 1 / vertex_double.BYTES_PER_TOKEN
    budget = each[0] + billed_share * each[0]  # room for the first job, and for no second one even when it has ended
    with pytest.raises(BudgetError, match=r"backend\.ledger\.budget_usd"):
        tune(tmp_path, double, bucket, 3, budget_usd=budget)
    assert len(double.jobs) == 2  # the first cost a third of what was set aside
    assert double.billed_tokens() * vertex_parts.USD / 1e6 <= budget
    assert len(tune(tmp_path, double, bucket, 2, budget_usd=budget)) == 2  # what was paid for is used
    assert len(double.jobs) == 2
    check_paid_once(tmp_path, double, bucket, 3)


def test_a_set_that_can_not_be_sent_is_told_before_the_first_is_paid_for(
    tmp_path: Path, double: Double, bucket: str
) -> None:
    bad = sets(1)[0].train.assign(weight=[0.5, 1.0] * 6)
    remote = vertex_parts.remote(tmp_path, double, bucket)
    with made.refused("model.weights=refuse"):
        list(remote.tune(vertex_parts.model(tmp_path, double.url), [*sets(2), TrainingSet(bad, bad[:0], 0, "s")]))
    assert double.did("made") == []
    assert remote.ledger.entries() == []


# -------------------------------------------------------------------------------------- damaged examples, figures


def test_dropped_and_cut_examples_are_an_error_or_an_alarm(tmp_path: Path, double: Double, bucket: str) -> None:
    double.drops, double.cuts = 2, 3
    with made.refused("dropped 2 example(s) (too long) and cut 3 example(s) (numbers 1, 2, 3)", "it is paid for"):
        tune(tmp_path, double, bucket, 1)
    (tuned,) = tune(tmp_path, double, bucket, 1, damaged_examples="alarm")
    assert "dropped 2 example(s)" in PredictorTraits.of(tuned.predictor).alarms[0]
    assert PredictorTraits.of(tuned.predictor).figures["truncated_examples"] == 3
    assert len(double.jobs) == 1


def test_what_the_job_tells_is_in_the_figures(tmp_path: Path, double: Double, bucket: str) -> None:
    (tuned,) = tune(tmp_path, double, bucket, 1)
    figures = PredictorTraits.of(tuned.predictor).figures
    assert figures["billed_tokens"] == double.billed_tokens()
    assert figures["examples"] == 24
    assert figures["steps"] == 7
    job = next(iter(double.jobs.values()))
    assert job.supervised_tuning_spec.hyper_parameters.epoch_count == 3
    assert job.supervised_tuning_spec.export_last_checkpoint_only
    assert tuned.job == job.name


def test_the_validation_items_are_a_file_of_their_own(tmp_path: Path, double: Double, bucket: str) -> None:
    tune(tmp_path, double, bucket, 2)
    files = [job.supervised_tuning_spec.validation_dataset_uri for job in double.jobs.values()]
    assert files[0] == ""
    assert files[1].endswith("/validation.jsonl")


def test_what_is_sent_is_in_the_key_and_how_it_is_asked_is_not(tmp_path: Path, double: Double, bucket: str) -> None:
    tune(tmp_path, double, bucket, 1)
    tune(tmp_path, double, bucket, 1, model_probabilities="votes", model_repeats=2)
    assert len(double.jobs) == 1
    tune(tmp_path, double, bucket, 1, model_epochs=2)
    tune(tmp_path, double, bucket, 1, model_max_item_tokens=50)  # the same texts: they are shorter than that
    assert len(double.jobs) == 2


def test_a_job_is_cancelled_and_what_it_cost_is_written_down(tmp_path: Path, double: Double, bucket: str) -> None:
    double.looks = 10**9
    remote = vertex_parts.remote(tmp_path, double, bucket)
    remote.deadline_s = 0.1
    with made.refused("backend.deadline_s=0.1", "it runs on and bills"):
        list(remote.tune(vertex_parts.model(tmp_path, double.url), sets(1)))
    remote.deadline_s = 30
    entry = remote.cancel(remote.ledger.entries()[0].key)
    assert entry.state == "cancelled"
    assert len(double.did("cancelled")) == 1


# ------------------------------------------------------------------------------------------------ limits of files

GOOD = b'{"contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}]}\n'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "is no JSON"),
        (b"[]", "want contents"),
        (b'{"contents": [{"role": "user", "parts": [{"text": "q"}]}]}', "want contents with a question and an answer"),
        (GOOD.replace(b'"model"', b'"assistant"'), "want roles user and model in turn"),
        (GOOD.replace(b'"user"', b'"model"'), "want roles user and model in turn"),
        (GOOD.replace(b'"a"', b'""'), "want a text in each part"),
    ],
)
def test_a_line_that_google_would_refuse_is_told_before(line: bytes, words: str) -> None:
    limits = tuning_files.TuningLimits(1000, 10, 5, 1, "2026-11-28")
    limits.check("the training file", [GOOD], most="examples", bytes_per_token=1)
    with made.refused("the training file, line 2: ", words):
        limits.check("the training file", [GOOD, line], most="examples", bytes_per_token=1)


@pytest.mark.parametrize(
    ("changed", "most", "words"),
    [
        ({"examples": 1}, "examples", "limits.examples=1 (read on 2026-11-28): the file has 2 examples"),
        ({"validation_examples": 1}, "validation_examples", "lower model.validation_fraction"),
        ({"tokens_per_example": 50}, "examples", "line 1 may have 104 (backend.service.bytes_per_token=1)"),
        ({"file_mb": 0.0001}, "examples", "limits.file_mb=0.0001"),
    ],
)
def test_what_is_beyond_a_limit_is_refused(changed: dict[str, Any], most: str, words: str) -> None:
    usual = {"tokens_per_example": 1000, "examples": 10, "validation_examples": 5, "file_mb": 1, "as_of": "2026-11-28"}
    with made.refused(words):
        tuning_files.TuningLimits(**(usual | changed)).check("the file", [GOOD, GOOD], most=most, bytes_per_token=1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"usd_per_million_tokens": -1}, "backend.service.usd_per_million_tokens=-1"),
        ({"price_as_of": "soon"}, "backend.service.price_as_of=soon: want a day"),
        ({"bytes_per_token": 0.5}, "backend.service.bytes_per_token=0.5"),
        ({"damaged_examples": "fine"}, "backend.service.damaged_examples=fine: want error or alarm"),
        ({"timeout_s": 0}, "backend.service.timeout_s=0"),
        ({"storage": "s3://bucket"}, "backend.service.storage=s3://bucket: want gs://bucket"),
        ({"limits": {"examples": 0}}, "backend.service.limits.examples=0"),
    ],
)  # fmt: skip
def test_a_setting_that_can_not_be_is_refused(changed: dict[str, Any], words: str) -> None:
    with made.refused(words):
        vertex_parts.service(Double(), "gs://bucket", **changed)
