"""Filters that learn from a small gold set what the labeler's scores are worth.

The set is evidence `calibration`: items of the training pool, drawn at random, whose gold label the config grants
(`evidence.calibration=100`) and the run counts as expert labels. Their own labels are kept exactly if they are right.
"""

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.filters.ranked import own_score
from silvertune.filters.selection import one_of, within
from silvertune.schema import Task
from silvertune.votes import class_scores, score_of_label


def calibrated_threshold(
    votes: pd.DataFrame, labels: pd.DataFrame, task: Task, calibration: pd.Series, *, method: str, precision: float
) -> pd.DataFrame:
    """Keep as many labels of each class as a calibrated score says can be kept at a target precision.

    Source: temperature scaling, Guo et al. 2017 ("On calibration of modern neural networks"), section 4.2; isotonic
    regression, Zadrozny & Elkan 2002 ("Transforming classifier scores into accurate multiclass probability
    estimates"), section 3.
    method: `isotonic` learns of each class how often a label with that score is right; it corrects bias, and wants
        some 30 calibration items a class. `temperature` learns one number, so few items do; it keeps the order of
        the classes' scores, and cannot correct a class that is over-called.
    precision: the mean calibrated probability (0-1) that the kept labels of each class are right; usual .9-.95.
    The score is the calibrated probability that the label is right.
    Fails where the calibration set is small: the precision is a point estimate, without a guarantee (`conformal`
    gives one), and a hopeful one, as the upper end of an isotonic fit rests on few items. A class that can't reach it
    is dropped whole, which the run then says. Raises UserError for a class with labels of which the calibration set
    has none.
    """
    one_of("filter.calibrated_threshold.method", method, ("temperature", "isotonic"))
    within("filter.calibrated_threshold.precision", precision)
    raw = own_score(votes, labels, task)
    known, right, rest = _calibrated_on(labels, calibration, "calibrated_threshold")
    if method == "temperature":
        scores = class_scores(votes, task.classes).reindex(labels.index).clip(1e-6)
        chance = _by_temperature(scores, calibration, labels)
    else:
        chance = pd.Series(np.nan, index=labels.index)
        for name in labels["label"].dropna().unique():
            own = labels.index[labels["label"] == name]
            chance[own] = _isotonic(raw[known.intersection(own)], right, raw[own])
    keep = pd.Series(False, index=labels.index)
    for name in labels["label"].dropna().unique():
        own = rest[labels.loc[rest, "label"] == name]
        ranked = pd.DataFrame({"chance": chance[own], "raw": raw[own]}).sort_index()
        ranked = ranked.sort_values(["chance", "raw"], ascending=False, kind="stable")
        mean = ranked["chance"].cumsum() / np.arange(1, len(ranked) + 1)
        keep[ranked.index[(mean >= precision - 1e-12).to_numpy()]] = True
    keep[known] = right[known]
    return pd.DataFrame({"keep": keep, "score": chance})


def conformal(
    votes: pd.DataFrame, labels: pd.DataFrame, task: Task, calibration: pd.Series, *, error: float
) -> pd.DataFrame:
    """Keep labels of each class such that, in expectation, at most a share `error` of those kept are wrong.

    Source: Jin & Candès 2023 ("Selection by prediction with conformal p-values"), algorithm 1, once a class: the
    p-value of a label is one more than the number of wrong calibration labels of its class with at least its score,
    over one more than all calibration labels of its class; the Benjamini-Hochberg procedure at `error` selects.
    error: the false discovery rate (0-1) of each class, over draws of the calibration set; usual .05-.2.
    The score is 1 - the p-value.
    Fails where the calibration set is small: no p-value is below 1/(n+1), so with n calibration labels of a class
    hardly anything is kept at an error below that. Raises UserError for a class with labels of which there are none.
    """
    within("filter.conformal.error", error)
    raw = own_score(votes, labels, task)
    known, right, rest = _calibrated_on(labels, calibration, "conformal")
    p_value = pd.Series(np.nan, index=labels.index)
    keep = pd.Series(False, index=labels.index)
    for name in labels["label"].dropna().unique():
        own = rest[labels.loc[rest, "label"] == name]
        of_class = known[labels.loc[known, "label"] == name]
        wrong = np.sort(raw[of_class[~right[of_class].to_numpy(dtype=bool)]].to_numpy())
        at_least = len(wrong) - np.searchsorted(wrong, raw[own].to_numpy(), side="left")
        p_value[own] = (1 + at_least) / (1 + len(of_class))
        ordered = np.sort(p_value[own].to_numpy())
        passing = np.flatnonzero(ordered <= error * np.arange(1, len(ordered) + 1) / max(len(ordered), 1) + 1e-12)
        keep[own] = p_value[own] <= (ordered[passing[-1]] if len(passing) else -1.0)
    keep[known] = right[known]
    return pd.DataFrame({"keep": keep, "score": 1 - p_value})


def _calibrated_on(labels: pd.DataFrame, calibration: pd.Series, name: str) -> tuple[pd.Index, pd.Series, pd.Index]:
    """The calibration items that have a label, whether it is right, and the other items that have one."""
    labelled = labels.index[labels["label"].notna()].sort_values()
    known = labelled[labelled.isin(calibration.index)]
    right = labels.loc[known, "label"] == calibration.reindex(known)
    there = set(labels.loc[known, "label"])
    if missing := sorted(set(labels.loc[labelled, "label"]) - there):
        raise UserError(
            f"filter.{name}: none of the {len(calibration)} calibration items is labelled {missing[0]!r}; "
            "raise evidence.calibration"
        )
    return known, right, labelled[~labelled.isin(known)]


def _by_temperature(scores: pd.DataFrame, calibration: pd.Series, labels: pd.DataFrame) -> pd.Series:
    """The probability of each item's label by the temperature under which the gold labels are likeliest."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logits = np.log(scores.to_numpy())
    gold = calibration[calibration.index.isin(scores.index[scores.notna().all(axis=1)])].sort_index()
    rows, columns = scores.index.get_indexer(gold.index), scores.columns.get_indexer(pd.Index(gold))

    def log_probs(log_temperature: float) -> np.ndarray:
        probs: np.ndarray = log_softmax(logits / np.exp(log_temperature), axis=1)
        return probs

    best = 0.0
    if len(gold):
        best = minimize_scalar(lambda t: -log_probs(t)[rows, columns].mean(), bounds=(-5, 5), method="bounded").x
    chance = pd.DataFrame(np.exp(log_probs(best)), index=scores.index, columns=scores.columns)
    return score_of_label(chance, labels["label"])


def _isotonic(raw: pd.Series, right: pd.Series, wanted: pd.Series) -> np.ndarray:
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(raw, right[raw.index].astype(float))
    chance: np.ndarray = fit.predict(wanted)
    return chance
