"""A tuned model, loaded to be used: it knows its task, its decision, and how its views are made of columns."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from silvertune.datasets.mapping import ColumnMapping
from silvertune.errors import UserError
from silvertune.evaluation import predictions
from silvertune.interfaces import Predictor
from silvertune.models import saved
from silvertune.schema import Evaluation, Task
from silvertune.votes import prob_columns


@dataclass(frozen=True)
class LoadedModel:
    """A tuned model.

    Attributes:
        name: Where it is, with the version that an alias names now: `models:/complaints/3`.
        folder: The folder of the MLflow model, on this disk.
        predictor: What tuning gave.
        task: The classes, and the positive one.
        how: How the views' probabilities become one (`decision`), and the probability of `task.positive` from which an
            item is called positive (`threshold`, 0-1).
        columns: How its views are made of the columns of a file; of the views that it reads, and no others.
    """

    name: str
    folder: Path
    predictor: Predictor
    task: Task
    how: Evaluation
    columns: ColumnMapping

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what decides what it predicts: its files, its task and its decision. Hexadecimal."""
        digest = hashlib.sha256()
        inner = self.folder / saved.IN_MLFLOW_MODEL
        for file in sorted([*saved.files(inner), self.folder / saved.SETTINGS]):
            digest.update(f"{file.relative_to(self.folder).as_posix()} {file.stat().st_size}\n".encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()

    @property
    def prob_columns(self) -> list[str]:
        """The columns of `predict` that hold probabilities: of the item, and of each view where there are several."""
        of_item = prob_columns(self.task.classes)
        views = self.predictor.views if len(self.predictor.views) > 1 else ()
        return [*of_item, *(f"prob:{view}:{name}" for view in views for name in self.task.classes)]

    def predict(self, items: pd.DataFrame) -> pd.DataFrame:
        """Predict items. What is in memory grows with the items: give it a part of them at a time.

        Args:
            items: Indexed by item_id (unique str), one column a view that the model reads (text; None: the item has no
                such view).

        Returns:
            In the order of the items: `label` (null where an item has no text), and `prob_columns` (0-1, float64; NaN
            where there is no text).
        """
        classes = list(self.task.classes)
        probs = self.predictor.predict_proba(items).reindex(columns=classes, fill_value=0.0)
        decided = predictions.decide(probs, self.task, self.how).reindex(items.index)
        if len(self.predictor.views) > 1:
            for view in self.predictor.views:
                of_view = probs[probs.index.get_level_values("view") == view].droplevel("view").reindex(items.index)
                decided[[f"prob:{view}:{name}" for name in classes]] = of_view.to_numpy()
        decided["label"] = decided["label"].astype(object).where(decided["label"].notna(), None)
        return decided[["label", *self.prob_columns]]


def confidence(table: pd.DataFrame, task: Task, threshold: float) -> pd.Series:
    """How sure a model is of each label.

    Of two classes it is the distance of the positive class's probability p from the decision's threshold t, so that it
    is 0.5 where p is t and 1 where p is 0 or 1: (1 + (p - t) / (1 - t)) / 2 from t on, else (1 + (t - p) / t) / 2. With
    t = 0.5 that is the label's probability, as it is for more classes.

    Args:
        table: `label`, and `prob:<class>` (0-1).
        task: The classes.
        threshold: Of the decision, 0-1.

    Returns:
        0-1 in the order of the rows, NaN without a label.
    """
    labelled = table["label"].isin(list(task.classes))
    if task.positive is not None and len(task.classes) == 2:
        p = table[f"prob:{task.positive}"].astype(float)
        is_positive = table["label"] == task.positive
        above = (1 + (p - threshold) / max(1 - threshold, 1e-12)) / 2
        below = (1 + (threshold - p) / max(threshold, 1e-12)) / 2
        surety = above.where(is_positive, below).clip(0, 1)
    else:
        probs = table[prob_columns(task.classes)].to_numpy(dtype=float)
        codes = pd.Categorical(table["label"], categories=list(task.classes)).codes
        surety = pd.Series(probs[np.arange(len(table)), codes], index=table.index)
    return surety.where(labelled)


def load(address: str, tracking: Mapping[str, Any], download_to: Path) -> LoadedModel:
    """Load a tuned model.

    Args:
        address: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/RUN_ID`, or a folder.
        tracking: Its `uri` and `dir` say where the store is, as the configuration's `tracking` does.
        download_to: A folder to download to where the artifacts are not on this disk; the model needs it as long as it
            is used.

    Returns:
        The model.

    Raises:
        UserError: There is no such model, or it can't be loaded here.
    """
    if ":/" not in address:
        return from_folder(Path(address))
    from silvertune.tracking import models

    found = models.find(address, tracking, download_to)
    return from_folder(found.folder, found.name)


def from_folder(folder: Path, name: str | None = None) -> LoadedModel:
    """Load a tuned model from a folder on this disk.

    Args:
        folder: The folder of an MLflow model that silvertune has logged.
        name: What it is called; None: its folder.

    Returns:
        The model.

    Raises:
        UserError: There is no such model, or it can't be loaded here.
    """
    from silvertune.tracking import models

    name = name or str(folder)
    models.check(folder, name)
    try:
        settings = json.loads((folder / saved.SETTINGS).read_text(encoding="utf-8"))
        task = Task(**settings["task"])
        how = Evaluation(split="given", decision=settings["decision"], threshold=settings["threshold"])
        content = settings.get("columns")
        columns = None if content is None else ColumnMapping(**content)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{name}: {saved.SETTINGS} in it can't be read ({type(error).__name__}: {error})") from None
    predictor = saved.load(folder / saved.IN_MLFLOW_MODEL)
    columns = columns or ColumnMapping.of_views(predictor.views)
    return LoadedModel(name, folder, predictor, task, how, columns.only(predictor.views))
