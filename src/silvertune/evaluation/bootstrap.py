"""Metrics of predictions, and of 10,000 resamples of their groups at once.

Items of one group (tables of one protocol) are not independent, so groups are resampled, not items (Field &
Welsh 2007, "Bootstrapping clustered data"). A resample is a row of integer weights, one a group; every
metric here is a function of sums over groups, so all resamples are one matrix product.

The weights depend on the number of groups alone: the same draw serves every arm, which is what makes
differences between arms paired.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

METRICS = ("precision", "recall", "f1", "accuracy")
CHUNK = 2_000_000
"""Numbers held at once while resampling (about 16 MB)."""


@dataclass(frozen=True)
class Counts:
    """What the counted metrics need, summed by group.

    groups: names, sorted (G). tp, fp, fn: (G, C) for the C scored classes: the positive one, or all.
    right, total: (G).
    """

    groups: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    right: np.ndarray
    total: np.ndarray


def count(label: pd.Series, gold: pd.Series, group: pd.Series, scored: list[str]) -> Counts:
    """Counts of predicted `label` (null: no answer) against `gold`, indexed alike."""
    code, groups = pd.factorize(group.to_numpy(), sort=True)
    said, true = label.to_numpy(dtype=object), gold.to_numpy(dtype=object)

    def summed(hits: np.ndarray) -> np.ndarray:
        return np.bincount(code, weights=hits, minlength=len(groups))

    return Counts(
        groups=np.asarray(groups),
        tp=np.stack([summed((said == c) & (true == c)) for c in scored], axis=1),
        fp=np.stack([summed((said == c) & (true != c)) for c in scored], axis=1),
        fn=np.stack([summed((said != c) & (true == c)) for c in scored], axis=1),
        right=summed(said == true),
        total=summed(np.ones(len(code))),
    )


def micro(counts: Counts, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """METRICS over all items, each (replicates,), or () without weights; macro-averaged over the classes scored.

    precision with nothing predicted, and recall with nothing to find, are 0; all are NaN for a resample that
    drew none of the groups.
    weights: (replicates, G).
    """
    tp, fp, fn, right, total = (
        _summed(weights, values) for values in (counts.tp, counts.fp, counts.fn, counts.right, counts.total)
    )
    values = {
        "precision": np.mean(_ratio(tp, tp + fp, 0.0), axis=-1),
        "recall": np.mean(_ratio(tp, tp + fn, 0.0), axis=-1),
        "f1": np.mean(_ratio(2 * tp, 2 * tp + fp + fn, 0.0), axis=-1),
        "accuracy": _ratio(right, total, np.nan),
    }
    values = {name: np.where(total > 0, value, np.nan) for name, value in values.items()}
    return {name: value if weights is not None else value[0] for name, value in values.items()}


def by_group(counts: Counts) -> pd.DataFrame:
    """METRICS of each group, NaN where undefined: precision where nothing is predicted, recall where
    nothing is to be found, F1 where neither is. With several classes, the mean over those defined."""
    tp, fp, fn = counts.tp, counts.fp, counts.fn
    values = {
        "precision": _mean_defined(_ratio(tp, tp + fp, np.nan)),
        "recall": _mean_defined(_ratio(tp, tp + fn, np.nan)),
        "f1": _mean_defined(_ratio(2 * tp, 2 * tp + fp + fn, np.nan)),
        "accuracy": _ratio(counts.right, counts.total, np.nan),
    }
    return pd.DataFrame(values, index=pd.Index(counts.groups, name="group_id"))


def group_means(table: pd.DataFrame, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The mean over groups of `by_group`, groups where a metric is undefined left out of it."""
    defined = table.notna().to_numpy(dtype=float)
    means = _ratio(_summed(weights, np.nan_to_num(table.to_numpy())), _summed(weights, defined), np.nan)
    return {name: means[:, k] if weights is not None else means[0, k] for k, name in enumerate(table.columns)}


def ranking(
    score: np.ndarray, positive: np.ndarray, group: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """`auroc` and `auprc` (average precision) of a score, each (replicates,), or () without weights.

    score: (N,), higher is more positive; ties are handled as scikit-learn does. positive: (N,) bool.
    group: (N,) positions in the columns of `weights`. NaN where a resample has one class only.
    """
    order = np.argsort(-score, kind="stable")
    score, positive, group = score[order], positive[order], group[order]
    ends = np.flatnonzero(np.append(np.diff(score) != 0, True))
    w = np.ones((1, int(group.max(initial=0)) + 1)) if weights is None else weights
    auroc, auprc = np.empty(len(w)), np.empty(len(w))
    step = max(CHUNK // max(len(score), 1), 1)
    for start in range(0, len(w), step):
        item = w[start : start + step][:, group].astype(np.float32)
        tp = np.cumsum(item * positive, axis=1, dtype=np.float64)[:, ends]
        fp = np.cumsum(item * ~positive, axis=1, dtype=np.float64)[:, ends]
        p, n = tp[:, -1:], fp[:, -1:]
        gained = np.diff(tp, axis=1, prepend=0.0)
        before = np.concatenate([np.zeros((len(fp), 1)), fp[:, :-1]], axis=1)
        above = n - (before + fp) / 2  # negatives ranked below, ties counted half
        auroc[start : start + step] = _ratio((gained * above).sum(axis=1), (p * n)[:, 0], np.nan)
        ap = _ratio((gained * _ratio(tp, tp + fp, 0.0)).sum(axis=1), p[:, 0], np.nan)
        auprc[start : start + step] = np.where(n[:, 0] > 0, ap, np.nan)
    return {"auroc": auroc, "auprc": auprc} if weights is not None else {"auroc": auroc[0], "auprc": auprc[0]}


@lru_cache(maxsize=2)
def resamples(n_groups: int, replicates: int) -> np.ndarray:
    """(replicates, n_groups) weights, uint16: how often each group is drawn. The same for the same arguments."""
    rng = np.random.default_rng(20240610)
    drawn = np.empty((replicates, n_groups), dtype=np.uint16)
    step = max(CHUNK // n_groups, 1)
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        cells = rng.integers(n_groups, size=(rows, n_groups)) + n_groups * np.arange(rows)[:, None]
        drawn[start : start + rows] = np.bincount(cells.ravel(), minlength=rows * n_groups).reshape(rows, n_groups)
    drawn.flags.writeable = False
    return drawn


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap replicates, NaNs (undefined resamples) left out."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _summed(weights: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    """Sums over groups, once for each row of `weights` (or once), a chunk of rows at a time."""
    if weights is None:
        return np.asarray(values.sum(axis=0))[None]
    step = max(CHUNK // max(len(values), 1), 1)
    parts = [weights[start : start + step].astype(np.float64) @ values for start in range(0, len(weights), step)]
    return np.concatenate(parts)


def _ratio(above: np.ndarray, below: np.ndarray, undefined: float) -> np.ndarray:
    ratio: np.ndarray = np.divide(
        above, below, out=np.full(np.broadcast(above, below).shape, undefined), where=below > 0
    )
    return ratio


def _mean_defined(values: np.ndarray) -> np.ndarray:
    return _ratio(np.nansum(values, axis=1), (~np.isnan(values)).sum(axis=1), np.nan)
