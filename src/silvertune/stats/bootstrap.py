"""Metrics of predictions, and of all bootstrap resamples of their groups at once.

Items of one group (tables of one protocol) are not independent, so groups are resampled, not items (Field &
Welsh 2007, "Bootstrapping clustered data"). A resample is a row of integer weights, one a group. Every metric here is
a function of sums over groups, so one matrix product computes all resamples.

The weights depend on the number of groups alone. Every arm therefore gets the same resamples, so that differences
between arms are paired.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pandas as pd

METRICS = ("precision", "recall", "f1", "accuracy")
"""Metrics of labels, computed from counts."""
RANKING = ("auroc", "auprc")
"""Metrics of scores, computed from a ranking."""
CHUNK = 2_000_000
"""How many numbers are in memory at once while resampling (about 16 MB)."""
MOST_GROUPS = 2000
"""So many groups are resampled one by one. Of more, blocks of groups are resampled: blocks are independent as well."""
MOST_SCORES = 10_000
"""So many different scores are told apart in a resample at most; neighbours in the ranking count as ties then."""
RANKINGS_KEPT = 200
"""How many results of `ranking` a process keeps: 160 kB each with 10,000 resamples."""
FEWEST = 1000
"""How many resamples are ranked at once at least, so that each numpy call has enough work."""


_rankings_kept: dict[bytes, dict[str, np.ndarray]] = {}
"""The results of `ranking`, by a digest of what they are of."""


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


def micro(counts: Counts, weights: np.ndarray | None = None, blocks: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Compute METRICS over all items, macro-averaged over the scored classes.

    Without weights, precision with nothing predicted, recall with nothing to find, and F1 with neither, are 0, as in
    scikit-learn. In a resample they are undefined, because it may have drawn none of the class's groups: they are left
    out of the average. A metric is NaN where no class has it, and all are NaN in a resample without items.

    Args:
        counts: The counts by group.
        weights: (replicates, G), how often each resample has each group; None: the items themselves.
        blocks: (G,), the column of `weights` of each group (`blocks_of`); None: each has its own.

    Returns:
        Metric -> (replicates,) values, 0-1, or one number without weights.
    """
    undefined = 0.0 if weights is None else np.nan
    columns = np.column_stack([counts.tp, counts.fp, counts.fn, counts.right, counts.total])
    summed = _summed(weights, columns, blocks)
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


def group_means(
    table: pd.DataFrame, weights: np.ndarray | None = None, blocks: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Average each metric over the groups for which it is defined.

    Args:
        table: group x metric, of `by_group`.
        weights: (replicates, G), how often each resample has each group; None: each group once.
        blocks: (G,), the column of `weights` of each group; None: each has its own.

    Returns:
        Metric -> (replicates,) means, or one number without weights; NaN where no group has it.
    """
    values = table.to_numpy(dtype=float)
    defined = ~np.isnan(values)
    summed = _summed(weights, np.column_stack([np.where(defined, values, 0.0), defined]), blocks)
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
        class only. They are kept for the next call with the same arguments.
    """
    if weights is None:
        return {name: values[0] for name, values in _ranking_by_group(score, positive, np.zeros_like(group), 1).items()}
    # A run measures its predictions, and the comparison of the sweep measures them again.
    digest = hashlib.blake2b(f"{MOST_SCORES} {weights.shape}".encode(), digest_size=20)
    for array in (score, positive, group, weights):
        digest.update(np.ascontiguousarray(array).data)
    key = digest.digest()
    if key not in _rankings_kept:
        while len(_rankings_kept) >= RANKINGS_KEPT:
            del _rankings_kept[next(iter(_rankings_kept))]
        _rankings_kept[key] = _ranking_of_resamples(score, positive, group, weights)
    return {name: values.copy() for name, values in _rankings_kept[key].items()}


def forget() -> None:
    """Let go of the results of `ranking` that are kept, so that it takes its whole time again."""
    _rankings_kept.clear()


def _ranking_of_resamples(
    score: np.ndarray, positive: np.ndarray, group: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    order = np.argsort(-score, kind="stable")
    score, positive, group = score[order], positive[order], group[order]
    last = int(np.flatnonzero(positive).max(initial=-1))
    starts = np.flatnonzero(np.append(True, np.diff(score) != 0))
    if len(starts) > MOST_SCORES:
        evenly = np.searchsorted(starts, np.linspace(0, len(score), MOST_SCORES, endpoint=False))
        starts = starts[np.unique(evenly[evenly < len(starts)])]
    members, hits, ties = group.tolist(), positive.tolist(), []
    for start, end in pairwise([*starts.tolist(), len(members)]):
        if start > last:
            break
        tied = range(start, end)
        ties.append(([members[i] for i in tied if hits[i]], [members[i] for i in tied if not hits[i]]))
    size = np.stack([np.bincount(group[of], minlength=weights.shape[1]) for of in (positive, ~positive)], axis=1)
    p, n = _summed(weights, size).T
    step = max(CHUNK // weights.shape[1], FEWEST)
    chunks = (weights[at : at + step] for at in range(0, len(weights), step))
    parts = [_down(ties, np.ascontiguousarray(chunk.T, dtype=float)) for chunk in chunks]
    return _areas(p, n, *np.concatenate(parts, axis=1))


def _areas(p: np.ndarray, n: np.ndarray, beaten: np.ndarray, precisions: np.ndarray) -> dict[str, np.ndarray]:
    """AUROC and AUPRC from the numbers of positive and negative items and what `_down` returns."""
    auroc = _ratio(p * n - beaten, p * n, np.nan)
    return {"auroc": auroc, "auprc": np.where(n > 0, _ratio(precisions, p, np.nan), np.nan)}


def _ranking_by_group(
    score: np.ndarray, positive: np.ndarray, group: np.ndarray, n_groups: int
) -> dict[str, np.ndarray]:
    """`ranking` of each group's items alone, (n_groups,) values."""
    order = np.lexsort((-score, group))
    score, positive, group = score[order], positive[order], group[order]
    starts = np.flatnonzero(np.append(True, (np.diff(score) != 0) | (np.diff(group) != 0))) if len(score) else order
    gained, lost = (np.add.reduceat(hits.astype(float), starts) for hits in (positive, ~positive))
    of = group[starts]
    p, n = (np.bincount(of, weights=counts, minlength=n_groups) for counts in (gained, lost))
    # Positive and negative items from the top of the group to each score.
    tp, fp = (np.cumsum(counts) - (np.cumsum(all_) - all_)[of] for counts, all_ in ((gained, p), (lost, n)))
    beaten = gained * (fp - lost) + 0.5 * gained * lost  # a tie counts half
    precisions = _ratio(tp, tp + fp, 0.0) * gained
    return _areas(p, n, *(np.bincount(of, weights=values, minlength=n_groups) for values in (beaten, precisions)))


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
    predictions: pd.DataFrame, scored: Sequence[str], weights: np.ndarray, blocks: np.ndarray | None = None
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Compute every metric of one set of predictions, and of its resamples.

    Args:
        predictions: One row an item: `label`, `gold`, `group_id` and, for the ranking, `prob:<class>` of the scored
            classes.
        scored: The classes that the metrics are about: the positive one, or all.
        weights: (replicates, B), how often each resample has each block of groups (`resamples`).
        blocks: (G,), the block of each group, in the sorted order of the groups (`blocks_of`); None: each is its own.

    Returns:
        Metric -> value, and metric -> (replicates,) values: METRICS and RANKING over all items as `test/...`, and as
        means over the groups for which they are defined as `test_by_group/...`.
    """
    counts = count(predictions["label"], predictions["gold"], predictions["group_id"], scored)
    overall, resampled, groups = micro(counts), micro(counts, weights, blocks), by_group(counts)
    if all(f"prob:{name}" in predictions for name in scored):
        position = pd.factorize(predictions["group_id"].to_numpy(), sort=True)[0]
        of_all, of_resamples, of_groups = [], [], []
        for name in scored:
            score = predictions[f"prob:{name}"].to_numpy(dtype=float)
            positive = (predictions["gold"] == name).to_numpy()
            of_all.append(ranking(score, positive, position))
            of_resamples.append(ranking(score, positive, position if blocks is None else blocks[position], weights))
            of_groups.append(_ranking_by_group(score, positive, position, len(groups)))
        for name in RANKING:
            overall[name] = np.mean([values[name] for values in of_all], axis=0)
            resampled[name] = np.mean([values[name] for values in of_resamples], axis=0)
            groups[name] = _mean_defined(np.stack([values[name] for values in of_groups], axis=1))
    means, resampled_means = group_means(groups), group_means(groups, weights, blocks)
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
        (replicates, n_groups), uint16, read-only: how often each resample has each group. Of more than `MOST_GROUPS`
        groups (replicates, MOST_GROUPS): how often it has each of the blocks of `blocks_of`.
    """
    n_groups = min(n_groups, MOST_GROUPS)
    rng = np.random.default_rng(20240610)
    drawn = np.empty((replicates, n_groups), dtype=np.uint16)
    step = max(CHUNK // n_groups, 1)
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        cells = rng.integers(n_groups, size=(rows, n_groups)) + n_groups * np.arange(rows)[:, None]
        drawn[start : start + rows] = np.bincount(cells.ravel(), minlength=rows * n_groups).reshape(rows, n_groups)
    drawn.flags.writeable = False
    return drawn


def blocks_of(n_groups: int) -> np.ndarray:
    """Divide groups into the blocks that `resamples` draws.

    Args:
        n_groups: How many groups there are.

    Returns:
        (n_groups,) the block of each group, from 0: its own where there are at most `MOST_GROUPS` groups; else groups
        that follow one another are in different blocks.
    """
    return np.arange(n_groups) % MOST_GROUPS


def _summed(weights: np.ndarray | None, values: np.ndarray, blocks: np.ndarray | None = None) -> np.ndarray:
    """Sum over groups, once for each row of `weights` (once if it is None), a chunk of rows at a time."""
    if weights is None:
        return np.asarray(values.sum(axis=0))[None]
    if blocks is not None:
        values = np.stack([np.bincount(blocks, column, weights.shape[1]) for column in values.T], axis=1)
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
