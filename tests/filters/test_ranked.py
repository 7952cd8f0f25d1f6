import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import made
from tests.filters.test_contract import CASES, bound, kept

from silvertune import aggregations
from silvertune.evidence.evidence import decide
from silvertune.filters.ranked import quantile_per_class, top_k_per_class
from silvertune.schema import Task


def nobody(labels: pd.Series) -> pd.DataFrame:
    raise AssertionError("no student is needed here")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, None]), st.integers(1, 8)), max_size=30),
    st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    st.sampled_from([(0.5, 0.25, 0.25), (0.125, 0.125, 0.75), (1 / 3, 1 / 3, 1 / 3)]),
)
def test_top_k_keeps_the_best_of_each_class_in_the_given_proportions(
    cast: list[tuple[int | None, int]], fraction: float, shares: tuple[float, float, float]
) -> None:
    task = made.COLOURS
    rows = [
        {"item_id": f"i{k:03d}", "label": None if which is None else task.classes[which], "confidence": sure / 8}
        for k, (which, sure) in enumerate(cast)
    ]
    about = made.evidence(made.votes_of(rows, task), task, n=len(cast))
    answer = top_k_per_class(
        about.votes, about.labels, task, nobody, fraction=fraction, shares=dict(zip(task.classes, shares, strict=True))
    )
    labelled = sum(which is not None for which, _ in cast)
    for which, share in enumerate(shares):
        own = {f"i{k:03d}": sure for k, (label, sure) in enumerate(cast) if label == which}
        chosen = kept(answer) & set(own)
        assert len(chosen) == min(len(own), max(math.ceil(fraction * share * labelled - 1e-9), 1))
        # Nothing that was left out is surer than what was taken, and ties go to the lower item_id.
        worst = max(((-own[item], item) for item in chosen), default=None)
        assert worst is None or all((-own[item], item) > worst for item in set(own) - chosen)
    assert not kept(answer) - set(about.labels.index[about.labels["label"].notna()])


def test_top_k_ranks_by_the_mean_distribution_and_not_by_the_votes_that_won(task: Task) -> None:
    def votes(item: str, first: float, second: float) -> list[dict[str, object]]:
        return [
            {"item_id": item, "view": view, "label": "soe" if p > 0.5 else "other", "confidence": max(p, 1 - p)}
            for view, p in (("json", first), ("text", second))
        ]

    rows = [*votes("i000", 1.0, 0.25), *votes("i001", 0.75, 0.75)]
    table = made.votes_of(rows, task)
    labels = aggregations.any_view(table, task)
    answer = top_k_per_class(table, labels, task, nobody, fraction=1.0, shares={"soe": 0.5, "other": 0.5})
    assert kept(answer) == {"i001"}


@pytest.mark.parametrize("seed", range(3))
def test_top_k_breaks_ties_by_item_whatever_order_the_items_came_in(task: Task, seed: int) -> None:
    rows = [{"item_id": f"i{k:03d}", "label": "soe", "confidence": 0.75} for k in range(8)]
    about = made.shuffled(made.evidence(made.votes_of(rows, task), task, n=8), seed)
    answer = top_k_per_class(about.votes, about.labels, task, nobody, fraction=0.75, shares={"soe": 0.5, "other": 0.5})
    assert kept(answer) == {"i000", "i001", "i002"}


def test_top_k_by_mixture_keeps_each_class_by_its_share(task: Task) -> None:
    rng = np.random.default_rng(0)
    sure = 1 / (1 + np.exp(-np.concatenate([rng.normal(3, 0.4, 60), rng.normal(-3, 0.4, 140)])))
    rows = [
        {"item_id": f"i{k:03d}", "label": "soe" if p > 0.5 else "other", "confidence": max(p, 1 - p)}
        for k, p in enumerate(sure)
    ]
    about = made.evidence(made.votes_of(rows, task), task, n=200)
    answer = top_k_per_class(about.votes, about.labels, task, nobody, fraction=0.5, shares="mixture")
    counts = about.labels.loc[sorted(kept(answer)), "label"].value_counts()
    assert counts.to_dict() == {"other": 70, "soe": 30}


@pytest.mark.parametrize("shares", ["saerens_em", "bbse"])
def test_top_k_asks_a_student_of_what_the_views_agree_on(task: Task, shares: str) -> None:
    """The labeler calls half of the items soe, with one view only where they are not; a fifth are."""
    rng = np.random.default_rng(0)
    rows = [
        {"item_id": f"i{k:03d}", "view": view, "label": "soe" if k % 5 == 0 or (k % 2 and view == "json") else "other"}
        for k in range(500)
        for view in ("json", "text")
    ]
    about = made.evidence(made.votes_of(rows, task), task, n=500)
    odds = rng.normal(np.where(np.arange(500) % 5 == 0, 3.0, -3.0), 1.0)
    asked = []

    def out_of_fold(labels: pd.Series) -> pd.DataFrame:
        asked.append(labels)
        soe = 1 / (1 + np.exp(-odds))
        index = pd.MultiIndex.from_product([[f"i{k:03d}" for k in range(500)], ["json"]], names=["item_id", "view"])
        return pd.DataFrame({"other": 1 - soe, "soe": soe}, index=index)

    answer = top_k_per_class(about.votes, about.labels, task, out_of_fold, fraction=0.5, shares=shares)
    assert set(asked[0].index) == {f"i{k:03d}" for k in range(500) if k % 5 == 0 or k % 2 == 0}
    counts = about.labels.loc[sorted(kept(answer)), "label"].value_counts()
    assert counts["soe"] == pytest.approx(50, abs=5)
    assert counts["other"] == pytest.approx(200, abs=5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"shares": "guess"},
            "filter.top_k_per_class.shares=guess: want mixture, saerens_em, bbse or a share for each of other",
        ),
        ({"shares": {"soe": 1.0}}, "filter.top_k_per_class.shares="),
        ({"shares": {"soe": 0.5, "other": 0.6}}, "sum to 1"),
        ({"fraction": 2}, "filter.top_k_per_class.fraction=2"),
    ],
)
def test_top_k_refuses_what_it_can_not_do(task: Task, change: dict[str, Any], told: str) -> None:
    with made.refused(told):
        decide([bound(CASES["top_k_per_class"] | change)], made.usual_evidence(task))


@pytest.mark.parametrize(
    ("fraction", "counts"),
    [
        (0.5, {"soe": 2, "other": 4}),
        (0.01, {"soe": 1, "other": 1}),
        ({"soe": 1.0, "other": 0.25}, {"soe": 3, "other": 2}),
    ],
)
def test_quantile_keeps_the_best_of_each_class_and_at_least_one(task: Task, fraction: Any, counts: Any) -> None:
    rows = [
        {"item_id": f"i{k:03d}", "label": "soe" if k < 3 else "other", "confidence": 0.9 - k / 100} for k in range(11)
    ]
    about = made.evidence(made.votes_of(rows, task), task, n=11)
    answer = quantile_per_class(about.votes, about.labels, task, fraction=fraction)
    chosen = about.labels.loc[sorted(kept(answer)), "label"]
    assert chosen.value_counts().to_dict() == counts
    for name in counts:
        own = answer[about.labels["label"] == name]
        assert own["keep"].all() or own.loc[own["keep"], "score"].min() > own.loc[~own["keep"], "score"].max()


def test_quantile_wants_a_fraction_for_each_class(task: Task) -> None:
    about = made.usual_evidence(task)
    with made.refused("filter.quantile_per_class.fraction=", "one for each of"):
        quantile_per_class(about.votes, about.labels, task, fraction={"soe": 0.5})
    with made.refused("filter.quantile_per_class.fraction=2: want a number above 0, at most 1"):
        quantile_per_class(about.votes, about.labels, task, fraction=2)
