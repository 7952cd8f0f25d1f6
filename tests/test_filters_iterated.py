from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import made
from tests.test_filters import bound, evidence, kept

from silvertune.evidence import Evidence, decide
from silvertune.filters_iterated import iterated
from silvertune.models.tfidf_logreg import TfidfLogreg
from silvertune.schema import Task

SETTINGS = {"agreed_only": True, "separation": 2.0, "rounds": 10, "settled": 0.005}
STUDENT = TfidfLogreg(None, r"(?u)\w+", 1, 1, 1000, 1.0, "balanced", 200)


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


# ------------------------------------------------------------------------------------- with the evidence out_of_fold


def real_evidence(task: Task, *, null: float = 0.1) -> Evidence:
    votes = made.votes(made.items(36, task), made.gold(36, task), task, wrong=0.2, null=null)
    about = evidence(votes, task, n=36)
    return Evidence(about.items, about.votes, about.labels, task, about.gold, about.seed, about.bind, student=STUDENT)


NODE = {"_target_": "silvertune.filters_iterated.iterated"} | SETTINGS | {"rounds": 2}


@pytest.mark.parametrize("name", ["task", "colours"])
def test_the_contract_holds_with_a_real_student(name: str, request: pytest.FixtureRequest) -> None:
    task = request.getfixturevalue(name)
    about = real_evidence(task)
    verdict = decide([bound(NODE)], about)
    labelled = about.labels["label"].notna()
    assert not verdict.loc[~labelled, "keep"].any()
    # No class is lost without a word.
    assert set(about.labels.loc[verdict["keep"], "label"]) == set(task.classes)
    pd.testing.assert_frame_equal(verdict, decide([bound(NODE)], real_evidence(task)))
    turned = Evidence(
        about.items.iloc[::-1],
        about.votes.iloc[::-1],
        about.labels.iloc[::-1],
        task,
        about.gold,
        0,
        about.bind,
        student=STUDENT,
    )
    pd.testing.assert_frame_equal(decide([bound(NODE)], turned).reindex(verdict.index), verdict)


def test_it_keeps_nothing_where_all_votes_are_null(task: Task) -> None:
    assert kept(decide([bound(NODE)], real_evidence(task, null=1.0))) == set()


def test_out_of_fold_never_tunes_on_the_group_that_it_scores(task: Task) -> None:
    """An item whose text is in its own group only can't be known: the students never saw its words."""
    about = real_evidence(task, null=0.0)
    seen: list[tuple[set[str], set[str]]] = []

    class Watching:
        def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> Any:
            predictor = STUDENT.fit(train, validation, seed)

            class Predictor:
                def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
                    seen.append((set(train["group_id"]), set(items["group_id"])))
                    return predictor.predict_proba(items)

            return Predictor()

    labels = about.labels["label"].iloc[:30]
    watched = Evidence(about.items, about.votes, about.labels, task, about.gold, 0, about.bind, student=Watching())
    probs = watched.out_of_fold(labels)
    assert len(seen) == 5
    assert all(not tuned & scored for tuned, scored in seen)
    assert set(probs.index.get_level_values("item_id")) == set(about.items.index)
    assert list(probs.columns) == task.classes
    assert probs.sum(axis=1).to_numpy() == pytest.approx(1)


def test_out_of_fold_wants_two_groups(task: Task) -> None:
    about = real_evidence(task)
    one = Evidence(
        about.items.assign(group_id="g"), about.votes, about.labels, task, about.gold, 0, about.bind, student=STUDENT
    )
    with made.refused("two groups"):
        one.out_of_fold(about.labels["label"])
