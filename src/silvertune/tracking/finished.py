"""Finished runs, read back from MLflow for comparison."""

import json
import tempfile
from typing import TYPE_CHECKING

import pandas as pd

from silvertune import identity
from silvertune.evaluation.comparison import FinishedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def read(client: "MlflowClient", run: "Run") -> FinishedRun:
    """The run with its logged predictions; with its votes too where the labeler itself is the arm."""
    tags, run_id = run.data.tags, run.info.run_id
    return FinishedRun(
        run_id=run_id,
        arm=tags["arm"],
        model=tags["model"],
        variant=tags.get("variant", ""),
        seed=int(tags["seed"]),
        simulated=tags["simulated"] == "true",
        data=tags["data"],
        predictions=_parquet(client, run_id, "predictions").set_index("item_id"),
        metrics=run.data.metrics,
        task=f"{run.data.params['task.classes']}, positive: {run.data.params['task.positive']}",
        votes=_labelers_votes(client, run_id) if tags["model"] == "none" else None,
        settings=_settings(run),
    )


def _settings(run: "Run") -> dict[str, str]:
    """What decides its predictions, by configuration key, but the seed and the data (which the tag `data` tells)."""
    params = run.data.params
    ignored = [*identity.NOT_IN_IDENTITY, "dataset", "seed", "evaluation.replicates"]
    for key, target in params.items():
        if key.endswith("._target_"):
            part = key.removesuffix("_target_")
            ignored += [part + name for name in identity.parameters_not_in_identity(target)]
    return {
        key: value for key, value in params.items() if not any(f"{key}.".startswith(f"{name}.") for name in ignored)
    }


def classes(run: "Run") -> list[str]:
    """The classes that its precision, recall and F1 are about: the positive one, or all."""
    positive = run.data.params["task.positive"]
    return [positive] if positive != "null" else [str(name) for name in json.loads(run.data.params["task.classes"])]


def _labelers_votes(client: "MlflowClient", run_id: str) -> pd.DataFrame:
    votes = _parquet(client, run_id, "votes")
    return votes[votes["stage"] == "labeler"]


def _parquet(client: "MlflowClient", run_id: str, name: str) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as made:
        return pd.read_parquet(client.download_artifacts(run_id, f"{name}.parquet", made))
