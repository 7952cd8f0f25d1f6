"""Predictions against gold: what a run reports of its student."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.schema import Task
from silvertune.stats import bootstrap, calibration, significance
from silvertune.votes import one_hot, prob_columns


@dataclass(frozen=True)
class Report:
    """metrics: name -> value; groups: one row a group with its metrics, `n` items and `n_positive`."""

    metrics: dict[str, float]
    groups: pd.DataFrame


def evaluate(predictions: pd.DataFrame, gold: pd.Series, task: Task, *, replicates: int) -> Report:
    """Metrics of `predictions` (item_id: group_id, label, prob:<class>) on the items that have gold.

    Under `test/`: precision, recall, f1, accuracy, auroc, auprc over all items; under `test_by_group/` the
    same as means over the groups where they are defined, and the shares of groups at 100% recall (of those
    with something to find) and at 100% precision (of those with something to find or predicted; nothing
    predicted is not 100%). `_low` and `_high` bound 95% intervals for other groups (`significance`, from
    bootstrap resamples by group; other seeds are not in them). With task.positive they are about that class;
    without, they are macro averages (AUROC and AUPRC one class against the rest).
    Also `test/brier` (mean squared distance of the distribution to the gold class, 0-2), `test/ece` (15
    equal bins of the top probability; Guo et al. 2017, section 2), `test/unanswered` (items without a
    label, counted as wrong), `test/prevalence` and `test/n`.
    """
    scored = scored_classes(task)
    predictions = predictions[predictions.index.isin(gold.index)]
    true = gold.reindex(predictions.index)
    predictions = predictions.assign(gold=true)
    counts = bootstrap.count(predictions["label"], true, predictions["group_id"], scored)
    groups = bootstrap.by_group(counts)
    n_groups, positives = len(groups), (counts.tp + counts.fn).sum(axis=1)
    sizes = pd.DataFrame({"items": counts.total, "positives": positives})
    values, resampled = bootstrap.measure(predictions, scored, bootstrap.resamples(n_groups, replicates))
    metrics: dict[str, float] = {}
    for name, value in values.items():
        behind = significance.groups_behind(name, sizes)
        found = significance.estimate([value], [resampled[name]], n_groups, behind)
        low, high = found.share_interval()
        metrics |= {name: value, f"{name}_low": low, f"{name}_high": high}
    metrics["test_by_group/share_full_recall"] = _mean(groups["recall"].dropna() == 1)
    relevant = (counts.tp + counts.fp + counts.fn).sum(axis=1) > 0
    metrics["test_by_group/share_full_precision"] = _mean(groups.loc[relevant, "precision"].fillna(0.0) == 1)

    probs = predictions[prob_columns(task.classes)].to_numpy(dtype=float)
    onehot = one_hot(true, task.classes)
    metrics["test/brier"] = float(((probs - onehot) ** 2).sum(axis=1).mean())
    metrics["test/ece"] = calibration.expected_calibration_error(
        probs.max(axis=1), onehot[np.arange(len(probs)), probs.argmax(axis=1)]
    )
    metrics["test/unanswered"] = float(predictions["label"].isna().sum())
    metrics["test/n"] = float(len(predictions))
    if task.positive is not None:
        metrics["test/prevalence"] = _mean(true == task.positive)
    per_group = groups.assign(n=counts.total.astype(int), n_positive=positives.astype(int))
    return Report(metrics, per_group)


def by_rule(predictions: pd.DataFrame, gold: pd.Series, task: Task) -> dict[str, float]:
    """`test_at_<rule>/precision`, `recall` and `f1` for every `label:<rule>` column of `predictions`."""
    predictions = predictions[predictions.index.isin(gold.index)]
    true = gold.reindex(predictions.index)
    found: dict[str, float] = {}
    for column in predictions.columns:
        if column.startswith("label:"):
            counts = bootstrap.count(predictions[column], true, predictions["group_id"], scored_classes(task))
            values = bootstrap.micro(counts)
            name = f"test_at_{column.removeprefix('label:')}"
            found |= {f"{name}/{metric}": float(values[metric]) for metric in ("precision", "recall", "f1")}
    return found


def scored_classes(task: Task) -> list[str]:
    """The classes that precision, recall and F1 are about: the positive one, or all."""
    return [task.positive] if task.positive is not None else list(task.classes)


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else float("nan")
