"""Votes -> one label per item.

Every function takes `(votes, task, ...)` and returns the *labels* table, indexed by `item_id`: `label` (a
class name, or None where no vote had a label), `confidence` (0-1 or NaN; each function says what it means)
and `n_votes` (votes that had a label). Votes without a label are left out of the count everywhere; each
function says if they matter otherwise.
"""

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.schema import Task


def any_view(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Positive if any vote is positive (Kumar et al. 2024, section 3: the decision of every model).

    Otherwise the most frequent label. Confidence: the highest among the positive votes; of a negative
    label, the lowest among its votes, as one doubtful view is enough to overturn it.
    """
    positive = _positive(task, "any_view")
    cast = _cast(votes)
    is_positive = cast["label"] == positive
    lost = cast[~cast["item_id"].isin(cast.loc[is_positive, "item_id"])]
    return _labels(
        votes,
        cast,
        pd.concat(
            [
                _extreme(cast[is_positive], "max").assign(label=positive),
                _modal(lost, task)[["label"]].join(_extreme(lost, "min")),
            ]
        ),
    )


def all_views(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Positive only if every vote is positive; otherwise the most frequent of the other labels.

    Confidence: the lowest among the votes of a positive label; the highest among those against it.
    """
    positive = _positive(task, "all_views")
    cast = _cast(votes)
    against = cast[cast["label"] != positive]
    unanimous = cast[~cast["item_id"].isin(against["item_id"])]
    return _labels(
        votes,
        cast,
        pd.concat(
            [
                _extreme(unanimous, "min").assign(label=positive),
                _modal(against, task)[["label"]].join(_extreme(against, "max")),
            ]
        ),
    )


def majority(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The most frequent label; ties go to the higher summed confidence, then to the class listed first.

    Confidence: the share of the votes with a label that gave it.
    """
    cast = _cast(votes)
    return _labels(votes, cast, _modal(cast, task))


def first(votes: pd.DataFrame, task: Task) -> pd.DataFrame:
    """The first vote that has a label, in the order of the table (the rule of the paper's panel).

    Confidence: that vote's own, 1 where it has none.
    """
    cast = _cast(votes)
    chosen = cast.drop_duplicates("item_id").set_index("item_id")[["label", "confidence"]]
    return _labels(votes, cast, chosen.fillna({"confidence": 1.0}))


def _positive(task: Task, name: str) -> str:
    if task.positive is None:
        raise UserError(
            f"aggregation={name} needs task.positive, and task {task.name!r} has none: use aggregation=majority"
        )
    return task.positive


def _cast(votes: pd.DataFrame) -> pd.DataFrame:
    return votes[votes["label"].notna()]


def _extreme(cast: pd.DataFrame, which: str) -> pd.DataFrame:
    """The highest or lowest confidence of each item's votes; a vote without one counts as sure."""
    confidence = cast.set_index("item_id")["confidence"].fillna(1.0)
    return confidence.groupby(level="item_id", sort=False).agg(which).to_frame()


def _modal(cast: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Each item's most frequent label and the share of its votes, from one item x class count."""
    items, ids = pd.factorize(cast["item_id"])
    shape = (len(ids), len(task.classes))
    cell = items * shape[1] + pd.Categorical(cast["label"], categories=list(task.classes)).codes
    counts = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    sure = np.bincount(cell, weights=cast["confidence"].fillna(1.0), minlength=counts.size).reshape(shape)
    # Summed confidence is below the number of votes, so a fraction of it only ever breaks ties; argmax
    # takes the class listed first where even that is equal.
    # Rounded, so that a tie stays one whatever order the confidences were summed in.
    sure = sure.round(9)
    best = (counts + sure / (sure.max(initial=0.0) + 1.0) / 2).argmax(axis=1)
    return pd.DataFrame(
        {
            "label": np.asarray(task.classes, dtype=object)[best],
            "confidence": counts[np.arange(len(ids)), best] / counts.sum(axis=1),
        },
        index=pd.Index(ids, name="item_id", dtype=object),
    )


def _labels(votes: pd.DataFrame, cast: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    ids = pd.Index(votes["item_id"].unique(), name="item_id", dtype=object)
    labels = chosen.reindex(ids)[["label", "confidence"]]
    labels["label"] = labels["label"].astype(object).where(labels["label"].notna(), None)
    labels["confidence"] = labels["confidence"].astype(float)
    labels["n_votes"] = cast["item_id"].value_counts().reindex(ids, fill_value=0).astype(int)
    return labels
