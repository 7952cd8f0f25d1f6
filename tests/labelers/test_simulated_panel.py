import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import made

from silvertune import aggregations
from silvertune.labelers.simulated_panel import SimulatedPanel
from silvertune.schema import Task

PAPER = {"pairwise_agreement": 0.812, "confusable": 0.1, "do_not_know": 0.05, "shared": 50, "seed": 0}


def panel(task: Task, gold: pd.Series, **settings: Any) -> SimulatedPanel:
    return SimulatedPanel(task, gold, **(PAPER | settings))


def population(n: int, classes: list[str]) -> tuple[pd.DataFrame, pd.Series]:
    """Items without text, and gold: the panel reads nothing else."""
    ids = pd.Index([f"i{k:05d}" for k in range(n)], name="item_id")
    return pd.DataFrame({"group_id": ids}, index=ids), pd.Series([classes[k % len(classes)] for k in range(n)], ids)


def by_person(votes: pd.DataFrame) -> pd.DataFrame:
    """item x non-expert, their labels; null where they do not know or were not asked."""
    people = votes[votes["annotator"].str.startswith("simulated_non_expert")]
    return people.pivot(index="item_id", columns="annotator", values="label")


def agreement(labels: pd.DataFrame) -> float:
    """Mean over the pairs of annotators of the share of items that both labelled alike."""
    pairs = [labels[[a, b]].dropna() for a, b in itertools.combinations(labels.columns, 2)]
    return float(np.mean([(pair.iloc[:, 0] == pair.iloc[:, 1]).mean() for pair in pairs]))


@pytest.mark.parametrize("wanted", [0.812, 0.65])
def test_two_of_the_panel_agree_as_often_as_wanted_on_confusable_items(task: Task, wanted: float) -> None:
    n = 1500
    items, gold = population(n, ["soe"])
    labels = by_person(panel(task, gold, shared=n, pairwise_agreement=wanted).label(items))
    assert labels.shape == (n, 6)
    # As if an item were one pair and not fifteen: wider than the truth, so four of it are never reached by chance.
    assert agreement(labels) == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / n))


def test_the_six_err_with_rates_of_their_own(task: Task) -> None:
    n = 3000
    items, gold = population(n, ["soe"])
    labels = by_person(panel(task, gold, shared=n, do_not_know=0.0).label(items))
    wrong = (labels != "soe").mean()
    mean = (1 - np.sqrt(2 * 0.812 - 1)) / 2
    assert wrong.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean * (1 - mean) / n / 6))
    assert wrong.max() / wrong.min() > 1.4


def test_people_do_not_err_on_what_is_not_confusable(task: Task) -> None:
    items, gold = population(1000, ["other"])
    votes = panel(task, gold, confusable=0.0).label(items)
    assert len(votes) == 1000
    assert set(votes["label"]) == {"other"}


def test_the_confusable_share_of_the_negatives_is_erred_on(task: Task) -> None:
    n = 4000
    items, gold = population(n, ["other"])
    votes = panel(task, gold, confusable=0.25, do_not_know=1.0, shared=0).label(items)
    doubted = votes["label"].isna().sum()
    assert doubted / n == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / n))


def test_who_does_not_know_asks_a_simulated_expert_who_is_right(task: Task) -> None:
    items, gold = population(400, task.classes)
    votes = panel(task, gold, do_not_know=0.5).label(items)
    unsure = set(votes.loc[votes["label"].isna(), "item_id"])
    expert = votes[votes["annotator"] == "simulated_expert"].set_index("item_id")["label"]
    assert len(unsure) > 50
    assert set(expert.index) == unsure
    assert expert.index.is_unique
    assert (expert == gold[expert.index]).all()
    assert set(votes.loc[votes["label"].isna(), "status"]) == {"abstained"}


def test_do_not_know_is_as_frequent_as_wanted(task: Task) -> None:
    n = 3000
    items, gold = population(n, ["soe"])
    votes = panel(task, gold, shared=0, do_not_know=0.2).label(items)
    assert votes["label"].isna().sum() / n == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / n))


def test_every_name_says_that_it_is_simulated(task: Task) -> None:
    items, gold = population(300, task.classes)
    names = set(panel(task, gold, do_not_know=0.3).label(items)["annotator"])
    assert names == {f"simulated_non_expert/{k}" for k in range(1, 7)} | {"simulated_expert"}


def test_one_of_the_six_labels_an_item_and_all_six_the_shared_ones(task: Task) -> None:
    items, gold = population(300, task.classes)
    votes = panel(task, gold, do_not_know=0.0, shared=20).label(items)
    counts = votes.groupby("item_id").size()
    assert counts.value_counts().to_dict() == {1: 280, 6: 20}
    assert set(gold[counts.index[counts == 6]]) <= {"soe", "other"}


def test_all_of_the_six_are_drawn_about_as_often(task: Task) -> None:
    n = 3000
    items, gold = population(n, task.classes)
    drawn = panel(task, gold, shared=0, do_not_know=0.0).label(items)["annotator"].value_counts() / n
    assert len(drawn) == 6
    assert (abs(drawn - 1 / 6) < 4 * np.sqrt(5 / 36 / n)).all()


def test_an_item_that_is_shared_keeps_its_first_label(task: Task) -> None:
    """So that with aggregation=first the number of shared items changes no label."""
    items, gold = population(300, task.classes)
    few, many = (aggregations.first(panel(task, gold, shared=shared).label(items), task) for shared in (0, 100))
    assert few["label"].equals(many["label"])
    assert many["n_votes"].sum() > few["n_votes"].sum()


def test_another_seed_is_another_panel(task: Task) -> None:
    items, gold = population(300, task.classes)
    zero, again, one = (panel(task, gold, seed=seed).label(items) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(zero, again)
    assert not zero.equals(one)


def test_the_order_of_the_items_changes_only_the_order_of_the_votes(task: Task) -> None:
    items, gold = population(200, task.classes)
    votes = panel(task, gold).label(items)
    again = panel(task, gold.iloc[::-1]).label(items.iloc[::-1])
    keys = ["item_id", "annotator"]
    pd.testing.assert_frame_equal(
        votes.sort_values(keys).reset_index(drop=True), again.sort_values(keys).reset_index(drop=True)
    )


def test_a_part_of_the_items_gets_the_same_votes_where_more_are_confusable_than_shared(task: Task) -> None:
    items, gold = population(200, ["soe"])
    labeler = panel(task, gold, shared=20)
    whole, part = labeler.label(items), labeler.label(items.iloc[:100])
    expected = whole[whole["item_id"].isin(items.index[:100])].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, expected)


def test_items_without_gold_get_no_votes(task: Task) -> None:
    items, gold = population(10, task.classes)
    assert set(panel(task, gold.iloc[:4]).label(items)["item_id"]) == set(items.index[:4])


def test_without_a_positive_class_every_item_is_confusable_and_any_other_class_may_be_said(colours: Task) -> None:
    n = 900
    items, gold = population(n, colours.classes)
    votes = panel(colours, gold, confusable=0.0, do_not_know=0.0, shared=0).label(items).set_index("item_id")
    said = pd.crosstab(gold, votes["label"])
    assert (said.to_numpy() > 0).all()
    assert np.diag(said.loc[colours.classes, colours.classes]).sum() / n == pytest.approx(0.895, abs=0.04)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pairwise_agreement": 0.4}, "labeler.pairwise_agreement=0.4"),
        ({"pairwise_agreement": 1.1}, "labeler.pairwise_agreement=1.1"),
        ({"confusable": -0.1}, "labeler.confusable=-0.1"),
        ({"do_not_know": 2}, "labeler.do_not_know=2"),
        ({"shared": -1}, "labeler.shared=-1"),
    ],
)
def test_settings_out_of_range_are_refused(task: Task, settings: dict[str, float], told: str) -> None:
    with made.refused(told):
        panel(task, made.gold(), **settings)


def test_it_can_not_be_made_without_gold(task: Task) -> None:
    with made.refused("labeler=simulated_panel", "dataset.gold"):
        panel(task, made.gold().iloc[:0])
