from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import made

from silvertune.interfaces import Estimate, LabelerTraits, ModelTraits, PredictorTraits, TrainingSet

TRAIN = pd.DataFrame(
    {"group_id": "g", "text": ["a", None], "label": ["x", "y"], "weight": [1.0, 0.5]},
    index=pd.Index(["i", "j"], name="item_id"),
)
SET = TrainingSet(TRAIN, TRAIN.iloc[:0], 3, "settings")


def test_the_same_content_has_the_same_key() -> None:
    assert SET.key == TrainingSet(TRAIN.copy(), TRAIN.iloc[:0].copy(), 3, "settings").key
    assert len(SET.key) == 64


@pytest.mark.parametrize(
    "other",
    [
        replace(SET, seed=4),
        replace(SET, settings="others"),
        replace(SET, validation=TRAIN),
        replace(SET, train=TRAIN.iloc[:0], validation=TRAIN),
        replace(SET, train=TRAIN.iloc[::-1]),
        replace(SET, train=TRAIN.assign(weight=[1.0, 0.5 + 1e-9])),
        replace(SET, train=TRAIN.assign(text=["a", ""])),
        replace(SET, train=TRAIN.assign(label=["y", "x"])),
        replace(SET, train=TRAIN.rename(columns={"text": "json"})),
        replace(SET, train=TRAIN.rename(index={"i": "k"})),
        replace(SET, train=TRAIN.assign(**{"prob:x": [np.nan, 0.5]})),
    ],
)
def test_whatever_is_learned_from_changes_the_key(other: TrainingSet) -> None:
    assert other.key != SET.key


@pytest.mark.parametrize(
    "other",
    [
        replace(SET, train=TRAIN.assign(text=["a", np.nan])),
        replace(SET, train=TRAIN.assign(text=["a", pd.NA])),
        replace(SET, train=TRAIN.astype({"text": "string", "label": "category", "weight": "float32"})),
        replace(SET, train=TRAIN.astype({"text": object, "label": object, "weight": object})),
        replace(SET, train=TRAIN.rename_axis(None)),
        replace(SET, validation=pd.concat([TRAIN.iloc[:0], TRAIN.iloc[:0]])),
    ],
)
def test_the_types_of_columns_do_not_change_the_key(other: TrainingSet) -> None:
    assert other.key == SET.key


def test_whole_numbers_and_floats_are_the_same_weight() -> None:
    whole, floats = TRAIN.assign(weight=[1, 2]), TRAIN.assign(weight=[1.0, 2.0])
    assert replace(SET, train=whole).key == replace(SET, train=floats).key


def test_the_key_stays_what_it_is_in_other_versions() -> None:
    text = pd.Series(["éloge \ud800 \x00 \U0001f600", None], index=TRAIN.index, dtype=object)
    train = TRAIN.assign(text=text, weight=[1 / 3, 1e-300])
    key = replace(SET, train=train).key
    assert key == "1a7c91b4a7954a276e78b49d7e2ec6cc6b301a58070ade0202627f119e762f3a"


def test_rows_that_look_like_the_columns_are_no_columns() -> None:
    header = pd.DataFrame([list(TRAIN.columns)], columns=TRAIN.columns, index=pd.Index(["0"], name="item_id"))
    one = replace(SET, train=TRAIN, validation=header)
    other = replace(SET, train=pd.concat([TRAIN, header]), validation=TRAIN.iloc[:0])
    assert one.key != other.key


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=())) | st.none(), st.floats(0, 1e6, allow_nan=False), st.text()
        ),
        max_size=6,
    )
)
def test_a_key_is_the_same_for_the_same_rows_and_for_no_others(rows: list[tuple[str | None, float, str]]) -> None:
    def key(content: list[tuple[str | None, float, str]]) -> str:
        return replace(SET, train=pd.DataFrame(content, columns=["text", "weight", "label"], dtype=object)).key

    assert key(rows) == key(list(rows))
    assert len({key(rows[:number]) for number in range(len(rows) + 1)}) == len(rows) + 1
    if rows and rows != rows[::-1]:
        assert key(rows) != key(rows[::-1])


@pytest.mark.parametrize("value", [b"bytes", ["a", "list"], {"a": 1}, pd.Timestamp("2026-01-01"), object()])
def test_what_is_no_text_and_no_number_has_no_key(value: object) -> None:
    with made.refused("training set: ", f"is of type {type(value).__name__}; want text or a number"):
        _ = replace(SET, train=TRAIN.assign(text=pd.Series([value, "a"], index=TRAIN.index, dtype=object))).key


def test_estimates_add_up_and_can_be_capped() -> None:
    one, other = Estimate(10, 4, 100, 2.0, 60), Estimate(calls=5, dollars=1.0)
    assert one + other == Estimate(15, 4, 100, 3.0, 60)
    assert one.at_most(5) == Estimate(5, 2, 50, 1.0, 30)
    assert one.at_most(20) == one
    assert Estimate().at_most(0) == Estimate()
    assert (Estimate(notes=("a",)) + Estimate(notes=("b",))).at_most(1).notes == ("a", "b")


def test_a_part_without_a_trait_has_its_default() -> None:
    class Mine:
        validation_fraction = 0.2

    assert ModelTraits.of(Mine()) == ModelTraits(validation_fraction=0.2, soft_labels=False)
    assert ModelTraits.of(None) == ModelTraits()
    assert LabelerTraits.of(Mine()) == LabelerTraits(first_only=False)
    assert list(PredictorTraits.of(Mine()).history) == []
    assert list(PredictorTraits.of(Mine()).alarms) == []
    assert [result.what for result in LabelerTraits.of(Mine()).check()] == ["nothing to reach"]
