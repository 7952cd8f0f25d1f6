"""Filters by how the student's prediction of a label changes while it is tuned on the noisy labels."""

import numpy as np
import pandas as pd

from silvertune.errors import check_choice, check_number, check_whole_number
from silvertune.filters.selection import at_least_or_top, best_of_each_class
from silvertune.votes import one_hot


def small_loss(
    labels: pd.DataFrame, training_dynamics: pd.DataFrame, *, fraction: float, last_epoch: int | None, per_class: bool
) -> pd.DataFrame:
    """Keep the labels that the student has the smallest loss on: networks learn clean labels first.

    Source: Arpit et al. 2017 ("A closer look at memorization"); the selection of Han et al. 2018 ("Co-teaching"),
    section 2, with the loss averaged over the epochs.

    Args:
        labels: The aggregated labels, indexed by item_id.
        training_dynamics: The student's logits, (item_id, epoch) x class.
        fraction: The share (0-1) of the labels to keep; usual: 1 less the noise that you expect, or .5-.8.
        last_epoch: The last epoch to average over (0 is the first), before the student memorises; null: all epochs.
        per_class: Whether to keep this share of each class's labels. Otherwise one class may be crowded out.

    Returns:
        `keep`, and as `score` minus the mean cross-entropy.

    Raises:
        UserError: If a setting is outside its range.

    Fails where the mistakes are systematic, and so easy to learn; it drops labels that are hard but right first.
    """
    from scipy.special import softmax

    check_number("filter.small_loss.fraction", fraction, most=1)
    if last_epoch is not None:
        check_whole_number("filter.small_loss.last_epoch", last_epoch, 0)
    epochs = training_dynamics.index.get_level_values("epoch")
    early = training_dynamics if last_epoch is None else training_dynamics[epochs <= last_epoch]
    logits, is_label, item = _logits(labels, early)
    score = _mean_by_item(np.log(softmax(logits, axis=1)[is_label].clip(1e-12)), item, labels.index)
    return _best(score, labels, fraction, per_class, "filter.small_loss")


def aum(labels: pd.DataFrame, training_dynamics: pd.DataFrame, *, drop: float, per_class: bool) -> pd.DataFrame:
    """Keep labels with a large area under the margin.

    The area is the mean over the epochs of the logit of the label less the highest other logit. The paper takes its
    threshold from samples of an artificial class, which need a tuning of their own; this filter drops a fixed share.

    Source: Pleiss et al. 2020 ("Identifying mislabeled data using the area under the margin ranking"), section 3.

    Args:
        labels: The aggregated labels, indexed by item_id.
        training_dynamics: The student's logits, (item_id, epoch) x class.
        drop: The share (0-1) of the labels to drop, those with the smallest area; usual: the noise that you expect,
            .1-.4.
        per_class: Whether to drop this share of each class's labels. Otherwise a rare class may be lost.

    Returns:
        `keep`, and as `score` the area under the margin, in logits.

    Raises:
        UserError: If a setting is outside its range.

    Fails where `small_loss` does; labels that were learned late mislead it less.
    """
    check_number("filter.aum.drop", drop, most=1)
    logits, is_label, item = _logits(labels, training_dynamics)
    others = np.where(is_label, -np.inf, logits).max(axis=1, initial=-np.inf)
    score = _mean_by_item(logits[is_label] - others, item, labels.index)
    return _best(score, labels, 1 - drop, per_class, "filter.aum")


def cartography(
    labels: pd.DataFrame, training_dynamics: pd.DataFrame, *, region: str, fraction: float, per_class: bool
) -> pd.DataFrame:
    """Keep a region of the data map: mean and spread over the epochs of the probability of the label.

    Source: Swayamdipta et al. 2020 ("Dataset cartography"), section 2.

    Args:
        labels: The aggregated labels, indexed by item_id.
        training_dynamics: The student's logits, (item_id, epoch) x class.
        region: `easy` (highest mean) or `ambiguous` (highest standard deviation). The hard-to-learn items, those with
            the lowest mean, are often labelled wrong (section 5 of the paper).
        fraction: The share (0-1) of the labels in the region; usual: .33 as in the paper, or .7-.9 of the `easy` ones
            to leave out the hard ones.
        per_class: Whether to keep this share of each class's labels.

    Returns:
        `keep`, and as `score` the mean probability, or its standard deviation for `ambiguous`.

    Raises:
        UserError: If a setting is outside its range.

    Fails where the student does not change from epoch to epoch; and `easy` keeps the labels that teach least.
    """
    from scipy.special import softmax

    check_choice("filter.cartography.region", region, ("easy", "ambiguous"))
    check_number("filter.cartography.fraction", fraction, most=1)
    logits, is_label, item = _logits(labels, training_dynamics)
    probability = softmax(logits, axis=1)[is_label]
    score = _mean_by_item(probability, item, labels.index)
    if region == "ambiguous":
        squared = _mean_by_item((probability - score.reindex(item).to_numpy()) ** 2, item, labels.index)
        score = np.sqrt(squared)
    return _best(score, labels, fraction, per_class, "filter.cartography")


def _logits(labels: pd.DataFrame, dynamics: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, pd.Index]:
    """Logits of the labelled items, which of them is that of the label, and each row's item, in a fixed order."""
    labelled = labels.index[labels["label"].notna()]
    rows = dynamics[dynamics.index.get_level_values("item_id").isin(labelled)].sort_index()
    item = rows.index.get_level_values("item_id")
    return rows.to_numpy(dtype=float), one_hot(labels["label"].reindex(item), list(rows.columns)), item


def _mean_by_item(values: np.ndarray, item: pd.Index, index: pd.Index) -> pd.Series:
    return pd.Series(values, index=item, dtype=float).groupby(level=0).mean().reindex(index)


def _best(score: pd.Series, labels: pd.DataFrame, fraction: float, per_class: bool, key: str) -> pd.DataFrame:
    if per_class:
        return best_of_each_class(score, labels, fraction)
    return at_least_or_top(score, None, fraction, key)
