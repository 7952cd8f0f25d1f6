from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import made
from tests.filters.test_contract import kept

from silvertune.evidence.evidence import Evidence
from silvertune.filters.votes import agreement, k_of_n
from silvertune.schema import Task


def slow_agreement(votes: pd.DataFrame, item: str, over: str, label: str | None) -> float:
    """The share of the values of `over` all of whose votes gave the item's label, by counting on the fingers."""
    own = votes[votes["item_id"] == item]
    behind = [set(own.loc[own[over] == value, "label"]) == {label} for value in own[over].unique()]
    return sum(behind) / len(behind) if behind and label is not None else 0.0


VOTE = st.tuples(
    st.sampled_from(["i000", "i001", "i002"]),
    st.sampled_from(["ann", "bob", "cy"]),
    st.sampled_from(["json", "text"]),
    st.sampled_from([*made.COLOURS.classes, None]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(VOTE, min_size=1, max_size=16), st.sampled_from(["view", "annotator", "repeat"]), st.integers(0, 6))
def test_agreement_agrees_with_the_slow_reference(
    cast: list[tuple[str, str, str, str | None]], over: str, sixths: int
) -> None:
    rows = [
        {"item_id": item, "annotator": annotator, "view": view, "label": label, "repeat": k % 3}
        for k, (item, annotator, view, label) in enumerate(cast)
    ]
    about = made.evidence(made.votes_of(rows, made.COLOURS), made.COLOURS, n=4)
    answer = agreement(about.votes, about.labels, over=over, at_least=sixths / 6)
    for item in about.labels.index:
        share = slow_agreement(about.votes, item, over, about.labels.at[item, "label"])
        assert answer.loc[item, "score"] == pytest.approx(share)
        assert answer.loc[item, "keep"] == (share >= sixths / 6 - 1e-9)


def test_a_view_that_could_not_be_read_counts_against_the_item(task: Task) -> None:
    rows = [
        {"item_id": "i000", "view": "json", "label": "soe"},
        {"item_id": "i000", "view": "text", "label": None},
        {"item_id": "i001", "view": "json", "label": "soe"},
    ]
    about = made.evidence(made.votes_of(rows, task), task, n=2)
    assert kept(agreement(about.votes, about.labels, over="view", at_least=1.0)) == {"i001"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"over": "language"}, "filter.agreement.over=language: want view, annotator, repeat, model or prompt"),
        ({"at_least": 80}, "filter.agreement.at_least=80: want a number from 0 to 1"),
        ({"at_least": float("nan")}, "filter.agreement.at_least=nan"),
        ({"weights": {"json": 1}}, "no weight for view 'text'"),
        ({"weights": {"json": 1, "text": -1}}, "filter.agreement.weights.text=-1: want a number from 0"),
        ({"weights": {"json": 0, "text": 0}}, "want at least one weight above 0"),
    ],
)
def test_agreement_refuses_what_it_can_not_do(task: Task, change: dict[str, Any], told: str) -> None:
    about = made.usual_evidence(task)
    with made.refused(told):
        agreement(about.votes, about.labels, **({"over": "view", "at_least": 1.0} | change))


def jury(task: Task, **labels: str | None) -> Evidence:
    """One item; annotators are named with __ for a slash."""
    rows = [{"item_id": "i000", "annotator": who.replace("__", "/"), "label": said} for who, said in labels.items()]
    return made.evidence(made.votes_of(rows, task), task, n=1)


def test_the_prompts_of_one_model_speak_together(task: Task) -> None:
    about = jury(task, llm__a__p1="soe", llm__a__p2="other", llm__b__p1="soe", llm__b__p2="soe")
    assert agreement(about.votes, about.labels, over="model", at_least=1.0).loc["i000", "score"] == 0.5
    assert agreement(about.votes, about.labels, over="prompt", at_least=1.0).loc["i000", "score"] == 0.5
    assert agreement(about.votes, about.labels, over="annotator", at_least=1.0).loc["i000", "score"] == 0.75


def test_agreement_may_be_weighted(task: Task) -> None:
    about = jury(task, ann="soe", bob="soe", cy="other")
    weights = {"ann": 1, "bob": 1, "cy": 6}
    answer = agreement(about.votes, about.labels, over="annotator", at_least=0.5, weights=weights)
    assert answer.loc["i000"].tolist() == [False, 0.25]


@pytest.mark.parametrize(("k", "keep"), [(1, True), (2, True), (3, False)])
def test_k_of_n_counts_who_stands_behind_the_label(task: Task, k: int, keep: bool) -> None:
    about = jury(task, ann="soe", bob="soe", cy="other", dee=None)
    assert k_of_n(about.votes, about.labels, over="annotator", k=k).loc["i000"].tolist() == [keep, 2.0]


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_k_of_n_wants_a_number_from_one(task: Task, k: Any) -> None:
    about = made.usual_evidence(task)
    with made.refused(f"filter.k_of_n.k={k}", "from 1"):
        k_of_n(about.votes, about.labels, over="view", k=k)
