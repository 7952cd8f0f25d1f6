"""What may be claimed of a metric that was measured on some groups of items, with some seeds.

Two things are drawn at random: the groups (protocols) and the seeds (splits and training). A claim about an arm
is about others of both, so both variances count, and a resample of groups alone covers only the first. With a
matrix of covariances between seeds, estimated over resamples of the groups, this is the analysis of Obuchowski
& Rockette (1995, "Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests"), with
seeds for readers and groups for cases: see `estimate`.

Percentiles of the resamples are not used as limits. In 500 simulated studies without a difference, with 35
unequal groups and five seeds, they exclude 0 in 9-31%; here F1 is said to differ in 3-6% and McNemar rejects in
1-5%, with 12 to 400 groups and one to five seeds (`benchmarks/significance.py`). Of one seed nothing can be
known about others: where those differ, it claims too much, and more seeds are the only mend.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

NOTHING = 1e-24
"""A variance below this is rounding: of what no resample changes."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, its variance over groups and seeds, and the degrees of freedom of that variance."""

    value: float
    variance: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The interval of a difference: Student's t about the value, within [-1, 1].

        NaN where every resample has the same difference and it is not 0: how much it varies is not known then.
        """
        if self.variance < NOTHING and self.value != 0:
            return float("nan"), float("nan")
        half = self._half(level)
        return max(self.value - half, -1.0), min(self.value + half, 1.0)

    def share_interval(self, level: float = 0.95) -> tuple[float, float]:
        """The interval of a metric between 0 and 1: Student's t on the scale of its log odds.

        There the distribution of a metric near 1 is not as skewed, and the limits stay between 0 and 1. A metric at
        0 or 1 was so in every group; its other limit is the exact one of that many successes in as many trials
        (Clopper & Pearson 1934). NaN where every resample has the same other value.
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
        """Of the difference being 0, two-sided; its interval at 1 - p just reaches 0.

        A difference that every resample has alike has no variance; then p is what the signs of that many groups
        can show at best.
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
    """How many groups of one size are as good as those that a metric of `bootstrap.measure` rests on.

    sizes: of `bootstrap.sizes`. Over all items, (sum)^2 / sum of squares (Kish 1965, 8.2) of the items for accuracy,
    else of the positives: a few big groups decide, and the variance has the degrees of freedom of a few (Carter,
    Schnepel & Steigerwald 2017 say so of cluster-robust standard errors). A mean over groups weighs them alike: it
    rests on all that have such items.
    """
    own = sizes["items" if metric.endswith("/accuracy") else "positives"].to_numpy(dtype=float)
    if metric.startswith("test_by_group/"):
        return float((own > 0).sum())
    return float(own.sum() ** 2 / (own**2).sum()) if own.any() else 0.0


def estimate(
    points: Sequence[float], resampled: Sequence[np.ndarray], groups: int, effective: float | None = None
) -> Estimate:
    """The mean of a metric, or of a paired difference, over seeds, for groups and seeds not seen.

    points: (S,), one a seed; NaN where it is undefined. resampled: for each seed (replicates,), from the same
    resamples of `groups` groups, NaN where undefined. effective: `groups_behind` it, for the metric of
    one arm; a difference does not need it, as the big groups have little of it (measured).

    The variance of the mean is s2 / S + c. s2: the variance between the seeds' values. c: the mean covariance of two
    seeds that comes from being tested on the same groups, which s2 does not see (Obuchowski & Rockette 1995; Hillis
    2014, "A marginal-mean ANOVA approach for analyzing multireader multicase radiological imaging data", section 3).
    With K-fold splits every seed is tested on all groups, with hold-out on some: c says how much that matters. Degrees
    of freedom by Satterthwaite (1946): S - 1 for s2, groups - 1 for c. As s2 rests on a few seeds and may come out
    small by chance, the variance is at least that over groups alone. One seed: it is that, and the estimate says
    nothing about other seeds. Undefined (NaN) with fewer than two groups.
    """
    values = np.asarray(points, dtype=float)
    defined = ~np.isnan(values)
    if not defined.any():
        return Estimate(float("nan"), float("nan"), float("nan"))
    if groups < 2:
        return Estimate(float(values[defined].mean()), float("nan"), float("nan"))
    shared = _covariance(np.stack([row for row, kept in zip(resampled, defined, strict=True) if kept]))
    # The variance of a resample's mean is over n, not over n - 1.
    return _over_seeds(values[defined], shared * groups / (groups - 1), effective or groups)


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
    """McNemar's test of paired answers, for items in groups: is one of the two right more often?

    differences: (S, G), for each seed and group the items that only the first has right less those that only the
    second has.
    Items of a group are not independent, so McNemar's own test rejects too often. What is independent is the sign
    of a whole group: with no difference, it is as likely to fall on either side. The p-value is exact for that
    (all signs of the groups, the seeds' differences summed), needs no item weights as Durkalski et al.
    (2003) do and no large number of groups as Obuchowski (1998) does, and where every item is its own group
    it is McNemar's exact test. Signs say nothing about other seeds: with several, p is at least that of the summed
    difference by its variance over groups and seeds, as in `estimate`.
    """
    seeds, groups = differences.shape
    exact = _sign_test(differences.sum(axis=0))
    if seeds == 1 or groups < 2:
        return exact
    shared = np.atleast_2d(np.cov(differences)) * groups
    return max(exact, _over_seeds(differences.sum(axis=1), shared, groups).p_value())


def holm(p_values: "Sequence[float] | pd.Series[float]") -> np.ndarray:
    """Holm's (1979) step-down adjustment: at .05, one false claim or more in at most 5% of families. NaNs stay out."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p) if not np.isnan(p[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min((len(order) - rank) * p[i], 1.0))
        adjusted[i] = highest
    return adjusted


def _sign_test(differences: np.ndarray) -> float:
    """How often the sum is as far from 0 if the signs of these whole numbers are drawn at random; exact."""
    from scipy.signal import fftconvolve
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs(differences[differences != 0]).astype(int), return_counts=True)
    if not len(sizes):
        return 1.0
    chances = np.ones(1)  # of each possible sum, from the lowest
    for size, count in zip(sizes, counts, strict=True):
        own = np.zeros(2 * size * count + 1)
        own[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = fftconvolve(chances, own) if len(chances) > 1 else own
    sums = np.arange(len(chances)) - len(chances) // 2
    return float(np.clip(chances[np.abs(sums) >= abs(int(differences.sum()))].sum(), 0.0, 1.0))


def _covariance(resampled: np.ndarray) -> np.ndarray:
    """(S, S) covariances of the seeds' resamples (S, replicates), each over the resamples where both are defined."""
    if not np.isnan(resampled).any():
        return np.atleast_2d(np.cov(resampled))
    return np.asarray(np.nan_to_num(pd.DataFrame(resampled.T).cov().to_numpy()))
