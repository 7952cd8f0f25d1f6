"""What several filters share: how scores decide which labels are kept."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from silvertune.errors import UserError, check_number
from silvertune.schema import Task
from silvertune.votes import class_scores, score_of_label


def at_least_or_top(score: pd.Series, at_least: float | None, top: float | None, key: str) -> pd.DataFrame:
    """Keep the scores from a threshold on, or the highest fraction of all scores.

    All ties at the cut are kept. What has no score (NaN) is not kept and does not count.

    Args:
        score: The score of each item's label, indexed by item_id; NaN where it has none.
        at_least: The threshold, 0-1. If it is None, `top` decides.
        top: The fraction of all scores to keep, 0-1.
        key: The filter's configuration key, for messages, such as `filter.margin`.

    Returns:
        `keep` and `score`, indexed like `score`.

    Raises:
        UserError: If both are None, or one is no number from 0 to 1.
    """
    if at_least is None and top is None:
        raise UserError(f"{key}.at_least=null, top=null: set one of them, from 0 to 1")
    if at_least is None:
        check_number(f"{key}.top", top, most=1)
        assert top is not None
        count = rounded_up(top * score.notna().sum())
        at_least = float(score.nlargest(count).min()) if count else np.inf
    else:
        check_number(f"{key}.at_least", at_least, most=1)
    return pd.DataFrame({"keep": score >= at_least, "score": score})


def views_agree(votes: pd.DataFrame, labels: pd.Series) -> pd.Series:
    """Find the items whose views all gave the item's label most often.

    A view without a label does not count. Where two classes have the most votes of a view, both are the view's.

    Args:
        votes: The votes.
        labels: The class of each item, by item_id.

    Returns:
        A boolean Series indexed like `labels`: False where another class has more votes of some view.
    """
    labelled = votes[votes["label"].notna() & votes["item_id"].isin(labels.index)]
    counts = labelled.groupby(["item_id", "view", "label"], sort=False).size().rename("n").reset_index()
    highest = counts.groupby(["item_id", "view"], sort=False)["n"].transform("max")
    is_item_label = counts["label"].to_numpy(dtype=object) == labels[counts["item_id"]].to_numpy(dtype=object)
    pairs = counts[["item_id", "view"]]
    n_views = pairs.drop_duplicates().groupby("item_id").size()
    n_agreeing = pairs[is_item_label & (counts["n"] == highest).to_numpy()].groupby("item_id").size()
    disagreeing = n_views.index[n_agreeing.reindex(n_views.index, fill_value=0) < n_views]
    return pd.Series(~labels.index.isin(disagreeing), index=labels.index)


def best_of_each_class(score: pd.Series, labels: pd.DataFrame, fraction: float | Mapping[str, float]) -> pd.DataFrame:
    """Keep the labels of each class with the highest scores.

    The number is rounded up, so that no class with a score is lost. Ties go to the lower item_id. What has no label
    or no score (NaN) is not kept and does not count.

    Args:
        score: The score of each item's label, indexed by item_id; NaN where it has none.
        labels: The labels table, indexed alike.
        fraction: The share of each class's labels to keep, 0-1; or class -> share.

    Returns:
        `keep` and `score`, indexed like `labels`.
    """
    is_scored = (labels["label"].notna() & score.notna()).to_numpy()
    # A stable sort of what is in item_id order: ties fall the same way whatever order the items came in.
    by_id = np.argsort(labels.index.to_numpy(), kind="stable")
    by_id = by_id[is_scored[by_id]]
    order = by_id[np.argsort(-score.to_numpy()[by_id], kind="stable")]
    code, names = pd.factorize(labels["label"].to_numpy()[order])
    share = np.array([fraction[name] if isinstance(fraction, Mapping) else fraction for name in names], dtype=float)
    count = np.ceil(share * np.bincount(code, minlength=len(names)) - 1e-9)
    keep = np.zeros(len(labels), dtype=bool)
    keep[order[pd.Series(code).groupby(code).cumcount().to_numpy() < count[code]]] = True
    return pd.DataFrame({"keep": keep, "score": score.where(is_scored)}, index=labels.index)


def class_score_of_label(votes: pd.DataFrame, labels: pd.DataFrame, task: Task) -> pd.Series:
    """Look up each item's class score (`silvertune.votes.class_scores`) of its label.

    Args:
        votes: The votes.
        labels: The labels table, indexed by item_id.
        task: The task, for its classes.

    Returns:
        The scores, 0-1, indexed like `labels`; NaN where an item has no label or no score.
    """
    scores = class_scores(votes, task.classes).reindex(labels.index)
    return score_of_label(scores, labels["label"]).round(12)  # a tie stays one, whatever the order of summing


def rounded_up(count: float) -> int:
    """Round up to a whole number, but .07 x 100, which is a hair above 7, to 7."""
    return int(np.ceil(count - 1e-9))
