"""How long 10,000 resamples by group of every metric take, for 20 arms on 100 groups and 5,000 items.

    python benchmarks/bootstrap.py

Every metric: precision, recall, F1, accuracy, AUROC and AUPRC, over all items and as means over groups, each with
its 95% interval; drawing the resamples counts too. The last line is one JSON object, in seconds (best of five: other
work on the machine is not ours to time).
"""

import json
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
    made = []
    for arm in range(ARMS):
        prob = 1 / (1 + np.exp(1.5 - rng.normal(size=ITEMS) - positive * (1 + arm / 8)))
        label, gold = (np.where(yes, "yes", "no").astype(object) for yes in (prob > 0.5, positive))
        made.append(pd.DataFrame({"label": label, "gold": gold, "group_id": group, "prob:yes": prob}))
    return made


def bootstrap_seconds(predictions: list[pd.DataFrame]) -> float:
    bootstrap.resamples.cache_clear()
    started = time.perf_counter()
    weights = bootstrap.resamples(GROUPS, REPLICATES)
    for own in predictions:
        values, resampled = bootstrap.measure(own, ["yes"], weights)
        for name, value in values.items():
            significance.estimate([value], [resampled[name]], GROUPS, GROUPS).share_interval()
    return time.perf_counter() - started


def main() -> None:
    predictions = made_predictions()
    taken = [bootstrap_seconds(predictions) for _ in range(5)]
    print(f"{ARMS} arms, {GROUPS} groups, {ITEMS} items, {REPLICATES} resamples:", [round(s, 2) for s in taken])
    print(json.dumps({"bootstrap_s": round(min(taken), 3)}))


if __name__ == "__main__":
    main()
