"""From a study to a registered model: the production run."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import cli, made
from tests.test_composition import base, hydra, usable

from silvertune import composition
from silvertune.models.saved import SETTINGS
from silvertune.study import registering
from silvertune.study.job import Job, names_of_parts

__all__ = ["base", "hydra", "usable"]  # fixtures

PRODUCTION = ("experiments=tiny", "evaluation=none", "study.only=[confident]", "seed=0")


def test_the_winning_arm_becomes_a_registered_model(copied: Path) -> None:
    done = cli.silvertune(copied, *PRODUCTION, "tracking.register=tables", "dataset.gold=null")
    assert done.returncode == 0, done.stderr
    assert "registered as models:/tables/1, now tables@champion" in done.stdout
    (study,) = [run for run in cli.parents(copied, "tiny") if run.data.tags["runs"] == "8"]
    assert f"its evidence: run {study.info.run_id}: F1 " in done.stdout
    assert "the mean of 2 tested run(s) of this arm, on other data" in done.stdout  # without gold
    assert "silvertune-predict models:/tables@champion INPUT" in done.stdout

    client = cli.client(copied)
    version = client.get_model_version_by_alias("tables", "champion")
    run = client.get_run(version.run_id)
    assert run.info.run_name == "confident/tfidf_logreg/s0"
    tags = version.tags
    assert {name: tags[name] for name in ("task", "arm", "model", "simulated", "classes", "base_model")} == {
        "task": "soe", "arm": "confident", "model": "tfidf_logreg", "simulated": "false", "classes": "other, soe",
        "base_model": "none",
    }  # fmt: skip
    assert tags["evidence"] == study.info.run_id
    assert 0.5 < float(tags["evidence.test_f1"]) <= 1
    assert tags["evidence.same_data"] == "false"
    assert re.fullmatch("[0-9a-f]{64}", tags["labels"])
    assert tags["data"] == run.data.tags["data"]
    assert "no base model" in tags["licence"]
    metrics = run.data.metrics
    assert not {name for name in metrics if name.startswith(("test", "labels/noise", "delta"))}
    assert metrics["labels/n_pool"] == 72
    kept = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"label_quality.html", "decisions.parquet", "votes.parquet", "model"} <= kept
    folder = copied / "mlruns" / "artifacts" / run.info.run_id / "artifacts" / "model"
    settings = json.loads((folder / SETTINGS).read_text())
    assert settings["columns"]["cells"] == "rows"

    # The same command computes nothing and registers nothing twice; another alias is moved.
    again = cli.silvertune(
        copied, *PRODUCTION, "tracking.register=tables", "dataset.gold=null", "tracking.alias=challenger"
    )
    assert again.returncode == 0, again.stderr
    assert "1 run(s), 1 already finished, 0 to do" in again.stdout
    assert "already registered as models:/tables/1, now tables@challenger" in again.stdout
    assert len(client.search_model_versions("name='tables'")) == 1

    wrong = cli.silvertune(
        copied, *PRODUCTION, "tracking.register=tables", "tracking.evidence=0123", "dataset.gold=null"
    )
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("silvertune: tracking.evidence=0123: no such run")


@pytest.fixture
def job(usable: dict[str, Any]) -> Job:
    config = made.changed(usable, "evaluation.split", "none")
    parts = composition.build(config)
    return Job([], config, names_of_parts(config, {"model": "tfidf", "task": "soe"}), "identity", parts)


def with_settings(job: Job, **settings: Any) -> Job:
    usual = {"register": "tables", "alias": "champion", "evidence": None}
    return replace(job, config={**job.config, "tracking": {**job.config["tracking"], **usual, **settings}})


def test_one_production_run_is_registered(job: Job) -> None:
    registering.check([with_settings(job)])
    registering.check([with_settings(job, register=None)] * 2)
    with made.refused("tracking.register=tables: one model is registered, and this sweep has 2 runs"):
        registering.check([with_settings(job)] * 2)
    with made.refused("tracking.save_models=false: there would be no model"):
        registering.check([with_settings(job, save_models=False)])
    with made.refused("tracking.evidence=12: goes with tracking.register=NAME"):
        registering.check([with_settings(job, register=None, evidence="12")])
    tested = replace(job, config=made.changed(with_settings(job).config, "evaluation.split", "kfold"))
    with made.refused("want evaluation=none"):
        registering.check([tested])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"register": "a/b"}, "tracking.register=a/b"),
        ({"register": "a@b"}, "tracking.register=a@b"),
        ({"register": " "}, "tracking.register= "),
        ({"alias": "v3"}, "tracking.alias=v3"),
        ({"alias": "latest"}, "tracking.alias=latest"),
        ({"alias": "in use"}, "tracking.alias=in use"),
    ],
)
def test_names_that_the_registry_refuses_are_refused_before(job: Job, settings: dict[str, Any], words: str) -> None:
    with made.refused(words):
        registering.check([with_settings(job, **settings)])


def test_what_nothing_can_be_tuned_from_is_refused(usable: dict[str, Any]) -> None:
    config = made.changed(usable, "evaluation.split", "none")
    with made.refused("evaluation=none, model=none: nothing to tune"):
        composition.build({**config, "model": None})
    with made.refused("evaluation.threshold=shift_corrected", "evaluation=none"):
        composition.build(made.changed(config, "evaluation.threshold", "shift_corrected"))
