"""Six items and their labels, all by hand."""

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


def report() -> label_quality.Report:
    return label_quality.report(decisions(), votes(), annotations(), GOLD, PETS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kept_fraction", 3 / 6),
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
    found = label_quality.report(decisions(), cast, annotations().iloc[:0], GOLD, PETS).agreement
    assert {frozenset((row["a"], row["b"])) for _, row in found.iterrows()} == {
        frozenset(("gold", "x")),
        frozenset(("gold", "y")),
    }


def test_only_the_first_reading_of_a_view_counts_for_agreement() -> None:
    rows = [
        {"item_id": "a", "annotator": "x", "view": "item", "label": label, "repeat": k}
        for k, label in enumerate(["cat", "other", "other"])
    ]
    found = label_quality.report(decisions(), table(rows, PETS.classes), annotations().iloc[:0], GOLD, PETS).agreement
    assert pair(found, "x", "gold")["agreement"] == 1


def test_an_annotator_called_gold_is_no_gold() -> None:
    rows = [{"item_id": item, "annotator": "gold", "view": "item", "label": "other"} for item in "ab"]
    found = label_quality.report(decisions(), table(rows, PETS.classes), annotations().iloc[:0], GOLD, PETS).agreement
    assert found["agreement"].to_list() == [0.0]


def test_folds_are_pooled_and_counts_are_means_over_them() -> None:
    twice = pd.concat([decisions(), decisions().assign(fold=1, keep=True)])
    found = label_quality.report(twice, votes(), annotations(), GOLD, PETS).metrics
    assert found["labels/n_pool"] == 6
    assert found["labels/kept_fraction"] == pytest.approx(9 / 12)
    assert found["labels/n_train"] == 4
    assert found["labels/from_fallback"] == 1
    assert found["labels/noise_before"] == pytest.approx(3 / 4)


def test_without_gold_noise_is_undefined_and_the_rest_is_not() -> None:
    found = label_quality.report(decisions(), votes(), annotations(), GOLD.iloc[:0], PETS)
    assert np.isnan(found.metrics["labels/noise_before"])
    assert np.isnan(found.metrics["labels/dropped_precision"])
    assert np.isnan(found.metrics["labels/prevalence_gold"])
    assert found.metrics["labels/kept_fraction"] == 0.5
    assert np.isnan(found.by_class.loc["cat", "recall_before"])


def test_nothing_dropped_has_no_precision() -> None:
    kept = decisions().assign(keep=True)
    assert np.isnan(label_quality.report(kept, votes(), annotations(), GOLD, PETS).metrics["labels/dropped_precision"])


def test_without_a_positive_class_there_is_no_prevalence() -> None:
    task = Task(name="pets", classes=["other", "cat"], positive=None)
    found = label_quality.report(decisions(), votes(), annotations(), GOLD, task).metrics
    assert not [name for name in found if "prevalence" in name]
    assert found["labels/noise_before"] == pytest.approx(3 / 4)
