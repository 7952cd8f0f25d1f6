"""Filters by how a student takes to a label while it is tuned on the noisy labels."""

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.filters.selection import at_least_or_top, best_of_each_class, one_of, within
from silvertune.votes import one_hot


def small_loss(
    labels: pd.DataFrame, training_dynamics: pd.DataFrame, *, fraction: float, last_epoch: int | None, per_class: bool
) -> pd.DataFrame:
    """Keep the labels that the student has the smallest loss on: networks learn clean labels first.

    Source: Arpit et al. 2017 ("A closer look at memorization"); the selection of Han et al. 2018 ("Co-teaching"),
    section 2, with the loss averaged over the epochs.
    fraction: of all labels (0-1) to keep; usual 1 - the noise that is guessed at, or .5-.8.
    last_epoch: average over the epochs up to this one (0 is the first), before the student memorises; null: all.
    per_class: of each class the fraction of its own labels; else one class may be crowded out.
    The score is minus the mean cross-entropy.
    Fails where the mistakes are systematic, so easy to learn; hard but right labels go first.
    """
    from scipy.special import softmax

    within("filter.small_loss.fraction", fraction)
    epochs = training_dynamics.index.get_level_values("epoch")
    if last_epoch is not None and last_epoch < 0:
        raise UserError(f"filter.small_loss.last_epoch={last_epoch}: want an epoch from 0, or null")
    early = training_dynamics if last_epoch is None else training_dynamics[epochs <= last_epoch]
    logits, own, item = _assigned(labels, early)
    score = _mean(np.log(softmax(logits, axis=1)[own].clip(1e-12)), item, labels.index)
    return best_of_each_class(score, labels, fraction) if per_class else _top(score, fraction, "filter.small_loss")


def aum(labels: pd.DataFrame, training_dynamics: pd.DataFrame, *, drop: float, per_class: bool) -> pd.DataFrame:
    """Keep labels with a large area under the margin.

    Source: Pleiss et al. 2020 ("Identifying mislabeled data using the area under the margin ranking"), section 3: the
    mean over the epochs of the logit of the label less the highest other logit. The paper takes the threshold from
    samples of a made-up class, which need a tuning of their own; here the lowest `drop` of the labels go.
    drop: the share (0-1) of labels to drop; usual: the noise that is guessed at, .1-.4.
    per_class: of each class that share of its own labels; else a rare class may be dropped whole.
    The score is the AUM, in logits.
    Fails as `small_loss` does; it is less taken in by labels that were learned late.
    """
    within("filter.aum.drop", drop)
    logits, own, item = _assigned(labels, training_dynamics)
    others = np.where(own, -np.inf, logits).max(axis=1, initial=-np.inf)
    score = _mean(logits[own] - others, item, labels.index)
    return best_of_each_class(score, labels, 1 - drop) if per_class else _top(score, 1 - drop, "filter.aum")


def cartography(
    labels: pd.DataFrame, training_dynamics: pd.DataFrame, *, region: str, fraction: float, per_class: bool
) -> pd.DataFrame:
    """Keep a region of the data map: mean and spread over the epochs of the probability of the label.

    Source: Swayamdipta et al. 2020 ("Dataset cartography"), section 2.
    region: `easy` (highest mean) or `ambiguous` (highest standard deviation). The hard-to-learn, of the lowest mean,
        are those that are often wrong (section 5 there).
    fraction: of the labels (0-1) in the region: the paper's third, or, to leave out the hard ones, .7-.9 of the `easy`.
    per_class: of each class that fraction of its own labels.
    The score is the mean probability, or its standard deviation where the region is `ambiguous`.
    Fails where the student does not change from epoch to epoch, and `easy` keeps what teaches least.
    """
    from scipy.special import softmax

    one_of("filter.cartography.region", region, ("easy", "ambiguous"))
    within("filter.cartography.fraction", fraction)
    logits, own, item = _assigned(labels, training_dynamics)
    probability = softmax(logits, axis=1)[own]
    score = _mean(probability, item, labels.index)
    if region == "ambiguous":
        squared = _mean((probability - score.reindex(item).to_numpy()) ** 2, item, labels.index)
        score = np.sqrt(squared)
    return best_of_each_class(score, labels, fraction) if per_class else _top(score, fraction, "filter.cartography")


def _assigned(labels: pd.DataFrame, dynamics: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, pd.Index]:
    """Logits, which of them is that of the item's label, and the item of each row, in one order whatever came in."""
    known = labels.index[labels["label"].notna()]
    rows = dynamics[dynamics.index.get_level_values("item_id").isin(known)].sort_index()
    item = rows.index.get_level_values("item_id")
    return rows.to_numpy(dtype=float), one_hot(labels["label"].reindex(item), list(rows.columns)), item


def _mean(values: np.ndarray, item: pd.Index, index: pd.Index) -> pd.Series:
    return pd.Series(values, index=item, dtype=float).groupby(level=0).mean().reindex(index)


def _top(score: pd.Series, fraction: float, key: str) -> pd.DataFrame:
    return at_least_or_top(score, None, fraction, key)
