"""The bound on agreement: exact where there is a formula, and kept over the choice of the threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from silvertune.stats import agreement_bounds
from silvertune.stats.agreement_bounds import choose, items_needed, least_agreement, lower_bound


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.5, 0.999))
def test_the_bound_is_where_so_many_successes_have_the_tails_probability(k: int, failures: int, level: float) -> None:
    n = k + failures
    bound = float(lower_bound(np.array([k]), np.array([n]), level)[0])
    if k == 0:
        assert bound == 0
    else:
        assert binom.sf(k - 1, n, bound) == pytest.approx(1 - level, rel=1e-6)


def test_59_agreements_are_the_fewest_for_95_percent() -> None:
    for n, threshold in ((58, None), (59, 0.0)):
        choice = choose(np.full(n, 0.005), np.ones(n, dtype=bool), target=0.95, level=0.95)
        assert choice.threshold == threshold
        assert choice.needed == 59
    assert choice.chosen is not None
    assert choice.chosen["bound"] == pytest.approx(0.05 ** (1 / 59))


def test_nothing_below_the_first_threshold_that_fails_is_chosen() -> None:
    # 1,000 sure items agree; 1,000 less sure ones do not; 50,000 unsure ones do, and would lift the share again.
    confidence = np.repeat([0.955, 0.855, 0.755], [1000, 1000, 50_000])
    agrees = np.repeat([True, False, True], [1000, 1000, 50_000])
    choice = choose(confidence, agrees, target=0.95, level=0.95)
    assert choice.threshold == 0.86
    curve = choice.curve.set_index("threshold")
    assert curve.at[0.75, "bound"] > 0.95
    assert not curve.at[0.75, "holds"]
    assert curve.at[0.86, "answered"] == curve.at[0.86, "agreed"] == 1000
    assert curve.at[0.85, "agreement"] == 0.5


def test_what_the_student_cannot_answer_is_never_answered_by_it() -> None:
    confidence = np.concatenate([np.full(200, 0.9), np.full(50, np.nan)])
    agrees = np.concatenate([np.ones(200, dtype=bool), np.zeros(50, dtype=bool)])
    choice = choose(confidence, agrees, target=0.95, level=0.95)
    assert choice.threshold == 0
    assert choice.chosen is not None
    assert choice.chosen["share"] == 0.8
    assert choice.chosen["share_low"] < 0.8 < choice.chosen["share_high"]


@given(st.data())
def test_a_curve_counts(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 40))
    confidence = np.array(data.draw(st.lists(st.floats(0, 1), min_size=n, max_size=n)))
    agrees = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    curve = choose(confidence, agrees, target=0.6, level=0.9).curve
    for row in curve.itertuples():
        answered = confidence >= row.threshold
        assert row.answered == answered.sum()
        assert row.agreed == agrees[answered].sum()
        if row.answered:
            assert row.agreement_low <= row.agreement <= row.agreement_high


def test_groups_that_err_together_count_as_fewer_items() -> None:
    rng = np.random.default_rng(0)
    group = np.arange(600) // 10
    agrees = (rng.random(60) < 0.9)[group]
    together = choose(np.full(600, 0.5), agrees, target=0.8, level=0.95, group=group)
    assert together.within_groups == pytest.approx(1)
    assert together.curve["effective"].iloc[-1] == pytest.approx(60)
    alone = choose(np.full(600, 0.5), agrees, target=0.8, level=0.95, group=np.arange(600))
    assert alone.curve["effective"].iloc[-1] == 600
    apart = choose(np.full(600, 0.5), rng.random(600) < 0.9, target=0.8, level=0.95, group=group)
    assert apart.within_groups < 0.15
    assert together.curve["bound"].iloc[-1] < apart.curve["bound"].iloc[-1] <= alone.curve["bound"].iloc[-1] + 0.05


def test_groups_without_an_error_count_as_one_item_each() -> None:
    group = np.arange(590) // 10
    assert choose(np.full(590, 0.5), np.ones(590, bool), target=0.95, level=0.95, group=group).threshold == 0
    assert choose(np.full(580, 0.5), np.ones(580, bool), target=0.95, level=0.95, group=group[:580]).threshold is None


def test_thresholds_are_fixed_and_fall() -> None:
    assert list(agreement_bounds.GRID) == sorted(agreement_bounds.GRID, reverse=True)


@given(st.integers(1, 400), st.floats(0.55, 0.98), st.floats(0.6, 0.99))
def test_the_least_agreement_keeps_the_bound_and_one_item_less_does_not(n: int, target: float, level: float) -> None:
    least = least_agreement(n, target=target, level=level)
    agreeing = n if np.isnan(least) else round(least * n) - 1
    assert lower_bound(np.array([agreeing]), np.array([n]), level)[0] < target + 1e-9
    if not np.isnan(least):
        assert lower_bound(np.array([agreeing + 1]), np.array([n]), level)[0] >= target - 1e-9


def test_a_search_without_a_threshold_tells_how_many_items_would_show_one() -> None:
    agrees = np.arange(100) % 25 != 0  # 0.96
    none = choose(np.full(100, 0.5), agrees, target=0.95, level=0.95)
    assert none.threshold is None
    needed = items_needed(none, target=0.95, level=0.95)
    assert needed is not None
    assert 1000 < needed[0] < 1500
    times = needed[0] // 100 + 1
    enough = choose(np.full(100 * times, 0.5), np.tile(agrees, times), target=0.95, level=0.95)
    assert enough.threshold == 0
    assert items_needed(none, target=0.97, level=0.95) is None


def test_groups_without_an_error_need_as_many_groups_as_items_are_needed() -> None:
    none = choose(np.full(100, 0.5), np.ones(100, bool), target=0.95, level=0.95, group=np.arange(100) // 10)
    needed = items_needed(none, target=0.95, level=0.95)
    assert needed is not None
    assert 580 <= needed[0] <= 620  # 59 groups of ten, roughly
