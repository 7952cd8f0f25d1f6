"""From which probability on an item is called positive: one half, chosen on validation, or corrected for shift.

None of them sees gold: what is chosen on the validation set is chosen on its *silver* labels.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.schema import Task
from silvertune.stats.class_shares import calibrated, calibration, saerens_em
from silvertune.votes import prob_columns

RULES = ("half", "validation", "shift_corrected")


@dataclass(frozen=True)
class Decided:
    """labels: item_id x rule. thresholds: rule -> probability of the positive class; empty for several classes.

    shares: class -> its share among the test items by the correction; empty without a validation set.
    """

    labels: pd.DataFrame
    thresholds: dict[str, float]
    shares: dict[str, float]


def decided(test: pd.DataFrame, validation: pd.DataFrame, silver: pd.Series, task: Task) -> Decided:
    """The labels of `test` by every rule that the validation set (which may be empty) allows.

    test, validation: indexed by item_id, with `prob:<class>` columns. silver: validation labels, by item_id.
    half: the positive class from 0.5 on; the most probable where there is no positive class.
    validation: from the threshold with the highest F1 on the validation set on (`best_f1`).
    shift_corrected: 0.5 after correction for the test items' own class shares (`calibration`; EM, Saerens et al. 2002).
    A rule is left out where it can't be had: `validation` needs a positive class, both need every class in
    the validation set.
    """
    classes = list(task.classes)
    probs = test[prob_columns(classes)].to_numpy(dtype=float)
    known = validation.index[validation.index.isin(silver.index)]
    labels = silver[known].to_numpy(dtype=object)
    complete = set(classes) <= set(labels)
    scale, bias, shift = 1.0, np.zeros(len(classes)), np.zeros(len(classes))
    found: dict[str, float] = {}
    if complete:
        held_out = validation.loc[known, prob_columns(classes)].to_numpy(dtype=float)
        given = np.array([classes.index(label) for label in labels])
        scale, bias = calibration(held_out, given)
        source = np.bincount(given, minlength=len(classes)) / len(given)
        target = pd.DataFrame(calibrated(probs, scale, bias), columns=classes)
        found = saerens_em(target, dict(zip(classes, source, strict=True))) if len(target) else {}
        shares = np.array([found.get(name, share) for name, share in zip(classes, source, strict=True)]).clip(1e-6)
        shift = np.log(shares) - np.log(source)
    if task.positive is None or len(classes) != 2:
        corrected = calibrated(probs, scale, bias) * np.exp(shift)
        by_rule = {"half": probs} | ({"shift_corrected": corrected} if complete else {})
        names = np.asarray(classes, dtype=object)
        return Decided(
            pd.DataFrame({rule: names[values.argmax(axis=1)] for rule, values in by_rule.items()}, index=test.index),
            {},
            found,
        )
    k = classes.index(task.positive)
    thresholds = {"half": 0.5}
    if complete:
        thresholds["validation"] = best_f1(held_out[:, k], labels == task.positive)
        offset = (bias + shift)[k] - (bias + shift)[1 - k]
        thresholds["shift_corrected"] = float(1 / (1 + np.exp(np.clip(offset / scale, -30, 30))))
    negative = classes[1 - k]
    called = {
        rule: np.where(probs[:, k] >= threshold, task.positive, negative) for rule, threshold in thresholds.items()
    }
    return Decided(pd.DataFrame(called, index=test.index, dtype=object), thresholds, found)


def best_f1(score: np.ndarray, positive: np.ndarray) -> float:
    """The threshold with the highest F1: half way between the two scores that it separates, 0.5 if all are equal.

    score: (n,), 0-1. positive: (n,) bool, some of them true. Among equals, the threshold nearest to 0.5.
    """
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(positive[order])
    ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    f1 = 2 * hits[ends] / (ends + 1 + positive.sum())
    below = np.append(ranked[ends[1:]] if len(ends) > 1 else [], 0.0)
    halfway = (ranked[ends] + below) / 2
    cuts = np.where(halfway > below, halfway, ranked[ends])  # nothing lies between neighbouring floats
    if len(ends) == 1:
        return 0.5
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(cuts[best[np.abs(cuts[best] - 0.5).argmin()]])
