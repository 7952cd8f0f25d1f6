from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import made

from silvertune.filters import iterated
from silvertune.filters import out_of_fold as out_of_fold_module
from silvertune.filters.out_of_fold import RESAMPLES
from silvertune.filters.selection import views_agree
from silvertune.stats import two_gaussians

SETTINGS = {"agreed_only": True, "separation": 2.0, "rounds": 10, "settled": 0.005}


def kept(verdict: pd.DataFrame) -> set[str]:
    return set(verdict.index[verdict["keep"]])


def silver(counts: dict[tuple[str, str], int]) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """One vote an item; (label, truth) -> how many. Votes, labels and the truth, indexed by item_id."""
    pairs = [pair for pair, n in counts.items() for _ in range(n)]
    index = pd.Index([f"i{k:04d}" for k in range(len(pairs))], name="item_id")
    votes = made.votes_of({"item_id": item, "label": label} for item, (label, _) in zip(index, pairs, strict=True))
    labels = pd.DataFrame({"label": [label for label, _ in pairs]}, index=index, dtype=object)
    return votes, labels, pd.Series([truth for _, truth in pairs], index=index)


def student(
    truth: pd.Series, *, sees: float, views: tuple[str, ...] = ("json", "text")
) -> tuple[Callable[[pd.Series], pd.DataFrame], list[pd.Series]]:
    """A student who tells the true classes `sees` standard deviations apart in each view, and what it was tuned on."""
    asked: list[pd.Series] = []

    def out_of_fold(labels: pd.Series) -> pd.DataFrame:
        asked.append(labels)
        rng = np.random.default_rng(0)
        parts = []
        for view in views:
            odds = rng.normal(np.where(truth == "soe", sees / 2, -sees / 2), 1.0)
            soe = 1 / (1 + np.exp(-odds))
            index = pd.MultiIndex.from_product([truth.index, [view]], names=["item_id", "view"])
            parts.append(pd.DataFrame({"other": 1 - soe, "soe": soe}, index=index))
        return pd.concat(parts)

    return out_of_fold, asked


OVER_CALLED = {("soe", "soe"): 60, ("soe", "other"): 60, ("other", "other"): 200}


def test_it_drops_the_wrong_labels_of_a_class_that_falls_in_two() -> None:
    votes, labels, truth = silver(OVER_CALLED)
    answer = iterated(votes, labels, student(truth, sees=5.0)[0], **SETTINGS)
    right = labels["label"] == truth
    assert (answer["keep"] == right).mean() > 0.97
    assert answer["score"].between(0, 1).all()


@pytest.mark.parametrize("counts", [{("soe", "soe"): 100, ("other", "other"): 200}, OVER_CALLED])
def test_it_keeps_all_where_the_student_sees_no_two_groups(counts: dict[tuple[str, str], int]) -> None:
    votes, labels, truth = silver(counts)
    out_of_fold, asked = student(truth, sees=0.0)
    answer = iterated(votes, labels, out_of_fold, **SETTINGS)
    assert answer["keep"].all()
    assert len(asked) == 1


def test_students_are_tuned_on_what_is_left_and_all_are_judged_again() -> None:
    votes, labels, truth = silver(OVER_CALLED)
    out_of_fold, asked = student(truth, sees=5.0)
    answer = iterated(votes, labels, out_of_fold, **SETTINGS)
    assert len(asked[0]) == len(labels)
    assert set(asked[-1].index) == kept(answer)
    assert answer["score"].notna().all()


def test_it_stops_after_so_many_rounds() -> None:
    votes, labels, truth = silver(OVER_CALLED)
    out_of_fold, asked = student(truth, sees=5.0)
    iterated(votes, labels, out_of_fold, **SETTINGS | {"rounds": 1})
    assert len(asked) == 1


@pytest.mark.parametrize("agreed_only", [True, False])
def test_it_begins_with_the_labels_that_the_votes_agree_on(agreed_only: bool) -> None:
    votes, labels, truth = silver(OVER_CALLED)
    against = made.votes_of([{"item_id": "i0000", "view": "json", "label": "other"}])
    null = made.votes_of([{"item_id": "i0001", "view": "json", "label": None}])
    out_of_fold, asked = student(truth, sees=0.0)
    answer = iterated(pd.concat([votes, against, null]), labels, out_of_fold, **SETTINGS | {"agreed_only": agreed_only})
    assert ("i0000" in asked[0].index) == ("i0000" in kept(answer)) == (not agreed_only)
    assert "i0001" in kept(answer)


def test_an_item_that_lacks_a_view_is_judged_by_its_others() -> None:
    votes, labels, truth = silver(OVER_CALLED)
    full, _ = student(truth, sees=5.0)

    def out_of_fold(given: pd.Series) -> pd.DataFrame:
        return full(given).drop([("i0000", "json"), ("i0001", "json"), ("i0001", "text")])

    answer = iterated(votes, labels, out_of_fold, **SETTINGS)
    assert "i0000" in kept(answer)
    assert answer["score"].notna().all()


@pytest.mark.parametrize(
    "settings", [{"separation": -1}, {"rounds": 0}, {"settled": None}, {"separation": float("nan")}]
)
def test_it_refuses_settings_that_mean_nothing(settings: dict[str, Any]) -> None:
    votes, labels, truth = silver(OVER_CALLED)
    (name,) = settings
    with made.refused(f"filter.iterated.{name}="):
        iterated(votes, labels, student(truth, sees=1.0)[0], **SETTINGS | settings)


def test_labels_that_come_back_are_not_tuned_on_again() -> None:
    votes, labels, truth = silver(OVER_CALLED)
    full, _ = student(truth, sees=5.0)
    asked: list[frozenset[str]] = []

    def out_of_fold(given: pd.Series) -> pd.DataFrame:
        """Every other student can't see the classes: labels come back and go again."""
        asked.append(frozenset(given.index))
        return full(given) if len(given) == len(labels) else full(given) * 0 + 0.5

    answer = iterated(votes, labels, out_of_fold, **SETTINGS | {"rounds": 5, "settled": 0.0})
    assert len(asked) == len(set(asked)) == 2
    assert len(kept(answer)) < len(labels)


def test_a_class_with_very_many_labels_is_split_by_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    votes, labels, truth = silver(OVER_CALLED)
    fitted: list[int] = []
    fit = two_gaussians.fit
    monkeypatch.setattr(out_of_fold_module, "MOST", 100)
    monkeypatch.setattr(two_gaussians, "fit", lambda values: (fitted.append(len(values)), fit(values))[1])
    answer = iterated(votes, labels, student(truth, sees=5.0)[0], **SETTINGS)
    assert set(fitted) == {100}
    assert (answer["keep"] == (labels["label"] == truth)).mean() > 0.97


def test_two_groups_that_chance_may_have_set_apart_are_one() -> None:
    """A class of one kind, in whose scores the best two halves happen to stand two standard deviations apart."""
    rng = np.random.default_rng(1)
    clouds = [rng.normal(size=(60, 2)) for _ in range(40)]
    apart = [cloud for cloud in clouds if two_gaussians.fit(cloud).distance() >= 2]
    assert len(apart) > 5
    assert not any(two_gaussians.are_apart(cloud, two_gaussians.fit(cloud), 2.0, RESAMPLES) for cloud in apart)
    two = np.concatenate([rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 4])
    assert two_gaussians.are_apart(two, two_gaussians.fit(two), 2.0, RESAMPLES)


def test_views_agree_where_each_says_so_by_the_most_of_its_votes() -> None:
    cast = {"a": ("x", "x", "y"), "b": ("y", "y", "x"), "c": ("x", "y"), "d": ()}
    table = made.votes_of(
        {"item_id": item, "view": "text", "annotator": f"llm{k}", "label": label}
        for item, said in cast.items()
        for k, label in enumerate(said)
    )
    agreed = views_agree(table, pd.Series("x", index=pd.Index(list(cast), name="item_id")))
    assert agreed.to_dict() == {"a": True, "b": False, "c": True, "d": True}
