"""What is claimed holds: intervals and tests over groups and seeds, against theory, other libraries and simulation."""

from itertools import product
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from benchmarks.significance import Setting, measure
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test, t, ttest_1samp
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from silvertune.stats import bootstrap, significance
from silvertune.stats.significance import Estimate

quick = settings(deadline=None, max_examples=60)


def over_means(values: np.ndarray, replicates: int = 20_000) -> Estimate:
    """The estimate of a mean of values (S, G), one a seed and group."""
    weights = bootstrap.resamples(values.shape[1], replicates).astype(float)
    return significance.estimate(values.mean(axis=1), list(values @ weights.T / values.shape[1]), values.shape[1])


# ------------------------------------------------------------------------------------------------------- estimate


def test_with_one_seed_a_mean_over_groups_is_tested_as_by_students_t() -> None:
    values = np.random.default_rng(0).normal(0.1, 0.3, size=(1, 20))
    found, expected = over_means(values), ttest_1samp(values[0], 0)
    assert found.p_value() == pytest.approx(expected.pvalue, rel=0.05)
    assert found.interval() == pytest.approx(expected.confidence_interval(), abs=0.003)


def test_groups_and_seeds_are_the_two_way_analysis_of_variance() -> None:
    """Balanced, no variance at its floor: Var = (MS_group + MS_seed - MS_rest) / (S G) (Satterthwaite 1946)."""
    rng = np.random.default_rng(3)
    s, g = 5, 30
    values = 0.2 * rng.normal(size=(1, g)) + 0.3 * rng.normal(size=(s, 1)) + 0.1 * rng.normal(size=(s, g))
    by_group, by_seed, all_of_it = values.mean(axis=0), values.mean(axis=1), values.mean()
    of_groups = s * ((by_group - all_of_it) ** 2).sum() / (g - 1)
    of_seeds = g * ((by_seed - all_of_it) ** 2).sum() / (s - 1)
    rest = ((values - by_group - by_seed[:, None] + all_of_it) ** 2).sum() / ((s - 1) * (g - 1))
    assert over_means(values).variance == pytest.approx((of_groups + of_seeds - rest) / (s * g), rel=0.03)


def test_seeds_that_are_alike_count_once() -> None:
    values = np.random.default_rng(1).normal(size=(1, 12))
    one, five = over_means(values), over_means(np.repeat(values, 5, axis=0))
    assert five.variance == pytest.approx(one.variance)
    assert five.df == pytest.approx(one.df) == 11


def test_few_seeds_that_differ_have_few_degrees_of_freedom() -> None:
    values = 0.1 * np.random.default_rng(1).normal(size=(3, 1)) + 0.001 * np.random.default_rng(2).normal(size=(3, 40))
    found = over_means(values)
    assert found.df == pytest.approx(2, abs=0.1)
    low, high = found.interval()
    assert high - low == pytest.approx(2 * t.ppf(0.975, found.df) * np.sqrt(found.variance))


def test_seeds_with_no_group_in_common_vary_as_much_as_they_do() -> None:
    points, resampled = [0.1, 0.2, 0.4], np.random.default_rng(0).normal(0, 0.05, size=(3, 5000))
    found = significance.estimate(points, list(resampled), 30)
    assert found.variance == pytest.approx(np.var(points, ddof=1) / 3, rel=0.05)


def test_what_is_undefined_for_a_seed_or_a_resample_is_left_out() -> None:
    rows = np.random.default_rng(0).normal(size=(2, 500))
    rows[0, :40] = np.nan
    alone = significance.estimate([0.5], [rows[1]], 9)
    assert significance.estimate([np.nan, 0.5], [rows[0], rows[1]], 9) == alone
    assert significance.estimate([0.5], [rows[0]], 9).variance == pytest.approx(np.nanvar(rows[0], ddof=1) * 9 / 8)
    nothing = significance.estimate([np.nan], [rows[0]], 9)
    assert np.isnan([nothing.value, *nothing.interval(), *nothing.share_interval()]).all()
    assert nothing.p_value() == 1


def test_one_group_claims_nothing() -> None:
    found = significance.estimate([0.5], [np.full(10, 0.5)], 1)
    assert found.value == 0.5
    assert np.isnan(found.interval()).all()
    assert found.p_value() == 1


@quick
@given(st.floats(-0.9, 0.9), st.floats(0.001, 0.5), st.floats(1, 100))
def test_an_interval_at_one_minus_p_just_reaches_zero(value: float, error: float, df: float) -> None:
    found = Estimate(value, error**2, df)
    p = found.p_value()
    if value and 1e-9 < p < 0.999:
        low, high = found.interval(level=1 - p)
        assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-6)


@quick
@given(st.floats(0, 1), st.floats(0, 0.3), st.floats(1, 100))
def test_the_interval_of_a_share_stays_between_0_and_1_and_holds_it(value: float, error: float, df: float) -> None:
    low, high = Estimate(value, error**2, df).share_interval()
    if np.isnan(low):
        assert error < 1e-12
        assert 0 < value < 1
        return
    assert 0 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1


def test_a_difference_that_no_resample_changes_is_as_sure_as_the_number_of_groups() -> None:
    """Eight groups, seven degrees of freedom: all signs alike, two-sided."""
    assert Estimate(0.5, 0.0, 7).p_value() == pytest.approx(2**-7)
    assert Estimate(0.5, 1e-33, 7).p_value() == pytest.approx(2**-7)  # what rounding leaves of it
    assert np.isnan(Estimate(0.5, 1e-33, 7).interval()).all()
    assert Estimate(0.0, 0.0, 7).p_value() == 1
    assert Estimate(0.0, 0.0, 7).interval() == (0, 0)


@pytest.mark.parametrize("groups", [2, 12, 35])
def test_a_perfect_share_is_no_surer_than_that_many_perfect_groups(groups: int) -> None:
    expected = binomtest(groups, groups).proportion_ci(method="exact")
    assert Estimate(1.0, 0.0, groups - 1).share_interval() == pytest.approx((expected.low, 1.0))
    assert Estimate(0.0, 0.0, groups - 1).share_interval() == pytest.approx((0.0, 1 - expected.low))


def test_equal_groups_count_as_many_as_they_are_and_one_big_one_as_one() -> None:
    equal = pd.DataFrame({"items": np.full(12, 5), "positives": np.full(12, 2)})
    one_big = pd.DataFrame({"items": [1000, 1000, 1000, 1000], "positives": [1000, 1, 1, 0]})
    assert significance.groups_behind("test/f1", equal) == pytest.approx(12)
    assert significance.groups_behind("test/f1", one_big) == pytest.approx(1, abs=0.01)
    assert significance.groups_behind("test/accuracy", one_big) == pytest.approx(4)
    assert significance.groups_behind("test_by_group/f1", one_big) == 3
    assert significance.groups_behind("test_by_group/accuracy", one_big) == 4
    assert significance.groups_behind("test/f1", equal.assign(positives=0)) == 0


# -------------------------------------------------------------------------------------------------------- McNemar


@quick
@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_of_single_items_is_statsmodels_exact_test(b: int, c: int) -> None:
    differences = np.array([[1] * b + [-1] * c + [0] * 5])
    expected = statsmodels_mcnemar([[3, b], [c, 3]], exact=True).pvalue if b + c else 1.0
    assert significance.mcnemar(differences) == pytest.approx(expected)


@quick
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_mcnemar_of_groups_counts_every_choice_of_signs(values: list[int]) -> None:
    signed = [abs(sum(sign * v for sign, v in zip(signs, values, strict=True)))
              for signs in product((1, -1), repeat=len(values))]  # fmt: skip
    expected = np.mean(np.array(signed) >= abs(sum(values)))
    assert significance.mcnemar(np.array([values])) == pytest.approx(expected)


def test_mcnemar_of_groups_is_scipys_permutation_test() -> None:
    values = np.random.default_rng(0).integers(-5, 9, size=14)
    expected = permutation_test((values, np.zeros(14)), lambda x, y, axis: np.sum(x - y, axis=axis),
                                permutation_type="samples", n_resamples=np.inf).pvalue  # fmt: skip
    assert significance.mcnemar(values[None]) == pytest.approx(expected)


def test_mcnemar_over_seeds_claims_less_where_they_disagree() -> None:
    rng = np.random.default_rng(0)
    alike = np.repeat(rng.integers(-1, 4, size=(1, 20)), 5, axis=0)
    apart = alike + 3 * np.array([-2, -1, 0, 1, 2])[:, None]
    assert significance.mcnemar(alike) == pytest.approx(significance.mcnemar(alike[:1]))
    assert significance.mcnemar(apart) > 10 * significance.mcnemar(alike)


# ----------------------------------------------------------------------------------------------------------- Holm


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_statsmodels(p: list[float]) -> None:
    with patch("gc.collect"):  # statsmodels calls it each time: half a second where thousands of tests have run
        adjusted = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(significance.holm(p), adjusted)


def test_holm_leaves_out_what_was_not_tested() -> None:
    np.testing.assert_allclose(significance.holm([np.nan, 0.01, 0.04, np.nan]), [np.nan, 0.02, 0.04, np.nan])


# ----------------------------------------------------------------------------------------------------- simulation


def test_without_a_difference_few_studies_claim_one() -> None:
    found = measure(Setting(seeds=3, groups=20), 100, replicates=200)
    # 5% of 100, and what chance allows (p < .001).
    assert found["f1"] <= 0.13
    assert found["mcnemar"] <= 0.13
    assert found["plain_mcnemar"] > 0.15  # items of a group are not independent


def test_a_true_difference_is_found() -> None:
    found = measure(Setting(seeds=3, better=0.6, seed_sd=0.05), 30, replicates=200)
    assert found["f1"] >= 0.8
    assert found["f1"] == pytest.approx(found["stated"], abs=0.2)
