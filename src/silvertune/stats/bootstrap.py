"""Metrics of predictions, and of all bootstrap resamples of their groups at once.

Items of one group (tables of one protocol) are not independent, so groups are resampled, not items (Field &
Welsh 2007, "Bootstrapping clustered data"). A resample is a row of integer weights, one a group. Every metric here is
a function of sums over groups, so one matrix product computes all resamples.

The weights depend on the number of groups alone. Every arm therefore gets the same resamples, so that differences
between arms are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

METRICS = ("precision", "recall", "f1", "accuracy")
"""Metrics of labels, computed from counts."""
RANKING = ("auroc", "auprc")
"""Metrics of scores, computed from a ranking."""
CHUNK = 2_000_000
"""How many numbers are in memory at once while resampling (about 16 MB)."""
FEWEST = 1000
"""How many resamples are ranked at once at least, so that each numpy call has enough work."""


@dataclass(frozen=True)
class Counts:
    """The counts that METRICS need, summed by group, for G groups and C scored classes.

    Attributes:
        groups: (G,) names, sorted.
        tp: (G, C) true positives.
        fp: (G, C) false positives.
        fn: (G, C) false negatives.
        right: (G,) items with the right label.
        total: (G,) items.
    """

    groups: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    right: np.ndarray
    total: np.ndarray


def count(label: pd.Series, gold: pd.Series, group: pd.Series, scored: Sequence[str]) -> Counts:
    """Count predicted labels against gold, by group.

    Args:
        label: The predicted class of each item; null where there is none.
        gold: The gold class of each item, indexed alike.
        group: The group of each item, indexed alike.
        scored: The classes to count: the positive one, or all.

    Returns:
        The counts.
    """
    code, groups = pd.factorize(group.to_numpy(), sort=True)
    predicted, true = label.to_numpy(dtype=object), gold.to_numpy(dtype=object)

    def summed(hits: np.ndarray) -> np.ndarray:
        return np.bincount(code, weights=hits, minlength=len(groups))

    return Counts(
        groups=np.asarray(groups),
        tp=np.stack([summed((predicted == c) & (true == c)) for c in scored], axis=1),
        fp=np.stack([summed((predicted == c) & (true != c)) for c in scored], axis=1),
        fn=np.stack([summed((predicted != c) & (true == c)) for c in scored], axis=1),
        right=summed(predicted == true),
        total=summed(np.ones(len(code))),
    )


def micro(counts: Counts, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Compute METRICS over all items, macro-averaged over the scored classes.

    Without weights, precision with nothing predicted, recall with nothing to find, and F1 with neither, are 0, as in
    scikit-learn. In a resample they are undefined, because it may have drawn none of the class's groups: they are left
    out of the average. A metric is NaN where no class has it, and all are NaN in a resample without items.

    Args:
        counts: The counts by group.
        weights: (replicates, G), how often each resample has each group; None: the items themselves.

    Returns:
        Metric -> (replicates,) values, 0-1, or one number without weights.
    """
    undefined = 0.0 if weights is None else np.nan
    columns = np.column_stack([counts.tp, counts.fp, counts.fn, counts.right, counts.total])
    summed = _summed(weights, columns)
    n = counts.tp.shape[1]
    tp, fp, fn = (summed[:, k * n : (k + 1) * n] for k in range(3))
    right, total = summed[:, -2], summed[:, -1]
    values = {
        "precision": _mean_defined(_ratio(tp, tp + fp, undefined)),
        "recall": _mean_defined(_ratio(tp, tp + fn, undefined)),
        "f1": _mean_defined(_ratio(2 * tp, 2 * tp + fp + fn, undefined)),
        "accuracy": _ratio(right, total, np.nan),
    }
    values = {name: np.where(total > 0, value, np.nan) for name, value in values.items()}
    return {name: value if weights is not None else value[0] for name, value in values.items()}


def by_group(counts: Counts) -> pd.DataFrame:
    """Compute METRICS of each group.

    Args:
        counts: The counts by group.

    Returns:
        group_id x metric, 0-1: the mean over the scored classes for which it is defined. Precision is NaN where
        nothing is predicted, recall where there is nothing to find, F1 where both is so.
    """
    tp, fp, fn = counts.tp, counts.fp, counts.fn
    values = {
        "precision": _mean_defined(_ratio(tp, tp + fp, np.nan)),
        "recall": _mean_defined(_ratio(tp, tp + fn, np.nan)),
        "f1": _mean_defined(_ratio(2 * tp, 2 * tp + fp + fn, np.nan)),
        "accuracy": _ratio(counts.right, counts.total, np.nan),
    }
    return pd.DataFrame(values, index=pd.Index(counts.groups, name="group_id"))


def group_means(table: pd.DataFrame, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Average each metric over the groups for which it is defined.

    Args:
        table: group x metric, of `by_group`.
        weights: (replicates, G), how often each resample has each group; None: each group once.

    Returns:
        Metric -> (replicates,) means, or one number without weights; NaN where no group has it.
    """
    values = table.to_numpy(dtype=float)
    defined = ~np.isnan(values)
    summed = _summed(weights, np.column_stack([np.where(defined, values, 0.0), defined]))
    means = _ratio(summed[:, : values.shape[1]], summed[:, values.shape[1] :], np.nan)
    return {name: means[:, k] if weights is not None else means[0, k] for k, name in enumerate(table.columns)}


def ranking(
    score: np.ndarray, positive: np.ndarray, group: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute the area under the ROC curve and the average precision of a score, exactly.

    One pass down the ranking carries the true and false positives of all resamples at once. A step is a few
    operations on vectors that stay in the processor's cache, and the pass ends at the last positive item.

    Args:
        score: (N,), higher is more positive; ties count as in scikit-learn.
        positive: (N,) bool.
        group: (N,), the column of `weights` of each item.
        weights: (replicates, G), how often each resample has each group; None: the items themselves.

    Returns:
        `auroc` and `auprc` -> (replicates,) values, 0-1, or one number without weights; NaN where a resample has one
        class only.
    """
    order = np.argsort(-score, kind="stable")
    score, positive, group = score[order], positive[order], group[order]
    last = int(np.flatnonzero(positive).max(initial=-1))
    starts = np.flatnonzero(np.append(True, np.diff(score) != 0)).tolist()
    members, hits = group.tolist(), positive.tolist()
    ties = []
    for start, end in zip(starts, [*starts[1:], len(members)], strict=True):
        if start > last:
            break
        tied = range(start, end)
        ties.append(([members[i] for i in tied if hits[i]], [members[i] for i in tied if not hits[i]]))
    w = np.ones((1, int(group.max(initial=0)) + 1)) if weights is None else weights
    size = np.stack([np.bincount(group[chosen], minlength=w.shape[1]) for chosen in (positive, ~positive)], axis=1)
    p, n = _summed(w, size).T
    step = max(CHUNK // w.shape[1], FEWEST)
    parts = [_down(ties, np.ascontiguousarray(w[at : at + step].T, dtype=float)) for at in range(0, len(w), step)]
    beaten, precisions = np.concatenate(parts, axis=1)
    auroc = _ratio(p * n - beaten, p * n, np.nan)
    auprc = np.where(n > 0, _ratio(precisions, p, np.nan), np.nan)
    return {"auroc": auroc, "auprc": auprc} if weights is not None else {"auroc": auroc[0], "auprc": auprc[0]}


def _down(ties: list[tuple[list[int], list[int]]], weights: np.ndarray) -> np.ndarray:
    """(2, replicates): how many pairs have the negative item first; the sum of the precisions at the positive items.

    ties: the groups of the positive and of the negative items of each score, best score first.
    weights: (G, replicates).
    """
    tp, beaten, precisions, gained, lost, scratch = np.zeros((6, weights.shape[1]))
    fp = np.full(weights.shape[1], np.finfo(float).tiny)  # so that 0 / 0 is 0, not NaN; too small to change a sum
    for positives, negatives in ties:
        if not positives:
            for group in negatives:
                fp += weights[group]
            continue
        gained[:] = 0.0
        for group in positives:
            gained += weights[group]
        np.multiply(gained, fp, out=scratch)
        beaten += scratch
        if negatives:
            lost[:] = 0.0
            for group in negatives:
                lost += weights[group]
            fp += lost
            lost *= gained
            lost *= 0.5  # a tie counts half
            beaten += lost
        tp += gained
        np.add(tp, fp, out=scratch)
        np.divide(tp, scratch, out=scratch)
        scratch *= gained
        precisions += scratch
    return np.stack([beaten, precisions])


def measure(
    predictions: pd.DataFrame, scored: Sequence[str], weights: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Compute every metric of one set of predictions, and of its resamples.

    Args:
        predictions: One row an item: `label`, `gold`, `group_id` and, for the ranking, `prob:<class>` of the scored
            classes.
        scored: The classes that the metrics are about: the positive one, or all.
        weights: (replicates, G), how often each resample has each group, columns in the sorted order of the groups.

    Returns:
        Metric -> value, and metric -> (replicates,) values: METRICS and RANKING over all items as `test/...`, and as
        means over the groups for which they are defined as `test_by_group/...`.
    """
    counts = count(predictions["label"], predictions["gold"], predictions["group_id"], scored)
    overall, resampled, groups = micro(counts), micro(counts, weights), by_group(counts)
    if all(f"prob:{name}" in predictions for name in scored):
        position = pd.factorize(predictions["group_id"].to_numpy(), sort=True)[0]
        single = np.eye(len(counts.groups), dtype=weights.dtype)
        stacked = np.concatenate([np.ones_like(single[:1]), single, weights])  # all, each group alone, resamples
        by_class = [
            ranking(
                predictions[f"prob:{name}"].to_numpy(dtype=float),
                (predictions["gold"] == name).to_numpy(),
                position,
                stacked,
            )
            for name in scored
        ]
        for name in RANKING:
            values = np.stack([values_by_name[name] for values_by_name in by_class])
            mean = values.mean(axis=0)
            overall[name], resampled[name] = mean[0], mean[1 + len(single) :]
            groups[name] = _mean_defined(values[:, 1 : 1 + len(single)].T)
    means, resampled_means = group_means(groups), group_means(groups, weights)
    return (
        {f"test/{name}": float(value) for name, value in overall.items()}
        | {f"test_by_group/{name}": float(value) for name, value in means.items()},
        {f"test/{name}": value for name, value in resampled.items()}
        | {f"test_by_group/{name}": value for name, value in resampled_means.items()},
    )


def sizes(gold: pd.Series, group: pd.Series, scored: Sequence[str]) -> pd.DataFrame:
    """Count the items of each group.

    Args:
        gold: The gold class of each item.
        group: The group of each item, indexed alike.
        scored: The classes that count as positive.

    Returns:
        `items` and `positives`, indexed by the groups' names, sorted.
    """
    of_group = gold.isin(list(scored)).groupby(group.astype(str))
    return pd.DataFrame({"items": of_group.size(), "positives": of_group.sum()})


@lru_cache(maxsize=2)
def resamples(n_groups: int, replicates: int) -> np.ndarray:
    """Draw bootstrap resamples of groups: the same for the same arguments.

    Args:
        n_groups: How many groups there are.
        replicates: How many resamples to draw.

    Returns:
        (replicates, n_groups), uint16, read-only: how often each resample has each group.
    """
    rng = np.random.default_rng(20240610)
    drawn = np.empty((replicates, n_groups), dtype=np.uint16)
    step = max(CHUNK // n_groups, 1)
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        cells = rng.integers(n_groups, size=(rows, n_groups)) + n_groups * np.arange(rows)[:, None]
        drawn[start : start + rows] = np.bincount(cells.ravel(), minlength=rows * n_groups).reshape(rows, n_groups)
    drawn.flags.writeable = False
    return drawn


def _summed(weights: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    """Sum over groups, once for each row of `weights` (once if it is None), a chunk of rows at a time."""
    if weights is None:
        return np.asarray(values.sum(axis=0))[None]
    step = max(CHUNK // max(len(values), 1), 1)
    parts = [weights[start : start + step].astype(np.float64) @ values for start in range(0, len(weights), step)]
    return np.concatenate(parts)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, undefined: float) -> np.ndarray:
    ratio: np.ndarray = np.divide(
        numerator,
        denominator,
        out=np.full(np.broadcast(numerator, denominator).shape, undefined),
        where=denominator > 0,
    )
    return ratio


def _mean_defined(values: np.ndarray) -> np.ndarray:
    return _ratio(np.nansum(values, axis=1), (~np.isnan(values)).sum(axis=1), np.nan)
