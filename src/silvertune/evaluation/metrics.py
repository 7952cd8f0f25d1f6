"""Metrics of predictions against gold."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.schema import Task
from silvertune.stats import bootstrap, calibration, significance
from silvertune.votes import one_hot, prob_columns


@dataclass(frozen=True)
class Report:
    """How good the predictions of a run are.

    Attributes:
        metrics: Name -> value.
        groups: One row a group: its metrics, `n` items and `n_positive`.
    """

    metrics: dict[str, float]
    groups: pd.DataFrame


def evaluate(predictions: pd.DataFrame, gold: pd.Series, task: Task, *, replicates: int) -> Report:
    """Measure predictions on the items that have gold.

    Args:
        predictions: `group_id`, `label` and `prob:<class>`, indexed by item_id.
        gold: The gold class, by item_id.
        task: The task. With a positive class the metrics are about that class; without, they are macro averages (AUROC
            and AUPRC of each class against the rest).
        replicates: How many bootstrap resamples of the groups the intervals rest on.

    Returns:
        The report, empty where there is no prediction. Its metrics are:

        - `test/precision`, `recall`, `f1`, `accuracy`, `auroc`, `auprc` over all items, 0-1.
        - `test_by_group/...`: the same as means over the groups for which they are defined; `share_full_recall`, the
          share of groups with 100% recall (of those with positives); and `share_full_precision`, the share with 100%
          precision (of those with positives or predicted positives; without a predicted one it is not 100%).
        - `..._low` and `..._high`: the limits of 95% intervals for other groups (`silvertune.stats.significance`); they
          do not cover other seeds.
        - `test/brier`: mean squared distance of the distribution to the gold class, 0-2.
        - `test/ece`: expected calibration error of the highest probability, 15 equal bins, 0-1.
        - `test/unanswered`: items without a label; they count as wrong.
        - `test/prevalence`: the share of the positive class in gold; `test/n`: the number of items.
    """
    scored = scored_classes(task)
    if predictions.empty:
        return Report({}, pd.DataFrame())
    predictions = predictions[gold.index.get_indexer(predictions.index) >= 0]
    true = gold.reindex(predictions.index)
    predictions = predictions.assign(gold=true)
    counts = bootstrap.count(predictions["label"], true, predictions["group_id"], scored)
    groups = bootstrap.by_group(counts)
    n_groups, positives = len(groups), (counts.tp + counts.fn).sum(axis=1)
    sizes = pd.DataFrame({"items": counts.total, "positives": positives})
    weights, blocks = bootstrap.resamples(n_groups, replicates), bootstrap.blocks_of(n_groups)
    values, resampled = bootstrap.measure(predictions, scored, weights, blocks)
    metrics: dict[str, float] = {}
    for name, value in values.items():
        effective = significance.groups_behind(name, sizes)
        low, high = significance.estimate([value], [resampled[name]], n_groups, effective).share_interval()
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
    """Measure the labels of every threshold rule.

    Args:
        predictions: `group_id` and a column `label:<rule>` for each rule, indexed by item_id.
        gold: The gold class, by item_id.
        task: The task.

    Returns:
        `test_at_<rule>/precision`, `.../recall` and `.../f1` -> value, 0-1.
    """
    predictions = predictions[gold.index.get_indexer(predictions.index) >= 0]
    true = gold.reindex(predictions.index)
    metrics: dict[str, float] = {}
    for column in predictions.columns if len(predictions) else ():
        if column.startswith("label:"):
            counts = bootstrap.count(predictions[column], true, predictions["group_id"], scored_classes(task))
            values = bootstrap.micro(counts)
            name = f"test_at_{column.removeprefix('label:')}"
            metrics |= {f"{name}/{metric}": float(values[metric]) for metric in ("precision", "recall", "f1")}
    return metrics


def scored_classes(task: Task) -> list[str]:
    """List the classes that precision, recall and F1 are about.

    Args:
        task: The task.

    Returns:
        The positive class, or all classes where there is none.
    """
    return [task.positive] if task.positive is not None else list(task.classes)


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else float("nan")
