"""Filters that rank the labels of each class by the labeler's scores."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.filters.selection import best_of_each_class, one_of, up, views_agree, within
from silvertune.schema import Task
from silvertune.stats import class_shares
from silvertune.votes import class_scores, score_of_label

ESTIMATORS = ("mixture", "saerens_em", "bbse")


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

    Source: class-balanced self-training (Zou et al. 2018, "Unsupervised domain adaptation for semantic segmentation
    via class-balanced self-training", section 4.2), with the population's shares for its quotas.

    Of class c, the `fraction x share_c x n` labels (rounded up, at least one) with the highest class score (mean
    over the votes, `silvertune.votes.class_scores`) are kept, or all where there are fewer.
    fraction: how much of the population to keep (0-1].
    shares: class -> share of the population; or how to estimate it without gold (`silvertune.stats.class_shares`):
        `mixture` from the scores; `saerens_em` or `bbse` from a student of the labels that the views agree on.
    Fails where the shares are wrong: too large a share fills a class with its doubtful labels.
    """
    key = "filter.top_k_per_class.shares"
    within("filter.top_k_per_class.fraction", fraction, above_zero=True)
    if isinstance(shares, str):
        one_of(key, shares, (*ESTIMATORS, f"a share for each of {', '.join(task.classes)}"))
    else:
        wanted = class_shares.given(shares, task.classes, key)
    labelled = labels[labels["label"].notna()]
    if labelled.empty:
        return pd.DataFrame({"keep": False, "score": np.nan}, index=labels.index)
    scores = class_scores(votes[votes["item_id"].isin(labelled.index)], task.classes).reindex(labelled.index)
    if isinstance(shares, str):
        try:
            wanted = _estimated(shares, votes, labelled["label"], scores, out_of_fold)
        except UserError as error:
            raise UserError(f"{key}={shares}: {error}") from None
    keep = pd.Series(False, index=labels.index)
    score = pd.Series(np.nan, index=labels.index)
    for name, share in wanted.items():
        own = scores.loc[labelled["label"] == name, name]
        score[own.index] = own
        # A stable sort on a table in item_id order: ties fall the same way whatever order the items came in.
        ranked = own.sort_index().sort_values(ascending=False, kind="stable")
        keep[ranked.index[: max(up(fraction * share * len(labelled)), 1)]] = True
    return pd.DataFrame({"keep": keep, "score": score})


def _estimated(
    method: str,
    votes: pd.DataFrame,
    labels: pd.Series,
    scores: pd.DataFrame,
    out_of_fold: Callable[[pd.Series], pd.DataFrame],
) -> dict[str, float]:
    """The classes' shares among the labelled items, by one of ESTIMATORS."""
    if method == "mixture":
        return class_shares.mixture(scores, labels)
    agreed = labels[views_agree(votes, labels)]
    probs = out_of_fold(agreed).groupby(level="item_id").mean().reindex(columns=scores.columns)
    return class_shares.by_student(method, probs[probs.index.isin(labels.index)], agreed)


def quantile_per_class(
    votes: pd.DataFrame, labels: pd.DataFrame, task: Task, *, fraction: float | Mapping[str, float]
) -> pd.DataFrame:
    """Keep, of each class, the same fraction of its labels: those with the highest scores.

    Source: class-balanced self-training (Zou et al. 2018, section 4.2: one threshold a class, so that each keeps
    the same portion).
    fraction: of each class's own labels (0-1], or class -> fraction. Usual: .2-.8. Scores are the class scores of
        `silvertune.votes.class_scores`; ties go to the lower item_id.
    Fails where the labeler over-calls a class: the proportions among the labels stay as wrong as they were
    (`top_k_per_class` corrects them, if it is told the right shares).
    """
    shares = fraction if isinstance(fraction, Mapping) else dict.fromkeys(task.classes, fraction)
    if set(shares) != set(task.classes):
        raise UserError(f"filter.quantile_per_class.fraction={dict(shares)}: want one for each of {task.classes}")
    for value in shares.values():
        within("filter.quantile_per_class.fraction", value, above_zero=True)
    return best_of_each_class(own_score(votes, labels, task), labels, shares)


def own_score(votes: pd.DataFrame, labels: pd.DataFrame, task: Task) -> pd.Series:
    """Each item's class score (`silvertune.votes.class_scores`) of its own label; NaN where it has none."""
    scores = class_scores(votes, task.classes).reindex(labels.index)
    return score_of_label(scores, labels["label"]).round(12)  # a tie stays one, however it was summed
