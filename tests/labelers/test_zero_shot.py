from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tests import made

from silvertune.encoders.encoder import Encoder
from silvertune.errors import UserError
from silvertune.labelers.zero_shot import ZeroShot
from silvertune.schema import Task

CONF = Path(__file__).parents[2] / "conf" / "labeler" / "zero_shot.yaml"
TASK = replace(made.SOE, descriptions={"other": ["north"], "soe": ["east", "up"]})
POINTS = {"north": (0, 1, 0), "east": (1, 0, 0), "up": (0, 0, 1), "near up": (0, 0.6, 0.8), "near north": (0, 0.8, 0.6)}


class Compass:
    """Embeds a handful of words as directions."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self) -> None: ...

    def embed(self, texts: Sequence[str], cache: Path, *, queries: Sequence[str] = ()) -> np.ndarray:
        self.asked += [*texts, *queries]
        return np.array([POINTS[text] for text in [*texts, *queries]], dtype=np.float32)


def labeler(encoder: Any = None, task: Task = TASK, **settings: Any) -> ZeroShot:
    return ZeroShot(task, Path(), encoder=encoder or Compass(), **({"views": None, "temperature": 0.05} | settings))


def items(**views: list[str | None]) -> pd.DataFrame:
    frame = pd.DataFrame(views, dtype=object)
    frame.insert(0, "group_id", "g")
    return frame.set_index(pd.Index([f"i{k}" for k in range(len(frame))], name="item_id"))


def test_a_view_goes_to_the_class_of_the_nearest_of_all_descriptions() -> None:
    votes = labeler().label(items(text=["near up", "near north", "east"]))
    assert votes["label"].tolist() == ["soe", "other", "soe"]
    assert set(votes["annotator"]) == {"zero_shot"}


def test_probabilities_are_the_softmax_of_similarity_over_temperature() -> None:
    votes = labeler(temperature=0.5).label(items(text=["near up"]))
    odds = np.exp(np.array([0.6, 0.8]) / 0.5)
    assert votes.loc[0, ["prob:other", "prob:soe"]].tolist() == pytest.approx(list(odds / odds.sum()), abs=1e-6)
    assert votes.loc[0, "confidence"] == votes.loc[0, "prob:soe"]


def test_each_view_has_a_vote_of_its_own() -> None:
    votes = labeler().label(items(json=["north", "east"], text=["east", None]))
    assert votes[["item_id", "view", "label"]].to_numpy().tolist() == [
        ["i0", "json", "other"],
        ["i0", "text", "soe"],
        ["i1", "json", "soe"],
        ["i1", "text", None],
    ]


def test_only_the_chosen_views_are_read() -> None:
    votes = labeler(views=["text"]).label(items(json=["north"], text=["east"]))
    assert votes["view"].tolist() == ["text"]


def test_a_text_that_stands_twice_is_embedded_once() -> None:
    encoder = Compass()
    labeler(encoder).label(items(json=["north", "up"], text=["up", "up"]))
    assert encoder.asked[:2] == ["north", "up"]
    assert encoder.asked[2:] == ["north", "east", "up"]


def test_a_view_that_is_not_there_is_told() -> None:
    with made.refused("labeler.views=['html']", "no view 'html'; there is json, text"):
        labeler(views=["html"]).label(items(json=["north"], text=["up"]))


def test_a_class_without_a_description_is_told() -> None:
    with made.refused("task.descriptions has no sentence for other", "'soe'"):
        labeler(task=replace(TASK, descriptions={"soe": ["up"], "other": []}))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_of_nought_is_told(temperature: float) -> None:
    with made.refused(f"labeler.temperature={temperature}"):
        labeler(temperature=temperature)


def test_weights_are_checked_before_anything_is_labelled() -> None:
    class Tampered(Compass):
        def check(self) -> None:
            raise UserError("not the published weights")

    with made.refused("not the published weights"):
        labeler(Tampered())


def test_the_shipped_labeler_tells_two_plain_texts_apart(tmp_path: Path) -> None:
    settings = {key: value for key, value in yaml.safe_load(CONF.read_text()).items() if key != "_target_"}
    shipped = yaml.safe_load((CONF.parents[1] / "encoder" / "minilm.yaml").read_text())
    encoder = Encoder(**{key: value for key, value in shipped.items() if key != "_target_"})
    task = replace(made.SOE, descriptions={"soe": ["a timetable of visits"], "other": ["a recipe for soup"]})
    it = ZeroShot(task, tmp_path, **(settings | {"encoder": encoder}))
    votes = it.label(items(text=["visits by week and day", "boil the carrots with salt"]))
    assert votes["label"].tolist() == ["soe", "other"]
