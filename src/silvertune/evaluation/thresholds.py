"""Rules for the probability from which on an item is predicted as positive.

No rule sees gold: what is chosen on the validation set is chosen on its *silver* labels.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.schema import Task
from silvertune.stats.class_shares import calibrated, calibration, saerens_em
from silvertune.votes import prob_columns

RULES = ("half", "validation", "shift_corrected")
"""One half; the best F1 on validation; one half after a correction for the class shares of the test items."""


@dataclass(frozen=True)
class Decided:
    """The labels of the test items by each rule.

    Attributes:
        labels: item_id x rule.
        thresholds: Rule -> probability of the positive class, 0-1; empty without a positive class of two.
        shares: Class -> its share among the test items by the correction, 0-1; empty where no correction is possible.
    """

    labels: pd.DataFrame
    thresholds: dict[str, float]
    shares: dict[str, float]


def decided(test: pd.DataFrame, validation: pd.DataFrame, silver: pd.Series, task: Task) -> Decided:
    """Label the test items by every rule that the validation set allows.

    `half` predicts the positive class from 0.5 on, or the most probable class where there is no positive one.
    `validation` takes the threshold with the highest F1 on the validation set (`best_f1`); it needs a positive class.
    `shift_corrected` takes 0.5 after a correction for the class shares of the test items (calibration on the validation
    set, then EM by Saerens et al. 2002). The last two need every class among the validation labels.

    Args:
        test: `prob:<class>` of the test items, indexed by item_id.
        validation: The same of the validation items; may be empty.
        silver: The silver labels of the validation items, by item_id.
        task: The task.

    Returns:
        The labels, thresholds and class shares. A rule that is not possible is left out.
    """
    classes = list(task.classes)
    probs = test[prob_columns(classes)].to_numpy(dtype=float)
    labelled_ids = validation.index[validation.index.isin(silver.index)]
    labels = silver[labelled_ids].to_numpy(dtype=object)
    has_every_class = set(classes) <= set(labels)
    scale, bias, shift = 1.0, np.zeros(len(classes)), np.zeros(len(classes))
    estimated_shares: dict[str, float] = {}
    if has_every_class:
        held_out = validation.loc[labelled_ids, prob_columns(classes)].to_numpy(dtype=float)
        label_codes = np.array([classes.index(label) for label in labels])
        scale, bias = calibration(held_out, label_codes)
        source = np.bincount(label_codes, minlength=len(classes)) / len(label_codes)
        target = pd.DataFrame(calibrated(probs, scale, bias), columns=classes)
        estimated_shares = saerens_em(target, dict(zip(classes, source, strict=True))) if len(target) else {}
        shares = np.array(
            [estimated_shares.get(name, share) for name, share in zip(classes, source, strict=True)]
        ).clip(1e-6)
        shift = np.log(shares) - np.log(source)
    if task.positive is None or len(classes) != 2:
        corrected = calibrated(probs, scale, bias) * np.exp(shift)
        by_rule = {"half": probs} | ({"shift_corrected": corrected} if has_every_class else {})
        names = np.asarray(classes, dtype=object)
        return Decided(
            pd.DataFrame({rule: names[values.argmax(axis=1)] for rule, values in by_rule.items()}, index=test.index),
            {},
            estimated_shares,
        )
    k = classes.index(task.positive)
    thresholds = {"half": 0.5}
    if has_every_class:
        thresholds["validation"] = best_f1(held_out[:, k], labels == task.positive)
        offset = (bias + shift)[k] - (bias + shift)[1 - k]
        thresholds["shift_corrected"] = float(1 / (1 + np.exp(np.clip(offset / scale, -30, 30))))
    negative = classes[1 - k]
    labels_by_rule = {
        rule: np.where(probs[:, k] >= threshold, task.positive, negative) for rule, threshold in thresholds.items()
    }
    return Decided(pd.DataFrame(labels_by_rule, index=test.index, dtype=object), thresholds, estimated_shares)


def best_f1(score: np.ndarray, positive: np.ndarray) -> float:
    """Find the threshold with the highest F1.

    Args:
        score: (n,) 0-1.
        positive: (n,) bool, some of them true.

    Returns:
        The threshold, half way between the two scores that it separates; of several equally good ones the nearest to
        0.5; 0.5 if all scores are equal.
    """
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(positive[order])
    ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    f1 = 2 * hits[ends] / (ends + 1 + positive.sum())
    below = np.append(ranked[ends[1:]] if len(ends) > 1 else [], 0.0)
    halfway = (ranked[ends] + below) / 2
    cuts = np.where(halfway > below, halfway, ranked[ends])  # no number lies between neighbouring floats
    if len(ends) == 1:
        return 0.5
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(cuts[best[np.abs(cuts[best] - 0.5).argmin()]])
