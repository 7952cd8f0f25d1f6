"""How good a model is, from people's answers on a stratified sample and from the model's own predictions on all items.

The items are a finite population that is predicted whole. A *stratum* holds items that the model puts into one class,
with about the same confidence; from each a number of items is drawn at random, so every item's probability is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.stats.proportions import Proportion, answers_for, share_of, total, wilson

MOST_PER_CLASS = 6
"""Strata of one predicted class: more gain little (Cochran 1977, section 5A.8)."""
ANSWERS_A_STRATUM = 8
"""A draw has so many answers a stratum at least, on average."""
FEWEST = 2
"""Answers that a first draw has of a stratum, where it has so many items."""
LEAST_PART = 0.5
"""Of the answers that a stratum has in a draw by sizes alone, so many it gets at least."""
NOTHING = 1e-15
"""A variance of predictions below this is that of rounding."""


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
        merged: How many strata have no answer, and are taken to be like the nearest of their predicted class.
        variances: (H,) of being right, within each stratum, as `next_answers` wants them.
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
    """Share further answers among strata: each where it lowers the variance of the estimate most (Neyman 1934).

    Where a stratum has less than half of the answers that its size alone would give it, it comes first: an error in a
    large stratum with few answers weighs much.

    Args:
        sizes: (H,) items of each stratum.
        answers: (H,) answers that there are.
        variances: (H,) variance of the outcome within each.
        n: How many further answers.

    Returns:
        (H,) further answers of each, together `n` or what is left of the items.
    """
    added = np.zeros(len(sizes), dtype=int)
    n = min(n, int((sizes - answers).sum()))
    least = np.minimum(LEAST_PART * (answers.sum() + n) * sizes / max(sizes.sum(), 1), sizes)
    for _ in range(n):
        has = answers + added
        short = least - has
        now = np.maximum(has, 0.5)
        gain = short if short.max() >= 1 else sizes.astype(float) ** 2 * variances / (now * (now + 1))
        added[int(np.argmax(np.where(has < sizes, gain, -np.inf)))] += 1
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

    All four are made of proportions: of the items that the model puts into a class (precision), or into another (what
    it misses), or of all items (accuracy). A proportion is the answers' weighted mean, plus a weight times what the
    model's probabilities say of all items and not of the answered ones: mean(y) + w (mean over all items of f - mean
    over the answers of f). It is unbiased for every w. w is the one with the least variance, within 0-1.

    The variance is that of the weighted residuals about their mean in each predicted class, and not within each
    stratum: a stratum of a few answers that are all alike would claim to know everything. Each residual is computed
    with a w that its own answer did not choose. To the answers belong half a right and half a wrong one of average
    weight, so that no error among the answers is not taken for no error at all. The interval is Wilson's with as many
    independent answers as have that variance. A share is the sum of two proportions, a recall their ratio; their
    intervals are made of the two.

    Source: prediction-powered inference with power tuning (Angelopoulos, Duchi & Zrnic 2023, "PPI++", section 6),
    with a w for each part of the items (Fisch et al. 2024, "Stratified prediction-powered inference"); in surveys, the
    difference estimator (Särndal, Swensson & Wretman 1992, chapter 6). Effective numbers of answers: Korn & Graubard
    1998, Franco, Little, Louis & Slud 2019. The answers of average weight: Tiwari, Clegg & Zou 2006 (they add one, for
    an upper end; half of it is the mid-p of Fay & Kim 2017). Sums and ratios: Zou & Donner 2008, Donner & Zou 2012.

    Args:
        strata: (N,) number of each item's stratum, from 0; a stratum has items of one predicted class.
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
    sample = _Sample(strata, predicted, answered, level)
    names_class = answers == predicted[answered]
    items = np.arange(len(strata))
    everything = np.ones(len(sample.sizes), dtype=bool)
    accuracy, weight = sample.proportion(everything, names_class, probs[items, predicted])
    rows = [("accuracy", "", *sample.row(accuracy, 1.0, weight))]
    for code, name in enumerate(classes):
        called, is_class = sample.predicted == code, answers == code
        share_called = float(sample.shares[called].sum())
        precision, called_weight = sample.proportion(called, is_class, probs[:, code])
        missed, missed_weight = sample.proportion(~called, is_class, probs[:, code])
        hit, miss = precision.times(share_called), missed.times(1 - share_called)
        share = total(hit, miss)
        weight = share_called * called_weight + (1 - share_called) * missed_weight
        has_answer = bool(sample.answers[called].any())
        recall = share_of(hit, miss) if share.estimate > 0 else None
        rows.append(("share", name, *sample.row(share, 1.0, weight)))
        rows.append(("precision", name, *sample.row(precision if has_answer else None, share_called, called_weight)))
        rows.append(("recall", name, *sample.row(recall, share.estimate, weight)))
    columns = ["measure", "class", "estimate", "low", "high", "plain_answers", "weight"]
    table = pd.DataFrame(rows, columns=columns)
    right = np.bincount(strata[answered], weights=names_class, minlength=len(everything))
    of_each = np.bincount(strata[answered], minlength=len(everything))
    confidence = np.bincount(strata, weights=probs[items, predicted]) / sample.sizes
    variances = _expected_variances(confidence, right, of_each)
    shown = pd.DataFrame(
        {
            "items": sample.sizes.astype(int),
            "answers": of_each,
            "predicted": [classes[code] for code in sample.predicted],
            "confidence": confidence,
            "accuracy": right / np.where(of_each > 0, of_each, np.nan),
            "next": next_answers(sample.sizes.astype(int), of_each, variances, further),
        }
    )
    return Audit(table, shown, len(answered), sample.merged, variances)


def _expected_variances(confidence: np.ndarray, right: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """The variance of being right in each stratum, from a line through all strata's accuracy by their confidence.

    A stratum's own answers decide hardly anything of where the next ones are drawn. If they did, strata that were right
    by luck would get no further answers and stay too good, and the accuracy would be overestimated (by 0.008 of 200).
    """
    share = answers / answers.sum()
    accuracy = right / np.maximum(answers, 1)
    off = confidence - share @ confidence
    spread = float(share @ off**2)
    slope = max(float(share @ (off * accuracy)) / spread, 0.0) if spread > NOTHING else 0.0
    bounded = np.clip(share @ accuracy + slope * off, 0.02, 0.98)
    variances: np.ndarray = bounded * (1 - bounded)
    return variances


class _Sample:
    """Answers on a stratified sample, ready for estimates of proportions."""

    def __init__(self, strata: np.ndarray, predicted: np.ndarray, answered: np.ndarray, level: float) -> None:
        self.strata, self.answered, self.level = strata, answered, level
        self.sizes = np.bincount(strata).astype(float)
        self.shares = self.sizes / len(strata)
        self.predicted = np.zeros(len(self.sizes), dtype=int)
        self.predicted[strata] = predicted
        self.answers = np.bincount(strata[answered], minlength=len(self.sizes)).astype(float)
        stands_for = self._neighbours()
        self.merged = int((stands_for != np.arange(len(self.sizes))).sum())
        sizes = np.bincount(stands_for, weights=self.sizes, minlength=len(self.sizes))
        of_answer = strata[answered]
        self.weights = (sizes / np.maximum(self.answers, 1))[of_answer]
        self.unsampled = (1 - self.answers / np.maximum(sizes, 1))[of_answer]

    def _neighbours(self) -> np.ndarray:
        """For each stratum itself; where it has no answer, the nearest of its predicted class that has some."""
        stands_for = np.arange(len(self.sizes))
        for number in np.flatnonzero(self.answers == 0):
            others = np.flatnonzero((self.answers > 0) & (self.predicted == self.predicted[number]))
            if len(others):
                stands_for[number] = others[np.argmin(np.abs(others - number))]
        return stands_for

    def proportion(self, inside: np.ndarray, outcome: np.ndarray, expected: np.ndarray) -> tuple[Proportion, float]:
        """A proportion among the items of some strata, and the weight of the predictions.

        Args:
            inside: (H,) bool, the strata.
            outcome: (n,) bool, of each answer.
            expected: (N,) the model's probability of the outcome.
        """
        has_answer = np.isin(self.predicted, self.predicted[self.answers > 0])
        answered_share = float(self.shares[inside & has_answer].sum())
        unanswered_share = float(self.shares[inside & ~has_answer].sum())
        if answered_share == 0:
            return Proportion(float(expected[inside[self.strata]].mean()) if unanswered_share else 0.0, 0.0, 1.0), 0.0
        is_used = inside[self.strata[self.answered]]
        p, n, weight = _estimated(
            outcome[is_used].astype(float),
            expected[self.answered][is_used],
            float(expected[(inside & has_answer)[self.strata]].mean()),
            self.weights[is_used] / self.weights[is_used].sum(),
            self.unsampled[is_used],
            self.predicted[self.strata[self.answered]][is_used],
        )
        part = Proportion(p, *wilson(p, n, self.level))
        if unanswered_share:  # nobody answered for these classes: anything may be true of them
            guess = float(expected[(inside & ~has_answer)[self.strata]].mean())
            rest = Proportion(guess, 0.0, 1.0).times(unanswered_share / (answered_share + unanswered_share))
            part = total(part.times(answered_share / (answered_share + unanswered_share)), rest)
        return part, weight

    def row(self, part: Proportion | None, share: float, weight: float) -> tuple[float, float, float, float, float]:
        """Estimate, low, high, plain answers and weight; of a proportion among a share of the items."""
        if part is None:
            return np.nan, np.nan, np.nan, np.nan, np.nan
        items = float(self.sizes.sum())
        plain = answers_for(part.estimate, part.high - part.low, self.level) / min(share, 1.0)
        return part.estimate, part.low, part.high, items if np.isinf(plain) else plain / (1 + plain / items), weight


def _estimated(
    y: np.ndarray, f: np.ndarray, f_everywhere: float, weights: np.ndarray, unsampled: np.ndarray, called: np.ndarray
) -> tuple[float, float, float]:
    """The proportion, how many independent answers it is worth, and the weight of the predictions.

    Args:
        y: (n,) outcome of each answer, 0 or 1.
        f: (n,) what the model expects of it.
        f_everywhere: The same, mean over all items.
        weights: (n,) of the answers, together 1.
        unsampled: (n,) the share of items without an answer in each one's stratum.
        called: (n,) code of the predicted class.
    """
    n = len(y)
    # The sizes of the predicted classes are known, so how they differ adds no variance. One mean a class costs one
    # degree of freedom; a class of one answer has the mean of all.
    of_class = np.bincount(called)[called]
    square = weights**2 * unsampled * np.where(of_class > 1, of_class / np.maximum(of_class - 1, 1) * (n - 1) / n, 1)
    mean = weights @ y if y.min() < y.max() else y[0]  # not 0.9999999999999998
    y_off, f_off = y - _mean_of_class(y, weights, called), f - _mean_of_class(f, weights, called)
    of_f, of_both = square * f_off**2, square * f_off * y_off
    weight = float(np.clip(of_both.sum() / of_f.sum(), 0.0, 1.0)) if of_f.sum() > NOTHING else 0.0
    # Each answer's residual has the weight that the others choose: one error does not explain itself.
    others = of_f.sum() - of_f
    weight_of_others = np.clip((of_both.sum() - of_both) / np.where(others > NOTHING, others, np.inf), 0.0, 1.0)
    p = float(np.clip(mean + weight * (f_everywhere - weights @ f), 0.0, 1.0))
    smooth = (p * n + 0.5) / (n + 1)
    further = square.mean() * ((1 - smooth) ** 2 + smooth**2) / 2
    variance = float((square * (y_off - weight_of_others * f_off) ** 2).sum() + further) * n / (n + 1)
    return p, (smooth * (1 - smooth) / variance if variance > 0 else np.inf), weight


def _mean_of_class(values: np.ndarray, weights: np.ndarray, called: np.ndarray) -> np.ndarray:
    """The weighted mean of each answer's predicted class; of all where the class has one answer."""
    sums, totals = np.bincount(called, weights=weights * values), np.bincount(called, weights=weights)
    has_one = np.bincount(called)[called] == 1
    means: np.ndarray = np.where(has_one, weights @ values, sums[called] / totals[called])
    return means
