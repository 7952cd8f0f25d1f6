"""Whether values fall into two groups: a mixture of two Gaussians, and how far apart chance lets its halves be."""

from dataclasses import dataclass
from typing import Any

import numpy as np

TOLERANCE, ITERATIONS, SMALLEST_VARIANCE = 1e-3, 100, 1e-6
"""Of expectation maximisation: as of scikit-learn's GaussianMixture."""
AT_ONCE = 33
"""How many bootstrap samples are fitted at once."""


@dataclass(frozen=True)
class Mixture:
    """Two Gaussians in d dimensions; or one pair for each of some resamples, with a first dimension for these.

    Attributes:
        weights: (2,), sum to 1.
        means: (2, d).
        covariances: (2, d, d).
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def distance(self) -> Any:
        """Ashman's D: the distance of the means in standard deviations, as Mahalanobis distance over the dimensions.

        Source: Ashman, Bird & Zepf 1994; above 2 is a clean separation. The variance is the mean of both.
        """
        difference = self.means[..., 1, :] - self.means[..., 0, :]
        direction = np.linalg.solve(self.covariances.mean(axis=-3), difference[..., None])[..., 0]
        return np.sqrt((difference * direction).sum(axis=-1))

    def log_densities(self, values: np.ndarray) -> np.ndarray:
        """Logarithm of weight x density of each value in each Gaussian.

        Args:
            values: (n, d).

        Returns:
            (..., 2, n).
        """
        # A log density is a polynomial of degree two in the value, so that one matrix product computes all of them.
        precision = np.linalg.inv(self.covariances)
        linear = (precision @ self.means[..., None])[..., 0]
        constant = np.log(self.weights) - 0.5 * (
            (linear * self.means).sum(axis=-1)
            + np.linalg.slogdet(self.covariances)[1]
            + values.shape[1] * np.log(2 * np.pi)
        )
        row, column = np.triu_indices(values.shape[1])
        quadratic = np.where(row == column, -0.5, -1.0) * precision[..., row, column]
        polynomial = np.concatenate([constant[..., None], linear, quadratic], axis=-1)
        log: np.ndarray = polynomial @ _powers(values).T
        return log


def fit(values: np.ndarray) -> Mixture:
    """Fit two Gaussians to values, the best of three starts.

    Args:
        values: (n, d), n from 2.

    Returns:
        The mixture; the same for the same values.
    """
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(2, n_init=3, random_state=0).fit(values)
    return Mixture(fitted.weights_, fitted.means_, fitted.covariances_)


def refit(values: np.ndarray, draws: np.ndarray, start: Mixture) -> Mixture:
    """Fit two Gaussians to each of some samples, all at once, by expectation maximisation.

    Each starts and stops as scikit-learn's GaussianMixture(2, weights_init, means_init, random_state=0) does: with the
    weights and means of `start` and the covariances of the sample's own two k-means clusters; when its mean
    log-likelihood changes by less than `TOLERANCE`, or after `ITERATIONS`.

    Args:
        values: (n, d).
        draws: (samples, m), the rows of `values` that each sample has.
        start: The mixture of `values`.

    Returns:
        A pair of Gaussians for each sample. One that is left without values lies at the middle of all.
    """
    middle, spaces = values.mean(axis=0), values.shape[1]
    centred = values - middle  # sums of squares around the middle lose no digits
    counts = np.stack([np.bincount(draw, minlength=len(values)) for draw in draws]).astype(float)
    weights, means = (np.repeat(array[None], len(draws), axis=0) for array in (start.weights, start.means - middle))
    covariances = np.stack([_of_clusters(values[draw]) for draw in draws])
    powers, at_work, likelihood = _powers(centred), np.arange(len(draws)), np.full(len(draws), -np.inf)
    row, column = np.triu_indices(spaces)
    place = np.empty((spaces, spaces), dtype=int)  # of a product of two dimensions, behind the dimensions themselves
    place[row, column] = place[column, row] = 1 + spaces + np.arange(len(row))
    for _ in range(ITERATIONS):
        count = counts[at_work]
        log = Mixture(weights[at_work], means[at_work], covariances[at_work]).log_densities(centred)
        either = np.logaddexp(log[:, 0], log[:, 1])
        sums = (np.exp(log - either[:, None]) * count[:, None]) @ powers
        size = sums[..., 0] + 10 * np.finfo(float).eps
        mean, squares = sums[..., 1 : 1 + spaces] / size[..., None], sums[..., place] / size[..., None, None]
        weights[at_work], means[at_work] = size / size.sum(axis=1, keepdims=True), mean
        covariances[at_work] = squares - mean[..., :, None] * mean[..., None, :] + SMALLEST_VARIANCE * np.eye(spaces)
        before, likelihood[at_work] = likelihood[at_work], (count * either).sum(axis=1) / count.sum(axis=1)
        at_work = at_work[~(np.abs(likelihood[at_work] - before) < TOLERANCE)]
        if not len(at_work):
            break
    return Mixture(weights, means + middle, covariances)


def are_apart(values: np.ndarray, mixture: Mixture, separation: float, resamples: int) -> bool:
    """Whether the Gaussians are apart, in the values and in each of some bootstrap samples of them.

    Args:
        values: (n, d).
        mixture: Their mixture.
        separation: The distance (`Mixture.distance`) from which two Gaussians are apart.
        resamples: How many samples to draw; the same ones for as many values.

    Returns:
        Whether they are. Samples are drawn some at a time, and no more of them after one that is not apart.
    """
    if mixture.distance() < separation:
        return False
    rng = np.random.default_rng(0)
    for first in range(0, resamples, AT_ONCE):
        draws = rng.integers(len(values), size=(min(AT_ONCE, resamples - first), len(values)))
        if (refit(values, draws, mixture).distance() < separation).any():
            return False
    return True


def _of_clusters(sample: np.ndarray) -> np.ndarray:
    """(2, d, d): the covariances of the sample's two k-means clusters."""
    from sklearn.cluster import KMeans

    label = KMeans(2, n_init=1, random_state=0).fit(sample).labels_
    clusters = [np.cov(sample[label == k].T, bias=True).reshape(sample.shape[1], -1) for k in (0, 1)]
    return np.stack(clusters) + SMALLEST_VARIANCE * np.eye(sample.shape[1])


def _powers(values: np.ndarray) -> np.ndarray:
    """(n, 1 + d + d (d + 1) / 2): one, the values, and their products."""
    row, column = np.triu_indices(values.shape[1])
    return np.column_stack([np.ones(len(values)), values, values[:, row] * values[:, column]])
