"""Risk and coverage, reliability: against the definitions, written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silvertune.stats import calibration

SCORED = st.lists(st.tuples(st.integers(0, 10).map(lambda k: k / 10), st.booleans()), min_size=1, max_size=40)


def arrays(scored: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    score, flag = zip(*scored, strict=True)
    return np.array(score), np.array(flag)


@given(SCORED)
def test_the_curve_and_its_area_are_the_definition(scored: list[tuple[float, bool]]) -> None:
    score, wrong = arrays(scored)
    curve = calibration.risk_coverage(score, wrong)
    assert list(curve["threshold"]) == sorted(set(score), reverse=True)
    for row in curve.to_dict("records"):
        kept = score >= row["threshold"]
        assert row["coverage"] == pytest.approx(kept.mean())
        assert row["risk"] == pytest.approx(wrong[kept].mean())
    area = np.mean([wrong[score >= t].mean() for t in score])
    assert calibration.aurc(curve) == pytest.approx(area)


@given(SCORED, st.randoms(use_true_random=False))
def test_the_order_of_the_items_does_not_matter(scored: list[tuple[float, bool]], random: object) -> None:
    shuffled = list(scored)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (calibration.aurc(calibration.risk_coverage(*arrays(each))) for each in (scored, shuffled))
    assert one == pytest.approx(other)


@pytest.mark.parametrize(("n", "errors"), [(10, 0), (10, 3), (10, 10), (1, 1)])
def test_the_best_area_is_that_of_the_best_order(n: int, errors: int) -> None:
    wrong = np.arange(n) >= n - errors
    found = calibration.aurc(calibration.risk_coverage(-np.arange(n, dtype=float), wrong))
    assert calibration.best_aurc(n, errors) == pytest.approx(found)


def test_one_score_for_all_is_as_good_as_random() -> None:
    curve = calibration.risk_coverage(np.full(8, 0.9), np.arange(8) < 2)
    assert calibration.aurc(curve) == 0.25


def test_the_area_by_hand() -> None:
    # Scores in falling order, errors at ranks 2 and 4: (0 + 1/2 + 1/3 + 2/4) / 4.
    curve = calibration.risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([False, True, False, True]))
    assert calibration.aurc(curve) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)


@given(SCORED)
def test_the_bins_give_the_expected_calibration_error(scored: list[tuple[float, bool]]) -> None:
    confidence, right = arrays(scored)
    bins = calibration.reliability(confidence, right)
    assert bins["n"].sum() == len(scored)
    # To rounding: a mean of equal numbers may be a hair beside them, and so beside the edge.
    assert (bins["confidence"] >= bins["low"] - 1e-12).all()
    assert (bins["confidence"] <= bins["high"] + 1e-12).all()
    error = np.average((bins["confidence"] - bins["accuracy"]).abs(), weights=bins["n"])
    assert error == pytest.approx(calibration.expected_calibration_error(confidence, right))


def test_brier_of_the_label_given() -> None:
    assert calibration.brier(np.array([0.8, 0.6]), np.array([True, False])) == pytest.approx((0.04 + 0.36) / 2)


def test_nothing_has_no_curve_and_no_area() -> None:
    nothing = np.array([]), np.array([], dtype=bool)
    assert calibration.risk_coverage(*nothing).empty
    assert np.isnan(calibration.aurc(calibration.risk_coverage(*nothing)))
    assert np.isnan(calibration.best_aurc(0, 0))
    assert np.isnan(calibration.brier(*nothing))
    assert calibration.reliability(*nothing).empty
