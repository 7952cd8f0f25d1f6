"""Aggregations for one annotator's votes on several views of an item."""

import pandas as pd

from silvertune.aggregations.counting import extreme_confidence, labels_table, most_frequent, with_label
from silvertune.errors import UserError, check_choice
from silvertune.schema import Task


def any_view(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Take the positive class if any vote is positive (an OR); otherwise the most frequent label.

    Confidence: the highest among the positive votes; for a negative label the lowest among its votes, as one
    doubtful view is enough to overturn it.

    Source: Kumar et al. 2024, section 3 (the decision of every model).

    Args:
        votes: The votes, one a row.
        task: The task, with a positive class.

    Returns:
        The labels table.

    Raises:
        UserError: If the task has no positive class.

    Fails where a view has many false positives: each of them becomes the item's label.
    """
    positive = _positive(task, "any_view")
    labelled = with_label(votes)
    is_positive = labelled["label"] == positive
    of_negative_items = labelled[~labelled["item_id"].isin(labelled.loc[is_positive, "item_id"])]
    return labels_table(
        votes,
        labelled,
        pd.concat(
            [
                extreme_confidence(labelled[is_positive], "max").assign(label=positive),
                most_frequent(of_negative_items, task)[["label"]].join(extreme_confidence(of_negative_items, "min")),
            ]
        ),
    )


def all_views(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Take the positive class only if every vote is positive (an AND); otherwise the most frequent other label.

    Confidence: for a positive label the lowest among its votes; for another label the highest among the votes
    that are not positive.

    Source: the counterpart of `any_view` (Kumar et al. 2024, section 3).

    Args:
        votes: The votes, one a row.
        task: The task, with a positive class.

    Returns:
        The labels table.

    Raises:
        UserError: If the task has no positive class.

    Fails where a view misses many positives: each miss makes the item's label negative.
    """
    positive = _positive(task, "all_views")
    labelled = with_label(votes)
    negative_votes = labelled[labelled["label"] != positive]
    of_positive_items = labelled[~labelled["item_id"].isin(negative_votes["item_id"])]
    return labels_table(
        votes,
        labelled,
        pd.concat(
            [
                extreme_confidence(of_positive_items, "min").assign(label=positive),
                most_frequent(negative_votes, task)[["label"]].join(extreme_confidence(negative_votes, "max")),
            ]
        ),
    )


def and_relabel(votes: pd.DataFrame, task: Task, *, negative: str | None) -> pd.DataFrame:
    """Take the label that all votes agree on; where they differ, the negative class.

    With two classes this is `all_views`; with more, the votes may agree on any class, and `task.positive` is not
    needed.

    Confidence: the lowest among the votes that agree; for a negative label the highest among the negative votes, 0
    if there are none.

    Source: Control: what the agreement filter of Kumar et al. 2024 drops gets a label by AND instead.

    Args:
        votes: The votes, one a row.
        task: The task, for its classes.
        negative: The class of items whose votes differ; null: of two classes, the one that is not task.positive.

    Returns:
        The labels table.

    Raises:
        UserError: If `negative` is no class, or null where more than one class is not positive.

    Fails where views often differ on positive items: all of these become negative.
    """
    if negative is None:
        others = [name for name in task.classes if name != task.positive]
        if len(others) != 1:
            raise UserError(f"aggregation.negative=null: say which class disagreements get: {', '.join(task.classes)}")
        negative = others[0]
    check_choice("aggregation.negative", negative, task.classes)
    labelled = with_label(votes)
    differs = labelled.groupby("item_id", sort=False)["label"].transform("nunique") > 1
    agreeing = labelled[~differs & (labelled["label"] != negative)]
    is_negative = labelled["label"] == negative
    negative_ids = pd.Index(labelled.loc[differs | is_negative, "item_id"].unique(), name="item_id")
    confidence = extreme_confidence(labelled[is_negative], "max")["confidence"].reindex(negative_ids)
    confidence = confidence.where(negative_ids.isin(labelled.loc[is_negative, "item_id"]), 0.0)
    return labels_table(
        votes,
        labelled,
        pd.concat(
            [
                most_frequent(agreeing, task)[["label"]].join(extreme_confidence(agreeing, "min")),
                pd.DataFrame({"label": negative, "confidence": confidence}, index=negative_ids),
            ]
        ),
    )


def _positive(task: Task, name: str) -> str:
    if task.positive is None:
        raise UserError(
            f"aggregation={name} needs task.positive, and task {task.name!r} has none: use aggregation=majority"
        )
    return task.positive
