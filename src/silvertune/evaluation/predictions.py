"""Predictions: one label and distribution an item, from those of its views."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from silvertune.errors import UserError, check_choice, either
from silvertune.evaluation import thresholds
from silvertune.schema import Evaluation, Task
from silvertune.votes import none_if_null, one_hot, prob_columns


def decide(probs: pd.DataFrame, task: Task, how: Evaluation) -> pd.DataFrame:
    """Combine the distributions of an item's views.

    Args:
        probs: (item_id, view) x class, 0-1, rows sum to 1.
        task: The task.
        how: The evaluation settings. `decision`: `any_view` takes the highest of the views' probabilities of the
            positive class, `all_views` the lowest (both need task.positive and two classes), `mean` the mean
            distribution. `threshold`: 0.5 is used where it is not a number (`silvertune.evaluation.thresholds` has the
            rules).

    Returns:
        `label` and `prob:<class>` (0-1, rows sum to 1), indexed by item_id.

    Raises:
        UserError: If a setting does not fit the task.
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


def check(task: Task, how: Evaluation, *, tunes: bool = True) -> None:
    """Refuse evaluation settings that do not exist or do not fit the task.

    Args:
        task: The task.
        how: The evaluation settings.
        tunes: Whether a model is tuned.

    Raises:
        UserError: If `decision` or `threshold` is not one of the choices, or needs a positive class and two classes, or
            test items.
    """
    if how.split == "none" and not tunes:
        raise UserError("evaluation=none, model=none: nothing to tune; want a model, or study.only=[ARM]")
    check_choice("evaluation.decision", how.decision, ("any_view", "all_views", "mean"))
    if how.decision != "mean" and (task.positive is None or len(task.classes) != 2):
        raise UserError(
            f"evaluation.decision={how.decision} needs task.positive and two classes, and task {task.name!r} "
            "has not: use evaluation.decision=mean"
        )
    is_rule = how.threshold in thresholds.RULES
    if not is_rule and (not isinstance(how.threshold, int | float) or not 0 <= how.threshold <= 1):
        raise UserError(
            f"evaluation.threshold={how.threshold}: want a number from 0 to 1, or {either(thresholds.RULES)}"
        )
    if how.threshold == "shift_corrected" and how.split == "none":
        raise UserError(
            "evaluation.threshold=shift_corrected: corrects for the class shares of test items, and evaluation=none "
            "has none; want validation or a number from 0 to 1"
        )
    if how.threshold == "validation" and (task.positive is None or len(task.classes) != 2):
        raise UserError(
            f"evaluation.threshold=validation needs task.positive and two classes, and task {task.name!r} has not"
        )


def from_labels(labels: pd.DataFrame, votes: pd.DataFrame, task: Task, how: Evaluation) -> pd.DataFrame:
    """Turn aggregated labels into predictions: the labeler itself is the arm.

    Where every vote has a distribution, these are combined as `how` says. Otherwise the label gets its confidence (1
    where there is none) and the other classes share the rest.

    Args:
        labels: The labels table, indexed by item_id.
        votes: The votes that the labels were made from.
        task: The task.
        how: The evaluation settings.

    Returns:
        The columns of `decide`. An item without a label has a null label and an even distribution.
    """
    columns = prob_columns(task.classes)
    labelled = votes[votes["label"].notna()]
    if set(columns) <= set(votes.columns) and labelled[columns].notna().all(axis=None) and len(labelled):
        probs = labelled.set_index(["item_id", "view"])[columns].set_axis(list(task.classes), axis=1)
        predictions = decide(probs, task, how)
    else:
        predictions = _from_confidence(labels, task.classes)
    return complete(predictions.assign(label=labels["label"]), labels.index, task)


def complete(predictions: pd.DataFrame, items: pd.Index, task: Task) -> pd.DataFrame:
    """Add a row for every item that has no prediction: a null label and an even distribution.

    Args:
        predictions: `label` and `prob:<class>`, indexed by item_id.
        items: The ids of all items.
        task: The task.

    Returns:
        The predictions of all items, in the order of `items`.
    """
    completed = predictions.reindex(items)
    columns = prob_columns(task.classes)
    completed[columns] = completed[columns].fillna(1 / len(task.classes))
    completed["label"] = none_if_null(completed["label"])
    return completed


def _from_confidence(labels: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    confidence = labels["confidence"].fillna(1.0).to_numpy()[:, None]
    spread = np.where(one_hot(labels["label"], classes), confidence, (1 - confidence) / (len(classes) - 1))
    spread[labels["label"].isna()] = np.nan
    return pd.DataFrame(spread, index=labels.index, columns=prob_columns(classes)).assign(label=None)
