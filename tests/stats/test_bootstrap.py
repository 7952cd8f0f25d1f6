"""The metrics equal scikit-learn's, and a weighted replicate is the metric of the literally resampled groups."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from silvertune.stats import bootstrap

CLASSES = ["a", "b", "c"]


@dataclass(frozen=True)
class Made:
    """Random items with ties in the scores: what was said (None: nothing), what is true, group, score."""

    said: pd.Series
    true: pd.Series
    group: pd.Series
    score: np.ndarray

    def items_of(self, drawn: np.ndarray) -> np.ndarray:
        """Positions of the items of the groups, in sorted order, each group as often as `drawn` says."""
        names = np.unique(self.group)
        return np.concatenate(
            [np.flatnonzero(self.group == g) for g, k in zip(names, drawn, strict=True) for _ in range(k)]
        )

    @property
    def position(self) -> np.ndarray:
        return np.searchsorted(np.unique(self.group), self.group)


def made(seed: int, n: int, classes: list[str], groups: int = 4, *, gaps: bool = True) -> Made:
    rng = np.random.default_rng(seed)
    said = rng.choice(np.array([*classes, None] if gaps else classes, dtype=object), size=n)
    return Made(
        pd.Series(said, dtype=object),
        pd.Series(rng.choice(np.array(classes, dtype=object), size=n), dtype=object),
        pd.Series([f"g{i}" for i in rng.integers(0, groups, size=n)], dtype=object),
        rng.integers(0, 5, size=n) / 4,
    )


MADE_TWO = st.builds(made, st.integers(0, 10**6), st.integers(1, 40), st.just(["neg", "pos"]))
MADE_THREE = st.builds(made, st.integers(0, 10**6), st.integers(1, 40), st.just(CLASSES))
quick = settings(deadline=None, max_examples=60)


def sklearn_binary(data: Made, weight: np.ndarray | None = None, undefined: float = 0) -> dict[str, float]:
    said, true = (data.said == "pos").to_numpy(), (data.true == "pos").to_numpy()
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        true, said, average="binary", pos_label=True, sample_weight=weight, zero_division=undefined
    )
    right = (data.said == data.true).to_numpy()
    accuracy = np.average(right, weights=weight)
    return {"precision": precision, "recall": recall, "f1": f1, "accuracy": accuracy}


def close(found: dict[str, np.ndarray], expected: dict[str, float]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name


# ------------------------------------------------------------------------------------------------ counted metrics


@quick
@given(MADE_TWO)
def test_micro_metrics_of_a_positive_class_are_scikit_learns(data: Made) -> None:
    close(bootstrap.micro(bootstrap.count(data.said, data.true, data.group, ["pos"])), sklearn_binary(data))


@quick
@given(MADE_TWO, st.integers(0, 10**6))
def test_micro_metrics_with_group_weights_are_scikit_learns_with_sample_weights(data: Made, seed: int) -> None:
    counts = bootstrap.count(data.said, data.true, data.group, ["pos"])
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, len(counts.groups))).astype(float)
    weights[:, 0] += 1  # none of the draws is empty
    found = bootstrap.micro(counts, weights)
    for k in range(3):
        expected = sklearn_binary(data, weights[k][data.position], undefined=np.nan)
        close({name: value[k] for name, value in found.items()}, expected)


@quick
@given(MADE_THREE)
def test_metrics_of_several_classes_are_scikit_learns_macro_averages(data: Made) -> None:
    found = bootstrap.micro(bootstrap.count(data.said, data.true, data.group, CLASSES))
    said = data.said.fillna("nothing")
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        data.true, said, labels=CLASSES, average="macro", zero_division=0
    )
    accuracy = float((said == data.true).mean())
    close(found, {"precision": precision, "recall": recall, "f1": f1, "accuracy": accuracy})


def test_an_item_without_an_answer_is_a_miss_and_no_false_alarm() -> None:
    said = pd.Series(["pos", None, None], dtype=object)
    counts = bootstrap.count(said, pd.Series(["pos", "pos", "neg"]), pd.Series(["g"] * 3), ["pos"])
    found = bootstrap.micro(counts)
    assert (found["precision"], found["recall"]) == (1.0, 0.5)
    assert found["accuracy"] == pytest.approx(1 / 3)


def test_counts_are_by_group_in_sorted_order() -> None:
    counts = bootstrap.count(
        pd.Series(["pos", "pos", "neg", "neg"]),
        pd.Series(["pos", "neg", "pos", "neg"]),
        pd.Series(["z", "a", "z", "a"]),
        ["pos"],
    )
    assert counts.groups.tolist() == ["a", "z"]
    assert counts.tp.tolist() == [[0], [1]]
    assert counts.fp.tolist() == [[1], [0]]
    assert counts.fn.tolist() == [[0], [1]]
    assert counts.right.tolist() == [1, 1]
    assert counts.total.tolist() == [2, 2]


# -------------------------------------------------------------------------------------------------------- ranking


def sklearn_ranking(score: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None) -> dict[str, float]:
    drawn = positive if weight is None else positive[weight > 0]
    if len(set(drawn.tolist())) < 2:
        return {"auroc": np.nan, "auprc": np.nan}
    return {
        "auroc": sk.roc_auc_score(positive, score, sample_weight=weight),
        "auprc": sk.average_precision_score(positive, score, sample_weight=weight),
    }


@quick
@given(MADE_TWO)
def test_ranking_with_ties_is_scikit_learns(data: Made) -> None:
    positive = (data.true == "pos").to_numpy()
    close(bootstrap.ranking(data.score, positive, data.position), sklearn_ranking(data.score, positive))


@quick
@given(MADE_TWO, st.integers(0, 10**6))
def test_ranking_with_group_weights_is_scikit_learns_with_sample_weights(data: Made, seed: int) -> None:
    positive = (data.true == "pos").to_numpy()
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, data.position.max() + 1)).astype(float)
    found = bootstrap.ranking(data.score, positive, data.position, weights)
    for k in range(3):
        expected = sklearn_ranking(data.score, positive, weights[k][data.position])
        close({name: value[k] for name, value in found.items()}, expected)


def test_ranking_is_undefined_where_a_resample_has_one_class() -> None:
    score, positive, group = np.array([0.9, 0.1, 0.5]), np.array([True, True, False]), np.array([0, 0, 1])
    found = bootstrap.ranking(score, positive, group, np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0], [0.0, 0.0]]))
    assert np.isnan(found["auroc"]).tolist() == [False, True, True, True]
    assert np.isnan(found["auprc"]).tolist() == [False, True, True, True]


def test_ranking_is_the_same_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(3, 30, ["neg", "pos"])
    positive = (data.true == "pos").to_numpy()
    weights = bootstrap.resamples(data.position.max() + 1, 50)
    whole = bootstrap.ranking(data.score, positive, data.position, weights)
    monkeypatch.setattr(bootstrap, "CHUNK", 100)
    monkeypatch.setattr(bootstrap, "FEWEST", 7)
    bootstrap.forget()
    parts = bootstrap.ranking(data.score, positive, data.position, weights)
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name])


def test_what_was_ranked_is_not_ranked_again_and_what_differs_is(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(3, 30, ["neg", "pos"])
    positive, weights = (data.true == "pos").to_numpy(), bootstrap.resamples(data.position.max() + 1, 50)
    rank, ranked = bootstrap._ranking_of_resamples, list[int]()
    monkeypatch.setattr(bootstrap, "_ranking_of_resamples", lambda *of: ranked.append(len(of[0])) or rank(*of))
    bootstrap.forget()
    arguments = [data.score, positive, data.position, weights]
    first = bootstrap.ranking(*arguments)
    first["auroc"][:] = 7.0  # what a caller does to it is no matter of the next one
    np.testing.assert_array_equal(bootstrap.ranking(*arguments)["auroc"], rank(*arguments)["auroc"])
    assert len(ranked) == 1
    for place, other in enumerate((-data.score, ~positive, data.position[::-1], weights[::-1])):
        changed = [*arguments[:place], other, *arguments[place + 1 :]]
        np.testing.assert_array_equal(bootstrap.ranking(*changed)["auroc"], rank(*changed)["auroc"])
    assert len(ranked) == 5
    monkeypatch.setattr(bootstrap, "RANKINGS_KEPT", 1)
    bootstrap.ranking(data.score * 2, positive, data.position, weights)
    assert len(bootstrap._rankings_kept) == 1


# ------------------------------------------------------------------------------------------------------ resamples


@pytest.mark.parametrize("classes", [["neg", "pos"], CLASSES], ids=["binary", "three classes"])
@pytest.mark.parametrize("seed", range(3))
def test_a_replicate_is_the_metric_of_the_literally_resampled_groups(seed: int, classes: list[str]) -> None:
    data = made(seed, 40, classes, groups=6)
    scored = ["pos"] if "pos" in classes else classes
    counts = bootstrap.count(data.said, data.true, data.group, scored)
    weights = bootstrap.resamples(len(counts.groups), 25)
    micro = bootstrap.micro(counts, weights)
    grouped = bootstrap.group_means(bootstrap.by_group(counts), weights)
    positive = (data.true == scored[0]).to_numpy()
    ranked = bootstrap.ranking(data.score, positive, data.position, weights)
    for k in range(len(weights)):
        drawn = weights[k].astype(int)
        at = data.items_of(drawn)
        # A group that is drawn twice is two groups.
        names = np.repeat(
            np.arange(drawn.sum()),
            [int((data.group == g).sum()) for g, n in zip(counts.groups, drawn, strict=True) for _ in range(n)],
        )
        again = bootstrap.count(data.said.iloc[at], data.true.iloc[at], pd.Series(names), scored)
        once = bootstrap.micro(again, np.ones((1, len(again.groups))))
        close({name: value[k] for name, value in micro.items()}, {name: value[0] for name, value in once.items()})
        close({name: value[k] for name, value in grouped.items()}, bootstrap.group_means(bootstrap.by_group(again)))
        close(
            {name: value[k] for name, value in ranked.items()},
            bootstrap.ranking(data.score[at], positive[at], np.zeros(len(at), dtype=int)),
        )


@pytest.mark.parametrize("scored", [["pos"], ["neg", "pos"]], ids=["positive class", "both"])
def test_resamples_without_a_class_do_not_spoil_a_perfect_arm(scored: list[str]) -> None:
    true = pd.Series(["pos", *["neg"] * 19], dtype=object)
    group = pd.Series([f"g{k:02d}" for k in range(20)], dtype=object)
    counts = bootstrap.count(true, true, group, scored)
    found = bootstrap.micro(counts, bootstrap.resamples(20, 500))
    for name in ("precision", "recall", "f1"):
        lacking = np.isnan(found[name])
        assert lacking.any() == (scored == ["pos"])
        assert (found[name][~lacking] == 1).all()


def test_every_resample_draws_as_many_groups_as_there_are() -> None:
    weights = bootstrap.resamples(7, 300)
    assert weights.shape == (300, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert weights.mean() == pytest.approx(1)
    assert (weights == 0).mean() == pytest.approx((6 / 7) ** 7, abs=0.03)
    assert len(np.unique(weights, axis=0)) > 200


def test_the_same_arguments_give_the_same_resamples() -> None:
    one = bootstrap.resamples(5, 20).copy()
    bootstrap.resamples.cache_clear()
    np.testing.assert_array_equal(bootstrap.resamples(5, 20), one)


def test_nobody_can_change_the_resamples_of_the_others() -> None:
    with pytest.raises(ValueError, match="read-only"):
        bootstrap.resamples(5, 20)[0, 0] = 9


def test_metrics_are_undefined_for_a_resample_that_drew_none_of_the_groups() -> None:
    counts = bootstrap.count(pd.Series(["pos"]), pd.Series(["pos"]), pd.Series(["g"]), ["pos"])
    found = bootstrap.micro(counts, np.array([[0.0], [2.0]]))
    for name in bootstrap.METRICS:
        assert np.isnan(found[name][0])
        assert found[name][1] == 1


# ------------------------------------------------------------------------------------------------------- by group


GROUPS = pd.DataFrame(
    [
        ("full", "pos", "pos"), ("full", "neg", "neg"),
        ("half", "pos", "pos"), ("half", "pos", "neg"), ("half", "neg", "pos"), ("half", "neg", "neg"),
        ("mute", "neg", "pos"),  # precision undefined
        ("none", "neg", "neg"),  # all but accuracy undefined
        ("wild", "pos", "neg"),  # recall undefined
    ],
    columns=["group", "said", "true"],
)  # fmt: skip


def test_metrics_of_a_group_are_left_out_where_they_are_undefined() -> None:
    table = bootstrap.by_group(bootstrap.count(GROUPS["said"], GROUPS["true"], GROUPS["group"], ["pos"]))
    nan = np.nan
    expected = pd.DataFrame(
        {
            "precision": [1, 0.5, nan, nan, 0],
            "recall": [1, 0.5, 0, nan, nan],
            "f1": [1, 0.5, 0, nan, 0],
            "accuracy": [1, 0.5, 0, 1, 0],
        },
        index=pd.Index(["full", "half", "mute", "none", "wild"], name="group_id"),
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    means = bootstrap.group_means(table)
    close(means, {"precision": 0.5, "recall": 0.5, "f1": 0.375, "accuracy": 0.5})


def test_weighted_group_means_leave_out_undefined_groups_too() -> None:
    table = bootstrap.by_group(bootstrap.count(GROUPS["said"], GROUPS["true"], GROUPS["group"], ["pos"]))
    means = bootstrap.group_means(table, np.array([[0, 1, 0, 3, 1], [0, 0, 0, 5, 0.0]]))
    close(
        {name: value[0] for name, value in means.items()},
        {"precision": 0.25, "recall": 0.5, "f1": 0.25, "accuracy": 0.7},
    )
    assert means["accuracy"][1] == 1
    assert np.isnan([means[name][1] for name in ("precision", "recall", "f1")]).all()


def test_a_group_of_several_classes_is_the_mean_over_those_that_are_defined() -> None:
    said, true = pd.Series(["a", "a", "b"]), pd.Series(["a", "b", "b"])
    table = bootstrap.by_group(bootstrap.count(said, true, pd.Series(["g"] * 3), CLASSES))
    row = table.loc["g"]
    assert row["precision"] == pytest.approx((1 / 2 + 1) / 2)  # nothing was called c
    assert row["recall"] == pytest.approx((1 + 1 / 2) / 2)  # nothing is c
    assert row["f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)


# -------------------------------------------------------------------------------------------------------- measure


@pytest.mark.parametrize("classes", [["neg", "pos"], CLASSES], ids=["binary", "three classes"])
def test_measuring_gives_every_metric_and_that_of_every_resample(classes: list[str]) -> None:
    data = made(5, 60, classes, groups=5)
    scored = ["pos"] if "pos" in classes else classes
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"label": data.said, "gold": data.true, "group_id": data.group})
    for name in scored:
        frame[f"prob:{name}"] = rng.integers(0, 9, size=len(frame)) / 8
    weights = bootstrap.resamples(5, 20)
    values, resampled = bootstrap.measure(frame, scored, weights)
    names = (*bootstrap.METRICS, *bootstrap.RANKING)
    assert set(values) == set(resampled) == {f"{part}/{name}" for part in ("test", "test_by_group") for name in names}
    for k in (0, 7, 19):
        drawn = weights[k].astype(int)
        again = frame.iloc[data.items_of(drawn)]
        for name in bootstrap.RANKING:
            score = sk.roc_auc_score if name == "auroc" else sk.average_precision_score
            expected = np.mean([score(again["gold"] == c, again[f"prob:{c}"]) for c in scored])
            assert resampled[f"test/{name}"][k] == pytest.approx(expected)
            assert values[f"test/{name}"] == pytest.approx(
                np.mean([score(frame["gold"] == c, frame[f"prob:{c}"]) for c in scored])
            )
    for name in bootstrap.RANKING:
        score = sk.roc_auc_score if name == "auroc" else sk.average_precision_score
        by_group = [
            np.mean([score(own["gold"] == c, own[f"prob:{c}"]) for c in scored if 0 < (own["gold"] == c).mean() < 1])
            for _, own in frame.groupby("group_id")
        ]
        assert values[f"test_by_group/{name}"] == pytest.approx(np.mean(by_group))
        means = weights @ np.array(by_group) / weights.sum(axis=1)
        np.testing.assert_allclose(resampled[f"test_by_group/{name}"], means)


def test_without_probabilities_there_is_no_ranking() -> None:
    frame = pd.DataFrame({"label": ["pos", "neg"], "gold": ["pos", "neg"], "group_id": ["a", "b"]})
    values, _ = bootstrap.measure(frame, ["pos"], bootstrap.resamples(2, 10))
    assert set(values) == {f"{part}/{name}" for part in ("test", "test_by_group") for name in bootstrap.METRICS}


# ---------------------------------------------------------------------------------------------------- many groups


def many_groups(n: int = 3000, groups: int = 600) -> pd.DataFrame:
    """Predictions whose quality varies by group; every score is different."""
    rng = np.random.default_rng(3)
    group = rng.integers(groups, size=n)
    positive = rng.random(n) < 0.3
    score = rng.normal(size=n) + positive * (1 + 0.5 * rng.normal(size=groups)[group])
    return pd.DataFrame(
        {
            "label": np.where(score > 0.8, "pos", "neg").astype(object),
            "gold": np.where(positive, "pos", "neg").astype(object),
            "group_id": [f"g{number:05d}" for number in group],
            "prob:pos": 1 / (1 + np.exp(-score)),
        }
    )


def spreads(frame: pd.DataFrame) -> tuple[dict[str, float], dict[str, float]]:
    """The values of the metrics, and their standard deviations over 2,000 resamples."""
    groups = frame["group_id"].nunique()
    weights, blocks = bootstrap.resamples(groups, 2000), bootstrap.blocks_of(groups)
    values, resampled = bootstrap.measure(frame, ["pos"], weights, blocks)
    bootstrap.resamples.cache_clear()
    return values, {name: float(np.nanstd(draws)) for name, draws in resampled.items()}


def test_blocks_of_groups_vary_as_the_groups_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = many_groups()
    values, by_group = spreads(frame)
    monkeypatch.setattr(bootstrap, "MOST_GROUPS", 150)
    assert bootstrap.resamples(frame["group_id"].nunique(), 2000).shape == (2000, 150)
    values_of_blocks, by_block = spreads(frame)
    assert values_of_blocks == values
    # 150 blocks give a standard deviation with an error of about 1 / sqrt(2 * 150) = 6%.
    for name, spread in by_group.items():
        assert by_block[name] == pytest.approx(spread, rel=0.2), name


def test_resampled_scores_that_are_told_apart_less_finely_vary_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = many_groups()
    values, spread = spreads(frame)
    monkeypatch.setattr(bootstrap, "MOST_SCORES", 500)
    values_of_fewer, spread_of_fewer = spreads(frame)
    assert values_of_fewer == values  # exact, of all scores
    for name in ("test/auroc", "test/auprc"):
        assert spread_of_fewer[name] == pytest.approx(spread[name], rel=0.05), name


def test_a_million_groups_need_no_more_resamples_than_the_most() -> None:
    assert bootstrap.resamples(1_000_000, 10).shape == (10, bootstrap.MOST_GROUPS)
    assert np.bincount(bootstrap.blocks_of(1_000_000)).tolist() == [500] * bootstrap.MOST_GROUPS
