"""Arms beside each other: differences are paired, by group, and equal what a naive loop finds."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from silvertune.errors import UserError
from silvertune.evaluation import bootstrap
from silvertune.evaluation.comparison import Comparison, FinishedRun, compare

REPLICATES = 300
GROUPS, PER_GROUP = 8, 6


def finished(
    arm: str,
    *,
    seed: int = 0,
    right: float = 0.8,
    groups: Sequence[int] = range(GROUPS),
    model: str = "m",
    variant: str = "",
    data: str = "d",
    simulated: bool = False,
    metrics: dict[str, float] | None = None,
    luck: int | None = None,
) -> FinishedRun:
    """A run that is right about `right` of the items of these groups; gold is the same for all runs."""
    ids = [f"i{g}.{k}" for g in groups for k in range(PER_GROUP)]
    true = np.array(["pos" if (g + k) % 3 == 0 else "neg" for g in groups for k in range(PER_GROUP)], dtype=object)
    made = sum(map(ord, arm + variant + model)) if luck is None else luck
    rng = np.random.default_rng([made, seed])
    other = np.where(true == "pos", "neg", "pos")
    said = np.where(rng.random(len(ids)) < right, true, other).astype(object)
    predictions = pd.DataFrame(
        {"label": said, "gold": true, "group_id": [f"g{g}" for g in groups for _ in range(PER_GROUP)]},
        index=pd.Index(ids, name="item_id"),
    )
    return FinishedRun(
        run_id=f"{arm}/{model}/{variant}/{seed}",
        arm=arm,
        model=model,
        variant=variant,
        seed=seed,
        simulated=simulated,
        data=data,
        predictions=predictions,
        metrics=metrics or {},
    )


def compared(runs: Sequence[FinishedRun], *references: str) -> Comparison:
    return compare(runs, references, ["pos"], replicates=REPLICATES)


def f1(run: FinishedRun, at: np.ndarray | None = None) -> float:
    said, true = ((run.predictions[name] == "pos").to_numpy() for name in ("label", "gold"))
    if at is not None:
        said, true = said[at], true[at]
    hits, misses = int((said & true).sum()), int((said != true).sum())
    return 2 * hits / (2 * hits + misses) if hits + misses else 0.0


def row(result: Comparison, arm: str, model: str = "m", variant: str = "") -> "pd.Series[float]":
    table = result.table
    found = table[(table["arm"] == arm) & (table["model"] == model) & (table["variant"] == variant)]
    assert len(found) == 1
    return found.iloc[0]


def drawn(run: FinishedRun, groups: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """Positions of the run's items in one resample of all groups."""
    own = run.predictions["group_id"].to_numpy()
    return np.array(
        [i for g, k in zip(groups, weights, strict=True) for _ in range(int(k)) for i in np.flatnonzero(own == g)]
    )


# ------------------------------------------------------------------------------------------------- one difference


def test_a_difference_is_that_of_the_two_f1s() -> None:
    ours, theirs = finished("ours"), finished("theirs", right=0.6)
    assert f1(ours) == pytest.approx(f1_score(ours.predictions["gold"], ours.predictions["label"], pos_label="pos"))
    result = compared([ours, theirs], "theirs")
    assert result.deltas[ours.run_id]["delta/theirs/f1"] == pytest.approx(f1(ours) - f1(theirs))
    assert row(result, "ours")["delta/theirs/f1"] == pytest.approx(f1(ours) - f1(theirs))
    assert row(result, "ours")["test/f1"] == pytest.approx(f1(ours))


def test_an_interval_is_that_of_a_naive_loop_over_resampled_groups() -> None:
    ours, theirs = finished("ours"), finished("theirs", right=0.6)
    groups = sorted(set(ours.predictions["group_id"]))
    values, differences = [], []
    for weights in bootstrap.resamples(len(groups), REPLICATES):
        at = drawn(ours, groups, weights)
        values.append(f1(ours, at))
        differences.append(f1(ours, at) - f1(theirs, at))
    result = compared([ours, theirs], "theirs")
    low, high = np.quantile(differences, [0.025, 0.975])
    found = result.deltas[ours.run_id]
    assert (found["delta/theirs/f1_low"], found["delta/theirs/f1_high"]) == pytest.approx((low, high))
    assert tuple(row(result, "ours")[["delta/theirs/f1_low", "delta/theirs/f1_high"]]) == pytest.approx((low, high))
    assert tuple(row(result, "ours")[["test/f1_low", "test/f1_high"]]) == pytest.approx(
        tuple(np.quantile(values, [0.025, 0.975]))
    )
    assert low < found["delta/theirs/f1"] < high


def test_identical_arms_do_not_differ() -> None:
    ours = finished("ours", luck=1)
    found = compared([ours, finished("theirs", luck=1)], "theirs").deltas[ours.run_id]
    assert found == {
        "delta/theirs/f1": 0,
        "delta/theirs/f1_low": 0,
        "delta/theirs/f1_high": 0,
        "delta/theirs/mcnemar_p": 1,
    }


@pytest.mark.parametrize("luck", range(4))
def test_mcnemars_test_is_the_exact_binomial_of_the_items_that_one_has_right(luck: int) -> None:
    ours, theirs = finished("ours", luck=luck), finished("theirs", right=0.5, luck=luck + 10)
    mine = (ours.predictions["label"] == ours.predictions["gold"]).to_numpy()
    yours = (theirs.predictions["label"] == theirs.predictions["gold"]).to_numpy()
    b, c = int((mine & ~yours).sum()), int((yours & ~mine).sum())
    assert b + c > 0
    expected = binomtest(min(b, c), b + c, 0.5).pvalue
    found = compared([ours, theirs], "theirs").deltas[ours.run_id]["delta/theirs/mcnemar_p"]
    assert found == pytest.approx(expected)


def test_the_order_of_the_items_does_not_matter() -> None:
    ours, theirs = finished("ours"), finished("theirs", right=0.6)
    turned = replace(theirs, predictions=theirs.predictions.sample(frac=1, random_state=0))
    straight, mixed = (compared([ours, other], "theirs").deltas[ours.run_id] for other in (theirs, turned))
    assert mixed == pytest.approx(straight)


def test_an_item_without_an_answer_is_not_right() -> None:
    ours = finished("ours", right=1.0)
    silent = replace(ours, run_id="silent", arm="silent", predictions=ours.predictions.assign(label=None))
    result = compared([ours, silent], "silent")
    assert row(result, "silent")["test/recall"] == 0
    assert result.deltas[ours.run_id]["delta/silent/f1"] == 1
    n = GROUPS * PER_GROUP
    assert result.deltas[ours.run_id]["delta/silent/mcnemar_p"] == pytest.approx(binomtest(0, n).pvalue)


# -------------------------------------------------------------------------------------------------- the reference


def test_a_reference_is_not_held_against_itself() -> None:
    ours, theirs, third = finished("ours"), finished("theirs"), finished("third")
    result = compared([ours, theirs, third], "theirs", "third")
    assert result.table["arm"].tolist() == ["ours", "theirs", "third"]
    assert set(result.deltas[theirs.run_id]) == {
        f"delta/third/{name}" for name in ("f1", "f1_low", "f1_high", "mcnemar_p")
    }
    assert pd.isna(row(result, "theirs")["delta/theirs/f1"])
    assert pd.notna(row(result, "theirs")["delta/third/f1"])
    assert row(result, "theirs")["delta/third/f1"] == pytest.approx(-row(result, "third")["delta/theirs/f1"])


def test_a_reference_that_did_not_finish_gives_no_difference() -> None:
    ours = finished("ours")
    result = compared([ours], "theirs")
    assert result.deltas[ours.run_id] == {}
    assert "delta/theirs/f1" not in result.table


def test_an_arm_is_held_against_the_reference_with_its_model_and_variant() -> None:
    runs = [
        finished(arm, model=model, variant=variant, right=0.5 + 0.1 * i)
        for i, (arm, model, variant) in enumerate(
            (arm, model, variant) for arm in ("ours", "theirs") for model in ("m", "n") for variant in ("", "x=1")
        )
    ]
    result = compared(runs, "theirs")
    by_id = {run.run_id: run for run in runs}
    for model in ("m", "n"):
        for variant in ("", "x=1"):
            expected = f1(by_id[f"ours/{model}/{variant}/0"]) - f1(by_id[f"theirs/{model}/{variant}/0"])
            assert row(result, "ours", model, variant)["delta/theirs/f1"] == pytest.approx(expected)


def test_an_arm_with_another_variant_has_no_difference() -> None:
    ours = finished("ours", variant="x=1")
    assert compared([ours, finished("theirs", variant="x=2")], "theirs").deltas[ours.run_id] == {}


@pytest.mark.parametrize(("own", "their"), [("none", "m"), ("m", "none"), ("none", "none")])
def test_an_arm_without_a_model_is_held_against_the_only_one(own: str, their: str) -> None:
    ours, theirs = finished("ours", model=own), finished("theirs", model=their)
    found = compared([ours, theirs], "theirs").deltas[ours.run_id]
    assert found["delta/theirs/f1"] == pytest.approx(f1(ours) - f1(theirs))


def test_an_arm_without_a_model_is_held_against_none_of_several() -> None:
    ours = finished("ours", model="none")
    runs = [ours, finished("theirs", model="m"), finished("theirs", model="n")]
    assert compared(runs, "theirs").deltas[ours.run_id] == {}


@pytest.mark.parametrize("model", ["m", "none"])
def test_the_reference_with_the_same_model_comes_first(model: str) -> None:
    ours, same = finished("ours", model=model), finished("theirs", model=model, right=0.7)
    other = finished("theirs", model="none" if model == "m" else "m", right=0.6)
    found = compared([ours, same, other], "theirs").deltas[ours.run_id]
    assert found["delta/theirs/f1"] == pytest.approx(f1(ours) - f1(same))


# ---------------------------------------------------------------------------------------------------------- seeds


def test_a_row_is_the_mean_over_the_seeds() -> None:
    runs = [finished("ours", seed=seed, metrics={"labels/kept_fraction": seed / 4}) for seed in range(3)]
    found = row(compared(runs), "ours")
    values = [f1(run) for run in runs]
    assert len(set(values)) > 1
    assert found["seeds"] == 3
    assert found["test/f1"] == pytest.approx(np.mean(values))
    assert found["test/f1_seed_sd"] == pytest.approx(np.std(values))
    assert found["labels/kept_fraction"] == 0.25
    assert np.isnan(found["labels/noise_before"])


def test_a_difference_is_the_mean_over_the_common_seeds() -> None:
    ours = [finished("ours", seed=seed) for seed in (0, 1, 2)]
    theirs = [finished("theirs", seed=seed, right=0.6) for seed in (1, 2, 3)]
    result = compared([*ours, *theirs], "theirs")
    expected = [f1(ours[1]) - f1(theirs[0]), f1(ours[2]) - f1(theirs[1])]
    assert row(result, "ours")["delta/theirs/f1"] == pytest.approx(np.mean(expected))
    assert result.deltas[ours[0].run_id] == {}
    assert result.deltas[ours[1].run_id]["delta/theirs/f1"] == pytest.approx(expected[0])


def test_hold_out_seeds_with_other_test_groups_share_the_resamples_of_all_groups() -> None:
    parts = {0: [0, 1, 2], 1: [2, 3, 4, 5], 2: [5, 6, 7]}
    ours = [finished("ours", seed=seed, groups=groups) for seed, groups in parts.items()]
    theirs = [finished("theirs", seed=seed, groups=groups, right=0.6) for seed, groups in parts.items()]
    names = [f"g{i}" for i in range(GROUPS)]
    differences = []
    for weights in bootstrap.resamples(GROUPS, REPLICATES):
        ats = [drawn(run, names, weights) for run in ours]
        found = [f1(a, at) - f1(b, at) for a, b, at in zip(ours, theirs, ats, strict=True) if len(at)]
        if found:  # seeds of whose groups none was drawn say nothing
            differences.append(np.mean(found))
    result = row(compared([*ours, *theirs], "theirs"), "ours")
    assert result["delta/theirs/f1"] == pytest.approx(
        np.mean([f1(a) - f1(b) for a, b in zip(ours, theirs, strict=True)])
    )
    expected = np.quantile(differences, [0.025, 0.975])
    assert tuple(result[["delta/theirs/f1_low", "delta/theirs/f1_high"]]) == pytest.approx(tuple(expected))


# -------------------------------------------------------------------------------------------------- what is refused


def test_runs_on_other_data_are_not_compared() -> None:
    with pytest.raises(UserError, match=r"^not comparable: .*different data") as caught:
        compared([finished("ours"), finished("theirs", data="other")], "theirs")
    assert "\n" not in str(caught.value)


def test_arms_with_other_test_items_are_not_compared() -> None:
    runs = [finished("ours"), finished("theirs", groups=range(GROUPS - 1))]
    with pytest.raises(UserError, match=r"^not comparable: arms 'theirs' and 'ours' with seed 0 were tested on other"):
        compared(runs, "theirs")


def test_arms_with_other_test_items_are_not_compared_without_a_reference_either() -> None:
    with pytest.raises(UserError, match="not comparable"):
        compared([finished("ours"), finished("theirs", groups=range(GROUPS - 1))])


# ------------------------------------------------------------------------------------------------------- the table


def test_the_table_says_what_is_simulated_and_has_one_row_an_arm_in_order() -> None:
    runs = [finished("zoe"), finished("abe", simulated=True), finished("zoe", seed=1)]
    table = compared(runs).table
    assert table["arm"].tolist() == ["zoe", "abe"]
    assert table["seeds"].tolist() == [2, 1]
    assert table["simulated"].tolist() == [False, True]


def test_group_means_are_means_over_groups() -> None:
    ours = finished("ours")
    per_group = [f1(ours, np.flatnonzero(ours.predictions["group_id"] == f"g{g}")) for g in range(GROUPS)]
    assert row(compared([ours]), "ours")["test_by_group/f1"] == pytest.approx(np.mean(per_group))


def test_an_arm_that_predicts_nothing_gives_no_warning() -> None:
    ours = finished("ours")
    nothing = replace(ours, predictions=ours.predictions.assign(label="neg"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = row(compared([nothing]), "ours")
    assert np.isnan(found["test_by_group/precision"])


def test_several_classes_are_compared_by_macro_f1() -> None:
    ours, theirs = finished("ours"), finished("theirs", right=0.6)
    result = compare([ours, theirs], ["theirs"], ["neg", "pos"], replicates=50)

    def macro(run: FinishedRun) -> float:
        return float(f1_score(run.predictions["gold"], run.predictions["label"], average="macro"))

    assert row(result, "ours")["delta/theirs/f1"] == pytest.approx(macro(ours) - macro(theirs))
