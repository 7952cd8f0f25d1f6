"""The ledger: each change is about one attempt, and all processes together stay below the budget."""

import math
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests import made

from silvertune.backends import ledger as ledger_module
from silvertune.backends.ledger import BudgetError, Entry, Ledger

Open = Callable[..., Ledger]
fork = multiprocessing.get_context("fork")


@pytest.fixture
def opened(database_url: str) -> Open:
    """Opens the same new ledger, as often as asked."""
    return lambda budget_usd=None, lease_s=60.0: Ledger(database_url, budget_usd=budget_usd, lease_s=lease_s)


def running(ledger: Ledger, key: str, usd: float = 2.0) -> Entry:
    entry = ledger.claim(key, usd)
    assert entry.is_mine
    assert ledger.mark_sent(entry)
    ledger.mark_running(entry, f"job of {entry.label}")
    return entry


def end_lease(ledger: Ledger, key: str) -> None:
    """Let the time pass after which a claim is void."""
    with ledger._writing() as connection:
        jobs = ledger_module._jobs
        connection.execute(sa.update(jobs).where(jobs.c.key == key).values(lease_ends=time.time() - 3600))


def in_a_process(work: Callable[[], object]) -> int:
    """Do `work` in a process of its own; how that ended."""
    process = fork.Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def test_a_job_goes_through_its_states(opened: Open) -> None:
    ledger = opened(budget_usd=10.0)
    entry = running(ledger, "k", 4.0)
    assert (entry.attempt, entry.label) == (0, "k-0")
    assert not opened().claim("k", 4.0).is_mine
    ledger.mark_ended(entry, "succeeded", 1.5, "done")
    ledger.mark_ended(entry, "failed", 1.5)  # another process, a moment later
    (seen,) = opened().entries()
    assert (seen.state, seen.job, seen.billed_usd, seen.reserved_usd) == ("succeeded", "job of k-0", 1.5, 0.0)
    assert ledger.committed_usd() == 1.5


def test_a_claim_is_waited_for_until_its_lease_ends(opened: Open) -> None:
    slow, other = opened(), opened()
    entry = slow.claim("k", 2.0)
    assert not other.claim("k", 2.0).is_mine
    end_lease(slow, "k")
    taken = other.claim("k", 3.0)
    assert (taken.is_mine, taken.attempt, taken.reserved_usd) == (True, 0, 3.0)
    assert not slow.mark_sent(entry)
    assert other.mark_sent(taken)


def test_a_claim_is_not_the_same_objects_twice(opened: Open) -> None:
    ledger = opened()  # two threads may share one
    assert ledger.claim("k", 2.0).is_mine
    assert not ledger.claim("k", 2.0).is_mine


def test_a_claim_that_is_given_back_is_taken_at_once(opened: Open) -> None:
    ledger = opened()
    assert ledger.claim("k", 2.0).is_mine
    ledger.release("k")
    assert opened().claim("k", 2.0).is_mine
    ledger.release("k")  # no longer its own
    assert not opened().claim("k", 2.0).is_mine


@pytest.mark.parametrize("sent", [False, True])
def test_what_a_process_that_is_gone_has_claimed_is_taken_at_once(opened: Open, sent: bool) -> None:
    def claims() -> None:
        ledger = opened()
        entry = ledger.claim("k", 2.0)
        assert not sent or ledger.mark_sent(entry)
        os._exit(9)

    ledger = opened(budget_usd=2.0)
    assert in_a_process(claims) == 9
    if sent:  # it may have reached the provider: what was set aside stays set aside
        with pytest.raises(BudgetError):
            ledger.claim("other", 2.0)
    else:
        other = ledger.claim("other", 2.0)
        assert other.is_mine
        ledger.release("other")
    taken = ledger.claim("k", 2.0)
    assert (taken.is_mine, taken.state) == (True, "sent" if sent else "claimed")


def test_a_slow_process_can_not_send_what_its_void_claim_set_aside(opened: Open) -> None:
    slow, other = opened(budget_usd=3.0), opened(budget_usd=3.0)
    entry = slow.claim("a", 2.0)
    with pytest.raises(BudgetError):
        other.claim("b", 2.0)
    end_lease(slow, "a")
    assert other.claim("b", 2.0).is_mine
    assert not slow.mark_sent(entry)
    with pytest.raises(BudgetError):
        slow.claim("a", 2.0)


def test_a_failed_attempt_gives_its_reservation_back_and_keeps_its_bill(opened: Open) -> None:
    ledger = opened(budget_usd=3.0)
    ledger.mark_ended(running(ledger, "k", 2.0), "failed", 1.0, "out of memory")
    assert ledger.committed_usd() == 1.0
    assert not ledger.claim("k", 2.0, new_attempt=False).is_mine
    second = running(ledger, "k", 2.0)
    assert (second.attempt, second.label, second.billed_usd) == (1, "k-1", 1.0)
    assert ledger.committed_usd() == 3.0
    ledger.mark_ended(second, "cancelled", 1.0)
    with made.refused("backend.ledger.budget_usd=3", "$2.00 of it is spent or set aside", "may cost $2.00"):
        ledger.claim("k", 2.0)


def test_what_is_said_of_an_earlier_attempt_changes_nothing(opened: Open) -> None:
    ledger = opened()
    first = running(ledger, "k")
    ledger.mark_ended(first, "failed", 1.0)
    running(ledger, "k")
    ledger.mark_ended(first, "failed", 1.0)  # by a process that looked before the first had ended
    ledger.mark_unknown(first, "no answer")
    assert not ledger.mark_sent(first)
    (seen,) = ledger.entries()
    assert (seen.attempt, seen.state, seen.billed_usd, seen.reserved_usd) == (1, "running", 1.0, 2.0)


def test_an_answer_that_comes_after_all_counts(opened: Open) -> None:
    ledger = opened()
    entry = ledger.claim("k", 2.0)
    ledger.mark_sent(entry)
    ledger.mark_unknown(entry, "no answer")
    ledger.mark_running(entry, "the job")
    ledger.mark_unknown(entry, "no answer")  # by another that looked for it meanwhile
    assert [(seen.state, seen.job, seen.message) for seen in ledger.entries()] == [("running", "the job", "")]


def test_an_answer_that_comes_after_it_was_forgotten_is_not_lost(opened: Open) -> None:
    ledger = opened()
    entry = ledger.claim("k", 2.0)
    ledger.mark_sent(entry)
    ledger.mark_unknown(entry, "no answer")
    assert ledger.forget("k").state == "unknown"
    assert ledger.committed_usd() == 0.0
    ledger.mark_running(entry, "the job")
    assert ledger.committed_usd() == 2.0
    ledger.forget("k")
    running(ledger, "k")
    with made.refused("backend: tuning job the job runs and bills", "has forgotten it: cancel it at the provider"):
        ledger.mark_running(entry, "the job")
    assert [seen.job for seen in ledger.entries()] == ["job of k-1"]


def test_what_may_be_forgotten(opened: Open) -> None:
    ledger = opened()
    ledger.mark_ended(running(ledger, "done"), "succeeded", 1.0)
    assert ledger.forget("done").state == "succeeded"  # its result is gone
    for key in ("none", "done"):
        with made.refused(f"key={key}: ", "has no job with that key that runs or has succeeded"):
            ledger.forget(key)
    claimed = ledger.claim("k", 2.0)
    for send in (False, True):
        assert not send or ledger.mark_sent(claimed)
        with made.refused("key=k: process", f"{os.getpid()}", "is submitting that job now"):
            ledger.forget("k")
    ledger.release("k")
    assert ledger.forget("k").state == "sent"
    again = running(ledger, "k")
    assert again.attempt == 1
    ledger.forget("k")  # it was seen running: nobody knows what it cost
    assert ledger.committed_usd() == 1.0 + 2.0
    assert [seen.message for seen in ledger.entries() if seen.key == "k"] == ["running, then forgotten"]


@pytest.mark.parametrize("usd", [math.nan, math.inf, -1.0])
def test_an_estimate_that_is_no_number_reserves_nothing(opened: Open, usd: float) -> None:
    with made.refused(f"backend: a tuning job is estimated at {usd} dollars; want a number from 0"):
        opened(budget_usd=1.0).claim("k", usd)
    assert opened().entries() == []


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"budget_usd": budget}, "budget_usd") for budget in (math.nan, -1.0, "5", True)]
    + [({"lease_s": lease}, "lease_s") for lease in (0, -1.0, math.inf, "60")],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], key: str, tmp_path: Path) -> None:
    with made.refused(f"backend.ledger.{key}={settings[key]}: want a number"):
        Ledger(**{"url": f"sqlite:///{tmp_path}/x.sqlite", "budget_usd": None, "lease_s": 60.0, **settings})


def test_whatever_a_provider_says_is_kept_in_one_line(opened: Open) -> None:
    ledger = opened()
    ledger.mark_ended(running(ledger, "k"), "failed", 0.0, "half \ud800 a \x00\n\n character " + "x" * 2000)
    (seen,) = ledger.entries()
    assert seen.message.startswith("half ? a character xxx")
    assert len(seen.message) == 1000


def test_a_ledger_that_breaks_is_said_in_one_line(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", budget_usd=None, lease_s=60)
    running(ledger, "k")
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with made.refused(f"backend.ledger.url=sqlite:///{tmp_path}/ledger.sqlite: can't be read", "not a database"):
        ledger.claim("k", 2.0)


KEYS = [f"key{number}" for number in range(8)]


def _claims_all(opened: Open, number: int, start: Any, sent: Any) -> None:
    ledger = opened(budget_usd=2.0 * 3)
    start.wait()
    for key in KEYS[number:] + KEYS[:number]:
        try:
            entry = ledger.claim(key, 2.0)
        except BudgetError:
            continue
        if entry.is_mine and ledger.mark_sent(entry):
            ledger.mark_running(entry, f"{number}")
            sent.put(key)
    sent.put(None)


def test_eight_processes_submit_no_key_twice_and_stay_below_the_budget(opened: Open) -> None:
    start, sent = fork.Event(), fork.Queue()
    processes = [fork.Process(target=_claims_all, args=(opened, number, start, sent)) for number in range(8)]
    for process in processes:
        process.start()
    start.set()
    keys: list[str | None] = []
    while keys.count(None) < len(processes):
        keys.append(sent.get(timeout=120))
    for process in processes:
        process.join()
        assert process.exitcode == 0
    by_key = Counter(key for key in keys if key is not None)
    assert set(by_key.values()) == {1}
    assert len(by_key) == 3
    assert opened().committed_usd() == 6.0
