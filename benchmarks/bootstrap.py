"""10,000 resamples by group of every metric, for 20 arms on 100 groups and 5,000 items, against a bare NumPy pass.

    python benchmarks/bootstrap.py

Every metric: precision, recall, F1, accuracy, AUROC and AUPRC, over all items and as means over groups, each with
its 95% interval; drawing the resamples counts too. The bare pass computes the same numbers from the same arrays: sums
by group, and one walk down the ranking for all resamples of a chunk. Both alternate; `bootstrap_ratio` is the
ratio of their median CPU seconds. The last line is one JSON object.
"""

import json
import statistics
import time

import numpy as np
import pandas as pd

from silvertune.stats import bootstrap, significance

ARMS, GROUPS, ITEMS, REPLICATES = 20, 100, 5000, 10_000


def made_predictions() -> list[pd.DataFrame]:
    """One table of predictions an arm: 15% positive, the arms from poor to good."""
    rng = np.random.default_rng(0)
    group = np.array([f"g{k:03d}" for k in rng.integers(GROUPS, size=ITEMS)], dtype=object)
    positive = rng.random(ITEMS) < 0.15
    tables = []
    for arm in range(ARMS):
        prob = 1 / (1 + np.exp(1.5 - rng.normal(size=ITEMS) - positive * (1 + arm / 8)))
        label, gold = (np.where(yes, "yes", "no").astype(object) for yes in (prob > 0.5, positive))
        tables.append(pd.DataFrame({"label": label, "gold": gold, "group_id": group, "prob:yes": prob}))
    return tables


def ours(predictions: list[pd.DataFrame]) -> list[dict[str, np.ndarray]]:
    """Metric -> values of the resamples, for each arm."""
    bootstrap.resamples.cache_clear()
    bootstrap.forget()
    weights = bootstrap.resamples(GROUPS, REPLICATES)
    by_arm = []
    for table in predictions:
        values, resampled = bootstrap.measure(table, ["yes"], weights)
        for name, value in values.items():
            significance.estimate([value], [resampled[name]], GROUPS, GROUPS).share_interval()
        by_arm.append(resampled)
    return by_arm


def bare(predictions: list[pd.DataFrame]) -> list[dict[str, np.ndarray]]:
    """The same by NumPy alone; scores have no ties and every group has both classes and predictions of both."""
    rng = np.random.default_rng(20240610)
    draws = rng.integers(GROUPS, size=(REPLICATES, GROUPS)) + GROUPS * np.arange(REPLICATES)[:, None]
    weights = np.bincount(draws.ravel(), minlength=REPLICATES * GROUPS).reshape(REPLICATES, GROUPS).astype(float)
    by_arm = []
    for table in predictions:
        group = np.unique(table["group_id"].to_numpy().astype(str), return_inverse=True)[1]
        gold, label = (table[name].to_numpy() == "yes" for name in ("gold", "label"))
        hits = [gold & label, ~gold & label, gold & ~label, gold == label, np.ones(len(gold), dtype=bool)]
        counts = np.stack([np.bincount(group, weights=hit, minlength=GROUPS) for hit in hits], axis=1)
        order = np.argsort(-table["prob:yes"].to_numpy())
        groups = bare_metrics(counts, *bare_areas(np.eye(GROUPS), group[order], gold[order]))
        chunks = [bare_areas(weights[at : at + 2000], group[order], gold[order]) for at in range(0, REPLICATES, 2000)]
        resampled = bare_metrics(weights @ counts, *(np.concatenate(area) for area in zip(*chunks, strict=True)))
        by_metric = {f"test/{name}": values for name, values in resampled.items()}
        for name, values in groups.items():
            defined = ~np.isnan(values)
            by_metric[f"test_by_group/{name}"] = (weights @ np.where(defined, values, 0.0)) / (weights @ defined)
        for values in by_metric.values():
            values.mean() + 1.96 * np.array([-1, 1]) * values.std()
        by_arm.append(by_metric)
    return by_arm


def bare_metrics(summed: np.ndarray, auroc: np.ndarray, auprc: np.ndarray) -> dict[str, np.ndarray]:
    tp, fp, fn, right, total = summed.T
    with np.errstate(invalid="ignore"):
        return {
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "accuracy": right / total,
            "auroc": auroc,
            "auprc": auprc,
        }


def bare_areas(weights: np.ndarray, group: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the ROC curve and the precision-recall curve, best score first."""
    by_group = np.ascontiguousarray(weights.T)
    tp, beaten, precisions = np.zeros((3, len(weights)))
    fp = np.full(len(weights), np.finfo(float).tiny)  # 0 / 0 is 0
    for g, is_positive in zip(group.tolist(), gold.tolist(), strict=True):
        if is_positive:
            beaten += by_group[g] * fp
            tp += by_group[g]
            precisions += by_group[g] * tp / (tp + fp)
        else:
            fp += by_group[g]
    with np.errstate(invalid="ignore"):
        return 1 - beaten / (tp * fp), precisions / tp


def bootstrap_ratio(rounds: int = 3) -> float:
    """CPU seconds of ours over those of the bare pass, after a check that both compute the same numbers."""
    predictions = made_predictions()
    for mine, plain in zip(ours(predictions[:1]), bare(predictions[:1]), strict=True):
        for name, values in plain.items():
            assert np.allclose(mine[name], values, equal_nan=True), name
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, taken in zip((ours, bare), seconds, strict=True):
            started = time.process_time()
            work(predictions)
            taken.append(time.process_time() - started)
    mine_s, bare_s = (statistics.median(taken) for taken in seconds)
    print(f"{ARMS} arms, {GROUPS} groups, {ITEMS} items, {REPLICATES} resamples: {mine_s:.2f} CPU s, bare {bare_s:.2f}")
    return mine_s / bare_s


def main() -> None:
    print(json.dumps({"bootstrap_ratio": round(bootstrap_ratio(), 2)}))


if __name__ == "__main__":
    main()
