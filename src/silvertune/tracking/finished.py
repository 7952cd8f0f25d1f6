"""Finished runs, read back from MLflow for comparison."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from silvertune import identity
from silvertune.evaluation.comparison import FinishedRun
from silvertune.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MAY_DIFFER = ("seed", "evaluation.replicates", "dataset.path", "dataset.files")
"""Whole keys in which runs of one arm may differ: the seed, and where the data are (the tag `data` tells which)."""


def read(client: "MlflowClient", run: "Run") -> FinishedRun:
    """Read a finished run.

    Args:
        client: A client of the store.
        run: The run.

    Returns:
        The run with its logged predictions, and with its votes where the labeler itself is the arm.
    """
    tags = run.data.tags
    return FinishedRun(
        run_id=run.info.run_id,
        arm=tags["arm"],
        model=tags["model"],
        variant=tags.get("variant", ""),
        seed=int(tags["seed"]),
        simulated=tags["simulated"] == "true",
        data=tags["data"],
        predictions=table(client, run, "predictions").set_index("item_id"),
        metrics=run.data.metrics,
        scored=classes(run),
        task=f"{run.data.params['task.classes']}, positive: {run.data.params['task.positive']}",
        votes=_labelers_votes(client, run) if tags["model"] == "none" else None,
        settings=_settings(run),
    )


def _settings(run: "Run") -> dict[str, str]:
    """What decides its predictions, by configuration key, except `MAY_DIFFER`."""
    params = run.data.params
    ignored = [*identity.NOT_IN_IDENTITY, *MAY_DIFFER]
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


def _labelers_votes(client: "MlflowClient", run: "Run") -> pd.DataFrame:
    votes = table(client, run, "votes")
    return votes[votes["stage"] == "labeler"]


def table(client: "MlflowClient", run: "Run", name: str) -> pd.DataFrame:
    """Read a table that was logged with a run.

    Args:
        client: A client of the store.
        run: The run.
        name: `votes`, `decisions` or `predictions`.

    Returns:
        The table.
    """
    with tempfile.TemporaryDirectory() as folder:
        return pd.read_parquet(store.artifact(client, run, f"{name}.parquet", Path(folder)))
