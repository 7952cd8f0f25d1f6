from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import made
from tests.filters.test_contract import CASES, ask, kept

from silvertune.filters.dynamics import aum, cartography, small_loss
from silvertune.schema import Task

LOGITS = {  # of three epochs; the label is red everywhere
    "easy": [(2.0, 0.0, 0.0), (4.0, 0.0, 1.0), (6.0, 0.0, 2.0)],
    "late": [(0.0, 2.0, 0.0), (0.0, 0.0, 0.0), (4.0, 0.0, 0.0)],
    "hard": [(0.0, 3.0, 0.0), (0.0, 3.0, 0.0), (0.0, 3.0, 0.0)],
}
LABELS = pd.DataFrame({"label": "red"}, index=pd.Index(list(LOGITS), name="item_id"), dtype=object)


def dynamics() -> pd.DataFrame:
    rows = {(item, epoch): row for item, each in LOGITS.items() for epoch, row in enumerate(each)}
    index = pd.MultiIndex.from_tuples(rows, names=["item_id", "epoch"])
    return pd.DataFrame(list(rows.values()), index=index, columns=["red", "green", "blue"])


def chances(item: str) -> np.ndarray:
    odds = np.exp(LOGITS[item])
    return np.asarray(odds[:, 0] / odds.sum(axis=1))


def test_aum_is_the_mean_margin_of_the_label() -> None:
    answer = aum(LABELS, dynamics(), drop=1 / 3, per_class=True)
    assert answer["score"].to_dict() == pytest.approx({"easy": 3.0, "late": 2 / 3, "hard": -3.0})
    assert kept(answer) == {"easy", "late"}


@pytest.mark.parametrize(("last_epoch", "epochs"), [(None, 3), (0, 1), (1, 2)])
def test_small_loss_is_the_mean_cross_entropy_up_to_an_epoch(last_epoch: int | None, epochs: int) -> None:
    answer = small_loss(LABELS, dynamics(), fraction=1 / 3, last_epoch=last_epoch, per_class=True)
    want = {item: np.log(chances(item)[:epochs]).mean() for item in LOGITS}
    assert answer["score"].to_dict() == pytest.approx(want)
    assert kept(answer) == {"easy"}


@pytest.mark.parametrize(
    ("region", "fraction", "keep"),
    [("easy", 1 / 3, {"easy"}), ("ambiguous", 1 / 3, {"late"}), ("easy", 2 / 3, {"easy", "late"})],
)
def test_cartography_maps_mean_and_spread(region: str, fraction: float, keep: set[str]) -> None:
    answer = cartography(LABELS, dynamics(), region=region, fraction=fraction, per_class=True)
    of = np.std if region == "ambiguous" else np.mean
    assert answer["score"].to_dict() == pytest.approx({item: of(chances(item)) for item in LOGITS})
    assert kept(answer) == keep


@pytest.mark.parametrize("name", ["small_loss", "aum", "cartography easy"])
def test_most_wrong_labels_are_among_those_dropped(task: Task, name: str) -> None:
    about = made.usual_evidence(task, n=120, wrong=0.2, null=0.0)
    wrong = set(about.labels.index[about.labels["label"] != about.gold])
    node = CASES[name] | ({"drop": 0.3} if name == "aum" else {"fraction": 0.7})
    dropped = set(about.labels.index) - kept(ask(node, about))
    assert len(dropped & wrong) > 0.7 * len(wrong) > 0


def test_without_per_class_the_harder_class_may_be_crowded_out() -> None:
    labels = LABELS.assign(label=["red", "red", "green"])
    rows = dynamics()
    rows.loc["hard", "green"] = -5.0
    assert kept(aum(labels, rows, drop=0.4, per_class=False)) == {"easy", "late"}
    assert kept(aum(labels, rows, drop=0.4, per_class=True)) == {"easy", "late", "hard"}


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("small_loss", {"fraction": 2}, "filter.small_loss.fraction=2"),
        ("small_loss", {"last_epoch": -1}, "filter.small_loss.last_epoch=-1"),
        ("aum", {"drop": -0.1}, "filter.aum.drop=-0.1"),
        ("cartography easy", {"region": "hard"}, "filter.cartography.region=hard: want easy or ambiguous"),
        ("cartography easy", {"fraction": None}, "filter.it.fraction=null: want a number"),
    ],
)
def test_they_refuse_what_they_can_not_do(task: Task, name: str, change: dict[str, Any], told: str) -> None:
    with made.refused(told):
        ask(CASES[name] | change, made.usual_evidence(task))
