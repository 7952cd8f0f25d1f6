"""The audit's estimates: exact where everything is answered, unbiased over draws, honest where answers are few."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silvertune.stats import audits

CLASSES = ["no", "yes"]


def made(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, probabilities and predicted classes of a population."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-0.5, 2, n)
    said = 1 / (1 + np.exp(-odds))
    truth = (rng.random(n) < said).astype(int)
    probs = np.stack([1 - said, said], axis=1)
    return truth, probs, probs.argmax(axis=1)


def value(table: pd.DataFrame, measure: str, name: str = "") -> "pd.Series[float]":
    return table[(table["measure"] == measure) & (table["class"] == name)].iloc[0]


def test_answers_for_every_item_leave_nothing_to_estimate() -> None:
    truth, probs, predicted = made()
    strata = audits.stratify(predicted, probs, 80)
    result = audits.estimate(strata, predicted, probs, np.arange(400), truth, CLASSES)
    yes, called = truth == 1, predicted == 1
    wanted = {
        ("accuracy", ""): (truth == predicted).mean(),
        ("share", "yes"): yes.mean(),
        ("precision", "yes"): (yes & called).sum() / called.sum(),
        ("recall", "yes"): (yes & called).sum() / yes.sum(),
    }
    for (measure, name), number in wanted.items():
        row = value(result.table, measure, name)
        assert row["estimate"] == pytest.approx(number)
        assert row["low"] == pytest.approx(row["high"]) == row["estimate"]
    assert result.strata["next"].sum() == 0


def test_estimates_are_right_on_average_and_intervals_hold() -> None:
    truth, probs, predicted = made(1500, 1)
    strata = audits.stratify(predicted, probs, 120)
    numbers = audits.allocate(strata, probs.max(axis=1), 120)
    yes, called = truth == 1, predicted == 1
    true = {"accuracy": (truth == predicted).mean(), "recall": (yes & called).sum() / yes.sum()}
    estimates: dict[str, list[float]] = {name: [] for name in true}
    held = dict.fromkeys(true, 0)
    for seed in range(150):
        drawn = audits.draw(strata, numbers, seed)
        table = audits.estimate(strata, predicted, probs, drawn, truth[drawn], CLASSES).table
        for name, number in true.items():
            row = value(table, name, "yes" if name == "recall" else "")
            estimates[name].append(row["estimate"])
            held[name] += row["low"] <= number <= row["high"]
    for name, number in true.items():
        assert np.mean(estimates[name]) == pytest.approx(number, abs=0.012)
        assert 0.9 <= held[name] / 150 <= 0.99


def test_a_stratum_whose_answers_are_all_alike_is_not_taken_for_certain() -> None:
    _, probs, predicted = made()
    strata = audits.stratify(predicted, probs, 80)
    drawn = audits.draw(strata, audits.allocate(strata, probs.max(axis=1), 80), 0)
    row = value(audits.estimate(strata, predicted, probs, drawn, predicted[drawn], CLASSES).table, "accuracy")
    assert 0.84 < row["low"] < 0.99
    assert row["high"] == 1


def test_a_class_that_nobody_answered_has_no_recall_and_its_share_is_bounded() -> None:
    probs = np.full((300, 2), 0.5)
    table = audits.estimate(
        np.zeros(300, int), np.zeros(300, int), probs, np.arange(0, 300, 10), np.zeros(30, int), CLASSES
    ).table
    assert np.isnan(value(table, "recall", "yes")["estimate"])
    assert np.isnan(value(table, "precision", "yes")["estimate"])
    share = value(table, "share", "yes")
    assert share["estimate"] == 0
    assert 0.03 < share["high"] < 0.3


def test_strata_without_an_answer_are_like_their_neighbours_and_counted() -> None:
    truth, probs, predicted = made()
    strata = audits.stratify(predicted, probs, 80)
    drawn = audits.draw(strata, audits.allocate(strata, probs.max(axis=1), 80), 0)
    left = drawn[strata[drawn] != 2]
    result = audits.estimate(strata, predicted, probs, left, truth[left], CLASSES)
    assert result.merged == 1
    assert result.answers == len(left) == result.strata["answers"].sum()
    assert result.strata["items"].sum() == 400
    assert np.isnan(result.strata["accuracy"][2])
    assert (result.variances > 0).all()


def test_where_nobody_answered_what_the_model_calls_a_class_anything_may_be_true_of_it() -> None:
    truth, probs, predicted = made()
    strata = audits.stratify(predicted, probs, 80)
    drawn = audits.draw(strata, audits.allocate(strata, probs.max(axis=1), 80), 0)
    left = drawn[predicted[drawn] == 0]
    table = audits.estimate(strata, predicted, probs, left, truth[left], CLASSES).table
    assert np.isnan(value(table, "precision", "yes")["estimate"])
    called = (predicted == 1).mean()
    for row in (value(table, "accuracy"), value(table, "share", "yes")):
        assert called <= row["high"] - row["low"] <= 1.2 * called + 0.2


def test_answers_of_a_plain_draw_give_wilsons_interval() -> None:
    probs = np.full((10**5, 2), 0.5)
    answers = np.repeat([0, 1], [90, 10])
    strata = predicted = np.zeros(10**5, int)
    table = audits.estimate(strata, predicted, probs, np.arange(100), answers, CLASSES).table
    row = value(table, "accuracy")
    assert row["estimate"] == pytest.approx(0.9)
    assert (row["low"], row["high"]) == pytest.approx((0.8256, 0.9448), abs=3e-3)
    assert row["plain_answers"] == pytest.approx(100, abs=3)


@given(st.integers(1, 300), st.integers(2, 4), st.integers(1, 250), st.integers(0, 5))
def test_a_draw_has_the_wanted_number_of_different_items(n: int, k: int, answers: int, seed: int) -> None:
    probs = np.random.default_rng(seed).dirichlet(np.ones(k), n)
    predicted = probs.argmax(axis=1)
    strata = audits.stratify(predicted, probs, answers)
    assert set(strata) == set(range(strata.max() + 1))
    for number in range(strata.max() + 1):
        assert len(set(predicted[strata == number])) == 1
    numbers = audits.allocate(strata, probs.max(axis=1), answers)
    sizes = np.bincount(strata)
    assert (numbers <= sizes).all()
    assert numbers.sum() == max(min(answers, n), np.minimum(sizes, 2).sum())
    drawn = audits.draw(strata, numbers, seed)
    assert len(set(drawn)) == len(drawn) == numbers.sum()
    assert (np.bincount(strata[drawn], minlength=len(numbers)) == numbers).all()
    more = np.minimum(sizes - numbers, 1)
    assert not set(audits.draw(strata, more, seed, numbers)) & set(drawn)


def test_further_answers_go_where_the_variance_is() -> None:
    sizes, answers = np.array([100, 100, 10]), np.array([10, 10, 10])
    added = audits.next_answers(sizes, answers, np.array([0.25, 0.01, 0.25]), 20)
    assert added.sum() == 20
    assert added[0] > 15
    assert added[2] == 0
    assert audits.next_answers(sizes, answers, np.ones(3), 10_000).tolist() == [90, 90, 0]
    # The second stratum has half of what its size would give it, though its variance is small.
    assert audits.next_answers(sizes, np.array([40, 2, 4]), np.array([0.25, 0.0, 0.25]), 54)[1] >= 21
