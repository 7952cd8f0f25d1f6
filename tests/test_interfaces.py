from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

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
        replace(SET, model_settings="others"),
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


def test_estimates_add_up_and_can_be_capped() -> None:
    one, other = Estimate(10, 4, 100, 2.0, 60), Estimate(calls=5, dollars=1.0)
    assert one + other == Estimate(15, 4, 100, 3.0, 60)
    assert one.at_most(5) == Estimate(5, 2, 50, 1.0, 30)
    assert one.at_most(20) == one
    assert Estimate().at_most(0) == Estimate()


def test_a_part_without_a_trait_has_its_default() -> None:
    class Mine:
        validation_fraction = 0.2

    assert ModelTraits.of(Mine()) == ModelTraits(validation_fraction=0.2, soft_labels=False)
    assert ModelTraits.of(None) == ModelTraits()
    assert LabelerTraits.of(Mine()) == LabelerTraits(first_only=False)
    assert list(PredictorTraits.of(Mine()).history) == []
