"""What is drawn where a page can't hold all items: a random part, and every kind of doubt, however rare."""

import numpy as np
import pandas as pd

from silvertune.reports import item_sample

N = 20_000
IDS = pd.Index([f"t{k}" for k in range(N)], dtype=object, name="item_id")


def marks() -> pd.DataFrame:
    position = np.arange(N)
    names = {"dropped": position % 2 == 0, "doubted": position % 1000 == 1, "wrong_and_confident": position == 777}
    return pd.DataFrame({**names, "no_label": False, "copies": position // 2 % 500 == 3}, index=IDS)


def labels(rare: int = 50) -> pd.Series:
    return pd.Series(np.where(np.arange(N) % (N // rare) == 0, "rare", "usual"), index=IDS, dtype=object)


KINDS = ("dropped", "doubted", "wrong_and_confident", "no_label")


def test_every_kind_of_doubt_is_there_and_half_is_random() -> None:
    sample = item_sample.drawn(marks(), labels(), KINDS, None, 600)
    assert len(sample.positions) == 600
    assert (np.diff(sample.positions) > 0).all()
    assert sample.quota == 100
    shown = marks().iloc[sample.positions]
    assert shown["wrong_and_confident"].sum() == 1
    assert shown["doubted"].sum() == 20
    assert shown["dropped"].sum() >= 100
    assert 300 <= sample.is_random.sum() <= 600
    at_random = shown["dropped"][sample.is_random]
    assert abs(at_random.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(at_random))


def test_of_a_kind_rare_labels_are_there_as_well() -> None:
    sample = item_sample.drawn(marks(), labels(), KINDS, None, 600)
    drawn = labels().iloc[sample.positions][marks()["dropped"].iloc[sample.positions]]
    assert (drawn == "rare").sum() >= 50


def test_arms_share_their_random_part() -> None:
    one = item_sample.drawn(marks(), labels(), KINDS, None, 600)
    others = marks().assign(dropped=~marks()["dropped"], doubted=False)
    other = item_sample.drawn(others.iloc[::-1], labels().iloc[::-1], KINDS, None, 600)
    first, second = (set(sample.positions[sample.is_random]) for sample in (one, other))
    second = {N - 1 - position for position in second}
    assert len(first & second) == min(len(first), len(second))


def test_copies_come_together() -> None:
    keys = pd.Series([f"text {k // 2}" for k in range(N)], index=IDS)
    sample = item_sample.drawn(marks(), labels(), ("copies",), keys, 20)
    copies = sample.positions[marks()["copies"].iloc[sample.positions].to_numpy()]
    assert len(copies) >= 10
    assert len(set(copies // 2)) <= len(copies) / 2 + 1


def test_without_doubts_or_need_all_is_plain() -> None:
    sample = item_sample.drawn(marks()[["no_label"]], labels(), ("no_label",), None, 30)
    assert (len(sample.positions), sample.quota, sample.is_random.all()) == (30, 0, True)
    assert len(item_sample.drawn(marks(), labels(), KINDS, None, N).positions) == N
    assert len(item_sample.drawn(marks(), labels(), KINDS, None, 1).positions) == 1
