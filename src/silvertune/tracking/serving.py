"""A run's tuned models as MLflow models: items in, labels out (`mlflow models predict`, `mlflow models serve`).

silvertune is on no package registry, so its code goes with each model, in MLflow's own folder for code: one wheel, from
which Python imports as it is. A sweep saves hundreds of models, and a wheel is one file where the package is hundreds.
"""

import dataclasses
import importlib.metadata
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from silvertune.backends import wheel
from silvertune.datasets.mapping import ColumnMapping
from silvertune.errors import UserError
from silvertune.evaluation import predictions
from silvertune.interfaces import Predictor, PredictorTraits
from silvertune.models import saved
from silvertune.schema import Evaluation, Task
from silvertune.tracking import store
from silvertune.votes import prob_columns

NEEDED = ("filelock", "joblib", "numpy", "omegaconf", "pandas", "rich", "scikit-learn", "scipy")
"""Distributions that every served model needs; a predictor may need more (`PredictorTraits.packages`)."""
LONGEST = 2000
"""Characters of a text that go into the input example."""
LOADER = "silvertune_model"
"""The module that MLflow imports from its folder for code."""
LOADER_SOURCE = '''"""Imports silvertune from the wheel beside this file, as it was when the model was saved."""

import sys
from pathlib import Path

sys.path.insert(0, str(next(Path(__file__).parent.glob("*.whl"))))

from silvertune.tracking.serving import _load_pyfunc  # noqa: E402, F401
'''


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
        data, package = Path(temporary) / saved.IN_MLFLOW_MODEL.parent.name, Path(temporary) / wheel.name()
        loader = Path(temporary) / f"{LOADER}.py"
        predictor.save(data / saved.IN_MLFLOW_MODEL.name)
        settings: dict[str, Any] = {"task": dataclasses.asdict(task), "decision": how.decision, "threshold": threshold}
        settings["columns"] = None if columns is None else dataclasses.asdict(columns)
        (data / saved.SETTINGS.name).write_text(json.dumps(settings, indent=1), encoding="utf-8")
        loader_module = saved.read(data / saved.IN_MLFLOW_MODEL.name)["loader"].partition(".")[0]
        package.write_bytes(_package(loader_module))
        loader.write_text(LOADER_SOURCE, encoding="utf-8")
        mlflow.pyfunc.save_model(
            path,
            loader_module=LOADER,
            data_path=str(data),
            code_paths=[str(loader), str(package)],
            signature=infer_signature(shown, Served(predictor, task, how.decision, threshold).predict(shown)),
            input_example=shown.reset_index(drop=True),
            pip_requirements=_requirements(predictor),
        )


@cache
def _package(module: str) -> bytes:
    """The wheel, and in it the module that loads the predictor where a user wrote it; made once a process."""
    try:
        return wheel.build(() if module == "silvertune" else (module,))
    except (UserError, ValueError) as error:  # it has no source file, as in a notebook, or too much beside it
        store.say(f"saved models lack the code of {module} ({error}): who loads one must have it")
        return wheel.build()


def _requirements(predictor: Predictor) -> list[str]:
    """Pins of what is installed, as registries have it: a build's local label, such as `+cpu`, is on none."""
    names = [*NEEDED, *PredictorTraits.of(predictor).packages]
    return [f"{name}=={_version(name).partition('+')[0]}" for name in names]


_version = cache(importlib.metadata.version)
"""Of a distribution. To read one takes milliseconds, and a sweep saves hundreds of models."""


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
