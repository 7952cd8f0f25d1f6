"""Tracking store, answer store and ledger on one PostgreSQL database, as a study on several machines has them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml
from mlflow import MlflowClient
from tests import cli
from tests.backends.fake_remote import PRICE_USD, FakeJobs
from tests.llms.openai_double import Double, serving
from tests.study.test_remote_backend import BACKEND

import silvertune

N = 4 * 8 * 2
"""Questions: items x views."""
SECRET = "planted-secret"


@pytest.fixture
def double() -> Iterator[Double]:
    with serving(Double()) as running:
        running.says = lambda text: "YES" if "Procedure" in text else "NO"
        yield running


@pytest.mark.postgres
def test_a_study_keeps_its_runs_answers_and_tuning_jobs_in_one_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, double: Double, postgres_url: str
) -> None:
    cli.write_tables(tmp_path, groups=4)
    (tmp_path / "conf" / "backend").mkdir(parents=True)
    (tmp_path / "conf" / "backend" / "mine.yaml").write_text(yaml.safe_dump(BACKEND))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])
    name = "labeler.llm.openai_compatible"
    llm = ["labeler=openai_compatible", f"{name}.base_url={double.url}", f"{name}.model=double-1",
           f"{name}.price.input=1", f"{name}.price.output=2"]  # fmt: skip
    # The server takes any password.
    with_password = sa.make_url(postgres_url).set(password=SECRET).render_as_string(hide_password=False)
    shared = [f"{key}={with_password}" for key in ("tracking.uri", "labeler.store.url", "backend.ledger.url")]
    study = ["dataset.path=tables.jsonl", *llm, "filter=none,agreement", "model=tfidf_logreg", "backend=mine", *shared,
             "evaluation.folds=2", "evaluation.replicates=20", "tracking.save_models=false"]  # fmt: skip

    first = silvertune.run(study)
    assert len(first.run_ids) == 2
    client = MlflowClient(postgres_url)
    runs = [client.get_run(run_id) for run_id in first.run_ids.values()]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all("test/f1" in run.data.metrics for run in runs)
    assert double.received == N
    provider = FakeJobs(tmp_path / "provider")
    n_jobs = len(provider.jobs_by_label())
    assert sum(run.data.metrics["tuning/cost_usd"] for run in runs) == n_jobs * PRICE_USD
    # The database is no folder: what belongs to a run stands where all jobs find it.
    assert len(list((tmp_path / "mlruns" / "artifacts").rglob("predictions.parquet"))) == 2
    assert not list(tmp_path.rglob("*.sqlite"))
    for run in [*runs, client.get_run(runs[0].data.tags["mlflow.parentRunId"])]:
        assert SECRET not in repr((run.data.params, run.data.tags))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert any(b"silvertune:***@" in path.read_bytes() for path in files if path.name == "config.yaml")
    assert not list(tmp_path.rglob("*.db"))

    again = silvertune.run([*study, "resume=false"])
    assert set(again.run_ids.values()).isdisjoint(first.run_ids.values())
    assert double.received == N
    assert set(provider.jobs_by_label().values()) == {1}
    assert len(provider.jobs_by_label()) == n_jobs
