"""How fast filters are, and how often a study computes its evidence.

    python benchmarks/filters.py

- Filters that need votes alone, on 1,000,000 votes (500,000 items of two views), against a bare NumPy / pandas pass
  of the same arithmetic in the same process: both alternate, the medians count. `worst_filter_ratio` is the worst.
- 10 filters x 5 seeds on one training pool, each run with objects of its own, as processes have: `evidence_builds`
  is how often the evidence that was built most often was built. Files written, student fits and texts embedded are
  counted where they happen.
- `bootstrap_s`: as benchmarks/bootstrap.py has it.

The last line is one JSON object.
"""

import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bootstrap import bootstrap_seconds, made_predictions

from silvertune import aggregations, composition
from silvertune.evidence.evidence import Evidence, decide
from silvertune.filters import ranked, scores, votes
from silvertune.schema import Task

ITEMS = 500_000
ROUNDS = 7
TASK = Task(name="soe", classes=["other", "soe"], positive="soe")


def table(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Votes of two views on n items, and their labels by majority."""
    rng = np.random.default_rng(0)
    ids = np.array([f"i{k:07d}" for k in range(n)], dtype=object)
    chance = rng.random((n, 2)).round(6)
    label = np.array(TASK.classes, dtype=object)[(chance > 0.5).astype(int)]
    cast = pd.DataFrame(
        {
            "item_id": np.repeat(ids, 2),
            "annotator": "machine",
            "view": np.tile(np.array(["json", "text"], dtype=object), n),
            "repeat": 0,
            "label": label.ravel(),
            "confidence": np.maximum(chance, 1 - chance).ravel(),
            "status": "ok",
            "cost_usd": 0.0,
            "prob:other": 1 - chance.ravel(),
            "prob:soe": chance.ravel(),
        }
    ).astype({"item_id": object, "annotator": object, "view": object, "status": object, "label": object})
    return cast, aggregations.majority(cast, TASK)


# Each bare pass starts where a filter does: at the votes and the labels, and ends with which labels to keep.


def bare_agreement(cast: pd.DataFrame, labels: pd.DataFrame) -> Any:
    item, ids = pd.factorize(cast["item_id"])
    label = labels["label"].reindex(ids).to_numpy()
    view, views = pd.factorize(cast["view"])
    behind = cast["label"].to_numpy() == label[item]
    given = np.bincount(item * len(views) + view, minlength=len(ids) * len(views)) > 0
    backed = np.bincount(item * len(views) + view, weights=behind, minlength=len(ids) * len(views)) > 0
    share = backed.reshape(-1, len(views)).sum(axis=1) / given.reshape(-1, len(views)).sum(axis=1)
    return pd.Series(share >= 1, index=ids)


def bare_k_of_n(cast: pd.DataFrame, labels: pd.DataFrame) -> Any:
    item, ids = pd.factorize(cast["item_id"])
    label = labels["label"].reindex(ids).to_numpy()
    view, views = pd.factorize(cast["view"])
    behind = cast["label"].to_numpy() == label[item]
    backed = np.bincount(item * len(views) + view, weights=behind, minlength=len(ids) * len(views)) > 0
    return pd.Series(backed.reshape(-1, len(views)).sum(axis=1) >= 2, index=ids)


def bare_scores(cast: pd.DataFrame) -> pd.DataFrame:
    return cast.groupby("item_id", sort=False)[["prob:other", "prob:soe"]].mean()


def bare_margin(cast: pd.DataFrame, labels: pd.DataFrame) -> Any:
    probs = bare_scores(cast).reindex(labels.index)
    soe = (labels["label"] == "soe").to_numpy()
    own = np.where(soe, probs["prob:soe"], probs["prob:other"])
    margin = pd.Series(2 * own - 1, index=labels.index)
    return margin >= margin.quantile(0.5)


def bare_entropy(cast: pd.DataFrame, labels: pd.DataFrame) -> Any:
    probs = bare_scores(cast).reindex(labels.index).to_numpy()
    certain = pd.Series(1 + (probs * np.log(probs.clip(1e-12))).sum(axis=1) / np.log(2), index=labels.index)
    return certain >= certain.quantile(0.5)


def bare_ranked(cast: pd.DataFrame, labels: pd.DataFrame) -> Any:
    probs = bare_scores(cast).reindex(labels.index)
    soe = (labels["label"] == "soe").to_numpy()
    own = pd.Series(np.where(soe, probs["prob:soe"], probs["prob:other"]), index=labels.index)
    order = own.sort_index().sort_values(ascending=False, kind="stable").index
    label = labels["label"].reindex(order)
    rank = label.groupby(label).cumcount()
    return (rank < label.groupby(label).transform("size") * 0.5).reindex(labels.index)


def no_student(labels: pd.Series) -> pd.DataFrame:
    raise AssertionError("shares are given")


def filter_ratios() -> dict[str, float]:
    cast, labels = table(ITEMS)
    shares = {"other": 0.5, "soe": 0.5}
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "agreement": (
            lambda: votes.agreement(cast, labels, over="view", at_least=1.0),
            lambda: bare_agreement(cast, labels),
        ),
        "k_of_n": (lambda: votes.k_of_n(cast, labels, over="view", k=2), lambda: bare_k_of_n(cast, labels)),
        "margin": (
            lambda: scores.margin(cast, labels, TASK, at_least=None, top=0.5),
            lambda: bare_margin(cast, labels),
        ),
        "entropy": (
            lambda: scores.entropy(cast, labels, TASK, at_least=None, top=0.5),
            lambda: bare_entropy(cast, labels),
        ),
        "quantile_per_class": (
            lambda: ranked.quantile_per_class(cast, labels, TASK, fraction=0.5),
            lambda: bare_ranked(cast, labels),
        ),
        "top_k_per_class": (
            lambda: ranked.top_k_per_class(cast, labels, TASK, no_student, fraction=0.5, shares=shares),
            lambda: bare_ranked(cast, labels),
        ),
    }
    ratios = {}
    for name, both in pairs.items():
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            for function, seconds in zip(both, taken, strict=True):
                started = time.perf_counter()
                function()
                seconds.append(time.perf_counter() - started)
        ours, bare = (statistics.median(seconds) for seconds in taken)
        ratios[name] = ours / bare
        print(f"{name:20s} {ours:6.3f} s, bare {bare:6.3f} s: {ratios[name]:.2f}")
    return ratios


EMBEDDED: Counter[str] = Counter()
FITS: list[int] = []


class Student:
    """The light student, counting its fits."""

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> Any:
        from silvertune.models.tfidf_logreg import TfidfLogreg

        FITS.append(len(train))
        return TfidfLogreg(None, r"(?u)\w+", 1, 1, 5000, 1.0, "balanced", 200).fit(train, validation, seed)


def evidence_builds() -> int:
    """How often the evidence that 10 filters x 5 seeds built most often was built; the pool is the same for all."""
    from silvertune.encoders import encoder as encoder_module

    written: Counter[str] = Counter()
    compute, replace = encoder_module.Encoder._compute, Path.replace

    def counting_compute(self: Any, missing: dict[str, str], *rest: Any) -> None:
        EMBEDDED.update(list(missing))
        compute(self, missing, *rest)

    def counting_replace(self: Path, target: Path) -> Path:
        written[target.name.split("-")[0]] += 1
        return replace(self, target)

    encoder_module.Encoder._compute, Path.replace = counting_compute, counting_replace  # type: ignore[method-assign, assignment]
    try:
        with tempfile.TemporaryDirectory() as folder:
            _study(folder)
    finally:
        encoder_module.Encoder._compute, Path.replace = compute, replace  # type: ignore[method-assign]
    texts = max(EMBEDDED.values())
    print(f"10 filters x 5 seeds: written {dict(written)}, {len(FITS)} fits for 5 folds, each text embedded {texts}x")
    return max(texts, -(-len(FITS) // 5), *written.values())


def _study(folder: str) -> None:
    from hydra import compose, initialize_config_dir

    root = Path(__file__).parents[1] / "conf"
    names = [
        "knn_agreement",
        "confident_learning",
        "small_loss",
        "aum",
        "cartography",
        "agreement",
        "margin",
        "quantile_per_class",
        "conformal",
        "random_matched",
    ]
    with initialize_config_dir(str(root), version_base="1.3"):
        for name in names:
            over = ["dataset=synthetic_protocols", "dataset.protocols=5", f"filter={name}", f"tracking.dir={folder}"]
            over += ["evidence.calibration=40"]
            over += ["filter.random_matched.like=confident_learning"] if name == "random_matched" else []
            cfg = compose("config", over, return_hydra_config=True)
            config = composition.plain(cfg, [{"path": str(root), "schema": "file", "provider": "main"}])
            config["evidence"]["student"] = {"_target_": f"{__name__}.Student"}
            for seed in range(5):
                parts = composition.build(config | {"seed": seed})
                votes_of_run, labels = parts.labeler.annotate(parts.data.items)
                about = Evidence(
                    items=parts.data.items,
                    votes=votes_of_run,
                    labels=labels,
                    task=parts.task,
                    annotations=parts.data.annotations,
                    item_ids=parts.data.items.index,
                    training=parts.data.training_items,
                    gold=parts.data.gold,
                    seed=seed,
                    bind=parts.bind,
                    resources=parts.resources,
                )
                decide(parts.filters, about)


def main() -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    ratios = filter_ratios()
    builds = evidence_builds()
    predictions = made_predictions()
    bootstrap_s = min(bootstrap_seconds(predictions) for _ in range(5))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    result = {
        "worst_filter_ratio": round(max(ratios.values()), 2),
        "bootstrap_s": round(bootstrap_s, 3),
        "evidence_builds": builds,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
