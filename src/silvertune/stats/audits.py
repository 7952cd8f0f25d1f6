"""How good a model is, from people's answers on a stratified sample and from the model's own predictions on all items.

The items are a finite population that is predicted whole. A *stratum* holds items that the model puts into one class,
with about the same confidence; from each a number of items is drawn at random, so every item's probability is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

MOST_PER_CLASS = 6
"""Strata of one predicted class: more gain little (Cochran 1977, section 5A.8)."""
ANSWERS_A_STRATUM = 8
"""A draw has so many answers a stratum at least, on average."""
FEWEST = 2
"""Answers of a stratum from which a variance can be computed."""
UNSEEN = 0.5
"""Weight, in answers, of what a stratum's answers may have missed."""


@dataclass(frozen=True)
class Audit:
    """Estimates from answers.

    Attributes:
        table: A row a measure (`accuracy`, `share`, `precision`, `recall`) and class ("" for accuracy): `estimate`,
            `low`, `high` (0-1, NaN where there is nothing to estimate it from), `plain_answers` (how many answers on
            items drawn plainly at random would give as narrow an interval) and `weight` (of the predictions, 0-1).
        strata: A row a stratum: `items`, `answers`, `predicted` (class), `confidence` (mean, 0-1), `accuracy` (of the
            answers; NaN without one), `next` (how many of the next answers belong there).
        answers: How many answers there are.
        merged: How many strata had too few answers, and were merged with their neighbours.
        variances: (H,) of being right, less what the predictions tell of it, within each stratum.
    """

    table: pd.DataFrame
    strata: pd.DataFrame
    answers: int
    merged: int
    variances: np.ndarray


def stratify(predicted: np.ndarray, probs: np.ndarray, answers: int) -> np.ndarray:
    """Put items into strata by predicted class and confidence.

    Strata of a class are cut where the cumulated sqrt(c (1 - c)) of the confidences c has equal steps, so that each
    has a like part of the uncertainty (the rule of Dalenius & Hodges 1959 for the deviations within strata).

    Args:
        predicted: (N,) code of the predicted class.
        probs: (N, K) the model's probabilities.
        answers: How many answers are planned.

    Returns:
        (N,) number of the stratum, from 0: by class, from the least confident on.
    """
    classes = np.unique(predicted)
    per_class = int(np.clip(answers // (ANSWERS_A_STRATUM * max(len(classes), 1)), 1, MOST_PER_CLASS))
    strata = np.zeros(len(predicted), dtype=int)
    start = 0
    for code in classes:
        members = np.flatnonzero(predicted == code)
        confidence = probs[members, code]
        order = np.argsort(confidence, kind="stable")
        steps = np.cumsum(_deviation(confidence[order]))
        cuts = np.minimum((steps / steps[-1] * per_class - 1e-12).astype(int), per_class - 1)
        numbers = np.unique(np.maximum(cuts, 0), return_inverse=True)[1]
        strata[members[order]] = start + numbers
        start += int(numbers.max()) + 1
    return strata


def _deviation(confidence: np.ndarray) -> np.ndarray:
    """The standard deviation of being right; a confidence is not believed beyond 0.98."""
    bounded = np.clip(confidence, 0.02, 0.98)
    deviation: np.ndarray = np.sqrt(bounded * (1 - bounded))
    return deviation


def allocate(strata: np.ndarray, confidence: np.ndarray, answers: int) -> np.ndarray:
    """Share the answers of a first draw among strata: half by their sizes, half where they tell most (Neyman 1934).

    Args:
        strata: (N,) number of each item's stratum.
        confidence: (N,) of each item's predicted class, 0-1.
        answers: How many items to draw.

    Returns:
        (H,) items to draw from each; at least two where there are so many, together `answers` or all items.
    """
    sizes = np.bincount(strata)
    spread = np.bincount(strata, weights=_deviation(confidence))
    wanted = answers * (sizes / sizes.sum() + spread / spread.sum()) / 2
    drawn = np.minimum(sizes, FEWEST)
    while (left := min(answers, int(sizes.sum())) - drawn.sum()) > 0:
        short = np.where(drawn < sizes, wanted - drawn, -np.inf)
        drawn[np.argsort(-short, kind="stable")[: max(1, min(left, 1))]] += 1
    return drawn


def draw(strata: np.ndarray, numbers: np.ndarray, seed: int, taken: np.ndarray | None = None) -> np.ndarray:
    """Draw items.

    The items of a stratum stand in an order that the seed alone decides, and the first of them are drawn: a larger draw
    has all items of a smaller one, and both are plain random samples of the stratum.

    Args:
        strata: (N,) number of each item's stratum.
        numbers: (H,) how many to draw from each.
        seed: The seed.
        taken: (H,) how many were drawn before, which are passed over; None: none.

    Returns:
        Positions of the drawn items, ascending.
    """
    keys = np.random.default_rng([seed, 15]).permutation(len(strata))
    order = np.lexsort((keys, strata))
    starts = np.concatenate([[0], np.cumsum(np.bincount(strata, minlength=len(numbers)))])[: len(numbers)]
    before = np.zeros(len(numbers), dtype=int) if taken is None else taken
    parts = [order[start + old : start + old + new] for start, old, new in zip(starts, before, numbers, strict=True)]
    return np.sort(np.concatenate(parts)) if parts else np.array([], dtype=int)


def next_answers(sizes: np.ndarray, answers: np.ndarray, variances: np.ndarray, n: int) -> np.ndarray:
    """Share further answers among strata, each where it lowers the variance of the estimate most (Neyman 1934).

    Args:
        sizes: (H,) items of each stratum.
        answers: (H,) answers that there are.
        variances: (H,) variance of the outcome within each.
        n: How many further answers.

    Returns:
        (H,) further answers of each, together `n` or what is left of the items.
    """
    added = np.zeros(len(sizes), dtype=int)
    for _ in range(min(n, int((sizes - answers).sum()))):
        now = np.maximum(answers + added, 0.5)
        gain = np.where(answers + added < sizes, sizes.astype(float) ** 2 * variances / (now * (now + 1)), -np.inf)
        added[int(np.argmax(gain))] += 1
    return added


def estimate(
    strata: np.ndarray,
    predicted: np.ndarray,
    probs: np.ndarray,
    answered: np.ndarray,
    answers: np.ndarray,
    classes: Sequence[str],
    *,
    level: float = 0.95,
    further: int = 50,
) -> Audit:
    """Estimate accuracy, class shares, precision and recall of the whole population.

    An outcome's mean in a stratum is that of the answers, plus a weight times what the model's expectation of the same
    outcome says of the other items: mean(Y) + w (mean over all items of F - mean over the answered of F). It is
    unbiased for every w; w is the one with the least variance, kept within 0-1. Precision and recall are ratios of two
    such sums, linearised. The interval is Wilson's (1927) with the number of independent answers that would have the
    estimate's variance, and Student's t with Satterthwaite's degrees of freedom. To each stratum's variance belongs
    half a further answer, half as the model expects and half any class: where a stratum's few answers are
    all alike, its variance is not 0.

    Source: prediction-powered inference with power tuning (Angelopoulos, Duchi & Zrnic 2023, "PPI++"), stratified
    (Fisch et al. 2024, "Stratified prediction-powered inference"); in surveys, the difference estimator (Cochran 1977,
    chapter 7). The interval's shape for designs: Franco, Little, Louis & Slud 2019 (they recommend Wilson with an
    effective size).

    Args:
        strata: (N,) number of each item's stratum, from 0.
        predicted: (N,) code of each item's predicted class.
        probs: (N, K) the model's probabilities.
        answered: (n,) positions of the items that people answered, drawn at random within each stratum.
        answers: (n,) codes of the classes that they gave.
        classes: The K classes.
        level: Of the intervals, above 0 and below 1.
        further: For how many further answers `strata.next` is told.

    Returns:
        The estimates.
    """
    n_before = len(np.unique(strata))
    merged = _merged(strata, answered)
    sample = _Sample(merged, probs, answered, answers, level)
    k = len(classes)
    right = np.eye(k)[predicted]  # (N, K): 1 where the model is right if that is the truth
    every = np.ones((len(strata), k))
    rows = [("accuracy", "", *sample.ratio(right, every))]
    for code, name in enumerate(classes):
        truth = np.zeros((len(strata), k))
        truth[:, code] = 1.0
        called = np.repeat((predicted == code)[:, None], k, axis=1).astype(float)
        rows.append(("share", name, *sample.ratio(truth, every)))
        rows.append(("precision", name, *sample.ratio(truth * called, called)))
        rows.append(("recall", name, *sample.ratio(truth * called, truth)))
    columns = ["measure", "class", "estimate", "low", "high", "plain_answers", "weight"]
    table = pd.DataFrame(rows, columns=columns)
    _, residuals, unseen, _ = sample.outcome(right)
    variances = sample.variances(residuals, unseen)
    shown = _strata_table(sample, predicted, right, classes, variances, further)
    return Audit(table, shown, len(answered), n_before - sample.h, variances)


class _Sample:
    """Answers on a stratified sample, ready for estimates of ratios."""

    def __init__(
        self, strata: np.ndarray, probs: np.ndarray, answered: np.ndarray, answers: np.ndarray, level: float
    ) -> None:
        self.strata, self.probs, self.answered, self.answers, self.level = strata, probs, answered, answers, level
        self.h = int(strata.max()) + 1
        self.sizes = np.bincount(strata, minlength=self.h).astype(float)
        self.of_answer = strata[answered]
        self.n = np.bincount(self.of_answer, minlength=self.h).astype(float)
        self.shares = self.sizes / self.sizes.sum()
        self.unsampled = 1 - self.n / self.sizes
        k = probs.shape[1]
        self.expected = np.stack([self._means(probs[:, code]) for code in range(k)], axis=1)
        self.unseen = (self.expected / self.expected.sum(axis=1, keepdims=True) + 1 / k) / 2

    def _means(self, values: np.ndarray) -> np.ndarray:
        """Mean of each stratum, over all items."""
        means: np.ndarray = np.bincount(self.strata, weights=values, minlength=self.h) / self.sizes
        return means

    def _answer_means(self, values: np.ndarray) -> np.ndarray:
        """Mean of each stratum, over the answers."""
        means: np.ndarray = np.bincount(self.of_answer, weights=values, minlength=self.h) / np.maximum(self.n, 1)
        return means

    def outcome(self, if_true: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
        """The mean of an outcome: estimate, residual of each answer, those of unseen classes, weight.

        Args:
            if_true: (N, K) the outcome of each item if each class were the truth.
        """
        y = if_true[self.answered, self.answers]
        expected = (self.probs * if_true).sum(axis=1)
        f, f_all = expected[self.answered], self._means(expected)
        y_mean, f_mean = self._answer_means(y), self._answer_means(f)
        factor = (self.shares**2 * self.unsampled / np.maximum(self.n, 1) / np.maximum(self.n - 1, 1))[self.of_answer]
        f_off = f - f_mean[self.of_answer]
        spread = float((factor * f_off**2).sum())
        covariance = float((factor * f_off * (y - y_mean[self.of_answer])).sum())
        weight = float(np.clip(covariance / spread, 0.0, 1.0)) if spread > 1e-15 else 0.0
        estimate = float((self.shares * (y_mean + weight * (f_all - f_mean))).sum())
        classes = range(self.probs.shape[1])
        unseen = np.stack([self._means(if_true[:, code]) for code in classes], axis=1) - weight * f_all[:, None]
        return estimate, y - weight * f, unseen, weight

    def variances(self, residuals: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        """The variance of residuals within each stratum, with what the answers may have missed."""
        total = self.n + UNSEEN
        sums = np.bincount(self.of_answer, weights=residuals, minlength=self.h)
        mean = (sums + UNSEEN * (self.unseen * unseen).sum(axis=1)) / total
        squares = np.bincount(self.of_answer, weights=(residuals - mean[self.of_answer]) ** 2, minlength=self.h)
        squares += UNSEEN * (self.unseen * (unseen - mean[:, None]) ** 2).sum(axis=1)
        return squares / np.maximum(self.n + UNSEEN - 1, 1)

    def ratio(self, numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, float, float, float, float]:
        """Estimate, low, high, plain answers and weight of the ratio of two outcomes' means."""
        top, top_residuals, top_unseen, weight = self.outcome(numerator)
        bottom, bottom_residuals, bottom_unseen, _ = self.outcome(denominator)
        if bottom <= 0:
            return np.nan, np.nan, np.nan, np.nan, np.nan
        value = float(np.clip(top / bottom, 0.0, 1.0))
        within = self.variances(top_residuals - value * bottom_residuals, top_unseen - value * bottom_unseen)
        parts = self.shares**2 * self.unsampled * within / np.maximum(self.n, 1)
        variance = float(parts.sum()) / bottom**2
        if variance <= 0:
            return value, value, value, float(self.sizes.sum()), weight
        n = max(float((denominator[self.answered, self.answers] > 0).sum()), 1.0)
        smooth = (value * n + 0.5) / (n + 1)
        effective = smooth * (1 - smooth) / variance
        freedom = max(parts.sum() ** 2 / float((parts**2 / np.maximum(self.n, 1)).sum()), 1.0)
        low, high = wilson(value, effective, freedom, self.level)
        plain = effective / min(bottom, 1.0)
        return value, low, high, plain / (1 + plain / self.sizes.sum()), weight


def wilson(p: float, n: float, freedom: float, level: float) -> tuple[float, float]:
    """Compute Wilson's interval of a probability.

    Args:
        p: The estimate, 0-1.
        n: How many independent answers it is worth, above 0.
        freedom: Degrees of freedom of its variance; inf: the variance is known.
        level: Of the interval, above 0 and below 1.

    Returns:
        Its ends, 0-1.
    """
    from scipy.stats import t

    z2 = float(t.ppf((1 + level) / 2, freedom)) ** 2
    middle, half = (p + z2 / (2 * n)) / (1 + z2 / n), np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _merged(strata: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """The strata, numbered from 0, those with fewer than two answers merged with their neighbours."""
    strata = np.unique(strata, return_inverse=True)[1]
    while strata.max() > 0:
        sizes = np.bincount(strata)
        n = np.bincount(strata[answered], minlength=len(sizes))
        if not len(short := np.flatnonzero(n < np.minimum(sizes, FEWEST))):
            break
        number = int(short[0])
        strata = np.where(strata == number, number - 1 if number else 1, strata)
        strata = np.unique(strata, return_inverse=True)[1]
    return strata


def _strata_table(
    sample: _Sample,
    predicted: np.ndarray,
    right: np.ndarray,
    classes: Sequence[str],
    variances: np.ndarray,
    further: int,
) -> pd.DataFrame:
    confidence = sample.probs[np.arange(len(predicted)), predicted]
    was_right = right[sample.answered, sample.answers]
    sums = np.bincount(sample.of_answer, weights=was_right, minlength=sample.h)
    called = [
        "+".join(classes[code] for code in np.unique(predicted[sample.strata == number])) for number in range(sample.h)
    ]
    return pd.DataFrame(
        {
            "items": sample.sizes.astype(int),
            "answers": sample.n.astype(int),
            "predicted": called,
            "confidence": sample._means(confidence),
            "accuracy": sums / np.where(sample.n > 0, sample.n, np.nan),
            "next": next_answers(sample.sizes.astype(int), sample.n.astype(int), variances, further),
        }
    )
