"""Filters that learn from a small gold set how often the labeler's scores are right.

The set is the evidence `calibration`: items of the training pool, drawn at random, whose gold label the config grants
(`evidence.calibration=100`) and the run counts as expert labels. The labels of these items are kept if and only if
they are right.
"""

import numpy as np
import pandas as pd

from silvertune.errors import UserError, check_choice, check_number
from silvertune.filters.selection import class_score_of_label
from silvertune.schema import Task
from silvertune.votes import class_scores, score_of_label


def calibrated_threshold(
    votes: pd.DataFrame, labels: pd.DataFrame, task: Task, calibration: pd.Series, *, method: str, precision: float
) -> pd.DataFrame:
    """Keep as many labels of each class as a calibrated score allows at a target precision.

    Source: temperature scaling, Guo et al. 2017 ("On calibration of modern neural networks"), section 4.2; isotonic
    regression, Zadrozny & Elkan 2002 ("Transforming classifier scores into accurate multiclass probability
    estimates"), section 3.

    Args:
        votes: The votes on the training pool, one a row.
        labels: The aggregated labels, indexed by item_id.
        task: The task, for its classes.
        calibration: The gold label of each calibration item, by item_id.
        method: `isotonic` (usual) learns for each class how often a label with that score is right; it corrects bias,
            and needs some 30 calibration items a class. `temperature` learns one number, so few items are enough; it
            keeps the order of the classes' scores, and cannot correct a class that is over-called.
        precision: The mean calibrated probability (0-1) that the kept labels of each class are right; usual .9-.95.

    Returns:
        `keep`, and as `score` the calibrated probability (0-1) that the label is right.

    Raises:
        UserError: If a setting is outside its range, or a class has labels but no calibration item has its label.

    Fails where the calibration set is small: the precision is a point estimate without a guarantee (`conformal`
    gives one), and too optimistic, as the upper end of an isotonic fit rests on few items. It drops every label of a
    class that can't reach the precision; the run then says so.
    """
    check_choice("filter.calibrated_threshold.method", method, ("temperature", "isotonic"))
    check_number("filter.calibrated_threshold.precision", precision, most=1)
    raw = class_score_of_label(votes, labels, task)
    calibration_ids, is_right, other_ids = _calibration_labels(labels, calibration, "calibrated_threshold")
    if method == "temperature":
        scores = class_scores(votes, task.classes).reindex(labels.index).clip(1e-6)
        chance = _by_temperature(scores, calibration, labels)
    else:
        chance = pd.Series(np.nan, index=labels.index)
        for name in labels["label"].dropna().unique():
            class_ids = labels.index[labels["label"] == name]
            chance[class_ids] = _isotonic(raw[calibration_ids.intersection(class_ids)], is_right, raw[class_ids])
    keep = pd.Series(False, index=labels.index)
    for name in labels["label"].dropna().unique():
        class_ids = other_ids[labels.loc[other_ids, "label"] == name]
        ranked = pd.DataFrame({"chance": chance[class_ids], "raw": raw[class_ids]}).sort_index()
        ranked = ranked.sort_values(["chance", "raw"], ascending=False, kind="stable")
        mean = ranked["chance"].cumsum() / np.arange(1, len(ranked) + 1)
        keep[ranked.index[(mean >= precision - 1e-12).to_numpy()]] = True
    keep[calibration_ids] = is_right[calibration_ids]
    return pd.DataFrame({"keep": keep, "score": chance})


def conformal(
    votes: pd.DataFrame, labels: pd.DataFrame, task: Task, calibration: pd.Series, *, error: float
) -> pd.DataFrame:
    """Keep labels of each class such that, in expectation, at most a share `error` of those kept are wrong.

    Source: Jin & Candès 2023 ("Selection by prediction with conformal p-values"), algorithm 1, once a class: the
    p-value of a label is one more than the number of wrong calibration labels of its class with at least its score,
    over one more than all calibration labels of its class; the Benjamini-Hochberg procedure at `error` selects.

    Args:
        votes: The votes on the training pool, one a row.
        labels: The aggregated labels, indexed by item_id.
        task: The task, for its classes.
        calibration: The gold label of each calibration item, by item_id.
        error: The false discovery rate (0-1) of each class, over draws of the calibration set; usual .05-.2.

    Returns:
        `keep`, and as `score` 1 less the p-value.

    Raises:
        UserError: If `error` is outside its range, or a class has labels but no calibration item has its label.

    Fails where the calibration set is small: no p-value is below 1/(n+1), so with n calibration labels of a class
    hardly anything is kept at an error below that.
    """
    check_number("filter.conformal.error", error, most=1)
    raw = class_score_of_label(votes, labels, task)
    calibration_ids, is_right, other_ids = _calibration_labels(labels, calibration, "conformal")
    p_value = pd.Series(np.nan, index=labels.index)
    keep = pd.Series(False, index=labels.index)
    for name in labels["label"].dropna().unique():
        class_ids = other_ids[labels.loc[other_ids, "label"] == name]
        class_calibration_ids = calibration_ids[labels.loc[calibration_ids, "label"] == name]
        wrong_ids = class_calibration_ids[~is_right[class_calibration_ids].to_numpy(dtype=bool)]
        wrong_scores = np.sort(raw[wrong_ids].to_numpy())
        n_at_least = len(wrong_scores) - np.searchsorted(wrong_scores, raw[class_ids].to_numpy(), side="left")
        p_value[class_ids] = (1 + n_at_least) / (1 + len(class_calibration_ids))
        ordered = np.sort(p_value[class_ids].to_numpy())
        passing = np.flatnonzero(ordered <= error * np.arange(1, len(ordered) + 1) / max(len(ordered), 1) + 1e-12)
        keep[class_ids] = p_value[class_ids] <= (ordered[passing[-1]] if len(passing) else -1.0)
    keep[calibration_ids] = is_right[calibration_ids]
    return pd.DataFrame({"keep": keep, "score": 1 - p_value})


def _calibration_labels(
    labels: pd.DataFrame, calibration: pd.Series, name: str
) -> tuple[pd.Index, pd.Series, pd.Index]:
    """The calibration items that have a label, whether it is right, and the other items that have one."""
    labelled = labels.index[labels["label"].notna()].sort_values()
    calibration_ids = labelled[labelled.isin(calibration.index)]
    is_right = labels.loc[calibration_ids, "label"] == calibration.reindex(calibration_ids)
    classes_with_items = set(labels.loc[calibration_ids, "label"])
    if missing := sorted(set(labels.loc[labelled, "label"]) - classes_with_items):
        raise UserError(
            f"filter.{name}: none of the {len(calibration)} calibration items is labelled {missing[0]!r}; "
            "raise evidence.calibration"
        )
    return calibration_ids, is_right, labelled[~labelled.isin(calibration_ids)]


def _by_temperature(scores: pd.DataFrame, calibration: pd.Series, labels: pd.DataFrame) -> pd.Series:
    """The probability of each item's label, by the temperature that makes the gold labels likeliest."""
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
    probs = pd.DataFrame(np.exp(log_probs(best)), index=scores.index, columns=scores.columns)
    return score_of_label(probs, labels["label"])


def _isotonic(raw: pd.Series, is_right: pd.Series, scores: pd.Series) -> np.ndarray:
    from sklearn.isotonic import IsotonicRegression

    fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(raw, is_right[raw.index].astype(float))
    chance: np.ndarray = fit.predict(scores)
    return chance
