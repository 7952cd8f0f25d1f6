"""Arms beside each other, and the differences that matter: paired, by group, with intervals and tests.

Computed from logged predictions, so that it can be done again later for any set of runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.stats import bootstrap, significance

LOGGED = (
    "test_by_group/share_full_recall",
    "test_by_group/share_full_precision",
    "labels/kept_fraction",
    "labels/noise_before",
    "labels/noise_after",
    "labels/n_train",
    "labels/human_labels",
)
ENSEMBLE_SIZES = 12
"""Rows at most in a table of vote ensembles."""


@dataclass(frozen=True)
class FinishedRun:
    """One arm with one seed.

    predictions: item_id -> label, gold, group_id, fold and prob:<class>. data: digest of its data. task: its classes
    and which of them is positive, as text. votes: what the labeler said, where it is the arm itself, else None.
    settings: what decides its result, but the seed and the data, by configuration key.
    """

    run_id: str
    arm: str
    model: str
    variant: str
    seed: int
    simulated: bool
    data: str
    predictions: pd.DataFrame
    metrics: Mapping[str, float]
    task: str = ""
    votes: pd.DataFrame | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """table: one row an arm. deltas: run_id -> the metrics of that run that come of comparing it.

    by_group: one row an arm and group, means over the seeds: n, n_positive, METRICS (the paper's Table 8).
    ensembles: one row a number of votes that it takes to be positive (the paper's Table 7); may be empty.
    """

    table: pd.DataFrame
    deltas: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    by_group: pd.DataFrame = field(default_factory=pd.DataFrame)
    ensembles: pd.DataFrame = field(default_factory=pd.DataFrame)


def compare(
    runs: Sequence[FinishedRun], references: Sequence[str], scored: Sequence[str], *, replicates: int
) -> Comparison:
    """The table of the arms, in the order of `runs`, and their differences to the references.

    A row is the mean over an arm's seeds, each metric with the 95% interval `_low`, `_high` of what other groups
    and seeds would give (`significance.estimate`). `delta/<reference>/f1` is the mean over the common seeds of the
    difference in F1 to that arm (same model and variant), resampled together: the two arms are tested on the same
    groups. `_p` tests it against 0, and `_p_holm` is adjusted for the number of arms that are held against that
    reference. `delta/<reference>/mcnemar_p` and `_p_holm` test likewise whether one of the two is right more often
    (`significance.mcnemar`).
    A run has the differences of its seed (`delta/...`, for other groups only) and those of its arm
    (`arm/delta/...`, as in the table).
    Variants of a sweep (captions in and out, say) are rows of their own, and compared among themselves only.
    Raises UserError if the runs of a variant were not measured on the same data, task and split, or those of an arm
    differ in more than the seed.
    """
    tables: list[pd.DataFrame] = []
    deltas: dict[str, dict[str, float]] = {}
    groups: list[pd.DataFrame] = []
    ensembles: list[pd.DataFrame] = []
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run for run in runs if run.variant == variant]
        _check_comparable(own)
        table, found = _compare_variant(own, references, _Measure.of(own, scored, replicates))
        tables.append(table)
        deltas |= found
        groups.append(_by_group(own, scored))
        ensembles.append(_ensembles(own, scored, replicates))
    joined = [pd.concat(parts, ignore_index=True) if parts else pd.DataFrame() for parts in (tables, groups, ensembles)]
    return Comparison(joined[0], deltas, joined[1], joined[2])


Arm = tuple[str, str]
"""Name of the arm and of its model."""


@dataclass(frozen=True)
class _Measure:
    """The groups that some run was tested on (`tested`: by run, whether each was), their common resamples, and what
    each of the runs scores in them."""

    groups: np.ndarray
    sizes: pd.DataFrame
    tested: Mapping[str, np.ndarray]
    values: Mapping[str, Mapping[str, float]]
    resampled: Mapping[str, Mapping[str, np.ndarray]]

    @staticmethod
    def of(runs: Sequence[FinishedRun], scored: Sequence[str], replicates: int) -> "_Measure":
        items = pd.concat([run.predictions[["group_id", "gold"]] for run in runs])
        items = items[~items.index.duplicated()]
        sizes = bootstrap.sizes(items["gold"], items["group_id"], scored)
        groups = sizes.index.to_numpy(dtype=str)
        weights = bootstrap.resamples(len(groups), replicates)
        values, resampled, tested = {}, {}, {}
        for run in runs:
            # A hold-out split tests other groups with every seed: each takes its columns of the common resamples.
            own = tested[run.run_id] = np.isin(groups, run.predictions["group_id"].to_numpy(dtype=str))
            values[run.run_id], resampled[run.run_id] = bootstrap.measure(
                run.predictions, scored, weights if own.all() else weights[:, own]
            )
        return _Measure(groups, sizes, tested, values, resampled)

    def mean(self, runs: Sequence[FinishedRun], metric: str) -> significance.Estimate:
        ids = [run.run_id for run in runs]
        points, resampled = [self.values[i][metric] for i in ids], [self.resampled[i][metric] for i in ids]
        return significance.estimate(
            points, resampled, len(self.groups), significance.groups_behind(metric, self.sizes)
        )

    def difference(self, pairs: Sequence[tuple[FinishedRun, FinishedRun]], metric: str) -> significance.Estimate:
        ids = [(one.run_id, other.run_id) for one, other in pairs]
        points = [self.values[a][metric] - self.values[b][metric] for a, b in ids]
        resampled = [self.resampled[a][metric] - self.resampled[b][metric] for a, b in ids]
        tested = np.any([self.tested[a] for a, _ in ids], axis=0)
        return significance.estimate(points, resampled, int(tested.sum()))

    def mcnemar(self, pairs: Sequence[tuple[FinishedRun, FinishedRun]]) -> float:
        return significance.mcnemar(np.stack([self._only_one_right(*pair) for pair in pairs]))

    def _only_one_right(self, one: FinishedRun, other: FinishedRun) -> np.ndarray:
        """For each group the items that only `one` has right, less those that only `other` has."""
        mine, theirs = (run.predictions["label"] == run.predictions["gold"] for run in (one, other))
        gained = mine.astype(int) - theirs.reindex(mine.index).astype(int)
        by_group = gained.groupby(one.predictions["group_id"].astype(str)).sum()
        return by_group.reindex(self.groups, fill_value=0).to_numpy()


def _compare_variant(
    runs: Sequence[FinishedRun], references: Sequence[str], measure: _Measure
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    by_arm: dict[Arm, list[FinishedRun]] = {}
    for run in runs:
        by_arm.setdefault((run.arm, run.model), []).append(run)
    table = pd.DataFrame([_row(own, measure) for own in by_arm.values()])
    deltas: dict[str, dict[str, float]] = {run.run_id: {} for run in runs}
    for reference in references:
        key = f"delta/{reference}"
        rows: list[dict[str, float]] = []
        for (arm, model), own in by_arm.items():
            others = {run.seed: run for run in _reference(by_arm, reference, model)}
            pairs = [(run, others[run.seed]) for run in own if run.seed in others and arm != reference]
            rows.append(_difference(key, pairs, measure))
            for pair in pairs:
                deltas[pair[0].run_id] |= _difference(key, [pair], measure)
        found = pd.DataFrame(rows)
        if found.empty:
            continue
        for name in ("f1", "mcnemar"):
            found[f"{key}/{name}_p_holm"] = significance.holm(found[f"{key}/{name}_p"])
        table = table.join(found)
        for own, (_, row) in zip(by_arm.values(), found.iterrows(), strict=True):
            for run in own:
                deltas[run.run_id] |= {f"arm/{name}": float(value) for name, value in row.dropna().items()}
    return table, deltas


def _row(own: Sequence[FinishedRun], measure: _Measure) -> dict[str, object]:
    """An arm's row of the table: means over its seeds, with intervals."""
    row: dict[str, object] = {
        "arm": own[0].arm,
        "model": own[0].model,
        "variant": own[0].variant,
        "seeds": len(own),
        "simulated": own[0].simulated,
    }
    for name in measure.values[own[0].run_id]:
        found = measure.mean(own, name)
        row[name] = found.value
        row[f"{name}_low"], row[f"{name}_high"] = found.share_interval()
    row["test/f1_seed_sd"] = (
        float(np.std([measure.values[run.run_id]["test/f1"] for run in own], ddof=1)) if len(own) > 1 else np.nan
    )
    for name in LOGGED:
        values = [run.metrics[name] for run in own if name in run.metrics]
        row[name] = float(np.mean(values)) if values else np.nan
    row["labels/cost_usd"] = float(np.mean([run.metrics.get("labels/cost_usd", 0.0) for run in own]))
    return row


def _difference(key: str, pairs: Sequence[tuple[FinishedRun, FinishedRun]], measure: _Measure) -> dict[str, float]:
    if not pairs:
        return {}
    found = measure.difference(pairs, "test/f1")
    low, high = found.interval()
    return {
        f"{key}/f1": found.value,
        f"{key}/f1_low": low,
        f"{key}/f1_high": high,
        f"{key}/f1_p": found.p_value(),
        f"{key}/mcnemar_p": measure.mcnemar(pairs),
    }


def _reference(by_arm: Mapping[Arm, list[FinishedRun]], reference: str, model: str) -> list[FinishedRun]:
    """The reference's runs with the same model; an arm without a model is held against the only one."""
    if (reference, model) in by_arm:
        return by_arm[reference, model]
    same = [runs for (arm, other), runs in by_arm.items() if arm == reference and "none" in (other, model)]
    return same[0] if len(same) == 1 else []


def _by_group(runs: Sequence[FinishedRun], scored: Sequence[str]) -> pd.DataFrame:
    parts = []
    for run in runs:
        counts = bootstrap.count(
            run.predictions["label"], run.predictions["gold"], run.predictions["group_id"].astype(str), scored
        )
        positives = (counts.tp + counts.fn).sum(axis=1)
        part = bootstrap.by_group(counts).assign(n=counts.total, n_positive=positives).reset_index()
        parts.append(part.assign(arm=run.arm, model=run.model, variant=run.variant, simulated=run.simulated))
    keys = ["arm", "model", "variant", "simulated", "group_id"]
    means = pd.concat(parts).groupby(keys, sort=False)[["n", "n_positive", *bootstrap.METRICS]].mean()
    return means.reset_index()


def _ensembles(runs: Sequence[FinishedRun], scored: Sequence[str], replicates: int) -> pd.DataFrame:
    """Positive if at least k of n votes say so, for the labelers that are arms by themselves (the paper's Table 7).

    A vote is what one annotator said of one view in one repeat; those who read only some of the items are left out,
    and a vote without a label says no. Empty if fewer than two are left, or the task has no positive class.
    """
    voted = [run for run in runs if run.votes is not None and not run.simulated]
    if not voted or len(scored) != 1:
        return pd.DataFrame()
    items = pd.concat([run.predictions[["gold", "group_id"]] for run in voted])
    items = items[~items.index.duplicated()]
    key = ["annotator", "view", "repeat"]
    votes = pd.concat([run.votes for run in voted if run.votes is not None])
    votes = votes[votes["item_id"].isin(items.index)].drop_duplicates(["item_id", *key])
    votes["yes"] = votes["label"] == scored[0]
    said = votes.pivot(index="item_id", columns=key, values="yes").reindex(items.index).dropna(axis="columns")
    n = said.shape[1]
    if n < 2:
        return pd.DataFrame()
    count, rows = said.sum(axis=1), []
    for k in np.unique(np.linspace(1, n, min(n, ENSEMBLE_SIZES)).round().astype(int)):
        label = np.where(count >= k, scored[0], "")  # the other classes need no names here
        gold = items["gold"].where(items["gold"] == scored[0], "")
        own = FinishedRun(str(k), "", "", "", 0, False, "", items.assign(label=label, gold=gold), {})
        measure = _Measure.of([own], scored, replicates)
        row: dict[str, object] = {"variant": runs[0].variant, "at_least": int(k), "of": n}
        for metric in bootstrap.METRICS:
            found = measure.mean([own], f"test/{metric}")
            row[f"test/{metric}"] = found.value
            row[f"test/{metric}_low"], row[f"test/{metric}_high"] = found.share_interval()
        rows.append(row)
    return pd.DataFrame(rows)


def _check_comparable(runs: Sequence[FinishedRun]) -> None:
    first = runs[0]
    for run in runs:
        if run.data != first.data:
            raise UserError(
                f"not comparable: arms {run.arm!r} and {first.arm!r} were measured on different data; choose with "
                f"--runs \"tags.data = '{run.data}'\" or '{first.data}'"
            )
        if run.task != first.task:
            raise UserError(
                f"not comparable: arms {run.arm!r} and {first.arm!r} have other classes: {run.task} and {first.task}"
            )
    by_arm: dict[Arm, FinishedRun] = {}
    for run in runs:
        other = by_arm.setdefault((run.arm, run.model), run)
        if run.settings != other.settings:
            names = sorted({*run.settings, *other.settings})
            key = next(name for name in names if run.settings.get(name) != other.settings.get(name))
            one, another = run.settings.get(key), other.settings.get(key)
            raise UserError(
                f"not comparable: the runs of arm {run.arm!r} with seeds {other.seed} and {run.seed} differ in more: "
                f"{key}={another} and {one}; choose with --runs \"params.`{key}` = '{one}'\" or '{another}'"
            )
    by_seed: dict[int, FinishedRun] = {}
    for run in runs:
        other = by_seed.setdefault(run.seed, run)
        if set(run.predictions.index) != set(other.predictions.index):
            raise UserError(
                f"not comparable: arms {run.arm!r} and {other.arm!r} with seed {run.seed} were tested on other items"
            )
        if "fold" in run.predictions and "fold" in other.predictions:
            fold = run.predictions["fold"]
            if not fold.equals(other.predictions["fold"].reindex(fold.index)):
                raise UserError(
                    f"not comparable: arms {run.arm!r} and {other.arm!r} with seed {run.seed} have other folds (split)"
                )
