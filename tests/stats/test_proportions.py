"""Wilson's interval and what is made of two: against published figures and limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silvertune.stats.proportions import Proportion, answers_for, share_of, total, wilson

parts = st.tuples(st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1)).map(
    lambda t: Proportion(t[0], t[0] * t[1], t[0] + (0.5 - t[0]) * t[2])
)


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    for (k, n), ends in {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611)}.items():
        assert wilson(k / n, n, 0.95) == pytest.approx(ends, abs=1e-4)
    assert wilson(1.0, 29, 0.95)[1] == 1
    assert wilson(0.3, np.inf, 0.95) == (0.3, 0.3)


@given(st.floats(0, 1), st.floats(2, 1e5))
def test_as_many_answers_as_an_interval_is_wide_give_it(p: float, n: float) -> None:
    low, high = wilson(p, n, 0.95)
    assert answers_for(p, high - low, 0.95) == pytest.approx(n, rel=1e-3)
    assert answers_for(p, 0.0, 0.95) == np.inf
    assert answers_for(p, 1.0, 0.95) == 0


def test_a_difference_of_proportions_has_newcombes_interval() -> None:
    # Newcombe 1998, "Interval estimation for the difference between independent proportions", table II, method 10:
    # 56/70 - 48/80 = 0.2 (0.0524, 0.3339).
    first, second = Proportion(0.8, *wilson(56 / 70, 70, 0.95)), wilson(48 / 80, 80, 0.95)
    difference = total(first, Proportion(-0.6, -second[1], -second[0]))
    assert (difference.low, difference.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


@given(parts, parts)
def test_sum_and_share_stay_within_their_ends(part: Proportion, rest: Proportion) -> None:
    both = total(part, rest)
    assert 0 <= both.low <= both.estimate + 1e-12
    assert both.estimate <= both.high + 1e-12 <= 1 + 1e-9
    if part.estimate + rest.estimate > 1e-6:
        share = share_of(part, rest)
        assert -1e-9 <= share.low <= share.estimate + 1e-9
        assert share.estimate <= share.high + 1e-9 <= 1 + 1e-8


def test_a_share_is_certain_where_the_rest_is() -> None:
    known = share_of(Proportion(0.2, 0.2, 0.2), Proportion(0.3, 0.3, 0.3))
    assert (known.estimate, known.low, known.high) == pytest.approx((0.4, 0.4, 0.4))
    none = share_of(Proportion(0.0, 0.0, 0.0), Proportion(0.3, 0.1, 0.4))
    assert (none.estimate, none.low, none.high) == (0, 0, 0)
    unknown = share_of(Proportion(0.2, 0.1, 0.3), Proportion(0.0, 0.0, 0.2))
    assert unknown.estimate == unknown.high == 1
    assert 0.3 < unknown.low < 0.6
