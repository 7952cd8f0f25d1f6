"""Filters by the labeler's scores. They calibrate nothing: a threshold means what the labeler's scores mean."""

import numpy as np
import pandas as pd

from silvertune.errors import check_number
from silvertune.filters.selection import at_least_or_top
from silvertune.schema import Task
from silvertune.votes import class_scores, one_hot, score_of_label


def confidence(labels: pd.DataFrame, *, at_least: float | None, top: float | None) -> pd.DataFrame:
    """Keep labels whose confidence is high.

    A label without a confidence is not kept.

    Source: selective classification by softmax response (Geifman & El-Yaniv 2017, "Selective classification for
    deep neural networks").

    Args:
        labels: The aggregated labels, indexed by item_id.
        at_least: The lowest confidence (0-1) to keep; the aggregation says what it means. If it is null, `top` decides.
        top: The fraction (0-1) of all labels to keep, the most confident; all ties at the cut are kept. Usual: .5-.8.

    Returns:
        `keep`, and as `score` the confidence.

    Raises:
        UserError: If both settings are null, or one is outside its range.

    Fails where high confidence is a stable bias, and with `top` where one class is the more confident: it then crowds
    the other out (`quantile_per_class` does not).
    """
    score = labels["confidence"].where(labels["label"].notna())
    return at_least_or_top(score, at_least, top, "filter.confidence")


def margin(
    votes: pd.DataFrame, labels: pd.DataFrame, task: Task, *, at_least: float | None, top: float | None
) -> pd.DataFrame:
    """Keep labels whose class score is well above that of the next class.

    The score is the class score (`silvertune.votes.class_scores`) of the item's label less the highest other one. It
    is negative, and below every threshold, where the aggregation overruled the mean of the votes, as an OR does.

    Source: Scheffer, Decomain & Wrobel 2001 ("Active hidden Markov models for information extraction": the margin
    of the two most likely classes); Settles 2009 ("Active learning literature survey"), section 3.1.

    Args:
        votes: The votes on the training pool, one a row.
        labels: The aggregated labels, indexed by item_id.
        task: The task, for its classes.
        at_least: The lowest margin (0-1) to keep. If it is null, `top` decides.
        top: The fraction (0-1) of all labels to keep, those with the largest margins. Usual: .5-.8.

    Returns:
        `keep`, and as `score` the margin, from -1 to 1.

    Raises:
        UserError: If both settings are null, or one is outside its range.

    Fails where `confidence` does; with two classes and one vote an item it orders the labels as `confidence` does.
    """
    scores = class_scores(votes, task.classes).reindex(labels.index)
    others = np.where(one_hot(labels["label"], task.classes), -np.inf, scores).max(axis=1, initial=-np.inf)
    # Rounded, so that a tie stays one whatever order the votes were summed in.
    return at_least_or_top((score_of_label(scores, labels["label"]) - others).round(12), at_least, top, "filter.margin")


def entropy(
    votes: pd.DataFrame, labels: pd.DataFrame, task: Task, *, at_least: float | None, top: float | None
) -> pd.DataFrame:
    """Keep labels of items whose votes favour one class clearly, whichever class that is.

    The score is 1 less the entropy of `silvertune.votes.class_scores` over log(number of classes): 1 is certain, 0 is
    even.

    Source: Settles 2009 ("Active learning literature survey"), section 3.1 (entropy as uncertainty).

    Args:
        votes: The votes on the training pool, one a row.
        labels: The aggregated labels, indexed by item_id.
        task: The task, for its classes.
        at_least: The lowest score (0-1) to keep. If it is null, `top` decides.
        top: The fraction (0-1) of all labels to keep, those with the highest scores. Usual: .5-.8.

    Returns:
        `keep` and `score` (0-1).

    Raises:
        UserError: If both settings are null, or one is outside its range.

    Fails where one class is the more certain, as `confidence` does. It does not look at the label: it keeps one that
    the aggregation took against certain votes (`margin` does not).
    """
    scores = class_scores(votes, task.classes).reindex(labels.index).to_numpy()
    logs = np.log(scores, out=np.zeros_like(scores), where=scores > 0)
    certainty = 1 + (scores * logs).sum(axis=1) / np.log(len(task.classes))
    score = pd.Series(certainty.round(12), labels.index).where(labels["label"].notna())
    return at_least_or_top(score.clip(0, 1), at_least, top, "filter.entropy")


def confidence_weighted(labels: pd.DataFrame, *, floor: float) -> pd.DataFrame:
    """Keep every label and weigh it by its confidence: soft labels for a student that takes weights only.

    A label without a confidence weighs as little as the least confident one. Where none has one, all weigh 1.

    Source: common practice in self-training; no one paper.

    Args:
        labels: The aggregated labels, indexed by item_id.
        floor: The lowest weight, 0-1. Usual: 0.

    Returns:
        `keep`, as `score` the confidence, and `weight`.

    Raises:
        UserError: If `floor` is outside its range.

    Fails where the confidences are alike, or mean nothing: it then does nothing, or harm.
    """
    check_number("filter.confidence_weighted.floor", floor, most=1)
    confidences = labels["confidence"]
    weight = confidences.fillna(confidences.min()).fillna(1.0).clip(lower=floor)
    return pd.DataFrame({"keep": labels["label"].notna(), "score": confidences, "weight": weight})
