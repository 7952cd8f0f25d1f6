"""A run's tuned models as MLflow models: items in, labels out (`mlflow models predict`, `mlflow models serve`)."""

import dataclasses
import importlib.metadata
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from silvertune.evaluation import predictions
from silvertune.interfaces import Predictor
from silvertune.models import saved
from silvertune.schema import Evaluation, Task
from silvertune.votes import prob_columns

NEEDED = ("silvertune", "pandas", "scikit-learn", "torch", "transformers", "peft")
"""Packages that a served model may need; pinned to what is installed while it is saved."""
PREDICTOR = Path("data") / "silvertune" / "predictor"
"""Where the predictor is in an MLflow model: MLflow copies our folder, with its name, into its own `data`."""
LONGEST = 2000
"""Characters of a text that go into the input example."""


def save(
    predictor: Predictor, path: Path, task: Task, how: Evaluation, threshold: float, example: pd.DataFrame
) -> None:
    """Write an MLflow pyfunc model to `path`; what silvertune itself loads is in `path` / `PREDICTOR`.

    threshold: probability of task.positive from which an item is called positive. example: some items; their
    views, cut to `LONGEST` characters, become the input example, whose output fixes the signature.
    """
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it would tell which input example it has saved
    columns = [name for name in example.columns if name not in ("group_id", "label", "weight")]
    shown = example[columns].apply(lambda view: view.map(lambda text: text[:LONGEST] if isinstance(text, str) else ""))
    with tempfile.TemporaryDirectory() as made:
        data = Path(made) / PREDICTOR.parent.name
        predictor.save(data / PREDICTOR.name)
        settings = {"task": dataclasses.asdict(task), "decision": how.decision, "threshold": threshold}
        (data / "decision.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
        mlflow.pyfunc.save_model(
            path,
            loader_module=__name__,
            data_path=str(data),
            signature=infer_signature(shown, Served(predictor, task, how.decision, threshold).predict(shown)),
            input_example=shown.reset_index(drop=True),
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in NEEDED],
        )


@dataclass(frozen=True)
class Served:
    """What MLflow calls."""

    predictor: Predictor
    task: Task
    decision: str
    threshold: float

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """`label` and `prob:<class>` of each row. Columns are views (text; null or empty: the item lacks it)."""
        items = model_input.astype(object).where(model_input.notna() & (model_input != ""), None)
        items.index = pd.Index([str(number) for number in range(len(items))], name="item_id")
        for view in self.predictor.views:
            if view not in items:
                items[view] = None
        how = Evaluation(split="given", decision=self.decision, threshold=self.threshold)
        found = predictions.decide(self.predictor.predict_proba(items), self.task, how)
        every = predictions.complete(found, items.index, self.task)
        return every[["label", *prob_columns(self.task.classes)]].reset_index(drop=True)


def _load_pyfunc(path: str) -> Served:
    """MLflow's way in."""
    settings = json.loads((Path(path) / "decision.json").read_text(encoding="utf-8"))
    predictor = saved.load(Path(path) / PREDICTOR.name)
    return Served(predictor, Task(**settings["task"]), settings["decision"], settings["threshold"])
