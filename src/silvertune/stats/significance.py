"""Intervals and tests for metrics that are measured on some groups of items, with some seeds.

Two things are drawn at random: the groups (protocols) and the seeds (splits and training). A claim about an arm is
about other groups and other seeds, so both variances count; a resample of groups alone covers only the first. With a
matrix of covariances between seeds, estimated over resamples of the groups, this is the analysis of Obuchowski &
Rockette (1995, "Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests"), with seeds for
readers and groups for cases: see `estimate`.

The limits are not percentiles of the resamples. In 500 simulated studies without a difference, with 35 unequal groups
and five seeds, percentiles exclude 0 in 9-31%. The methods here claim a difference in F1 in 3-6%, and McNemar's test
rejects in 1-5%, with 12 to 400 groups and one to five seeds (`benchmarks/significance.py`). One seed says nothing about
other seeds: where seeds differ, an interval from one seed is too narrow, and only more seeds help.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

NOTHING = 1e-24
"""A variance below this is a rounding error: no resample changes the value."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its uncertainty.

    Attributes:
        value: The mean over the seeds, of a metric or of a difference of metrics.
        variance: Its variance over groups and seeds; NaN where it is unknown.
        df: The degrees of freedom of that variance.
    """

    value: float
    variance: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Compute the interval of a difference: Student's t around the value.

        Args:
            level: The confidence level, 0-1.

        Returns:
            The lower and upper limit, from -1 to 1; NaN where every resample has the same difference and it is not 0,
            because its variance is unknown then.
        """
        if self.variance < NOTHING and self.value != 0:
            return float("nan"), float("nan")
        half = self._half(level)
        return max(self.value - half, -1.0), min(self.value + half, 1.0)

    def share_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Compute the interval of a metric between 0 and 1: Student's t on the scale of its log odds.

        On that scale a metric near 1 is less skewed, and the limits stay between 0 and 1. A metric of 0 or 1 has that
        value in every group; its other limit is the exact one of as many successes in as many trials (Clopper &
        Pearson 1934).

        Args:
            level: The confidence level, 0-1.

        Returns:
            The lower and upper limit, 0-1; NaN where every resample has the same value and it is not 0 or 1.
        """
        from scipy.special import expit, logit

        if np.isnan(self.variance):
            return float("nan"), float("nan")
        if self.value in (0.0, 1.0):
            reach = 1 - ((1 - level) / 2) ** (1 / (self.df + 1))
            return (0.0, reach) if self.value == 0 else (1 - reach, 1.0)
        if self.variance < NOTHING:
            return float("nan"), float("nan")
        half = self._half(level) / (self.value * (1 - self.value))
        return float(expit(logit(self.value) - half)), float(expit(logit(self.value) + half))

    def p_value(self) -> float:
        """Test whether the difference is 0, two-sided; the interval at level 1 - p just reaches 0.

        Returns:
            The p-value, 0-1. Where every resample has the same difference, the lowest that a sign test of as many
            groups can give.
        """
        from scipy.stats import t

        if np.isnan(self.variance) or self.value == 0:
            return 1.0
        if self.variance < NOTHING:
            return float(2.0 ** -min(self.df, 1000.0))
        return float(2 * t.sf(abs(self.value) / np.sqrt(self.variance), self.df))

    def _half(self, level: float) -> float:
        from scipy.stats import t

        return float(t.isf((1 - level) / 2, self.df) * np.sqrt(self.variance))


def groups_behind(metric: str, sizes: pd.DataFrame) -> float:
    """Compute the effective number of groups behind a metric: as many groups of one size are worth as much.

    Over all items it is (sum)^2 / sum of squares of the groups' items for accuracy, and of their positives for the
    other metrics: a few big groups decide, so the variance has the degrees of freedom of a few groups. A mean over
    groups weighs them alike: its number is that of the groups that have such items.

    Source: Kish 1965 ("Survey sampling"), section 8.2; for cluster-robust standard errors Carter, Schnepel &
    Steigerwald 2017.

    Args:
        metric: The name of a metric of `bootstrap.measure`.
        sizes: The table of `bootstrap.sizes`.

    Returns:
        The effective number of groups, from 0 to the number of groups.
    """
    counts = sizes["items" if metric.endswith("/accuracy") else "positives"].to_numpy(dtype=float)
    if metric.startswith("test_by_group/"):
        return float((counts > 0).sum())
    return float(counts.sum() ** 2 / (counts**2).sum()) if counts.any() else 0.0


def estimate(
    points: Sequence[float], resampled: Sequence[np.ndarray], groups: int, effective: float | None = None
) -> Estimate:
    """Estimate the mean of a metric, or of a paired difference, over seeds, for other groups and other seeds.

    The variance of the mean is s2 / S + c, for S seeds. s2 is the variance between the seeds' values. c is the mean
    covariance of two seeds that comes from testing them on the same groups, which s2 does not include. With K-fold
    splits every seed is tested on all groups, with hold-out on some; c follows from that. The degrees of freedom are
    by Satterthwaite (1946): S - 1 for s2, groups - 1 for c. As s2 rests on a few seeds and may be small by chance, the
    variance is at least that over groups alone. With one seed it is that variance, and the estimate says nothing about
    other seeds.

    Source: Obuchowski & Rockette 1995; Hillis 2014 ("A marginal-mean ANOVA approach for analyzing multireader multicase
    radiological imaging data"), section 3.

    Args:
        points: (S,) the value of each seed; NaN where it is undefined.
        resampled: For each seed (replicates,) values in the same resamples of the groups, NaN where undefined.
        groups: How many groups there are.
        effective: The effective number of groups (`groups_behind`) for the metric of one arm; None for a difference,
            which depends little on the big groups (measured).

    Returns:
        The estimate; its variance is NaN with fewer than two groups.
    """
    values = np.asarray(points, dtype=float)
    is_defined = ~np.isnan(values)
    if not is_defined.any():
        return Estimate(float("nan"), float("nan"), float("nan"))
    if groups < 2:
        return Estimate(float(values[is_defined].mean()), float("nan"), float("nan"))
    shared = _covariance(np.stack([row for row, defined in zip(resampled, is_defined, strict=True) if defined]))
    # The variance of a resample's mean is over n, not over n - 1.
    return _over_seeds(values[is_defined], shared * groups / (groups - 1), effective or groups)


def _over_seeds(points: np.ndarray, shared: np.ndarray, groups: float) -> Estimate:
    """As `estimate`, from the seeds' values (S,) and their covariances over the groups (S, S)."""
    seeds, over_groups, df = len(points), float(shared.mean()), max(groups - 1, 1.0)
    if seeds == 1:
        return Estimate(float(points[0]), over_groups, df)
    between = float(points.var(ddof=1)) / seeds
    common = max(float(shared.sum() - np.trace(shared)) / (seeds * (seeds - 1)), 0.0)
    common = max(common, over_groups - between)
    below = between**2 / (seeds - 1) + common**2 / df
    return Estimate(float(points.mean()), between + common, (between + common) ** 2 / below if below else df)


def mcnemar(differences: np.ndarray) -> float:
    """Test whether one of two arms is right more often: McNemar's test of paired answers, for items in groups.

    Items of a group are not independent, so McNemar's original test rejects too often. The signs of the groups'
    differences are independent: without a difference between the arms, either sign is equally likely. The p-value is
    exact for that (all signs of the groups, the seeds' differences summed). It needs no item weights as Durkalski et
    al. (2003) do and no large number of groups as Obuchowski (1998) does. Where every item is its own group it is
    McNemar's exact test. Signs say nothing about other seeds: with several seeds, p is at least that of the summed
    difference by its variance over groups and seeds, as in `estimate`.

    Args:
        differences: (S, G), for each seed and group the number of items that only the first arm has right, less the
            number that only the second has right.

    Returns:
        The p-value, 0-1.
    """
    seeds, groups = differences.shape
    exact = _sign_test(differences.sum(axis=0))
    if seeds == 1 or groups < 2:
        return exact
    shared = np.atleast_2d(np.cov(differences)) * groups
    return max(exact, _over_seeds(differences.sum(axis=1), shared, groups).p_value())


def holm(p_values: "Sequence[float] | pd.Series[float]") -> np.ndarray:
    """Adjust p-values for their number: at .05, at most 5% of families have a false claim or more.

    Source: Holm 1979 ("A simple sequentially rejective multiple test procedure").

    Args:
        p_values: (n,) 0-1; NaN ones do not count.

    Returns:
        (n,) adjusted p-values, 0-1; NaN where `p_values` is.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p) if not np.isnan(p[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min((len(order) - rank) * p[i], 1.0))
        adjusted[i] = highest
    return adjusted


def _sign_test(differences: np.ndarray) -> float:
    """The probability that the sum is at least as far from 0 if the signs are drawn at random; exact for integers."""
    from scipy.signal import fftconvolve
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs(differences[differences != 0]).astype(int), return_counts=True)
    if not len(sizes):
        return 1.0
    chances = np.ones(1)  # of each possible sum, from the lowest
    for size, count in zip(sizes, counts, strict=True):
        of_size = np.zeros(2 * size * count + 1)
        of_size[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = fftconvolve(chances, of_size) if len(chances) > 1 else of_size
    sums = np.arange(len(chances)) - len(chances) // 2
    return float(np.clip(chances[np.abs(sums) >= abs(int(differences.sum()))].sum(), 0.0, 1.0))


def _covariance(resampled: np.ndarray) -> np.ndarray:
    """(S, S) covariances of the seeds' resamples (S, replicates), each over the resamples where both are defined."""
    if not np.isnan(resampled).any():
        return np.atleast_2d(np.cov(resampled))
    return np.asarray(np.nan_to_num(pd.DataFrame(resampled.T).cov().to_numpy()))
