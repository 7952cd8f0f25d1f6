"""Counts of votes by item and class, and the labels table that every aggregation returns."""

import numpy as np
import pandas as pd

from silvertune.schema import Task
from silvertune.votes import none_if_null, prob_columns


def with_label(votes: pd.DataFrame) -> pd.DataFrame:
    """Select the votes that have a label.

    Args:
        votes: The votes, one a row.

    Returns:
        Their rows.
    """
    return votes[votes["label"].notna()]


def extreme_confidence(labelled: pd.DataFrame, which: str) -> pd.DataFrame:
    """Find the highest or lowest confidence of each item's votes.

    Args:
        labelled: The votes that have a label.
        which: `max` or `min`.

    Returns:
        `confidence`, indexed by item_id; NaN where no vote of the item has one.
    """
    return labelled.set_index("item_id")["confidence"].groupby(level="item_id", sort=False).agg(which).to_frame()


def most_frequent(labelled: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Find each item's most frequent label; ties go to the higher summed confidence, then to the class listed first.

    Args:
        labelled: The votes that have a label.
        task: The task, for its classes.

    Returns:
        `label` and, as `confidence`, the share of the item's votes that gave it; indexed by item_id.
    """
    counts = weight_by_class(labelled, pd.Series(1.0, labelled.index), task)
    # Summed confidence is below the number of votes, so a fraction of it only ever breaks ties; argmax
    # takes the class listed first where even that is equal.
    confidence = weight_by_class(labelled, labelled["confidence"].fillna(1.0), task)
    return _with_share(counts, counts + confidence / (confidence.to_numpy().max(initial=0.0) + 1.0) / 2)


def heaviest(labelled: pd.DataFrame, weight: pd.Series, task: Task) -> pd.DataFrame:
    """Find each item's label with the most weight.

    Args:
        labelled: The votes that have a label.
        weight: The weight of each of them, from 0 on, indexed alike.
        task: The task, for its classes.

    Returns:
        `label` and, as `confidence`, the share of the item's weight that gave it; indexed by item_id.
    """
    total = weight_by_class(labelled, weight, task)
    return _with_share(total, total)


def weight_by_class(labelled: pd.DataFrame, weight: pd.Series, task: Task) -> pd.DataFrame:
    """Sum the weight of each item's votes for each class.

    The sums are rounded, so that a tie stays one whatever the order of summing.

    Args:
        labelled: The votes that have a label.
        weight: The weight of each of them, from 0 on, indexed alike.
        task: The task, for its classes.

    Returns:
        item_id x class, items in the order of the votes.
    """
    items, ids = pd.factorize(labelled["item_id"])
    shape = (len(ids), len(task.classes))
    cell = items * shape[1] + pd.Categorical(labelled["label"], categories=list(task.classes)).codes
    total = np.bincount(cell, weights=weight, minlength=shape[0] * shape[1]).reshape(shape).round(9)
    return pd.DataFrame(total, index=pd.Index(ids, name="item_id", dtype=object), columns=list(task.classes))


def _with_share(total: pd.DataFrame, order: pd.DataFrame) -> pd.DataFrame:
    """Each item's label, the first with the highest value in `order`, and that label's share of `total`."""
    best = order.to_numpy().argmax(axis=1)
    values = total.to_numpy()
    return pd.DataFrame(
        {
            "label": np.asarray(total.columns, dtype=object)[best],
            "confidence": values[np.arange(len(values)), best] / values.sum(axis=1),
        },
        index=total.index,
    )


def labels_of_distribution(
    votes: pd.DataFrame, labelled: pd.DataFrame, posterior: pd.DataFrame, task: Task
) -> pd.DataFrame:
    """Make the labels table from a distribution over the classes, and add the distribution to it.

    Args:
        votes: All votes.
        labelled: Those that have a label.
        posterior: item_id x class, rows sum to 1; a class may be missing.
        task: The task, for its classes.

    Returns:
        The labels table with `prob:<class>` columns.
    """
    probs = posterior.reindex(columns=list(task.classes)).fillna(0.0).clip(0.0, 1.0).astype(float)
    best = probs.to_numpy().argmax(axis=1) if len(probs) else np.empty(0, dtype=int)
    label = np.asarray(task.classes, dtype=object)[best]
    chosen = pd.DataFrame({"label": label, "confidence": probs.max(axis=1)}, index=probs.index)
    labels = labels_table(votes, labelled, chosen)
    return labels.join(probs.set_axis(prob_columns(task.classes), axis=1))


def labels_table(votes: pd.DataFrame, labelled: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Make the labels table, with a row for every item that has a vote.

    Args:
        votes: All votes.
        labelled: Those that have a label.
        chosen: `label` and `confidence` of the items that get a label, by item_id.

    Returns:
        The labels table, indexed by item_id: `label`, `confidence`, `n_votes`.
    """
    ids = pd.Index(votes["item_id"].unique(), name="item_id", dtype=object)
    labels = chosen.reindex(ids)[["label", "confidence"]]
    labels["label"] = none_if_null(labels["label"])
    labels["confidence"] = labels["confidence"].astype(float)
    labels["n_votes"] = labelled["item_id"].value_counts().reindex(ids, fill_value=0).astype(int)
    return labels
