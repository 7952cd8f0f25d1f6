from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import made
from tests.filters.test_contract import CASES, ask, kept

from silvertune.evidence.evidence import Evidence
from silvertune.filters.calibrated import calibrated_threshold, conformal
from silvertune.schema import Task


def world(n: int, seed: int, *, over: float = 0.0, calibration: int = 200) -> tuple[Any, ...]:
    """votes, labels, gold, calibration of a labeler whose confidence p is right with probability p - over."""
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"i{k:05d}" for k in range(n)], name="item_id")
    sure = rng.uniform(0.5, 1.0, n)
    label = np.where(rng.random(n) < 0.4, "soe", "other")
    right = rng.random(n) < sure - over
    gold = pd.Series(np.where(right, label, np.where(label == "soe", "other", "soe")), index=ids, dtype=object)
    rows = [{"item_id": i, "label": c, "confidence": p} for i, c, p in zip(ids, label, sure, strict=True)]
    labels = pd.DataFrame({"label": label, "confidence": sure, "n_votes": 1}, index=ids).astype({"label": object})
    return made.votes_of(rows), labels, gold, gold.iloc[np.sort(rng.choice(n, calibration, replace=False))]


def false_share(answer: pd.DataFrame, labels: pd.DataFrame, gold: pd.Series, given: pd.Series, name: str) -> float:
    own = answer.index[answer["keep"] & (labels["label"] == name) & ~answer.index.isin(given.index)]
    return float((labels.loc[own, "label"] != gold[own]).mean()) if len(own) else 0.0


def test_conformal_holds_its_error_over_many_calibration_sets(task: Task) -> None:
    """Jin & Candès 2023, theorem 6: the mean false share is at most the error. 60 draws, for each class."""
    found = []
    for seed in range(60):
        votes, labels, gold, given = world(600, seed, over=0.05, calibration=150)
        answer = conformal(votes, labels, task, given, error=0.2)
        found.append([false_share(answer, labels, gold, given, name) for name in task.classes])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    assert (mean <= 0.2 + 3 * error).all()
    assert (mean > 0.1).all()


def test_conformal_keeps_much_where_the_scores_are_worth_it(task: Task) -> None:
    votes, labels, gold, given = world(2000, 0, calibration=400)
    answer = conformal(votes, labels, task, given, error=0.2)
    assert 0.3 < answer["keep"].mean() < 0.95
    assert false_share(answer, labels, gold, given, "soe") < 0.3


def test_conformal_p_values_agree_with_counting(task: Task) -> None:
    votes, labels, gold, given = world(80, 1, calibration=30)
    answer = conformal(votes, labels, task, given, error=0.5)
    for item in labels.index.difference(given.index)[:20]:
        same = [i for i in given.index if labels.at[i, "label"] == labels.at[item, "label"]]
        worse = sum(
            labels.at[i, "label"] != gold[i] and labels.at[i, "confidence"] >= labels.at[item, "confidence"]
            for i in same
        )
        assert 1 - answer.loc[item, "score"] == pytest.approx((1 + worse) / (1 + len(same)))


@pytest.mark.parametrize(("method", "over", "near"), [("isotonic", 0.1, 0.05), ("temperature", 0.0, 0.05)])
def test_calibrated_threshold_meets_its_precision(task: Task, method: str, over: float, near: float) -> None:
    votes, labels, gold, given = world(4000, 0, over=over, calibration=1000)
    answer = calibrated_threshold(votes, labels, task, given, method=method, precision=0.75)
    for name in task.classes:
        assert 1 - false_share(answer, labels, gold, given, name) == pytest.approx(0.75, abs=near)
        assert answer["keep"][labels["label"] == name].mean() > 0.2


def test_temperature_finds_the_temperature(task: Task) -> None:
    """Votes twice as sure, in log-odds, as they are right."""
    votes, labels, _, given = world(4000, 0, calibration=2000)
    odds = np.log(labels["confidence"] / (1 - labels["confidence"]))
    sharper = 1 / (1 + np.exp(-2 * odds))
    votes = votes.assign(confidence=sharper.to_numpy())
    answer = calibrated_threshold(votes, labels, task, given, method="temperature", precision=0.9)
    assert answer["score"].to_numpy() == pytest.approx(labels["confidence"].to_numpy(), abs=0.05)


@pytest.mark.parametrize("name", ["calibrated_threshold isotonic", "calibrated_threshold temperature", "conformal"])
class TestBoth:
    def test_calibration_items_are_kept_exactly_if_they_are_right(self, name: str, task: Task) -> None:
        about = made.usual_evidence(task)
        given = about.calibration
        right = {item for item in given.index if about.labels.at[item, "label"] == given[item]}
        assert kept(ask(CASES[name], about)) & set(given.index) == right
        assert 0 < len(right) < len(given)

    def test_other_gold_changes_nothing(self, name: str, task: Task) -> None:
        about = made.usual_evidence(task)
        other = about.gold.where(about.gold.index.isin(about.calibration.index), "soe")
        again = Evidence(**{**{f: getattr(about, f) for f in about.__dataclass_fields__}, "gold": other})
        pd.testing.assert_frame_equal(ask(CASES[name], about), ask(CASES[name], again))

    def test_a_class_that_the_set_has_no_label_of_is_told(self, name: str, task: Task) -> None:
        votes, labels, _, given = world(100, 0, calibration=20)
        node = {key: value for key, value in CASES[name].items() if not key.startswith("_")}
        function = conformal if name == "conformal" else calibrated_threshold
        only = given[labels.loc[given.index, "label"] == "other"]
        with made.refused(f"filter.{name.split()[0]}: none of the", "'soe'", "raise evidence.calibration"):
            function(votes, labels, task, only, **node)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("conformal", {"error": 5}, "filter.conformal.error=5"),
        ("calibrated_threshold isotonic", {"method": "platt"}, "filter.calibrated_threshold.method=platt"),
        ("calibrated_threshold isotonic", {"precision": 90}, "filter.calibrated_threshold.precision=90"),
    ],
)
def test_they_refuse_what_they_can_not_do(task: Task, name: str, change: dict[str, Any], told: str) -> None:
    with made.refused(told):
        ask(CASES[name] | change, made.usual_evidence(task))
