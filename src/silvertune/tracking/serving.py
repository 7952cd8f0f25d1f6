"""A run's tuned models as MLflow models: items in, labels out (`mlflow models predict`, `mlflow models serve`).

silvertune is on no package registry, so its code goes with each model, in MLflow's own folder for code.
"""

import dataclasses
import importlib.metadata
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from silvertune.datasets.mapping import ColumnMapping
from silvertune.evaluation import predictions
from silvertune.interfaces import Predictor, PredictorTraits
from silvertune.models import saved
from silvertune.schema import Evaluation, Task
from silvertune.votes import prob_columns

NEEDED = ("filelock", "joblib", "numpy", "omegaconf", "pandas", "rich", "scikit-learn", "scipy")
"""Distributions that every served model needs; a predictor may need more (`PredictorTraits.packages`)."""
LONGEST = 2000
"""Characters of a text that go into the input example."""


def save(
    predictor: Predictor,
    path: Path,
    task: Task,
    how: Evaluation,
    threshold: float,
    example: pd.DataFrame,
    columns: ColumnMapping | None = None,
) -> None:
    """Write an MLflow pyfunc model; what silvertune itself loads is in `path` / `saved.IN_MLFLOW_MODEL`.

    Args:
        predictor: What tuning gave.
        path: The new folder.
        task: The classes, and the positive one.
        how: Its `decision` is how an item's label is made from its views.
        threshold: Probability (0-1) of `task.positive` from which an item is called positive.
        example: Some items; their views, cut to `LONGEST` characters, become the input example, whose output fixes the
            signature.
        columns: How the views are made of the columns of a file; None: a file has a column for each view.
    """
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it would tell which input example it has saved
    views = [name for name in example.columns if name not in ("group_id", "label", "weight")]
    shown = example[views].apply(lambda view: view.map(lambda text: text[:LONGEST] if isinstance(text, str) else ""))
    with tempfile.TemporaryDirectory() as temporary:
        data, code = Path(temporary) / saved.IN_MLFLOW_MODEL.parent.name, Path(temporary) / "code" / "silvertune"
        predictor.save(data / saved.IN_MLFLOW_MODEL.name)
        settings: dict[str, Any] = {"task": dataclasses.asdict(task), "decision": how.decision, "threshold": threshold}
        settings["columns"] = None if columns is None else dataclasses.asdict(columns)
        (data / saved.SETTINGS.name).write_text(json.dumps(settings, indent=1), encoding="utf-8")
        without = shutil.ignore_patterns("__pycache__", "conf", "experiments")
        shutil.copytree(Path(__file__).parents[1], code, ignore=without)
        mlflow.pyfunc.save_model(
            path,
            loader_module=__name__,
            data_path=str(data),
            code_paths=[str(code)],
            signature=infer_signature(shown, Served(predictor, task, how.decision, threshold).predict(shown)),
            input_example=shown.reset_index(drop=True),
            pip_requirements=_requirements(predictor),
        )


def _requirements(predictor: Predictor) -> list[str]:
    """Pins of what is installed, as registries have it: a build's local label, such as `+cpu`, is on none."""
    names = [*NEEDED, *PredictorTraits.of(predictor).packages]
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]


@dataclass(frozen=True)
class Served:
    """What MLflow calls.

    Attributes:
        predictor: What tuning gave.
        task: The classes, and the positive one.
        decision: How an item's label is made from its views.
        threshold: Probability (0-1) of `task.positive` from which an item is called positive.
    """

    predictor: Predictor
    task: Task
    decision: str
    threshold: float

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Label items.

        Args:
            model_input: One row an item. Columns are views (text; null or empty: the item lacks it).
            params: Unused; MLflow passes it.

        Returns:
            `label` and `prob:<class>` of each row.
        """
        items = model_input.astype(object).where(model_input.notna() & (model_input != ""), None)
        items.index = pd.Index([str(number) for number in range(len(items))], name="item_id")
        for view in self.predictor.views:
            if view not in items:
                items[view] = None
        how = Evaluation(split="given", decision=self.decision, threshold=self.threshold)
        decided = predictions.decide(self.predictor.predict_proba(items), self.task, how)
        complete = predictions.complete(decided, items.index, self.task)
        return complete[["label", *prob_columns(self.task.classes)]].reset_index(drop=True)


def _load_pyfunc(path: str) -> Served:
    """MLflow's way in."""
    settings = json.loads((Path(path) / saved.SETTINGS.name).read_text(encoding="utf-8"))
    predictor = saved.load(Path(path) / saved.IN_MLFLOW_MODEL.name)
    return Served(predictor, Task(**settings["task"]), settings["decision"], settings["threshold"])
