"""How fast filters are, and how often a study computes its evidence.

    python benchmarks/filters.py

- Filters that need votes alone, on 1,000,000 votes (500,000 items of two views), against a bare NumPy / pandas pass
  of the same arithmetic in the same process: both alternate, the medians count. `worst_filter_ratio` is the worst.
- 10 filters x 5 seeds on one training pool, each run with objects of its own, as processes have: `evidence_builds`
  is how often the evidence that was built most often was built. Files written, student fits and texts embedded are
  counted where they happen.
- `iterated_per_fit`: CPU seconds of the whole filter `iterated` (its yaml, the default student and folds, all of its
  evidence, nothing read or computed before) over those of one plain fit-and-predict of its student on the same pool:
  about 1,000 made-up protocol tables of two views, with labels that call too many tables a schedule. Both alternate,
  the medians count. `iterated_per_sklearn_fit`: over scikit-learn's own vectorizer and classifier, likewise.
- `bootstrap_ratio`: 10,000 resamples by group of every metric as benchmarks/bootstrap.py has it, over a bare NumPy pass
  of the same arithmetic on the same arrays; CPU seconds, both alternate, the medians count.

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
from bootstrap import bootstrap_ratio

from silvertune import aggregations, composition
from silvertune.evidence.evidence import Evidence, decide
from silvertune.filters import ranked, scores, votes
from silvertune.models import term_counts
from silvertune.schema import Task

ITEMS = 500_000
ROUNDS = 7
PROTOCOLS = 33
"""About 1,000 tables."""
ROUNDS_OF_ITERATED = 3
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
    has_vote = np.bincount(item * len(views) + view, minlength=len(ids) * len(views)) > 0
    backed = np.bincount(item * len(views) + view, weights=behind, minlength=len(ids) * len(views)) > 0
    share = backed.reshape(-1, len(views)).sum(axis=1) / has_vote.reshape(-1, len(views)).sum(axis=1)
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
    score = np.where(soe, probs["prob:soe"], probs["prob:other"])
    margin = pd.Series(2 * score - 1, index=labels.index)
    return margin >= margin.quantile(0.5)


def bare_entropy(cast: pd.DataFrame, labels: pd.DataFrame) -> Any:
    probs = bare_scores(cast).reindex(labels.index).to_numpy()
    certain = pd.Series(1 + (probs * np.log(probs.clip(1e-12))).sum(axis=1) / np.log(2), index=labels.index)
    return certain >= certain.quantile(0.5)


def bare_ranked(cast: pd.DataFrame, labels: pd.DataFrame) -> Any:
    probs = bare_scores(cast).reindex(labels.index)
    soe = (labels["label"] == "soe").to_numpy()
    score = pd.Series(np.where(soe, probs["prob:soe"], probs["prob:other"]), index=labels.index)
    order = score.sort_index().sort_values(ascending=False, kind="stable").index
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


def composed(folder: str, *overrides: str) -> dict[str, Any]:
    """The configuration of one run."""
    from hydra import compose, initialize_config_dir

    root = Path(__file__).parents[1] / "conf"
    with initialize_config_dir(str(root), version_base="1.3"):
        cfg = compose("config", [f"tracking.dir={folder}", *overrides], return_hydra_config=True)
    return composition.plain(cfg, [{"path": str(root), "schema": "file", "provider": "main"}])


def evidence_of(parts: Any, cast: pd.DataFrame, labels: pd.DataFrame, seed: int = 0) -> Evidence:
    """The evidence about all items of a run."""
    return Evidence(
        items=parts.data.items,
        votes=cast,
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


def _study(folder: str) -> None:
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
    for name in names:
        over = ["dataset=synthetic_protocols", "dataset.protocols=5", f"filter={name}", "evidence.calibration=40"]
        over += ["filter.random_matched.like=confident_learning"] if name == "random_matched" else []
        config = composed(folder, *over)
        config["evidence"]["student"] = {"_target_": f"{__name__}.Student"}
        for seed in range(5):
            parts = composition.build(config | {"seed": seed})
            votes_of_run, labels = parts.labeler.annotate(parts.data.items)
            decide(parts.filters, evidence_of(parts, votes_of_run, labels, seed))


def over_called(gold: pd.Series) -> pd.DataFrame:
    """Votes of two views that find 95% of the schedules and call a fifth or a third of the other tables one."""
    rng = np.random.default_rng(0)
    parts = []
    for view, too_many in (("json", 0.2), ("text", 0.33)):
        says_soe = rng.random(len(gold)) < np.where(gold == "soe", 0.95, too_many)
        label = np.where(says_soe, "soe", "other")
        parts.append(pd.DataFrame({"item_id": gold.index, "view": view, "label": label}, dtype=object))
    cast = pd.concat(parts, ignore_index=True)
    return cast.assign(annotator="machine", repeat=0, confidence=1.0, status="ok", cost_usd=0.0)


def iterated_ratios() -> dict[str, float]:
    """CPU seconds of the whole filter `iterated` in units of one plain fit-and-predict."""
    rounds = [cpu_seconds_of_iterated() for _ in range(ROUNDS_OF_ITERATED)]
    median = {name: statistics.median(seconds[name] for seconds in rounds) for name in rounds[0]}
    print("CPU seconds:", {name: round(seconds, 2) for name, seconds in median.items()})
    return {
        "iterated_per_fit": round(median["iterated"] / median["fit"], 2),
        "iterated_per_sklearn_fit": round(median["iterated"] / median["sklearn_fit"], 2),
    }


def cpu_seconds_of_iterated() -> dict[str, float]:
    """Of a fit-and-predict by scikit-learn, by the student, and of the filter; each reads all texts anew."""
    with tempfile.TemporaryDirectory() as folder:
        over = ["dataset=synthetic_protocols", f"dataset.protocols={PROTOCOLS}", "filter=iterated"]
        parts = composition.build(composed(folder, *over))
        cast = over_called(parts.data.gold)
        labels = aggregations.any_view(cast, parts.task)
        train = parts.data.items.assign(label=labels["label"], weight=1.0)
        student = parts.resources.student
        works: dict[str, Callable[[], Any]] = {
            "sklearn_fit": lambda: sklearn_fit(student, train),
            "fit": lambda: student.fit(train, train.iloc[:0], 0).predict_proba(parts.data.items),
            "iterated": lambda: decide(parts.filters, evidence_of(parts, cast, labels)),
        }
        seconds = {}
        for name, work in works.items():
            term_counts.forget()
            started = time.process_time()
            result = work()
            seconds[name] = time.process_time() - started
        is_wrong = labels["label"] != parts.data.gold
        print(f"iterated: {len(train)} tables, {is_wrong.mean():.1%} wrong; kept {result['keep'].mean():.0%}, ", end="")
        print(f"{is_wrong[result['keep']].mean():.1%} wrong")
        return seconds


def sklearn_fit(student: Any, train: pd.DataFrame) -> None:
    """Fit scikit-learn's parts with the student's settings on each view, and predict the same items."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    for view in ("json", "text"):
        pipeline = make_pipeline(
            TfidfVectorizer(
                token_pattern=student.token_pattern,
                ngram_range=(1, student.ngram_max),
                min_df=student.min_df,
                max_features=student.max_features,
                sublinear_tf=True,
                dtype=np.float32,
            ),
            LogisticRegression(C=student.C, class_weight=student.class_weight, max_iter=student.max_iter),
        )
        pipeline.fit(train[view], train["label"]).predict_proba(train[view])


def main() -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    ratios = filter_ratios()
    builds = evidence_builds()
    result = {"worst_filter_ratio": round(max(ratios.values()), 2), "evidence_builds": builds}
    result |= iterated_ratios() | {"bootstrap_ratio": round(bootstrap_ratio(), 2)}
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
