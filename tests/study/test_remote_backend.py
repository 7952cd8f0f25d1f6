"""A study whose backend is a provider's, from its yaml to the cost in its runs."""

import sys
from pathlib import Path

import pytest
import yaml
from tests import cli
from tests.backends.fake_remote import PRICE_USD, FakeJobs

import silvertune

BACKEND = {
    "_target_": "silvertune.backends.Remote",
    "service": {"_target_": "tests.backends.fake_remote.FakeJobs", "folder": "provider", "looks": 1},
    "ledger": {
        "_target_": "silvertune.backends.Ledger",
        "url": "sqlite:///ledger.sqlite",
        "budget_usd": 50.0,
        "lease_s": 60.0,
    },
    "poll_s": 0.01,
    "deadline_s": 60.0,
}
STUDY = ["dataset.path=tables.jsonl", "labeler=expert", "filter=none", "model=tfidf_logreg", "backend=mine",
         "evaluation.folds=2", "evaluation.replicates=20", "tracking.save_models=false"]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with tables and the yaml of a remote backend."""
    cli.write_tables(tmp_path, groups=4)
    (tmp_path / "conf" / "backend").mkdir(parents=True)
    (tmp_path / "conf" / "backend" / "mine.yaml").write_text(yaml.safe_dump(BACKEND))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])
    return tmp_path


def test_a_study_is_tuned_by_a_provider_and_paid_for_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    provider = FakeJobs(folder / "provider")
    silvertune.run([*STUDY, "mode=plan"])
    silvertune.run([*STUDY, "mode=check"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"tuning takes at most 2 jobs, 0 tokens, and ${2 * PRICE_USD:.2f}" in shown
    assert "the fake provider answers" in shown
    assert "ledger, $0.00 spent or set aside" in shown
    assert provider.logged() == []

    silvertune.run(STUDY)
    assert list(provider.jobs_by_label().values()) == [1, 1]
    # Neither another run of the same nor how the ledger is used tunes anything again.
    silvertune.run([*STUDY, "resume=false", "backend.poll_s=0.02", "backend.ledger.budget_usd=60"])
    assert list(provider.jobs_by_label().values()) == [1, 1]
    costs = [run.data.metrics["tuning/cost_usd"] for run in cli.runs(folder, "silvertune")]
    assert costs == [PRICE_USD, PRICE_USD]
