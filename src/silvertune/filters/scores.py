"""Filters by the labeler's own scores. Nothing is calibrated here: thresholds mean what the labeler's scores mean."""

import numpy as np
import pandas as pd

from silvertune.filters.selection import at_least_or_top, within
from silvertune.schema import Task
from silvertune.votes import class_scores, one_hot, score_of_label


def confidence(labels: pd.DataFrame, *, at_least: float | None, top: float | None) -> pd.DataFrame:
    """Keep labels whose confidence is high.

    Source: selective classification by softmax response (Geifman & El-Yaniv 2017, "Selective classification for
    deep neural networks").
    at_least: keep those with at least this confidence (0-1); its meaning is the aggregation's. Or, where it is null,
    top: keep this fraction (0-1) of all labels, the most confident; ties at the cut are all kept. Usual: .5-.8.
    A label without a confidence is not kept.
    Fails where confidence is stable bias, and with `top` where one class is the more confident: it then
    crowds the other out (`quantile_per_class` does not).
    """
    score = labels["confidence"].where(labels["label"].notna())
    return at_least_or_top(score, at_least, top, "filter.confidence")


def margin(
    votes: pd.DataFrame, labels: pd.DataFrame, task: Task, *, at_least: float | None, top: float | None
) -> pd.DataFrame:
    """Keep labels whose class score is well above the next class's.

    Source: Scheffer, Decomain & Wrobel 2001 ("Active hidden Markov models for information extraction": the margin
    of the two most likely classes); Settles 2009 ("Active learning literature survey"), section 3.1. Here it is the
    score of the item's label less the highest other one, by `silvertune.votes.class_scores`: negative where the
    aggregation overruled the mean of the votes (an OR does), and then below every threshold.
    at_least: keep margins from this on (0-1); or, where it is null, top: keep this fraction (0-1) of all labels.
        Usual: top .5-.8.
    Fails as `confidence` does; with two classes and one vote an item it orders them as `confidence` does.
    """
    scores = class_scores(votes, task.classes).reindex(labels.index)
    others = np.where(one_hot(labels["label"], task.classes), -np.inf, scores).max(axis=1, initial=-np.inf)
    # Rounded, so that a tie stays one whatever order the votes were summed in.
    return at_least_or_top((score_of_label(scores, labels["label"]) - others).round(12), at_least, top, "filter.margin")


def entropy(
    votes: pd.DataFrame, labels: pd.DataFrame, task: Task, *, at_least: float | None, top: float | None
) -> pd.DataFrame:
    """Keep labels of items whose votes are decided between the classes, whatever they say.

    Source: Settles 2009 ("Active learning literature survey"), section 3.1 (entropy as uncertainty). The score is 1
    less the entropy of `silvertune.votes.class_scores` over log(number of classes): 1 is certain, 0 is even.
    at_least: keep scores from this on (0-1); or, where it is null, top: keep this fraction (0-1) of all labels.
        Usual: top .5-.8.
    Fails where one class is the more certain, as `confidence` does. It does not look at the label: one that the
    aggregation took against certain votes is kept (`margin` does not).
    """
    scores = class_scores(votes, task.classes).reindex(labels.index).to_numpy()
    logs = np.log(scores, out=np.zeros_like(scores), where=scores > 0)
    certainty = 1 + (scores * logs).sum(axis=1) / np.log(len(task.classes))
    score = pd.Series(certainty.round(12), labels.index).where(labels["label"].notna())
    return at_least_or_top(score.clip(0, 1), at_least, top, "filter.entropy")


def confidence_weighted(labels: pd.DataFrame, *, floor: float) -> pd.DataFrame:
    """Keep every label and weigh it by its confidence: soft labels for a student that takes weights only.

    Source: common practice in self-training; no one paper.
    floor: weights are at least this (0-1). Usual: 0.
    A label without a confidence weighs as little as the least confident one; where none has one, all weigh 1.
    Fails where the confidences are alike, or mean nothing: it then does nothing, or harm.
    """
    within("filter.confidence_weighted.floor", floor)
    known = labels["confidence"]
    weight = known.fillna(known.min()).fillna(1.0).clip(lower=floor)
    return pd.DataFrame({"keep": labels["label"].notna(), "score": labels["confidence"], "weight": weight})
