import itertools
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests import made

from silvertune import aggregation
from silvertune.schema import Task

CONF = Path(__file__).parents[1] / "conf" / "aggregation"
CASES: dict[str, Callable[[pd.DataFrame, Task], pd.DataFrame]] = {
    "silvertune.aggregation.any_view": aggregation.any_view,
    "silvertune.aggregation.all_views": aggregation.all_views,
    "silvertune.aggregation.majority": aggregation.majority,
    "silvertune.aggregation.first": aggregation.first,
}
READS_THE_ORDER = {"silvertune.aggregation.first"}
POSITIVE_OF_THREE = Task(name="colours", classes=["red", "green", "blue"], positive="green")

Cast = list[tuple[str, str | None, int | None]]


def table(cast: Cast, task: Task) -> pd.DataFrame:
    """Votes from (item, label, confidence in eighths): eighths, so that sums are exact in any order."""
    rows = [
        {"item_id": item, "label": label, "confidence": None if sure is None else sure / 8, "repeat": k}
        for k, (item, label, sure) in enumerate(cast)
    ]
    return made.votes_of(rows, task)


def casts(task: Task) -> st.SearchStrategy[Cast]:
    sure = st.one_of(st.none(), st.integers(0, 8))
    return st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([*task.classes, None]), sure), max_size=14)


def test_every_shipped_aggregation_has_a_case() -> None:
    shipped = {yaml.safe_load(file.read_text())["_target_"] for file in CONF.glob("*.yaml")}
    assert shipped == set(CASES)


# ---------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", CASES)
class TestContract:
    @settings(max_examples=25, deadline=None)
    @given(casts(POSITIVE_OF_THREE))
    def test_labels_have_the_documented_form(self, name: str, cast: Cast) -> None:
        votes = table(cast, POSITIVE_OF_THREE)
        labels = CASES[name](votes, POSITIVE_OF_THREE)
        assert list(labels.columns) == ["label", "confidence", "n_votes"]
        assert labels.index.name == "item_id"
        assert sorted(labels.index) == sorted({item for item, _, _ in cast})
        counted = Counter(item for item, label, _ in cast if label is not None)
        assert labels["n_votes"].to_dict() == {item: counted[item] for item in labels.index}
        for _, label, confidence, n_votes in labels.itertuples():
            if n_votes == 0:
                assert label is None
                assert np.isnan(confidence)
            else:
                assert label in POSITIVE_OF_THREE.classes
                assert 0 <= confidence <= 1

    @settings(max_examples=25, deadline=None)
    @given(casts(POSITIVE_OF_THREE), st.integers(0, 99))
    def test_the_order_of_the_votes_does_not_matter(self, name: str, cast: Cast, seed: int) -> None:
        if name in READS_THE_ORDER:
            return
        votes = table(cast, POSITIVE_OF_THREE)
        shuffled = votes.sample(frac=1, random_state=seed)
        again = CASES[name](shuffled, POSITIVE_OF_THREE)
        pd.testing.assert_frame_equal(CASES[name](votes, POSITIVE_OF_THREE), again, check_like=True)

    @settings(max_examples=25, deadline=None)
    @given(casts(POSITIVE_OF_THREE))
    def test_null_votes_change_nothing(self, name: str, cast: Cast) -> None:
        aggregate = CASES[name]
        votes = table(cast, POSITIVE_OF_THREE)
        labelled = aggregate(votes[votes["label"].notna()], POSITIVE_OF_THREE)
        both = aggregate(votes, POSITIVE_OF_THREE)
        pd.testing.assert_frame_equal(labelled, both.loc[labelled.index])

    def test_it_neither_changes_the_votes_nor_remembers_them(self, name: str, task: Task) -> None:
        data = made.data()
        votes = made.votes(data.items, data.gold, wrong=0.3, null=0.2)
        before = votes.copy(deep=True)
        once, twice = CASES[name](votes, task), CASES[name](votes, task)
        pd.testing.assert_frame_equal(votes, before)
        pd.testing.assert_frame_equal(once, twice)

    def test_no_votes_are_no_labels(self, name: str, task: Task) -> None:
        labels = CASES[name](made.votes_of([], task), task)
        assert list(labels.columns) == ["label", "confidence", "n_votes"]
        assert labels.empty

    def test_null_votes_only_are_null_labels(self, name: str, task: Task) -> None:
        labels = CASES[name](made.votes_of([{"item_id": "a", "label": None}], task), task)
        assert labels.loc["a", "label"] is None
        assert np.isnan(labels.loc["a", "confidence"])

    def test_votes_that_agree_give_their_label(self, name: str, task: Task) -> None:
        for label in task.classes:
            rows = [{"item_id": "a", "view": view, "label": label} for view in ("json", "text")]
            labels = CASES[name](made.votes_of(rows, task), task)
            assert labels.loc["a"].to_dict() == {"label": label, "confidence": 1.0, "n_votes": 2}


# ------------------------------------------------------------------------- each against a slow, obvious reference


def modal(own: list[tuple[str, Fraction]], task: Task) -> str:
    """The most frequent label; ties go to the higher summed confidence, then to the class listed first."""

    def rank(name: str) -> tuple[int, Fraction, int]:
        sure = [confidence for label, confidence in own if label == name]
        return len(sure), sum(sure, Fraction(0)), -task.classes.index(name)

    return max((name for name in task.classes), key=rank)


def slow_any_view(own: list[tuple[str, Fraction]], task: Task) -> tuple[str, Fraction]:
    positive = [confidence for label, confidence in own if label == task.positive]
    if positive:
        return str(task.positive), max(positive)
    return modal(own, task), min(confidence for _, confidence in own)


def slow_all_views(own: list[tuple[str, Fraction]], task: Task) -> tuple[str, Fraction]:
    against = [(label, confidence) for label, confidence in own if label != task.positive]
    if not against:
        return str(task.positive), min(confidence for _, confidence in own)
    return modal(against, task), max(confidence for _, confidence in against)


def slow_majority(own: list[tuple[str, Fraction]], task: Task) -> tuple[str, Fraction]:
    winner = modal(own, task)
    return winner, Fraction(sum(label == winner for label, _ in own), len(own))


def slow_first(own: list[tuple[str, Fraction]], task: Task) -> tuple[str, Fraction]:
    return own[0]


@pytest.mark.parametrize("task", [made.SOE, POSITIVE_OF_THREE], ids=["two", "three"])
@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (aggregation.any_view, slow_any_view),
        (aggregation.all_views, slow_all_views),
        (aggregation.majority, slow_majority),
        (aggregation.first, slow_first),
    ],
)
def test_it_agrees_with_the_slow_reference(fast, slow, task: Task) -> None:  # type: ignore[no-untyped-def]
    @settings(max_examples=60, deadline=None)
    @given(casts(task))
    @example([("a", task.classes[0], 0), ("a", task.classes[1], 0)])
    def check(cast: Cast) -> None:
        labels = fast(table(cast, task), task)
        for item, mine in itertools.groupby(sorted(cast, key=lambda vote: vote[0]), key=lambda vote: vote[0]):
            own = [
                (label, Fraction(1) if sure is None else Fraction(sure, 8))
                for _, label, sure in mine
                if label is not None
            ]
            if not own:
                assert labels.loc[item, "label"] is None
                continue
            want, confidence = slow(own, task)
            assert labels.loc[item, "label"] == want
            assert labels.loc[item, "confidence"] == pytest.approx(float(confidence))

    check()


# ------------------------------------------------------------------------------------------------------ by example


def test_one_positive_view_is_enough_for_any_view(task: Task) -> None:
    rows = [
        {"item_id": "a", "view": "json", "label": "other", "confidence": 0.9},
        {"item_id": "a", "view": "text", "label": "soe", "confidence": 0.6},
    ]
    assert aggregation.any_view(made.votes_of(rows, task), task).loc["a"].tolist() == ["soe", 0.6, 2]
    assert aggregation.all_views(made.votes_of(rows, task), task).loc["a"].tolist() == ["other", 0.9, 2]


def test_a_majority_tie_goes_to_the_more_confident_and_then_to_the_class_listed_first(task: Task) -> None:
    sure = [
        {"item_id": "a", "view": "json", "label": "other", "confidence": 0.25},
        {"item_id": "a", "view": "text", "label": "soe", "confidence": 0.5},
    ]
    assert aggregation.majority(made.votes_of(sure, task), task).loc["a", "label"] == "soe"
    even = [row | {"confidence": 0.5} for row in sure]
    assert aggregation.majority(made.votes_of(even, task), task).loc["a", "label"] == "other"
    backwards = Task(name="soe", classes=["soe", "other"], positive="soe")
    assert aggregation.majority(made.votes_of(even, backwards), backwards).loc["a", "label"] == "soe"


def test_a_tie_in_confidence_does_not_depend_on_the_order_in_which_it_is_summed(task: Task) -> None:
    """0.64 + 0.51 + 0.65 is not 0.65 + 0.51 + 0.64 in floating point, and is a tie all the same."""
    rows = [
        {"item_id": "a", "annotator": f"{label}{k}", "label": label, "confidence": sure}
        for label, confidences in (("other", (0.64, 0.51, 0.65)), ("soe", (0.65, 0.51, 0.64)))
        for k, sure in enumerate(confidences)
    ]
    assert aggregation.majority(made.votes_of(rows, task), task).loc["a", "label"] == "other"


def test_the_first_vote_with_a_label_is_the_first_of_the_table(task: Task) -> None:
    rows = [
        {"item_id": "a", "annotator": "one", "label": None},
        {"item_id": "a", "annotator": "two", "label": "soe", "confidence": 0.25},
        {"item_id": "a", "annotator": "three", "label": "other"},
    ]
    assert aggregation.first(made.votes_of(rows, task), task).loc["a"].tolist() == ["soe", 0.25, 2]
    assert aggregation.first(made.votes_of(rows[::-1], task), task).loc["a"].tolist() == ["other", 1.0, 2]


@pytest.mark.parametrize("name", ["any_view", "all_views"])
def test_views_can_not_be_joined_without_a_positive_class(colours: Task, name: str) -> None:
    with made.refused(f"aggregation={name}", "task.positive", "'colours'", "aggregation=majority"):
        getattr(aggregation, name)(made.votes_of([], colours), colours)
