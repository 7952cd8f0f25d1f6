import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import made

from silvertune import votes
from silvertune.schema import Task

KNOWN = pd.Index(["a", "b"])


def good(task: Task) -> pd.DataFrame:
    return made.votes_of([{"item_id": "a", "label": "soe"}, {"item_id": "b", "label": None}], task)


def test_table_has_the_documented_columns_in_order(task: Task) -> None:
    assert tuple(good(task).columns) == votes.COLUMNS


def test_table_fills_what_a_row_leaves_out(task: Task) -> None:
    table = good(task)
    assert table["repeat"].tolist() == [0, 0]
    assert table["cost_usd"].tolist() == [0.0, 0.0]
    assert table["status"].tolist() == ["ok", "abstained"]
    assert table["confidence"].isna().all()


def test_table_keeps_what_a_row_gives(task: Task) -> None:
    row = {"item_id": "a", "label": None, "status": "refused", "repeat": 2, "confidence": 0.25, "cost_usd": 0.5}
    told = made.votes_of([row], task).iloc[0]
    assert {name: told[name] for name in row} == row


def test_a_missing_label_is_none_and_not_nan(task: Task) -> None:
    table = made.votes_of([{"item_id": "a", "label": np.nan}, {"item_id": "b", "label": "soe"}], task)
    assert table["label"].tolist() == [None, "soe"]


def test_a_table_without_rows_has_the_columns_and_passes_the_check(task: Task) -> None:
    table = votes.table([], task.classes, probs=True)
    assert list(table.columns) == [*votes.COLUMNS, "prob:other", "prob:soe"]
    assert len(votes.check(table, task.classes, KNOWN, "here")) == 0


def test_table_has_probabilities_only_where_asked(task: Task) -> None:
    rows = [{"item_id": "a", "annotator": "m", "view": "text", "label": "soe", "prob:soe": 0.75, "prob:other": 0.25}]
    assert "prob:soe" not in votes.table(rows, task.classes)
    assert votes.table(rows, task.classes, probs=True)["prob:soe"].tolist() == [0.75]


@pytest.mark.parametrize(("soe", "other"), [(70.0, 30.0), (0.7, 0.7), (-0.2, 1.2), (0.7, np.nan), (1.0, 1.0)], ids=str)
def test_check_refuses_probabilities_that_are_no_distribution(task: Task, soe: float, other: float) -> None:
    table = good(task).assign(**{"prob:other": [other, np.nan], "prob:soe": [soe, np.nan]})
    with made.refused("votes file: 1 vote(s)", "no distribution (each 0-1, all together 1)", f"'prob:soe': {soe}"):
        votes.check(table, task.classes, KNOWN, "votes file")


def test_check_takes_distributions_of_a_few_digits_and_none(task: Task) -> None:
    table = good(task).assign(**{"prob:other": [0.333, np.nan], "prob:soe": [0.666, np.nan]})
    votes.check(table, task.classes, KNOWN, "votes file")
    assert votes.class_scores(table, task.classes).loc["a"].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_check_names_the_classes_that_a_distribution_lacks(task: Task) -> None:
    with made.refused("votes file: votes have prob:soe", "each of other, soe"):
        votes.check(good(task).assign(**{"prob:soe": 1.0}), task.classes, KNOWN, "votes file")


def test_a_vote_without_a_confidence_is_as_doubtful_as_its_annotators_most_doubtful(task: Task) -> None:
    rows = [
        {"item_id": "a", "annotator": "m", "label": "soe", "confidence": 0.9},
        {"item_id": "b", "annotator": "m", "label": "soe", "confidence": 0.6},
        {"item_id": "c", "annotator": "m", "label": "soe"},
        {"item_id": "d", "annotator": "never says", "label": "soe"},
    ]
    scores = votes.class_scores(made.votes_of(rows, task), task.classes)["soe"]
    assert scores.to_dict() == {"a": 0.9, "b": 0.6, "c": 0.6, "d": 1.0}


def test_check_hands_on_a_votes_table(task: Task) -> None:
    table = good(task)
    assert votes.check(table, task.classes, KNOWN, "here") is table


@pytest.mark.parametrize("column", votes.COLUMNS)
def test_check_names_a_missing_column(task: Task, column: str) -> None:
    with made.refused("here:", f"missing: {column}"):
        votes.check(good(task).drop(columns=column), task.classes, KNOWN, "here")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"item_id": "z"}, "an item_id that is not in the dataset"),
        ({"label": "SOE"}, "a label that is no class of the task (other, soe)"),
        ({"status": "fine"}, "a status other than ok, abstained"),
        ({"status": "refused"}, "a status that contradicts its label"),
        ({"label": None}, "a status that contradicts its label"),
        ({"confidence": 1.5}, "a confidence outside 0-1"),
        ({"confidence": -0.1}, "a confidence outside 0-1"),
    ],
)
def test_check_tells_what_is_wrong_and_where(task: Task, change: dict[str, object], told: str) -> None:
    table = good(task)
    for name, value in change.items():
        table.loc[0, name] = value
    with made.refused("my labeler: 1 vote(s)", told, "first:", "item_id"):
        votes.check(table, task.classes, KNOWN, "my labeler")


def test_check_refuses_the_same_vote_twice(task: Task) -> None:
    table = good(task)
    with made.refused("twice", "'a'"):
        votes.check(pd.concat([table, table.head(1)]), task.classes, KNOWN, "here")


def test_a_repeat_is_another_vote(task: Task) -> None:
    table = made.votes_of([{"item_id": "a", "label": "soe", "repeat": k} for k in range(3)], task)
    assert len(votes.check(table, task.classes, KNOWN, "here")) == 3


def test_class_scores_are_the_mean_of_the_distributions(task: Task) -> None:
    rows = [
        {"item_id": "a", "annotator": "m", "view": view, "label": "soe", "prob:soe": p, "prob:other": 1 - p}
        for view, p in (("json", 0.5), ("text", 0.75))
    ]
    scores = votes.class_scores(votes.table(rows, task.classes, probs=True), task.classes)
    assert scores.loc["a"].to_dict() == {"other": 0.375, "soe": 0.625}


def test_a_vote_without_a_distribution_scores_its_confidence_and_spreads_the_rest(colours: Task) -> None:
    table = made.votes_of([{"item_id": "a", "label": "green", "confidence": 0.5}], colours)
    assert votes.class_scores(table, colours.classes).loc["a"].to_dict() == {"red": 0.25, "green": 0.5, "blue": 0.25}


def test_a_vote_without_a_confidence_scores_as_sure(colours: Task) -> None:
    table = made.votes_of([{"item_id": "a", "label": "blue"}], colours)
    assert votes.class_scores(table, colours.classes).loc["a"].to_dict() == {"red": 0.0, "green": 0.0, "blue": 1.0}


def test_votes_with_and_without_a_distribution_mix(task: Task) -> None:
    rows = [
        {"item_id": "a", "annotator": "m", "view": "json", "label": "soe", "prob:soe": 0.75, "prob:other": 0.25},
        {"item_id": "a", "annotator": "m", "view": "text", "label": "other"},
    ]
    scores = votes.class_scores(votes.table(rows, task.classes, probs=True), task.classes)
    assert scores.loc["a", "soe"] == 0.375


def test_items_without_a_label_have_no_score(task: Task) -> None:
    assert list(votes.class_scores(good(task), task.classes).index) == ["a"]


CAST = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([*made.COLOURS.classes, None]), st.integers(0, 8)),
    max_size=12,
)


@settings(max_examples=50, deadline=None)
@given(CAST)
def test_class_scores_sum_to_one_and_cover_the_items_with_a_label(cast: list[tuple[str, str | None, int]]) -> None:
    rows = [
        {"item_id": item, "label": label, "confidence": eighths / 8, "repeat": k}
        for k, (item, label, eighths) in enumerate(cast)
    ]
    scores = votes.class_scores(made.votes_of(rows, made.COLOURS), made.COLOURS.classes)
    assert set(scores.index) == {item for item, label, _ in cast if label is not None}
    assert np.allclose(scores.sum(axis=1), 1)
    assert ((scores >= 0) & (scores <= 1)).all(axis=None)
