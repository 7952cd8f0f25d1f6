"""`silvertune-jobs`: what a person sees of a ledger, and does to it."""

import sys
from pathlib import Path

import pytest
import yaml
from tests.backends.fake_remote import PRICE_USD, FakeJobs

from silvertune.backends.ledger import Ledger
from silvertune.llms import OpenAICompatible
from silvertune.llms.interface import BatchRefusedError
from silvertune.study import tuning_jobs

ROOT = Path(__file__).parents[2]
STATES = ("succeeded", "running", "sent", "unknown")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a remote backend and its ledger, which has a job in each of `STATES`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    ledger = Ledger("sqlite:///ledger.sqlite", budget_usd=None, lease_s=60)
    for state in STATES:
        entry = ledger.claim(f"{state}-key", PRICE_USD)
        ledger.mark_sent(entry)
        if state == "unknown":
            ledger.mark_unknown(entry, "no answer [red]came[/]")
        elif state != "sent":
            ledger.mark_running(entry, f"jobs/of-{state}")
    ledger.mark_ended(next(entry for entry in ledger.entries() if entry.key == "succeeded-key"), "succeeded", 1.25)
    ledger.release("sent-key")
    backend = {
        "_target_": "silvertune.backends.Remote",
        "service": {"_target_": "tests.backends.fake_remote.FakeJobs", "folder": "provider", "ends": "cancelled"},
        "ledger": {"_target_": "silvertune.backends.Ledger", "url": "sqlite:///ledger.sqlite", "budget_usd": 50.0,
                   "lease_s": 60.0},
        "poll_s": 0.01,
        "deadline_s": 20.0,
    }  # fmt: skip
    (tmp_path / "conf" / "backend").mkdir(parents=True)
    (tmp_path / "conf" / "backend" / "mine.yaml").write_text(yaml.safe_dump(backend))
    return tmp_path


def state_of(key: str) -> str:
    entry = Ledger("sqlite:///ledger.sqlite", budget_usd=None, lease_s=60.0).entry(key)
    assert entry is not None
    return entry.state


def test_a_list_says_what_each_job_cost_and_what_runs_and_bills(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning_jobs.main(["list", "sqlite:///ledger.sqlite"])
    shown = capsys.readouterr().out
    for state in STATES:
        assert f"{state}-key"[:12] in shown
    assert "jobs/of-running" in shown
    assert "no answer [red]came[/]" in shown
    assert "$1.25" in shown
    assert "4 job(s): $1.25 billed, $6.00 set aside; 1 run at the provider and bill, 2 may do so" in shown


def test_a_forgotten_job_is_submitted_anew(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuning_jobs.main(["forget", "sqlite:///ledger.sqlite", "unk", "sent-key"])
    assert "unknown-key: was unknown; the next run of its study submits it anew" in capsys.readouterr().out
    assert [state_of(key) for key in ("unknown-key", "sent-key")] == ["failed", "failed"]


def test_a_job_is_cancelled_at_the_provider_and_its_cost_is_written_down(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning_jobs.main(["cancel", "running-key", "backend=mine", "backend.deadline_s=10"])
    assert f"running-key: cancelled, ${PRICE_USD / 2:.2f} billed" in capsys.readouterr().out
    assert state_of("running-key") == "cancelled"
    assert {"did": "cancelled", "job": "jobs/of-running"} in FakeJobs(folder / "provider").logged()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "sqlite:///legder.sqlite"], "sqlite:///legder.sqlite: no such ledger"),
        (["list", "nonsense"], "nonsense: no such ledger"),
        (["list", "sqlite:///conf/backend/mine.yaml"], "file is not a database"),
        (["forget", "sqlite:///ledger.sqlite", "x"], "key=x: 0 jobs of sqlite:///ledger.sqlite have a key that begins"),
        (["forget", "sqlite:///ledger.sqlite", "s"], "key=s: 2 jobs"),
        (["cancel", "succ", "backend=mine"], "key=succeeded-key: sqlite:///ledger.sqlite has no running job"),
        (["cancel", "running", "backend=mien"], "mien"),
        (["cancel", "running", "backend=local"], "backend=local: has no jobs at a provider"),
        (["cancel", "running"], "backend: has no jobs at a provider"),
        (["cancel", "running", "labeler=zero_shot"], "labeler=zero_shot: want the one LLM that was asked by batches"),
        (["cancel", "sent", "labeler=openai", "labeler.store.url=sqlite:///ledger.sqlite"], "key=sent-key: is sent"),
        (["cancel", "x", "labeler=openai", "labeler.store.url=sqlite:///ledger.sqlite"], "key=x: 0 jobs"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_changes_nothing(folder: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as caught:
        tuning_jobs.main(arguments)
    message = str(caught.value)
    assert message.startswith("silvertune-jobs: ")
    assert words in message
    assert len(message.splitlines()) == 1
    assert not (folder / "legder.sqlite").exists()
    assert [state_of(f"{state}-key") for state in STATES] == list(STATES)


def test_a_password_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tuning_jobs.main(["list", "postgresql+pg8000://user:planted-secret@127.0.0.1:1/database"])
    assert "planted-secret" not in str(caught.value) + capsys.readouterr().out


def test_a_batch_is_cancelled_at_the_provider_of_its_llm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cancelled: list[str] = []
    monkeypatch.setattr(OpenAICompatible, "cancel_batch", lambda llm, batch: cancelled.append(batch))
    place = "labeler.store.url=sqlite:///ledger.sqlite"
    tuning_jobs.main(
        ["cancel", "running-key", "labeler=openai", place, "labeler.few_shot={annotator: a, per_class: 2}"]
    )
    assert cancelled == ["jobs/of-running"]
    assert "running-key: its provider ends it" in capsys.readouterr().out
    # What it has answered is still to be taken, by the study.
    assert state_of("running-key") == "running"


def test_a_batch_that_its_provider_does_not_end_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(llm: object, batch: str) -> None:
        raise BatchRefusedError("409: it has ended")

    monkeypatch.setattr(OpenAICompatible, "cancel_batch", refuse)
    with pytest.raises(SystemExit, match="batch jobs/of-running can't be cancelled") as caught:
        tuning_jobs.main(["cancel", "running", "labeler=openai", "labeler.store.url=sqlite:///ledger.sqlite"])
    assert "409: it has ended" in str(caught.value)
