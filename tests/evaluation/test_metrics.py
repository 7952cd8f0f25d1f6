"""What a run reports of its student: checked by hand and against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from silvertune.evaluation import metrics
from silvertune.schema import Task
from silvertune.stats import calibration

PETS = Task(name="pets", classes=["other", "cat"], positive="cat")
MOODS = Task(name="moods", classes=["glad", "sad", "calm"], positive=None)


def predicted(task: Task, rows: list[tuple[str, str | None, list[float]]]) -> pd.DataFrame:
    """Predictions from (group, label, probabilities in the order of the classes), items 0, 1, ..."""
    frame = pd.DataFrame([probs for _, _, probs in rows], columns=[f"prob:{name}" for name in task.classes])
    frame.insert(0, "label", pd.Series([label for _, label, _ in rows], dtype=object))
    frame.insert(0, "group_id", [group for group, _, _ in rows])
    return frame.set_axis(pd.Index([str(i) for i in range(len(rows))], name="item_id"))


def gold(labels: list[str]) -> pd.Series:
    return pd.Series(labels, index=pd.Index([str(i) for i in range(len(labels))], name="item_id"), dtype=object)


ROWS: list[tuple[str, str | None, list[float]]] = [
    ("a", "cat", [0.25, 0.75]),  # right
    ("a", "other", [0.75, 0.25]),  # right
    ("b", "cat", [0.5, 0.5]),  # wrong
    ("b", "other", [1.0, 0.0]),  # wrong
    ("c", None, [0.5, 0.5]),  # no answer
    ("d", "other", [1.0, 0.0]),  # right
]
TRUE = ["cat", "other", "other", "cat", "cat", "other"]


def report(**given: int) -> metrics.Report:
    return metrics.evaluate(predicted(PETS, ROWS), gold(TRUE), PETS, replicates=given.get("replicates", 200))


def test_metrics_by_hand() -> None:
    found = report().metrics
    assert found["test/precision"] == pytest.approx(1 / 2)
    assert found["test/recall"] == pytest.approx(1 / 3)
    assert found["test/f1"] == pytest.approx(2 / 5)
    assert found["test/accuracy"] == pytest.approx(3 / 6)
    assert found["test/unanswered"] == 1
    assert found["test/n"] == 6
    assert found["test/prevalence"] == pytest.approx(3 / 6)


def test_ranking_metrics_are_of_the_probability_of_the_positive_class() -> None:
    score, positive = [probs[1] for _, _, probs in ROWS], [label == "cat" for label in TRUE]
    found = report().metrics
    assert found["test/auroc"] == pytest.approx(sk.roc_auc_score(positive, score))
    assert found["test/auprc"] == pytest.approx(sk.average_precision_score(positive, score))


def test_the_brier_score_by_hand() -> None:
    # squared distances to the true class: 2 * .25**2, 2 * .25**2, 2 * .5**2, 2, 2 * .5**2, 0
    assert report().metrics["test/brier"] == pytest.approx((0.125 + 0.125 + 0.5 + 2 + 0.5 + 0) / 6)


def test_the_calibration_error_by_hand() -> None:
    # top probability .75 (right, right), .5 (the first class: right, wrong), 1 (wrong, right)
    assert report().metrics["test/ece"] == pytest.approx((2 * 0.25 + abs(1 - 1) + abs(2 - 1)) / 6)


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [
        ([1.0, 1.0], [True, True], 0.0),
        ([1.0, 1.0], [True, False], 0.5),
        ([0.9, 0.9, 0.9, 0.9], [True, True, True, False], 0.15),
        ([0.95, 0.65], [False, True], (0.95 + 0.35) / 2),  # other bins: the gaps do not cancel out
        ([0.61, 0.64], [False, True], abs(0.61 - 0.36) / 2),  # the same bin: they do
    ],
)
def test_calibration_errors_by_hand(confidence: list[float], right: list[bool], expected: float) -> None:
    assert calibration.expected_calibration_error(np.array(confidence), np.array(right)) == pytest.approx(expected)


def test_metrics_of_groups_leave_out_those_where_they_are_undefined() -> None:
    found = report().metrics
    assert found["test_by_group/precision"] == pytest.approx((1 + 0) / 2)  # a, b
    assert found["test_by_group/recall"] == pytest.approx((1 + 0 + 0) / 3)  # a, b, c
    assert found["test_by_group/f1"] == pytest.approx((1 + 0 + 0) / 3)  # a, b, c
    assert found["test_by_group/accuracy"] == pytest.approx((1 + 0 + 0 + 1) / 4)


def test_shares_of_groups_that_are_fully_right_by_hand() -> None:
    found = report().metrics
    assert found["test_by_group/share_full_recall"] == pytest.approx(1 / 3)  # a of a, b, c: d has nothing to find
    assert found["test_by_group/share_full_precision"] == pytest.approx(1 / 3)  # a of a, b, c: c predicts nothing


def test_a_group_with_something_predicted_and_nothing_to_find_counts_for_precision_only() -> None:
    rows: list[tuple[str, str | None, list[float]]] = [
        ("x", "cat", [0, 1]),
        ("y", "cat", [0, 1]),
        ("z", "other", [1, 0]),
    ]
    found = metrics.evaluate(predicted(PETS, rows), gold(["cat", "other", "other"]), PETS, replicates=50).metrics
    assert found["test_by_group/share_full_recall"] == 1.0  # x
    assert found["test_by_group/share_full_precision"] == 0.5  # x of x, y


def test_the_table_of_groups_counts_items_and_positives() -> None:
    groups = report().groups
    assert groups["n"].to_dict() == {"a": 2, "b": 2, "c": 1, "d": 1}
    assert groups["n_positive"].to_dict() == {"a": 1, "b": 1, "c": 1, "d": 0}
    assert groups.loc["a", "f1"] == 1


def test_every_interval_holds_its_value() -> None:
    found = report(replicates=500).metrics
    bounded = {name.removesuffix("_low") for name in found if name.endswith("_low")}
    tested = {f"test/{name}" for name in ("precision", "recall", "f1", "accuracy", "auroc", "auprc")}
    assert bounded == tested | {name.replace("test/", "test_by_group/") for name in tested}
    for name in bounded:
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"], name
        # What is 0 or 1 in every group is so in every resample.
        assert found[f"{name}_low"] < found[f"{name}_high"] or found[name] in (0, 1), name


def test_the_order_of_the_predictions_does_not_matter() -> None:
    forward = report().metrics
    backward = metrics.evaluate(predicted(PETS, ROWS).iloc[::-1], gold(TRUE), PETS, replicates=200).metrics
    assert backward == pytest.approx(forward, nan_ok=True)


def test_ranking_is_undefined_where_all_items_are_of_one_class() -> None:
    found = metrics.evaluate(predicted(PETS, ROWS[:2]), gold(["cat", "cat"]), PETS, replicates=50).metrics
    assert np.isnan(found["test/auroc"])
    assert np.isnan(found["test/auprc_low"])


def test_items_without_gold_are_not_measured() -> None:
    rows = [*ROWS, ("a", "cat", [0.0, 1.0])]
    found = metrics.evaluate(predicted(PETS, rows), gold(TRUE), PETS, replicates=200).metrics
    assert found == pytest.approx(report().metrics, nan_ok=True)


def test_without_a_positive_class_the_metrics_are_macro_averages() -> None:
    rng = np.random.default_rng(1)
    true = rng.choice(MOODS.classes, size=60)
    probs = rng.dirichlet([1, 1, 1], size=60).round(1)
    probs[:, 2] = 1 - probs[:, :2].sum(axis=1)
    said = np.asarray(MOODS.classes)[probs.argmax(axis=1)]
    rows = [(f"g{i % 7}", str(label), list(p)) for i, (label, p) in enumerate(zip(said, probs, strict=True))]
    found = metrics.evaluate(predicted(MOODS, rows), gold(list(true)), MOODS, replicates=100).metrics
    assert found["test/f1"] == pytest.approx(sk.f1_score(true, said, average="macro"))
    assert found["test/precision"] == pytest.approx(sk.precision_score(true, said, average="macro"))
    assert found["test/recall"] == pytest.approx(sk.recall_score(true, said, average="macro"))
    onehot = true[:, None] == np.asarray(MOODS.classes)
    assert found["test/auroc"] == pytest.approx(sk.roc_auc_score(onehot, probs, average="macro"))
    assert found["test/auprc"] == pytest.approx(sk.average_precision_score(onehot, probs, average="macro"))
    assert found["test/brier"] == pytest.approx(((probs - onehot) ** 2).sum(axis=1).mean())
    assert "test/prevalence" not in found


def test_what_is_scored_is_the_positive_class_or_all() -> None:
    assert metrics.scored_classes(PETS) == ["cat"]
    assert metrics.scored_classes(MOODS) == ["glad", "sad", "calm"]
