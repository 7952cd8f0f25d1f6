import numpy as np
import pandas as pd
import pytest
from tests import made
from tests.filters.test_contract import kept

from silvertune import aggregations
from silvertune.filters import scores
from silvertune.schema import Task


def labels_of(confidences: list[float | None], label: str | None = "soe") -> pd.DataFrame:
    index = pd.Index([f"i{k:03d}" for k in range(len(confidences))], name="item_id")
    return pd.DataFrame({"label": label, "confidence": confidences, "n_votes": 1}, index=index).astype(
        {"confidence": float, "label": object}
    )


def test_confidence_at_least_keeps_the_threshold_itself_and_nothing_without_a_confidence() -> None:
    answer = scores.confidence(labels_of([0.5, 0.75, 0.875, None]), at_least=0.75, top=None)
    assert answer["keep"].tolist() == [False, True, True, False]


def test_confidence_top_keeps_the_most_confident_fraction() -> None:
    answer = scores.confidence(labels_of([0.1, 0.9, 0.3, 0.7]), at_least=None, top=0.5)
    assert answer["keep"].tolist() == [False, True, False, True]


def test_confidence_top_keeps_all_ties_at_the_cut() -> None:
    answer = scores.confidence(labels_of([0.9, 0.5, 0.5, 0.5, 0.1]), at_least=None, top=0.4)
    assert answer["keep"].tolist() == [True, True, True, True, False]


def test_confidence_top_is_a_fraction_of_the_labels_that_have_a_confidence() -> None:
    labels = pd.concat([labels_of([0.1, 0.9, None, None]), labels_of([0.95], label=None).rename(index={"i000": "z"})])
    assert kept(scores.confidence(labels, at_least=None, top=0.5)) == {"i001"}


@pytest.mark.parametrize("top", [0.0, 1.0])
def test_confidence_top_at_its_ends_keeps_nothing_and_everything(top: float) -> None:
    assert scores.confidence(labels_of([0.1, 0.9]), at_least=None, top=top)["keep"].tolist() == [bool(top)] * 2


def test_confidence_top_keeps_seven_of_a_hundred_at_seven_percent() -> None:
    labels = labels_of([k / 100 for k in range(100)])
    assert scores.confidence(labels, at_least=None, top=0.07)["keep"].sum() == 7


def test_confidence_wants_one_of_its_two() -> None:
    with made.refused("filter.confidence.at_least=null", "set one"):
        scores.confidence(labels_of([0.5]), at_least=None, top=None)


def test_confidence_goes_by_at_least_where_it_is_set() -> None:
    answer = scores.confidence(labels_of([0.2, 0.6, 0.9]), at_least=0.8, top=1.0)
    assert answer["keep"].tolist() == [False, False, True]


@pytest.mark.parametrize("name", ["at_least", "top"])
@pytest.mark.parametrize("value", [-0.1, 1.1, 50, float("nan")])
def test_confidence_wants_a_number_from_zero_to_one(name: str, value: float) -> None:
    with made.refused(f"filter.confidence.{name}={value}", "from 0 to 1"):
        scores.confidence(labels_of([0.5]), **({"at_least": None, "top": None} | {name: value}))


def split(task: Task, *chances: float) -> pd.DataFrame:
    """One item with a vote for each of these probabilities of soe."""
    rows = [
        {"item_id": "i000", "view": f"v{k}", "label": "soe" if p > 0.5 else "other", "confidence": max(p, 1 - p)}
        for k, p in enumerate(chances)
    ]
    return made.votes_of(rows, task)


def test_margin_is_of_the_label_and_entropy_of_the_votes(task: Task) -> None:
    votes = split(task, 0.8, 0.1)  # together .45 soe, .55 other; an OR says soe
    labels = aggregations.any_view(votes, task)
    margin = scores.margin(votes, labels, task, at_least=0.0, top=None)
    assert margin.loc["i000", "score"] == pytest.approx(-0.1)
    assert not margin.loc["i000", "keep"]
    even = -(0.45 * np.log2(0.45) + 0.55 * np.log2(0.55))
    entropy = scores.entropy(votes, labels, task, at_least=0.0, top=None)
    assert entropy.loc["i000", "score"] == pytest.approx(1 - even)
    assert entropy.loc["i000", "keep"]


@pytest.mark.parametrize(("chance", "certainty"), [(0.5, 0.0), (1.0, 1.0)])
def test_entropy_at_its_ends(task: Task, chance: float, certainty: float) -> None:
    votes = split(task, chance)
    answer = scores.entropy(votes, aggregations.majority(votes, task), task, at_least=0.0, top=None)
    assert answer.loc["i000", "score"] == pytest.approx(certainty)


def test_margin_of_three_classes_is_to_the_next_best(colours: Task) -> None:
    rows = [
        {"item_id": "i000", "view": v, "label": name}
        for v, name in (("a", "red"), ("b", "red"), ("c", "red"), ("d", "blue"))
    ]
    votes = made.votes_of(rows, colours)
    answer = scores.margin(votes, aggregations.majority(votes, colours), colours, at_least=0.5, top=None)
    assert answer.loc["i000"].tolist() == [True, 0.5]


def test_confidence_weighted_keeps_all_and_weighs_by_confidence() -> None:
    answer = scores.confidence_weighted(labels_of([0.9, 0.05, None]), floor=0.1)
    assert answer["keep"].all()
    assert answer["weight"].tolist() == [0.9, 0.1, 0.1]
    assert scores.confidence_weighted(labels_of([0.9, 0.5, None]), floor=0.0)["weight"].tolist() == [0.9, 0.5, 0.5]
    assert scores.confidence_weighted(labels_of([None, None]), floor=0.0)["weight"].tolist() == [1.0, 1.0]
    for floor in (5, -1, "abc"):
        with made.refused(f"filter.confidence_weighted.floor={floor}", "from 0 to 1"):
            scores.confidence_weighted(labels_of([0.9]), floor=floor)  # type: ignore[arg-type]
