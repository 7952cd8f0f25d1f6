"""Arms beside each other, and the differences that matter: paired, by group, with intervals.

Computed from logged predictions, so that it can be done again later for any set of runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.evaluation import bootstrap

POINTS = ("test/auroc", "test/auprc", "test_by_group/share_full_recall", "test_by_group/share_full_precision")
LABELS = (
    "labels/kept_fraction",
    "labels/noise_before",
    "labels/noise_after",
    "labels/n_train",
    "labels/cost_usd",
)


@dataclass(frozen=True)
class FinishedRun:
    """One arm with one seed. `predictions`: item_id -> label, gold, group_id. `data`: digest of its data."""

    run_id: str
    arm: str
    model: str
    variant: str
    seed: int
    simulated: bool
    data: str
    predictions: pd.DataFrame
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """table: one row an arm. deltas: run_id -> the `delta/...` metrics of that run."""

    table: pd.DataFrame
    deltas: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def compare(
    runs: Sequence[FinishedRun], references: Sequence[str], scored: list[str], *, replicates: int
) -> Comparison:
    """The table of the arms, in the order of `runs`, and their differences to the references.

    A row is the mean over an arm's seeds; its interval comes from resamples of groups, of each of which the
    mean over the seeds is taken. `delta/<reference>/f1` is the mean over the common seeds of the difference
    in F1 to that arm (same model and variant), resampled together: the two arms are tested on the same
    groups. `delta/<reference>/mcnemar_p` (per run) is McNemar's exact test on the items that only one of
    the two has right (Dietterich 1998, section 3.1); it takes items as independent, which those of a group
    are not: go by the interval.
    Variants of a sweep (captions in and out, say) are rows of their own, and compared among themselves only.
    Raises UserError if the runs of a variant were not measured on the same data, or with one seed not on the
    same items.
    """
    tables: list[pd.DataFrame] = []
    deltas: dict[str, dict[str, float]] = {}
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run for run in runs if run.variant == variant]
        _check_comparable(own)
        table, found = _compare_variant(own, references, scored, replicates)
        tables.append(table)
        deltas |= found
    return Comparison(pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(), deltas)


Arm = tuple[str, str]
"""Name of the arm and of its model."""


def _compare_variant(
    runs: Sequence[FinishedRun], references: Sequence[str], scored: list[str], replicates: int
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    groups = np.unique(np.concatenate([run.predictions["group_id"].to_numpy(dtype=str) for run in runs]))
    weights = bootstrap.resamples(len(groups), replicates)
    scores = {run.run_id: _Scores.of(run, groups, weights, scored) for run in runs}
    by_arm: dict[Arm, list[FinishedRun]] = {}
    for run in runs:
        by_arm.setdefault((run.arm, run.model), []).append(run)
    rows: list[dict[str, object]] = []
    deltas: dict[str, dict[str, float]] = {run.run_id: {} for run in runs}
    for (arm, model), own in by_arm.items():
        row = _row(own, scores)
        for reference in references:
            others = {run.seed: run for run in _reference(by_arm, reference, model)}
            pairs = [(run, others[run.seed]) for run in own if run.seed in others and arm != reference]
            differences = []
            for run, other in pairs:
                point, resampled = scores[run.run_id].minus(scores[other.run_id])
                deltas[run.run_id] |= _with_interval(f"delta/{reference}/f1", point, resampled)
                deltas[run.run_id][f"delta/{reference}/mcnemar_p"] = _mcnemar(run, other)
                differences.append((point, resampled))
            if differences:
                points, resamples = zip(*differences, strict=True)
                row |= _with_interval(f"delta/{reference}/f1", float(np.mean(points)), _mean(resamples))
        rows.append(row)
    return pd.DataFrame(rows), deltas


def _row(own: Sequence[FinishedRun], scores: "Mapping[str, _Scores]") -> dict[str, object]:
    """An arm's row of the table: means over its seeds, with intervals."""
    row: dict[str, object] = {
        "arm": own[0].arm,
        "model": own[0].model,
        "variant": own[0].variant,
        "seeds": len(own),
        "simulated": own[0].simulated,
    }
    for prefix, part in (("test", "micro"), ("test_by_group", "grouped")):
        for name in bootstrap.METRICS:
            points = np.array([getattr(scores[run.run_id], part)[0][name] for run in own], dtype=float)
            defined = points[~np.isnan(points)]
            resampled = _mean([getattr(scores[run.run_id], part)[1][name] for run in own])
            row |= _with_interval(f"{prefix}/{name}", float(defined.mean()) if len(defined) else np.nan, resampled)
    row["test/f1_seed_sd"] = float(np.std([scores[run.run_id].micro[0]["f1"] for run in own]))
    for name in (*POINTS, *LABELS):
        values = [run.metrics[name] for run in own if name in run.metrics]
        row[name] = float(np.mean(values)) if values else np.nan
    return row


def _with_interval(name: str, point: float, resampled: np.ndarray) -> dict[str, float]:
    low, high = bootstrap.interval(resampled)
    return {name: point, f"{name}_low": low, f"{name}_high": high}


@dataclass(frozen=True)
class _Scores:
    """A run's metrics: (values, resampled values), over all items and as means over groups."""

    micro: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
    grouped: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]

    @staticmethod
    def of(run: FinishedRun, groups: np.ndarray, weights: np.ndarray, scored: list[str]) -> "_Scores":
        counts = bootstrap.count(
            run.predictions["label"], run.predictions["gold"], run.predictions["group_id"].astype(str), scored
        )
        # A hold-out split tests other groups with every seed: each takes its columns of the common resamples.
        own = weights
        if len(counts.groups) < len(groups):
            own = weights[:, np.searchsorted(groups, counts.groups.astype(str))]
        table = bootstrap.by_group(counts)
        return _Scores(
            (bootstrap.micro(counts), bootstrap.micro(counts, own)),
            (bootstrap.group_means(table), bootstrap.group_means(table, own)),
        )

    def minus(self, other: "_Scores") -> tuple[float, np.ndarray]:
        return float(self.micro[0]["f1"] - other.micro[0]["f1"]), self.micro[1]["f1"] - other.micro[1]["f1"]


def _reference(by_arm: Mapping[Arm, list[FinishedRun]], reference: str, model: str) -> list[FinishedRun]:
    """The reference's runs with the same model; an arm without a model is held against the only one."""
    if (reference, model) in by_arm:
        return by_arm[reference, model]
    same = [runs for (arm, other), runs in by_arm.items() if arm == reference and "none" in (other, model)]
    return same[0] if len(same) == 1 else []


def _mean(resampled: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over seeds of each replicate, those left out where a seed's own groups were never drawn."""
    stack = np.stack(resampled)
    defined = ~np.isnan(stack)
    mean: np.ndarray = np.divide(
        np.nansum(stack, axis=0),
        defined.sum(axis=0),
        out=np.full(stack.shape[1], np.nan),
        where=defined.any(axis=0),
    )
    return mean


def _check_comparable(runs: Sequence[FinishedRun]) -> None:
    if len({run.data for run in runs}) > 1:
        raise UserError("not comparable: the runs were measured on different data (tag `data`)")
    first: dict[int, FinishedRun] = {}
    for run in runs:
        other = first.setdefault(run.seed, run)
        if set(run.predictions.index) != set(other.predictions.index):
            raise UserError(
                f"not comparable: arms {run.arm!r} and {other.arm!r} with seed {run.seed} were tested on other items"
            )


def _mcnemar(run: FinishedRun, other: FinishedRun) -> float:
    from scipy.stats import binomtest

    mine = run.predictions["label"] == run.predictions["gold"]
    theirs = (other.predictions["label"] == other.predictions["gold"]).reindex(mine.index)
    only_mine, only_theirs = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
    return float(binomtest(only_mine, only_mine + only_theirs).pvalue) if only_mine + only_theirs else 1.0
