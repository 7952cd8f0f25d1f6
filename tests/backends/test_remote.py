"""Jobs of a provider that is paid: each is submitted once, whatever is killed, lost or refused on the way."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests import made
from tests.backends.fake_remote import PRICE_USD, FakeJobs
from tests.backends.test_contract import training_sets

from silvertune.backends.ledger import BudgetError, Ledger
from silvertune.backends.remote import Remote
from silvertune.interfaces import Tuned


def backend(folder: Path, *, budget_usd: float | None = None, **jobs: object) -> Remote:
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", budget_usd=budget_usd, lease_s=60)
    return Remote(FakeJobs(folder / "provider", **jobs), ledger, poll_s=0.01, deadline_s=10)  # type: ignore[arg-type]


def tune(folder: Path, number: int = 3, **settings: object) -> list[Tuned]:
    return list(backend(folder, **settings).tune(made.STUDENT, training_sets(number)))  # type: ignore[arg-type]


def paid(folder: Path) -> tuple[list[int], float]:
    """How many jobs each label has, and what they cost, by the provider's own log."""
    provider = FakeJobs(folder / "provider")
    return list(provider.jobs_by_label().values()), provider.billed_usd()


def test_each_set_is_submitted_once_and_a_second_run_pays_nothing(tmp_path: Path) -> None:
    first = tune(tmp_path)
    assert [tuned.cost_usd for tuned in first] == [PRICE_USD / 2] * 3
    assert all(tuned.job.startswith("jobs/") for tuned in first)
    second = tune(tmp_path)
    assert [tuned.job for tuned in second] == [tuned.job for tuned in first]
    assert paid(tmp_path) == ([1, 1, 1], 3 * PRICE_USD / 2)


def test_all_sets_are_submitted_before_the_first_is_waited_for(tmp_path: Path) -> None:
    tune(tmp_path)
    did = [entry["did"] for entry in FakeJobs(tmp_path / "provider").logged()]
    assert did[:6] == ["staged", "made"] * 3
    assert "made" not in did[6:]


@pytest.mark.parametrize("fault", ["lost after", "503 after", "unavailable once"])
def test_a_lost_answer_is_looked_up_and_nothing_is_sent_again(tmp_path: Path, fault: str) -> None:
    assert len(tune(tmp_path, fault=fault)) == 3
    assert paid(tmp_path) == ([1, 1, 1], 3 * PRICE_USD / 2)


def test_a_request_that_perhaps_never_arrived_is_not_sent_again_until_somebody_says_so(tmp_path: Path) -> None:
    with made.refused("backend: it is unknown whether a tuning job was made", "the answer is lost", "forget key"):
        tune(tmp_path, 1, fault="lost before")
    with made.refused("backend: it is unknown", "not sent again by itself"):
        tune(tmp_path, 1)
    assert paid(tmp_path) == ([], 0.0)
    (entry,) = backend(tmp_path).ledger.entries()
    backend(tmp_path).ledger.forget(entry.key)
    assert len(tune(tmp_path, 1)) == 1
    assert paid(tmp_path) == ([1], PRICE_USD / 2)
    with made.refused("key=none", "has no job with that key"):
        backend(tmp_path).ledger.forget("none")


def test_a_refused_job_is_told_and_tried_anew_by_the_next_command(tmp_path: Path) -> None:
    with made.refused("backend: the provider refused the tuning job: quota is 0"):
        tune(tmp_path, fault="refused")
    assert len(tune(tmp_path)) == 3
    assert paid(tmp_path)[0] == [1, 1, 1]


@pytest.mark.parametrize("ends", ["failed", "cancelled"])
def test_a_job_that_ends_without_a_result_is_told_with_its_cost_and_submitted_anew(
    tmp_path: Path, ends: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with made.refused(f"{ends} (as told)", f"cost ${PRICE_USD / 2:.2f}"):
        tune(tmp_path, ends=ends)
    assert "2 tuning job(s) run on and bill" in capsys.readouterr().err
    tuned = tune(tmp_path)
    assert tuned[0].cost_usd == PRICE_USD  # both attempts
    assert sorted(paid(tmp_path)[0]) == [1, 1, 1, 1]


@pytest.mark.parametrize("state", ["JOB_STATE_PAUSED", "JOB_STATE_PARTIALLY_SUCCEEDED", "a name of next year"])
def test_a_state_that_does_not_end_by_itself_is_decided_by_people(tmp_path: Path, state: str) -> None:
    with made.refused("neither goes on nor ends", state, "decide at the provider"):
        tune(tmp_path, ends=state)
    assert len(tune(tmp_path)) == 3  # the same jobs, once somebody has decided
    assert paid(tmp_path)[0] == [1, 1, 1]


def test_a_job_that_never_ends_is_told_after_the_deadline(tmp_path: Path) -> None:
    slow = backend(tmp_path, looks=10**9)
    slow.deadline_s = 0.2
    with made.refused("backend.deadline_s=0.2", "runs on and bills"):
        list(slow.tune(made.STUDENT, training_sets(1)))
    assert len(tune(tmp_path, 1, looks=0)) == 1
    assert paid(tmp_path)[0] == [1]


def test_a_budget_stops_before_the_job_that_would_pass_it(tmp_path: Path) -> None:
    budget_usd = 1.5 * PRICE_USD  # two jobs cost half of what is set aside for them
    with pytest.raises(BudgetError) as caught:
        tune(tmp_path, budget_usd=budget_usd)
    assert f"backend.ledger.budget_usd={budget_usd:g}: ${PRICE_USD:.2f} of it is spent or set aside" in str(
        caught.value
    )
    assert paid(tmp_path) == ([1, 1], PRICE_USD)
    assert len(tune(tmp_path, 2, budget_usd=budget_usd)) == 2  # what was paid for is used
    assert len(tune(tmp_path, 3, budget_usd=2 * PRICE_USD)) == 3
    assert paid(tmp_path) == ([1, 1, 1], 3 * PRICE_USD / 2)


def test_a_run_that_fits_into_the_budget_waits_for_room_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(tune(tmp_path, 5, budget_usd=3 * PRICE_USD)) == 5
    assert paid(tmp_path) == ([1] * 5, 5 * PRICE_USD / 2)
    assert "may cost $2.00; waiting for jobs to end that cost less than was set aside" in capsys.readouterr().err


def test_jobs_of_another_run_that_have_ended_make_room(tmp_path: Path) -> None:
    for_others = backend(tmp_path, budget_usd=2 * PRICE_USD, looks=10**9).tune(made.STUDENT, training_sets(4)[2:])
    with ThreadPoolExecutor(1) as thread:  # it submits two jobs, and is stopped before they have ended
        waiting = thread.submit(next, for_others)
        while len(FakeJobs(tmp_path / "provider").jobs_by_label()) < 2:
            time.sleep(0.01)
        with pytest.raises(BudgetError):
            tune(tmp_path, 1, budget_usd=2 * PRICE_USD, looks=10**9)
        assert len(tune(tmp_path, 1, budget_usd=2 * PRICE_USD, looks=0)) == 1
        waiting.result(30)


def test_many_at_once_submit_each_job_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: tune(tmp_path, 4), range(8)))
    assert {len(result) for result in results} == {4}
    assert len({tuple(tuned.job for tuned in result) for result in results}) == 1
    assert paid(tmp_path)[0] == [1, 1, 1, 1]


def test_a_ledgers_password_is_in_no_message() -> None:
    ledger = Ledger("postgresql+pg8000://user:planted-secret@host/database", budget_usd=None, lease_s=60)
    assert "planted-secret" not in ledger.address
    assert "host/database" in ledger.address
