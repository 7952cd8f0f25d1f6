"""Processes that are killed or interrupted between any two steps, providers that misbehave, readers that stop."""

import itertools
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests import made
from tests.backends.fake_remote import PRICE_USD, FakeJobs

from silvertune.backends.ledger import Ledger
from silvertune.backends.remote import JobStatus, RefusedError, Remote
from silvertune.errors import UserError
from silvertune.interfaces import Predictor, TrainingSet, Tuned

TRAIN = pd.DataFrame(
    {"group_id": "g", "text": ["a", "b"], "label": ["x", "y"], "weight": 1.0},
    index=pd.Index(["i", "j"], name="item_id"),
)
fork = multiprocessing.get_context("fork")


class Constant:
    """A model that is tuned at once, and is its own predictor."""

    classes, views = ("x", "y"), ("text",)

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> Predictor:
        return self

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame()

    def save(self, path: Path) -> None:
        pass


MODEL = Constant()


def sets(number: int = 2) -> list[TrainingSet]:
    return [TrainingSet(TRAIN, TRAIN.iloc[:0], seed, "settings") for seed in range(number)]


def backend(
    folder: Path,
    service: FakeJobs | None = None,
    *,
    budget_usd: float | None = None,
    url: str = "",
    lease_s: float = 60.0,
) -> Remote:
    ledger = Ledger(url or f"sqlite:///{folder / 'ledger.sqlite'}", budget_usd=budget_usd, lease_s=lease_s)
    return Remote(service or FakeJobs(folder, looks=1), ledger, poll_s=0.002, deadline_s=20)


def tune(folder: Path, number: int = 2, service: FakeJobs | None = None, **settings: Any) -> list[Tuned]:
    return list(backend(folder, service, **settings).tune(MODEL, sets(number)))


def made_and_billed(folder: Path) -> tuple[list[int], float]:
    """How many jobs each label has, and what they cost, by the provider's own log."""
    provider = FakeJobs(folder)
    return list(provider.jobs_by_label().values()), provider.billed_usd()


# ------------------------------------------------------------------------------------- between any two steps

STEPS = {
    "service": ("find", "stage", "submit", "status", "collect"),
    "ledger": ("claim", "mark_sent", "mark_running", "entry", "mark_ended"),
}


def stops_at(remote: Remote, step: int, stop: Callable[[], None]) -> Remote:
    """The backend, which stops before or after one of the calls that it makes, counted from 0."""
    number = itertools.count()

    def stopping(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **settings: Any) -> Any:
            if next(number) == step:
                stop()
            result = call(*arguments, **settings)
            if next(number) == step:
                stop()
            return result

        return called

    for part, names in STEPS.items():
        for name in names:
            setattr(getattr(remote, part), name, stopping(getattr(getattr(remote, part), name)))
    return remote


def finishes(folder: Path, number: int, **settings: Any) -> tuple[list[Tuned], Ledger]:
    """What the same command gives; a job in doubt that the provider has not is forgotten, as a person would do."""
    while True:
        remote = backend(folder, **settings)
        with suppress(UserError):
            return list(remote.tune(MODEL, sets(number))), remote.ledger
        in_doubt = [entry for entry in remote.ledger.entries() if entry.state == "unknown"]
        assert in_doubt  # several where several processes were killed
        for entry in in_doubt:
            assert entry.label not in FakeJobs(folder).jobs_by_label()
            remote.ledger.forget(entry.key)


def check_paid_once(folder: Path, number: int, **settings: Any) -> None:
    tuned_models, ledger = finishes(folder, number, **settings)
    assert len(tuned_models) == number
    assert made_and_billed(folder) == ([1] * number, number * PRICE_USD / 2)
    assert ledger.committed_usd() == number * PRICE_USD / 2
    assert sum(tuned.cost_usd for tuned in tuned_models) == number * PRICE_USD / 2


def test_kill_9_between_any_two_steps_pays_nothing_twice(tmp_path: Path) -> None:
    for step in itertools.count():
        folder = tmp_path / str(step)
        remote = stops_at(backend(folder), step, lambda: os._exit(9))
        process = fork.Process(target=lambda remote=remote: list(remote.tune(MODEL, sets(1))))
        process.start()
        process.join(60)
        check_paid_once(folder, 1)
        if process.exitcode == 0:
            break
        assert process.exitcode == 9
    assert step > 20


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("same_object", [False, True])
def test_an_interrupt_between_any_two_steps_pays_nothing_twice_and_says_what_runs_on(
    tmp_path: Path, same_object: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in itertools.count():
        folder = tmp_path / str(step)
        remote = stops_at(backend(folder), step, interrupted)
        try:
            list(remote.tune(MODEL, sets(1)))
        except KeyboardInterrupt:
            words = capsys.readouterr().err
            running = {entry.job for entry in remote.ledger.entries() if entry.state == "running"}
            assert all(job in words for job in running)
            assert ("run on and bill" in words) == bool(running)
            assert ("may run and bill" in words) == any(entry.state == "sent" for entry in remote.ledger.entries())
            if same_object:  # a notebook's cell, run again
                with suppress(UserError):
                    list(remote.tune(MODEL, sets(1)))
            check_paid_once(folder, 1)
        else:
            break
    assert step > 20


def _tunes_all(folder: Path, url: str, budget_usd: float, dies_at: int) -> object:
    remote = stops_at(backend(folder, url=url, budget_usd=budget_usd), dies_at, lambda: os._exit(9))
    for _ in range(20):  # it stops for the budget, and for a job in doubt
        with suppress(UserError):
            return list(remote.tune(MODEL, sets(4)))
        time.sleep(0.05)
    return None


def test_eight_processes_tune_on_the_same_sets_and_some_are_killed(tmp_path: Path, database_url: str) -> None:
    folder, budget_usd = tmp_path / "provider", 3 * PRICE_USD
    processes = [
        fork.Process(target=_tunes_all, args=(folder, database_url, budget_usd, dies_at))
        for dies_at in (-1, -1, -1, 2, 5, 9, 14, 23)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.exitcode is None:
            process.kill()
    check_paid_once(folder, 4, url=database_url, budget_usd=budget_usd)
    committed = 0.0
    for entry in FakeJobs(folder).logged():
        if entry["did"] == "made":
            committed += PRICE_USD
        elif entry["did"] == "billed":
            committed -= PRICE_USD - entry["usd"]
        assert committed <= budget_usd


# ------------------------------------------------------------------------------------- providers that misbehave


def test_the_same_content_twice_in_a_run_is_one_job_and_counted_once(tmp_path: Path) -> None:
    tuned_models = list(backend(tmp_path).tune(MODEL, [*sets(1), *sets(1)]))
    assert [tuned.cost_usd for tuned in tuned_models] == [PRICE_USD / 2, 0.0]
    assert len({tuned.job for tuned in tuned_models}) == 1
    assert made_and_billed(tmp_path) == ([1], PRICE_USD / 2)


@pytest.mark.parametrize(
    ("stop", "words"), [("close", "1 tuning job(s) run on and bill"), ("throw", "1 tuning job(s) run on and bill")]
)
def test_a_reader_that_stops_is_told_what_runs_on(
    tmp_path: Path, stop: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned_models = backend(tmp_path).tune(MODEL, sets(2))
    next(tuned_models)
    if stop == "close":
        tuned_models.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(RuntimeError):
            tuned_models.throw(RuntimeError("the evaluation fell over"))  # type: ignore[attr-defined]
    assert words in capsys.readouterr().err
    assert len(tune(tmp_path)) == 2
    assert made_and_billed(tmp_path)[0] == [1, 1]


def test_a_reader_that_has_read_all_is_told_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(tune(tmp_path)) == 2
    assert capsys.readouterr().err == ""


class StagingFails(FakeJobs):
    def stage(self, model: Any, training_set: TrainingSet, label: str) -> None:
        raise OSError("the upload broke off")


def test_what_breaks_off_while_files_are_stored_leaves_nothing_in_doubt(tmp_path: Path) -> None:
    with made.refused("backend: what the tuning job reads can't be stored (OSError: the upload broke off)"):
        tune(tmp_path, 1, StagingFails(tmp_path), budget_usd=PRICE_USD)
    remote = backend(tmp_path)
    remote.service.stage = lambda *arguments: os._exit(9)  # type: ignore[attr-defined]
    process = fork.Process(target=lambda: list(remote.tune(MODEL, sets(1))))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert [entry.state for entry in remote.ledger.entries()] == ["claimed"]
    assert len(tune(tmp_path, 1, budget_usd=PRICE_USD)) == 1
    assert made_and_billed(tmp_path) == ([1], PRICE_USD / 2)


class TwoOfALabel(FakeJobs):
    def find(self, label: str) -> str | None:
        raise UserError(f"backend: two jobs carry the label {label}: a, b")


class NoNameBack(FakeJobs):
    def submit(self, model: Any, training_set: TrainingSet, label: str) -> str:
        super().submit(model, training_set, label)
        return ""


class ListsLate(FakeJobs):
    """The answer to the submission is lost, and the job is in the list only at the fifth look."""

    looked = 0

    def submit(self, model: Any, training_set: TrainingSet, label: str) -> str:
        super().submit(model, training_set, label)
        raise ConnectionError("the answer is lost")

    def find(self, label: str) -> str | None:
        self.looked += 1
        return super().find(label) if self.looked > 5 else None


class DoesNotAnswer(FakeJobs):
    def find(self, label: str) -> str | None:
        raise ConnectionError("first line\nsecond line")


def test_two_jobs_of_one_label_are_said_as_the_provider_says_it(tmp_path: Path) -> None:
    with made.refused("backend: two jobs carry the label"):
        tune(tmp_path, 1, TwoOfALabel(tmp_path))
    assert made_and_billed(tmp_path)[0] == []
    assert len(tune(tmp_path, 1)) == 1


def test_a_job_without_a_name_is_looked_up(tmp_path: Path) -> None:
    assert len(tune(tmp_path, 1, NoNameBack(tmp_path))) == 1
    assert made_and_billed(tmp_path)[0] == [1]


def test_a_job_that_is_listed_late_is_adopted_by_the_next_command(tmp_path: Path) -> None:
    late = ListsLate(tmp_path, looks=1)
    with made.refused("backend: it is unknown"):
        tune(tmp_path, 1, late)
    assert len(tune(tmp_path, 1, late)) == 1
    assert made_and_billed(tmp_path) == ([1], PRICE_USD / 2)


def test_a_job_in_doubt_stops_a_run_before_it_pays_for_others(tmp_path: Path) -> None:
    with made.refused("backend: it is unknown"):
        tune(tmp_path, 1, FakeJobs(tmp_path, fault="lost before"))
    with made.refused("backend: it is unknown"):
        tune(tmp_path, 3)
    assert made_and_billed(tmp_path)[0] == []


def test_a_provider_that_does_not_answer_holds_no_claim(tmp_path: Path) -> None:
    with made.refused("backend: the provider does not answer (ConnectionError: first line second line)"):
        tune(tmp_path, 1, DoesNotAnswer(tmp_path))
    assert backend(tmp_path).ledger.committed_usd() == 0.0
    assert len(tune(tmp_path, 1)) == 1


class Says(FakeJobs):
    """A provider whose jobs are in a state of the test's."""

    said = JobStatus("running")

    def status(self, job: str) -> JobStatus:
        return self.said


@pytest.mark.parametrize("state", ["JOB_STATE_PAUSED", "PARTIALLY_SUCCEEDED", "", "SUCCEEDED"])
def test_a_state_that_nobody_knows_changes_nothing(tmp_path: Path, state: str) -> None:
    provider = Says(tmp_path)
    provider.said = JobStatus(state, message="two\nlines")  # type: ignore[arg-type]
    with made.refused("neither goes on nor ends (two lines): decide at the provider"):
        tune(tmp_path, 1, provider)
    assert [entry.state for entry in backend(tmp_path).ledger.entries()] == ["running"]


@pytest.mark.parametrize("cost", [None, math.nan, math.inf, -1.0])
def test_a_job_whose_cost_is_not_told_has_cost_what_was_set_aside(tmp_path: Path, cost: float | None) -> None:
    provider = Says(tmp_path)
    provider.said = JobStatus("succeeded", cost)
    assert [tuned.cost_usd for tuned in tune(tmp_path, 1, provider)] == [PRICE_USD]
    assert backend(tmp_path).ledger.committed_usd() == PRICE_USD


def test_a_job_that_costs_more_than_was_set_aside_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    provider = Says(tmp_path)
    provider.said = JobStatus("succeeded", 5.0)
    assert [tuned.cost_usd for tuned in tune(tmp_path, 1, provider)] == [5.0]
    assert "cost $5.00, more than the $2.00 set aside for it" in capsys.readouterr().err


def test_a_job_that_ends_at_the_deadline_has_ended(tmp_path: Path) -> None:
    provider = Says(tmp_path)
    provider.said = JobStatus("succeeded", 1.0)
    late = backend(tmp_path, provider)
    late.deadline_s = 0.0
    assert len(list(late.tune(MODEL, sets(1)))) == 1


class CollectFails(FakeJobs):
    def collect(self, job: str, model: Any, training_set: TrainingSet) -> Predictor:
        raise OSError(28, "No space left on device")


def test_a_result_that_can_not_be_collected_is_collected_by_the_next_command(tmp_path: Path) -> None:
    with made.refused("the result of tuning job", "can't be collected (OSError: ", "No space left", "it is paid for"):
        tune(tmp_path, 2, CollectFails(tmp_path))
    assert len(tune(tmp_path)) == 2
    assert made_and_billed(tmp_path) == ([1, 1], PRICE_USD)


class Slow(FakeJobs):
    """The provider makes the job only when the test says so, after the lease has ended."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, looks=1)
        self.may_go_on = threading.Event()

    def submit(self, model: Any, training_set: TrainingSet, label: str) -> str:
        assert self.may_go_on.wait(60)
        return super().submit(model, training_set, label)


class OldList(FakeJobs):
    """A list without the newest job, which its sender writes down while somebody looks."""

    def __init__(self, folder: Path, sender: Remote, slow: Slow) -> None:
        super().__init__(folder, looks=1)
        self.sender, self.slow = sender, slow

    def find(self, label: str) -> str | None:
        self.slow.may_go_on.set()
        wait_for(lambda: state(self.sender) != "sent")
        return None


def state(remote: Remote) -> str:
    entries = remote.ledger.entries()
    return entries[0].state if entries else ""


def wait_for(event: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not event():
        assert time.monotonic() < until
        time.sleep(0.01)


def sent_long_ago(sender: Remote, thread: ThreadPoolExecutor) -> "Future[list[Tuned]]":
    """A run that is submitting its job for longer than the lease of 0.1 s."""
    answer = thread.submit(lambda: list(sender.tune(MODEL, sets(1))))
    wait_for(lambda: state(sender) == "sent")
    time.sleep(0.15)
    return answer


def test_a_submission_that_takes_longer_than_the_lease_is_not_sent_twice(tmp_path: Path) -> None:
    slow = Slow(tmp_path)
    with ThreadPoolExecutor(1) as thread:
        answer = sent_long_ago(backend(tmp_path, slow, lease_s=0.1), thread)
        with made.refused("backend: it is unknown"):  # it looks like one that was lost
            tune(tmp_path, 1)
        slow.may_go_on.set()
        assert len(answer.result(60)) == 1
    assert len(tune(tmp_path, 1)) == 1
    assert made_and_billed(tmp_path) == ([1], PRICE_USD / 2)


def test_a_job_that_another_process_finds_meanwhile_is_not_in_doubt(tmp_path: Path) -> None:
    slow = Slow(tmp_path)
    sender = backend(tmp_path, slow, lease_s=0.1)
    with ThreadPoolExecutor(1) as thread:
        answer = sent_long_ago(sender, thread)
        assert len(tune(tmp_path, 1, OldList(tmp_path, sender, slow))) == 1
        assert len(answer.result(60)) == 1
    assert made_and_billed(tmp_path) == ([1], PRICE_USD / 2)


def test_a_run_that_waits_for_room_says_that_its_job_is_paused(tmp_path: Path) -> None:
    with made.refused("neither goes on nor ends (JOB_STATE_PAUSED): decide at the provider"):
        tune(tmp_path, 2, FakeJobs(tmp_path, looks=0, ends="JOB_STATE_PAUSED"), budget_usd=PRICE_USD)
    assert made_and_billed(tmp_path)[0] == [1]


class RefusesOnce(FakeJobs):
    def submit(self, model: Any, training_set: TrainingSet, label: str) -> str:
        raise RefusedError("two\nlines")


def test_a_refusal_gives_the_reservation_back(tmp_path: Path) -> None:
    with made.refused("backend: the provider refused the tuning job: two lines"):
        tune(tmp_path, 1, RefusesOnce(tmp_path), budget_usd=PRICE_USD)
    assert backend(tmp_path).ledger.committed_usd() == 0.0
    assert len(tune(tmp_path, 1, budget_usd=PRICE_USD)) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("poll_s", 0), ("poll_s", math.nan), ("deadline_s", -1), ("deadline_s", 0)]
)
def test_a_time_out_of_range_is_refused(tmp_path: Path, name: str, value: float) -> None:
    ledger = backend(tmp_path).ledger
    with made.refused(f"backend.{name}={value}: want a number above 0"):
        Remote(FakeJobs(tmp_path), ledger, **{"poll_s": 1.0, "deadline_s": 1.0, name: value})
