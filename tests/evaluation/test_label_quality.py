"""Six items and their labels, all by hand."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from silvertune.evaluation import label_quality
from silvertune.schema import Task
from silvertune.votes import table

PETS = Task(name="pets", classes=["other", "cat"], positive="cat")
ITEMS = pd.Index(list("abcdef"), name="item_id")
GOLD = pd.Series({"a": "cat", "b": "cat", "c": "other", "d": "other", "e": "cat"}, name="gold")  # f has none


def decisions() -> pd.DataFrame:
    """a, c, f are kept; b, d are dropped; e has no label and gets the fallback's, which is wrong."""
    return pd.DataFrame(
        {
            "label": pd.Series(["cat", "other", "cat", "cat", None, "other"], index=ITEMS, dtype=object),
            "confidence": [0.9, 0.6, 0.8, 0.7, np.nan, 0.6],
            "keep": [True, False, True, False, False, True],
            "train_label": pd.Series(["cat", None, "cat", None, "other", "other"], index=ITEMS, dtype=object),
            "source": ["labeler", "dropped", "labeler", "dropped", "fallback", "labeler"],
            "fold": 0,
        },
        index=ITEMS,
    )


SAID = {
    ("m", "json"): dict(zip("abcdef", ["cat", "other", "cat", "cat", None, "other"], strict=True)),
    ("m", "text"): dict(zip("abcd", ["cat", "cat", "other", "cat"], strict=True)),
}
PEOPLE = {
    "expert": dict(zip("abcde", ["cat", "cat", "other", "other", "cat"], strict=True)),
    "clerk": {"a": "other", "c": "other"},
}


def votes() -> pd.DataFrame:
    return table(
        [
            {"item_id": item, "annotator": who, "view": view, "label": label, "cost_usd": 0.25}
            for (who, view), said in SAID.items()
            for item, label in said.items()
        ],
        PETS.classes,
    )


def annotations() -> pd.DataFrame:
    rows = [
        {"item_id": item, "annotator": who, "view": "item", "label": label}
        for who, said in PEOPLE.items()
        for item, label in said.items()
    ]
    elsewhere = {"item_id": "z", "annotator": "expert", "view": "item", "label": "cat"}
    return table([*rows, elsewhere], PETS.classes)


def predictions() -> pd.DataFrame:
    """c is wrong; f, which has no gold, is predicted too."""
    return pd.DataFrame(
        {
            "label": pd.Series(["cat", "cat", "cat", "other", "cat", "cat"], index=ITEMS, dtype=object),
            "prob:other": [0.1, 0.4, 0.4, 0.7, 0.25, 0.1],
            "prob:cat": [0.9, 0.6, 0.6, 0.3, 0.75, 0.9],
            "fold": 0,
        },
        index=ITEMS,
    )


def report(
    *,
    made: pd.DataFrame | None = None,
    cast: pd.DataFrame | None = None,
    recorded: pd.DataFrame | None = None,
    gold: pd.Series = GOLD,
    task: Task = PETS,
) -> label_quality.Report:
    return label_quality.report(
        decisions() if made is None else made,
        (votes() if cast is None else cast).assign(stage="labeler"),
        annotations() if recorded is None else recorded,
        predictions(),
        gold,
        task,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 1 - (1 - 2 / 4) / (1 - (2 * 1 + 6 * 5) / (8 * 7))),  # the views agree on a, d of a, b, c, d
        ("aurc", (0 + 1 / 2 + 2 / 3 + 3 / 4) / 4),  # a, c, d, b in falling confidence; a is right
        ("ece", (0.1 + 0.6 + 0.8 + 0.7) / 4),
        ("brier", (0.1**2 + 0.6**2 + 0.8**2 + 0.7**2) / 4),
        ("shift_train_test", 3 / 5 - 2 / 4),
        ("kept_fraction", 3 / 5),
        ("n_pool", 6),
        ("n_train", 4),
        ("from_fallback", 1),
        ("noise_before", 3 / 4),  # b, c, d of a, b, c, d
        ("noise_after", 2 / 3),  # c, e of a, c, e
        ("dropped_precision", 2 / 2),  # b, d: both wrong
        ("prevalence_gold", 3 / 5),
        ("prevalence_before", 3 / 5),
        ("prevalence_after", 2 / 4),
    ],
)
def test_metrics_of_labels_by_hand(name: str, value: float) -> None:
    assert report().metrics[f"labels/{name}"] == pytest.approx(value)


def test_each_class_by_hand() -> None:
    cat, other = report().by_class.loc["cat"], report().by_class.loc["other"]
    assert (cat["n_before"], cat["n_after"], cat["kept_fraction"]) == (3, 2, pytest.approx(2 / 3))
    assert cat["noise_before"] == pytest.approx(2 / 3)  # c, d of a, c, d
    assert cat["noise_after"] == pytest.approx(1 / 2)  # c of a, c
    assert cat["recall_before"] == pytest.approx(1 / 2)  # a of a, b; e has no label
    assert cat["recall_after"] == pytest.approx(1 / 2)  # a of a, e
    assert (cat["n_dropped"], cat["items_dropped"], cat["dropped_precision"]) == (1, 1, 1)  # d
    assert (other["n_dropped"], other["dropped_precision"]) == (1, 1)  # b
    assert [cat[name] for name in ("known_before", "known_dropped", "known_after", "n_gold")] == [3, 1, 2, 3]
    assert [other[name] for name in ("known_before", "known_dropped", "known_after", "n_gold")] == [1, 1, 1, 2]
    assert (other["n_before"], other["n_after"], other["kept_fraction"]) == (2, 2, pytest.approx(1 / 2))
    assert other["noise_before"] == 1  # b; f has no gold
    assert other["noise_after"] == 1  # e
    assert other["recall_before"] == 0  # none of c, d
    assert other["recall_after"] == 0  # c says cat
    metrics = report().metrics
    assert metrics["labels_by_class/cat/noise_after"] == pytest.approx(1 / 2)
    assert metrics["labels_by_class/other/kept_fraction"] == pytest.approx(1 / 2)


def test_each_view_by_hand() -> None:
    found = report().by_view.set_index(["annotator", "view"])
    assert list(found.index) == [("m", "json"), ("m", "text")]
    json, text = found.loc[("m", "json")], found.loc[("m", "text")]
    assert json["noise"] == pytest.approx(3 / 4)  # b, c, d of a, b, c, d
    assert json["noise_after"] == pytest.approx(1 / 2)  # c of a, c
    assert text["noise_after"] == 0
    assert json["noise_after:cat"] == pytest.approx(1 / 2)
    assert np.isnan(json["noise_after:other"])  # f has no gold
    assert json["noise:cat"] == pytest.approx(2 / 3)
    assert json["noise:other"] == 1
    assert json["share:cat"] == pytest.approx(3 / 5)
    assert text["noise"] == pytest.approx(1 / 4)  # d
    assert text["share:other"] == pytest.approx(1 / 4)


def pair(found: pd.DataFrame, one: str, two: str) -> "pd.Series[float]":
    rows = found[found["a"].isin([one, two]) & found["b"].isin([one, two])]
    assert len(rows) == 1
    return rows.iloc[0]


def test_agreement_of_every_pair_is_raw_agreement_and_cohens_kappa() -> None:
    found = report().agreement
    everyone = {
        "m:json": {k: v for k, v in SAID[("m", "json")].items() if v},
        "m:text": SAID[("m", "text")],
        **PEOPLE,
        "aggregated": {k: v for k, v in decisions()["label"].items() if v},
        "gold": GOLD.to_dict(),
    }
    names = sorted(everyone)
    assert len(found) == len(names) * (len(names) - 1) / 2
    for i, one in enumerate(names):
        for two in names[i + 1 :]:
            common = sorted(set(everyone[one]) & set(everyone[two]))
            mine, yours = [everyone[one][k] for k in common], [everyone[two][k] for k in common]
            row = pair(found, one, two)
            assert row["n"] == len(common)
            assert row["agreement"] == pytest.approx(np.mean([a == b for a, b in zip(mine, yours, strict=True)]))
            if len({*mine, *yours}) > 1:
                assert row["kappa"] == pytest.approx(cohen_kappa_score(mine, yours)), (one, two)
            else:
                assert np.isnan(row["kappa"])


def test_a_pair_without_a_common_item_is_left_out() -> None:
    cast = table(
        [{"item_id": item, "annotator": who, "view": "item", "label": "cat"} for who, item in (("x", "a"), ("y", "b"))],
        PETS.classes,
    )
    found = report(cast=cast, recorded=annotations().iloc[:0]).agreement
    assert {frozenset((row["a"], row["b"])) for _, row in found.iterrows()} == {
        frozenset(pair) for pair in (("gold", "x"), ("gold", "y"), ("aggregated", "x"), ("aggregated", "y"),
                                     ("aggregated", "gold"))
    }  # fmt: skip


def test_only_the_first_reading_of_a_view_counts_for_agreement() -> None:
    rows = [
        {"item_id": "a", "annotator": "x", "view": "item", "label": label, "repeat": k}
        for k, label in enumerate(["cat", "other", "other"])
    ]
    found = report(cast=table(rows, PETS.classes), recorded=annotations().iloc[:0]).agreement
    assert pair(found, "x", "gold")["agreement"] == 1


def test_an_annotator_called_gold_is_no_gold() -> None:
    rows = [{"item_id": item, "annotator": "gold", "view": "item", "label": "other"} for item in "ab"]
    found = report(cast=table(rows, PETS.classes), recorded=annotations().iloc[:0]).agreement
    assert found["agreement"].to_list() == [0.0]


def test_folds_are_pooled_and_counts_are_means_over_them() -> None:
    twice = pd.concat([decisions(), decisions().assign(fold=1, keep=True)])
    found = report(made=twice).metrics
    assert found["labels/n_pool"] == 6
    assert found["labels/kept_fraction"] == pytest.approx(3 / 5 / 2 + 5 / 5 / 2)
    assert found["labels/n_train"] == 4
    assert found["labels/from_fallback"] == 1
    assert found["labels/noise_before"] == pytest.approx(3 / 4)


def test_without_gold_noise_is_undefined_and_the_rest_is_not() -> None:
    found = report(gold=GOLD.iloc[:0])
    assert np.isnan(found.metrics["labels/noise_before"])
    assert np.isnan(found.metrics["labels/dropped_precision"])
    assert np.isnan(found.metrics["labels/prevalence_gold"])
    assert found.metrics["labels/kept_fraction"] == 0.6
    assert np.isnan(found.by_class.loc["cat", "recall_before"])
    assert found.rankings.empty
    assert found.reliability.empty
    assert "gold" not in {*found.agreement["a"], *found.agreement["b"]}
    assert found.prevalence[["gold", "test gold"]].isna().all(axis=None)


def test_nothing_dropped_has_no_precision() -> None:
    kept = decisions().assign(keep=True)
    assert np.isnan(report(made=kept).metrics["labels/dropped_precision"])


def test_without_a_positive_class_there_is_no_prevalence() -> None:
    task = Task(name="pets", classes=["other", "cat"], positive=None)
    found = report(task=task).metrics
    assert not [name for name in found if "prevalence" in name]
    assert found["labels/noise_before"] == pytest.approx(3 / 4)


def test_class_shares_by_hand() -> None:
    found = report().prevalence.loc["cat"]
    assert found.to_dict() == pytest.approx(
        {"labels": 3 / 5, "trained on": 2 / 4, "gold": 3 / 5, "test gold": 3 / 5, "predicted": 5 / 6}
    )


def test_who_voted_what() -> None:
    found = report().annotators.set_index(["stage", "annotator", "view"])
    json = found.loc[("labeler", "m", "json")]
    assert json[["items", "votes", "other", "cat", "null:abstained", "cost_usd"]].to_list() == [6, 6, 2, 3, 1, 1.5]
    assert json["noise"] == pytest.approx(3 / 4)
    clerk = found.loc[("with the data", "clerk", "item")]
    assert clerk[["items", "other", "cat", "null:abstained"]].to_list() == [2, 2, 0, 0]
    assert clerk["noise"] == 1 / 2
    assert len(found) == 4  # z, which is not in the pool, does not count


def test_a_class_called_like_a_status_is_counted_apart() -> None:
    task = Task(name="odd", classes=["abstained", "cat"], positive=None)
    said = {"a": "abstained", "b": None, "c": None}
    rows = [{"item_id": item, "annotator": "m", "view": "item", "label": label} for item, label in said.items()]
    odd = predictions().rename(columns={"prob:other": "prob:abstained"})
    cast = table(rows, task.classes).assign(stage="labeler")
    made = decisions().replace("other", "abstained")
    row = label_quality.report(made, cast, cast.iloc[:0], odd, GOLD.iloc[:0], task).annotators.loc[0]
    assert (row["votes"], row["abstained"], row["null:abstained"]) == (3, 1, 2)


def test_rankings_by_hand() -> None:
    found = report().rankings.set_index(["by", "of"])
    every, cat = found.loc[("confidence", "all")], found.loc[("confidence", "cat")]
    assert (every["n"], every["errors"], every["thresholds"]) == (4, 3, 4)
    assert every["aurc_random"] == 3 / 4
    assert every["aurc_best"] == pytest.approx((0 + 1 / 2 + 2 / 3 + 3 / 4) / 4)
    assert cat["aurc"] == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)


def test_a_filters_score_is_a_ranking_too() -> None:
    scored = decisions().assign(**{"score:mine": [0, 1, 0, 0, 0, 1]})
    found = report(made=scored).rankings.set_index(["by", "of"])
    assert found.loc[("score:mine", "all"), "aurc"] == pytest.approx((1 + 3 * 3 / 4) / 4)


def test_confidence_1_everywhere_says_nothing() -> None:
    found = report(made=decisions().assign(confidence=1.0))
    assert np.isnan([found.metrics[f"labels/{name}"] for name in ("aurc", "ece", "brier")]).all()
    assert set(found.reliability["of"]) == {"predictions"}


def test_reliability_of_the_predictions_is_about_items_with_gold() -> None:
    bins = report().reliability
    assert bins.loc[bins["of"] == "predictions", "n"].sum() == 5
    assert bins.loc[bins["of"] == "labels", "n"].sum() == 4


def test_each_fold_by_hand() -> None:
    row = report().by_fold.loc[0]
    assert (row["n_pool"], row["n_train"], row["n_test"]) == (6, 4, 6)
    assert row["test_error"] == 1 / 5
    assert (row["classes_in_test"], row["classes_predicted"]) == (2, 2)


def test_an_item_kept_in_some_folds_counts_for_that_share() -> None:
    twice = pd.concat([decisions(), decisions().assign(fold=1, keep=ITEMS.isin(["a"]))])
    json = report(made=twice).by_view.set_index("view").loc["json"]
    assert json["noise_after"] == pytest.approx((1 / 2) / (1 + 1 / 2))  # a is kept twice, c, which is wrong, once


@pytest.mark.parametrize("what", ["none at all", "none with a label"])
def test_without_votes_there_is_a_report(what: str) -> None:
    cast = votes().iloc[:0] if what == "none at all" else votes().assign(label=None, status="refused")
    nothing = decisions().assign(label=None, train_label=None, keep=False, source="dropped", confidence=np.nan)
    found = report(made=nothing, cast=cast, recorded=annotations().iloc[:0])
    assert np.isnan(found.metrics["labels/alpha"])
    assert found.metrics["labels/n_train"] == 0
    assert label_quality.tables(found)["by_class"]["n_before"].to_list() == [0, 0]


def test_a_task_of_many_classes_has_few_metrics() -> None:
    task = Task(name="many", classes=["other", "cat", *(f"c{k}" for k in range(40))], positive=None)
    probs = {f"prob:{name}": 0.0 for name in task.classes[2:]}
    found = label_quality.report(
        decisions(), votes().assign(stage="labeler"), annotations(), predictions().assign(**probs), GOLD, task
    )
    assert len(found.metrics) < 20
    assert len(found.by_class) == 42


def test_100_000_items_on_two_views_take_linear_time() -> None:
    def seconds(n: int) -> float:
        """Of this process: others on the machine do not count."""
        rng = np.random.default_rng(0)
        index = pd.Index([f"i{k}" for k in range(n)], name="item_id", dtype=object)
        true, label = (pd.Series(rng.choice(PETS.classes, n), index=index, dtype=object) for _ in range(2))
        made = pd.DataFrame(
            {"label": label, "confidence": rng.random(n), "keep": rng.random(n) < 0.5, "source": "labeler", "fold": 0},
            index=index,
        )
        made["train_label"] = made["label"].where(made["keep"], None)
        one = pd.DataFrame(
            {
                "item_id": index,
                "annotator": "m",
                "repeat": 0,
                "label": label.to_numpy(),
                "status": "ok",
                "confidence": made["confidence"].to_numpy(),
                "cost_usd": 0.0,
                "stage": "labeler",
            }
        )
        cast = pd.concat([one.assign(view="json"), one.assign(view="text", label=rng.permutation(label))])
        prob = rng.random(n)
        predicted = pd.DataFrame({"label": label, "prob:other": prob, "prob:cat": 1 - prob, "fold": 0}, index=index)
        started = time.process_time()
        label_quality.report(made, cast, annotations().iloc[:0], predicted, true, PETS)
        return time.process_time() - started

    long = seconds(100_000)
    # On a slow machine: eight times the items take eight times as long, and 64 times where time grows with the square.
    assert long < 15 or long < 20 * seconds(12_500)
