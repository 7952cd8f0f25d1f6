"""A student that has learned nothing is told in words."""

import numpy as np
import pandas as pd
import pytest

from silvertune.evaluation import alarms

CLASSES = ["other", "cat"]


def predictions(*folds: list[float], labels: list[str | None] | None = None) -> pd.DataFrame:
    """One row a probability of `cat`; called a cat from one half on, or as given."""
    cat = np.array([p for fold in folds for p in fold])
    return pd.DataFrame(
        {
            "label": labels or np.where(cat >= 0.5, "cat", "other"),
            "fold": [number for number, fold in enumerate(folds) for _ in fold],
            "prob:other": 1 - cat,
            "prob:cat": cat,
        }
    )


def test_a_student_that_tells_them_apart_raises_none() -> None:
    assert alarms.of(predictions([0.9, 0.1, 0.4], [0.2, 0.7]), [[], []], CLASSES) == []


def test_constant_predictions_are_told_with_their_fold_and_number() -> None:
    (told,) = alarms.of(predictions([0.9, 0.1], [0.2, 0.3, 0.4]), [[], []], CLASSES)
    assert told == "fold 1: constant: all 3 test items are predicted as 'other'"


def test_null_labels_alone_are_constant_too_and_beside_others_they_are_not() -> None:
    (told,) = alarms.of(predictions([0.2, 0.7], labels=[None, None]), [[]], CLASSES)
    assert told.startswith("fold 0: constant")
    assert alarms.of(predictions([0.2, 0.7], labels=[None, "cat"]), [[]], CLASSES) == []


@pytest.mark.parametrize(("apart", "told"), [(1e-4, True), (0.01, False)])
def test_scores_that_hardly_differ_are_a_collapse(apart: float, told: bool) -> None:
    found = alarms.of(predictions([0.5 - apart, 0.5 + apart, 0.5, 0.5 - apart]), [[]], CLASSES)
    assert [line.startswith("fold 0: collapsed: ") for line in found] == [True] * told


def test_one_test_item_says_nothing() -> None:
    assert alarms.of(predictions([0.9]), [[]], CLASSES) == []


@pytest.mark.parametrize(("auprc", "told"), [([0.4, 0.5], True), ([0.4, 0.51], False)])
def test_a_best_epoch_at_chance_is_told(auprc: list[float], told: bool) -> None:
    history = [{"loss": 1.0, "validation_loss": 1.0, "validation_auprc": value} for value in auprc]
    found = alarms.of(predictions([0.9, 0.1], [0.9, 0.1]), [[{"loss": 1.0}], history], CLASSES)
    assert found == ["fold 1: no better than chance on validation: macro AUPRC 0.50"] * told


def test_chance_depends_on_the_number_of_classes() -> None:
    table = predictions([0.9, 0.1]).assign(**{"prob:dog": 0.0})
    assert alarms.of(table, [[{"validation_auprc": 0.4}]], [*CLASSES, "dog"]) == []
    assert len(alarms.of(table, [[{"validation_auprc": 0.3}]], [*CLASSES, "dog"])) == 1
