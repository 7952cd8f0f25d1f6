"""The views' probabilities -> one prediction per item."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from silvertune.errors import UserError, either
from silvertune.evaluation import thresholds
from silvertune.schema import Evaluation, Task
from silvertune.votes import none_if_null, one_hot, prob_columns


def decide(probs: pd.DataFrame, task: Task, how: Evaluation) -> pd.DataFrame:
    """One label and one distribution per item, from one distribution per view of it.

    probs: indexed by (item_id, view), one column a class.
    how.threshold: where it is no number, 0.5 is used (`silvertune.evaluation.thresholds` has the rest).
    how.decision: `any_view`: P(positive) is the highest of the views', `all_views`: the lowest (both need
        task.positive and two classes); `mean`: the mean over the views.
    Returns a DataFrame indexed by item_id: `label` and `prob:<class>`, rows summing to 1.
    """
    check(task, how)
    threshold = 0.5 if how.threshold in thresholds.RULES else how.threshold
    by_item = probs.reindex(columns=list(task.classes), fill_value=0.0).groupby(level="item_id", sort=False)
    if how.decision == "mean":
        joint = by_item.mean()
    else:
        assert task.positive is not None
        positive = by_item[task.positive].agg("max" if how.decision == "any_view" else "min")
        joint = pd.DataFrame({name: positive if name == task.positive else 1 - positive for name in task.classes})
    if task.positive is not None and len(task.classes) == 2:
        negative = next(name for name in task.classes if name != task.positive)
        label = np.where(joint[task.positive] >= threshold, task.positive, negative)
    else:
        label = np.asarray(task.classes, dtype=object)[joint.to_numpy().argmax(axis=1)]
    joint.columns = prob_columns(task.classes)
    joint.insert(0, "label", pd.Series(label, index=joint.index, dtype=object))
    return joint


def check(task: Task, how: Evaluation) -> None:
    """UserError if `how` is not a way to decide, or not one for this task."""
    if how.decision not in ("any_view", "all_views", "mean"):
        raise UserError(f"evaluation.decision={how.decision}: want any_view, all_views or mean")
    if how.decision != "mean" and (task.positive is None or len(task.classes) != 2):
        raise UserError(
            f"evaluation.decision={how.decision} needs task.positive and two classes, and task {task.name!r} "
            "has not: use evaluation.decision=mean"
        )
    known = how.threshold in thresholds.RULES
    if not known and (not isinstance(how.threshold, int | float) or not 0 <= how.threshold <= 1):
        raise UserError(
            f"evaluation.threshold={how.threshold}: want a number from 0 to 1, or {either(thresholds.RULES)}"
        )
    if how.threshold == "validation" and (task.positive is None or len(task.classes) != 2):
        raise UserError(
            f"evaluation.threshold=validation needs task.positive and two classes, and task {task.name!r} has not"
        )


def from_labels(labels: pd.DataFrame, votes: pd.DataFrame, task: Task, how: Evaluation) -> pd.DataFrame:
    """The labeler itself as the arm: its aggregated labels as predictions, the same columns as `decide`.

    The distributions are the votes' own, combined as `how` says, where every vote has one; else the
    label's confidence (1 where there is none) on the label. An item without a label keeps a null label
    and an even distribution.
    """
    columns = prob_columns(task.classes)
    cast = votes[votes["label"].notna()]
    if set(columns) <= set(votes.columns) and cast[columns].notna().all(axis=None) and len(cast):
        probs = cast.set_index(["item_id", "view"])[columns].set_axis(list(task.classes), axis=1)
        predictions = decide(probs, task, how)
    else:
        predictions = _from_confidence(labels, task.classes)
    return complete(predictions.assign(label=labels["label"]), labels.index, task)


def complete(predictions: pd.DataFrame, items: pd.Index, task: Task) -> pd.DataFrame:
    """`predictions` for all of `items`, in their order: a null label and an even distribution for those without."""
    every = predictions.reindex(items)
    columns = prob_columns(task.classes)
    every[columns] = every[columns].fillna(1 / len(task.classes))
    every["label"] = none_if_null(every["label"])
    return every


def _from_confidence(labels: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    confidence = labels["confidence"].fillna(1.0).to_numpy()[:, None]
    spread = np.where(one_hot(labels["label"], classes), confidence, (1 - confidence) / (len(classes) - 1))
    spread[labels["label"].isna()] = np.nan
    return pd.DataFrame(spread, index=labels.index, columns=prob_columns(classes)).assign(label=None)
