"""Counts of votes by item and class, and the labels table that every aggregation returns."""

import numpy as np
import pandas as pd

from silvertune.schema import Task
from silvertune.votes import none_if_null, prob_columns


def with_label(votes: pd.DataFrame) -> pd.DataFrame:
    return votes[votes["label"].notna()]


def extreme_confidence(cast: pd.DataFrame, which: str) -> pd.DataFrame:
    """The highest or lowest confidence of each item's votes that have one; NaN where none has."""
    return cast.set_index("item_id")["confidence"].groupby(level="item_id", sort=False).agg(which).to_frame()


def most_frequent(cast: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Each item's most frequent label and the share of its votes, from one item x class count."""
    counts = weight_by_class(cast, pd.Series(1.0, cast.index), task)
    # Summed confidence is below the number of votes, so a fraction of it only ever breaks ties; argmax
    # takes the class listed first where even that is equal.
    sure = weight_by_class(cast, cast["confidence"].fillna(1.0), task)
    return _with_share(counts, counts + sure / (sure.to_numpy().max(initial=0.0) + 1.0) / 2)


def heaviest(cast: pd.DataFrame, weight: pd.Series, task: Task) -> pd.DataFrame:
    """Each item's label with the most weight, and the share of its weight."""
    total = weight_by_class(cast, weight, task)
    return _with_share(total, total)


def weight_by_class(cast: pd.DataFrame, weight: pd.Series, task: Task) -> pd.DataFrame:
    """The summed weight of each item's votes for each class: item_id x class, items in the order of the votes.

    Rounded, so that a tie stays one whatever order the weights were summed in.
    """
    items, ids = pd.factorize(cast["item_id"])
    shape = (len(ids), len(task.classes))
    cell = items * shape[1] + pd.Categorical(cast["label"], categories=list(task.classes)).codes
    total = np.bincount(cell, weights=weight, minlength=shape[0] * shape[1]).reshape(shape).round(9)
    return pd.DataFrame(total, index=pd.Index(ids, name="item_id", dtype=object), columns=list(task.classes))


def _with_share(total: pd.DataFrame, order: pd.DataFrame) -> pd.DataFrame:
    """Each item's label, the first that is highest in `order`, and that label's share of `total`."""
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
    votes: pd.DataFrame, cast: pd.DataFrame, posterior: pd.DataFrame, task: Task
) -> pd.DataFrame:
    """Labels by a distribution over the classes (item x class), which is added to them."""
    probs = posterior.reindex(columns=list(task.classes)).fillna(0.0).clip(0.0, 1.0).astype(float)
    best = probs.to_numpy().argmax(axis=1) if len(probs) else np.empty(0, dtype=int)
    label = np.asarray(task.classes, dtype=object)[best]
    chosen = pd.DataFrame({"label": label, "confidence": probs.max(axis=1)}, index=probs.index)
    labels = labels_table(votes, cast, chosen)
    return labels.join(probs.set_axis(prob_columns(task.classes), axis=1))


def labels_table(votes: pd.DataFrame, cast: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    ids = pd.Index(votes["item_id"].unique(), name="item_id", dtype=object)
    labels = chosen.reindex(ids)[["label", "confidence"]]
    labels["label"] = none_if_null(labels["label"])
    labels["confidence"] = labels["confidence"].astype(float)
    labels["n_votes"] = cast["item_id"].value_counts().reindex(ids, fill_value=0).astype(int)
    return labels
