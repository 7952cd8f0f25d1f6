"""From which confidence on a student may answer in a labeler's place, so that a bound on their agreement holds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

GRID = (0.9999, 0.9998, 0.9995, 0.999, 0.998, 0.995, *(percent / 100 for percent in range(99, -1, -1)))
"""Thresholds on a confidence, the highest first. They are numbers and not quantiles of the items at hand: a threshold
that is chosen by the items would not be fixed before the labels of the same items are looked at."""


@dataclass(frozen=True)
class Choice:
    """A threshold on the student's confidence.

    Attributes:
        threshold: The student answers from this confidence on (0-1); None: no threshold keeps the bound.
        curve: A row a threshold, highest first: `threshold`, `answered` (items), `effective` (the same, discounted for
            groups), `share` of all items (0-1) with `share_low` and `share_high`, `agreed` (items), `agreement` (0-1 or
            NaN) with `agreement_low` and `agreement_high`, `bound` (one-sided) and `holds` (bool). The intervals are
            Clopper & Pearson's, each for itself.
        needed: So many items, all in agreement, are the fewest that a threshold can be tested on.
        within_groups: The correlation of agreement within groups that was allowed for, 0-1.
    """

    threshold: float | None
    curve: pd.DataFrame
    needed: int
    within_groups: float

    @property
    def chosen(self) -> "pd.Series[float] | None":
        """The row of the threshold; None without one."""
        if self.threshold is None:
            return None
        return self.curve[self.curve["threshold"] == self.threshold].iloc[0]


def lower_bound(successes: np.ndarray, n: np.ndarray, confidence: float) -> np.ndarray:
    """Compute a lower bound of a probability, one-sided and exact.

    Source: Clopper & Pearson 1934; for numbers that are not whole, by the beta distribution (Korn & Graubard 1998).

    Args:
        successes: Successes, from 0.
        n: Trials, not fewer than the successes.
        confidence: Of the bound, above 0 and below 1.

    Returns:
        The bounds, 0-1; 0 for no trials.
    """
    from scipy.special import betaincinv

    successes, n = np.asarray(successes, dtype=float), np.asarray(n, dtype=float)
    bound = betaincinv(np.maximum(successes, 1e-12), n - successes + 1, 1 - confidence)
    return np.where(successes > 0, bound, 0.0)


def least_agreement(n: float, *, target: float, level: float) -> float:
    """The least share of agreeing items among some with which the bound is kept.

    Args:
        n: The items, counted whole.
        target: The agreement that is wanted, above 0 and below 1.
        level: The confidence of the bound, above 0 and below 1.

    Returns:
        The share, above `target` and to 1; NaN where even agreement in all of them does not keep it.
    """
    n_items = np.floor(n + 1e-9)
    agreeing = np.arange(np.floor(target * n_items), n_items + 1)
    keeps = lower_bound(agreeing, np.full(len(agreeing), n_items), level) >= target
    return float(agreeing[keeps][0] / n_items) if keeps.any() else np.nan


def items_needed(choice: Choice, *, target: float, level: float) -> tuple[int, float] | None:
    """How many items would show the target if the curve stayed as it is: an even chance, and a rough number.

    Args:
        choice: What some items have shown.
        target: The agreement that is wanted, above 0 and below 1.
        level: The confidence of the bound, above 0 and below 1.

    Returns:
        The items and the threshold that needs the fewest; None where no threshold has an agreement above the target.
        Of thresholds with fewer than `choice.needed` answered items too little is known; where there are only such,
        the one that answers most is taken.
    """
    columns = ["threshold", "agreement", "effective", "answered", "share"]
    rows = choice.curve.loc[choice.curve["answered"] > 0, columns].to_numpy(dtype=float)
    is_known = rows[:, 2] >= choice.needed
    rows = rows[is_known] if is_known.any() else rows[-1:]
    # Among many items a threshold is tested from this number on, so fewer would not be looked at.
    from_here = choice.needed if len(rows) == 1 else _comfortable(target, level)
    many = 2.0 ** np.arange(2, 30, 1 / 16)
    many = many[many >= from_here]
    fewest: tuple[int, float] | None = None
    for threshold, agreement, effective, answered, share in rows[rows[:, 1] > target]:
        keeps = lower_bound(agreement * many, many, level) >= target
        if keeps.any():
            items = int(np.ceil(many[keeps][0] / effective * answered / share))
            if fewest is None or items < fewest[0]:
                fewest = items, float(threshold)
    return fewest


def choose(
    confidence: np.ndarray,
    agrees: np.ndarray,
    *,
    target: float,
    level: float,
    group: np.ndarray | None = None,
    thresholds: Sequence[float] = GRID,
) -> Choice:
    """Choose the lowest threshold whose agreement is at least `target`, at confidence `level`.

    Each threshold t stands for the hypothesis that a student who answers from t on agrees in less than `target`. They
    are tested by Clopper & Pearson's bound, the highest first, until one can't be refuted. So the probability that
    the chosen threshold breaks the bound is at most 1 - `level`, for the choice as a whole and not for each threshold.

    The first one tested is the highest from which so many items are answered that a bound could be kept with half the
    disagreements that the target allows, or a quarter of all items if that is fewer: above it a single disagreement
    among a few items would end the search.

    It is exact for items drawn independently from those that the student will meet, which it was not tuned on, if
    agreement does not rise where confidence falls. That the number of items above a threshold is looked at first costs
    nothing under the same condition: given that few are above it, those above the next are less sure ones. Without the
    condition it holds nearly so.

    With groups, items are discounted by the design effect 1 + (b - 1) rho: b is the mean size of an item's group (sum
    of n_g^2 / n) among the answered, rho the correlation of agreement within groups (analysis of variance, over all
    items) or its jackknife's upper end, one standard error up. That the correlation is estimated from few groups counts
    as Korn & Graubard have it: by the square of the ratio of Student's t for groups and for items. A group counts as
    one item at least. This is an approximation.

    Source: fixed-sequence testing (Maurer, Hothorn & Lehmacher 1995) as learn-then-test uses it (Angelopoulos, Bates,
    Candès, Jordan & Lei 2021, "Learn then Test", section 2); the selective classifier with guaranteed risk is Geifman &
    El-Yaniv's (2017). Design effect: Kish 1965; effective sizes in exact intervals: Korn & Graubard 1998.

    Args:
        confidence: (n,) the student's confidence in each item, 0-1; NaN where it can't answer.
        agrees: (n,) bool, whether its label is the labeler's.
        target: The agreement that is wanted, above 0 and below 1.
        level: The confidence of the bound, above 0 and below 1.
        group: (n,) the group of each item; None: items are independent.
        thresholds: The thresholds, the highest first, fixed beforehand.

    Returns:
        The choice.
    """
    from scipy.special import betaincinv

    confidence, agrees = np.asarray(confidence, dtype=float), np.asarray(agrees, dtype=bool)
    total, grid = len(confidence), np.asarray(thresholds, dtype=float)
    order = np.argsort(-np.where(np.isnan(confidence), -np.inf, confidence), kind="stable")
    ranked = confidence[order]
    n = np.searchsorted(-ranked[~np.isnan(ranked)], -grid, side="right")
    agreed = np.concatenate([[0], np.cumsum(agrees[order])])[n]
    rho = 0.0
    effect = np.ones(len(grid))
    if group is not None:
        codes = pd.factorize(np.asarray(group, dtype=object))[0]
        can_answer = ~np.isnan(confidence)
        rho = _within_groups(agrees[can_answer], codes[can_answer])
        sizes = _group_sizes(codes[order], n)
        effect = np.minimum((1 + (sizes - 1) * rho) * _few_groups(len(np.unique(codes)), len(codes), level), sizes)
    effective = n / effect
    bound = lower_bound(agreed / effect, effective, level)
    needed = int(np.ceil(np.log(1 - level) / np.log(target) - 1e-9))
    start = max(needed, min(_comfortable(target, level), float(effective.max(initial=0.0)) / 4))
    holds = np.zeros(len(grid), dtype=bool)
    for row in np.flatnonzero(effective >= start):
        if bound[row] < target:
            break
        holds[row] = True
    tail = (1 - level) / 2

    def ends(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        high = betaincinv(successes + 1, np.maximum(trials - successes, 1e-12), 1 - tail)
        return lower_bound(successes, trials, 1 - tail), np.where(successes >= trials, 1.0, high)

    share_effect = effect if group is None else np.full(len(grid), effect[-1] if len(effect) else 1.0)
    share_low, share_high = ends(n / share_effect, total / share_effect)
    low, high = ends(agreed / effect, effective)
    curve = pd.DataFrame(
        {
            "threshold": grid,
            "answered": n,
            "effective": effective,
            "share": n / max(total, 1),
            "share_low": share_low,
            "share_high": share_high,
            "agreed": agreed,
            "agreement": agreed / np.where(n > 0, n, np.nan),
            "agreement_low": low,
            "agreement_high": high,
            "bound": bound,
            "holds": holds,
        }
    )
    return Choice(float(grid[holds].min()) if holds.any() else None, curve, needed, rho)


def _comfortable(target: float, level: float) -> float:
    """So many items that the bound is kept where half as many disagree as may."""
    n = 2.0 ** np.arange(0, 20, 0.25)
    passes = lower_bound(n * (1 + target) / 2, n, level) >= target
    return float(n[passes].min(initial=np.inf))


def _group_sizes(codes: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The mean size of an item's group among the first n[i] items, for every i; 1 for no items."""
    seen: dict[int, int] = {}
    squares = np.zeros(len(codes) + 1)
    for position, code in enumerate(codes):
        before = seen.get(int(code), 0)
        seen[int(code)] = before + 1
        squares[position + 1] = squares[position] + 2 * before + 1
    return np.where(n > 0, squares[n] / np.maximum(n, 1), 1.0)


def _few_groups(groups: int, items: int, level: float) -> float:
    """By how much further items are discounted because there are few groups, from 1 on (Korn & Graubard 1998)."""
    from scipy.special import stdtrit

    if groups < 2:
        return 1.0
    return float((stdtrit(groups - 1, level) / stdtrit(max(items - 1, 1), level)) ** 2)


def _within_groups(agrees: np.ndarray, codes: np.ndarray) -> float:
    """The correlation of agreement within groups, one standard error up, 0-1."""
    groups = np.unique(codes)
    if len(groups) < 2 or len(groups) == len(codes):
        return 1.0 if len(groups) < 2 else 0.0
    sizes = np.bincount(codes)[groups].astype(float)
    sums = np.bincount(codes, weights=agrees)[groups]
    if sums.sum() in (0, len(codes)):
        return 1.0  # nothing is known of how errors gather: a group counts as one item
    everyone = _correlation(sizes, sums)
    without = np.array([_correlation(np.delete(sizes, k), np.delete(sums, k)) for k in range(len(groups))])
    error = np.sqrt((len(groups) - 1) / len(groups) * ((without - without.mean()) ** 2).sum())
    return float(np.clip(everyone + error, 0.0, 1.0))


def _correlation(sizes: np.ndarray, sums: np.ndarray) -> float:
    """The estimate of the intraclass correlation by a one-way analysis of variance (Fisher 1925)."""
    n, k = sizes.sum(), len(sizes)
    if k < 2 or n <= k:
        return 0.0
    mean, means = sums.sum() / n, sums / sizes
    between = (sizes * (means - mean) ** 2).sum() / (k - 1)
    within = (sums - sums**2 / sizes).sum() / (n - k)
    size = (n - (sizes**2).sum() / n) / (k - 1)
    denominator = between + (size - 1) * within
    return float((between - within) / denominator) if denominator > 0 else 0.0
