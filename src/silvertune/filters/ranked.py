"""Filters that rank the labels of each class by the labeler's scores."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from silvertune.errors import UserError, check_choice, check_number
from silvertune.filters.selection import best_of_each_class, class_score_of_label, rounded_up, views_agree
from silvertune.schema import Task
from silvertune.stats import class_shares
from silvertune.votes import class_scores

ESTIMATORS = ("mixture", "saerens_em", "bbse")
"""Methods that estimate class shares without gold."""


def top_k_per_class(
    votes: pd.DataFrame,
    labels: pd.DataFrame,
    task: Task,
    out_of_fold: Callable[[pd.Series], pd.DataFrame],
    *,
    fraction: float,
    shares: str | Mapping[str, float],
) -> pd.DataFrame:
    """Keep, of each class, the labels with the highest scores, in the proportions of the population.

    Of n labels, the `fraction x share of the class x n` (rounded up, at least one) with the highest class score (mean
    over the votes, `silvertune.votes.class_scores`) are kept, or all where there are fewer.

    Source: class-balanced self-training (Zou et al. 2018, "Unsupervised domain adaptation for semantic segmentation
    via class-balanced self-training", section 4.2), with the population's shares for its quotas.

    Args:
        votes: The votes on the training pool, one a row.
        labels: The aggregated labels, indexed by item_id.
        task: The task, for its classes.
        out_of_fold: A function that tunes students on the labels that it gets and predicts all items, each by a
            student that never saw the item's group.
        fraction: How much of the population to keep, 0-1, above 0; usual .5.
        shares: Class -> share of the population; or a method that estimates it without gold
            (`silvertune.stats.class_shares`): `mixture` (usual) from the scores; `saerens_em` or `bbse` from a student
            of the labels that the views agree on.

    Returns:
        `keep`, and as `score` the class score of the label, 0-1.

    Raises:
        UserError: If a setting is outside its range, or the shares can't be estimated.

    Fails where the shares are wrong: too large a share fills a class with its doubtful labels.
    """
    key = "filter.top_k_per_class.shares"
    check_number("filter.top_k_per_class.fraction", fraction, most=1, above=True)
    if isinstance(shares, str):
        check_choice(key, shares, (*ESTIMATORS, f"a share for each of {', '.join(task.classes)}"))
    else:
        share_by_class = class_shares.checked_shares(shares, task.classes, key)
    labelled = labels[labels["label"].notna()]
    if labelled.empty:
        return pd.DataFrame({"keep": False, "score": np.nan}, index=labels.index)
    scores = class_scores(votes[votes["item_id"].isin(labelled.index)], task.classes).reindex(labelled.index)
    if isinstance(shares, str):
        try:
            share_by_class = _estimated_shares(shares, votes, labelled["label"], scores, out_of_fold)
        except UserError as error:
            raise UserError(f"{key}={shares}: {error}") from None
    keep = pd.Series(False, index=labels.index)
    score = pd.Series(np.nan, index=labels.index)
    for name, share in share_by_class.items():
        class_score = scores.loc[labelled["label"] == name, name]
        score[class_score.index] = class_score
        # A stable sort on a table in item_id order: ties fall the same way whatever order the items came in.
        ranked = class_score.sort_index().sort_values(ascending=False, kind="stable")
        keep[ranked.index[: max(rounded_up(fraction * share * len(labelled)), 1)]] = True
    return pd.DataFrame({"keep": keep, "score": score})


def _estimated_shares(
    method: str,
    votes: pd.DataFrame,
    labels: pd.Series,
    scores: pd.DataFrame,
    out_of_fold: Callable[[pd.Series], pd.DataFrame],
) -> dict[str, float]:
    """The share of each class among the labelled items, by one of ESTIMATORS."""
    if method == "mixture":
        return class_shares.mixture(scores, labels)
    agreed = labels[views_agree(votes, labels)]
    probs = out_of_fold(agreed).groupby(level="item_id").mean().reindex(columns=scores.columns)
    return class_shares.by_student(method, probs[probs.index.isin(labels.index)], agreed)


def quantile_per_class(
    votes: pd.DataFrame, labels: pd.DataFrame, task: Task, *, fraction: float | Mapping[str, float]
) -> pd.DataFrame:
    """Keep, of each class, the same fraction of its labels: those with the highest scores.

    The scores are class scores (`silvertune.votes.class_scores`). Ties go to the lower item_id.

    Source: class-balanced self-training (Zou et al. 2018, section 4.2: one threshold a class, so that each keeps
    the same portion).

    Args:
        votes: The votes on the training pool, one a row.
        labels: The aggregated labels, indexed by item_id.
        task: The task, for its classes.
        fraction: The share of each class's labels to keep, 0-1, above 0; or class -> share. Usual: .2-.8.

    Returns:
        `keep`, and as `score` the class score of the label, 0-1.

    Raises:
        UserError: If a fraction is outside its range, or a class has none.

    Fails where the labeler over-calls a class: the proportions among the labels stay as wrong as they were
    (`top_k_per_class` corrects them, if it has the right shares).
    """
    fractions = fraction if isinstance(fraction, Mapping) else dict.fromkeys(task.classes, fraction)
    if set(fractions) != set(task.classes):
        classes = ", ".join(task.classes)
        raise UserError(f"filter.quantile_per_class.fraction={dict(fractions)}: want one for each of {classes}")
    for value in fractions.values():
        check_number("filter.quantile_per_class.fraction", value, most=1, above=True)
    return best_of_each_class(class_score_of_label(votes, labels, task), labels, fractions)
