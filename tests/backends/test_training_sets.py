"""What a model is tuned on: the kept labels of a fold, in the order of the items, or a line that says why not."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import made

from silvertune.backends.training_sets import training_set
from silvertune.interfaces import ModelTraits, TrainingSet
from silvertune.splits import Fold

ITEMS = made.items(12)
IDS = list(ITEMS.index)
FOLD = Fold(ITEMS.index[:6], ITEMS.index[9:], ITEMS.index[6:9])
PROBS = [f"prob:{name}" for name in made.SOE.classes]


def decided(**columns: Any) -> pd.DataFrame:
    """A decision that keeps every item with its true label."""
    labels = made.gold(12)
    usual = {"label": labels, "train_label": labels, "weight": 1.0, "source": "labeler"}
    return pd.DataFrame({**usual, **columns}, index=ITEMS.index)


def made_of(decision: pd.DataFrame, **traits: Any) -> TrainingSet:
    return training_set(
        ITEMS, decision, FOLD, made.SOE, traits=ModelTraits(**traits), settings="s", seed=3, filters=["a", "b"],
        why_no_label="; because",
    )  # fmt: skip


def test_a_set_has_the_labels_of_its_fold() -> None:
    result = made_of(decided())
    assert set(result.train.index) == set(FOLD.train)
    assert set(result.validation.index) == set(FOLD.validation)
    assert list(result.train["label"]) == list(made.gold(12)[FOLD.train])
    assert (result.seed, result.settings) == (3, "s")
    assert not set(PROBS) & set(result.train.columns)


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_a_dropped_item_is_in_no_set_and_the_order_is_that_of_the_items(keep: list[bool]) -> None:
    keep = [True, True, *keep[2:]]  # one of each class
    decision = decided()
    decision["train_label"] = decision["label"].where(pd.Series(keep, index=ITEMS.index), None)
    result = made_of(decision)
    kept_ids = [item for item, is_kept in zip(IDS, keep, strict=True) if is_kept]
    assert list(result.train.index) == [item for item in kept_ids if item in FOLD.train]
    assert list(result.validation.index) == [item for item in kept_ids if item in FOLD.validation]


def test_soft_labels_are_the_labelers_distribution_and_elsewhere_hard() -> None:
    probs = pd.DataFrame({PROBS[0]: 0.4, PROBS[1]: 0.6}, index=ITEMS.index)
    probs.iloc[2] = None
    source = ["labeler"] * 12
    source[3] = "fallback"
    result = made_of(decided(source=source, **probs), soft_labels=True)
    assert result.train.iloc[0][PROBS].to_list() == [0.4, 0.6]
    for row in (2, 3):
        hard = [float(name == made.gold(12).iloc[row]) for name in made.SOE.classes]
        assert result.train.loc[IDS[row], PROBS].to_list() == hard
    assert (result.train[PROBS].sum(axis=1) == 1).all()


@pytest.mark.parametrize("lost", ["train_label", "weight"])
def test_a_class_that_lost_all_its_labels_or_their_weight_is_said(lost: str) -> None:
    decision = decided()
    decision[lost] = decision[lost].where(decision["label"] == "soe", None if lost == "train_label" else 0.0)
    with made.refused("filter=a+b: every label of class 'other' was dropped or has weight 0", "'other': '3 -> 0'"):
        made_of(decision)


@pytest.mark.parametrize("lost", ["train_label", "weight"])
def test_nothing_left_is_said_with_the_reason(lost: str) -> None:
    with made.refused("filter=a+b: no label is left to tune on", "'soe': '3 -> 0'", "; because"):
        made_of(decided(**{lost: None if lost == "train_label" else 0.0}))
    with made.refused("none of the labels has a confidence", "labeler.confidence=true"):
        made_of(decided(train_label=None, confidence=float("nan")))


def test_one_class_alone_is_said() -> None:
    with made.refused("labeler: every label is 'soe'", "at least two classes"):
        made_of(decided(label="soe", train_label="soe"))
