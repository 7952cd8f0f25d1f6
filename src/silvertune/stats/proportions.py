"""Wilson's interval of a proportion, and the intervals of a sum and of a ratio that are made of two proportions."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Proportion:
    """A proportion, or a part of one, with its interval.

    Attributes:
        estimate: 0-1.
        low: The lower end, 0-1.
        high: The upper end, 0-1.
    """

    estimate: float
    low: float
    high: float

    def times(self, share: float) -> "Proportion":
        """The same of a share of all items, which is known.

        Args:
            share: The share, 0-1.

        Returns:
            The part that it has in all items.
        """
        return Proportion(share * self.estimate, share * self.low, share * self.high)


def wilson(p: float, n: float, level: float) -> tuple[float, float]:
    """Compute Wilson's interval of a probability.

    Source: Wilson 1927; with an effective number of answers: Korn & Graubard 1998 (for Clopper & Pearson's interval),
    and Franco, Little, Louis & Slud 2019, who recommend Wilson's.

    Args:
        p: The estimate, 0-1.
        n: How many independent answers it is worth, above 0; inf: it is certain.
        level: Of the interval, above 0 and below 1.

    Returns:
        Its ends, 0-1.
    """
    if np.isinf(n):
        return p, p
    a = _z2(level) / n
    half = np.sqrt(a * p * (1 - p) + a * a / 4)
    return max(0.0, float((p + a / 2 - half) / (1 + a))), min(1.0, 1 - float((1 - p + a / 2 - half) / (1 + a)))


def answers_for(p: float, width: float, level: float) -> float:
    """Compute how many independent answers give Wilson's interval a width.

    Args:
        p: The estimate, 0-1.
        width: The width, 0-1.
        level: Of the interval, above 0 and below 1.

    Returns:
        The number, from 0; inf for no width.
    """
    if width <= 0:
        return np.inf
    if width >= 1:
        return 0.0
    # width^2 (1 + a)^2 = 4 a p (1 - p) + a^2, solved for a = z^2 / n.
    square, middle = width**2, 4 * p * (1 - p) - 2 * width**2
    a = (np.sqrt(middle**2 + 4 * (1 - square) * square) - middle) / (2 * (1 - square))
    return float(_z2(level) / a)


def _z2(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2) ** 2


def total(first: Proportion, second: Proportion) -> Proportion:
    """Add two parts that are estimated from different answers.

    Each end lies as far from the sum as the ends of both parts on that side together, by Pythagoras: where a part is
    rare and its interval lopsided, so is that of the sum. Source: MOVER (Zou & Donner 2008; for differences of
    proportions Newcombe 1998).

    Args:
        first: A part.
        second: The other.

    Returns:
        Their sum, its ends within 0-1.
    """
    estimate = first.estimate + second.estimate
    below = np.hypot(first.estimate - first.low, second.estimate - second.low)
    above = np.hypot(first.high - first.estimate, second.high - second.estimate)
    return Proportion(estimate, max(0.0, float(estimate - below)), min(1.0, float(estimate + above)))


def share_of(part: Proportion, rest: Proportion) -> Proportion:
    """Compute the share that a part has in itself and the rest, which are estimated from different answers.

    An end r is where MOVER's interval of (1 - r) part - r rest ends at 0. Source: MOVER-R (Donner & Zou 2012).

    Args:
        part: The part.
        rest: The rest; not both are 0.

    Returns:
        The share.
    """
    low = _odds(part.estimate, part.estimate - part.low, rest.estimate, rest.high - rest.estimate)
    high = _odds(rest.estimate, rest.estimate - rest.low, part.estimate, part.high - part.estimate)
    return Proportion(part.estimate / (part.estimate + rest.estimate), 1 - 1 / (1 + low), 1 / (1 + high))


def _odds(above: float, above_off: float, below: float, below_off: float) -> float:
    """The t with above - t below = hypot(above_off, t below_off)."""
    product, square = above * below, above**2 - above_off**2
    if square <= 0:
        return 0.0
    divisor = product + float(np.sqrt(max(product**2 - square * (below**2 - below_off**2), 0.0)))
    return square / divisor if divisor > 0 else np.inf
