"""Arms beside each other: differences are paired, by group, and equal what a naive loop finds."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, t
from sklearn.metrics import f1_score
from statsmodels.stats.multitest import multipletests

from silvertune.errors import UserError
from silvertune.evaluation.comparison import Comparison, FinishedRun, compare
from silvertune.stats import bootstrap, significance

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
        scored=["pos"],
    )


def compared(runs: Sequence[FinishedRun], *references: str) -> Comparison:
    return compare(runs, references, replicates=REPLICATES)


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


def test_an_interval_comes_from_a_naive_loop_over_resampled_groups() -> None:
    ours, theirs = finished("ours"), finished("theirs", right=0.6)
    groups = sorted(set(ours.predictions["group_id"]))
    differences = []
    for weights in bootstrap.resamples(len(groups), REPLICATES):
        at = drawn(ours, groups, weights)
        differences.append(f1(ours, at) - f1(theirs, at))
    result = compared([ours, theirs], "theirs")
    error = np.std(differences, ddof=1) * np.sqrt(GROUPS / (GROUPS - 1))
    value, half = f1(ours) - f1(theirs), t.ppf(0.975, GROUPS - 1) * error
    found = result.deltas[ours.run_id]
    assert (found["delta/theirs/f1_low"], found["delta/theirs/f1_high"]) == pytest.approx((value - half, value + half))
    assert found["delta/theirs/f1_p"] == pytest.approx(2 * t.sf(abs(value) / error, GROUPS - 1))
    shown = row(result, "ours")
    for name in ("f1", "f1_low", "f1_high", "f1_p", "mcnemar_p"):
        assert shown[f"delta/theirs/{name}"] == pytest.approx(found[f"delta/theirs/{name}"])
    assert 0 < shown["test/f1_low"] < shown["test/f1"] < shown["test/f1_high"] < 1


def test_identical_arms_do_not_differ() -> None:
    ours = finished("ours", luck=1)
    found = compared([ours, finished("theirs", luck=1)], "theirs").deltas[ours.run_id]
    own = {"f1": 0, "f1_low": 0, "f1_high": 0, "f1_p": 1, "mcnemar_p": 1}
    adjusted = own | {"f1_p_holm": 1, "mcnemar_p_holm": 1}
    assert found == {f"delta/theirs/{name}": value for name, value in own.items()} | {
        f"arm/delta/theirs/{name}": value for name, value in adjusted.items()
    }


@pytest.mark.parametrize("luck", range(4))
def test_mcnemars_test_is_exact_where_every_item_is_a_group(luck: int) -> None:
    ours, theirs = (
        replace(run, predictions=run.predictions.assign(group_id=run.predictions.index))
        for run in (finished("ours", luck=luck), finished("theirs", right=0.5, luck=luck + 10))
    )
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
    # All the groups fall on one side; more than their number can't be shown.
    assert result.deltas[ours.run_id]["delta/silent/mcnemar_p"] == pytest.approx(2 * 0.5**GROUPS)
    assert result.deltas[ours.run_id]["delta/silent/f1_p"] == pytest.approx(2 * 0.5**GROUPS)


# -------------------------------------------------------------------------------------------------- the reference


def test_a_reference_is_not_held_against_itself() -> None:
    ours, theirs, third = finished("ours"), finished("theirs"), finished("third")
    result = compared([ours, theirs, third], "theirs", "third")
    assert result.table["arm"].tolist() == ["ours", "theirs", "third"]
    assert {name.removeprefix("arm/").split("/")[1] for name in result.deltas[theirs.run_id]} == {"third"}
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
    assert found["test/f1_seed_sd"] == pytest.approx(np.std(values, ddof=1))
    assert found["labels/kept_fraction"] == 0.25
    assert np.isnan(found["labels/noise_before"])


def test_a_difference_is_the_mean_over_the_common_seeds() -> None:
    ours = [finished("ours", seed=seed) for seed in (0, 1, 2)]
    theirs = [finished("theirs", seed=seed, right=0.6) for seed in (1, 2, 3)]
    result = compared([*ours, *theirs], "theirs")
    expected = [f1(ours[1]) - f1(theirs[0]), f1(ours[2]) - f1(theirs[1])]
    assert row(result, "ours")["delta/theirs/f1"] == pytest.approx(np.mean(expected))
    assert "delta/theirs/f1" not in result.deltas[ours[0].run_id]
    assert all(result.deltas[run.run_id]["arm/delta/theirs/f1"] == pytest.approx(np.mean(expected)) for run in ours)
    assert result.deltas[ours[1].run_id]["delta/theirs/f1"] == pytest.approx(expected[0])


def test_hold_out_seeds_with_other_test_groups_share_the_resamples_of_all_groups() -> None:
    parts = {0: [0, 1, 2], 1: [2, 3, 4, 5], 2: [5, 6, 7]}
    ours = [finished("ours", seed=seed, groups=groups) for seed, groups in parts.items()]
    theirs = [finished("theirs", seed=seed, groups=groups, right=0.6) for seed, groups in parts.items()]
    names = [f"g{i}" for i in range(GROUPS)]
    differences = np.full((3, REPLICATES), np.nan)
    for k, weights in enumerate(bootstrap.resamples(GROUPS, REPLICATES)):
        for seed, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if len(at := drawn(a, names, weights)):  # a seed of whose groups none was drawn says nothing
                differences[seed, k] = f1(a, at) - f1(b, at)
    points = [f1(a) - f1(b) for a, b in zip(ours, theirs, strict=True)]
    expected = significance.estimate(points, list(differences), GROUPS)
    result = row(compared([*ours, *theirs], "theirs"), "ours")
    assert result["delta/theirs/f1"] == pytest.approx(np.mean(points))
    assert tuple(result[["delta/theirs/f1_low", "delta/theirs/f1_high"]]) == pytest.approx(expected.interval())
    # A run's own difference rests on the groups that it was tested on.
    alone = compared([*ours, *theirs], "theirs").deltas[ours[1].run_id]
    own = significance.estimate([points[1]], [differences[1]], len(parts[1]))
    assert alone["delta/theirs/f1_p"] == pytest.approx(own.p_value())


def test_seeds_that_differ_widen_the_interval() -> None:
    alike = [replace(finished("ours", luck=1), run_id=f"{k}", seed=k) for k in range(3)]
    worse = replace(finished("ours", right=0.5, luck=1), run_id="2", seed=2)
    found = [row(compared(runs), "ours") for runs in (alike[:1], alike, [*alike[:2], worse])]
    widths = [one["test/f1_high"] - one["test/f1_low"] for one in found]
    assert widths[1] == pytest.approx(widths[0])
    assert widths[2] > 1.2 * widths[1]


# ------------------------------------------------------------------------------------------ many arms, their groups


def test_p_values_are_adjusted_by_holm_over_the_arms_of_a_reference() -> None:
    runs = [finished("ref", right=0.7), *(finished(f"arm{k}", right=0.6 + k / 20) for k in range(6))]
    table = compared(runs, "ref").table
    for name in ("f1", "mcnemar"):
        p, adjusted = (table[f"delta/ref/{name}_p{end}"].to_numpy()[1:] for end in ("", "_holm"))
        np.testing.assert_allclose(adjusted, multipletests(p, method="holm")[1])
    assert table["delta/ref/f1_p_holm"].isna().tolist() == [True] + [False] * 6


def test_every_arm_has_a_row_for_every_group_with_means_over_its_seeds() -> None:
    runs = [finished("ours", seed=seed) for seed in range(3)]
    found = compared([*runs, finished("theirs")]).by_group
    assert found.groupby("arm").size().to_dict() == {"ours": GROUPS, "theirs": GROUPS}
    one = found[(found["arm"] == "ours") & (found["group_id"] == "g2")].iloc[0]
    at = np.flatnonzero(runs[0].predictions["group_id"] == "g2")
    assert one["accuracy"] == pytest.approx(
        np.mean([(run.predictions["label"] == run.predictions["gold"]).iloc[at].mean() for run in runs])
    )
    assert (one["n"], one["n_positive"]) == (PER_GROUP, 2)


def voted(arm: str, annotators: Sequence[str], *, skip: int = 0) -> FinishedRun:
    """An arm without a model, with the votes of these annotators on two views; some items have none of the last's."""
    run = finished(arm, model="none")
    rng = np.random.default_rng(4)
    votes = pd.DataFrame(
        [
            (item, annotator, view, 0, rng.choice(["pos", "neg"]))
            for annotator in annotators
            for view in ("json", "text")
            for item in run.predictions.index[skip if annotator == annotators[-1] else 0 :]
        ],
        columns=["item_id", "annotator", "view", "repeat", "label"],
    )
    return replace(run, votes=votes)


def test_vote_ensembles_are_positive_if_so_many_votes_are() -> None:
    run = voted("base", ["a", "b"])
    assert run.votes is not None
    found = compared([run, finished("all")]).ensembles
    assert list(zip(found["at_least"], found["of"], strict=True)) == [(1, 4), (2, 4), (3, 4), (4, 4)]
    count = (run.votes["label"] == "pos").groupby(run.votes["item_id"]).sum().reindex(run.predictions.index)
    for _, line in found.iterrows():
        said = np.where(count >= line["at_least"], "pos", "neg")
        assert line["test/f1"] == pytest.approx(f1_score(run.predictions["gold"], said, pos_label="pos"))
        assert line["test/accuracy"] == pytest.approx((said == run.predictions["gold"]).mean())
        assert line["test/f1_low"] <= line["test/f1"] <= line["test/f1_high"]


def test_who_read_only_some_items_is_no_part_of_an_ensemble() -> None:
    assert compared([voted("base", ["a", "b"], skip=3)]).ensembles["of"].unique().tolist() == [2]


def test_one_vote_an_item_makes_no_ensemble() -> None:
    run = voted("base", ["a"])
    assert run.votes is not None
    alone = replace(run, votes=run.votes[run.votes["view"] == "json"])
    assert compared([alone]).ensembles.empty
    assert compared([replace(run, simulated=True)]).ensembles.empty


# -------------------------------------------------------------------------------------------------- what is refused


def test_runs_on_other_data_are_not_compared() -> None:
    with pytest.raises(UserError, match=r"^not comparable: .*different data") as caught:
        compared([finished("ours"), finished("theirs", data="other")], "theirs")
    assert "\n" not in str(caught.value)


def test_arms_with_other_test_items_are_not_compared() -> None:
    runs = [finished("ours"), finished("theirs", groups=range(GROUPS - 1))]
    with pytest.raises(UserError, match=r"^not comparable: arms 'theirs' and 'ours' with seed 0 were tested on other"):
        compared(runs, "theirs")


def test_arms_with_other_folds_are_not_compared() -> None:
    ours, theirs = finished("ours"), finished("theirs")
    folds = [replace(run, predictions=run.predictions.assign(fold=k)) for k, run in enumerate((ours, theirs))]
    with pytest.raises(UserError, match=r"^not comparable: arms 'theirs' and 'ours' with seed 0 have other folds"):
        compared(folds)


def test_runs_of_other_classes_are_not_compared() -> None:
    with pytest.raises(UserError, match=r"^not comparable: arms 'theirs' and 'ours' have other classes: a, b and a, c"):
        compared([replace(finished("ours"), task="a, c"), replace(finished("theirs"), task="a, b")])


def test_runs_of_an_arm_that_differ_in_more_than_the_seed_are_no_repetition() -> None:
    runs = [replace(finished("ours", seed=k), settings={"model.C": f"{k}", "model.views": "null"}) for k in range(2)]
    with pytest.raises(
        UserError, match=r"^not comparable: .*'ours' with seeds 0 and 1 .*: model.C=0 and 1; .*`model.C`"
    ):
        compared(runs)
    with pytest.raises(UserError, match=r"model.views=null and None"):
        compared([runs[0], replace(runs[1], settings={"model.C": "0"})])
    compared([runs[0], replace(runs[1], settings=runs[0].settings)])


@pytest.mark.parametrize("key", ["fallback.labeler.seed", "labeler.seed", "model.random_state"])
def test_the_seed_of_a_part_may_be_that_of_its_run_and_no_other(key: str) -> None:
    runs = [replace(finished("ours", seed=k), settings={key: f"{k}", "model.C": "1"}) for k in range(3)]
    assert compared(runs).table["seeds"].tolist() == [3]
    with pytest.raises(UserError, match=rf"with seeds 0 and 2 differ in more: {key}=0 and 7;"):
        compared([*runs[:2], replace(runs[2], settings={key: "7", "model.C": "1"})])


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
    ours, theirs = (replace(finished(name, right=0.7), scored=["neg", "pos"]) for name in ("ours", "theirs"))
    result = compare([ours, theirs], ["theirs"], replicates=50)
    assert row(result, "ours")["delta/theirs/f1"] == pytest.approx(macro_f1(ours) - macro_f1(theirs))


def test_each_variant_is_measured_by_the_classes_of_its_own_task() -> None:
    one = finished("ours", variant="task=one")
    both = replace(finished("ours", variant="task=both"), scored=["neg", "pos"], task="no positive one")
    found = compare([one, both], [], replicates=50).table.set_index("variant")["test/f1"]
    assert found.to_dict() == pytest.approx({"task=one": f1(one), "task=both": macro_f1(both)})


def macro_f1(run: FinishedRun) -> float:
    return float(f1_score(run.predictions["gold"], run.predictions["label"], average="macro"))
