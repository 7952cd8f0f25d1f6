"""Comparisons of arms: paired differences by group, with intervals and tests.

They are computed from logged predictions, so any set of finished runs can be compared later.
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
"""Metrics of a run that the table shows as they were logged, averaged over the seeds."""
ENSEMBLE_SIZES = 12
"""How many rows a table of vote ensembles has at most."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: one arm with one seed.

    Attributes:
        run_id: The run's id in the tracking store.
        arm: The name of the arm.
        model: The name of the model; `none` where the labeler itself is the arm.
        variant: What else differs within a sweep, such as `captions=true`; empty if nothing does.
        seed: The seed.
        simulated: Whether simulated annotators made its labels.
        data: The digest of its data.
        predictions: `label`, `gold`, `group_id`, `fold` and `prob:<class>` of the test items, indexed by item_id.
        metrics: Its logged metrics.
        scored: The classes that its precision, recall and F1 are about: the positive one, or all.
        task: The task's classes and the positive one, as text.
        votes: The labeler's votes where the labeler itself is the arm; otherwise None.
        settings: Configuration key -> value of the settings that can change its result, without the seed and the data.
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
    scored: Sequence[str]
    task: str = ""
    votes: pd.DataFrame | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Arms compared with each other and with the references.

    Attributes:
        table: One row an arm.
        deltas: run_id -> the metrics that the comparison adds to that run.
        by_group: One row an arm and group, means over the seeds: `n`, `n_positive`, METRICS (the paper's Table 8).
        ensembles: One row a number of positive votes that makes an item positive (the paper's Table 7); may be empty.
    """

    table: pd.DataFrame
    deltas: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    by_group: pd.DataFrame = field(default_factory=pd.DataFrame)
    ensembles: pd.DataFrame = field(default_factory=pd.DataFrame)


def compare(runs: Sequence[FinishedRun], references: Sequence[str], *, replicates: int) -> Comparison:
    """Compare arms with each other and with the references.

    A row of the table is the mean over an arm's seeds, each metric with a 95% interval `_low`, `_high` for other groups
    and seeds (`silvertune.stats.significance.estimate`). `delta/<reference>/f1` is the difference in F1 to the
    reference with the same model and variant: the mean over the seeds that both have, from the same resamples of the
    groups. Its `_p` tests it against 0, and `_p_holm` is adjusted for the number of arms that are compared with that
    reference. `delta/<reference>/mcnemar_p` and its `_holm` test whether one of the two is right more often
    (`silvertune.stats.significance.mcnemar`).

    A run's `deltas` are the differences of its seed (`delta/...`, for other groups only) and those of its arm
    (`arm/delta/...`, as in the table). Variants of a sweep (such as captions in and out) have rows of their own and are
    compared among themselves only.

    Args:
        runs: The finished runs; the table has their order.
        references: The names of the arms to compare with.
        replicates: How many bootstrap resamples of the groups to draw.

    Returns:
        The comparison.

    Raises:
        UserError: If the runs of a variant were not measured on the same data, task and split, or those of an arm
            differ in more than the seed.
    """
    tables: list[pd.DataFrame] = []
    deltas: dict[str, dict[str, float]] = {}
    groups: list[pd.DataFrame] = []
    ensembles: list[pd.DataFrame] = []
    for variant in dict.fromkeys(run.variant for run in runs):
        of_variant = [run for run in runs if run.variant == variant]
        _check_comparable(of_variant)
        scored = of_variant[0].scored  # a sweep over tasks has variants with classes of their own
        table, deltas_of_variant = _compare_variant(of_variant, references, _Measure.of(of_variant, scored, replicates))
        tables.append(table)
        deltas |= deltas_of_variant
        groups.append(_by_group(of_variant, scored))
        ensembles.append(_ensembles(of_variant, scored, replicates))
    joined = [pd.concat(parts, ignore_index=True) if parts else pd.DataFrame() for parts in (tables, groups, ensembles)]
    return Comparison(joined[0], deltas, joined[1], joined[2])


Arm = tuple[str, str]
"""The name of the arm and that of its model."""


@dataclass(frozen=True)
class _Measure:
    """The metrics of several runs and of common resamples of the groups that any of them was tested on.

    groups: (G,) names. sizes: of `bootstrap.sizes`. tested: run_id -> (G,) bool. values: run_id -> metric -> value.
    resampled: run_id -> metric -> (replicates,) values.
    """

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
        weights, blocks = bootstrap.resamples(len(groups), replicates), bootstrap.blocks_of(len(groups))
        values, resampled, tested = {}, {}, {}
        for run in runs:
            # A hold-out split tests other groups with every seed: a run uses its columns of the common resamples.
            is_tested = tested[run.run_id] = np.isin(groups, run.predictions["group_id"].to_numpy(dtype=str))
            columns, blocks_of_run = np.unique(blocks[is_tested], return_inverse=True)
            values[run.run_id], resampled[run.run_id] = bootstrap.measure(
                run.predictions,
                scored,
                weights if len(columns) == weights.shape[1] else weights[:, columns],
                blocks_of_run,
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
        """For each group the number of items that only `one` has right, less the number that only `other` has right."""
        one_right, other_right = (run.predictions["label"] == run.predictions["gold"] for run in (one, other))
        difference = one_right.astype(int) - other_right.reindex(one_right.index).astype(int)
        by_group = difference.groupby(one.predictions["group_id"].astype(str)).sum()
        return by_group.reindex(self.groups, fill_value=0).to_numpy()


def _compare_variant(
    runs: Sequence[FinishedRun], references: Sequence[str], measure: _Measure
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    by_arm: dict[Arm, list[FinishedRun]] = {}
    for run in runs:
        by_arm.setdefault((run.arm, run.model), []).append(run)
    table = pd.DataFrame([_row(of_arm, measure) for of_arm in by_arm.values()])
    deltas: dict[str, dict[str, float]] = {run.run_id: {} for run in runs}
    for reference in references:
        key = f"delta/{reference}"
        rows: list[dict[str, float]] = []
        for (arm, model), of_arm in by_arm.items():
            others = {run.seed: run for run in _reference(by_arm, reference, model)}
            pairs = [(run, others[run.seed]) for run in of_arm if run.seed in others and arm != reference]
            rows.append(_difference(key, pairs, measure))
            for pair in pairs:
                deltas[pair[0].run_id] |= _difference(key, [pair], measure)
        differences = pd.DataFrame(rows)
        if differences.empty:
            continue
        for name in ("f1", "mcnemar"):
            differences[f"{key}/{name}_p_holm"] = significance.holm(differences[f"{key}/{name}_p"])
        table = table.join(differences)
        for of_arm, (_, row) in zip(by_arm.values(), differences.iterrows(), strict=True):
            for run in of_arm:
                deltas[run.run_id] |= {f"arm/{name}": float(value) for name, value in row.dropna().items()}
    return table, deltas


def _row(runs: Sequence[FinishedRun], measure: _Measure) -> dict[str, object]:
    """An arm's row of the table: means over its seeds, with intervals."""
    row: dict[str, object] = {
        "arm": runs[0].arm,
        "model": runs[0].model,
        "variant": runs[0].variant,
        "seeds": len(runs),
        "simulated": runs[0].simulated,
    }
    for name in measure.values[runs[0].run_id]:
        estimate = measure.mean(runs, name)
        row[name] = estimate.value
        row[f"{name}_low"], row[f"{name}_high"] = estimate.share_interval()
    f1_by_seed = [measure.values[run.run_id]["test/f1"] for run in runs]
    row["test/f1_seed_sd"] = float(np.std(f1_by_seed, ddof=1)) if len(runs) > 1 else np.nan
    for name in LOGGED:
        values = [run.metrics[name] for run in runs if name in run.metrics]
        row[name] = float(np.mean(values)) if values else np.nan
    row["labels/cost_usd"] = float(np.mean([run.metrics.get("labels/cost_usd", 0.0) for run in runs]))
    return row


def _difference(key: str, pairs: Sequence[tuple[FinishedRun, FinishedRun]], measure: _Measure) -> dict[str, float]:
    if not pairs:
        return {}
    estimate = measure.difference(pairs, "test/f1")
    low, high = estimate.interval()
    return {
        f"{key}/f1": estimate.value,
        f"{key}/f1_low": low,
        f"{key}/f1_high": high,
        f"{key}/f1_p": estimate.p_value(),
        f"{key}/mcnemar_p": measure.mcnemar(pairs),
    }


def _reference(by_arm: Mapping[Arm, list[FinishedRun]], reference: str, model: str) -> list[FinishedRun]:
    """The reference's runs with the same model; an arm without a model is compared with the only model there is."""
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
    """Metrics of ensembles that are positive if at least k of n votes are positive (the paper's Table 7).

    The votes are those of the labelers that are arms by themselves. A voter is an annotator on a view in a repeat;
    voters who read only some of the items are left out, and a vote without a label counts as negative. Empty if fewer
    than two voters are left, or the task has no positive class.
    """
    voted = [run for run in runs if run.votes is not None and not run.simulated]
    if not voted or len(scored) != 1:
        return pd.DataFrame()
    items = pd.concat([run.predictions[["gold", "group_id"]] for run in voted])
    items = items[~items.index.duplicated()]
    key = ["annotator", "view", "repeat"]
    votes = pd.concat([run.votes for run in voted if run.votes is not None])
    votes = votes[votes["item_id"].isin(items.index)].drop_duplicates(["item_id", *key])
    votes["is_positive"] = votes["label"] == scored[0]
    by_voter = votes.pivot(index="item_id", columns=key, values="is_positive").reindex(items.index)
    by_voter = by_voter.dropna(axis="columns")
    n = by_voter.shape[1]
    if n < 2:
        return pd.DataFrame()
    count, rows = by_voter.sum(axis=1), []
    for k in np.unique(np.linspace(1, n, min(n, ENSEMBLE_SIZES)).round().astype(int)):
        label = np.where(count >= k, scored[0], "")  # one name is enough for all other classes
        gold = items["gold"].where(items["gold"] == scored[0], "")
        run = FinishedRun(str(k), "", "", "", 0, False, "", items.assign(label=label, gold=gold), {}, scored)
        measure = _Measure.of([run], scored, replicates)
        row: dict[str, object] = {"variant": runs[0].variant, "at_least": int(k), "of": n}
        for metric in bootstrap.METRICS:
            estimate = measure.mean([run], f"test/{metric}")
            row[f"test/{metric}"] = estimate.value
            row[f"test/{metric}_low"], row[f"test/{metric}_high"] = estimate.share_interval()
        rows.append(row)
    return pd.DataFrame(rows)


def _is_seed_of_run(key: str, *runs: FinishedRun) -> bool:
    """Whether a part's own seed is the seed of its run in all of these runs, as `seed: ${seed}` makes it."""
    is_seed = key.rpartition(".")[2] in ("seed", "random_state")
    return is_seed and all(run.settings.get(key) == str(run.seed) for run in runs)


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
        names = sorted({*run.settings, *other.settings})
        different = [name for name in names if run.settings.get(name) != other.settings.get(name)]
        if different := [name for name in different if not _is_seed_of_run(name, run, other)]:
            key = different[0]
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
