"""A labeler that is a model tuned before: self-training, distillation, or labelling new data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from silvertune import votes
from silvertune.errors import UserError
from silvertune.interfaces import Estimate
from silvertune.models import saved
from silvertune.schema import Task
from silvertune.tracking import serving
from silvertune.votes import prob_columns


class TunedModel:
    """One vote a view from a saved predictor: its most probable class, with its probabilities.

    path: folder of the predictor: an MLflow model that a run has logged (`model/fold0`), or what a
        predictor's `save` wrote. views: the views to vote on; null is all that it was tuned on.
    Raises UserError if there is no predictor, its base is another, or it was tuned on other classes.
    """

    def __init__(self, task: Task, *, path: str, views: Sequence[str] | None) -> None:
        folder = Path(path)
        self.predictor = saved.load(folder / serving.PREDICTOR if (folder / "MLmodel").is_file() else folder)
        classes: Sequence[str] = self.predictor.classes
        if strange := sorted(set(classes) - set(task.classes)):
            raise UserError(
                f"labeler.path={path}: was tuned on the classes {', '.join(classes)}, and task {task.name!r} has "
                f"{', '.join(task.classes)}: {strange[0]!r} is none of them; want a model tuned on this task"
            )
        if missing := sorted(set(views or ()) - set(self.predictor.views)):
            raise UserError(
                f"labeler.views={views}: the model was not tuned on view {missing[0]!r}; it reads "
                f"{', '.join(self.predictor.views)}"
            )
        self.task = task
        self.views = list(views or self.predictor.views)

    def label(self, items: pd.DataFrame) -> pd.DataFrame:
        """One vote a view of each item; a view that the item lacks gets an abstention. See `silvertune.votes`."""
        if missing := [view for view in self.predictor.views if view not in items]:
            raise UserError(f"labeler.path: the model reads view {missing[0]!r}, which the dataset does not have")
        probs = self.predictor.predict_proba(items).reindex(columns=self.task.classes, fill_value=0.0)
        wanted = pd.MultiIndex.from_product([items.index, self.views], names=["item_id", "view"])
        every = probs.reindex(wanted)
        there = every.notna().all(axis=1)
        names = np.asarray(self.task.classes, dtype=object)
        label = pd.Series(names[every.fillna(0.0).to_numpy().argmax(axis=1)], every.index).where(there, None)
        rows = pd.DataFrame({"annotator": "tuned_model", "label": label, "confidence": every.max(axis=1)})
        rows[prob_columns(self.task.classes)] = every.to_numpy()
        cast = [{str(key): value for key, value in row.items()} for row in rows.reset_index().to_dict("records")]
        return votes.table(cast, self.task.classes, probs=True)

    def estimate(self, items: pd.DataFrame) -> dict[str, Estimate]:
        """The texts that the model would read."""
        calls = sum(int(items[view].notna().sum()) for view in self.views if view in items)
        return {"tuned_model": Estimate(calls=float(calls))}
