"""Finished runs come back from MLflow with what a comparison needs."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from silvertune.errors import UserError
from silvertune.evaluation import comparison
from silvertune.tracking import finished, store

ITEMS = ["a", "b", "c", "d"]
TAGS = {"arm": "mine", "model": "m", "variant": "", "seed": "3", "simulated": "false", "data": "d", "labeler": "llm",
        "fallback": "none"}  # fmt: skip


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.chdir(tmp_path)
    return store.prepare({"uri": None, "dir": str(tmp_path / "mlruns")}, "x")[0]


def logged(
    client: MlflowClient,
    folder: Path,
    tags: Mapping[str, str] = {},
    *,
    positive: str = "cat",
    params: Mapping[str, str] = {},
) -> str:
    """A run with predictions, one of them null, and votes of two stages."""
    experiment = client.get_experiment_by_name("x")
    assert experiment is not None
    run: str = client.create_run(experiment.experiment_id, tags={**TAGS, **tags}).info.run_id
    client.log_param(run, "task.classes", '["cat", "dog"]')
    client.log_param(run, "task.positive", positive)
    for key, value in params.items():
        client.log_param(run, key, value)
    said = pd.Series(["cat", None, "cat", "dog"], dtype=object)
    tables = {
        "predictions": pd.DataFrame({"item_id": ITEMS, "label": said, "gold": "cat", "group_id": "g", "fold": 0}),
        "votes": pd.DataFrame({"item_id": ["a", "b", "a"], "stage": ["labeler", "labeler", "fallback"]}),
    }
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
        client.log_artifact(run, str(folder / f"{name}.parquet"))
    return run


def test_a_run_comes_back_as_it_was_logged(client: MlflowClient, tmp_path: Path) -> None:
    run = logged(client, tmp_path)
    found = finished.read(client, client.get_run(run))
    assert (found.run_id, found.arm, found.model, found.seed, found.simulated) == (run, "mine", "m", 3, False)
    assert found.predictions.index.to_list() == ITEMS
    assert found.predictions["label"].isna().to_list() == [False, True, False, False]
    assert list(found.predictions.columns) == ["label", "gold", "group_id", "fold"]
    assert found.votes is None


def test_a_labeler_that_is_the_arm_comes_with_its_votes(client: MlflowClient, tmp_path: Path) -> None:
    votes = finished.read(client, client.get_run(logged(client, tmp_path, {"model": "none"}))).votes
    assert votes is not None
    assert votes["item_id"].to_list() == ["a", "b"]


def test_the_classes_are_the_positive_one_or_all(client: MlflowClient, tmp_path: Path) -> None:
    one, both = (client.get_run(logged(client, tmp_path, positive=name)) for name in ("cat", "null"))
    assert finished.classes(one) == ["cat"]
    assert finished.classes(both) == ["cat", "dog"]
    assert finished.read(client, one).task != finished.read(client, both).task


LLM = {"labeler.llm.openai._target_": "silvertune.llms.OpenAICompatible"}


@pytest.mark.parametrize(
    "key",
    [
        "dataset.captions",
        "dataset.views.text",
        "dataset.gold.column",
        "dataset.annotations.machine.column",
        "model.mode",
        "filter.mine.store",
        "filter.mine.limits.lower",
        "model.seed",
        "labeler.path",
        "evaluation.folds",
        "evidence.replicates",
        "labeler.llm.openai.model",
        "labeler.study",
    ],
)
def test_a_setting_that_decides_makes_runs_of_one_arm_incomparable(
    client: MlflowClient, tmp_path: Path, key: str
) -> None:
    one, other = (
        finished.read(client, client.get_run(logged(client, tmp_path, {"seed": seed}, params=LLM | {key: value})))
        for seed, value in (("0", "7"), ("1", "8"))  # a part's seed that is not the run's decides, too
    )
    with pytest.raises(UserError) as refused:
        comparison.compare([one, other], [], replicates=20)
    assert f"differ in more: {key}=7 and 8" in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        "seed",
        "dataset.path",
        "dataset.files.train",
        "evaluation.replicates",
        "tracking.dir",
        "mode",
        "resume",
        "labeler.llm.openai.base_url",
        "labeler.llm.openai.limits.requests_per_minute",
    ],
)
def test_where_the_data_are_and_how_an_llm_is_asked_may_differ_between_seeds(
    client: MlflowClient, tmp_path: Path, key: str
) -> None:
    one, other = (
        finished.read(client, client.get_run(logged(client, tmp_path, {"seed": seed}, params=LLM | {key: seed})))
        for seed in ("0", "1")
    )
    assert one.settings == other.settings


def test_artifacts_are_found_where_the_store_is_now(client: MlflowClient, tmp_path: Path) -> None:
    run = logged(client, tmp_path)
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(elsewhere)
    moved = store.client({"uri": None, "dir": str(elsewhere / "mlruns")})
    assert finished.read(moved, moved.get_run(run)).predictions.index.to_list() == ITEMS
