"""Thresholds: chosen on silver validation labels, or corrected for other class shares among the test items."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import made
from tests.stats.test_class_shares import simulated

from silvertune.evaluation import thresholds
from silvertune.evaluation.thresholds import best_f1, decided
from silvertune.schema import Task
from silvertune.stats.class_shares import calibrated, calibration, saerens_em
from silvertune.votes import prob_columns

# ----------------------------------------------------------------------------------------------------------- best_f1


def shares_by_em(probs: np.ndarray, source: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.array(list(saerens_em(pd.DataFrame(probs), dict(enumerate(source))).values()))


def f1(score: np.ndarray, positive: np.ndarray, threshold: float) -> float:
    called = score >= threshold
    return float(2 * (called & positive).sum() / (called.sum() + positive.sum()))


SCORED = st.lists(
    st.tuples(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0])), st.booleans()),
    min_size=1,
    max_size=15,
).filter(lambda rows: any(positive for _, positive in rows))


@settings(deadline=None)
@given(rows=SCORED)
def test_no_threshold_has_a_higher_f1(rows: list[tuple[float, bool]]) -> None:
    score, positive = np.array([s for s, _ in rows]), np.array([p for _, p in rows])
    found = best_f1(score, positive)
    assert 0 <= found <= 1
    if len(set(score)) > 1:
        assert f1(score, positive, found) == pytest.approx(max(f1(score, positive, s) for s in score))
    else:
        assert found == 0.5


@settings(max_examples=30, deadline=None)
@given(rows=SCORED)
def test_the_order_of_the_items_does_not_matter(rows: list[tuple[float, bool]]) -> None:
    one, other = (
        best_f1(np.array([s for s, _ in part]), np.array([p for _, p in part])) for part in (rows, rows[::-1])
    )
    assert one == other


def test_the_threshold_is_half_way_between_what_it_separates() -> None:
    score = np.array([0.9, 0.7, 0.3, 0.1])
    assert best_f1(score, np.array([True, True, False, False])) == pytest.approx(0.5)
    assert best_f1(score, np.array([True, False, False, False])) == pytest.approx(0.8)


def test_among_equals_the_nearest_to_one_half_is_taken() -> None:
    # One positive of two from 0.9 on, or two of four from 0.4 on: F1 is 2/3 both times.
    score = np.array([0.9, 0.6, 0.5, 0.1, 0.05])
    positive = np.array([True, False, False, True, False])
    cuts = {cut: f1(score, positive, cut) for cut in (0.75, 0.55, 0.3, 0.075)}
    assert cuts[0.75] == cuts[0.075] == max(cuts.values())
    assert best_f1(score, positive) == pytest.approx(0.75)


def test_neighbouring_floats_are_told_apart() -> None:
    low = 0.5
    high = float(np.nextafter(low, 1))
    for one, other in ((low, high), (float(np.nextafter(low, 0)), low)):
        found = best_f1(np.array([other, one]), np.array([True, False]))
        assert one < found <= other


@pytest.mark.parametrize("shares", [[0.9, 0.1], [0.3, 0.7], [0.6, 0.1, 0.3]])
def test_em_finds_the_shares_of_the_test_items(shares: list[float]) -> None:
    k = len(shares)
    source = [1 / k] * k
    rng = np.random.default_rng(3)
    true = rng.choice(k, size=6000, p=shares)
    logs = 2 * (rng.normal(size=(6000, k)) + 2 * np.eye(k)[true])  # posteriors at even shares
    probs = np.exp(logs - logs.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    found = shares_by_em(probs, source)
    assert found == pytest.approx(shares, abs=0.025)
    assert found.sum() == pytest.approx(1)
    uncorrected = np.bincount(probs.argmax(axis=1), minlength=k) / 6000
    assert np.abs(found - shares).max() < np.abs(uncorrected - shares).max() + 0.01


def test_the_same_shares_stay_the_same() -> None:
    _, probs = simulated(6000, [0.7, 0.3])
    assert shares_by_em(probs, [0.7, 0.3]) == pytest.approx([0.7, 0.3], abs=0.02)


# ---------------------------------------------------------------------------------------------------------- decided


def table(probs: np.ndarray, task: Task, prefix: str) -> pd.DataFrame:
    index = pd.Index([f"{prefix}{number}" for number in range(len(probs))], name="item_id")
    return pd.DataFrame(probs, index=index, columns=prob_columns(task.classes))


def world(task: Task, shares: list[float], *, n: int = 400) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Test items whose shares are `shares`, and a validation set with even ones."""
    k = len(shares)
    given_class, held_out = simulated(n, [1 / k] * k, scale=1.5, seed=1)
    _, probs = simulated(n, shares, scale=1.5, bias=list(np.log(np.array(shares) * k)), seed=2)
    validation = table(held_out.clip(1e-4, 1 - 1e-4), task, "v")
    silver = pd.Series([task.classes[number] for number in given_class], index=validation.index, dtype=object)
    return table(probs.clip(1e-4, 1 - 1e-4), task, "t"), validation, silver


@pytest.mark.parametrize("shares", [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
def test_the_corrected_threshold_is_the_argmax_of_the_corrected_probabilities(shares: list[float], task: Task) -> None:
    test, validation, silver = world(task, shares)
    found = decided(test, validation, silver, task)
    held_out = validation.to_numpy()
    numbers = np.array([task.classes.index(label) for label in silver])
    scale, bias = calibration(held_out, numbers)
    source = np.bincount(numbers) / len(numbers)
    by_hand = calibrated(test.to_numpy(), scale, bias)
    corrected = by_hand * shares_by_em(by_hand, source) / source
    expected = np.asarray(task.classes, dtype=object)[corrected.argmax(axis=1)]
    assert (found.labels["shift_corrected"] == expected).all()
    assert list(found.shares.values()) == pytest.approx(shares, abs=0.06)
    assert sum(found.shares.values()) == pytest.approx(1)


def test_each_rule_calls_positive_from_its_threshold_on(task: Task) -> None:
    test, validation, silver = world(task, [0.8, 0.2])
    found = decided(test, validation, silver, task)
    assert list(found.labels.columns) == list(found.thresholds) == list(thresholds.RULES)
    assert found.thresholds["half"] == 0.5
    score = validation["prob:soe"].to_numpy()
    assert found.thresholds["validation"] == best_f1(score, (silver == "soe").to_numpy())
    for rule, threshold in found.thresholds.items():
        assert (found.labels[rule] == np.where(test["prob:soe"] >= threshold, "soe", "other")).all()
    assert list(found.labels.index) == list(test.index)
    # Positives are rarer among the test items than in validation: more must speak for one.
    assert found.thresholds["shift_corrected"] > decided(*world(task, [0.2, 0.8]), task).thresholds["shift_corrected"]


def test_positive_may_be_the_first_class() -> None:
    task = Task(name="turned", classes=["soe", "other"], positive="soe")
    plain = decided(*world(made.SOE, [0.8, 0.2]), made.SOE)
    test, validation, silver = world(made.SOE, [0.8, 0.2])
    turned = decided(test[prob_columns(task.classes)], validation[prob_columns(task.classes)], silver, task)
    assert turned.thresholds == pytest.approx(plain.thresholds, abs=1e-3)


def test_the_silver_label_of_a_test_item_has_no_say(task: Task) -> None:
    test, validation, silver = world(task, [0.8, 0.2])
    more = pd.concat([silver, pd.Series("soe", index=test.index, dtype=object)])
    one, other = (decided(test, validation, labels, task) for labels in (silver, more))
    pd.testing.assert_frame_equal(one.labels, other.labels)
    assert one.thresholds == other.thresholds


def test_validation_items_without_a_label_are_left_out(task: Task) -> None:
    test, validation, silver = world(task, [0.8, 0.2])
    one = decided(test, validation, silver.iloc[::2], task)
    other = decided(test, validation.iloc[::2], silver, task)
    assert one.thresholds == other.thresholds


def test_without_validation_there_is_one_half_alone(task: Task) -> None:
    test, validation, silver = world(task, [0.8, 0.2])
    found = decided(test, validation.iloc[:0], silver, task)
    assert found.thresholds == {"half": 0.5}
    assert list(found.labels.columns) == ["half"]
    assert found.shares == {}


def test_one_class_in_validation_is_as_good_as_none(task: Task) -> None:
    test, validation, silver = world(task, [0.8, 0.2])
    only = silver[silver == "soe"]
    found = decided(test, validation.loc[only.index], only, task)
    assert found.thresholds == {"half": 0.5}
    assert found.shares == {}


def test_several_classes_have_no_threshold_but_a_correction(colours: Task) -> None:
    shares = [0.7, 0.1, 0.2]
    test, validation, silver = world(colours, shares, n=1500)
    found = decided(test, validation, silver, colours)
    assert found.thresholds == {}
    assert list(found.labels.columns) == ["half", "shift_corrected"]
    names = np.asarray(colours.classes, dtype=object)
    assert (found.labels["half"] == names[test.to_numpy().argmax(axis=1)]).all()
    assert list(found.shares.values()) == pytest.approx(shares, abs=0.05)
    assert (found.labels["half"] != found.labels["shift_corrected"]).any()
    told = found.labels["shift_corrected"].value_counts(normalize=True)
    assert told["red"] > (found.labels["half"] == "red").mean()


def test_several_classes_without_validation(colours: Task) -> None:
    test, validation, silver = world(colours, [0.7, 0.1, 0.2], n=50)
    found = decided(test, validation.iloc[:0], silver, colours)
    assert list(found.labels.columns) == ["half"]


def test_no_test_items_are_no_labels(task: Task) -> None:
    test, validation, silver = world(task, [0.8, 0.2])
    found = decided(test.iloc[:0], validation, silver, task)
    assert found.labels.empty
