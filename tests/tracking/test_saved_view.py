"""The view that MLflow's UI opens with: what the UI reads of it, and the order of the runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from silvertune.tracking import saved_view, store


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[MlflowClient, str]:
    return store.prepare({"uri": None, "dir": str(tmp_path_factory.mktemp("store"))}, "study")


def view(prepared: tuple[MlflowClient, str], *references: str, metrics: Any = ()) -> dict[str, Any]:
    client, experiment = prepared
    address = saved_view.offer(client, experiment, "the sweep", references, metrics)
    assert address == f"/#/experiments/{experiment}/runs?viewStateShareKey=silvertune"
    return dict(json.loads(client.get_experiment(experiment).tags["mlflow.sharedViewState.silvertune"]))


def test_f1_and_its_interval_come_first_then_the_differences(prepared: tuple[MlflowClient, str]) -> None:
    saved = view(prepared, "expert", "crowd")
    names = [name.removeprefix("metrics.`").removesuffix("`") for name in saved["selectedColumns"]]
    assert names[:5] == ["test/f1", "test/f1_low", "test/f1_high", "delta/expert/f1", "delta/crowd/f1"]
    assert saved["columnOrder"] == saved["selectedColumns"]
    assert saved["runsExpanded"] == {"the sweep": True}
    assert (saved["orderByKey"], saved["orderByAsc"]) == ("tags.`study_order`", True)


def test_charts_of_the_arms_come_before_folded_ones_of_every_metric(prepared: tuple[MlflowClient, str]) -> None:
    saved = view(prepared, "expert", metrics=["test/f1", "labels/noise_after", "labels/kept_fraction", "wall_s"])
    shown = [chart["metricKey"] for chart in saved["compareRunCharts"]]
    assert shown == ["test/f1", "delta/expert/f1", "labels/noise_after", "labels/kept_fraction"]
    sections = saved["compareRunSections"]
    assert [(section["name"], section["display"]) for section in sections] == [
        ("arms", True), ("labels", False), ("test", False),
    ]  # fmt: skip
    assert {chart["metricSectionId"] for chart in saved["compareRunCharts"]} == {sections[0]["uuid"]}
    assert len({part["uuid"] for part in [*sections, *saved["compareRunCharts"]]}) == 7


def test_runs_are_sorted_as_the_study_names_them(prepared: tuple[MlflowClient, str], tmp_path: Path) -> None:
    client, experiment = prepared
    ids = [client.create_run(experiment, start_time=1000 + k).info.run_id for k in range(4)]
    later = client.create_run(experiment, start_time=2000).info.run_id
    saved_view.order(client, ids[3], [ids[2], ids[0], ids[1]])
    saved_view.order(client, later, [])
    found = client.search_runs([experiment], order_by=["tags.`study_order` ASC"])
    assert [run.info.run_id for run in found] == [ids[3], ids[2], ids[0], ids[1], later]
