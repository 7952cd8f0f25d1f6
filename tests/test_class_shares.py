import numpy as np
import pandas as pd
import pytest
from tests import made

from silvertune import class_shares


def scores(centres: dict[str, np.ndarray], counts: dict[str, int], *, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    """Scores whose log-odds lie around a centre a class, and the class whose score is the highest."""
    rng = np.random.default_rng(seed)
    odds = np.vstack([rng.normal(centres[name], 0.5, (counts[name], len(centres))) for name in centres])
    probs = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    frame = pd.DataFrame(probs, columns=list(centres), index=[f"i{k:04d}" for k in range(len(odds))])
    return frame, frame.idxmax(axis=1)


CENTRES = {"red": np.array([5.0, 0, 0]), "green": np.array([0, 5.0, 0]), "blue": np.array([0, 0, 5.0])}


def test_mixture_recovers_the_shares_of_well_separated_classes() -> None:
    frame, labels = scores(CENTRES, {"red": 500, "green": 300, "blue": 200})
    shares = class_shares.mixture(frame, labels)
    assert list(shares) == ["red", "green", "blue"]
    assert shares == pytest.approx({"red": 0.5, "green": 0.3, "blue": 0.2}, abs=0.01)


def test_mixture_corrects_a_labeler_that_calls_a_class_too_often() -> None:
    """The labeler's threshold is off: it calls 30% of the items soe, and only 10% look like it."""
    rng = np.random.default_rng(1)
    odds = np.concatenate([rng.normal(-4, 1, 900), rng.normal(4, 1, 100)])
    soe = 1 / (1 + np.exp(-odds))
    frame = pd.DataFrame({"other": 1 - soe, "soe": soe}, index=[f"i{k:04d}" for k in range(1000)])
    called = pd.Series("other", index=frame.index)
    called[frame["soe"].nlargest(300).index] = "soe"
    assert class_shares.mixture(frame, called)["soe"] == pytest.approx(0.1, abs=0.02)


def test_mixture_is_deterministic_and_sums_to_one() -> None:
    frame, labels = scores(CENTRES, {"red": 50, "green": 30, "blue": 20})
    shares = class_shares.mixture(frame, labels)
    assert shares == class_shares.mixture(frame, labels)
    assert sum(shares.values()) == pytest.approx(1)


def test_mixture_finds_the_labels_by_item_and_not_by_place() -> None:
    frame, labels = scores(CENTRES, {"red": 50, "green": 30, "blue": 20})
    assert class_shares.mixture(frame, labels.iloc[::-1]) == class_shares.mixture(frame, labels)


def test_mixture_takes_scores_of_nought_and_one() -> None:
    frame = pd.DataFrame({"other": [1.0] * 6 + [0.0] * 2}, index=list("abcdefgh")).assign(soe=lambda f: 1 - f["other"])
    assert class_shares.mixture(frame, frame.idxmax(axis=1)) == pytest.approx({"other": 0.75, "soe": 0.25}, abs=0.01)


@pytest.mark.parametrize("count", [0, 1])
def test_mixture_names_the_class_that_it_can_not_start_from(count: int) -> None:
    frame, labels = scores(CENTRES, {"red": 20, "green": 20, "blue": count})
    with made.refused("fewer than 2 items", "'blue'", "give the shares"):
        class_shares.mixture(frame, labels)


def test_given_shares_come_in_the_order_of_the_classes_and_as_floats() -> None:
    shares = class_shares.given({"soe": 1 / 4, "other": 3 / 4}, ["other", "soe"], "shares")
    assert list(shares.items()) == [("other", 0.75), ("soe", 0.25)]


@pytest.mark.parametrize(
    "shares",
    [
        {"soe": 1.0},
        {"soe": 0.5, "other": 0.25, "neither": 0.25},
        {"soe": 0.5, "other": 0.6},
        {"soe": 1.0, "other": 0.0},
        {"soe": 1.5, "other": -0.5},
        {},
    ],
)
def test_given_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with made.refused("my.key=", "a share above 0 for each of other, soe that sum to 1"):
        class_shares.given(shares, ["other", "soe"], "my.key")
