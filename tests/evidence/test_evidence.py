from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import made

from silvertune.evidence.evidence import BoundFilter, Evidence, decide
from silvertune.part_inputs import names_for
from silvertune.schema import Task

LABELS = pd.DataFrame(
    {"label": ["soe", "other", None, "soe"], "confidence": [0.9, 0.8, np.nan, 0.7], "n_votes": [2, 2, 0, 2]},
    index=pd.Index(list("abcd"), name="item_id"),
).astype({"label": object})


def evidence(task: Task, bind: Any = None, *, seed: int = 0) -> Evidence:
    items = pd.DataFrame({"group_id": list("ghhg"), "text": "some text"}, index=LABELS.index)
    gold = pd.Series({"a": "soe", "b": "soe"}, dtype=object)
    nothing = made.votes_of([], task)
    resources = made.resources(calibration=1)
    return Evidence(items, nothing, LABELS, task, nothing, items.index, items.iloc[:0], gold, seed, bind, resources)


def says(answer: object, key: str = "mine") -> BoundFilter:
    """A filter that gives this answer, whatever it is asked."""
    return BoundFilter(key, lambda: answer, ())


def series(*keep: object, dtype: Any = None) -> pd.Series:
    return pd.Series(list(keep), index=LABELS.index, dtype=dtype)


def test_every_name_of_evidence_is_there(task: Task) -> None:
    about = evidence(task, lambda filters: [])
    for name in names_for("filter"):
        assert getattr(about, name) is not None


def test_a_filter_is_given_what_it_needs_and_nothing_else(task: Task) -> None:
    seen: dict[str, object] = {}

    def spy(**given: object) -> pd.Series:
        seen.update(given)
        return series(True, True, True, True)

    about = evidence(task)
    decide([BoundFilter("spy", spy, ("labels", "task"))], about)
    assert set(seen) == {"labels", "task"}
    pd.testing.assert_frame_equal(seen["labels"], about.labels)


def test_a_filter_can_not_change_what_the_others_see(task: Task) -> None:
    about = evidence(task)
    labels_before, items_before = about.labels.copy(), about.items.copy()

    def vandal(labels: pd.DataFrame, items: pd.DataFrame) -> pd.Series:
        labels["label"] = "other"
        labels.loc[:, "confidence"] = 0.0
        items["group_id"] = "the same"
        return series(True, True, True, True)

    decide([BoundFilter("vandal", vandal, ("labels", "items"))], about)
    pd.testing.assert_frame_equal(about.labels, labels_before)
    pd.testing.assert_frame_equal(about.items, items_before)


def test_a_chain_without_filters_keeps_every_label(task: Task) -> None:
    verdict = decide([], evidence(task))
    assert verdict["keep"].tolist() == [True, True, False, True]
    assert verdict["reason"].tolist() == ["", "", "no label", ""]


def test_a_chain_keeps_what_all_its_filters_keep_and_names_the_first_that_did_not(task: Task) -> None:
    chain = [
        says(series(True, False, True, True), "first"),
        says(series(True, False, False, False), "second"),
    ]
    verdict = decide(chain, evidence(task))
    assert verdict["keep"].tolist() == [True, False, False, False]
    assert verdict["reason"].tolist() == ["", "first", "no label", "second"]


def test_the_second_filter_of_a_chain_judges_the_same_evidence_as_the_first(task: Task) -> None:
    asked: list[list[object]] = []

    def spy(labels: pd.DataFrame) -> pd.Series:
        asked.append(list(labels.index))
        return series(False, True, True, True)

    decide([BoundFilter(key, spy, ("labels",)) for key in ("one", "two")], evidence(task))
    assert asked == [list("abcd")] * 2


def test_an_item_without_a_label_is_not_kept_by_a_filter_that_keeps_it(task: Task) -> None:
    assert not decide([says(series(True, True, True, True))], evidence(task)).loc["c", "keep"]


def test_scores_stand_under_the_filter_that_gave_them(task: Task) -> None:
    answer = pd.DataFrame({"keep": True, "score": [0.1, 0.2, 0.3, 0.4]}, index=LABELS.index)
    verdict = decide([says(answer, "one"), says(answer.assign(score=1.0), "two")], evidence(task))
    assert verdict["score:one"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert verdict["score:two"].tolist() == [1.0] * 4


def test_weights_multiply_and_are_one_where_none_is_given(task: Task) -> None:
    answer = pd.DataFrame({"keep": True, "weight": [0.5, 1.0, 1.0, 2.0]}, index=LABELS.index)
    verdict = decide([says(answer), says(series(True, True, True, True)), says(answer)], evidence(task))
    assert verdict["weight"].tolist() == [0.25, 1.0, 1.0, 4.0]
    assert decide([], evidence(task))["weight"].tolist() == [1.0] * 4


def test_a_filter_may_give_its_own_reasons(task: Task) -> None:
    answer = pd.DataFrame(
        {"keep": [True, False, False, False], "reason": ["fine", "odd", "odd", "long"]}, index=LABELS.index
    )
    assert decide([says(answer)], evidence(task))["reason"].tolist() == ["", "odd", "no label", "long"]


def test_an_answer_in_another_order_is_matched_by_item(task: Task) -> None:
    answer = series(True, False, True, True).iloc[::-1]
    verdict = decide([says(answer)], evidence(task))
    assert list(verdict.index) == list("abcd")
    assert verdict["keep"].tolist() == [True, False, False, True]


@pytest.mark.parametrize("keep", [series(True, False, True, True, dtype=dtype) for dtype in (bool, "boolean", object)])
def test_keep_may_have_any_dtype_that_holds_booleans(task: Task, keep: pd.Series) -> None:
    verdict = decide([says(keep)], evidence(task))
    assert verdict["keep"].dtype == bool
    assert verdict["keep"].tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (np.array([True, False, True, True]), "returned ndarray: a filter returns a boolean Series"),
        (None, "returned NoneType"),
        (pd.DataFrame({"kept": True}, index=LABELS.index), "returned DataFrame"),
        (pd.DataFrame({"keep": True, "scores": 1.0}, index=LABELS.index), "returned the columns scores"),
        (series(True, True, True, True).iloc[:3], "returned 3 row(s) for 3 item(s), and its labels have 4 item(s)"),
        (series(True, True, True, True).rename(index={"d": "z"}), "indexed by item_id"),
        (series(True, True, True, True).rename(index={"d": "a"}), "returned 4 row(s) for 3 item(s)"),
        (pd.Series([True] * 4), "indexed by item_id"),
        (series(1, 0, 1, 1), "keep is int64"),
        (series(0.9, 0.1, 0.2, 0.3), "keep is float64"),
        (series("yes", "no", "no", "yes"), "not bool"),
        (series(True, None, True, True, dtype=object), "1 null(s)"),
        (series(True, None, True, True, dtype="boolean"), "1 null(s)"),
    ],
)
def test_an_answer_that_is_none_is_told_in_one_line(task: Task, answer: object, told: str) -> None:
    with made.refused("filter.mine", told):
        decide([says(answer)], evidence(task))


def test_words_are_not_taken_for_booleans(task: Task) -> None:
    with made.refused("filter.mine", "not bool"):
        decide([says(series("yes", "no", "no", "yes", dtype=object))], evidence(task))


@pytest.mark.parametrize("weight", [np.nan, -1.0])
def test_weights_that_are_none_are_refused(task: Task, weight: float) -> None:
    answer = pd.DataFrame({"keep": True, "weight": [1.0, weight, 1.0, 1.0]}, index=LABELS.index)
    with made.refused("filter.mine", "weight"):
        decide([says(answer)], evidence(task))


def test_kept_by_is_what_the_other_chain_keeps_of_the_same_evidence(task: Task) -> None:
    asked: list[Mapping[str, Any]] = []

    def bind(filters: Mapping[str, Any]) -> list[BoundFilter]:
        asked.append(filters)
        return [says(series(False, True, True, True))]

    assert evidence(task, bind).kept_by({"other": {}}).tolist() == [False, True, False, True]
    assert asked == [{"other": {}}]


def test_rng_is_fresh_for_each_filter_and_depends_on_the_seed(task: Task) -> None:
    about = evidence(task)
    assert about.rng.random() == about.rng.random()
    assert about.rng.random() != evidence(task, seed=1).rng.random()


def test_calibration_is_gold_of_items_drawn_by_the_seed(task: Task) -> None:
    drawn = [made.usual_evidence(task, seed=seed, calibration=10).calibration for seed in range(5)]
    for given in drawn:
        assert len(given) == given.index.nunique() == 10
        assert given.equals(made.gold(40)[given.index])
    assert len({tuple(given.index) for given in drawn}) == 5
    again = made.shuffled(made.usual_evidence(task, calibration=10), 3).calibration
    pd.testing.assert_series_equal(again, drawn[0])


def test_calibration_has_to_be_granted(task: Task) -> None:
    with made.refused("evidence.calibration=0", "evidence.calibration=100", "expert labels"):
        _ = made.usual_evidence(task, calibration=0).calibration
    with made.refused("evidence.calibration=41: only 40 item(s)"):
        _ = made.usual_evidence(task, calibration=41).calibration


def test_calibration_is_bought_only_if_a_filter_asks_for_it(task: Task) -> None:
    about = made.usual_evidence(task, calibration=10)
    decide([BoundFilter("it", lambda labels: labels["label"].notna(), ("labels",))], about)
    assert about.bought.empty
    ask = BoundFilter("it", lambda labels, calibration: labels["label"].notna(), ("labels", "calibration"))
    nested = replace(about, bind=lambda _: [ask])
    decide([BoundFilter("it", lambda kept_by: kept_by({}), ("kept_by",))], nested)
    assert nested.bought.equals(nested.calibration.index)
    assert len(nested.bought) == 10
