"""A labeler that is a model tuned before: self-training, distillation, or labelling new data."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from silvertune import votes
from silvertune.errors import UserError
from silvertune.interfaces import Estimate
from silvertune.models import saved
from silvertune.schema import Task
from silvertune.votes import prob_columns


class TunedModel:
    """One vote a view from a saved predictor: its most probable class, with its probabilities.

    Args:
        task: The classes; the predictor's must be among them.
        path: Folder of the predictor: an MLflow model that a run has logged (`model/fold0`), or what a predictor's
            `save` wrote.
        base: Folder of the model that an adapter was tuned on, where it has moved since; null where it has not.
        views: The views to vote on; null is all that it was tuned on.

    Raises:
        UserError: There is no predictor, its base is missing or another, or it was tuned on other classes or views.
    """

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"base"})

    @staticmethod
    def files_in_identity(folder: Path) -> list[Path]:
        """The files in the folder `path` that can change a vote."""
        return saved.files(_predictor_folder(folder))

    def __init__(self, task: Task, *, path: str, base: str | None = None, views: Sequence[str] | None) -> None:
        self.predictor = saved.load(_predictor_folder(Path(path)), None if base is None else Path(base))
        classes: Sequence[str] = self.predictor.classes
        if unknown := sorted(set(classes) - set(task.classes)):
            raise UserError(
                f"labeler.path={path}: was tuned on the classes {', '.join(classes)}, and task {task.name!r} has "
                f"{', '.join(task.classes)}: {unknown[0]!r} is none of them; want a model tuned on this task"
            )
        if missing := sorted(set(views or ()) - set(self.predictor.views)):
            raise UserError(
                f"labeler.views={views}: the model was not tuned on view {missing[0]!r}; it reads "
                f"{', '.join(self.predictor.views)}"
            )
        self.task = task
        self.views = list(views or self.predictor.views)

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """Vote on items.

        Args:
            items: Indexed by item_id, a column a view (`silvertune.items`).

        Returns:
            One vote a view of each item; a view that the item lacks gets an abstention (`silvertune.votes`).

        Raises:
            UserError: The items lack a view that the model reads.
        """
        if missing := [view for view in self.predictor.views if view not in items]:
            raise UserError(f"labeler.path: the model reads view {missing[0]!r}, which the dataset does not have")
        probs = self.predictor.predict_proba(items).reindex(columns=self.task.classes, fill_value=0.0)
        probs = probs.reindex(pd.MultiIndex.from_product([items.index, self.views], names=["item_id", "view"]))
        names = np.asarray(self.task.classes, dtype=object)
        label = pd.Series(names[probs.fillna(0.0).to_numpy().argmax(axis=1)], probs.index)
        label = label.where(probs.notna().all(axis=1), None)
        table = pd.DataFrame({"annotator": "tuned_model", "label": label, "confidence": probs.max(axis=1)})
        table[prob_columns(self.task.classes)] = probs.to_numpy()
        rows = [{str(key): value for key, value in row.items()} for row in table.reset_index().to_dict("records")]
        return votes.table(rows, self.task.classes, probs=True)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """The texts that the model would read; see `silvertune.interfaces.Labeler`."""
        calls = sum(int(items[view].notna().sum()) for view in self.views if view in items)
        return {"tuned_model": Estimate(calls=float(calls))}


def _predictor_folder(folder: Path) -> Path:
    """The predictor's folder in an MLflow model; `folder` itself where it is none."""
    return folder / saved.IN_MLFLOW_MODEL if (folder / "MLmodel").is_file() else folder
